package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// target is Debian's sshd behind the gateway, one process for each connection.
type target struct {
	listener net.Listener
	accepted atomic.Int64 // connections
	account  string
	done     chan struct{}
}

// newTarget listens on a free port of loopback, and hands each connection to an sshd of its own (sshd -i). Lines are more of
// its configuration.
func newTarget(t testing.TB, dir string, lines ...string) *target {
	t.Helper()
	sshd := tool(t, "sshd", "openssh-server")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	tg := &target{account: me.Username, done: make(chan struct{})}
	keygen(t, filepath.Join(dir, "target_host"))
	keygen(t, filepath.Join(dir, "target_user"))
	config := filepath.Join(dir, "sshd_config")
	text := fmt.Sprintf(`HostKey %s
AuthorizedKeysFile %s
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin yes
PidFile none
PrintMotd no
Subsystem sftp internal-sftp
%s
`, filepath.Join(dir, "target_host"), filepath.Join(dir, "target_user.pub"), strings.Join(lines, "\n"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if tg.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	go tg.serve(sshd, config, filepath.Join(dir, "sshd.log"))
	t.Cleanup(func() {
		tg.listener.Close()
		<-tg.done
	})
	return tg
}

func (tg *target) serve(sshd, config, log string) {
	defer close(tg.done)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := tg.listener.Accept()
		if err != nil {
			return
		}
		tg.accepted.Add(1)
		wg.Go(func() {
			defer conn.Close()
			f, err := conn.(*net.TCPConn).File()
			if err != nil {
				return
			}
			defer f.Close()
			if os.Getuid() == 0 {
				_ = os.MkdirAll("/run/sshd", 0o755) // privilege separation; where systemd has not made it
			}
			cmd := exec.Command(sshd, "-i", "-E", log, "-f", config)
			cmd.Stdin, cmd.Stdout = f, f
			_ = cmd.Run() // how it ends, the client sees
		})
	}
}

func keygen(t testing.TB, path string) {
	t.Helper()
	if _, stderr, status := runTool(t, "", nil, tool(t, "ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path); status != 0 {
		t.Fatalf("ssh-keygen: %s", stderr)
	}
}

// sshRig is a rig with a target, and what stock ssh needs to get there.
type sshRig struct {
	*rig
	target     *target
	clientConf string
	askpass    string
}

func newSSHRig(t testing.TB, o rigOptions) *sshRig {
	t.Helper()
	dir := t.TempDir()
	s := &sshRig{target: newTarget(t, dir), clientConf: filepath.Join(dir, "ssh_config"), askpass: filepath.Join(dir, "askpass")}
	o.dir = dir
	o.targets = fmt.Sprintf(`
    - {name: core-sw1, address: %q, jump: opaque, class: privileged-internal, tags: [network]}
    - {name: secret-srv, address: "127.0.0.1:9", jump: opaque, class: privileged-internal, tags: [elsewhere]}
    - {name: taped, address: "127.0.0.1:9", jump: recorded, class: privileged-internal, tags: [network]}`, s.target.listener.Addr())
	s.rig = newRig(t, o)
	const script = `#!/bin/sh
case "$1" in
*assword:*) printf '%s\n' "$PASSWORD" ;;
*code:*) printf '%s\n' "$CODE" ;;
*) exit 1 ;;
esac
`
	if err := os.WriteFile(s.askpass, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	keygen(t, filepath.Join(dir, "alice_key"))
	return s
}

// up starts the daemon, and writes the configuration for ssh.
func (s *sshRig) up() {
	s.Helper()
	s.start()
	dir := filepath.Dir(s.clientConf)
	host, port, err := net.SplitHostPort(s.daemon.ssh)
	if err != nil {
		s.Fatal(err)
	}
	gwKey, err := ssh.ParsePrivateKey(mustRead(s, layout(s.data).hostKey))
	if err != nil {
		s.Fatal(err)
	}
	known := fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(gwKey.PublicKey())) +
		"core-sw1,secret-srv,taped,elsewhere " + string(mustRead(s, filepath.Join(dir, "target_host.pub")))
	if err := os.WriteFile(filepath.Join(dir, "known_hosts"), []byte(known), 0o600); err != nil {
		s.Fatal(err)
	}
	text := fmt.Sprintf(`Host gw gw-key
  HostName %[1]s
  Port %[2]s
  NumberOfPasswordPrompts 1
Host gw
  PreferredAuthentications keyboard-interactive
Host gw-key
  PreferredAuthentications publickey,keyboard-interactive
  IdentityFile %[3]s/alice_key
Host core-sw1 secret-srv taped elsewhere
  User %[4]s
  IdentityFile %[3]s/target_user
  PreferredAuthentications publickey
Host *
  IdentitiesOnly yes
  UserKnownHostsFile %[3]s/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  LogLevel INFO
`, host, port, dir, s.target.account)
	if err := os.WriteFile(s.clientConf, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// as runs one of OpenSSH's clients as somebody who answers the questions with this password and this code.
func (s *sshRig) as(password, code, program string, args ...string) (stdout, stderr string, status int) {
	s.Helper()
	env := []string{
		"SSH_ASKPASS=" + s.askpass, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none", "PASSWORD=" + password, "CODE=" + code,
		"SSH_AUTH_SOCK=",
	}
	return runTool(s, "", env, tool(s, program, "openssh-client"), append([]string{"-F", s.clientConf}, args...)...)
}

// why checks the reason of the newest login over SSH.
func (s *sshRig) why(what string, want login.Reason) {
	s.Helper()
	if rec := s.last("--event", "login"); rec.Protocol != "ssh" || rec.Reason != string(want) {
		s.Errorf("%s: record %d says %s over %s, want %s over ssh", what, rec.Seq, rec.Reason, rec.Protocol, want)
	}
	s.check()
}

// TestStockSSHJumps reaches a real sshd by stock ssh -J with password and code, and not without either (P1, P2). Files
// go through by scp and sftp, and the sessions are in the record with their bytes.
func TestStockSSHJumps(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	alice := s.enrol("alice", byCount())
	s.okIn(string(mustRead(t, filepath.Join(filepath.Dir(s.clientConf), "alice_key.pub"))), "key", "add", "alice")
	s.up()
	const greeting = "it is reached"
	jump := func(password, code, by string) (stdout, stderr string, status int) {
		return s.as(password, code, "ssh", "-J", "alice@"+by, "core-sw1", "echo", greeting)
	}

	used := alice.code()
	stdout, stderr, status := jump(alice.password, used, "gw")
	if status != 0 || strings.TrimSpace(stdout) != greeting {
		t.Fatalf("ssh -J with password and code: status %d\n%s%s", status, stdout, stderr)
	}
	s.why("password and code", login.ReasonOK)

	// Anything less than password and code gets nobody there, whatever key comes with it.
	for _, c := range []struct {
		what, password, code, by string
		want                     login.Reason
	}{
		{"no code", alice.password, "", "gw", login.ReasonCodeMissing},
		{"a used code", alice.password, used, "gw", login.ReasonCodeReused},
		{"a wrong code", alice.password, "00000000", "gw", login.ReasonCodeWrong},
		{"a code and no password", "", alice.code(), "gw", login.ReasonPasswordMissing},
		{"the code for a password", alice.code(), alice.code(), "gw", login.ReasonPasswordWrong},
		{"key and code", "", alice.code(), "gw-key", login.ReasonPasswordMissing},
		{"key and password", alice.password, "", "gw-key", login.ReasonCodeMissing},
		{"key alone", "", "", "gw-key", login.ReasonPasswordMissing},
	} {
		stdout, stderr, status := jump(c.password, c.code, c.by)
		if status == 0 || strings.Contains(stdout, greeting) {
			t.Errorf("ssh -J with %s: status %d\n%s%s", c.what, status, stdout, stderr)
		}
		s.why(c.what, c.want)
	}
	if n := len(s.records("--event", "access", "--result", "accept")); n != 1 {
		t.Errorf("%d accesses were accepted, want the one", n)
	}

	// With a key besides, it is three factors.
	if stdout, stderr, status := jump(alice.password, alice.code(), "gw-key"); status != 0 || strings.TrimSpace(stdout) != greeting {
		t.Errorf("ssh -J with key, password and code: status %d\n%s%s", status, stdout, stderr)
	}
	if rec := s.last("--event", "login"); len(rec.Factors) != 3 {
		t.Errorf("record %d has %d factors, want password, key and code", rec.Seq, len(rec.Factors))
	}

	s.files(alice)
	s.sessions(4)
	s.stop()
	s.check()
}

// files copies a file there and back, by scp and by sftp.
func (s *sshRig) files(p *person) {
	s.Helper()
	dir := s.TempDir()
	content := bytes.Repeat([]byte("0123456789abcdef\x00\xff\r\n"), 20_000)
	from, there, back := filepath.Join(dir, "from"), filepath.Join(dir, "there"), filepath.Join(dir, "back")
	if err := os.WriteFile(from, content, 0o600); err != nil {
		s.Fatal(err)
	}
	if stdout, stderr, status := s.as(p.password, p.code(), "scp", "-J", p.name+"@gw", from, "core-sw1:"+there); status != 0 {
		s.Fatalf("scp: status %d\n%s%s", status, stdout, stderr)
	}
	batch := filepath.Join(dir, "batch")
	if err := os.WriteFile(batch, []byte("get "+there+" "+back+"\n"), 0o600); err != nil {
		s.Fatal(err)
	}
	// sftp takes -b as a wish that ssh shall ask nothing, which the last -o takes back.
	if stdout, stderr, status := s.as(p.password, p.code(), "sftp", "-o", "BatchMode=no", "-J", p.name+"@gw", "-b", batch, "core-sw1"); status != 0 {
		s.Fatalf("sftp: status %d\n%s%s", status, stdout, stderr)
	}
	if !bytes.Equal(mustRead(s, back), content) {
		s.Error("the file is another one after it went there and back")
	}
}

// sessions checks that each accepted access has a start and an end, with the bytes that went each way.
func (s *sshRig) sessions(want int) {
	s.Helper()
	starts, ends := s.records("--event", "session.start"), s.records("--event", "session.end")
	if len(starts) != want || len(ends) != want {
		s.Fatalf("%d sessions began and %d ended, want %d", len(starts), len(ends), want)
	}
	access := make(map[string]*audit.Record)
	for _, rec := range s.records("--event", "access", "--result", "accept") {
		access[rec.Session] = rec
	}
	most := 0
	for i, end := range ends {
		a := access[end.Session]
		if a == nil || a.Attempt != end.Attempt || a.Person != "alice" || end.System != "core-sw1" || starts[i].Rule != "network team" {
			s.Errorf("the records of session %s do not fit together: %s", end.Session, end.AppendJSON(nil))
		}
		for _, key := range []string{"bytes_in", "bytes_out"} {
			n, err := strconv.Atoi(detail(end, key))
			if err != nil || n < 1000 { // the least of an SSH handshake
				s.Errorf("session %s has %s %q", end.Session, key, detail(end, key))
			}
			most = max(most, n)
		}
	}
	if most < 400_000 {
		s.Errorf("no session has the bytes of the file that was copied: %d are the most", most)
	}
}

// TestEverythingElseOverSSHIsRefused asks for what is not a jump to a permitted target (P11): each is refused with a
// sentence, and recorded.
func TestEverythingElseOverSSHIsRefused(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	alice := s.enrol("alice", byCount())
	s.up()
	free := freePort(t)
	for _, c := range []struct {
		what    string
		program string
		args    []string
		say     string
		reason  login.Reason
	}{
		{"a shell", "ssh", []string{"-T", "alice@gw"}, "ssh -J alice@GATEWAY", login.ReasonCapability},
		{"a command", "ssh", []string{"alice@gw", "id"}, "ssh alice@TARGET@GATEWAY", login.ReasonCapability},
		{"sftp", "sftp", []string{"-o", "BatchMode=no", "-b", "/dev/null", "alice@gw"}, "ssh alice@TARGET@GATEWAY", login.ReasonCapability},
		{"-W to another port", "ssh", []string{"-W", "core-sw1:23", "alice@gw"}, "You may not reach core-sw1:23", login.ReasonNoTarget},
		{"-W to elsewhere", "ssh", []string{"-W", "127.0.0.1:22", "alice@gw"}, "You may not reach 127.0.0.1:22", login.ReasonNoTarget},
		{"-R", "ssh", []string{"-o", "ExitOnForwardFailure=yes", "-N", "-R", "127.0.0.1:" + free + ":127.0.0.1:1", "alice@gw"}, "remote port forwarding failed", login.ReasonCapability},
		{"-J to a target that no rule gives", "ssh", []string{"-J", "alice@gw", "secret-srv", "id"}, "You may not reach secret-srv:22", login.ReasonNoRule},
		{"-J to a target that is none", "ssh", []string{"-J", "alice@gw", "elsewhere", "id"}, "You may not reach elsewhere:22", login.ReasonNoTarget},
		{"a command at a target without a right to it", "ssh", []string{"alice@secret-srv@gw", "id"}, "You may not reach secret-srv", login.ReasonNoRule},
		{"a command at a target that is none", "ssh", []string{"alice@elsewhere@gw", "id"}, "You may not reach elsewhere", login.ReasonNoTarget},
		{"a command without an account", "ssh", []string{"alice@core-sw1@gw", "id"}, "core-sw1 has no account of its own", "account_not_served"},
	} {
		stdout, stderr, status := s.as(alice.password, alice.code(), c.program, c.args...)
		if status == 0 || !strings.Contains(stdout+stderr, c.say) || strings.Contains(stdout, "uid=") {
			t.Errorf("%s: status %d, want a refusal that says %q\n%s%s", c.what, status, c.say, stdout, stderr)
		}
		found := false
		for _, rec := range s.records("--result", "reject") {
			found = found || rec.Reason == string(c.reason)
		}
		if !found {
			t.Errorf("%s: no record has the reason %s", c.what, c.reason)
		}
		s.check()
	}
	// -L listens at the client; the refusal comes when somebody connects.
	s.localForward(alice, free)
	if n := len(s.records("--event", "session.start")); n != 0 {
		t.Errorf("%d sessions began", n)
	}
	s.stop()
	s.check()
}

// localForward runs ssh -L to a port of a permitted target that is not its SSH port, and connects.
func (s *sshRig) localForward(p *person, port string) {
	s.Helper()
	before := len(s.records("--event", "access", "--result", "reject"))
	l := exec.Command(tool(s, "ssh", "openssh-client"), "-F", s.clientConf, "-N", "-o", "ExitOnForwardFailure=yes", "-L", "127.0.0.1:"+port+":core-sw1:443", "alice@gw")
	l.Env = append(os.Environ(), "SSH_ASKPASS="+s.askpass, "SSH_ASKPASS_REQUIRE=force", "PASSWORD="+p.password, "CODE="+p.code())
	var stderr bytes.Buffer
	l.Stderr = &stderr
	if err := l.Start(); err != nil {
		s.Fatal(err)
	}
	defer func() {
		_ = l.Process.Kill()
		_ = l.Wait()
		if !strings.Contains(stderr.String(), "You may not reach core-sw1:443") {
			s.Errorf("ssh -L says %q", stderr.String())
		}
	}()
	conn := dialUntil(s, "127.0.0.1:"+port)
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		s.Errorf("a connection through ssh -L gave %d bytes", n)
	}
	recs := s.records("--event", "access", "--result", "reject")
	if len(recs) != before+1 || detail(recs[len(recs)-1], "destination") != "core-sw1:443" {
		s.Errorf("ssh -L made %d records of refusal", len(recs)-before)
	}
}

// TestPuTTYJumps reaches the target by PuTTY's plink.
func TestPuTTYJumps(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{prompts: "two-rounds"})
	alice := s.enrol("alice", byCount())
	s.up()
	stdout, stderr := s.plink(alice.password, alice.code())
	if !strings.Contains(stdout, "SSH-2.0-OpenSSH") {
		t.Errorf("plink -nc did not reach the target's sshd:\n%s%s", stdout, stderr)
	}
	s.why("plink", login.ReasonOK)
	stdout, stderr = s.plink(alice.password, "00000000")
	if strings.Contains(stdout, "SSH-2.0-OpenSSH") {
		t.Errorf("plink with a wrong code:\n%s%s", stdout, stderr)
	}
	s.why("plink with a wrong code", login.ReasonCodeWrong)
	s.stop()
	s.check()
}

// plink runs PuTTY's plink for a jump, and answers its questions when they come: it throws away what is typed before.
func (s *sshRig) plink(password, code string) (stdout, stderr string) {
	s.Helper()
	host, port, err := net.SplitHostPort(s.daemon.ssh)
	if err != nil {
		s.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(mustRead(s, layout(s.data).hostKey))
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command(tool(s, "plink", "putty-tools"), "-ssh", "-noagent", "-P", port, "-l", "alice",
		"-hostkey", ssh.FingerprintSHA256(key.PublicKey()), "-nc", "core-sw1:22", host)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + s.TempDir()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	for _, x := range [][2]string{{"Password: ", password}, {"code: ", code}} {
		until(s, "plink's "+x[0], func() bool { return strings.Contains(errs.String(), x[0]) })
		if _, err := io.WriteString(stdin, x[1]+"\n"); err != nil {
			s.Error(err)
		}
	}
	until(s, "the end of plink's login", func() bool {
		return out.String() != "" || strings.Count(errs.String(), "Password: ") > 1 || strings.Contains(errs.String(), "FATAL")
	})
	stdin.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return out.String(), errs.String()
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestOneCodeForBothDoors accepts a code at one door, and finds it used at the other (P2).
func TestOneCodeForBothDoors(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	alice := s.enrol("alice", byTime())
	s.up()
	jump := func(code string) int {
		_, _, status := s.as(alice.password, code, "ssh", "-J", "alice@gw", "core-sw1", "true")
		return status
	}
	code := alice.code()
	if answer := s.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", code)); !strings.HasPrefix(answer, "Access-Accept") {
		t.Fatalf("RADIUS: %s", answer)
	}
	if jump(code) == 0 {
		t.Error("a code that RADIUS had accepted opened SSH")
	}
	s.why("a code that RADIUS had accepted", login.ReasonCodeReused)
	code = alice.code()
	if jump(code) != 0 {
		t.Fatal("SSH with a new code failed")
	}
	if answer := s.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", code)); !strings.HasPrefix(answer, "Access-Reject") {
		t.Errorf("a code that SSH had accepted: %s", answer)
	}
	if rec := s.last("--event", "login"); rec.Reason != string(login.ReasonCodeReused) {
		t.Errorf("record %d says %s", rec.Seq, rec.Reason)
	}
	s.stop()
	s.check()
}

// freePort is a TCP port that was free a moment ago.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
