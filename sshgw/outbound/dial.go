package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshgw/joined"
)

// Dialer makes connections, as net.Dialer.DialContext does.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Target is an SSH server, and what is needed to log in there.
type Target struct {
	Name       string // for errors
	Address    string // host:port
	User       string // the account there
	Algorithms Algorithms
	HostKeys   HostKeys
	Credential Credential
}

// Times bound the steps of a login. Zero fields take DefaultTimes' values.
type Times struct {
	Connect  time.Duration
	Version  time.Duration // from there to the target's version (RFC 4253 section 4.2); old kit looks up names first
	Exchange time.Duration // from there to the host key
	Login    time.Duration // from there to the end, for credentials that ask nobody
	Person   time.Duration // the same for each answer of a person, or of the person's agent
}

// DefaultTimes are the limits for fields that a Times leaves zero. Group exchange on a slow switch takes ten seconds.
func DefaultTimes() Times {
	return Times{Connect: 10 * time.Second, Version: 15 * time.Second, Exchange: 30 * time.Second, Login: 30 * time.Second, Person: 2 * time.Minute}
}

func (t Times) filled() Times {
	d := DefaultTimes()
	for _, x := range []struct{ field, value *time.Duration }{
		{&t.Connect, &d.Connect},
		{&t.Version, &d.Version},
		{&t.Exchange, &d.Exchange},
		{&t.Login, &d.Login},
		{&t.Person, &d.Person},
	} {
		if *x.field <= 0 {
			*x.field = *x.value
		}
	}
	return t
}

// DefaultClientVersion is what the gateway calls itself to targets.
const DefaultClientVersion = "SSH-2.0-Sallyport"

// Options are how to log in. The zero Options dial directly.
type Options struct {
	Dial           Dialer // nil: a net.Dialer
	Times          Times
	ClientVersion  string            // "": DefaultClientVersion
	Banner         func(text string) // hears the target's banner, any bytes, while the login is under way; nil: Info has it
	RekeyThreshold uint64            // bytes after which keys are exchanged anew; 0: what suits the cipher
	Now            func() time.Time  // for certificates; nil: time.Now
}

// Info is what was learnt of a target. After an error it holds what was learnt before.
type Info struct {
	Key           Key // that it has proved to have
	Algorithms    ssh.NegotiatedAlgorithms
	Legacy        []string // what of them modern would not have agreed to
	ServerVersion string   // as it said: any bytes, 255 at most
	Banner        string   // as it said: any bytes, maxBanner at most
	Credential    string   // the kind that was shown
}

// maxBanner bounds what is kept of a target's banner, in bytes.
const maxBanner = 4096

// Client is a connection that is logged in. Its owner serves Channels and Requests, or hands both to Dialer.
type Client struct {
	ssh.Conn
	Channels <-chan ssh.NewChannel
	Requests <-chan *ssh.Request
}

// Dialer returns what dials through the target, by direct-tcpip channels (RFC 4254 section 7.2). It takes over Channels
// and Requests, refuses all that come by them, and may be called once. The connections end with the client's.
func (c *Client) Dialer() Dialer {
	return ssh.NewClient(c.Conn, c.Channels, c.Requests).DialContext
}

// Dial connects to a target and logs in. The error is one of this package's, or the context's.
//
// Where a host key is known by its fingerprint alone, and the target shows one of another type, it is asked again for its
// other types, before anything is shown to it.
func Dial(ctx context.Context, t Target, o Options) (*Client, Info, error) {
	c, info, err := dialOnce(ctx, t, o, nil)
	var changed *ChangedHostKey
	if !t.HostKeys.untyped() || !errors.As(err, &changed) {
		return c, info, err
	}
	first, firstInfo := err, info
	for without := []string(nil); ; {
		without = append(without, changed.Key.Type())
		if len(t.HostKeys.order(t.Algorithms.filled().lists[kindHostKey], without)) == 0 {
			return nil, firstInfo, first
		}
		c, info, err := dialOnce(ctx, t, o, without)
		if none := (*NoCommonAlgorithm)(nil); errors.As(err, &none) { // it has no further key
			return nil, firstInfo, first
		}
		if !errors.As(err, &changed) {
			return c, info, err
		}
	}
}

func dialOnce(ctx context.Context, t Target, o Options, without []string) (*Client, Info, error) {
	conn, err := connect(ctx, t, o)
	if err != nil {
		return nil, Info{}, err
	}
	return handshake(ctx, conn, t, o, without)
}

