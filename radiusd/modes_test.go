package radiusd

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"sallyport/internal/login"
	"sallyport/radiusd/attr"
	"sallyport/radiusd/wire"
)

// Each mode lets the right person through, once, and its Accept carries what the rule says (P1, P2).
func TestModes(t *testing.T) {
	for _, c := range []struct {
		mode         Mode
		digits       int
		typed        func(*rig) string
		wrong        []func(*rig) string
		wrongReasons []login.Reason
	}{
		{
			mode: Append, typed: func(r *rig) string { return password + r.code() },
			wrong: []func(*rig) string{
				func(r *rig) string { return "wrong" + r.code() },
				func(*rig) string { return password },
				func(*rig) string { return password + "abcdef" },
				func(*rig) string { return "123" },
				func(*rig) string { return "" },
				func(*rig) string { return password + "000000" },
			},
			wrongReasons: []login.Reason{
				login.ReasonPasswordWrong, login.ReasonCodeMissing, login.ReasonPasswordWrong, login.ReasonPasswordWrong,
				login.ReasonPasswordMissing, login.ReasonCodeWrong,
			},
		},
		{
			mode: Code, typed: func(r *rig) string { return r.code() },
			wrong:        []func(*rig) string{func(*rig) string { return "000000" }, func(*rig) string { return "" }, func(r *rig) string { return password + r.code() }},
			wrongReasons: []login.Reason{login.ReasonCodeWrong, login.ReasonCodeMissing, login.ReasonCodeWrong},
		},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			r := newRig(t, nil, everybody(c.mode))
			n := r.nas()
			id := byte(0)
			ask := func(user, typed string) *radius.Packet {
				id++
				return n.ask(n.request(id, pap(user, typed)...))
			}
			// A code is not burnt by a wrong password half: the right attempt after the wrong ones is accepted.
			for i, wrong := range c.wrong {
				if i == 3 { // so that the next failures do not meet a lock
					r.advance(2 * time.Hour)
				}
				p := ask("alice", wrong(r))
				if p.Code != radius.CodeAccessReject {
					t.Fatalf("wrong input %d: %v", i, p.Code)
				}
				want := []radius.Type{rfc2869.MessageAuthenticator_Type, rfc2865.ReplyMessage_Type}
				if !slices.Equal(types(p), want) {
					t.Errorf("a Reject holds %v, want %v", types(p), want)
				}
				r.meter.await(t, string(c.wrongReasons[i]), func(m *counter) bool { return m.replies[string(c.wrongReasons[i])] > 0 })
			}
			r.advance(2 * time.Hour)
			code := c.typed(r)
			p := ask("alice", code)
			if p.Code != radius.CodeAccessAccept {
				t.Fatalf("the right input: %v\n%s", p.Code, r.lines)
			}
			wantAccept(t, p)
			if p := ask("alice", code); p.Code != radius.CodeAccessReject { // P2
				t.Errorf("the same code again: %v", p.Code)
			}
			r.meter.await(t, "code_reused", func(m *counter) bool { return m.replies["code_reused"] == 1 })

			// P6: a stranger gets the bytes that a known person gets, but for what is different in every packet.
			known, stranger := ask("alice", "nonsense"), ask("mallory", "nonsense")
			if known.Code != stranger.Code || !slices.EqualFunc(known.Attributes[1:], stranger.Attributes[1:], func(a, b *radius.AVP) bool {
				return a.Type == b.Type && bytes.Equal(a.Attribute, b.Attribute)
			}) {
				t.Errorf("a stranger is told %v, somebody known %v", stranger.Attributes, known.Attributes)
			}
		})
	}
}

