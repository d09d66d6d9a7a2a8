package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/audit/witness"
	"sallyport/internal/config"
	"sallyport/radiusd"
	"sallyport/radiusd/ledger"
	"sallyport/sshgw"
)

// drainFor is how long a stop waits for SSH sessions to end by themselves.
const drainFor = 5 * time.Second

func (c *cli) serveCommand() *cobra.Command {
	var inherited int
	var inheritedNames []string
	var profile string
	var predecessor bool
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the gateway", Args: cobra.NoArgs,
		Long: `Runs the gateway until SIGTERM or an interrupt, which stop new work, let what is under way end, and exit with 0.
SIGHUP reloads the configuration. Logs to standard error; one line with "ready" tells that every listener answers.
Sockets may come from systemd (socket activation), or from any parent by --listen-fds.`,
		Example: "  sallyport -c /etc/sallyport/sallyport.yaml serve",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			sockets, err := c.inheritedSockets(inherited, inheritedNames)
			if err != nil {
				return err
			}
			hardenProcess()
			if profile != "" {
				stop, err := profileCPU(profile)
				if err != nil {
					return err
				}
				defer stop()
			}
			return c.serve(cmd.Context(), cfg, serveOptions{log: newLogger(cfg.Log, c.stderr), sockets: sockets, hup: hup, notify: true, predecessor: predecessor})
		},
	}
	cmd.Flags().StringVar(&profile, "cpuprofile", "", "write a CPU profile to `FILE`, for go tool pprof")
	_ = cmd.Flags().MarkHidden("cpuprofile")
	cmd.Flags().StringSliceVar(&inheritedNames, "listen-names", nil, "what the inherited sockets are for")
	cmd.Flags().BoolVar(&predecessor, "predecessor", false, "a gateway that ran before still has SSH sessions")
	_ = cmd.Flags().MarkHidden("listen-names")
	_ = cmd.Flags().MarkHidden("predecessor")
	cmd.Flags().IntVar(&inherited, "listen-fds", 0, "take `N` sockets from the parent, from descriptor 3 on")
	return cmd
}

