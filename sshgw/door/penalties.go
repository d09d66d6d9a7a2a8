package door

import (
	"cmp"
	"container/heap"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Rules shut out sources for a while that misbehave before login, as PerSourcePenalties of sshd_config(5) does, whose
// defaults DefaultRules has: times add up, and count from the moment that they reach Min. There is no penalty of its own
// for unknown people, since it would tell them apart (P6).
type Rules struct {
	Off           bool
	Crash         time.Duration // the gateway's own code panicked on the connection
	AuthFail      time.Duration // a login was refused
	NoAuth        time.Duration // left without trying
	GraceExceeded time.Duration // did not log in within the grace time
	Min, Max      time.Duration
	Sources4      int // most IPv4 addresses remembered
	Sources6      int // most IPv6 /64 networks remembered
	Exempt        []netip.Prefix
}

// DefaultRules returns OpenSSH's numbers.
func DefaultRules() Rules {
	return Rules{
		Crash: 90 * time.Second, AuthFail: 5 * time.Second, NoAuth: time.Second, GraceExceeded: 10 * time.Second,
		Min: 15 * time.Second, Max: 10 * time.Minute, Sources4: 65536, Sources6: 65536,
	}
}

// Filled returns r with the defaults in its zero fields.
func (r Rules) Filled() Rules {
	d := DefaultRules()
	r.Crash, r.AuthFail = cmp.Or(r.Crash, d.Crash), cmp.Or(r.AuthFail, d.AuthFail)
	r.NoAuth, r.GraceExceeded = cmp.Or(r.NoAuth, d.NoAuth), cmp.Or(r.GraceExceeded, d.GraceExceeded)
	r.Min, r.Max = cmp.Or(r.Min, d.Min), cmp.Or(r.Max, d.Max)
	r.Sources4, r.Sources6 = cmp.Or(r.Sources4, d.Sources4), cmp.Or(r.Sources6, d.Sources6)
	return r
}

// Validate checks r after Filled.
func (r Rules) Validate() error {
	if min(r.Crash, r.AuthFail, r.NoAuth, r.GraceExceeded, r.Min) < 0 || r.Max < r.Min || min(r.Sources4, r.Sources6) < 1 {
		return errors.New("penalties: want no negative times, max not below min, and room for at least one source")
	}
	return nil
}

// Penalties remembers which sources are shut out, and until when. IPv4 and IPv6 have tables of their own, so that who
// owns many IPv6 networks cannot push out the others. When a table is full, the source that would be free first goes.
type Penalties struct {
	mu     sync.Mutex
	v4, v6 penaltyTable
}

// NewPenalties begins with nobody shut out.
func NewPenalties() *Penalties {
	return &Penalties{
		v4: penaltyTable{by: make(map[netip.Prefix]*penalty)},
		v6: penaltyTable{by: make(map[netip.Prefix]*penalty)},
	}
}

type penalty struct {
	source netip.Prefix
	until  time.Time
	active bool // it once reached Rules.Min
	index  int  // in the heap
}

// penaltyTable is a map and a heap of the same penalties, the first to end on top.
type penaltyTable struct {
	by    map[netip.Prefix]*penalty
	order penaltyHeap
}

func (p *Penalties) table(source netip.Prefix) *penaltyTable {
	if source.Addr().Is6() {
		return &p.v6
	}
	return &p.v4
}

// Add penalises source for d more.
func (p *Penalties) Add(source netip.Prefix, d time.Duration, now time.Time, rules *Rules) {
	if rules.Off || d <= 0 || !source.IsValid() || exempt(source, rules.Exempt) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table(source)
	t.expire(now)
	x := t.by[source]
	if x == nil {
		most := rules.Sources4
		if t == &p.v6 {
			most = rules.Sources6
		}
		for len(t.order) >= most {
			t.remove(t.order[0])
		}
		x = &penalty{source: source, until: now}
		t.by[source] = x
		heap.Push(&t.order, x)
	}
	x.until = x.until.Add(d)
	if most := now.Add(rules.Max); x.until.After(most) {
		x.until = most
	}
	x.active = x.active || x.until.Sub(now) >= rules.Min
	heap.Fix(&t.order, x.index)
}

// Barred reports whether source is shut out now.
func (p *Penalties) Barred(source netip.Prefix, now time.Time, rules *Rules) bool {
	if rules.Off || !source.IsValid() || exempt(source, rules.Exempt) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table(source)
	t.expire(now)
	x := t.by[source]
	if x == nil {
		return false
	}
	if most := now.Add(rules.Max); x.until.After(most) { // the clock was set back
		x.until = most
		heap.Fix(&t.order, x.index)
	}
	return x.active
}

// Count returns how many sources are remembered.
func (p *Penalties) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.v4.order) + len(p.v6.order)
}

func exempt(source netip.Prefix, list []netip.Prefix) bool {
	for _, e := range list {
		if e.Overlaps(source) {
			return true
		}
	}
	return false
}

func (t *penaltyTable) expire(now time.Time) {
	for len(t.order) > 0 && !t.order[0].until.After(now) {
		t.remove(t.order[0])
	}
}

func (t *penaltyTable) remove(x *penalty) {
	heap.Remove(&t.order, x.index)
	delete(t.by, x.source)
}

type penaltyHeap []*penalty

func (h penaltyHeap) Len() int           { return len(h) }
func (h penaltyHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h penaltyHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *penaltyHeap) Push(x any) {
	p := x.(*penalty)
	p.index = len(*h)
	*h = append(*h, p)
}

func (h *penaltyHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}
