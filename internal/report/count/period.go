package count

import (
	"fmt"
	"slices"
	"time"
)

// maxDays bounds a period: one count a day is kept.
const maxDays = 3700 // ten years

// Period is a stretch of time, divided into days as a zone's calendar has them: those on which summer time begins or
// ends have 23 and 25 hours.
type Period struct {
	From, To time.Time
	Zone     *time.Location
	Days     []int64 // Unix milliseconds at which each begins; the first may begin before from
}

// NewPeriod divides a stretch of time into days.
func NewPeriod(from, to time.Time, zone *time.Location) (*Period, error) {
	if !from.Before(to) {
		return nil, fmt.Errorf("the period from %s to %s has no length", from.In(zone).Format(time.RFC3339), to.In(zone).Format(time.RFC3339))
	}
	p := &Period{From: from, To: to, Zone: zone}
	y, m, d := from.In(zone).Date()
	for i := 0; ; i++ {
		start := time.Date(y, m, d+i, 0, 0, 0, 0, zone)
		if !start.Before(to) {
			return p, nil
		}
		if i == maxDays {
			return nil, fmt.Errorf("the period from %s to %s has more than %d days", from.In(zone).Format(time.DateOnly), to.In(zone).Format(time.DateOnly), maxDays)
		}
		p.Days = append(p.Days, start.UnixMilli())
	}
}

// Day tells on which day a moment of the period lies.
func (p *Period) Day(milli int64) int {
	i, found := slices.BinarySearch(p.Days, milli)
	if !found {
		i--
	}
	return max(i, 0)
}

// Date is a day's name.
func (p *Period) Date(day int) string {
	return time.UnixMilli(p.Days[day]).In(p.Zone).Format(time.DateOnly)
}

// Months groups the days by month, in order.
func (p *Period) Months() (names []string, of []int) {
	of = make([]int, len(p.Days))
	for i, start := range p.Days {
		name := time.UnixMilli(start).In(p.Zone).Format("2006-01")
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
		of[i] = len(names) - 1
	}
	return names, of
}

// Weekday is the first day's, Monday 0.
func (p *Period) Weekday() int {
	return (int(time.UnixMilli(p.Days[0]).In(p.Zone).Weekday()) + 6) % 7
}

// At writes a moment in the period's zone.
func (p *Period) At(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(p.Zone).Format("2006-01-02 15:04 MST")
}

func (p *Period) Milli(ms int64) string {
	if ms == 0 {
		return ""
	}
	return p.At(time.UnixMilli(ms))
}

// On writes the day of a moment.
func (p *Period) On(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(p.Zone).Format(time.DateOnly)
}

// Before writes the last day of what ends at a moment.
func (p *Period) Before(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return p.On(t.Add(-time.Millisecond))
}

// LastDay is the last day on which something of the register holds. Its days are UTC's wherever the reader is (register.Date).
func LastDay(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return FirstDay(t.Add(-time.Millisecond))
}

// FirstDay is the day on which something of the register begins to hold.
func FirstDay(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}
