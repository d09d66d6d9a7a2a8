package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/login"
	"sallyport/radiusd/exchange/exchangetest"
)

var update = flag.Bool("update", false, "write docs/radius/README.md and docs/ssh/README.md anew")

// Who proves the first factor.
const (
	byLocal  = "local"
	byLDAP   = "LDAP"
	byRADIUS = "RADIUS"
	byNAS    = "the NAS"
)

// The carriages.
const (
	overUDP = "UDP"
	overTLS = "TLS"
)

// cell is a way to log in: what is proved how, over what, by whom, and with which program at the other end.
type cell struct {
	shape, carriage, first, client string
	login                          func(w *world, p *person, code string) (accepted bool, said string)
}

func (c cell) name() string {
	return strings.NewReplacer(" ", "_", "/", "-", ",", "").Replace(strings.Join([]string{c.shape, c.carriage, c.first, c.client}, "/"))
}

// world is a gateway with everything before and behind it.
type world struct {
	*rig
	ca           *authority
	proxy        string // radsecproxy, over UDP
	wifi         string // FreeRADIUS, which ends EAP-TTLS and hands on what is within
	local        *person
	ldap, radius *person
	probeCert    [2]string
}

func (w *world) of(first string) *person {
	switch first {
	case byLDAP:
		return w.ldap
	case byRADIUS:
		return w.radius
	default:
		return w.local
	}
}

// enrolAs makes a person whose password is elsewhere.
func (r *rig) enrolAs(name, first, password string, groups ...string) *person {
	r.Helper()
	args := []string{"user", "add", name, "--first-factor", first}
	for _, g := range groups {
		args = append(args, "--group", g)
	}
	r.ok(args...)
	p := r.token(name, byCount())
	p.password = password
	return p
}

func newWorld(t *testing.T) *world {
	w := &world{ca: newAuthority(t)}
	ldapURL, _ := startSlapd(t, w.ca, map[string]string{"dora": "the password of dora 1"})
	upstream := exchangetest.StartFreeRADIUS(t, exchangetest.Config{
		Secret: radiusSecret, Users: "ursula Cleartext-Password := \"the password of ursula 1\"\n\tFilter-Id := \"from upstream\", Callback-Number := \"1\"\nDEFAULT Auth-Type := Reject\n",
	})
	cert, key := w.ca.issue("radius.example.org")
	w.rig = newRig(t, rigOptions{
		login: fmt.Sprintf(`  ldap: {url: %q, base: "dc=example,dc=org", ca: %q}
  radius: {servers: [%q], secret_file: radius.secret, relay: [Filter-Id]}`, ldapURL, w.ca.file, upstream.Auth),
		radius: fmt.Sprintf(`  accounting: ["127.0.0.1:0"]
  tls: {listen: ["127.0.0.1:0"], cert: %[1]q, key: %[2]q, client_ca: %[3]q}
  eap: {cert: %[1]q, key: %[2]q}`, cert, key, w.ca.file),
		clients: `    - {name: proxy, certificate: proxy.example.org, mode: challenge, class: remote, tags: [vpn]}
    - {name: probe, certificate: probe.example.org, mode: code, class: remote, tags: [vpn]}`,
	})
	w.local = w.enrol("alice", byCount())
	w.ldap = w.enrolAs("dora", "ldap", "the password of dora 1") // her group is the directory's
	w.radius = w.enrolAs("ursula", "radius", "the password of ursula 1", "network")
	w.start()
	w.proxy = startRadsecproxy(t, w.ca, w.daemon.radsec, "proxy.example.org")
	w.wifi = startTTLSProxy(t, w.ca, w.daemon.radius, fromCode)
	w.probeCert[0], w.probeCert[1] = w.ca.issue("probe.example.org")
	return w
}

func accepted(answer string) (bool, string) {
	return strings.HasPrefix(answer, "Access-Accept"), answer
}

// challenge logs in by radclient in two rounds; first is what proves the password. What another server says for the NAS comes with
// the Accept, and not before, as far as it is to be handed on.
func challenge(ask func(...string) string, first string) func(*world, *person, string) (bool, string) {
	return func(w *world, p *person, code string) (bool, string) {
		answer := ask(quoted("User-Name", p.name), quoted(first, p.password))
		if !strings.HasPrefix(answer, "Access-Challenge") {
			return false, answer
		}
		last := ask(quoted("User-Name", p.name), quoted("User-Password", code), "State = "+attribute(answer, "State"))
		ok, said := accepted(last)
		if has := attribute(last, "Filter-Id") != ""; has != (ok && p == w.radius) || strings.Contains(answer, "Filter-Id") || strings.Contains(last, "Callback-Number") {
			w.Errorf("attributes of the other server:\n%s%s", answer, last)
		}
		return ok, said
	}
}

func byUDP(first string) func(*world, *person, string) (bool, string) {
	return func(w *world, p *person, code string) (bool, string) {
		return challenge(func(a ...string) string { return w.radclient(fromChallenge, a...) }, first)(w, p, code)
	}
}

