package radiusd

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"sallyport/radiusd/wire"
)

const (
	// replyLife is how long a reply can be sent again, from when it was ready: the most that RFC 5080 section 2.2.2
	// gives, since some NAS wait 10 s and more between resends.
	replyLife = 30 * time.Second
	// cacheShards and maxCached bound the reply cache: 262,144 requests within replyLife. When a shard is full, new requests
	// are dropped. To evict a live reply instead would let its resend be judged again, with a code that is then used.
	cacheShards = 64
	maxCached   = 4096 // a shard
	// maxCachedClient keeps one client from taking the whole cache.
	maxCachedClient = cacheShards * maxCached / 2
	// keepReply is how large a recycled entry's buffer may stay.
	keepReply = 512
)

// cacheKey is what makes two requests resends of each other, beside their content (RFC 5080 section 2.2.2).
type cacheKey struct {
	src      netip.AddrPort
	road     uint32
	id, code byte
}

// cached is a request that is being judged, or was, and its reply. All fields are guarded by their shard's lock.
type cached struct {
	key        cacheKey
	auth       [wire.AuthenticatorSize]byte
	sum        uint64 // of the whole packet: a NAS that never changes its authenticator still asks new questions
	done       bool
	superseded bool // the identifier was used again meanwhile: the reply is not to be sent
	expires    time.Duration
	reply      []byte
	tally      *tally
	prev, next *cached // in the order of expiry, when done
}

// replyCache answers resends. It is safe for concurrent use.
type replyCache struct {
	seed   maphash.Seed
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu      sync.Mutex
	entries map[cacheKey]*cached
	oldest  *cached
	newest  *cached
	free    *cached // linked by next
	most    int
}

func newReplyCache() *replyCache {
	c := &replyCache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].entries = make(map[cacheKey]*cached)
		c.shards[i].most = maxCached
	}
	return c
}

func (c *replyCache) shard(k *cacheKey) *cacheShard {
	return &c.shards[maphash.Comparable(c.seed, *k)%cacheShards]
}

func (c *replyCache) sum(packet []byte) uint64 { return maphash.Bytes(c.seed, packet) }

// begin notes that a request is to be judged, and returns its entry, which the caller must give to finish or abort.
// A resend gets no entry: either the reply's bytes, appended to scratch, or dropInFlight.
func (c *replyCache) begin(k cacheKey, packet []byte, t *tally, now time.Duration, scratch []byte) (e *cached, resend []byte, why dropReason) {
	auth, sum := wire.AuthenticatorOf(packet), c.sum(packet)
	s := c.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	if old := s.entries[k]; old != nil {
		if old.auth == auth && old.sum == sum {
			if !old.done {
				return nil, nil, dropInFlight
			}
			return nil, append(scratch[:0], old.reply...), dropNone
		}
		s.remove(old)
	}
	if len(s.entries) >= s.most || t.cached.Load() >= maxCachedClient {
		return nil, nil, dropCacheFull
	}
	e = s.free
	if e == nil {
		e = new(cached)
	} else {
		s.free = e.next
	}
	*e = cached{key: k, auth: auth, sum: sum, tally: t, reply: e.reply[:0]}
	t.cached.Add(1)
	s.entries[k] = e
	return e, nil, dropNone
}

// finish keeps the reply for resends, and reports whether it is still wanted.
func (c *replyCache) finish(e *cached, reply []byte, now time.Duration) bool {
	if e == nil { // not looked for there
		return true
	}
	s := c.shard(&e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.superseded {
		s.recycle(e)
		return false
	}
	e.reply = append(e.reply[:0], reply...)
	e.done, e.expires = true, now+replyLife
	if e.prev = s.newest; e.prev != nil {
		e.prev.next = e
	} else {
		s.oldest = e
	}
	s.newest = e
	return true
}

// abort forgets a request that got no answer, so that its resend is judged.
func (c *replyCache) abort(e *cached) {
	if e == nil {
		return
	}
	s := c.shard(&e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.superseded {
		s.remove(e)
	}
	s.recycle(e)
}

// expire drops what is too old.
func (s *cacheShard) expire(now time.Duration) {
	for s.oldest != nil && s.oldest.expires <= now {
		s.remove(s.oldest)
	}
}

// remove takes e out of the shard. An entry that is not done belongs to its worker still, who recycles it.
func (s *cacheShard) remove(e *cached) {
	delete(s.entries, e.key)
	e.tally.cached.Add(-1)
	if !e.done {
		e.superseded = true
		return
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		s.oldest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		s.newest = e.prev
	}
	s.recycle(e)
}

func (s *cacheShard) recycle(e *cached) {
	buf := e.reply
	if cap(buf) > keepReply {
		buf = nil
	}
	*e = cached{reply: buf, next: s.free}
	s.free = e
}
