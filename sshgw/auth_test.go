package sshgw

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// P1, P2, P6: who gets in with what, by both ways of asking, and what the record says.
func TestLogin(t *testing.T) {
	h := newHarness(t)
	stranger := newSigner(t)
	for _, prompts := range []Prompts{OneRound, TwoRounds} {
		cfg := h.config(echo(t))
		cfg.Prompts = prompts
		h.stopServing()
		h.serve(cfg)
		used := h.code()
		for _, c := range []struct {
			name, user, password string
			code                 func() string
			key                  ssh.Signer
			reason               login.Reason
		}{
			{name: "password and code", user: "alice", password: alicePassword, code: func() string { return used }, reason: login.ReasonOK},
			{name: "used code", user: "alice", password: alicePassword, code: func() string { return used }, reason: login.ReasonCodeReused},
			{name: "key, password and code", user: "alice", password: alicePassword, code: h.code, key: h.key, reason: login.ReasonOK},
			{name: "name in capitals", user: "ALICE", password: alicePassword, code: h.code, reason: login.ReasonOK},
			{name: "somebody else's key beside them", user: "alice", password: alicePassword, code: h.code, key: stranger, reason: login.ReasonOK},
			{name: "key and code only", user: "alice", password: "", code: h.code, key: h.key, reason: login.ReasonPasswordMissing},
			{name: "wrong password with key and code", user: "alice", password: "hunter2", code: h.code, key: h.key, reason: login.ReasonPasswordWrong},
			{name: "without code", user: "alice", password: alicePassword, code: func() string { return "" }, reason: login.ReasonCodeMissing},
			{name: "without code but with key", user: "alice", password: alicePassword, code: func() string { return "" }, key: h.key, reason: login.ReasonCodeMissing},
			{name: "wrong code", user: "alice", password: alicePassword, code: func() string { return "000000" }, reason: login.ReasonCodeWrong},
			{name: "wrong password", user: "alice", password: "hunter2", code: h.code, reason: login.ReasonPasswordWrong},
			{name: "nothing", user: "alice", password: "", code: func() string { return "" }, reason: login.ReasonPasswordMissing},
			{name: "unknown person", user: "mallory", password: "hunter2", code: h.code, reason: login.ReasonUnknownPerson},
			{name: "person without a token", user: "bob", password: "abracadabra", code: h.code, reason: login.ReasonNoToken},
			{name: "alice's key for another", user: "bob", password: "abracadabra", code: h.code, key: h.key, reason: login.ReasonNoToken},
			{name: "no name", user: "", password: alicePassword, code: h.code, reason: login.ReasonUnknownPerson},
			{name: "a form of no name", user: "alice@@x", password: alicePassword, code: h.code, reason: login.ReasonUnknownPerson},
			{name: "a long password", user: "alice", password: strings.Repeat("x", 10_000), code: h.code, reason: login.ReasonPasswordWrong},
		} {
			t.Run(fmt.Sprintf("%d/%s", prompts, c.name), func(t *testing.T) {
				who := &typist{password: c.password, code: c.code()}
				auth := []ssh.AuthMethod{who.auth()}
				if c.key != nil {
					auth = []ssh.AuthMethod{ssh.PublicKeys(c.key), who.auth()}
				}
				cfg := h.clientConfig(c.user, auth...)
				banner := ""
				cfg.BannerCallback = func(m string) error { banner += m; return nil }
				client, err := ssh.Dial("tcp", h.addr, cfg)
				if err == nil {
					client.Close()
				}
				if in := err == nil; in != (c.reason == login.ReasonOK) {
					t.Fatalf("in: %v (%v)", in, err)
				}
				if want := promptsOf(prompts); !slices.Equal(who.asked, want) {
					t.Errorf("asked %q, want %q (P6)", who.asked, want)
				}
				if want := ""; c.reason != login.ReasonOK {
					want = "Login refused.\r\n"
					if banner != want {
						t.Errorf("told %q, want %q (P6)", banner, want)
					}
				}
				rec := h.last("login")
				if rec.Reason != string(c.reason) || (rec.Result == audit.Accept) != (c.reason == login.ReasonOK) || rec.Protocol != "ssh" || rec.Source != "127.0.0.1" {
					t.Errorf("record %+v, want reason %s", rec, c.reason)
				}
				proved := slices.ContainsFunc(rec.Factors, func(f audit.Factor) bool { return f.Method == "key" && f.Result == "ok" })
				if want := c.key == h.key && c.user == "alice"; proved != want {
					t.Errorf("the record has the key proved: %v, want %v", proved, want)
				}
				if v := detail(rec, "ssh_client"); v != "SSH-2.0-Go" {
					t.Errorf("ssh_client is %q", v)
				}
			})
		}
	}
}

func promptsOf(p Prompts) []string {
	if p == OneRound {
		return []string{`||["Password: " "One-time code: "]|[false false]`}
	}
	return []string{`||["Password: "]|[false]`, `||["One-time code: "]|[false]`}
}

