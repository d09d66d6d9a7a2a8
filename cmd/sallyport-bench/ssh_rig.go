package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"sallyport/otp"
)

// sshRig is the target, all that stand before it, and who logs in.
type sshRig struct {
	*bench
	dir     string
	account string // at the target
	lodger  string // at the sshd that is a jump host

	target  *server
	parties map[string]*sshParty
	ports   map[string]int
	servers []*server
	ready   map[string]func(line string) bool // by server
	people  []*sshPerson
	key     ssh.Signer // of the client, for the target and the peers
}

// sshPerson is somebody who may come to the gateway.
type sshPerson struct {
	name, password string

	mu   sync.Mutex // so that codes come in order
	seed []byte
	next int64
	otp  otp.Params
}

// code is the next one.
func (p *sshPerson) code() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	return otp.Code(p.seed, p.otp, p.next-1)
}

// sshPeople is how many there are: one for each that logs in at the same time, since a person's codes have an order.
const sshPeople = 8

// Passwords cost the least that the configuration permits, and the report has that cost by itself.
const sshGatewayConf = `data: ./data
node: bench
log: {format: text, level: warn}
login:
  first_factor: local
  password: {memory_kib: %[1]d, iterations: %[2]d, parallelism: 1, at_once: 2, queue: 256}
  lock: {after: 50, for: 1m, hard_after: 100, hard_for: 30m}
radius:
  listen: [127.0.0.1:%[3]d]
  clients:
    - {name: nobody, address: 192.0.2.1/32, secret: %[4]s, mode: code, class: remote}
ssh:
  listen: [127.0.0.1:%[5]d]
  max_startups: 1000:30:2000
  per_source_starts: 1000
  penalties: "off"
  targets:
    - {name: plain, address: "127.0.0.1:%[6]d", account: %[7]s, credential: key, host_key: [%[8]q], jump: opaque, class: privileged-internal, tags: [plain]}
    - {name: taped, address: "127.0.0.1:%[6]d", account: %[7]s, credential: key, host_key: [%[8]q], jump: recorded, class: privileged-internal, tags: [taped]}
recording:
  recipients: [%[9]s]
  max_bytes: 8 GiB
rules:
  - {name: plain, groups: [network], to: [tag:plain], may: [shell, exec, sftp]}
  - {name: taped, groups: [network], to: [tag:taped], may: [shell, exec, sftp], record: required}
`

const (
	hashMemoryKiB  = 8 << 10
	hashIterations = 1
)

// With SHLVL set, bash does not read the account's .bashrc, as it does for sshd else: what is in there is not what is measured.
const sshdConf = `ListenAddress 127.0.0.1
Port %d
HostKey %s
AuthorizedKeysFile %s
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin yes
PidFile none
PrintMotd no
SetEnv SHLVL=1
MaxStartups 2000
MaxSessions 100
LogLevel INFO
Subsystem sftp internal-sftp
`

// start brings up everything.
func (r *sshRig) start(ctx context.Context) error {
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return err
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	r.account, r.lodger = me.Username, me.Username
	if os.Getuid() == 0 {
		r.lodger = "nobody" // as on a real jump host: sshd parts with its rights after the login, in a process of its own
		if err := os.Chmod(r.bench.dir, 0o755); err != nil {
			return err
		}
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where systemd has not made it
			return err
		}
	}
	for _, name := range []string{"host", "client"} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", filepath.Join(r.dir, name)).CombinedOutput(); err != nil {
			return fmt.Errorf("ssh-keygen (Debian package openssh-client): %w\n%s", err, out)
		}
	}
	if r.key, err = readSigner(filepath.Join(r.dir, "client")); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(r.dir, "client.pub"), 0o644); err != nil {
		return err
	}
	r.ready = map[string]func(string) bool{}
	r.parties, r.ports = map[string]*sshParty{partyDirect: {name: partyDirect}}, map[string]int{}
	if r.target, err = r.startSSHD(ctx, "direct"); err != nil {
		return err
	}
	if r.side != gateway {
		if err := r.startPeers(ctx); err != nil {
			return err
		}
	}
	srv, err := r.startGateway(ctx)
	if err != nil {
		return err
	}
	r.parties[partyGateway] = &sshParty{name: partyGateway, srv: srv}
	return r.writeClientConf()
}

func (r *sshRig) startPeers(ctx context.Context) error {
	s, err := r.startSSHD(ctx, "sshd")
	if err != nil {
		return err
	}
	r.parties[partySSHD] = &sshParty{name: partySSHD, srv: s, kids: true}
	if s, err = r.startPeer(ctx, "xjump", "jump"); err != nil {
		return err
	}
	r.parties[partyJump] = &sshParty{name: partyJump, srv: s}
	s, err = r.startPeer(ctx, "xproxy", "proxy", r.address("direct"), r.account, filepath.Join(r.dir, "client"))
	r.parties[partyProxy] = &sshParty{name: partyProxy, srv: s}
	if err != nil {
		return err
	}
	s, err = r.startPeer(ctx, "xboth", "jump-proxy", r.address("direct"), r.account, filepath.Join(r.dir, "client"))
	r.parties[partyBoth] = &sshParty{name: partyBoth, srv: s}
	return err
}

