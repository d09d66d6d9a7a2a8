package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// ExceptionIn is an entry of the exception register as somebody writes it, in YAML or JSON. Days are whole: what holds until a
// day holds on that day, too, in UTC.
type ExceptionIn struct {
	Title       string         `json:"title" yaml:"title"`
	Clause      string         `json:"clause,omitempty" yaml:"clause"`
	Scope       ExceptionScope `json:"scope" yaml:"scope"`
	Rationale   string         `json:"rationale" yaml:"rationale"`
	Risk        ExceptionRisk  `json:"risk" yaml:"risk"`
	Mitigations []struct {
		Text     string `json:"text" yaml:"text"`
		Evidence string `json:"evidence,omitempty" yaml:"evidence"`
	} `json:"mitigations,omitempty" yaml:"mitigations"`
	Requester string            `json:"requester,omitempty" yaml:"requester"` // empty: who enters it
	Approval  ExceptionApproval `json:"approval,omitzero" yaml:"approval"`
	Plan      ExceptionPlan     `json:"plan" yaml:"plan"`
	From      login.Date        `json:"from" yaml:"from"`
	Until     login.Date        `json:"until" yaml:"until"`
	Review    login.Date        `json:"next_review" yaml:"next_review"`
}

// ExceptionScope is what an entry is about; see register.Scope.
type ExceptionScope struct {
	People    []string     `json:"people,omitempty" yaml:"people"`
	Groups    []string     `json:"groups,omitempty" yaml:"groups"`
	Systems   []string     `json:"systems,omitempty" yaml:"systems"`
	Sources   []string     `json:"sources,omitempty" yaml:"sources"`
	Protocols []string     `json:"protocols,omitempty" yaml:"protocols"`
	Factors   []login.Kind `json:"factors" yaml:"factors"`
}

// ExceptionRisk is the risk that is taken on.
type ExceptionRisk struct {
	Threat     string     `json:"threat" yaml:"threat"`
	Likelihood int        `json:"likelihood" yaml:"likelihood"`
	Impact     int        `json:"impact" yaml:"impact"`
	Effect     string     `json:"effect,omitempty" yaml:"effect"`
	Assessor   string     `json:"assessor" yaml:"assessor"`
	Date       login.Date `json:"date,omitzero" yaml:"date"`
}

// ExceptionApproval is who takes it on.
type ExceptionApproval struct {
	By        string     `json:"by,omitempty" yaml:"by"`
	Role      string     `json:"role,omitempty" yaml:"role"`
	Body      string     `json:"body,omitempty" yaml:"body"` // board, or delegated
	Reference string     `json:"reference,omitempty" yaml:"reference"`
	Date      login.Date `json:"date,omitzero" yaml:"date"`
}

// ExceptionPlan is how it will become unnecessary.
type ExceptionPlan struct {
	Text     string     `json:"text" yaml:"text"`
	Owner    string     `json:"owner" yaml:"owner"`
	Target   login.Date `json:"target" yaml:"target"`
	Progress string     `json:"progress,omitempty" yaml:"progress"`
}

// ExceptionSet is the input of exception.set: a new version of an entry, whole. Without an approval it has to be approved anew.
type ExceptionSet struct {
	ID string `json:"id"`
	ExceptionIn
}

// ExceptionApprove is the input of exception.approve.
type ExceptionApprove struct {
	ID string `json:"id"`
	ExceptionApproval
}

// ExceptionReview is the input of exception.review.
type ExceptionReview struct {
	ID       string     `json:"id"`
	By       string     `json:"by,omitempty"` // empty: who enters it
	Decision string     `json:"decision"`     // keep or end
	Note     string     `json:"note,omitempty"`
	Evidence string     `json:"evidence,omitempty"` // SHA-256 of a file that is kept elsewhere
	Next     login.Date `json:"next,omitzero"`
	Progress string     `json:"progress,omitempty"` // of the plan
}

// ExceptionEnd is the input of exception.end.
type ExceptionEnd struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// ExceptionReported is the input of exception.reported: which submission carried an entry.
type ExceptionReported struct {
	ID string `json:"id"`
	In string `json:"in"`
}

// ExceptionList is the input of exception.list.
type ExceptionList struct {
	On time.Time `json:"on,omitzero"` // the register as it stood then; zero: as it stands now
}

