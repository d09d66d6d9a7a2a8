package directory

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

const memberOf = "overlay memberof\nmemberof-dangling ignore\nmemberof-refint true\n"

// TestOpenLDAP asks one server that nothing changes.
func TestOpenLDAP(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := startSlapd(t, slapdOptions{cert: a.issue(t, tomorrow(), "127.0.0.1", "localhost"), overlays: memberOf})
	posix := entry{"cn=posix,ou=groups," + suffix, map[string][]string{
		"objectClass": {"posixGroup"}, "cn": {"posix"}, "gidNumber": {"100"}, "memberUid": {"alice", "Carol"},
	}}
	// Only the person is in a group by name: a group of that name is not.
	trap := entry{"cn=trap,ou=groups," + suffix, map[string][]string{
		"objectClass": {"posixGroup"}, "cn": {"trap"}, "gidNumber": {"101"}, "memberUid": {"network"},
	}}
	s.add(t, posix, trap)

	ways := map[string]func(*Options){
		"ldaps":    func(*Options) {},
		"starttls": func(o *Options) { o.URLs, o.StartTLS = []string{s.plain}, true },
		"plain":    func(o *Options) { o.URLs, o.InsecurePlaintext = []string{s.plain}, true },
		"by name": func(o *Options) {
			o.URLs, o.ServerName = []string{s.ldaps}, "localhost"
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := s.options(a)
			way(&o)
			d := open(t, o, alicePW, "falsch-falsch")
			if err := d.Probe(t.Context()); err != nil {
				t.Error(err)
			}
			for range 2 { // the second time from the pool
				wantPass(t, d, "alice", alicePW)
				wantWrong(t, d, "alice", "falsch-falsch", "invalid credentials")
				wantWrong(t, d, "zoe", alicePW, "no entry has this name")
				wantGroups(t, d, "alice", "network", "all-it", "everybody", "loop", "posix")
				wantGroups(t, d, "bob", "everybody")
				wantGroups(t, d, "zoe")
				wantGroups(t, d, "")
			}
		})
	}

	sources := map[string]struct {
		set  func(*Options)
		want []string
	}{
		"member-of":    {func(o *Options) { o.Groups = GroupsMemberOf }, []string{"network", "all-it", "everybody", "loop"}},
		"filter":       {func(o *Options) { o.Groups = GroupsFilter }, []string{"network", "all-it", "everybody", "loop", "posix"}},
		"own filter":   {func(o *Options) { o.Groups, o.GroupFilter = GroupsFilter, "(&(cn=net*)(member={dn}))" }, []string{"network"}},
		"off":          {func(o *Options) { o.Groups = GroupsOff }, nil},
		"another base": {func(o *Options) { o.GroupBase = groupDN("network") }, []string{"network"}},
	}
	for name, source := range sources {
		t.Run("groups "+name, func(t *testing.T) {
			t.Parallel()
			o := s.options(a)
			source.set(&o)
			wantGroups(t, open(t, o), "alice", source.want...)
		})
	}

	t.Run("memberUid has regard to case, people have not", func(t *testing.T) {
		t.Parallel()
		d := open(t, s.options(a))
		wantPass(t, d, "carol", "Carol-Passwort")
		wantGroups(t, d, "carol", "posix")
	})
	t.Run("hostile names", func(t *testing.T) {
		t.Parallel()
		d := open(t, s.options(a), alicePW)
		for _, name := range hostileNames() {
			wantWrong(t, d, name, alicePW, "no entry has this name")
			wantGroups(t, d, name)
		}
		wantPass(t, d, "alice", alicePW)
	})
	t.Run("anonymous search is refused by the server", func(t *testing.T) {
		t.Parallel()
		o := s.options(a)
		o.BindDN, o.BindPassword = "", login.Secret{}
		d := open(t, o)
		wantError(t, check(t, d, "alice", alicePW), login.ErrUnavailable, s.ldaps, "hint: check base")
		wantError(t, d.Probe(t.Context()), login.ErrUnavailable, s.ldaps, "hint: check base")
	})
	t.Run("wrong search password", func(t *testing.T) {
		t.Parallel()
		o := s.options(a)
		o.BindPassword = login.NewSecret("nicht-dieses")
		d := open(t, o)
		wantError(t, check(t, d, "alice", alicePW), login.ErrUnavailable, s.ldaps, "search identity is refused", "hint: check the bind DN")
		// It is not tried again and again, which could lock the identity out.
		wantError(t, check(t, d, "alice", alicePW), login.ErrUnavailable, "not asked, because")
	})
	t.Run("wrong base", func(t *testing.T) {
		t.Parallel()
		o := s.options(a)
		o.Base = "ou=nowhere," + suffix
		d := open(t, o)
		wantError(t, check(t, d, "alice", alicePW), login.ErrUnavailable, s.ldaps, `"ou=nowhere`, "hint: check base")
		wantError(t, d.Probe(t.Context()), login.ErrUnavailable, "hint: check base")
	})
	t.Run("wrong group base", func(t *testing.T) {
		t.Parallel()
		o := s.options(a)
		o.GroupBase = "ou=nowhere," + suffix
		d := open(t, o)
		_, err := d.Groups(t.Context(), "alice")
		wantError(t, err, login.ErrUnavailable, `"ou=nowhere`, "hint: check the group base")
		wantPass(t, d, "alice", alicePW)
	})
	t.Run("another server's referral", func(t *testing.T) {
		t.Parallel()
		o := s.options(a)
		o.Base = "dc=elsewhere"
		d := open(t, o)
		wantError(t, check(t, d, "alice", alicePW), login.ErrUnavailable, s.ldaps)
	})
}

