package sshgw

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
	"sallyport/internal/recording"
	"sallyport/sshgw/outbound"
	"sallyport/sshgw/relay"
	"sallyport/sshgw/route"
)

// puppet is a target that does what a test wants.
type puppet struct {
	addr  string
	key   ssh.Signer
	conns atomic.Int64
	tries atomic.Int64 // passwords
	// session serves a session channel; open may take a channel before that, and ask answers a login.
	session func(ssh.Channel, <-chan *ssh.Request)
	open    func(ssh.NewChannel) (taken bool)
	ask     func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error)
}

func (p *puppet) start(t *testing.T) {
	t.Helper()
	p.key = newSigner(t)
	p.addr = listen(t, func(c net.Conn) {
		defer c.Close()
		cfg := &ssh.ServerConfig{MaxAuthTries: 100}
		if p.ask != nil {
			cfg.KeyboardInteractiveCallback = p.ask
		} else {
			cfg.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil }
		}
		cfg.AddHostKey(p.key)
		sc, chans, requests, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		p.conns.Add(1)
		defer p.conns.Add(-1)
		go ssh.DiscardRequests(requests)
		var work sync.WaitGroup
		for nc := range chans {
			work.Go(func() {
				if p.open != nil && p.open(nc) {
					return
				}
				if ch, requests, err := nc.Accept(); err == nil {
					p.session(ch, requests)
				}
			})
		}
		sc.Close()
		work.Wait()
	})
}

// parrot grants everything, and says what it hears.
func parrot(ch ssh.Channel, requests <-chan *ssh.Request) {
	go func() {
		for r := range requests {
			if r.WantReply {
				_ = r.Reply(true, nil)
			}
		}
		_ = ch.Close()
	}()
	_, _ = io.Copy(ch, ch)
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&struct{ S uint32 }{0}))
	_ = ch.Close()
}

// puppeteer is a gateway whose core-sw1 is a puppet.
func puppeteer(t *testing.T, p *puppet, change func(*Target, *Config)) *harness {
	t.Helper()
	h := newHarness(t)
	p.start(t)
	cfg := h.config(p.addr)
	target := &cfg.Targets[0]
	target.Account, target.Credential, target.Jump = "root", CredentialPassword, Recorded
	target.HostKeys.Pinned = []outbound.Key{outbound.KeyOf(p.key.PublicKey())}
	if change != nil {
		change(target, &cfg)
	}
	h.serve(cfg)
	v := newVault()
	v.credentials["core-sw1 root password"] = outbound.NewPassword("hunter2")
	h.srv.vault = v
	h.setMay(append([]policy.Capability{policy.Upload, policy.Download}, all...)...)
	return h
}

// at is alice, with a target in her user name.
func (h *harness) at(user string, auth ...ssh.AuthMethod) *ssh.Client {
	h.Helper()
	if len(auth) == 0 {
		auth = []ssh.AuthMethod{(&typist{password: alicePassword, code: h.code()}).auth()}
	}
	c, err := h.client(user, auth...)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { c.Close() })
	return c
}

// Passwords of a target cannot be guessed through the gateway unseen: each login there is an access on record before it, its failure is
// on record, and one connection within a jump has one (P3, P11).
func TestGuessesAtATarget(t *testing.T) {
	p := &puppet{session: parrot}
	p.ask = func(_ ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := challenge("", "", []string{"PIN: "}, []bool{false})
		if err != nil {
			return nil, err
		}
		if p.tries.Add(1); answers[0] != "1234" {
			return nil, errors.New("no")
		}
		return nil, nil
	}
	h := puppeteer(t, p, func(t *Target, _ *Config) { t.Credential, t.Free = CredentialAsk, true })
	c := h.at("alice")
	guess := func(pin string) error {
		conn, err := c.Dial("tcp", "core-sw1:22")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		inner, _, _, err := ssh.NewClientConn(conn, "core-sw1", &ssh.ClientConfig{
			User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			Auth: []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) {
				return []string{pin}, nil
			}), 15)},
		})
		if err == nil {
			inner.Close()
		}
		return err
	}
	const times = 3
	for range times {
		if err := guess("0000"); err == nil {
			t.Error("a wrong PIN was taken")
		}
	}
	if n := p.tries.Load(); n > 3*times {
		t.Errorf("%d guesses in %d connections", n, times)
	}
	failed := slices.DeleteFunc(h.find("session.connected"), func(r audit.Record) bool { return r.Result != audit.Error })
	accesses := slices.DeleteFunc(h.find("access"), func(r audit.Record) bool { return r.Result != audit.Accept })
	if len(failed) != times || len(accesses) != times {
		t.Errorf("%d failures and %d accesses are on record", len(failed), len(accesses))
	}
	if err := guess("1234"); err != nil {
		t.Error(err)
	}
	if r := h.last("session.connected"); r.Result != audit.Info || r.Account != "root" {
		t.Errorf("record %+v", r)
	}
}

