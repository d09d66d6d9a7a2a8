package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// endSession asks whoever has a session to end it.
func (a *app) endSession(ctx context.Context, s login.Session, why string) (answer string, ended bool) {
	switch s.Protocol {
	case "ssh":
		if a.killSSH != nil && a.killSSH(s.ID, why) {
			return "closed", true
		}
		return "the gateway that has it is not running here", false
	case "radius":
		return a.disconnect(ctx, s)
	}
	return "nobody here can end it", false
}

// findLogin is who let somebody in at a system last, for accounting that does not say.
func (a *app) findLogin(ctx context.Context, name, system string) (attempt string) {
	const lately = 10 * time.Minute
	f := audit.Filter{Person: strings.ToLower(name), System: system, Event: "login", Result: audit.Accept, Since: time.Now().Add(-lately), Limit: 1}
	_ = a.index.Find(ctx, f, func(rec *audit.Record) error { // what is not found is not joined
		attempt = rec.Attempt
		return nil
	})
	return attempt
}

func (c *cli) sessionCommand() *cobra.Command {
	return noun("session", "Sessions, live and past: SSH with its recordings, and those that VPNs account for",
		c.sessionList(), c.sessionShow(), c.sessionPlay(), c.sessionSearch(), c.sessionKill(), c.sessionRefresh(), c.sessionTrust())
}

func (c *cli) sessionList() *cobra.Command {
	var in admin.SessionList
	var past pastFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the live sessions, or past ones", Args: cobra.NoArgs,
		Long: `Lists the SSH sessions of this gateway, and the sessions that RADIUS clients report by accounting, the oldest first.
SEEN is when a RADIUS client last reported it. With --past: those on record, the newest --limit of them, live ones too.`,
		Example: "  sallyport session list\n  sallyport session list --person alice --json\n  sallyport session list --past --since 48h --system core-sw1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if past.on {
				return c.listPast(cmd, &past, in)
			}
			if past.since != "" || past.until != "" || cmd.Flags().Changed("limit") {
				return usageError{hintf("session list --past", "--since, --until and --limit are about past sessions")}
			}
			var list []login.Session
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "session.list", in, &list) }); err != nil {
				return err
			}
			return printList(c, list, []string{"SESSION", "PERSON", "PROTOCOL", "SYSTEM", "FROM", "ADDRESS", "STARTED", "SEEN"}, func(s login.Session) []string {
				from := s.Source
				if calling := s.Get("calling_station"); calling != "" {
					from = calling
				}
				seen := ""
				if s.Protocol == "radius" {
					seen = day(s.Seen)
				}
				return []string{s.ID, s.Person, s.Protocol, s.System, from, s.Get("framed_ip"), day(s.Started), seen}
			})
		},
	}
	cmd.Flags().StringVar(&in.Person, "person", "", "only those of this person")
	cmd.Flags().StringVar(&in.System, "system", "", "only those at this system")
	cmd.Flags().BoolVar(&past.on, "past", false, "those on record, not only the live ones")
	past.add(cmd)
	cmd.Flags().IntVar(&past.in.Limit, "limit", 50, "the newest `N` only, 0 for all")
	_ = cmd.RegisterFlagCompletionFunc("person", c.completePeople)
	return cmd
}

func (c *cli) sessionKill() *cobra.Command {
	var in admin.SessionKill
	cmd := &cobra.Command{
		Use: "kill SESSION", Short: "End a live session", Args: cobra.ExactArgs(1),
		Long: `Ends an SSH session, or asks the RADIUS client that has a session to end it (Disconnect-Request, RFC 5176; the client's
disconnect setting names the port). The beginning of a session's id is enough where it is one session's alone. Exits with 1 when the
session's holder did not agree.`,
		Example: "  sallyport session kill 0192f5d0 --reason 'laptop stolen'",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			var e admin.EndedSession
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "session.kill", in, &e) }); err != nil {
				return err
			}
			if err := c.say(e, "%s", describeEnded(e)); err != nil {
				return err
			}
			if !e.Ended {
				return errSilent
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	return cmd
}

func (c *cli) sessionRefresh() *cobra.Command {
	return &cobra.Command{
		Use: "refresh SESSION", Short: "Have a RADIUS client hold what the rules say today of a live session", Args: cobra.ExactArgs(1),
		Long: `Judges a live session's person by today's rules and groups, and asks the RADIUS client that has the session to hold what that
rule's reply says (CoA-Request, RFC 5176). Nothing is proved anew. Exits with 1 when no rule would let the person in, and
when the client did not agree; session kill ends the session.`,
		Example: "  sallyport user set alice --group vpn-limited && sallyport session refresh 0192f5d0",
		RunE: func(cmd *cobra.Command, args []string) error {
			var r admin.RefreshedSession
			if err := c.with(cmd, func(caller admin.Caller) error {
				return caller.Call(cmd.Context(), "session.refresh", admin.SessionIn{ID: args[0]}, &r)
			}); err != nil {
				return err
			}
			what := "is not changed"
			if r.Done {
				what = "holds rule " + printable(r.Rule)
			}
			if err := c.say(r, "session %s of %s at %s %s: %s", r.ID, printable(r.Person), printable(r.System), what, printable(r.Answer)); err != nil {
				return err
			}
			if !r.Done {
				return errSilent
			}
			return nil
		},
	}
}

func describeEnded(e admin.EndedSession) string {
	what := "is not ended"
	if e.Ended {
		what = "is ended"
	}
	return fmt.Sprintf("session %s of %s at %s %s: %s", e.ID, printable(e.Person), printable(e.System), what, printable(e.Answer))
}

// sayEnded tells people of the sessions that a verb ended.
func (c *cli) sayEnded(ended []admin.EndedSession) error {
	if c.json {
		return nil
	}
	var errs []error
	for _, e := range ended {
		_, err := fmt.Fprintln(c.stdout, describeEnded(e))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
