package sshgw

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

const (
	// dialTimeout bounds the wait for a target.
	dialTimeout = 10 * time.Second
	// maxDestination bounds, in bytes, what is recorded and repeated of a destination that a client asks for.
	maxDestination = 255
	// lingerAfterTarget is how long a client may go on sending to a target that has closed its side: no sshd does that,
	// and the client's end would not be noticed otherwise.
	lingerAfterTarget = time.Minute
	// unknownAccount is the account of an opaque jump: only client and target know it.
	unknownAccount = "unknown"
)

// directTCPIP is the payload of a direct-tcpip opening (RFC 4254 section 7.2).
type directTCPIP struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// sayRefused is the one sentence for targets that a person may not reach and for those that do not exist.
func sayRefused(destination string) string {
	return fmt.Sprintf("You may not reach %s through this gateway.", destination)
}

// spell makes a destination fit for a record and a sentence: bounded and printable.
func spell(host string, port uint32) string {
	host = cut(host, maxDestination)
	if quoted := strconv.QuoteToASCII(host); quoted != `"`+host+`"` {
		host = cut(quoted, maxDestination)
	}
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

// jump answers a direct-tcpip opening, in the steps that the package comment lists. It returns when the channel is
// closed on both sides.
func (c *conn) jump(nc ssh.NewChannel) {
	var dst directTCPIP
	if err := ssh.Unmarshal(nc.ExtraData(), &dst); err != nil {
		c.reject(nc, "direct-tcpip", login.ReasonNoTarget, ssh.ConnectionFailed, "A malformed channel opening.")
		return
	}
	destination := spell(dst.Host, dst.Port)
	target, known := c.srv.settings.Load().routes.Find(dst.Host, dst.Port)
	if !known {
		target = &Target{} // the Gate refuses a system without a name, and records that
	}
	a := login.Attempt{
		Protocol: protocol, Source: c.source, Account: unknownAccount, System: systemOf(target), Capability: login.MayShell,
		Detail: []login.Detail{{Key: "request", Value: "direct-tcpip"}, {Key: "destination", Value: destination}},
	}
	if c.srv.isDraining() {
		if c.recordRefusal("direct-tcpip", login.ReasonStopping, a) {
			_ = nc.Reject(ssh.ResourceShortage, "The gateway is stopping.")
		}
		return
	}
	o := c.srv.gate.Access(c.ctx, c.grant, a)
	if o.Unanswerable() {
		c.log.Error("ssh access not answered: no record could be made", "reason", string(o.Reason()))
		c.end(endUnrecorded, "")
		return
	}
	grant, ok := o.Accepted()
	if !ok || !grant.Valid() || !known {
		c.srv.meter.Refused("direct-tcpip", o.Reason())
		if c.countRefusal() {
			_ = nc.Reject(ssh.Prohibited, sayRefused(destination))
		}
		return
	}
	switch {
	case grant.Record, target.Jump == Recorded:
		c.rejectGranted(nc, grant, a, login.ReasonRecording,
			target.Name+" is reached only with a recording, and an end-to-end jump cannot be recorded.")
		return
	case target.Jump != Opaque:
		c.rejectGranted(nc, grant, a, login.ReasonCapability, target.Name+" is not reached by ssh -J.")
		return
	}
	s := &session{c: c, target: target, grant: grant, attempt: a, started: time.Now()}
	s.run(nc)
}

// rejectGranted refuses what the rules would allow: the person may know why.
func (c *conn) rejectGranted(nc ssh.NewChannel, grant login.Grant, a login.Attempt, why login.Reason, sentence string) {
	c.srv.meter.Refused("direct-tcpip", why)
	if c.note(login.Event{Event: "access", Result: login.Reject, Reason: why, Attempt: a, Grant: &grant}) && c.countRefusal() {
		_ = nc.Reject(ssh.Prohibited, sentence)
	}
}

func systemOf(t *Target) login.System {
	return login.System{Name: t.Name, Tags: t.Tags, Class: t.Class}
}

// session is one jump.
type session struct {
	c       *conn
	target  *Target
	grant   login.Grant // Access's, with the session's id and bounds
	attempt login.Attempt
	started time.Time

	in, out atomic.Int64 // bytes from and to the client
	active  atomic.Int64 // when a byte last moved, in nanoseconds since started

	forced  atomic.Pointer[ending] // how somebody ended it
	natural atomic.Pointer[ending] // which side closed first
	cut     context.CancelFunc     // ends dialling and copying
}

// ending is why a session ended; detail is for the record.
type ending struct {
	why    login.Reason
	detail string
}

// end ends the session; the first reason stands.
func (s *session) end(why login.Reason, detail string) {
	if why == endExit || why == endClientLost {
		s.closed(why) // after the target has closed first, the client's leaving is no news
	} else {
		s.forced.CompareAndSwap(nil, &ending{why, detail})
	}
	s.cut()
}

// closed notes which side closed first.
func (s *session) closed(why login.Reason) { s.natural.CompareAndSwap(nil, &ending{why: why}) }

// ended returns how the session ended.
func (s *session) ended() ending {
	for _, p := range []*ending{s.forced.Load(), s.natural.Load()} {
		if p != nil {
			return *p
		}
	}
	return ending{why: endExit}
}

func (s *session) info() SessionInfo {
	return SessionInfo{
		ID: s.grant.Session, Attempt: s.grant.Attempt, Person: s.grant.Person, Rule: s.grant.Rule, Source: s.c.source,
		Target: s.target.Name, Class: s.target.Class, Started: s.started, BytesIn: s.in.Load(), BytesOut: s.out.Load(),
	}
}

// run is the session's life from its start record to its end record.
func (s *session) run(nc ssh.NewChannel) {
	ctx, cancel := context.WithCancel(s.c.ctx)
	defer cancel()
	s.cut = cancel
	if !s.c.note(s.event("session.start", login.Info, login.ReasonOK)) {
		return
	}
	s.c.mu.Lock()
	s.c.sessions[s] = struct{}{}
	over := s.c.why
	s.c.mu.Unlock()
	if over != "" {
		s.end(over, "") // the connection ended meanwhile, and did not know of this session
	}
	defer func() {
		s.c.mu.Lock()
		delete(s.c.sessions, s)
		s.c.mu.Unlock()
	}()
	var once sync.Once
	end := func() { once.Do(s.recordEnd) }
	defer end() // also when something below panics

	dialling, stop := context.WithTimeout(ctx, dialTimeout)
	to, err := s.c.srv.dial(dialling, "tcp", s.target.Address)
	stop()
	if err != nil {
		if ctx.Err() == nil { // else somebody ended it, and said why
			s.end(endDialFailed, dialError(err))
		}
		end()
		_ = nc.Reject(ssh.ConnectionFailed, s.target.Name+" cannot be reached from the gateway.")
		return
	}
	defer to.Close()
	ch, requests, err := nc.Accept()
	if err != nil {
		s.closed(s.c.lostReason())
		return
	}
	s.copy(ctx, ch, requests, to)
}

// dialError is what is recorded of a failed dialling, which may name what no client should see.
func dialError(err error) string { return cut(strings.ToValidUTF8(err.Error(), "?"), maxDestination) }

// copy moves bytes both ways until both sides have closed or ctx ends. It returns when the client has confirmed the
// channel's end, or has been cut off for not doing so.
func (s *session) copy(ctx context.Context, ch ssh.Channel, requests <-chan *ssh.Request, to net.Conn) {
	gone := make(chan struct{}) // closed when the channel is closed on both sides
	s.c.run(func() {
		defer close(gone)
		ssh.DiscardRequests(requests)
	})
	// The window is shared by data and extended data, and is credited only for what is read.
	s.c.run(func() { discard(ch.Stderr()) })
	cutDone := make(chan struct{})
	stopCut := context.AfterFunc(ctx, func() {
		defer close(cutDone)
		to.Close()
		_ = ch.Close()
		// A write to a client that gives no window is woken by the client's closing only.
		s.c.await(gone)
	})
	stopLimits := s.watchLimits()

	inDone := make(chan struct{})
	s.c.run(func() {
		defer close(inDone)
		s.fromClient(ch, to)
	})
	s.toClient(ch, to)
	linger := time.NewTimer(lingerAfterTarget)
	select {
	case <-inDone:
	case <-ctx.Done():
	case <-linger.C:
	}
	linger.Stop()
	stopLimits()
	if !stopCut() {
		<-cutDone
	}
	to.Close()
	_ = ch.Close()
	s.c.await(gone)
	<-inDone
}

// await waits for a client to confirm the end of a channel, and ends its connection if it does not.
func (c *conn) await(gone <-chan struct{}) {
	timer := time.AfterFunc(closeWait, func() { c.end(endStuck, "") })
	defer timer.Stop()
	<-gone
}

// watchLimits ends the session at the rule's idle time and longest time, and returns what stops watching.
func (s *session) watchLimits() (stop func()) {
	stop = func() {}
	if most := s.grant.Max; most > 0 {
		timer := time.AfterFunc(most-time.Since(s.started), func() { s.end(endMaxTime, "") })
		stop = func() { timer.Stop() }
	}
	idle := s.grant.Idle
	if idle <= 0 {
		return stop
	}
	s.touch()
	idleCtx, cancel := context.WithCancel(s.c.ctx)
	var timer *time.Timer
	ready := make(chan struct{})
	timer = time.AfterFunc(idle, func() {
		<-ready
		left := idle - (time.Since(s.started) - time.Duration(s.active.Load()))
		switch {
		case idleCtx.Err() != nil:
		case left <= 0:
			s.end(endIdle, "")
		default:
			timer.Reset(left)
		}
	})
	close(ready)
	stopMax := stop
	return func() {
		stopMax()
		cancel()
		timer.Stop()
	}
}

// touch notes that a byte moved.
func (s *session) touch() { s.active.Store(int64(time.Since(s.started))) }

func (s *session) event(name string, result login.Result, why login.Reason) login.Event {
	return login.Event{
		Event: name, Result: result, Reason: why, Attempt: s.attempt, Session: s.grant.Session, Grant: &s.grant,
		Detail: []login.Detail{{Key: "address", Value: s.target.Address}},
	}
}

func (s *session) recordEnd() {
	e, lasted := s.ended(), time.Since(s.started)
	in, out := s.in.Load(), s.out.Load()
	result := login.Info
	if e.why == endDialFailed {
		result = login.Failed
	}
	ev := s.event("session.end", result, e.why)
	ev.Detail = append(ev.Detail,
		login.Detail{Key: "bytes_in", Value: strconv.FormatInt(in, 10)},
		login.Detail{Key: "bytes_out", Value: strconv.FormatInt(out, 10)},
		login.Detail{Key: "duration_ms", Value: strconv.FormatInt(lasted.Milliseconds(), 10)})
	if e.detail != "" {
		ev.Detail = append(ev.Detail, login.Detail{Key: "cause", Value: cut(e.detail, maxDestination)})
	}
	s.c.note(ev)
	s.c.srv.meter.SessionEnded(e.why, in, out, lasted)
	s.c.log.Info("ssh session ended", "session", s.grant.Session, "target", s.target.Name, "reason", string(e.why), "bytes_in", in, "bytes_out", out)
}
