package login

import (
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/otp"
)

// A token serves between its maker's dates, and its codes outside them are refused, whatever else is right.
func TestTokenDates(t *testing.T) {
	b := newBench(t)
	alice := *b.people[1].PutToken
	alice.Serial, alice.From, alice.Until = "A-1", noon.Add(time.Hour), noon.Add(2*time.Hour)
	b.people[1] = Change{PutToken: &alice}
	b.restart()
	b.want(b.decide(b.attempt()), ReasonTokenTime)
	b.advance(time.Hour - time.Second)
	b.want(b.decide(b.attempt()), ReasonTokenTime)
	b.advance(time.Second)
	b.want(b.decide(b.attempt()), ReasonOK)
	wrong := b.attempt()
	wrong.Code = NewSecret("000000")
	b.want(b.decide(wrong), ReasonCodeWrong)
	b.advance(time.Hour)
	b.want(b.decide(b.attempt()), ReasonTokenTime)
	// Another token of hers still serves.
	other := Token{ID: "tk-other", Person: "alice", State: TokenActive, Seed: seed, Params: otp.Default()}
	b.people = append(b.people, Change{PutToken: &other})
	b.restart()
	b.want(b.decide(b.attempt()), ReasonOK)
}

// What was used of a token is known after it was revoked, also across a snapshot, so that nobody else may use it (P2).
func TestRevokedTokensAreRemembered(t *testing.T) {
	b := newBench(t)
	a := b.attempt()
	a.Name, a.Password, a.Code = "bob", NewSecret("abracadabra"), hotp(7)
	b.want(b.decide(a), ReasonOK)
	check := func(when string) {
		t.Helper()
		if used, drift := b.gate.TokenStanding("bob", "tk-bob"); used != 7 || drift != 0 {
			t.Errorf("%s: used %d, drift %d", when, used, drift)
		}
	}
	check("serving")
	bob := *b.people[4].PutToken
	bob.State = TokenRevoked
	b.people[4] = Change{PutToken: &bob}
	b.gate.Apply(b.people[4])
	check("revoked")
	if err := b.gate.Snapshot(b.log.Snapshot); err != nil {
		t.Fatal(err)
	}
	b.restart()
	check("after a snapshot and a restart")
}

// A token that waits for its first code takes none that its maker has counted already, and looks by its own clock.
func TestFirstCodes(t *testing.T) {
	b := newBench(t)
	wait := func(tk Token, effects ...audit.Effect) otp.Window {
		t.Helper()
		tk.Person, tk.State = "alice", TokenPending
		rec := &audit.Record{Time: b.now(), Event: "token.assign", Result: audit.Info, Person: "alice", Effects: effects}
		if _, err := b.gate.Commit(rec, Change{PutToken: &tk}, []byte("x"), func(uint64) error { return nil }); err != nil {
			t.Fatal(err)
		}
		return b.gate.FirstCodes(&tk, b.now())
	}
	hotp := otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}
	if w := wait(Token{ID: "h0", Params: hotp}); w != (otp.Window{From: 0, To: 9}) {
		t.Errorf("a new counter: %v", w)
	}
	if w := wait(Token{ID: "h1", Params: hotp}, EffectStep("h1", 999)); w != (otp.Window{From: 1000, To: 1009}) {
		t.Errorf("a counter that begins at 1000: %v", w)
	}
	now := otp.Default().StepAt(b.now())
	if w := wait(Token{ID: "t0", Params: otp.Default()}, EffectDrift("t0", 20)); w != (otp.Window{From: now + 19, To: now + 21}) {
		t.Errorf("a clock that is ahead: %v", w)
	}
	if w := wait(Token{ID: "t1", Params: otp.Default()}, EffectStep("t1", now)); w != (otp.Window{From: now + 1, To: now + 1}) {
		t.Errorf("a step that was used: %v", w)
	}
	// Once it serves, the gate knows both.
	b.gate.Apply(Change{PutToken: &Token{ID: "h1", Person: "alice", State: TokenActive, Params: hotp, Seed: seed}})
	if used := b.gate.LastStep("alice", "h1"); used != 999 {
		t.Errorf("the counter was forgotten: %d", used)
	}
}
