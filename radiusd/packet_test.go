package radiusd

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"strings"
	"testing"

	"layeh.com/radius"
)

// The digests are those of crypto/hmac and of layeh's codec, for secrets of every length around MD5's block.
func TestDigests(t *testing.T) {
	d := newDigester()
	for _, n := range []int{1, 15, 16, 63, 64, 65, 128, 1024} {
		secret := []byte(strings.Repeat("s", n))
		key := newSharedSecret(secret)
		for _, clear := range []string{"", "p", strings.Repeat("p", 16), strings.Repeat("q", 17), strings.Repeat("q", 128), "pass\x00word"} {
			p := radius.New(radius.CodeAccessRequest, secret)
			hidden, err := radius.NewUserPassword([]byte(clear), secret, p.Authenticator[:])
			if err != nil {
				t.Fatal(err)
			}
			if got := d.password(key, hidden, p.Authenticator[:], make([]byte, maxPassword)); string(got) != clear {
				t.Errorf("secret of %d: password %q, want %q", n, got, clear)
			}
			p.Add(1, radius.Attribute("alice"))
			p.Add(80, make([]byte, 16))
			p.Add(33, radius.Attribute("behind"))
			raw, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			off := headerSize + 7 + 2
			mac := hmac.New(md5.New, secret)
			mac.Write(raw)
			copy(raw[off:], mac.Sum(nil))
			if !d.verified(key, raw, off) {
				t.Errorf("secret of %d: a good Message-Authenticator is refused", n)
			}
			for i := range raw {
				bad := bytes.Clone(raw)
				bad[i] ^= 0x40
				if d.verified(key, bad, off) {
					t.Fatalf("secret of %d: octet %d changed, and it is still good", n, i)
				}
			}
		}
	}
}

// Encryption is not authentication: the writer never makes what the reader would refuse.
func TestReplyWriter(t *testing.T) {
	var out reply
	out.begin(make([]byte, 0, maxPacket), codeAccessReject, 3)
	out.add(attrState, nil)
	out.add(attrState, make([]byte, 254))
	out.addText(attrReplyMessage, "")
	out.addText(attrReplyMessage, strings.Repeat("x", 254))
	if len(out.buf) != headerSize+18 {
		t.Errorf("empty or oversize attributes were written: %d octets", len(out.buf))
	}
	if got := cutText("aé", 2); got != "a" {
		t.Errorf("cut to %q", got)
	}
}

// No allocation stands between a datagram and its verified view, nor between an outcome's attributes and the signed bytes.
func TestAllocations(t *testing.T) {
	raw, key := benchPacket()
	d := newDigester()
	buf := make([]byte, 0, maxPacket)
	var v view
	var clear [maxPassword]byte
	got := testing.AllocsPerRun(100, func() { roundTrip(raw, key, d, &v, clear[:], buf) })
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func benchPacket() ([]byte, *sharedSecret) {
	n := &nas{t: nil, secret: testSecret}
	p := radius.New(radius.CodeAccessRequest, []byte(n.secret))
	p.Identifier = 7
	hidden, err := radius.NewUserPassword([]byte("123456"), p.Secret, p.Authenticator[:])
	if err != nil {
		panic(err)
	}
	for _, a := range []attr{{1, "user0001"}, {2, string(hidden)}, {4, "\x0a\x00\x00\x01"}, {5, "\x00\x00\x00\x01"}, {31, "00-11-22-33-44-55"}, anAuth()} {
		p.Add(a.Type, radius.Attribute(a.Value))
	}
	raw, err := p.Encode()
	if err != nil {
		panic(err)
	}
	return resign(raw, testSecret), newSharedSecret([]byte(testSecret))
}

// roundTrip is what a packet costs without system calls, cache, and Gate.
func roundTrip(raw []byte, key *sharedSecret, d *digester, v *view, clear, buf []byte) []byte {
	packet, why := header(raw)
	if why != dropNone || v.parse(packet) != dropNone || !d.verified(key, packet, int(v.messageAuth.off)) {
		panic("not a good packet")
	}
	d.password(key, v.password.in(packet), packet[4:headerSize], clear)
	var out reply
	out.begin(buf, codeAccessAccept, packet[1])
	out.addUint32(attrSessionTime, 3600)
	out.copyProxyStates(packet, v)
	return out.sign(d, key, packet[4:headerSize])
}

func BenchmarkParseVerifyRender(b *testing.B) {
	raw, key := benchPacket()
	d := newDigester()
	buf := make([]byte, 0, maxPacket)
	var v view
	var clear [maxPassword]byte
	b.ReportAllocs()
	for b.Loop() {
		roundTrip(raw, key, d, &v, clear[:], buf)
	}
}

func BenchmarkReplyCache(b *testing.B) {
	c := newReplyCache()
	tl := new(tally)
	raw, _ := benchPacket()
	answer := make([]byte, 64)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		raw[4], raw[5], raw[6] = byte(i), byte(i>>8), byte(i>>16)
		e, _, _ := c.begin(key(uint16(i%8), byte(i)), raw, tl, 0, nil)
		c.finish(e, answer, 0)
	}
}
