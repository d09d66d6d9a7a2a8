package document

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hostile are names as strangers, suppliers and bored engineers type them.
func hostile() []string {
	return []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</style><script>x</script>`, `javascript:alert(1)`,
		`=cmd|' /C calc'!A0`, "+1+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "=\u202e1",
		"core\u202esw\u2066", "nul\x00bell\x07esc\x1b[2Jc1\u009b31m", "line\nbreak\r\nend\u2028\u2029", "bad\xff\xfeutf8", "zero\u200bwidth\u2060\ufeff",
		`{{.Doc}}`, `${x}`, `a,b;"c"`, `\u{202e}`, "中文 😀 Ωмега", strings.Repeat("long", 300), "tag\U000e0041\U000e007f", "",
	}
}

func sample(names []string) *Document {
	t := &Table{Columns: []Column{{Key: "n", Title: "No.", Right: true}, {Key: "name", Title: "Name", Wide: true}, {Key: "hash", Title: "Hash", Mono: true}}}
	for i, n := range names {
		t.Add([]Tone{Plain, Good, Warn, Bad}[i%4], strings.Repeat("1", i%3+1), n, "abc")
	}
	first := names[0]
	d := &Document{
		Kind: "mfa", Title: "Statement " + first, Lead: first, Request: json.RawMessage(`{"kind":"mfa"}`),
		Meta: Meta{
			From: time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC), On: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC),
			Zone: "Europe/London", Made: time.Date(2026, 7, 1, 8, 0, 0, 0, time.UTC), By: first, Filter: "none", Version: "v1", Config: "00ff", Node: "gw1",
			NextSeq: 10, Integrity: "Verified", Verified: true, Again: "sallyport report mfa",
		},
		Sections: []Section{
			{ID: "s", Title: first, Basis: Log, Text: []string{first, "A sentence."}, Figures: []Figure{
				{Key: "a", Label: first, Value: first, Note: first, Tone: Bad}, {Key: "b", Label: "Logins", Value: "12"},
			}},
			{ID: "t", Title: "Table", Basis: State, Table: t, Chart: &Chart{Kind: Bars, Max: 100, Unit: " %", Title: first, Points: []Point{{first, 50, Good}, {"over", 250, Bad}, {"below", -3, Plain}}}},
			{ID: "u", Title: "Over time", Basis: Register, Chart: &Chart{Kind: Spark, Title: "Spark", Points: []Point{{"2026-01", 3, Plain}, {"2026-02", 5, Bad}}}, Table: &Table{Empty: first, Columns: []Column{{Key: "x", Title: "X"}}}},
			{ID: "v", Title: "Days", Chart: &Chart{Kind: Heat, First: 3, Title: "Heat", Points: []Point{{"a", 0, Plain}, {"b", 1, Plain}, {"c", 9, Warn}}}, Sign: []string{"Name", "Date"}},
		},
	}
	d.Count()
	return d
}

// raw tells of characters that could do harm in a file of text.
func rawHarm(s string) string {
	for _, r := range s {
		if r != '\n' && (r == utf8.RuneError || r < ' ' || harmful(r)) {
			return string(r)
		}
	}
	return ""
}

// No name does harm in any form, wherever it stands.
func TestHostileNames(t *testing.T) {
	for _, name := range hostile() {
		if name == "" {
			continue
		}
		d := sample(append([]string{name}, hostile()...))
		page, err := d.Bytes(HTML)
		if err != nil {
			t.Fatal(err)
		}
		checkPage(t, string(page))
		sheet, err := d.Bytes(CSV)
		if err != nil {
			t.Fatal(err)
		}
		checkSheet(t, sheet)
		raw, err := d.Bytes(JSON)
		if err != nil {
			t.Fatal(err)
		}
		if h := rawHarm(string(raw)); h != "" {
			t.Errorf("%q: the JSON holds %q", name, h)
		}
		text, err := d.Bytes(Text)
		if err != nil {
			t.Fatal(err)
		}
		if h := rawHarm(string(text)); h != "" {
			t.Errorf("%q: the text holds %q", name, h)
		}
		if _, err := d.Bytes(PDF); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

var element = regexp.MustCompile(`<[/!]?([a-zA-Z]+)[^>]*>`)

// checkPage holds that a page has no element or attribute that a name could have brought, and is allowed nothing by its own policy.
func checkPage(t *testing.T, page string) {
	t.Helper()
	if h := rawHarm(page); h != "" {
		t.Errorf("the page holds %q", h)
	}
	if !strings.Contains(page, `content="default-src 'none'; style-src 'sha256-`) {
		t.Error("the page has no policy")
	}
	for _, m := range element.FindAllStringSubmatch(page, -1) {
		switch m[1] {
		case "script", "img", "iframe", "object", "link", "a", "form", "input", "base", "image", "use", "foreignObject":
			t.Errorf("the page has the element %s", m[0])
		}
		if regexp.MustCompile(`\s(on[a-z]+|style|href|src)\s*=`).MatchString(m[0]) {
			t.Errorf("the page has the attribute in %s", m[0])
		}
	}
	if n := strings.Count(page, "<style>"); n != 1 {
		t.Errorf("%d style elements", n)
	}
}

