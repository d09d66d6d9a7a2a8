package document

import (
	"fmt"
	"html"
	"strings"
)

// Charts are inline SVG with attributes only: a style attribute would need a looser policy. All lengths are in the drawing's own units.
const (
	chartWidth = 480
	barHeight  = 22
	labelWidth = 150
	valueWidth = 70
	sparkTall  = 90
	heatCell   = 8
)

// colour is the fill of a tone. Each is at least 4.5 to 1 against white (WCAG 2.2, 1.4.3).
func colour(t Tone) string {
	switch t {
	case Good:
		return "#1b7a3d"
	case Warn:
		return "#b36b00"
	case Bad:
		return "#b00020"
	}
	return "#005eb8"
}

// svg draws a chart whose texts were cleaned.
func svg(c *Chart) string {
	var b strings.Builder
	height, wide := 0, chartWidth
	body := ""
	switch c.Kind {
	case Spark:
		height, body = sparkTall, c.spark()
	case Heat:
		height, body = 7*(heatCell+1)+2, c.heat()
		wide = max(wide, (len(c.Points)+c.First+6)/7*(heatCell+1))
	default:
		height, body = max(len(c.Points), 1)*barHeight, c.bars()
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 %d %d" width="%d" height="%d"><title>%s</title>`,
		wide, height, wide, height, html.EscapeString(c.Title))
	b.WriteString(body)
	b.WriteString(`</svg>`)
	return b.String()
}

// top is the value that fills the drawing.
func (c *Chart) top() float64 {
	top := c.Max
	if top <= 0 {
		for _, p := range c.Points {
			top = max(top, p.Value)
		}
	}
	if top <= 0 {
		return 1
	}
	return top
}

func (c *Chart) bars() string {
	var b strings.Builder
	room := float64(chartWidth - labelWidth - valueWidth)
	for i, p := range c.Points {
		y := i * barHeight
		fmt.Fprintf(&b, `<text x="0" y="%d" font-size="12" font-family="sans-serif">%s</text>`, y+15, html.EscapeString(shorten(p.Label, 24)))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.0f" height="%d" fill="#e8edf2"/>`, labelWidth, y+3, room, barHeight-6)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, labelWidth, y+3, room*share(p.Value, c.top()), barHeight-6, colour(p.Tone))
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="12" font-family="sans-serif" text-anchor="end">%s%s</text>`, chartWidth, y+15, number(p.Value), html.EscapeString(c.Unit))
	}
	return b.String()
}

// share keeps what is drawn within the drawing, whatever the value.
func share(v, top float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v/top, 1)
}

func (c *Chart) spark() string {
	if len(c.Points) == 0 {
		return ""
	}
	const left, right, floor = 4.0, chartWidth - 4.0, sparkTall - 18.0
	var b strings.Builder
	var line []string
	at := func(i int) (x, y float64) {
		x = left
		if n := len(c.Points) - 1; n > 0 {
			x += (right - left) * float64(i) / float64(n)
		}
		return x, floor - (floor-6)*share(c.Points[i].Value, c.top())
	}
	for i := range c.Points {
		x, y := at(i)
		line = append(line, fmt.Sprintf("%.1f,%.1f", x, y))
	}
	fmt.Fprintf(&b, `<line x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f" stroke="#9fb4c8"/>`, left, floor, right, floor)
	fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/>`, colour(Plain), strings.Join(line, " "))
	for i, p := range c.Points {
		if p.Tone != Plain {
			x, y := at(i)
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x, y, colour(p.Tone))
		}
	}
	last := len(c.Points) - 1
	fmt.Fprintf(&b, `<text x="%.0f" y="%d" font-size="11" font-family="sans-serif">%s</text>`, left, sparkTall-4, html.EscapeString(shorten(c.Points[0].Label, 20)))
	fmt.Fprintf(&b, `<text x="%.0f" y="%d" font-size="11" font-family="sans-serif" text-anchor="end">%s</text>`, right, sparkTall-4, html.EscapeString(shorten(c.Points[last].Label, 20)))
	return b.String()
}

// heat draws a column a week, from Monday down. Five steps of one blue: no hue has to be told from another.
func (c *Chart) heat() string {
	steps := [...]string{"#eef2f6", "#b7d3ec", "#7fb1dd", "#3d84c2", "#003a70"}
	var b strings.Builder
	for i, p := range c.Points {
		cell := i + c.First
		step := 0
		if s := share(p.Value, c.top()); s > 0 {
			step = min(1+int(s*4), 4)
		}
		fill := steps[step]
		if p.Tone == Bad || p.Tone == Warn {
			fill = colour(p.Tone)
		}
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"><title>%s: %s%s</title></rect>`,
			cell/7*(heatCell+1), cell%7*(heatCell+1), heatCell, heatCell, fill, html.EscapeString(p.Label), number(p.Value), html.EscapeString(c.Unit))
	}
	return b.String()
}

// number writes whole numbers whole.
func number(v float64) string {
	s := fmt.Sprintf("%.1f", v)
	return strings.TrimSuffix(s, ".0")
}

// shorten cuts a label by characters.
func shorten(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
