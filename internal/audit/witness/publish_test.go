package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
)

// gateway is a real audit log with a publisher.
type gateway struct {
	testing.TB
	clock     *clock
	dir       string
	keys      logKeys
	log       *audit.Log
	publisher *Publisher

	mu        sync.Mutex
	published []string
	conflicts []string
	said      bytes.Buffer
}

func newGateway(t testing.TB, c *clock, keys logKeys) *gateway {
	t.Helper()
	g := &gateway{TB: t, clock: c, dir: t.TempDir(), keys: keys}
	g.open()
	t.Cleanup(func() { g.log.Close() })
	return g
}

func (g *gateway) open() {
	g.Helper()
	var err error
	g.log, err = audit.Open(audit.Options{
		Dir: filepath.Join(g.dir, "journal"), CheckpointFile: filepath.Join(g.dir, "checkpoint"), Node: "gw1",
		Signer: g.keys.signer, Verifier: g.keys.verifier, Now: g.clock.Now,
	})
	if err != nil {
		g.Fatal(err)
	}
}

func (g *gateway) records(n int) {
	g.Helper()
	for range n {
		if _, err := g.log.Append(&audit.Record{Event: "login", Result: audit.Reject, Reason: "wrong_code", Login: "mallory"}, nil); err != nil {
			g.Fatal(err)
		}
	}
}

// syncWriter is a buffer for a logger.
type syncWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w syncWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (g *gateway) publish(all ...Witness) *Publisher {
	g.Helper()
	p, err := NewPublisher(PublisherOptions{
		Source: g.log, Verifier: g.keys.verifier, Witnesses: all, Every: 10 * time.Second, Now: g.clock.Now,
		Log: slog.New(slog.NewTextHandler(syncWriter{&g.mu, &g.said}, nil)),
		Published: func(note string) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.published = append(g.published, note)
		},
		Conflict: func(_ context.Context, witness string, c *Conflict) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.conflicts = append(g.conflicts, fmt.Sprint(witness, " ", c.Signed, " ", c.Ours, " ", c.Forked))
			return nil
		},
	})
	if err != nil {
		g.Fatal(err)
	}
	g.publisher = p
	return p
}

func (w *world) witness(name string) Witness {
	return Witness{Name: name, Client: &Client{URL: w.http.URL + "/", Verifier: w.signer.Verifier(), HTTP: w.http.Client()}}
}

func (g *gateway) last() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.published) == 0 {
		return ""
	}
	return g.published[len(g.published)-1]
}

// wantSigned fails unless the newest published checkpoint, which is also the stored one, has size records and bears n signatures.
func (g *gateway) wantSigned(size uint64, worlds ...*world) {
	g.Helper()
	stored, err := g.log.Cosigned()
	if err != nil || stored != g.last() {
		g.Errorf("stored %q, published %q, %v", stored, g.last(), err)
	}
	var keys []note.Verifier
	for _, w := range worlds {
		keys = append(keys, w.signer.Verifier())
	}
	c, err := audit.OpenCheckpoint(stored, g.keys.verifier, keys...)
	if err != nil || c.Size != size || len(c.Cosigned) != len(worlds) || c.Strangers != 0 {
		g.Errorf("%+v, %v, want %d records and %d signatures", c, err, size, len(worlds))
	}
}

