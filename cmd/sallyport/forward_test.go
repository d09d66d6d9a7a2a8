package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"layeh.com/radius"

	"sallyport/internal/admin"
	"sallyport/internal/alert"
	"sallyport/internal/audit"
)

// more appends to the rig's configuration.
func (r *rig) more(text string) {
	r.Helper()
	r.write("sallyport.yaml", string(mustRead(r, r.config))+text)
}

// receiver is a real rsyslogd that writes what it gets, as it is, to a file.
type receiver struct {
	testing.TB
	config, address, got string
	cmd                  *exec.Cmd
}

// newReceiver writes the configuration, which is that of docs/siem.md with other places.
func newReceiver(t testing.TB, ca *authority) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	dir := t.TempDir()
	r := &receiver{TB: t, address: l.Addr().String(), config: filepath.Join(dir, "rsyslog.conf"), got: filepath.Join(dir, "got")}
	_, port, _ := net.SplitHostPort(r.address)
	cert, key := ca.issue("localhost")
	_, text, _ := strings.Cut(string(mustRead(t, "../../docs/siem.md")), "### A receiver: rsyslog\n\n```\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("docs/siem.md has no receiver")
	}
	for old, to := range map[string]string{
		"/var/spool/rsyslog": dir, "/etc/ssl/sallyport/ca.pem": ca.file, "/etc/ssl/sallyport/siem.pem": cert, "/etc/ssl/sallyport/siem.key": key,
		"/var/log/sallyport.log": r.got, `port="6514"`: `address="127.0.0.1" port="` + port + `"`,
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the receiver of docs/siem.md has no %s", old)
		}
		text = strings.ReplaceAll(text, old, to)
	}
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	return r
}

func (r *receiver) start() {
	r.Helper()
	r.cmd = exec.Command(tool(r, "rsyslogd", "rsyslog, with rsyslog-gnutls"), "-n", "-i", "NONE", "-f", r.config)
	if err := r.cmd.Start(); err != nil {
		r.Fatal(err)
	}
}

func (r *receiver) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// seqs are the numbers of the records that came, whose bodies are read as records, and how many checkpoints did.
func (r *receiver) seqs() (have map[uint64]bool, checkpoints int) {
	b, err := os.ReadFile(r.got)
	if err != nil && !os.IsNotExist(err) {
		r.Fatal(err)
	}
	have = make(map[uint64]bool)
	for line := range strings.Lines(string(b)) {
		_, body, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "] {")
		if strings.HasPrefix(body, `"checkpoint"`) {
			checkpoints++
			continue
		}
		if rec, err := audit.Parse([]byte("{" + body)); err == nil {
			have[rec.Seq] = true
		}
	}
	return have, checkpoints
}

// hook is a webhook that checks signatures, and can be told to fail.
type hook struct {
	t      testing.TB
	secret []byte

	mu       sync.Mutex
	status   int
	messages []alert.Message
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		h.t.Error(err)
	}
	var at int64
	sent := r.Header.Get(alert.SignatureHeader)
	if _, err := fmt.Sscanf(sent, "t=%d,", &at); err != nil || sent != alert.Sign(h.secret, time.Unix(at, 0), body) {
		h.t.Errorf("signature %q", sent)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status != 0 {
		w.WriteHeader(h.status)
		return
	}
	var m alert.Message
	if err := json.Unmarshal(body, &m); err != nil {
		h.t.Errorf("%v in %s", err, body)
	}
	h.messages = append(h.messages, m)
}

// kinds are what it was told of.
func (h *hook) kinds() (list []alert.Kind) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.messages {
		for _, a := range m.Alerts {
			list = append(list, a.Kind)
		}
	}
	return list
}

