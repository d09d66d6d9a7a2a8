package radiusd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/ipv4"
)

func outgoingFrom(i int) *request {
	return &request{facts: facts{
		client: &client{Client: Client{Name: fmt.Sprint(i)}},
		to:     &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: i}, from: netip.MustParseAddrPort("192.0.2.1:1"),
	}}
}

// Every reply is sent once, by whoever sends, however many post at once, and to its own address.
func TestOutbox(t *testing.T) {
	var mu sync.Mutex
	got := make(map[string]int)
	o := &outbox{
		write: func(ms []ipv4.Message, _ int) (int, error) {
			k := min(len(ms), 3) // the kernel may take fewer than it was given
			mu.Lock()
			defer mu.Unlock()
			for _, m := range ms[:k] {
				got[string(m.Buffers[0])+" to "+m.Addr.String()]++
			}
			return k, nil
		},
		failed: func(*client, netip.Addr, error) { t.Error("failed") },
	}
	const n = 2000
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { o.post(outgoingFrom(i), []byte(fmt.Sprint("reply ", i))) })
	}
	wg.Wait()
	for i := range n {
		if k := fmt.Sprintf("reply %d to 192.0.2.1:%d", i, i); got[k] != 1 {
			t.Fatalf("%q was sent %d times", k, got[k])
		}
	}
	if o.sending || len(o.waiting) != 0 {
		t.Error("it does not rest")
	}
}

// A reply that cannot be sent is told, and keeps none of the others back.
func TestOutboxFailure(t *testing.T) {
	var sent, failed []string
	o := &outbox{
		write: func(ms []ipv4.Message, _ int) (int, error) {
			if string(ms[0].Buffers[0]) == "bad" {
				return 0, errors.New("no route")
			}
			sent = append(sent, string(ms[0].Buffers[0]))
			return 1, nil
		},
		failed: func(c *client, _ netip.Addr, _ error) { failed = append(failed, c.Name) },
	}
	for i, packet := range []string{"a", "bad", "b"} {
		o.add(outgoingFrom(i), []byte(packet))
	}
	o.post(outgoingFrom(3), []byte("bad"))
	o.post(outgoingFrom(4), []byte("c"))
	if fmt.Sprint(sent, failed) != "[a b c] [1 3]" {
		t.Errorf("sent %v, failed %v", sent, failed)
	}
}

// A panic while sending does not silence the socket.
func TestOutboxPanic(t *testing.T) {
	calls := 0
	o := &outbox{
		write: func(ms []ipv4.Message, _ int) (int, error) {
			if calls++; calls == 1 {
				panic("a defect")
			}
			return len(ms), nil
		},
		failed: func(*client, netip.Addr, error) {},
	}
	func() {
		defer func() { _ = recover() }()
		o.post(outgoingFrom(1), []byte("a"))
	}()
	o.post(outgoingFrom(2), []byte("b"))
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
}
