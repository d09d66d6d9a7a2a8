package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func openIndexAt(t testing.TB, path string) *Index {
	t.Helper()
	x, err := OpenIndex(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() }) // tests that care close it themselves
	return x
}

func newIndex(t testing.TB) *Index { return openIndexAt(t, filepath.Join(t.TempDir(), "records.db")) }

func add(t testing.TB, x *Index, batch []Entry) {
	t.Helper()
	if err := x.Add(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

func search(t testing.TB, x *Index, q Query) []Hit {
	t.Helper()
	hits, err := x.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

func nextOf(t testing.TB, x *Index) uint64 {
	t.Helper()
	next, err := x.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func countBlocks(t testing.TB, x *Index) (n int) {
	t.Helper()
	if err := x.reader.QueryRow("SELECT count(*) FROM blocks").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// randomEntries makes n entries from first on; odd texts, clocks that are set back, segments that change.
func randomEntries(r *rand.Rand, first uint64, n, people int) []Entry {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	entries := make([]Entry, n)
	pos := int64(0)
	for i := range entries {
		pos += int64(r.IntN(2000))
		if r.IntN(400) == 0 {
			pos = 0
		}
		entries[i] = Entry{
			Seq: first + uint64(i), Segment: (first + uint64(i)) / 300, Offset: pos,
			Time:  at(int64(first) + int64(i) - int64(r.IntN(50))),
			Event: pick("login", "login", "login", "session.start", "user.add"), Result: pick("accept", "reject", "challenge"),
			Person: fmt.Sprintf("person%d", r.IntN(people)), System: pick("vpn-leeds", "core-sw1", "gateway", "none"),
			Source: fmt.Sprintf("10.0.%d.%d", r.IntN(4), r.IntN(250)),
		}
		switch r.IntN(50) {
		case 0:
			entries[i].Person = ""
		case 1:
			entries[i].Person = "unknown"
		case 2:
			entries[i] = Entry{Seq: entries[i].Seq} // erased
		case 3:
			entries[i].Source = "\x00\xff" + strings.Repeat("ü", 200)
		}
	}
	return entries
}

// matching is Search without an index.
func matching(all []Entry, q Query) (hits []Hit) {
	for _, e := range all {
		if !e.Erased() && (q.Person == "" || q.Person == e.Person) && (q.System == "" || q.System == e.System) &&
			(q.Event == "" || q.Event == e.Event) && (q.Result == "" || q.Result == e.Result) &&
			(q.Source == "" || q.Source == e.Source) &&
			(q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || e.Time.Before(q.Until)) &&
			e.Seq >= q.From && (q.Before == 0 || e.Seq < q.Before) {
			hits = append(hits, Hit{e.Seq, e.Segment, e.Offset})
		}
	}
	if q.NewestFirst {
		slices.Reverse(hits)
	}
	return hits[:min(len(hits), q.limit())]
}

func randomQuery(r *rand.Rand, all []Entry) (q Query) {
	e := all[r.IntN(len(all))]
	maybe := func(n int) bool { return r.IntN(n) == 0 }
	if maybe(2) {
		q.Person = e.Person
	}
	if maybe(3) {
		q.System = e.System
	}
	if maybe(3) {
		q.Event = e.Event
	}
	if maybe(4) {
		q.Result = e.Result
	}
	if maybe(5) {
		q.Source = e.Source
	}
	if maybe(10) {
		q.Person = e.Person + "x"
	}
	if maybe(10) {
		q.System = e.Person // a text of another field
	}
	if maybe(4) {
		q.Since = e.Time
	}
	if maybe(4) {
		q.Until = e.Time.Add(time.Duration(r.IntN(3000)) * time.Second)
	}
	if maybe(4) {
		q.From = uint64(r.IntN(len(all)))
	}
	if maybe(4) {
		q.Before = uint64(r.IntN(len(all)))
	}
	q.Limit = []int{0, 1, 3, 100, MaxHits + 1}[r.IntN(5)]
	q.NewestFirst = maybe(2)
	return q
}

// Whatever the batches were, a search finds what going through all records finds, in the same order, also
// after the index was closed and opened again.
func TestSearch(t *testing.T) {
	for name, batch := range map[string]func(r *rand.Rand) int{
		"one by one":   func(*rand.Rand) int { return 1 },
		"small":        func(r *rand.Rand) int { return 1 + r.IntN(40) },
		"around full":  func(r *rand.Rand) int { return fullBlock - 2 + r.IntN(5) },
		"a thousand":   func(*rand.Rand) int { return 1000 },
		"all at once":  func(*rand.Rand) int { return 1 << 20 },
		"of all sizes": func(r *rand.Rand) int { return 1 << r.IntN(12) },
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(len(name))))
			first := uint64(r.IntN(3) * 1000) // retention may have taken the oldest
			n := 4321
			if name == "one by one" {
				n = 700
			}
			all := randomEntries(r, first, n, 300)
			x := newIndex(t)
			for rest := all; len(rest) > 0; {
				n := min(batch(r), len(rest))
				add(t, x, rest[:n])
				rest = rest[n:]
				if r.IntN(8) == 0 {
					if err := x.Close(); err != nil {
						t.Fatal(err)
					}
					x = openIndexAt(t, x.path)
				}
			}
			if got, want := nextOf(t, x), first+uint64(n); got != want {
				t.Fatalf("next is %d, want %d", got, want)
			}
			if blocks := countBlocks(t, x); blocks >= fullBlock+n/fullBlock {
				t.Errorf("%d blocks for %d records", blocks, n)
			}
			for round := range 2 {
				for range 80 {
					q := randomQuery(r, all)
					got, want := search(t, x, q), matching(all, q)
					if !slices.Equal(got, want) {
						t.Fatalf("round %d: %+v: %d hits, want %d:\n got %v\nwant %v", round, q, len(got), len(want), got, want)
					}
				}
				if err := x.Close(); err != nil {
					t.Fatal(err)
				}
				x = openIndexAt(t, x.path)
				if why := x.Started(); why != "" {
					t.Errorf("opened again, it is empty: %s", why)
				}
			}
		})
	}
}

// Pages follow one another without a gap or a repeat, and end, also when the last of them ends at record 0.
func TestFollowing(t *testing.T) {
	all := randomEntries(rand.New(rand.NewPCG(2, 2)), 0, 600, 5)
	x := newIndex(t)
	add(t, x, all)
	for _, q := range []Query{{}, {Person: "person1"}, {Person: "nobody"}, {From: 100, Before: 200}, {System: "gateway", From: 7}} {
		for _, newest := range []bool{false, true} {
			for _, limit := range []int{1, 7, 100, 300, 600, 5000} {
				q.NewestFirst, q.Limit = newest, MaxHits
				want := matching(all, q)
				page, more := q, true
				page.Limit = limit
				var got []Hit
				for pages := 0; more; pages++ {
					if pages > len(all)+1 {
						t.Fatalf("%+v: no end", page)
					}
					hits := search(t, x, page)
					got = append(got, hits...)
					page, more = page.Following(hits)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%+v, %d a page: %d hits, want %d", q, limit, len(got), len(want))
				}
			}
		}
	}
}

// The index takes each record once, in order, or says why not; what is refused leaves no trace.
func TestAddOrder(t *testing.T) {
	all := randomEntries(rand.New(rand.NewPCG(3, 3)), 0, 3000, 50)
	x := newIndex(t)
	swapped := slices.Clone(all[:10])
	swapped[3], swapped[4] = swapped[4], swapped[3]
	twice := append(slices.Clone(all[:5]), all[4:10]...)
	hole := append(slices.Clone(all[:5]), all[6:10]...)
	huge := []Entry{{Seq: 1 << 63}}
	add(t, x, nil)
	for name, batch := range map[string][]Entry{"swapped": swapped, "twice": twice, "hole": hole, "huge": huge} {
		if err := x.Add(t.Context(), batch); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if n := countBlocks(t, x); n != 0 {
		t.Fatalf("%d blocks after what was refused", n)
	}
	add(t, x, all[:700])
	add(t, x, all[:700])     // all again
	add(t, x, all[100:900])  // some again
	add(t, x, all[880:1000]) // small ones
	if err := x.Add(t.Context(), all[1001:]); err == nil {
		t.Error("a gap was taken")
	}
	add(t, x, all[1000:])
	if got, want := search(t, x, Query{Limit: MaxHits}), matching(all, Query{Limit: MaxHits}); !slices.Equal(got, want) {
		t.Errorf("%d hits, want %d", len(got), len(want))
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Add(ctx, randomEntries(rand.New(rand.NewPCG(4, 4)), 3000, 1, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ended: %v", err)
	}
	if err := x.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := nextOf(t, x); n != 0 || len(search(t, x, Query{})) > 0 {
		t.Errorf("after Reset: next is %d", n)
	}
	add(t, x, all[1500:]) // an empty index starts anywhere
	if n := nextOf(t, x); n != 3000 {
		t.Errorf("next is %d, want 3000", n)
	}
}

// When a batch fails, the index goes on from what is in the file.
func TestAddFails(t *testing.T) {
	all := randomEntries(rand.New(rand.NewPCG(5, 5)), 0, 2000, 50)
	x := newIndex(t)
	add(t, x, all[:100])
	if _, err := x.writer.Exec(`CREATE TRIGGER broken BEFORE INSERT ON blocks BEGIN SELECT RAISE(ABORT, 'broken'); END`); err != nil {
		t.Fatal(err)
	}
	for _, batch := range [][]Entry{all[100:110], all[100:1500]} {
		if err := x.Add(t.Context(), batch); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Fatalf("got %v", err)
		}
		if got := search(t, x, Query{}); !slices.Equal(got, matching(all[:100], Query{})) {
			t.Errorf("%d hits after the failure", len(got))
		}
	}
	if _, err := x.writer.Exec(`DROP TRIGGER broken`); err != nil {
		t.Fatal(err)
	}
	if err := x.Damage(); err != nil {
		t.Fatal(err)
	}
	add(t, x, all[100:])
	if got := search(t, x, Query{Limit: MaxHits}); !slices.Equal(got, matching(all, Query{Limit: MaxHits})) {
		t.Errorf("%d hits of %d records", len(got), len(all))
	}
}

// When the file is not as the index thinks, as after a commit whose answer was lost, it looks again.
func TestAddLooksAgain(t *testing.T) {
	all := randomEntries(rand.New(rand.NewPCG(12, 12)), 0, 2000, 50)
	x := newIndex(t)
	add(t, x, all[:100])
	add(t, openIndexAt(t, x.path), all[100:200])
	if err := x.Add(t.Context(), all[100:200]); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("got %v", err)
	}
	add(t, x, all[100:200])
	add(t, x, all[200:])
	if got, want := search(t, x, Query{Limit: MaxHits}), matching(all, Query{Limit: MaxHits}); !slices.Equal(got, want) {
		t.Errorf("%d hits, want %d", len(got), len(want))
	}
}

// damageAndUse opens a file whose bytes may be wrong, uses it, and reports whether the damage was found.
func damageAndUse(t *testing.T, path string, all []Entry, queries []Query) (found bool) {
	t.Helper()
	x, err := OpenIndex(t.Context(), path)
	if err != nil {
		t.Fatalf("it does not open at all: %v", err)
	}
	found = x.Started() != ""
	for _, q := range queries {
		hits, err := x.Search(t.Context(), q)
		switch {
		case found:
			if err != nil || len(hits) > 0 {
				t.Errorf("the new index is not empty: %d hits, %v", len(hits), err)
			}
		case err == nil:
			if want := matching(all, q); !slices.Equal(hits, want) {
				t.Errorf("%+v: %d hits, want %d", q, len(hits), len(want))
			}
		case errors.Is(err, ErrCorrupt):
			if x.Damage() == nil {
				t.Error("the damage was not noted")
			}
			if err := x.Close(); err != nil {
				t.Error(err)
			}
			x = openIndexAt(t, path)
			if !strings.HasPrefix(x.Started(), "there was none") {
				t.Errorf("opened after the damage: %q", x.Started())
			}
			found = true
		default:
			t.Errorf("%+v: %v, want ErrCorrupt", q, err)
		}
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	return found
}

// A damaged index gives the right answer or none: it is set aside, and a new one starts empty.
func TestIndexDamaged(t *testing.T) {
	all := randomEntries(rand.New(rand.NewPCG(6, 6)), 0, 2300, 100)
	x := newIndex(t)
	add(t, x, all[:1000])
	add(t, x, all[1000:2200])
	add(t, x, all[2200:])
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(x.path)
	if err != nil {
		t.Fatal(err)
	}
	queries := []Query{{Limit: MaxHits}, {Person: "person7"}, {Source: "10.0.1.1", NewestFirst: true}}
	path := filepath.Join(t.TempDir(), "records.db")
	use := func(b []byte) bool {
		t.Helper()
		for _, old := range []string{path, path + damagedSuffix, path + "-wal", path + "-shm"} {
			_ = os.Remove(old)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		found := damageAndUse(t, path, all, queries)
		if kept, err := os.ReadFile(path + damagedSuffix); found && (err != nil || len(kept) < min(len(b), 1)) {
			t.Errorf("the damaged file was not kept: %v", err)
		}
		return found
	}
	if use(whole) {
		t.Fatal("a whole file counts as damaged")
	}
	missed := 0
	const tries = 100
	for i := range tries {
		b := slices.Clone(whole)
		b[100+i*(len(b)-100)/tries] ^= 0x10
		if !use(b) {
			missed++ // a byte that nothing uses: the answers were right
		}
	}
	if missed > tries/2 {
		t.Errorf("%d of %d flipped bits made no difference: the test proves little", missed, tries)
	}
	for name, b := range map[string][]byte{
		"text":   []byte(strings.Repeat("not a database ", 1000)),
		"half":   whole[:len(whole)/2],
		"a page": whole[:4096],
		"zeros":  make([]byte, len(whole)),
	} {
		if !use(b) {
			t.Errorf("%s: taken for an index", name)
		}
	}
}

// A block whose rows are consistent to SQLite, and not to us, is found as well.
func TestIndexInconsistent(t *testing.T) {
	all := randomEntries(rand.New(rand.NewPCG(7, 7)), 0, 3000, 100)
	for name, stmt := range map[string]string{
		"block missing":       `DELETE FROM blocks WHERE first = 1000`,
		"block moved":         `UPDATE blocks SET first = 4000, next = 5000 WHERE first = 1000`,
		"data swapped":        `UPDATE blocks SET data = (SELECT data FROM blocks WHERE first = 0) WHERE first = 1000`,
		"filter swapped":      `UPDATE blocks SET bits = (SELECT bits FROM blocks WHERE first = 0) WHERE first = 1000`,
		"filter emptied":      `UPDATE blocks SET bits = x'' WHERE first = 1000`,
		"times changed":       `UPDATE blocks SET since = 0 WHERE first = 1000`,
		"shorter":             `UPDATE blocks SET next = 2000 WHERE first = 2000; UPDATE blocks SET next = 2999 WHERE first = 2000`,
		"negative":            `UPDATE blocks SET first = -1 WHERE first = 0`,
		"version":             `PRAGMA user_version = 99`,
		"no table":            `DROP TABLE blocks`,
		"data of other types": `DROP TABLE blocks; CREATE TABLE blocks (first, next, since, until, bits, data); INSERT INTO blocks VALUES (0, 3000, 'x', NULL, 7, 'y')`,
	} {
		t.Run(name, func(t *testing.T) {
			x := newIndex(t)
			for i := range 3 {
				add(t, x, all[i*1000:i*1000+1000])
			}
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			exec(t, x.path, strings.Split(stmt, "; ")...)
			if !damageAndUse(t, x.path, all, []Query{{Limit: MaxHits}}) {
				t.Error("not found")
			}
		})
	}
}

// Paths given by mistake cost nothing.
func TestIndexNotOurs(t *testing.T) {
	s := open(t, Options{})
	apply(t, s, sample()...)
	want := read(t, s)
	if x, err := OpenIndex(t.Context(), s.path); err == nil {
		_ = x.Close()
		t.Error("the store was opened as an index")
	}
	same(t, "the store", read(t, s), want)
	if _, err := os.Stat(s.path + damagedSuffix); err == nil {
		t.Error("the store was set aside")
	}
	x := newIndex(t)
	openError(t, Options{Path: x.path})
	for _, path := range []string{filepath.Join(t.TempDir(), "none", "x.db"), t.TempDir()} {
		if x, err := OpenIndex(t.Context(), path); err == nil || !strings.Contains(err.Error(), path) {
			_ = x.Close()
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What was set aside takes the place of no more than one file.
func TestSetAsideIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	for range 3 {
		if err := os.WriteFile(path, []byte(strings.Repeat("junk", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		x := openIndexAt(t, path)
		if why := x.Started(); !strings.Contains(why, damagedSuffix) {
			t.Errorf("started: %q", why)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := filepath.Glob(path + "*"); err != nil || len(names) != 2 {
		t.Errorf("files: %v %v", names, err)
	}
}

// Searches beside adding see whole batches, and always all up to the newest.
func TestIndexConcurrency(t *testing.T) {
	all := randomEntries(rand.New(rand.NewPCG(8, 8)), 0, 6000, 30)
	x := newIndex(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			q := []Query{{Limit: MaxHits}, {Limit: MaxHits, Person: "person3"}, {Limit: 5, NewestFirst: true}, {Limit: MaxHits, Event: "user.add", NewestFirst: true}}[i]
			for {
				before, err := x.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				got, err := x.Search(t.Context(), q)
				if err != nil {
					t.Error(err)
					return
				}
				// What is found is what matches among the first so many, where that is between two batches.
				n := before
				for ; n <= uint64(len(all)) && !slices.Equal(got, matching(all[:n], q)); n++ {
				}
				if n > uint64(len(all)) {
					t.Errorf("%+v: %d hits are no state between %d and the end", q, len(got), before)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(9, 9))
	for rest := all; len(rest) > 0; {
		n := min(1+r.IntN(400), len(rest))
		if err := x.Add(t.Context(), rest[:n]); err != nil {
			t.Error(err)
			break
		}
		rest = rest[n:]
	}
	close(done)
	wg.Wait()
}

// TestSearchGoesOn: a search page by page finds each record once, in both directions, wherever in a block a page ends, and
// although it leaves out by their key the blocks before its own.
func TestSearchGoesOn(t *testing.T) {
	x := newIndex(t)
	const records = 5*maxBlock + 17
	var batch []Entry
	for seq := range uint64(records) {
		person := "often"
		if seq%701 == 3 {
			person = "seldom"
		}
		batch = append(batch, Entry{Seq: seq, Time: at(int64(seq)), Event: "login", Result: "accept", Person: person, System: "vpn", Source: "192.0.2.1"})
		if len(batch) == maxBlock || seq == records-1 {
			if err := x.Add(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	for _, q := range []Query{
		{Limit: 1000},
		{Limit: maxBlock},
		{Limit: 1, Person: "seldom"},
		{Limit: 3, Person: "seldom", NewestFirst: true},
		{Limit: 999, Person: "often", NewestFirst: true},
		{Limit: 700, Since: at(maxBlock - 5), Until: at(3*maxBlock + 5)},
	} {
		var want, got []uint64
		for seq := range uint64(records) {
			person := "often"
			if seq%701 == 3 {
				person = "seldom"
			}
			if (q.Person == "" || q.Person == person) && (q.Since.IsZero() || seq >= maxBlock-5 && seq < 3*maxBlock+5) {
				want = append(want, seq)
			}
		}
		if q.NewestFirst {
			slices.Reverse(want)
		}
		for asked, more := q, true; more; {
			hits, err := x.Search(t.Context(), asked)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range hits {
				got = append(got, h.Seq)
			}
			asked, more = asked.Following(hits)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %d records, want %d", q, len(got), len(want))
		}
	}
}

// TestBlockTooLarge: a search leaves blocks out by what a block takes at most, so one of more is damage.
func TestBlockTooLarge(t *testing.T) {
	x := newIndex(t)
	if _, err := x.writer.ExecContext(t.Context(), sqlPutBlock, 0, maxBlock+1, 0, 0, []byte("none"), []byte("none")); err != nil {
		t.Fatal(err)
	}
	if err := x.load(t.Context()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "comes a block of 0 to 2049") {
		t.Errorf("a block of %d records: %v", maxBlock+1, err)
	}
}
