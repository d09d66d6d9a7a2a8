package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// severalBatches is a number of records that goes round more often than there are batches, and does not fill the last.
const severalBatches = 27*batchRecords + 7

// longLog is a log of that many records, and its export.
func longLog(t *testing.T) (f *fixture, file []byte) {
	t.Helper()
	f = newFixture(t, newKeys(t, "gw1.test/sallyport"))
	f.o.Journal.Sync = func(*os.File) error { return nil }
	f.o.Journal.SegmentBytes = 4 << 20 // the first is finished, and Open leaves it alone
	l := f.open(t)
	for i := range severalBatches {
		l.Submit(new(Pending), loginRecord(i), nil)
		if i%1000 == 999 {
			if _, err := l.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	file = export(t, l)
	closeLog(t, l)
	return f, file
}

// TestFirstBadRecord holds P8: of several bad records the first is named, wherever in a batch it is, however many others are
// looked at before it, and whether the record, the reading or the steps are at fault.
func TestFirstBadRecord(t *testing.T) {
	f, file := longLog(t)
	all := bytes.SplitAfter(file, []byte("\n"))
	r, err := VerifyExport(bytes.NewReader(file), f.o.Verifier, nil)
	if err != nil || r.Records != severalBatches {
		t.Fatal(r, err)
	}
	if again, err := VerifyDir(f.o.Dir, f.o.CheckpointFile, f.o.Verifier, nil); err != nil || again.Root != r.Root || again.Records != severalBatches {
		t.Fatal(again, err)
	}
	changed := func(at int) []byte {
		return bytes.Replace(all[at], []byte(`"result":"accept"`), []byte(`"result":"reject"`), 1)
	}
	build := func(change map[int][]byte) io.Reader {
		readers := make([]io.Reader, len(all))
		for i, line := range all {
			if other, ok := change[i]; ok {
				line = other
			}
			readers[i] = bytes.NewReader(line)
		}
		return io.MultiReader(readers...)
	}
	broken := errors.New("broken pipe")
	for _, at := range []int{0, 1, batchRecords - 1, batchRecords, batchRecords + 1, 2*batchRecords - 1, severalBatches / 2, severalBatches - 1} {
		for what, in := range map[string]io.Reader{
			"alone":             build(map[int][]byte{at: changed(at)}),
			"with all after it": build(map[int][]byte{at: changed(at), at + 1: []byte("{}\n"), severalBatches - 1: changed(severalBatches - 1)}),
			"a line of nothing": build(map[int][]byte{at: []byte("\n")}),
			"left out":          build(map[int][]byte{at: nil}),
			"cut within":        bytes.NewReader(bytes.Join(append(all[:at:at], all[at][:10]), nil)),
			"before a break":    io.MultiReader(bytes.NewReader(bytes.Join(append(all[:at:at], changed(at)), nil)), errReader{broken}),
		} {
			r, err := VerifyExport(in, f.o.Verifier, nil)
			bad := (*BadRecord)(nil)
			if !errors.As(err, &bad) || bad.Seq != uint64(at) || r.Records != uint64(at) {
				t.Errorf("record %d, %s: %v after %d records", at, what, err, r.Records)
			}
		}
	}
	// All is well up to where the reader breaks.
	r, err = VerifyExport(io.MultiReader(bytes.NewReader(bytes.Join(all[:batchRecords+5], nil)), errReader{broken}), f.o.Verifier, nil)
	if !errors.Is(err, broken) || r.Records != batchRecords+5 {
		t.Errorf("a reader that fails: %v after %d records", err, r.Records)
	}
	// A line that is too long comes after the records before it.
	r, err = VerifyExport(io.MultiReader(bytes.NewReader(all[0]), strings.NewReader(strings.Repeat("x", maxLine+1))), f.o.Verifier, nil)
	if err == nil || !strings.Contains(err.Error(), "record 1: a line of more than") || r.Records != 1 {
		t.Errorf("a long line: %v after %d records", err, r.Records)
	}
}

// TestStepAcrossBatches holds P2 in the evidence: a step that was consumed in one batch is not consumed in a later one, although
// they are examined side by side.
func TestStepAcrossBatches(t *testing.T) {
	f := newFixture(t, newKeys(t, "gw1.test/sallyport"))
	f.o.Journal.Sync = func(*os.File) error { return nil }
	l := f.open(t)
	const at = 5*batchRecords + 3
	for i := range at + batchRecords {
		rec := loginRecord(i)
		if i == at {
			rec.Effects[0].Value = loginRecord(0).Effects[0].Value
		}
		l.Submit(new(Pending), rec, nil)
	}
	if _, err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	file := export(t, l)
	closeLog(t, l)
	_, err1 := VerifyExport(bytes.NewReader(file), f.o.Verifier, nil)
	_, err2 := VerifyDir(f.o.Dir, f.o.CheckpointFile, f.o.Verifier, nil)
	for _, err := range []error{err1, err2} {
		if bad := (*BadRecord)(nil); !errors.As(err, &bad) || bad.Seq != at || !strings.Contains(bad.What, "accepted twice") {
			t.Errorf("a step that is consumed again: %v", err)
		}
	}
}

// TestFirstDamage is TestFirstBadRecord for a journal's files: the entries before the damage are looked at, and it is named.
func TestFirstDamage(t *testing.T) {
	f, _ := longLog(t)
	segments, err := filepath.Glob(filepath.Join(f.o.Dir, "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	raw, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	const at = 3*batchRecords + 1
	for _, seq := range []uint64{at, 2 * at} { // both are damaged
		where := bytes.Index(raw, fmt.Appendf(nil, `%s%d,`, opening, seq))
		if where < 0 {
			t.Fatalf("record %d is not in %s", seq, segments[0])
		}
		raw[where+40] ^= 1
	}
	if err := os.WriteFile(segments[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := VerifyDir(f.o.Dir, f.o.CheckpointFile, f.o.Verifier, nil)
	if bad := (*BadRecord)(nil); !errors.As(err, &bad) || bad.Seq != at || r.Records != at {
		t.Errorf("damage to record %d: %v after %d records", at, err, r.Records)
	}
}
