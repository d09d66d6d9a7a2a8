package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshCell is something that is done at a target: by whom, by which way in, and what.
type sshCell struct {
	client, way, target, operation string
	run                            func(c *sshTry)
}

func (c sshCell) name() string {
	return strings.NewReplacer(" ", "_", "/", "-", ",", "", "(", "", ")", "", "%", "-percent-", "@", "-at-", ">", "").
		Replace(strings.Join([]string{c.client, c.way, c.target, c.operation}, "/"))
}

// What targets are called in the table.
const (
	onSSHD    = "sshd"
	onBox     = "Dropbear"
	onSwitch  = "old switch"
	onThrough = "sshd, via another target"
)

// operation is what OpenSSH's programs do, by any way. The way's trace is the operation's, except within an opaque jump.
type operation struct {
	client, name string
	target       string // empty: srv1, which has to be recorded
	run          func(c *sshTry, wy way, target string) trace
}

func (c *sshTry) sums(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func execStatus(c *sshTry, wy way, target string) trace {
	stdout, stderr, status := c.openSSH("", "ssh", append(c.cmdline(wy, target), "echo it is reached; echo complaint >&2; exit 42")...)
	c.must("ssh", stdout, stderr, status, 42)
	if stdout != "it is reached\n" || !strings.Contains(stderr, "complaint\n") {
		c.Errorf("output %q, errors %q", stdout, stderr)
	}
	return trace{request: "exec", status: "42", out: 14, shows: "it is reached"}
}

func killed(c *sshTry, wy way, target string) trace {
	stdout, stderr, status := c.openSSH("", "ssh", append(c.cmdline(wy, target), "echo before; kill -TERM $$")...)
	c.must("ssh", stdout, stderr, status, 255) // as OpenSSH has it for a signal
	return trace{request: "exec", signal: "TERM", shows: "before"}
}

// shell types at a terminal, changes its size, and leaves with a status.
func shell(c *sshTry, wy way, target string) trace {
	options := []string{"-t"}
	x := c.atTerminal(117, 31, c.answers(c.p.password, c.p.code()), tool(c, "ssh", "openssh-client"), append([]string{"-F", c.w.conf}, c.cmdline(wy, target, options...)...)...)
	if wy.name == byMenu.name {
		x.await("where to?")
		x.typ(target)
		x.await(target)
		x.typ("\r")
	}
	x.inShell()
	if status := x.status(); status != 7 {
		c.Errorf("ssh: exit status %d, want the shell's 7", status)
	}
	return trace{request: "shell", status: "7", in: 20, shows: "size 43 150", detail: [2]string{"terminal", "xterm 117x31"}}
}

// inShell is what is typed in a shell: it shows that it has a terminal, of which size, and that it learns when that changes.
func (x *tty) inShell() {
	x.Helper()
	x.typ("echo is $((40+2)) $TERM; stty size\r")
	x.await("is 42 xterm")
	x.await("31 117")
	// An interactive shell is not of the foreground group while it runs something, and would not learn of a new size.
	x.typ(`exec sh -c 'trap "echo size \$(stty size); exit 7" WINCH; echo re""ady; while :; do sleep 0.05; done'` + "\r")
	x.await("ready")
	x.resize(150, 43)
	x.await("size 43 150")
}

func bulk(c *sshTry, wy way, target string) trace {
	stdout, stderr, status := c.openSSH(string(c.w.data), "ssh", append(c.cmdline(wy, target), "cat; echo done >&2")...)
	c.must("ssh", fmt.Sprintf("%d bytes\n", len(stdout)), stderr, status, 0)
	if c.sums([]byte(stdout)) != c.sums(c.w.data) {
		c.Errorf("%d bytes went there, and %d others came back", len(c.w.data), len(stdout))
	}
	return trace{request: "exec", status: "0", in: len(c.w.data), out: len(c.w.data)}
}

func environment(c *sshTry, wy way, target string) trace {
	stdout, stderr, status := c.openSSH("", "ssh", append(c.cmdline(wy, target, "-o", "SetEnv=LC_SALLYPORT=from-here"), "echo [$LC_SALLYPORT]")...)
	c.must("ssh", stdout, stderr, status, 0)
	if stdout != "[from-here]\n" {
		c.Errorf("the target sees %q", stdout)
	}
	return trace{request: "exec", status: "0", shows: "[from-here]"}
}

func sftpBoth(c *sshTry, wy way, target string) trace {
	from := c.dataFile("from")
	batch := fmt.Sprintf("put %s %s\nls -l %s\nrename %[2]s %[4]s\nget %[4]s %[5]s\nrm %[4]s\n", from, c.path("there"), c.tmp, c.path("moved"), c.path("back"))
	// sftp takes -b as a wish that ssh shall ask nothing, so the commands come by standard input.
	stdout, stderr, status := c.openSSH(batch, "sftp", c.cmdline(wy, target)...)
	c.must("sftp", stdout, stderr, status, 0)
	c.sameFile(c.path("back"))
	if _, err := os.Stat(c.path("moved")); err == nil {
		c.Error("rm has removed nothing")
	}
	return trace{request: "sftp", in: len(c.w.data), out: len(c.w.data), upload: c.path("there"), download: c.path("moved")}
}

func scp(up bool, request string, more ...string) func(c *sshTry, wy way, target string) trace {
	return func(c *sshTry, wy way, target string) trace {
		options, host := wy.at(c, target)
		from, to := c.dataFile("from"), c.path("to")
		e := trace{request: request}
		args := append(append([]string{}, more...), options...)
		if up {
			args, e.upload, e.in = append(args, from, host+":"+to), to, len(c.w.data)
		} else {
			args, e.download, e.out = append(args, host+":"+from, to), from, len(c.w.data)
		}
		stdout, stderr, status := c.openSSH("", "scp", args...)
		c.must("scp", stdout, stderr, status, 0)
		c.sameFile(to)
		return e
	}
}

func rsync(up bool) func(c *sshTry, wy way, target string) trace {
	return func(c *sshTry, wy way, target string) trace {
		options, host := wy.at(c, target)
		shell := strings.Join(append([]string{tool(c, "ssh", "openssh-client"), "-F", c.w.conf}, options...), " ")
		from, to := c.dataFile("from"), c.path("to")
		e := trace{request: "rsync", status: "0"}
		args := []string{"-a", "-e", shell}
		if up {
			args, e.in = append(args, from, host+":"+to), len(c.w.data)
		} else {
			args, e.out = append(args, host+":"+from, to), len(c.w.data)
		}
		stdout, stderr, status := runTool(c, "", c.answers(c.p.password, c.p.code()), tool(c, "rsync", "rsync"), args...)
		c.must("rsync", stdout, stderr, status, 0)
		c.sameFile(to)
		return e
	}
}

// localForward sends the data by ssh -L to the service beside the target.
func localForward(c *sshTry, wy way, target string) trace {
	port := freePort(c)
	args := append([]string{"-F", c.w.conf}, c.cmdline(wy, target, "-N", "-o", "ExitOnForwardFailure=yes", "-L", "127.0.0.1:"+port+":localhost:"+c.w.service)...)
	l := exec.Command(tool(c, "ssh", "openssh-client"), args...)
	l.Env = append(os.Environ(), c.answers(c.p.password, c.p.code())...)
	l.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stderr lockedBuffer
	l.Stderr = &stderr
	if err := l.Start(); err != nil {
		c.Fatal(err)
	}
	c.sumBy(dialUntil(c, "127.0.0.1:"+port))
	_ = l.Process.Signal(syscall.SIGTERM) // as one ends such an ssh
	_ = l.Wait()
	if strings.Contains(stderr.String(), "refused") {
		c.Error(stderr.String())
	}
	return trace{request: "forward", in: len(c.w.data), out: 64, recorded: endToEnd}
}

// sumBy sends the world's data to the service, and checks its answer.
func (c *sshTry) sumBy(conn net.Conn) {
	c.Helper()
	defer conn.Close()
	if _, err := conn.Write(c.w.data); err != nil {
		c.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.Fatal(err)
	}
	if sum, err := io.ReadAll(conn); err != nil || string(sum) != c.sums(c.w.data) {
		c.Errorf("the service has had other bytes: %q, %v", sum, err)
	}
}

func stdioForward(c *sshTry, wy way, target string) trace {
	stdout, stderr, status := c.openSSH(string(c.w.data), "ssh", c.cmdline(wy, target, "-W", "localhost:"+c.w.service)...)
	if stdout != c.sums(c.w.data) {
		c.Errorf("ssh -W: exit status %d, the service says %q\n%s", status, stdout, stderr)
	}
	return trace{request: "forward", in: len(c.w.data), out: 64, recorded: endToEnd}
}

// agent starts an agent with so many keys in front of those files.
func (c *sshTry) agent(others int, files ...string) (socket string) {
	c.Helper()
	socket = c.path("agent")
	cmd := exec.Command(tool(c, "ssh-agent", "openssh-client"), "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	until(c, "the agent's socket", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	for i := range others {
		other := c.path("other" + strconv.Itoa(i))
		keygen(c, other)
		files = append(files[:i:i], append([]string{other}, files[i:]...)...)
	}
	if stdout, stderr, status := runTool(c, "", []string{"SSH_AUTH_SOCK=" + socket}, tool(c, "ssh-add", "openssh-client"), append([]string{"-q"}, files...)...); status != 0 {
		c.Fatalf("ssh-add: %s%s", stdout, stderr)
	}
	return socket
}

func agentForwarded(c *sshTry, wy way, target string) trace {
	socket := c.agent(2, c.w.keyOf(c.p))
	env := append(c.answers(c.p.password, c.p.code()), "SSH_AUTH_SOCK="+socket)
	stdout, stderr, status := c.openSSHWith(env, "", "ssh", append(c.cmdline(wy, target, "-A"), "ssh-add -L | wc -l")...)
	c.must("ssh -A", stdout, stderr, status, 0)
	if strings.TrimSpace(stdout) != "3" {
		c.Errorf("the target sees %q keys of the agent", stdout)
	}
	return trace{request: "exec", status: "0"}
}

// manyKeys logs in with the eleventh key of the agent besides password and code; at the target, that key is tried first.
func manyKeys(c *sshTry, wy way, target string) trace {
	socket := c.agent(10, c.w.keyOf(c.p))
	env := append(c.answers(c.p.password, c.p.code()), "SSH_AUTH_SOCK="+socket)
	conf := "Host gw\n  PreferredAuthentications publickey,keyboard-interactive\n  IdentitiesOnly no\n" + string(mustRead(c, c.w.conf))
	c.w.file(filepath.Join(filepath.Base(c.tmp), "conf"), conf, 0o600)
	args := append([]string{"-F", c.path("conf")}, c.cmdline(wy, target, "-A")...)
	stdout, stderr, status := runTool(c, "", env, tool(c, "ssh", "openssh-client"), append(args, "echo it is reached")...)
	c.must("ssh with eleven keys", stdout, stderr, status, 0)
	logins := c.newRecords("login")
	if len(logins) != 1 || len(logins[0].Factors) != 3 {
		c.Errorf("logins on record: %+v, want one with key, password and code", logins)
	}
	return trace{request: "exec", status: "0", shows: "it is reached", connected: [2]string{"credential", "agent"}}
}

func passwordMethod(c *sshTry, wy way, target string) trace {
	env := c.answers(c.p.password+c.p.code(), "")
	conf := "Host gw\n  PreferredAuthentications password\n" + string(mustRead(c, c.w.conf))
	c.w.file(filepath.Join(filepath.Base(c.tmp), "conf"), conf, 0o600)
	args := append([]string{"-F", c.path("conf")}, c.cmdline(wy, target)...)
	stdout, stderr, status := runTool(c, "", env, tool(c, "ssh", "openssh-client"), append(args, "echo it is reached; exit 3")...)
	c.must("ssh by password", stdout, stderr, status, 3)
	return trace{request: "exec", status: "3", shows: "it is reached"}
}

func subsystem(c *sshTry, wy way, target string) trace {
	cmd := exec.Command(tool(c, "ssh", "openssh-client"), append([]string{"-F", c.w.conf}, append(c.cmdline(wy, target, "-s"), "sftp")...)...)
	cmd.Env = append(os.Environ(), c.answers(c.p.password, c.p.code())...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		c.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	// SSH_FXP_INIT of version 3, and what a server answers: its own version.
	if _, err := io.WriteString(in, "\x00\x00\x00\x05\x01\x00\x00\x00\x03"); err != nil {
		c.Fatal(err)
	}
	var answer [9]byte
	if _, err := io.ReadFull(out, answer[:]); err != nil || answer[4] != 2 || answer[8] != 3 {
		c.Errorf("ssh -s sftp: %q, %v", answer, err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		c.Errorf("ssh -s sftp: %v", err)
	}
	return trace{request: "sftp", in: 9, out: 9}
}

// operations are what OpenSSH's programs do by every way that leads to a target.
func operations() []operation {
	return []operation{
		{client: "ssh", name: "exec, exit status", run: execStatus},
		{client: "ssh", name: "exec, killed by a signal", run: killed},
		{client: "ssh", name: "shell, window size", run: shell},
		{client: "ssh", name: "4 MiB in and out", run: bulk},
		{client: "ssh", name: "environment", run: environment},
		{client: "ssh", name: "subsystem", run: subsystem},
		{client: "sftp", name: "put, ls, rename, get, rm", run: sftpBoth},
		{client: "scp", name: "upload", run: scp(true, "sftp")},
		{client: "scp", name: "download", run: scp(false, "sftp")},
		{client: "scp -O", name: "upload", run: scp(true, "scp", "-O")},
		{client: "scp -O", name: "download", run: scp(false, "scp", "-O")},
		{client: "rsync", name: "upload", run: rsync(true)},
		{client: "rsync", name: "download", run: rsync(false)},
		{client: "ssh -L", name: "4 MiB to a port", target: "ports1", run: localForward},
		{client: "ssh -W", name: "4 MiB to a port", target: "ports1", run: stdioForward},
		{client: "ssh -A", name: "agent at the target", target: "ports1", run: agentForwarded},
		{client: "ssh -A", name: "ten keys before the right one", target: "agent1", run: manyKeys},
		{client: "ssh", name: "password method", run: passwordMethod},
	}
}

// recordedAs is what a session's start says of its recording.
func recordedAs(e trace, target string, wy way) string {
	switch {
	case e.recorded != "":
		return e.recorded
	case e.request == "sftp" || e.request == "scp": // rsync is recorded like any command
		return byTransfers
	case target == "ports1" && !wy.jump:
		return notRecorded
	}
	return isRecorded
}

// cellsOf makes cells of the operations by a way.
func cellsOf(wy way, ops []operation) (cells []sshCell) {
	for _, op := range ops {
		target := op.target
		if target == "" {
			target = "srv1"
		}
		if wy.name == byOpaque.name {
			if target == "agent1" {
				continue // the gateway uses no agent there
			}
			target = "open1"
		}
		cells = append(cells, sshCell{op.client, wy.name, onSSHD, op.name, func(c *sshTry) {
			e := op.run(c, wy, target)
			e.system = target
			e.recorded = recordedAs(e, target, wy)
			if wy.name == byOpaque.name {
				e = trace{request: "direct-tcpip", system: target, account: "unknown", recorded: endToEnd, in: e.in, out: e.out}
			}
			c.onRecord(e)
		}})
	}
	return cells
}

// master opens one login for many sessions, and closes it when the cell ends.
func (c *sshTry) master(wy way, target string) (options []string, host string) {
	c.Helper()
	options, host = wy.at(c, target)
	options = append([]string{"-S", c.path("m")}, options...)
	args := append(append([]string{}, options...), "-o", "ControlMaster=yes", "-o", "ControlPersist=yes", "-N", "-f", host)
	stdout, stderr, status := c.openSSH("", "ssh", args...)
	c.must("the master", stdout, stderr, status, 0)
	c.Cleanup(func() { c.openSSHWith(nil, "", "ssh", append(append([]string{}, options...), "-O", "exit", host)...) })
	return options, host
}

// shared runs several sessions on one login.
func shared(wy way, target string) func(c *sshTry) {
	return func(c *sshTry) {
		options, host := c.master(wy, target)
		want := make([]trace, 0, 4)
		for i := range 3 {
			stdout, stderr, status := c.openSSHWith(c.answers("", ""), "", "ssh", append(append([]string{}, options...), host, fmt.Sprintf("echo session %d; exit %[1]d", i))...)
			c.must("a session of the master", stdout, stderr, status, i)
			want = append(want, trace{request: "exec", system: target, status: strconv.Itoa(i), recorded: isRecorded, shows: fmt.Sprintf("session %d", i)})
		}
		stdout, stderr, status := c.openSSHWith(c.answers("", ""), fmt.Sprintf("put %s %s\n", c.dataFile("from"), c.path("there")), "sftp",
			append([]string{"-o", "ControlPath=" + c.path("m")}, append(options[2:], host)...)...)
		c.must("sftp over the master", stdout, stderr, status, 0)
		c.sameFile(c.path("there"))
		c.onRecord(append(want, trace{request: "sftp", system: target, recorded: byTransfers, upload: c.path("there"), in: len(c.w.data)})...)
		if n := len(c.newRecords("login")); n != 1 {
			c.Errorf("%d logins are on record, want the master's", n)
		}
	}
}

// sharedJump runs several jumps over one login at the gateway.
func sharedJump(c *sshTry) {
	options, host := c.master(way{at: func(c *sshTry, _ string) ([]string, string) { return []string{"-o", "User=" + c.p.name}, "gw" }}, "")
	proxy := strings.Join(append([]string{tool(c, "ssh", "openssh-client"), "-F", c.w.conf}, options...), " ") + " -W %h:%p " + host
	var want []trace
	for i := range 3 {
		stdout, stderr, status := c.openSSHWith(c.answers("", ""), "", "ssh", "-o", "ProxyCommand="+proxy, "srv1", fmt.Sprintf("echo jump %d; exit %[1]d", i))
		c.must("a jump over the master", stdout, stderr, status, i)
		want = append(want, trace{request: "exec", system: "srv1", status: strconv.Itoa(i), recorded: isRecorded, shows: fmt.Sprintf("jump %d", i)})
	}
	c.onRecord(want...)
	if n := len(c.newRecords("login")); n != 1 {
		c.Errorf("%d logins are on record, want the master's", n)
	}
}

// doneAt is an operation at a target by a way, whose connection to the target says something.
func doneAt(run func(c *sshTry, wy way, target string) trace, wy way, target string, connected [2]string) func(c *sshTry) {
	return func(c *sshTry) {
		e := run(c, wy, target)
		e.system, e.account, e.connected = target, c.accountAt(target), connected
		e.recorded = recordedAs(e, target, wy)
		c.onRecord(e)
	}
}

// throughHop counts that the hop is really gone through.
func throughHop(c *sshTry) {
	before := c.w.hop.accepted.Load()
	doneAt(execStatus, byAt, "deep1", [2]string{"via", "hop1"})(c)
	if n := c.w.hop.accepted.Load() - before; n < 1 {
		c.Error("nobody came by the target that lies between")
	}
}

// hopDuring lets files go through a hop, too.
func hopFiles(c *sshTry) { doneAt(sftpBoth, byJump, "deep1", [2]string{"via", "hop1"})(c) }

// atSwitch logs in at the old switch and enters its enable mode.
func atSwitch(wy way, target, asked string) func(c *sshTry) {
	return func(c *sshTry) {
		args := append([]string{"-F", c.w.conf}, c.cmdline(wy, target, "-t")...)
		x := c.atTerminal(80, 24, c.answers(c.p.password, c.p.code()), tool(c, "ssh", "openssh-client"), args...)
		if wy.name == byMenu.name {
			x.await("where to?")
			x.typ(target)
			x.await(target)
			x.typ("\r")
		}
		if asked != "" {
			x.await(target + " asks:")
			x.await(asked)
			x.typ(switchPassword + "\r")
		}
		x.await("sw1>")
		x.typ("show privilege\r")
		x.await("level is 1\r")
		x.typ("enable\r")
		x.await("Password: ")
		x.typ("a guess\r")
		x.await("% Access denied")
		x.typ("enable\r" + enablePassword + "\r")
		x.await("sw1#")
		x.typ("show privilege\r")
		x.await("level is 15")
		x.typ("exit\r")
		_ = x.status() // the switch says none, as old kit does
		if strings.Contains(x.out.String(), enablePassword) || strings.Contains(x.out.String(), switchPassword) {
			c.Error("a password was shown")
		}
		credential := "password"
		if target == "swask1" {
			credential = "ask"
		}
		c.onRecord(trace{
			request: "shell", system: target, account: switchAccount, recorded: isRecorded, shows: "Current privilege level is 15", in: 40,
			connected: [2]string{"credential", credential},
		})
		for _, rec := range c.newRecords("session.connected") {
			if rec.Result != "info" {
				continue // nobody could be asked while he logged in
			}
			if got := detail(rec, "legacy"); !containsAll(got, "diffie-hellman-group1-sha1", "3des-cbc", "ssh-rsa", "hmac-sha1", "rsa-1024") {
				c.Errorf("the algorithms of old on record are %q", got)
			}
		}
	}
}

// noExec asks the old switch for what it has not: it is told so, and nothing is left open.
func noExec(c *sshTry) {
	_, stderr, status := c.openSSH("", "ssh", append(c.cmdline(byAt, "sw1"), "show version")...)
	if status == 0 || !strings.Contains(stderr, "did not start what you asked for") {
		c.Errorf("ssh: exit status %d\n%s", status, stderr)
	}
	c.onRecord(trace{request: "exec", system: "sw1", account: switchAccount, recorded: isRecorded})
}

// --- PuTTY

func plinkExec(user func(c *sshTry) string) func(c *sshTry) {
	return func(c *sshTry) {
		stdout, stderr, status := c.putty(user(c), "", "plink", "-ssh", "-no-antispoof", "GATEWAY", "echo it is reached; exit 42")
		c.must("plink", stdout, stderr, status, 42)
		if stdout != "it is reached\n" {
			c.Errorf("output %q", stdout)
		}
		c.onRecord(trace{request: "exec", system: "srv1", status: "42", recorded: isRecorded, shows: "it is reached"})
	}
}

func plinkBulk(c *sshTry) {
	stdout, stderr, status := c.putty(c.p.name+"@srv1", string(c.w.data), "plink", "-ssh", "-no-antispoof", "GATEWAY", "cat")
	c.must("plink", fmt.Sprintf("%d bytes\n", len(stdout)), stderr, status, 0)
	if c.sums([]byte(stdout)) != c.sums(c.w.data) {
		c.Errorf("%d bytes went there, and %d others came back", len(c.w.data), len(stdout))
	}
	c.onRecord(trace{request: "exec", system: "srv1", status: "0", recorded: isRecorded, in: len(c.w.data), out: len(c.w.data)})
}

// plinkShell is PuTTY at a terminal, where it asks.
func plinkShell(wy way) func(c *sshTry) {
	return func(c *sshTry) {
		host, port := c.w.hostPort()
		user := c.p.name + "@srv1"
		if wy.name == byMenu.name {
			user = c.p.name
		}
		x := c.atTerminal(117, 31, []string{"HOME=" + c.tmp, "TERM=xterm"}, tool(c, "plink", "putty-tools"), "-ssh", "-no-antispoof", "-noagent", "-P", port, "-l", user,
			"-hostkey", ssh.FingerprintSHA256(c.w.hostKey), host)
		for _, q := range c.login() {
			x.await(q[0])
			x.typ(q[1] + "\r")
		}
		if wy.name == byMenu.name {
			x.await("where to?")
			x.typ("srv1")
			x.await("srv1")
			x.typ("\r")
		}
		// Plink takes no notice of a new size.
		x.typ("echo is $((40+2)); stty size; exit 7\r")
		x.await("is 42")
		x.await("31 117")
		if status := x.status(); status != 7 {
			c.Errorf("plink: exit status %d, want the shell's 7", status)
		}
		c.onRecord(trace{request: "shell", system: "srv1", status: "7", recorded: isRecorded, shows: "is 42"})
	}
}

func plinkPassword(c *sshTry) {
	host, port := c.w.hostPort()
	file := c.path("pw")
	if err := os.WriteFile(file, []byte(c.p.password+c.p.code()+"\n"), 0o600); err != nil {
		c.Fatal(err)
	}
	c.puttySession("plain", "HostName="+host, "PortNumber="+port, "Protocol=ssh", "AuthKI=0")
	stdout, stderr, status := c.prompted(nil, nil, "", tool(c, "plink", "putty-tools"), "-noagent", "-no-antispoof", "-l", c.p.name+"@srv1", "-pwfile", file,
		"-hostkey", ssh.FingerprintSHA256(c.w.hostKey), "-load", "plain", "echo it is reached; exit 3")
	c.must("plink", stdout, stderr, status, 3)
	c.onRecord(trace{request: "exec", system: "srv1", status: "3", recorded: isRecorded, shows: "it is reached"})
}

// puttySession saves a session, as PuTTY's window does.
func (c *sshTry) puttySession(name string, lines ...string) {
	c.Helper()
	dir := filepath.Join(c.tmp, ".putty", "sessions")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		c.Fatal(err)
	}
}

// puttyJump has PuTTY reach a target by its proxy of type "SSH to proxy and use port forwarding", with our CA among its host CAs.
func (c *sshTry) puttyJump(target string) (args []string) {
	c.Helper()
	host, port := c.w.hostPort()
	c.puttySession("jump", "HostName="+target, "PortNumber=22", "Protocol=ssh", "UserName="+c.accountAt(target), "ProxyMethod=6", "ProxyHost="+host, "ProxyPort="+port, "ProxyUsername="+c.p.name, "ProxyLocalhost=1", "TryAgent=0")
	ca := strings.Fields(c.w.hostCA) // @cert-authority PATTERNS TYPE KEY
	dir := filepath.Join(c.tmp, ".putty", "sshhostcas")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gateway"), []byte("PublicKey="+ca[3]+"\nValidity=*\n"), 0o600); err != nil {
		c.Fatal(err)
	}
	return []string{"-load", "jump"}
}

func puttyJumpExec(c *sshTry) {
	args := c.puttyJump("srv1")
	c.trustGateway()
	stdout, stderr, status := c.prompted(nil, c.login(), "", tool(c, "plink", "putty-tools"), append(append([]string{"-noagent", "-no-antispoof"}, args...), "echo it is reached; exit 42")...)
	c.must("plink", stdout, stderr, status, 42)
	c.onRecord(trace{request: "exec", system: "srv1", status: "42", recorded: isRecorded, shows: "it is reached"})
}

// trustGateway puts the gateway's host key where PuTTY has those that it knows.
func (c *sshTry) trustGateway() {
	c.Helper()
	host, port := c.w.hostPort()
	// PuTTY's own form of an ed25519 key: x and y of the point.
	x, y := edPoint(c, c.w.hostKey)
	line := fmt.Sprintf("ssh-ed25519@%s:%s 0x%x,0x%x\n", port, host, x, y)
	if err := os.WriteFile(filepath.Join(c.tmp, ".putty", "sshhostkeys"), []byte(line), 0o600); err != nil {
		c.Fatal(err)
	}
}

// edPoint is the point of an ed25519 key (RFC 8032 section 5.1.3).
func edPoint(t testing.TB, key ssh.PublicKey) (x, y *big.Int) {
	t.Helper()
	wire, ok := key.(ssh.CryptoPublicKey).CryptoPublicKey().(ed25519.PublicKey)
	if !ok {
		t.Fatalf("the gateway's host key is a %s", key.Type())
	}
	b := slices.Clone(wire)
	odd := b[31]>>7 == 1
	b[31] &= 0x7f
	slices.Reverse(b)
	y = new(big.Int).SetBytes(b)
	one := big.NewInt(1)
	p := new(big.Int).Sub(new(big.Int).Lsh(one, 255), big.NewInt(19))
	d := new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), p))
	yy := new(big.Int).Mul(y, y)
	below := new(big.Int).Add(new(big.Int).Mul(d, yy), one)
	x = new(big.Int).Mul(new(big.Int).Sub(yy, one), new(big.Int).ModInverse(below.Mod(below, p), p))
	if x.ModSqrt(x.Mod(x, p), p) == nil {
		t.Fatal("the gateway's host key is no point")
	}
	if (x.Bit(0) == 1) != odd {
		x.Sub(p, x)
	}
	return x, y
}

