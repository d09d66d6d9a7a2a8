package outbound

import (
	"context"
	"crypto/dsa" //lint:ignore SA1019 old kit has such keys
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
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
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hunter is a password that must be in no error.
const hunter = "hunter2-Tr0ub4dor"

// fake is a target of our own, with knobs.
type fake struct {
	config   ssh.ServerConfig
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	tries  int      // passwords and answers that were given
	offers []string // fingerprints of keys that were offered
}

func newFake(t testing.TB, set func(*fake), keys ...ssh.Signer) *fake {
	t.Helper()
	f := &fake{}
	f.config.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		return nil, f.check(string(p))
	}
	for _, k := range keys {
		f.config.AddHostKey(k)
	}
	if set != nil {
		set(f)
	}
	var err error
	if f.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	f.work.Go(f.serve)
	t.Cleanup(f.close)
	return f
}

var errWrong = errors.New("wrong")

func (f *fake) check(password string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	if password != hunter {
		return errWrong
	}
	return nil
}

// keyboardOnly asks for the password by prompts, as old switches do.
func keyboardOnly(rounds ...[]string) func(*fake) {
	return func(f *fake) {
		f.config.PasswordCallback = nil
		f.config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			var all []string
			for _, prompts := range rounds {
				echos := make([]bool, len(prompts))
				for i, p := range prompts {
					echos[i] = strings.HasSuffix(p, "login: ")
				}
				answers, err := ask("", "welcome", prompts, echos)
				if err != nil {
					return nil, err
				}
				all = append(all, answers...)
			}
			return nil, f.check(strings.Join(all, "+"))
		}
	}
}

func (f *fake) serve() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns = append(f.conns, conn)
		f.mu.Unlock()
		f.work.Go(func() { f.handle(conn) })
	}
}

func (f *fake) handle(conn net.Conn) {
	defer conn.Close()
	c, channels, requests, err := ssh.NewServerConn(conn, &f.config)
	if err != nil {
		return
	}
	f.work.Go(func() { ssh.DiscardRequests(requests) })
	f.work.Go(func() {
		for open := range channels {
			if open.ChannelType() != "direct-tcpip" {
				_ = open.Reject(ssh.UnknownChannelType, "no")
				continue
			}
			var to struct {
				Host string
				Port uint32
				From string
				By   uint32
			}
			if err := ssh.Unmarshal(open.ExtraData(), &to); err != nil {
				return
			}
			onward, err := net.Dial("tcp", net.JoinHostPort(to.Host, fmt.Sprint(to.Port)))
			if err != nil {
				_ = open.Reject(ssh.ConnectionFailed, "no")
				continue
			}
			ch, reqs, err := open.Accept()
			if err != nil {
				onward.Close()
				return
			}
			f.work.Go(func() { ssh.DiscardRequests(reqs) })
			f.work.Go(func() { _, _ = io.Copy(ch, onward); ch.Close() })
			f.work.Go(func() { _, _ = io.Copy(onward, ch); onward.Close() })
		}
	})
	_ = c.Wait()
}

func (f *fake) close() {
	f.listener.Close()
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.work.Wait()
}

func (f *fake) addr() string { return f.listener.Addr().String() }

func (f *fake) tried() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tries
}

// oldSwitch offers what a switch of 2005 does, and nothing else.
func oldSwitch(f *fake) {
	keyboardOnly([]string{"Password: "})(f)
	f.config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH1SHA1}
	f.config.Ciphers = []string{ssh.InsecureCipherTripleDESCBC}
	f.config.MACs = []string{ssh.HMACSHA1}
}

func signer(t testing.TB, key any, err error) ssh.Signer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func edKey(t testing.TB) ssh.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return signer(t, key, err)
}

func ecKey(t testing.TB) ssh.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return signer(t, key, err)
}

func rsaKey(t testing.TB, bits int) ssh.Signer {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	return signer(t, key, err)
}