// TestForward copies the records of a running gateway to a real rsyslogd over TLS. It is frozen, and logins go on; it is killed, which
// is an alert that a webhook and a mail server are told of; and when it is back it gets what it lacked.
func TestForward(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	logs := newReceiver(t, ca)
	logs.start()
	r := newRig(t, rigOptions{})
	h := &hook{t: t, secret: []byte("a-secret-of-the-webhook-9917")}
	server := httptest.NewUnstartedServer(h)
	cert, key := ca.issue("localhost")
	ours, oursKey := ca.issue("gw1.example.nhs.uk") // whom the receiver lets in
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	_, logPort, _ := net.SplitHostPort(logs.address)
	r.write("hook.secret", string(h.secret))
	r.more(fmt.Sprintf(`
audit:
  syslog:
    - {name: siem, address: "127.0.0.1:%s", tls: {ca: %q, cert: %q, key: %q}, from: start, down_after: 5s, checkpoint_every: 1s}
alerts:
  webhooks:
    - {name: pager, url: "https://127.0.0.1:%s/alerts", secret_file: hook.secret, ca: %q}
`, logPort, ca.file, ours, oursKey, port, ca.file))
	alice := r.enrol("alice", byCount())
	glass := r.enrol("glass1", byCount())
	r.ok("user", "set", "glass1", "--kind", "break-glass")
	d := r.start()
	nas := newNAS(t, fromCode, d.radius)
	all := func() bool {
		want := len(r.records())
		have, checkpoints := logs.seqs()
		return len(have) >= want && checkpoints > 0
	}
	until(t, "the receiver has everything", all)

	// Frozen: what waits, waits; whoever logs in doesn't.
	if err := logs.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if got := nas.ask(t, "alice", alice.code(), nil); got.Code != radius.CodeAccessAccept {
			t.Fatalf("while the receiver is frozen, a login is answered %v", got.Code)
		}
	}
	if err := logs.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until(t, "it has caught up", all)

	logs.kill()
	until(t, "the receiver is said to be down", func() bool { return len(r.records("--event", "forward.down")) == 1 })
	var s Status
	if out, _, _ := r.command("", "status", "--json"); json.Unmarshal([]byte(out), &s) != nil || len(s.Forward) != 1 || s.Forward[0].Connected || s.Forward[0].Lag == 0 {
		t.Errorf("status says %s", out)
	}
	if text := r.ok("status"); !containsAll(text, "syslog siem", "not connected", "records behind") {
		t.Errorf("status says %s", text)
	}
	if page := scrape(t, d.metrics); !containsAll(page, `sallyport_forward_connected{receiver="siem"} 0`, `sallyport_forward_lag_records{receiver="siem"}`, `sallyport_alerts_open{severity="warning"} `) {
		t.Errorf("the metrics lack something:\n%s", page)
	}
	until(t, "the webhook is told", func() bool { return slices.Contains(h.kinds(), alert.LogForwardDown) })
	if text := r.ok("alert", "list"); !containsAll(text, "log_forward_down", "siem", "warning", "open") {
		t.Errorf("alert list says %s", text)
	}
	logs.start()
	until(t, "the receiver has everything again", all)
	until(t, "the alert has closed by itself", func() bool {
		list := alerts(r, "--all", "--kind", "log_forward_down")
		return len(list) == 1 && list[0].State == alert.Closed && list[0].EndedBy == alert.Gateway
	})

	// Break-glass: told at once; the review is somebody else's.
	if got := nas.ask(t, "glass1", glass.code(), nil); got.Code != radius.CodeAccessAccept {
		t.Fatalf("break-glass is answered %v", got.Code)
	}
	until(t, "the webhook is told of break-glass", func() bool {
		return slices.Contains(h.kinds(), alert.BreakGlassUsed) && slices.Contains(h.kinds(), alert.BreakGlassReview)
	})
	review := alerts(r, "--kind", "break_glass_review")
	if len(review) != 1 || review[0].Person != "glass1" || review[0].DaysOpen != 0 {
		t.Fatalf("the review items are %+v", review)
	}
	if text := r.ok("alert", "ack", review[0].ID); !containsAll(text, "acknowledged", "glass1") {
		t.Errorf("alert ack says %s", text)
	}
	if _, _, status := r.command("", "alert", "close", review[0].ID); status != exitUsage {
		t.Errorf("closing without an outcome ends with %d", status)
	}
	// A reload changes who is told, and a start remembers everything.
	r.ok("reload")
	r.stop()
	r.start()
	if text := r.ok("alert", "close", review[0].ID, "--outcome", "the exercise of June; codes changed"); !containsAll(text, "closed", "the exercise of June") {
		t.Errorf("alert close says %s", text)
	}
	if rec := r.last("--event", "alert.close"); detail(rec, "alert") != review[0].ID || detail(rec, "about") != "glass1" || detail(rec, "outcome") == "" {
		t.Errorf("the record is %+v", rec)
	}
	until(t, "the test message is taken", func() bool { _, _, status := r.command("", "alert", "test"); return status == exitDone })
	told := len(h.kinds())
	r.stop()
	r.check()
	// Without a daemon the list is the same.
	if list := alerts(r, "--all", "--kind", "break_glass_review"); len(list) != 1 || list[0].State != alert.Closed {
		t.Errorf("without the daemon: %+v", list)
	}
	seen := make(map[string]int)
	h.mu.Lock()
	for _, m := range h.messages {
		for _, a := range m.Alerts {
			seen[a.ID]++
		}
	}
	h.mu.Unlock()
	for id, n := range seen {
		if n > 1 {
			t.Errorf("%s was told %d times of %d", id, n, told)
		}
	}
	if bytes.Contains(r.said.Bytes(), h.secret) {
		t.Error("the webhook's secret was printed")
	}
}

