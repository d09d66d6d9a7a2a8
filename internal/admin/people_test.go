package admin

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/login"
	"sallyport/otp"
)

func date(s string) login.Date {
	var d login.Date
	if err := d.UnmarshalText([]byte(s)); err != nil {
		panic(err)
	}
	return d
}

// What a supplier, a service and a break-glass identity should have is told, and refused where the configuration is strict.
func TestParticulars(t *testing.T) {
	d := newDesk(t)
	strict := false
	d.service.People = func() PeopleRules { return PeopleRules{Strict: strict} }
	d.do("user.add", UserAdd{Name: "alice", Kind: login.Staff}, nil)
	var done UserDone
	d.do("user.add", UserAdd{Name: "ext-jones", Kind: login.Supplier}, &done)
	if len(done.Warnings) != 1 || !strings.Contains(done.Warnings[0], "company, sponsor, contract end or until") {
		t.Errorf("warnings: %q", done.Warnings)
	}
	whole := Particulars{FullName: "Joan Jones", Mail: "jones@pumps.example", Company: "Pumps Ltd", Sponsor: "alice", Contract: date("2026-12-31")}
	done = UserDone{}
	d.do("user.add", UserAdd{Name: "ext-smith", Kind: login.Supplier, Particulars: whole}, &done)
	p, _ := d.service.person(d.ctx(), "ext-smith")
	if len(done.Warnings) != 0 || !p.Until.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) || p.Company != "Pumps Ltd" {
		t.Errorf("%q, %+v", done.Warnings, p)
	}
	// A longer contract moves the end of his time with it, unless that was said otherwise.
	longer := date("2027-06-30")
	d.do("user.set", UserSet{Name: "ext-smith", ParticularsSet: ParticularsSet{Contract: &longer}}, nil)
	if p, _ = d.service.person(d.ctx(), "ext-smith"); !p.Until.Equal(time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("until %v", p.Until)
	}
	early := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	d.do("user.set", UserSet{Name: "ext-smith", Until: &early}, nil)
	again := date("2028-06-30")
	d.do("user.set", UserSet{Name: "ext-smith", ParticularsSet: ParticularsSet{Contract: &again}}, nil)
	if p, _ = d.service.person(d.ctx(), "ext-smith"); !p.Until.Equal(early) {
		t.Errorf("until %v", p.Until)
	}

	strict = true
	for what, in := range map[string]UserAdd{
		"no company":            {Name: "x", Kind: login.Supplier, Particulars: Particulars{Sponsor: "alice", Contract: date("2026-12-31")}},
		"no owner":              {Name: "x", Kind: login.Service},
		"no owner, break-glass": {Name: "x", Kind: login.BreakGlass},
		"unknown sponsor":       {Name: "x", Kind: login.Supplier, Particulars: Particulars{Company: "c", Sponsor: "nobody", Contract: date("2026-12-31")}},
		"sponsor of no staff":   {Name: "x", Kind: login.Supplier, Particulars: Particulars{Company: "c", Sponsor: "ext-smith", Contract: date("2026-12-31")}},
		"his own owner":         {Name: "x", Kind: login.Staff, Particulars: Particulars{Owner: "x"}},
		"two lines":             {Name: "x", Kind: login.Staff, Particulars: Particulars{FullName: "a\nb"}},
		"no mail address":       {Name: "x", Kind: login.Staff, Particulars: Particulars{Mail: "jones"}},
		"header injection":      {Name: "x", Kind: login.Staff, Particulars: Particulars{Mail: "a@b\r\nBcc: c@d"}},
		"reserved":              {Name: "enrol", Kind: login.Staff},
	} {
		if err := d.refused("user.add", in); err.Text == "" {
			t.Errorf("%s: no reason", what)
		}
	}
	// What he lacked before keeps nobody from shutting him out sooner.
	d.do("user.set", UserSet{Name: "ext-jones", Until: &early}, nil)
	service := login.Service
	d.refused("user.set", UserSet{Name: "alice", Kind: &service})
	// A sponsor who has left is a gap, and no obstacle.
	d.do("user.remove", PersonIn{"alice"}, nil)
	d.do("user.set", UserSet{Name: "ext-smith", Until: &early}, nil)
}

