package report

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/report/count"
	"sallyport/internal/report/document"
	"sallyport/internal/report/mapping"
)

// maxAccess bounds the rows of people and rules.
const maxAccess = 200_000

// Facts are what reports are made from, read once: all reports that are made of the same Facts agree with each other.
type Facts struct {
	s         State
	r         Request // as Fill left it; the kind is each report's own
	p         *count.Period
	t         *count.Tally
	next      uint64
	integrity Integrity
	standings []Standing
	register  []login.Exception // as it stood at r.On
	groups    map[string][]string
	trails    []count.Trail // of the sample, when it was asked for
	trailed   bool
	mapping   *mapping.Table
	made      time.Time
}

// Gather reads all that the reports need. Request must have been filled.
func Gather(ctx context.Context, s State, r Request) (*Facts, error) {
	zone, err := zoneOf(r.Zone)
	if err != nil {
		return nil, err
	}
	f := &Facts{s: s, r: r, made: s.Now.UTC().Truncate(time.Millisecond), groups: make(map[string][]string), mapping: s.Mapping}
	if f.p, err = count.NewPeriod(r.From, r.To, zone); err != nil {
		return nil, err
	}
	if f.mapping == nil {
		if f.mapping, err = mapping.BuiltIn(Kinds()); err != nil {
			return nil, err
		}
	}
	f.next = s.Log.Next()
	if r.Next > 0 {
		f.next = min(f.next, r.Next)
	}
	f.register = login.ExceptionsAsOf(s.Exceptions, r.On)
	for _, p := range s.People {
		groups := slices.Clip(p.Groups)
		if s.Directory != nil {
			more, err := s.Directory(ctx, p.Name)
			if err != nil {
				return nil, fmt.Errorf("the groups of %s: %w", p.Name, err) // half of them would look like all
			}
			groups = append(groups, more...)
		}
		f.groups[p.Name] = groups
	}
	verified := make(chan Integrity, 1)
	go func() {
		if s.Verify == nil || r.Fast {
			verified <- Integrity{Text: "not verified by this report: `sallyport audit verify` does"}
			return
		}
		verified <- s.Verify(ctx)
	}()
	base := count.New(f.p, versionsOf(s.Exceptions), f.covers(), count.NewDrawing(r.Number, r.Class, r.Seed))
	f.t, err = count.Collect(ctx, s.Log, f.next, f.workers(), base)
	f.integrity = <-verified
	if err != nil {
		return nil, fmt.Errorf("reading the records: %w", err)
	}
	if s.Standings != nil {
		f.standings = s.Standings(ctx)
	}
	return f, nil
}

func (f *Facts) workers() int {
	if f.s.Workers > 0 {
		return f.s.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// Make makes one report.
func Make(ctx context.Context, s State, r Request) (*document.Document, error) {
	f, err := Gather(ctx, s, r)
	if err != nil {
		return nil, err
	}
	return f.Report(ctx, r.Kind)
}

// Report makes one of the reports.
func (f *Facts) Report(ctx context.Context, kind string) (*document.Document, error) {
	r := f.r
	r.Kind, r.Next = kind, f.next
	if kind != Sample {
		r.Number, r.Seed, r.Class = 0, "", ""
	}
	raw, err := json.Marshal(&r)
	if err != nil {
		return nil, err
	}
	d := &document.Document{
		Kind: kind, Request: raw,
		Meta: document.Meta{
			From: r.From, To: r.To, On: r.On, Zone: r.Zone, Made: f.made, By: f.s.By, Filter: r.filter(),
			Version: f.s.Version, Config: f.s.Config, Node: f.s.Node, NextSeq: f.next,
			Integrity: f.integrity.Text, Verified: f.integrity.Done && f.integrity.Sound, Again: r.again(),
		},
	}
	switch kind {
	case MFA:
		f.mfa(d)
	case Access:
		f.access(d)
	case Exceptions:
		f.exceptions(d)
	case Sample:
		err = f.sample(ctx, d)
	case Suppliers:
		f.suppliers(d)
	case Sessions:
		f.sessions(d)
	case LogHealth:
		f.health(d)
	case Mapping:
		f.frameworks(d)
	default:
		err = fmt.Errorf("%q is not a report", cut(kind))
	}
	d.Count()
	return d, err
}

// versionsOf finds the version of an entry that held at a time. It is asked concurrently.
func versionsOf(all []login.Exception) func(id string, milli int64) *login.Exception {
	of := make(map[string][]*login.Exception)
	for i := range all {
		of[all[i].ID] = append(of[all[i].ID], &all[i])
	}
	for _, list := range of {
		slices.SortFunc(list, func(a, b *login.Exception) int { return cmp.Compare(a.Version, b.Version) })
	}
	return func(id string, milli int64) (held *login.Exception) {
		at := count.TimeOf(milli)
		for _, x := range of[id] {
			if !x.Changed.Truncate(time.Millisecond).After(at) {
				held = x
			}
		}
		return held
	}
}

// covers tells whether an entry covers an admission, as far as its record says: person, system, source, protocol and factors. Whether
// somebody was in a group at that time is not on record; the gateway's own decision has looked at it.
func (f *Facts) covers() func(x *login.Exception, g *audit.Glance) bool {
	tags := make(map[string][]string, len(f.s.Systems))
	for _, s := range f.s.Systems {
		tags[s.Name] = s.Tags
	}
	return func(x *login.Exception, g *audit.Glance) bool {
		system := audit.Text(g.System)
		known, there := tags[system]
		q := login.Request{Person: audit.Text(g.Person), Groups: x.Scope.Groups, System: system, Tags: known, Protocol: audit.Text(g.Protocol)}
		if a, err := addressOf(audit.Text(g.Source)); err == nil {
			q.Source = a
		}
		for _, factor := range g.Factors {
			if string(factor.Result) == "ok" || string(factor.Result) == "leaned" {
				q.Proved = append(q.Proved, login.Kind(factor.Kind))
			}
		}
		if !there && slices.ContainsFunc(x.Scope.Systems, func(s string) bool { return strings.HasPrefix(s, "tag:") }) {
			q.System = "" // the system is gone, and which tags it had is not on record
		}
		return x.Scope.Covers(&q)
	}
}

// percent is a share of a whole, rounded down: 99.96 % is not 100.
func percent(part, whole int) string {
	if whole == 0 {
		return "-"
	}
	if part == whole {
		return "100 %"
	}
	tenths := part * 1000 / whole
	return fmt.Sprintf("%d.%d %%", tenths/10, tenths%10)
}

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part*1000/whole) / 10 // as percent
}

// plural counts things.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// state words of register entries.
const (
	stateLive       = "live"
	stateRequested  = "requested"
	stateWaiting    = "waiting"
	stateUnreviewed = "review-overdue"
	stateExpired    = "expired"
	stateEnded      = "ended"
)

func stateOf(x *login.Exception, at time.Time) string { return string(x.At(at)) }

// entryOf finds an entry of the register as it stood, or nil.
func (f *Facts) entryOf(id string) *login.Exception {
	for i := range f.register {
		if f.register[i].ID == id {
			return &f.register[i]
		}
	}
	return nil
}

// someOf turns a list of names into words, at most so many of them.
func someOf(names []string, most int) string {
	slices.Sort(names)
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
