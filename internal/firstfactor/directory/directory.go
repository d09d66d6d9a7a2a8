// Package directory checks the first factor by LDAP: Active Directory, OpenLDAP, 389 Directory Server, FreeIPA and
// others that speak RFC 4511.
//
// A check is a search and a bind. The search identity looks for the one entry that the user filter finds below Base;
// then the person's password is tried in a bind as that entry, on a connection of its own, because a bind changes who
// a connection is. Strangers, people about whom the directory shall not be asked, and evidence that no bind can check
// are searched for and bound as well, as an entry that cannot exist: the time and the work are the same (P6), and a
// stranger's guesses cannot lock anybody's account.
//
// What the directory says is believed only from a server whose certificate was verified. There is no switch against
// that; a connection without TLS must be asked for by a name that says what it is (Options.InsecurePlaintext).
// Referrals are neither followed nor believed.
//
// Several servers are asked in their order. One that cannot be used is put aside for a while, so that the next logins
// do not wait for it. When none can be used, the answer is login.ErrUnavailable, and names each with its reason (P4).
package directory

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

// The defaults of Options.
const (
	// DefaultTimeout is below the five seconds after which a NAS asks again (or elsewhere).
	DefaultTimeout = 4 * time.Second
	DefaultAtOnce  = 32
	DefaultQueue   = 64
	DefaultPool    = 4
)

// The bounds of Options: past them a typing error stops every login or takes all memory.
const (
	minTimeout = 50 * time.Millisecond
	maxTimeout = 2 * time.Minute
	maxURLs    = 16
	maxAtOnce  = 1024
	maxQueue   = 65536
)

// Options is how a directory is asked.
type Options struct {
	// URLs are the servers, in the order in which they are asked: ldaps://host[:636] or ldap://host[:389].
	URLs []string
	// StartTLS makes ldap:// connections begin with StartTLS (RFC 4511 section 4.14). It changes nothing for ldaps://.
	StartTLS bool
	// InsecurePlaintext lets ldap:// connections do without TLS: passwords are then readable on the way, and whoever
	// sits there decides who gets in.
	InsecurePlaintext bool
	// CAs are who may vouch for the servers' certificates; nil: those that the system trusts.
	CAs *x509.CertPool
	// ServerName is the name in the servers' certificates; empty: the host of the URL.
	ServerName string

	// Base is the DN below which people are. It should be as narrow as it can be: whoever can make an entry below it
	// that the user filter finds can be that person.
	Base string
	// BindDN is the search identity, as the directory wants it (a DN; with Active Directory also svc@example.nhs.uk).
	// Empty: the search is anonymous.
	BindDN       string
	BindPassword login.Secret

	// UserFilter finds a person's entry; {name} stands for the name, escaped. Empty: DefaultFilterAD where the server
	// says that it is Active Directory, else DefaultFilter.
	UserFilter string

	// Groups is how groups are found; see GroupSource.
	Groups GroupSource
	// GroupBase is the DN below which groups are; groups elsewhere do not count. Empty: Base.
	GroupBase string
	// GroupFilter finds the groups that an entry is in; {dn} stands for the entry, {name} for the person's name, both
	// escaped. Empty: DefaultGroupFilter.
	GroupFilter string

	// Timeout bounds one Check, Groups or Probe in all: waiting, connecting, TLS, search and bind, at all servers
	// together. Where several servers are left to ask, each gets an equal share of what is left. 0: DefaultTimeout.
	Timeout time.Duration
	// AtOnce bounds the checks under way, each with at most two connections; Queue those that wait. 0: the defaults.
	AtOnce, Queue int
	// Pool is how many connections of the search identity are kept open at each server. 0: the default.
	Pool int

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: nothing is logged
}

// Directory is a login.Grouper on LDAP servers. It is used concurrently. Close ends it.
type Directory struct {
	o       Options
	servers []*server
	places  *places
	users   template // of Options.UserFilter; empty: by the kind of server
	groups  template // of Options.GroupFilter
	base    string   // of groups
	dialer  net.Dialer

	closing context.Context // done: Close was called
	close   context.CancelFunc

	mu     sync.Mutex
	closed bool           // nothing more may be begun
	work   sync.WaitGroup // what was begun, and what closes connections
}

// New checks the options and makes a Directory. It asks no server yet.
func New(o Options) (*Directory, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("ldap: %w", err)
	}
	d := &Directory{
		o:      o,
		places: newPlaces(o.AtOnce, o.Queue),
		base:   o.GroupBase,
		// A peer that vanished is found out within half a minute, also on connections that wait in the pool.
		dialer: net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}},
	}
	var err error
	if o.UserFilter != "" {
		if d.users, err = newTemplate(o.UserFilter, placeName); err != nil {
			return nil, fmt.Errorf("ldap: user filter: %w", err)
		}
	}
	if d.groups, err = newTemplate(o.GroupFilter, placeDN); err != nil {
		return nil, fmt.Errorf("ldap: group filter: %w", err)
	}
	seen := make(map[string]bool)
	for _, u := range o.URLs {
		s, err := newServer(u, &o)
		if err != nil {
			return nil, fmt.Errorf("ldap: url %q: %w", u, err)
		}
		if seen[s.address] {
			return nil, fmt.Errorf("ldap: url %q: %s is named twice", u, s.address)
		}
		seen[s.address] = true
		d.servers = append(d.servers, s)
	}
	d.closing, d.close = context.WithCancel(context.Background())
	return d, nil
}

