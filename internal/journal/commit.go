package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	// reserveBytes is how much is filled with zeros ahead of the last frame. Measured on ext4 with 400-byte entries
	// against none: the median wait falls from 170 to 105 us with 1 outstanding and from 370 to 170 us with 64, CPU
	// an entry from 96 to 60 us and from 3.3 to 2.0 us. With 1 MiB the 99th percentile with 1 outstanding is worse.
	reserveBytes = 4 << 20
	// flushBytes bounds the memory of a batch: above it the frames are written and the batch goes on.
	flushBytes = 1 << 20
	pageBytes  = 4096
)

// Encoder makes one entry's payload: it appends it to dst and returns the longer slice, as append does. It is called
// once, by whoever commits, one at a time and in the order of Submit; what it does delays every entry behind it. After
// an error the entry's ticket has that error and the index goes to the next entry.
type Encoder interface {
	EncodeEntry(dst []byte, index uint64) ([]byte, error)
}

// A Ticket stands for one submitted entry.
type Ticket struct {
	journal *Journal
	done    chan struct{} // shared by the batch; nil when the ticket failed at Submit
	enc     Encoder
	index   uint64
	pos     Position
	err     error
}

// Wait returns when the entry is durable or will never be acknowledged, and does the writing itself when nobody else
// does. A nil error means that the entry survives a power cut. With an error the entry may, or may not, be found after
// a restart. Wait may be called more than once and from several goroutines.
func (t *Ticket) Wait() (index uint64, pos Position, err error) {
	if t.done != nil {
		t.journal.await(t.done)
	}
	return t.index, t.pos, t.err
}

// batch is a group of tickets that are released together.
type batch struct {
	tickets []*Ticket
	done    chan struct{}
}

// Submit queues an entry and never waits for the disk. Entries get their indexes in the order of Submit. Every
// error, also that of a full queue, is the ticket's. The entry is written when somebody waits, for it or for a later
// one, or at Close: whoever submits, waits.
func (j *Journal) Submit(e Encoder) *Ticket {
	t := new(Ticket)
	j.SubmitInto(t, e)
	return t
}

// SubmitInto is Submit with the caller's memory: t may be used again when Wait has returned without an error.
func (j *Journal) SubmitInto(t *Ticket, e Encoder) {
	*t = Ticket{journal: j, enc: e}
	j.mu.Lock()
	var refused error
	switch {
	case j.opt.ReadOnly:
		refused = ErrReadOnly
	case j.err != nil:
		refused = j.err
	case j.closed:
		refused = ErrClosed
	case j.queued >= MaxQueued:
		refused = fmt.Errorf("%w: %d entries wait for the disk", ErrFull, j.queued)
	}
	if refused != nil {
		j.mu.Unlock()
		*t = Ticket{err: refused}
		return
	}
	n := len(j.queue)
	if n == 0 || len(j.queue[n-1].tickets) >= j.opt.MaxBatch {
		j.queue = append(j.queue, j.newBatch())
		n++
	}
	b := j.queue[n-1]
	t.done = b.done
	b.tickets = append(b.tickets, t)
	j.queued++
	j.mu.Unlock()
}

// newBatch is called with mu held.
func (j *Journal) newBatch() *batch {
	b := &batch{}
	if n := len(j.spare); n > 0 {
		b, j.spare = j.spare[n-1], j.spare[:n-1]
	}
	b.done = make(chan struct{})
	j.pending = b.done
	return b
}

// Flush waits until every entry submitted before it is durable or failed, and returns Next and Err.
func (j *Journal) Flush() (next uint64, err error) {
	j.mu.Lock()
	pending := j.pending
	j.mu.Unlock()
	if pending != nil {
		j.await(pending)
	}
	return j.Next(), j.Err()
}

// await returns when done is closed. Of those who wait, one has the turn, and commits batch after batch until his own
// is done; the others sleep. A batch is what came while the one before was on its way to the disk, so it needs no
// timer, and a lone entry is written at once, by its owner, without waking anybody. (Measured against a goroutine that
// commits for all, with RADIUS readers that wait for what they have read: a third less CPU a decision.)
func (j *Journal) await(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		select {
		case <-done:
			return
		case j.turn <- struct{}{}:
			j.commitNext()
			<-j.turn
		}
	}
}