// stopServing ends a server before its harness ends.
func (h *harness) stopServing() {
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

// A client gets maxCodeTries decisions on one connection, and then no connection.
func TestCodeTries(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	who := &typist{password: "hunter2", code: "000000"}
	_, err := h.client("alice", ssh.RetryableAuthMethod(who.auth(), 20))
	if err == nil {
		t.Fatal("let in")
	}
	if n := len(h.find("login")); n != maxCodeTries {
		t.Errorf("%d decisions, want %d", n, maxCodeTries)
	}
	if n := h.meter.get("login password_wrong"); n != maxCodeTries {
		t.Errorf("the meter saw %d", n)
	}
}

// The third try may be the right one.
func TestSecondTrySucceeds(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	who := &typist{password: alicePassword, code: "000000"}
	tries := 0
	c, err := h.client("alice", ssh.RetryableAuthMethod(ssh.KeyboardInteractive(func(n, i string, q []string, e []bool) ([]string, error) {
		if tries++; tries == 2*maxCodeTries-1 {
			who.code = h.code()
		}
		return who.answer(n, i, q, e)
	}), maxCodeTries))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// x/crypto/ssh trap: MaxAuthTries counts refused key offers, so an agent with many keys must not lose the code prompt.
func TestManyKeysBeforeTheCode(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	var keys []ssh.Signer
	for range maxKeyOffers - 1 {
		keys = append(keys, newSigner(t))
	}
	for name, c := range map[string]struct {
		keys  []ssh.Signer
		proof bool
	}{
		"the right key last":     {append(slices.Clone(keys), h.key), true},
		"the right key too late": {append(slices.Clone(keys), newSigner(t), h.key), false},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := h.client("alice", ssh.PublicKeys(c.keys...), (&typist{password: alicePassword, code: h.code()}).auth())
			if err != nil {
				t.Fatal(err)
			}
			client.Close()
			rec := h.last("login")
			if got := slices.ContainsFunc(rec.Factors, func(f audit.Factor) bool { return f.Method == "key" }); got != c.proof {
				t.Errorf("key in the record: %v, want %v", got, c.proof)
			}
		})
	}
	for range maxAuthTries {
		keys = append(keys, newSigner(t))
	}
	if _, err := h.client("alice", ssh.PublicKeys(keys...), (&typist{password: alicePassword, code: h.code()}).auth()); err == nil {
		t.Error("a client that offers keys without end is let in")
	}
}

// x/crypto/ssh trap: PublicKeyCallback runs on the unsigned query, so an offer must have no effect.
func TestOfferedKeyProvesNothing(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	_, err := h.client("alice", ssh.PublicKeys(offerOnly{h.key}))
	if err == nil {
		t.Fatal("let in by an offer")
	}
	if recs := h.find("login"); len(recs) != 0 {
		t.Errorf("an offer made the records %+v", recs)
	}
	client, err := h.client("alice", (&typist{password: alicePassword, code: h.code()}).auth())
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	if f := h.last("login").Factors; len(f) != 2 {
		t.Errorf("factors %+v, want password and code", f)
	}
}

// offerOnly has a public key, and fails to sign with it.
type offerOnly struct{ ssh.Signer }

func (offerOnly) Sign(io.Reader, []byte) (*ssh.Signature, error) { return nil, errors.New("not mine") }

// A wrong signature ends the connection, is recorded, and costs a penalty; x/crypto/ssh calls no callback for it.
func TestWrongKeySignature(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"rsa": rsaKey, "ecdsa": ecKey, "ed25519": nil} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			cfg := h.config(echo(t))
			cfg.Penalties = Penalties{}
			h.serve(cfg)
			signer := h.key
			if key != nil {
				if signer, err = ssh.NewSignerFromKey(key); err != nil {
					t.Fatal(err)
				}
			}
			fp, _ := h.gate.Key("alice", signer.PublicKey().Marshal())
			h.gate.Apply(login.Change{PutKey: &login.Key{Person: "alice", Fingerprint: fp}})
			if _, err := h.client("alice", ssh.PublicKeys(wrongSigner{signer.(ssh.AlgorithmSigner)})); err == nil {
				t.Fatal("let in")
			}
			h.await("the record", func() bool { return len(h.find("login")) == 1 })
			if r := h.last("login"); r.Reason != string(ReasonSignature) || r.Person != "alice" {
				t.Errorf("record %+v", r)
			}
			h.await("the penalty", func() bool { return h.srv.Stats().Penalised == 1 })
		})
	}
}

// wrongSigner signs something else.
type wrongSigner struct{ ssh.AlgorithmSigner }

func (w wrongSigner) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	return w.AlgorithmSigner.Sign(r, append(data, 'x'))
}

func (w wrongSigner) SignWithAlgorithm(r io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	return w.AlgorithmSigner.SignWithAlgorithm(r, append(data, 'x'), algorithm)
}

