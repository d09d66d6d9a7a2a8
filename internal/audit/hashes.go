package audit

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sallyport/internal/journal"
)

const (
	// maxWaiting bounds the hashes in memory that are not in the file yet, in bytes: 65,000 records. What is more is
	// read back from the journal.
	maxWaiting = 4 << 20
	// hashRetry is how long after a failure to write the file the next try comes: it may have to read much of the journal.
	hashRetry = 10 * time.Second
	// maxSpare is how much memory is kept for the next hashes, in bytes, after a rush is over.
	maxSpare = 256 << 10
	// hashChunk is how many bytes are written at once when the file is made anew.
	hashChunk = 1 << 20
)

// hashCount is the number of complete subtrees in a tree of n leaves: of hashes in a file. It is tlog.StoredHashCount.
func hashCount(n uint64) uint64 { return 2*n - uint64(bits.OnesCount64(n)) }

// leavesIn is the inverse: the most leaves whose hashes are all among the first count.
func leavesIn(count uint64) uint64 {
	n := (count + 64) / 2
	for n > 0 && hashCount(n) > count {
		n--
	}
	return n
}

// waiting are hashes that the file still lacks, of the leaves from first on.
type waiting struct {
	first  uint64
	hashes []byte
	spare  []byte // memory for the next ones
}

// add takes the hashes of the leaves from first to next. What does not fit is left out, and found missing by take.
func (w *waiting) add(hashes []byte, first, next uint64) {
	if len(w.hashes) == 0 {
		w.first = first
	}
	if len(w.hashes)+len(hashes) > maxWaiting {
		w.first, w.hashes = next, w.hashes[:0]
		return
	}
	w.hashes = append(w.hashes, hashes...)
}

// take returns what waits. Its memory is the caller's until give.
func (w *waiting) take(next uint64) waiting {
	taken := waiting{first: w.first, hashes: w.hashes}
	w.first, w.hashes, w.spare = next, w.spare[:0], nil
	return taken
}

func (w *waiting) give(taken waiting) {
	if cap(taken.hashes) <= maxSpare {
		w.spare = taken.hashes[:0]
	}
}

// hashFile holds the hash of each complete subtree of the log's tree, 32 bytes each, in the order of tlog.StoredHashIndex:
// what proofs are made of. It is not evidence, and no fsync waits for it: the journal says the same, and each proof is
// checked against a signed root before it is handed out.
type hashFile struct {
	path string

	mu   sync.RWMutex
	f    *os.File // guarded by mu; nil: not open
	size uint64   // guarded by mu: leaves whose hashes are all there

	// Owned by whoever has the log's publishing lock.
	err     error     // why the file is not what it should be
	failed  time.Time // when that was
	rebuilt time.Time // when all of it was last made again because a proof was wrong
}

func (h *hashFile) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f == nil {
		return nil
	}
	err := errors.Join(h.f.Sync(), h.f.Close())
	h.f = nil
	return err
}

// open opens the file, and gives the number of leaves that it seems to hold.
func (h *hashFile) open() (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f == nil {
		f, err := os.OpenFile(h.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return 0, err
		}
		h.f = f
	}
	info, err := h.f.Stat()
	if err != nil {
		return 0, err
	}
	h.size = leavesIn(uint64(info.Size()) / tlog.HashSize)
	return h.size, nil
}

// cut makes the file end after size leaves.
func (h *hashFile) cut(size uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.size = size
	return h.f.Truncate(int64(hashCount(size) * tlog.HashSize))
}

// extend appends the hashes of the leaves from the file's end to next.
func (h *hashFile) extend(hashes []byte, next uint64) error {
	h.mu.RLock()
	f, size := h.f, h.size
	h.mu.RUnlock()
	if want := (hashCount(next) - hashCount(size)) * tlog.HashSize; uint64(len(hashes)) != want {
		return fmt.Errorf("%d bytes of hashes for the leaves %d to %d, want %d", len(hashes), size, next, want)
	}
	if _, err := f.WriteAt(hashes, int64(hashCount(size)*tlog.HashSize)); err != nil {
		return err
	}
	h.mu.Lock()
	h.size = next
	h.mu.Unlock()
	return nil
}

