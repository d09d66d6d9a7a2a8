package login

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
	"sallyport/internal/throttle"
)

// P1, P4, P6: each guard refuses by its own reason, and only a whole proof is let in.
func TestDecide(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(b *bench, a *Attempt)
		want  Reason
	}{
		{"good", func(*bench, *Attempt) {}, ReasonOK},
		{"good, name in capitals", func(_ *bench, a *Attempt) { a.Name = "ALICE" }, ReasonOK},
		{"good, code with a space", func(_ *bench, a *Attempt) { c := a.Code.Reveal(); a.Code = NewSecret(c[:3] + " " + c[3:]) }, ReasonOK},
		{"good, last step's code", func(b *bench, a *Attempt) { a.Code = b.code(-1) }, ReasonOK},
		{"good, next step's code", func(b *bench, a *Attempt) { a.Code = b.code(1) }, ReasonOK},
		{"code of two steps ago", func(b *bench, a *Attempt) { a.Code = b.code(-2) }, ReasonCodeWrong},
		{"no code", func(_ *bench, a *Attempt) { a.Code = Secret{} }, ReasonCodeMissing},
		{"code of letters", func(_ *bench, a *Attempt) { a.Code = NewSecret("abcdef") }, ReasonCodeWrong},
		{"code of 64 KiB", func(_ *bench, a *Attempt) { a.Code = NewSecret(strings.Repeat("1", 64<<10)) }, ReasonCodeWrong},
		{"no password", func(_ *bench, a *Attempt) { a.Password = Secret{} }, ReasonPasswordMissing},
		{"wrong password", func(_ *bench, a *Attempt) { a.Password = NewSecret("open barley") }, ReasonPasswordWrong},
		{"password of 64 KiB", func(_ *bench, a *Attempt) { a.Password = NewSecret(strings.Repeat("x", 64<<10)) }, ReasonPasswordWrong},
		{"key and code, no password", func(_ *bench, a *Attempt) {
			a.Password = Secret{}
			a.Proofs = []Proof{{policy.Have, "key", "SHA256:x"}}
		}, ReasonPasswordMissing},
		{"key and password, no code", func(_ *bench, a *Attempt) {
			a.Code = Secret{}
			a.Proofs = []Proof{{policy.Have, "key", "SHA256:x"}}
		}, ReasonCodeMissing},
		{"the NAS checked the password", func(_ *bench, a *Attempt) {
			a.Password = Secret{}
			a.Proofs = []Proof{{policy.Know, "nas-password", "vpn"}}
		}, ReasonOK},
		{"stranger", func(_ *bench, a *Attempt) { a.Name = "mallory" }, ReasonUnknownPerson},
		{"empty name", func(_ *bench, a *Attempt) { a.Name = "" }, ReasonUnknownPerson},
		{"name of 64 KiB", func(_ *bench, a *Attempt) { a.Name = strings.Repeat("alice", 13000) }, ReasonUnknownPerson},
		{"name with a NUL", func(_ *bench, a *Attempt) { a.Name = "alice\x00" }, ReasonUnknownPerson},
		{"name that folds to alice in Unicode only", func(_ *bench, a *Attempt) { a.Name = "al\u0130ce" }, ReasonUnknownPerson},
		{"no token", func(_ *bench, a *Attempt) { a.Name, a.Password = "sam", NewSecret("no token here") }, ReasonNoToken},
		{"no rule", func(_ *bench, a *Attempt) { a.System = System{Name: "pacs"} }, ReasonNoRule},
		{"not permitted there", func(_ *bench, a *Attempt) { a.Capability = policy.Exec }, ReasonCapability},
		{"exception that is not live", func(_ *bench, a *Attempt) {
			a.Name, a.Password, a.Code, a.System = "bob", Secret{}, hotp(0), System{Name: "lab"}
			a.Proofs = []Proof{{policy.Have, "key", "SHA256:x"}}
		}, ReasonException},
		{"directory down", func(b *bench, _ *Attempt) { b.first.broken = ErrUnavailable }, ReasonDirectoryDown},
		{"directory broken in a new way", func(b *bench, _ *Attempt) { b.first.broken = errors.New("?") }, ReasonDirectoryDown},
		{"overloaded", func(b *bench, _ *Attempt) { b.first.broken = ErrOverloaded }, ReasonOverloaded},
		{"disabled", func(b *bench, _ *Attempt) {
			b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Groups: []string{"network"}, Disabled: true}})
		}, ReasonPersonDisabled},
		{"not yet", func(b *bench, _ *Attempt) {
			b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Groups: []string{"network"}, From: noon.Add(time.Second)}})
		}, ReasonPersonNotYet},
		{"over", func(b *bench, _ *Attempt) {
			b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Groups: []string{"network"}, Until: noon}})
		}, ReasonPersonExpired},
		{"removed", func(b *bench, _ *Attempt) { b.gate.Apply(Change{DeletePerson: "alice"}) }, ReasonUnknownPerson},
		{"token revoked", func(b *bench, _ *Attempt) {
			b.gate.Apply(Change{PutToken: &Token{ID: "tk-alice", Person: "alice", State: TokenRevoked}})
		}, ReasonNoToken},
		{"token pending", func(b *bench, _ *Attempt) {
			b.gate.Apply(Change{PutToken: &Token{ID: "tk-alice", Person: "alice", State: TokenPending, Seed: seed}})
		}, ReasonNoToken},
	}
	sentences := make(map[string]bool)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			a := b.attempt()
			tt.spoil(b, &a)
			o := b.decide(a)
			b.want(o, tt.want)
			if tt.want != ReasonOK {
				sentences[o.Sentence()] = true
				b.first.broken = nil
				// Whatever was refused burnt nothing: alice's code is as good as before.
				if b.gate.Standing("alice").Reason == ReasonOK && b.gate.Standing("alice").Tokens == 1 {
					b.want(b.decide(b.attempt()), ReasonOK)
				}
			}
			b.restart()
		})
	}
	if len(sentences) != 1 {
		t.Errorf("refusals differ in what they tell (P6): %v", sentences)
	}
}

