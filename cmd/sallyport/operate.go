package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/alert"
	"sallyport/internal/audit/witness"
	"sallyport/internal/config"
	"sallyport/internal/siem"
)

func (c *cli) configCommand() *cobra.Command {
	return noun("config", "The configuration", &cobra.Command{
		Use: "check", Short: "Check the configuration and say everything that is wrong with it", Args: cobra.NoArgs,
		Example: "  sallyport -c /etc/sallyport/sallyport.yaml config check",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			if _, _, err := compile(cfg, slog.New(slog.DiscardHandler)); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]any{"ok": true, "file": cfg.File, "warnings": cfg.Warnings, "clients": len(cfg.RADIUS.Clients), "targets": len(cfg.SSH.Targets), "rules": len(cfg.Rules)})
			}
			for _, w := range cfg.Warnings {
				fmt.Fprintf(c.stderr, "warning: %s\n", w)
			}
			_, err = fmt.Fprintf(c.stdout, "%s is right: %d RADIUS clients, %d SSH targets, %d rules\n", cfg.File, len(cfg.RADIUS.Clients), len(cfg.SSH.Targets), len(cfg.Rules))
			return err
		},
	})
}

// Reloaded is the answer of the verb reload.
type Reloaded struct {
	Changes  []string         `json:"changes"`
	Restart  []string         `json:"restart"` // what takes effect at the next start only
	Warnings []config.Problem `json:"warnings"`
}

func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Let the running gateway take the changed configuration", Args: cobra.NoArgs,
		Long: `Reads and checks the whole configuration, and swaps it in at once; when anything is wrong with it, the running
one stays, and everything that is wrong is printed. SIGHUP does the same.`,
		Example: "  sallyport config check && sallyport reload",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withDaemon(cmd, func(caller admin.Caller) error {
				var r Reloaded
				if err := caller.Call(cmd.Context(), "reload", admin.Empty{}, &r); err != nil {
					return err
				}
				if c.json {
					return c.printJSON(r)
				}
				for _, w := range r.Warnings {
					fmt.Fprintf(c.stderr, "warning: %s\n", w)
				}
				if len(r.Changes) == 0 {
					fmt.Fprintln(c.stdout, "reloaded: nothing has changed")
				}
				for _, change := range r.Changes {
					fmt.Fprintln(c.stdout, "changed:", printable(change))
				}
				for _, field := range r.Restart {
					fmt.Fprintln(c.stdout, "at the next start only:", printable(field))
				}
				return nil
			})
		},
	}
}

// withDaemon is with for verbs that only a running gateway has.
func (c *cli) withDaemon(cmd *cobra.Command, fn func(admin.Caller) error) error {
	return c.with(cmd, func(caller admin.Caller) error {
		if _, ok := caller.(*admin.Client); !ok {
			return hintf("`sallyport serve` starts it", "the gateway is not running")
		}
		return fn(caller)
	})
}

// Status is the answer of the verb status.
type Status struct {
	Running    bool            `json:"running"`
	Open       bool            `json:"open"` // logins can be decided
	Reason     string          `json:"reason,omitempty"`
	PID        int             `json:"pid"`
	Version    string          `json:"version"`
	Node       string          `json:"node"`
	Since      time.Time       `json:"since,omitzero"`
	Config     string          `json:"config"`
	RADIUS     []string        `json:"radius"`
	Accounting []string        `json:"accounting"`
	RadSec     []string        `json:"radsec"`
	SSH        []string        `json:"ssh"`
	Metrics    string          `json:"metrics,omitempty"`
	Firsts     []FirstStanding `json:"first_factors,omitempty"` // those that are elsewhere
	Records    uint64          `json:"records"`
	IndexLag   uint64          `json:"index_lag"`
	Sessions   int             `json:"sessions"`
	Attention  []string        `json:"attention,omitempty"` // what somebody should look at

	Witnesses []witness.Standing          `json:"witnesses,omitempty"`
	Forward   []siem.Standing             `json:"forward,omitempty"`  // receivers of records
	Alerting  []alert.DestinationStanding `json:"alerting,omitempty"` // who is told of alerts
	Alerts    map[alert.Severity]int      `json:"alerts,omitempty"`   // that are not closed
}

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Tell whether the gateway runs and can decide logins", Args: cobra.NoArgs,
		Long:    "Exits with 0 when logins can be decided, and with 1 otherwise.",
		Example: "  sallyport status\n  sallyport status --json | jq .open",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s Status
			err := c.with(cmd, func(caller admin.Caller) error {
				if _, ok := caller.(*admin.Client); ok {
					return caller.Call(cmd.Context(), "status", admin.Empty{}, &s)
				}
				s = Status{Version: version(), Reason: "the gateway is not running", RADIUS: []string{}, Accounting: []string{}, RadSec: []string{}, SSH: []string{}}
				return nil
			})
			if err != nil {
				return err
			}
			if c.json {
				if err := c.printJSON(s); err != nil {
					return err
				}
			} else {
				state := "open: logins are decided"
				if !s.Open {
					state = "closed: " + s.Reason
				}
				rows := [][]string{
					{"version", s.Version},
					{"node", s.Node},
					{"since", day(s.Since)},
					{"configuration", s.Config},
					{"RADIUS", strings.Join(s.RADIUS, ", ")},
					{"accounting", strings.Join(s.Accounting, ", ")},
					{"RADIUS over TLS", strings.Join(s.RadSec, ", ")},
					{"SSH", strings.Join(s.SSH, ", ")},
					{"metrics", s.Metrics},
					{"records", fmt.Sprint(s.Records)},
					{"not indexed yet", fmt.Sprint(s.IndexLag)},
					{"live sessions", fmt.Sprint(s.Sessions)},
				}
				for _, f := range s.Firsts {
					standing := "open: "
					if !f.Open {
						standing = "closed: " + f.Reason + "; "
					}
					rows = append(rows, []string{"first factor " + f.Name, standing + strings.Join(f.Servers, ", ")})
				}
				for _, what := range s.Attention {
					rows = append(rows, []string{"attention", what})
				}
				err := c.table([]string{"GATEWAY", state}, slices.Concat(rows, witnessRows(s.Witnesses), s.forwardRows()))
				if err != nil {
					return err
				}
			}
			if !s.Open {
				return errSilent
			}
			return nil
		},
	}
}
