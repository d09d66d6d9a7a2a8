package exchange

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/radiusd/exchange/exchangetest"
	"sallyport/radiusd/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testSecret = "xyzzy5461-xyzzy5461-xyzz"

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// dial makes a client of an address that resends quickly, and never gives up before its context.
func dial(t testing.TB, address string, set ...func(*Options)) *Client {
	t.Helper()
	o := Options{
		Address: address, Secret: []byte(testSecret),
		InitialRetransmit: 20 * time.Millisecond, MaxRetransmit: 200 * time.Millisecond, MaxDuration: patience,
	}
	for _, f := range set {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// once makes a client send nothing twice within a test.
func once(o *Options) { o.InitialRetransmit, o.MaxRetransmit = time.Hour, time.Hour }

// ask is an Access-Request.
func ask(user, password string) Request {
	return Request{
		Code: wire.CodeAccessRequest, Password: []byte(password),
		Attributes: []wire.Attribute{{Type: wire.AttrUserName, Value: []byte(user)}, {Type: wire.AttrNASIdentifier, Value: []byte("test")}},
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// accept answers whatever comes.
func accept(f *exchangetest.Fake, r exchangetest.Request) {
	f.Send(r, f.Reply(r, wire.CodeAccessAccept))
}

// must is an Exchange that succeeds with the code.
func must(t testing.TB, c *Client, q Request, code byte) Response {
	t.Helper()
	answer, err := c.Exchange(within(t, patience), q)
	if err != nil {
		t.Fatalf("code %d: %v", q.Code, err)
	}
	if answer.Code != code || answer.Packet[0] != code {
		t.Fatalf("code %d was answered with %d, want %d", q.Code, answer.Code, code)
	}
	return answer
}

// deafPort is an address at which nothing listens.
func deafPort(t testing.TB) string {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}
