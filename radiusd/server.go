package radiusd

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

const (
	// DefaultWorkers is how many requests are judged at once. A worker mostly waits, for the log or for a password
	// check, so there are far more of them than processors: as many as requests may share one write of the log.
	DefaultWorkers = 512
	// DefaultQueue is how many requests wait for a worker in each of the two lanes: about a second's work. A NAS gives up
	// on older ones anyhow.
	DefaultQueue = 2048
	// drainFor is how long decisions may go on after Serve was told to end. NAS wait some 5 s.
	drainFor = 5 * time.Second
	// statusPerSecond bounds the answers to Status-Server for each client (RFC 5997 section 4.2).
	statusPerSecond = 50
	// maxPause is the longest rest of the reader between errors of its socket.
	maxPause = time.Second
)

// Gate decides. Its methods are called concurrently, and return when the record of the decision is durable or cannot
// be made so; the outcome is then unanswerable. *login.Gate is one.
type Gate interface {
	Decide(ctx context.Context, a login.Attempt) login.Outcome
	Begin(ctx context.Context, a login.Attempt) login.Outcome
	Finish(ctx context.Context, p login.Progress, a login.Attempt) login.Outcome
	Refuse(ctx context.Context, a login.Attempt, why login.Reason) login.Outcome
}

// Asker is a Gate that can also decide without waiting for the record. Where it can, requests that need no password
// checked are judged by whoever read them, and answered many at a time. *login.Gate is one.
type Asker interface {
	Ask(a login.Attempt) login.Asked
	AskFinish(p login.Progress, a login.Attempt) login.Asked
	AskRefuse(a login.Attempt, why login.Reason) login.Asked
}

// Box seals State. All gateways that may see each other's challenges hold the same keys. It is called concurrently.
type Box interface {
	Seal(dst, aad, plain []byte) []byte
	Open(aad, sealed []byte) ([]byte, error)
}

// Options are what a Server is made of. Gate, Box, Now and Log are needed.
type Options struct {
	Gate  Gate
	Box   Box
	Now   func() time.Time
	Log   *slog.Logger
	Meter Meter
	// Ready tells whether logins can be decided. While it returns an error, Status-Server gets no answer, so that NAS
	// ask another server (RFC 5997 section 4.2). Nil: always ready.
	Ready func() error

	Workers       int    // 0: DefaultWorkers
	Queue         int    // 0: DefaultQueue
	ReceiveBuffer int    // bytes for each socket; 0: DefaultReceiveBuffer
	Node          string // this gateway's name, told in answers to Status-Server
}

// Server answers RADIUS requests. SetConfig may be called at any time; Serve once for each socket, any number of them
// at the same time.
type Server struct {
	gate  Gate
	asker Asker // the gate, if it is one
	box   Box
	now   func() time.Time
	log   *slog.Logger
	meter Meter
	ready func() error

	workers, queueSize, receiveBuffer int
	status                            string // Reply-Message to Status-Server

	start     time.Time
	cache     *replyCache
	strangers strangers
	requests  sync.Pool // of *request
	tools     sync.Pool // of *toolbox

	configure sync.Mutex // held while settings are replaced
	settings  atomic.Pointer[settings]

	mu      sync.Mutex // guards the rest
	serving int        // calls of Serve
	queue   *queue     // while serving > 0
	lastID  uint32     // of listeners
}

// request is a datagram on its way from the socket to its answer. Whoever holds it owns it alone.
type request struct {
	facts
	control [maxControl]byte
	buf     [wire.MaxPacket]byte
}

// facts is what is known of a request beside its bytes. It is cleared when the request's memory is used again.
type facts struct {
	listener   *listener
	src        netip.AddrPort // as the socket gave it
	to         *net.UDPAddr   // the same, for answers
	from       netip.AddrPort // the same without v4-in-v6 mapping
	received   time.Time
	n          int
	controlLen int

	client   *client
	settings *settings // those that the client was found in, so that one request sees one configuration
	packet   []byte    // buf without padding
	view     wire.View
	entry    *cached
	lane     lane
	opened   bool // the State is one of ours, and holds progress
	progress login.Progress
	detail   [4]login.Detail
	asked    login.Asked // judged already; the outcome follows
}

// toolbox is what making a reply needs.
type toolbox struct {
	*wire.Digester
	buf [wire.MaxPacket]byte
}

