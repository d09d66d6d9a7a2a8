package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/config"
	"sallyport/internal/login"
	"sallyport/sshgw/outbound"
)

// The gateway's CAs in the folder of keys: one answers for targets, one logs in at them, and one lets people come to the gateway
// again.
const (
	hostCAFile  = "ssh_host_ca"
	userCAFile  = "ssh_user_ca"
	loginCAFile = "ssh_login_ca"
)

// createAuthorities makes the CAs that are not there yet.
func createAuthorities(p paths) (made []audit.Detail, err error) {
	for _, name := range []string{hostCAFile, userCAFile, loginCAFile} {
		path := filepath.Join(p.keys, name)
		if _, err := os.Lstat(path); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return made, err
		}
		ca, err := outbound.CreateCA(path, "sallyport "+name)
		if err != nil {
			return made, err
		}
		made = append(made, audit.Detail{Key: name, Value: outbound.KeyOf(ca.Key()).Fingerprint})
	}
	return made, nil
}

// ensureAuthorities makes, and records, what data folders of older versions lack.
func (a *app) ensureAuthorities(ctx context.Context) error {
	made, err := createAuthorities(a.paths)
	if err != nil || len(made) == 0 {
		return err
	}
	return a.admin.Record(ctx, "ca.create", audit.Info, "ok", made...)
}

// hostCA signs the host certificates by which the gateway answers for targets.
func (a *app) hostCA() (*outbound.CA, error) { return loadAuthority(a.paths, hostCAFile) }

// userCA signs the certificates by which the gateway logs in at targets.
func (a *app) userCA() (*outbound.CA, error) { return loadAuthority(a.paths, userCAFile) }

// loginCA signs the certificates that people ask for.
func (a *app) loginCA() (*outbound.CA, error) { return loadAuthority(a.paths, loginCAFile) }

func loadAuthority(p paths, name string) (*outbound.CA, error) {
	ca, err := outbound.LoadCA(filepath.Join(p.keys, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hintf("`sallyport serve` makes it at its next start", "%w", err)
	}
	return ca, err
}

func (a *app) loadTargets(ctx context.Context) error {
	if err := a.store.HostKeys(ctx, func(k login.HostKey) error {
		a.gate.Apply(login.Change{PutHostKey: &k})
		return nil
	}); err != nil {
		return err
	}
	return a.store.Credentials(ctx, func(c login.Credential) error {
		a.gate.Apply(login.Change{PutCredential: &c})
		clear(c.Secret)
		return nil
	})
}

// checkTargets finds what is wrong with targets beyond their form.
func checkTargets(cfg *config.Config) (problems config.Problems) {
	for _, t := range cfg.SSH.Targets {
		if _, err := outbound.ParseAlgorithms(t.Algorithms); err != nil {
			problems = append(problems, t.Problem(err.Error(), ""))
		}
		if _, err := outbound.ParseHostKeys(t.HostKeys); err != nil {
			problems = append(problems, t.Problem(err.Error(), ""))
		}
	}
	return problems
}

// targets is what the verbs ask of SSH targets.
type targets struct{ *app }

func (a targets) All() []admin.TargetSetting {
	var all []admin.TargetSetting
	for _, t := range a.config().SSH.Targets {
		algorithms, err := outbound.ParseAlgorithms(t.Algorithms)
		if err != nil { // the configuration was checked
			continue
		}
		all = append(all, admin.TargetSetting{
			Name: t.Name, Address: t.Address, Account: t.Account, Credential: t.Credential, Algorithms: algorithms.String(), Jump: jumpOf(t),
			Class: classOf(t.Class), Tags: append([]string{}, t.Tags...), Pinned: append([]string{}, t.HostKeys...),
		})
	}
	return all
}

// scanFor bounds a scan: it connects a few times.
const scanFor = time.Minute

func (a targets) Scan(ctx context.Context, name string) (wire [][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, scanFor)
	defer cancel()
	for _, t := range a.config().SSH.Targets {
		if !strings.EqualFold(t.Name, name) {
			continue
		}
		algorithms, err := outbound.ParseAlgorithms(t.Algorithms)
		if err != nil {
			return nil, err
		}
		keys, err := outbound.Scan(ctx, outbound.Target{Name: t.Name, Address: t.Address, Algorithms: algorithms}, outbound.Options{})
		for _, k := range keys {
			wire = append(wire, k.Marshal())
		}
		return wire, forPeople(err)
	}
	return nil, fmt.Errorf("there is no target %q", name)
}

// forPeople keeps an error's hint over the socket.
func forPeople(err error) error {
	if hinted, ok := err.(interface{ Hint() string }); ok {
		return &admin.Error{Text: err.Error(), Hint: hinted.Hint()}
	}
	return err
}

func (a targets) Authorities() (admin.Authorities, error) {
	host, err := a.hostCA()
	if err != nil {
		return admin.Authorities{}, err
	}
	user, err := a.userCA()
	if err != nil {
		return admin.Authorities{}, err
	}
	var patterns []string
	for _, t := range a.config().SSH.Targets {
		names, _ := outbound.Names(t.Name, t.Address)
		for _, n := range names {
			if !slices.Contains(patterns, n) {
				patterns = append(patterns, n)
			}
		}
	}
	known := ""
	if len(patterns) > 0 {
		known = host.KnownHosts(patterns)
	}
	return admin.Authorities{KnownHosts: known, UserCA: user.AuthorizedKey("sallyport-user-ca")}, nil
}

func (c *cli) targetCommand() *cobra.Command {
	return noun("target", "SSH targets behind the gateway", c.targetList(), c.targetTrust(), c.targetCredential())
}

func (c *cli) targetList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the SSH targets, and what is known of them", Args: cobra.NoArgs,
		Long: `Lists the SSH targets of the configuration. KEYS counts the host keys that are pinned in the configuration, approved,
and waiting for approval. CREDENTIAL is what the configuration says; * marks that a key or password is sealed for it.`,
		Example: "  sallyport target list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd, func(caller admin.Caller) error {
				var list []admin.TargetInfo
				if err := caller.Call(cmd.Context(), "target.list", admin.Empty{}, &list); err != nil {
					return err
				}
				head := []string{"TARGET", "ADDRESS", "ACCOUNT", "CREDENTIAL", "KEYS", "ALGORITHMS", "JUMP", "CLASS", "TAGS"}
				return printList(c, list, head, func(t admin.TargetInfo) []string {
					return []string{t.Name, t.Address, t.Account, credentialCell(t), keysCell(t), t.Algorithms, t.Jump, t.Class, strings.Join(t.Tags, ",")}
				})
			})
		},
	}
}

