package wire

import (
	"encoding/binary"
	"net/netip"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
)

const (
	HeaderSize = 20
	// MaxPacket is the longest packet (RFC 2865 section 3).
	MaxPacket = radius.MaxPacketLength
	// MaxAttributes bounds the attributes of a request. Empty ones would otherwise fit 2038 times into a packet;
	// FreeRADIUS draws the line at 200 as well.
	MaxAttributes = 200
	// MaxProxyState bounds the bytes of Proxy-State in a request, so that every reply that must repeat them fits into
	// a packet beside maxReply.
	MaxProxyState = 1024
	// MaxPassword is the longest User-Password (RFC 2865 section 5.2).
	MaxPassword = 128
	// MaxValue is the longest value of an attribute.
	MaxValue = 253

	AuthenticatorSize = 16
	VendorMicrosoft   = 311
)

// Attribute numbers. Those that layeh's packages do not export under a short name stand here once.
const (
	AttrUserName      = byte(rfc2865.UserName_Type)
	AttrUserPassword  = byte(rfc2865.UserPassword_Type)
	AttrCHAPPassword  = byte(rfc2865.CHAPPassword_Type)
	AttrNASPort       = byte(rfc2865.NASPort_Type)
	AttrClass         = byte(rfc2865.Class_Type)
	AttrCHAPChallenge = byte(rfc2865.CHAPChallenge_Type)
	AttrNASIPAddress  = byte(rfc2865.NASIPAddress_Type)
	AttrServiceType   = byte(rfc2865.ServiceType_Type)
	AttrReplyMessage  = byte(rfc2865.ReplyMessage_Type)
	AttrState         = byte(rfc2865.State_Type)
	AttrVendor        = byte(rfc2865.VendorSpecific_Type)
	AttrSessionTime   = byte(rfc2865.SessionTimeout_Type)
	AttrIdleTime      = byte(rfc2865.IdleTimeout_Type)
	AttrCalledID      = byte(rfc2865.CalledStationID_Type)
	AttrCallingID     = byte(rfc2865.CallingStationID_Type)
	AttrNASIdentifier = byte(rfc2865.NASIdentifier_Type)
	AttrProxyState    = byte(rfc2865.ProxyState_Type)
	AttrPrompt        = byte(rfc2869.Prompt_Type)
	AttrEAPMessage    = byte(rfc2869.EAPMessage_Type)
	AttrMessageAuth   = byte(rfc2869.MessageAuthenticator_Type)
	AttrNASIPv6       = byte(rfc3162.NASIPv6Address_Type)

	CodeAccessRequest   = byte(radius.CodeAccessRequest)
	CodeAccessAccept    = byte(radius.CodeAccessAccept)
	CodeAccessReject    = byte(radius.CodeAccessReject)
	CodeAccessChallenge = byte(radius.CodeAccessChallenge)
	CodeStatusServer    = byte(radius.CodeStatusServer)

	AuthorizeOnly = 17 // Service-Type, RFC 5176 section 3.1

	// Types within Microsoft's Vendor-Specific (RFC 2548).
	msResponse  = byte(1)
	msChallenge = byte(11)
	msResponse2 = byte(25)
)

// Span is where an attribute's value lies in its packet; off is 0 where there is none.
type Span struct{ off, len uint16 }

// In returns the value, in the packet's memory.
func (s Span) In(b []byte) []byte { return b[s.off : s.off+s.len] }

// Present reports whether there is one.
func (s Span) Present() bool { return s.off != 0 }

// Text copies the value.
func (s Span) Text(b []byte) string { return string(s.In(b)) }

// At is where the value begins.
func (s Span) At() int { return int(s.off) }

// Len is how long the value is.
func (s Span) Len() int { return int(s.len) }

// View is a request as its attributes were found in one pass over its bytes, without copies. Of attributes that
// should stand once and stand more often, the first counts, unless that would be ambiguous about who logs in.
type View struct {
	UserName, Password, State       Span
	MessageAuth                     Span
	NASIP, NASIPv6, NASID           Span
	NASPort                         Span
	Called, Calling                 Span
	Service, EAP                    Span
	CHAP, CHAPChallenge             Span // CHAP-Password, CHAP-Challenge
	MSChallenge                     Span // MS-CHAP-Challenge (RFC 2548 section 2.1.2)
	MSResponse, MSResponse2         Span // MS-CHAP-Response, MS-CHAP2-Response
	ProxyStates, ProxyBytes, Number int
}

// Header checks the fixed part of a datagram and cuts off what lies behind Length, which RFC 2865 section 3 calls
// padding.
func Header(datagram []byte) ([]byte, Problem) {
	if len(datagram) < HeaderSize {
		return nil, Short
	}
	n := int(binary.BigEndian.Uint16(datagram[2:]))
	if n < HeaderSize || n > MaxPacket || n > len(datagram) {
		return nil, BadLength
	}
	return datagram[:n], None
}

// AuthenticatorOf is the packet's Request or Response Authenticator.
func AuthenticatorOf(packet []byte) [AuthenticatorSize]byte {
	return [AuthenticatorSize]byte(packet[4:HeaderSize])
}

