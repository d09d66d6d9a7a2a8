package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/admin"
	"sallyport/internal/login"
)

// changeLDAP changes the directory as its administrator.
func changeLDAP(t testing.TB, a *authority, url string, do func(*ldap.Conn) error) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(mustRead(t, a.file)) {
		t.Fatal("the authority's file has no certificate")
	}
	c, err := ldap.DialURL(url, ldap.DialWithTLSConfig(&tls.Config{RootCAs: pool}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind(ldapRoot, ldapRootPW); err != nil {
		t.Fatal(err)
	}
	if err := do(c); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) sync(args ...string) (out Imported) {
	r.Helper()
	if err := json.Unmarshal([]byte(r.ok(append([]string{"user", "sync", "--json"}, args...)...)), &out); err != nil {
		r.Fatal(err)
	}
	return out
}

func (r *rig) shown(name string) (u admin.UserInfo) {
	r.Helper()
	if err := json.Unmarshal([]byte(r.ok("user", "show", name, "--json")), &u); err != nil {
		r.Fatal(err)
	}
	return u
}

// TestDirectorySync follows an OpenLDAP: who comes is added, who moves is changed, and the session of who leaves ends at once (P4, P11).
func TestDirectorySync(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	passwords := make(map[string]string)
	for i := range 30 {
		passwords[fmt.Sprintf("p%02d", i)] = "the password of many 1"
	}
	passwords["dora"], passwords["emil"] = "the password of dora 1", "the password of emil 1"
	url, slapd := startSlapd(t, ca, passwords)
	dn := func(uid string) string { return "uid=" + uid + ",dc=example,dc=org" }
	s := newSSHRig(t, rigOptions{login: fmt.Sprintf(`  ldap: {url: %q, base: "dc=example,dc=org", ca: %q, sync: {every: 1h, groups: {network: [network]}}}`, url, ca.file)})
	s.enrol("alice", byCount()) // her password is kept here: she is not the directory's matter
	s.up()

	// The gateway has looked by itself, at its start.
	s.until("the first look", func() bool { return len(s.records("--event", eventSync)) > 0 })
	if u := s.shown("dora"); u.First != firstLDAP || u.Kind != login.Staff || len(u.Groups) != 1 || u.FullName != "dora" || u.Password {
		t.Errorf("%+v", u)
	}
	if rec := s.last("--event", eventSync); rec.Result != "info" || detail(rec, "joiners") != "32" || detail(rec, "leavers") != "0" {
		t.Errorf("record: %+v", rec)
	}
	if out := s.sync(); len(out.Joiners)+len(out.Movers)+len(out.Leavers) != 0 || out.Same != 32 {
		t.Errorf("again: %+v", out)
	}

	// Dora works, and leaves: her account there expires.
	dora, emil := s.token("dora", byCount()), s.token("emil", byCount())
	dora.password, emil.password = passwords["dora"], passwords["emil"]
	doras, emils := s.live(dora, "sleep 1000"), s.live(emil, "sleep 1000")
	s.ok("user", "set", "emil", "--group", "network,own")
	changeLDAP(t, ca, url, func(c *ldap.Conn) error {
		m := ldap.NewModifyRequest(dn("dora"), nil)
		m.Add("objectClass", []string{"shadowAccount"})
		m.Add("shadowExpire", []string{"1"})
		m.Add("mail", []string{"nowhere"}) // one entry that is wrong keeps no leaver in
		n := ldap.NewModifyRequest("cn=network,dc=example,dc=org", nil)
		n.Delete("member", []string{dn("p01")})
		mail := ldap.NewModifyRequest(dn("emil"), nil)
		mail.Add("mail", []string{"emil@example.org"})
		for _, r := range []*ldap.ModifyRequest{m, n, mail} {
			if err := c.Modify(r); err != nil {
				return err
			}
		}
		return nil
	})
	if out := s.sync("--dry-run"); len(out.Movers) != 3 || out.Applied || s.shown("dora").Disabled {
		t.Errorf("dry run: %+v", out)
	}
	if out := s.sync(); len(out.Movers) != 3 || len(out.Ended) != 1 || out.Ended[0].Person != "dora" ||
		!slices.Contains(out.Notes, `dora: "nowhere" is not taken for a mail address`) {
		t.Errorf("%+v", out)
	}
	<-doras.done
	select {
	case <-emils.done:
		t.Error("the session of somebody who stayed ended")
	default:
	}
	if rec := s.last("--event", admin.EventLeaver); rec.Person != "dora" || detail(rec, "sessions_ended") != "1" || detail(rec, "after") == "" {
		t.Errorf("record: %+v", rec)
	}
	if u := s.shown("emil"); u.Mail != "emil@example.org" || fmt.Sprint(u.Groups) != "[network own]" {
		t.Errorf("%+v", u)
	}
	if u := s.shown("p01"); len(u.Groups) != 0 || u.Disabled {
		t.Errorf("%+v", u)
	}

	// Who is deleted there leaves, too; three of thirty-one at once are more than can be meant.
	changeLDAP(t, ca, url, func(c *ldap.Conn) error { return c.Del(ldap.NewDelRequest(dn("emil"), nil)) })
	s.sync()
	<-emils.done
	if !s.shown("emil").Disabled || s.shown("alice").Disabled {
		t.Error("the wrong one left")
	}
	changeLDAP(t, ca, url, func(c *ldap.Conn) error {
		for _, uid := range []string{"p02", "p03", "p04", "p05"} {
			if err := c.Del(ldap.NewDelRequest(dn(uid), nil)); err != nil {
				return err
			}
		}
		return nil
	})
	if complaint := s.refusedIn("", "user", "sync"); !strings.Contains(complaint, "4 of 30 active people would leave") {
		t.Error(complaint)
	}
	if rec := s.last("--event", eventSync); rec.Result != "error" || rec.Reason != reasonDrastic || s.shown("p02").Disabled {
		t.Errorf("record: %+v", rec)
	}
	if out := s.sync("--yes"); len(out.Leavers) != 4 || !s.shown("p02").Disabled {
		t.Errorf("%+v", out)
	}

	// Nobody is enabled again by the directory, and without it nobody leaves.
	s.ok("user", "disable", "p06")
	if out := s.sync(); !strings.Contains(fmt.Sprint(out.Notes), "p06 is disabled here") || !s.shown("p06").Disabled {
		t.Errorf("%+v", out)
	}
	changeLDAP(t, ca, url, func(c *ldap.Conn) error { return c.Del(ldap.NewDelRequest("cn=network,dc=example,dc=org", nil)) })
	for what, before := range map[string]func(){"without the group": func() {}, "without the directory": slapd.end} {
		before()
		s.refusedIn("", "user", "sync")
		if rec := s.last("--event", eventSync); rec.Result != "error" || rec.Reason != reasonUnread {
			t.Errorf("%s: %+v", what, rec)
		}
		if u := s.shown("p07"); u.Disabled || len(u.Groups) != 1 {
			t.Errorf("%s: %+v", what, u)
		}
	}
	s.stop()
	s.check()
}
