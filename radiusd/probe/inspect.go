package probe

import (
	"bytes"
	"fmt"
	"strings"

	"layeh.com/radius/rfc2865"

	"sallyport/radiusd/wire"
)

// inspect looks at what every answer must have, and what answers of its code must not.
func (p *prober) inspect(request, answer []byte) {
	var v wire.View
	why := wire.None
	if p.plain {
		why = v.ParsePlain(answer)
	} else {
		why = v.Parse(answer)
	}
	if why != wire.None {
		p.report.found(false, "attributes", why.String(), "NAS drop such an answer")
		return
	}
	p.signature(request, answer, &v)
	var states []string
	var message strings.Builder
	wire.Each(answer, func(t byte, value []byte) bool {
		switch t {
		case wire.AttrProxyState:
			states = append(states, string(value))
		case wire.AttrReplyMessage:
			message.Write(value)
		}
		return true
	})
	p.report.Message = message.String()
	p.report.found(len(states) == 2 && [2]string(states) == probeProxyStates, "proxy_state", fmt.Sprintf("want both in their order, got %q", states),
		"a proxy in between loses the answer (RFC 2865 section 5.33)")
	if answer[0] == wire.CodeAccessReject {
		p.report.found(!v.State.Present() && !privileged(answer), "reject_attributes", "a reject carries State or privileges", "RFC 2865 section 5.44")
	}
}

// signature looks at authenticators.
func (p *prober) signature(request, answer []byte, v *wire.View) {
	if p.plain {
		has := false
		wire.Each(answer, func(t byte, _ []byte) bool { has = t == wire.AttrMessageAuth; return !has })
		p.report.found(!has, "message_authenticator", "there is one, which RADIUS/1.1 has not", "RFC 9765 section 5.2")
		return
	}
	p.report.found(true, "response_authenticator", "", "")
	const forged = "the answer could be forged (CVE-2024-3596)"
	off := v.MessageAuth.At()
	if off == 0 && p.TLS != nil {
		p.report.add("message_authenticator", Note, "none, which does no harm over TLS", "")
		return
	}
	p.report.found(off != 0, "message_authenticator", "none", forged)
	if off != 0 {
		want := p.digest.MessageAuth(p.key, answer, request[4:wire.HeaderSize], off)
		p.report.found(bytes.Equal(want, answer[off:off+wire.AuthenticatorSize]), "message_authenticator_value", "it is wrong", "NAS drop the answer, and say that the secret is wrong")
		p.report.found(off == wire.MessageAuthAt, "message_authenticator_first", "it is not the first attribute", forged)
	}
}

// challenge looks at what an Access-Challenge must and must not have, and returns its State.
func (p *prober) challenge(answer []byte) (state []byte, ok bool) {
	wire.Each(answer, func(t byte, value []byte) bool {
		if t == wire.AttrState {
			state = bytes.Clone(value)
		}
		return true
	})
	ok = len(state) > 0
	p.report.found(ok, "challenge_state", "there is no State", "a challenge without State cannot be answered")
	p.report.found(p.report.Message != "", "challenge_message", "there is no Reply-Message", "pam_radius takes such a challenge for a failure")
	p.report.found(!privileged(answer), "challenge_privileges", "it carries privileges", "some NAS take a challenge for an acceptance")
	return state, ok
}

// privileged reports whether an answer has what only an acceptance may have.
func privileged(answer []byte) bool {
	found := false
	wire.Each(answer, func(t byte, _ []byte) bool {
		switch t {
		case wire.AttrClass, wire.AttrServiceType, byte(rfc2865.FilterID_Type):
			found = true
		}
		return !found
	})
	return found
}

// proofs looks at what belongs to MS-CHAPv2: the server's own proof and the keys for a session's encryption, or the refusal.
func (p *prober) proofs(request, answer []byte, expect *expected) {
	if expect == nil {
		return
	}
	found := make(map[byte][]byte)
	wire.EachAttribute(answer, func(a wire.Attribute) bool {
		if a.Vendor == wire.VendorMicrosoft {
			found[a.Type] = a.Value
		}
		return true
	})
	switch answer[0] {
	case wire.CodeAccessReject:
		text := string(found[wire.MicrosoftCHAPError])
		p.report.found(strings.Contains(text, "E=691") && strings.Contains(text, "V=3"), "mschap_error", "MS-CHAP-Error is missing or has not the form E=691 ... V=3",
			"the device would wait, or tell the person nothing (RFC 2759 section 6)")
	case wire.CodeAccessAccept:
		want := append([]byte{expect.id}, expect.proof.Success()...)
		p.report.found(bytes.Equal(found[wire.MicrosoftCHAP2Success], want), "mschap_success", "MS-CHAP2-Success is missing or does not prove that the server knows the code",
			"the device ends the session (RFC 2759 section 5)")
		send, recv, _ := expect.proof.Keys()
		good := p.keyIs(request, found[wire.MicrosoftMPPESendKey], send[:]) && p.keyIs(request, found[wire.MicrosoftMPPERecvKey], recv[:])
		p.report.found(good, "mppe_keys", "MS-MPPE-Send-Key or MS-MPPE-Recv-Key is missing or wrong", "a VPN over PPP that insists on encryption ends the session (RFC 3079)")
	}
}

// keyIs reveals a key and compares it.
func (p *prober) keyIs(request, hidden, want []byte) bool {
	if p.plain { // RFC 9765 section 5.1.4
		return bytes.Equal(hidden, want)
	}
	clear, ok := p.digest.RevealSalted(p.key, hidden, request[4:wire.HeaderSize])
	return ok && bytes.Equal(clear, want)
}
