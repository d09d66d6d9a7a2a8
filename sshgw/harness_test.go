package sshgw

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
	"sallyport/internal/journal"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/internal/throttle"
	"sallyport/otp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// passwords is a login.FirstFactor that costs nothing.
type passwords map[string]string

func (passwords) Method() string { return "password" }

func (p passwords) Check(_ context.Context, q login.Question) (login.Answer, error) {
	if q.Password.Empty() {
		return login.Answer{}, errors.New("the gate asked about an empty password")
	}
	if want, ok := p[q.Person]; !ok || want != q.Password.Reveal() {
		return login.Answer{}, login.ErrWrong
	}
	return login.Answer{}, nil
}

const alicePassword = "open sesame"

var aliceSeed = []byte("12345678901234567890")

// harness is a gate with its log, and a server before it.
type harness struct {
	testing.TB
	gate    *login.Gate
	log     *audit.Log
	srv     *Server
	hostKey ssh.Signer
	key     ssh.Signer // alice's
	addr    string
	meter   *meter
	logged  *lockedBuffer
	failing atomic.Bool // the disk of the log

	dir      string
	verifier note.Verifier
	clock    atomic.Int64 // nanoseconds since 1970
	stop     context.CancelFunc
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	skey, vkey, err := audit.NewKey("sallyport/test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{TB: t, dir: t.TempDir(), hostKey: newSigner(t), key: newSigner(t), meter: newMeter(), logged: new(lockedBuffer)}
	h.clock.Store(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixNano())
	if h.verifier, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	h.gate, err = login.New(login.Options{
		First: passwords{"alice": alicePassword, "bob": "abracadabra"}, Now: h.now,
		Policy: &login.Policy{
			Settings: login.Settings{Skew: 1, LookAhead: 10, Lock: throttle.Settings{After: 50, For: time.Minute, HardAfter: 60, HardFor: time.Hour}, ChallengeFor: time.Minute},
			Rules:    rules(policy.Rule{}),
		},
		Blind: func(string) string { return "hmac:blinded" },
	})
	if err != nil {
		t.Fatal(err)
	}
	h.log, err = audit.Open(audit.Options{
		Dir: filepath.Join(h.dir, "journal"), CheckpointFile: filepath.Join(h.dir, "checkpoint"), Node: "test",
		Signer: signer, Verifier: h.verifier, Now: h.now, Journal: journal.Options{Sync: h.sync()},
	})
	if err != nil {
		t.Fatal(err)
	}
	fingerprint, _ := h.gate.Key("alice", h.key.PublicKey().Marshal())
	for _, c := range []login.Change{
		{PutPerson: &login.Person{Name: "alice", Kind: login.Staff, Groups: []string{"network"}}},
		{PutToken: &login.Token{ID: "tk-alice", Person: "alice", State: login.TokenActive, Seed: aliceSeed, Params: otp.Default()}},
		{PutKey: &login.Key{Person: "alice", Fingerprint: fingerprint, Blob: h.key.PublicKey().Marshal()}},
		{PutPerson: &login.Person{Name: "bob", Kind: login.Staff, Groups: []string{"wards"}}},
	} {
		h.gate.Apply(c)
	}
	h.gate.SetLog(h.log)
	t.Cleanup(h.finish)
	return h
}

// sync does not wait for the disk: what is under test is whether we wait for the log.
func (h *harness) sync() func(*os.File) error {
	return func(*os.File) error {
		if h.failing.Load() {
			return errors.New("the disk failed")
		}
		return nil
	}
}

// rules permits the network team most things; bound adds what a test wants of that rule.
func rules(bound policy.Rule) policy.Rules {
	bound.Name, bound.Groups, bound.To, bound.May = "network team", []string{"network"}, []string{"tag:network"}, []policy.Capability{policy.Shell}
	return policy.Rules{
		{Name: "recorded", Groups: []string{"network"}, To: []string{"rule-recorded"}, May: []policy.Capability{policy.Shell}, Record: true},
		bound,
	}
}

func (h *harness) setRule(bound policy.Rule) {
	p := *h.gate.Policy()
	p.Rules = rules(bound)
	h.gate.SetPolicy(&p)
}

// config is a configuration whose targets are all at address.
func (h *harness) config(address string) Config {
	tag := []string{"network"}
	return Config{
		HostKeys: []ssh.Signer{h.hostKey}, Prompts: TwoRounds, Penalties: Penalties{Off: true}, KeepaliveEvery: -1, UnusedTimeout: -1,
		Targets: []Target{
			{Name: "core-sw1", Address: address, Tags: tag, Class: "privileged-internal", Jump: Opaque},
			{Name: "srv-recorded", Address: address, Tags: tag, Jump: Recorded},
			{Name: "srv-off", Address: address, Tags: tag, Jump: Off},
			{Name: "rule-recorded", Address: address, Jump: Opaque},
			{Name: "forbidden", Address: address, Tags: []string{"wards"}, Jump: Opaque},
		},
	}
}

// server makes a Server with c and starts nothing.
func (h *harness) server(c Config) *Server {
	h.Helper()
	h.srv = NewServer(Options{
		Gate: h.gate, Now: h.now, Meter: h.meter, Dial: h.dial,
		Log: slog.New(slog.NewTextHandler(h.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err := h.srv.SetConfig(c); err != nil {
		h.Fatal(err)
	}
	return h.srv
}

// serve serves c on a loopback port.
func (h *harness) serve(c Config) {
	h.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.Fatal(err)
	}
	h.addr = ln.Addr().String()
	h.server(c)
	h.serveOn(ln)
}

func (h *harness) serveOn(ln net.Listener) {
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.srv.Serve(ctx, ln) }()
	h.stop = func() {
		stop()
		if err := <-served; err != nil {
			h.Errorf("Serve: %v", err)
		}
	}
}

// finish ends everything, and then checks the whole log: nothing was accepted twice, and nothing is missing (P2, P8).
func (h *harness) finish() {
	if h.stop != nil {
		h.stop()
	}
	if h.srv != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		h.srv.Drain(now)
		if st := h.srv.Stats(); st.Connections != 0 || st.Starts != 0 || st.Sessions != 0 {
			h.Errorf("after the end: %+v", st)
		}
	}
	h.noSecretIn(h.logged.String())
	if err := h.log.Close(); err != nil {
		if !h.failing.Load() {
			h.Errorf("closing the log: %v", err)
		}
		return
	}
	if _, err := audit.VerifyDir(filepath.Join(h.dir, "journal"), filepath.Join(h.dir, "checkpoint"), h.verifier, nil); err != nil {
		h.Errorf("the log does not verify: %v", err)
	}
}

// noSecretIn holds P9.
func (h *harness) noSecretIn(text string) {
	h.Helper()
	for _, secret := range []string{alicePassword, "hunter2", string(aliceSeed)} {
		if strings.Contains(text, secret) {
			h.Errorf("a secret is in %q", text)
		}
	}
	if strings.Contains(text, "crashed") {
		h.Errorf("a goroutine crashed: %s", text)
	}
}

func (h *harness) now() time.Time { return time.Unix(0, h.clock.Load()).UTC() }

// code returns a code that nobody has seen.
func (h *harness) code() string {
	now := time.Unix(0, h.clock.Add(int64(30*time.Second)))
	p := otp.Default()
	return otp.Code(aliceSeed, p, p.StepAt(now))
}

// records returns all records so far.
func (h *harness) records() (list []audit.Record) {
	h.Helper()
	if _, err := h.log.Flush(); err != nil {
		h.Fatal(err)
	}
	err := h.log.Scan(0, func(r *audit.Record, _ journal.Position) error {
		list = append(list, *r)
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
	return list
}

// find returns the records of an event.
func (h *harness) find(event string) (list []audit.Record) {
	h.Helper()
	return slices.DeleteFunc(h.records(), func(r audit.Record) bool { return r.Event != event })
}

// last returns the newest record of an event.
func (h *harness) last(event string) audit.Record {
	h.Helper()
	list := h.find(event)
	if len(list) == 0 {
		h.Fatalf("no record of %s", event)
	}
	return list[len(list)-1]
}

// await waits for a condition that the server brings about by itself.
func (h *harness) await(what string, ok func() bool) {
	h.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			h.Fatalf("waited in vain: %s; log:\n%s", what, h.logged.String())
		}
		time.Sleep(time.Millisecond)
	}
}

// awaitEnd returns the n-th session's end record, once it is there.
func (h *harness) awaitEnd(n int) audit.Record {
	h.Helper()
	h.await("a session's end record", func() bool { return len(h.find("session.end")) >= n })
	return h.find("session.end")[n-1]
}

func detail(r audit.Record, key string) string {
	for _, d := range r.Detail {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}

// typist answers prompts, and remembers them.
type typist struct {
	password, code string
	mu             sync.Mutex
	asked          []string
}

func (p *typist) answer(name, instruction string, questions []string, echos []bool) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, fmt.Sprintf("%s|%s|%q|%v", name, instruction, questions, echos))
	var answers []string
	for _, q := range questions {
		switch {
		case strings.Contains(q, "Password"):
			answers = append(answers, p.password)
		case strings.Contains(q, "code"):
			answers = append(answers, p.code)
		default:
			return nil, fmt.Errorf("an unknown prompt %q", q)
		}
	}
	return answers, nil
}

func (p *typist) auth() ssh.AuthMethod { return ssh.KeyboardInteractive(p.answer) }

// client logs in.
func (h *harness) client(user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	h.Helper()
	return ssh.Dial("tcp", h.addr, h.clientConfig(user, auth...))
}

func (h *harness) clientConfig(user string, auth ...ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(h.hostKey.PublicKey()), Timeout: 10 * time.Second}
}

