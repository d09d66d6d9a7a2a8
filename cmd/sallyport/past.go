package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
)

// pastFlags say which sessions on record are meant.
type pastFlags struct {
	on           bool
	since, until string
	in           admin.SessionPast
}

func (f *pastFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.since, "since", "", "begun not before this `TIME`: 2026-06-30, RFC 3339, or 24h for a day ago")
	cmd.Flags().StringVar(&f.until, "until", "", "begun before this `TIME`")
}

func (f *pastFlags) read(now time.Time) (err error) {
	if f.in.Since, err = parseWhen("since", f.since, now); err != nil {
		return err
	}
	f.in.Until, err = parseWhen("until", f.until, now)
	return err
}

func (c *cli) listPast(cmd *cobra.Command, f *pastFlags, live admin.SessionList) error {
	if err := f.read(time.Now()); err != nil {
		return err
	}
	f.in.Person, f.in.System = live.Person, live.System
	var list []admin.PastSession
	if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "session.past", f.in, &list) }); err != nil {
		return err
	}
	return printList(c, list, []string{"SESSION", "PERSON", "PROTOCOL", "SYSTEM", "ACCOUNT", "FROM", "STARTED", "LASTED", "ENDED BY", "RECORDING"}, func(p admin.PastSession) []string {
		return []string{p.ID, p.Person, p.Protocol, p.System, p.Account, p.Source, day(p.Started), lasted(&p), p.Reason, recordingState(&p)}
	})
}

// lasted is how long a session was.
func lasted(p *admin.PastSession) string {
	switch {
	case !p.Ended.IsZero():
		return p.Ended.Sub(p.Started).Round(time.Second).String()
	case p.Live:
		return "live"
	}
	return "no end on record"
}

func recordingState(p *admin.PastSession) string {
	switch {
	case p.Recording == "":
		return ""
	case p.State != "":
		return string(p.State)
	case p.Live:
		return "running"
	}
	return "broken off"
}

func (c *cli) sessionShow() *cobra.Command {
	return &cobra.Command{
		Use: "show SESSION", Short: "Show all that is on record of one session", Args: cobra.ExactArgs(1),
		Long: `Shows one session, live or past: who, how it was proved, by which rule, where to, how long, its recording, and every record
that belongs to it, transfers among them. The beginning of its id is enough where it is one session's alone. That somebody looked is
itself on record.`,
		Example:           "  sallyport session show 0192f5d0\n  sallyport session show 0192f5d0 --json | jq .factors",
		ValidArgsFunction: c.completeSessions,
		RunE: func(cmd *cobra.Command, args []string) error {
			var s admin.SessionShown
			if err := c.with(cmd, func(caller admin.Caller) error {
				return caller.Call(cmd.Context(), "session.show", admin.SessionIn{ID: args[0]}, &s)
			}); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(s)
			}
			return c.printSession(&s)
		},
	}
}

func (c *cli) printSession(s *admin.SessionShown) error {
	var factors []string
	for _, f := range s.Factors {
		factors = append(factors, strings.TrimSpace(f.Method+" "+f.Token)+" ("+f.Kind+", "+f.Result+")")
	}
	rows := [][]string{
		{"person", s.Person},
		{"protocol", s.Protocol},
		{"system", s.System},
		{"account", s.Account},
		{"from", s.Source},
		{"rule", s.Rule},
		{"factors", strings.Join(factors, ", ")},
		{"login", s.Attempt},
		{"started", exactly(s.Started)},
		{"ended", cmp.Or(exactly(s.Ended), lasted(&s.PastSession))},
		{"ended by", s.Reason},
	}
	if s.Recording != "" {
		rows = append(rows, []string{"recording", s.Recording}, []string{"recorded", fmt.Sprintf("%s, %d chunks on record", recordingState(&s.PastSession), s.Sealed)})
	}
	for _, d := range s.Detail {
		if !strings.HasPrefix(d.Key, "recording") {
			rows = append(rows, []string{d.Key, d.Value})
		}
	}
	if err := c.table([]string{"SESSION", s.ID}, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.stdout); err != nil {
		return err
	}
	var lines [][]string
	for _, raw := range s.Records {
		rec, err := audit.Parse(raw)
		if err != nil {
			return err
		}
		var details []string
		for _, d := range rec.Detail {
			details = append(details, d.Key+"="+d.Value)
		}
		lines = append(lines, []string{fmt.Sprint(rec.Seq), exactly(rec.Time), rec.Event, string(rec.Result), rec.Reason, strings.Join(details, " ")})
	}
	return c.table([]string{"SEQ", "TIME", "EVENT", "RESULT", "REASON", "DETAIL"}, lines)
}

func exactly(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// completeSessions offers the newest sessions on record to the shell.
func (c *cli) completeSessions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	const newest = 50
	var list []admin.PastSession
	_ = c.with(cmd, func(caller admin.Caller) error { // without an answer there is nothing to offer
		return caller.Call(cmd.Context(), "session.past", admin.SessionPast{Limit: newest}, &list)
	})
	var ids []string
	for _, p := range list {
		ids = append(ids, p.ID+"\t"+printable(p.Person+" at "+p.System+", "+day(p.Started)))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
