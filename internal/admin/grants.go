package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// GrantAdd is the input of grant.add.
type GrantAdd struct {
	Person    string    `json:"person"`
	Systems   []string  `json:"systems"`
	From      time.Time `json:"from,omitzero"` // zero: now
	Until     time.Time `json:"until"`
	Ticket    string    `json:"ticket"`
	Reason    string    `json:"reason,omitempty"`
	Sponsor   string    `json:"sponsor,omitempty"`   // empty: the person's own
	Requester string    `json:"requester,omitempty"` // empty: who enters it
	Approver  string    `json:"approver,omitempty"`  // empty: who enters it, unless it is only asked for
	AskOnly   bool      `json:"ask_only,omitempty"`  // it waits for an approval
}

// GrantIn is the input of grant.approve, grant.refuse and grant.end.
type GrantIn struct {
	ID     string `json:"id"`
	By     string `json:"by,omitempty"` // empty: who enters it
	Reason string `json:"reason,omitempty"`
}

// GrantList is the input of grant.list.
type GrantList struct {
	Person string `json:"person,omitempty"`
	All    bool   `json:"all,omitempty"` // also those that are over
}

// GrantIs is a grant as shown.
type GrantIs struct {
	login.TimedGrant
	State  string         `json:"state"`
	Record uint64         `json:"record,omitempty"` // that the verb made
	Closed []EndedSession `json:"ended_sessions,omitempty"`
}

// Why sessions are ended whose grant is over.
const WhyGrant = "grant_over"

func (s *Service) grantVerbs() {
	Handle(s, "grant.add", s.grantAdd)
	Handle(s, "grant.approve", func(ctx context.Context, in GrantIn) (GrantIs, error) { return s.grantAnswer(ctx, in, true) })
	Handle(s, "grant.refuse", func(ctx context.Context, in GrantIn) (GrantIs, error) { return s.grantAnswer(ctx, in, false) })
	Handle(s, "grant.end", s.grantEnd)
	Handle(s, "grant.list", s.grantList)
}

func (s *Service) grantAdd(ctx context.Context, in GrantAdd) (GrantIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, actor := s.Now().UTC().Truncate(time.Millisecond), actorOf(ctx).Name
	p, err := s.person(ctx, in.Person)
	if err != nil {
		return GrantIs{}, err
	}
	for _, name := range in.Systems {
		if name == "*" || strings.HasPrefix(name, "tag:") {
			continue
		}
		if _, known := s.System(name); !known {
			return GrantIs{}, refuse("`sallyport client list` and `sallyport target list` show them; tag:x names all with a tag", "the configuration has no client or target %q", clip(name))
		}
	}
	g := login.TimedGrant{
		Person: p.Name, Systems: in.Systems, From: in.From, Until: in.Until, Ticket: in.Ticket, Reason: in.Reason,
		Sponsor: cmp.Or(in.Sponsor, p.Sponsor), Requester: cmp.Or(in.Requester, actor), EnteredBy: actor, Asked: now,
	}
	if g.From.IsZero() {
		g.From = now
	}
	if !g.Until.After(now) {
		return GrantIs{}, refuse("--until names a time to come, --for how long from the start", "the grant would have ended already")
	}
	if p.Kind == login.Supplier && g.Sponsor == "" {
		return GrantIs{}, refuse("--sponsor names the member of staff who answers for the work", "%s is a supplier's, and has no sponsor", p.Name)
	}
	if !in.AskOnly {
		if err := s.mayApprove(ctx, &g, cmp.Or(in.Approver, actor)); err != nil {
			return GrantIs{}, err
		}
		g.Approver, g.Approved = cmp.Or(in.Approver, actor), now
	}
	var ids []string
	for _, old := range s.Gate.TimedGrants() {
		ids = append(ids, old.ID)
	}
	g.ID = login.NextGrantID(ids)
	return s.putGrant(ctx, "grant.add", &g, p.Kind)
}

// mayApprove holds the rule that nobody approves access for himself and, where four eyes are asked for, what he asked for or entered:
// whose wish it was is what he typed, and who entered it is what the gateway knows.
func (s *Service) mayApprove(ctx context.Context, g *login.TimedGrant, by string) error {
	actor := actorOf(ctx).Name
	if login.SameName(by, g.Person) || login.SameName(actor, g.Person) {
		return refuse("somebody else approves it: `sallyport grant add --ask` leaves it waiting", "%s would approve access for himself", g.Person)
	}
	if s.FourEyes() && (login.SameName(actor, g.Requester) || login.SameName(actor, g.EnteredBy) || !login.SameName(by, actor)) {
		return refuse("another operator runs `sallyport grant approve`; ask with --ask",
			"four eyes are asked for: %s asked for it, %s entered it, and who approves is another, and does so himself", g.Requester, cmp.Or(g.EnteredBy, "somebody"))
	}
	return nil
}

