package radiusd

import (
	"crypto/md5" // RADIUS over UDP is made of MD5
	"crypto/subtle"
	"encoding"
	"encoding/binary"
	"hash"
)

// sharedSecret is a client's secret, with the two halves of its HMAC-MD5 computed beforehand. It is immutable.
type sharedSecret struct {
	secret       []byte
	inner, outer []byte // states of MD5 after the key's pads (RFC 2104)
}

func newSharedSecret(secret []byte) *sharedSecret {
	s := &sharedSecret{secret: append([]byte(nil), secret...)}
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

// digester computes RADIUS's digests without allocating. Each goroutine has its own.
type digester struct {
	h    hash.Hash
	load encoding.BinaryUnmarshaler // h's state
	sum  [authenticatorSize]byte
	zero [authenticatorSize]byte
}

func newDigester() *digester {
	h := md5.New()
	return &digester{h: h, load: h.(encoding.BinaryUnmarshaler)}
}

func (d *digester) start(state []byte) {
	if err := d.load.UnmarshalBinary(state); err != nil {
		panic("radiusd: crypto/md5 does not take its state: " + err.Error())
	}
}

// messageAuth computes the Message-Authenticator of a packet whose own lies at off (RFC 3579 section 3.2): HMAC-MD5 over
// the packet, with that value zero and with auth in the place of the Authenticator. The result is valid until the
// next call.
func (d *digester) messageAuth(key *sharedSecret, packet, auth []byte, off int) []byte {
	d.start(key.inner)
	d.h.Write(packet[:4])
	d.h.Write(auth)
	d.h.Write(packet[headerSize:off])
	d.h.Write(d.zero[:])
	d.h.Write(packet[off+authenticatorSize:])
	inner := d.h.Sum(d.sum[:0])
	d.start(key.outer)
	d.h.Write(inner)
	return d.h.Sum(d.sum[:0])
}

// verified tells whether a request's Message-Authenticator, at off, is right.
func (d *digester) verified(key *sharedSecret, packet []byte, off int) bool {
	want := d.messageAuth(key, packet, packet[4:headerSize], off)
	return subtle.ConstantTimeCompare(want, packet[off:off+authenticatorSize]) == 1
}

// responseAuth computes the Response Authenticator (RFC 2865 section 3).
func (d *digester) responseAuth(key *sharedSecret, packet, requestAuth []byte) []byte {
	d.h.Reset()
	d.h.Write(packet[:4])
	d.h.Write(requestAuth)
	d.h.Write(packet[headerSize:])
	d.h.Write(key.secret)
	return d.h.Sum(d.sum[:0])
}

// password reveals a User-Password (RFC 2865 section 5.2) into dst, which must have room for it, and cuts off the
// padding.
func (d *digester) password(key *sharedSecret, hidden, auth, dst []byte) []byte {
	dst = dst[:0]
	for last := auth; len(hidden) >= authenticatorSize; hidden = hidden[authenticatorSize:] {
		d.h.Reset()
		d.h.Write(key.secret)
		d.h.Write(last)
		pad := d.h.Sum(d.sum[:0])
		for i, p := range pad {
			dst = append(dst, hidden[i]^p)
		}
		last = hidden[:authenticatorSize]
	}
	for len(dst) > 0 && dst[len(dst)-1] == 0 {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// reply is a response while it is being written. It begins with its Message-Authenticator.
type reply struct {
	buf []byte
}

// messageAuthAt is where the value of a reply's Message-Authenticator lies: first of all attributes, so that no
// attribute that an attacker can influence comes before it (CVE-2024-3596).
const messageAuthAt = headerSize + 2

// begin starts a reply in buf's memory.
func (r *reply) begin(buf []byte, code, id byte) {
	r.buf = append(buf[:0], code, id, 0, 0)
	r.buf = append(r.buf, make([]byte, authenticatorSize)...)
	r.buf = append(r.buf, attrMessageAuth, 2+authenticatorSize)
	r.buf = append(r.buf, make([]byte, authenticatorSize)...)
}

// add appends an attribute. Empty values do not exist in RADIUS (RFC 2865 section 5), and longer ones are the caller's
// mistake: both are left out.
func (r *reply) add(t byte, value []byte) {
	if len(value) == 0 || len(value) > maxValue {
		return
	}
	r.buf = append(r.buf, t, byte(len(value)+2))
	r.buf = append(r.buf, value...)
}

func (r *reply) addText(t byte, value string) {
	if value == "" || len(value) > maxValue {
		return
	}
	r.buf = append(r.buf, t, byte(len(value)+2))
	r.buf = append(r.buf, value...)
}

func (r *reply) addUint32(t byte, value uint32) {
	r.buf = append(r.buf, t, 6)
	r.buf = binary.BigEndian.AppendUint32(r.buf, value)
}

// copyProxyStates repeats the request's Proxy-State attributes, unmodified and in their order (RFC 2865 section 5.33).
func (r *reply) copyProxyStates(request []byte, v *view) {
	if v.proxyStates == 0 {
		return
	}
	for i := headerSize; i+1 < len(request); i += int(request[i+1]) {
		if request[i] == attrProxyState {
			r.buf = append(r.buf, request[i:i+int(request[i+1])]...)
		}
	}
}

// sign completes the reply and returns its bytes.
func (r *reply) sign(d *digester, key *sharedSecret, requestAuth []byte) []byte {
	binary.BigEndian.PutUint16(r.buf[2:], uint16(len(r.buf)))
	copy(r.buf[messageAuthAt:], d.messageAuth(key, r.buf, requestAuth, messageAuthAt))
	copy(r.buf[4:], d.responseAuth(key, r.buf, requestAuth))
	return r.buf
}
