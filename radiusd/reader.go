package radiusd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// readBatch is how many datagrams one system call may bring.
	readBatch = 64
	// askBatch bounds the requests that are judged together, and so share one write of the log. What else comes waits
	// in the socket's buffer, which is bounded too.
	askBatch = 512
)

// reader is what one call of Serve works with.
type reader struct {
	batch
	ln       *listener
	slots    [readBatch]*request // the memory that messages are read into
	messages [readBatch]ipv4.Message
	packets  [readBatch][]byte
}

func newReader(s *Server, ln *listener, q *queue) *reader {
	b := &reader{batch: batch{Server: s, road: ln, queue: q, tools: s.tools.Get().(*toolbox)}, ln: ln}
	for i := range b.slots {
		b.renew(i)
	}
	return b
}

// renew gives message i new memory.
func (b *reader) renew(i int) {
	r := b.requests.Get().(*request)
	b.slots[i], b.packets[i] = r, r.buf[:]
	b.messages[i].Buffers = b.packets[i : i+1]
	if b.ln.anyAddr {
		b.messages[i].OOB = r.control[:]
	}
}

func (b *reader) close() {
	for _, r := range b.slots {
		b.requests.Put(r)
	}
	b.Server.tools.Put(b.tools)
}

// run reads and answers until ctx ends. Errors of the socket may pass, so it rests, and tries again.
func (b *reader) run(ctx context.Context) error {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		n, err := b.ln.wait(b.messages[:])
		switch {
		case err == nil:
			pause = 0
			for b.take(n); n == readBatch && len(b.asked) < askBatch; b.take(n) {
				n = b.ln.more(b.messages[:])
			}
			b.answerAll()
		case errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, unix.EBADF):
			return fmt.Errorf("read from %v: %w", b.ln.addr, err)
		default:
			pause = min(max(2*pause, time.Millisecond), maxPause)
			b.log.Error("radius socket", "addr", b.ln.addr.String(), "err", err, "retry_in", pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
	return nil
}

// take admits the first n messages.
func (b *reader) take(n int) {
	now := b.now()
	for i := range b.messages[:n] {
		m, r := &b.messages[i], b.slots[i]
		to, ok := m.Addr.(*net.UDPAddr)
		if !ok {
			continue // no source, nobody to answer
		}
		r.n, r.to, r.src, r.received = m.N, to, to.AddrPort(), now
		r.controlLen = answerFrom(r.control[:m.NN])
		r.from = netip.AddrPortFrom(plainAddr(r.src.Addr()), r.src.Port())
		r.client, r.entry = nil, nil
		if given, _ := b.admit(r); given {
			b.renew(i)
		}
	}
}