func (s *Service) grant(id string) (login.TimedGrant, error) {
	for _, g := range s.Gate.TimedGrants() {
		if g.ID == id {
			return g, nil
		}
	}
	return login.TimedGrant{}, refuse("`sallyport grant list --all` shows them", "there is no grant %q", clip(id))
}

func (s *Service) grantAnswer(ctx context.Context, in GrantIn, yes bool) (GrantIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.grant(in.ID)
	if err != nil {
		return GrantIs{}, err
	}
	now := s.Now().UTC().Truncate(time.Millisecond)
	if state := g.At(now); state != "requested" {
		return GrantIs{}, refuse("", "%s is not waiting for an answer: it is %s", g.ID, state)
	}
	by, event := cmp.Or(in.By, actorOf(ctx).Name), "grant.refuse"
	if yes {
		if err := s.mayApprove(ctx, &g, by); err != nil {
			return GrantIs{}, err
		}
		g.Approver, g.Approved, event = by, now, "grant.approve"
	} else {
		g.Refused, g.EndedBy, g.EndReason = now, by, in.Reason
	}
	p, _, err := s.Store.PersonByName(ctx, g.Person)
	if err != nil {
		return GrantIs{}, err
	}
	return s.putGrant(ctx, event, &g, p.Kind)
}

// grantEnd ends a grant before its time, and the sessions that nothing else permits.
func (s *Service) grantEnd(ctx context.Context, in GrantIn) (GrantIs, error) {
	is, err := s.endGrant(ctx, in)
	if err != nil {
		return is, err
	}
	is.Closed, err = s.endAll(ctx, WhyGrant, func(l login.Session) bool { return l.Person == is.Person && s.lapsed(ctx, l) == login.ReasonGrant })
	return is, err
}

func (s *Service) endGrant(ctx context.Context, in GrantIn) (GrantIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.grant(in.ID)
	if err != nil {
		return GrantIs{}, err
	}
	now := s.Now().UTC().Truncate(time.Millisecond)
	if state := g.At(now); state == "ended" || state == "expired" || state == "refused" {
		return GrantIs{}, refuse("", "%s is over already: it is %s", g.ID, state)
	}
	g.Ended, g.EndedBy, g.EndReason = now, cmp.Or(in.By, actorOf(ctx).Name), in.Reason
	p, _, err := s.Store.PersonByName(ctx, g.Person)
	if err != nil {
		return GrantIs{}, err
	}
	return s.putGrant(ctx, "grant.end", &g, p.Kind)
}

// lapsed tells why a session may not go on, as login.Gate.Lapsed does, with the groups of the person's directory. Where that cannot
// be asked, nothing is known against the session. The directory is asked only where a rule for the system asks for a grant.
func (s *Service) lapsed(ctx context.Context, l login.Session) login.Reason {
	sys, known := s.System(l.System)
	if !known || !s.Gate.GrantAsked(sys) {
		return login.ReasonOK
	}
	groups, _, err := s.Directory(ctx, l.Person)
	if err != nil {
		return login.ReasonOK
	}
	return s.Gate.Lapsed(l.Person, groups, sys)
}

// putGrant records a grant. The caller holds s.mu.
func (s *Service) putGrant(ctx context.Context, event string, g *login.TimedGrant, kind login.PersonKind) (GrantIs, error) {
	if errs := g.Validate(); len(errs) > 0 {
		return GrantIs{}, refuse("sallyport help grant add", "the grant is not complete:\n  %s", strings.ReplaceAll(errors.Join(errs...).Error(), "\n", "\n  "))
	}
	detail := []audit.Detail{
		{Key: "grant", Value: g.ID},
		{Key: "systems", Value: strings.Join(g.Systems, ",")},
		{Key: "ticket", Value: g.Ticket},
		{Key: "from", Value: g.From.UTC().Format(time.RFC3339)},
		{Key: "until", Value: g.Until.UTC().Format(time.RFC3339)},
		{Key: "requester", Value: g.Requester},
		{Key: "entered_by", Value: g.EnteredBy},
		{Key: "approver", Value: g.Approver},
		{Key: "sponsor", Value: g.Sponsor},
		{Key: "state", Value: string(g.At(s.Now()))},
	}
	if g.EndReason != "" {
		detail = append(detail, audit.Detail{Key: "why", Value: g.EndReason})
	}
	done, err := s.commit(ctx, change{event: event, person: g.Person, kind: kind, detail: detail, what: login.Change{PutGrant: g}})
	if err != nil {
		return GrantIs{}, err
	}
	return GrantIs{TimedGrant: *g, State: string(g.At(s.Now())), Record: done.Record}, nil
}

func (s *Service) grantList(_ context.Context, in GrantList) ([]GrantIs, error) {
	list, now := []GrantIs{}, s.Now()
	for _, g := range s.Gate.TimedGrants() {
		state := string(g.At(now))
		over := slices.Contains([]string{"ended", "expired", "refused"}, state)
		if in.Person != "" && g.Person != in.Person || over && !in.All {
			continue
		}
		list = append(list, GrantIs{TimedGrant: g, State: state})
	}
	return list, nil
}