func connect(ctx context.Context, t Target, o Options) (net.Conn, error) {
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	limited, cancel := context.WithTimeout(ctx, o.Times.filled().Connect)
	defer cancel()
	conn, err := dial(limited, "tcp", t.Address)
	if err == nil {
		return conn, nil
	}
	if ctx.Err() == nil && limited.Err() != nil {
		err = ErrTimeout
	}
	return nil, &Failed{t.Name, StepConnect, err}
}

// Handshake logs in over a connection that is there already. It closes it when it returns an error.
func Handshake(ctx context.Context, conn net.Conn, t Target, o Options) (*Client, Info, error) {
	return handshake(ctx, conn, t, o, nil)
}

// attempt is one login under way.
type attempt struct {
	target  Target
	without []string // types of host keys that are not asked for
	options Options
	times   Times
	algs    Algorithms
	ctx     context.Context // ends with the attempt, and when a step's time is over
	wire    *sniffer

	mu      sync.Mutex
	step    Step
	expired bool // a step took too long
	over    bool // handshake has returned, or is about to
	limit   *time.Timer
	cancel  context.CancelFunc
	known   Key           // that the target has proved to have
	key     ssh.PublicKey // the same, once it was judged well
	keyErr  error         // what was wrong with it

	// What the callbacks leave that golang.org/x/crypto/ssh calls in handshake's own goroutine.
	banner  string
	methods []string // what the target takes, as it said last
	shown   bool     // something beyond "none" was tried
	cause   error    // why the credential was not shown
}

func handshake(ctx context.Context, conn net.Conn, t Target, o Options, without []string) (*Client, Info, error) {
	a := &attempt{target: t, without: without, options: o, times: o.Times.filled(), algs: t.Algorithms.filled(), step: StepVersion}
	wire := joined.New(conn)
	a.wire = &sniffer{Conn: wire, version: func() { a.enter(StepExchange, a.times.Exchange) }}
	a.ctx, a.cancel = context.WithCancel(ctx)
	// Whatever ends the attempt, its reads and writes end with it. A deadline would do for TCP; a channel through
	// another target has none.
	stop := context.AfterFunc(a.ctx, func() { conn.Close() })
	a.limit = time.AfterFunc(a.times.Version, a.expire)
	defer a.cancel()
	c, err := a.run()
	a.limit.Stop()
	a.mu.Lock()
	a.over = true
	a.mu.Unlock()
	if !stop() && err == nil {
		err = context.Canceled // the connection is closed already
	}
	info := a.info(c)
	if err != nil {
		conn.Close()
		return nil, info, a.explain(ctx, err)
	}
	a.wire.kex = lists{} // it was for errors
	if joins(info.Algorithms.Write) {
		wire.Join()
	}
	return c, info, nil
}

// joins reports whether the writes of packets may be joined, see package joined.
func joins(w ssh.DirectionAlgorithms) bool {
	return w.Cipher == ssh.CipherAES128GCM || w.Cipher == ssh.CipherAES256GCM || strings.HasSuffix(w.Cipher, "-ctr") && strings.HasSuffix(w.MAC, "-etm@openssh.com")
}

func (a *attempt) run() (*Client, error) {
	config, err := a.config()
	if err != nil {
		return nil, err
	}
	c, channels, requests, err := ssh.NewClientConn(a.wire, a.target.Address, config)
	if err != nil {
		return nil, err
	}
	return &Client{c, channels, requests}, nil
}

// expire ends the attempt, since a step took too long.
func (a *attempt) expire() {
	a.mu.Lock()
	a.expired = true
	a.mu.Unlock()
	a.cancel()
}

// enter begins a step, or the rest of one, with a time limit of its own.
func (a *attempt) enter(s Step, limit time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.step = s
	if a.limit.Stop() { // else its time is over already
		a.limit.Reset(limit)
	}
}

func (a *attempt) config() (*ssh.ClientConfig, error) {
	if a.target.Credential == nil {
		return nil, unshown{errors.New("no credential")}
	}
	methods, err := a.target.Credential.methods(a)
	if err != nil {
		return nil, unshown{err}
	}
	l := a.algs.lists
	version := a.options.ClientVersion
	if version == "" {
		version = DefaultClientVersion
	}
	config := &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: l[kindKeyExchange], Ciphers: l[kindCipher], MACs: l[kindMAC], RekeyThreshold: a.options.RekeyThreshold,
		},
		HostKeyAlgorithms: a.target.HostKeys.order(l[kindHostKey], a.without),
		User:              a.target.User,
		Auth:              methods,
		ClientVersion:     version,
		HostKeyCallback:   a.hostKey,
		BannerCallback:    a.hear,
		AuthCallback: func(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
			a.methods = c.AllowedMethods
			a.shown = len(c.TriedMethods)+len(c.PartialSuccessMethods) > 1
			return nil, nil
		},
	}
	return config, nil
}