func credentialCell(t admin.TargetInfo) string {
	if len(t.Credentials) > 0 {
		return t.Credential + "*"
	}
	return t.Credential
}

func keysCell(t admin.TargetInfo) string {
	revoked := t.Count(login.HostKeyRevoked)
	for _, line := range t.Pinned {
		if _, never, _ := outbound.ParseHostKey(line); never {
			revoked++
		}
	}
	var parts []string
	for _, x := range []struct {
		n    int
		what string
	}{
		{len(t.Pinned) + t.Count(login.HostKeyRevoked) - revoked, "pinned"},
		{t.Count(login.HostKeyApproved), "approved"},
		{t.Count(login.HostKeyPending), "waiting"},
		{revoked, "revoked"},
	} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	return strings.Join(parts, ", ")
}

// completeTargets completes the names of SSH targets.
func (c *cli) completeTargets(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := c.load()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range cfg.SSH.Targets {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// trustFlags are the flags of target trust.
type trustFlags struct {
	scan, yes, print bool
	revoke, remove   string
}

func (c *cli) targetTrust() *cobra.Command {
	var f trustFlags
	cmd := &cobra.Command{
		Use: "trust [NAME [FINGERPRINT]]", Short: "Approve a target's host key", Args: cobra.MaximumNArgs(2),
		Long: `Approves a host key that a target has shown and that waits for approval; compare its fingerprint with the target's own
first. Without FINGERPRINT it shows what waits, and approves nothing unless one key waits and --yes is given.
--print-known-hosts prints the line by which clients trust the gateway where it answers for targets.`,
		Example: `  sallyport target trust core-sw1 --scan
  sallyport target trust core-sw1 SHA256:...
  sallyport target trust core-sw1 --revoke SHA256:...
  sallyport target trust --print-known-hosts >> ~/.ssh/known_hosts`,
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.print != (len(args) == 0) {
				return usagef("target trust needs the name of a target, or --print-known-hosts alone")
			}
			if len(args) == 2 && (f.scan || f.revoke != "" || f.remove != "") {
				return usagef("a fingerprint to trust goes with neither --scan, --revoke nor --remove")
			}
			return c.with(cmd, func(caller admin.Caller) error {
				if f.print {
					return c.printAuthority(cmd.Context(), caller, func(a admin.Authorities) string { return a.KnownHosts })
				}
				return c.trust(cmd.Context(), caller, args, f)
			})
		},
	}
	cmd.Flags().BoolVar(&f.scan, "scan", false, "connect, and fetch the target's keys first")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "approve the one key that waits")
	cmd.Flags().StringVar(&f.revoke, "revoke", "", "never take the key with this `FINGERPRINT` again")
	cmd.Flags().StringVar(&f.remove, "remove", "", "forget what is known of the key with this `FINGERPRINT`")
	cmd.Flags().BoolVar(&f.print, "print-known-hosts", false, "print the line of known_hosts for all targets")
	cmd.MarkFlagsMutuallyExclusive("scan", "revoke", "remove", "print-known-hosts")
	cmd.MarkFlagsMutuallyExclusive("yes", "revoke", "remove", "print-known-hosts")
	return cmd
}

