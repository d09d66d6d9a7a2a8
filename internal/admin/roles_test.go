package admin

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
)

// Each verb has a row in the table of duties, so that none is open to a role by an oversight.
func TestEveryVerbHasADuty(t *testing.T) {
	d := newDesk(t)
	table := duties()
	for _, verb := range d.service.Verbs() {
		if _, known := table[verb]; !known {
			t.Errorf("%s: who may call it is not said in duties", verb)
		}
	}
	for verb, duty := range table {
		for _, role := range duty.roles {
			if role == RoleAuditor && !duty.reads && !strings.HasPrefix(verb, "audit.") && !strings.HasPrefix(verb, "recording.") && verb != "session.show" && verb != "status" && !strings.HasPrefix(verb, "report.") {
				t.Errorf("%s: an auditor could change something", verb)
			}
		}
	}
}

// A role does what is its, and nothing else; what it tries beyond is on record.
func TestRoles(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	role := Role("")
	d.service.Operator = func(a Actor) Actor { a.Name, a.User, a.Role = "jane.smith", "jsmith", role; return a }
	for _, c := range []struct {
		role Role
		verb string
		in   any
		may  bool
	}{
		{"", "user.list", Empty{}, false},
		{"owner", "user.list", Empty{}, false},
		{RoleAuditor, "user.list", Empty{}, true},
		{RoleAuditor, "exception.list", ExceptionList{}, true},
		{RoleAuditor, "user.unlock", PersonIn{"alice"}, false},
		{RoleAuditor, "user.add", UserAdd{Name: "mallory"}, false},
		{RoleAuditor, "token.enrol", TokenEnrol{Person: "alice"}, false},
		{RoleAuditor, "exception.approve", ExceptionApprove{ID: "EX-1"}, false},
		{RoleAuditor, "grant.add", GrantAdd{Person: "alice"}, false},
		{RoleAuditor, "target.credential", struct{}{}, false},
		{RoleHelpDesk, "user.unlock", PersonIn{"alice"}, true},
		{RoleHelpDesk, "user.set", UserSet{Name: "alice"}, false},
		{RoleHelpDesk, "exception.add", ExceptionIn{}, false},
		{RoleHelpDesk, "access.attest", AccessAttest{Person: "alice"}, false},
		{RoleAdmin, "user.disable", PersonIn{"alice"}, true},
	} {
		role = c.role
		n := len(d.allRecords())
		err := d.service.Call(t.Context(), c.verb, c.in, nil)
		recs := d.allRecords()[n:]
		if (err == nil) != c.may || len(recs) != 1 {
			t.Errorf("%s %s: %v, %d records", c.role, c.verb, err, len(recs))
			continue
		}
		rec := recs[0]
		if !c.may && (rec.Event != "admin.refused" || rec.Result != audit.Reject || recordDetail(rec, "verb") != c.verb) {
			t.Errorf("%s %s: record %s %s", c.role, c.verb, rec.Event, rec.Result)
		}
		if recordDetail(rec, "actor") != "jane.smith" || recordDetail(rec, "actor_user") != "jsmith" || c.role != "" && recordDetail(rec, "role") != string(c.role) {
			t.Errorf("%s %s: who it was: %+v", c.role, c.verb, rec.Detail)
		}
	}
	// A stranger cannot fill the disk with refusals (P7), and an operator's are all told.
	role = ""
	n := len(d.allRecords())
	for range 50 {
		d.refused("user.list", Empty{})
		d.refused("user.show", PersonIn{"alice"})
	}
	if got := len(d.allRecords()) - n; got > 1 {
		t.Errorf("%d records of a stranger's refusals", got)
	}
	role = RoleHelpDesk
	if err := d.service.Stream(t.Context(), "audit.export", Empty{}, new(bytes.Buffer)); err == nil {
		t.Error("the help desk exports the log")
	}
}

