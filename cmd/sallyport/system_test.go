package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/otp"
)

// TestInheritedSockets starts the daemon as a supervisor does that opens the sockets itself.
func TestInheritedSockets(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("bob", byCount())
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	var files []*os.File
	for _, s := range []interface{ File() (*os.File, error) }{udp.(*net.UDPConn), tcp.(*net.TCPListener)} {
		f, err := s.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	d := r.start(func(cmd *exec.Cmd) {
		cmd.ExtraFiles = files
		cmd.Args = append(cmd.Args, "--listen-fds", "2")
	})
	if d.radius != udp.LocalAddr().String() || d.ssh != tcp.Addr().String() {
		t.Errorf("it serves RADIUS at %s and SSH at %s, and was given %s and %s", d.radius, d.ssh, udp.LocalAddr(), tcp.Addr())
	}
	if got := newNAS(t, fromCode, d.radius).ask(t, "bob", p.code(), nil); got.Code != radius.CodeAccessAccept {
		t.Errorf("RADIUS over an inherited socket answers %v", got.Code)
	}
	conn, err := net.Dial("tcp", d.ssh)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "SSH-2.0-") {
		t.Errorf("SSH over an inherited socket says %q, %v", line, err)
	}
	conn.Close()
	r.stop()
	r.check()
}

// TestTellsSystemd receives what the daemon tells systemd: ready, reloading, ready again, stopping (sd_notify(3)).
func TestTellsSystemd(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	path := filepath.Join(r.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	next := func(want string) {
		t.Helper()
		if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := l.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Fatalf("the daemon tells %q, %v; want %s", buf[:n], err, want)
		}
		if strings.HasPrefix(want, "RELOADING") && !strings.Contains(string(buf[:n]), "MONOTONIC_USEC=") {
			t.Errorf("%q is without the time that systemd wants", buf[:n])
		}
	}
	r.start(func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path) })
	next("READY=1")
	r.ok("reload")
	next("RELOADING=1")
	next("READY=1")
	r.stop()
	next("STOPPING=1")
	r.check()
}

