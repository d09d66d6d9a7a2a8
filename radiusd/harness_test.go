package radiusd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
	"sallyport/internal/journal"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/internal/seal"
	"sallyport/internal/throttle"
	"sallyport/otp"
	"sallyport/radiusd/attr"
	"sallyport/radiusd/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSecret = "xyzzy5461-xyzzy5461-xyzz"
	password   = "open sesame"
)

var (
	noon = time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)
	seed = []byte("12345678901234567890")
)

// rig is a server on loopback sockets with a real gate and a real log behind it, and a clock that stands until it is set.
type rig struct {
	t      *testing.T
	server *Server
	gate   *hooked
	login  *login.Gate
	log    *audit.Log
	ring   *seal.Ring
	meter  *counter
	lines  *logLines
	addr   netip.AddrPort
	stop   func()
	with   func(*Config) // what a test changes about the configuration

	alsoPassword string // everybody's, beside the usual one; it is changed between logins only

	// Guarded by mu.
	mu     sync.Mutex
	clock  time.Time
	disk   chan struct{} // while it is not nil, the disk waits for it to be closed
	synced int
}

// stall makes the disk slow, until the returned function is called.
func (r *rig) stall() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	disk := make(chan struct{})
	r.disk = disk
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.disk = nil
		close(disk)
	})
}

// syncs is how often the log was made durable.
func (r *rig) syncs() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.synced
}

func (r *rig) sync(f *os.File) error {
	r.mu.Lock()
	disk := r.disk
	r.synced++
	r.mu.Unlock()
	if disk != nil {
		<-disk
	}
	return f.Sync()
}

// passwords is a first factor that knows one.
type passwords struct{ also func() string }

func (passwords) Method() string { return "password" }

func (p passwords) Check(_ context.Context, q login.Question) (login.Answer, error) {
	switch e := q.Evidence.(type) { // as another RADIUS server would
	case *wire.CHAP:
		if q.Person != "" && (*chapProof)(e).Proves(password) {
			return login.Answer{Extra: &wire.Extra{Attributes: []wire.Attribute{{Type: wire.AttrClass, Value: []byte("upstream")}}}}, nil
		}
		return login.Answer{}, login.ErrWrong
	case *wire.MSCHAPv2:
		proof := parts(*e)
		if q.Person == "" || !proof.Proves(password) {
			return login.Answer{}, login.ErrWrong
		}
		send, recv, _ := proof.Keys()
		return login.Answer{Extra: &wire.Extra{MSCHAP2Success: append(e.Response[:1:1], proof.Success()...), SendKey: send[:], RecvKey: recv[:]}}, nil
	}
	typed := q.Password.Reveal()
	if q.Person == "" || typed != password && typed != p.also() {
		return login.Answer{}, login.ErrWrong
	}
	return login.Answer{}, nil
}

// hooked is a gate that a test can hold up, and that counts how often it was asked.
type hooked struct {
	Gate
	meter  *counter // told of each attempt
	mu     sync.Mutex
	before func(login.Attempt) // guarded by mu
	asked  int                 // guarded by mu
	last   login.Attempt       // guarded by mu
	ended  error               // guarded by mu: what the context of a Decide said after the hook
}

func (h *hooked) hook(a login.Attempt) {
	h.mu.Lock()
	h.asked++
	h.last = a
	h.last.Detail = slices.Clone(a.Detail) // its memory is used again
	before := h.before
	h.mu.Unlock()
	h.meter.change(func() {})
	if before != nil {
		before(a)
	}
}

func (h *hooked) set(before func(login.Attempt)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = before
}

func (h *hooked) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

func (h *hooked) attempt() login.Attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *hooked) Decide(ctx context.Context, a login.Attempt) login.Outcome {
	h.hook(a)
	h.mu.Lock()
	h.ended = errors.Join(h.ended, ctx.Err())
	h.mu.Unlock()
	return h.Gate.Decide(ctx, a)
}

