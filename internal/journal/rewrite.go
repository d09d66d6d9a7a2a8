package journal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
)

// Finished is a segment to which nothing is added any more.
type Finished struct {
	First, Next uint64 // its entries are those from First on and below Next
	Size        int64  // in bytes
	Rewritten   bool
}

// Finished lists the finished segments, the oldest first.
func (j *Journal) Finished() []Finished {
	j.view.RLock()
	defer j.view.RUnlock()
	var all []Finished
	for i := 0; i+1 < len(j.segments); i++ {
		s := j.segments[i]
		all = append(all, Finished{First: s.first, Next: j.segments[i+1].first, Size: s.size, Rewritten: s.was > 0})
	}
	return all
}

// Finish ends the last segment, if there is anything in it, so that it can be rewritten, and begins the next. An error is
// final, as that of a commit is.
func (j *Journal) Finish() error {
	if j.opt.ReadOnly {
		return fmt.Errorf("finish segment: %w", ErrReadOnly)
	}
	j.rewriting.Lock() // before the turn, which Close keeps, as Close does
	defer j.rewriting.Unlock()
	j.mu.Lock()
	closed, failed := j.closed, j.err
	j.mu.Unlock()
	if failed != nil || closed {
		return fmt.Errorf("finish segment: %w", cmp.Or(failed, ErrClosed))
	}
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	if err := j.Err(); err != nil || j.end <= segmentHeader {
		return err
	}
	if err := j.roll(); err != nil {
		j.fail(&batch{done: make(chan struct{})}, err)
		return j.Err()
	}
	return nil
}

// Rewrite replaces a finished segment, the one whose first entry is first, by one whose entries have the payloads that fn
// returns for them; indexes and batches stay. The payload that fn gets is valid during the call, and may be returned. A
// crash leaves the old segment or the new one. Readers that have the old one open read on in it; positions in it, and the
// space that it took, are given up. Rewrite runs beside appends and reads, and one at a time.
//
// Errors do not end the journal: until the new segment has its name, the old one is what it was.
func (j *Journal) Rewrite(first uint64, fn func(index uint64, payload []byte) ([]byte, error)) error {
	j.rewriting.Lock()
	defer j.rewriting.Unlock()
	if j.opt.ReadOnly {
		return fmt.Errorf("rewrite segment: %w", ErrReadOnly)
	}
	j.mu.Lock()
	closed, failed := j.closed, j.err
	j.mu.Unlock()
	if failed != nil || closed {
		return fmt.Errorf("rewrite segment: %w", cmp.Or(failed, ErrClosed))
	}
	old, end, ok := j.finishedAt(first)
	if !ok {
		return fmt.Errorf("rewrite segment: %s is not a finished segment", segmentName(first))
	}
	path := filepath.Join(j.opt.Dir, segmentName(first))
	s, err := j.writeAnew(path+unfinished, old, end, fn)
	if err == nil {
		err = j.replace(s, path)
	}
	if err != nil {
		_ = os.Remove(path + unfinished)
		return fmt.Errorf("rewrite segment %s: %w", path, err)
	}
	if err := j.syncFolder(); err != nil {
		return fmt.Errorf("rewrite segment %s: %w", path, err)
	}
	return nil
}

// replace gives the new segment its name. Who finds the new file also finds that it was rewritten.
func (j *Journal) replace(s segment, path string) error {
	j.view.Lock()
	defer j.view.Unlock()
	if err := os.Rename(path+unfinished, path); err != nil {
		return err
	}
	i := sort.Search(len(j.segments), func(i int) bool { return j.segments[i].first >= s.first })
	j.segments[i] = s // in its place: a commit points to the last one
	return nil
}

// finishedAt is the finished segment that begins with first, and the index after its last entry.
func (j *Journal) finishedAt(first uint64) (s segment, end uint64, ok bool) {
	j.view.RLock()
	defer j.view.RUnlock()
	i := sort.Search(len(j.segments), func(i int) bool { return j.segments[i].first >= first })
	if i+1 >= len(j.segments) || j.segments[i].first != first {
		return s, 0, false
	}
	return j.segments[i], j.segments[i+1].first, true
}

