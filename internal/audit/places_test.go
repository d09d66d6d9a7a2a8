package audit

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"sallyport/internal/journal"
)

// Readers that come again read what is new, each once, also across segments and beside more readers than places.
func TestReadersComeAgain(t *testing.T) {
	f := newFixture(t, newKeys(t, "log"))
	f.o.Journal.SegmentBytes = 8000
	l := f.open(t)
	defer closeLog(t, l)
	next := make([]uint64, len(l.places.known)+2)
	r := rand.New(rand.NewPCG(1, 2))
	for have := 0; have < 300; {
		n := 1 + r.IntN(4)
		appendRecords(t, l, have, n)
		have += n
		for range len(next) / 2 {
			i := r.IntN(len(next))
			stop := uint64(r.IntN(8)) // some read but a few
			begun := next[i]
			err := l.Scan(begun, func(rec *Record, _ journal.Position) error {
				if rec.Seq != next[i] {
					t.Fatalf("reader %d is given record %d, wants %d", i, rec.Seq, next[i])
				}
				if rec.Seq == begun+stop+1 {
					return ErrClosed
				}
				next[i]++
				return nil
			})
			if err == nil && next[i] != uint64(have) {
				t.Fatalf("reader %d has read up to %d of %d", i, next[i], have)
			}
		}
	}
}

// What a reader has read is not read again: damage there is none of its business.
func TestReaderBeginsAtItsPlace(t *testing.T) {
	f := newFixture(t, newKeys(t, "log"))
	l := f.open(t)
	defer closeLog(t, l)
	appendRecords(t, l, 0, 50)
	count := func(from uint64) (n int, err error) {
		err = l.Scan(from, func(*Record, journal.Position) error { n++; return nil })
		return n, err
	}
	if n, err := count(0); n != 50 || err != nil {
		t.Fatal(n, err)
	}
	segments, err := filepath.Glob(filepath.Join(f.o.Dir, "*.seg*"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	raw, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := int64(bytes.Index(raw, []byte("vpn-leeds")))
	file, err := os.OpenFile(segments[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	flip := func(text string) {
		if _, err := file.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	flip("vpn-Leeds")
	if n, err := count(0); n != 0 || err == nil {
		t.Fatalf("the damage does not show: %d records, %v", n, err)
	}
	for from := 50; from < 60; from++ {
		appendRecords(t, l, from, 1)
		if n, err := count(uint64(from)); n != 1 || err != nil {
			t.Fatalf("from %d: %d records, %v", from, n, err)
		}
	}
	flip("vpn-leeds")
}
