package exchangetest

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"

	"sallyport/radiusd/wire"
)

// Request is a packet that a Fake has got. Its form is good; its signatures have not been looked at.
type Request struct {
	wire.View
	Packet []byte
	From   netip.AddrPort
	Number int // 1 for the first packet that this Fake got
}

// Fake is a server on loopback whose test says what it does with each packet.
type Fake struct {
	t      testing.TB
	conn   *net.UDPConn
	key    *wire.Secret
	handle func(*Fake, Request)
	ended  sync.WaitGroup

	mu       sync.Mutex
	digester *wire.Digester
	got      []Request
	more     chan struct{} // closed, and made anew, when got grows
}

// NewFake starts one. handle is called in the Fake's one goroutine, which ends with the test; nil: it stays silent.
func NewFake(t testing.TB, secret string, handle func(*Fake, Request)) *Fake {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{
		t: t, conn: conn, handle: handle,
		key: wire.NewSecret([]byte(secret)), digester: wire.NewDigester(), more: make(chan struct{}),
	}
	f.ended.Go(f.serve)
	t.Cleanup(f.Close)
	return f
}

// Close frees the port: what is sent to it from now on is refused.
func (f *Fake) Close() {
	_ = f.conn.Close()
	f.ended.Wait()
}

// Addr is where it listens.
func (f *Fake) Addr() string { return f.conn.LocalAddr().String() }

func (f *Fake) serve() {
	buf := make([]byte, wire.MaxPacket)
	for {
		n, from, err := f.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the refusal of something sent before
		}
		packet, why := wire.Header(bytes.Clone(buf[:n]))
		r := Request{Packet: packet, From: from}
		if why == wire.None {
			why = r.Parse(packet)
		}
		if why != wire.None {
			f.t.Errorf("the fake server got a packet with %v", why)
			continue
		}
		f.mu.Lock()
		r.Number = len(f.got) + 1
		f.got = append(f.got, r)
		close(f.more)
		f.more = make(chan struct{})
		f.mu.Unlock()
		if f.handle != nil {
			f.handle(f, r)
		}
	}
}

// Got is what came until now.
func (f *Fake) Got() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Request(nil), f.got...)
}

// Await waits until n packets have come, and returns them.
func (f *Fake) Await(n int) []Request {
	f.t.Helper()
	for {
		f.mu.Lock()
		got, more := append([]Request(nil), f.got...), f.more
		f.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-more:
		case <-f.t.Context().Done():
			f.t.Fatalf("%d packets came, want %d", len(got), n)
		}
	}
}

// Reply makes an answer that is right in every way, with what fill adds.
func (f *Fake) Reply(r Request, code byte, fill ...func(*wire.Writer)) []byte {
	var out wire.Writer
	out.Begin(nil, code, r.Packet[1])
	for _, add := range fill {
		add(&out)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.Clone(out.Sign(f.digester, f.key, r.Packet[4:wire.HeaderSize]))
}

// Unsigned makes an answer that is right but for its Message-Authenticator, of which it has none.
func (f *Fake) Unsigned(r Request, code byte) []byte {
	packet := append([]byte{code, r.Packet[1], 0, wire.HeaderSize}, make([]byte, wire.AuthenticatorSize)...)
	return f.Resign(r, packet)
}

// Resign gives an answer the Response Authenticator that fits it.
func (f *Fake) Resign(r Request, packet []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	copy(packet[4:], f.digester.ResponseAuth(f.key, packet, r.Packet[4:wire.HeaderSize]))
	return packet
}

// Send sends bytes back to where a request came from.
func (f *Fake) Send(r Request, packet []byte) {
	_, _ = f.conn.WriteToUDPAddrPort(packet, r.From) // whoever asked may have gone
}

// Password reveals a request's User-Password.
func (f *Fake) Password(r Request) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return string(f.digester.Password(f.key, r.View.Password.In(r.Packet), r.Packet[4:wire.HeaderSize], make([]byte, wire.MaxPassword)))
}

// Salted hides a value in an answer to r, as MS-MPPE keys are.
func (f *Fake) Salted(r Request, salt uint16, clear []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.digester.HideSalted(f.key, salt, clear, r.Packet[4:wire.HeaderSize], nil)
}

// Verify reports whether a request's signatures are right, and its Message-Authenticator comes first.
func (f *Fake) Verify(r Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.MessageAuth.At() != wire.MessageAuthAt {
		return false
	}
	if code := r.Packet[0]; code == wire.CodeAccessRequest || code == wire.CodeStatusServer {
		return f.digester.Verified(f.key, r.Packet, r.MessageAuth.At())
	}
	return f.digester.VerifiedHash(f.key, r.Packet, r.MessageAuth.At())
}