// TestWatch: what has no record of its own gets one: RADIUS packets of strangers and with a wrong secret, a few records however many
// they are; and entries of the register whose review is near, once over a restart.
func TestWatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.ok("user", "add", "bob", "--group", "wards")
	date := func(days int) string { return time.Now().UTC().AddDate(0, 0, days).Format(time.DateOnly) }
	r.write("pump.yaml", fmt.Sprintf(`
title: infusion pump
scope: {people: [bob], factors: [know]}
rationale: it has no keyboard
risk: {threat: password guessed, likelihood: 2, impact: 4, assessor: IG lead, date: %s}
mitigations: [{text: its own network, evidence: firewall change 12}]
requester: A. Matron
approval: {by: B. Chief, role: SIRO, body: board, reference: minute 7, date: %s}
plan: {text: replace it, owner: estates, target: %s}
from: %s
until: %s
next_review: %s
`, date(-12), date(-11), date(90), date(-10), date(100), date(20)))
	r.ok("exception", "add", filepath.Join(r.dir, "pump.yaml"))
	d := r.start()
	until(t, "the review that is near is on record", func() bool { return len(r.records("--event", "exception.due")) == 1 })
	rec := r.last("--event", "exception.due")
	if rec.Exception != "EX-1" || detail(rec, "what") != "review" || detail(rec, "when") != date(21)+"T00:00:00Z" {
		t.Errorf("the record is %+v", rec)
	}
	stranger, forger := newNAS(t, fromStranger, d.radius), newNAS(t, fromCode, d.radius)
	forger.secret = []byte("another-secret-than-the-gateway-has")
	const packets = 50
	for i := range packets {
		for _, nas := range []*nas{stranger, forger} {
			request, err := nas.request("bob", fmt.Sprint(i), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := nas.conn.Write(request); err != nil {
				t.Fatal(err)
			}
		}
	}
	sum := func(reason string) (n, records int) {
		for _, rec := range r.records("--event", "radius.refused") {
			if rec.Reason == reason {
				k, err := strconv.Atoi(detail(rec, "count"))
				if err != nil {
					t.Fatal(err)
				}
				n, records = n+k, records+1
			}
		}
		return n, records
	}
	until(t, "all that was refused is counted", func() bool {
		a, _ := sum("unknown_client")
		b, _ := sum("ma_bad")
		return a == packets && b == packets
	})
	if _, records := sum("unknown_client"); records > 3 {
		t.Errorf("a stranger has made %d records with %d packets", records, packets)
	}
	kinds := make(map[alert.Kind]string)
	for _, a := range alerts(r) {
		kinds[a.Kind] = a.System
	}
	if kinds[alert.BadAuthenticator] != "switch" || kinds[alert.ExceptionDue] != "EX-1" {
		t.Errorf("the alerts are %v", kinds)
	}
	if _, found := kinds[alert.UnknownClient]; !found {
		t.Errorf("no alert about the stranger: %v", kinds)
	}
	r.stop()
	r.start()
	r.stop()
	if n := len(r.records("--event", "exception.due")); n != 1 {
		t.Errorf("the entry was told of %d times", n)
	}
	r.check()
}

func alerts(r *rig, args ...string) (list []admin.AlertInfo) {
	r.Helper()
	for line := range strings.Lines(r.ok(append([]string{"alert", "list", "--json"}, args...)...)) {
		var a admin.AlertInfo
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			r.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}

// scrape reads /metrics.
func scrape(t testing.TB, address string) string {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}
