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
	"sallyport/radiusd/mschap"
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
	Continue(ctx context.Context, p login.Progress, a login.Attempt) login.Outcome
	Finish(ctx context.Context, p login.Progress, a login.Attempt) login.Outcome
	Refuse(ctx context.Context, a login.Attempt, why login.Reason) login.Outcome
}

// Asker is a Gate that can also decide without waiting for the record. Where it can, requests that need no password
// checked are judged by whoever read them, and answered many at a time. *login.Gate is one.
type Asker interface {
	Immediate(name string) bool
	Ask(a login.Attempt) login.Asked
	AskFinish(p login.Progress, a login.Attempt) login.Asked
	AskRefuse(a login.Attempt, why login.Reason) login.Asked
}

// Accountant is a Gate that also records what NAS report of sessions. *login.Gate is one.
type Accountant interface {
	AskAccounting(acc login.Accounting) login.Noted
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
	// FindLogin returns the attempt that let somebody in to a system last, or nothing, for accounting that does not say
	// which one it belongs to. Nil: nothing.
	FindLogin func(ctx context.Context, name, system string) (attempt string)
}

// Server answers RADIUS requests. SetConfig may be called at any time; Serve once for each socket, any number of them
// at the same time.
type Server struct {
	gate       Gate
	asker      Asker      // the gate, if it is one
	accountant Accountant // the gate, if it is one
	findLogin  func(ctx context.Context, name, system string) string
	box        Box
	now        func() time.Time
	log        *slog.Logger
	meter      Meter
	ready      func() error

	workers, queueSize, receiveBuffer int
	patience                          patience
	node, status                      string // the status is Reply-Message to Status-Server

	start     time.Time
	cache     *replyCache
	strangers strangers
	extras    extras
	talks     talks
	requests  sync.Pool // of *request
	tools     sync.Pool // of *toolbox

	configure sync.Mutex // held while settings are replaced
	settings  atomic.Pointer[settings]

	mu      sync.Mutex // guards the rest
	serving int        // roads
	queue   *queue     // while serving > 0
	lastID  uint32     // of roads
}

// request is a datagram on its way from the socket to its answer. Whoever holds it owns it alone.
type request struct {
	facts
	control [maxControl]byte
	buf     [wire.MaxPacket]byte
}

// facts is what is known of a request beside its bytes. It is cleared when the request's memory is used again.
type facts struct {
	road       road
	plain      bool           // RADIUS/1.1
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
	proof    *mschap.V2 // of MS-CHAPv2, if that is how the code is proved
	eap      *eapEnd    // how an EAP conversation ended, if it did
	asks     bool       // judged already, and the outcome follows:
	asked    login.Asked
	noted    login.Noted // the same of accounting
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
	s.node, s.findLogin = o.Node, o.FindLogin
	s.patience = patience{handshakeFor, frameFor}
	s.asker, _ = o.Gate.(Asker)
	s.accountant, _ = o.Gate.(Accountant)
	if s.findLogin == nil {
		s.findLogin = func(context.Context, string, string) string { return "" }
	}
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

// Serve answers Access-Requests that come in on conn until ctx ends. It then reads no more, answers the requests that it
// has taken, and returns nil; an error means that the socket cannot be served. It takes conn over, and closes it.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	return s.serve(ctx, conn, authentication)
}

// ServeAccounting is Serve for Accounting-Requests (RFC 2866).
func (s *Server) ServeAccounting(ctx context.Context, conn *net.UDPConn) error {
	return s.serve(ctx, conn, accounting)
}

func (s *Server) serve(ctx context.Context, conn *net.UDPConn, what service) error {
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
	ln.carried.serves, ln.carried.cached = what, true
	q, done := s.enter(ctx, &ln.carried)
	defer done()
	b := newReader(s, ln, q)
	defer b.close()
	return b.run(ctx)
}