func (h *hooked) Begin(ctx context.Context, a login.Attempt) login.Outcome {
	h.hook(a)
	return h.Gate.Begin(ctx, a)
}

func (h *hooked) Continue(ctx context.Context, p login.Progress, a login.Attempt) login.Outcome {
	h.hook(a)
	return h.Gate.Continue(ctx, p, a)
}

func (h *hooked) Finish(ctx context.Context, p login.Progress, a login.Attempt) login.Outcome {
	h.hook(a)
	return h.Gate.Finish(ctx, p, a)
}

func (h *hooked) Refuse(ctx context.Context, a login.Attempt, r login.Reason) login.Outcome {
	h.hook(a)
	return h.Gate.Refuse(ctx, a, r)
}

// asking is a hooked gate that decides without waiting, as login's does.
type asking struct{ *hooked }

func (h asking) asker() Asker { return h.Gate.(Asker) }

func (h *hooked) AskAccounting(acc login.Accounting) login.Noted {
	return h.Gate.(Accountant).AskAccounting(acc)
}

func (h asking) Immediate(name string) bool { return h.asker().Immediate(name) }

func (h asking) Ask(a login.Attempt) login.Asked {
	h.hook(a)
	return h.asker().Ask(a)
}

func (h asking) AskFinish(p login.Progress, a login.Attempt) login.Asked {
	h.hook(a)
	return h.asker().AskFinish(p, a)
}

func (h asking) AskRefuse(a login.Attempt, r login.Reason) login.Asked {
	h.hook(a)
	return h.asker().AskRefuse(a, r)
}

// workersOnly makes the gate one that waits, so that workers do everything, and a test can hold them up.
func workersOnly(o *Options) { o.Gate = o.Gate.(asking).hooked }

// counter is a Meter that remembers, and lets tests await.
type counter struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	drops   map[string]int
	replies map[string]int // by reason
	resends int
}

func newCounter() *counter {
	return &counter{changed: make(chan struct{}), drops: make(map[string]int), replies: make(map[string]int)}
}

func (c *counter) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *counter) Drop(_, reason string, _ netip.Addr) { c.change(func() { c.drops[reason]++ }) }
func (c *counter) Reply(_, _, reason string, _ time.Duration) {
	c.change(func() { c.replies[reason]++ })
}
func (c *counter) Resend(string)  { c.change(func() { c.resends++ }) }
func (c *counter) QueueDepth(int) { c.change(func() {}) }

// await waits until ok says so of the counts.
func (c *counter) await(t *testing.T, what string, ok func(*counter) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		c.mu.Lock()
		good, changed := ok(c), c.changed
		c.mu.Unlock()
		if good {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			c.mu.Lock()
			defer c.mu.Unlock()
			t.Fatalf("%s: did not come; drops %v, replies %v, resends %d", what, c.drops, c.replies, c.resends)
		}
	}
}

func (c *counter) dropped(reason string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drops[reason]
}

// logLines keeps what is logged.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func everybody(mode Mode) Client {
	return Client{
		Name: "vpn", Prefix: netip.MustParsePrefix("127.0.0.0/8"), Secret: []byte(testSecret), Mode: mode,
		RequireMessageAuthenticator: true, StatusServer: true, Class: "remote", Tags: []string{"edge"},
	}
}

func mustReply(t testing.TB, attrs map[string][]string) *attr.Reply {
	t.Helper()
	r, errs := attr.Compile(attrs)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return r
}

// newRig starts a server for the clients on 127.0.0.1. Options may be changed before.
func newRig(t *testing.T, change func(*Options), clients ...Client) *rig {
	t.Helper()
	return newRigOn(t, "127.0.0.1:0", change, clients...)
}

