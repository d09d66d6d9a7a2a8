package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"layeh.com/radius"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// evidence is a stopped gateway's folder and an export of it, with records of every sort, a snapshot, and records
// after the snapshot.
type evidence struct {
	*rig
	export   string
	key      string
	verifier note.Verifier
}

func newEvidence(t *testing.T) *evidence {
	t.Helper()
	r := newRig(t, rigOptions{})
	e := &evidence{rig: r, export: filepath.Join(r.dir, "export.jsonl"), key: filepath.Join(r.dir, "sallyport.pub")}
	p := r.enrol("bob", byCount())
	r.start()
	n := newNAS(t, fromCode, r.daemon.radius)
	code := p.code()
	r.wantCode(n.ask(t, "bob", code, nil), radius.CodeAccessAccept, login.ReasonOK)
	r.wantCode(n.ask(t, "bob", code, nil), radius.CodeAccessReject, login.ReasonCodeReused)
	r.wantCode(n.ask(t, "bob", p.code(), nil), radius.CodeAccessAccept, login.ReasonOK)
	r.wantCode(n.ask(t, "the secret of somebody", "x", nil), radius.CodeAccessReject, login.ReasonUnknownPerson)
	r.stop()
	r.ok("user", "set", "bob", "--kind", "supplier", "--until", "2099-01-01")
	r.ok("audit", "export", e.export)
	if err := os.WriteFile(e.key, []byte(r.ok("audit", "public-key")), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if e.verifier, err = readVerifier(e.key); err != nil {
		t.Fatal(err)
	}
	if report := r.check(); report.Size < 10 || report.Unsigned != 0 {
		t.Fatalf("the evidence has %d records and %d unsigned ones", report.Size, report.Unsigned)
	}
	if r.ok("audit", "verify", e.export, "--key", e.key); t.Failed() {
		t.FailNow()
	}
	return e
}

// thorough is how finely the slow walks go: every byte, or with the race detector, which is of no use to them, some.
func thorough() int {
	if raceEnabled() || testing.Short() {
		return 5
	}
	return 1
}

// mangled calls found with each way to spoil a file, which must report whether the spoiling was noticed. The walk over
// single bytes has every byte in it; step makes the others coarser.
func mangled(t *testing.T, what string, file []byte, step int, found func(spoilt []byte) bool) {
	t.Helper()
	try := func(format string, at int, spoilt []byte) {
		if !bytes.Equal(spoilt, file) && !found(spoilt) {
			t.Errorf("%s: nobody noticed: "+format, what, at)
		}
	}
	spoilt := bytes.Clone(file)
	for i := range file {
		spoilt[i] ^= [...]byte{0x01, 0x20, 0x80}[i%3]
		try("byte %d changed", i, spoilt)
		spoilt[i] = file[i]
	}
	for i := 0; i < len(file); i += step {
		try("cut at byte %d", i, file[:i])
		try("byte %d taken out", i, slices.Delete(bytes.Clone(file), i, i+1))
		try("a byte put in before %d", i, slices.Insert(bytes.Clone(file), i, " \n0"[i%3]))
	}
	dice := rand.New(rand.NewPCG(1, 2))
	for range 300 / step {
		from := dice.IntN(len(file))
		to := from + 1 + dice.IntN(len(file)-from)
		try("bytes from %d on taken out", from, slices.Delete(bytes.Clone(file), from, to))
		again := slices.Insert(bytes.Clone(file), to, file[from:to]...)
		try("bytes from %d on put in twice", from, again)
	}
}

// TestSpoiltExport spoils an export in every way that the design names: each is found (P8), with nothing but the file
// and the public key.
func TestSpoiltExport(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	file := mustRead(t, e.export)
	found := func(spoilt []byte) bool {
		_, err := audit.VerifyExport(bytes.NewReader(spoilt), e.verifier, nil)
		return err != nil
	}
	if found(file) {
		t.Fatal("the export does not verify as it is")
	}
	mangled(t, "export", file, thorough(), found)

	// Each bit of the checkpoint: base64 has bits that say nothing, and must be looked at all the same.
	lines := slices.Collect(strings.Lines(string(file)))
	last := len(file) - len(lines[len(lines)-1])
	spoilt := bytes.Clone(file)
	for i := last; i < len(file); i++ {
		for bit := range 8 {
			spoilt[i] ^= 1 << bit
			if !found(spoilt) {
				t.Errorf("bit %d of byte %d of the checkpoint's line changed, and nobody noticed", bit, i-last)
			}
			spoilt[i] = file[i]
		}
	}

	join := func(lines ...string) []byte { return []byte(strings.Join(lines, "")) }
	for i := range lines {
		if !found(join(slices.Delete(slices.Clone(lines), i, i+1)...)) {
			t.Errorf("line %d taken out, and nobody noticed", i)
		}
		if !found(join(slices.Insert(slices.Clone(lines), i, lines[i])...)) {
			t.Errorf("line %d put in twice, and nobody noticed", i)
		}
		for j := range i {
			swapped := slices.Clone(lines)
			swapped[i], swapped[j] = lines[j], lines[i]
			if !found(join(swapped...)) {
				t.Errorf("lines %d and %d swapped, and nobody noticed", j, i)
			}
			if !found(join(slices.Delete(slices.Clone(lines), j, i+1)...)) {
				t.Errorf("lines %d to %d taken out, and nobody noticed", j, i)
			}
		}
	}
	for _, more := range []string{"\n", " ", "\r\n", "\x00", "{}\n", lines[0], lines[len(lines)-1]} {
		if !found(append(bytes.Clone(file), more...)) {
			t.Errorf("%q appended, and nobody noticed", more)
		}
	}
	if !found(bytes.ReplaceAll(file, []byte("\n"), []byte("\r\n"))) {
		t.Error("line ends of another system, and nobody noticed")
	}
	e.forgedExport(t, lines, found)
	e.commandFinds(t, file)
}

// forgedExport changes records as somebody does who knows the format, and makes the leaves anew: the signed root finds it.
func (e *evidence) forgedExport(t *testing.T, lines []string, found func([]byte) bool) {
	t.Helper()
	for i, line := range lines[:len(lines)-1] {
		var l struct {
			Salt   string
			Record json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		salt, err := hex.DecodeString(l.Salt)
		if err != nil {
			t.Fatal(err)
		}
		record := strings.Replace(string(l.Record), `"system":"`, `"system":"x`, 1)
		leaf := sha256.Sum256(append(salt, record...))
		forged := slices.Clone(lines)
		forged[i] = fmt.Sprintf(`{"leaf":"%x","salt":"%s","record":%s}`+"\n", leaf, l.Salt, record)
		if _, err := audit.Parse([]byte(record)); err != nil || forged[i] == line {
			t.Fatalf("the forged record %d is no record: %v", i, err)
		}
		if !found([]byte(strings.Join(forged, ""))) {
			t.Errorf("record %d forged with its leaf, and nobody noticed", i)
		}
	}
}

// commandFinds spoils the export, and asks the command.
func (e *evidence) commandFinds(t *testing.T, file []byte) {
	t.Helper()
	at := bytes.Index(file, []byte(`"seq":4,`))
	spoilt := bytes.Replace(file, []byte(`"person":"bob"`), []byte(`"person":"rob"`), 1)
	for _, c := range []struct {
		what   string
		spoilt []byte
		say    []string
	}{
		{"a name", spoilt, []string{"record 1:"}},
		{"a byte of record 4", append(append(bytes.Clone(file[:at+20]), '~'), file[at+21:]...), []string{"record 4:"}},
		{"the end", file[:len(file)-1], []string{"cut"}},
	} {
		path := filepath.Join(t.TempDir(), "spoilt.jsonl")
		if err := os.WriteFile(path, c.spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		complaint := e.refusedIn("", "audit", "verify", path, "--key", e.key)
		if !containsAll(complaint, append(c.say, "not verified", "hint:")...) {
			t.Errorf("%s: audit verify says %q, want %q in it", c.what, complaint, c.say)
		}
	}
	_, other, err := audit.NewKey("gw1")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "other.pub")
	if err := os.WriteFile(path, []byte(other+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.refusedIn("", "audit", "verify", e.export, "--key", path)
	if _, _, status := e.command("", "audit", "verify", e.export); status != exitUsage {
		t.Errorf("audit verify of a file without --key exits with %d", status)
	}
}

// TestSpoiltFolder spoils each file that is evidence, in a folder as a stopped gateway leaves it: audit verify finds it
// (P8), and the gateway does not start on what is not the log that was signed.
func TestSpoiltFolder(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	p := layout(e.data)
	var files []string
	for _, pattern := range []string{"*.seg", "*.snap"} {
		found, err := filepath.Glob(filepath.Join(p.journal, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s in the journal: %v", pattern, err)
		}
		files = append(files, found...)
	}
	files = append(files, p.checkpoint, p.checkpoint+".synced")

	var wg sync.WaitGroup
	for _, path := range files {
		name, err := filepath.Rel(e.data, path)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir() // of its own, so that they can be spoilt at the same time
		copyTree(t, e.data, filepath.Join(dir, "data"))
		wg.Go(func() { e.spoil(t, filepath.Join(dir, "data"), name) })
	}
	wg.Wait()

	e.forgedJournal(t, files[0])
	e.commandFindsInFolder(t, files)
}

// spoil walks over one file of a folder.
func (e *evidence) spoil(t *testing.T, data, name string) {
	p, path := layout(data), filepath.Join(data, name)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	verified := func() bool {
		_, err := audit.VerifyDir(p.journal, p.checkpoint, e.verifier, nil)
		return err == nil
	}
	mangled(t, name, file, 2*thorough(), func(spoilt []byte) bool {
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Error(err)
		}
		return !verified()
	})
	for _, more := range []string{"x", "\n", "\x00\x01", string(file)} {
		if err := os.WriteFile(path, append(bytes.Clone(file), more...), 0o600); err != nil {
			t.Error(err)
		}
		if verified() {
			t.Errorf("%s: %.20q appended, and nobody noticed", name, more)
		}
	}
	// The limit: zeros behind the last frame of the last segment are space that a running gateway reserves. They hold
	// nothing, and are no sign of anything.
	if strings.HasSuffix(name, ".seg") {
		if err := os.WriteFile(path, append(bytes.Clone(file), make([]byte, 4096)...), 0o600); err != nil {
			t.Error(err)
		}
		if !verified() {
			t.Errorf("%s: reserved space is taken for damage", name)
		}
		// So are bytes of a write that a kill has cut off, in that space. Verify says that they are there.
		if err := os.WriteFile(path, append(append(bytes.Clone(file), "half a write"...), make([]byte, 4096)...), 0o600); err != nil {
			t.Error(err)
		}
		if report, err := audit.VerifyDir(p.journal, p.checkpoint, e.verifier, nil); err == nil && report.Unfinished == "" {
			t.Errorf("%s: an unfinished write is passed over without a word", name)
		}
	}
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Error(err)
	}
	if !verified() {
		t.Errorf("%s: the folder does not verify after it was put right", name)
	}
	if err := os.Remove(path); err != nil {
		t.Error(err)
	}
	// The limits: a snapshot only saves time, and the synced checkpoint is for the time after a power cut. What they
	// would show, the newest checkpoint shows as well.
	spare := strings.HasSuffix(name, ".snap") || strings.HasSuffix(name, ".synced")
	if verified() != spare {
		t.Errorf("%s removed: verified %v, want %v", name, !spare, spare)
	}
}

// forgedJournal changes records in a segment as somebody does who knows the format (package journal), and makes the
// checksums anew: the signed root finds it.
func (e *evidence) forgedJournal(t *testing.T, segment string) {
	t.Helper()
	const fileHeader, frameHeader = 40, 20
	file := mustRead(t, segment)
	defer func() {
		if err := os.WriteFile(segment, file, 0o600); err != nil {
			t.Error(err)
		}
	}()
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	forged := 0
	for at := fileHeader; at < len(file); forged++ {
		b := bytes.Clone(file)
		frame := b[at : at+frameHeader+int(binary.LittleEndian.Uint32(b[at:]))]
		at += len(frame)
		name := bytes.Index(frame, []byte(`"protocol":"`)) + len(`"protocol":"`)
		frame[name] ^= 1
		sum := crc32.Update(crc32.Checksum(frame[:16], castagnoli), castagnoli, frame[frameHeader:])
		binary.LittleEndian.PutUint32(frame[16:], sum)
		if err := os.WriteFile(segment, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := e.verify()
		if err == nil {
			t.Errorf("record %d forged with its checksum, and nobody noticed", forged)
		} else if strings.Contains(err.Error(), "checksum") {
			t.Fatalf("the forged checksum is wrong: %v", err)
		}
		if at < len(file) { // a start looks at what follows the snapshot, of which this is the last; verify looks at all
			continue
		}
		if d, err := e.launch(); err == nil {
			d.end()
			t.Error("the gateway serves a forged log")
		}
	}
	if forged < 10 {
		t.Errorf("only %d records were forged", forged)
	}
}

// commandFindsInFolder spoils the folder, and asks audit verify and serve.
func (e *evidence) commandFindsInFolder(t *testing.T, files []string) {
	t.Helper()
	complaint := func() string { return e.refusedIn("", "audit", "verify") }
	spoil := func(path string, change func([]byte) []byte) (mend func()) {
		file := mustRead(t, path)
		if err := os.WriteFile(path, change(bytes.Clone(file)), 0o600); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	segment := files[0]
	at := bytes.Index(mustRead(t, segment), []byte(`"seq":5,`))

	mend := spoil(segment, func(b []byte) []byte { b[at] ^= 1; return b })
	if got := complaint(); !strings.Contains(got, "entry 5") && !strings.Contains(got, "record 5") {
		t.Errorf("a byte of record 5 changed: %s", got)
	}
	mend()

	// A log that ends early is not served, since steps that were consumed in what is gone would be good again (P2).
	mend = spoil(segment, func(b []byte) []byte { return b[:at] })
	complaint()
	if d, err := e.launch(); err == nil {
		d.end()
		t.Error("the gateway serves a log that was cut short")
	} else if !strings.Contains(err.Error(), "checkpoint") && !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("a log that was cut short: %v", err)
	}
	mend()
	e.ok("audit", "verify")

	// The newest entries are erased from the journal, and the checkpoints with them: the database knows better.
	if err := os.Remove(layout(e.data).checkpoint); err != nil {
		t.Fatal(err)
	}
	if got := complaint(); !strings.Contains(got, "checkpoint") {
		t.Errorf("no checkpoint: %s", got)
	}
	if d, err := e.launch(); err == nil {
		d.end()
		t.Error("the gateway serves a log without its checkpoint")
	}
}

// TestOlderFolderIsRefused puts back the journal of an hour ago, with its checkpoints: audit verify cannot know, but
// the database does, and the gateway does not start (P2).
func TestOlderFolderIsRefused(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	p, older := layout(e.data), filepath.Join(t.TempDir(), "older")
	kept := []string{"journal", "checkpoint", "checkpoint.synced"}
	copyTree(t, e.data, older)
	e.ok("user", "add", "late", "--group", "network")
	for _, name := range kept {
		if err := os.RemoveAll(filepath.Join(e.data, name)); err != nil {
			t.Fatal(err)
		}
	}
	copyTree(t, filepath.Join(older, "journal"), p.journal)
	for _, name := range kept[1:] {
		if err := os.WriteFile(filepath.Join(e.data, name), mustRead(t, filepath.Join(older, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.check()
	d, err := e.launch()
	if err == nil {
		d.end()
		t.Fatal("the gateway serves an older journal than its database")
	}
	if !containsAll(err.Error(), "records are missing", "hint:") {
		t.Errorf("the refusal is not clear: %v", err)
	}
	if got := e.refusedIn("", "user", "list"); !strings.Contains(got, "records are missing") {
		t.Errorf("user list says %s", got)
	}
}

// TestVerifyWithoutTheGateway verifies an export in a folder that has nothing but the file and the key.
func TestVerifyWithoutTheGateway(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	dir := t.TempDir()
	for _, path := range []string{e.export, e.key} {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), mustRead(t, path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(e.dir); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := runTool(t, "", []string{"SALLYPORT_CONFIG=/nonexistent"}, program(t), "audit", "verify",
		filepath.Join(dir, "export.jsonl"), "--key", filepath.Join(dir, "sallyport.pub"))
	if status != exitDone || !strings.HasPrefix(stdout, "verified: size ") {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}
