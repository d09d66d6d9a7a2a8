package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/config"
	"sallyport/internal/login"
	"sallyport/internal/recording"
)

// newRecordingRig is a gateway that records, with the key that init made.
func newRecordingRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t, rigOptions{})
	var made initialised
	dir := filepath.Join(t.TempDir(), "gw")
	if err := json.Unmarshal([]byte(r.ok("init", dir, "--node", "gw1", "--json")), &made); err != nil {
		t.Fatal(err)
	}
	r.dir, r.config, r.data = dir, made.Config, made.Data
	return r
}

// tape is a session that is recorded, without an SSH server: the records that a gateway makes, and the file.
type tape struct {
	testing.TB
	id, path string
	sum      recording.Summary

	w    *recording.Writer
	told chan struct{}
	note func(event string, details ...[2]string) error
}

// app runs something on the opened data folder.
func (r *rig) app(do func(a *app, cfg *config.Config)) {
	r.Helper()
	cfg, err := config.Load(r.config, r.env)
	if err != nil {
		r.Fatal(err)
	}
	a, err := openApp(context.Background(), cfg, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		r.Fatal(err)
	}
	do(a, cfg)
	if err := a.close(); err != nil {
		r.Fatal(err)
	}
}

// startTape begins a session.
func (r *rig) startTape(a *app, cfg *config.Config, person, system string) *tape {
	r.Helper()
	t := &tape{TB: r.TB, id: login.NewID(), told: make(chan struct{}, 10)}
	attempt := login.NewID()
	t.note = func(event string, details ...[2]string) error {
		rec := &audit.Record{
			Time: time.Now(), Event: event, Result: audit.Info, Person: person, Login: person, Protocol: "ssh", Source: "192.0.2.7", System: system,
			Account: "root", Rule: "network team", Attempt: attempt, Session: t.id,
		}
		if event == "login" {
			rec.Session, rec.Result = "", audit.Accept
			rec.Factors = []audit.Factor{{Kind: "know", Method: "password", Result: "ok"}, {Kind: "have", Method: "totp", Token: "T1", Result: "ok"}}
		}
		for _, d := range details {
			rec.Detail = append(rec.Detail, audit.Detail{Key: d[0], Value: d[1]})
		}
		_, err := a.gate.Commit(rec, login.Change{}, nil, nil)
		return err
	}
	t.must(t.note("login"))
	var err error
	t.w, err = recording.Create(recording.Options{
		Dir: cfg.Recording.Dir, Recipients: cfg.Recording.Recipients, Every: time.Nanosecond,
		Chunk: func(c recording.Chunk) error {
			err := t.note(recording.EventChunk, recording.ChunkDetails(c)...)
			t.told <- struct{}{}
			return err
		},
	}, recording.Header{Session: t.id, Person: person, Account: "root", Target: system, Width: 80, Height: 24, Started: time.Now()})
	t.must(err)
	<-t.told
	t.must(t.note(login.EventSessionStart, recording.StartDetails(t.w)...))
	t.path = filepath.Join(cfg.Recording.Dir, t.w.Path())
	return t
}

func (t *tape) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// say is output, which is a chunk of its own.
func (t *tape) say(text string) {
	t.Helper()
	t.must(t.w.Output([]byte(text)))
	<-t.told
}

func (t *tape) over() {
	t.Helper()
	var err error
	t.sum, err = t.w.Close("")
	t.must(err)
	t.must(t.note("transfer.upload", [2]string{"path", "/etc/motd"}))
	t.must(t.note(login.EventSessionEnd, append(recording.SummaryDetails(t.sum), [2]string{"bytes_out", "4711"})...))
}

// tape records a session.
func (r *rig) tape(person, system string, outputs ...string) (t *tape) {
	r.Helper()
	r.app(func(a *app, cfg *config.Config) {
		t = r.startTape(a, cfg, person, system)
		for _, text := range outputs {
			t.say(text)
		}
		t.over()
	})
	return t
}

