package recording

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hinshun/vt10x"
)

// Line is a line of text as it stood on the screen.
type Line struct {
	At   time.Duration // when it was last written to
	Text string        // lines that were wrapped are joined
}

const (
	maxLine   = 16 << 10               // bytes of a joined line
	frameTime = 300 * time.Millisecond // a full screen that stands so long was seen

	cellWrap   = 1 << 6 // vt10x: the line goes on in the next
	cursorWrap = 1 << 1 // vt10x: the next character goes to the next line
)

// row is what is known of a row beside its text.
type row struct {
	at    time.Duration
	fresh bool // written to since its line was told
}

// renderer runs a session's output through a terminal, and tells each line when it goes: scrolled off, erased, or left at the
// end. On the alternate screen, where nothing scrolls off, lines are told when they have stood for a while.
//
// The terminal is vt10x, behind a Cleaner, which bounds what a sequence can ask of it. Should it panic, a fresh one goes on.
type renderer struct {
	tell  func(Line) error
	clean Cleaner
	vt    vt10x.Terminal
	cols  int
	rows  []row // of the screen that shows
	other []row // of the main screen, while the alternate one shows
	alt   bool
	top   int // margins
	end   int
	now   time.Duration
	carry Line // the beginning of a line that was wrapped

	before rune // the character that was written last
	out    []byte
	err    error

	faults int // how often the terminal gave up
}

func newRenderer(cols, rows int, tell func(Line) error) *renderer {
	r := &renderer{tell: tell}
	r.fresh(cols, rows)
	return r
}

func (r *renderer) fresh(cols, rows int) {
	cols, rows = size(cols, rows)
	r.vt = vt10x.New(vt10x.WithSize(cols, rows))
	r.cols, r.rows, r.other, r.alt = cols, make([]row, rows), make([]row, rows), false
	r.top, r.end = 0, rows-1
}

// guard keeps a panic of the terminal from being ours.
func (r *renderer) guard(do func()) {
	defer func() {
		if recover() != nil {
			r.faults++
			r.fresh(r.cols, len(r.rows))
		}
	}()
	do()
}

// event takes the next event.
func (r *renderer) event(e Event) error {
	switch e.Kind {
	case Output:
		if r.alt && e.At-r.now >= frameTime {
			r.guard(func() { r.tellRows(0, len(r.rows)) })
		}
		r.now = e.At
		r.guard(func() { r.clean.scanner.scan(e.Data, r.token) })
	case Resize:
		r.now = e.At
		r.guard(func() { r.resize(e.Cols, e.Rows) })
	case Mark:
		r.keep(r.tell(Line{e.At, string(e.Data)}))
	}
	return r.err
}

// finish tells what still stands there.
func (r *renderer) finish() error {
	r.guard(func() {
		r.tellRows(0, len(r.rows))
		if r.alt {
			r.modes(token{kind: tokCSI, params: []byte("?1049"), last: 'l'})
			r.tellRows(0, len(r.rows))
		}
	})
	r.flush()
	return r.err
}

func (r *renderer) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *renderer) write(p []byte) { _, _ = r.vt.Write(p) } // it never fails

func (r *renderer) token(t token) {
	if t.kind == tokText {
		r.text(t.text)
		return
	}
	y := r.vt.Cursor().Y
	switch t.kind {
	case tokCSI:
		r.csi(t, y)
		return
	case tokEscape:
		switch t.last {
		case 'D', 'E':
			r.index(y)
		case 'M':
			if y == r.top {
				r.scroll(r.top, -1)
			}
		case 'c':
			r.tellRows(0, len(r.rows))
			r.top, r.end = 0, len(r.rows)-1
		}
	}
	if r.out = r.clean.token(r.out[:0], t); t.kind == tokControl && len(r.out) == 1 && r.out[0] == '\n' {
		r.index(y)
	}
	r.write(r.out)
	r.follow()
}

// text writes printable text, a row at a time: the terminal says nothing of what it scrolls off.
func (r *renderer) text(p []byte) {
	for len(p) > 0 {
		c := r.vt.Cursor()
		room := r.cols - c.X
		if c.State&cursorWrap != 0 {
			if r.vt.Mode()&vt10x.ModeWrap == 0 {
				room = len(p) // all of it onto the last place of the row
			} else {
				r.index(c.Y)
				room = r.cols
			}
		}
		n := 0 // bytes of what finds room
		for ; room > 0 && n < len(p); room-- {
			_, width := utf8.DecodeRune(p[n:])
			n += width
		}
		r.write(p[:n])
		r.touch(r.vt.Cursor().Y)
		r.before, _ = utf8.DecodeLastRune(p[:n])
		p = p[n:]
	}
}

func (r *renderer) touch(y int) { r.rows[y] = row{r.now, true} }

// index is what happens before the cursor goes down a row from y.
func (r *renderer) index(y int) {
	if y == r.end {
		r.scroll(r.top, 1)
	}
}

