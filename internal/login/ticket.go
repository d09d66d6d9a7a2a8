package login

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/internal/audit"
	"sallyport/otp"
)

// A ticket lets a person enrol a one-time-code device by himself, once: an operator gives it to him, and `ssh enrol@GATEWAY` takes it
// beside name and password. It opens nothing else. The gateway keeps its SHA-256, which is enough for a secret of 100 random bits
// (no list of guesses holds it), so that neither database nor journal tell it.
//
// What is used up is told by records, as with codes: each time that somebody comes with the ticket the record says which time it was,
// in an effect, and the record of the first code is one change with the ticket's end. So neither a crash nor a restart gives it back.

// EnrolName is the user name under which people come with a ticket. While a person is called so, nobody can.
const EnrolName = "enrol"

// TicketState is where a ticket is in its life.
type TicketState string

// A ticket waits, until it has enrolled a device, or is revoked for good. One whose time is over stays as it was.
const (
	TicketOpen    TicketState = "open"
	TicketUsed    TicketState = "used"
	TicketRevoked TicketState = "revoked"
)

// Ticket is what the gateway knows of an enrolment ticket.
type Ticket struct {
	ID      string      `json:"id"`
	Person  string      `json:"person"`
	Hash    []byte      `json:"hash"` // SHA-256 of its canonical text
	Params  otp.Params  `json:"params"`
	Label   string      `json:"label,omitempty"`
	State   TicketState `json:"state"`
	Created time.Time   `json:"created,omitzero"`
	Until   time.Time   `json:"until"`
	By      string      `json:"by"`              // who issued it
	Token   string      `json:"token,omitempty"` // what the newest redemption made; it waits for its first code
}

const (
	// ticketLength is the letters of a ticket: 100 random bits.
	ticketLength = 20
	ticketGroup  = 5
	// MaxTicketTries bounds how often a ticket is taken: each time shows a new secret.
	MaxTicketTries = 3
)

// NewTicket makes a ticket's text, in groups as it is printed, and its hash.
func NewTicket() (text string, hash []byte) {
	text = otp.NewCrockford(ticketLength)
	sum := sha256.Sum256([]byte(text))
	return otp.Grouped(text, ticketGroup), sum[:]
}

// hashTicket hashes a ticket as typed. Ok tells whether it has the form of a ticket; what has not is hashed all the same, to what no ticket is.
func hashTicket(typed string) (sum [sha256.Size]byte, ok bool) {
	text, ok := otp.CleanCrockford(typed, ticketLength)
	return sha256.Sum256([]byte(text)), ok
}

// The words of the records.
const (
	EventRedeem   = "token.redeem"
	DetailTicket  = "ticket"
	methodTicket  = "ticket"
	effectTickets = "ticket.tries" // ID ticket, Value how often somebody came with it

	ReasonTicketWrong   Reason = "ticket_wrong"
	ReasonTicketExpired Reason = "ticket_expired"
	ReasonTicketTries   Reason = "ticket_tried_too_often"
)

// tickets are those that are open.
type tickets struct {
	mu     sync.Mutex
	byHash map[[sha256.Size]byte]*Ticket
	byID   map[string]*Ticket
	tries  map[string]int // by id; also of tickets that replay has heard of and the store has not given yet
}

func newTickets() *tickets {
	return &tickets{byHash: make(map[[sha256.Size]byte]*Ticket), byID: make(map[string]*Ticket), tries: make(map[string]int)}
}

// apply takes a change. It may be applied twice.
func (t *tickets) apply(c Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.change(c)
}

// change needs t.mu.
func (t *tickets) change(c Change) {
	if x := c.PutTicket; x != nil {
		t.drop(x.ID)
		if x.State == TicketOpen && len(x.Hash) == sha256.Size {
			own := *x
			t.byID[x.ID], t.byHash[[sha256.Size]byte(x.Hash)] = &own, &own
		} else {
			delete(t.tries, x.ID)
		}
	}
	if c.DeletePerson != "" {
		for id, x := range t.byID {
			if x.Person == c.DeletePerson {
				t.drop(id)
				delete(t.tries, id)
			}
		}
	}
	for _, further := range c.All {
		t.change(further)
	}
}

// drop needs t.mu.
func (t *tickets) drop(id string) {
	if old := t.byID[id]; old != nil {
		delete(t.byHash, [sha256.Size]byte(old.Hash))
		delete(t.byID, id)
	}
}

// tried replays a record.
func (t *tickets) tried(id string, times int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tries[id] = max(t.tries[id], times)
}

// triesNow are those of tickets that are open, for a snapshot.
func (t *tickets) triesNow() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := make(map[string]int)
	for id, n := range t.tries {
		if t.byID[id] != nil {
			now[id] = n
		}
	}
	return now
}