// TestDemo runs the demo as the README says, and logs in with what it prints: over RADIUS and, by stock ssh, over SSH.
// It ends by itself and leaves nothing.
func TestDemo(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	cmd := exec.Command(program(t), "demo", "--for", "15s", "--json")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(stdout)
	line, err := in.ReadBytes('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		t.Fatalf("demo: %v, %s", err, stderr.String())
	}
	var info demoInfo
	if err := json.Unmarshal(line, &info); err != nil {
		t.Error(err)
	}
	v := reflect.ValueOf(info)
	for i := range v.NumField() {
		if v.Field(i).String() == "" {
			t.Errorf("the demo's %s is empty", v.Type().Field(i).Name)
		}
	}
	demoLogins(t, info)

	if rest, err := in.ReadString(0); rest != "" {
		t.Errorf("the demo goes on to print %q, %v", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("demo: %v\n%s", err, stderr.String())
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v, %v", left, err)
	}
}

func demoLogins(t *testing.T, info demoInfo) {
	t.Helper()
	p := &person{name: info.Person, password: info.Password, params: otp.Default(), seed: seedOf(t, info.URI), last: -1}
	n := newNAS(t, "127.0.0.1", info.RADIUS)
	n.secret = []byte(info.Secret)
	challenge := n.ask(t, info.Person, info.Password, nil)
	if challenge.Code != radius.CodeAccessChallenge {
		t.Fatalf("the demo's RADIUS answers %v", challenge.Code)
	}
	if got := n.ask(t, info.Person, p.code(), rfc2865.State_Get(challenge)); got.Code != radius.CodeAccessAccept {
		t.Errorf("the demo's RADIUS answers a code with %v", got.Code)
	}
	askpass := filepath.Join(t.TempDir(), "askpass")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$1\" in *assword*) echo '%s';; *) echo %s;; esac\n", info.Password, p.code())
	if err := os.WriteFile(askpass, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := runTool(t, "", []string{"SSH_ASKPASS=" + askpass, "SSH_ASKPASS_REQUIRE=force"},
		tool(t, "ssh", "openssh-client"), "-F", info.SSHConfig, info.Target, "hello")
	if status != 0 || !containsAll(stdout, "came through the gateway", "hello") {
		t.Errorf("ssh to the demo's target: status %d\n%s%s", status, stdout, stderr)
	}
	config := []string{"SALLYPORT_CONFIG=" + info.Config}
	if stdout, stderr, status := runTool(t, "", config, program(t), "audit", "verify"); status != exitDone {
		t.Errorf("audit verify in the demo: status %d\n%s%s", status, stdout, stderr)
	}
}

// TestNoSecretInTheClear logs in and fails in many ways, and then searches every file of the data folder and all that
// daemon and commands have printed for each secret in each form (P9).
func TestNoSecretInTheClear(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	long := byCount()
	long.Digits = 8 // six digits might stand in a time or a hash by chance
	alice := s.enrol("alice", long)
	codes := []string{}
	code := func() string {
		c := alice.code()
		codes = append(codes, c)
		return c
	}
	s.up()
	c, a, n := newNAS(t, fromChallenge, s.daemon.radius), newNAS(t, fromAppend, s.daemon.radius), newNAS(t, fromCode, s.daemon.radius)
	const wrong, asName = "a wrong password 8842", "mypassword-as-name-6612"
	state := rfc2865.State_Get(c.ask(t, "alice", alice.password, nil))
	c.ask(t, "alice", code(), state)
	c.ask(t, "alice", wrong, nil)
	c.ask(t, asName, wrong, nil)
	a.ask(t, "alice", alice.password+code(), nil)
	a.ask(t, asName, alice.password, nil)
	n.ask(t, "alice", code(), nil)
	n.ask(t, "alice", codes[len(codes)-1], nil)
	n.ask(t, alice.password, code(), nil) // typed into the wrong field
	jump := func(password, code string) { s.as(password, code, "ssh", "-J", "alice@gw", "core-sw1", "true") }
	jump(alice.password, code())
	jump(wrong, code())
	jump(alice.password, codes[0])
	s.as(wrong, code(), "ssh", asName+"@gw")
	s.refusedIn("short7%", "user", "add", "nobody", "--password-stdin")
	s.okIn(alice.password+" anew", "user", "set", "alice", "--password-stdin")
	waiting := s.ok("token", "enrol", "alice", "--json")
	s.refusedIn("31415926\n", "token", "confirm", "alice")
	s.ok("audit", "search")
	s.ok("audit", "export", filepath.Join(s.data, "export.jsonl"))
	s.write("sallyport.yaml", strings.Replace(string(mustRead(t, s.config)), "secret_file: radius.secret", "secret: inline-secret-4471, oops: 1", 1))
	s.refusedIn("", "reload")
	s.stop()
	s.check()

	var enrolled struct{ URI string }
	if err := json.Unmarshal([]byte(waiting), &enrolled); err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{
		"password": []byte(alice.password), "wrong password": []byte(wrong), "password in the name": []byte(asName),
		"password too short": []byte("short7%"), "code that was no code": []byte("31415926"),
		"shared secret": []byte(radiusSecret), "inline shared secret": []byte("inline-secret-4471"),
	}
	for i, seed := range [][]byte{alice.seed, seedOf(t, enrolled.URI)} {
		secrets[fmt.Sprint("seed ", i)] = seed
		secrets[fmt.Sprint("seed in base32 ", i)] = []byte(seedEncoding.EncodeToString(seed))
		secrets[fmt.Sprint("seed in hex ", i)] = fmt.Appendf(nil, "%x", seed)
		inJSON, err := json.Marshal(seed)
		if err != nil {
			t.Fatal(err)
		}
		secrets[fmt.Sprint("seed in base64 ", i)] = inJSON[1 : len(inJSON)-3]
	}
	for i, code := range codes {
		secrets[fmt.Sprint("code ", i)] = []byte(code)
	}
	s.mu.Lock()
	search(t, "what was printed", s.said.Bytes(), secrets)
	s.mu.Unlock()
	files := 0
	err := filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if filepath.Dir(path) == layout(s.data).keys {
			return nil // where the shared secrets and keys are kept
		}
		files++
		b, err := os.ReadFile(path)
		search(t, path, b, secrets)
		return err
	})
	if err != nil || files < 6 {
		t.Errorf("%d files were searched: %v", files, err)
	}
	if _, err := os.Stat(layout(s.data).socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stopped gateway leaves its socket: %v", err)
	}
}

// search looks for secrets that stand by themselves.
func search(t *testing.T, where string, text []byte, secrets map[string][]byte) {
	t.Helper()
	for what, secret := range secrets {
		for rest := string(text); ; {
			before, after, found := strings.Cut(rest, string(secret))
			if !found {
				break
			}
			if rest = after; !digitAt(before, len(before)-1) && !digitAt(after, 0) {
				t.Errorf("%s holds the %s, behind %q", where, what, before[max(0, len(before)-60):])
				break
			}
		}
	}
}

// digitAt tells whether a longer number goes on there, in which eight digits stand by chance.
func digitAt(s string, i int) bool {
	return i >= 0 && i < len(s) && strings.ContainsRune("0123456789abcdef", rune(s[i]))
}
