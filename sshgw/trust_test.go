package sshgw

import (
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/policy"
)

// change changes the network team's rule.
func (h *harness) change(f func(*policy.Rule)) {
	p := *h.gate.Policy()
	p.Rules = slices.Clone(p.Rules)
	for i := range p.Rules {
		if p.Rules[i].Name == "network team" {
			f(&p.Rules[i])
		}
	}
	h.gate.SetPolicy(&p)
}

// A trust window lets further connections with the same key pass without a code, as long and as often as the rule says, for its
// targets only; each is on record with the login that it leans on (P1). Without the key nobody leans, and what changes the
// person closes it.
func TestTrustWindow(t *testing.T) {
	o := proxied(t, nil)
	o.change(func(r *policy.Rule) { r.Trust = policy.Trust{For: 10 * time.Minute, Uses: 2} })
	who := func() *typist { return &typist{password: alicePassword, code: o.code()} }
	run := func(asked int, auth ...ssh.AuthMethod) string {
		t.Helper()
		c, err := o.client("alice@core-sw1", auth...)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		s, err := c.NewSession()
		if err != nil {
			return err.Error()
		}
		out, err := s.CombinedOutput("echo in")
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	key := ssh.PublicKeys(o.key)
	first := who()
	if out := run(2, key, first.auth()); out != "in\n" || len(first.asked) != 2 {
		t.Fatalf("the first login: %q, asked %q", out, first.asked)
	}
	leanedOn := o.last("login")
	for range 2 {
		silent := who()
		if out := run(0, key, silent.auth()); out != "in\n" || len(silent.asked) != 0 {
			t.Fatalf("a leaning login: %q, asked %q", out, silent.asked)
		}
		rec := o.last("login")
		if rec.Result != audit.Accept || detail(rec, "leans_on") == "" || detail(rec, "leans_on_attempt") != leanedOn.Attempt {
			t.Errorf("record %+v", rec)
		}
		kinds := map[string]string{}
		for _, f := range rec.Factors {
			kinds[f.Method] = f.Result
		}
		if kinds["key"] != "ok" || kinds["password"] != "leaned" || kinds["totp"] != "leaned" {
			t.Errorf("factors %+v", rec.Factors)
		}
	}
	third := who()
	if out := run(2, key, third.auth()); out != "in\n" || len(third.asked) != 2 {
		t.Errorf("beyond the uses: %q, asked %q", out, third.asked)
	}
	without := who()
	if out := run(2, without.auth()); out != "in\n" || len(without.asked) != 2 {
		t.Errorf("without the key: %q, asked %q", out, without.asked)
	}
	// Time passes.
	o.clock.Add(int64(11 * time.Minute))
	late := who()
	if out := run(2, key, late.auth()); out != "in\n" || len(late.asked) != 2 {
		t.Errorf("after its time: %q, asked %q", out, late.asked)
	}
	// Another target, whose rule has no window, wants a login of its own.
	c, err := o.client("alice", key, who().auth())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if detail(o.last("login"), "leans_on") == "" {
		t.Fatal("the login did not lean")
	}
	if _, err := c.Dial("tcp", "rule-recorded:22"); err == nil || o.last("access").Reason != string(login.ReasonTrustOver) {
		t.Errorf("a target without a window: %v, %s", err, o.last("access").Reason)
	}
	// An operator closes it, and connections that lean on it open nothing more.
	if n := o.gate.CloseWindows("alice"); n != 1 {
		t.Errorf("%d windows were closed", n)
	}
	if _, err := c.Dial("tcp", "core-sw1:22"); err == nil {
		t.Error("a closed window still opens")
	}
	again := who()
	if out := run(2, key, again.auth()); out != "in\n" || len(again.asked) != 2 {
		t.Errorf("after the closing: %q, asked %q", out, again.asked)
	}
}

// Of many connections that come at once, one is asked, and its success lets the others in.
func TestTrustWindowTogether(t *testing.T) {
	o := proxied(t, nil)
	o.change(func(r *policy.Rule) { r.Trust = policy.Trust{For: 10 * time.Minute} })
	code := o.code()
	type came struct {
		asked int
		err   error
	}
	const many = 5
	done := make(chan came, many)
	release := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(1)
	var once sync.Once
	for range many {
		go func() {
			asked := 0
			c, err := o.client("alice@core-sw1", ssh.PublicKeys(o.key), ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
				asked++
				once.Do(waiting.Done)
				<-release
				if len(questions) == 0 {
					return nil, nil
				}
				if strings.Contains(questions[0], "code") {
					return []string{code}, nil
				}
				return []string{alicePassword}, nil
			}))
			if err == nil {
				c.Close()
			}
			done <- came{asked, err}
		}()
	}
	waiting.Wait()
	o.await("the others", func() bool { return o.srv.Stats().Starts == many })
	close(release)
	askedOf := 0
	for range many {
		x := <-done
		if x.err != nil {
			t.Error(x.err)
		}
		if x.asked > 0 {
			askedOf++
		}
	}
	if askedOf != 1 {
		t.Errorf("%d were asked, want one", askedOf)
	}
}

