package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/config"
	"sallyport/radiusd"
)

// ClientRow is a RADIUS client in a list. The counts are since the gateway's start.
type ClientRow struct {
	Name                        string            `json:"name"`
	Address                     string            `json:"address"`
	Mode                        string            `json:"mode"`
	Class                       string            `json:"class"`
	LastSeen                    time.Time         `json:"last_seen,omitzero"`
	Requests                    uint64            `json:"requests"`
	WithMessageAuthenticator    uint64            `json:"with_message_authenticator"`
	WithoutMessageAuthenticator uint64            `json:"without_message_authenticator"`
	WithProxyState              uint64            `json:"with_proxy_state"`
	Accepts                     uint64            `json:"accepts"`
	Rejects                     uint64            `json:"rejects"`
	Challenges                  uint64            `json:"challenges"`
	Resends                     uint64            `json:"resends"`
	StatusServer                uint64            `json:"status_server"`
	Drops                       map[string]uint64 `json:"drops"`
}

// StrangerRow is an address that asked and is no client.
type StrangerRow struct {
	Address  string    `json:"address"`
	Packets  uint64    `json:"packets"`
	LastSeen time.Time `json:"last_seen"`
}

// ClientReport is the answer of the verb client.list.
type ClientReport struct {
	Clients   []ClientRow   `json:"clients"`
	Strangers []StrangerRow `json:"strangers"`
}

func clientRows(cfg *config.Config) []ClientRow {
	rows := []ClientRow{}
	for _, c := range cfg.RADIUS.Clients {
		rows = append(rows, ClientRow{Name: c.Name, Address: c.Prefix.String(), Mode: c.Mode, Class: classOf(c.Class), Drops: map[string]uint64{}})
	}
	return rows
}

// clients joins what is configured with what was seen.
func (g *gateway) clients() ClientReport {
	report := ClientReport{Clients: clientRows(g.config()), Strangers: []StrangerRow{}}
	seen := make(map[string]radiusd.ClientStats)
	for _, s := range g.radius.Stats() {
		seen[s.Name] = s
	}
	for i := range report.Clients {
		r := &report.Clients[i]
		s, ok := seen[r.Name]
		if !ok {
			continue
		}
		r.LastSeen, r.Requests, r.WithProxyState = s.LastSeen, s.Requests, s.WithProxyState
		r.WithMessageAuthenticator, r.WithoutMessageAuthenticator = s.WithMessageAuthenticator, s.WithoutMessageAuthenticator
		r.Accepts, r.Rejects, r.Challenges, r.Resends, r.StatusServer = s.Accepts, s.Rejects, s.Challenges, s.Resends, s.StatusServer
		r.Drops = s.Drops
	}
	for _, s := range g.radius.Strangers() {
		report.Strangers = append(report.Strangers, StrangerRow{Address: s.Addr.String(), Packets: s.Packets, LastSeen: s.LastSeen})
	}
	return report
}

func (c *cli) clientCommand() *cobra.Command {
	return noun("client", "RADIUS clients: the kit that asks", c.clientList(), c.clientProbe())
}

func (c *cli) clientList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List RADIUS clients with what was seen of them since the start", Args: cobra.NoArgs,
		Long:    "Lists the configured clients; when the gateway runs, with counts of requests, answers and drops, and the addresses of strangers.",
		Example: "  sallyport client list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := ClientReport{Strangers: []StrangerRow{}}
			err := c.with(cmd, func(caller admin.Caller) error {
				if _, ok := caller.(*admin.Client); ok {
					return caller.Call(cmd.Context(), "client.list", admin.Empty{}, &report)
				}
				cfg, err := c.load()
				if err == nil {
					report.Clients = clientRows(cfg)
				}
				return err
			})
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(report)
			}
			rows := make([][]string, 0, len(report.Clients))
			for _, r := range report.Clients {
				rows = append(rows, []string{
					r.Name, r.Address, r.Mode, r.Class, day(r.LastSeen), fmt.Sprint(r.Requests), fmt.Sprint(r.WithoutMessageAuthenticator),
					fmt.Sprint(r.Accepts), fmt.Sprint(r.Rejects), fmt.Sprint(r.Challenges), fmt.Sprint(r.Resends), counts(r.Drops),
				})
			}
			head := []string{"CLIENT", "ADDRESS", "MODE", "CLASS", "LAST SEEN", "REQUESTS", "WITHOUT M-A", "ACCEPTS", "REJECTS", "CHALLENGES", "RESENDS", "DROPS"}
			if err := c.table(head, rows); err != nil || len(report.Strangers) == 0 {
				return err
			}
			fmt.Fprintln(c.stdout)
			rows = rows[:0]
			for _, s := range report.Strangers {
				rows = append(rows, []string{s.Address, fmt.Sprint(s.Packets), day(s.LastSeen)})
			}
			return c.table([]string{"STRANGER", "PACKETS", "LAST SEEN"}, rows)
		},
	}
}

func counts(m map[string]uint64) string {
	var words []string
	for reason, n := range m {
		words = append(words, fmt.Sprintf("%s %d", reason, n))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

func (c *cli) clientProbe() *cobra.Command {
	var user, secretFile, mode string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "probe [ADDRESS]", Short: "Log in at a RADIUS server as a NAS would, and check its answers", Args: cobra.MaximumNArgs(1),
		Long: `Sends Status-Server and a login to ADDRESS (default 127.0.0.1:1812), follows a challenge, sends a duplicate, and checks
authenticators, the place of Message-Authenticator, the order of Proxy-State, and that a resend gets the same bytes.
Password and code are asked at the terminal, or read from standard input, one on each line. Exits with 0 when the login was accepted and
nothing was wrong with the answers.`,
		Example: "  sallyport client probe --user alice --secret-file keys/radius-local.secret\n  printf '%s\\n' \"$PW\" \"$CODE\" | sallyport client probe 127.0.0.1:1812 --user alice --secret-file s --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			address := "127.0.0.1:1812"
			if len(args) == 1 {
				address = args[0]
			}
			if _, _, err := net.SplitHostPort(address); err != nil {
				return usagef("%q is not host:port", address)
			}
			if !slices.Contains([]radiusd.Mode{radiusd.Challenge, radiusd.Append, radiusd.Code}, radiusd.Mode(mode)) {
				return usagef("--mode %q: challenge, append or code", mode)
			}
			secret, err := os.ReadFile(secretFile)
			if err != nil {
				return fmt.Errorf("shared secret: %w", err)
			}
			report, err := radiusd.Probe(cmd.Context(), radiusd.ProbeOptions{
				Address: address, Secret: []byte(strings.TrimSuffix(string(secret), "\n")), User: user, Mode: radiusd.Mode(mode), Timeout: timeout,
				Password: func() (string, error) { return c.askSecret("Password: ") },
				Code:     func() (string, error) { return c.askSecret("One-time code: ") },
			})
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
	cmd.Flags().StringVar(&user, "user", "", "who logs in")
	cmd.Flags().StringVar(&secretFile, "secret-file", "", "`FILE` with the shared secret")
	cmd.Flags().StringVar(&mode, "mode", "challenge", "challenge, append or code, as the client is configured")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for each answer")
	_ = cmd.MarkFlagRequired("user")
	_ = cmd.MarkFlagRequired("secret-file")
	return cmd
}

func (c *cli) showProbe(report radiusd.ProbeReport) error {
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
	_, err := fmt.Fprintf(c.stdout, "\n%s: %s after %d rounds (%s) %s\n", report.Address, report.Outcome, report.Rounds, strings.Join(took, ", "), printable(report.Message))
	return err
}
