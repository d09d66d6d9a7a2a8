package upstream

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"sallyport/internal/login"
	"sallyport/radiusd/exchange"
	"sallyport/radiusd/wire"
)

// A further question's state (login.More) is the server that asked it, a byte that says whether the conversation is about
// nobody, under which name then, and the server's State:
//
//	tag (4) | nobody (1) | nonce (8) | State
//
// The adapter seals it, so that nobody can alter it.
const (
	tagSize    = 4
	nonceSize  = 8
	stateAt    = tagSize + 1 + nonceSize
	aboutOne   = 0
	aboutNone  = 1
	maxState   = login.MaxMore - stateAt
	nobodyName = "sallyport-nobody-" // with a nonce in hexadecimal: somebody whom no directory has
)

// asked is a question, as a server gets it.
type asked struct {
	request exchange.Request
	server  *server // the one that can be asked; nil: any
	nobody  bool    // no answer lets anybody in
	spared  bool    // it is about a name that cannot exist
	nonce   [nonceSize]byte
}

// tagOf names a server in a further question's state: another gateway with the same server knows it, in whatever order.
func tagOf(address string) [tagSize]byte {
	sum := sha256.Sum256([]byte(strings.ToLower(address)))
	return [tagSize]byte(sum[:])
}

func (u *Upstream) byTag(tag [tagSize]byte) *server {
	for _, s := range u.servers {
		if s.tag == tag {
			return s
		}
	}
	return nil
}

// form makes a request of a question.
func (u *Upstream) form(q login.Question) (asked, error) {
	a := asked{nobody: q.Person == ""}
	name := q.Name
	if name == "" {
		name = q.Person
	}
	a.spared = name == "" || len(name) > wire.MaxValue
	proof, known := prove(q, &name)
	if !known {
		a.spared = true
	}
	var state []byte
	if q.More != nil {
		var err error
		if state, err = u.resume(&a, q.More); err != nil {
			return asked{}, err
		}
	} else if a.spared {
		_, _ = rand.Read(a.nonce[:]) // never fails (crypto/rand)
	}
	if a.spared {
		a.nobody = true
		name = nobodyName + hex.EncodeToString(a.nonce[:])
	}
	a.request = exchange.Request{Code: wire.CodeAccessRequest, Password: proof.password}
	a.request.Attributes = append(u.nasIdentifier(), wire.Attribute{Type: wire.AttrUserName, Value: []byte(name)})
	a.request.Attributes = append(a.request.Attributes, proof.attributes...)
	if len(state) > 0 {
		a.request.Attributes = append(a.request.Attributes, wire.Attribute{Type: wire.AttrState, Value: state})
	}
	return a, nil
}

// resume finds the server that asked, and its State. A conversation about nobody stays one, under the same name; one about
// somebody who is to be spared by now goes on about nobody, and without that State.
func (u *Upstream) resume(a *asked, more []byte) (state []byte, err error) {
	if len(more) < stateAt || len(more) > login.MaxMore || more[tagSize] > aboutNone {
		return nil, errors.New("the further question is none of ours")
	}
	if a.server = u.byTag([tagSize]byte(more)); a.server == nil {
		return nil, errors.New("the server that asked further is not configured any more")
	}
	wasSpared := more[tagSize] == aboutNone
	switch {
	case wasSpared:
		a.spared = true
		copy(a.nonce[:], more[tagSize+1:])
	case a.spared:
		_, _ = rand.Read(a.nonce[:]) // never fails (crypto/rand)
		return nil, nil
	}
	return more[stateAt:], nil
}

// keep makes the state of a further question.
func (a *asked) keep(s *server, state []byte) ([]byte, bool) {
	if len(state) > maxState {
		return nil, false
	}
	more := append(make([]byte, 0, stateAt+len(state)), s.tag[:]...)
	if a.spared {
		more = append(more, aboutNone)
	} else {
		more = append(more, aboutOne)
	}
	more = append(more, a.nonce[:]...)
	return append(more, state...), true
}

// proof is what shows that somebody knows the password.
type proof struct {
	password   []byte
	attributes []wire.Attribute
}

// prove makes it of a question, and reports whether it is one that a server can check. One that is not still makes a
// request like any other.
//
// A User-Password is padded with NULs, which servers cut off: with a NUL in it, one password would be good for another.
func prove(q login.Question, name *string) (proof, bool) {
	switch e := q.Evidence.(type) {
	case nil:
		text := q.Password.Reveal()
		if text != "" && len(text) <= min(login.MaxSecret, wire.MaxPassword) && !strings.Contains(text, "\x00") {
			return proof{password: []byte(text)}, true
		}
	case *wire.CHAP:
		if e != nil {
			return chap(*e)
		}
	case wire.CHAP:
		return chap(e)
	case *wire.MSCHAPv2:
		if e != nil {
			return mschap(*e, name)
		}
	case wire.MSCHAPv2:
		return mschap(e, name)
	}
	return nothing(), false
}

// nothing is a proof that proves nothing.
func nothing() proof { return proof{password: []byte("x")} }

// chap hands a response on (RFC 2865 sections 5.3 and 5.40). Its challenge stands in CHAP-Challenge, whatever it was in the NAS's
// request: our Request Authenticator is another one.
func chap(e wire.CHAP) (proof, bool) {
	if len(e.Challenge) == 0 || len(e.Challenge) > wire.MaxValue {
		return nothing(), false
	}
	response := append([]byte{e.ID}, e.Response[:]...)
	return proof{attributes: []wire.Attribute{
		{Type: wire.AttrCHAPPassword, Value: response},
		{Type: wire.AttrCHAPChallenge, Value: e.Challenge},
	}}, true
}

// mschap hands a response on (RFC 2548 sections 2.1.2 and 2.3.2). The server checks it for the User-Name, which is a part of what
// was hashed (RFC 2759 section 8.2): so that nobody can log in as one and prove another's password, that is the name of
// the question, or the same in the case in which it was hashed.
func mschap(e wire.MSCHAPv2, name *string) (proof, bool) {
	const challengeSize = 16
	if len(e.Challenge) != challengeSize {
		return nothing(), false
	}
	if lowerASCII(e.UserName) == lowerASCII(*name) {
		*name = e.UserName
	}
	return proof{attributes: []wire.Attribute{
		{Vendor: wire.VendorMicrosoft, Type: wire.MicrosoftCHAPChallenge, Value: e.Challenge},
		{Vendor: wire.VendorMicrosoft, Type: wire.MicrosoftCHAP2Response, Value: e.Response[:]},
	}}, true
}

// lowerASCII leaves all but A to Z alone: Unicode folding would let two names become one.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
