package siem

import (
	"bufio"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/audit"
)

// session is what one connection has been given, and what of it has arrived.
type session struct {
	f      *Forwarder
	raw    *counted
	repeat uint64 // records below were sent over an earlier connection
	moved  chan struct{}

	// mu is held while writing, which may last as long as the write's deadline. f.mu may be taken under it.
	mu      sync.Mutex
	out     *bufio.Writer
	message []byte
	frame   []byte
	handed  uint64 // the first record that was not written; what out holds was

	marks  []mark // of settle alone
	marked uint64 // up to where there were marks; of settle alone
}

// mark is a point of the stream: what was before it, and when the receiver's kernel had it.
type mark struct {
	next   uint64
	offset uint64 // bytes on the wire
	acked  time.Time
}

// maxMarks bounds those that wait.
const maxMarks = 64

// send writes one record, and flushes when no other is there yet.
func (s *session) send(ctx context.Context, rec *audit.Record) error {
	for rec.Seq >= s.f.at()+Window {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.moved:
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.message = s.f.encoder.AppendRecord(s.message[:0], rec)
	if err := s.put(s.message); err != nil {
		return err
	}
	s.handed = rec.Seq + 1
	f := s.f
	f.mu.Lock()
	f.counters.sent++
	if rec.Seq < s.repeat {
		f.counters.repeated++
	}
	f.mu.Unlock()
	if s.handed < f.o.Log.Next() {
		return nil // the next one flushes
	}
	return s.flush(rec.Node)
}

// put needs s.mu.
func (s *session) put(message []byte) error {
	s.frame = appendFrame(s.frame[:0], message)
	_, err := s.out.Write(s.frame)
	return err
}

// flush also writes the checkpoint that waits. It needs s.mu.
func (s *session) flush(node string) error {
	if size, note := s.f.due(s.handed); note != "" {
		s.message = s.f.encoder.AppendCheckpoint(s.message[:0], node, s.f.o.Now(), size, note)
		if err := s.put(s.message); err != nil {
			return err
		}
	}
	return s.out.Flush()
}

// settle moves the cursor behind what has arrived, until ctx ends.
func (s *session) settle(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var saved time.Time
	stored := s.f.at()
	save := func(next uint64) bool {
		err := s.f.o.Cursors.SetCursor(context.WithoutCancel(ctx), CursorName(s.f.o.Name), next)
		if err != nil {
			cancel(fatalError{err})
		}
		return err == nil
	}
	for {
		select {
		case <-ctx.Done():
			if next := s.f.at(); next > stored {
				save(next)
			}
			return
		case <-tick.C:
		}
		if err := s.mark(); err != nil {
			cancel(err)
			return
		}
		next := s.arrived(time.Now())
		if next <= s.f.at() {
			next = s.f.at()
		} else {
			s.f.mu.Lock()
			s.f.cursor = next
			s.f.mu.Unlock()
			select {
			case s.moved <- struct{}{}:
			default:
			}
		}
		if next > stored && time.Since(saved) >= saveEvery {
			if !save(next) {
				return
			}
			stored, saved = next, time.Now()
		}
	}
}

// mark notes where the stream is, when nothing waits to be written. A write that hangs holds s.mu: then there is nothing new to note.
func (s *session) mark() error {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	if err := s.flush(s.node()); err != nil {
		return err
	}
	if s.handed > s.marked && len(s.marks) < maxMarks {
		s.marks = append(s.marks, mark{next: s.handed, offset: s.raw.written.Load()})
		s.marked = s.handed
	}
	return nil
}

// node names the gateway in checkpoints that are sent while no record is.
func (s *session) node() string { return s.f.o.Node }

// arrived returns the first record of which it is not sure that the receiver has it.
func (s *session) arrived(now time.Time) (next uint64) {
	waiting, known := s.raw.unacknowledged()
	acked := s.raw.written.Load()
	acked -= min(acked, waiting)
	for len(s.marks) > 0 {
		m := &s.marks[0]
		if m.acked.IsZero() || now.Sub(m.acked) < s.f.o.settle {
			break
		}
		next = m.next
		s.marks = s.marks[1:]
	}
	for i := range s.marks {
		if m := &s.marks[i]; m.acked.IsZero() && (!known || m.offset <= acked) {
			m.acked = now
		}
	}
	return next
}

// counted counts the bytes that were handed to the kernel.
type counted struct {
	net.Conn
	written atomic.Uint64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(uint64(n))
	return n, err
}

// unacknowledged is how many bytes the other end's kernel has not acknowledged (SIOCOUTQ, tcp(7)).
func (c *counted) unacknowledged() (n uint64, known bool) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return 0, false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, false
	}
	var v int
	if e := rc.Control(func(fd uintptr) { v, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }); e != nil || err != nil || v < 0 {
		return 0, false
	}
	return uint64(v), true
}
