// Package menu is the list of targets that somebody chooses from at his terminal: a function of keys and of the terminal's size.
// It writes nothing by itself.
//
// The list narrows as one types: each word typed has to stand somewhere in a target's row. Up and down, or Ctrl-P and Ctrl-N, move the
// mark, Enter takes what is marked, Esc and Ctrl-U empty the filter, Ctrl-C and Ctrl-D leave.
package menu

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Item is one target.
type Item struct {
	Name     string
	Class    string
	Tags     []string
	LastUse  time.Time // zero: never, or nobody knows
	Recorded bool
	StepUp   bool // one more code is asked for
}

// Action is what a key came to.
type Action uint8

// The actions.
const (
	Nothing Action = iota
	Redraw
	Choose // Chosen tells what
	Leave
)

// maxFilter bounds the filter, in bytes.
const maxFilter = 64

// Menu is the list as it stands. It is used by one goroutine.
type Menu struct {
	items   []Item
	note    string // a sentence above the list
	filter  string
	marked  int // among those shown
	top     int // the first that is drawn
	cols    int
	rows    int
	pending []byte // of a key that has not come whole
}

// New makes a menu for a terminal of so many columns and rows.
func New(items []Item, cols, rows int) *Menu {
	m := &Menu{items: items}
	m.Resize(cols, rows)
	return m
}

// The least and the most size that is believed.
const (
	leastCols, leastRows = 20, 6
	mostCols, mostRows   = 500, 300
)

// Resize tells the terminal's size.
func (m *Menu) Resize(cols, rows int) {
	if cols <= 0 {
		cols = 80
	}
	if rows <= 0 {
		rows = 24
	}
	m.cols, m.rows = min(max(cols, leastCols), mostCols), min(max(rows, leastRows), mostRows)
}

// Say puts a sentence above the list.
func (m *Menu) Say(note string) { m.note = note }

// Shown lists what the filter leaves.
func (m *Menu) Shown() []Item {
	words := strings.Fields(strings.ToLower(m.filter))
	var list []Item
	for _, it := range m.items {
		row := strings.ToLower(strings.Join(append([]string{it.Name, it.Class}, it.Tags...), " "))
		all := true
		for _, w := range words {
			all = all && strings.Contains(row, w)
		}
		if all {
			list = append(list, it)
		}
	}
	return list
}

// Chosen is what is marked.
func (m *Menu) Chosen() (Item, bool) {
	list := m.Shown()
	if m.marked >= len(list) {
		return Item{}, false
	}
	return list[m.marked], true
}

// Input takes what was typed, and stops at the first key that chooses or leaves. Rest is what was not looked at.
func (m *Menu) Input(p []byte) (a Action, rest []byte) {
	p = append(m.pending, p...)
	m.pending = nil
	for len(p) > 0 {
		n, did := m.key(p)
		if n == 0 {
			m.pending = append([]byte(nil), p...)
			return a, nil
		}
		p = p[n:]
		if did == Choose || did == Leave {
			return did, p
		}
		a = max(a, did)
	}
	return a, nil
}

// key takes one key, and returns how many bytes it had; 0: it has not come whole.
func (m *Menu) key(p []byte) (n int, a Action) {
	const (
		ctrlC, ctrlD, backspace, ctrlN, ctrlP, ctrlU, escape, del = 3, 4, 8, 14, 16, 21, 27, 127
	)
	switch c := p[0]; c {
	case '\r', '\n':
		if _, ok := m.Chosen(); ok {
			return 1, Choose
		}
		return 1, Nothing
	case ctrlC, ctrlD:
		return 1, Leave
	case ctrlN:
		return 1, m.move(1)
	case ctrlP:
		return 1, m.move(-1)
	case ctrlU:
		return 1, m.setFilter("")
	case backspace, del:
		_, size := utf8.DecodeLastRuneInString(m.filter)
		return 1, m.setFilter(m.filter[:len(m.filter)-size])
	case escape:
		return m.escape(p)
	default:
		if !utf8.FullRune(p) {
			return 0, Nothing
		}
		r, size := utf8.DecodeRune(p)
		if r == utf8.RuneError || !unicode.IsPrint(r) || len(m.filter)+size > maxFilter {
			return size, Nothing
		}
		return size, m.setFilter(m.filter + string(r))
	}
}

