package login

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
	"sallyport/internal/throttle"
	"sallyport/otp"
)

// Log keeps records durably. The order of Submit is the order of the records.
type Log interface {
	Submit(p *audit.Pending, rec *audit.Record, change []byte)
	Flush() (next uint64, err error)
	Err() error
}

// Settings are the numbers of judging.
type Settings struct {
	Skew         int               // TOTP steps of clock error either way
	LookAhead    int               // HOTP counters that may have been skipped
	Lock         throttle.Settings // lock-out, shared by all protocols
	ChallengeFor time.Duration     // life of a challenge
}

// Policy is what a configuration says about logins. It is replaced as a whole, and never changed in place.
type Policy struct {
	Settings Settings
	Rules    policy.Rules
}

// Options are what a Gate is made of.
type Options struct {
	Log    Log
	First  FirstFactor
	Now    func() time.Time
	Policy *Policy
	// Blind turns the name of a stranger into what the records show of it: a keyed hash, since people type their
	// passwords into the wrong field.
	Blind func(name string) string
}

// Gate decides logins. Its methods may be called concurrently, and return when the record of the decision is
// durable, or can't be made so.
type Gate struct {
	log      Log
	now      func() time.Time
	blind    func(string) string
	firsts   atomic.Pointer[firstFactors]
	policy   atomic.Pointer[Policy]
	roster   *roster
	vault    *vault
	books    *books
	tickets  *tickets
	used     *usedStates
	sessions *sessions
	windows  *windows
	ghost    entry     // a stranger's stand-in, so that the same work is done for him
	drafts   sync.Pool // of *draft
	stopping atomic.Bool
	broken   atomic.Pointer[error] // a change that is recorded and could not be stored

	// pause is held for reading from the moment that a decision changes memory until its record is submitted, and
	// for writing while a snapshot is taken. Lock order: pause, sessions.mu, roster.mu, entry.mu, books.mu or tickets.mu; vault.mu is held alone.
	pause sync.RWMutex
}

// New makes a Gate without people. Restore, Replay and Apply fill it, before the first attempt.
func New(o Options) (*Gate, error) {
	seed := make([]byte, 20)
	if _, err := rand.Read(seed); err != nil {
		return nil, err
	}
	params := otp.Default()
	g := &Gate{
		log: o.Log, now: o.Now, blind: o.Blind,
		roster: newRoster(), vault: newVault(), books: newBooks(), tickets: newTickets(), used: newUsedStates(), sessions: newSessions(), windows: newWindows(),
		ghost: entry{profile: new(profile), devices: []device{{params: &params, seed: string(seed), last: neverUsed}}},
	}
	g.drafts.New = newDraft
	g.SetFirstFactor(o.First)
	g.SetPolicy(o.Policy)
	return g, nil
}

// SetLog gives the Gate its log, when the log could only be opened with the Gate's Restore and Replay at hand. It
// must be called before the first attempt.
func (g *Gate) SetLog(l Log) { g.log = l }

// SetPolicy replaces rules and settings; attempts that are under way end by what they began with.
func (g *Gate) SetPolicy(p *Policy) { g.policy.Store(p) }

// Policy returns the rules and settings in force.
func (g *Gate) Policy() *Policy { return g.policy.Load() }

// Stop makes the gate refuse new attempts without an answer, so that a NAS asks another gateway.
func (g *Gate) Stop() { g.stopping.Store(true) }

var errStopping = errors.New("the gateway is stopping")

// Open returns nil when logins can be decided, and why not otherwise.
func (g *Gate) Open() error {
	if g.stopping.Load() {
		return errStopping
	}
	if err := g.broken.Load(); err != nil {
		return *err
	}
	return g.log.Err()
}

