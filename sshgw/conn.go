package sshgw

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

// protocol is the records' word for this adapter.
const protocol = "ssh"

// How sessions and connections end, for the record.
const (
	endExit         login.Reason = "exit"          // the client closed
	endTargetClosed login.Reason = "target_closed" // the target closed first, be it in answer to the client's farewell
	endClientLost   login.Reason = "client_lost"   // the client's connection broke
	endKeepalive    login.Reason = "keepalive"     // the client no longer answered
	endIdle         login.Reason = "idle"          // nothing moved for the rule's idle time
	endMaxTime      login.Reason = "max_time"      // the rule's longest time was over
	endDrain        login.Reason = "drain"         // the gateway stops
	endKilled       login.Reason = "killed"        // an operator ended it
	endDialFailed   login.Reason = "dial_failed"   // the target could not be reached
	endUnused       login.Reason = "unused"        // no channel was open for Config.UnusedTimeout
	endRefusals     login.Reason = "too_many_refusals"
	endStuck        login.Reason = "channel_not_closed" // the client did not answer the closing of a channel
	endUnrecorded   login.Reason = "record_unavailable"
	endRecorder     login.Reason = "recorder_failed"    // what had to be recorded could not be (P10)
	endProtocol     login.Reason = "transfer_malformed" // a transfer broke its protocol
	endRules        login.Reason = "no_longer_permitted"
)

// maxRefusals ends a connection that asks for too much that it may not have, since each refusal is a record.
const maxRefusals = 256

// closeWait is how long a client may take to answer the closing of a channel before its connection is ended.
const closeWait = 10 * time.Second

type (
	newChannels    = <-chan ssh.NewChannel
	globalRequests = <-chan *ssh.Request
)

// conn is one client's connection, from accept to end.
type conn struct {
	srv      *Server
	settings *settings // of when it was accepted; channels use the newest
	wire     *wire
	source   netip.AddrPort
	log      *slog.Logger
	ctx      context.Context // ends with the connection
	cancel   context.CancelFunc
	wg       sync.WaitGroup // all of the connection's other goroutines

	// Touched only by the goroutine that runs the handshake, and not after it.
	auth         auth
	metadataUser string // the last user name that was claimed

	// Set when the login is accepted, before live; read only while it is true. log gets the person then.
	ssh    *ssh.ServerConn
	grant  login.Grant
	proved proof // the key that was proved; zero: none
	link   *link // to the target that the user name named; nil: it named none
	// enrolment is that of somebody who came with a ticket, instead of grant.
	enrolment login.Enrolment
	since     time.Time // of the login

	mu       sync.Mutex
	why      login.Reason // how the connection ended; empty: it lives
	channels int          // open or opening
	refusals int
	sessions map[*session]struct{}
	unused   *time.Timer
	live     bool // logged in and serving
	enrolled bool // the one session of an enrolment was opened
}

