package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport/internal/audit"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logKeys are a log's.
type logKeys struct {
	signer   note.Signer
	verifier note.Verifier
	vkey     string
}

func newLogKeys(t testing.TB, origin string) logKeys {
	t.Helper()
	skey, vkey, err := audit.NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	s, err1 := note.NewSigner(skey)
	v, err2 := note.NewVerifier(vkey)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return logKeys{s, v, vkey}
}

func newTestSigner(t testing.TB, name string, now func() time.Time) *Signer {
	t.Helper()
	skey, vkey, err := NewKey(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(skey, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Verifier().String(); got != vkey {
		t.Fatalf("public key %s, want %s", got, vkey)
	}
	return s
}

// memory is a log of hashes in memory, to write histories with.
type memory struct {
	keys   logKeys
	hashes []tlog.Hash
	n      int64
}

func (m *memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var all []tlog.Hash
	for _, at := range indexes {
		all = append(all, m.hashes[at])
	}
	return all, nil
}

func (m *memory) grow(t testing.TB, leaves ...string) *memory {
	t.Helper()
	for _, leaf := range leaves {
		more, err := tlog.StoredHashes(m.n, []byte(leaf), m)
		if err != nil {
			t.Fatal(err)
		}
		m.hashes = append(m.hashes, more...)
		m.n++
	}
	return m
}

func (m *memory) root(t testing.TB, n int64) tlog.Hash {
	t.Helper()
	h, err := tlog.TreeHash(n, m)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (m *memory) checkpoint(t testing.TB, n int64, signers ...note.Signer) string {
	t.Helper()
	if signers == nil {
		signers = []note.Signer{m.keys.signer}
	}
	msg, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", m.keys.signer.Name(), n, m.root(t, n))}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(msg)
}

func (m *memory) proof(t testing.TB, old, n int64) tlog.TreeProof {
	t.Helper()
	if old == 0 || old == n {
		return nil
	}
	p, err := tlog.ProveTree(n, old, m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (m *memory) ask(t testing.TB, old, n int64) string {
	t.Helper()
	return request{uint64(old), m.proof(t, old, n), m.checkpoint(t, n)}.String()
}

func leaves(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// world is a witness with one log.
type world struct {
	testing.TB
	clock  *clock
	signer *Signer
	dir    string
	log    *memory
	server *Server
	http   *httptest.Server
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, clock: newClock(), dir: t.TempDir()}
	w.signer = newTestSigner(t, "witness.test/w1", w.clock.Now)
	w.log = &memory{keys: newLogKeys(t, "gw1.test/sallyport")}
	if err := Begin(w.dir, "gw1.test/sallyport", w.signer); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.http = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.server.ServeHTTP(rw, r) }))
	t.Cleanup(w.http.Close)
	return w
}

func (w *world) options() Options {
	return Options{
		Signer: w.signer, State: w.dir, Now: w.clock.Now, Log: slog.New(slog.DiscardHandler),
		Logs: []Log{{Origin: "gw1.test/sallyport", Keys: []note.Verifier{w.log.keys.verifier}}},
	}
}

// start is also a restart.
func (w *world) start() {
	w.Helper()
	var err error
	if w.server, err = NewServer(w.options()); err != nil {
		w.Fatal(err)
	}
}

func (w *world) post(body string) (status int, kind, answer string) {
	w.Helper()
	resp, err := w.http.Client().Post(w.http.URL+addPath, "", strings.NewReader(body))
	if err != nil {
		w.Error(err)
		return 0, "", ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Error(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
}

// signs fails unless the witness signs, and returns the line.
func (w *world) signs(m *memory, old, n int64) string {
	w.Helper()
	status, _, line := w.post(m.ask(w, old, n))
	if status != http.StatusOK {
		w.Fatalf("%d to %d: %d %q", old, n, status, line)
	}
	msg := m.checkpoint(w, n) + line
	opened, err := note.Open([]byte(msg), note.VerifierList(w.signer.Verifier()))
	if err != nil {
		w.Fatal(err)
	}
	if at, err := SignedAt(opened.Sigs[0]); err != nil || !at.Equal(w.clock.Now()) {
		w.Fatalf("signed at %s, %v", at, err)
	}
	return line
}

// refuses fails unless the witness answers with a status; of a 409 also the size.
func (w *world) refuses(what, body string, status int, size string) {
	w.Helper()
	got, kind, answer := w.post(body)
	if got != status || strings.Contains(answer, "— ") {
		w.Errorf("%s: %d %q, want %d", what, got, answer, status)
	}
	if status == http.StatusConflict && (kind != sizeType || answer != size+"\n") {
		w.Errorf("%s: %s %q, want the size %s", what, kind, answer, size)
	}
}

// TestAddCheckpoint goes through c2sp.org/tlog-witness sentence by sentence.
func TestAddCheckpoint(t *testing.T) {
	w := newWorld(t)
	m := w.log.grow(t, leaves("a", 20)...)
	fork := (&memory{keys: m.keys}).grow(t, leaves("a", 4)...).grow(t, leaves("b", 16)...)
	stranger := (&memory{keys: newLogKeys(t, "gw2.test/sallyport")}).grow(t, leaves("a", 9)...)
	forger := &memory{keys: newLogKeys(t, "gw1.test/sallyport"), hashes: m.hashes, n: m.n}

	w.refuses("unknown log", stranger.ask(t, 0, 9), 404, "")
	w.refuses("another key of the same name", forger.ask(t, 0, 9), 403, "")
	w.refuses("unknown log with a wrong old size", stranger.ask(t, 3, 9), 404, "")
	w.refuses("a proof for old 0", request{0, m.proof(t, 3, 9), m.checkpoint(t, 9)}.String(), 422, "")
	w.refuses("old, and nothing signed yet", m.ask(t, 3, 9), 409, "0")
	w.signs(m, 0, 6)
	w.refuses("old 0 again", m.ask(t, 0, 6), 409, "6")
	w.refuses("a wrong old", m.ask(t, 5, 9), 409, "6")
	w.refuses("old above the size", request{7, nil, m.checkpoint(t, 6)}.String(), 400, "")
	w.refuses("old above the size, and right", request{6, nil, m.checkpoint(t, 5)}.String(), 400, "")
	w.refuses("a replay of an older one", m.ask(t, 0, 3), 409, "6")
	w.refuses("without a proof", request{6, nil, m.checkpoint(t, 9)}.String(), 422, "")
	w.refuses("another proof", request{6, m.proof(t, 5, 9), m.checkpoint(t, 9)}.String(), 422, "")
	w.refuses("a fork, with its own proof", fork.ask(t, 6, 9), 422, "")
	w.refuses("a fork of the same size", request{6, nil, fork.checkpoint(t, 6)}.String(), 409, "6")
	w.refuses("a proof of the same size", request{6, m.proof(t, 5, 6), m.checkpoint(t, 6)}.String(), 422, "")
	w.clock.add(time.Minute)
	w.signs(m, 6, 6) // the same once more, at another time
	w.signs(m, 6, 9)
	w.refuses("the signed one with a stranger's signature only", request{9, m.proof(t, 9, 12), forger.checkpoint(t, 12)}.String(), 403, "")
	// Signatures by others beside the log's are passed over.
	second := newTestSigner(t, "witness.test/w2", w.clock.Now)
	status, _, line := w.post(request{9, m.proof(t, 9, 12), m.checkpoint(t, 12, m.keys.signer, second)}.String())
	if status != 200 || strings.Count(line, "\n") != 1 {
		t.Errorf("%d %q", status, line)
	}
	for _, body := range []string{
		"", "old 12\n", "old 12\n\n", "\n\n" + m.checkpoint(t, 13), "old 012\n\n" + m.checkpoint(t, 12), "old +12\n\n" + m.checkpoint(t, 12), "old -1\n\n" + m.checkpoint(t, 12),
		"old 99999999999999999999\n\n" + m.checkpoint(t, 12), "OLD 12\n\n" + m.checkpoint(t, 12), "old 12 \n\n" + m.checkpoint(t, 12), "old 12\r\n\n" + m.checkpoint(t, 12),
		"old 12\nAAAA\n\n" + m.checkpoint(t, 12), "old 12\n" + strings.Repeat(tlog.Hash{}.String()+"\n", 64) + "\n" + m.checkpoint(t, 13),
		"old 12\n\n" + strings.TrimSuffix(m.checkpoint(t, 12), "\n"),
		// Base64 with stray bits in a hash of the proof.
		"old 12\n" + strings.Replace(m.proof(t, 12, 13)[0].String(), "=", "", 1) + "\n\n" + m.checkpoint(t, 13),
	} {
		w.refuses(fmt.Sprintf("%.60q", body), body, 400, "")
	}
	w.refuses("too long", "old 12\n\n"+strings.Repeat("x", MaxRequest), 413, "")
	if resp, err := w.http.Client().Get(w.http.URL + addPath); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	w.signs(m, 12, 20)
}

// TestExtension: further lines of a checkpoint are another log's business, and are signed with it.
func TestExtension(t *testing.T) {
	w := newWorld(t)
	m := w.log.grow(t, "a")
	text := fmt.Sprintf("%s\n1\n%s\nmore\nand more\n", m.keys.signer.Name(), m.root(t, 1))
	msg, err := note.Sign(&note.Note{Text: text}, m.keys.signer)
	if err != nil {
		t.Fatal(err)
	}
	status, _, line := w.post("old 0\n\n" + string(msg))
	if status != 200 {
		t.Fatalf("%d %s", status, line)
	}
	if _, err := note.Open(append(msg, line...), note.VerifierList(w.signer.Verifier())); err != nil {
		t.Error(err)
	}
	changed := strings.Replace(string(msg)+line, "and more", "and less", 1)
	if _, err := note.Open([]byte(changed), note.VerifierList(w.signer.Verifier())); err == nil {
		t.Error("an extension line was changed, and nobody noticed")
	}
}

// TestNeverBack: what was signed holds across restarts, and across a crash at each step of writing it.
func TestNeverBack(t *testing.T) {
	w := newWorld(t)
	m := w.log.grow(t, leaves("a", 20)...)
	fork := (&memory{keys: m.keys}).grow(t, leaves("b", 20)...)
	w.signs(m, 0, 6)
	path := filepath.Join(w.dir, FileName("gw1.test/sallyport"))
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A crash before the rename: the old state, and nobody has an answer.
	for _, torn := range []string{"", "gw1", strings.Repeat("\x00", 300)} {
		if err := os.WriteFile(path+".tmp", []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.refuses("a fork after a restart", fork.ask(t, 0, 6), 409, "6")
		w.refuses("a fork of the same size after a restart", request{6, nil, fork.checkpoint(t, 6)}.String(), 409, "6")
	}
	// A crash after it, before the answer: the client asks with the old size, learns the new one, and gets its signature.
	w.server.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, addPath, strings.NewReader(m.ask(t, 6, 9))))
	w.start()
	w.refuses("again after a crash", m.ask(t, 6, 9), 409, "9")
	w.refuses("a fork in its place", fork.ask(t, 6, 9), 409, "9")
	w.signs(m, 9, 9)
	w.start()
	w.signs(m, 9, 15)

	// No state, a changed one, or another witness's: it does not start, whatever it had signed.
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	starts := func(content []byte) error {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := NewServer(w.options())
		return err
	}
	end := strings.Index(string(whole), "\n\n")
	for i := range end {
		spoilt := slices.Clone(whole)
		spoilt[i] ^= 1
		if starts(spoilt) == nil {
			t.Errorf("byte %d of the state changed, and the witness starts", i)
		}
	}
	for i := range whole[:len(whole)-1] {
		if starts(whole[:i]) == nil {
			t.Errorf("the state ends at byte %d, and the witness starts", i)
		}
	}
	if err := starts(before); err != nil {
		t.Errorf("the limit: an older state of the whole witness is as good as it was then: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := NewServer(w.options()); !errors.Is(err, ErrNoState) {
		t.Errorf("without a state: %v", err)
	}
	// The state of another log of the same witness, which has its signature.
	if err := Begin(w.dir, "gw2.test/sallyport", w.signer); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(w.dir, FileName("gw2.test/sallyport")))
	if err != nil {
		t.Fatal(err)
	}
	if starts(second) == nil {
		t.Error("another log's state, and the witness starts")
	}
	other := newWorld(t)
	theirs, err := os.ReadFile(filepath.Join(other.dir, FileName("gw1.test/sallyport")))
	if err != nil {
		t.Fatal(err)
	}
	if starts(theirs) == nil {
		t.Error("another witness's state, and the witness starts")
	}
}

// TestStoreFails holds P4: what cannot be kept is not signed.
func TestStoreFails(t *testing.T) {
	w := newWorld(t)
	m := w.log.grow(t, leaves("a", 20)...)
	w.signs(m, 0, 6)
	// A folder where the temporary file has to go fails for root too.
	tmp := filepath.Join(w.dir, FileName("gw1.test/sallyport")+".tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	w.refuses("state that cannot be written", m.ask(t, 6, 9), 500, "")
	if _, _, said := w.post(m.ask(t, 6, 9)); strings.Contains(said, w.dir) {
		t.Errorf("a stranger learns %q", said)
	}
	if err := os.Remove(tmp); err != nil {
		t.Fatal(err)
	}
	w.signs(m, 6, 9)
}

// TestRace holds the rule of c2sp.org/tlog-witness that comparing and keeping are one: of many that ask at once for
// different continuations, one is signed at each size.
func TestRace(t *testing.T) {
	w := newWorld(t)
	base := w.log.grow(t, leaves("a", 5)...)
	w.signs(base, 0, 5)
	const forks = 16
	var asks, lines [forks]string
	for i := range forks {
		m := (&memory{keys: base.keys}).grow(t, leaves("a", 5)...).grow(t, leaves(fmt.Sprint("fork", i, "-"), 1+i%3)...)
		asks[i] = m.ask(t, 5, m.n)
	}
	var work sync.WaitGroup
	for i := range forks {
		work.Go(func() {
			if status, _, answer := w.post(asks[i]); status == http.StatusOK {
				lines[i] = answer
			} else if status != http.StatusConflict {
				t.Errorf("fork %d: %d %q", i, status, answer)
			}
		})
	}
	work.Wait()
	signed := 0
	for _, line := range lines {
		if line != "" {
			signed++
		}
	}
	if signed != 1 {
		t.Errorf("%d of %d forks were signed", signed, forks)
	}
}

// TestEvidence: a fork is kept in the witness's log with the signature that proves it; strangers cannot fill it.
func TestEvidence(t *testing.T) {
	w := newWorld(t)
	m := w.log.grow(t, leaves("a", 9)...)
	fork := (&memory{keys: m.keys}).grow(t, leaves("b", 9)...)
	stranger := (&memory{keys: newLogKeys(t, "gw2.test/sallyport")}).grow(t, "a")
	w.signs(m, 0, 6)
	var mu sync.Mutex
	var said bytes.Buffer
	w.server.o.Log = slog.New(slog.NewJSONHandler(syncWriter{&mu, &said}, nil))
	w.refuses("nonsense", "x", 400, "")
	w.refuses("unknown log", stranger.ask(t, 0, 1), 404, "")
	w.refuses("wrong key", strings.Replace(m.ask(t, 6, 9), "\n9\n", "\n8\n", 1), 403, "")
	if said.Len() > 0 {
		t.Errorf("strangers write into the log: %s", said.String())
	}
	for _, body := range []string{fork.ask(t, 6, 9), request{6, nil, fork.checkpoint(t, 6)}.String()} {
		said.Reset()
		if status, _, _ := w.post(body); status == http.StatusOK {
			t.Error("signed")
		}
		var line struct{ Level, Checkpoint string }
		if err := json.Unmarshal(said.Bytes(), &line); err != nil || line.Level != "WARN" {
			t.Fatalf("%v: %s", err, said.String())
		}
		if _, err := note.Open([]byte(line.Checkpoint), note.VerifierList(m.keys.verifier)); err != nil {
			t.Errorf("the evidence is worth nothing: %v", err)
		}
	}
}

// TestSetLogs: the list is replaced as a whole or not at all, and a log that comes back is where it was.
func TestSetLogs(t *testing.T) {
	w := newWorld(t)
	m := w.log.grow(t, leaves("a", 9)...)
	w.signs(m, 0, 6)
	known := w.options().Logs
	if err := w.server.SetLogs(append(known, Log{Origin: "gw2.test/sallyport"})); !errors.Is(err, ErrNoState) {
		t.Errorf("a log without a state: %v", err)
	}
	w.signs(m, 6, 7)
	if err := w.server.SetLogs(slices.Concat(known, known)); err == nil {
		t.Error("a log twice")
	}
	before := w.server.log("gw1.test/sallyport")
	if err := w.server.SetLogs(nil); err != nil {
		t.Fatal(err)
	}
	w.refuses("a log taken from the list", m.ask(t, 7, 8), 404, "")
	if err := Begin(w.dir, "gw1.test/sallyport", w.signer); err != nil { // changes nothing
		t.Fatal(err)
	}
	if err := w.server.SetLogs(known); err != nil {
		t.Fatal(err)
	}
	if w.server.log("gw1.test/sallyport") != before {
		t.Error("a log that comes back has another lock: a request under way could sign beside it")
	}
	w.refuses("from the beginning", m.ask(t, 0, 8), 409, "7")
	w.signs(m, 7, 8)
	// A second key, as a log has while it changes keys.
	next := newLogKeys(t, "gw1.test/sallyport")
	known[0].Keys = append(known[0].Keys, next.verifier)
	if err := w.server.SetLogs(known); err != nil {
		t.Fatal(err)
	}
	m.keys = next
	w.signs(m, 8, 9)
	if err := Begin(w.dir, "", w.signer); err == nil {
		t.Error("a log without an origin")
	}
}

// TestPages: what a witness has signed can be fetched from it, as evidence.
func TestPages(t *testing.T) {
	w := newWorld(t)
	m := w.log.grow(t, leaves("a", 9)...)
	line := w.signs(m, 0, 6)
	get := func(path string) (int, string) {
		resp, err := w.http.Client().Get(w.http.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	page := "/checkpoint/" + FileName("gw1.test/sallyport")
	if status, body := get("/"); status != 200 || !strings.Contains(body, "size: 6\n") || !strings.Contains(body, w.signer.Verifier().String()) || !strings.Contains(body, page) {
		t.Errorf("%d %s", status, body)
	}
	status, body := get(page)
	if want := m.checkpoint(t, 6) + line; status != 200 || body != want {
		t.Errorf("%d %q, want %q", status, body, want)
	}
	c, err := audit.OpenCheckpoint(body, m.keys.verifier, w.signer.Verifier())
	if err != nil || c.Size != 6 || len(c.Cosigned) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, path := range []string{"/checkpoint/", "/checkpoint/..%2fw", "/checkpoint/" + strings.Repeat("0", 64), "/state", "/logs"} {
		if status, body := get(path); status != 404 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// slow is a request whose body has begun to come, from an address; end lets it come no further.
func (w *world) slow(remote string) (end func() int) {
	w.Helper()
	body, rest := io.Pipe()
	r := httptest.NewRequest(http.MethodPost, addPath, body)
	r.RemoteAddr = remote
	rec := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.server.ServeHTTP(rec, r)
		body.Close()
	}()
	_, _ = rest.Write([]byte("old 0")) // returns when it is read, or refused
	return func() int {
		rest.Close()
		<-done
		return rec.Code
	}
}

// TestSlowBodies holds P7: whoever sends slowly keeps out nobody but himself; and what is being read is bounded.
func TestSlowBodies(t *testing.T) {
	w := newWorld(t)
	m := w.log.grow(t, leaves("a", 9)...)
	w.server.bodies = newCrowd(maxReading, maxReadingOf)
	var ends []func() int
	for n := range maxReading - 1 {
		ends = append(ends, w.slow(fmt.Sprintf("192.0.2.%d:%d", n/maxReadingOf, n)))
	}
	w.signs(m, 0, 6)
	if status := w.slow("192.0.2.0:1")(); status != http.StatusServiceUnavailable {
		t.Errorf("one more of the same address: %d", status)
	}
	ends = append(ends, w.slow("192.0.2.100:1"))
	w.refuses("with all being read that may be", m.ask(t, 6, 7), 503, "")
	for _, end := range ends {
		if status := end(); status != http.StatusBadRequest {
			t.Errorf("a slow body that ended: %d", status)
		}
	}
	w.signs(m, 6, 7)
	if w.server.bodies.all != 0 || len(w.server.bodies.of) != 0 {
		t.Errorf("%d bodies of %d addresses are left", w.server.bodies.all, len(w.server.bodies.of))
	}
	// Behind a proxy all come from one address.
	behind, err := NewServer(Options{State: t.TempDir(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	w.server.bodies = behind.bodies
	for n := range 2 * maxReadingOf {
		ends[n] = w.slow("127.0.0.1:1")
	}
	w.signs(m, 7, 8)
	for n := range 2 * maxReadingOf {
		ends[n]()
	}
	// Nor do readers of pages keep anybody out.
	for range maxPages {
		w.server.pages <- struct{}{}
	}
	w.signs(m, 8, 9)
	resp, err := w.http.Client().Get(w.http.URL)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one page too many: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// TestRefusedBody: who is refused is told at once, however slowly his body comes, and has no connection any more.
func TestRefusedBody(t *testing.T) {
	for want, refuse := range map[string]func(*Server){
		"503": func(s *Server) { s.bodies = newCrowd(0, 0) },
		"429": func(s *Server) { s.rates = newRates(1, s.o.Now); s.rates.allow("127.0.0.1:1") },
	} {
		w := newWorld(t)
		refuse(w.server)
		c, err := net.Dial("tcp", w.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: w\r\nContent-Length: 1000\r\n\r\nold 0", addPath); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 "+want) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("want %s: %q, %v", want, answer, err)
		}
	}
}

// TestListener holds P7: an address has so many connections, whatever others have, and one more for each that ends.
func TestListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listener(inner, 2)
	defer l.Close()
	come := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		return c
	}
	accept := func(want net.Conn) net.Conn {
		c, err := l.Accept()
		if err != nil || c.RemoteAddr().String() != want.LocalAddr().String() {
			t.Fatalf("%v, want %v, %v", c.RemoteAddr(), want.LocalAddr(), err)
		}
		return c
	}
	first := accept(come("127.0.0.1"))
	accept(come("127.0.0.1"))
	third := come("127.0.0.1")
	accept(come("127.0.0.2"))
	if _, err := third.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the third of an address: %v", err)
	}
	_ = first.Close()
	_ = first.Close() // which ends one
	accept(come("127.0.0.1"))
	come("127.0.0.1")
	accept(come("127.0.0.2"))
}

// TestBounds holds P7.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	m := w.log.grow(t, leaves("a", 9)...)
	for range maxAtOnce {
		w.server.places <- struct{}{}
	}
	w.refuses("with all places taken", m.ask(t, 0, 6), 503, "")
	for range maxAtOnce {
		<-w.server.places
	}
	w.server.rates = newRates(2, w.clock.Now)
	w.signs(m, 0, 6)
	w.signs(m, 6, 7)
	w.refuses("the third within a minute", m.ask(t, 7, 8), 429, "")
	w.clock.add(30 * time.Second)
	w.signs(m, 7, 8)
	w.refuses("too soon again", m.ask(t, 8, 9), 429, "")

	r := newRates(1, w.clock.Now)
	for i := range 2 * maxSources {
		r.allow(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	if len(r.buckets) > maxSources+1 {
		t.Errorf("%d addresses are remembered", len(r.buckets))
	}
	if r.allow("192.0.2.1:1") {
		t.Error("those who came too late have no shared allowance")
	}
	w.clock.add(time.Minute)
	if !r.allow("192.0.2.1:1") || r.allow("192.0.2.1:2") {
		t.Error("after a minute there is room again")
	}
	if !r.allow("[2001:db8:1:2::1]:1") || r.allow("[2001:db8:1:2:ffff::2]:1") || !r.allow("[2001:db8:1:3::1]:1") {
		t.Error("IPv6 goes by 64 bits")
	}
	if r := newRates(0, w.clock.Now); !r.allow("x") || len(r.buckets) != 0 {
		t.Error("no limit")
	}
}
