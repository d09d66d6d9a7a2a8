package firstfactor

import (
	"context"
	"fmt"
	"sync"

	"sallyport/internal/login"
)

// turns shares a few places between many who want one: first come first served within an origin, one turn each in
// the round between origins. When all waiting places are taken, the origin that has the most of them gives up its
// newest for an origin that has fewer, so that a flood crowds out itself.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting int
	most    int
	queues  map[string][]*waiter
	round   []string // origins with waiters, in the order of their next turn
}

type waiter struct {
	origin string
	ready  chan error // buffered; nil: it is your turn
}

func newTurns(atOnce, queue int) *turns {
	return &turns{free: atOnce, most: queue, queues: make(map[string][]*waiter)}
}

// take waits for a place, and returns login.ErrOverloaded when there is not even one to wait in. After a nil return
// the caller must give the place back.
func (t *turns) take(ctx context.Context, origin string) error {
	t.mu.Lock()
	if t.free > 0 && t.waiting == 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	if t.waiting >= t.most && !t.evict(origin) {
		t.mu.Unlock()
		return login.ErrOverloaded
	}
	w := &waiter{origin: origin, ready: make(chan error, 1)}
	if len(t.queues[origin]) == 0 {
		t.round = append(t.round, origin)
	}
	t.queues[origin] = append(t.queues[origin], w)
	t.waiting++
	t.mu.Unlock()

	select {
	case err := <-w.ready:
		return err
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.remove(w) {
		return fmt.Errorf("%w: %w", login.ErrOverloaded, ctx.Err())
	}
	if err := <-w.ready; err != nil { // it was settled in the same moment
		return err
	}
	t.pass()
	return fmt.Errorf("%w: %w", login.ErrOverloaded, ctx.Err())
}

// give passes the place on.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

func (t *turns) pass() {
	if len(t.round) == 0 {
		t.free++
		return
	}
	origin := t.round[0]
	t.round = t.round[1:]
	w := t.queues[origin][0]
	t.queues[origin] = t.queues[origin][1:]
	t.waiting--
	if len(t.queues[origin]) == 0 {
		delete(t.queues, origin)
	} else {
		t.round = append(t.round, origin)
	}
	w.ready <- nil
}

// evict makes room for one of origin by sending away the newest of the origin with the longest queue, if that is
// longer than origin's would become.
func (t *turns) evict(origin string) bool {
	longest := ""
	for o, q := range t.queues {
		if longest == "" || len(q) > len(t.queues[longest]) {
			longest = o
		}
	}
	if len(t.queues[longest]) <= len(t.queues[origin])+1 {
		return false
	}
	q := t.queues[longest]
	w := q[len(q)-1]
	t.remove(w)
	w.ready <- login.ErrOverloaded
	return true
}

// remove takes w out of its queue, and tells whether it was there.
func (t *turns) remove(w *waiter) bool {
	q := t.queues[w.origin]
	for i := range q {
		if q[i] != w {
			continue
		}
		q = append(q[:i:i], q[i+1:]...)
		t.waiting--
		if len(q) > 0 {
			t.queues[w.origin] = q
			return true
		}
		delete(t.queues, w.origin)
		for j, o := range t.round {
			if o == w.origin {
				t.round = append(t.round[:j:j], t.round[j+1:]...)
				break
			}
		}
		return true
	}
	return false
}