// TestPublish: each witness signs what is new, a proof verifies with all of them, and it goes on after a restart.
func TestPublish(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	b.signer = newTestSigner(t, "witness.test/w2", b.clock.Now)
	b.dir = t.TempDir()
	if err := Begin(b.dir, "gw1.test/sallyport", b.signer); err != nil {
		t.Fatal(err)
	}
	b.log.keys = a.log.keys
	b.start()
	g := newGateway(t, a.clock, a.log.keys)
	p := g.publish(a.witness("a"), b.witness("b"))
	p.round(t.Context(), false)
	if g.last() != "" {
		t.Errorf("of no records there is nothing to publish: %q", g.last())
	}
	g.records(5)
	if s := p.Standings(); s[0].Lag != 5 || s[0].Size != 0 {
		t.Errorf("%+v", s)
	}
	p.round(t.Context(), false)
	g.wantSigned(5, a, b)
	seen := len(g.published)
	p.round(t.Context(), false)
	if len(g.published) != seen {
		t.Error("published twice")
	}
	g.records(3)
	p.round(t.Context(), false)
	g.wantSigned(8, a, b)
	proof, err := g.log.Prove(6, g.last())
	if err != nil {
		t.Fatal(err)
	}
	shown, err := audit.VerifyProof(proof, g.keys.verifier, a.signer.Verifier(), b.signer.Verifier())
	if err != nil || len(shown.Checkpoint.Cosigned) != 2 || shown.Record.Login != "mallory" {
		t.Errorf("%+v, %v", shown, err)
	}
	if s := p.Standings(); s[0].Size != 8 || s[0].Lag != 0 || !s[0].At.Equal(a.clock.Now()) || s[0].Error != "" || s[0].Signed != 2 {
		t.Errorf("%+v", s)
	}

	// One is away: the other's signature is kept at once, and nobody is asked more often than need be.
	b.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	asked := countRequests(a)
	g.records(1)
	p.round(t.Context(), false)
	g.wantSigned(9, a)
	if s := p.Standings()[1]; s.Lag != 1 || s.Failures != 1 || !strings.Contains(s.Error, "502") || s.Conflict {
		t.Errorf("%+v", s)
	}
	p.round(t.Context(), false)
	if n := asked.Load(); n != 1 {
		t.Errorf("the other was asked %d times", n)
	}
	a.clock.add(10 * time.Second)
	p.round(t.Context(), false)
	if s := p.Standings()[1]; s.Failures != 2 || s.Behind != 10*time.Second {
		t.Errorf("%+v", s)
	}
	b.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.server.ServeHTTP(w, r) })
	p.round(t.Context(), false)
	if s := p.Standings()[1]; s.Failures != 2 {
		t.Errorf("asked before its time: %+v", s)
	}
	a.clock.add(20 * time.Second)
	p.round(t.Context(), false)
	g.wantSigned(9, a, b) // beside the signature that was there already
	if !strings.Contains(g.said.String(), "signs again") {
		t.Errorf("said %s", g.said.String())
	}

	// After a restart it knows where it was.
	if err := g.log.Close(); err != nil {
		t.Fatal(err)
	}
	g.open()
	p = g.publish(a.witness("a"), b.witness("b"))
	if s := p.Standings(); s[0].Size != 9 || s[1].Size != 9 || s[0].At.IsZero() {
		t.Errorf("%+v", s)
	}
	asked.Store(0)
	g.records(2)
	p.Finish(t.Context())
	g.wantSigned(11, a, b)
	if n := asked.Load(); n != 1 {
		t.Errorf("after the restart %d requests for one signature", n)
	}
}

func countRequests(w *world) *atomic.Int64 {
	var n atomic.Int64
	inner := w.http.Config.Handler
	w.http.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n.Add(1)
		inner.ServeHTTP(rw, r)
	})
	return &n
}

// TestLostAnswer: the witness signed, and the answer was lost, as when it is killed after its fsync. The next round gets the signature.
func TestLostAnswer(t *testing.T) {
	w := newWorld(t)
	g := newGateway(t, w.clock, w.log.keys)
	p := g.publish(w.witness("w"))
	inner := w.http.Config.Handler
	lose := true
	w.http.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if lose {
			inner.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(rw, r)
	})
	g.records(4)
	p.round(t.Context(), false)
	if s := p.Standings()[0]; s.Size != 0 || s.Failures != 1 || s.Conflict {
		t.Fatalf("%+v", s)
	}
	w.start() // killed and started again
	lose = false
	g.records(2)
	w.clock.add(time.Minute)
	p.round(t.Context(), false)
	g.wantSigned(6, w)
}

// TestWithoutWitnesses: checkpoints are published all the same, for whoever copies them elsewhere.
func TestWithoutWitnesses(t *testing.T) {
	w := newWorld(t)
	g := newGateway(t, w.clock, w.log.keys)
	p := g.publish()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	g.records(2)
	published := make(chan string, 1)
	p.o.Published = func(note string) { published <- note }
	go func() { done <- p.Run(ctx) }()
	note := <-published
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if c, err := audit.OpenCheckpoint(note, g.keys.verifier); err != nil || c.Size != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if stored, err := g.log.Cosigned(); stored != "" || err != nil {
		t.Errorf("stored %q, %v, and nobody has signed it", stored, err)
	}
}

