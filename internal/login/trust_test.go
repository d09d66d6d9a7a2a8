package login

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
)

var desk = netip.MustParseAddrPort("192.0.2.1:4711")

// trusting is a gate with a rule whose trust is t.
func trusting(t *testing.T, trust policy.Trust) *bench {
	t.Helper()
	b := newBench(t)
	b.trust(trust)
	return b
}

func (b *bench) trust(trust policy.Trust) {
	p := *b.gate.Policy()
	p.Rules = policy.Rules{{Name: "network", Groups: []string{policy.Any}, To: []string{policy.Any}, May: []policy.Capability{policy.Shell}, Trust: trust}}
	b.gate.SetPolicy(&p)
}

func byKey(source netip.AddrPort) Attempt {
	return Attempt{
		ID: NewID(), Name: "alice", Protocol: "ssh", Source: source, Capability: MayShell,
		Proofs: []Proof{{Kind: Have, Method: "key", ID: "SHA256:alice"}},
	}
}

// full logs alice in with key, password and code.
func full(b *bench) Grant {
	b.t.Helper()
	b.advance(time.Minute)
	a := byKey(desk)
	a.Password, a.Code = NewSecret("open sesame"), b.code(0)
	o := b.gate.Decide(context.Background(), a)
	gr, ok := o.Accepted()
	if !ok {
		b.t.Fatalf("the full login: %s", o.Reason())
	}
	return gr
}

// A login leans on another by the same person, with the same key, from the same address, and by nothing else; what it may reach, the
// rule says anew each time.
func TestLean(t *testing.T) {
	h := trusting(t, policy.Trust{For: time.Minute, Uses: 2, Classes: []string{"internal"}})
	full(h)
	other := byKey(desk)
	other.Proofs[0].ID = "SHA256:other"
	nobody := byKey(desk)
	nobody.Name = "mallory"
	bare := byKey(desk)
	bare.Proofs = nil
	for name, a := range map[string]Attempt{
		"another key": other, "somebody else": nobody, "no key": bare, "another address": byKey(netip.MustParseAddrPort("192.0.2.2:4711")),
	} {
		if o := h.gate.Lean(context.Background(), a); o.Reason() != ReasonTrustOver {
			t.Errorf("%s: %s", name, o.Reason())
		}
	}
	gr, ok := h.gate.Lean(context.Background(), byKey(desk)).Accepted()
	if !ok {
		t.Fatal("did not lean")
	}
	for _, x := range []struct {
		class string
		want  Reason
	}{{"internal", ReasonOK}, {"external", ReasonTrustOver}} {
		if got := h.gate.Foresee(gr, System{Name: "srv", Class: x.class}, MayShell); got != x.want {
			t.Errorf("class %s: %s, want %s", x.class, got, x.want)
		}
	}
	h.gate.CloseWindows("alice")
	if got := h.gate.Foresee(gr, System{Name: "srv", Class: "internal"}, MayShell); got != ReasonTrustOver {
		t.Errorf("after the closing: %s", got)
	}
}

