package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/sshgw"
)

// A restart that keeps SSH sessions. The running gateway, the predecessor, does this:
//
//  1. It takes no more work from its sockets, which stay open, so that what arrives waits in them. SSH sessions go on, and open
//     nothing new. A crash here is a crash.
//  2. Its last record says restart; it snapshots, and gives up the data folder.
//  3. It starts the new binary, the successor, and hands it the sockets.
//  4. When the successor answers, the records of the sessions that are left (ends, transfers, pieces of recordings) go to it, over the
//     commands' socket. Until then they wait; nothing is told to a client before its record is durable (P3).
//  5. The predecessor ends with its last session, or at the deadline.
//
// The successor takes records of live sessions only, and of those events only that a session makes by itself. It can end each of those
// sessions through the predecessor, and records the end of what the predecessor leaves behind when it is gone.

// keepFor is how long a predecessor keeps its sessions, unless it is told otherwise.
const keepFor = time.Hour

// successorWait bounds the wait for a successor to answer: it may have records to replay.
const successorWait = 5 * time.Minute

// switchGate is the gateway's gate while it runs, and after it has handed over the way to its successor's records.
type switchGate struct {
	mu    sync.RWMutex // held for reading while a question is being answered
	local *login.Gate  // nil: handed over

	ready  chan struct{} // closed when remote, or lost, is set
	remote *admin.Client
	lost   error
}

func newSwitchGate(g *login.Gate) *switchGate {
	return &switchGate{local: g, ready: make(chan struct{})}
}

// leave waits for what is being answered, and sends everything from now on to the successor.
func (g *switchGate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.local = nil
}

// found tells who the successor is, or why there is none.
func (g *switchGate) found(remote *admin.Client, lost error) {
	g.remote, g.lost = remote, lost
	close(g.ready)
}

// ask runs f with the local gate, if there is one still. Without it the zero Outcome is the answer, which is none.
func ask[T any](g *switchGate, f func(*login.Gate) T) (zero T) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.local == nil {
		return zero
	}
	return f(g.local)
}

func (g *switchGate) Decide(ctx context.Context, a login.Attempt) login.Outcome {
	return ask(g, func(l *login.Gate) login.Outcome { return l.Decide(ctx, a) })
}

func (g *switchGate) Access(ctx context.Context, gr login.Grant, a login.Attempt) login.Outcome {
	return ask(g, func(l *login.Gate) login.Outcome { return l.Access(ctx, gr, a) })
}

func (g *switchGate) Refuse(ctx context.Context, a login.Attempt, why login.Reason) login.Outcome {
	return ask(g, func(l *login.Gate) login.Outcome { return l.Refuse(ctx, a, why) })
}

func (g *switchGate) Lean(ctx context.Context, a login.Attempt) login.Outcome {
	return ask(g, func(l *login.Gate) login.Outcome { return l.Lean(ctx, a) })
}

func (g *switchGate) StepUp(ctx context.Context, gr login.Grant, a login.Attempt) login.Outcome {
	return ask(g, func(l *login.Gate) login.Outcome { return l.StepUp(ctx, gr, a) })
}

func (g *switchGate) Serve(ctx context.Context, a login.Attempt) login.Outcome {
	return ask(g, func(l *login.Gate) login.Outcome { return l.Serve(ctx, a) })
}

func (g *switchGate) Foresee(gr login.Grant, sys login.System, c login.Capability) login.Reason {
	return ask(g, func(l *login.Gate) login.Reason { return l.Foresee(gr, sys, c) })
}

func (g *switchGate) MustRecord(gr login.Grant, sys login.System) bool {
	return ask(g, func(l *login.Gate) bool { return l.MustRecord(gr, sys) })
}

func (g *switchGate) Leans(a login.Attempt) bool {
	return ask(g, func(l *login.Gate) bool { return l.Leans(a) })
}

func (g *switchGate) MayOpenWindow(name string) bool {
	return ask(g, func(l *login.Gate) bool { return l.MayOpenWindow(name) })
}

func (g *switchGate) IsService(name string) bool {
	return ask(g, func(l *login.Gate) bool { return l.IsService(name) })
}

func (g *switchGate) Certify(ctx context.Context, gr login.Grant, a login.Attempt) (login.Certificate, login.Outcome) {
	type both struct {
		c login.Certificate
		o login.Outcome
	}
	x := ask(g, func(l *login.Gate) both { c, o := l.Certify(ctx, gr, a); return both{c, o} })
	return x.c, x.o
}