func newConn(s *Server, set *settings, raw net.Conn, source netip.AddrPort) *conn {
	c := &conn{
		srv: s, settings: set, wire: newWire(raw), source: source,
		log:      s.log.With("source", source.String()),
		sessions: make(map[*session]struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// close ends the connection at once; what hangs on it ends by itself.
func (c *conn) close() {
	c.cancel()
	c.wire.Close()
}

// serve runs an authenticated connection until it ends. What it started may still be ending.
func (c *conn) serve(chans newChannels, requests globalRequests) {
	c.mu.Lock()
	c.live = true
	c.watchUnused()
	c.mu.Unlock()
	defer newKeepalive(c).stop()
	if c.srv.isDraining() {
		c.end(endDrain, "") // it logged in while the draining began
	}
	serveBoth(chans, requests, func(nc ssh.NewChannel) {
		if c.ctx.Err() == nil { // else what still waits here is only drained
			c.open(nc)
		}
	}, c.answerRequest)
	c.end(c.lostReason(), "")
}

// serveBoth serves a connection's channel openings and global requests until both have ended, by one goroutine: there is one for
// each idle connection.
func serveBoth(chans newChannels, requests globalRequests, open func(ssh.NewChannel), answer func(*ssh.Request)) {
	for chans != nil || requests != nil {
		select {
		case nc, more := <-chans:
			if !more {
				chans = nil
				continue
			}
			open(nc)
		case r, more := <-requests:
			if !more {
				requests = nil
				continue
			}
			answer(r)
		}
	}
}

// run starts a goroutine of this connection.
func (c *conn) run(f func()) {
	c.wg.Go(func() {
		defer c.srv.crashed(c)
		f()
	})
}

// aside runs f in another goroutine and waits for it. What f needs of stack, which may be a lot, goes with that goroutine: the
// caller's would hardly shrink again, and a session would keep it. A panic ends the connection, and f has not done its work then.
func (c *conn) aside(f func()) {
	done := make(chan struct{})
	c.run(func() {
		defer close(done)
		f()
	})
	<-done
}

// lostReason says how a connection ended that we did not end.
func (c *conn) lostReason() login.Reason {
	if c.wire.broken.Load() {
		return endClientLost
	}
	return endExit
}

// end ends the connection and its sessions; the first reason stands.
func (c *conn) end(why login.Reason, detail string) {
	c.mu.Lock()
	first, live := c.why == "", c.live
	if first {
		c.why = why
	}
	why = c.why
	if c.unused != nil {
		c.unused.Stop()
	}
	sessions := c.listSessions()
	c.mu.Unlock()
	for _, s := range sessions {
		s.end(why, detail)
	}
	if first && live {
		c.log.Info("ssh connection ended", "reason", string(why))
	}
	c.close()
}

// drain ends the connection if it has no session, or lets it end with its last one.
func (c *conn) drain() {
	c.mu.Lock()
	live, busy := c.live, len(c.sessions) > 0
	c.mu.Unlock()
	switch {
	case !live:
		c.close()
	case !busy:
		c.end(endDrain, "")
	}
}

// listSessions is called with c.mu held.
func (c *conn) listSessions() []*session {
	list := make([]*session, 0, len(c.sessions))
	for s := range c.sessions {
		list = append(list, s)
	}
	return list
}

func (c *conn) appendSessions(list []*session) []*session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(list, c.listSessions()...)
}

func (c *conn) sessionCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)
}

// watchUnused begins the time that a connection may spend without channels. The caller holds c.mu.
func (c *conn) watchUnused() {
	if after := c.settings.UnusedTimeout; after > 0 && c.why == "" {
		if c.unused == nil {
			c.unused = time.AfterFunc(after, c.endIfUnused)
			return
		}
		c.unused.Reset(after)
	}
}

func (c *conn) endIfUnused() {
	c.mu.Lock()
	used := c.channels > 0
	c.mu.Unlock()
	if !used {
		c.end(endUnused, "")
	}
}

// takeChannel counts a channel that is about to open.
func (c *conn) takeChannel(most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.channels >= most {
		return false
	}
	c.channels++
	if c.unused != nil {
		c.unused.Stop()
	}
	return true
}

func (c *conn) giveChannel() {
	c.mu.Lock()
	c.channels--
	last := c.channels == 0
	if last {
		c.watchUnused()
	}
	c.mu.Unlock()
	if last && c.srv.isDraining() {
		c.end(endDrain, "")
	}
}

// answerRequest answers a global request, since an unanswered one stalls the connection (RFC 4254 section 4).
func (c *conn) answerRequest(r *ssh.Request) {
	ok := false
	switch r.Type {
	case "keepalive@openssh.com":
		ok = true
	case proveRequest:
		signatures, proved := c.proveHostKeys(r.Payload)
		if r.WantReply {
			_ = r.Reply(proved, signatures)
		}
		return
	case "tcpip-forward", "streamlocal-forward@openssh.com":
		if !c.recordRefusal(r.Type, login.ReasonCapability, login.Attempt{}) {
			return // the connection is ending; the rest is drained, or x/crypto/ssh would wait for us
		}
	}
	if r.WantReply {
		// An error means that the connection is gone, which ends the loop.
		_ = r.Reply(ok, nil)
	}
}

