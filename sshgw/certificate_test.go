package sshgw

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/sshgw/outbound"
)

// withLoginCA lets the gateway issue login certificates.
func (o *openSSH) withLoginCA() {
	o.Helper()
	ca, err := outbound.CreateCA(o.path("login_ca"), "test")
	if err != nil {
		o.Fatal(err)
	}
	o.srv.loginCA = ca
	o.clock.Store(time.Now().UnixNano())
}

// `ssh alice@gw cert` prints a certificate with which stock ssh comes again without a code, where a rule gives one: for the key and
// the address of that login, until it is revoked, and on record as what it leans on.
func TestLoginCertificate(t *testing.T) {
	o := proxied(t, nil)
	o.withLoginCA()
	o.file("cert_config", 0o600, "Host gw-cert\n  CertificateFile "+o.path("alice_key-cert.pub")+"\n  PreferredAuthentications publickey\nInclude "+o.path("ssh_config")+"\nHost gw-cert\n"+gwHost(o)+"  IdentityFile "+o.path("alice_key")+"\n")
	come := func() result {
		t.Helper()
		return o.run("", "", "", "ssh", "-F", o.path("cert_config"), "-o", "User=alice@core-sw1", "gw-cert", "echo in")
	}
	// Without a rule there is none.
	if r := o.ssh(alicePassword, o.code(), "", "gw-with-key", "cert"); r.status != 1 || !strings.Contains(r.stderr, "No certificate is issued") {
		t.Fatalf("without a rule: %+v", r)
	}
	o.change(func(r *policy.Rule) { r.Trust = policy.Trust{Certificate: time.Hour} })
	// Without a key there is none.
	if r := o.ssh(alicePassword, o.code(), "", "gw", "cert"); r.status != 1 || !strings.Contains(r.stderr, "log in with one of yours") {
		t.Fatalf("without a key: %+v", r)
	}
	r := o.ssh(alicePassword, o.code(), "", "gw-with-key", "cert")
	if r.status != 0 || !strings.HasPrefix(r.stdout, "ssh-ed25519-cert-v01@openssh.com ") {
		t.Fatalf("%+v", r)
	}
	issued := o.last(login.EventCertificate)
	o.file("alice_key-cert.pub", 0o600, r.stdout)
	for range 2 {
		if r := come(); r.stdout != "in\n" || r.asked != "" {
			t.Fatalf("with the certificate: %+v\n%s", r, o.logged)
		}
		if rec := o.last("login"); rec.Result != audit.Accept || detail(rec, "leans_on_attempt") != issued.Attempt {
			t.Errorf("record %+v", rec)
		}
	}
	// A leaning login gets no further certificate.
	if r := o.run("", "", "", "ssh", "-F", o.path("cert_config"), "gw-cert", "cert"); r.status != 1 {
		t.Errorf("a certificate by a certificate: %+v", r)
	}
	// Somebody else's key, or another address, makes it worthless.
	parsed, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(r.stdout))
	cert, _ := parsed.(*ssh.Certificate)
	if cert == nil || !from(cert, netip.MustParseAddr("127.0.0.1")) || from(cert, netip.MustParseAddr("127.0.0.2")) {
		t.Errorf("it is bound to %v", cert)
	}
	// What is known of it outlives a restart, and ends when the person changes.
	if n := o.gate.CloseWindows("alice"); n != 1 {
		t.Errorf("%d were revoked", n)
	}
	if r := come(); r.status != 255 {
		t.Errorf("revoked: %+v", r)
	}
}

func gwHost(o *openSSH) string {
	host, port, _ := net.SplitHostPort(o.addr)
	return "  HostName " + host + "\n  Port " + port + "\n  User alice\n"
}

