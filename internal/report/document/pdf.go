package document

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"
)

// Measures of a page, in millimetres and points.
const (
	pdfMargin = 14.0
	pdfLine   = 4.2 // of running text
	pdfRow    = 3.8 // a line within a table
	pdfBody   = 9.0
	pdfSmall  = 7.5
	pdfFamily = "go"
	pdfMono   = "gomono"

	maxCellLines = 60 // of one cell: a row must fit a page
)

// has tells which characters the font can show. It is made once.
var has = sync.OnceValues(func() (*sfnt.Font, error) { return sfnt.Parse(goregular.TTF) })

// pdf is a page in the making.
type pdf struct {
	*fpdf.Fpdf
	font *sfnt.Font
	buf  sfnt.Buffer
	tall float64 // of the page, in mm
	wide float64 // between the margins
}

// PDF writes A4 pages, by fonts that are within. Characters that those do not have (CJK, emoji, ...) are written as \u{4e2d}.
func (d *Document) PDF(w io.Writer) error {
	font, err := has()
	if err != nil {
		return fmt.Errorf("the font of PDF files: %w", err)
	}
	c := d.cleaned()
	side := "P"
	if c.broad() {
		side = "L"
	}
	p := &pdf{Fpdf: fpdf.New(side, "mm", "A4", ""), font: font}
	p.SetCatalogSort(true) // the same bytes for the same document
	p.SetCreationDate(c.Meta.Made.UTC())
	p.SetModificationDate(c.Meta.Made.UTC())
	p.SetTitle(p.fit(c.Title), true)
	p.SetProducer("Sallyport "+p.fit(c.Meta.Version), true)
	p.SetLang("en-GB")
	p.AddUTF8FontFromBytes(pdfFamily, "", bytes.Clone(goregular.TTF))
	p.AddUTF8FontFromBytes(pdfFamily, "B", bytes.Clone(gobold.TTF))
	p.AddUTF8FontFromBytes(pdfMono, "", bytes.Clone(gomono.TTF))
	p.SetMargins(pdfMargin, pdfMargin, pdfMargin)
	p.SetAutoPageBreak(true, pdfMargin+4)
	p.AliasNbPages("{nb}")
	width, tall := p.GetPageSize()
	p.wide, p.tall = width-2*pdfMargin, tall-pdfMargin-4
	p.SetFooterFunc(func() {
		p.SetY(-pdfMargin + 2)
		p.SetFont(pdfFamily, "", pdfSmall)
		p.SetTextColor(0x44, 0x54, 0x6a)
		p.CellFormat(p.wide-30, 4, p.fit(shorten(c.Title, 90)), "", 0, "L", false, 0, "")
		p.CellFormat(30, 4, fmt.Sprintf("page %d of {nb}", p.PageNo()), "", 0, "R", false, 0, "")
	})
	p.AddPage()
	p.head(c)
	for i := range c.Sections {
		p.section(&c.Sections[i])
	}
	if err := p.Output(w); err != nil {
		return fmt.Errorf("report %s as PDF: %w", d.Kind, err)
	}
	return nil
}

// manyColumns are so many that they want the page on its side.
const manyColumns = 9

// broad tells whether a table has so many columns.
func (d *Document) broad() bool {
	return slices.ContainsFunc(d.Sections, func(s Section) bool { return s.Table != nil && len(s.Table.Columns) >= manyColumns })
}

