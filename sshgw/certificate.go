package sshgw

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
	"sallyport/sshgw/relay"
)

// sourceAddress is the critical option that binds a certificate to addresses (OpenSSH's PROTOCOL.certkeys).
const sourceAddress = "source-address"

// noTouch is the extension by which a certificate waives the touch of a FIDO key. Here the touch is what makes it something had.
const noTouch = "no-touch-required"

// proof is what a public key, once its signature is verified, says of somebody.
type proof struct {
	login.Proof
	key    ssh.PublicKey // the key itself, also of a certificate
	serial uint64        // of a login certificate of our own; zero: it is none
}

// proofOf tells what a key proves for a person. It has no side effects: the key may not be proved yet.
func (c *conn) proofOf(person string, key ssh.PublicKey) (proof, error) {
	cert, is := key.(*ssh.Certificate)
	if !is {
		if err := checkKey(key); err != nil {
			return proof{}, err
		}
		fingerprint, registered := c.srv.gate.Key(person, key.Marshal())
		if !registered {
			return proof{}, errKey
		}
		return proof{Proof: login.Proof{Kind: login.Have, Method: "key", ID: fingerprint}, key: key}, nil
	}
	if err := checkKey(cert.Key); err != nil {
		return proof{}, err
	}
	if _, waived := cert.Extensions[noTouch]; waived || cert.CertType != ssh.UserCert {
		return proof{}, errKey
	}
	own := c.srv.loginCA != nil && bytes.Equal(cert.SignatureKey.Marshal(), c.srv.loginCA.Key().Marshal())
	if !own && !slices.ContainsFunc(c.settings.UserCAs, func(ca ssh.PublicKey) bool { return bytes.Equal(ca.Marshal(), cert.SignatureKey.Marshal()) }) {
		return proof{}, errKey
	}
	checker := ssh.CertChecker{SupportedCriticalOptions: []string{sourceAddress}, Clock: c.srv.now}
	// A certificate without principals would be good for everybody.
	if len(cert.ValidPrincipals) == 0 || checker.CheckCert(person, cert) != nil || !from(cert, c.source.Addr()) {
		return proof{}, errKey
	}
	if own {
		fingerprint, registered := c.srv.gate.Key(person, cert.Key.Marshal())
		if !registered {
			return proof{}, errKey
		}
		return proof{Proof: login.Proof{Kind: login.Have, Method: "key", ID: fingerprint}, key: cert.Key, serial: cert.Serial}, nil
	}
	id := fmt.Sprintf("%s serial %d of %s", ssh.FingerprintSHA256(cert.Key), cert.Serial, ssh.FingerprintSHA256(cert.SignatureKey))
	return proof{Proof: login.Proof{Kind: login.Have, Method: "certificate", ID: id}, key: cert.Key}, nil
}

// checkKey refuses keys that prove too little: short RSA keys, and FIDO keys that were made for something else than SSH, with which
// a web site could sign for its visitor (OpenSSH's PROTOCOL.u2f).
func checkKey(key ssh.PublicKey) error {
	application := ""
	switch key.Type() {
	case ssh.KeyAlgoSKED25519:
		var k struct {
			Type        string
			Key         []byte
			Application string
		}
		if err := ssh.Unmarshal(key.Marshal(), &k); err != nil {
			return errKey
		}
		application = k.Application
	case ssh.KeyAlgoSKECDSA256:
		var k struct {
			Type        string
			Curve       string
			Key         []byte
			Application string
		}
		if err := ssh.Unmarshal(key.Marshal(), &k); err != nil {
			return errKey
		}
		application = k.Application
	default:
		return checkRSA(key)
	}
	if !strings.HasPrefix(application, "ssh:") {
		return errKey
	}
	return nil
}

// from tells whether a certificate may be used from an address.
func from(cert *ssh.Certificate, source netip.Addr) bool {
	list, bound := cert.CriticalOptions[sourceAddress]
	if !bound {
		return true
	}
	source = source.Unmap()
	for _, one := range strings.Split(list, ",") {
		if prefix, err := netip.ParsePrefix(one); err == nil && prefix.Contains(source) {
			return true
		}
		if addr, err := netip.ParseAddr(one); err == nil && addr == source {
			return true
		}
	}
	return false
}

// certCommand is what somebody runs at the gateway to get a login certificate.
const certCommand = "cert"

// issue answers `ssh PERSON@GATEWAY cert`: a login certificate, in one line, for the key that the person has logged in with.
func (c *conn) issue(ch ssh.Channel, requests <-chan *ssh.Request, start *relay.Start) {
	key := c.proved.key
	if c.srv.loginCA == nil || key == nil {
		sentence := ""
		if c.recordRefusal(certCommand, login.ReasonNoCertificate, login.Attempt{}) {
			sentence = "A certificate is for a key: log in with one of yours, with password and code."
		}
		c.refuseStart(ch, requests, start, sentence)
		return
	}
	facts, o := c.srv.gate.Certify(c.ctx, c.grant, login.Attempt{Protocol: protocol, Source: c.source})
	if o.Unanswerable() {
		c.end(endUnrecorded, "")
		c.shut(ch, requests)
		return
	}
	if _, ok := o.Accepted(); !ok {
		c.srv.meter.Refused(certCommand, o.Reason())
		sentence := ""
		if c.countRefusal() {
			sentence = "No certificate is issued to you: no rule says so, this login leans on another, or you have too many."
		}
		c.refuseStart(ch, requests, start, sentence)
		return
	}
	cert, err := c.srv.loginCA.LoginCertificate(key, facts.Serial, facts.Person, fmt.Sprintf("%s login %s record %d", facts.Person, c.grant.Attempt, o.Seq()), facts.Source, facts.From, facts.Until)
	if err != nil {
		c.log.Error("ssh certificate not made", "error", err)
		c.refuseStart(ch, requests, start, "The certificate could not be made.")
		return
	}
	c.answer(ch, requests, start, string(ssh.MarshalAuthorizedKey(cert)))
}
