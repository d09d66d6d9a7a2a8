package login

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
	"sallyport/internal/policy/register"
)

// The words of the register that stores and verbs need, so that they import the domain and nothing behind it.
type (
	Exception   = register.Exception   // one version of an entry of the exception register
	TimedGrant  = register.Grant       // access with a start, an end and a ticket
	Attestation = register.Attestation // somebody's word that another's access is right
	Approval    = register.Approval
	Mitigation  = register.Mitigation
	Review      = register.Review
	Date        = register.Date  // a day
	Request     = policy.Request // what the rules are asked
)

// DateOf is the day of a time, in UTC.
func DateOf(t time.Time) Date { return register.DateOf(t) }

// SameName reports whether two names are one person's, as far as names tell.
func SameName(a, b string) bool { return register.Same(a, b) }

// NextExceptionID and NextGrantID are the ids after those that there are.
func NextExceptionID(have []string) string { return register.NextID(register.ExceptionPrefix, have) }
func NextGrantID(have []string) string     { return register.NextID(register.GrantPrefix, have) }

// ExceptionsAsOf returns, of versions, those that held at a time.
func ExceptionsAsOf(versions []Exception, at time.Time) []Exception {
	return register.AsOf(versions, at)
}

// AccessColour is how urgent a look at access is that was last looked at, or came to be, at a time.
func AccessColour(since, now time.Time) string { return register.Colour(since, now) }

// detailGrant names, in records, the grant that a decision relied on.
const detailGrant = "grant"

// ExceptionUse is how often an entry let somebody in, since the log began.
type ExceptionUse struct {
	Count int       `json:"count"`
	Last  time.Time `json:"last"`
}

// books are the exceptions and grants that decisions read: the newest version of each.
type books struct {
	any atomic.Bool // there are entries; most gateways have few, and every login asks

	mu         sync.RWMutex
	exceptions map[string]*Exception
	grants     map[string][]*TimedGrant // by person
	uses       map[string]ExceptionUse  // by exception
}

func newBooks() *books {
	return &books{exceptions: make(map[string]*Exception), grants: make(map[string][]*TimedGrant), uses: make(map[string]ExceptionUse)}
}

// apply takes a change. It may be applied twice.
func (b *books) apply(c Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.change(c)
}

// change needs b.mu.
func (b *books) change(c Change) {
	if x := c.PutException; x != nil {
		b.any.Store(true)
		if old := b.exceptions[x.ID]; old == nil || old.Version <= x.Version {
			own := *x
			b.exceptions[x.ID] = &own
		}
	}
	if x := c.PutGrant; x != nil {
		b.any.Store(true)
		own := *x
		list := slices.DeleteFunc(slices.Clone(b.grants[x.Person]), func(o *TimedGrant) bool { return o.ID == x.ID })
		b.grants[x.Person] = append(list, &own)
	}
	for _, further := range c.All {
		b.change(further)
	}
}

// at is the register as it stands at a time. Without entries there is none.
func (b *books) at(now time.Time) policy.Register {
	if !b.any.Load() {
		return nil
	}
	return booksAt{b, now}
}

// booksAt implements policy.Register.
type booksAt struct {
	*books
	now time.Time
}

func (b booksAt) Exception(id string, r *policy.Request) policy.Reason {
	b.mu.RLock()
	x := b.exceptions[id]
	b.mu.RUnlock()
	if x == nil {
		return policy.ExceptionNotLive
	}
	if why := x.At(b.now).Why(); why != policy.OK {
		return why
	}
	if !x.Scope.Covers(r) {
		return policy.ExceptionScope
	}
	return policy.OK
}

func (b booksAt) Grant(r *policy.Request) (id string, until time.Time) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, g := range b.grants[r.Person] {
		if g.At(b.now) == register.Live && g.Covers(r) && g.Until.After(until) {
			id, until = g.ID, g.Until
		}
	}
	return id, until
}

// used counts a login that an exception let in.
func (b *books) used(id string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.uses[id]
	b.uses[id] = ExceptionUse{u.Count + 1, at}
}

// relied tells whether a record is of a login that an exception let in. SSH's are counted where they reach a system, and so once:
// the login before opens nothing, a service identity's, which names its system, neither.
func relied(rec *audit.Record) bool {
	return rec.Result == audit.Accept && present(rec.Exception) != "" &&
		(rec.Event == "access" || rec.Event == "login" && rec.Protocol != "ssh")
}