// hostileNames is names that try to be more than a name, and odd ones.
func hostileNames() []string {
	return []string{
		"*", "a*", "alice*", "*)(uid=*", "alice)(objectClass=*", "alice)(|(uid=*", `alice\2a`, `\61lice\00`, "alice\x00", "\x00", "(", ")", "()", "&", "|(uid=*)",
		"{name}", "{dn}", "alice,ou=people", "uid=alice," + people, " alice#", "alice\n", "\xff\xfe", "älice", strings.Repeat("x", login.MaxName), strings.Repeat("(", login.MaxName),
		strings.Repeat("x", login.MaxName+1), strings.Repeat("*", 4096), "alice' or '1'='1",
	}
}

// The certificate decides whom we believe (there is no switch against it), and the error says what to do.
func TestCertificates(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	good := a.issue(t, tomorrow(), "127.0.0.1")
	cases := map[string]struct {
		cert pair
		ca   *authority
		hint string
	}{
		"another CA":       {good, other, "hint: the configured CA did not issue"},
		"expired":          {a.issue(t, time.Now().Add(-time.Hour), "127.0.0.1"), a, "hint: renew the server's certificate"},
		"for another name": {a.issue(t, tomorrow(), "dc1.example.org", "127.0.0.2"), a, "hint: the URL must have a name"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSlapd(t, slapdOptions{cert: c.cert})
			for _, startTLS := range []bool{false, true} {
				o := s.options(c.ca)
				if startTLS {
					o.URLs, o.StartTLS = []string{s.plain}, true
				}
				d := open(t, o, alicePW)
				wantError(t, check(t, d, "alice", alicePW), login.ErrUnavailable, o.URLs[0], c.hint)
				wantError(t, d.Probe(t.Context()), login.ErrUnavailable, o.URLs[0], c.hint)
				groups, err := d.Groups(t.Context(), "alice")
				wantError(t, err, login.ErrUnavailable)
				if groups != nil {
					t.Errorf("groups %q", groups)
				}
			}
		})
	}
	t.Run("no TLS at that port", func(t *testing.T) {
		t.Parallel()
		s := startSlapd(t, slapdOptions{cert: good})
		o := s.options(a)
		o.URLs = []string{strings.Replace(s.plain, "ldap://", "ldaps://", 1)}
		wantError(t, check(t, open(t, o), "alice", alicePW), login.ErrUnavailable, o.URLs[0])
	})
	t.Run("no StartTLS", func(t *testing.T) {
		t.Parallel()
		f := startFake(t, fakeOptions{startTLS: func(int64) (uint16, string) { return ldap.LDAPResultProtocolError, "unsupported extended operation" }})
		d := open(t, Options{URLs: []string{f.url}, StartTLS: true, CAs: a.pool, Base: suffix})
		wantError(t, check(t, d, "alice", alicePW), login.ErrUnavailable, "StartTLS", "hint: use an ldaps:// URL")
		for _, op := range f.operations() {
			if op.kind != "starttls" {
				t.Errorf("after a refused StartTLS: %+v", op)
			}
		}
	})
}

