package sshgw

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
	"sallyport/sshgw/outbound"
	"sallyport/sshgw/relay"
	"sallyport/sshgw/route"
)

const (
	agentRequest = "auth-agent-req@openssh.com"
	agentChannel = "auth-agent@openssh.com"
)

// Vault is what is known of targets beyond the configuration. It is called concurrently.
type Vault interface {
	// TargetKeys are the host keys that an operator has approved, and those that he has revoked.
	TargetKeys(target string) (approved, revoked []outbound.Key)
	// TargetCredential is what the gateway shows to a target: key or password, by the credential's word. An error tells
	// what is missing.
	TargetCredential(target, account, kind string) (outbound.Credential, error)
	// OfferHostKey puts a key of a target of which nothing is known into the queue for approval.
	OfferHostKey(ctx context.Context, target string, key ssh.PublicKey) error
	// HostKeyAlert records that a target has another key than those that are known, or one that is revoked.
	HostKeyAlert(ctx context.Context, target string, key ssh.PublicKey, revoked bool) error
}

// noVault knows nothing.
type noVault struct{}

func (noVault) TargetKeys(string) (approved, revoked []outbound.Key) { return nil, nil }

func (noVault) TargetCredential(string, string, string) (outbound.Credential, error) {
	return nil, errors.New("no credential is kept for it")
}

func (noVault) OfferHostKey(context.Context, string, ssh.PublicKey) error { return nil }

func (noVault) HostKeyAlert(context.Context, string, ssh.PublicKey, bool) error { return nil }

// upstream is a connection to a target, logged in. Sessions of one link share it.
type upstream struct {
	client  *outbound.Client
	session string      // under whose id it is on record how it was made
	hops    []io.Closer // what it leads through, the nearest first
	gone    chan struct{}

	// Guarded by upstreams.mu.
	agent bool // the target may reach the client's agent
	used  int  // channels that are open or opening
}

// close ends it, and so whatever is open on it.
func (u *upstream) close() {
	u.client.Close()
	for _, h := range slices.Backward(u.hops) {
		h.Close()
	}
}

func (u *upstream) ended() bool {
	select {
	case <-u.gone:
		return true
	default:
		return false
	}
}

// upstreams are the connections of one link.
type upstreams struct {
	once sync.Once
	turn chan struct{} // whoever logs in has it

	mu   sync.Mutex
	live *upstream // the newest
}

