package directory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

// listed is a list by name.
func listed(t *testing.T, d *Directory, o ListOptions) map[string]Listed {
	t.Helper()
	list, err := d.List(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]Listed)
	for _, x := range list {
		if _, twice := all[x.Name]; twice && x.Name != "" {
			t.Errorf("%s is listed twice", x.Name)
		}
		slices.Sort(x.Groups)
		all[x.Name] = x
	}
	return all
}

func wantIn(t *testing.T, all map[string]Listed, name string, groups ...string) {
	t.Helper()
	x, there := all[name]
	if !there || !slices.Equal(x.Groups, groups) {
		t.Errorf("%s (there: %v) is in %q, want %q", name, there, x.Groups, groups)
	}
}

func bulk(n int) (all []entry) {
	for i := range n {
		name := fmt.Sprintf("bulk%04d", i)
		all = append(all, entry{"uid=" + name + "," + people, map[string][]string{"objectClass": {"inetOrgPerson"}, "uid": {name}, "cn": {name}, "sn": {name}}})
	}
	return all
}

// TestListOpenLDAP lists more people than fit into a page, and believes no list that is not whole (P4).
func TestListOpenLDAP(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	const short = "cn=short,ou=services," + suffix
	s := startSlapd(t, slapdOptions{
		cert: a.issue(t, tomorrow(), "127.0.0.1", "localhost"), overlays: memberOf + fmt.Sprintf("limits dn.exact=%q size.soft=100 size.hard=100 size.prtotal=450\n", short),
		access: strings.ReplaceAll(usualAccess, "* none\n", fmt.Sprintf("dn.exact=%q read by * none\n", short)),
	})
	const n = 2*pageSize + 50
	s.add(t, bulk(n)...)
	s.add(t,
		entry{short, map[string][]string{"objectClass": {"organizationalRole", "simpleSecurityObject"}, "cn": {"short"}, "userPassword": {searchPW}}},
		entry{"cn=posix,ou=groups," + suffix, map[string][]string{"objectClass": {"posixGroup"}, "cn": {"posix"}, "gidNumber": {"100"}, "memberUid": {"alice", "Bulk0007"}}},
		entry{"uid=locked," + people, map[string][]string{
			"objectClass": {"inetOrgPerson", "shadowAccount"}, "uid": {"locked"}, "cn": {"Locked"}, "sn": {"L"}, "shadowExpire": {"1"}, "mail": {"l@example.org"},
		}})
	d := open(t, s.options(a))
	all := listed(t, d, ListOptions{Groups: []string{"network", "everybody", "posix", "cn=all-it,ou=groups," + suffix}})
	for i := range n {
		if _, there := all[fmt.Sprintf("bulk%04d", i)]; !there {
			t.Fatalf("bulk%04d is not listed", i)
		}
	}
	wantIn(t, all, "alice", "cn=all-it,ou=groups,"+suffix, "everybody", "network", "posix")
	wantIn(t, all, "bob", "everybody")
	wantIn(t, all, "bulk0007", "posix")
	wantIn(t, all, "bulk0008")
	if x := all["locked"]; x.Barred == "" || x.Mail != "l@example.org" || x.FullName != "Locked" || time.Since(x.Changed) > time.Hour {
		t.Errorf("%+v", x)
	}
	if x := all["alice"]; x.Barred != "" {
		t.Errorf("%+v", x)
	}
	if some := listed(t, d, ListOptions{Filter: "(uid=bulk000*)"}); len(some) != 10 {
		t.Errorf("a filter finds %d", len(some))
	}

	for what, o := range map[string]ListOptions{"a group that is not there": {Groups: []string{"nowhere"}}, "a group by another's DN": {Groups: []string{"uid=alice," + people}}} {
		if list, err := d.List(t.Context(), o); !errors.Is(err, ErrPartial) && !errors.Is(err, login.ErrUnavailable) || list != nil {
			t.Errorf("%s: %d people, %v", what, len(list), err)
		}
	}
	o := s.options(a)
	o.BindDN = short
	if list, err := open(t, o).List(t.Context(), ListOptions{}); !errors.Is(err, ErrPartial) || list != nil {
		t.Errorf("a list that the server cuts: %d people, %v", len(list), err)
	}
	o = s.options(a)
	o.Base = "ou=elsewhere," + suffix
	if list, err := open(t, o).List(t.Context(), ListOptions{}); err == nil || list != nil {
		t.Errorf("a base that is not there: %d people, %v", len(list), err)
	}
	s.kill()
	if list, err := d.List(t.Context(), ListOptions{}); err == nil || list != nil {
		t.Errorf("a server that is gone: %d people, %v", len(list), err)
	}
}

// listAD is part of TestActiveDirectory, which has the domain.
func listAD(t *testing.T, s *samba) {
	const n = 2*pageSize + 50
	s.admin(t, func(c *ldap.Conn) error {
		var all []entry
		for i := range n {
			name := fmt.Sprintf("bulk%04d", i)
			all = append(all, entry{"CN=" + name + "," + adUsers, map[string][]string{"objectClass": {"user"}, "sAMAccountName": {name}, "userAccountControl": {"514"}}})
		}
		return addAll(c, all)
	})
	d := open(t, s.options())
	all := listed(t, d, ListOptions{Groups: []string{"network", "everybody", "CN=mail," + adUsers}})
	for i := range n {
		if x := all[fmt.Sprintf("bulk%04d", i)]; !strings.Contains(x.Barred, "disabled") {
			t.Fatalf("bulk%04d: %+v", i, x)
		}
	}
	wantIn(t, all, "alice", "CN=mail,"+adUsers, "everybody", "network")
	wantIn(t, all, "rita")
	for name, why := range map[string]string{"gone": "disabled", "late": "expired", "alice": "", "fresh": ""} {
		if x, there := all[name]; !there || !strings.Contains(x.Barred, why) || why == "" && x.Barred != "" || x.Changed.IsZero() {
			t.Errorf("%s: %+v, want %q", name, x, why)
		}
	}
	if _, there := all["pc1$"]; there {
		t.Error("a computer is listed")
	}
}