func byProxy(w *world, p *person, code string) (bool, string) {
	return challenge(func(a ...string) string { return w.radclientAt(w.proxy, a...) }, "User-Password")(w, p, code)
}

func appended(w *world, p *person, code string) (bool, string) {
	return accepted(w.radclient(fromAppend, quoted("User-Name", p.name), quoted("User-Password", p.password+code)))
}

func codeAlone(attribute string) func(*world, *person, string) (bool, string) {
	return func(w *world, p *person, code string) (bool, string) {
		return accepted(w.radclient(fromCode, quoted("User-Name", p.name), quoted(attribute, code)))
	}
}

// probed logs in with our own test client over TLS, by a method.
func probed(method string) func(*world, *person, string) (bool, string) {
	return func(w *world, p *person, code string) (bool, string) {
		stdout, stderr, status := w.command(code+"\n", "client", "probe", w.daemon.radsec, "--user", p.name, "--mode", "code", "--method", method,
			"--tls", "--ca", w.ca.file, "--cert", w.probeCert[0], "--key", w.probeCert[1], "--server-name", "radius.example.org")
		return status == exitDone, stdout + stderr
	}
}

// probedTwice logs in with our own test client, in two rounds by one method.
func probedTwice(method string) func(*world, *person, string) (bool, string) {
	return func(w *world, p *person, code string) (bool, string) {
		stdout, stderr, status := w.command(p.password+"\n"+code+"\n", "client", "probe", w.daemon.radius, "--user", p.name, "--mode", "challenge", "--method", method,
			"--secret-file", filepath.Join(w.dir, "radius.secret"))
		return status == exitDone, stdout + stderr
	}
}

// eapol logs in with wpa_supplicant's EAP peer.
func eapol(method, inner string, server func(*world) string, from string, typed func(p *person, code string) string) func(*world, *person, string) (bool, string) {
	return func(w *world, p *person, code string) (bool, string) {
		address := server(w)
		host, port, _ := strings.Cut(address, ":")
		config := filepath.Join(w.dir, "eapol.conf")
		text := fmt.Sprintf("network={\n ssid=\"x\"\n key_mgmt=WPA-EAP\n eap=%s\n identity=%q\n anonymous_identity=\"anonymous\"\n password=%q\n phase2=%q\n ca_cert=%q\n}\n",
			method, p.name, typed(p, code), inner, w.ca.file)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			w.Fatal(err)
		}
		stdout, stderr, status := runTool(w, "", nil, tool(w, "eapol_test", "eapoltest"), "-c"+config, "-a"+host, "-p"+port, "-A"+from, "-s"+radiusSecret, "-t20")
		return status == 0 && strings.Contains(stdout, "MPPE keys OK: 1  mismatch: 0"), stdout + stderr
	}
}

func direct(w *world) string                 { return w.daemon.radius }
func throughWiFi(w *world) string            { return w.wifi }
func throughProxy(w *world) string           { return w.proxy }
func onlyCode(_ *person, code string) string { return code }
func both(p *person, code string) string     { return p.password + code }

// matrix is what TestMatrix tries.
func matrix() []cell {
	cells := []cell{
		{"PAP, challenge", overUDP, byLocal, "radclient", byUDP("User-Password")},
		{"PAP, challenge", overUDP, byLDAP, "radclient", byUDP("User-Password")},
		{"PAP, challenge", overUDP, byRADIUS, "radclient", byUDP("User-Password")},
		{"PAP, challenge", overTLS, byLocal, "radclient, radsecproxy", byProxy},
		{"PAP, challenge", overTLS, byLDAP, "radclient, radsecproxy", byProxy},
		{"PAP, challenge", overTLS, byRADIUS, "radclient, radsecproxy", byProxy},
		{"PAP, append", overUDP, byLocal, "radclient", appended},
		{"PAP, append", overUDP, byLDAP, "radclient", appended},
		{"PAP, append", overUDP, byRADIUS, "radclient", appended},
		{"PAP, code", overUDP, byNAS, "radclient", codeAlone("User-Password")},
		{"PAP, code", overTLS, byNAS, "client probe", probed("pap")},
		{"CHAP, code", overUDP, byNAS, "radclient", codeAlone("CHAP-Password")},
		{"CHAP, code", overTLS, byNAS, "client probe", probed("chap")},
		{"CHAP, then PAP, challenge", overUDP, byRADIUS, "radclient", byUDP("CHAP-Password")},
		{"MS-CHAPv2, code", overTLS, byNAS, "client probe", probed("mschapv2")},
		{"MS-CHAPv2, code", overUDP, byNAS, "eapol_test, FreeRADIUS", eapol("TTLS", "auth=MSCHAPV2", throughWiFi, "127.0.0.1", onlyCode)},
		{"CHAP, code", overUDP, byNAS, "eapol_test, FreeRADIUS", eapol("TTLS", "auth=CHAP", throughWiFi, "127.0.0.1", onlyCode)},
		{"CHAP twice, challenge", overUDP, byRADIUS, "client probe", probedTwice("chap")},
		{"MS-CHAPv2 twice, challenge", overUDP, byRADIUS, "client probe", probedTwice("mschapv2")},
		{"EAP-TTLS/PAP, password and code", overTLS, byLocal, "eapol_test, radsecproxy", eapol("TTLS", "auth=PAP", throughProxy, "127.0.0.1", both)},
	}
	for _, first := range []string{byLocal, byLDAP, byRADIUS} {
		cells = append(cells, cell{"EAP-TTLS/PAP, password and code", overUDP, first, "eapol_test", eapol("TTLS", "auth=PAP", direct, fromChallenge, both)},
			cell{"PEAP/GTC, password and code", overUDP, first, "eapol_test", eapol("PEAP", "auth=GTC", direct, fromAppend, both)})
	}
	for _, m := range []struct{ shape, method, inner string }{
		{"EAP-TTLS/PAP", "TTLS", "auth=PAP"},
		{"EAP-TTLS/GTC", "TTLS", "autheap=GTC"},
		{"EAP-TTLS/MSCHAPv2", "TTLS", "autheap=MSCHAPV2"},
		{"PEAP/GTC", "PEAP", "auth=GTC"},
		{"PEAP/MSCHAPv2", "PEAP", "auth=MSCHAPV2"},
	} {
		cells = append(cells, cell{m.shape + ", code", overUDP, byNAS, "eapol_test", eapol(m.method, m.inner, direct, fromCode, onlyCode)})
	}
	return cells
}

