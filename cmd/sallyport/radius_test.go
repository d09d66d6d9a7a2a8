package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"sallyport/internal/login"
)

var seedEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// nas is a RADIUS client of our own: radclient cannot resend a request as it was, nor ask many things at once.
type nas struct {
	conn   *net.UDPConn
	secret []byte
	id     byte
}

func newNAS(t testing.TB, from, server string) *nas {
	t.Helper()
	to, err := netip.ParseAddrPort(server)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &nas{conn: conn, secret: []byte(radiusSecret)}
}

// request makes an Access-Request with Message-Authenticator. State may be nil.
func (n *nas) request(user, typed string, state []byte) ([]byte, error) {
	p := radius.New(radius.CodeAccessRequest, n.secret)
	n.id++
	p.Identifier = n.id
	errs := []error{
		rfc2869.MessageAuthenticator_Set(p, make([]byte, 16)),
		rfc2865.UserName_SetString(p, user),
		rfc2865.UserPassword_SetString(p, typed),
	}
	if state != nil {
		errs = append(errs, rfc2865.State_Set(p, state))
	}
	b, err := p.Encode()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	const at = 20 + 2 // it is the first attribute
	mac := hmac.New(md5.New, n.secret)
	mac.Write(b)
	copy(b[at:], mac.Sum(nil))
	return b, nil
}

// errSilence is a server that does not answer.
var errSilence = errors.New("no answer")

// exchange sends a request and waits for the answer to it, which must be signed as RFC 2865 section 3 and RFC 2869
// section 5.14 want it, with Message-Authenticator before all other attributes.
func (n *nas) exchange(request []byte, wait time.Duration) ([]byte, error) {
	if _, err := n.conn.Write(request); err != nil {
		return nil, fmt.Errorf("%w: %w", errSilence, err)
	}
	if err := n.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		size, err := n.conn.Read(buf)
		if err != nil { // the deadline, or nothing listens there any more
			return nil, fmt.Errorf("%w: %w", errSilence, err)
		}
		if answer := buf[:size]; size >= 20 && answer[1] == request[1] {
			return bytes.Clone(answer), checkAnswer(request, answer, n.secret)
		}
	}
}

func checkAnswer(request, answer, secret []byte) error {
	if !radius.IsAuthenticResponse(answer, request, secret) {
		return errors.New("the Response Authenticator is wrong")
	}
	if len(answer) < 38 || answer[20] != byte(rfc2869.MessageAuthenticator_Type) || answer[21] != 18 {
		return errors.New("the first attribute is not Message-Authenticator")
	}
	signed := bytes.Clone(answer)
	copy(signed[4:20], request[4:20])
	clear(signed[22:38])
	mac := hmac.New(md5.New, secret)
	mac.Write(signed)
	if !hmac.Equal(mac.Sum(nil), answer[22:38]) {
		return errors.New("Message-Authenticator is wrong")
	}
	return nil
}

// ask makes a request, sends it and returns the parsed answer.
func (n *nas) ask(t testing.TB, user, typed string, state []byte) *radius.Packet {
	t.Helper()
	request, err := n.request(user, typed, state)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := n.exchange(request, patience)
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	return parsePacket(t, answer, n.secret)
}

func parsePacket(t testing.TB, b, secret []byte) *radius.Packet {
	t.Helper()
	p, err := radius.Parse(b, secret)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantCode checks a reply's code, and the reason in the newest record of a login.
func (r *rig) wantCode(p *radius.Packet, code radius.Code, reason login.Reason) {
	r.Helper()
	if p.Code != code {
		r.Errorf("answered with %v, want %v", p.Code, code)
	}
	if rec := r.last("--event", "login"); rec.Reason != string(reason) {
		r.Errorf("record %d has the reason %s, want %s", rec.Seq, rec.Reason, reason)
	}
}

// radclient runs FreeRADIUS's client with one request, and returns what it printed of the answer.
func (r *rig) radclient(from string, attributes ...string) string {
	r.Helper()
	return r.radclientAt(r.daemon.radius, append(attributes, "Packet-Src-IP-Address = "+from)...)
}

// radclientAt asks another server than the gateway, such as one before it.
func (r *rig) radclientAt(server string, attributes ...string) string {
	r.Helper()
	path := tool(r, "radclient", "freeradius-utils")
	attributes = append(attributes, "Message-Authenticator = 0x00")
	secret := filepath.Join(r.dir, "radius.secret")
	stdout, stderr, _ := runTool(r, strings.Join(attributes, "\n")+"\n", nil, path, "-x", "-r", "1", "-t", "20", "-S", secret, server, "auth")
	_, received, found := strings.Cut(stdout, "Received ")
	if !found {
		r.Fatalf("radclient got no answer:\n%s%s", stdout, stderr)
	}
	return received
}

func quoted(name, value string) string { return fmt.Sprintf("%s = %q", name, value) }

// attribute finds an attribute in radclient's output.
func attribute(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && key == name {
			return value
		}
	}
	return ""
}

