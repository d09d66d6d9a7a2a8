package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// The forms in which a document is written.
const (
	HTML = "html"
	CSV  = "csv"
	JSON = "json"
	PDF  = "pdf"
	Text = "text" // for a terminal
)

// Formats lists the forms that files have.
func Formats() []string { return []string{HTML, CSV, JSON, PDF} }

// Write writes d in one of the forms.
func (d *Document) Write(w io.Writer, format string) error {
	switch format {
	case HTML:
		return d.HTML(w)
	case CSV:
		return d.CSV(w)
	case JSON:
		return d.JSON(w)
	case PDF:
		return d.PDF(w)
	case Text:
		return d.Text(w)
	}
	return fmt.Errorf("%q is not a format: want html, csv, json or pdf", format)
}

// JSON writes d with names that stay, indented, so that two of them can be compared by eye.
func (d *Document) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(d.cleaned()); err != nil {
		return fmt.Errorf("report %s as JSON: %w", d.Kind, err)
	}
	return nil
}

// Bytes is a document in one of the forms.
func (d *Document) Bytes(format string) ([]byte, error) {
	var b bytes.Buffer
	err := d.Write(&b, format)
	return b.Bytes(), err
}

// fact is one line of the meta.
type fact struct{ Key, Label, Value string }

// facts are the meta in words, in the order in which every form shows them.
func (d *Document) facts() []fact {
	m := &d.Meta
	loc, err := time.LoadLocation(m.Zone)
	if err != nil {
		loc = time.UTC
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.In(loc).Format("2006-01-02 15:04:05 MST")
	}
	seen := "no records"
	if m.NextSeq > m.FirstSeq {
		seen = fmt.Sprintf("records %d to %d of %s", m.FirstSeq, m.NextSeq-1, m.Node)
	}
	list := []fact{
		{"as_at", "As at", at(m.On)},
		{"period", "Period", at(m.From) + " up to, and without, " + at(m.To)},
		{"time_zone", "Time zone", m.Zone},
		{"generated", "Made", at(m.Made) + " by " + m.By},
		{"filter", "Filter", m.Filter},
		{"rows", "Rows", fmt.Sprint(m.Rows)},
		{"version", "Software", "Sallyport " + m.Version},
		{"config_hash", "Configuration", "SHA-256 " + m.Config},
		{"log", "Log", seen},
		{"integrity", "Integrity", m.Integrity},
		{"run_again", "To run it again", m.Again},
	}
	if m.Frameworks != "" {
		list = append(list, fact{"frameworks", "Mapping", m.Frameworks})
	}
	return list
}
