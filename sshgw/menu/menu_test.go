package menu

import (
	"strings"
	"testing"
	"time"
)

func items() []Item {
	return []Item{
		{Name: "core-sw1", Class: "privileged-internal", Tags: []string{"network"}, Recorded: true, LastUse: time.Date(2026, 11, 24, 9, 5, 0, 0, time.UTC)},
		{Name: "core-sw2", Class: "privileged-internal", Tags: []string{"network"}, StepUp: true},
		{Name: "pacs", Class: "privileged-external", Tags: []string{"imaging"}},
	}
}

func names(list []Item) string {
	var all []string
	for _, it := range list {
		all = append(all, it.Name)
	}
	return strings.Join(all, " ")
}

// What is typed narrows the list at once, and Enter takes what is marked.
func TestKeys(t *testing.T) {
	for _, x := range []struct {
		typed, shown, chosen string
		action               Action
	}{
		{"", "core-sw1 core-sw2 pacs", "core-sw1", Nothing},
		{"c", "core-sw1 core-sw2 pacs", "core-sw1", Redraw},
		{"CORE", "core-sw1 core-sw2", "core-sw1", Redraw},
		{"sw 2", "core-sw2", "core-sw2", Redraw},
		{"imaging", "pacs", "pacs", Redraw},
		{"zz", "", "", Redraw},
		{"zz\x7f\x7fpa", "pacs", "pacs", Redraw},
		{"zz\x15", "core-sw1 core-sw2 pacs", "core-sw1", Redraw},
		{"\x1b[B", "core-sw1 core-sw2 pacs", "core-sw2", Redraw},
		{"\x1bOB\x1bOB\x1bOB", "core-sw1 core-sw2 pacs", "pacs", Redraw},
		{"\x1b[B\x1b[A", "core-sw1 core-sw2 pacs", "core-sw1", Redraw},
		{"\x0e\x0e\x10", "core-sw1 core-sw2 pacs", "core-sw2", Redraw},
		{"core\x1b[B", "core-sw1 core-sw2", "core-sw2", Redraw},
		{"\x1b[200~\x1b[15;2~", "core-sw1 core-sw2 pacs", "core-sw1", Nothing},
		{"\x00\x07\xff", "core-sw1 core-sw2 pacs", "core-sw1", Nothing},
		{"pacs\r", "pacs", "pacs", Choose},
		{"zz\r", "", "", Redraw},
		{"\x03", "core-sw1 core-sw2 pacs", "core-sw1", Leave},
		{"\x04", "core-sw1 core-sw2 pacs", "core-sw1", Leave},
	} {
		for _, whole := range []bool{true, false} { // keys may come in pieces
			m := New(items(), 80, 24)
			a := Nothing
			if whole {
				a, _ = m.Input([]byte(x.typed))
			} else {
				for i := range len(x.typed) {
					if x.typed[i] == 0x1b { // Esc alone means itself
						break
					}
					b, _ := m.Input([]byte{x.typed[i]})
					a = max(a, b)
				}
				if strings.Contains(x.typed, "\x1b") {
					continue
				}
			}
			chosen, _ := m.Chosen()
			if names(m.Shown()) != x.shown || chosen.Name != x.chosen || a != x.action {
				t.Errorf("%q: shown %q, marked %q, action %d; want %q, %q, %d", x.typed, names(m.Shown()), chosen.Name, a, x.shown, x.chosen, x.action)
			}
		}
	}
}

// What is typed behind Enter is for whoever comes next.
func TestRest(t *testing.T) {
	m := New(items(), 80, 24)
	if a, rest := m.Input([]byte("pacs\rls\r")); a != Choose || string(rest) != "ls\r" {
		t.Errorf("%d, %q", a, rest)
	}
}

func TestView(t *testing.T) {
	m := New(items(), 100, 24)
	m.Input([]byte("core"))
	view := m.View("alice")
	for _, want := range []string{"alice, where to?", ">\x20core-sw1", "2026-11-24 09:05", "recorded", "one more code", "2 of 3", "> core"} {
		if !strings.Contains(view, want) {
			t.Errorf("no %q in\n%s", want, view)
		}
	}
	if strings.Contains(view, "pacs") {
		t.Errorf("pacs is shown:\n%s", view)
	}
	// The marked line is drawn on the smallest terminal too, and nothing is wider or longer than the terminal.
	m = New(items(), 1, 1)
	m.Input([]byte("\x1b[B\x1b[B"))
	view = strings.TrimPrefix(m.View("alice"), clear)
	if !strings.Contains(view, "pacs") {
		t.Errorf("the marked line is not drawn:\n%s", view)
	}
	lines := strings.Split(view, "\r\n")
	if len(lines) > leastRows {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if l = strings.NewReplacer(reverse, "", plain, "").Replace(l); len(l) >= leastCols {
			t.Errorf("%q is too wide", l)
		}
	}
}

// Whatever is typed, the filter stays bounded, and the view holds no control character of it.
func FuzzInput(f *testing.F) {
	for _, s := range []string{"core", "\x1b[B", "\x1b[", "\x1bO", "é", "\xff", strings.Repeat("a", 200)} {
		f.Add([]byte(s), 80, 24)
	}
	f.Fuzz(func(t *testing.T, p []byte, cols, rows int) {
		m := New(items(), cols, rows)
		m.Input(p)
		if len(m.filter) > maxFilter || len(m.pending) > 16 {
			t.Fatalf("filter %q, pending %q", m.filter, m.pending)
		}
		view := strings.NewReplacer(clear, "", reverse, "", plain, "", "\r\n", "").Replace(m.View("alice"))
		if strings.ContainsFunc(view, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
			t.Fatalf("%q draws %q", p, view)
		}
	})
}
