package alert

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"sallyport/internal/audit"
)

var noon = time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)

// record makes one as the log has it: nothing is blank.
func record(seq uint64, change func(*audit.Record)) *audit.Record {
	rec := &audit.Record{
		Seq: seq, Node: "gw1", Time: noon.Add(time.Duration(seq) * time.Second), Event: "login", Result: audit.Reject, Reason: "password_wrong",
		Person: "alice", PersonKind: "staff", Login: "alice", Protocol: "radius", Source: "10.0.0.7", System: "vpn",
	}
	change(rec)
	back, err := audit.Parse(rec.AppendJSON(nil))
	if err != nil {
		panic(err)
	}
	return back
}

func details(pairs ...string) (list []audit.Detail) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, audit.Detail{Key: pairs[i], Value: pairs[i+1]})
	}
	return list
}

// TestOf gives each kind its sign, and holds that nothing else is one.
func TestOf(t *testing.T) {
	admin := func(event string, result audit.Result, pairs ...string) func(*audit.Record) {
		return func(r *audit.Record) {
			r.Event, r.Result, r.Reason, r.Protocol, r.System, r.Detail = event, result, "ok", "admin", "gateway", details(pairs...)
		}
	}
	reason := func(reason string) func(*audit.Record) { return func(r *audit.Record) { r.Reason = reason } }
	nobody := func(event, reason string, pairs ...string) func(*audit.Record) {
		return func(r *audit.Record) {
			admin(event, audit.Error, pairs...)(r)
			r.Reason, r.Person, r.PersonKind = reason, "none", "none"
		}
	}
	seen := map[Kind]bool{MoreAlerts: true} // which no record is a sign of
	for name, c := range map[string]struct {
		change func(*audit.Record)
		want   []Signal
	}{
		"wrong password": {reason("password_wrong"), nil},
		"locks": {func(r *audit.Record) {
			r.Effects = []audit.Effect{{Set: "person.failures", ID: "alice", Value: 5, Until: noon.Add(time.Minute)}}
		}, []Signal{{Lockout, "alice", "vpn"}}},
		"locked":         {reason("locked"), []Signal{{Lockout, "alice", "vpn"}}},
		"locked hard":    {reason("locked_hard"), []Signal{{LockoutHard, "alice", "vpn"}}},
		"replay":         {reason("code_reused"), []Signal{{CodeReplay, "alice", "vpn"}}},
		"unknown client": {nobody("radius.refused", "unknown_client"), []Signal{{UnknownClient, "", ""}}},
		"bad secret":     {nobody("radius.refused", "ma_bad", "client", "fw"), []Signal{{BadAuthenticator, "", "fw"}}},
		"unsigned":       {nobody("radius.refused", "ma_missing", "client", "fw"), []Signal{{NoAuthenticator, "", "fw"}}},
		"break-glass": {
			func(r *audit.Record) { r.Result, r.Reason, r.PersonKind = audit.Accept, "ok", "break-glass" },
			[]Signal{{BreakGlassUsed, "alice", ""}, {BreakGlassReview, "alice", ""}},
		},
		"break-glass refused":  {func(r *audit.Record) { r.PersonKind = "break-glass" }, []Signal{{BreakGlassTried, "alice", ""}}},
		"break-glass enrolled": {func(r *audit.Record) { admin("token.enrol", audit.Info)(r); r.PersonKind = "break-glass" }, []Signal{{FactorEnrolled, "alice", ""}}},
		"recovery": {func(r *audit.Record) {
			r.Result, r.Reason, r.Factors = audit.Accept, "ok", []audit.Factor{{Kind: "have", Method: "recovery", Result: "ok"}}
		}, []Signal{{RecoveryUsed, "alice", ""}, {ReEnrol, "alice", ""}}},
		"recovery wrong":     {func(r *audit.Record) { r.Factors = []audit.Factor{{Kind: "have", Method: "recovery", Result: "wrong"}} }, nil},
		"exception":          {func(r *audit.Record) { r.Result, r.Reason, r.Exception = audit.Accept, "ok", "EX-1" }, []Signal{{ExceptionUsed, "alice", "vpn"}}},
		"exception approved": {func(r *audit.Record) { admin("exception.approve", audit.Info)(r); r.Exception = "EX-1" }, nil},
		"exception due":      {func(r *audit.Record) { admin("exception.due", audit.Info)(r); r.Exception = "EX-1" }, []Signal{{ExceptionDue, "", "EX-1"}}},
		"log":                {nobody("log.trouble", "checkpoint"), []Signal{{LogTrouble, "", ""}}},
		"log down":           {reason("log_unavailable"), []Signal{{LogTrouble, "", ""}}},
		"failed":             {nobody("gateway.stop", "failed"), []Signal{{GatewayFailed, "", ""}}},
		"stopped":            {nobody("gateway.stop", "stopped"), nil},
		"enrolled":           {admin("token.enrol", audit.Info), []Signal{{FactorEnrolled, "alice", ""}}},
		"assigned":           {admin("token.assign", audit.Info), []Signal{{FactorEnrolled, "alice", ""}}},
		"recovery codes":     {admin("token.recovery", audit.Info), []Signal{{FactorEnrolled, "alice", ""}}},
		"stock":              {nobody("token.import", "ok"), nil},
		"confirm wrong":      {admin("token.confirm", audit.Reject), nil},
		"key":                {admin("key.add", audit.Info), []Signal{{KeyAdded, "alice", ""}}},
		"policy":             {admin("config.reload", audit.Info, "changes", "rules[x].need"), []Signal{{PolicyChanged, "", ""}}},
		"policy same":        {admin("config.reload", audit.Info, "changes", ""), nil},
		"policy wrong":       {admin("config.reload", audit.Error), []Signal{{PolicyRefused, "", ""}}},
		"clock step":         {admin("clock.step", audit.Info), []Signal{{ClockBad, "", ""}}},
		"clock unsynced":     {admin("gateway.start", audit.Info, "clock_synced", "no"), []Signal{{ClockBad, "", ""}}},
		"clock well":         {admin("clock.state", audit.Info, "clock_synced", "yes"), nil},
		"host key": {
			func(r *audit.Record) {
				admin("target.host_key", audit.Reject)(r)
				r.Reason, r.System = "host_key_changed", "sw1"
			},
			[]Signal{{HostKeyChanged, "", "sw1"}},
		},
		"host key new": {
			func(r *audit.Record) {
				admin("target.host_key", audit.Info)(r)
				r.Reason, r.System = "host_key_unknown", "sw1"
			},
			[]Signal{{HostKeyWaits, "", "sw1"}},
		},
		"sync":         {nobody("people.sync", "directory_unread"), []Signal{{SyncFailed, "", ""}}},
		"synced":       {admin("people.sync", audit.Info), nil},
		"leaver":       {admin("user.leaver", audit.Error), []Signal{{LeaverHasSession, "alice", ""}}},
		"leaver, out":  {admin("user.leaver", audit.Info), nil},
		"forward":      {nobody("forward.down", "receiver_behind", "receiver", "siem"), []Signal{{LogForwardDown, "", "siem"}}},
		"witness":      {nobody("witness.conflict", "conflict", "witness", "trust-b"), []Signal{{WitnessConflict, "", "trust-b"}}},
		"recorder":     {reason("recording_unavailable"), []Signal{{RecorderFailed, "alice", "vpn"}}},
		"recorder end": {func(r *audit.Record) { r.Event, r.Reason = "session.end", "recorder_failed" }, []Signal{{RecorderFailed, "alice", "vpn"}}},
		"operator": {
			func(r *audit.Record) {
				admin("admin.refused", audit.Reject, "actor", "mallory")(r)
				r.Reason = "role_insufficient"
			},
			[]Signal{{OperatorRefused, "mallory", ""}},
		},
		"stranger": {func(r *audit.Record) { r.Person, r.PersonKind, r.Reason = "unknown", "none", "unknown_person" }, nil},
	} {
		got := Of(record(0, c.change))
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		for _, s := range got {
			seen[s.Kind] = true
		}
	}
	for _, m := range Meanings() {
		if !seen[m.Kind] {
			t.Errorf("no record is a sign of %s", m.Kind)
		}
		if m.Means == "" || m.Do == "" {
			t.Errorf("%s: nobody is told what it means, or what to do", m.Kind)
		}
	}
}

