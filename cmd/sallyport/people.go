package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/login"
	"sallyport/otp"
)

// with runs fn with a caller of verbs: the daemon, or this process when no daemon runs.
func (c *cli) with(cmd *cobra.Command, fn func(admin.Caller) error) error {
	caller, done, err := c.open(cmd.Context())
	if err != nil {
		return err
	}
	err = fn(caller)
	if e := done(); err == nil {
		err = e
	}
	return err
}

// say prints a sentence for people, or the object for programs.
func (c *cli) say(v any, format string, args ...any) error {
	if c.json {
		return c.printJSON(v)
	}
	_, err := fmt.Fprintf(c.stdout, format+"\n", args...)
	return err
}

func (c *cli) userCommand() *cobra.Command {
	return noun("user", "People at the gateway",
		c.userAdd(), c.userSet(), c.userShow(), c.userList(), c.userPassword(), c.userImport(), c.userExport(), c.userSync(),
		c.userVerb("disable", "Refuse a person from now on", "disabled"),
		c.userVerb("enable", "Let a disabled person in again", "enabled"),
		c.userVerb("unlock", "Forget a person's failed attempts", "unlocked"),
		c.userVerb("remove", "Remove a person with tokens and keys; the records stay", "removed"),
	)
}

// personFlags are the flags that describe a person.
type personFlags struct {
	groups        []string
	kind          string
	first         string
	from, until   string
	password      bool
	passwordStdin bool
	particulars
}

func (f *personFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.groups, "group", nil, "`GROUP`s that rules name; repeat, or separate by commas")
	cmd.Flags().StringVar(&f.kind, "kind", "staff", "staff, supplier, service or break-glass")
	cmd.Flags().StringVar(&f.first, "first-factor", "", "local, ldap or radius, where it is not the usual one")
	cmd.Flags().StringVar(&f.from, "from", "", "active from this `TIME`, for example 2026-06-30")
	cmd.Flags().StringVar(&f.until, "until", "", "active until this `TIME`")
	cmd.Flags().BoolVar(&f.passwordStdin, "password-stdin", false, "take the password from standard input")
	cmd.Flags().BoolVar(&f.password, "password", false, "ask for a password at the terminal")
	f.particulars.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("password", "password-stdin")
	_ = cmd.RegisterFlagCompletionFunc("first-factor", cobra.FixedCompletions([]string{"local", "ldap", "radius"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"staff", "supplier", "service", "break-glass"}, cobra.ShellCompDirectiveNoFileComp))
}

func (f *personFlags) read(c *cli) (password string, from, until time.Time, err error) {
	if from, err = parseWhen("from", f.from, time.Now()); err != nil {
		return
	}
	if until, err = parseWhen("until", f.until, time.Now()); err != nil {
		return
	}
	if err = f.particulars.check(); err != nil {
		return
	}
	switch {
	case f.passwordStdin:
		password, err = c.readSecret("password")
	case f.password:
		if password, err = c.askSecret("Password: "); err == nil && terminal(c.stdin) {
			var again string
			if again, err = c.askSecret("Once more: "); err == nil && again != password {
				err = fmt.Errorf("the two passwords differ")
			}
		}
		if err == nil && password == "" {
			err = fmt.Errorf("the password is empty")
		}
	}
	return
}

