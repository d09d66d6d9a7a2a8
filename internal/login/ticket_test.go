package login

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/otp"
)

// ticketOf gives somebody a ticket.
func (b *bench) ticketOf(person string) (text string, x Ticket) {
	b.t.Helper()
	text, hash := NewTicket()
	x = Ticket{ID: "tt-" + person, Person: person, Hash: hash, Params: otp.Default(), State: TicketOpen, Created: b.now(), Until: b.now().Add(time.Hour)}
	b.people = append(b.people, Change{PutTicket: &x})
	b.gate.Apply(Change{PutTicket: &x})
	return text, x
}

func (b *bench) redeem(name, ticket, password string) (Enrolment, Outcome) {
	return b.gate.Redeem(context.Background(), Attempt{ID: NewID(), Name: name, Protocol: "ssh", Password: NewSecret(password)}, NewSecret(ticket))
}

// P2, P6: a ticket is taken a few times at most, over restarts, and every refusal looks the same.
func TestRedeem(t *testing.T) {
	b := newBench(t)
	text, _ := b.ticketOf("alice")
	other, _ := b.ticketOf("bob")
	for _, c := range []struct {
		what, name, ticket, password string
		want                         Reason
	}{
		{"a stranger", "mallory", text, "open sesame", ReasonUnknownPerson},
		{"another's ticket", "alice", other, "open sesame", ReasonTicketWrong},
		{"no ticket", "alice", "", "open sesame", ReasonTicketWrong},
	} {
		e, o := b.redeem(c.name, c.ticket, c.password)
		if _, ok := o.Accepted(); ok || e.Valid() || o.Unanswerable() || o.Reason() != c.want || o.Sentence() != refused {
			t.Errorf("%s: %s, %q", c.what, o.Reason(), o.Sentence())
		}
	}
	// Failures are those of logins: the third one locks, and then the right ticket does not help.
	if _, o := b.redeem("alice", text, "open barley"); o.Reason() != ReasonPasswordWrong {
		t.Errorf("a wrong password: %s", o.Reason())
	}
	if _, o := b.redeem("alice", text, "open sesame"); o.Reason() != ReasonLocked {
		t.Errorf("after three failures: %s", o.Reason())
	}
	b.restart()
	b.advance(2 * time.Minute)
	// One try was a wrong password's; two are left, and the last of them is after a restart.
	for i := range 2 {
		e, o := b.redeem(strings.ToUpper("alice"), strings.ToLower(text), "open sesame")
		if !e.Valid() || e.Person != "alice" || e.Ticket != "tt-alice" || o.Reason() != ReasonOK {
			t.Fatalf("try %d: %s", i, o.Reason())
		}
		if _, ok := o.Accepted(); ok {
			t.Fatal("a ticket gave a grant")
		}
		b.restart()
	}
	if _, o := b.redeem("alice", text, "open sesame"); o.Reason() != ReasonTicketTries {
		t.Errorf("a fourth try: %s", o.Reason())
	}
	b.advance(2 * time.Hour)
	if _, o := b.redeem("bob", other, "abracadabra"); o.Reason() != ReasonTicketExpired {
		t.Errorf("an old ticket: %s", o.Reason())
	}
}

// A snapshot keeps how often a ticket was tried, and a used or revoked one is forgotten.
func TestTicketsInSnapshot(t *testing.T) {
	b := newBench(t)
	text, x := b.ticketOf("alice")
	if e, _ := b.redeem("alice", text, "open sesame"); !e.Valid() {
		t.Fatal("the ticket does not serve")
	}
	if err := b.gate.Snapshot(func(state []byte) error { return b.log.Snapshot(state) }); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if n := b.gate.tickets.triesNow()[x.ID]; n != 1 {
		t.Errorf("%d tries are known after a snapshot", n)
	}
	for _, c := range []Change{{PutTicket: &Ticket{ID: x.ID, Person: "alice", Hash: x.Hash, State: TicketUsed}}, {DeletePerson: "alice"}} {
		b.gate.Apply(Change{PutTicket: &x})
		b.gate.Apply(c)
		b.gate.Apply(c)
		if _, open := b.gate.Ticket(x.ID); open || len(b.gate.tickets.byHash) != 0 || len(b.gate.tickets.tries) != 0 {
			t.Errorf("after %+v the ticket is known", c)
		}
	}
}

// P3: when no record can be made, the ticket gives nothing.
func TestRedeemUnrecorded(t *testing.T) {
	b := newBench(t)
	text, _ := b.ticketOf("alice")
	b.syncErr = func() error { return errors.New("the disk is full") }
	if e, o := b.redeem("alice", text, "open sesame"); e.Valid() || !o.Unanswerable() {
		t.Errorf("without a record: %s", o.Reason())
	}
}

func FuzzTicket(f *testing.F) {
	text, _ := NewTicket()
	f.Add(text)
	f.Add("oil0-1ILO u")
	f.Add("\x00\xff")
	f.Fuzz(func(t *testing.T, typed string) {
		sum, ok := hashTicket(typed)
		if !ok {
			return
		}
		// What counts as a ticket counts in every spelling.
		again, fine := hashTicket(" " + strings.ToLower(typed) + "-")
		if len(typed) < 4*ticketLength-1 && (!fine || !bytes.Equal(again[:], sum[:])) {
			t.Errorf("%q is another ticket in lower case", typed)
		}
	})
}

func TestTicketText(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		text, hash := NewTicket()
		if seen[text] || len(text) != 23 {
			t.Fatalf("%q", text)
		}
		seen[text] = true
		sum, ok := hashTicket(strings.NewReplacer("0", "O", "1", "l", "-", " ").Replace(text))
		if !ok || !bytes.Equal(sum[:], hash) {
			t.Fatalf("%q is not read as it was written", text)
		}
	}
}
