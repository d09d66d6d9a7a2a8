package login

import (
	"time"

	"sallyport/internal/audit"
	"sallyport/otp"
)

// A token's clock goes wrong slowly, by some seconds a month (RFC 6238 section 6). So that its codes are not refused one day, the
// gate notes by how many steps it is off, and looks for codes around that: the window stays as narrow as it was, and moves.

// effectDrift says by how many steps a token's clock is off: ID token, Value steps.
const effectDrift = "token.drift"

const (
	// MaxLearned bounds, in steps, what is learned from logins: five minutes for most tokens. What is beyond takes an operator.
	MaxLearned = 10
	// MaxDrift bounds what a resynchronisation may find: an hour for most tokens.
	MaxDrift = 120
	// learnAfter is how many logins in a row must be off the same way. A code that was typed late is no sign of a wrong clock.
	learnAfter = 3
)

// EffectDrift makes the effect that says how far a token's clock is off, for verbs that find out themselves.
func EffectDrift(token string, steps int) audit.Effect {
	return audit.Effect{Set: effectDrift, ID: token, Value: int64(steps)}
}

// at is the time on the token's own clock.
func (d *device) at(now time.Time) time.Time {
	return now.Add(time.Duration(d.drift) * time.Duration(d.params.Period) * time.Second)
}

// learn takes note of a code that was accepted, and returns how far the clock is off by what is known now.
func (d *device) learn(step int64, now time.Time) int16 {
	if d.params.Type != otp.TypeTOTP {
		return d.drift
	}
	off := step - d.params.StepAt(d.at(now))
	switch {
	case off > 0:
		d.lean = max(d.lean, 0) + 1
	case off < 0:
		d.lean = min(d.lean, 0) - 1
	default:
		d.lean = 0
	}
	move := int16(0)
	if d.lean >= learnAfter {
		move = 1
	} else if d.lean <= -learnAfter {
		move = -1
	}
	if move == 0 {
		return d.drift
	}
	d.lean = 0
	if to := d.drift + move; to >= -MaxLearned && to <= MaxLearned || move*d.drift < 0 {
		return to // within what may be learned, or on its way back there
	}
	return d.drift
}

// Drift tells by how many steps a token's clock is off, as far as is known.
func (g *Gate) Drift(person, token string) int {
	e := g.roster.find(person)
	if e == nil {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.device(token); i >= 0 {
		return int(e.devices[i].drift)
	}
	return 0
}

// LastStep is the newest step or counter of a token that is used up; -1: none.
func (g *Gate) LastStep(person, token string) int64 {
	e := g.roster.find(person)
	if e == nil {
		return neverUsed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.device(token); i >= 0 {
		return e.devices[i].last
	}
	return neverUsed
}

// Burn uses up a step or counter for a verb that takes a code itself, before the verb's record has EffectStep, and all that are older.
// It returns false where that is so already: a login may have taken the code since LastStep.
func (g *Gate) Burn(person, token string, step int64) bool {
	e := g.roster.find(person)
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.device(token)
	if i < 0 || step <= e.devices[i].last {
		return false
	}
	e.devices[i].last, e.devices[i].accepted = step, acceptance{}
	return true
}
