package directory

import (
	"context"
	"fmt"
	"sync"

	"sallyport/internal/login"
)

// places bounds the checks that are under way and those that wait for one. No origin may have more than half of all,
// so that a flood from one source leaves room for the others.
type places struct {
	atOnce chan struct{} // one for each check under way; waiting senders are served in their order
	most   int           // under way and waiting
	share  int           // of one origin

	mu    sync.Mutex
	taken int
	by    map[string]int
}

func newPlaces(atOnce, queue int) *places {
	return &places{
		atOnce: make(chan struct{}, atOnce),
		most:   atOnce + queue,
		share:  (atOnce + queue + 1) / 2,
		by:     make(map[string]int),
	}
}

// take waits for a place; without one to wait in, or when ctx ends first, it returns login.ErrOverloaded. After a nil
// error the caller calls give. An empty origin has no share of its own.
func (p *places) take(ctx context.Context, origin string) (give func(), err error) {
	p.mu.Lock()
	if p.taken >= p.most || origin != "" && p.by[origin] >= p.share {
		p.mu.Unlock()
		return nil, login.ErrOverloaded
	}
	p.taken++
	if origin != "" {
		p.by[origin]++
	}
	p.mu.Unlock()
	leave := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken--
		if origin == "" {
			return
		}
		if p.by[origin]--; p.by[origin] == 0 {
			delete(p.by, origin)
		}
	}
	select {
	case p.atOnce <- struct{}{}:
		return func() {
			<-p.atOnce
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("%w: %w", login.ErrOverloaded, ctx.Err())
	}
}