// scroll tells the rows that n rows of scrolling from a row on will cost, up or, below zero, down, and moves what is known of
// the rest.
func (r *renderer) scroll(from, n int) {
	part := r.rows[from : r.end+1]
	if n >= 0 {
		n = min(n, len(part))
		for i := range n {
			r.tellRow(from + i)
		}
		copy(part, part[n:])
		clear(part[len(part)-n:])
		return
	}
	n = min(-n, len(part))
	r.tellRows(r.end+1-n, r.end+1)
	copy(part[n:], part)
	clear(part[:n])
}

func (r *renderer) csi(t token, y int) {
	params, ok := numbers(t.params)
	arg := func(i, def int) int {
		if i < len(params) && params[i] > 0 {
			return params[i]
		}
		return def
	}
	all := len(r.rows)
	switch {
	case t.last == 'h' || t.last == 'l':
		r.modes(t)
		return
	case !ok || len(t.inter) > 0:
	case t.last == 'b': // the terminal does not know it
		n := min(arg(0, 1), r.cols)
		if r.before != 0 {
			r.text([]byte(strings.Repeat(string(r.before), n)))
		}
		return
	case t.last == 'J':
		switch arg(0, 0) {
		case 0:
			if r.vt.Cursor().X == 0 {
				r.tellRows(y, all)
			} else {
				r.tellRows(y+1, all)
			}
		case 1:
			r.tellRows(0, y)
		default:
			r.tellRows(0, all)
		}
	case t.last == 'S':
		r.scroll(r.top, arg(0, 1))
	case t.last == 'T':
		r.scroll(r.top, -arg(0, 1))
	case y >= r.top && y <= r.end && t.last == 'M':
		r.scroll(y, arg(0, 1))
	case y >= r.top && y <= r.end && t.last == 'L':
		r.scroll(y, -arg(0, 1))
	case t.last == 'r':
		top, end := min(arg(0, 1), all)-1, min(arg(1, all), all)-1
		r.top, r.end = min(top, end), max(top, end)
	case t.last == 'P' || t.last == '@':
		r.touch(y)
	case t.last == 'I' || t.last == 'Z': // the terminal counts as far as it is told
		t.params = strconv.AppendInt(nil, int64(min(arg(0, 1), r.cols)), 10)
	}
	r.out = r.clean.csi(r.out[:0], t)
	r.write(r.out)
}

// modes sets modes one by one. Leaving an alternate screen that does not show would bring it up, in this terminal.
func (r *renderer) modes(t token) {
	rest, private := strings.CutPrefix(string(t.params), "?")
	if !private {
		return
	}
	for one := range strings.SplitSeq(rest, ";") {
		switch one {
		case "47", "1047", "1049":
			if r.alt != (t.last == 'l') {
				continue
			}
			r.tellRows(0, len(r.rows))
		}
		r.out = r.clean.mode(r.out[:0], token{kind: tokCSI, params: []byte("?" + one), last: t.last})
		r.write(r.out)
		r.follow()
	}
}

// follow goes with the terminal to its other screen.
func (r *renderer) follow() {
	if alt := r.vt.Mode()&vt10x.ModeAltScreen != 0; alt != r.alt {
		r.alt = alt
		r.rows, r.other = r.other, r.rows
		if alt {
			clear(r.rows)
		}
	}
}

func (r *renderer) resize(cols, rows int) {
	if slide := r.vt.Cursor().Y - rows + 1; slide > 0 { // the terminal drops the uppermost rows
		r.tellRows(0, slide)
		r.rows, r.other = r.rows[slide:], r.other[slide:]
	}
	if rows < len(r.rows) {
		r.tellRows(rows, len(r.rows))
	}
	fit := func(all []row) []row {
		return append(append([]row(nil), all[:min(rows, len(all))]...), make([]row, max(0, rows-len(all)))...)
	}
	r.rows, r.other = fit(r.rows), fit(r.other)
	r.cols, r.top, r.end = cols, 0, rows-1
	r.vt.Resize(cols, rows)
}

// tellRows tells rows that go together, and no line goes on behind them.
func (r *renderer) tellRows(from, to int) {
	for y := from; y < to; y++ {
		r.tellRow(y)
	}
	r.flush()
}

// tellRow tells a row, once for each time that it was written to.
func (r *renderer) tellRow(y int) {
	if !r.rows[y].fresh {
		r.flush()
		return
	}
	r.rows[y].fresh = false
	b := []byte(r.carry.Text)
	for x := range r.cols {
		c := r.vt.Cell(x, y).Char
		if c < ' ' {
			c = ' '
		}
		b = utf8.AppendRune(b, c)
	}
	wraps := r.vt.Cell(r.cols-1, y).Mode&cellWrap != 0
	r.carry = Line{r.rows[y].at, string(b)}
	if !wraps || len(b) > maxLine {
		r.flush()
	}
}

func (r *renderer) flush() {
	line := r.carry
	r.carry = Line{}
	if line.Text = strings.TrimRight(line.Text, " "); line.Text != "" {
		r.keep(r.tell(line))
	}
}
