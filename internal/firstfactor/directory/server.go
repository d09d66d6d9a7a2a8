package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

// Of connections of the search identity in a pool.
const (
	// trusted is how long after its last use a connection counts as alive without being asked.
	trusted = 5 * time.Second
	// maxIdle is below the time after which firewalls forget connections, and servers close them.
	maxIdle = 2 * time.Minute
	// maxAge makes a change of the search identity's rights or password be noticed.
	maxAge = 15 * time.Minute
)

// server is one of the directory's servers.
type server struct {
	url      string
	address  string      // host:port
	tls      *tls.Config // nil: plaintext
	startTLS bool

	mu      sync.Mutex
	idle    []*conn   // of the search identity; the last was used last
	aside   *fault    // why it was put aside; nil: it is in use
	since   time.Time // when it was
	probing bool      // somebody tries it again
}

func newServer(text string, o *Options) (*server, error) {
	u, err := url.Parse(text)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err // the text is in the caller's error already
		}
		return nil, err
	}
	if u.Hostname() == "" || u.Opaque != "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("want ldaps://host or ldap://host, with or without a port; hint: base and filter have their own settings")
	}
	s := &server{url: u.Scheme + "://" + u.Host}
	port := u.Port()
	switch u.Scheme {
	case "ldaps":
		s.tls = o.tlsConfig(u.Hostname())
		if port == "" {
			port = ldap.DefaultLdapsPort
		}
	case "ldap":
		if port == "" {
			port = ldap.DefaultLdapPort
		}
		switch {
		case o.StartTLS:
			s.tls, s.startTLS = o.tlsConfig(u.Hostname()), true
		case !o.InsecurePlaintext:
			return nil, errors.New("passwords would be readable on the way; hint: use ldaps://, or set StartTLS")
		}
	default:
		return nil, errors.New("want ldaps://host or ldap://host")
	}
	s.address = net.JoinHostPort(strings.ToLower(u.Hostname()), port)
	return s, nil
}

// enter reports whether s may be asked now. One that was put aside is tried again by one caller at a time: after its
// time, or, if early is set because no other server is left, after asideAlone.
func (s *server) enter(now time.Time, early bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open(now, early) {
		return false
	}
	s.probing = s.aside != nil
	return true
}

// open is enter's question. It is called with the lock held.
func (s *server) open(now time.Time, early bool) bool {
	if s.aside == nil {
		return true
	}
	rest := s.aside.aside
	if early && rest <= asideFor {
		rest = asideAlone
	}
	return !s.probing && now.Sub(s.since) >= rest
}

// couldEnter reports whether enter would succeed.
func (s *server) couldEnter(now time.Time, early bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open(now, early)
}

// leave ends what enter began. f is why s cannot be used, or nil when it answered; judged is false when nobody knows.
// changed reports whether s was put aside, or is in use again.
func (s *server) leave(now time.Time, f *fault, judged bool) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probing = false
	if !judged {
		return false
	}
	changed = (s.aside == nil) != (f == nil)
	s.aside = f
	s.since = now
	return changed
}

// why says why s is not asked.
func (s *server) why(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.aside == nil {
		return errors.New("it is just being tried again")
	}
	return fmt.Errorf("not asked, because %v ago: %w", now.Sub(s.since).Round(time.Second), s.aside)
}

// take gives an idle connection, or nil.
func (s *server) take(now time.Time) *conn {
	s.mu.Lock()
	var old []*conn
	defer func() {
		s.mu.Unlock()
		shutAll(old)
	}()
	for len(s.idle) > 0 {
		c := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if now.Sub(c.used) < maxIdle && now.Sub(c.made) < maxAge && !c.ldap.IsClosing() {
			return c
		}
		old = append(old, c)
	}
	return nil
}

// put keeps a connection for later, if there are fewer than most.
func (s *server) put(c *conn, now time.Time, most int) {
	c.used = now
	s.mu.Lock()
	if !c.spoilt && !c.ldap.IsClosing() && len(s.idle) < most {
		s.idle = append(s.idle, c)
		c = nil
	}
	s.mu.Unlock()
	if c != nil {
		c.shut()
	}
}

// drain closes the connections that wait.
func (s *server) drain() {
	s.mu.Lock()
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()
	shutAll(idle)
}

func shutAll(conns []*conn) {
	for _, c := range conns {
		c.spoilt = true // whatever its state is, closing must not wait
		c.shut()
	}
}

// ask asks the first usable server. do is asked again of the next one when its error is a fault. An error is
// login.ErrUnavailable, and names each server with its reason.
func (d *Directory) ask(ctx context.Context, do func(context.Context, *server) error) error {
	why, tried, err := d.askEach(ctx, false, do)
	if !tried {
		why, _, err = d.askEach(ctx, true, do)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", login.ErrUnavailable, why)
	}
	return nil
}

// errNoTime: the servers before it took all the time that there was.
var errNoTime = errors.New("no time was left to ask it")

