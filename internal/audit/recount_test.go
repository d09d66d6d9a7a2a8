package audit

import (
	"context"
	"errors"
	"os"
	"testing"
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