// profileCPU writes a profile until stop is called. It is for developers.
func profileCPU(path string) (stop func(), err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

// hardenProcess keeps secrets in memory out of core dumps and other processes' debuggers (P9). Where the system
// refuses, the gateway runs all the same.
func hardenProcess() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

func newLogger(l config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// serveOptions are what serve needs beyond the configuration.
type serveOptions struct {
	log     *slog.Logger
	sockets *sockets // inherited; nil: none
	hup     <-chan os.Signal
	notify  bool           // tell systemd
	ready   func(*gateway) // called once, when every listener answers

	predecessor bool // a gateway that ran before still has SSH sessions
}

// gateway is a running daemon.
type gateway struct {
	*app
	cli     *cli
	since   time.Time
	metrics *metrics
	radius  *radiusd.Server
	ssh     *sshgw.Server
	tls     radiusd.TLSOptions
	doors   *doors
	book    *ledger.Book // what was seen of RADIUS clients, over restarts
	sockets *sockets
	through *switchGate // what the SSH gateway asks

	publisher *witness.Publisher
	published []func(checkpoint string) // set before run: each gets every checkpoint that is published, with the witnesses' signatures

	before predecessor
	stop   context.CancelFunc // ends the work

	forwards *forwards

	reloading  sync.Mutex
	succession *succession // a restart that was asked for; guarded by reloading until the work has ended
}

// serve runs until ctx ends or something that it cannot do without fails.
func (c *cli) serve(ctx context.Context, cfg *config.Config, o serveOptions) (err error) {
	for _, w := range cfg.Warnings {
		o.log.Warn(w.Text, "file", w.File, "line", w.Line, "field", w.Field, "hint", w.Hint)
	}
	a, err := openApp(ctx, cfg, o.log, time.Now)
	if err != nil {
		return err
	}
	closed := sync.OnceValue(a.close)
	defer func() { err = errors.Join(err, closed()) }()
	g := &gateway{through: newSwitchGate(a.gate), app: a, cli: c, since: time.Now().UTC(), metrics: newMetrics(a), doors: &doors{app: a, log: o.log}}
	defer g.doors.close()
	if err := g.ensureAuthorities(admin.WithActor(ctx, admin.Actor{Name: admin.UserName(os.Getuid()), Road: "daemon"})); err != nil {
		return err
	}
	if err := g.build(cfg); err != nil {
		return err
	}
	if g.publisher, err = g.newPublisher(cfg); err != nil {
		return err
	}
	g.metrics.registry.MustRegister(newWitnessMetrics(g.publisher))
	if g.sockets, err = openSockets(cfg, a.paths, o.sockets); err != nil {
		return err
	}
	defer g.sockets.close()
	g.verbs()
	if !o.predecessor {
		if err := g.gate.EndOrphans("ssh", nil); err != nil {
			return err
		}
	}
	if o.notify {
		c.tuneGC()
	}
	ctx = admin.WithActor(ctx, admin.Actor{Name: admin.UserName(os.Getuid()), Road: "daemon"})
	g.clock = newClockWatch(g.admin.Record)
	g.clock.register(g.metrics.registry)
	start := []audit.Detail{{Key: "version", Value: version()}, {Key: "config", Value: hashOf(cfg)}}
	start = append(start, readClock().detail()...)
	if err := g.admin.Record(ctx, "gateway.start", audit.Info, "ok", start...); err != nil {
		return err
	}
	reason := "stopped"
	if err := g.run(ctx, o); err != nil {
		reason = "failed"
		o.log.Error("the gateway stops", "error", err)
		defer func(cause error) { err = errors.Join(cause, err) }(err)
	}
	g.keepBook(true)
	if g.succession != nil && reason == "stopped" {
		reason = "restart"
		g.through.leave()
	}
	err = errors.Join(
		g.admin.Record(context.WithoutCancel(ctx), "gateway.stop", audit.Info, reason),
		g.snapshot(context.WithoutCancel(ctx)),
	)
	if g.succession == nil || err != nil {
		g.finishPublishing(ctx)
		return err
	}
	if err := closed(); err != nil {
		return err
	}
	return g.handOver(ctx, o.log)
}

// hashOf names a configuration in the records.
func hashOf(cfg *config.Config) string {
	sum := config.Hash(cfg)
	return hex.EncodeToString(sum[:])
}

// build makes the servers.
func (g *gateway) build(cfg *config.Config) error {
	rc, sc, err := compile(cfg, g.slog)
	if err != nil {
		return err
	}
	opened, err := g.doors.prepare(cfg)
	if err != nil {
		return err
	}
	opened.commit()
	g.radius = radiusd.NewServer(radiusd.Options{
		Gate: g.gate, Box: g.ring.Box("radius-state"), Now: time.Now, Log: g.slog.With("part", "radius"), Meter: g.metrics, Ready: g.gate.Open,
		Workers: cfg.RADIUS.Workers, Queue: cfg.RADIUS.Queue, ReceiveBuffer: cfg.RADIUS.ReceiveBuffer, Node: cfg.Node,
		FindLogin: g.findLogin,
	})
	if err := g.radius.SetConfig(rc); err != nil {
		return err
	}
	g.serving = g.radius
	g.book = ledger.Open(g.paths.clients, time.Now, g.slog)
	g.book.Take(g.radius.Counts())
	if cfg.RADIUS.TLS != nil {
		if g.tls, err = tlsOptions(cfg.RADIUS.TLS, g.slog); err != nil {
			return err
		}
	}
	hostCA, err := g.hostCA()
	if err != nil {
		return err
	}
	userCA, err := g.userCA()
	if err != nil {
		return err
	}
	loginCA, err := g.loginCA()
	if err != nil {
		return err
	}
	g.ssh = sshgw.NewServer(sshgw.Options{
		Gate: g.through, Now: time.Now, Log: g.slog.With("part", "ssh"), Meter: g.metrics,
		Vault: targetVault{g.app}, HostCA: hostCA, UserCA: userCA, LoginCA: loginCA, LastUse: g.lastUse, Desk: desk{g.app},
	})
	g.killSSH = func(id, why string) bool { return g.ssh.Kill(id, why) || g.before.kill(id, why) }
	return g.ssh.SetConfig(sc)
}

// run serves on all sockets. It returns when ctx has ended and the work is drained, or with the first failure.
func (g *gateway) run(ctx context.Context, o serveOptions) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g.stop = stop
	work, workCtx := errgroup.WithContext(ctx)
	g.serveRADIUS(workCtx, work.Go)
	for _, l := range g.sockets.ssh {
		work.Go(func() error { return g.ssh.Serve(workCtx, l) })
	}
	if l := g.sockets.metrics; l != nil {
		work.Go(func() error { return serveMetrics(workCtx, l, g.metrics, g.app) })
	}
	work.Go(func() error { return g.admin.Serve(workCtx, g.sockets.admin, 2*time.Second) })
	if l := g.sockets.operators; l != nil {
		work.Go(func() error { return g.admin.Serve(workCtx, l, 2*time.Second) })
	}
	work.Go(func() error { return g.upkeep(workCtx, o.hup) })
	work.Go(func() error { return g.sweep(workCtx) })
	work.Go(func() error { return g.forward(workCtx) })
	work.Go(func() error { return g.followDirectory(workCtx) })
	work.Go(func() error { return g.tendRegister(workCtx) })
	work.Go(func() error { return g.tendClock(workCtx) })
	work.Go(func() error { return g.publisher.Run(workCtx) })
	work.Go(func() error { return g.tendRetention(workCtx) })
	if o.notify {
		work.Go(func() error { return g.cli.tendMemory(workCtx, g.doors.taken) })
	}

	for _, what := range g.deadRules() {
		g.slog.Warn("a rule's exception lets nobody in", "what", what)
	}
	level := slog.LevelInfo
	if o.notify {
		level = audible(ctx, g.slog)
	}
	g.slog.Log(ctx, level, "ready", "node", g.config().Node, "radius", names(g.sockets.radiusNames()), "accounting", names(g.sockets.accountingNames()),
		"radsec", names(g.sockets.radsecNames()), "ssh", names(g.sockets.sshNames()), "metrics", g.sockets.metricsName(), "version", version())
	if o.notify {
		notify(daemon.SdNotifyReady)
	}
	if o.ready != nil {
		o.ready(g)
	}
	if o.predecessor {
		time.AfterFunc(predecessorWait, func() { g.endUnclaimed() })
	}
	<-workCtx.Done()
	if g.succession != nil && ctx.Err() != nil {
		return work.Wait()
	}
	g.sockets.spares.close() // whoever comes now is refused at once
	if o.notify {
		notify(daemon.SdNotifyStopping)
	}
	g.slog.Info("stopping", "sessions", len(g.ssh.Sessions()))
	drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
	defer cancel()
	g.ssh.Drain(drainCtx)
	return work.Wait()
}

// audible is the lowest level from information upwards that the log shows: others wait for the line "ready".
func audible(ctx context.Context, log *slog.Logger) slog.Level {
	level := slog.LevelInfo
	for !log.Enabled(ctx, level) && level < slog.LevelError {
		level += slog.LevelWarn - slog.LevelInfo
	}
	return level
}

// snapshotEvery bounds how many records a start may have to replay.
const snapshotEvery = 200_000

// sweepEvery is how often sessions of people whose time is over are looked for.
const sweepEvery = 20 * time.Second

// upkeep reloads on SIGHUP, feeds systemd's watchdog, and takes snapshots now and then.
func (g *gateway) upkeep(ctx context.Context, hup <-chan os.Signal) error {
	beat := 10 * time.Second
	if watchdog, err := daemon.SdWatchdogEnabled(false); err == nil && watchdog > 0 {
		beat = min(beat, watchdog/2)
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	last := g.log.Next()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			if _, err := g.reload(ctx); err != nil {
				g.slog.Error("the configuration was not reloaded, and the running one stays", "error", err)
			}
		case <-tick.C:
			g.keepBook(false)
			if g.gate.Open() == nil {
				notify(daemon.SdNotifyWatchdog)
			}
			if next := g.log.Next(); next-last >= snapshotEvery {
				if err := g.snapshot(ctx); err != nil {
					g.slog.Error("no snapshot was taken; the next start will replay more", "error", err)
				}
				last = next
			}
		}
	}
}

