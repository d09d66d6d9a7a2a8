package radiusd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

// No request of a burst is lost between the network and the workers.
func TestBurst(t *testing.T) {
	const burst = 512
	r := newRig(t, func(o *Options) { workersOnly(o); o.Workers = 64 }, everybody(Code))
	probe := r.nas()
	probe.ask(probe.packet(radius.CodeStatusServer, 1)) // Serve has begun, and raised the buffer
	hold := make(chan struct{})
	r.gate.set(func(login.Attempt) { <-hold })
	socks := make([]*nas, 8)
	for i := range socks {
		socks[i] = r.nas()
	}
	for i := range burst {
		n := socks[i%len(socks)]
		n.send(n.request(byte(i/len(socks)), pap("alice", "000000")...))
	}
	close(hold)
	for i := range burst {
		socks[i%len(socks)].receive()
	}
	if got := r.gate.count(); got != burst {
		t.Errorf("%d of %d were judged", got, burst)
	}
}

// Under overload requests whose State opens go first, a State that does not open helps nobody, and what does not fit
// the queue is dropped and can be sent again (P7; RFC 5080 section 2.2.3).
func TestOverload(t *testing.T) {
	r := newRig(t, func(o *Options) { workersOnly(o); o.Workers, o.Queue = 2, 3 }, everybody(Challenge))
	n := r.nas()
	state := rfc2865.State_Get(n.ask(n.request(1, pap("alice", password)...)))

	var mu sync.Mutex
	var order []string
	hold, held := make(chan struct{}), make(chan struct{}, 10)
	r.gate.set(func(a login.Attempt) {
		mu.Lock()
		order = append(order, a.Name)
		mu.Unlock()
		held <- struct{}{}
		<-hold
	})
	second := func(id byte, user string) []byte {
		return n.request(id, pap(user, "000000", field{rfc2865.State_Type, string(state)})...)
	}
	// Both workers take what has a State that opens; then one lane fills, and the other.
	n.send(second(10, "busy1"))
	n.send(second(11, "busy2"))
	<-held
	<-held
	for i, name := range []string{"first1", "first2", "first3"} {
		n.send(n.request(byte(20+i), pap(name, password)...))
	}
	n.send(n.request(30, pap("first4", password)...))
	r.meter.await(t, "overloaded", func(m *counter) bool { return m.drops["overloaded"] == 1 })
	n.send(n.request(31, pap("junk state", "x", field{rfc2865.State_Type, "junk"})...))
	r.meter.await(t, "overloaded", func(m *counter) bool { return m.drops["overloaded"] == 2 })
	for i, name := range []string{"second1", "second2", "second3"} {
		n.send(second(byte(40+i), name))
	}
	dropped := second(50, "second4")
	n.send(dropped)
	r.meter.await(t, "overloaded", func(m *counter) bool { return m.drops["overloaded"] == 3 })
	for range 6 { // one worker at a time takes what is next
		hold <- struct{}{}
		<-held
	}
	close(hold)
	for range 8 {
		n.receive()
	}
	mu.Lock()
	for i, name := range order[2:5] {
		if !strings.HasPrefix(name, "second") {
			t.Errorf("number %d was %q, want second rounds before first ones: %q", i, name, order)
		}
	}
	mu.Unlock()
	n.ask(dropped) // it was forgotten, and so is judged now
}

// Slow first rounds leave workers for second rounds.
func TestReserve(t *testing.T) {
	r := newRig(t, func(o *Options) { workersOnly(o); o.Workers = 8 }, everybody(Challenge))
	n := r.nas()
	state := rfc2865.State_Get(n.ask(n.request(1, pap("alice", password)...)))
	hold, held := make(chan struct{}), make(chan struct{}, 16)
	r.gate.set(func(a login.Attempt) {
		if a.Name == "slow" {
			held <- struct{}{}
			<-hold
		}
	})
	for i := range 12 {
		n.send(n.request(byte(10+i), pap("slow", password)...))
	}
	for range 7 {
		<-held
	}
	p := n.ask(n.request(2, pap("alice", r.code(), field{rfc2865.State_Type, string(state)})...))
	if p.Code != radius.CodeAccessAccept {
		t.Errorf("%v", p.Code)
	}
	close(hold)
	for range 12 {
		n.receive()
	}
}

