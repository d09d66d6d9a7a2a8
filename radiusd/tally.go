package radiusd

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/radiusd/ledger"
	"sallyport/radiusd/wire"
)

const (
	// dropLogEvery is how often one reason of one client's drops is logged.
	dropLogEvery = time.Minute
	// maxStrangers bounds the addresses that are remembered without being clients. Source addresses of datagrams are
	// free to forge, so the oldest make room for new ones.
	maxStrangers = 256
	// strangerLines bounds the log lines about strangers in each dropLogEvery.
	strangerLines = 10
)

// Meter counts what happens, for metrics. Its methods are called concurrently, on the path of every packet, and must
// not block. Client is a configured name, or "" for addresses that are nobody's.
type Meter interface {
	Drop(client, reason string, addr netip.Addr)
	Reply(client, code, reason string, d time.Duration)
	Resend(client string)
	QueueDepth(waiting int)
}

type noMeter struct{}

func (noMeter) Drop(string, string, netip.Addr)             {}
func (noMeter) Reply(string, string, string, time.Duration) {}
func (noMeter) Resend(string)                               {}
func (noMeter) QueueDepth(int)                              {}

// tally is what is known of one client's packets since the start. It outlives reloads.
type tally struct {
	cached                          atomic.Int64 // entries in the reply cache
	requests, withAuth, withoutAuth atomic.Uint64
	proxyState, withoutNAS, resends atomic.Uint64
	accepts, rejects, challenges    atomic.Uint64
	accounted                       atomic.Uint64
	status                          atomic.Uint64
	lastSeen                        atomic.Int64 // Unix nanoseconds, as all times here; 0: never
	lastWithout, lastProxy          atomic.Int64
	signedSince                     atomic.Int64  // of the present run of requests with Message-Authenticator
	withBefore                      atomic.Uint64 // withAuth when that run began
	waited, slowest                 atomic.Int64  // of answers
	drops                           [dropReasons]dropCount
	statusWindow                    atomic.Int64 // second<<16 | answers in it
}

// signed counts a request with a Message-Authenticator. Status-Server always has one, and says nothing of the others.
func (t *tally) signed(code byte, now time.Time) {
	if code != wire.CodeAccessRequest {
		return
	}
	t.withAuth.Add(1)
	if t.signedSince.Load() == 0 {
		t.signedSince.CompareAndSwap(0, now.UnixNano())
	}
}

// unsigned counts a request without one.
func (t *tally) unsigned(code byte, now time.Time) {
	if code != wire.CodeAccessRequest {
		return
	}
	t.withoutAuth.Add(1)
	t.lastWithout.Store(now.UnixNano())
	t.withBefore.Store(t.withAuth.Load())
	t.signedSince.Store(0)
}

func (t *tally) proxied(now time.Time) {
	t.proxyState.Add(1)
	t.lastProxy.Store(now.UnixNano())
}

// answered counts how long an answer took.
func (t *tally) answered(d time.Duration) {
	t.waited.Add(int64(d))
	for old := t.slowest.Load(); int64(d) > old && !t.slowest.CompareAndSwap(old, int64(d)); old = t.slowest.Load() {
	}
}

type dropCount struct {
	n      atomic.Uint64
	logged atomic.Int64  // when, as Unix nanoseconds
	before atomic.Uint64 // n when it was logged
}

// due counts a drop, and tells whether a line about it is due, and how many drops it stands for.
func (d *dropCount) due(now time.Time) (since uint64, ok bool) {
	n := d.n.Add(1)
	last, at := d.logged.Load(), now.UnixNano()
	age := time.Duration(at - last)
	if last != 0 && age >= 0 && age < dropLogEvery || !d.logged.CompareAndSwap(last, at) {
		return 0, false
	}
	return n - d.before.Swap(n), true
}

// ClientStats is what is known of one client since the server's start.
type ClientStats struct {
	Name        string
	Prefix      netip.Prefix // of a client over UDP
	Certificate string       // of one over TLS
	ledger.Counts
	RequireMessageAuthenticator bool
	LimitProxyState             bool
}

// StrangerStats is an address that is no client and sent something.
type StrangerStats struct {
	Addr     netip.Addr
	Packets  uint64
	LastSeen time.Time
}

