package radiusd

import "sync"

// finisher answers the requests of one socket that were judged when they were read, and whose records are on their way
// to the disk. One goroutine waits for one after the other, since records become durable in the order in which they
// were asked for, and then sends what has gathered with one system call.
type finisher struct {
	server *Server
	most   int // requests that may wait
	wake   chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	waiting []*request
	busy    int // taken, and not answered yet
	closed  bool
}

// newFinisher starts the goroutine, which close ends.
func newFinisher(s *Server, most int) *finisher {
	f := &finisher{server: s, most: most, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go f.run()
	return f
}

// full reports whether no more should be asked.
func (f *finisher) full() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting)+f.busy >= f.most
}

// post hands over a request that was asked about, and returns how many wait.
func (f *finisher) post(r *request) (depth int) {
	f.mu.Lock()
	f.waiting = append(f.waiting, r)
	depth = len(f.waiting)
	f.mu.Unlock()
	if depth == 1 {
		f.signal()
	}
	return depth
}

func (f *finisher) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// close returns when all that was posted is answered.
func (f *finisher) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.signal()
	<-f.done
}

func (f *finisher) run() {
	defer close(f.done)
	tools := f.server.tools.Get().(*toolbox)
	defer f.server.tools.Put(tools)
	var batch []*request
	for {
		f.mu.Lock()
		batch, f.waiting = f.waiting, batch[:0]
		f.busy = len(batch)
		closed := f.closed
		f.mu.Unlock()
		if len(batch) == 0 {
			if closed {
				return
			}
			<-f.wake
			continue
		}
		ln := batch[0].listener
		for i, r := range batch {
			if !r.asked.Settled() {
				ln.out.flush() // those before need not wait for this one's record
			}
			f.finish(r, tools)
			batch[i] = nil
		}
		ln.out.flush()
	}
}

// finish waits for the record, and makes the answer.
func (f *finisher) finish(r *request, tools *toolbox) {
	defer f.server.forget(r)
	outcome := r.asked.Outcome()
	if packet := f.server.answer(r, tools, outcome); packet != nil {
		r.listener.out.put(r, packet)
		f.server.count(r, packet[0], outcome.Reason())
	}
}
