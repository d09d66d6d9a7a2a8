package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/journal"
)

// twoLogs are two logs by one key, with the same records, and their exports.
func twoLogs(t *testing.T, k keys, n int) (a, b *fixture, fileA, fileB string) {
	t.Helper()
	make1 := func() (*fixture, string) {
		f := newFixture(t, k)
		l := f.open(t)
		appendRecords(t, l, 0, n)
		file := string(export(t, l))
		closeLog(t, l)
		return f, file
	}
	a, fileA = make1()
	b, fileB = make1()
	return a, b, fileA, fileB
}

// TestMangledExport holds P8: no byte of an export can be changed, removed, doubled or added.
func TestMangledExport(t *testing.T) {
	t.Parallel()
	k := newKeys(t, "gw1.test/sallyport")
	f := newFixture(t, k)
	l := f.open(t)
	appendRecords(t, l, 0, 2)
	rec := loginRecord(2)
	rec.Login = "al\x1b[2J\xffice\"\\"
	if _, err := l.Append(rec, nil); err != nil {
		t.Fatal(err)
	}
	file := export(t, l)
	closeLog(t, l)
	lines := bytes.SplitAfter(file, []byte("\n"))
	lines[1] = erasedLine(t, lines[1], 1)
	file = bytes.Join(lines, nil)
	check := func(file []byte) error {
		_, err := VerifyExport(bytes.NewReader(file), k.verifier, nil)
		return err
	}
	if err := check(file); err != nil {
		t.Fatal(err)
	}
	bad := func(what string, at int, mangled []byte) {
		if bytes.Equal(mangled, file) {
			return
		}
		if err := check(mangled); err == nil {
			t.Errorf("byte %d, %q: %s is not found", at, file[min(at, len(file)-1)], what)
		}
	}
	for i, c := range file {
		mangled := bytes.Clone(file)
		for _, bit := range []byte{0x01, 0x04, 0x20, 0x80} {
			mangled[i] = c ^ bit
			bad("a bit changed", i, mangled)
		}
		bad("removal", i, slices.Delete(bytes.Clone(file), i, i+1))
		for _, more := range []byte{c, ' ', '\n', '\r', '0', ','} {
			bad("an addition", i, slices.Insert(bytes.Clone(file), i, more))
		}
		bad("cutting", i, file[:i])
	}
	for _, more := range []string{"\n", " ", "\x00", "{}", string(file), string(lines[3])} {
		bad("an addition", len(file), append(bytes.Clone(file), more...))
	}
}

// erasedLine makes the line of an erased record from that of the record.
func erasedLine(t *testing.T, line []byte, seq uint64) []byte {
	t.Helper()
	e, leaf, err := parseLine(line, seq)
	if err != nil {
		t.Fatal(err)
	}
	e.erased = true
	return appendLine(nil, seq, &e, leaf)
}

