package count

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// Bounds of what a tally lists. Beyond them it goes on counting, and the reports say how many are left out.
const (
	MaxListed   = 1000    // of each list of records
	MaxNames    = 100_000 // of people, systems, tokens, ... that the records name
	maxReviewed = 200_000 // sessions that somebody reviewed
)

// Use is how often something was, and when.
type Use struct {
	N           int
	First, Last int64 // Unix milliseconds; 0: never
}

func (u *Use) at(milli int64) {
	u.N++
	if u.First == 0 || milli < u.First {
		u.First = milli
	}
	u.Last = max(u.Last, milli)
}

func (u *Use) add(o Use) {
	if o.N == 0 {
		return
	}
	n := u.N
	u.at(o.First)
	u.N, u.Last = n+o.N, max(u.Last, o.Last)
}

// Count is of admissions to one class, or to one system, or by one person.
type Count struct {
	Use
	Class    string // of a system
	Kind     string // of a person
	Two      int    // with two kinds of factor
	Leaned   int    // of those: that leaned on an earlier login
	Excepted int    // with fewer, by an exception that was in force
	Bad      int    // with fewer, and nothing that allows it
	Refused  int
	Sessions int
	Recorded int
}

func (c *Count) add(o *Count) {
	c.Use.add(o.Use)
	c.Class, c.Kind = cmp.Or(c.Class, o.Class), cmp.Or(c.Kind, o.Kind)
	c.Two, c.Leaned, c.Excepted, c.Bad = c.Two+o.Two, c.Leaned+o.Leaned, c.Excepted+o.Excepted, c.Bad+o.Bad
	c.Refused, c.Sessions, c.Recorded = c.Refused+o.Refused, c.Sessions+o.Sessions, c.Recorded+o.Recorded
}

// Listed is a record that a report names.
type Listed struct {
	Seq       uint64
	Milli     int64
	Event     string
	Person    string
	System    string
	Class     string
	Factors   string
	Exception string
	Session   string
	Attempt   string
	Why       string
}

// Day is what happened on one day.
type Day struct{ Admitted, Refused int }

// Tally is what one pass over the records counts. That of a stretch can be added to that of the next.
type Tally struct {
	p     *Period
	entry func(id string, milli int64) *login.Exception // the version that held at a time
	cover func(x *login.Exception, g *audit.Glance) bool
	Draw  *Drawing

	First, Last int64 // of all records, in the period or not
	Records     int   // in the period
	Erased      uint64
	challenges  int
	Repeated    int
	Total       Count
	Days        []Day
	Classes     map[string]*Count
	Systems     map[string]*Count
	People      map[string]*Count
	Tokens      map[string]*Use
	Exceptions  map[string]*ExceptionUse
	Grants      map[string]*Use
	Reasons     map[string]*Use     // of refusals
	Ends        map[string]*Use     // of sessions, by reason
	Events      map[string]*Use     // of verbs: protocol admin
	Readers     map[string]*Use     // actor, event
	Reviewed    map[string]struct{} // sessions
	Attempts    map[string]struct{} // whose sessions were reviewed
	Offsets     Offsets

	Bad      List // admissions that nothing allows
	Excepted List // admissions by an exception
	Glass    List // of break-glass identities, and by recovery codes
	Changes  List // of the configuration
	Full     bool // MaxNames was reached
}

// ExceptionUse is who relied on an exception, and how often.
type ExceptionUse struct {
	Use
	People map[string]struct{}
}

// List holds the first MaxListed by their number.
type List struct {
	Rows []Listed
	Left int
}

func (l *List) put(r func() Listed) {
	if len(l.Rows) < MaxListed {
		l.Rows = append(l.Rows, r())
		return
	}
	l.Left++
}

func (l *List) add(o List) {
	l.Rows = append(l.Rows, o.Rows...)
	l.Left += o.Left
	if n := len(l.Rows) - MaxListed; n > 0 {
		l.Rows, l.Left = l.Rows[:MaxListed], l.Left+n
	}
}

// Offsets are what the records say of the clock.
type Offsets struct {
	N, Unsynced int
	Steps       int   // times that somebody set it
	Least, Most int64 // microseconds
	when        Use
}

func (t *Tally) fresh() *Tally {
	return &Tally{
		p: t.p, entry: t.entry, cover: t.cover, Draw: t.Draw.fresh(), Days: make([]Day, len(t.p.Days)),
		Classes: map[string]*Count{}, Systems: map[string]*Count{}, People: map[string]*Count{}, Tokens: map[string]*Use{},
		Exceptions: map[string]*ExceptionUse{}, Grants: map[string]*Use{}, Reasons: map[string]*Use{}, Ends: map[string]*Use{},
		Events: map[string]*Use{}, Readers: map[string]*Use{}, Reviewed: map[string]struct{}{}, Attempts: map[string]struct{}{},
	}
}

