package main

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layeh.com/radius/rfc2865"

	"sallyport/internal/login"
	"sallyport/otp"
	"sallyport/radiusd/exchange/exchangetest"
)

// rules puts rules before those that the rig has.
func (r *rig) rules(lines string) {
	r.Helper()
	text := string(mustRead(r, r.config))
	r.write("sallyport.yaml", strings.Replace(text, "rules:\n", "rules:\n"+lines, 1))
}

// except enters an exception for somebody that is approved, and returns its id.
func (r *rig) except(scope string) string {
	r.Helper()
	today := time.Now().UTC()
	day := func(years, days int) string { return today.AddDate(years, 0, days).Format(time.DateOnly) }
	r.write("entry.yaml", fmt.Sprintf(`
title: an old device
scope: %s
rationale: it has no keyboard
risk: {threat: password guessed, likelihood: 2, impact: 3, assessor: IG lead, date: %s}
requester: ward 7
approval: {by: B. Chief, role: SIRO, body: board, reference: minute 7, date: %[2]s}
plan: {text: replace it, owner: estates, target: %[3]s}
from: %[2]s
until: %[3]s
next_review: %[4]s
`, scope, day(0, 0), day(2, 0), day(0, 200)))
	out := r.ok("exception", "add", filepath.Join(r.dir, "entry.yaml"))
	id := strings.TrimSuffix(strings.Fields(out)[1], ",")
	if !strings.Contains(out, "live") {
		r.Fatalf("exception add: %s", out)
	}
	return id
}

// A device that knows a password and nothing else is let in by a live entry of the register, at once and by nobody else's; the login
// is one of its own in the records, and every entry that no longer holds lets nobody in (P1).
func TestExceptionOverRADIUS(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	pump := r.enrol("pump", byCount())
	r.ok("token", "revoke", pump.token)
	r.ok("user", "set", "pump", "--group", "devices")
	alice := r.enrol("alice", byCount())
	r.rules("  - {name: old devices, groups: [devices], to: [vpn, firewall], may: [login], need: [know], exception: EX-1}\n")
	r.start()
	try := func(from, name, password string) string {
		return r.radclient(from, quoted("User-Name", name), quoted("User-Password", password))
	}
	word := func(answer string) string { return strings.Fields(answer)[0] }
	if got := try(fromAppend, "pump", pump.password); word(got) != "Access-Reject" {
		t.Errorf("without an entry: %s", got)
	}
	if rec := r.last("--event", "login"); rec.Reason != string(login.ReasonException) || rec.Exception != "EX-1" {
		t.Errorf("record %s", rec.AppendJSON(nil))
	}
	id := r.except("{people: [pump], systems: [vpn, firewall], factors: [know]}")
	for from, system := range map[string]string{fromAppend: "firewall", fromChallenge: "vpn"} {
		if got := try(from, "pump", pump.password); word(got) != "Access-Accept" {
			t.Errorf("%s: %s", system, got)
		}
		if rec := r.last("--event", "login"); rec.Exception != id || rec.System != system || rec.Result != "accept" {
			t.Errorf("record %s", rec.AppendJSON(nil))
		}
		r.check()
	}
	if got := try(fromAppend, "pump", "guess"); word(got) != "Access-Reject" {
		t.Errorf("a wrong password: %s", got)
	}
	if got := try(fromChallenge, "alice", alice.password); word(got) != "Access-Challenge" {
		t.Errorf("somebody whom it does not cover: %s", got)
	}
	if text := r.ok("exception", "list"); !strings.Contains(text, "2, last") {
		t.Errorf("the uses are not counted:\n%s", text)
	}
	if text := r.ok("explain", "--person", "pump", "--system", "vpn", "--factors", "know"); !containsAll(text, "accepted", id+" is in force") {
		t.Errorf("explain: %s", text)
	}
	r.ok("exception", "end", id, "--reason", "replaced")
	if got := try(fromAppend, "pump", pump.password); word(got) != "Access-Reject" {
		t.Errorf("after its end: %s", got)
	}
	// What was is still there to be shown.
	if text := r.ok("exception", "show", id); !containsAll(text, "version 2", "replaced", "ended") {
		t.Errorf("exception show: %s", text)
	}
	r.stop()
	r.check()
}

