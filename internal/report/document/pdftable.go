package document

import "fmt"

// table lays the columns out by what stands in them, and repeats its head on each page.
func (p *pdf) table(t *Table) {
	if len(t.Rows) == 0 {
		p.caption(orElse(t.Empty, "None."))
		return
	}
	widths := p.widths(t)
	p.tableHead(t, widths)
	for i, row := range t.Rows {
		p.tableRow(t, widths, row, t.tone(i))
	}
	if t.Left > 0 {
		p.caption(fmt.Sprintf("%d more rows are left out here; the JSON and CSV forms say the same.", t.Left))
	}
	p.Ln(1)
}

// sampled bounds the rows that are measured for the widths.
const sampled = 400

func (p *pdf) widths(t *Table) []float64 {
	const least, pad, padRow = 9.0, 2.6, 0.4 // pad: a cell's margins, 1 mm on either side, and a little
	p.SetFont(pdfFamily, "B", pdfSmall)
	want := make([]float64, len(t.Columns))
	total := 0.0
	for j, col := range t.Columns {
		most := 42.0
		if col.Wide || col.Mono {
			most = 95
		}
		want[j] = p.GetStringWidth(p.fit(col.Title)) + pad
		for _, row := range t.Rows[:min(len(t.Rows), sampled)] {
			want[j] = max(want[j], p.GetStringWidth(p.fit(shorten(row[j], 80)))+pad+padRow)
		}
		want[j] = max(least, min(want[j], most))
		total += want[j]
	}
	if total <= p.wide {
		return want
	}
	// What is narrow keeps its width; the others share the rest.
	narrow, rest := 0.0, 0.0
	fair := p.wide / float64(len(want))
	for _, w := range want {
		if w <= fair {
			narrow += w
		} else {
			rest += w
		}
	}
	for j, w := range want {
		if w > fair {
			want[j] = w * (p.wide - narrow) / rest
		}
	}
	return want
}

func (p *pdf) tableHead(t *Table, widths []float64) {
	p.room(12)
	p.SetFont(pdfFamily, "B", pdfSmall)
	p.ink(Plain)
	p.SetDrawColor(0x6b, 0x7f, 0x93)
	lines, most := make([][]string, len(t.Columns)), 1
	for j, col := range t.Columns {
		lines[j] = p.SplitText(p.fit(col.Title), widths[j])
		most = max(most, len(lines[j]))
	}
	p.cells(t, widths, lines, most)
}

func (p *pdf) tableRow(t *Table, widths []float64, row []string, tone Tone) {
	lines, most := make([][]string, len(row)), 1
	for j, cell := range row {
		p.cellFont(t.Columns[j])
		lines[j] = p.SplitText(p.fit(cell), widths[j])
		if n := len(lines[j]); n > maxCellLines {
			lines[j] = append(lines[j][:maxCellLines-1], fmt.Sprintf("… %d lines more", n-maxCellLines+1))
		}
		most = max(most, len(lines[j]))
	}
	if p.GetY()+float64(most)*pdfRow+1 > p.tall {
		p.AddPage()
		p.tableHead(t, widths)
	}
	p.SetFont(pdfFamily, "", pdfSmall)
	p.ink(tone)
	p.SetDrawColor(0xdd, 0xe4, 0xea)
	p.cells(t, widths, lines, most)
	p.ink(Plain)
}

func (p *pdf) cellFont(col Column) {
	if col.Mono {
		p.SetFont(pdfMono, "", pdfSmall-1)
		return
	}
	p.SetFont(pdfFamily, "", pdfSmall)
}

// cells writes the lines of one row, and draws the line below.
func (p *pdf) cells(t *Table, widths []float64, lines [][]string, most int) {
	x, y := p.GetX(), p.GetY()
	left := x
	size, _ := p.GetFontSize()
	bold := p.GetFontStyle() == "B"
	for j, cell := range lines {
		if bold {
			p.SetFont(pdfFamily, "B", size)
		} else {
			p.cellFont(t.Columns[j])
		}
		align := "L"
		if t.Columns[j].Right {
			align = "R"
		}
		for k, line := range cell {
			p.SetXY(left, y+0.3+float64(k)*pdfRow)
			p.CellFormat(widths[j], pdfRow, line, "", 0, align, false, 0, "")
		}
		left += widths[j]
	}
	bottom := y + float64(most)*pdfRow + 0.6
	p.Line(x, bottom, left, bottom)
	p.SetXY(x, bottom)
}
