package witness

import (
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

// bodies counts those that are being read.
type bodies struct {
	most int // of one address

	mu  sync.Mutex
	all int                // guarded by mu
	of  map[netip.Addr]int // guarded by mu: no zeros
}

// newBodies makes a count that tells addresses apart, or not: behind a proxy all are one.
func newBodies(apart bool) *bodies {
	b := &bodies{most: maxReading, of: make(map[netip.Addr]int)}
	if apart {
		b.most = maxReadingOf
	}
	return b
}

func (b *bodies) enter(remote string) (leave func(), ok bool) {
	who := sourceOf(remote)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all >= maxReading || b.of[who] >= b.most {
		return nil, false
	}
	b.all++
	b.of[who]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.all--
		if b.of[who]--; b.of[who] == 0 {
			delete(b.of, who)
		}
	}, true
}
