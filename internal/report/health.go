package report

import (
	"fmt"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/report/count"
	"sallyport/internal/report/document"
)

func textOf(escaped string) string { return audit.Text([]byte(escaped)) }

// health is whether the log itself can be trusted, who read it, and what was changed.
func (f *Facts) health(d *document.Document) {
	t := f.t
	d.Title = "Health of the log"
	d.Lead = f.integrity.Text
	o := &t.Offsets
	clock, note, kind := "not on record", "", document.Warn
	if o.N > 0 {
		clock = fmt.Sprintf("%+.3f to %+.3f ms", float64(o.Least)/1000, float64(o.Most)/1000)
		note = fmt.Sprintf("%s, %d unsynchronised; set %s", plural(o.N, "reading", "readings"), o.Unsynced, plural(o.Steps, "time", "times"))
		kind = tone(o.Unsynced == 0 && o.Steps == 0, document.Bad)
	}
	integrity := f.statementIntegrity()
	integrity.Figures = append(integrity.Figures,
		document.Figure{Key: "signed", Label: "Records that are signed", Value: fmt.Sprint(f.integrity.Size), Note: fmt.Sprintf("%d not yet", f.integrity.Unsigned)},
		document.Figure{Key: "gaps", Label: "Gaps in the numbers", Value: gaps(&f.integrity), Note: "records are numbered without gaps"},
		document.Figure{Key: "clock", Label: "Clock's offset", Value: clock, Note: note, Tone: kind},
	)
	if f.integrity.Root != "" {
		integrity.Text = append(integrity.Text, fmt.Sprintf("Root of the tree over the first %d records: %s", f.integrity.Size, f.integrity.Root))
	}
	d.Sections = append(d.Sections, integrity, f.parts(), f.readers(), f.operators(), f.activity(), f.refusals(), f.changed(), f.verbs())
	if t.Full {
		d.Sections[0].Text = append(d.Sections[0].Text, fmt.Sprintf("The records name more than %d people, systems or tokens: those beyond are counted in the totals, and not by name.", count.MaxNames))
	}
}

// gaps speaks of what only a verification can know.
func gaps(i *Integrity) string {
	switch {
	case !i.Done:
		return "not looked for"
	case i.Sound:
		return "0"
	}
	return "see above"
}

// parts are how forwarding, witnesses, retention stand: what each says of itself.
func (f *Facts) parts() document.Section {
	t := &document.Table{Empty: "Nothing is known of forwarding, witnesses or retention: none is configured.", Columns: []document.Column{
		{Key: "part", Title: "Part"},
		{Key: "what", Title: "What"},
		{Key: "state", Title: "State", Wide: true},
	}}
	for _, s := range f.standings {
		t.Add(tone(s.Well, document.Bad), s.Part, s.What, s.State)
	}
	return document.Section{ID: "parts", Title: "Forwarding, witnesses, retention", Basis: document.State, Table: t}
}

// readers are who looked at the records, as ISO 27001 and PCI DSS want it known.
func (f *Facts) readers() document.Section {
	t := &document.Table{Empty: "Nobody has read the log in the period, as far as it tells.", Columns: []document.Column{
		{Key: "who", Title: "Who"},
		{Key: "event", Title: "What"},
		{Key: "times", Title: "Times", Right: true},
		{Key: "first", Title: "First"},
		{Key: "last", Title: "Last"},
	}}
	for _, key := range byCount(f.t.Readers, func(u *count.Use) int { return u.N }) {
		who, event, _ := strings.Cut(key, "\x00")
		u := f.t.Readers[key]
		t.Add(document.Plain, plain(who), plain(event), fmt.Sprint(u.N), f.p.Milli(u.First), f.p.Milli(u.Last))
	}
	limit(t, count.MaxListed)
	return document.Section{ID: "readers", Title: "Who read the log, recordings and reports", Basis: document.Log, Table: t}
}

// operators are those who may read the log.
func (f *Facts) operators() document.Section {
	t := &document.Table{Empty: "No operators are configured.", Columns: []document.Column{
		{Key: "who", Title: "Who"},
		{Key: "role", Title: "Role"},
		{Key: "reads", Title: "May read the log and reports"},
	}}
	for _, o := range f.s.Operators {
		reads := "no"
		if o.Role == "admin" || o.Role == "auditor" {
			reads = "yes"
		}
		t.Add(document.Plain, o.Who, o.Role, reads)
	}
	return document.Section{ID: "operators", Title: "Who may read the log", Basis: document.State, Table: t, Text: []string{
		"Besides, root of the gateway's machine and the user whom the gateway runs as own its files. What they delete or change shows against a checkpoint that was kept elsewhere.",
	}}
}

