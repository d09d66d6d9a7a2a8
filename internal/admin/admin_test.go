package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/alert"
	"sallyport/internal/audit"
	"sallyport/internal/journal"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/internal/seal"
	"sallyport/internal/store"
	"sallyport/internal/throttle"
	"sallyport/otp"
)

var noon = time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)

// desk is a Service on a real log and a real store.
type desk struct {
	t       *testing.T
	dir     string
	clock   time.Time
	ring    *seal.Ring
	store   *store.Store
	log     *audit.Log
	gate    *login.Gate
	service *Service
	key     note.Verifier
	signer  note.Signer
	crash   bool   // the store fails from now on, as if the process had died between record and change
	proves  string // the password that everybody has; empty: nobody has one
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir(), clock: noon}
	var err error
	if d.ring, err = seal.Create(filepath.Join(d.dir, "ring.json"), noon); err != nil {
		t.Fatal(err)
	}
	skey, vkey, err := audit.NewKey("sallyport/test")
	if err != nil {
		t.Fatal(err)
	}
	if d.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if d.key, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	d.open()
	t.Cleanup(d.close)
	return d
}

// onePassword is a first factor that takes d.proves.
type onePassword struct{ d *desk }

func (o onePassword) Check(_ context.Context, q login.Question) (login.Answer, error) {
	if o.d.proves == "" || q.Password.Reveal() != o.d.proves {
		return login.Answer{}, login.ErrWrong
	}
	return login.Answer{}, nil
}
func (onePassword) Method() string { return "password" }

// crashing is a store that can be made to fail.
type crashing struct {
	*store.Store
	d *desk
}

var errCrash = errors.New("the process died here")

func (c crashing) Apply(ctx context.Context, seq uint64, ch login.Change) error {
	if c.d.crash {
		return errCrash
	}
	return c.Store.Apply(ctx, seq, ch)
}

// finder reads the log from end to end.
type finder struct{ log *audit.Log }

func (f finder) Find(_ context.Context, want audit.Filter, fn func(*audit.Record) error) error {
	return f.log.Scan(0, func(rec *audit.Record, _ journal.Position) error {
		if !want.Match(rec) {
			return nil
		}
		return fn(rec)
	})
}

