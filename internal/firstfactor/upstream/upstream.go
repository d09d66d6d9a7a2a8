package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"sallyport/internal/login"
	"sallyport/radiusd/exchange"
	"sallyport/radiusd/wire"
)

// The defaults of Options.
const (
	// DefaultTimeout is below the five seconds after which a NAS asks again (or elsewhere).
	DefaultTimeout    = 4 * time.Second
	DefaultAtOnce     = 64
	DefaultQueue      = 128
	DefaultProbeEvery = 10 * time.Second
	// DefaultNASIdentifier is what the servers' rules and logs call this gateway.
	DefaultNASIdentifier = "sallyport"
)

// The bounds of Options: past them a typing error stops every login or takes all memory.
const (
	minTimeout    = 50 * time.Millisecond
	maxTimeout    = 2 * time.Minute
	maxServers    = 16
	maxAtOnce     = 1024 // an exchange.Client has identifiers for twice as many
	maxQueue      = 65536
	minProbeEvery = 10 * time.Millisecond
)

const (
	// copies is how often a request goes out in its share of the time, about: at 0, 1/4 and 3/4 of it.
	copies = 4
	// maxInitial is RFC 5080's IRT, which a long Timeout does not exceed.
	maxInitial = exchange.DefaultInitialRetransmit
	// complainEvery bounds the lines in the log about logins that could not be checked.
	complainEvery = 10 * time.Second
)

// Server is one of the servers.
type Server struct {
	Address string // host:port
	Secret  []byte // nil: Options.Secret
	// InsecureAcceptUnsigned believes answers without Message-Authenticator (CVE-2024-3596): who sits between us and the
	// server can then let in whom he likes.
	InsecureAcceptUnsigned bool
}

// Options is how servers are asked.
type Options struct {
	Servers []Server // in the order in which they are asked
	Secret  []byte   // of the Servers that have none of their own
	// Timeout bounds a Check with all its servers, and should be less than a NAS's patience. Where people confirm a login
	// at their telephone while the server waits, it and the NAS's have to be a minute. 0: DefaultTimeout.
	Timeout       time.Duration
	NASIdentifier string // empty: DefaultNASIdentifier
	// Relay tells whether an attribute of an Access-Accept is handed on (vendor 0: a standard one). Nil: none is. It is not
	// asked about attributes that belong to one hop or are hidden with its secret: State, Proxy-State, Message-Authenticator,
	// EAP-Message, passwords, and Microsoft's keys and MS-CHAP attributes, of which login.Answer's Extra holds what a NAS
	// needs. It is called concurrently.
	Relay  func(vendor uint32, t byte) bool
	AtOnce int // checks under way; 0: DefaultAtOnce
	Queue  int // checks that may wait for their turn; 0: DefaultQueue
	// ProbeEvery is how often a server that was put aside is tried again. 0: DefaultProbeEvery.
	ProbeEvery time.Duration
	Now        func() time.Time
	Log        *slog.Logger
}

