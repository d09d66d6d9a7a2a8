package radiusd

import (
	"sync"
	"time"

	"sallyport/radiusd/wire"
)

const (
	// maxExtras bounds what is kept between the rounds of logins; each is some hundred bytes.
	maxExtras = 4096
	// extrasFor is how long it is kept: longer than any challenge is good.
	extrasFor = 2 * time.Hour
)

// extras keeps what another RADIUS server's Accept held for the NAS, from the first round of a login to its end: keys
// that only this server may know, and so in its memory, and not in State. At another node, or after a restart, the login
// ends without them, and a NAS that needs them ends the session. It's safe for concurrent use; its zero value is empty.
type extras struct {
	mu sync.Mutex
	by map[string]*kept
	// oldest first; those that were taken are skipped
	order []*kept
}

type kept struct {
	id    string // of the attempt; empty: taken
	extra *wire.Extra
	until time.Time
}

func (x *extras) put(id string, extra *wire.Extra, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.by == nil {
		x.by = make(map[string]*kept)
	}
	for len(x.order) > 0 && (x.order[0].id == "" || x.order[0].until.Before(now) || len(x.by) >= maxExtras) {
		delete(x.by, x.order[0].id)
		x.order = x.order[1:]
	}
	if old := x.by[id]; old != nil {
		old.extra = extra
		return
	}
	k := &kept{id: id, extra: extra, until: now.Add(extrasFor)}
	x.by[id] = k
	x.order = append(x.order, k)
}

// take returns what was kept, and forgets it.
func (x *extras) take(id string) *wire.Extra {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.by[id]
	if k == nil {
		return nil
	}
	delete(x.by, id)
	k.id = ""
	return k.extra
}
