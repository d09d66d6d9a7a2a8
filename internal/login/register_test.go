package login

import (
	"net/netip"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
	"sallyport/internal/policy/register"
)

// entry is a sound entry of the register for bob at the lab, with two things had.
func anEntry(change ...func(*Exception)) *Exception {
	x := &Exception{
		ID: "EX-1", Version: 1, Changed: noon.Add(-time.Hour), Title: "lab analyser", Rationale: "no keyboard", Requester: "matron",
		Scope:    register.Scope{People: []string{"bob"}, Systems: []string{"lab"}, Factors: []policy.Kind{Have, Have}},
		Approval: register.Approval{By: "Chief Information Officer"},
		From:     noon.Add(-time.Hour), Until: noon.Add(24 * time.Hour), Review: noon.Add(12 * time.Hour),
	}
	for _, c := range change {
		c(x)
	}
	return x
}

func (b *bench) put(c Change) {
	b.gate.Apply(c)
	b.people = append(b.people, c) // as the store would hold it
}

// keyAndCode is bob's attempt at the lab without a password.
func keyAndCode(b *bench, counter int64) Attempt {
	a := b.attempt()
	a.Name, a.Password, a.Code, a.System = "bob", Secret{}, hotp(counter), System{Name: "lab"}
	a.Proofs = []Proof{{policy.Have, "key", "SHA256:x"}}
	return a
}

// P1: the register is the only way round two kinds; each row is one reason for which an entry does not hold.
func TestException(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Exception)
		want   Reason
	}{
		"in force":               {func(*Exception) {}, ReasonOK},
		"for a group":            {func(x *Exception) { x.Scope.People, x.Scope.Groups = nil, []string{"wards"} }, ReasonOK},
		"not begun":              {func(x *Exception) { x.From = noon.Add(time.Second) }, ReasonException},
		"over":                   {func(x *Exception) { x.Until = noon }, Reason(policy.ExceptionExpired)},
		"review overdue":         {func(x *Exception) { x.Review = noon }, Reason(policy.ExceptionUnreviewed)},
		"ended":                  {func(x *Exception) { x.Ended = noon }, ReasonException},
		"not approved":           {func(x *Exception) { x.Approval = register.Approval{} }, ReasonException},
		"approved by who asked":  {func(x *Exception) { x.Approval.By = " MATRON " }, ReasonException},
		"another person's":       {func(x *Exception) { x.Scope.People = []string{"alice"} }, ReasonExceptionScope},
		"another system's":       {func(x *Exception) { x.Scope.Systems = []string{"pacs"} }, ReasonExceptionScope},
		"from elsewhere":         {func(x *Exception) { x.Scope.Sources = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, ReasonExceptionScope},
		"over another protocol":  {func(x *Exception) { x.Scope.Protocols = []string{"ssh"} }, ReasonExceptionScope},
		"asks for other factors": {func(x *Exception) { x.Scope.Factors = []policy.Kind{Know} }, ReasonExceptionScope},
		"another entry":          {func(x *Exception) { x.ID = "EX-2" }, ReasonException},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.put(Change{PutException: anEntry(c.change)})
			b.want(b.decide(keyAndCode(b, 0)), c.want)
			uses := 0
			if c.want == ReasonOK {
				uses = 1
			}
			if n := b.gate.ExceptionUses()["EX-1"].Count; n != uses {
				t.Errorf("relied on %d times, want %d", n, uses)
			}
			b.restart()
			if n := b.gate.ExceptionUses()["EX-1"].Count; n != uses {
				t.Errorf("after a restart relied on %d times, want %d", n, uses)
			}
		})
	}
}

