package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/recording"
)

// The retention erases what is past its time, and nothing else does. It works on the log alone: what a record said is gone, its
// leaf stays, and the record of the erasure comes first.
const (
	retainFirst = 10 * time.Minute // after the start
	retainEvery = 24 * time.Hour
	// retainGap is how long the log may have been silent before a start. After more, the clock may be years ahead, by which
	// everything is past its time: then somebody has to say so.
	retainGap = 31 * 24 * time.Hour
)

// trusted is what the last operator who had the retention run vouched for: what is past its time by this clock is.
type trusted struct {
	gap   bool // before this start nothing was recorded for long
	steps int  // how often the clock had been set since
}

// retainAsked is the verb audit.retain.
func (a *app) retainAsked(ctx context.Context, dry bool) (admin.Retained, error) {
	seen := trusted{gap: true}
	if a.clock != nil { // now: for a step while it runs nobody vouches
		_, seen.steps = a.clock.standing()
	}
	out, err := a.retain(ctx, dry)
	byClock := !out.Before.IsZero() || !out.Recordings.Before.IsZero() // else all is kept for ever, whatever the time
	if err == nil && !dry && byClock {
		a.mu.Lock()
		a.trusted = seen
		a.mu.Unlock()
	}
	return out, err
}

// retain removes recordings and erases records that are past their time.
func (a *app) retain(ctx context.Context, dry bool) (out admin.Retained, err error) {
	a.retaining.Lock()
	defer a.retaining.Unlock()
	setting, now := a.config().Audit.Retention, a.admin.Now()
	out.DryRun, out.Ranges = dry, []audit.Range{}
	holds, err := a.admin.LiveHolds(ctx)
	if err != nil {
		return out, err // fail closed: what is held is not known
	}
	out.Holds = len(holds)
	what := []audit.Detail{
		{Key: "setting_records", Value: spanOf(setting.Records)},
		{Key: "setting_recordings", Value: spanOf(setting.Recordings)},
		{Key: "holds", Value: strconv.Itoa(len(holds))},
	}
	// Recordings first: the records tell whose they are.
	if setting.Recordings > 0 {
		if err := a.retainRecordings(ctx, now.Add(-setting.Recordings), holds, what, &out); err != nil {
			return out, err
		}
	}
	if setting.Records == 0 {
		return out, nil
	}
	if !dry {
		if err := a.index.takeRewritten(ctx); err != nil {
			return out, err
		}
	}
	out.Before = now.Add(-setting.Records).UTC().Truncate(time.Millisecond)
	e := audit.Erasure{
		Before: out.Before, DryRun: true,
		Keep: func(rec *audit.Record) bool {
			for i := range holds {
				if holds[i].Covers(rec) {
					return true
				}
			}
			return false
		},
		Announce: func(details []audit.Detail) error {
			return a.admin.RecordErasure(ctx, holds, append(details, what...))
		},
		Rewritten: a.index.take,
	}
	out.Erased, err = a.log.Erase(ctx, e)
	if err != nil || dry || out.Erased.Erased == 0 {
		return out, err
	}
	if err := a.snapshotTwice(ctx, out, what); err != nil {
		return out, err
	}
	e.DryRun = false
	out.Erased, err = a.log.Erase(ctx, e)
	return out, err
}

// snapshotTwice makes both snapshots that are kept newer than what is to go. The record between them gives each a place of its own.
func (a *app) snapshotTwice(ctx context.Context, out admin.Retained, what []audit.Detail) error {
	if err := a.snapshot(ctx); err != nil {
		return err
	}
	detail := append([]audit.Detail{
		{Key: "before", Value: out.Before.Format(time.RFC3339)},
		{Key: "to_erase", Value: strconv.FormatUint(out.Erased.Erased, 10)},
		{Key: "held", Value: strconv.FormatUint(out.Held, 10)},
	}, what...)
	if err := a.admin.Record(ctx, "audit.retain", audit.Info, string(login.ReasonOK), detail...); err != nil {
		return err
	}
	return a.snapshot(ctx)
}

// retainRecordings removes recordings, each after the record that says so. Those of which nobody knows any more whose they were
// stay while any hold of their time is in force.
func (a *app) retainRecordings(ctx context.Context, before time.Time, holds []login.Hold, what []audit.Detail, out *admin.Retained) error {
	out.Recordings.Before = before.UTC().Truncate(time.Millisecond)
	dir := a.config().Recording.Dir
	var starts map[string]*audit.Record // of the sessions of a day
	var of time.Time
	return recording.WalkOld(dir, before, func(old recording.Old) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if starts == nil || !old.Day.Equal(of) {
			var err error
			if starts, err = a.startsOf(ctx, old.Day); err != nil {
				return err
			}
			of = old.Day
		}
		start := starts[old.Session]
		for i := range holds {
			if holds[i].CoversSession(start, old.Day, old.Last) {
				out.Recordings.Held++
				return nil
			}
		}
		out.Recordings.Removed++
		out.Recordings.Bytes += old.Bytes
		if out.DryRun {
			return nil
		}
		detail := append([]audit.Detail{
			{Key: recording.DetailRecording, Value: old.Path},
			{Key: "bytes", Value: strconv.FormatInt(old.Bytes, 10)},
			{Key: "before", Value: before.UTC().Format(time.RFC3339)},
		}, what...)
		if err := a.admin.RecordRecordingErased(ctx, holds, start, old.Session, detail); err != nil {
			return err
		}
		return recording.Remove(dir, old)
	})
}

