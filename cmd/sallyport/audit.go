package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
)

func (c *cli) auditCommand() *cobra.Command {
	return noun("audit", "The records and their proof", c.auditSearch(), c.auditTail(), c.auditExport(), c.auditVerify(), c.auditProof(), c.auditCheckpoint(), c.auditPublicKey(), c.auditRetain(), c.auditHold())
}

// filterFlags are the flags of search and tail.
type filterFlags struct {
	in           admin.AuditSearch
	since, until string
}

func (f *filterFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.in.Person, "person", "", "only this person's records")
	cmd.Flags().StringVar(&f.in.System, "system", "", "only records of this client or target")
	cmd.Flags().StringVar(&f.in.Event, "event", "", "only this event, for example login")
	cmd.Flags().StringVar(&f.in.Source, "source", "", "only from this source `ADDRESS`")
	cmd.Flags().StringVar(&f.in.Result, "result", "", "accept, reject, challenge, error or info")
	cmd.Flags().IntVar(&f.in.Limit, "limit", 0, "the newest `N` only")
	cmd.Flags().BoolVar(&f.in.NoReads, "no-reads", false, "leave out the records of who listed or looked up what (read.*)")
	_ = cmd.RegisterFlagCompletionFunc("result", cobra.FixedCompletions([]string{"accept", "reject", "challenge", "error", "info"}, cobra.ShellCompDirectiveNoFileComp))
}

func (f *filterFlags) read() (err error) {
	if f.in.Since, err = parseWhen("since", f.since, time.Now()); err != nil {
		return err
	}
	f.in.Until, err = parseWhen("until", f.until, time.Now())
	return err
}

func (c *cli) auditSearch() *cobra.Command {
	var f filterFlags
	cmd := &cobra.Command{
		Use: "search", Short: "Find records, oldest first", Args: cobra.NoArgs,
		Example: `  sallyport audit search --person alice --result reject --since 24h
  sallyport audit search --json --since 2026-06-01 --until 2026-07-01 | jq -r .reason | sort | uniq -c`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.read(); err != nil {
				return err
			}
			return c.with(cmd, func(caller admin.Caller) error {
				if err := c.records(func(w io.Writer) error { return caller.Stream(cmd.Context(), "audit.search", f.in, w) }); err != nil {
					return err
				}
				return c.noteErased(cmd, caller, f.in.Since)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.since, "since", "", "not before this `TIME`: 2026-06-30, RFC 3339, or 24h for a day ago")
	cmd.Flags().StringVar(&f.until, "until", "", "before this `TIME`")
	return cmd
}

func (c *cli) auditTail() *cobra.Command {
	var f filterFlags
	f.in.Limit = 10
	cmd := &cobra.Command{
		Use: "tail", Short: "Show records as they are made, until interrupted", Args: cobra.NoArgs,
		Example: "  sallyport audit tail\n  sallyport audit tail --person alice --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				err := c.records(func(w io.Writer) error { return caller.Stream(cmd.Context(), "audit.tail", f.in, w) })
				if cmd.Context().Err() != nil {
					return nil
				}
				return err
			})
		},
	}
	f.add(cmd)
	cmd.Flags().Lookup("limit").Usage = "begin with the last `N`"
	cmd.Flags().Lookup("limit").DefValue = "10"
	f.in.Limit = 10
	return cmd
}

// records prints a stream of canonical records as it comes.
func (c *cli) records(stream func(io.Writer) error) error {
	if c.json {
		return stream(c.stdout)
	}
	const layout = "%8s  %-24s  %-9s  %-14s  %-22s  %-16s  %-16s  %s\n"
	head := fmt.Sprintf(layout, "SEQ", "TIME", "RESULT", "EVENT", "REASON", "PERSON", "SYSTEM", "SOURCE")
	r, w := io.Pipe()
	go func() { w.CloseWithError(stream(w)) }()
	in := bufio.NewReaderSize(r, 128<<10)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		rec, err := audit.Parse(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			r.CloseWithError(err)
			return err
		}
		io.WriteString(c.stdout, head)
		head = ""
		fmt.Fprintf(c.stdout, layout, fmt.Sprint(rec.Seq), rec.Time.UTC().Format("2006-01-02T15:04:05.000Z"), printable(string(rec.Result)),
			printable(rec.Event), printable(rec.Reason), printable(who(rec)), printable(rec.System), printable(rec.Source))
	}
}

func who(rec *audit.Record) string {
	if rec.Person == "unknown" {
		return rec.Login
	}
	return rec.Person
}

func (c *cli) auditExport() *cobra.Command {
	return &cobra.Command{
		Use: "export FILE", Short: "Write all records and a signed checkpoint to one file (- for standard output)", Args: cobra.ExactArgs(1),
		Long: `Writes every record, one JSON object a line, and last the signed checkpoint over them. With the public key
(audit public-key) anybody can verify the file, with no trust in this gateway: audit verify FILE --key KEYFILE.`,
		Example: "  sallyport audit export june.jsonl\n  sallyport audit public-key > sallyport.pub\n  sallyport audit verify june.jsonl --key sallyport.pub",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(caller admin.Caller) error { return c.export(cmd.Context(), caller, args[0]) })
		},
	}
}

// export writes beside the file and renames, so that FILE is whole or what it was.
func (c *cli) export(ctx context.Context, caller admin.Caller, path string) error {
	if path == "-" {
		return caller.Stream(ctx, "audit.export", admin.Empty{}, c.stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".sallyport-export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	bar := c.progress("bytes", 0)
	err = caller.Stream(ctx, "audit.export", admin.Empty{}, &counted{w: f, at: bar.at})
	bar.done()
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("export to %s: %w", path, err)
	}
	fmt.Fprintf(c.stderr, "exported to %s\n", path)
	return nil
}

type counted struct {
	w  io.Writer
	n  uint64
	at func(uint64)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += uint64(n)
	c.at(c.n)
	return n, err
}

func readVerifier(path string) (note.Verifier, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, hintf("it is the one line that `sallyport audit public-key` prints", "%s: %w", path, err)
	}
	return v, nil
}

func (c *cli) auditPublicKey() *cobra.Command {
	return &cobra.Command{
		Use: "public-key", Short: "Print the key that verifies the log", Args: cobra.NoArgs,
		Example: "  sallyport audit public-key > sallyport.pub",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			key, err := os.ReadFile(layout(cfg.Data).auditPublic)
			if err != nil {
				return hintf("`sallyport init` makes it", "public key of the log: %w", err)
			}
			if c.json {
				return c.printJSON(admin.Checkpoint{Key: strings.TrimSpace(string(key))})
			}
			_, err = c.stdout.Write(key)
			return err
		},
	}
}
