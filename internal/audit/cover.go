package audit

import (
	"slices"
	"time"
)

// maxRuns bounds what a verification remembers of erased records: runs of them, and ranges that records of erasures name.
// With more, those beyond count as uncovered.
const maxRuns = 1 << 20

// coverage compares what is erased with what records say was erased.
type coverage struct {
	runs   []run
	lost   []Range // beyond maxRuns
	ranges []toldRange
}

// run is erased records that follow one another.
type run struct {
	Range
	after time.Time // of the last record before it that is there; zero: there is none
}

type toldRange struct {
	Range
	before time.Time // which they were made
	at     time.Time // when it was told
}

// believable tells whether erased records behind one of that time can be as old as was told. A time that was not yet, when it
// was told, says nothing: the clock was wrong.
func (t *toldRange) believable(after time.Time) bool {
	return after.Before(t.before.Add(clockSlack)) || after.After(t.at.Add(clockSlack))
}

func (c *coverage) erased(seq uint64, after time.Time) {
	if n := len(c.runs); n > 0 && c.runs[n-1].Last+1 == seq {
		c.runs[n-1].Last = seq
		return
	}
	if len(c.runs) >= maxRuns {
		c.lost = AppendRange(c.lost, Range{seq, seq}, MaxErasedRanges)
		return
	}
	c.runs = append(c.runs, run{Range{seq, seq}, after})
}

// told takes a record of an erasure in. One that cannot be read covers nothing.
func (c *coverage) told(rec *Record) {
	e, err := ParseErasure(rec)
	if err != nil || rec.Result != Info || !e.Before.Before(rec.Time) {
		return
	}
	for _, r := range e.Ranges {
		if len(c.ranges) >= maxRuns {
			return
		}
		c.ranges = append(c.ranges, toldRange{r, e.Before, rec.Time})
	}
}

// uncovered is what of the runs no record tells, the first MaxErasedRanges ranges.
func (c *coverage) uncovered() []Range {
	slices.SortFunc(c.ranges, func(a, b toldRange) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	var bare []Range
	next := 0            // of the told ranges
	var live []toldRange // those that may reach into what follows
	for _, r := range c.runs {
		for ; next < len(c.ranges) && c.ranges[next].First <= r.Last; next++ {
			live = append(live, c.ranges[next])
		}
		live = slices.DeleteFunc(live, func(t toldRange) bool { return t.Last < r.First })
		at := r.First
		for at <= r.Last {
			reach, ok := uint64(0), false
			first := r.Last + 1 // of the next range that begins behind at
			for _, t := range live {
				if !t.believable(r.after) {
					continue
				}
				switch {
				case t.First <= at && t.Last >= at:
					reach, ok = max(reach, t.Last), true
				case t.First > at:
					first = min(first, t.First)
				}
			}
			if ok {
				at = reach + 1
				continue
			}
			bare = AppendRange(bare, Range{at, min(first, r.Last+1) - 1}, MaxErasedRanges)
			at = first
		}
	}
	return append(bare, c.lost...)
}
