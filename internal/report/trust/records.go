package trust

import (
	"container/heap"
	"fmt"
	"sort"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// emit hands records on in the order of their times.
type emit struct {
	t     *Trust
	fn    func(*audit.Record) error
	later queue
	steps map[string]int64
	id    uint64
	err   error
}

// queue holds records that are to come, the earliest first.
type queue []*audit.Record

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].Time.Before(q[j].Time) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(*audit.Record)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// put hands a record on, after those of earlier times.
func (e *emit) put(rec *audit.Record) {
	for len(e.later) > 0 && e.later[0].Time.Before(rec.Time) && e.err == nil {
		e.err = e.out(heap.Pop(&e.later).(*audit.Record))
	}
	if e.err == nil {
		e.err = e.out(rec)
	}
}

// out gives each code that is used up its step, which grows in the order of the records.
func (e *emit) out(rec *audit.Record) error {
	for i := range rec.Effects {
		x := &rec.Effects[i]
		x.Value = max(rec.Time.Unix()/30, e.steps[x.ID]+1)
		e.steps[x.ID] = x.Value
	}
	return e.fn(rec)
}

// in lets a record come later.
func (e *emit) in(rec *audit.Record) { heap.Push(&e.later, rec) }

// newID is of the form of a UUID of version 7.
func (e *emit) newID(at time.Time) string {
	e.id++
	ms := uint64(at.UnixMilli())
	return fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", ms>>16, ms&0xffff, e.id>>24&0xfff, e.id>>12&0xfff, e.id&0xfff|e.t.dice.next()>>16<<12&0xfffffffff000)
}

// hours are the hours of the year and how busy each is, added up.
func (t *Trust) hours() (starts []time.Time, sums []int) {
	total := 0
	for at := t.Begin; at.Before(t.End); at = at.Add(time.Hour) {
		local := at.In(t.Begin.Location())
		weight := 2
		if h := local.Hour(); h >= 8 && h < 18 {
			weight = 30
		} else if h >= 6 && h < 22 {
			weight = 8
		}
		if d := local.Weekday(); d == time.Saturday || d == time.Sunday {
			weight = (weight + 4) / 5
		}
		total += weight
		starts, sums = append(starts, at), append(sums, total)
	}
	return starts, sums
}

// perAttempt is about how many records one attempt makes.
const perAttempt = 3

// Records gives about n records of the year, in order. Their numbers and node are for the caller to give.
func (t *Trust) Records(n int, fn func(*audit.Record) error) error {
	t.dice = newDice("the year's records")
	e := &emit{t: t, fn: fn, steps: make(map[string]int64)}
	starts, sums := t.hours()
	attempts := max(n/perAttempt, 1)
	total := sums[len(sums)-1]
	e.admin(t.Begin.Add(-time.Hour), "log.start")
	e.clock(t.Begin.Add(-59 * time.Minute))
	month, day := -1, -1
	for i := range attempts {
		at := (float64(i) + 0.5) / float64(attempts) * float64(total)
		h := sort.SearchInts(sums, int(at)+1)
		before := 0
		if h > 0 {
			before = sums[h-1]
		}
		part := (at - float64(before)) / float64(sums[h]-before)
		when := starts[h].Add(time.Duration(part * float64(time.Hour))).UTC().Truncate(time.Millisecond)
		if m := int(when.Month()); m != month {
			month = m
			e.clock(when.Add(-2 * time.Millisecond))
			e.admin(when.Add(-time.Millisecond), "config.reload", audit.Detail{Key: "changes", Value: "ssh.targets: one more"})
			e.admin(when.Add(-time.Millisecond), "audit.search", audit.Detail{Key: "filter", Value: "{}"})
		}
		if d := when.YearDay(); d != day {
			day = d
			e.nightly(when)
			if d%90 == 7 {
				e.emergency(when)
			}
		}
		e.attempt(when)
		if e.err != nil {
			return e.err
		}
	}
	for len(e.later) > 0 && e.err == nil {
		if rec := heap.Pop(&e.later).(*audit.Record); rec.Time.Before(t.End) {
			e.err = e.out(rec)
		}
	}
	return e.err
}

func (e *emit) base(at time.Time, event string, result audit.Result, p *login.Person) *audit.Record {
	return &audit.Record{Time: at, Event: event, Result: result, Reason: "ok", Person: p.Name, PersonKind: string(p.Kind), Login: p.Name}
}

