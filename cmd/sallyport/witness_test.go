package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"layeh.com/radius"

	"sallyport/internal/audit/witness"
	"sallyport/internal/login"
)

// witnessRig is a witness as a process of its own, with a certificate.
type witnessRig struct {
	*rig
	dir, key  string // the key is a file
	cert      string
	certKey   string
	authority *authority
	listen    string
	process   *other
}

func newWitnessRig(t testing.TB, r *rig) *witnessRig {
	t.Helper()
	a := newAuthority(t)
	w := &witnessRig{rig: r, dir: filepath.Join(t.TempDir(), "w"), authority: a, listen: "127.0.0.1:0"}
	w.cert, w.certKey = a.issue("witness.test")
	r.ok("witness", "init", w.dir, "--name", "witness.test/w1")
	w.key = filepath.Join(w.dir, "witness.pub")
	public := filepath.Join(w.dir, "gw.pub")
	if err := os.WriteFile(public, []byte(r.ok("audit", "public-key")), 0o600); err != nil {
		t.Fatal(err)
	}
	r.ok("witness", "add-log", w.dir, public)
	w.start()
	return w
}

// start runs the witness, from the second time on at the same address.
func (w *witnessRig) start() {
	w.Helper()
	w.process = startOther(w, func(o *other) bool {
		for line := range strings.Lines(o.text()) {
			var l struct{ Msg, Listen string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "ready" {
				w.listen = l.Listen
				return true
			}
		}
		return false
	}, program(w), "witness", "serve", w.dir, "--listen", w.listen, "--log-format", "json", "--tls-cert", w.cert, "--tls-key", w.certKey)
}

// stop ends it as systemd does.
func (w *witnessRig) stop() {
	w.Helper()
	if err := w.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.Fatal(err)
	}
	<-w.process.ended
	if code := w.process.cmd.ProcessState.ExitCode(); code != 0 {
		w.Fatalf("the witness ended with %d\n%s", code, w.process.text())
	}
}

// get fetches a page, as an auditor does.
func (w *witnessRig) get(path string) string {
	w.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(mustRead(w, w.authority.file))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + w.listen + path)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return string(b)
}

// configureWitness adds the witness to the gateway's configuration.
func (w *witnessRig) configure() {
	w.Helper()
	key := strings.TrimSpace(string(mustRead(w, w.key)))
	config := string(mustRead(w, w.config))
	config += fmt.Sprintf("audit:\n  checkpoint_every: 1s\n  witnesses: [{name: auditor, url: \"https://%s\", key: %q, ca: %q}]\n", w.listen, key, w.authority.file)
	w.write("sallyport.yaml", config)
}

func (w *witnessRig) standing() witness.Standing {
	w.Helper()
	var s Status
	if err := json.Unmarshal([]byte(w.ok("status", "--json")), &s); err != nil {
		w.Fatal(err)
	}
	if len(s.Witnesses) != 1 {
		w.Fatalf("status shows %d witnesses", len(s.Witnesses))
	}
	return s.Witnesses[0]
}