func (g *switchGate) Key(name string, wire []byte) (fingerprint string, registered bool) {
	type both struct {
		f string
		r bool
	}
	x := ask(g, func(l *login.Gate) both { f, r := l.Key(name, wire); return both{f, r} })
	return x.f, x.r
}

// Note records here, or at the successor.
func (g *switchGate) Note(ctx context.Context, e login.Event) (login.Receipt, error) {
	g.mu.RLock()
	if l := g.local; l != nil {
		defer g.mu.RUnlock()
		return l.Note(ctx, e)
	}
	g.mu.RUnlock()
	<-g.ready // bounded by successorWait
	if g.lost != nil {
		return login.Receipt{}, g.lost
	}
	// The client may be gone; the record has to be made all the same.
	return login.Receipt{}, g.remote.Call(context.WithoutCancel(ctx), "succession.note", noteOf(e), nil)
}

// leftNote is a session's event on its way to the successor.
type leftNote struct {
	Event   string         `json:"event"`
	Result  login.Result   `json:"result"`
	Reason  login.Reason   `json:"reason"`
	Person  string         `json:"person"`
	Attempt string         `json:"attempt"`
	Session string         `json:"session"`
	Rule    string         `json:"rule"`
	System  login.System   `json:"system"`
	Account string         `json:"account"`
	Source  netip.AddrPort `json:"source"`
	Factors []login.Factor `json:"factors"`
	Detail  []login.Detail `json:"detail"`
}

func noteOf(e login.Event) leftNote {
	n := leftNote{
		Event: e.Event, Result: e.Result, Reason: e.Reason, Session: e.Session, Rule: e.Rule, System: e.Attempt.System,
		Account: e.Attempt.Account, Source: e.Attempt.Source, Detail: append(slices.Clip(e.Attempt.Detail), e.Detail...),
	}
	if gr := e.Grant; gr != nil {
		n.Person, n.Attempt, n.Factors = gr.Person, gr.Attempt, gr.Factors
		if n.Session == "" {
			n.Session = gr.Session
		}
		if n.Rule == "" {
			n.Rule = gr.Rule
		}
	}
	return n
}

// leftEvents are those that a session makes without anybody's decision.
var leftEvents = []string{
	login.EventSessionEnd, "session.locked", "session.unlocked", "recording.chunk", "recording.stopped", "transfer",
}

// takes tells whether a predecessor's note is one that it may make: of a session that lives, or a refusal.
func (n *leftNote) takes(live []login.Session) error {
	if n.Event == "access" && n.Result == login.Reject {
		return nil
	}
	if !slices.Contains(leftEvents, n.Event) || n.Result == login.Accept {
		return fmt.Errorf("an event %q with the result %q is not for a predecessor to make", n.Event, n.Result)
	}
	for _, s := range live {
		if s.ID == n.Session && s.Protocol == "ssh" && s.Person == n.Person {
			return nil
		}
	}
	return fmt.Errorf("there is no live session %q of %q", n.Session, n.Person)
}

// predecessor is the gateway that ran before this one, as far as it still has sessions.
type predecessor struct {
	mu    sync.Mutex
	kills chan killWish // nil: it is not connected
}

type killWish struct {
	Session string `json:"session"`
	Why     string `json:"why"`
}

// kill asks the predecessor to end a session, and reports whether it was there to be asked.
func (p *predecessor) kill(id, why string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kills == nil {
		return false
	}
	select {
	case p.kills <- killWish{id, why}:
		return true
	default:
		return false
	}
}

// maxKills bounds the wishes that wait for a predecessor.
const maxKills = 1024

