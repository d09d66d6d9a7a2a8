package login

import (
	"context"
	"net/netip"
	"slices"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
)

// Binding is what the key of a service identity is good for, and nothing else: one command at one target, from some addresses.
type Binding struct {
	Target  string         `json:"target"`
	Command string         `json:"command"` // exactly
	Sources []netip.Prefix `json:"sources"`
}

// Admits tells whether the key may be used from an address.
func (b *Binding) Admits(source netip.Addr) bool {
	return slices.ContainsFunc(b.Sources, func(p netip.Prefix) bool { return p.Contains(source.Unmap()) })
}

// ReasonBinding: a service identity's key was used for something else than what it is bound to, or is bound to nothing.
const ReasonBinding Reason = "key_not_bound_to_this"

// IsService reports whether a name is a service identity's. It has no side effects.
func (g *Gate) IsService(name string) bool {
	e := g.roster.find(name)
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.profile.kind == Service
}

// Serve judges the login of a service identity: a machine, which knows no password and holds no token. Its key, proved, is one
// thing had, and that alone lets nobody in (P1): the rule for its target has to say so, beside a live entry of the exception
// register. The grant is good for the one command that the key is bound to.
func (g *Gate) Serve(_ context.Context, a Attempt) Outcome {
	if g.stopping.Load() {
		return Outcome{reason: ReasonStopping}
	}
	pol, now := g.policy.Load(), g.now()
	d := g.draft(&a, "login", audit.Reject, now)
	rec := &d.Record
	key, proved := proofOf(&a)
	for _, p := range a.Proofs {
		rec.Factors = append(rec.Factors, audit.Factor{Kind: string(p.Kind), Method: p.Method, Token: p.ID, Result: "ok"})
	}
	g.pause.RLock()
	defer g.pause.RUnlock()
	e := g.roster.find(a.Name)
	g.identify(rec, &a, e)
	reason, grant := ReasonUnknownPerson, Grant{}
	if e != nil {
		e.mu.Lock()
		who, locked := e.profile, e.barred(now, pol)
		e.mu.Unlock()
		bound := g.roster.binding(key)
		switch {
		case g.broken.Load() != nil:
			reason = ReasonStoreDown
		case locked != ReasonOK:
			reason = locked
		case who.kind != Service || !proved || bound == nil || a.System.Name == "" || bound.Target != a.System.Name || !a.Source.IsValid() || !bound.Admits(a.Source.Addr()):
			reason = ReasonBinding
		default:
			v := pol.Rules.Decide(policy.Request{
				Person: e.name, Groups: who.groups, System: a.System.Name, Tags: a.System.Tags, Source: a.Source.Addr(), Protocol: a.Protocol,
				Capability: MayExec, Proved: []policy.Kind{policy.Have}, Register: g.books.at(now),
			})
			nameVerdict(rec, &v)
			reason = Reason(v.Reason)
			if v.Effect == policy.Allow {
				reason = ReasonOK
				grant = Grant{Person: e.name, Attempt: a.ID, Factors: slices.Clone(rec.Factors), Bound: bound, Exception: v.Exception}
			}
		}
	}
	rec.Reason = string(reason)
	if reason == ReasonOK {
		rec.Result = audit.Accept
		e.mu.Lock()
		g.roster.seen(e, rec, now)
		e.mu.Unlock()
	}
	g.log.Submit(&d.pending, rec, nil)
	return g.settle(&d.pending, reason, grant)
}

// binding is what a key is bound to; nil: nothing.
func (r *roster) binding(fingerprint string) *Binding {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.bindings[fingerprint]
}