func (o *Options) setDefaults() error {
	for _, d := range []struct {
		value   *int
		usually int
	}{{&o.AtOnce, DefaultAtOnce}, {&o.Queue, DefaultQueue}} {
		if *d.value == 0 {
			*d.value = d.usually
		}
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.ProbeEvery == 0 {
		o.ProbeEvery = DefaultProbeEvery
	}
	if o.NASIdentifier == "" {
		o.NASIdentifier = DefaultNASIdentifier
	}
	if o.Relay == nil {
		o.Relay = func(uint32, byte) bool { return false }
	}
	switch {
	case len(o.Servers) == 0 || len(o.Servers) > maxServers:
		return fmt.Errorf("%d servers: want 1 to %d", len(o.Servers), maxServers)
	case o.Timeout < minTimeout || o.Timeout > maxTimeout:
		return fmt.Errorf("timeout is %v: want %v to %v", o.Timeout, minTimeout, maxTimeout)
	case o.ProbeEvery < minProbeEvery:
		return fmt.Errorf("a probe every %v: want at least %v", o.ProbeEvery, minProbeEvery)
	case o.AtOnce < 1 || o.AtOnce > maxAtOnce:
		return fmt.Errorf("%d checks at once: want 1 to %d", o.AtOnce, maxAtOnce)
	case o.Queue < 1 || o.Queue > maxQueue:
		return fmt.Errorf("a queue of %d: want 1 to %d", o.Queue, maxQueue)
	case len(o.NASIdentifier) > wire.MaxValue:
		return fmt.Errorf("a NAS-Identifier of %d bytes: want 1 to %d", len(o.NASIdentifier), wire.MaxValue)
	case o.Now == nil || o.Log == nil:
		return errors.New("want a clock and a logger")
	}
	return nil
}

// Upstream is a login.FirstFactor on RADIUS servers, which may ask further questions. It is safe for concurrent use.
type Upstream struct {
	o       Options
	servers []*server
	places  *places
	stop    context.CancelFunc // ends the watchers
	watched sync.WaitGroup

	mu         sync.Mutex
	complained time.Time // guarded by mu
	untold     int       // guarded by mu: complaints since
}

// New returns an Upstream, and begins to watch its servers. Who made it closes it. That no server answers is no error.
func New(o Options) (*Upstream, error) {
	if err := o.setDefaults(); err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	u := &Upstream{o: o, places: newPlaces(o.AtOnce, o.Queue)}
	for _, one := range o.Servers {
		s, err := u.newServer(one)
		if err == nil && u.byTag(s.tag) != nil {
			err = errors.New("it is there twice")
		}
		if err != nil {
			u.closeClients()
			return nil, fmt.Errorf("upstream: server %q: %w", one.Address, err)
		}
		u.servers = append(u.servers, s)
	}
	u.o.Secret, u.o.Servers = nil, nil
	ctx, stop := context.WithCancel(context.Background())
	u.stop = stop
	for _, s := range u.servers {
		u.watched.Go(func() { u.watch(ctx, s) })
	}
	return u, nil
}

func (u *Upstream) newServer(one Server) (*server, error) {
	if one.Secret == nil {
		one.Secret = u.o.Secret
	}
	share := u.o.Timeout / time.Duration(len(u.o.Servers))
	client, err := exchange.New(exchange.Options{
		Address: one.Address, Secret: one.Secret, InsecureAcceptUnsigned: one.InsecureAcceptUnsigned,
		InitialRetransmit: min(share/copies, maxInitial), MaxDuration: u.o.Timeout,
	})
	if err != nil {
		return nil, err
	}
	return &server{client: client, tag: tagOf(one.Address), asking: make(chan struct{}, 1)}, nil
}

// Close ends the checks that are under way, stops watching the servers, and returns when all has ended. It may be called more than once.
func (u *Upstream) Close() {
	u.stop()
	u.closeClients()
	u.watched.Wait()
}

func (u *Upstream) closeClients() {
	for _, s := range u.servers {
		s.client.Close()
	}
}

// Method is the word for the records.
func (*Upstream) Method() string { return "radius" }

// AsksFurther says that an Answer may hold a further question.
func (*Upstream) AsksFurther() {}

// Rejected is an Access-Reject with what MS-CHAP says about it. It is a login.ErrWrong.
type Rejected struct {
	// MSCHAPError is the text of MS-CHAP-Error (RFC 2548 section 2.1.5) as the server has it, without its identifier:
	// "E=691 R=1 C=... V=3 M=...". It is printable. It may tell a locked account from a wrong password.
	MSCHAPError string
}

func (r *Rejected) Error() string { return login.ErrWrong.Error() }

// Unwrap says that it is a wrong password.
func (*Rejected) Unwrap() error { return login.ErrWrong }

// Check implements login.FirstFactor. The Answer's Extra is a *wire.Extra, where the server sent something for the NAS.
func (u *Upstream) Check(ctx context.Context, q login.Question) (login.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, u.o.Timeout)
	defer cancel()
	give, err := u.places.take(ctx, q.Origin)
	if err != nil {
		return login.Answer{}, err
	}
	defer give()
	a, err := u.form(q)
	if err != nil {
		return login.Answer{}, u.unavailable(err)
	}
	defer clear(a.request.Password)
	s, response, err := u.ask(ctx, &a)
	if err != nil {
		return login.Answer{}, u.unavailable(err)
	}
	answer, err := u.read(&a, s, &response)
	if err != nil && !errors.Is(err, login.ErrWrong) {
		return login.Answer{}, u.unavailable(fmt.Errorf("%s: %w", s.client.Address(), err))
	}
	return answer, err
}

