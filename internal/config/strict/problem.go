package strict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxPrinted bounds how many problems Error prints: a file of another kind has one on each of its lines.
const maxPrinted = 200

// Problem is one thing that is wrong with a configuration, or worth a warning. It never holds the value of a secret
// (P9).
type Problem struct {
	File  string
	Line  int    // from 1; zero: about the file as a whole
	Field string // dotted path, as radius.clients[vpn-leeds].mode
	Text  string // what is wrong
	Hint  string // what to do about it; may be empty
}

// String is "file:line: field: what is wrong", and the hint on a line of its own.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Text)
	if p.Hint != "" {
		b.WriteString("\n  hint: " + p.Hint)
	}
	return b.String()
}

// Problems is every error of one configuration, in the order of the file.
type Problems []Problem

// Error prints them all, one after the other; past 200, how many more there are.
func (ps Problems) Error() string {
	lines := make([]string, 0, min(len(ps), maxPrinted)+1)
	for i, p := range ps {
		if i == maxPrinted {
			lines = append(lines, fmt.Sprintf("and %d more", len(ps)-i))
			break
		}
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// InOrder sorts by line and leaves what stands on the same line as it was found.
func InOrder(ps []Problem) []Problem {
	slices.SortStableFunc(ps, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return ps
}

// Pos is where a value stands, so that other packages can report what they find wrong with it in the same form.
type Pos struct {
	File  string
	Line  int
	Field string
}

// Problem is a problem at this place. The text is about the field, without its name: "is not known".
func (p Pos) Problem(text, hint string) Problem {
	return Problem{File: p.File, Line: p.Line, Field: p.Field, Text: text, Hint: hint}
}

// Under is the place of a field of this block when it isn't there: the block's line, the field's path.
func (p Pos) Under(field string) Pos {
	if p.Field != "" {
		field = p.Field + "." + field
	}
	return Pos{File: p.File, Line: p.Line, Field: field}
}
