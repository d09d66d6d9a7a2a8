package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// shorten replaces every payload but those of every third entry.
func shorten(index uint64, payload []byte) ([]byte, error) {
	if index%3 == 0 {
		return payload, nil
	}
	return fmt.Appendf(nil, "-%d", index), nil
}

func shortened(all []string, next uint64) []string {
	all = slices.Clone(all)
	for i := range all {
		if uint64(i) < next {
			p, _ := shorten(uint64(i), []byte(all[i]))
			all[i] = string(p)
		}
	}
	return all
}

// A rewritten segment has its new payloads, under their indexes, after a restart too; it verifies; the chain of sizes holds; and it
// can be rewritten again.
func TestRewrite(t *testing.T) {
	o := quick(t.TempDir())
	o.SegmentBytes = 500
	j := mustOpen(t, o)
	want := numbered(0, 60)
	var at []Position
	for i := 0; i < len(want); i += 3 {
		at = append(at, appendBatch(t, j, want[i:i+3]...)...)
	}
	all := j.Finished()
	if len(all) < 3 {
		t.Fatalf("%d segments", len(all))
	}
	if err := j.Rewrite(all[len(all)-1].Next, shorten); err == nil {
		t.Error("the segment in use was rewritten")
	}
	for round := range 2 {
		for _, s := range all[:2] {
			if err := j.Rewrite(s.First, shorten); err != nil {
				t.Fatal(err)
			}
		}
		got := entries(t, j)
		if now := shortened(want, all[1].Next); !slices.Equal(got, now) {
			t.Fatalf("round %d: %q, want %q", round, got, now)
		}
		mustVerify(t, o.Dir, len(want))
		for i, pos := range at { // from before
			p, now, err := j.Find(uint64(i), pos)
			if err != nil || string(p) != got[i] {
				t.Fatalf("entry %d: %q, %v", i, p, err)
			}
			if index, _, err := j.Read(now); err != nil || index != uint64(i) {
				t.Fatalf("entry %d is not where Find says: %d, %v", i, index, err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = mustOpen(t, o)
	}
	for i := range want { // from each entry on, by a place that is right, was right, or is somebody else's
		for _, pos := range []Position{at[i], at[(i+7)%len(at)], {Offset: 41}} {
			n := uint64(i)
			err := j.ScanFrom(n, pos, func(index uint64, where Position, _ []byte) error {
				if index != n {
					return fmt.Errorf("entry %d where %d is next", index, n)
				}
				if k, _, err := j.Read(where); err != nil || k != n {
					return fmt.Errorf("entry %d is not at %v: %d, %w", n, where, k, err)
				}
				n++
				return nil
			})
			if err != nil || n != uint64(len(want)) {
				t.Fatalf("from %d at %v: to %d, %v", i, pos, n, err)
			}
		}
	}
	if now := j.Finished(); !now[0].Rewritten || !now[1].Rewritten || now[2].Rewritten || now[0].Size >= all[0].Size {
		t.Errorf("%+v", now)
	}
	if _, _, err := j.Find(1, at[20]); err == nil {
		t.Error("an entry was found in another segment")
	}
	appendBatch(t, j, "more")
	// Finish makes the rest rewritable, and an empty segment is not finished twice.
	for range 2 {
		if err := j.Finish(); err != nil {
			t.Fatal(err)
		}
	}
	all = j.Finished()
	if last := all[len(all)-1]; last.Next != 61 {
		t.Errorf("%+v", last)
	}
	if err := j.Rewrite(all[len(all)-1].First, shorten); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, o.Dir, 61)
	refused := errors.New("refused")
	if err := j.Rewrite(0, func(uint64, []byte) ([]byte, error) { return nil, refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	mustVerify(t, o.Dir, 61)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Rewrite(0, shorten); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := j.Finish(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Each single write, sync and folder sync of a rewriting goes wrong in turn, in each way. The journal goes on with the old
// segment or the new one, and so does the next start, on what the kernel has and on what the disk has.
func TestRewriteFaults(t *testing.T) {
	t.Parallel()
	want := numbered(0, 40)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			struck := 0
			for at := 1; ; at++ {
				d := newDisk(t, 0, f)
				j := mustOpen(t, d.options())
				for i := 0; i < len(want); i += 2 {
					appendBatch(t, j, want[i:i+2]...)
				}
				first := j.Finished()[0]
				d.mu.Lock()
				d.breakAt, d.ops = at, 0
				d.mu.Unlock()
				err := j.Rewrite(first.First, shorten)
				d.mu.Lock()
				broken := d.broken
				d.broken, d.breakAt = false, 0 // only that moment
				d.mu.Unlock()
				if (err != nil) != broken {
					t.Fatalf("operation %d: broken %v, %v", at, broken, err)
				}
				if j.Err() != nil {
					t.Fatalf("operation %d ended the journal: %v", at, j.Err())
				}
				now := shortened(want, first.Next)
				either := func(what string, got []string) {
					t.Helper()
					if !slices.Equal(got, want) && !slices.Equal(got, now) || !broken && !slices.Equal(got, now) {
						t.Fatalf("operation %d, %s: %q", at, what, got)
					}
				}
				either("at once", entries(t, j))
				for what, fs := range map[string]files{"restart": load(t, d.dir), "power cut": d.afterPowerCut()} {
					dir := filepath.Join(t.TempDir(), "after")
					fs.lay(t, dir)
					k := mustOpen(t, quick(dir))
					either(what, entries(t, k))
					mustVerify(t, dir, len(want))
				}
				if !broken {
					break
				}
				struck++
			}
			if struck < 3 && f.only == "" {
				t.Errorf("only %d operations went wrong", struck)
			}
		})
	}
}

// P8: any changed byte of a rewritten segment, any cut of it, the old one in its place, or a missing one, is found.
func TestRewrittenIsVerified(t *testing.T) {
	t.Parallel()
	o := quick(t.TempDir())
	o.SegmentBytes = 300
	j := mustOpen(t, o)
	want := numbered(0, 20)
	for _, e := range want {
		appendBatch(t, j, e)
	}
	old := load(t, o.Dir)
	if err := j.Rewrite(0, shorten); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	fs := load(t, o.Dir)
	name := segmentName(0)
	dir := t.TempDir()
	bad := func(what string, b []byte) {
		t.Helper()
		c := fs.with(name, b)
		if b == nil {
			delete(c, name)
		}
		c.lay(t, dir)
		if _, problems := Verify(dir); len(problems) == 0 {
			t.Errorf("%s: not found", what)
		}
	}
	for i := range fs[name] {
		b := slices.Clone(fs[name])
		b[i] ^= 0x10
		bad(fmt.Sprintf("byte %d changed", i), b)
	}
	for n := range fs[name] {
		bad(fmt.Sprintf("cut to %d", n), fs[name][:n])
	}
	bad("longer", append(slices.Clone(fs[name]), 0))
	bad("missing", nil)
	// The old segment is as good as the new one to the journal; which it is, the tree and its records know.
	fs.with(name, old[name]).lay(t, dir)
	mustVerify(t, dir, len(want))
	// A rewritten segment is never the last.
	files{name: fs[name]}.lay(t, dir)
	if _, err := Open(quick(dir)); err == nil || !strings.Contains(err.Error(), "no segment follows it") {
		t.Errorf("the segments behind a rewritten one are gone: %v", err)
	}
}

// Readers of the same process, and of another, see each entry as it was or as it is, while segments are rewritten and entries added.
func TestRewriteBesideReaders(t *testing.T) {
	t.Parallel()
	o := quick(t.TempDir())
	o.SegmentBytes = 2000
	j := mustOpen(t, o)
	want := numbered(0, 300)
	for i := 0; i < len(want); i += 10 {
		appendBatch(t, j, want[i:i+10]...)
	}
	ro := o
	ro.ReadOnly = true
	other := mustOpen(t, ro)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, reader := range []*Journal{j, other} {
		wg.Go(func() {
			for {
				n := 0
				err := reader.Scan(0, func(index uint64, pos Position, payload []byte) error {
					short, _ := shorten(index, payload)
					if index < 300 && string(payload) != want[index] && string(payload) != string(short) {
						return fmt.Errorf("entry %d is %q", index, payload)
					}
					if p, _, err := j.Find(index, pos); err != nil || len(p) == 0 {
						return fmt.Errorf("find %d: %q, %w", index, p, err)
					}
					n++
					return nil
				})
				if err != nil || n < 300 {
					t.Errorf("%d entries: %v", n, err)
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
	for range 5 {
		for _, s := range j.Finished() {
			if err := j.Rewrite(s.First, shorten); err != nil {
				t.Error(err)
			}
			if _, _, err := appendOne(j, "more"); err != nil {
				t.Error(err)
			}
		}
	}
	close(done)
	wg.Wait()
}

// Whoever looks for an entry where it was finds it at any moment of its segment's first rewriting.
func TestFindBesideFirstRewrite(t *testing.T) {
	t.Parallel()
	o := quick(t.TempDir())
	o.SegmentBytes = 500
	j := mustOpen(t, o)
	want := numbered(0, 3000)
	var at []Position
	for i := 0; i < len(want); i += 10 {
		at = append(at, appendBatch(t, j, want[i:i+10]...)...)
	}
	for _, s := range j.Finished() {
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for index := s.Next - 1; ctx.Err() == nil; {
				if p, _, err := j.Find(index, at[index]); err != nil || len(p) == 0 {
					t.Errorf("entry %d: %q, %v", index, p, err)
					return
				}
			}
		})
		if err := j.Rewrite(s.First, shorten); err != nil {
			t.Error(err)
		}
		stop()
		wg.Wait()
	}
}
