package recording

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// render gives the lines of some outputs, a second apart, on a screen of 20 by 4.
func render(t testing.TB, outputs ...string) (lines []string, at []time.Duration) {
	t.Helper()
	r := newRenderer(20, 4, func(l Line) error {
		lines, at = append(lines, l.Text), append(at, l.At)
		return nil
	})
	for i, text := range outputs {
		e := Event{At: time.Duration(i) * time.Second, Kind: Output, Data: []byte(text)}
		if size, ok := strings.CutPrefix(text, "resize "); ok {
			e.Kind = Resize
			if _, err := fmt.Sscanf(size, "%dx%d", &e.Cols, &e.Rows); err != nil {
				t.Fatal(err)
			}
		}
		must(t, r.event(e))
	}
	must(t, r.finish())
	if r.faults > 0 {
		t.Errorf("the terminal gave up %d times", r.faults)
	}
	return lines, at
}

// Lines are what stood there, wherever they went.
func TestRender(t *testing.T) {
	numbers := ""
	var want []string
	for i := range 12 {
		numbers += fmt.Sprintf("line %d\r\n", i)
		want = append(want, fmt.Sprint("line ", i))
	}
	for _, c := range []struct {
		name string
		in   []string
		want []string
	}{
		{"correction", []string{"$ helk", "\b\x1b[K", "lo"}, []string{"$ hello"}},
		{"carriage return", []string{"10%\r20%\r100%\r\n"}, []string{"100%"}},
		{"scrolled off", []string{numbers}, want},
		{"scrolled off, a byte at a time", strings.Split(numbers, ""), want},
		{"line feeds alone", []string{"a\nb\nc\nd\ne\nf"}, []string{"a", " b", "  c", "   d", "    e", "     f"}},
		{"wrapped", []string{"0123456789abcdefghijKLMNO\r\nx"}, []string{"0123456789abcdefghijKLMNO", "x"}},
		{"wrapped at the bottom", []string{"\r\n\r\n\r\n", strings.Repeat("a", 45), "\r\nx\r\ny\r\nz"}, []string{strings.Repeat("a", 45), "x", "y", "z"}},
		{"no wrap", []string{"\x1b[?7l0123456789abcdefghijKLMNO\r\nx"}, []string{"0123456789abcdefghiO", "x"}},
		{"cleared", []string{"secret\r\nmore\x1b[H\x1b[2Jnew"}, []string{"secret", "more", "new"}},
		{"cleared below", []string{"a\r\nb\x1b[H\x1b[Jc"}, []string{"a", "b", "c"}},
		{"reset", []string{"a\x1bcb"}, []string{"a", "b"}},
		{"repeated", []string{"x\x1b[4by"}, []string{"xxxxxy"}},
		{"deleted lines", []string{"a\r\nb\r\nc\x1b[H\x1b[2M"}, []string{"a", "b", "c"}},
		{"inserted lines", []string{"a\r\nb\r\nc\r\nd\x1b[H\x1b[2Lx"}, []string{"c", "d", "x", "a", "b"}},
		{"scrolled by hand", []string{"a\r\nb\x1b[S\x1b[T"}, []string{"a", "b"}},
		{"up at the top", []string{"a\r\nb\r\nc\r\nd\x1b[H\x1bMx"}, []string{"d", "x", "a", "b", "c"}},
		{"margins", []string{"top\r\na\r\nb\x1b[2;3r\x1b[3;1H\nc\nd"}, []string{"a", "b", "top", "c", " d"}},
		{"full screen", []string{"$ vi\r\n\x1b[?1049h", "\x1b[Hfile one", "\x1b[Hfile two", "\x1b[?1049l", "$ exit"}, []string{"$ vi", "file one", "file two", "$ exit"}},
		{"left at full screen", []string{"$ vi\r\n\x1b[?1049h\x1b[Hfile"}, []string{"$ vi", "file"}},
		{"leaving what was not entered", []string{"a\x1b[?1049l\x1b[?47lb"}, []string{"ab"}},
		{"smaller", []string{"a\r\nb\r\nc\r\nd", "resize 20x2", "e"}, []string{"a", "b", "c", "de"}},
		{"larger", []string{"a", "resize 40x10", "\r\n" + strings.Repeat("b", 30)}, []string{"a", strings.Repeat("b", 30)}},
		{"wide", []string{"naïve €\u0301 日本"}, []string{"naïve €\u0301 日本"}},
		{"title and links", []string{"\x1b]0;title\x07a\x1b]8;;x\x1b\\b"}, []string{"ab"}},
		{"characters cut", []string{"caf\xc3", "\xa9"}, []string{"café"}},
	} {
		if got, _ := render(t, c.in...); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if _, at := render(t, "a", "b\r\n", "c"); !slices.Equal(at, []time.Duration{time.Second, 2 * time.Second}) {
		t.Errorf("times %v", at)
	}
}

// A terminal that panics does not end the search.
func TestRenderPanics(t *testing.T) {
	var lines []string
	r := newRenderer(20, 4, func(l Line) error { lines = append(lines, l.Text); return nil })
	r.vt = nil
	must(t, r.event(Event{Kind: Output, Data: []byte("lost")}))
	must(t, r.event(Event{Kind: Output, Data: []byte("found")}))
	must(t, r.finish())
	if r.faults != 1 || !slices.Equal(lines, []string{"found"}) {
		t.Errorf("%d, %q", r.faults, lines)
	}
}

func TestSearch(t *testing.T) {
	m := record(t, "$ helk", "\b\x1b[Klo World\r\n", strings.Repeat("filler\r\n", 100), "the END")
	for text, want := range map[string]string{
		"hello":   "2s: $ hello World",
		"world":   "2s: $ hello World",
		"World":   "2s: $ hello World",
		"WORLD":   "",
		"helk":    "",
		"the end": "4s: the END",
	} {
		r, err := Open(m.path, m.file)
		must(t, err)
		got := ""
		must(t, r.Search(context.Background(), text, func(l Line) error {
			got += fmt.Sprintf("%v: %s", l.At, l.Text)
			return nil
		}))
		must(t, r.Close())
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	r, err := Open(m.path, m.file)
	must(t, err)
	defer r.Close()
	enough := errors.New("enough")
	if err := r.Search(context.Background(), "filler", func(Line) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Search(ctx, "x", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// What can be read of a damaged one is searched.
	cut := m.with(t, m.raw[:m.book.chunks[4].Offset+9])
	r, err = Open(cut, m.file)
	must(t, err)
	defer r.Close()
	found := 0
	if err := r.Search(context.Background(), "filler", func(Line) error { found++; return nil }); !errors.Is(err, ErrTruncated) || found != 100 {
		t.Errorf("%d, %v", found, err)
	}
}

func TestText(t *testing.T) {
	m := record(t, "a\r\n", "\x1b[31mb\x1b[0m")
	r, err := Open(m.path, m.file)
	must(t, err)
	defer r.Close()
	var out bytes.Buffer
	must(t, r.Text(context.Background(), &out))
	if out.String() != "a\nb\n" {
		t.Errorf("%q", out.String())
	}
}

func BenchmarkRender(b *testing.B) {
	text := []byte(strings.Repeat("drwxr-xr-x 2 root root 4096 Nov 24 13:36 \x1b[01;34mfolder\x1b[0m\r\n", 250))
	r := newRenderer(80, 24, func(Line) error { return nil })
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := r.event(Event{Kind: Output, Data: text}); err != nil {
			b.Fatal(err)
		}
	}
}
