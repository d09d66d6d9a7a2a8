package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/config"
	"sallyport/radiusd/ledger"
)

// SeenRow is what was seen of a RADIUS client since counting began, over restarts, and what follows from it.
type SeenRow struct {
	Name                        string `json:"name"`
	Address                     string `json:"address"`
	Certificate                 string `json:"certificate,omitempty"`
	Mode                        string `json:"mode"`
	Class                       string `json:"class"`
	RequireMessageAuthenticator bool   `json:"require_message_authenticator"`
	LimitProxyState             bool   `json:"limit_proxy_state"`

	Since                           time.Time         `json:"since,omitzero"`
	LastSeen                        time.Time         `json:"last_seen,omitzero"`
	Requests                        uint64            `json:"requests"`
	WithMessageAuthenticator        uint64            `json:"with_message_authenticator"`
	WithoutMessageAuthenticator     uint64            `json:"without_message_authenticator"`
	LastWithoutMessageAuthenticator time.Time         `json:"last_without_message_authenticator,omitzero"`
	WithProxyState                  uint64            `json:"with_proxy_state"`
	LastProxyState                  time.Time         `json:"last_proxy_state,omitzero"`
	Resends                         uint64            `json:"resends"`
	Duplicates                      uint64            `json:"duplicates"` // resends that came while the answer was being made
	Accepts                         uint64            `json:"accepts"`
	Rejects                         uint64            `json:"rejects"`
	Challenges                      uint64            `json:"challenges"`
	Accounting                      uint64            `json:"accounting"`
	StatusServer                    uint64            `json:"status_server"`
	AnswerMeanMS                    float64           `json:"answer_mean_ms"` // from a request's arrival here to its answer
	AnswerSlowestMS                 float64           `json:"answer_slowest_ms"`
	Drops                           map[string]uint64 `json:"drops"`
	Days                            []SeenDay         `json:"days"` // the last ones on which something was seen
	Advice                          []ledger.Advice   `json:"advice"`
}

// SeenDay is one of the last days.
type SeenDay struct {
	Date       string            `json:"date"`
	Requests   uint64            `json:"requests"`
	Resends    uint64            `json:"resends"`
	Duplicates uint64            `json:"duplicates"`
	Accepts    uint64            `json:"accepts"`
	Rejects    uint64            `json:"rejects"`
	Challenges uint64            `json:"challenges"`
	Drops      map[string]uint64 `json:"drops"`
}

// Seen is the answer of the verb client.report.
type Seen struct {
	Running bool          `json:"running"` // false: the counts are as the gateway wrote them last
	Clients []SeenRow     `json:"clients"`
	Unknown []StrangerRow `json:"strangers"`
}

// keepBook brings the book up to date, and writes it: when that is due, or at the end.
func (g *gateway) keepBook(end bool) {
	g.book.Take(g.radius.Counts())
	if end {
		g.book.Save()
		return
	}
	g.book.SaveWhenDue()
}

// seen joins what is configured with what was seen, by now.
func (g *gateway) seen() Seen {
	g.book.Take(g.radius.Counts())
	s := Seen{Running: true, Clients: seenRows(g.config(), g.book.Of, time.Now()), Unknown: []StrangerRow{}}
	for _, one := range g.radius.Strangers() {
		s.Unknown = append(s.Unknown, StrangerRow{Address: one.Addr.String(), Packets: one.Packets, LastSeen: one.LastSeen})
	}
	return s
}

// seenRows are the clients in the order of their names.
func seenRows(cfg *config.Config, history func(name string) (ledger.History, bool), now time.Time) []SeenRow {
	rows := []SeenRow{}
	for _, c := range cfg.RADIUS.Clients {
		h, known := history(c.Name)
		t := h.Total
		r := SeenRow{
			Name: c.Name, Address: addressOf(c), Certificate: c.Certificate, Mode: c.Mode, Class: classOf(c.Class),
			RequireMessageAuthenticator: c.RequireMessageAuthenticator, LimitProxyState: c.LimitProxyState,
			Since: h.Since, LastSeen: t.LastSeen, Requests: t.Requests, WithMessageAuthenticator: t.WithMessageAuthenticator,
			WithoutMessageAuthenticator: t.WithoutMessageAuthenticator, LastWithoutMessageAuthenticator: t.LastWithoutMessageAuthenticator,
			WithProxyState: t.WithProxyState, LastProxyState: t.LastProxyState, Resends: t.Resends, Duplicates: t.Drops[ledger.DropInFlight],
			Accepts: t.Accepts, Rejects: t.Rejects, Challenges: t.Challenges, Accounting: t.Accounting, StatusServer: t.StatusServer,
			AnswerMeanMS: milliseconds(t.Waited / time.Duration(max(t.Answers(), 1))), AnswerSlowestMS: milliseconds(t.Slowest),
			Drops: objectOf(t.Drops), Days: []SeenDay{}, Advice: []ledger.Advice{},
		}
		for _, d := range h.Days {
			r.Days = append(r.Days, SeenDay{
				Date: d.Date, Requests: d.Requests, Resends: d.Resends, Duplicates: d.Drops[ledger.DropInFlight],
				Accepts: d.Accepts, Rejects: d.Rejects, Challenges: d.Challenges, Drops: objectOf(d.Drops),
			})
		}
		if known {
			s := ledger.Setting{OverTLS: c.Certificate != "", RequireMessageAuthenticator: c.RequireMessageAuthenticator, LimitProxyState: c.LimitProxyState}
			r.Advice = ledger.Advise(s, &h, now)
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b SeenRow) int { return cmp.Compare(a.Name, b.Name) })
	return rows
}

