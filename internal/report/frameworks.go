package report

import (
	"strings"

	"sallyport/internal/report/document"
)

// frameworks shows the mapping, with its doubts.
func (f *Facts) frameworks(d *document.Document) {
	m := f.mapping
	d.Title = "Which report speaks to which demand"
	d.Lead = "A help for finding one's way, and no claim of compliance."
	d.Meta.Frameworks = m.Name
	t := &document.Table{Empty: "The mapping is empty.", Columns: []document.Column{
		{Key: "framework", Title: "Framework"},
		{Key: "reference", Title: "Reference"},
		{Key: "demand", Title: "What it asks (paraphrased)", Wide: true},
		{Key: "reports", Title: "Reports"},
		{Key: "sure", Title: "How sure"},
		{Key: "source", Title: "Read in", Wide: true},
	}}
	for _, r := range m.Rows {
		kind := document.Plain
		if r.Sure == "unverified" || r.Sure == "second-hand" {
			kind = document.Warn
		}
		t.Add(kind, r.Framework, r.Reference, r.Demand, strings.Join(r.Reports, ", "), r.Sure, r.Source)
	}
	s := document.Section{ID: "mapping", Title: "Mapping", Basis: document.State, Table: t, Text: []string{
		"read: the text itself was read. copy: a copy by somebody else was read. second-hand: only what others quote of it was read. unverified: to be checked by a person before anybody relies on it.",
	}}
	if m.Note != "" {
		s.Text = append(s.Text, m.Note)
	}
	d.Sections = append(d.Sections, s)
}
