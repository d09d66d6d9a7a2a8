package sshgw

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// openSSH is a real sshd as the target, and what a real ssh needs to reach it through the gateway.
type openSSH struct {
	*harness
	dir     string
	account string
	port    string // sshd's
	// Whose recordings are sealed to, in the form of a file.
	identity []byte
}

func startOpenSSH(t *testing.T) *openSSH {
	t.Helper()
	h := newHarness(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	o := &openSSH{harness: h, dir: t.TempDir(), account: me.Username}
	targetKey, err := CreateHostKey(o.path("target_host_key"))
	if err != nil {
		t.Fatal(err)
	}
	accountKey, err := CreateHostKey(o.path("account_key"))
	if err != nil {
		t.Fatal(err)
	}
	aliceKey, err := CreateHostKey(o.path("alice_key"))
	if err != nil {
		t.Fatal(err)
	}
	fp, _ := h.gate.Key("alice", aliceKey.PublicKey().Marshal())
	h.gate.Apply(login.Change{PutKey: &login.Key{Person: "alice", Fingerprint: fp}})
	o.file("authorized_keys", 0o600, string(ssh.MarshalAuthorizedKey(accountKey.PublicKey())))
	o.port = o.startSSHD()
	h.serve(h.config("127.0.0.1:" + o.port))
	host, port, err := net.SplitHostPort(h.addr)
	if err != nil {
		t.Fatal(err)
	}
	o.file("known_hosts", 0o600, fmt.Sprintf("[%s]:%s %score-sw1 %s", host, port, ssh.MarshalAuthorizedKey(h.hostKey.PublicKey()), ssh.MarshalAuthorizedKey(targetKey.PublicKey())))
	o.file("ssh_config", 0o600, fmt.Sprintf(`
Host *
  UserKnownHostsFile %[1]s/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  IdentityAgent none
  IdentitiesOnly yes
  ConnectTimeout 10
Host gw gw-with-key
  HostName %[2]s
  Port %[3]s
  User alice
  NumberOfPasswordPrompts 1
Host gw
  IdentityFile none
Host gw-with-key
  IdentityFile %[1]s/alice_key
Host core-sw1
  User %[4]s
  IdentityFile %[1]s/account_key
  PasswordAuthentication no
`, o.dir, host, port, o.account))
	o.file("askpass", 0o700, `#!/bin/sh
printf '%s\n' "$1" >>"$ASKED"
case "$1" in
*Password*) printf '%s\n' "$SAY_PASSWORD" ;;
*code*) printf '%s\n' "$SAY_CODE" ;;
esac
`)
	return o
}

func (o *openSSH) path(name string) string { return filepath.Join(o.dir, name) }

func (o *openSSH) file(name string, mode os.FileMode, text string) {
	o.Helper()
	if err := os.WriteFile(o.path(name), []byte(text), mode); err != nil {
		o.Fatal(err)
	}
}

// startSSHD starts Debian's sshd on a free port.
func (o *openSSH) startSSHD() (port string) {
	o.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		o.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	ln.Close()
	o.file("sshd_config", 0o600, fmt.Sprintf(`
ListenAddress 127.0.0.1:%s
HostKey %[2]s/target_host_key
AuthorizedKeysFile %[2]s/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
AcceptEnv LC_*
Subsystem sftp internal-sftp
`, port, o.dir))
	if os.Getuid() == 0 {
		// Where systemd has not started sshd, its privilege separation directory is missing.
		if err := os.Mkdir("/run/sshd", 0o755); err == nil {
			o.Cleanup(func() { os.Remove("/run/sshd") })
		}
	}
	log := new(lockedBuffer)
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", o.path("sshd_config"))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	o.await("sshd", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			if strings.Contains(log.String(), "fatal") || strings.Contains(log.String(), "Missing") {
				o.Fatalf("sshd: %s", log.String())
			}
			return false
		}
		c.Close()
		return true
	})
	return port
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	asked          string // by ssh, of the person
	status         int
}

