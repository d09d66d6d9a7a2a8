package main

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"

	"layeh.com/radius/rfc2759"
)

// Codes and attributes beside those of PAP (RFC 2865, 2866 and 2869 section 5, RFC 2548 section 2.3).
const (
	accountingRequest  = 4
	accountingResponse = 5

	attrCHAPPassword     = 3
	attrClass            = 25
	attrVendorSpecific   = 26
	attrAcctStatusType   = 40
	attrAcctInputOctets  = 42
	attrAcctOutputOctets = 43
	attrAcctSessionID    = 44
	attrAcctSessionTime  = 46
	attrAcctTerminate    = 49
	attrEventTimestamp   = 55
	attrCHAPChallenge    = 60
	vendorMicrosoft      = 311
	msCHAPChallenge      = 11
	msCHAP2Response      = 25
	msCHAP2Success       = 26
	challengeSize        = 16
	microsoftHeader      = 2 + 4 + 2 // attribute, vendor, vendor's attribute
	acctStart            = 1
	acctStop             = 2
	terminateUserRequest = 1
	sessionSeconds       = 600
	sessionBytes         = 123_456
	successEvery         = 16  // of the answers to MS-CHAPv2, one in so many is recomputed
	sessionsHeld         = 128 // that a lane starts before it ends the first of them
	sessionBlock         = 2 * sessionsHeld
	accountingMonth      = 1767225600 // 2026-01-01, what the NAS's clock says
)

var errSuccess = errors.New("reply has no MS-CHAP2-Success, or a wrong one")

// begin appends the header, and room for a Message-Authenticator, which finish fills.
func (s *signer) begin(dst []byte, r request) []byte {
	dst = append(dst, accessRequest, r.id, 0, 0)
	dst = append(dst, r.authenticator[:]...)
	dst = append(dst, attrMessageAuthenticator, 2+macLen)
	return append(dst, make([]byte, macLen)...)
}

// finish signs the packet that begins at at.
func (s *signer) finish(dst []byte, at int) []byte {
	binary.BigEndian.PutUint16(dst[at+2:], uint16(len(dst)-at))
	s.mac.Reset()
	s.mac.Write(dst[at:])
	macAt := at + headerLen + 2
	s.mac.Sum(dst[macAt:macAt])
	return dst
}

func appendText(dst []byte, attr byte, text string) []byte {
	return append(append(dst, attr, byte(2+len(text))), text...)
}

func appendNumber(dst []byte, attr byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, attr, 6), n)
}

// appendPlace says from where.
func appendPlace(dst []byte, r request) []byte {
	nas := r.nas.As4()
	dst = append(append(dst, attrNASIPAddress, 6), nas[:]...)
	dst = appendNumber(dst, attrNASPort, r.port)
	return appendText(dst, attrCallingStationID, r.station)
}

// challenge is made of the authenticator, which is as random.
func (r request) challenge(salt byte) (c [challengeSize]byte) {
	for i, b := range r.authenticator {
		c[i] = b ^ salt
	}
	return c
}

// appendCHAP appends an Access-Request whose code proves itself by CHAP (RFC 2865 section 5.3), with a challenge of its own.
func (s *signer) appendCHAP(dst []byte, r request) []byte {
	at := len(dst)
	dst = appendText(s.begin(dst, r), attrUserName, r.user)
	challenge := r.challenge(0x5a)
	s.md.Reset()
	s.md.Write([]byte{r.id})
	s.md.Write([]byte(r.code))
	s.md.Write(challenge[:])
	dst = s.md.Sum(append(dst, attrCHAPPassword, 2+1+md5.Size, r.id))
	dst = append(append(dst, attrCHAPChallenge, 2+challengeSize), challenge[:]...)
	return s.finish(appendPlace(dst, r), at)
}

// challenges are the server's of MS-CHAPv2, which a NAS makes up, and the peer's.
type challenges struct{ server, peer [challengeSize]byte }

