package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/recording"
)

// What the targets of the matrix know.
const (
	switchAccount  = "netadmin"
	switchPassword = "the switch's password 11"
	enablePassword = "the enable password 12"
	boxAccount     = "boxadmin"
	boxPassword    = "the box's password 13"
)

// sshWorld is a gateway with every kind of target behind it. Its cells run in parallel, each with a person of its own for as
// long as it takes.
type sshWorld struct {
	*rig
	dir      string
	account  string // at sshd
	sshd     *target
	hop      *target // sshd that another target is reached through
	service  string  // port of loopback that answers with a sum of what it was sent
	identity string  // the auditor's key, which is not the gateway's
	conf     string  // for OpenSSH's programs
	askpass  string
	people   chan *person
	hostKey  ssh.PublicKey // the gateway's
	hostCA   string        // the line of known_hosts
	data     []byte        // 4 MiB that cannot be guessed
}

// peopleAtOnce is how many cells can have a person at a time.
const peopleAtOnce = 6

func newSSHWorld(t testing.TB) *sshWorld {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	// Sockets of agents and masters have short paths.
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &sshWorld{dir: dir, account: me.Username, people: make(chan *person, peopleAtOnce), data: make([]byte, 4<<20)}
	rand.Read(w.data)
	w.conf, w.askpass, w.identity = filepath.Join(dir, "ssh_config"), filepath.Join(dir, "askpass"), filepath.Join(dir, "the_auditors.key")
	w.sshd = newTarget(t, filepath.Join(dir), "AcceptEnv LC_*", "TrustedUserCAKeys "+filepath.Join(dir, "user_ca.pub"))
	hopDir := filepath.Join(dir, "hop")
	if err := os.Mkdir(hopDir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.hop = newTarget(t, hopDir)
	w.service = startSums(t)
	box, boxKey := startDropbear(t, filepath.Join(dir, "box"), string(mustRead(t, filepath.Join(dir, "target_user.pub"))))
	sw, swKey := startOldSwitch(t)
	sshdKey, hopKey := fingerprintOf(t, filepath.Join(dir, "target_host.pub")), fingerprintOf(t, filepath.Join(hopDir, "target_host.pub"))

	w.rig = newRig(t, rigOptions{dir: dir})
	auditor := filepath.Join(w.rig.dir, auditorFile)
	recipient := regexp.MustCompile(`age1[0-9a-z]+`).FindString(string(mustRead(t, auditor)))
	if err := os.Rename(auditor, w.identity); err != nil {
		t.Fatal(err)
	}
	var targets strings.Builder
	add := func(name, address, account, key, tag, more string) {
		fmt.Fprintf(&targets, "    - {name: %s, address: %q, account: %s, host_key: %q, class: privileged-internal, tags: [%s], %s}\n", name, address, account, key, tag, more)
	}
	sshd := w.sshd.listener.Addr().String()
	add("srv1", sshd, w.account, sshdKey, "network", "credential: key, jump: recorded")
	add("ports1", sshd, w.account, sshdKey, "open", "credential: key, jump: recorded, ports: ["+w.service+"]")
	add("open1", sshd, w.account, sshdKey, "open", "credential: key, jump: opaque, ports: ["+w.service+"]")
	add("ca1", sshd, w.account, sshdKey, "network", "credential: ca, jump: recorded")
	add("agent1", sshd, w.account, sshdKey, "network", "credential: agent, jump: recorded")
	add("hop1", w.hop.listener.Addr().String(), w.account, hopKey, "network", "credential: key")
	add("deep1", sshd, w.account, sshdKey, "network", "credential: key, jump: recorded, via: hop1")
	add("box1", box, boxAccount, boxKey, "network", "credential: key, jump: recorded")
	add("boxpw1", box, boxAccount, boxKey, "network", "credential: password, jump: recorded")
	add("boxask1", box, boxAccount, boxKey, "network", "credential: ask, jump: recorded")
	add("sw1", sw, switchAccount, swKey, "network", "credential: password, jump: recorded, algorithms: legacy")
	add("swask1", sw, switchAccount, swKey, "network", "credential: ask, jump: recorded, algorithms: legacy")
	may := "[login, shell, exec, sftp, forward, agent]"
	text := string(mustRead(t, w.config))
	before, _, found := strings.Cut(text, "  targets: ")
	if !found {
		t.Fatalf("the rig's configuration has no targets:\n%s", text)
	}
	w.write("sallyport.yaml", fmt.Sprintf(`%s  targets:
%srules:
  - {name: network team, groups: [network], to: ["tag:network"], may: %s, record: required}
  - {name: open, groups: [network], to: ["tag:open"], may: %s}
recording: {recipients: [%s]}
metrics: {listen: "127.0.0.1:0"}
`, before, targets.String(), may, may, recipient))

	account := string(mustRead(t, filepath.Join(dir, "target_user")))
	for _, name := range []string{"srv1", "ports1", "open1", "deep1", "box1"} {
		w.okIn(account, "target", "credential", name, "--key")
	}
	w.okIn(string(mustRead(t, filepath.Join(hopDir, "target_user"))), "target", "credential", "hop1", "--key")
	w.okIn(boxPassword, "target", "credential", "boxpw1", "--password")
	w.okIn(switchPassword, "target", "credential", "sw1", "--password")
	w.file("user_ca.pub", w.ok("target", "credential", "--print-ca"), 0o600)
	w.hostCA = w.ok("target", "trust", "--print-known-hosts")
	authorized := string(mustRead(t, filepath.Join(dir, "target_user.pub")))
	for i := range peopleAtOnce {
		p := w.enrol(fmt.Sprintf("p%d", i), byCount())
		keygen(t, w.keyOf(p))
		public := string(mustRead(t, w.keyOf(p)+".pub"))
		w.okIn(public, "key", "add", p.name)
		authorized += public
		w.people <- p
	}
	w.file("target_user.pub", authorized, 0o600) // sshd's authorized keys
	w.start()
	w.configureOpenSSH()
	return w
}

func (w *sshWorld) file(name, text string, mode os.FileMode) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), mode); err != nil {
		w.Fatal(err)
	}
}

