package wire

import (
	"crypto/md5" // RADIUS over UDP is made of MD5
	"crypto/subtle"
	"encoding"
	"encoding/binary"
	"hash"
	"slices"
)

// Secret is a client's secret, with the two halves of its HMAC-MD5 computed beforehand. It is immutable.
type Secret struct {
	secret       []byte
	inner, outer []byte // states of MD5 after the key's pads (RFC 2104)
}

func NewSecret(secret []byte) *Secret {
	s := &Secret{secret: append([]byte(nil), secret...)}
	key := s.secret
	if len(key) > md5.BlockSize {
		sum := md5.Sum(key)
		key = sum[:]
	}
	s.inner, s.outer = padded(key, 0x36), padded(key, 0x5c)
	return s
}

func padded(key []byte, with byte) []byte {
	var block [md5.BlockSize]byte
	copy(block[:], key)
	for i := range block {
		block[i] ^= with
	}
	h := md5.New()
	h.Write(block[:])
	state, err := h.(encoding.BinaryAppender).AppendBinary(nil)
	if err != nil {
		panic("radiusd: crypto/md5 does not give its state: " + err.Error())
	}
	return state
}

// Digester computes RADIUS's digests without allocating. Each goroutine has its own.
type Digester struct {
	h    hash.Hash
	load encoding.BinaryUnmarshaler // h's state
	sum  [AuthenticatorSize]byte
	zero [AuthenticatorSize]byte
}

func NewDigester() *Digester {
	h := md5.New()
	return &Digester{h: h, load: h.(encoding.BinaryUnmarshaler)}
}

func (d *Digester) start(state []byte) {
	if err := d.load.UnmarshalBinary(state); err != nil {
		panic("radiusd: crypto/md5 does not take its state: " + err.Error())
	}
}

// MessageAuth computes the Message-Authenticator of a packet whose own lies at off (RFC 3579 section 3.2): HMAC-MD5 over
// the packet, with that value zero and with auth in the place of the Authenticator. The result is valid until the
// next call.
func (d *Digester) MessageAuth(key *Secret, packet, auth []byte, off int) []byte {
	d.start(key.inner)
	d.h.Write(packet[:4])
	d.h.Write(auth)
	d.h.Write(packet[HeaderSize:off])
	d.h.Write(d.zero[:])
	d.h.Write(packet[off+AuthenticatorSize:])
	inner := d.h.Sum(d.sum[:0])
	d.start(key.outer)
	d.h.Write(inner)
	return d.h.Sum(d.sum[:0])
}

// Verified tells whether a request's Message-Authenticator, at off, is right.
func (d *Digester) Verified(key *Secret, packet []byte, off int) bool {
	want := d.MessageAuth(key, packet, packet[4:HeaderSize], off)
	return subtle.ConstantTimeCompare(want, packet[off:off+AuthenticatorSize]) == 1
}

// ResponseAuth computes the Response Authenticator (RFC 2865 section 3).
func (d *Digester) ResponseAuth(key *Secret, packet, requestAuth []byte) []byte {
	d.h.Reset()
	d.h.Write(packet[:4])
	d.h.Write(requestAuth)
	d.h.Write(packet[HeaderSize:])
	d.h.Write(key.secret)
	return d.h.Sum(d.sum[:0])
}

