package login

import (
	"strconv"

	"sallyport/internal/audit"
	"sallyport/otp"
)

// effectRecovery says that a recovery code is used up: ID the set's token, Value which one.
const effectRecovery = "recovery.used"

// MethodRecovery is how records name a recovery code as a factor.
const MethodRecovery = "recovery"

// recoverySet are a person's recovery codes. It is never changed in place, but for used, which e.mu guards.
type recoverySet struct {
	id   string
	kept string // what otp.NewRecovery keeps
	used uint16 // a bit for each code
}

func (s *recoverySet) left() int {
	n := otp.RecoveryCodes
	for i := range otp.RecoveryCodes {
		if s.used&(1<<i) != 0 {
			n--
		}
	}
	return n
}

// matchRecovery compares a code that was typed with the person's recovery codes. Ok is false when it cannot be one: then it is
// perhaps a token's. The caller holds e.mu.
func (e *entry) matchRecovery(typed string) (r codeResult, ok bool) {
	code, ok := otp.CleanRecovery(typed)
	if !ok || e.recovery == nil {
		return codeResult{}, false
	}
	r = codeResult{reason: ReasonCodeWrong, method: MethodRecovery}
	if i := otp.MatchRecovery([]byte(e.recovery.kept), code); i >= 0 {
		r.token, r.step, r.recovery, r.reason = e.recovery.id, int64(i), true, ReasonOK
		if e.recovery.used&(1<<i) != 0 {
			r.reason = ReasonCodeReused
		}
	}
	return r, true
}

// burn uses up an accepted code in memory, and says so in its record. The caller holds e.mu.
func (e *entry) burn(rec *audit.Record, code codeResult, accepted acceptance) {
	if code.recovery {
		e.recovery.used |= 1 << code.step
		rec.Effects = append(rec.Effects, audit.Effect{Set: effectRecovery, ID: code.token, Value: code.step})
		rec.Detail = append(rec.Detail, audit.Detail{Key: "recovery_codes_left", Value: strconv.Itoa(e.recovery.left())})
		return
	}
	d := &e.devices[code.device]
	d.last, d.accepted = code.step, accepted
	rec.Effects = append(rec.Effects, EffectStep(code.token, code.step))
	if drift := d.learn(code.step, rec.Time); drift != d.drift {
		d.drift = drift
		rec.Effects = append(rec.Effects, EffectDrift(code.token, int(drift)))
	}
}

// RecoveryLeft tells how many recovery codes somebody has left.
func (g *Gate) RecoveryLeft(name string) int {
	e := g.roster.find(name)
	if e == nil {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.recovery == nil {
		return 0
	}
	return e.recovery.left()
}