// When Serve is told to end it reads no more, answers what it took, and returns when that is done, also while another
// socket keeps the workers. The decisions are not told that the end has come.
func TestDrain(t *testing.T) {
	r := newRig(t, func(o *Options) { workersOnly(o); o.Workers = 2 }, everybody(Code))
	other := listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ctx, other) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		other.Close()
	}()
	n := r.nas()
	hold, held := make(chan struct{}), make(chan struct{}, 4)
	r.gate.set(func(login.Attempt) { held <- struct{}{}; <-hold })
	raws := [][]byte{n.request(1, pap("alice", "000000")...), n.request(2, pap("bob", "000000")...), n.request(3, pap("bob", "000000")...)}
	for _, raw := range raws {
		n.send(raw)
	}
	<-held
	r.meter.await(t, "the third request", func(*counter) bool { // it waits in the queue
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		r.server.queue.mu.Lock()
		defer r.server.queue.mu.Unlock()
		return r.server.queue.depth() >= 1
	})
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("Serve ended before the requests were answered")
	case <-time.After(20 * time.Millisecond): // the error above is what this would miss at worst
	}
	close(hold)
	<-stopped
	for range raws {
		n.receive()
	}
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	if r.gate.ended != nil {
		t.Errorf("a decision was cut short: %v", r.gate.ended)
	}
}

// Several sockets are served at once by the same workers, and each keeps its own resends.
func TestSockets(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	conn := listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(ctx, conn) }()
	n := r.nas()
	other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	raw := n.request(1, pap("alice", "000000")...)
	for _, to := range []net.Addr{net.UDPAddrFromAddrPort(r.addr), conn.LocalAddr()} { // one client socket, two of the server
		if _, err := other.WriteTo(raw, to); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, wire.MaxPacket)
		k, from, err := other.ReadFrom(buf)
		if err != nil || from.String() != to.String() {
			t.Fatalf("from %v: %v", from, err)
		}
		n.checked(raw, buf[:k])
	}
	if got := r.gate.count(); got != 2 {
		t.Errorf("the gate was asked %d times, want once for each socket", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	conn.Close()
	n.ask(n.request(2, pap("alice", "000000")...)) // the first socket is served on
}

// A socket that cannot be served ends Serve with an error.
func TestClosed(t *testing.T) {
	s := NewServer(Options{Now: time.Now, Log: newQuiet()})
	conn := listen(t, "127.0.0.1:0")
	conn.Close()
	if err := s.Serve(t.Context(), conn); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

// failing is a socket whose first reads fail.
type failing struct {
	batchConn
	left atomic.Int32
}

func (c *failing) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if c.left.Add(-1) >= 0 {
		return 0, unix.ENOMEM
	}
	return c.batchConn.ReadBatch(ms, flags)
}

// An error of the socket that passes is said, and does not end the service or spin.
func TestReadError(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	conn := listen(t, "127.0.0.1:0")
	r.addr = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	ln, err := openListener(conn, func(_ *client, _ netip.Addr, err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer ln.close()
	bad := &failing{batchConn: ln.batch}
	bad.left.Store(3)
	ln.batch = bad
	ln.carried.serves, ln.carried.cached = authentication, true
	q, left := r.server.enter(t.Context(), &ln.carried)
	b := newReader(r.server, ln, q)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.run(ctx) }()
	n := r.nas()
	n.ask(n.packet(radius.CodeStatusServer, 1))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.close()
	left()
	if !strings.Contains(r.lines.String(), "retry_in=4ms") {
		t.Errorf("not said:\n%s", r.lines)
	}
}

// However a client is printed, its secret is not (P9).
func TestPrinted(t *testing.T) {
	c := everybody(Code)
	cfg := &Config{Clients: []Client{c}}
	s, err := cfg.ready(nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "client", c, "config", cfg, "ready", s.list[0])
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "client", c)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", c, *cfg, s.list[0])
	}
	for _, form := range []string{testSecret, hex.EncodeToString([]byte(testSecret)), fmt.Sprint([]byte(testSecret))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret is printed as %s:\n%s", form, &out)
		}
	}
}