// TestMatrix logs in in every way of the matrix: a right code is accepted, and once (P2), and a wrong password is not. What it
// has tried is docs/radius/README.md.
func TestMatrix(t *testing.T) {
	w := newWorld(t)
	whole := true
	for _, c := range matrix() {
		tried := false
		t.Run(c.name(), func(t *testing.T) {
			tried = true
			w.TB = t
			p := w.of(c.first)
			code := p.code()
			if c.first != byNAS {
				if ok, said := c.login(w, &person{name: p.name, password: "a guess"}, code); ok {
					t.Errorf("a wrong password was accepted: %s", said)
				}
			}
			ok, said := c.login(w, p, code)
			if !ok {
				t.Fatalf("refused: %s\n%+v", tailOf(said), w.last("--event", "login"))
			}
			if rec := w.last("--event", "login"); rec.Result != "accept" || rec.Person != p.name {
				t.Errorf("on record: %+v", rec)
			}
			w.check()
			if ok, said := c.login(w, p, code); ok {
				t.Errorf("a used code was accepted: %s", said)
			}
			if rec := w.last("--event", "login"); rec.Reason != string(login.ReasonCodeReused) {
				t.Errorf("on record: %+v", rec)
			}
			w.check()
		})
		whole = whole && tried
	}
	w.TB = t
	w.stop()
	w.check()
	if !whole || t.Failed() {
		return
	}
	const file = "../../docs/radius/README.md"
	got := renderMatrix(t, matrix())
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := mustRead(t, file); !bytes.Equal(got, want) {
		t.Errorf("%s is not what the tests try: go test ./cmd/sallyport -run TestMatrix -update", file)
	}
}

func renderMatrix(t *testing.T, cells []cell) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(`# What was tried with what

Each row is a way to log in that a test takes with the real gateway and the programs named, as Debian 12 has them: a right code is
accepted, once; a wrong password is not; the record says so. ` + "`go test ./cmd/sallyport -run TestMatrix`" + ` takes them all, and wrote this page.

"First factor" is who checks the password: the gateway's own (local), a directory (LDAP, OpenLDAP's slapd over TLS), another
RADIUS server (FreeRADIUS), or the NAS before it asks (mode ` + "`code`" + `). Over TLS is RFC 6614 with certificates on both sides.

| login shape | carriage | first factor | client program | test |
|---|---|---|---|---|
`)
	for _, c := range cells {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | `TestMatrix/%s` |\n", c.shape, c.carriage, c.first, c.client, c.name())
	}
	b.WriteString(`
More is tried with programs of our own and with parts of the gateway: RADIUS/1.1 (` + "`radiusd`" + `, TestTLS), MS-CHAPv2 with its vectors and
keys, GTC in two rounds, TLS 1.2 and 1.3 (` + "`radiusd`" + `, TestEAPOL, TestEAPRounds), Active Directory (` + "`internal/firstfactor/directory`" + `,
TestActiveDirectory, a Samba domain), challenges and MS-CHAPv2 of another RADIUS server (` + "`internal/firstfactor/upstream`" + `, TestFreeRADIUS).
`)
	b.WriteString("\n## Recipes\n\n| for | how far it is tried |\n|---|---|\n")
	files, err := filepath.Glob("../../docs/radius/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); name != "README.md" {
			lines := strings.SplitN(string(mustRead(t, file)), "\n", 4)
			fmt.Fprintf(&b, "| [%s](%s) | %s |\n", strings.TrimPrefix(lines[0], "# "), name, lines[2])
		}
	}
	return b.Bytes()
}
