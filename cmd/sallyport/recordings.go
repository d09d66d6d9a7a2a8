package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"sallyport/internal/admin"
	"sallyport/internal/config"
	"sallyport/internal/recording"
)

// identity reads the auditor's key: --identity, then the environment, then beside the configuration.
func (c *cli) identity(flag string) ([]byte, error) {
	const hint = "--identity FILE or SALLYPORT_IDENTITY: the auditor's key, whose public half stands in recording.recipients"
	path := flag
	if path == "" {
		path, _ = c.env("SALLYPORT_IDENTITY")
	}
	if path == "" {
		file, err := c.configFile()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(filepath.Dir(file), auditorFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, hintf(hint, "key to read recordings with: %w", err)
	}
	return text, nil
}

// playFlags say how a recording is played, or what becomes of it instead.
type playFlags struct {
	identity string
	speed    float64
	idle     time.Duration
	follow   bool
	export   string
}

func (c *cli) sessionPlay() *cobra.Command {
	var f playFlags
	cmd := &cobra.Command{
		Use: "play SESSION [FILE]", Short: "Play a session's recording, live or past, or export it to FILE", Args: cobra.RangeArgs(1, 2),
		Long: `Plays what a session's person saw, with the auditor's key: --identity, else $SALLYPORT_IDENTITY, else auditor.key beside the
configuration. Nothing in a recording can harm the terminal that it is played on: what would set titles, write the clipboard or
have the terminal answer is left out.

Every chunk is compared with the audit log first. A recording that was altered, or whose tail is missing, is played as far as it
can be read, and the exit status is 1. That it was played is itself on record.

--export v2 and v3 write an asciicast (asciinema), text the lines as they stood on the screen, to FILE, or - for standard output.`,
		Example: `  sallyport session play 0192f5d0 --identity /media/auditor/auditor.key --speed 2 --idle 1s
  sallyport session play 0192f5d0 --follow
  sallyport session play 0192f5d0 --export v2 evidence.cast`,
		ValidArgsFunction: c.completeSessions,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.export == "" && len(args) == 2:
				return usageError{hintf("--export v2, v3 or text", "FILE is where a recording is exported to")}
			case f.export != "" && len(args) < 2:
				return usageError{hintf("session play SESSION --export "+f.export+" FILE, or -", "--export needs a FILE")}
			case f.export != "" && exporters[f.export] == nil:
				return usageError{hintf("v2, v3 or text", "--export %q is not known", f.export)}
			case f.speed <= 0:
				return usagef("--speed %v: want more than 0", f.speed)
			}
			return c.play(cmd, args, f)
		},
	}
	addIdentity(cmd, &f.identity)
	cmd.Flags().Float64Var(&f.speed, "speed", 1, "how many times as fast as it was")
	cmd.Flags().DurationVar(&f.idle, "idle", 2*time.Second, "the longest pause that is kept, 0 for all")
	cmd.Flags().BoolVar(&f.follow, "follow", false, "a session that is still running: what there is at once, and then as it comes")
	cmd.Flags().StringVar(&f.export, "export", "", "write `FORM` to FILE instead: v2, v3 or text")
	cmd.MarkFlagsMutuallyExclusive("follow", "export")
	_ = cmd.RegisterFlagCompletionFunc("export", cobra.FixedCompletions([]string{"v2", "v3", "text"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func addIdentity(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "identity", "", "`FILE` with the auditor's key (else $SALLYPORT_IDENTITY, else auditor.key beside the configuration)")
}

var exporters = map[string]func(context.Context, *recording.Reader, io.Writer) error{
	"v2":   func(_ context.Context, r *recording.Reader, w io.Writer) error { return r.ExportV2(w) },
	"v3":   func(_ context.Context, r *recording.Reader, w io.Writer) error { return r.ExportV3(w) },
	"text": func(ctx context.Context, r *recording.Reader, w io.Writer) error { return r.Text(ctx, w) },
}

// play plays or exports one recording.
func (c *cli) play(cmd *cobra.Command, args []string, f playFlags) error {
	ctx := cmd.Context()
	key, err := c.identity(f.identity)
	if err != nil {
		return err
	}
	cfg, err := c.load()
	if errors.Is(err, fs.ErrPermission) {
		cfg, err = nil, nil // an operator's
	}
	if err != nil {
		return err
	}
	verb := "recording.play"
	if f.export != "" {
		verb = "recording.export"
	}
	found, path, done, err := c.findRecording(cmd, cfg, verb, args[0])
	if err != nil {
		return err
	}
	defer done()
	note, wrong := judge(path, &found)
	fmt.Fprintf(c.stderr, "%s\n", note)
	reader, err := c.openRecording(ctx, path, key, f.follow && found.Live)
	if err != nil {
		return err
	}
	defer reader.Close()
	reader.Expect(found.Sealed)
	if f.export != "" {
		err = c.exportRecording(ctx, reader, f.export, args[1])
	} else {
		err = c.show(ctx, reader, f)
	}
	if f.follow && found.Live && err == nil {
		if found, path, done, err = c.findRecording(cmd, cfg, "recording.find", found.ID); err != nil {
			return err
		}
		defer done()
		note, wrong = judge(path, &found)
		fmt.Fprintf(c.stderr, "\n%s\n", note)
	}
	switch {
	case wrong:
		return hintf("keep the file as it is; `sallyport audit verify` tells whether the log itself is whole", "%s", note)
	case errors.Is(err, recording.ErrUnfinished), errors.Is(err, recording.ErrTruncated), errors.Is(err, context.Canceled):
		return nil // the note has said so, or the person has seen enough
	}
	return err
}

// findRecording asks the records for a recording, and where its file is. Done is to be called when the file is not needed any more.
func (c *cli) findRecording(cmd *cobra.Command, cfg *config.Config, verb, id string) (found admin.Recording, path string, done func(), err error) {
	if err := c.with(cmd, func(caller admin.Caller) error {
		return caller.Call(cmd.Context(), verb, admin.SessionIn{ID: id}, &found)
	}); err != nil {
		return found, "", nil, err
	}
	path, done, err = c.near(cmd, cfg, &found)
	return found, path, done, err
}

// followEvery is how often a recording that is being made is looked at. It grows every two seconds.
const followEvery = 200 * time.Millisecond

func (c *cli) openRecording(ctx context.Context, path string, key []byte, growing bool) (*recording.Reader, error) {
	var r *recording.Reader
	var err error
	if growing {
		r, err = recording.OpenGrowing(path, key, func() error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(followEvery):
				return nil
			}
		})
	} else {
		r, err = recording.Open(path, key)
	}
	if errors.Is(err, recording.ErrWrongKey) {
		return nil, hintf("--identity FILE: the key whose public half stood in recording.recipients at the time", "%s: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// judge compares a recording with the records, and says what came of it. Wrong means that it is not what was recorded.
func judge(path string, found *admin.Recording) (note string, wrong bool) {
	report, err := recording.Verify(path, found.Known())
	good := fmt.Sprintf("%d chunks are as the audit log has them", report.Chunks)
	switch {
	case err == nil && found.State == recording.Stopped:
		return "verified: " + good + "; the recording stopped before its session, at a limit", false
	case err == nil && found.State == "" && found.Live:
		return "not finished: the session is about to end; " + good, false
	case err == nil:
		return "verified: " + good, false
	case errors.Is(err, recording.ErrUnfinished) && found.Live:
		return "not finished: the session is still running; " + good, false
	case errors.Is(err, recording.ErrUnfinished) && found.State == recording.Failed:
		return "not finished: the recording failed; " + good, false
	case errors.Is(err, recording.ErrUnfinished), errors.Is(err, recording.ErrTruncated):
		return "not finished: the gateway broke off; " + good, false
	case errors.Is(err, recording.ErrTailMissing):
		return fmt.Sprintf("the recording's tail is missing: %v", err), true
	case errors.Is(err, os.ErrNotExist) && !found.Removed.IsZero():
		return "the recording was erased on " + day(found.Removed) + ", since its time was over", true
	case errors.Is(err, os.ErrNotExist):
		return fmt.Sprintf("the recording is missing: %v", err), true
	}
	return fmt.Sprintf("the recording was altered: %v", err), true
}

// show plays on standard output.
func (c *cli) show(ctx context.Context, r *recording.Reader, f playFlags) error {
	h := r.Header
	if out, ok := c.stdout.(*os.File); ok && terminal(out) {
		if cols, rows, err := term.GetSize(int(out.Fd())); err == nil && (cols < h.Width || rows < h.Height) {
			fmt.Fprintf(c.stderr, "this terminal has %d columns and %d rows, and the session's had %d and %d: make it larger, or lines will break\n", cols, rows, h.Width, h.Height)
		}
		restore, err := asIs(int(out.Fd()))
		if err != nil {
			return err
		}
		defer restore()
	}
	o := recording.PlayOptions{Speed: f.speed, Idle: f.idle}
	if f.follow {
		o.Speed = 0
	}
	return r.Play(ctx, c.stdout, o)
}

// asIs has a terminal show what it is sent, so that a line feed is just that, and nothing that is typed meanwhile.
func asIs(fd int) (restore func(), err error) {
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	now := *was
	now.Oflag &^= unix.OPOST
	now.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &now); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETSF, was) }, nil
}