// run runs a client, which is asked for password and code through askpass.
func (o *openSSH) run(password, code, stdin, program string, args ...string) result {
	o.Helper()
	asked := filepath.Join(o.TempDir(), "asked")
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + o.dir, "SSH_ASKPASS=" + o.path("askpass"), "SSH_ASKPASS_REQUIRE=force",
		"SAY_PASSWORD=" + password, "SAY_CODE=" + code, "ASKED=" + asked,
	}
	// Its own session, so that it finds no terminal to ask at.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		o.Fatalf("%s: %v", program, err)
	}
	text, _ := os.ReadFile(asked)
	return result{stdout: stdout.String(), stderr: stderr.String(), asked: string(text), status: cmd.ProcessState.ExitCode()}
}

func (o *openSSH) ssh(password, code, stdin string, args ...string) result {
	o.Helper()
	return o.run(password, code, stdin, "ssh", append([]string{"-F", o.path("ssh_config")}, args...)...)
}

// Stock OpenSSH gets through with password and code, by both ways of asking and with a key before them, and not
// otherwise (P1, P2).
func TestOpenSSHJump(t *testing.T) {
	o := startOpenSSH(t)
	for _, prompts := range []Prompts{TwoRounds, OneRound} {
		cfg := o.config("127.0.0.1:" + o.port)
		cfg.Prompts = prompts
		if err := o.srv.SetConfig(cfg); err != nil {
			t.Fatal(err)
		}
		used := ""
		for _, x := range []struct {
			name, gw, password string
			code               func() string
			in                 bool
			reason             login.Reason
		}{
			{"password and code", "gw", alicePassword, func() string { used = o.code(); return used }, true, login.ReasonOK},
			{"used code", "gw", alicePassword, func() string { return used }, false, login.ReasonCodeReused},
			{"without code", "gw", alicePassword, func() string { return "" }, false, login.ReasonCodeMissing},
			{"wrong password", "gw", "hunter2", o.code, false, login.ReasonPasswordWrong},
			{"key, password and code", "gw-with-key", alicePassword, o.code, true, login.ReasonOK},
			{"key and code only", "gw-with-key", "", o.code, false, login.ReasonPasswordMissing},
			{"key and password only", "gw-with-key", alicePassword, func() string { return "" }, false, login.ReasonCodeMissing},
		} {
			t.Run(fmt.Sprintf("%d/%s", prompts, x.name), func(t *testing.T) {
				starts := len(o.find("session.start"))
				r := o.ssh(x.password, x.code(), "", "-J", x.gw, "core-sw1", "echo through; exit 7")
				if in := r.stdout == "through\n" && r.status == 7; in != x.in {
					t.Fatalf("in: %v, want %v: %+v", in, x.in, r)
				}
				rec := o.last("login")
				if rec.Reason != string(x.reason) {
					t.Errorf("record %+v, want %s", rec, x.reason)
				}
				if !strings.HasPrefix(detail(rec, "ssh_client"), "SSH-2.0-OpenSSH_") {
					t.Errorf("ssh_client is %q", detail(rec, "ssh_client"))
				}
				if got := detail(rec, "ssh_cipher"); got != ssh.CipherAES128GCM {
					t.Errorf("the cipher is %s", got) // by its own order stock ssh would take CTR
				}
				// ssh falls back to the password method, which is not judged.
				if n := strings.Count(r.asked, "\n"); n != 2 && (x.in || n != 3) {
					t.Errorf("asked %q, want two questions", r.asked)
				}
				if now := len(o.find("session.start")); (now > starts) != x.in {
					t.Errorf("sessions %d before, %d after", starts, now)
				}
				if x.in {
					if end := o.awaitEnd(starts + 1); end.Reason != string(endExit) && end.Reason != string(endTargetClosed) || detail(end, "bytes_in") == "0" || detail(end, "bytes_out") == "0" {
						t.Errorf("end %+v", end)
					}
				} else if !strings.Contains(r.stderr, "Login refused.") || !strings.Contains(r.stderr, "Permission denied") {
					t.Errorf("told %q", r.stderr)
				}
			})
		}
	}
}

