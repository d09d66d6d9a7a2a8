package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/alert"
)

func (c *cli) alertCommand() *cobra.Command {
	return noun("alert", "What somebody has to look at", c.alertList(), c.alertShow(), c.alertAck(), c.alertClose(), c.alertTest())
}

func (c *cli) alertList() *cobra.Command {
	var in admin.AlertList
	cmd := &cobra.Command{
		Use: "list", Short: "List the alerts that are not closed, the newest first", Args: cobra.NoArgs,
		Example: "  sallyport alert list\n  sallyport alert list --all --kind code_replay --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []admin.AlertInfo
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "alert.list", in, &list) }); err != nil {
				return err
			}
			return printList(c, list, []string{"ALERT", "SEVERITY", "KIND", "PERSON", "SYSTEM", "STATE", "COUNT", "DAYS", "LAST"}, func(a admin.AlertInfo) []string {
				return []string{a.ID, a.Severity.String(), string(a.Kind), a.Person, a.System, string(a.State), strconv.FormatUint(a.Count, 10), strconv.Itoa(a.DaysOpen), day(a.Last)}
			})
		},
	}
	cmd.Flags().BoolVar(&in.All, "all", false, "those that are closed, too")
	cmd.Flags().StringVar(&in.Kind, "kind", "", "only those of this kind")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(alertKinds(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func alertKinds() (list []string) {
	for _, m := range alert.Meanings() {
		list = append(list, string(m.Kind))
	}
	return list
}

func (c *cli) alertShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ALERT", Short: "Show an alert: what it means, its records, and who was told", Args: cobra.ExactArgs(1),
		Example: "  sallyport alert show AL-4711",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.alertCall(cmd, "alert.show", admin.AlertID{ID: args[0]})
		},
	}
}

func (c *cli) alertAck() *cobra.Command {
	return &cobra.Command{
		Use: "ack ALERT", Short: "Say that you look into an alert", Args: cobra.ExactArgs(1),
		Long:    "Says that you look into an alert. It stays in the list until it is closed. Who acknowledged it, and when, is on record.",
		Example: "  sallyport alert ack AL-4711",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.alertCall(cmd, "alert.ack", admin.AlertID{ID: args[0]})
		},
	}
}

func (c *cli) alertClose() *cobra.Command {
	var in admin.AlertClose
	cmd := &cobra.Command{
		Use: "close ALERT", Short: "Close an alert with what was found", Args: cobra.ExactArgs(1),
		Long: `Closes an alert with what was found. Nobody closes an alert about himself; that holds for the review of a use of
break-glass, too. What happens afterwards opens another one. Who closed it, and what was found, is on record.`,
		Example: "  sallyport alert close AL-4711 --outcome 'asked her: she pressed twice'",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			return c.alertCall(cmd, "alert.close", in)
		},
	}
	cmd.Flags().StringVar(&in.Outcome, "outcome", "", "what was found")
	_ = cmd.MarkFlagRequired("outcome")
	return cmd
}

// alertCall calls a verb that answers with an alert, and shows it.
func (c *cli) alertCall(cmd *cobra.Command, verb string, in any) error {
	var a admin.AlertInfo
	if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), verb, in, &a) }); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(a)
	}
	records := make([]string, len(a.Records))
	for i, n := range a.Records {
		records[i] = strconv.FormatUint(n, 10)
	}
	rows := [][]string{
		{"severity", a.Severity.String()},
		{"person", a.Person},
		{"system", a.System},
		{"state", string(a.State)},
		{"means", a.Means},
		{"what to do", a.Do},
		{"count", strconv.FormatUint(a.Count, 10)},
		{"first", day(a.First)},
		{"last", day(a.Last)},
		{"days open", strconv.Itoa(a.DaysOpen)},
		{"newest", a.Text},
		{"records", strings.Join(records, " ")},
	}
	if a.AckedBy != "" {
		rows = append(rows, []string{"acknowledged", day(a.Acked) + " by " + a.AckedBy})
	}
	if a.State == alert.Closed {
		rows = append(rows, []string{"closed", day(a.Ended) + " by " + a.EndedBy}, []string{"outcome", a.Outcome})
	}
	for _, d := range a.Deliveries {
		said := fmt.Sprintf("%s, %d attempts, the last %s", d.State, d.Attempts, day(d.Last))
		if d.Error != "" {
			said += ": " + d.Error
		}
		rows = append(rows, []string{"told " + d.Destination, said})
	}
	return c.table([]string{a.ID, string(a.Kind)}, rows)
}

func (c *cli) alertTest() *cobra.Command {
	return &cobra.Command{
		Use: "test", Short: "Send a test message to everybody who is told of alerts", Args: cobra.NoArgs,
		Long:    "Sends a test message to every webhook and by mail, and tells how that went. Exits with 1 where one was not reached.",
		Example: "  sallyport alert test",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var tried []alert.Tried
			if err := c.withDaemon(cmd, func(caller admin.Caller) error {
				return caller.Call(cmd.Context(), "alert.test", admin.Empty{}, &tried)
			}); err != nil {
				return err
			}
			failed := false
			err := printList(c, tried, []string{"DESTINATION", "ANSWER"}, func(t alert.Tried) []string {
				if t.Error != "" {
					return []string{t.Destination, t.Error}
				}
				return []string{t.Destination, "taken"}
			})
			for _, t := range tried {
				failed = failed || t.Error != ""
			}
			if err == nil && failed {
				return errSilent
			}
			return err
		},
	}
}

// forwardRows are what `status` shows of receivers of records, alerts, and who is told.
func (s *Status) forwardRows() (rows [][]string) {
	for _, r := range s.Forward {
		standing := "connected"
		if !r.Connected {
			standing = "not connected: " + r.Error
		}
		if r.Lag > 0 {
			standing += fmt.Sprintf("; %d records behind, the oldest %.0f s old", r.Lag, r.LagSeconds)
		}
		rows = append(rows, []string{"syslog " + r.Name, standing})
	}
	open := make([]string, 0, len(s.Alerts))
	for _, severity := range []alert.Severity{alert.Critical, alert.Warning, alert.Notice, alert.Info} {
		if n := s.Alerts[severity]; n > 0 {
			open = append(open, fmt.Sprintf("%d %s", n, severity))
		}
	}
	rows = append(rows, []string{"alerts", strings.Join(open, ", ")})
	for _, d := range s.Alerting {
		standing := fmt.Sprintf("%d messages", d.Sent)
		if d.Error != "" {
			standing = "fails: " + d.Error
		}
		rows = append(rows, []string{"alerts to " + d.Name, standing})
	}
	return rows
}