// keyOf is the file of a person's registered key.
func (w *sshWorld) keyOf(p *person) string { return filepath.Join(w.dir, "key_of_"+p.name) }

// hostPort is where the gateway listens.
func (w *sshWorld) hostPort() (host, port string) {
	host, port, err := net.SplitHostPort(w.daemon.ssh)
	if err != nil {
		w.Fatal(err)
	}
	return host, port
}

// configureOpenSSH writes what OpenSSH's programs need. Only open1 has the target's own key, for whoever jumps end to end; all other
// targets are the gateway's word, by its host CA.
func (w *sshWorld) configureOpenSSH() {
	w.Helper()
	host, port := w.hostPort()
	key, err := ssh.ParsePrivateKey(mustRead(w, layout(w.rig.data).hostKey))
	if err != nil {
		w.Fatal(err)
	}
	w.hostKey = key.PublicKey()
	w.file("known_hosts", fmt.Sprintf("[%s]:%s %s%s\nopen1 %s", host, port, ssh.MarshalAuthorizedKey(w.hostKey), w.hostCA, mustRead(w, filepath.Join(w.dir, "target_host.pub"))), 0o600)
	w.file("ssh_config", fmt.Sprintf(`Host gw
  HostName %[1]s
  Port %[2]s
  NumberOfPasswordPrompts 1
  PreferredAuthentications keyboard-interactive
Host open1
  User %[4]s
  IdentityFile %[3]s/target_user
  PreferredAuthentications publickey
Host sw1 swask1
  User %[5]s
Host box1 boxpw1 boxask1
  User %[6]s
Host srv1 ports1 ca1 agent1 hop1 deep1
  User %[4]s
Host *
  IdentityFile none
  IdentitiesOnly yes
  UserKnownHostsFile %[3]s/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  UpdateHostKeys no
  ForwardX11 no
  LogLevel INFO
`, host, port, w.dir, w.account, switchAccount, boxAccount), 0o600)
	w.file("askpass", `#!/bin/sh
case "$1" in
"(netadmin@"*assword:*|"(boxadmin@"*assword:*) printf '%s\n' "$TARGET_PASSWORD" ;;
*assword:*) printf '%s\n' "$PASSWORD" ;;
*code:*) printf '%s\n' "$CODE" ;;
*) exit 1 ;;
esac
`, 0o700)
}

