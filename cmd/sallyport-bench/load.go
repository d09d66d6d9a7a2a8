package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxLanes  = 8       // client sockets
	batch     = 64      // packets a system call
	replySize = 4096    // RFC 2865 section 3
	ownBuffer = 4 << 20 // the clients' own receive buffer: what is lost must be the server's loss
	ids       = 256     // one octet

	// patience is how long a reply may take before its request counts as lost, unless told otherwise. There are no resends.
	patience = 3 * time.Second
	// tick is how often a lane that hears nothing looks at its watch.
	tick = 100 * time.Millisecond
)

// answer is one verified reply: when it came, counted from the run's start, and how long after its request.
type answer struct {
	at, took int64 // nanoseconds
	accept   bool
}

// tally counts what did not go as it should.
type tally struct {
	Rejected int `json:"rejected"`
	Lost     int `json:"lost"`   // no reply within patience
	Bad      int `json:"bad"`    // replies that did not verify, or that nobody asked for
	Passed   int `json:"passed"` // not sent because their identifier was still taken
}

func (t *tally) add(o tally) {
	t.Rejected += o.Rejected
	t.Lost += o.Lost
	t.Bad += o.Bad
	t.Passed += o.Passed
}

// generator sends prepared requests to one server.
type generator struct {
	addr, secret string
	strict       bool        // replies must begin with a Message-Authenticator
	good         byte        // the code of a reply that grants what was asked; 0: Access-Accept
	tls          *tls.Config // nil: over UDP
	ttls         *tls.Config // each request is a conversation of EAP-TTLS; nil: it's one packet
	patience     time.Duration
}

// worker is a part of the load, run by a goroutine of its own.
type worker interface {
	run(stop *atomic.Bool, done func()) error
	result() *seen
}

// seen is what one worker saw.
type seen struct {
	answers  []answer
	counts   tally
	firstBad error
}

func (s *seen) result() *seen { return s }

func (s *seen) bad(err error) {
	s.counts.Bad++
	if s.firstBad == nil {
		s.firstBad = err
	}
}

// lane is one connection with its requests. One goroutine owns it.
type lane struct {
	seen
	link   link
	script *script
	sign   *signer
	strict bool
	good   byte
	start  time.Time
	wait   time.Duration // patience

	open   [ids]int32 // the request that waits under this identifier, or -1
	sentAt [ids]int64
	free   int // how many more may be outstanding
	depth  int
	due    bool // a tick has passed: give up what waits too long, once the socket has been read empty
	out    [batch][]byte
}

// dial opens n connections to the server.
func (g generator) dial(ctx context.Context, n int) ([]link, error) {
	open := dialUDP
	if g.tls != nil {
		open = func(ctx context.Context, addr string) (link, error) { return dialTLS(ctx, addr, g.tls) }
	}
	var links []link
	for range n {
		l, err := open(ctx, g.addr)
		if err != nil {
			hangUp(links)
			return nil, fmt.Errorf("dial %s: %w", g.addr, err)
		}
		links = append(links, l)
	}
	return links, nil
}

func hangUp(links []link) {
	for _, l := range links {
		l.Close()
	}
}

func (g generator) lane(conn link, s *script, depth int, start time.Time) (*lane, error) {
	l := &lane{
		seen: seen{answers: make([]answer, 0, s.len())},
		link: conn, script: s, sign: newSigner(g.secret), strict: g.strict, good: cmp.Or(g.good, accessAccept),
		start: start, wait: g.patience, free: depth, depth: depth,
	}
	for i := range l.open {
		l.open[i] = -1
	}
	return l, conn.SetReadDeadline(start.Add(tick))
}

// run keeps depth requests outstanding until stop, or until the script ends, which it says by closing done; then it
// waits for what is still outstanding.
func (l *lane) run(stop *atomic.Bool, done func()) error {
	ended := false
	for {
		for !ended && l.free > 0 {
			if stop.Load() || l.script.sent == l.script.len() {
				ended = true
				done()
				break
			}
			if err := l.send(l.free); err != nil {
				return err
			}
		}
		if ended && l.free == l.depth {
			return nil
		}
		if err := l.receive(); err != nil {
			return err
		}
	}
}

