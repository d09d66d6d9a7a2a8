package admin

import (
	"context"
	"strconv"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// EventDue is the event of an exception whose review or end comes near.
const EventDue = "exception.due"

// dueDays are how many days before it somebody is told.
var dueDays = [...]int{60, 30, 7, 0}

// Due records which entries of the register have to be reviewed, or end, within 60, 30 and 7 days, and which are overdue: each once
// for each version and number of days, also over restarts. It is called now and then, by one goroutine, and returns what it recorded.
func (s *Service) Due(ctx context.Context) ([]string, error) {
	now := s.Now()
	told := make(map[string]bool)
	f := audit.Filter{Event: EventDue, Since: now.AddDate(0, -6, 0)}
	if err := s.Finder.Find(ctx, f, func(rec *audit.Record) error {
		for _, d := range rec.Detail {
			if d.Key == "key" {
				told[d.Value] = true
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var recorded []string
	for _, x := range s.Gate.Exceptions() {
		if state := x.At(now); state == "ended" || state == "requested" {
			continue
		}
		what, when := "review", x.Review
		if x.Until.Before(when) {
			what, when = "end", x.Until
		}
		within, left := -1, int(when.Sub(now).Hours()/24)
		for _, days := range dueDays {
			if !when.After(now.AddDate(0, 0, days)) {
				within = days // the nearest that holds
			}
		}
		key := x.ID + "/" + strconv.Itoa(x.Version) + "/" + strconv.Itoa(within)
		if within < 0 || told[key] {
			continue
		}
		_, err := s.commit(ctx, change{event: EventDue, person: "none", except: x.ID, detail: []audit.Detail{
			{Key: "key", Value: key},
			{Key: "what", Value: what},
			{Key: "when", Value: when.UTC().Format(time.RFC3339)},
			{Key: "days_left", Value: strconv.Itoa(left)},
			{Key: "title", Value: x.Title},
			{Key: "owner", Value: x.Plan.Owner},
		}, what: login.Change{}})
		if err != nil {
			return recorded, err
		}
		recorded = append(recorded, x.ID+": its "+what+" is due on "+when.UTC().Format(time.DateOnly))
	}
	return recorded, nil
}