func psftpBoth(user func(c *sshTry) string) func(c *sshTry) {
	return func(c *sshTry) {
		from := c.dataFile("from")
		batch := fmt.Sprintf("put %s %s\nmv %[2]s %[3]s\nget %[3]s %[4]s\nrm %[3]s\nquit\n", from, c.path("there"), c.path("moved"), c.path("back"))
		stdout, stderr, status := c.putty(user(c), batch, "psftp", "GATEWAY")
		c.must("psftp", stdout, stderr, status, 0)
		c.sameFile(c.path("back"))
		c.onRecord(trace{request: "sftp", system: "srv1", recorded: byTransfers, upload: c.path("there"), download: c.path("moved"), in: len(c.w.data), out: len(c.w.data)})
	}
}

func pscp(up bool, how, request string) func(c *sshTry) {
	return func(c *sshTry) {
		from, to := c.dataFile("from"), c.path("to")
		e := trace{request: request, system: "srv1", recorded: byTransfers}
		args := []string{how}
		if up {
			args, e.upload, e.in = append(args, from, "GATEWAY:"+to), to, len(c.w.data)
		} else {
			args, e.download, e.out = append(args, "GATEWAY:"+from, to), from, len(c.w.data)
		}
		stdout, stderr, status := c.putty(c.p.name+"@srv1", "", "pscp", args...)
		c.must("pscp", stdout, stderr, status, 0)
		c.sameFile(to)
		c.onRecord(e)
	}
}

