// Command sallyport-bench measures what one RADIUS decision costs: at the gateway, which checks a code against replay
// and makes an audit record durable before it answers, and at FreeRADIUS, which does neither, side by side in one run.
//
// And it measures what the SSH side costs, beside OpenSSH's sshd as a jump host and the least that golang.org/x/crypto/ssh
// makes of one: see ssh.go.
//
// Both are the real programs, started here on loopback in a temporary folder. The load generator is this program's
// own: sockets with a fixed number of requests outstanding (a closed loop), with every reply verified. All requests
// of a run are made before it, so that little of the shared CPUs goes into asking. Only EAP has to be spoken as it goes.
//
// PAP is measured in breadth: few people and many, one request outstanding and hundreds. The other shapes of -shapes
// (CHAP, MS-CHAPv2, RADIUS over TLS, EAP-TTLS, accounting) are measured at one level, each against a virtual server of
// FreeRADIUS that does only that.
//
// And it makes a log of many records, a year of a trust, and does with it what a gateway and an auditor do: see records_shape.go.
//
// CPU time is the process's own, read from its CPU clock, and so doesn't count the load generator. On a busy machine
// it rises all the same, since caches and host are shared: only the figures of one run compare, and there the servers take turns,
// round by round, so that what the machine does otherwise falls on all alike.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := runCommand(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// runCommand is the whole command. Exit status 0: measured; 1: failed, or with -strict a Must was not met; 2: wrong usage.
func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == recordsWord {
		if err := runStage(ctx, args[1:], stdout, stderr); err != nil {
			fmt.Fprintf(stderr, "sallyport-bench %s: %v\n", args[0], err)
			return 1
		}
		return 0
	}
	if len(args) > 0 && (args[0] == sshPeerWord || args[0] == reaperWord) {
		hidden := func() error { return runSSHPeer(ctx, args[1:], stdout) }
		if args[0] == reaperWord {
			hidden = func() error { return runReaper(ctx, args[1:]) }
		}
		if err := hidden(); err != nil {
			fmt.Fprintf(stderr, "sallyport-bench %s: %v\n", args[0], err)
			return 1
		}
		return 0
	}
	if len(args) > 0 && (args[0] == exampleWord || args[0] == reportsWord) {
		run := func() error { return runExample(ctx, args[1:], stdout) }
		if args[0] == reportsWord {
			run = func() error { return runReports(ctx, args[1:], stdout, stderr) }
		}
		if err := run(); err != nil {
			fmt.Fprintf(stderr, "sallyport-bench %s: %v\n", args[0], err)
			return 1
		}
		return 0
	}
	b := &bench{progress: stderr}
	flags := flag.NewFlagSet("sallyport-bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&b.seconds, "seconds", 4, "measured `seconds` a run, after a warm-up of one")
	flags.IntVar(&b.repeats, "repeats", 3, "rounds over all servers")
	flags.IntVar(&b.small, "small", 1_000, "`people` of the small crowd")
	flags.IntVar(&b.large, "large", 100_000, "`people` of the large crowd")
	flags.IntVar(&b.lookAhead, "look-ahead", 0, "the gateway's look_ahead in HOTP `counters`; 0 for its default")
	flags.StringVar(&b.options.dir, "dir", "", "`folder` on the disk to measure (default: the temporary folder)")
	flags.StringVar(&b.binary, "gateway", "", "sallyport `binary` to measure (default: built from this module)")
	flags.StringVar(&b.side, "side", "both", "both, sallyport or freeradius")
	flags.BoolVar(&b.quick, "quick", false, "a smoke run: one round of one second, 20,000 people in the large crowd")
	flags.IntVar(&b.only, "outstanding", 0, "measure with only this `number` outstanding (1, 64 or 512), for a profile; no report")
	list := flags.String("shapes", "all", "what to measure, a `list`: pap, "+shapeNames()+", "+sshName+", "+recordsName)
	flags.IntVar(&b.records, "many", defaultRecords, "how many `records` the large log of -shapes records has")
	parts := flags.String("ssh", "all", "what of SSH, a `list`: "+strings.Join(sshParts, ", "))
	flags.StringVar(&b.way, "way", "", "measure SSH by this `way` alone, as a table's row names it, for a profile; no report")
	flags.IntVar(&b.idle, "idle", 1000, "idle SSH `sessions` whose memory is measured")
	flags.StringVar(&b.profile, "profile", "", "write a CPU profile of the gateway's SSH side to this `file`, and one of each stage of records beside it")
	markdown := flags.String("md", "", "also write the report to this `file`, as Markdown")
	asJSON := flags.String("json", "", "also write every single run to this `file`, as JSON")
	strict := flags.Bool("strict", false, "exit 1 when a Must is not met")
	records := flags.Int("records", 0, "measure a log of so many `records` instead, ten million for docs/speed.md")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *records > 0 {
		if err := runRecords(ctx, *records, b.options.dir, b.binary, stdout, stderr); err != nil {
			fmt.Fprintf(stderr, "sallyport-bench: %v\n", err)
			return 1
		}
		return 0
	}
	if b.quick {
		b.seconds, b.repeats, b.large, b.idle = 1, 1, min(b.large, 20_000), min(b.idle, 50)
		b.records = min(b.records, leastRecords)
	}
	var err error
	*list, b.manyRecords = cutRecords(*list)
	if *list != "" || !b.manyRecords {
		b.pap, b.others, b.ssh, err = chosen(*list)
	}
	var partsErr error
	b.sshParts, partsErr = chosenParts(*parts)
	if err = cmp.Or(err, partsErr, b.check(flags.NArg())); err != nil {
		fmt.Fprintf(stderr, "sallyport-bench: %v\n", err)
		return 2
	}
	b.Machine = thisMachine(time.Now())
	if err := b.measureAll(ctx); err != nil {
		fmt.Fprintf(stderr, "sallyport-bench: %v\n", err)
		return 1
	}
	if b.only != 0 {
		return 0
	}
	b.judge()
	err = b.write(stdout)
	if *markdown != "" {
		err = errors.Join(err, writeFile(*markdown, b.write))
	}
	if *asJSON != "" {
		err = errors.Join(err, writeFile(*asJSON, func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			return enc.Encode(b)
		}))
	}
	if err != nil {
		fmt.Fprintf(stderr, "sallyport-bench: %v\n", err)
		return 1
	}
	for _, v := range b.Verdicts {
		if *strict && v.Must && !v.Met {
			return 1
		}
	}
	return 0
}

func (o options) check(arguments int) error {
	switch {
	case arguments > 0:
		return errors.New("there are flags only: see -help")
	case o.seconds < 1 || o.seconds > 20:
		return fmt.Errorf("-seconds %d: want 1 to 20, since a run must fit into a time step of 30 s", o.seconds)
	case o.repeats < 1:
		return fmt.Errorf("-repeats %d: want at least 1", o.repeats)
	case o.records < leastRecords || o.records > mostRecords:
		return fmt.Errorf("-many %d: want %d to %d", o.records, leastRecords, mostRecords)
	case o.idle < 1:
		return fmt.Errorf("-idle %d: want at least 1", o.idle)
	case o.small < burstSize || o.large <= o.small || o.large > 1_000_000:
		return fmt.Errorf("-small %d -large %d: want at least %d, and more in the large one, up to a million", o.small, o.large, burstSize)
	case o.side != "both" && o.side != gateway && o.side != peer:
		return fmt.Errorf("-side %q: want both, %s or %s", o.side, gateway, peer)
	}
	return nil
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