// Large transfers arrive whole, both ways, with each cipher that OpenSSH may choose, and through a rekeying.
func TestOpenSSHTransfers(t *testing.T) {
	o := startOpenSSH(t)
	data := make([]byte, 24<<20)
	rand.Read(data)
	for _, args := range [][]string{
		{"-o", "Ciphers=aes128-gcm@openssh.com"},
		{"-o", "Ciphers=aes128-ctr"},
		{"-o", "RekeyLimit=4M"},
	} {
		proxy := "ssh -F " + o.path("ssh_config") + " " + strings.Join(args, " ") + " -W %h:%p gw"
		r := o.ssh(alicePassword, o.code(), string(data), "-o", "ProxyCommand="+proxy, "core-sw1", "cat")
		if r.status != 0 || r.stdout != string(data) {
			t.Errorf("%v: status %d, %d bytes of %d: %s", args, r.status, len(r.stdout), len(data), r.stderr)
		}
	}
}

// Files go through too: scp and sftp work as if the gateway were not there.
func TestOpenSSHFiles(t *testing.T) {
	o := startOpenSSH(t)
	data := make([]byte, 1<<20)
	rand.Read(data)
	o.file("file", 0o600, string(data))
	for name, args := range map[string][]string{
		"sftp protocol": {"-F", o.path("ssh_config"), "-J", "gw", o.path("file"), "core-sw1:" + o.path("copy")},
		"scp protocol":  {"-O", "-F", o.path("ssh_config"), "-J", "gw", o.path("file"), "core-sw1:" + o.path("copy")},
	} {
		r := o.run(alicePassword, o.code(), "", "scp", args...)
		got, err := os.ReadFile(o.path("copy"))
		if r.status != 0 || err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: status %d, %v: %s", name, r.status, err, r.stderr)
		}
		os.Remove(o.path("copy"))
	}
}

// What is not a jump is refused with a sentence that ssh shows (P11).
func TestOpenSSHRefusals(t *testing.T) {
	o := startOpenSSH(t)
	how := "ssh -J alice@GATEWAY ACCOUNT@TARGET"
	for _, x := range []struct {
		name    string
		args    []string
		program string
		status  int
		say     string
	}{
		{"shell", []string{"gw"}, "ssh", 1, how},
		{"exec", []string{"gw", "id"}, "ssh", 1, how},
		{"sftp", []string{"gw"}, "sftp", 255, how},
		{"jump to nowhere", []string{"-J", "gw", "nowhere"}, "ssh", 255, "You may not reach nowhere:22 through this gateway."},
		{"jump to another port", []string{"-J", "gw", "-p", "80", "core-sw1"}, "ssh", 255, "You may not reach core-sw1:80 through this gateway."},
		{"jump that has to be recorded", []string{"-J", "gw", "rule-recorded"}, "ssh", 255, "cannot be recorded"},
		{"remote forwarding", []string{"-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22", "gw"}, "ssh", 255, "remote port forwarding failed"},
		{"streamlocal forwarding", []string{"-N", "-o", "ExitOnForwardFailure=yes", "-R", "/tmp/x:127.0.0.1:22", "gw"}, "ssh", 255, "remote port forwarding failed"},
	} {
		t.Run(x.name, func(t *testing.T) {
			before := len(o.find("access"))
			r := o.run(alicePassword, o.code(), "", x.program, append([]string{"-F", o.path("ssh_config")}, x.args...)...)
			if r.status != x.status || !strings.Contains(r.stdout+r.stderr, x.say) {
				t.Errorf("status %d, want %d, and %q in\n%s%s", r.status, x.status, x.say, r.stdout, r.stderr)
			}
			recs := o.find("access")
			if len(recs) == before || recs[len(recs)-1].Result != audit.Reject {
				t.Errorf("no record of the refusal")
			}
		})
	}
}

