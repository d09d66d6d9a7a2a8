package login

import (
	"context"
	"slices"
	"strings"
)

// part checks an attempt whose password and code came in one, and leaves the two in a. How long the code is, the
// person's own tokens say; for strangers it is six digits. Only somebody with tokens of both lengths, or who typed what
// can be read in two ways, may cost more than one check: the code is then where the password is right. A wrong password
// never burns a code, and nobody is told which half was wrong (P6).
func (g *Gate) part(ctx context.Context, a *Attempt) firstResult {
	var first firstResult
	for _, reading := range []Secret{a.Joined, a.Otherwise} {
		if reading.Empty() {
			continue
		}
		for _, digits := range g.digits(a.Name) {
			password, code := a.JoinedBy.split(reading.Reveal(), digits)
			a.Password, a.Code = NewSecret(password), NewSecret(code)
			if first = g.checkFirst(ctx, a, nil); first.reason != ReasonPasswordWrong {
				return first
			}
		}
	}
	return first
}

// digits are the lengths of the person's codes, the longest first.
func (g *Gate) digits(name string) []int {
	var lengths []int
	if e := g.roster.find(name); e != nil {
		e.mu.Lock()
		for _, d := range e.devices {
			if !slices.Contains(lengths, d.params.Digits) {
				lengths = append(lengths, d.params.Digits)
			}
		}
		e.mu.Unlock()
		if len(lengths) == 0 {
			return []int{0} // he may have an exception: all of it is the password
		}
	}
	if len(lengths) == 0 {
		return []int{6}
	}
	slices.Sort(lengths)
	slices.Reverse(lengths)
	return lengths
}

// split takes the code off the end, or the beginning, of what was typed. Where no code stands there, all of it is the
// password.
func (j Joint) split(typed string, digits int) (password, code string) {
	n := len(typed)
	at, sep := n-digits, len(j.Separator)
	if j.CodeFirst {
		if n < digits+sep || !allDigits(typed[:digits]) || !strings.HasPrefix(typed[digits:], j.Separator) {
			return typed, ""
		}
		return typed[digits+sep:], typed[:digits]
	}
	if at < sep || !allDigits(typed[at:]) || !strings.HasSuffix(typed[:at], j.Separator) {
		return typed, ""
	}
	return typed[:at-sep], typed[at:]
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
