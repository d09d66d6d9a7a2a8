package radiusd

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/internal/login"
)

// TestExamine: what an examination says is what the server then does with the very packet, and it leaves no trace.
func TestExamine(t *testing.T) {
	lenient := everybody(Challenge)
	lenient.Name, lenient.Prefix, lenient.RequireMessageAuthenticator, lenient.LimitProxyState = "lenient", netip.MustParsePrefix("127.0.0.2/32"), false, true
	code := everybody(Code)
	code.Name, code.Prefix = "switch", netip.MustParsePrefix("127.0.0.3/32")
	tlsOnly := overTLS(Challenge)
	tlsOnly.Name = "secured"
	r := newRig(t, nil, everybody(Challenge), lenient, code, tlsOnly)
	r.with = func(c *Config) { c.Realms = []string{"corp.example.org"} }
	r.configure(everybody(Challenge), lenient, code, tlsOnly)

	vpn, odd, sw := r.nas(), r.from("127.0.0.2"), r.from("127.0.0.3")
	proxied := field{rfc2865.ProxyState_Type, "p"}
	wrong := *vpn
	wrong.secret = "another secret than the shared one"
	wrongOdd := *odd
	wrongOdd.secret = wrong.secret
	state := values(vpn.ask(vpn.request(200, pap("alice", password)...)), rfc2865.State_Type)[0]
	long := vpn.request(1, pap("alice", password)...)
	setLength(long, len(long)+1)

	for _, c := range []struct {
		name   string
		nas    *nas
		raw    []byte
		guard  string // the last
		reason login.Reason
		silent bool
		says   string
	}{
		{"a first round", vpn, vpn.request(1, pap("alice", password)...), "method", login.ReasonOK, false, "the code is asked next"},
		{"a second round", vpn, vpn.request(2, pap("alice", "123456", field{rfc2865.State_Type, state})...), "method", login.ReasonOK, false, "second round"},
		{"a State of nobody's", vpn, vpn.request(3, pap("alice", "123456", field{rfc2865.State_Type, "stale"})...), "state", login.ReasonStateUnknown, false, "none of ours"},
		{"a State of another client's", sw, sw.request(3, pap("alice", "123456", field{rfc2865.State_Type, state})...), "state", login.ReasonStateUnknown, false, "of another client"},
		{"no signature", vpn, vpn.unsigned(radius.CodeAccessRequest, 4, pap("alice", password)...), "message_authenticator", "ma_missing", true, "firmware"},
		{"another secret", vpn, wrong.request(5, pap("alice", password)...), "message_authenticator", "ma_bad", true, "secret"},
		{"no signature where that may be", odd, odd.unsigned(radius.CodeAccessRequest, 6, pap("alice", password)...), "method", login.ReasonOK, false, "CVE-2024-3596"},
		{"no signature, and Proxy-State", odd, odd.unsigned(radius.CodeAccessRequest, 7, pap("alice", password, proxied)...), "proxy_state", "proxy_state_limited", true, "limit_proxy_state"},
		{"no signature, and another secret", odd, wrongOdd.unsigned(radius.CodeAccessRequest, 8, pap("alice", password)...), "evidence", login.ReasonPasswordWrong, false, "secret of lenient is most likely not the same"},
		{"cut off", vpn, long, "packet", "bad_length", true, "bad_length"},
		{"CHAP where a password is due", vpn, vpn.request(9, chapOf("alice", password)...), "method", "unsupported_method", false, "mode: code"},
		{"CHAP with a code", sw, sw.request(10, chapOf("alice", "123456")...), "method", login.ReasonOK, false, "CHAP"},
		{"EAP", vpn, vpn.request(11, field{rfc2865.UserName_Type, "alice"}, field{79, "\x02\x01\x00\x0a\x01alice"}), "method", "eap_to_pap_client", false, "802.1X"},
		{"nothing to prove", vpn, vpn.request(12, field{rfc2865.UserName_Type, "alice"}), "evidence", login.ReasonPasswordMissing, false, "neither"},
		{"accounting", vpn, vpn.account(13, 1, "s"), "code", "unsupported_code", true, "port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := r.traces()
			from := c.nas.conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Addr()
			e := r.server.Examine(Captured{Datagram: c.raw, From: from})
			last := e.Looks[len(e.Looks)-1]
			if last.Guard != c.guard || e.Reason != c.reason || e.Silent != c.silent || last.OK != (c.reason == login.ReasonOK) {
				t.Errorf("%+v", e)
			}
			text := ""
			for _, l := range e.Looks {
				text += l.Guard + ": " + l.Text + "\n"
			}
			if !strings.Contains(text, c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, text)
			}
			if strings.Contains(text, password) || strings.Contains(text, "123456") || strings.Contains(text, testSecret) {
				t.Errorf("a secret is told (P9):\n%s", text)
			}
			if after := r.traces(); !reflect.DeepEqual(before, after) {
				t.Errorf("it left a trace:\n%+v\n%+v", before, after)
			}
			r.agrees(t, c.nas, c.raw, e)
		})
	}

	e := r.server.Examine(Captured{Datagram: vpn.request(1, pap(`CORP.example.org\alice`, password)...), From: netip.MustParseAddr("127.0.0.1")})
	if e.Name != "alice" || e.Typed != `CORP.example.org\alice` || e.Client != "vpn" {
		t.Errorf("%+v", e)
	}
	// From another address, and for a client that is named; what no client of ours sent; a client over TLS.
	raw := vpn.request(1, pap("alice", password)...)
	if e = r.server.Examine(Captured{Datagram: raw, From: netip.MustParseAddr("10.9.9.9")}); e.Reason != "unknown_client" || !e.Silent {
		t.Errorf("%+v", e)
	}
	if e = r.server.Examine(Captured{Datagram: raw, From: netip.MustParseAddr("10.9.9.9"), Client: "vpn"}); e.Reason != login.ReasonOK {
		t.Errorf("%+v", e)
	}
	if e = r.server.Examine(Captured{Datagram: raw, Client: "nobody"}); e.Reason != "unknown_client" {
		t.Errorf("%+v", e)
	}
	radsec := *vpn
	radsec.secret = tlsSecret
	if e = r.server.Examine(Captured{Datagram: radsec.request(1, pap("alice", password)...), Client: "secured"}); e.Reason != login.ReasonOK {
		t.Errorf("%+v", e)
	}
	if e = r.server.Examine(Captured{Datagram: make([]byte, 70000), From: netip.MustParseAddr("127.0.0.1")}); e.Reason != "bad_length" {
		t.Errorf("%+v", e)
	}
}