// Many sessions over one login (ControlMaster): each jump has its own record and the same attempt.
func TestOpenSSHControlMaster(t *testing.T) {
	o := startOpenSSH(t)
	socket := filepath.Join("/tmp", fmt.Sprintf("sallyport-%d.sock", os.Getpid()))
	master := []string{"-S", socket, "-o", "ControlMaster=yes", "-o", "ControlPersist=yes", "-N", "-f", "gw"}
	if r := o.ssh(alicePassword, o.code(), "", master...); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	t.Cleanup(func() { o.ssh("", "", "", "-S", socket, "-O", "exit", "gw") })
	for range 3 {
		proxy := "ssh -F " + o.path("ssh_config") + " -S " + socket + " -W %h:%p gw"
		r := o.ssh("", "", "", "-o", "ProxyCommand="+proxy, "core-sw1", "echo through")
		if r.stdout != "through\n" || r.asked != "" {
			t.Fatalf("%+v", r)
		}
	}
	o.awaitEnd(3)
	starts := o.find("session.start")
	if len(starts) != 3 || len(o.find("login")) != 1 {
		t.Fatalf("%d sessions, %d logins", len(starts), len(o.find("login")))
	}
	for _, s := range starts {
		if s.Attempt != starts[0].Attempt || s.Session == starts[0].Session && s.Seq != starts[0].Seq {
			t.Errorf("record %+v", s)
		}
	}
}

// PuTTY's plink logs in and jumps.
func TestPlink(t *testing.T) {
	o := startOpenSSH(t)
	if r := o.plink(); !strings.Contains(r.stdout, "alice, where to?") || r.status != 0 {
		t.Errorf("shell: %+v", r)
	}
	if v := detail(o.last("login"), "ssh_client"); !strings.Contains(v, "PuTTY") {
		t.Errorf("ssh_client is %q", v)
	}
	if r := o.plink("-nc", "core-sw1:22"); !strings.Contains(r.stdout, "SSH-2.0-OpenSSH") {
		t.Errorf("jump: %+v", r)
	}
	if r := o.plink("-nc", "forbidden:22"); !strings.Contains(r.stderr, "You may not reach forbidden:22") {
		t.Errorf("refused jump: %+v", r)
	}
}

// plink runs plink and types when it asks: it throws away what is typed before.
func (o *openSSH) plink(args ...string) result {
	o.Helper()
	host, port, err := net.SplitHostPort(o.addr)
	if err != nil {
		o.Fatal(err)
	}
	args = append([]string{"-ssh", "-noagent", "-hostkey", ssh.FingerprintSHA256(o.hostKey.PublicKey()), "-P", port, "-l", "alice"}, args...)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "plink", append(args, host)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + o.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stdout, stderr lockedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		o.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		o.Fatal(err)
	}
	for _, x := range []struct{ prompt, answer string }{{"Password: ", alicePassword}, {"code: ", o.code()}} {
		o.await(x.prompt, func() bool { return strings.Contains(stderr.String(), x.prompt) })
		io.WriteString(stdin, x.answer+"\n")
	}
	if !slices.Contains(args, "-nc") {
		o.await("the menu", func() bool { return strings.Contains(stdout.String(), "where to?") })
		io.WriteString(stdin, "\x03")
	} else {
		o.await("an answer", func() bool { return stdout.String() != "" || strings.Contains(stderr.String(), "FATAL") })
		stdin.Close()
	}
	// Its status is part of the result.
	_ = cmd.Wait()
	return result{stdout: stdout.String(), stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}
}

// A host key that ssh-keygen made is loaded, and one that we made is read by ssh-keygen.
func TestSSHKeygen(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		path := filepath.Join(dir, kind)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := LoadHostKey(path); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	path := filepath.Join(dir, "ours")
	key, err := CreateHostKey(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh-keygen", "-y", "-f", path).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))) {
		t.Errorf("ssh-keygen says %q, %v", out, err)
	}
	if text, err := os.ReadFile(path); err != nil {
		t.Error(err)
	} else if block, _ := pem.Decode(text); block == nil {
		t.Error("no PEM")
	}
}