// activity shows the days: a day without records in a busy log asks for an explanation.
func (f *Facts) activity() document.Section {
	names, month := f.p.Months()
	t := &document.Table{Columns: []document.Column{
		{Key: "month", Title: "Month"},
		{Key: "admissions", Title: "Logins", Right: true},
		{Key: "refused", Title: "Refused", Right: true},
		{Key: "busiest", Title: "Busiest day"},
		{Key: "quiet", Title: "Days without any", Right: true},
	}}
	type sum struct{ admitted, refused, most, quiet, day int }
	sums := make([]sum, len(names))
	heat := &document.Chart{Kind: document.Heat, Title: "Logins each day: a column a week, Monday at the top; the darker, the more", First: f.p.Weekday()}
	for i, day := range f.t.Days {
		s := &sums[month[i]]
		s.admitted += day.Admitted
		s.refused += day.Refused
		if day.Admitted == 0 {
			s.quiet++
		}
		if day.Admitted > s.most {
			s.most, s.day = day.Admitted, i
		}
		heat.Points = append(heat.Points, document.Point{Label: f.p.Date(i), Value: float64(day.Admitted)})
	}
	for i, name := range names {
		busiest := ""
		if sums[i].most > 0 {
			busiest = fmt.Sprintf("%s: %d", f.p.Date(sums[i].day), sums[i].most)
		}
		t.Add(document.Plain, name, fmt.Sprint(sums[i].admitted), fmt.Sprint(sums[i].refused), busiest, fmt.Sprint(sums[i].quiet))
	}
	return document.Section{ID: "activity", Title: "Activity", Basis: document.Log, Table: t, Chart: heat}
}

// refusals are why attempts failed.
func (f *Facts) refusals() document.Section {
	t := &document.Table{Empty: "Nobody was refused in the period.", Columns: []document.Column{
		{Key: "reason", Title: "Reason"},
		{Key: "times", Title: "Times", Right: true},
		{Key: "last", Title: "Last"},
	}}
	c := &document.Chart{Kind: document.Bars, Title: "Refusals by reason"}
	for i, name := range byCount(f.t.Reasons, func(u *count.Use) int { return u.N }) {
		u := f.t.Reasons[name]
		t.Add(document.Plain, plain(name), fmt.Sprint(u.N), f.p.Milli(u.Last))
		if i < 8 {
			c.Points = append(c.Points, document.Point{Label: plain(name), Value: float64(u.N)})
		}
	}
	s := document.Section{ID: "refusals", Title: "Refused attempts", Basis: document.Log, Table: t}
	if l := f.s.Rules.Settings.Lock; l.After > 0 {
		s.Text = []string{fmt.Sprintf("Guessing, as it was configured when this was made: %d failures in a row lock a person for %v, %d for %v, over all protocols together.", l.After, l.For, l.HardAfter, l.HardFor)}
	}
	if len(c.Points) > 0 {
		s.Chart = c
	}
	return s
}

// changed lists starts and changes of the configuration.
func (f *Facts) changed() document.Section {
	t := &document.Table{Empty: "None.", Columns: []document.Column{
		{Key: "record", Title: "Record", Right: true},
		{Key: "time", Title: "Time"},
		{Key: "event", Title: "Event"},
		{Key: "result", Title: "Result"},
		{Key: "by", Title: "By"},
		{Key: "what", Title: "What", Wide: true},
	}}
	for _, r := range f.t.Changes.Rows {
		t.Add(document.Plain, fmt.Sprint(r.Seq), f.p.Milli(r.Milli), r.Event, r.System, r.Person, r.Why)
	}
	t.Left = f.t.Changes.Left
	return document.Section{ID: "changes", Title: "Starts, and changes of the configuration", Basis: document.Log, Table: t}
}

// verbs counts what operators did.
func (f *Facts) verbs() document.Section {
	t := &document.Table{Empty: "None.", Columns: []document.Column{
		{Key: "event", Title: "Event"},
		{Key: "times", Title: "Times", Right: true},
		{Key: "last", Title: "Last"},
	}}
	for _, name := range byCount(f.t.Events, func(u *count.Use) int { return u.N }) {
		t.Add(document.Plain, plain(name), fmt.Sprint(f.t.Events[name].N), f.p.Milli(f.t.Events[name].Last))
	}
	limit(t, count.MaxListed)
	return document.Section{ID: "verbs", Title: "What operators did", Basis: document.Log, Table: t}
}