// P4: a first factor that says yes to everything lets nobody in who gave no password, or one that it was not asked.
func TestFirstFactorThatSaysYes(t *testing.T) {
	b := newBench(t)
	b.gate.SetFirstFactor(yes{})
	for _, password := range []string{"", strings.Repeat("x", MaxSecret+1)} {
		a := b.attempt()
		a.Password = NewSecret(password)
		if o := b.decide(a); o.Reason() == ReasonOK {
			t.Errorf("a password of %d bytes got in", len(password))
		}
	}
	stranger := b.attempt()
	stranger.Name = "mallory"
	b.want(b.decide(stranger), ReasonUnknownPerson)
}

type yes struct{}

func (yes) Check(context.Context, Question) (Answer, error) { return Answer{}, nil }
func (yes) Method() string                                  { return "password" }

// P2: a code is accepted once, whatever the road, and older ones are dead with it.
func TestOnce(t *testing.T) {
	b := newBench(t)
	again := b.attempt()
	b.want(b.decide(b.attempt()), ReasonOK)
	b.want(b.decide(again), ReasonCodeReused)
	older := b.attempt()
	older.Code = b.code(-1)
	b.want(b.decide(older), ReasonCodeReused)

	other := b.attempt()
	other.Protocol, other.System = "ssh", System{}
	b.want(b.decide(other), ReasonCodeReused)

	begun := b.gate.Begin(t.Context(), b.attempt())
	p, ok := begun.Challenged()
	if !ok {
		t.Fatal("no challenge")
	}
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonCodeReused)

	b.restart() // replay remembers
	b.want(b.decide(again), ReasonCodeReused)
	if err := b.gate.Snapshot(b.log.Snapshot); err != nil {
		t.Fatal(err)
	}
	b.restart() // so does a snapshot
	b.want(b.decide(again), ReasonCodeReused)

	b.advance(30 * time.Second)
	b.want(b.decide(b.attempt()), ReasonOK)
	b.advance(-time.Hour) // the clock is set back: what is before the last step stays used
	b.want(b.decide(b.attempt()), ReasonCodeReused)
	b.advance(2 * time.Hour)
	b.want(b.decide(b.attempt()), ReasonOK)
}

