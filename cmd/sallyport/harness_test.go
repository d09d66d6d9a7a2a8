package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pquerna "github.com/pquerna/otp"
	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/otp"
)

// TestMain makes `sallyport` a command of the scripts, and removes what the tests have built.
func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"sallyport": main})
}

type suite struct{ *testing.M }

func (s suite) Run() int {
	status := s.M.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	return status
}

// built is the program as a user has it, made once for all tests.
var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// program returns the path of the built program, with the race detector where the tests have it.
func program(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "sallyport-built-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "sallyport")
		args := []string{"build", "-o", built.path}
		if raceEnabled() {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// tool finds a program that a test needs, and fails the test with the Debian package that has it.
func tool(t testing.TB, name, debianPackage string) string {
	t.Helper()
	for _, place := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(place); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed (Debian package %s)", name, debianPackage)
	return ""
}

// patience bounds every wait for another process. Nothing takes it unless it hangs.
const patience = 60 * time.Second

// Where the RADIUS clients of a rig ask from: their mode follows from their address alone.
const (
	fromChallenge = "127.0.0.1"
	fromAppend    = "127.0.0.2"
	fromCode      = "127.0.0.3"
	fromStranger  = "127.0.0.66" // no client
)

// radiusSecret is what the rig's RADIUS clients share with it.
const radiusSecret = "a-shared-secret-of-the-rig-7291"

// rig is a gateway of its own: a data folder, a configuration, people, and the daemon as a process while it is up.
type rig struct {
	testing.TB
	dir, config, data string
	people            map[string]*person
	daemon            *process

	mu   sync.Mutex
	said bytes.Buffer // guarded by mu: all that daemons and commands have printed, less what shows a seed on purpose
}

// rigOptions are what one rig has beyond the others.
type rigOptions struct {
	dir     string // instead of a temporary one
	targets string // list items of ssh.targets
	clients string // more list items of radius.clients
	lock    string
	prompts string
	login   string // more lines of login
	radius  string // lines of radius, instead of no accounting
	vpn     string // more keys of the client vpn, each behind a comma
}

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	r := &rig{TB: t, dir: filepath.Join(o.dir, "gw"), people: make(map[string]*person)}
	r.config, r.data = filepath.Join(r.dir, "sallyport.yaml"), filepath.Join(r.dir, "data")
	r.ok("init", r.dir, "--node", "gw1")
	r.configure(o)
	return r
}

// configure writes the rig's configuration: free ports, and passwords that cost nothing.
func (r *rig) configure(o rigOptions) {
	r.Helper()
	if o.lock == "" {
		o.lock = "{after: 90, for: 1m, hard_after: 100, hard_for: 30m}"
	}
	if o.radius == "" {
		o.radius = "  accounting: []"
	}
	if o.prompts == "" {
		o.prompts = "one-round"
	}
	if o.targets == "" {
		o.targets = "[{name: nowhere, address: \"127.0.0.1:9\", jump: opaque, class: privileged-internal, tags: [network]}]"
	}
	r.write("sallyport.yaml", fmt.Sprintf(`
data: ./data
node: gw1
log: {format: json, level: debug}
login:
%s
  lock: %s
  password: {memory_kib: 8192, iterations: 1, parallelism: 1, at_once: 2, queue: 256}
radius:
  listen: ["127.0.0.1:0"]
%s
  clients:
    - {name: vpn, address: %s, secret_file: radius.secret, mode: challenge, class: remote, tags: [vpn]%s}
    - {name: firewall, address: %s, secret_file: radius.secret, mode: append, class: remote, tags: [vpn]}
    - {name: switch, address: %s, secret_file: radius.secret, mode: code, class: privileged-internal, tags: [vpn]}
%s
ssh:
  listen: ["127.0.0.1:0"]
  prompts: %s
  penalties: "off"
  per_source_starts: 1000
  targets: %s
rules:
  - name: network team
    groups: [network]
    to: [tag:vpn, tag:network]
    may: [login, shell, exec, sftp, forward]
    reply: {Class: [network], Cisco-AVPair: ["shell:priv-lvl=15"]}
metrics: {listen: "127.0.0.1:0"}
`, o.login, o.lock, o.radius, fromChallenge, o.vpn, fromAppend, fromCode, o.clients, o.prompts, o.targets))
	r.write("radius.secret", radiusSecret+"\n")
}

func (r *rig) write(name, text string) {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

// env is what the rig's commands see of the environment.
func (r *rig) env(name string) (string, bool) {
	if name == "SALLYPORT_CONFIG" {
		return r.config, true
	}
	return "", false
}

// command runs sallyport in this process, as run does for main.
func (r *rig) command(stdin string, args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	status = run(ctx, args, r.env, strings.NewReader(stdin), &out, &errs)
	if !strings.HasPrefix(strings.Join(args, " "), "token enrol") { // which shows the seed, and says so
		r.note(out.String())
	}
	r.note(errs.String())
	return out.String(), errs.String(), status
}

func (r *rig) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said.WriteString(text)
}

// okIn runs a command that must succeed, with something on its standard input, and returns what it printed.
func (r *rig) okIn(stdin string, args ...string) string {
	r.Helper()
	stdout, stderr, status := r.command(stdin, args...)
	if status != exitDone {
		r.Fatalf("sallyport %s: exit status %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

func (r *rig) ok(args ...string) string {
	r.Helper()
	return r.okIn("", args...)
}

// refusedIn runs a command that must fail, and returns what it complained.
func (r *rig) refusedIn(stdin string, args ...string) string {
	r.Helper()
	stdout, stderr, status := r.command(stdin, args...)
	if status != exitFailed {
		r.Fatalf("sallyport %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), status, exitFailed, stdout, stderr)
	}
	return stderr
}

// person is somebody with a password and a token, and knows the codes.
type person struct {
	name, password string
	token          string // its id
	params         otp.Params
	seed           []byte
	uri            string

	mu   sync.Mutex
	last int64 // the last step or counter that a code was made for
}

// enrol makes a person of the group network with an active token.
func (r *rig) enrol(name string, params otp.Params) *person {
	r.Helper()
	password := "the password of " + name + " 5513"
	r.okIn(password, "user", "add", name, "--group", "network", "--password-stdin")
	p := r.token(name, params)
	p.password = password
	return p
}

// token enrols an active token for somebody who is known already.
func (r *rig) token(name string, params otp.Params) *person {
	r.Helper()
	p := &person{name: name, params: params, last: -1}
	out := r.ok("token", "enrol", name, "--active", "--json", "--type", string(params.Type), "--digits", fmt.Sprint(params.Digits))
	var t struct{ ID, URI string }
	if err := json.Unmarshal([]byte(out), &t); err != nil {
		r.Fatalf("token enrol --json: %v", err)
	}
	p.token, p.uri = t.ID, t.URI
	p.seed = seedOf(r, t.URI)
	r.people[name] = p
	return p
}

// seedOf reads an otpauth URI as an authenticator app does.
func seedOf(t testing.TB, uri string) []byte {
	t.Helper()
	key, err := pquerna.NewKeyFromURL(uri)
	if err != nil {
		t.Fatalf("%v", err)
	}
	seed, err := seedEncoding.DecodeString(key.Secret())
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

func byTime() otp.Params { return otp.Default() }

func byCount() otp.Params {
	p := otp.Default()
	p.Type, p.Period = otp.TypeHOTP, 0
	return p
}

// code makes the next code. HOTP has any number of them. TOTP has two in a row that are surely good, this step's and
// the next one's; a third waits for the clock.
func (p *person) code() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	if p.params.Type == otp.TypeTOTP {
		p.last = max(p.last, p.params.StepAt(time.Now()))
		if ahead := p.last - p.params.StepAt(time.Now()) - 1; ahead > 0 {
			<-time.After(time.Until(time.Unix((p.last-1)*int64(p.params.Period), 0)))
		}
	}
	return otp.Code(p.seed, p.params, p.last)
}

// process is `sallyport serve` as a process.
type process struct {
	cmd                  *exec.Cmd
	radius, ssh, metrics string        // addresses, from the ready line
	accounting, radsec   string        // the same
	ended                chan struct{} // closed when the process and its output have ended
	status               error         // of the process, once ended
	lines                chan string   // its log, dropped when nobody reads
}

// start runs the daemon and returns when it says that it is ready.
func (r *rig) start(more ...func(*exec.Cmd)) *process {
	r.Helper()
	d, err := r.launch(more...)
	if err != nil {
		r.Fatal(err)
	}
	return d
}

// launch is start for daemons that may fail.
func (r *rig) launch(more ...func(*exec.Cmd)) (*process, error) {
	r.Helper()
	cmd := exec.Command(program(r), "-c", r.config, "serve")
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	for _, change := range more {
		change(cmd)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &process{cmd: cmd, ended: make(chan struct{}), lines: make(chan string, 1000)}
	ready := make(chan struct{})
	var complaint bytes.Buffer
	go func() {
		defer close(d.ended)
		in := bufio.NewReader(stderr)
		isReady := false
		for {
			line, err := in.ReadString('\n')
			r.note(line)
			if !isReady {
				complaint.WriteString(line)
				if isReady = d.readyLine(line); isReady {
					close(ready)
				}
			}
			select {
			case d.lines <- line:
			default:
			}
			if err != nil {
				break
			}
		}
		d.status = cmd.Wait()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ready:
		r.daemon = d
		r.Cleanup(d.end)
		return d, nil
	case <-d.ended:
		return d, fmt.Errorf("the daemon ended (%v) before it was ready:\n%s", d.status, complaint.String())
	case <-timer.C:
		d.end()
		return d, fmt.Errorf("the daemon was not ready after %v:\n%s", patience, complaint.String())
	}
}

// readyLine takes the addresses from the line that says ready.
func (d *process) readyLine(line string) bool {
	var l struct{ Msg, RADIUS, Accounting, RadSec, SSH, Metrics string }
	if json.Unmarshal([]byte(line), &l) != nil || l.Msg != "ready" {
		return false
	}
	d.radius, d.ssh, d.metrics, d.accounting, d.radsec = l.RADIUS, l.SSH, l.Metrics, l.Accounting, l.RadSec
	return true
}

// await returns the first line of the log, from now on, that holds word.
func (d *process) await(t testing.TB, word string) string {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case line := <-d.lines:
			if strings.Contains(line, word) {
				return line
			}
		case <-d.ended:
			t.Fatalf("the daemon ended (%v), and its log never said %q", d.status, word)
		case <-timer.C:
			t.Fatalf("the log did not say %q", word)
		}
	}
}

// end kills the process if it still runs. Its exit status is then of no interest.
func (d *process) end() {
	select {
	case <-d.ended:
		return
	default:
	}
	_ = d.cmd.Process.Kill() // an error means that it has ended meanwhile
	<-d.ended
}

// stop ends the daemon as systemd does. It must exit with 0.
func (r *rig) stop() {
	r.Helper()
	d := r.daemon
	r.daemon = nil
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.Fatalf("SIGTERM: %v", err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-d.ended:
	case <-timer.C:
		d.end()
		r.Fatalf("the daemon did not end within %v of SIGTERM", patience)
	}
	if d.status != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Fatalf("the daemon ended with %v after SIGTERM\n%s", d.status, tailOf(r.said.String()))
	}
}

// kill ends the daemon as a power cut does, but for what the kernel still holds.
func (r *rig) kill() {
	r.daemon.end()
	r.daemon = nil
}

func tailOf(s string) string { return s[max(0, len(s)-4000):] }

// check is the invariant that holds after every step, with the daemon up, down or killed: the log verifies (P8), in
// which no step of a token is consumed twice (P2).
func (r *rig) check() audit.Report {
	r.Helper()
	report, err := r.verify()
	if err != nil {
		r.Fatalf("audit verify: %v", err)
	}
	return report
}

func (r *rig) verify() (audit.Report, error) {
	r.Helper()
	p := layout(r.data)
	v, err := readVerifier(p.auditPublic)
	if err != nil {
		r.Fatal(err)
	}
	return audit.VerifyDir(p.journal, p.checkpoint, v, nil)
}

// records returns what audit search finds.
func (r *rig) records(args ...string) []*audit.Record {
	r.Helper()
	var all []*audit.Record
	out := r.ok(append([]string{"audit", "search", "--json"}, args...)...)
	for line := range strings.Lines(out) {
		rec, err := audit.Parse([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			r.Fatalf("audit search --json: %v in %q", err, line)
		}
		all = append(all, rec)
	}
	return all
}

// last returns the newest record that audit search finds.
func (r *rig) last(args ...string) *audit.Record {
	r.Helper()
	all := r.records(append(args, "--limit", "1")...)
	if len(all) != 1 {
		r.Fatalf("audit search %v finds %d records, want one", args, len(all))
	}
	return all[0]
}

// detail is the value of a record's detail.
func detail(rec *audit.Record, key string) string {
	for _, d := range rec.Detail {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}

// caller reaches the running daemon's verbs, without the command around them.
func (r *rig) caller() *admin.Client {
	c := admin.NewClient(layout(r.data).socket)
	r.Cleanup(c.Close)
	return c
}

// runTool runs a program of somebody else's, without a terminal to ask at, and returns what it printed. An exit status
// that is not 0 is a result and no error.
func runTool(t testing.TB, stdin string, env []string, name string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	exit := (*exec.ExitError)(nil)
	switch {
	case ctx.Err() != nil:
		t.Fatalf("%s %v did not end within %v\n%s%s", name, args, patience, out.String(), errs.String())
	case err == nil:
	case errors.As(err, &exit):
		status = exit.ExitCode()
	default:
		t.Fatalf("%s: %v", name, err)
	}
	return out.String(), errs.String(), status
}

// mustRead reads a whole file.
func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// copyTree copies a folder of plain files.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// until calls try, again and again, until it gives true.
func until(t testing.TB, what string, try func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !try(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// dialUntil connects to somebody who is about to listen.
func dialUntil(t testing.TB, address string) (conn net.Conn) {
	t.Helper()
	until(t, "connecting to "+address, func() bool {
		var err error
		conn, err = net.Dial("tcp", address)
		return err == nil
	})
	return conn
}

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}
