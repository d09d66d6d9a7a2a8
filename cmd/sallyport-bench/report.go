package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/otp"
)

// What the issue asks for.
const (
	mustOfPeer   = 0.5  // of FreeRADIUS's CPU
	aimOfPeer    = 0.25 // the same, as an aim
	mustOverDisk = 0.3  // ms at one outstanding
	mustGrowth   = 1.2  // CPU with the large crowd, of that with the small one
	// mustOfPeerShape is the bound of the shapes beside PAP.
	mustOfPeerShape = 1.0
	mustMemory      = 80 // MiB beyond the page cache
	aimPerSecond    = 60_000
)

// hardware is what the figures were measured on.
type hardware struct {
	When   string `json:"when"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Load   string `json:"load_average_at_start"`
}

func thisMachine(now time.Time) hardware {
	h := hardware{When: now.UTC().Format(time.RFC3339), CPU: "unknown", CPUs: runtime.NumCPU(), Go: runtime.Version()}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				h.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		h.Load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	return h
}

// verdict is one Must or Aim of the issue, held against the figures.
type verdict struct {
	Must bool   `json:"must"` // false: an aim
	Met  bool   `json:"met"`
	What string `json:"what"`
	Says string `json:"figures"`
}

func (v verdict) String() string {
	word := map[bool]string{true: "MET    ", false: "NOT MET"}[v.Met]
	kind := map[bool]string{true: "must", false: "aim "}[v.Must]
	return fmt.Sprintf("%s  %s  %s: %s", word, kind, v.What, v.Says)
}

// of are the runs of one cell at one level; level 0 stands for all.
func (b *bench) of(server string, tokens otp.Type, people, level int) (runs []run) {
	for _, r := range b.Runs {
		if r.Server == server && r.Tokens == tokens && r.People == people && (level == 0 || r.Outstanding == level) {
			runs = append(runs, r)
		}
	}
	return runs
}

func figures(runs []run, f func(run) float64) []float64 {
	v := make([]float64, len(runs))
	for i := range runs {
		v[i] = f(runs[i])
	}
	return v
}

func cpu(r run) float64       { return r.CPU }
func underLoad(r run) float64 { return r.CPUUnderLoad }

// ratios divides repeat by repeat, so that a slow minute of the machine falls on both.
func ratios(a, b []run, f func(run) float64) []float64 {
	var v []float64
	for i := range min(len(a), len(b)) {
		v = append(v, over(f(a[i]), f(b[i])))
	}
	return v
}

// gatewayCells are those of the gateway that were measured, in the order of the tables.
func (b *bench) gatewayCells() (cells []*cell) {
	for _, c := range b.cells {
		if c.Server == gateway && !c.shapes {
			cells = append(cells, c)
		}
	}
	return cells
}

// judge holds the figures against the issue.
func (b *bench) judge() {
	add := func(must, met bool, what, says string, args ...any) {
		b.Verdicts = append(b.Verdicts, verdict{must, met, what, fmt.Sprintf(says, args...)})
	}
	best := 0.0
	for _, c := range b.gatewayCells() {
		for _, level := range levels[1:] {
			mine, theirs := b.of(gateway, c.Tokens, c.People, level), b.of(peer, otp.TypeTOTP, c.People, level)
			best = max(best, spreadOf(figures(mine, func(r run) float64 { return r.PerSecond })).Median)
			if len(theirs) == 0 {
				continue
			}
			s := spreadOf(ratios(mine, theirs, cpu))
			add(true, s.Median <= mustOfPeer, fmt.Sprintf("CPU, %s, %s people, %d outstanding", strings.ToUpper(string(c.Tokens)), thousands(c.People), level),
				"%.1f us against %.1f us: %s of FreeRADIUS's, at most %.2f (without deferred work: %s)", spreadOf(figures(mine, cpu)).Median, spreadOf(figures(theirs, cpu)).Median, s.show("%.2f"), mustOfPeer, spreadOf(ratios(mine, theirs, underLoad)).show("%.2f"))
			add(false, s.Median <= aimOfPeer, fmt.Sprintf("CPU, %s, %s people, %d outstanding", strings.ToUpper(string(c.Tokens)), thousands(c.People), level),
				"%s of FreeRADIUS's, %.2f wished for", s.show("%.2f"), aimOfPeer)
		}
	}
	for _, c := range b.gatewayCells() {
		s := spreadOf(figures(b.of(gateway, c.Tokens, c.People, 1), func(r run) float64 { return r.P50 - r.SyncP50 }))
		add(true, s.Median <= mustOverDisk, fmt.Sprintf("p50 over the disk's own, %s, %s people, 1 outstanding", strings.ToUpper(string(c.Tokens)), thousands(c.People)),
			"%s ms over fdatasync, at most %.1f", s.show("%.3f"), mustOverDisk)
	}
	for _, c := range b.gatewayCells() {
		sent, answered, _ := b.burstsOf(c)
		add(true, sent > 0 && answered == sent, fmt.Sprintf("burst of %d, %s, %s people", burstSize, strings.ToUpper(string(c.Tokens)), thousands(c.People)),
			"%d of %d answered in %d bursts", answered, sent, burstTimes)
	}
	for _, level := range levels[1:] {
		large, small := b.of(gateway, otp.TypeHOTP, b.large, level), b.of(gateway, otp.TypeHOTP, b.small, level)
		if len(large) == 0 {
			continue
		}
		s := spreadOf(ratios(large, small, cpu))
		add(true, s.Median <= mustGrowth, fmt.Sprintf("CPU with %s people of that with %s, HOTP, %d outstanding", thousands(b.large), thousands(b.small), level),
			"%s, at most %.2f", s.show("%.2f"), mustGrowth)
	}
	for _, c := range b.gatewayCells() {
		if c.People != b.large {
			continue
		}
		m := float64(b.most(c).Anon) / (1 << 20)
		add(true, m < mustMemory, fmt.Sprintf("resident beyond the page cache, %s, %s people", strings.ToUpper(string(c.Tokens)), thousands(c.People)),
			"%.0f MiB at most under load, under %d", m, mustMemory)
	}
	for _, p := range b.Proofs {
		add(true, p.Records >= int64(p.Answers), fmt.Sprintf("every answer is on record, %s, %s people", strings.ToUpper(string(p.Tokens)), thousands(p.People)),
			"%s answers, %s records that verify", thousands(p.Answers), thousands(int(p.Records)))
	}
	b.judgeShapes(add)
	b.judgeSSH(add)
	b.judgeRecords(add)
	if len(b.gatewayCells()) > 0 {
		add(false, best >= aimPerSecond, "durable decisions a second", "%s at best (load generator and server on the same %d CPUs), %s wished for", thousands(int(best)), b.Machine.CPUs, thousands(aimPerSecond))
	}
}

// most is the most memory that a server was seen with.
func (b *bench) most(c *cell) memory {
	m := c.Start
	for _, r := range b.of(c.Server, c.Tokens, c.People, 0) {
		m = m.most(r.Memory)
	}
	return m
}

func (b *bench) burstsOf(c *cell) (sent, answered int, slowest float64) {
	for _, r := range b.Bursts {
		if r.Server == c.Server && r.Tokens == c.Tokens && r.People == c.People {
			sent += r.Sent
			answered += r.Answered
			slowest = max(slowest, r.Millis)
		}
	}
	return sent, answered, slowest
}

// thousands writes 100000 as 100,000.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}

// write prints the report: Markdown that reads as plain text too.
func (b *bench) write(w io.Writer) error {
	var p strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&p, format+"\n", args...) }
	title := "RADIUS decisions: Sallyport and FreeRADIUS"
	switch {
	case b.pap || len(b.others) > 0:
	case b.ssh:
		title = "SSH: Sallyport, sshd and x/crypto"
	default:
		title = "A log of many records"
	}
	say("# %s\n", title)
	say("%s. %s, %d CPUs, Linux %s, %s, load average at start %s.", b.Machine.When, b.Machine.CPU, b.Machine.CPUs, b.Machine.Kernel, b.Machine.Go, b.Machine.Load)
	if b.pap || len(b.others) > 0 || b.ssh {
		say("%s. %d repeats of %d s, servers in turn; median [min–max]. All on loopback: servers and load generator share the CPUs.\n", b.peerName(), b.repeats, b.seconds)
	}
	if b.pap {
		b.writeWide(&p)
	}
	if len(b.others) > 0 {
		say("\n## Shapes\n")
		explainShapes(say)
		p.WriteString(table(b.shapeRows()))
	}
	if b.SSH != nil {
		b.writeSSH(&p)
	}
	if len(b.Records) > 0 {
		b.writeRecords(&p)
	}
	if len(b.Proofs) > 0 {
		say("\n## Records\n\nAfter the runs, by the gateway's own `audit verify`.\n")
		p.WriteString(table(b.proofRows()))
	}
	if len(b.Verdicts) > 0 {
		say("\n## Verdicts\n")
		if b.quick {
			say("A smoke run: too short and too small to judge by.\n")
		}
		for _, v := range b.Verdicts {
			say("- %s", v)
		}
	}
	if notes := b.notes(); len(notes) > 0 {
		say("\n## Notes\n")
		for _, n := range notes {
			say("- %s", n)
		}
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// writeWide prints what was measured of PAP.
func (b *bench) writeWide(p *strings.Builder) {
	say := func(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }
	explainWork(say, b.small)
	say("## Load\n")
	p.WriteString(table(b.loadRows()))
	say("\n## Memory, MiB\n")
	p.WriteString(table(b.memoryRows()))
	say("\n## Burst: %d requests at once, %d times, over %d sockets\n", burstSize, burstTimes, maxLanes)
	p.WriteString(table(b.burstRows()))
	if rows := b.diskRows(); len(rows) > 1 {
		say("\n## One outstanding against the disk, ms\n\nThe disk alone: append of %d bytes and fdatasync in the gateway's data folder, just before and after each run.\n", recordBytes)
		p.WriteString(table(rows))
	}
}

// notes says what makes figures doubtful.
func (b *bench) notes() (notes []string) {
	for _, r := range append(b.Runs[:len(b.Runs):len(b.Runs)], b.Shapes...) {
		at := fmt.Sprintf("round %d, %s, %s, %s people, %d outstanding", r.Repeat, r.srv.name, r.how.title, thousands(r.People), r.Outstanding)
		if !r.Settled {
			notes = append(notes, fmt.Sprintf("%s: still at work %s after the load; its CPU is more than is shown, and disturbed what came next", at, settleFor))
		}
		if r.Lost > 0 {
			notes = append(notes, fmt.Sprintf("%s: %d requests lost", at, r.Lost))
		}
	}
	if s := spreadOf(figures(b.Runs, func(r run) float64 { return r.Steal })); s.Max > 0.05 {
		notes = append(notes, fmt.Sprintf("the host took up to %.0f%% of the CPUs away (median %.0f%%)", 100*s.Max, 100*s.Median))
	}
	return notes
}

func (b *bench) peerName() string {
	if b.Peer == "" {
		return "FreeRADIUS was not measured"
	}
	return b.Peer
}

// explainWork says what work the servers do, since it isn't the same.
func explainWork(say func(string, ...any), small int) {
	say("The work: an Access-Request with User-Name, a code in User-Password, Message-Authenticator, NAS-IP-Address, NAS-Port and Calling-Station-Id; an Access-Accept.\n")
	say("- Sallyport, mode `code`: throttle, code (TOTP: 3 steps; HOTP: the look-ahead window), replay protection, rule, an audit record durable (fdatasync) before")
	say("  the reply, Message-Authenticator checked and sent. Each code is sent once.")
	say("- FreeRADIUS, rlm_files and rlm_totp: the code of the present step. It keeps nothing: no record and, in 3.2.1, no replay protection, so it is sent the same")
	say("  code again and again. rlm_totp has no HOTP. Message-Authenticator checked; 3.2.1 sends none.")
	say("- TOTP against TOTP is like with like. HOTP is there because a TOTP person has one code in 30 s, and %s people must give tens of thousands a second.\n", thousands(small))
	say("CPU is the server's, idle to idle: until all deferred work is done, over all decisions. \"Under load\" is the measured time alone.\n")
}

func (b *bench) loadRows() [][]string {
	rows := [][]string{{"people", "outstanding", "server", "k/s", "CPU us", "under load", "of FreeRADIUS", "p50 ms", "p99 ms", "idle after s", "client us", "lost", "refused", "machine idle", "steal"}}
	for _, people := range []int{b.small, b.large} {
		for _, level := range levels {
			for _, c := range b.cells {
				runs := b.of(c.Server, c.Tokens, c.People, level)
				if c.shapes || c.People != people || len(runs) == 0 {
					continue
				}
				of := func(format string, f func(run) float64) string { return spreadOf(figures(runs, f)).show(format) }
				ratio := "1"
				if c.Server == gateway {
					ratio = spreadOf(ratios(runs, b.of(peer, otp.TypeTOTP, people, level), cpu)).show("%.2f")
				}
				var t tally
				for _, r := range runs {
					t.add(r.tally)
				}
				rows = append(rows, []string{
					thousands(people), fmt.Sprint(level), c.srv.name,
					of("%.1f", func(r run) float64 { return r.PerSecond / 1e3 }), of("%.1f", cpu), of("%.1f", underLoad), ratio,
					of("%.3f", func(r run) float64 { return r.P50 }), of("%.3f", func(r run) float64 { return r.P99 }),
					of("%.1f", func(r run) float64 { return r.Deferred }), of("%.1f", func(r run) float64 { return r.Client }), fmt.Sprint(t.Lost), fmt.Sprint(t.Rejected),
					of("%.2f", func(r run) float64 { return r.Idle }), of("%.2f", func(r run) float64 { return r.Steal }),
				})
			}
		}
	}
	return rows
}

func (b *bench) memoryRows() [][]string {
	mib := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
	rows := [][]string{{"people", "server", "own at start", "own at most", "file-backed at most"}}
	for _, c := range b.cells {
		if c.shapes {
			continue
		}
		m := b.most(c)
		rows = append(rows, []string{thousands(c.People), c.srv.name, mib(c.Start.Anon), mib(m.Anon), mib(m.File)})
	}
	return rows
}

func (b *bench) burstRows() [][]string {
	rows := [][]string{{"people", "server", "sent", "answered", "lost", "slowest burst ms"}}
	for _, c := range b.cells {
		if c.shapes {
			continue
		}
		sent, answered, slowest := b.burstsOf(c)
		rows = append(rows, []string{thousands(c.People), c.srv.name, fmt.Sprint(sent), fmt.Sprint(answered), fmt.Sprint(sent - answered), fmt.Sprintf("%.1f", slowest)})
	}
	return rows
}

func (b *bench) diskRows() [][]string {
	rows := [][]string{{"people", "server", "p50", "disk's p50", "p50 over disk", "p99", "disk's p99"}}
	for _, c := range b.gatewayCells() {
		runs := b.of(c.Server, c.Tokens, c.People, 1)
		of := func(f func(run) float64) string { return spreadOf(figures(runs, f)).show("%.3f") }
		rows = append(rows, []string{
			thousands(c.People), c.srv.name, of(func(r run) float64 { return r.P50 }), of(func(r run) float64 { return r.SyncP50 }),
			of(func(r run) float64 { return r.P50 - r.SyncP50 }), of(func(r run) float64 { return r.P99 }), of(func(r run) float64 { return r.SyncP99 }),
		})
	}
	return rows
}

func (b *bench) proofRows() [][]string {
	rows := [][]string{{"people", "server", "answers seen", "records verified", "verified k/s", "data folder, bytes a record"}}
	for _, p := range b.Proofs {
		rows = append(rows, []string{
			thousands(p.People), p.srv.name, thousands(p.Answers), thousands(int(p.Records)),
			fmt.Sprintf("%.0f", float64(p.Records)/p.Seconds/1e3), fmt.Sprintf("%.0f", over(float64(p.Bytes), float64(p.Records))),
		})
	}
	return rows
}

// table lays rows out as a Markdown table whose columns stand under each other.
func table(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var p strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(&p, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		p.WriteString("|\n")
		if n == 0 {
			for i := range row {
				p.WriteString("|" + strings.Repeat("-", widths[i]+2))
			}
			p.WriteString("|\n")
		}
	}
	return p.String()
}
