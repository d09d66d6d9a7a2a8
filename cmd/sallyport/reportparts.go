package main

import (
	"context"
	"fmt"
	"time"

	"sallyport/internal/report"
)

// reportParts are what the parts of a running gateway say of themselves, for log-health. Each that is added says it here.
func (g *gateway) reportParts(context.Context) (list []report.Standing) {
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
	c := readClock()
	return append(list, report.Standing{
		Part: "clock", What: "kernel", Well: c.Synced,
		State: fmt.Sprintf("synchronised: %s, offset %v, at most %v wrong", yesNo(c.Synced), c.Offset, c.MaxError),
	})
}
