package eap

import "encoding/binary"

// Codes and types of RFC 3748 sections 4 and 5, and of the methods.
const (
	codeRequest  = 1
	codeResponse = 2
	codeSuccess  = 3
	codeFailure  = 4

	typeIdentity = 1
	typeNak      = 3
	typeGTC      = 6
	typeTTLS     = 21
	typePEAP     = 25
	typeMSCHAPv2 = 26
	typeTLV      = 33

	headerSize = 4
)

// packet is an EAP packet taken apart; body begins with the type.
type packet struct {
	code, id byte
	body     []byte
	whole    []byte
}

// parse reports whether b begins with an EAP packet. Octets beyond its Length are padding of the link (RFC 3748
// section 4.1). A Request or Response has a type.
func parse(b []byte) (p packet, ok bool) {
	if len(b) < headerSize {
		return p, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < headerSize || n > len(b) {
		return p, false
	}
	p = packet{code: b[0], id: b[1], body: b[headerSize:n], whole: b[:n]}
	switch p.code {
	case codeRequest, codeResponse:
		return p, len(p.body) > 0
	case codeSuccess, codeFailure:
		return p, len(p.body) == 0
	default:
		return p, false
	}
}

func build(code, id byte, body []byte) []byte {
	n := headerSize + len(body)
	b := make([]byte, 0, n)
	b = append(b, code, id)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	return append(b, body...)
}