// fit writes out what the font has no picture of.
func (p *pdf) fit(s string) string {
	var out strings.Builder
	for _, r := range s {
		if g, err := p.font.GlyphIndex(&p.buf, r); err != nil || g == 0 {
			fmt.Fprintf(&out, `\u{%x}`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

func (p *pdf) ink(t Tone) {
	switch t {
	case Good:
		p.SetTextColor(0x1b, 0x7a, 0x3d)
	case Warn:
		p.SetTextColor(0x8a, 0x52, 0x00)
	case Bad:
		p.SetTextColor(0xb0, 0x00, 0x20)
	default:
		p.SetTextColor(0x1a, 0x1a, 0x1a)
	}
}

func (p *pdf) head(c *Document) {
	p.SetFont(pdfFamily, "B", 16)
	p.SetTextColor(0, 0x3a, 0x70)
	p.MultiCell(p.wide, 7, p.fit(c.Title), "", "L", false)
	if c.Lead != "" {
		p.SetFont(pdfFamily, "B", 10)
		p.ink(Plain)
		p.MultiCell(p.wide, 5, p.fit(c.Lead), "", "L", false)
	}
	p.Ln(1)
	for _, f := range c.facts() {
		p.pair(f.Label, f.Value)
	}
}

// pair is a label and a text that may go over lines.
func (p *pdf) pair(label, value string) {
	const labels = 28.0
	p.SetFont(pdfFamily, "", pdfSmall)
	p.SetTextColor(0x44, 0x54, 0x6a)
	p.CellFormat(labels, pdfRow, p.fit(label), "", 0, "L", false, 0, "")
	p.ink(Plain)
	p.MultiCell(p.wide-labels, pdfRow, p.fit(value), "", "L", false)
}

// room begins a page where less than so much is left of this one.
func (p *pdf) room(mm float64) {
	if p.GetY()+mm > p.tall {
		p.AddPage()
	}
}

func (p *pdf) section(s *Section) {
	p.room(16)
	p.Ln(2.5)
	p.SetFont(pdfFamily, "B", 11)
	p.SetTextColor(0, 0x3a, 0x70)
	p.MultiCell(p.wide, 5, p.fit(s.Title), "B", "L", false)
	p.Ln(0.8)
	p.SetFont(pdfFamily, "", pdfBody)
	p.ink(Plain)
	for _, text := range s.Text {
		p.MultiCell(p.wide, pdfLine, p.fit(text), "", "L", false)
		p.Ln(0.5)
	}
	p.figures(s.Figures)
	if s.Chart != nil {
		p.chart(s.Chart)
	}
	if s.Table != nil {
		p.table(s.Table)
	}
	p.sign(s.Sign)
}

// figures stand in boxes, four in a row.
func (p *pdf) figures(list []Figure) {
	const perRow, tall = 4, 13.5
	wide := p.wide / perRow
	for i := 0; i < len(list); i += perRow {
		p.room(tall + 1)
		x, y := p.GetX(), p.GetY()
		for j, f := range list[i:min(i+perRow, len(list))] {
			left := x + float64(j)*wide
			p.SetDrawColor(0xc8, 0xd3, 0xde)
			p.Rect(left, y, wide-1.5, tall, "D")
			line := func(dy, size float64, style, text string) {
				p.SetFont(pdfFamily, style, size)
				p.SetXY(left+1, y+dy)
				p.CellFormat(wide-3.5, 4, p.cut(p.fit(text), wide-3.5), "", 0, "L", false, 0, "")
			}
			p.SetTextColor(0x44, 0x54, 0x6a)
			line(0.8, pdfSmall-0.5, "", f.Label)
			p.ink(f.Tone)
			line(4.6, 12, "B", f.Value)
			p.SetTextColor(0x44, 0x54, 0x6a)
			line(9.3, pdfSmall-0.5, "", f.Note)
		}
		p.SetXY(x, y+tall+1)
	}
	p.ink(Plain)
}

// cut shortens a text to a width.
func (p *pdf) cut(s string, wide float64) string {
	if p.GetStringWidth(s) <= wide {
		return s
	}
	r := []rune(s)
	for len(r) > 0 && p.GetStringWidth(string(r)+"…") > wide {
		r = r[:len(r)-1]
	}
	return string(r) + "…"
}

func (p *pdf) fill(t Tone) {
	var r, g, b int
	_, _ = fmt.Sscanf(colour(t), "#%02x%02x%02x", &r, &g, &b) // our own constants
	p.SetFillColor(r, g, b)
}

func (p *pdf) chart(c *Chart) {
	switch c.Kind {
	case Spark, Heat:
		p.columns(c)
	default:
		p.bars(c)
	}
}

func (p *pdf) bars(c *Chart) {
	const tall, labels, values = 5.0, 42.0, 16.0
	wide := min(p.wide, 140) - labels - values
	for _, pt := range c.Points {
		p.room(tall)
		x, y := p.GetX(), p.GetY()
		p.SetFont(pdfFamily, "", pdfSmall)
		p.CellFormat(labels, tall, p.cut(p.fit(pt.Label), labels-2), "", 0, "L", false, 0, "")
		p.SetFillColor(0xe8, 0xed, 0xf2)
		p.Rect(x+labels, y+1, wide, tall-2, "F")
		p.fill(pt.Tone)
		if s := share(pt.Value, c.top()); s > 0 {
			p.Rect(x+labels, y+1, wide*s, tall-2, "F")
		}
		p.SetXY(x+labels+wide, y)
		p.CellFormat(values, tall, number(pt.Value)+p.fit(c.Unit), "", 1, "R", false, 0, "")
	}
	p.caption(c.Title)
}

// columns draws what changes over time: a thin column a point.
func (p *pdf) columns(c *Chart) {
	if len(c.Points) == 0 {
		return
	}
	const tall = 14.0
	p.room(tall + 6)
	x, y := p.GetX(), p.GetY()
	step := p.wide / float64(len(c.Points))
	for i, pt := range c.Points {
		if s := share(pt.Value, c.top()); s > 0 {
			p.fill(pt.Tone)
			p.Rect(x+float64(i)*step, y+tall*(1-s), max(step*0.8, 0.15), tall*s, "F")
		}
	}
	p.SetDrawColor(0x6b, 0x7f, 0x93)
	p.Line(x, y+tall, x+p.wide, y+tall)
	p.SetXY(x, y+tall+0.5)
	p.SetFont(pdfFamily, "", pdfSmall-0.5)
	p.CellFormat(p.wide/2, 3, p.fit(c.Points[0].Label), "", 0, "L", false, 0, "")
	p.CellFormat(p.wide/2, 3, p.fit(c.Points[len(c.Points)-1].Label), "", 1, "R", false, 0, "")
	p.caption(c.Title)
}

func (p *pdf) caption(text string) {
	p.SetFont(pdfFamily, "", pdfSmall)
	p.SetTextColor(0x44, 0x54, 0x6a)
	p.MultiCell(p.wide, pdfRow, p.fit(text), "", "L", false)
	p.ink(Plain)
	p.Ln(0.5)
}

func (p *pdf) sign(lines []string) {
	for _, line := range lines {
		const tall = 8.0
		p.room(tall)
		p.SetFont(pdfFamily, "", pdfBody)
		p.SetDrawColor(0x1a, 0x1a, 0x1a)
		x, y := p.GetX(), p.GetY()
		p.CellFormat(45, tall, p.fit(line), "", 0, "L", false, 0, "")
		p.Line(x+45, y+tall-1.5, x+min(p.wide, 150), y+tall-1.5)
		p.SetXY(x, y+tall)
	}
}