// Where a rule wants one more code, it is asked for while logging in, once for the connection, and refused without (P2).
func TestStepUp(t *testing.T) {
	o := proxied(t, nil)
	o.change(func(r *policy.Rule) { r.StepUp = true })
	log := func(second func() string) (string, []string) {
		code := o.code()
		var asked []string
		c, err := o.client("alice@core-sw1", ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) (answers []string, err error) {
			for _, q := range questions {
				asked = append(asked, q)
				switch {
				case q == promptStepUp:
					answers = append(answers, second())
				case strings.Contains(q, "code"):
					answers = append(answers, code)
				default:
					answers = append(answers, alicePassword)
				}
			}
			return answers, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		out, _ := s.CombinedOutput("echo in")
		return string(out), asked
	}
	if out, asked := log(o.code); out != "in\n" || len(asked) != 3 {
		t.Errorf("%q, asked %q", out, asked)
	}
	used := ""
	if out, asked := log(func() string {
		if used == "" {
			used = "000000"
		}
		return used
	}); !strings.Contains(out, "wants one more code") || len(asked) != 2+maxStepUps {
		t.Errorf("wrong code: %q, asked %q", out, asked)
	}
	if r := o.last("step_up"); r.Result != audit.Reject {
		t.Errorf("record %+v", r)
	}
	if r := o.last("access"); r.Reason != string(login.ReasonStepUp) {
		t.Errorf("record %+v", r)
	}
}

// terminal is a session with a terminal.
type terminal struct {
	*openSSH
	client  *ssh.Client
	session *ssh.Session
	in      io.WriteCloser
	out     *lockedBuffer
	done    chan error
}

func (o *openSSH) terminal(user string) *terminal {
	o.Helper()
	c, err := o.client(user, (&typist{password: alicePassword, code: o.code()}).auth())
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() { c.Close() })
	s, err := c.NewSession()
	if err != nil {
		o.Fatal(err)
	}
	x := &terminal{openSSH: o, client: c, session: s, out: new(lockedBuffer), done: make(chan error, 1)}
	s.Stdout, s.Stderr = x.out, x.out
	if x.in, err = s.StdinPipe(); err != nil {
		o.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 100, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		o.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		o.Fatal(err)
	}
	go func() { x.done <- s.Wait() }()
	return x
}

func (x *terminal) typeIn(text string) {
	x.Helper()
	if _, err := io.WriteString(x.in, text); err != nil {
		x.Fatal(err)
	}
}

func (x *terminal) shows(text string) {
	x.Helper()
	x.await(text, func() bool { return strings.Contains(x.out.String(), text) })
}

// A terminal at which nothing is typed is locked; what the target writes meanwhile is not shown; a code opens it, once.
func TestLock(t *testing.T) {
	o := proxied(t, nil)
	o.change(func(r *policy.Rule) { r.Lock = 1500 * time.Millisecond })
	x := o.terminal("alice@core-sw1")
	x.typeIn("echo rea''dy; until test -e " + o.path("go") + "; do sleep 0.05; done; echo se''cret; touch " + o.path("written") + "\n")
	x.shows("ready")
	x.shows("This session is locked")
	o.file("go", 0o600, "")
	o.await("the target's writing", func() bool { _, err := os.Stat(o.path("written")); return err == nil })
	before := len(x.out.String())
	x.typeIn("echo hunter2\r")
	x.shows("That code was refused.")
	if text := x.out.String()[before:]; strings.Contains(text, "secret") || strings.Contains(text, "hunter2") {
		t.Errorf("a locked terminal shows %q", text)
	}
	x.typeIn(o.code() + "\r")
	x.shows("secret")
	for event, n := range map[string]int{"session.locked": 1, "session.unlocked": 1} {
		if got := len(o.find(event)); got < n {
			t.Errorf("%d records of %s", got, event)
		}
	}
	// Three wrong codes end it.
	o.await("the lock", func() bool { return len(o.find("session.locked")) >= 2 })
	for range maxLockTries {
		x.typeIn("000000\r")
	}
	<-x.done
	if end := o.awaitEnd(1); end.Reason != string(endLocked) {
		t.Errorf("end %+v", end)
	}
}

// The menu shows what is permitted, narrows as one types, and goes where one chooses.
func TestMenu(t *testing.T) {
	o := proxied(t, nil)
	x := o.terminal("alice")
	x.shows("alice, where to?")
	x.shows("srv-off")
	if strings.Contains(x.out.String(), "forbidden") {
		t.Errorf("a forbidden target is shown")
	}
	if err := x.session.WindowChange(12, 60); err != nil {
		t.Fatal(err)
	}
	x.typeIn("core")
	x.shows("1 of 4")
	x.typeIn("\rstty size; exit 5\n") // what is typed ahead is for the target
	x.shows("12 60")
	if err := <-x.done; err == nil || !strings.Contains(err.Error(), "status 5") {
		t.Errorf("ended with %v", err)
	}
	end := o.awaitEnd(1)
	if end.System != "core-sw1" || detail(end, "request") != "shell" {
		t.Errorf("end %+v", end)
	}
	y := o.terminal("alice")
	y.shows("where to?")
	y.typeIn("\x03")
	if err := <-y.done; err != nil {
		t.Errorf("leaving: %v", err)
	}
}
