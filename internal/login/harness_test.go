package login

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
	"sallyport/internal/journal"
	"sallyport/internal/policy"
	"sallyport/internal/throttle"
	"sallyport/otp"
)

// bench is a gate on a real log in a folder of its own, with a clock that stands until it is set.
type bench struct {
	t       *testing.T
	dir     string
	signer  note.Signer
	key     note.Verifier
	log     *audit.Log
	gate    *Gate
	first   *passwords
	mu      sync.Mutex
	clock   time.Time // guarded by mu
	people  []Change
	syncErr func() error // what fdatasync shall say
}

// passwords is a FirstFactor of clear passwords, which tells when it is misused.
type passwords struct {
	t      *testing.T
	of     map[string]string
	broken error
}

func (p *passwords) Method() string { return "password" }

func (p *passwords) Check(_ context.Context, q Question) (Answer, error) {
	if q.Password.Empty() && q.Evidence == nil {
		p.t.Error("an empty password was handed to the first factor")
	}
	if p.broken != nil {
		return Answer{}, p.broken
	}
	want, ok := p.of[q.Person]
	switch {
	case q.Person == "":
		return Answer{}, ErrWrong
	case !ok:
		return Answer{}, ErrUnset
	case want != q.Password.Reveal():
		return Answer{}, ErrWrong
	}
	return Answer{}, nil
}

var noon = time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)

var seed = []byte("12345678901234567890")

func newBench(t *testing.T) *bench {
	t.Helper()
	skey, vkey, err := audit.NewKey("sallyport/test")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: t.TempDir(), clock: noon, first: &passwords{t: t, of: map[string]string{"alice": "open sesame", "bob": "abracadabra", "sam": "no token here"}}}
	if b.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if b.key, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	b.people = []Change{
		{PutPerson: &Person{Name: "alice", Kind: Staff, Groups: []string{"network"}}},
		{PutToken: &Token{ID: "tk-alice", Person: "alice", State: TokenActive, Seed: seed, Params: otp.Default()}},
		{PutKey: &Key{Person: "alice", Fingerprint: "SHA256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0", Blob: []byte("abc")}},
		{PutPerson: &Person{Name: "bob", Kind: Staff, Groups: []string{"wards"}}},
		{PutToken: &Token{ID: "tk-bob", Person: "bob", State: TokenActive, Seed: seed, Params: otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}}},
		{PutPerson: &Person{Name: "sam", Kind: Staff, Groups: []string{"network"}}},
	}
	b.open()
	t.Cleanup(func() {
		if b.log != nil {
			b.close()
		}
	})
	return b
}

// open starts a gate as a daemon would: snapshot, replay, roster.
func (b *bench) open() {
	b.t.Helper()
	var err error
	b.gate, err = New(Options{
		First: b.first, Now: b.now,
		Policy: &Policy{
			Settings: Settings{Skew: 1, LookAhead: 10, Lock: throttle.Settings{After: 3, For: time.Minute, HardAfter: 6, HardFor: time.Hour}, ChallengeFor: 2 * time.Minute},
			Rules: policy.Rules{
				{Name: "network team", Groups: []string{"network"}, To: []string{"vpn", "tag:switches"}, May: []policy.Capability{policy.Login, policy.Shell}, Idle: time.Minute, Max: time.Hour},
				{Name: "key and code", Groups: []string{"wards"}, To: []string{"lab"}, May: []policy.Capability{policy.Login}, Need: []policy.Kind{policy.Have, policy.Have}, Exception: "EX-1"},
				{Name: "wards", Groups: []string{"wards"}, To: []string{"vpn"}, May: []policy.Capability{policy.Login}},
			},
		},
		Blind: func(string) string { return "hmac:blinded" },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.log, err = audit.Open(audit.Options{
		Dir: filepath.Join(b.dir, "journal"), CheckpointFile: filepath.Join(b.dir, "checkpoint"), Node: "test",
		Signer: b.signer, Verifier: b.key, Now: b.now, Restore: b.gate.Restore,
		Replay:  func(rec *audit.Record, _ []byte) error { return b.gate.Replay(rec) },
		Journal: journal.Options{Sync: b.sync()},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.people {
		b.gate.Apply(c)
	}
	b.gate.SetLog(b.log)
}

func (b *bench) close() {
	b.t.Helper()
	if err := b.log.Close(); err != nil && b.syncErr == nil {
		b.t.Fatal(err)
	}
	b.log = nil
}

// restart closes and opens, and checks the whole log in between.
func (b *bench) restart() {
	b.t.Helper()
	b.close()
	b.check()
	b.open()
}

// check is the invariant: the log verifies, and so no code was accepted twice (P2, P8).
func (b *bench) check() {
	b.t.Helper()
	if _, err := audit.VerifyDir(filepath.Join(b.dir, "journal"), filepath.Join(b.dir, "checkpoint"), b.key, nil); err != nil {
		b.t.Fatalf("the log does not verify: %v", err)
	}
}

func (b *bench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clock
}

func (b *bench) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = b.clock.Add(d)
}

// code is alice's code at the clock's time, or some steps from it.
func (b *bench) code(steps int64) Secret {
	p := otp.Default()
	return NewSecret(otp.Code(seed, p, p.StepAt(b.now())+steps))
}

func hotp(counter int64) Secret {
	return NewSecret(otp.Code(seed, otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}, counter))
}

// attempt is alice's good attempt at the VPN; tests spoil it.
func (b *bench) attempt() Attempt {
	return Attempt{
		ID: NewID(), Name: "alice", Protocol: "radius", Source: netip.MustParseAddrPort("127.0.0.1:40000"), Origin: "127.0.0.1",
		System: System{Name: "vpn", Class: "remote"}, Capability: policy.Login,
		Password: NewSecret("open sesame"), Code: b.code(0),
	}
}

func (b *bench) decide(a Attempt) Outcome {
	b.t.Helper()
	return b.gate.Decide(b.t.Context(), a)
}

// want checks that the attempt ends as told, and that its record says so.
func (b *bench) want(o Outcome, reason Reason) {
	b.t.Helper()
	if o.Reason() != reason {
		b.t.Fatalf("reason %q, want %q", o.Reason(), reason)
	}
	if _, ok := o.Accepted(); ok != (reason == ReasonOK) {
		b.t.Fatalf("accepted: %v, with reason %q", ok, reason)
	}
	rec := b.record(o.Seq())
	if rec.Reason != string(reason) {
		b.t.Fatalf("record %d has reason %q, want %q", o.Seq(), rec.Reason, reason)
	}
	if accept := rec.Result == audit.Accept; accept != (reason == ReasonOK) {
		b.t.Fatalf("record %d has result %q with reason %q", o.Seq(), rec.Result, reason)
	}
}

var errFound = errors.New("found")

func (b *bench) record(seq uint64) (found audit.Record) {
	b.t.Helper()
	err := b.log.Scan(seq, func(rec *audit.Record, _ journal.Position) error {
		found = *rec
		return errFound
	})
	if !errors.Is(err, errFound) {
		b.t.Fatalf("record %d: %v", seq, err)
	}
	return found
}

// random is a string that stands nowhere else.
func random() string { return "q" + strings.ToLower(rand.Text()) }
