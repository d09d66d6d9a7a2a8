package main

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/admin"
	"sallyport/internal/login"
	"sallyport/otp"
)

// ticket issues an enrolment ticket.
func (r *rig) ticket(name string, more ...string) string {
	r.Helper()
	var t admin.TicketIssued
	if err := json.Unmarshal([]byte(r.ok(append([]string{"token", "ticket", name, "--json"}, more...)...)), &t); err != nil {
		r.Fatal(err)
	}
	return t.Ticket
}

// sshAt runs stock ssh at a terminal, as a user.
func (s *sshRig) sshAt(cols, rows uint16, user string, more ...string) *tty {
	s.Helper()
	try := &sshTry{rig: s.rig}
	args := append([]string{"-F", s.clientConf, "-o", "PreferredAuthentications=keyboard-interactive", "-l", user}, more...)
	return try.atTerminal(cols, rows, []string{"SSH_AUTH_SOCK=", "SSH_ASKPASS_REQUIRE=never", "TERM=xterm"}, tool(s, "ssh", "openssh-client"), args...)
}

// answerTicket answers the questions of `ssh enrol@GATEWAY`.
func (x *tty) answerTicket(name, ticket, password string) {
	x.Helper()
	for _, q := range [][2]string{{"Your name: ", name}, {"Ticket: ", ticket}, {"Password: ", password}} {
		x.await(q[0])
		x.typ(q[1] + "\n")
	}
}

// readQR reads a QR code off a terminal, with zbarimg.
func readQR(t testing.TB, screen string) string {
	t.Helper()
	const dot = 6
	var rows [][]rune
	for _, line := range strings.Split(strings.ReplaceAll(screen, "\r", ""), "\n") {
		_, after, found := strings.Cut(line, "\x1b[30;107m")
		if !found {
			continue
		}
		drawn, _, _ := strings.Cut(after, "\x1b[0m")
		rows = append(rows, []rune(drawn))
	}
	if len(rows) == 0 {
		t.Fatalf("there is no QR code:\n%s", screen)
	}
	img := image.NewGray(image.Rect(0, 0, len(rows[0])*dot, 2*len(rows)*dot))
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			r := rows[y/dot/2][x/dot]
			dark := r == '█' || r == '▀' && y/dot%2 == 0 || r == '▄' && y/dot%2 == 1
			if !dark {
				img.SetGray(x, y, color.Gray{Y: 255})
			}
		}
	}
	path := filepath.Join(t.TempDir(), "qr.png")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, img); err != nil {
		t.Fatal(err)
	}
	f.Close()
	out, stderr, status := runTool(t, "", nil, tool(t, "zbarimg", "zbar-tools"), "-q", "--raw", path)
	if status != 0 {
		t.Fatalf("zbarimg reads nothing off the terminal: %s\n%s", stderr, screen)
	}
	return strings.TrimSpace(out)
}

// personOf is somebody who has read a QR code in.
func (r *rig) reader(name, uri string) *person {
	p := &person{name: name, params: byTime(), last: -1, uri: uri, seed: seedOf(r, uri)}
	r.people[name] = p
	return p
}

