package admin

import (
	"errors"
	"strings"
	"testing"

	"sallyport/internal/alert"
	"sallyport/internal/audit"
	"sallyport/internal/journal"
	"sallyport/internal/login"
)

// alertLog is the log as alerts read it.
type alertLog struct{ *audit.Log }

func (l alertLog) Scan(from uint64, fn func(*audit.Record) error) error {
	return l.Log.Scan(from, func(rec *audit.Record, _ journal.Position) error { return fn(rec) })
}

// replayed records that somebody's code was sent again.
func (d *desk) replayed(person string) {
	d.t.Helper()
	rec := &audit.Record{Event: "login", Result: audit.Reject, Reason: "code_reused", Person: person, PersonKind: "staff", Login: person, Protocol: "radius", System: "vpn"}
	if _, err := d.gate.Commit(rec, login.Change{}, nil, nil); err != nil {
		d.t.Fatal(err)
	}
}

// alerts lists those that are not closed.
func (d *desk) alerts(in AlertList) (list []AlertInfo) {
	d.t.Helper()
	d.do("alert.list", in, &list)
	return list
}

// TestAlertLife: acknowledged and closed, each on record with who and what, and the same after a restart.
func TestAlertLife(t *testing.T) {
	d := newDesk(t)
	d.replayed("alice")
	d.replayed("alice")
	list := d.alerts(AlertList{Kind: "code_replay"})
	if len(list) != 1 || list[0].Count != 2 || list[0].Person != "alice" || list[0].State != alert.Open || list[0].Means == "" {
		t.Fatalf("the list is %+v", list)
	}
	id := list[0].ID
	var a AlertInfo
	d.do("alert.ack", AlertID{id}, &a)
	if a.State != alert.Acknowledged || a.AckedBy != "root" {
		t.Errorf("after ack it is %+v", a)
	}
	if rec := d.last(); rec.Event != "alert.ack" || text(rec, "alert") != id || text(rec, "about") != "alice" || text(rec, "actor") != "root" || rec.Person != "none" {
		t.Errorf("the record is %+v", rec)
	}
	d.restart()
	d.do("alert.close", AlertClose{id, " she pressed twice "}, &a)
	if a.State != alert.Closed || a.EndedBy != "root" || a.Outcome != "she pressed twice" {
		t.Errorf("after close it is %+v", a)
	}
	d.restart()
	if list := d.alerts(AlertList{Kind: "code_replay"}); len(list) != 0 {
		t.Errorf("it is open again: %+v", list)
	}
	if list := d.alerts(AlertList{Kind: "code_replay", All: true}); len(list) != 1 || list[0].Outcome != "she pressed twice" || list[0].Count != 2 {
		t.Errorf("with the closed ones the list is %+v", list)
	}
}

// TestNobodyClosesHisOwn, whichever of his names he has: and what he tried is on record.
func TestNobodyClosesHisOwn(t *testing.T) {
	d := newDesk(t)
	glass := &audit.Record{Event: "login", Result: audit.Accept, Reason: "ok", Person: "glass1", PersonKind: "break-glass", Login: "glass1", Protocol: "ssh"}
	if _, err := d.gate.Commit(glass, login.Change{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	list := d.alerts(AlertList{Kind: "break_glass_review"})
	if len(list) != 1 {
		t.Fatalf("the list is %+v", list)
	}
	in := AlertClose{list[0].ID, "all well"}
	for _, who := range []Actor{{Name: "glass1"}, {Name: "Glass1"}, {Name: "jane", User: "glass1"}} {
		err := d.service.Call(WithActor(t.Context(), who), "alert.close", in, nil)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Text, "cannot close it") {
			t.Errorf("%+v closes it: %v", who, err)
		}
		if rec := d.last(); rec.Event != "alert.close" || rec.Result != audit.Reject || rec.Reason != string(ReasonOwnAlert) {
			t.Errorf("the record of the refusal is %+v", rec)
		}
	}
	if list := d.alerts(AlertList{Kind: "break_glass_review"}); len(list) != 1 || list[0].State != alert.Open {
		t.Errorf("after the refusals: %+v", list)
	}
	if err := d.service.Call(WithActor(t.Context(), Actor{Name: "jane"}), "alert.close", in, nil); err != nil {
		t.Error(err)
	}
}

func TestAlertRefusals(t *testing.T) {
	d := newDesk(t)
	d.replayed("alice")
	id := d.alerts(AlertList{})[0].ID
	for _, c := range []struct {
		verb string
		in   any
		want string
	}{
		{"alert.show", AlertID{"AL-9999"}, "no alert"},
		{"alert.ack", AlertID{"AL-9999\x1b[2J"}, "no alert"},
		{"alert.close", AlertClose{"AL-9999", "x"}, "no alert"},
		{"alert.close", AlertClose{id, " "}, "what was found"},
		{"alert.close", AlertClose{id, strings.Repeat("x", 1001)}, "1001 bytes"},
		{"alert.list", AlertList{Kind: "nothing"}, "no kind"},
	} {
		if err := d.service.Call(d.ctx(), c.verb, c.in, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: %v", c.verb, c.in, err)
		}
	}
	d.do("alert.ack", AlertID{id}, nil)
	if err := d.service.Call(d.ctx(), "alert.ack", AlertID{id}, nil); err == nil {
		t.Error("it is acknowledged twice")
	}
	d.do("alert.close", AlertClose{id, "x"}, nil)
	if err := d.service.Call(d.ctx(), "alert.close", AlertClose{id, "y"}, nil); err == nil {
		t.Error("it is closed twice")
	}
}

func text(rec audit.Record, key string) string {
	for _, d := range rec.Detail {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}