// TestWitness is the whole way with real programs (P8): a gateway whose witness is elsewhere, killed and started again
// meanwhile; a proof of one login that others check; then somebody with all rights on the gateway puts an older state of all its files
// back, in which nothing of the login is. The gateway's own files cannot tell. The witness can.
func TestWitness(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := r.enrol("bob", byCount())
	w := newWitnessRig(t, r)
	w.configure()
	older := filepath.Join(t.TempDir(), "older")
	restore := func(from, to string) {
		t.Helper()
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	restore(r.data, older) // a backup of this morning

	r.start()
	n := newNAS(t, fromCode, r.daemon.radius)
	r.wantCode(n.ask(t, "bob", p.code(), nil), radius.CodeAccessAccept, login.ReasonOK)
	accepted := r.last("--event", "login").Seq
	until(t, "the witness has signed the login", func() bool { return w.standing().Size > accepted })

	// Killed without a warning, and started again: it goes on where it was.
	w.process.end()
	r.wantCode(n.ask(t, "bob", p.code(), nil), radius.CodeAccessAccept, login.ReasonOK)
	until(t, "the gateway notices", func() bool { return w.standing().Error != "" })
	if s := r.ok("status"); !containsAll(s, "witness auditor", "fails: ") {
		t.Errorf("status:\n%s", s)
	}
	if status, text := r.healthz(); status != http.StatusOK {
		t.Errorf("without its witness the gateway is not healthy: %s", text)
	}
	w.start()
	second := r.last("--event", "login").Seq
	until(t, "the witness has signed the second login", func() bool { s := w.standing(); return s.Size > second && s.Error == "" })
	metrics := r.metricsText()
	for _, want := range []string{`sallyport_witness_size_records{witness="auditor"}`, `sallyport_witness_lag_records{witness="auditor"}`, `sallyport_witness_conflict{witness="auditor"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}

	// A proof, for somebody who has nothing but it and two public keys.
	dir := t.TempDir()
	proof, public, export := filepath.Join(dir, "login.tlog-proof"), filepath.Join(dir, "gw.pub"), filepath.Join(dir, "export.jsonl")
	r.ok("audit", "proof", fmt.Sprint(accepted), "-o", proof)
	if err := os.WriteFile(public, []byte(r.ok("audit", "public-key")), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(args ...string) (string, string, int) {
		return runTool(t, "", []string{"SALLYPORT_CONFIG=/nonexistent"}, program(t), append([]string{"audit", "verify"}, args...)...)
	}
	if out, errs, status := verify(proof, "--key", public, "--witness-key", w.key); status != exitDone || !containsAll(out, `"person":"bob"`, "witnessed: ", "witness.test/w1") {
		t.Errorf("the proof: %d\n%s%s", status, out, errs)
	}
	other := filepath.Join(dir, "other")
	r.ok("witness", "init", other, "--name", "witness.test/w1")
	if _, errs, status := verify(proof, "--key", public, "--witness-key", filepath.Join(other, "witness.pub")); status != exitFailed || !strings.Contains(errs, "no checkpoint is signed by the witness") {
		t.Errorf("the proof with another witness's key: %d %s", status, errs)
	}
	text := string(mustRead(t, proof))
	for _, spoilt := range []string{strings.Replace(text, "index ", "index 1", 1), text[:len(text)-1], text + "\n"} {
		if err := os.WriteFile(proof+"x", []byte(spoilt), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, errs, status := verify(proof+"x", "--key", public); status != exitFailed {
			t.Errorf("a spoilt proof: %d %s", status, errs)
		}
	}

	// The stop is signed too: the last record is one that the witness knows.
	r.stop()
	size := r.check().Size
	page := "/checkpoint/" + witness.FileName(strings.Split(string(mustRead(t, public)), "+")[0])
	kept := filepath.Join(dir, "from-the-witness")
	if err := os.WriteFile(kept, []byte(w.get(page)), 0o600); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mustRead(t, kept)), fmt.Sprintf("\n%d\n", size)) {
		t.Errorf("the witness has not signed the stop's %d records:\n%s", size, mustRead(t, kept))
	}
	if out := r.ok("audit", "verify", "--witness-key", w.key, "--checkpoint", kept); !containsAll(out, fmt.Sprintf("verified: size %d", size), "witnessed: ") {
		t.Errorf("%s", out)
	}

	// Now the crime, thorough: every file is as it was this morning.
	if err := os.RemoveAll(r.data); err != nil {
		t.Fatal(err)
	}
	restore(older, r.data)
	if got := r.check().Size; got >= size {
		t.Fatalf("nothing was cut: %d records", got)
	}
	before := r.check().Size
	if errs := r.refusedIn("", "audit", "verify", "--witness-key", w.key, "--checkpoint", kept); !containsAll(errs, fmt.Sprintf("record %d: it is missing", before), "the log was cut") {
		t.Errorf("audit verify against the witness's checkpoint says %s", errs)
	}
	r.ok("audit", "export", export)
	if _, errs, status := verify(export, "--key", public, "--witness-key", w.key, "--checkpoint", kept); status != exitFailed || !containsAll(errs, "it is missing", "the log was cut") {
		t.Errorf("an export of the cut log: %d %s", status, errs)
	}
	if _, errs, status := verify(export, "--key", public, "--witness-key", w.key); status != exitFailed || !strings.Contains(errs, "no checkpoint is signed by the witness") {
		t.Errorf("an export of the cut log, by the witness's key alone: %d %s", status, errs)
	}

	// And the gateway itself, when it is started on it: loud, on record, and still deciding logins.
	d := r.start()
	d.await(t, "CONTRADICTS THE AUDIT LOG")
	until(t, "the conflict is on record", func() bool { return len(r.records("--event", "witness.conflict")) > 0 })
	rec := r.last("--event", "witness.conflict")
	if rec.Result != "error" || rec.Reason != "log_cut_back" || !bytes.Contains(rec.AppendJSON(nil), fmt.Appendf(nil, `"witness_size":"%d"`, size)) {
		t.Errorf("%s", rec.AppendJSON(nil))
	}
	if s := w.standing(); !s.Conflict {
		t.Errorf("%+v", s)
	}
	if s := r.ok("status"); !strings.Contains(s, "CONTRADICTS THE LOG") {
		t.Errorf("status:\n%s", s)
	}
	if status, text := r.healthz(); status != http.StatusOK {
		t.Errorf("healthz: %s", text)
	}
	if !strings.Contains(r.metricsText(), `sallyport_witness_conflict{witness="auditor"} 1`) {
		t.Error("the conflict is not in the metrics")
	}
	r.stop()
	if got := w.get(page); got != string(mustRead(t, kept)) {
		t.Errorf("the witness has signed the cut log:\n%s", got)
	}
	w.stop()
}

func (r *rig) metricsText() string {
	r.Helper()
	resp, err := http.Get("http://" + r.daemon.metrics + "/metrics")
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return string(b)
}

// TestWitnessReloads takes a log that is added while the witness runs.
func TestWitnessReloads(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	w := newWitnessRig(t, r)
	second := newRig(t, rigOptions{})
	public := filepath.Join(w.dir, "second.pub")
	if err := os.WriteFile(public, []byte(second.ok("audit", "public-key")), 0o600); err != nil {
		t.Fatal(err)
	}
	r.ok("witness", "add-log", w.dir, public)
	origin := strings.Split(string(mustRead(t, public)), "+")[0]
	if strings.Contains(w.get("/"), origin) {
		t.Error("taken before it was told")
	}
	if err := w.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the second log is known", func() bool { return strings.Contains(w.get("/"), "log: "+origin+"\nsize: 0\n") })
	// A list that is wrong leaves the one that runs.
	if err := os.WriteFile(filepath.Join(w.dir, "logs"), []byte("logs/v0\nvkey x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the wrong list is refused", func() bool { return strings.Contains(w.process.text(), "the old one stays") })
	if !strings.Contains(w.get("/"), origin) {
		t.Error("the old list did not stay")
	}
	// Two of them on one state would sign against each other.
	if _, errs, status := runTool(t, "", nil, program(t), "witness", "serve", w.dir, "--listen", "127.0.0.1:0"); status != exitFailed || !strings.Contains(errs, "hint:") {
		t.Errorf("a second witness on the same state: %d %s", status, errs)
	}
	w.stop()
}

// TestWitnessCrowded holds P7: whoever opens connections and asks nothing, or slowly, keeps out nobody but himself.
func TestWitnessCrowded(t *testing.T) {
	t.Parallel()
	w := newWitnessRig(t, newRig(t, rigOptions{}))
	for range witnessConns + 10 {
		c, err := net.Dial("tcp", w.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(mustRead(w, w.authority.file))
	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		DialContext: other.DialContext, TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}}
	resp, err := client.Get("https://" + w.listen + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 1 {
		t.Errorf("%s %s", resp.Proto, resp.Status)
	}
	w.stop()
}