// Sockets bound to every address answer from the address that was asked, over v4, v6, and v4 mapped into v6.
func TestAnswerFrom(t *testing.T) {
	six := everybody(Code)
	six.Name, six.Prefix = "six", netip.MustParsePrefix("::1/128")
	for _, c := range []struct{ listen, ask, from string }{
		{"0.0.0.0:0", "127.0.0.5", "127.0.0.1"},
		{"[::]:0", "127.0.0.6", "127.0.0.1"},
		{"[::]:0", "::1", "::1"},
		{"[::1]:0", "::1", "::1"},
		{"127.0.0.7:0", "127.0.0.7", "127.0.0.1"},
	} {
		t.Run(c.listen+" "+c.ask, func(t *testing.T) {
			r := newRigOn(t, c.listen, nil, everybody(Code), six)
			r.addr = netip.AddrPortFrom(netip.MustParseAddr(c.ask), r.addr.Port())
			n := r.from(c.from) // connected: the kernel gives it nothing from elsewhere
			raw := n.request(1, pap("alice", "000000")...)
			n.ask(raw)
			n.ask(raw)
			n.ask(n.packet(radius.CodeStatusServer, 2))
			if got := r.gate.attempt().Source.Addr().String(); got != c.from {
				t.Errorf("source %s, want %s", got, c.from)
			}
		})
	}
}

// The answer's packet information names the address that was asked, and leaves the interface to routing unless the
// address is link-local.
func TestAnswerFromInfo(t *testing.T) {
	four := unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: 7, Spec_dst: [4]byte{127, 0, 0, 5}, Addr: [4]byte{127, 0, 0, 5}})
	want := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte{127, 0, 0, 5}, Addr: [4]byte{127, 0, 0, 5}})
	if n := answerFrom(four); n != len(want) || !bytes.Equal(four, want) {
		t.Errorf("v4: %d %v, want %v", n, four, want)
	}
	for addr, index := range map[string]uint32{"2001:db8::1": 0, "::ffff:127.0.0.5": 0, "fe80::1": 7} {
		a := netip.MustParseAddr(addr).As16()
		six, want := unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: 7, Addr: a}), unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: index, Addr: a})
		if n := answerFrom(six); n != len(want) || !bytes.Equal(six, want) {
			t.Errorf("%s: %d %v, want %v", addr, n, six, want)
		}
	}
}

// A control message that is not packet information, or is cut, is no address to answer from.
func TestAnswerFromJunk(t *testing.T) {
	for _, junk := range [][]byte{nil, {1}, make([]byte, 16), bytes.Repeat([]byte{255}, 40), append([]byte{40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0}, 1, 2)} {
		if n := answerFrom(bytes.Clone(junk)); n != 0 {
			t.Errorf("%v: %d", junk, n)
		}
	}
}

// While logins cannot be decided Status-Server gets no answer, and when it is asked too often either.
func TestStatusServer(t *testing.T) {
	var mu sync.Mutex
	var down error
	r := newRig(t, func(o *Options) {
		o.Ready = func() error {
			mu.Lock()
			defer mu.Unlock()
			return down
		}
	}, everybody(Code))
	n := r.nas()
	p := n.ask(n.packet(radius.CodeStatusServer, 1))
	if got := rfc2865.ReplyMessage_GetString(p); p.Code != radius.CodeAccessAccept || got != "Sallyport gw1" {
		t.Errorf("%v %q", p.Code, got)
	}
	mu.Lock()
	down = errors.New("the disk is full")
	mu.Unlock()
	n.send(n.packet(radius.CodeStatusServer, 2))
	r.meter.await(t, "not_ready", func(m *counter) bool { return m.drops["not_ready"] == 1 })
	mu.Lock()
	down = nil
	mu.Unlock()
	r.advance(time.Second)
	for i := range statusPerSecond {
		n.ask(n.packet(radius.CodeStatusServer, byte(10+i)))
	}
	n.send(n.packet(radius.CodeStatusServer, 3))
	r.meter.await(t, "status_server_rate", func(m *counter) bool { return m.drops["status_server_rate"] == 1 })
	r.advance(time.Second)
	n.ask(n.packet(radius.CodeStatusServer, 4))
	if r.gate.count() != 0 {
		t.Error("the gate was asked")
	}
}

