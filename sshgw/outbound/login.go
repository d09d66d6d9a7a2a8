package outbound

import (
	"crypto/rand"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"
)

// LoginCertificate makes a certificate by which a person comes to the gateway: for a key of his, from one address. It permits
// nothing anywhere else, and has no extensions.
func (c *CA) LoginCertificate(key ssh.PublicKey, serial uint64, person, id string, source netip.Addr, from, until time.Time) (*ssh.Certificate, error) {
	bits := 32
	if source.Is6() {
		bits = 128
	}
	cert := &ssh.Certificate{
		CertType: ssh.UserCert, Key: key, Serial: serial, KeyId: id, ValidPrincipals: []string{person},
		ValidAfter: uint64(from.Unix()), ValidBefore: uint64(until.Unix()),
		Permissions: ssh.Permissions{CriticalOptions: map[string]string{"source-address": netip.PrefixFrom(source, bits).String()}},
	}
	return cert, cert.SignCert(rand.Reader, c.signer)
}
