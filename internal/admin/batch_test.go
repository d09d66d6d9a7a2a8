package admin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/roll"
)

// planOf makes a plan of a CSV file.
func (d *desk) planOf(text string, whole bool) (*roll.Plan, *roll.Problems) {
	d.t.Helper()
	var p roll.Problems
	rows, _, err := roll.Read(strings.NewReader(text), &p)
	if err != nil {
		d.t.Fatal(err)
	}
	var list []UserRow
	d.do("user.list", UserList{}, &list)
	var people []login.Person
	for _, r := range list {
		people = append(people, r.Person)
	}
	return roll.Make(people, rows, roll.Options{Whole: whole}, &p), &p
}

// An import that breaks off between two records is run again and goes on; a record holds a batch whole or not at all, also when the
// process dies between the record and the change.
func TestImportGoesOn(t *testing.T) {
	d := newDesk(t)
	var text strings.Builder
	text.WriteString("name,kind,groups,sponsor\n")
	for i := range 2500 {
		fmt.Fprintf(&text, "p%04d,staff,network,\n", i)
	}
	text.WriteString("ext,supplier,vpn,p0001\n")
	plan, p := d.planOf(text.String(), false)
	batches := plan.Batches()
	if p.Total != 0 || len(batches) < 3 {
		t.Fatalf("%d batches, %+v", len(batches), p.List)
	}
	d.do("user.batch", UserBatch{Batch: batches[0], Source: "import", Part: 1, Parts: len(batches)}, nil)
	d.crash = true
	if err := d.service.Call(d.ctx(), "user.batch", UserBatch{Batch: batches[1], Source: "import"}, nil); err == nil {
		t.Fatal("no error when the store failed")
	}
	d.crash = false
	d.restart()
	plan, _ = d.planOf(text.String(), false)
	if want := len(batches[0].Put) + len(batches[1].Put); plan.Same != want || len(plan.Movers) != 0 {
		t.Errorf("%d are as they should be, want %d; %d would move", plan.Same, want, len(plan.Movers))
	}
	for i, b := range plan.Batches() {
		d.do("user.batch", UserBatch{Batch: b, Source: "import", File: "sum", Part: i + 1, Parts: 9}, nil)
	}
	if plan, _ = d.planOf(text.String(), true); plan.Same != 2501 || plan.Leaving() != 0 {
		t.Errorf("%+v", plan)
	}
	for _, rec := range d.records() {
		if rec.Event == "user.batch" && strings.Contains(fmt.Sprint(rec.Detail), "~") {
			t.Errorf("record %d is cut", rec.Seq)
		}
	}
}

// What was looked at is what is changed: somebody who was changed meanwhile is not changed back.
func TestBatchIsOfWhatWasSeen(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	plan, _ := d.planOf("name,full_name\nalice,Alice\nbob,Bob\n", false)
	none := []string{}
	d.do("user.set", UserSet{Name: "alice", Groups: &none}, nil)
	var done UserBatchDone
	d.do("user.batch", UserBatch{Batch: plan.Batches()[0], Source: "import"}, &done)
	if len(done.Problems) != 1 || done.Record != 0 || d.show("bob") != "" {
		t.Errorf("%+v", done)
	}
}

// P11: each who leaves has a record that says what became of his sessions, and how long it took.
func TestLeavers(t *testing.T) {
	d := newDesk(t)
	h := new(holder)
	d.service.End = h.end
	for _, name := range []string{"alice", "bob", "carol"} {
		d.do("user.add", UserAdd{Name: name, Groups: []string{"network"}}, nil)
		d.report(login.Starts, name, "of "+name, login.NewID())
	}
	d.do("user.add", UserAdd{Name: "robot", Kind: login.Service}, nil)
	plan, _ := d.planOf("name,disabled\nalice,no\nbob,yes\n", true)
	if plan.Leaving() != 2 || !plan.Drastic(0) {
		t.Fatalf("%+v", plan)
	}
	var done UserBatchDone
	since := map[string]time.Time{"bob": noon.Add(-90 * time.Second)}
	d.do("user.batch", UserBatch{Batch: plan.Batches()[0], Source: "directory", File: "ldap", Since: since}, &done)
	if done.Leavers != 2 || len(done.Ended) != 2 {
		t.Errorf("%+v", done)
	}
	var who []string
	for _, rec := range d.records() {
		if rec.Event != EventLeaver {
			continue
		}
		who = append(who, rec.Person)
		if rec.Person == "bob" && !strings.HasPrefix(recordDetail(rec, "after"), "1m3") {
			t.Errorf("record: %+v", rec.Detail)
		}
		if n := recordDetail(rec, "sessions_ended") + recordDetail(rec, "sessions_not_ended"); rec.Result == audit.Info && !strings.HasPrefix(n, "1") {
			t.Errorf("record: %+v", rec)
		}
	}
	slices.Sort(who)
	if !slices.Equal(who, []string{"bob", "carol"}) {
		t.Errorf("records of %q", who)
	}
	for _, name := range who {
		if d.gate.Standing(name).Reason != login.ReasonPersonDisabled {
			t.Errorf("%s may log in", name)
		}
	}
	if d.gate.Standing("alice").Reason != login.ReasonOK || d.gate.Standing("robot").Reason != login.ReasonOK {
		t.Error("somebody who stayed was disabled")
	}
	// Again: nobody is left to leave.
	if plan, _ = d.planOf("name,disabled\nalice,no\nbob,yes\n", true); len(plan.Batches()) != 0 {
		t.Errorf("%+v", plan)
	}
}

