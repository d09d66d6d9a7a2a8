package login

import (
	"cmp"
	"context"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
)

// A trust window lets further connections of the same person, with the same SSH key, from the same address, pass without a
// new code, for targets whose rule says so, for as long as it says, and as often. Each such login is a record of its own,
// which names the login that it leans on: that one proved two kinds (P1). Windows live in this process's memory: a restart
// closes them all, and so does any change of the person.

// MaxWindows bounds the open trust windows.
const MaxWindows = 1 << 16

// Words of leaning, in records.
const (
	resultLeaned  = "leaned" // of a factor that the login which is leaned on has proved
	detailLeansOn = "leans_on"

	ReasonTrustOver Reason = "trust_window_over" // or never opened for what was asked
	ReasonStepUp    Reason = "step_up_needed"
)

// windowKey is whom a window is for.
type windowKey struct {
	person, key string // the key's fingerprint
	source      netip.Addr
}

// window is a login that others may lean on.
type window struct {
	windowKey
	opened  time.Time
	until   time.Time // when no rule could want it any more
	record  uint64
	attempt string
	turn    uint64 // of windows.turn, when it was begun
	factors []audit.Factor
	groups  []string // that the directory gave

	serial uint64 // of a certificate that its person carries, see Certificate; zero: it is none

	mu     sync.Mutex
	uses   int
	closed bool
}

// windows are those that are open.
type windows struct {
	mu      sync.Mutex
	dropped map[string]uint64 // how often each person's were; what was begun before opens no more
	by      map[windowKey]*window
	serials map[uint64]*window // those that are carried
}

func newWindows() *windows {
	return &windows{dropped: make(map[string]uint64), by: make(map[windowKey]*window), serials: make(map[uint64]*window)}
}

// turn is to be compared when a window opens: its record was made meanwhile.
func (w *windows) turn(person string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped[person]
}

// open replaces what the key had, unless the person's windows were closed since it was begun.
func (w *windows) open(x *window, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dropped[x.person] != x.turn {
		return
	}
	if len(w.by) >= MaxWindows {
		for k, old := range w.by {
			if old.until.Before(now) {
				delete(w.by, k)
			}
		}
	}
	if len(w.by) < MaxWindows {
		w.by[x.windowKey] = x
	}
}

func (w *windows) find(k windowKey, now time.Time) *window {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.by[k]
	if x == nil || !now.Before(x.until) {
		delete(w.by, k)
		return nil
	}
	return x
}