// startSums listens for connections, and answers each with the SHA-256 of all that it was sent. It returns the port.
func startSums(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				sum := sha256.New()
				if _, err := io.Copy(sum, conn); err == nil {
					_, _ = io.WriteString(conn, hex.EncodeToString(sum.Sum(nil))) // who has gone wants no answer
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); work.Wait() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// startDropbear starts Dropbear with an account that only it sees: libnss_wrapper gives it a passwd and a shadow file of its own.
func startDropbear(t testing.TB, dir, authorized string) (address, hostKey string) {
	t.Helper()
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("home/.ssh/authorized_keys", authorized)
	hash, stderr, status := runTool(t, boxPassword, nil, tool(t, "openssl", "openssl"), "passwd", "-6", "-stdin")
	if status != 0 {
		t.Fatal(stderr)
	}
	env := []string{
		"LD_PRELOAD=" + wrapper(t),
		"NSS_WRAPPER_PASSWD=" + write("passwd", fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", boxAccount, os.Getuid(), os.Getgid(), home)),
		"NSS_WRAPPER_GROUP=" + write("group", fmt.Sprintf("%s:x:%d:\n", boxAccount, os.Getgid())),
		"NSS_WRAPPER_SHADOW=" + write("shadow", boxAccount+":"+strings.TrimSpace(hash)+":19000:0:99999:7:::\n"),
	}
	key := filepath.Join(dir, "host_key")
	out, stderr, status := runTool(t, "", nil, tool(t, "dropbearkey", "dropbear-bin"), "-t", "ed25519", "-f", key)
	if status != 0 {
		t.Fatal(stderr)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "ssh-") {
			hostKey = strings.Join(strings.Fields(line)[:2], " ")
		}
	}
	address = net.JoinHostPort("127.0.0.1", freePort(t))
	cmd := exec.Command(tool(t, "dropbear", "dropbear-bin"), "-F", "-E", "-r", key, "-P", filepath.Join(dir, "pid"), "-p", address)
	cmd.Env = append(os.Environ(), env...)
	var log lockedBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed in the end
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("Dropbear:\n%s", tailOf(log.String()))
		}
	})
	dialUntil(t, address).Close()
	return address, hostKey
}

// wrapper is the path of libnss_wrapper.
func wrapper(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib*/*/libnss_wrapper.so")
	if err != nil || len(found) == 0 {
		if found, err = filepath.Glob("/usr/lib*/libnss_wrapper.so"); err != nil || len(found) == 0 {
			t.Fatal("libnss_wrapper.so is not installed (Debian package libnss-wrapper)")
		}
	}
	return found[0]
}

// startOldSwitch starts a switch of 2005: nothing but group1-sha1, 3des-cbc, hmac-sha1 and a key of 1,024 bits, a password by
// a prompt, no exec and no subsystem, and a shell with an enable prompt.
func startOldSwitch(t testing.TB) (address, hostKey string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	modern, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerWithAlgorithms(modern.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{KeyboardInteractiveCallback: func(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask("", "", []string{"Password: "}, []bool{false})
		if err != nil || len(answers) != 1 || answers[0] != switchPassword || m.User() != switchAccount {
			return nil, errors.New("access denied")
		}
		return nil, nil
	}}
	config.KeyExchanges, config.Ciphers, config.MACs = []string{ssh.InsecureKeyExchangeDH1SHA1}, []string{ssh.InsecureCipherTripleDESCBC}, []string{ssh.HMACSHA1}
	config.AddHostKey(key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				serveOldSwitch(conn, config, &work)
			})
		}
	})
	t.Cleanup(func() { l.Close(); work.Wait() })
	return l.Addr().String(), ssh.FingerprintSHA256(key.PublicKey())
}

func serveOldSwitch(conn net.Conn, config *ssh.ServerConfig, work *sync.WaitGroup) {
	c, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	work.Go(func() { ssh.DiscardRequests(requests) })
	for open := range channels {
		if open.ChannelType() != "session" {
			_ = open.Reject(ssh.UnknownChannelType, "no")
			continue
		}
		ch, reqs, err := open.Accept()
		if err != nil {
			break
		}
		work.Go(func() {
			terminal := false
			for r := range reqs {
				ok := r.Type == "pty-req" || r.Type == "shell" && terminal
				terminal = terminal || r.Type == "pty-req"
				if r.WantReply {
					_ = r.Reply(ok, nil)
				}
				if ok && r.Type == "shell" {
					work.Go(func() {
						switchShell(ch)
						ch.Close() // as old kit does, without an exit status
						c.Close()
					})
				}
			}
		})
	}
}