// exportRecording writes beside the file and renames, so that FILE is whole or what it was. What can be read of a damaged
// recording is exported too.
func (c *cli) exportRecording(ctx context.Context, r *recording.Reader, form, path string) (err error) {
	if path == "-" {
		return exporters[form](ctx, r, c.stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".sallyport-export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 1<<16)
	partly := exporters[form](ctx, r, w)
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), f.Close())
	}
	if err := errors.Join(w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "exported to %s\n", path)
	return partly
}

// foundLine is one line that session search prints.
type foundLine struct {
	Session string    `json:"session"`
	Person  string    `json:"person"`
	System  string    `json:"system"`
	Account string    `json:"account,omitempty"`
	Time    time.Time `json:"time"`
	Offset  float64   `json:"offset"` // seconds since the session's start
	Line    string    `json:"line"`
}

func (c *cli) sessionSearch() *cobra.Command {
	var f pastFlags
	var identity string
	cmd := &cobra.Command{
		Use: "search TEXT", Short: "Search what stood on the screens of recorded sessions", Args: cobra.ExactArgs(1),
		Long: `Searches the recordings of sessions for lines that hold TEXT, with the auditor's key as session play has it. Lines are searched as
they stood on the screen, corrections made, also those that have scrolled off. TEXT in lower case is found in any case.

Recordings that cannot be read to their end are named, and the exit status is 1. That a search was made, over which sessions, is itself
on record; TEXT is not.`,
		Example: `  sallyport session search 'rm -rf' --since 2026-06-01 --target core-sw1
  sallyport session search password --person alice --json | jq -r .session | sort -u`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return usagef("TEXT is empty")
			}
			if err := f.read(time.Now()); err != nil {
				return err
			}
			key, err := c.identity(identity)
			if err != nil {
				return err
			}
			cfg, err := c.load()
			if err != nil {
				return err
			}
			var list []admin.PastSession
			if err := c.with(cmd, func(caller admin.Caller) error { return caller.Call(cmd.Context(), "recording.search", f.in, &list) }); err != nil {
				return err
			}
			return c.search(cmd.Context(), cfg.Recording.Dir, key, list, args[0])
		},
	}
	addIdentity(cmd, &identity)
	cmd.Flags().StringVar(&f.in.Person, "person", "", "only sessions of this person")
	cmd.Flags().StringVar(&f.in.System, "target", "", "only sessions at this target")
	f.add(cmd)
	_ = cmd.RegisterFlagCompletionFunc("person", c.completePeople)
	return cmd
}

