package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/internal/admin"
	"sallyport/internal/login"
	"sallyport/radiusd/ledger"
	"sallyport/radiusd/probe"
)

// report is what client report says of one client.
func (r *rig) report(name string) SeenRow {
	r.Helper()
	var seen Seen
	if err := json.Unmarshal([]byte(r.ok("client", "report", name, "--json")), &seen); err != nil || len(seen.Clients) != 1 {
		r.Fatalf("client report %s: %v %+v", name, err, seen)
	}
	return seen.Clients[0]
}

func words(row SeenRow) string {
	var all []string
	for _, a := range row.Advice {
		all = append(all, a.Word)
	}
	return strings.Join(all, "; ")
}

const lenientClient = "    - {name: old, address: 127.0.0.7, secret_file: radius.secret, mode: code, require_message_authenticator: false, limit_proxy_state: false}\n"

// TestReportOverRestarts: what was seen of clients outlives a stop, a kill loses no more than what came since, and a file that
// is damaged stops nothing.
func TestReportOverRestarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{clients: lenientClient})
	p := r.enrol("bob", byCount())
	r.start()
	if got := words(r.report("firewall")); got != ledger.NeverSeen {
		t.Errorf("advice about a client that never asked: %q", got)
	}
	n := newNAS(t, fromCode, r.daemon.radius)
	request, err := n.request("bob", p.code(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // one question, asked three times
		if _, err := n.exchange(request, patience); err != nil {
			t.Fatal(err)
		}
	}
	n.ask(t, "bob", "00000000", nil)
	before := r.report("switch")
	if before.Requests != 2 || before.Accepts != 1 || before.Rejects != 1 || before.Resends != 2 || before.WithMessageAuthenticator != 4 ||
		before.LastSeen.IsZero() || before.Since.IsZero() || before.AnswerSlowestMS <= 0 || len(before.Days) != 1 {
		t.Errorf("%+v", before)
	}
	r.stop()
	if offline := r.report("switch"); offline.Requests != 2 || offline.Resends != 2 || !offline.Since.Equal(before.Since) {
		t.Errorf("with the gateway down: %+v", offline)
	}
	r.start()
	n = newNAS(t, fromCode, r.daemon.radius)
	n.ask(t, "bob", "00000000", nil)
	if after := r.report("switch"); after.Requests != 3 || after.Resends != 2 || after.Rejects != 2 || !after.Since.Equal(before.Since) {
		t.Errorf("after a restart: %+v", after)
	}
	r.kill()
	r.start()
	if killed := r.report("switch"); killed.Requests < 2 || killed.Requests > 3 || !killed.Since.Equal(before.Since) {
		t.Errorf("after a kill: %+v", killed)
	}
	r.kill()
	path := layout(r.data).clients
	if err := os.WriteFile(path, []byte(`{"version":1,"clients":{"swi`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.mu.Lock()
	said := strings.Contains(r.said.String(), "counted anew")
	r.mu.Unlock()
	if anew := r.report("switch"); anew.Requests != 0 || !said {
		t.Errorf("after damage, said: %v, %+v", said, anew)
	}
	r.stop()
	r.check()
}

// TestReportAdvice: the advice in the table and in the sentences, with clients as they come: signed for weeks, never signed,
// with another secret, and one that resends.
func TestReportAdvice(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{clients: lenientClient})
	long := time.Now().Add(-30 * 24 * time.Hour).UTC()
	kept, err := json.Marshal(map[string]any{"version": 1, "clients": map[string]any{"old": map[string]any{
		"since": long, "updated": long,
		"total": ledger.Counts{LastSeen: long, Requests: 5000, WithMessageAuthenticator: 5000, SignedRun: 5000, SignedSince: long},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(layout(r.data).clients, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if got := r.report("old"); words(got) != ledger.CanBeLocked+"; "+ledger.CanBeLimits && words(got) != ledger.CanBeLocked {
		t.Errorf("signed for weeks: %q", words(got))
	}
	// It sends one without, and cannot be locked any more.
	n := newNAS(t, "127.0.0.7", r.daemon.radius)
	signed, err := n.request("bob", "00000000", nil)
	if err != nil {
		t.Fatal(err)
	}
	bare := append(bytes.Clone(signed[:20]), signed[38:]...)
	bare[2], bare[3] = byte(len(bare)>>8), byte(len(bare))
	if _, err := n.exchange(bare, patience); err != nil {
		t.Fatal(err)
	}
	if got := r.report("old"); !strings.HasPrefix(words(got), ledger.NeedsUpdate) {
		t.Errorf("after one without: %q", words(got))
	}
	// The same where it is required: dropped.
	strict := newNAS(t, fromCode, r.daemon.radius)
	if _, err := strict.exchange(bare, 50*time.Millisecond); err == nil {
		t.Error("an unsigned request was answered")
	}
	until(t, "the drop", func() bool { return words(r.report("switch")) == ledger.NeedsUpdate })
	// Another secret.
	forger := newNAS(t, fromAppend, r.daemon.radius)
	forger.secret = []byte("another-secret-than-it-shares")
	forged, err := forger.request("bob", "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := forger.exchange(forged, 50*time.Millisecond); err == nil {
		t.Error("a forgery was answered")
	}
	until(t, "the drop", func() bool { return words(r.report("firewall")) == ledger.WrongSecret })
	// Resends.
	if vpn := newNAS(t, fromChallenge, r.daemon.radius); true {
		again, err := vpn.request("bob", "x", nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 11 {
			if _, err := vpn.exchange(again, patience); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := words(r.report("vpn")); got != ledger.Flaps {
		t.Errorf("resends: %q", got)
	}
	out := r.ok("client", "report")
	for _, want := range []string{"ADVICE", "old: needs firmware: ", "firewall: wrong secret: ", "vpn: flaps: ", "ma_bad 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table has no %q:\n%s", want, out)
		}
	}
	r.stop()
	r.check()
}

// pcapOf writes requests as tcpdump would have, on the way from somewhere to the gateway.
func pcapOf(t testing.TB, path, from string, requests ...[]byte) {
	t.Helper()
	var out bytes.Buffer
	w := pcapgo.NewWriter(&out)
	if err := w.WriteFileHeader(65536, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for _, request := range requests {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(from), DstIP: net.ParseIP("127.0.0.1")}
		udp := &layers.UDP{SrcPort: 40000, DstPort: 1812}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload(request)); err != nil {
			t.Fatal(err)
		}
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(buf.Bytes()), Length: len(buf.Bytes())}, buf.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// explained runs explain --packet, and makes sure that it changes nothing and tells no secret (P9).
func (r *rig) explained(args ...string) admin.Explained {
	r.Helper()
	before := r.records("--no-reads")
	seen := r.report("vpn")
	out := r.ok(append([]string{"explain", "--json", "--packet"}, args...)...)
	var e admin.Explained
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		r.Fatal(err)
	}
	if after := r.records("--no-reads"); len(after) != len(before) {
		r.Errorf("explain left a record")
	}
	if after := r.report("vpn"); fmt.Sprint(after.Requests, after.WithMessageAuthenticator, after.LastSeen, after.Drops) !=
		fmt.Sprint(seen.Requests, seen.WithMessageAuthenticator, seen.LastSeen, seen.Drops) {
		r.Errorf("explain was counted: %+v, then %+v", seen, after)
	}
	for _, p := range r.people {
		if strings.Contains(out, p.password) {
			r.Errorf("a password is told:\n%s", out)
		}
	}
	if strings.Contains(out, radiusSecret) {
		r.Errorf("the shared secret is told:\n%s", out)
	}
	return e
}

// TestExplainPacket: a captured login is explained while the gateway runs and while it does not, and can still be made
// afterwards.
func TestExplainPacket(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("bob", byCount())
	r.start()
	n := newNAS(t, fromChallenge, r.daemon.radius)
	request := func(user, typed string, state []byte) []byte {
		t.Helper()
		raw, err := n.request(user, typed, state)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	challenge := n.ask(t, "bob", p.password, nil)
	state, code := rfc2865.State_Get(challenge), p.code()
	second := request("bob", code, state)
	stranger := request("mallory", "x", nil)
	other := *n
	other.secret = []byte("another-secret-than-it-shares")
	forged, err := other.request("bob", p.password, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.dir, "logins.pcap")
	pcapOf(t, file, fromChallenge, request("bob", p.password, nil), second, stranger, forged)
	all := func(when string) {
		t.Helper()
		if e := r.explained(file); !e.Allowed || e.Person != "bob" || e.System != "vpn" || e.Rule != "network team" {
			t.Errorf("%s: %+v", when, e)
		}
		if e := r.explained(file, "--index", "2"); !e.Allowed {
			t.Errorf("%s, the second round: %+v", when, e)
		}
		if e := r.explained(file, "--index", "3"); e.Allowed || e.Reason != login.ReasonUnknownPerson {
			t.Errorf("%s, a stranger: %+v", when, e)
		}
		if e := r.explained(file, "--index", "4"); e.Allowed || e.Reason != "ma_bad" || !e.Silent {
			t.Errorf("%s, another secret: %+v", when, e)
		}
		if e := r.explained(file, "--index", "2", "--client", "switch"); e.Allowed || e.Reason != login.ReasonStateUnknown {
			t.Errorf("%s, another client's State: %+v", when, e)
		}
	}
	all("while it runs")
	r.stop()
	all("while it does not run")
	r.start()
	// Nothing was used up: the very packet still lets bob in, and is then explained as used.
	if p := parsePacket(t, mustExchange(t, newNAS(t, fromChallenge, r.daemon.radius), second), n.secret); p.Code != radius.CodeAccessAccept {
		t.Errorf("the explained login is answered with %v", p.Code)
	}
	if e := r.explained(file, "--index", "2"); e.Allowed || e.Reason != login.ReasonStateUsed {
		t.Errorf("a State that was used: %+v", e)
	}
	out := r.okIn(hex.EncodeToString(stranger), "explain", "--packet", "-", "--from", fromStranger)
	if !strings.Contains(out, "dropped without an answer: unknown_client") {
		t.Errorf("from nobody's address:\n%s", out)
	}
	r.stop()
	r.check()
}

func mustExchange(t testing.TB, n *nas, request []byte) []byte {
	t.Helper()
	answer, err := n.exchange(request, patience)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestExplainDirectoryDown: with a directory that cannot be asked, explain says so, as the gateway would decide (P4), whether
// that runs or not.
func TestExplainDirectoryDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.enrol("bob", byCount())
	config := string(mustRead(t, r.config))
	r.write("sallyport.yaml", strings.Replace(config, "login:\n", "login:\n  ldap: {url: [\"ldap://127.0.0.1:9\"], start_tls: true, base: \"dc=x\", timeout: 1s}\n", 1))
	r.ok("user", "set", "bob", "--first-factor", "ldap")
	ask := func(when string) {
		t.Helper()
		out := r.ok("explain", "--person", "bob", "--system", "vpn")
		if !containsAll(out, "directory", "cannot be asked", "refused: "+string(login.ReasonDirectoryDown)) {
			t.Errorf("%s:\n%s", when, out)
		}
	}
	ask("while it does not run")
	r.start()
	ask("while it runs")
	r.stop()
}

// TestProbeResponses: the probe logs in by CHAP and MS-CHAPv2 at the real gateway, and looks for what must get no answer.
func TestProbeResponses(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{clients: "    - {name: here, address: 127.0.0.0/24, secret_file: radius.secret, mode: code, class: remote, tags: [vpn]}\n"})
	r.write("sallyport.yaml", strings.Replace(string(mustRead(t, r.config)), "address: "+fromChallenge+",", "address: 127.0.0.99,", 1))
	p := r.enrol("bob", byCount())
	r.start()
	for _, method := range []string{probe.PAP, probe.CHAP, probe.MSCHAPv2} {
		out := r.okIn(p.code()+"\n", "client", "probe", r.daemon.radius, "--user", "bob", "--secret-file", filepath.Join(r.dir, "radius.secret"),
			"--mode", "code", "--method", method, "--strict", "--timeout", "30s", "--json")
		var report probe.Report
		if err := json.Unmarshal([]byte(out), &report); err != nil || report.Outcome != "accept" || !report.Healthy() {
			t.Errorf("%s: %v\n%s", method, err, out)
		}
		for _, check := range []string{"resend", "wrong_signature", "unsigned", "message_authenticator_first", "proxy_state"} {
			if !strings.Contains(out, `{"check":"`+check+`","level":"ok"}`) {
				t.Errorf("%s: %s is not ok:\n%s", method, check, out)
			}
		}
	}
	r.stop()
	r.check()
}

// TestProbeTLS: the probe over TLS, by RADIUS/1.1, with certificates as openssl makes them.
func TestProbeTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{clients: "    - {name: radsec, certificate: nas.example.org, mode: challenge, class: remote, tags: [vpn]}\n"})
	openssl := tool(t, "openssl", "openssl")
	inDir := func(args ...string) {
		t.Helper()
		cmd := exec.Command(openssl, args...)
		cmd.Dir = r.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	inDir("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "1", "-subj", "/CN=test CA")
	for _, name := range []string{"gw", "nas"} {
		inDir("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name+".key", "-out", name+".pem", "-days", "1",
			"-subj", "/CN="+name, "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:"+name+".example.org", "-addext", "basicConstraints=critical,CA:FALSE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // RadSec's address is not in the ready line that the rig reads
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	r.write("sallyport.yaml", strings.Replace(string(mustRead(t, r.config)), "  accounting: []\n",
		"  accounting: []\n  tls: {listen: [\""+address+"\"], cert: gw.pem, key: gw.key, client_ca: ca.pem}\n", 1))
	p := r.enrol("bob", byCount())
	r.start()
	args := []string{
		"client", "probe", address, "--user", "bob", "--tls", "--ca", filepath.Join(r.dir, "ca.pem"), "--server-name", "gw.example.org",
		"--cert", filepath.Join(r.dir, "nas.pem"), "--key", filepath.Join(r.dir, "nas.key"), "--timeout", "30s",
	}
	if out := r.okIn(p.password+"\n"+p.code()+"\n", args...); !containsAll(out, "RADIUS/1.1: accept after 2 rounds") {
		t.Errorf("client probe prints:\n%s", out)
	}
	if row := r.report("radsec"); row.Certificate != "nas.example.org" || row.Address != "" || row.Accepts != 1 || words(row) != "" {
		t.Errorf("%+v", row)
	}
	if out := r.ok("client", "list"); !strings.Contains(out, "certificate nas.example.org") || strings.Contains(out, "invalid") {
		t.Errorf("client list prints:\n%s", out)
	}
	if _, stderr, status := r.command("", append(args, "--mode", "append", "--method", "chap")...); status != exitUsage || !strings.Contains(stderr, "nobody could part") {
		t.Errorf("CHAP of both in one: %d %s", status, stderr)
	}
	r.stop()
	r.check()
}
