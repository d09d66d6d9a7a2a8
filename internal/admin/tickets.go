package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
)

// How long a ticket may serve. A letter takes days; what lies about for weeks is found by somebody else.
const (
	DefaultTicket = 24 * time.Hour
	minTicket     = 5 * time.Minute
	maxTicket     = 14 * 24 * time.Hour
)

// TicketIssue is the input of token.ticket.
type TicketIssue struct {
	Person string        `json:"person"`
	For    time.Duration `json:"for,omitempty"` // 0: DefaultTicket
	Params otp.Params    `json:"params,omitzero"`
	Label  string        `json:"label,omitempty"`
}

// TicketIssued is the one answer that shows a ticket.
type TicketIssued struct {
	TicketInfo
	Ticket   string   `json:"ticket"`
	Record   uint64   `json:"record"`
	Warnings []string `json:"warnings,omitempty"`
}

// TicketInfo is an open ticket as shown, without its text.
type TicketInfo struct {
	ID     string    `json:"id"`
	Person string    `json:"person"`
	Label  string    `json:"label,omitempty"`
	By     string    `json:"by"`
	Until  time.Time `json:"until"`
}

func ticketInfo(t login.Ticket) TicketInfo {
	return TicketInfo{ID: t.ID, Person: t.Person, Label: t.Label, By: t.By, Until: t.Until}
}

// TicketsRevoked is the answer of token.ticket.revoke.
type TicketsRevoked struct {
	Tickets []TicketInfo `json:"tickets"`
	Record  uint64       `json:"record"`
}

func (s *Service) ticketVerbs() {
	Handle(s, "token.ticket", s.ticketIssue)
	Handle(s, "token.ticket.list", s.ticketList)
	Handle(s, "token.ticket.revoke", s.ticketRevoke)
	Handle(s, "token.lost", s.tokenLost)
}

// ticketFor makes a ticket and the change that brings it: it takes the place of those that the person has.
func (s *Service) ticketFor(ctx context.Context, p login.Person, in TicketIssue) (login.Ticket, string, []login.Change, error) {
	if in.Params == (otp.Params{}) {
		in.Params = otp.Default()
	}
	if err := in.Params.Validate(); err != nil {
		return login.Ticket{}, "", nil, refuse("totp or hotp; sha1, sha256 or sha512; 6 or 8 digits; period 30 or 60", "token: %v", err)
	}
	if err := checkLabel(in.Label); err != nil {
		return login.Ticket{}, "", nil, err
	}
	in.For = cmp.Or(in.For, DefaultTicket)
	if in.For < minTicket || in.For > maxTicket {
		return login.Ticket{}, "", nil, refuse("--for 24h", "a ticket for %v: want %v to %v", in.For, minTicket, maxTicket)
	}
	if err := mayHold(p); err != nil {
		return login.Ticket{}, "", nil, err
	}
	if err := s.mayEquip(ctx, p); err != nil {
		return login.Ticket{}, "", nil, err
	}
	if p.Name == login.EnrolName {
		return login.Ticket{}, "", nil, refuse("`sallyport token enrol "+p.Name+"`", "enrolling over SSH is off while a person is called %s", p.Name)
	}
	text, hash := login.NewTicket()
	id, err := newTokenID()
	if err != nil {
		return login.Ticket{}, "", nil, err
	}
	now := s.Now().UTC().Truncate(time.Millisecond)
	t := login.Ticket{
		ID: "tt" + strings.TrimPrefix(id, "tk"), Person: p.Name, Hash: hash, Params: in.Params, Label: in.Label, State: login.TicketOpen,
		Created: now, Until: now.Add(in.For), By: actorOf(ctx).Name,
	}
	changes := s.revokedTickets(p.Name)
	return t, text, append(changes, login.Change{PutTicket: &t}), nil
}

// revokedTickets is the change that ends all open tickets of a person.
func (s *Service) revokedTickets(person string) (changes []login.Change) {
	for _, old := range s.Gate.Tickets(person) {
		old.State = login.TicketRevoked
		changes = append(changes, login.Change{PutTicket: &old})
	}
	return changes
}

