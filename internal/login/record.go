package login

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
)

// Event is a fact for the record that is not a decision: a session's end, a refused channel, a transfer.
type Event struct {
	Event   string
	Result  audit.Result
	Reason  Reason
	Attempt Attempt
	Session string
	Rule    string
	Grant   *Grant // whose session it is; nil before a login
	Detail  []Detail
}

// DetailDestination is where somebody wants to go, as he typed it. It is kept of people only, not of strangers.
const DetailDestination = "destination"

// GatewaySystem is the name, in the records, of the gateway as what a person logs in to.
const GatewaySystem = "gateway"

// draft is a record with room for what a login puts in it, so that one piece of memory serves, again and again.
type draft struct {
	audit.Record
	pending audit.Pending
	factors [3]audit.Factor
	detail  [8]audit.Detail
	effects [3]audit.Effect
}

// draft begins a record of an attempt. It may be given back, to g.drafts, once it is durable.
func (g *Gate) draft(a *Attempt, event string, result audit.Result, now time.Time) *draft {
	d := g.drafts.Get().(*draft)
	g.begin(&d.Record, a, event, result, now)
	return d
}

func newDraft() any {
	d := new(draft)
	d.Factors, d.Detail, d.Effects = d.factors[:0], d.detail[:0], d.effects[:0]
	return d
}

func (g *Gate) begin(rec *audit.Record, a *Attempt, event string, result audit.Result, now time.Time) {
	*rec = audit.Record{
		Time: now, Event: event, Result: result, Protocol: a.Protocol,
		System: a.System.Name, Class: a.System.Class, Account: a.Account, Attempt: a.ID,
		Factors: rec.Factors[:0], Detail: rec.Detail[:0], Effects: rec.Effects[:0],
	}
	if rec.System == "" {
		rec.System = GatewaySystem
	}
	if a.Source.IsValid() {
		rec.Source = a.Source.Addr().String()
		rec.Detail = append(rec.Detail, audit.Detail{Key: "source_port", Value: strconv.Itoa(int(a.Source.Port()))})
	}
	for _, d := range a.Detail {
		if d.Value != "" {
			rec.Detail = append(rec.Detail, audit.Detail{Key: d.Key, Value: d.Value})
		}
	}
}

// identify says who it was. A stranger's name is blinded, whatever it holds. The caller does not hold e.mu.
func (g *Gate) identify(rec *audit.Record, a *Attempt, e *entry) {
	if e == nil {
		rec.Login = g.blind(a.Name)
		// What a stranger typed beside a name may be a password, too.
		if a.Account != "" && a.Protocol == "ssh" {
			rec.Account = ""
		}
		rec.Detail = slices.DeleteFunc(rec.Detail, func(d audit.Detail) bool { return d.Key == DetailDestination })
		return
	}
	e.mu.Lock()
	kind := e.profile.kind
	e.mu.Unlock()
	rec.Person, rec.Login, rec.PersonKind = e.name, e.name, string(kind)
}

func factorOf(f firstResult) audit.Factor {
	return audit.Factor{Kind: string(policy.Know), Method: f.method, Token: f.proof, Result: f.result()}
}

// Access asks whether somebody who has logged in to the gateway may do a.Capability at a.System. Its grant carries
// the session's id and bounds.
func (g *Gate) Access(_ context.Context, gr Grant, a Attempt) Outcome {
	if g.stopping.Load() || !gr.Valid() {
		return Outcome{reason: ReasonStopping}
	}
	pol, now := g.policy.Load(), g.now()
	a.ID, a.Name = gr.Attempt, gr.Person
	d := g.draft(&a, "access", audit.Reject, now)
	rec := &d.Record
	session := NewID()
	rec.Session = session
	rec.Factors = append(rec.Factors, gr.Factors...)
	e := g.roster.find(gr.Person)
	g.identify(rec, &a, e)
	reason, grant := g.judgeAccess(rec, e, gr, &a, pol, now)
	rec.Reason = string(reason)
	if reason == ReasonOK {
		rec.Result = audit.Accept
	}
	g.pause.RLock()
	defer g.pause.RUnlock()
	if relied(rec) {
		g.books.used(rec.Exception, now)
	}
	grant.Session = session
	g.log.Submit(&d.pending, rec, nil)
	o := g.settle(&d.pending, reason, grant)
	if o.kind == rejected {
		// The person has proved who he is; what he may reach is his to know, and what exists beyond is not.
		o.sentence = "You may not do this at " + a.System.Name + "."
	}
	return o
}

// Permits tells whether Access would say yes, and records nothing. It is for showing somebody who has logged in what he
// may reach; it opens nothing.
func (g *Gate) Permits(gr Grant, sys System, c policy.Capability) bool {
	return g.Foresee(gr, sys, c) == ReasonOK
}

// Foresee tells what Access would answer, and records nothing.
func (g *Gate) Foresee(gr Grant, sys System, c policy.Capability) Reason {
	if !gr.Valid() {
		return ReasonStopping
	}
	a := Attempt{System: sys, Capability: c}
	reason, _ := g.judgeAccess(&audit.Record{}, g.roster.find(gr.Person), gr, &a, g.policy.Load(), g.now())
	return reason
}

