package document

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
)

// neutral keeps a spreadsheet from taking a cell for a formula: those that begin one get an apostrophe before them, which
// spreadsheets take for "this is text".
func neutral(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func neutrals(cells []string) []string {
	out := make([]string, len(cells))
	for i, c := range cells {
		out[i] = neutral(c)
	}
	return out
}

// CSV writes the whole report for a spreadsheet (RFC 4180): the meta, then each section under a row with its title. Programs take one table by CSVTable.
func (d *Document) CSV(w io.Writer) error {
	c := d.cleaned()
	out := csv.NewWriter(w)
	row := func(cells ...string) { _ = out.Write(neutrals(cells)) } // Error tells of the first failure
	row(c.Title)
	for _, f := range c.facts() {
		row(f.Label, f.Value)
	}
	for i := range c.Sections {
		s := &c.Sections[i]
		row("")
		row(s.Title, "section "+s.ID, "from the "+string(s.Basis))
		for _, text := range s.Text {
			row(text)
		}
		for _, f := range s.Figures {
			row(f.Label, f.Value, f.Note)
		}
		if s.Table != nil {
			s.Table.csv(row)
		}
		for _, line := range s.Sign {
			row(line, "")
		}
	}
	out.Flush()
	return out.Error()
}

func (t *Table) csv(row func(cells ...string)) {
	titles := make([]string, len(t.Columns))
	for i, col := range t.Columns {
		titles[i] = col.Title
	}
	row(titles...)
	for _, cells := range t.Rows {
		row(cells...)
	}
	if t.Left > 0 {
		row(fmt.Sprintf("%d more rows are left out", t.Left))
	}
}

// CSVTable writes one section's table alone, its first row the columns' keys.
func (d *Document) CSVTable(w io.Writer, section string) error {
	s := d.Section(section)
	if s == nil || s.Table == nil {
		return fmt.Errorf("report %s has no table %q", d.Kind, section)
	}
	t := s.cleaned().Table
	out := csv.NewWriter(w)
	keys := make([]string, len(t.Columns))
	for i, col := range t.Columns {
		keys[i] = col.Key
	}
	_ = out.Write(neutrals(keys))
	for _, cells := range t.Rows {
		_ = out.Write(neutrals(cells))
	}
	out.Flush()
	return out.Error()
}

// Tables lists the ids of the sections that have a table.
func (d *Document) Tables() (ids []string) {
	for _, s := range d.Sections {
		if s.Table != nil {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
