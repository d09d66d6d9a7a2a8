package audit

import (
	"sync"

	"sallyport/internal/journal"
)

// place is where a record stands. The zero place is none.
type place struct {
	seq uint64
	pos journal.Position
}

// places are where the readers of the log are that come again for what is new, so that none has to look for its place from the
// beginning of a segment. There may be more readers than places: those look.
type places struct {
	mu    sync.Mutex
	known [16]place
	turn  int // whose is given away next
}

// find returns the place of a record, or of the one before it.
func (p *places) find(seq uint64) (place, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.known {
		if x != (place{}) && (x.seq == seq || x.seq+1 == seq) {
			return x, true
		}
	}
	return place{}, false
}

// move notes that a reader went from one place, which may be none, to another.
func (p *places) move(from, to place) {
	if from == to {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if from != (place{}) {
		for i, x := range p.known {
			if x == from {
				p.known[i] = to
				return
			}
		}
	}
	p.known[p.turn] = to
	p.turn = (p.turn + 1) % len(p.known)
}