func wantAccept(t *testing.T, p *radius.Packet) {
	t.Helper()
	if got := values(p, rfc2865.Class_Type); !slices.Equal(got, []string{"network", "second"}) {
		t.Errorf("Class %q", got)
	}
	want := []string{"\x00\x00\x00\x09\x01\x13shell:priv-lvl=15", "\x00\x00\x00\x09\x01\x13shell:roles=admin"}
	if got := values(p, rfc2865.VendorSpecific_Type); !slices.Equal(got, want) {
		t.Errorf("Vendor-Specific %q, want %q", got, want)
	}
	if got := rfc2865.ServiceType_Get(p); got != rfc2865.ServiceType_Value_NASPromptUser {
		t.Errorf("Service-Type %v", got)
	}
	if got := rfc2865.SessionTimeout_Get(p); got != 3600 {
		t.Errorf("Session-Timeout %d, want the rule's max", got)
	}
	if got := rfc2865.IdleTimeout_Get(p); got != 90 {
		t.Errorf("Idle-Timeout %d, want the rule's idle", got)
	}
}

// In mode challenge everybody is challenged, and only the right password and code together are accepted (P1, P2, P6).
func TestChallenge(t *testing.T) {
	r := newRig(t, nil, everybody(Challenge))
	n := r.nas()
	id := byte(0)
	first := func(user, typed string) *radius.Packet {
		t.Helper()
		id++
		p := n.ask(n.request(id, pap(user, typed)...))
		if p.Code != radius.CodeAccessChallenge {
			t.Fatalf("round one of %q: %v", user, p.Code)
		}
		return p
	}
	second := func(user, typed string, state []byte) *radius.Packet {
		id++
		return n.ask(n.request(id, pap(user, typed, field{rfc2865.State_Type, string(state)})...))
	}

	p := first("alice", password)
	want := []radius.Type{
		rfc2869.MessageAuthenticator_Type, rfc2865.State_Type, rfc2865.ReplyMessage_Type, rfc2869.Prompt_Type, rfc2865.SessionTimeout_Type,
	}
	if !slices.Equal(types(p), want) {
		t.Errorf("a Challenge holds %v, want %v: no privileges", types(p), want)
	}
	if got := rfc2865.ReplyMessage_GetString(p); got != DefaultPrompt {
		t.Errorf("Reply-Message %q", got)
	}
	if got := rfc2869.Prompt_Get(p); got != rfc2869.Prompt_Value_Echo {
		t.Errorf("Prompt %v", got)
	}
	if got := rfc2865.SessionTimeout_Get(p); got != 120 {
		t.Errorf("Session-Timeout %d, want the challenge's life", got)
	}
	state := rfc2865.State_Get(p)
	if p := second("alice", r.code(), state); p.Code != radius.CodeAccessAccept {
		t.Fatalf("round two: %v\n%s", p.Code, r.lines)
	} else {
		wantAccept(t, p)
	}
	r.advance(time.Minute) // a fresh code from here on
	for _, c := range []struct {
		name, user string
		state      func() []byte
		reason     login.Reason
	}{
		{"used State", "alice", func() []byte { return state }, login.ReasonStateUsed},
		{"empty State", "alice", func() []byte { return nil }, login.ReasonStateUnknown},
		{"invented State", "alice", func() []byte { return []byte("17") }, login.ReasonStateUnknown},
		{"altered State", "alice", func() []byte {
			s := bytes.Clone(rfc2865.State_Get(first("alice", password)))
			s[len(s)-1] ^= 1
			return s
		}, login.ReasonStateUnknown},
		{"State of another person", "bob", func() []byte { return rfc2865.State_Get(first("alice", password)) }, login.ReasonStateUnknown},
		{"State of another client", "alice", func() []byte {
			return r.ring.Box("radius-state").Seal(nil, []byte("radius state\x00other"), make([]byte, 50))
		}, login.ReasonStateUnknown},
		{"sealed, but no Progress", "alice", func() []byte {
			return r.ring.Box("radius-state").Seal(nil, []byte("radius state\x00vpn"), []byte("nonsense"))
		}, login.ReasonStateUnknown},
		{"wrong password", "alice", func() []byte { return rfc2865.State_Get(first("alice", "wrong")) }, login.ReasonPasswordWrong},
		{"stranger", "mallory", func() []byte { return rfc2865.State_Get(first("mallory", password)) }, login.ReasonUnknownPerson},
		{"expired State", "alice", func() []byte {
			s := rfc2865.State_Get(first("alice", password))
			r.advance(3 * time.Minute)
			return s
		}, login.ReasonStateExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.meter.mu.Lock()
			before := r.meter.replies[string(c.reason)]
			r.meter.mu.Unlock()
			times := 1
			if c.reason == login.ReasonPasswordWrong || c.reason == login.ReasonUnknownPerson {
				times = 2 // the first round ended so as well, and said nothing
			}
			state := c.state()
			p := second(c.user, r.code(), state)
			if p.Code != radius.CodeAccessReject {
				t.Fatalf("%v", p.Code)
			}
			if _, ok := p.Lookup(rfc2865.State_Type); ok {
				t.Error("a Reject carries State")
			}
			r.meter.await(t, string(c.reason), func(m *counter) bool { return m.replies[string(c.reason)] == before+times })
		})
	}
	// With the second round's code as a password and an unknown State, it was never taken for a first round.
	if got := r.gate.attempt(); got.Password.Reveal() != "" {
		t.Error("a second round fell through to a first")
	}
	p = first("alice", password)
	if p := second("alice", r.code(), rfc2865.State_Get(p)); p.Code != radius.CodeAccessAccept {
		t.Errorf("after all that: %v\n%s", p.Code, r.lines)
	}
}

