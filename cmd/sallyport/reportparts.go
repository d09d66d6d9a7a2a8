package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/login"
	"sallyport/internal/report"
)

// reportParts are what the parts of a running gateway say of themselves, for log-health. Each that is added says it here.
func (g *gateway) reportParts(ctx context.Context) (list []report.Standing) {
	for _, w := range g.publisher.Standings() {
		s := report.Standing{Part: "witness", What: w.Name, Well: !w.Conflict && w.Failures == 0}
		switch {
		case w.Conflict:
			s.State = "has signed what this log does not hold: one of the two was changed"
		case w.At.IsZero():
			s.State = "has signed nothing yet"
			s.Well = false
		default:
			s.State = fmt.Sprintf("has signed the first %d records at %s; %d are newer", w.Size, w.At.UTC().Format(time.RFC3339), w.Lag)
		}
		if w.Error != "" {
			s.State += "; last error: " + w.Error
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		list = append(list, report.Standing{Part: "witness", What: "none", State: "none is configured: that the log was cut back shows only against checkpoints that were kept elsewhere"})
	}
	receivers, destinations := g.forwards.standings(ctx)
	for _, r := range receivers {
		s := report.Standing{Part: "syslog", What: r.Name, Well: r.Connected, State: fmt.Sprintf("connected; %d records behind, the oldest %.0f s old", r.Lag, r.LagSeconds)}
		if !r.Connected {
			s.State = fmt.Sprintf("not connected: %s; %d records behind, the oldest %.0f s old", r.Error, r.Lag, r.LagSeconds)
		}
		list = append(list, s)
	}
	if len(receivers) == 0 {
		list = append(list, report.Standing{Part: "syslog", What: "none", State: "no receiver of records is configured"})
	}
	for _, d := range destinations {
		s := report.Standing{Part: "alerts", What: d.Name, Well: d.Error == "", State: fmt.Sprintf("%d messages sent", d.Sent)}
		if d.Error != "" {
			s.State += "; last error: " + d.Error
		}
		list = append(list, s)
	}
	for severity, n := range g.alerts.OpenBySeverity() {
		if n > 0 {
			list = append(list, report.Standing{Part: "alerts", What: "open, " + string(severity), State: fmt.Sprintf("%d not closed", n)})
		}
	}
	keep := g.config().Audit.Retention
	state := "records are kept for ever"
	if keep.Records > 0 {
		state = fmt.Sprintf("records are kept for %d days, and then erased but for their leaf in the tree", int(keep.Records.Hours()/24))
	}
	list = append(list, report.Standing{Part: "retention", What: "records", Well: true, State: state})
	if err := g.store.Holds(ctx, func(h login.Hold) error {
		if h.Ended.IsZero() {
			list = append(list, report.Standing{Part: "retention", What: "legal hold " + h.ID, Well: true, State: "since " + h.Made.UTC().Format(time.RFC3339) + ": " + h.Reason})
		}
		return nil
	}); err != nil {
		list = append(list, report.Standing{Part: "retention", What: "legal holds", State: "cannot be read: " + err.Error()})
	}
	slices.SortStableFunc(list, func(a, b report.Standing) int { return strings.Compare(a.Part+a.What, b.Part+b.What) })
	c := readClock()
	return append(list, report.Standing{
		Part: "clock", What: "kernel", Well: c.Synced,
		State: fmt.Sprintf("synchronised: %s, offset %v, at most %v wrong", yesNo(c.Synced), c.Offset, c.MaxError),
	})
}
