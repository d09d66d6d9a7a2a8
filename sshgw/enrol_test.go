package sshgw

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/internal/policy/register"
	"sallyport/otp"
)

// fakeDesk judges tickets by the real gate, and keeps the rest in mind. It holds callers to its contract.
type fakeDesk struct {
	t      testing.TB
	gate   *login.Gate
	off    atomic.Bool
	codes  atomic.Int64 // that were tried
	last   atomic.Pointer[string]
	broken atomic.Bool
}

func (d *fakeDesk) Enrols() bool { return !d.off.Load() }

func (d *fakeDesk) Redeem(ctx context.Context, a login.Attempt, ticket login.Secret) (login.Enrolment, login.Outcome) {
	if len(a.Proofs) > 0 || a.System.Name != "" {
		d.t.Errorf("a ticket came with %+v", a)
	}
	return d.gate.Redeem(ctx, a, ticket)
}

func (d *fakeDesk) Enrol(_ context.Context, e login.Enrolment) (Enrolling, error) {
	if !e.Valid() {
		d.t.Error("enrolled without an enrolment")
	}
	if d.broken.Load() {
		return Enrolling{}, errors.New("secret-path/of/the/store")
	}
	return Enrolling{Token: "tk-new", Secret: "ABCDEFGH", Kind: "TOTP", QR: "#QR#\n", Cols: 4}, nil
}

func (d *fakeDesk) Confirm(_ context.Context, e login.Enrolment, token, code string) (bool, error) {
	d.codes.Add(1)
	if !e.Valid() || token != "tk-new" {
		d.t.Errorf("confirmed %q", token)
	}
	return code == "246810", nil
}

func (d *fakeDesk) ChangesPassword(_ context.Context, gr login.Grant) error {
	if why := d.gate.ProvedAnew(gr); why != login.ReasonOK {
		return sentence("Not by this login.")
	}
	return nil
}

func (d *fakeDesk) ChangePassword(_ context.Context, gr login.Grant, password login.Secret) error {
	text := password.Reveal()
	d.last.Store(&text)
	return nil
}

type sentence string

func (s sentence) Error() string    { return string(s) }
func (s sentence) Sentence() string { return string(s) }

// withDesk serves with a desk, and gives alice a ticket.
func (h *harness) withDesk() (d *fakeDesk, ticket string) {
	h.Helper()
	d = &fakeDesk{t: h.TB, gate: h.gate}
	text, hash := login.NewTicket()
	h.gate.Apply(login.Change{PutTicket: &login.Ticket{
		ID: "tt-1", Person: "alice", Hash: hash, Params: otp.Default(), State: login.TicketOpen, Created: h.now(), Until: h.now().Add(time.Hour),
	}})
	h.serve(h.config("10.0.0.1:22"))
	h.srv.desk = d // nobody is connected yet
	return d, text
}

// enrolling connects as who comes with a ticket.
func (h *harness) enrolling(name, ticket, password string) (*ssh.Client, error) {
	asked := false
	return ssh.Dial("tcp", h.addr, &ssh.ClientConfig{
		User: login.EnrolName, HostKeyCallback: ssh.FixedHostKey(h.hostKey.PublicKey()),
		Auth: []ssh.AuthMethod{ssh.KeyboardInteractive(func(_, _ string, prompts []string, echos []bool) ([]string, error) {
			if asked {
				return nil, errors.New("asked again")
			}
			asked = true
			if len(prompts) != 3 {
				return nil, errors.New("other questions") // those of a login
			}
			if echos[2] {
				h.Error("the password is shown")
			}
			return []string{name, ticket, password}, nil
		})},
	})
}

