package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/login"
	"sallyport/internal/roll"
)

// Imported is what an import, or a look at a directory, came to.
type Imported struct {
	List    string               `json:"list"` // SHA-256 of the file, or the directory
	Joiners []string             `json:"joiners"`
	Movers  []Moved              `json:"movers"`
	Leavers []string             `json:"leavers"`
	Same    int                  `json:"unchanged"`
	Applied bool                 `json:"applied"`
	Records []uint64             `json:"records"`
	Ended   []admin.EndedSession `json:"ended,omitempty"` // sessions of who left
	Notes   []string             `json:"notes,omitempty"`
	how     map[string]string    // kind and groups of who joins and leaves, for the table
}

// Moved is somebody who was changed, and how.
type Moved struct {
	Name    string      `json:"name"`
	Changes []roll.Diff `json:"changes"`
}

func importedOf(plan *roll.Plan, list string) Imported {
	out := Imported{List: list, Joiners: []string{}, Movers: []Moved{}, Leavers: []string{}, Records: []uint64{}, Same: plan.Same, how: make(map[string]string)}
	for _, c := range plan.Joiners {
		out.Joiners = append(out.Joiners, c.Is.Name)
		out.how[c.Is.Name] = strings.TrimSpace(string(c.Is.Kind) + " " + strings.Join(c.Is.Groups, ","))
	}
	for _, c := range plan.Movers {
		out.Movers = append(out.Movers, Moved{c.Is.Name, roll.Compare(c.Was, c.Is)})
	}
	for _, p := range plan.Leavers {
		out.Leavers = append(out.Leavers, p.Name)
		out.how[p.Name] = strings.TrimSpace(string(p.Kind) + " " + strings.Join(p.Groups, ","))
	}
	return out
}

// problemsIn are all that is wrong with a list.
type problemsIn struct {
	file string
	roll.Problems
}

func (p *problemsIn) Error() string {
	slices.SortStableFunc(p.List, func(a, b roll.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	var b strings.Builder
	for i, x := range p.List {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.file)
		if x.Line > 0 {
			fmt.Fprintf(&b, ":%d", x.Line)
		}
		if x.Column > 0 {
			fmt.Fprintf(&b, ":%d", x.Column)
		}
		b.WriteString(": ")
		if x.Field != "" {
			b.WriteString(x.Field + ": ")
		}
		b.WriteString(printable(x.Text))
		if x.Hint != "" {
			b.WriteString("\n  hint: " + printable(x.Hint))
		}
	}
	if more := p.Total - len(p.List); more > 0 {
		fmt.Fprintf(&b, "\nand %d more", more)
	}
	fmt.Fprintf(&b, "\n%d wrong: nothing was changed", p.Total)
	return b.String()
}

// listPeople asks for everybody.
func listPeople(ctx context.Context, caller admin.Caller) ([]login.Person, error) {
	var rows []admin.UserRow
	if err := caller.Call(ctx, "user.list", admin.UserList{}, &rows); err != nil {
		return nil, err
	}
	people := make([]login.Person, len(rows))
	for i, r := range rows {
		people[i] = r.Person
	}
	return people, nil
}

// rollOptions are how an import is meant.
type rollOptions struct {
	dryRun, leavers, yes bool
}

func (c *cli) userImport() *cobra.Command {
	var o rollOptions
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Add and change people by a CSV file", Args: cobra.ExactArgs(1),
		Long: `Reads people from a CSV file (- is standard input), checks all of it, shows what would be done, and does it: who is new is added, who is
known is changed, and what has no column stays as it is. With --leavers the file is the whole list: staff and suppliers who are not in it are
disabled, and their sessions end. More than ` + fmt.Sprint(roll.MaxLeaving) + ` % leavers take --yes. An import that broke off is run again, and goes on.
The header line names the columns: ` + strings.Join(roll.Columns(), ", ") + `.`,
		Example: "  sallyport user import people.csv --dry-run\n  sallyport user import people.csv --leavers",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, in := args[0], c.stdin
			if name == "-" {
				name = "standard input"
			} else {
				f, err := os.Open(name)
				if err != nil {
					return fmt.Errorf("people: %w", err)
				}
				defer f.Close()
				in = f
			}
			return c.with(cmd, func(caller admin.Caller) error { return c.importPeople(cmd.Context(), caller, name, in, o) })
		},
	}
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only show what would be done")
	cmd.Flags().BoolVar(&o.leavers, "leavers", false, "the file is of everybody: staff and suppliers who are not in it leave")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "also when many leave")
	return cmd
}

