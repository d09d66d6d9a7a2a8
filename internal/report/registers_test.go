package report_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/report"
	"sallyport/internal/report/document"
)

// small is a gateway with a handful of people, as at noon of the last of June.
func small(t testing.TB) (report.State, report.Request) {
	t.Helper()
	now := time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)
	s := report.State{Now: now, Node: "gw1", First: "ldap", Systems: []login.System{{Name: "sw1", Tags: []string{"network"}, Class: "privileged-internal"}, {Name: "vpn", Class: "remote"}, {Name: "lost", Class: "unclassified"}}}
	s.Rules.Rules = login.Rules{
		{Name: "network team", Groups: []string{"network"}, To: []string{"tag:network"}, May: []login.Capability{login.MayShell}},
		{Name: "suppliers", Groups: []string{"supplier"}, To: []string{"vpn"}, May: []login.Capability{login.MayLogin}, Grant: true},
	}
	old := now.AddDate(-2, 0, 0)
	s.People = []login.Person{
		{Name: "fresh", Kind: login.Staff, Groups: []string{"network"}, Created: now.AddDate(0, 0, -10)},
		{Name: "attested", Kind: login.Staff, Groups: []string{"network"}, Created: old},
		{Name: "half", Kind: login.Staff, Groups: []string{"network"}, Created: now.AddDate(0, 0, -200)},
		{Name: "stale", Kind: login.Staff, Groups: []string{"network"}, Created: old},
		{Name: "removed", Kind: login.Staff, Groups: []string{"network"}, Created: old},
		{Name: "gone", Kind: login.Staff, Groups: []string{"network"}, Disabled: true, Created: old},
		{Name: "later", Kind: login.Staff, Groups: []string{"network"}, From: now.AddDate(0, 1, 0), Created: old},
		{Name: "admin", Kind: login.Staff, Groups: []string{"network"}, Created: now},
		{Name: "eng", Kind: login.Supplier, Groups: []string{"supplier"}, Company: "Radix", Sponsor: "attested", Contract: login.DateOf(now.AddDate(0, -1, 0)), Created: now},
		{Name: "nobodys", Kind: login.Supplier, Groups: []string{"supplier"}, Created: now},
		{Name: "svc", Kind: login.Service, Owner: "attested", Created: now},
	}
	for _, who := range []string{"fresh", "attested", "half", "removed", "eng", "nobodys", "admin"} {
		k := login.Token{ID: "tk-" + who, Person: who, State: login.TokenActive, Created: old, Seed: []byte("seed of " + who)}
		if who == "half" {
			k.Seed = []byte("seed of fresh")
		}
		s.Tokens = append(s.Tokens, k)
	}
	s.Keys = []login.Key{{Person: "svc", Fingerprint: "SHA256:y", Type: "ssh-ed25519"}}
	s.Attestations = []login.Attestation{
		{Person: "attested", Rule: "network team", By: "jane", Time: now.AddDate(0, 0, -30), Decision: "keep"},
		{Person: "removed", Rule: "network team", By: "jane", Time: now.AddDate(0, 0, -30), Decision: "remove"},
		{Person: "stale", Rule: "another", By: "jane", Time: now.AddDate(0, 0, -1), Decision: "keep"},
	}
	window := login.TimedGrant{ID: "GR-1", Person: "eng", Systems: []string{"vpn"}, From: now.Add(-time.Hour), Until: now.Add(time.Hour), Ticket: "CHG1", Approver: "jane", Sponsor: "attested"}
	unused := window
	unused.ID, unused.From, unused.Until = "GR-2", now.AddDate(0, -2, 0), now.AddDate(0, -2, 1)
	before := window
	before.ID, before.From, before.Until = "GR-3", now.AddDate(-3, 0, 0), now.AddDate(-3, 0, 1)
	s.Grants = []login.TimedGrant{window, unused, before}
	used := access(now.Add(-30*time.Minute), "eng", "none", password, code)
	used.Event, used.System, used.Class, used.PersonKind, used.Detail = "login", "vpn", "remote", "supplier", []audit.Detail{{Key: "grant", Value: "GR-1"}}
	own := access(now.Add(-time.Hour), "attested", "none", password, audit.Factor{Kind: "have", Method: "totp", Token: "tk-attested", Result: "ok"})
	s.Log = one(t, own, used)
	r := report.Request{Kind: report.Access, Zone: "UTC"}
	if err := r.Fill(now); err != nil {
		t.Fatal(err)
	}
	return s, r
}

