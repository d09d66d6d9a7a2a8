package audit

import (
	"bytes"
	"testing"
	"time"
)

// agree compares a Glance with what Parse has read of the same bytes.
func agree(t *testing.T, g *Glance, rec *Record) {
	t.Helper()
	for name, pair := range map[string]struct {
		got  []byte
		want string
	}{
		"event": {g.Event, rec.Event}, "result": {g.Result, string(rec.Result)}, "reason": {g.Reason, rec.Reason},
		"person": {g.Person, rec.Person}, "person_kind": {g.PersonKind, rec.PersonKind}, "login": {g.Login, rec.Login},
		"protocol": {g.Protocol, rec.Protocol}, "source": {g.Source, rec.Source}, "system": {g.System, rec.System},
		"class": {g.Class, rec.Class}, "account": {g.Account, rec.Account}, "rule": {g.Rule, rec.Rule},
		"exception": {g.Exception, rec.Exception}, "session": {g.Session, rec.Session}, "attempt": {g.Attempt, rec.Attempt},
	} {
		if got := Text(pair.got); got != pair.want {
			t.Errorf("%s: %q, want %q", name, got, pair.want)
		}
	}
	if g.Seq != rec.Seq || g.Milli != rec.Time.UnixMilli() || len(g.Factors) != len(rec.Factors) {
		t.Errorf("number %d, time %d, %d factors; want %d, %d, %d", g.Seq, g.Milli, len(g.Factors), rec.Seq, rec.Time.UnixMilli(), len(rec.Factors))
		return
	}
	for i, f := range g.Factors {
		if got := (Factor{Text(f.Kind), Text(f.Method), Text(f.Token), Text(f.Result)}); got != rec.Factors[i] {
			t.Errorf("factor %d: %+v, want %+v", i, got, rec.Factors[i])
		}
	}
	for _, d := range rec.Detail {
		if bytes.ContainsAny(g.Detail(d.Key), "\x00") {
			t.Error("a detail holds a NUL")
		}
		if got := Text(g.Detail(d.Key)); escapedLen(d.Key) == len(d.Key) && got != d.Value {
			t.Errorf("detail %q: %q, want %q", d.Key, got, d.Value)
		}
	}
	if g.Detail("no such key") != nil {
		t.Error("a detail that is not there is found")
	}
}

func glanceSeed() *Record {
	return &Record{
		Seq: 7, Node: "gw1", Time: time.Date(2026, 3, 29, 1, 0, 0, 5e6, time.UTC), Event: "access", Result: Accept, Person: `al"ice\`,
		PersonKind: "supplier", Login: "x\x1b[2J", Protocol: "ssh", Source: "::1", System: "core\u202esw", Class: "remote", Account: "root",
		Factors: []Factor{{"know", "password", "", "ok"}, {"have", "totp", `t"1`, "ok"}},
		Rule:    "r", Exception: "EX-1", Session: "s", Attempt: "a",
		Detail:  []Detail{{"grant", "GR-1"}, {"note", `he said "no\"`}, {"actor", "\xff\\"}},
		Effects: []Effect{{Set: "token.step", ID: "t1", Value: 5}},
	}
}

func TestGlance(t *testing.T) {
	raw := glanceSeed().AppendJSON(nil)
	rec, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	var g Glance
	for range 2 { // the second time, memory of the first is there
		if err := g.Read(raw); err != nil {
			t.Fatal(err)
		}
		agree(t, &g, rec)
	}
	for n := range raw {
		if err := new(Glance).Read(raw[:n]); err == nil && n < bytes.Index(raw, []byte(`"detail":{`)) {
			t.Errorf("the first %d bytes pass for a record", n)
		}
	}
}

// FuzzGlance: whatever Parse takes, a Glance reads the same; whatever it does not, does no harm.
func FuzzGlance(f *testing.F) {
	f.Add(glanceSeed().AppendJSON(nil))
	f.Add([]byte(opening + "1"))
	f.Add((&Record{Result: Info}).AppendJSON(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var g Glance
		err := g.Read(raw)
		_ = g.Detail("actor")
		rec, perr := Parse(raw)
		if perr != nil {
			return
		}
		if err != nil {
			t.Fatalf("a record that Parse takes: %v", err)
		}
		agree(t, &g, rec)
	})
}

// ScanJSON gives what was written, in its bounds, and nothing of what was erased.
func TestScanJSON(t *testing.T) {
	l := newFixture(t, newKeys(t, "gw1")).open(t)
	defer closeLog(t, l)
	for range 10 {
		if _, err := l.Append(glanceSeed(), nil); err != nil {
			t.Fatal(err)
		}
	}
	var got []uint64
	if err := l.ScanJSON(3, 7, func(seq uint64, json []byte) error {
		rec, err := Parse(json)
		if err != nil || rec.Seq != seq {
			t.Errorf("record %d: %v", seq, err)
		}
		got = append(got, seq)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || got[0] != 3 || got[3] != 6 {
		t.Errorf("records %v, want 3 to 6", got)
	}
	if err := l.ScanJSON(10, 99, func(uint64, []byte) error { t.Error("called"); return nil }); err != nil {
		t.Error(err)
	}
}
