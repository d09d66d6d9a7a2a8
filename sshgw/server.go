package sshgw

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/login"
	"sallyport/sshgw/door"
	"sallyport/sshgw/outbound"
	"sallyport/sshgw/relay"
)

// Gate is what the gateway needs of login.Gate. All methods are called concurrently; those that return an Outcome or a Receipt return when
// their record is durable.
type Gate interface {
	Decide(ctx context.Context, a login.Attempt) login.Outcome
	Access(ctx context.Context, gr login.Grant, a login.Attempt) login.Outcome
	Refuse(ctx context.Context, a login.Attempt, why login.Reason) login.Outcome
	Note(ctx context.Context, e login.Event) (login.Receipt, error)
	// Key has no side effects: the key is not proved yet.
	Key(name string, wire []byte) (fingerprint string, registered bool)

	// Lean accepts a login that leans on one before, and StepUp takes one more code of somebody who has logged in.
	Lean(ctx context.Context, a login.Attempt) login.Outcome
	StepUp(ctx context.Context, gr login.Grant, a login.Attempt) login.Outcome

	// What follows records nothing and opens nothing: what Access would answer, whether the rule requires a recording, whether
	// Lean would accept, and whether a login could open a trust window.
	Foresee(gr login.Grant, sys login.System, c login.Capability) login.Reason
	MustRecord(gr login.Grant, sys login.System) bool
	Leans(a login.Attempt) bool
	MayOpenWindow(name string) bool

	// IsService tells whether a name is a service identity's, and Serve judges its login by key alone.
	IsService(name string) bool
	Serve(ctx context.Context, a login.Attempt) login.Outcome

	// Certify makes the facts of a login certificate, on record.
	Certify(ctx context.Context, gr login.Grant, a login.Attempt) (login.Certificate, login.Outcome)
}

// Meter counts. Its methods are called concurrently and must not block. All words are from fixed sets.
type Meter interface {
	Dropped(reason string)                    // a connection that ended before it logged in
	Login(reason login.Reason)                // a login that the Gate decided
	Refused(kind string, reason login.Reason) // a channel or request that was refused, by type
	SessionEnded(reason login.Reason, in, out int64, lasted time.Duration)
	Legacy(target string) // a login at a target with algorithms that only old kit needs
}

type noMeter struct{}

func (noMeter) Dropped(string)                                         {}
func (noMeter) Login(login.Reason)                                     {}
func (noMeter) Refused(string, login.Reason)                           {}
func (noMeter) SessionEnded(login.Reason, int64, int64, time.Duration) {}
func (noMeter) Legacy(string)                                          {}

// Options are what a Server is made of. All but Gate may be left zero.
type Options struct {
	Gate  Gate
	Now   func() time.Time
	Log   *slog.Logger
	Meter Meter
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	// Vault is what is known of targets beyond the configuration. Nil: nothing.
	Vault Vault
	// HostCA certifies the gateway's host keys for targets, in recorded jumps; UserCA the keys by which it logs in at them.
	HostCA, UserCA *outbound.CA
	// LoginCA signs the certificates by which people come to the gateway again. Nil: none are issued.
	LoginCA *outbound.CA
	// Desk is what people may change of themselves. Nil: nothing.
	Desk Desk
	// LastUse tells when somebody was last at each target, for the menu. Nil: nobody knows.
	LastUse func(ctx context.Context, person string) map[string]time.Time
}

// Server serves SSH. Order of calls: SetConfig, Serve for each listener, and at the end Drain. All methods may be
// called concurrently.
type Server struct {
	gate  Gate
	now   func() time.Time
	log   *slog.Logger
	meter Meter
	dial  func(ctx context.Context, network, address string) (net.Conn, error)

	settings  atomic.Pointer[settings]
	starts    *door.Starts
	penalties *door.Penalties
	drops     dropLog
	buffers   relay.Buffers
	running   sync.WaitGroup // connections
	vault     Vault
	hostCA    *outbound.CA
	userCA    *outbound.CA
	loginCA   *outbound.CA
	lastUse   func(ctx context.Context, person string) map[string]time.Time

	asking askers
	desk   Desk

	unresolved chan struct{} // places for connections of load balancers that have not said for whom they are

	certMu sync.Mutex
	certs  map[string]heldCert // by target, of the configuration in force; guarded by certMu

	// Lock order: Server.mu, conn.mu.
	mu       sync.Mutex
	draining bool
	conns    map[*conn]struct{}
}