// escape takes an escape sequence: arrows are obeyed, and all else is swallowed (ECMA-48).
func (m *Menu) escape(p []byte) (n int, a Action) {
	if len(p) == 1 {
		return 1, m.setFilter("") // Esc alone comes alone
	}
	if p[1] != '[' && p[1] != 'O' {
		return 1, m.setFilter("")
	}
	for i := 2; i < len(p) && i < 16; i++ {
		if p[i] >= 0x40 && p[i] <= 0x7e {
			switch p[i] {
			case 'A':
				return i + 1, m.move(-1)
			case 'B':
				return i + 1, m.move(1)
			}
			return i + 1, Nothing
		}
	}
	if len(p) >= 16 {
		return 16, Nothing
	}
	return 0, Nothing
}

func (m *Menu) move(by int) Action {
	last := len(m.Shown()) - 1
	to := min(max(m.marked+by, 0), max(last, 0))
	if to == m.marked {
		return Nothing
	}
	m.marked = to
	return Redraw
}

func (m *Menu) setFilter(f string) Action {
	if f == m.filter {
		return Nothing
	}
	m.filter, m.marked, m.top, m.note = f, 0, 0, ""
	return Redraw
}

// The control sequences of a View: clear the screen, reverse video, plain.
const (
	clear   = "\x1b[2J\x1b[H"
	reverse = "\x1b[7m"
	plain   = "\x1b[0m"
)

// View draws the menu: the whole screen, with the cursor at the end of the filter, which is the last line.
func (m *Menu) View(person string) string {
	list := m.Shown()
	room := m.rows - 4 // the heading, the columns, the count, the filter
	if m.note != "" {
		room--
	}
	room = max(room, 1)
	if m.marked < m.top {
		m.top = m.marked
	}
	if m.marked >= m.top+room {
		m.top = m.marked - room + 1
	}
	var b strings.Builder
	line := func(s string) { b.WriteString(m.fit(s) + "\r\n") }
	b.WriteString(clear)
	line(fmt.Sprintf("%s, where to? Type to filter, arrows and Enter to choose, Ctrl-C to leave.", person))
	if m.note != "" {
		line(m.note)
	}
	width := 6
	for _, it := range list {
		width = max(width, len(it.Name))
	}
	row := func(name, class, use, notes string) string {
		return fmt.Sprintf("  %-*s  %-20s  %-16s  %s", width, name, class, use, notes)
	}
	line(row("TARGET", "CLASS", "LAST USE", "NOTES"))
	for i := m.top; i < min(len(list), m.top+room); i++ {
		it := list[i]
		text := m.fit(row(it.Name, it.Class, lastUse(it.LastUse), notes(it)))
		if i == m.marked {
			text = reverse + ">" + text[1:] + plain
		}
		b.WriteString(text + "\r\n")
	}
	count := fmt.Sprintf("  %d of %d", len(list), len(m.items))
	if len(m.items) == 0 {
		count = "  No target is permitted to you at present."
	}
	line(count)
	b.WriteString(m.fit("> " + m.filter))
	return b.String()
}

func lastUse(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

func notes(it Item) string {
	var all []string
	if it.Recorded {
		all = append(all, "recorded")
	}
	if it.StepUp {
		all = append(all, "one more code")
	}
	if len(it.Tags) > 0 {
		all = append(all, "#"+strings.Join(it.Tags, " #"))
	}
	return strings.Join(all, ", ")
}

// fit cuts a line to the terminal's width, one column short, so that no terminal wraps it.
func (m *Menu) fit(s string) string {
	r := []rune(s)
	return string(r[:min(len(r), m.cols-1)])
}