// drop closes somebody's windows, and tells how many there were.
func (w *windows) drop(person string) (n int) {
	if person == "" || person == audit.None || person == audit.Unknown {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped[person]++
	shut := func(x *window) {
		x.mu.Lock()
		x.closed = true
		x.mu.Unlock()
		n++
	}
	for k, x := range w.by {
		if k.person == person {
			shut(x)
			delete(w.by, k)
		}
	}
	for serial, x := range w.serials {
		if x.person == person {
			shut(x)
			delete(w.serials, serial)
		}
	}
	return n
}

// all yields every window. It needs w.mu.
func (w *windows) all() iter.Seq[*window] {
	return func(yield func(*window) bool) {
		for _, x := range w.by {
			if !yield(x) {
				return
			}
		}
		for _, x := range w.serials {
			if !yield(x) {
				return
			}
		}
	}
}

// use counts one more login, if the window is still open, and a rule of the person has it serve one more.
func (x *window) use(rules []*policy.Rule, now time.Time) (uses int, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range rules {
		if x.servesMore(r, now, 1) {
			x.uses++
			return x.uses, true
		}
	}
	return x.uses, false
}

// proofOf returns the SSH key that an attempt has proved.
func proofOf(a *Attempt) (key string, ok bool) {
	for _, p := range a.Proofs {
		if p.Kind == policy.Have && p.Method == "key" {
			return p.ID, true
		}
	}
	return "", false
}

// windowOf begins a window for an attempt that is about to be accepted, if a rule for its person wants one. Nil: none does.
func (g *Gate) windowOf(a *Attempt, groups []string, pol *Policy, now time.Time) *window {
	key, ok := proofOf(a)
	if !ok || a.System.Name != "" || !a.Source.IsValid() {
		return nil
	}
	longest := pol.Rules.LongestTrust(groups)
	if longest <= 0 {
		return nil
	}
	return &window{windowKey: windowKey{key: key, source: a.Source.Addr().Unmap()}, opened: now, until: now.Add(longest), attempt: a.ID}
}

// Leans reports whether a login by this attempt's key could lean on one before, for a system; without a name: for any. It
// records nothing, and uses nothing up.
func (g *Gate) Leans(a Attempt) bool {
	x := g.findWindow(&a)
	if x == nil {
		return false
	}
	e := g.roster.find(a.Name)
	e.mu.Lock()
	groups := joined(e.profile.groups, x.groups)
	e.mu.Unlock()
	if a.System.Name == "" {
		x.mu.Lock()
		defer x.mu.Unlock()
		return slices.ContainsFunc(g.policy.Load().Rules.Of(groups), func(r *policy.Rule) bool { return x.servesMore(r, g.now(), 1) })
	}
	rule := g.policy.Load().Rules.Find(groups, a.System.Name, a.System.Tags)
	return rule != nil && x.serves(rule, a.System.Class, g.now(), 1)
}

// MayOpenWindow reports whether a login of this person could open a window: others then wait for it rather than ask.
func (g *Gate) MayOpenWindow(name string) bool {
	e := g.roster.find(name)
	if e == nil {
		return false
	}
	e.mu.Lock()
	groups := e.profile.groups
	e.mu.Unlock()
	return g.policy.Load().Rules.LongestTrust(groups) > 0
}

func (g *Gate) findWindow(a *Attempt) *window {
	if a.Serial != 0 {
		return g.certificateOf(a)
	}
	key, ok := proofOf(a)
	e := g.roster.find(a.Name)
	if !ok || e == nil || !a.Source.IsValid() {
		return nil
	}
	return g.windows.find(windowKey{person: e.name, key: key, source: a.Source.Addr().Unmap()}, g.now())
}

// serves tells whether a rule lets a login lean on the window at a system of a class. More is how many uses are yet to be counted.
func (x *window) serves(rule *policy.Rule, class string, now time.Time, more int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.servesMore(rule, now, more) && (len(rule.Trust.Classes) == 0 || slices.Contains(rule.Trust.Classes, class))
}

// servesMore is serves for any class. It needs x.mu.
func (x *window) servesMore(rule *policy.Rule, now time.Time, more int) bool {
	t := rule.Trust
	life := t.For
	if x.serial != 0 {
		life = t.Certificate
	}
	return !x.closed && !rule.StepUp && life > 0 && now.Before(x.opened.Add(life)) && (t.Uses == 0 || x.uses+more <= t.Uses)
}

// Lean accepts a login to the gateway, without a code, that leans on one before. What it may reach is decided by Access, rule
// by rule.
func (g *Gate) Lean(_ context.Context, a Attempt) Outcome {
	if g.stopping.Load() {
		return Outcome{reason: ReasonStopping}
	}
	x := g.findWindow(&a)
	if x == nil {
		return g.AskRefuse(a, ReasonTrustOver).Outcome()
	}
	now := g.now()
	d := g.draft(&a, "login", audit.Reject, now)
	rec := &d.Record
	e := g.roster.find(a.Name)
	g.identify(rec, &a, e)
	rec.Factors = leanedFactors(x.factors, a.Proofs)
	rec.Detail = append(rec.Detail,
		audit.Detail{Key: detailLeansOn, Value: strconv.FormatUint(x.record, 10)},
		audit.Detail{Key: "leans_on_attempt", Value: x.attempt})
	g.pause.RLock()
	e.mu.Lock()
	reason := e.barred(now, g.policy.Load())
	if reason == ReasonOK {
		uses, open := x.use(g.policy.Load().Rules.Of(joined(e.profile.groups, x.groups)), now)
		if open && x.serial != 0 {
			rec.Effects = append(rec.Effects, audit.Effect{Set: effectCertUsed, ID: strconv.FormatUint(x.serial, 10), Value: int64(uses)})
		}
		rec.Detail = append(rec.Detail, audit.Detail{Key: "trust_use", Value: strconv.Itoa(uses)})
		if !open {
			reason = ReasonTrustOver
		}
	}
	rec.Reason = string(reason)
	grant := Grant{}
	if reason == ReasonOK {
		rec.Result = audit.Accept
		g.roster.seen(e, rec, now)
		grant = Grant{Person: e.name, Attempt: a.ID, Factors: slices.Clone(rec.Factors), directory: x.groups, window: x}
	}
	g.log.Submit(&d.pending, rec, nil)
	e.mu.Unlock()
	g.pause.RUnlock()
	return g.settle(&d.pending, reason, grant)
}

// leanedFactors are the key, proved now, and what the login before has proved.
func leanedFactors(before []audit.Factor, proofs []Proof) []audit.Factor {
	var list []audit.Factor
	for _, p := range proofs {
		list = append(list, audit.Factor{Kind: string(p.Kind), Method: p.Method, Token: p.ID, Result: "ok"})
	}
	for _, f := range before {
		if f.Method != "key" && f.Result == "ok" {
			f.Result = resultLeaned
			list = append(list, f)
		}
	}
	return list
}

// StepUp takes one more code of somebody who has logged in. Its grant is the one given, with the code among its factors.
func (g *Gate) StepUp(_ context.Context, gr Grant, a Attempt) Outcome {
	if g.stopping.Load() || !gr.Valid() {
		return Outcome{reason: ReasonStopping}
	}
	pol, now := g.policy.Load(), g.now()
	a.ID, a.Name = gr.Attempt, gr.Person
	d := g.draft(&a, "step_up", audit.Reject, now)
	rec := &d.Record
	rec.Session = gr.Session
	g.pause.RLock()
	defer g.pause.RUnlock()
	e := g.roster.find(gr.Person)
	g.identify(rec, &a, e)
	judged := e
	if e == nil {
		judged = &g.ghost
	}
	judged.mu.Lock()
	reason := ReasonUnknownPerson
	if e != nil {
		reason = judged.barred(now, pol)
	}
	code := judged.matchCode(&a, now, pol.Settings, reason == ReasonOK)
	rec.Factors = append(rec.Factors, code.factor(false))
	if reason == ReasonOK && g.broken.Load() != nil {
		reason = ReasonStoreDown
	}
	if reason == ReasonOK {
		reason = code.reason
		switch code.reason {
		case ReasonOK:
			judged.burn(rec, code, acceptance{})
			rec.Result = audit.Accept
		case ReasonCodeWrong:
			judged.fail(rec, now, pol)
		}
	}
	rec.Reason = string(reason)
	grant := gr
	grant.stepped, grant.window = true, nil
	grant.Factors = append(slices.Clip(gr.Factors), rec.Factors...)
	if gr.window != nil {
		grant.window = gr.window // a code does not make the leaned ones new
	}
	g.log.Submit(&d.pending, rec, nil)
	judged.mu.Unlock()
	return g.settle(&d.pending, reason, grant)
}

// Window is an open trust window, for operators.
type Window struct {
	Person  string    `json:"person"`
	Key     string    `json:"key"`
	Source  string    `json:"source"`
	Carried bool      `json:"certificate"`
	Opened  time.Time `json:"opened"`
	Until   time.Time `json:"until"`
	Record  uint64    `json:"record"`
	Attempt string    `json:"attempt"`
	Uses    int       `json:"uses"`
}

// Windows lists the open trust windows, the oldest first.
func (g *Gate) Windows() []Window {
	now := g.now()
	g.windows.mu.Lock()
	defer g.windows.mu.Unlock()
	list := make([]Window, 0, len(g.windows.by))
	for x := range g.windows.all() {
		if !now.Before(x.until) {
			continue
		}
		x.mu.Lock()
		list = append(list, Window{x.person, x.key, x.source.String(), x.serial != 0, x.opened, x.until, x.record, x.attempt, x.uses})
		x.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Window) int {
		return cmp.Or(a.Opened.Compare(b.Opened), strings.Compare(a.Attempt, b.Attempt))
	})
	return list
}

// CloseWindows closes somebody's trust windows, and tells how many there were. Connections that lean on them can open nothing
// more.
func (g *Gate) CloseWindows(person string) int { return g.windows.drop(person) }

// personsOf are those whom a change is about.
func (r *roster) personsOf(c Change) (list []string) {
	add := func(name string) {
		if name != "" {
			list = append(list, name)
		}
	}
	if c.PutPerson != nil {
		add(c.PutPerson.Name)
	}
	if c.SetPassword != nil {
		add(c.SetPassword.Person)
	}
	if c.PutToken != nil {
		add(c.PutToken.Person)
	}
	if c.PutKey != nil {
		add(c.PutKey.Person)
	}
	add(c.DeletePerson)
	r.mu.RLock()
	add(r.keys[c.DeleteKey])
	if c.DeleteToken != "" {
		for name, e := range r.people {
			e.mu.Lock()
			if e.device(c.DeleteToken) >= 0 {
				add(name)
			}
			e.mu.Unlock()
		}
	}
	r.mu.RUnlock()
	for _, further := range c.All {
		list = append(list, r.personsOf(further)...)
	}
	return list
}
