package report

import (
	"cmp"
	"fmt"
	"strings"

	"sallyport/internal/login"
	"sallyport/internal/report/count"
	"sallyport/internal/report/document"
)

// exceptions is the register as it stood, with all that was written down of each entry.
func (f *Facts) exceptions(d *document.Document) {
	n := f.open()
	d.Title = "Exception register as at " + f.p.At(f.r.On)
	d.Lead = fmt.Sprintf("%s: %d in force, %d overdue, %d closed in the period.", plural(len(f.register), "entry", "entries"), n.live, n.overdue, n.closed)
	t := &document.Table{Empty: "The register was empty.", Columns: []document.Column{
		{Key: "id", Title: "Id"},
		{Key: "version", Title: "Version", Right: true},
		{Key: "title", Title: "Title"},
		{Key: "state", Title: "State"},
		{Key: "clause", Title: "Clause"},
		{Key: "scope", Title: "Scope", Wide: true},
		{Key: "risk", Title: "Risk", Right: true},
		{Key: "approved_by", Title: "Approved by", Wide: true},
		{Key: "from", Title: "From"},
		{Key: "until", Title: "Until"},
		{Key: "review", Title: "Next review"},
		{Key: "logins", Title: "Logins", Right: true},
		{Key: "people", Title: "People", Right: true},
		{Key: "last_used", Title: "Last used"},
		{Key: "reported_in", Title: "Reported in"},
	}}
	var idle []string
	for i := range f.register {
		x := &f.register[i]
		state := stateOf(x, f.r.On)
		logins, people, last := 0, 0, ""
		if u := f.t.Exceptions[x.ID]; u != nil {
			logins, people, last = u.N, len(u.People), f.p.Milli(u.Last)
		}
		if state == stateLive && logins == 0 {
			idle = append(idle, x.ID)
		}
		by := approver(x)
		if by != "" {
			by += ", " + x.Approval.Reference + ", " + x.Approval.Date.String()
		}
		t.Add(exceptionTone(state), x.ID, fmt.Sprint(x.Version), x.Title, state, x.Clause, scopeWords(x), fmt.Sprint(x.Risk.Score()), by,
			count.FirstDay(x.From), count.LastDay(x.Until), count.LastDay(x.Review), fmt.Sprint(logins), fmt.Sprint(people), last, strings.Join(x.ReportedIn, ", "))
	}
	d.Sections = append(d.Sections, document.Section{
		ID: "register", Title: "The register", Basis: document.Register, Table: t,
		Text: []string{
			"Each entry is shown in the version that held at the moment named above; a change makes a new version, and none is ever overwritten. The gateway reads this register: what is expired, not approved or not reviewed in time lets nobody in.",
		},
		Figures: []document.Figure{
			{Key: "open", Label: "Open", Value: fmt.Sprint(n.live + n.waiting + n.requested)},
			{Key: "live", Label: "In force", Value: fmt.Sprint(n.live)},
			{Key: "overdue", Label: "Overdue", Value: fmt.Sprint(n.overdue), Tone: tone(n.overdue == 0, document.Bad)},
			{Key: "closed", Label: "Closed in the period", Value: fmt.Sprint(n.closed)},
		},
	})
	if len(idle) > 0 {
		text := &d.Sections[0].Text
		*text = append(*text, "In force, and nobody relied on it in the period, so that it could perhaps be ended: "+someOf(idle, 20)+".")
	}
	for i := range f.register {
		d.Sections = append(d.Sections, f.entry(&f.register[i]))
	}
	if f.t.Excepted.Rows != nil {
		d.Sections = append(d.Sections, document.Section{
			ID: "uses", Title: "Logins by exception in the period", Basis: document.Log, Table: f.rows(f.t.Excepted, false, count.MaxListed),
		})
	}
}

// entry is all of one entry.
func (f *Facts) entry(x *login.Exception) document.Section {
	t := &document.Table{Columns: []document.Column{{Key: "field", Title: "Field"}, {Key: "value", Title: "Value", Wide: true}}}
	put := func(field, value string) {
		if value != "" {
			t.Add(document.Plain, field, value)
		}
	}
	put("rationale", x.Rationale)
	put("threat", x.Risk.Threat)
	put("risk", fmt.Sprintf("likelihood %d, impact %d, score %d of 25; %s", x.Risk.Likelihood, x.Risk.Impact, x.Risk.Score(), orNot(x.Risk.Effect, "effect not written down")))
	put("assessed", strings.TrimSpace(x.Risk.Assessor+" "+x.Risk.Date.String()))
	for i, m := range x.Mitigations {
		put(fmt.Sprintf("mitigation %d", i+1), m.Text+"; evidence: "+cmp.Or(m.Evidence, "none named"))
	}
	put("requested by", x.Requester)
	put("approved by", approver(x))
	put("approval", strings.TrimSpace(x.Approval.Reference+" "+x.Approval.Date.String()))
	put("entered by", x.Approval.Recorded)
	put("plan", x.Plan.Text)
	put("plan's owner and day", x.Plan.Owner+", "+x.Plan.Target.String())
	put("progress", strings.TrimSpace(x.Plan.Progress+" "+x.Plan.Updated.String()))
	for i, r := range x.Reviews {
		put(fmt.Sprintf("review %d", i+1), fmt.Sprintf("%s by %s: %s; %s; evidence %s", r.Date, r.By, r.Decision, orNot(r.Note, "no note"), cmp.Or(r.Evidence, "none")))
	}
	if !x.Ended.IsZero() {
		put("ended", f.p.At(x.Ended)+": "+x.EndReason)
	}
	put("this version", fmt.Sprintf("%d, by %s, %s", x.Version, x.By, f.p.At(x.Changed)))
	return document.Section{ID: "entry-" + x.ID, Title: x.ID + ": " + x.Title, Basis: document.Register, Table: t}
}

// scopeWords says whom and what an entry is about.
func scopeWords(x *login.Exception) string {
	s := &x.Scope
	var parts []string
	put := func(what string, list []string) {
		if len(list) > 0 {
			parts = append(parts, what+" "+strings.Join(list, ", "))
		}
	}
	put("people", s.People)
	put("groups", s.Groups)
	put("systems", s.Systems)
	var sources, factors []string
	for _, p := range s.Sources {
		sources = append(sources, p.String())
	}
	for _, k := range s.Factors {
		factors = append(factors, string(k))
	}
	put("from", sources)
	put("over", s.Protocols)
	put("proving", factors)
	return strings.Join(parts, "; ")
}
