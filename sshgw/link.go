package sshgw

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
	"sallyport/sshgw/relay"
	"sallyport/sshgw/transfer"
)

// link is an SSH connection on which a client opens sessions at one target: the client's own, when its user name names the
// target, or the inner one of a recorded jump. What is opened on it is decided like everything else, one by one.
type link struct {
	c       *conn
	ssh     ssh.Conn // the client's end; agents are reached through it
	name    string   // of the target, as the client gave it
	account string   // as the client gave it; empty: the target's own
	jump    bool     // a recorded jump
	mu      sync.Mutex
	grant   login.Grant // guarded by mu: by it, sessions are asked for
	steps   sync.Mutex  // held while somebody is asked for one more code

	askedFirst bool // touched only by the goroutine that authenticates

	up upstreams
}

// by is the login by which sessions are asked for: the connection's, or what a further code made of it.
func (l *link) by() login.Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grant
}

// startWait bounds the time from the opening of a session channel to the request that starts something.
const startWait = time.Minute

// open answers one channel opening. It returns when the channel is closed.
func (l *link) open(nc ssh.NewChannel) {
	if nc.ChannelType() == "session" {
		l.session(nc)
		return
	}
	l.forward(nc)
}

// target finds the link's target in the configuration of now.
func (l *link) target() (*Target, bool) {
	if t, ok := l.c.srv.settings.Load().routes.ByName(l.name); ok {
		return t, true
	}
	return &Target{}, false
}

// accountAt is who the client is to be at the target.
func (l *link) accountAt(t *Target) string {
	if l.account != "" {
		return l.account
	}
	return t.Account
}

// session answers a session channel. It returns when the channel is closed.
func (l *link) session(nc ssh.NewChannel) {
	var r *running
	l.c.aside(func() { r = l.start(nc) })
	if r != nil {
		r.relay()
	}
}

// start gathers what the client wants, asks the Gate, and logs in at the target. When it returns nil the channel is closed.
func (l *link) start(nc ssh.NewChannel) *running {
	c := l.c
	ch, requests, err := nc.Accept()
	if err != nil {
		return nil
	}
	start, ok := c.gather(ch, requests, l.offered)
	if !ok {
		return nil
	}
	held := relay.Hold(requests, &start, c.run)
	defer held.Release()
	t, known := l.target()
	if known && start.PTY != nil && l.needsStepUp(t) {
		_ = l.stepUp(t, challengeAt(l.asker(ch, &start))) // the Gate says no for the record, where it failed
	}
	s, sentence := l.permitted(&start, held)
	if s == nil {
		held.Release()
		c.refuseStart(ch, requests, &start, sentence)
		return nil
	}
	return l.begin(s, ch, requests, &start, held)
}

// gather takes what a client asks for before its session starts. When it returns false the channel is closed.
func (c *conn) gather(ch ssh.Channel, requests <-chan *ssh.Request, extra func(kind string) bool) (start relay.Start, ok bool) {
	late := make(chan struct{})
	timer := time.AfterFunc(startWait, func() {
		defer close(late)
		_ = ch.Close()
	})
	stuck := time.AfterFunc(startWait+closeWait, func() { c.end(endStuck, "") }) // a client that does not answer the closing
	start = relay.Gather(requests, extra)
	stuck.Stop()
	if !timer.Stop() {
		<-late
		start.Kind = ""
	}
	if start.Kind == "" {
		c.shut(ch, requests)
		return start, false
	}
	return start, true
}

// offered answers what a client offers before its session starts. An agent is taken when the rules let it reach the target,
// or when the gateway itself is to use it there.
func (l *link) offered(kind string) bool {
	if kind == agentRequest {
		t, known := l.target()
		if known && l.c.permitsAny(l.by(), t) && (t.Credential == CredentialAgent || t.Credential == "" || l.permits(t, login.MayAgent)) {
			return true
		}
	}
	// When the connection is ending instead, the channel ends with it.
	_ = l.c.recordRefusal(kind, login.ReasonCapability, login.Attempt{})
	return false
}

// wanted is what a session is, for the rules and the record.
type wanted struct {
	kind    string // shell, exec, sftp, scp, rsync, subsystem
	may     login.Capability
	rights  transfer.Rights
	command *transfer.Command // scp and rsync
	sftp    bool
}

