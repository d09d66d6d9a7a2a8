package directory

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

// short is a deadline that a test waits for; a server that hangs gives no other sign.
const short = 300 * time.Millisecond

const fakeBase = "dc=fake"

// plainOptions are for a fake without TLS.
func plainOptions(urls ...string) Options {
	return Options{
		URLs: urls, InsecurePlaintext: true, Base: fakeBase,
		BindDN: "cn=gateway," + fakeBase, BindPassword: login.NewSecret(searchPW),
	}
}

func fakePerson(name string, attributes map[string][]string) entry {
	return entry{"uid=" + name + "," + fakeBase, attributes}
}

// oneOf is a search in a directory with these people, in which everything else finds nothing.
func oneOf(people map[string]map[string][]string) func(operation) ([]entry, uint16) {
	return func(o operation) ([]entry, uint16) {
		for name, attributes := range people {
			if o.filter == "(uid="+name+")" {
				return []entry{fakePerson(name, attributes)}, 0
			}
		}
		if o.dn == fakeBase && o.scope == ldap.ScopeBaseObject {
			return []entry{{dn: fakeBase}}, 0
		}
		return nil, 0
	}
}

// onlyPassword is a bind that accepts one password, of anybody who exists.
func onlyPassword(password string) func(operation) (uint16, string) {
	return func(o operation) (uint16, string) {
		if o.dn == "cn=gateway,"+fakeBase && o.password == searchPW {
			return 0, ""
		}
		if strings.HasPrefix(o.dn, "uid=") && o.password == password {
			return 0, ""
		}
		return ldap.LDAPResultInvalidCredentials, ""
	}
}

// P6: whoever asks, the server is asked the same: a search with the identity, and a bind on a connection of its own.
// The second is only that of somebody who exists if it can succeed, and never has an empty password.
func TestSameWorkForAll(t *testing.T) {
	t.Parallel()
	const right = "richtiges-Passwort"
	questions := map[string]struct {
		q       login.Question
		ok      bool
		asAlice bool
		given   bool // the password is sent as it is
	}{
		"right":           {login.Question{Person: "alice", Name: "ALICE", Password: login.NewSecret(right)}, true, true, true},
		"wrong":           {login.Question{Person: "alice", Name: "alice", Password: login.NewSecret("falsch")}, false, true, true},
		"not there":       {login.Question{Person: "zoe", Name: "zoe", Password: login.NewSecret(right)}, false, false, true},
		"twice":           {login.Question{Person: "both", Name: "both", Password: login.NewSecret(right)}, false, false, true},
		"stranger":        {login.Question{Name: "zoe", Password: login.NewSecret(right)}, false, false, true},
		"known stranger":  {login.Question{Name: "alice", Password: login.NewSecret(right)}, false, false, true},
		"spared":          {login.Question{Password: login.NewSecret(right)}, false, false, true},
		"hostile":         {login.Question{Name: "*\x00", Password: login.NewSecret(right)}, false, false, true},
		"no password":     {login.Question{Person: "alice", Name: "alice"}, false, false, false},
		"NUL":             {login.Question{Person: "alice", Name: "alice", Password: login.NewSecret("\x00")}, false, false, false},
		"long":            {login.Question{Person: "alice", Name: "alice", Password: login.NewSecret(strings.Repeat("x", login.MaxSecret+1))}, false, false, false},
		"evidence":        {login.Question{Person: "alice", Name: "alice", Evidence: 1}, false, false, false},
		"further":         {login.Question{Person: "alice", Name: "alice", Password: login.NewSecret(right), More: []byte("x")}, false, false, true},
		"stranger, empty": {login.Question{Name: "alice"}, false, false, false},
	}
	for name, c := range questions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, fakeOptions{
				bind: func(o operation) (uint16, string) { return onlyPassword(right)(o) },
				search: func(o operation) ([]entry, uint16) {
					if o.filter == "(uid=both)" {
						return []entry{fakePerson("both", nil), {dn: "uid=both,ou=x," + fakeBase}}, 0
					}
					return oneOf(map[string]map[string][]string{"alice": nil})(o)
				},
			})
			d := open(t, plainOptions(f.url), right)
			answer, err := d.Check(t.Context(), c.q)
			if answer.More != nil || answer.Extra != nil {
				t.Errorf("answer %+v", answer)
			}
			if c.ok && err != nil || !c.ok && !errors.Is(err, login.ErrWrong) {
				t.Errorf("Check: %v, want right: %v", err, c.ok)
			}
			var kinds []string
			for _, o := range f.operations() {
				kinds = append(kinds, fmt.Sprintf("%d %s", o.conn, o.kind))
				if o.kind == "bind" && o.password == "" {
					t.Errorf("a bind with an empty password: %+v", o)
				}
			}
			// Identity, root DSE, search; then the bind, elsewhere.
			const want = "1 bind, 1 search, 1 search, 2 bind"
			if got := strings.Join(kinds, ", "); got != want {
				t.Fatalf("operations %s, want %s", got, want)
			}
			last := f.operations()[3]
			if asAlice := last.dn == "uid=alice,"+fakeBase; asAlice != c.asAlice || !asAlice && !strings.HasPrefix(last.dn, "cn=sallyport-nobody-") {
				t.Errorf("bind as %q, want as alice: %v", last.dn, c.asAlice)
			}
			if given := last.password == c.q.Password.Reveal(); given != c.given {
				t.Errorf("the password was sent as it is: %v, want %v", given, c.given)
			}
		})
	}
}

