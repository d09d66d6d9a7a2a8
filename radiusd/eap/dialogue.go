package eap

import (
	"bytes"
	"context"
	"slices"
)

// method carries one EAP method out. A body begins with the method's type.
type method interface {
	// begin is the body of the first request.
	begin() []byte
	// hear takes the body of a response of the method's type.
	hear(ctx context.Context, body []byte) turn
	// keys is the MSK after a success; nil if the method makes none.
	keys() []byte
}

// words are a dialogue's reasons, which differ within a tunnel and without.
type words struct{ noIdentity, badIdentity, noMethod Reason }

func outerWords() words { return words{NoIdentity, BadIdentity, NoCommonMethod} }
func innerWords() words { return words{InnerMalformed, BadIdentity, InnerNoMethod} }

// dialogue is EAP from the identity on, within a tunnel and without: it finds the method that both sides want (RFC 3748
// sections 2 and 5.3), and has it carried out.
type dialogue struct {
	server  *Server
	inquiry *inquiry
	menu    []Method
	choose  func(Method) method
	words   words

	known   bool // the identity is
	offered []Method
	now     Method
	method  method
	heard   bool // the peer has answered within the method
}

func (d *dialogue) hear(ctx context.Context, body []byte) turn {
	switch kind := body[0]; {
	case !d.known:
		if kind != typeIdentity {
			return fail(d.words.noIdentity)
		}
		return d.identify(string(body[1:]))
	case kind == typeNak && !d.heard:
		return d.renegotiate(body[1:])
	case kind != d.now.number():
		return skip(Unexpected)
	default:
		d.heard = true
		return d.method.hear(ctx, body)
	}
}

// goodIdentity reports whether s can be somebody's name. Octets beyond a zero would be options of an old draft.
func goodIdentity(s string) bool {
	return s != "" && len(s) <= maxIdentity && !bytes.ContainsRune([]byte(s), 0)
}

func (d *dialogue) identify(name string) turn {
	if !goodIdentity(name) {
		return fail(d.words.badIdentity)
	}
	d.known = true
	about := &d.inquiry.about
	about.Identity = name
	if about.Outer == "" {
		about.Outer = name
	}
	return d.offer(d.menu[0])
}

func (d *dialogue) offer(m Method) turn {
	d.offered, d.now = append(d.offered, m), m
	if m.tunnels() {
		d.inquiry.about.Identity = "" // whose it is, the tunnel will tell
	}
	d.method = d.choose(m)
	return reply(d.method.begin())
}

// renegotiate takes the first method of ours that the peer names in its Nak (RFC 3748 section 5.3.1).
func (d *dialogue) renegotiate(wanted []byte) turn {
	for _, m := range d.menu {
		if slices.Contains(wanted, m.number()) && !slices.Contains(d.offered, m) {
			if !m.tunnels() {
				d.inquiry.about.Identity = d.identity()
			}
			return d.offer(m)
		}
	}
	return fail(d.words.noMethod)
}

// identity is what was said in this dialogue.
func (d *dialogue) identity() string {
	if about := &d.inquiry.about; about.Identity != "" {
		return about.Identity
	}
	return d.inquiry.about.Outer
}
