package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // --zone works where the system has no zones

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"sallyport/internal/admin"
	"sallyport/internal/report"
	"sallyport/internal/report/document"
)

func (c *cli) reportCommand() *cobra.Command {
	return noun("report", "Statements, registers and evidence for boards and auditors",
		c.reportVerb(report.MFA, "The statement on multi-factor authentication, for a board to sign",
			`On one or two pages: which systems take two kinds of factor, how every login of the period proved itself, the exceptions, the
plan for what is not covered, reviews that are overdue, and whether the records are whole. Systems that are not behind this
gateway are unknown to it: --plan names a YAML file that lists them, each with system, class, state, plan, owner and target.`,
			"  sallyport report mfa --to 2026-06-30 --zone Europe/London -o june.html\n  sallyport report mfa --plan not-yet.yaml -o statement.pdf"),
		c.reportVerb(report.Access, "The privileged access register: who may reach what, and when that was attested", "",
			"  sallyport report access -o access.csv\n  sallyport report access --json | jq -r '.sections[0].table.rows[] | @csv'"),
		c.reportVerb(report.Exceptions, "The exception register as it stood on a day", "",
			"  sallyport report exceptions --on 2026-06-30 -o exceptions.html"),
		c.reportVerb(report.Sample, "Logins drawn by chance, each with everything that is on record of it",
			`The same seed over the same records draws the same logins, and anybody can draw them from an export: see docs/reports.md.
Without --seed one is made up, and shown.`,
			"  sallyport report sample -n 25 --seed 2026-audit --from 2026-04-01 --to 2026-06-30 -o sample.html"),
		c.reportVerb(report.Suppliers, "Access of suppliers' engineers: windows that were asked for, and their use", "",
			"  sallyport report suppliers --from 2026-01-01 -o suppliers.html"),
		c.reportVerb(report.Sessions, "Sessions and their review, and uses of emergency access", "",
			"  sallyport report sessions --from 2026-06-01 --to 2026-06-30"),
		c.reportVerb(report.LogHealth, "Whether the log is whole, who read it, the clock, what was changed", "",
			"  sallyport report log-health -o health.html"),
		c.reportVerb(report.Mapping, "Which report speaks to which demand of which framework, and how sure that is", "",
			"  sallyport report mapping"),
		c.reportPackCommand(), c.reportListCommand(), c.reportShowCommand(), c.reportCompareCommand(), c.reportReviewCommand())
}

// reportFlags are those that most reports have.
type reportFlags struct {
	from, to, on string
	in           ReportMake
	output, plan string
}

func (f *reportFlags) period(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.from, "from", "", "the period's first `DAY`, or RFC 3339 (default: a year before its end)")
	cmd.Flags().StringVar(&f.to, "to", "", "the period's last `DAY`, which is part of it, or RFC 3339, which is not (default: now)")
	cmd.Flags().StringVar(&f.on, "on", "", "the registers as they stood at the end of this `DAY`, or at an RFC 3339 time (default: the period's end)")
	cmd.Flags().StringVar(&f.in.Zone, "zone", "UTC", "time `ZONE` of days, for example Europe/London")
	cmd.Flags().BoolVar(&f.in.Fast, "no-verify", false, "do not verify the log; the report then says so")
	cmd.Flags().Uint64Var(&f.in.Next, "before-record", 0, "only records before number `N`, to make a report of the same records again")
}

func (f *reportFlags) read(c *cli, now time.Time) (err error) {
	zone, err := time.LoadLocation(f.in.Zone)
	if err != nil || f.in.Zone == "Local" {
		return usageError{hintf("a name such as Europe/London, or UTC", "--zone %q is no time zone", f.in.Zone)}
	}
	if f.in.From, err = parseBound("from", f.from, zone, false, now); err != nil {
		return err
	}
	if f.in.To, err = parseBound("to", f.to, zone, true, now); err != nil {
		return err
	}
	if f.in.On, err = parseBound("on", f.on, zone, true, now); err != nil {
		return err
	}
	if f.in.On.IsZero() && !f.in.To.IsZero() && f.in.To.After(now) {
		f.in.On = now
	}
	if f.plan != "" {
		f.in.Plan, err = c.readPlan(f.plan)
	}
	return err
}

