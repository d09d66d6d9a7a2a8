package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/radiusd/exchange/exchangetest"
	"sallyport/radiusd/wire"
)

// slot is what makes a request one of a kind to a server.
type slot struct {
	from netip.AddrPort
	id   byte
}

// More requests than a socket has identifiers wait at once, on as many sockets as they need, each with its own identifier;
// and each gets its own answer.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const n = 600
	f := exchangetest.NewFake(t, testSecret, nil)
	c := dial(t, f.Addr(), once)
	ctx := within(t, patience)
	var wg sync.WaitGroup
	for i := range n {
		f.Await(max(0, i-64)) // the fake's receive buffer is small
		wg.Go(func() {
			name := fmt.Sprintf("user %d", i)
			answer, err := c.Exchange(ctx, ask(name, "x"))
			if err != nil {
				t.Error(err)
				return
			}
			answer.Each(func(a wire.Attribute) bool {
				if a.Type == wire.AttrClass && string(a.Value) != name {
					t.Errorf("%s got the answer of %q", name, a.Value)
				}
				return true
			})
		})
	}
	held := f.Await(n)
	slots := make(map[slot]bool)
	for _, r := range held {
		slots[slot{r.From, r.Packet[1]}] = true
	}
	st := c.Stats()
	for i := range held { // in another order than they came
		r := held[(i*7)%n]
		f.Send(r, f.Reply(r, wire.CodeAccessAccept, func(w *wire.Writer) { w.Add(wire.AttrClass, r.UserName.In(r.Packet)) }))
	}
	wg.Wait()
	if len(slots) != n || st.Waiting != n || st.Sockets != 3 {
		t.Errorf("%d slots, %d waited, on %d sockets", len(slots), st.Waiting, st.Sockets)
	}
	if st := c.Stats(); st.Waiting != 0 || st.Answers != n {
		t.Errorf("in the end: %+v", st)
	}
}

// P7: beyond the bound of sockets nothing is sent, and the caller hears at once.
func TestBusy(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, testSecret, nil)
	c := dial(t, f.Addr(), once, func(o *Options) { o.MaxSockets = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range identifiers {
		f.Await(max(0, i-64))
		wg.Go(func() {
			if _, err := c.Exchange(ctx, ask("alice", "x")); !errors.Is(err, context.Canceled) {
				t.Errorf("err = %v, want the context's", err)
			}
		})
	}
	f.Await(identifiers)
	if _, err := c.Exchange(within(t, patience), ask("alice", "x")); !errors.Is(err, ErrBusy) {
		t.Errorf("err = %v, want ErrBusy", err)
	}
	if st := c.Stats(); st.Sent != identifiers || st.Waiting != identifiers {
		t.Errorf("%+v", st)
	}
	cancel()
	wg.Wait()
	if st := c.Stats(); st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

// An identifier that waits is not given to another request, however many come by.
func TestIdentifiersAreHeld(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
		if r.UserName.Text(r.Packet) != "held" {
			accept(f, r)
		}
	})
	c := dial(t, f.Addr(), once)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exchange(ctx, ask("held", "x"))
		ended <- err
	}()
	held := f.Await(1)[0]
	for range 2 * identifiers {
		must(t, c, ask("alice", "x"), wire.CodeAccessAccept)
	}
	got := f.Await(1 + 2*identifiers)
	for i, r := range got[1:] {
		if (slot{r.From, r.Packet[1]}) == (slot{held.From, held.Packet[1]}) {
			t.Fatalf("request %d has the identifier of one that waits", i)
		}
		if i > 0 && r.Packet[1] == got[i].Packet[1] {
			t.Fatalf("request %d has the identifier of the one before", i)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The authenticators are all different: what makes them is not worth guessing.
func TestAuthenticators(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, testSecret, accept)
	c := dial(t, f.Addr(), once)
	seen := make(map[[wire.AuthenticatorSize]byte]bool)
	for range 50 {
		answer := must(t, c, ask("alice", "open sesame"), wire.CodeAccessAccept)
		seen[answer.RequestAuth] = true
	}
	for _, r := range f.Await(50) {
		if !seen[wire.AuthenticatorOf(r.Packet)] {
			t.Error("a Response has not its request's authenticator")
		}
		if got := f.Password(r); got != "open sesame" {
			t.Errorf("the server reads the password %q", got)
		}
	}
	if len(seen) != 50 {
		t.Errorf("50 requests have %d authenticators", len(seen))
	}
}

// Where nothing listens, that is known at once, for all who wait; and when somebody does again, the next request gets there.
func TestRefused(t *testing.T) {
	t.Parallel()
	c := dial(t, deafPort(t), once)
	if _, err := c.Exchange(within(t, patience), ask("alice", "x")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("err = %v", err)
	}

	f := exchangetest.NewFake(t, testSecret, nil)
	c = dial(t, f.Addr())
	ended := make(chan error, 10)
	ctx := within(t, patience)
	for range cap(ended) {
		go func() {
			_, err := c.Exchange(ctx, ask("alice", "x"))
			ended <- err
		}()
	}
	f.Await(cap(ended))
	f.Close()
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, ErrUnreachable) {
			t.Errorf("err = %v", err)
		}
	}
	if st := c.Stats(); st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