// --- Dropbear's client

func (c *sshTry) dbclient(user, stdin string, args ...string) (stdout, stderr string, status int) {
	c.Helper()
	host, port := c.w.hostPort()
	if err := os.MkdirAll(c.path(".ssh"), 0o700); err != nil {
		c.Fatal(err)
	}
	if err := os.WriteFile(c.path(".ssh/known_hosts"), []byte(host+" "+string(ssh.MarshalAuthorizedKey(c.w.hostKey))), 0o600); err != nil {
		c.Fatal(err)
	}
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "GATEWAY", host)
	}
	return c.prompted(nil, c.login(), stdin, tool(c, "dbclient", "dropbear-bin"), append([]string{"-p", port, "-l", user}, args...)...)
}

func dbclientExec(c *sshTry) {
	stdout, stderr, status := c.dbclient(c.p.name+"@srv1", "", "GATEWAY", "echo it is reached; exit 42")
	c.must("dbclient", stdout, stderr, status, 42)
	if stdout != "it is reached\n" {
		c.Errorf("output %q", stdout)
	}
	c.onRecord(trace{request: "exec", system: "srv1", status: "42", recorded: isRecorded, shows: "it is reached"})
}

func dbclientBulk(c *sshTry) {
	stdout, stderr, status := c.dbclient(c.p.name+"@srv1", string(c.w.data), "GATEWAY", "cat")
	c.must("dbclient", fmt.Sprintf("%d bytes\n", len(stdout)), stderr, status, 0)
	if c.sums([]byte(stdout)) != c.sums(c.w.data) {
		c.Errorf("%d bytes went there, and %d others came back", len(c.w.data), len(stdout))
	}
	c.onRecord(trace{request: "exec", system: "srv1", status: "0", recorded: isRecorded, in: len(c.w.data), out: len(c.w.data)})
}