func (e *emit) admin(at time.Time, event string, detail ...audit.Detail) {
	e.put(&audit.Record{
		Time: at, Event: event, Result: audit.Info, Reason: "ok", Person: "none", Login: "none", Protocol: "admin", Source: "socket", System: login.GatewaySystem,
		Detail: append([]audit.Detail{{Key: "actor", Value: pick(e.t.dice, []string{"jane.smith", "root", "auditor.brown"})}}, detail...),
	})
}

func (e *emit) clock(at time.Time) {
	e.admin(at, "gateway.start", audit.Detail{Key: "clock_synced", Value: "yes"}, audit.Detail{Key: "clock_offset_us", Value: fmt.Sprint(e.t.dice.below(1800) - 900)},
		audit.Detail{Key: "version", Value: "example"}, audit.Detail{Key: "config", Value: e.t.Config})
}

func (e *emit) factors(p *login.Person, rec *audit.Record) {
	token := e.t.codes[p.Name]
	rec.Factors = []audit.Factor{{Kind: "know", Method: "password", Result: "ok"}, {Kind: "have", Method: "totp", Token: token, Result: "ok"}}
}

// step says that a code is used up, once.
func (e *emit) step(p *login.Person, rec *audit.Record) {
	rec.Effects = append(rec.Effects, audit.Effect{Set: "token.step", ID: e.t.codes[p.Name]})
}

func (e *emit) attempt(at time.Time) {
	d := e.t.dice
	if d.chance(25) {
		e.put(&audit.Record{
			Time: at, Event: "login", Result: audit.Reject, Reason: "unknown_person", Login: fmt.Sprintf("hmac:%016x", d.next()), Protocol: "ssh",
			Source: fmt.Sprintf("203.0.113.%d", d.below(250)), System: login.GatewaySystem, Attempt: e.newID(at),
		})
		return
	}
	p := pick(d, e.t.humans)
	if d.chance(600) {
		p = e.t.humans[d.below(60)] // those who work on systems log in most
	}
	systems := e.t.reaches[p.Name]
	grant := ""
	if p.Kind == login.Supplier {
		var open []login.System
		for i := range e.t.Grants {
			if g := &e.t.Grants[i]; g.Person == p.Name && !at.Before(g.From) && at.Before(g.Until) {
				for _, s := range systems {
					if s.Name == g.Systems[0] || s.Name == g.Systems[1] {
						open = append(open, s)
					}
				}
				grant = g.ID
			}
		}
		if systems = open; len(open) == 0 {
			rec := e.base(at, "login", audit.Reject, p)
			rec.Reason, rec.Protocol, rec.Source, rec.System, rec.Class, rec.Rule, rec.Attempt = "grant_not_live", "radius", "198.51.100.9", "vpn-suppliers", "remote", "suppliers", e.newID(at)
			e.factors(p, rec)
			e.put(rec)
			return
		}
	}
	if len(systems) == 0 {
		return
	}
	s := pick(d, systems)
	rule := e.t.Rules.Rules.Find(p.Groups, s.Name, s.Tags)
	var detail []audit.Detail
	if grant != "" {
		detail = append(detail, audit.Detail{Key: "grant", Value: grant})
	}
	attempt := e.newID(at)
	source := fmt.Sprintf("10.%d.%d.%d", 20+len(p.Name)%5, d.below(4), 1+len(p.FullName)*7%250)
	if s.Class == "remote" {
		e.radius(at, p, s, rule, attempt, source, detail)
		return
	}
	e.ssh(at, p, s, rule, attempt, source, detail)
}

func (e *emit) radius(at time.Time, p *login.Person, s login.System, rule *login.Rule, attempt, source string, detail []audit.Detail) {
	d := e.t.dice
	first := e.base(at, "login", audit.Challenge, p)
	first.Reason, first.Protocol, first.Source, first.System, first.Class, first.Attempt = "code_missing", "radius", source, s.Name, s.Class, attempt
	first.Factors = []audit.Factor{{Kind: "know", Method: "password", Result: "ok"}, {Kind: "have", Method: "totp", Result: "missing"}}
	e.put(first)
	rec := e.base(at.Add(time.Duration(4+d.below(16))*time.Second), "login", audit.Accept, p)
	rec.Protocol, rec.Source, rec.System, rec.Class, rec.Rule, rec.Attempt, rec.Detail = "radius", source, s.Name, s.Class, rule.Name, attempt, detail
	e.factors(p, rec)
	if d.chance(60) {
		rec.Result, rec.Reason, rec.Rule = audit.Reject, pick(d, []string{"code_wrong", "code_wrong", "password_wrong", "code_reused", "locked"}), ""
		rec.Factors[1].Result = "wrong"
		e.in(rec)
		return
	}
	e.step(p, rec)
	e.in(rec)
	session := e.newID(at)
	start := e.base(rec.Time.Add(time.Second), "session.start", audit.Info, p)
	start.Protocol, start.Source, start.System, start.Class, start.Attempt, start.Session = "radius", source, s.Name, s.Class, attempt, session
	e.in(start)
	end := *start
	end.Time, end.Event, end.Reason = start.Time.Add(time.Duration(10+d.below(500))*time.Minute), "session.end", pick(d, []string{"user_request", "idle_timeout", "session_timeout"})
	e.in(&end)
}