// token.lost is one record: it revokes, and issues a ticket; what the tokens opened ends.
func TestTokenLost(t *testing.T) {
	d := newDesk(t)
	h := new(holder)
	d.service.End = h.end
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	var first, second TokenEnrolled
	d.do("token.enrol", TokenEnrol{Person: "alice", Params: otp.Default(), Active: true}, &first)
	d.do("token.enrol", TokenEnrol{Person: "alice", Params: otp.Default()}, &second)
	d.refused("token.lost", TokenLost{What: "alice"})
	d.refused("token.lost", TokenLost{What: "alice", Reason: strings.Repeat("x", 501)})
	d.refused("token.lost", TokenLost{What: "nobody", Reason: "lost"})
	d.report(login.Starts, "alice", "1", d.login("alice", first.ID))
	var out TokenLostDone
	d.do("token.lost", TokenLost{What: "alice", Reason: "phone stolen", Verified: "called back"}, &out)
	if len(out.Tokens) != 2 || out.Ticket == "" || len(out.Ended) != 1 {
		t.Errorf("%+v", out)
	}
	var lost int
	for _, rec := range d.records() {
		if rec.Event == "token.lost" {
			lost++
			if recordDetail(rec, "reason") != "phone stolen" || recordDetail(rec, "verified_by") != "called back" || recordDetail(rec, "ticket") != out.Issued.ID {
				t.Errorf("record: %+v", rec.Detail)
			}
			if containsText(&rec, out.Ticket) {
				t.Error("the ticket is in the record")
			}
		}
	}
	if lost != 1 || d.gate.Standing("alice").Tokens != 0 {
		t.Errorf("%d records, %d tokens serve", lost, d.gate.Standing("alice").Tokens)
	}
	d.restart()
	if open := d.gate.Tickets("alice"); len(open) != 1 || open[0].ID != out.Issued.ID {
		t.Errorf("tickets after a restart: %+v", open)
	}
	// A new ticket takes the place of the old one, and revoking it leaves none.
	d.do("token.ticket", TicketIssue{Person: "alice"}, nil)
	if open := d.gate.Tickets("alice"); len(open) != 1 || open[0].ID == out.Issued.ID {
		t.Errorf("tickets: %+v", open)
	}
	d.do("token.ticket.revoke", PersonIn{"alice"}, nil)
	d.refused("token.ticket.revoke", PersonIn{"alice"})
	d.refused("token.ticket", TicketIssue{Person: "alice", For: time.Minute})
	d.refused("token.ticket", TicketIssue{Person: "alice", For: 30 * 24 * time.Hour})
	d.do("user.add", UserAdd{Name: "robot", Kind: login.Service}, nil)
	d.refused("token.ticket", TicketIssue{Person: "robot"})
	d.restart()
	if open := d.gate.Tickets(""); len(open) != 0 {
		t.Errorf("tickets after a restart: %+v", open)
	}
	if e := (login.Enrolment{Person: "alice"}); true {
		if _, err := d.service.BeginEnrolment(d.ctx(), e); err == nil {
			t.Error("an enrolment without a record was begun")
		}
	}
}