// sweep ends the sessions of people whose time here is over. NAS may be slow to answer, so it has a goroutine of its own.
func (g *gateway) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n := g.ssh.Recheck(); n > 0 {
			g.slog.Warn("SSH sessions were ended that the rules no longer permit", "sessions", n)
		}
		ended, err := g.admin.Sweep(ctx)
		if err != nil {
			g.slog.Error("sessions of people whose time is over were not ended", "error", err)
		}
		for _, e := range ended {
			g.slog.Warn("a session was to end, since its person's time is over", "person", e.Person, "system", e.System, "session", e.ID, "answer", e.Answer)
		}
	}
}

// notify tells systemd, if it asked to be told.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }

func names(list []string) string { return strings.Join(list, ", ") }

// verbs are what only a daemon can do or knows.
func (g *gateway) verbs() {
	admin.Handle(g.admin, "status", func(ctx context.Context, _ admin.Empty) (Status, error) { return g.status(ctx), nil })
	admin.Handle(g.admin, "reload", func(ctx context.Context, _ admin.Empty) (Reloaded, error) { return g.reload(ctx) })
	admin.Handle(g.admin, "restart", func(ctx context.Context, in RestartIn) (Restarted, error) { return g.succeed(ctx, in) })
	g.successionVerbs(&g.before)
	g.forwardVerbs()
	g.parts = g.reportParts
	g.fetchVerb()
	admin.Handle(g.admin, "client.list", func(context.Context, admin.Empty) (ClientReport, error) { return g.clients(), nil })
	admin.Handle(g.admin, "client.report", func(context.Context, admin.Empty) (Seen, error) { return g.seen(), nil })
}

