package report

import (
	"fmt"
	"slices"
	"time"
)

// maxDays bounds a period: one count a day is kept.
const maxDays = 3700 // ten years

// period is a stretch of time, divided into days as a zone's calendar has them: those on which summer time begins or
// ends have 23 and 25 hours.
type period struct {
	from, to time.Time
	zone     *time.Location
	days     []int64 // Unix milliseconds at which each begins; the first may begin before from
}

func newPeriod(from, to time.Time, zone *time.Location) (*period, error) {
	if !from.Before(to) {
		return nil, fmt.Errorf("the period from %s to %s has no length", from.In(zone).Format(time.RFC3339), to.In(zone).Format(time.RFC3339))
	}
	p := &period{from: from, to: to, zone: zone}
	y, m, d := from.In(zone).Date()
	for i := 0; ; i++ {
		start := time.Date(y, m, d+i, 0, 0, 0, 0, zone)
		if !start.Before(to) {
			return p, nil
		}
		if i == maxDays {
			return nil, fmt.Errorf("the period from %s to %s has more than %d days", from.In(zone).Format(time.DateOnly), to.In(zone).Format(time.DateOnly), maxDays)
		}
		p.days = append(p.days, start.UnixMilli())
	}
}

// day tells on which day a moment of the period lies.
func (p *period) day(milli int64) int {
	i, found := slices.BinarySearch(p.days, milli)
	if !found {
		i--
	}
	return max(i, 0)
}

// date is a day's name.
func (p *period) date(day int) string {
	return time.UnixMilli(p.days[day]).In(p.zone).Format(time.DateOnly)
}

// months groups the days by month, in order.
func (p *period) months() (names []string, of []int) {
	of = make([]int, len(p.days))
	for i, start := range p.days {
		name := time.UnixMilli(start).In(p.zone).Format("2006-01")
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
		of[i] = len(names) - 1
	}
	return names, of
}

// weekday is the first day's, Monday 0.
func (p *period) weekday() int {
	return (int(time.UnixMilli(p.days[0]).In(p.zone).Weekday()) + 6) % 7
}

// at writes a moment in the period's zone.
func (p *period) at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(p.zone).Format("2006-01-02 15:04 MST")
}

func (p *period) milli(ms int64) string {
	if ms == 0 {
		return ""
	}
	return p.at(time.UnixMilli(ms))
}

// on writes the day of a moment.
func (p *period) on(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(p.zone).Format(time.DateOnly)
}

// before writes the last day of what ends at a moment.
func (p *period) before(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return p.on(t.Add(-time.Millisecond))
}

// lastDay is the last day on which something of the register holds. Its days are UTC's wherever the reader is (register.Date).
func lastDay(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return firstDay(t.Add(-time.Millisecond))
}

func firstDay(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}
