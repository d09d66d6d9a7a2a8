package main

import (
	"fmt"
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
	Address                     string            `json:"address"`               // empty: by TLS alone
	Certificate                 string            `json:"certificate,omitempty"` // of a client by TLS
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
		rows = append(rows, ClientRow{Name: c.Name, Address: addressOf(c), Certificate: c.Certificate, Mode: c.Mode, Class: classOf(c.Class), Drops: map[string]uint64{}})
	}
	return rows
}

// addressOf is where a client asks from. One that is known by its certificate may ask from anywhere.
func addressOf(c config.Client) string {
	if c.Certificate != "" {
		return ""
	}
	return c.Prefix.String()
}

// whence is how people read it.
func whence(address, certificate string) string {
	if certificate != "" {
		return "certificate " + certificate
	}
	return address
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
	return noun("client", "RADIUS clients: the kit that asks", c.clientList(), c.clientReport(), c.clientProbe())
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
					r.Name, whence(r.Address, r.Certificate), r.Mode, r.Class, day(r.LastSeen), fmt.Sprint(r.Requests), fmt.Sprint(r.WithoutMessageAuthenticator),
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
