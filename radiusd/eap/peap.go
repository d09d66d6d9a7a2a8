package eap

import (
	"context"
	"encoding/binary"
)

// Result TLV (draft-kamath-pppext-peapv0 section 2, [MS-PEAP] section 2.2.8.1.2).
const (
	tlvMandatory = 0x8000
	tlvMask      = 0x3fff
	tlvResult    = 3
	tlvNak       = 4
	tlvHeader    = 4

	resultSuccess = 1
	resultFailure = 2
)

// peap is what goes on within PEAP version 0: EAP packets without their headers, and at the end both sides' results, with
// headers.
type peap struct {
	dialogue *dialogue
	inquiry  *inquiry
	begun    bool
	result   *turn // what was told the peer
}

func (p *peap) hear(ctx context.Context, plain []byte) turn {
	switch {
	case !p.begun:
		p.begun = true
		if len(plain) > 0 {
			return fail(InnerMalformed) // nothing was asked
		}
		return reply([]byte{typeIdentity})
	case len(plain) == 0:
		return fail(InnerEmpty)
	case p.result != nil:
		return p.conclude(plain)
	}
	if whole, ok := parse(plain); ok && whole.code == codeResponse && len(whole.whole) == len(plain) {
		plain = whole.body // with its header all the same; type 2 is nobody's
	}
	t := p.dialogue.hear(ctx, plain)
	switch t.progress {
	case going:
		return t
	case ignored:
		return fail(InnerMalformed)
	}
	p.result = &t
	return reply(p.tell(t.passed()))
}

// tell is the request that holds our result.
func (p *peap) tell(success bool) []byte {
	status := byte(resultFailure)
	if success {
		status = resultSuccess
	}
	return build(codeRequest, p.inquiry.next, []byte{typeTLV, tlvMandatory >> 8, tlvResult, 0, 2, 0, status})
}

// conclude hears the peer's result. Ours stands where it says failure; a success needs both.
func (p *peap) conclude(plain []byte) turn {
	if !p.result.passed() {
		return *p.result
	}
	packet, ok := parse(plain)
	if !ok || packet.code != codeResponse || packet.body[0] != typeTLV {
		return fail(PeerResult)
	}
	status, why := resultIn(packet.body[1:])
	switch {
	case why != "":
		return fail(why)
	case status != resultSuccess:
		return fail(PeerRefused)
	default:
		return *p.result
	}
}

// resultIn finds the status among TLVs.
func resultIn(b []byte) (status uint16, why Reason) {
	for len(b) > 0 {
		if len(b) < tlvHeader {
			return 0, PeerResult
		}
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		b = b[tlvHeader:]
		if n > len(b) {
			return 0, PeerResult
		}
		switch {
		case kind&tlvMask == tlvResult:
			if n != 2 || status != 0 {
				return 0, PeerResult
			}
			status = binary.BigEndian.Uint16(b)
		case kind&tlvMask == tlvNak:
			return 0, PeerRefused
		case kind&tlvMandatory != 0:
			return 0, InnerMandatory
		}
		b = b[n:]
	}
	if status != resultSuccess && status != resultFailure {
		return 0, PeerResult
	}
	return status, ""
}
