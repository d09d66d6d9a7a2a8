package exchange

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"sallyport/radiusd/wire"
)

// Request is what a server shall be asked. Identifier, authenticators and Message-Authenticator are added.
type Request struct {
	Code       byte             // Access-, Accounting-, Disconnect-, CoA-Request, or Status-Server
	Attributes []wire.Attribute // in this order; User-Password and Message-Authenticator are not among them
	Password   []byte           // the clear text of an Access-Request's User-Password, 1 to 128 octets; nil: it has none
}

// Response is a server's answer, verified.
type Response struct {
	Code        byte
	Packet      []byte
	View        wire.View // of Packet
	RequestAuth [wire.AuthenticatorSize]byte
	RoundTrip   time.Duration // since the request was sent first
	Sent        int           // how often it was sent

	key *wire.Secret
}

// Reveal reads a salted value of the answer, such as an MS-MPPE key (RFC 2548 section 2.4.2), and reports whether it had
// that form.
func (r *Response) Reveal(hidden []byte) (clear []byte, ok bool) {
	return wire.NewDigester().RevealSalted(r.key, hidden, r.RequestAuth[:])
}

// Each calls fn for every attribute of the answer, as wire.EachAttribute does.
func (r *Response) Each(fn func(wire.Attribute) bool) { wire.EachAttribute(r.Packet, fn) }

// Exchange sends a request and waits for its answer, until ctx or Options.MaxDuration ends. It may be called concurrently.
//
// Its errors: ErrUnreachable, ErrBusy and ErrClosed, a NoAnswerError when the time ended, the context's own when that was
// cancelled, and others when the request cannot be made into a packet. None of them holds an attribute's value.
func (c *Client) Exchange(ctx context.Context, q Request) (Response, error) {
	if err := q.check(); err != nil {
		return Response{}, fmt.Errorf("exchange: %w", err)
	}
	if err := c.enter(); err != nil {
		return Response{}, err
	}
	defer c.work.Done()
	bounded, cancel := context.WithTimeout(ctx, c.o.MaxDuration)
	defer cancel()
	w := &waiter{code: q.Code, signed: c.wantsSigned(q.Code), answer: make(chan Response, 1), failed: make(chan error, 1)}
	if err := c.place(bounded, w); err != nil {
		return Response{}, err
	}
	packet, err := c.build(q, w.id)
	if err != nil {
		c.mu.Lock()
		c.release(w)
		c.mu.Unlock()
		return Response{}, fmt.Errorf("exchange: %w", err)
	}
	defer clear(packet)
	c.mu.Lock()
	w.auth, w.sent = wire.AuthenticatorOf(packet), true
	c.mu.Unlock()
	return c.await(bounded, ctx, w, packet)
}

// await sends the packet, again and again, and waits. outer is the caller's own context.
func (c *Client) await(ctx, outer context.Context, w *waiter, packet []byte) (Response, error) {
	began := time.Now()
	sent := 1
	c.sent.Add(1)
	c.write(w.socket, packet)
	schedule := schedule{initial: c.o.InitialRetransmit, most: c.o.MaxRetransmit}
	again := time.NewTimer(schedule.next())
	defer again.Stop()
	for {
		select {
		case answer := <-w.answer:
			return c.settle(answer, began, sent), nil
		case err := <-w.failed:
			return Response{}, err
		case <-c.done:
			c.withdraw(w, began, false)
			return Response{}, ErrClosed
		case <-again.C:
			if w.code == wire.CodeStatusServer { // RFC 5997 section 2: never sent again
				continue
			}
			sent++
			c.retransmits.Add(1)
			c.write(w.socket, packet)
			again.Reset(schedule.next())
		case <-ctx.Done():
			canceled := errors.Is(outer.Err(), context.Canceled)
			c.withdraw(w, began, !canceled)
			select {
			case answer := <-w.answer: // it came in the same moment
				return c.settle(answer, began, sent), nil
			case err := <-w.failed:
				return Response{}, err
			default:
			}
			if canceled {
				return Response{}, outer.Err()
			}
			return Response{}, c.noAnswer(w, sent)
		}
	}
}

// withdraw gives w up. Where its whole time passed in silence, its socket is given up as well.
func (c *Client) withdraw(w *waiter, began time.Time, silent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if silent && w.socket.heard.Before(began) {
		w.socket.retired = true
	}
	c.release(w)
}