// successionVerbs are what a predecessor asks of this gateway.
func (g *gateway) successionVerbs(p *predecessor) {
	admin.Handle(g.admin, "succession.note", func(ctx context.Context, n leftNote) (admin.Empty, error) {
		if err := n.takes(g.gate.Sessions()); err != nil {
			return admin.Empty{}, err
		}
		gr := login.Grant{Person: n.Person, Attempt: n.Attempt, Session: n.Session, Rule: n.Rule, Factors: n.Factors}
		_, err := g.gate.Note(ctx, login.Event{
			Event: n.Event, Result: n.Result, Reason: n.Reason, Session: n.Session, Rule: n.Rule, Grant: &gr, Detail: n.Detail,
			Attempt: login.Attempt{Protocol: "ssh", Source: n.Source, System: n.System, Account: n.Account},
		})
		return admin.Empty{}, err
	})
	admin.HandleStream(g.admin, "succession.watch", func(ctx context.Context, _ admin.Empty, w io.Writer) error {
		kills := make(chan killWish, maxKills)
		p.mu.Lock()
		p.kills = kills
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			p.kills = nil
			p.mu.Unlock()
			g.endLeft()
		}()
		enc := json.NewEncoder(w)
		if err := enc.Encode(killWish{}); err != nil { // so that the other end knows that it is heard
			return err
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case k := <-kills:
				if err := enc.Encode(k); err != nil {
					return err
				}
			}
		}
	})
}

// predecessorWait bounds the wait for a predecessor to say that it has sessions.
const predecessorWait = time.Minute

// endUnclaimed ends what a predecessor should have, if none has come.
func (g *gateway) endUnclaimed() {
	g.before.mu.Lock()
	connected := g.before.kills != nil
	g.before.mu.Unlock()
	if !connected {
		g.endLeft()
	}
}

// endLeft records the end of sessions whose gateway is gone, all but this one's own.
func (g *gateway) endLeft() {
	own := map[string]bool{}
	for _, s := range g.ssh.Sessions() {
		own[s.ID] = true
	}
	if err := g.gate.EndOrphans("ssh", func(id string) bool { return own[id] }); err != nil {
		g.slog.Error("the end of sessions that an earlier gateway had was not recorded", "error", err)
	}
}

// succession is a restart that was asked for.
type succession struct {
	keep time.Duration
	*spares
}

// Restarted is the answer to a wish for a restart: it is under way.
type Restarted struct {
	Sessions int       `json:"sessions"` // that stay with this gateway
	Until    time.Time `json:"until"`
}

// RestartIn is the wish.
type RestartIn struct {
	Keep time.Duration `json:"keep"`
}

// succeed begins a restart: stop ends this gateway's work.
func (g *gateway) succeed(ctx context.Context, in RestartIn) (Restarted, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if g.succession != nil || g.stop == nil {
		return Restarted{}, errors.New("a restart is under way")
	}
	if in.Keep < 0 || in.Keep > maxKeep {
		return Restarted{}, fmt.Errorf("sessions are kept up to %v", maxKeep)
	}
	s := &succession{keep: in.Keep, spares: &g.sockets.spares}
	if len(s.files) == 0 {
		return Restarted{}, errors.New("there is no socket to hand over")
	}
	// A configuration that the new gateway would refuse is found while this one still runs.
	cfg, err := (&cli{env: g.cli.env, configPath: g.config().File}).load()
	if err == nil {
		_, _, err = compile(cfg, g.slog)
	}
	if err != nil {
		return Restarted{}, err
	}
	detail := audit.Detail{Key: "keep", Value: in.Keep.String()}
	if err := g.admin.Record(ctx, "gateway.restart", audit.Info, "ok", detail); err != nil {
		return Restarted{}, err
	}
	g.succession = s
	r := Restarted{Sessions: len(g.ssh.Sessions()), Until: time.Now().Add(s.keep).UTC()}
	time.AfterFunc(answerFirst, g.stop)
	return r, nil
}

// answerFirst is how long the work goes on after the wish, so that whoever asked hears the answer.
const answerFirst = 50 * time.Millisecond

// handOver starts the successor, and keeps the sessions until they end, the deadline passes, or ctx ends. The data folder is free.
func (g *gateway) handOver(ctx context.Context, log *slog.Logger) error {
	s := g.succession
	deadline, cancel := context.WithTimeout(ctx, s.keep)
	defer cancel()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_ = g.ssh.Drain(deadline) // its error only says that the deadline has passed
	}()
	cmd, err := s.start()
	if err != nil {
		err = fmt.Errorf("the new gateway was not started: %w", err)
		g.through.found(nil, err)
		cancel()
		<-drained
		return err
	}
	s.close() // from here on, only the new gateway has them
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	socket, tidy, err := shortPath(g.paths.socket)
	if err != nil {
		g.through.found(nil, err)
		cancel()
		<-drained
		return err
	}
	defer func() { _ = tidy() }()
	remote := admin.NewClient(socket)
	defer remote.Close()
	if err := awaitSuccessor(ctx, remote, cmd.Process.Pid, ended); err != nil {
		g.through.found(nil, err)
		cancel()
		<-drained
		return err
	}
	notify("MAINPID=" + strconv.Itoa(cmd.Process.Pid))
	g.through.found(remote, nil)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		g.obey(deadline, remote)
	}()
	log.Info("the new gateway answers; this one keeps its SSH sessions", "sessions", len(g.ssh.Sessions()), "until", time.Now().Add(s.keep).UTC())
	<-drained
	cancel()
	<-watching
	log.Info("the last SSH session of the earlier gateway has ended")
	return nil
}

