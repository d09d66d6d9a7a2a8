package audit

import (
	"crypto/sha256"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the right edge of a Merkle tree (RFC 6962 section 2.1): the roots of the complete subtrees, largest first,
// one for each 1 in the binary form of size. That is all that growing and the root need.
type tree struct {
	size uint64
	edge [64]tlog.Hash
}

func (t *tree) depth() int { return bits.OnesCount64(t.size) }

// nodeOf is a leaf's hash in the tree: tlog.RecordHash without its heap allocation.
func nodeOf(leaf [sha256.Size]byte) tlog.Hash {
	var data [1 + sha256.Size]byte
	copy(data[1:], leaf[:])
	return sha256.Sum256(data[:])
}

// add appends a leaf.
func (t *tree) add(leaf [sha256.Size]byte) { _ = t.grow(nil, nodeOf(leaf)) }

// grow appends a leaf by its node, and to dst, unless it is nil, the hashes of the subtrees that are complete with it, the smallest
// first: what a file in the order of tlog.StoredHashIndex grows by.
func (t *tree) grow(dst []byte, h tlog.Hash) []byte {
	if dst != nil {
		dst = append(dst, h[:]...)
	}
	n := t.depth()
	for s := t.size; s&1 == 1; s >>= 1 {
		n--
		h = tlog.NodeHash(t.edge[n], h)
		if dst != nil {
			dst = append(dst, h[:]...)
		}
	}
	t.edge[n] = h
	t.size++
	return dst
}

// set makes t a copy of o, touching no more of the edge than is in use.
func (t *tree) set(o *tree) {
	t.size = o.size
	copy(t.edge[:o.depth()], o.edge[:o.depth()])
}

// root is the tree's head; for no leaves the SHA-256 of nothing.
func (t *tree) root() tlog.Hash {
	n := t.depth()
	if n == 0 {
		return sha256.Sum256(nil)
	}
	h := t.edge[n-1]
	for i := n - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.edge[i], h)
	}
	return h
}
