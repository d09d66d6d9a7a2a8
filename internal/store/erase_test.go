package store

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestTake: a segment that was rewritten is taken in: its erased records are found no more, by anything, and leave no word in
// the file; the others have their new places. So it is after a restart.
func TestTake(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	path := filepath.Join(t.TempDir(), "records.db")
	x := openIndexAt(t, path)
	all := randomEntries(r, 0, 6000, 40)
	for i := range all {
		all[i].Person = "holder"
		if i < 4000 && i%100 != 0 {
			all[i].Person = "erasedperson"
		}
	}
	for at := 0; at < len(all); {
		n := min(1+r.IntN(1500), len(all)-at)
		add(t, x, all[at:at+n])
		at += n
	}
	const first, next = 0, 4500 // the segment
	for i := first; i < next; i++ {
		if all[i].Offset += 7; all[i].Person == "erasedperson" {
			all[i] = Entry{Seq: uint64(i)}
		}
	}
	each := func(put func(Entry) error) error {
		for _, e := range all[first:next] {
			if err := put(e); err != nil {
				return err
			}
		}
		return nil
	}
	if err := x.Take(t.Context(), first, 1234, each); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		var there []Entry
		for _, e := range all {
			if !e.Erased() {
				there = append(there, e)
			}
		}
		for range 300 {
			q := randomQuery(r, there)
			want := matching(there, q)
			if got := search(t, x, q); !slices.Equal(got, want) {
				t.Fatalf("%+v: %d hits, want %d", q, len(got), len(want))
			}
		}
		if hits := search(t, x, Query{Person: "erasedperson"}); len(hits) != 0 {
			t.Errorf("%d hits of an erased person", len(hits))
		}
		if hits := search(t, x, Query{Limit: MaxHits}); len(hits) != len(there) {
			t.Errorf("%d hits of all, want %d", len(hits), len(there))
		}
		taken, err := x.Taken(t.Context())
		if err != nil || taken[first] != 1234 || len(taken) != 1 {
			t.Errorf("%v, %v", taken, err)
		}
	}
	check()
	more := randomEntries(r, 6000, 700, 40)
	all = append(all, more...)
	add(t, x, more)
	check()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || bytes.Contains(raw, []byte("erasedperson")) {
		t.Errorf("the file still tells of somebody whose records were erased; %v", err)
	}
	x = openIndexAt(t, path)
	check()
	// What is not indexed yet comes as it then is.
	rest := randomEntries(r, uint64(len(all)), 300, 40)
	err = x.Take(t.Context(), uint64(len(all)), 99, func(func(Entry) error) error { t.Error("its entries are read"); return nil })
	if err != nil {
		t.Fatal(err)
	}
	err = x.Take(t.Context(), 5000, 98, func(put func(Entry) error) error {
		for _, e := range slices.Concat(all[5000:], rest) {
			if err := put(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if taken, err := x.Taken(t.Context()); err != nil || len(taken) != 3 || taken[5000] != 98 || taken[uint64(len(all))] != 99 {
		t.Errorf("%v, %v", taken, err)
	}
	if hits := search(t, x, Query{From: uint64(len(all))}); len(hits) != 0 {
		t.Errorf("%d hits of what is not indexed", len(hits))
	}
	if err := x.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if taken, err := x.Taken(t.Context()); err != nil || len(taken) != 0 {
		t.Errorf("after a reset: %v, %v", taken, err)
	}
}