func (c *cli) trust(ctx context.Context, caller admin.Caller, args []string, f trustFlags) error {
	name := args[0]
	verb := func(verb, fingerprint, done string) error {
		var k admin.HostKeyInfo
		if err := caller.Call(ctx, verb, admin.HostKeyIn{Target: name, Fingerprint: fingerprint}, &k); err != nil {
			return err
		}
		return c.say(k, "%s %s of %s", done, k.Fingerprint, printable(name))
	}
	switch {
	case f.revoke != "":
		return verb("target.revoke", f.revoke, "revoked")
	case f.remove != "":
		var done admin.Done
		if err := caller.Call(ctx, "target.remove", admin.HostKeyIn{Target: name, Fingerprint: f.remove}, &done); err != nil {
			return err
		}
		return c.say(done, "forgot %s of %s (record %d)", f.remove, printable(name), done.Record)
	case len(args) == 2:
		return verb("target.trust", args[1], "trusted")
	}
	var t admin.TargetInfo
	show := "target.show"
	if f.scan {
		show = "target.scan"
	}
	if err := caller.Call(ctx, show, admin.TargetIn{Target: name}, &t); err != nil {
		return err
	}
	waiting := slices.DeleteFunc(slices.Clone(t.Keys), func(k admin.HostKeyInfo) bool { return k.State != login.HostKeyPending })
	if len(waiting) == 1 && f.yes {
		return verb("target.trust", waiting[0].Fingerprint, "trusted")
	}
	if err := printList(c, t.Keys, []string{"STATE", "TYPE", "FINGERPRINT", "FIRST SEEN", "BY"}, func(k admin.HostKeyInfo) []string {
		return []string{string(k.State), k.Type, k.Fingerprint, day(k.First), k.By}
	}); err != nil {
		return err
	}
	switch len(waiting) {
	case 0:
		return hintf("--scan asks the target for its keys; they also come here when somebody connects", "no host key of %s waits for approval", printable(t.Name))
	case 1:
		return hintf(fmt.Sprintf("compare it with the target's own (ssh-keygen -lf, or its console), then: sallyport target trust %s %s", t.Name, waiting[0].Fingerprint),
			"the host key %s of %s waits for approval", waiting[0].Fingerprint, printable(t.Name))
	default:
		return hintf("compare each with the target's own, then: sallyport target trust "+t.Name+" FINGERPRINT", "%d host keys of %s wait for approval", len(waiting), printable(t.Name))
	}
}

// printAuthority prints a public line, which is the same for programs.
func (c *cli) printAuthority(ctx context.Context, caller admin.Caller, line func(admin.Authorities) string) error {
	var a admin.Authorities
	if err := caller.Call(ctx, "target.authorities", admin.Empty{}, &a); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(a)
	}
	text := line(a)
	if text == "" {
		return hintf("ssh.targets in the configuration", "there are no targets")
	}
	_, err := fmt.Fprintln(c.stdout, text)
	return err
}

// credentialFlags are the flags of target credential.
type credentialFlags struct {
	key, password, generate, remove, print bool
	account, comment                       string
}