// startsOf finds the records of the starts of a day's sessions.
func (a *app) startsOf(ctx context.Context, day time.Time) (map[string]*audit.Record, error) {
	const slack = time.Hour // between a recording's name and the record
	starts := make(map[string]*audit.Record)
	f := audit.Filter{Event: login.EventSessionStart, Since: day.Add(-slack), Until: day.Add(24*time.Hour + slack)}
	return starts, a.index.Find(ctx, f, func(rec *audit.Record) error {
		starts[rec.Session] = rec
		return nil
	})
}

func spanOf(d time.Duration) string {
	if d == 0 {
		return "forever"
	}
	return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + "d"
}

// tendRetention runs the retention once a day.
func (g *gateway) tendRetention(ctx context.Context) error {
	timer := time.NewTimer(retainFirst)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(retainEvery)
		out, err := g.retainNow(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			g.slog.Error("what is past its time was not erased", "error", err, "hint", retainHint(err))
			_ = g.admin.Record(ctx, "audit.retain", audit.Error, "failed", audit.Detail{Key: "error", Value: err.Error()}) // the log is the trouble, or tells
		case out.Erased.Erased > 0 || out.Recordings.Removed > 0:
			g.slog.Info("what was past its time was erased", "records", out.Erased.Erased, "recordings", out.Recordings.Removed, "held", out.Held)
		}
	}
}

// errClock is why nothing is erased without being asked to.
var errClock = errors.New("the clock cannot be trusted with what is past its time")

func retainHint(err error) string {
	if errors.Is(err, errClock) {
		return "check the clock (`sallyport status`), then `sallyport audit retain --dry-run`; once `sallyport audit retain` was run, it goes by itself again"
	}
	return "`sallyport audit retain` erases it by hand"
}

// retainNow refuses where the clock may be wrong, and nobody has vouched for it: what it takes for old would be gone for good.
func (g *gateway) retainNow(ctx context.Context) (admin.Retained, error) {
	g.mu.Lock()
	trust := g.trusted
	g.mu.Unlock()
	if _, steps := g.clock.standing(); steps > trust.steps {
		return admin.Retained{}, fmt.Errorf("%w: it was set since the start", errClock)
	}
	if trust.gap {
		return g.retain(ctx, false)
	}
	before := time.Time{}
	err := g.index.Find(ctx, audit.Filter{Until: g.since, Limit: 1}, func(rec *audit.Record) error { before = rec.Time; return nil })
	if err != nil {
		return admin.Retained{}, err
	}
	if gap := g.since.Sub(before); !before.IsZero() && gap > retainGap {
		return admin.Retained{}, fmt.Errorf("%w: before this start nothing was recorded for %d days", errClock, int(gap.Hours()/24))
	}
	return g.retain(ctx, false)
}

func (c *cli) auditRetain() *cobra.Command {
	var in admin.RetainIn
	cmd := &cobra.Command{
		Use: "retain", Short: "Erase records and recordings that are past their time, as the gateway does once a day", Args: cobra.NoArgs,
		Long: `Erases what records said that are older than audit.retention.records, and removes recordings older than audit.retention.recordings,
except what a legal hold covers. The tree stays whole, so that audit verify goes on to prove the rest; what goes is on record first.
Nothing brings it back: --dry-run shows what would go.`,
		Example: "  sallyport audit retain --dry-run\n  sallyport audit retain",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r admin.Retained
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "audit.retain", in, &r) }); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(r)
			}
			verb := "erased"
			if r.DryRun {
				verb = "would be erased"
			}
			if r.Before.IsZero() {
				fmt.Fprintln(c.stdout, "records are kept for ever")
			} else {
				fmt.Fprintf(c.stdout, "%d records from before %s %s%s; %d held, %d erased earlier\n", r.Erased.Erased, day(r.Before), verb, rangesText(r.Ranges), r.Held, r.Earlier)
			}
			if !r.Recordings.Before.IsZero() {
				fmt.Fprintf(c.stdout, "%d recordings (%d bytes) from before %s %s; %d held\n", r.Recordings.Removed, r.Recordings.Bytes, day(r.Recordings.Before), verb, r.Recordings.Held)
			}
			if r.Holds > 0 {
				fmt.Fprintf(c.stdout, "%d legal holds are live\n", r.Holds)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&in.DryRun, "dry-run", false, "only tell what would go")
	return cmd
}

