package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

// GroupSource is how the groups of a person are found.
type GroupSource string

const (
	// GroupsAuto is GroupsTokens where the server says that it is Active Directory. Elsewhere it is GroupsMemberOf and
	// GroupsFilter together.
	GroupsAuto GroupSource = ""
	// GroupsMemberOf reads memberOf of the person's entry, then of those groups, and so on.
	GroupsMemberOf GroupSource = "member-of"
	// GroupsFilter searches with Options.GroupFilter, for the person, then for those groups, and so on.
	GroupsFilter GroupSource = "filter"
	// GroupsTokens reads tokenGroups of Active Directory: all security groups, nested ones and the primary group among
	// them. It is the quick way there.
	GroupsTokens GroupSource = "token-groups"
	// GroupsInChain searches with LDAP_MATCHING_RULE_IN_CHAIN of Active Directory (MS-ADTS section 3.1.1.3.4.4.3):
	// distribution groups as well, but not the primary group. In a large domain it may take longer than anybody waits.
	GroupsInChain GroupSource = "in-chain"
	// GroupsOff asks for none.
	GroupsOff GroupSource = "off"
)

func (g GroupSource) valid() bool {
	switch g {
	case GroupsAuto, GroupsMemberOf, GroupsFilter, GroupsTokens, GroupsInChain, GroupsOff:
		return true
	}
	return false
}

func groupSources() string {
	all := []string{string(GroupsMemberOf), string(GroupsFilter), string(GroupsTokens), string(GroupsInChain), string(GroupsOff)}
	return strings.Join(all, ", ") + ", or nothing"
}

// The bounds of what one person's groups may come to.
const (
	// maxGroups is about where Active Directory ends: nobody with more than 1,015 security groups can log on there
	// (MaxTokenSize), and 1,000 entries is what it sends in answer to one search (MaxPageSize).
	maxGroups = 1000
	// maxNesting is in groups within groups.
	maxNesting = 16
	// batch is how many entries one search is about.
	batch = 100
)

// ErrTooManyGroups: a person's groups pass a bound. None are given then: with some of them missing, a looser rule might
// decide than the one that is meant.
var ErrTooManyGroups = errors.New("too many groups")

const hintGroups = "narrow the group base, or name a group filter that finds fewer"

// Groups implements login.Grouper. Each group is given by its cn and by its DN. Nobody, somebody who is not in the
// directory, and somebody whose account there is barred have none. With an error there are none either.
func (d *Directory) Groups(ctx context.Context, person string) ([]string, error) {
	if d.o.Groups == GroupsOff {
		return nil, nil
	}
	ctx, end, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	give, err := d.places.take(ctx, "")
	if err != nil {
		return nil, err
	}
	defer give()

	name := person
	if !searchable(name) {
		name = nobody()
	}
	var names []string
	err = d.ask(ctx, func(ctx context.Context, s *server) error {
		return d.asIdentity(ctx, s, func(ctx context.Context, c *conn) (err error) {
			names, err = d.groupsOf(ctx, c, name)
			return err
		})
	})
	if err != nil {
		d.o.Log.Warn("ldap: groups could not be read", "person", person, "why", err.Error())
		return nil, err
	}
	if person == "" {
		return nil, nil
	}
	return names, nil
}

// groupsOf asks one server. For nobody as much is searched for as for somebody who is in no group.
func (d *Directory) groupsOf(ctx context.Context, c *conn, name string) ([]string, error) {
	attributes := append(stateAttributes(), "memberOf", "uid")
	person, err := d.find(ctx, c, name, attributes...)
	if errors.Is(err, errAmbiguous) {
		return nil, unusable{err, hintAmbiguous}
	}
	if err != nil {
		return nil, err
	}
	known := person != nil
	if person != nil {
		if bar := barred(person, d.o.Now()); bar != "" {
			d.o.Log.Info("ldap: no groups", "person", name, "why", bar)
			known = false
		}
	}
	if !known {
		person = &ldap.Entry{DN: nobodyBelow(d.o.Base)}
	}
	w := &walk{d: d, c: c, seen: make(map[string]bool), name: name}
	for _, uid := range person.GetEqualFoldAttributeValues("uid") {
		if strings.EqualFold(uid, name) {
			w.name = uid // memberUid is compared with regard to case (RFC 2307 section 2.3)
		}
	}
	if err := w.from(ctx, person, known); err != nil {
		var f *fault
		if errors.As(err, &f) && f.timed {
			// The server has answered for this person before, so it is not to be put aside for everybody.
			return nil, unusable{fmt.Errorf("groups: %w", f.err), hintGroups}
		}
		return nil, err
	}
	if !known {
		return nil, nil
	}
	return w.names, nil
}

// walk goes from a person's entry through the groups, level by level.
type walk struct {
	d    *Directory
	c    *conn
	name string

	seen  map[string]bool // DNs in lower case: groups that were found, and those that memberOf promised
	found int
	names []string
}

func (w *walk) from(ctx context.Context, person *ldap.Entry, known bool) error {
	source := w.d.o.Groups
	if source == GroupsAuto && w.c.ad {
		source = GroupsTokens
	}
	switch source {
	case GroupsTokens:
		return w.tokens(ctx, person.DN, known)
	case GroupsInChain:
		_, err := w.search(ctx, "(&(objectClass=group)"+equals("member:1.2.840.113556.1.4.1941:", person.DN)+")")
		return err
	}
	if !known {
		// What is searched for somebody in groups that are in no others.
		if _, err := w.search(ctx, w.d.groups.fill(nobody(), nobodyBelow(w.d.base))); err != nil {
			return err
		}
	}
	return w.levels(ctx, person, source != GroupsMemberOf, source != GroupsFilter)
}