// The end of a grant ends what it opened, at the NAS too: by the operator's word, and by itself.
func TestGrantEndsSessions(t *testing.T) {
	t.Parallel()
	nas := exchangetest.StartFreeRADIUS(t, exchangetest.Config{Secret: radiusSecret})
	_, port, err := net.SplitHostPort(nas.CoA)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, rigOptions{radius: `  accounting: ["127.0.0.1:0"]`, vpn: ", disconnect: " + port})
	jones := r.enrol("ext-jones", byCount())
	r.ok("user", "set", "ext-jones", "--group", "jobs", "--kind", "supplier", "--until", "2099-01-01")
	r.rules("  - {name: by grant, groups: [jobs], to: [tag:vpn], may: [login], grant: required}\n")
	r.start()
	enter := func() string {
		return strings.Fields(r.radclient(fromCode, quoted("User-Name", "ext-jones"), quoted("User-Password", jones.code())))[0]
	}
	if got := enter(); got != "Access-Reject" {
		t.Errorf("without a grant: %s", got)
	}
	if rec := r.last("--event", "login"); rec.Reason != string(login.ReasonGrant) {
		t.Errorf("record %s", rec.AppendJSON(nil))
	}
	r.ok("grant", "add", "ext-jones", "--to", "tag:vpn", "--for", "4h", "--ticket", "CHG-1", "--sponsor", "alice")
	if got := enter(); got != "Access-Accept" {
		t.Fatalf("with a grant: %s", got)
	}
	if rec := r.last("--event", "login"); detail(rec, "grant") != "GR-1" {
		t.Errorf("record %s", rec.AppendJSON(nil))
	}
	r.account("Start", "ext-jones", "s1")
	if out := r.ok("grant", "end", "GR-1", "--reason", "done"); !strings.Contains(out, "ended GR-1") {
		t.Errorf("grant end: %s", out)
	}
	if got := fmt.Sprint(r.kills()); !strings.Contains(got, "ext-jones grant_over: ack") {
		t.Errorf("at its end: %s", got)
	}
	if got := enter(); got != "Access-Reject" {
		t.Errorf("after its end: %s", got)
	}
	r.account("Stop", "ext-jones", "s1")

	soon := time.Now().Add(3 * time.Second).UTC()
	r.ok("grant", "add", "ext-jones", "--to", "vpn", "--until", soon.Format(time.RFC3339), "--ticket", "CHG-2", "--sponsor", "alice")
	r.account("Start", "ext-jones", "s2")
	until(t, "the end of the grant ends the session", func() bool { return strings.Count(fmt.Sprint(r.kills()), "grant_over") == 2 })
	r.stop()
	r.check()
}

// Break-glass codes out of an envelope, with the password: two kinds, once each, over RADIUS and SSH together (P1, P2).
func TestRecoveryCodesAtTheDoors(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("night-desk", byCount())
	r.ok("user", "set", "night-desk", "--kind", "break-glass")
	r.ok("token", "revoke", p.token)
	codes := recoveryCodes(r, "night-desk")
	r.start()
	nas := newNAS(t, fromChallenge, r.daemon.radius)
	accept := func(code string) login.Reason {
		state := nas.ask(t, "night-desk", p.password, nil)
		nas.ask(t, "night-desk", code, rfc2865.State_Get(state))
		rec := r.last("--event", "login")
		return login.Reason(rec.Reason)
	}
	if why := accept(strings.ToLower(codes[0])); why != login.ReasonOK {
		t.Errorf("a recovery code: %s", why)
	}
	if rec := r.last("--event", "login"); rec.Factors[1].Method != login.MethodRecovery || rec.PersonKind != "break-glass" || detail(rec, "recovery_codes_left") != "9" {
		t.Errorf("record %s", rec.AppendJSON(nil))
	}
	if why := accept(codes[0]); why != login.ReasonCodeReused {
		t.Errorf("the same once more: %s", why)
	}
	r.kill()
	r.check()
	r.start()
	nas = newNAS(t, fromChallenge, r.daemon.radius)
	if why := accept(codes[0]); why != login.ReasonCodeReused {
		t.Errorf("after a crash: %s", why)
	}
	if why := accept(codes[7]); why != login.ReasonOK {
		t.Errorf("another: %s", why)
	}
	r.stop()
	r.check()
	if text := r.said.String(); strings.Contains(text, codes[0]) {
		t.Error("a recovery code is in a log")
	}
}

// recoveryCodes makes a set, without its being noted as something said.
func recoveryCodes(r *rig, name string) []string {
	r.Helper()
	cmd := exec.Command(program(r), "-c", r.config, "token", "recovery", name)
	out, err := cmd.Output()
	if err != nil {
		r.Fatalf("token recovery: %v", err)
	}
	var codes []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 2 && len(f[1]) == 19 {
			codes = append(codes, f[1])
		}
	}
	if len(codes) != otp.RecoveryCodes {
		r.Fatalf("%d codes in:\n%s", len(codes), out)
	}
	return codes
}
