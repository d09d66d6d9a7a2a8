// Package door decides which connections may begin at all, from where they come and what came from there before. It
// holds counts and times, does no I/O, and everything in it has a bound (P7).
package door

import (
	"net"
	"net/netip"
	"sync"
)

// SourceOf returns where a connection comes from. It is the zero value for connections that have no IP address; they
// share one place in all tables.
func SourceOf(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	a := tcp.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// NetworkOf returns what counts as one source: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
func NetworkOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Startups bounds connections that have not logged in, as MaxStartups of sshd_config(5) does: none is dropped below
// Begin, Rate per cent at Begin, rising to all at Full.
type Startups struct{ Begin, Rate, Full int }

// Verdict says whether a connection may begin, and why not.
type Verdict uint8

// The verdicts.
const (
	OK           Verdict = iota
	AllStarts            // too many connections have not logged in
	SourceStarts         // too many from this source
)

// Starts counts the connections that have not logged in. It holds no more sources than connections.
type Starts struct {
	roll func(n int) int // a random number below n

	mu       sync.Mutex
	all      int
	bySource map[netip.Prefix]int
}

// NewStarts takes a source of random numbers: roll(n) is from 0 to n-1.
func NewStarts(roll func(int) int) *Starts {
	return &Starts{roll: roll, bySource: make(map[netip.Prefix]int)}
}

// Begin takes a place for a new connection, or says why there is none.
func (s *Starts) Begin(source netip.Prefix, limit Startups, perSource int) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bySource[source] >= perSource {
		return SourceStarts
	}
	if s.drop(limit) {
		return AllStarts
	}
	s.all++
	s.bySource[source]++
	return OK
}

// drop is should_drop_connection of OpenSSH's sshd.c: random early drop.
func (s *Starts) drop(l Startups) bool {
	switch {
	case s.all < l.Begin:
		return false
	case s.all >= l.Full, l.Rate == 100:
		return true
	}
	chance := l.Rate + (100-l.Rate)*(s.all-l.Begin)/(l.Full-l.Begin)
	return s.roll(100) < chance
}

// End gives the place back.
func (s *Starts) End(source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.bySource[source]--; s.bySource[source] <= 0 {
		delete(s.bySource, source)
	}
}

// Count returns how many there are.
func (s *Starts) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}
