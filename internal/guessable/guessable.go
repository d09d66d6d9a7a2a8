// Package guessable tells whether a password is one of those that are tried first: the 30,000 commonest, with what people put behind
// them, and the person's own name.
//
// The list is that of zxcvbn (Dropbox, MIT licence), counted in passwords that became public. It is as Debian's package python3-zxcvbn
// 4.4.28 ships it; README beside it says how it was made into the file here. NIST SP 800-63B-4 section 3.1.1.2 asks for such a list, and for
// no other rule of composition.
package guessable

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed" // for the list
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

//go:embed common.txt.gz
var packed []byte

// leastName is the length, in bytes, from which a part of a name counts.
const leastName = 3

// Why returns why a password is guessable, in words that complete "a password that"; empty: it is not. Names are the person's: login name,
// full name. It takes some milliseconds, for the list is unpacked each time: a password is set rarely, and memory is for people.
func Why(password string, names ...string) (string, error) {
	typed := strings.ToLower(password)
	bare := strip(typed)
	rest := typed
	for _, part := range parts(names) {
		rest = strings.ReplaceAll(rest, part, "")
	}
	if rest != typed {
		if rest = strip(rest); rest == "" {
			return "is made of the person's name", nil
		}
		// What is left of it may be common: alicepassword1.
		if common, err := listed(rest); err != nil || common {
			return "is the person's name beside one of the commonest passwords", err
		}
	}
	common, err := listed(typed, bare)
	if err != nil {
		return "", err
	}
	if common {
		return "is one of the commonest, or one with something behind it", nil
	}
	if first, _ := utf8.DecodeRuneInString(typed); first != utf8.RuneError && strings.Trim(typed, string(first)) == "" {
		return "is one character again and again", nil
	}
	return "", nil
}

// strip takes off what people put before and behind a word: digits and punctuation.
func strip(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return !unicode.IsLetter(r) })
}

// parts are the words of names, in lower case, the longest first.
func parts(names []string) (list []string) {
	for _, n := range names {
		for _, part := range strings.FieldsFunc(strings.ToLower(n), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if len(part) >= leastName {
				list = append(list, part)
			}
		}
	}
	slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(list)
}

// listed tells whether one of the words is in the list.
func listed(words ...string) (bool, error) {
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	if len(words) == 0 {
		return false, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return false, fmt.Errorf("the list of common passwords: %w", err)
	}
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		if slices.Contains(words, lines.Text()) {
			return true, nil
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("the list of common passwords: %w", err)
	}
	return false, nil
}