// NewServer makes a Server that knows no clients: SetConfig tells it. It starts nothing.
func NewServer(o Options) *Server {
	s := &Server{
		gate: o.Gate, box: o.Box, now: o.Now, log: o.Log, meter: o.Meter, ready: o.Ready,
		workers: o.Workers, queueSize: o.Queue, receiveBuffer: o.ReceiveBuffer,
		status: "Sallyport", start: o.Now(), cache: newReplyCache(),
	}
	s.asker, _ = o.Gate.(Asker)
	if s.meter == nil {
		s.meter = noMeter{}
	}
	if s.ready == nil {
		s.ready = func() error { return nil }
	}
	if s.workers <= 0 {
		s.workers = DefaultWorkers
	}
	if s.queueSize <= 0 {
		s.queueSize = DefaultQueue
	}
	if s.receiveBuffer <= 0 {
		s.receiveBuffer = DefaultReceiveBuffer
	}
	if o.Node != "" {
		s.status += " " + o.Node
	}
	s.requests.New = func() any { return new(request) }
	s.tools.New = func() any { return &toolbox{Digester: wire.NewDigester()} }
	s.settings.Store(new(settings))
	return s
}

// SetConfig replaces clients and replies at once. Requests that are under way end by what they began with. When c has
// mistakes, they are returned, and what is in force stays.
func (s *Server) SetConfig(c *Config) error {
	s.configure.Lock()
	defer s.configure.Unlock()
	set, err := c.ready(s.settings.Load())
	if err != nil {
		return fmt.Errorf("radius configuration: %w", err)
	}
	s.settings.Store(set)
	return nil
}

// Serve answers what comes in on conn until ctx ends. It then reads no more, answers the requests that it has taken,
// and returns nil; an error means that the socket cannot be served. It takes conn over, and closes it.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	if fips140.Enforced() {
		return errors.New("RADIUS over UDP is made of MD5, which GODEBUG=fips140=only forbids")
	}
	ln, err := openListener(conn, func(c *client, to netip.Addr, err error) {
		s.drop(c, dropSend, to, "err", err)
	})
	if err != nil {
		return err
	}
	defer ln.close()
	if got, err := ln.raiseReceiveBuffer(s.receiveBuffer); err != nil || got < min(burstBuffer, s.receiveBuffer) {
		s.log.Warn("radius receive buffer is small, bursts may be lost", "addr", ln.addr.String(), "bytes", got,
			"err", err, "hint", fmt.Sprintf("sysctl net.core.rmem_max=%d", s.receiveBuffer))
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ln.ctx = work
	q := s.enter(ln)
	defer s.leave()
	b := newReader(s, ln, q)
	defer b.close()
	err = b.run(ctx)

	impatience := time.AfterFunc(drainFor, cancel)
	ln.pending.Wait()
	impatience.Stop()
	return err
}

// enter makes the queue with the first Serve.
func (s *Server) enter(ln *listener) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving == 0 {
		s.queue = newQueue(s.workers, s.queueSize, s.handle)
	}
	s.serving++
	s.lastID++
	ln.id = s.lastID
	return s.queue
}

// leave ends the workers with the last Serve. Nothing waits for them any more.
func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving--
	if s.serving == 0 {
		s.queue.close()
		s.queue = nil
	}
}

// admit takes a datagram through the steps before judgement (see the package comment). It reports whether the request's
// memory is still in use: it went to a worker, or was asked about.
func (b *reader) admit(r *request) (given bool) {
	defer func() {
		if p := recover(); p != nil && !given {
			b.panicked(r, p)
		}
	}()
	why := b.screen(r, b.tools)
	switch {
	case why != dropNone:
	case r.packet[0] == wire.CodeStatusServer:
		why = b.answerStatus(r, b.tools)
	default:
		given, why = b.enqueue(r)
	}
	if why != dropNone {
		b.drop(r.client, why, r.from.Addr())
	}
	return given
}