func (c *cli) userAdd() *cobra.Command {
	var f personFlags
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a person", Args: cobra.ExactArgs(1),
		Example: `  printf %s "$PW" | sallyport user add alice --group network --password-stdin
  sallyport user add ext-jones --kind supplier --company "Pumps Ltd" --sponsor alice --contract-end 2026-12-31 --password`,
		RunE: func(cmd *cobra.Command, args []string) error {
			password, from, until, err := f.read(c)
			if err != nil {
				return err
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var done admin.UserDone
				in := admin.UserAdd{Name: args[0], Kind: login.PersonKind(f.kind), Groups: f.groups, From: from, Until: until, First: f.first, Password: password, Particulars: f.Particulars}
				if err := caller.Call(cmd.Context(), "user.add", in, &done); err != nil {
					return err
				}
				c.warn(done.Warnings)
				return c.say(done, "added %s (record %d); next: sallyport token enrol %[1]s", args[0], done.Record)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (c *cli) userSet() *cobra.Command {
	var f personFlags
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Change a person; what is not named stays", Args: cobra.ExactArgs(1),
		Example: `  sallyport user set alice --group network,vpn
  sallyport user set ext-jones --until 2027-03-31`,
		RunE: func(cmd *cobra.Command, args []string) error {
			password, from, until, err := f.read(c)
			if err != nil {
				return err
			}
			changed := cmd.Flags().Changed
			in := admin.UserSet{Name: args[0], ParticularsSet: f.particulars.set(changed)}
			if changed("group") {
				in.Groups = &f.groups
			}
			if changed("kind") {
				kind := login.PersonKind(f.kind)
				in.Kind = &kind
			}
			if changed("first-factor") {
				in.First = &f.first
			}
			if changed("from") {
				in.From = &from
			}
			if changed("until") {
				in.Until = &until
			}
			if password != "" {
				in.Password = &password
			}
			if in == (admin.UserSet{Name: args[0]}) {
				return usagef("nothing to change: name --group, --kind, --first-factor, --from, --until, --full-name, --mail, --company, --sponsor, --owner, --contract-end or --password")
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var done admin.UserDone
				if err := caller.Call(cmd.Context(), "user.set", in, &done); err != nil {
					return err
				}
				c.warn(done.Warnings)
				return c.say(done, "changed %s (record %d)", args[0], done.Record)
			})
		},
		ValidArgsFunction: c.completePeople,
	}
	f.add(cmd)
	return cmd
}

func (c *cli) userVerb(verb, short, past string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1), Example: "  sallyport user " + verb + " alice",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var done admin.Done
				if err := caller.Call(cmd.Context(), "user."+verb, admin.PersonIn{Name: args[0]}, &done); err != nil {
					return err
				}
				if err := c.say(done, "%s %s (record %d)", past, args[0], done.Record); err != nil {
					return err
				}
				return c.sayEnded(done.Ended)
			})
		},
	}
}

func (c *cli) userShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a person with tokens and keys", Args: cobra.ExactArgs(1), Example: "  sallyport user show alice",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var u admin.UserInfo
				if err := caller.Call(cmd.Context(), "user.show", admin.PersonIn{Name: args[0]}, &u); err != nil {
					return err
				}
				if c.json {
					return c.printJSON(u)
				}
				rows := [][]string{
					{"kind", string(u.Kind)},
					{"groups", strings.Join(u.Groups, ", ")},
					{"first factor", cmp.Or(u.First, "the usual one")},
					{"disabled", yesNo(u.Disabled)},
					{"from", day(u.From)},
					{"until", day(u.Until)},
					{"password", map[bool]string{true: "set", false: "not set"}[u.Password]},
				}
				rows = append(rows, particularRows(u.Person)...)
				rows = append(rows, []string{"last login", cmp.Or(day(u.Last), "never")})
				for _, t := range u.Tickets {
					rows = append(rows, []string{"ticket", fmt.Sprintf("%s until %s", t.ID, day(t.Until))})
				}
				for _, t := range u.Tokens {
					rows = append(rows, []string{"token", fmt.Sprintf("%s %s %s %s", t.ID, t.Type, t.State, t.Label)})
				}
				for _, k := range u.Keys {
					rows = append(rows, []string{"key", fmt.Sprintf("%s %s %s", k.Type, k.Fingerprint, k.Comment)})
				}
				return c.table([]string{"PERSON", u.Name}, rows)
			})
		},
	}
}

