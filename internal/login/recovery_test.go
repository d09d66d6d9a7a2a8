package login

import (
	"testing"
	"time"

	"sallyport/internal/policy"
	"sallyport/otp"
)

// P2: a recovery code stands in for a code, once, also across restarts, and a wrong one counts.
func TestRecoveryCodes(t *testing.T) {
	b := newBench(t)
	codes, kept := otp.NewRecovery()
	b.put(Change{PutToken: &Token{ID: "tk-rc", Person: "sam", State: TokenActive, Seed: kept, Params: otp.Params{Type: otp.TypeRecovery}}})
	try := func(code string) Outcome {
		a := b.attempt()
		a.Name, a.Password, a.Code = "sam", NewSecret("no token here"), NewSecret(code)
		return b.decide(a)
	}
	o := try(codes[3])
	b.want(o, ReasonOK)
	rec := b.record(o.Seq())
	if f := rec.Factors[1]; f.Method != MethodRecovery || f.Kind != string(policy.Have) || f.Token != "tk-rc" || f.Result != "ok" {
		t.Errorf("factor %+v", f)
	}
	if n := b.gate.RecoveryLeft("sam"); n != 9 {
		t.Errorf("%d codes left", n)
	}
	b.want(try(codes[3]), ReasonCodeReused)
	b.restart()
	b.want(try(codes[3]), ReasonCodeReused)
	b.want(try(codes[9]), ReasonOK)
	if err := b.gate.Snapshot(func(state []byte) error { return b.log.Snapshot(state) }); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.want(try(codes[9]), ReasonCodeReused)
	if n := b.gate.RecoveryLeft("sam"); n != 8 {
		t.Errorf("%d codes left", n)
	}
	other, _ := otp.NewRecovery()
	for range 3 {
		b.want(try(other[0]), ReasonCodeWrong)
	}
	b.want(try(codes[0]), ReasonLocked)
	b.advance(2 * time.Minute)
	b.gate.Apply(Change{PutToken: &Token{ID: "tk-rc", Person: "sam", State: TokenRevoked, Params: otp.Params{Type: otp.TypeRecovery}}})
	if o := try(codes[0]); o.Reason() != ReasonNoToken {
		t.Errorf("revoked: %s", o.Reason())
	}
}

// A clock that goes wrong slowly is followed, one that is far off is not, and the window never widens.
func TestDriftIsLearned(t *testing.T) {
	b := newBench(t)
	late := func(steps int64) Reason {
		b.advance(10 * time.Minute)
		a := b.attempt()
		a.Code = b.code(steps)
		return b.decide(a).Reason()
	}
	for range 2 { // twice late is no wrong clock
		if why := late(-1); why != ReasonOK {
			t.Fatal(why)
		}
	}
	if late(0) != ReasonOK || b.gate.Drift("alice", "tk-alice") != 0 {
		t.Fatalf("drift %d", b.gate.Drift("alice", "tk-alice"))
	}
	if why := late(-2); why != ReasonCodeWrong {
		t.Fatalf("two steps late at first: %s", why)
	}
	for range learnAfter {
		if why := late(-1); why != ReasonOK {
			t.Fatal(why)
		}
	}
	if d := b.gate.Drift("alice", "tk-alice"); d != -1 {
		t.Fatalf("drift %d", d)
	}
	b.restart()
	if why := late(-2); why != ReasonOK {
		t.Fatalf("two steps late once it is known: %s", why)
	}
	if why := late(1); why != ReasonCodeWrong {
		t.Fatalf("the window has widened: %s", why)
	}
	// What may be learned is bounded.
	for i := int64(2); i < 2*MaxLearned; i++ {
		for range learnAfter {
			late(-i)
		}
	}
	if d := b.gate.Drift("alice", "tk-alice"); d != -MaxLearned {
		t.Errorf("drift %d", d)
	}
	if err := b.gate.Snapshot(func(state []byte) error { return b.log.Snapshot(state) }); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if d := b.gate.Drift("alice", "tk-alice"); d != -MaxLearned {
		t.Errorf("after a restart: drift %d", d)
	}
}

// P2: a code that a verb takes is used for logins, and one that a login took is none for the verb.
func TestBurn(t *testing.T) {
	b := newBench(t)
	now := otp.Default().StepAt(b.now())
	if !b.gate.Burn("alice", "tk-alice", now) || b.gate.LastStep("alice", "tk-alice") != now {
		t.Fatal("a code that is good is not taken")
	}
	b.want(b.decide(b.attempt()), ReasonCodeReused)
	b.advance(2 * time.Minute)
	b.want(b.decide(b.attempt()), ReasonOK)
	now = otp.Default().StepAt(b.now())
	for _, step := range []int64{now, now - 1} {
		if b.gate.Burn("alice", "tk-alice", step) {
			t.Errorf("a login took step %d, and so does the verb", step-now)
		}
	}
	if b.gate.Burn("alice", "tk-none", now+1) || b.gate.Burn("nobody", "tk-alice", now+1) {
		t.Error("a token that is not there")
	}
}