// start runs the binary that is there now, as this one was run, with the sockets.
func (s *succession) start() (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool {
		return strings.HasPrefix(a, "--listen-fds=") || strings.HasPrefix(a, "--listen-names=") || a == "--predecessor"
	})
	if i := slices.Index(args, "--listen-fds"); i >= 0 && i+1 < len(args) {
		args = slices.Delete(args, i, i+2)
	}
	args = append(args, "--listen-fds="+strconv.Itoa(len(s.files)), "--listen-names="+strings.Join(s.names, ","), "--predecessor")
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, s.files
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES": // they name this process
		default:
			cmd.Env = append(cmd.Env, kv)
		}
	}
	return cmd, cmd.Start()
}

// awaitSuccessor waits until the successor answers the commands.
func awaitSuccessor(ctx context.Context, remote *admin.Client, pid int, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, successorWait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the new gateway does not answer: %w", context.Cause(ctx))
		case err := <-ended:
			return fmt.Errorf("the new gateway ended: %v", err)
		case <-tick.C:
		}
		var s Status
		if err := remote.Call(ctx, "status", admin.Empty{}, &s); err == nil && s.PID == pid {
			return nil
		}
	}
}

// obey ends the sessions that the successor wants ended.
func (g *gateway) obey(ctx context.Context, remote *admin.Client) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(remote.Stream(ctx, "succession.watch", admin.Empty{}, w)) }()
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var k killWish
		if json.Unmarshal(lines.Bytes(), &k) == nil && k.Session != "" {
			g.ssh.Kill(k.Session, k.Why)
		}
	}
}

func (c *cli) restartCommand() *cobra.Command {
	in := RestartIn{Keep: keepFor}
	cmd := &cobra.Command{
		Use: "restart", Short: "Start the new binary in place of the running gateway, and keep SSH sessions", Args: cobra.NoArgs,
		Long: `Asks the running gateway to start the binary that is installed now, and to hand it its sockets: nothing that arrives meanwhile is
lost. SSH sessions stay with the old process until they end, at most for --keep; their ends and recordings are still on record, and
session kill reaches them. They open nothing new. Changes of rules do not reach them.`,
		Example: "  install -m 755 bin/sallyport /usr/local/bin/ && sallyport restart --keep 8h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in.Keep < 0 || in.Keep > maxKeep {
				return fmt.Errorf("--keep is %v: want up to %v", in.Keep, maxKeep)
			}
			return c.withDaemon(cmd, func(caller admin.Caller) error {
				var before, now Status
				if err := caller.Call(cmd.Context(), "status", admin.Empty{}, &before); err != nil {
					return err
				}
				var r Restarted
				if err := caller.Call(cmd.Context(), "restart", in, &r); err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(cmd.Context(), successorWait)
				defer cancel()
				for now.PID == before.PID || now.PID == 0 {
					select {
					case <-ctx.Done():
						return hintf("the log of the gateway says why", "the new gateway does not answer")
					case <-time.After(100 * time.Millisecond):
					}
					now = Status{}
					_ = caller.Call(ctx, "status", admin.Empty{}, &now) // it is not there yet
				}
				return c.say(r, "the gateway runs as process %d, version %s; %d SSH sessions stay with process %d until %s at the latest",
					now.PID, now.Version, r.Sessions, before.PID, day(r.Until))
			})
		},
	}
	cmd.Flags().DurationVar(&in.Keep, "keep", in.Keep, "how long the old process may keep SSH sessions")
	return cmd
}

// maxKeep bounds how long a predecessor may keep its sessions.
const maxKeep = 7 * 24 * time.Hour

var _ sshgw.Gate = (*switchGate)(nil)
