package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// Bounds of what a tally lists. Beyond them it goes on counting, and the reports say how many are left out.
const (
	maxListed   = 1000    // of each list of records
	maxNames    = 100_000 // of people, systems, tokens, ... that the records name
	maxReviewed = 200_000 // sessions that somebody reviewed
)

// use is how often something was, and when.
type use struct {
	n           int
	first, last int64 // Unix milliseconds; 0: never
}

func (u *use) at(milli int64) {
	u.n++
	if u.first == 0 || milli < u.first {
		u.first = milli
	}
	u.last = max(u.last, milli)
}

func (u *use) add(o use) {
	if o.n == 0 {
		return
	}
	n := u.n
	u.at(o.first)
	u.n, u.last = n+o.n, max(u.last, o.last)
}

// count is of admissions to one class, or to one system, or by one person.
type count struct {
	use
	class    string // of a system
	kind     string // of a person
	two      int    // with two kinds of factor
	leaned   int    // of those: that leaned on an earlier login
	excepted int    // with fewer, by an exception that was in force
	bad      int    // with fewer, and nothing that allows it
	refused  int
	sessions int
	recorded int
}

func (c *count) add(o *count) {
	c.use.add(o.use)
	c.class, c.kind = cmp.Or(c.class, o.class), cmp.Or(c.kind, o.kind)
	c.two, c.leaned, c.excepted, c.bad = c.two+o.two, c.leaned+o.leaned, c.excepted+o.excepted, c.bad+o.bad
	c.refused, c.sessions, c.recorded = c.refused+o.refused, c.sessions+o.sessions, c.recorded+o.recorded
}

// listed is a record that a report names.
type listed struct {
	seq       uint64
	milli     int64
	event     string
	person    string
	system    string
	class     string
	factors   string
	exception string
	session   string
	attempt   string
	why       string
}

// daily is what happened on one day.
type daily struct{ admitted, refused int }

// tally is what one pass over the records counts. That of a stretch can be added to that of the next.
type tally struct {
	p     *period
	entry func(id string, milli int64) *login.Exception // the version that held at a time
	cover func(x *login.Exception, g *audit.Glance) bool
	draw  *drawing

	first, last int64 // of all records, in the period or not
	records     int   // in the period
	erased      uint64
	challenges  int
	repeated    int
	total       count
	days        []daily
	classes     map[string]*count
	systems     map[string]*count
	people      map[string]*count
	tokens      map[string]*use
	exceptions  map[string]*exceptionUse
	grants      map[string]*use
	reasons     map[string]*use     // of refusals
	ends        map[string]*use     // of sessions, by reason
	events      map[string]*use     // of verbs: protocol admin
	readers     map[string]*use     // actor, event
	reviewed    map[string]struct{} // sessions
	attempts    map[string]struct{} // whose sessions were reviewed
	offsets     offsets

	bad      list // admissions that nothing allows
	excepted list // admissions by an exception
	glass    list // of break-glass identities, and by recovery codes
	changes  list // of the configuration
	full     bool // maxNames was reached
}

type exceptionUse struct {
	use
	people map[string]struct{}
}

// list holds the first maxListed by their number.
type list struct {
	rows []listed
	left int
}

func (l *list) put(r func() listed) {
	if len(l.rows) < maxListed {
		l.rows = append(l.rows, r())
		return
	}
	l.left++
}

func (l *list) add(o list) {
	l.rows = append(l.rows, o.rows...)
	l.left += o.left
	if n := len(l.rows) - maxListed; n > 0 {
		l.rows, l.left = l.rows[:maxListed], l.left+n
	}
}

// offsets are what the records say of the clock.
type offsets struct {
	n, unsynced int
	steps       int   // times that somebody set it
	least, most int64 // microseconds
	when        use
}

func (t *tally) fresh() *tally {
	return &tally{
		p: t.p, entry: t.entry, cover: t.cover, draw: t.draw.fresh(), days: make([]daily, len(t.p.days)),
		classes: map[string]*count{}, systems: map[string]*count{}, people: map[string]*count{}, tokens: map[string]*use{},
		exceptions: map[string]*exceptionUse{}, grants: map[string]*use{}, reasons: map[string]*use{}, ends: map[string]*use{},
		events: map[string]*use{}, readers: map[string]*use{}, reviewed: map[string]struct{}{}, attempts: map[string]struct{}{},
	}
}

