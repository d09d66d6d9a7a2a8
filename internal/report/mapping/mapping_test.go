package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/internal/report"
	"sallyport/internal/report/mapping"
)

func kinds() []string { return report.Kinds() }

// A mapping is data; what is wrong with one is told, and the built-in one claims nothing that was not verified.
func TestMapping(t *testing.T) {
	m, err := mapping.BuiltIn(kinds())
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Rows) < 15 {
		t.Errorf("%d rows", len(m.Rows))
	}
	for _, r := range m.Rows {
		all := strings.ToLower(fmt.Sprint(r))
		for _, never := range []string{"4.5.3", "basic", "better", "best"} {
			if strings.Contains(all, never) {
				t.Errorf("%q is claimed, and could not be verified: %v", never, r)
			}
		}
	}
	for text, want := range map[string]string{
		"rows: [{framework: a, demand: b, source: c, sure: certainly}]":                   "want read, copy",
		"rows: [{framework: a, demand: b, sure: read}]":                                   "want framework, demand and source",
		"rows: [{framework: a, demand: b, source: c, sure: read, reports: [tea-leaves]}]": "no report",
		"rows: [{evidence: 4.5.3}]":                                                       "evidence",
		"rows: {":                                                                         "mapping x",
	} {
		if _, err := mapping.Parse([]byte(text), "x", kinds()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzMapping: an operator's file is read or refused.
func FuzzMapping(f *testing.F) {
	f.Add("note: x\nrows: [{framework: a, demand: b, source: c, sure: read, reports: [mfa]}]")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := mapping.Parse([]byte(text), "x", kinds()); err == nil && len(m.Rows) > 1000 {
			t.Error("too many rows")
		}
	})
}