// appendMSCHAP appends an Access-Request whose code proves itself by MS-CHAPv2 (RFC 2548 section 2.3).
func (s *signer) appendMSCHAP(dst []byte, r request, c challenges) ([]byte, error) {
	at := len(dst)
	response, err := rfc2759.GenerateNTResponse(c.server[:], c.peer[:], []byte(r.user), []byte(r.code))
	if err != nil {
		return nil, err
	}
	dst = appendText(s.begin(dst, r), attrUserName, r.user)
	dst = appendMicrosoft(dst, msCHAPChallenge, c.server[:])
	value := append([]byte{r.id, 0}, c.peer[:]...)
	value = append(append(value, make([]byte, 8)...), response...)
	dst = appendMicrosoft(dst, msCHAP2Response, value)
	return s.finish(appendPlace(dst, r), at), nil
}

// mschapSuccess is what a server that knows the code of r answers.
func mschapSuccess(r request, c challenges) (string, error) {
	response, err := rfc2759.GenerateNTResponse(c.server[:], c.peer[:], []byte(r.user), []byte(r.code))
	if err != nil {
		return "", err
	}
	return rfc2759.GenerateAuthenticatorResponse(c.server[:], c.peer[:], response, []byte(r.user), []byte(r.code))
}

func appendMicrosoft(dst []byte, kind byte, value []byte) []byte {
	dst = append(dst, attrVendorSpecific, byte(microsoftHeader+len(value)))
	dst = binary.BigEndian.AppendUint32(dst, vendorMicrosoft)
	return append(append(dst, kind, byte(2+len(value))), value...)
}

// microsoftIn finds a vendor's attribute of Microsoft's in a packet whose attributes are well formed, or nil.
func microsoftIn(packet []byte, kind byte) []byte {
	for at := headerLen; at+2 <= len(packet) && packet[at+1] >= 2; at += int(packet[at+1]) {
		a := packet[at:min(at+int(packet[at+1]), len(packet))]
		if a[0] == attrVendorSpecific && len(a) >= microsoftHeader && binary.BigEndian.Uint32(a[2:]) == vendorMicrosoft && a[6] == kind {
			return a[microsoftHeader:]
		}
	}
	return nil
}

// checkSuccess holds the MS-CHAP2-Success of an acceptance against what it must be, behind the identifier.
func checkSuccess(reply []byte, want string) error {
	if got := microsoftIn(reply, msCHAP2Success); len(got) < 1 || !bytes.Equal(got[1:], []byte(want)) {
		return errSuccess
	}
	return nil
}

// appendAccounting appends an Accounting-Request: the start or the end of a session (RFC 2866 section 4.1). Its Class is such
// as Sallyport gives, which a NAS gives back.
func (s *signer) appendAccounting(dst []byte, r request, session string, status uint32) []byte {
	at := len(dst)
	dst = append(dst, accountingRequest, r.id, 0, 0)
	dst = append(dst, make([]byte, md5.Size)...)
	dst = appendNumber(dst, attrAcctStatusType, status)
	dst = appendText(dst, attrUserName, r.user)
	dst = appendPlace(dst, r)
	sum := sha1.Sum([]byte(session))
	dst = appendText(dst, attrClass, fmt.Sprintf("sallyport:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]))
	dst = appendText(dst, attrAcctSessionID, session)
	dst = appendNumber(dst, attrEventTimestamp, accountingMonth+r.port)
	if status == acctStop {
		dst = appendNumber(dst, attrAcctSessionTime, sessionSeconds)
		dst = appendNumber(dst, attrAcctInputOctets, sessionBytes)
		dst = appendNumber(dst, attrAcctOutputOctets, sessionBytes)
		dst = appendNumber(dst, attrAcctTerminate, terminateUserRequest)
	}
	binary.BigEndian.PutUint16(dst[at+2:], uint16(len(dst)-at))
	s.md.Reset()
	s.md.Write(dst[at:])
	s.md.Write(s.secret)
	s.md.Sum(dst[at+4 : at+4])
	return dst
}
