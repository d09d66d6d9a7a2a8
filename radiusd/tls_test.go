package radiusd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"

	"sallyport/radiusd/wire"
)

// authority is a CA of the test's.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a certificate for a DNS name.
func (a *authority) issue(name string, change func(*x509.Certificate)) *tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}
}

// secured is a rig that also serves RADIUS over TLS.
type secured struct {
	*rig
	ca     *authority
	server atomic.Pointer[tls.Certificate]
	cas    atomic.Pointer[x509.CertPool]
	tls    string // address
	stop   func()
}

// overTLS is the client that tests connect as.
func overTLS(mode Mode) Client {
	c := everybody(mode)
	c.Secret, c.Certificate = nil, "nas.example.org"
	return c
}

func newSecured(t *testing.T, change func(*Options), clients ...Client) *secured {
	t.Helper()
	return newPatient(t, patience{handshakeFor, frameFor}, change, clients...)
}

// newPatient is newSecured with another patience.
func newPatient(t *testing.T, p patience, change func(*Options), clients ...Client) *secured {
	t.Helper()
	s := &secured{rig: newRig(t, change, clients...), ca: newAuthority(t)}
	s.rig.server.patience = p
	s.server.Store(s.ca.issue("radius.example.org", nil))
	s.cas.Store(s.ca.pool())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.tls = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.rig.server.ServeTLS(ctx, l, TLSOptions{
			Certificate: func() (*tls.Certificate, error) { return s.server.Load(), nil },
			ClientCAs:   s.cas.Load,
		})
	}()
	stopped := false
	s.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(s.stop)
	return s
}

// tlsNAS is a client over TLS, of either version.
type tlsNAS struct {
	*nas
	conn *tls.Conn
	v11  bool
}

func (s *secured) dial(cert *tls.Certificate, change func(*tls.Config)) (*tlsNAS, error) {
	s.t.Helper()
	cfg := &tls.Config{RootCAs: s.ca.pool(), ServerName: "radius.example.org"}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	if change != nil {
		change(cfg)
	}
	conn, err := tls.Dial("tcp", s.tls, cfg)
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { conn.Close() })
	return &tlsNAS{&nas{s.t, nil, tlsSecret}, conn, conn.ConnectionState().NegotiatedProtocol == alpn11}, nil
}

