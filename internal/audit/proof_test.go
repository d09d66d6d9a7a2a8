package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// leavesOf are a log's leaves by way of its export.
func leavesOf(t *testing.T, l *Log) [][]byte {
	t.Helper()
	var all [][]byte
	for line := range bytes.Lines(export(t, l)) {
		if _, leaf, err := parseLine(line, uint64(len(all))); err == nil {
			all = append(all, leaf)
		}
	}
	return all
}

// storedHashes is the file of hashes as golang.org/x/mod has it.
func storedHashes(t *testing.T, leaves [][]byte) []byte {
	t.Helper()
	var all []tlog.Hash
	for i, leaf := range leaves {
		more, err := tlog.StoredHashes(int64(i), leaf, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			var found []tlog.Hash
			for _, at := range indexes {
				found = append(found, all[at])
			}
			return found, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, more...)
	}
	var b []byte
	for _, h := range all {
		b = append(b, h[:]...)
	}
	return b
}

func mustCheckpoint(t testing.TB, l *Log) (string, Checkpoint) {
	t.Helper()
	msg, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenCheckpoint(msg, l.o.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	return msg, c
}

// TestProofs holds P8: each record of each size of the log can be proved, and each size begins with each smaller one.
func TestProofs(t *testing.T) {
	f := newFixture(t, newKeys(t, "gw1.test/sallyport"))
	l := f.open(t)
	var heads []Checkpoint
	for n := range 18 {
		msg, c := mustCheckpoint(t, l)
		if c.Size != uint64(n) {
			t.Fatalf("checkpoint of %d records, want %d", c.Size, n)
		}
		for seq := range uint64(n) {
			file, err := l.Prove(seq, msg)
			if err != nil {
				t.Fatal(err)
			}
			p, err := VerifyProof(file, f.o.Verifier)
			if err != nil || p.Seq != seq || p.Record.Seq != seq || p.Checkpoint.Size != c.Size {
				t.Fatalf("record %d of %d: %+v, %v", seq, n, p, err)
			}
		}
		if _, err := l.Prove(uint64(n), msg); !errors.Is(err, ErrNoProof) {
			t.Errorf("record %d, which the checkpoint does not sign: %v", n, err)
		}
		for old, h := range heads {
			p, err := l.ProveConsistency(uint64(old), c.Size, c.Root)
			if err != nil {
				t.Fatal(err)
			}
			if old == 0 {
				if len(p) != 0 {
					t.Errorf("the proof from nothing has %d hashes", len(p))
				}
			} else if err := tlog.CheckTree(p, int64(c.Size), c.Root, int64(old), h.Root); err != nil {
				t.Errorf("%d to %d: %v", old, n, err)
			}
		}
		heads = append(heads, c)
		appendRecords(t, l, n, 1)
	}
	msg, c := mustCheckpoint(t, l)
	if _, err := l.ProveConsistency(7, c.Size, heads[3].Root); !errors.Is(err, ErrNoProof) {
		t.Errorf("a proof for another root: %v", err)
	}
	if _, err := l.ProveConsistency(c.Size+1, c.Size, c.Root); !errors.Is(err, ErrNoProof) {
		t.Errorf("a proof from more to less: %v", err)
	}
	other := newFixture(t, newKeys(t, "gw1.test/sallyport"))
	ol := other.open(t)
	appendRecords(t, ol, 0, 18)
	foreign, _ := mustCheckpoint(t, ol)
	if _, err := l.Prove(3, foreign); err == nil {
		t.Error("a proof against another log's checkpoint")
	}
	closeLog(t, ol)
	if got, want := readFiles(t, filepath.Dir(f.o.Dir))["checkpoint.hashes"], storedHashes(t, leavesOf(t, l)); got != string(want) {
		t.Errorf("the file of hashes has %d bytes, and is not what x/mod makes of %d", len(got), len(want))
	}
	closeLog(t, l)
	if _, err := l.Prove(3, msg); err == nil {
		t.Error("a proof after Close")
	}
}

// TestHashesAreMadeAgain: the file of hashes is worth nothing, so whatever has become of it, the next start has it right.
func TestHashesAreMadeAgain(t *testing.T) {
	f := newFixture(t, newKeys(t, "gw1.test/sallyport"))
	path := f.o.CheckpointFile + ".hashes"
	l := f.open(t)
	appendRecords(t, l, 0, 37)
	want := string(storedHashes(t, leavesOf(t, l)))
	closeLog(t, l)
	flipped := []byte(want)
	flipped[len(flipped)-1] ^= 1
	for what, spoilt := range map[string]string{
		"missing": "", "cut in a hash": want[:1001], "cut between hashes": want[:32*31], "too long": want + want,
		"garbage": strings.Repeat("x", 5000), "a bit": string(flipped), "another's": strings.Repeat("\x00", len(want)),
	} {
		if err := os.WriteFile(path, []byte(spoilt), 0o600); err != nil {
			t.Fatal(err)
		}
		if what == "missing" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		l := f.open(t)
		if got := readFiles(t, filepath.Dir(path))[filepath.Base(path)]; got != want {
			t.Errorf("%s: %d bytes, want %d", what, len(got), len(want))
		}
		closeLog(t, l)
	}
	// A folder in its place: the log serves, says so, and has proofs again once the way is free.
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	l = f.open(t)
	if said := fmt.Sprint(l.Repaired()); !strings.Contains(said, "no proofs") {
		t.Errorf("said %s", said)
	}
	appendRecords(t, l, 37, 1)
	msg, _ := mustCheckpoint(t, l)
	if _, err := l.Prove(3, msg); !errors.Is(err, ErrNoProof) {
		t.Errorf("a proof without hashes: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l.publishing.Lock()
	l.hashes.failed = l.hashes.failed.Add(-hashRetry)
	l.publishing.Unlock()
	msg, _ = mustCheckpoint(t, l)
	if _, err := l.Prove(3, msg); err != nil {
		t.Error(err)
	}
	closeLog(t, l)
}

// TestRottenHashes spoils each hash under a running log: no wrong proof leaves, and the file is made again.
func TestRottenHashes(t *testing.T) {
	f := newFixture(t, newKeys(t, "gw1.test/sallyport"))
	l := f.open(t)
	appendRecords(t, l, 0, 11)
	msg, c := mustCheckpoint(t, l)
	file, err := os.OpenFile(l.hashes.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for i := range hashCount(11) {
		if _, err := file.WriteAt([]byte("rot"), int64(i*32+7)); err != nil {
			t.Fatal(err)
		}
		l.publishing.Lock()
		l.hashes.rebuilt = time.Time{}
		l.publishing.Unlock()
		for seq := range uint64(11) {
			proof, err := l.Prove(seq, msg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := VerifyProof(proof, f.o.Verifier); err != nil {
				t.Errorf("hash %d is rotten, and so is the proof of record %d: %v", i, seq, err)
			}
		}
		if _, err := l.ProveConsistency(6, c.Size, c.Root); err != nil {
			t.Errorf("hash %d is rotten: %v", i, err)
		}
	}
	// What making it again does not mend, does not make it again and again.
	if _, err := l.ProveConsistency(6, c.Size, tlog.Hash{}); !errors.Is(err, ErrNoProof) {
		t.Errorf("another root: %v", err)
	}
	l.publishing.Lock()
	rebuilt := l.hashes.rebuilt
	l.publishing.Unlock()
	if _, err := l.ProveConsistency(6, c.Size, tlog.Hash{}); !errors.Is(err, ErrNoProof) || !l.hashes.rebuilt.Equal(rebuilt) {
		t.Errorf("another root, again: %v, made at %v and %v", err, rebuilt, l.hashes.rebuilt)
	}
	closeLog(t, l)
}

// TestHashesThatDidNotFit holds P7: what waits for the file is bounded, and what did not fit is read back.
func TestHashesThatDidNotFit(t *testing.T) {
	var w waiting
	w.add(make([]byte, maxWaiting-10), 0, 5)
	w.add(make([]byte, 11), 5, 6)
	if got := w.take(6); got.first != 6 || len(got.hashes) != 0 {
		t.Errorf("after too much: %d bytes from %d on", len(got.hashes), got.first)
	}
	f := newFixture(t, newKeys(t, "gw1.test/sallyport"))
	l := f.open(t)
	appendRecords(t, l, 0, 5)
	l.mu.Lock()
	l.waiting.first, l.waiting.hashes = 5, l.waiting.hashes[:0] // as add does it
	l.mu.Unlock()
	appendRecords(t, l, 5, 5)
	msg, _ := mustCheckpoint(t, l)
	if _, err := l.Prove(4, msg); err != nil {
		t.Error(err)
	}
	closeLog(t, l)
}

// witnessedLog is a log of n records whose checkpoint of at records a witness has signed. The witness's signature is a
// plain one: of what kind it is, is its verifier's business.
func witnessedLog(t testing.TB, n, at int) (f *fixture, l *Log, w keys, cosigned string) {
	t.Helper()
	f, w = newFixture(t, newKeys(t, "gw1.test/sallyport")), newKeys(t, "witness.test/w1")
	l = f.open(t)
	appendRecords(t, l, 0, at)
	msg, _ := mustCheckpoint(t, l)
	cosigned = cosignedBy(t, msg, w)
	if err := l.KeepCosigned(cosigned); err != nil {
		t.Fatal(err)
	}
	appendRecords(t, l, at, n-at)
	return f, l, w, cosigned
}

func cosignedBy(t testing.TB, msg string, w keys) string {
	t.Helper()
	text, _, _ := strings.Cut(msg, "\n\n")
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, w.signer)
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(signed), "\n\n")
	return msg + line
}

// TestMangledProof holds P8: no byte of a proof can be changed, cut off or added, erased record or not.
func TestMangledProof(t *testing.T) {
	f, l, w, cosigned := witnessedLog(t, 13, 13)
	file, err := l.Prove(5, cosigned)
	closeLog(t, l)
	if err != nil {
		t.Fatal(err)
	}
	gone := newFixture(t, keys{f.o.Signer, f.o.Verifier})
	rewrite(t, f, gone, func(seq uint64, payload []byte) []byte {
		if seq == 5 {
			payload, _ = Erase(payload)
		}
		return payload
	})
	for _, ext := range []string{"", ".synced"} {
		b, err := os.ReadFile(f.o.CheckpointFile + ext)
		if err == nil {
			err = os.WriteFile(gone.o.CheckpointFile+ext, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	gone.o.Restore, gone.o.Replay = nil, nil
	l = gone.open(t)
	erased, err := l.Prove(5, cosigned)
	closeLog(t, l)
	if err != nil {
		t.Fatal(err)
	}
	for what, file := range map[string][]byte{"whole": file, "erased": erased} {
		p, err := VerifyProof(file, f.o.Verifier, w.verifier)
		if err != nil || len(p.Checkpoint.Cosigned) != 1 || p.Checkpoint.Strangers != 0 || (p.Record == nil) != (what == "erased") {
			t.Fatalf("%s: %+v, %v", what, p, err)
		}
		holds := func(file []byte) bool {
			p, err := VerifyProof(file, f.o.Verifier, w.verifier)
			return err == nil && len(p.Checkpoint.Cosigned) == 1
		}
		mangled := bytes.Clone(file)
		for i := range file {
			for bit := range 8 {
				// The last digits of base64 have bits that say nothing, and must be looked at all the same.
				if bit != i%8 && !bytes.ContainsAny(file[i:min(i+3, len(file))], "=\n") {
					continue
				}
				if mangled[i] ^= 1 << bit; holds(mangled) {
					t.Errorf("%s: bit %d of byte %d changed, and nobody noticed", what, bit, i)
				}
				mangled[i] = file[i]
			}
			if i%3 > 0 {
				continue
			}
			if holds(file[:i]) || holds(append(bytes.Clone(file[:i]), file[i+1:]...)) || holds(append(append(bytes.Clone(file[:i]), '\n'), file[i:]...)) {
				t.Errorf("%s: cut, a byte less or one more at %d, and nobody noticed", what, i)
			}
		}
	}
	if _, err := VerifyProof(file, newKeys(t, "gw1.test/sallyport").verifier); err == nil {
		t.Error("a proof by another key of the same name")
	}
	if p, err := VerifyProof(file, f.o.Verifier, newKeys(t, "witness.test/w1").verifier); err != nil || len(p.Checkpoint.Cosigned) != 0 || p.Checkpoint.Strangers != 1 {
		t.Errorf("another witness's key: %+v, %v", p.Checkpoint, err)
	}
	if _, err := VerifyProof(make([]byte, MaxProof+1), f.o.Verifier); err == nil {
		t.Error("too long a proof")
	}
}

// TestWitnessedExport: the cosigned checkpoint stands in the export at its place, and counts.
func TestWitnessedExport(t *testing.T) {
	for _, c := range []struct{ n, at int }{{6, 0}, {6, 3}, {6, 6}} {
		f, l, w, cosigned := witnessedLog(t, c.n, c.at)
		file := export(t, l)
		closeLog(t, l)
		lines := bytes.SplitAfter(file, []byte("\n"))
		if !bytes.HasPrefix(lines[c.at], []byte(lineCosigned)) {
			t.Errorf("of %d records %d witnessed: line %d is %.40s", c.n, c.at, c.at, lines[c.at])
		}
		with := Witnessed{Witnesses: []note.Verifier{w.verifier}}
		report, err := VerifyExportWith(bytes.NewReader(file), f.o.Verifier, with, nil)
		if err != nil || len(report.Cosigned) != 1 || report.Cosigned[0].Size != uint64(c.at) || len(report.Cosigned[0].Cosigned) != 1 {
			t.Fatalf("%+v, %v", report, err)
		}
		if _, err := VerifyExport(bytes.NewReader(file), f.o.Verifier, nil); err != nil {
			t.Errorf("without witnesses: %v", err)
		}
		other := Witnessed{Witnesses: []note.Verifier{newKeys(t, "witness.test/w2").verifier}}
		if _, err := VerifyExportWith(bytes.NewReader(file), f.o.Verifier, other, nil); !errors.Is(err, ErrUnwitnessed) {
			t.Errorf("a witness that did not sign: %v", err)
		}
		if _, err := VerifyDirWith(f.o.Dir, f.o.CheckpointFile, f.o.Verifier, with, nil); err != nil {
			t.Errorf("folder: %v", err)
		}
		if _, err := VerifyDirWith(f.o.Dir, f.o.CheckpointFile, f.o.Verifier, other, nil); !errors.Is(err, ErrUnwitnessed) {
			t.Errorf("folder, a witness that did not sign: %v", err)
		}
		mangled := bytes.Clone(file)
		at := bytes.Index(file, []byte(lineCosigned))
		for i := at; i < at+len(lines[c.at]); i++ {
			mangled[i] ^= 1
			if _, err := VerifyExportWith(bytes.NewReader(mangled), f.o.Verifier, with, nil); err == nil {
				t.Errorf("byte %d of the cosigned checkpoint changed, and nobody noticed", i-at)
			}
			mangled[i] = file[i]
		}
		twice := bytes.Replace(file, lines[c.at], append(bytes.Clone(lines[c.at]), lines[c.at]...), 1)
		if _, err := VerifyExport(bytes.NewReader(twice), f.o.Verifier, nil); err == nil {
			t.Error("twice, and nobody noticed")
		}
		// At another place, where its root would not be compared with anything.
		without := bytes.Replace(file, lines[c.at], nil, 1)
		rest := bytes.SplitAfter(without, []byte("\n"))
		for at := range c.n + 1 {
			moved := bytes.Join(slices.Insert(slices.Clone(rest), at, lines[c.at]), nil)
			if _, err := VerifyExport(bytes.NewReader(moved), f.o.Verifier, nil); (err == nil) != (at == c.at) {
				t.Errorf("the cosigned checkpoint of %d records behind record %d: %v", c.at, at, err)
			}
		}
		// Kept by somebody else: the same, for any of its files.
		if c.at > 0 {
			kept := Witnessed{Witnesses: with.Witnesses, Kept: []string{cosigned}}
			again := f.open(t)
			appendRecords(t, again, c.n, 1)
			more := export(t, again)
			closeLog(t, again)
			if r, err := VerifyExportWith(bytes.NewReader(more), f.o.Verifier, kept, nil); err != nil || len(r.Cosigned) != 2 {
				t.Errorf("kept: %+v, %v", r, err)
			}
		}
	}
}

// TestCutBack holds P8: the log cut back with all its own files, to a state that was true once, is found by
// a checkpoint that was kept elsewhere; and where the cosigned one was left, by the start and by every verification.
func TestCutBack(t *testing.T) {
	f := newFixture(t, newKeys(t, "gw1.test/sallyport"))
	w := newKeys(t, "witness.test/w1")
	l := f.open(t)
	appendRecords(t, l, 0, 4)
	closeLog(t, l)
	older := readFiles(t, filepath.Dir(f.o.Dir))
	l = f.open(t)
	appendRecords(t, l, 4, 3)
	msg, _ := mustCheckpoint(t, l)
	cosigned := cosignedBy(t, msg, w)
	if err := l.KeepCosigned(cosigned); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)

	writeFiles(t, filepath.Dir(f.o.Dir), older)
	if err := os.WriteFile(f.o.CheckpointFile+".cosigned", []byte(cosigned), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.verify(); err == nil {
		t.Error("the cosigned checkpoint signs more than there is, and audit verify is silent")
	}
	if l, err := Open(f.o); !errors.Is(err, ErrShort) {
		t.Errorf("the log starts: %v", err)
		if err == nil {
			closeLog(t, l)
		}
	}
	if err := os.Remove(f.o.CheckpointFile + ".cosigned"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.verify(); err != nil {
		t.Errorf("the limit: an older state of all files is as good as it was then: %v", err)
	}
	with := Witnessed{Witnesses: []note.Verifier{w.verifier}, Kept: []string{cosigned}}
	bad := (*BadRecord)(nil)
	if _, err := VerifyDirWith(f.o.Dir, f.o.CheckpointFile, f.o.Verifier, with, nil); !errors.As(err, &bad) || bad.Seq != 4 {
		t.Errorf("folder against the kept checkpoint: %v", err)
	}
	l = f.open(t)
	if _, err := VerifyExportWith(bytes.NewReader(export(t, l)), f.o.Verifier, with, nil); !errors.As(err, &bad) || bad.Seq != 4 {
		t.Errorf("export against the kept checkpoint: %v", err)
	}
	// Filled up again, with other records.
	appendRecords(t, l, 4, 6)
	if _, err := VerifyExportWith(bytes.NewReader(export(t, l)), f.o.Verifier, with, nil); !errors.As(err, &bad) {
		t.Errorf("another history against the kept checkpoint: %v", err)
	}
	if _, err := VerifyDirWith(f.o.Dir, f.o.CheckpointFile, f.o.Verifier, with, nil); !errors.As(err, &bad) {
		t.Errorf("folder, another history against the kept checkpoint: %v", err)
	}
	closeLog(t, l)
}

func TestSplitCheckpoints(t *testing.T) {
	f, l, w, _ := witnessedLog(t, 2, 1)
	one, _ := mustCheckpoint(t, l)
	two := cosignedBy(t, one, w)
	closeLog(t, l)
	for _, c := range []struct {
		file string
		want []string
	}{
		{"", nil},
		{one, []string{one}},
		{two + one + two, []string{two, one, two}},
		{"— \n", []string{"— \n"}},
		{"x", []string{"x"}},
	} {
		if got := SplitCheckpoints(c.file); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
			t.Errorf("%q gives %q", c.file, got)
		}
	}
	if _, err := OpenCheckpoint(two, f.o.Verifier, w.verifier); err != nil {
		t.Error(err)
	}
}

// TestCosignedIsStrict: there is one way to write a checkpoint with signatures.
func TestCosignedIsStrict(t *testing.T) {
	f, l, w, msg := witnessedLog(t, 2, 2)
	closeLog(t, l)
	text, sigs, _ := strings.Cut(msg, "\n\n")
	lines := strings.SplitAfter(sigs, "\n")
	own, theirs := lines[0], lines[1]
	if _, err := OpenCheckpoint(text+"\n\n"+theirs+own, f.o.Verifier, w.verifier); err != nil {
		t.Errorf("the order of signatures is free: %v", err)
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	at := strings.LastIndex(theirs, "=") - 1
	stray := digits[strings.IndexByte(digits, theirs[at])|1]
	for what, sigs := range map[string]string{
		"none": "", "the witness's only": theirs, "the witness's twice": own + theirs + theirs, "the log's twice": own + own,
		"stray bits":      own + theirs[:at] + string(stray) + theirs[at+1:],
		"no padding":      own + strings.TrimRight(theirs, "=\n") + "\n",
		"a blank more":    own + "— " + theirs,
		"no line feed":    own + strings.TrimSuffix(theirs, "\n"),
		"a line of text":  own + "more\n" + theirs,
		"a blank line":    own + "\n" + theirs,
		"too many":        own + strings.Repeat("— x AAAAAAAA\n", MaxCosigned/10),
		"a short one":     own + "— x AAAA\n",
		"another's bytes": own + strings.Replace(theirs, theirs[at-20:at-10], "AAAAAAAAAA", 1),
	} {
		for _, v := range [][]note.Verifier{{w.verifier}, nil} {
			if _, err := OpenCheckpoint(text+"\n\n"+sigs, f.o.Verifier, v...); err == nil && !(what == "another's bytes" && v == nil) {
				t.Errorf("%s: taken", what)
			}
		}
	}
	if c, err := OpenCheckpoint(text+"\n\n"+own+"— x AAAAAAAA\n", f.o.Verifier); err != nil || c.Strangers != 1 {
		t.Errorf("a stranger's signature: %+v, %v", c, err)
	}
}

// TestProofOfAnotherNumber: a log that signs a record under another's number is no log of ours, whoever signed it.
func TestProofOfAnotherNumber(t *testing.T) {
	f, l, _, _ := witnessedLog(t, 3, 3)
	second := bytes.SplitAfter(export(t, l), []byte("\n"))[1]
	closeLog(t, l)
	_, leaf, err := parseLine(second, 1)
	if err != nil {
		t.Fatal(err)
	}
	var forged tree
	forged.add([32]byte(leaf))
	msg, err := forged.head().sign(f.o.Signer)
	if err != nil {
		t.Fatal(err)
	}
	file := fmt.Sprintf("%s\nextra %s\nindex 0\n\n%s", proofHeader, base64.StdEncoding.EncodeToString(second), msg)
	if _, err := VerifyProof([]byte(file), f.o.Verifier); err == nil {
		t.Error("record 1 is proved to be record 0")
	}
}

func FuzzVerifyProof(f *testing.F) {
	fix, l, w, cosigned := witnessedLog(f, 5, 5)
	for seq := range uint64(5) {
		file, err := l.Prove(seq, cosigned)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	closeLog(f, l)
	f.Add([]byte(proofHeader + "\nextra \nindex 0\n\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := VerifyProof(file, fix.o.Verifier, w.verifier)
		if err == nil && (p.Record == nil || p.Record.Seq != p.Seq) {
			t.Errorf("%+v", p)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	fix, l, w, cosigned := witnessedLog(f, 5, 5)
	closeLog(f, l)
	f.Add(cosigned)
	f.Add(cosigned + cosigned)
	f.Fuzz(func(t *testing.T, msg string) {
		for _, one := range SplitCheckpoints(msg) {
			if c, err := OpenCheckpoint(one, fix.o.Verifier, w.verifier); err == nil && c.Size != 5 {
				t.Errorf("%+v", c)
			}
		}
		if strings.Join(SplitCheckpoints(msg), "") != msg {
			t.Errorf("%q is not what it was split from", msg)
		}
	})
}