// events counts what is on record of a session by event.
func (r *rig) events(session string) map[string]int {
	r.Helper()
	n := make(map[string]int)
	for _, rec := range r.records() {
		if rec.Session == session || session == "" {
			n[rec.Event]++
		}
	}
	return n
}

// A recorded session is listed, shown, played, searched and exported, and all but the list is on record.
func TestRecordings(t *testing.T) {
	t.Parallel()
	r := newRecordingRig(t)
	s := r.tape("alice", "srv1", "$ echo helk\b\x1b[Klo\r\n", "hello\r\n", "\x1b]0;evil\x07$ exit\r\n")
	other := r.tape("bob", "srv2", "HELLO from bob\r\n")

	list := r.ok("session", "list", "--past")
	if !containsAll(list, s.id, other.id, "complete", "srv1", "root") {
		t.Errorf("list:\n%s", list)
	}
	if list := r.ok("session", "list", "--past", "--person", "alice", "--since", "1h", "--json"); !strings.Contains(list, s.id) || strings.Contains(list, other.id) {
		t.Errorf("list of alice:\n%s", list)
	}
	if list := r.ok("session", "list", "--past", "--limit", "1"); !strings.Contains(list, other.id) || strings.Contains(list, s.id) {
		t.Errorf("the newest:\n%s", list)
	}
	if list := r.ok("session", "list", "--past", "--until", "2020-01-01", "--json"); list != "" {
		t.Errorf("none:\n%s", list)
	}

	shown := r.ok("session", "show", s.id)
	if !containsAll(shown, "alice", "srv1", "network team", "password (know, ok), totp T1 (have, ok)", s.sum.Path, "complete, 4 chunks on record", "transfer.upload", "path=/etc/motd", "4711") ||
		strings.Contains(shown, recording.EventChunk) {
		t.Errorf("show:\n%s", shown)
	}
	var facts admin.SessionShown
	if err := json.Unmarshal([]byte(r.ok("session", "show", s.id, "--json")), &facts); err != nil || facts.Sealed != 4 || len(facts.Factors) != 2 || facts.Chunks != 4 {
		t.Errorf("%+v, %v", facts, err)
	}

	out, errs, status := r.command("", "session", "play", s.id[:30], "--speed", "1000")
	if want := "$ echo helk\b\x1b[Klo\r\nhello\r\n$ exit\r\n\x1b[0m"; status != exitDone || out != want || errs != "verified: 4 chunks are as the audit log has them\n" {
		t.Errorf("play: %d, %q, %q", status, out, errs)
	}
	if got := r.ok("session", "play", s.id, "--export", "text", "-"); got != "$ echo hello\nhello\n$ exit\n" {
		t.Errorf("text: %q", got)
	}
	cast := filepath.Join(t.TempDir(), "x.cast")
	for form, head := range map[string]string{"v2": `"version":2`, "v3": `{"version":3,"term":{"cols":80,`} {
		r.ok("session", "play", s.id, "--export", form, cast)
		if b := string(mustRead(t, cast)); !strings.Contains(b, head) || !strings.Contains(b, `helk\u0008`) {
			t.Errorf("%s:\n%s", form, b)
		}
	}

	found := r.ok("session", "search", "hello")
	if !containsAll(found, "$ echo hello", s.id, other.id, "HELLO from bob") || strings.Count(found, "\n") != 3 {
		t.Errorf("search:\n%s", found)
	}
	if found := r.ok("session", "search", "hello", "--target", "srv1", "--json"); strings.Count(found, "\n") != 2 || !containsAll(found, `"line":"hello"`, `"person":"alice"`, `"offset":`) {
		t.Errorf("search at srv1:\n%s", found)
	}
	if found := r.ok("session", "search", "helk"); found != "" {
		t.Errorf("search for what was corrected:\n%s", found)
	}

	n := r.events(s.id)
	if n["recording.play"] != 1 || n["recording.export"] != 3 || n["session.show"] != 2 {
		t.Errorf("on record: %v", n)
	}
	if n := r.events(""); n["recording.search"] != 3 {
		t.Errorf("searches on record: %v", n)
	}
	if said := r.ok("audit", "search", "--json", "--event", "recording.search"); strings.Contains(said, "helk") || !strings.Contains(said, `"recordings":"2"`) {
		t.Errorf("record of a search:\n%s", said)
	}
	r.check()
}