// of finds or makes the count of a name as the records have it.
func of[T any](t *tally, m map[string]*T, name []byte) *T {
	if v := m[string(name)]; v != nil {
		return v
	}
	if len(m) >= maxNames {
		t.full = true
		return new(T) // counted in the totals alone
	}
	v := new(T)
	m[string(name)] = v
	return v
}

func addAll[T any](m, o map[string]*T, add func(into, from *T)) {
	for name, v := range o {
		if have := m[name]; have != nil {
			add(have, v)
		} else if len(m) < maxNames {
			m[name] = v
		}
	}
}

// add takes in the tally of a later stretch.
func (t *tally) add(o *tally) {
	if t.first == 0 || o.first != 0 && o.first < t.first {
		t.first = o.first
	}
	t.last = max(t.last, o.last)
	t.records, t.erased, t.challenges, t.repeated = t.records+o.records, t.erased+o.erased, t.challenges+o.challenges, t.repeated+o.repeated
	t.total.add(&o.total)
	for i := range t.days {
		t.days[i].admitted += o.days[i].admitted
		t.days[i].refused += o.days[i].refused
	}
	addCount := func(into, from *count) { into.add(from) }
	addAll(t.classes, o.classes, addCount)
	addAll(t.systems, o.systems, addCount)
	addAll(t.people, o.people, addCount)
	addUse := func(into, from *use) { into.add(*from) }
	for _, m := range []struct{ into, from map[string]*use }{
		{t.tokens, o.tokens}, {t.grants, o.grants}, {t.reasons, o.reasons}, {t.ends, o.ends}, {t.events, o.events}, {t.readers, o.readers},
	} {
		addAll(m.into, m.from, addUse)
	}
	addAll(t.exceptions, o.exceptions, func(into, from *exceptionUse) {
		into.add(from.use)
		for who := range from.people {
			into.by(who)
		}
	})
	for id := range o.reviewed {
		mark(t.reviewed, id)
	}
	for id := range o.attempts {
		mark(t.attempts, id)
	}
	t.bad.add(o.bad)
	t.excepted.add(o.excepted)
	t.glass.add(o.glass)
	t.changes.add(o.changes)
	t.offsets.add(o.offsets)
	t.full = t.full || o.full
	t.draw.add(o.draw)
}

func (o *offsets) add(p offsets) {
	if o.n == 0 {
		o.least, o.most = p.least, p.most
	} else if p.n > 0 {
		o.least, o.most = min(o.least, p.least), max(o.most, p.most)
	}
	o.n, o.unsynced, o.steps = o.n+p.n, o.unsynced+p.unsynced, o.steps+p.steps
	o.when.add(p.when)
}

func (u *exceptionUse) by(person string) {
	if u.people == nil {
		u.people = make(map[string]struct{})
	}
	if len(u.people) < maxNames {
		u.people[person] = struct{}{}
	}
}

func mark(set map[string]struct{}, id string) {
	if id != "" && id != audit.None && len(set) < maxReviewed {
		set[id] = struct{}{}
	}
}

// leastStretch is how many records are worth a processor of their own.
const leastStretch = 20_000

// collect reads the records before next, on so many processors.
func collect(ctx context.Context, log Log, next uint64, workers int, base *tally) (*tally, error) {
	workers = max(1, min(workers, int(next/leastStretch)))
	parts := make([]*tally, workers)
	errs := make([]error, workers)
	var wait sync.WaitGroup
	for i := range workers {
		parts[i] = base.fresh()
		from, to := next*uint64(i)/uint64(workers), next*uint64(i+1)/uint64(workers)
		wait.Go(func() { errs[i] = parts[i].scan(ctx, log, from, to) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, p := range parts[1:] {
		parts[0].add(p)
	}
	return parts[0], nil
}

// lookEvery is how many records lie between two looks at whether somebody still waits.
const lookEvery = 4096

func (t *tally) scan(ctx context.Context, log Log, from, to uint64) error {
	var g audit.Glance
	since, until := t.p.from.UnixMilli(), t.p.to.UnixMilli()
	return log.ScanJSON(from, to, func(seq uint64, json []byte) error {
		if seq%lookEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if json == nil {
			t.erased++
			return nil
		}
		if err := g.Read(json); err != nil {
			return fmt.Errorf("record %d: %w", seq, err)
		}
		if t.first == 0 || g.Milli < t.first {
			t.first = g.Milli
		}
		t.last = max(t.last, g.Milli)
		if g.Milli < since || g.Milli >= until {
			return nil
		}
		t.records++
		t.record(&g)
		return nil
	})
}

// names turns a list of names into words, at most so many of them.
func someOf(names []string, most int) string {
	slices.Sort(names)
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