func (c *Client) noAnswer(w *waiter, sent int) *NoAnswerError {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &NoAnswerError{Sent: sent}
	for r, n := range w.discarded {
		if n == 0 {
			continue
		}
		if e.Discarded == nil {
			e.Discarded = make(map[Reason]uint)
		}
		e.Discarded[Reason(r)] = n
	}
	return e
}

// settle completes an answer, and learns from its time.
func (c *Client) settle(answer Response, began time.Time, sent int) Response {
	answer.RoundTrip, answer.Sent = time.Since(began), sent
	if sent == 1 {
		c.mu.Lock()
		if c.roundTrip == 0 {
			c.roundTrip = answer.RoundTrip
		}
		c.roundTrip += (answer.RoundTrip - c.roundTrip) / 8 // RFC 6298 section 2.3
		c.mu.Unlock()
	}
	return answer
}

// wantsSigned reports whether the answer to a code must have a Message-Authenticator.
func (c *Client) wantsSigned(code byte) bool {
	if code == wire.CodeAccessRequest || code == wire.CodeStatusServer {
		return !c.o.InsecureAcceptUnsigned
	}
	return c.o.RequireSigned
}

// check finds what no packet can be made of. It names attributes, and no values (P9).
func (q *Request) check() error {
	switch q.Code {
	case wire.CodeAccessRequest, wire.CodeStatusServer, wire.CodeAccountingRequest, wire.CodeDisconnectRequest, wire.CodeCoARequest:
	default:
		return fmt.Errorf("code %d is no request", q.Code)
	}
	if q.Password != nil && q.Code != wire.CodeAccessRequest {
		return fmt.Errorf("a password with code %d", q.Code)
	}
	if q.Password != nil && (len(q.Password) == 0 || len(q.Password) > wire.MaxPassword) {
		return fmt.Errorf("a password of %d octets: want 1 to %d", len(q.Password), wire.MaxPassword)
	}
	for i, a := range q.Attributes {
		switch {
		case !a.Fits():
			return fmt.Errorf("attribute %d (vendor %d, type %d) has %d octets", i, a.Vendor, a.Type, len(a.Value))
		case a.Vendor == 0 && (a.Type == wire.AttrMessageAuth || a.Type == wire.AttrUserPassword):
			return fmt.Errorf("attribute %d (type %d) is not the caller's to make", i, a.Type)
		}
	}
	return nil
}

// build makes the packet. Its memory is the caller's.
func (c *Client) build(q Request, id byte) ([]byte, error) {
	tools := c.tools.Get().(*toolbox)
	defer func() {
		clear(tools.buf[:])
		c.tools.Put(tools)
	}()
	var auth [wire.AuthenticatorSize]byte // of zeros for those that are hashed
	random := q.Code == wire.CodeAccessRequest || q.Code == wire.CodeStatusServer
	if random {
		_, _ = rand.Read(auth[:]) // never fails (crypto/rand)
	}
	var out wire.Writer
	out.BeginRequest(tools.buf[:0], q.Code, id, auth)
	for _, a := range q.Attributes {
		out.AddAttribute(a)
	}
	if q.Password != nil {
		var hidden [wire.MaxPassword]byte
		out.Add(wire.AttrUserPassword, tools.digester.HidePassword(c.key, q.Password, auth[:], hidden[:0]))
	}
	if out.Len() > wire.MaxPacket {
		return nil, fmt.Errorf("the request has %d octets: a packet has at most %d", out.Len(), wire.MaxPacket)
	}
	if random {
		return bytes.Clone(out.SignRequest(tools.digester, c.key)), nil
	}
	return bytes.Clone(out.SignHashed(tools.digester, c.key)), nil
}

// schedule says how long to wait before a request is sent again (RFC 5080 section 2.2.1).
type schedule struct {
	initial, most, last time.Duration
}

func (s *schedule) next() time.Duration {
	switch {
	case s.last == 0:
		s.last = jittered(s.initial, s.initial)
	default:
		s.last = jittered(2*s.last, s.last)
	}
	if s.last > s.most {
		s.last = jittered(s.most, s.most)
	}
	return s.last
}

// jittered adds up to a tenth of `of` to d, or takes it away: the RFC's RAND.
func jittered(d, of time.Duration) time.Duration {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	share := float64(int32(binary.BigEndian.Uint32(b[:]))) / (1 << 31)
	return d + time.Duration(share*float64(of)/10)
}
