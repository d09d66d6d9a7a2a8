// Package policy holds the rules: who may do what at which system, and which kinds of factor that needs. Rules are data, and
// Decide is a function of data: no clock, no I/O, no state. All may be used concurrently as long as nobody changes a
// rule in place.
//
// The rules are read from the top. The first that matches the person's groups and the system decides, also when it
// refuses; later rules are not asked. Where no rule matches, nobody passes.
package policy

// Kind is a kind of factor: what a person knows, has or is.
type Kind string

// The kinds of factor.
const (
	Know Kind = "know" // a password
	Have Kind = "have" // a one-time code, a key
	Are  Kind = "are"  // a biometric
)

// index gives each kind its place in a tally.
func (k Kind) index() (int, bool) {
	switch k {
	case Know:
		return 0, true
	case Have:
		return 1, true
	case Are:
		return 2, true
	default:
		return 0, false
	}
}

// Known reports whether k is one of the kinds.
func (k Kind) Known() bool {
	_, ok := k.index()
	return ok
}

// Capability is something that a person may do at a system.
type Capability string

// The capabilities. Login is RADIUS's only one; the others are SSH's.
const (
	Login    Capability = "login"
	Shell    Capability = "shell"
	Exec     Capability = "exec"
	SFTP     Capability = "sftp"
	Upload   Capability = "upload"
	Download Capability = "download"
	Forward  Capability = "forward"
	Agent    Capability = "agent"
)

// Known reports whether c is one of the capabilities.
func (c Capability) Known() bool {
	switch c {
	case Login, Shell, Exec, SFTP, Upload, Download, Forward, Agent:
		return true
	default:
		return false
	}
}

// Effect is what a verdict does. The zero value denies.
type Effect uint8

// The effects.
const (
	Deny Effect = iota
	Allow
)

func (e Effect) String() string {
	if e == Allow {
		return "allow"
	}
	return "deny"
}

// Reason is the records' word for a verdict.
type Reason string

// The reasons.
const (
	OK                  Reason = "ok"
	NoRule              Reason = "no_rule"
	CapabilityDenied    Reason = "capability_not_permitted"
	FactorsInsufficient Reason = "factors_insufficient"
	ExceptionNotLive    Reason = "exception_not_live"
)

// Request is what is asked: may a person of these groups, having proved these kinds, do this at that system?
type Request struct {
	Groups     []string
	System     string
	Tags       []string // of the system
	Capability Capability
	Proved     []Kind // one for each factor proved; two codes from two devices are two
	// ExceptionLive tells whether an entry of the exception register is in force now. Nil: none is.
	ExceptionLive func(id string) bool
}

// Verdict is the answer. The zero value denies.
type Verdict struct {
	Effect Effect
	Rule   *Rule // the rule that decided, or nil; not to be changed
	Reason Reason
}

// Decide answers r by the first rule that matches its groups and its system.
func (rs Rules) Decide(r Request) Verdict {
	rule := rs.Find(r.Groups, r.System, r.Tags)
	if rule == nil {
		return Verdict{Reason: NoRule}
	}
	if !rule.permits(r.Capability) {
		return Verdict{Rule: rule, Reason: CapabilityDenied}
	}
	excepted := rule.Exception != ""
	if excepted && (r.ExceptionLive == nil || !r.ExceptionLive(rule.Exception)) {
		return Verdict{Rule: rule, Reason: ExceptionNotLive}
	}
	proved := tallyOf(r.Proved)
	if !proved.covers(rule.needs()) {
		return Verdict{Rule: rule, Reason: FactorsInsufficient}
	}
	// P1, whatever the rule says: Validate refuses such a rule, but this is the last door.
	if proved.kinds() < 2 && !excepted {
		return Verdict{Rule: rule, Reason: FactorsInsufficient}
	}
	return Verdict{Effect: Allow, Rule: rule, Reason: OK}
}

// DecideGateway answers a login to the gateway itself, before a system is chosen: it is for those whom some rule lets
// do something over SSH, and takes two kinds of factor, without exceptions. It permits nothing at any system: each is
// decided by Decide when it is chosen. The verdict names no rule.
func (rs Rules) DecideGateway(groups []string, proved []Kind) Verdict {
	reason := NoRule
	for i := range rs {
		if !rs[i].isFor(groups) {
			continue
		}
		if !rs[i].permitsSSH() {
			reason = CapabilityDenied
			continue
		}
		if tallyOf(proved).kinds() < 2 {
			return Verdict{Reason: FactorsInsufficient}
		}
		return Verdict{Effect: Allow, Reason: OK}
	}
	return Verdict{Reason: reason}
}

// Find returns the first rule that matches, or nil. A system without a name matches none.
func (rs Rules) Find(groups []string, system string, tags []string) *Rule {
	if system == "" {
		return nil
	}
	for i := range rs {
		if rs[i].isFor(groups) && rs[i].isTo(system, tags) {
			return &rs[i]
		}
	}
	return nil
}

// tally counts factors by kind.
type tally [3]int

// tallyOf ignores words that are no kind: they prove nothing.
func tallyOf(kinds []Kind) (t tally) {
	for _, k := range kinds {
		if i, ok := k.index(); ok {
			t[i]++
		}
	}
	return t
}

func (t tally) covers(need tally) bool {
	for i := range t {
		if t[i] < need[i] {
			return false
		}
	}
	return true
}

// kinds is how many different kinds there are.
func (t tally) kinds() (n int) {
	for _, c := range t {
		if c > 0 {
			n++
		}
	}
	return n
}