// TestEnrolByTicket has people enrol a device by stock ssh and by PuTTY's plink (P2, P3, P6, P11).
func TestEnrolByTicket(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	const password = "the password of alice 5513"
	s.okIn(password, "user", "add", "alice", "--group", "network", "--password-stdin")
	s.up()
	ticket := s.ticket("alice")

	// Whatever is wrong, the answer is the same, and the record says what it was.
	refusals := make(map[string]bool)
	for what, c := range map[string]struct {
		name, ticket, password string
		why                    login.Reason
	}{
		"a stranger":       {"mallory", ticket, password, login.ReasonUnknownPerson},
		"a wrong ticket":   {"alice", "00000-00000-00000-00000", password, login.ReasonTicketWrong},
		"no ticket":        {"alice", "", password, login.ReasonTicketWrong},
		"a wrong password": {"alice", ticket, "the password of alice", login.ReasonPasswordWrong},
	} {
		x := s.sshAt(100, 40, login.EnrolName, "gw")
		x.answerTicket(c.name, c.ticket, c.password)
		if status := x.status(); status != 255 {
			t.Errorf("%s: exit status %d\n%s", what, status, x.out.String())
		}
		_, said, _ := strings.Cut(x.out.String(), "Password: ")
		refusals[said] = true
		if rec := s.last("--event", login.EventRedeem); rec.Result != "reject" || rec.Reason != string(c.why) {
			t.Errorf("%s: record %d says %s, %s", what, rec.Seq, rec.Result, rec.Reason)
		}
	}
	if len(refusals) != 1 {
		t.Errorf("refusals tell strangers apart: %v", refusals)
	}
	s.ok("user", "unlock", "alice")

	// The ticket opens no target and no port, and what follows is one session.
	x := s.sshAt(100, 40, login.EnrolName, "-L", "127.0.0.1:"+freePort(t)+":core-sw1:22", "gw")
	x.answerTicket("alice", strings.ToLower(strings.ReplaceAll(ticket, "-", "")), password)
	x.await("The code that it shows now: ")
	uri := readQR(t, x.out.String())
	alice := s.reader("alice", uri)
	x.typ("000000\n")
	x.await("That is not its code")
	x.typ(alice.code() + "\n")
	x.await("Done: the device serves from now on")
	if status := x.status(); status != 0 {
		t.Errorf("exit status %d\n%s", status, x.out.String())
	}
	screen := strings.Join(strings.Fields(x.out.String()), "")
	if secret := seedEncoding.EncodeToString(alice.seed); !strings.Contains(screen, secret) {
		t.Errorf("the secret for typing is not the one of the QR code:\n%s", x.out.String())
	}
	if rec := s.last("--event", "token.confirm"); rec.Result != "info" || rec.Person != "alice" || detail(rec, "actor") != "alice" || detail(rec, login.DetailTicket) == "" {
		t.Errorf("record of the first code: %+v", rec)
	}

	// It serves, and the code of the enrolment does not serve again.
	if _, stderr, status := s.as(password, otp.Code(alice.seed, alice.params, alice.last), "ssh", "alice@gw"); status == 0 || !strings.Contains(stderr, "denied") {
		t.Errorf("the enrolment's code served again: %s", stderr)
	}
	s.why("the code again", login.ReasonCodeReused)
	s.as(password, alice.code(), "ssh", "alice@gw")
	s.why("the device", login.ReasonOK)

	// Once, also after the gateway was killed.
	for range 2 {
		x = s.sshAt(100, 40, login.EnrolName, "gw")
		x.answerTicket("alice", ticket, password)
		if status := x.status(); status != 255 {
			t.Errorf("a used ticket was taken again:\n%s", x.out.String())
		}
		s.kill()
		s.up()
	}
	s.stop()
	s.check()
}

// TestEnrolByPlink is the same with PuTTY's plink, and a terminal that is too narrow; the person goes away, comes back, and the ticket
// is used up by the third time.
func TestEnrolByPlink(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	const password = "the password of bob 5513"
	s.okIn(password, "user", "add", "bob", "--group", "network", "--password-stdin")
	s.up()
	ticket := s.ticket("bob", "--for", "3d")
	host, port, err := net.SplitHostPort(s.daemon.ssh)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(mustRead(t, layout(s.data).hostKey))
	if err != nil {
		t.Fatal(err)
	}
	plink := func(cols uint16) *tty {
		try := &sshTry{rig: s.rig}
		return try.atTerminal(cols, 50, []string{"HOME=" + t.TempDir(), "TERM=xterm"}, tool(t, "plink", "putty-tools"), "-ssh", "-noagent", "-no-antispoof", "-P", port,
			"-l", login.EnrolName, "-hostkey", ssh.FingerprintSHA256(key.PublicKey()), "-t", host)
	}
	x := plink(40)
	x.answerTicket("bob", ticket, password)
	x.await("too narrow")
	x.await("The code that it shows now: ")
	x.typ("\x04") // he gives up
	if status := x.status(); status != 1 {
		t.Errorf("giving up: exit status %d", status)
	}
	s.kill() // what was counted is known after a crash
	s.up()
	if host, port, err = net.SplitHostPort(s.daemon.ssh); err != nil {
		t.Fatal(err)
	}
	x = plink(100)
	x.answerTicket("bob", ticket, password)
	x.await("The code that it shows now: ")
	first := readQR(t, x.out.String())
	for range 3 {
		x.typ("123\n")
	}
	x.await("was not enrolled")
	x.status()
	x = plink(100)
	x.answerTicket("bob", ticket, password)
	x.await("The code that it shows now: ")
	uri := readQR(t, x.out.String())
	if uri == first {
		t.Error("a secret was shown twice")
	}
	bob := s.reader("bob", uri)
	s.ok("token", "ticket", "bob", "--revoke") // it is revoked under his hands
	x.typ(bob.code() + "\n")
	x.await("was used or revoked meanwhile")
	x.status()
	var tokens []admin.TokenInfo
	for _, line := range strings.Fields(s.ok("token", "list", "bob", "--json")) {
		var one admin.TokenInfo
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, one)
	}
	if len(tokens) != 3 || tokens[0].State != login.TokenRevoked || tokens[1].State != login.TokenRevoked || tokens[2].State != login.TokenPending {
		t.Errorf("tokens: %+v", tokens)
	}

	// A ticket that was tried three times is dead.
	ticket = s.ticket("bob")
	for range login.MaxTicketTries {
		x = plink(100)
		x.answerTicket("bob", ticket, password)
		x.await("The code that it shows now: ")
		x.typ("\x03")
		x.status()
	}
	x = plink(100)
	x.answerTicket("bob", ticket, password)
	until(t, "the refusal", func() bool { return s.last("--event", login.EventRedeem).Reason == string(login.ReasonTicketTries) })
	x.typ("\x03")
	s.stop()
	s.check()
}

