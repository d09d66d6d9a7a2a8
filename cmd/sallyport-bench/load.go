package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
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
	strict       bool // replies must begin with a Message-Authenticator
	patience     time.Duration
}

// lane is one connected socket with its requests. One goroutine owns it.
type lane struct {
	conn   *net.UDPConn
	packet *ipv4.PacketConn
	script *script
	sign   *signer
	strict bool
	start  time.Time
	wait   time.Duration // patience

	open     [ids]int32 // the request that waits under this identifier, or -1
	sentAt   [ids]int64
	free     int // how many more may be outstanding
	depth    int
	due      bool // a tick has passed: give up what waits too long, once the socket has been read empty
	answers  []answer
	counts   tally
	firstBad error

	out, in []ipv4.Message
}

// dial opens n sockets to a server.
func dial(addr string, n int) ([]*net.UDPConn, error) {
	to, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		return nil, err
	}
	var conns []*net.UDPConn
	for range n {
		conn, err := net.DialUDP("udp4", nil, to)
		if err == nil {
			err = conn.SetReadBuffer(ownBuffer)
		}
		if err != nil {
			hangUp(conns)
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func hangUp(conns []*net.UDPConn) {
	for _, c := range conns {
		c.Close()
	}
}

func (g generator) lane(conn *net.UDPConn, s *script, depth int, start time.Time) (*lane, error) {
	l := &lane{
		conn: conn, packet: ipv4.NewPacketConn(conn), script: s, sign: newSigner(g.secret), strict: g.strict,
		start: start, wait: g.patience, free: depth, depth: depth, answers: make([]answer, 0, s.len()),
		out: make([]ipv4.Message, batch), in: make([]ipv4.Message, batch),
	}
	for i := range l.open {
		l.open[i] = -1
	}
	for i := range batch {
		l.out[i].Buffers = make([][]byte, 1)
		l.in[i].Buffers = [][]byte{make([]byte, replySize)}
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
		l.out[k].Buffers[0] = s.packet(s.sent)
		l.open[id], l.sentAt[id] = int32(s.sent), now
		l.free--
		s.sent++
		k++
	}
	for rest := l.out[:k]; len(rest) > 0; {
		sent, err := l.packet.WriteBatch(rest, 0)
		if err != nil {
			return fmt.Errorf("send to %s: %w", l.conn.RemoteAddr(), err)
		}
		rest = rest[sent:]
	}
	return nil
}

// receive takes the replies that are there, or waits for one, for a tick at most.
func (l *lane) receive() error {
	n, err := l.packet.ReadBatch(l.in, 0)
	ticked := errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !ticked {
		return fmt.Errorf("receive from %s: %w", l.conn.RemoteAddr(), err)
	}
	now := int64(time.Since(l.start))
	for i := range n {
		l.take(l.in[i].Buffers[0][:l.in[i].N], now)
	}
	if l.due && n < batch {
		l.due = false
		l.expire(now)
	}
	if ticked {
		l.due = true
		return l.conn.SetReadDeadline(time.Now().Add(tick))
	}
	return nil
}

func (l *lane) take(reply []byte, now int64) {
	if len(reply) < headerLen || l.open[reply[1]] < 0 {
		l.bad(errors.New("a reply that nobody asked for"))
		return
	}
	id := reply[1]
	code, err := l.sign.check(reply, l.script.packet(int(l.open[id]))[4:headerLen], l.strict)
	if err != nil {
		l.bad(err)
		return
	}
	if code != accessAccept {
		l.counts.Rejected++
	}
	l.answers = append(l.answers, answer{at: now, took: now - l.sentAt[id], accept: code == accessAccept})
	l.open[id] = -1
	l.free++
}

func (l *lane) bad(err error) {
	l.counts.Bad++
	if l.firstBad == nil {
		l.firstBad = err
	}
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
	conns, err := dial(g.addr, len(scripts))
	if err != nil {
		return outcome{}, err
	}
	defer hangUp(conns)
	start := time.Now()
	lanes := make([]*lane, len(scripts))
	for i := range lanes {
		depth := outstanding / len(lanes)
		if i < outstanding%len(lanes) {
			depth++
		}
		if lanes[i], err = g.lane(conns[i], &scripts[i], depth, start); err != nil {
			return outcome{}, err
		}
	}
	var stop atomic.Bool
	ended := make(chan struct{})
	var once sync.Once
	failures := make(chan error, len(lanes))
	for _, l := range lanes {
		go func() { failures <- l.run(&stop, func() { once.Do(func() { close(ended) }) }) }()
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
		case err := <-failures: // a lane does not end before ended is closed, unless it failed
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
	for range lanes {
		failed = errors.Join(failed, <-failures)
	}
	if failed = errors.Join(failed, ctx.Err()); failed != nil {
		return outcome{}, failed
	}
	if short {
		return outcome{}, fmt.Errorf("the %d requests prepared were gone before the warm-up of %s ended", total(scripts), warm)
	}
	return gather(lanes, from, to), nil
}

func total(scripts []script) (n int) {
	for i := range scripts {
		n += scripts[i].len()
	}
	return n
}

func gather(lanes []*lane, from, to time.Duration) outcome {
	o := outcome{length: to - from}
	for _, l := range lanes {
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
func (g generator) burst(scripts []script) (answered int, took time.Duration, counts tally, err error) {
	conns, err := dial(g.addr, len(scripts))
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