// A terminal may be resized for as long as somebody is being asked something: the connection stays alive, and the target learns the
// last size.
func TestResizeAtAPrompt(t *testing.T) {
	sizes := make(chan uint32, 100)
	p := &puppet{ask: func(_ ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		_, err := challenge("", "", []string{"PIN: "}, []bool{false})
		return nil, err
	}}
	p.session = func(ch ssh.Channel, requests <-chan *ssh.Request) {
		for r := range requests {
			var p relay.PTY
			if r.Type == "pty-req" && ssh.Unmarshal(r.Payload, &p) == nil {
				sizes <- p.Cols
			}
			if r.WantReply {
				_ = r.Reply(true, nil)
			}
		}
		_ = ch.Close()
	}
	h := puppeteer(t, p, func(t *Target, _ *Config) { t.Credential, t.Free = CredentialAsk, true })
	// By the password method nobody can be asked while he logs in.
	c := h.at("alice@core-sw1", ssh.Password(alicePassword+h.code()))
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	out := new(lockedBuffer)
	go func() { _, _ = io.Copy(out, ch) }()
	pty := ssh.Marshal(&relay.PTY{Term: "xterm", Cols: 80, Rows: 24})
	if ok, err := ch.SendRequest("pty-req", true, pty); !ok || err != nil {
		t.Fatal(ok, err)
	}
	started := make(chan bool, 1)
	go func() {
		ok, _ := ch.SendRequest("shell", true, nil)
		started <- ok
	}()
	h.await("the prompt", func() bool { return strings.Contains(out.String(), "PIN: ") })
	for i := range 60 {
		if _, err := ch.SendRequest("window-change", false, ssh.Marshal(&struct{ C, R, W, H uint32 }{uint32(81 + i), 24, 0, 0})); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Error(err)
	}
	_, _ = io.WriteString(ch, "1234\r")
	if !<-started {
		t.Fatal("it did not start")
	}
	if cols := <-sizes; cols != 140 {
		t.Errorf("the target's terminal has %d columns, want 140", cols)
	}
	_ = ch.Close()
}

// What a target does not answer leaves alone what else is open there; a target that refuses sessions is not connected to ever again.
func TestTargetsThatRefuse(t *testing.T) {
	silent := make(chan struct{})
	refusing := atomic.Bool{}
	p := &puppet{session: parrot, open: func(nc ssh.NewChannel) bool {
		switch {
		case nc.ChannelType() == "direct-tcpip":
			<-silent
		case refusing.Load():
			_ = nc.Reject(ssh.ResourceShortage, "no more sessions")
		default:
			return false
		}
		return true
	}}
	h := puppeteer(t, p, func(t *Target, _ *Config) { t.Ports = []route.Ports{{From: 8080, To: 8080}} })
	t.Cleanup(func() { close(silent) })
	c := h.at("alice@core-sw1")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out := new(lockedBuffer)
	s.Stdout = out
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := c.Dial("tcp", "localhost:8080")
		waiting <- err
	}()
	h.await("the forward's beginning", func() bool { return len(h.find("session.start")) == 2 })
	for _, x := range h.srv.Sessions() {
		if x.Kind == "forward" {
			h.srv.Kill(x.ID, "test")
		}
	}
	if err := <-waiting; err == nil {
		t.Error("the forward opened")
	}
	_, _ = io.WriteString(in, "still here")
	h.await("the shell", func() bool { return strings.Contains(out.String(), "still here") })
	refusing.Store(true)
	for range 20 {
		x, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Run("true"); err == nil {
			t.Error("a session that the target refused")
		}
		x.Close()
	}
	h.await("the connections' end", func() bool { return p.conns.Load() <= 2 })
	s.Close()
}