// want finds out which capability a session needs. Files may be moved by whoever has sftp, or the right of their direction;
// whoever may run any command may move files both ways anyhow.
func (l *link) want(t *Target, start *relay.Start) wanted {
	both := transfer.Rights{Upload: true, Download: true}
	switch start.Kind {
	case "shell":
		return wanted{kind: "shell", may: login.MayShell, rights: both}
	case "subsystem":
		if start.Command != "sftp" {
			return wanted{kind: "subsystem", may: login.MayExec, rights: both}
		}
		return l.wantSFTP(t)
	}
	cmd, is := transfer.ParseCommand(start.Command)
	if !is || start.PTY != nil {
		return wanted{kind: "exec", may: login.MayExec, rights: both}
	}
	if cmd.Kind == transfer.KindSFTPServer {
		w := l.wantSFTP(t)
		if w.may == login.MaySFTP && !l.permits(t, login.MaySFTP) && l.permits(t, login.MayExec) {
			w.may, w.rights = login.MayExec, both
		}
		return w
	}
	w := wanted{kind: string(cmd.Kind), may: login.MayExec, rights: both, command: &cmd}
	if l.permits(t, login.MayExec) {
		return w
	}
	w.rights = cmd.Direction.Needs()
	w.may = login.MaySFTP
	if !l.permits(t, login.MaySFTP) {
		w.may = login.MayDownload
		if w.rights.Upload {
			w.may = login.MayUpload
		}
	}
	return w
}

// wantSFTP is what an SFTP session is, with the rights that the rules give.
func (l *link) wantSFTP(t *Target) wanted {
	w := wanted{kind: "sftp", may: login.MaySFTP, rights: transfer.Rights{Upload: true, Download: true}, sftp: true}
	if l.permits(t, login.MaySFTP) {
		return w
	}
	rights := transfer.Rights{Upload: l.permits(t, login.MayUpload), Download: l.permits(t, login.MayDownload)}
	switch {
	case rights.Download:
		w.may, w.rights = login.MayDownload, rights
	case rights.Upload:
		w.may, w.rights = login.MayUpload, rights
	}
	return w
}

// permits tells whether the rules let the person do something at a target, without a record: it opens nothing.
func (l *link) permits(t *Target, may login.Capability) bool {
	why := l.c.srv.gate.Foresee(l.by(), systemOf(t), may)
	return why == login.ReasonOK || why == login.ReasonStepUp
}

// permitted asks the Gate for a session. When it returns none, the sentence is for the client; empty: the connection is
// ending.
func (l *link) permitted(start *relay.Start, held *relay.Held) (*session, string) {
	c := l.c
	t, known := l.target()
	w := l.want(t, start)
	account := l.accountAt(t)
	a := c.attemptAt(t, account, w.may)
	a.Detail = []login.Detail{{Key: "request", Value: w.kind}, {Key: "terminal", Value: terminalOf(held)}}
	if start.Command != "" {
		a.Detail = append(a.Detail, login.Detail{Key: "command", Value: cut(start.Command, maxCommand)})
	}
	if w.sftp || w.command != nil {
		// Whoever may move files may not thereby set what the target's programs load or run (BASH_ENV, LD_PRELOAD).
		start.Env = slices.DeleteFunc(start.Env, func(e relay.Env) bool { return e.Name != "LANG" && !strings.HasPrefix(e.Name, "LC_") })
	}
	if len(start.Env) > 0 {
		a.Detail = append(a.Detail, login.Detail{Key: "environment", Value: cut(namesOf(start.Env), maxCommand)})
	}
	if !known {
		a.Detail = append(a.Detail, login.Detail{Key: "destination", Value: spellName(l.name)})
	}
	grant, v, why := c.access(w.kind, l.by(), a)
	switch v {
	case over:
		return nil, ""
	case stopped:
		return nil, "The gateway is stopping."
	case refused:
		switch why {
		case login.ReasonStepUp:
			return nil, t.Name + " wants one more code: " + sayStepUp
		case login.ReasonTrustOver:
			return nil, t.Name + " wants a login with password and code: this one leaned on an earlier one. Log in without your key (ssh -o PubkeyAuthentication=no)."
		}
		if known && c.permitsAny(l.by(), t) {
			return nil, fmt.Sprintf("You may not do this at %s: %s is not permitted to you there.", t.Name, w.may)
		}
		return nil, sayRefused(spellName(l.name))
	}
	deny := func(why login.Reason, sentence string) (*session, string) {
		if !c.refuseGranted(w.kind, grant, a, why) {
			return nil, ""
		}
		return nil, sentence
	}
	if b := grant.Bound; b != nil && (start.Kind != "exec" || start.Command != b.Command || start.PTY != nil || start.Agent) {
		return deny(login.ReasonBinding, "This key runs one command here, without a terminal, and nothing else.")
	}
	if account == "" {
		return deny(ReasonAccount, fmt.Sprintf("%s has no account of its own here: name one, as in PERSON@ACCOUNT@%s.", t.Name, t.Name))
	}
	if !t.Permits(account) {
		return deny(ReasonAccount, fmt.Sprintf("The account %s at %s is not reached through this gateway.", printable(account), t.Name))
	}
	s := &session{c: c, target: t, grant: grant, attempt: a, started: time.Now(), kind: w.kind, want: w}
	s.record, s.agent = l.mustRecord(t, grant), start.Agent
	return s, ""
}

