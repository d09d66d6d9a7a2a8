package report

import (
	"fmt"
	"slices"
	"strings"

	"sallyport/internal/login"
	"sallyport/internal/report/count"
	"sallyport/internal/report/document"
)

// suppliers is all access that other companies had.
func (f *Facts) suppliers(d *document.Document) {
	d.Title = "Suppliers' access"
	people := &document.Table{Empty: "No supplier's engineer is known.", Columns: []document.Column{
		{Key: "company", Title: "Company"},
		{Key: "person", Title: "Engineer"},
		{Key: "name", Title: "Name"},
		{Key: "sponsor", Title: "Sponsor"},
		{Key: "contract_end", Title: "Contract ends"},
		{Key: "state", Title: "State"},
		{Key: "logins", Title: "Logins", Right: true},
		{Key: "fewer", Title: "With fewer than two kinds", Right: true},
		{Key: "refused", Title: "Refused", Right: true},
		{Key: "sessions", Title: "Sessions", Right: true},
		{Key: "recorded", Title: "Recorded", Right: true},
		{Key: "last", Title: "Last login"},
	}}
	of := make(map[string]*login.Person)
	today := login.DateOf(f.r.On)
	logins := 0
	for i := range f.s.People {
		p := &f.s.People[i]
		if p.Kind != login.Supplier {
			continue
		}
		of[p.Name] = p
		c := f.t.People[p.Name]
		if c == nil {
			c = new(count.Count)
		}
		logins += c.N
		state, kind := "active", document.Plain
		switch {
		case !f.active(p):
			state = "not active"
		case !p.Contract.IsZero() && p.Contract.Before(today.Time):
			state, kind = "active, and the contract is over", document.Bad
		case p.Sponsor == "" || p.Company == "":
			state, kind = "active, and nobody answers for him", document.Warn
		}
		people.Add(kind, orNot(p.Company, "not named"), p.Name, p.FullName, orNot(p.Sponsor, "not named"), p.Contract.String(), state,
			fmt.Sprint(c.N), fmt.Sprint(c.Excepted+c.Bad), fmt.Sprint(c.Refused), fmt.Sprint(c.Sessions), fmt.Sprint(c.Recorded), f.p.Milli(c.Last))
	}
	// Those who were removed are known by their records alone.
	gone := 0
	for name, c := range f.t.People {
		if c.Kind == string(login.Supplier) && of[name] == nil {
			gone++
			logins += c.N
		}
	}
	d.Lead = fmt.Sprintf("%s of %s.", plural(logins, "login", "logins"), plural(len(of)+gone, "supplier's engineer", "suppliers' engineers"))
	s := document.Section{ID: "engineers", Title: "Engineers", Basis: document.State, Table: people}
	if gone > 0 {
		s.Text = append(s.Text, plural(gone, "engineer who is in the records is not known any more, and is not listed.", "engineers who are in the records are not known any more, and are not listed."))
	}
	d.Sections = append(d.Sections, s, f.windows(of))
}

// windows compares what was asked for with what was used.
func (f *Facts) windows(of map[string]*login.Person) document.Section {
	t := &document.Table{Empty: "No grant to a supplier overlaps the period.", Columns: []document.Column{
		{Key: "grant", Title: "Grant"},
		{Key: "company", Title: "Company"},
		{Key: "person", Title: "Engineer"},
		{Key: "sponsor", Title: "Sponsor"},
		{Key: "ticket", Title: "Ticket"},
		{Key: "systems", Title: "Systems"},
		{Key: "from", Title: "From"},
		{Key: "until", Title: "Until"},
		{Key: "state", Title: "State"},
		{Key: "approver", Title: "Approved by"},
		{Key: "logins", Title: "Logins", Right: true},
		{Key: "first", Title: "First used"},
		{Key: "last", Title: "Last used"},
	}}
	for i := range f.s.Grants {
		g := &f.s.Grants[i]
		p := of[g.Person]
		if p == nil || !g.From.Before(f.r.To) || g.Until.Before(f.r.From) {
			continue
		}
		u := f.t.Grants[g.ID]
		kind := document.Plain
		if u == nil {
			u = new(count.Use)
			kind = document.Warn // a window that nobody used was not needed
		}
		t.Add(kind, g.ID, orNot(p.Company, "not named"), g.Person, orNot(g.Sponsor, "not named"), g.Ticket, strings.Join(g.Systems, ", "), f.p.At(g.From), f.p.At(g.Until),
			string(g.At(f.r.On)), g.Approver, fmt.Sprint(u.N), f.p.Milli(u.First), f.p.Milli(u.Last))
	}
	return document.Section{ID: "windows", Title: "Windows that were asked for, and their use", Basis: document.State, Table: t, Text: []string{
		"Sessions and their recordings: `sallyport session list --past --person NAME`.",
	}}
}