// ExceptionIs is an entry as shown.
type ExceptionIs struct {
	login.Exception
	State  string              `json:"state"`
	Score  int                 `json:"risk_score"`
	Use    *login.ExceptionUse `json:"use,omitempty"` // as of now
	Due    int                 `json:"review_in_days"`
	Record uint64              `json:"record,omitempty"` // that the verb made
}

func (s *Service) exceptionVerbs() {
	Handle(s, "exception.add", s.exceptionAdd)
	Handle(s, "exception.set", s.exceptionSet)
	Handle(s, "exception.approve", s.exceptionApprove)
	Handle(s, "exception.review", s.exceptionReview)
	Handle(s, "exception.reported", s.exceptionReported)
	Handle(s, "exception.end", s.exceptionEnd)
	Handle(s, "exception.list", s.exceptionList)
	Handle(s, "exception.show", s.exceptionShow)
}

// fill puts what was written into an entry.
func (in *ExceptionIn) fill(x *login.Exception) error {
	x.Title, x.Clause, x.Rationale = in.Title, in.Clause, in.Rationale
	x.Scope.People, x.Scope.Groups, x.Scope.Systems = in.Scope.People, in.Scope.Groups, in.Scope.Systems
	x.Scope.Protocols, x.Scope.Factors, x.Scope.Sources = in.Scope.Protocols, in.Scope.Factors, nil
	for _, p := range in.Scope.Protocols {
		if p != "radius" && p != "ssh" {
			return refuse("radius or ssh", "scope.protocols: %q is not a protocol", clip(p))
		}
	}
	for _, text := range in.Scope.Sources {
		p, err := netip.ParsePrefix(text)
		if a, bad := netip.ParseAddr(text); bad == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return refuse("10.0.0.7, or 10.0.0.0/24", "scope.sources: %q is neither an address nor a network", clip(text))
		}
		x.Scope.Sources = append(x.Scope.Sources, p.Masked())
	}
	r := in.Risk
	x.Risk.Threat, x.Risk.Likelihood, x.Risk.Impact, x.Risk.Effect, x.Risk.Assessor, x.Risk.Date = r.Threat, r.Likelihood, r.Impact, r.Effect, r.Assessor, r.Date
	x.Mitigations = nil
	for _, m := range in.Mitigations {
		x.Mitigations = append(x.Mitigations, login.Mitigation{Text: m.Text, Evidence: m.Evidence})
	}
	p := in.Plan
	x.Plan.Text, x.Plan.Owner, x.Plan.Target = p.Text, p.Owner, p.Target
	if p.Progress != "" {
		x.Plan.Progress = p.Progress
	}
	x.From, x.Until, x.Review = in.From.Time, in.Until.Over(), in.Review.Over()
	return nil
}

func (s *Service) exceptionAdd(ctx context.Context, in ExceptionIn) (ExceptionIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := login.Exception{Requester: cmp.Or(in.Requester, actorOf(ctx).Name), EnteredBy: actorOf(ctx).Name}
	if err := in.fill(&x); err != nil {
		return ExceptionIs{}, err
	}
	if err := s.approve(ctx, &x, in.Approval); err != nil {
		return ExceptionIs{}, err
	}
	var ids []string
	for _, old := range s.Gate.Exceptions() {
		ids = append(ids, old.ID)
	}
	x.ID = login.NextExceptionID(ids)
	return s.putException(ctx, "exception.add", &x, nil)
}

func (s *Service) exceptionSet(ctx context.Context, in ExceptionSet) (ExceptionIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.exception(in.ID)
	if err != nil {
		return ExceptionIs{}, err
	}
	x.Requester, x.EnteredBy = cmp.Or(in.Requester, actorOf(ctx).Name), actorOf(ctx).Name
	if err := in.fill(&x); err != nil {
		return ExceptionIs{}, err
	}
	x.Approval = login.Approval{}
	if err := s.approve(ctx, &x, in.Approval); err != nil {
		return ExceptionIs{}, err
	}
	return s.putException(ctx, "exception.set", &x, nil)
}

