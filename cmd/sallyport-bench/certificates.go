package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// certificates are a CA of the bench's own, and what it signed, on P-256. Both servers have the same.
type certificates struct {
	ca, serverCert, serverKey string // files
	pool                      *x509.CertPool
	client                    tls.Certificate
}

// serverName is in the server's certificate, and clientName in the client's.
const (
	serverName = "radius.bench.example"
	clientName = "nas.bench.example"
)

func makeCertificates(dir string, now time.Time) (*certificates, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	c := &certificates{
		ca: filepath.Join(dir, "ca.crt"), serverCert: filepath.Join(dir, "server.crt"), serverKey: filepath.Join(dir, "server.key"),
		pool: x509.NewCertPool(),
	}
	made := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		}
	}
	authority := made(1, "sallyport-bench")
	authority.IsCA, authority.KeyUsage = true, x509.KeyUsageCertSign
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root, err := x509.CreateCertificate(rand.Reader, authority, authority, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	if authority, err = x509.ParseCertificate(root); err != nil {
		return nil, err
	}
	c.pool.AddCert(authority)
	sign := func(leaf *x509.Certificate, use x509.ExtKeyUsage) (tls.Certificate, error) {
		leaf.DNSNames, leaf.ExtKeyUsage = []string{leaf.Subject.CommonName}, []x509.ExtKeyUsage{use}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return tls.Certificate{}, err
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), caKey)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
	}
	server, err := sign(made(2, serverName), x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	if c.client, err = sign(made(3, clientName), x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	return c, errors.Join(err,
		writePEM(c.ca, "CERTIFICATE", root),
		writePEM(c.serverCert, "CERTIFICATE", server.Certificate[0]),
		writePEM(c.serverKey, "PRIVATE KEY", key),
	)
}

func writePEM(name, kind string, der []byte) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// radsec is what the client of RADIUS over TLS has.
func (c *certificates) radsec() *tls.Config {
	return &tls.Config{
		RootCAs: c.pool, ServerName: serverName, Certificates: []tls.Certificate{c.client},
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
	}
}

// agreed refuses a tunnel that is not like the other server's.
func agreed(s tls.ConnectionState) error {
	want := uint16(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	if s.Version == tls.VersionTLS13 {
		want = tls.TLS_AES_128_GCM_SHA256
	}
	if s.CurveID != tls.X25519 || s.CipherSuite != want || s.DidResume {
		return fmt.Errorf("TLS agreed on %s and %s, resumed: %v; want what is the same for both servers", s.CurveID, tls.CipherSuiteName(s.CipherSuite), s.DidResume)
	}
	return nil
}

// ttls is what a supplicant has. FreeRADIUS 3.2.1 follows a draft of TLS 1.3 in EAP, so both servers get TLS 1.2; and its
// OpenSSL has no post-quantum key exchange, so both get X25519. P-256 is offered for the certificate (RFC 8422 section 5.1).
func (c *certificates) ttls() *tls.Config {
	return &tls.Config{
		RootCAs: c.pool, ServerName: serverName, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
	}
}
