// Package mschap checks responses of MS-CHAP version 2 (RFC 2759) against passwords and one-time codes, and derives what
// belongs to them: the authenticator's answer and the keys of MPPE (RFC 3079).
//
// The arithmetic is that of layeh.com/radius. MS-CHAPv2 rests on MD4 and DES, and a response over a code of six digits
// gives the code away to whoever hears it: it is for use within a tunnel, or where a device can do nothing else.
package mschap

import (
	"crypto/subtle"
	"strings"

	"layeh.com/radius/rfc2759"
	"layeh.com/radius/rfc3079"
)

// Sizes in octets (RFC 2759 sections 3 and 4, RFC 3079 section 3.4).
const (
	ChallengeSize = 16
	ResponseSize  = 24
	KeySize       = 16
)

// V2 is one response of MS-CHAPv2. It's for one goroutine at a time.
type V2 struct {
	user                string
	authenticator, peer [ChallengeSize]byte
	response            [ResponseSize]byte
	hash                []byte // of challenges and name, RFC 2759 section 8.2

	success    string
	send, recv [KeySize]byte
}

// NewV2 takes a response: the name as the peer gave it, of which a domain before a backslash is no part (RFC 2759
// section 4), both challenges, and the NT-Response.
func NewV2(user string, authenticator, peer [ChallengeSize]byte, response [ResponseSize]byte) *V2 {
	if _, name, found := strings.Cut(user, `\`); found {
		user = name
	}
	return &V2{
		user: user, authenticator: authenticator, peer: peer, response: response,
		hash: rfc2759.ChallengeHash(peer[:], authenticator[:], []byte(user)),
	}
}

// Proves reports whether the response is that of a password. What it takes does not depend on how much of it is right.
func (p *V2) Proves(password string) bool {
	wide, err := rfc2759.ToUTF16([]byte(password))
	if err != nil {
		return false
	}
	hash := rfc2759.NTPasswordHash(wide)
	if subtle.ConstantTimeCompare(rfc2759.ChallengeResponse(p.hash, hash), p.response[:]) != 1 {
		return false
	}
	success, err := rfc2759.GenerateAuthenticatorResponse(p.authenticator[:], p.peer[:], p.response[:], []byte(p.user), []byte(password))
	if err != nil {
		return false
	}
	master := rfc3079.GetMasterKey(rfc2759.NTPasswordHash(hash), p.response[:])
	send, err := rfc3079.GetAsymmetricStartKey(master, rfc3079.KeyLength128Bit, true)
	if err != nil {
		return false
	}
	recv, err := rfc3079.GetAsymmetricStartKey(master, rfc3079.KeyLength128Bit, false)
	if err != nil {
		return false
	}
	p.success, p.send, p.recv = success, [KeySize]byte(send), [KeySize]byte(recv)
	return true
}

// Success is the authenticator's answer to who proved a password: "S=" and 40 hexadecimal digits (RFC 2759 section 5).
// It's empty until Proves reported true.
func (p *V2) Success() string { return p.success }

// Keys are MPPE's 128-bit start keys as the server has them (RFC 3079 section 3.3): ok once Proves reported true.
func (p *V2) Keys() (send, recv [KeySize]byte, ok bool) { return p.send, p.recv, p.success != "" }