// A yes counts only for a person who was found, even from a server that says yes to everything.
func TestYesToEverything(t *testing.T) {
	t.Parallel()
	f := startFake(t, fakeOptions{search: oneOf(map[string]map[string][]string{"alice": nil})})
	d := open(t, plainOptions(f.url))
	wantPass(t, d, "alice", "irgendwas")
	wantWrong(t, d, "zoe", "irgendwas", "no entry")
	for _, name := range []string{"alice", "zoe", ""} {
		_, err := d.Check(t.Context(), login.Question{Name: name, Password: login.NewSecret("irgendwas")})
		wantError(t, err, login.ErrWrong)
	}
	wantWrong(t, d, "alice", "", "empty")

	// An entry without a DN would make the bind an anonymous one.
	f = startFake(t, fakeOptions{search: func(operation) ([]entry, uint16) { return []entry{{dn: ""}}, 0 }})
	wantError(t, check(t, open(t, plainOptions(f.url)), "alice", "irgendwas"), login.ErrUnavailable, "has no DN")
}

// Attributes bar an account also when the server lets it in.
func TestBarredDespiteBind(t *testing.T) {
	t.Parallel()
	accounts := map[string]map[string][]string{
		"fine":      {"userAccountControl": {"512"}, "accountExpires": {"0"}},
		"never":     {"userAccountControl": {"66048"}, "accountExpires": {"9223372036854775807"}},
		"disabled":  {"userAccountControl": {"514"}},
		"expired":   {"userAccountControl": {"512"}, "accountExpires": {"132223104000000000"}}, // 2020
		"until2099": {"userAccountControl": {"512"}, "accountExpires": {"157150944000000000"}}, // 2099
		"garbled":   {"userAccountControl": {"0x202"}},
		"frozen":    {"nsAccountLock": {"TRUE"}},
		"thawed":    {"nsAccountLock": {"false"}},
		"novell":    {"LOGINDISABLED": {"TRUE"}},
	}
	reasons := map[string]string{
		"disabled": "account disabled (userAccountControl)", "expired": "account expired (accountExpires)", "garbled": "no number",
		"frozen": "account disabled (nsAccountLock)", "novell": "account disabled (loginDisabled)",
	}
	f := startFake(t, fakeOptions{search: func(o operation) ([]entry, uint16) {
		if strings.Contains(o.filter, "member") {
			return []entry{{"cn=all," + fakeBase, map[string][]string{"cn": {"all"}}}}, 0
		}
		return oneOf(accounts)(o)
	}})
	d := open(t, plainOptions(f.url))
	for name := range accounts {
		if reason := reasons[name]; reason != "" {
			wantWrong(t, d, name, "irgendwas", reason)
			wantGroups(t, d, name)
		} else {
			wantPass(t, d, name, "irgendwas")
			wantGroups(t, d, name, "all")
		}
	}
}

// What Active Directory says about why (MS-ERREF), through a real bind; the person learns none of it.
func TestDirectorySaysWhy(t *testing.T) {
	t.Parallel()
	for data, meaning := range map[string]string{
		"525": "no such user", "52e": "wrong password", "52f": "account restriction", "530": "not permitted to log on at this time",
		"531": "not permitted to log on from here", "532": "password expired", "533": "account disabled", "701": "account expired",
		"773": "password must be changed first", "775": "account locked", "999": "data 999",
	} {
		f := startFake(t, fakeOptions{
			search: oneOf(map[string]map[string][]string{"alice": nil}),
			bind: func(o operation) (uint16, string) {
				if o.dn == "uid=alice,"+fakeBase {
					return ldap.LDAPResultInvalidCredentials, "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data " + data + ", v3839\x00"
				}
				return 0, ""
			},
		})
		wantWrong(t, open(t, plainOptions(f.url)), "alice", "irgendwas", meaning)
	}
}

