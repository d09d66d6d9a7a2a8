package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sallyport/internal/alert"
	"sallyport/internal/siem"
)

// TestSIEMDocs holds the tables of docs/siem.md to the code.
func TestSIEMDocs(t *testing.T) {
	const file = "../../docs/siem.md"
	old := string(mustRead(t, file))
	page := old
	for name, table := range map[string]string{"severities": severityTable(), "cef": cefTable(), "kinds": kindTable()} {
		before, rest, found := strings.Cut(page, "<!-- "+name+" -->\n")
		_, after, ended := strings.Cut(rest, "<!-- end -->")
		if !found || !ended {
			t.Fatalf("%s has no place for %s", file, name)
		}
		page = before + "<!-- " + name + " -->\n" + table + "<!-- end -->" + after
	}
	if *update {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if page != old {
		t.Errorf("%s is not what the code does: go test ./cmd/sallyport -run TestSIEMDocs -update", file)
	}
}

func severityTable() string {
	var b strings.Builder
	b.WriteString("| event | reason | result | kind of person | syslog | CEF |\n|---|---|---|---|---|---|\n")
	for _, m := range siem.Mappings() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %d |\n", m.Event, m.Reason, m.Result, m.PersonKind, m.Severity, m.Severity.CEF())
	}
	return b.String()
}

func cefTable() string {
	var b strings.Builder
	b.WriteString("| key | of the record | label |\n|---|---|---|\n")
	for _, f := range siem.Fields() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Key, f.From, f.Label)
	}
	return b.String()
}

func kindTable() string {
	var b strings.Builder
	b.WriteString("| kind | severity | what it means | what to do |\n|---|---|---|---|\n")
	for _, m := range alert.Meanings() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Kind, m.Severity, m.Means, m.Do)
	}
	return b.String()
}
