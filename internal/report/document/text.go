package document

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// width of running text on a terminal.
const width = 100

// Text writes for a terminal: charts are left out, since the tables say the same.
func (d *Document) Text(w io.Writer) error {
	c := d.cleaned()
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%s\n%s\n", c.Title, strings.Repeat("=", utf8.RuneCountInString(c.Title)))
	if c.Lead != "" {
		wrapped(out, c.Lead)
	}
	tabs := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, f := range c.facts() {
		fmt.Fprintf(tabs, "%s\t%s\n", f.Label, f.Value)
	}
	_ = tabs.Flush() // bufio keeps the error
	for i := range c.Sections {
		s := &c.Sections[i]
		fmt.Fprintf(out, "\n%s\n%s\n", s.Title, strings.Repeat("-", utf8.RuneCountInString(s.Title)))
		for _, text := range s.Text {
			wrapped(out, text)
		}
		for _, f := range s.Figures {
			fmt.Fprintf(tabs, "%s\t%s\t%s\n", f.Label, f.Value+mark(f.Tone), f.Note)
		}
		_ = tabs.Flush()
		if s.Table != nil {
			s.Table.text(tabs)
			_ = tabs.Flush()
			if s.Table.Left > 0 {
				fmt.Fprintf(out, "%d more rows are left out\n", s.Table.Left)
			}
		}
		for _, line := range s.Sign {
			fmt.Fprintf(out, "%s: ______________________________\n", line)
		}
	}
	return out.Flush()
}

// mark says by a sign what a colour would.
func mark(t Tone) string {
	switch t {
	case Bad:
		return " !!"
	case Warn:
		return " !"
	}
	return ""
}

func (t *Table) text(w io.Writer) {
	if len(t.Rows) == 0 {
		fmt.Fprintln(w, orElse(t.Empty, "none"))
		return
	}
	for _, col := range t.Columns {
		fmt.Fprintf(w, "%s\t", strings.ToUpper(col.Title))
	}
	fmt.Fprintln(w)
	for i, row := range t.Rows {
		for j, cell := range row {
			if j == 0 {
				cell += mark(t.tone(i))
			}
			fmt.Fprintf(w, "%s\t", orElse(cell, "-"))
		}
		fmt.Fprintln(w)
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func wrapped(w io.Writer, text string) {
	line := 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if line > 0 && line+1+n > width {
			fmt.Fprintln(w)
			line = 0
		}
		if line > 0 {
			fmt.Fprint(w, " ")
			line++
		}
		fmt.Fprint(w, word)
		line += n
	}
	fmt.Fprintln(w)
}