// enter makes the queue with the first road. Done waits until what came by this one is answered, and ends the workers
// with the last road.
func (s *Server) enter(ctx context.Context, tr *traffic) (q *queue, done func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	tr.ctx = work
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving == 0 {
		s.queue = newQueue(s.workers, s.queueSize, s.handle)
		s.talks.open()
	}
	s.serving++
	s.lastID++
	tr.id = s.lastID
	return s.queue, func() {
		impatience := time.AfterFunc(drainFor, cancel)
		tr.pending.Wait()
		impatience.Stop()
		cancel()
		s.leave()
	}
}

// leave ends the workers with the last road. Nothing waits for them any more.
func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving--
	if s.serving == 0 {
		s.queue.close()
		s.queue = nil
		s.talks.close()
	}
}

// screen takes the steps that need no more than the packet and the configuration.
func (s *Server) screen(r *request, tools *toolbox) dropReason {
	if r.client == nil {
		r.settings = s.settings.Load()
		if r.client = r.settings.lookup(r.from.Addr()); r.client == nil {
			return dropUnknownClient
		}
	}
	var problem wire.Problem
	if r.packet, problem = wire.Header(r.buf[:r.n]); problem != wire.None {
		return dropOf(problem)
	}
	if !r.road.traffic().serves.answers(r.packet[0]) {
		return dropCode
	}
	v := &r.view
	if r.plain {
		problem = v.ParsePlain(r.packet)
	} else {
		problem = v.Parse(r.packet)
	}
	if problem != wire.None {
		return dropOf(problem)
	}
	if why := s.authentic(r, tools); why != dropNone {
		return why
	}
	r.client.tally.lastSeen.Store(r.received.UnixNano())
	return dropNone
}

// answers tells whether packets of this code are for the service.
func (s service) answers(code byte) bool {
	switch code {
	case wire.CodeStatusServer:
		return true
	case wire.CodeAccessRequest:
		return s&authentication != 0
	case codeAccounting:
		return s&accounting != 0
	}
	return false
}

// authentic tells whether a request is the client's. RADIUS/1.1 leaves that to TLS (RFC 9765 section 5.2).
func (s *Server) authentic(r *request, tools *toolbox) dropReason {
	c, v, t := r.client, &r.view, r.client.tally
	switch {
	case r.plain:
		return dropNone
	case r.packet[0] == codeAccounting:
		if !tools.VerifiedHash(c.key, r.packet, v.MessageAuth.At()) {
			return dropAuthBad
		}
		return dropNone
	case v.MessageAuth.Present():
		if !tools.Verified(c.key, r.packet, v.MessageAuth.At()) {
			return dropAuthBad
		}
		t.signed(r.packet[0], r.received)
		return dropNone
	}
	t.unsigned(r.packet[0], r.received)
	// RFC 5997 section 3 for Status-Server. Over TLS nobody else can write (RFC 6614 section 2.4).
	if r.packet[0] == wire.CodeStatusServer || c.RequireMessageAuthenticator && !c.overTLS() {
		return dropAuthMissing
	}
	if c.LimitProxyState && v.ProxyStates > 0 {
		return dropProxyLimited
	}
	return dropNone
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
	code := wire.CodeAccessAccept
	if r.road.traffic().serves == accounting {
		code = codeAccountingResponse
	}
	var out wire.Writer
	r.begin(&out, tools, code)
	out.AddText(wire.AttrReplyMessage, cutText(s.status, wire.MaxValue))
	out.CopyProxyStates(r.packet, &r.view)
	r.road.put(r, r.sign(&out, tools))
	c.tally.status.Add(1)
	return dropNone
}

// begin starts the answer to a request.
func (r *request) begin(out *wire.Writer, tools *toolbox, code byte) {
	if r.plain {
		out.BeginPlain(tools.buf[:], code, r.packet)
		return
	}
	out.Begin(tools.buf[:], code, r.packet[1])
}

// sign completes the answer to a request.
func (r *request) sign(out *wire.Writer, tools *toolbox) []byte {
	if r.plain {
		return out.FinishPlain()
	}
	return out.Sign(tools.Digester, r.client.key, r.packet[4:wire.HeaderSize])
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