// take finds the ticket with a hash, of a person, and counts that somebody came with it. Why is ReasonOK when it serves. The hash is of
// a secret that no guess finds, so looking it up in a map tells nothing by its time.
func (t *tickets) take(hash [sha256.Size]byte, person string, now time.Time) (x Ticket, tries int, why Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.byHash[hash]
	if found == nil || found.Person != person {
		return Ticket{}, 0, ReasonTicketWrong
	}
	if !now.Before(found.Until) {
		return *found, 0, ReasonTicketExpired
	}
	if t.tries[found.ID] >= MaxTicketTries {
		return *found, 0, ReasonTicketTries
	}
	t.tries[found.ID]++
	return *found, t.tries[found.ID], ReasonOK
}

// Tickets lists the open tickets of a person, or of everybody, the oldest first.
func (g *Gate) Tickets(person string) []Ticket {
	g.tickets.mu.Lock()
	defer g.tickets.mu.Unlock()
	var list []Ticket
	for _, x := range g.tickets.byID {
		if person == "" || x.Person == person {
			list = append(list, *x)
		}
	}
	slices.SortFunc(list, func(a, b Ticket) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// Ticket finds an open ticket.
func (g *Gate) Ticket(id string) (Ticket, bool) {
	g.tickets.mu.Lock()
	defer g.tickets.mu.Unlock()
	x := g.tickets.byID[id]
	if x == nil {
		return Ticket{}, false
	}
	return *x, true
}

// Enrolment is what a ticket gives: its person may enrol one device. Only Redeem makes a valid one; it is no Grant, and opens nothing.
type Enrolment struct {
	Person  string
	Attempt string
	Ticket  string // id

	receipt audit.Receipt
}

// Valid reports whether the enrolment stems from a durable record.
func (e Enrolment) Valid() bool { return e.receipt.Valid() }

// Seq is the number of the record that made it.
func (e Enrolment) Seq() uint64 { return e.receipt.Seq() }

// Redeem judges somebody who comes with a ticket, a name and a password. Whatever is wrong, the work, the answer and the count of
// failures are those of a login (P6, P7). The Outcome tells how it was refused, where the Enrolment is not valid; it never accepts.
func (g *Gate) Redeem(ctx context.Context, a Attempt, ticket Secret) (Enrolment, Outcome) {
	if g.stopping.Load() {
		return Enrolment{}, Outcome{reason: ReasonStopping}
	}
	a.Proofs, a.Evidence, a.Joined, a.Otherwise = nil, nil, Secret{}, Secret{}
	first := g.checkFirst(ctx, &a, nil)
	if first.more != nil { // nobody can be asked
		first.reason = ReasonDirectoryDown
	}
	hash, _ := hashTicket(ticket.Reveal())
	pol, now := g.policy.Load(), g.now()
	d := g.draft(&a, EventRedeem, audit.Reject, now)
	rec := &d.Record
	e, id := g.redeemed(&a, rec, first, hash, pol, now, &d.pending)
	reason := Reason(rec.Reason)
	receipt, err := d.pending.Wait()
	if err != nil {
		return Enrolment{}, Outcome{reason: ReasonLogDown}
	}
	g.drafts.Put(d)
	if reason != ReasonOK {
		return Enrolment{}, Outcome{kind: rejected, reason: reason, receipt: receipt, sentence: refused}
	}
	return Enrolment{Person: e.name, Attempt: a.ID, Ticket: id, receipt: receipt}, Outcome{reason: ReasonOK}
}

// redeemed judges and submits the record.
func (g *Gate) redeemed(a *Attempt, rec *audit.Record, first firstResult, hash [sha256.Size]byte, pol *Policy, now time.Time, pending *audit.Pending) (e *entry, ticket string) {
	g.pause.RLock()
	defer g.pause.RUnlock()
	e = g.roster.find(a.Name)
	g.identify(rec, a, e)
	stranger := e == nil
	if stranger {
		e = &g.ghost
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	barred := e.barred(now, pol)
	var x Ticket
	why := ReasonTicketWrong
	if !stranger && barred == ReasonOK {
		var tries int
		if x, tries, why = g.tickets.take(hash, e.name, now); why == ReasonOK {
			rec.Effects = append(rec.Effects, audit.Effect{Set: effectTickets, ID: x.ID, Value: int64(tries)})
		}
	}
	shown := audit.Factor{Kind: string(Have), Method: methodTicket, Token: x.ID, Result: "ok"}
	if why != ReasonOK {
		shown.Result = "wrong"
	}
	rec.Factors = append(rec.Factors, factorOf(first), shown)
	reason := ReasonOK
	switch {
	case g.broken.Load() != nil:
		reason = ReasonStoreDown
	case stranger:
		reason = ReasonUnknownPerson
	case barred != ReasonOK:
		reason = barred
	case first.reason != ReasonOK:
		reason = first.reason
	case why != ReasonOK:
		reason = why
	}
	switch reason {
	case ReasonPasswordWrong, ReasonPasswordUnset, ReasonTicketWrong, ReasonTicketExpired, ReasonTicketTries:
		e.fail(rec, now, pol)
	case ReasonOK:
		rec.Result = audit.Accept
	}
	if x.ID != "" {
		rec.Detail = append(rec.Detail, audit.Detail{Key: DetailTicket, Value: x.ID})
	}
	rec.Reason = string(reason)
	g.log.Submit(pending, rec, nil)
	return e, x.ID
}
