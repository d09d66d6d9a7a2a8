package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/radiusd/probe"
)

// probeFlags are the probe's options as they are typed.
type probeFlags struct {
	probe.Options
	secretFile                string
	overTLS                   bool
	ca, cert, key, serverName string
}

func (c *cli) clientProbe() *cobra.Command {
	var f probeFlags
	cmd := &cobra.Command{
		Use: "probe [ADDRESS]", Short: "Log in at a RADIUS server as a NAS would, and check its answers", Args: cobra.MaximumNArgs(1),
		Long: `Sends Status-Server and a login to ADDRESS (default 127.0.0.1:1812, with --tls 127.0.0.1:2083), follows a challenge, sends a
duplicate, and checks authenticators, the place of Message-Authenticator, the order of Proxy-State, that a resend gets the
same bytes, what a challenge or a reject must not have, and with MS-CHAPv2 the server's proof and the keys of MPPE.
Password and code are asked at the terminal, or read from standard input, one on each line. Exits with 0 when the login was
accepted and nothing was wrong with the answers.

With --tls it speaks RADIUS over TLS (RFC 6614), or RADIUS/1.1 (RFC 9765) where the server picks it. --strict also sends
requests that must get no answer.`,
		Example: `  sallyport client probe --user alice --secret-file keys/radius-local.secret
  printf '%s\n' "$PW" "$CODE" | sallyport client probe 127.0.0.1:1812 --user alice --secret-file s --json
  sallyport client probe --user alice --secret-file s --mode code --method mschapv2 --strict
  sallyport client probe gw1:2083 --user alice --tls --ca ca.pem --cert nas.pem --key nas.key`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(args)
			if err != nil {
				return err
			}
			o.Password = func() (string, error) { return c.askSecret("Password: ") }
			o.Code = func() (string, error) { return c.askSecret("One-time code: ") }
			report, err := probe.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := c.showProbe(report); err != nil {
				return err
			}
			if report.Outcome != "accept" || !report.Healthy() {
				return errSilent
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.User, "user", "", "who logs in")
	flags.StringVar(&f.secretFile, "secret-file", "", "`FILE` with the shared secret; not with --tls")
	flags.StringVar(&f.Mode, "mode", probe.Challenge, "challenge, append or code, as the client is configured")
	flags.StringVar(&f.Method, "method", probe.PAP, "pap, chap or mschapv2")
	flags.DurationVar(&f.Timeout, "timeout", 3*time.Second, "how long to wait for each answer")
	flags.StringVar(&f.NASIdentifier, "nas-identifier", "sallyport-probe", "what to send as NAS-Identifier")
	flags.BoolVar(&f.Strict, "strict", false, "also send what must get no answer: a wrong Message-Authenticator, and none")
	flags.BoolVar(&f.overTLS, "tls", false, "RADIUS over TLS instead of UDP")
	flags.StringVar(&f.ca, "ca", "", "`FILE` with the certificates that the server's must be signed by (PEM; default: the system's)")
	flags.StringVar(&f.cert, "cert", "", "`FILE` with our certificate (PEM)")
	flags.StringVar(&f.key, "key", "", "`FILE` with its key (PEM)")
	flags.StringVar(&f.serverName, "server-name", "", "the name that the server's certificate must have (default: ADDRESS's)")
	_ = cmd.MarkFlagRequired("user")
	cmd.MarkFlagsOneRequired("secret-file", "tls")
	cmd.MarkFlagsMutuallyExclusive("secret-file", "tls")
	cmd.MarkFlagsRequiredTogether("cert", "key")
	_ = cmd.RegisterFlagCompletionFunc("user", c.completePeople)
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{probe.Challenge, probe.Append, probe.Code}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("method", cobra.FixedCompletions([]string{probe.PAP, probe.CHAP, probe.MSCHAPv2}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// options reads the files, and finds mistakes of usage.
func (f *probeFlags) options(args []string) (probe.Options, error) {
	o := f.Options
	o.Address = "127.0.0.1:1812"
	if f.overTLS {
		o.Address = "127.0.0.1:2083"
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.serverName}
	} else if f.ca != "" || f.cert != "" || f.serverName != "" {
		return o, usagef("--ca, --cert, --key and --server-name go with --tls")
	}
	if len(args) == 1 {
		o.Address = args[0]
	}
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return o, usagef("%q is not host:port", o.Address)
	}
	if f.secretFile != "" {
		secret, err := os.ReadFile(f.secretFile)
		if err != nil {
			return o, fmt.Errorf("shared secret: %w", err)
		}
		if o.Secret = []byte(strings.TrimSuffix(string(secret), "\n")); len(o.Secret) == 0 {
			return o, fmt.Errorf("shared secret: %s is empty", f.secretFile)
		}
	}
	if err := o.Check(); err != nil && (o.TLS != nil || len(o.Secret) > 0) {
		return o, usageError{err}
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return o, fmt.Errorf("--ca: %w", err)
		}
		if o.TLS.RootCAs = x509.NewCertPool(); !o.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return o, fmt.Errorf("--ca: %s: %w", f.ca, errNoCertificate)
		}
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return o, fmt.Errorf("--cert: %w", err)
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	return o, nil
}

func (c *cli) showProbe(report probe.Report) error {
	if c.json {
		return c.printJSON(report)
	}
	rows := make([][]string, 0, len(report.Findings))
	for _, f := range report.Findings {
		rows = append(rows, []string{f.Check, string(f.Level), f.Detail})
	}
	if err := c.table([]string{"CHECK", "RESULT", "DETAIL"}, rows); err != nil {
		return err
	}
	var took []string
	for _, d := range report.Took {
		took = append(took, d.Round(10*time.Microsecond).String())
	}
	fmt.Fprintf(c.stdout, "\n%s over %s: %s after %d rounds (%s) %s\n", report.Address, report.Over, report.Outcome, report.Rounds, strings.Join(took, ", "), printable(report.Message))
	for _, f := range report.Findings {
		if f.Level != probe.Good && f.Hint != "" {
			fmt.Fprintf(c.stdout, "hint: %s: %s\n", f.Check, f.Hint)
		}
	}
	return nil
}