// open answers one channel opening. Refusals are made here, one after the other, so that a flood of openings is slowed
// by its own records.
func (c *conn) open(nc ssh.NewChannel) {
	if c.enrolment.Valid() {
		c.openEnrolment(nc)
		return
	}
	switch kind := nc.ChannelType(); kind {
	case "direct-tcpip", "session":
		serve := c.openTCP
		switch {
		case c.link != nil:
			serve = c.link.open
		case kind == "session":
			serve = c.front
		}
		c.serveChannel(nc, serve)
	default:
		c.refuseKind(nc)
	}
}

// serveChannel serves a channel opening, if there may be one more.
func (c *conn) serveChannel(nc ssh.NewChannel, serve func(ssh.NewChannel)) {
	if !c.takeChannel(c.srv.settings.Load().MaxChannels) {
		c.reject(nc, nc.ChannelType(), login.ReasonOverloaded, ssh.ResourceShortage, "Too many channels are open on this connection.")
		return
	}
	c.run(func() {
		defer c.giveChannel()
		serve(nc)
	})
}

// refuseKind refuses a channel of a kind that is served to nobody.
func (c *conn) refuseKind(nc ssh.NewChannel) {
	switch kind := nc.ChannelType(); kind {
	case "x11", "forwarded-tcpip", "direct-streamlocal@openssh.com", "forwarded-streamlocal@openssh.com", agentChannel, "tun@openssh.com":
		c.reject(nc, kind, login.ReasonCapability, ssh.Prohibited, sayNotServed)
	default:
		c.reject(nc, "other", login.ReasonCapability, ssh.UnknownChannelType, sayNotServed)
	}
}

// sayNotServed refuses everything else, to somebody who has logged in.
const sayNotServed = "This gateway serves shells, commands, files, jumps and permitted ports, and nothing else."

// reject records a refusal and then sends it.
func (c *conn) reject(nc ssh.NewChannel, kind string, why login.Reason, code ssh.RejectionReason, sentence string) {
	if c.recordRefusal(kind, why, login.Attempt{}) {
		// An error means that the connection is gone.
		_ = nc.Reject(code, sentence)
	}
}

// recordRefusal records that something was refused to the person who has logged in. When it returns false the
// connection has been ended, and nothing is to be answered (P3).
func (c *conn) recordRefusal(kind string, why login.Reason, a login.Attempt) bool {
	return c.recordRefusalOf(c.grant, kind, why, a)
}

// recordRefusalOf is recordRefusal for a login that may not be the connection's yet.
func (c *conn) recordRefusalOf(by login.Grant, kind string, why login.Reason, a login.Attempt) bool {
	c.srv.meter.Refused(kind, why)
	a.Detail = append(a.Detail, login.Detail{Key: "request", Value: kind})
	ev := login.Event{Event: "access", Result: login.Reject, Reason: why, Attempt: a, Grant: &by}
	if c.enrolment.Valid() {
		ev.Attempt.ID, ev.Attempt.Name, ev.Grant = c.enrolment.Attempt, c.enrolment.Person, nil
	}
	if !c.note(ev) {
		return false
	}
	return c.countRefusal()
}

func (c *conn) countRefusal() bool {
	c.mu.Lock()
	c.refusals++
	tooMany := c.refusals > maxRefusals
	c.mu.Unlock()
	if tooMany {
		c.end(endRefusals, "")
	}
	return !tooMany
}

// note records an event, and ends the connection when that fails.
func (c *conn) note(e login.Event) bool {
	e.Attempt.Protocol, e.Attempt.Source = protocol, c.source
	if _, err := c.srv.gate.Note(c.ctx, e); err != nil {
		c.log.Error("ssh event not recorded; ending the connection", "event", e.Event, "error", err)
		c.end(endUnrecorded, "")
		return false
	}
	return true
}
