package wire

import (
	"encoding/binary"

	"layeh.com/radius"
)

// Codes of packets that a client of RADIUS servers sends and gets beside those for access (RFC 2866, RFC 5176).
const (
	CodeAccountingRequest  = byte(radius.CodeAccountingRequest)
	CodeAccountingResponse = byte(radius.CodeAccountingResponse)
	CodeDisconnectRequest  = byte(radius.CodeDisconnectRequest)
	CodeDisconnectACK      = byte(radius.CodeDisconnectACK)
	CodeDisconnectNAK      = byte(radius.CodeDisconnectNAK)
	CodeCoARequest         = byte(radius.CodeCoARequest)
	CodeCoAACK             = byte(radius.CodeCoAACK)
	CodeCoANAK             = byte(radius.CodeCoANAK)
)

// Types within Microsoft's Vendor-Specific (RFC 2548).
const (
	MicrosoftCHAPError     = byte(2)
	MicrosoftCHAPChallenge = msChallenge
	MicrosoftMPPESendKey   = byte(16)
	MicrosoftMPPERecvKey   = byte(17)
	MicrosoftCHAP2Response = msResponse2
	MicrosoftCHAP2Success  = byte(26)
)

const (
	// vendorHeader is what stands before the value of a vendor's attribute within Vendor-Specific: number, type, length.
	vendorHeader = 4 + 2
	// MaxVendorValue is the longest value of a vendor's attribute.
	MaxVendorValue = MaxValue - vendorHeader
)

// Fits reports whether a packet can hold a, if it has room for it: an empty value does not exist in RADIUS (RFC 2865
// section 5).
func (a Attribute) Fits() bool {
	longest := MaxValue
	if a.Vendor != 0 {
		longest = MaxVendorValue
	}
	return a.Type != 0 && len(a.Value) > 0 && len(a.Value) <= longest
}

// AddAttribute appends an attribute, a vendor's within a Vendor-Specific of its own (RFC 2865 section 5.26). One that does not
// fit is left out, as by Add.
func (r *Writer) AddAttribute(a Attribute) {
	switch {
	case !a.Fits():
	case a.Vendor == 0:
		r.Add(a.Type, a.Value)
	default:
		r.AddVendor(a.Vendor, a.Type, a.Value)
	}
}

// EachAttribute calls fn for every attribute of a packet whose form is good, in order, until fn returns false. What
// vendors put into their Vendor-Specific comes one by one; where that does not have the form which RFC 2865 section 5.26
// recommends, it comes whole, as the Vendor-Specific of nobody (Vendor 0, Type 26). The values are in the packet's memory.
func EachAttribute(packet []byte, fn func(Attribute) bool) {
	Each(packet, func(t byte, value []byte) bool {
		if t != AttrVendor || !vendorForm(value) {
			return fn(Attribute{Type: t, Value: value})
		}
		vendor := binary.BigEndian.Uint32(value)
		for in := value[4:]; len(in) > 0; in = in[in[1]:] {
			if !fn(Attribute{Vendor: vendor, Type: in[0], Value: in[2:in[1]]}) {
				return false
			}
		}
		return true
	})
}

// vendorForm reports whether a Vendor-Specific holds attributes that fill it exactly.
func vendorForm(value []byte) bool {
	if len(value) <= 4 || binary.BigEndian.Uint32(value) == 0 {
		return false
	}
	in := value[4:]
	for len(in) >= 2 && in[1] >= 2 && int(in[1]) <= len(in) {
		in = in[in[1]:]
	}
	return len(in) == 0
}