// objectOf gives programs an object also where there is nothing in it.
func objectOf(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return m
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

func (c *cli) clientReport() *cobra.Command {
	return &cobra.Command{
		Use: "report [NAME]", Short: "Tell what was seen of RADIUS clients, and what follows from it", Args: cobra.MaximumNArgs(1),
		Long: `Tells for each client, since counting began and over restarts: requests with and without Message-Authenticator and with
Proxy-State, resends, answers, drops by reason; and what to do:

  can be locked                  all requests of a week and more were signed: set require_message_authenticator
  needs firmware                 requests without Message-Authenticator came within the last week that it was seen
  flaps                          one request in twenty or more comes again, since its answer is late or lost
  wrong secret                   nothing but requests that are signed with another secret
  limit_proxy_state can be on    no request of a week and more had Proxy-State
  never seen                     nothing has come from it

With NAME, only that client, day by day. The counts lie in the data folder (clients.json), which is written each minute: a
crash loses no more. When the gateway does not run, they are as it wrote them last.`,
		Example:           "  sallyport client report\n  sallyport client report vpn-leeds\n  sallyport client report --json | jq -r '.clients[] | select(.advice[].word == \"can be locked\") | .name'",
		ValidArgsFunction: c.completeClients,
		RunE: func(cmd *cobra.Command, args []string) error {
			var seen Seen
			err := c.with(cmd, func(caller admin.Caller) error {
				if _, ok := caller.(*admin.Client); ok {
					return caller.Call(cmd.Context(), "client.report", admin.Empty{}, &seen)
				}
				return c.seenBefore(&seen)
			})
			if err != nil {
				return err
			}
			if len(args) == 1 {
				seen.Clients = slices.DeleteFunc(seen.Clients, func(r SeenRow) bool { return r.Name != args[0] })
				seen.Unknown = []StrangerRow{}
				if len(seen.Clients) == 0 {
					return hintf("`sallyport client list` shows them", "there is no client %q", args[0])
				}
			}
			if c.json {
				return c.printJSON(seen)
			}
			if !seen.Running {
				fmt.Fprintln(c.stderr, "the gateway is not running: these are the counts as it wrote them last")
			}
			return c.showSeen(seen, len(args) == 1)
		},
	}
}

// seenBefore is what a gateway that does not run has left.
func (c *cli) seenBefore(seen *Seen) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	book, err := ledger.Read(layout(cfg.Data).clients)
	if err != nil {
		return fmt.Errorf("what was seen before: %s: %w", layout(cfg.Data).clients, err)
	}
	*seen = Seen{Unknown: []StrangerRow{}, Clients: seenRows(cfg, func(name string) (ledger.History, bool) {
		if h := book[name]; h != nil {
			return *h, true
		}
		return ledger.History{}, false
	}, time.Now())}
	return nil
}

func (c *cli) showSeen(seen Seen, byDay bool) error {
	rows := make([][]string, 0, len(seen.Clients))
	for _, r := range seen.Clients {
		var words []string
		for _, a := range r.Advice {
			words = append(words, a.Word)
		}
		rows = append(rows, []string{
			r.Name, whence(r.Address, r.Certificate), day(r.Since), day(r.LastSeen), fmt.Sprint(r.Requests),
			fmt.Sprintf("%d / %d", r.WithMessageAuthenticator, r.WithoutMessageAuthenticator), day(r.LastWithoutMessageAuthenticator), fmt.Sprint(r.WithProxyState),
			fmt.Sprint(r.Resends), fmt.Sprint(r.Duplicates), fmt.Sprintf("%d / %d / %d", r.Accepts, r.Rejects, r.Challenges),
			fmt.Sprintf("%.1f / %.1f ms", r.AnswerMeanMS, r.AnswerSlowestMS), counts(r.Drops), strings.Join(words, "; "),
		})
	}
	head := []string{
		"CLIENT", "FROM", "SINCE", "LAST SEEN", "REQUESTS", "WITH / WITHOUT M-A", "LAST WITHOUT", "PROXY-STATE", "RESENDS", "DUPLICATES",
		"ACCEPTS / REJECTS / CHALLENGES", "ANSWER MEAN / SLOWEST", "DROPS", "ADVICE",
	}
	if err := c.table(head, rows); err != nil {
		return err
	}
	first := true
	for _, r := range seen.Clients {
		for _, a := range r.Advice {
			if first {
				fmt.Fprintln(c.stdout)
				first = false
			}
			fmt.Fprintf(c.stdout, "%s: %s: %s\n", printable(r.Name), a.Word, printable(a.Text))
		}
	}
	if byDay && len(seen.Clients[0].Days) > 0 {
		fmt.Fprintln(c.stdout)
		rows = rows[:0]
		for _, d := range seen.Clients[0].Days {
			rows = append(rows, []string{
				d.Date, fmt.Sprint(d.Requests), fmt.Sprint(d.Resends), fmt.Sprint(d.Duplicates),
				fmt.Sprintf("%d / %d / %d", d.Accepts, d.Rejects, d.Challenges), counts(d.Drops),
			})
		}
		if err := c.table([]string{"DAY", "REQUESTS", "RESENDS", "DUPLICATES", "ACCEPTS / REJECTS / CHALLENGES", "DROPS"}, rows); err != nil {
			return err
		}
	}
	return nil
}

// completeClients completes the names of the configuration's RADIUS clients.
func (c *cli) completeClients(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := c.load()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, one := range cfg.RADIUS.Clients {
		names = append(names, one.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeSystems completes the names of RADIUS clients and SSH targets.
func (c *cli) completeSystems(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, directive := c.completeClients(cmd, args, typed)
	if cfg, err := c.load(); err == nil {
		for _, t := range cfg.SSH.Targets {
			names = append(names, t.Name)
		}
	}
	return names, directive
}
