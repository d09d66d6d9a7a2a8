package sshgw

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/internal/recording"
	"sallyport/sshgw/outbound"
	"sallyport/sshgw/route"
)

// vault is what is known of targets, in memory.
type vault struct {
	mu          sync.Mutex
	approved    map[string][]outbound.Key
	credentials map[string]outbound.Credential // by target, account and kind
	offered     map[string]ssh.PublicKey
	alerts      int
}

func newVault() *vault {
	return &vault{approved: make(map[string][]outbound.Key), credentials: make(map[string]outbound.Credential), offered: make(map[string]ssh.PublicKey)}
}

func (v *vault) TargetKeys(target string) (approved, revoked []outbound.Key) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.approved[target]), nil
}

func (v *vault) TargetCredential(target, account, kind string) (outbound.Credential, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c, ok := v.credentials[target+" "+account+" "+kind]; ok {
		return c, nil
	}
	return nil, errors.New("no credential is kept for it")
}

func (v *vault) OfferHostKey(_ context.Context, target string, key ssh.PublicKey) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.offered[target] = key
	return nil
}

func (v *vault) HostKeyAlert(context.Context, string, ssh.PublicKey, bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.alerts++
	return nil
}

// all is what the network team may do in these tests.
var all = []policy.Capability{policy.Shell, policy.Exec, policy.SFTP, policy.Forward, policy.Agent}

// setMay replaces what the network team may do.
func (h *harness) setMay(may ...policy.Capability) {
	p := *h.gate.Policy()
	p.Rules = slices.Clone(p.Rules)
	for i := range p.Rules {
		p.Rules[i].May = may
	}
	h.gate.SetPolicy(&p)
}