// dbclientPort sends the data to a port by -B, which is ssh -W.
func dbclientPort(c *sshTry) {
	stdout, stderr, status := c.dbclient(c.p.name+"@ports1", string(c.w.data), "-B", "localhost:"+c.w.service, "GATEWAY")
	if stdout != c.sums(c.w.data) {
		c.Errorf("dbclient -B: exit status %d, the service says %q\n%s", status, stdout, stderr)
	}
	c.onRecord(trace{request: "forward", system: "ports1", recorded: endToEnd, in: len(c.w.data), out: 64})
}

// --- x/crypto, for what the programs cannot do

func (c *sshTry) session(client *ssh.Client) *ssh.Session {
	c.Helper()
	s, err := client.NewSession()
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { s.Close() })
	return s
}

// signalled sends a signal to the target's program. Dropbear takes it; sshd does not from root.
func signalled(wy way) func(c *sshTry) {
	return func(c *sshTry) {
		s := c.session(c.dial(wy, "box1"))
		out, err := s.StdoutPipe()
		if err != nil {
			c.Fatal(err)
		}
		if err := s.Start("echo ready; exec sleep 300"); err != nil {
			c.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			c.Fatal(err)
		}
		if err := s.Signal(ssh.SIGTERM); err != nil {
			c.Fatal(err)
		}
		err = s.Wait()
		if exit, ok := err.(*ssh.ExitError); !ok || exit.Signal() != "TERM" {
			c.Errorf("the program ended with %v, want SIGTERM", err)
		}
		c.onRecord(trace{request: "exec", system: "box1", account: boxAccount, signal: "TERM", recorded: isRecorded, shows: "ready"})
	}
}