// alice is logged in.
func (h *harness) alice() *ssh.Client {
	h.Helper()
	c, err := h.client("alice", (&typist{password: alicePassword, code: h.code()}).auth())
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { c.Close() })
	return c
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// echo is a target: it sends back what it gets, and closes when the client does.
func echo(t testing.TB) (address string) {
	return listen(t, func(c net.Conn) {
		defer c.Close()
		io.Copy(c, c)
	})
}

// listen serves each connection with handle, and waits for all at the end of the test.
func listen(t testing.TB, handle func(net.Conn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { handle(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// meter counts what it is told, by "kind reason".
type meter struct {
	mu     sync.Mutex
	count  map[string]int
	panics atomic.Bool // at the next refusal
}

func newMeter() *meter { return &meter{count: make(map[string]int)} }

func (m *meter) add(key string) {
	m.mu.Lock()
	m.count[key]++
	m.mu.Unlock()
}

func (m *meter) get(key string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count[key]
}

func (m *meter) Dropped(reason string)     { m.add("dropped " + reason) }
func (m *meter) Login(reason login.Reason) { m.add("login " + string(reason)) }
func (m *meter) Refused(kind string, why login.Reason) {
	if m.panics.CompareAndSwap(true, false) {
		panic("counting " + kind)
	}
	m.add("refused " + kind + " " + string(why))
}

func (m *meter) Legacy(target string) { m.add("legacy " + target) }

func (m *meter) SessionEnded(why login.Reason, _, _ int64, _ time.Duration) {
	m.add("session " + string(why))
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
