package upstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/login"
	"sallyport/radiusd/exchange"
	"sallyport/radiusd/wire"
)

const (
	// maxPrompt bounds, in bytes, what a server's further question shows.
	maxPrompt = 1024
	// promptEcho is Prompt's value for an answer that may be seen (RFC 2869 section 5.10).
	promptEcho = 1
)

// Attributes that layeh's packages know, and wire does not name.
const (
	attrTunnelPassword = 69 // RFC 2868 section 3.5
	// Microsoft's, RFC 2548: a new password, and keys of MS-CHAP version 1.
	msCPW1, msCPW2, msLMEncPW, msNTEncPW, msMPPEKeys, msCPW3 = 3, 4, 5, 6, 12, 27
)

// read makes login's answer of a server's.
func (u *Upstream) read(a *asked, s *server, r *exchange.Response) (login.Answer, error) {
	switch r.Code {
	case wire.CodeAccessAccept:
		if a.nobody {
			return login.Answer{}, login.ErrWrong
		}
		return u.accepted(r)
	case wire.CodeAccessChallenge:
		return challenged(a, s, r)
	default:
		return login.Answer{}, rejected(r)
	}
}

// accepted gathers what the NAS is to get.
func (u *Upstream) accepted(r *exchange.Response) (login.Answer, error) {
	var extra wire.Extra
	var err error
	some := false
	r.Each(func(a wire.Attribute) bool {
		var key *[]byte
		switch {
		case a.Vendor == wire.VendorMicrosoft && a.Type == wire.MicrosoftCHAP2Success:
			extra.MSCHAP2Success = bytes.Clone(a.Value)
		case a.Vendor == wire.VendorMicrosoft && a.Type == wire.MicrosoftMPPESendKey:
			key = &extra.SendKey
		case a.Vendor == wire.VendorMicrosoft && a.Type == wire.MicrosoftMPPERecvKey:
			key = &extra.RecvKey
		case ofOneHop(a) || len(a.Value) == 0 || !u.o.Relay(a.Vendor, a.Type):
			return true
		default:
			extra.Attributes = append(extra.Attributes, wire.Attribute{Vendor: a.Vendor, Type: a.Type, Value: bytes.Clone(a.Value)})
		}
		some = true
		if key != nil {
			clear, ok := r.Reveal(a.Value)
			if !ok {
				err = errors.New("its Access-Accept has an MS-MPPE key that cannot be read")
				return false
			}
			*key = clear
		}
		return true
	})
	if err != nil || !some {
		return login.Answer{}, err
	}
	return login.Answer{Extra: &extra}, nil
}

// ofOneHop reports whether an attribute means nothing, or too much, beyond the two who talk.
func ofOneHop(a wire.Attribute) bool {
	switch a.Vendor {
	case 0:
		switch a.Type {
		case wire.AttrUserPassword, wire.AttrCHAPPassword, wire.AttrCHAPChallenge, wire.AttrState, wire.AttrProxyState,
			wire.AttrEAPMessage, wire.AttrMessageAuth, attrTunnelPassword:
			return true
		}
	case wire.VendorMicrosoft:
		switch a.Type {
		case wire.MicrosoftCHAPError, wire.MicrosoftCHAPChallenge, wire.MicrosoftCHAP2Response, 1, // MS-CHAP-Response
			msCPW1, msCPW2, msLMEncPW, msNTEncPW, msMPPEKeys, msCPW3:
			return true
		}
	}
	return false
}

// challenged makes a further question. Whether its answer may be seen is Prompt's to say; the RFC leaves open what holds
// without it, and a new PIN is asked for in the same way as a code, so that it then is not shown.
func challenged(a *asked, s *server, r *exchange.Response) (login.Answer, error) {
	more := &login.More{}
	var text [][]byte
	r.Each(func(one wire.Attribute) bool {
		switch {
		case one.Vendor != 0:
		case one.Type == wire.AttrReplyMessage:
			text = append(text, one.Value)
		case one.Type == wire.AttrPrompt && len(one.Value) == 4:
			more.Echo = binary.BigEndian.Uint32(one.Value) == promptEcho
		}
		return true
	})
	more.Prompt = promptOf(text)
	var state []byte
	if r.View.State.Present() {
		state = r.View.State.In(r.Packet)
	}
	var fits bool
	if more.State, fits = a.keep(s, state); !fits {
		return login.Answer{}, fmt.Errorf("its Access-Challenge has a State of %d octets, and a State of ours has room for %d", len(state), maxState)
	}
	return login.Answer{More: more}, nil
}

// promptOf joins Reply-Messages. One that fills its attribute goes on in the next, maybe in the middle of a character;
// others stand apart.
func promptOf(messages [][]byte) string {
	var whole []byte
	for _, m := range messages {
		if len(whole) > 2*maxPrompt {
			break
		}
		whole = append(whole, m...)
		if len(m) < wire.MaxValue {
			whole = append(whole, ' ')
		}
	}
	return printable(string(whole), maxPrompt)
}

// printable makes text of at most n bytes that does nothing to a terminal, a log or a page but to be read.
func printable(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// rejected makes the error of an Access-Reject.
func rejected(r *exchange.Response) error {
	err := login.ErrWrong
	r.Each(func(a wire.Attribute) bool {
		if a.Vendor != wire.VendorMicrosoft || a.Type != wire.MicrosoftCHAPError || len(a.Value) < 2 {
			return true
		}
		// The identifier before the text is that of the response, which the NAS's adapter knows.
		err = &Rejected{MSCHAPError: printable(string(a.Value[1:]), wire.MaxVendorValue)}
		return false
	})
	return err
}
