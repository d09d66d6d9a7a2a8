package admin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/otp"
)

// holder notes what it is asked to end.
type holder struct {
	mu    sync.Mutex
	asked []string // "session why"
	deaf  bool
}

func (h *holder) end(_ context.Context, s login.Session, why string) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, s.Get(login.DetailSession)+" "+why)
	if h.deaf {
		return "no answer", false
	}
	return "ack", true
}

func (h *holder) got() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.Sort(h.asked)
	all := strings.Join(h.asked, ", ")
	h.asked = nil
	return all
}

// report lets a NAS tell of a session.
func (d *desk) report(stage login.Stage, person, session, attempt string) {
	d.t.Helper()
	d.clock = d.clock.Add(time.Second) // sessions stand in the order of their starts
	a := login.Attempt{ID: attempt, Name: person, Protocol: "radius", System: login.System{Name: "vpn"}}
	if _, err := d.gate.AskAccounting(login.Accounting{Attempt: a, Stage: stage, NAS: "nas", Session: session, Reason: "none"}).Wait(); err != nil {
		d.t.Fatal(err)
	}
}

// login records one that a token proved.
func (d *desk) login(person, token string) (attempt string) {
	d.t.Helper()
	attempt = login.NewID()
	rec := &audit.Record{
		Time: d.clock, Event: "login", Result: audit.Accept, Person: person, Login: person, Protocol: "radius", System: "vpn", Attempt: attempt,
		Factors: []audit.Factor{{Kind: "have", Method: "totp", Token: token, Result: "ok"}},
	}
	if _, err := d.log.Append(rec, nil); err != nil {
		d.t.Fatal(err)
	}
	return attempt
}

// What a person has open ends when he is shut out, and what a token opened when it is revoked; the record says what the
// NAS answered, and a NAS that does not answer stops nothing.
func TestSessionsEnd(t *testing.T) {
	d := newDesk(t)
	h := &holder{}
	d.service.End = h.end
	for _, name := range []string{"bob", "carol"} {
		d.do("user.add", UserAdd{Name: name, Groups: []string{"network"}}, nil)
	}
	var first, second TokenEnrolled
	d.do("token.enrol", TokenEnrol{Person: "bob", Active: true, Params: otp.Default()}, &first)
	d.do("token.enrol", TokenEnrol{Person: "bob", Active: true, Params: otp.Default()}, &second)
	d.report(login.Starts, "bob", "1", d.login("bob", first.ID))
	d.report(login.Starts, "bob", "2", d.login("bob", second.ID))
	d.report(login.Starts, "bob", "3", "") // of no login that is known
	d.report(login.Starts, "carol", "4", "")
	d.report(login.Starts, "carol", "5", "")
	d.report(login.Ends, "carol", "5", "")

	var list []login.Session
	d.do("session.list", SessionList{Person: "bob"}, &list)
	if len(list) != 3 || list[0].Get(login.DetailSession) != "1" {
		t.Errorf("%+v", list)
	}
	var revoked TokenRevoked
	d.do("token.revoke", TokenIn{ID: first.ID}, &revoked)
	if got := h.got(); got != "1 token_revoked, 3 token_revoked" || len(revoked.Ended) != 2 || !revoked.Ended[0].Ended {
		t.Errorf("asked to end %q: %+v", got, revoked.Ended)
	}
	h.deaf = true
	var done Done
	d.do("user.disable", PersonIn{Name: "bob"}, &done)
	if got := h.got(); got != "1 person_disabled, 2 person_disabled, 3 person_disabled" || done.Ended[0].Ended || done.Ended[0].Answer != "no answer" {
		t.Errorf("asked to end %q: %+v", got, done.Ended)
	}
	d.do("user.enable", PersonIn{Name: "bob"}, nil)
	if got := h.got(); got != "" {
		t.Errorf("asked to end %q", got)
	}
	h.deaf = false
	var killed EndedSession
	d.do("session.list", SessionList{Person: "carol"}, &list)
	d.do("session.kill", SessionKill{ID: list[0].ID[:30], Reason: "left her desk"}, &killed)
	if got := h.got(); got != "4 operator" || killed.ID != list[0].ID || !killed.Ended {
		t.Errorf("asked to end %q: %+v", got, killed)
	}
	d.do("user.remove", PersonIn{Name: "carol"}, nil)
	if got := h.got(); got != "4 person_removed" {
		t.Errorf("asked to end %q", got)
	}
	d.refused("session.kill", SessionKill{ID: "nobody"})
	d.refused("session.kill", SessionKill{ID: ""})
	d.refused("session.kill", SessionKill{ID: list[0].ID[:4]}) // more than one begins so

	answers := make(map[string]int)
	err := finder{d.log}.Find(t.Context(), audit.Filter{Event: "session.kill"}, func(rec *audit.Record) error {
		for _, x := range rec.Detail {
			if x.Key == "answer" {
				answers[string(rec.Result)+" "+x.Value]++
			}
		}
		if rec.Session == "none" || rec.System != "vpn" || rec.Protocol != "radius" {
			return errors.New(string(rec.AppendJSON(nil)))
		}
		return nil
	})
	if err != nil || answers["info ack"] != 4 || answers["error no answer"] != 3 {
		t.Errorf("%v, %v", answers, err)
	}
	d.restart()
}