// zeroSize asks for a terminal of no size, and gives it one later.
func zeroSize(wy way) func(c *sshTry) {
	return func(c *sshTry) {
		s := c.session(c.dial(wy, "srv1"))
		if err := s.RequestPty("vt100", 0, 0, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
			c.Fatal(err)
		}
		var out lockedBuffer
		s.Stdout = &out
		in, err := s.StdinPipe()
		if err != nil {
			c.Fatal(err)
		}
		if err := s.Start("stty size; trap 'echo now $(stty size); exit 9' WINCH; echo ready; while :; do sleep 0.05; done"); err != nil {
			c.Fatal(err)
		}
		until(c, "the program", func() bool { return strings.Contains(out.String(), "ready") })
		if err := s.WindowChange(57, 132); err != nil {
			c.Fatal(err)
		}
		err = s.Wait()
		in.Close()
		if exit, ok := err.(*ssh.ExitError); !ok || exit.ExitStatus() != 9 || !containsAll(out.String(), "0 0", "now 57 132") {
			c.Errorf("%v, %q", err, out.String())
		}
		c.onRecord(trace{request: "exec", system: "srv1", status: "9", recorded: isRecorded, shows: "now 57 132", detail: [2]string{"terminal", "vt100 0x0"}})
	}
}

// atOnce runs many sessions of one login at the same time.
func atOnce(wy way) func(c *sshTry) {
	return func(c *sshTry) {
		const n = 9
		client := c.dial(wy, "srv1")
		sessions := make([]*ssh.Session, n)
		var outs [n]bytes.Buffer
		for i := range sessions {
			s := c.session(client)
			s.Stdin, s.Stdout = bytes.NewReader(c.w.data[i<<18:(i+1)<<18]), &outs[i]
			if err := s.Start("cat"); err != nil {
				c.Fatal(err)
			}
			sessions[i] = s
		}
		want := make([]trace, n)
		for i, s := range sessions {
			if err := s.Wait(); err != nil || !bytes.Equal(outs[i].Bytes(), c.w.data[i<<18:(i+1)<<18]) {
				c.Errorf("session %d: %v, %d bytes", i, err, outs[i].Len())
			}
			want[i] = trace{request: "exec", system: "srv1", status: "0", recorded: isRecorded, in: 1 << 18, out: 1 << 18}
		}
		c.onRecord(want...)
	}
}

