package document

import (
	"bufio"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"sync"
	"time"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// beside is how many columns a table may have to stand beside a chart.
const beside = 4

// page is parsed once; it isn't changed after that.
var page = sync.OnceValues(func() (*template.Template, error) {
	return template.New("page").Funcs(template.FuncMap{
		"draw":  func(c *Chart) template.HTML { return template.HTML(svg(c)) }, // svg escapes each text that it writes
		"basis": basisWords,
		"layout": func(s Section) string {
			if s.Table != nil && len(s.Table.Columns) > beside {
				return "stack"
			}
			return "split"
		},
		"tone": func(t *Table, row int) Tone { return t.tone(row) },
		"class": func(t *Table, column int, cell string) string {
			_, err := time.Parse(time.DateOnly, cell)
			switch c := t.Columns[column]; {
			case c.Right:
				return "right"
			case err == nil:
				return "day"
			case c.Mono:
				return "mono"
			case c.Wide:
				return "wide"
			}
			return ""
		},
		"empty": func(t *Table) string { return orElse(t.Empty, "None.") },
	}).Parse(pageHTML)
})

func basisWords(b Basis) string {
	switch b {
	case Log:
		return "(from the records)"
	case Register:
		return "(from the register as it stood)"
	case State:
		return "(as it stood when the report was made)"
	}
	return ""
}

// HTML writes one page that needs nothing else: no script, no font, no address. Its own policy (CSP) forbids all but its style, so that
// whatever a name holds, nothing of it runs.
func (d *Document) HTML(w io.Writer) error {
	t, err := page()
	if err != nil {
		return fmt.Errorf("the page's template: %w", err)
	}
	c := d.cleaned()
	sum := sha256.Sum256([]byte(pageCSS))
	side := ""
	if c.broad() {
		side = "broad"
	}
	out := bufio.NewWriter(w)
	err = t.Execute(out, struct {
		Doc   *Document
		Facts []fact
		CSS   template.CSS
		Side  string
		Hash  string
	}{c, c.facts(), template.CSS(pageCSS), side, "sha256-" + base64.StdEncoding.EncodeToString(sum[:])})
	if err != nil {
		return fmt.Errorf("report %s as HTML: %w", d.Kind, err)
	}
	return out.Flush()
}