// Password reveals a User-Password (RFC 2865 section 5.2) into dst, which must have room for it, and cuts off the
// padding.
func (d *Digester) Password(key *Secret, hidden, auth, dst []byte) []byte {
	dst = dst[:0]
	for last := auth; len(hidden) >= AuthenticatorSize; hidden = hidden[AuthenticatorSize:] {
		d.h.Reset()
		d.h.Write(key.secret)
		d.h.Write(last)
		pad := d.h.Sum(d.sum[:0])
		for i, p := range pad {
			dst = append(dst, hidden[i]^p)
		}
		last = hidden[:AuthenticatorSize]
	}
	for len(dst) > 0 && dst[len(dst)-1] == 0 {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// Writer is a packet while it is being written. It begins with its Message-Authenticator.
type Writer struct {
	buf []byte
}

// MessageAuthAt is where the value of a reply's Message-Authenticator lies: first of all attributes, so that no
// attribute that an attacker can influence comes before it (CVE-2024-3596).
const MessageAuthAt = HeaderSize + 2

// Begin starts a reply in buf's memory.
func (r *Writer) Begin(buf []byte, code, id byte) {
	r.buf = append(buf[:0], code, id, 0, 0)
	r.buf = append(r.buf, make([]byte, AuthenticatorSize)...)
	r.buf = append(r.buf, AttrMessageAuth, 2+AuthenticatorSize)
	r.buf = append(r.buf, make([]byte, AuthenticatorSize)...)
}

// Add appends an attribute. Empty values do not exist in RADIUS (RFC 2865 section 5), and longer ones are the caller's
// mistake: both are left out.
func (r *Writer) Add(t byte, value []byte) {
	if len(value) == 0 || len(value) > MaxValue {
		return
	}
	r.buf = append(r.buf, t, byte(len(value)+2))
	r.buf = append(r.buf, value...)
}

// AddVendor adds an attribute within Vendor-Specific (RFC 2865 section 5.26), of at most MaxVendorValue octets.
func (r *Writer) AddVendor(vendor uint32, t byte, value []byte) {
	r.buf = append(r.buf, AttrVendor, byte(2+vendorHeader+len(value)))
	r.buf = binary.BigEndian.AppendUint32(r.buf, vendor)
	r.buf = append(r.buf, t, byte(2+len(value)))
	r.buf = append(r.buf, value...)
}

// AddLong adds a value in as many attributes as it needs, in order: EAP-Message (RFC 3579 section 3.1).
func (r *Writer) AddLong(t byte, value []byte) {
	for part := range slices.Chunk(value, MaxValue) {
		r.Add(t, part)
	}
}

// AddEncoded appends attributes that are bytes already.
func (r *Writer) AddEncoded(attributes []byte) { r.buf = append(r.buf, attributes...) }

// Len is how long the packet is by now.
func (r *Writer) Len() int { return len(r.buf) }

// AddText is Add for text.
func (r *Writer) AddText(t byte, value string) {
	if value == "" || len(value) > MaxValue {
		return
	}
	r.buf = append(r.buf, t, byte(len(value)+2))
	r.buf = append(r.buf, value...)
}

// AddUint32 appends an integer.
func (r *Writer) AddUint32(t byte, value uint32) {
	r.buf = append(r.buf, t, 6)
	r.buf = binary.BigEndian.AppendUint32(r.buf, value)
}

// CopyProxyStates repeats the request's Proxy-State attributes, unmodified and in their order (RFC 2865 section 5.33).
func (r *Writer) CopyProxyStates(request []byte, v *View) {
	if v.ProxyStates == 0 {
		return
	}
	for i := HeaderSize; i+1 < len(request); i += int(request[i+1]) {
		if request[i] == AttrProxyState {
			r.buf = append(r.buf, request[i:i+int(request[i+1])]...)
		}
	}
}

// Sign completes the reply and returns its bytes.
func (r *Writer) Sign(d *Digester, key *Secret, requestAuth []byte) []byte {
	binary.BigEndian.PutUint16(r.buf[2:], uint16(len(r.buf)))
	copy(r.buf[MessageAuthAt:], d.MessageAuth(key, r.buf, requestAuth, MessageAuthAt))
	copy(r.buf[4:], d.ResponseAuth(key, r.buf, requestAuth))
	return r.buf
}

// BeginBare starts a reply without a Message-Authenticator, to be completed by SignBare: an Accounting-Response has none (RFC
// 2869 section 5.14 names no way to make it, and clients that expect one differ about it).
func (r *Writer) BeginBare(buf []byte, code, id byte) {
	r.buf = append(buf[:0], code, id, 0, 0)
	r.buf = append(r.buf, make([]byte, AuthenticatorSize)...)
}

// SignBare completes what BeginBare began and returns its bytes.
func (r *Writer) SignBare(d *Digester, key *Secret, requestAuth []byte) []byte {
	binary.BigEndian.PutUint16(r.buf[2:], uint16(len(r.buf)))
	copy(r.buf[4:], d.ResponseAuth(key, r.buf, requestAuth))
	return r.buf
}

// BeginRequest starts a request in buf's memory.
func (r *Writer) BeginRequest(buf []byte, code, id byte, auth [AuthenticatorSize]byte) {
	r.Begin(buf, code, id)
	copy(r.buf[4:], auth[:])
}

// SignRequest completes an Access-Request or Status-Server and returns its bytes.
func (r *Writer) SignRequest(d *Digester, key *Secret) []byte {
	binary.BigEndian.PutUint16(r.buf[2:], uint16(len(r.buf)))
	copy(r.buf[MessageAuthAt:], d.MessageAuth(key, r.buf, r.buf[4:HeaderSize], MessageAuthAt))
	return r.buf
}

// SignHashed completes a request whose Authenticator is a hash of it, Accounting (RFC 2866 section 3), Disconnect and CoA
// (RFC 5176 section 2.3), and returns its bytes. Its Message-Authenticator is made with an Authenticator of zeros.
func (r *Writer) SignHashed(d *Digester, key *Secret) []byte {
	binary.BigEndian.PutUint16(r.buf[2:], uint16(len(r.buf)))
	copy(r.buf[MessageAuthAt:], d.MessageAuth(key, r.buf, d.zero[:], MessageAuthAt))
	copy(r.buf[4:], d.ResponseAuth(key, r.buf, d.zero[:]))
	return r.buf
}

// VerifiedHash tells whether the Authenticator of an Accounting-, Disconnect- or CoA-Request is right, and its
// Message-Authenticator at off, if it has one (off is not 0).
func (d *Digester) VerifiedHash(key *Secret, packet []byte, off int) bool {
	if off != 0 && subtle.ConstantTimeCompare(d.MessageAuth(key, packet, d.zero[:], off), packet[off:off+AuthenticatorSize]) != 1 {
		return false
	}
	return subtle.ConstantTimeCompare(d.ResponseAuth(key, packet, d.zero[:]), packet[4:HeaderSize]) == 1
}

// VerifiedResponse tells whether a response's Authenticator is right, and its Message-Authenticator at off, if it has one.
func (d *Digester) VerifiedResponse(key *Secret, packet, requestAuth []byte, off int) bool {
	if off != 0 && subtle.ConstantTimeCompare(d.MessageAuth(key, packet, requestAuth, off), packet[off:off+AuthenticatorSize]) != 1 {
		return false
	}
	return subtle.ConstantTimeCompare(d.ResponseAuth(key, packet, requestAuth), packet[4:HeaderSize]) == 1
}

// HidePassword hides a User-Password (RFC 2865 section 5.2) and appends it to dst. It has 1 to MaxPassword bytes.
func (d *Digester) HidePassword(key *Secret, clear, auth, dst []byte) []byte {
	last := auth
	for at := 0; at == 0 || at < len(clear); at += AuthenticatorSize {
		d.h.Reset()
		d.h.Write(key.secret)
		d.h.Write(last)
		pad := d.h.Sum(d.sum[:0])
		for i := range pad {
			if at+i < len(clear) {
				pad[i] ^= clear[at+i]
			}
		}
		dst = append(dst, pad...)
		last = dst[len(dst)-AuthenticatorSize:]
	}
	return dst
}

// HideSalted hides a value as RFC 2868 section 3.5 and RFC 2548 section 2.4.2 have it, and appends salt and value to dst.
// The salt's top bit is set; it must be another one for each value of a packet. The value has at most 239 bytes.
func (d *Digester) HideSalted(key *Secret, salt uint16, clear, auth, dst []byte) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, salt|1<<15)
	dst = append(dst, byte(len(clear)))
	dst = append(dst, clear...)
	for (len(dst)-at-2)%AuthenticatorSize != 0 {
		dst = append(dst, 0)
	}
	d.h.Reset()
	d.h.Write(key.secret)
	d.h.Write(auth)
	d.h.Write(dst[at : at+2])
	for i := at + 2; i < len(dst); i += AuthenticatorSize {
		block := dst[i : i+AuthenticatorSize]
		subtle.XORBytes(block, block, d.h.Sum(d.sum[:0]))
		d.h.Reset()
		d.h.Write(key.secret)
		d.h.Write(block)
	}
	return dst
}

