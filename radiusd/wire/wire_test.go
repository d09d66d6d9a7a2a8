package wire

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"strings"
	"testing"

	"layeh.com/radius"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/vendors/microsoft"
)

// The digests are those of crypto/hmac and of layeh's codec, for secrets of every length around MD5's block.
func TestDigests(t *testing.T) {
	d := NewDigester()
	for _, n := range []int{1, 15, 16, 63, 64, 65, 128, 1024} {
		secret := []byte(strings.Repeat("s", n))
		key := NewSecret(secret)
		for _, clear := range []string{"", "p", strings.Repeat("p", 16), strings.Repeat("q", 17), strings.Repeat("q", 128), "pass\x00word"} {
			p := radius.New(radius.CodeAccessRequest, secret)
			hidden, err := radius.NewUserPassword([]byte(clear), secret, p.Authenticator[:])
			if err != nil {
				t.Fatal(err)
			}
			if got := d.Password(key, hidden, p.Authenticator[:], make([]byte, MaxPassword)); string(got) != clear {
				t.Errorf("secret of %d: password %q, want %q", n, got, clear)
			}
			p.Add(1, radius.Attribute("alice"))
			p.Add(80, make([]byte, 16))
			p.Add(33, radius.Attribute("behind"))
			raw, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			off := HeaderSize + 7 + 2
			mac := hmac.New(md5.New, secret)
			mac.Write(raw)
			copy(raw[off:], mac.Sum(nil))
			if !d.Verified(key, raw, off) {
				t.Errorf("secret of %d: a good Message-Authenticator is refused", n)
			}
			for i := range raw {
				bad := bytes.Clone(raw)
				bad[i] ^= 0x40
				if d.Verified(key, bad, off) {
					t.Fatalf("secret of %d: octet %d changed, and it is still good", n, i)
				}
			}
		}
	}
}

// Encryption is not authentication: the writer never makes what the reader would refuse.
func TestReplyWriter(t *testing.T) {
	var out Writer
	out.Begin(make([]byte, 0, MaxPacket), CodeAccessReject, 3)
	out.Add(AttrState, nil)
	out.Add(AttrState, make([]byte, 254))
	out.AddText(AttrReplyMessage, "")
	out.AddText(AttrReplyMessage, strings.Repeat("x", 254))
	if out.Len() != HeaderSize+18 {
		t.Errorf("empty or oversize attributes were written: %d octets", out.Len())
	}
}

// Requests are what layeh's codec, and the other side of ours, take for good; one octet changed, and they are not.
func TestRequests(t *testing.T) {
	d := NewDigester()
	key := NewSecret([]byte("testing123"))
	var auth [AuthenticatorSize]byte
	copy(auth[:], "0123456789abcdef")
	for n := 1; n <= MaxPassword; n++ {
		clear := []byte(strings.Repeat("p", n))
		hidden := d.HidePassword(key, clear, auth[:], nil)
		want, err := radius.NewUserPassword(clear, []byte("testing123"), auth[:])
		if err != nil || !bytes.Equal(hidden, want) {
			t.Fatalf("a password of %d: %x, want %x (%v)", n, hidden, want, err)
		}
	}
	var w Writer
	w.BeginRequest(make([]byte, 0, MaxPacket), CodeAccessRequest, 9, auth)
	w.AddText(AttrUserName, "alice")
	packet := w.SignRequest(d, key)
	var v View
	if v.Parse(packet) != None || v.MessageAuth.At() != MessageAuthAt || !d.Verified(key, packet, MessageAuthAt) {
		t.Error("a request is not signed")
	}

	w.BeginRequest(make([]byte, 0, MaxPacket), byte(radius.CodeAccountingRequest), 9, [AuthenticatorSize]byte{})
	w.AddUint32(byte(rfc2866.AcctStatusType_Type), 1)
	packet = w.SignHashed(d, key)
	if !radius.IsAuthenticRequest(packet, []byte("testing123")) || !d.VerifiedHash(key, packet, MessageAuthAt) || !d.VerifiedHash(key, packet, 0) {
		t.Error("an Accounting-Request is not signed")
	}
	for i := range packet {
		bad := bytes.Clone(packet)
		bad[i] ^= 0x40
		if d.VerifiedHash(key, bad, MessageAuthAt) {
			t.Fatalf("octet %d changed, and it is still good", i)
		}
	}

	w.Begin(make([]byte, 0, MaxPacket), CodeAccessAccept, 9)
	answer := w.Sign(d, key, auth[:])
	if !d.VerifiedResponse(key, answer, auth[:], MessageAuthAt) {
		t.Error("an answer is not signed")
	}
	for i := range answer {
		bad := bytes.Clone(answer)
		bad[i] ^= 0x40
		if d.VerifiedResponse(key, bad, auth[:], MessageAuthAt) {
			t.Fatalf("octet %d changed, and it is still good", i)
		}
	}
}