func (s *secured) nas(change func(*tls.Config)) *tlsNAS {
	s.t.Helper()
	n, err := s.dial(s.ca.issue("nas.example.org", nil), change)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (n *tlsNAS) send(raw []byte) {
	n.t.Helper()
	if _, err := n.conn.Write(raw); err != nil {
		n.t.Fatal(err)
	}
}

// frame reads a packet; nil at the end of the connection.
func (n *tlsNAS) frame() []byte {
	n.t.Helper()
	if err := n.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		n.t.Fatal(err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(n.conn, head); err != nil {
		if errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset") || strings.Contains(err.Error(), "remote error") {
			return nil
		}
		n.t.Fatal(err)
	}
	packet := append(head, make([]byte, int(head[2])<<8+int(head[3])-4)...)
	if _, err := io.ReadFull(n.conn, packet[4:]); err != nil {
		n.t.Fatal(err)
	}
	return packet
}

func (n *tlsNAS) ask(raw []byte) *radius.Packet {
	n.t.Helper()
	n.send(raw)
	answer := n.frame()
	if answer == nil {
		n.t.Fatal("the connection ended")
	}
	return n.checked(raw, answer)
}

// plainPacket makes a packet of RADIUS/1.1 (RFC 9765 section 4.1).
func plainPacket(code radius.Code, token uint32, attrs ...field) []byte {
	p := append([]byte{byte(code), 0, 0, 0}, number(token)...)
	p = append(p, make([]byte, 12)...)
	for _, a := range attrs {
		p = append(append(p, byte(a.Type), byte(len(a.Value)+2)), a.Value...)
	}
	return setLength(p, len(p))
}

// askPlain sends a packet of RADIUS/1.1, and checks what every answer must have.
func (n *tlsNAS) askPlain(raw []byte) *radius.Packet {
	n.t.Helper()
	n.send(raw)
	answer := n.frame()
	if answer == nil {
		n.t.Fatal("the connection ended")
	}
	if answer[1] != 0 || !bytes.Equal(answer[4:8], raw[4:8]) || !bytes.Equal(answer[8:20], make([]byte, 12)) {
		n.t.Errorf("header %x of the answer to %x", answer[:20], raw[:20])
	}
	p, err := radius.Parse(answer, []byte(tlsSecret))
	if err != nil {
		n.t.Fatal(err)
	}
	if _, has := p.Lookup(typeMessageAuth); has {
		n.t.Error("there is a Message-Authenticator (RFC 9765 section 5.2)")
	}
	return p
}

// A whole login in two rounds, accounting and Status-Server, over TLS 1.2 and 1.3, by the old version and by 1.1.
func TestTLS(t *testing.T) {
	for name, c := range map[string]struct {
		protocols []string
		version   uint16
		v11       bool
	}{
		"TLS 1.2":              {nil, tls.VersionTLS12, false},
		"TLS 1.3":              {nil, tls.VersionTLS13, false},
		"TLS 1.3, 1.0 by ALPN": {[]string{alpn10}, tls.VersionTLS13, false},
		"TLS 1.3, 1.1":         {[]string{alpn10, alpn11}, tls.VersionTLS13, true},
		"TLS 1.2 has no 1.1":   {[]string{alpn10, alpn11}, tls.VersionTLS12, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSecured(t, nil, overTLS(Challenge))
			n := s.nas(func(cfg *tls.Config) {
				cfg.MinVersion, cfg.MaxVersion, cfg.NextProtos = c.version, c.version, c.protocols
			})
			if n.v11 != c.v11 {
				t.Fatalf("RADIUS/1.1 is %v", n.v11)
			}
			ask := func(id byte, attrs ...field) *radius.Packet {
				if c.v11 {
					return n.askPlain(plainPacket(radius.CodeAccessRequest, 0xff000000+uint32(id), attrs...))
				}
				return n.ask(n.unsignedRequest(id, attrs...)) // Message-Authenticator is not needed here
			}
			challenge := ask(1, pap("alice", password)...)
			state := rfc2865.State_Get(challenge)
			if challenge.Code != radius.CodeAccessChallenge || len(state) == 0 {
				t.Fatalf("%v", challenge.Code)
			}
			if p := ask(2, pap("alice", s.code(), field{rfc2865.State_Type, string(state)})...); p.Code != radius.CodeAccessAccept || len(values(p, rfc2865.Class_Type)) != 2 {
				t.Fatalf("%v", p.Code)
			}
			if c.v11 {
				n.askPlain(plainPacket(radius.CodeAccountingRequest, 3, field{rfc2866.AcctStatusType_Type, number(1)}, field{rfc2866.AcctSessionID_Type, "1"}))
				n.askPlain(plainPacket(radius.CodeStatusServer, 4))
			} else {
				raw := n.account(3, 1, "1")
				n.send(raw)
				n.acknowledged(raw, n.frame())
				n.ask(n.packet(radius.CodeStatusServer, 4))
			}
			if len(s.login.Sessions()) != 1 {
				t.Error("the session is not known")
			}
		})
	}
}

func (n *nas) unsignedRequest(id byte, attrs ...field) []byte {
	return n.unsigned(radius.CodeAccessRequest, id, attrs...)
}

// RADIUS/1.1 takes passwords as they are, and ignores a Message-Authenticator, right or wrong.
func TestPlain(t *testing.T) {
	s := newSecured(t, nil, overTLS(Code))
	n := s.nas(func(cfg *tls.Config) { cfg.NextProtos = []string{alpn11} })
	p := n.askPlain(plainPacket(radius.CodeAccessRequest, 7, pap("alice", s.code(), field{typeMessageAuth, strings.Repeat("x", 16)})...))
	if p.Code != radius.CodeAccessAccept {
		t.Errorf("%v", p.Code)
	}
	for _, typed := range []string{"", strings.Repeat("1", wire.MaxPassword+1)} {
		n.send(plainPacket(radius.CodeAccessRequest, 8, field{rfc2865.UserName_Type, "alice"}, field{rfc2865.UserPassword_Type, typed}))
	}
	s.meter.await(t, "bad_password_length", func(m *counter) bool { return m.drops["bad_password_length"] == 2 })
	n.askPlain(plainPacket(radius.CodeStatusServer, 9)) // the connection lives
}

