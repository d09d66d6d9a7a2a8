package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"sallyport/internal/admin"
	"sallyport/internal/login"
)

//go:embed exception.yaml
var exceptionTemplate string

func (c *cli) exceptionCommand() *cobra.Command {
	return noun("exception", "The exception register: the only way round two kinds of factor",
		c.exceptionTemplate(), c.exceptionAdd(), c.exceptionSet(), c.exceptionApprove(), c.exceptionReview(), c.exceptionReported(), c.exceptionEnd(),
		c.exceptionList(), c.exceptionShow())
}

func (c *cli) exceptionTemplate() *cobra.Command {
	return &cobra.Command{
		Use: "template", Short: "Print an entry to fill in", Args: cobra.NoArgs,
		Example: "  sallyport exception template > pump.yaml",
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(c.stdout, exceptionTemplate)
			return err
		},
	}
}

// maxEntry bounds the file of an entry.
const maxEntry = 256 << 10

// readEntry reads an entry from a file, or from standard input where it is "-". All unknown and ill-formed fields are reported, with
// their lines.
func (c *cli) readEntry(path string) (in admin.ExceptionIn, err error) {
	r := c.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return in, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxEntry+1))
	if err != nil {
		return in, err
	}
	if len(b) > maxEntry {
		return in, fmt.Errorf("%s has more than %d bytes", path, maxEntry)
	}
	d, err := yaml.NewLoader(bytes.NewReader(b), yaml.WithKnownFields())
	if err != nil {
		return in, err
	}
	hint := "`sallyport exception template` prints an entry with all fields"
	if err := d.Load(&in); err != nil {
		return in, hintf(hint, "%s: %w", path, err)
	}
	var more any
	if err := d.Load(&more); !errors.Is(err, io.EOF) {
		return in, hintf("one entry a file", "%s holds more than one document", path)
	}
	return in, nil
}

func (c *cli) sayException(x *admin.ExceptionIs, verb string) error {
	if err := c.say(x, "%s %s, version %d: %s (record %d)", verb, x.ID, x.Version, x.State, x.Record); err != nil || c.json {
		return err
	}
	if x.State == "requested" {
		_, err := fmt.Fprintf(c.stdout, "It lets nobody in before it is approved: sallyport exception approve %s\n", x.ID)
		return err
	}
	return nil
}

// callException calls a verb that answers with an entry.
func (c *cli) callException(cmd *cobra.Command, verb string, in any, past string) error {
	var x admin.ExceptionIs
	if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), verb, in, &x) }); err != nil {
		return err
	}
	return c.sayException(&x, past)
}

func (c *cli) exceptionAdd() *cobra.Command {
	return &cobra.Command{
		Use: "add FILE", Short: "Enter an exception from a file; - is standard input", Args: cobra.ExactArgs(1),
		Long: `Enters an exception from a YAML or JSON file, and gives it an id. It lets somebody in once it is approved, by another
person than who asked for it, and a rule names it (exception: EX-n). It stops by itself when it expires, or when a review is overdue.`,
		Example: "  sallyport exception template > pump.yaml; editor pump.yaml\n  sallyport exception add pump.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := c.readEntry(args[0])
			if err != nil {
				return err
			}
			return c.callException(cmd, "exception.add", in, "entered")
		},
	}
}

func (c *cli) exceptionSet() *cobra.Command {
	return &cobra.Command{
		Use: "set ID FILE", Short: "Enter a new version of an exception; older ones stay in the register", Args: cobra.ExactArgs(2),
		Long: `Enters a new version of an exception, whole, from a file. Without an approval in it, the entry has to be approved anew.
Older versions stay: exception show prints them, and exception list --on the register of a day.`,
		Example:           "  sallyport exception set EX-3 pump.yaml",
		ValidArgsFunction: c.completeExceptions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := c.readEntry(args[1])
			if err != nil {
				return err
			}
			return c.callException(cmd, "exception.set", admin.ExceptionSet{ID: args[0], ExceptionIn: in}, "changed")
		},
	}
}

// dateFlag reads a day.
type dateFlag struct{ *login.Date }

func (d dateFlag) Set(s string) error { return d.UnmarshalText([]byte(s)) }
func (d dateFlag) Type() string       { return "DAY" }
func (d dateFlag) String() string {
	if d.Date == nil {
		return ""
	}
	return d.Date.String()
}