// The names of rsync and scp hide nothing from a recording: the first is recorded, and the second ends when it leaves its protocol (P10).
func TestNamesThatHideNothing(t *testing.T) {
	// The puppet stands for an account whose rsync is a script of its own.
	h := puppeteer(t, &puppet{session: parrot}, func(_ *Target, c *Config) {
		_, recipient, err := recording.NewIdentity(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c.Recordings = &Recordings{Options: recording.Options{Dir: t.TempDir(), Recipients: []string{recipient}}}
	})
	h.change(func(r *policy.Rule) { r.Record = true })
	c := h.at("alice@core-sw1")
	for i, x := range []struct {
		command, recorded string
		passes            bool
	}{
		{"rsync --server -vlogDtpr . /tmp/x", "yes", true},
		{"scp -t /tmp/x", "transfers", false},
		{"id", "yes", true},
	} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		s.Stdin = strings.NewReader("cat /etc/shadow\n")
		out, err := s.Output(x.command)
		if passes := strings.Contains(string(out), "shadow"); passes != x.passes {
			t.Errorf("%s: %q, %v", x.command, out, err)
		}
		h.awaitEnd(i + 1)
		if got := detail(h.last("session.start"), "recorded"); got != x.recorded {
			t.Errorf("%s: recorded %q, want %q", x.command, got, x.recorded)
		}
	}
}

// What a client sent before it closed reaches the target whole.
func TestInputBeforeTheClose(t *testing.T) {
	got := make(chan int64, 1)
	p := &puppet{session: func(ch ssh.Channel, requests <-chan *ssh.Request) {
		go func() {
			for r := range requests {
				if r.WantReply {
					_ = r.Reply(true, nil)
				}
			}
		}()
		n, _ := io.Copy(io.Discard, ch)
		got <- n
		_ = ch.Close()
	}}
	h := puppeteer(t, p, nil)
	c := h.at("alice@core-sw1")
	const size = 1 << 20
	for range 5 {
		ch, requests, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		go ssh.DiscardRequests(requests)
		if ok, err := ch.SendRequest("exec", true, appendWire(nil, []byte("cat >x"))); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if _, err := ch.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		_ = ch.CloseWrite()
		_ = ch.Close()
		if n := <-got; n != size {
			t.Errorf("the target got %d bytes of %d", n, size)
		}
	}
}

// SSH is reached as a jump only, and not as a port: neither the target's own, nor another's at the same host.
func TestPortsAreNotJumps(t *testing.T) {
	h := puppeteer(t, &puppet{session: parrot}, func(t *Target, c *Config) {
		t.Ports, t.Jump = []route.Ports{{From: 1, To: 65535}}, Off
		host, _, _ := net.SplitHostPort(t.Address)
		c.Targets = append(c.Targets, Target{Name: "web", Address: net.JoinHostPort(host, "9"), Tags: []string{"network"}, Ports: t.Ports})
	})
	_, port, _ := net.SplitHostPort(h.srv.settings.Load().Targets[0].Address)
	for user, to := range map[string]string{"alice@core-sw1": "localhost:" + port, "alice": "web:" + port} {
		if _, err := h.at(user).Dial("tcp", to); err == nil || !strings.Contains(err.Error(), "You may not reach") {
			t.Errorf("%s to %s: %v", user, to, err)
		}
	}
	if _, err := h.at("alice@core-sw1").Dial("tcp", "localhost:22"); err == nil || !strings.Contains(err.Error(), "You may not reach") {
		t.Errorf("port 22: %v", err)
	}
}

// Who may move files does not set what the target's programs load; and what somebody sets is on record, by its name.
func TestEnvironment(t *testing.T) {
	set := make(chan string, 10)
	p := &puppet{session: func(ch ssh.Channel, requests <-chan *ssh.Request) {
		names := ""
		for r := range requests {
			if r.Type == "env" {
				names += " " + string(r.Payload)
			}
			if r.WantReply {
				_ = r.Reply(true, nil)
			}
			if r.Type == "exec" {
				set <- names
				go ssh.DiscardRequests(requests)
				_ = ch.Close()
				return
			}
		}
	}}
	h := puppeteer(t, p, nil)
	c := h.at("alice@core-sw1")
	for command, may := range map[string]policy.Capability{"scp -t /tmp/x": policy.Upload, "id": policy.Exec} {
		h.setMay(may)
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"BASH_ENV", "LC_ALL"} {
			if err := s.Setenv(name, "x"); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.Run(command)
		names := <-set
		if !strings.Contains(names, "LC_ALL") || strings.Contains(names, "BASH_ENV") != (command == "id") {
			t.Errorf("%s: the target was told %q", command, names)
		}
		if got := detail(h.last("session.start"), "environment"); (got == "BASH_ENV LC_ALL") != (command == "id") {
			t.Errorf("%s: on record %q", command, got)
		}
	}
}