// unavailable makes login's error of err, and has the log say why from time to time: the gate tells people and records only
// that the directory cannot be used.
func (u *Upstream) unavailable(err error) error {
	if errors.Is(err, login.ErrOverloaded) {
		return err
	}
	if !errors.Is(err, login.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", login.ErrUnavailable, err)
	}
	now := u.o.Now()
	u.mu.Lock()
	u.untold++
	n := u.untold
	tell := now.Sub(u.complained) >= complainEvery
	if tell {
		u.complained, u.untold = now, 0
	}
	u.mu.Unlock()
	if tell {
		u.o.Log.Warn("upstream RADIUS: logins could not be checked", "count", n, "why", err.Error())
	}
	return err
}

// ask asks the first server that answers.
func (u *Upstream) ask(ctx context.Context, a *asked) (*server, exchange.Response, error) {
	servers := u.servers
	if a.server != nil {
		servers = []*server{a.server}
	}
	tried := make(map[*server]error)
	for _, early := range []bool{false, true} {
		if len(tried) > 0 {
			break // early is for when there is nothing else
		}
		for i, s := range servers {
			now := u.o.Now()
			if !s.enter(now, early, u.o.ProbeEvery) {
				continue
			}
			left := 1
			for _, other := range servers[i+1:] {
				if other.couldEnter(now, early, u.o.ProbeEvery) {
					left++
				}
			}
			response, err := u.try(ctx, s, a.request, left)
			if err == nil {
				return s, response, nil
			}
			tried[s] = err
			if ctx.Err() != nil || errors.Is(err, exchange.ErrBusy) {
				break
			}
		}
	}
	return nil, exchange.Response{}, whyNone(servers, tried, u.o.Now())
}

// whyNone says of each server why it gave no answer.
func whyNone(servers []*server, tried map[*server]error, now time.Time) error {
	kind := login.ErrUnavailable
	var why []string
	for _, s := range servers {
		err, asked := tried[s]
		if !asked {
			err = s.why(now)
		}
		if errors.Is(err, exchange.ErrBusy) {
			kind = login.ErrOverloaded
		}
		why = append(why, fmt.Sprintf("%s: %v", s.client.Address(), err))
	}
	return fmt.Errorf("%w: %s", kind, strings.Join(why, "; "))
}

// try asks one server, in its share of the time: left are still to be asked, this one among them.
func (u *Upstream) try(ctx context.Context, s *server, request exchange.Request, left int) (exchange.Response, error) {
	share := u.o.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		share = time.Until(deadline) / time.Duration(left)
	}
	bounded, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	heard := s.hearings()
	response, err := s.client.Exchange(bounded, request)
	var none *exchange.NoAnswerError
	switch {
	case err == nil:
		u.answered(s, false)
	case errors.As(err, &none):
		// Who waited only for the rest of his time, for instance after a wait for a place, has learnt nothing.
		if share < u.o.Timeout/time.Duration(2*len(u.servers)) {
			s.leave(u.o.Now())
		} else {
			u.silent(s, heard, err)
		}
	case errors.Is(err, exchange.ErrUnreachable) && ctx.Err() == nil:
		u.refused(s, err)
	default:
		s.leave(u.o.Now())
	}
	return response, err
}
