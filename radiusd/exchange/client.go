package exchange

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/radiusd/wire"
)

// The schedule of RFC 5080 section 2.2.1, where nothing else is set.
const (
	DefaultInitialRetransmit = 2 * time.Second  // IRT
	DefaultMaxRetransmit     = 16 * time.Second // MRT
	DefaultMaxDuration       = 30 * time.Second // MRD
)

const (
	// DefaultMaxSockets allows for 2,048 requests under way.
	DefaultMaxSockets = 8
	maxSockets        = 64
	// identifiers that a socket has (RFC 2865 section 3).
	identifiers = 256
	// maxSecret is what radiusd accepts of its own clients.
	maxSecret = 1024
)

// Options say what server a Client has, and how patient it is.
type Options struct {
	Address string // host:port; a name is looked up whenever a socket is opened
	Secret  []byte
	// InsecureAcceptUnsigned takes answers to Access-Request and Status-Server that have no Message-Authenticator. Who sits
	// between us and the server can then turn a refusal into an acceptance (CVE-2024-3596).
	InsecureAcceptUnsigned bool
	// RequireSigned wants a Message-Authenticator also in the answers to Accounting-, Disconnect- and CoA-Request. Without
	// it, it is verified where there is one: few NAS sign these, and their requests hold nothing that an attacker can choose.
	RequireSigned bool
	MaxSockets    int // 0: DefaultMaxSockets
	// InitialRetransmit and MaxRetransmit are RFC 5080's IRT and MRT. MaxDuration is its MRD: how long an Exchange takes at most,
	// whatever its context allows. 0: their defaults.
	InitialRetransmit, MaxRetransmit, MaxDuration time.Duration
}

// setDefaults fills in what is not set, and checks the rest.
func (o *Options) setDefaults() error {
	for _, d := range []struct {
		value   *time.Duration
		usually time.Duration
	}{
		{&o.InitialRetransmit, DefaultInitialRetransmit},
		{&o.MaxRetransmit, max(DefaultMaxRetransmit, o.InitialRetransmit)},
		{&o.MaxDuration, DefaultMaxDuration},
	} {
		if *d.value == 0 {
			*d.value = d.usually
		}
	}
	if o.MaxSockets == 0 {
		o.MaxSockets = DefaultMaxSockets
	}
	host, port, err := net.SplitHostPort(o.Address)
	switch {
	case err != nil:
		return err // it names the address
	case host == "" || port == "" || port == "0":
		return fmt.Errorf("address %q: want host:port", o.Address)
	case len(o.Secret) == 0:
		return errors.New("the shared secret is empty") // RFC 2865 section 3
	case len(o.Secret) > maxSecret:
		return fmt.Errorf("the shared secret has more than %d octets", maxSecret)
	case o.MaxSockets < 1 || o.MaxSockets > maxSockets:
		return fmt.Errorf("max sockets is %d: want 1 to %d", o.MaxSockets, maxSockets)
	case o.InitialRetransmit < 0 || o.MaxRetransmit < o.InitialRetransmit || o.MaxDuration < 0:
		return fmt.Errorf("retransmission from %v to %v, for %v: want 0 < initial <= max, and a time to wait", o.InitialRetransmit, o.MaxRetransmit, o.MaxDuration)
	}
	return nil
}

// Client asks one server. It is safe for concurrent use.
type Client struct {
	o     Options
	key   *wire.Secret
	tools sync.Pool     // of *toolbox
	dial  chan struct{} // full while somebody opens a socket
	done  chan struct{} // closed by Close
	work  sync.WaitGroup

	sent, retransmits, answers atomic.Uint64
	discarded                  [reasons]atomic.Uint64

	// Guarded by mu.
	mu        sync.Mutex
	sockets   []*socket
	waiting   int
	roundTrip time.Duration
	closed    bool
}

// toolbox is what one goroutine at a time needs to make a packet.
type toolbox struct {
	digester *wire.Digester
	buf      [wire.MaxPacket]byte
}

