package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/otp"
)

// Upload implements admin.Uploader.
func (l local) Upload(ctx context.Context, verb string, in any, file io.Reader, w io.Writer) error {
	return l.Service.Upload(admin.WithActor(ctx, l.actor), verb, in, file, w)
}

// importFlags are the flags of token import.
type importFlags struct {
	admin.TokenImport
	keyFile       string
	passwordStdin bool
	password      bool
	typ           string
	algorithm     string
}

func (c *cli) tokenImport() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Take a maker's file of hardware tokens into stock", Args: cobra.ExactArgs(1),
		Long: `Takes the hardware tokens of a file into stock, from where token assign gives them to people by the serial numbers that are printed on
them. The file is PSKC (RFC 6030), in clear or encrypted with a pre-shared key or a password, or a table (CSV) with names of columns in
its first line; FILE may be - for standard input. All of it is checked first: when anything is wrong, everything that is wrong is printed
with line and serial number, and nothing is taken. An import that was cut off is finished by the same command again.

--type, --digits, --period and --algorithm are for tables that do not say.`,
		Example: `  sallyport token import tokens.xml --dry-run
  sallyport token import tokens.xml --key-file transport.key
  printf %s "$PASSWORD" | sallyport token import tokens.xml --password-stdin
  sallyport token import tokens.csv --type totp --period 60`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.read(c, args[0]); err != nil {
				return err
			}
			defer clear(f.Key)
			file, size, err := c.openFile(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			return c.with(cmd, func(caller admin.Caller) error {
				return c.importTokens(cmd.Context(), caller, f.TokenImport, file, size)
			})
		},
	}
	cmd.Flags().StringVar(&f.Format, "format", "auto", "auto, pskc or csv")
	cmd.Flags().StringVar(&f.keyFile, "key-file", "", "`FILE` with the pre-shared key: 16, 24 or 32 bytes, or as many in hexadecimal")
	cmd.Flags().BoolVar(&f.passwordStdin, "password-stdin", false, "take the file's password from standard input")
	cmd.Flags().BoolVar(&f.password, "password", false, "ask for the file's password at the terminal")
	cmd.Flags().BoolVar(&f.DryRun, "dry-run", false, "check everything, and take nothing")
	cmd.Flags().StringVar(&f.typ, "type", "", "totp (by time) or hotp (by counter)")
	cmd.Flags().StringVar(&f.algorithm, "algorithm", "", "sha1, sha256 or sha512")
	cmd.Flags().IntVar(&f.Params.Digits, "digits", 0, "6 or 8")
	cmd.Flags().IntVar(&f.Params.Period, "period", 0, "`SECONDS` that a TOTP code lasts: 30 or 60")
	cmd.MarkFlagsMutuallyExclusive("key-file", "password-stdin", "password")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"auto", "pskc", "csv"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"totp", "hotp"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("algorithm", cobra.FixedCompletions([]string{"sha1", "sha256", "sha512"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (f *importFlags) read(c *cli, name string) (err error) {
	f.Params.Type, f.Params.Algorithm = otp.Type(strings.ToLower(f.typ)), otp.Algorithm(strings.ToLower(f.algorithm))
	if f.Params.Type == otp.TypeHOTP && f.Params.Period != 0 {
		return usagef("--period is for totp")
	}
	f.Name = filepath.Base(name)
	if name == "-" {
		if f.Name = "standard input"; f.passwordStdin {
			return usagef("standard input cannot be the file and the password")
		}
	}
	switch {
	case f.keyFile != "":
		f.Key, err = readTransportKey(f.keyFile)
	case f.passwordStdin:
		f.Password, err = c.readSecret("password")
	case f.password:
		if f.Password, err = c.askSecret("Password of the file: "); err == nil && f.Password == "" {
			err = errors.New("the password is empty")
		}
	}
	return err
}

// maxTransportKey bounds what is read of a key, in bytes: 32 in hexadecimal, with blanks between.
const maxTransportKey = 256

// readTransportKey reads a pre-shared key: its bytes, or as people write them down. What 32 hexadecimal digits are, a key of 32 bytes is
// not: nobody's random one looks so.
func readTransportKey(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxTransportKey+1))
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n:-", r) {
			return -1
		}
		return r
	}, string(b))
	if key, err := hex.DecodeString(strings.TrimPrefix(digits, "0x")); err == nil && isKeyLength(len(key)) {
		return key, nil
	}
	if isKeyLength(len(b)) {
		return b, nil
	}
	return nil, hintf("16, 24 or 32 bytes, or 32, 48 or 64 hexadecimal digits", "the key in %s cannot be one: %d bytes", name, len(b))
}

