package upstream

import (
	"context"
	"fmt"
	"sync"

	"sallyport/internal/login"
)

// places bounds the checks that are under way and those that wait for one, since a server that hangs holds each for its
// whole time. No origin may have more than half of all, so that a flood from one source leaves room for the others.
type places struct {
	under chan struct{} // full when the most are under way; who waits is served in his order
	most  int           // under way and waiting
	share int           // of one origin

	mu    sync.Mutex
	taken int            // guarded by mu
	by    map[string]int // guarded by mu: of each origin that has any
}

func newPlaces(atOnce, queue int) *places {
	most := atOnce + queue
	return &places{under: make(chan struct{}, atOnce), most: most, share: (most + 1) / 2, by: make(map[string]int)}
}

// take waits for a place. Without one to wait in, or when ctx ends first, it returns login.ErrOverloaded; else the caller
// calls give. An empty origin has no share.
func (p *places) take(ctx context.Context, origin string) (give func(), err error) {
	if !p.count(origin, 1) {
		return nil, login.ErrOverloaded
	}
	select {
	case p.under <- struct{}{}:
		return func() {
			<-p.under
			p.count(origin, -1)
		}, nil
	case <-ctx.Done():
		p.count(origin, -1)
		return nil, fmt.Errorf("%w: %w", login.ErrOverloaded, ctx.Err())
	}
}

// count takes one place more, if there is one, or gives it back.
func (p *places) count(origin string, n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > 0 && (p.taken >= p.most || origin != "" && p.by[origin] >= p.share) {
		return false
	}
	p.taken += n
	if origin == "" {
		return true
	}
	if p.by[origin] += n; p.by[origin] == 0 {
		delete(p.by, origin)
	}
	return true
}