// sessions is what was reviewed of what was done.
func (f *Facts) sessions(d *document.Document) {
	d.Title = "Sessions, and their review"
	t := &f.t.Total
	reviewed := len(f.t.Reviewed)
	d.Lead = fmt.Sprintf("%s began in the period, %d were recorded; %s reviewed.", plural(t.Sessions, "session", "sessions"), t.Recorded, plural(reviewed, "was", "were"))
	figures := []document.Figure{
		{Key: "sessions", Label: "Sessions", Value: fmt.Sprint(t.Sessions)},
		{Key: "recorded", Label: "Recorded", Value: percent(t.Recorded, t.Sessions), Note: fmt.Sprint(t.Recorded)},
		{Key: "reviewed", Label: "Reviewed", Value: fmt.Sprint(reviewed), Note: percent(min(reviewed, t.Sessions), t.Sessions) + " of those that began", Tone: tone(reviewed > 0 || t.Sessions == 0, document.Warn)},
		{Key: "live", Label: "Live when this was made", Value: fmt.Sprint(f.s.Live)},
	}
	byPerson := &document.Table{Empty: "No session is on record in the period.", Columns: []document.Column{
		{Key: "person", Title: "Person"},
		{Key: "kind", Title: "Kind"},
		{Key: "sessions", Title: "Sessions", Right: true},
		{Key: "recorded", Title: "Recorded", Right: true},
		{Key: "logins", Title: "Logins", Right: true},
		{Key: "last", Title: "Last login"},
	}}
	for _, name := range byCount(f.t.People, func(c *count.Count) int { return c.Sessions }) {
		if c := f.t.People[name]; c.Sessions > 0 {
			byPerson.Add(document.Plain, plain(name), c.Kind, fmt.Sprint(c.Sessions), fmt.Sprint(c.Recorded), fmt.Sprint(c.N), f.p.Milli(c.Last))
		}
	}
	limit(byPerson, count.MaxListed)
	ends := &document.Table{Empty: "No session has ended in the period.", Columns: []document.Column{
		{Key: "reason", Title: "Why it ended"},
		{Key: "sessions", Title: "Sessions", Right: true},
		{Key: "last", Title: "Last"},
	}}
	for _, name := range byCount(f.t.Ends, func(u *count.Use) int { return u.N }) {
		ends.Add(document.Plain, plain(name), fmt.Sprint(f.t.Ends[name].N), f.p.Milli(f.t.Ends[name].Last))
	}
	glass := f.rows(f.t.Glass, false, count.MaxListed)
	glass.Columns = append(glass.Columns, document.Column{Key: "reviewed", Title: "Reviewed"})
	for i := range glass.Rows {
		word := "no"
		if f.looked(f.t.Glass.Rows[i]) {
			word = "yes"
		}
		glass.Rows[i] = append(glass.Rows[i], word)
	}
	d.Sections = append(d.Sections,
		document.Section{ID: "review", Title: "Review", Basis: document.Log, Figures: figures, Text: []string{
			"A review is a record of its own, by somebody else than the session's person: `sallyport report review SESSION --finding TEXT`.",
		}},
		document.Section{ID: "people", Title: "Sessions by person", Basis: document.Log, Table: byPerson},
		document.Section{ID: "ends", Title: "How sessions ended", Basis: document.Log, Table: ends},
		document.Section{ID: "emergency", Title: "Emergency access: break-glass identities and recovery codes", Basis: document.Log, Table: glass},
	)
}

// plain is a name as the records' JSON has it, made text. Maps are keyed by the JSON's form.
func plain(escaped string) string { return textOf(escaped) }

// byCount orders names by a number, the largest first, and then by name.
func byCount[T any](m map[string]T, of func(T) int) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if x, y := of(m[a]), of(m[b]); x != y {
			return y - x
		}
		return strings.Compare(a, b)
	})
	return names
}

// limit leaves out what is beyond a number of rows, and says so.
func limit(t *document.Table, most int) {
	if n := len(t.Rows) - most; n > 0 {
		t.Rows, t.Left = t.Rows[:most], t.Left+n
		t.Tones = t.Tones[:min(len(t.Tones), most)]
	}
}
