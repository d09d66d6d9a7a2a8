package report

import (
	"bytes"
	"strconv"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// record takes one record of the period in.
func (t *tally) record(g *audit.Glance) {
	switch string(g.Event) {
	case "login":
		if string(g.System) == login.GatewaySystem {
			if string(g.Result) == string(audit.Accept) {
				return // it opens nothing: what it reaches are admissions of their own
			}
		}
		t.decided(g)
		return
	case "access":
		t.decided(g)
		return
	case login.EventSessionStart:
		t.started(g)
		return
	case login.EventSessionEnd:
		of(t, t.ends, g.Reason).at(g.Milli)
		return
	case "recording.chunk", login.EventSessionUpdate:
		return
	case "clock.step":
		t.offsets.steps++
	case "gateway.start":
		t.clock(g)
		t.change(g, "config")
	case "config.reload":
		t.change(g, "changes")
	}
	if bytes.HasPrefix(g.Event, []byte("clock")) {
		t.clock(g)
	}
	if bytes.HasSuffix(g.Event, []byte(".review")) && !bytes.HasPrefix(g.Event, []byte("exception")) {
		mark(t.reviewed, audit.Text(g.Session))
		mark(t.attempts, audit.Text(g.Attempt))
	}
	if string(g.Protocol) != "admin" {
		return
	}
	of(t, t.events, g.Event).at(g.Milli)
	if reads(g.Event) {
		key := append(append(append([]byte{}, g.Detail("actor")...), 0), g.Event...)
		of(t, t.readers, key).at(g.Milli)
	}
}

// reads tells whether an event is of somebody who looked at records, recordings or reports.
func reads(event []byte) bool {
	for _, prefix := range []string{"audit.", "recording.", "report.", "session.show", "session.list", "session.past"} {
		if bytes.HasPrefix(event, []byte(prefix)) {
			return true
		}
	}
	return false
}

// decided takes in an admission or a refusal.
func (t *tally) decided(g *audit.Glance) {
	day := &t.days[t.p.day(g.Milli)]
	switch string(g.Result) {
	case string(audit.Accept):
		if string(g.Reason) == string(login.ReasonRepeated) {
			t.repeated++
			return
		}
		day.admitted++
		t.admitted(g)
	case string(audit.Reject):
		day.refused++
		t.total.refused++
		of(t, t.reasons, g.Reason).at(g.Milli)
		if string(g.Person) != audit.Unknown {
			of(t, t.people, g.Person).refused++
		}
		of(t, t.systems, g.System).refused++
	case string(audit.Challenge):
		t.challenges++
	}
}

// proved tells how many kinds of factor a record has, and whether some lean on another login.
func proved(g *audit.Glance) (kinds int, leaned, recovery bool) {
	mask := 0
	for _, f := range g.Factors {
		switch string(f.Result) {
		case "ok":
		case "leaned":
			leaned = true
		default:
			continue
		}
		switch login.Kind(f.Kind) {
		case login.Know:
			mask |= 1
		case login.Have:
			mask |= 2
		case login.Are:
			mask |= 4
		}
		recovery = recovery || string(f.Method) == "recovery"
	}
	return mask&1 + mask>>1&1 + mask>>2, leaned, recovery
}

func (t *tally) admitted(g *audit.Glance) {
	kinds, leaned, recovery := proved(g)
	why := ""
	var of1 *exceptionUse
	if kinds < 2 {
		if why = t.wrong(g); why == "" {
			of1 = of(t, t.exceptions, g.Exception)
			of1.at(g.Milli)
			of1.by(audit.Text(g.Person))
		}
	}
	person, system := of(t, t.people, g.Person), of(t, t.systems, g.System)
	if person.kind == "" || string(g.PersonKind) != person.kind {
		person.kind = audit.Text(g.PersonKind)
	}
	if system.class == "" || string(g.Class) != system.class {
		system.class = audit.Text(g.Class)
	}
	for _, c := range [...]*count{&t.total, of(t, t.classes, g.Class), person, system} {
		c.at(g.Milli)
		switch {
		case kinds >= 2:
			c.two++
			if leaned {
				c.leaned++
			}
		case why == "":
			c.excepted++
		default:
			c.bad++
		}
	}
	row := func() listed { return t.listed(g, why) }
	switch {
	case kinds >= 2:
	case why == "":
		t.excepted.put(row)
	default:
		t.bad.put(row)
	}
	if string(g.PersonKind) == string(login.BreakGlass) || recovery {
		t.glass.put(row)
	}
	for _, f := range g.Factors {
		if string(f.Result) == "ok" && string(f.Token) != audit.None && string(f.Kind) == string(login.Have) {
			of(t, t.tokens, f.Token).at(g.Milli)
		}
	}
	if id := g.Detail("grant"); id != nil {
		of(t, t.grants, id).at(g.Milli)
	}
	t.draw.take(g)
}

// wrong says why an admission with fewer than two kinds was not right, or nothing. The register's entry is taken in the version that
// held at that moment.
func (t *tally) wrong(g *audit.Glance) string {
	if string(g.Exception) == audit.None {
		return "no exception is named"
	}
	x := t.entry(audit.Text(g.Exception), g.Milli)
	switch {
	case x == nil:
		return "the register had no such entry then"
	case string(x.At(timeOf(g.Milli))) != "live":
		return "the exception was " + string(x.At(timeOf(g.Milli))) + " then"
	case !t.cover(x, g):
		return "the exception does not cover it"
	}
	return ""
}

func (t *tally) listed(g *audit.Glance, why string) listed {
	var factors []string
	for _, f := range g.Factors {
		factors = append(factors, audit.Text(f.Kind)+":"+audit.Text(f.Method)+" "+audit.Text(f.Result))
	}
	return listed{
		seq: g.Seq, milli: g.Milli, event: audit.Text(g.Event), person: audit.Text(g.Person), system: audit.Text(g.System), class: audit.Text(g.Class),
		factors: strings.Join(factors, ", "), exception: audit.Text(g.Exception), session: audit.Text(g.Session), attempt: audit.Text(g.Attempt), why: why,
	}
}

func (t *tally) started(g *audit.Glance) {
	if string(g.Detail("repeated")) == "yes" {
		return // a NAS has said it again
	}
	recorded := 0
	if rec := g.Detail("recording"); len(rec) > 0 && string(rec) != audit.None {
		recorded = 1
	}
	for _, c := range [...]*count{&t.total, of(t, t.people, g.Person), of(t, t.systems, g.System)} {
		c.sessions++
		c.recorded += recorded
	}
}

// clock takes in what a record says of the clock (adjtimex(2)).
func (t *tally) clock(g *audit.Glance) {
	synced := g.Detail("clock_synced")
	if synced == nil {
		return
	}
	if string(synced) != "yes" {
		t.offsets.unsynced++
	}
	us, err := strconv.ParseInt(string(g.Detail("clock_offset_us")), 10, 64)
	if err != nil {
		return
	}
	t.offsets.add(offsets{n: 1, least: us, most: us, when: use{1, g.Milli, g.Milli}})
}

func (t *tally) change(g *audit.Glance, key string) {
	t.changes.put(func() listed {
		return listed{
			seq: g.Seq, milli: g.Milli, event: audit.Text(g.Event), person: audit.Text(g.Detail("actor")), system: string(g.Result),
			why: audit.Text(g.Detail(key)), factors: audit.Text(g.Detail("config")),
		}
	})
}