// A recording that is not what was recorded is named as that, with the chunk, and what is left of it is played.
func TestRecordingsAltered(t *testing.T) {
	t.Parallel()
	r := newRecordingRig(t)
	s := r.tape("alice", "srv1", "one\r\n", "two\r\n", "three\r\n")
	good := mustRead(t, s.path)
	cut := bytes.LastIndex(good[:len(good)-200], []byte("age-encryption.org/v1"))
	for _, c := range []struct {
		name, says string
		raw        []byte
		played     string
	}{
		{"a byte", "the recording was altered: chunk 3 was altered: it is not the one that the audit log has", append(append(bytes.Clone(good[:len(good)-20]), good[len(good)-20]^1), good[len(good)-19:]...), "one\r\ntwo\r\n"},
		{"the tail", "the recording's tail is missing: chunk 3 is missing: the audit log has it, and the file ends before", append(bytes.Clone(good[:cut-4]), 0, 0, 0, 0), "one\r\ntwo\r\n"},
		{"cut off", "the recording's tail is missing: chunk 3 is cut off within, and the audit log has it whole", good[:len(good)-30], "one\r\ntwo\r\n"},
		{"the file", "the recording is missing", nil, ""},
	} {
		if err := os.WriteFile(s.path, c.raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if c.raw == nil {
			if err := os.Remove(s.path); err != nil {
				t.Fatal(err)
			}
		}
		out, errs, status := r.command("", "session", "play", s.id, "--speed", "1000")
		if status != exitFailed || !strings.Contains(errs, c.says) || !strings.HasPrefix(out, c.played) || strings.Contains(out, "three") {
			t.Errorf("%s: %d, %q, %q", c.name, status, out, errs)
		}
		if stderr := r.refusedIn("", "session", "search", "one"); !strings.Contains(stderr, "1 of 1 recordings could not be searched to their end") {
			t.Errorf("%s: search: %s", c.name, stderr)
		}
	}
	if err := os.WriteFile(s.path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	r.ok("session", "play", s.id, "--speed", "1000")
	r.ok("session", "search", "one")

	// Somebody else's key reads nothing, and is not taken for damage.
	stranger, _, err := recording.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.write("other.key", string(stranger))
	if stderr := r.refusedIn("", "session", "play", s.id, "--identity", filepath.Join(r.dir, "other.key")); !containsAll(stderr, "chunk 0 is not sealed to this key", "hint: --identity") {
		t.Error(stderr)
	}
	// The key belongs elsewhere; what is there without it says so.
	elsewhere := filepath.Join(t.TempDir(), "moved.key")
	if err := os.Rename(filepath.Join(r.dir, auditorFile), elsewhere); err != nil {
		t.Fatal(err)
	}
	if stderr := r.refusedIn("", "session", "play", s.id); !containsAll(stderr, "key to read recordings with", "hint: ") {
		t.Error(stderr)
	}
	r.ok("session", "play", s.id, "--speed", "1000", "--identity", elsewhere)
}

// A session whose gateway broke off is played as far as it goes, and called what it is.
func TestRecordingBrokenOff(t *testing.T) {
	t.Parallel()
	r := newRecordingRig(t)
	var s *tape
	r.app(func(a *app, cfg *config.Config) {
		s = r.startTape(a, cfg, "alice", "srv1")
		s.say("one\r\n")
		if _, err := s.w.Close(""); err != nil {
			t.Fatal(err)
		}
	})
	raw := mustRead(t, s.path) // as a crash in the middle of a write leaves it
	if err := os.WriteFile(s.path, raw[:len(raw)-2], 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, status := r.command("", "session", "play", s.id, "--speed", "1000")
	// The start is on record and no end is: until a gateway starts again and ends it, it counts as running.
	if status != exitDone || !strings.HasPrefix(out, "one\r\n") || !strings.Contains(errs, "not finished: ") || !strings.Contains(errs, "2 chunks are as the audit log has them") {
		t.Errorf("%d, %q, %q", status, out, errs)
	}
	r.app(func(a *app, _ *config.Config) {
		if err := a.gate.EndOrphans("ssh", nil); err != nil {
			t.Fatal(err)
		}
	})
	_, errs, status = r.command("", "session", "play", s.id, "--speed", "1000")
	if status != exitDone || !strings.Contains(errs, "not finished: the gateway broke off; 2 chunks are as the audit log has them") {
		t.Errorf("%d, %q", status, errs)
	}
	if list := r.ok("session", "list", "--past"); !strings.Contains(list, "broken off") {
		t.Errorf("list:\n%s", list)
	}
	r.ok("session", "search", "one")
}

// A live session is watched: what there is, what comes, and at its end the comparison with the log.
func TestRecordingFollow(t *testing.T) {
	t.Parallel()
	r := newRecordingRig(t)
	r.app(func(a *app, cfg *config.Config) { followLive(t, r, a, cfg) })
}

func followLive(t *testing.T, r *rig, a *app, cfg *config.Config) {
	var admin sockets
	if err := admin.openAdmin(a.paths); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.admin.Serve(ctx, admin.admin, patience) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	s := r.startTape(a, cfg, "alice", "srv1")
	s.say("one")
	got := make(chan string)
	watch := &watched{seen: got}
	done := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		done <- run(context.Background(), []string{"session", "play", s.id, "--follow"}, r.env, strings.NewReader(""), watch, &errs)
	}()
	expect := func(want string) {
		t.Helper()
		for deadline := time.After(patience); ; {
			select {
			case all := <-got:
				if strings.Contains(all, want) {
					return
				}
			case <-deadline:
				t.Fatalf("%q does not come", want)
			}
		}
	}
	expect("one")
	s.say("two")
	expect("two")
	s.over()
	for over := false; !over; {
		select {
		case <-got:
		case status := <-done:
			if over = true; status != exitDone {
				t.Errorf("status %d", status)
			}
		case <-time.After(patience):
			t.Fatal("it does not see the end")
		}
	}
	if !strings.Contains(errs.String(), "not finished: the session is still running") || !strings.Contains(errs.String(), "verified: 3 chunks") {
		t.Errorf("%s", errs.String())
	}
}

// watched tells what has been written so far.
type watched struct {
	all  bytes.Buffer
	seen chan string
}

func (w *watched) Write(p []byte) (int, error) {
	w.all.Write(p)
	w.seen <- w.all.String()
	return len(p), nil
}

// How much of a configuration recording needs is said at load.
func TestRecordingConfigured(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	text := string(mustRead(t, r.config))
	set := func(old, to string) { r.write("sallyport.yaml", strings.Replace(text, old, to, 1)) }
	const may = "may: [login, shell, exec, sftp, forward]"
	set(may, may+"\n    record: required")
	if stderr := r.refusedIn("", "config", "check"); !containsAll(stderr, "rules[network team].record: recordings are required, and nobody is named who could read them", "hint: recording: {recipients:") {
		t.Error(stderr)
	}
	set(may, "may: [login]\n    record: required")
	r.ok("config", "check")
	_, recipient, err := recording.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	set("rules:", fmt.Sprintf("recording: {recipients: [%s]}\nrules:", recipient))
	r.ok("config", "check")
	set("rules:", fmt.Sprintf("recording: {recipients: [%s]}\nrules:", recipient[:len(recipient)-1]+"b"))
	if stderr := r.refusedIn("", "config", "check"); !containsAll(stderr, "recording.recipients: recipient", "is no public key of age") {
		t.Error(stderr)
	}
}
