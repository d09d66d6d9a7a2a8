package radiusd

import (
	"testing"

	"layeh.com/radius"

	"sallyport/radiusd/wire"
)

func TestCutText(t *testing.T) {
	if got := cutText("aé", 2); got != "a" {
		t.Errorf("cut to %q", got)
	}
}

// No allocation stands between a datagram and its verified view, nor between an outcome's attributes and the signed bytes.
func TestAllocations(t *testing.T) {
	raw, key := benchPacket()
	d := wire.NewDigester()
	buf := make([]byte, 0, wire.MaxPacket)
	var v wire.View
	var clear [wire.MaxPassword]byte
	got := testing.AllocsPerRun(100, func() { roundTrip(raw, key, d, &v, clear[:], buf) })
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func benchPacket() ([]byte, *wire.Secret) {
	n := &nas{t: nil, secret: testSecret}
	p := radius.New(radius.CodeAccessRequest, []byte(n.secret))
	p.Identifier = 7
	hidden, err := radius.NewUserPassword([]byte("123456"), p.Secret, p.Authenticator[:])
	if err != nil {
		panic(err)
	}
	for _, a := range []field{{1, "user0001"}, {2, string(hidden)}, {4, "\x0a\x00\x00\x01"}, {5, "\x00\x00\x00\x01"}, {31, "00-11-22-33-44-55"}, anAuth()} {
		p.Add(a.Type, radius.Attribute(a.Value))
	}
	raw, err := p.Encode()
	if err != nil {
		panic(err)
	}
	return resign(raw, testSecret), wire.NewSecret([]byte(testSecret))
}

// roundTrip is what a packet costs without system calls, cache, and Gate.
func roundTrip(raw []byte, key *wire.Secret, d *wire.Digester, v *wire.View, clear, buf []byte) []byte {
	packet, why := wire.Header(raw)
	if why != wire.None || v.Parse(packet) != wire.None || !d.Verified(key, packet, v.MessageAuth.At()) {
		panic("not a good packet")
	}
	d.Password(key, v.Password.In(packet), packet[4:wire.HeaderSize], clear)
	var out wire.Writer
	out.Begin(buf, wire.CodeAccessAccept, packet[1])
	out.AddUint32(wire.AttrSessionTime, 3600)
	out.CopyProxyStates(packet, v)
	return out.Sign(d, key, packet[4:wire.HeaderSize])
}

func BenchmarkParseVerifyRender(b *testing.B) {
	raw, key := benchPacket()
	d := wire.NewDigester()
	buf := make([]byte, 0, wire.MaxPacket)
	var v wire.View
	var clear [wire.MaxPassword]byte
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