// Salted values are those of layeh's codec.
func TestSalted(t *testing.T) {
	d := NewDigester()
	secret := []byte("testing123")
	key := NewSecret(secret)
	request := radius.New(radius.CodeAccessRequest, secret)
	for _, n := range []int{0, 1, 14, 15, 16, 31, 32, 100} {
		clear := bytes.Repeat([]byte{7}, n)
		p := request.Response(radius.CodeAccessAccept)
		hidden := d.HideSalted(key, 5, clear, request.Authenticator[:], nil)
		if salt := binary.BigEndian.Uint16(hidden); salt != 5|1<<15 {
			t.Errorf("salt %x", salt)
		}
		if n > 0 {
			inner := append([]byte{16, byte(len(hidden) + 2)}, hidden...)
			vsa, err := radius.NewVendorSpecific(VendorMicrosoft, inner)
			if err != nil {
				t.Fatal(err)
			}
			p.Add(26, vsa)
			if got := microsoft.MSMPPESendKey_Get(p, request); !bytes.Equal(got, clear) {
				t.Errorf("a value of %d: layeh reads %x", n, got)
			}
		}
		back, ok := d.RevealSalted(key, hidden, request.Authenticator[:])
		if !ok || !bytes.Equal(back, clear) {
			t.Errorf("a value of %d: %x, %v", n, back, ok)
		}
	}
	for _, bad := range [][]byte{nil, {1, 2}, make([]byte, 17), make([]byte, 19)} {
		if _, ok := d.RevealSalted(key, bad, request.Authenticator[:]); ok {
			t.Errorf("%x was read", bad)
		}
	}
}

// Microsoft's attributes are found within their vendor's, each once.
func TestMicrosoft(t *testing.T) {
	vendor := func(inner ...byte) []byte {
		value := append([]byte{0, 0, 1, 55}, inner...)
		return append([]byte{AttrVendor, byte(len(value) + 2)}, value...)
	}
	packet := func(attributes ...[]byte) []byte {
		p := append(make([]byte, HeaderSize), bytes.Join(attributes, nil)...)
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		return p
	}
	var v View
	p := packet(vendor(11, 4, 'c', 'h', 25, 3, 'r'))
	if why := v.Parse(p); why != None || v.MSChallenge.Text(p) != "ch" || v.MSResponse2.Text(p) != "r" || v.MSResponse.Present() {
		t.Errorf("%v %+v", why, v)
	}
	for what, c := range map[string]struct {
		p    []byte
		want Problem
	}{
		"two responses":        {packet(vendor(25, 3, 'r'), vendor(25, 3, 'r')), Repeated},
		"both kinds":           {packet(vendor(25, 3, 'r'), vendor(1, 3, 'r')), Conflicting},
		"with CHAP":            {packet(vendor(25, 3, 'r'), []byte{AttrCHAPPassword, 3, 1}), Conflicting},
		"CHAP twice":           {packet([]byte{AttrCHAPPassword, 3, 1}, []byte{AttrCHAPPassword, 3, 1}), Repeated},
		"inner length 0":       {packet(vendor(25, 0, 'r')), None},
		"inner length too big": {packet(vendor(25, 9, 'r')), None},
		"too short":            {packet([]byte{AttrVendor, 5, 0, 0, 1}), None},
	} {
		if why := v.Parse(c.p); why != c.want {
			t.Errorf("%s: %v, want %v", what, why, c.want)
		}
	}
	n := 0
	Each(packet([]byte{1, 3, 'a'}, []byte{2, 2}, []byte{3, 3, 'b'}), func(byte, []byte) bool { n++; return n < 2 })
	if n != 2 {
		t.Errorf("%d attributes were seen", n)
	}
}
