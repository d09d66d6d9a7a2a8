package sshgw

import (
	"errors"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
	"sallyport/sshgw/outbound"
)

// innerGrace bounds the login within a recorded jump, where only a target's own questions take a person's time.
const innerGrace = 3 * time.Minute

// hostCertFor is how long a host certificate is made for, and renewHostCert when it is made anew before that.
const (
	hostCertFor   = 24 * time.Hour
	renewHostCert = 12 * time.Hour
)

var errInnerUser = errors.New("the account has a form that is not served")

// jumpIsRecorded tells what a jump to a target is to be that does not say: recorded where the rule requires it.
func (c *conn) jumpIsRecorded(t *Target) bool {
	switch t.Jump {
	case Recorded:
		return true
	case Unsaid:
		// An end-to-end jump is all of SSH: who has less is served session by session, too.
		return c.srv.settings.Load().Recordings != nil && c.srv.gate.MustRecord(c.grant, systemOf(t)) || !c.hasAll(t)
	default:
		return false
	}
}

// hasAll tells whether a person may do everything at a target that an end-to-end jump makes possible. Who may do nothing there is
// refused by either way, and has it here.
func (c *conn) hasAll(t *Target) bool {
	l := &link{c: c, grant: c.grant}
	some, all := false, true
	for _, may := range []login.Capability{login.MayShell, login.MayExec, login.MaySFTP, login.MayForward} {
		has := l.permits(t, may)
		some, all = some || has, all && has
	}
	return all || !some
}

// recordedJump ends the client's inner SSH connection here, with a host certificate for the target, so that each session
// within is decided and recorded like one that names the target in its user name. It returns when the channel is closed.
func (c *conn) recordedJump(nc ssh.NewChannel, t *Target, destination string) {
	if !c.permitsAny(c.grant, t) {
		c.refuseJump(nc, t, destination)
		return
	}
	keys, err := c.srv.hostKeysFor(t, c.settings.HostKeys)
	if err != nil {
		c.log.Error("ssh jump not served: no host certificate", "target", t.Name, "error", err)
		_ = nc.Reject(ssh.ConnectionFailed, "The gateway cannot answer for "+t.Name+".")
		return
	}
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	gone := make(chan struct{})
	c.run(func() {
		defer close(gone)
		ssh.DiscardRequests(requests)
	})
	c.run(func() { c.srv.buffers.Discard(ch.Stderr()) })
	defer c.closeChannel(ch, gone)
	l := &link{c: c, name: t.Name, jump: true, grant: c.grant}
	var (
		chans   newChannels
		globals globalRequests
		entered bool
	)
	c.aside(func() { chans, globals, entered = l.enter(ch, t, keys) })
	if entered {
		serveBoth(chans, globals, func(inner ssh.NewChannel) { c.openInner(l, inner) }, c.answerInner)
	}
}

// refuseJump lets the Gate say no, for the record. If the rules have changed in this moment and it says yes, the client asks again.
func (c *conn) refuseJump(nc ssh.NewChannel, t *Target, destination string) {
	a := c.attemptAt(t, unknownAccount, login.MayShell)
	a.Detail = []login.Detail{{Key: "request", Value: "direct-tcpip"}, {Key: "destination", Value: destination}}
	if _, v, _ := c.access("direct-tcpip", c.grant, a); v != over {
		_ = nc.Reject(ssh.Prohibited, sayRefused(destination))
	}
}

// enter is the beginning of the inner connection, up to the client's being let in.
func (l *link) enter(ch ssh.Channel, t *Target, keys []ssh.Signer) (newChannels, globalRequests, bool) {
	c := l.c
	cfg := newServerConfig(c.settings, keys)
	l.authenticate(cfg, t)
	timer := time.AfterFunc(innerGrace, func() { _ = ch.Close() })
	stuck := time.AfterFunc(innerGrace+closeWait, func() { c.end(endStuck, "") })
	begun, offered := greet(channelConn{Channel: ch, local: c.wire.LocalAddr(), remote: net.TCPAddrFromAddrPort(c.source)}, time.Time{})
	cfg.Ciphers = steer(cfg.Ciphers, offered)
	sc, chans, globals, err := ssh.NewServerConn(begun, cfg)
	stuck.Stop()
	if !timer.Stop() || err != nil {
		if l.needsStepUp(t) {
			_ = c.recordRefusal("direct-tcpip", login.ReasonStepUp, c.attemptAt(t, unknownAccount, login.MayShell))
		}
		return nil, nil, false
	}
	l.ssh, l.account = sc, sc.User()
	return chans, globals, true
}

// authenticate lets the inner connection in: who it is was proved by the outer one. What the user name says is the account.
func (l *link) authenticate(cfg *ssh.ServerConfig, t *Target) {
	named := func(m ssh.ConnMetadata) (*ssh.Permissions, error) {
		if u, err := ParseUser(m.User()); err != nil || !u.Plain() {
			return nil, &ssh.BannerError{Err: errInnerUser, Message: "Within a jump the user name is the account at " + t.Name + " alone.\r\n"}
		}
		return nil, nil
	}
	stepUp := l.needsStepUp(t)
	if t.Credential != CredentialAsk && !stepUp {
		cfg.NoClientAuth, cfg.NoClientAuthCallback = true, named
		return
	}
	cfg.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		if _, err := named(m); err != nil {
			return nil, err
		}
		l.account = m.User()
		if stepUp {
			if err := l.stepUp(t, challenge); err != nil {
				return nil, err
			}
		}
		if t.Credential == CredentialAsk {
			return nil, l.askFirst(t, challenge)
		}
		return nil, nil
	}
}

// answerInner answers a global request on an inner connection.
func (c *conn) answerInner(r *ssh.Request) {
	ok := r.Type == "keepalive@openssh.com"
	if r.Type == "tcpip-forward" || r.Type == "streamlocal-forward@openssh.com" {
		if !c.recordRefusal(r.Type, login.ReasonCapability, login.Attempt{}) {
			return
		}
	}
	if r.WantReply {
		_ = r.Reply(ok, nil)
	}
}

// openInner answers a channel opening on an inner connection, like conn.open.
func (c *conn) openInner(l *link, nc ssh.NewChannel) {
	switch kind := nc.ChannelType(); kind {
	case "session", "direct-tcpip":
		c.serveChannel(nc, l.open)
	default:
		c.refuseKind(nc)
	}
}

// hostKeysFor returns the gateway's host keys, certified for a target, and the plain ones behind them for clients that know no
// certificates.
func (s *Server) hostKeysFor(t *Target, own []ssh.Signer) ([]ssh.Signer, error) {
	if s.hostCA == nil {
		return own, nil
	}
	s.certMu.Lock()
	defer s.certMu.Unlock()
	now := s.now()
	if held, ok := s.certs[t.Name]; ok && now.Before(held.renew) && held.address == t.Address {
		return held.keys, nil
	}
	_, principals := outbound.Names(t.Name, t.Address)
	var keys []ssh.Signer
	for _, k := range own {
		cert, err := s.hostCA.HostCertificate(k, principals, now.Add(-time.Hour), now.Add(hostCertFor))
		if err != nil {
			return nil, err
		}
		keys = append(keys, cert)
	}
	keys = append(keys, own...)
	s.certs[t.Name] = heldCert{keys: keys, address: t.Address, renew: now.Add(renewHostCert)}
	return keys, nil
}

// heldCert is a host certificate that was made for a target.
type heldCert struct {
	keys    []ssh.Signer
	address string
	renew   time.Time
}
