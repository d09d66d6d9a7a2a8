package count

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// TimeOf is the moment of Unix milliseconds.
func TimeOf(milli int64) time.Time { return time.UnixMilli(milli).UTC() }

// record takes one record of the period in.
func (t *Tally) record(g *audit.Glance) {
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
		of(t, t.Ends, g.Reason).at(g.Milli)
		return
	case "recording.chunk", login.EventSessionUpdate:
		return
	case "clock.step":
		t.Offsets.Steps++
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
		mark(t.Reviewed, audit.Text(g.Session))
		mark(t.Attempts, audit.Text(g.Attempt))
	}
	if string(g.Protocol) != "admin" {
		return
	}
	of(t, t.Events, g.Event).at(g.Milli)
	if reads(g.Event) {
		key := append(append(append([]byte{}, g.Detail("actor")...), 0), g.Event...)
		of(t, t.Readers, key).at(g.Milli)
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
func (t *Tally) decided(g *audit.Glance) {
	day := &t.Days[t.p.Day(g.Milli)]
	switch string(g.Result) {
	case string(audit.Accept):
		if string(g.Reason) == string(login.ReasonRepeated) {
			t.Repeated++
			return
		}
		day.Admitted++
		t.admitted(g)
	case string(audit.Reject):
		day.Refused++
		t.Total.Refused++
		of(t, t.Reasons, g.Reason).at(g.Milli)
		if string(g.Person) != audit.Unknown {
			of(t, t.People, g.Person).Refused++
		}
		of(t, t.Systems, g.System).Refused++
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

func (t *Tally) admitted(g *audit.Glance) {
	kinds, leaned, recovery := proved(g)
	why := ""
	var of1 *ExceptionUse
	if kinds < 2 {
		if why = t.wrong(g); why == "" {
			of1 = of(t, t.Exceptions, g.Exception)
			of1.at(g.Milli)
			of1.by(audit.Text(g.Person))
		}
	}
	person, system := of(t, t.People, g.Person), of(t, t.Systems, g.System)
	if person.Kind == "" || string(g.PersonKind) != person.Kind {
		person.Kind = audit.Text(g.PersonKind)
	}
	if system.Class == "" || string(g.Class) != system.Class {
		system.Class = audit.Text(g.Class)
	}
	for _, c := range [...]*Count{&t.Total, of(t, t.Classes, g.Class), person, system} {
		c.at(g.Milli)
		switch {
		case kinds >= 2:
			c.Two++
			if leaned {
				c.Leaned++
			}
		case why == "":
			c.Excepted++
		default:
			c.Bad++
		}
	}
	row := func() Listed { return t.listed(g, why) }
	switch {
	case kinds >= 2:
	case why == "":
		t.Excepted.put(row)
	default:
		t.Bad.put(row)
	}
	if string(g.PersonKind) == string(login.BreakGlass) || recovery {
		t.Glass.put(row)
	}
	for _, f := range g.Factors {
		if string(f.Result) == "ok" && string(f.Token) != audit.None && string(f.Kind) == string(login.Have) {
			of(t, t.Tokens, f.Token).at(g.Milli)
		}
	}
	if id := g.Detail("grant"); id != nil {
		of(t, t.Grants, id).at(g.Milli)
	}
	t.Draw.take(g)
}

// wrong says why an admission with fewer than two kinds was not right, or nothing. The register's entry is taken in the version that
// held at that moment.
func (t *Tally) wrong(g *audit.Glance) string {
	if string(g.Exception) == audit.None {
		return "no exception is named"
	}
	x := t.entry(audit.Text(g.Exception), g.Milli)
	switch {
	case x == nil:
		return "the register had no such entry then"
	case string(x.At(TimeOf(g.Milli))) != "live":
		return "the exception was " + string(x.At(TimeOf(g.Milli))) + " then"
	case !t.cover(x, g):
		return "the exception does not cover it"
	}
	return ""
}

func (t *Tally) listed(g *audit.Glance, why string) Listed {
	var factors []string
	for _, f := range g.Factors {
		factors = append(factors, audit.Text(f.Kind)+":"+audit.Text(f.Method)+" "+audit.Text(f.Result))
	}
	return Listed{
		Seq: g.Seq, Milli: g.Milli, Event: audit.Text(g.Event), Person: audit.Text(g.Person), System: audit.Text(g.System), Class: audit.Text(g.Class),
		Factors: strings.Join(factors, ", "), Exception: audit.Text(g.Exception), Session: audit.Text(g.Session), Attempt: audit.Text(g.Attempt), Why: why,
	}
}

func (t *Tally) started(g *audit.Glance) {
	if string(g.Detail("repeated")) == "yes" {
		return // a NAS has said it again
	}
	recorded := 0
	if rec := g.Detail("recording"); len(rec) > 0 && string(rec) != audit.None {
		recorded = 1
	}
	for _, c := range [...]*Count{&t.Total, of(t, t.People, g.Person), of(t, t.Systems, g.System)} {
		c.Sessions++
		c.Recorded += recorded
	}
}

// clock takes in what a record says of the clock (adjtimex(2)).
func (t *Tally) clock(g *audit.Glance) {
	synced := g.Detail("clock_synced")
	if synced == nil {
		return
	}
	if string(synced) != "yes" {
		t.Offsets.Unsynced++
	}
	us, err := strconv.ParseInt(string(g.Detail("clock_offset_us")), 10, 64)
	if err != nil {
		return
	}
	t.Offsets.add(Offsets{N: 1, Least: us, Most: us, when: Use{1, g.Milli, g.Milli}})
}

func (t *Tally) change(g *audit.Glance, key string) {
	t.Changes.put(func() Listed {
		return Listed{
			Seq: g.Seq, Milli: g.Milli, Event: audit.Text(g.Event), Person: audit.Text(g.Detail("actor")), System: string(g.Result),
			Why: audit.Text(g.Detail(key)), Factors: audit.Text(g.Detail("config")),
		}
	})
}