// writeAnew writes the new segment beside the old one, through to the disk.
func (j *Journal) writeAnew(path string, old segment, end uint64, fn func(uint64, []byte) ([]byte, error)) (s segment, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := j.opt.wrap(f)
	s = segment{first: old.first, prev: old.prev, sized: old.sized, was: old.finished(), size: rewrittenHeader}
	var buf []byte
	flush := func() error {
		err := writeAt(out, buf, s.size)
		s.size += int64(len(buf))
		buf = buf[:0]
		return err
	}
	err = scanSegment(j.opt.Dir, old, end, func(fr frame, _ int64) error {
		payload, err := fn(fr.index, fr.payload)
		if err != nil {
			return err
		}
		if len(payload) > MaxPayload {
			return fmt.Errorf("entry %d: %w: %d bytes, at most %d", fr.index, ErrTooLarge, len(payload), MaxPayload)
		}
		at := len(buf)
		buf = append(buf, make([]byte, frameHeader)...)
		buf = append(buf, payload...)
		sealFrame(buf[at:], fr.index, fr.place)
		if len(buf) < flushBytes {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = writeAt(out, s.appendHeader(nil), 0)
	}
	if err == nil {
		err = j.opt.Sync(f)
	}
	return s, err
}

var errFound = errors.New("found")

// Find is Read for somebody who knows the entry's index, and whose position may be from before a Rewrite. It returns where
// the entry is now.
func (j *Journal) Find(index uint64, pos Position) (payload []byte, now Position, err error) {
	have, payload, err := j.Read(pos)
	if err == nil && have == index {
		return payload, pos, nil
	}
	s, end, ok := j.finishedAt(pos.Segment)
	if !ok || s.was == 0 || index < s.first || index >= end {
		if err == nil {
			err = fmt.Errorf("read entry %d: entry %d stands at byte %d of %s", index, have, pos.Offset, segmentName(pos.Segment))
		}
		return nil, pos, err
	}
	err = scanSegment(j.opt.Dir, s, end, func(fr frame, at int64) error {
		if fr.index < index {
			return nil
		}
		payload, now = slices.Clone(fr.payload), Position{Segment: s.first, Offset: at}
		return errFound
	})
	if errors.Is(err, errFound) {
		return payload, now, nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return nil, pos, fmt.Errorf("read entry %d: %w", index, err)
}

// ScanFrom is Scan for somebody who knows where the first entry stands, so that nothing of its segment before it is read. Where
// the segment was rewritten since, it is Scan.
func (j *Journal) ScanFrom(from uint64, pos Position, fn func(index uint64, pos Position, payload []byte) error) error {
	s, end, ok := j.finishedAt(pos.Segment)
	last := false
	if !ok && !j.opt.ReadOnly {
		s, end, ok = j.last(pos.Segment)
		last = ok
	}
	if !ok || s.was > 0 || from < s.first || from >= end || pos.Offset < segmentHeader || pos.Offset >= s.size {
		return j.Scan(from, fn)
	}
	next, begun, err := j.scanPart(s, end, from, pos, fn)
	if err != nil {
		return err
	}
	if !begun {
		return j.Scan(from, fn)
	}
	if last || next >= j.Next() { // what became durable since is not visited
		return nil
	}
	return j.Scan(next, fn)
}

// last is the segment in use, if it begins with first, as far as it is durable.
func (j *Journal) last(first uint64) (s segment, end uint64, ok bool) {
	j.view.RLock()
	defer j.view.RUnlock()
	n := len(j.segments)
	if n == 0 || j.segments[n-1].first != first {
		return s, 0, false
	}
	return j.segments[n-1], j.next, true
}

// scanPart reads a finished segment from an entry on; begun is false where that is not where it was said to be.
func (j *Journal) scanPart(s segment, end, from uint64, pos Position, fn func(uint64, Position, []byte) error) (next uint64, begun bool, err error) {
	f, err := os.Open(filepath.Join(j.opt.Dir, segmentName(s.first)))
	if err != nil {
		return from, false, fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	now, err := headerOf(f, s.first)
	if err != nil || now.was > 0 { // rewritten since
		return from, false, err
	}
	r := newFrameReader(f, s)
	r.off, r.bufAt, r.index = pos.Offset, pos.Offset, from
	head, err := r.peek(frameHeader)
	if err != nil {
		return from, false, err
	}
	if len(head) == frameHeader {
		r.place = binary.LittleEndian.Uint32(head[12:])
	}
	for r.index < end {
		at := r.off
		fr, what, err := r.next()
		if !begun && (err == io.EOF || what != "") {
			return from, false, nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return r.index, true, fmt.Errorf("%s: %w", f.Name(), err)
		}
		if what != "" {
			return r.index, true, &Damage{File: segmentName(s.first), Offset: at, Entry: int64(r.index), What: what}
		}
		begun = true
		if err := fn(fr.index, Position{Segment: s.first, Offset: at}, fr.payload); err != nil {
			return r.index, true, err
		}
	}
	return end, true, nil
}

// Snapshots tells, of each snapshot that is whole, the index of the first entry that it does not hold, in ascending order.
func (j *Journal) Snapshots() ([]uint64, error) {
	names, err := listSnapshots(j.opt.Dir)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, name := range names {
		if next, _, err := readSnapshot(j.opt.Dir, name); err == nil {
			all = append(all, next)
		}
	}
	return all, nil
}
