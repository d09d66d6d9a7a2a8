package eap

import (
	"context"
	"encoding/binary"
)

// AVPs of EAP-TTLS (RFC 5281 section 10.1): Diameter's form, RADIUS' numbers.
const (
	avpUserName = 1
	avpPassword = 2
	avpEAP      = 79

	avpVendor    = 0x80
	avpMandatory = 0x40
	avpHeader    = 8
	avpVendorAdd = 4
)

// avps are the AVPs of a message that are known here.
type avps struct {
	name, password, eap []byte
	named, papped       bool
}

// parseAVPs takes a message apart. What is not known may be skipped, unless it says that it may not.
func parseAVPs(b []byte) (a avps, why Reason) {
	for count := 1; len(b) > 0; count++ {
		if len(b) < avpHeader || count > maxAVPs {
			return a, InnerMalformed
		}
		code, flags, n := binary.BigEndian.Uint32(b), b[4], int(binary.BigEndian.Uint32(b[4:])&0xffffff)
		header := avpHeader
		if flags&avpVendor != 0 {
			header += avpVendorAdd
		}
		if n < header || n > len(b) {
			return a, InnerMalformed
		}
		value, standard := b[header:n], true
		if flags&avpVendor != 0 {
			standard = binary.BigEndian.Uint32(b[avpHeader:]) == 0
		}
		switch {
		case standard && code == avpUserName && !a.named:
			a.name, a.named = value, true
		case standard && code == avpPassword && !a.papped:
			a.password, a.papped = value, true
		case standard && code == avpEAP:
			a.eap = append(a.eap, value...)
		case standard && (code == avpUserName || code == avpPassword):
			return a, InnerMalformed // twice: whose is it?
		case flags&avpMandatory != 0:
			return a, InnerMandatory
		}
		const unit = 4
		b = b[min((n+unit-1)/unit*unit, len(b)):]
	}
	return a, ""
}

// ttls is what goes on within EAP-TTLS: a password in an AVP, or EAP in AVPs. The peer begins.
type ttls struct {
	dialogue *dialogue
	inquiry  *inquiry
	pap      bool // is offered
	waited   bool // the peer was asked to begin
	id       byte // of the open inner request
	open     bool
}

func (t *ttls) hear(ctx context.Context, plain []byte) turn {
	if len(plain) == 0 {
		if t.waited || t.open {
			return fail(InnerEmpty)
		}
		t.waited = true // with TLS 1.3 the handshake ends with the peer's message, and ours is next
		return reply(nil)
	}
	a, why := parseAVPs(plain)
	switch {
	case why != "":
		return fail(why)
	case len(a.eap) > 0:
		return t.converse(ctx, a.eap)
	case t.open || !a.papped || !a.named:
		return fail(InnerMalformed)
	case !t.pap:
		return fail(InnerRefused)
	default:
		return t.password(ctx, string(a.name), unpadded(a.password))
	}
}

func (t *ttls) password(ctx context.Context, name string, typed []byte) turn {
	switch {
	case !goodIdentity(name):
		return fail(BadIdentity)
	case len(typed) > maxTyped:
		return fail(InnerMalformed)
	}
	t.inquiry.about.Identity, t.inquiry.about.Inner = name, PAP
	v := t.inquiry.answer(ctx, string(typed), false)
	if v.ruling != accept {
		return fail(t.inquiry.refusal(v))
	}
	return pass(v)
}

// converse carries EAP within AVPs one round on.
func (t *ttls) converse(ctx context.Context, b []byte) turn {
	p, ok := parse(b)
	if !ok || p.code != codeResponse || t.open && p.id != t.id {
		return fail(InnerMalformed)
	}
	if len(t.dialogue.menu) == 0 {
		return fail(InnerRefused)
	}
	r := t.dialogue.hear(ctx, p.body)
	switch r.progress {
	case going:
		t.id, t.open = p.id+1, true
		r.send = avp(avpEAP, build(codeRequest, t.id, r.send))
		return r
	case ignored:
		return fail(InnerMalformed)
	default:
		return r
	}
}

// avp is one that must be understood.
func avp(code uint32, value []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, code)
	b = binary.BigEndian.AppendUint32(b, uint32(avpMandatory)<<24|uint32(avpHeader+len(value)))
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
