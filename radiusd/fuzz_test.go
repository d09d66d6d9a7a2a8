package radiusd

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"

	"layeh.com/radius"

	"sallyport/internal/login"
	"sallyport/internal/seal"
	"sallyport/radiusd/wire"
)

// fuzzServer is a server that is fed without sockets, with a gate that never answers.
func fuzzServer(f *testing.F) (*Server, *listener, *seal.Ring) {
	f.Helper()
	ring, err := seal.Create(f.TempDir()+"/ring", noon)
	if err != nil {
		f.Fatal(err)
	}
	s := NewServer(Options{Gate: nothing{}, Box: ring.Box("radius-state"), Now: newFrozen(), Log: newQuiet()})
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		f.Fatal(err)
	}
	lenient := everybody(Challenge)
	lenient.RequireMessageAuthenticator = false
	if err := s.SetConfig(&Config{Clients: []Client{lenient}}); err != nil {
		f.Fatal(err)
	}
	ln, err := openListener(conn, func(*client, netip.Addr, error) {})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(ln.close)
	ln.carried.ctx, ln.carried.id, ln.carried.serves, ln.carried.cached = f.Context(), 1, authentication, true
	return s, ln, ring
}

// FuzzPacket feeds datagrams through the whole path: no bytes may panic, loop, or change what a good packet means. Each
// is also tried with a right Message-Authenticator and Length, so that what lies behind these checks is reached.
func FuzzPacket(f *testing.F) {
	s, ln, _ := fuzzServer(f)
	raw, key := benchPacket()
	f.Add(raw)
	f.Add(append(bytes.Clone(raw), "padding"...))
	f.Add([]byte{})
	f.Add(raw[:21])
	f.Add(slices.Concat(raw[:20], []byte{26, 12, 0, 0, 1, 55, 25, 250, 1, 0, 25, 0}))
	f.Add(slices.Concat(raw[:20], bytes.Repeat([]byte{33, 2}, 300)))
	f.Add(slices.Concat([]byte{12}, raw[1:]))
	d := wire.NewDigester()
	f.Fuzz(func(t *testing.T, datagram []byte) {
		if len(datagram) > wire.MaxPacket {
			return
		}
		for _, b := range [][]byte{datagram, mended(datagram, key, d)} {
			q := newQueue(1, 1, s.handle)
			reader := newReader(s, ln, q)
			reader.messages[0].N = copy(reader.slots[0].buf[:], b)
			reader.messages[0].Addr = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
			reader.take(1)
			reader.answerAll()
			reader.close()
			q.close()
			if n := s.settings.Load().list[0].tally.drops[dropPanic].n.Load(); n != 0 {
				t.Fatal("it panicked")
			}
			agree(t, b)
		}
	})
}

// mended gives a packet a right Length and, where it has a Message-Authenticator, a right one.
func mended(b []byte, key *wire.Secret, d *wire.Digester) []byte {
	if len(b) < wire.HeaderSize {
		return b
	}
	b = setLength(bytes.Clone(b), len(b))
	if b[0] != wire.CodeStatusServer {
		b[0] = wire.CodeAccessRequest
	}
	for i := wire.HeaderSize; i+1 < len(b) && b[i+1] >= 2; i += int(b[i+1]) {
		if b[i] == wire.AttrMessageAuth && b[i+1] == 18 && i+18 <= len(b) {
			copy(b[i+2:], d.MessageAuth(key, b, b[4:wire.HeaderSize], i+2))
			break
		}
	}
	return b
}

// agree checks that layeh's codec and our view see the same attributes.
func agree(t *testing.T, b []byte) {
	packet, why := wire.Header(b)
	if why != wire.None {
		return
	}
	var v wire.View
	if v.Parse(packet) != wire.None {
		return
	}
	p, err := radius.Parse(b, []byte(testSecret))
	if err != nil {
		t.Fatalf("layeh refuses what we take: %v", err)
	}
	if len(p.Attributes) != v.Number {
		t.Fatalf("%d attributes, layeh has %d", v.Number, len(p.Attributes))
	}
	for _, c := range []struct {
		t radius.Type
		s wire.Span
	}{{1, v.UserName}, {2, v.Password}, {24, v.State}, {80, v.MessageAuth}, {4, v.NASIP}, {31, v.Calling}, {79, v.EAP}} {
		a, ok := p.Lookup(c.t)
		if ok != c.s.Present() || ok && !bytes.Equal(a, c.s.In(packet)) {
			t.Fatalf("attribute %d: %q, layeh has %q, %v", c.t, c.s.In(packet), a, ok)
		}
	}
	var out wire.Writer
	out.Begin(make([]byte, 0, wire.MaxPacket), wire.CodeAccessReject, packet[1])
	out.CopyProxyStates(packet, &v)
	if out.Len() != wire.HeaderSize+18+v.ProxyBytes {
		t.Fatalf("%d octets of Proxy-State, want %d", out.Len()-wire.HeaderSize-18, v.ProxyBytes)
	}
}

// FuzzState feeds States: nothing but what was sealed for this client opens.
func FuzzState(f *testing.F) {
	s, _, ring := fuzzServer(f)
	c := s.settings.Load().list[0]
	box := ring.Box("radius-state")
	plain := login.Progress{}.MarshalBinary()
	good := box.Seal(nil, c.stateAAD, plain)
	if _, ok := s.openState(c, good); !ok {
		f.Fatal("a good State does not open")
	}
	f.Add(good)
	f.Add(box.Seal(nil, []byte("radius state\x00other"), plain))
	f.Add([]byte{})
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Fuzz(func(t *testing.T, state []byte) {
		if _, ok := s.openState(c, state); ok && !bytes.Equal(state, good) {
			t.Fatalf("%x opens", state)
		}
		// What opens is still parsed as if it were foreign.
		if p, ok := s.openState(c, box.Seal(nil, c.stateAAD, state)); ok {
			if again := p.MarshalBinary(); !bytes.Equal(again, state) {
				t.Fatalf("%x parses, and is written as %x", state, again)
			}
		}
	})
}
