// Package journal is an append-only log of opaque entries that survives a crash: whoever was told that an
// entry is written finds it again after a power cut. It knows bytes only.
//
// # Files
//
// A journal is one folder. Numbers are little-endian; every checksum is CRC-32C (Castagnoli), which finds
// accidents. Forgery is found one floor up, by the hash tree over the entries.
//
//	%020d.seg    a segment, named after the index of its first entry
//	%020d.snap   a snapshot of the state that the entries below that index make
//	*.tmp        a segment or snapshot in the making, removed at the next start
//
// A segment begins with a header of 40 bytes:
//
//	0   8  magic "SALLYJNL"
//	8   4  version, 1
//	12  8  index of the first entry, as in the name
//	20  8  index of the first entry of the segment before, 0 for the first
//	28  8  size in bytes of the segment before, 0 for the first
//	36  4  checksum of the 36 bytes above
//
// A segment that was rewritten with other payloads (Rewrite) has a header of 56 bytes. The segment after it goes on to
// name the size that it had when it was finished:
//
//	0   36 as above, but version 2
//	36  8  size in bytes when it was finished
//	44  8  size in bytes now
//	52  4  checksum of the 52 bytes above
//
// Then come frames, one an entry, with nothing between them:
//
//	0   4  length of the payload, at most MaxPayload
//	4   8  index
//	12  4  place of the entry in its batch, from 0
//	16  4  checksum of the 16 bytes above and the payload
//	20     payload
//
// All segments but the last end with their last frame. Behind the frames of the last one, and only there,
// may stand zeros: space reserved so that a commit need not change the file's size (a third to a half less time
// for fdatasync on ext4). It goes when the segment is finished and at Close.
//
// A snapshot is a header of 60 bytes and the state:
//
//	0   8  magic "SALLYSNP"
//	8   4  version, 1
//	12  8  index of the first entry that the state does not hold
//	20  8  length of the state
//	28  32 SHA-256 of the 28 bytes above and the state
//	60     state
//
// # What a crash leaves
//
// A batch is what one fdatasync makes durable, and its tickets are released after that. Batches follow each
// other: when a frame of a batch is on disk, all batches before it were durable. So a broken frame in the last
// segment is a torn tail if no whole frame of a later batch follows it, and nobody was told that the entry is
// written; Open cuts it off and Repaired says so. Otherwise it is damage to an entry that somebody relies on: Open,
// Scan and Verify name the file and the offset, and nothing is dropped. Damage to the very last batch cannot be told
// from a torn tail by its bytes; the caller finds it by comparing the number of entries with its checkpoint.
//
// A segment or snapshot appears under its name (rename, then fsync of the folder) only when it is whole. So does a
// rewritten segment, in the place of the one that it was made of: a crash leaves the one or the other.
//
// # Errors
//
// An error of a write or of fdatasync ends the journal (ErrFailed): after a failed fdatasync the kernel may hold
// pages as clean that never reached the disk, so a second try proves nothing (PostgreSQL's "fsyncgate", 2018).
// For the same reason Open writes out the last segment and drops its cached pages before it believes them.
package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// MaxPayload bounds one entry, in bytes.
	MaxPayload = 1 << 20
	// MaxQueued bounds the entries that wait for the disk; at it Submit refuses. At 60,000 entries a second it is
	// a quarter of a second, longer than any caller's patience is worth.
	MaxQueued = 16384
	// DefaultSegmentBytes is the size at which a segment is finished.
	DefaultSegmentBytes = 64 << 20
	// DefaultMaxBatch is the number of entries that share one fdatasync at most.
	DefaultMaxBatch = 4096
)

// The classes of error that a caller may need to tell apart.
var (
	// ErrFailed is in every error after a write or sync failed. It is final: only a new Open, after the cause
	// is gone, makes a journal that accepts entries.
	ErrFailed = errors.New("journal has failed")
	// ErrClosed is in the error of a Submit after Close.
	ErrClosed = errors.New("journal is closed")
	// ErrFull is in the error of a Submit while MaxQueued entries wait. The next Submit may succeed.
	ErrFull = errors.New("journal queue is full")
	// ErrTooLarge is in the error of an entry above MaxPayload. The journal goes on.
	ErrTooLarge = errors.New("journal entry is too large")
	// ErrReadOnly is in the error of a write to a journal that was opened for reading.
	ErrReadOnly = errors.New("journal is open for reading only")
	// ErrLocked is in the error of LockDir and Open when another process holds the folder.
	ErrLocked = errors.New("folder is in use")
	// ErrShorter is in the error of LatestSnapshot when the snapshot holds entries that the journal has not:
	// the journal was cut behind its back.
	ErrShorter = errors.New("journal is shorter than its snapshot")
)

