package radiusd

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"sallyport/internal/login"
	"sallyport/radiusd/mschap"
	"sallyport/radiusd/wire"
)

const (
	chapSize       = 1 + md5.Size // CHAP-Password: identifier and response (RFC 2865 section 5.3)
	msResponseSize = 50           // MS-CHAP2-Response (RFC 2548 section 2.3.2)

	// Types within Microsoft's Vendor-Specific (RFC 2548).
	msError      = 2
	msPolicy     = 7
	msTypes      = 8
	mayEncrypt   = 1 // Encryption-Allowed (section 2.4.4)
	rc4Any       = 6 // 40 and 128 bits (section 2.4.5)
	errorFailure = "E=691 R=0 C="
	errorVersion = " V=3 M=Authentication failed" // RFC 2759 section 6
)

// chapProof is a CHAP response (RFC 1994 section 4.1), as proof of a code.
type chapProof wire.CHAP

// Proves reports whether the response is that of a code.
func (p *chapProof) Proves(code string) bool {
	var memory [256]byte
	in := append(memory[:0], p.ID)
	in = append(in, code...)
	sum := md5.Sum(append(in, p.Challenge...))
	clear(in)
	return subtle.ConstantTimeCompare(sum[:], p.Response[:]) == 1
}

// chapIn reads CHAP-Password. The challenge is the Request Authenticator where there is no attribute for it (RFC 2865
// section 5.3), which RADIUS/1.1 has not (RFC 9765 section 5.1.2).
func (r *request) chapIn() (wire.CHAP, bool) {
	v, b := &r.view, r.packet
	response := v.CHAP.In(b)
	if len(response) != chapSize || !v.CHAPChallenge.Present() && r.plain {
		return wire.CHAP{}, false
	}
	challenge := b[4:wire.HeaderSize]
	if v.CHAPChallenge.Present() {
		challenge = v.CHAPChallenge.In(b)
	}
	return wire.CHAP{ID: response[0], Response: [md5.Size]byte(response[1:]), Challenge: bytes.Clone(challenge)}, true
}

// mschapIn reads MS-CHAP2-Response and its challenge.
func (r *request) mschapIn() (wire.MSCHAPv2, bool) {
	v, b := &r.view, r.packet
	response, challenge := v.MSResponse2.In(b), v.MSChallenge.In(b)
	if len(response) != msResponseSize || len(challenge) != mschap.ChallengeSize {
		return wire.MSCHAPv2{}, false
	}
	return wire.MSCHAPv2{UserName: v.UserName.Text(b), Challenge: bytes.Clone(challenge), Response: [msResponseSize]byte(response)}, true
}

// parts are what MS-CHAP2-Response is made of: identifier, flags, peer's challenge, eight octets that are reserved, and the
// response.
func parts(m wire.MSCHAPv2) *mschap.V2 {
	const peer, response = 2, 26
	return mschap.NewV2(m.UserName, [mschap.ChallengeSize]byte(m.Challenge),
		[mschap.ChallengeSize]byte(m.Response[peer:]), [mschap.ResponseSize]byte(m.Response[response:]))
}

// prepareCHAP makes an attempt of a request without User-Password. A response proves a code, where one is due; where a
// password is, it is for the person's own directory to check.
func (s *Server) prepareCHAP(r *request, a login.Attempt) (login.Attempt, way, login.Reason) {
	v := &r.view
	var evidence any
	switch {
	case v.CHAP.Present():
		chap, ok := r.chapIn()
		if !ok {
			return a, wayRefuse, reasonResponse
		}
		evidence, a.CodeProof = &chap, (*chapProof)(&chap)
	case v.MSResponse2.Present():
		ms, ok := r.mschapIn()
		if !ok {
			return a, wayRefuse, reasonResponse
		}
		if r.opened && r.client.fortiGate {
			a.Code = login.NewSecret(fortiGateCode(ms.Response[:]))
			return a, wayFinish, ""
		}
		r.proof = parts(ms)
		evidence, a.CodeProof = &ms, r.proof
	default:
		return a, wayRefuse, login.ReasonPasswordMissing
	}
	switch {
	case r.opened && r.progress.Further():
		a.Evidence, a.CodeProof = evidence, nil
		return a, wayContinue, ""
	case r.opened:
		return a, wayFinish, ""
	case r.client.Mode == Code:
		a.Proofs = r.client.proofs
		return a, wayDecide, ""
	default:
		a.Evidence, a.CodeProof = evidence, nil
		return a, wayBegin, ""
	}
}