// Another gateway that holds the same key ring opens the State, and a server without it does not.
func TestStateAcrossServers(t *testing.T) {
	r := newRig(t, nil, everybody(Challenge))
	n := r.nas()
	p := n.ask(n.request(1, pap("alice", password)...))
	state := rfc2865.State_Get(p)
	if len(state) > wire.MaxValue {
		t.Fatalf("State has %d octets", len(state))
	}
	c := r.server.settings.Load().list[0]
	twin := NewServer(Options{Box: r.ring.Box("radius-state"), Now: r.now})
	if _, ok := twin.openState(c, state); !ok {
		t.Error("the twin does not open it")
	}
	foreign := NewServer(Options{Box: r.ring.Box("other"), Now: r.now})
	if _, ok := foreign.openState(c, state); ok {
		t.Error("a foreign server opens it")
	}
}

// Prompt and echo are the client's own.
func TestPrompt(t *testing.T) {
	c := everybody(Challenge)
	c.Prompt, c.NoEcho = "Der Code, bitte: ", true
	r := newRig(t, nil, c)
	n := r.nas()
	p := n.ask(n.request(1, pap("alice", password)...))
	if got := rfc2865.ReplyMessage_GetString(p); got != c.Prompt {
		t.Errorf("Reply-Message %q", got)
	}
	if got := rfc2869.Prompt_Get(p); got != rfc2869.Prompt_Value_NoEcho {
		t.Errorf("Prompt %v", got)
	}
}