// P2: of many who bring the same code at once, one gets in.
func TestOnceAtOnce(t *testing.T) {
	b := newBench(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := make(map[Reason]int)
	for range 64 {
		wg.Go(func() {
			o := b.gate.Decide(t.Context(), b.attempt())
			mu.Lock()
			defer mu.Unlock()
			got[o.Reason()]++
		})
	}
	wg.Wait()
	if got[ReasonOK] != 1 || got[ReasonCodeReused] != 63 {
		t.Errorf("outcomes %v, want 1 ok and 63 code_reused", got)
	}
	b.restart()
}

func TestHOTP(t *testing.T) {
	b := newBench(t)
	try := func(counter int64, want Reason) {
		t.Helper()
		a := b.attempt()
		a.Name, a.Password, a.Code = "bob", NewSecret("abracadabra"), hotp(counter)
		b.want(b.decide(a), want)
	}
	try(0, ReasonOK)
	try(0, ReasonCodeReused)
	try(4, ReasonOK) // four were skipped
	try(4, ReasonCodeReused)
	try(3, ReasonCodeWrong) // behind the counter
	b.restart()
	try(4, ReasonCodeReused)
	try(15, ReasonCodeWrong) // beyond the look-ahead of 10
	try(14, ReasonOK)
}

// The lock is shared by all roads, holds against the right password and code, and survives a restart.
func TestLock(t *testing.T) {
	b := newBench(t)
	wrong := func() Attempt { a := b.attempt(); a.Password = NewSecret("wrong"); return a }
	b.want(b.decide(wrong()), ReasonPasswordWrong)
	badCode := b.attempt()
	badCode.Code = NewSecret("000000")
	b.want(b.decide(badCode), ReasonCodeWrong)
	if o := b.gate.Begin(t.Context(), wrong()); o.Reason() != ReasonPasswordWrong {
		t.Fatalf("begin: %v", o.Reason())
	}
	b.want(b.decide(b.attempt()), ReasonLocked) // three failures, over two roads
	b.restart()
	b.want(b.decide(b.attempt()), ReasonLocked)
	b.advance(61 * time.Second)
	b.want(b.decide(b.attempt()), ReasonOK)
	b.advance(30 * time.Second)
	for range 2 {
		b.want(b.decide(wrong()), ReasonPasswordWrong) // the success has reset the count
	}
	b.want(b.decide(b.attempt()), ReasonOK)

	b.advance(30 * time.Second)
	for range 6 {
		b.want(b.decide(wrong()), ReasonPasswordWrong)
		b.advance(2 * time.Minute)
	}
	b.want(b.decide(b.attempt()), ReasonLockedHard)
	if err := b.gate.Snapshot(b.log.Snapshot); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.want(b.decide(b.attempt()), ReasonLockedHard)
	rec := &audit.Record{Event: "user.unlock", Result: audit.Info, Person: "alice", Effects: []audit.Effect{EffectUnlock("alice")}}
	if _, err := b.gate.Commit(rec, Change{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	b.want(b.decide(b.attempt()), ReasonOK)
}

// After a hundred failures in a row nothing but an operator lets the person try again, however long he waits.
func TestHundredFailures(t *testing.T) {
	b := newBench(t)
	wrong := b.attempt()
	wrong.Password = NewSecret("wrong")
	for range throttle.MaxFailures {
		b.want(b.decide(wrong), ReasonPasswordWrong)
		b.advance(2 * time.Hour)
	}
	b.advance(1000 * time.Hour)
	b.want(b.decide(b.attempt()), ReasonLockedHard)
	rec := &audit.Record{Event: "user.unlock", Result: audit.Info, Person: "alice", Effects: []audit.Effect{EffectUnlock("alice")}}
	if _, err := b.gate.Commit(rec, Change{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	b.want(b.decide(b.attempt()), ReasonOK)
}

// P6: the first of two rounds says the same to everybody; the record says what was the matter.
func TestBeginAlwaysChallenges(t *testing.T) {
	b := newBench(t)
	for i, tt := range []struct {
		name     string
		password string
		record   Reason
		end      Reason
	}{
		{"alice", "open sesame", ReasonOK, ReasonOK},
		{"alice", "wrong", ReasonPasswordWrong, ReasonPasswordWrong},
		{"alice", "", ReasonPasswordMissing, ReasonPasswordMissing},
		{"sam", "no token here", ReasonOK, ReasonNoToken},
		{"mallory", "open sesame", ReasonUnknownPerson, ReasonUnknownPerson},
	} {
		b.advance(time.Minute)
		a := b.attempt()
		a.Name, a.Password = tt.name, NewSecret(tt.password)
		o := b.gate.Begin(t.Context(), a)
		p, ok := o.Challenged()
		if !ok || o.Sentence() != "" {
			t.Fatalf("%d: challenge %v, sentence %q", i, ok, o.Sentence())
		}
		if rec := b.record(o.Seq()); rec.Reason != string(tt.record) || rec.Result != audit.Challenge {
			t.Errorf("%d: record says %s %s, want challenge %s", i, rec.Result, rec.Reason, tt.record)
		}
		if got := len(p.MarshalBinary()); got != sizeShort {
			t.Errorf("%d: %d bytes tell one outcome from another, want %d", i, got, sizeShort)
		}
		back, err := ParseProgress(p.MarshalBinary())
		if err != nil || back != p {
			t.Fatalf("%d: progress does not come back: %v", i, err)
		}
		end := b.gate.Finish(t.Context(), back, Attempt{Name: tt.name, Protocol: "radius", System: a.System, Capability: policy.Login, Code: b.code(0)})
		b.want(end, tt.end)
		if rec := b.record(end.Seq()); rec.Attempt != a.ID {
			t.Errorf("%d: the two rounds are not joined: attempt %s, want %s", i, rec.Attempt, a.ID)
		}
	}
	b.restart()
}

// A challenge is answered once, in time, by the name it was made for.
func TestFinishOnce(t *testing.T) {
	b := newBench(t)
	begin := func() Progress {
		t.Helper()
		p, ok := b.gate.Begin(t.Context(), b.attempt()).Challenged()
		if !ok {
			t.Fatal("no challenge")
		}
		return p
	}
	wrongCode := b.attempt()
	wrongCode.Code = NewSecret("000000")

	p := begin()
	b.want(b.gate.Finish(t.Context(), p, wrongCode), ReasonCodeWrong)
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonStateUsed)
	b.restart()
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonStateUsed)
	if err := b.gate.Snapshot(b.log.Snapshot); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonStateUsed)

	p = begin()
	b.restart() // a challenge outlives a restart
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonOK)

	p = begin()
	other := b.attempt()
	other.Name = "bob"
	b.want(b.gate.Finish(t.Context(), p, other), ReasonStateUnknown)

	p = begin()
	b.advance(121 * time.Second)
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonStateExpired)
	p = begin()
	b.advance(-time.Hour)
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonStateExpired)
}