// printList prints one object a line, or a table.
func printList[T any](c *cli, list []T, head []string, row func(T) []string) error {
	if c.json {
		for _, v := range list {
			if err := c.printJSON(v); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([][]string, len(list))
	for i, v := range list {
		rows[i] = row(v)
	}
	return c.table(head, rows)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// completePeople offers the names of people to the shell.
func (c *cli) completePeople(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var people []admin.UserRow
	err := c.with(cmd, func(caller admin.Caller) error {
		return caller.Call(cmd.Context(), "user.list", admin.Empty{}, &people)
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, len(people))
	for i, p := range people {
		names[i] = p.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) tokenCommand() *cobra.Command {
	return noun("token", "One-time-code devices", c.tokenEnrol(), c.tokenConfirm(), c.tokenList(), c.tokenRevoke(), c.tokenRecovery(), c.tokenResync(),
		c.tokenImport(), c.tokenStock(), c.tokenAssign(), c.tokenDiscard(), c.tokenTicket(), c.tokenLost())
}

func (c *cli) tokenEnrol() *cobra.Command {
	in := admin.TokenEnrol{Params: otp.Default()}
	var typ, algorithm string
	cmd := &cobra.Command{
		Use: "enrol NAME", Short: "Enrol a token and show its QR code once", Args: cobra.ExactArgs(1),
		Long: `Makes a new secret for a person and shows it once, as a QR code and an otpauth URI, for an authenticator app.
The token serves after token confirm has seen a first code; with --active, at once.`,
		Example:           "  sallyport token enrol alice\n  sallyport token enrol alice --active --json",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Person, in.Params.Type, in.Params.Algorithm = args[0], otp.Type(strings.ToLower(typ)), otp.Algorithm(strings.ToLower(algorithm))
			if in.Params.Type == otp.TypeHOTP {
				in.Params.Period = 0
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var t admin.TokenEnrolled
				if err := caller.Call(cmd.Context(), "token.enrol", in, &t); err != nil {
					return err
				}
				if c.json {
					return c.printJSON(t)
				}
				if err := printQR(c.stdout, t.URI); err != nil {
					return err
				}
				fmt.Fprintf(c.stdout, "%s\ntoken %s of %s (record %d)\n", t.URI, t.ID, t.Person, t.Record)
				if t.State == login.TokenPending {
					fmt.Fprintf(c.stdout, "It waits for its first code: sallyport token confirm %s\n", t.Person)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&typ, "type", "totp", "totp (by time) or hotp (by counter)")
	cmd.Flags().StringVar(&algorithm, "algorithm", "sha1", "sha1, sha256 or sha512; most apps know only sha1")
	cmd.Flags().IntVar(&in.Params.Digits, "digits", 6, "6 or 8")
	cmd.Flags().IntVar(&in.Params.Period, "period", 30, "`SECONDS` that a TOTP code lasts: 30 or 60")
	cmd.Flags().StringVar(&in.Label, "label", "", "what tells it from the person's other tokens")
	cmd.Flags().BoolVar(&in.Active, "active", false, "serve at once, without a first code as proof that it was read in")
	return cmd
}

func (c *cli) tokenConfirm() *cobra.Command {
	return &cobra.Command{
		Use: "confirm NAME", Short: "Make a waiting token serve, by a first code from it", Args: cobra.ExactArgs(1),
		Example:           "  sallyport token confirm alice\n  echo 123456 | sallyport token confirm alice",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := c.readLine("One-time code: ")
			if err != nil {
				return err
			}
			return c.with(cmd, func(caller admin.Caller) error {
				var t admin.TokenInfo
				if err := caller.Call(cmd.Context(), "token.confirm", admin.TokenConfirm{Person: args[0], Code: code}, &t); err != nil {
					return err
				}
				return c.say(t, "token %s of %s serves now; that code is used", t.ID, t.Person)
			})
		},
	}
}

func (c *cli) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list [NAME]", Short: "List tokens", Args: cobra.MaximumNArgs(1), Example: "  sallyport token list alice",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var tokens []admin.TokenInfo
				if err := caller.Call(cmd.Context(), "token.list", admin.TokenList{Person: first(args)}, &tokens); err != nil {
					return err
				}
				return printList(c, tokens, []string{"TOKEN", "PERSON", "TYPE", "ALGORITHM", "DIGITS", "PERIOD", "STATE", "CREATED", "LAST USED", "LABEL", "SERIAL"}, func(t admin.TokenInfo) []string {
					period := ""
					if t.Period > 0 {
						period = fmt.Sprint(t.Period) + " s"
					}
					return []string{t.ID, t.Person, string(t.Type), string(t.Algorithm), fmt.Sprint(t.Digits), period, string(t.State), day(t.Created), day(t.Used), t.Label, t.Serial}
				})
			})
		},
	}
}

func (c *cli) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke TOKEN", Short: "End a token for good", Args: cobra.ExactArgs(1), Example: "  sallyport token revoke tk-4xq7m2kd3v5a",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var t admin.TokenRevoked
				if err := caller.Call(cmd.Context(), "token.revoke", admin.TokenIn{ID: args[0]}, &t); err != nil {
					return err
				}
				if err := c.say(t, "token %s of %s is revoked", t.ID, t.Person); err != nil {
					return err
				}
				return c.sayEnded(t.Ended)
			})
		},
	}
}

