package sshgw

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/policy"
)

// A jump carries bytes both ways, and its start and end are in the record.
func TestJump(t *testing.T) {
	h := newHarness(t)
	address := echo(t)
	h.serve(h.config(address))
	c := h.alice()
	for i, to := range []string{"core-sw1:22", "CORE-SW1:22", address} {
		if to == address {
			// Several targets share the address: the name has to be used.
			if _, err := c.Dial("tcp", to); err == nil {
				t.Error("an address that five targets share was opened")
			}
			cfg := h.config(address)
			cfg.Targets = cfg.Targets[:1]
			if err := h.srv.SetConfig(cfg); err != nil {
				t.Fatal(err)
			}
		}
		conn, err := c.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(h.find("session.start")); n != i+1 {
			t.Fatalf("%d session starts recorded when the channel is open, want %d (P3)", n, i+1)
		}
		sent := make([]byte, 3<<20+17)
		rand.Read(sent)
		go func() {
			conn.Write(sent)
			conn.(interface{ CloseWrite() error }).CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || sha256.Sum256(got) != sha256.Sum256(sent) {
			t.Fatalf("%d bytes came back of %d, or others: %v", len(got), len(sent), err)
		}
		conn.Close()
		end, start, access := h.awaitEnd(i+1), h.last("session.start"), h.last("access")
		for _, r := range []audit.Record{access, start, end} {
			if r.Person != "alice" || r.System != "core-sw1" || r.Class != "privileged-internal" || r.Account != "unknown" ||
				r.Session == "none" || r.Session != end.Session || r.Rule != "network team" || r.Source != "127.0.0.1" || len(r.Factors) != 2 {
				t.Errorf("record %+v", r)
			}
		}
		if access.Result != audit.Accept || start.Result != audit.Info || end.Result != audit.Info || end.Reason != string(endExit) {
			t.Errorf("results %s, %s, %s, end %s", access.Result, start.Result, end.Result, end.Reason)
		}
		n := strconv.Itoa(len(sent))
		if detail(end, "bytes_in") != n || detail(end, "bytes_out") != n || detail(end, "address") != address || detail(end, "duration_ms") == "" {
			t.Errorf("the end says %+v, want %s bytes each way", end.Detail, n)
		}
		if detail(access, "destination") != to {
			t.Errorf("the destination is %q, want %q", detail(access, "destination"), to)
		}
	}
}

// Everything that is not a jump to a permitted target is refused with a sentence and a record (P3, P10, P11).
func TestRefusedChannels(t *testing.T) {
	h := newHarness(t)
	address := echo(t)
	h.serve(h.config(address))
	c := h.alice()
	may := "You may not reach %s through this gateway."
	for _, x := range []struct {
		kind   string
		data   []byte
		code   ssh.RejectionReason
		say    string
		reason login.Reason
		system string
	}{
		{"direct-tcpip", direct("nowhere", 22), ssh.Prohibited, may, login.ReasonNoTarget, "gateway"},
		{"direct-tcpip", direct("core-sw1", 443), ssh.Prohibited, may, login.ReasonNoTarget, "gateway"},
		{"direct-tcpip", direct("169.254.169.254", 80), ssh.Prohibited, may, login.ReasonNoTarget, "gateway"},
		{"direct-tcpip", direct("localhost", 22), ssh.Prohibited, may, login.ReasonNoTarget, "gateway"},
		{"direct-tcpip", direct("", 0), ssh.Prohibited, may, login.ReasonNoTarget, "gateway"},
		{"direct-tcpip", direct("forbidden", 22), ssh.Prohibited, may, login.ReasonNoRule, "forbidden"},
		{"direct-tcpip", direct("rule-recorded", 22), ssh.Prohibited, "rule-recorded is reached only with a recording", login.ReasonRecording, "rule-recorded"},
		{"direct-tcpip", direct("srv-off", 22), ssh.Prohibited, "srv-off is not reached by ssh -J", login.ReasonCapability, "srv-off"},
		{"direct-tcpip", nil, ssh.ConnectionFailed, "malformed", login.ReasonNoTarget, "gateway"},
		{"x11", nil, ssh.Prohibited, sayNotServed, login.ReasonCapability, "gateway"},
		{"forwarded-tcpip", direct("core-sw1", 22), ssh.Prohibited, sayNotServed, login.ReasonCapability, "gateway"},
		{"direct-streamlocal@openssh.com", nil, ssh.Prohibited, sayNotServed, login.ReasonCapability, "gateway"},
		{"forwarded-streamlocal@openssh.com", nil, ssh.Prohibited, sayNotServed, login.ReasonCapability, "gateway"},
		{"auth-agent@openssh.com", nil, ssh.Prohibited, sayNotServed, login.ReasonCapability, "gateway"},
		{"tun@openssh.com", nil, ssh.Prohibited, sayNotServed, login.ReasonCapability, "gateway"},
		{"hunter2", nil, ssh.UnknownChannelType, sayNotServed, login.ReasonCapability, "gateway"},
		{"", nil, ssh.UnknownChannelType, sayNotServed, login.ReasonCapability, "gateway"},
	} {
		before := len(h.find("access"))
		_, _, err := c.OpenChannel(x.kind, x.data)
		open := (*ssh.OpenChannelError)(nil)
		if !errors.As(err, &open) {
			t.Errorf("%s %q: %v", x.kind, x.data, err)
			continue
		}
		say, _, _ := strings.Cut(x.say, "%s")
		if open.Reason != x.code || !strings.Contains(open.Message, say) {
			t.Errorf("%s %q: %v, want %v and %q", x.kind, x.data, open, x.code, x.say)
		}
		recs := h.find("access")
		last := recs[len(recs)-1]
		if last.Result != audit.Reject || last.Reason != string(x.reason) || last.System != x.system || last.Person != "alice" || detail(last, "request") == "" {
			t.Errorf("%s %q: record %+v, want %s at %s", x.kind, x.data, last, x.reason, x.system)
		}
		if len(recs) == before {
			t.Errorf("%s %q: no record", x.kind, x.data)
		}
	}
	if n := len(h.find("session.start")); n != 0 {
		t.Errorf("%d sessions began", n)
	}
	h.awaitNothingDialled()
}

func (h *harness) awaitNothingDialled() {
	h.Helper()
	if st := h.srv.Stats(); st.Sessions != 0 || st.Connections != 1 {
		h.Errorf("left over: %+v", st)
	}
}

// P6 within the gateway: what one may not reach and what does not exist are told apart only by the record.
func TestRefusalsDoNotTellWhatExists(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.alice()
	said := func(host string) string {
		_, err := c.Dial("tcp", host+":22")
		if err == nil {
			t.Fatalf("%s was opened", host)
		}
		return strings.ReplaceAll(err.Error(), host, "TARGET")
	}
	if a, b := said("forbidden"), said("forbiddes"); a != b {
		t.Errorf("%q and %q", a, b)
	}
}

// Hostile destinations are told back and recorded in a harmless form.
func TestHostileDestinations(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.alice()
	for _, host := range []string{"\x00", "a\nb", "\x1b]0;x\a", "\xff\xfe", "a\u202eb", `"`, strings.Repeat("x", 64<<10), strings.Repeat("\x1b", 64<<10), "-oProxyCommand=x", "core-sw1\x00"} {
		_, _, err := c.OpenChannel("direct-tcpip", direct(host, 22))
		open := (*ssh.OpenChannelError)(nil)
		if !errors.As(err, &open) {
			t.Fatalf("%.20q: %v", host, err)
		}
		if len(open.Message) > 400 || strings.ContainsFunc(open.Message, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%.20q: told %q", host, open.Message)
		}
		if d := detail(h.last("access"), "destination"); d == "" || len(d) > 300 || strings.ContainsFunc(d, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%.20q: recorded %q", host, d)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.alice()
	for _, x := range []struct {
		name     string
		ok       bool
		recorded bool
	}{
		{"tcpip-forward", false, true},
		{"streamlocal-forward@openssh.com", false, true},
		{"cancel-tcpip-forward", false, false},
		{"no-more-sessions@openssh.com", false, false},
		{"hostkeys-prove-00@openssh.com", false, false},
		{"keepalive@openssh.com", true, false},
		{"hunter2", false, false},
	} {
		before := len(h.find("access"))
		ok, _, err := c.SendRequest(x.name, true, []byte("x"))
		if err != nil || ok != x.ok {
			t.Errorf("%s: %v, %v", x.name, ok, err)
		}
		if got := len(h.find("access")) > before; got != x.recorded {
			t.Errorf("%s: recorded %v, want %v", x.name, got, x.recorded)
		}
	}
	// More than the library queues, without wanting answers.
	for range 200 {
		if _, _, err := c.SendRequest("hunter2", false, nil); err != nil {
			t.Fatal(err)
		}
	}
	if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); !ok || err != nil {
		t.Errorf("after a flood of requests: %v, %v", ok, err)
	}
}

// A session says how to reach a target, and nothing runs.
func TestSessionsAreExplained(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.alice()
	command := func(s string) []byte { return appendString(nil, s) }
	for _, x := range []struct {
		name, request string
		payload       []byte
		stdout        bool
	}{
		{"shell", "shell", nil, true},
		{"exec", "exec", command("rm -rf / # hunter2"), false},
		{"subsystem", "subsystem", command("sftp"), false},
	} {
		t.Run(x.name, func(t *testing.T) {
			s, requests, err := c.OpenChannel("session", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ask := func(name string, payload []byte, want bool) {
				t.Helper()
				if ok, err := s.SendRequest(name, true, payload); ok != want || err != nil {
					t.Errorf("%s: %v, %v; want %v", name, ok, err, want)
				}
			}
			before := len(h.find("access"))
			ask("env", nil, false)
			ask("auth-agent-req@openssh.com", nil, false)
			ask("x11-req", nil, false)
			if n := len(h.find("access")) - before; n != 2 {
				t.Errorf("agent and x11 made %d records, want 2", n)
			}
			ask(x.request, x.payload, true)
			out, err := io.ReadAll(s)
			if err != nil {
				t.Fatal(err)
			}
			errOut, err := io.ReadAll(s.Stderr())
			if err != nil {
				t.Fatal(err)
			}
			status := uint32(0)
			for r := range requests {
				if r.Type == "exit-status" {
					status = binary.BigEndian.Uint32(r.Payload)
				}
			}
			if status != 1 {
				t.Errorf("exit status %d, want 1", status)
			}
			said, silent := string(out), string(errOut)
			if !x.stdout {
				said, silent = silent, said
			}
			if silent != "" {
				t.Errorf("the wrong output has %q", silent)
			}
			for _, want := range []string{"ssh -J alice@GATEWAY ACCOUNT@TARGET", "core-sw1"} {
				if !strings.Contains(said, want) {
					t.Errorf("said %q, want %q in it", said, want)
				}
			}
			for _, not := range []string{"forbidden", "hunter2"} {
				if strings.Contains(said, not) {
					t.Errorf("said %q", said)
				}
			}
			if recs := h.find("access"); len(recs) != before+3 || recs[before+2].Reason != string(login.ReasonCapability) || detail(recs[before+2], "request") != x.request {
				t.Errorf("%d records, the last %+v", len(recs)-before, recs[len(recs)-1])
			}
		})
	}
	for _, r := range h.records() {
		if slices.ContainsFunc(r.Detail, func(d audit.Detail) bool { return strings.Contains(d.Value, "hunter2") }) {
			t.Errorf("a command is recorded, and it may hold a password: %+v", r)
		}
	}
}

// A target that cannot be reached: the start is recorded before, the end says why, and the client learns little.
func TestDialFailed(t *testing.T) {
	h := newHarness(t)
	dialled := false
	h.dial = func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = true
		if n := len(h.find("session.start")); n != 1 {
			t.Errorf("dialled with %d starts recorded, want 1 (P3)", n)
		}
		return nil, errors.New("connect to secret-backend: refused")
	}
	h.serve(h.config("10.0.0.1:22"))
	_, err := h.alice().Dial("tcp", "core-sw1:22")
	open := (*ssh.OpenChannelError)(nil)
	if !errors.As(err, &open) || open.Reason != ssh.ConnectionFailed || strings.Contains(open.Message, "secret-backend") || !strings.Contains(open.Message, "core-sw1") {
		t.Errorf("told %v", err)
	}
	if r := h.awaitEnd(1); !dialled || r.Reason != string(endDialFailed) || r.Result != audit.Error || !strings.Contains(detail(r, "cause"), "refused") {
		t.Errorf("record %+v", r)
	}
}

// P3, P4: when the record of a permission, a start or a refusal cannot be made, nothing opens, nothing is said, and
// the connection ends.
func TestNoRecordNoChannel(t *testing.T) {
	for _, kind := range []string{"direct-tcpip", "x11", "session", "tcpip-forward"} {
		t.Run(kind, func(t *testing.T) {
			h := newHarness(t)
			h.dial = func(context.Context, string, string) (net.Conn, error) {
				t.Error("dialled without a record")
				return nil, errors.New("no")
			}
			h.serve(h.config("10.0.0.1:22"))
			c := h.rawAlice()
			h.failing.Store(true)
			switch kind {
			case "tcpip-forward":
				c.write(append(appendString([]byte{msgGlobal}, kind), 1))
				c.expectEnd(81, 82)
			case "session":
				c.write(channelOpen(kind, 0, 1<<20, 1<<15, nil))
				ok := c.expect(msgOpenOK)
				c.write(append(appendString(append([]byte{msgChannelReq}, ok[5:9]...), "shell"), 1))
				c.expectEnd(msgData, msgExtended, 99, 100)
			default:
				c.write(channelOpen(kind, 0, 1<<20, 1<<15, direct("core-sw1", 22)))
				c.expectEnd(msgOpenOK, msgOpenFailure)
			}
		})
	}
}

// The target closes first; the client's leaving afterwards does not change that.
func TestTargetClosed(t *testing.T) {
	for name, handle := range map[string]func(net.Conn){
		"orderly": func(c net.Conn) { io.WriteString(c, "bye"); c.Close() },
		"reset": func(c net.Conn) {
			io.WriteString(c, "bye")
			c.Read(make([]byte, 3))
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.serve(h.config(listen(t, handle)))
			c := h.alice()
			conn, err := c.Dial("tcp", "core-sw1:22")
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 3)
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != "bye" {
				t.Fatalf("%q, %v", got, err)
			}
			conn.Write([]byte("bye"))
			if _, err := conn.Read(got); err != io.EOF {
				t.Errorf("after the target's end: %v", err)
			}
			c.Close()
			if r := h.awaitEnd(1); r.Reason != string(endTargetClosed) || detail(r, "bytes_out") != "3" {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// Half a close goes through: the target's answer to the client's end still arrives.
func TestHalfClose(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(listen(t, func(c net.Conn) {
		defer c.Close()
		all, _ := io.ReadAll(c)
		c.Write(bytes.Repeat(all, 1000))
	})))
	conn, err := h.alice().Dial("tcp", "core-sw1:22")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "0123456789")
	conn.(interface{ CloseWrite() error }).CloseWrite()
	if all, err := io.ReadAll(conn); err != nil || len(all) != 10_000 {
		t.Errorf("%d bytes, %v", len(all), err)
	}
	conn.Close()
	if r := h.awaitEnd(1); r.Reason != string(endExit) || detail(r, "bytes_in") != "10" || detail(r, "bytes_out") != "10000" {
		t.Errorf("record %+v", r)
	}
}

// How the client's connection ends is told apart.
func TestClientLeaves(t *testing.T) {
	for name, x := range map[string]struct {
		leave func(*rawClient)
		want  login.Reason
	}{
		"closes":      {func(c *rawClient) { c.conn.Close() }, endExit},
		"disconnects": {func(c *rawClient) { c.write([]byte{msgDisconnect, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0}) }, endExit},
		"is lost": {func(c *rawClient) {
			c.conn.(*net.TCPConn).SetLinger(0)
			c.conn.Close()
		}, endClientLost},
		"breaks the cipher": {func(c *rawClient) { c.conn.Write(make([]byte, 100)) }, endExit},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			closed := make(chan struct{})
			h.serve(h.config(listen(t, func(c net.Conn) {
				io.Copy(io.Discard, c)
				close(closed)
				c.Close()
			})))
			c := h.rawAlice()
			c.write(channelOpen("direct-tcpip", 0, 1<<20, 1<<15, direct("core-sw1", 22)))
			c.expect(msgOpenOK, msgOpenFailure)
			x.leave(c)
			<-closed // the target's connection does not stay behind
			if r := h.awaitEnd(1); r.Reason != string(x.want) {
				t.Errorf("ended by %s, want %s", r.Reason, x.want)
			}
		})
	}
}

// An operator ends a session, and the record says so.
func TestKill(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.alice()
	one, err := c.Dial("tcp", "core-sw1:22")
	if err != nil {
		t.Fatal(err)
	}
	two, err := c.Dial("tcp", "core-sw1:22")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(one, "12345")
	if _, err := io.ReadFull(one, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	list := h.srv.Sessions()
	if len(list) != 2 || list[0].Person != "alice" || list[0].Target != "core-sw1" || list[0].Rule != "network team" || list[0].BytesIn != 5 || list[0].BytesOut != 5 || list[0].Attempt == "" {
		t.Fatalf("sessions %+v", list)
	}
	if h.srv.Kill("nothing", "x") || !h.srv.Kill(list[0].ID, "seen at an odd hour") {
		t.Fatal("Kill does not know what there is")
	}
	if _, err := one.Read(make([]byte, 1)); err == nil {
		t.Error("the killed session still gives data")
	}
	if r := h.awaitEnd(1); r.Reason != string(endKilled) || r.Session != list[0].ID || detail(r, "cause") != "seen at an odd hour" || detail(r, "bytes_in") != "5" {
		t.Errorf("record %+v", r)
	}
	io.WriteString(two, "x")
	if _, err := io.ReadFull(two, make([]byte, 1)); err != nil {
		t.Errorf("the other session: %v", err)
	}
}

// A new configuration and new rules count for the next channel of a connection that lives.
func TestLiveConnectionIsJudgedAnew(t *testing.T) {
	h := newHarness(t)
	address := echo(t)
	h.serve(h.config(address))
	c := h.alice()
	open := func() error {
		conn, err := c.Dial("tcp", "core-sw1:22")
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	cfg := h.config(address)
	cfg.Targets[0].Jump = Off
	if err := h.srv.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	if open() == nil {
		t.Error("a jump that was switched off")
	}
	if err := h.srv.SetConfig(h.config(address)); err != nil {
		t.Fatal(err)
	}
	h.setRule(policy.Rule{Record: true})
	if open() == nil {
		t.Error("a jump that has to be recorded since then (P10)")
	}
	h.setRule(policy.Rule{})
	if err := open(); err != nil {
		t.Error(err)
	}
	h.awaitEnd(2)
	h.gate.Apply(login.Change{PutPerson: &login.Person{Name: "alice", Kind: login.Staff, Groups: []string{"network"}, Disabled: true}})
	if open() == nil {
		t.Error("a person who is disabled since then")
	}
}