// P1, P2: a login by an exception is one of its own in the record, its code is burnt, and a wrong code counts.
func TestExceptionIsNoSideDoor(t *testing.T) {
	b := newBench(t)
	b.put(Change{PutException: anEntry()})
	o := b.decide(keyAndCode(b, 0))
	b.want(o, ReasonOK)
	if rec := b.record(o.Seq()); rec.Exception != "EX-1" || rec.Rule != "key and code" {
		t.Errorf("record: exception %q, rule %q", rec.Exception, rec.Rule)
	}
	b.want(b.decide(keyAndCode(b, 0)), ReasonCodeReused)

	whole := keyAndCode(b, 1)
	whole.Password = NewSecret("abracadabra")
	o = b.decide(whole)
	b.want(o, ReasonOK)
	if rec := b.record(o.Seq()); rec.Exception != "EX-1" || rec.Factors[0].Result != "ok" {
		t.Errorf("two kinds were proved under a rule with an exception: %+v", rec)
	}
	wrong := keyAndCode(b, 2)
	wrong.Password = NewSecret("guess")
	b.want(b.decide(wrong), ReasonPasswordWrong)
	noKey := keyAndCode(b, 2)
	noKey.Proofs = nil
	b.want(b.decide(noKey), ReasonPasswordMissing)
	elsewhere := keyAndCode(b, 2)
	elsewhere.System = System{Name: "vpn"}
	b.want(b.decide(elsewhere), ReasonPasswordMissing)
	for range 2 {
		guess := keyAndCode(b, 500)
		b.want(b.decide(guess), ReasonPasswordMissing)
	}
	b.want(b.decide(keyAndCode(b, 2)), ReasonLocked)
	b.restart()
}

// An exception for a password alone lets in at the first round, so that a client that can show no challenge is served; everybody
// else is challenged, whatever he typed (P6).
func TestExceptionBegin(t *testing.T) {
	b := newBench(t)
	p := *b.gate.Policy()
	p.Rules = append(policy.Rules{{Name: "old", Groups: []string{"wards"}, To: []string{"pump"}, May: []policy.Capability{policy.Login}, Need: []policy.Kind{Know}, Exception: "EX-1"}}, p.Rules...)
	b.gate.SetPolicy(&p)
	begin := func(name, password string) Outcome {
		a := b.attempt()
		a.Name, a.Password, a.Code, a.System = name, NewSecret(password), Secret{}, System{Name: "pump"}
		return b.gate.Begin(t.Context(), a)
	}
	challenged := func(what string, o Outcome) {
		t.Helper()
		if _, ok := o.Challenged(); !ok {
			t.Errorf("%s: not challenged: %s", what, o.Reason())
		}
	}
	challenged("without an entry", begin("bob", "abracadabra"))
	b.put(Change{PutException: anEntry(func(x *Exception) {
		x.Scope = register.Scope{People: []string{"bob"}, Factors: []policy.Kind{Know}}
	})})
	b.want(begin("bob", "abracadabra"), ReasonOK)
	challenged("a wrong password", begin("bob", "guess"))
	challenged("somebody else", begin("alice", "open sesame"))
	challenged("a stranger", begin("mallory", "x"))
	b.gate.Apply(Change{PutPerson: &Person{Name: "bob", Kind: Staff, Groups: []string{"wards"}, Disabled: true}})
	challenged("disabled", begin("bob", "abracadabra"))
}

// A login that an exception let in proves nothing to others: no window opens, and no certificate is issued.
func TestExceptionOpensNothingMore(t *testing.T) {
	b := trusting(t, policy.Trust{For: time.Hour, Certificate: time.Hour})
	p := *b.gate.Policy()
	p.Rules[0].Need, p.Rules[0].Exception = []policy.Kind{Have, Have}, "EX-1"
	b.put(Change{PutException: anEntry(func(x *Exception) {
		x.Scope = register.Scope{People: []string{"alice"}, Factors: []policy.Kind{Have, Have}}
	})})
	a := byKey(desk)
	a.Code = b.code(0)
	o := b.decide(a)
	b.want(o, ReasonOK)
	if b.gate.Leans(byKey(desk)) {
		t.Error("another login may lean on it")
	}
	gr, _ := o.Accepted()
	if _, o := b.gate.Certify(t.Context(), gr, Attempt{Source: desk}); o.Reason() != ReasonNoCertificate {
		t.Errorf("a certificate: %s", o.Reason())
	}
	// At a target it is asked for anew: the exception may have ended meanwhile.
	at := Attempt{System: System{Name: "core"}, Capability: MayShell, Source: desk, Protocol: "ssh"}
	b.want(b.gate.Access(t.Context(), gr, at), ReasonOK)
	b.advance(13 * time.Hour)
	b.want(b.gate.Access(t.Context(), gr, at), Reason(policy.ExceptionUnreviewed))
}