// switchShell is what somebody sees who has logged in.
func switchShell(ch ssh.Channel) {
	say := func(text string) { _, _ = io.WriteString(ch, text) } // who has gone reads nothing
	line := func(echo bool) (string, bool) {
		var typed []byte
		var b [1]byte
		for {
			if _, err := ch.Read(b[:]); err != nil {
				return "", false
			}
			if b[0] == '\r' || b[0] == '\n' {
				say("\r\n")
				return string(typed), true
			}
			typed = append(typed, b[0])
			if echo {
				say(string(b[:]))
			}
		}
	}
	prompt := "sw1>"
	for {
		say(prompt)
		command, ok := line(true)
		if !ok {
			return
		}
		switch command {
		case "enable":
			say("Password: ")
			if secret, ok := line(false); !ok {
				return
			} else if secret != enablePassword {
				say("% Access denied\r\n")
				continue
			}
			prompt = "sw1#"
		case "show privilege":
			say(fmt.Sprintf("Current privilege level is %d\r\n", map[string]int{"sw1>": 1, "sw1#": 15}[prompt]))
		case "exit":
			return
		default:
			say("% Invalid input\r\n")
		}
	}
}

// sshTry is one cell under way: a person who logs in, and what was on record before.
type sshTry struct {
	*rig  // a view of the world's, with the cell's own testing.TB
	w     *sshWorld
	p     *person
	tmp   string
	since uint64
}

// try lends a person to a cell.
func (w *sshWorld) try(t testing.TB) *sshTry {
	t.Helper()
	p := <-w.people
	view := &rig{TB: t, dir: w.rig.dir, config: w.config, data: w.rig.data, daemon: w.daemon}
	c := &sshTry{rig: view, w: w, p: p}
	var err error
	if c.tmp, err = os.MkdirTemp(w.dir, "t"); err != nil {
		t.Fatal(err)
	}
	for _, rec := range c.records("--person", p.name, "--limit", "1") {
		c.since = rec.Seq
	}
	t.Cleanup(func() { w.people <- p })
	return c
}

// path is a file of the cell's own, at the client and at the target.
func (c *sshTry) path(name string) string { return filepath.Join(c.tmp, name) }

// trace is what has to be on record of a cell.
type trace struct {
	request, system, account string
	status                   string // exit_status; empty: not looked at
	signal                   string // exit_signal
	in, out                  int    // the least bytes from and to the client
	recorded                 string // yes, transfers, no
	shows                    string // in the recording
	upload, download         string // path of which a transfer with the sum of the world's data is on record
	detail                   [2]string
	connected                [2]string // of session.connected
}

// Whether the words of a session's start say that it is recorded.
const (
	isRecorded  = "yes"
	byTransfers = "transfers"
	endToEnd    = "no, end to end"
	notRecorded = "no"
)

// newRecords lists what is on record of the cell's person since the cell began.
func (c *sshTry) newRecords(event string) (list []*audit.Record) {
	c.Helper()
	for _, rec := range c.records("--person", c.p.name, "--event", event, "--limit", "100") {
		if rec.Seq > c.since {
			list = append(list, rec)
		}
	}
	return list
}

// onRecord checks that there is one session for each trace, in the order of their ends, with all that it says; that recordings can be
// played by whoever has the auditor's key; and that the log verifies.
func (c *sshTry) onRecord(want ...trace) {
	c.Helper()
	var ends []*audit.Record
	until(c, "the sessions' ends are on record", func() bool {
		ends = c.newRecords("session.end")
		return len(ends) >= len(want)
	})
	starts := c.newRecords("session.start")
	if len(ends) != len(want) || len(starts) != len(want) {
		c.Fatalf("%d sessions have a start and %d an end, want %d", len(starts), len(ends), len(want))
	}
	for i, e := range want {
		end := ends[i]
		var start *audit.Record
		for _, s := range starts {
			if s.Session == end.Session {
				start = s
			}
		}
		if start == nil {
			c.Fatalf("session %s has an end and no start", end.Session)
		}
		c.compare(e, start, end)
	}
	c.check()
}