// Registered or not, weak RSA keys and certificates prove nothing.
func TestKeysThatAreNotTaken(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	weak := weakRSA(t)
	cert := &ssh.Certificate{Key: h.key.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, h.key); err != nil {
		t.Fatal(err)
	}
	certSigner, err := ssh.NewCertSigner(cert, h.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]ssh.Signer{"RSA of 1024 bits": weak, "certificate": certSigner} {
		fp, _ := h.gate.Key("alice", k.PublicKey().Marshal())
		h.gate.Apply(login.Change{PutKey: &login.Key{Person: "alice", Fingerprint: fp, Blob: k.PublicKey().Marshal()}})
		t.Run(name, func(t *testing.T) {
			client, err := h.client("alice", ssh.PublicKeys(k), (&typist{password: alicePassword, code: h.code()}).auth())
			if err != nil {
				t.Fatal(err)
			}
			client.Close()
			if f := h.last("login").Factors; len(f) != 2 {
				t.Errorf("factors %+v, want password and code", f)
			}
		})
	}
}

// The key that was proved has to be registered still when it is proved.
func TestKeyRemoved(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	fp, _ := h.gate.Key("alice", h.key.PublicKey().Marshal())
	remove := onSign{h.key, func() { h.gate.Apply(login.Change{DeleteKey: fp}) }}
	client, err := h.client("alice", ssh.PublicKeys(remove), (&typist{password: alicePassword, code: h.code()}).auth())
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	if f := h.last("login").Factors; len(f) != 2 {
		t.Errorf("factors %+v, want password and code", f)
	}
}

type onSign struct {
	ssh.Signer
	do func()
}

func (s onSign) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	s.do()
	return s.Signer.Sign(r, data)
}

// A name may say where its person wants to go. He is asked and judged like everybody, and where he wants to go is on record;
// what there is beyond the gateway, nobody learns before he is in (P6).
func TestUserNameWithATarget(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	for _, x := range []struct {
		user, destination, account string
		in                         bool
	}{
		{"alice@core-sw1", "core-sw1", "none", true},
		{"alice%core-sw1", "core-sw1", "none", true},
		{"alice@root@core-sw1", "core-sw1", "root", true},
		{"alice@nowhere", "", "none", true}, // it may be a password
		{"alice@hunter2@nowhere", "", "none", true},
		{"mallory@core-sw1", "", "none", false},
		{"mallory@hunter2@core-sw1", "", "none", false},
		{"alice@a@b@c", "", "none", false},
	} {
		who := &typist{password: alicePassword, code: h.code()}
		c, err := h.client(x.user, who.auth())
		if (err == nil) != x.in {
			t.Errorf("%s: %v", x.user, err)
		}
		if err == nil {
			c.Close()
		}
		if !slices.Equal(who.asked, promptsOf(TwoRounds)) {
			t.Errorf("%s: asked %q", x.user, who.asked)
		}
		r := h.last("login")
		if person := map[bool]string{true: "alice", false: "unknown"}[x.in]; r.Person != person || r.System != login.GatewaySystem || r.Account != x.account || detail(r, "destination") != x.destination {
			t.Errorf("%s: record %+v", x.user, r)
		}
	}
}

// P3, P4: without a durable record nobody gets in, and nobody gets an answer.
func TestNoRecordNoAnswer(t *testing.T) {
	for _, user := range []string{"alice", "mallory", "alice@core-sw1"} {
		t.Run(user, func(t *testing.T) {
			h := newHarness(t)
			h.serve(h.config(echo(t)))
			h.failing.Store(true)
			cfg := h.clientConfig(user, (&typist{password: alicePassword, code: h.code()}).auth())
			cfg.BannerCallback = func(m string) error { t.Errorf("told %q", m); return nil }
			_, err := ssh.Dial("tcp", h.addr, cfg)
			if err == nil {
				t.Fatal("let in without a record")
			}
			if strings.Contains(err.Error(), "unable to authenticate") {
				t.Errorf("answered: %v", err)
			}
			h.await("the drop", func() bool { return h.meter.get("dropped record_unavailable") == 1 })
		})
	}
}

// Hostile names: the same questions, no harm, and nothing of them in the log (P9).
func TestHostileNames(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	for _, name := range []string{
		"hunter2", "\x00", "alice\x00", "alice\nroot", "\x1b[31malice\x1b]0;x\a", "\xff\xfe", "a\u202eecila", "..", "-oProxyCommand=x",
		strings.Repeat("a", 300), strings.Repeat("\x1b", 64<<10), "hunter2 " + strings.Repeat("b", 64<<10),
	} {
		who := &typist{password: alicePassword, code: h.code()}
		if _, err := h.client(name, who.auth()); err == nil {
			t.Errorf("%.20q: let in", name)
		}
		if !slices.Equal(who.asked, promptsOf(TwoRounds)) {
			t.Errorf("%.20q: asked %q", name, who.asked)
		}
	}
	if log := h.logged.String(); strings.ContainsAny(log, "\x1b\x00\a") || strings.Contains(log, "ecila") {
		t.Errorf("a hostile name is in the log: %q", log)
	}
}