// A server that comes back at its address is asked through a new socket.
func TestComesBack(t *testing.T) {
	t.Parallel()
	var c *Client
	var conn *net.UDPConn
	for try := 1; conn == nil; try++ {
		c = dial(t, deafPort(t))
		if _, err := c.Exchange(within(t, patience), ask("alice", "x")); !errors.Is(err, ErrUnreachable) {
			t.Fatalf("err = %v", err)
		}
		var err error
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(c.Address())))
		if err != nil && try == 5 {
			t.Fatal(err) // others took the port each time
		}
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exchange(ctx, ask("alice", "x"))
		ended <- err
	}()
	buf := make([]byte, wire.MaxPacket)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.ReadFrom(buf); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A server that never answers: the context ends it, the error says how often it was asked, and the next request comes from
// another port, in case something between has forgotten this one.
func TestSilence(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, testSecret, nil)
	c := dial(t, f.Addr())
	for i := range 2 {
		_, err := c.Exchange(within(t, 150*millisecond), ask("alice", "x"))
		none := new(NoAnswerError)
		if !errors.As(err, &none) || none.Sent < 2 || none.Discarded != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%d: err = %v", i, err)
		}
		if st := c.Stats(); st.Waiting != 0 || st.Sockets != 0 {
			t.Errorf("%d: %+v", i, st)
		}
	}
	got := f.Got()
	if got[0].From == got[len(got)-1].From {
		t.Error("the port is the same after a silence")
	}

	c = dial(t, f.Addr(), once, func(o *Options) { o.MaxDuration = 50 * millisecond })
	if _, err := c.Exchange(within(t, patience), ask("alice", "x")); !errors.As(err, new(*NoAnswerError)) {
		t.Errorf("err = %v: MaxDuration bounds what the context does not", err)
	}
}

// One request that is not answered among others that are does not cost the socket.
func TestSilenceForOne(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
		if r.UserName.Text(r.Packet) != "silent" {
			accept(f, r)
		}
	})
	c := dial(t, f.Addr(), once)
	ended := make(chan error, 1)
	ctx := within(t, 300*millisecond)
	go func() {
		_, err := c.Exchange(ctx, ask("silent", "x"))
		ended <- err
	}()
	f.Await(1)
	must(t, c, ask("alice", "x"), wire.CodeAccessAccept)
	if err := <-ended; !errors.As(err, new(*NoAnswerError)) {
		t.Fatal(err)
	}
	if st := c.Stats(); st.Sockets != 1 {
		t.Errorf("%+v", st)
	}
}

// An answer that comes when nobody waits any more is counted, and not given to who has the identifier next.
func TestLate(t *testing.T) {
	t.Parallel()
	late := make(chan exchangetest.Request, 1)
	f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
		if r.Number == 1 {
			late <- r
			return
		}
		f.Send(r, f.Reply(r, wire.CodeAccessReject))
	})
	c := dial(t, f.Addr(), once)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exchange(ctx, ask("alice", "x"))
		ended <- err
	}()
	r := <-late
	cancel()
	<-ended
	f.Send(r, f.Reply(r, wire.CodeAccessAccept))
	for range identifiers { // the last has r's identifier
		must(t, c, ask("alice", "x"), wire.CodeAccessReject)
	}
	if st := c.Stats(); st.Discarded[Unexpected] != 1 || st.Sockets != 1 {
		t.Errorf("%+v", st)
	}
}

// Status-Server is sent once, and never with the identifier of the last (RFC 5997 section 2).
func TestStatusServer(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
		if r.Number > 1 {
			accept(f, r)
		}
	})
	c := dial(t, f.Addr(), func(o *Options) { o.InitialRetransmit, o.MaxRetransmit = millisecond, 2*millisecond })
	_, err := c.Exchange(within(t, 100*millisecond), Request{Code: wire.CodeStatusServer})
	if none := new(NoAnswerError); !errors.As(err, &none) || none.Sent != 1 {
		t.Errorf("err = %v", err)
	}
	must(t, c, Request{Code: wire.CodeStatusServer}, wire.CodeAccessAccept)
	must(t, c, Request{Code: wire.CodeStatusServer}, wire.CodeAccessAccept)
	got := f.Await(3)
	if len(got) != 3 || got[1].Packet[1] == got[2].Packet[1] {
		t.Errorf("%d packets came", len(got))
	}
	for _, r := range got {
		if !f.Verify(r) {
			t.Error("Status-Server without a right Message-Authenticator in front")
		}
	}
}

