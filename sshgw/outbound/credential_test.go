package outbound

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
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func TestPassword(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set    func(*fake)
		secret string
		cause  error
		tries  int
		in     bool
	}{
		"password method":    {nil, hunter, nil, 1, true},
		"wrong, tried once":  {nil, "other", nil, 1, false},
		"a prompt":           {keyboardOnly([]string{"Password: "}), hunter, nil, 1, true},
		"wrong at a prompt":  {keyboardOnly([]string{"Password: "}), "other", nil, 1, false},
		"a note first":       {keyboardOnly(nil, []string{"Password: "}), hunter, nil, 1, true},
		"asked again":        {keyboardOnly([]string{"Password: "}, []string{"Password: "}), hunter, ErrAskedAgain, 0, false},
		"two at once":        {keyboardOnly([]string{"Password: ", "Code: "}), hunter, ErrOddPrompt, 0, false},
		"a prompt with echo": {keyboardOnly([]string{"login: "}), hunter, ErrOddPrompt, 0, false},
		"both methods, wrong": {func(f *fake) {
			check := f.config.PasswordCallback
			keyboardOnly([]string{"Password: "})(f)
			f.config.PasswordCallback = check
		}, "other", ErrAskedAgain, 1, false}, // a second try could lock the account
		"public keys only": {func(f *fake) {
			f.config.PasswordCallback = nil
			f.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errWrong }
		}, hunter, nil, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := edKey(t)
			f := newFake(t, c.set, key)
			info, err := try(t, Target{Address: f.addr(), HostKeys: known(key), Credential: NewPassword(c.secret)}, Options{})
			var auth *AuthFailed
			if c.in != (err == nil) || err != nil && !errors.As(err, &auth) {
				t.Fatalf("in: %v", err)
			}
			if err != nil && !errors.Is(err, c.cause) && c.cause != nil || err != nil && c.cause == nil && auth.Cause != nil {
				t.Errorf("cause %v, want %v", auth.Cause, c.cause)
			}
			if f.tried() != c.tries {
				t.Errorf("%d tries, want %d", f.tried(), c.tries)
			}
			if info.Credential != "password" || info.Key != KeyOf(key.PublicKey()) {
				t.Errorf("info %+v", info)
			}
		})
	}
	if text := fmt.Sprintf("%v %+v %s %#v", NewPassword(hunter), NewPassword(hunter), NewPassword(hunter), Target{Credential: NewPassword(hunter)}); strings.Contains(text, hunter) {
		t.Errorf("a password prints: %s", text)
	}
}

