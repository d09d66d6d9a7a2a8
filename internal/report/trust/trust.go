// Package trust is a made-up hospital trust: 200 people, 60 systems, their rules, exceptions and grants, and the records of a year. It is
// for the example report, for tests and for measurements.
//
// Nothing in it is secret and nothing is random: all of it, the log's signing key included, is computed from a fixed text. NEVER use its
// key for anything: everybody has it.
package trust

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/internal/login"
	"sallyport/internal/report"
)

// Organisation is the trust's name, which says what it is.
const Organisation = "Example Hospitals (made up)"

// Zone is where the trust is.
const Zone = "Europe/London"

const node = "gw1"

// Trust is the made-up trust.
type Trust struct {
	report.State
	Begin, End time.Time // of the year
	Plan       []report.Planned

	dice    *dice
	humans  []*login.Person // that log in
	reaches map[string][]login.System
	codes   map[string]string // a person's token
}

// dice give the same numbers for the same seed (splitmix64). They decide nothing but what an example looks like.
type dice struct{ state uint64 }

func newDice(seed string) *dice {
	sum := sha256.Sum256([]byte(seed))
	return &dice{binary.BigEndian.Uint64(sum[:8])}
}

func (d *dice) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	z := d.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (d *dice) below(n int) int          { return int(d.next() % uint64(n)) }
func (d *dice) chance(perMille int) bool { return d.below(1000) < perMille }

func pick[T any](d *dice, list []T) T { return list[d.below(len(list))] }

// New makes the trust.
func New() *Trust {
	london, err := time.LoadLocation(Zone)
	if err != nil {
		london = time.UTC
	}
	t := &Trust{
		Begin: time.Date(2025, 7, 1, 0, 0, 0, 0, london), End: time.Date(2026, 7, 1, 0, 0, 0, 0, london),
		dice: newDice("example trust, the only one"), reaches: make(map[string][]login.System), codes: make(map[string]string),
	}
	t.State = report.State{
		Now: t.End.Add(9 * time.Hour).UTC(), By: "jane.smith", Version: "example", Config: fmt.Sprintf("%x", sha256.Sum256([]byte("an example's configuration"))),
		Node: node, Organisation: Organisation, First: "ldap",
	}
	t.Operators = []report.Operator{{Who: "jane.smith", Role: "admin"}, {Who: "auditor.brown", Role: "auditor"}, {Who: "group service-desk", Role: "help-desk"}}
	lock := &t.Rules.Settings.Lock
	lock.After, lock.For, lock.HardAfter, lock.HardFor = 5, time.Minute, 10, 30*time.Minute
	t.systems()
	t.rules()
	t.people()
	t.register()
	t.grants()
	t.attest()
	t.Plan = []report.Planned{
		{System: "Payroll bureau's portal", Class: "privileged-external", State: "passwords only", Plan: "single sign-on with the gateway's second factor", Owner: "head of finance systems", Target: date(2026, 10, 31)},
		{System: "Estates: lift controllers", Class: "remote", State: "a modem that is unplugged when not in use", Plan: "move behind the VPN", Owner: "head of estates", Target: date(2026, 9, 30)},
	}
	return t
}

func date(y int, m time.Month, d int) login.Date {
	return login.DateOf(time.Date(y, m, d, 0, 0, 0, 0, time.UTC))
}

func (t *Trust) systems() {
	add := func(class string, tags []string, names ...string) {
		for _, n := range names {
			t.Systems = append(t.Systems, login.System{Name: n, Tags: tags, Class: class})
		}
	}
	add("remote", []string{"vpn"}, "vpn-leeds", "vpn-york", "vpn-suppliers", "wifi-admin")
	add("privileged-external", []string{"cloud"}, "cloud-tenant", "epr-hosted", "pacs-hosted", "backup-offsite", "email-gateway", "dns-provider", "web-hosting", "rostering", "e-learning", "fax-service")
	for i := range 15 {
		add("privileged-internal", []string{"network"}, fmt.Sprintf("core-sw%d", i+1))
	}
	for i := range 16 {
		add("privileged-internal", []string{"server"}, fmt.Sprintf("srv-app%02d", i+1))
	}
	for i := range 8 {
		add("privileged-internal", []string{"database"}, fmt.Sprintf("db%d", i+1))
	}
	add("privileged-internal", []string{"clinical"}, "lab-analyser", "pump-server", "radiology-ris", "pharmacy-robot", "theatre-log")
	add("privileged-internal", []string{"batch"}, "batch-extract")
	add("unclassified", []string{"server"}, "old-intranet")
}