// New returns a Client. It opens no socket before it is asked for something. Who made it closes it.
func New(o Options) (*Client, error) {
	if err := o.setDefaults(); err != nil {
		return nil, fmt.Errorf("exchange: %w", err)
	}
	c := &Client{o: o, key: wire.NewSecret(o.Secret), dial: make(chan struct{}, 1), done: make(chan struct{})}
	c.o.Secret = nil
	c.tools.New = func() any { return &toolbox{digester: wire.NewDigester()} }
	return c, nil
}

// Address is the server's.
func (c *Client) Address() string { return c.o.Address }

// Close ends every Exchange with ErrClosed, closes the sockets, and returns when all that the Client started has ended. It may
// be called more than once.
func (c *Client) Close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.done)
		for _, s := range c.sockets {
			_ = s.conn.Close()
		}
	}
	c.mu.Unlock()
	c.work.Wait()
}

// Stats is what a Client has done until now.
type Stats struct {
	Sent        uint64 // requests; how often one was sent again is not in it
	Retransmits uint64
	Answers     uint64
	Discarded   map[Reason]uint64 // every Reason is in it
	Waiting     int               // requests under way
	Sockets     int
	// RoundTrip is a moving average of the time to the answers of requests that were sent once (Karn's rule: of one that was
	// sent more often, nobody knows which copy was answered). 0: none yet.
	RoundTrip time.Duration
}

// Stats tells it.
func (c *Client) Stats() Stats {
	st := Stats{
		Sent: c.sent.Load(), Retransmits: c.retransmits.Load(), Answers: c.answers.Load(),
		Discarded: make(map[Reason]uint64, reasons),
	}
	for r := range c.discarded {
		st.Discarded[Reason(r)] = c.discarded[r].Load()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Waiting, st.Sockets, st.RoundTrip = c.waiting, len(c.sockets), c.roundTrip
	return st
}

// enter begins an Exchange, which leaves with c.work.Done.
func (c *Client) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.work.Add(1)
	return nil
}

// place finds an identifier for w, on a new socket if need be.
func (c *Client) place(ctx context.Context, w *waiter) error {
	if c.reserve(w) {
		return nil
	}
	// One opens a socket, and the others look again: it has room for all of them.
	select {
	case c.dial <- struct{}{}:
		defer func() { <-c.dial }()
	case <-ctx.Done():
		return fmt.Errorf("%w: its name was not found in time: %w", ErrUnreachable, ctx.Err())
	case <-c.done:
		return ErrClosed
	}
	if c.reserve(w) {
		return nil
	}
	c.mu.Lock()
	full := len(c.sockets) >= c.o.MaxSockets
	c.mu.Unlock()
	if full {
		return ErrBusy
	}
	conn, err := new(net.Dialer).DialContext(ctx, "udp", c.o.Address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	s := &socket{conn: conn}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return ErrClosed
	}
	c.sockets = append(c.sockets, s)
	c.work.Go(func() { c.read(s) })
	s.reserve(w)
	c.waiting++
	return nil
}

// reserve finds an identifier for w on the sockets that are open.
func (c *Client) reserve(w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sockets {
		if !s.retired && s.taken < identifiers {
			s.reserve(w)
			c.waiting++
			return true
		}
	}
	return false
}

// release gives w's identifier back, if that has not happened yet. It is called with the lock held.
func (c *Client) release(w *waiter) {
	s := w.socket
	if s.waiting[w.id] != w {
		return
	}
	s.waiting[w.id] = nil
	s.taken--
	c.waiting--
	if s.retired && s.taken == 0 {
		c.drop(s)
	}
}

// drop closes a socket that has no use any more. It is called with the lock held.
func (c *Client) drop(s *socket) {
	_ = s.conn.Close()
	c.sockets = slices.DeleteFunc(c.sockets, func(other *socket) bool { return other == s })
}
