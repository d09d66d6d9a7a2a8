package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/login"
	"sallyport/internal/report/document"
)

// accessRow is what one person may reach by one rule.
type accessRow struct {
	person   *login.Person
	rule     string
	to, may  string
	record   bool
	grant    bool
	since    time.Time // of the last attestation, or of the person
	by       string
	decision string
	colour   string
}

// accessRows lists the access of everybody who is not disabled.
func (f *Facts) accessRows() (rows []accessRow) {
	type key struct{ person, rule string }
	last := make(map[key]login.Attestation)
	for _, a := range f.s.Attestations {
		if k := (key{a.Person, a.Rule}); !a.Time.After(f.r.On) && !a.Time.Before(last[k].Time) {
			last[k] = a
		}
	}
	for i := range f.s.People {
		p := &f.s.People[i]
		if !f.active(p) || len(rows) >= maxAccess {
			continue
		}
		for _, rule := range f.s.Rules.Rules.Of(f.groups[p.Name]) {
			row := accessRow{person: p, rule: rule.Name, to: strings.Join(rule.To, ", "), record: rule.Record, grant: rule.Grant, since: p.Created}
			for j, m := range rule.May {
				if j > 0 {
					row.may += ", "
				}
				row.may += string(m)
			}
			if a, ok := last[key{p.Name, rule.Name}]; ok {
				row.since, row.by, row.decision = a.Time, a.By, a.Decision
			}
			if row.colour = login.AccessColour(row.since, f.r.On); row.decision == "remove" {
				row.colour = "red" // somebody said that it is wrong, and he still has it
			}
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b accessRow) int { return strings.Compare(a.person.Name, b.person.Name) })
	return rows
}

func colourTone(colour string) document.Tone {
	switch colour {
	case "green":
		return document.Good
	case "amber":
		return document.Warn
	}
	return document.Bad
}

// factorsOf says what somebody can prove, and how strong that is.
func (f *Facts) factorsOf(p *login.Person) (factors, enrolled string, codes int) {
	parts := []string{"know: password (" + cmp.Or(p.First, f.s.First, "local") + ")"}
	var first time.Time
	for i := range f.s.Tokens {
		if t := &f.s.Tokens[i]; t.Person == p.Name && t.State == login.TokenActive {
			parts = append(parts, fmt.Sprintf("have: %s %d digits (%s)", t.Params.Type, t.Params.Digits, t.ID))
			codes++
			if first.IsZero() || t.Created.Before(first) {
				first = t.Created
			}
		}
	}
	for i := range f.s.Keys {
		if k := &f.s.Keys[i]; k.Person == p.Name {
			parts = append(parts, "have: key "+k.Type)
		}
	}
	return strings.Join(parts, "; "), f.p.On(first), codes
}

// strength is said as it is: a code that somebody types can be typed into a false page (NIST SP 800-63B).
func strength(kind login.PersonKind, codes int) string {
	switch {
	case kind == login.Service:
		return "a service identity: see its exception"
	case codes == 0:
		return "one kind: no code is enrolled"
	}
	return "two kinds; not phishing-resistant"
}

// withoutFactor are people who have access and no code to prove themselves by.
func (f *Facts) withoutFactor() (names []string) {
	for i := range f.s.People {
		p := &f.s.People[i]
		if !f.active(p) || p.Kind == login.Service || len(f.s.Rules.Rules.Of(f.groups[p.Name])) == 0 {
			continue
		}
		if _, _, codes := f.factorsOf(p); codes == 0 {
			names = append(names, p.Name)
		}
	}
	return names
}

// organisation is whom somebody works for.
func organisation(p *login.Person) string {
	switch p.Kind {
	case login.Supplier:
		return orNot(p.Company, "not named") + ", sponsor " + orNot(p.Sponsor, "not named")
	case login.Service, login.BreakGlass:
		return "owner " + orNot(p.Owner, "not named")
	}
	return ""
}

// access is the privileged access register.
func (f *Facts) access(d *document.Document) {
	d.Title = "Privileged access register"
	rows := f.accessRows()
	ends := make(map[string]time.Time)
	for i := range f.s.Grants {
		if g := &f.s.Grants[i]; string(g.At(f.r.On)) == stateLive && g.Until.After(ends[g.Person]) {
			ends[g.Person] = g.Until
		}
	}
	t := &document.Table{Empty: "Nobody has access.", Columns: []document.Column{
		{Key: "person", Title: "Person"},
		{Key: "name", Title: "Name"},
		{Key: "kind", Title: "Kind"},
		{Key: "organisation", Title: "Company, sponsor, owner"},
		{Key: "groups", Title: "Groups"},
		{Key: "rule", Title: "Rule"},
		{Key: "to", Title: "Reaches"},
		{Key: "may", Title: "May"},
		{Key: "factors", Title: "Factors", Wide: true},
		{Key: "strength", Title: "Strength"},
		{Key: "enrolled", Title: "Enrolled"},
		{Key: "last_login", Title: "Last login in the period"},
		{Key: "attested", Title: "Attested"},
		{Key: "attested_by", Title: "By"},
		{Key: "colour", Title: "Review"},
		{Key: "grant_end", Title: "Access ends"},
	}}
	colours := map[string]int{}
	for _, r := range rows {
		p := r.person
		factors, enrolled, codes := f.factorsOf(p)
		last := ""
		if c := f.t.People[p.Name]; c != nil {
			last = f.p.Milli(c.Last)
		}
		end := f.p.Before(p.Until)
		if r.grant {
			end = "needs a grant; none in force"
			if until, ok := ends[p.Name]; ok {
				end = "grant until " + f.p.At(until)
			}
		}
		attested, by := "never", ""
		if r.by != "" {
			attested, by = f.p.On(r.since)+" "+r.decision, r.by
		}
		colours[r.colour]++
		t.Add(colourTone(r.colour), p.Name, p.FullName, string(p.Kind), organisation(p), strings.Join(f.groups[p.Name], ", "), r.rule, r.to, r.may,
			factors, strength(p.Kind, codes), enrolled, last, attested, by, r.colour, end)
	}
	d.Lead = fmt.Sprintf("%s by which people have access: %d attested within half a year, %d older than that, %d older than a year or to be removed.",
		plural(len(rows), "way", "ways"), colours["green"], colours["amber"], colours["red"])
	d.Sections = append(d.Sections,
		document.Section{ID: "access", Title: "Who may reach what, and how he proves himself", Basis: document.State, Table: t, Text: []string{
			"One-time codes and passwords are not phishing-resistant: who is led to a false page can be made to type them there (NIST SP 800-63B). Green: attested, or new, within 180 days. Amber: within 365. Red: older, or attested as to be removed.",
		}, Chart: &document.Chart{Kind: document.Bars, Title: "Ways of access, by when they were last attested", Points: []document.Point{
			{Label: "green", Value: float64(colours["green"]), Tone: document.Good},
			{Label: "amber", Value: float64(colours["amber"]), Tone: document.Warn},
			{Label: "red", Value: float64(colours["red"]), Tone: document.Bad},
		}}},
		f.gaps(), f.services())
}