func (c *cli) exceptionApprove() *cobra.Command {
	var in admin.ExceptionApprove
	cmd := &cobra.Command{
		Use: "approve ID", Short: "Enter who approved an exception, and where that is minuted", Args: cobra.ExactArgs(1),
		Long: `Enters the approval of an exception. The approver is another person than who asked for it. With four_eyes in the settings, who
enters it is another operator, too, than who entered the request.`,
		Example:           "  sallyport exception approve EX-3 --by 'B. Chief' --role SIRO --body board --reference 'board minute 2026-06/7' --date 2026-06-25",
		ValidArgsFunction: c.completeExceptions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			if in.Date.IsZero() {
				in.Date = login.DateOf(time.Now())
			}
			return c.callException(cmd, "exception.approve", in, "approved")
		},
	}
	cmd.Flags().StringVar(&in.By, "by", "", "`NAME` of the approver")
	cmd.Flags().StringVar(&in.Role, "role", "", "the approver's `ROLE`: SIRO, chief information officer, ...")
	cmd.Flags().StringVar(&in.Body, "body", "", "board or delegated")
	cmd.Flags().StringVar(&in.Reference, "reference", "", "the `MINUTE`, or the delegation that it rests on")
	cmd.Flags().Var(dateFlag{&in.Date}, "date", "when; today if it is left out")
	_ = cmd.RegisterFlagCompletionFunc("body", cobra.FixedCompletions([]string{"board", "delegated"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagRequired("by")
	return cmd
}

func (c *cli) exceptionReview() *cobra.Command {
	var in admin.ExceptionReview
	cmd := &cobra.Command{
		Use: "review ID", Short: "Enter a review: keep it until the next, or end it", Args: cobra.ExactArgs(1),
		Example: `  sallyport exception review EX-3 --decision keep --next 2027-06-30 --progress 'two of five pumps replaced'
  sallyport exception review EX-3 --decision end --note 'pumps replaced'`,
		ValidArgsFunction: c.completeExceptions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			return c.callException(cmd, "exception.review", in, "reviewed")
		},
	}
	cmd.Flags().StringVar(&in.Decision, "decision", "", "keep or end")
	cmd.Flags().StringVar(&in.By, "by", "", "`NAME` of the reviewer, if it is not who enters it; not who asked for the exception")
	cmd.Flags().StringVar(&in.Note, "note", "", "what was found")
	cmd.Flags().StringVar(&in.Evidence, "evidence", "", "`SHA256` of a file that is kept as evidence")
	cmd.Flags().StringVar(&in.Progress, "progress", "", "how far the plan is")
	cmd.Flags().Var(dateFlag{&in.Next}, "next", "the next review, at most 12 months on")
	_ = cmd.RegisterFlagCompletionFunc("decision", cobra.FixedCompletions([]string{"keep", "end"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagRequired("decision")
	return cmd
}

func (c *cli) exceptionReported() *cobra.Command {
	var in admin.ExceptionReported
	cmd := &cobra.Command{
		Use: "reported ID", Short: "Enter which submission carried an exception", Args: cobra.ExactArgs(1),
		Example:           "  sallyport exception reported EX-3 --in 'DSPT 2026-27 interim'",
		ValidArgsFunction: c.completeExceptions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			return c.callException(cmd, "exception.reported", in, "changed")
		},
	}
	cmd.Flags().StringVar(&in.In, "in", "", "`SUBMISSION`")
	_ = cmd.MarkFlagRequired("in")
	return cmd
}

func (c *cli) exceptionEnd() *cobra.Command {
	var in admin.ExceptionEnd
	cmd := &cobra.Command{
		Use: "end ID", Short: "End an exception now; sessions that rely on it end, too", Args: cobra.ExactArgs(1),
		Example:           "  sallyport exception end EX-3 --reason 'pump replaced'",
		ValidArgsFunction: c.completeExceptions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			return c.callException(cmd, "exception.end", in, "ended")
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the register")
	return cmd
}

func (c *cli) exceptionList() *cobra.Command {
	var on string
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the register as it stands, or as it stood on a day", Args: cobra.NoArgs,
		Long: `Lists the entries of the register that are not over. --on shows the register as it stood at the end of a day: the versions that
held then, and whether they did.`,
		Example: "  sallyport exception list\n  sallyport exception list --on 2026-06-30 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var in admin.ExceptionList
			var err error
			if in.On, err = parseWhen("on", on, time.Now()); err != nil {
				return err
			}
			if !in.On.IsZero() && in.On.Equal(in.On.Truncate(24*time.Hour)) {
				in.On = in.On.Add(24*time.Hour - time.Millisecond)
			}
			var list []admin.ExceptionIs
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "exception.list", in, &list) }); err != nil {
				return err
			}
			var shown []admin.ExceptionIs
			for _, x := range list {
				if all || on != "" || x.State != "ended" && x.State != "expired" {
					shown = append(shown, x)
				}
			}
			return printList(c, shown, []string{"ID", "V", "STATE", "TITLE", "SCOPE", "FACTORS", "RISK", "APPROVED BY", "UNTIL", "NEXT REVIEW", "USED"}, func(x admin.ExceptionIs) []string {
				used := ""
				if x.Use != nil {
					used = strconv.Itoa(x.Use.Count) + ", last " + day(x.Use.Last)
				}
				return []string{
					x.ID, strconv.Itoa(x.Version), x.State, x.Title, scopeText(&x.Exception), kindsText(x.Scope.Factors), strconv.Itoa(x.Score),
					x.Approval.By, lastDay(x.Until), lastDay(x.Review), used,
				}
			})
		},
	}
	cmd.Flags().StringVar(&on, "on", "", "the register as it stood on this `DAY`")
	cmd.Flags().BoolVar(&all, "all", false, "also those that are over")
	return cmd
}