func checkSheet(t *testing.T, sheet []byte) {
	t.Helper()
	r := csv.NewReader(bytes.NewReader(sheet))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
				t.Errorf("the cell %.40q begins a formula", cell)
			}
			if h := rawHarm(cell); h != "" {
				t.Errorf("the cell %.40q holds %q", cell, h)
			}
		}
	}
}

// Each form of a document is what it was; all of them the same when made again, also of the kept JSON.
func TestGolden(t *testing.T) {
	d := sample(hostile()[1:])
	for _, format := range append(Formats(), Text) {
		got, err := d.Bytes(format)
		if err != nil {
			t.Fatal(err)
		}
		again, err := d.Bytes(format)
		if err != nil || !bytes.Equal(got, again) {
			t.Errorf("%s: two times are not the same (%v)", format, err)
		}
		path := filepath.Join("testdata", "sample."+format)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not %s: go test -update writes it anew", format, path)
		}
	}
	raw, err := d.Bytes(JSON)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range append(Formats(), Text) {
		want, _ := d.Bytes(format)
		if got, err := back.Bytes(format); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s made of the kept JSON is another (%v)", format, err)
		}
	}
}

// The PDF can be read by others, its text is text, and it has so many pages as it says.
func TestPDFIsRead(t *testing.T) {
	for _, name := range []string{"pdftotext", "pdfinfo"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%s is missing; hint: apt-get install poppler-utils (make deps does it)", name)
		}
	}
	var many []string
	for range 300 {
		many = append(many, "O'Brien & Søn, Ωμέγα, мир")
	}
	d := sample(many)
	path := filepath.Join(t.TempDir(), "x.pdf")
	b, err := d.Bytes(PDF)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command("pdftotext", "-layout", path, "-").CombinedOutput()
	if err != nil {
		t.Fatalf("pdftotext: %v: %s", err, text)
	}
	if n := strings.Count(string(text), "O'Brien & Søn, Ωμέγα, мир"); n < 300 {
		t.Errorf("%d of 300 rows are read", n)
	}
	if !strings.Contains(string(text), "page 2 of ") || strings.Contains(string(text), "{nb}") {
		t.Error("the pages are not numbered")
	}
	info, err := exec.Command("pdfinfo", path).CombinedOutput()
	if err != nil || strings.Contains(string(info), "Error") || !strings.Contains(string(info), "A4") {
		t.Errorf("pdfinfo: %v\n%s", err, info)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain O'Brien Ωμέγα 中文": "plain O'Brien Ωμέγα 中文", "a\u202eb": `a\u{202e}b`, "a\nb": `a\u{a}b`, "\xff": `\x{ff}`, "a\u00a0b": "a\u00a0b", "\u00ad": `\u{ad}`,
		"\ufe0f": `\u{fe0f}`, "\U000e0041": `\u{e0041}`, "\u3164": `\u{3164}`, "\ue000": `\u{e000}`, "\u2003": `\u{2003}`, "\ufffd": `\u{fffd}`,
	} {
		got := Clean(in)
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		if Clean(got) != got {
			t.Errorf("%q changes when it is cleaned again", got)
		}
	}
}

// FuzzParse: no kept file, whatever somebody made of it, does harm when it is read and shown.
func FuzzParse(f *testing.F) {
	raw, err := sample(hostile()[:3]).Bytes(JSON)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"sections":[{"table":{"columns":[],"rows":[[]]},"chart":{"kind":"heat","points":[{"value":1e308}]}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := Parse(raw)
		if err != nil {
			return
		}
		page, err := d.Bytes(HTML)
		if err != nil {
			t.Fatal(err)
		}
		checkPage(t, string(page))
		sheet, err := d.Bytes(CSV)
		if err != nil {
			t.Fatal(err)
		}
		checkSheet(t, sheet)
		if _, err := d.Bytes(Text); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzClean: what is clean is valid, harmless and stays.
func FuzzClean(f *testing.F) {
	for _, s := range hostile() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) || rawHarm(got) != "" || strings.Contains(got, "\n") || Clean(got) != got {
			t.Errorf("%q", got)
		}
		if html.UnescapeString(html.EscapeString(got)) != got {
			t.Errorf("%q does not survive HTML", got)
		}
	})
}

// A document that has nothing in it is a document all the same.
func TestEmpty(t *testing.T) {
	for _, format := range append(Formats(), Text) {
		if _, err := new(Document).Bytes(format); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
	if _, err := new(Document).Bytes("docx"); err == nil {
		t.Error("docx is written")
	}
	for _, bad := range []string{`{}x`, `{"sections":[{"table":{"columns":[{"key":"a"}],"rows":[["1","2"]]}}]}`, `{"unknown":1}`, ``} {
		if _, err := Parse([]byte(bad)); err == nil && bad != `{}x` {
			t.Errorf("%s is read", bad)
		}
	}
	d := sample([]string{"x"})
	var b bytes.Buffer
	if err := d.CSVTable(&b, "t"); err != nil || !strings.HasPrefix(b.String(), "n,name,hash\n1,x,abc\n") {
		t.Errorf("%v: %q", err, b.String())
	}
	if err := d.CSVTable(&b, "s"); err == nil {
		t.Error("a table that is not there")
	}
}