func dsaKey(t testing.TB) ssh.Signer {
	t.Helper()
	key := new(dsa.PrivateKey)
	if err := dsa.GenerateParameters(&key.Parameters, rand.Reader, dsa.L1024N160); err != nil {
		t.Fatal(err)
	}
	return signer(t, key, dsa.GenerateKey(key, rand.Reader))
}

// sha1Only makes a host key that signs with SHA-1 alone, as before RFC 8332.
func sha1Only(t testing.TB, s ssh.Signer) ssh.Signer {
	t.Helper()
	old, err := ssh.NewSignerWithAlgorithms(s.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	return old
}

func known(keys ...ssh.Signer) HostKeys {
	var h HostKeys
	for _, k := range keys {
		h.Approved = append(h.Approved, KeyOf(k.PublicKey()))
	}
	return h
}

func algorithms(t testing.TB, words ...string) Algorithms {
	t.Helper()
	a, err := ParseAlgorithms(words)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try dials, closes what it gets, and looks whether the error holds the password.
func try(t testing.TB, target Target, o Options) (Info, error) {
	t.Helper()
	if target.Name == "" {
		target.Name = "sw1"
	}
	if target.User == "" {
		target.User = "netadmin"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, info, err := Dial(ctx, target, o)
	if err == nil {
		go ssh.DiscardRequests(c.Requests)
		c.Close()
		_ = c.Wait()
		for open := range c.Channels {
			_ = open.Reject(ssh.Prohibited, "")
		}
	}
	if err != nil && strings.Contains(err.Error(), hunter) {
		t.Errorf("an error holds the password: %v", err)
	}
	return info, err
}

// server is a real SSH server in a process of its own.
type server struct {
	dir, addr, account string
	host               ssh.Signer
}

func me(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// path finds a program that a test needs, and fails the test with the Debian package that has it.
func path(t testing.TB, name, debianPackage string) string {
	t.Helper()
	for _, place := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(place); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed (Debian package %s)", name, debianPackage)
	return ""
}

// freePort finds a port that nobody has; who gets it in between makes the test fail loudly.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func write(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// startSSHD runs OpenSSH's sshd with an authorized key, the CA's trust, and lines of configuration.
func startSSHD(t testing.TB, authorized ssh.PublicKey, ca *CA, lines ...string) *server {
	t.Helper()
	sshd := path(t, "sshd", "openssh-server")
	s := &server{dir: t.TempDir(), account: me(t)}
	private, host, err := GenerateKey("host")
	if err != nil {
		t.Fatal(err)
	}
	s.host = host
	port := freePort(t)
	s.addr = "127.0.0.1:" + port
	write(t, s.dir+"/host", private)
	write(t, s.dir+"/authorized", ssh.MarshalAuthorizedKey(authorized))
	write(t, s.dir+"/ca.pub", []byte(ca.AuthorizedKey("ca")+"\n"))
	config := fmt.Sprintf(`Port %s
ListenAddress 127.0.0.1
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/authorized
TrustedUserCAKeys %[2]s/ca.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
%[3]s
`, port, s.dir, strings.Join(lines, "\n"))
	write(t, s.dir+"/config", []byte(config))
	if os.Getuid() == 0 {
		_ = os.MkdirAll("/run/sshd", 0o755) // sshd's privilege separation wants it
	}
	s.run(t, sshd, "-D", "-e", "-f", s.dir+"/config")
	return s
}

// run starts the server, and waits until it answers.
func (s *server) run(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	log, err := os.Create(s.dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		log.Close()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), s.log(t))
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v\n%s", name, err, s.log(t))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) log(t testing.TB) string {
	b, err := os.ReadFile(s.dir + "/log")
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func newCA(t testing.TB) *CA {
	t.Helper()
	ca, err := CreateCA(filepath.Join(t.TempDir(), "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func pemOf(t testing.TB, key any) []byte {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