// P7: answered challenges are remembered up to a bound, and forgotten when they are dead.
func TestUsedStatesForget(t *testing.T) {
	u := newUsedStates()
	now := noon
	for i := range 10_000 {
		id := [16]byte{byte(i), byte(i >> 8)}
		if r := u.take(id, now, now.Add(time.Minute)); r != ReasonOK {
			t.Fatalf("%d: %s", i, r)
		}
		if r := u.take(id, now, now.Add(time.Minute)); r != ReasonStateUsed {
			t.Fatalf("%d, again: %s", i, r)
		}
		now = now.Add(time.Second)
	}
	if len(u.until) > 62 || len(u.order) > 200 {
		t.Errorf("%d remembered, %d in order, want about 60", len(u.until), len(u.order))
	}
}

// P3, P4: when the disk fails nobody is let in, nobody is told anything, and the gate says that it is shut.
func TestFailingDisk(t *testing.T) {
	b := newBench(t)
	b.want(b.decide(b.attempt()), ReasonOK)
	b.advance(time.Minute)
	b.mu.Lock()
	b.syncErr = func() error { return errors.New("input/output error") }
	b.mu.Unlock()
	for range 3 {
		o := b.decide(b.attempt())
		if _, ok := o.Accepted(); ok || !o.Unanswerable() || o.Reason() != ReasonLogDown {
			t.Fatalf("accepted %v, unanswerable %v, reason %s", ok, o.Unanswerable(), o.Reason())
		}
	}
	if o := b.gate.Begin(t.Context(), b.attempt()); !o.Unanswerable() {
		t.Error("a challenge without a record")
	}
	if o := b.gate.Refuse(t.Context(), b.attempt(), ReasonStateUnknown); !o.Unanswerable() {
		t.Error("a refusal without a record")
	}
	if err := b.gate.Open(); err == nil {
		t.Error("the gate says that it is open")
	}
	b.mu.Lock()
	b.syncErr = func() error { return nil } // the disk says that all is well again: it lies (fsyncgate)
	b.mu.Unlock()
	if o := b.decide(b.attempt()); !o.Unanswerable() {
		t.Error("a success after a failure of fdatasync was believed")
	}
}

// sync is the fdatasync of the journal under test.
func (b *bench) sync() func(*os.File) error {
	return func(f *os.File) error {
		b.mu.Lock()
		fail := b.syncErr
		b.mu.Unlock()
		if fail != nil {
			if err := fail(); err != nil {
				return err
			}
		}
		return f.Sync()
	}
}

