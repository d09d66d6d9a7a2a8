package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"sallyport/internal/journal"
)

// stretchHeight is the height of the subtrees that are computed apart: 2^16 records each.
const stretchHeight = 16

// ranks are the roots of complete subtrees, side by side, each lower than the one before.
type ranks struct {
	height []int
	hash   []tlog.Hash
}

// push adds the root of a complete subtree at the right. Subtrees grow no higher than most.
func (r *ranks) push(height int, h tlog.Hash, most int) {
	for n := len(r.height); n > 0 && r.height[n-1] == height && height < most; n = len(r.height) {
		h = tlog.NodeHash(r.hash[n-1], h)
		height++
		r.height, r.hash = r.height[:n-1], r.hash[:n-1]
	}
	r.height, r.hash = append(r.height, height), append(r.hash, h)
}

// root is that of the tree over all (RFC 6962 section 2.1).
func (r *ranks) root() tlog.Hash {
	n := len(r.hash)
	if n == 0 {
		return new(tree).root()
	}
	h := r.hash[n-1]
	for i := n - 2; i >= 0; i-- {
		h = tlog.NodeHash(r.hash[i], h)
	}
	return h
}

// Recount computes the tree anew from what is on the disk, on so many processors, and compares it with the newest checkpoint that is
// stored: so it proves that the records are those that were signed, byte by byte. It does not look at their form, nor at steps that
// were used twice, as VerifyDir does, which takes many times as long. It may run beside appends.
func (l *Log) Recount(ctx context.Context, workers int) (Report, error) {
	return l.recount(ctx, workers, stretchHeight)
}

func (l *Log) recount(ctx context.Context, workers, height int) (Report, error) {
	if _, err := l.Checkpoint(); err != nil {
		return Report{}, err
	}
	signed, err := l.file.load(l.o.Verifier, false)
	if err != nil {
		return Report{}, err
	}
	return l.recountTo(ctx, signed[0], workers, height)
}

// recountTo compares with what a checkpoint signs.
func (l *Log) recountTo(ctx context.Context, want stored, workers, height int) (Report, error) {
	stretches := want.size>>height + 1 // the last may be empty
	workers = max(1, min(workers, int(stretches)))
	parts := make([]ranks, workers)
	erased := make([]uint64, workers)
	errs := make([]error, workers)
	var wait sync.WaitGroup
	for i := range workers {
		from := stretches * uint64(i) / uint64(workers) << height
		to := min(stretches*uint64(i+1)/uint64(workers)<<height, want.size)
		wait.Go(func() { erased[i], errs[i] = l.subtrees(ctx, from, to, height, &parts[i]) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return Report{}, err
	}
	all := ranks{}
	r := Report{Size: want.size, Root: want.root}
	for i := range parts {
		for j, h := range parts[i].hash {
			all.push(parts[i].height[j], h, 64)
		}
		r.Erased += erased[i]
	}
	r.Records = r.Size - r.Erased
	if got := all.root(); got != want.root {
		return r, &BadRecord{Seq: 0, Through: max(want.size, 1) - 1, What: fmt.Sprintf(
			"their root is %s, and %s signs %s: at least one was changed, replaced, added or removed", got, want.path, want.root)}
	}
	return r, nil
}

// lookEvery is how many records lie between two looks at whether somebody still waits.
const lookEvery = 1 << 12

// subtrees computes those of the records from to before to. From is where a subtree of the height begins, and not necessarily a
// higher one.
func (l *Log) subtrees(ctx context.Context, from, to uint64, height int, into *ranks) (erased uint64, err error) {
	if from >= to {
		return 0, nil
	}
	hasher, next := newLeafHasher(), from
	err = l.journal.Scan(from, func(index uint64, _ journal.Position, payload []byte) error {
		switch {
		case index >= to:
			return errStop
		case index != next:
			return badRecord(next, "in its place is entry %d", index)
		case index%lookEvery == 0 && ctx.Err() != nil:
			return ctx.Err()
		}
		next++
		e, err := parseEntry(payload)
		if err != nil {
			return badRecord(index, "%v", err)
		}
		if e.erased {
			erased++
		}
		into.push(0, nodeOf(e.leafOf(&hasher)), height)
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return erased, verifyError(l.o.Dir, err)
	}
	if next < to {
		return erased, badRecord(next, "it is missing: the checkpoint signs %d records", to)
	}
	return erased, nil
}
