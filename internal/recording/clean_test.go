package recording

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func clean(pieces ...string) string {
	var c Cleaner
	var out []byte
	for _, p := range pieces {
		out = c.Clean(out, []byte(p))
	}
	return string(out)
}

// hostile are sequences with what may be left of them.
var hostile = []struct{ name, in, want string }{
	{"text", "hello, wörld €𝄞\r\n\tx\b", "hello, wörld €𝄞\r\n\tx\b"},
	{"colours", "\x1b[1;31mred\x1b[0m\x1b[38:2::1:2:3mx\x1b[m", "\x1b[1;31mred\x1b[0m\x1b[38:2::1:2:3mx\x1b[m"},
	{"movement", "\x1b[2J\x1b[H\x1b[5;10Hx\x1b[3A\x1b[K\x1b[2P\x1b[4@\x1b[2;20r", "\x1b[2J\x1b[H\x1b[5;10Hx\x1b[3A\x1b[K\x1b[2P\x1b[4@\x1b[2;20r"},
	{"title", "a\x1b]0;evil\x07b\x1b]2;evil\x1b\\c", "abc"},
	{"title of screen", "a\x1bkevil\x1b\\b", "ab"},
	{"clipboard", "a\x1b]52;c;ZXZpbA==\x07b", "ab"},
	{"link", "\x1b]8;;https://evil.example/\x1b\\text\x1b]8;;\x1b\\", "text"},
	{"palette", "\x1b]4;1;?\x07\x1b]10;?\x07x", "x"},
	{"file transfer", "\x1b]1337;File=name=eA==:AAAA\x07x", "x"},
	{"string with C1 end", "a\x1b]0;evil\u009cb", "ab"},
	{"string that is cancelled", "a\x1b]0;evil\x18b\x1bPevil\x1ac", "abc"},
	{"string with no end", "a\x1b]0;evil\r\nb", "a\nb"},
	{"string of another escape", "a\x1b]0;evil\x1b[31mb", "a\x1b[31mb"},
	{"DCS", "a\x1bP+q544e\x1b\\b\x1bP$qm\x1b\\c", "abc"},
	{"DCS with a bell", "a\x1bPx\x07y\x1b\\b", "ab"},
	{"user keys", "\x1bP0;1|17/17;15/6c730d\x1b\\x", "x"},
	{"APC, PM, SOS", "\x1b_evil\x1b\\a\x1b^evil\x1b\\b\x1bXevil\x1b\\c", "abc"},
	{"device attributes", "\x1b[c\x1b[0c\x1b[>c\x1b[=c\x1bZ\x05x", "x"},
	{"status", "\x1b[5n\x1b[6n\x1b[?6n\x1b[?15nx", "x"},
	{"requests", "\x1b[?25$p\x1b[4$p\x1b[x\x1b[1$}\x1b[?1;1;0Sx", "x"},
	{"window", "\x1b[21t\x1b[14t\x1b[8;1;1t\x1b[3;0;0tx", "x"},
	{"printer", "\x1b[5i\x1b[4i\x1b[?5ix", "x"},
	{"soft reset, conformance", "\x1b[!p\x1b[62\"p\x1b Fx\x1b#8", "x"},
	{"keyboard", "\x1b[>4;2m\x1b[>1u\x1b[=1u\x1b[?u\x1b>\x1b=x", "x"},
	{"mouse and paste", "\x1b[?1000h\x1b[?1006h\x1b[?2004h\x1b[?1004hx", "x"},
	{"modes, some of them", "\x1b[?2004;25;1000l", "\x1b[?25l"},
	{"modes of ANSI", "\x1b[4h\x1b[20h\x1b[2hx", "x"},
	{"screen and cursor", "\x1b[?1049h\x1b[?25lx\x1b[?25h\x1b[?1049l", "\x1b[?1049h\x1b[?25lx\x1b[?25h\x1b[?1049l"},
	{"highlight tracking", "\x1b[1;2;3;4;5Tx", "x"},
	{"margins at the sides", "\x1b[1;5sx", "x"},
	{"reset", "\x1bcx", "\x1b[0m\x1b[H\x1b[2Jx"},
	{"huge numbers", "\x1b[99999999999999999999Ix\x1b[1000000000b", "\x1b[9999Ix\x1b[9999b"},
	{"too long", "\x1b[" + strings.Repeat("1;", 100) + "mx", "x"},
	{"too long between", "\x1b[" + strings.Repeat("!", 100) + "mx", "x"},
	{"C1", "a\u009b31mb\u009d0;c\u0090d\u0085e", "a31mb0;cde"},
	{"C1 as bytes", "a\x9b31mb\x85", "a\ufffd31mb\ufffd"},
	{"not UTF-8", "a\xff\xc3(\xe2\x82", "a\ufffd\ufffd("},
	{"direction", "a\u202eb\u2066c\u2028d", "abcd"},
	{"controls", "a\x00\x01\x07\x11\x7fb", "ab"},
	{"controls within a sequence", "\x1b[3\r1mx\x1b[\x072mx", "\r\x1b[31mx\x1b[2mx"},
	{"escape within a sequence", "\x1b[3\x1b[1mx", "\x1b[1mx"},
	{"text within a sequence", "\x1b[3é", "é"},
	{"characters of lines", "\x1b(0lqk\x1b(B\x0ex\x0f", "\x1b(0lqk\x1b(B\x0ex\x0f"},
	{"other characters", "\x1b(A\x1b*0\x1b%Gx", "x"},
	{"down", "a\vb\fc", "a\nb\nc"},
}