func (t *Trust) rules() {
	ssh := []login.Capability{login.MayShell, login.MayExec, login.MaySFTP}
	t.Rules.Rules = login.Rules{
		{Name: "infusion pumps", Groups: []string{"pumps"}, To: []string{"pump-server"}, May: ssh, Need: []login.Kind{login.Know}, Exception: "EX-1", Record: true},
		{Name: "nightly extract", Groups: []string{"extract"}, To: []string{"batch-extract"}, May: []login.Capability{login.MayExec}, Need: []login.Kind{login.Have}, Exception: "EX-2"},
		{Name: "network team", Groups: []string{"network"}, To: []string{"tag:network", "tag:vpn"}, May: append([]login.Capability{login.MayLogin}, ssh...), Record: true},
		{Name: "server team", Groups: []string{"server"}, To: []string{"tag:server", "tag:database", "tag:cloud", "tag:vpn"}, May: append([]login.Capability{login.MayLogin}, ssh...), Record: true},
		{Name: "clinical systems", Groups: []string{"clinical"}, To: []string{"tag:clinical", "vpn-leeds", "vpn-york"}, May: append([]login.Capability{login.MayLogin}, ssh...), Record: true},
		{Name: "suppliers", Groups: []string{"supplier"}, To: []string{"vpn-suppliers", "tag:clinical", "tag:cloud"}, May: append([]login.Capability{login.MayLogin}, ssh...), Grant: true, Record: true},
		{Name: "emergency", Groups: []string{"emergency"}, To: []string{"*"}, May: append([]login.Capability{login.MayLogin}, ssh...), Record: true},
		{Name: "remote staff", Groups: []string{"remote"}, To: []string{"vpn-leeds", "vpn-york"}, May: []login.Capability{login.MayLogin}},
	}
}