func newRigOn(t *testing.T, address string, change func(*Options), clients ...Client) *rig {
	t.Helper()
	r := &rig{t: t, clock: noon, meter: newCounter(), lines: new(logLines)}
	r.openGate()
	var err error
	if r.ring, err = seal.Create(filepath.Join(t.TempDir(), "ring"), noon); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Gate: asking{r.gate}, Box: r.ring.Box("radius-state"), Now: r.now, Meter: r.meter,
		Log: slog.New(slog.NewTextHandler(r.lines, nil)), Node: "gw1",
	}
	if change != nil {
		change(&o)
	}
	r.server = NewServer(o)
	r.configure(clients...)
	conn := listen(t, address)
	r.addr = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(ctx, conn) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		conn.Close()
	})
	t.Cleanup(func() {
		r.stop()
		if strings.Contains(r.lines.String(), "reason=panic") {
			t.Errorf("something panicked:\n%s", r.lines)
		}
		for _, secret := range []string{testSecret, password} { // P9
			if strings.Contains(r.lines.String(), secret) {
				t.Errorf("a secret is in the log:\n%s", r.lines)
			}
		}
	})
	return r
}

func (r *rig) configure(clients ...Client) {
	r.t.Helper()
	c := &Config{
		Clients: clients, ChallengeFor: 2 * time.Minute,
		Replies: map[string]*attr.Reply{"network team": mustReply(r.t, map[string][]string{
			"Cisco-AVPair": {"shell:priv-lvl=15", "shell:roles=admin"}, "Class": {"network", "second"}, "Service-Type": {"NAS-Prompt-User"},
		})},
	}
	if r.with != nil {
		r.with(c)
	}
	if err := r.server.SetConfig(c); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) openGate() {
	t := r.t
	skey, vkey, err := audit.NewKey("sallyport/test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	r.login, err = login.New(login.Options{
		First: passwords{func() string { return r.alsoPassword }}, Now: r.now, Blind: func(string) string { return "blinded" },
		Policy: &login.Policy{
			Settings: login.Settings{Skew: 1, LookAhead: 10, Lock: throttle.Settings{After: 5, For: time.Minute, HardAfter: 10, HardFor: time.Hour}, ChallengeFor: 2 * time.Minute},
			Rules: policy.Rules{
				{Name: "network team", Groups: []string{"network"}, To: []string{"vpn", "tag:edge"}, May: []policy.Capability{policy.Login}, Idle: 90 * time.Second, Max: time.Hour},
				{Name: "no reply", Groups: []string{"plain"}, To: []string{"*"}, May: []policy.Capability{policy.Login}},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r.log, err = audit.Open(audit.Options{
		Dir: filepath.Join(dir, "journal"), CheckpointFile: filepath.Join(dir, "checkpoint"), Node: "test", Signer: signer, Verifier: verifier,
		Now: r.now, Restore: r.login.Restore, Journal: journal.Options{Sync: r.sync}, Replay: func(rec *audit.Record, _ []byte) error { return r.login.Replay(rec) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.log.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []login.Change{
		{PutPerson: &login.Person{Name: "alice", Kind: login.Staff, Groups: []string{"network"}}},
		{PutToken: &login.Token{ID: "tk-alice", Person: "alice", State: login.TokenActive, Seed: seed, Params: otp.Default()}},
		{PutPerson: &login.Person{Name: "bob", Kind: login.Staff, Groups: []string{"plain"}}},
		{PutToken: &login.Token{ID: "tk-bob", Person: "bob", State: login.TokenActive, Seed: seed, Params: otp.Default()}},
	} {
		r.login.Apply(c)
	}
	r.login.SetLog(r.log)
	r.gate = &hooked{Gate: r.login, meter: r.meter}
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

// code is the present code of everybody who has a token here.
func (r *rig) code() string {
	p := otp.Default()
	return otp.Code(seed, p, p.StepAt(r.now()))
}

func listen(t testing.TB, address string) *net.UDPConn {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", a)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func newQuiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newFrozen() func() time.Time { return func() time.Time { return noon } }