// What could harm an auditor's terminal is gone, wherever the stream is cut.
func TestHostile(t *testing.T) {
	for _, c := range hostile {
		if got := clean(c.in); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		for i := range c.in {
			if got := clean(c.in[:i], c.in[i:]); got != c.want {
				t.Errorf("%s, cut at %d: got %q, want %q", c.name, i, got, c.want)
			}
		}
		if got := clean(strings.Split(c.in, "")...); got != c.want {
			t.Errorf("%s, character by character: got %q, want %q", c.name, got, c.want)
		}
		var single Cleaner
		var out []byte
		for i := range len(c.in) {
			out = single.Clean(out, []byte{c.in[i]})
		}
		if string(out) != c.want {
			t.Errorf("%s, byte by byte: got %q, want %q", c.name, out, c.want)
		}
	}
}

// A string that never ends hides nothing for long: the person's terminal may not have known it.
func TestEndlessString(t *testing.T) {
	for _, start := range []string{"\x1b]0;", "\x1bP"} {
		got := clean(start+strings.Repeat("x", maxDCS+maxString), "the end")
		if !strings.HasSuffix(got, "the end") {
			t.Errorf("%q hides all that follows", start)
		}
	}
}

// Reset undoes what is left on.
func TestReset(t *testing.T) {
	var c Cleaner
	c.Clean(nil, []byte("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?6h\x1b(0\x1b[2;5r\x1b]0;tit"))
	if got, want := string(c.Reset(nil)), "\x1b[0m\x0f\x1b(B\x1b)B\x1b7\x1b[r\x1b8\x1b[?6l\x1b[?7h\x1b[?25h\x1b[?1049l"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := string(c.Reset(nil)); got != "\x1b[0m" {
		t.Errorf("again: %q", got)
	}
	if got := string(c.Clean(nil, []byte("x"))); got != "x" {
		t.Errorf("still within the string: %q", got)
	}
}

// harmless is all that may come out.
var harmless = regexp.MustCompile(`^(?:[\r\n\t\x08\x0e\x0f]|[^\x00-\x1f\x7f-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}\x{2028}\x{2029}]|` +
	`\x1b[78DEM]|\x1b[()][0B]|\x1b\[[0-9:;]*m|\x1b\[(?:[0-9]{0,4}(?:;[0-9]{0,4})?)?[@A-MPSTXZ` + "`" + `a-fr]|\x1b\[[su]|\x1b\[\?(?:6|7|12|25|47|1047|1048|1049)[hl])*$`)

func FuzzClean(f *testing.F) {
	for _, c := range hostile {
		f.Add([]byte(c.in), 1)
	}
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		got := clean(string(p))
		if !utf8.ValidString(got) || !harmless.MatchString(got) {
			t.Errorf("%q gives %q", p, got)
		}
		if cut > 0 && cut < len(p) {
			if in2 := clean(string(p[:cut]), string(p[cut:])); in2 != got {
				t.Errorf("%q, cut at %d: %q, not %q", p, cut, in2, got)
			}
		}
		r := newRenderer(20, 5, func(l Line) error {
			if !utf8.ValidString(l.Text) || strings.ContainsAny(l.Text, "\x1b\n\r\x07") {
				t.Errorf("line %q", l.Text)
			}
			return nil
		})
		for _, e := range []Event{{Kind: Output, Data: p}, {Kind: Resize, Cols: 1 + len(p)%30, Rows: 1 + len(p)%7}, {Kind: Output, Data: p}} {
			if err := r.event(e); err != nil {
				t.Error(err)
			}
		}
		if err := r.finish(); err != nil {
			t.Error(err)
		}
	})
}