// NewID makes an attempt's or a session's id: a UUID version 7 (RFC 9562 section 5.7), which sorts by time.
func NewID() string {
	var id [16]byte
	_, _ = rand.Read(id[6:]) // never fails (crypto/rand)
	ms := uint64(time.Now().UnixMilli())
	binary.BigEndian.PutUint16(id[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(id[2:], uint32(ms))
	id[6] = 0x70 | id[6]&0x0f // version
	id[8] = 0x80 | id[8]&0x3f // variant
	return formatID(id)
}

// Key tells the fingerprint of an SSH public key in wire form (RFC 4253 section 6.6), and whether it is registered
// for that person. It has no side effects: the key is not proved yet.
func (g *Gate) Key(name string, wire []byte) (fingerprint string, registered bool) {
	return g.roster.key(name, wire)
}

// Decide judges an attempt that brings all its evidence: it accepts or rejects.
func (g *Gate) Decide(ctx context.Context, a Attempt) Outcome {
	if g.stopping.Load() {
		return Outcome{reason: ReasonStopping}
	}
	first := firstResult{}
	if a.Joined.Empty() {
		first = g.checkFirst(ctx, &a, nil)
	} else {
		first = g.part(ctx, &a)
	}
	if first.more != nil { // nobody can be asked
		first.reason = ReasonDirectoryDown
	}
	g.learnGroups(ctx, &a, &first)
	return g.conclude(&a, first, ReasonOK, audit.Effect{}, true).Outcome()
}

// Asked is a decision that is made, and whose record is on its way to the disk. Until it is there, nobody may learn
// what was decided, so the one way to it is Outcome.
type Asked struct {
	gate   *Gate
	draft  *draft // nil: nothing was decided
	reason Reason
	grant  Grant
	extra  any
	opens  *window // once the record is durable; nil: none
}

// Outcome waits until the record is durable, or can't be made so. It may be called once.
func (q Asked) Outcome() Outcome {
	if q.draft == nil {
		return Outcome{reason: q.reason}
	}
	o := q.gate.settle(&q.draft.pending, q.reason, q.grant)
	o.extra = q.extra
	if grant, ok := o.Accepted(); ok && q.opens != nil {
		q.opens.record = grant.Seq()
		q.gate.windows.open(q.opens, q.gate.now())
	}
	if !o.Unanswerable() { // what failed may still be looked at by the log
		q.gate.drafts.Put(q.draft)
	}
	return o
}

// Ask is Decide for attempts whose first factor somebody else has checked, as Attempt.Proofs says, and of people who are
// Immediate. It never waits, so
// that one goroutine can ask for many, and collect the outcomes together. Any other attempt is not decided. The Grant
// does not list the factors, which opens no session of this gateway's own.
func (g *Gate) Ask(a Attempt) Asked {
	if g.stopping.Load() {
		return Asked{reason: ReasonStopping}
	}
	first, ok := vouched(&a)
	if !ok || !g.Immediate(a.Name) {
		return Asked{reason: ReasonPasswordMissing}
	}
	return g.conclude(&a, first, ReasonOK, audit.Effect{}, false)
}

// Begin takes the first factor of a login in two rounds. Whatever it finds, the outcome is a challenge, so that
// strangers learn nothing from the first round (P6); what it found is in the record and in the Progress.
func (g *Gate) Begin(ctx context.Context, a Attempt) Outcome {
	if g.stopping.Load() {
		return Outcome{reason: ReasonStopping}
	}
	id, err := parseID(a.ID)
	if err != nil {
		return Outcome{reason: ReasonStateUnknown}
	}
	first := g.checkFirst(ctx, &a, nil)
	if g.excepted(ctx, &a, &first) {
		return g.conclude(&a, first, ReasonOK, audit.Effect{}, true).Outcome()
	}
	return g.challenge(&a, Progress{id: id, name: nameDigest(a.Name), roomy: g.firsts.Load().asks}, first, audit.Effect{})
}

// Continue takes the answer to a further question of the person's directory, as Progress.Further tells, in a.Password.
// It ends like Begin.
func (g *Gate) Continue(ctx context.Context, p Progress, a Attempt) Outcome {
	if g.stopping.Load() {
		return Outcome{reason: ReasonStopping}
	}
	used, why := g.redeem(p, &a)
	if why == ReasonOK && !p.Further() {
		why = ReasonStateUnknown
	}
	if why != ReasonOK {
		return g.AskRefuse(a, why).Outcome()
	}
	first := g.checkFirst(ctx, &a, []byte(p.more))
	p.round++
	return g.challenge(&a, p, first, used)
}

// challenge records how the first factor ended, and asks for what comes next.
func (g *Gate) challenge(a *Attempt, p Progress, first firstResult, used audit.Effect) Outcome {
	pol, now := g.policy.Load(), g.now()
	d := g.draft(a, "login", audit.Challenge, now)
	rec := &d.Record
	if used.Set != "" {
		rec.Effects = append(rec.Effects, used)
	}
	switch first.reason {
	case ReasonOK, ReasonPasswordWrong, ReasonPasswordUnset, ReasonFurther:
		rec.Factors = append(rec.Factors, factorOf(first))
	}

	g.pause.RLock()
	e := g.roster.find(a.Name)
	g.identify(rec, a, e)
	if e == nil {
		rec.Reason = string(ReasonUnknownPerson)
		if first.reason != ReasonFurther { // it is asked on, as everybody is
			first.reason = ReasonPasswordWrong
		}
		g.log.Submit(&d.pending, rec, nil)
	} else {
		e.mu.Lock()
		reason := e.barred(now, pol)
		if reason == ReasonOK {
			reason = first.reason
		}
		if reason == ReasonPasswordWrong || reason == ReasonPasswordUnset {
			e.fail(rec, now, pol)
		}
		rec.Reason = string(reason)
		g.log.Submit(&d.pending, rec, nil)
		e.mu.Unlock()
	}
	g.pause.RUnlock()

	why := Reason(rec.Reason)
	receipt, err := d.pending.Wait()
	if err != nil {
		return Outcome{reason: ReasonLogDown}
	}
	g.drafts.Put(d)
	p.created, p.first, p.method = now.UTC().Truncate(time.Millisecond), first.reason, cut(first.method, maxMethod)
	p.further, p.more = false, ""
	o := Outcome{kind: challenged, reason: why, receipt: receipt, extra: first.extra}
	if first.more != nil {
		p.further, p.more, o.further = true, string(first.more.State), first.more
	}
	o.progress = p
	return o
}

// Finish takes the second round: p from Begin, on whatever node that was, and a.Code. Each challenge is answered once.
func (g *Gate) Finish(ctx context.Context, p Progress, a Attempt) Outcome {
	return g.finish(p, a, true, func(first *firstResult) { g.learnGroups(ctx, &a, first) }).Outcome()
}

// AskFinish is Finish without the wait for the record, and with a Grant like Ask's. It is for people who are Immediate.
func (g *Gate) AskFinish(p Progress, a Attempt) Asked {
	if !g.Immediate(a.Name) {
		return Asked{reason: ReasonDirectoryDown}
	}
	return g.finish(p, a, false, func(*firstResult) {})
}

func (g *Gate) finish(p Progress, a Attempt, listed bool, learn func(*firstResult)) Asked {
	if g.stopping.Load() {
		return Asked{reason: ReasonStopping}
	}
	used, state := g.redeem(p, &a)
	if state != ReasonOK && state != ReasonStateUsed && state != ReasonOverloaded {
		return g.AskRefuse(a, state)
	}
	if p.Further() {
		return g.AskRefuse(a, ReasonStateUnknown)
	}
	first := firstResult{reason: p.first, method: p.method, counted: true}
	learn(&first)
	return g.conclude(&a, first, state, used, listed)
}

// redeem uses up a challenge, which may be done once, and gives the attempt its id. The effect belongs into the record.
func (g *Gate) redeem(p Progress, a *Attempt) (audit.Effect, Reason) {
	a.ID = p.ID()
	now, life := g.now(), g.policy.Load().Settings.ChallengeFor
	if p.name != nameDigest(a.Name) {
		return audit.Effect{}, ReasonStateUnknown
	}
	// A challenge from the future is one from before the clock was set back: its age is not known.
	if age := now.Sub(p.created); age > life || age < -life {
		return audit.Effect{}, ReasonStateExpired
	}
	until, turn := p.created.Add(2*life), p.turn()
	return audit.Effect{Set: effectUsed, ID: formatID(turn), Until: until}, g.used.take(turn, now, until)
}

// Refuse records a refusal that an adapter found by itself.
func (g *Gate) Refuse(_ context.Context, a Attempt, why Reason) Outcome {
	return g.AskRefuse(a, why).Outcome()
}

// AskRefuse is Refuse without the wait for the record.
func (g *Gate) AskRefuse(a Attempt, why Reason) Asked {
	d := g.draft(&a, "login", audit.Reject, g.now())
	g.identify(&d.Record, &a, g.roster.find(a.Name))
	d.Reason = string(why)
	g.log.Submit(&d.pending, &d.Record, nil)
	return Asked{gate: g, draft: d, reason: why}
}

// conclude is the one place where a login is judged; settle makes the acceptance, from the record's receipt. Listed
// tells whether the grant is to list the factors.
func (g *Gate) conclude(a *Attempt, first firstResult, state Reason, used audit.Effect, listed bool) Asked {
	pol, now := g.policy.Load(), g.now()
	d := g.draft(a, "login", audit.Reject, now)
	rec := &d.Record
	if state == ReasonOK && used.Set != "" {
		rec.Effects = append(rec.Effects, used)
	}
	g.pause.RLock()
	defer g.pause.RUnlock()
	e := g.roster.find(a.Name)
	g.identify(rec, a, e)
	judged := e
	if e == nil {
		judged = &g.ghost
	}
	judged.mu.Lock()
	reason, grant := g.judge(a, rec, judged, e == nil, first, state, samenessOf(a, used.ID), pol, now)
	rec.Reason = string(reason)
	if reason == ReasonRepeated {
		reason = ReasonOK
	}
	if reason == ReasonOK {
		rec.Result = audit.Accept
		g.roster.seen(judged, rec, now)
	}
	var opens *window
	if relied(rec) {
		g.books.used(rec.Exception, now)
	}
	if listed && reason == ReasonOK {
		grant.Factors = slices.Clone(rec.Factors)
		if grant.lacking || grant.Emergency {
			opens = nil // what is not two kinds proves nothing to others, and an emergency is one
		} else if opens = g.windowOf(a, joined(e.profile.groups, first.groups), pol, now); opens != nil {
			opens.person, opens.factors, opens.groups, opens.turn = e.name, grant.Factors, first.groups, g.windows.turn(e.name)
		}
	}
	g.log.Submit(&d.pending, rec, nil)
	judged.mu.Unlock()
	return Asked{gate: g, draft: d, reason: reason, grant: grant, extra: first.extra, opens: opens}
}

// judge applies the guard clauses, in the order of their reasons, to what was proved. It changes memory and says so
// in the record's effects, and in no other way. As is the attempt's sameness.
func (g *Gate) judge(a *Attempt, rec *audit.Record, e *entry, stranger bool, first firstResult, state Reason, as uint64, pol *Policy, now time.Time) (Reason, Grant) {
	barred := e.barred(now, pol)
	code := e.matchCode(a, now, pol.Settings, !stranger && state == ReasonOK && barred == ReasonOK && first.reason == ReasonOK)
	repeated := code.reason == ReasonCodeReused && !code.recovery && e.devices[code.device].repeats(code.step, as, now)
	if repeated && (state == ReasonOK || state == ReasonStateUsed) {
		code.reason, state = ReasonOK, ReasonOK
	}
	rec.Factors = append(rec.Factors, factorOf(first))
	kinds := make([]policy.Kind, 0, 4)
	if first.reason == ReasonOK {
		kinds = append(kinds, policy.Know)
	}
	for _, p := range a.Proofs {
		if p.Kind != policy.Know {
			rec.Factors = append(rec.Factors, audit.Factor{Kind: string(p.Kind), Method: p.Method, Token: p.ID, Result: "ok"})
			kinds = append(kinds, p.Kind)
		}
	}
	if code.reason == ReasonOK {
		kinds = append(kinds, policy.Have)
	}
	rec.Factors = append(rec.Factors, code.factor(repeated))

	if g.broken.Load() != nil {
		return ReasonStoreDown, Grant{}
	}
	if stranger {
		return ReasonUnknownPerson, Grant{}
	}
	if state != ReasonOK {
		return state, Grant{}
	}
	if barred != ReasonOK {
		return barred, Grant{}
	}
	verdict := g.permit(pol, policy.Request{
		Person: e.name, Groups: joined(e.profile.groups, first.groups), System: a.System.Name, Tags: a.System.Tags,
		Source: a.Source.Addr(), Protocol: a.Protocol, Capability: a.Capability, Proved: kinds,
	}, now)
	// An exception lets a factor be missing that it does not ask for. One that was typed, and is wrong, refuses all the same.
	waived := verdict.Effect == policy.Allow && verdict.Lacking
	if first.reason == ReasonPasswordMissing || code.reason == ReasonCodeMissing || code.reason == ReasonNoToken {
		if strings.HasPrefix(string(verdict.Reason), "exception_") && (first.reason == ReasonOK || first.reason == ReasonPasswordMissing) {
			nameVerdict(rec, &verdict)
			return Reason(verdict.Reason), Grant{}
		}
	}
	if first.reason != ReasonOK && !(waived && first.reason == ReasonPasswordMissing) {
		guessed := first.reason == ReasonPasswordWrong || first.reason == ReasonPasswordUnset
		if first.reason == ReasonPasswordMissing && g.books.at(now) != nil { // an exception may do without it: then the code is what counts
			if code.reason == ReasonCodeReused {
				return ReasonCodeReused, Grant{}
			}
			guessed = code.reason == ReasonCodeWrong
		}
		if !first.counted && guessed {
			e.fail(rec, now, pol)
		}
		return first.reason, Grant{}
	}
	uncoded := waived && (code.reason == ReasonCodeMissing || code.reason == ReasonNoToken)
	if code.reason != ReasonOK && !uncoded {
		if code.reason == ReasonCodeWrong {
			e.fail(rec, now, pol)
		}
		return code.reason, Grant{}
	}
	nameVerdict(rec, &verdict)
	if verdict.Effect != policy.Allow {
		return Reason(verdict.Reason), Grant{}
	}

	grant := e.grantOf(a.ID, &verdict, now)
	grant.directory = first.groups
	if repeated {
		return ReasonRepeated, grant
	}
	if !uncoded {
		accepted := acceptedAt(now, as)
		accepted.own = true
		e.burn(rec, code, accepted)
	}
	if e.locked != nil {
		st := pol.Settings.Lock.Succeeded(*e.locked)
		e.setThrottle(st)
		rec.Effects = append(rec.Effects, audit.Effect{Set: effectFailures, ID: e.name, Value: int64(st.Failures), Until: st.Until})
	}
	return ReasonOK, grant
}

// joined are a person's groups here and those that the directory gave him.
func joined(own, directory []string) []string {
	if len(directory) == 0 {
		return own
	}
	return append(slices.Clip(own), directory...)
}

// nameVerdict says in a record what decided.
func nameVerdict(rec *audit.Record, v *policy.Verdict) {
	rec.Exception = v.Exception
	if v.Rule != nil {
		rec.Rule = v.Rule.Name
		if rec.Exception == "" && strings.HasPrefix(string(v.Reason), "exception_") {
			rec.Exception = v.Rule.Exception // which would have been needed
		}
	}
	if v.Grant != "" {
		rec.Detail = append(rec.Detail, audit.Detail{Key: detailGrant, Value: v.Grant})
	}
}

// grantOf makes the grant of a verdict that allows. The caller holds e.mu.
func (e *entry) grantOf(attempt string, v *policy.Verdict, now time.Time) Grant {
	gr := Grant{Person: e.name, Attempt: attempt, Exception: v.Exception, lacking: v.Lacking}
	if rule := v.Rule; rule != nil {
		gr.Rule, gr.Idle, gr.Max, gr.Lock, gr.Record = rule.Name, rule.Idle, rule.Max, rule.Lock, rule.Record
	}
	if left := v.Until.Sub(now); !v.Until.IsZero() && (gr.Max == 0 || left < gr.Max) {
		gr.Max = left
	}
	if e.profile.kind == BreakGlass {
		gr.Emergency, gr.Record = true, true
		if gr.Max == 0 || gr.Max > MaxEmergency {
			gr.Max = MaxEmergency
		}
	}
	return gr
}

// MaxEmergency is how long a session of a break-glass identity lasts at most, whatever its rule says.
const MaxEmergency = 4 * time.Hour

// permit asks the rules. A login to the gateway itself (no system) is for those whom some rule lets do something
// over SSH, with two kinds proved; each target is then asked for by Access.
func (g *Gate) permit(pol *Policy, r policy.Request, now time.Time) policy.Verdict {
	r.Register = g.books.at(now)
	if r.System == "" {
		return pol.Rules.DecideGateway(r)
	}
	return pol.Rules.Decide(r)
}

// settle waits for the record and makes the outcome of it.
func (g *Gate) settle(pending *audit.Pending, reason Reason, grant Grant) Outcome {
	receipt, err := pending.Wait()
	if err != nil {
		return Outcome{reason: ReasonLogDown}
	}
	if reason != ReasonOK {
		return Outcome{kind: rejected, reason: reason, receipt: receipt, sentence: refused}
	}
	grant.receipt = receipt
	return Outcome{kind: accepted, reason: reason, receipt: receipt, grant: grant}
}

// barred tells whether the person may try at all. The caller holds e.mu.
func (e *entry) barred(now time.Time, pol *Policy) Reason {
	if r := e.profile.barred(now); r != ReasonOK {
		return r
	}
	st := e.throttle()
	if st.Failures >= throttle.MaxFailures {
		return ReasonLockedHard // until an operator unlocks: no more guesses in a row than NIST SP 800-63B-4 allows
	}
	if locked, hard, _ := pol.Settings.Lock.Locked(now, st); hard {
		return ReasonLockedHard
	} else if locked {
		return ReasonLocked
	}
	return ReasonOK
}

// barred tells whether an operator has shut the person out.
func (p *profile) barred(now time.Time) Reason {
	switch {
	case p.disabled:
		return ReasonPersonDisabled
	case !p.from.IsZero() && now.Before(p.from):
		return ReasonPersonNotYet
	case !p.until.IsZero() && !now.Before(p.until):
		return ReasonPersonExpired
	}
	return ReasonOK
}

// fail counts a failure. The caller holds e.mu.
func (e *entry) fail(rec *audit.Record, now time.Time, pol *Policy) {
	st := pol.Settings.Lock.Failed(now, e.throttle())
	e.setThrottle(st)
	rec.Effects = append(rec.Effects, audit.Effect{Set: effectFailures, ID: e.name, Value: int64(st.Failures), Until: st.Until})
	rec.Detail = append(rec.Detail, audit.Detail{Key: "failures", Value: strconv.Itoa(st.Failures)})
	if st.Until.After(now) {
		rec.Detail = append(rec.Detail, audit.Detail{Key: "locked_until", Value: st.Until.UTC().Format(time.RFC3339)})
	}
}

func cut(s string, n int) string { return s[:min(len(s), n)] }