// A batch over the socket is judged as a person is who is added alone.
func TestBatchIsChecked(t *testing.T) {
	d := newDesk(t)
	for what, p := range map[string]login.Person{
		"name":         {Name: "../x", Kind: login.Staff},
		"reserved":     {Name: "enrol", Kind: login.Staff},
		"kind":         {Name: "x", Kind: "wizard"},
		"group":        {Name: "x", Kind: login.Staff, Groups: []string{"A B"}},
		"first factor": {Name: "x", Kind: login.Staff, First: "ldap"},
		"mail":         {Name: "x", Kind: login.Staff, Mail: "x\r\ny"},
		"sponsor":      {Name: "x", Kind: login.Supplier, Sponsor: "nobody"},
	} {
		var done UserBatchDone
		good := login.Person{Name: "good", Kind: login.Staff}
		d.do("user.batch", UserBatch{Batch: roll.Batch{Put: []roll.Put{{Person: good}, {Person: p}}}, Source: "import"}, &done)
		if len(done.Problems) == 0 || done.Record != 0 || d.show("good") != "" {
			t.Errorf("%s: %+v", what, done)
		}
	}
}

// P11: where one entry is wrong, a lenient batch leaves that person as he is and takes the rest; whoever is to be shut out is, whatever
// else is wrong with him.
func TestLenientBatch(t *testing.T) {
	d := newDesk(t)
	h := new(holder)
	d.service.End = h.end
	was := make(map[string]login.Person)
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		d.do("user.add", UserAdd{Name: name, Groups: []string{"network"}}, nil)
		d.report(login.Starts, name, "of "+name, login.NewID())
		p, _, err := d.store.PersonByName(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		was[name] = p
	}
	moved := func(name string, change func(*login.Person)) roll.Put {
		p := was[name]
		change(&p)
		return roll.Put{Person: p, Was: roll.Mark(was[name])}
	}
	batch := UserBatch{Source: "directory", File: "ldap", Batch: roll.Batch{
		Put: []roll.Put{
			{Person: login.Person{Name: "erin", Kind: login.Staff, Mail: "nowhere"}},
			{Person: login.Person{Name: "frank", Kind: login.Staff}},
			{Person: login.Person{Name: "ext", Kind: login.Supplier, Sponsor: "erin"}}, // who is not taken
			moved("bob", func(p *login.Person) { p.Mail, p.Groups, p.Disabled = "nowhere", []string{"vpn"}, true }),
			moved("carol", func(p *login.Person) { p.FullName, p.Groups = "Carol\x1b[2J", nil }),
			moved("dave", func(p *login.Person) { p.Groups = []string{"vpn"} }),
		},
		Leave: []string{"alice"},
	}}
	strict, check := batch, batch
	check.Lenient, check.Check, batch.Lenient = true, true, true
	for what, in := range map[string]UserBatch{"strict": strict, "only checked": check} {
		var done UserBatchDone
		d.do("user.batch", in, &done)
		if len(done.Problems) == 0 || done.Record != 0 || len(done.Ended) > 0 || d.show("frank") != "" || d.gate.Standing("alice").Reason != login.ReasonOK {
			t.Errorf("%s: %+v", what, done)
		}
	}
	if got := h.got(); got != "" {
		t.Errorf("asked to end %q", got)
	}
	var done UserBatchDone
	d.do("user.batch", batch, &done)
	var wrong []string
	for _, x := range done.Problems {
		name, _, _ := strings.Cut(x.Text, ":")
		wrong = append(wrong, name+" "+x.Field)
	}
	if want := []string{"erin ", "ext sponsor", "bob ", "carol "}; !slices.Equal(wrong, want) {
		t.Errorf("problems of %q, want %q: %+v", wrong, want, done.Problems)
	}
	if done.Joiners != 1 || done.Movers != 2 || done.Leavers != 2 || done.Record == 0 {
		t.Errorf("%+v", done)
	}
	if got := h.got(); got != "of alice person_left, of bob person_left" {
		t.Errorf("asked to end %q", got)
	}
	holds := func() {
		t.Helper()
		for name, want := range map[string]login.Reason{
			"alice": login.ReasonPersonDisabled, "bob": login.ReasonPersonDisabled, "carol": login.ReasonOK, "dave": login.ReasonOK,
			"erin": login.ReasonUnknownPerson, "ext": login.ReasonUnknownPerson, "frank": login.ReasonOK,
		} {
			if got := d.gate.Standing(name).Reason; got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		for name, want := range map[string]func(*login.Person){
			"bob": func(p *login.Person) { p.Disabled = true }, "carol": func(*login.Person) {}, "dave": func(p *login.Person) { p.Groups = []string{"vpn"} },
		} {
			is, _, err := d.store.PersonByName(t.Context(), name)
			p := was[name]
			if want(&p); err != nil || roll.Mark(is) != roll.Mark(p) {
				t.Errorf("%s is %+v, want %+v; %v", name, is, p, err)
			}
		}
	}
	holds()
	d.restart()
	holds()
}