// parseBound reads a day of a zone, whose end is meant where it closes a period; a moment; or how long ago.
func parseBound(flag, s string, zone *time.Location, closes bool, now time.Time) (time.Time, error) {
	if t, err := time.ParseInLocation(time.DateOnly, s, zone); err == nil {
		if closes {
			t = t.AddDate(0, 0, 1)
		}
		return t.UTC(), nil
	}
	return parseWhen(flag, s, now)
}

// maxPlan bounds the file of planned systems.
const maxPlan = 256 << 10

func (c *cli) readPlan(path string) (plan []report.Planned, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPlan+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPlan {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxPlan)
	}
	if err := yaml.Load(b, &plan, yaml.WithKnownFields()); err != nil {
		return nil, hintf("- {system: ..., class: remote, state: ..., plan: ..., owner: ..., target: 2026-12-31}", "%s: %w", path, err)
	}
	return plan, nil
}

func (c *cli) reportVerb(kind, short, long, example string) *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use: kind, Short: short, Long: strings.TrimSpace(short + ".\n\n" + long), Example: example, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			if err := f.read(c, now); err != nil {
				return err
			}
			f.in.Kind = kind
			if kind == report.Sample && f.in.Seed == "" {
				f.in.Seed = strings.ToLower(rand.Text()[:12])
			}
			if err := c.chooseFormat(&f); err != nil {
				return err
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var made ReportMade
				if err := caller.Call(cmd.Context(), "report.make", f.in, &made); err != nil {
					return err
				}
				if err := c.deliver(f.output, made.Content); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "kept as %s, on record as %d, SHA-256 %s\n", made.ID, made.Record, made.SHA256)
				return nil
			})
		},
	}
	f.period(cmd)
	f.formats(cmd)
	switch kind {
	case report.MFA:
		cmd.Flags().StringVar(&f.plan, "plan", "", "`FILE` (YAML) of systems that are not behind this gateway yet")
	case report.Sample:
		cmd.Flags().IntVarP(&f.in.Number, "number", "n", 25, "how many are drawn")
		cmd.Flags().StringVar(&f.in.Seed, "seed", "", "`TEXT` that the draw depends on (default: made up, and shown)")
		cmd.Flags().StringVar(&f.in.Class, "class", "", "only logins at systems of this `CLASS`")
		_ = cmd.RegisterFlagCompletionFunc("class", cobra.FixedCompletions([]string{"remote", "privileged-external", "privileged-internal", "unclassified"}, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

func (f *reportFlags) formats(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.in.Format, "format", "", "html, csv, json or pdf (default: by the name of -o, else html; on the terminal text)")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "write to this `FILE`, whole or not at all")
	cmd.Flags().StringVar(&f.in.Table, "table", "", "one table alone, as CSV, by the `ID` of its section")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(document.Formats(), cobra.ShellCompDirectiveNoFileComp))
}

// chooseFormat decides by what was asked for, then by the file's name, then by where it goes.
func (c *cli) chooseFormat(f *reportFlags) error {
	if f.in.Table != "" {
		if f.in.Format != "" && f.in.Format != document.CSV {
			return usagef("--table is for CSV, not for %s", f.in.Format)
		}
		f.in.Format = document.CSV
	}
	if f.in.Format != "" {
		if !slices.Contains(document.Formats(), f.in.Format) {
			return usageError{hintf("html, csv, json or pdf", "--format %q is not known", f.in.Format)}
		}
		return nil
	}
	ext := strings.TrimPrefix(filepath.Ext(f.output), ".")
	switch {
	case slices.Contains(document.Formats(), ext):
		f.in.Format = ext
	case f.output != "" && f.output != "-":
		f.in.Format = document.HTML
	case c.json:
		f.in.Format = document.JSON
	default:
		f.in.Format = document.Text
	}
	return nil
}