// ReasonAccount is the records' word for an account that a target is not reached as.
const ReasonAccount login.Reason = "account_not_served"

// permitsAny tells whether the person may do anything over SSH at a target.
func (c *conn) permitsAny(by login.Grant, t *Target) bool {
	l := &link{c: c, grant: by}
	for _, may := range []login.Capability{login.MayShell, login.MayExec, login.MaySFTP, login.MayUpload, login.MayDownload, login.MayForward} {
		if l.permits(t, may) {
			return true
		}
	}
	return false
}

// maxCommand bounds, in bytes, what is recorded of a command.
const maxCommand = 3500

func terminalOf(held *relay.Held) string {
	p, ok := held.Size()
	if !ok {
		return "none"
	}
	return cut(p.Term, maxClientVersion) + " " + strconv.Itoa(int(p.Cols)) + "x" + strconv.Itoa(int(p.Rows))
}

// namesOf lists the names of variables; their values may be anything.
func namesOf(env []relay.Env) string {
	var all []string
	for _, e := range env {
		all = append(all, printable(e.Name))
	}
	return strings.Join(all, " ")
}

// spellName makes a name that a client gave fit for a record and a sentence.
func spellName(name string) string { return cut(printable(name), maxDestination) }

// printable shows a text that a client gave, on one line.
func printable(s string) string {
	if quoted := strconv.QuoteToASCII(s); quoted != `"`+s+`"` {
		return quoted
	}
	return s
}

// running is a session of which the target has started what the client wants.
type running struct {
	*session
	l              *link
	ctx            context.Context // ends with the session
	tape           *tape
	up             *upstream
	start          *relay.Start
	client, target relay.Side
}