// P11: a ticket opens one session for enrolling, and no target, port, command or second session.
func TestEnrolmentOpensNothing(t *testing.T) {
	h := newHarness(t)
	_, ticket := h.withDesk()
	c, err := h.enrolling("Alice", ticket, alicePassword)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, address := range []string{"core-sw1:22", "localhost:22"} {
		if conn, err := c.Dial("tcp", address); err == nil {
			conn.Close()
			t.Errorf("%s was reached", address)
		}
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("a port was forwarded back")
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("a second session was opened")
	}
	var said strings.Builder
	s.Stdout, s.Stderr = &said, &said
	if err := s.Run("id"); err == nil || !strings.Contains(said.String(), "without a command") {
		t.Errorf("a command: %v, %q", err, said.String())
	}
	refused := 0
	for _, rec := range h.records() {
		if rec.Event == "access" {
			if rec.Result != audit.Reject || rec.Person != "alice" || rec.Attempt == "" {
				t.Errorf("record: %+v", rec)
			}
			refused++
		}
	}
	if refused != 4 {
		t.Errorf("%d refusals are on record", refused)
	}
}

// Without a terminal the dialogue works by lines; a wrong code may be followed by others, three in all.
func TestEnrolmentByLines(t *testing.T) {
	h := newHarness(t)
	d, ticket := h.withDesk()
	for typed, want := range map[string]struct {
		codes int64
		says  string
		ok    bool
	}{
		"123\n246810\n":                    {2, "Done:", true},
		"1\r\n2\r\n3\r\n246810\r\n":        {3, "was not enrolled", false},
		strings.Repeat("9", 10<<10) + "\n": {0, "", false},
	} {
		d.codes.Store(0)
		c, err := h.enrolling("alice", ticket, alicePassword)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		s.Stdin, s.Stdout = strings.NewReader(typed), &said
		err = s.Shell()
		if err == nil {
			err = s.Wait()
		}
		if (err == nil) != want.ok || !strings.Contains(said.String(), want.says) || !strings.Contains(said.String(), "ABCD EFGH") || d.codes.Load() != want.codes {
			t.Errorf("%.20q: %v after %d codes\n%s", typed, err, d.codes.Load(), said.String())
		}
		c.Close()
	}
	if c, err := h.enrolling("alice", ticket, alicePassword); err == nil {
		c.Close()
		t.Error("a ticket was taken a fourth time")
	}
}

// What fails within is not told to strangers' eyes, and while a person is called enrol, enrolling is off.
func TestEnrolmentBroken(t *testing.T) {
	h := newHarness(t)
	d, ticket := h.withDesk()
	d.broken.Store(true)
	c, err := h.enrolling("alice", ticket, alicePassword)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	s.Stdout = &said
	if err := s.Shell(); err == nil {
		err = s.Wait()
		if err == nil || strings.Contains(said.String(), "secret-path") || !strings.Contains(said.String(), "operators") {
			t.Errorf("%v, %q", err, said.String())
		}
	}
	d.off.Store(true)
	if _, err := h.enrolling("alice", ticket, alicePassword); err == nil {
		t.Error("a ticket was taken while somebody is called enrol")
	}
	// P3: without a record nothing is shown.
	d.off.Store(false)
	h.failing.Store(true)
	if c, err := h.enrolling("alice", ticket, alicePassword); err == nil {
		c.Close()
		t.Error("a ticket was taken without a record")
	}
}

// passwd runs it at the gateway, and returns what it said.
func (h *harness) passwd(c *ssh.Client, terminal bool, typed string) string {
	h.Helper()
	s, err := c.NewSession()
	if err != nil {
		h.Fatal(err)
	}
	defer s.Close()
	var said strings.Builder
	s.Stdout, s.Stderr = &said, &said
	in, err := s.StdinPipe()
	if err != nil {
		h.Fatal(err)
	}
	if terminal {
		if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
			h.Fatal(err)
		}
	}
	if err := s.Start("passwd"); err != nil {
		h.Fatal(err)
	}
	_, _ = io.WriteString(in, typed)
	_ = s.Wait()
	return said.String()
}