// P4: a change that is recorded and that the store did not take shuts the gate, and holds in memory.
func TestFailingStore(t *testing.T) {
	b := newBench(t)
	rec := &audit.Record{Event: "user.disable", Result: audit.Info, Person: "alice"}
	c := Change{PutPerson: &Person{Name: "bob", Groups: []string{"wards"}, Disabled: true}}
	if _, err := b.gate.Commit(rec, c, []byte("sealed"), func(uint64) error { return errors.New("database is locked") }); err == nil {
		t.Fatal("no error")
	}
	if b.gate.Open() == nil {
		t.Error("the gate says that it is open")
	}
	b.want(b.decide(b.attempt()), ReasonStoreDown)
	if b.gate.Standing("bob").Reason != ReasonPersonDisabled {
		t.Error("the change does not hold in memory")
	}
	if err := b.gate.Snapshot(b.log.Snapshot); err == nil {
		t.Error("a snapshot was taken, behind which replay would not find the change")
	}
}

// P9: neither the name of a stranger, which may be a password, nor any secret is in a record or a printed value.
func TestNoSecretsShown(t *testing.T) {
	b := newBench(t)
	a := b.attempt()
	typed := random()
	a.Name, a.Password, a.Code = typed, NewSecret(typed+"p"), NewSecret(typed+"c")
	for _, o := range []Outcome{b.decide(a), b.gate.Begin(t.Context(), a), b.gate.Refuse(t.Context(), a, ReasonStateUnknown)} {
		rec := b.record(o.Seq())
		if strings.Contains(fmt.Sprintf("%+v", rec), typed) {
			t.Errorf("the record shows what was typed: %+v", rec)
		}
		if rec.Login != "hmac:blinded" {
			t.Errorf("login %q", rec.Login)
		}
	}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "attempt", a, "secret", a.Password)
	j, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Join([]string{
		fmt.Sprint(a.Password), fmt.Sprintf("%v %+v %#v %s %q %d %x", a.Password, a.Password, a.Password, a.Password, a.Password, a.Password, a.Password),
		strings.ReplaceAll(logged.String(), typed+`"`, ""), strings.ReplaceAll(string(j), typed+`"`, ""),
	}, "\n")
	if strings.Contains(shown, typed) {
		t.Errorf("a secret shows:\n%s", shown)
	}
}

// Access is asked for each target, and knows of changes since the login.
func TestAccess(t *testing.T) {
	b := newBench(t)
	a := b.attempt()
	a.Protocol, a.System, a.Capability = "ssh", System{}, ""
	grant, ok := b.decide(a).Accepted()
	if !ok {
		t.Fatal("no login")
	}
	ask := func(sys System, c policy.Capability) Outcome {
		return b.gate.Access(t.Context(), grant, Attempt{Protocol: "ssh", System: sys, Capability: c})
	}
	sw1 := System{Name: "sw1", Tags: []string{"switches"}}
	o := ask(sw1, policy.Shell)
	b.want(o, ReasonOK)
	session, _ := o.Accepted()
	if rec := b.record(o.Seq()); rec.Session != session.Session || rec.Attempt != a.ID || rec.Rule != "network team" || rec.Person != "alice" {
		t.Errorf("record %+v", rec)
	}
	b.want(ask(sw1, policy.SFTP), ReasonCapability)
	b.want(ask(System{Name: "pacs"}, policy.Shell), ReasonNoRule)
	b.want(ask(System{}, policy.Shell), ReasonNoTarget)
	b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Groups: []string{"network"}, Disabled: true}})
	b.want(ask(sw1, policy.Shell), ReasonPersonDisabled)
	if o := b.gate.Access(t.Context(), Grant{Person: "alice"}, Attempt{System: sw1, Capability: policy.Shell}); !o.Unanswerable() {
		t.Error("a grant that was built by hand opened a target")
	}
}

// A login to the gateway itself is for those whom a rule lets do something over SSH.
func TestGatewayLogin(t *testing.T) {
	b := newBench(t)
	a := b.attempt()
	a.Protocol, a.System, a.Name, a.Password, a.Code = "ssh", System{}, "bob", NewSecret("abracadabra"), hotp(0)
	o := b.decide(a)
	if _, ok := o.Accepted(); ok {
		t.Error("bob, who may only log in over RADIUS, is on the gateway")
	}
}

func TestStop(t *testing.T) {
	b := newBench(t)
	b.gate.Stop()
	if o := b.decide(b.attempt()); !o.Unanswerable() || o.Reason() != ReasonStopping {
		t.Errorf("after Stop: %v", o.Reason())
	}
	if b.gate.Open() == nil {
		t.Error("a stopping gate says that it is open")
	}
}