func ticketDetail(t login.Ticket, revoked int) []audit.Detail {
	d := []audit.Detail{
		{Key: login.DetailTicket, Value: t.ID},
		{Key: "until", Value: t.Until.Format(time.RFC3339)},
		{Key: "type", Value: string(t.Params.Type)},
	}
	if revoked > 0 {
		d = append(d, audit.Detail{Key: "replaces_tickets", Value: strconv.Itoa(revoked)})
	}
	return d
}

func (s *Service) ticketIssue(ctx context.Context, in TicketIssue) (TicketIssued, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Person)
	if err != nil {
		return TicketIssued{}, err
	}
	t, text, all, err := s.ticketFor(ctx, p, in)
	if err != nil {
		return TicketIssued{}, err
	}
	done, err := s.commit(ctx, change{
		event: "token.ticket", person: p.Name, kind: p.Kind, what: login.Change{All: all}, detail: ticketDetail(t, len(all)-1),
	})
	if err != nil {
		return TicketIssued{}, err
	}
	return TicketIssued{TicketInfo: ticketInfo(t), Ticket: text, Record: done.Record, Warnings: s.ticketWarnings(ctx, p)}, nil
}

// ticketWarnings tells what would keep somebody from using his ticket.
func (s *Service) ticketWarnings(ctx context.Context, p login.Person) (list []string) {
	if st := s.Gate.Standing(p.Name); st.Reason != login.ReasonOK {
		list = append(list, p.Name+" is refused at present: "+st.Text)
	}
	if s.isLocal(p) {
		if _, set, err := s.Store.PasswordHash(ctx, p.Name); err == nil && !set {
			list = append(list, p.Name+" has no password, which `ssh enrol` asks for beside the ticket: sallyport user password "+p.Name)
		}
	}
	return list
}

func (s *Service) ticketList(ctx context.Context, in TokenList) ([]TicketInfo, error) {
	if in.Person != "" {
		if _, err := s.person(ctx, in.Person); err != nil {
			return nil, err
		}
	}
	list := []TicketInfo{}
	for _, t := range s.Gate.Tickets(in.Person) {
		if s.Now().Before(t.Until) {
			list = append(list, ticketInfo(t))
		}
	}
	return list, nil
}

func (s *Service) ticketRevoke(ctx context.Context, in PersonIn) (TicketsRevoked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Name)
	if err != nil {
		return TicketsRevoked{}, err
	}
	all := s.revokedTickets(p.Name)
	if len(all) == 0 {
		return TicketsRevoked{}, refuse("", "%s has no open ticket", p.Name)
	}
	out := TicketsRevoked{}
	var detail []audit.Detail
	for _, c := range all {
		out.Tickets = append(out.Tickets, ticketInfo(*c.PutTicket))
		detail = append(detail, audit.Detail{Key: login.DetailTicket, Value: c.PutTicket.ID})
	}
	done, err := s.commit(ctx, change{event: "token.ticket.revoke", person: p.Name, kind: p.Kind, what: login.Change{All: all}, detail: detail})
	out.Record = done.Record
	return out, err
}

// Enrolling is what somebody who came with a ticket is shown, once.
type Enrolling struct {
	Token  string // id; it waits for its first code
	URI    string
	Secret string // the seed in base 32, for typing
	Params otp.Params
}