func replay(seq uint64, person string) *audit.Record {
	return record(seq, func(r *audit.Record) { r.Person, r.Reason = person, "code_reused" })
}

func TestFolds(t *testing.T) {
	b := NewBook(nil)
	for seq := range uint64(100) {
		b.Apply(replay(seq, "alice"), noon)
	}
	list := b.List(false)
	if len(list) != 1 {
		t.Fatalf("%d alerts", len(list))
	}
	a := list[0]
	if a.ID != "AL-0" || a.Count != 100 || len(a.Records) != MaxRecords || a.Records[0] != 0 || a.Records[MaxRecords-1] != 99 || a.Records[MaxRecords/2-1] != 9 || !a.First.Equal(noon) || !a.Last.Equal(noon.Add(99*time.Second)) {
		t.Errorf("the alert is %+v", a)
	}
}

// TestBounded: however many people are attacked, the book does not grow, and another kind's alert has its place.
func TestBounded(t *testing.T) {
	b := NewBook(nil)
	for seq := range uint64(10 * MaxOpenOfKind) {
		b.Apply(replay(seq, fmt.Sprintf("p%d", seq)), noon)
	}
	b.Apply(record(1<<40, func(r *audit.Record) { r.Result, r.Reason, r.PersonKind = audit.Accept, "ok", "break-glass" }), noon)
	list := b.List(true)
	if len(list) != MaxOpenOfKind+1+2 {
		t.Errorf("%d alerts", len(list))
	}
	more := slices.IndexFunc(list, func(a Alert) bool { return a.Kind == MoreAlerts })
	if more < 0 || list[more].Count != 9*MaxOpenOfKind || list[more].System != string(CodeReplay) {
		t.Errorf("those beyond the bound are not counted: %+v", list[max(more, 0)])
	}
	// Nor do closed ones pile up.
	for seq := range uint64(MaxClosed + 10) {
		b.Apply(record(1<<41+2*seq, func(r *audit.Record) {
			r.Event, r.Reason, r.Result, r.Person = "forward.down", "x", audit.Error, "none"
			r.Detail = details("receiver", "siem")
		}), noon)
		b.Apply(record(1<<41+2*seq+1, func(r *audit.Record) {
			r.Event, r.Reason, r.Result, r.Person = "forward.up", "ok", audit.Info, "none"
			r.Detail = details("receiver", "siem")
		}), noon)
	}
	if n := len(b.List(true)); n != MaxClosed+MaxOpenOfKind+1+2 {
		t.Errorf("%d alerts are kept", n)
	}
	if _, gone := b.changed(); len(gone) != 10 {
		t.Errorf("%d are to be forgotten", len(gone))
	}
}

