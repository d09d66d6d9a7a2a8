package sshgw

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/login"
)

// session is what a person has open at a target: a jump, a forwarded port, or a shell, command or transfer.
type session struct {
	c       *conn
	target  *Target
	grant   login.Grant // Access's, with the session's id and bounds
	attempt login.Attempt
	started time.Time
	kind    string // jump, forward, shell, exec, sftp, ...
	want    wanted
	record  bool // it must be recorded
	agent   bool // the client offered its agent

	in, out atomic.Int64 // bytes from and to the client
	active  atomic.Int64 // when a byte last moved, in nanoseconds since started

	forced  atomic.Pointer[ending] // how somebody ended it
	natural atomic.Pointer[ending] // which side closed first
	cut     context.CancelFunc     // ends dialling and copying
	over    sync.Once
	limits  func() // stops watching for them

	// Touched only by the goroutine that serves the session.
	epilogue []login.Detail // further facts for the end record
}

// ending is why a session ended; detail is for the record.
type ending struct {
	why    login.Reason
	detail string
}

// begin records the session's start, and makes it known, so that it can be listed and ended. The context ends with the
// session. When it returns false the connection is ending.
func (s *session) begin(facts ...login.Detail) (context.Context, bool) {
	ctx, cancel := context.WithCancel(s.c.ctx)
	s.cut, s.limits = cancel, func() {}
	ev := s.event("session.start", login.Info, login.ReasonOK)
	ev.Detail = append(ev.Detail, facts...)
	if !s.c.note(ev) {
		cancel()
		return nil, false
	}
	s.c.mu.Lock()
	s.c.sessions[s] = struct{}{}
	over := s.c.why
	s.c.mu.Unlock()
	if over != "" {
		s.end(over, "") // the connection ended meanwhile, and did not know of this session
	}
	return ctx, true
}

// finish records the session's end, once. It is deferred, so that it also happens when something panics.
func (s *session) finish() {
	s.over.Do(func() {
		s.limits()
		s.recordEnd()
		s.c.mu.Lock()
		delete(s.c.sessions, s)
		s.c.mu.Unlock()
		s.cut()
	})
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
		Target: s.target.Name, Account: s.attempt.Account, Class: s.target.Class, Kind: s.kind, Started: s.started, BytesIn: s.in.Load(), BytesOut: s.out.Load(),
	}
}

// dialError is what is recorded of a failed dialling, which may name what no client should see.
func dialError(err error) string { return cut(strings.ToValidUTF8(err.Error(), "?"), maxDestination) }

// watchLimits ends the session at the rule's idle time and longest time, until finish.
func (s *session) watchLimits() {
	stop := func() {}
	if most := s.grant.Max; most > 0 {
		timer := time.AfterFunc(most-time.Since(s.started), func() { s.end(endMaxTime, "") })
		stop = func() { timer.Stop() }
	}
	idle := s.grant.Idle
	if idle <= 0 {
		s.limits = stop
		return
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
	s.limits = func() {
		stop()
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
	ev.Detail = append(ev.Detail, s.epilogue...)
	if e.detail != "" {
		ev.Detail = append(ev.Detail, login.Detail{Key: "cause", Value: cut(e.detail, maxDestination)})
	}
	s.c.note(ev)
	s.c.srv.meter.SessionEnded(e.why, in, out, lasted)
	s.c.log.Info("ssh session ended", "session", s.grant.Session, "target", s.target.Name, "reason", string(e.why), "bytes_in", in, "bytes_out", out)
}
