package main

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// A certificate that is renewed serves without a reload; one that cannot be read leaves the old one in use, and is said once.
func TestFreshCertificate(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue("a.example.org")
	var lines bytes.Buffer
	f, err := newFresh(slog.New(slog.NewTextHandler(&lines, nil)), keyPair(cert, key), cert, key)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	f.now = func() time.Time { return now }
	serial := func() string { return leafOf(t, f.get()) }
	first := serial()
	replace := func(with string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(cert, []byte(with), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(cert, now.Add(age), now.Add(age)); err != nil {
			t.Fatal(err)
		}
	}
	old := string(mustRead(t, cert))
	replace("not a certificate", time.Minute)
	now = now.Add(lookAgain)
	for range 3 {
		if serial() != first {
			t.Error("something that is no certificate took its place")
		}
	}
	if n := strings.Count(lines.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times: %s", n, &lines)
	}
	replace(old, 2*time.Minute)
	now = now.Add(lookAgain)
	if serial() != first {
		t.Error("the same certificate is another")
	}
	newCert, newKey := ca.issue("b.example.org")
	if err := os.Rename(newKey, key); err != nil {
		t.Fatal(err)
	}
	replace(string(mustRead(t, newCert)), 3*time.Minute)
	if serial() != first {
		t.Error("looked at before its time")
	}
	now = now.Add(lookAgain)
	if serial() == first {
		t.Error("the renewed certificate does not serve")
	}
	if _, err := newFresh(slog.New(slog.DiscardHandler), keyPair(cert, cert), cert); err == nil {
		t.Error("a start with a wrong key")
	}
}

func leafOf(t *testing.T, c *tls.Certificate) string {
	t.Helper()
	if c.Leaf == nil {
		t.Fatal("no leaf")
	}
	return c.Leaf.SerialNumber.String()
}