// begin is a session's life from its start record until it runs. When it returns nil the session is over, and the channel closed.
func (l *link) begin(s *session, ch ssh.Channel, requests <-chan *ssh.Request, start *relay.Start, held *relay.Held) (r *running) {
	c := l.c
	defer held.Release()
	tape, facts, err := s.startTape(start, held)
	if err != nil { // P10
		held.Release()
		s.refuseUntaped(ch, requests, start, err)
		return nil
	}
	ctx, ok := s.begin(facts...)
	if !ok {
		tape.finish(s)
		held.Release()
		c.shut(ch, requests)
		return nil
	}
	defer func() {
		if r == nil {
			tape.finish(s)
			s.finish()
		}
	}()
	start.Agent = start.Agent && l.permits(s.target, login.MayAgent)
	up, to, from, err := l.openSession(ctx, s, l.asker(ch, start))
	if err != nil {
		if ctx.Err() == nil {
			s.end(endDialFailed, dialError(err))
		}
		tape.finish(s)
		s.finish()
		held.Release()
		c.refuseStart(ch, requests, start, sayUnreached(s.target, err))
		return nil
	}
	defer func() {
		if r == nil {
			_ = to.Close()
			l.up.release(up)
		}
	}()
	if up.session != s.grant.Session {
		s.epilogue = append(s.epilogue, login.Detail{Key: "connected_in", Value: up.session})
	}
	if start.Agent {
		l.up.mu.Lock()
		up.agent = true
		l.up.mu.Unlock()
	}
	started, terminal, err := start.AtTarget(to, held)
	if err != nil || !started {
		s.end(endDialFailed, "the target did not start it")
		held.Release()
		_ = to.Close()
		c.run(func() { ssh.DiscardRequests(from) })
		c.run(func() { c.srv.buffers.Discard(to) })
		c.run(func() { c.srv.buffers.Discard(to.Stderr()) })
		c.refuseStart(ch, requests, start, fmt.Sprintf("%s did not start what you asked for.", s.target.Name))
		return nil
	}
	if !terminal {
		_, _ = fmt.Fprintf(ch.Stderr(), "%s gave no terminal.\r\n", s.target.Name)
	}
	start.Answer(true)
	held.Release()
	s.watchLimits()
	return &running{
		session: s, l: l, ctx: ctx, tape: tape, up: up, start: start,
		client: relay.Side{Channel: ch, Requests: requests}, target: relay.Side{Channel: to, Requests: from},
	}
}

// refuseUntaped refuses a session that cannot be recorded.
func (s *session) refuseUntaped(ch ssh.Channel, requests <-chan *ssh.Request, start *relay.Start, err error) {
	c := s.c
	c.log.Error("ssh session refused, since it cannot be recorded", "session", s.grant.Session, "error", err)
	s.attempt.Detail = append(s.attempt.Detail, login.Detail{Key: "cause", Value: dialError(err)})
	if !c.refuseGranted(s.kind, s.grant, s.attempt, login.ReasonRecording) {
		c.shut(ch, requests)
		return
	}
	c.refuseStart(ch, requests, start, "This session has to be recorded, and the recording could not be started. Tell whoever runs this gateway.")
}

// relay passes the session through until it ends, and records that.
func (r *running) relay() {
	s := r.session
	defer s.finish()
	defer r.tape.finish(s)
	defer r.l.up.release(r.up)
	defer r.target.Channel.Close()
	way := &relay.Session{
		Client: r.client, Target: r.target, Buffers: &s.c.srv.buffers, Run: s.c.run, CloseWait: closeWait,
		Input: s.countIn(r.tape.input()), Output: s.countOut(r.tape.output()), Errors: s.countOut(r.tape.errors()),
		Resized: r.tape.resize,
		Ask:     r.l.asked,
		Stuck: func(client bool) {
			if client {
				s.c.end(endStuck, "")
			} else {
				r.up.close()
			}
		},
	}
	evidence := s.watchFiles(way)
	defer evidence()
	lock := r.l.lockWhenIdle(r.ctx, s, way, r.start)
	stopTape := r.tape.watch(s)
	exit := way.Serve(r.ctx)
	lock.stop()
	stopTape()
	evidence()
	r.ended(exit)
}

// ended notes how the program ended.
func (r *running) ended(exit relay.Exit) {
	s := r.session
	switch {
	case exit.Err != nil && isTapeError(exit.Err):
		s.end(endRecorder, dialError(exit.Err))
	case exit.Err != nil:
		s.end(endProtocol, dialError(exit.Err))
	case exit.Status != nil:
		s.closed(endExit)
		s.epilogue = append(s.epilogue, login.Detail{Key: "exit_status", Value: strconv.FormatUint(uint64(*exit.Status), 10)})
	case exit.Signal != "":
		s.closed(endExit)
		s.epilogue = append(s.epilogue, login.Detail{Key: "exit_signal", Value: cut(exit.Signal, maxClientVersion)})
	case exit.ByClient:
		s.closed(s.c.lostReason())
	default:
		s.closed(endTargetClosed)
	}
	if r.tape != nil {
		r.tape.exit = exitWord(exit)
	}
}

func exitWord(e relay.Exit) string {
	switch {
	case e.Status != nil:
		return strconv.FormatUint(uint64(*e.Status), 10)
	case e.Signal != "":
		return "SIG" + cut(e.Signal, maxClientVersion)
	default:
		return ""
	}
}

