package sshgw

import (
	"net"
	"net/netip"
	"slices"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"sallyport/sshgw/door"
)

const (
	// proxyHeaderWait is how long a load balancer may take to say for whom it connects.
	proxyHeaderWait = 3 * time.Second
	// maxUnresolved bounds the connections of load balancers that have not said so yet.
	maxUnresolved = 256
)

// arrive takes a connection in. One from a load balancer says first for whom it is (the PROXY protocol, versions 1 and 2), and
// is judged by that; anybody else who says so is a client that speaks no SSH.
func (s *Server) arrive(raw net.Conn) {
	balancers := s.settings.Load().Balancers
	source := door.SourceOf(raw.RemoteAddr())
	if !slices.ContainsFunc(balancers, func(p netip.Prefix) bool { return p.Contains(source.Addr()) }) {
		s.admit(raw)
		return
	}
	select {
	case s.unresolved <- struct{}{}:
	default:
		raw.Close()
		s.dropped(dropConnections, source)
		return
	}
	s.mu.Lock()
	draining := s.draining
	if !draining {
		s.running.Add(1)
	}
	s.mu.Unlock()
	if draining {
		<-s.unresolved
		raw.Close()
		s.dropped(dropDraining, source)
		return
	}
	go func() {
		defer s.running.Done()
		c := proxyproto.NewConn(raw, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(proxyHeaderWait))
		header := c.ProxyHeader() // reads it
		<-s.unresolved
		switch {
		case header == nil:
			raw.Close()
			s.dropped(dropProxyHeader, source)
		case header.Command.IsLocal(): // a balancer's own look whether we live
			raw.Close()
		default:
			s.admit(c)
		}
	}()
}