// deliver writes to a file that is whole or what it was, or to standard output.
func (c *cli) deliver(path string, content []byte) error {
	if path == "" || path == "-" {
		_, err := c.stdout.Write(content)
		return err
	}
	return writeWhole(path, func(w io.Writer) error { _, err := w.Write(content); return err })
}

// writeWhole writes beside the file and renames.
func writeWhole(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".sallyport-report-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func (c *cli) reportPackCommand() *cobra.Command {
	var f reportFlags
	var without bool
	cmd := &cobra.Command{
		Use: "pack -o FILE.zip", Short: "One zip with every report, the records, and what it takes to check them", Args: cobra.NoArgs,
		Long: `One zip with every report as HTML, CSV, JSON and PDF, the tables, all records with their checkpoint and public key, what a verification
has found, the mapping to frameworks, and a README for the auditor that says how to check it all without this gateway.`,
		Example: "  sallyport report pack --to 2026-06-30 --zone Europe/London --seed 2026-audit -o evidence.zip",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.output == "" || f.output == "-" {
				return usageError{hintf("-o evidence.zip", "a pack goes into a file")}
			}
			if err := f.read(c, time.Now()); err != nil {
				return err
			}
			if f.in.Seed == "" {
				f.in.Seed = strings.ToLower(rand.Text()[:12])
			}
			in := ReportPack{Request: f.in.Request, NoRecords: without}
			return c.with(cmd, func(caller admin.Caller) error {
				bar := c.progress("bytes", 0)
				err := writeWhole(f.output, func(w io.Writer) error {
					return caller.Stream(cmd.Context(), "report.pack", in, &counted{w: w, at: bar.at})
				})
				bar.done()
				if err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "packed into %s\n", f.output)
				return nil
			})
		},
	}
	f.period(cmd)
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "the zip `FILE`")
	cmd.Flags().StringVar(&f.plan, "plan", "", "`FILE` (YAML) of systems that are not behind this gateway yet")
	cmd.Flags().IntVarP(&f.in.Number, "number", "n", 25, "how many logins are drawn")
	cmd.Flags().StringVar(&f.in.Seed, "seed", "", "`TEXT` that the draw depends on (default: made up, and shown)")
	cmd.Flags().BoolVar(&without, "no-records", false, "leave the export of all records out")
	return cmd
}

func (c *cli) reportListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Reports that were made and kept", Args: cobra.NoArgs,
		Example: "  sallyport report list\n  sallyport report list --json | jq -r .[].id",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []ReportKept
			if err := c.with(cmd, func(caller admin.Caller) error {
				return caller.Call(cmd.Context(), "report.list", admin.Empty{}, &list)
			}); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(list)
			}
			var rows [][]string
			for _, r := range list {
				record := "NO RECORD"
				if r.Record != nil {
					record = fmt.Sprint(*r.Record)
				}
				rows = append(rows, []string{string(r.ID), r.Kind, day(r.Made), r.By, strings.Join(r.Formats, ","), fmt.Sprint(r.Bytes), record})
			}
			return c.table([]string{"REPORT", "KIND", "MADE", "BY", "FORMATS", "BYTES", "RECORD"}, rows)
		},
	}
}