// screen takes the steps that need no more than the packet and the configuration.
func (s *Server) screen(r *request, tools *toolbox) dropReason {
	r.settings = s.settings.Load()
	c := r.settings.lookup(r.from.Addr())
	if c == nil {
		return dropUnknownClient
	}
	r.client = c
	var problem wire.Problem
	if r.packet, problem = wire.Header(r.buf[:r.n]); problem != wire.None {
		return dropOf(problem)
	}
	if code := r.packet[0]; code != wire.CodeAccessRequest && code != wire.CodeStatusServer {
		return dropCode
	}
	v := &r.view
	if problem = v.Parse(r.packet); problem != wire.None {
		return dropOf(problem)
	}
	t := c.tally
	if v.MessageAuth.Present() {
		if !tools.Verified(c.key, r.packet, v.MessageAuth.At()) {
			return dropAuthBad
		}
		t.withAuth.Add(1)
	} else {
		t.withoutAuth.Add(1)
		if c.RequireMessageAuthenticator || r.packet[0] == wire.CodeStatusServer { // RFC 5997 section 3
			return dropAuthMissing
		}
		if c.LimitProxyState && v.ProxyStates > 0 {
			return dropProxyLimited
		}
	}
	t.lastSeen.Store(r.received.UnixNano())
	return dropNone
}

// enqueue looks for the request in the reply cache. When it is new, it is asked about at once, or queued for a worker.
func (b *reader) enqueue(r *request) (given bool, why dropReason) {
	c, v := r.client, &r.view
	key := cacheKey{src: r.src, listener: r.listener.id, id: r.packet[1], code: r.packet[0]}
	entry, resend, why := b.cache.begin(key, r.packet, c.tally, r.received.Sub(b.start), b.tools.buf[:0])
	if why != dropNone {
		return false, why
	}
	if entry == nil {
		c.tally.resends.Add(1)
		b.meter.Resend(c.Name)
		b.ln.out.put(r, resend)
		return false, dropNone
	}
	r.entry = entry
	c.tally.requests.Add(1)
	if v.ProxyStates > 0 {
		c.tally.proxyState.Add(1)
	}
	if !v.NASIP.Present() && !v.NASID.Present() && !v.NASIPv6.Present() {
		c.tally.withoutNAS.Add(1)
	}
	r.lane, r.opened = laneFirst, false
	if v.State.Present() {
		if r.progress, r.opened = b.openState(c, v.State.In(r.packet)); r.opened {
			r.lane = laneSecond
		}
	}
	if asked, ok := b.ask(r, b.tools.Digester); ok {
		r.asked = asked
		b.ln.pending.Add(1)
		b.asked = append(b.asked, r)
		return true, dropNone
	}
	b.ln.pending.Add(1)
	depth, ok := b.queue.push(r) // from here on r is the worker's
	if !ok {
		b.ln.pending.Done()
		b.cache.abort(entry)
		r.entry = nil
		return false, dropOverloaded
	}
	b.meter.QueueDepth(depth)
	return true, dropNone
}

// answerStatus answers Status-Server (RFC 5997): is the server alive? No person is looked up and no login recorded.
func (s *Server) answerStatus(r *request, tools *toolbox) dropReason {
	c := r.client
	if !c.StatusServer {
		return dropStatusOff
	}
	if !c.tally.mayAnswerStatus(r.received) {
		return dropStatusRate
	}
	if s.ready() != nil {
		return dropNotReady
	}
	var out wire.Writer
	out.Begin(tools.buf[:], wire.CodeAccessAccept, r.packet[1])
	out.AddText(wire.AttrReplyMessage, cutText(s.status, wire.MaxValue))
	out.CopyProxyStates(r.packet, &r.view)
	r.listener.out.put(r, out.Sign(tools.Digester, c.key, r.packet[4:wire.HeaderSize]))
	c.tally.status.Add(1)
	return dropNone
}

// mayAnswerStatus counts answers in each second.
func (t *tally) mayAnswerStatus(now time.Time) bool {
	second := now.Unix() << 16
	for {
		old := t.statusWindow.Load()
		count := int64(0)
		if old&^0xffff == second {
			count = old & 0xffff
		}
		if count >= statusPerSecond {
			return false
		}
		if t.statusWindow.CompareAndSwap(old, second|(count+1)) {
			return true
		}
	}
}

// panicked ends a request whose handling failed by a defect of ours, and only this request.
func (s *Server) panicked(r *request, cause any) {
	if r.entry != nil {
		s.cache.abort(r.entry)
		r.entry = nil
	}
	s.drop(r.client, dropPanic, r.from.Addr(), "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
}