// Exceptions lists the newest version of each entry of the register, in the order of their ids.
func (g *Gate) Exceptions() []Exception {
	b := g.books
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := make([]Exception, 0, len(b.exceptions))
	for _, x := range b.exceptions {
		list = append(list, *x)
	}
	slices.SortFunc(list, func(a, b Exception) int { return register.CompareIDs(a.ID, b.ID) })
	return list
}

// ExceptionUses tells how often each entry was relied on.
func (g *Gate) ExceptionUses() map[string]ExceptionUse {
	g.books.mu.RLock()
	defer g.books.mu.RUnlock()
	return maps.Clone(g.books.uses)
}

// TimedGrants lists all grants, in the order of their ids.
func (g *Gate) TimedGrants() []TimedGrant {
	b := g.books
	b.mu.RLock()
	defer b.mu.RUnlock()
	var list []TimedGrant
	for _, of := range b.grants {
		for _, x := range of {
			list = append(list, *x)
		}
	}
	slices.SortFunc(list, func(a, b TimedGrant) int { return register.CompareIDs(a.ID, b.ID) })
	return list
}

// GrantAsked tells whether some rule for a system asks for a grant.
func (g *Gate) GrantAsked(sys System) bool {
	return slices.ContainsFunc(g.policy.Load().Rules, func(r policy.Rule) bool { return r.Grant && policy.Names(r.To, sys.Name, sys.Tags) })
}

// Lapsed tells why a session of a person at a system may not go on, as far as that can be told without its login's factors: the
// person is barred, or a rule that asks for a grant finds none. ReasonOK: it may. Groups are what a directory said of the person.
func (g *Gate) Lapsed(person string, groups []string, sys System) Reason {
	e := g.roster.find(person)
	if e == nil {
		return ReasonUnknownPerson
	}
	now := g.now()
	e.mu.Lock()
	who := e.profile
	e.mu.Unlock()
	if r := who.barred(now); r != ReasonOK {
		return r
	}
	rule := g.policy.Load().Rules.Find(joined(who.groups, groups), sys.Name, sys.Tags)
	if rule == nil || !rule.Grant {
		return ReasonOK // which rule let him in, if another, is for Recheck and refresh to say
	}
	if id, _ := (booksAt{g.books, now}).Grant(&Request{Person: e.name, System: sys.Name, Tags: sys.Tags}); id == "" {
		return Reason(policy.GrantNotLive)
	}
	return ReasonOK
}

// ExceptionState tells where an entry of the register stands now.
func (g *Gate) ExceptionState(id string) (register.State, bool) {
	g.books.mu.RLock()
	defer g.books.mu.RUnlock()
	x := g.books.exceptions[id]
	if x == nil {
		return "", false
	}
	return x.At(g.now()), true
}

// excepted tells whether an entry of the register lets somebody in by the first factor alone, so that there is nothing to
// challenge him for. Where there is a register, everybody's groups are asked for, so that time does not tell.
func (g *Gate) excepted(ctx context.Context, a *Attempt, first *firstResult) bool {
	pol, now := g.policy.Load(), g.now()
	if g.books.at(now) == nil || !slices.ContainsFunc(pol.Rules, func(r policy.Rule) bool {
		return r.Exception != "" && !r.Compliant() && policy.Names(r.To, a.System.Name, a.System.Tags)
	}) {
		return false
	}
	g.learnGroups(ctx, a, first)
	e := g.roster.find(a.Name)
	if e == nil || first.reason != ReasonOK {
		return false
	}
	e.mu.Lock()
	groups := e.profile.groups
	e.mu.Unlock()
	kinds := []policy.Kind{policy.Know}
	for _, p := range a.Proofs {
		if p.Kind != policy.Know {
			kinds = append(kinds, p.Kind)
		}
	}
	v := g.permit(pol, policy.Request{
		Person: e.name, Groups: joined(groups, first.groups), System: a.System.Name, Tags: a.System.Tags,
		Source: a.Source.Addr(), Protocol: a.Protocol, Capability: a.Capability, Proved: kinds,
	}, now)
	return v.Effect == policy.Allow && v.Lacking
}