// complete fills in the defaults and refuses what cannot work or must not be.
func (o *Options) complete() error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.AtOnce == 0 {
		o.AtOnce = DefaultAtOnce
	}
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.Pool == 0 {
		o.Pool = DefaultPool
	}
	if o.GroupBase == "" {
		o.GroupBase = o.Base
	}
	if o.GroupFilter == "" {
		o.GroupFilter = DefaultGroupFilter
	}
	switch {
	case len(o.URLs) == 0 || len(o.URLs) > maxURLs:
		return fmt.Errorf("%d urls: want 1 to %d", len(o.URLs), maxURLs)
	case o.StartTLS && o.InsecurePlaintext:
		return errors.New("both StartTLS and plaintext are asked for; hint: leave plaintext out")
	case o.Timeout < minTimeout || o.Timeout > maxTimeout:
		return fmt.Errorf("timeout is %v: want %v to %v", o.Timeout, minTimeout, maxTimeout)
	case o.AtOnce < 1 || o.AtOnce > maxAtOnce:
		return fmt.Errorf("at_once is %d: want 1 to %d", o.AtOnce, maxAtOnce)
	case o.Queue < 1 || o.Queue > maxQueue:
		return fmt.Errorf("queue is %d: want 1 to %d", o.Queue, maxQueue)
	case o.Pool < 1 || o.Pool > o.AtOnce:
		return fmt.Errorf("pool is %d: want 1 to at_once, which is %d", o.Pool, o.AtOnce)
	case o.BindDN != "" && o.BindPassword.Empty():
		// The server would take it for an anonymous bind (RFC 4513 section 5.1.2).
		return errors.New("a bind DN without a password; hint: give the password, or leave out both to search anonymously")
	case o.BindDN == "" && !o.BindPassword.Empty():
		return errors.New("a bind password without a bind DN; hint: name who has this password")
	case !o.Groups.valid():
		return fmt.Errorf("groups is %q: want one of %s", o.Groups, groupSources())
	}
	for _, dn := range []struct{ what, dn string }{{"base", o.Base}, {"group base", o.GroupBase}} {
		parsed, err := ldap.ParseDN(dn.dn)
		if err != nil {
			return fmt.Errorf("%s %q is no DN: %w; hint: for example ou=people,dc=example,dc=org", dn.what, dn.dn, err)
		}
		if len(parsed.RDNs) == 0 {
			return fmt.Errorf("%s is empty; hint: for example ou=people,dc=example,dc=org", dn.what)
		}
	}
	return nil
}

// tlsConfig verifies the server's certificate, always.
func (o *Options) tlsConfig(host string) *tls.Config {
	name := o.ServerName
	if name == "" {
		name = host
	}
	return &tls.Config{RootCAs: o.CAs, ServerName: name, MinVersion: tls.VersionTLS12, VerifyConnection: refuseTinyRSA}
}

// leastRSA is the least size, in bits, of an RSA key in a server's chain. crypto/rsa would hold the same floor by itself,
// but a program may lift it for SSH servers that are old (GODEBUG rsa1024min).
const leastRSA = 1024

func refuseTinyRSA(s tls.ConnectionState) error {
	for _, cert := range slices.Concat(append(s.VerifiedChains, s.PeerCertificates)...) {
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < leastRSA {
			return fmt.Errorf("an RSA key of %d bits in the server's chain: want at least %d", key.N.BitLen(), leastRSA)
		}
	}
	return nil
}

// Method is the word for the records.
func (*Directory) Method() string { return "ldap" }

// Close ends what is under way, closes all connections, and returns when all that d started has ended.
func (d *Directory) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.close()
	d.work.Wait()
	for _, s := range d.servers {
		s.drain()
	}
	return nil
}

// begin starts one piece of work with its deadline. After a nil error the caller calls end.
func (d *Directory) begin(ctx context.Context) (bounded context.Context, end func(), err error) {
	return d.beginFor(ctx, d.o.Timeout)
}

func (d *Directory) beginFor(ctx context.Context, within time.Duration) (bounded context.Context, end func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, nil, fmt.Errorf("%w: it is closed", login.ErrUnavailable)
	}
	d.work.Add(1)
	ctx, cancel := context.WithTimeout(ctx, within)
	stop := context.AfterFunc(d.closing, cancel)
	return ctx, func() {
		stop()
		cancel()
		d.work.Done()
	}, nil
}

// Probe asks whether logins can be judged: nil when at least one server lets the search identity in and read Base.
// Otherwise the error names each server and why not. It goes by what is known of servers that were put aside, so that
// it can be called often.
func (d *Directory) Probe(ctx context.Context) error {
	ctx, end, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	return d.ask(ctx, func(ctx context.Context, s *server) error {
		return d.asIdentity(ctx, s, func(ctx context.Context, c *conn) error {
			entries, _, err := c.search(ctx, &ldap.SearchRequest{
				BaseDN: d.o.Base, Scope: ldap.ScopeBaseObject, SizeLimit: 1,
				Filter: "(objectClass=*)", Attributes: []string{"1.1"}, // no attributes (RFC 4511 section 4.5.1.8)
			})
			if err == nil && len(entries) == 0 {
				err = errors.New("it is not there, or not for the search identity")
			}
			return d.ofBase(err)
		})
	})
}