func (d *desk) open() {
	d.t.Helper()
	ctx := d.t.Context()
	now := func() time.Time { return d.clock }
	var err error
	if d.store, err = store.Open(ctx, store.Options{Path: filepath.Join(d.dir, "s.db"), Sealer: d.ring, Log: slog.New(slog.DiscardHandler)}); err != nil {
		d.t.Fatal(err)
	}
	d.gate, err = login.New(login.Options{
		First: onePassword{d}, Now: now, Blind: func(string) string { return "hmac:x" },
		Policy: &login.Policy{
			Settings: login.Settings{Skew: 1, LookAhead: 10, Lock: throttle.Default(), ChallengeFor: time.Minute},
			Rules:    policy.Rules{{Name: "network team", Groups: []string{"network"}, To: []string{"vpn"}, May: []policy.Capability{policy.Login}}},
		},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	applied, err := d.store.Applied(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	var missed []store.Numbered
	d.log, err = audit.Open(audit.Options{
		Dir: filepath.Join(d.dir, "journal"), CheckpointFile: filepath.Join(d.dir, "checkpoint"), Node: "test",
		Signer: d.signer, Verifier: d.key, Now: now, Restore: d.gate.Restore,
		Replay: func(rec *audit.Record, sealed []byte) error {
			if len(sealed) > 0 && rec.Seq >= applied {
				raw, err := d.ring.Open("change", "", sealed)
				if err != nil {
					return err
				}
				var c login.Change
				if err := json.Unmarshal(raw, &c); err != nil {
					return err
				}
				missed = append(missed, store.Numbered{Seq: rec.Seq, Change: c})
			}
			return d.gate.Replay(rec)
		},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.store.CatchUp(ctx, applied, d.log.Next(), missed); err != nil {
		d.t.Fatal(err)
	}
	if err := d.store.People(ctx, func(p login.Person) error { d.gate.Apply(login.Change{PutPerson: &p}); return nil }); err != nil {
		d.t.Fatal(err)
	}
	if err := d.store.Exceptions(ctx, func(x login.Exception) error { d.gate.Apply(login.Change{PutException: &x}); return nil }); err != nil {
		d.t.Fatal(err)
	}
	if err := d.store.Tokens(ctx, func(k login.Token) error { d.gate.Apply(login.Change{PutToken: &k}); return nil }); err != nil {
		d.t.Fatal(err)
	}
	if err := d.store.Tickets(ctx, func(x login.Ticket) error { d.gate.Apply(login.Change{PutTicket: &x}); return nil }); err != nil {
		d.t.Fatal(err)
	}
	d.gate.SetLog(d.log)
	d.service = New(Options{
		Gate: d.gate, Store: crashing{d.store, d}, Log: d.log, Finder: finder{d.log}, Now: now, Issuer: "Sallyport", PublicKey: "key",
		Hash:   func(s login.Secret) (string, error) { return "hash of " + strings.ToUpper(s.Reveal()), nil },
		Seal:   func(b []byte) []byte { return d.ring.Seal("change", "", b) },
		System: func(name string) (login.System, bool) { return login.System{Name: name}, name == "vpn" },
		Alerts: alert.NewFollower(alertLog{d.log}, d.store, now),
	})
}

func (d *desk) close() {
	d.t.Helper()
	if d.log == nil {
		return
	}
	if err := errors.Join(d.log.Close(), d.store.Close()); err != nil {
		d.t.Fatal(err)
	}
	d.log = nil
	if _, err := audit.VerifyDir(filepath.Join(d.dir, "journal"), filepath.Join(d.dir, "checkpoint"), d.key, nil); err != nil {
		d.t.Fatalf("the log does not verify: %v", err)
	}
}

func (d *desk) restart() {
	d.t.Helper()
	d.close()
	d.crash = false
	d.open()
}

func (d *desk) ctx() context.Context {
	return WithActor(d.t.Context(), Actor{Name: "root", Road: "cli"})
}

// do calls a verb that must go well.
func (d *desk) do(verb string, in, out any) {
	d.t.Helper()
	if err := d.service.Call(d.ctx(), verb, in, out); err != nil {
		d.t.Fatalf("%s: %v", verb, err)
	}
}

// refused calls a verb that must not.
func (d *desk) refused(verb string, in any) *Error {
	d.t.Helper()
	before := d.show("alice")
	err := d.service.Call(d.ctx(), verb, in, nil)
	if err == nil {
		d.t.Fatalf("%s %+v was carried out", verb, in)
	}
	if after := d.show("alice"); after != before {
		d.t.Fatalf("%s was refused, and changed something:\n%s\n%s", verb, before, after)
	}
	return asError(err)
}

// show is a person as JSON, or nothing.
func (d *desk) show(name string) string {
	d.t.Helper()
	var u UserInfo
	if d.service.Call(d.ctx(), "user.show", PersonIn{name}, &u) != nil {
		return ""
	}
	b, err := json.Marshal(u)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// records are all but those of who read what.
func (d *desk) records() (all []audit.Record) {
	d.t.Helper()
	for _, rec := range d.allRecords() {
		if !strings.HasPrefix(rec.Event, EventRead+".") && rec.Event != "audit.search" {
			all = append(all, rec)
		}
	}
	return all
}

func (d *desk) allRecords() (all []audit.Record) {
	d.t.Helper()
	if err := d.log.Scan(0, func(rec *audit.Record, _ journal.Position) error { all = append(all, *rec); return nil }); err != nil {
		d.t.Fatal(err)
	}
	return all
}

const keyLine = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mWnDPNNpDJyLV5DC6KKmYr6X+yxK0o3fS1gKGQ7xR alice@desk"

// Every verb that changes something leaves a record that says who asked, and what it changed outlives a restart, also
// when the process dies between record and change.
func TestVerbsAreRecordedAndSurvive(t *testing.T) {
	for _, crash := range []bool{false, true} {
		d := newDesk(t)
		step := func(verb string, in, out any, person string) {
			t.Helper()
			n := len(d.records())
			d.crash = crash
			err := d.service.Call(d.ctx(), verb, in, out)
			if crash {
				if err == nil && verb != "user.unlock" {
					t.Fatalf("%s: no error when the store failed", verb)
				}
				d.restart()
			} else if err != nil {
				t.Fatalf("%s: %v", verb, err)
			}
			records := d.records()
			if len(records) != n+1 {
				t.Fatalf("%s: %d records, want one", verb, len(records)-n)
			}
			rec := records[n]
			actor := ""
			for _, x := range rec.Detail {
				if x.Key == "actor" {
					actor = x.Value
				}
			}
			if rec.Event != verb || rec.Person != person || actor != "root" || rec.Source != "cli" {
				t.Errorf("%s: record %+v", verb, rec)
			}
			before := d.show(person)
			d.restart()
			if after := d.show(person); after != before {
				t.Errorf("%s: after a restart\n%s\nbefore it\n%s", verb, after, before)
			}
		}
		step("user.add", UserAdd{Name: "alice", Groups: []string{"network"}, Password: "open sesame"}, nil, "alice")
		if got := d.show("alice"); !strings.Contains(got, `"groups":["network"]`) || !strings.Contains(got, `"password":true`) {
			t.Errorf("after user.add: %s", got)
		}
		step("token.enrol", TokenEnrol{Person: "alice", Params: otp.Default()}, nil, "alice")
		tokens, err := d.store.TokensOf(t.Context(), "alice")
		if err != nil || len(tokens) != 1 || tokens[0].State != login.TokenPending {
			t.Fatalf("tokens %+v, %v", tokens, err)
		}
		code := otp.Code(tokens[0].Seed, tokens[0].Params, tokens[0].Params.StepAt(noon))
		step("token.confirm", TokenConfirm{Person: "alice", Code: code}, nil, "alice")
		if got := d.show("alice"); !strings.Contains(got, `"state":"active"`) {
			t.Errorf("after token.confirm: %s", got)
		}
		groups, kind := []string{"vpn", "network", "vpn"}, login.Supplier
		step("user.set", UserSet{Name: "alice", Groups: &groups, Kind: &kind}, nil, "alice")
		if got := d.show("alice"); !strings.Contains(got, `"groups":["network","vpn"]`) || !strings.Contains(got, `"kind":"supplier"`) {
			t.Errorf("after user.set: %s", got)
		}
		step("key.add", KeyAdd{Person: "alice", Line: keyLine}, nil, "alice")
		keys, err := d.store.KeysOf(t.Context(), "alice")
		if err != nil || len(keys) != 1 {
			t.Fatalf("keys %+v, %v", keys, err)
		}
		step("user.disable", PersonIn{"alice"}, nil, "alice")
		step("user.enable", PersonIn{"alice"}, nil, "alice")
		step("user.unlock", PersonIn{"alice"}, nil, "alice")
		step("key.remove", KeyIn{Person: "alice", Fingerprint: keys[0].Fingerprint}, nil, "alice")
		step("token.revoke", TokenIn{tokens[0].ID}, nil, "alice")
		if got := d.show("alice"); !strings.Contains(got, `"state":"revoked"`) || strings.Contains(got, "ssh-ed25519") {
			t.Errorf("after key.remove and token.revoke: %s", got)
		}
		step("user.remove", PersonIn{"alice"}, nil, "alice")
		if got := d.show("alice"); got != "" {
			t.Errorf("after user.remove: %s", got)
		}
	}
}

// P2: the code that confirms a token is used by that.
func TestConfirmUsesTheCode(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	var enrolled TokenEnrolled
	d.do("token.enrol", TokenEnrol{Person: "alice", Params: otp.Default()}, &enrolled)
	tokens, err := d.store.TokensOf(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	code := otp.Code(tokens[0].Seed, tokens[0].Params, tokens[0].Params.StepAt(noon))
	try := func(want login.Reason) {
		t.Helper()
		o := d.gate.Decide(t.Context(), login.Attempt{
			ID: login.NewID(), Name: "alice", Protocol: "radius", System: login.System{Name: "vpn"}, Capability: policy.Login,
			Code: login.NewSecret(code), Proofs: []login.Proof{{Kind: policy.Know, Method: "nas-password"}},
		})
		if o.Reason() != want {
			t.Errorf("reason %s, want %s", o.Reason(), want)
		}
	}
	try(login.ReasonNoToken)
	d.refused("token.confirm", TokenConfirm{Person: "alice", Code: "000000"})
	d.do("token.confirm", TokenConfirm{Person: "alice", Code: code}, nil)
	try(login.ReasonCodeReused)
	d.clock = d.clock.Add(30 * time.Second)
	code = otp.Code(tokens[0].Seed, tokens[0].Params, tokens[0].Params.StepAt(d.clock))
	try(login.ReasonOK)
}

func TestRefusals(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice"}, nil)
	d.do("user.add", UserAdd{Name: "bob"}, nil)
	d.do("key.add", KeyAdd{Person: "bob", Line: keyLine}, nil)
	day := noon.Add(24 * time.Hour)
	short, long := "short", strings.Repeat("x", login.MaxSecret+1)
	for range login.MaxTokens {
		d.do("token.enrol", TokenEnrol{Person: "bob", Params: otp.Default(), Active: true}, nil)
	}
	for _, tt := range []struct {
		name, verb string
		in         any
	}{
		{"twice", "user.add", UserAdd{Name: "alice"}},
		{"name with a newline", "user.add", UserAdd{Name: "al\nice"}},
		{"name of 64 KiB", "user.add", UserAdd{Name: strings.Repeat("a", 64<<10)}},
		{"empty name", "user.add", UserAdd{}},
		{"unknown kind", "user.add", UserAdd{Name: "carol", Kind: "robot"}},
		{"group with a comma", "user.add", UserAdd{Name: "carol", Groups: []string{"a,b"}}},
		{"ends before it begins", "user.add", UserAdd{Name: "carol", From: day, Until: noon}},
		{"short password", "user.add", UserAdd{Name: "carol", Password: short}},
		{"long password", "user.set", UserSet{Name: "alice", Password: &long}},
		{"nobody", "user.disable", PersonIn{"carol"}},
		{"nobody's token", "token.enrol", TokenEnrol{Person: "carol", Params: otp.Default()}},
		{"seven digits", "token.enrol", TokenEnrol{Person: "alice", Params: otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA1, Digits: 7, Period: 30}}},
		{"too many tokens", "token.enrol", TokenEnrol{Person: "bob", Params: otp.Default()}},
		{"no token waits", "token.confirm", TokenConfirm{Person: "alice", Code: "123456"}},
		{"unknown token", "token.revoke", TokenIn{"tk-nothing"}},
		{"not a key", "key.add", KeyAdd{Person: "alice", Line: "hello"}},
		{"a private key", "key.add", KeyAdd{Person: "alice", Line: "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"}},
		{"key with options", "key.add", KeyAdd{Person: "alice", Line: `command="ls" ` + keyLine}},
		{"two keys", "key.add", KeyAdd{Person: "alice", Line: keyLine + "\n" + keyLine}},
		{"a key of another", "key.add", KeyAdd{Person: "alice", Line: keyLine}},
		{"a key of 1 MiB", "key.add", KeyAdd{Person: "alice", Line: "ssh-rsa " + strings.Repeat("A", 1<<20)}},
		{"a key that is not there", "key.remove", KeyIn{Person: "alice", Fingerprint: "SHA256:x"}},
		{"unknown system", "explain", Explain{Person: "alice", System: "pacs"}},
		{"unknown capability", "explain", Explain{Person: "alice", System: "vpn", Capability: "fly"}},
		{"unknown verb", "user.promote", PersonIn{"alice"}},
		{"unknown argument", "user.show", map[string]string{"name": "alice", "colour": "red"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if e := d.refused(tt.verb, tt.in); len(e.Text) > 300 {
				t.Errorf("the error has %d bytes: %.100q...", len(e.Text), e.Text)
			}
		})
	}
}

// P9: no seed, password or key of the ring is in a record, in an answer that does not have to show it, or in any file
// in clear.
func TestNoSecretsKept(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Password: "opensesame-in-clear"}, nil)
	var e TokenEnrolled
	d.do("token.enrol", TokenEnrol{Person: "alice", Params: otp.Default(), Active: true}, &e)
	if !strings.HasPrefix(e.URI, "otpauth://totp/") {
		t.Fatalf("uri %q", e.URI)
	}
	tokens, err := d.store.TokensOf(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{[]byte("opensesame-in-clear"), []byte("OPENSESAME-IN-CLEAR"), tokens[0].Seed}
	d.close()
	err = filepath.WalkDir(d.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, s := range secrets {
			if bytes.Contains(b, s) {
				t.Errorf("%s holds a secret in clear", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d.open()
}

func TestExplain(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	d.do("user.add", UserAdd{Name: "bob", Groups: []string{"wards"}}, nil)
	ask := func(in Explain) Explained {
		t.Helper()
		in.System = "vpn"
		n := len(d.records())
		var out Explained
		d.do("explain", in, &out)
		if len(d.records()) != n {
			t.Error("explain left a record: it should change nothing")
		}
		return out
	}
	if e := ask(Explain{Person: "alice"}); e.Allowed || e.Reason != login.ReasonNoToken {
		t.Errorf("without a token: %+v", e)
	}
	d.do("token.enrol", TokenEnrol{Person: "alice", Params: otp.Default(), Active: true}, nil)
	d.do("token.enrol", TokenEnrol{Person: "bob", Params: otp.Default(), Active: true}, nil)
	if e := ask(Explain{Person: "alice"}); !e.Allowed || e.Rule != "network team" {
		t.Errorf("alice: %+v", e)
	}
	if e := ask(Explain{Person: "alice", Factors: []login.Kind{login.Have, login.Have}}); e.Allowed || e.Reason != login.ReasonFactors {
		t.Errorf("key and code: %+v", e)
	}
	if e := ask(Explain{Person: "bob"}); e.Allowed || e.Reason != login.ReasonNoRule {
		t.Errorf("bob: %+v", e)
	}
	if e := ask(Explain{Person: "mallory"}); e.Allowed || e.Reason != login.ReasonUnknownPerson {
		t.Errorf("mallory: %+v", e)
	}
	d.do("user.disable", PersonIn{"alice"}, nil)
	if e := ask(Explain{Person: "alice"}); e.Allowed || e.Reason != login.ReasonPersonDisabled {
		t.Errorf("disabled: %+v", e)
	}
}

// P11: the socket's client gets what the service gives, errors and streams included, and the record names the peer.
func TestSocket(t *testing.T) {
	d := newDesk(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- d.service.Serve(ctx, l, time.Second) }()
	client := NewClient(path)
	defer client.Close()

	var done Done
	if err := client.Call(t.Context(), "user.add", UserAdd{Name: "alice"}, &done); err != nil {
		t.Fatal(err)
	}
	rec := d.records()[done.Record]
	me := UserName(os.Getuid())
	if rec.Event != "user.add" || rec.Source != "socket" || len(rec.Detail) == 0 || !strings.Contains(string(rec.AppendJSON(nil)), `"actor":`+quoted(me)) {
		t.Errorf("record %s", rec.AppendJSON(nil))
	}
	err = client.Call(t.Context(), "user.add", UserAdd{Name: "alice"}, nil)
	var e *Error
	if !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("error %#v", err)
	}
	var out bytes.Buffer
	if err := client.Stream(t.Context(), "audit.search", AuditSearch{Person: "alice"}, &out); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 1 || !strings.Contains(lines[0], `"event":"user.add"`) {
		t.Errorf("search gave %q", out.String())
	}
	if err := client.Stream(t.Context(), "audit.search", AuditSearch{Result: "maybe"}, &out); !errors.As(err, &e) {
		t.Errorf("a stream's error: %v", err)
	}
	if err := client.Stream(t.Context(), "audit.sing", Empty{}, &out); !errors.As(err, &e) {
		t.Errorf("an unknown stream's error: %v", err)
	}

	// A tail shows what comes, and does not keep the daemon from stopping.
	tailed, seen := make(chan error, 1), make(lines, 10)
	go func() { tailed <- client.Stream(t.Context(), "audit.tail", AuditSearch{}, seen) }()
	for found := false; !found; { // the tail may begin after the first ones
		d.do("user.disable", PersonIn{"alice"}, nil)
		select {
		case line := <-seen:
			found = strings.Contains(line, `"event":"user.disable"`)
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	<-tailed
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// lines is a writer whose writes can be awaited.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}