// What the rule's reply says of time stands alone, and the rule's own bounds fill in what it leaves open.
func TestTimeouts(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	err := r.server.SetConfig(&Config{
		Clients: []Client{everybody(Code)},
		Replies: map[string]*attr.Reply{"network team": mustReply(t, map[string][]string{"Session-Timeout": {"77"}})},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := r.nas()
	p := n.ask(n.request(1, pap("alice", r.code())...))
	if got := values(p, rfc2865.SessionTimeout_Type); !slices.Equal(got, []string{"\x00\x00\x00\x4d"}) {
		t.Errorf("Session-Timeout %q", got)
	}
	if got := rfc2865.IdleTimeout_Get(p); got != 90 {
		t.Errorf("Idle-Timeout %d", got)
	}
	if p = n.ask(n.request(2, pap("bob", r.code())...)); p.Code != radius.CodeAccessAccept || len(p.Attributes) != 1 {
		t.Errorf("a rule without reply or bounds: %v with %v", p.Code, types(p))
	}
}

// The attempt says who, from where and at which system, and takes nothing from attributes that it should know by itself.
func TestAttempt(t *testing.T) {
	r := newRig(t, nil, everybody(Append))
	n := r.nas()
	hostile := "al\x00ice\n\x1b[31m\xff"
	n.ask(n.request(1, pap(hostile, password+"123456", field{rfc2865.NASIdentifier_Type, "other-client"}, field{rfc2865.CalledStationID_Type, "ssid"})...))
	a := r.gate.attempt()
	if a.Name != hostile || a.Protocol != "radius" || a.System.Name != "vpn" || a.System.Class != "remote" || a.Capability != login.MayLogin {
		t.Errorf("attempt %+v", a)
	}
	if a.Source.String() != n.conn.LocalAddr().String() || a.Origin != "vpn 192.0.2.7" || len(a.ID) != 36 {
		t.Errorf("source %v, origin %q, id %q", a.Source, a.Origin, a.ID)
	}
	if a.Joined.Reveal() != password+"123456" || !a.Password.Empty() || !a.Code.Empty() {
		t.Error("password and code were not left to the gate to part")
	}
	want := []login.Detail{{Key: "calling_station", Value: "192.0.2.7"}, {Key: "called_station", Value: "ssid"}, {Key: "nas_identifier", Value: "other-client"}, {Key: "nas_ip", Value: "10.0.0.1"}}
	if !slices.Equal(a.Detail, want) {
		t.Errorf("detail %v, want %v", a.Detail, want)
	}
}

// radclient, of FreeRADIUS, is a client that we did not write: it checks both authenticators.
func TestRadclient(t *testing.T) {
	radclient, err := exec.LookPath("radclient")
	if err != nil {
		t.Fatalf("radclient of the package freeradius-utils is needed: %v", err)
	}
	dir := t.TempDir()
	secretFile := filepath.Join(dir, "secret")
	if err := os.WriteFile(secretFile, []byte(testSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{Challenge, Append, Code} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t, nil, everybody(mode))
			run := func(what string, lines ...string) string {
				cmd := exec.Command(radclient, "-x", "-r", "1", "-t", "5", "-S", secretFile, r.addr.String(), what)
				cmd.Stdin = strings.NewReader(strings.Join(append(lines, "Message-Authenticator = 0x00"), "\n") + "\n")
				out, err := cmd.CombinedOutput()
				if err != nil && !strings.Contains(string(out), "Received Access-") {
					t.Fatalf("radclient: %v\n%s", err, out)
				}
				return string(out)
			}
			user, state := `User-Name = "alice"`, ""
			typed := map[Mode]string{Challenge: password, Append: password + r.code(), Code: r.code()}[mode]
			out := run("auth", user, fmt.Sprintf("User-Password = %q", typed))
			if mode == Challenge {
				if !strings.Contains(out, "Received Access-Challenge") {
					t.Fatal(out)
				}
				_, rest, _ := strings.Cut(out[strings.Index(out, "Received"):], "State = ")
				state, _, _ = strings.Cut(rest, "\n")
				out = run("auth", user, fmt.Sprintf("User-Password = %q", r.code()), "State = "+state)
			}
			if !strings.Contains(out, "Received Access-Accept") || !strings.Contains(out, `Cisco-AVPair = "shell:priv-lvl=15"`) {
				t.Fatalf("%s\n%s", out, r.lines)
			}
			again := []string{user, fmt.Sprintf("User-Password = %q", typed)}
			if mode == Challenge {
				again = []string{user, fmt.Sprintf("User-Password = %q", r.code()), "State = " + state}
			}
			if out := run("auth", again...); !strings.Contains(out, "Received Access-Reject") { // P2
				t.Error(out)
			}
			if out := run("status"); !strings.Contains(out, "Received Access-Accept") {
				t.Error(out)
			}
		})
	}
}