// of finds or makes the count of a name as the records have it.
func of[T any](t *Tally, m map[string]*T, name []byte) *T {
	if v := m[string(name)]; v != nil {
		return v
	}
	if len(m) >= MaxNames {
		t.Full = true
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
		} else if len(m) < MaxNames {
			m[name] = v
		}
	}
}

// add takes in the tally of a later stretch.
func (t *Tally) add(o *Tally) {
	if t.First == 0 || o.First != 0 && o.First < t.First {
		t.First = o.First
	}
	t.Last = max(t.Last, o.Last)
	t.Records, t.Erased, t.challenges, t.Repeated = t.Records+o.Records, t.Erased+o.Erased, t.challenges+o.challenges, t.Repeated+o.Repeated
	t.Total.add(&o.Total)
	for i := range t.Days {
		t.Days[i].Admitted += o.Days[i].Admitted
		t.Days[i].Refused += o.Days[i].Refused
	}
	addCount := func(into, from *Count) { into.add(from) }
	addAll(t.Classes, o.Classes, addCount)
	addAll(t.Systems, o.Systems, addCount)
	addAll(t.People, o.People, addCount)
	addUse := func(into, from *Use) { into.add(*from) }
	for _, m := range []struct{ into, from map[string]*Use }{
		{t.Tokens, o.Tokens}, {t.Grants, o.Grants}, {t.Reasons, o.Reasons}, {t.Ends, o.Ends}, {t.Events, o.Events}, {t.Readers, o.Readers},
	} {
		addAll(m.into, m.from, addUse)
	}
	addAll(t.Exceptions, o.Exceptions, func(into, from *ExceptionUse) {
		into.add(from.Use)
		for who := range from.People {
			into.by(who)
		}
	})
	for id := range o.Reviewed {
		mark(t.Reviewed, id)
	}
	for id := range o.Attempts {
		mark(t.Attempts, id)
	}
	t.Bad.add(o.Bad)
	t.Excepted.add(o.Excepted)
	t.Glass.add(o.Glass)
	t.Changes.add(o.Changes)
	t.Offsets.add(o.Offsets)
	t.Full = t.Full || o.Full
	t.Draw.add(o.Draw)
}

func (o *Offsets) add(p Offsets) {
	if o.N == 0 {
		o.Least, o.Most = p.Least, p.Most
	} else if p.N > 0 {
		o.Least, o.Most = min(o.Least, p.Least), max(o.Most, p.Most)
	}
	o.N, o.Unsynced, o.Steps = o.N+p.N, o.Unsynced+p.Unsynced, o.Steps+p.Steps
	o.when.add(p.when)
}

func (u *ExceptionUse) by(person string) {
	if u.People == nil {
		u.People = make(map[string]struct{})
	}
	if len(u.People) < MaxNames {
		u.People[person] = struct{}{}
	}
}

func mark(set map[string]struct{}, id string) {
	if id != "" && id != audit.None && len(set) < maxReviewed {
		set[id] = struct{}{}
	}
}

// leastStretch is how many records are worth a processor of their own.
const leastStretch = 20_000

// Log is what is read of the records. ScanJSON may run several times at once; for an erased record, json is nil.
type Log interface {
	Next() uint64
	ScanJSON(from, to uint64, fn func(seq uint64, json []byte) error) error
}

// New begins a tally of a period. Entry gives the version of an exception that held at a time, and cover tells whether it covers an
// admission; both are asked concurrently.
func New(p *Period, entry func(id string, milli int64) *login.Exception, cover func(x *login.Exception, g *audit.Glance) bool, draw *Drawing) *Tally {
	return &Tally{p: p, entry: entry, cover: cover, Draw: draw}
}

// Collect reads the records before next, on so many processors.
func Collect(ctx context.Context, log Log, next uint64, workers int, base *Tally) (*Tally, error) {
	workers = max(1, min(workers, int(next/leastStretch)))
	parts := make([]*Tally, workers)
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

func (t *Tally) scan(ctx context.Context, log Log, from, to uint64) error {
	var g audit.Glance
	since, until := t.p.From.UnixMilli(), t.p.To.UnixMilli()
	return log.ScanJSON(from, to, func(seq uint64, json []byte) error {
		if seq%lookEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if json == nil {
			t.Erased++
			return nil
		}
		if err := g.Read(json); err != nil {
			return fmt.Errorf("record %d: %w", seq, err)
		}
		if t.First == 0 || g.Milli < t.First {
			t.First = g.Milli
		}
		t.Last = max(t.Last, g.Milli)
		if g.Milli < since || g.Milli >= until {
			return nil
		}
		t.Records++
		t.record(&g)
		return nil
	})
}
