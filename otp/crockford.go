package otp

import (
	"crypto/rand"
	"strings"
)

// crockford is the alphabet of Douglas Crockford's base 32, for secrets that people read and type: without I, L, O and U, which are
// misread or spell words.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewCrockford returns so many random letters of Crockford's base 32, of five bits each.
func NewCrockford(letters int) string {
	text := make([]byte, letters)
	_, _ = rand.Read(text) // never fails (crypto/rand)
	for i, b := range text {
		text[i] = crockford[b%32] // 256 is a multiple of 32: every letter is as likely
	}
	return string(text)
}

// Grouped puts a hyphen between each so many letters, as secrets are printed.
func Grouped(text string, size int) string {
	var b strings.Builder
	for i := 0; i < len(text); i += size {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(text[i:min(i+size, len(text))])
	}
	return b.String()
}

// CleanCrockford returns what NewCrockford made, of what was typed: without hyphens and white space, in capitals, with the letters that are
// misread put right. Ok is false for what cannot be so many letters; what is more than four times as long is not looked at.
func CleanCrockford(typed string, letters int) (text string, ok bool) {
	if len(typed) > 4*letters {
		return "", false
	}
	text = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		switch r {
		case '-', ' ', '\t', '\r', '\n':
			return -1
		case 'O':
			return '0'
		case 'I', 'L':
			return '1'
		}
		return r
	}, typed)
	if len(text) != letters || strings.Trim(text, crockford) != "" {
		return "", false
	}
	return text, true
}