// fortiGateCode reads a code as FortiGates put it: text in the place of the peer's challenge, ended by its first zero.
func fortiGateCode(response []byte) string {
	const at = 2
	text, _, _ := bytes.Cut(response[at:at+mschap.ChallengeSize], []byte{0})
	return string(text)
}

// extraOf is what belongs to an acceptance beside what its rule says: what another server said when it checked the
// password, and what a response of MS-CHAPv2 wants in return.
func (s *Server) extraOf(r *request, outcome login.Outcome) *wire.Extra {
	extra, _ := outcome.Extra().(*wire.Extra)
	if extra == nil && r.opened {
		extra = s.extras.take(r.progress.ID())
	}
	if r.proof == nil {
		return extra
	}
	send, recv, ok := r.proof.Keys()
	if !ok {
		return extra
	}
	own := wire.Extra{
		MSCHAP2Success: append([]byte{r.view.MSResponse2.In(r.packet)[0]}, r.proof.Success()...),
		SendKey:        send[:], RecvKey: recv[:],
	}
	if extra != nil {
		own.Attributes = extra.Attributes
	}
	return &own
}

// addProofs adds what extraOf found. Keys are what a session's encryption is made of: without them, a VPN over PPP that
// insists on encryption ends it.
func (s *Server) addProofs(out *wire.Writer, r *request, tools *toolbox, outcome login.Outcome) {
	var extra *wire.Extra
	if r.eap != nil {
		extra = r.eap.accepted(out, r)
	} else {
		extra = s.extraOf(r, outcome)
	}
	if extra == nil {
		return
	}
	for _, a := range extra.Attributes {
		out.AddAttribute(a)
	}
	if len(extra.MSCHAP2Success) > 0 {
		out.AddVendor(wire.VendorMicrosoft, wire.MicrosoftCHAP2Success, extra.MSCHAP2Success)
	}
	if len(extra.SendKey) == 0 || len(extra.RecvKey) == 0 {
		return
	}
	if len(extra.MSCHAP2Success) > 0 && !has(extra.Attributes, msPolicy) {
		out.AddVendor(wire.VendorMicrosoft, msPolicy, binary.BigEndian.AppendUint32(nil, mayEncrypt))
		out.AddVendor(wire.VendorMicrosoft, msTypes, binary.BigEndian.AppendUint32(nil, rc4Any))
	}
	var salt [2]byte
	_, _ = rand.Read(salt[:]) // never fails
	first := binary.BigEndian.Uint16(salt[:])
	for i, key := range [...]struct {
		kind  byte
		value []byte
	}{{wire.MicrosoftMPPESendKey, extra.SendKey}, {wire.MicrosoftMPPERecvKey, extra.RecvKey}} {
		if r.plain { // RFC 9765 section 5.1.4
			out.AddVendor(wire.VendorMicrosoft, key.kind, key.value)
			continue
		}
		hidden := tools.HideSalted(r.client.key, first+uint16(i), key.value, r.packet[4:wire.HeaderSize], nil)
		out.AddVendor(wire.VendorMicrosoft, key.kind, hidden)
	}
}

func has(attributes []wire.Attribute, kind byte) bool {
	for _, a := range attributes {
		if a.Vendor == wire.VendorMicrosoft && a.Type == kind {
			return true
		}
	}
	return false
}

// addRefusal adds what a method's own refusal is: the same whatever was wrong (P6). A new challenge is a part of its form,
// and of no use, since it may not be tried again.
func (s *Server) addRefusal(out *wire.Writer, r *request) {
	switch {
	case r.eap != nil:
		out.AddLong(wire.AttrEAPMessage, r.eap.last)
	case r.view.EAP.Present():
		out.Add(wire.AttrEAPMessage, eapFailure(r.view.EAP.In(r.packet)))
	}
	if response := r.view.MSResponse2; response.Present() {
		var challenge [mschap.ChallengeSize]byte
		_, _ = rand.Read(challenge[:]) // never fails
		id := byte(0)
		if response.Len() > 0 {
			id = response.In(r.packet)[0]
		}
		text := errorFailure + strings.ToUpper(hex.EncodeToString(challenge[:])) + errorVersion
		out.AddVendor(wire.VendorMicrosoft, msError, append([]byte{id}, text...))
	}
}