func (e *emit) ssh(at time.Time, p *login.Person, s login.System, rule *login.Rule, attempt, source string, detail []audit.Detail) {
	d := e.t.dice
	gate := e.base(at, "login", audit.Accept, p)
	gate.Protocol, gate.Source, gate.System, gate.Attempt = "ssh", source, login.GatewaySystem, attempt
	e.factors(p, gate)
	one := !rule.Compliant()
	if one {
		gate.Factors, gate.Exception = gate.Factors[:1], rule.Exception
	} else {
		e.step(p, gate)
	}
	e.put(gate)
	session := e.newID(at)
	rec := e.base(at.Add(300*time.Millisecond), "access", audit.Accept, p)
	rec.Protocol, rec.Source, rec.System, rec.Class, rec.Account, rec.Rule, rec.Attempt, rec.Session, rec.Detail = "ssh", source, s.Name, s.Class, "root", rule.Name, attempt, session, detail
	rec.Factors, rec.Exception = gate.Factors, gate.Exception
	e.in(rec)
	start := *rec
	start.Time, start.Event, start.Result, start.Detail = at.Add(700*time.Millisecond), "session.start", audit.Info, nil
	if rule.Record {
		start.Detail = []audit.Detail{{Key: "recording", Value: at.Format("2006/01/") + session + ".cast.age"}}
	}
	e.in(&start)
	end := start
	end.Time = start.Time.Add(time.Duration(1+d.below(90)) * time.Minute)
	end.Event, end.Reason, end.Detail = "session.end", pick(d, []string{"ok", "ok", "ok", "idle", "max_time", "lost"}), []audit.Detail{{Key: "bytes_out", Value: fmt.Sprint(d.below(1 << 20))}, {Key: "duration_ms", Value: fmt.Sprint(end.Time.Sub(start.Time).Milliseconds())}}
	e.in(&end)
	if d.chance(120) {
		review := end
		review.Time, review.Event, review.Reason, review.Protocol = end.Time.Add(time.Duration(5+d.below(200))*time.Hour), "session.review", "ok", "admin"
		review.Factors, review.Rule, review.Exception = nil, "", ""
		review.Detail = []audit.Detail{{Key: "actor", Value: "jane.smith"}, {Key: "by", Value: "jane.smith"}, {Key: "finding", Value: "none"}}
		e.in(&review)
	}
}

// nightly is the machine that proves one kind of factor, by its exception.
func (e *emit) nightly(at time.Time) {
	p := &login.Person{Name: "svc-extract", Kind: login.Service}
	x := login.ExceptionsAsOf(e.t.Exceptions, at)
	for i := range x {
		if x[i].ID != "EX-2" {
			continue
		}
		rec := e.base(at.Add(-5*time.Millisecond), "access", audit.Accept, p)
		rec.Protocol, rec.Source, rec.System, rec.Class, rec.Account, rec.Rule, rec.Attempt, rec.Session = "ssh", "10.9.0.7", "batch-extract", "privileged-internal", "extract", "nightly extract", e.newID(at), e.newID(at)
		rec.Factors = []audit.Factor{{Kind: "have", Method: "key", Token: "SHA256:example0", Result: "ok"}}
		rec.Exception = "EX-2"
		if string(x[i].At(rec.Time)) != "live" {
			rec.Result, rec.Reason = audit.Reject, "exception_unreviewed"
		}
		e.put(rec)
	}
}

// emergency is a use of a break-glass identity; somebody looks at most of them.
func (e *emit) emergency(at time.Time) {
	p := &login.Person{Name: "emergency1", Kind: login.BreakGlass}
	rule := e.t.Rules.Rules.Find([]string{"emergency"}, "core-sw1", []string{"network"})
	e.ssh(at.Add(-4*time.Millisecond), p, login.System{Name: "core-sw1", Tags: []string{"network"}, Class: "privileged-internal"}, rule, e.newID(at), "10.20.0.5",
		[]audit.Detail{{Key: "reason", Value: "the directory is down"}})
}
