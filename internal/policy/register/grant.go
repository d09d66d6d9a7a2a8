package register

import (
	"fmt"
	"strings"
	"time"

	"sallyport/internal/policy"
)

// MaxGrant is the longest that one grant may run: what lasts longer is not a job but a role, and belongs into a group.
const MaxGrant = 366 * 24 * time.Hour

// Grant is access with a start, an end and a ticket. A rule that asks for one lets only people in who hold one.
type Grant struct {
	ID        string    `json:"id"`
	Person    string    `json:"person"`
	Systems   []string  `json:"systems"` // names, "tag:x", or "*"
	From      time.Time `json:"from"`
	Until     time.Time `json:"until"` // the first moment at which it no longer holds
	Ticket    string    `json:"ticket"`
	Reason    string    `json:"reason,omitempty"`
	Sponsor   string    `json:"sponsor,omitempty"` // who answers for a supplier's engineer
	Requester string    `json:"requester"`
	EnteredBy string    `json:"entered_by,omitempty"` // the operator who wrote it down
	Asked     time.Time `json:"asked"`
	Approver  string    `json:"approver,omitempty"` // empty: it waits
	Approved  time.Time `json:"approved,omitzero"`
	Refused   time.Time `json:"refused,omitzero"`
	Ended     time.Time `json:"ended,omitzero"` // before its time
	EndReason string    `json:"end_reason,omitempty"`
	EndedBy   string    `json:"ended_by,omitempty"`
}

// Refused is the state of a grant that somebody said no to.
const Refused State = "refused"

// At tells where the grant stands.
func (g *Grant) At(now time.Time) State {
	switch {
	case !g.Refused.IsZero():
		return Refused
	case !g.Ended.IsZero() && !now.Before(g.Ended):
		return Ended
	case g.Approver == "":
		if !now.Before(g.Until) {
			return Expired
		}
		return Requested
	case now.Before(g.From):
		return Waiting
	case !now.Before(g.Until):
		return Expired
	}
	return Live
}

// Covers tells whether the grant is for this person and system.
func (g *Grant) Covers(r *policy.Request) bool {
	return g.Person == r.Person && policy.Names(g.Systems, r.System, r.Tags)
}

// Validate returns everything that is missing or wrong.
func (g *Grant) Validate() (errs []error) {
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...)))
	}
	if len(g.Systems) == 0 {
		bad("to", "is empty: name systems, tags as %q, or %q for every system", "tag:x", policy.Any)
	}
	if g.From.IsZero() || g.Until.IsZero() || !g.From.Before(g.Until) {
		bad("from, until", "want a start before an end")
	} else if g.Until.Sub(g.From) > MaxGrant {
		bad("until", "the grant would run for %d days, at most %d", int(g.Until.Sub(g.From).Hours()/24), int(MaxGrant.Hours()/24))
	}
	if strings.TrimSpace(g.Ticket) == "" {
		bad("ticket", "is missing: the change or job that this access is for")
	}
	if g.Requester == "" {
		bad("requester", "is missing: who asks for it")
	}
	return errs
}