// askEach goes through the servers once. Without an error, one has answered.
func (d *Directory) askEach(ctx context.Context, early bool, do func(context.Context, *server) error) (why reasons, tried bool, err error) {
	err = errNoTime
	for i, s := range d.servers {
		now := d.o.Now()
		switch {
		case ctx.Err() != nil:
			why = append(why, fmt.Errorf("%s: %w", s.url, errNoTime))
			continue
		case !s.enter(now, early):
			why = append(why, fmt.Errorf("%s: %w", s.url, s.why(now)))
			continue
		}
		tried = true
		left := 1
		for _, other := range d.servers[i+1:] {
			if other.couldEnter(now, early) {
				left++
			}
		}
		if err = d.try(ctx, s, left, do); err == nil {
			return nil, true, nil
		}
		why = append(why, fmt.Errorf("%s: %w", s.url, err))
		if !isFault(err) {
			break // another one would say the same
		}
	}
	return why, tried, err
}

// try asks one server, in its share of the time: left are still to be asked, this one among them.
func (d *Directory) try(ctx context.Context, s *server, left int, do func(context.Context, *server) error) error {
	share := d.o.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		share = time.Until(deadline) / time.Duration(left)
	}
	bounded, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	err := do(bounded, s)
	var f *fault
	errors.As(err, &f)
	// Who gave up early, or came late, has learnt nothing about the server.
	unheard := f != nil && f.timed && (errors.Is(ctx.Err(), context.Canceled) || share < d.o.Timeout/4/time.Duration(len(d.servers)))
	if s.leave(d.o.Now(), f, !unheard) {
		if f != nil {
			d.o.Log.Warn("ldap: server put aside", "server", s.url, "why", f.Error(), "for", f.aside)
		} else {
			d.o.Log.Info("ldap: server in use again", "server", s.url)
		}
	}
	if f != nil {
		s.drain()
	}
	return err
}

// asIdentity lets do search with a connection of the search identity. A connection from the pool may have died since
// it was last used: do is then called once more, with a fresh one.
func (d *Directory) asIdentity(ctx context.Context, s *server, do func(context.Context, *conn) error) error {
	if c := s.take(d.o.Now()); c != nil {
		if d.alive(ctx, c) {
			err := do(ctx, c)
			if !isFault(err) {
				s.put(c, d.o.Now(), d.o.Pool)
				return err
			}
			if ctx.Err() != nil {
				d.discard(c)
				return err
			}
		}
		d.discard(c)
		s.drain() // what one connection suffered, the others did
	}
	c, err := d.identify(ctx, s)
	if err != nil {
		return err
	}
	err = do(ctx, c)
	if isFault(err) {
		d.discard(c)
		return err
	}
	s.put(c, d.o.Now(), d.o.Pool)
	return err
}

// alive asks a connection that has rested whether it still answers. One that does not, for instance because a firewall
// forgot it, takes a quarter of the time, not all.
func (d *Directory) alive(ctx context.Context, c *conn) bool {
	if d.o.Now().Sub(c.used) < trusted {
		return true
	}
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithTimeout(ctx, time.Until(deadline)/4)
	defer cancel()
	_, err := c.root(ctx, "1.1") // no attributes (RFC 4511 section 4.5.1.8)
	return err == nil
}

// identify makes a connection of the search identity.
func (d *Directory) identify(ctx context.Context, s *server) (*conn, error) {
	c, err := d.dial(ctx, s)
	if err != nil {
		return nil, err
	}
	if d.o.BindDN != "" {
		if _, err = c.bind(ctx, d.o.BindDN, d.o.BindPassword.Reveal()); err != nil {
			err = rejected(err)
		}
	}
	if err == nil {
		var capabilities []string
		capabilities, err = c.root(ctx, "supportedCapabilities")
		c.ad = slices.Contains(capabilities, capabilityAD)
	}
	if err != nil {
		d.discard(c)
		return nil, err
	}
	c.made = d.o.Now()
	c.used = c.made
	return c, nil
}

// rejected makes a fault of what a server says about the search identity.
func rejected(err error) error {
	r := asResult(err)
	if r == nil || isFault(err) {
		return err
	}
	f := &fault{err: fmt.Errorf("the search identity is refused: %w", err), aside: asideFor}
	switch r.code {
	case ldap.LDAPResultInvalidCredentials:
		f.hint, f.aside = hintIdentity, asideRejected
		if _, meaning := diagnose(r.diagnostic); meaning != "" {
			f.err = fmt.Errorf("%w (%s)", f.err, meaning)
		}
	case ldap.LDAPResultStrongAuthRequired, ldap.LDAPResultConfidentialityRequired:
		f.hint = hintTLS
	case ldap.LDAPResultReferral:
		f.hint = hintReferral
	}
	return f
}

// discard closes a connection that may be stuck, without waiting for it.
func (d *Directory) discard(c *conn) {
	c.spoilt = true
	d.work.Go(c.shut)
}

// release closes a connection that is not needed any more.
func (d *Directory) release(c *conn) { d.work.Go(c.shut) }

// reasons are several errors in one line.
type reasons []error

func (r reasons) Unwrap() []error { return r }

func (r reasons) Error() string {
	texts := make([]string, len(r))
	for i, err := range r {
		texts[i] = err.Error()
	}
	return strings.Join(texts, " | ")
}