// gaps are what is wrong with enrolments.
func (f *Facts) gaps() document.Section {
	t := &document.Table{Empty: "None.", Columns: []document.Column{
		{Key: "person", Title: "Person"},
		{Key: "what", Title: "What"},
		{Key: "since", Title: "Since"},
	}}
	created := make(map[string]time.Time)
	for i := range f.s.People {
		created[f.s.People[i].Name] = f.s.People[i].Created
	}
	for _, name := range f.withoutFactor() {
		t.Add(document.Bad, name, "has access and no code is enrolled", f.p.On(created[name]))
	}
	seeds := make(map[string][]string)
	for i := range f.s.Tokens {
		k := &f.s.Tokens[i]
		if k.State != login.TokenActive {
			continue
		}
		if len(k.Seed) > 0 {
			seeds[string(k.Seed)] = append(seeds[string(k.Seed)], k.Person+" "+k.ID)
		}
		if f.t.Tokens[k.ID] == nil {
			t.Add(document.Warn, k.Person, "token "+k.ID+" was not used in the period", f.p.On(k.Created))
		}
	}
	for _, owners := range seeds {
		if len(owners) > 1 {
			t.Add(document.Bad, someOf(owners, 4), "these tokens share a seed", "")
		}
	}
	for i := range f.s.People {
		p := &f.s.People[i]
		if !f.active(p) || len(f.s.Rules.Rules.Of(f.groups[p.Name])) == 0 {
			continue
		}
		if c := f.t.People[p.Name]; (c == nil || c.N == 0) && p.Created.Before(f.r.From) {
			t.Add(document.Warn, p.Name, "has access and did not log in in the period", f.p.On(p.Created))
		}
		if shared(p.Name) && p.Kind != login.Service && p.Kind != login.BreakGlass {
			t.Add(document.Warn, p.Name, "the name looks like one that several people share", f.p.On(p.Created))
		}
	}
	slices.SortFunc(t.Rows, func(a, b []string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	t.Tones = nil
	return document.Section{ID: "gaps", Title: "Gaps: missing and unused factors, dormant and shared names", Basis: document.State, Table: t}
}

// shared tells of names that are a role's and not a person's.
func shared(name string) bool {
	return slices.Contains([]string{"admin", "administrator", "root", "operator", "support", "supplier", "guest", "shared", "test", "user", "helpdesk", "service"}, name)
}

// services lists what logs in without a human.
func (f *Facts) services() document.Section {
	t := &document.Table{Empty: "There are no service identities.", Columns: []document.Column{
		{Key: "person", Title: "Identity"},
		{Key: "owner", Title: "Owner"},
		{Key: "key", Title: "Key"},
		{Key: "enrolled", Title: "Since"},
		{Key: "bound", Title: "Bound to"},
		{Key: "logins", Title: "Logins", Right: true},
		{Key: "last", Title: "Last"},
	}}
	for i := range f.s.People {
		p := &f.s.People[i]
		if p.Kind != login.Service {
			continue
		}
		n, last := 0, ""
		if c := f.t.People[p.Name]; c != nil {
			n, last = c.N, f.p.Milli(c.Last)
		}
		some := false
		for j := range f.s.Keys {
			k := &f.s.Keys[j]
			if k.Person != p.Name {
				continue
			}
			some = true
			bound := "nothing: any source"
			if k.Bound != nil {
				bound = fmt.Sprintf("%s: %q from %v", k.Bound.Target, k.Bound.Command, k.Bound.Sources)
			}
			t.Add(tone(k.Bound != nil, document.Bad), p.Name, orNot(p.Owner, "not named"), k.Fingerprint, f.p.On(k.Created), bound, fmt.Sprint(n), last)
		}
		if !some {
			t.Add(document.Plain, p.Name, orNot(p.Owner, "not named"), "none", "", "", fmt.Sprint(n), last)
		}
	}
	return document.Section{ID: "services", Title: "Service identities", Basis: document.State, Table: t}
}