// proxied is a gateway that logs in at a real sshd with a key of its own.
func proxied(t *testing.T, change func(*Target)) *openSSH {
	t.Helper()
	o := startOpenSSH(t)
	key, err := os.ReadFile(o.path("account_key"))
	if err != nil {
		t.Fatal(err)
	}
	credential, err := outbound.NewKey(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	targetKey, err := LoadHostKey(o.path("target_host_key"))
	if err != nil {
		t.Fatal(err)
	}
	v := newVault()
	v.credentials["core-sw1 "+o.account+" key"] = credential
	o.srv.vault = v
	cfg := o.config("127.0.0.1:" + o.port)
	target := &cfg.Targets[0]
	target.Account, target.Credential, target.Jump = o.account, CredentialKey, Unsaid
	target.HostKeys.Pinned = []outbound.Key{outbound.KeyOf(targetKey.PublicKey())}
	if change != nil {
		change(target)
	}
	if err := o.srv.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	o.setMay(all...)
	return o
}

// through runs a client as alice at core-sw1.
func (o *openSSH) through(stdin, program string, args ...string) result {
	o.Helper()
	return o.run(alicePassword, o.code(), stdin, program, append([]string{"-F", o.path("ssh_config"), "-o", "User=alice@core-sw1"}, args...)...)
}

// Stock ssh runs commands at a target that it names in its user name, as if the gateway were not there.
func TestProxiedCommands(t *testing.T) {
	o := proxied(t, nil)
	for _, x := range []struct {
		name, stdin    string
		args           []string
		stdout, stderr string
		status         int
	}{
		{"output and status", "", []string{"gw", "echo out; echo err >&2; exit 7"}, "out\n", "err\n", 7},
		{"input", "some input", []string{"gw", "cat"}, "some input", "", 0},
		{"signal", "", []string{"gw", "kill -TERM $$"}, "", "", 255},
		{"terminal", "", []string{"-tt", "gw", "tty >/dev/null && stty size"}, "0 0\r\n", "", 0},
		{"environment", "", []string{"-o", "SetEnv=LC_TEST=here", "gw", "echo $LC_TEST"}, "here\n", "", 0},
		{"much output", "", []string{"gw", "head -c 3000000 /dev/zero | tr '\\0' x; exit 3"}, strings.Repeat("x", 3_000_000), "", 3},
	} {
		t.Run(x.name, func(t *testing.T) {
			n := len(o.find("session.end"))
			r := o.through(x.stdin, "ssh", x.args...)
			if r.stdout != x.stdout || r.status != x.status || !strings.Contains(r.stderr, x.stderr) {
				t.Errorf("status %d, want %d; %d bytes of output %.80q, want %.80q; errors %q", r.status, x.status, len(r.stdout), r.stdout, x.stdout, r.stderr)
			}
			end := o.awaitEnd(n + 1)
			if end.Reason != string(endExit) || end.System != "core-sw1" || end.Account != o.account || end.Rule != "network team" {
				t.Errorf("end %+v", end)
			}
			if x.status != 255 && detail(end, "exit_status") != fmt.Sprint(x.status) {
				t.Errorf("exit_status %q, want %d", detail(end, "exit_status"), x.status)
			}
			if got := detail(o.last("session.start"), "command"); got != x.args[len(x.args)-1] {
				t.Errorf("command on record %q", got)
			}
		})
	}
	c := o.last("session.connected")
	for key, want := range map[string]string{"credential": "key", "host_key_type": "ssh-ed25519"} {
		if got := detail(c, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// Clients that have no more to say close at the end of a program's output, and can be told nothing after that: the status comes
// before it, even when the program closes its output early. A program that lives on and wants input gets it.
func TestStatusBeforeEndOfData(t *testing.T) {
	o := proxied(t, nil)
	c, err := o.client("alice@core-sw1", (&typist{password: alicePassword, code: o.code()}).auth())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, x := range []struct {
		name, command string
		early         bool // the client ends its data at once, and closes as soon as the target does
		status        byte
	}{
		{"it exits", "exit 5", true, 5},
		{"it closes its output first", "exec >&- 2>&-; sleep 0.5; exit 6", true, 6},
		{"it waits for input behind its output", "exec >&- 2>&-; cat >/dev/null; exit 7", false, 7},
	} {
		t.Run(x.name, func(t *testing.T) {
			ch, requests, err := c.OpenChannel("session", nil)
			if err != nil {
				t.Fatal(err)
			}
			status := make(chan byte, 1)
			go func() {
				defer close(status)
				for r := range requests {
					if r.Type == "exit-status" {
						status <- r.Payload[3]
					}
				}
			}()
			if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{x.command})); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if x.early {
				ch.CloseWrite()
			}
			io.Copy(io.Discard, ch)
			if x.early {
				ch.Close()
			}
			ch.CloseWrite()
			if got, ok := <-status; !ok || got != x.status {
				t.Errorf("status %d, %v, want %d", got, ok, x.status)
			}
			ch.Close()
		})
	}
}

// Files go through by every program, and arrive whole.
func TestProxiedFiles(t *testing.T) {
	o := proxied(t, nil)
	data := make([]byte, 5<<20)
	rand.Read(data)
	o.file("file", 0o600, string(data))
	for name, run := range map[string]func() result{
		"scp with sftp up":   func() result { return o.through("", "scp", o.path("file"), "gw:"+o.path("copy")) },
		"scp with scp up":    func() result { return o.through("", "scp", "-O", o.path("file"), "gw:"+o.path("copy")) },
		"scp with sftp down": func() result { return o.through("", "scp", "gw:"+o.path("file"), o.path("copy")) },
		"scp with scp down":  func() result { return o.through("", "scp", "-O", "gw:"+o.path("file"), o.path("copy")) },
		"sftp": func() result {
			return o.through("put "+o.path("file")+" "+o.path("copy")+"\n", "sftp", "gw")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := run()
			got, err := os.ReadFile(o.path("copy"))
			if r.status != 0 || err != nil || !bytes.Equal(got, data) {
				t.Errorf("status %d, %v, %d bytes: %s", r.status, err, len(got), r.stderr)
			}
			os.Remove(o.path("copy"))
		})
	}
}

// Each thing that a person may not do at a target is refused with a sentence, and with a record (P11).
func TestProxiedRefusals(t *testing.T) {
	o := proxied(t, nil)
	for _, x := range []struct {
		name    string
		may     []policy.Capability
		program string
		args    []string
		say     string
	}{
		{"exec without exec", []policy.Capability{policy.Shell}, "ssh", []string{"gw", "id"}, "exec is not permitted"},
		{"shell without shell", []policy.Capability{policy.Exec}, "ssh", []string{"-tt", "gw"}, "shell is not permitted"},
		{"sftp without sftp", []policy.Capability{policy.Shell}, "sftp", []string{"gw"}, "sftp is not permitted"},
		{"scp upload without", []policy.Capability{policy.Download}, "scp", []string{"-O", o.path("sshd_config"), "gw:/tmp/x"}, "upload is not permitted"},
		{"unknown target", all, "ssh", []string{"-o", "User=alice@nowhere", "gw", "id"}, "You may not reach nowhere"},
		{"forbidden target", all, "ssh", []string{"-o", "User=alice@forbidden", "gw", "id"}, "You may not reach forbidden"},
		{"another account", all, "ssh", []string{"-o", "User=alice@nobody@core-sw1", "gw", "id"}, "The account nobody at core-sw1 is not reached"},
	} {
		t.Run(x.name, func(t *testing.T) {
			o.setMay(x.may...)
			before, starts := len(o.find("access")), len(o.find("session.start"))
			args := []string{"-F", o.path("ssh_config")}
			if !slices.Contains(x.args, "-o") {
				args = append(args, "-o", "User=alice@core-sw1")
			}
			r := o.run(alicePassword, o.code(), "", x.program, append(args, x.args...)...)
			if r.status == 0 || !strings.Contains(r.stdout+r.stderr, x.say) {
				t.Errorf("status %d; %q, want %q", r.status, r.stdout+r.stderr, x.say)
			}
			recs := o.find("access")[before:]
			if len(recs) == 0 || recs[len(recs)-1].Result != audit.Reject {
				t.Errorf("records %+v", recs)
			}
			if n := len(o.find("session.start")); n != starts {
				t.Errorf("%d sessions started", n-starts)
			}
		})
	}
}

// Host keys: an unknown one waits for approval, a changed one is an alert, and neither sees a credential.
func TestProxiedHostKeys(t *testing.T) {
	o := proxied(t, func(t *Target) { t.HostKeys.Pinned = nil })
	v := o.srv.vault.(*vault)
	r := o.through("", "ssh", "gw", "id")
	if !strings.Contains(r.stderr, "waits for approval") || r.status == 0 || v.offered["core-sw1"] == nil {
		t.Fatalf("unknown: %+v", r)
	}
	if end := o.last("session.end"); end.Reason != string(endDialFailed) || !strings.Contains(detail(end, "cause"), "not known yet") {
		t.Errorf("end %+v", end)
	}
	v.mu.Lock()
	v.approved["core-sw1"] = []outbound.Key{outbound.KeyOf(v.offered["core-sw1"])}
	v.mu.Unlock()
	if r := o.through("", "ssh", "gw", "echo in"); r.stdout != "in\n" {
		t.Fatalf("approved: %+v", r)
	}
	v.mu.Lock()
	v.approved["core-sw1"] = []outbound.Key{outbound.KeyOf(newSigner(t).PublicKey())}
	v.mu.Unlock()
	if r := o.through("", "ssh", "gw", "id"); !strings.Contains(r.stderr, "not the one that is known") || v.alerts != 1 {
		t.Errorf("changed: %+v, %d alerts", r, v.alerts)
	}
}

// The password method takes password and code in one, for clients that know nothing else; each code once (P2).
func TestPasswordMethod(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	code := h.code()
	for _, x := range []struct {
		name, typed string
		in          bool
		why         login.Reason
	}{
		{"password and code", alicePassword + code, true, login.ReasonOK},
		{"used code", alicePassword + code, false, login.ReasonCodeReused},
		{"password alone", alicePassword, false, login.ReasonCodeMissing},
		{"wrong password", "hunter2" + code, false, login.ReasonPasswordWrong},
		{"nothing", "", false, login.ReasonPasswordMissing},
	} {
		c, err := h.client("alice", ssh.Password(x.typed))
		if (err == nil) != x.in {
			t.Errorf("%s: %v", x.name, err)
		}
		if err == nil {
			c.Close()
		}
		if got := h.last("login").Reason; got != string(x.why) {
			t.Errorf("%s: %s, want %s", x.name, got, x.why)
		}
	}
}

// jumper makes the gateway answer jumps to core-sw1 itself, with a certificate of its host CA, and ssh trust that.
func (o *openSSH) jumper() {
	o.Helper()
	ca, err := outbound.CreateCA(o.path("host_ca"), "test")
	if err != nil {
		o.Fatal(err)
	}
	o.srv.hostCA = ca
	o.clock.Store(time.Now().UnixNano()) // ssh looks at the certificate's time
	known, err := os.ReadFile(o.path("known_hosts"))
	if err != nil {
		o.Fatal(err)
	}
	gw, _, _ := strings.Cut(string(known), "core-sw1")
	o.file("known_hosts", 0o600, gw+ca.KnownHosts([]string{"core-sw1"})+"\n")
}

// Stock ssh -J reaches a target through the gateway, which ends the inner connection: command, files and status are as without
// it, and each session is on record with what was done. The target's key at the client is not needed.
func TestRecordedJump(t *testing.T) {
	o := proxied(t, func(t *Target) { t.Jump = Recorded })
	o.jumper()
	o.record()
	data := make([]byte, 3<<20)
	rand.Read(data)
	o.file("file", 0o600, string(data))
	config := []string{"-F", o.path("ssh_config"), "-o", "IdentityFile=none"}
	for _, x := range []struct {
		name, program, stdin string
		args                 []string
		status               int
		stdout               string
		kind                 string
	}{
		{"command", "ssh", "", []string{"-J", "gw", "core-sw1", "echo through; exit 7"}, 7, "through\n", "exec"},
		{"terminal", "ssh", "", []string{"-tt", "-J", "gw", "core-sw1", "echo $TERM"}, 0, "dumb\r\n", "exec"},
		{"scp by sftp", "scp", "", []string{"-J", "gw", o.path("file"), "core-sw1:" + o.path("copy1")}, 0, "", "sftp"},
		{"scp by scp", "scp", "", []string{"-O", "-J", "gw", o.path("file"), "core-sw1:" + o.path("copy2")}, 0, "", "scp"},
		{"sftp", "sftp", "put " + o.path("file") + " " + o.path("copy3") + "\n", []string{"-J", "gw", "core-sw1"}, 0, "", "sftp"},
	} {
		t.Run(x.name, func(t *testing.T) {
			n := len(o.find("session.end"))
			r := o.run(alicePassword, o.code(), x.stdin, x.program, append(slices.Clone(config), x.args...)...)
			if r.status != x.status || x.stdout != "" && r.stdout != x.stdout {
				t.Fatalf("%+v", r)
			}
			end := o.awaitEnd(n + 1)
			if end.Account != o.account || end.System != "core-sw1" || detail(end, "request") != x.kind || end.Reason != string(endExit) {
				t.Errorf("end %+v", end)
			}
		})
	}
	for _, name := range []string{"copy1", "copy2", "copy3"} {
		if got, err := os.ReadFile(o.path(name)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
	}
	if r := o.run(alicePassword, o.code(), "", "ssh", append(slices.Clone(config), "-J", "gw", "nobody@core-sw1", "id")...); !strings.Contains(r.stderr, "The account nobody at core-sw1") {
		t.Errorf("another account: %+v", r)
	}
	o.setMay(policy.Login)
	if r := o.run(alicePassword, o.code(), "", "ssh", append(slices.Clone(config), "-J", "gw", "core-sw1", "id")...); r.status != 255 {
		t.Errorf("without a right: %+v", r)
	}
}

// record lets the gateway record.
func (o *openSSH) record() {
	o.Helper()
	file, recipient, err := recording.NewIdentity(o.now())
	if err != nil {
		o.Fatal(err)
	}
	o.identity = file
	cfg := o.srv.settings.Load().Config
	cfg.Recordings = &Recordings{Options: recording.Options{Dir: o.path("recordings"), Recipients: []string{recipient}}}
	if err := o.srv.SetConfig(cfg); err != nil {
		o.Fatal(err)
	}
}

// A port that the target lists is forwarded, from the gateway and from the target, where a rule says so; no other is.
func TestForwards(t *testing.T) {
	port := uint16(0)
	service := listen(t, func(c net.Conn) {
		defer c.Close()
		fmt.Fprint(c, "service")
	})
	if _, p, err := net.SplitHostPort(service); err == nil {
		n, _ := strconv.Atoi(p)
		port = uint16(n)
	}
	o := proxied(t, func(t *Target) { t.Ports = []route.Ports{{From: port, To: port}} })
	dial := func(c *ssh.Client, to string) (string, error) {
		conn, err := c.Dial("tcp", to)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		text, err := io.ReadAll(conn)
		return string(text), err
	}
	at := func(host string) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }
	for _, user := range []string{"alice", "alice@core-sw1"} {
		c, err := o.client(user, (&typist{password: alicePassword, code: o.code()}).auth())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		n := len(o.find("session.end"))
		if text, err := dial(c, at("core-sw1")); text != "service" {
			t.Errorf("%s: %q, %v", user, text, err)
		}
		if end := o.awaitEnd(n + 1); detail(end, "request") != "forward" || detail(end, "bytes_out") != "7" {
			t.Errorf("%s: end %+v", user, end)
		}
		if text, err := dial(c, at("localhost")); (text == "service") != (user != "alice") {
			t.Errorf("%s: localhost: %q, %v", user, text, err)
		}
		for _, not := range []string{"core-sw1:1", at("forbidden"), "169.254.169.254:80"} {
			if _, err := dial(c, not); err == nil || !strings.Contains(err.Error(), "You may not reach") {
				t.Errorf("%s: %s: %v", user, not, err)
			}
		}
		o.setMay(policy.Shell)
		if _, err := dial(c, at("core-sw1")); err == nil || o.last("access").Reason != string(login.ReasonCapability) {
			t.Errorf("%s: without forward: %v", user, err)
		}
		o.setMay(all...)
	}
}

// A forwarded agent logs in at the target, and reaches on from there where the rule says so.
func TestAgent(t *testing.T) {
	o := proxied(t, func(t *Target) { t.Credential, t.Free = CredentialAgent, true })
	key, err := os.ReadFile(o.path("account_key"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := ssh.ParseRawPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	for range 10 { // in front of the right one
		_, other, _ := ed25519.GenerateKey(rand.Reader)
		if err := ring.Add(agent.AddedKey{PrivateKey: other}); err != nil {
			t.Fatal(err)
		}
	}
	run := func(keys agent.Agent, command string) (string, error) {
		c, err := o.client("alice@core-sw1", (&typist{password: alicePassword, code: o.code()}).auth())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var errs bytes.Buffer
		s.Stderr = &errs
		if keys != nil {
			if err := agent.ForwardToAgent(c, keys); err != nil {
				t.Fatal(err)
			}
			if err := agent.RequestAgentForwarding(s); err != nil {
				t.Fatal(err)
			}
		}
		out, err := s.Output(command)
		if err != nil {
			err = fmt.Errorf("%w: %s", err, errs.String())
		}
		return string(out), err
	}
	if _, err := run(nil, "id"); err == nil || !strings.Contains(err.Error(), "ssh -A") {
		t.Errorf("without an agent: %v", err)
	}
	if _, err := run(ring, "id"); err == nil || !strings.Contains(err.Error(), "did not let the gateway in") {
		t.Errorf("with the wrong keys: %v", err)
	}
	right := agent.NewKeyring()
	if err := right.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	if out, err := run(right, "test -n \"$SSH_AUTH_SOCK\" && ssh-add -L | wc -l"); err != nil || strings.TrimSpace(out) != "1" {
		t.Errorf("with the agent: %q, %v", out, err)
	}
	o.setMay(policy.Exec)
	if out, err := run(right, "echo \"[$SSH_AUTH_SOCK]\""); err != nil || strings.TrimSpace(out) != "[]" {
		t.Errorf("without the right to the agent: %q, %v", out, err)
	}
}
