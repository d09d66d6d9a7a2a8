package witness

import (
	"math"
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxSources bounds the addresses that are remembered. When so many have asked within a minute, the rest share one allowance.
const maxSources = 4096

// rates gives each address so many requests a minute: a bucket that fills evenly.
type rates struct {
	perMinute float64
	now       func() time.Time

	mu      sync.Mutex
	buckets map[netip.Addr]bucket // guarded by mu
}

type bucket struct {
	left float64
	at   time.Time
}

func newRates(perMinute int, now func() time.Time) *rates {
	return &rates{perMinute: float64(perMinute), now: now, buckets: make(map[netip.Addr]bucket)}
}

// sourceOf is who asks: an IPv4 address, or the 64 bits of an IPv6 address that a provider gives to one customer.
func sourceOf(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		a = p.Addr()
	}
	return a
}

func (r *rates) allow(remote string) bool {
	if r.perMinute <= 0 {
		return true
	}
	who, now := sourceOf(remote), r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.buckets[who]
	if !ok && len(r.buckets) >= maxSources {
		r.forget(now)
		if len(r.buckets) >= maxSources {
			who = netip.Addr{}
			b, ok = r.buckets[who]
		}
	}
	if !ok {
		b = bucket{left: r.perMinute, at: now}
	}
	b.left = min(r.perMinute, b.left+max(0, now.Sub(b.at).Minutes())*r.perMinute)
	b.at = now
	allowed := b.left >= 1
	if allowed {
		b.left--
	}
	r.buckets[who] = b
	return allowed
}

// forget drops whoever has his whole allowance again. It is called with mu held.
func (r *rates) forget(now time.Time) {
	for who, b := range r.buckets {
		if now.Sub(b.at) >= time.Minute {
			delete(r.buckets, who)
		}
	}
}

// crowd counts those who are in, and of each address.
type crowd struct {
	most, each int // there may be, and of one address

	mu  sync.Mutex
	all int                // guarded by mu
	of  map[netip.Addr]int // guarded by mu: no zeros
}

func newCrowd(most, each int) *crowd {
	return &crowd{most: most, each: each, of: make(map[netip.Addr]int)}
}

func (c *crowd) enter(remote string) (leave func(), ok bool) {
	who := sourceOf(remote)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most || c.of[who] >= c.each {
		return nil, false
	}
	c.all++
	c.of[who]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all--
		if c.of[who]--; c.of[who] == 0 {
			delete(c.of, who)
		}
	}, true
}

// Listener is l with so many connections of one address; more are closed as they come. Without it, one address that is slow to ask
// has all the connections that there may be.
func Listener(l net.Listener, each int) net.Listener {
	return &listener{Listener: l, conns: newCrowd(math.MaxInt, each)}
}

type listener struct {
	net.Listener
	conns *crowd
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leave, ok := l.conns.enter(c.RemoteAddr().String())
		if ok {
			return &conn{Conn: c, leave: sync.OnceFunc(leave)}, nil
		}
		_ = c.Close() // nobody is told
	}
}

type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
