package eap

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"sallyport/radiusd/mschap"
)

// MSCHAPv2Proof is a response of MS-CHAPv2, and what becomes of it.
type MSCHAPv2Proof = mschap.V2

// Octets of EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2 section 2).
const (
	opChallenge = 1
	opResponse  = 2
	opSuccess   = 3
	opFailure   = 4

	msHeader    = 5  // type, code, identifier, length
	msValueSize = 49 // peer's challenge, eight reserved octets, response, flags
	msID        = 1
)

type msState uint8

const (
	msAsked msState = iota
	msProved
	msRefused
)

// mschapv2 is EAP-MSCHAPv2. It knows one round: a challenge, a response.
type mschapv2 struct {
	inquiry   *inquiry
	challenge [mschap.ChallengeSize]byte
	state     msState
	verdict   Verdict
	why       Reason
	msk       []byte
}

func newMSCHAPv2(q *inquiry) *mschapv2 {
	m := &mschapv2{inquiry: q}
	_, _ = rand.Read(m.challenge[:]) // never fails
	return m
}

// packet is the body with its length, which begins at the code.
func (m *mschapv2) packet(code byte, rest []byte) []byte {
	b := []byte{typeMSCHAPv2, code, msID, 0, 0}
	binary.BigEndian.PutUint16(b[3:], uint16(len(b)-1+len(rest)))
	return append(b, rest...)
}

func (m *mschapv2) begin() []byte {
	const server = "sallyport"
	value := append([]byte{mschap.ChallengeSize}, m.challenge[:]...)
	return m.packet(opChallenge, append(value, server...))
}

func (m *mschapv2) keys() []byte { return m.msk }

func (m *mschapv2) hear(ctx context.Context, body []byte) turn {
	code := byte(0)
	if len(body) > 1 {
		code = body[1]
	}
	switch m.state {
	case msRefused: // whatever it says
		return fail(m.why)
	case msProved:
		if code != opSuccess {
			return fail(PeerRefused)
		}
		return pass(m.verdict)
	default:
		if code != opResponse {
			return fail(InnerMalformed)
		}
		return m.judge(ctx, body)
	}
}

func (m *mschapv2) judge(ctx context.Context, body []byte) turn {
	if len(body) < msHeader+1+msValueSize || body[msHeader] != msValueSize || int(binary.BigEndian.Uint16(body[3:])) != len(body)-1 {
		return fail(InnerMalformed)
	}
	value, name := body[msHeader+1:][:msValueSize], string(body[msHeader+1+msValueSize:])
	if plain(name) != plain(m.inquiry.about.Identity) {
		return m.refuse(NameMismatch)
	}
	if m.inquiry.exhausted() {
		return fail(TooManyQuestions)
	}
	const response = 24
	proof := mschap.NewV2(name, m.challenge, [mschap.ChallengeSize]byte(value), [mschap.ResponseSize]byte(value[response:]))
	v := m.inquiry.prove(ctx, proof)
	if v.ruling != accept {
		return m.refuse(m.inquiry.refusal(v))
	}
	send, recv, ok := proof.Keys()
	if !ok {
		return m.refuse(JudgeUnproved)
	}
	m.state, m.verdict = msProved, v
	m.msk = append(append([]byte(nil), recv[:]...), send[:]...)
	return reply(m.packet(opSuccess, []byte(proof.Success()+" M=OK")))
}

// plain is a name without what may stand before it (RFC 2759 section 4).
func plain(name string) string {
	if _, rest, found := strings.Cut(name, `\`); found {
		return rest
	}
	return name
}

// refuse tells the peer, who may not try again and has to acknowledge.
func (m *mschapv2) refuse(why Reason) turn {
	m.state, m.why = msRefused, why
	var challenge [mschap.ChallengeSize]byte
	_, _ = rand.Read(challenge[:]) // never fails
	text := "E=691 R=0 C=" + string(bytes.ToUpper([]byte(hex.EncodeToString(challenge[:])))) + " V=3 M=Authentication failed"
	return reply(m.packet(opFailure, []byte(text)))
}
