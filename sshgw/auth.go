package sshgw

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
	"sallyport/sshgw/door"
)

// The budgets of one connection before its login.
const (
	// maxAuthTries ends the connection. It is high because x/crypto/ssh counts every refused key offer and never
	// resets the count: with sshd's 6, an agent with six keys would never get to the code.
	maxAuthTries = 64
	// maxKeyOffers bounds the keys that are looked up. It leaves room below maxAuthTries for codes.
	maxKeyOffers = 48
	// maxCodeTries bounds the logins that the Gate decides: ssh(1) asks three times (NumberOfPasswordPrompts).
	maxCodeTries = 3
	// maxClientVersion bounds, in bytes, what is recorded of a client's version.
	maxClientVersion = 100
)

// The prompts, and the sentence for names of a form that is not served. They are the same for everybody (P6).
const (
	promptPassword = "Password: "
	promptCode     = "One-time code: "
	sayPlain       = "This gateway takes a person's name alone. To reach a target: ssh -J PERSON@GATEWAY ACCOUNT@TARGET\r\n"
)

// ReasonUserForm and ReasonSignature are the records' words for refusals that are found before the Gate is asked.
const (
	ReasonUserForm  login.Reason = "user_name_form"
	ReasonSignature login.Reason = "key_signature_wrong"
)

// Why callbacks refuse. The client sees none of these.
var (
	errKey          = errors.New("the key is not accepted")
	errKeyOffers    = errors.New("too many keys were offered")
	errCodeTries    = errors.New("too many codes were tried")
	errUserForm     = errors.New("the user name has a form that is not served")
	errUserChanged  = errors.New("the user name is not the one that the key was proved for")
	errRefused      = errors.New("the login was refused")
	errUnanswerable = errors.New("no record could be made")
)

// auth is the state of one connection's login. Only the goroutine that runs the handshake touches it.
type auth struct {
	deadline  time.Time
	extended  bool
	keyOffers int
	tries     int
	refusals  int // logins that the Gate, or we, refused

	keyFor string // the user name that key was proved for; empty: none was
	key    login.Proof

	unanswerable bool
	grant        login.Grant
}

// login runs the handshake under the grace time.
func (c *conn) login() (newChannels, globalRequests, dropReason) {
	cfg := newServerConfig(c.settings)
	cfg.PublicKeyCallback = c.offeredKey
	cfg.VerifiedPublicKeyCallback = c.provedKey
	cfg.KeyboardInteractiveCallback = c.ask

	c.auth.deadline = time.Now().Add(c.settings.GraceFirst)
	if err := c.wire.SetDeadline(c.auth.deadline); err != nil {
		return nil, nil, dropNoAuth
	}
	sc, chans, requests, err := ssh.NewServerConn(c.wire, cfg)
	if err != nil {
		return nil, nil, c.whyNot(err)
	}
	if !c.auth.grant.Valid() {
		// Cannot be: only ask lets the handshake end well. But nobody gets further without a receipt.
		return nil, nil, dropUnanswerable
	}
	c.wire.loggedIn.Store(true)
	if err := c.wire.SetDeadline(time.Time{}); err != nil {
		return nil, nil, dropNoAuth
	}
	c.ssh, c.grant = sc, c.auth.grant
	c.log = c.log.With("person", c.grant.Person, "attempt", c.grant.Attempt)
	return chans, requests, ""
}

// whyNot finds out why a handshake ended. The error itself is not logged: it may hold what a person typed into the
// wrong field (P9).
func (c *conn) whyNot(err error) dropReason {
	negotiation := (*ssh.AlgorithmNegotiationError)(nil)
	switch {
	case c.auth.unanswerable:
		return dropUnanswerable
	case c.srv.isDraining():
		return dropDraining
	case c.wire.flooded.Load():
		return dropFlood
	case isBadSignature(err):
		c.refuseLogin(c.metadataUser, ReasonSignature)
		return dropSignature
	case !time.Now().Before(c.auth.deadline):
		return dropGrace
	case errors.As(err, &negotiation):
		c.log.Info("ssh client has no algorithm in common", "offered", cut(strings.Join(negotiation.RequestedAlgorithms, ","), maxOffered))
		return dropNegotiation
	case c.auth.refusals > 0, c.auth.keyFor != "":
		return dropRefused
	default:
		return dropNoAuth
	}
}

// maxOffered bounds, in bytes, what is logged of a client's list of algorithms.
const maxOffered = 500

// isBadSignature knows the errors of Verify in x/crypto/ssh, which ends the handshake with them as they are and calls
// no callback.
func isBadSignature(err error) bool {
	return errors.Is(err, rsa.ErrVerification) || strings.Contains(err.Error(), "signature did not verify")
}

// offeredKey looks a key up. The client may not hold it (RFC 4252 section 7), so nothing follows from an offer but
// that it counts as one.
func (c *conn) offeredKey(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	c.metadataUser = m.User()
	if c.auth.keyOffers++; c.auth.keyOffers > maxKeyOffers {
		return nil, errKeyOffers
	}
	if _, err := c.lookUp(m.User(), key); err != nil {
		return nil, err
	}
	return nil, nil
}

// lookUp returns the fingerprint of a key that is registered for the user.
func (c *conn) lookUp(user string, key ssh.PublicKey) (fingerprint string, err error) {
	if _, isCert := key.(*ssh.Certificate); isCert {
		return "", errKey
	}
	if err := checkRSA(key); err != nil {
		return "", err
	}
	fingerprint, registered := c.srv.gate.Key(user, key.Marshal())
	if !registered {
		return "", errKey
	}
	return fingerprint, nil
}

