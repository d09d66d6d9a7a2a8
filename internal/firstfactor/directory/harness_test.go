package directory

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
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/internal/login"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen. Nothing is measured by it.
const patience = 60 * time.Second

// authority issues certificates for test servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// pair is a certificate and key, in files and in memory.
type pair struct {
	certFile, keyFile string
	tls               tls.Certificate
}

func (a *authority) issue(t *testing.T, until time.Time, names ...string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := pair{certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem")}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := errors.Join(os.WriteFile(p.certFile, certPEM, 0o600), os.WriteFile(p.keyFile, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	if p.tls, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return p
}

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// clock is a time that tests move.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) move(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += by
}

// open makes a Directory that ends with the test. Its log is held against P9: no password that the test names may be
// in it.
func open(t *testing.T, o Options, secrets ...string) *Directory {
	t.Helper()
	log := &journal{}
	if o.Log == nil {
		o.Log = log.logger()
	}
	if o.Timeout == 0 {
		o.Timeout = patience // a loaded machine is no fault
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		for _, secret := range append(secrets, o.BindPassword.Reveal()) {
			if secret != "" && strings.Contains(log.String(), secret) {
				t.Errorf("the log shows the password %q (P9):\n%s", secret, log)
			}
		}
	})
	return d
}

// check asks about a person's password.
func check(t *testing.T, d *Directory, person, password string) error {
	t.Helper()
	_, err := d.Check(t.Context(), login.Question{Person: person, Name: person, Password: login.NewSecret(password), Origin: "test"})
	if err != nil && len(password) > 2 && strings.Contains(err.Error(), password) {
		t.Errorf("the error shows the password (P9): %v", err)
	}
	return err
}

// wantPass and wantWrong check a password and how it ends; wantWrong also that the error has the reason.
func wantPass(t *testing.T, d *Directory, person, password string) {
	t.Helper()
	if err := check(t, d, person, password); err != nil {
		t.Errorf("%s: %v, want that the password is right", person, err)
	}
}

func wantWrong(t *testing.T, d *Directory, person, password, reason string) {
	t.Helper()
	wantError(t, check(t, d, person, password), login.ErrWrong, reason)
}

func wantError(t *testing.T, err, want error, reasons ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
		return
	}
	for _, reason := range reasons {
		if !strings.Contains(err.Error(), reason) {
			t.Errorf("error %q does not say %q", err, reason)
		}
	}
	for _, other := range []error{login.ErrWrong, login.ErrUnavailable, login.ErrOverloaded, login.ErrUnset} {
		if other != want && errors.Is(err, other) {
			t.Errorf("error %v is also %v", err, other)
		}
	}
}

// wantGroups compares the groups by cn; every group must be there by its DN as well.
func wantGroups(t *testing.T, d *Directory, person string, want ...string) {
	t.Helper()
	got, err := d.Groups(t.Context(), person)
	if err != nil {
		t.Errorf("groups of %s: %v", person, err)
		return
	}
	var names, dns []string
	for _, g := range got {
		if strings.Contains(g, "=") {
			dns = append(dns, g)
		} else {
			names = append(names, g)
		}
	}
	slices.Sort(names)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(names, want) {
		t.Errorf("groups of %s: %q, want %q", person, names, want)
	}
	for _, name := range want {
		if !slices.ContainsFunc(dns, func(dn string) bool { return strings.HasPrefix(strings.ToLower(dn), "cn="+strings.ToLower(name)+",") }) {
			t.Errorf("groups of %s: no DN for %q in %q", person, name, dns)
		}
	}
	if len(dns) != len(want) {
		t.Errorf("groups of %s: %d DNs for %d groups: %q", person, len(dns), len(want), dns)
	}
}

// await polls a condition that something outside of this process brings about.
func await(t *testing.T, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// freePort returns a port of 127.0.0.1 on which nobody listens now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// answers reports whether somebody accepts connections.
func answers(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
