// Package policy holds the rules: who may do what at which system, and which kinds of factor that needs. Rules are data, and
// Decide is a function of data: no clock, no I/O, no state. All may be used concurrently as long as nobody changes a
// rule in place.
//
// The rules are read from the top. The first that matches the person's groups and the system decides, also when it
// refuses; later rules are not asked. Where no rule matches, nobody passes.
package policy

import (
	"net/netip"
	"time"
)

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
	ExceptionExpired    Reason = "exception_expired"
	ExceptionUnreviewed Reason = "exception_unreviewed"
	ExceptionScope      Reason = "exception_out_of_scope"
	GrantNotLive        Reason = "grant_not_live"
)

// Request is what is asked: may a person of these groups, having proved these kinds, do this at that system?
type Request struct {
	Person     string
	Groups     []string
	System     string
	Tags       []string // of the system
	Source     netip.Addr
	Protocol   string
	Capability Capability
	Proved     []Kind   // one for each factor proved; two codes from two devices are two
	Register   Register // nil: it is empty
}

// Register is the exceptions and grants that are in force now. It is asked concurrently, and doesn't keep the request.
type Register interface {
	// Exception answers OK when the entry is in force and covers the request, and why not otherwise.
	Exception(id string, r *Request) Reason
	// Grant returns the grant that covers the request and lasts longest, and its end; id is empty where there is none.
	Grant(r *Request) (id string, until time.Time)
}

// exception asks the request's register. It has a copy of the request, so that only requests which need an exception are allocated.
//
//go:noinline
func (r Request) exception(id string) Reason {
	if r.Register == nil || id == "" {
		return ExceptionNotLive
	}
	return r.Register.Exception(id, &r)
}

// Verdict is the answer. The zero value denies.
type Verdict struct {
	Effect    Effect
	Rule      *Rule // the rule that decided, or nil; not to be changed
	Reason    Reason
	Exception string    // the entry of the register that it was made under
	Lacking   bool      // fewer than two kinds were proved: without the entry it would deny
	Grant     string    // the grant that it relied on
	Until     time.Time // the end of that grant
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
	v := Verdict{Rule: rule}
	if rule.Grant {
		if v.Grant, v.Until = r.grant(); v.Grant == "" {
			return Verdict{Rule: rule, Reason: GrantNotLive}
		}
	}
	proved := tallyOf(r.Proved)
	if !proved.covers(rule.needs()) {
		return Verdict{Rule: rule, Reason: FactorsInsufficient}
	}
	// P1, whatever the rule says: Validate refuses a rule that needs less without an exception, but this is the last door.
	v.Lacking = proved.kinds() < 2
	if v.Lacking && rule.Exception == "" {
		return Verdict{Rule: rule, Reason: FactorsInsufficient}
	}
	if rule.Exception != "" {
		switch why := r.exception(rule.Exception); {
		case why == OK:
			v.Exception = rule.Exception
		case why == ExceptionScope && !v.Lacking: // it is about others
		default:
			return Verdict{Rule: rule, Reason: why}
		}
	}
	v.Effect, v.Reason = Allow, OK
	return v
}

// grant is as exception.
//
//go:noinline
func (r Request) grant() (string, time.Time) {
	if r.Register == nil {
		return "", time.Time{}
	}
	return r.Register.Grant(&r)
}

// DecideGateway answers a login to the gateway itself, before a system is chosen: it is for those whom some rule lets
// do something over SSH, and takes two kinds of factor, or an exception of such a rule. It permits nothing at any system: each is
// decided by Decide when it is chosen. The verdict names no rule.
func (rs Rules) DecideGateway(r Request) Verdict {
	reason := NoRule
	proved := tallyOf(r.Proved)
	r.System, r.Tags = "", nil
	for i := range rs {
		rule := &rs[i]
		if !rule.isFor(r.Groups) {
			continue
		}
		if !rule.permitsSSH() {
			if reason == NoRule {
				reason = CapabilityDenied
			}
			continue
		}
		if proved.kinds() >= 2 {
			return Verdict{Effect: Allow, Reason: OK}
		}
		reason = FactorsInsufficient
		if rule.Exception != "" && proved.covers(rule.needs()) {
			if reason = r.exception(rule.Exception); reason == OK {
				return Verdict{Effect: Allow, Reason: OK, Exception: rule.Exception, Lacking: true}
			}
		}
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

// Covers tells whether what was proved holds all that is needed, one for each factor.
func Covers(proved, need []Kind) bool { return tallyOf(proved).covers(tallyOf(need)) }
