package directory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// The floor holds where the program lifts crypto/rsa's own for old SSH servers.
func TestTinyRSACertificate(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	for _, bits := range []int{1024, 1016} {
		ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		root := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
		}
		rawRoot, err := x509.CreateCertificate(rand.Reader, root, root, &ca.PublicKey, ca)
		if err != nil {
			t.Fatal(err)
		}
		if root, err = x509.ParseCertificate(rawRoot); err != nil {
			t.Fatal(err)
		}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"dc1.example.org"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter}
		raw, err := x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, ca)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{CAs: x509.NewCertPool(), ServerName: "dc1.example.org"}
		o.CAs.AddCert(root)
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if conn, err := l.Accept(); err == nil {
				_ = conn.(*tls.Conn).Handshake()
				conn.Close()
			}
		}()
		dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: o.tlsConfig("x")}
		conn, err := dialer.DialContext(t.Context(), "tcp", l.Addr().String())
		if conn != nil {
			conn.Close()
		}
		l.Close()
		<-done
		if small := bits < leastRSA; small != (err != nil && strings.Contains(err.Error(), "want at least 1024")) || !small && err != nil {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}