// Who looked at what is a record, made before he sees it; what a search finds doesn't hold itself.
func TestReadingIsRecorded(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	var people []UserRow
	d.do("user.list", Empty{}, &people)
	all := d.allRecords()
	if rec := all[len(all)-1]; rec.Event != "read.user.list" || rec.Result != audit.Info {
		t.Errorf("record %+v", rec)
	}
	var out bytes.Buffer
	for range 2 {
		out.Reset()
		if err := d.service.Stream(t.Context(), "audit.search", AuditSearch{Person: "none"}, &out); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), `"event":"audit.search"`); n != 1 {
		t.Errorf("the second search shows %d searches, want the first alone:\n%s", n, out.String())
	}
	out.Reset()
	if err := d.service.Stream(t.Context(), "audit.search", AuditSearch{NoReads: true}, &out); err != nil || strings.Contains(out.String(), `"event":"read.`) || strings.Contains(out.String(), `"event":"audit.search"`) {
		t.Errorf("%v:\n%s", err, out.String())
	}
	if err := d.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.service.Call(t.Context(), "user.list", Empty{}, &people); err == nil {
		t.Error("people are listed although that cannot be recorded")
	}
}

// Nobody approves for himself, and with four eyes not what he asked for, either.
func TestFourEyes(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	who, four := "alice", false
	d.service.Operator = func(a Actor) Actor { a.Name, a.Role = who, RoleAdmin; return a }
	d.service.FourEyes = func() bool { return four }
	job := GrantAdd{Person: "alice", Systems: []string{"*"}, Until: time.Now().Add(1000 * time.Hour), Ticket: "CHG-1"}
	d.refused("grant.add", job)
	job.Approver = "bob"
	d.refused("grant.add", job) // whatever name she enters
	who, job.Approver = "bob", ""
	d.do("grant.add", job, nil)
	four = true
	d.refused("grant.add", job)
	job.AskOnly = true
	var g GrantIs
	d.do("grant.add", job, &g)
	d.refused("grant.approve", GrantIn{ID: g.ID})
	who = "alice"
	d.refused("grant.approve", GrantIn{ID: g.ID})
	who = "carol"
	d.refused("grant.approve", GrantIn{ID: g.ID, By: "dave"}) // she looks with her own eyes
	d.do("grant.approve", GrantIn{ID: g.ID}, &g)
	if g.State != "live" || g.Approver != "carol" {
		t.Errorf("%+v", g)
	}
	// Whose wish it was said to be makes nobody another.
	who, job.Requester = "bob", "carol"
	d.do("grant.add", job, &g)
	d.refused("grant.approve", GrantIn{ID: g.ID})
	job.AskOnly = false
	d.refused("grant.add", job)
}

// With four eyes, who wrote what is asked for approves no entry of the register, and reviews none; whoever he says has asked for it, and
// whatever was done to it since.
func TestFourEyesOfExceptions(t *testing.T) {
	d := newDesk(t)
	who := "alice"
	d.service.Operator = func(a Actor) Actor { a.Name, a.Role = who, RoleAdmin; return a }
	d.service.FourEyes = func() bool { return true }
	day := func(n int) login.Date { return login.DateOf(d.clock.AddDate(0, 0, n)) }
	in := ExceptionIn{
		Title: "pump", Rationale: "old", Requester: "ward 7", Risk: ExceptionRisk{Threat: "x", Likelihood: 1, Impact: 1, Assessor: "y"},
		Scope: ExceptionScope{People: []string{"pump"}, Systems: []string{"vpn"}, Factors: []login.Kind{login.Know}},
		Plan:  ExceptionPlan{Text: "replace", Owner: "z", Target: day(80)}, From: day(0), Until: day(90), Review: day(60),
	}
	yes := ExceptionApproval{By: "siro", Role: "SIRO", Body: "board", Reference: "B-1", Date: day(0)}
	given := in
	given.Approval = yes
	d.refused("exception.add", given)
	var x ExceptionIs
	d.do("exception.add", in, &x)
	d.refused("exception.approve", ExceptionApprove{ID: x.ID, ExceptionApproval: yes})
	who = "bob"
	d.do("exception.reported", ExceptionReported{ID: x.ID, In: "interim"}, nil)
	who = "alice"
	d.refused("exception.approve", ExceptionApprove{ID: x.ID, ExceptionApproval: yes}) // it is still what she wrote
	who = "bob"
	d.refused("exception.set", ExceptionSet{ID: x.ID, ExceptionIn: given}) // he would write it and approve it
	d.do("exception.set", ExceptionSet{ID: x.ID, ExceptionIn: in}, nil)
	d.refused("exception.approve", ExceptionApprove{ID: x.ID, ExceptionApproval: yes})
	who = "carol"
	d.do("exception.approve", ExceptionApprove{ID: x.ID, ExceptionApproval: yes}, &x)
	if x.State != "live" || x.EnteredBy != "bob" || x.Approval.Recorded != "carol" {
		t.Errorf("%+v", x)
	}
	who = "bob"
	keep := ExceptionReview{ID: x.ID, By: "dave", Decision: "keep", Next: day(80)}
	d.refused("exception.review", keep)
	who = "carol"
	d.do("exception.review", keep, nil)
}

