package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport/internal/journal"
)

// Log is this node's audit log. All methods are safe for concurrent use. The order of calls is Open, anything, Close.
//
// Whoever waits for a record commits: encodes what waits, and grows the tree. One goroutine, keep, writes checkpoints;
// Close waits for it.
type Log struct {
	o       Options
	journal *journal.Journal
	file    checkpointFile
	bodies  sync.Pool // *[]byte, from Submit to EncodeEntry

	repaired []string // set by Open

	// Owned by whoever commits, after Open.
	tree   tree   // of all encoded records
	fresh  []byte // hashes of subtrees that the batch under way completes; never nil
	salts  salts
	hasher leafHasher

	// Guarded by mu. It is never held together with another lock.
	mu      sync.Mutex
	durable tree          // of all records that are on the disk: what may be signed
	waiting waiting       // hashes on their way to the file of hashes
	wake    chan struct{} // closed and forgotten when something below or above changes; nil while nobody waits
	failed  error
	closed  bool
	status  CheckpointStatus

	places places

	erasing    sync.Mutex // one Erase at a time
	publishing sync.Mutex // held from reading durable to the checkpoint's rename, so that none replaces a newer one
	hashes     hashFile   // written by whoever has publishing

	dirty chan struct{} // tells keep that there are new records
	stop  chan struct{}
	kept  chan struct{} // closed when keep has ended
	once  sync.Once
}

// ErrClosed is what a Log gives after Close.
var ErrClosed = errors.New("the audit log is closed")

func newLog(o Options) *Log {
	return &Log{
		o: o, file: checkpointFile(o.CheckpointFile), hasher: newLeafHasher(),
		fresh: make([]byte, 0, 4096), hashes: hashFile{path: o.CheckpointFile + ".hashes"},
		bodies: sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }},
		dirty:  make(chan struct{}, 1), stop: make(chan struct{}), kept: make(chan struct{}),
	}
}

// Pending is a record on its way to the disk. Its memory is the caller's, who may use it again for another record when
// Wait has returned without an error.
type Pending struct {
	log    *Log
	rec    *Record // whose Seq is set when it is known
	at     time.Time
	body   *[]byte
	change []byte
	ticket journal.Ticket
	err    error
}

// encoding is a Pending as the journal sees it.
type encoding Pending

// EncodeEntry is called by whoever commits, once, in the order of Submit.
func (e *encoding) EncodeEntry(dst []byte, index uint64) ([]byte, error) {
	l := e.log
	if index != l.tree.size {
		err := fmt.Errorf("audit log: the journal's entry %d is to hold record %d", index, l.tree.size)
		l.fail(err)
		return dst, err
	}
	salt := l.salts.next()
	dst, json := appendEntry(dst, index, salt, *e.body, e.change)
	l.fresh = l.tree.grow(l.fresh, nodeOf(l.hasher.of(salt, json)))
	e.rec.Seq = index
	l.bodies.Put(e.body)
	e.body, e.change = nil, nil
	return dst, nil
}

// Receipt proves that a record is durable. Only this package makes a valid one; the zero value is not.
type Receipt struct {
	seq   uint64
	at    time.Time
	valid bool
}

// Valid reports whether there is a durable record.
func (r Receipt) Valid() bool { return r.valid }

// Seq is the record's number.
func (r Receipt) Seq() uint64 { return r.seq }

// Time is the record's time.
func (r Receipt) Time() time.Time { return r.at }