// commitNext commits the oldest batch; the caller has the turn. It reports whether there was one.
func (j *Journal) commitNext() bool {
	b := j.take()
	if b == nil {
		return false
	}
	n := len(b.tickets)
	first, next, err := j.commit(b)
	if err != nil {
		j.fail(b, err)
		return true
	}
	more := j.release(b)
	if j.opt.Committed != nil && next > first {
		j.opt.Committed(first, next)
	}
	if n > 1 && more {
		// Many submit: let those just released come back before the next batch is closed, else batches of few and
		// of all the others alternate. With 512 outstanding this doubles the entries a sync, from 226 to 430.
		runtime.Gosched()
	}
	return true
}

// take returns the oldest batch, or nil when none waits.
func (j *Journal) take() *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.queue) == 0 {
		return nil
	}
	b := j.queue[0]
	n := copy(j.queue, j.queue[1:])
	j.queue[n] = nil
	j.queue = j.queue[:n]
	j.queued -= len(b.tickets)
	return b
}

// release tells whoever waits for b, and reports whether more is queued.
func (j *Journal) release(b *batch) (more bool) {
	for i, t := range b.tickets {
		t.enc = nil
		b.tickets[i] = nil
	}
	close(b.done)
	b.tickets, b.done = b.tickets[:0], nil
	j.mu.Lock()
	if len(j.spare) < 2 { // one in the making, one on its way
		j.spare = append(j.spare, b)
	}
	more = len(j.queue) > 0
	j.mu.Unlock()
	return more
}

// fail ends the journal: this batch, all that wait and all that come get the error. The order is the safe one: the
// error is known before any ticket is released.
func (j *Journal) fail(b *batch, cause error) {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	switch {
	case errors.Is(cause, unix.ENOSPC), errors.Is(cause, unix.EDQUOT):
		err = fmt.Errorf("%w (hint: free space on the volume of %s, then restart)", err, j.opt.Dir)
	default:
		err = fmt.Errorf("%w (hint: check the disk of %s, then restart)", err, j.opt.Dir)
	}
	// Entries that were not acknowledged should not come back at the next start. This may fail too, and then
	// they do, whole or torn, which Open knows to read.
	_ = j.out.Truncate(j.end)

	j.mu.Lock()
	j.err = err
	waiting := append([]*batch{b}, j.queue...)
	j.queue, j.queued = nil, 0
	j.mu.Unlock()
	for _, b := range waiting {
		for _, t := range b.tickets {
			if t.err == nil {
				t.index, t.pos, t.err = 0, Position{}, err
			}
			t.enc = nil
		}
		close(b.done)
	}
}

// commit makes a batch durable: one write (more only for a very large batch) and one sync. Then readers may see it.
func (j *Journal) commit(b *batch) (first, next uint64, err error) {
	if j.end >= j.opt.SegmentBytes && j.end > segmentHeader {
		if err := j.roll(); err != nil {
			return 0, 0, err
		}
	}
	first = j.written
	next = first
	last := &j.segments[len(j.segments)-1] // only who has the turn changes the list
	off := j.end                           // of j.buf in the file
	j.buf = j.buf[:0]
	for _, t := range b.tickets {
		at := len(j.buf)
		longer, err := encodeFrame(j.buf, t.enc, next, uint32(next-first))
		if err != nil {
			t.err = err
			continue
		}
		j.buf = longer
		t.index, t.pos = next, Position{Segment: last.first, Offset: off + int64(at)}
		next++
		if len(j.buf) >= flushBytes {
			if err := j.write(off); err != nil {
				return 0, 0, err
			}
			off += int64(len(j.buf))
			j.buf = j.buf[:0]
		}
	}
	if next == first {
		return first, next, nil
	}
	if err := j.write(off); err != nil {
		return 0, 0, err
	}
	off += int64(len(j.buf))
	if err := j.opt.Sync(j.file); err != nil {
		return 0, 0, fmt.Errorf("sync %s: %w", j.path(), err)
	}
	j.end, j.written = off, next
	j.view.Lock()
	last.size = off
	j.next = next
	j.view.Unlock()
	return first, next, nil
}

// encodeFrame appends one frame to buf. On an error buf stays as it was.
func encodeFrame(buf []byte, e Encoder, index uint64, place uint32) ([]byte, error) {
	at := len(buf)
	var header [frameHeader]byte
	b, err := e.EncodeEntry(append(buf, header[:]...), index)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	length := len(b) - at - frameHeader
	if length < 0 {
		return nil, errors.New("encode entry: the encoder returned less than it was given")
	}
	if length > MaxPayload {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, length, MaxPayload)
	}
	sealFrame(b[at:], index, place)
	return b, nil
}