// TestPasswdOverSSH has somebody change his password by `ssh -t alice@GATEWAY passwd`, and others not (P11).
func TestPasswdOverSSH(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	url, _ := startSlapd(t, ca, map[string]string{"dora": "the password of dora 1"})
	s := newSSHRig(t, rigOptions{login: fmt.Sprintf(`  ldap: {url: %q, base: "dc=example,dc=org", ca: %q}`, url, ca.file)})
	s.rules(`  - {name: trusting, groups: [network], to: [core-sw1], may: [shell, exec, forward], trust: {for: 15m}}
  - {name: without a password, groups: [network], to: [secret-srv], may: [shell], need: [have, have], exception: EX-1}
`)
	alice, dora := s.enrol("alice", byCount()), s.enrolAs("dora", "ldap", "the password of dora 1", "network")
	s.okIn(string(mustRead(t, filepath.Join(filepath.Dir(s.clientConf), "alice_key.pub"))), "key", "add", "alice")
	s.except("{people: [alice], factors: [have, have]}")
	s.up()
	if _, stderr, status := s.as(alice.password, alice.code(), "ssh", "alice@gw", "passwd"); status != 1 || !strings.Contains(stderr, "ssh -t alice@GATEWAY passwd") {
		t.Errorf("without a terminal: %d %s", status, stderr)
	}
	x := s.sshAt(100, 40, "alice", "-t", "gw", "passwd")
	x.await("Password: ")
	x.typ(alice.password + "\n")
	x.await("code: ")
	x.typ(alice.code() + "\n")
	fresh := "seven unlike words of hers"
	for _, try := range []struct{ first, again, says string }{
		{"Xq7%kz!", "Xq7%kz!", "A password has 8 to 128 bytes, and this one has 7."},
		{"Alice1234567", "Alice1234567", "made of the person's name"},
		{fresh, fresh, "The password is changed."},
	} {
		x.await("New password of alice: ")
		x.typ(try.first + "\n" + try.again + "\n")
		x.await(try.says)
	}
	if status := x.status(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if strings.Contains(x.out.String(), fresh) {
		t.Error("the password was shown")
	}
	rec := s.last("--event", "user.password")
	if rec.Person != "alice" || detail(rec, "actor") != "alice" || rec.Source != "ssh" || strings.Contains(fmt.Sprint(rec), fresh) {
		t.Errorf("record: %+v", rec)
	}
	s.as(alice.password, alice.code(), "ssh", "alice@gw")
	s.why("the old password", login.ReasonPasswordWrong)
	s.as(fresh, alice.code(), "ssh", "alice@gw")
	s.why("the new password", login.ReasonOK)

	// Who comes by key and code, or by a login of before, or whose password is elsewhere, changes nothing; a terminal does not help.
	passwd := func(what string, p *person, code, by, says string) {
		t.Helper()
		before := len(s.records("--event", "user.password"))
		_, stderr, status := s.as(p.password, code, "ssh", "-tt", p.name+"@"+by, "passwd")
		if status != 1 || !strings.Contains(stderr, says) || strings.Contains(stderr, "New password") {
			t.Errorf("%s: status %d, %s", what, status, stderr)
		}
		s.why(what, login.ReasonOK)
		if rec := s.last("--event", "access"); rec.Result != "reject" || rec.Person != p.name || detail(rec, "request") != "passwd" {
			t.Errorf("%s: record %+v", what, rec)
		}
		if n := len(s.records("--event", "user.password")); n != before {
			t.Errorf("%s: a password was changed", what)
		}
	}
	alice.password = ""
	passwd("key and code", alice, alice.code(), "gw-key", "this login did not prove both")
	if rec := s.last("--event", "login"); rec.Exception != "EX-1" {
		t.Errorf("record %+v", rec)
	}
	if stdout, stderr, status := s.as(fresh, alice.code(), "ssh", "-J", "alice@gw-key", "core-sw1", "echo", "in"); status != 0 || stdout != "in\n" {
		t.Fatalf("the login that is leaned on: %d %s%s", status, stdout, stderr)
	}
	passwd("a leaning login", alice, "", "gw-key", "this login did not prove both")
	if rec := s.last("--event", "login"); detail(rec, "leans_on") == "" {
		t.Errorf("record %+v", rec)
	}
	passwd("a password in the directory", dora, dora.code(), "gw", "Your password is not kept here: change it where it is.")
	s.stop()
	s.check()
}
