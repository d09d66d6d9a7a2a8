package main

import (
	"context"
	"encoding/json"
	"errors"
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
	"sallyport/internal/journal"
	"sallyport/internal/login"
	"sallyport/internal/recording"
	"sallyport/internal/store"
)

// past is a gateway that had this to record 500 days ago: for alice and bob ten logins each and a recorded session.
func past(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, rigOptions{})
	p := layout(r.data)
	for _, begun := range []string{p.journal, p.database, p.index, p.checkpoint, p.checkpoint + ".synced"} {
		if err := os.RemoveAll(begun); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(r.config, r.env)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-500 * 24 * time.Hour).UTC()
	a, err := openApp(t.Context(), cfg, slog.New(slog.DiscardHandler), func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	add := func(rec audit.Record) {
		t.Helper()
		rec.Time = at
		if _, err := a.log.Append(&rec, nil); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Minute)
	}
	for i := range 20 {
		add(audit.Record{Event: "login", Result: audit.Accept, Person: []string{"alice", "bob"}[i%2], Login: "x", System: "vpn", Protocol: "radius"})
	}
	for _, who := range []string{"alice", "bob"} {
		path := filepath.Join(at.Format("2006/01/02"), "of-"+who+".rec")
		add(audit.Record{
			Event: login.EventSessionStart, Result: audit.Info, Person: who, System: "srv1", Protocol: "ssh", Session: "of-" + who,
			Detail: []audit.Detail{{Key: recording.DetailRecording, Value: path}},
		})
		file := filepath.Join(cfg.Recording.Dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("sealed"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) retain(args ...string) (out admin.Retained) {
	r.Helper()
	if err := json.Unmarshal([]byte(r.ok(append([]string{"audit", "retain", "--json"}, args...)...)), &out); err != nil {
		r.Fatal(err)
	}
	return out
}

func (r *rig) recordingsLeft() (names []string) {
	r.Helper()
	_ = filepath.WalkDir(filepath.Join(r.data, "recordings"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, filepath.Base(path))
		}
		return err
	})
	return names
}

// What is past its time goes, and is on record; what a hold covers stays until the hold ends; and verify proves all of it.
func TestRetention(t *testing.T) {
	r := past(t)
	r.ok("audit", "hold", "add", "--reason", "case 7, asked by legal", "--person", "Bob")
	dry := r.retain("--dry-run")
	if dry.Erased.Erased != 11 || dry.Held != 11 || dry.Recordings.Removed != 1 || dry.Recordings.Held != 1 || dry.Holds != 1 {
		t.Fatalf("%+v", dry)
	}
	if left := r.recordingsLeft(); len(left) != 2 || len(r.records("--person", "alice")) != 11 {
		t.Fatalf("a dry run removed something: %v", left)
	}
	did := r.retain()
	if did.Erased.Erased != 11 || did.Recordings.Removed != 1 {
		t.Fatalf("%+v", did)
	}
	if left := fmt.Sprint(r.recordingsLeft()); left != "[of-bob.rec]" {
		t.Errorf("recordings left: %s", left)
	}
	if n := len(r.records("--person", "bob", "--until", "2400h")); n != 11 {
		t.Errorf("%d records of bob, of 11 that are held", n)
	}
	for _, rec := range r.records("--person", "alice") {
		if rec.Event != recording.EventErase {
			t.Errorf("record %d of alice, %s, is still there", rec.Seq, rec.Event)
		}
	}
	_, stderr, _ := r.command("", "audit", "search", "--person", "alice")
	if !containsAll(stderr, "note: 11 records from before", "are erased") {
		t.Errorf("a search does not tell of what is gone: %s", stderr)
	}
	erasures := r.records("--event", audit.EventErase)
	if len(erasures) != 1 || detail(erasures[0], "setting_records") != "400d" || detail(erasures[0], "holds") != "1" {
		t.Errorf("%+v", erasures)
	}
	if stdout, stderr, status := r.command("", "audit", "verify"); status != 0 || !strings.Contains(stderr, "11 records are erased, of which 1 records tell") {
		t.Errorf("verify: %d %s%s", status, stdout, stderr)
	}
	file, key := filepath.Join(r.dir, "e.jsonl"), filepath.Join(r.data, "keys", "audit.pub")
	r.ok("audit", "export", file)
	r.ok("audit", "verify", file, "--key", key)
	if b, err := os.ReadFile(file); err != nil || strings.Count(string(b), `{"erased":"`) != 11 {
		t.Errorf("the export: %v", err)
	}
	index, err := os.ReadFile(filepath.Join(r.data, "records.db"))
	if err != nil || len(index) == 0 {
		t.Fatal(err)
	}
	// The daemon starts, and goes on.
	r.start()
	r.refusedIn("", "audit", "hold", "end", "LH-9", "--reason", "x")
	r.ok("audit", "hold", "end", "lh-1", "--reason", "case closed")
	r.refusedIn("", "audit", "hold", "end", "LH-1", "--reason", "x")
	if did = r.retain(); did.Erased.Erased != 11 || did.Earlier != 11 || did.Recordings.Removed != 1 {
		t.Errorf("after the hold: %+v", did)
	}
	if did = r.retain(); did.Erased.Erased != 0 || did.Recordings.Removed != 0 {
		t.Errorf("again: %+v", did)
	}
	r.ok("audit", "verify")
	if left := r.recordingsLeft(); len(left) != 0 {
		t.Errorf("recordings left: %v", left)
	}
	if !strings.Contains(r.ok("audit", "hold", "list"), "ended") {
		t.Error("the list does not show the hold that is over")
	}
	r.stop()
	// The index is lost and made anew.
	if err := os.Remove(filepath.Join(r.data, "records.db")); err != nil {
		t.Fatal(err)
	}
	if n := len(r.records("--event", "hold.end")); n != 1 {
		t.Errorf("%d records of the hold's end", n)
	}
}

