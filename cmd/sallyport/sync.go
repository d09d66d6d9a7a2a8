package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/config"
	"sallyport/internal/firstfactor/directory"
	"sallyport/internal/login"
	"sallyport/internal/roll"
)

// SyncIn is the input of user.sync.
type SyncIn struct {
	DryRun bool `json:"dry_run,omitempty"`
	Yes    bool `json:"yes,omitempty"` // also when many leave
}

// eventSync is the event of a look at the directory. One with the result error is what is alarmed: people may have left who are still let in.
const eventSync = "people.sync"

// The reasons of a look that came to nothing.
const (
	reasonUnread  = "directory_unread"  // it could not be read as a whole
	reasonDrastic = "too_many_leavers"  // more than can be meant
	reasonRefused = "people_refused"    // what it says of somebody cannot be taken
	reasonBroken  = "changes_not_taken" // some of it could not be recorded or kept
)

// fewLeavers is how many may always leave at once: in a small team one is more than a tenth.
const fewLeavers = 2

// syncError is why nothing, or not all, was done.
type syncError struct {
	reason string
	err    error
}

func (e *syncError) Error() string { return e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }

// peopleVerbs are those of people that need more than the store.
func (a *app) peopleVerbs() {
	admin.Handle(a.admin, "user.sync", func(ctx context.Context, in SyncIn) (Imported, error) {
		out, err := a.syncPeople(ctx, in)
		var s *syncError
		if errors.As(err, &s) && s.reason == reasonDrastic {
			err = &admin.Error{Text: err.Error(), Hint: "look at the directory, and at login.ldap.sync; --yes does it all the same"}
		}
		return out, err
	})
}

// syncPeople brings people to where the directory says they are. Each look is recorded; when the list is not whole, or more would leave
// than can be meant, nothing is changed (P4).
func (a *app) syncPeople(ctx context.Context, in SyncIn) (Imported, error) {
	a.syncing.Lock()
	defer a.syncing.Unlock()
	cfg := a.config()
	l := cfg.Login.LDAP
	if l == nil || l.Sync == nil {
		return Imported{}, &admin.Error{Text: "no directory is followed", Hint: "login.ldap.sync says how"}
	}
	out, err := a.syncBy(ctx, cfg, in)
	if in.DryRun && err == nil {
		return out, nil
	}
	detail := []audit.Detail{
		{Key: "list", Value: out.List},
		{Key: "joiners", Value: strconv.Itoa(len(out.Joiners))},
		{Key: "movers", Value: strconv.Itoa(len(out.Movers))},
		{Key: "leavers", Value: strconv.Itoa(len(out.Leavers))},
		{Key: "unchanged", Value: strconv.Itoa(out.Same)},
		{Key: "records", Value: fmt.Sprint(len(out.Records))},
	}
	if len(out.Notes) > 0 {
		detail = append(detail, audit.Detail{Key: "notes", Value: strings.Join(out.Notes, " | ")})
	}
	if err == nil {
		return out, a.admin.Record(ctx, eventSync, audit.Info, string(login.ReasonOK), detail...)
	}
	reason := reasonBroken
	var s *syncError
	if errors.As(err, &s) {
		reason = s.reason
	}
	detail = append(detail, audit.Detail{Key: "error", Value: err.Error()})
	return out, errors.Join(err, a.admin.Record(ctx, eventSync, audit.Error, reason, detail...))
}

func (a *app) syncBy(ctx context.Context, cfg *config.Config, in SyncIn) (Imported, error) {
	l := cfg.Login.LDAP
	out := Imported{List: strings.Join(l.URLs, " "), Joiners: []string{}, Movers: []Moved{}, Leavers: []string{}, Records: []uint64{}}
	listing, err := a.listDirectory(ctx, l)
	if err != nil {
		return out, &syncError{reasonUnread, err}
	}
	if len(listing) == 0 {
		return out, &syncError{reasonUnread, errors.New("the directory has nobody below the base whom the filter finds")}
	}
	var people []login.Person
	if err := a.store.People(ctx, func(p login.Person) error {
		people = append(people, p)
		return nil
	}); err != nil {
		return out, err
	}
	plan, notes, problems := planSync(people, listing, cfg)
	out = importedOf(plan, out.List)
	out.Notes = notes
	if problems.Total > 0 {
		return out, &syncError{reasonRefused, fmt.Errorf("%s: %s", problems.List[0].Field, problems.List[0].Text)}
	}
	switch {
	case plan.Drastic(fewLeavers) && !in.Yes:
		return out, &syncError{reasonDrastic, fmt.Errorf("%d of %d active people would leave, which is more than %d %%: nothing was changed", plan.Leaving(), plan.Active, roll.MaxLeaving)}
	case in.DryRun:
		return out, nil
	}
	since := make(map[string]time.Time)
	for _, e := range listing {
		if e.Barred != "" {
			since[e.Name] = e.Changed
		}
	}
	var refused []roll.Problem
	batches := plan.Batches()
	for i, b := range batches {
		batch := admin.UserBatch{Batch: b, Lenient: true, Source: "directory", File: out.List, Part: i + 1, Parts: len(batches), Since: since}
		done, err := a.admin.Batch(ctx, batch)
		if err != nil {
			return out, err
		}
		refused = append(refused, done.Problems...)
		if done.Record > 0 {
			out.Records = append(out.Records, done.Record)
		}
		out.Ended = append(out.Ended, done.Ended...)
	}
	out.Applied = true
	if len(refused) > 0 { // the others were taken: one entry that is wrong keeps no leaver in
		x := refused[0]
		return out, &syncError{reasonRefused, fmt.Errorf("%d that the directory says of people cannot be taken, the rest was; the first: %s: %s", len(refused), x.Field, x.Text)}
	}
	return out, nil
}

