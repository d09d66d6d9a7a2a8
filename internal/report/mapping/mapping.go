// Package mapping says which report speaks to which demand of which framework, and how sure that is. It is data: what a framework wants is for
// people to read in the framework, and an operator's own file may stand in for the built-in one.
package mapping

import (
	_ "embed" // the built-in mapping
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"
)

// Table is a mapping.
type Table struct {
	Note string `yaml:"note"`
	Rows []Row  `yaml:"rows"`
	Name string `yaml:"-"` // what reports call it
}

// Row is one demand.
type Row struct {
	Framework string   `yaml:"framework"`
	Reference string   `yaml:"reference"`
	Demand    string   `yaml:"demand"` // paraphrased
	Reports   []string `yaml:"reports"`
	Sure      string   `yaml:"sure"`   // read, copy, second-hand, unverified
	Source    string   `yaml:"source"` // where the demand was read
}

//go:embed mapping.yaml
var builtIn []byte

// Bounds of a mapping.
const (
	maxFile = 1 << 20 // bytes
	maxRows = 1000
)

// BuiltIn is the mapping that comes with the program.
func BuiltIn(kinds []string) (*Table, error) { return Parse(builtIn, "built in", kinds) }

// Parse reads a mapping, strictly. Name is what reports call it, kinds are the reports that there are.
func Parse(text []byte, name string, kinds []string) (*Table, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("mapping %s: %d bytes, at most %d are read", name, len(text), maxFile)
	}
	m := &Table{Name: name}
	if err := yaml.Load(text, m, yaml.WithKnownFields()); err != nil {
		return nil, fmt.Errorf("mapping %s: %w", name, err)
	}
	if len(m.Rows) > maxRows {
		return nil, fmt.Errorf("mapping %s: %d rows, at most %d can be", name, len(m.Rows), maxRows)
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
			if !slices.Contains(kinds, kind) {
				errs = append(errs, fmt.Errorf("mapping %s: row %d (%q): there is no report %q", name, i+1, cut(r.Reference), cut(kind)))
			}
		}
	}
	return m, errors.Join(errs...)
}

func cut(s string) string { return s[:min(len(s), 60)] }