// Parse finds the attributes of a packet whose header is good.
func (v *View) Parse(b []byte) Problem { return v.parse(b, false) }

// ParsePlain is Parse for RADIUS/1.1 (RFC 9765 section 5), where passwords are plain, and a Message-Authenticator means
// nothing.
func (v *View) ParsePlain(b []byte) Problem {
	why := v.parse(b, true)
	v.MessageAuth = Span{}
	return why
}

func (v *View) parse(b []byte, plain bool) Problem {
	*v = View{}
	for i := HeaderSize; i < len(b); {
		if len(b)-i < 2 {
			return Malformed
		}
		t, n := b[i], int(b[i+1])
		if n < 2 || n > len(b)-i {
			return Malformed
		}
		if v.Number++; v.Number > MaxAttributes {
			return TooMany
		}
		value := Span{uint16(i + 2), uint16(n - 2)}
		var once *Span
		switch t {
		case AttrUserName:
			once = &v.UserName
		case AttrUserPassword:
			once = &v.Password
		case AttrState:
			once = &v.State
		case AttrMessageAuth:
			if n != 2+AuthenticatorSize {
				return Malformed
			}
			once = &v.MessageAuth
		case AttrProxyState:
			v.ProxyStates++
			v.ProxyBytes += n
		case AttrCHAPPassword:
			once = &v.CHAP
		case AttrCHAPChallenge:
			first(&v.CHAPChallenge, value)
		case AttrEAPMessage:
			first(&v.EAP, value)
		case AttrVendor:
			if v.microsoft(b, value) {
				return Repeated
			}
		case AttrNASIPAddress:
			first(&v.NASIP, value)
		case AttrNASPort:
			first(&v.NASPort, value)
		case AttrNASIPv6:
			first(&v.NASIPv6, value)
		case AttrNASIdentifier:
			first(&v.NASID, value)
		case AttrCalledID:
			first(&v.Called, value)
		case AttrCallingID:
			first(&v.Calling, value)
		case AttrServiceType:
			first(&v.Service, value)
		}
		if once != nil {
			if once.Present() {
				return Repeated
			}
			*once = value
		}
		i += n
	}
	return v.together(plain)
}

func first(s *Span, value Span) {
	if !s.Present() {
		*s = value
	}
}

// together checks which attributes may stand beside each other.
func (v *View) together(plain bool) Problem {
	passwords := 0
	for _, s := range [...]Span{v.Password, v.CHAP, v.MSResponse, v.MSResponse2} {
		if s.Present() {
			passwords++
		}
	}
	switch {
	case passwords > 1: // RFC 2865 section 4.1
		return Conflicting
	case v.EAP.Present() && passwords > 0: // RFC 3579 section 3.3
		return Conflicting
	case v.EAP.Present() && !v.MessageAuth.Present() && !plain: // RFC 3579 section 3.2
		return AuthMissing
	case v.Password.Present() && plain:
		if v.Password.len == 0 || v.Password.len > MaxPassword {
			return PasswordLength
		}
	case v.Password.Present() && (v.Password.len == 0 || v.Password.len%16 != 0 || v.Password.len > MaxPassword):
		return PasswordLength
	}
	if v.ProxyBytes > MaxProxyState {
		return ProxyOversize
	}
	return None
}

// microsoft finds what a Vendor-Specific value holds of MS-CHAP (RFC 2548 section 2), and reports whether a response
// stands there a second time. What does not have the form of vendor attributes holds none.
func (v *View) microsoft(b []byte, value Span) (repeated bool) {
	in := value.In(b)
	if len(in) < 4 || binary.BigEndian.Uint32(in) != VendorMicrosoft {
		return false
	}
	for at := 4; len(in)-at >= 2; {
		n := int(in[at+1])
		if n < 2 || n > len(in)-at {
			return false
		}
		inner := Span{value.off + uint16(at) + 2, uint16(n - 2)}
		var once *Span
		switch in[at] {
		case msResponse:
			once = &v.MSResponse
		case msResponse2:
			once = &v.MSResponse2
		case msChallenge:
			first(&v.MSChallenge, inner)
		}
		if once != nil {
			if once.Present() {
				return true
			}
			*once = inner
		}
		at += n
	}
	return false
}

// Each calls fn for every attribute of a packet whose form is good, in order, until fn returns false.
func Each(packet []byte, fn func(t byte, value []byte) bool) {
	for i := HeaderSize; i+1 < len(packet) && packet[i+1] >= 2 && i+int(packet[i+1]) <= len(packet); i += int(packet[i+1]) {
		if !fn(packet[i], packet[i+2:i+int(packet[i+1])]) {
			return
		}
	}
}

// Uint32In reads an integer attribute.
func Uint32In(b []byte, s Span) (uint32, bool) {
	if !s.Present() || s.len != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(s.In(b)), true
}

// AddrIn reads an address attribute.
func AddrIn(b []byte, s Span) string {
	if !s.Present() {
		return ""
	}
	a, ok := netip.AddrFromSlice(s.In(b))
	if !ok {
		return ""
	}
	return a.String()
}