func TestLife(t *testing.T) {
	b := NewBook(nil)
	b.Apply(replay(1, "alice"), noon)
	handle := func(seq uint64, event string, result audit.Result, pairs ...string) {
		b.Apply(record(seq, func(r *audit.Record) {
			r.Event, r.Result, r.Reason, r.Person, r.Detail = event, result, "ok", "none", details(append([]string{"alert", "AL-1", "actor", "jane"}, pairs...)...)
		}), noon)
	}
	handle(2, EventAck, audit.Info)
	if a, _ := b.Find("AL-1"); a.State != Acknowledged || a.AckedBy != "jane" {
		t.Errorf("after ack %+v", a)
	}
	handle(3, EventClose, audit.Reject, "outcome", "x") // she was refused
	b.Apply(replay(4, "alice"), noon)
	if a, _ := b.Find("AL-1"); a.State != Acknowledged || a.Count != 2 {
		t.Errorf("an acknowledged one counts on: %+v", a)
	}
	handle(5, EventClose, audit.Info, "outcome", "pressed twice")
	handle(6, EventAck, audit.Info)
	if a, _ := b.Find("AL-1"); a.State != Closed || a.EndedBy != "jane" || a.Outcome != "pressed twice" || a.AckedBy != "jane" {
		t.Errorf("after close %+v", a)
	}
	b.Apply(replay(7, "alice"), noon)
	if list := b.List(false); len(list) != 1 || list[0].ID != "AL-7" || list[0].State != Open {
		t.Errorf("what happens afterwards opens another: %+v", list)
	}
}