// Results of a bind that say something about the person, and such that say something about the server.
func TestBindResults(t *testing.T) {
	t.Parallel()
	const password = "zurueckgeworfen"
	for code, want := range map[uint16]error{
		ldap.LDAPResultInvalidCredentials: login.ErrWrong, ldap.LDAPResultUnwillingToPerform: login.ErrWrong,
		ldap.LDAPResultConstraintViolation: login.ErrWrong, ldap.LDAPResultNoSuchObject: login.ErrWrong,
		ldap.LDAPResultReferral: login.ErrUnavailable, ldap.LDAPResultConfidentialityRequired: login.ErrUnavailable,
		ldap.LDAPResultBusy: login.ErrUnavailable, ldap.LDAPResultUnavailable: login.ErrUnavailable,
		ldap.LDAPResultOther: login.ErrUnavailable, ldap.LDAPResultSaslBindInProgress: login.ErrUnavailable,
		150: login.ErrUnavailable, 201: login.ErrUnavailable, 65535: login.ErrUnavailable,
	} {
		f := startFake(t, fakeOptions{
			search: oneOf(map[string]map[string][]string{"alice": nil}),
			bind: func(o operation) (uint16, string) {
				if o.dn == "uid=alice,"+fakeBase {
					return code, "you said " + o.password + "\x1b[31m\n" // a server that talks too much
				}
				return 0, ""
			},
		})
		log := &journal{}
		o := plainOptions(f.url)
		o.Log = log.logger()
		err := check(t, open(t, o), "alice", password)
		if !errors.Is(err, want) {
			t.Errorf("code %d: %v, want %v", code, err, want)
		}
		for _, text := range []string{err.Error(), log.String()} {
			if strings.Contains(text, password) || strings.Contains(text, "\x1b") || strings.Contains(strings.TrimSuffix(text, "\n"), "\n") && text == err.Error() {
				t.Errorf("code %d: %q", code, text)
			}
		}
	}
}

// hangs accepts connections, and says nothing until the test ends.
func hangs(t *testing.T) *fake {
	t.Helper()
	return startFake(t, fakeOptions{accepted: func(c net.Conn) bool {
		_, _ = io.Copy(io.Discard, c)
		return true
	}})
}

// A server that hangs costs the login its deadline, and the next ones nothing.
func TestHang(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for name, start := range map[string]func(t *testing.T) (*fake, Options){
		"when connected": func(t *testing.T) (*fake, Options) {
			f := hangs(t)
			return f, plainOptions(f.url)
		},
		"in the TLS handshake": func(t *testing.T) (*fake, Options) {
			f := hangs(t)
			o := plainOptions(strings.Replace(f.url, "ldap://", "ldaps://", 1))
			o.CAs = a.pool
			return f, o
		},
		"in StartTLS": func(t *testing.T) (*fake, Options) {
			f := hangs(t)
			o := plainOptions(f.url)
			o.InsecurePlaintext, o.StartTLS = false, true
			return f, o
		},
		"in the search": func(t *testing.T) (*fake, Options) {
			f := startFake(t, fakeOptions{raw: func(_ net.Conn, o operation) bool { return o.kind == "search" }})
			return f, plainOptions(f.url)
		},
		"in the bind": func(t *testing.T) (*fake, Options) {
			f := startFake(t, fakeOptions{
				search: oneOf(map[string]map[string][]string{"alice": nil}),
				raw:    func(_ net.Conn, o operation) bool { return o.kind == "bind" && o.dn == "uid=alice,"+fakeBase },
			})
			return f, plainOptions(f.url)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, o := start(t)
			o.Timeout = short
			began := time.Now()
			d := open(t, o)
			err := check(t, d, "alice", "irgendwas")
			wantError(t, err, login.ErrUnavailable, o.URLs[0])
			if took := time.Since(began); took < short {
				t.Errorf("it ended after %v, before its deadline: %v", took, err)
			}
			connections := f.connections()
			wantError(t, check(t, d, "alice", "irgendwas"), login.ErrUnavailable, o.URLs[0], "not asked, because")
			if now := f.connections(); now != connections {
				t.Errorf("the server that was put aside was asked")
			}
		})
	}
}

