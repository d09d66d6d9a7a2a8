package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/netip"
)

// Codes and attributes that the bench sends and reads (RFC 2865 section 3 and 5, RFC 3579 section 3.2).
const (
	accessRequest = 1
	accessAccept  = 2
	accessReject  = 3

	attrUserName             = 1
	attrUserPassword         = 2
	attrNASIPAddress         = 4
	attrNASPort              = 5
	attrCallingStationID     = 31
	attrMessageAuthenticator = 80

	headerLen = 20
	macLen    = md5.Size
	passLen   = 16 // one block is enough for a code
)

var (
	errShort         = errors.New("reply is shorter than its header says")
	errResponseAuth  = errors.New("reply has a wrong response authenticator")
	errReplyMAC      = errors.New("reply has a wrong Message-Authenticator")
	errReplyMACFirst = errors.New("reply does not begin with a Message-Authenticator")
)

// signer makes requests and checks replies under one shared secret. It's not safe for concurrent use.
type signer struct {
	secret  []byte
	mac     hash.Hash
	md      hash.Hash
	scratch []byte
}

func newSigner(secret string) *signer {
	return &signer{secret: []byte(secret), mac: hmac.New(md5.New, []byte(secret)), md: md5.New()}
}

// request is what one Access-Request says.
type request struct {
	id            byte
	authenticator [16]byte
	user          string
	code          string
	nas           netip.Addr
	port          uint32
	station       string
	lane          string // part of the names of sessions
}

// appendRequest appends r as a packet to dst, Message-Authenticator first.
func (s *signer) appendRequest(dst []byte, r request) []byte {
	at := len(dst)
	dst = appendText(s.begin(dst, r), attrUserName, r.user)
	dst = append(dst, attrUserPassword, 2+passLen)
	passAt := len(dst)
	dst = append(dst, make([]byte, passLen)...)
	s.hide(dst[passAt:], r.code, r.authenticator)
	return s.finish(appendPlace(dst, r), at)
}

// hide is the User-Password of RFC 2865 section 5.2 for a password of at most one block.
func (s *signer) hide(dst []byte, password string, authenticator [16]byte) {
	s.md.Reset()
	s.md.Write(s.secret)
	s.md.Write(authenticator[:])
	s.md.Sum(dst[:0])
	for i := range password {
		dst[i] ^= password[i]
	}
}

// check verifies a reply to a request with that authenticator: the response authenticator always, the
// Message-Authenticator wherever there is one, and its place and presence when strict.
func (s *signer) check(reply []byte, authenticator []byte, strict bool) (code byte, err error) {
	if len(reply) < headerLen || int(binary.BigEndian.Uint16(reply[2:])) != len(reply) {
		return 0, errShort
	}
	s.scratch = append(s.scratch[:0], reply...)
	got := s.scratch
	copy(got[4:headerLen], authenticator)
	s.md.Reset()
	s.md.Write(got)
	s.md.Write(s.secret)
	var sum [md5.Size]byte
	if !bytes.Equal(s.md.Sum(sum[:0]), reply[4:headerLen]) {
		return 0, errResponseAuth
	}
	seen := false
	for at := headerLen; at < len(reply); {
		if len(reply)-at < 2 || int(reply[at+1]) < 2 || at+int(reply[at+1]) > len(reply) {
			return 0, fmt.Errorf("reply's attributes are malformed at byte %d", at)
		}
		if reply[at] == attrMessageAuthenticator {
			if reply[at+1] != 2+macLen {
				return 0, errReplyMAC
			}
			if strict && at != headerLen {
				return 0, errReplyMACFirst
			}
			clear(got[at+2 : at+2+macLen])
			s.mac.Reset()
			s.mac.Write(got)
			if !bytes.Equal(s.mac.Sum(sum[:0]), reply[at+2:at+2+macLen]) {
				return 0, errReplyMAC
			}
			seen = true
			break
		}
		at += int(reply[at+1])
	}
	if strict && !seen {
		return 0, errReplyMACFirst
	}
	return reply[0], nil
}