// P1: Ask decides nothing about an attempt whose first factor nobody has checked, whatever else it holds.
func TestAskNeedsAProof(t *testing.T) {
	b := newBench(t)
	next := b.log.Next()
	a := b.attempt()
	a.Proofs = []Proof{{policy.Have, "key", "SHA256:x"}}
	if o := b.gate.Ask(a).Outcome(); !o.Unanswerable() {
		t.Errorf("decided: %v", o.Reason())
	}
	if b.log.Next() != next {
		t.Error("a record was made")
	}
	if o := (Asked{}).Outcome(); !o.Unanswerable() {
		t.Error("the zero Asked has an answer")
	}
	a.Password, a.Proofs = Secret{}, []Proof{{policy.Know, "nas-password", "vpn"}}
	asked := b.gate.Ask(a)
	b.want(asked.Outcome(), ReasonOK)
}

// The zero Outcome, and one without a receipt, let nobody in.
func TestZeroOutcome(t *testing.T) {
	for _, o := range []Outcome{{}, {kind: accepted, reason: ReasonOK}, {kind: challenged}, {kind: rejected}} {
		if _, ok := o.Accepted(); ok {
			t.Errorf("%+v accepts", o)
		}
		if _, ok := o.Challenged(); ok {
			t.Errorf("%+v challenges", o)
		}
		if !o.Unanswerable() {
			t.Errorf("%+v has an answer", o)
		}
	}
}

func TestKey(t *testing.T) {
	b := newBench(t)
	if fp, ok := b.gate.Key("Alice", []byte("abc")); !ok || fp != "SHA256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0" {
		t.Errorf("alice's key: %s, %v", fp, ok)
	}
	for _, who := range []string{"bob", "mallory", "", strings.Repeat("a", 100)} {
		if _, ok := b.gate.Key(who, []byte("abc")); ok {
			t.Errorf("alice's key is registered for %q", who)
		}
	}
	b.gate.Apply(Change{DeletePerson: "alice"})
	if _, ok := b.gate.Key("alice", []byte("abc")); ok {
		t.Error("a removed person's key is registered")
	}
}

func TestNewID(t *testing.T) {
	seen := make(map[string]bool)
	for range 10_000 {
		before := time.Now().UnixMilli()
		id, err := uuid.Parse(NewID())
		if err != nil || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%v: version %v, variant %v, %v", id, id.Version(), id.Variant(), err)
		}
		sec, nsec := id.Time().UnixTime()
		if at := sec*1000 + nsec/1e6; at < before || at > time.Now().UnixMilli() {
			t.Fatalf("%v is of %d, made at %d", id, at, before)
		}
		if seen[id.String()] {
			t.Fatalf("%v twice", id)
		}
		seen[id.String()] = true
		if back, err := parseID(id.String()); err != nil || back != id {
			t.Fatalf("%v parses as %x, %v", id, back, err)
		}
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"alice": true, "a": true, "ext-jones.2_x": true, strings.Repeat("a", MaxName): true,
		"": false, strings.Repeat("a", MaxName+1): false, "Alice": false, "-a": false, "a b": false, "a@b": false, "a%b": false,
		"a/b": false, "a\nb": false, "a\x00": false, "\x1b[31m": false, "é": false, "a\xff": false, `dom\a`: false,
	} {
		if ValidName(name) != want {
			t.Errorf("ValidName(%q) = %v", name, !want)
		}
	}
}

// P9, P2: bytes that no gate made are not a Progress, or are one that comes back the same.
func FuzzParseProgress(f *testing.F) {
	f.Add(Progress{created: noon, first: ReasonOK, method: "password"}.MarshalBinary())
	f.Add(Progress{created: noon, first: ReasonFurther, method: "radius", roomy: true, round: 2, further: true, more: "state"}.MarshalBinary())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := ParseProgress(in)
		if err != nil {
			return
		}
		if out := p.MarshalBinary(); !bytes.Equal(in, out) {
			q, err := ParseProgress(out) // NUL bytes inside a word, which no gate writes
			if err != nil || q != p {
				t.Errorf("%x parses as %+v, which is written as %x", in, p, out)
			}
		}
		if len(p.MarshalBinary()) > sizeRoomy {
			t.Errorf("%d bytes", len(p.MarshalBinary()))
		}
	})
}