func (c *cli) targetCredential() *cobra.Command {
	var f credentialFlags
	cmd := &cobra.Command{
		Use: "credential [NAME]", Short: "Seal what the gateway logs in with at a target", Args: cobra.MaximumNArgs(1),
		Long: `Takes a private key or a password from standard input, or a password at a prompt, and keeps it sealed. It serves where the
configuration says credential: key or password. With --account it is for that account; else for all that have none of
their own. --print-ca prints what a target trusts where the configuration says credential: ca.`,
		Example: `  sallyport target credential core-sw1 --password
  sallyport target credential srv1 --key < id_ed25519
  sallyport target credential srv1 --generate --account root
  sallyport target credential --print-ca > /etc/ssh/sallyport_ca.pub`,
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.print != (len(args) == 0) {
				return usagef("target credential needs the name of a target, or --print-ca alone")
			}
			in, err := f.read(c, args)
			if err != nil {
				return err
			}
			defer clear(in.Secret)
			return c.with(cmd, func(caller admin.Caller) error {
				switch {
				case f.print:
					return c.printAuthority(cmd.Context(), caller, func(a admin.Authorities) string { return a.UserCA })
				case f.remove:
					var done admin.Done
					if err := caller.Call(cmd.Context(), "target.credential-remove", admin.CredentialIn{Target: args[0], Account: f.account}, &done); err != nil {
						return err
					}
					return c.say(done, "removed the credential of %s (record %d)", printable(args[0]), done.Record)
				default:
					return c.sealCredential(cmd.Context(), caller, in)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&f.key, "key", false, "take a private key, and perhaps its certificate, from standard input")
	cmd.Flags().BoolVar(&f.password, "password", false, "take a password from standard input, or ask for it")
	cmd.Flags().BoolVar(&f.generate, "generate", false, "make an Ed25519 key, and print its public half for authorized_keys")
	cmd.Flags().BoolVar(&f.remove, "remove", false, "forget the credential")
	cmd.Flags().BoolVar(&f.print, "print-ca", false, "print the public key of the gateway's user CA, for TrustedUserCAKeys")
	cmd.Flags().StringVar(&f.account, "account", "", "for this `ACCOUNT` at the target alone")
	cmd.Flags().StringVar(&f.comment, "comment", "", "what tells it from others")
	cmd.MarkFlagsMutuallyExclusive("key", "password", "generate", "remove", "print-ca")
	cmd.MarkFlagsOneRequired("key", "password", "generate", "remove", "print-ca")
	return cmd
}

// maxKeyInput bounds what is read of a private key and its certificate.
const maxKeyInput = 32 << 10

func (f *credentialFlags) read(c *cli, args []string) (in admin.CredentialSet, err error) {
	in = admin.CredentialSet{Target: first(args), Account: f.account, Comment: f.comment, Kind: login.CredentialKey}
	switch {
	case f.generate:
		in.Secret, _, err = outbound.GenerateKey("sallyport@" + in.Target)
	case f.key:
		if in.Secret, err = io.ReadAll(io.LimitReader(c.stdin, maxKeyInput+1)); err != nil {
			err = fmt.Errorf("private key from standard input: %w", err)
		}
	case f.password:
		in.Kind = login.CredentialPassword
		var text string
		if terminal(c.stdin) {
			text, err = c.askSecret("Password at " + printable(in.Target) + ": ")
		} else {
			text, err = c.readSecret("password")
		}
		in.Secret = []byte(text)
	}
	return in, err
}

func (c *cli) sealCredential(ctx context.Context, caller admin.Caller, in admin.CredentialSet) error {
	var t admin.TargetInfo
	if err := caller.Call(ctx, "target.show", admin.TargetIn{Target: in.Target}, &t); err != nil {
		return err
	}
	var made admin.CredentialInfo
	if err := caller.Call(ctx, "target.credential", in, &made); err != nil {
		return err
	}
	if t.Credential != string(in.Kind) {
		fmt.Fprintf(c.stderr, "note: it serves when the configuration says `credential: %s` for %s\n", in.Kind, t.Name)
	}
	if made.Public != "" && !c.json {
		if _, err := fmt.Fprintln(c.stdout, made.Public+" sallyport@"+t.Name); err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "sealed (record %d); the line is for authorized_keys at the target\n", made.Record)
		return nil
	}
	return c.say(made, "sealed a %s for %s (record %d)", made.Kind, printable(t.Name), made.Record)
}
