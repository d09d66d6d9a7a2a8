package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/internal/config"
	"sallyport/internal/firstfactor"
	"sallyport/internal/firstfactor/directory"
	"sallyport/internal/firstfactor/upstream"
	"sallyport/internal/login"
	"sallyport/radiusd/attr"
)

// The first factors that people can have, as configuration and commands name them.
const (
	firstLocal  = "local"
	firstLDAP   = "ldap"
	firstRADIUS = "radius"
)

// firstNames are those that a configuration sets up.
func firstNames(cfg *config.Config) []string {
	names := []string{firstLocal}
	if cfg.Login.LDAP != nil {
		names = append(names, firstLDAP)
	}
	if cfg.Login.RADIUS != nil {
		names = append(names, firstRADIUS)
	}
	return names
}

// firsts are those that verbs may give to people.
func (a *app) firsts() []string { return firstNames(a.config()) }

// doors are the first factors of a running gateway. What a reload leaves as it was stays open; what it replaces is closed
// when the logins that ask it have ended. It is safe for concurrent use.
type doors struct {
	app *app
	log *slog.Logger

	mu        sync.Mutex
	local     *firstfactor.Local
	cost      firstfactor.Cost
	directory *directory.Directory
	ldap      *config.LDAP
	ca        string // what was in its file of authorities
	upstream  *upstream.Upstream
	radius    *config.Upstream
	work      sync.WaitGroup // closing what was replaced
}

// taken is how many bytes checks of passwords have taken, about.
func (d *doors) taken() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.local.Taken()
}

// prepared is a change of the doors that can't fail any more.
type prepared struct {
	commit func()
	undo   func()
}

// prepare opens what cfg wants and isn't open. One of commit and undo is to be called.
func (d *doors) prepare(cfg *config.Config) (prepared, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := doors{local: d.local, cost: passwordCost(cfg), directory: d.directory, upstream: d.upstream, ldap: cfg.Login.LDAP, radius: cfg.Login.RADIUS}
	var opened []func()
	undo := func() {
		for _, closeIt := range opened {
			closeIt()
		}
	}
	var err error
	if d.local == nil || next.cost != d.cost {
		if next.local, err = firstfactor.NewLocal(d.app.store, next.cost); err != nil {
			return prepared{}, err
		}
	}
	if next.ca, err = caText(next.ldap); err != nil {
		return prepared{}, err
	}
	if next.ca != d.ca || !reflect.DeepEqual(next.ldap, d.ldap) {
		if next.directory = nil; next.ldap != nil {
			if next.directory, err = openDirectory(next.ldap, next.ca, d.log); err != nil {
				return prepared{}, err
			}
			opened = append(opened, func() { _ = next.directory.Close() })
		}
	}
	if !reflect.DeepEqual(next.radius, d.radius) {
		if next.upstream = nil; next.radius != nil {
			if next.upstream, err = openUpstream(next.radius, cfg.Node, d.log); err != nil {
				undo()
				return prepared{}, err
			}
			opened = append(opened, next.upstream.Close)
		}
	}
	return prepared{commit: func() { d.commit(cfg, &next) }, undo: undo}, nil
}

func (d *doors) commit(cfg *config.Config, next *doors) {
	d.mu.Lock()
	defer d.mu.Unlock()
	by := map[string]login.FirstFactor{firstLocal: next.local}
	if next.directory != nil {
		by[firstLDAP] = next.directory
	}
	if next.upstream != nil {
		by[firstRADIUS] = next.upstream
	}
	d.app.gate.SetFirstFactors(cfg.Login.FirstFactor, by)
	if old := d.directory; old != nil && old != next.directory {
		d.retire(d.ldap.Timeout, func() { _ = old.Close() })
	}
	if old := d.upstream; old != nil && old != next.upstream {
		d.retire(d.radius.Timeout, old.Close)
	}
	d.local, d.cost, d.directory, d.ldap, d.ca, d.upstream, d.radius = next.local, next.cost, next.directory, next.ldap, next.ca, next.upstream, next.radius
}

// retire closes what nobody is sent to any more, when those who were have their answers. The caller holds d.mu.
func (d *doors) retire(after time.Duration, closeIt func()) {
	d.work.Add(1)
	time.AfterFunc(after, func() {
		defer d.work.Done()
		closeIt()
	})
}

// close ends all.
func (d *doors) close() {
	d.mu.Lock()
	dir, up := d.directory, d.upstream
	d.mu.Unlock()
	if dir != nil {
		_ = dir.Close()
	}
	if up != nil {
		up.Close()
	}
	d.work.Wait()
}

// standings tells of each first factor that is elsewhere whether it can be asked.
func (d *doors) standings(ctx context.Context) []FirstStanding {
	d.mu.Lock()
	dir, up, ldap, radius := d.directory, d.upstream, d.ldap, d.radius
	d.mu.Unlock()
	var all []FirstStanding
	say := func(name string, servers []string, err error) {
		s := FirstStanding{Name: name, Servers: servers, Open: err == nil}
		if err != nil {
			s.Reason = err.Error()
		}
		all = append(all, s)
	}
	if dir != nil {
		say(firstLDAP, ldap.URLs, dir.Probe(ctx))
	}
	if up != nil {
		say(firstRADIUS, radius.Servers, up.Probe(ctx))
	}
	return all
}