// A new configuration holds for the next packet, keeps what is known of clients that stay, and keeps resends.
func TestReload(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n := r.nas()
	raw := n.request(1, pap("alice", r.code())...)
	n.send(raw)
	first := n.receive()
	moved := everybody(Code)
	moved.Secret = []byte("a new secret, also long enough")
	r.configure(moved)
	n.send(n.request(2, pap("alice", "000000")...))
	r.meter.await(t, "ma_bad", func(m *counter) bool { return m.drops["ma_bad"] == 1 })
	n.secret = string(moved.Secret)
	n.ask(n.request(3, pap("alice", "000000")...))
	if s := r.server.Stats(); len(s) != 1 || s[0].Accepts != 1 || s[0].Rejects != 1 || s[0].Drops["ma_bad"] != 1 {
		t.Errorf("stats %+v", s)
	}
	r.configure(everybody(Code))
	n.secret = testSecret
	n.send(raw)
	if again := n.receive(); !bytes.Equal(first, again) {
		t.Error("a reload lost the reply")
	}
	r.configure()
	n.send(raw)
	r.meter.await(t, "unknown_client", func(m *counter) bool { return m.drops["unknown_client"] == 1 })
}

// Drops are logged once a minute for each client and reason, however many there are, and forged addresses fill neither
// the log nor memory (P7).
func TestDropLog(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	c := r.server.settings.Load().list[0]
	addr := netip.MustParseAddr("127.0.0.1")
	for range 1000 {
		r.server.drop(c, dropAuthBad, addr)
	}
	if got := strings.Count(r.lines.String(), "ma_bad"); got != 1 {
		t.Errorf("%d lines", got)
	}
	r.advance(dropLogEvery)
	r.server.drop(c, dropAuthBad, addr)
	if !strings.Contains(r.lines.String(), "count=1000") {
		t.Errorf("the second line does not stand for those between:\n%s", r.lines)
	}
	stranger := netip.MustParseAddr("2001:db8::")
	for range 100_000 {
		stranger = stranger.Next()
		r.server.drop(nil, dropUnknownClient, stranger)
	}
	if got := strings.Count(r.lines.String(), "unknown_client"); got != strangerLines {
		t.Errorf("%d lines about strangers, want %d", got, strangerLines)
	}
	if got := r.server.Strangers(); len(got) != maxStrangers || got[0].LastSeen != r.now() || len(r.server.strangers.index) != maxStrangers {
		t.Errorf("%d strangers", len(got))
	}
	r.advance(-24 * time.Hour) // a clock that is set back does not silence the log
	r.server.drop(c, dropAuthBad, addr)
	if got := strings.Count(r.lines.String(), "ma_bad"); got != 3 {
		t.Errorf("%d lines after the clock was set back", got)
	}
}

// Every reason has a word of its own.
func TestDropReasons(t *testing.T) {
	seen := make(map[string]dropReason)
	for d := range dropReasons {
		if other, twice := seen[d.String()]; twice || d.String() == "unknown" {
			t.Errorf("reasons %d and %d are both %q", other, d, d)
		}
		seen[d.String()] = d
	}
}

// A process that may not exceed net.core.rmem_max gets that, and Serve says so.
func TestReceiveBuffer(t *testing.T) {
	conn := listen(t, "127.0.0.1:0")
	ln, err := openListener(conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.close()
	got, err := ln.raiseReceiveBuffer(DefaultReceiveBuffer)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && got < DefaultReceiveBuffer {
		t.Errorf("%d bytes, want %d", got, DefaultReceiveBuffer)
	}
}
