package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// livingSSH is an ssh client whose session goes on.
type livingSSH struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	mu   sync.Mutex
	out  bytes.Buffer
	done chan struct{}
}

func (l *livingSSH) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *livingSSH) said() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// live starts ssh through the gateway, and returns when the target's command has begun.
func (s *sshRig) live(p *person, command string) *livingSSH {
	s.Helper()
	l := &livingSSH{done: make(chan struct{})}
	l.cmd = exec.Command(tool(s, "ssh", "openssh-client"), "-F", s.clientConf, "-J", p.name+"@gw", "core-sw1", "echo begun; "+command)
	l.cmd.Env = append(os.Environ(), "SSH_ASKPASS="+s.askpass, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none", "PASSWORD="+p.password, "CODE="+p.code(), "SSH_AUTH_SOCK=")
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	l.cmd.Stdout, l.cmd.Stderr = l, l
	var err error
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		s.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go func() { _ = l.cmd.Wait(); close(l.done) }()
	s.Cleanup(func() { _ = l.cmd.Process.Kill(); <-l.done })
	s.until("the session's beginning", func() bool { return strings.Contains(l.said(), "begun") })
	return l
}

// until waits for what other processes bring about.
func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			r.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *rig) statusNow() (s Status) {
	r.Helper()
	stdout, _, _ := r.command("", "status", "--json")
	_ = json.Unmarshal([]byte(stdout), &s)
	return s
}

// TestRestartKeepsSessions puts a new process in the gateway's place: sessions of before go on, come to the same record, and can be ended;
// new ones are served at once at the same addresses; and nothing is lost or accepted twice (P2, P3).
func TestRestartKeepsSessions(t *testing.T) {
	t.Parallel()
	s := newSSHRig(t, rigOptions{})
	alice := s.enrol("alice", byCount())
	s.up()
	old := s.daemon
	first := s.live(alice, "read X; echo got $X; exit 5")
	second := s.live(alice, "sleep 600")
	used := alice.code()
	out := s.ok("restart", "--keep", "1m")
	if !strings.Contains(out, "2 SSH sessions stay") {
		t.Errorf("restart says %q", out)
	}
	now := s.statusNow()
	if now.PID == old.cmd.Process.Pid || now.PID == 0 || !now.Open {
		t.Fatalf("status %+v", now)
	}
	t.Cleanup(func() { _ = syscall.Kill(now.PID, syscall.SIGKILL) })
	if n := len(s.rig.sessions()); n != 2 {
		t.Errorf("%d sessions are listed", n)
	}

	// New logins, over both protocols, and no code twice.
	if stdout, stderr, status := s.as(alice.password, used, "ssh", "-J", "alice@gw", "core-sw1", "echo new"); status != 0 || strings.TrimSpace(stdout) != "new" {
		t.Fatalf("a new session: %d\n%s%s", status, stdout, stderr)
	}
	if _, _, status := s.as(alice.password, used, "ssh", "-J", "alice@gw", "core-sw1", "echo again"); status == 0 {
		t.Error("a code was taken twice")
	}
	s.why("a used code", login.ReasonCodeReused)
	if said := s.radclient(fromChallenge, quoted("User-Name", "alice"), quoted("User-Password", alice.password)); !strings.Contains(said, "Access-Challenge") {
		t.Errorf("RADIUS: %s", said)
	}

	// The first session goes on to its own end, and the second is ended by an operator.
	fmt.Fprintln(first.in, "hello")
	s.until("the first session's end", func() bool {
		select {
		case <-first.done:
			return true
		default:
			return false
		}
	})
	if said := first.said(); !strings.Contains(said, "got hello") || first.cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("the first session: %d, %q", first.cmd.ProcessState.ExitCode(), said)
	}
	s.until("its record", func() bool { return len(s.rig.sessions()) == 1 })
	s.ok("session", "kill", s.rig.sessions()[0].ID, "--reason", "test")
	s.until("the second session's end", func() bool {
		select {
		case <-second.done:
			return true
		default:
			return false
		}
	})
	s.until("its record", func() bool { return len(s.rig.sessions()) == 0 })
	reasons := map[string]int{}
	for _, r := range s.records("--event", "session.end") {
		reasons[r.Reason]++
	}
	if reasons["killed"] != 1 || reasons["exit"]+reasons["target_closed"] != 2 {
		t.Errorf("sessions ended by %v", reasons)
	}
	// The old process leaves with its last session.
	s.until("the old process's end", func() bool { return syscall.Kill(old.cmd.Process.Pid, 0) != nil || isZombie(old.cmd.Process.Pid) })
	if err := syscall.Kill(now.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.until("the new process's end", func() bool { return syscall.Kill(now.PID, 0) != nil || isZombie(now.PID) })
	s.check()
	if r := s.records("--event", "gateway.stop"); len(r) != 2 || r[0].Reason != "restart" && r[1].Reason != "restart" {
		t.Errorf("stops: %+v", r)
	}
}

// isZombie tells of a process that has ended and waits for its parent.
func isZombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(text), ") Z ")
}

// A predecessor's notes are those of its own sessions, and let nobody in.
func TestLeftNotes(t *testing.T) {
	live := []login.Session{{ID: "s1", Protocol: "ssh", Person: "alice"}, {ID: "s2", Protocol: "radius", Person: "alice"}}
	for _, x := range []struct {
		what string
		n    leftNote
		ok   bool
	}{
		{"an end", leftNote{Event: "session.end", Result: audit.Info, Session: "s1", Person: "alice"}, true},
		{"a piece of a recording", leftNote{Event: "recording.chunk", Result: audit.Info, Session: "s1", Person: "alice"}, true},
		{"a refusal", leftNote{Event: "access", Result: audit.Reject}, true},
		{"an acceptance", leftNote{Event: "access", Result: audit.Accept, Session: "s1", Person: "alice"}, false},
		{"a login", leftNote{Event: "login", Result: audit.Accept, Person: "alice"}, false},
		{"a start", leftNote{Event: "session.start", Result: audit.Info, Session: "s3", Person: "alice"}, false},
		{"an accepted end", leftNote{Event: "session.end", Result: audit.Accept, Session: "s1", Person: "alice"}, false},
		{"somebody else's", leftNote{Event: "session.end", Result: audit.Info, Session: "s1", Person: "bob"}, false},
		{"a VPN's", leftNote{Event: "session.end", Result: audit.Info, Session: "s2", Person: "alice"}, false},
		{"nobody's", leftNote{Event: "transfer", Result: audit.Info, Session: "s9", Person: "alice"}, false},
	} {
		if err := x.n.takes(live); (err == nil) != x.ok {
			t.Errorf("%s: %v", x.what, err)
		}
	}
}