// send sends up to n requests in as few system calls as it can. It may send fewer.
func (l *lane) send(n int) error {
	s := l.script
	k := 0
	now := int64(time.Since(l.start))
	for k < min(n, batch) && s.sent < s.len() {
		id := byte(s.sent)
		if l.open[id] >= 0 {
			l.counts.Passed++
			s.sent++
			continue
		}
		l.out[k] = s.packet(s.sent)
		l.open[id], l.sentAt[id] = int32(s.sent), now
		l.free--
		s.sent++
		k++
	}
	if err := l.link.send(l.out[:k]); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// receive takes the replies that are there, or waits for one, for a tick at most.
func (l *lane) receive() error {
	replies, err := l.link.receive()
	ticked := errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !ticked {
		return fmt.Errorf("receive: %w", err)
	}
	now := int64(time.Since(l.start))
	for _, reply := range replies {
		l.take(reply, now)
	}
	if l.due && len(replies) < batch {
		l.due = false
		l.expire(now)
	}
	if ticked {
		l.due = true
		return l.link.SetReadDeadline(time.Now().Add(tick))
	}
	return nil
}

func (l *lane) take(reply []byte, now int64) {
	if len(reply) < headerLen || l.open[reply[1]] < 0 {
		l.bad(errors.New("a reply that nobody asked for"))
		return
	}
	id := reply[1]
	k := l.open[id]
	code, err := l.sign.check(reply, l.script.packet(int(k))[4:headerLen], l.strict)
	if want := l.script.success[k]; err == nil && code == l.good && want != "" {
		err = checkSuccess(reply, want)
	}
	if err != nil {
		l.bad(err)
		return
	}
	if code != l.good {
		l.counts.Rejected++
	}
	l.answers = append(l.answers, answer{at: now, took: now - l.sentAt[id], accept: code == l.good})
	l.open[id] = -1
	l.free++
}

// expire gives up requests that have waited too long.
func (l *lane) expire(now int64) {
	for id := range l.open {
		if l.open[id] >= 0 && now-l.sentAt[id] > int64(l.wait) {
			l.open[id] = -1
			l.free++
			l.counts.Lost++
		}
	}
}

// outcome is what a run of the load generator saw.
type outcome struct {
	answers []answer // of the measured time, by arrival
	total   int      // answers in all, with warm-up and the end
	length  time.Duration
	counts  tally
	bad     error // the first reply that did not verify
}

// load runs a closed loop with so many requests outstanding: it warms up, calls begin, measures, and calls end while
// the load still stands.
func (g generator) load(ctx context.Context, scripts []script, outstanding int, warm, measure time.Duration, begin, end func()) (outcome, error) {
	start := time.Now()
	workers, hang, err := g.workers(ctx, scripts, outstanding, start)
	if err != nil {
		return outcome{}, err
	}
	defer hang()
	var stop atomic.Bool
	ended := make(chan struct{})
	var once sync.Once
	failures := make(chan error, len(workers))
	for _, w := range workers {
		go func() { failures <- w.run(&stop, func() { once.Do(func() { close(ended) }) }) }()
	}
	watch := func(d time.Duration) (early bool) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ended:
			return true
		case <-ctx.Done():
			return true
		case err := <-failures: // a worker does not end before ended is closed, unless it failed
			failures <- err
			return true
		}
		return false
	}
	short := watch(warm)
	from := time.Since(start)
	begin()
	if !short {
		watch(measure)
	}
	to := time.Since(start)
	end()
	stop.Store(true)
	var failed error
	for range workers {
		failed = errors.Join(failed, <-failures)
	}
	if failed = errors.Join(failed, ctx.Err()); failed != nil {
		return outcome{}, failed
	}
	if short {
		return outcome{}, fmt.Errorf("the %d requests prepared were gone before the warm-up of %s ended", total(scripts), warm)
	}
	return gather(workers, from, to), nil
}

// workers makes one worker of each script. hang closes their connections.
func (g generator) workers(ctx context.Context, scripts []script, outstanding int, start time.Time) (workers []worker, hang func(), err error) {
	if g.ttls != nil {
		return g.talkers(scripts, start)
	}
	links, err := g.dial(ctx, len(scripts))
	if err != nil {
		return nil, nil, err
	}
	for i := range scripts {
		depth := outstanding / len(scripts)
		if i < outstanding%len(scripts) {
			depth++
		}
		l, err := g.lane(links[i], &scripts[i], depth, start)
		if err != nil {
			hangUp(links)
			return nil, nil, err
		}
		workers = append(workers, l)
	}
	return workers, func() { hangUp(links) }, nil
}

func total(scripts []script) (n int) {
	for i := range scripts {
		n += scripts[i].len()
	}
	return n
}

func gather(workers []worker, from, to time.Duration) outcome {
	o := outcome{length: to - from}
	for _, w := range workers {
		l := w.result()
		o.total += len(l.answers)
		o.counts.add(l.counts)
		if o.bad == nil {
			o.bad = l.firstBad
		}
		for _, a := range l.answers {
			if a.at > int64(from) && a.at <= int64(to) {
				o.answers = append(o.answers, a)
			}
		}
	}
	return o
}

// latencies are those of the answers, sorted, in nanoseconds.
func (o outcome) latencies() []int64 {
	v := make([]int64, len(o.answers))
	for i, a := range o.answers {
		v[i] = a.took
	}
	slices.Sort(v)
	return v
}

// burst sends all requests of all scripts at once, from one goroutine, and waits for the answers: the server's socket
// buffer must hold what it cannot take at once.
func (g generator) burst(ctx context.Context, scripts []script) (answered int, took time.Duration, counts tally, err error) {
	conns, err := g.dial(ctx, len(scripts))
	if err != nil {
		return 0, 0, tally{}, err
	}
	defer hangUp(conns)
	lanes := make([]*lane, len(scripts))
	start := time.Now()
	for i := range lanes {
		if lanes[i], err = g.lane(conns[i], &scripts[i], scripts[i].len(), start); err != nil {
			return 0, 0, tally{}, err
		}
	}
	for _, l := range lanes {
		for l.script.sent < l.script.len() {
			if err := l.send(l.free); err != nil {
				return 0, 0, tally{}, err
			}
		}
	}
	var last int64
	for _, l := range lanes {
		for l.free < l.depth {
			if err := l.receive(); err != nil {
				return 0, 0, tally{}, err
			}
		}
		answered += len(l.answers)
		counts.add(l.counts)
		for _, a := range l.answers {
			last = max(last, a.at)
		}
	}
	return answered, time.Duration(last), counts, nil
}

// ownCPU is the CPU time of the bench itself, and so of the load generator.
func ownCPU() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
