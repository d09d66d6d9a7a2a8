package journal

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
)

// readAhead is read at once for one entry: most entries fit.
const readAhead = 1 << 10

// listLooks is how often a folder is listed beside a writer before a segment that is not there counts as missing.
const listLooks = 3

// Read returns the entry at pos, which a ticket or Scan told. The payload is the caller's. In the writer's process it
// sees durable entries only. It is safe beside appends. After Rewrite, an entry of that segment has another place: see Find.
func (j *Journal) Read(pos Position) (index uint64, payload []byte, err error) {
	limit, known := j.limit(pos)
	if !j.opt.ReadOnly && (!known || pos.Offset >= limit) || pos.Offset < segmentHeader {
		return 0, nil, fmt.Errorf("read entry: %s has no entry at byte %d", segmentName(pos.Segment), pos.Offset)
	}
	f, err := os.Open(filepath.Join(j.opt.Dir, segmentName(pos.Segment)))
	if err != nil {
		return 0, nil, fmt.Errorf("read entry: %w", err)
	}
	defer f.Close()
	b := make([]byte, readAhead)
	n, err := f.ReadAt(b, pos.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, fmt.Errorf("read %s at byte %d: %w", f.Name(), pos.Offset, err)
	}
	b = b[:n]
	if size, ok := frameSize(b); ok && size > readAhead {
		b = make([]byte, size)
		n, err := f.ReadAt(b, pos.Offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, fmt.Errorf("read %s at byte %d: %w", f.Name(), pos.Offset, err)
		}
		b = b[:n]
	}
	fr, what := parseFrame(b)
	if what == "" && fr.index < pos.Segment {
		what = fmt.Sprintf("entry %d does not belong here", fr.index)
	}
	if what != "" {
		return 0, nil, &Damage{File: segmentName(pos.Segment), Offset: pos.Offset, Entry: NoEntry, What: what}
	}
	return fr.index, fr.payload, nil
}

// limit is the number of durable bytes in the segment of pos.
func (j *Journal) limit(pos Position) (size int64, known bool) {
	j.view.RLock()
	defer j.view.RUnlock()
	i := sort.Search(len(j.segments), func(i int) bool { return j.segments[i].first >= pos.Segment })
	if i == len(j.segments) || j.segments[i].first != pos.Segment {
		return 0, false
	}
	return j.segments[i].size, true
}

// Scan calls fn for each durable entry from index from on, in order, and stops at fn's first error, which it
// returns. The payload is valid during the call. Entries that become durable after Scan began are not visited. It is
// safe beside appends, and fn may call Submit, but not wait for what Close waits for.
//
// A read-only journal looks at the folder anew, and cannot tell entries that are durable from those that the
// writer has written but not synced.
func (j *Journal) Scan(from uint64, fn func(index uint64, pos Position, payload []byte) error) error {
	if j.opt.ReadOnly {
		return j.scanReadOnly(from, fn)
	}
	j.view.RLock()
	next := j.next
	segments := slices.Clone(j.segments)
	j.view.RUnlock()
	if from > next {
		return beyond(from, next)
	}
	for i, s := range segments {
		end := next
		if i+1 < len(segments) {
			end = segments[i+1].first
		}
		if end <= from {
			continue
		}
		if err := scanSegment(j.opt.Dir, s, end, visit(s, from, fn)); err != nil {
			return err
		}
	}
	return nil
}

func beyond(from, next uint64) error {
	return fmt.Errorf("scan from entry %d: the journal has %d", from, next)
}

func visit(s segment, from uint64, fn func(uint64, Position, []byte) error) func(frame, int64) error {
	return func(f frame, at int64) error {
		if f.index < from {
			return nil
		}
		return fn(f.index, Position{Segment: s.first, Offset: at}, f.payload)
	}
}

// scanSegment reads a segment of which every byte up to s.size is known to be durable, and whose last entry comes
// before end.
func scanSegment(dir string, s segment, end uint64, fn func(frame, int64) error) error {
	f, err := os.Open(filepath.Join(dir, segmentName(s.first)))
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	if s, err = asItIs(f, s); err != nil {
		return err
	}
	r := newFrameReader(f, s)
	for {
		at := r.off
		fr, what, err := r.next()
		if err == io.EOF {
			if at != s.size || r.index != end {
				return &Damage{
					File: segmentName(s.first), Offset: at, Entry: int64(r.index),
					What: fmt.Sprintf("ends before entry %d, but must hold those before %d", r.index, end),
				}
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		if what != "" {
			return &Damage{File: segmentName(s.first), Offset: at, Entry: int64(r.index), What: what}
		}
		if err := fn(fr, at); err != nil {
			return err
		}
	}
}

// asItIs is a segment as its open file says: it may have been rewritten since it was listed.
func asItIs(f *os.File, s segment) (segment, error) {
	now, err := headerOf(f, s.first)
	switch {
	case err != nil:
		return s, err
	case now.was == 0 && s.was == 0: // what of the file is durable, the list knows
		return s, nil
	case now.finished() != s.finished():
		return s, &Damage{
			File: segmentName(s.first), Offset: min(now.size, s.size), Entry: int64(s.first),
			What: fmt.Sprintf("has %d bytes, but had %d when it was finished", now.finished(), s.finished()),
		}
	}
	return now, nil
}

// scanLast reads the last segment, which may have a torn tail.
func scanLast(dir string, s segment, fn func(frame, int64) error) (tail, error) {
	f, err := os.Open(filepath.Join(dir, segmentName(s.first)))
	if err != nil {
		return tail{}, fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	now, err := headerOf(f, s.first)
	if err != nil {
		return tail{}, err
	}
	if now.was > 0 { // since it was listed, it was finished and rewritten
		s = now
	}
	return scanTail(f, s, fn)
}

func (j *Journal) scanReadOnly(from uint64, fn func(uint64, Position, []byte) error) error {
	segments, err := listLive(j.opt.Dir)
	if err != nil {
		return err
	}
	last := len(segments) - 1
	for i, s := range segments[:max(last, 0)] {
		if end := segments[i+1].first; end > from {
			if err := scanSegment(j.opt.Dir, s, end, visit(s, from, fn)); err != nil {
				return err
			}
		}
	}
	var t tail
	if last >= 0 {
		if t, err = scanLast(j.opt.Dir, segments[last], visit(segments[last], from, fn)); err != nil {
			return err
		}
		segments[last].size = t.end
	}
	j.view.Lock()
	j.segments, j.next = segments, t.next
	j.view.Unlock()
	if from > t.next && from != math.MaxUint64 {
		return beyond(from, t.next)
	}
	return nil
}

// refresh makes a read-only journal see how long the log is now.
func (j *Journal) refresh() error {
	return j.scanReadOnly(math.MaxUint64, func(uint64, Position, []byte) error { return nil })
}

// listLive lists the segments beside a writer. A folder that changes while it is read can seem to lack a segment, so a
// problem counts when it stays.
func listLive(dir string) (segments []segment, err error) {
	for range listLooks {
		var problems []error
		if segments, problems = listSegments(dir); len(problems) == 0 {
			return segments, nil
		}
		err = problems[0]
	}
	return nil, err
}