func (u *upstreams) take(ctx context.Context) error {
	u.once.Do(func() { u.turn = make(chan struct{}, 1) })
	select {
	case u.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// get returns the link's connection to the target, and logs in if there is none. It is given back by release.
func (u *upstreams) get(ctx context.Context, l *link, s *session, ask outbound.Ask) (*upstream, error) {
	if err := u.take(ctx); err != nil {
		return nil, err
	}
	defer func() { <-u.turn }()
	u.mu.Lock()
	live := u.live
	u.mu.Unlock()
	if live != nil && !live.ended() {
		u.mu.Lock()
		live.used++
		u.mu.Unlock()
		return live, nil
	}
	return u.fresh(ctx, l, s, ask)
}

// fresh logs in anew. The caller has the turn.
func (u *upstreams) fresh(ctx context.Context, l *link, s *session, ask outbound.Ask) (*upstream, error) {
	up, err := l.connect(ctx, s, ask)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	old := u.live
	u.live, up.used = up, 1
	idle := old != nil && old.used == 0
	u.mu.Unlock()
	if idle {
		old.close()
	}
	return up, nil
}

// openSession opens a session channel at the target. Where the target takes no more on this connection, another is made. The
// upstream is given back by release.
func (l *link) openSession(ctx context.Context, s *session, ask outbound.Ask) (*upstream, ssh.Channel, <-chan *ssh.Request, error) {
	up, err := l.up.get(ctx, l, s, ask)
	if err != nil {
		return nil, nil, nil, err
	}
	ch, requests, err := openChannel(ctx, up, "session", nil)
	failed := (*ssh.OpenChannelError)(nil)
	if !errors.As(err, &failed) {
		if err != nil {
			l.up.release(up)
		}
		return up, ch, requests, err
	}
	l.up.release(up)
	if err := l.up.take(ctx); err != nil {
		return nil, nil, nil, err
	}
	up, err = l.up.fresh(ctx, l, s, ask)
	<-l.up.turn
	if err != nil {
		return nil, nil, nil, err
	}
	if ch, requests, err = openChannel(ctx, up, "session", nil); err != nil {
		l.up.release(up)
	}
	return up, ch, requests, err
}

// release gives back what get or fresh returned. A connection that is not the newest any more ends with its last channel.
func (u *upstreams) release(up *upstream) {
	u.mu.Lock()
	up.used--
	idle := up.used == 0 && up != u.live
	u.mu.Unlock()
	if idle {
		up.close()
	}
}

// errNoAnswer: a target was asked to open a channel, and said nothing.
var errNoAnswer = errors.New("the target did not answer in time")

// openChannel opens a channel at a target, which may never answer: then the channel is closed if it opens after all, and what else is
// open there goes on.
func openChannel(ctx context.Context, up *upstream, kind string, payload []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	type opened struct {
		ch       ssh.Channel
		requests <-chan *ssh.Request
		err      error
	}
	done := make(chan opened, 1)
	go func() { // ends with the connection at the latest
		ch, requests, err := up.client.OpenChannel(kind, payload)
		done <- opened{ch, requests, err}
	}()
	timer := time.NewTimer(dialTimeout)
	defer timer.Stop()
	err := errNoAnswer
	select {
	case o := <-done:
		return o.ch, o.requests, o.err
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	go func() {
		if o := <-done; o.err == nil {
			go ssh.DiscardRequests(o.requests)
			var late relay.Buffers
			go late.Discard(o.ch)
			go late.Discard(o.ch.Stderr())
			_ = o.ch.Close()
		}
	}()
	return nil, nil, err
}

// connect logs in at the session's target, and records with what.
func (l *link) connect(ctx context.Context, s *session, ask outbound.Ask) (*upstream, error) {
	c := l.c
	credential, done, err := l.credential(ctx, s, ask)
	if err != nil {
		return nil, err
	}
	defer done()
	up := &upstream{gone: make(chan struct{}), session: s.grant.Session}
	dial, err := c.hop(ctx, s.target, &up.hops, 0)
	if err != nil {
		up.closeHops()
		return nil, err
	}
	client, info, err := c.srv.logIn(ctx, s.target, l.accountAt(s.target), credential, dial, s.grant.Person)
	if err != nil {
		up.closeHops()
		return nil, err
	}
	up.client = client
	c.run(func() { l.serveUpstream(up) })
	if !c.note(login.Event{
		Event: "session.connected", Result: login.Info, Reason: login.ReasonOK, Attempt: s.attempt, Session: s.grant.Session, Grant: &s.grant,
		Detail: connectedDetail(s.target, info),
	}) {
		up.close()
		return nil, context.Canceled
	}
	return up, nil
}

func (u *upstream) closeHops() {
	for _, h := range slices.Backward(u.hops) {
		h.Close()
	}
}

// connectedDetail is what the record tells of a connection to a target.
func connectedDetail(t *Target, info outbound.Info) []login.Detail {
	d := []login.Detail{
		{Key: "address", Value: t.Address},
		{Key: "credential", Value: info.Credential},
		{Key: "host_key", Value: info.Key.Fingerprint},
		{Key: "host_key_type", Value: info.Key.Type},
		{Key: "target_version", Value: cut(strings.ToValidUTF8(info.ServerVersion, "?"), maxClientVersion)},
		{Key: "target_kex", Value: info.Algorithms.KeyExchange},
		{Key: "target_cipher", Value: info.Algorithms.Write.Cipher},
	}
	if len(info.Legacy) > 0 {
		d = append(d, login.Detail{Key: "legacy", Value: strings.Join(info.Legacy, ",")})
	}
	if t.Via != "" {
		d = append(d, login.Detail{Key: "via", Value: t.Via})
	}
	return d
}

// logIn logs in at one target. A host key that is not known, or not the known one, is told to the vault.
func (s *Server) logIn(ctx context.Context, t *Target, account string, credential outbound.Credential, dial outbound.Dialer, person string) (*outbound.Client, outbound.Info, error) {
	keys := t.HostKeys
	approved, revoked := s.vault.TargetKeys(t.Name)
	keys.Approved, keys.Revoked = approved, append(slices.Clip(keys.Revoked), revoked...)
	client, info, err := outbound.Dial(ctx, outbound.Target{
		Name: t.Name, Address: t.Address, User: account, Algorithms: t.Algorithms, HostKeys: keys, Credential: credential,
	}, outbound.Options{Dial: dial})
	if err == nil {
		if len(info.Legacy) > 0 {
			s.meter.Legacy(t.Name)
		}
		return client, info, nil
	}
	unknown, changed, bad := (*outbound.UnknownHostKey)(nil), (*outbound.ChangedHostKey)(nil), (*outbound.RevokedHostKey)(nil)
	var told error
	switch {
	case errors.As(err, &unknown):
		told = s.vault.OfferHostKey(ctx, t.Name, unknown.Key)
	case errors.As(err, &changed):
		told = s.vault.HostKeyAlert(ctx, t.Name, changed.Key, false)
	case errors.As(err, &bad):
		told = s.vault.HostKeyAlert(ctx, t.Name, bad.Key, true)
	}
	if told != nil {
		s.log.Error("ssh host key of a target not noted", "target", t.Name, "error", told)
	}
	s.log.Warn("ssh target not reached", "target", t.Name, "person", person, "error", err)
	return nil, info, err
}

// hop returns what dials a target: the network, or another target that it is reached through. What it leads through is added
// to hops, which the caller closes.
func (c *conn) hop(ctx context.Context, t *Target, hops *[]io.Closer, depth int) (outbound.Dialer, error) {
	if t.Via == "" {
		return c.srv.dial, nil
	}
	if depth >= route.MaxHops {
		return nil, errors.New("the way to the target leads through too many others")
	}
	via, known := c.srv.settings.Load().routes.ByName(t.Via)
	if !known {
		return nil, errors.New("the target that it is reached through is not configured")
	}
	dial, err := c.hop(ctx, via, hops, depth+1)
	if err != nil {
		return nil, err
	}
	credential, err := c.srv.vault.TargetCredential(via.Name, via.Account, via.Credential)
	if err != nil {
		return nil, err
	}
	client, _, err := c.srv.logIn(ctx, via, via.Account, credential, dial, c.grant.Person)
	if err != nil {
		return nil, err
	}
	*hops = append(*hops, client)
	return client.Dialer(), nil
}

// The words for what is shown to a target, as the configuration has them.
const (
	CredentialAgent    = outbound.KindAgent
	CredentialKey      = outbound.KindKey
	CredentialPassword = outbound.KindPassword
	CredentialCA       = outbound.KindCA
	CredentialAsk      = outbound.KindAsk
)

// errNoAgent and the other errors below are for people who have logged in.
var (
	errNoAgent = sayable("it is reached with your own key: let the gateway use your agent (ssh -A), or ask for another credential")
	errNoAsk   = sayable("it asks questions of its own, and this client has no terminal to answer them")
)

// sayable is an error that a person who has logged in may read.
type sayable string

func (s sayable) Error() string { return string(s) }

// credential finds what is shown to the session's target. Done is called when the login is over.
func (l *link) credential(ctx context.Context, s *session, ask outbound.Ask) (_ outbound.Credential, done func(), err error) {
	done = func() {}
	t, account := s.target, l.accountAt(s.target)
	kind := t.Credential
	if kind == "" {
		// Not said: what is kept for the target, else what the person has.
		if t.Named(account) {
			if c, err := l.c.srv.vault.TargetCredential(t.Name, account, ""); err == nil {
				return c, done, nil
			}
		}
		kind = CredentialAsk
		if s.agent || ask == nil {
			kind = CredentialAgent
		}
	}
	switch kind {
	case CredentialAgent:
		if !s.agent {
			return nil, done, errNoAgent
		}
		ch, requests, err := l.openAgent(ctx)
		if err != nil {
			return nil, done, errNoAgent
		}
		l.c.run(func() { ssh.DiscardRequests(requests) })
		l.c.run(func() { l.c.srv.buffers.Discard(ch.Stderr()) })
		var prefer []string
		for _, f := range l.c.grant.Factors {
			if f.Method == "key" {
				prefer = append(prefer, f.Token)
			}
		}
		return outbound.NewAgent(ch, outbound.AgentOptions{Prefer: prefer}), func() { ch.Close() }, nil
	case CredentialAsk:
		if ask == nil {
			return nil, done, errNoAsk
		}
		return outbound.NewAsk(attributed(t, ask)), done, nil
	case CredentialCA:
		if l.c.srv.userCA == nil {
			return nil, done, errors.New("the gateway has no CA for logging in at targets")
		}
		return outbound.NewCertificate(l.c.srv.userCA, outbound.Identity{Person: s.grant.Person, Session: s.grant.Session, Account: account}), done, nil
	}
	c, err := l.c.srv.vault.TargetCredential(t.Name, account, kind)
	return c, done, err
}

// attributed says who asks: a target's question may look like the gateway's own.
func attributed(t *Target, ask outbound.Ask) outbound.Ask {
	return func(ctx context.Context, name, instruction string, prompts []string, echos []bool) ([]string, error) {
		says := t.Name + " asks:"
		if instruction != "" {
			says += "\n" + instruction
		}
		return ask(ctx, name, says, prompts, echos)
	}
}

// openAgent opens a channel to the client's agent. Clients answer at once or not at all.
func (l *link) openAgent(ctx context.Context) (ssh.Channel, <-chan *ssh.Request, error) {
	timer := time.AfterFunc(closeWait, func() { l.ssh.Close() })
	defer timer.Stop()
	return l.ssh.OpenChannel(agentChannel, nil)
}

// serveUpstream answers what a target asks for by itself, until its connection ends.
func (l *link) serveUpstream(up *upstream) {
	c := l.c
	stop := context.AfterFunc(c.ctx, up.close)
	defer stop()
	var work sync.WaitGroup
	places := make(chan struct{}, maxAgentChannels)
	for requests := up.client.Requests; ; {
		var nc ssh.NewChannel
		var more bool
		select { // one goroutine for both, since it is there for every session
		case r, ok := <-requests:
			switch {
			case !ok:
				requests = nil
			case r.WantReply:
				_ = r.Reply(false, nil)
			}
			continue
		case nc, more = <-up.client.Channels:
		}
		if !more {
			break
		}
		l.up.mu.Lock()
		allowed := up.agent
		l.up.mu.Unlock()
		if nc.ChannelType() != agentChannel || !allowed {
			_ = nc.Reject(ssh.Prohibited, "not served")
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			_ = nc.Reject(ssh.ResourceShortage, "too many at once")
			continue
		}
		work.Go(func() {
			defer c.srv.crashed(c)
			defer func() { <-places }()
			l.bridgeAgent(nc)
		})
	}
	close(up.gone)
	up.close()
	work.Wait()
}

// maxAgentChannels bounds the agent's channels that a target has open at a time.
const maxAgentChannels = 16

// bridgeAgent lets a target talk to the client's agent.
func (l *link) bridgeAgent(nc ssh.NewChannel) {
	to, toRequests, err := l.openAgent(l.c.ctx)
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "the agent does not answer")
		return
	}
	from, fromRequests, err := nc.Accept()
	if err != nil {
		_ = to.Close()
		l.c.run(func() { ssh.DiscardRequests(toRequests) })
		return
	}
	l.bridge(relay.Side{Channel: from, Requests: fromRequests}, relay.Side{Channel: to, Requests: toRequests})
}

// bridge copies both ways until both sides have closed.
func (l *link) bridge(a, b relay.Side) {
	c := l.c
	one := func(from, to ssh.Channel) {
		_ = c.srv.buffers.Copy(from, func(p []byte) error {
			_, err := to.Write(p)
			return err
		})
		_ = to.CloseWrite()
	}
	var both sync.WaitGroup
	for _, side := range []struct{ from, to relay.Side }{{a, b}, {b, a}} {
		both.Go(func() {
			defer c.srv.crashed(c)
			ssh.DiscardRequests(side.from.Requests)
			_ = side.to.Channel.Close()
		})
		both.Go(func() {
			defer c.srv.crashed(c)
			c.srv.buffers.Discard(side.from.Channel.Stderr())
		})
		both.Go(func() {
			defer c.srv.crashed(c)
			one(side.from.Channel, side.to.Channel)
		})
	}
	stop := context.AfterFunc(c.ctx, func() {
		_ = a.Channel.Close()
		_ = b.Channel.Close()
	})
	defer stop()
	both.Wait()
}

// outboundSentence is what a person may read of a failed login at a target: nothing of addresses, and nothing that the
// target said.
func outboundSentence(err error) string {
	var (
		say     sayable
		unknown *outbound.UnknownHostKey
		changed *outbound.ChangedHostKey
		revoked *outbound.RevokedHostKey
		weak    *outbound.WeakHostKey
		none    *outbound.NoCommonAlgorithm
		auth    *outbound.AuthFailed
	)
	switch {
	case errors.As(err, &say):
		return say.Error() + "."
	case errors.As(err, &unknown):
		return "its host key is not known yet, and waits for approval (" + unknown.Fingerprint + "). Tell whoever runs this gateway."
	case errors.As(err, &changed):
		return "its host key is not the one that is known: it may be another machine, or somebody stands between. Do not go on; tell whoever runs this gateway."
	case errors.As(err, &revoked):
		return "its host key is revoked. Do not go on; tell whoever runs this gateway."
	case errors.As(err, &weak), errors.As(err, &none):
		return "it and the gateway have no algorithm in common that is permitted for it. The gateway's log says what it offers."
	case errors.As(err, &auth):
		return "it did not let the gateway in as " + printable(auth.User) + "."
	}
	return ""
}

// channelConn makes a connection of a channel, for an SSH connection within.
type channelConn struct {
	ssh.Channel
	local, remote net.Addr
}

func (c channelConn) LocalAddr() net.Addr  { return c.local }
func (c channelConn) RemoteAddr() net.Addr { return c.remote }

// Deadlines are not kept: whoever uses the connection closes it when its time is over.
func (channelConn) SetDeadline(time.Time) error      { return nil }
func (channelConn) SetReadDeadline(time.Time) error  { return nil }
func (channelConn) SetWriteDeadline(time.Time) error { return nil }
