package exchange

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"net"
	"testing"

	"sallyport/radiusd/wire"
)

// proved reports whether an answer is signed as RFC 2865 section 3 and RFC 3579 section 3.2 have it, in other words than the
// code's own.
func proved(packet, requestAuth []byte) bool {
	sum := md5.New()
	sum.Write(packet[:4])
	sum.Write(requestAuth)
	sum.Write(packet[20:])
	sum.Write([]byte(testSecret))
	if !bytes.Equal(sum.Sum(nil), packet[4:20]) {
		return false
	}
	zeroed := bytes.Clone(packet)
	copy(zeroed[4:], requestAuth)
	var signature []byte
	for i := 20; i < len(packet); i += int(packet[i+1]) {
		if packet[i] == 80 {
			signature = packet[i+2 : i+18]
			clear(zeroed[i+2 : i+18])
		}
	}
	mac := hmac.New(md5.New, []byte(testSecret))
	mac.Write(zeroed)
	return signature != nil && hmac.Equal(mac.Sum(nil), signature)
}

// signed gives bytes a header and signatures that fit, as far as they have room for them.
func signed(attributes, requestAuth []byte, code, id byte) []byte {
	attributes = attributes[:min(len(attributes), wire.MaxPacket-64)]
	var out wire.Writer
	out.Begin(nil, code, id)
	out.AddEncoded(attributes)
	return out.Sign(wire.NewDigester(), wire.NewSecret([]byte(testSecret)), requestAuth)
}

// FuzzAnswer feeds datagrams to somebody who waits: as they are, and with attributes signed for him. No bytes may panic or
// loop, and he takes nothing that is not proved.
func FuzzAnswer(f *testing.F) {
	c, err := New(Options{Address: "127.0.0.1:1", Secret: []byte(testSecret)})
	if err != nil {
		f.Fatal(err)
	}
	ours, theirs := net.Pipe()
	f.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	const id = 7
	auth := []byte("0123456789abcdef")
	digester := wire.NewDigester()
	f.Add(signed(nil, auth, wire.CodeAccessAccept, id))
	f.Add(signed([]byte{26, 12, 0, 0, 1, 55, 25, 250, 1, 0, 25, 0}, auth, wire.CodeAccessReject, id))
	f.Add([]byte{})
	f.Add([]byte{2, id, 0, 20})
	f.Add(bytes.Repeat([]byte{80, 18}, 40))
	f.Add(bytes.Repeat([]byte{33, 2}, 300))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, datagram := range [][]byte{b, signed(b, auth, wire.CodeAccessChallenge, id), signed(b, auth, 5, id)} {
			s := &socket{conn: ours}
			w := &waiter{code: wire.CodeAccessRequest, signed: true, answer: make(chan Response, 1), failed: make(chan error, 1), socket: s, id: id, sent: true}
			w.auth = [wire.AuthenticatorSize]byte(auth)
			s.waiting[id], s.taken = w, 1
			c.receive(s, datagram, digester)
			c.receive(s, datagram, digester)
			select {
			case answer := <-w.answer:
				n := int(binary.BigEndian.Uint16(answer.Packet[2:]))
				if n != len(answer.Packet) || answer.Packet[1] != id || !answers(w.code, answer.Packet[0]) || !proved(answer.Packet, auth) {
					t.Fatalf("taken: %x", answer.Packet)
				}
				answer.Each(func(a wire.Attribute) bool {
					answer.Reveal(a.Value)
					return true
				})
				if s.waiting[id] != nil || s.taken != 0 {
					t.Fatal("the identifier is not free again")
				}
			default:
				if s.waiting[id] != w || s.taken != 1 {
					t.Fatal("something that is no answer has ended the wait")
				}
			}
		}
	})
}