// sshMatrix is what TestSSHMatrix tries.
func sshMatrix() []sshCell {
	var cells []sshCell
	for _, wy := range []way{byAt, byJump, byOpaque} {
		cells = append(cells, cellsOf(wy, operations())...)
	}
	few := []operation{
		{client: "ssh", name: "exec, exit status", run: execStatus},
		{client: "ssh", name: "shell, window size", run: shell},
		{client: "sftp", name: "put, ls, rename, get, rm", run: sftpBoth},
		{client: "scp -O", name: "upload", run: scp(true, "scp", "-O")},
		{client: "rsync", name: "download", run: rsync(false)},
	}
	cells = append(cells, cellsOf(byPercent, few)...)
	cells = append(cells, cellsOf(byThree, few)...)
	cells = append(cells, cellsOf(byMenu, few[1:2])...)
	byUser := func(c *sshTry) string { return c.p.name + "@srv1" }
	byUserThree := func(c *sshTry) string { return c.p.name + "%" + c.w.account + "%srv1" }
	at := func(connected string) [2]string { return [2]string{"credential", connected} }
	return append(cells, []sshCell{
		{"ssh, ControlMaster", byAt.name, onSSHD, "exec and sftp, one login", shared(byAt, "srv1")},
		{"ssh, ControlMaster", byJump.name, onSSHD, "exec and sftp, one login", shared(byJump, "srv1")},
		{"ssh, ControlMaster", "recorded jumps over one login", onSSHD, "exec", sharedJump},

		{"ssh", byAt.name, onSSHD, "credential key", doneAt(execStatus, byAt, "srv1", at("key"))},
		{"ssh", byAt.name, onSSHD, "credential ca", doneAt(execStatus, byAt, "ca1", at("ca"))},
		{"ssh", byJump.name, onSSHD, "credential ca", doneAt(sftpBoth, byJump, "ca1", at("ca"))},
		{"ssh", byAt.name, onBox, "credential key", doneAt(execStatus, byAt, "box1", at("key"))},
		{"ssh", byJump.name, onBox, "credential key", doneAt(bulk, byJump, "box1", at("key"))},
		{"ssh", byAt.name, onBox, "credential password", doneAt(execStatus, byAt, "boxpw1", at("password"))},
		{"ssh", byAt.name, onBox, "credential ask, at the terminal", askedAtBox},
		{"ssh", byAt.name, onBox, "shell, window size", doneAt(shell, byAt, "box1", at("key"))},
		{"sftp", byAt.name, onBox, "put, ls, rename, get, rm", doneAt(sftpBoth, byAt, "box1", at("key"))},
		{"scp -O", byJump.name, onBox, "upload", doneAt(scp(true, "scp", "-O"), byJump, "box1", at("key"))},
		{"rsync", byAt.name, onBox, "upload", doneAt(rsync(true), byAt, "box1", at("key"))},
		{"ssh", byAt.name, onSwitch, "credential password, shell, enable", atSwitch(byAt, "sw1", "")},
		{"ssh", byThree.name, onSwitch, "credential password, shell, enable", atSwitch(byThree, "sw1", "")},
		{"ssh", byJump.name, onSwitch, "credential password, shell, enable", atSwitch(byJump, "sw1", "")},
		{"ssh", byMenu.name, onSwitch, "credential password, shell, enable", atSwitch(byMenu, "sw1", "")},
		{"ssh", byAt.name, onSwitch, "credential ask, at the terminal", atSwitch(byAt, "swask1", "Password: ")},
		{"ssh", byJump.name, onSwitch, "credential ask, at the login", atSwitch(byJump, "swask1", "")},
		{"ssh", byAt.name, onSwitch, "exec, which it has not", noExec},
		{"ssh", byAt.name, onThrough, "exec, exit status", throughHop},
		{"sftp", byJump.name, onThrough, "put, ls, rename, get, rm", hopFiles},

		{"plink", byAt.name, onSSHD, "exec, exit status", plinkExec(byUser)},
		{"plink", "PERSON%ACCOUNT%TARGET", onSSHD, "exec, exit status", plinkExec(byUserThree)},
		{"plink", byAt.name, onSSHD, "4 MiB in and out", plinkBulk},
		{"plink", byAt.name, onSSHD, "shell, window size", plinkShell(byAt)},
		{"plink", byMenu.name, onSSHD, "shell, window size", plinkShell(byMenu)},
		{"plink", byAt.name, onSSHD, "password method", plinkPassword},
		{"plink, SSH proxy", byJump.name, onSSHD, "exec, exit status", puttyJumpExec},
		{"psftp", byAt.name, onSSHD, "put, mv, get, rm", psftpBoth(byUser)},
		{"psftp", "PERSON%ACCOUNT%TARGET", onSSHD, "put, mv, get, rm", psftpBoth(byUserThree)},
		{"pscp -sftp", byAt.name, onSSHD, "upload", pscp(true, "-sftp", "sftp")},
		{"pscp -sftp", byAt.name, onSSHD, "download", pscp(false, "-sftp", "sftp")},
		{"pscp -scp", byAt.name, onSSHD, "upload", pscp(true, "-scp", "scp")},
		{"pscp -scp", byAt.name, onSSHD, "download", pscp(false, "-scp", "scp")},

		{"dbclient", byAt.name, onSSHD, "exec, exit status", dbclientExec},
		{"dbclient", byAt.name, onSSHD, "4 MiB in and out", dbclientBulk},
		{"dbclient -B", byAt.name, onSSHD, "4 MiB to a port", dbclientPort},

		{"x/crypto", byAt.name, onBox, "signal from the client", signalled(byAt)},
		{"x/crypto", byJump.name, onBox, "signal from the client", signalled(byJump)},
		{"x/crypto", byAt.name, onSSHD, "terminal of no size, then of one", zeroSize(byAt)},
		{"x/crypto", byJump.name, onSSHD, "terminal of no size, then of one", zeroSize(byJump)},
		{"x/crypto", byThree.name, onSSHD, "nine sessions at once", atOnce(byThree)},
		{"x/crypto", byJump.name, onSSHD, "nine sessions at once", atOnce(byJump)},
	}...)
}