// ReadHashes implements tlog.HashReader.
func (h *hashFile) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.f == nil {
		return nil, errors.New("the file of hashes is not open")
	}
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if uint64(index) >= hashCount(h.size) {
			return nil, fmt.Errorf("hash %d is not in %s, which has those of %d records", index, h.path, h.size)
		}
		if _, err := h.f.ReadAt(hashes[i][:], index*tlog.HashSize); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// edge reads the tree of the first size leaves.
func (h *hashFile) edge(size uint64) (tree, error) {
	t := tree{size: size}
	var indexes []int64
	at := uint64(0)
	for rest := size; rest > 0; {
		level := bits.Len64(rest) - 1
		indexes = append(indexes, tlog.StoredHashIndex(level, int64(at>>level)))
		at += 1 << level
		rest -= 1 << level
	}
	hashes, err := h.ReadHashes(indexes)
	copy(t.edge[:], hashes)
	return t, err
}

// openHashes opens the file at the log's start, and makes it whole. An error does not keep the log from serving: then
// there are no proofs until a later try goes well.
func (l *Log) openHashes() error {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	l.waiting.first = l.durable.size
	had, err := l.hashes.open()
	if err == nil {
		err = l.matchHashes(&l.durable)
	}
	if err != nil {
		l.hashesFailed(err)
		return fmt.Errorf("no proofs can be made yet: %w", l.hashes.err)
	}
	if had+maxMissed < l.durable.size {
		return fmt.Errorf("%s held the hashes of %d records, and was completed from the journal", l.hashes.path, had)
	}
	return nil
}

// maxMissed is how many records' hashes a killed gateway may leave out of the file without anybody being told.
const maxMissed = maxWaiting / (2 * tlog.HashSize)

func (l *Log) hashesFailed(err error) {
	l.hashes.err = fmt.Errorf("file of hashes %s: %w", l.hashes.path, err)
	l.hashes.failed = time.Now()
}

// keepHashes brings the file to t, the durable tree, with what was taken of the waiting hashes. It is called with
// publishing held.
func (l *Log) keepHashes(t *tree, fresh waiting) {
	defer func() {
		l.mu.Lock()
		l.waiting.give(fresh)
		l.mu.Unlock()
	}()
	h := &l.hashes
	if h.err != nil {
		if time.Since(h.failed) < hashRetry {
			return
		}
		h.err = nil
		if _, err := h.open(); err != nil {
			l.hashesFailed(err)
			return
		}
	}
	var err error
	switch {
	case h.size == t.size:
	case fresh.first == h.size:
		err = h.extend(fresh.hashes, t.size)
	default: // some did not fit into memory, or were lost with a write that failed
		err = l.matchHashes(t)
	}
	if err != nil {
		l.hashesFailed(err)
	}
}

// matchHashes makes the file that of t, from the journal: what it lacks, or all of it.
func (l *Log) matchHashes(t *tree) error {
	at := min(l.hashes.size, t.size)
	err := l.fillHashes(at, t)
	if at > 0 && errors.Is(err, errHashes) {
		err = l.fillHashes(0, t)
	}
	return err
}

var errHashes = errors.New("the hashes are not those of the log")

// fillHashes keeps the hashes of the first from leaves, and adds those up to t from the journal.
func (l *Log) fillHashes(from uint64, t *tree) error {
	if err := l.hashes.cut(from); err != nil {
		return err
	}
	seen, err := l.hashes.edge(from)
	if err != nil {
		return err
	}
	if from < t.size {
		hasher := newLeafHasher()
		made := make([]byte, 0, hashChunk+tlog.HashSize*64)
		err = l.journal.Scan(from, func(index uint64, _ journal.Position, payload []byte) error {
			e, err := parseEntry(payload)
			if err != nil {
				return fmt.Errorf("record %d: %w", index, err)
			}
			made = seen.grow(made, nodeOf(e.leafOf(&hasher)))
			if len(made) < hashChunk && seen.size < t.size {
				return nil
			}
			if err := l.hashes.extend(made, seen.size); err != nil {
				return err
			}
			made = made[:0]
			if seen.size == t.size {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			return err
		}
	}
	if seen.head() != t.head() {
		return fmt.Errorf("%w: of %d records they have the root %s, and the log's is %s", errHashes, seen.size, seen.root(), t.root())
	}
	return nil
}