// levels follows memberships in rounds, one or a few searches each.
func (w *walk) levels(ctx context.Context, person *ldap.Entry, byFilter, byMemberOf bool) error {
	dnAttribute := "entryDN" // RFC 5020
	if w.c.ad {
		dnAttribute = "distinguishedName"
	}
	name := w.name
	entries := []*ldap.Entry{person}
	for level := 0; len(entries) > 0; level++ {
		if level > maxNesting {
			return w.tooMany("they are nested deeper than %d", maxNesting)
		}
		var filters []string
		for _, e := range entries {
			if byFilter {
				filters = append(filters, w.d.groups.fill(name, e.DN))
			}
			if !byMemberOf {
				continue
			}
			parents, err := w.memberOf(e)
			if err != nil {
				return err
			}
			for _, dn := range parents {
				filters = append(filters, equals(dnAttribute, dn))
			}
		}
		if len(filters) == 0 && level == 0 {
			filters = []string{equals(dnAttribute, nobodyBelow(w.d.base))}
		}
		name = nobody() // only the person is a member by name
		entries = nil
		for len(filters) > 0 {
			n := min(batch, len(filters))
			groups, err := w.search(ctx, anyOf(filters[:n]))
			if err != nil {
				return err
			}
			entries = append(entries, groups...)
			filters = filters[n:]
		}
	}
	return nil
}

// memberOf returns the groups that an entry says it is in, as far as they are new.
func (w *walk) memberOf(e *ldap.Entry) ([]string, error) {
	var parents []string
	for _, a := range e.Attributes {
		name, option, _ := strings.Cut(a.Name, ";")
		if !strings.EqualFold(name, "memberOf") {
			continue
		}
		if option != "" { // Active Directory gives many values in ranges (MS-ADTS section 3.1.1.3.1.3.3)
			return nil, w.tooMany("%s has more values than fit into one answer", foreign(e.DN))
		}
		for _, dn := range a.Values {
			if key := "of:" + strings.ToLower(dn); !w.seen[key] {
				w.seen[key] = true
				parents = append(parents, dn)
			}
		}
	}
	if len(w.seen) > 2*maxGroups {
		return nil, w.tooMany("more than %d", maxGroups)
	}
	return parents, nil
}

// search finds groups, and returns those that are new.
func (w *walk) search(ctx context.Context, filter string) ([]*ldap.Entry, error) {
	entries, more, err := w.c.search(ctx, &ldap.SearchRequest{
		BaseDN: w.d.base, Scope: ldap.ScopeWholeSubtree, SizeLimit: maxGroups + 1, Filter: filter, Attributes: []string{"cn", "memberOf"},
	})
	if err != nil {
		if r := asResult(err); r != nil && !isFault(err) {
			return nil, unusable{fmt.Errorf("groups below %q: %w", w.d.base, err), "check the group base, the group filter, and what the search identity may read"}
		}
		return nil, err
	}
	if more {
		return nil, w.tooMany("more than %d, or than the server gives to the search identity", maxGroups)
	}
	var groups []*ldap.Entry
	for _, e := range entries {
		key := strings.ToLower(e.DN)
		if w.seen[key] {
			continue
		}
		w.seen[key] = true
		if w.found++; w.found > maxGroups {
			return nil, w.tooMany("more than %d", maxGroups)
		}
		w.names = append(w.names, e.DN)
		w.names = append(w.names, e.GetEqualFoldAttributeValues("cn")...)
		groups = append(groups, e)
	}
	return groups, nil
}

// tokens reads tokenGroups, which only a search for one entry may (MS-ADTS section 3.1.1.4.5.19), and finds the groups
// by these SIDs. Groups of other domains, and those outside the group base, are not found.
func (w *walk) tokens(ctx context.Context, dn string, known bool) error {
	entries, _, err := w.c.search(ctx, &ldap.SearchRequest{
		BaseDN: dn, Scope: ldap.ScopeBaseObject, SizeLimit: 1, Filter: "(objectClass=*)", Attributes: []string{"tokenGroups"},
	})
	if r := asResult(err); r != nil && !isFault(err) && !known {
		err = nil
	}
	if err != nil {
		if asResult(err) != nil && !isFault(err) {
			err = unusable{fmt.Errorf("tokenGroups: %w", err), hintTokens}
		}
		return err
	}
	var sids [][]byte
	for _, e := range entries {
		sids = append(sids, e.GetEqualFoldRawAttributeValues("tokenGroups")...)
	}
	switch {
	case !known:
		sids = [][]byte{[]byte("sallyport-nobody")}
	case len(sids) == 0: // there is always the primary group
		return unusable{errors.New("tokenGroups cannot be read"), hintTokens}
	case len(sids) > maxGroups+batch: // built-in ones and those of other domains among them
		return w.tooMany("more than %d", maxGroups)
	}
	for len(sids) > 0 {
		n := min(batch, len(sids))
		filters := make([]string, n)
		for i, sid := range sids[:n] {
			filters[i] = bytesEqual("objectSid", sid)
		}
		if _, err := w.search(ctx, "(&(objectClass=group)"+anyOf(filters)+")"); err != nil {
			return err
		}
		sids = sids[n:]
	}
	return nil
}

const hintTokens = `let the search identity read it (the group "Windows Authorization Access Group"), or find groups by another way`

func (w *walk) tooMany(format string, args ...any) error {
	return unusable{fmt.Errorf("%w: "+format, append([]any{ErrTooManyGroups}, args...)...), hintGroups}
}

var _ login.Grouper = (*Directory)(nil)