// firstAttribute is the name of the first attribute that radclient shows.
func firstAttribute(text string) string {
	_, rest, _ := strings.Cut(text, "\n")
	name, _, _ := strings.Cut(strings.TrimSpace(rest), " = ")
	return name
}

// TestRadclientEveryMode logs in with FreeRADIUS's client in each mode, and tries each code once more at every door
// (P2, P6).
func TestRadclientEveryMode(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	alice, bob := r.enrol("alice", byTime()), r.enrol("bob", byCount())
	r.start()
	r.check()

	// challenge reaches the second round and answers it.
	challenge := func(p *person, password, code string) string {
		first := r.radclient(fromChallenge, quoted("User-Name", p.name), quoted("User-Password", password))
		if !strings.HasPrefix(first, "Access-Challenge") {
			t.Fatalf("the first round is answered with %s", first)
		}
		if firstAttribute(first) != "Message-Authenticator" {
			t.Errorf("Message-Authenticator is not the first attribute of a challenge:\n%s", first)
		}
		if attribute(first, "Class") != "" || attribute(first, "Reply-Message") == "" {
			t.Errorf("a challenge must have a Reply-Message and no privileges:\n%s", first)
		}
		return r.radclient(fromChallenge, quoted("User-Name", p.name), quoted("User-Password", code), "State = "+attribute(first, "State"))
	}
	accepted := func(what, answer string) {
		t.Helper()
		if !strings.HasPrefix(answer, "Access-Accept") || attribute(answer, "Class") == "" || attribute(answer, "Cisco-AVPair") == "" {
			t.Errorf("%s is answered with %s", what, answer)
		}
		if firstAttribute(answer) != "Message-Authenticator" {
			t.Errorf("%s: Message-Authenticator is not the first attribute:\n%s", what, answer)
		}
		r.check()
	}
	refused := func(what, answer string, want login.Reason) {
		t.Helper()
		if !strings.HasPrefix(answer, "Access-Reject") || attribute(answer, "Class") != "" {
			t.Errorf("%s is answered with %s", what, answer)
		}
		if rec := r.last("--event", "login"); rec.Reason != string(want) {
			t.Errorf("%s: record %d has the reason %s, want %s", what, rec.Seq, rec.Reason, want)
		}
		r.check()
	}

	code := alice.code()
	accepted("alice, challenge", challenge(alice, alice.password, code))
	refused("alice, the same code in a challenge", challenge(alice, alice.password, code), login.ReasonCodeReused)
	refused("alice, the same code appended", r.radclient(fromAppend, quoted("User-Name", "alice"), quoted("User-Password", alice.password+code)), login.ReasonCodeReused)
	refused("alice, the same code alone", r.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", code)), login.ReasonCodeReused)

	code = bob.code()
	accepted("bob, append", r.radclient(fromAppend, quoted("User-Name", "bob"), quoted("User-Password", bob.password+code)))
	refused("bob, the same again", r.radclient(fromAppend, quoted("User-Name", "bob"), quoted("User-Password", bob.password+code)), login.ReasonCodeReused)
	refused("bob, wrong password", r.radclient(fromAppend, quoted("User-Name", "bob"), quoted("User-Password", "wrong"+bob.code())), login.ReasonPasswordWrong)

	code = bob.code()
	accepted("bob, code", r.radclient(fromCode, quoted("User-Name", "bob"), quoted("User-Password", code)))
	refused("bob, the same code", r.radclient(fromCode, quoted("User-Name", "bob"), quoted("User-Password", code)), login.ReasonCodeReused)
	refused("bob, the same code in a challenge", challenge(bob, bob.password, code), login.ReasonCodeReused)

	// P6: the first round of a wrong password, and of somebody unknown, looks as that of the right one.
	refused("bob, wrong password, then a good code", challenge(bob, "wrong", bob.code()), login.ReasonPasswordWrong)
	refused("nobody", challenge(&person{name: "mallory"}, "wrong", "123456"), login.ReasonUnknownPerson)

	r.stop()
	report := r.check()
	if out := r.ok("audit", "verify"); !strings.Contains(out, fmt.Sprintf("size %d root %s", report.Size, report.Root)) {
		t.Errorf("audit verify prints %q, want size %d and root %s", out, report.Size, report.Root)
	}
}

// TestChallengesLookAlike compares the bytes of first rounds (P6): but for what State and the signatures hold
// they are the same for the right password, a wrong one, somebody disabled and somebody unknown.
func TestChallengesLookAlike(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("carol", byCount())
	gone := r.enrol("dave", byCount())
	r.ok("user", "disable", "dave")
	r.start()
	n := newNAS(t, fromChallenge, r.daemon.radius)
	shape := func(user, password string) string {
		c := n.ask(t, user, password, nil)
		state, err := rfc2865.State_Lookup(c)
		if c.Code != radius.CodeAccessChallenge || err != nil {
			t.Fatalf("%s: %v, State %v", user, c.Code, err)
		}
		var b strings.Builder
		fmt.Fprintf(&b, "State of %d", len(state))
		for _, a := range c.Attributes {
			if a.Type != rfc2865.State_Type && a.Type != rfc2869.MessageAuthenticator_Type {
				fmt.Fprintf(&b, " %d:%x", a.Type, a.Attribute)
			}
		}
		return b.String()
	}
	want := shape("carol", p.password)
	for _, other := range [][2]string{{"carol", "wrong"}, {"dave", gone.password}, {"mallory", "wrong"}, {"CAROL", "wrong"}, {"carol\x00", "wrong"}, {"\x1b[31m", "wrong"}} {
		if got := shape(other[0], other[1]); got != want {
			t.Errorf("the challenge to %q differs:\n%s\n%s", other[0], got, want)
		}
	}
	r.check()
	r.stop()
	r.check()
}

// TestResend sends requests again as they were (P5): the same bytes come back, nothing is judged twice; from another
// port it is another request, and the code is used.
func TestResend(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("bob", byCount())
	r.start()
	n, other := newNAS(t, fromCode, r.daemon.radius), newNAS(t, fromCode, r.daemon.radius)
	for _, typed := range []string{p.code(), "00000000"} {
		request, err := n.request("bob", typed, nil)
		if err != nil {
			t.Fatal(err)
		}
		first, err := n.exchange(request, patience)
		if err != nil {
			t.Fatal(err)
		}
		before := r.check()
		for range 3 {
			again, err := n.exchange(request, patience)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, again) {
				t.Errorf("a resend got other bytes:\n%x\n%x", first, again)
			}
		}
		if after := r.check(); after.Size+after.Unsigned != before.Size+before.Unsigned {
			t.Errorf("resends made records: %d before, %d after", before.Size+before.Unsigned, after.Size+after.Unsigned)
		}
		answer, err := other.exchange(request, patience)
		if err != nil {
			t.Fatal(err)
		}
		if code := radius.Code(answer[0]); code != radius.CodeAccessReject {
			t.Errorf("the same request from another port is answered with %v", code)
		}
	}
	// A new authenticator under the same identifier is a new question.
	code := p.code()
	n.id = 100
	for i, want := range []radius.Code{radius.CodeAccessAccept, radius.CodeAccessReject} {
		n.id = 100
		if got := n.ask(t, "bob", code, nil); got.Code != want {
			t.Errorf("question %d under one identifier is answered with %v, want %v", i, got.Code, want)
		}
	}
	r.stop()
	r.check()
}