// The register shows everybody's access, in the colour of its last look, and is honest about what the factors are worth.
func TestAccessRegister(t *testing.T) {
	s, r := small(t)
	d := makeOne(t, gather(t, s, r), report.Access)
	for who, want := range map[string]string{
		"fresh": "green", "attested": "green", "half": "amber", "stale": "red", "removed": "red", "admin": "green", "eng": "green",
	} {
		if got := cell(t, d, "access", who, "colour"); got != want {
			t.Errorf("%s is %s, want %s", who, got, want)
		}
	}
	for _, row := range d.Section("access").Table.Rows {
		if slices.Contains([]string{"gone", "later", "svc"}, row[0]) {
			t.Errorf("%s has no access: %q", row[0], row)
		}
	}
	for _, c := range []struct{ who, key, want string }{
		{"attested", "strength", "two kinds; not phishing-resistant"},
		{"stale", "strength", "one kind: no code is enrolled"},
		{"attested", "last_login", "2026-06-30 11:00 UTC"},
		{"attested", "attested", "2026-05-31 keep"},
		{"stale", "attested", "never"},
		{"eng", "grant_end", "grant until 2026-06-30 13:00 UTC"},
		{"nobodys", "grant_end", "needs a grant; none in force"},
		{"eng", "organisation", "Radix, sponsor attested"},
		{"attested", "to", "tag:network"},
		{"attested", "may", "shell"},
	} {
		if got := cell(t, d, "access", c.who, c.key); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.who, c.key, got, c.want)
		}
	}
	var gaps []string
	for _, row := range d.Section("gaps").Table.Rows {
		gaps = append(gaps, row[0]+": "+row[1])
	}
	for _, want := range []string{
		"stale: has access and no code is enrolled", "half: token tk-half was not used in the period", "fresh tk-fresh, half tk-half: these tokens share a seed",
		"stale: has access and did not log in in the period", "admin: the name looks like one that several people share",
	} {
		if !slices.Contains(gaps, want) {
			t.Errorf("no gap %q in %q", want, gaps)
		}
	}
	for _, never := range []string{"attested: token tk-attested was not used in the period", "gone: has access and no code is enrolled"} {
		if slices.Contains(gaps, never) {
			t.Errorf("a gap that is none: %s", never)
		}
	}
	if got := cell(t, d, "services", "svc", "bound"); !strings.HasPrefix(got, "nothing") {
		t.Errorf("a key that is bound to nothing: %s", got)
	}
	raw, err := d.Bytes(document.JSON)
	if err != nil || strings.Contains(string(raw), "seed of") {
		t.Errorf("a seed is in the report (%v)", err)
	}
}

// What suppliers asked for stands beside what they used.
func TestSuppliers(t *testing.T) {
	s, r := small(t)
	d := makeOne(t, gather(t, s, r), report.Suppliers)
	for _, c := range []struct{ section, row, key, want string }{
		{"engineers", "Radix", "state", "active, and the contract is over"},
		{"engineers", "Radix", "logins", "1"},
		{"engineers", "not named", "state", "active, and nobody answers for him"},
		{"windows", "GR-1", "logins", "1"},
		{"windows", "GR-1", "first", "2026-06-30 11:30 UTC"},
		{"windows", "GR-2", "logins", "0"},
		{"windows", "GR-1", "ticket", "CHG1"},
	} {
		if got := cell(t, d, c.section, c.row, c.key); got != c.want {
			t.Errorf("%s of %s: %q, want %q", c.key, c.row, got, c.want)
		}
	}
	if n := len(d.Section("windows").Table.Rows); n != 2 {
		t.Errorf("%d windows overlap the period, want 2", n)
	}
}

// A system without a class is not covered; one that nobody may reach is.
func TestCoverage(t *testing.T) {
	s, r := small(t)
	d := makeOne(t, gather(t, s, r), report.MFA)
	if got := figure(t, d, "summary", "systems_covered"); got != "66.6 %" {
		t.Errorf("covered: %s", got)
	}
	rows := d.Section("plan").Table.Rows
	if len(rows) != 1 || rows[0][0] != "lost" || rows[0][4] != "not named" {
		t.Errorf("the plan: %q", rows)
	}
	// A rule that takes one kind is excepted while its exception is in force, and refuses when it is not.
	s.Rules.Rules = append(s.Rules.Rules, login.Rule{Name: "old", Groups: []string{"old"}, To: []string{"sw1"}, May: []login.Capability{login.MayShell}, Need: []login.Kind{login.Know}, Exception: "EX-1"})
	x := login.Exception{ID: "EX-1", Version: 1, Changed: r.From, Requester: "a", From: r.From, Until: r.To.AddDate(1, 0, 0), Review: r.To.AddDate(0, 6, 0)}
	x.Approval.By, x.Plan.Target = "b", login.DateOf(r.On.AddDate(0, 0, -1))
	s.Exceptions = []login.Exception{x}
	d = makeOne(t, gather(t, s, r), report.MFA)
	if got := cell(t, d, "coverage", "Privileged, other systems", "excepted"); got != "1" {
		t.Errorf("excepted: %s", got)
	}
	plan := d.Section("plan").Table
	if plan.Tones[0] != document.Bad || !strings.HasPrefix(plan.Rows[0][0], "EX-1") {
		t.Errorf("a plan whose day is over looks well: %q", plan.Rows[0])
	}
	s.Exceptions[0].Review = r.On.AddDate(0, 0, -1)
	d = makeOne(t, gather(t, s, r), report.MFA)
	if got := cell(t, d, "coverage", "Privileged, other systems", "excepted"); got != "0" {
		t.Errorf("excepted by an entry that is not in force: %s", got)
	}
}