// NewServer makes a Server without configuration.
func NewServer(o Options) *Server {
	s := &Server{
		gate: o.Gate, now: o.Now, log: o.Log, meter: o.Meter, dial: o.Dial,
		starts: door.NewStarts(chance), penalties: door.NewPenalties(), conns: make(map[*conn]struct{}),
		unresolved: make(chan struct{}, maxUnresolved),
		asking:     askers{by: make(map[askerKey]chan struct{})},
	}
	s.vault, s.hostCA, s.userCA, s.loginCA, s.lastUse, s.desk = o.Vault, o.HostCA, o.UserCA, o.LoginCA, o.LastUse, o.Desk
	if s.vault == nil {
		s.vault = noVault{}
	}
	if s.lastUse == nil {
		s.lastUse = func(context.Context, string) map[string]time.Time { return nil }
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.meter == nil {
		s.meter = noMeter{}
	}
	if s.dial == nil {
		s.dial = new(net.Dialer).DialContext
	}
	return s
}

// chance returns a number below n that nobody can guess: whether a connection is dropped early must not be learnt.
func chance(n int) int {
	v, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		return 0 // cannot be (crypto/rand.Reader); 0 drops
	}
	return int(v.Int64())
}

// SetConfig puts c into force, or returns all its mistakes and leaves what is in force. New connections use it; those
// that live are judged by it when they open their next channel.
func (s *Server) SetConfig(c Config) error {
	set, err := compile(c)
	if err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	s.certMu.Lock()
	defer s.certMu.Unlock()
	s.settings.Store(set)
	s.certs = make(map[string]heldCert)
	return nil
}

// The longest pause after a failed accept: the usual cause is that all file descriptors are in use.
const maxAcceptPause = time.Second

