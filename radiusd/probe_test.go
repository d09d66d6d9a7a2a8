package radiusd

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport/radiusd/wire"
)

func given(s string) func() (string, error) { return func() (string, error) { return s, nil } }

// The probe finds nothing wrong with our own server, in each mode, and does what a person would.
func TestProbe(t *testing.T) {
	for _, mode := range []Mode{Challenge, Append, Code} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t, nil, everybody(mode))
			o := ProbeOptions{
				Address: r.addr.String(), Secret: []byte(testSecret), User: "alice", Mode: mode,
				Password: given(password), Code: given(r.code()), Timeout: 5 * time.Second,
			}
			report, err := Probe(t.Context(), o)
			if err != nil || report.Outcome != "accept" || !report.Healthy() {
				t.Fatalf("%v %+v", err, report)
			}
			rounds := map[Mode]int{Challenge: 2, Append: 1, Code: 1}[mode]
			if report.Rounds != rounds || len(report.Took) != rounds {
				t.Errorf("%d rounds, %d times, want %d", report.Rounds, len(report.Took), rounds)
			}
			for _, f := range report.Findings {
				if f.Level != Good {
					t.Errorf("%+v", f)
				}
			}
			report, err = Probe(t.Context(), o) // the code is used now
			if err != nil || report.Outcome != "reject" || !report.Healthy() {
				t.Errorf("%v %+v", err, report)
			}
			if report.Message != "Login refused." {
				t.Errorf("message %q", report.Message)
			}
		})
	}
}

func TestProbeWithoutCode(t *testing.T) {
	r := newRig(t, nil, everybody(Challenge))
	report, err := Probe(t.Context(), ProbeOptions{Address: r.addr.String(), Secret: []byte(testSecret), User: "alice", Mode: Challenge, Password: given(password)})
	if err != nil || report.Outcome != "challenge" || !report.Healthy() {
		t.Errorf("%v %+v", err, report)
	}
	if _, err := Probe(t.Context(), ProbeOptions{Address: r.addr.String(), Secret: []byte(testSecret), Mode: Code}); err == nil {
		t.Error("no error without a code")
	}
	failing := func() (string, error) { return "", errors.New("no terminal") }
	if _, err := Probe(t.Context(), ProbeOptions{Address: r.addr.String(), Secret: []byte(testSecret), Mode: Append, Password: failing}); err == nil || !strings.Contains(err.Error(), "no terminal") {
		t.Errorf("%v", err)
	}
}

// Silence is a finding, not an error: it is how a server answers a wrong secret.
func TestProbeSilence(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	o := ProbeOptions{Address: r.addr.String(), Secret: []byte("wrong"), User: "alice", Mode: Code, Code: given("123456"), Timeout: 30 * time.Millisecond}
	report, err := Probe(t.Context(), o)
	if err != nil || report.Outcome != "no_answer" || report.Healthy() {
		t.Errorf("%v %+v", err, report)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.Timeout = time.Minute
	if _, err := Probe(ctx, o); err == nil {
		t.Error("a cancelled probe ended well")
	}
}

// badServer answers as a server would that has every fault the probe knows of.
func badServer(t *testing.T, answer func(request []byte, n int) []byte) string {
	t.Helper()
	conn := listen(t, "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, wire.MaxPacket)
		for n := 0; ; n++ {
			k, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if a := answer(buf[:k], n); a != nil {
				_, _ = conn.WriteTo(a, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().(*net.UDPAddr).String()
}

func TestProbeFindsFaults(t *testing.T) {
	key, d := wire.NewSecret([]byte(testSecret)), wire.NewDigester()
	signed := func(code byte, request, attrs []byte) []byte {
		a := append([]byte{code, request[1], 0, 0}, make([]byte, 16)...)
		a = setLength(append(a, attrs...), wire.HeaderSize+len(attrs))
		copy(a[4:], d.ResponseAuth(key, a, request[4:wire.HeaderSize]))
		return a
	}
	proxy := "\x21\x0bprobe-one\x21\x0bprobe-two"
	for _, c := range []struct {
		name, check string
		answer      func(request []byte, n int) []byte
	}{
		{"no Message-Authenticator", "message_authenticator", func(r []byte, _ int) []byte { return signed(2, r, []byte(proxy)) }},
		{"a wrong one", "message_authenticator_value", func(r []byte, _ int) []byte { return signed(2, r, append([]byte("\x50\x12"), make([]byte, 16)...)) }},
		{"not the first", "message_authenticator_first", func(r []byte, _ int) []byte {
			return signed(2, r, append([]byte("\x12\x03m\x50\x12"), make([]byte, 16)...))
		}},
		{"Proxy-State in the wrong order", "proxy_state", func(r []byte, _ int) []byte { return signed(2, r, []byte("\x21\x0bprobe-two\x21\x0bprobe-one")) }},
		{"Proxy-State lost", "proxy_state", func(r []byte, _ int) []byte { return signed(2, r, nil) }},
		{"resends are judged again", "resend", func(r []byte, n int) []byte { return signed(2, r, []byte{27, 6, 0, 0, 0, byte(n)}) }},
		{"resends are not answered", "resend", func(r []byte, n int) []byte {
			if n > 1 {
				return nil
			}
			return signed(2, r, nil)
		}},
		{"padding", "length", func(r []byte, _ int) []byte { return append(signed(2, r, nil), 0) }},
		{"another secret", "response_authenticator", func(r []byte, _ int) []byte { return append([]byte{2, r[1], 0, 20}, make([]byte, 16)...) }},
		{"malformed attributes", "attributes", func(r []byte, _ int) []byte { return signed(2, r, []byte{18, 99}) }},
		{"a challenge without State", "challenge_state", func(r []byte, _ int) []byte { return signed(11, r, nil) }},
		{"a challenge without message", "challenge_message", func(r []byte, _ int) []byte { return signed(11, r, nil) }},
		{"a challenge with privileges", "challenge_privileges", func(r []byte, _ int) []byte { return signed(11, r, []byte{25, 3, 'a'}) }},
		{"an answer of another kind", "code", func(r []byte, _ int) []byte { return signed(5, r, nil) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := badServer(t, c.answer)
			report, err := Probe(t.Context(), ProbeOptions{
				Address: address, Secret: []byte(testSecret), User: "alice", Mode: Challenge, Password: given(password), Timeout: 60 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				if f.Check == c.check && f.Level == Bad {
					return
				}
			}
			t.Errorf("not found: %+v", report)
		})
	}
}