// Many requests that are outstanding at once on one connection are all answered, each to its own question.
func TestTLSMany(t *testing.T) {
	s := newSecured(t, nil, overTLS(Code))
	n := s.nas(func(cfg *tls.Config) { cfg.NextProtos = []string{alpn11} })
	const many = 2000
	var all []byte
	for i := range many {
		all = append(all, plainPacket(radius.CodeAccessRequest, uint32(i), pap("alice", "000000")...)...)
	}
	sent := make(chan error, 1)
	go func() { _, err := n.conn.Write(all); sent <- err }()
	seen := make(map[string]bool)
	for range many {
		answer := n.frame()
		if answer == nil {
			t.Fatal("the connection ended")
		}
		seen[string(answer[4:8])] = true
	}
	if err := <-sent; err != nil || len(seen) != many {
		t.Errorf("%d questions were answered: %v", len(seen), err)
	}
}

// More requests than may wait for a worker slow the client down, and lose nothing.
func TestTLSBackPressure(t *testing.T) {
	s := newSecured(t, func(o *Options) { o.Workers = 4; o.Queue = 2 * maxOutstanding }, overTLS(Challenge))
	n := s.nas(func(cfg *tls.Config) { cfg.NextProtos = []string{alpn11} })
	const many = 2 * maxOutstanding
	var all []byte
	for i := range many {
		all = append(all, plainPacket(radius.CodeAccessRequest, uint32(i), pap("alice", password)...)...)
	}
	n.send(all)
	for range many {
		if answer := n.frame(); answer == nil || radius.Code(answer[0]) != radius.CodeAccessChallenge {
			t.Fatalf("%x", answer)
		}
	}
	if d := s.meter.dropped("overloaded"); d != 0 {
		t.Errorf("%d were dropped", d)
	}
}

