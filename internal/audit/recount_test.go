package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Recount finds the root that the log has, whatever its size and however it is divided; and another root is a fault.
func TestRecount(t *testing.T) {
	f := newFixture(t, newKeys(t, "gw1"))
	l := f.open(t)
	defer closeLog(t, l)
	for n := range 40 {
		if n > 0 {
			appendRecords(t, l, n-1, 1)
		}
		for _, workers := range []int{1, 2, 3, 7} {
			for _, height := range []int{0, 1, 3, 16} {
				r, err := l.recount(t.Context(), workers, height)
				if err != nil || r.Size != uint64(n) || r.Records != uint64(n) {
					t.Fatalf("%d records, %d workers, height %d: %+v, %v", n, workers, height, r, err)
				}
			}
		}
	}
	// The records are another log's than the one that was signed.
	other := newFixture(t, keys{f.o.Signer, f.o.Verifier})
	o := other.open(t)
	appendRecords(t, o, 0, 39)
	closeLog(t, o)
	b, err := os.ReadFile(other.o.CheckpointFile)
	if err != nil {
		t.Fatal(err)
	}
	l.file = checkpointFile(other.o.CheckpointFile)
	_, err = l.Recount(t.Context(), 2)
	if err != nil {
		t.Fatalf("it stores its own checkpoint before it looks: %v", err)
	}
	l.recountAgainst(t, string(b))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Recount(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
}

// recountAgainst holds that a checkpoint of this log's key over other records of the same number is found out.
func (l *Log) recountAgainst(t *testing.T, checkpoint string) {
	t.Helper()
	h, err := openCheckpoint(checkpoint, l.o.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	bad := (*BadRecord)(nil)
	if _, err := l.recountTo(t.Context(), stored{h, "another's"}, 2, 3); !errors.As(err, &bad) {
		t.Errorf("other records of the same number: %v", err)
	}
}

// TestRecountOfErased: what is erased counts with its leaf; a byte that was changed is found, whoever made the checksums right.
func TestRecountOfErased(t *testing.T) {
	a := newAging(t, newKeys(t, "log"), 60)
	a.snapshots(t)
	if _, err := a.log.Erase(t.Context(), a.erasure(a.first.Add(40*time.Hour))); err != nil {
		t.Fatal(err)
	}
	size := a.log.Next()
	recount := func(workers int) (Report, error) { return a.log.recount(t.Context(), workers, 3) }
	for workers := range 8 {
		r, err := recount(workers)
		if err != nil || r.Size != size || r.Erased != 40 || r.Records != size-40 {
			t.Fatalf("%d workers: %+v, %v", workers, r, err)
		}
	}
	segments := a.log.journal.Finished()
	for _, c := range []struct {
		what string
		at   uint64
	}{{"a leaf of an erased record", 5}, {"a byte of a record", segments[len(segments)-1].First}} {
		change := func() {
			t.Helper()
			err := a.log.journal.Rewrite(a.segmentOf(c.at), func(index uint64, payload []byte) ([]byte, error) {
				if index == c.at {
					payload[len(payload)-3] ^= 1
				}
				return payload, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		change()
		bad := (*BadRecord)(nil)
		if _, err := recount(3); !errors.As(err, &bad) {
			t.Errorf("%s: %v", c.what, err)
		}
		change() // back
		if _, err := recount(3); err != nil {
			t.Errorf("%s, put back: %v", c.what, err)
		}
	}
	// The checksums are wrong: it can tell which record.
	last := segments[len(segments)-1]
	files, err := filepath.Glob(filepath.Join(a.o.Dir, fmt.Sprintf("*%d.seg", last.First)))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-3] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := (*BadRecord)(nil)
	if _, err := recount(3); !errors.As(err, &bad) || bad.Seq != last.Next-1 {
		t.Errorf("a changed byte in the file: %v", err)
	}
	_ = a.log.Close()
}
