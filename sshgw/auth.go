package sshgw

import (
	"cmp"
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

// The prompts. They are the same for everybody (P6).
const (
	promptPassword = "Password: "
	promptCode     = "One-time code: "
)

// ReasonSignature is the records' word for a refusal that is found before the Gate is asked.
const ReasonSignature login.Reason = "key_signature_wrong"

// Why callbacks refuse. The client sees none of these.
var (
	errKey          = errors.New("the key is not accepted")
	errKeyOffers    = errors.New("too many keys were offered")
	errCodeTries    = errors.New("too many codes were tried")
	errUserChanged  = errors.New("the user name is not the one that the key was proved for")
	errAsked        = errors.New("password and code were asked for one by one already")
	errRefused      = errors.New("the login was refused")
	errUnanswerable = errors.New("no record could be made")
)

// auth is the state of one connection's login. Only the goroutine that runs the handshake touches it.
type auth struct {
	deadline  time.Time
	extended  bool
	keyOffers int
	tries     int
	asked     bool // keyboard-interactive was tried
	refusals  int  // logins that the Gate, or we, refused

	asks   askerKey // held while others wait for this login; zero: they do not
	keyFor string   // the user name that key was proved for; empty: none was
	key    proof
	link   *link // to the target that the user name named, of the login that was accepted

	unanswerable bool
	grant        login.Grant
	enrolment    login.Enrolment // of somebody who came with a ticket: he has no grant
}

// login runs the handshake under the grace time.
func (c *conn) login() (newChannels, globalRequests, dropReason) {
	cfg := newServerConfig(c.settings, c.settings.HostKeys)
	cfg.PublicKeyCallback = c.offeredKey
	cfg.VerifiedPublicKeyCallback = c.provedKey
	cfg.KeyboardInteractiveCallback = c.ask
	cfg.PasswordCallback = c.inOne

	defer c.stopAsking()
	c.auth.deadline = time.Now().Add(c.settings.GraceFirst)
	if err := c.wire.SetDeadline(c.auth.deadline); err != nil {
		return nil, nil, dropNoAuth
	}
	begun, offered := greet(c.wire, c.auth.deadline)
	c.wire.greeted = true
	cfg.Ciphers = steer(cfg.Ciphers, offered)
	sc, chans, requests, err := ssh.NewServerConn(begun, cfg)
	if err != nil {
		return nil, nil, c.whyNot(err)
	}
	if c.auth.grant.Valid() == c.auth.enrolment.Valid() {
		// Cannot be: only ask lets the handshake end well. But nobody gets further without a receipt.
		return nil, nil, dropUnanswerable
	}
	c.wire.loggedIn.Store(true)
	c.wire.Join() // SupportedCiphers and the MACs beside them permit it
	if err := c.wire.SetDeadline(time.Time{}); err != nil {
		return nil, nil, dropNoAuth
	}
	c.ssh, c.grant, c.link, c.proved = sc, c.auth.grant, c.auth.link, c.auth.key
	c.enrolment, c.since = c.auth.enrolment, c.srv.now()
	if c.link != nil {
		c.link.ssh = sc
	}
	c.log = c.log.With("person", cmp.Or(c.grant.Person, c.enrolment.Person), "attempt", cmp.Or(c.grant.Attempt, c.enrolment.Attempt))
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
	return errors.Is(err, rsa.ErrVerification) || strings.Contains(err.Error(), "signature did not verify") ||
		strings.Contains(err.Error(), "user presence") // a FIDO key that nobody touched
}

// offeredKey looks a key up. The client may not hold it (RFC 4252 section 7), so nothing follows from an offer but
// that it counts as one.
func (c *conn) offeredKey(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	c.metadataUser = m.User()
	if c.auth.keyOffers++; c.auth.keyOffers > maxKeyOffers {
		return nil, errKeyOffers
	}
	if _, err := c.proofOf(personOf(m.User()), key); err != nil {
		return nil, err
	}
	return nil, nil
}

// provedKey notes a key whose signature was verified, and asks for the rest. PartialSuccessError must come unwrapped,
// and with nil Permissions, or x/crypto/ssh ends the connection.
func (c *conn) provedKey(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	proved, err := c.proofOf(personOf(m.User()), key)
	if err != nil {
		return nil, err
	}
	c.auth.keyFor = m.User()
	c.auth.key = proved
	c.extendGrace()
	if c.srv.gate.IsService(personOf(m.User())) {
		return nil, c.serveMachine(m)
	}
	if done, err := c.lean(m); done {
		return nil, err
	}
	return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: c.ask, PasswordCallback: c.inOne}}
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

