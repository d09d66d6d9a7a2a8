package sshgw

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// The floor of golang.org/x/crypto: before v0.56.0 one peer can deadlock a connection (CVE-2026-78662, CVE-2026-56855).
func TestCryptoFloor(t *testing.T) {
	const floor, module = "v0.56.0", "golang.org/x/crypto"
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Replace {
		if r.Old.Path == module {
			t.Errorf("%s is replaced by %s", module, r.New)
		}
	}
	for _, r := range mod.Require {
		if r.Mod.Path == module {
			if semver.Compare(r.Mod.Version, floor) < 0 {
				t.Errorf("%s is %s, want at least %s", module, r.Mod.Version, floor)
			}
			return
		}
	}
	t.Errorf("%s is not required", module)
}

// What a client sees before it says anything: exactly these, whatever x/crypto/ssh's defaults become.
func TestOffersOnlyModern(t *testing.T) {
	h := newHarness(t)
	cfg := h.config(echo(t))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaSigner, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cfg.HostKeys = append(cfg.HostKeys, rsaSigner)
	h.serve(cfg)
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "SSH-2.0-Test\r\n")
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || line != serverVersion+"\r\n" {
		t.Fatalf("version %q, %v", line, err)
	}
	got := readKexInit(t, r)
	ciphers := "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes256-ctr,aes128-ctr"
	macs := "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256"
	want := []string{
		"mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,diffie-hellman-group16-sha512,kex-strict-s-v00@openssh.com",
		"ssh-ed25519,rsa-sha2-256,rsa-sha2-512",
		ciphers, ciphers, macs, macs, "none", "none", "", "",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("offered\n%q\nwant\n%q", got, want)
	}
}

// readKexInit reads the name lists of the first packet, which is not enciphered (RFC 4253 sections 6 and 7.1).
func readKexInit(t *testing.T, r io.Reader) (lists []string) {
	t.Helper()
	var length uint32
	if err := binary.Read(r, binary.BigEndian, &length); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, length)
	if _, err := io.ReadFull(r, packet); err != nil {
		t.Fatal(err)
	}
	body := packet[1:]
	if body[0] != 20 {
		t.Fatalf("message %d, want SSH_MSG_KEXINIT", body[0])
	}
	body = body[17:]
	for range 10 {
		n := binary.BigEndian.Uint32(body)
		lists = append(lists, string(body[4:4+n]))
		body = body[4+n:]
	}
	return lists
}

