package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2869"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// This file is what an auditor tries, one test for each attempt of the list that auditors of privileged access bring: they use the
// commands and the doors that everybody has, and nothing of the gateway's inside.

// 2: "Pick a login with no code, and show me the exception as it stood that day." The register has moved on since.
func TestAuditor02ExceptionAsItStood(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	pump := r.enrol("pump", byCount())
	r.ok("token", "revoke", pump.token)
	r.ok("user", "set", "pump", "--group", "devices")
	r.rules("  - {name: old devices, groups: [devices], to: [firewall], may: [login], need: [know], exception: EX-1}\n")
	id := r.except("{people: [pump], systems: [firewall], factors: [know]}")
	r.start()
	if got := r.radclient(fromAppend, quoted("User-Name", "pump"), quoted("User-Password", pump.password)); !strings.HasPrefix(got, "Access-Accept") {
		t.Fatal(got)
	}
	r.ok("exception", "reported", id, "--in", "DSPT 2026-27")
	r.ok("exception", "end", id, "--reason", "replaced")

	var picked *audit.Record
	for _, rec := range r.records("--event", "login", "--result", "accept") {
		have := false
		for _, f := range rec.Factors {
			have = have || f.Kind == "have" && f.Result == "ok"
		}
		if !have {
			picked = rec
		}
	}
	if picked == nil || picked.Exception != id {
		t.Fatalf("the login without a code names no exception: %+v", picked)
	}
	then := r.ok("exception", "list", "--on", picked.Time.Format(time.RFC3339Nano), "--json")
	if !containsAll(then, `"id":"EX-1"`, `"version":1`, `"state":"live"`, `"by":"B. Chief"`) || strings.Contains(then, "DSPT") {
		t.Errorf("as it stood then: %s", then)
	}
	if now := r.ok("exception", "list", "--all", "--json"); !containsAll(now, `"version":3`, `"state":"ended"`, "DSPT 2026-27") {
		t.Errorf("as it stands: %s", now)
	}
	r.stop()
	r.check()
}

