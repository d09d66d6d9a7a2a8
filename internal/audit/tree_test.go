package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// TestTree compares the right edge, at every size, with the tree of tlog, which keeps all hashes.
func TestTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []tlog.Hash
		reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			list := make([]tlog.Hash, len(indexes))
			for i, x := range indexes {
				list[i] = all[x]
			}
			return list, nil
		})
		var edge, copied tree
		seed := rapid.Uint64().Draw(t, "seed")
		for n := range int64(rapid.IntRange(0, 600).Draw(t, "size")) {
			want, err := tlog.TreeHash(n, reader)
			if err != nil {
				t.Fatal(err)
			}
			if edge.root() != want || edge.size != uint64(n) {
				t.Fatalf("size %d: root %s, want %s", n, edge.root(), want)
			}
			copied.set(&edge)
			if copied.head() != edge.head() {
				t.Fatalf("size %d: the copy has root %s", n, copied.root())
			}
			leaf := sha256.Sum256(binary.BigEndian.AppendUint64(nil, seed+uint64(n)))
			hashes, err := tlog.StoredHashes(n, leaf[:], reader)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, hashes...)
			edge.add(leaf)
		}
	})
}

// TestTreeIsBounded: the edge holds any size that there can be.
func TestTreeIsBounded(t *testing.T) {
	full := tree{size: 1<<64 - 2}
	full.add([32]byte{})
	if full.size != 1<<64-1 || full.depth() != 64 {
		t.Errorf("size %d, depth %d", full.size, full.depth())
	}
}