func (c *cli) keyCommand() *cobra.Command {
	return noun("key", "People's SSH public keys", c.keyAdd(), c.keyList(), c.keyRemove())
}

func (c *cli) keyAdd() *cobra.Command {
	var in admin.KeyAdd
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Register an SSH public key from standard input", Args: cobra.ExactArgs(1),
		Long: `Registers an SSH public key, one line as in a file that ends in .pub. A person's key is one thing had, beside password and code.
The key of a service identity (user add --kind service) logs in alone, for one command at one target from some addresses, and only
where the rule names a live entry of the exception register.`,
		Example: "  sallyport key add alice < ~/.ssh/id_ed25519.pub\n" +
			"  sallyport key add backup --source 10.0.0.7 --target srv1 --command 'backup run' < backup.pub",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			line, err := io.ReadAll(io.LimitReader(c.stdin, 64<<10))
			if err != nil {
				return fmt.Errorf("key from standard input: %w", err)
			}
			in.Person, in.Line = args[0], string(line)
			return c.with(cmd, func(caller admin.Caller) error {
				var k admin.KeyInfo
				if err := caller.Call(cmd.Context(), "key.add", in, &k); err != nil {
					return err
				}
				return c.say(k, "registered %s %s for %s", k.Type, k.Fingerprint, k.Person)
			})
		},
	}
	cmd.Flags().StringSliceVar(&in.Sources, "source", nil, "of a service identity: the `ADDRESS` or network that the key is used from; may be repeated")
	cmd.Flags().StringVar(&in.Target, "target", "", "of a service identity: the `TARGET` that the key is for")
	cmd.Flags().StringVar(&in.Command, "command", "", "of a service identity: the `COMMAND` that the key runs, exactly")
	return cmd
}

func (c *cli) keyList() *cobra.Command {
	return &cobra.Command{
		Use: "list [NAME]", Short: "List registered keys", Args: cobra.MaximumNArgs(1), Example: "  sallyport key list alice",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var keys []admin.KeyInfo
				if err := caller.Call(cmd.Context(), "key.list", admin.TokenList{Person: first(args)}, &keys); err != nil {
					return err
				}
				return printList(c, keys, []string{"PERSON", "TYPE", "FINGERPRINT", "ADDED", "LAST USED", "COMMENT"}, func(k admin.KeyInfo) []string {
					return []string{k.Person, k.Type, k.Fingerprint, day(k.Created), day(k.Used), k.Comment}
				})
			})
		},
	}
}

func (c *cli) keyRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME FINGERPRINT", Short: "Remove a registered key", Args: cobra.ExactArgs(2),
		Example:           "  sallyport key remove alice SHA256:...",
		ValidArgsFunction: c.completePeople,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var done admin.Done
				if err := caller.Call(cmd.Context(), "key.remove", admin.KeyIn{Person: args[0], Fingerprint: args[1]}, &done); err != nil {
					return err
				}
				return c.say(done, "removed key %s of %s (record %d)", args[1], args[0], done.Record)
			})
		},
	}
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
