package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/journal"
)

// aging is a log of n records, one an hour from the first on, in segments of a few.
type aging struct {
	*fixture
	log   *Log
	now   time.Time // as the test has it
	first time.Time
	clock atomic.Int64 // now, for the log's own goroutine
}

func newAging(t testing.TB, k keys, n int) *aging {
	a := &aging{fixture: newFixture(t, k), first: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}
	a.o.Journal.Sync = func(*os.File) error { return nil }
	a.now = a.first
	a.clock.Store(a.now.UnixNano())
	a.o.Now = func() time.Time { return time.Unix(0, a.clock.Load()).UTC() }
	a.o.Journal.SegmentBytes = int64(max(4000, 10*n))
	a.log = a.open(t)
	a.append(t, n)
	return a
}

func (a *aging) append(t testing.TB, n int) {
	t.Helper()
	for range n {
		a.clock.Store(a.now.UnixNano())
		rec := loginRecord(int(a.log.Next()))
		rec.Person, rec.Time = fmt.Sprintf("p%d", a.log.Next()%3), a.now
		if _, err := a.log.Append(rec, nil); err != nil {
			t.Fatal(err)
		}
		a.now = a.now.Add(time.Hour)
	}
	a.clock.Store(a.now.UnixNano())
}

func (a *aging) snapshots(t testing.TB) {
	t.Helper()
	for range 2 {
		if err := a.log.Snapshot([]byte("s")); err != nil {
			t.Fatal(err)
		}
		a.append(t, 1)
	}
}

func (a *aging) erasure(before time.Time) Erasure {
	return Erasure{Before: before, Announce: func(details []Detail) error {
		_, err := a.log.Append(&Record{Time: a.now, Event: EventErase, Result: Info, Detail: details}, nil)
		return err
	}}
}

func (a *aging) check(t testing.TB) Report {
	t.Helper()
	var of Report
	for what, verify := range map[string]func() (Report, error){
		"folder": a.verify,
		"export": func() (Report, error) { return VerifyExport(bytes.NewReader(export(t, a.log)), a.o.Verifier, nil) },
	} {
		r, err := verify()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(r.UncoveredErased) > 0 {
			t.Fatalf("%s: no record tells of %v", what, r.UncoveredErased)
		}
		of = r
	}
	return of
}