// FirstStanding tells whether a first factor that is elsewhere can be asked.
type FirstStanding struct {
	Name    string   `json:"name"`
	Servers []string `json:"servers"`
	Open    bool     `json:"open"`
	Reason  string   `json:"reason,omitempty"`
}

func caText(l *config.LDAP) (string, error) {
	if l == nil || l.CA == "" {
		return "", nil
	}
	text, err := os.ReadFile(l.CA)
	if err != nil {
		return "", hintf("a file with the certificates of those who signed the servers' ones, in PEM", "login.ldap.ca: %w", err)
	}
	return string(text), nil
}

// groupSources are the words that login.ldap.groups takes beside a filter and a DN.
var groupSources = []directory.GroupSource{
	directory.GroupsMemberOf, directory.GroupsFilter, directory.GroupsTokens, directory.GroupsInChain, directory.GroupsOff,
}

// directoryOptions turns the configuration's block into what the directory wants.
func directoryOptions(l *config.LDAP, ca string) (directory.Options, error) {
	o := directory.Options{
		URLs: l.URLs, StartTLS: l.StartTLS, ServerName: l.ServerName, Base: l.Base, BindDN: l.BindDN,
		BindPassword: login.NewSecret(string(l.Secret.Bytes())), UserFilter: l.User, Timeout: l.Timeout, AtOnce: l.AtOnce, GroupBase: l.GroupBase,
	}
	switch {
	case strings.HasPrefix(l.Groups, "("):
		o.Groups, o.GroupFilter = directory.GroupsFilter, l.Groups
	case slices.Contains(groupSources, directory.GroupSource(l.Groups)):
		o.Groups = directory.GroupSource(l.Groups)
	case strings.Contains(l.Groups, "=") && l.GroupBase == "":
		o.GroupBase = l.Groups
	case l.Groups != "":
		return o, fmt.Errorf("login.ldap.groups: %q is neither a filter in brackets, nor a DN, nor one of %v", l.Groups, groupSources)
	}
	if ca != "" {
		o.CAs = x509.NewCertPool()
		if !o.CAs.AppendCertsFromPEM([]byte(ca)) {
			return o, fmt.Errorf("login.ldap.ca: %s: %w", l.CA, errNoCertificate)
		}
	}
	return o, nil
}

func openDirectory(l *config.LDAP, ca string, log *slog.Logger) (*directory.Directory, error) {
	o, err := directoryOptions(l, ca)
	if err != nil {
		return nil, err
	}
	o.Log = log.With("part", "ldap")
	d, err := directory.New(o)
	if err != nil {
		return nil, fmt.Errorf("login.%w", err)
	}
	return d, nil
}

// relayed are the attributes that login.radius.relay names.
func relayed(names []string) (map[attr.Known]bool, error) {
	all := make(map[attr.Known]bool, len(names))
	var errs []error
	for _, name := range names {
		known, err := attr.Find(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("login.radius.relay: %w", err))
			continue
		}
		all[attr.Known{Vendor: known.Vendor, Type: known.Type}] = true
	}
	return all, errors.Join(errs...)
}

func openUpstream(u *config.Upstream, node string, log *slog.Logger) (*upstream.Upstream, error) {
	relay, err := relayed(u.Relay)
	if err != nil {
		return nil, err
	}
	o := upstream.Options{
		Secret: u.Secret.Bytes(), Timeout: u.Timeout, AtOnce: u.AtOnce, NASIdentifier: node, Now: time.Now, Log: log.With("part", "upstream"),
		Relay: func(vendor uint32, t byte) bool { return relay[attr.Known{Vendor: vendor, Type: t}] },
	}
	for _, server := range u.Servers {
		o.Servers = append(o.Servers, upstream.Server{Address: server, InsecureAcceptUnsigned: !u.RequireMessageAuthenticator})
	}
	up, err := upstream.New(o)
	if err != nil {
		return nil, fmt.Errorf("login.radius: %w", err)
	}
	return up, nil
}

// checkFirsts finds what is wrong with the first factors, without asking anybody.
func checkFirsts(cfg *config.Config) error {
	var errs []error
	if l := cfg.Login.LDAP; l != nil {
		ca, err := caText(l)
		if err == nil {
			var d *directory.Directory
			if d, err = openDirectory(l, ca, slog.New(slog.DiscardHandler)); err == nil {
				err = errors.Join(d.Close(), checkSync(l.Sync))
			}
		}
		errs = append(errs, err)
	}
	if u := cfg.Login.RADIUS; u != nil {
		up, err := openUpstream(u, cfg.Node, slog.New(slog.DiscardHandler))
		if err == nil {
			up.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
