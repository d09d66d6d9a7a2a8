package otp

import (
	"strings"
	"testing"
)

func TestCrockford(t *testing.T) {
	seen, letters := make(map[string]bool), make(map[rune]int)
	for range 1000 {
		text := NewCrockford(20)
		if len(text) != 20 || seen[text] {
			t.Fatalf("%q", text)
		}
		seen[text] = true
		for _, r := range text {
			letters[r]++
		}
		printed := Grouped(text, 5)
		if len(printed) != 23 || strings.Count(printed, "-") != 3 || strings.ReplaceAll(printed, "-", "") != text {
			t.Fatalf("%q is printed as %q", text, printed)
		}
		for _, typed := range []string{
			text, printed, strings.ToLower(printed), "\t" + strings.ReplaceAll(printed, "-", " \t") + "\r\n",
			strings.NewReplacer("0", "O", "1", "l").Replace(text), strings.NewReplacer("0", "o", "1", "I").Replace(text), strings.ReplaceAll(text, "1", "i"),
		} {
			if clean, ok := CleanCrockford(typed, 20); !ok || clean != text {
				t.Errorf("%q is read as %q", typed, clean)
			}
		}
		for _, typed := range []string{text[1:], text + "0", text[1:] + "U", text[1:] + "é", text[1:] + "\xff", text[1:] + "_", text[2:] + "ß", text + strings.Repeat(" ", 61), ""} {
			if clean, ok := CleanCrockford(typed, 20); ok || clean != "" {
				t.Errorf("%q is read as %q", typed, clean)
			}
		}
		if clean, ok := CleanCrockford(text+strings.Repeat(" ", 60), 20); !ok || clean != text {
			t.Errorf("with blanks behind it is read as %q", clean)
		}
	}
	// Of 20,000 letters, 625 are each: seven standard deviations are 175.
	for _, r := range crockford {
		if n := letters[r]; n < 450 || n > 800 {
			t.Errorf("%c came %d times", r, n)
		}
	}
	for text, want := range map[string]string{"": "", "A": "A", "ABCD": "ABCD", "ABCDE": "ABCD-E", "ABCDEFGH": "ABCD-EFGH"} {
		if got := Grouped(text, 4); got != want {
			t.Errorf("%q is printed as %q", text, got)
		}
	}
}