// Sessions end with their person's time, without anybody asking. A silent NAS is asked thrice, and no more.
func TestSweep(t *testing.T) {
	d := newDesk(t)
	h := &holder{deaf: true}
	d.service.End = h.end
	until := d.clock.Add(time.Hour)
	d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}, Until: until}, nil)
	d.do("user.add", UserAdd{Name: "carol", Groups: []string{"network"}}, nil)
	d.report(login.Starts, "bob", "1", "")
	d.report(login.Starts, "carol", "2", "")
	sweep := func(want string) {
		t.Helper()
		if _, err := d.service.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.got(); got != want {
			t.Errorf("asked to end %q, want %q", got, want)
		}
	}
	sweep("")
	d.clock = until
	for range sweepTries {
		sweep("1 person_expired")
	}
	sweep("")
	d.report(login.Ends, "bob", "1", "")
	d.report(login.Starts, "bob", "3", "")
	h.deaf = false
	sweep("3 person_expired")
}

// P11: the session of somebody who was disabled while its NAS was silent is asked for again until it has ended, and no more than
// sweepTries times; each wish is on record.
func TestSweepAsksForTheDisabled(t *testing.T) {
	d := newDesk(t)
	h := &holder{deaf: true}
	d.service.End = h.end
	for _, name := range []string{"bob", "carol", "dave"} {
		d.do("user.add", UserAdd{Name: name, Groups: []string{"network"}}, nil)
		d.report(login.Starts, name, "of "+name, "")
	}
	sweep := func(want string) {
		t.Helper()
		if _, err := d.service.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.got(); got != want {
			t.Errorf("asked to end %q, want %q", got, want)
		}
	}
	disable := func(names ...string) {
		t.Helper()
		for _, name := range names {
			d.do("user.disable", PersonIn{name}, nil)
		}
		h.got()
	}
	sweep("")
	disable("bob", "dave")
	sweep("of bob person_disabled, of dave person_disabled")
	h.deaf = false
	sweep("of bob person_disabled, of dave person_disabled")
	d.report(login.Ends, "bob", "of bob", "")
	h.deaf = true
	sweep("of dave person_disabled")
	sweep("")
	// Disabled anew, he is asked for anew.
	d.do("user.enable", PersonIn{"dave"}, nil)
	sweep("")
	disable("dave")
	for range sweepTries {
		sweep("of dave person_disabled")
	}
	sweep("")
	told := make(map[string]int)
	for _, rec := range d.records() {
		if rec.Event == "session.kill" && rec.Reason == WhyDisabled {
			told[rec.Person+" "+recordDetail(rec, "answer")]++
		}
	}
	// Beside what Sweep asked, each disabling did once.
	if told["bob no answer"] != 2 || told["bob ack"] != 1 || told["dave no answer"] != 2+2+sweepTries || told["dave ack"] != 1 || len(told) != 4 {
		t.Errorf("%v", told)
	}
}

