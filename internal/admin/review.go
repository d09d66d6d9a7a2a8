package admin

import (
	"cmp"
	"context"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// EventReview is the record of somebody's look at what a session did.
const EventReview = "session.review"

// SessionReview is the input of report.review.
type SessionReview struct {
	ID      string `json:"id"`
	By      string `json:"by,omitempty"` // empty: who enters it
	Finding string `json:"finding"`
}

// Reviewed is the answer of report.review.
type Reviewed struct {
	Session string    `json:"session"`
	Person  string    `json:"person"`
	By      string    `json:"by"`
	Time    time.Time `json:"time"`
	Record  uint64    `json:"record"`
}

func (s *Service) reviewVerbs() { Handle(s, "report.review", s.sessionReview) }

// sessionReview records that somebody looked at a session. Nobody looks at his own.
func (s *Service) sessionReview(ctx context.Context, in SessionReview) (Reviewed, error) {
	if strings.TrimSpace(in.Finding) == "" {
		return Reviewed{}, refuse("--finding none, where nothing was found", "the review has no finding")
	}
	p, _, err := s.pastSession(ctx, in.ID)
	if err != nil {
		return Reviewed{}, err
	}
	actor := actorOf(ctx)
	by := cmp.Or(in.By, actor.Name)
	if login.SameName(by, p.Person) || login.SameName(actor.Name, p.Person) {
		return Reviewed{}, refuse("somebody else looks at it", "%s would review his own session", p.Person)
	}
	now := s.Now()
	receipt, err := s.Gate.Commit(&audit.Record{
		Time: now, Event: EventReview, Result: audit.Info, Reason: string(login.ReasonOK), Person: p.Person, Login: p.Person, Protocol: "admin",
		Source: actor.Road, System: p.System, Account: p.Account, Session: p.ID, Attempt: p.Attempt,
		Detail: append(actorDetail(actor), audit.Detail{Key: "by", Value: by}, audit.Detail{Key: "finding", Value: in.Finding}),
	}, login.Change{}, nil, nil)
	return Reviewed{Session: p.ID, Person: p.Person, By: by, Time: receipt.Time(), Record: receipt.Seq()}, err
}

// ActorOf tells verbs of other packages on whose behalf they are called.
func ActorOf(ctx context.Context) Actor { return actorOf(ctx) }

// Note is Record for who wants to know the record's number.
func (s *Service) Note(ctx context.Context, event string, result audit.Result, reason string, detail ...audit.Detail) (seq uint64, err error) {
	return s.record(ctx, event, result, reason, detail...)
}

// Refuse makes an Error of a verb of another package.
func Refuse(hint, format string, args ...any) error { return refuse(hint, format, args...) }
