package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"math"
	"slices"
	"sync"
)

// maxSpans bounds what is remembered of the ranges of a file that passed in no order.
const maxSpans = 64

// content is one direction of an open file: what was read of it, or what was written to it. Both sides of a transfer
// come here: the one that carries the bytes, and the one that learns how it went.
type content struct {
	mu      sync.Mutex
	hash    hash.Hash // of [0,next), unless broken
	next    uint64
	broken  string // why there is no hash
	bytes   int64
	used    bool // something was read or written, if only an end of file
	ranges  spans
	eof     bool
	eofAt   uint64 // the lowest offset at which the target said that the file ends: there, or before
	short   uint64 // where the last read ended that gave less than was asked for
	failure uint32 // the first status that wasn't good
}

// begin notes that n bytes follow, of the file's content at offset.
func (c *content) begin(offset uint64, n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = true
	if n == 0 {
		return
	}
	if c.broken == "" && offset != c.next {
		c.broken = detailOutOfOrder
		if c.bytes == 0 {
			c.broken = detailNotFromStart
		}
	}
	end := offset + uint64(n)
	if end < offset {
		end = math.MaxUint64
	}
	c.ranges.add(offset, end)
}

// add takes the bytes that begin has announced.
func (c *content) add(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += int64(len(p))
	if c.broken != "" {
		return
	}
	if c.hash == nil {
		c.hash = sha256.New()
	}
	c.hash.Write(p)
	c.next += uint64(len(p))
}

// spoil says that there is no hash to show; the first reason stands.
func (c *content) spoil(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == "" {
		c.broken = why
	}
}

// resize notes that the file's size was set, and reports whether the file is now just what has passed: a client that
// writes over an older content cuts off what stands behind it, at the end.
func (c *content) resize(size uint64) (exact bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == "" && c.next == size {
		return true
	}
	if c.broken == "" {
		c.broken = detailResized
	}
	return false
}

// fail notes a status that the target gave for a read or write.
func (c *content) fail(code uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = true
	if c.failure == 0 {
		c.failure = code
	}
}

// ended notes where the target says that the file ends.
func (c *content) ended(at uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = true
	if !c.eof || at < c.eofAt {
		c.eof, c.eofAt = true, at
	}
}

// cameShort notes that a read ended at an offset, with less than was asked for.
func (c *content) cameShort(at uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.short = at
}

// all reports whether all of a file was read, whose size is what a stat said, or -1. Clients that read ahead learn of
// the end somewhere behind it; where it is, a short read tells.
func (c *content) all(size int64) bool {
	switch {
	case size >= 0 && c.ranges.cover(uint64(size)):
		return true
	case !c.eof:
		return false
	case c.ranges.cover(c.eofAt):
		return true
	}
	return size < 0 && c.ranges.whole() && len(c.ranges.list) == 1 && c.ranges.list[0].to == c.short
}

// sum returns the hash in hex, or nothing.
func (c *content) sum() string {
	if c.broken != "" {
		return ""
	}
	if c.hash == nil {
		c.hash = sha256.New()
	}
	return hex.EncodeToString(c.hash.Sum(nil))
}

// span is a range of offsets, from inclusive and to exclusive.
type span struct{ from, to uint64 }

// spans are the ranges that have passed: sorted, apart from each other, and no more than maxSpans.
type spans struct {
	list []span
	lost bool // there were more
}

func (s *spans) add(from, to uint64) {
	if n := len(s.list); n > 0 && s.list[n-1].to == from { // in order, as nearly always
		s.list[n-1].to = to
		return
	}
	i, _ := slices.BinarySearchFunc(s.list, from, func(have span, from uint64) int {
		if have.to < from {
			return -1
		}
		return 1
	})
	j := i
	for j < len(s.list) && s.list[j].from <= to {
		from, to = min(from, s.list[j].from), max(to, s.list[j].to)
		j++
	}
	if i == j && len(s.list) == maxSpans {
		s.lost = true
		return
	}
	s.list = slices.Replace(s.list, i, j, span{from, to})
}

// cover reports whether all of [0,end) has passed.
func (s *spans) cover(end uint64) bool {
	return end == 0 || len(s.list) > 0 && s.list[0].from == 0 && s.list[0].to >= end
}

// whole reports whether what has passed is one piece from the start.
func (s *spans) whole() bool {
	return !s.lost && (len(s.list) == 0 || len(s.list) == 1 && s.list[0].from == 0)
}
