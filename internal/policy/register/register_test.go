package register

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/internal/policy"
)

var june = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func sound() Exception {
	return Exception{
		ID: "EX-1", Version: 1, Changed: june, Title: "infusion pump", Rationale: "no keyboard", Requester: "A. Matron",
		Scope:    Scope{Systems: []string{"pump"}, Factors: []policy.Kind{policy.Know}},
		Risk:     Risk{Threat: "password guessed", Likelihood: 2, Impact: 4, Assessor: "IG lead", Date: DateOf(june)},
		Approval: Approval{By: "B. Chief", Role: "SIRO", Body: "board", Reference: "minute 7", Date: DateOf(june)},
		Plan:     Plan{Text: "replace the pump", Owner: "estates", Target: DateOf(june.AddDate(1, 0, 0))},
		From:     june, Until: june.AddDate(2, 0, 0), Review: june.AddDate(1, 0, 0),
	}
}

func TestValidate(t *testing.T) {
	if x := sound(); len(x.Validate()) != 0 {
		t.Fatalf("a sound entry: %v", x.Validate())
	}
	for field, spoil := range map[string]func(*Exception){
		"title":         func(x *Exception) { x.Title = " " },
		"rationale":     func(x *Exception) { x.Rationale = "" },
		"requester":     func(x *Exception) { x.Requester = "" },
		"risk.threat":   func(x *Exception) { x.Risk.Threat = "" },
		"risk.assessor": func(x *Exception) { x.Risk.Assessor = "" },
		"risk:":         func(x *Exception) { x.Risk.Impact = 6 },
		"plan.text":     func(x *Exception) { x.Plan.Text = "" },
		"plan.owner":    func(x *Exception) { x.Plan.Owner = "" },
		"plan.target":   func(x *Exception) { x.Plan.Target = Date{} },
		"from, until":   func(x *Exception) { x.Until = x.From },
		"next_review":   func(x *Exception) { x.Review = x.From.AddDate(1, 0, 3) },
		"scope:":        func(x *Exception) { x.Scope.Systems = nil },
		"scope.factors": func(x *Exception) { x.Scope.Factors = nil },
		"approval.body": func(x *Exception) { x.Approval.Body = "friends" },
		"approval:":     func(x *Exception) { x.Approval.Reference = "" },
	} {
		x := sound()
		spoil(&x)
		if err := errors.Join(x.Validate()...); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	self := sound()
	self.Approval.By = "a.  matron"
	if !errors.Is(errors.Join(self.Validate()...), ErrSelf) {
		self.Approval.By = "A.  MATRON"
		if !errors.Is(errors.Join(self.Validate()...), ErrSelf) {
			t.Error("who asked may approve")
		}
	}
	// A review moves the day until which the next may wait.
	later := sound()
	later.Reviews = []Review{{By: "C", Date: DateOf(june.AddDate(0, 11, 0)), Decision: "keep"}}
	later.Review = june.AddDate(1, 10, 0)
	if errs := later.Validate(); len(errs) != 0 {
		t.Errorf("after a review: %v", errs)
	}
}

// The register of a day is made of the versions that held then.
func TestAsOf(t *testing.T) {
	v := func(id string, version int, day int) Exception {
		x := sound()
		x.ID, x.Version, x.Changed = id, version, june.AddDate(0, 0, day)
		return x
	}
	all := []Exception{v("EX-10", 1, 2), v("EX-2", 1, 1), v("EX-2", 2, 5), v("EX-2", 3, 9)}
	for day, want := range map[int]string{0: "", 1: "EX-2/1", 4: "EX-2/1 EX-10/1", 5: "EX-2/2 EX-10/1", 30: "EX-2/3 EX-10/1"} {
		var got []string
		for _, x := range AsOf(all, june.AddDate(0, 0, day)) {
			got = append(got, x.ID+"/"+string(rune('0'+x.Version)))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("day %d: %q, want %q", day, s, want)
		}
	}
}

func TestStates(t *testing.T) {
	x := sound()
	for _, c := range []struct {
		at   time.Time
		want State
	}{
		{june.Add(-time.Second), Waiting}, {june, Live}, {x.Review.Add(-time.Second), Live}, {x.Review, Unreviewed}, {x.Until, Expired},
	} {
		if got := x.At(c.at); got != c.want || (c.want == Live) != (got.Why() == policy.OK) {
			t.Errorf("%v: %s (%s), want %s", c.at, got, got.Why(), c.want)
		}
	}
	if (&Exception{}).At(june) == Live || State("").Why() == policy.OK {
		t.Error("the zero entry is in force")
	}
	g := Grant{From: june, Until: june.Add(time.Hour), Approver: "b"}
	for at, want := range map[time.Time]State{june.Add(-1): Waiting, june: Live, june.Add(time.Hour): Expired} {
		if got := g.At(at); got != want {
			t.Errorf("grant at %v: %s, want %s", at, got, want)
		}
	}
	g.Ended = june.Add(time.Minute)
	if g.At(june) != Live || g.At(june.Add(time.Minute)) != Ended {
		t.Error("a grant's end")
	}
}

func TestDates(t *testing.T) {
	type box struct{ D Date }
	b, err := json.Marshal(box{DateOf(june)})
	if err != nil || string(b) != `{"D":"2026-06-01"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var back box
	if err := json.Unmarshal(b, &back); err != nil || back.D != DateOf(june) {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{`{"D":"2026-02-30"}`, `{"D":"1 June"}`, `{"D":7}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
	if got := NextID(ExceptionPrefix, []string{"EX-2", "EX-10", "GR-99", "EX-x"}); got != "EX-11" {
		t.Errorf("next id %s", got)
	}
}