// A server that says yes to an empty password never hears one (RFC 4513 section 5.1.2).
func TestEmptyPassword(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := startSlapd(t, slapdOptions{
		cert: a.issue(t, tomorrow(), "127.0.0.1"), global: "allow bind_anon_cred bind_anon_dn\n",
		access: "access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n",
	})
	// It does say yes.
	c, err := ldap.DialURL(s.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.UnauthenticatedBind(personDN("alice")); err != nil {
		t.Fatalf("the server is not as this test needs it: %v", err)
	}

	o := s.options(a)
	o.BindDN, o.BindPassword = "", login.Secret{} // an anonymous search works
	d := open(t, o)
	wantPass(t, d, "alice", alicePW)
	wantGroups(t, d, "bob", "everybody")
	wantWrong(t, d, "alice", "", "password is empty")
	wantWrong(t, d, "alice", "\x00", "NUL")
	wantWrong(t, d, "alice", alicePW+"\x00", "NUL")
	wantWrong(t, d, "zoe", "", "password is empty")
	wantWrong(t, d, "", "", "nobody")
}

// Whose name finds two entries is nobody (a filter that is too wide lets one person in as another).
func TestAmbiguous(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := startSlapd(t, slapdOptions{cert: a.issue(t, tomorrow(), "127.0.0.1")})
	s.add(t, unit("ou=old,"+people), entry{"uid=alice,ou=old," + people, human("alice", "Altes-Passwort").attributes})
	d := open(t, s.options(a), alicePW, "Altes-Passwort")
	for _, password := range []string{alicePW, "Altes-Passwort"} {
		wantWrong(t, d, "alice", password, "hint: narrow base")
	}
	if groups, err := d.Groups(t.Context(), "alice"); groups != nil || !errors.Is(err, login.ErrUnavailable) || !strings.Contains(err.Error(), "hint: narrow base") {
		t.Errorf("groups %q, %v", groups, err)
	}
	wantPass(t, d, "bob", "Bob-Passwort")
}

// Referrals are neither followed nor believed: the one that the entry names is our own server, and would let alice in.
func TestReferral(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := startSlapd(t, slapdOptions{
		cert:   a.issue(t, tomorrow(), "127.0.0.1"),
		access: "access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n",
	})
	s.add(t, unit("ou=branch,"+suffix), entry{"ou=far,ou=branch," + suffix, map[string][]string{
		"objectClass": {"referral", "extensibleObject"}, "ou": {"far"}, "ref": {s.plain + "/" + people},
	}})
	t.Run("beside the entries", func(t *testing.T) {
		o := s.options(a)
		o.Base = "ou=branch," + suffix
		d := open(t, o)
		wantWrong(t, d, "alice", alicePW, "no entry has this name")
		wantGroups(t, d, "alice")
		// Active Directory sends them with every answer; they stop nobody who is here.
		s.add(t, entry{"uid=dora,ou=branch," + suffix, human("dora", "Dora-Passwort").attributes})
		wantPass(t, d, "dora", "Dora-Passwort")
	})
	t.Run("instead of an answer", func(t *testing.T) {
		o := s.options(a)
		o.Base = "ou=far,ou=branch," + suffix
		d := open(t, o)
		wantError(t, check(t, d, "alice", alicePW), login.ErrUnavailable, s.ldaps, "hint: name the server that holds it")
		wantError(t, d.Probe(t.Context()), login.ErrUnavailable, "hint: name the server that holds it")
	})
	t.Run("of the search identity", func(t *testing.T) {
		o := s.options(a)
		o.BindDN = "cn=gateway,ou=far,ou=branch," + suffix
		wantError(t, check(t, open(t, o), "alice", alicePW), login.ErrUnavailable, "search identity is refused")
	})
}

const policy = `overlay ppolicy
ppolicy_default "cn=policy,` + suffix + `"
ppolicy_use_lockout
`

func TestPasswordPolicy(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := startSlapd(t, slapdOptions{cert: a.issue(t, tomorrow(), "127.0.0.1"), overlays: policy})
	s.add(t, entry{"cn=policy," + suffix, map[string][]string{
		"objectClass": {"device", "pwdPolicy"}, "cn": {"policy"}, "pwdAttribute": {"userPassword"},
		"pwdLockout": {"TRUE"}, "pwdMaxFailure": {"2"}, "pwdLockoutDuration": {"0"}, "pwdMustChange": {"TRUE"},
	}})
	set := func(uid, attribute, value string) {
		s.admin(t, func(c *ldap.Conn) error {
			r := ldap.NewModifyRequest(personDN(uid), nil)
			r.Replace(attribute, []string{value})
			return c.Modify(r)
		})
	}
	d := open(t, s.options(a), alicePW)

	t.Run("locked by guesses", func(t *testing.T) {
		wantPass(t, d, "alice", alicePW)
		for range 3 {
			wantWrong(t, d, "alice", "falsch-falsch", "invalid credentials")
		}
		wantWrong(t, d, "alice", alicePW, "account locked")
	})
	t.Run("locked for good", func(t *testing.T) {
		wantGroups(t, d, "bob", "everybody")
		set("bob", "pwdAccountLockedTime", lockedForGood)
		wantWrong(t, d, "bob", "Bob-Passwort", "account locked")
		wantGroups(t, d, "bob") // who proves himself otherwise is in no group either
		s.admin(t, func(c *ldap.Conn) error {
			r := ldap.NewModifyRequest(personDN("bob"), nil)
			r.Delete("pwdAccountLockedTime", nil)
			return c.Modify(r)
		})
		wantPass(t, d, "bob", "Bob-Passwort")
	})
	t.Run("guesses of strangers lock nobody", func(t *testing.T) {
		for range 5 {
			_, err := d.Check(t.Context(), login.Question{Name: "bob", Password: login.NewSecret("falsch-falsch"), Origin: "test"})
			wantError(t, err, login.ErrWrong, "nobody who may log in")
		}
		wantPass(t, d, "bob", "Bob-Passwort")
	})
	t.Run("to be changed", func(t *testing.T) {
		s.add(t, human("new", "Neues-Passwort"))
		set("new", "userPassword", "Neues-Passwort") // by the administrator, so it is to be changed
		set("new", "pwdReset", "TRUE")
		wantWrong(t, d, "new", "falsch-falsch", "invalid credentials")
		wantWrong(t, d, "new", "Neues-Passwort", "password must be changed first")
	})
	t.Run("expired by date", func(t *testing.T) {
		for day, ok := range map[string]bool{"-1": true, "99999": true, "0": false, "1": false} {
			uid := "shadow" + strings.TrimPrefix(day, "-")
			e := human(uid, "Schatten-Passwort")
			e.attributes["objectClass"] = []string{"inetOrgPerson", "shadowAccount"}
			e.attributes["shadowExpire"] = []string{day}
			if day == "-1" {
				e.dn, e.attributes["uid"] = personDN("never"), []string{"never"}
				uid = "never"
			}
			s.add(t, e)
			if ok {
				wantPass(t, d, uid, "Schatten-Passwort")
			} else {
				wantWrong(t, d, uid, "Schatten-Passwort", "account expired (shadowExpire)")
			}
		}
	})
	t.Run("without a password", func(t *testing.T) {
		e := human("bare", "")
		delete(e.attributes, "userPassword")
		s.add(t, e)
		wantWrong(t, d, "bare", "irgendwas", "")
	})
}

// The second server is asked when the first is gone, without anybody having to wait for the first again.
func TestTakeover(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert := a.issue(t, tomorrow(), "127.0.0.1")
	first, second := startSlapd(t, slapdOptions{cert: cert}), startSlapd(t, slapdOptions{cert: cert})
	// Who is asked is seen by who knows whom.
	first.add(t, human("first", "Erstes-Passwort"))
	second.add(t, human("second", "Zweites-Passwort"))
	c, log := &clock{}, &journal{}
	o := first.options(a)
	o.URLs = []string{first.ldaps, second.ldaps}
	o.Now, o.Log = c.now, log.logger()
	d := open(t, o)
	wantPass(t, d, "first", "Erstes-Passwort")
	wantWrong(t, d, "second", "Zweites-Passwort", "no entry")

	first.kill()
	for range 3 {
		wantPass(t, d, "second", "Zweites-Passwort")
		wantGroups(t, d, "bob", "everybody")
	}
	if err := d.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "server put aside"); n != 1 || !strings.Contains(log.String(), first.ldaps) {
		t.Errorf("the log says %d times that a server is put aside, want once:\n%s", n, log)
	}
	second.kill()
	err := check(t, d, "second", "Zweites-Passwort")
	wantError(t, err, login.ErrUnavailable, first.ldaps, second.ldaps, "not asked, because", "refused")
	groups, err := d.Groups(t.Context(), "bob")
	wantError(t, err, login.ErrUnavailable)
	if groups != nil {
		t.Errorf("groups %q of a directory that is down", groups)
	}
}