func (r *sshRig) address(host string) string { return fmt.Sprintf("127.0.0.1:%d", r.ports[host]) }

// listenAt finds a port for a host of the client's configuration.
func (r *sshRig) listenAt(host string) (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	r.ports[host] = l.Addr().(*net.TCPAddr).Port
	return r.ports[host], nil
}

// launched is a server that has a folder of its own and says ready.
func (r *sshRig) launched(ctx context.Context, name string, cmd *exec.Cmd, ready func(line string) bool) (*server, error) {
	dir := filepath.Join(r.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s := &server{name: name}
	if err := s.launch(cmd, dir); err != nil {
		return nil, err
	}
	r.servers = append(r.servers, s)
	r.ready[name] = ready
	return s, s.await(ctx, ready)
}

// restart ends a party's server and starts it anew.
func (r *sshRig) restart(ctx context.Context, party string) (err error) {
	p := r.parties[party]
	old := p.srv
	r.servers = slices.DeleteFunc(r.servers, func(s *server) bool { return s == old })
	if err := r.endOne(old); err != nil {
		return err
	}
	p.srv, err = r.launched(ctx, old.name, exec.Command(old.cmd.Path, old.cmd.Args[1:]...), r.ready[old.name])
	return err
}

func (r *sshRig) startSSHD(ctx context.Context, name string) (*server, error) {
	port, err := r.listenAt(name)
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath("sshd")
	if err != nil {
		path = "/usr/sbin/sshd"
	}
	text := fmt.Sprintf(sshdConf, port, filepath.Join(r.dir, "host"), filepath.Join(r.dir, "client.pub"))
	if err := r.write(name+".conf", text, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return r.launched(ctx, name, exec.Command(self, reaperWord, path, "-D", "-e", "-f", filepath.Join(r.dir, name+".conf")),
		func(line string) bool { return strings.Contains(line, "Server listening") })
}

func (r *sshRig) startPeer(ctx context.Context, name, what string, more ...string) (*server, error) {
	port, err := r.listenAt(name)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := append([]string{sshPeerWord, what, fmt.Sprintf("127.0.0.1:%d", port), filepath.Join(r.dir, "host")}, more...)
	return r.launched(ctx, name, exec.Command(self, args...), func(line string) bool { return line == "ready" })
}

func (r *sshRig) startGateway(ctx context.Context) (*server, error) {
	dir := filepath.Join(r.dir, "gw")
	made, err := exec.CommandContext(ctx, r.binary, "init", dir, "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("sallyport init: %w", err)
	}
	var init struct{ Recipient string }
	if err := json.Unmarshal(made, &init); err != nil {
		return nil, fmt.Errorf("sallyport init: %w", err)
	}
	radius, err := freePort()
	if err != nil {
		return nil, err
	}
	port, err := r.listenAt("gw")
	if err != nil {
		return nil, err
	}
	host, err := os.ReadFile(filepath.Join(r.dir, "host.pub"))
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "sallyport.yaml")
	text := fmt.Sprintf(sshGatewayConf, hashMemoryKiB, hashIterations, radius, benchSecret, port, r.ports["direct"], r.account, strings.TrimSpace(string(host)), init.Recipient)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	for i := range sshPeople {
		p, err := enrolOverCLI(ctx, r.binary, conf, fmt.Sprintf("person%d", i))
		if err != nil {
			return nil, err
		}
		r.people = append(r.people, p)
	}
	key, err := os.ReadFile(filepath.Join(r.dir, "client"))
	if err != nil {
		return nil, err
	}
	for _, target := range []string{"plain", "taped"} {
		if _, err := piped(ctx, string(key), r.binary, "-c", conf, "target", "credential", target, "--key"); err != nil {
			return nil, err
		}
	}
	args := []string{"-c", conf, "serve"}
	if r.profile != "" {
		args = append(args, "--cpuprofile", r.profile)
	}
	s, err := r.launched(ctx, "gw", exec.Command(r.binary, args...), saysReady)
	if s != nil {
		s.conf = conf
	}
	return s, err
}

// enrolOverCLI makes a person with a password and an active HOTP token, whose codes need not wait for the clock.
func enrolOverCLI(ctx context.Context, binary, conf, name string) (*sshPerson, error) {
	p := &sshPerson{name: name, password: "the password of " + name + " 5513"}
	if _, err := piped(ctx, p.password, binary, "-c", conf, "user", "add", name, "--group", "network", "--password-stdin"); err != nil {
		return nil, err
	}
	out, err := piped(ctx, "", binary, "-c", conf, "token", "enrol", name, "--type", "hotp", "--active", "--json")
	if err != nil {
		return nil, err
	}
	var t struct{ URI string }
	if err := json.Unmarshal(out, &t); err != nil {
		return nil, fmt.Errorf("token enrol: %w", err)
	}
	q, err := parseURI(t.URI)
	if err != nil {
		return nil, err
	}
	p.seed, p.otp, p.next = q.seed, q.params, q.last+1
	return p, nil
}

// piped runs a command with something on its standard input.
func piped(ctx context.Context, stdin, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, stderr.String())
	}
	return out, err
}