// With a second server there, a hang of the first costs one login its share of the time, and nobody his login. After
// its time aside, one login at a time tries the first again.
func TestHangWithSecond(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool
	stuck.Store(true)
	first := startFake(t, fakeOptions{
		search: oneOf(map[string]map[string][]string{"alice": nil}),
		raw:    func(net.Conn, operation) bool { return stuck.Load() },
	})
	second := startFake(t, fakeOptions{search: oneOf(map[string]map[string][]string{"alice": nil})})
	c, log := &clock{}, &journal{}
	o := plainOptions(first.url, second.url)
	o.Timeout, o.Now, o.Log = 4*time.Second, c.now, log.logger()
	d := open(t, o)
	wantPass(t, d, "alice", "irgendwas")
	if first.connections() != 1 {
		t.Errorf("%d connections to the first", first.connections())
	}
	for range 5 {
		wantPass(t, d, "alice", "irgendwas")
	}
	if first.connections() != 1 {
		t.Errorf("the first server was asked while it is aside")
	}
	c.move(asideFor + time.Second)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { wantPass(t, d, "alice", "irgendwas") })
	}
	all.Wait()
	if n := first.connections(); n != 2 {
		t.Errorf("%d connections to the first, want one more: one login at a time tries", n)
	}
	stuck.Store(false)
	c.move(asideFor + time.Second)
	wantPass(t, d, "alice", "irgendwas")
	if !strings.Contains(log.String(), "in use again") || first.connections() < 3 {
		t.Errorf("the first server is not in use again (%d connections):\n%s", first.connections(), log)
	}
}

// The only server is tried again soon; a rejected search identity is not, or it would be locked out.
func TestAlone(t *testing.T) {
	t.Parallel()
	var down, rejects atomic.Bool
	f := startFake(t, fakeOptions{
		search:   oneOf(map[string]map[string][]string{"alice": nil}),
		accepted: func(net.Conn) bool { return down.Load() },
		bind: func(o operation) (uint16, string) {
			if rejects.Load() && o.dn == "cn=gateway,"+fakeBase {
				return ldap.LDAPResultInvalidCredentials, "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data 775, v3839"
			}
			return 0, ""
		},
	})
	c := &clock{}
	o := plainOptions(f.url)
	o.Now = c.now
	d := open(t, o)
	wantPass(t, d, "alice", "irgendwas")

	down.Store(true)
	f.cut()
	wantError(t, check(t, d, "alice", "irgendwas"), login.ErrUnavailable, f.url, "connection lost")
	down.Store(false)
	wantError(t, check(t, d, "alice", "irgendwas"), login.ErrUnavailable, "not asked, because")
	c.move(2 * asideAlone)
	wantPass(t, d, "alice", "irgendwas")

	rejects.Store(true)
	f.cut()
	wantError(t, check(t, d, "alice", "irgendwas"), login.ErrUnavailable, "account locked", "hint: check the bind DN")
	connections := f.connections()
	c.move(asideFor * 2)
	wantError(t, check(t, d, "alice", "irgendwas"), login.ErrUnavailable, "not asked, because", "account locked")
	if f.connections() != connections {
		t.Error("a server that rejected the search identity was asked again soon")
	}
	rejects.Store(false)
	c.move(asideRejected)
	wantPass(t, d, "alice", "irgendwas")
}

// A connection in the pool that says nothing any more, as after a firewall forgot it, is found out and replaced.
func TestSilentPool(t *testing.T) {
	t.Parallel()
	var silent atomic.Int64 // connections up to this one
	f := startFake(t, fakeOptions{
		search: oneOf(map[string]map[string][]string{"alice": nil}),
		raw:    func(_ net.Conn, o operation) bool { return int64(o.conn) <= silent.Load() },
	})
	c := &clock{}
	o := plainOptions(f.url)
	o.Timeout, o.Now = 4*time.Second, c.now
	d := open(t, o)
	wantPass(t, d, "alice", "irgendwas")
	silent.Store(int64(f.connections()))
	c.move(2 * trusted)
	wantPass(t, d, "alice", "irgendwas")
	// What rests too long is not asked at all.
	before := len(f.operations())
	c.move(maxIdle)
	wantPass(t, d, "alice", "irgendwas")
	if op := f.operations()[before]; op.kind != "bind" {
		t.Errorf("first %+v: want a fresh connection", op)
	}
}

// A search that is cut off midway is no answer: neither somebody's nor nobody's.
func TestDropMidSearch(t *testing.T) {
	t.Parallel()
	f := startFake(t, fakeOptions{raw: func(c net.Conn, o operation) bool {
		if o.kind != "search" || !strings.Contains(o.filter, "uid=") && !strings.Contains(o.filter, "member") {
			return false
		}
		_, _ = c.Write(found(o.id, fakePerson("alice", nil)))
		_, _ = c.Write([]byte{0x30, 0x20, 0x02})
		_ = c.Close()
		return true
	}})
	d := open(t, plainOptions(f.url))
	wantError(t, check(t, d, "alice", "irgendwas"), login.ErrUnavailable, f.url, "connection lost")
}