// BeginEnrolment makes the token of somebody whom the Gate let enrol one. What an earlier redemption of the ticket made, and left
// waiting, is revoked.
func (s *Service) BeginEnrolment(ctx context.Context, e login.Enrolment) (Enrolling, error) {
	if !e.Valid() {
		return Enrolling{}, refuse("", "there is no enrolment")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ticket, err := s.enrolling(ctx, e, "token.enrol")
	if err != nil {
		return Enrolling{}, err
	}
	t, err := s.newToken(ctx, p, TokenEnrol{Person: p.Name, Params: ticket.Params, Label: ticket.Label}, ticket.Token)
	if err != nil {
		return Enrolling{}, err
	}
	all := []login.Change{{PutToken: &t}}
	if old, ok, err := s.tokenOf(ctx, p.Name, ticket.Token); err != nil {
		return Enrolling{}, err
	} else if ok && old.State == login.TokenPending {
		old.State = login.TokenRevoked
		all = append(all, login.Change{PutToken: &old})
	}
	ticket.Token = t.ID
	all = append(all, login.Change{PutTicket: &ticket})
	detail := append(tokenDetail(t), audit.Detail{Key: login.DetailTicket, Value: ticket.ID}, audit.Detail{Key: "attempt", Value: e.Attempt})
	if _, err := s.commit(ctx, change{event: "token.enrol", person: p.Name, kind: p.Kind, what: login.Change{All: all}, detail: detail}); err != nil {
		return Enrolling{}, err
	}
	return Enrolling{Token: t.ID, URI: otp.URI(s.Issuer, p.Name, t.Seed, t.Params, 0), Secret: seedText(t.Seed), Params: t.Params}, nil
}

// ConfirmEnrolment takes the first code of the token that BeginEnrolment made. The ticket is used up by the same change that makes the
// token serve. Right tells whether the code was the token's; when it was not, there may be another try.
func (s *Service) ConfirmEnrolment(ctx context.Context, e login.Enrolment, token, code string) (right bool, err error) {
	if !e.Valid() {
		return false, refuse("", "there is no enrolment")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ticket, err := s.enrolling(ctx, e, "token.confirm")
	if err != nil {
		return false, err
	}
	t, ok, err := s.tokenOf(ctx, p.Name, token)
	switch {
	case err != nil:
		return false, err
	case !ok || t.State != login.TokenPending || ticket.Token != token:
		return false, refuse("", "token %s waits for no code any more", token)
	}
	ticket.State = login.TicketUsed
	return s.confirm(ctx, p, t, code, login.Change{PutTicket: &ticket},
		audit.Detail{Key: login.DetailTicket, Value: ticket.ID}, audit.Detail{Key: "attempt", Value: e.Attempt})
}

// enrolling looks up an enrolment's person and ticket, as they are now. A refusal is recorded (P3): the event is what he is kept from.
func (s *Service) enrolling(ctx context.Context, e login.Enrolment, event string) (login.Person, login.Ticket, error) {
	p, there, err := s.Store.PersonByName(ctx, e.Person)
	if err != nil {
		return p, login.Ticket{}, fmt.Errorf("person %q: %w", e.Person, err)
	}
	t, open := s.Gate.Ticket(e.Ticket)
	st := s.Gate.Standing(e.Person)
	locked := st.Reason == login.ReasonLocked || st.Reason == login.ReasonLockedHard // others may lock him by their guesses; he has proved who he is
	var why login.Reason
	switch {
	case !there:
		why, err = login.ReasonUnknownPerson, refuse("", "there is no person %q any more", e.Person)
	case st.Reason != login.ReasonOK && !locked:
		why, err = st.Reason, refuse("", "%s may not log in any more: %s", p.Name, st.Text)
	case !open || t.Person != p.Name:
		why, err = login.ReasonTicketWrong, refuse("", "ticket %s was used or revoked meanwhile", e.Ticket)
	case !s.Now().Before(t.Until.Add(enrolGrace)):
		why, err = login.ReasonTicketExpired, refuse("", "the time of ticket %s is over", e.Ticket)
	default:
		return p, t, nil
	}
	_, failed := s.commit(ctx, change{
		event: event, person: e.Person, kind: p.Kind, result: audit.Reject, reason: why,
		detail: []audit.Detail{{Key: login.DetailTicket, Value: e.Ticket}, {Key: "attempt", Value: e.Attempt}},
	})
	return p, t, cmp.Or(failed, err)
}

// enrolGrace is how long after its end a ticket that was redeemed before it still takes the first code.
const enrolGrace = 15 * time.Minute

// tokenOf finds a token of a person.
func (s *Service) tokenOf(ctx context.Context, person, id string) (login.Token, bool, error) {
	if id == "" {
		return login.Token{}, false, nil
	}
	tokens, err := s.Store.TokensOf(ctx, person)
	if err != nil {
		return login.Token{}, false, err
	}
	i := slices.IndexFunc(tokens, func(t login.Token) bool { return t.ID == id })
	if i < 0 {
		return login.Token{}, false, nil
	}
	return tokens[i], true, nil
}

// TokenLost is the input of token.lost.
type TokenLost struct {
	What     string        `json:"what"` // a token's id, or a person, whose tokens are then all lost
	Reason   string        `json:"reason"`
	Verified string        `json:"verified_by,omitempty"` // how it was made sure who reports it
	For      time.Duration `json:"for,omitempty"`         // of the new ticket
}

// TokenLostDone is the answer of token.lost.
type TokenLostDone struct {
	Person   string         `json:"person"`
	Tokens   []TokenInfo    `json:"tokens"`
	Issued   TicketInfo     `json:"issued"`
	Ticket   string         `json:"ticket"` // shown once
	Record   uint64         `json:"record"`
	Ended    []EndedSession `json:"ended,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
}

// Bounds of what the help desk writes down, in bytes.
const maxReasonText = 500

// tokenLost revokes what was lost, ends what it opened, and issues a ticket for a new device, in one change and one record.
func (s *Service) tokenLost(ctx context.Context, in TokenLost) (TokenLostDone, error) {
	in.Reason, in.Verified = strings.TrimSpace(in.Reason), strings.TrimSpace(in.Verified)
	switch {
	case in.Reason == "":
		return TokenLostDone{}, refuse(`--reason "phone stolen on the train"`, "a lost token needs a reason")
	case len(in.Reason) > maxReasonText || len(in.Verified) > maxReasonText:
		return TokenLostDone{}, refuse("", "reason and how the person was verified have at most %d bytes each", maxReasonText)
	}
	out, err := s.loseTokens(ctx, in)
	if err != nil {
		return out, err
	}
	var lost []string
	for _, t := range out.Tokens {
		lost = append(lost, t.ID)
	}
	if out.Ended, err = s.endSessionsBy(ctx, out.Person, lost...); err != nil {
		// No error: the answer is the only one that shows the ticket.
		out.Warnings = append(out.Warnings, "not all sessions could be ended: "+err.Error()+"; `sallyport session list` shows what is left")
	}
	return out, nil
}

func (s *Service) loseTokens(ctx context.Context, in TokenLost) (out TokenLostDone, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost, p, err := s.lostTokens(ctx, in.What)
	if err != nil {
		return out, err
	}
	ticket, text, all, err := s.ticketFor(ctx, p, TicketIssue{Person: p.Name, For: in.For})
	if err != nil {
		return out, err
	}
	detail := append(ticketDetail(ticket, len(all)-1), audit.Detail{Key: "reason", Value: in.Reason},
		audit.Detail{Key: "verified_by", Value: cmp.Or(in.Verified, "not said")})
	for i := range lost {
		lost[i].State = login.TokenRevoked
		all = append(all, login.Change{PutToken: &lost[i]})
		out.Tokens = append(out.Tokens, tokenInfo(lost[i]))
		detail = append(detail, audit.Detail{Key: "token", Value: lost[i].ID})
	}
	if in.Verified == "" {
		out.Warnings = append(out.Warnings, "nobody wrote down how it was made sure who reports this: --verified-by")
	}
	out.Warnings = append(out.Warnings, s.ticketWarnings(ctx, p)...)
	done, err := s.commit(ctx, change{event: "token.lost", person: p.Name, kind: p.Kind, what: login.Change{All: all}, detail: detail})
	out.Person, out.Issued, out.Ticket, out.Record = p.Name, ticketInfo(ticket), text, done.Record
	return out, err
}

// lostTokens finds what is meant: one token, or all that a person has.
func (s *Service) lostTokens(ctx context.Context, what string) (lost []login.Token, p login.Person, err error) {
	p, there, err := s.Store.PersonByName(ctx, what)
	if err != nil {
		return nil, p, err
	}
	if !there {
		t, ok, err := s.findToken(ctx, what)
		if err != nil {
			return nil, p, err
		}
		if !ok {
			return nil, p, refuse("`sallyport token list` shows tokens, `sallyport user list` people", "%q is neither a token nor a person", clip(what))
		}
		if t.State == login.TokenRevoked {
			return nil, p, refuse("`sallyport token ticket "+t.Person+"` issues a ticket for a new one", "token %s is revoked already", t.ID)
		}
		p, err = s.person(ctx, t.Person)
		return []login.Token{t}, p, err
	}
	tokens, err := s.Store.TokensOf(ctx, p.Name)
	if err != nil {
		return nil, p, err
	}
	for _, t := range tokens {
		if t.State != login.TokenRevoked {
			lost = append(lost, t)
		}
	}
	if len(lost) == 0 {
		return nil, p, refuse("`sallyport token ticket "+p.Name+"` issues a ticket for a new one", "%s has no token that could be lost", p.Name)
	}
	return lost, p, nil
}