func (c *sshTry) compare(e trace, start, end *audit.Record) {
	c.Helper()
	if e.account == "" {
		e.account = c.w.account
	}
	for _, rec := range []*audit.Record{start, end} {
		if rec.System != e.system || rec.Account != e.account || detail(rec, "request") != e.request || rec.Protocol != "ssh" {
			c.Errorf("on record: %s\nwant %s as %s, for %s", rec.AppendJSON(nil), e.system, e.account, e.request)
		}
	}
	if got := detail(start, "recorded"); got != e.recorded {
		c.Errorf("recorded is %q, want %q", got, e.recorded)
	}
	if got := detail(end, "exit_status"); e.status != "" && got != e.status {
		c.Errorf("exit_status is %q, want %q: %s", got, e.status, end.AppendJSON(nil))
	}
	if got := detail(end, "exit_signal"); got != e.signal {
		c.Errorf("exit_signal is %q, want %q", got, e.signal)
	}
	for key, least := range map[string]int{"bytes_in": e.in, "bytes_out": e.out} {
		if n, err := strconv.Atoi(detail(end, key)); err != nil || n < least {
			c.Errorf("%s is %q, want %d at least", key, detail(end, key), least)
		}
	}
	if e.detail[0] != "" && detail(start, e.detail[0]) != e.detail[1] {
		c.Errorf("%s is %q, want %q", e.detail[0], detail(start, e.detail[0]), e.detail[1])
	}
	if e.connected[0] != "" {
		c.connectedBy(e, start)
	}
	for op, path := range map[string]string{"upload": e.upload, "download": e.download} {
		if path != "" {
			c.transferred(end.Session, op, path)
		}
	}
	switch e.recorded {
	case isRecorded:
		c.plays(start, end, e.shows)
	default:
		if detail(start, "recording") != "" {
			c.Errorf("session %s has a recording", start.Session)
		}
	}
}

// endOf is a detail of a session's end.
func (c *sshTry) endOf(session, key string) string {
	for _, rec := range c.newRecords("session.end") {
		if rec.Session == session {
			return detail(rec, key)
		}
	}
	return ""
}

// connectedBy checks how the gateway logged in at the target: for the session, or before it, where the target asks the person.
func (c *sshTry) connectedBy(e trace, start *audit.Record) {
	c.Helper()
	for _, rec := range c.newRecords("session.connected") {
		// Where the target asks while the person logs in, the login there has an access of its own, which the session's end names.
		if rec.Result == audit.Info && (rec.Session == start.Session || c.endOf(start.Session, "connected_in") == rec.Session) {
			if got := detail(rec, e.connected[0]); got != e.connected[1] {
				c.Errorf("the connection's %s is %q, want %q", e.connected[0], got, e.connected[1])
			}
			return
		}
	}
	c.Errorf("it is not on record how the gateway logged in for session %s", start.Session)
}

// transferred looks for the record of a transfer of the world's data.
func (c *sshTry) transferred(session, op, path string) {
	c.Helper()
	sum := sha256.Sum256(c.w.data)
	var said []string
	for _, rec := range c.newRecords("transfer") {
		if rec.Session != session {
			continue
		}
		said = append(said, string(rec.AppendJSON(nil)))
		at := detail(rec, "path")
		if name := detail(rec, "name"); name != "" && at != path {
			at = filepath.Join(at, name)
		}
		if detail(rec, "operation") != op || at != path {
			continue
		}
		// rsync sends differences, whose sum says nothing of the file.
		if op == "rsync" || detail(rec, "sha256") == hex.EncodeToString(sum[:]) && detail(rec, "bytes") == strconv.Itoa(len(c.w.data)) && detail(rec, "outcome") == "ok" {
			return
		}
	}
	c.Errorf("no %s of %s is on record with its sum, but\n%s", op, path, strings.Join(said, "\n"))
}

// plays shows a recording as an auditor does.
func (c *sshTry) plays(start, end *audit.Record, shows string) {
	c.Helper()
	if got := detail(end, "recording_state"); got != string(recording.Complete) {
		c.Errorf("the recording is %q: %s", got, end.AppendJSON(nil))
	}
	stdout, stderr, status := c.command("", "session", "play", start.Session, "--identity", c.w.identity, "--export", "v3", "-")
	if status != exitDone || !strings.Contains(stderr, "verified: ") {
		c.Fatalf("session play: exit status %d\n%s", status, stderr)
	}
	var text strings.Builder
	for line := range strings.Lines(stdout) {
		var event []any
		if json.Unmarshal([]byte(line), &event) == nil && len(event) == 3 && (event[1] == "o") {
			s, _ := event[2].(string)
			text.WriteString(s)
		}
	}
	if !strings.Contains(text.String(), shows) {
		c.Errorf("the recording does not show %q, but\n%.2000s", shows, text.String())
	}
}

// sameFile checks that a file has come whole.
func (c *sshTry) sameFile(path string) {
	c.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, c.w.data) {
		c.Fatalf("%s: %v, %d bytes, which are not the %d that were sent", path, err, len(got), len(c.w.data))
	}
}

// dataFile writes the world's data into a file of the cell.
func (c *sshTry) dataFile(name string) string {
	c.Helper()
	if err := os.WriteFile(c.path(name), c.w.data, 0o600); err != nil {
		c.Fatal(err)
	}
	return c.path(name)
}
