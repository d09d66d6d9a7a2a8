package admin

import (
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
)

// A counter that ran away and a clock that is wrong are found by two codes in a row, which are used up; one code, or two that are not
// in a row, find nothing.
func TestResync(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	enrol := func(p otp.Params) (id string, code func(step int64) string) {
		var e TokenEnrolled
		d.do("token.enrol", TokenEnrol{Person: "alice", Params: p, Active: true}, &e)
		tokens, err := d.store.TokensOf(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range tokens {
			if k.ID == e.ID {
				return e.ID, func(step int64) string { return otp.Code(k.Seed, p, step) }
			}
		}
		t.Fatal("no token")
		return "", nil
	}
	counter := otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}
	id, code := enrol(counter)
	for _, pair := range [][]string{nil, {code(700)}, {code(700), code(702)}, {code(701), code(700)}, {code(5000), code(5001)}, {"abc", "def"}} {
		d.refused("token.resync", TokenResync{ID: id, Codes: pair})
	}
	var r TokenResynced
	d.do("token.resync", TokenResync{ID: id, Codes: []string{code(700), code(701)}}, &r)
	if r.Counter != 701 || d.gate.LastStep("alice", id) != 701 {
		t.Errorf("%+v, last %d", r, d.gate.LastStep("alice", id))
	}
	d.refused("token.resync", TokenResync{ID: id, Codes: []string{code(700), code(701)}})
	d.restart()
	if d.gate.LastStep("alice", id) != 701 {
		t.Error("it is forgotten")
	}

	id, code = enrol(otp.Default())
	now := otp.Default().StepAt(d.clock)
	d.refused("token.resync", TokenResync{ID: id, Codes: []string{code(now - login.MaxDrift - 2), code(now - login.MaxDrift - 1)}})
	d.do("token.resync", TokenResync{ID: id, Codes: []string{code(now - 41), code(now - 40)}}, &r)
	if r.Drift != -40 || d.gate.Drift("alice", id) != -40 {
		t.Errorf("%+v, drift %d", r, d.gate.Drift("alice", id))
	}
	d.restart()
	if d.gate.Drift("alice", id) != -40 {
		t.Error("it is forgotten")
	}
	d.refused("token.resync", TokenResync{ID: "tk-none", Codes: []string{"1", "2"}})
}

// Ten codes are shown once and kept as hashes; a new set ends the one before.
func TestRecoveryVerb(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	var first, second RecoveryCodes
	d.do("token.recovery", PersonIn{"alice"}, &first)
	d.do("token.recovery", PersonIn{"alice"}, &second)
	if len(first.Codes) != otp.RecoveryCodes || first.Codes[0] == second.Codes[0] {
		t.Errorf("%+v", second)
	}
	d.restart()
	tokens, err := d.store.TokensOf(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	live := 0
	for _, k := range tokens {
		clean, _ := otp.CleanRecovery(second.Codes[9])
		if k.State == login.TokenActive {
			live++
			if otp.MatchRecovery(k.Seed, clean) != 9 {
				t.Error("the code does not match what is kept")
			}
		}
	}
	if live != 1 || d.gate.RecoveryLeft("alice") != otp.RecoveryCodes {
		t.Errorf("%d sets, %d codes left", live, d.gate.RecoveryLeft("alice"))
	}
	for _, rec := range d.records() {
		for _, code := range append(first.Codes, second.Codes...) {
			if containsText(&rec, code) {
				t.Errorf("record %d tells a code", rec.Seq)
			}
		}
	}
	d.refused("token.resync", TokenResync{ID: second.ID, Codes: []string{"123456", "123456"}})
}

func containsText(rec *audit.Record, text string) bool {
	for _, x := range rec.Detail {
		if x.Value == text {
			return true
		}
	}
	return false
}

// An entry that comes near its review is on record once for each of 60, 30 and 7 days, and once when it is overdue.
func TestDue(t *testing.T) {
	d := newDesk(t)
	today := login.DateOf(d.clock)
	day := func(days int) login.Date { return login.DateOf(today.AddDate(0, 0, days)) }
	in := ExceptionIn{
		Title: "pump", Rationale: "old", Requester: "ward 7", Risk: ExceptionRisk{Threat: "x", Likelihood: 1, Impact: 1, Assessor: "y"},
		Scope: ExceptionScope{People: []string{"pump"}, Factors: []login.Kind{login.Know}}, Plan: ExceptionPlan{Text: "replace", Owner: "estates", Target: day(400)},
		Approval: ExceptionApproval{By: "chief", Role: "SIRO", Body: "board", Reference: "7", Date: today}, From: today, Until: day(700), Review: day(200),
	}
	d.do("exception.add", in, nil)
	due := func(days int, want int) {
		t.Helper()
		d.clock = today.AddDate(0, 0, days).Add(6 * time.Hour)
		for range 2 {
			if _, err := d.service.Due(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got := 0
		for _, rec := range d.records() {
			if rec.Event == EventDue {
				got++
			}
		}
		if got != want {
			t.Errorf("after %d days: %d records, want %d", days, got, want)
		}
	}
	due(0, 0)
	due(140, 0)
	due(141, 1)
	due(172, 2)
	d.restart()
	due(173, 2)
	due(195, 3)
	due(201, 4)
	due(300, 4)
	d.do("exception.review", ExceptionReview{ID: "EX-1", By: "somebody else", Decision: "keep", Next: day(500)}, nil)
	due(301, 4)
	due(450, 5)
}