// Options says where a journal is and how it behaves. Only Dir is required.
type Options struct {
	Dir string
	// SegmentBytes is the size at which a segment is finished, DefaultSegmentBytes if 0. A segment ends with a
	// batch, so it may pass this by one batch.
	SegmentBytes int64
	// MaxBatch is the number of entries that share one fdatasync at most, DefaultMaxBatch if 0.
	MaxBatch int
	// Sync makes a file's bytes durable, unix.Fdatasync if nil. Tests inject faults here. It is also called for
	// the header of a new segment, for a snapshot, and once by Open.
	Sync func(*os.File) error
	// ReadOnly reads beside a writer in another process: nothing is repaired, an incomplete tail is ignored.
	ReadOnly bool
	// Committed, if not nil, is called by whoever commits, one at a time, after the tickets of the entries first up to
	// but without next were released. The next batch waits for it.
	Committed func(first, next uint64)

	wrap    func(*os.File) segmentFile // tests put a failing file between; nil: none
	syncDir func(*os.File) error       // nil: fsync
}

// segmentFile is what a commit does to the last segment besides syncing it.
type segmentFile interface {
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
}

// Position is where an entry lies: the index of its segment's first entry, and the byte offset of its frame. It
// holds until the segment is rewritten.
type Position struct {
	Segment uint64
	Offset  int64
}

// Repair says what Open cut off the last segment: bytes of a batch that was never acknowledged.
type Repair struct {
	Segment uint64 // index of the segment's first entry
	Offset  int64  // where it was cut
	Bytes   int64  // how many bytes were dropped
}

func (r *Repair) String() string {
	return fmt.Sprintf("cut %d bytes of an unfinished write from %s at byte %d", r.Bytes, segmentName(r.Segment), r.Offset)
}

// A Journal is safe for concurrent use. Its life: Open, then Submit, Read and Scan in any order, then Close. It has no
// goroutine of its own: who waits for an entry writes it, and all that was queued with it (see await).
type Journal struct {
	opt      Options
	dir      *os.File // holds the writer's lock; nil when read-only
	repaired *Repair
	turn     chan struct{} // holds one element while somebody commits; a mutex that can be waited for beside other things

	// mu guards the queue and the journal's end.
	mu      sync.Mutex
	queue   []*batch      // batches that wait, oldest first
	spare   []*batch      // batches to use again
	queued  int           // entries in queue
	pending chan struct{} // done of the youngest batch ever queued; nil before the first
	closed  bool
	err     error // why the journal failed; wraps ErrFailed

	// view guards what readers may see: whole, durable entries only.
	view     sync.RWMutex
	segments []segment
	next     uint64

	// Owned by who has the turn, and by Open.
	file      *os.File
	out       segmentFile
	written   uint64 // index of the next entry, ahead of next during a commit
	end       int64  // where the next frame goes
	size      int64  // size of the file: end, or more with reserved zeros
	forgotten int64  // below it the kernel was told to drop its cache
	reserve   bool   // false after the disk had no room to reserve
	buf       []byte // frames of the batch that is being written
	zeros     []byte

	snapshots sync.Mutex // one WriteSnapshot at a time
	rewriting sync.Mutex // one Rewrite at a time
	closing   sync.Once
	closeErr  error
}