// 3: "The same code on the VPN and then on the bastion." And at both at once.
func TestAuditor03SameCodeTwice(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	alice := s.enrol("alice", byTime())
	s.up()
	ask := func(code string) bool {
		return strings.HasPrefix(s.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", code)), "Access-Accept")
	}
	jump := func(code string) bool {
		_, _, status := s.as(alice.password, code, "ssh", "-J", "alice@gw", "core-sw1", "true")
		return status == 0
	}
	code := alice.code()
	if !ask(code) || jump(code) {
		t.Error("a code of the VPN is good at the bastion")
	}
	code = alice.code()
	doors := make(chan bool)
	go func() { doors <- ask(code) }()
	go func() { doors <- jump(code) }()
	if a, b := <-doors, <-doors; a == b {
		t.Errorf("both at once: one was let in: %v, the other: %v", a, b)
	}
	s.stop()
	s.check()
}

// 4: "Eleven wrong codes." The lock shows, the right code is refused, and the unlocking says who did it.
func TestAuditor04ElevenWrongCodes(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{lock: "{after: 5, for: 1m, hard_after: 10, hard_for: 30m}"})
	alice := r.enrol("alice", byCount())
	r.start()
	try := func(code string) bool {
		return strings.HasPrefix(r.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", code)), "Access-Accept")
	}
	for range 11 {
		if try("00000000") {
			t.Fatal("a wrong code was accepted")
		}
	}
	if try(alice.code()) {
		t.Error("the right code is accepted after eleven wrong ones")
	}
	rec := r.last("--event", "login")
	if rec.Reason != string(login.ReasonLocked) && rec.Reason != string(login.ReasonLockedHard) {
		t.Errorf("record says %s", rec.Reason)
	}
	locked := r.records("--event", "login", "--person", "alice")
	if detail(locked[4], "locked_until") == "" {
		t.Errorf("the fifth failure does not say until when he is locked: %s", locked[4].AppendJSON(nil))
	}
	r.ok("user", "unlock", "alice")
	if rec := r.last("--event", "user.unlock"); detail(rec, "actor") == "" || rec.Person != "alice" {
		t.Errorf("who unlocked: %s", rec.AppendJSON(nil))
	}
	if !try(alice.code()) {
		t.Error("the right code is refused after the unlocking")
	}
	r.stop()
	r.check()
}

// 5: "I am root: I edit, delete and truncate the log." Each is found by audit verify, in an export and in the folder.
func TestAuditor05LogTamperedWith(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	alice := r.enrol("alice", byCount())
	r.start()
	for range 3 {
		r.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", alice.code()))
	}
	r.stop()
	key, export := filepath.Join(r.dir, "key"), filepath.Join(r.dir, "export")
	if err := os.WriteFile(key, []byte(r.ok("audit", "public-key")), 0o600); err != nil {
		t.Fatal(err)
	}
	r.ok("audit", "export", export)
	whole := mustRead(t, export)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	r.ok("audit", "verify", export, "--key", key)
	middle := len(lines) / 2
	for what, spoilt := range map[string][]byte{
		"edited":    bytes.Replace(whole, []byte(`"result":"accept"`), []byte(`"result":"reject"`), 1),
		"deleted":   bytes.Join(append(append([][]byte{}, lines[:middle]...), lines[middle+1:]...), nil),
		"truncated": bytes.Join(lines[:middle], nil),
		"swapped":   bytes.Join(append(append(append([][]byte{}, lines[:1]...), lines[2], lines[1]), lines[3:]...), nil),
	} {
		if err := os.WriteFile(export, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		if text := r.refusedIn("", "audit", "verify", export, "--key", key); !strings.Contains(text, "not verified") {
			t.Errorf("an export that was %s: %s", what, text)
		}
	}
	journal := layout(r.data).journal
	entries, err := os.ReadDir(journal)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := filepath.Join(journal, e.Name())
		if b := mustRead(t, name); bytes.Contains(b, []byte(`"event":"login"`)) {
			if err := os.WriteFile(name, bytes.Replace(b, []byte(`"result":"accept"`), []byte(`"result":"reject"`), 1), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if text := r.refusedIn("", "audit", "verify"); !strings.Contains(text, "not verified") {
		t.Errorf("a folder that was edited: %s", text)
	}
}

// 6: "Who read the log last month?"
func TestAuditor06WhoReadTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.enrol("alice", byCount())
	r.start()
	r.ok("audit", "search", "--person", "alice")
	r.ok("audit", "export", filepath.Join(r.dir, "export"))
	r.ok("user", "show", "alice")
	readers := r.records("--event", "audit")
	var events []string
	for _, rec := range readers {
		events = append(events, rec.Event)
		if detail(rec, "actor") == "" || detail(rec, "role") == "" {
			t.Errorf("who it was is not said: %s", rec.AppendJSON(nil))
		}
	}
	if got := strings.Join(events, " "); got != "audit.search audit.export" {
		t.Errorf("readers of the log: %s", got)
	}
	if filter := detail(readers[0], "filter"); !strings.Contains(filter, "alice") {
		t.Errorf("what was looked for: %s", filter)
	}
	if reads := r.records("--event", "read.user.show"); len(reads) != 1 {
		t.Errorf("%d readings of a person", len(reads))
	}
	r.stop()
	r.check()
}

// 7: "This one is off the HR list. Can she still get in? And the session that she has open?"
func TestAuditor07Leaver(t *testing.T) {
	t.Parallel()
	w := newSSHWorld(t)
	l := w.try(t).hold(byAt, "srv1")
	list := filepath.Join(w.dir, "hr.csv")
	var kept []string
	for line := range strings.Lines(l.ok("user", "export")) {
		if !strings.HasPrefix(line, l.p.name+",") {
			kept = append(kept, line)
		}
	}
	if err := os.WriteFile(list, []byte(strings.Join(kept, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := l.ok("user", "import", list, "--leavers", "--dry-run"); !strings.Contains(text, l.p.name) {
		t.Errorf("what it would do: %s", text)
	}
	if text := l.ok("user", "import", list, "--leavers", "--yes"); !strings.Contains(text, l.p.name) {
		t.Errorf("user import: %s", text)
	}
	l.wasCut("killed")
	if _, stderr, status := l.openSSH("", "ssh", append(l.cmdline(byAt, "srv1"), "true")...); status != 255 {
		t.Errorf("she still gets in: exit status %d\n%s", status, stderr)
	}
	if rec := l.last("--event", "login", "--person", l.p.name); rec.Reason != string(login.ReasonPersonDisabled) {
		t.Errorf("on record: %s", rec.AppendJSON(nil))
	}
	w.stop()
	w.check()
}

// 8: "A supplier's engineer after his window has ended."
func TestAuditor08SupplierAfterHisTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	jones := r.enrol("ext-jones", byCount())
	r.rules("  - {name: suppliers, groups: [suppliers], to: [tag:vpn], may: [login], grant: required}\n")
	r.ok("user", "set", "ext-jones", "--kind", "supplier", "--group", "suppliers", "--until", "2099-01-01")
	r.start()
	try := func() string {
		r.radclient(fromCode, quoted("User-Name", "ext-jones"), quoted("User-Password", jones.code()))
		return r.last("--event", "login").Reason
	}
	end := time.Now().Add(2 * time.Second)
	r.ok("grant", "add", "ext-jones", "--to", "switch", "--until", end.UTC().Format(time.RFC3339Nano), "--ticket", "CHG-1", "--sponsor", "alice")
	if why := try(); why != "ok" {
		t.Errorf("within his window: %s", why)
	}
	until(t, "the window has ended", func() bool { return time.Now().After(end) })
	if why := try(); why != string(login.ReasonGrant) {
		t.Errorf("after his window: %s", why)
	}
	r.ok("user", "set", "ext-jones", "--until", "2020-01-01")
	if why := try(); why != string(login.ReasonPersonExpired) {
		t.Errorf("after his contract: %s", why)
	}
	r.stop()
	r.check()
}

// 9: "I stop your syslog." Logins go on, what it misses is kept for it, and somebody is told. (A disk that fills up is TestFullDisk's, where
// nobody gets in and nothing is lost; a clock that is set is TestClockWatch's.)
func TestAuditor09SyslogStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	alice := r.enrol("alice", byCount())
	r.write("sallyport.yaml", string(mustRead(t, r.config))+"audit: {syslog: [{name: siem, address: \"127.0.0.1:"+freePort(t)+"\", tls: false, down_after: 1s}]}\n")
	r.start()
	if got := r.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", alice.code())); !strings.HasPrefix(got, "Access-Accept") {
		t.Errorf("a login meanwhile: %s", got)
	}
	until(t, "an alert tells of it", func() bool { return strings.Contains(r.ok("alert", "list"), "log_forward_down") })
	if text := r.ok("status"); !containsAll(text, "syslog siem", "not connected", "records behind") {
		t.Errorf("status: %s", text)
	}
	r.stop()
	r.check()
}

// 10: "An admin exempts himself."
func TestAuditor10AdminExemptsHimself(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.enrol("alice", byCount())
	r.write("sallyport.yaml", string(mustRead(t, r.config))+"operators: {four_eyes: true, people: [{user: "+osUser(t)+", person: alice, role: admin}]}\n")
	r.start()
	entry := func(requester, approval string) string {
		today := time.Now().UTC()
		name := filepath.Join(r.dir, "entry.yaml")
		text := fmt.Sprintf("title: me\nscope: {people: [alice], factors: [have]}\nrationale: convenience\nrisk: {threat: x, likelihood: 1, impact: 1, assessor: alice}\nplan: {text: none, owner: alice, target: 2099-01-01}\nfrom: %s\nuntil: 2099-01-01\nnext_review: %s\n%s%s",
			today.Format(time.DateOnly), today.AddDate(0, 6, 0).Format(time.DateOnly), requester, approval)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	approval := "approval: {by: %s, role: r, body: board, reference: x, date: 2026-01-01}\n"
	r.refusedIn("", "exception", "add", entry("", fmt.Sprintf(approval, "alice")))                 // by herself
	r.refusedIn("", "exception", "add", entry("", fmt.Sprintf(approval, "B. Chief")))              // in somebody's name, alone
	r.refusedIn("", "exception", "add", entry("requester: bob\n", fmt.Sprintf(approval, "carol"))) // with two invented names
	r.ok("exception", "add", entry("", ""))
	r.refusedIn("", "exception", "approve", "EX-1", "--by", "alice", "--role", "r", "--body", "board", "--reference", "x")
	r.refusedIn("", "exception", "approve", "EX-1", "--by", "B. Chief", "--role", "r", "--body", "board", "--reference", "x")
	r.refusedIn("", "grant", "add", "alice", "--to", "*", "--for", "4h", "--ticket", "none")
	if text := r.ok("exception", "list"); !strings.Contains(text, "requested") || strings.Contains(text, "live") {
		t.Errorf("the register: %s", text)
	}
	// A rule that does without, in the configuration, does not load.
	r.rules("  - {name: mine, groups: [network], to: ['*'], may: [login], need: [have]}\n")
	if text := r.refusedIn("", "config", "check"); !strings.Contains(text, "exception") {
		t.Errorf("config check: %s", text)
	}
	r.stop()
	r.check()
}

// 11: "A key and a code, and no password. Do you call that two factors?"
func TestAuditor11KeyAndCode(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	alice := s.enrol("alice", byCount())
	s.okIn(string(mustRead(t, filepath.Join(filepath.Dir(s.clientConf), "alice_key.pub"))), "key", "add", "alice")
	s.up()
	if _, _, status := s.as("", alice.code(), "ssh", "-J", "alice@gw-key", "core-sw1", "true"); status == 0 {
		t.Error("let in with a key and a code")
	}
	s.why("key and code", login.ReasonPasswordMissing)
	if text := s.ok("explain", "--person", "alice", "--system", "core-sw1", "--for", "shell", "--factors", "have,have"); !strings.Contains(text, "factors_insufficient") {
		t.Errorf("explain: %s", text)
	}
	s.stop()
	s.check()
}

// 12: "A RADIUS packet without Message-Authenticator, and one from an address that nobody knows."
func TestAuditor12StrangePackets(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	alice := r.enrol("alice", byCount())
	r.start()
	silent := func(what, from string, spoil func(*radius.Packet)) {
		t.Helper()
		n := newNAS(t, from, r.daemon.radius)
		b, err := n.request("alice", alice.code(), nil)
		if err != nil {
			t.Fatal(err)
		}
		p := parsePacket(t, b, n.secret)
		spoil(p)
		if b, err = p.Encode(); err != nil {
			t.Fatal(err)
		}
		if _, err := n.exchange(b, 500*time.Millisecond); err == nil {
			t.Errorf("%s: answered", what)
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	silent("without Message-Authenticator", fromCode, func(p *radius.Packet) { rfc2869.MessageAuthenticator_Del(p) })
	silent("from a stranger", fromStranger, func(*radius.Packet) {})
	if logins := r.records("--event", "login"); len(logins) != 0 {
		t.Errorf("they were judged: %s", logins[0].AppendJSON(nil))
	}
	if text := r.ok("client", "list"); !strings.Contains(text, fromStranger) {
		t.Errorf("the stranger is not shown: %s", text)
	}
	if p := newNAS(t, fromCode, r.daemon.radius).ask(t, "alice", alice.code(), nil); p.Code != radius.CodeAccessAccept {
		t.Errorf("a sound one: %v", p.Code)
	}
	r.stop()
	r.check()
}

// 13: "scp, sftp, a command, a forwarded port, ProxyJump: which of them goes by without a code, or without a recording?"
func TestAuditor13SideDoors(t *testing.T) {
	t.Parallel()
	w := newSSHWorld(t)
	for _, door := range []struct {
		what    string
		program string
		args    func(c *sshTry, wy way) []string
		run     func(c *sshTry, wy way, target string) trace
	}{
		{"a command", "ssh", func(c *sshTry, wy way) []string { return append(c.cmdline(wy, "srv1"), "echo in") }, execStatus},
		{"sftp", "sftp", func(c *sshTry, wy way) []string {
			return c.cmdline(wy, "srv1", "-o", "BatchMode=no", "-b", "/dev/null")
		}, sftpBoth},
		{"scp", "scp", func(c *sshTry, wy way) []string {
			args := c.cmdline(wy, "srv1")
			return append(args[:len(args)-1], "/etc/hostname", args[len(args)-1]+":"+c.path("in"))
		}, scp(true, "sftp")},
		{"a forwarded port", "ssh", func(c *sshTry, wy way) []string {
			return append(c.cmdline(wy, "ports1", "-o", "ExitOnForwardFailure=yes", "-L", "127.0.0.1:"+freePort(c)+":localhost:"+c.w.service), "echo in")
		}, nil},
	} {
		for _, wy := range []way{byAt, byJump} {
			t.Run(door.what+", "+wy.name, func(t *testing.T) {
				c := w.try(t)
				for _, code := range []string{"", "00000000"} {
					stdout, _, status := c.openSSHWith(c.answers(c.p.password, code), "", door.program, door.args(c, wy)...)
					if status == 0 || strings.Contains(stdout, "in") {
						t.Errorf("with the code %q: exit status %d", code, status)
					}
				}
				if starts := c.newRecords("session.start"); len(starts) != 0 {
					t.Errorf("a session began: %s", starts[0].AppendJSON(nil))
				}
				if door.run == nil {
					return
				}
				e := door.run(c, wy, "srv1")
				starts := c.newRecords("session.start")
				if len(starts) != 1 {
					t.Fatalf("%d sessions for %s", len(starts), e.request)
				}
				if how := detail(starts[0], "recorded"); how != isRecorded && how != byTransfers {
					t.Errorf("a rule that requires a recording, and the session's start says %q: %s", how, starts[0].AppendJSON(nil))
				}
			})
		}
	}
	w.stop()
	w.check()
}

// 14: "Restart in the middle of the code's half minute, and play it again."
func TestAuditor14RestartAndReplay(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	alice := r.enrol("alice", byTime())
	r.start()
	code := alice.code()
	try := func() string {
		r.radclient(fromCode, quoted("User-Name", "alice"), quoted("User-Password", code))
		return r.last("--event", "login").Reason
	}
	if why := try(); why != "ok" {
		t.Fatal(why)
	}
	r.ok("reload")
	r.stop()
	r.start()
	if why := try(); why != string(login.ReasonCodeReused) {
		t.Errorf("after a stop: %s", why)
	}
	r.kill()
	r.start()
	if why := try(); why != string(login.ReasonCodeReused) {
		t.Errorf("after a kill: %s", why)
	}
	r.stop()
	r.check()
}