// TestReEnrol closes by itself with a token that is active, and with no other.
func TestReEnrol(t *testing.T) {
	b := NewBook(nil)
	b.Apply(record(1, func(r *audit.Record) {
		r.Result, r.Reason, r.Factors = audit.Accept, "ok", []audit.Factor{{Kind: "have", Method: "recovery", Result: "ok"}}
	}), noon)
	token := func(seq uint64, event, person, state string) {
		b.Apply(record(seq, func(r *audit.Record) {
			r.Event, r.Result, r.Reason, r.Person, r.Detail = event, audit.Info, "ok", person, details("state", state)
		}), noon)
	}
	isOpen := func() bool {
		return slices.ContainsFunc(b.List(false), func(a Alert) bool { return a.Kind == ReEnrol })
	}
	token(2, "token.enrol", "alice", "pending")
	token(3, "token.confirm", "bob", "active")
	if !isOpen() {
		t.Fatal("it is closed by a token that is none yet, or by another person's")
	}
	token(4, "token.assign", "alice", "pending")
	if !isOpen() {
		t.Fatal("it is closed by a hardware token that waits for its first code")
	}
	token(5, "token.assign", "alice", "active")
	if isOpen() {
		t.Error("it is open although there is a new token")
	}
	if a, _ := b.Find("AL-1b"); a.State != Closed || a.EndedBy != Gateway || a.Outcome != "a new token is active (record 5)" {
		t.Errorf("it is %+v", a)
	}
}

// TestEndsByItself: each of these is put right by its record, and not by another's.
func TestEndsByItself(t *testing.T) {
	change := func(event, reason, system, exception string, result audit.Result, pairs ...string) func(*audit.Record) {
		return func(r *audit.Record) {
			r.Event, r.Reason, r.System, r.Exception, r.Result, r.Person, r.Detail = event, reason, system, exception, result, "none", details(pairs...)
		}
	}
	for kind, c := range map[Kind]struct{ begin, other, end func(*audit.Record) }{
		LogForwardDown: {
			change("forward.down", "receiver_behind", "gateway", "", audit.Error, "receiver", "siem"),
			change("forward.up", "ok", "gateway", "", audit.Info, "receiver", "spare"),
			change("forward.up", "ok", "gateway", "", audit.Info, "receiver", "siem"),
		},
		ClockBad: {
			change("clock.state", "unsynchronised", "gateway", "", audit.Error, "clock_synced", "no"),
			change("clock.state", "ok", "gateway", "", audit.Info, "clock_synced", "unknown"),
			change("clock.state", "ok", "gateway", "", audit.Info, "clock_synced", "yes"),
		},
		SyncFailed: {
			change("people.sync", "directory_unread", "gateway", "", audit.Error),
			change("user.batch", "ok", "gateway", "", audit.Info),
			change("people.sync", "ok", "gateway", "", audit.Info),
		},
		HostKeyWaits: {
			change("target.host_key", "host_key_unknown", "sw1", "", audit.Info),
			change("target.trust", "ok", "sw2", "", audit.Info),
			change("target.trust", "ok", "sw1", "", audit.Info),
		},
		ExceptionDue: {
			change("exception.due", "ok", "gateway", "EX-1", audit.Info),
			change("exception.review", "ok", "gateway", "EX-2", audit.Info),
			change("exception.review", "ok", "gateway", "EX-1", audit.Info),
		},
	} {
		b := NewBook(nil)
		b.Apply(record(1, c.begin), noon)
		b.Apply(record(2, c.other), noon)
		if list := b.List(false); len(list) != 1 || list[0].Kind != kind {
			t.Errorf("%s: after another's record the list is %+v", kind, list)
		}
		b.Apply(record(3, c.end), noon)
		if list := b.List(true); len(list) != 1 || list[0].State != Closed || list[0].EndedBy != Gateway {
			t.Errorf("%s: it does not end: %+v", kind, list)
		}
	}
}