// completeReports offers the names of kept reports.
func (c *cli) completeReports(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var list []ReportKept
	if len(args) > 0 || c.with(cmd, func(caller admin.Caller) error {
		return caller.Call(cmd.Context(), "report.list", admin.Empty{}, &list)
	}) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, r := range list {
		ids = append(ids, string(r.ID))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) reportShowCommand() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use: "show REPORT", Short: "Give back a kept report, after a look whether it is what it was", Args: cobra.ExactArgs(1),
		Long: `Gives the kept bytes back when their SHA-256 is the one in the record of the report's making; else it says so and exits with 1. A form that was
not kept is made of the kept JSON.`,
		Example:           "  sallyport report show 2026-06-30-mfa-3f2a9c1b7d0e8f11 --format pdf -o june.pdf",
		ValidArgsFunction: c.completeReports,
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.Contains(args[0], "-pack-") {
				f.in.Format = "zip"
			} else if err := c.chooseFormat(&f); err != nil {
				return err
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var made ReportMade
				if err := caller.Call(cmd.Context(), "report.show", ReportID{ID: args[0], Format: f.in.Format}, &made); err != nil {
					return err
				}
				if err := c.deliver(f.output, made.Content); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "%s is what record %d says, SHA-256 %s\n", made.ID, made.Record, made.SHA256)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&f.in.Format, "format", "", "html, csv, json or pdf (default: by the name of -o, else html; on the terminal text)")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "write to this `FILE`, whole or not at all")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(document.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) reportCompareCommand() *cobra.Command {
	return &cobra.Command{
		Use: "compare REPORT", Short: "Make a kept report again from the same records, and tell what differs", Args: cobra.ExactArgs(1),
		Long: `Exits with 0 when everything that is from the records and the register comes out the same, and with 1 otherwise. What is from the gateway's
present state (people, tokens, rules) may differ since, and is shown too.`,
		Example:           "  sallyport report compare 2026-06-30-mfa-3f2a9c1b7d0e8f11",
		ValidArgsFunction: c.completeReports,
		RunE: func(cmd *cobra.Command, args []string) error {
			var out ReportCompared
			if err := c.with(cmd, func(caller admin.Caller) error {
				return caller.Call(cmd.Context(), "report.compare", ReportID{ID: args[0]}, &out)
			}); err != nil {
				return err
			}
			if err := c.printCompared(&out); err != nil {
				return err
			}
			if !out.Same {
				return errSilent
			}
			return nil
		},
	}
}

func (c *cli) printCompared(out *ReportCompared) error {
	if c.json {
		return c.printJSON(out)
	}
	var rows [][]string
	for _, d := range out.Differences {
		rows = append(rows, []string{d.Section, string(d.Basis), d.What, d.Kept, d.Now})
	}
	if len(rows) > 0 {
		if err := c.table([]string{"SECTION", "FROM", "WHAT", "KEPT", "NOW"}, rows); err != nil {
			return err
		}
	}
	text := "the same: all that is from the records and the register"
	if !out.Same {
		text = "NOT the same: something that is from the records or the register differs"
	}
	_, err := fmt.Fprintf(c.stdout, "%s: %s; %d differences in all\n", out.ID, text, len(out.Differences))
	return err
}

func (c *cli) reportReviewCommand() *cobra.Command {
	var in admin.SessionReview
	cmd := &cobra.Command{
		Use: "review SESSION", Short: "Record that somebody looked at what a session did", Args: cobra.ExactArgs(1),
		Long:              "Records a review of a session, live or past. Nobody reviews his own. `report sessions` counts reviews.",
		Example:           "  sallyport report review 0192f5d0-... --by carol --finding none",
		ValidArgsFunction: c.completeSessions,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			var out admin.Reviewed
			if err := c.with(cmd, func(caller admin.Caller) error {
				return caller.Call(cmd.Context(), "report.review", in, &out)
			}); err != nil {
				return err
			}
			return c.say(out, "%s has reviewed session %s of %s: record %d", out.By, out.Session, out.Person, out.Record)
		},
	}
	cmd.Flags().StringVar(&in.By, "by", "", "`WHO` looked (default: who enters it)")
	cmd.Flags().StringVar(&in.Finding, "finding", "", "what was found, as `TEXT`; none, where it was nothing")
	_ = cmd.MarkFlagRequired("finding")
	return cmd
}