func (c *cli) importPeople(ctx context.Context, caller admin.Caller, name string, in io.Reader, o rollOptions) error {
	wrong := &problemsIn{file: name}
	rows, sum, err := roll.Read(in, &wrong.Problems)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if rows == nil && wrong.Total == 0 && o.leavers {
		return hintf("leave out --leavers, or look at the file", "%s: nobody is in it, and everybody would leave", name)
	}
	people, err := listPeople(ctx, caller)
	if err != nil {
		return err
	}
	plan := roll.Make(people, rows, roll.Options{Whole: o.leavers}, &wrong.Problems)
	batches := plan.Batches()
	warnings, err := c.checkBatches(ctx, caller, batches, sum, rows, wrong)
	if err != nil {
		return err
	}
	if wrong.Total > 0 {
		return wrong
	}
	out := importedOf(plan, sum)
	if !c.json {
		if err := c.showImported(out); err != nil {
			return err
		}
	}
	c.warn(warnings)
	switch {
	case o.dryRun:
		return c.sayImported(out, "nothing was changed: --dry-run")
	case plan.Drastic(0) && !o.yes:
		if c.json {
			if err := c.printJSON(out); err != nil {
				return err
			}
		}
		return hintf("is the file whole? --yes does it all the same", "%d of %d active people would leave, which is more than %d %%: nothing was changed",
			plan.Leaving(), plan.Active, roll.MaxLeaving)
	}
	if err := c.applyBatches(ctx, caller, batches, &out); err != nil {
		return err
	}
	out.Applied = true
	return c.sayImported(out, fmt.Sprintf("done in %d records", len(out.Records)))
}

func (c *cli) sayImported(out Imported, end string) error {
	if c.json {
		return c.printJSON(out)
	}
	_, err := fmt.Fprintf(c.stdout, "%d join, %d move, %d leave, %d stay as they are; %s\n", len(out.Joiners), len(out.Movers), len(out.Leavers), out.Same, end)
	if err != nil {
		return err
	}
	return c.sayEnded(out.Ended)
}

// checkBatches lets the gateway look at each batch, so that nothing is wrong with the last when the first is done.
func (c *cli) checkBatches(ctx context.Context, caller admin.Caller, batches []roll.Batch, list string, rows []roll.Row, wrong *problemsIn) (warnings []string, err error) {
	bar := c.progress("checking", uint64(len(batches)))
	defer bar.done()
	for i, b := range batches {
		var done admin.UserBatchDone
		in := admin.UserBatch{Batch: b, Source: "import", File: list, Part: i + 1, Parts: len(batches), Check: true}
		if err := caller.Call(ctx, "user.batch", in, &done); err != nil {
			return nil, err
		}
		for _, x := range done.Problems {
			if i := slices.IndexFunc(rows, func(r roll.Row) bool { return r.Line == x.Line }); i >= 0 {
				x.Column = rows[i].At(x.Field)
			}
			wrong.Add(x)
		}
		if room := maxWarnings - len(warnings); room > 0 {
			warnings = append(warnings, done.Warnings[:min(room, len(done.Warnings))]...)
		}
		bar.at(uint64(i + 1))
	}
	return warnings, nil
}

// The lines that are shown of long lists.
const (
	maxShown    = 50
	maxWarnings = 20
)

func (c *cli) applyBatches(ctx context.Context, caller admin.Caller, batches []roll.Batch, out *Imported) error {
	bar := c.progress("importing", uint64(len(batches)))
	defer bar.done()
	for i, b := range batches {
		var done admin.UserBatchDone
		in := admin.UserBatch{Batch: b, Source: "import", File: out.List, Part: i + 1, Parts: len(batches)}
		err := caller.Call(ctx, "user.batch", in, &done)
		if err == nil && len(done.Problems) > 0 {
			err = fmt.Errorf("%s: %s", cmp.Or(done.Problems[0].Field, "people"), done.Problems[0].Text)
		}
		if err != nil {
			return hintf("run the same again: what is done stays done, and the rest follows", "part %d of %d: %w", i+1, len(batches), err)
		}
		if done.Record > 0 {
			out.Records = append(out.Records, done.Record)
		}
		out.Ended = append(out.Ended, done.Ended...)
		bar.at(uint64(i + 1))
	}
	return nil
}

// showImported shows what would be done, the beginning of it where it is long.
func (c *cli) showImported(out Imported) error {
	var rows [][]string
	add := func(what, name, how string) { rows = append(rows, []string{what, name, how}) }
	for _, name := range out.Joiners {
		add("joins", name, out.how[name])
	}
	for _, m := range out.Movers {
		var how []string
		for _, d := range m.Changes {
			how = append(how, fmt.Sprintf("%s: %s -> %s", d.Field, cmp.Or(d.Old, "-"), cmp.Or(d.New, "-")))
		}
		add("moves", m.Name, strings.Join(how, "; "))
	}
	for _, name := range out.Leavers {
		add("leaves", name, out.how[name])
	}
	if len(rows) == 0 {
		return nil
	}
	more := len(rows) - maxShown
	if err := c.table([]string{"WHAT", "PERSON", "HOW"}, rows[:min(len(rows), maxShown)]); err != nil {
		return err
	}
	if more > 0 {
		fmt.Fprintf(c.stdout, "... and %d more: --json shows all\n", more)
	}
	return nil
}

func (c *cli) userExport() *cobra.Command {
	return &cobra.Command{
		Use: "export", Short: "Write all people as CSV, as user import reads it", Args: cobra.NoArgs,
		Long: `Writes everybody to standard output as CSV. A field that a spreadsheet would take for a formula gets an apostrophe before it, which
user import takes away again. There are no secrets in it.`,
		Example: "  sallyport user export > people.csv",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				people, err := listPeople(cmd.Context(), caller)
				if err != nil {
					return err
				}
				return roll.Write(c.stdout, func(yield func(login.Person) error) error {
					for _, p := range people {
						if err := yield(p); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
	}
}