// TestChallengeIsAnsweredOnce answers a challenge twice, answers it for somebody else and from another client, and
// after a restart (P2).
func TestChallengeIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{clients: "    - {name: vpn2, address: 127.0.0.9, secret_file: radius.secret, mode: challenge, class: remote, tags: [vpn]}"})
	p, q := r.enrol("bob", byCount()), r.enrol("carol", byCount())
	r.start()
	n := newNAS(t, fromChallenge, r.daemon.radius)
	state := func(n *nas, p *person) []byte {
		c := n.ask(t, p.name, p.password, nil)
		if c.Code != radius.CodeAccessChallenge {
			t.Fatalf("%v, want a challenge", c.Code)
		}
		return rfc2865.State_Get(c)
	}
	s := state(n, p)
	r.wantCode(n.ask(t, "bob", p.code(), s), radius.CodeAccessAccept, login.ReasonOK)
	r.wantCode(n.ask(t, "bob", p.code(), s), radius.CodeAccessReject, login.ReasonStateUsed)
	s = state(n, p)
	r.wantCode(n.ask(t, "carol", q.code(), s), radius.CodeAccessReject, login.ReasonStateUnknown)
	r.wantCode(newNAS(t, "127.0.0.9", r.daemon.radius).ask(t, "bob", p.code(), s), radius.CodeAccessReject, login.ReasonStateUnknown)
	s[len(s)/2] ^= 1
	r.wantCode(n.ask(t, "bob", p.code(), s), radius.CodeAccessReject, login.ReasonStateUnknown)

	// A State from before a restart is still good, once.
	s, used := state(n, p), state(n, p)
	r.wantCode(n.ask(t, "bob", p.code(), used), radius.CodeAccessAccept, login.ReasonOK)
	r.kill()
	r.start()
	n = newNAS(t, fromChallenge, r.daemon.radius)
	r.wantCode(n.ask(t, "bob", p.code(), used), radius.CodeAccessReject, login.ReasonStateUsed)
	r.wantCode(n.ask(t, "bob", p.code(), s), radius.CodeAccessAccept, login.ReasonOK)
	r.check()
	r.stop()
	r.check()
}