// write writes j.buf at off, and reserves space when it goes past the end of the file.
func (j *Journal) write(off int64) error {
	if len(j.buf) == 0 {
		return nil
	}
	need := off + int64(len(j.buf))
	if need > j.size && j.reserve {
		if err := j.extend(need); err != nil {
			return err
		}
	}
	if err := writeAt(j.out, j.buf, off); err != nil {
		return fmt.Errorf("write %d bytes to %s at byte %d: %w", len(j.buf), j.path(), off, err)
	}
	j.size = max(j.size, need)
	return nil
}

// extend fills the file with zeros up to reserveBytes behind need, but not past the segment's size. A disk without
// room for that may still have room for the entry.
func (j *Journal) extend(need int64) error {
	to := min(need+reserveBytes, j.opt.SegmentBytes)
	if to <= need {
		return nil
	}
	if j.zeros == nil {
		j.zeros = make([]byte, 256<<10)
	}
	for at := j.size; at < to; {
		z := j.zeros[:min(int64(len(j.zeros)), to-at)]
		err := writeAt(j.out, z, at)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
			j.reserve = false
			if err := j.out.Truncate(j.size); err != nil {
				return fmt.Errorf("cut %s to %d bytes: %w", j.path(), j.size, err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("reserve space in %s at byte %d: %w", j.path(), at, err)
		}
		at += int64(len(z))
	}
	j.size = to
	j.forget()
	return nil
}

// forget lets the kernel drop the cached pages behind the last frame: they are durable, and seldom read again. Without
// it every page that is written takes memory that was not in use before, from whoever else could cache something there.
// (Measured in a virtual machine whose host gives memory when it is first touched: 52 us of CPU for a commit of 40 KB
// against 136.)
func (j *Journal) forget() {
	end := j.end &^ (pageBytes - 1)
	if end > j.forgotten {
		_ = unix.Fadvise(int(j.file.Fd()), j.forgotten, end-j.forgotten, unix.FADV_DONTNEED) // advice
		j.forgotten = end
	}
}

// writeAt takes a short write without an error for what it is.
func writeAt(f segmentFile, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// path is that of the last segment; j.file still has the name under which it was made.
func (j *Journal) path() string {
	return filepath.Join(j.opt.Dir, segmentName(j.segments[len(j.segments)-1].first))
}

// trim gives back the reserved space behind the last frame.
func (j *Journal) trim() error {
	if j.size == j.end {
		return nil
	}
	if err := j.out.Truncate(j.end); err != nil {
		return fmt.Errorf("cut %s to %d bytes: %w", j.path(), j.end, err)
	}
	j.size = j.end
	if err := j.opt.Sync(j.file); err != nil {
		return fmt.Errorf("sync %s: %w", j.path(), err)
	}
	return nil
}

// roll finishes the last segment and starts the next. The header of the next vouches for the size of the last, so
// that is durable first.
func (j *Journal) roll() error {
	if err := j.trim(); err != nil {
		return err
	}
	done := j.file
	if err := j.startSegment(j.written, segment{first: j.segments[len(j.segments)-1].first, size: j.end}); err != nil {
		return err
	}
	if err := done.Close(); err != nil {
		return fmt.Errorf("close finished segment: %w", err)
	}
	return nil
}

// startSegment makes the segment that follows before. It gets its name when its header is durable, and entries when
// its name is.
func (j *Journal) startSegment(first uint64, before segment) error {
	s := segment{first: first, size: segmentHeader, prev: before.first, sized: before.size}
	path := filepath.Join(j.opt.Dir, segmentName(first))
	f, err := os.OpenFile(path+unfinished, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make segment: %w", err)
	}
	out := j.opt.wrap(f)
	err = writeAt(out, s.appendHeader(nil), 0)
	if err == nil {
		err = j.opt.Sync(f)
	}
	if err == nil {
		err = os.Rename(path+unfinished, path)
	}
	if err == nil {
		err = j.opt.syncDir(j.dir)
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("make segment %s: %w", path, err)
	}
	j.file, j.out, j.reserve = f, out, true
	j.end, j.size, j.forgotten = segmentHeader, segmentHeader, 0
	j.written = first
	j.view.Lock()
	j.segments = append(j.segments, s)
	j.view.Unlock()
	return nil
}