// A certificate of a configured CA is one thing had: it needs its person's name, its time and its address, and password and code
// beside it. One that waives the touch of a FIDO key is not taken (P1).
func TestUserCA(t *testing.T) {
	h := newHarness(t)
	ca, other := newSigner(t), newSigner(t)
	cfg := h.config(echo(t))
	cfg.UserCAs = []ssh.PublicKey{ca.PublicKey()}
	h.serve(cfg)
	own := newSigner(t)
	now := h.now()
	certify := func(signer ssh.Signer, change func(*ssh.Certificate)) ssh.Signer {
		c := &ssh.Certificate{
			CertType: ssh.UserCert, Key: own.PublicKey(), Serial: 7, KeyId: "alice", ValidPrincipals: []string{"alice"},
			ValidAfter: uint64(now.Add(-time.Hour).Unix()), ValidBefore: uint64(now.Add(time.Hour).Unix()),
		}
		if change != nil {
			change(c)
		}
		if err := c.SignCert(rand.Reader, signer); err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewCertSigner(c, own)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, x := range []struct {
		name   string
		signer ssh.Signer
		taken  bool
	}{
		{"alice's", certify(ca, nil), true},
		{"from here", certify(ca, func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{"source-address": "10.0.0.0/8,127.0.0.1/32"}
		}), true},
		{"from elsewhere", certify(ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "10.0.0.0/8"} }), false},
		{"of another CA", certify(other, nil), false},
		{"bob's", certify(ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"bob"} }), false},
		{"anybody's", certify(ca, func(c *ssh.Certificate) { c.ValidPrincipals = nil }), false},
		{"over", certify(ca, func(c *ssh.Certificate) { c.ValidBefore = uint64(now.Add(-time.Minute).Unix()) }), false},
		{"a host's", certify(ca, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), false},
		{"with a command", certify(ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "id"} }), false},
		{"without touch", certify(ca, func(c *ssh.Certificate) { c.Extensions = map[string]string{"no-touch-required": ""} }), false},
	} {
		who := &typist{password: alicePassword, code: h.code()}
		c, err := h.client("alice", ssh.PublicKeys(x.signer), who.auth())
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		c.Close()
		if len(who.asked) != 2 {
			t.Errorf("%s: asked %q", x.name, who.asked)
		}
		taken := false
		for _, f := range h.last("login").Factors {
			taken = taken || f.Method == "certificate" && f.Result == "ok"
		}
		if taken != x.taken {
			t.Errorf("%s: factors %+v", x.name, h.last("login").Factors)
		}
	}
}

// The PROXY protocol is taken from listed load balancers, who must speak it, and from nobody else.
func TestProxyProtocol(t *testing.T) {
	h := newHarness(t)
	cfg := h.config(echo(t))
	h.serve(cfg)
	come := func(header *proxyproto.Header) error {
		conn, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if header != nil {
			if _, err := header.WriteTo(conn); err != nil {
				return err
			}
		}
		c, _, _, err := ssh.NewClientConn(conn, h.addr, h.clientConfig("alice", (&typist{password: alicePassword, code: h.code()}).auth()))
		if err == nil {
			c.Close()
		}
		return err
	}
	for version := byte(1); version <= 2; version++ {
		header := func() *proxyproto.Header {
			return &proxyproto.Header{
				Version: version, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
				SourceAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}, DestinationAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 22},
			}
		}
		cfg.Balancers = nil
		if err := h.srv.SetConfig(cfg); err != nil {
			t.Fatal(err)
		}
		// SSH ignores lines before the version (RFC 4253 section 4.2), so version 1 may come to a login, as the stranger's.
		if err := come(header()); err == nil && h.last("login").Source != "127.0.0.1" {
			t.Errorf("version %d: a stranger's word was taken", version)
		}
		cfg.Balancers = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		if err := h.srv.SetConfig(cfg); err != nil {
			t.Fatal(err)
		}
		if err := come(header()); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		if r := h.last("login"); r.Source != "192.0.2.7" {
			t.Errorf("version %d: source %s", version, r.Source)
		}
	}
	if err := come(nil); err == nil {
		t.Error("a balancer that does not say for whom was let in")
	}
}

// Stock ssh learns the gateway's further host keys, each proved.
func TestHostKeysAreAnnounced(t *testing.T) {
	o := proxied(t, nil)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cfg := o.srv.settings.Load().Config
	cfg.HostKeys = append(cfg.HostKeys, second)
	if err := o.srv.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	r := o.through("", "ssh", "-o", "UpdateHostKeys=yes", "gw", "echo in")
	known, err := os.ReadFile(o.path("known_hosts"))
	if r.stdout != "in\n" || err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	want := strings.Fields(string(ssh.MarshalAuthorizedKey(second.PublicKey())))[1]
	if !strings.Contains(string(known), want) {
		t.Errorf("known_hosts does not have the new key:\n%s\n%s", known, r.stderr)
	}
}

// When the rules change, what they would not open any more ends.
func TestRecheck(t *testing.T) {
	o := proxied(t, nil)
	x := o.terminal("alice@core-sw1")
	x.typeIn("echo rea''dy\n")
	x.shows("ready")
	if n := o.srv.Recheck(); n != 0 {
		t.Errorf("%d ended, with nothing changed", n)
	}
	o.setMay(policy.Exec)
	if n := o.srv.Recheck(); n != 1 {
		t.Errorf("%d ended", n)
	}
	<-x.done
	if end := o.awaitEnd(1); end.Reason != string(endRules) || detail(end, "cause") != string(login.ReasonCapability) {
		t.Errorf("end %+v", end)
	}
}