// asked tells which requests of a running session are passed on: those about a terminal and a program, and no second start.
func (l *link) asked(r *ssh.Request) bool {
	switch r.Type {
	case "window-change", "signal", "break", "eow@openssh.com", "xon-xoff":
		return true
	case agentRequest, "x11-req":
		_ = l.c.recordRefusal(r.Type, login.ReasonCapability, login.Attempt{})
	}
	return false
}

func (s *session) countIn(next relay.Tap) relay.Tap {
	return func(p []byte, forward relay.Forward) error {
		s.in.Add(int64(len(p)))
		s.touch()
		if next != nil {
			return next(p, forward)
		}
		return forward(p)
	}
}

func (s *session) countOut(next relay.Tap) relay.Tap {
	return func(p []byte, forward relay.Forward) error {
		s.out.Add(int64(len(p)))
		s.touch()
		if next != nil {
			return next(p, forward)
		}
		return forward(p)
	}
}

// shut closes a channel of which nothing more is to be said, and returns when it is closed on both sides.
func (c *conn) shut(ch ssh.Channel, requests <-chan *ssh.Request) {
	gone := make(chan struct{})
	c.run(func() {
		defer close(gone)
		ssh.DiscardRequests(requests)
	})
	c.closeChannel(ch, gone)
}

// closeChannel closes a channel, and returns when it is closed on both sides. The time is counted from before the closing, which is a
// write that a client holds up who reads nothing.
func (c *conn) closeChannel(ch ssh.Channel, gone <-chan struct{}) {
	timer := time.AfterFunc(closeWait, func() { c.end(endStuck, "") })
	defer timer.Stop()
	_ = ch.Close()
	<-gone
}

// answer gives a client some text as its command's output, and exit status 0.
func (c *conn) answer(ch ssh.Channel, requests <-chan *ssh.Request, start *relay.Start, text string) {
	start.Answer(true)
	c.discardAll(ch, requests, func() { c.sayAndLeave(ch, start, text, ch.Write, 0) })
}

// discardAll runs say while what the client still sends is thrown away, closes the channel, and returns when it is closed on both
// sides.
func (c *conn) discardAll(ch ssh.Channel, requests <-chan *ssh.Request, say func()) {
	gone := make(chan struct{})
	c.run(func() {
		defer close(gone)
		ssh.DiscardRequests(requests)
	})
	c.run(func() { c.srv.buffers.Discard(ch) })
	c.run(func() { c.srv.buffers.Discard(ch.Stderr()) })
	say()
	c.closeChannel(ch, gone)
}

// refuseStart tells a client why nothing starts, in the way that programs show: the start is granted for show, the sentence
// comes as error output, and the exit status is 1. An empty sentence says nothing, and closes.
func (c *conn) refuseStart(ch ssh.Channel, requests <-chan *ssh.Request, start *relay.Start, sentence string) {
	if sentence == "" {
		c.shut(ch, requests)
		return
	}
	start.Answer(true)
	write := ch.Stderr().Write
	if start.Kind == "shell" { // what comes to a terminal is read there
		write = ch.Write
	}
	c.discardAll(ch, requests, func() { c.sayAndLeave(ch, start, sentence+"\n", write, 1) })
}

// sayUnreached is what a person is told of a target that could not be logged in to.
func sayUnreached(t *Target, err error) string {
	if said := outboundSentence(err); said != "" {
		return t.Name + ": " + said
	}
	return t.Name + " cannot be reached from the gateway."
}

// sayAndLeave writes a text and an exit status. A shell reads sentences as output; commands and subsystems, whose output programs
// read, have them as error output.
func (c *conn) sayAndLeave(ch ssh.Channel, start *relay.Start, text string, write func([]byte) (int, error), status uint32) {
	if start.PTY != nil {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	// A client that gives no window would keep us here: closing the channel does not wake the write, ending the
	// connection does.
	timer := time.AfterFunc(closeWait, func() { c.end(endStuck, "") })
	defer timer.Stop()
	if _, err := write([]byte(text)); err != nil {
		return
	}
	// An error means that the channel is gone.
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&struct{ Status uint32 }{status}))
}
