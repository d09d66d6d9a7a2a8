package recording

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestAppendText escapes every byte at every place of a word of eight, and random texts: a JSON reader gets back what went in, and
// no control and nothing but UTF-8 stands in the line.
func TestAppendText(t *testing.T) {
	var cases [][]byte
	for c := range 256 {
		for at := range 20 {
			text := []byte(strings.Repeat("a", 20))
			text[at] = byte(c)
			cases = append(cases, text)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		text := make([]byte, r.IntN(40))
		for i := range text {
			text[i] = byte(r.IntN(256))
			if r.IntN(3) > 0 {
				text[i] = byte(' ' + r.IntN(96))
			}
		}
		cases = append(cases, text)
	}
	for _, text := range cases {
		line := appendText([]byte{'"'}, text)
		line = append(line, '"')
		var back string
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := string([]rune(string(text)))
		if back != want || !utf8.Valid(line) || bytes.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }) {
			t.Fatalf("%q became %q", text, line)
		}
	}
}

func BenchmarkAppendText(b *testing.B) {
	text := []byte(strings.Repeat("2026-11-25T14:03:11.000123 core-sw1 daemon[4711]: session opened for user from 00fa12\n", 190))
	dst := make([]byte, 0, 2*len(text))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		dst = appendText(dst[:0], text)
	}
}