// search searches recordings one by one.
func (c *cli) search(ctx context.Context, dir string, key []byte, list []admin.PastSession, text string) error {
	sizes := make([]int64, len(list))
	var total, before int64
	for i := range list {
		if path, err := recording.File(dir, list[i].Recording); err == nil {
			if info, err := os.Stat(path); err == nil {
				sizes[i] = info.Size()
				total += sizes[i]
			}
		}
	}
	bar := c.progress("recordings", uint64(total))
	lines, wrong := 0, 0
	for i := range list {
		p := &list[i]
		n, err := c.searchOne(ctx, dir, key, p, sizes[i], text, func(offset int64) { bar.at(uint64(before + offset)) }, bar.done)
		lines += n
		before += sizes[i]
		if ctx.Err() != nil {
			bar.done()
			return ctx.Err()
		}
		if err != nil {
			bar.done()
			fmt.Fprintf(c.stderr, "session %s of %s at %s: %v\n", p.ID, printable(p.Person), printable(p.System), err)
			wrong++
		}
	}
	bar.done()
	if !c.json {
		fmt.Fprintf(c.stderr, "%d lines in %d recordings\n", lines, len(list))
	}
	if wrong > 0 {
		return hintf("`sallyport session play` compares a recording with the audit log, chunk by chunk", "%d of %d recordings could not be searched to their end", wrong, len(list))
	}
	return nil
}

// The time that rendering one recording may take: what an output that was made to be slow can cost.
const (
	searchLeast  = 30 * time.Second
	searchPerMiB = 20 * time.Second // of the file, which is compressed
)

func (c *cli) searchOne(ctx context.Context, dir string, key []byte, p *admin.PastSession, size int64, text string, at func(int64), clear func()) (lines int, err error) {
	path, err := recording.File(dir, p.Recording)
	if err != nil {
		return 0, err
	}
	budget, cancel := context.WithTimeout(ctx, searchLeast+time.Duration(size>>20)*searchPerMiB)
	defer cancel()
	r, err := recording.Open(path, key)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	r.Progress = at
	err = r.Search(budget, text, func(l recording.Line) error {
		lines++
		clear()
		return c.printFound(p, l)
	})
	sum, chunks := r.Sum()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return lines, errors.New("it takes too long: the rest is not searched")
	case (errors.Is(err, recording.ErrUnfinished) || errors.Is(err, recording.ErrTruncated)) && (p.Live || p.State != recording.Complete):
		return lines, nil // what there is was searched
	case err == nil && p.State != "" && (chunks != p.Chunks || sum != p.SHA256):
		return lines, errors.New("it was altered: it is not the one that the audit log has")
	}
	return lines, err
}

func (c *cli) printFound(p *admin.PastSession, l recording.Line) error {
	if c.json {
		return c.printJSON(foundLine{p.ID, p.Person, p.System, p.Account, p.Started.Add(l.At), l.At.Seconds(), l.Text})
	}
	_, err := fmt.Fprintf(c.stdout, "%s  %-16s  %-16s  %s  +%-9s  %s\n", p.ID, printable(p.Person), printable(p.System), day(p.Started), l.At.Round(time.Second), printable(l.Text))
	return err
}
