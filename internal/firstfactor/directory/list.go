package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// The filters by which people are listed in configurations that name none. They find what DefaultFilterAD and DefaultFilter find.
const (
	DefaultListAD = "(&(objectClass=user)(!(objectClass=computer)))"
	DefaultList   = "(uid=*)"
)

// Bounds of a list.
const (
	pageSize = 200 // entries of one answer; Active Directory gives 1,000 at most (MaxPageSize)
	// maxListed bounds the people of a list, and the members of a group.
	maxListed = 200_000
	// listWithin bounds the time for a whole list; each answer has Options.Timeout.
	listWithin = 10 * time.Minute
)

// ErrPartial: the directory did not give all. Nobody is taken to have left then.
var ErrPartial = errors.New("the list is not whole")

// Listed is somebody in the directory.
type Listed struct {
	Name     string // sAMAccountName or uid, in lower case
	DN       string
	FullName string
	Mail     string
	Barred   string    // why the account may not be used, for good; empty: it may
	Changed  time.Time // when the entry was changed last; zero: it does not say
	Groups   []string  // those of ListOptions.Groups that he is in, nested ones too
}

// ListOptions say what is listed.
type ListOptions struct {
	Filter string   // empty: by the kind of server
	Groups []string // names (cn) or DNs of groups to look for
}

// CheckFilter tells what is wrong with a filter of ListOptions.
func CheckFilter(filter string) error {
	if _, err := ldap.CompileFilter(filter); err != nil || !oneFilter(filter) {
		return fmt.Errorf("%s: want one filter in one pair of brackets", filter)
	}
	return nil
}