// Submit queues rec by way of p, and change that goes with it but is not shown in exports (empty: none). It does not wait for the
// disk; the order of calls is the order of numbers. Rec is put in its canonical form here and now, with Node, Change
// and, where it is zero, Time filled in; Seq follows before Wait returns. Rec and change belong to the log until then.
// A record that cannot be written truthfully (a result of no name, a year beyond 9999, more factors or effects than
// fit) takes no number, and Wait says why.
func (l *Log) Submit(p *Pending, rec *Record, change []byte) {
	*p = Pending{log: l, rec: rec, change: change}
	rec.Node, rec.Change = l.o.Node, changeHash(change)
	if rec.Time.IsZero() {
		rec.Time = l.o.Now()
	}
	if err := rec.canonicalise(); err != nil {
		p.err = fmt.Errorf("record of %q cannot be written: %w", rec.Event, err)
		return
	}
	if len(change) > MaxChange {
		p.err = fmt.Errorf("record of %q cannot be written: its change has %d bytes, at most %d fit", rec.Event, len(change), MaxChange)
		return
	}
	p.at = rec.Time
	p.body = l.bodies.Get().(*[]byte)
	*p.body = rec.appendBody((*p.body)[:0])
	l.journal.SubmitInto(&p.ticket, (*encoding)(p))
}

// Wait returns when the record is durable, or never will be.
func (p *Pending) Wait() (Receipt, error) {
	if p.err != nil {
		return Receipt{}, p.err
	}
	seq, pos, err := p.ticket.Wait()
	if err != nil {
		p.log.fail(p.log.journal.Err())
		return Receipt{}, fmt.Errorf("record is not durable: %w", err)
	}
	if p.log.o.Durable != nil {
		p.log.o.Durable(p.rec, pos)
	}
	return Receipt{seq: seq, at: p.at, valid: true}, nil
}

// Append submits rec and waits.
func (l *Log) Append(rec *Record, change []byte) (Receipt, error) {
	var p Pending
	l.Submit(&p, rec, change)
	return p.Wait()
}

// Flush waits until all that was submitted before is durable, and returns the number of the next record.
func (l *Log) Flush() (next uint64, err error) {
	if next, err = l.journal.Flush(); err != nil {
		return 0, fmt.Errorf("flushing the audit log: %w", err)
	}
	return next, l.Err()
}

// committed is the journal's hook: the records below next are durable, and their tickets released.
func (l *Log) committed(first, next uint64) {
	l.mu.Lock()
	if l.tree.size == next {
		l.waiting.add(l.fresh, l.durable.size, next)
		l.fresh = l.fresh[:0]
		l.durable.set(&l.tree)
	} else if l.failed == nil {
		l.failed = fmt.Errorf("audit log: the tree has %d records, and the journal %d", l.tree.size, next)
	}
	l.wakeAll()
	l.mu.Unlock()
	select {
	case l.dirty <- struct{}{}:
	default:
	}
	if l.o.Journal.Committed != nil {
		l.o.Journal.Committed(first, next)
	}
}

// wakeAll is called with mu held.
func (l *Log) wakeAll() {
	if l.wake != nil {
		close(l.wake)
		l.wake = nil
	}
}

// change returns a channel that is closed when something under mu changes. It is called with mu held.
func (l *Log) change() <-chan struct{} {
	if l.wake == nil {
		l.wake = make(chan struct{})
	}
	return l.wake
}

func (l *Log) fail(err error) {
	if err == nil {
		return // this record's trouble, not the log's
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
		l.wakeAll()
	}
}

