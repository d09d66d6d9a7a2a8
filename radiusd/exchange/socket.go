package exchange

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"sallyport/radiusd/wire"
)

// socket is a connected UDP socket: the kernel lets nothing through to it but what comes from the server's address and port,
// and says when the server's host has answered that nothing listens there.
type socket struct {
	conn net.Conn

	// Guarded by the Client's mu.
	waiting [identifiers]*waiter
	taken   int       // of waiting
	last    byte      // the identifier that was given out last
	heard   time.Time // when the last answer came; zero: none has
	retired bool      // takes no new requests
}

// waiter is an Exchange that waits for its answer.
type waiter struct {
	code   byte
	signed bool // its answer must have a Message-Authenticator

	// Set by reserve.
	socket *socket
	id     byte

	answer chan Response // one place; filled at most once
	failed chan error    // one place; filled at most once

	// Guarded by the Client's mu.
	sent      bool // from now on there may be an answer, and auth does not change
	auth      [wire.AuthenticatorSize]byte
	discarded [reasons]uint
}

// reserve gives w the identifier that has been free for the longest, so that a late answer, or the server's memory of an
// older request, meets it as seldom as may be. There is one. It is called with the lock held.
func (s *socket) reserve(w *waiter) {
	for s.last++; s.waiting[s.last] != nil; s.last++ {
	}
	s.waiting[s.last] = w
	s.taken++
	w.socket, w.id = s, s.last
}

// read takes in what the server sends until the socket is closed.
func (c *Client) read(s *socket) {
	digester := wire.NewDigester()
	buf := make([]byte, wire.MaxPacket)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			c.fail(s, err)
			return
		}
		c.receive(s, buf[:n], digester)
	}
}

// fail ends a socket, and all that waits on it: an ICMP message names the socket and not the request, and what refuses
// one would refuse them all.
func (c *Client) fail(s *socket, err error) {
	err = unreachable(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		err = ErrClosed
	}
	s.retired = true
	for _, w := range s.waiting {
		if w == nil {
			continue
		}
		w.failed <- err
		c.release(w)
	}
	c.drop(s)
}

// unreachable makes ErrUnreachable of the system's error. The addresses in it say nothing that the caller does not know.
func unreachable(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// write sends a packet. That the sending queue is full is like a packet lost on the way.
func (c *Client) write(s *socket, packet []byte) {
	if _, err := s.conn.Write(packet); err != nil && !errors.Is(err, syscall.ENOBUFS) {
		c.fail(s, err)
	}
}

// receive takes in one datagram.
func (c *Client) receive(s *socket, datagram []byte, d *wire.Digester) {
	packet, problem := wire.Header(datagram)
	if problem != wire.None {
		c.discard(nil, Malformed)
		return
	}
	w := c.waits(s, packet[1])
	if w == nil {
		c.discard(nil, Unexpected)
		return
	}
	var view wire.View
	if why, ok := c.judge(w, packet, &view, d); !ok {
		c.discard(w, why)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.waiting[w.id] != w { // its time ended a moment ago
		c.discarded[Unexpected].Add(1)
		return
	}
	s.heard = time.Now()
	c.answers.Add(1)
	w.answer <- Response{Code: packet[0], Packet: bytes.Clone(packet), View: view, RequestAuth: w.auth, key: c.key}
	c.release(w) // what comes now is a duplicate
}

// waits finds who waits on an identifier. Its auth may be read without the lock from now on.
func (c *Client) waits(s *socket, id byte) *waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := s.waiting[id]; w != nil && w.sent {
		return w
	}
	return nil
}

func (c *Client) discard(w *waiter, why Reason) {
	c.discarded[why].Add(1)
	if w != nil {
		c.mu.Lock()
		w.discarded[why]++
		c.mu.Unlock()
	}
}

// judge tells whether a packet is an answer to w's request, and if not, why. Both authenticators are compared in constant
// time. Where among the attributes the Message-Authenticator stands does not matter in what we receive
// (draft-ietf-radext-deprecating-radius).
func (c *Client) judge(w *waiter, packet []byte, view *wire.View, d *wire.Digester) (why Reason, ok bool) {
	if !answers(w.code, packet[0]) {
		return WrongCode, false
	}
	if view.Parse(packet) != wire.None {
		return Malformed, false
	}
	if !d.VerifiedResponse(c.key, packet, w.auth[:], 0) {
		return WrongAuthenticator, false
	}
	if !view.MessageAuth.Present() {
		return Unsigned, !w.signed
	}
	want := d.MessageAuth(c.key, packet, w.auth[:], view.MessageAuth.At())
	return WrongSignature, subtle.ConstantTimeCompare(want, view.MessageAuth.In(packet)) == 1
}

// answers reports whether a code answers a request's.
func answers(request, answer byte) bool {
	switch request {
	case wire.CodeAccessRequest:
		return answer == wire.CodeAccessAccept || answer == wire.CodeAccessReject || answer == wire.CodeAccessChallenge
	case wire.CodeStatusServer: // RFC 5997 section 4.2: on a port for access, and on one for accounting
		return answer == wire.CodeAccessAccept || answer == wire.CodeAccountingResponse
	case wire.CodeAccountingRequest:
		return answer == wire.CodeAccountingResponse
	case wire.CodeDisconnectRequest:
		return answer == wire.CodeDisconnectACK || answer == wire.CodeDisconnectNAK
	case wire.CodeCoARequest:
		return answer == wire.CodeCoAACK || answer == wire.CodeCoANAK
	default:
		return false
	}
}