// provedKey notes a key whose signature was verified, and asks for the rest. PartialSuccessError must come unwrapped,
// and with nil Permissions, or x/crypto/ssh ends the connection.
func (c *conn) provedKey(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	fingerprint, err := c.lookUp(m.User(), key)
	if err != nil {
		return nil, err
	}
	c.auth.keyFor = m.User()
	c.auth.key = login.Proof{Kind: login.Have, Method: "key", ID: fingerprint}
	c.extendGrace()
	return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: c.ask}}
}

// extendGrace gives the second half of the grace time, once.
func (c *conn) extendGrace() {
	if c.auth.extended {
		return
	}
	c.auth.extended = true
	c.auth.deadline = c.auth.deadline.Add(c.settings.GraceSecond)
	// When it fails the connection is gone, which the next read finds.
	_ = c.wire.SetDeadline(c.auth.deadline)
}

// ask asks for password and code, and lets the Gate decide. It is the only way to a grant.
func (c *conn) ask(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	c.metadataUser = m.User()
	if c.auth.tries >= maxCodeTries {
		c.wire.Close()
		return nil, errCodeTries
	}
	if c.auth.keyFor != "" && c.auth.keyFor != m.User() {
		return nil, errUserChanged
	}
	if u, err := ParseUser(m.User()); err == nil && !u.Plain() {
		c.auth.tries++
		if !c.refuseLogin(u.Person, ReasonUserForm) {
			return nil, errUnanswerable
		}
		return nil, &ssh.BannerError{Err: errUserForm, Message: sayPlain}
	}
	password, code, err := c.prompt(challenge)
	if err != nil {
		// The client went away or cancelled. Nothing was tried.
		return nil, fmt.Errorf("the questions were not answered: %w", err)
	}
	c.auth.tries++
	a := c.attempt(m.User())
	a.Password, a.Code = login.NewSecret(password), login.NewSecret(code)
	if c.auth.keyFor != "" {
		a.Proofs = []login.Proof{c.auth.key}
	}
	return nil, c.decide(m, a)
}

// decide renders the Gate's outcome, once for all logins. A nil error lets the person in.
func (c *conn) decide(m ssh.ConnMetadata, a login.Attempt) error {
	a.Detail = append(a.Detail, algorithmDetail(m)...)
	o := c.srv.gate.Decide(c.ctx, a)
	c.srv.meter.Login(o.Reason())
	if o.Unanswerable() {
		c.cannotAnswer(o.Reason())
		return errUnanswerable
	}
	if grant, ok := o.Accepted(); ok && grant.Valid() {
		c.auth.grant = grant
		c.log.Info("ssh login", "person", grant.Person, "attempt", a.ID, "record", o.Seq())
		return nil
	}
	c.auth.refusals++
	c.log.Info("ssh login refused", "reason", string(o.Reason()), "attempt", a.ID, "record", o.Seq())
	if s := o.Sentence(); s != "" {
		return &ssh.BannerError{Err: errRefused, Message: s + "\r\n"}
	}
	return errRefused
}

// prompt asks both questions. The second half of the grace time begins with the first answer.
func (c *conn) prompt(challenge ssh.KeyboardInteractiveChallenge) (password, code string, err error) {
	if c.settings.Prompts == OneRound {
		answers, err := challenge("", "", []string{promptPassword, promptCode}, []bool{false, false})
		if err != nil {
			return "", "", err
		}
		c.extendGrace()
		return answers[0], answers[1], nil
	}
	first, err := challenge("", "", []string{promptPassword}, []bool{false})
	if err != nil {
		return "", "", err
	}
	c.extendGrace()
	second, err := challenge("", "", []string{promptCode}, []bool{false})
	if err != nil {
		return "", "", err
	}
	return first[0], second[0], nil
}

// refuseLogin records a refusal that we found ourselves, and reports whether it could be recorded.
func (c *conn) refuseLogin(name string, why login.Reason) bool {
	c.auth.refusals++
	o := c.srv.gate.Refuse(c.ctx, c.attempt(name), why)
	c.srv.meter.Login(why)
	if o.Unanswerable() {
		c.cannotAnswer(o.Reason())
		return false
	}
	c.log.Info("ssh login refused", "reason", string(why), "record", o.Seq())
	return true
}

// cannotAnswer drops the connection, since an answer without a record must not leave (P3, P4).
func (c *conn) cannotAnswer(why login.Reason) {
	c.auth.unanswerable = true
	c.log.Error("ssh login not answered: no record could be made", "reason", string(why))
	c.wire.Close()
}

// attempt begins an attempt from this connection.
func (c *conn) attempt(name string) login.Attempt {
	return login.Attempt{
		ID: login.NewID(), Name: name, Protocol: protocol, Source: c.source, Origin: door.NetworkOf(c.source.Addr()).String(),
		Capability: login.MayShell,
	}
}

func algorithmDetail(m ssh.ConnMetadata) []login.Detail {
	d := []login.Detail{{Key: "ssh_client", Value: cut(string(m.ClientVersion()), maxClientVersion)}}
	if x, ok := m.(ssh.AlgorithmsConnMetadata); ok {
		a := x.Algorithms()
		d = append(d, login.Detail{Key: "ssh_kex", Value: a.KeyExchange}, login.Detail{Key: "ssh_cipher", Value: a.Read.Cipher})
	}
	return d
}

func cut(s string, n int) string { return s[:min(len(s), n)] }
