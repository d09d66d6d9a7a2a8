package main

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"sallyport/internal/login"
)

// liveSession is a session that somebody holds open, by stock ssh.
type liveSession struct {
	*sshTry
	ssh *running
	id  string
}

// hold opens a session that lasts, and finds it among the live ones.
func (c *sshTry) hold(wy way, target string) *liveSession {
	c.Helper()
	var stdout lockedBuffer
	l := &liveSession{sshTry: c, ssh: c.begin(patience, nil, &stdout, append(c.cmdline(wy, target), "echo it is open; exec sleep 300")...)}
	c.Cleanup(func() { l.ssh.cancel() })
	until(c, "the session is open", func() bool { return strings.Contains(stdout.String(), "it is open") })
	var list []login.Session
	for line := range strings.Lines(c.ok("session", "list", "--person", c.p.name, "--json")) {
		var s login.Session
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			c.Fatalf("session list --json: %v in %q", err, line)
		}
		list = append(list, s)
	}
	if len(list) != 1 || list[0].System != target || list[0].Protocol != "ssh" || list[0].Person != c.p.name {
		c.Fatalf("the live sessions of %s: %+v", c.p.name, list)
	}
	l.id = list[0].ID
	return l
}

// wasCut checks that the client was cut off, and that the record says why.
func (l *liveSession) wasCut(why string) {
	l.Helper()
	if err := l.ssh.end(); err == nil || l.ssh.ProcessState.ExitCode() == 0 {
		l.Errorf("ssh ended with %v: it was not cut", err)
	}
	var ended bool
	until(l, "the session's end is on record", func() bool {
		for _, end := range l.newRecords("session.end") {
			if end.Session == l.id {
				ended = true
				if end.Reason != why || detail(end, "recording_state") != "complete" {
					l.Errorf("on record: %s, want %s", end.AppendJSON(nil), why)
				}
			}
		}
		return ended
	})
	if text := l.ok("session", "list", "--person", l.p.name, "--json"); text != "" {
		l.Errorf("still listed: %s", text)
	}
	l.check()
}

// TestSSHSessions lists, shows and ends live sessions by the commands, and has them end where nobody would open them any more.
func TestSSHSessions(t *testing.T) {
	t.Parallel()
	w := newSSHWorld(t)
	for _, wy := range []way{byAt, byJump} {
		t.Run("kill, "+wy.name, func(t *testing.T) {
			l := w.try(t).hold(wy, "srv1")
			if text := l.ok("session", "list"); !containsAll(text, l.id, l.p.name, "srv1", "127.0.0.1") {
				t.Errorf("list: %s", text)
			}
			shown := l.ok("session", "show", l.id)
			if !containsAll(shown, l.p.name, "srv1", w.account, "network team", "exec sleep 300", "password (know, ok), hotp", "session.connected") {
				t.Errorf("show: %s", shown)
			}
			if text := l.ok("session", "kill", l.id[:30], "--reason", "laptop stolen"); !strings.Contains(text, "is ended") {
				t.Errorf("kill: %s", text)
			}
			l.wasCut("killed")
			if rec := l.last("--event", "session.kill", "--person", l.p.name); rec.Session != l.id || !strings.Contains(string(rec.AppendJSON(nil)), "laptop stolen") {
				t.Errorf("on record: %s", rec.AppendJSON(nil))
			}
			if text := l.refusedIn("", "session", "kill", l.id); !strings.Contains(text, "no live session") {
				t.Errorf("once more: %s", text)
			}
			if shown := l.ok("session", "show", l.id); !strings.Contains(shown, "killed") {
				t.Errorf("show: %s", shown)
			}
		})
	}
	t.Run("disabled", func(t *testing.T) {
		l := w.try(t).hold(byAt, "srv1")
		other := w.try(t).hold(byAt, "srv1")
		if text := l.ok("user", "disable", l.p.name); !containsAll(text, l.id, "is ended") || strings.Contains(text, other.id) {
			t.Errorf("user disable: %s", text)
		}
		l.wasCut("killed")
		if _, stderr, status := l.openSSH("", "ssh", append(l.cmdline(byAt, "srv1"), "true")...); status != 255 {
			t.Errorf("somebody who is disabled: exit status %d\n%s", status, stderr)
		}
		if rec := l.last("--event", "login", "--person", l.p.name); rec.Reason != string(login.ReasonPersonDisabled) {
			t.Errorf("on record: %s", rec.AppendJSON(nil))
		}
		l.ok("user", "enable", l.p.name)
		if text := other.ok("session", "list", "--person", other.p.name); !strings.Contains(text, other.id) {
			t.Errorf("the other's session: %s", text)
		}
		other.ok("session", "kill", other.id)
		other.wasCut("killed")
	})
	t.Run("rule", func(t *testing.T) {
		exec, other := w.try(t).hold(byAt, "srv1"), w.try(t).hold(byAt, "ca1")
		text := string(mustRead(t, w.config))
		fewer := strings.Replace(text, "rules:\n", "rules:\n  - {name: less at srv1, groups: [network], to: [srv1], may: [shell], record: required}\n", 1)
		w.write("sallyport.yaml", fewer)
		exec.ok("reload")
		exec.wasCut("no_longer_permitted")
		if text := other.ok("session", "list", "--person", other.p.name); !strings.Contains(text, other.id) {
			t.Errorf("a session that the change does not touch: %s", text)
		}
		if _, stderr, status := exec.openSSH("", "ssh", append(exec.cmdline(byAt, "srv1"), "true")...); status == 0 || !strings.Contains(stderr, "exec is not permitted") {
			t.Errorf("exec after the change: exit status %d\n%s", status, stderr)
		}
		w.write("sallyport.yaml", text)
		exec.ok("reload")
		other.ok("session", "kill", other.id)
		other.wasCut("killed")
	})
	w.stop()
	w.check()
}

// TestSSHAudit has ssh-audit look at the listener: it finds nothing to be bad, in any algorithm or key that is offered.
func TestSSHAudit(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	s.up()
	host, port, err := net.SplitHostPort(s.daemon.ssh)
	if err != nil {
		t.Fatal(err)
	}
	audit := func(args ...string) string {
		stdout, stderr, status := runTool(t, "", nil, tool(t, "ssh-audit", "ssh-audit"), append(args, "-p", port, host)...)
		if status > 2 { // 2: warnings; 3: something bad
			t.Errorf("ssh-audit %v: exit status %d\n%s%s", args, status, stdout, stderr)
		}
		return stdout
	}
	var found struct {
		Banner struct{ Software string }
		Kex    []struct{ Algorithm string }
		Key    []struct{ Algorithm string }
		Enc    []string
		Mac    []string
		CVEs   []any
	}
	text := audit("-j")
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if len(found.Kex) < 4 || len(found.Key) == 0 || len(found.Enc) < 2 || len(found.Mac) < 2 || len(found.CVEs) > 0 {
		t.Errorf("ssh-audit sees %s", text)
	}
	if lines := audit("-n", "-l", "fail"); strings.Contains(lines, "[fail]") {
		t.Errorf("ssh-audit finds bad:\n%s", lines)
	}
	if all := audit("-n"); !containsAll(all, "curve25519-sha256", "aes128-gcm@openssh.com", "ssh-ed25519", "[info]") {
		t.Errorf("ssh-audit says\n%s", all)
	}
	s.stop()
	s.check()
}