// listDirectory reads everybody, by connections of its own: a long list keeps no login waiting.
func (a *app) listDirectory(ctx context.Context, l *config.LDAP) ([]directory.Listed, error) {
	ca, err := caText(l)
	if err != nil {
		return nil, err
	}
	d, err := openDirectory(l, ca, a.slog)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	var groups []string
	for _, from := range l.Sync.Groups {
		groups = append(groups, from...)
	}
	slices.Sort(groups)
	return d.List(ctx, directory.ListOptions{Filter: l.Sync.Filter, Groups: slices.Compact(groups)})
}

// planSync compares a directory with people. It is the matter of those whose first factor it is, staff and suppliers.
func planSync(people []login.Person, listing []directory.Listed, cfg *config.Config) (*roll.Plan, []string, *roll.Problems) {
	sync := cfg.Login.LDAP.Sync
	follows := func(p login.Person) bool {
		return cmp.Or(p.First, cfg.Login.FirstFactor) == firstLDAP && (p.Kind == login.Staff || p.Kind == login.Supplier)
	}
	first := ""
	if cfg.Login.FirstFactor != firstLDAP {
		first = firstLDAP
	}
	entries := make([]roll.Entry, len(listing))
	for i, x := range listing {
		e := roll.Entry{Name: x.Name, FullName: x.FullName, Mail: x.Mail, Barred: x.Barred}
		for ours, theirs := range sync.Groups {
			if slices.ContainsFunc(theirs, func(g string) bool { return slices.Contains(x.Groups, g) }) {
				e.Groups = append(e.Groups, ours)
			}
		}
		entries[i] = e
	}
	problems := new(roll.Problems)
	rows, notes := roll.Entries(people, entries, roll.Follow{Managed: slices.Sorted(maps.Keys(sync.Groups)), First: first, Follows: follows})
	return roll.Make(people, rows, roll.Options{Whole: sync.DisableMissing, Counts: follows}, problems), notes, problems
}

// checkSync finds what is wrong with the settings of a sync, without asking the directory.
func checkSync(s *config.Sync) error {
	if s == nil || s.Filter == "" {
		return nil
	}
	if err := directory.CheckFilter(s.Filter); err != nil {
		return fmt.Errorf("login.ldap.sync.filter: %w", err)
	}
	return nil
}

// lookForSync is how often it is looked whether a directory is to be followed, where none is.
const lookForSync = time.Minute

// followDirectory looks at the directory as often as the configuration of the moment says, the first time at once.
func (g *gateway) followDirectory(ctx context.Context) error {
	var last time.Time
	for {
		wait := lookForSync
		if l := g.config().Login.LDAP; l != nil && l.Sync != nil && l.Sync.Every > 0 {
			if due := last.Add(l.Sync.Every); !time.Now().Before(due) {
				last = time.Now()
				g.lookAtDirectory(ctx)
			}
			wait = min(wait, max(0, time.Until(last.Add(l.Sync.Every))))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (g *gateway) lookAtDirectory(ctx context.Context) {
	out, err := g.syncPeople(ctx, SyncIn{})
	switch {
	case ctx.Err() != nil: // it stops
	case err != nil:
		g.slog.Error("people could not follow the directory: who has left there may still be let in here", "error", err)
	case len(out.Records) > 0:
		g.slog.Info("people followed the directory", "joined", len(out.Joiners), "moved", len(out.Movers), "left", len(out.Leavers), "sessions_ended", len(out.Ended))
	}
}

func (c *cli) userSync() *cobra.Command {
	var in SyncIn
	cmd := &cobra.Command{
		Use: "sync", Short: "Bring people to where the directory says they are", Args: cobra.NoArgs,
		Long: `Reads the directory that login.ldap.sync describes: who is in one of its groups there and not known here is added; groups, full name and
mail address follow; who is disabled, has expired or is missing there is disabled here, and his sessions end. When the directory cannot be
read as a whole, or more than ` + fmt.Sprint(roll.MaxLeaving) + ` % would leave, nothing is changed. The gateway does it by itself as often as login.ldap.sync.every says.`,
		Example: "  sallyport user sync --dry-run\n  sallyport user sync",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var out Imported
				if err := caller.Call(cmd.Context(), "user.sync", in, &out); err != nil {
					return err
				}
				c.warn(out.Notes)
				if !c.json {
					if err := c.showImported(out); err != nil {
						return err
					}
				}
				end := fmt.Sprintf("done in %d records", len(out.Records))
				if in.DryRun {
					end = "nothing was changed: --dry-run"
				}
				return c.sayImported(out, end)
			})
		},
	}
	cmd.Flags().BoolVar(&in.DryRun, "dry-run", false, "only show what would be done")
	cmd.Flags().BoolVar(&in.Yes, "yes", false, "also when many leave")
	return cmd
}
