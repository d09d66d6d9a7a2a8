package login

import (
	"context"
	"slices"
)

// part checks an attempt whose password and code came in one, and leaves the two in a. How long the code is, the
// person's own tokens say; for strangers it is six digits. Only somebody with tokens of both lengths may cost two
// checks: the code is then where the password is right. A wrong password never burns a code, and nobody is told which
// half was wrong (P6).
func (g *Gate) part(ctx context.Context, a *Attempt) firstResult {
	var first firstResult
	for _, digits := range g.digits(a.Name) {
		password, code := split(a.Joined.Reveal(), digits)
		a.Password, a.Code = NewSecret(password), NewSecret(code)
		if first = g.checkFirst(ctx, a); first.reason != ReasonPasswordWrong {
			break
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
	}
	if len(lengths) == 0 {
		return []int{6}
	}
	slices.Sort(lengths)
	slices.Reverse(lengths)
	return lengths
}

// split takes the code off the end of what was typed. Where the end is no code, all of it is the password.
func split(typed string, digits int) (password, code string) {
	at := len(typed) - digits
	if at < 0 {
		return typed, ""
	}
	for i := at; i < len(typed); i++ {
		if typed[i] < '0' || typed[i] > '9' {
			return typed, ""
		}
	}
	return typed[:at], typed[at:]
}
