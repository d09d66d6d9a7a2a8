package eap

import (
	"context"
	"encoding/binary"
)

// Flags of the packets that carry TLS (RFC 5216 section 3.1, RFC 5281 section 9.1, [MS-PEAP] section 2.2.1).
const (
	flagLength  = 0x80
	flagMore    = 0x40
	flagStart   = 0x20
	versionMask = 0x07

	lengthSize = 4
	mskSize    = 64
)

// inside is what goes on within a tunnel.
type inside interface {
	// hear takes what came through it, and returns what is to go back through it. Nothing came when the tunnel has just
	// been made, or the peer only acknowledges.
	hear(ctx context.Context, plain []byte) turn
}

// tunnel is PEAP or EAP-TTLS: TLS in fragments, and within it what proves the person.
type tunnel struct {
	kind    Method
	size    int // of fragments
	session *session
	within  inside

	whole []byte // of the peer's message, what has come
	total int    // its length, where it was said; else 0
	heard int    // octets of TLS before the tunnel stood
	left  []byte // of our message, what is still to be sent
	last  *turn  // how it ends, once the peer has taken our alert
	msk   []byte
}

func newTunnel(s *Server, q *inquiry, kind Method) *tunnel {
	t := &tunnel{kind: kind, size: s.fragment, session: newSession(s.tls)}
	d := &dialogue{server: s, inquiry: q, menu: s.inner, words: innerWords()}
	d.choose = func(m Method) method {
		q.about.Inner = m
		return bare(s, q, m)
	}
	if kind == PEAP {
		t.within = &peap{dialogue: d, inquiry: q}
	} else {
		t.within = &ttls{dialogue: d, inquiry: q, pap: s.pap}
	}
	return t
}

func (t *tunnel) begin() []byte { return []byte{t.kind.number(), flagStart} }
func (t *tunnel) keys() []byte  { return t.msk }
func (t *tunnel) close()        { t.session.close() }

// version is crypto/tls's number, 0 until it is agreed.
func (t *tunnel) version() uint16 {
	if !t.session.up {
		return 0
	}
	return t.session.conn.ConnectionState().Version
}

func (t *tunnel) hear(ctx context.Context, body []byte) turn {
	data, last, why := t.fragment(body)
	switch {
	case why != "":
		return fail(why)
	case len(t.left) > 0:
		if len(data) > 0 || !last {
			return fail(FragmentOrder) // data where an acknowledgement belongs
		}
		return t.send()
	case t.last != nil:
		return *t.last
	case !last:
		return reply(t.acknowledge())
	}
	if s := t.session; !s.up {
		if t.heard += len(data); t.heard > maxHandshake {
			return fail(TLSOverflow)
		}
		if len(data) == 0 {
			return fail(FragmentOrder) // an acknowledgement of nothing
		}
	}
	return t.carry(ctx, data)
}

// acknowledge is a packet without data: of a fragment, or for the peer to begin.
func (t *tunnel) acknowledge() []byte { return []byte{t.kind.number(), 0} }

// fragment puts the peer's message together. The message is whole when last.
func (t *tunnel) fragment(body []byte) (message []byte, last bool, why Reason) {
	if len(body) < 2 || body[1]&flagStart != 0 {
		return nil, false, FragmentBad
	}
	flags, data := body[1], body[2:]
	if flags&versionMask != 0 {
		return nil, false, BadVersion
	}
	if flags&flagLength != 0 {
		if len(data) < lengthSize {
			return nil, false, FragmentBad
		}
		total := binary.BigEndian.Uint32(data)
		data = data[lengthSize:]
		switch {
		case total > maxMessage:
			return nil, false, FragmentOverflow
		case t.total != 0 && int(total) != t.total || len(t.whole) > 0 && t.total == 0:
			return nil, false, FragmentBad // says another length than before
		}
		t.total = int(total)
	}
	t.whole = append(t.whole, data...)
	if len(t.whole) > maxMessage || t.total > 0 && len(t.whole) > t.total {
		return nil, false, FragmentOverflow
	}
	if flags&flagMore != 0 {
		if len(data) == 0 {
			return nil, false, FragmentBad
		}
		return nil, false, ""
	}
	if t.total > 0 && len(t.whole) != t.total {
		return nil, false, FragmentBad
	}
	message, t.whole, t.total = t.whole, nil, 0
	return message, true, ""
}

// carry hands a message to TLS, and what comes through it to what is within.
func (t *tunnel) carry(ctx context.Context, message []byte) turn {
	s := t.session
	stood := s.up
	if len(message) > 0 {
		s.feed(message)
	}
	if s.over {
		return fail(InnerOverflow)
	}
	if s.ended && !(s.up && len(s.plain) > 0) {
		return t.broken()
	}
	if !s.up {
		return t.flush()
	}
	if !stood {
		var ok bool
		if t.msk, ok = t.derive(); !ok {
			return fail(TLSNoKeys)
		}
		// Our Finished goes first (TLS 1.2); the peer answers it with what it has to say.
		if len(s.out) > 0 && len(s.plain) == 0 {
			return t.flush()
		}
	}
	r := t.within.hear(ctx, s.take())
	if r.progress != going {
		return r
	}
	if len(r.send) == 0 {
		return reply(t.acknowledge())
	}
	if _, err := s.conn.Write(r.send); err != nil {
		return turn{why: TLSBroken, detail: err.Error()}
	}
	return t.flush()
}

// broken ends with TLS. What TLS has to say of it goes to the peer before (RFC 5216 section 2.1.3).
func (t *tunnel) broken() turn {
	why, detail := t.session.reasonOf()
	end := turn{why: why, detail: detail}
	if len(t.session.out) == 0 {
		return end
	}
	t.last = &end
	return t.flush()
}

// flush sends what TLS has for the peer.
func (t *tunnel) flush() turn {
	t.left = t.session.out
	t.session.out = nil
	if len(t.left) == 0 {
		return fail(FragmentOrder) // TLS wants more of a message that was whole
	}
	if len(t.left) > t.size {
		body := []byte{t.kind.number(), flagLength | flagMore}
		body = binary.BigEndian.AppendUint32(body, uint32(len(t.left)))
		body = append(body, t.left[:t.size-lengthSize]...)
		t.left = t.left[t.size-lengthSize:]
		return reply(body)
	}
	return t.send()
}

// send is the next fragment, the first of a message that fits included.
func (t *tunnel) send() turn {
	flags, n := byte(0), len(t.left)
	if n > t.size {
		flags, n = flagMore, t.size
	}
	body := append([]byte{t.kind.number(), flags}, t.left[:n]...)
	t.left = t.left[n:]
	return reply(body)
}

// derive takes the keys from TLS: RFC 9427 section 2.1 for TLS 1.3, RFC 5281 section 8 and RFC 5216 section 2.3 for 1.2.
// TLS 1.3 makes another key for another length, so all of it is asked for.
func (t *tunnel) derive() (msk []byte, ok bool) {
	state := t.session.conn.ConnectionState()
	label, kind := "EXPORTER_EAP_TLS_Key_Material", []byte{t.kind.number()}
	if state.Version < 0x0304 {
		label, kind = "client EAP encryption", nil
		if t.kind == TTLS {
			label = "ttls keying material"
		}
	}
	material, err := state.ExportKeyingMaterial(label, kind, 2*mskSize)
	if err != nil {
		return nil, false
	}
	return material[:mskSize], true
}
