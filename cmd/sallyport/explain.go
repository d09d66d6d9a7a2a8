package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/policy"
	"sallyport/radiusd"
	"sallyport/radiusd/capture"
)

func (c *cli) explainCommand() *cobra.Command {
	var in admin.Explain
	var factors []string
	var capability, file, client, from string
	var index int
	cmd := &cobra.Command{
		Use: "explain", Short: "Tell what would be decided, and by which rule; nothing is used up", Args: cobra.NoArgs,
		Long: `Tells what would be decided about a login that is described (--person and --system), or about a RADIUS packet that was
captured (--packet), guard by guard, and by which rule. Nothing is judged, used up or recorded; what was typed as password
or code is not checked and never shown.

FILE is what tcpdump or Wireshark have written (pcap, pcapng), the bytes of one packet, or these as hexadecimal text; - is
standard input. Of several Access-Requests in it, --index N picks one. Which client it is from, its source address says;
where the file has none, say it with --from or --client.`,
		Example: `  sallyport explain --person alice --system vpn-leeds
  sallyport explain --person alice --system core-sw1 --for shell --factors have,have
  sallyport explain --packet login.pcap --index 3
  sallyport explain --packet packet.hex --client vpn-leeds`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				return c.explainFile(cmd, file, client, from, index)
			}
			for _, flag := range []string{"client", "from", "index"} {
				if cmd.Flags().Changed(flag) {
					return usagef("--%s goes with --packet", flag)
				}
			}
			in.Capability = policy.Capability(capability)
			if cmd.Flags().Changed("factors") {
				in.Factors = make([]policy.Kind, len(factors))
				for i, f := range factors {
					in.Factors[i] = policy.Kind(f)
				}
			}
			return c.showExplained(cmd, "explain", in)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&in.Person, "person", "", "who")
	flags.StringVar(&in.System, "system", "", "the RADIUS client or SSH target, by its name")
	flags.StringVar(&capability, "for", "", "login (RADIUS, the default), shell, exec, sftp or forward (SSH)")
	flags.StringSliceVar(&factors, "factors", nil, "kinds of factor that would be proved (default know,have)")
	flags.StringVar(&file, "packet", "", "`FILE` with a captured RADIUS packet, instead of --person and --system")
	flags.StringVar(&client, "client", "", "take the packet for this client's, wherever it came from")
	flags.StringVar(&from, "from", "", "the `ADDRESS` that the packet came from, where the file does not say")
	flags.IntVar(&index, "index", 1, "which of the Access-Requests in the file")
	cmd.MarkFlagsOneRequired("person", "packet")
	cmd.MarkFlagsRequiredTogether("person", "system")
	for _, described := range []string{"person", "system", "for", "factors"} {
		cmd.MarkFlagsMutuallyExclusive(described, "packet")
	}
	cmd.MarkFlagsMutuallyExclusive("client", "from")
	_ = cmd.RegisterFlagCompletionFunc("person", c.completePeople)
	_ = cmd.RegisterFlagCompletionFunc("system", c.completeSystems)
	_ = cmd.RegisterFlagCompletionFunc("client", c.completeClients)
	return cmd
}

