package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Any, in Groups, stands for everybody, and in To for every system.
const Any = "*"

// tagPrefix, in To, marks a tag of systems.
const tagPrefix = "tag:"

// Rule lets the people of some groups do some things at some systems.
type Rule struct {
	Name   string
	Groups []string // the person is in one of them; Any: everybody
	To     []string // names of systems, "tag:x" for those with that tag, Any for all
	May    []Capability
	// Need is what must be proved: [know, have, have] takes two different things had. Empty means [know, have].
	Need []Kind
	// Exception is an entry of the exception register. A rule that names one decides only while it is in force, and lets
	// somebody who proves fewer than two kinds pass only where it covers him; a rule that needs fewer has to name one (P1).
	Exception string
	Grant     bool          // only people with a grant that is in force pass
	Record    bool          // sessions are recorded or refused (P10)
	StepUp    bool          // one more code opens a session at a target
	Trust     Trust         // whether one login serves for further ones
	Lock      time.Duration // a terminal at which nothing moves for this long is locked, and a code opens it; zero: never
	Idle      time.Duration // a session ends when nothing moves for this long; zero: no bound
	Max       time.Duration // a session ends after this long; zero: no bound
}

// Trust lets further connections lean on a login. The zero Trust does not.
type Trust struct {
	For     time.Duration // from the login on; zero: not at all
	Uses    int           // connections; zero: without bound
	Classes []string      // of systems; empty: all
	// Certificate is how long a login certificate serves, which its person asks for and carries; zero: none is issued.
	Certificate time.Duration
}

// LongestTrust is how long a login of somebody in these groups could serve others, by any rule.
func (rs Rules) LongestTrust(groups []string) (longest time.Duration) {
	for i := range rs {
		if rs[i].isFor(groups) {
			longest = max(longest, rs[i].Trust.For)
		}
	}
	return longest
}

// Of are the rules for somebody in these groups, in their order. They are not to be changed.
func (rs Rules) Of(groups []string) (list []*Rule) {
	for i := range rs {
		if rs[i].isFor(groups) {
			list = append(list, &rs[i])
		}
	}
	return list
}

// LongestCertificate is how long a login certificate of somebody in these groups could serve, by any rule.
func (rs Rules) LongestCertificate(groups []string) (longest time.Duration) {
	for i := range rs {
		if rs[i].isFor(groups) {
			longest = max(longest, rs[i].Trust.Certificate)
		}
	}
	return longest
}

// Rules are read from the top. They aren't changed while they are in use.
type Rules []Rule

func (r *Rule) isFor(groups []string) bool {
	for _, g := range r.Groups {
		if g == Any || slices.Contains(groups, g) {
			return true
		}
	}
	return false
}

func (r *Rule) isTo(system string, tags []string) bool { return Names(r.To, system, tags) }

// Names tells whether a list of names, "tag:x" and Any names a system.
func Names(list []string, system string, tags []string) bool {
	for _, to := range list {
		if to == Any {
			return true
		}
		if tag, ok := strings.CutPrefix(to, tagPrefix); ok {
			if slices.Contains(tags, tag) {
				return true
			}
			continue
		}
		if to == system {
			return true
		}
	}
	return false
}

func (r *Rule) permits(c Capability) bool { return c.Known() && slices.Contains(r.May, c) }

func (r *Rule) permitsSSH() bool {
	return slices.ContainsFunc(r.May, func(c Capability) bool { return c.Known() && c != Login })
}

func (r *Rule) needs() tally {
	if len(r.Need) == 0 {
		return tallyOf([]Kind{Know, Have})
	}
	return tallyOf(r.Need)
}

// Compliant reports whether the rule needs two different kinds of factor by itself (P1).
func (r *Rule) Compliant() bool { return r.needs().kinds() >= 2 }

// Validate returns everything that is wrong with the rules, in their order; each error begins with the rule's place
// and name.
func (rs Rules) Validate() []error {
	var errs []error
	seen := make(map[string]int, len(rs))
	for i := range rs {
		r := &rs[i]
		where := fmt.Sprintf("rule %d (%q)", i+1, r.Name)
		if first, ok := seen[r.Name]; ok && r.Name != "" {
			errs = append(errs, fmt.Errorf("%s: rule %d has the same name", where, first+1))
		} else {
			seen[r.Name] = i
		}
		for _, err := range r.validate() {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
	}
	return errs
}

func (r *Rule) validate() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if strings.TrimSpace(r.Name) == "" {
		errs = append(errs, errors.New("name: is empty; the records name the rule that decided"))
	}
	if len(r.Groups) == 0 {
		bad("groups: is empty: name groups, or %q for everybody", Any)
	}
	for _, g := range r.Groups {
		if !isWord(g) {
			bad("groups: %q is not the name of a group", g)
		}
	}
	if len(r.To) == 0 {
		bad("to: is empty: name systems, tags as %q, or %q for every system", tagPrefix+"x", Any)
	}
	for _, to := range r.To {
		if name, _ := strings.CutPrefix(to, tagPrefix); !isWord(name) {
			bad("to: %q is neither the name of a system nor a tag", to)
		}
	}
	if len(r.May) == 0 {
		errs = append(errs, errors.New("may: is empty: the rule would permit nothing"))
	}
	for _, c := range r.May {
		if !c.Known() {
			bad("may: unknown capability %q", c)
		}
	}
	unknown := false
	for _, k := range r.Need {
		if !k.Known() {
			unknown = true
			bad("need: unknown kind of factor %q: want know, have or are", k)
		}
	}
	if !unknown && !r.Compliant() && r.Exception == "" {
		bad("need: %v are fewer than two different kinds of factor: that takes an exception beside it (exception: EX-n)", r.Need)
	}
	if r.Exception != "" && !isWord(r.Exception) {
		bad("exception: %q is not the name of an entry in the register", r.Exception)
	}
	if r.Idle < 0 {
		bad("idle: %v is less than zero", r.Idle)
	}
	if r.Lock < 0 {
		bad("lock: %v is less than zero", r.Lock)
	}
	if r.Lock > 0 && r.Idle > 0 && r.Lock >= r.Idle {
		bad("lock: %v is not less than idle, %v, which ends the session", r.Lock, r.Idle)
	}
	for _, life := range []time.Duration{r.Trust.For, r.Trust.Certificate} {
		if life < 0 || life > maxTrust {
			bad("trust: %v: want up to %v", life, maxTrust)
		}
	}
	trusts := r.Trust.For > 0 || r.Trust.Certificate > 0
	if r.Trust.Uses < 0 || !trusts && (r.Trust.Uses > 0 || len(r.Trust.Classes) > 0) {
		bad("trust: uses and classes need a time (for, or certificate)")
	}
	if trusts && r.Exception == "" && !r.Compliant() {
		bad("trust: a rule that needs fewer than two kinds of factor cannot lean on a login")
	}
	if r.Max < 0 {
		bad("max: %v is less than zero", r.Max)
	}
	return errs
}

// maxTrust bounds how long a login may serve others.
const maxTrust = 12 * time.Hour

// isWord refuses what can only be a slip: nothing at all, or blanks at either end, which would never match.
func isWord(s string) bool { return s != "" && strings.TrimSpace(s) == s }