// TestConflict holds P8: a witness that has seen more than the log has, or another log, is believed. It is said once,
// recorded once, and nothing is sent again.
func TestConflict(t *testing.T) {
	for _, c := range []struct {
		name        string
		seen, later int // records that the witness saw of the log that was, and that there are of the new one
		want        string
	}{
		{"cut back", 9, 4, "w 9 4 false"},
		{"another of the same size", 5, 5, "w 5 5 true"},
		{"another, and longer", 5, 9, "w 5 9 true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			was := newGateway(t, w.clock, w.log.keys)
			was.records(c.seen)
			was.publish(w.witness("w")).round(t.Context(), false)
			was.wantSigned(uint64(c.seen), w)

			g := newGateway(t, w.clock, w.log.keys) // the same key
			g.records(c.later)
			p := g.publish(w.witness("w"))
			asked := countRequests(w)
			p.round(t.Context(), false)
			if len(g.conflicts) != 1 || g.conflicts[0] != c.want {
				t.Errorf("recorded %q, want %q", g.conflicts, c.want)
			}
			if s := p.Standings()[0]; !s.Conflict || s.Error == "" || s.Size != 0 {
				t.Errorf("%+v", s)
			}
			if !strings.Contains(g.said.String(), "CONTRADICTS THE AUDIT LOG") {
				t.Errorf("said %s", g.said.String())
			}
			n := asked.Load()
			g.records(20)
			w.clock.add(24 * time.Hour)
			p.round(t.Context(), false)
			p.Finish(t.Context())
			if asked.Load() != n || len(g.conflicts) != 1 {
				t.Errorf("%d more requests, %q", asked.Load()-n, g.conflicts)
			}
			if stored, _ := g.log.Cosigned(); stored != "" {
				t.Errorf("stored %q", stored)
			}
		})
	}
}

// TestBehind: a witness that has signed a newer checkpoint of the same log is no conflict.
func TestBehind(t *testing.T) {
	w := newWorld(t)
	g := newGateway(t, w.clock, w.log.keys)
	g.records(4)
	older, err := g.log.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	g.records(2)
	p := g.publish(w.witness("w"))
	p.round(t.Context(), false)
	if _, err := p.each[0].Client.add(t.Context(), g.log, older, 0, g.log.Next); !errors.Is(err, errBehind) {
		t.Errorf("%v", err)
	}
}

// TestHostileWitness: whatever a witness answers, nothing is taken that it has not signed, and the log's own checkpoint
// and others' signatures are as they were.
func TestHostileWitness(t *testing.T) {
	good := newWorld(t)
	g := newGateway(t, good.clock, good.log.keys)
	g.records(3)
	other := newTestSigner(t, "witness.test/w1", good.clock.Now) // the name, and not the key
	var requests int
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		want    string
		atMost  int
		against bool // a conflict
	}{
		{"another key", func(w http.ResponseWriter, r *http.Request) {
			line, _ := cosign(other, bodyText(r))
			fmt.Fprint(w, line)
		}, "another key", 1, false},
		{"another text", func(w http.ResponseWriter, r *http.Request) {
			line, _ := cosign(good.signer, strings.Replace(bodyText(r), "\n3\n", "\n4\n", 1))
			fmt.Fprint(w, line)
		}, "the answer", 1, false},
		{"a log's signature in place of a cosignature", func(w http.ResponseWriter, r *http.Request) {
			line, _ := cosign(newLogKeys(t, "witness.test/w1").signer, bodyText(r))
			fmt.Fprint(w, line)
		}, "another key", 1, false},
		{"nothing", func(http.ResponseWriter, *http.Request) {}, "not lines of signatures", 1, false},
		{"a page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>\n") }, "the answer", 1, false},
		{"too much", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxAnswer+1)) }, "more than", 1, false},
		{"unknown log", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no\x1b[31m", 404) }, "does not know this log", 1, false},
		{"wrong key of the log", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, "another key of this log", 1, false},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		}, "307", 1, false},
		{"409 without a size", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(409) }, "409 with a body of", 1, false},
		{"409 with nonsense", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", sizeType)
			w.WriteHeader(409)
			fmt.Fprint(w, "03\n")
		}, "in place of a size", 1, false},
		{"409 round and round", func(w http.ResponseWriter, _ *http.Request) {
			requests++
			w.Header().Set("Content-Type", sizeType)
			w.WriteHeader(409)
			fmt.Fprintf(w, "%d\n", 1+requests%2)
		}, "again and again", maxTurns, false},
		{"409 with more than there is", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", sizeType)
			w.WriteHeader(409)
			fmt.Fprint(w, "9223372036854775807\n")
		}, "cut back", 1, true},
		{"422 for nothing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(422) }, "does not convince", 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n.Add(1)
				c.answer(w, r)
			}))
			defer srv.Close()
			client := srv.Client()
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			hostile := Witness{Name: "hostile", Client: &Client{URL: srv.URL, Verifier: good.signer.Verifier(), HTTP: client}}
			p := g.publish(hostile)
			p.round(t.Context(), false)
			s := p.Standings()[0]
			if !strings.Contains(s.Error, c.want) || s.Conflict != c.against || s.Size != 0 || int(n.Load()) > c.atMost {
				t.Errorf("%+v after %d requests", s, n.Load())
			}
			if stored, err := g.log.Cosigned(); stored != "" || err != nil {
				t.Errorf("stored %q, %v", stored, err)
			}
		})
	}
}