// RevealSalted is the inverse of HideSalted. It reports whether hidden had that form.
func (d *Digester) RevealSalted(key *Secret, hidden, auth []byte) (clear []byte, ok bool) {
	if len(hidden) < 2+AuthenticatorSize || (len(hidden)-2)%AuthenticatorSize != 0 {
		return nil, false
	}
	d.h.Reset()
	d.h.Write(key.secret)
	d.h.Write(auth)
	d.h.Write(hidden[:2])
	for rest := hidden[2:]; len(rest) > 0; rest = rest[AuthenticatorSize:] {
		var block [AuthenticatorSize]byte
		subtle.XORBytes(block[:], rest[:AuthenticatorSize], d.h.Sum(d.sum[:0]))
		clear = append(clear, block[:]...)
		d.h.Reset()
		d.h.Write(key.secret)
		d.h.Write(rest[:AuthenticatorSize])
	}
	n := int(clear[0])
	if n > len(clear)-1 {
		return nil, false
	}
	return clear[1 : 1+n], true
}

// BeginPlain starts the answer to a RADIUS/1.1 request in buf's memory (RFC 9765 section 4.1): the request's Token in the
// place of the Authenticator, and no Message-Authenticator.
func (r *Writer) BeginPlain(buf []byte, code byte, request []byte) {
	r.buf = append(buf[:0], code, 0, 0, 0)
	r.buf = append(r.buf, request[4:4+tokenSize]...)
	r.buf = append(r.buf, make([]byte, AuthenticatorSize-tokenSize)...)
}

const tokenSize = 4

// FinishPlain completes a RADIUS/1.1 packet and returns its bytes.
func (r *Writer) FinishPlain() []byte {
	binary.BigEndian.PutUint16(r.buf[2:], uint16(len(r.buf)))
	return r.buf
}
