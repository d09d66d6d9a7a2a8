package alert

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
)

// letter is a message as the mail server took it.
type letter struct {
	TLS      bool
	User     string
	From     string
	To       []string
	Data     string
	received *mail.Message
}

// mailServer runs a real one, and returns its port and what it takes.
func mailServer(t *testing.T, args ...string) (port int, letters <-chan letter) {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", append([]string{"testdata/mailserver.py"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("/usr/bin/python3 (Debian package python3-aiosmtpd): %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the mail server does not start (Debian package python3-aiosmtpd): %v", err)
	}
	if port, err = strconv.Atoi(strings.TrimSpace(first)); err != nil {
		t.Fatal(err)
	}
	ch := make(chan letter, 16)
	go func() {
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var l letter
			if err := json.Unmarshal(line, &l); err != nil {
				t.Errorf("%v in %s", err, line)
			}
			if l.received, err = mail.ReadMessage(strings.NewReader(l.Data)); err != nil {
				t.Errorf("%v in %s", err, l.Data)
			}
			ch <- l
		}
	}()
	return port, ch
}

// certificate makes one for localhost that is its own CA.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, b := range map[string][]byte{cert: certPEM, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return cert, key, pool
}

// TestMail speaks SMTP to a real server in each way, and never falls back to a weaker one.
func TestMail(t *testing.T) {
	cert, key, pool := certificate(t)
	b := NewBook(nil)
	b.Apply(replay(1, "alice"), noon)
	b.Apply(record(2, func(r *audit.Record) {
		r.Reason, r.Person, r.System = "locked_hard", "eve\r\nBcc: x@example.org", "vpn"
	}), noon)
	list := b.List(true)
	one := Message{Node: "gw1", Sent: noon, Alerts: list[1:]}
	hostile := Message{Node: "gw1", Sent: noon, Alerts: list[:1]}
	digest := Message{Node: "gw1", Sent: noon, Alerts: list, More: 7}

	starttls, starttlsBox := mailServer(t, "--cert", cert, "--key", key, "--user", "gw1", "--password", "pass word 1")
	implicit, implicitBox := mailServer(t, "--cert", cert, "--key", key, "--implicit")
	plain, plainBox := mailServer(t, "--refuse", "gone@example.org")
	base := Mail{Host: "localhost", From: "gw1@example.org", To: []string{"a@example.org", "b@example.org"}, TLS: &tls.Config{RootCAs: pool}}
	with := func(change func(*Mail)) *Mail { m := base; change(&m); return &m }
	good := with(func(m *Mail) { m.Port, m.User, m.Password = starttls, "gw1", "pass word 1" })

	take := func(box <-chan letter) letter {
		t.Helper()
		select {
		case l := <-box:
			return l
		case <-time.After(patience):
			t.Fatal("nothing came")
			panic("unreachable")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := good.Send(ctx, one); err != nil {
		t.Fatal(err)
	}
	l := take(starttlsBox)
	if !l.TLS || l.User != "gw1" || l.From != "gw1@example.org" || len(l.To) != 2 || l.received.Header.Get("Subject") != "[sallyport gw1] warning: code_replay alice at vpn" ||
		l.received.Header.Get("Auto-Submitted") != "auto-generated" || !strings.Contains(l.Data, "sallyport alert show AL-1") {
		t.Errorf("it got %+v", l)
	}
	if err := good.Send(ctx, hostile); err != nil {
		t.Fatal(err)
	}
	if l := take(starttlsBox); l.received.Header.Get("Bcc") != "" || len(l.To) != 2 {
		t.Errorf("a name has made a header: %+v", l)
	}
	if err := with(func(m *Mail) { m.Port, m.Security = implicit, ImplicitTLS }).Send(ctx, digest); err != nil {
		t.Fatal(err)
	}
	if l := take(implicitBox); !l.TLS || l.received.Header.Get("Subject") != "[sallyport gw1] warning: 9 alerts" || !strings.Contains(l.Data, "And 7 more") {
		t.Errorf("it got %+v", l)
	}
	if err := with(func(m *Mail) { m.Port, m.Security = plain, Plain }).Send(ctx, Message{Node: "gw1", Sent: noon, Test: true}); err != nil {
		t.Fatal(err)
	}
	if l := take(plainBox); l.TLS || !strings.Contains(l.Data, "This is a test") {
		t.Errorf("it got %+v", l)
	}
	for name, m := range map[string]*Mail{
		"no STARTTLS offered": with(func(m *Mail) { m.Port = plain }),
		"an unknown CA":       with(func(m *Mail) { m.Port, m.TLS = starttls, nil }),
		"another name":        with(func(m *Mail) { m.Port, m.TLS = starttls, &tls.Config{RootCAs: pool, ServerName: "other.example.org"} }),
		"a wrong password":    with(func(m *Mail) { m.Port, m.User, m.Password = starttls, "gw1", "Marker" }),
		"no authentication":   with(func(m *Mail) { m.Port = starttls }),
		"a refused recipient": with(func(m *Mail) { m.Port, m.Security, m.To = plain, Plain, []string{"gone@example.org"} }),
		"plain to TLS":        with(func(m *Mail) { m.Port, m.Security, m.Timeout = implicit, Plain, time.Second }),
	} {
		if err := m.Send(ctx, one); err == nil || strings.Contains(err.Error(), "Marker") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, box := range []<-chan letter{starttlsBox, implicitBox, plainBox} {
		select {
		case l := <-box:
			t.Errorf("a letter was taken all the same: %+v", l)
		default:
		}
	}
}