func bodyText(r *http.Request) string {
	var b bytes.Buffer
	b.ReadFrom(r.Body)
	_, msg, _ := strings.Cut(b.String(), "\n\n")
	return textOf(msg)
}

// TestStopping: a stop in the middle of a submission is no failure of the witness.
func TestStopping(t *testing.T) {
	w := newWorld(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	w.http.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	})
	g := newGateway(t, w.clock, w.log.keys)
	g.records(1)
	p := g.publish(w.witness("w"))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-arrived
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(release)
	if s := p.Standings()[0]; s.Error != "" || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		every    time.Duration
		failures int
		want     time.Duration
	}{{10 * time.Second, 1, 10 * time.Second}, {10 * time.Second, 3, 40 * time.Second}, {10 * time.Second, 1000, maxBackoff}, {time.Hour, 2, time.Hour}} {
		if got := backoff(c.every, c.failures); got != c.want {
			t.Errorf("%s after %d failures: %s, want %s", c.every, c.failures, got, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	skey, vkey, err := NewKey("witness.test/w1")
	if err != nil {
		t.Fatal(err)
	}
	other, otherPublic, _ := NewKey("witness.test/w1")
	log := newLogKeys(t, "gw1.test/sallyport")
	for what, bad := range map[string]string{
		"empty": "", "a log's": log.vkey, "cut": vkey[:len(vkey)-4], "longer": vkey + "AAAA", "another's hash": strings.Replace(vkey, vkey[16:24], otherPublic[16:24], 1),
		"upper case": strings.ToUpper(vkey), "renamed": "x" + vkey, "a blank": vkey + " ", "secret": skey,
	} {
		if v, err := NewVerifier(bad); err == nil {
			t.Errorf("%s: taken as %s", what, v)
		}
	}
	for what, bad := range map[string]string{"empty": "", "public": vkey, "cut": skey[:len(skey)-4], "another's seed": skey[:len(skey)-44] + other[len(other)-44:]} {
		if _, err := NewSigner(bad, nil); err == nil {
			t.Errorf("%s: taken as a secret key", what)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\nb", strings.Repeat("x", 256), "\xff"} {
		if _, _, err := NewKey(name); err == nil {
			t.Errorf("name %q", name)
		}
	}
	s := newTestSigner(t, "w", func() time.Time { return time.Unix(-5, 0) })
	if _, err := cosign(s, "log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"); err == nil {
		t.Error("a time before 1970")
	}
	if _, err := cosign(newTestSigner(t, "w", time.Now), "not a checkpoint\n"); err == nil {
		t.Error("a witness signs what is no checkpoint")
	}
}

func TestParseLogs(t *testing.T) {
	a, b := newLogKeys(t, "a.test/log"), newLogKeys(t, "b.test/log")
	again := newLogKeys(t, "a.test/log")
	logs, err := ParseLogs("# ours\n\n" + LogListHeader + "\nvkey " + a.vkey + "\nqpd 86400\ncontact x@y\n\nvkey " + b.vkey + "\norigin other origin\nvkey " + again.vkey + "\n")
	if err != nil || len(logs) != 2 || logs[0].Origin != "a.test/log" || len(logs[0].Keys) != 2 || logs[1].Origin != "other origin" {
		t.Errorf("%+v, %v", logs, err)
	}
	if logs, err := ParseLogs(LogListHeader + "\n"); err != nil || len(logs) != 0 {
		t.Errorf("%+v, %v", logs, err)
	}
	for what, c := range map[string]struct{ list, where string }{
		"no header":       {"", "first line"},
		"another version": {"logs/v1\n", "line 1"},
		"key before it":   {"vkey " + a.vkey + "\n", "line 1"},
		"no key first":    {LogListHeader + "\norigin x\n", "line 2"},
		"a bad key":       {LogListHeader + "\nvkey x\n", "line 2"},
		"twice":           {LogListHeader + "\nvkey " + a.vkey + "\nvkey " + a.vkey + "\n", "listed twice"},
		"two origins":     {LogListHeader + "\nvkey " + a.vkey + "\norigin x\norigin y\n", "line 4"},
		"a witness's key": {LogListHeader + "\nvkey " + newTestSigner(t, "w", time.Now).Verifier().String() + "\n", "line 2"},
		"an empty origin": {LogListHeader + "\nvkey " + a.vkey + "\norigin \n", "line 3"},
	} {
		if _, err := ParseLogs(c.list); err == nil || !strings.Contains(err.Error(), c.where) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