// A rule that asks for a grant lets in whom one is for, while it lasts, and for no longer.
func TestTimedGrant(t *testing.T) {
	b := newBench(t)
	p := *b.gate.Policy()
	p.Rules = append(policy.Rules{}, p.Rules...)
	p.Rules[0].Grant = true
	b.gate.SetPolicy(&p)
	b.want(b.decide(b.attempt()), ReasonGrant)
	job := &TimedGrant{ID: "GR-1", Person: "alice", Systems: []string{"vpn"}, From: noon, Until: noon.Add(30 * time.Minute), Ticket: "CHG1", Requester: "x"}
	b.put(Change{PutGrant: job})
	b.want(b.decide(b.attempt()), ReasonGrant) // nobody has approved it
	job.Approver = "y"
	b.put(Change{PutGrant: job})
	o := b.decide(b.attempt())
	b.want(o, ReasonOK)
	if gr, _ := o.Accepted(); gr.Max != 30*time.Minute {
		t.Errorf("the session may last %v", gr.Max)
	}
	found := false
	for _, d := range b.record(o.Seq()).Detail {
		found = found || d.Key == detailGrant && d.Value == "GR-1"
	}
	if !found {
		t.Error("the record does not name the grant")
	}
	vpn := System{Name: "vpn"}
	if why := b.gate.Lapsed("alice", nil, vpn); why != ReasonOK {
		t.Errorf("within its time: %s", why)
	}
	b.advance(30 * time.Minute)
	b.want(b.decide(b.attempt()), ReasonGrant)
	if why := b.gate.Lapsed("alice", nil, vpn); why != ReasonGrant {
		t.Errorf("after its time: %s", why)
	}
	b.restart()
}

// A break-glass session is recorded and short, whatever its rule says.
func TestEmergency(t *testing.T) {
	b := newBench(t)
	b.put(Change{PutPerson: &Person{Name: "alice", Kind: BreakGlass, Groups: []string{"network"}}})
	p := *b.gate.Policy()
	p.Rules = append(policy.Rules{}, p.Rules...)
	for _, c := range []struct{ max, want time.Duration }{{0, MaxEmergency}, {24 * time.Hour, MaxEmergency}, {time.Hour, time.Hour}} {
		p.Rules[0].Max = c.max
		b.gate.SetPolicy(&p)
		b.advance(time.Minute)
		o := b.decide(b.attempt())
		b.want(o, ReasonOK)
		if gr, _ := o.Accepted(); !gr.Emergency || !gr.Record || gr.Max != c.want {
			t.Errorf("rule's max %v: %+v", c.max, gr)
		}
	}
}

// A login that an exception let in counts once, whatever its protocol and however many records it makes.
func TestReliedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		rec  audit.Record
		want bool
	}{
		"RADIUS":                        {audit.Record{Event: "login", Result: Accept, Protocol: "radius", System: "vpn", Exception: "EX-1"}, true},
		"RADIUS, refused":               {audit.Record{Event: "login", Result: Reject, Protocol: "radius", System: "vpn", Exception: "EX-1"}, false},
		"RADIUS, without one":           {audit.Record{Event: "login", Result: Accept, Protocol: "radius", System: "vpn", Exception: audit.None}, false},
		"SSH, at the gateway":           {audit.Record{Event: "login", Result: Accept, Protocol: "ssh", System: GatewaySystem, Exception: "EX-1"}, false},
		"SSH, a service identity's":     {audit.Record{Event: "login", Result: Accept, Protocol: "ssh", System: "srv1", Exception: "EX-1"}, false},
		"SSH, at the target":            {audit.Record{Event: "access", Result: Accept, Protocol: "ssh", System: "srv1", Exception: "EX-1"}, true},
		"a verb about the entry":        {audit.Record{Event: "exception.set", Result: Info, Protocol: "admin", Exception: "EX-1"}, false},
		"a session under the exception": {audit.Record{Event: "session.start", Result: Info, Protocol: "ssh", Exception: "EX-1"}, false},
	} {
		if got := relied(&c.rec); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
