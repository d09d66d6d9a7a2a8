package siem

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
)

// patience bounds every wait. Nothing takes it unless it hangs.
const patience = 60 * time.Second

// until waits for what no channel tells of.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// newLog opens a real log.
func newLog(t testing.TB) *audit.Log {
	t.Helper()
	skey, vkey, err := audit.NewKey("sallyport/test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l, err := audit.Open(audit.Options{
		Dir: filepath.Join(dir, "journal"), CheckpointFile: filepath.Join(dir, "checkpoint"), Node: "gw1", Signer: signer, Verifier: verifier, Now: time.Now,
		Replay: func(*audit.Record, []byte) error { return nil }, Restore: func([]byte) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// fill appends n records.
func fill(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	pending, records := make([]audit.Pending, n), make([]audit.Record, n)
	for i := range n {
		records[i] = audit.Record{Event: "login", Result: audit.Reject, Reason: "code_wrong", Person: "alice", System: "vpn"}
		l.Submit(&pending[i], &records[i], nil)
	}
	for i := range n {
		if _, err := pending[i].Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// cursors are kept in memory, and checked: they never go back.
type cursors struct {
	t  testing.TB
	mu sync.Mutex
	by map[string]uint64
}

func newCursors(t testing.TB) *cursors { return &cursors{t: t, by: make(map[string]uint64)} }

func (c *cursors) Cursor(_ context.Context, name string) (uint64, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, known := c.by[name]
	return next, known, nil
}

func (c *cursors) SetCursor(_ context.Context, name string, next uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if next < c.by[name] {
		c.t.Errorf("the cursor %s goes back from %d to %d", name, c.by[name], next)
	}
	c.by[name] = next
	return nil
}

// run runs a forwarder until the test, or stop, ends it.
func run(t testing.TB, o Options) (f *Forwarder, stop func()) {
	t.Helper()
	o.Now, o.Node = time.Now, "gw1"
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the forwarder fails: %v", err)
		}
	})
	t.Cleanup(stop)
	return f, stop
}

// authority is a CA of a test.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate for both ends.
func (a *authority) issue(name string) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return write(a.t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		write(a.t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func (a *authority) client(server string) *tls.Config {
	a.t.Helper()
	cert, key := a.issue("gw1.example.nhs.uk")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.pool(), ServerName: server, Certificates: []tls.Certificate{pair}}
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// receiver is a real rsyslogd that writes what it gets, as it is, to a file.
type receiver struct {
	testing.TB
	config, address string
	got             string // file
	cmd             *exec.Cmd
	said            *bytes.Buffer
}

// siemName is what the receiver's certificate says.
const siemName = "siem.example.nhs.uk"

// newReceiver writes the configuration, which is that of docs/siem.md: it writes each message to the file before it reads the next,
// so that what it had taken from the network is there after it was killed.
func newReceiver(t testing.TB, ca *authority) *receiver {
	t.Helper()
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		if _, err := os.Stat("/usr/sbin/rsyslogd"); err != nil {
			t.Fatal("rsyslogd is not installed (Debian packages rsyslog and rsyslog-gnutls)")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{TB: t, address: l.Addr().String()}
	l.Close()
	dir := t.TempDir()
	r.got = filepath.Join(dir, "got")
	_, port, _ := net.SplitHostPort(r.address)
	cert, key := ca.issue(siemName)
	r.config = write(t, "rsyslog.conf", fmt.Appendf(nil, `
global(workDirectory=%q maxMessageSize="128k" net.enableDNS="off"
  DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile=%q DefaultNetstreamDriverCertFile=%q DefaultNetstreamDriverKeyFile=%q)
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/name" PermittedPeer=["gw1.example.nhs.uk"])
template(name="raw" type="list") { property(name="rawmsg") constant(value="\n") }
ruleset(name="sallyport" queue.type="Direct") { action(type="omfile" file=%q template="raw") }
input(type="imtcp" address="127.0.0.1" port=%q ruleset="sallyport")
`, dir, ca.file, cert, key, r.got, port))
	t.Cleanup(r.kill)
	return r
}

func (r *receiver) start() {
	r.Helper()
	r.said = new(bytes.Buffer)
	r.cmd = exec.Command("rsyslogd", "-n", "-i", "NONE", "-f", r.config)
	r.cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		r.cmd.Path, r.cmd.Err = "/usr/sbin/rsyslogd", nil
	}
	r.cmd.Stdout, r.cmd.Stderr = r.said, r.said
	if err := r.cmd.Start(); err != nil {
		r.Fatal(err)
	}
}

// kill ends it as a power cut would.
func (r *receiver) kill() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	r.cmd = nil
}

// messages reads what it has got, without a last line that a kill has torn.
func (r *receiver) messages() [][]byte {
	b, err := os.ReadFile(r.got)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		r.Fatal(err)
	}
	lines := bytes.Split(b, []byte("\n"))
	return lines[:len(lines)-1]
}