// The client's two configurations: with one cipher for all, and with what stock clients and servers agree on.
const (
	confOneCipher = "ssh_config_gcm"
	confDefault   = "ssh_config"
	oneCipher     = "aes128-gcm@openssh.com"
)

const clientConf = `Host direct plain taped
  User %[1]s
  HostName 127.0.0.1
  Port %[3]d
Host xproxy
  User %[1]s
  HostName 127.0.0.1
  Port %[4]d
Host xjump
  User %[1]s
  HostName 127.0.0.1
  Port %[5]d
Host xboth
  User %[1]s
  HostName 127.0.0.1
  Port %[9]d
Host sshd
  User %[2]s
  HostName 127.0.0.1
  Port %[6]d
Host gw gw-plain gw-taped
  HostName 127.0.0.1
  Port %[7]d
  PreferredAuthentications keyboard-interactive
  NumberOfPasswordPrompts 1
Host *
  IdentityFile %[8]s/client
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile none
  LogLevel ERROR
`

const askpass = `#!/bin/sh
case "$1" in
*assword:*) printf '%s\n' "$PASSWORD" ;;
*code:*) printf '%s\n' "$CODE" ;;
*) exit 1 ;;
esac
`

func (r *sshRig) writeClientConf() error {
	p := r.ports
	for _, host := range []string{"xproxy", "xjump", "xboth", "sshd"} { // with -side they may be missing
		p[host] = max(p[host], 1)
	}
	text := fmt.Sprintf(clientConf, r.account, r.lodger, p["direct"], p["xproxy"], p["xjump"], p["sshd"], p["gw"], r.dir, p["xboth"])
	// A name in the gateway's configuration is no name that anybody resolves.
	named := strings.Replace(text, "Host direct plain taped\n", "Host plain taped\n  User "+r.account+"\n  HostName %h\n  Port 22\nHost direct\n", 1)
	return errors.Join(
		r.write(confDefault, named, 0o600),
		r.write(confOneCipher, named+"  Ciphers "+oneCipher+"\n", 0o600),
		r.write("askpass", askpass, 0o700))
}

// stock is a command of stock OpenSSH, as the next person.
func (r *sshRig) stock(ctx context.Context, program, conf string, w sshWay, p *sshPerson, args ...string) *exec.Cmd {
	line := []string{"-F", filepath.Join(r.dir, conf), "-o", "BatchMode=no"} // before sftp's -b, which says yes: the first word counts
	host := w.host
	switch {
	case w.by == "gw":
		line = append(line, "-J", p.name+"@gw")
	case w.by != "":
		line = append(line, "-J", w.by)
	case strings.HasPrefix(host, "gw-"):
		line = append(line, "-o", "User="+p.name+"@"+strings.TrimPrefix(host, "gw-"))
	}
	if program == "sftp" {
		line = append(append(line, args...), host)
	} else {
		line = append(append(line, host), args...)
	}
	cmd := exec.CommandContext(ctx, program, line...)
	cmd.Env = append(os.Environ(), "SSH_ASKPASS="+filepath.Join(r.dir, "askpass"), "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none", "SSH_AUTH_SOCK=")
	if w.party == partyGateway {
		cmd.Env = append(cmd.Env, "PASSWORD="+p.password, "CODE="+p.code())
	}
	return cmd
}

// versions names the other programs.
func (r *sshRig) versions(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "ssh", "-V").CombinedOutput()
	if err != nil {
		return "OpenSSH of an unknown version"
	}
	return strings.TrimSpace(string(out)) + ", x/crypto " + moduleVersion("golang.org/x/crypto")
}

// end ends what runs, the target last.
func (r *sshRig) end() (err error) {
	for i := len(r.servers) - 1; i >= 0; i-- {
		err = errors.Join(err, r.endOne(r.servers[i]))
	}
	r.servers = nil
	return err
}

// endOne ends a server, some of which end by the signal itself.
func (r *sshRig) endOne(s *server) error {
	if err := s.end(); err != nil && !s.signalled() {
		return err
	}
	return nil
}