func TestAsk(t *testing.T) {
	t.Parallel()
	key := edKey(t)
	var seen []string
	answers := func(answer string, err error) Credential {
		return NewAsk(func(_ context.Context, name, instruction string, prompts []string, echos []bool) ([]string, error) {
			seen = append(seen, prompts...)
			all := make([]string, len(prompts))
			for i := range all {
				all[i] = answer
			}
			return all, err
		})
	}
	for name, c := range map[string]struct {
		set   func(*fake)
		cred  Credential
		in    bool
		cause error
		want  string
	}{
		"prompts":      {keyboardOnly([]string{"login: ", "Password: "}), answers("x", nil), false, nil, "login: |Password: |login: |Password: |login: |Password: "},
		"right":        {keyboardOnly([]string{"Code: "}), answers(hunter, nil), true, nil, "Code: "},
		"password":     {nil, answers(hunter, nil), true, nil, "netadmin@sw1's password: "},
		"nobody there": {nil, answers("", errWrong), false, ErrNoAnswer, "netadmin@sw1's password: "},
		"too much":     {keyboardOnly([]string{strings.Repeat("?", maxPrompt+1)}), answers("x", nil), false, ErrTooMuchAsked, ""},
	} {
		seen = nil
		f := newFake(t, c.set, key)
		_, err := try(t, Target{Address: f.addr(), HostKeys: known(key), Credential: c.cred}, Options{})
		if (err == nil) != c.in || c.cause != nil && !errors.Is(err, c.cause) {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(seen, "|"); got != c.want {
			t.Errorf("%s: asked %q, want %q", name, got, c.want)
		}
	}
	// A person who walks away.
	f := newFake(t, nil, key)
	away := NewAsk(func(ctx context.Context, _, _ string, _ []string, _ []bool) ([]string, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	_, err := try(t, Target{Address: f.addr(), HostKeys: known(key), Credential: away}, Options{Times: Times{Person: 50 * time.Millisecond}})
	var failed *Failed
	if !errors.As(err, &failed) || !failed.Timeout() || failed.Step != StepLogin {
		t.Errorf("a person who walks away: %v", err)
	}
}

// forwarded serves a keyring as an agent, and returns the connection to it.
func forwarded(t *testing.T, keys ...ed25519.PrivateKey) net.Conn {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); _ = agent.ServeAgent(ring, theirs); theirs.Close() }()
	t.Cleanup(func() { ours.Close(); <-done })
	return ours
}

func privateKeys(t *testing.T, n int) (keys []ed25519.PrivateKey, prints []string) {
	t.Helper()
	for range n {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys, prints = append(keys, k), append(prints, ssh.FingerprintSHA256(signer(t, k, nil).PublicKey()))
	}
	return keys, prints
}

func TestAgent(t *testing.T) {
	t.Parallel()
	host := edKey(t)
	keys, prints := privateKeys(t, 10)
	f := newFake(t, func(f *fake) {
		f.config.PasswordCallback = nil
		f.config.MaxAuthTries = 6
		f.config.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.offers = append(f.offers, ssh.FingerprintSHA256(key))
			if ssh.FingerprintSHA256(key) == prints[9] {
				return nil, nil
			}
			return nil, errWrong
		}
	}, host)
	target := Target{Address: f.addr(), HostKeys: known(host)}
	target.Credential = NewAgent(forwarded(t, keys...), AgentOptions{Prefer: []string{prints[9]}})
	if _, err := try(t, target, Options{}); err != nil || f.offers[0] != prints[9] {
		t.Errorf("the preferred key was not first: %v", err)
	}
	f.offers = nil
	target.Credential = NewAgent(forwarded(t, keys...), AgentOptions{Most: 3})
	_, err := try(t, target, Options{})
	var auth *AuthFailed
	if !errors.As(err, &auth) || len(f.offers) != 3 {
		t.Errorf("%d keys were tried: %v", len(f.offers), err)
	}
	target.Credential = NewAgent(forwarded(t), AgentOptions{})
	if _, err = try(t, target, Options{}); !errors.Is(err, ErrNoKeys) {
		t.Errorf("an empty agent: %v", err)
	}
	// An agent that does not answer is let go of.
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(io.Discard, theirs) }()
	target.Credential = NewAgent(ours, AgentOptions{})
	_, err = try(t, target, Options{Times: Times{Person: 50 * time.Millisecond}})
	var failed *Failed
	if !errors.As(err, &failed) || !failed.Timeout() {
		t.Errorf("an agent that is silent: %v", err)
	}
	<-done // its connection was closed
	// One that hangs up.
	ours, theirs = net.Pipe()
	theirs.Close()
	target.Credential = NewAgent(ours, AgentOptions{})
	if _, err = try(t, target, Options{}); !errors.Is(err, ErrAgentFailed) {
		t.Errorf("an agent that hangs up: %v", err)
	}
}

func TestNewKeyIsSilent(t *testing.T) {
	t.Parallel()
	for _, text := range []string{hunter, "-----BEGIN OPENSSH PRIVATE KEY-----\n" + hunter + "\n-----END OPENSSH PRIVATE KEY-----\n", ""} {
		if _, err := NewKey([]byte(text), nil); err == nil || strings.Contains(err.Error(), hunter) {
			t.Errorf("%v", err)
		}
	}
	private, _, err := GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKey(private, []byte("ssh-ed25519 AAAA")); err == nil {
		t.Error("a certificate that is none was taken")
	}
}