func (c *client) stats() ClientStats {
	t := c.tally
	s := ClientStats{
		Name: c.Name, Prefix: c.Prefix, Certificate: c.Certificate,
		RequireMessageAuthenticator: c.RequireMessageAuthenticator, LimitProxyState: c.LimitProxyState,
		Counts: ledger.Counts{
			LastSeen: timeOf(&t.lastSeen), Requests: t.requests.Load(), WithMessageAuthenticator: t.withAuth.Load(),
			WithoutMessageAuthenticator: t.withoutAuth.Load(), WithProxyState: t.proxyState.Load(), WithoutNAS: t.withoutNAS.Load(),
			Accepts: t.accepts.Load(), Rejects: t.rejects.Load(), Challenges: t.challenges.Load(), Accounting: t.accounted.Load(),
			StatusServer: t.status.Load(), Resends: t.resends.Load(), Drops: make(map[string]uint64),
			Waited: time.Duration(t.waited.Load()), Slowest: time.Duration(t.slowest.Load()),
			LastWithoutMessageAuthenticator: timeOf(&t.lastWithout), LastProxyState: timeOf(&t.lastProxy), SignedSince: timeOf(&t.signedSince),
		},
	}
	before := t.withBefore.Load()
	s.SignedRun = s.WithMessageAuthenticator - min(before, s.WithMessageAuthenticator)
	for reason := range t.drops {
		if n := t.drops[reason].n.Load(); n > 0 {
			s.Drops[dropReason(reason).String()] = n
		}
	}
	return s
}

func timeOf(ns *atomic.Int64) time.Time {
	if n := ns.Load(); n != 0 {
		return time.Unix(0, n).UTC()
	}
	return time.Time{}
}

type stranger struct {
	StrangerStats
	logged time.Time
}

// strangers remembers addresses that are no client's.
type strangers struct {
	mu    sync.Mutex
	index map[netip.Addr]int
	list  []stranger
	hand  int       // the next place to be given away
	since time.Time // of the budget of lines
	lines int
}

// saw counts a packet, and tells whether a line about it is due.
func (s *strangers) saw(addr netip.Addr, now time.Time) (line bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index == nil {
		s.index = make(map[netip.Addr]int)
	}
	i, known := s.index[addr]
	if !known {
		if i = len(s.list); i < maxStrangers {
			s.list = append(s.list, stranger{})
		} else {
			i, s.hand = s.hand, (s.hand+1)%maxStrangers
			delete(s.index, s.list[i].Addr)
		}
		s.list[i] = stranger{StrangerStats: StrangerStats{Addr: addr}}
		s.index[addr] = i
	}
	s.list[i].Packets++
	s.list[i].LastSeen = now
	if age := now.Sub(s.since); age < 0 || age >= dropLogEvery {
		s.since, s.lines = now, 0
	}
	age := now.Sub(s.list[i].logged)
	if age >= 0 && age < dropLogEvery || s.lines >= strangerLines {
		return false
	}
	s.lines++
	s.list[i].logged = now
	return true
}

func (s *strangers) stats() []StrangerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]StrangerStats, len(s.list))
	for i := range s.list {
		list[i] = s.list[i].StrangerStats
	}
	slices.SortFunc(list, func(a, b StrangerStats) int { return b.LastSeen.Compare(a.LastSeen) })
	return list
}

// drop counts a packet that gets no answer, and logs one line for each client and reason in dropLogEvery.
func (s *Server) drop(c *client, why dropReason, addr netip.Addr, more ...any) {
	now := s.now()
	name := ""
	if c == nil {
		if s.strangers.saw(addr, now) {
			args := append([]any{"addr", addr.String(), "reason", why.String()}, more...)
			s.log.Warn("radius from an address that is no client", append(args, "hint", why.hint())...)
		}
	} else {
		name = c.Name
		if n, due := c.tally.drops[why].due(now); due {
			args := append([]any{"client", name, "addr", addr.String(), "reason", why.String(), "count", n}, more...)
			if h := why.hint(); h != "" {
				args = append(args, "hint", h)
			}
			s.log.Warn("radius packet dropped", args...)
		}
	}
	s.meter.Drop(name, why.String(), addr)
}

// Counts are those of Stats by the clients' names, for a ledger.Book.
func (s *Server) Counts() map[string]ledger.Counts {
	all := make(map[string]ledger.Counts)
	for _, c := range s.settings.Load().list {
		all[c.Name] = c.stats().Counts
	}
	return all
}

// Stats tells of every client since the start, in the order of their names.
func (s *Server) Stats() []ClientStats {
	set := s.settings.Load()
	list := make([]ClientStats, 0, len(set.list))
	for _, c := range set.list {
		list = append(list, c.stats())
	}
	slices.SortFunc(list, func(a, b ClientStats) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Strangers tells of the addresses that sent something lately and are no client's, the latest first. At most 256 are
// remembered.
func (s *Server) Strangers() []StrangerStats { return s.strangers.stats() }

var _ slog.LogValuer = Client{}

// LogValue shows a client without its secret.
func (c Client) LogValue() slog.Value {
	return slog.GroupValue(slog.String("name", c.Name), slog.String("prefix", c.Prefix.String()), slog.String("mode", string(c.Mode)))
}

// String shows a client without its secret.
func (c Client) String() string { return c.Name + " " + c.Prefix.String() + " " + string(c.Mode) }

// GoString shows a client without its secret.
func (c Client) GoString() string { return "radiusd.Client{" + c.String() + "}" }