// Every change of the person closes what he has, and so does the end of his time here (P1).
func TestTrustEndsWithThePerson(t *testing.T) {
	for name, c := range map[string]Change{
		"password": {SetPassword: &Password{Person: "alice"}}, "groups": {PutPerson: &Person{Name: "alice", Groups: []string{"x"}}},
		"token": {DeleteToken: "tk-alice"}, "key": {DeleteKey: "SHA256:alice"}, "person": {DeletePerson: "alice"},
		"together": {All: []Change{{SetPassword: &Password{Person: "alice"}}}},
	} {
		h := trusting(t, policy.Trust{For: time.Hour, Certificate: time.Hour})
		gr := full(h)
		cert, o := h.gate.Certify(context.Background(), gr, Attempt{Protocol: "ssh", Source: desk})
		if _, ok := o.Accepted(); !ok {
			t.Fatalf("%s: no certificate: %s", name, o.Reason())
		}
		a := byKey(desk)
		a.Serial = cert.Serial
		if !h.gate.Leans(a) || !h.gate.Leans(byKey(desk)) {
			t.Fatalf("%s: nothing to lean on", name)
		}
		rec := &audit.Record{Time: h.now(), Event: "test", Result: audit.Info, Person: "alice", System: GatewaySystem}
		if _, err := h.gate.Commit(rec, c, []byte("sealed"), func(uint64) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if h.gate.Leans(a) || h.gate.Leans(byKey(desk)) {
			t.Errorf("%s: still leans", name)
		}
	}
}

// What a certificate is worth outlives a restart, by replay and by snapshot; a revocation does too.
func TestCertificateReplays(t *testing.T) {
	h := trusting(t, policy.Trust{Certificate: time.Hour})
	gr := full(h)
	cert, o := h.gate.Certify(context.Background(), gr, Attempt{Protocol: "ssh", Source: desk})
	if _, ok := o.Accepted(); !ok {
		t.Fatal(o.Reason())
	}
	a := byKey(desk)
	a.Serial = cert.Serial
	again := func(how string) {
		t.Helper()
		h.restart()
		h.trust(policy.Trust{Certificate: time.Hour})
		if !h.gate.Leans(a) {
			t.Errorf("not after %s", how)
		}
	}
	again("replay")
	if err := h.gate.Snapshot(h.log.Snapshot); err != nil {
		t.Fatal(err)
	}
	again("a snapshot")
	// A login that leans gets none, and a person is bounded.
	if _, o := h.gate.Certify(context.Background(), Grant{}, Attempt{}); !o.Unanswerable() {
		t.Error("a grant that is none was answered")
	}
	lean, ok := h.gate.Lean(context.Background(), a).Accepted()
	if !ok {
		t.Fatal("did not lean")
	}
	if _, o := h.gate.Certify(context.Background(), lean, Attempt{Protocol: "ssh", Source: desk}); o.Reason() != ReasonNoCertificate {
		t.Errorf("a leaning login: %s", o.Reason())
	}
	gr = full(h)
	for range MaxCertificatesOf {
		_, o = h.gate.Certify(context.Background(), gr, Attempt{Protocol: "ssh", Source: desk})
	}
	if o.Reason() != ReasonNoCertificate {
		t.Errorf("beyond the bound: %s", o.Reason())
	}
	rec := &audit.Record{Time: h.now(), Event: "trust.revoke", Result: audit.Info, Person: "alice", System: GatewaySystem, Effects: []audit.Effect{EffectRevoke("alice")}}
	if _, err := h.gate.Commit(rec, Change{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	h.restart()
	h.trust(policy.Trust{Certificate: time.Hour})
	if h.gate.Leans(a) || len(h.gate.Windows()) != 0 {
		t.Error("a revoked one is there after a restart")
	}
}

// One more code is judged like any, used up, and counted when it is wrong (P2).
func TestStepUp(t *testing.T) {
	h := trusting(t, policy.Trust{})
	p := *h.gate.Policy()
	p.Rules = slices.Clone(p.Rules)
	p.Rules[0].StepUp = true
	h.gate.SetPolicy(&p)
	gr := full(h)
	sys := System{Name: "srv"}
	if got := h.gate.Foresee(gr, sys, MayShell); got != ReasonStepUp {
		t.Fatalf("before: %s", got)
	}
	h.advance(time.Minute)
	code := h.code(0)
	o := h.gate.StepUp(context.Background(), gr, Attempt{Protocol: "ssh", Code: code})
	one, ok := o.Accepted()
	if !ok || h.gate.Foresee(one, sys, MayShell) != ReasonOK {
		t.Errorf("a code: %s", o.Reason())
	}
	for _, x := range []struct {
		code string
		want Reason
	}{{code.Reveal(), ReasonCodeReused}, {"000000", ReasonCodeWrong}, {"", ReasonCodeMissing}} {
		if o := h.gate.StepUp(context.Background(), gr, Attempt{Protocol: "ssh", Code: NewSecret(x.code)}); o.Reason() != x.want {
			t.Errorf("%q: %s, want %s", x.code, o.Reason(), x.want)
		}
	}
}

// A window that is used up lets nobody lean any more, who is then asked, and takes nothing from those who leaned before.
func TestUsesAreSpent(t *testing.T) {
	h := trusting(t, policy.Trust{For: time.Hour, Uses: 2})
	full(h)
	sys := System{Name: "sw1"}
	var grants []Grant
	for range 2 {
		gr, ok := h.gate.Lean(context.Background(), byKey(desk)).Accepted()
		if !ok {
			t.Fatal("did not lean")
		}
		grants = append(grants, gr)
	}
	if h.gate.Leans(byKey(desk)) {
		t.Error("a used-up window would be leaned on")
	}
	if o := h.gate.Lean(context.Background(), byKey(desk)); o.Reason() != ReasonTrustOver {
		t.Errorf("a third: %s", o.Reason())
	}
	for i, gr := range grants {
		if why := h.gate.Foresee(gr, sys, MayShell); why != ReasonOK {
			t.Errorf("login %d: %s", i, why)
		}
	}
}

// How often a certificate was used outlives a restart.
func TestCertificateUsesReplay(t *testing.T) {
	h := trusting(t, policy.Trust{Certificate: time.Hour, Uses: 2})
	cert, o := h.gate.Certify(context.Background(), full(h), Attempt{Protocol: "ssh", Source: desk})
	if _, ok := o.Accepted(); !ok {
		t.Fatal(o.Reason())
	}
	use := func() Reason {
		a := byKey(desk)
		a.Serial = cert.Serial
		return h.gate.Lean(context.Background(), a).Reason()
	}
	if why := use(); why != ReasonOK {
		t.Fatal(why)
	}
	h.restart()
	h.trust(policy.Trust{Certificate: time.Hour, Uses: 2})
	for i, want := range []Reason{ReasonOK, ReasonTrustOver} {
		if why := use(); why != want {
			t.Errorf("use %d after a restart: %s, want %s", i+1, why, want)
		}
	}
}

// A change of the person that comes between a login and the opening of its window wins.
func TestChangeBeatsWindow(t *testing.T) {
	h := trusting(t, policy.Trust{For: time.Hour})
	h.advance(time.Minute)
	a := byKey(desk)
	a.Password, a.Code = NewSecret("open sesame"), h.code(0)
	asked := h.gate.conclude(&a, firstResult{reason: ReasonOK, method: "password"}, ReasonOK, audit.Effect{}, true)
	h.gate.CloseWindows("alice")
	if _, ok := asked.Outcome().Accepted(); !ok {
		t.Fatal("not accepted")
	}
	if len(h.gate.Windows()) != 0 {
		t.Error("the window opened")
	}
}