// approve enters an approval that was given. Where four eyes are asked for, who enters it is another than who entered the request,
// so one that comes with the request is refused.
func (s *Service) approve(ctx context.Context, x *login.Exception, a ExceptionApproval) error {
	if a == (ExceptionApproval{}) {
		return nil
	}
	actor := actorOf(ctx).Name
	if s.FourEyes() {
		if login.SameName(actor, cmp.Or(x.EnteredBy, x.By)) || login.SameName(actor, x.Requester) {
			return refuse("another operator enters the approval: sallyport exception approve", "four eyes are asked for, and %s entered the request himself", actor)
		}
	}
	x.Approval = login.Approval{By: a.By, Role: a.Role, Body: a.Body, Reference: a.Reference, Date: a.Date, Recorded: actor}
	return nil
}

func (s *Service) exceptionApprove(ctx context.Context, in ExceptionApprove) (ExceptionIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.exception(in.ID)
	if err != nil {
		return ExceptionIs{}, err
	}
	if in.By == "" {
		return ExceptionIs{}, refuse("--by NAME --role ROLE --body board|delegated --reference MINUTE --date DAY", "who approves %s is not said", x.ID)
	}
	if err := s.approve(ctx, &x, in.ExceptionApproval); err != nil {
		return ExceptionIs{}, err
	}
	return s.putException(ctx, "exception.approve", &x, []audit.Detail{{Key: "approver", Value: in.By}, {Key: "reference", Value: in.Reference}})
}

func (s *Service) exceptionReview(ctx context.Context, in ExceptionReview) (ExceptionIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.exception(in.ID)
	if err != nil {
		return ExceptionIs{}, err
	}
	now := s.Now()
	actor := actorOf(ctx).Name
	by := cmp.Or(in.By, actor)
	if login.SameName(by, x.Requester) {
		return ExceptionIs{}, refuse("--by names another person", "%s asked for %s, and cannot review it", by, x.ID)
	}
	if s.FourEyes() && (login.SameName(actor, x.Requester) || login.SameName(actor, x.EnteredBy)) {
		return ExceptionIs{}, refuse("another operator enters the review", "four eyes are asked for, and %s entered %s himself", actor, x.ID)
	}
	if in.Evidence != "" {
		if raw, err := hex.DecodeString(in.Evidence); err != nil || len(raw) != sha256.Size {
			return ExceptionIs{}, refuse("sha256sum FILE prints it", "%q is no SHA-256", clip(in.Evidence))
		}
	}
	switch in.Decision {
	case "keep":
		if in.Next.IsZero() {
			return ExceptionIs{}, refuse("--next 2027-06-30, at most 12 months on", "when %s is reviewed next is not said", x.ID)
		}
		x.Review = in.Next.Over()
	case "end":
		x.Ended, x.EndReason = now, cmp.Or(in.Note, "review")
	default:
		return ExceptionIs{}, refuse("keep or end", "%q is no decision", clip(in.Decision))
	}
	x.Reviews = append(slices.Clip(x.Reviews), login.Review{By: by, Date: login.DateOf(now), Decision: in.Decision, Note: in.Note, Evidence: in.Evidence, Next: in.Next})
	if in.Progress != "" {
		x.Plan.Progress, x.Plan.Updated = in.Progress, login.DateOf(now)
	}
	return s.putException(ctx, "exception.review", &x, []audit.Detail{{Key: "reviewer", Value: by}, {Key: "decision", Value: in.Decision}})
}

func (s *Service) exceptionReported(ctx context.Context, in ExceptionReported) (ExceptionIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.exception(in.ID)
	if err != nil {
		return ExceptionIs{}, err
	}
	if strings.TrimSpace(in.In) == "" {
		return ExceptionIs{}, refuse("--in 'DSPT 2026-27 interim'", "which submission carried %s is not said", x.ID)
	}
	if !slices.Contains(x.ReportedIn, in.In) {
		x.ReportedIn = append(slices.Clip(x.ReportedIn), in.In)
	}
	return s.putException(ctx, "exception.reported", &x, []audit.Detail{{Key: "reported_in", Value: in.In}})
}

