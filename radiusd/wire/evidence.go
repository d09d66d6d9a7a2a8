package wire

// CHAP is a CHAP response (RFC 2865 section 5.3), as evidence of a password for a RADIUS server that can check it.
type CHAP struct {
	ID        byte
	Response  [16]byte
	Challenge []byte
}

// MSCHAPv2 is a response of MS-CHAP version 2 (RFC 2548 section 2.3.2), as evidence of a password.
type MSCHAPv2 struct {
	UserName  string
	Challenge []byte // 16 octets
	Response  [50]byte
}

// Attribute is an attribute of a reply to be handed through.
type Attribute struct {
	Vendor uint32 // 0: standard
	Type   byte
	Value  []byte
}

// Extra is what another RADIUS server's Access-Accept holds for the NAS.
type Extra struct {
	MSCHAP2Success   []byte // value of MS-CHAP2-Success: identifier and "S=..."
	SendKey, RecvKey []byte // MS-MPPE keys, in clear
	Attributes       []Attribute
}