// List reads everybody that the filter finds below Options.Base. It is all of them, or an error: one page that fails, a bound of the
// server's, a group that is not there.
func (d *Directory) List(ctx context.Context, o ListOptions) ([]Listed, error) {
	ctx, end, err := d.beginFor(ctx, listWithin)
	if err != nil {
		return nil, err
	}
	defer end()
	var list []Listed
	err = d.ask(ctx, func(ctx context.Context, s *server) error {
		return d.asIdentity(ctx, s, func(ctx context.Context, c *conn) (err error) {
			list, err = d.listBy(ctx, c, o)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (d *Directory) listBy(ctx context.Context, c *conn, o ListOptions) ([]Listed, error) {
	filter, nameAttribute := o.Filter, "uid"
	if c.ad {
		nameAttribute = "sAMAccountName"
	}
	if filter == "" {
		filter = DefaultList
		if c.ad {
			filter = DefaultListAD
		}
	}
	attributes := []string{nameAttribute, "cn", "displayName", "mail", "whenChanged", "modifyTimestamp"}
	for _, a := range stateAttributes() {
		if a != "pwdReset" { // who has to change his password has not left
			attributes = append(attributes, a)
		}
	}
	var list []Listed
	at := make(map[string]int) // by DN
	now := d.o.Now()
	err := d.pages(ctx, c, &ldap.SearchRequest{BaseDN: d.o.Base, Scope: ldap.ScopeWholeSubtree, Filter: filter, Attributes: attributes}, func(e *ldap.Entry) error {
		if len(list) >= maxListed {
			return unusable{fmt.Errorf("%w: more than %d people", ErrPartial, maxListed), "narrow base or the filter of the sync"}
		}
		name := e.GetEqualFoldAttributeValue(nameAttribute)
		full := e.GetEqualFoldAttributeValue("displayName")
		if full == "" {
			full = e.GetEqualFoldAttributeValue("cn")
		}
		at[foldDN(e.DN)] = len(list)
		list = append(list, Listed{
			Name: strings.ToLower(name), DN: e.DN, FullName: full, Mail: e.GetEqualFoldAttributeValue("mail"),
			Barred: barred(e, now), Changed: changed(e),
		})
		return nil
	})
	if err != nil {
		return nil, d.ofBase(err)
	}
	names := make(map[string]int, len(list))
	for i := range list {
		names[list[i].Name] = i
	}
	for _, group := range o.Groups {
		members, err := d.membersOf(ctx, c, group, filter)
		if err != nil {
			return nil, err
		}
		in := make(map[int]bool)
		for dn := range members.dns {
			if i, ok := at[dn]; ok {
				in[i] = true
			}
		}
		for name := range members.names {
			if i, ok := names[name]; ok {
				in[i] = true
			}
		}
		for i := range in {
			list[i].Groups = append(list[i].Groups, group)
		}
	}
	return list, nil
}

// pages reads a search page by page (RFC 2696), and calls fn for each entry.
func (d *Directory) pages(ctx context.Context, c *conn, r *ldap.SearchRequest, fn func(*ldap.Entry) error) error {
	r.DerefAliases = ldap.NeverDerefAliases
	paging := ldap.NewControlPaging(pageSize)
	r.Controls = []ldap.Control{paging}
	for {
		var found *ldap.SearchResult
		bounded, cancel := context.WithTimeout(ctx, d.o.Timeout)
		err := c.ask(bounded, func() (err error) {
			found, err = c.ldap.Search(r)
			return err
		})
		cancel()
		if x := asResult(err); x != nil && (x.code == ldap.LDAPResultSizeLimitExceeded || x.code == ldap.LDAPResultTimeLimitExceeded || x.code == ldap.LDAPResultAdminLimitExceeded) {
			return unusable{fmt.Errorf("%w: %w", ErrPartial, x), "raise the server's limit for the search identity, or narrow base or the filter of the sync"}
		}
		if err != nil {
			return err
		}
		for _, e := range found.Entries {
			if err := fn(e); err != nil {
				c.spoilt = true // the rest of the pages is not asked for
				return err
			}
		}
		answer, ok := ldap.FindControl(found.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(answer.Cookie) == 0 {
			return nil // all of it; a server that knows no pages has given it at once
		}
		paging.SetCookie(answer.Cookie)
	}
}

// members are those of a group, by DN and, in a posixGroup, by name.
type members struct{ dns, names map[string]bool }

// membersOf finds who is in a group, also by way of other groups.
func (d *Directory) membersOf(ctx context.Context, c *conn, group, people string) (*members, error) {
	m := &members{dns: make(map[string]bool), names: make(map[string]bool)}
	e, err := d.groupEntry(ctx, c, group)
	if err != nil {
		return nil, err
	}
	if c.ad {
		filter := "(&" + people + equals("memberOf:1.2.840.113556.1.4.1941:", e.DN) + ")"
		err := d.pages(ctx, c, &ldap.SearchRequest{BaseDN: d.o.Base, Scope: ldap.ScopeWholeSubtree, Filter: filter, Attributes: []string{"1.1"}}, func(e *ldap.Entry) error {
			m.dns[foldDN(e.DN)] = true
			return nil
		})
		if err != nil {
			return nil, d.ofBase(err)
		}
		return m, nil
	}
	seen := map[string]bool{foldDN(e.DN): true}
	level := []*ldap.Entry{e}
	for depth := 0; len(level) > 0; depth++ {
		if depth > maxNesting {
			return nil, unusable{fmt.Errorf("group %q: nested deeper than %d", group, maxNesting), hintGroups}
		}
		var next []*ldap.Entry
		for _, g := range level {
			for _, name := range g.GetEqualFoldAttributeValues("memberUid") {
				m.names[strings.ToLower(name)] = true
			}
			for _, dn := range append(g.GetEqualFoldAttributeValues("member"), g.GetEqualFoldAttributeValues("uniqueMember")...) {
				m.dns[foldDN(dn)] = true
			}
			if len(m.dns)+len(m.names) > maxListed {
				return nil, unusable{fmt.Errorf("group %q: more than %d members", group, maxListed), hintGroups}
			}
			inner, err := d.innerGroups(ctx, c, g, seen)
			if err != nil {
				return nil, err
			}
			next = append(next, inner...)
		}
		level = next
	}
	return m, nil
}

// innerGroups are the groups among a group's members. They are found as those that say so of themselves: a search by each member would be
// one for each person.
func (d *Directory) innerGroups(ctx context.Context, c *conn, g *ldap.Entry, seen map[string]bool) (inner []*ldap.Entry, err error) {
	within := make(map[string]bool)
	for _, dn := range append(g.GetEqualFoldAttributeValues("member"), g.GetEqualFoldAttributeValues("uniqueMember")...) {
		within[foldDN(dn)] = true
	}
	if len(within) == 0 {
		return nil, nil
	}
	err = d.pages(ctx, c, &ldap.SearchRequest{
		BaseDN: d.base, Scope: ldap.ScopeWholeSubtree, Filter: groupClasses, Attributes: []string{"1.1"},
	}, func(e *ldap.Entry) error {
		if dn := foldDN(e.DN); within[dn] && !seen[dn] {
			if len(seen) > maxGroups {
				return unusable{fmt.Errorf("%w: more than %d within one", ErrTooManyGroups, maxGroups), hintGroups}
			}
			seen[dn] = true
			inner = append(inner, e)
		}
		return nil
	})
	if err != nil {
		return nil, d.ofGroups(err)
	}
	for i, e := range inner {
		if inner[i], err = d.groupEntry(ctx, c, e.DN); err != nil {
			return nil, err
		}
	}
	return inner, nil
}

// groupClasses finds groups of every common class.
const groupClasses = "(|(objectClass=group)(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))"

// groupEntry reads one group, by DN or by name.
func (d *Directory) groupEntry(ctx context.Context, c *conn, group string) (*ldap.Entry, error) {
	r := &ldap.SearchRequest{
		BaseDN: d.base, Scope: ldap.ScopeWholeSubtree, SizeLimit: 2, Filter: "(&" + groupClasses + equals("cn", group) + ")",
		Attributes: []string{"member", "uniqueMember", "memberUid"},
	}
	if c.ad {
		r.Attributes = []string{"1.1"}
	}
	if strings.Contains(group, "=") {
		if _, err := ldap.ParseDN(group); err != nil {
			return nil, unusable{fmt.Errorf("group %q is no DN: %w", group, err), ""}
		}
		r.BaseDN, r.Scope, r.Filter = group, ldap.ScopeBaseObject, groupClasses
	}
	entries, more, err := c.search(ctx, r)
	switch {
	case err != nil:
		return nil, d.ofGroups(fmt.Errorf("group %q: %w", group, err))
	case len(entries) == 0:
		return nil, unusable{fmt.Errorf("%w: there is no group %q below %q", ErrPartial, group, d.base), "correct login.ldap.sync.groups, or what the search identity may read"}
	case len(entries) > 1 || more:
		return nil, unusable{fmt.Errorf("there is more than one group %q below %q", group, d.base), "name it by its DN"}
	}
	return entries[0], nil
}

// ofGroups says what to do when groups cannot be read.
func (d *Directory) ofGroups(err error) error {
	if r := asResult(err); r != nil && !isFault(err) && !asUnusable(err) {
		return unusable{err, "check login.ldap.sync.groups, the group base, and what the search identity may read"}
	}
	return err
}

// foldDN writes a DN so that equal ones are equal text.
func foldDN(dn string) string {
	parsed, err := ldap.ParseDN(dn)
	if err != nil {
		return strings.ToLower(dn)
	}
	return strings.ToLower(parsed.String())
}

// changed is when an entry was changed last (RFC 4517 section 3.3.13, generalized time).
func changed(e *ldap.Entry) time.Time {
	for _, attribute := range []string{"whenChanged", "modifyTimestamp"} {
		text := e.GetEqualFoldAttributeValue(attribute)
		for _, layout := range []string{"20060102150405Z", "20060102150405.999999999Z"} {
			if t, err := time.Parse(layout, text); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}
