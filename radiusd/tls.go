package radiusd

import (
	"bufio"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/radiusd/wire"
)

const (
	// tlsSecret is the shared secret of RADIUS over TLS, which protects nothing (RFC 6614 section 2.3).
	tlsSecret = "radsec"

	// The names of the two versions to ALPN (RFC 9765 section 3.1).
	alpn10 = "radius/1.0"
	alpn11 = "radius/1.1"

	// handshakeFor is how long a client may take to prove who it is, and frameFor to send the rest of a packet of which it
	// has sent the beginning, or to take an answer. Between packets it may be silent: TCP's keepalives tell whether it lives.
	handshakeFor = 10 * time.Second
	frameFor     = 10 * time.Second
	keepalive    = 30 * time.Second

	// maxConnections bounds those that are open, maxHandshakes those that have not proved who they are,
	// maxSourceHandshakes those of one address, and maxClientConnections those of one client.
	maxConnections       = 2048
	maxHandshakes        = 128
	maxSourceHandshakes  = 16
	maxClientConnections = 128
	// maxOutstanding bounds the requests of one connection that wait for a worker. What else comes waits in TCP, which
	// slows the client down: there is no loss to make it send again.
	maxOutstanding = 256
	// tlsBuffer holds many small packets, which are then judged together.
	tlsBuffer = 32 << 10
)

// patience is how long a connection may keep somebody waiting.
type patience struct{ handshake, frame time.Duration }

// TLSOptions are what RADIUS over TLS is served with. They are asked for at each handshake, so that a new certificate
// serves the next connection. Clients must prove their certificates, and which client one is, the certificate says.
type TLSOptions struct {
	Certificate func() (*tls.Certificate, error)
	ClientCAs   func() *x509.CertPool
}

// config makes what a handshake needs. RADIUS/1.1 needs TLS 1.3 (RFC 9765 section 3.4).
func (o TLSOptions) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	cert, err := o.Certificate()
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: o.ClientCAs(),
		NextProtos:             []string{alpn11, alpn10},
		VerifyConnection:       refuseTinyRSA,
		SessionTicketsDisabled: true, // each connection proves its certificate anew, as it is by then
	}
	if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
		cfg.NextProtos = []string{alpn10}
	}
	return cfg, nil
}

// leastRSA is the least size, in bits, of an RSA key in a client's chain. crypto/rsa would hold the same floor by itself,
// but a program may lift it for SSH servers that are old (GODEBUG rsa1024min).
const leastRSA = 1024

func refuseTinyRSA(s tls.ConnectionState) error {
	for _, cert := range slices.Concat(append(s.VerifiedChains, s.PeerCertificates)...) {
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < leastRSA {
			return fmt.Errorf("an RSA key of %d bits in the client's chain: want at least %d", key.N.BitLen(), leastRSA)
		}
	}
	return nil
}

