package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

func TestCutRecords(t *testing.T) {
	for list, want := range map[string]struct {
		rest string
		on   bool
	}{
		"all": {"all", true}, "records": {"", true}, "pap,records": {"pap", true}, "pap, records ,ssh": {"pap,ssh", true},
		"pap": {"pap", false}, "": {"", false}, "recordss": {"recordss", false},
	} {
		if rest, on := cutRecords(list); rest != want.rest || on != want.on {
			t.Errorf("%q: %q, %v: want %q, %v", list, rest, on, want.rest, want.on)
		}
	}
}

// TestYear: the year is whole and in order, sessions begin before they end, and no step is consumed twice.
func TestYear(t *testing.T) {
	const n = 20_000
	made := newYear(n)
	var rec audit.Record
	steps, open, last := map[string]int64{}, map[string]bool{}, trustBegin
	events, byDay, weekend := map[string]int{}, 0, 0
	for range n {
		made.next(&rec)
		if rec.Time.Before(last) {
			t.Fatalf("%s comes after %s", rec.Time, last)
		}
		last = rec.Time
		events[rec.Event]++
		if h := rec.Time.Hour(); h >= 7 && h < 19 {
			byDay++
		}
		if d := rec.Time.Weekday(); d == time.Saturday || d == time.Sunday {
			weekend++
		}
		for _, x := range rec.Effects {
			if x.Set == "token.step" {
				if x.Value <= steps[x.ID] {
					t.Fatalf("step %d of %s comes after %d", x.Value, x.ID, steps[x.ID])
				}
				steps[x.ID] = x.Value
			}
		}
		switch rec.Event {
		case login.EventSessionStart:
			open[rec.Session] = true
		case login.EventSessionEnd:
			if !open[rec.Session] {
				t.Fatalf("session %s ends and has not begun", rec.Session)
			}
			delete(open, rec.Session)
		}
		if again, err := audit.Parse(rec.AppendJSON(nil)); err != nil || again.Person != rec.Person {
			t.Fatalf("%+v is not a record: %v", rec, err)
		}
	}
	if last.Sub(trustBegin) < 364*24*time.Hour || len(open) > sessionsOpen+1 {
		t.Errorf("the year ends on %s with %d sessions open", last, len(open))
	}
	if byDay < n*8/10 || weekend > n/8 || weekend == 0 || events["login"] < n*6/10 || events["access"] == 0 || events[login.EventSessionEnd] == 0 {
		t.Errorf("%d by day, %d at weekends, events %v", byDay, weekend, events)
	}
}

// TestRecordsStages runs each stage on a small log: what is measured is what was meant.
func TestRecordsStages(t *testing.T) {
	dir := t.TempDir()
	var b bench
	b.records = 3000
	for _, s := range stages {
		var out, progress strings.Builder
		if err := runStage(t.Context(), []string{s.name, dir, "3000", ""}, &out, &progress); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		var r stageRun
		if err := json.Unmarshal([]byte(out.String()), &r); err != nil || r.Stage != s.title || r.Seconds <= 0 || r.CPU <= 0 {
			t.Errorf("%s: %s, %v", s.name, out.String(), err)
		}
		if progress.Len() > 0 {
			t.Errorf("%s: a bar without a terminal: %q", s.name, progress.String())
		}
		b.Records = append(b.Records, r)
	}
	var p strings.Builder
	b.writeRecords(&p)
	for _, want := range []string{"3,000 records", titleIngest, titleVerifyExport, "all of a person's records"} {
		if !strings.Contains(p.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, p.String())
		}
	}
	if err := runStage(t.Context(), []string{"ingest", dir, "10", ""}, &strings.Builder{}, &strings.Builder{}); err != nil {
		t.Fatal(err)
	}
	if err := runStage(t.Context(), []string{"verify", dir, "3000", ""}, &strings.Builder{}, &strings.Builder{}); err == nil {
		t.Error("verify takes a log of another length")
	}
	if err := runStage(t.Context(), []string{"dance", dir, "1", ""}, &strings.Builder{}, &strings.Builder{}); err == nil {
		t.Error("an unknown stage runs")
	}
}
