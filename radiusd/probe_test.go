package radiusd

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/radiusd/probe"
)

func given(s string) func() (string, error) { return func() (string, error) { return s, nil } }

// The probe finds nothing wrong with our own server, in each mode, and does what a person would.
func TestProbe(t *testing.T) {
	for _, mode := range []Mode{Challenge, Append, Code} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t, nil, everybody(mode))
			o := probe.Options{
				Address: r.addr.String(), Secret: []byte(testSecret), User: "alice", Mode: string(mode),
				Password: given(password), Code: given(r.code()), Timeout: 5 * time.Second,
			}
			o.Strict = true
			report, err := probe.Run(t.Context(), o)
			if err != nil || report.Outcome != "accept" || !report.Healthy() {
				t.Fatalf("%v %+v", err, report)
			}
			rounds := map[Mode]int{Challenge: 2, Append: 1, Code: 1}[mode]
			if report.Rounds != rounds || len(report.Took) != rounds {
				t.Errorf("%d rounds, %d times, want %d", report.Rounds, len(report.Took), rounds)
			}
			for _, f := range report.Findings {
				if f.Level != probe.Good {
					t.Errorf("%+v", f)
				}
			}
			report, err = probe.Run(t.Context(), o) // the code is used now
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
	report, err := probe.Run(t.Context(), probe.Options{Address: r.addr.String(), Secret: []byte(testSecret), User: "alice", Mode: probe.Challenge, Password: given(password)})
	if err != nil || report.Outcome != "challenge" || !report.Healthy() {
		t.Errorf("%v %+v", err, report)
	}
	if _, err := probe.Run(t.Context(), probe.Options{Address: r.addr.String(), Secret: []byte(testSecret), Mode: probe.Code}); err == nil {
		t.Error("no error without a code")
	}
	failing := func() (string, error) { return "", errors.New("no terminal") }
	if _, err := probe.Run(t.Context(), probe.Options{Address: r.addr.String(), Secret: []byte(testSecret), Mode: probe.Append, Password: failing}); err == nil || !strings.Contains(err.Error(), "no terminal") {
		t.Errorf("%v", err)
	}
}

// Silence is a finding, not an error: it is how a server answers a wrong secret.
func TestProbeSilence(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	o := probe.Options{Address: r.addr.String(), Secret: []byte("wrong"), User: "alice", Mode: probe.Code, Code: given("123456"), Timeout: 30 * time.Millisecond}
	report, err := probe.Run(t.Context(), o)
	if err != nil || report.Outcome != "no_answer" || report.Healthy() {
		t.Errorf("%v %+v", err, report)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.Timeout = time.Minute
	if _, err := probe.Run(ctx, o); err == nil {
		t.Error("a cancelled probe ended well")
	}
}

// It also proves codes by CHAP and MS-CHAPv2, in one round and in two, and finds what belongs to that at its place.
func TestProbeResponses(t *testing.T) {
	for _, method := range []string{probe.CHAP, probe.MSCHAPv2} {
		for mode, rounds := range map[Mode]int{Code: 1, Challenge: 2} {
			t.Run(method+" "+string(mode), func(t *testing.T) {
				r := newRig(t, nil, everybody(mode))
				if mode == Challenge {
					r.with = func(c *Config) { c.Evidence = true } // the rig's first factor knows responses
					r.configure(everybody(mode))
				}
				o := probe.Options{
					Address: r.addr.String(), Secret: []byte(testSecret), User: "alice", Mode: string(mode), Method: method,
					Password: given(password), Code: given(r.code()), Timeout: 5 * time.Second,
				}
				report, err := probe.Run(t.Context(), o)
				if err != nil || report.Outcome != "accept" || !report.Healthy() || report.Rounds != rounds {
					t.Fatalf("%v %+v", err, report)
				}
				if method == probe.MSCHAPv2 {
					wantFindings(t, report, "mschap_success", "mppe_keys")
				}
				report, err = probe.Run(t.Context(), o)
				if err != nil || report.Outcome != "reject" || !report.Healthy() {
					t.Errorf("%v %+v", err, report)
				}
				if method == probe.MSCHAPv2 {
					wantFindings(t, report, "mschap_error")
				}
			})
		}
	}
}

// wantFindings wants checks to have been made, with a good end.
func wantFindings(t *testing.T, report probe.Report, checks ...string) {
	t.Helper()
	for _, check := range checks {
		good := false
		for _, f := range report.Findings {
			good = good || f.Check == check && f.Level == probe.Good
		}
		if !good {
			t.Errorf("%s is not among the good findings: %+v", check, report.Findings)
		}
	}
}

// Over TLS, by both versions, all of it holds as well.
func TestProbeTLS(t *testing.T) {
	for over, protocols := range map[string][]string{"RADIUS/1.0": {"radius/1.0"}, "RADIUS/1.1": nil} {
		for method, mode := range map[string]Mode{probe.PAP: Challenge, probe.CHAP: Code, probe.MSCHAPv2: Code} {
			t.Run(over+" "+method, func(t *testing.T) {
				s := newSecured(t, nil, overTLS(mode))
				o := probe.Options{
					Address: s.tls, User: "alice", Mode: string(mode), Method: method, Strict: true,
					Password: given(password), Code: given(s.code()), Timeout: 5 * time.Second,
					TLS: &tls.Config{
						RootCAs: s.ca.pool(), ServerName: "radius.example.org", NextProtos: protocols,
						Certificates: []tls.Certificate{*s.ca.issue("nas.example.org", nil)},
					},
				}
				report, err := probe.Run(t.Context(), o)
				if err != nil || report.Outcome != "accept" || !report.Healthy() || !strings.HasSuffix(report.Over, over) {
					t.Fatalf("%v %+v", err, report)
				}
				wantFindings(t, report, "status_server", "proxy_state", "message_authenticator")
				if method == probe.MSCHAPv2 {
					wantFindings(t, report, "mschap_success", "mppe_keys")
				}
				if over == "RADIUS/1.0" {
					wantFindings(t, report, "wrong_signature")
				}
				o.TLS.Certificates = []tls.Certificate{*s.ca.issue("stranger.example.org", nil)}
				report, err = probe.Run(t.Context(), o)
				if err != nil || report.Outcome != "no_answer" || report.Healthy() {
					t.Errorf("a stranger: %v %+v", err, report)
				}
				o.TLS.RootCAs = newAuthority(t).pool()
				if _, err = probe.Run(t.Context(), o); err == nil {
					t.Error("a server whose certificate nobody signed was asked")
				}
			})
		}
	}
}

// A lenient client is told so by what is answered without a signature.
func TestProbeStrict(t *testing.T) {
	c := everybody(Code)
	c.RequireMessageAuthenticator = false
	r := newRig(t, nil, c)
	o := probe.Options{Address: r.addr.String(), Secret: []byte(testSecret), User: "alice", Mode: probe.Code, Code: given(r.code()), Timeout: 5 * time.Second, Strict: true}
	report, err := probe.Run(t.Context(), o)
	if err != nil || !report.Healthy() {
		t.Fatalf("%v %+v", err, report)
	}
	wantFindings(t, report, "wrong_signature")
	last := report.Findings[len(report.Findings)-1]
	if last.Check != "unsigned" || last.Level != probe.Note {
		t.Errorf("%+v", last)
	}
}