func isKeyLength(n int) bool { return n == 16 || n == 24 || n == 32 }

// openFile opens a file, or standard input for "-". Its size is 0 when it isn't known.
func (c *cli) openFile(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(c.stdin), 0, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder", name)
	}
	if err == nil && info.Size() > admin.MaxUpload {
		err = hintf("split it", "%s has %d MiB: at most %d", name, info.Size()>>20, admin.MaxUpload>>20)
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// reading shows how much of a file is read.
type reading struct {
	r   io.Reader
	n   uint64
	bar *progress
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += uint64(n)
	r.bar.at(r.n)
	return n, err
}

// importLines takes the lines of the answer as they come.
type importLines struct {
	c      *cli
	rest   []byte
	bar    *progress
	result *admin.TokenImported
}

func (l *importLines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.rest = rest
		var x admin.ImportLine
		if err := json.Unmarshal(line, &x); err != nil {
			return 0, fmt.Errorf("the daemon's answer: %w", err)
		}
		if x.Result != nil {
			l.result = x.Result
		} else if x.Of > 0 {
			if l.bar == nil {
				l.bar = l.c.progress("taking tokens", uint64(x.Of))
			}
			l.bar.at(uint64(x.Done))
		}
	}
}

// maxShownFaults is how many faults are printed for people; --json has all that are kept.
const maxShownFaults = 50

func (c *cli) importTokens(ctx context.Context, caller admin.Caller, in admin.TokenImport, file io.Reader, size int64) error {
	uploader, ok := caller.(admin.Uploader)
	if !ok {
		return errors.New("files cannot be sent from here")
	}
	r, lines := &reading{r: file, bar: c.progress("reading", uint64(size))}, &importLines{c: c}
	err := uploader.Upload(ctx, "token.import", in, r, lines)
	r.bar.done()
	if lines.bar != nil {
		lines.bar.done()
	}
	if err != nil {
		return err
	}
	res := lines.result
	if res == nil {
		return errors.New("the daemon's answer has no result")
	}
	if c.json {
		if err := c.printJSON(res); err != nil {
			return err
		}
	}
	if len(res.Faults) > 0 {
		if !c.json {
			c.printFaults(res)
		}
		return errSilent
	}
	if c.json {
		return nil
	}
	already := ""
	if res.Already > 0 {
		already = fmt.Sprintf("; %d were here already, from an import of this file that was cut off", res.Already)
	}
	if in.DryRun {
		fmt.Fprintf(c.stdout, "%s is right: %s would be taken into stock%s; nothing was taken\n", printable(in.Name), numbered(res.Imported, "token", "tokens"), already)
		return nil
	}
	records := fmt.Sprintf("record %d", res.Records[0])
	if n := len(res.Records); n > 1 {
		records = fmt.Sprintf("%d records, %d to %d", n, res.Records[0], res.Records[n-1])
	}
	fmt.Fprintf(c.stdout, "%s in stock now (%s)%s\n", numbered(res.Imported, "token is", "tokens are"), records, already)
	if res.Wishes > 0 {
		fmt.Fprintf(c.stdout, "%s in the file for somebody: `sallyport token assign SERIAL` gives it to whom it names\n", numbered(res.Wishes, "is", "are"))
	}
	return nil
}