// Who a client is, its certificate says, in whichever way it was configured; who has none, or another's, is nobody.
func TestCertificates(t *testing.T) {
	s := newSecured(t, nil)
	fingerprint := func(c *tls.Certificate) string {
		sum := sha256.Sum256(c.Certificate[0])
		return hex.EncodeToString(sum[:])
	}
	pinned := s.ca.issue("pinned.example.org", nil)
	uri, err := url.Parse("urn:nas:7")
	if err != nil {
		t.Fatal(err)
	}
	withURI := s.ca.issue("x.example.org", func(c *x509.Certificate) { c.URIs = []*url.URL{uri} })
	var clients []Client
	for i, identity := range []string{"NAS.example.org", "uri:urn:nas:7", "cn:old-nas", "SHA256:" + strings.ToUpper(fingerprint(pinned))} {
		c := overTLS(Code)
		c.Name, c.Certificate = []string{"dns", "uri", "cn", "pin"}[i], identity
		clients = append(clients, c)
	}
	s.configure(clients...)
	for want, cert := range map[string]*tls.Certificate{
		"dns": s.ca.issue("nas.Example.org", nil),
		"uri": withURI,
		"cn":  s.ca.issue("old-nas", func(c *x509.Certificate) { c.DNSNames = nil }),
		"pin": pinned,
	} {
		n, err := s.dial(cert, nil)
		if err != nil {
			t.Fatal(err)
		}
		n.ask(n.request(1, pap("alice", "000000")...))
		if a := s.gate.attempt(); a.System.Name != want {
			t.Errorf("%s is taken for %s", want, a.System.Name)
		}
	}
	refused := func(what, reason string, cert *tls.Certificate) {
		t.Helper()
		before := s.meter.dropped(reason)
		if n, err := s.dial(cert, nil); err == nil { // with TLS 1.3 the client hears of it when it reads
			if answer := n.frame(); answer != nil {
				t.Errorf("%s: answered", what)
			}
		}
		s.meter.await(t, what, func(m *counter) bool { return m.drops[reason] == before+1 })
	}
	refused("another client", "unknown_certificate", s.ca.issue("stranger.example.org", nil))
	refused("no certificate", "tls_handshake", nil)
	refused("another authority", "tls_handshake", newAuthority(t).issue("nas.example.org", nil))
	refused("expired", "tls_handshake", s.ca.issue("nas.example.org", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	refused("not for clients", "tls_handshake", s.ca.issue("nas.example.org", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))
	if !strings.Contains(s.lines.String(), "stranger.example.org") {
		t.Errorf("the log does not say whom it would have to be:\n%s", s.lines)
	}
}

// The floor holds where the program lifts crypto/rsa's own for old SSH servers.
func TestTinyRSACertificate(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	s := newSecured(t, nil, overTLS(Code))
	for _, c := range []struct {
		bits    int
		refused int
	}{{1024, 0}, {1016, 1}} {
		key, err := rsa.GenerateKey(rand.Reader, c.bits)
		if err != nil {
			t.Fatal(err)
		}
		leaf := s.ca.issue("nas.example.org", nil).Leaf
		raw, err := x509.CreateCertificate(rand.Reader, leaf, s.ca.cert, &key.PublicKey, s.ca.key)
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.dial(&tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, nil)
		if c.refused == 0 {
			if err != nil {
				t.Fatal(err)
			}
			n.ask(n.request(1, pap("alice", "000000")...))
			continue
		}
		if err == nil && n.frame() != nil {
			t.Errorf("%d bits: answered", c.bits)
		}
		s.meter.await(t, "the refusal", func(m *counter) bool { return m.drops["tls_handshake"] == c.refused })
	}
}

// A new certificate, and a new authority, serve the next connection, and those that are open go on; a client that is taken
// out of the configuration is put out.
func TestTLSReload(t *testing.T) {
	s := newSecured(t, nil, overTLS(Code))
	n := s.nas(nil)
	n.ask(n.request(1, pap("alice", "000000")...))
	other := newAuthority(t)
	s.server.Store(s.ca.issue("new.example.org", nil))
	s.cas.Store(other.pool())
	n.ask(n.request(2, pap("alice", "000000")...))
	next, err := s.dial(other.issue("nas.example.org", nil), func(cfg *tls.Config) { cfg.ServerName = "new.example.org" })
	if err != nil {
		t.Fatal(err)
	}
	next.ask(next.request(1, pap("alice", "000000")...))
	gone := overTLS(Code)
	gone.Name = "another"
	s.configure(gone)
	n.send(n.request(3, pap("alice", "000000")...))
	if n.frame() != nil {
		t.Error("a client that is gone is answered")
	}
}

// What is no RADIUS, on a connection that only the client can write to, ends it (RFC 6614 section 2.4); a code that is not for us does not.
func TestTLSGarbage(t *testing.T) {
	s := newSecured(t, nil, overTLS(Code))
	for reason, raw := range map[string][]byte{
		"bad_length":           append([]byte{1, 1, 0, 19}, make([]byte, 16)...),
		"malformed_attributes": setLength(append(make([]byte, 20), 1, 1), 22),
		"ma_bad":               s.badlySigned(),
	} {
		raw[0] = 1
		n := s.nas(nil)
		n.send(raw)
		if n.frame() != nil {
			t.Errorf("%s: answered", reason)
		}
		s.meter.await(t, reason, func(m *counter) bool { return m.drops[reason] >= 1 })
	}
	n := s.nas(nil)
	huge := setLength(make([]byte, 20), 5000)
	huge[0] = 1
	n.send(huge)
	if n.frame() != nil {
		t.Error("a packet of 5000 octets is answered")
	}
	n = s.nas(nil)
	n.send(setLength(append([]byte{99, 1, 0, 0}, make([]byte, 16)...), 20))
	s.meter.await(t, "unsupported_code", func(m *counter) bool { return m.drops["unsupported_code"] == 1 })
	n.ask(n.request(1, pap("alice", "000000")...))

	raw, err := net.Dial("tcp", s.tls)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	s.meter.await(t, "tls_handshake", func(m *counter) bool { return m.drops["tls_handshake"] == 1 })
}

func (s *secured) badlySigned() []byte {
	n := &nas{s.t, nil, "not the secret"}
	return n.request(1, pap("alice", "000000")...)
}

// Nobody keeps a place by being slow: not before he has proved who he is, and not in the middle of a packet. Between packets a
// client may be silent.
func TestTLSSlow(t *testing.T) {
	const brief = 50 * time.Millisecond
	s := newPatient(t, patience{brief, frameFor}, nil, overTLS(Code))
	raw, err := net.Dial("tcp", s.tls)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	s.meter.await(t, "tls_handshake", func(m *counter) bool { return m.drops["tls_handshake"] == 1 })

	s = newPatient(t, patience{handshakeFor, brief}, nil, overTLS(Code))
	n := s.nas(nil)
	n.ask(n.request(1, pap("alice", "000000")...))
	time.Sleep(2 * brief) // longer than a packet may take
	n.ask(n.request(2, pap("alice", "000000")...))
	n.send(n.request(3, pap("alice", "000000")...)[:30])
	if n.frame() != nil {
		t.Error("answered half a packet")
	}
	s.meter.await(t, "connection_broken", func(m *counter) bool { return m.drops["connection_broken"] == 1 })
}

// One address cannot take all places for handshakes (P7).
func TestTLSHandshakesAreBounded(t *testing.T) {
	s := newSecured(t, nil, overTLS(Code))
	for range maxSourceHandshakes {
		conn, err := net.Dial("tcp", s.tls)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	conn, err := net.Dial("tcp", s.tls)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s.meter.await(t, "too_many_connections", func(m *counter) bool { return m.drops["too_many_connections"] == 1 })
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	other, err := tls.DialWithDialer(&d, "tcp", s.tls, &tls.Config{RootCAs: s.ca.pool(), ServerName: "radius.example.org", Certificates: []tls.Certificate{*s.ca.issue("nas.example.org", nil)}})
	if err != nil {
		t.Fatalf("another address: %v", err)
	}
	other.Close()
}

// A stop answers what was taken, tells the client that the end is meant, and returns.
func TestTLSDrain(t *testing.T) {
	s := newSecured(t, nil, overTLS(Code))
	n := s.nas(nil)
	release := s.stall()
	defer release()
	n.send(n.request(1, pap("alice", "000000")...))
	s.meter.await(t, "the request", func(*counter) bool { return s.gate.count() == 1 })
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("it ended before the request was answered")
	case <-time.After(20 * time.Millisecond): // the error above is what this would miss at worst
	}
	release()
	if answer := n.frame(); answer == nil || radius.Code(answer[0]) != radius.CodeAccessReject {
		t.Errorf("%x", answer)
	}
	if n.frame() != nil {
		t.Error("more came")
	}
	<-stopped
}

// The same address by UDP and by TLS is two clients, of which neither's secret serves the other (RFC 6614 section 2.3).
func TestTLSBesideUDP(t *testing.T) {
	udp, tlsOne := everybody(Code), overTLS(Code)
	tlsOne.Name, tlsOne.Tags, tlsOne.Class = "vpn-tls", udp.Tags, "remote"
	s := newSecured(t, nil, udp, tlsOne)
	a := s.rig.nas()
	a.ask(a.request(1, pap("alice", "000000")...))
	if got := s.gate.attempt().System.Name; got != "vpn" {
		t.Errorf("by UDP it is %s", got)
	}
	b := s.nas(nil)
	b.ask(b.request(1, pap("alice", "000000")...))
	if got := s.gate.attempt().System.Name; got != "vpn-tls" {
		t.Errorf("by TLS it is %s", got)
	}
	if errs := (&Config{Clients: []Client{tlsOne, {Name: "x", Certificate: "NAS.example.org"}}}).Validate(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "already") {
		t.Errorf("two clients with one certificate: %v", errs)
	}
	a.secret = tlsSecret
	a.send(a.request(2, pap("alice", "000000")...))
	s.meter.await(t, "ma_bad", func(m *counter) bool { return m.drops["ma_bad"] == 1 })
}