func (g *Gate) judgeAccess(rec *audit.Record, e *entry, gr Grant, a *Attempt, pol *Policy, now time.Time) (Reason, Grant) {
	if g.broken.Load() != nil {
		return ReasonStoreDown, Grant{}
	}
	if e == nil {
		return ReasonUnknownPerson, Grant{}
	}
	e.mu.Lock()
	who := e.profile
	e.mu.Unlock()
	if r := who.barred(now); r != ReasonOK {
		return r, Grant{}
	}
	if a.System.Name == "" {
		return ReasonNoTarget, Grant{}
	}
	kinds := make([]policy.Kind, 0, len(gr.Factors))
	for _, f := range gr.Factors {
		if f.Result == "ok" || f.Result == resultLeaned && gr.window != nil {
			kinds = append(kinds, policy.Kind(f.Kind))
		}
	}
	verdict := g.permit(pol, policy.Request{
		Person: e.name, Groups: joined(who.groups, gr.directory), System: a.System.Name, Tags: a.System.Tags,
		Source: a.Source.Addr(), Protocol: cmp.Or(a.Protocol, "ssh"), Capability: a.Capability, Proved: kinds,
	}, now)
	nameVerdict(rec, &verdict)
	if verdict.Effect != policy.Allow {
		return Reason(verdict.Reason), Grant{}
	}
	if gr.window != nil && !gr.window.serves(verdict.Rule, a.System.Class, now, 0) {
		return ReasonTrustOver, Grant{}
	}
	if verdict.Rule.StepUp && !gr.stepped {
		return ReasonStepUp, Grant{}
	}
	if gr.Emergency && now.Sub(gr.receipt.Time()) >= MaxEmergency {
		return ReasonEmergencyOver, Grant{}
	}
	if gr.Bound != nil && (a.System.Name != gr.Bound.Target || a.Capability != MayExec) {
		return ReasonBinding, Grant{}
	}
	e.mu.Lock()
	grant := e.grantOf(gr.Attempt, &verdict, now)
	e.mu.Unlock()
	grant.Bound = gr.Bound
	if gr.Emergency {
		grant.Max = min(grant.Max, MaxEmergency-now.Sub(gr.receipt.Time()))
	}
	grant.Factors, grant.directory, grant.window, grant.stepped = slices.Clone(gr.Factors), gr.directory, gr.window, gr.stepped
	return ReasonOK, grant
}

// Note records an event and returns when it is durable.
func (g *Gate) Note(_ context.Context, ev Event) (audit.Receipt, error) { return g.note(ev) }

func (g *Gate) note(ev Event) (audit.Receipt, error) {
	a := ev.Attempt
	if ev.Grant != nil {
		a.ID, a.Name = ev.Grant.Attempt, ev.Grant.Person
	}
	d := g.draft(&a, ev.Event, ev.Result, g.now())
	rec := &d.Record
	g.identify(rec, &a, g.roster.find(a.Name))
	rec.Reason, rec.Session, rec.Rule = string(ev.Reason), ev.Session, ev.Rule
	if gr := ev.Grant; gr != nil {
		rec.Factors = append(rec.Factors, gr.Factors...)
		if rec.Session == "" {
			rec.Session = gr.Session
		}
		if rec.Rule == "" {
			rec.Rule = gr.Rule
		}
		rec.Exception = gr.Exception
	}
	for _, d := range ev.Detail {
		rec.Detail = append(rec.Detail, audit.Detail{Key: d.Key, Value: d.Value})
	}
	g.pause.RLock()
	if isSession(ev.Event) {
		g.sessions.mu.Lock()
		g.log.Submit(&d.pending, rec, nil)
		g.sessions.apply(rec)
		g.sessions.mu.Unlock()
	} else {
		g.log.Submit(&d.pending, rec, nil)
	}
	g.pause.RUnlock()
	return d.pending.Wait()
}

// Standing is what the gate would hold of a person before any factor, for `explain`. It changes nothing.
type Standing struct {
	Reason Reason
	Text   string
	Groups []string
	Tokens int
}

// Standing tells how a person stands now.
func (g *Gate) Standing(name string) Standing {
	e := g.roster.find(name)
	if e == nil {
		return Standing{Reason: ReasonUnknownPerson}
	}
	now := g.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.throttle()
	s := Standing{Reason: e.barred(now, g.policy.Load()), Groups: e.profile.groups, Tokens: len(e.devices)}
	switch s.Reason {
	case ReasonOK:
		s.Text = "active, not locked"
		if st.Failures > 0 {
			s.Text += ", " + strconv.Itoa(st.Failures) + " failures since the last success"
		}
	case ReasonPersonNotYet:
		s.Text = "active from " + e.profile.from.UTC().Format(time.RFC3339)
	case ReasonPersonExpired:
		s.Text = "ended at " + e.profile.until.UTC().Format(time.RFC3339)
	case ReasonPersonDisabled:
		s.Text = "disabled"
	default:
		s.Text = "locked until " + st.Until.UTC().Format(time.RFC3339) + " after " + strconv.Itoa(st.Failures) + " failures"
	}
	return s
}

// MustRecord tells whether the rule that decides about a system requires that its sessions are recorded. It opens nothing.
func (g *Gate) MustRecord(gr Grant, sys System) bool {
	e := g.roster.find(gr.Person)
	if e == nil || !gr.Valid() {
		return true
	}
	e.mu.Lock()
	groups, emergency := joined(e.profile.groups, gr.directory), e.profile.kind == BreakGlass
	e.mu.Unlock()
	rule := g.policy.Load().Rules.Find(groups, sys.Name, sys.Tags)
	return rule == nil || rule.Record || emergency
}
