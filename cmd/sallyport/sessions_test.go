package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/radiusd/exchange/exchangetest"
)

// account reports a session by radclient.
func (r *rig) account(status, person, session string) {
	r.Helper()
	secret := filepath.Join(r.dir, "radius.secret")
	request := []string{
		quoted("User-Name", person), "Acct-Status-Type = " + status, quoted("Acct-Session-Id", session), "NAS-IP-Address = 127.0.0.1",
		"Packet-Src-IP-Address = " + fromChallenge,
	}
	stdout, stderr, _ := runTool(r, strings.Join(request, "\n")+"\n", nil, tool(r, "radclient", "freeradius-utils"), "-x", "-r", "1", "-t", "20", "-S", secret, r.daemon.accounting, "acct")
	if !strings.Contains(stdout, "Received Accounting-Response") {
		r.Fatalf("accounting got no answer:\n%s%s", stdout, stderr)
	}
}

func (r *rig) sessions() (all []login.Session) {
	r.Helper()
	for line := range strings.Lines(r.ok("session", "list", "--json")) {
		var s login.Session
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			r.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// kills are what NAS said to being asked to end sessions, the newest first.
func (r *rig) kills() (all []string) {
	r.Helper()
	for _, rec := range r.records("--event", "session.kill") {
		all = append(all, rec.Person+" "+rec.Reason+": "+detail(rec, "answer"))
	}
	return all
}

// A NAS, here FreeRADIUS, is asked to end sessions, and what it answers is on record.
func TestDisconnect(t *testing.T) {
	t.Parallel()
	nas := exchangetest.StartFreeRADIUS(t, exchangetest.Config{Secret: radiusSecret})
	_, port, err := net.SplitHostPort(nas.CoA)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, rigOptions{radius: `  accounting: ["127.0.0.1:0"]`, vpn: ", disconnect: " + port})
	alice, nobody := r.enrol("alice", byCount()), r.enrol("nobody", byCount())
	r.enrol("carol", byCount())
	r.start()
	r.account("Start", "alice", "s1")
	r.account("Start", "nobody", "s2")
	r.account("Start", "carol", "s3")
	r.check()
	if all := r.sessions(); len(all) != 3 || all[0].System != "vpn" {
		t.Fatalf("%+v", all)
	}
	for _, s := range r.sessions() {
		if s.Person == "alice" {
			r.ok("session", "kill", s.ID)
			r.ok("session", "refresh", s.ID)
		}
	}
	r.ok("token", "revoke", nobody.token)
	r.ok("user", "disable", "carol")
	got := fmt.Sprint(r.kills())
	for _, want := range []string{"alice operator: ack", "nobody token_revoked: nak", "carol person_disabled: ack"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not among %s", want, got)
		}
	}
	if rec := r.last("--event", "session.refresh"); detail(rec, "answer") != "ack" || rec.Rule != "network team" {
		t.Errorf("%+v", rec)
	}
	r.account("Stop", "alice", "s1")
	for _, s := range r.sessions() {
		if s.Person == alice.name {
			t.Errorf("still there: %+v", s)
		}
	}
	r.stop()
	r.check()
}

// Sessions end with their person's time, and a NAS that is silent is on record as such.
func TestDisconnectByItself(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := newRig(t, rigOptions{radius: `  accounting: ["127.0.0.1:0"]`, vpn: fmt.Sprintf(", disconnect: %d", silent.LocalAddr().(*net.UDPAddr).Port)})
	r.enrol("alice", byCount())
	r.start()
	r.account("Start", "alice", "s1")
	r.ok("user", "set", "alice", "--until", time.Now().Add(time.Second).UTC().Format(time.RFC3339))
	var rec *audit.Record
	until(t, "the session's end is asked for", func() bool {
		all := r.records("--event", "session.kill")
		if len(all) > 0 {
			rec = all[0]
		}
		return len(all) > 0
	})
	if rec.Reason != "person_expired" || rec.Result != audit.Error || !strings.HasPrefix(detail(rec, "answer"), "no answer") {
		t.Errorf("%+v", rec)
	}
	r.stop()
	r.check()
}

// A NAS that heard nothing because the gateway was killed asks the next one, by a new identifier: the same Accept for the same
// answer to the same question. Nobody else gets it (P2).
func TestFailover(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	alice := r.enrol("alice", byTime())
	r.start()
	nas := newNAS(t, fromChallenge, r.daemon.radius)
	state := rfc2865.State_Get(nas.ask(t, "alice", alice.password, nil))
	code := alice.code()
	if p := nas.ask(t, "alice", code, state); p.Code != radius.CodeAccessAccept {
		t.Fatal(p.Code)
	}
	r.kill()
	r.check()
	r.start()
	for _, from := range []string{fromAppend, fromCode} {
		if p := newNAS(t, from, r.daemon.radius).ask(t, "alice", code, state); p.Code != radius.CodeAccessReject {
			t.Errorf("another client: %v", p.Code)
		}
	}
	nas = newNAS(t, fromChallenge, r.daemon.radius)
	nas.id = 77
	if p := nas.ask(t, "alice", code, state); p.Code != radius.CodeAccessAccept || rfc2865.Class_GetString(p) == "" {
		t.Errorf("the same again: %v", p.Code)
	}
	rec := r.last("--event", "login")
	if rec.Result != "accept" || rec.Factors[len(rec.Factors)-1].Result != "repeated" {
		t.Errorf("not on record as a repeat: %+v", rec)
	}
	if p := nas.ask(t, "alice", code, nil); p.Code != radius.CodeAccessChallenge {
		t.Errorf("the code for a password: %v", p.Code)
	}
	r.stop()
	r.check()
}