// x/crypto/ssh trap: its defaults hold SHA-1 and ssh-dss. None of what it calls insecure is in ours.
func TestNothingInsecure(t *testing.T) {
	h := newHarness(t)
	set, err := compile(h.config("10.0.0.1:22"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := newServerConfig(set, set.HostKeys)
	good, bad := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	for name, c := range map[string]struct{ ours, good, bad []string }{
		"key exchange": {cfg.KeyExchanges, good.KeyExchanges, bad.KeyExchanges},
		"cipher":       {cfg.Ciphers, good.Ciphers, bad.Ciphers},
		"MAC":          {cfg.MACs, good.MACs, bad.MACs},
		"public key":   {cfg.PublicKeyAuthAlgorithms, good.PublicKeyAuths, bad.PublicKeyAuths},
	} {
		if len(c.ours) == 0 {
			t.Errorf("%s: none named, so the defaults count", name)
		}
		for _, a := range c.ours {
			if !contains(c.good, a) || contains(c.bad, a) || strings.Contains(a, "sha1") {
				t.Errorf("%s %s is not a good one that x/crypto/ssh knows", name, a)
			}
		}
	}
}

func contains(list []string, x string) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

func TestInsecureClientsAreRefused(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	insecure := ssh.InsecureAlgorithms()
	for name, set := range map[string]func(*ssh.ClientConfig){
		"key exchange": func(c *ssh.ClientConfig) { c.KeyExchanges = insecure.KeyExchanges },
		"cipher":       func(c *ssh.ClientConfig) { c.Ciphers = append(insecure.Ciphers, ssh.CipherChaCha20Poly1305) },
		"MAC": func(c *ssh.ClientConfig) {
			c.Ciphers, c.MACs = []string{ssh.CipherAES128CTR}, append(insecure.MACs, ssh.HMACSHA1)
		},
		"host key": func(c *ssh.ClientConfig) { c.HostKeyAlgorithms = insecure.HostKeys },
	} {
		cfg := h.clientConfig("alice", (&typist{password: alicePassword, code: h.code()}).auth())
		set(cfg)
		if _, err := ssh.Dial("tcp", h.addr, cfg); err == nil || !strings.Contains(err.Error(), "no common algorithm") {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.await("the drops", func() bool { return h.meter.get("dropped "+string(dropNegotiation)) == 4 })
}

// Clients without GCM (PuTTY before 0.78) still get in.
func TestOlderClients(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	for _, cipher := range []string{ssh.CipherAES128CTR, ssh.CipherAES256CTR, ssh.CipherAES256GCM} {
		cfg := h.clientConfig("alice", (&typist{password: alicePassword, code: h.code()}).auth())
		cfg.Ciphers, cfg.KeyExchanges = []string{cipher}, []string{ssh.KeyExchangeDH16SHA512}
		c, err := ssh.Dial("tcp", h.addr, cfg)
		if err != nil {
			t.Errorf("%s: %v", cipher, err)
			continue
		}
		c.Close()
		if r := h.last("login"); detail(r, "ssh_cipher") != cipher || detail(r, "ssh_kex") != ssh.KeyExchangeDH16SHA512 {
			t.Errorf("%s: the record says %+v", cipher, r.Detail)
		}
	}
}

func weakRSA(t testing.TB) ssh.Signer {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHostKeyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "host_key")
	made, err := CreateHostKey(path)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadHostKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(made.PublicKey().Marshal()) != string(loaded.PublicKey().Marshal()) || loaded.PublicKey().Type() != ssh.KeyAlgoED25519 {
		t.Error("another key came back")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "-----BEGIN OPENSSH PRIVATE KEY-----") {
		t.Errorf("the file begins %.40q, %v", text, err)
	}
	if _, err := CreateHostKey(path); err == nil {
		t.Error("an existing key was replaced")
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(text) {
		t.Error("the existing file was changed")
	}
	if _, err := CreateHostKey(filepath.Join(dir, "none", "host_key")); err == nil {
		t.Error("a key was made in no folder")
	}

	locked, err := ssh.MarshalPrivateKeyWithPassphrase(mustRSA(t, 2048), "", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	weak := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(mustRSA(t, 1024))})
	for name, c := range map[string]struct {
		text []byte
		mode os.FileMode
		want string
	}{
		"readable by the group": {text, 0o640, "chmod 600"},
		"readable by all":       {text, 0o604, "chmod 600"},
		"empty":                 {nil, 0o600, "no key found"},
		"cut":                   {text[:len(text)/2], 0o600, "no key found"},
		"encrypted":             {pem.EncodeToMemory(locked), 0o600, "encrypted"},
		"RSA of 1024 bits":      {weak, 0o600, "1024 bits"},
	} {
		p := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(p, c.text, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadHostKey(p); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v, want %q and the path", name, err, c.want)
		}
	}
	if _, err := LoadHostKey(filepath.Join(dir, "missing")); !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("missing: %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		if _, ok := err.(*os.PathError); ok {
			return err
		}
		err = u.Unwrap()
	}
}

func mustRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSetConfig(t *testing.T) {
	h := newHarness(t)
	h.server(h.config("10.0.0.1:22"))
	before := h.srv.settings.Load()
	if before.GraceFirst != DefaultConfig().GraceFirst || before.MaxChannels != DefaultConfig().MaxChannels {
		t.Error("zero fields did not take the defaults")
	}
	for name, spoil := range map[string]func(*Config){
		"no host key":        func(c *Config) { c.HostKeys = nil },
		"nil host key":       func(c *Config) { c.HostKeys = []ssh.Signer{nil} },
		"weak host key":      func(c *Config) { c.HostKeys = []ssh.Signer{weakRSA(t)} },
		"bad target":         func(c *Config) { c.Targets[0].Address = "nowhere" },
		"chacha20":           func(c *Config) { c.Ciphers = []string{ssh.CipherChaCha20Poly1305} },
		"unknown cipher":     func(c *Config) { c.Ciphers = []string{"aes128-gcm"} },
		"prompts":            func(c *Config) { c.Prompts = 7 },
		"startups backwards": func(c *Config) { c.MaxStartups = Startups{Begin: 10, Rate: 30, Full: 5} },
		"startups rate":      func(c *Config) { c.MaxStartups = Startups{Begin: 10, Rate: 101, Full: 50} },
		"startups unbounded": func(c *Config) { c.MaxStartups = Startups{Begin: 10, Rate: 30, Full: 1 << 30} },
		"grace":              func(c *Config) { c.GraceFirst = -1 },
		"channels":           func(c *Config) { c.MaxChannels = 1 << 20 },
		"starts per source":  func(c *Config) { c.PerSourceStarts = -1 },
		"penalties":          func(c *Config) { c.Penalties.Sources4 = -1 },
	} {
		c := h.config("10.0.0.1:22")
		spoil(&c)
		if err := h.srv.SetConfig(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if h.srv.settings.Load() != before {
			t.Fatalf("%s: it replaced what was in force", name)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := NewServer(Options{Gate: h.gate}).Serve(t.Context(), ln); err == nil {
		t.Error("a server without a configuration serves")
	}
}
