package eap

import "context"

// Conversation is one person's way through EAP, from the identity to success or failure. It is for one goroutine at a
// time: Next for each packet of the peer, MSK after a success, Close at the end, whatever the end.
type Conversation struct {
	inquiry inquiry
	outer   *dialogue
	id      byte   // of the open request
	open    []byte // the open request
	rounds  int
	inside  bool // a call of Next has not returned
	over    bool
	closed  bool
	msk     []byte
}

// Begin makes a conversation. The first packet for it is the peer's identity.
func (s *Server) Begin(judge Judge) *Conversation {
	c := &Conversation{inquiry: inquiry{judge: judge}}
	c.outer = &dialogue{server: s, inquiry: &c.inquiry, menu: s.methods, choose: c.method, words: outerWords()}
	return c
}

// method makes what carries a method out, without a tunnel or as one.
func (c *Conversation) method(m Method) method {
	c.inquiry.about.Method = m
	switch m {
	case PEAP, TTLS:
		return newTunnel(c.outer.server, &c.inquiry, m)
	default:
		return bare(c.outer.server, &c.inquiry, m)
	}
}

// Next hears the peer's packet and tells what to send. It may take as long as the Judge does.
func (c *Conversation) Next(ctx context.Context, b []byte) Step {
	p, ok := parse(b)
	switch {
	case c.closed:
		return c.ignore(Closed)
	case c.over:
		return c.ignore(Over)
	case c.inside: // a panic came out of the last call: nothing here can be relied on
		return c.end(p.id, fail(Crashed))
	case ctx.Err() != nil:
		return c.ignore(Canceled)
	case !ok || p.code != codeResponse:
		return c.ignore(BadPacket)
	case c.open != nil && p.id != c.id:
		return c.ignore(Stale)
	}
	if c.rounds++; c.rounds > maxRounds {
		return c.end(p.id, fail(TooManyRounds))
	}
	c.inside = true
	c.inquiry.next = p.id + 1
	t := c.outer.hear(ctx, p.body)
	c.inside = false
	switch t.progress {
	case going:
		c.id = p.id + 1
		c.open = build(codeRequest, c.id, t.send)
		return c.step(Step{Out: c.open})
	case ignored:
		return c.ignore(t.why)
	default:
		return c.end(p.id, t)
	}
}

func (c *Conversation) ignore(why Reason) Step {
	return c.step(Step{Out: c.open, Ignored: true, Reason: why})
}

// end makes the last packet. Success needs a verdict that accepted, whatever the method came to, and keys for it.
func (c *Conversation) end(id byte, t turn) Step {
	c.over = true
	if t.progress == succeeded && !t.passed() {
		t = fail(Unaccepted)
	}
	if t.passed() {
		c.msk = c.outer.method.keys()
		return c.step(Step{Out: build(codeSuccess, id, nil), Done: true, Success: true})
	}
	return c.step(Step{Out: build(codeFailure, id, nil), Done: true, Reason: t.why, Detail: cut(t.detail, maxDetail)})
}

func (c *Conversation) step(s Step) Step {
	about := c.inquiry.about
	s.Identity, s.Outer, s.Method, s.Inner, s.unaskable = about.Identity, about.Outer, about.Method, about.Inner, c.inquiry.unaskable
	if t, ok := c.outer.method.(*tunnel); ok {
		s.TLS = t.version()
	}
	return s
}

// MSK is the key that a success made (RFC 3748 section 7.10), and nil without one. Its first half is MS-MPPE-Recv-Key and
// its second MS-MPPE-Send-Key to a NAS (RFC 2548 section 2.4): 32 octets each from a tunnel, 16 from EAP-MSCHAPv2, and
// EAP-GTC makes none.
func (c *Conversation) MSK() []byte { return c.msk }

// Close ends what the conversation still holds. It may be called more than once.
func (c *Conversation) Close() {
	c.closed = true
	if t, ok := c.outer.method.(*tunnel); ok {
		t.close()
	}
}