// TestForgedExports holds P8 against somebody who knows the format.
func TestForgedExports(t *testing.T) {
	k, stranger := newKeys(t, "gw1.test/sallyport"), newKeys(t, "gw1.test/sallyport")
	const n = 6
	_, _, fileA, fileB := twoLogs(t, k, n)
	split := func(file string) []string { return strings.SplitAfter(strings.TrimSuffix(file, "\n"), "\n") }
	a, b := split(fileA), split(fileB)
	a[n] += "\n"
	b[n] += "\n"
	pick := func(list []string, which ...int) string {
		var s strings.Builder
		for _, i := range which {
			s.WriteString(list[i])
		}
		return s.String()
	}
	// relabel writes a record's line as another would stand there, leaf included.
	relabel := func(line string, seq int, change func(*Record)) string {
		e, _, err := parseLine([]byte(line), uint64(seq))
		if err != nil {
			t.Fatal(err)
		}
		rec, err := Parse(e.json)
		if err != nil {
			t.Fatal(err)
		}
		change(rec)
		e.json = rec.AppendJSON(nil)
		h := newLeafHasher()
		leaf := h.of(e.salt, e.json)
		return string(appendLine(nil, uint64(seq), &e, leaf[:]))
	}
	checkpoint := func(signer note.Signer, lines ...string) string {
		var tr tree
		for i, line := range lines {
			_, leaf, err := parseLine([]byte(line), uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			tr.add([32]byte(leaf))
		}
		msg, err := tr.head().sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		line, err := checkpointLine(msg)
		if err != nil {
			t.Fatal(err)
		}
		return string(line)
	}
	forged := relabel(a[2], 2, func(r *Record) { r.Person = "mallory" })
	short := checkpoint(k.signer, a[:4]...)
	strange := checkpoint(stranger.signer, a[:n]...)
	reused := slices.Clone(a[:n])
	reused[4] = relabel(a[4], 4, func(r *Record) { r.Effects[0].Value -= 2 })
	backwards := slices.Clone(a[:n])
	backwards[4] = relabel(a[4], 4, func(r *Record) { r.Effects[0].Value-- })
	node := slices.Clone(a[:n])
	node[4] = relabel(a[4], 4, func(r *Record) { r.Node = "gw\x1b" })
	other := string(erasedLine(t, []byte(b[2]), 2))

	for _, c := range []struct {
		name, file   string
		seq, through uint64
	}{
		{"nothing", "", 0, 0},
		{"record changed", strings.Replace(fileA, `"person":"alice"`, `"person":"alicf"`, 1), 0, 0},
		{"record changed in place", strings.Replace(fileA, `58000003`, `58000033`, 1), 3, 3},
		{"salt changed", a[0] + a[1][:len(lineLeaf)+64+len(lineSalt)] + "ff" + a[1][len(lineLeaf)+64+len(lineSalt)+2:] + pick(a, 2, 3, 4, 5, 6), 1, 1},
		{"record forged with its leaf", pick(a, 0, 1) + forged + pick(a, 3, 4, 5, 6), 0, n - 1},
		{"record removed", pick(a, 0, 1, 3, 4, 5, 6), 2, 2},
		{"first record removed", pick(a, 1, 2, 3, 4, 5, 6), 0, 0},
		{"last record removed", pick(a, 0, 1, 2, 3, 4, 6), 5, 5},
		{"all records removed", a[6], 0, 0},
		{"records swapped", pick(a, 0, 1, 3, 2, 4, 5, 6), 2, 2},
		{"records swapped and renumbered", pick(a, 0, 1) + relabel(a[3], 2, func(r *Record) { r.Seq = 2 }) +
			relabel(a[2], 3, func(r *Record) { r.Seq = 3 }) + pick(a, 4, 5, 6), 3, 3},
		{"record doubled", pick(a, 0, 1, 2, 2, 3, 4, 5, 6), 3, 3},
		{"record added", pick(a, 0, 1, 2, 3, 4, 5) + relabel(a[5], 6, func(r *Record) { r.Seq, r.Effects = 6, nil }) + a[6], 6, 6},
		{"record of the other log", pick(a, 0, 1) + b[2] + pick(a, 3, 4, 5, 6), 0, n - 1},
		{"checkpoint of the other log", pick(a, 0, 1, 2, 3, 4, 5) + b[6], 0, n - 1},
		{"checkpoint of fewer", pick(a, 0, 1, 2, 3, 4, 5) + short, 4, 4},
		{"two checkpoints", pick(a, 0, 1, 2, 3) + short + pick(a, 4, 5, 6), 4, 4},
		{"signed by another key", pick(a, 0, 1, 2, 3, 4, 5) + strange, 6, 6},
		{"no checkpoint", pick(a, 0, 1, 2, 3, 4, 5), 6, 6},
		{"two logs", fileA + fileB, 6, 6},
		{"erased with another leaf", pick(a, 0, 1) + other + pick(a, 3, 4, 5, 6), 0, n - 1},
		{"erased under another number", pick(a, 0, 1) + string(erasedLine(t, []byte(a[2]), 3)) + pick(a, 3, 4, 5, 6), 2, 2},
		{"step consumed twice, signed", strings.Join(backwards, "") + checkpoint(k.signer, backwards...), 4, 4},
		{"step before the last, signed", strings.Join(reused, "") + checkpoint(k.signer, reused...), 4, 4},
		{"node to harm terminals, signed", strings.Join(node, "") + checkpoint(k.signer, node...), 4, 4},
		{"blank line", a[0] + "\n" + pick(a, 1, 2, 3, 4, 5, 6), 1, 1},
		{"endless line", a[0] + strings.Repeat("a", 1<<20), 1, 1},
		{"CRLF", strings.ReplaceAll(fileA, "\n", "\r\n"), 0, 0},
		{"byte order mark", "\ufeff" + fileA, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := VerifyExport(strings.NewReader(c.file), k.verifier, nil)
			bad := (*BadRecord)(nil)
			if !errors.As(err, &bad) {
				t.Fatalf("%+v, %v", r, err)
			}
			if bad.Seq != c.seq || bad.Through != c.through {
				t.Errorf("found in %d to %d, want %d to %d: %v", bad.Seq, bad.Through, c.seq, c.through, err)
			}
		})
	}

	// An erased record is none to be read, but no damage; and an older export is as good as it was.
	erased := pick(a, 0, 1) + string(erasedLine(t, []byte(a[2]), 2)) + pick(a, 3, 4, 5, 6)
	if r, err := VerifyExport(strings.NewReader(erased), k.verifier, nil); err != nil || r.Erased != 1 || r.Records != n-1 || r.Size != n {
		t.Errorf("erased: %+v, %v", r, err)
	}
	if r, err := VerifyExport(strings.NewReader(pick(a, 0, 1, 2, 3)+short), k.verifier, nil); err != nil || r.Size != 4 {
		t.Errorf("older: %+v, %v", r, err)
	}
	if r, err := VerifyExport(strings.NewReader(checkpoint(k.signer)), k.verifier, nil); err != nil || r.Size != 0 {
		t.Errorf("empty: %+v, %v", r, err)
	}
	broken := errors.New("broken pipe")
	_, err := VerifyExport(io.MultiReader(strings.NewReader(a[0]), errReader{broken}), k.verifier, nil)
	if bad := (*BadRecord)(nil); !errors.Is(err, broken) || errors.As(err, &bad) {
		t.Errorf("a reader that fails: %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestProgress(t *testing.T) {
	c := newChecker(nil)
	var seen []uint64
	c.progress = func(n uint64) { seen = append(seen, n) }
	for range 2*progressEvery + 1 {
		_ = c.take(&item{erased: true})
	}
	if fmt.Sprint(seen) != fmt.Sprint([]int{progressEvery, 2 * progressEvery}) || len(c.report.ErasedRanges) != 1 {
		t.Errorf("%v, %+v", seen, c.report)
	}
	x := &examiner{hasher: newLeafHasher(), dir: true}
	for range 2 * MaxErasedRanges { // P7
		it := x.examine(new(Record), c.tree.size, payloadOf(c.tree.size, nil))
		if err := c.take(&it); err != nil {
			t.Fatal(err)
		}
		_ = c.take(&item{erased: true})
	}
	if len(c.report.ErasedRanges) != MaxErasedRanges {
		t.Errorf("%d ranges", len(c.report.ErasedRanges))
	}
}

// TestMangledDir holds P8: no byte of the journal's files, of the snapshots and of the checkpoints can be changed, removed or
// cut off.
func TestMangledDir(t *testing.T) {
	t.Parallel()
	f := newFixture(t, newKeys(t, "gw1.test/sallyport"))
	f.o.Journal.SegmentBytes = 500
	l := f.open(t)
	appendRecords(t, l, 0, 1)
	if err := l.Snapshot([]byte("the state after 1")); err != nil {
		t.Fatal(err)
	}
	appendRecords(t, l, 1, 1)
	if err := l.Snapshot([]byte("the state after 2")); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	if r, err := f.verify(); err != nil || r.Size != 2 || r.Records != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	dir := filepath.Dir(f.o.Dir)
	files := readFiles(t, dir)
	delete(files, "checkpoint.hashes") // no evidence: TestRottenHashes
	if len(files) != 6 {
		t.Fatalf("%d files", len(files))
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		bad := func(what string, at int, mangled string) {
			if err := os.WriteFile(path, []byte(mangled), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := f.verify(); err == nil {
				t.Errorf("%s, byte %d: %s is not found", name, at, what)
			}
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range text {
			_, err := file.WriteAt([]byte{text[i] ^ 1<<(i%8)}, int64(i))
			if _, found := f.verify(); found == nil || err != nil {
				t.Errorf("%s, byte %d: a bit changed is not found (%v)", name, i, err)
			} else if rest, isSegment := strings.CutSuffix(filepath.Base(name), ".seg"); isSegment {
				// Each segment has one record, the one that it is named after; the second one vouches for the size of the first.
				seq, _ := strconv.ParseUint(rest, 10, 64)
				if b := (*BadRecord)(nil); !errors.As(found, &b) || b.Seq > seq || b.Through+1 < seq {
					t.Errorf("%s, byte %d: the record is not named: %v", name, i, found)
				}
			}
			if _, err := file.WriteAt([]byte{text[i]}, int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range text {
			if i%16 == 0 {
				bad("cutting", i, text[:i])
			}
			if i%16 == 0 && i+1 < len(text) && text[i] != text[i+1] {
				bad("removal", i, text[:i]+text[i+1:])
				bad("an addition", i, text[:i]+"x"+text[i:])
			}
		}
		bad("an addition", len(text), text+"x")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		// The snapshots and the synced checkpoint are not needed; records and checkpoint are.
		if _, err := f.verify(); (err == nil) != (strings.HasSuffix(name, ".snap") || strings.HasSuffix(name, ".synced")) {
			t.Errorf("%s removed: %v", name, err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.verify(); err != nil {
		t.Error(err)
	}
}

// TestTampered holds P8 for the live log: what Open refuses, and what VerifyDir says.
func TestTampered(t *testing.T) {
	t.Parallel()
	k, stranger := newKeys(t, "gw1.test/sallyport"), newKeys(t, "gw1.test/sallyport")
	a, b, _, _ := twoLogs(t, k, 6)
	short, _, _, _ := twoLogs(t, k, 3)
	theirs, _, _, _ := twoLogs(t, stranger, 6)
	read := func(f *fixture, name string) string { return readFiles(t, filepath.Dir(f.o.Dir))[name] }
	set := func(f *fixture, name, text string) {
		if err := os.WriteFile(filepath.Join(filepath.Dir(f.o.Dir), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(f *fixture, names ...string) {
		for _, name := range names {
			if err := os.RemoveAll(filepath.Join(filepath.Dir(f.o.Dir), name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	const segment, cp, synced = "journal/00000000000000000000.seg", "checkpoint", "checkpoint.synced"
	same := func(_ uint64, payload []byte) []byte { return payload }
	without := func(gone uint64) func(uint64, []byte) []byte {
		return func(seq uint64, payload []byte) []byte {
			if seq == gone {
				return nil
			}
			return payload
		}
	}
	forge := func(change func(*Record)) func(uint64, []byte) []byte {
		return func(seq uint64, payload []byte) []byte {
			if seq != 2 {
				return payload
			}
			e, _ := parseEntry(payload)
			rec, err := Parse(e.json)
			if err != nil {
				t.Fatal(err)
			}
			change(rec)
			payload, _ = appendEntry(nil, rec.Seq, e.salt, rec.appendBody(nil), e.change)
			return payload
		}
	}
	for _, c := range []struct {
		name   string
		alter  func(uint64, []byte) []byte
		more   func(*fixture)
		open   error
		verify string // part of what VerifyDir says
	}{
		{"checkpoint removed", same, func(f *fixture) { remove(f, cp) }, ErrUnsigned, "records 0 to 5: nothing proves them"},
		{"both checkpoints removed", same, func(f *fixture) { remove(f, cp, synced) }, ErrUnsigned, "records 0 to 5: nothing proves them"},
		{"checkpoint emptied", same, func(f *fixture) { set(f, cp, "") }, nil, "checkpoint: not a checkpoint"},
		{"both checkpoints emptied", same, func(f *fixture) { set(f, cp, ""); set(f, synced, "") }, ErrOther, "not a checkpoint"},
		{"checkpoint by another key", same, func(f *fixture) { set(f, cp, read(theirs, cp)) }, ErrOther, "signed by another key"},
		{"checkpoint of the other log", same, func(f *fixture) { set(f, cp, read(b, cp)); set(f, synced, read(b, synced)) }, ErrOther, "records 0 to 5: their root is"},
		{"only the synced one of the other log", same, func(f *fixture) { set(f, synced, read(b, synced)) }, ErrOther, "checkpoint.synced signs"},
		{"checkpoint with a byte more", same, func(f *fixture) { set(f, cp, read(f, cp)+"\n") }, ErrOther, "not a checkpoint"},
		{"journal of the other log", same, func(f *fixture) { set(f, segment, read(b, segment)) }, ErrOther, "records 0 to 5: their root is"},
		{"journal removed", same, func(f *fixture) { remove(f, "journal") }, ErrShort, "no such file"},
		{"journal emptied", same, func(f *fixture) { remove(f, segment) }, ErrShort, "record 0: it is missing"},
		{"shorter journal", same, func(f *fixture) { set(f, segment, read(short, segment)) }, ErrShort, "record 3: it is missing"},
		{"last record removed", without(5), nil, ErrShort, "record 5: it is missing"},
		{"first record removed", without(0), nil, ErrShort, "record 0: in its place is record 1"},
		{"record removed", without(2), nil, ErrShort, "record 2: in its place is record 3"},
		{"record forged", forge(func(r *Record) { r.Person = "mallory" }), nil, ErrOther, "records 0 to 5: their root is"},
		{"number forged", forge(func(r *Record) { r.Seq = 7 }), nil, errEntry, "record 2: in its place is record 7"},
		{"change swapped", func(seq uint64, payload []byte) []byte {
			if seq == 2 {
				payload[len(payload)-1]++
			}
			return payload
		}, nil, nil, "record 2: its change has the hash"},
		{"not an entry", func(seq uint64, payload []byte) []byte {
			if seq == 2 {
				return []byte("hello")
			}
			return payload
		}, nil, errEntry, "record 2: type 104"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, k)
			rewrite(t, a, f, c.alter)
			if c.more != nil {
				c.more(f)
			}
			_, err := f.verify()
			if err == nil || !strings.Contains(err.Error(), c.verify) {
				t.Errorf("verify: %v, want %q", err, c.verify)
			}
			before := readFiles(t, filepath.Dir(f.o.Dir))
			l, err := Open(f.o)
			switch {
			case c.name == "checkpoint emptied": // as a power cut leaves it
				if err != nil || len(l.Repaired()) != 1 {
					t.Fatalf("opened with %v", err)
				}
				closeLog(t, l)
				return
			case c.name == "change swapped":
				if err == nil || !strings.Contains(err.Error(), c.verify) {
					t.Errorf("opened with %v", err)
				}
			case !errors.Is(err, c.open):
				t.Errorf("opened with %v, want %v", err, c.open)
			}
			if l != nil {
				closeLog(t, l)
			}
			if after := readFiles(t, filepath.Dir(f.o.Dir)); after[segment] != before[segment] || after[cp] != before[cp] {
				t.Error("the evidence was altered")
			}
		})
	}

	t.Run("records after the checkpoint", func(t *testing.T) {
		f := newFixture(t, k)
		rewrite(t, a, f, same)
		old := map[string]string{cp: read(f, cp), synced: read(f, synced)}
		l := f.open(t)
		appendRecords(t, l, 6, 2)
		closeLog(t, l)
		for name, text := range old {
			set(f, name, text)
		}
		if r, err := f.verify(); err != nil || r.Size != 6 || r.Unsigned != 2 || r.Records != 8 {
			t.Errorf("%+v, %v", r, err)
		}
		closeLog(t, f.open(t))
		if r, err := f.verify(); err != nil || r.Size != 8 || r.Unsigned != 0 {
			t.Errorf("reopened: %+v, %v", r, err)
		}
	})
}

// TestForgedSnapshot holds P2 and P8: a snapshot is believed only with our signature, since it says which codes are used up.
func TestForgedSnapshot(t *testing.T) {
	t.Parallel()
	k, stranger := newKeys(t, "log"), newKeys(t, "log")
	made := func(k keys, n int) *fixture {
		f := newFixture(t, k)
		l := f.open(t)
		appendRecords(t, l, 0, n)
		if err := l.Snapshot([]byte("step 4")); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
		return f
	}
	// inject makes the journal store blob as a whole snapshot.
	inject := func(f *fixture, at uint64, blob []byte) {
		j, err := journal.Open(journal.Options{Dir: f.o.Dir})
		if err == nil {
			err = errors.Join(j.WriteSnapshot(at, blob), j.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	blobOf := func(f *fixture) (uint64, []byte) {
		j, err := journal.Open(journal.Options{Dir: f.o.Dir, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		at, blob, ok, err := j.LatestSnapshot()
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return at, blob
	}
	theirs, other := made(stranger, 4), made(k, 4)
	_, foreign := blobOf(theirs)
	_, otherLog := blobOf(other)
	for name, alter := range map[string]func(own []byte) []byte{
		"state altered":              func(own []byte) []byte { return append(own[:len(own)-1], '3') },
		"state cut":                  func(own []byte) []byte { return own[:len(own)-1] },
		"edge altered":               func(own []byte) []byte { own[len(own)-len("step 4")-1]++; return own },
		"nothing":                    func([]byte) []byte { return nil },
		"long length":                func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 30) },
		"cut in the note":            func(own []byte) []byte { return own[:50] },
		"cut in the tree":            func(own []byte) []byte { return own[:len(own)-len("step 4")-1] },
		"by another key":             func([]byte) []byte { return foreign },
		"of the other log":           func([]byte) []byte { return otherLog },
		"under a number not its own": func(own []byte) []byte { return own },
	} {
		t.Run(name, func(t *testing.T) {
			f := made(k, 4)
			at, blob := blobOf(f)
			if name == "under a number not its own" {
				if err := os.Remove(filepath.Join(f.o.Dir, "00000000000000000004.snap")); err != nil {
					t.Fatal(err)
				}
				at--
			}
			inject(f, at, alter(blob))
			if l, err := Open(f.o); err == nil {
				t.Errorf("opened, with state %q", f.state)
				closeLog(t, l)
			}
			if _, err := f.verify(); err == nil {
				t.Error("verified")
			}
		})
	}

	t.Run("journal rolled back", func(t *testing.T) {
		f, old := made(k, 4), made(k, 4)
		copyDir(t, old.o.Dir, filepath.Join(filepath.Dir(f.o.Dir), "kept"))
		l := old.open(t)
		appendRecords(t, l, 4, 3)
		if err := l.Snapshot([]byte("step 7")); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
		snap := "00000000000000000007.snap"
		b, err := os.ReadFile(filepath.Join(old.o.Dir, snap))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(f.o.Dir, snap), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(f.o); !errors.Is(err, ErrShort) {
			t.Errorf("opened: %v", err)
		}
		if _, err := f.verify(); err == nil {
			t.Error("verified")
		}
	})
	t.Run("damaged by the disk", func(t *testing.T) {
		f := made(k, 4)
		path := filepath.Join(f.o.Dir, "00000000000000000004.snap")
		if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		l := f.open(t) // it only saves time
		if f.state != "" || len(f.replayed) != 4 || len(l.Repaired()) != 1 {
			t.Errorf("state %q, replayed %v, repaired %q", f.state, f.replayed, l.Repaired())
		}
		closeLog(t, l)
	})
	t.Run("checkpoint put back from before", func(t *testing.T) {
		f := newFixture(t, k)
		l := f.open(t)
		appendRecords(t, l, 0, 2)
		msg, err := l.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		appendRecords(t, l, 2, 2)
		if err := l.Snapshot([]byte("step 4")); err != nil {
			t.Fatal(err)
		}
		appendRecords(t, l, 4, 1)
		closeLog(t, l)
		if err := f.o.checkpointFile().store(msg, true); err != nil {
			t.Fatal(err)
		}
		closeLog(t, f.open(t))
		if f.state != "step 4" || fmt.Sprint(f.replayed) != "[4]" {
			t.Errorf("state %q, replayed %v", f.state, f.replayed)
		}
	})
}

func (o *Options) checkpointFile() checkpointFile { return checkpointFile(o.CheckpointFile) }

// FuzzVerifyExport: no file makes the verifier fall, and none but ours passes.
func FuzzVerifyExport(f *testing.F) {
	golden, err := os.ReadFile("testdata/export.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	v, err := note.NewVerifier(goldenKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	for _, line := range bytes.SplitAfter(golden, []byte("\n")) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		_, err := VerifyExport(bytes.NewReader(file), v, nil)
		if (err == nil) != bytes.Equal(file, golden) {
			t.Errorf("%v for %q", err, file)
		}
	})
}

// P2: a log in which a code was accepted twice is sound as a tree, and is found all the same.
func TestCodeAcceptedTwice(t *testing.T) {
	for name, c := range map[string]struct {
		effects []Effect
		bad     bool
	}{
		"steps that grow":             {[]Effect{{Set: "token.step", ID: "a", Value: 5}, {Set: "token.step", ID: "b", Value: 5}, {Set: "token.step", ID: "a", Value: 6}}, false},
		"the same step":               {[]Effect{{Set: "token.step", ID: "a", Value: 5}, {Set: "token.step", ID: "a", Value: 5}}, true},
		"an older step":               {[]Effect{{Set: "token.step", ID: "a", Value: 5}, {Set: "token.step", ID: "a", Value: 4}}, true},
		"recovery codes in any order": {[]Effect{{Set: "recovery.used", ID: "a", Value: 7}, {Set: "recovery.used", ID: "a", Value: 2}, {Set: "recovery.used", ID: "b", Value: 7}}, false},
		"the same recovery code":      {[]Effect{{Set: "recovery.used", ID: "a", Value: 7}, {Set: "recovery.used", ID: "a", Value: 7}}, true},
		"a recovery code of no set":   {[]Effect{{Set: "recovery.used", ID: "a", Value: -1}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, newKeys(t, "gw1/test"))
			l := f.open(t)
			for i, x := range c.effects {
				if _, err := l.Append(&Record{Event: "login", Result: Accept, Effects: []Effect{x}}, nil); err != nil {
					t.Fatal(i, err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := f.verify(); (err != nil) != c.bad {
				t.Errorf("%v", err)
			}
		})
	}
}