// traces is all that a packet could leave behind.
func (r *rig) traces() []any {
	return []any{r.server.Stats(), r.server.Strangers(), r.gate.count(), r.lines.String()}
}

// agrees sends the packet, and compares what becomes of it with what was said.
func (r *rig) agrees(t *testing.T, n *nas, raw []byte, e Examination) {
	t.Helper()
	if e.Silent {
		before := r.meter.dropped(string(e.Reason))
		n.send(raw)
		r.meter.await(t, "the drop", func(c *counter) bool { return c.drops[string(e.Reason)] == before+1 })
		return
	}
	n.send(raw)
	answer := n.receive()
	switch {
	case answer == nil:
		t.Error("no answer came")
	case e.Reason == login.ReasonPasswordWrong && radius.Code(answer[0]) == radius.CodeAccessChallenge: // it's told at the end (P6)
	case e.Reason != login.ReasonOK && radius.Code(answer[0]) != radius.CodeAccessReject:
		t.Errorf("answered with %v", radius.Code(answer[0]))
	}
}

// FuzzExamine: whatever a file held, it is looked at without harm.
func FuzzExamine(f *testing.F) {
	s, _, _ := fuzzServer(f)
	f.Add([]byte("\x01\x01\x00\x14aaaaaaaaaaaaaaaa"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, name := range []string{"", "vpn", "lenient"} {
			e := s.Examine(Captured{Datagram: raw, From: netip.MustParseAddr("127.0.0.1"), Client: name})
			if len(e.Looks) == 0 || e.Reason == "" {
				t.Errorf("%+v", e)
			}
		}
	})
}

