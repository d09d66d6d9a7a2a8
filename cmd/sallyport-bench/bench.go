package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"sallyport/otp"
)

// levels are the numbers of requests outstanding.
var levels = [...]int{1, 64, 512}

// burstSize is how many requests a burst sends at once, and burstTimes how often.
const (
	burstSize  = 512
	burstTimes = 5
)

// options are the command's flags.
type options struct {
	seconds, repeats int
	small, large     int
	lookAhead        int
	only             int // outstanding; 0: all levels
	dir, binary      string
	side             string
	quick            bool
	pap              bool     // measure PAP widely
	others           []*shape // the other shapes to measure
	ssh              bool
	manyRecords      bool     // measure a large log
	records          int      // of it
	sshParts         []string // of SSH
	idle             int      // SSH sessions
	profile, way     string   // file, and the one way by SSH
}

// cell is one server with so many people: what is measured, at every level, in every repeat.
type cell struct {
	Server string   `json:"server"` // sallyport or freeradius
	Tokens otp.Type `json:"tokens"`
	People int      `json:"people"`
	Shape  string   `json:"shape"`
	Start  memory   `json:"memory_at_start"`

	srv     *server
	gen     generator
	how     *shape
	shapes  bool        // is for the shapes beside PAP
	disk    string      // data folder of the gateway; "" when nothing is kept
	rate    map[int]int // answers a second when last measured, by level
	answers int         // that came, of all runs and bursts
	ended   bool
}

const (
	gateway = "sallyport"
	peer    = "freeradius"
)