// Open opens the journal in o.Dir, and makes it if it is not there and o.ReadOnly is not set. It reads the headers
// of all segments and every byte of the last; Verify reads the rest. It takes an exclusive flock on the folder, so
// that a second writer gets ErrLocked.
func Open(o Options) (*Journal, error) {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.MaxBatch <= 0 || o.MaxBatch > MaxQueued {
		o.MaxBatch = DefaultMaxBatch
	}
	if o.Sync == nil {
		o.Sync = fdatasync
	}
	if o.wrap == nil {
		o.wrap = func(f *os.File) segmentFile { return f }
	}
	if o.syncDir == nil {
		o.syncDir = (*os.File).Sync
	}
	j := &Journal{opt: o, reserve: true, turn: make(chan struct{}, 1)}
	if o.ReadOnly {
		if err := j.refresh(); err != nil {
			return nil, err
		}
		return j, nil
	}
	if err := j.openWriter(); err != nil {
		if j.file != nil {
			_ = j.file.Close()
		}
		if j.dir != nil {
			_ = release(j.dir)
		}
		return nil, err
	}
	return j, nil
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (j *Journal) openWriter() error {
	dir, err := openDir(j.opt)
	if err != nil {
		return err
	}
	j.dir = dir
	if err := take(dir); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("journal %s: %w: another process writes to it", j.opt.Dir, ErrLocked)
		}
		return fmt.Errorf("lock journal %s: %w", j.opt.Dir, err)
	}
	if err := removeUnfinished(j.opt.Dir); err != nil {
		return err
	}
	segments, problems := listSegments(j.opt.Dir)
	if len(problems) > 0 {
		return problems[0]
	}
	j.segments = segments
	if len(segments) == 0 {
		return j.startSegment(0, segment{})
	}
	return j.openLast()
}

// openDir opens the folder, and makes it and those above it if they are missing, durably. A process that was killed
// may have made a name and not synced it, so the names are synced also when nothing is missing.
func openDir(o Options) (*os.File, error) {
	path, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("find journal folder: %w", err)
	}
	if err := makeDir(path, o.syncDir); err != nil {
		return nil, fmt.Errorf("make journal folder: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open journal folder: %w", err)
	}
	if err := o.syncDir(dir); err != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("sync journal folder: %w", err)
	}
	return dir, nil
}

func makeDir(path string, syncDir func(*os.File) error) error {
	above := filepath.Dir(path)
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, os.ErrNotExist) && above != path {
		if err := makeDir(above, syncDir); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	made := err == nil
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	parent, err := os.Open(above)
	if err != nil {
		if !made && errors.Is(err, os.ErrPermission) {
			return nil // not ours, and so not made by us
		}
		return err
	}
	defer parent.Close()
	if err := syncDir(parent); err != nil {
		return fmt.Errorf("sync %s: %w", above, err)
	}
	return nil
}

// openLast reads the last segment to its end, cuts off a torn tail and leaves it ready for the next frame.
func (j *Journal) openLast() error {
	last := &j.segments[len(j.segments)-1]
	path := filepath.Join(j.opt.Dir, segmentName(last.first))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	j.file, j.out = f, j.opt.wrap(f)
	// What a killed process wrote may be in the page cache only, and what a failed sync left there may be
	// nowhere else: write it out, forget it, and read what the disk has.
	if err := j.opt.Sync(f); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // advice; the file is right without it
	t, err := scanTail(f, *last, nil)
	if err != nil {
		return err
	}
	if t.torn > 0 {
		j.repaired = &Repair{Segment: last.first, Offset: t.end, Bytes: t.torn}
	}
	if t.end < last.size {
		if err := j.out.Truncate(t.end); err != nil {
			return fmt.Errorf("cut the torn tail off %s: %w", path, err)
		}
		if err := j.opt.Sync(f); err != nil {
			return fmt.Errorf("sync %s: %w", path, err)
		}
	}
	last.size = t.end
	j.end, j.size = t.end, t.end
	j.written, j.next = t.next, t.next
	return nil
}

// Repaired says what Open cut off; nil when the journal ended whole.
func (j *Journal) Repaired() *Repair { return j.repaired }

// Next is the index of the next entry: the number of durable entries. A read-only journal tells what it saw last,
// at Open or in a Scan.
func (j *Journal) Next() uint64 {
	j.view.RLock()
	defer j.view.RUnlock()
	return j.next
}

// Err says why the journal failed, wrapping ErrFailed; nil while it works.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Close refuses new entries, waits until those submitted are durable or failed, and gives the folder free. It
// returns the journal's failure, if it had one. A second Close returns the same.
func (j *Journal) Close() error {
	j.closing.Do(func() {
		if j.opt.ReadOnly {
			return
		}
		j.mu.Lock()
		j.closed = true
		j.mu.Unlock()
		j.rewriting.Lock() // whoever is at it ends; nobody begins
		defer j.rewriting.Unlock()
		j.turn <- struct{}{} // kept: nobody commits after this
		for j.commitNext() {
		}
		err := j.Err()
		if err == nil {
			err = j.trim()
		}
		if e := j.file.Close(); err == nil && e != nil {
			err = fmt.Errorf("close segment: %w", e)
		}
		_ = release(j.dir)
		j.closeErr = err
	})
	return j.closeErr
}