// The help desk gives no factor to whom it could then pose as with more rights than its own.
func TestHelpDeskMakesNoAdmin(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	d.do("user.add", UserAdd{Name: "root", Groups: []string{"network"}}, nil)
	d.do("user.add", UserAdd{Name: "desk", Groups: []string{"network"}}, nil)
	d.do("user.add", UserAdd{Name: "fire", Kind: login.BreakGlass, Groups: []string{"network"}}, nil)
	if r, err := d.take(table(1), TokenImport{}); err != nil || len(r.Faults) > 0 {
		t.Fatal(r.Faults, err)
	}
	var stock []StockInfo
	d.do("token.stock", StockList{}, &stock)
	role := RoleHelpDesk
	d.service.Operator = func(a Actor) Actor { a.Name, a.Role = "desk", role; return a }
	d.service.IsAdmin = func(person string) bool { return person == "root" }
	verbs := func(who string) map[string]any {
		return map[string]any{
			"user.password":  UserPassword{Name: who, Password: "a password of 20 letters"},
			"token.enrol":    TokenEnrol{Person: who, Params: otp.Default(), Active: true},
			"token.ticket":   TicketIssue{Person: who},
			"token.recovery": PersonIn{who},
			"token.lost":     TokenLost{What: who, Reason: "lost"},
			"token.assign":   TokenAssign{Serial: stock[0].Serial, Person: who, Active: true},
		}
	}
	for _, who := range []string{"root", "desk", "fire"} {
		role = RoleAdmin
		var kept TokenEnrolled
		d.do("token.enrol", TokenEnrol{Person: who, Params: otp.Default(), Active: true}, &kept)
		role = RoleHelpDesk
		for verb, in := range verbs(who) {
			before := len(d.records())
			if e := d.refused(verb, in); e == nil || !strings.Contains(e.Text, "help desk") {
				t.Errorf("%s of %s: %v", verb, who, e)
			}
			all := d.records()
			if rec := all[len(all)-1]; len(all) != before+1 || rec.Event != "admin.refused" || recordDetail(rec, "subject") != who {
				t.Errorf("%s of %s: %d records, the last %s", verb, who, len(all)-before, rec.AppendJSON(nil))
			}
		}
		d.do("token.revoke", TokenIn{ID: kept.ID}, nil) // what shuts out is not refused
	}
	for _, verb := range []string{"user.password", "token.enrol", "token.lost", "token.ticket", "token.recovery", "token.assign"} {
		d.do(verb, verbs("alice")[verb], nil)
	}
}

// One user has so many connections to the socket at a time and no more (P7); those that close make room.
func TestConnectionsOfAUser(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	limited := LimitUsers(l)
	defer limited.Close()
	accepted := make(chan net.Conn, 2*MaxConnsOfUser)
	go func() {
		for {
			c, err := limited.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var held []net.Conn
	for range MaxConnsOfUser {
		dial()
		held = append(held, <-accepted)
	}
	if n, err := dial().Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("one more: %d bytes, %v", n, err)
	}
	held[0].Close()
	held[0].Close()
	dial()
	held = append(held, <-accepted)
	if n, err := dial().Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after one has closed twice, two more: %d bytes, %v", n, err)
	}
	for _, c := range held {
		c.Close()
	}
}
