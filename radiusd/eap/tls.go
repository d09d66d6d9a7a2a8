package eap

import (
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net"
	"time"
)

// session is the server's side of TLS, which runs only while it is fed. crypto/tls wants a connection that blocks: it has a
// coroutine, which stands still where it wants more of the peer.
type session struct {
	conn *tls.Conn
	next func() (struct{}, bool) // nil until the peer has said something: many are offered this and want something else
	stop func()

	in    []byte // of the peer, not yet read
	out   []byte // for the peer, not yet taken
	plain []byte // what came through the tunnel
	up    bool
	ended bool
	err   error // why it ended
	over  bool  // more came through than may
}

var errClosed = errors.New("the conversation was closed")

func newSession(config *tls.Config) *session {
	s := new(session)
	s.conn = tls.Server(&pipe{session: s}, config)
	return s
}

// run is the coroutine.
func (s *session) run(yield func(struct{}) bool) {
	s.pause(yield)
	defer func() { s.ended = true }()
	if s.err = s.conn.Handshake(); s.err != nil {
		return
	}
	s.up = true
	var buf [maxInner]byte
	for {
		n, err := s.conn.Read(buf[:])
		s.plain = append(s.plain, buf[:n]...)
		clear(buf[:n])
		if len(s.plain) > maxInner {
			s.over = true
			return
		}
		if err != nil {
			s.err = err
			return
		}
	}
}

// pause has the connection wait by way of yield.
func (s *session) pause(yield func(struct{}) bool) {
	s.conn.NetConn().(*pipe).wait = func() bool { return yield(struct{}{}) }
}

// feed gives the peer's octets to TLS, and returns when TLS wants more or has ended.
func (s *session) feed(b []byte) {
	s.in = append(s.in, b...)
	if s.next == nil {
		s.next, s.stop = iter.Pull(s.run)
	}
	if !s.ended {
		s.next()
	}
}

// take returns what came through the tunnel since the last time.
func (s *session) take() []byte {
	plain := s.plain
	s.plain = nil
	return plain
}

func (s *session) close() {
	if s.stop != nil {
		s.stop()
	}
}

// pipe is the connection that TLS sees. It is used within feed, and by writers while TLS stands still.
type pipe struct {
	session *session
	wait    func() bool // for more of the peer; false: there will be none
}

func (p *pipe) Read(b []byte) (int, error) {
	for len(p.session.in) == 0 {
		if !p.wait() {
			return 0, errClosed
		}
	}
	n := copy(b, p.session.in)
	p.session.in = p.session.in[n:]
	return n, nil
}

func (p *pipe) Write(b []byte) (int, error) {
	p.session.out = append(p.session.out, b...)
	return len(b), nil
}

func (p *pipe) Close() error                     { return nil }
func (p *pipe) LocalAddr() net.Addr              { return nowhere{} }
func (p *pipe) RemoteAddr() net.Addr             { return nowhere{} }
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) SetReadDeadline(time.Time) error  { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

type nowhere struct{}

func (nowhere) Network() string { return "eap" }
func (nowhere) String() string  { return "eap" }

// reasonOf tells why TLS ended, in words for the log.
func (s *session) reasonOf() (Reason, string) {
	detail := ""
	if s.err != nil {
		detail = s.err.Error()
	}
	var op *net.OpError
	switch {
	case s.up:
		if errors.Is(s.err, io.EOF) {
			detail = "closed by the peer"
		}
		return TLSBroken, detail
	case errors.As(s.err, &op) && op.Op == "remote error":
		return TLSAlert, detail
	default:
		return TLSHandshake, detail
	}
}