// askedAtBox answers Dropbear's own question at the terminal.
func askedAtBox(c *sshTry) {
	x := c.atTerminal(80, 24, c.answers(c.p.password, c.p.code()), tool(c, "ssh", "openssh-client"), append([]string{"-F", c.w.conf}, append(c.cmdline(byAt, "boxask1", "-t"), "echo it is $((40+2)); exit 4")...)...)
	x.await("boxask1 asks:")
	x.await("assword")
	x.typ(boxPassword + "\r")
	x.await("it is 42")
	if status := x.status(); status != 4 {
		c.Errorf("exit status %d", status)
	}
	c.onRecord(trace{request: "exec", system: "boxask1", account: boxAccount, status: "4", recorded: isRecorded, shows: "it is 42", connected: [2]string{"credential", "ask"}})
}

// TestSSHMatrix does everything of the matrix, with the real gateway and real targets. After each cell its sessions are on record
// with account, request, exit status and bytes, files with their sums, recordings are played with the auditor's key, and the log
// verifies. What it has tried is docs/ssh/README.md.
func TestSSHMatrix(t *testing.T) {
	t.Parallel()
	w := newSSHWorld(t)
	var tried atomic.Int64
	t.Run("cell", func(t *testing.T) {
		for _, cell := range sshMatrix() {
			t.Run(cell.name(), func(t *testing.T) {
				t.Parallel()
				tried.Add(1)
				cell.run(w.try(t))
			})
		}
	})
	w.stop()
	w.check()
	if int(tried.Load()) != len(sshMatrix()) || t.Failed() {
		return
	}
	const file = "../../docs/ssh/README.md"
	got := renderSSHMatrix(sshMatrix())
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := mustRead(t, file); !bytes.Equal(got, want) {
		t.Errorf("%s is not what the tests try: go test ./cmd/sallyport -run TestSSHMatrix -update", file)
	}
}

func renderSSHMatrix(cells []sshCell) []byte {
	var b bytes.Buffer
	b.WriteString(`# What was tried over SSH

Each row is something that a test does with the real gateway, the client named and a real target. Status, signal, output and files
arrive exactly; the session is on record with account, request, exit status and bytes; each file that was moved is on record with its
SHA-256; recordings are played with the auditor's key and show what the target wrote; the log verifies. ` + "`go test ./cmd/sallyport -run TestSSHMatrix`" + `
takes them all, and wrote this page.

Programs are as Debian 12 has them: OpenSSH 9.2, PuTTY 0.78, Dropbear 2022.83, rsync 3.2. The old switch is a program of the tests: it offers
diffie-hellman-group1-sha1, 3des-cbc, hmac-sha1 and an RSA key of 1,024 bits, asks for its password by a prompt, and has a shell with
` + "`enable`" + ` and nothing else. How a target is set up is in [targets.md](targets.md).

| client | way in | target | operation | test |
|---|---|---|---|---|
`)
	for _, c := range cells {
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | `TestSSHMatrix/cell/%s` |\n", c.client, c.way, c.target, c.operation, c.name())
	}
	return b.Bytes()
}