func (s *Service) exceptionEnd(ctx context.Context, in ExceptionEnd) (ExceptionIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.exception(in.ID)
	if err != nil {
		return ExceptionIs{}, err
	}
	if !x.Ended.IsZero() {
		return ExceptionIs{}, refuse("", "%s has ended already, at %s", x.ID, x.Ended.UTC().Format(time.RFC3339))
	}
	x.Ended, x.EndReason = s.Now(), in.Reason
	return s.putException(ctx, "exception.end", &x, []audit.Detail{{Key: "why", Value: in.Reason}})
}

// exception returns a copy of the newest version of an entry.
func (s *Service) exception(id string) (login.Exception, error) {
	for _, x := range s.Gate.Exceptions() {
		if x.ID == id {
			return x, nil
		}
	}
	return login.Exception{}, refuse("`sallyport exception list --all` shows them", "the register has no %q", clip(id))
}

// putException records the next version of an entry. The caller holds s.mu.
func (s *Service) putException(ctx context.Context, event string, x *login.Exception, detail []audit.Detail) (ExceptionIs, error) {
	x.Version++
	x.Changed, x.By = s.Now().UTC().Truncate(time.Millisecond), actorOf(ctx).Name
	if errs := x.Validate(); len(errs) > 0 {
		return ExceptionIs{}, refuse("`sallyport exception template` prints one with all that is asked for", "%s is not complete:\n  %s",
			cmp.Or(x.ID, "the entry"), strings.ReplaceAll(errors.Join(errs...).Error(), "\n", "\n  "))
	}
	body, err := json.Marshal(x)
	if err != nil {
		return ExceptionIs{}, err
	}
	sum := sha256.Sum256(body)
	detail = append(detail,
		audit.Detail{Key: "version", Value: strconv.Itoa(x.Version)}, audit.Detail{Key: "title", Value: x.Title},
		audit.Detail{Key: "requester", Value: x.Requester}, audit.Detail{Key: "approved_by", Value: x.Approval.By},
		audit.Detail{Key: "state", Value: string(x.At(s.Now()))}, audit.Detail{Key: "until", Value: x.Until.UTC().Format(time.RFC3339)},
		audit.Detail{Key: "next_review", Value: x.Review.UTC().Format(time.RFC3339)}, audit.Detail{Key: "sha256", Value: hex.EncodeToString(sum[:])})
	done, err := s.commit(ctx, change{event: event, person: "none", except: x.ID, detail: detail, what: login.Change{PutException: x}})
	if err != nil {
		return ExceptionIs{}, err
	}
	is := s.exceptionIs(*x, s.Now(), true)
	is.Record = done.Record
	return is, nil
}

func (s *Service) exceptionIs(x login.Exception, at time.Time, use bool) ExceptionIs {
	is := ExceptionIs{Exception: x, State: string(x.At(at)), Score: x.Risk.Score(), Due: int(x.Review.Sub(at).Hours() / 24)}
	if u, ok := s.Gate.ExceptionUses()[x.ID]; ok && use {
		is.Use = &u
	}
	return is
}

func (s *Service) exceptionVersions(ctx context.Context, want func(*login.Exception) bool) ([]login.Exception, error) {
	var all []login.Exception
	err := s.Store.Exceptions(ctx, func(x login.Exception) error {
		if want(&x) {
			all = append(all, x)
		}
		return nil
	})
	return all, err
}

// exceptionList shows the register as it stands, or as it stood.
func (s *Service) exceptionList(ctx context.Context, in ExceptionList) ([]ExceptionIs, error) {
	at := in.On
	if at.IsZero() {
		at = s.Now()
	}
	all, err := s.exceptionVersions(ctx, func(*login.Exception) bool { return true })
	if err != nil {
		return nil, err
	}
	list := []ExceptionIs{}
	for _, x := range login.ExceptionsAsOf(all, at) {
		list = append(list, s.exceptionIs(x, at, in.On.IsZero()))
	}
	return list, nil
}

// exceptionShow shows every version of an entry, the oldest first.
func (s *Service) exceptionShow(ctx context.Context, in ExceptionEnd) ([]ExceptionIs, error) {
	all, err := s.exceptionVersions(ctx, func(x *login.Exception) bool { return x.ID == in.ID })
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		_, err := s.exception(in.ID)
		return nil, err
	}
	list := []ExceptionIs{}
	for _, x := range all {
		list = append(list, s.exceptionIs(x, s.Now(), true))
	}
	return list, nil
}