// lastDay is the last day on which what ends at a time still holds.
func lastDay(end time.Time) string {
	if end.IsZero() {
		return ""
	}
	return end.Add(-time.Millisecond).UTC().Format(time.DateOnly)
}

func kindsText(kinds []login.Kind) string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = string(k)
	}
	return strings.Join(words, "+")
}

func scopeText(x *login.Exception) string {
	var parts []string
	add := func(what string, list []string) {
		if len(list) > 0 {
			parts = append(parts, what+" "+strings.Join(list, ","))
		}
	}
	add("people", x.Scope.People)
	add("groups", x.Scope.Groups)
	add("at", x.Scope.Systems)
	sources := make([]string, len(x.Scope.Sources))
	for i, p := range x.Scope.Sources {
		sources[i] = p.String()
	}
	add("from", sources)
	add("by", x.Scope.Protocols)
	return strings.Join(parts, "; ")
}

func (c *cli) exceptionShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show an exception with its versions and reviews", Args: cobra.ExactArgs(1),
		Example:           "  sallyport exception show EX-3",
		ValidArgsFunction: c.completeExceptions,
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []admin.ExceptionIs
			if err := c.with(cmd, func(caller admin.Caller) error {
				return caller.Call(cmd.Context(), "exception.show", admin.ExceptionEnd{ID: args[0]}, &list)
			}); err != nil {
				return err
			}
			if c.json {
				return printList(c, list, nil, nil)
			}
			x := list[len(list)-1]
			rows := [][]string{
				{"state", x.State},
				{"title", x.Title},
				{"clause", x.Clause},
				{"scope", scopeText(&x.Exception)},
				{"factors", kindsText(x.Scope.Factors)},
				{"rationale", x.Rationale},
				{"risk", fmt.Sprintf("%s (likelihood %d x impact %d = %d), by %s", x.Risk.Threat, x.Risk.Likelihood, x.Risk.Impact, x.Score, x.Risk.Assessor)},
				{"effect", x.Risk.Effect},
			}
			for _, m := range x.Mitigations {
				rows = append(rows, []string{"mitigation", strings.TrimSpace(m.Text + " " + m.Evidence)})
			}
			rows = append(rows,
				[]string{"requester", x.Requester},
				[]string{"approval", strings.Join(strings.Fields(strings.Join([]string{x.Approval.By, x.Approval.Role, x.Approval.Body, x.Approval.Reference, x.Approval.Date.String()}, " ")), " ")},
				[]string{"plan", fmt.Sprintf("%s; owner %s, by %s; %s", x.Plan.Text, x.Plan.Owner, x.Plan.Target, x.Plan.Progress)},
				[]string{"from", x.From.UTC().Format(time.DateOnly)}, []string{"until", lastDay(x.Until)}, []string{"next review", lastDay(x.Review)},
				[]string{"reported in", strings.Join(x.ReportedIn, "; ")})
			for _, r := range x.Reviews {
				rows = append(rows, []string{"review", fmt.Sprintf("%s %s: %s %s", r.Date, r.By, r.Decision, r.Note)})
			}
			for _, v := range list {
				rows = append(rows, []string{"version " + strconv.Itoa(v.Version), day(v.Changed) + " by " + v.By})
			}
			if x.Use != nil {
				rows = append(rows, []string{"used", fmt.Sprintf("%d times, last %s", x.Use.Count, day(x.Use.Last))})
			}
			if !x.Ended.IsZero() {
				rows = append(rows, []string{"ended", day(x.Ended) + " " + x.EndReason})
			}
			return c.table([]string{"EXCEPTION", x.ID}, rows)
		},
	}
}

// completeExceptions offers the ids of entries to the shell.
func (c *cli) completeExceptions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var list []admin.ExceptionIs
	if err := c.with(cmd, func(caller admin.Caller) error {
		return caller.Call(cmd.Context(), "exception.list", admin.ExceptionList{}, &list)
	}); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ids := make([]string, len(list))
	for i, x := range list {
		ids[i] = x.ID + "\t" + x.Title
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