// Passwords that are tried first are refused, whoever sets them, and the least length is the configuration's.
func TestPasswords(t *testing.T) {
	d := newDesk(t)
	d.service.People = func() PeopleRules { return PeopleRules{MinPassword: 14} }
	d.do("user.add", UserAdd{Name: "alice", Particulars: Particulars{FullName: "Alice Smith"}}, nil)
	for _, bad := range []string{"short one", "thirteen char", "password123456789", "alicesmith123456"} {
		if err := d.refused("user.password", UserPassword{"alice", bad}); strings.Contains(err.Text+err.Hint, bad) {
			t.Errorf("the refusal repeats the password: %s", err.Text)
		}
		d.refused("user.set", UserSet{Name: "alice", Password: &bad})
		d.refused("user.add", UserAdd{Name: "alicesmith", Password: bad})
	}
	d.do("user.password", UserPassword{"alice", "seven unlike words of hers"}, nil)
	d.refused("user.password", UserPassword{"bob", "seven unlike words of hers"})
	if err := d.service.ChangePassword(d.ctx(), login.Grant{Person: "alice"}, login.NewSecret("seven other words of hers")); err == nil {
		t.Error("somebody who has not logged in changed a password")
	}
}

// The gaps that an auditor would find are found, and people who cannot log in have none.
func TestGaps(t *testing.T) {
	d := newDesk(t)
	gaps := func() map[string]string {
		t.Helper()
		var list []Gap
		d.do("user.gaps", GapsIn{}, &list)
		all := make(map[string]string)
		for _, g := range list {
			all[g.Person] = strings.TrimSpace(all[g.Person] + " " + g.Gap)
		}
		return all
	}
	want := func(what string, want map[string]string) {
		t.Helper()
		got := gaps()
		for name := range got {
			if _, known := want[name]; !known {
				want[name] = ""
			}
		}
		for name, w := range want {
			if got[name] != w {
				t.Errorf("%s: %s: %q, want %q", what, name, got[name], w)
			}
		}
	}
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}, Password: "seven unlike words"}, nil)
	d.do("user.add", UserAdd{Name: "bob"}, nil)
	d.do("user.add", UserAdd{Name: "carol", Groups: []string{"network"}}, nil)
	d.do("user.add", UserAdd{Name: "ext-smith", Kind: login.Supplier, Particulars: Particulars{Company: "c", Sponsor: "bob", Contract: date("2026-07-31")}}, nil)
	d.do("user.add", UserAdd{Name: "robot", Kind: login.Service, Groups: []string{"network"}}, nil)
	d.do("key.add", KeyAdd{Person: "alice", Line: keyLine}, nil)
	var tok TokenEnrolled
	d.do("token.enrol", TokenEnrol{Person: "alice", Params: otp.Default(), Active: true}, &tok)
	want("at first", map[string]string{"alice": "token_unused key_unused", "carol": "no_token no_password", "robot": "lacks"})

	d.login("alice", tok.ID)
	d.restart()
	want("alice was in", map[string]string{"alice": "key_unused", "carol": "no_token no_password", "robot": "lacks"})

	d.do("user.remove", PersonIn{"bob"}, nil)
	d.do("user.disable", PersonIn{"carol"}, nil)
	far := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	d.do("user.set", UserSet{Name: "ext-smith", Until: &far}, nil)
	d.clock = noon.AddDate(0, 0, 44)
	want("after 44 days", map[string]string{"alice": "key_unused", "robot": "lacks", "ext-smith": "contract_ended answering_gone"})
	d.clock = noon.AddDate(0, 0, 46)
	d.restart()
	want("after 46 days and a restart", map[string]string{
		"alice": "dormant key_unused", "robot": "lacks dormant", "ext-smith": "contract_ended answering_gone dormant",
	})
	var rows []UserRow
	d.do("user.list", UserList{Dormant: 45 * 24 * time.Hour, Kinds: []login.PersonKind{login.Staff}}, &rows)
	if len(rows) != 1 || rows[0].Name != "alice" || !rows[0].Last.Equal(noon) {
		t.Errorf("dormant staff: %+v", rows)
	}
	d.do("user.list", UserList{Disabled: true}, &rows)
	if len(rows) != 1 || rows[0].Name != "carol" {
		t.Errorf("disabled: %+v", rows)
	}
}