// A directory that hangs keeps its own people waiting, and nobody else (P7).
func TestDirectoryHangs(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	url, slapd := startSlapd(t, ca, map[string]string{"dora": "the password of dora 1"})
	r := newRig(t, rigOptions{login: fmt.Sprintf(`  ldap: {url: %q, base: "dc=example,dc=org", ca: %q, timeout: 30s}`, url, ca.file)})
	alice := r.enrol("alice", byCount())
	dora := r.enrolAs("dora", "ldap", "the password of dora 1")
	r.start()
	if p := newNAS(t, fromAppend, r.daemon.radius).ask(t, "dora", dora.password+dora.code(), nil); p.Code != radius.CodeAccessAccept {
		t.Fatal(p.Code)
	}
	if err := slapd.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const many = 60 // more than the directory's own bound of 32
	var answered atomic.Int32
	var work sync.WaitGroup
	for range many {
		nas := newNAS(t, fromAppend, r.daemon.radius)
		request, err := nas.request("dora", dora.password+dora.code(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nas.conn.Write(request); err != nil { // before those who follow
			t.Fatal(err)
		}
		work.Go(func() {
			if _, err := nas.exchange(request, patience); err != nil && !errors.Is(err, errSilence) {
				t.Error(err)
			}
			answered.Add(1)
		})
	}
	nas := newNAS(t, fromAppend, r.daemon.radius)
	for range 20 {
		if p := nas.ask(t, "alice", alice.password+alice.code(), nil); p.Code != radius.CodeAccessAccept {
			t.Errorf("alice: %v", p.Code)
		}
	}
	early := answered.Load()
	if err := slapd.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	work.Wait()
	// Those for whom the directory has no place are refused at once.
	if early > many-32 {
		t.Errorf("%d of %d logins at the hanging directory were answered while others logged in: it did not hang", early, many)
	}
	r.stop()
	r.check()
}

// TestOcserv is a whole VPN login: openconnect, ocserv, which asks by radcli, password, then code, a tunnel, and accounting.
func TestOcserv(t *testing.T) {
	t.Parallel()
	const from = "127.0.0.9"
	r := newRig(t, rigOptions{
		radius: `  accounting: ["127.0.0.1:0"]`,
		// radcli of Debian 12 signs no requests.
		clients: "    - {name: ocserv, address: " + from + ", secret_file: radius.secret, mode: challenge, class: remote, tags: [vpn], require_message_authenticator: false, disconnect: off}",
	})
	alice := r.enrol("alice", byCount())
	r.start()
	ca := newAuthority(t)
	server := startOcserv(t, ca, r.daemon.radius, r.daemon.accounting, from)
	connect := func(typed ...string) (connected string, o *other) {
		t.Helper()
		dir := t.TempDir()
		script, told := filepath.Join(dir, "script"), filepath.Join(dir, "told")
		if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$reason\" != connect ] || echo \"$INTERNAL_IP4_ADDRESS\" >"+told+".new && mv "+told+".new "+told+" 2>/dev/null\nexit 0\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		answers := filepath.Join(dir, "answers")
		if err := os.WriteFile(answers, []byte(strings.Join(typed, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		program := tool(t, "openconnect", "openconnect")
		o = startOther(t, func(o *other) bool {
			if b, err := os.ReadFile(told); err == nil {
				connected = strings.TrimSpace(string(b))
			}
			return connected != "" || o.over()
		}, "sh", "-c", fmt.Sprintf("exec %s --protocol=anyconnect --cafile %s --resolve vpn.example.org:127.0.0.1 --user alice --no-dtls --script %s https://vpn.example.org:%s <%s",
			program, ca.file, script, server, answers))
		return connected, o
	}
	address, tunnel := connect(alice.password, alice.code())
	if !strings.HasPrefix(address, "10.77.") {
		t.Fatalf("no tunnel: %q\n%s\n%s", address, tunnel.text(), r.ok("audit", "search"))
	}
	if rec := r.last("--event", "login"); rec.Result != "accept" || rec.System != "ocserv" {
		t.Errorf("%+v", rec)
	}
	until(t, "the session is known", func() bool { return len(r.sessions()) == 1 })
	session := r.sessions()[0]
	if session.Person != "alice" || session.System != "ocserv" {
		t.Errorf("%+v", session)
	}
	r.check()
	if err := tunnel.cmd.Process.Signal(syscall.SIGINT); err != nil { // logs off
		t.Fatal(err)
	}
	until(t, "the session's end is known", func() bool { return len(r.sessions()) == 0 })
	if address, o := connect(alice.password, "000000"); address != "" {
		t.Errorf("a wrong code: %q %s", address, o.text())
	}
	if rec := r.last("--event", "login"); rec.Reason != string(login.ReasonCodeWrong) {
		t.Errorf("%+v", rec)
	}
	r.stop()
	r.check()
}
