package register

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/internal/policy"
)

// MaxReview is the longest that an exception may go without a review: those of national policy are reviewed annually.
const MaxReview = 367 * 24 * time.Hour // a year and a day, since the day of the review itself is still good

// Scope is what an exception is about. An empty list admits all of its kind; People and Groups are one kind.
type Scope struct {
	People    []string       `json:"people,omitempty"`
	Groups    []string       `json:"groups,omitempty"`
	Systems   []string       `json:"systems,omitempty"` // names, or "tag:x"
	Sources   []netip.Prefix `json:"sources,omitempty"`
	Protocols []string       `json:"protocols,omitempty"` // radius, ssh
	Factors   []policy.Kind  `json:"factors,omitempty"`   // that must be proved all the same, one for each factor
}

// Risk is what was thought of before somebody took it on.
type Risk struct {
	Threat     string `json:"threat,omitempty"`
	Likelihood int    `json:"likelihood,omitempty"` // 1 (rare) to 5 (almost certain)
	Impact     int    `json:"impact,omitempty"`     // 1 (negligible) to 5 (catastrophic)
	Effect     string `json:"effect,omitempty"`     // on data and on clinical safety
	Assessor   string `json:"assessor,omitempty"`
	Date       Date   `json:"date,omitzero"`
}

// Score is the product that risk registers sort by.
func (r Risk) Score() int { return r.Likelihood * r.Impact }

// Mitigation is a control that stands in for what is missing, with where its evidence is kept.
type Mitigation struct {
	Text     string `json:"text"`
	Evidence string `json:"evidence,omitempty"`
}

// Approval is who took the risk on, and where that is minuted.
type Approval struct {
	By        string `json:"by,omitempty"`
	Role      string `json:"role,omitempty"`      // chief information officer, ...
	Body      string `json:"body,omitempty"`      // board, or delegated
	Reference string `json:"reference,omitempty"` // of the delegation, or of the minute
	Date      Date   `json:"date,omitzero"`
	Recorded  string `json:"recorded_by,omitempty"` // the operator who entered it
}

// Plan is how the exception is to become unnecessary.
type Plan struct {
	Text     string `json:"text,omitempty"`
	Owner    string `json:"owner,omitempty"`
	Target   Date   `json:"target,omitzero"`
	Progress string `json:"progress,omitempty"`
	Updated  Date   `json:"updated,omitzero"`
}

// Review is one look at whether the exception is still needed.
type Review struct {
	By       string `json:"by"`
	Date     Date   `json:"date"`
	Decision string `json:"decision"` // keep, change or end
	Note     string `json:"note,omitempty"`
	Evidence string `json:"evidence,omitempty"` // SHA-256 of a file
	Next     Date   `json:"next,omitzero"`      // the review after it
}

// Exception is one version of an entry.
type Exception struct {
	ID      string    `json:"id"`
	Version int       `json:"version"`
	Changed time.Time `json:"changed"` // when this version began to hold
	By      string    `json:"changed_by"`

	Title       string       `json:"title"`
	Clause      string       `json:"clause,omitempty"` // what of the policy it is an exception from, or is allowed by
	Scope       Scope        `json:"scope"`
	Rationale   string       `json:"rationale"` // why two kinds of factor cannot be asked for
	Risk        Risk         `json:"risk"`
	Mitigations []Mitigation `json:"mitigations,omitempty"`
	Requester   string       `json:"requester"`
	EnteredBy   string       `json:"entered_by,omitempty"` // the operator who wrote down what is asked for
	Approval    Approval     `json:"approval,omitzero"`
	Plan        Plan         `json:"plan"`
	From        time.Time    `json:"from"`
	Until       time.Time    `json:"until"`       // the first moment at which it no longer holds
	Review      time.Time    `json:"next_review"` // from then on it does not hold before it was reviewed
	Reviews     []Review     `json:"reviews,omitempty"`
	ReportedIn  []string     `json:"reported_in,omitempty"` // submissions that carried it
	Ended       time.Time    `json:"ended,omitzero"`
	EndReason   string       `json:"end_reason,omitempty"`
}

// State is where an entry stands at a time. The zero State lets nobody in.
type State string

// The states.
const (
	Requested  State = "requested" // not approved yet
	Waiting    State = "waiting"   // approved, and its time has not begun
	Live       State = "live"
	Unreviewed State = "review-overdue"
	Expired    State = "expired"
	Ended      State = "ended"
)

// At tells where the entry stands.
func (e *Exception) At(now time.Time) State {
	switch {
	case !e.Ended.IsZero() && !now.Before(e.Ended):
		return Ended
	case e.Approval.By == "" || Same(e.Approval.By, e.Requester):
		return Requested
	case e.From.IsZero() || now.Before(e.From):
		return Waiting
	case e.Until.IsZero() || !now.Before(e.Until):
		return Expired
	case e.Review.IsZero() || !now.Before(e.Review):
		return Unreviewed
	}
	return Live
}