// OpenSSH's sshd takes every credential with keys, and what is negotiated is modern.
func TestOpenSSH(t *testing.T) {
	t.Parallel()
	keys, prints := privateKeys(t, 3)
	ca := newCA(t)
	s := startSSHD(t, signer(t, keys[1], nil).PublicKey(), ca, "LogLevel VERBOSE", "Banner "+bannerFile(t))
	target := Target{Address: s.addr, User: s.account, HostKeys: known(s.host)}
	key, err := NewKey(pemOf(t, keys[1]), nil)
	if err != nil {
		t.Fatal(err)
	}
	certified, err := NewKey(pemOf(t, keys[2]), certificateFor(t, ca, keys[2], s.account))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Credential{
		"key":                       key,
		"key with a certificate":    certified,
		"agent":                     NewAgent(forwarded(t, keys...), AgentOptions{Prefer: prints[2:]}),
		"certificate of the CA":     NewCertificate(ca, Identity{Person: "alice", Session: "0190-s1", Account: s.account}),
		"certificate for a session": NewCertificate(ca, Identity{Person: "alice", Account: s.account, For: time.Hour}),
	} {
		target.Credential = c
		info, err := try(t, target, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(info.Legacy) > 0 || info.Banner != "staff only\n" || !strings.HasPrefix(info.ServerVersion, "SSH-2.0-OpenSSH") || info.Algorithms.HostKey != "ssh-ed25519" {
			t.Errorf("%s: %+v", name, info)
		}
	}
	if log := s.log(t); !strings.Contains(log, `ID "alice session 0190-s1"`) {
		t.Errorf("sshd's log does not name person and session")
	}
	var auth *AuthFailed
	for name, c := range map[string]Credential{
		"password":                 NewPassword(hunter),
		"another CA":               NewCertificate(newCA(t), Identity{Person: "alice", Account: s.account}),
		"for another account":      NewCertificate(ca, Identity{Person: "alice", Account: "nobody-here"}),
		"a key that is not let in": func() Credential { k, _ := NewKey(pemOf(t, keys[0]), nil); return k }(),
	} {
		target.Credential = c
		if _, err := try(t, target, Options{}); !errors.As(err, &auth) || len(auth.Methods) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	target.Credential = NewCertificate(ca, Identity{Person: "alice", Account: s.account})
	late := func() time.Time { return time.Now().Add(-DefaultValidity - time.Minute) }
	if _, err := try(t, target, Options{Now: late}); !errors.As(err, &auth) {
		t.Errorf("a certificate that has ended: %v", err)
	}
	// Its session works, through an old switch's elder brother as the hop before, and over several key exchanges.
	hopKey := edKey(t)
	hop := newFake(t, nil, hopKey)
	via, _, err := Dial(t.Context(), Target{Name: "hop", Address: hop.addr(), User: "x", HostKeys: known(hopKey), Credential: NewPassword(hunter)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer via.Close()
	c, _, err := Dial(t.Context(), target, Options{Dial: via.Dialer(), RekeyThreshold: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(c.Conn, c.Channels, c.Requests)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	session.Stdin = bytes.NewReader(make([]byte, 1<<20))
	out, err := session.Output("cat")
	if err != nil || len(out) != 1<<20 {
		t.Errorf("cat through a hop: %d bytes, %v", len(out), err)
	}
	var failed *Failed
	target.Address = "127.0.0.1:1"
	if _, err := try(t, target, Options{Dial: func(ctx context.Context, n, a string) (net.Conn, error) { return client.DialContext(ctx, n, a) }}); !errors.As(err, &failed) || failed.Step != StepConnect {
		t.Errorf("nobody there beyond the hop: %v", err)
	}
}

func bannerFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "banner")
	write(t, path, []byte("staff only\n"))
	return path
}

func certificateFor(t *testing.T, ca *CA, key ed25519.PrivateKey, principal string) []byte {
	t.Helper()
	own := signer(t, key, nil)
	cert := &ssh.Certificate{CertType: ssh.UserCert, ValidPrincipals: []string{principal}, ValidBefore: ssh.CertTimeInfinity}
	with, err := ca.certify(cert, own)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.MarshalAuthorizedKey(with.PublicKey())
}

// Dropbear, which is in much small kit.
func TestDropbear(t *testing.T) {
	t.Parallel()
	bin, maker := path(t, "dropbear", "dropbear-bin"), path(t, "dropbearkey", "dropbear-bin")
	s := &server{dir: t.TempDir(), account: me(t)}
	var lines []string
	args := []string{"-F", "-E", "-P", s.dir + "/pid", "-w"}
	for _, kind := range []string{"ed25519", "rsa"} {
		file := s.dir + "/" + kind
		out, err := exec.Command(maker, "-t", kind, "-f", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "ssh-") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		args = append(args, "-r", file)
	}
	s.addr = "127.0.0.1:" + freePort(t)
	s.run(t, bin, append(args, "-p", s.addr)...)
	keys, err := Scan(t.Context(), Target{Name: "box", Address: s.addr}, Options{})
	if err != nil || len(keys) != len(lines) || len(keys) != 2 {
		t.Fatalf("scanned %d keys of %d: %v", len(keys), len(lines), err)
	}
	var auth *AuthFailed
	for _, line := range lines { // each alone is enough
		pins, err := ParseHostKeys([]string{line})
		if err != nil {
			t.Fatal(err)
		}
		info, err := try(t, Target{Name: "box", Address: s.addr, User: s.account, HostKeys: pins, Credential: NewPassword(hunter)}, Options{})
		if !errors.As(err, &auth) || info.Key != pins.Pinned[0] || !strings.Contains(info.ServerVersion, "dropbear") {
			t.Errorf("%s: %+v, %v", line, info, err)
		}
	}
}

// A stock client trusts the gateway's host certificate by the one line.
func TestHostCertificate(t *testing.T) {
	t.Parallel()
	bin := path(t, "ssh", "openssh-client")
	ca := newCA(t)
	patterns, principals := Names("Core-SW1", "10.0.0.1:2222")
	if got := strings.Join(patterns, " "); got != "core-sw1 [core-sw1]:2222 [10.0.0.1]:2222" || strings.Join(principals, " ") != "core-sw1 10.0.0.1" {
		t.Errorf("names %s, %v", got, principals)
	}
	if patterns, _ := Names("srv1", "10.0.0.2:22"); strings.Join(patterns, " ") != "srv1 10.0.0.2" {
		t.Errorf("names %v", patterns)
	}
	cert, err := ca.HostCertificate(edKey(t), principals, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t, nil, cert)
	host, port, _ := net.SplitHostPort(f.addr())
	dir := t.TempDir()
	write(t, dir+"/known", []byte(ca.KnownHosts(patterns)+"\n"))
	for name, want := range map[string]bool{"core-sw1": true, "10.0.0.1": false, "other": false} { // the address only with its port
		cmd := exec.Command(bin, "-F", "none", "-o", "UserKnownHostsFile="+dir+"/known", "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
			"-o", "BatchMode=yes", "-o", "HostKeyAlias="+name, "-p", port, "x@"+host)
		out, _ := cmd.CombinedOutput()
		if got := strings.Contains(string(out), "Permission denied"); got != want { // it came to the login
			t.Errorf("%s: ssh says %s", name, out)
		}
	}
	if _, err := ca.HostCertificate(edKey(t), nil, time.Now(), time.Now()); err == nil {
		t.Error("a certificate for every host was made")
	}
	if _, err := ca.UserCertificate(Identity{Person: "alice"}, time.Now()); err == nil {
		t.Error("a certificate for every account was made")
	}
}

func TestCAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ca")
	made, err := CreateCA(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadCA(path)
	if err != nil || loaded.AuthorizedKey("x") != made.AuthorizedKey("x") {
		t.Fatalf("loaded %v", err)
	}
	if _, err := CreateCA(path, "test"); err == nil {
		t.Error("it was replaced")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCA(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("lax mode: %v", err)
	}
}