// explainFile explains a packet of a file.
func (c *cli) explainFile(cmd *cobra.Command, path, client, from string, index int) error {
	in := admin.ExplainPacket{Client: client}
	if from != "" {
		addr, err := netip.ParseAddr(from)
		if err != nil {
			return usagef("--from %q is no address", from)
		}
		in.From = addr
	}
	if index < 1 {
		return usagef("--index %d: they are counted from 1", index)
	}
	f, err := c.readCapture(path)
	if err != nil {
		return hintf("pcap, pcapng, the bytes of one packet, or these as hexadecimal text", "%s: %w", path, err)
	}
	if len(f.Requests) == 0 {
		hint := "explained is Access-Request alone; over TLS, packets are encrypted and cannot be captured so"
		if f.Pieces > 0 {
			hint = "datagrams that were cut up on their way are not put together"
		}
		return hintf(hint, "%s (%s) holds no Access-Request: %d other packets, %d pieces", path, f.Format, f.Others, f.Pieces)
	}
	if index > len(f.Requests) {
		return usagef("--index %d: the file holds %d Access-Requests", index, len(f.Requests))
	}
	r := f.Requests[index-1]
	in.Packet = r.Datagram
	if !in.From.IsValid() {
		in.From = r.From.Addr()
	}
	if !in.From.IsValid() && client == "" {
		return usagef("the file does not say whom the packet came from: --from ADDRESS or --client NAME")
	}
	if !c.json {
		where, when := "", ""
		if r.From.IsValid() {
			where = fmt.Sprintf(" from %v to %v", r.From, r.To)
		}
		if !r.Time.IsZero() {
			when = " at " + r.Time.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(c.stderr, "Access-Request %d of %d (%s)%s%s\n", index, len(f.Requests), f.Format, where, when)
	}
	return c.showExplained(cmd, "explain.packet", in)
}

func (c *cli) readCapture(path string) (*capture.File, error) {
	in := c.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = io.Reader(f)
	}
	return capture.Read(in)
}

// showExplained asks a verb, and shows its steps.
func (c *cli) showExplained(cmd *cobra.Command, verb string, in any) error {
	return c.with(cmd, func(caller admin.Caller) error {
		var e admin.Explained
		if err := caller.Call(cmd.Context(), verb, in, &e); err != nil {
			return err
		}
		if c.json {
			return c.printJSON(e)
		}
		var rows [][]string
		for _, s := range e.Steps {
			rows = append(rows, []string{s.Guard, map[bool]string{true: "passes", false: "stops"}[s.OK], s.Text})
		}
		verdict := "refused: " + string(e.Reason)
		switch {
		case e.Silent:
			verdict = "dropped without an answer: " + string(e.Reason)
		case e.Allowed:
			verdict = "accepted, once password and code are right"
		}
		if err := c.table([]string{"GUARD", "RESULT", "WHY"}, rows); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.stdout, "\n%s at %s would be %s\n", printable(named(e.Person)), printable(named(e.System)), verdict)
		return err
	})
}

func named(name string) string {
	if strings.TrimSpace(name) == "" {
		return "somebody"
	}
	return name
}

// examine takes a packet apart: by the server that serves, or else by one that serves nobody, with the same configuration
// and keys.
func (a *app) examine(in admin.ExplainPacket) (admin.Examined, error) {
	server := a.serving
	if server == nil {
		quiet := slog.New(slog.DiscardHandler)
		cfg := a.config()
		rc, err := radiusConfig(cfg, quiet)
		if err != nil {
			return admin.Examined{}, err
		}
		server = radiusd.NewServer(radiusd.Options{Box: a.ring.Box("radius-state"), Now: time.Now, Log: quiet, Node: cfg.Node})
		if err := server.SetConfig(rc); err != nil {
			return admin.Examined{}, err
		}
	}
	x := server.Examine(radiusd.Captured{Datagram: in.Packet, From: in.From, Client: in.Client})
	out := admin.Examined{
		Reason: x.Reason, Silent: x.Silent, System: x.Client, Person: x.Name, Typed: x.Typed, Progress: x.Progress, Continues: x.Continues,
		Steps: []admin.Step{},
	}
	for _, l := range x.Looks {
		out.Steps = append(out.Steps, admin.Step{Guard: l.Guard, OK: l.OK, Text: l.Text})
	}
	return out, nil
}

// directoryGroups asks somebody's directory for his groups. Where no gateway runs, the directories are opened for this one
// question: the answer must be the one that the gateway would have.
func (a *app) directoryGroups(ctx context.Context, name string) ([]string, bool, error) {
	cfg := a.config()
	if a.serving != nil || cfg.Login.LDAP == nil && cfg.Login.RADIUS == nil {
		return a.gate.DirectoryGroups(ctx, name)
	}
	d := &doors{app: a, log: slog.New(slog.DiscardHandler)}
	opened, err := d.prepare(cfg)
	if err != nil {
		return nil, true, err
	}
	opened.commit()
	defer d.close()
	return a.gate.DirectoryGroups(ctx, name)
}
