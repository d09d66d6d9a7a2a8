package sshgw

import (
	"crypto/rsa"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// serverVersion is what the gateway calls itself (RFC 4253 section 4.2), without a version number for strangers.
const serverVersion = "SSH-2.0-Sallyport"

// minRSA is the least size of an RSA key, in bits, for people and for hosts (NIST SP 800-131A).
const minRSA = 2048

// SupportedCiphers lists the ciphers, in the order of preference. GCM comes first because it costs the least here;
// CTR, if possible with encrypt-then-MAC, is for clients without GCM (PuTTY before 0.78, Paramiko before 3.5, Dropbear). There is no
// chacha20-poly1305: OpenSSH would choose it first, and Go computes it without vector instructions on amd64, at twice
// the cost.
func SupportedCiphers() []string {
	return []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES256CTR, ssh.CipherAES128CTR}
}

// newServerConfig names every algorithm, because the defaults of x/crypto/ssh hold SHA-1 and ssh-dss (for clients'
// signatures and key exchange) as of v0.58.0.
func newServerConfig(s *settings, hostKeys []ssh.Signer) *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{
				ssh.KeyExchangeMLKEM768X25519,
				ssh.KeyExchangeCurve25519, // brings curve25519-sha256@libssh.org with it
				// For clients in FIPS mode. They know NIST's curves as well, which ssh-audit marks red.
				ssh.KeyExchangeDH16SHA512,
			},
			Ciphers: s.Ciphers,
			// The last one is for Dropbear's client (as of 2022.83), which has neither GCM nor encrypt-then-MAC.
			MACs: []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256},
		},
		PublicKeyAuthAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
			ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
		},
		MaxAuthTries:  maxAuthTries,
		ServerVersion: serverVersion,
	}
	for _, k := range hostKeys {
		cfg.AddHostKey(k)
	}
	return cfg
}

// checkRSA refuses RSA keys below minRSA; other types have no weak sizes.
func checkRSA(key ssh.PublicKey) error {
	crypto, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil
	}
	if k, ok := crypto.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() < minRSA {
		return fmt.Errorf("an RSA key of %d bits: want at least %d", k.N.BitLen(), minRSA)
	}
	return nil
}

// hostSigner checks a host key, and keeps an RSA key from signing with SHA-1.
func hostSigner(k ssh.Signer) (ssh.Signer, error) {
	if k == nil {
		return nil, errors.New("no key")
	}
	switch k.PublicKey().Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return k, nil
	case ssh.KeyAlgoRSA:
		if err := checkRSA(k.PublicKey()); err != nil {
			return nil, err
		}
		signer, ok := k.(ssh.AlgorithmSigner)
		if !ok {
			return nil, errors.New("an RSA key that can sign with SHA-1 only")
		}
		return ssh.NewSignerWithAlgorithms(signer, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
	default:
		return nil, fmt.Errorf("a key of type %s: want ssh-ed25519, ecdsa or rsa", k.PublicKey().Type())
	}
}