// ServeTLS answers RADIUS over TLS (RFC 6614; RADIUS/1.1 as RFC 9765 has it) on connections of l until ctx ends. It then
// reads no more, answers the requests that it has taken, closes the connections, and returns nil. It closes l.
func (s *Server) ServeTLS(ctx context.Context, l net.Listener, o TLSOptions) error {
	t := &tlsServer{
		Server: s, config: &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: o.config},
		shaking: make(map[netip.Addr]int), of: make(map[string]int),
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer t.conns.Wait()
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			t.accept(ctx, conn)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept from %v: %w", l.Addr(), err)
		default:
			pause = min(max(2*pause, time.Millisecond), maxPause)
			s.log.Error("radius over TLS", "addr", l.Addr().String(), "err", err, "retry_in", pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// tlsServer is one call of ServeTLS.
type tlsServer struct {
	*Server
	config *tls.Config
	conns  sync.WaitGroup

	mu         sync.Mutex // guards the rest
	open       int        // connections
	handshakes int        // of which have not proved who they are
	shaking    map[netip.Addr]int
	of         map[string]int // of each client
}

func (t *tlsServer) accept(ctx context.Context, conn net.Conn) {
	from := addrOf(conn)
	if !t.begin(from.Addr()) {
		t.drop(nil, dropConnections, from.Addr())
		conn.Close()
		return
	}
	t.conns.Go(func() {
		defer t.end()
		t.serve(ctx, conn, from)
	})
}

func (t *tlsServer) begin(from netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open >= maxConnections || t.handshakes >= maxHandshakes || t.shaking[from] >= maxSourceHandshakes {
		return false
	}
	t.open++
	t.handshakes++
	t.shaking[from]++
	return true
}

// proved is called when a handshake has ended, however it did.
func (t *tlsServer) proved(from netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handshakes--
	if t.shaking[from]--; t.shaking[from] == 0 {
		delete(t.shaking, from)
	}
}

func (t *tlsServer) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
}

func addrOf(conn net.Conn) netip.AddrPort {
	a, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return netip.AddrPortFrom(plainAddr(a.Addr()), a.Port())
}

// serve shakes hands, finds out which client it is, and reads packets until the connection ends.
func (t *tlsServer) serve(ctx context.Context, raw net.Conn, from netip.AddrPort) {
	defer raw.Close()
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepalive, Interval: keepalive, Count: 3})
	}
	c, conn := t.handshake(ctx, raw, from)
	t.proved(from.Addr())
	if c == nil {
		return
	}
	if !t.claim(c.Name) {
		t.drop(c, dropConnections, from.Addr())
		return
	}
	defer t.release(c.Name)
	road := &tlsRoad{conn: conn, from: from, patience: t.patience.frame, failed: func(err error) { t.drop(c, dropSend, from.Addr(), "err", err) }}
	road.carried.serves, road.carried.slots = authentication|accounting, make(chan struct{}, maxOutstanding)
	q, done := t.enter(ctx, &road.carried)
	b := &tlsReader{
		batch: batch{Server: t.Server, road: road, queue: q, tools: t.tools.Get().(*toolbox)}, road: road,
		in: bufio.NewReaderSize(conn, tlsBuffer), name: c.Name, plain: conn.ConnectionState().NegotiatedProtocol == alpn11,
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	why, err := b.run(ctx)
	stop()
	done()
	t.Server.tools.Put(b.tools)
	if why != dropNone && !errors.Is(err, errAdmitted) {
		t.drop(c, why, from.Addr(), "err", err, "connection", "closed")
	}
	// close_notify tells the client that the end is meant. A client that does not take it keeps nobody waiting.
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_ = conn.Close()
}

// handshake returns nil when the connection is no client's.
func (t *tlsServer) handshake(ctx context.Context, raw net.Conn, from netip.AddrPort) (*client, *tls.Conn) {
	shake, cancel := context.WithTimeout(ctx, t.patience.handshake)
	defer cancel()
	conn := tls.Server(raw, t.config)
	if err := conn.HandshakeContext(shake); err != nil {
		if ctx.Err() == nil {
			t.drop(nil, dropHandshake, from.Addr(), "err", err)
		}
		return nil, nil
	}
	state := conn.ConnectionState()
	c := t.settings.Load().certificateOf(state.PeerCertificates[0])
	if c == nil {
		t.drop(nil, dropUnknownCertificate, from.Addr(), "certificate", describe(state.PeerCertificates[0]))
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_ = conn.Close()
		return nil, nil
	}
	return c, conn
}

func (t *tlsServer) claim(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[name] >= maxClientConnections {
		return false
	}
	t.of[name]++
	return true
}

func (t *tlsServer) release(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[name]--; t.of[name] == 0 {
		delete(t.of, name)
	}
}

// tlsRoad is a connection.
type tlsRoad struct {
	carried  traffic
	conn     net.Conn
	from     netip.AddrPort
	patience time.Duration
	failed   func(error)

	mu      sync.Mutex
	waiting []byte // guarded by mu: answers for the next flush
	broken  bool   // guarded by mu: writing has failed; TLS is of no use after that
}

func (t *tlsRoad) traffic() *traffic { return &t.carried }

func (t *tlsRoad) put(_ *request, packet []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, packet...)
}

func (t *tlsRoad) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.write()
}

// post is called by workers, of which each holds a slot.
func (t *tlsRoad) post(_ *request, packet []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, packet...)
	t.write()
}

// write needs mu.
func (t *tlsRoad) write() {
	if len(t.waiting) == 0 {
		return
	}
	if !t.broken {
		_ = t.conn.SetWriteDeadline(time.Now().Add(t.patience))
		if _, err := t.conn.Write(t.waiting); err != nil {
			t.broken = true
			_ = t.conn.SetReadDeadline(time.Unix(1, 0)) // the reader ends the connection
			t.failed(err)
		}
	}
	t.waiting = t.waiting[:0]
}

// tlsReader reads one connection.
type tlsReader struct {
	batch
	road  *tlsRoad
	in    *bufio.Reader
	name  string // of the client, which a reload may change
	plain bool   // RADIUS/1.1
}