// personOf is whom a user name is about. A name of no form that is served is a stranger's as a whole (P6).
func personOf(user string) string {
	if u, err := ParseUser(user); err == nil {
		return u.Person
	}
	return user
}

// mayTry counts a login that the Gate is to decide.
func (c *conn) mayTry(m ssh.ConnMetadata) error {
	c.metadataUser = m.User()
	if c.auth.tries >= maxCodeTries {
		c.wire.Close()
		return errCodeTries
	}
	if c.auth.keyFor != "" && c.auth.keyFor != m.User() {
		return errUserChanged
	}
	return nil
}

// ask asks for password and code, and lets the Gate decide.
func (c *conn) ask(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	if err := c.mayTry(m); err != nil {
		return nil, err
	}
	c.auth.asked = true
	if c.enrols(m.User()) {
		return nil, c.redeem(m, challenge)
	}
	password, code, err := c.prompt(challenge)
	if err != nil {
		// The client went away or cancelled. Nothing was tried.
		return nil, fmt.Errorf("the questions were not answered: %w", err)
	}
	a := c.attempt(m.User())
	a.Password, a.Code = login.NewSecret(password), login.NewSecret(code)
	if err := c.decide(m, a); err != nil {
		return nil, err
	}
	if c.auth.grant.Emergency {
		if err := c.askWhy(m, challenge); err != nil {
			return nil, err
		}
	}
	if l := c.auth.link; l != nil {
		t, known := l.target()
		// What does not succeed here is told by the first session, which tries again.
		if known && l.needsStepUp(t) && l.stepUp(t, challenge) != nil {
			return nil, nil
		}
		if known && t.Credential == CredentialAsk {
			_ = l.askFirst(t, challenge)
		}
	}
	return nil, nil
}

// inOne takes password and code in one, for clients that know the password method only (RFC 4252 section 8).
func (c *conn) inOne(m ssh.ConnMetadata, typed []byte) (*ssh.Permissions, error) {
	if err := c.mayTry(m); err != nil {
		return nil, err
	}
	if c.auth.asked {
		// OpenSSH falls back to this method when a code was wrong, and people then type their password alone: that would
		// only count as a further failure.
		return nil, errAsked
	}
	c.extendGrace()
	a := c.attempt(m.User())
	if len(typed) > 0 {
		a.Joined = login.NewSecret(string(typed))
	}
	a.Detail = append(a.Detail, login.Detail{Key: "ssh_method", Value: "password"})
	if err := c.decide(m, a); err != nil {
		return nil, err
	}
	if c.auth.grant.Emergency {
		return nil, c.unexplained(m)
	}
	return nil, nil
}

// decide renders the Gate's outcome, once for all logins. A nil error lets the person in.
func (c *conn) decide(m ssh.ConnMetadata, a login.Attempt) error {
	c.auth.tries++
	if c.auth.keyFor != "" {
		a.Proofs = []login.Proof{c.auth.key.Proof}
	}
	a.Detail = append(a.Detail, algorithmDetail(m)...)
	user, _ := ParseUser(m.User()) // what does not parse is a stranger's name, and refused
	if _, known := c.srv.settings.Load().routes.ByName(user.Target); known {
		a.Account = user.Account
		a.Detail = append(a.Detail, login.Detail{Key: login.DetailDestination, Value: spellName(user.Target)})
	}
	o := c.srv.gate.Decide(c.ctx, a)
	c.srv.meter.Login(o.Reason())
	if o.Unanswerable() {
		c.cannotAnswer(o.Reason())
		return errUnanswerable
	}
	if grant, ok := o.Accepted(); ok && grant.Valid() {
		c.auth.grant = grant
		c.stopAsking() // whoever waits may lean on this login
		if user.Target != "" {
			c.auth.link = &link{c: c, name: user.Target, account: user.Account, grant: grant}
		}
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
		ID: login.NewID(), Name: personOf(name), Protocol: protocol, Source: c.source, Origin: door.NetworkOf(c.source.Addr()).String(),
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