// Serve accepts connections until ctx ends, closes ln, and returns. The connections live on: Drain ends them.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if s.settings.Load() == nil {
		return errors.New("ssh: serve before a configuration was set")
	}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	pause := time.Duration(0)
	for {
		raw, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.arrive(raw)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("ssh: accept on %v: %w", ln.Addr(), err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), maxAcceptPause)
		s.log.Warn("ssh accept failed", "address", ln.Addr().String(), "error", err, "again_in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// dropReason says why a connection ended before it logged in.
type dropReason string

const (
	dropPenalty      dropReason = "penalty"
	dropStarts       dropReason = "max_startups"
	dropSourceStarts dropReason = "source_startups"
	dropConnections  dropReason = "max_connections"
	dropDraining     dropReason = "draining"
	dropGrace        dropReason = "grace_exceeded"
	dropFlood        dropReason = "start_bytes"
	dropRefused      dropReason = "login_refused"
	dropSignature    dropReason = "key_signature_wrong"
	dropUnanswerable dropReason = "record_unavailable"
	dropNegotiation  dropReason = "no_common_algorithm"
	dropNoAuth       dropReason = "no_login"
	dropCrash        dropReason = "crash"
	dropProxyHeader  dropReason = "no_proxy_header"
)

// admit takes a new connection in, or closes it before it costs more than that.
func (s *Server) admit(raw net.Conn) {
	set, source := s.settings.Load(), door.SourceOf(raw.RemoteAddr())
	network := door.NetworkOf(source.Addr())
	c := newConn(s, set, raw, source)
	drop := func() dropReason {
		if s.penalties.Barred(network, s.now(), &set.Penalties) {
			return dropPenalty
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.draining {
			return dropDraining
		}
		if len(s.conns) >= set.MaxConnections {
			return dropConnections
		}
		switch s.starts.Begin(network, set.MaxStartups, set.PerSourceStarts) {
		case door.OK:
		case door.SourceStarts:
			return dropSourceStarts
		default:
			return dropStarts
		}
		s.conns[c] = struct{}{}
		s.running.Add(1)
		return ""
	}()
	if drop != "" {
		raw.Close()
		s.dropped(drop, source)
		return
	}
	go func() {
		defer s.running.Done()
		defer func() {
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
		s.handle(c, network)
	}()
}

// handle is a connection's whole life.
func (s *Server) handle(c *conn, network netip.Prefix) {
	defer c.wg.Wait()
	defer c.close()
	defer s.crashed(c)
	var (
		chans    newChannels
		requests globalRequests
		drop     = dropCrash
	)
	c.aside(func() {
		defer s.starts.End(network)
		chans, requests, drop = c.login()
	})
	switch drop {
	case "":
		c.serve(chans, requests)
	case dropCrash: // crashed has seen to it
	default:
		s.penalise(c, drop)
		s.dropped(drop, c.source)
	}
}

// crashed keeps a panic that one connection caused from ending the others. It is deferred in every goroutine that
// handles what a client sent.
func (s *Server) crashed(c *conn) {
	r := recover()
	if r == nil {
		return
	}
	s.log.Error("ssh connection crashed; please report this", "source", c.source.String(), "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	s.penalise(c, dropCrash)
	s.dropped(dropCrash, c.source)
	c.close()
}

func (s *Server) penalise(c *conn, reason dropReason) {
	p := &c.settings.Penalties
	var d time.Duration
	switch reason {
	case dropCrash:
		d = p.Crash
	case dropRefused, dropSignature, dropFlood:
		d = p.AuthFail
	case dropGrace:
		d = p.GraceExceeded
	case dropNoAuth, dropNegotiation:
		d = p.NoAuth
	default: // our own reasons, not the source's fault
		return
	}
	s.penalties.Add(door.NetworkOf(c.source.Addr()), d, s.now(), p)
}

func (s *Server) dropped(reason dropReason, source netip.AddrPort) {
	s.meter.Dropped(string(reason))
	if n, say := s.drops.say(reason, time.Now()); say {
		s.log.Info("ssh connection ended before login", "reason", string(reason), "source", source.String(), "since_last_line", n)
	}
}

// dropLog lets through one line for each reason in dropLogEvery, so that a flood cannot fill the log.
type dropLog struct {
	mu     sync.Mutex
	reason map[dropReason]*dropCount // no more than there are reasons
}

type dropCount struct {
	n    int
	last time.Time
}

const dropLogEvery = 10 * time.Second

func (d *dropLog) say(reason dropReason, now time.Time) (n int, say bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reason == nil {
		d.reason = make(map[dropReason]*dropCount)
	}
	c := d.reason[reason]
	if c == nil {
		c = new(dropCount)
		d.reason[reason] = c
	}
	c.n++
	if !c.last.IsZero() && now.Sub(c.last) < dropLogEvery {
		return 0, false
	}
	n, c.n, c.last = c.n, 0, now
	return n, true
}

// Drain refuses new connections and channels, ends connections that have no session, waits for the others until ctx
// ends, and then ends those with the reason "drain". It returns when every connection has ended and its record is made,
// with ctx's error when some had to be ended.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	all := s.all()
	s.mu.Unlock()
	for _, c := range all {
		c.drain()
	}
	gone := make(chan struct{})
	go func() {
		s.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	all = s.all()
	s.mu.Unlock()
	for _, c := range all {
		c.end(endDrain, "")
	}
	<-gone
	return context.Cause(ctx)
}

// all lists the connections. The caller holds s.mu.
func (s *Server) all() []*conn {
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Stats is how much there is now.
type Stats struct {
	Connections int // in all
	Starts      int // of them, not logged in
	Sessions    int // open
	Penalised   int // sources that are remembered for misbehaving
}

// Stats counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	st := Stats{Connections: len(s.conns)}
	for c := range s.conns {
		st.Sessions += c.sessionCount()
	}
	s.mu.Unlock()
	st.Starts, st.Penalised = s.starts.Count(), s.penalties.Count()
	return st
}

// SessionInfo describes a live session.
type SessionInfo struct {
	ID       string
	Attempt  string // the login that it stems from
	Person   string
	Rule     string
	Source   netip.AddrPort
	Target   string
	Account  string
	Class    string
	Kind     string // jump, forward, shell, exec, sftp, scp, rsync, subsystem
	Started  time.Time
	BytesIn  int64 // from the client
	BytesOut int64 // to the client
}

// Sessions lists the live sessions, the oldest first.
func (s *Server) Sessions() []SessionInfo {
	var list []SessionInfo
	for _, x := range s.sessions() {
		list = append(list, x.info())
	}
	slices.SortFunc(list, func(a, b SessionInfo) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Kill ends a session. Its record says "killed", and why. It reports whether there was such a session.
func (s *Server) Kill(id, why string) bool {
	for _, x := range s.sessions() {
		if x.grant.Session == id {
			x.end(endKilled, why)
			return true
		}
	}
	return false
}

func (s *Server) sessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*session
	for c := range s.conns {
		list = c.appendSessions(list)
	}
	return list
}

// Recheck ends sessions that today's rules would not open any more, and returns how many. It is called when rules, people or
// their groups have changed.
func (s *Server) Recheck() (ended int) {
	for _, x := range s.sessions() {
		t, known := s.settings.Load().routes.ByName(x.target.Name)
		if !known {
			x.end(endRules, string(login.ReasonNoTarget))
			ended++
			continue
		}
		why := s.gate.Foresee(x.grant, systemOf(t), x.attempt.Capability)
		if why == login.ReasonOK && !x.grant.Record && s.gate.MustRecord(x.grant, systemOf(t)) {
			why = login.ReasonRecording
		}
		switch why {
		case login.ReasonOK, login.ReasonStepUp, login.ReasonTrustOver, login.ReasonStopping: // a window's end ends no session
			continue
		}
		x.end(endRules, string(why))
		ended++
	}
	return ended
}