// TestTold: at once, again after a day, and not of what is old.
func TestTold(t *testing.T) {
	b := NewBook(nil)
	b.Apply(replay(0, "old"), noon.Add(48*time.Hour))
	b.Apply(replay(1, "alice"), noon)
	b.Apply(replay(60*60, "alice"), noon.Add(time.Hour))
	if a, _ := b.Find("AL-0"); !a.Told.IsZero() {
		t.Error("people are told of what is two days old")
	}
	first, _ := b.Find("AL-1")
	b.Apply(replay(26*60*60, "alice"), noon.Add(26*time.Hour))
	again, _ := b.Find("AL-1")
	if !first.Told.Equal(noon.Add(time.Second)) || !again.Told.Equal(noon.Add(26*time.Hour)) {
		t.Errorf("told at %v, and again at %v", first.Told, again.Told)
	}
}

// TestRebuild: the state is a function of the log, wherever a start falls.
func TestRebuild(t *testing.T) {
	var log []*audit.Record
	for seq := range uint64(60) {
		switch seq % 6 {
		case 0, 1, 2:
			log = append(log, replay(seq, fmt.Sprintf("p%d", seq%4)))
		case 3:
			log = append(log, record(seq, func(r *audit.Record) {
				r.Event, r.Reason, r.Result = "forward.down", "x", audit.Error
				r.Detail = details("receiver", "siem")
			}))
		case 4:
			log = append(log, record(seq, func(r *audit.Record) {
				r.Event, r.Result, r.Detail = EventClose, audit.Info, details("alert", fmt.Sprintf("AL-%d", seq-4), "actor", "jane", "outcome", "x")
			}))
		case 5:
			log = append(log, record(seq, func(r *audit.Record) {
				r.Event, r.Result = "forward.up", audit.Info
				r.Detail = details("receiver", "siem")
			}))
		}
	}
	whole := NewBook(nil)
	for _, rec := range log {
		whole.Apply(rec, noon)
	}
	for cut := range log {
		first := NewBook(nil)
		for _, rec := range log[:cut] {
			first.Apply(rec, noon)
		}
		second := NewBook(first.List(true))
		for _, rec := range log[cut:] {
			second.Apply(rec, noon)
		}
		if !reflect.DeepEqual(whole.List(true), second.List(true)) {
			t.Fatalf("a start after %d records makes another state", cut)
		}
	}
}

// FuzzApply: whatever the records hold, the book keeps its bounds and its texts are harmless.
func FuzzApply(f *testing.F) {
	f.Add("login", "code_reused", "alice", "vpn", "AL-1")
	f.Add(EventClose, "ok", "none", "x\x1b[2J", "AL-0")
	f.Fuzz(func(t *testing.T, event, reason, person, system, id string) {
		b := NewBook(nil)
		for seq, result := range []audit.Result{audit.Accept, audit.Reject, audit.Info, audit.Error} {
			b.Apply(record(uint64(seq), func(r *audit.Record) {
				r.Event, r.Reason, r.Person, r.System, r.Result = event, reason, person, system, result
				r.PersonKind, r.Exception, r.Detail = "break-glass", system, details("alert", id, "actor", person, "outcome", system, "receiver", system)
			}), noon)
		}
		for _, a := range b.List(true) {
			if a.Text != audit.Visible(a.Text) || len(a.Text) > maxText+3 || len(a.Outcome) > maxOutcome+3 {
				t.Errorf("the text of %+v", a)
			}
		}
	})
}