// run reads and answers until the connection ends or ctx does. What is wrong with a packet, on a connection that nobody
// else can write to, is wrong with the client: the connection ends (RFC 6614 section 2.4). Only a code that is not for us
// is passed over.
func (b *tlsReader) run(ctx context.Context) (dropReason, error) {
	for ctx.Err() == nil {
		why, err := b.next(ctx)
		for err == nil && why == dropNone && len(b.asked) < askBatch && b.whole() {
			why, err = b.next(ctx)
		}
		b.answerAll()
		switch {
		case err == nil && why == dropNone:
		case err != nil && (ctx.Err() != nil || errors.Is(err, io.EOF)):
			return dropNone, nil
		case err != nil && why == dropNone:
			return dropConnection, err
		default:
			return why, err
		}
	}
	return dropNone, nil
}

// whole reports whether a whole packet is there to be read.
func (b *tlsReader) whole() bool {
	if b.in.Buffered() < wire.HeaderSize {
		return false
	}
	head, err := b.in.Peek(4)
	return err == nil && b.in.Buffered() >= int(binary.BigEndian.Uint16(head[2:]))
}

// next reads a packet and admits it.
func (b *tlsReader) next(ctx context.Context) (dropReason, error) {
	if _, err := b.in.Peek(1); err != nil {
		return dropNone, err
	}
	if !b.whole() { // the rest must come soon
		_ = b.road.conn.SetReadDeadline(time.Now().Add(b.patience.frame))
		if ctx.Err() != nil {
			return dropNone, ctx.Err()
		}
	}
	head, err := b.in.Peek(4)
	if err != nil {
		return dropNone, noEOF(err)
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	if n < wire.HeaderSize || n > wire.MaxPacket {
		return dropLength, fmt.Errorf("a packet of %d octets", n)
	}
	set := b.settings.Load()
	c := set.byName(b.name)
	if c == nil || !c.overTLS() {
		return dropUnknownClient, errors.New("the client is not configured any more")
	}
	r := b.requests.Get().(*request)
	if _, err := io.ReadFull(b.in, r.buf[:n]); err != nil {
		b.requests.Put(r)
		return dropNone, noEOF(err)
	}
	_ = b.road.conn.SetReadDeadline(time.Time{})
	if ctx.Err() != nil { // the deadline above may have undone the stop
		_ = b.road.conn.SetReadDeadline(time.Unix(1, 0))
	}
	r.n, r.client, r.settings, r.plain, r.received, r.from, r.src = n, c, set, b.plain, b.now(), b.road.from, b.road.from
	given, why := b.admit(r)
	if !given {
		r.facts = facts{}
		b.requests.Put(r)
	}
	if why.ofForm() {
		return why, errAdmitted
	}
	return dropNone, nil
}

// errAdmitted ends a connection whose packet has been counted and logged already.
var errAdmitted = errors.New("the packet was dropped")

// noEOF tells an end in the middle of a packet from one between packets.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// certificateKey is what an identity of the configuration is looked up by.
func certificateKey(identity string) string {
	kind, rest, found := strings.Cut(identity, ":")
	if kind = strings.ToLower(kind); found && kind == "sha256" {
		return kind + ":" + strings.ToLower(strings.ReplaceAll(rest, ":", ""))
	}
	if found && (kind == "uri" || kind == "cn") {
		return kind + ":" + rest
	}
	return strings.ToLower(identity)
}

// certificateOf finds the client that a verified certificate belongs to: by its fingerprint, then by its subject
// alternative names, then by its common name where a client asks for that (RFC 6614 section 2.3).
func (s *settings) certificateOf(cert *x509.Certificate) *client {
	sum := sha256.Sum256(cert.Raw)
	names := []string{"sha256:" + hex.EncodeToString(sum[:])}
	for _, name := range cert.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, uri := range cert.URIs {
		names = append(names, "uri:"+uri.String())
	}
	names = append(names, "cn:"+cert.Subject.CommonName)
	for _, name := range names {
		if c := s.certificates[name]; c != nil {
			return c
		}
	}
	return nil
}

// describe tells an operator what a certificate would have to be configured as.
func describe(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	names := append([]string{"sha256:" + hex.EncodeToString(sum[:])}, cert.DNSNames...)
	for _, uri := range cert.URIs {
		names = append(names, "uri:"+uri.String())
	}
	if cn := cert.Subject.CommonName; cn != "" {
		names = append(names, "cn:"+cn)
	}
	return strings.Join(names[:min(len(names), 8)], " ")
}

// byName finds a client by its name.
func (s *settings) byName(name string) *client {
	return s.names[name]
}