// A person may have a first factor of his own, of those that there are.
func TestFirstFactorOfAPerson(t *testing.T) {
	d := newDesk(t)
	d.service.Firsts = func() []string { return []string{"ldap", "local"} }
	d.do("user.add", UserAdd{Name: "bob", First: "local"}, nil)
	var info UserInfo
	d.do("user.show", PersonIn{Name: "bob"}, &info)
	if info.First != "local" {
		t.Errorf("%+v", info)
	}
	other := ""
	d.do("user.set", UserSet{Name: "bob", First: &other}, nil)
	d.restart()
	info = UserInfo{}
	d.do("user.show", PersonIn{Name: "bob"}, &info)
	if info.First != "" {
		t.Errorf("%+v", info)
	}
	d.refused("user.add", UserAdd{Name: "carol", First: "kerberos"})
}

// counted is a Finder that counts.
type counted struct {
	Finder
	n int
}

func (c *counted) Find(ctx context.Context, f audit.Filter, fn func(*audit.Record) error) error {
	c.n++
	return c.Finder.Find(ctx, f, fn)
}

// A session that an exception let in ends with it, and no other; the record of each login is looked for once, however often the
// sweep comes by, and no directory is asked where no rule asks for a grant.
func TestSweepEndsWhatAnExceptionLetIn(t *testing.T) {
	d := newDesk(t)
	h, finds, asked := &holder{}, &counted{Finder: d.service.Finder}, 0
	d.service.End, d.service.Finder = h.end, finds
	d.service.Directory = func(context.Context, string) ([]string, bool, error) { asked++; return nil, false, nil }
	for _, name := range []string{"pump", "carol"} {
		d.do("user.add", UserAdd{Name: name, Groups: []string{"network"}}, nil)
	}
	p := *d.gate.Policy()
	p.Rules = append(policy.Rules{}, p.Rules...)
	p.Rules[0].Exception = "EX-1"
	d.gate.SetPolicy(&p)
	entry := login.Exception{ID: "EX-1", Version: 1, Requester: "a", Approval: login.Approval{By: "b"}, From: d.clock, Until: d.clock.Add(48 * time.Hour), Review: d.clock.Add(48 * time.Hour)}
	d.gate.Apply(login.Change{PutException: &entry})
	for session, exception := range map[string]string{"1": "EX-1", "2": "", "3": "EX-2"} {
		person := map[string]string{"1": "pump"}[session]
		if person == "" {
			person = "carol"
		}
		attempt := login.NewID()
		rec := &audit.Record{Time: d.clock, Event: "login", Result: audit.Accept, Person: person, Login: person, Protocol: "radius", System: "vpn", Attempt: attempt, Exception: exception}
		if _, err := d.log.Append(rec, nil); err != nil {
			t.Fatal(err)
		}
		d.report(login.Starts, person, session, attempt)
	}
	sweep := func(want string) {
		t.Helper()
		if _, err := d.service.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.got(); got != want {
			t.Errorf("asked to end %q, want %q", got, want)
		}
	}
	sweep("")
	if finds.n != 0 {
		t.Errorf("%d searches while the entry holds", finds.n)
	}
	entry.Version, entry.Ended = 2, d.clock
	d.gate.Apply(login.Change{PutException: &entry})
	sweep("1 exception_over")
	d.report(login.Ends, "pump", "1", "")
	sweep("")
	if finds.n != 3 {
		t.Errorf("%d searches for three sessions", finds.n)
	}
	if asked != 0 {
		t.Errorf("the directory was asked %d times", asked)
	}
	p.Rules[0].Grant = true
	d.gate.SetPolicy(&p)
	sweep("2 grant_over, 3 grant_over")
	if asked != 2 {
		t.Errorf("the directory was asked %d times for two sessions", asked)
	}
}