// Why says how an entry's state answers a login that relies on it.
func (s State) Why() policy.Reason {
	switch s {
	case Live:
		return policy.OK
	case Expired:
		return policy.ExceptionExpired
	case Unreviewed:
		return policy.ExceptionUnreviewed
	default:
		return policy.ExceptionNotLive
	}
}

// Covers tells whether the request lies within the scope. A request without a system is one to the gateway itself, from where
// each system is asked for again.
func (s *Scope) Covers(r *policy.Request) bool {
	if len(s.People)+len(s.Groups) > 0 && !slices.Contains(s.People, r.Person) &&
		!slices.ContainsFunc(s.Groups, func(g string) bool { return g == policy.Any || slices.Contains(r.Groups, g) }) {
		return false
	}
	if r.System != "" && len(s.Systems) > 0 && !policy.Names(s.Systems, r.System, r.Tags) {
		return false
	}
	if len(s.Sources) > 0 && !slices.ContainsFunc(s.Sources, func(p netip.Prefix) bool { return p.Contains(r.Source.Unmap()) }) {
		return false
	}
	if len(s.Protocols) > 0 && !slices.Contains(s.Protocols, r.Protocol) {
		return false
	}
	return policy.Covers(r.Proved, s.Factors)
}

// Same reports whether two names are one person's, as far as that can be told from names.
func Same(a, b string) bool {
	fold := func(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }
	return fold(a) == fold(b)
}

// Validate returns everything that is missing or wrong; an entry that is not approved yet may lack its approval.
func (e *Exception) Validate() []error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...)))
	}
	for _, f := range []struct{ name, value, why string }{
		{"title", e.Title, "what the entry is called in reports"},
		{"rationale", e.Rationale, "why two kinds of factor cannot be asked for"},
		{"requester", e.Requester, "who asks for it"},
		{"risk.threat", e.Risk.Threat, "what could happen"},
		{"risk.assessor", e.Risk.Assessor, "who judged the risk"},
		{"plan.text", e.Plan.Text, "how it will become unnecessary, or smaller"},
		{"plan.owner", e.Plan.Owner, "who answers for the plan"},
	} {
		if strings.TrimSpace(f.value) == "" {
			bad(f.name, "is missing: %s", f.why)
		}
	}
	if e.Risk.Likelihood < 1 || e.Risk.Likelihood > 5 || e.Risk.Impact < 1 || e.Risk.Impact > 5 {
		bad("risk", "likelihood %d and impact %d: each is 1 to 5", e.Risk.Likelihood, e.Risk.Impact)
	}
	if e.Plan.Target.IsZero() {
		bad("plan.target", "is missing: the day by which the exception is to be gone")
	}
	if e.From.IsZero() || e.Until.IsZero() || !e.From.Before(e.Until) {
		bad("from, until", "want a start before an end")
	}
	since := e.From
	for _, r := range e.Reviews {
		if t := r.Date.Time; t.After(since) {
			since = t
		}
	}
	if e.Review.IsZero() || e.Review.After(since.Add(MaxReview)) {
		bad("next_review", "want a day at most 12 months after %s, when it begins or was last reviewed", since.UTC().Format(time.DateOnly))
	}
	if s := &e.Scope; len(s.People)+len(s.Groups)+len(s.Systems)+len(s.Sources) == 0 {
		bad("scope", "covers everybody everywhere: name people, groups, systems or sources")
	}
	for _, k := range e.Scope.Factors {
		if !k.Known() {
			bad("scope.factors", "unknown kind of factor %q: want know, have or are", k)
		}
	}
	if len(e.Scope.Factors) == 0 {
		bad("scope.factors", "is empty: at least one factor has to be proved")
	}
	if a := e.Approval; a.By != "" {
		if Same(a.By, e.Requester) {
			errs = append(errs, ErrSelf)
		}
		if a.Body != "board" && a.Body != "delegated" {
			bad("approval.body", "%q: want board or delegated", a.Body)
		}
		if a.Reference == "" || a.Date.IsZero() || a.Role == "" {
			bad("approval", "want the approver's role, the day, and the reference of the minute or the delegation")
		}
	}
	return errs
}

// ErrSelf: nobody approves what he asked for.
var ErrSelf = errors.New("approval: the approver is the requester")

// AsOf returns, of versions in their order, the one that held at a time of each entry, by their ids' order.
func AsOf(versions []Exception, at time.Time) []Exception {
	newest := make(map[string]int)
	var ids []string
	for i := range versions {
		v := &versions[i]
		if v.Changed.After(at) {
			continue
		}
		j, seen := newest[v.ID]
		if !seen {
			ids = append(ids, v.ID)
		}
		if !seen || versions[j].Version < v.Version {
			newest[v.ID] = i
		}
	}
	slices.SortFunc(ids, CompareIDs)
	list := make([]Exception, 0, len(ids))
	for _, id := range ids {
		list = append(list, versions[newest[id]])
	}
	return list
}