// Close ends what is under way, and waits for it; what comes after it is refused.
func TestClose(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, testSecret, nil)
	c := dial(t, f.Addr())
	ended := make(chan error, 300)
	for i := range cap(ended) {
		f.Await(max(0, i-64))
		go func() {
			_, err := c.Exchange(t.Context(), ask("alice", "x"))
			ended <- err
		}()
	}
	f.Await(cap(ended))
	c.Close()
	if st := c.Stats(); st.Waiting != 0 || st.Sockets != 0 {
		t.Errorf("after Close: %+v", st)
	}
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("err = %v, want ErrClosed", err)
		}
	}
	if _, err := c.Exchange(t.Context(), ask("alice", "x")); !errors.Is(err, ErrClosed) {
		t.Errorf("err = %v, want ErrClosed", err)
	}
	c.Close()
}

// What no packet can hold is said before anything is sent, without its value (P9).
func TestImpossibleRequests(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, testSecret, accept)
	c := dial(t, f.Addr())
	value := []byte(strings.Repeat("hunter2", 40))
	with := func(a ...wire.Attribute) Request { return Request{Code: wire.CodeAccessRequest, Attributes: a} }
	for what, q := range map[string]Request{
		"no code":                      {},
		"an answer's code":             {Code: wire.CodeAccessAccept},
		"an empty value":               with(wire.Attribute{Type: wire.AttrUserName}),
		"a long value":                 with(wire.Attribute{Type: wire.AttrUserName, Value: value}),
		"a long value of a vendor":     with(wire.Attribute{Vendor: 9, Type: 1, Value: value[:wire.MaxVendorValue+1]}),
		"Message-Authenticator":        with(wire.Attribute{Type: wire.AttrMessageAuth, Value: value[:16]}),
		"User-Password":                with(wire.Attribute{Type: wire.AttrUserPassword, Value: value[:16]}),
		"no password":                  {Code: wire.CodeAccessRequest, Password: []byte{}},
		"a long password":              {Code: wire.CodeAccessRequest, Password: value[:wire.MaxPassword+1]},
		"a password for a CoA":         {Code: wire.CodeCoARequest, Password: value[:7]},
		"more than a packet has":       with(slices.Repeat([]wire.Attribute{{Type: wire.AttrClass, Value: value[:250]}}, 17)...),
		"a password for Status-Server": {Code: wire.CodeStatusServer, Password: value[:7]},
	} {
		_, err := c.Exchange(within(t, patience), q)
		if err == nil {
			t.Errorf("%s: sent", what)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), testSecret) {
			t.Errorf("%s: a value is in the error (P9): %v", what, err)
		}
	}
	if st := c.Stats(); st.Sent != 0 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for what, spoil := range map[string]func(*Options){
		"no address":       func(o *Options) { o.Address = "" },
		"no port":          func(o *Options) { o.Address = "10.0.0.1" },
		"port 0":           func(o *Options) { o.Address = "10.0.0.1:0" },
		"no host":          func(o *Options) { o.Address = ":1812" },
		"no secret":        func(o *Options) { o.Secret = nil },
		"endless secret":   func(o *Options) { o.Secret = bytes.Repeat([]byte("hunter2"), 200) },
		"sockets":          func(o *Options) { o.MaxSockets = maxSockets + 1 },
		"negative":         func(o *Options) { o.InitialRetransmit = -1 },
		"most below least": func(o *Options) { o.InitialRetransmit, o.MaxRetransmit = 2, 1 },
	} {
		o := Options{Address: "10.0.0.1:1812", Secret: []byte(testSecret)}
		spoil(&o)
		c, err := New(o)
		if err == nil {
			c.Close()
			t.Errorf("%s: taken", what)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), testSecret) {
			t.Errorf("%s: the secret is in the error (P9)", what)
		}
	}
}

// A name that does not resolve is a server that cannot be reached.
func TestUnknownName(t *testing.T) {
	t.Parallel()
	c := dial(t, "nowhere.invalid:1812")
	if _, err := c.Exchange(within(t, patience), ask("alice", "x")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("err = %v", err)
	}
}

// Salted values are read with the request's authenticator.
func TestReveal(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
		f.Send(r, f.Reply(r, wire.CodeAccessAccept, func(w *wire.Writer) {
			w.AddAttribute(wire.Attribute{Vendor: wire.VendorMicrosoft, Type: wire.MicrosoftMPPESendKey, Value: f.Salted(r, 5, key)})
		}))
	})
	answer := must(t, dial(t, f.Addr()), ask("alice", "x"), wire.CodeAccessAccept)
	found := false
	answer.Each(func(a wire.Attribute) bool {
		if a.Vendor == wire.VendorMicrosoft {
			got, ok := answer.Reveal(a.Value)
			found = ok && bytes.Equal(got, key)
		}
		return true
	})
	if !found {
		t.Error("the key was not read")
	}
}
