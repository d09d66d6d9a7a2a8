package admin

import (
	"encoding/base32"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
)

// redeem comes with a ticket, as `ssh enrol@GATEWAY` does.
func (d *desk) redeem(person, ticket string) login.Enrolment {
	d.t.Helper()
	a := login.Attempt{ID: login.NewID(), Name: person, Protocol: "ssh", Password: login.NewSecret(d.proves)}
	e, o := d.gate.Redeem(d.t.Context(), a, login.NewSecret(ticket))
	if !e.Valid() {
		d.t.Fatalf("the ticket was refused: %s", o.Reason())
	}
	return e
}

// firstCode is what a device shows that has read the secret in.
func (d *desk) firstCode(t Enrolling) string {
	d.t.Helper()
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(t.Secret)
	if err != nil {
		d.t.Fatal(err)
	}
	return otp.Code(seed, t.Params, t.Params.StepAt(d.clock))
}

// What happens to a person or his ticket after he came with it holds before the secret is shown, and again before the first code is
// taken (P11), and is on record (P3): he is shown nothing, and the device does not serve. Others' guesses at his password keep him from nothing.
func TestMeanwhileEnrolling(t *testing.T) {
	for what, c := range map[string]struct {
		meanwhile func(d *desk)
		says      string // empty: he may go on
		why       login.Reason
	}{
		"disabled": {func(d *desk) { d.do("user.disable", PersonIn{"bob"}, nil) }, "may not log in any more: disabled", login.ReasonPersonDisabled},
		"ended": {func(d *desk) {
			d.do("user.set", UserSet{Name: "bob", Until: &d.clock}, nil)
		}, "may not log in any more: ended at", login.ReasonPersonExpired},
		"removed": {func(d *desk) { d.do("user.remove", PersonIn{"bob"}, nil) }, "there is no person", login.ReasonUnknownPerson},
		"removed and added again": {func(d *desk) {
			d.do("user.remove", PersonIn{"bob"}, nil)
			d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
		}, "was used or revoked meanwhile", login.ReasonTicketWrong},
		"ticket revoked":    {func(d *desk) { d.do("token.ticket.revoke", PersonIn{"bob"}, nil) }, "was used or revoked meanwhile", login.ReasonTicketWrong},
		"another ticket":    {func(d *desk) { d.do("token.ticket", TicketIssue{Person: "bob"}, nil) }, "was used or revoked meanwhile", login.ReasonTicketWrong},
		"in the grace":      {func(d *desk) { d.clock = d.clock.Add(minTicket + enrolGrace - time.Second) }, "", ""},
		"the grace is over": {func(d *desk) { d.clock = d.clock.Add(minTicket + enrolGrace) }, "the time of ticket", login.ReasonTicketExpired},
		"locked":            {func(d *desk) { d.lock("bob", login.ReasonLocked) }, "", ""},
		"locked for long":   {func(d *desk) { d.lock("bob", login.ReasonLockedHard) }, "", ""},
		"locked, and disabled": {func(d *desk) {
			d.lock("bob", login.ReasonLocked)
			d.do("user.disable", PersonIn{"bob"}, nil)
		}, "may not log in any more: disabled", login.ReasonPersonDisabled},
		"after a restart": {func(d *desk) { d.restart() }, "", ""},
	} {
		for _, shown := range []bool{false, true} { // whether the secret was, when it happened
			t.Run(what, func(t *testing.T) {
				d := newDesk(t)
				d.proves = "three unlike words"
				d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
				var ticket TicketIssued
				d.do("token.ticket", TicketIssue{Person: "bob", For: minTicket}, &ticket)
				e := d.redeem("bob", ticket.Ticket)
				var token Enrolling
				var err error
				begin := func() {
					if token, err = d.service.BeginEnrolment(d.ctx(), e); err == nil && (token.Secret == "" || token.Token == "") {
						t.Errorf("nothing is shown: %+v", token)
					}
				}
				if shown {
					if begin(); err != nil {
						t.Fatal(err)
					}
				}
				c.meanwhile(d)
				before := len(d.records())
				if !shown {
					begin()
				}
				right := false
				if err == nil {
					right, err = d.service.ConfirmEnrolment(d.ctx(), e, token.Token, d.firstCode(token))
				}
				var serving []TokenInfo
				d.do("token.list", TokenList{}, &serving)
				if c.says == "" {
					if err != nil || !right || len(serving) != 1 || serving[0].State != login.TokenActive || len(d.gate.Tickets("bob")) != 0 {
						t.Errorf("%v, %v, %+v", right, err, serving)
					}
					return
				}
				if err == nil || right || !strings.Contains(asError(err).Text, c.says) {
					t.Errorf("%v, %v; want %q", right, err, c.says)
				}
				for _, x := range serving {
					if x.State == login.TokenActive {
						t.Errorf("%+v serves", x)
					}
				}
				event := "token.enrol"
				if shown {
					event = "token.confirm"
				}
				told := d.records()[before:]
				if len(told) != 1 || told[0].Event != event || told[0].Result != audit.Reject || told[0].Reason != string(c.why) || told[0].Person != "bob" ||
					recordDetail(told[0], login.DetailTicket) != ticket.ID {
					t.Errorf("on record: %+v", told)
				}
				if !shown && token.Secret != "" {
					t.Error("the secret was shown")
				}
			})
		}
	}
}

// lock has others guess until a person is locked.
func (d *desk) lock(person string, want login.Reason) {
	d.t.Helper()
	for range 100 {
		if d.gate.Standing(person).Reason == want {
			return
		}
		if d.gate.Standing(person).Reason == login.ReasonLocked {
			d.clock = d.clock.Add(time.Minute) // the ticket's time goes on
		}
		d.gate.Decide(d.t.Context(), login.Attempt{
			ID: login.NewID(), Name: person, Protocol: "radius", System: login.System{Name: "vpn"}, Capability: login.MayLogin, Password: login.NewSecret("a guess"),
		})
	}
	d.t.Fatalf("%s is %s after a hundred guesses", person, d.gate.Standing(person).Reason)
}