func (g *gateway) status(ctx context.Context) Status {
	s := Status{
		Running: true, Open: true, PID: os.Getpid(), Version: version(), Node: g.config().Node, Since: g.since, Config: g.config().File,
		RADIUS: g.sockets.radiusNames(), Accounting: g.sockets.accountingNames(), RadSec: g.sockets.radsecNames(), SSH: g.sockets.sshNames(), Metrics: g.sockets.metricsName(),
		Firsts: g.doors.standings(ctx), Records: g.log.Next(), IndexLag: g.index.lag(), Sessions: len(g.gate.Sessions()), Attention: append(g.deadRules(), g.clock.attention()...),
	}
	s.Witnesses = g.publisher.Standings()
	g.forwards.status(ctx, &s)
	if err := g.health(ctx); err != nil {
		s.Open, s.Reason = false, err.Error()
	}
	return s
}

func (a *app) config() *config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

// reload reads the configuration anew, and swaps it in as a whole or not at all. Either way it is recorded.
func (g *gateway) reload(ctx context.Context) (Reloaded, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	notify(daemon.SdNotifyReloading + "\nMONOTONIC_USEC=" + monotonic())
	defer notify(daemon.SdNotifyReady)
	old := g.config()
	r, err := g.swap(ctx, old)
	if err != nil {
		g.metrics.reloads.WithLabelValues("failed").Inc()
		detail := audit.Detail{Key: "error", Value: err.Error()}
		return r, errors.Join(err, g.admin.Record(ctx, "config.reload", audit.Error, "bad_configuration", detail))
	}
	g.metrics.reloads.WithLabelValues("done").Inc()
	g.slog.Info("reloaded", "changes", len(r.Changes))
	return r, nil
}

func (g *gateway) swap(ctx context.Context, old *config.Config) (Reloaded, error) {
	r := Reloaded{Changes: []string{}, Restart: []string{}, Warnings: []config.Problem{}}
	again := &cli{env: g.cli.env, configPath: old.File}
	cfg, err := again.load()
	if err != nil {
		return r, err
	}
	rc, sc, err := compile(cfg, g.slog)
	if err != nil {
		return r, err
	}
	opened, err := g.doors.prepare(cfg)
	if err != nil {
		return r, err
	}
	r.Changes = append(r.Changes, config.Diff(old, cfg)...)
	r.Warnings = append(r.Warnings, cfg.Warnings...)
	r.Restart = append(r.Restart, needRestart(old, cfg)...)
	detail := []audit.Detail{{Key: "changes", Value: strings.Join(r.Changes, "; ")}, {Key: "config", Value: hashOf(cfg)}}
	if err := g.admin.Record(ctx, "config.reload", audit.Info, "ok", detail...); err != nil {
		opened.undo()
		return r, err // an unrecorded change of the rules must not hold (P3)
	}
	opened.commit()
	g.gate.SetPolicy(gatePolicy(cfg))
	g.useSystems(cfg)
	for _, what := range g.deadRules() {
		r.Warnings = append(r.Warnings, config.Problem{File: cfg.File, Field: "rules", Text: what, Hint: "`sallyport exception list --all` shows the register"})
	}
	err = errors.Join(g.radius.SetConfig(rc), g.ssh.SetConfig(sc))
	if n := g.ssh.Recheck(); n > 0 {
		g.slog.Warn("SSH sessions were ended that the rules no longer permit", "sessions", n)
	}
	return r, err
}

// needRestart names the settings that differ and are read at the start only.
func needRestart(old, cfg *config.Config) []string {
	var fields []string
	differ := func(field string, a, b any) {
		if fmt.Sprint(a) != fmt.Sprint(b) {
			fields = append(fields, field)
		}
	}
	differ("data", old.Data, cfg.Data)
	differ("node", old.Node, cfg.Node)
	differ("log", old.Log, cfg.Log)
	differ("radius.listen", old.RADIUS.Listen, cfg.RADIUS.Listen)
	differ("radius.workers, queue or receive_buffer", [3]int{old.RADIUS.Workers, old.RADIUS.Queue, old.RADIUS.ReceiveBuffer}, [3]int{cfg.RADIUS.Workers, cfg.RADIUS.Queue, cfg.RADIUS.ReceiveBuffer})
	differ("radius.accounting", old.RADIUS.Accounting, cfg.RADIUS.Accounting)
	differ("radius.tls", deref(old.RADIUS.TLS), deref(cfg.RADIUS.TLS))
	differ("ssh.listen", old.SSH.Listen, cfg.SSH.Listen)
	differ("audit.checkpoint_every", old.Audit.CheckpointEvery, cfg.Audit.CheckpointEvery)
	differ("audit.witnesses", witnessesOf(old), witnessesOf(cfg))
	differ("metrics.listen", old.Metrics.Listen, cfg.Metrics.Listen)
	return fields
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// monotonic is CLOCK_MONOTONIC in microseconds, as sd_notify(3) wants it beside RELOADING=1.
func monotonic() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return fmt.Sprint(ts.Nano() / 1000)
}
