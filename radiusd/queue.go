package radiusd

import "sync"

// lane tells which requests go first.
type lane uint8

const (
	// laneSecond is for Access-Requests whose State opens. RFC 5080 section 2.2.3 has them go first under overload:
	// somebody has already done the first half, and work done for him would be lost.
	laneSecond lane = iota
	laneFirst
	lanes
)

// queue hands requests to workers, starts workers when there is work for them, and keeps requests that find none in
// a ring for each lane. A fixed share of the workers never takes laneFirst, so that slow first factors do not hold up
// second rounds. Idle workers are used newest first: few of them stay in use, and in the processor's cache.
type queue struct {
	work func(*request) // called on a worker
	wg   sync.WaitGroup

	mu        sync.Mutex
	rings     [lanes]ring
	idle      []chan *request
	running   int
	firstBusy int // workers on laneFirst
	most      int
	firstMost int
	closed    bool
}

type ring struct {
	buf     []*request
	head, n int
}

func (r *ring) push(x *request) bool {
	if r.n == len(r.buf) {
		return false
	}
	r.buf[(r.head+r.n)%len(r.buf)] = x
	r.n++
	return true
}

func (r *ring) pop() *request {
	if r.n == 0 {
		return nil
	}
	x := r.buf[r.head]
	r.buf[r.head] = nil
	r.head = (r.head + 1) % len(r.buf)
	r.n--
	return x
}

func newQueue(workers, size int, work func(*request)) *queue {
	q := &queue{work: work, most: workers, firstMost: max(1, workers-workers/8)}
	for i := range q.rings {
		q.rings[i].buf = make([]*request, size)
	}
	return q
}

// push hands a request over, and returns how many wait, or false when its lane is full or the queue is closed.
func (q *queue) push(r *request) (depth int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, false
	}
	if (r.lane == laneSecond || q.firstBusy < q.firstMost) && q.rings[r.lane].n == 0 {
		if n := len(q.idle); n > 0 {
			w := q.idle[n-1]
			q.idle = q.idle[:n-1]
			q.taken(r)
			w <- r
			return q.depth(), true
		}
		if q.running < q.most {
			q.running++
			q.taken(r)
			q.wg.Go(func() { q.worker(r) })
			return q.depth(), true
		}
	}
	ok = q.rings[r.lane].push(r)
	return q.depth(), ok
}

func (q *queue) depth() int { return q.rings[laneSecond].n + q.rings[laneFirst].n }

func (q *queue) taken(r *request) {
	if r.lane == laneFirst {
		q.firstBusy++
	}
}

// next gives a worker its next request; the caller holds mu.
func (q *queue) next() *request {
	r := q.rings[laneSecond].pop()
	if r == nil && q.firstBusy < q.firstMost {
		r = q.rings[laneFirst].pop()
	}
	if r != nil {
		q.taken(r)
	}
	return r
}

func (q *queue) worker(r *request) {
	in := make(chan *request, 1)
	for r != nil {
		l := r.lane // work gives r away
		q.work(r)
		q.mu.Lock()
		if l == laneFirst {
			q.firstBusy--
		}
		if r = q.next(); r == nil && !q.closed {
			q.idle = append(q.idle, in)
			q.mu.Unlock()
			r = <-in
			continue
		}
		q.mu.Unlock()
	}
}

// close ends the workers when they have done what waits.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	for _, w := range q.idle {
		w <- nil
	}
	q.idle = nil
	q.mu.Unlock()
	q.wg.Wait()
}