// A crash, or a power cut, that kept the rewritten segment from the index: the next start takes it in.
func TestRetentionIndexBehind(t *testing.T) {
	r := past(t)
	r.ok("audit", "hold", "add", "--reason", "case 7", "--person", "bob")
	if n := len(r.records("--person", "alice")); n != 11 {
		t.Fatal(n)
	}
	index := filepath.Join(r.data, "records.db")
	old, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	r.retain()
	if err := os.WriteFile(index, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := len(r.records("--person", "bob", "--until", "2400h")); n != 11 {
		t.Errorf("%d records of bob", n)
	}
	if n := len(r.records("--person", "alice", "--event", "login")); n != 0 {
		t.Errorf("%d logins of alice", n)
	}
}

// A batch that was read before its records were erased does not bring into the index what they said.
func TestRetentionBesideIndexing(t *testing.T) {
	for _, from := range []string{"journal", "feed"} {
		t.Run(from, func(t *testing.T) {
			past(t).app(func(a *app, _ *config.Config) { retainWithin(t, a, from == "feed") })
		})
	}
}

// retainWithin erases between a batch's reading and its adding.
func retainWithin(t *testing.T, a *app, fed bool) {
	if err := a.index.close(); err != nil {
		t.Fatal(err)
	}
	index, err := store.OpenIndex(t.Context(), filepath.Join(t.TempDir(), "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	x := &indexer{log: a.log, index: index, feed: newFeed(), stop: func() {}, done: make(chan struct{})}
	close(x.done)
	a.index = x
	if fed {
		err := a.log.Scan(0, func(rec *audit.Record, pos journal.Position) error { x.feed.put(rec, pos); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.read(t.Context()); err != nil || x.batch[1].Person != "bob" {
		t.Fatal(err)
	}
	if out, err := a.retain(t.Context(), false); err != nil || out.Erased.Erased != 22 {
		t.Fatalf("%+v, %v", out, err)
	}
	if fresh, err := x.put(t.Context()); err != nil || fresh {
		t.Errorf("what was erased is in the index: %v", err)
	}
	for x.lag() > 0 {
		if _, err := x.add(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	hits, err := index.Search(t.Context(), store.Query{Person: "bob", Event: "login"})
	if err != nil || len(hits) > 0 {
		t.Errorf("%d hits of what was erased, %v", len(hits), err)
	}
}

// What the index could not take in when records were erased, it takes in with the next run.
func TestRetentionIndexFails(t *testing.T) {
	past(t).app(func(a *app, _ *config.Config) {
		for a.index.lag() > 0 {
			time.Sleep(time.Millisecond)
		}
		whole := a.index
		path := filepath.Join(t.TempDir(), "records.db")
		failing, err := store.OpenIndex(t.Context(), path)
		if err == nil {
			err = failing.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		a.index = &indexer{log: a.log, index: failing, feed: newFeed()}
		if _, err := a.retain(t.Context(), false); err == nil {
			t.Fatal("it can write to an index that is closed")
		}
		a.index = whole
		search := func() int {
			hits, err := whole.index.Search(t.Context(), store.Query{Person: "bob", Event: "login"})
			if err != nil {
				t.Fatal(err)
			}
			return len(hits)
		}
		if n := search(); n != 10 {
			t.Fatalf("%d hits before", n)
		}
		if _, err := a.retain(t.Context(), true); err != nil || search() != 10 {
			t.Errorf("a dry run changes the index: %v", err)
		}
		if _, err := a.retain(t.Context(), false); err != nil || search() != 0 {
			t.Errorf("%d hits of what was erased, %v", search(), err)
		}
	})
}

// A gateway whose clock was set, or that was silent for long, erases nothing by itself.
func TestRetentionDoubtsTheClock(t *testing.T) {
	past(t).app(func(a *app, _ *config.Config) {
		record := func(context.Context, string, audit.Result, string, ...audit.Detail) error { return nil }
		a.clock = newClockWatch(record)
		g := &gateway{app: a, since: time.Now()}
		if _, err := g.retainNow(t.Context()); err == nil || !strings.Contains(err.Error(), "for 499 days") {
			t.Errorf("after a long silence: %v", err)
		}
		if err := a.admin.Record(t.Context(), "test", audit.Info, "ok"); err != nil {
			t.Fatal(err)
		}
		g.since = time.Now()
		g.clock.steps = 1
		if _, err := g.retainNow(t.Context()); err == nil || !strings.Contains(err.Error(), "it was set") {
			t.Errorf("after a step: %v", err)
		}
		if hint := retainHint(errClock); !strings.Contains(hint, "status") || strings.Contains(retainHint(audit.ErrNoSnapshot), "status") {
			t.Error("the hint does not tell of the clock, or always does")
		}
		g.clock.steps = 0
		if out, err := g.retainNow(t.Context()); err != nil || out.Erased.Erased != 22 {
			t.Errorf("%+v, %v", out, err)
		}
	})
}

// Who has the retention run vouches for the clock as it is, and for nothing that comes.
func TestRetentionVouchedFor(t *testing.T) {
	past(t).app(func(a *app, _ *config.Config) {
		a.clock = newClockWatch(nil)
		a.clock.steps = 2
		g := &gateway{app: a, since: time.Now()}
		ask := func(in admin.RetainIn, want uint64) {
			t.Helper()
			var out admin.Retained
			ctx := admin.WithActor(t.Context(), admin.Actor{Name: "root", Road: "cli"})
			if err := a.admin.Call(ctx, "audit.retain", in, &out); err != nil || out.Erased.Erased != want {
				t.Fatalf("%+v, %v", out, err)
			}
		}
		ask(admin.RetainIn{DryRun: true}, 22)
		if _, err := g.retainNow(t.Context()); !errors.Is(err, errClock) {
			t.Errorf("after a dry run: %v", err)
		}
		setting := &a.config().Audit.Retention
		kept := *setting
		setting.Records, setting.Recordings = 0, 0
		ask(admin.RetainIn{}, 0)
		*setting = kept
		if _, err := g.retainNow(t.Context()); !errors.Is(err, errClock) {
			t.Errorf("after a run that looked at no time: %v", err)
		}
		ask(admin.RetainIn{}, 22)
		if _, err := g.retainNow(t.Context()); err != nil {
			t.Errorf("after an operator had it run: %v", err)
		}
		a.clock.steps++
		if _, err := g.retainNow(t.Context()); !errors.Is(err, errClock) {
			t.Errorf("after one more step: %v", err)
		}
	})
}