// A password is changed at a terminal, soon after a login that proved both kinds.
func TestPasswd(t *testing.T) {
	h := newHarness(t)
	d, _ := h.withDesk()
	c := h.alice()
	if said := h.passwd(c, false, "new\nnew\n"); !strings.Contains(said, "ssh -t alice@GATEWAY passwd") || d.last.Load() != nil {
		t.Errorf("without a terminal: %q", said)
	}
	if said := h.passwd(c, true, "one word\rother word\rnew word\rnew word\r"); !strings.Contains(said, "not the same") || !strings.Contains(said, "is changed") ||
		strings.Contains(said, "new word") || *d.last.Load() != "new word" {
		t.Errorf("at a terminal: %q", said)
	}
	h.clock.Add(int64(passwdWithin + time.Minute))
	if said := h.passwd(c, true, "late\rlate\r"); !strings.Contains(said, "Log in anew") || *d.last.Load() != "new word" {
		t.Errorf("late: %q", said)
	}
}

// P11: who has not proved the password himself in this very login changes none, at a terminal or not, and each try is on record; what he
// types is not asked for. The same person does when he has.
func TestPasswdTakesAPassword(t *testing.T) {
	h := newHarness(t)
	d, _ := h.withDesk()
	key := ssh.PublicKeys(h.key)
	both := func() ssh.AuthMethod { return (&typist{password: alicePassword, code: h.code()}).auth() }
	came := func(auth ...ssh.AuthMethod) *ssh.Client {
		t.Helper()
		c, err := h.client("alice", auth...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	refused := func(what string, c *ssh.Client) {
		t.Helper()
		for _, terminal := range []bool{true, false} {
			before := len(h.find("access"))
			said := h.passwd(c, terminal, "a new word\ra new word\r")
			if !strings.Contains(said, "Not by this login.") || strings.Contains(said, "New password") || d.last.Load() != nil {
				t.Errorf("%s, terminal %v: %q", what, terminal, said)
			}
			rec := h.last("access")
			if n := len(h.find("access")) - before; n != 1 || rec.Result != audit.Reject || rec.Reason != string(login.ReasonCapability) ||
				detail(rec, "request") != passwdCommand || rec.Attempt != h.last("login").Attempt {
				t.Errorf("%s, terminal %v: %d records, the last %+v", what, terminal, n, rec)
			}
		}
	}

	// A login that leans on another by a trust window: the key alone.
	h.change(func(r *policy.Rule) { r.Trust = policy.Trust{For: 10 * time.Minute} })
	first, err := h.client("alice@core-sw1", key, both())
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	silent := &typist{}
	leaning := came(key, silent.auth())
	if len(silent.asked) != 0 || detail(h.last("login"), "leans_on") == "" {
		t.Fatalf("the login does not lean: asked %q", silent.asked)
	}
	refused("a leaning login", leaning)

	// Key and code, where an entry of the register lets them be enough.
	h.setRule(policy.Rule{Need: []policy.Kind{policy.Have, policy.Have}, Exception: "EX-1"})
	h.gate.Apply(login.Change{PutException: &login.Exception{
		ID: "EX-1", Version: 1, Requester: "matron", Scope: register.Scope{People: []string{"alice"}, Factors: []policy.Kind{policy.Have, policy.Have}},
		Approval: register.Approval{By: "chief"}, From: h.now().Add(-time.Hour), Until: h.now().Add(time.Hour), Review: h.now().Add(time.Hour),
	}})
	wordless := came(key, (&typist{code: h.code()}).auth())
	if rec := h.last("login"); rec.Exception != "EX-1" || rec.Result != audit.Accept {
		t.Fatalf("record %+v", rec)
	}
	refused("key and code", wordless)

	// Both kinds, of somebody who is disabled since.
	late := came(both())
	h.gate.Apply(login.Change{PutPerson: &login.Person{Name: "alice", Kind: login.Staff, Groups: []string{"network"}, Disabled: true}})
	refused("somebody disabled", late)
	h.gate.Apply(login.Change{PutPerson: &login.Person{Name: "alice", Kind: login.Staff, Groups: []string{"network"}}})
	if said := h.passwd(late, true, "new word\rnew word\r"); !strings.Contains(said, "is changed") || *d.last.Load() != "new word" {
		t.Errorf("password and code: %q", said)
	}
}
