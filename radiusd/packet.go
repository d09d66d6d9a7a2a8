package radiusd

import (
	"encoding/binary"
	"net/netip"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
)

const (
	headerSize = 20
	// maxPacket is the longest packet (RFC 2865 section 3).
	maxPacket = radius.MaxPacketLength
	// maxAttributes bounds the attributes of a request. Empty ones would otherwise fit 2038 times into a packet;
	// FreeRADIUS draws the line at 200 as well.
	maxAttributes = 200
	// maxProxyState bounds the bytes of Proxy-State in a request, so that every reply that must repeat them fits into
	// a packet beside maxReply.
	maxProxyState = 1024
	// maxPassword is the longest User-Password (RFC 2865 section 5.2).
	maxPassword = 128
	// maxValue is the longest value of an attribute.
	maxValue = 253

	authenticatorSize = 16
	vendorMicrosoft   = 311
)

// Attribute numbers. Those that layeh's packages do not export under a short name stand here once.
const (
	attrUserName      = byte(rfc2865.UserName_Type)
	attrUserPassword  = byte(rfc2865.UserPassword_Type)
	attrCHAPPassword  = byte(rfc2865.CHAPPassword_Type)
	attrNASIPAddress  = byte(rfc2865.NASIPAddress_Type)
	attrServiceType   = byte(rfc2865.ServiceType_Type)
	attrReplyMessage  = byte(rfc2865.ReplyMessage_Type)
	attrState         = byte(rfc2865.State_Type)
	attrVendor        = byte(rfc2865.VendorSpecific_Type)
	attrSessionTime   = byte(rfc2865.SessionTimeout_Type)
	attrIdleTime      = byte(rfc2865.IdleTimeout_Type)
	attrCalledID      = byte(rfc2865.CalledStationID_Type)
	attrCallingID     = byte(rfc2865.CallingStationID_Type)
	attrNASIdentifier = byte(rfc2865.NASIdentifier_Type)
	attrProxyState    = byte(rfc2865.ProxyState_Type)
	attrPrompt        = byte(rfc2869.Prompt_Type)
	attrEAPMessage    = byte(rfc2869.EAPMessage_Type)
	attrMessageAuth   = byte(rfc2869.MessageAuthenticator_Type)
	attrNASIPv6       = byte(rfc3162.NASIPv6Address_Type)

	codeAccessRequest = byte(radius.CodeAccessRequest)
	codeStatusServer  = byte(radius.CodeStatusServer)

	authorizeOnly = 17 // Service-Type, RFC 5176 section 3.1
)

// span is where an attribute's value lies in its packet; off is 0 where there is none.
type span struct{ off, len uint16 }

func (s span) in(b []byte) []byte   { return b[s.off : s.off+s.len] }
func (s span) present() bool        { return s.off != 0 }
func (s span) text(b []byte) string { return string(s.in(b)) }

// view is a request as its attributes were found in one pass over its bytes, without copies. Of attributes that
// should stand once and stand more often, the first counts, unless that would be ambiguous about who logs in.
type view struct {
	userName, password, state       span
	messageAuth                     span
	nasIP, nasIPv6, nasID           span
	called, calling                 span
	service, eap                    span
	chap, msCHAP                    bool
	proxyStates, proxyBytes, number int
}

// header checks the fixed part of a datagram and cuts off what lies behind Length, which RFC 2865 section 3 calls
// padding.
func header(datagram []byte) ([]byte, dropReason) {
	if len(datagram) < headerSize {
		return nil, dropShort
	}
	n := int(binary.BigEndian.Uint16(datagram[2:]))
	if n < headerSize || n > maxPacket || n > len(datagram) {
		return nil, dropLength
	}
	return datagram[:n], dropNone
}

func authenticatorOf(packet []byte) [authenticatorSize]byte {
	return [authenticatorSize]byte(packet[4:headerSize])
}

// parse finds the attributes of a packet whose header is good.
func (v *view) parse(b []byte) dropReason {
	*v = view{}
	for i := headerSize; i < len(b); {
		if len(b)-i < 2 {
			return dropMalformed
		}
		t, n := b[i], int(b[i+1])
		if n < 2 || n > len(b)-i {
			return dropMalformed
		}
		if v.number++; v.number > maxAttributes {
			return dropTooMany
		}
		value := span{uint16(i + 2), uint16(n - 2)}
		var once *span
		switch t {
		case attrUserName:
			once = &v.userName
		case attrUserPassword:
			once = &v.password
		case attrState:
			once = &v.state
		case attrMessageAuth:
			if n != 2+authenticatorSize {
				return dropMalformed
			}
			once = &v.messageAuth
		case attrProxyState:
			v.proxyStates++
			v.proxyBytes += n
		case attrCHAPPassword:
			v.chap = true
		case attrEAPMessage:
			first(&v.eap, value)
		case attrVendor:
			v.msCHAP = v.msCHAP || isMSCHAP(value.in(b))
		case attrNASIPAddress:
			first(&v.nasIP, value)
		case attrNASIPv6:
			first(&v.nasIPv6, value)
		case attrNASIdentifier:
			first(&v.nasID, value)
		case attrCalledID:
			first(&v.called, value)
		case attrCallingID:
			first(&v.calling, value)
		case attrServiceType:
			first(&v.service, value)
		}
		if once != nil {
			if once.present() {
				return dropRepeated
			}
			*once = value
		}
		i += n
	}
	return v.together()
}

func first(s *span, value span) {
	if !s.present() {
		*s = value
	}
}

// together checks which attributes may stand beside each other.
func (v *view) together() dropReason {
	switch {
	case v.password.present() && v.chap: // RFC 2865 section 4.1
		return dropConflicting
	case v.eap.present() && (v.password.present() || v.chap || v.msCHAP): // RFC 3579 section 3.3
		return dropConflicting
	case v.eap.present() && !v.messageAuth.present(): // RFC 3579 section 3.2
		return dropAuthMissing
	case v.password.present() && (v.password.len == 0 || v.password.len%16 != 0 || v.password.len > maxPassword):
		return dropPassword
	case v.proxyBytes > maxProxyState:
		return dropProxyOversize
	}
	return dropNone
}

// isMSCHAP tells whether a Vendor-Specific value holds a response of MS-CHAP or MS-CHAPv2 (RFC 2548 section 2).
func isMSCHAP(value []byte) bool {
	const response, response2 = 1, 25
	if len(value) < 4 || binary.BigEndian.Uint32(value) != vendorMicrosoft {
		return false
	}
	for rest := value[4:]; len(rest) >= 2; {
		n := int(rest[1])
		if n < 2 || n > len(rest) {
			return false
		}
		if rest[0] == response || rest[0] == response2 {
			return true
		}
		rest = rest[n:]
	}
	return false
}

// uint32In reads an integer attribute.
func uint32In(b []byte, s span) (uint32, bool) {
	if !s.present() || s.len != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(s.in(b)), true
}

// addrIn reads an address attribute.
func addrIn(b []byte, s span) string {
	if !s.present() {
		return ""
	}
	a, ok := netip.AddrFromSlice(s.in(b))
	if !ok {
		return ""
	}
	return a.String()
}
