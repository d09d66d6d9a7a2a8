// Old switches have RSA host keys below 1,024 bits, and this lets crypto/rsa take them at all. The floors are our own:
// sshgw/outbound for targets (2,048 bits, less only where a target's algorithms say so), 2,048 for people's keys and the
// gateway's, 1,024 for TLS peers.
//
//go:debug rsa1024min=0

// Command sallyport is a second-factor gateway: a RADIUS server and an SSH bastion that ask privileged people for a
// one-time code, and a record that proves who was let in.
//
// The rules of its interface: a noun, then a verb. Tables for people, --json for programs. What is asked for goes to
// standard output, everything else to standard error. Exit status 0: done; 1: refused or failed; 2: wrong usage.
// Secrets come from standard input or a prompt, and never from an argument, which others could see. Each error says
// what failed, with which value and where, and carries a hint where there is something to do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// cli is one invocation of the command.
type cli struct {
	env    func(string) (string, bool)
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	configPath string
	json       bool
	started    bool // a command began its work: an error is no longer one of usage
}

// run is the whole command, with nothing taken from the process but what is passed.
func run(ctx context.Context, args []string, env func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{env: env, stdin: stdin, stdout: stdout, stderr: stderr}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	c.complain(err)
	var usage usageError
	if !c.started || errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hinted is an error with something to do about it.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

func hintf(hint, format string, args ...any) error { return hinted{fmt.Errorf(format, args...), hint} }

// errSilent ends a command that has already said what was wrong.
var errSilent = errors.New("")

func (c *cli) complain(err error) {
	if errors.Is(err, errSilent) {
		return
	}
	fmt.Fprintf(c.stderr, "sallyport: %v\n", err)
	hint := ""
	var h hinted
	var e *admin.Error
	switch {
	case errors.As(err, &h):
		hint = h.hint
	case errors.As(err, &e):
		hint = e.Hint
	case !c.started:
		hint = "`sallyport help` shows the commands, `sallyport help COMMAND` how one is used"
	}
	if hint != "" {
		fmt.Fprintf(c.stderr, "hint: %s\n", hint)
	}
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "A second-factor gateway for RADIUS and SSH, with a record that can be proved",
		Long: `Sallyport asks privileged people for a one-time code before they reach VPNs, network kit and servers,
over RADIUS and SSH, and keeps a record that proves who was let in, and how.`,
		Example: `  sallyport demo                    everything on loopback, with what to type
  sallyport init /etc/sallyport     a configuration, keys and a database
  sallyport serve                   the gateway`,
		SilenceErrors: true, SilenceUsage: true, Version: version(),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }, // without it, an unknown command would be no error
	}
	root.PersistentFlags().StringVarP(&c.configPath, "config", "c", "", "configuration `FILE` (else $SALLYPORT_CONFIG, ./sallyport.yaml, /etc/sallyport/sallyport.yaml)")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON for programs")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		// Cobra would look at these only after this hook, and they are mistakes of usage.
		if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
			return err
		}
		c.started = true
		return nil
	}
	root.AddCommand(
		c.demoCommand(), c.initCommand(), c.serveCommand(), c.restartCommand(), c.configCommand(), c.reloadCommand(), c.statusCommand(),
		c.userCommand(), c.tokenCommand(), c.keyCommand(), c.clientCommand(), c.targetCommand(), c.sessionCommand(), c.auditCommand(), c.witnessCommand(),
		c.explainCommand(), c.exceptionCommand(), c.grantCommand(), c.accessCommand(), c.alertCommand(), c.devCommand(),
		c.reportCommand(),
	)
	return root
}

// noun makes a command that only groups verbs.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	n := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return usagef("%s needs a verb: `sallyport help %s` shows them", use, use)
	}}
	n.AddCommand(verbs...)
	return n
}