// TestErase: old records go and leave their leaves, those held stay, each range is on record first, and the log goes on.
func TestErase(t *testing.T) {
	a := newAging(t, newKeys(t, "log"), 100)
	before := a.first.Add(60 * time.Hour)
	if _, err := a.log.Erase(t.Context(), a.erasure(before)); !errors.Is(err, ErrNoSnapshot) {
		t.Fatalf("without snapshots: %v", err)
	}
	if err := a.log.Snapshot([]byte("s")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.log.Erase(t.Context(), a.erasure(before)); !errors.Is(err, ErrNoSnapshot) {
		t.Fatalf("with one snapshot: %v", err)
	}
	a.snapshots(t)
	root := func() string { r, err := a.verify(); return fmt.Sprint(r.Root, err) }
	was := root()

	e := a.erasure(before)
	e.Keep = func(rec *Record) bool { return rec.Person == "p1" }
	e.DryRun = true
	dry, err := a.log.Erase(t.Context(), e)
	if err != nil || dry.Erased != 40 || dry.Held != 20 || root() != was {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	e.DryRun = false
	did, err := a.log.Erase(t.Context(), e)
	if err != nil || did.Erased != 40 || did.Held != 20 || did.Bytes <= 0 {
		t.Fatalf("%+v, %v", did, err)
	}
	r := a.check(t)
	if r.Erased != 40 || r.Erasures == 0 {
		t.Fatalf("%+v", r)
	}
	// What is held is found where it was and where it is; what is erased is not.
	for seq := range uint64(60) {
		rec, err := a.log.Find(seq, journal.Position{Segment: a.segmentOf(seq), Offset: 40})
		if err != nil || (rec != nil) != (seq%3 == 1) || rec != nil && rec.Seq != seq {
			t.Fatalf("record %d: %v, %v", seq, rec, err)
		}
	}
	// The hold ends, and the rest goes; nothing is erased twice.
	e.Keep = nil
	if did, err = a.log.Erase(t.Context(), e); err != nil || did.Erased != 20 || did.Earlier != 40 || did.Held != 0 {
		t.Fatalf("%+v, %v", did, err)
	}
	if did, err = a.log.Erase(t.Context(), e); err != nil || did.Erased != 0 || did.Earlier != 60 {
		t.Fatalf("%+v, %v", did, err)
	}
	if r = a.check(t); r.Erased != 60 || fmt.Sprint(r.ErasedRanges) != "[{0 59}]" {
		t.Fatalf("%+v", r)
	}
	closeLog(t, a.log)
	a.log = a.open(t)
	a.append(t, 3)
	a.check(t)
	// All of the log becomes old: the segment in use is finished, and the records of erasures stay.
	a.now = a.now.Add(1000 * time.Hour)
	a.snapshots(t)
	e = a.erasure(a.now.Add(-500 * time.Hour))
	if did, err = a.log.Erase(t.Context(), e); err != nil || did.Erased == 0 {
		t.Fatalf("%+v, %v", did, err)
	}
	r = a.check(t)
	kept := 0
	_ = a.log.Scan(0, func(rec *Record, _ journal.Position) error {
		if rec.Time.Before(e.Before) {
			if kept++; rec.Event != EventErase {
				t.Errorf("record %d stayed", rec.Seq)
			}
		}
		return nil
	})
	if kept == 0 {
		t.Error("the records of erasures were erased")
	}
	closeLog(t, a.log)
}

func (a *aging) segmentOf(seq uint64) uint64 {
	for _, s := range a.log.journal.Finished() {
		if seq >= s.First && seq < s.Next {
			return s.First
		}
	}
	return 0
}

// TestEraseStopsAtTheYoung: a record whose time was set back does not go before those around it, and one from the future
// stays and does not stand in the way.
func TestEraseStopsAtTheYoung(t *testing.T) {
	a := newAging(t, newKeys(t, "log"), 10)
	now := a.now
	a.now = a.first.Add(-50 * 365 * 24 * time.Hour) // number 10: behind records that are young
	a.append(t, 1)
	a.now = now
	a.append(t, 20)
	a.snapshots(t)
	did, err := a.log.Erase(t.Context(), a.erasure(a.first.Add(5*time.Hour)))
	if err != nil || fmt.Sprint(did.Ranges) != "[{0 4}]" {
		t.Errorf("%+v, %v", did, err)
	}
	a.check(t)
	closeLog(t, a.log)

	a = newAging(t, newKeys(t, "log"), 10)
	now = a.now
	a.now = a.first.Add(50 * 365 * 24 * time.Hour)
	a.append(t, 1)
	a.now = now
	a.append(t, 20)
	a.snapshots(t)
	did, err = a.log.Erase(t.Context(), a.erasure(a.first.Add(15*time.Hour)))
	if err != nil || fmt.Sprint(did.Ranges) != "[{0 9} {11 15}]" || did.Held != 1 {
		t.Errorf("%+v, %v", did, err)
	}
	a.check(t)
	if _, err := a.log.Erase(t.Context(), a.erasure(a.now.Add(time.Hour))); err == nil {
		t.Error("the future was erased")
	}
	closeLog(t, a.log)
}

// TestEraseOnRecordFirst: nothing goes that could not be recorded.
func TestEraseOnRecordFirst(t *testing.T) {
	a := newAging(t, newKeys(t, "log"), 50)
	a.snapshots(t)
	e := a.erasure(a.first.Add(30 * time.Hour))
	e.Announce = func([]Detail) error { return errors.New("disk is full") }
	if _, err := a.log.Erase(t.Context(), e); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Fatal(err)
	}
	if r := a.check(t); r.Erased != 0 {
		t.Fatalf("%+v", r)
	}
	closeLog(t, a.log)
}

// TestHiddenErasure: whoever erases a record by himself, and leaves the leaf so that the tree is right, is found; so is one who
// erases it with a record that tells less, or something that cannot be.
func TestHiddenErasure(t *testing.T) {
	k := newKeys(t, "log")
	a := newAging(t, k, 30)
	seq := func(r Range, before time.Time) []Detail {
		d, rest := eraseDetails([]Range{r}, before)
		if len(rest) > 0 {
			t.Fatal("does not fit")
		}
		return d
	}
	tell := func(details []Detail) {
		if _, err := a.log.Append(&Record{Time: a.now, Event: EventErase, Result: Info, Detail: details}, nil); err != nil {
			t.Fatal(err)
		}
	}
	tell(seq(Range{3, 5}, a.first.Add(6*time.Hour)))
	tell(seq(Range{28, 29}, a.first.Add(time.Hour))) // made at 28 hours
	tell([]Detail{{detailRanges, "9"}, {detailBefore, "2025-01-02T00:00:00.000Z"}, {detailErased, "7"}})
	closeLog(t, a.log)
	for _, c := range []struct {
		which []uint64
		want  string
	}{
		{[]uint64{3, 4, 5}, "[]"},
		{[]uint64{4}, "[]"},
		{[]uint64{3, 4, 5, 6}, "[{6 6}]"},
		{[]uint64{2, 3, 5}, "[{2 2}]"},
		{[]uint64{0, 1, 2, 3, 4, 5, 6, 7, 20}, "[{0 2} {6 7} {20 20}]"},
		{[]uint64{28}, "[{28 28}]"},
		{[]uint64{9}, "[{9 9}]"},
	} {
		g := newFixture(t, k)
		rewrite(t, a.fixture, g, func(seq uint64, payload []byte) []byte {
			if !slices.Contains(c.which, seq) {
				return payload
			}
			gone, err := Erase(payload)
			if err != nil {
				t.Fatal(err)
			}
			return gone
		})
		r, err := g.verify()
		if err != nil || fmt.Sprint(r.UncoveredErased) != c.want {
			t.Errorf("erased %v: uncovered %v, want %s; %v", c.which, r.UncoveredErased, c.want, err)
		}
	}
	// A leaf that is not the record's is another matter.
	g := newFixture(t, k)
	rewrite(t, a.fixture, g, func(seq uint64, payload []byte) []byte {
		if seq == 4 {
			return append([]byte{typeErased}, make([]byte, 32)...)
		}
		return payload
	})
	if _, err := g.verify(); err == nil {
		t.Error("another leaf in place of an erased record's passed")
	}
}

// TestManyRanges: what does not fit one record of an erasure goes into the next.
func TestManyRanges(t *testing.T) {
	var all []Range
	for i := range uint64(20_000) {
		all = append(all, Range{1<<60 + 3*i, 1<<60 + 3*i + i%2})
	}
	var got []Range
	records := 0
	for rest := all; len(rest) > 0; records++ {
		var d []Detail
		d, rest = eraseDetails(rest, time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
		rec := &Record{Seq: 1 << 61, Node: "n", Event: EventErase, Result: Info, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Detail: d}
		if err := rec.canonicalise(); err != nil {
			t.Fatal(err)
		}
		back, err := Parse(rec.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		e, err := ParseErasure(back)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Ranges...)
	}
	if records < 2 || !slices.Equal(got, all) {
		t.Errorf("%d ranges of %d, in %d records", len(got), len(all), records)
	}
}

// TestEraseBesideReaders: whoever reads the log while it is erased sees each record as it was, or passes it over.
func TestEraseBesideReaders(t *testing.T) {
	a := newAging(t, newKeys(t, "log"), 200)
	a.snapshots(t)
	last := a.log.Next()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				seen := uint64(0)
				err := a.log.ScanAll(0, func(seq uint64, rec *Record, _ journal.Position) error {
					if seq != seen || rec == nil && seq >= 150 || rec != nil && rec.Seq != seq {
						t.Errorf("record %d: %v", seq, rec)
					}
					seen++
					return nil
				})
				if err != nil || seen < last {
					t.Errorf("%d records: %v", seen, err)
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			a.exported(t, a.log.Export)
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			if r, err := a.verify(); err != nil || len(r.UncoveredErased) > 0 {
				t.Errorf("verification of the folder: uncovered %v, %v", r.UncoveredErased, err)
			}
		}
	})
	for h := 10; h <= 150; h += 10 {
		if _, err := a.log.Erase(t.Context(), a.erasure(a.first.Add(time.Duration(h)*time.Hour))); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
	if r := a.check(t); r.Erased != 150 {
		t.Errorf("%+v", r)
	}
	closeLog(t, a.log)
}

// exported verifies an export, of whose erased records others must tell.
func (a *aging) exported(t testing.TB, export func(io.Writer) error) Report {
	t.Helper()
	var b bytes.Buffer
	err := export(&b)
	r := Report{}
	if err == nil {
		r, err = VerifyExport(&b, a.o.Verifier, nil)
	}
	if err != nil || len(r.UncoveredErased) > 0 {
		t.Errorf("an export: uncovered %v, %v", r.UncoveredErased, err)
	}
	return r
}

// TestEraseWithinExport: a reader who takes an export slowly neither holds up an erasure, nor finds records erased of which none tells.
func TestEraseWithinExport(t *testing.T) {
	a := newAging(t, newKeys(t, "log"), 400)
	a.snapshots(t)
	erased := uint64(0)
	r := a.exported(t, func(w io.Writer) error {
		return a.log.Export(writerFunc(func(p []byte) (int, error) {
			if erased == 0 {
				did, err := a.log.Erase(t.Context(), a.erasure(a.first.Add(350*time.Hour)))
				if err != nil {
					t.Fatal(err)
				}
				erased = did.Erased
			}
			return w.Write(p)
		}))
	})
	if erased != 350 || r.Erased == 0 || r.Erased >= erased || r.Erasures == 0 {
		t.Errorf("%d were erased, and the export has %+v", erased, r)
	}
	a.check(t)
	closeLog(t, a.log)
}

// TestEraseWithinVerify: nor does a verification of the folder, however many segments are begun meanwhile.
func TestEraseWithinVerify(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // for each, some records are read ahead
	a := newAging(t, newKeys(t, "log"), 2*progressEvery)
	a.snapshots(t)
	erased := uint64(0)
	r, err := VerifyDir(a.o.Dir, a.o.CheckpointFile, a.o.Verifier, func(uint64) {
		if erased > 0 {
			return
		}
		did, err := a.log.Erase(t.Context(), a.erasure(a.first.Add((2*progressEvery-1)*time.Hour)))
		if err != nil {
			t.Error(err)
		}
		erased = did.Erased
	})
	if err != nil || len(r.UncoveredErased) > 0 || r.Erased == 0 || r.Erased >= erased {
		t.Errorf("%d were erased: %+v, %v", erased, r, err)
	}
	closeLog(t, a.log)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// FuzzErasure: whatever the details say, it is refused, or the ranges lie before the record and are as many as it says.
func FuzzErasure(f *testing.F) {
	f.Add("0-5 7", "2025-01-01T00:00:00.000Z", "7")
	f.Add("5-0", "2025-01-01T00:00:00.000Z", "7")
	f.Add("0-18446744073709551615", "", "0")
	f.Fuzz(func(t *testing.T, ranges, before, erased string) {
		rec := &Record{Seq: 100, Event: EventErase, Result: Info, Time: testNow, Detail: []Detail{{detailRanges, ranges}, {detailBefore, before}, {detailErased, erased}}}
		e, err := ParseErasure(rec)
		if err != nil {
			return
		}
		n := uint64(0)
		for _, r := range e.Ranges {
			if r.Last < r.First || r.Last >= rec.Seq {
				t.Fatalf("%+v", e)
			}
			n += r.Last - r.First + 1
		}
		var c coverage
		c.told(rec)
		c.erased(99, testNow)
		if n != e.Erased || len(c.uncovered()) > 1 {
			t.Fatalf("%+v", e)
		}
	})
}