// TestLockIsShared locks a person by wrong codes over one client, and finds the right one refused at the others, until
// an operator unlocks.
func TestLockIsShared(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{lock: "{after: 3, for: 10m, hard_after: 6, hard_for: 30m}"})
	p := r.enrol("bob", byCount())
	r.start()
	code, add := newNAS(t, fromCode, r.daemon.radius), newNAS(t, fromAppend, r.daemon.radius)
	for range 3 {
		r.wantCode(code.ask(t, "bob", "00000000", nil), radius.CodeAccessReject, login.ReasonCodeWrong)
	}
	r.wantCode(add.ask(t, "bob", p.password+p.code(), nil), radius.CodeAccessReject, login.ReasonLocked)
	r.kill()
	r.start()
	add = newNAS(t, fromAppend, r.daemon.radius)
	r.wantCode(add.ask(t, "bob", p.password+p.code(), nil), radius.CodeAccessReject, login.ReasonLocked)
	r.ok("user", "unlock", "bob")
	r.wantCode(add.ask(t, "bob", p.password+p.code(), nil), radius.CodeAccessAccept, login.ReasonOK)
	r.stop()
	r.check()
}

// TestProbe runs our own test client against the daemon, as the README says.
func TestProbe(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("bob", byCount())
	r.start()
	probe := []string{"client", "probe", r.daemon.radius, "--user", "bob", "--secret-file", filepath.Join(r.dir, "radius.secret"), "--timeout", "30s"}
	out := r.okIn(p.password+"\n"+p.code()+"\n", probe...)
	if !strings.Contains(out, "accept after 2 rounds") {
		t.Errorf("client probe prints:\n%s", out)
	}
	r.refusedIn(p.password+"\n00000000\n", probe...)
	if err := os.WriteFile(filepath.Join(r.dir, "wrong.secret"), []byte("another-secret-than-it-shares"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, status := r.command("x\ny\n", "client", "probe", r.daemon.radius, "--user", "bob", "--secret-file", filepath.Join(r.dir, "wrong.secret"), "--timeout", "200ms")
	if status != exitFailed {
		t.Errorf("a probe with a wrong secret exits with %d", status)
	}
	out = r.ok("client", "list")
	for _, want := range []string{"vpn", "firewall", "switch"} {
		if !strings.Contains(out, want) {
			t.Errorf("client list does not name %s:\n%s", want, out)
		}
	}
	r.stop()
	r.check()
}
