package report

import (
	_ "embed" // the built-in mapping
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"sallyport/internal/report/document"
)

// Frameworks says which report speaks to which demand of which framework, and how sure that is. It is data: what a framework wants is for
// people to read in the framework, and an operator's own file may stand in for the built-in one.
type Frameworks struct {
	Note string         `yaml:"note"`
	Rows []FrameworkRow `yaml:"rows"`
	file string
}

// FrameworkRow is one demand.
type FrameworkRow struct {
	Framework string   `yaml:"framework"`
	Reference string   `yaml:"reference"`
	Demand    string   `yaml:"demand"` // paraphrased
	Reports   []string `yaml:"reports"`
	Sure      string   `yaml:"sure"`   // read, copy, second-hand, unverified
	Source    string   `yaml:"source"` // where the demand was read
}

//go:embed frameworks.yaml
var frameworksYAML []byte

// Bounds of a mapping.
const (
	maxFrameworks     = 1 << 20 // bytes
	maxFrameworksRows = 1000
)

// BuiltIn is the mapping that comes with the program.
func BuiltIn() (*Frameworks, error) { return ParseFrameworks(frameworksYAML, "built in") }

// ParseFrameworks reads a mapping, strictly. Name is what reports call it.
func ParseFrameworks(text []byte, name string) (*Frameworks, error) {
	if len(text) > maxFrameworks {
		return nil, fmt.Errorf("mapping %s: %d bytes, at most %d are read", name, len(text), maxFrameworks)
	}
	m := &Frameworks{file: name}
	if err := yaml.Load(text, m, yaml.WithKnownFields()); err != nil {
		return nil, fmt.Errorf("mapping %s: %w", name, err)
	}
	if len(m.Rows) > maxFrameworksRows {
		return nil, fmt.Errorf("mapping %s: %d rows, at most %d can be", name, len(m.Rows), maxFrameworksRows)
	}
	var errs []error
	for i, r := range m.Rows {
		switch {
		case r.Framework == "" || r.Demand == "" || r.Source == "":
			errs = append(errs, fmt.Errorf("mapping %s: row %d (%q): want framework, demand and source", name, i+1, cut(r.Reference)))
		case !slices.Contains([]string{"read", "copy", "second-hand", "unverified"}, r.Sure):
			errs = append(errs, fmt.Errorf("mapping %s: row %d (%q): sure is %q: want read, copy, second-hand or unverified", name, i+1, cut(r.Reference), cut(r.Sure)))
		}
		for _, kind := range r.Reports {
			if !slices.Contains(Kinds(), kind) {
				errs = append(errs, fmt.Errorf("mapping %s: row %d (%q): there is no report %q", name, i+1, cut(r.Reference), cut(kind)))
			}
		}
	}
	return m, errors.Join(errs...)
}

// frameworks shows the mapping, with its doubts.
func (f *Facts) frameworks(d *document.Document) {
	m := f.mapping
	d.Title = "Which report speaks to which demand"
	d.Lead = "A help for finding one's way, and no claim of compliance."
	d.Meta.Frameworks = m.file
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