// await returns when record seq is in the durable tree.
func (l *Log) await(ctx context.Context, seq uint64) error {
	for {
		l.mu.Lock()
		have, failed, closed, change := l.durable.size, l.failed, l.closed, l.change()
		l.mu.Unlock()
		switch {
		case have > seq:
			return nil
		case failed != nil:
			return failed
		case closed:
			return ErrClosed
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Next is the number of the first record that is not durable yet.
func (l *Log) Next() uint64 { return l.journal.Next() }

// Err says why nothing more can be recorded, or nil.
func (l *Log) Err() error {
	if err := l.journal.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil && l.closed {
		return ErrClosed
	}
	return l.failed
}

// Repaired says what Open found damaged by a crash and got over, a sentence each: part of a write at the journal's end
// that nobody was told of, a broken snapshot, an empty checkpoint file.
func (l *Log) Repaired() []string { return l.repaired }

// Snapshot stores state, so that the next Open need not replay the records before it. State must be exactly the
// effect of the records below Next: the caller keeps others from submitting, and applies what it has submitted, from
// before its Flush until Snapshot returns.
func (l *Log) Snapshot(state []byte) error {
	next, err := l.Flush()
	if err != nil {
		return err
	}
	// The checkpoint first: it must never be older than the snapshot, whose tree it vouches for.
	if _, err := l.Checkpoint(); err != nil {
		return err
	}
	var t tree
	l.mu.Lock()
	t.set(&l.durable)
	l.mu.Unlock()
	if t.size != next {
		return fmt.Errorf("snapshot at record %d: %d more were recorded meanwhile", next, t.size-next)
	}
	blob, err := t.sealSnapshot(state, l.o.Signer)
	if err != nil {
		return err
	}
	if err := l.journal.WriteSnapshot(next, blob); err != nil {
		return fmt.Errorf("snapshot at record %d: %w", next, err)
	}
	return nil
}

// Read returns the record at pos. An erased one is an error.
func (l *Log) Read(pos journal.Position) (*Record, error) {
	index, payload, err := l.journal.Read(pos)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	var p parser
	rec, err := readRecord(&p, index, payload)
	if err == nil && rec == nil {
		err = errors.New("it is erased")
	}
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", index, err)
	}
	return rec, nil
}

// readRecord returns nil for an erased one.
func readRecord(p *parser, index uint64, payload []byte) (*Record, error) {
	e, err := parseEntry(payload)
	if err != nil || e.erased {
		return nil, err
	}
	rec, err := p.parse(e.json)
	if err != nil {
		return nil, err
	}
	if rec.Seq != index {
		return nil, fmt.Errorf("it says that it is record %d: %w", rec.Seq, errEntry)
	}
	return rec, nil
}

// Scan calls fn for each durable record from the given number on, in order. Erased ones are passed over. An error
// from fn ends it and is returned.
func (l *Log) Scan(from uint64, fn func(*Record, journal.Position) error) error {
	_, err := l.scan(from, fn)
	return err
}

func (l *Log) scan(from uint64, fn func(*Record, journal.Position) error) (next uint64, err error) {
	if from >= l.journal.Next() {
		return from, nil
	}
	next = from
	var p parser
	start, known := l.places.find(from)
	last := start
	visit := func(index uint64, pos journal.Position, payload []byte) error {
		last = place{index, pos}
		if index < from {
			return nil
		}
		rec, err := readRecord(&p, index, payload)
		if err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
		next = index + 1
		if rec == nil {
			return nil
		}
		return fn(rec, pos)
	}
	if known {
		err = l.journal.ScanFrom(start.seq, start.pos, visit)
	} else {
		err = l.journal.Scan(from, visit)
	}
	l.places.move(start, last)
	return next, err
}

// Follow calls fn for each record from the given number on, in order, those that are there and then those to come,
// until ctx ends, fn fails, or the log fails or is closed (ErrClosed). Erased ones are passed over.
func (l *Log) Follow(ctx context.Context, from uint64, fn func(*Record) error) error {
	for next := from; ; {
		if err := l.await(ctx, next); err != nil {
			return err
		}
		to, err := l.scan(next, func(rec *Record, _ journal.Position) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return fn(rec)
		})
		if err != nil {
			return err
		}
		next = to
	}
}

// Close stops taking records, lets those under way become durable, and writes the last checkpoint.
func (l *Log) Close() error {
	var err error
	l.once.Do(func() {
		close(l.stop)
		<-l.kept
		err = l.journal.Close()
		if l.journal.Err() == nil {
			_, perr := l.publish(true)
			err = errors.Join(err, perr)
		}
		l.hashes.close()
		l.mu.Lock()
		l.closed = true
		l.wakeAll()
		l.mu.Unlock()
	})
	return err
}