// rangesText names the first few ranges.
func rangesText(all []audit.Range) string {
	const most = 5
	text := ""
	for i, r := range all {
		if i == most {
			return text + ", ..."
		}
		if i == 0 {
			text = ": numbers "
		} else {
			text += ", "
		}
		text += strconv.FormatUint(r.First, 10)
		if r.Last > r.First {
			text += " to " + strconv.FormatUint(r.Last, 10)
		}
	}
	return text
}

func (c *cli) auditHold() *cobra.Command {
	return noun("hold", "Legal holds: what the retention may not erase", c.holdAdd(), c.holdList(), c.holdEnd())
}

func (c *cli) holdAdd() *cobra.Command {
	var in admin.HoldAdd
	var since, until string
	cmd := &cobra.Command{
		Use: "add", Short: "Keep records and recordings from being erased, until the hold is ended", Args: cobra.NoArgs,
		Long: `Keeps what matches all of --person, --system, --since and --until; without any of them, everything. It holds what is still
there: nothing brings back what was erased. That it was added is itself on record.`,
		Example: "  sallyport audit hold add --reason 'ICO case 1234, asked by legal' --person alice --since 2026-01-01 --until 2026-04-01",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			now := time.Now()
			if in.Since, err = parseWhen("since", since, now); err != nil {
				return err
			}
			if in.Until, err = parseWhen("until", until, now); err != nil {
				return err
			}
			return c.callHold(cmd, "hold.add", in, "holds")
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "the case, and who asked")
	cmd.Flags().StringVar(&in.Person, "person", "", "only this `PERSON`'s records and recordings")
	cmd.Flags().StringVar(&in.System, "system", "", "only those of this client or target")
	cmd.Flags().StringVar(&since, "since", "", "only those from this `TIME` on")
	cmd.Flags().StringVar(&until, "until", "", "only those before this `TIME`")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

func (c *cli) callHold(cmd *cobra.Command, verb string, in any, past string) error {
	var h admin.HoldIs
	if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), verb, in, &h) }); err != nil {
		return err
	}
	return c.say(h, "%s %s (record %d)", h.ID, past, h.Record)
}

func (c *cli) holdEnd() *cobra.Command {
	var in admin.HoldEnd
	cmd := &cobra.Command{
		Use: "end ID", Short: "End a legal hold; what it kept goes with the next retention", Args: cobra.ExactArgs(1),
		Example: "  sallyport audit hold end LH-1 --reason 'case closed, legal 2026-05-02'",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			return c.callHold(cmd, "hold.end", in, "has ended")
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, and who said so")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

func (c *cli) holdList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List legal holds, those that are over too", Args: cobra.NoArgs,
		Example: "  sallyport audit hold list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []admin.HoldIs
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "hold.list", admin.Empty{}, &list) }); err != nil {
				return err
			}
			return printList(c, list, []string{"ID", "STATE", "PERSON", "SYSTEM", "SINCE", "UNTIL", "MADE", "BY", "REASON"}, func(h admin.HoldIs) []string {
				return []string{h.ID, h.State, h.Person, h.System, day(h.Since), day(h.Until), day(h.Made), h.By, h.Reason}
			})
		},
	}
}

// noteErased says what a search from a time on could not find any more.
func (c *cli) noteErased(cmd *cobra.Command, caller admin.Caller, since time.Time) error {
	var e admin.ErasuresAre
	if err := caller.Call(cmd.Context(), "audit.erasures", admin.ErasuresIn{Since: since}, &e); err != nil {
		return err
	}
	if e.Erased > 0 {
		fmt.Fprintf(c.stderr, "note: %d records from before %s are erased, since their time was over%s; record %d tells of the last\n",
			e.Erased, day(e.Before), rangesText(e.Ranges), e.Records[len(e.Records)-1])
	}
	return nil
}

// judgeErased tells what is erased, and fails where no record tells of it.
func (c *cli) judgeErased(r *audit.Report) error {
	if len(r.UncoveredErased) > 0 {
		if c.json {
			if err := c.printJSON(map[string]any{
				"verified": false, "record": r.UncoveredErased[0].First, "what": "erased, and no record tells of it", "uncovered": r.UncoveredErased,
			}); err != nil {
				return err
			}
		}
		return hintf("records are erased by the retention alone, which says so in a record of the event "+audit.EventErase+": somebody has hidden these",
			"not verified: record %d is erased, and no record tells of it%s", r.UncoveredErased[0].First, rangesText(r.UncoveredErased))
	}
	if r.Erased > 0 {
		fmt.Fprintf(c.stderr, "note: %d records are erased, of which %d records tell%s\n", r.Erased, r.Erasures, rangesText(r.ErasedRanges))
	}
	return nil
}