// hostKey is called when the target has proved to have the key; also at each later key exchange of the connection.
func (a *attempt) hostKey(_ string, _ net.Addr, key ssh.PublicKey) error {
	err := a.target.HostKeys.judge(a.target.Name, key, a.algs.least)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return err
	}
	a.known, a.keyErr = KeyOf(key), err
	if err != nil {
		return err
	}
	a.key, a.step = key, StepLogin
	if a.limit.Stop() { // else its time is over already
		a.limit.Reset(a.target.Credential.patience(a.times))
	}
	return nil
}

func (a *attempt) hear(text string) error {
	text = text[:min(len(text), maxBanner-len(a.banner))]
	a.banner += text
	if text != "" && a.options.Banner != nil {
		a.options.Banner(text)
	}
	return nil
}

// info is what is known of the target.
func (a *attempt) info(c *Client) Info {
	a.mu.Lock()
	defer a.mu.Unlock()
	info := Info{Key: a.known, Banner: a.banner}
	if a.step != StepVersion {
		info.ServerVersion = string(a.wire.line)
	}
	if a.target.Credential != nil {
		info.Credential = a.target.Credential.Kind()
	}
	if c == nil {
		return info
	}
	if with, ok := c.Conn.(ssh.AlgorithmsConnMetadata); ok {
		info.Algorithms = with.Algorithms()
	}
	info.Legacy = LegacyOf(info.Algorithms, a.key)
	return info
}

// unshown is an error of ours about a credential that cannot be shown.
type unshown struct{ error }

// explain makes one of this package's errors of what golang.org/x/crypto/ssh returned.
func (a *attempt) explain(ctx context.Context, err error) error {
	a.mu.Lock()
	step, expired, keyErr := a.step, a.expired, a.keyErr
	a.mu.Unlock()
	failed := func(err error) error { return &Failed{a.target.Name, step, err} }
	var (
		none   unshown
		nego   *ssh.AlgorithmNegotiationError
		broken *net.OpError
	)
	switch {
	case errors.As(err, &none):
		return &Failed{a.target.Name, StepLogin, none.error}
	case keyErr != nil:
		return keyErr
	case ctx.Err() != nil:
		return failed(context.Cause(ctx))
	case expired:
		return failed(ErrTimeout)
	case errors.As(err, &nego):
		return a.lacking(nego)
	case a.cause == nil && (errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &broken)):
		return failed(errClosed)
	case step != StepLogin:
		return failed(fmt.Errorf("%+q", clip(err.Error()))) // it may hold bytes of the target
	case a.methods != nil:
		return &AuthFailed{a.target.Name, a.target.User, a.target.Credential.Kind(), a.shown, a.methods, a.cause}
	default: // what the target said may repeat what it was shown
		return failed(errEnded)
	}
}

var (
	errClosed = errors.New("the target closed the connection")
	errEnded  = errors.New("the target ended the login")
)

// lacking says for which kinds nothing was in common.
func (a *attempt) lacking(n *ssh.AlgorithmNegotiationError) error {
	e := &NoCommonAlgorithm{Target: a.target.Name}
	m, o := modern(), old()
	for k, offered := range a.wire.kex {
		if slices.ContainsFunc(offered, func(name string) bool { return slices.Contains(a.algs.lists[k], name) }) {
			continue
		}
		l := Lack{Kind: kindNames[k], Offered: offered}
		for _, name := range slices.Concat(m[k], o[k]) {
			if slices.Contains(offered, name) {
				l.Add = append(l.Add, name)
			}
		}
		if k == kindMAC && a.authenticates() {
			continue
		}
		e.Lacking = append(e.Lacking, l)
	}
	if len(e.Lacking) == 0 { // compression, or the two directions differ
		e.Lacking = []Lack{{Kind: n.What, Offered: n.RequestedAlgorithms}}
	}
	return e
}

// authenticates reports whether a cipher is in common that needs no MAC beside it.
func (a *attempt) authenticates() bool {
	for _, name := range a.wire.kex[kindCipher] {
		switch name {
		case ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305:
			if slices.Contains(a.algs.lists[kindCipher], name) {
				return true
			}
		}
	}
	return false
}