func numbered(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

func (c *cli) printFaults(res *admin.TokenImported) {
	last := ""
	for i, f := range res.Faults {
		if i == maxShownFaults {
			break
		}
		fmt.Fprintln(c.stderr, printable(f.String()))
		if f.Hint != "" && f.Hint != last {
			fmt.Fprintln(c.stderr, "  hint:", printable(f.Hint))
		}
		last = f.Hint
	}
	n := len(res.Faults) + res.More
	if n > maxShownFaults {
		fmt.Fprintf(c.stderr, "... and %d more (--json has up to %d)\n", n-maxShownFaults, otp.MaxFaults)
	}
	fmt.Fprintf(c.stderr, "sallyport: nothing was taken: %s wrong with the file\n", numbered(n, "thing is", "things are"))
}

func (c *cli) tokenStock() *cobra.Command {
	return &cobra.Command{
		Use: "stock", Short: "List the hardware tokens that belong to nobody", Args: cobra.NoArgs,
		Example: "  sallyport token stock\n  sallyport token stock --json | jq -r .serial",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var list []admin.StockInfo
				if err := caller.Call(cmd.Context(), "token.stock", admin.StockList{}, &list); err != nil {
					return err
				}
				return printList(c, list, []string{"SERIAL", "MAKER", "MODEL", "TYPE", "ALGORITHM", "DIGITS", "PERIOD", "UNTIL", "FOR", "IMPORTED"}, func(t admin.StockInfo) []string {
					period, until := "", ""
					if t.Period > 0 {
						period = fmt.Sprint(t.Period) + " s"
					}
					if !t.Until.IsZero() {
						until = t.Until.Format(time.DateOnly)
					}
					return []string{t.Serial, t.Maker, t.Model, string(t.Type), string(t.Algorithm), fmt.Sprint(t.Digits), period, until, t.Wish, day(t.Imported)}
				})
			})
		},
	}
}

func (c *cli) tokenAssign() *cobra.Command {
	var in admin.TokenAssign
	cmd := &cobra.Command{
		Use: "assign SERIAL [NAME]", Short: "Give a hardware token to a person", Args: cobra.RangeArgs(1, 2),
		Long: `Gives a hardware token from stock to a person, by the serial number that is printed on it; without NAME, to whom its maker's file
names. It serves after token confirm has seen a first code from it, which shows that the person has this one and no other; with --active, at
once. A token that was somebody's must be revoked first, and is given anew with --again only: then codes of it that were used stay used.`,
		Example:           "  sallyport token assign 2600124809776 alice\n  echo 123456 | sallyport token confirm alice",
		ValidArgsFunction: c.completeStock,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Serial, in.Person = args[0], ""
			if len(args) > 1 {
				in.Person = args[1]
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var t admin.TokenAssigned
				if err := caller.Call(cmd.Context(), "token.assign", in, &t); err != nil {
					return err
				}
				next := "it serves now"
				if !in.Active {
					next = "next: sallyport token confirm " + t.Person
				}
				return c.say(t, "token %s is %s's, as %s (record %d); %s", t.Serial, t.Person, t.ID, t.Record, next)
			})
		},
	}
	cmd.Flags().BoolVar(&in.Active, "active", false, "serve at once, without a first code as proof that the person has it")
	cmd.Flags().BoolVar(&in.Again, "again", false, "a token that was somebody's, and is revoked")
	cmd.Flags().StringVar(&in.Label, "label", "", "what tells it from the person's other tokens")
	return cmd
}

func (c *cli) tokenDiscard() *cobra.Command {
	var in admin.TokenSerial
	cmd := &cobra.Command{
		Use: "discard SERIAL", Short: "Remove a hardware token from stock", Args: cobra.ExactArgs(1),
		Example:           "  sallyport token discard 2600124809776 --reason 'lost in the post'",
		ValidArgsFunction: c.completeStock,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Serial = args[0]
			return c.with(cmd, func(caller admin.Caller) error {
				var done admin.Done
				if err := caller.Call(cmd.Context(), "token.discard", in, &done); err != nil {
					return err
				}
				return c.say(done, "token %s is in stock no longer (record %d)", in.Serial, done.Record)
			})
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	return cmd
}

// maxCompleted bounds what a shell is offered.
const maxCompleted = 200

// completeStock offers serial numbers that begin so, and then people.
func (c *cli) completeStock(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		if cmd.Name() != "assign" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c.completePeople(cmd, args[1:], begun)
	}
	var list []admin.StockInfo
	err := c.with(cmd, func(caller admin.Caller) error {
		return caller.Call(cmd.Context(), "token.stock", admin.StockList{Prefix: begun, Limit: maxCompleted}, &list)
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var serials []string
	for _, t := range list {
		serials = append(serials, t.Serial)
	}
	return serials, cobra.ShellCompDirectiveNoFileComp
}
