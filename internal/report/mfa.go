package report

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sallyport/internal/login"
	"sallyport/internal/report/count"
	"sallyport/internal/report/document"
)

func addressOf(s string) (netip.Addr, error) { return netip.ParseAddr(s) }

// The classes of systems, in the order of reports.
const unclassified = "unclassified"

func classes() []string {
	return []string{"remote", "privileged-external", "privileged-internal", unclassified}
}

func classWords(class string) string {
	switch class {
	case "remote":
		return "Remote access"
	case "privileged-external":
		return "Privileged, externally hosted"
	case "privileged-internal":
		return "Privileged, other systems"
	case unclassified:
		return "Unclassified (counts as not covered)"
	}
	return class
}

// covered is how a system stands.
type covered struct {
	login.System
	state      string // enforced, closed, excepted, lapsed, unclassified
	exceptions []string
	rules      []string
}

// coverage judges each system by the rules that decide there. A rule decides for a group when it is the first that matches; whoever is in
// several groups meets one of those.
func (f *Facts) coverage() []covered {
	groups := map[string]bool{"\x00": true} // nobody's: finds what is for everybody
	for i := range f.s.Rules.Rules {
		for _, g := range f.s.Rules.Rules[i].Groups {
			groups[g] = true
		}
	}
	order := slices.Sorted(maps.Keys(groups))
	list := make([]covered, 0, len(f.s.Systems))
	for _, s := range f.s.Systems {
		c := covered{System: s, state: "closed"}
		for _, g := range order {
			rule := f.s.Rules.Rules.Find([]string{g}, s.Name, s.Tags)
			if rule == nil || slices.Contains(c.rules, rule.Name) {
				continue
			}
			c.rules = append(c.rules, rule.Name)
			switch {
			case rule.Compliant():
				if c.state == "closed" {
					c.state = "enforced"
				}
				continue
			case !slices.Contains(c.exceptions, rule.Exception):
				c.exceptions = append(c.exceptions, rule.Exception)
			}
			if x := f.entryOf(rule.Exception); x != nil && stateOf(x, f.r.On) == stateLive {
				c.state = "excepted"
			} else if c.state != "excepted" {
				c.state = "lapsed"
			}
		}
		if s.Class == unclassified || s.Class == "" {
			c.Class, c.state = unclassified, unclassified
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b covered) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// within tells whether a system's state means that nobody reaches it without two kinds.
func within(state string) bool { return state == "enforced" || state == "closed" || state == "lapsed" }

// mfa is the statement. It is to fit two pages, so what grows with a trust's size is counted here and listed in the other reports.
func (f *Facts) mfa(d *document.Document) {
	t := f.t
	d.Title = "Statement on multi-factor authentication"
	if f.s.Organisation != "" {
		d.Title += ": " + f.s.Organisation
	}
	d.Lead = f.verdict()
	systems := f.coverage()
	good := 0
	for _, c := range systems {
		if within(c.state) {
			good++
		}
	}
	open := f.open()
	figures := []document.Figure{
		{Key: "systems_covered", Label: "Systems that take two kinds", Value: percent(good, len(systems)), Note: fmt.Sprintf("%d of %d", good, len(systems)), Tone: tone(good == len(systems), document.Warn)},
		{Key: "admissions", Label: "Logins in the period", Value: fmt.Sprint(t.Total.N), Note: plural(len(t.People), "person", "people")},
		{Key: "two_kinds", Label: "With two kinds of factor", Value: percent(t.Total.Two, t.Total.N), Note: fmt.Sprint(t.Total.Two)},
		{Key: "one_kind_excepted", Label: "With fewer, by an exception", Value: fmt.Sprint(t.Total.Excepted), Note: "in force at that moment", Tone: tone(t.Total.Excepted == 0, document.Warn)},
		{Key: "one_kind_unexplained", Label: "With fewer, and none in force", Value: fmt.Sprint(t.Total.Bad), Note: "must be 0", Tone: tone(t.Total.Bad == 0, document.Bad)},
		{Key: "exceptions_open", Label: "Exceptions open", Value: fmt.Sprint(open.live + open.waiting + open.requested), Note: fmt.Sprintf("%d in force", open.live)},
		{Key: "exceptions_overdue", Label: "Exceptions overdue", Value: fmt.Sprint(open.overdue), Note: "the gateway refuses them", Tone: tone(open.overdue == 0, document.Bad)},
		{Key: "refused", Label: "Refused attempts", Value: fmt.Sprint(t.Total.Refused), Note: plural(t.Repeated, "repeated request", "repeated requests")},
	}
	d.Sections = append(d.Sections,
		document.Section{ID: "summary", Title: "Summary", Basis: document.Log, Figures: figures, Text: []string{
			"An admission is a login that reached a system. Two kinds means two of: something known, something had, something that one is. An SSH key with a one-time code is two things had, and does not count as two kinds.",
		}},
		f.coverageSection(systems), f.admissionSection(), f.unexplained(), f.exceptionSummary(open), f.planSection(systems), f.overdueSection(open), f.statementIntegrity(),
		document.Section{ID: "signature", Title: "Signature", Text: []string{
			"I have read this statement and the exceptions that it names, on behalf of the board.",
		}, Sign: []string{"Name", "Role", "Signature", "Date"}},
	)
}

// verdict is the statement in a sentence. Of standards it says nothing: what they want is for people to judge.
func (f *Facts) verdict() string {
	t := &f.t.Total
	switch {
	case t.N == 0:
		return "No login through this gateway is on record in the period."
	case t.Bad > 0:
		return fmt.Sprintf("%s through this gateway proved fewer than two kinds of factor, and no exception that was in force covers it.", plural(t.Bad, "login", "logins"))
	case t.Excepted > 0:
		return fmt.Sprintf("Each of %d logins through this gateway proved two different kinds of factor, or (%d) relied on an exception that was in force.", t.N, t.Excepted)
	}
	return fmt.Sprintf("Each of %d logins through this gateway proved two different kinds of factor.", t.N)
}

func tone(well bool, otherwise document.Tone) document.Tone {
	if well {
		return document.Good
	}
	return otherwise
}

func (f *Facts) coverageSection(systems []covered) document.Section {
	s := document.Section{
		ID: "coverage", Title: "Coverage: systems behind this gateway", Basis: document.State,
		Text: []string{"Enforced: every rule that decides there asks for two kinds of factor, or nobody may pass. Excepted: a rule asks for fewer, by an exception that is in force. A rule whose exception is not in force lets nobody in."},
		Table: &document.Table{Empty: "No system is configured.", Columns: []document.Column{
			{Key: "class", Title: "Class"},
			{Key: "systems", Title: "Systems", Right: true},
			{Key: "enforced", Title: "Enforced", Right: true},
			{Key: "excepted", Title: "Excepted", Right: true},
			{Key: "not", Title: "Not enforced", Right: true},
			{Key: "percent", Title: "Covered", Right: true},
			{Key: "people", Title: "People with access", Right: true},
			{Key: "exceptions", Title: "Exceptions"},
		}},
		Chart: &document.Chart{Kind: document.Bars, Max: 100, Unit: " %", Title: "Systems of each class that take two kinds of factor, in per cent"},
	}
	reach := f.peopleByClass()
	for _, class := range classes() {
		var all, good, excepted int
		var ids []string
		for _, c := range systems {
			if c.Class != class {
				continue
			}
			all++
			switch {
			case within(c.state):
				good++
			case c.state == "excepted":
				excepted++
			}
			for _, id := range c.exceptions {
				if !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			}
		}
		if all == 0 && class == unclassified {
			continue
		}
		kind := tone(good == all, document.Warn)
		if class == unclassified {
			kind = document.Bad
		}
		s.Table.Add(kind, classWords(class), fmt.Sprint(all), fmt.Sprint(good), fmt.Sprint(excepted), fmt.Sprint(all-good-excepted), percent(good, all), fmt.Sprint(len(reach[class])), someOf(ids, 8))
		s.Chart.Points = append(s.Chart.Points, document.Point{Label: classWords(class), Value: share(good, all), Tone: kind})
	}
	return s
}

// peopleByClass are those who may reach any system of each class now.
func (f *Facts) peopleByClass() map[string]map[string]bool {
	reach := make(map[string]map[string]bool)
	for _, p := range f.s.People {
		if !f.active(&p) {
			continue
		}
		for _, s := range f.s.Systems {
			class := s.Class
			if class == "" {
				class = unclassified
			}
			if reach[class][p.Name] || f.s.Rules.Rules.Find(f.groups[p.Name], s.Name, s.Tags) == nil {
				continue
			}
			if reach[class] == nil {
				reach[class] = make(map[string]bool)
			}
			reach[class][p.Name] = true
		}
	}
	return reach
}

// active tells whether a person could log in when the report was made.
func (f *Facts) active(p *login.Person) bool {
	return !p.Disabled && (p.Until.IsZero() || f.made.Before(p.Until)) && (p.From.IsZero() || !f.made.Before(p.From))
}

func (f *Facts) admissionSection() document.Section {
	s := document.Section{
		ID: "admissions", Title: "Logins in the period, by class of system", Basis: document.Log,
		Table: &document.Table{Empty: "No login is on record in the period.", Columns: []document.Column{
			{Key: "class", Title: "Class"},
			{Key: "admissions", Title: "Logins", Right: true},
			{Key: "two", Title: "Two kinds", Right: true},
			{Key: "leaned", Title: "of these, by a trusted login", Right: true},
			{Key: "excepted", Title: "By exception", Right: true},
			{Key: "bad", Title: "Unexplained", Right: true},
			{Key: "percent", Title: "Two kinds", Right: true},
		}},
	}
	names := classes()
	for _, name := range slices.Sorted(maps.Keys(f.t.Classes)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		c := f.t.Classes[name]
		if c == nil {
			continue
		}
		s.Table.Add(tone(c.Bad == 0, document.Bad), classWords(name), fmt.Sprint(c.N), fmt.Sprint(c.Two), fmt.Sprint(c.Leaned), fmt.Sprint(c.Excepted), fmt.Sprint(c.Bad), percent(c.Two, c.N))
	}
	s.Chart = f.byMonth("Logins each month", func(d count.Day) int { return d.Admitted })
	return s
}

// byMonth draws what happened each month, or each day where the period has few.
func (f *Facts) byMonth(title string, of func(count.Day) int) *document.Chart {
	c := &document.Chart{Kind: document.Spark, Title: title}
	if len(f.p.Days) <= 62 {
		c.Title = strings.Replace(title, "month", "day", 1)
		for i, d := range f.t.Days {
			c.Points = append(c.Points, document.Point{Label: f.p.Date(i), Value: float64(of(d))})
		}
	} else {
		names, month := f.p.Months()
		for _, name := range names {
			c.Points = append(c.Points, document.Point{Label: name})
		}
		for i, d := range f.t.Days {
			c.Points[month[i]].Value += float64(of(d))
		}
	}
	if len(c.Points) < 2 {
		return nil
	}
	var words []string
	for _, p := range c.Points {
		words = append(words, fmt.Sprintf("%s %d", p.Label, int(p.Value)))
	}
	if len(words) <= 14 {
		c.Title += ": " + strings.Join(words, ", ")
	}
	return c
}

// unexplained lists what must not be.
func (f *Facts) unexplained() document.Section {
	s := document.Section{ID: "unexplained", Title: "Logins with fewer than two kinds, and no exception in force", Basis: document.Log, Table: f.rows(f.t.Bad, true, 20)}
	s.Table.Empty = "None."
	return s
}

// rows lists records. Of the statement's they are few, so that it stays short.
func (f *Facts) rows(l count.List, why bool, most int) *document.Table {
	t := &document.Table{Empty: "None.", Columns: []document.Column{
		{Key: "record", Title: "Record", Right: true},
		{Key: "time", Title: "Time"},
		{Key: "person", Title: "Person"},
		{Key: "system", Title: "System"},
		{Key: "class", Title: "Class"},
		{Key: "factors", Title: "Factors"},
		{Key: "exception", Title: "Exception"},
	}}
	if why {
		t.Columns = append(t.Columns, document.Column{Key: "why", Title: "What is wrong"})
	}
	for _, r := range l.Rows[:min(len(l.Rows), most)] {
		cells := []string{fmt.Sprint(r.Seq), f.p.Milli(r.Milli), r.Person, r.System, r.Class, r.Factors, r.Exception}
		if why {
			cells = append(cells, r.Why)
		}
		t.Add(tone(!why, document.Bad), cells...)
	}
	t.Left = l.Left + len(l.Rows) - min(len(l.Rows), most)
	return t
}