// A server that restarts between two logins costs neither of them: what the pool holds is dead, and made anew.
func TestRestart(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := startSlapd(t, slapdOptions{cert: a.issue(t, tomorrow(), "127.0.0.1")})
	p := startProxy(t, strings.TrimPrefix(s.ldaps, "ldaps://"))
	o := s.options(a)
	o.URLs = []string{"ldaps://" + p.address}
	d := open(t, o)
	for range 3 {
		wantPass(t, d, "alice", alicePW)
		wantGroups(t, d, "bob", "everybody")
		p.cut()
	}
}

// Many groups are fine as long as they are within the bound.
func TestManyGroups(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := startSlapd(t, slapdOptions{cert: a.issue(t, tomorrow(), "127.0.0.1"), overlays: memberOf, global: "sizelimit 5000\n"})
	var entries []entry
	var want []string
	for i := range 250 {
		cn := fmt.Sprintf("g%03d", i)
		entries, want = append(entries, groupOf(cn, personDN("bob"))), append(want, cn)
	}
	s.add(t, entries...)
	want = append(want, "everybody")
	for _, source := range []GroupSource{GroupsAuto, GroupsMemberOf, GroupsFilter} {
		o := s.options(a)
		o.Groups = source
		wantGroups(t, open(t, o), "bob", want...)
	}
}