// run is one measurement.
type run struct {
	cell
	Repeat      int     `json:"repeat"`
	Outstanding int     `json:"outstanding"`
	Decisions   int     `json:"decisions"` // in the measured time
	Seconds     float64 `json:"seconds"`
	PerSecond   float64 `json:"per_second"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	// CPU is the server's CPU time for a decision in microseconds, idle to idle: from before the first request until the
	// server has nothing left to do, over all decisions between. CPUUnderLoad is that of the measured time alone.
	CPU          float64 `json:"cpu_us"`
	CPUUnderLoad float64 `json:"cpu_under_load_us"`
	Deferred     float64 `json:"settled_s"`        // seconds until nothing was left to do
	Settled      bool    `json:"settled"`          // false: the server was still at work after settleFor
	System       float64 `json:"cpu_system_share"` // of the server's CPU time under load, what the kernel used
	Client       float64 `json:"client_cpu_us"`
	Memory       memory  `json:"memory"` // most seen in the run, bytes
	Idle         float64 `json:"machine_idle"`
	Steal        float64 `json:"machine_steal"`
	SyncP50      float64 `json:"fdatasync_p50_ms,omitempty"` // just before and after; one outstanding only
	SyncP99      float64 `json:"fdatasync_p99_ms,omitempty"`
	tally
}

// burstRun is one burst.
type burstRun struct {
	cell
	Sent     int     `json:"sent"`
	Answered int     `json:"answered"`
	Millis   float64 `json:"ms"`
	tally
}

// bench is one run of the command.
type bench struct {
	options
	progress io.Writer
	dir      string
	peerPath string
	cells    []*cell
	certs    *certificates

	Machine  hardware    `json:"machine"`
	Peer     string      `json:"peer"`
	Runs     []run       `json:"runs"`
	Bursts   []burstRun  `json:"bursts"`
	Shapes   []run       `json:"shapes"`
	Proofs   []proof     `json:"proofs"`
	SSH      *sshFigures `json:"ssh,omitempty"`
	Records  []stageRun  `json:"records,omitempty"`
	Verdicts []verdict   `json:"verdicts"`
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// measureAll starts all servers, measures them in turn, and ends them. They all live for the whole time and the idle ones
// wait, so that what the machine does otherwise falls on all alike.
func (b *bench) measureAll(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(b.options.dir, "sallyport-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b.dir = dir
	if err := b.checkDisk(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.end()) }()
	if err := b.ready(ctx); err != nil {
		return err
	}
	if b.pap {
		if err := b.measureWidely(ctx); err != nil {
			return err
		}
	}
	if len(b.others) > 0 {
		if err := b.measureShapes(ctx); err != nil {
			return err
		}
	}
	if b.ssh && b.side != peer {
		if err := b.measureSSH(ctx); err != nil {
			return err
		}
	}
	if b.manyRecords && b.side != peer {
		return b.measureRecords(ctx)
	}
	return nil
}

// measureWidely measures PAP over UDP, at all levels, with few people and with many.
func (b *bench) measureWidely(ctx context.Context) error {
	if err := b.start(ctx); err != nil {
		return err
	}
	for repeat := range b.repeats {
		for _, level := range levels {
			if b.only != 0 && b.only != level {
				continue
			}
			for _, c := range b.cells {
				r, err := b.measure(ctx, c, level)
				if err != nil {
					return fmt.Errorf("%s, %d people, %d outstanding: %w", c.srv.name, c.People, level, err)
				}
				r.Repeat = repeat + 1
				b.Runs = append(b.Runs, r)
				b.say("%d/%d  %3d outstanding  %-15s %7d people  %7.0f/s  %6.1f us  p50 %.3f ms  p99 %.3f ms  idle after %.1f s", r.Repeat, b.repeats, level, c.srv.name, c.People, r.PerSecond, r.CPU, r.P50, r.P99, r.Deferred)
			}
		}
	}
	if b.only != 0 {
		return nil
	}
	for _, c := range b.cells {
		if err := b.burst(ctx, c); err != nil {
			return fmt.Errorf("burst at %s, %d people: %w", c.srv.name, c.People, err)
		}
	}
	if err := b.end(); err != nil {
		return err
	}
	for _, c := range b.gatewayCells() {
		if err := b.verify(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) verify(ctx context.Context, c *cell) error {
	b.say("verifying the records of %s with %d people", c.srv.name, c.People)
	p, err := prove(ctx, b.binary, c)
	b.Proofs = append(b.Proofs, p)
	return err
}

// checkDisk refuses a folder that is no disk, or has less room than the run may take.
func (b *bench) checkDisk(dir string) error {
	free, err := onDisk(dir)
	if err != nil {
		return err
	}
	const each = 60_000 * 1500 // bytes a second that a fast gateway records
	fast := len(b.others)
	if b.pap {
		fast += 2 * 2
	}
	need := uint64(fast*b.repeats*(b.seconds+1)*each) + 1<<30
	if b.ssh {
		need += 2 << 30
	}
	if b.manyRecords {
		need += uint64(b.records) * bytesOfRecord
	}
	if b.side == peer {
		need = 1 << 30
	}
	if free < need {
		return fmt.Errorf("%s has %d MiB free, and the run may take %d: give another folder with -dir, or fewer -repeats or -seconds", dir, free>>20, need>>20)
	}
	return nil
}

// benchSecret is shared by the servers and the bench.
const benchSecret = "bench-secret-of-more-than-24-bytes"

// ready finds the peer, which may be missing, and then builds the gateway.
func (b *bench) ready(ctx context.Context) (err error) {
	if b.side != gateway && (b.pap || len(b.others) > 0) {
		if b.peerPath, b.Peer, err = peerVersion(ctx); err != nil {
			return err
		}
	}
	if b.side != peer && b.binary == "" && (b.pap || len(b.others) > 0 || b.ssh) {
		b.say("building the gateway")
		b.binary, err = buildGateway(ctx, b.dir)
	}
	return err
}

// start brings up every server. Of two that will be compared, one is measured right after the other.
func (b *bench) start(ctx context.Context) error {
	const secret = benchSecret
	gateways, peers := b.side != peer, b.side != gateway
	for _, people := range []int{b.small, b.large} {
		if gateways {
			types := []otp.Type{otp.TypeHOTP}
			if people == b.large {
				types = append(types, otp.TypeTOTP)
			}
			for _, t := range types {
				b.say("starting Sallyport with %d people and their %s tokens", people, t)
				dir := filepath.Join(b.dir, fmt.Sprintf("%s-%s-%d", gateway, t, people))
				s, err := startGateway(ctx, b.binary, dir, secret, people, t, b.lookAhead, "", "")
				if err != nil {
					return err
				}
				b.add(&cell{Server: gateway, Tokens: t, People: people, srv: s, disk: filepath.Join(dir, "data")})
			}
		}
		if peers {
			b.say("starting %s with %d people", b.Peer, people)
			s, err := startPeer(ctx, b.peerPath, filepath.Join(b.dir, fmt.Sprintf("%s-%d", peer, people)), secret, people)
			if err != nil {
				return err
			}
			b.add(&cell{Server: peer, Tokens: otp.TypeTOTP, People: people, srv: s})
		}
	}
	return nil
}

// add takes a running server into the round.
func (b *bench) add(c *cell) {
	c.rate, c.gen, c.how, c.Shape = map[int]int{}, c.srv.generator(), &papShape, papShape.name
	if m, err := readMemory(c.srv.pid()); err == nil {
		c.Start = m
	}
	b.cells = append(b.cells, c)
}

// end ends every server that runs, and reports those that went badly.
func (b *bench) end() (err error) {
	for _, c := range b.cells {
		if !c.ended {
			c.ended = true
			err = errors.Join(err, c.srv.end())
		}
	}
	return err
}

// settleFor is how long a server may go on working after the load has ended. A gateway's index of records takes its time.
const settleFor = 2 * time.Minute

// peerForgets is when FreeRADIUS has forgotten all requests that came over TLS: cleanup_delay and a little. It forgets
// those over UDP earlier, when their identifiers are used again. To forget is work, and a part of each request.
const peerForgets = 5500 * time.Millisecond

// measure makes one run.
func (b *bench) measure(ctx context.Context, c *cell, level int) (run, error) {
	r := run{cell: *c, Outstanding: level}
	warm, length := time.Second, time.Duration(b.seconds)*time.Second
	if b.quick {
		warm = 200 * time.Millisecond
	}
	n := need{lanes: min(maxLanes, level), lasts: warm + length, shape: c.how}
	if c.how.talk {
		n.lanes = level // a conversation is one request at a time
	}
	n.want = int(float64(c.expect(level)) * n.lasts.Seconds())
	if c.srv.crowd.once && c.Tokens == otp.TypeTOTP && !c.how.codeless {
		// Every code counts: the warm-up is only as long as leaves most of them.
		warm = min(warm, time.Duration(c.People)*time.Second/400_000)
		if n.least = c.People * 7 / 10; level == 1 {
			n.least = c.People / 5
			n.want = min(n.want, n.least)
		}
	}
	before, _, err := settle(ctx, c.srv.pid(), settleFor)
	if err != nil {
		return run{}, err
	}
	var syncs []syncTimes
	timeDisk := func() error {
		if c.disk == "" || level != 1 {
			return nil
		}
		t, err := timeSync(c.disk, length/4)
		syncs = append(syncs, t)
		return err
	}
	if err := timeDisk(); err != nil {
		return run{}, err
	}
	scripts, err := c.srv.crowd.prepare(ctx, n, time.Now)
	if err != nil {
		return run{}, err
	}
	runtime.GC()
	w := watcher{pid: c.srv.pid()}
	rest := sync.OnceFunc(w.rest)
	defer rest()
	o, err := c.gen.load(ctx, scripts, level, warm, length, w.begin, w.end)
	c.srv.crowd.sent(scripts)
	if err = errors.Join(err, w.err); err != nil {
		return run{}, err
	}
	loaded := time.Now()
	if c.how.tls && c.Server == peer {
		if err := pause(ctx, peerForgets); err != nil {
			return run{}, err
		}
	}
	after, settled, err := settle(ctx, c.srv.pid(), settleFor)
	if err != nil {
		return run{}, err
	}
	rest()
	r.Deferred = time.Since(loaded).Seconds()
	if err := timeDisk(); err != nil {
		return run{}, err
	}
	r.fill(o, w, after-before, settled, syncs)
	c.rate[level] = int(r.PerSecond)
	c.answers += o.total
	return r, r.sound(o)
}

// expect is how many answers a second to prepare for.
func (c *cell) expect(level int) int {
	if seen := c.rate[level]; seen > 0 {
		return seen * 3 / 2
	}
	if c.how.guess > 0 {
		return c.how.guess
	}
	switch level {
	case 1:
		return 25_000
	case 64:
		return 90_000
	}
	return 120_000
}

func (r *run) fill(o outcome, w watcher, used time.Duration, settled bool, syncs []syncTimes) {
	took := o.latencies()
	n := float64(len(took))
	r.Decisions, r.Seconds, r.tally = len(took), o.length.Seconds(), o.counts
	r.PerSecond = over(n, r.Seconds)
	r.P50, r.P99 = float64(percentile(took, 50))/1e6, float64(percentile(took, 99))/1e6
	r.CPU, r.Settled = over(micros(used), float64(o.total)), settled
	r.CPUUnderLoad, r.Client = over(micros(w.used), n), over(micros(w.own), n)
	r.Memory, r.Idle, r.Steal, r.System = w.most, w.idle, w.steal, w.system
	for _, t := range syncs {
		r.SyncP50 += float64(t.p50) / 1e6 / float64(len(syncs))
		r.SyncP99 += float64(t.p99) / 1e6 / float64(len(syncs))
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// sound refuses a run that measured something else than acceptances.
func (r *run) sound(o outcome) error {
	const most = 0.005 // of all answers: HOTP codes collide now and then
	switch {
	case o.bad != nil:
		return fmt.Errorf("%d replies were bad, the first: %w", o.counts.Bad, o.bad)
	case o.total == 0:
		return fmt.Errorf("no reply at all; %d requests lost\n%s", o.counts.Lost, r.srv.tail())
	case r.Decisions == 0:
		return fmt.Errorf("no reply in the measured %.2f s", r.Seconds)
	case float64(o.counts.Rejected) > most*float64(o.total):
		return fmt.Errorf("%d of %d answers were refusals: want acceptances\n%s", o.counts.Rejected, o.total, r.srv.tail())
	}
	return nil
}

// watcher reads what a server and the machine use between begin and end.
type watcher struct {
	pid         int
	used, own   time.Duration
	idle, steal float64 // shares of the machine's CPU time
	system      float64 // share of the process's
	most        memory
	err         error

	machine machine
	times   times
	stop    chan struct{}
	stopped chan struct{}
}

func (w *watcher) begin() {
	var err1, err2, err3 error
	w.machine, err1 = readMachine()
	w.times, err3 = readTimes(w.pid)
	w.own = ownCPU()
	w.used, err2 = cpuTime(w.pid)
	w.err = errors.Join(err1, err2, err3)
	w.stop, w.stopped = make(chan struct{}), make(chan struct{})
	go w.sample()
}

// sample looks at the server's memory until rest.
func (w *watcher) sample() {
	defer close(w.stopped)
	for {
		if m, err := readMemory(w.pid); err == nil {
			w.most = w.most.most(m)
		}
		select {
		case <-w.stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (w *watcher) end() {
	used, err1 := cpuTime(w.pid)
	own := ownCPU()
	m, err2 := readMachine()
	t, err3 := readTimes(w.pid)
	w.err = errors.Join(w.err, err1, err2, err3)
	if ticks := t.user - w.times.user + t.system - w.times.system; ticks > 0 {
		w.system = float64(t.system-w.times.system) / float64(ticks)
	}
	w.used, w.own = used-w.used, own-w.own
	total := float64(m.total - w.machine.total)
	w.idle, w.steal = over(float64(m.idle-w.machine.idle), total), over(float64(m.steal-w.machine.steal), total)
}

// rest ends the sampling of memory. It may be called without a begin.
func (w *watcher) rest() {
	if w.stop != nil {
		close(w.stop)
		<-w.stopped
	}
}

// burst sends bursts to an idle server.
func (b *bench) burst(ctx context.Context, c *cell) error {
	for range burstTimes {
		n := need{lanes: maxLanes, want: burstSize, least: burstSize, lasts: patience}
		scripts, err := c.srv.crowd.prepare(ctx, n, time.Now)
		if err != nil {
			return err
		}
		if _, _, err := settle(ctx, c.srv.pid(), settleFor); err != nil {
			return err
		}
		answered, took, counts, err := c.gen.burst(ctx, scripts)
		c.srv.crowd.sent(scripts)
		if err != nil {
			return err
		}
		c.answers += answered
		b.Bursts = append(b.Bursts, burstRun{cell: *c, Sent: total(scripts), Answered: answered, Millis: took.Seconds() * 1e3, tally: counts})
	}
	return nil
}