// TestSignedRun: the run of requests with Message-Authenticator ends with one that has none, and Status-Server, which always
// has one, says nothing.
func TestSignedRun(t *testing.T) {
	c := everybody(Code)
	c.RequireMessageAuthenticator = false
	r := newRig(t, nil, c)
	n := r.nas()
	of := func() ClientStats { return r.server.Stats()[0] }
	for i := range 3 {
		n.ask(n.request(byte(i), pap("alice", "000000")...))
	}
	n.ask(n.packet(radius.CodeStatusServer, 9))
	if s := of(); s.SignedRun != 3 || !s.SignedSince.Equal(noon) || !s.LastWithoutMessageAuthenticator.IsZero() || s.WithMessageAuthenticator != 3 {
		t.Errorf("%+v", s)
	}
	r.advance(time.Hour)
	n.ask(n.unsigned(radius.CodeAccessRequest, 10, pap("alice", "000000", field{rfc2865.ProxyState_Type, "p"})...))
	if s := of(); s.SignedRun != 0 || !s.SignedSince.IsZero() || !s.LastWithoutMessageAuthenticator.Equal(noon.Add(time.Hour)) || !s.LastProxyState.Equal(noon.Add(time.Hour)) {
		t.Errorf("%+v", s)
	}
	r.advance(time.Hour)
	n.ask(n.request(11, pap("alice", "000000")...))
	if s := of(); s.SignedRun != 1 || !s.SignedSince.Equal(noon.Add(2*time.Hour)) || r.server.Counts()["vpn"].Requests != 5 {
		t.Errorf("%+v", s)
	}
}

// TestSlowest: how long answers take is kept, by the clock of the gateway.
func TestSlowest(t *testing.T) {
	r := newRig(t, workersOnly, everybody(Code))
	r.gate.set(func(login.Attempt) { r.advance(4 * time.Second) })
	n := r.nas()
	n.ask(n.request(1, pap("alice", "000000")...))
	if s := r.server.Stats()[0]; s.Slowest != 4*time.Second || s.Waited != 4*time.Second {
		t.Errorf("slowest %v, all %v", s.Slowest, s.Waited)
	}
}

// TestTLSDropLines: over TLS too, there is one line a minute for each client and reason, however many connections it takes,
// and each packet counts once.
func TestTLSDropLines(t *testing.T) {
	s := newSecured(t, nil, overTLS(Code))
	lines := func() int { return strings.Count(s.lines.String(), "reason=ma_bad") }
	bad := func(times, want int) {
		t.Helper()
		for range times {
			n := s.nas(nil)
			raw := n.request(1, pap("alice", "000000")...)
			raw[len(raw)-1] ^= 1
			n.send(raw)
			if n.frame() != nil {
				t.Fatal("answered")
			}
		}
		s.meter.await(t, "the drops", func(c *counter) bool { return c.drops["ma_bad"] >= want })
	}
	bad(5, 5)
	if n := lines(); n != 1 {
		t.Errorf("%d lines for five of one reason:\n%s", n, s.lines)
	}
	s.advance(dropLogEvery)
	bad(1, 6)
	if n := lines(); n != 2 || !strings.Contains(s.lines.String(), "count=5") {
		t.Errorf("%d lines a minute later:\n%s", n, s.lines)
	}
	s.stop() // nothing is counted later
	if n := s.meter.dropped("ma_bad"); n != 6 {
		t.Errorf("%d drops counted, of 6", n)
	}
	if s := s.rig.server.Stats()[0]; s.Drops["ma_bad"] != 6 || s.Certificate != "nas.example.org" {
		t.Errorf("%+v", s)
	}
}