func (t *Trust) people() {
	given := strings.Fields("amir beth carol dai erin farah george hana isla jack karen liam maya nadia omar priya quentin rhys sara tom uma victor wendy xin yusuf zoe")
	family := strings.Fields("ahmed baker clarke davies evans fletcher green hughes iqbal jones khan lewis morgan nowak owen patel quinn roberts singh taylor")
	companies := strings.Fields("Northmed Pulsetech Radix Labline Theatrix")
	companies = append(companies, "O'Brien & Søn")
	taken := map[string]bool{}
	add := func(p login.Person, code bool) {
		p.Created = t.Begin.AddDate(0, 0, -30-t.dice.below(600)).UTC()
		t.People = append(t.People, p)
		if code {
			id := fmt.Sprintf("tk-%012x", t.dice.next()>>16)
			k := login.Token{ID: id, Person: p.Name, State: login.TokenActive, Created: p.Created.Add(time.Hour)}
			k.Params.Type, k.Params.Algorithm, k.Params.Digits, k.Params.Period = "totp", "sha1", 6, 30
			t.Tokens = append(t.Tokens, k)
			t.codes[p.Name] = id
		}
	}
	human := func(kind login.PersonKind, groups ...string) login.Person {
		for {
			g, f := pick(t.dice, given), pick(t.dice, family)
			name := g + "." + f
			if taken[name] {
				continue
			}
			taken[name] = true
			title := func(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
			return login.Person{Name: name, Kind: kind, Groups: groups, FullName: title(g) + " " + title(f)}
		}
	}
	for i := range 158 {
		group := "remote"
		switch {
		case i < 12:
			group = "network"
		case i < 40:
			group = "server"
		case i < 70:
			group = "clinical"
		case i < 74:
			group = "pumps"
		}
		p := human(login.Staff, group)
		if i >= 152 {
			p.Disabled = true // leavers
		}
		add(p, i != 149 && i != 150)
	}
	for i := range 34 {
		p := human(login.Supplier, "supplier")
		p.Company, p.Sponsor = companies[i%len(companies)], t.People[i%12].Name
		p.Contract = date(2026, time.Month(1+i%12), 28)
		if p.Contract.Before(t.End) && i%7 != 0 {
			p.Until = p.Contract.AddDate(0, 0, 1)
		}
		add(p, true)
	}
	for i := range 6 {
		p := login.Person{Name: fmt.Sprintf("svc-%s", []string{"extract", "backup", "monitor", "deploy", "scan", "sync"}[i]), Kind: login.Service, Owner: t.People[20+i].Name}
		if i == 0 {
			p.Groups = []string{"extract"}
		}
		add(p, false)
		k := login.Key{Person: p.Name, Type: "ssh-ed25519", Fingerprint: fmt.Sprintf("SHA256:example%d", i), Created: p.Created}
		if i == 0 {
			k.Bound = &login.Binding{Target: "batch-extract", Command: "/opt/extract/run", Sources: []netip.Prefix{netip.MustParsePrefix("10.9.0.7/32")}}
		}
		t.Keys = append(t.Keys, k)
	}
	for i := range 2 {
		add(login.Person{Name: fmt.Sprintf("emergency%d", i+1), Kind: login.BreakGlass, Groups: []string{"emergency"}, Owner: t.People[0].Name}, true)
	}
	for i := range t.People {
		p := &t.People[i]
		if p.Kind == login.Service || p.Kind == login.BreakGlass || p.Disabled || t.codes[p.Name] == "" {
			continue
		}
		for _, s := range t.Systems {
			if t.Rules.Rules.Find(p.Groups, s.Name, s.Tags) != nil {
				t.reaches[p.Name] = append(t.reaches[p.Name], s)
			}
		}
		t.humans = append(t.humans, p)
	}
}

// register writes the exception register, with its versions.
func (t *Trust) register() {
	at := func(y int, m time.Month, d int) time.Time { return date(y, m, d).Add(10 * time.Hour) }
	entry := func(id, title, rationale string, from, until, review login.Date) login.Exception {
		x := login.Exception{ID: id, Version: 1, Changed: from.Add(-24 * time.Hour), By: "jane.smith", Title: title, Rationale: rationale, Requester: "head of clinical engineering"}
		x.Clause = "to be read against the policy by the trust"
		x.From, x.Until, x.Review = from.Time, until.AddDate(0, 0, 1), review.AddDate(0, 0, 1)
		x.Risk.Threat, x.Risk.Likelihood, x.Risk.Impact, x.Risk.Assessor, x.Risk.Date = "a guessed or stolen password", 2, 4, "IG lead", from
		x.Risk.Effect = "infusion settings could be changed; a clinician checks each at the bed"
		x.Mitigations = []login.Mitigation{{Text: "reachable from two ward subnets alone", Evidence: "firewall change 4711"}, {Text: "sessions are recorded", Evidence: "rule infusion pumps"}}
		x.Approval.By, x.Approval.Role, x.Approval.Body, x.Approval.Reference, x.Approval.Date = "A. Director", "SIRO", "board", "board minute 2025/114", from
		x.Plan.Text, x.Plan.Owner, x.Plan.Target = "replace the server with the maker's next release", "head of clinical engineering", date(2026, 12, 31)
		x.Plan.Progress, x.Plan.Updated = "ordered", from
		return x
	}
	ex1 := entry("EX-1", "Infusion pump server", "its maker's login takes a password and nothing else", date(2025, 6, 1), date(2027, 5, 31), date(2026, 5, 31))
	ex1.Scope.Groups, ex1.Scope.Systems, ex1.Scope.Factors = []string{"pumps"}, []string{"pump-server"}, []login.Kind{login.Know}
	reviewed := ex1
	reviewed.Version, reviewed.Changed, reviewed.By = 2, at(2026, 5, 20), "jane.smith"
	reviewed.Reviews = []login.Review{{By: "head of cyber security", Date: date(2026, 5, 20), Decision: "keep", Note: "the new server is in test", Evidence: strings.Repeat("ab", 32), Next: date(2027, 5, 19)}}
	reviewed.Review = date(2027, 5, 19).AddDate(0, 0, 1)
	reviewed.Plan.Progress, reviewed.Plan.Updated = "the new server is in test", date(2026, 5, 20)
	reviewed.ReportedIn = []string{"submission of June 2026"}

	ex2 := entry("EX-2", "Nightly extract", "a machine has no second kind of factor", date(2025, 6, 15), date(2026, 12, 14), date(2026, 6, 14))
	ex2.Scope.People, ex2.Scope.Systems, ex2.Scope.Factors = []string{"svc-extract"}, []string{"batch-extract"}, []login.Kind{login.Have}
	ex2.Scope.Sources = []netip.Prefix{netip.MustParsePrefix("10.9.0.7/32")}
	ex2.Risk.Threat, ex2.Risk.Likelihood, ex2.Risk.Effect = "a stolen key", 1, "one command runs, which reads"
	ex2.Plan.Text, ex2.Plan.Target, ex2.Plan.Progress = "move the extract to the integration engine", date(2026, 3, 31), "late: the engine's licence is open"

	ex3 := entry("EX-3", "Ward printers' console", "the console has no login of its own", date(2025, 7, 1), date(2026, 6, 30), date(2026, 6, 30))
	ex3.Scope.Groups, ex3.Scope.Systems, ex3.Scope.Factors = []string{"printers"}, []string{"print-console"}, []login.Kind{login.Know}
	ended := ex3
	ended.Version, ended.Changed, ended.Ended, ended.EndReason = 2, at(2026, 1, 12), at(2026, 1, 12), "the console was replaced"

	ex4 := entry("EX-4", "Radiology robot", "to be assessed", date(2026, 7, 15), date(2027, 1, 14), date(2027, 1, 14))
	ex4.Changed, ex4.Approval = at(2026, 6, 20), login.Approval{}
	ex4.Scope.Groups, ex4.Scope.Systems, ex4.Scope.Factors = []string{"clinical"}, []string{"radiology-ris"}, []login.Kind{login.Know}
	t.Exceptions = []login.Exception{ex1, ex2, ex3, ended, reviewed, ex4}
	slices.SortStableFunc(t.Exceptions, func(a, b login.Exception) int { return a.Changed.Compare(b.Changed) })
}

// grants opens windows for suppliers.
func (t *Trust) grants() {
	var suppliers []*login.Person
	for i := range t.People {
		if t.People[i].Kind == login.Supplier {
			suppliers = append(suppliers, &t.People[i])
		}
	}
	for i := range 90 {
		p := suppliers[i%len(suppliers)]
		from := t.Begin.AddDate(0, 0, i*4).Add(time.Duration(8+t.dice.below(4)) * time.Hour).UTC()
		to := []string{"vpn-suppliers", pick(t.dice, []string{"lab-analyser", "pump-server", "radiology-ris", "pacs-hosted", "epr-hosted"})}
		t.Grants = append(t.Grants, login.TimedGrant{
			ID: fmt.Sprintf("GR-%d", i+1), Person: p.Name, Systems: to, From: from, Until: from.Add(time.Duration(4+t.dice.below(60)) * time.Hour),
			Ticket: fmt.Sprintf("CHG%05d", 20000+i*17), Sponsor: p.Sponsor, Requester: p.Sponsor, Asked: from.Add(-20 * time.Hour), Approver: "jane.smith", Approved: from.Add(-2 * time.Hour),
		})
	}
}

// attest looks at most people's access twice, at some's once, and forgets a few.
func (t *Trust) attest() {
	for i, p := range t.humans {
		for _, rule := range t.Rules.Rules.Of(p.Groups) {
			for j, when := range []time.Time{t.Begin.AddDate(0, 2, 3), t.Begin.AddDate(0, 8, 10)} {
				if i%29 == 5 || j == 1 && i%11 == 3 {
					continue
				}
				t.Attestations = append(t.Attestations, login.Attestation{Person: p.Name, Rule: rule.Name, By: "jane.smith", Time: when.Add(time.Duration(i) * time.Minute).UTC(), Decision: "keep"})
			}
		}
	}
}
