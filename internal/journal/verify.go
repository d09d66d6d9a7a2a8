package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	// A writer at work has a batch under way that a reader may see in part. Verify looks again this often, with
	// this pause, before it calls that a torn tail.
	tailLooks = 20
	tailPause = 5 * time.Millisecond
)

// Report is what Verify saw.
type Report struct {
	// Entries counts the whole entries from index 0 to the first problem, or to the end. A log that was cut at
	// its end is a right log with fewer entries: compare this with a checkpoint.
	Entries   uint64
	Segments  int
	Snapshots int
	Bytes     int64 // in segments and snapshots
}

// Verify reads every byte of the journal in dir and changes nothing. It returns all that is wrong, in the order of the
// files; most problems are a *Damage. It may run beside a writer.
//
// It accounts for each byte of the segments and snapshots: a change, a removal or an addition anywhere in them is a
// problem, or leaves fewer entries. The exception is the space that a live or killed writer has reserved behind
// the last entry: less of it is no problem, anything but zeros in it is. A missing snapshot is no problem either, for
// the entries make it again. Other files are ignored.
func Verify(dir string) (Report, []error) {
	var r Report
	// The snapshots first: what they hold is in the segments that are read later, also when a writer adds to them.
	held, broken := r.verifySnapshots(dir)
	segments, problems := listSegments(dir)
	for look := 1; len(problems) > 0 && look < listLooks; look++ {
		segments, problems = listSegments(dir)
	}
	r.Segments = len(segments)
	var reached uint64
	whole := len(problems) == 0
	for i, s := range segments {
		r.Bytes += s.size
		count := func(f frame, _ int64) error {
			if whole && f.index == r.Entries {
				r.Entries++
			}
			reached = f.index + 1
			return nil
		}
		var err error
		if i+1 < len(segments) {
			err = scanSegment(dir, s, segments[i+1].first, count)
		} else {
			err = verifyLast(dir, s, count)
		}
		if err != nil {
			whole = false
			problems = append(problems, err)
		}
	}
	if held > reached {
		broken = append(broken, fmt.Errorf("%s: %w: %d entries against %d", snapshotName(held), ErrShorter, reached, held))
	}
	return r, append(problems, broken...)
}

// verifySnapshots returns the index that the newest whole snapshot reaches.
func (r *Report) verifySnapshots(dir string) (held uint64, problems []error) {
	names, err := listSnapshots(dir)
	if err != nil {
		return 0, []error{err}
	}
	for _, name := range names {
		next, state, err := readSnapshot(dir, name)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue // the writer has replaced it since
		case err != nil:
			problems = append(problems, err)
		}
		held = max(held, next)
		r.Snapshots++
		r.Bytes += snapshotHeader + int64(len(state))
	}
	return held, problems
}

// verifyLast reads the last segment. Its torn tail is a problem unless a writer is about to finish it.
func verifyLast(dir string, s segment, fn func(frame, int64) error) error {
	path := filepath.Join(dir, segmentName(s.first))
	t, err := scanLast(dir, s, fn)
	for look := 1; err == nil && t.torn > 0 && look < tailLooks && BeingWritten(dir); look++ {
		time.Sleep(tailPause)
		var info os.FileInfo
		if info, err = os.Stat(path); err != nil {
			return fmt.Errorf("stat segment: %w", err)
		}
		s.size = info.Size()
		seen := t.next
		t, err = scanLast(dir, s, func(f frame, at int64) error {
			if f.index < seen {
				return nil
			}
			return fn(f, at)
		})
	}
	if err != nil {
		return err
	}
	if t.torn > 0 {
		return &Damage{
			File: segmentName(s.first), Offset: t.end, Entry: int64(t.next), Tail: true,
			What: fmt.Sprintf("%s: %d bytes of an unfinished write", t.what, t.torn),
		}
	}
	return nil
}
