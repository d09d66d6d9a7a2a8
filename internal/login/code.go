package login

import (
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
	"sallyport/otp"
)

// codeResult is how a typed code compares with a person's devices.
type codeResult struct {
	reason Reason
	device int
	token  string
	method string
	step   int64

	recovery bool // a recovery code's: step is which one
}

func (c codeResult) factor(repeated bool) audit.Factor {
	f := audit.Factor{Kind: string(policy.Have), Method: c.method, Token: c.token}
	switch c.reason {
	case ReasonOK:
		f.Result = "ok"
		if repeated {
			f.Result = "repeated"
		}
	case ReasonCodeReused:
		f.Result = "reused"
	case ReasonCodeMissing, ReasonNoToken:
		f.Result = "missing"
	default:
		f.Result = "wrong"
	}
	return f
}

// matchCode compares the code, or the proof of one, with every device of the person. It burns nothing. Telling says that
// the answer will tell whether the code is right, so that the time which that takes may tell it as well. The caller holds
// e.mu.
func (e *entry) matchCode(a *Attempt, now time.Time, s Settings, telling bool) codeResult {
	worst := codeResult{reason: ReasonCodeWrong, method: "code"}
	if a.CodeProof == nil && !a.Code.Empty() {
		if r, ok := e.matchRecovery(a.Code.Reveal()); ok {
			return r
		}
	}
	var code string
	switch {
	case len(e.devices) == 0:
		return codeResult{reason: ReasonNoToken, method: "code"}
	case a.CodeProof != nil:
	case a.Code.Empty():
		return codeResult{reason: ReasonCodeMissing, method: "code"}
	default:
		var ok bool
		if code, ok = otp.CleanCode(a.Code.Reveal()); !ok {
			return worst
		}
	}
	for i := range e.devices {
		d := &e.devices[i]
		step, ok := d.match(code, a.CodeProof, now, s, telling)
		if !ok {
			continue
		}
		r := codeResult{reason: ReasonOK, device: i, token: d.id, method: string(d.params.Type), step: step}
		switch {
		case step <= d.last:
			r.reason = ReasonCodeReused
		case !d.inTime(now):
			r.reason = ReasonTokenTime
		default:
			return r
		}
		worst = r
	}
	return worst
}

// match finds the step that the code, or the proof of one, is of. A token's code is nearly always the next or the present
// one, so where time may tell, that is looked at first.
func (d *device) match(code string, proof CodeProof, now time.Time, s Settings, telling bool) (step int64, ok bool) {
	if telling {
		likely := d.params.Around(d.at(now), 0)
		if d.params.Type == otp.TypeHOTP {
			likely = otp.Ahead(d.last, 1)
		}
		if step, ok := d.matchIn(code, proof, likely); ok {
			return step, true
		}
	}
	return d.matchIn(code, proof, d.window(now, s))
}

func (d *device) matchIn(code string, proof CodeProof, w otp.Window) (step int64, ok bool) {
	if proof != nil {
		return otp.Search([]byte(d.seed), *d.params, w, proof.Proves)
	}
	return otp.Match([]byte(d.seed), *d.params, code, w)
}

// window is where a code may lie. For HOTP it begins with the counter used last, so that a reused code is known as
// one; matchCode refuses whatever is not beyond d.last.
func (d *device) window(now time.Time, s Settings) otp.Window {
	if d.params.Type == otp.TypeHOTP {
		w := otp.Ahead(d.last, s.LookAhead)
		if d.last >= 0 {
			w.From = d.last
		}
		return w
	}
	return d.params.Around(d.at(now), s.Skew)
}
