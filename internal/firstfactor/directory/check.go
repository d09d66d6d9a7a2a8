package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

// errAmbiguous: a name finds more than one entry. Whose password would count is anybody's guess, so nobody's does.
var errAmbiguous = errors.New("more than one entry has this name")

const hintAmbiguous = "narrow base or the user filter until each name finds one entry"

// Check implements login.FirstFactor. Whoever asks, one search and one bind are made; a stranger's bind is that of an
// entry that cannot exist.
func (d *Directory) Check(ctx context.Context, q login.Question) (login.Answer, error) {
	ctx, end, err := d.begin(ctx)
	if err != nil {
		return login.Answer{}, err
	}
	defer end()
	give, err := d.places.take(ctx, q.Origin)
	if err != nil {
		return login.Answer{}, err
	}
	defer give()

	t := trialOf(q)
	var why string // empty: the password is the person's
	err = d.ask(ctx, func(ctx context.Context, s *server) (err error) {
		why, err = d.check(ctx, s, t)
		return err
	})
	switch {
	case err != nil:
		d.o.Log.Warn("ldap: a password could not be checked", "person", q.Person, "why", err.Error())
		return login.Answer{}, err
	case why != "":
		if q.Person != "" {
			d.o.Log.Info("ldap: refused", "person", q.Person, "why", why)
		}
		return login.Answer{}, fmt.Errorf("%w: %s", login.ErrWrong, why)
	}
	return login.Answer{}, nil
}

// trial is what a question comes to: a name to look for, a password to bind with, and whether that can succeed.
type trial struct {
	name     string
	password string // never empty
	hopeless string // why it can only fail; empty: it is a person's
}

func trialOf(q login.Question) trial {
	t := trial{name: q.Person, password: q.Password.Reveal()}
	switch {
	case q.Person == "":
		t.name, t.hopeless = q.Name, "nobody who may log in"
	case q.Evidence != nil:
		t.hopeless = fmt.Sprintf("evidence of type %T cannot be checked by a bind; hint: CHAP and MS-CHAP need another first factor", q.Evidence)
	case q.More != nil:
		t.hopeless = "a directory asks no further questions"
	case t.password == "":
		// The server might take it for an anonymous bind (RFC 4513 section 5.1.2), and say yes to anybody.
		t.hopeless = "the password is empty"
	case len(t.password) > login.MaxSecret:
		t.hopeless = fmt.Sprintf("the password has more than %d bytes", login.MaxSecret)
	case strings.ContainsRune(t.password, 0):
		// To a server written in C it may end there, and be empty.
		t.hopeless = "the password has a NUL byte"
	}
	if t.hopeless != "" && (t.password == "" || len(t.password) > login.MaxSecret || strings.ContainsRune(t.password, 0)) {
		t.password = nobody()
	}
	if !searchable(t.name) {
		t.name = nobody()
	}
	return t
}

// searchable keeps away from servers what no name holds, and what some of them choke on.
func searchable(name string) bool {
	return name != "" && len(name) <= login.MaxName && utf8.ValidString(name) && strings.IndexFunc(name, unicode.IsControl) < 0
}

// nobody is a name that nobody has.
func nobody() string { return "sallyport-nobody-" + rand.Text() }

// nobodyBelow is the DN of an entry that cannot exist.
func nobodyBelow(base string) string { return "cn=" + nobody() + "," + base }

// check makes the trial at one server, and returns why it failed, or nothing.
func (d *Directory) check(ctx context.Context, s *server, t trial) (why string, err error) {
	var found *ldap.Entry
	err = d.asIdentity(ctx, s, func(ctx context.Context, c *conn) (err error) {
		found, err = d.find(ctx, c, t.name, stateAttributes()...)
		return err
	})
	switch {
	case errors.Is(err, errAmbiguous):
		found, why = nil, hinted(errAmbiguous.Error(), hintAmbiguous)
	case err != nil:
		return "", err
	case found == nil:
		why = "no entry has this name"
	}
	if t.hopeless != "" {
		found, why = nil, t.hopeless
	}

	dn := nobodyBelow(d.o.Base)
	if found != nil {
		dn = found.DN
	}
	c, err := d.dial(ctx, s)
	if err != nil {
		return "", err
	}
	defer d.release(c)
	// The control asks an OpenLDAP for its reasons; others do not mind it.
	controls, err := c.bind(ctx, dn, t.password, ldap.NewControlBeheraPasswordPolicy())
	r := asResult(err)
	switch {
	case err != nil && (r == nil || isFault(err)):
		return "", err
	case found == nil:
		return why, nil // whatever the server says
	case r != nil:
		return refused(r, controls)
	}
	if bar := barred(found, d.o.Now()); bar != "" {
		return bar, nil
	}
	return policyError(controls), nil
}

// find looks for the one entry of a name; nil: there is none.
func (d *Directory) find(ctx context.Context, c *conn, name string, attributes ...string) (*ldap.Entry, error) {
	filter := d.users
	if filter == "" {
		filter = DefaultFilter
		if c.ad {
			filter = DefaultFilterAD
		}
	}
	entries, more, err := c.search(ctx, &ldap.SearchRequest{
		BaseDN: d.o.Base, Scope: ldap.ScopeWholeSubtree, SizeLimit: 2, Filter: filter.fill(name, ""), Attributes: attributes,
	})
	switch {
	case err != nil:
		return nil, d.ofBase(err)
	case len(entries) > 1 || more:
		return nil, errAmbiguous
	case len(entries) == 0:
		return nil, nil
	case entries[0].DN == "":
		return nil, unusable{errors.New("the entry that was found has no DN"), ""}
	}
	return entries[0], nil
}

// ofBase says what to do when people cannot be searched for.
func (d *Directory) ofBase(err error) error {
	r := asResult(err)
	if err == nil || isFault(err) || asUnusable(err) {
		return err
	}
	err = fmt.Errorf("search below %q: %w", d.o.Base, err)
	switch {
	case r == nil:
		return &fault{err: err, hint: hintBase, aside: asideFor}
	case r.code == ldap.LDAPResultNoSuchObject:
		return &fault{err: err, hint: hintBase, aside: asideFor}
	case r.code == ldap.LDAPResultReferral:
		return &fault{err: err, hint: hintReferral, aside: asideFor}
	case r.code == ldap.LDAPResultOperationsError && d.o.BindDN == "":
		// Active Directory lets nobody search without a bind.
		return unusable{err, "this directory wants a bind DN and its password"}
	}
	return unusable{err, ""}
}

const hintBase = "check base, and what the search identity may read"

func asUnusable(err error) bool {
	var u unusable
	return errors.As(err, &u)
}
