package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/journal"
	"sallyport/internal/store"
)

// The index follows the log in batches. It takes what was just recorded from memory; what it missed there, it reads
// back from the journal, a batch each time and no faster, so that a storm of logins has the machine for itself.
// Searches read what is not indexed yet from the journal.
const (
	indexBatch = 2048
	indexPace  = 100 * time.Millisecond
	feedSize   = 16384 // records kept in memory for the index: more than are made in indexPace
)

// feed holds the newest records as the index wants them, by their number.
type feed struct {
	mu   sync.Mutex
	ring []store.Entry // guarded by mu; a record's place is its number modulo feedSize
	set  []bool        // guarded by mu
}

func newFeed() *feed { return &feed{ring: make([]store.Entry, feedSize), set: make([]bool, feedSize)} }

// put is called by all who record something.
func (f *feed) put(rec *audit.Record, pos journal.Position) {
	e := entryOf(rec, pos)
	f.mu.Lock()
	f.ring[e.Seq%feedSize], f.set[e.Seq%feedSize] = e, true
	f.mu.Unlock()
}

// take appends what follows on next without a gap.
func (f *feed) take(batch []store.Entry, next uint64, most int) []store.Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ; len(batch) < most; next++ {
		if !f.set[next%feedSize] || f.ring[next%feedSize].Seq != next {
			break
		}
		batch = append(batch, f.ring[next%feedSize])
	}
	return batch
}

// forget drops records below next, which stand anew in the journal.
func (f *feed) forget(next uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.ring {
		if f.set[i] && f.ring[i].Seq < next {
			f.ring[i], f.set[i] = store.Entry{}, false
		}
	}
}

func entryOf(rec *audit.Record, pos journal.Position) store.Entry {
	return store.Entry{
		Seq: rec.Seq, Segment: pos.Segment, Offset: pos.Offset, Time: rec.Time, Event: rec.Event, Result: string(rec.Result),
		Person: rec.Person, System: rec.System, Source: rec.Source,
	}
}

// entryAt is entryOf of a record that may be erased.
func entryAt(seq uint64, rec *audit.Record, pos journal.Position) store.Entry {
	if rec == nil {
		return store.Entry{Seq: seq}
	}
	return entryOf(rec, pos)
}

// indexer keeps the index of records behind the log, and searches both.
type indexer struct {
	log   *audit.Log
	index *store.Index
	feed  *feed
	slog  *slog.Logger
	next  atomic.Uint64 // first record that is not indexed
	batch []store.Entry // of follow alone

	mu    sync.Mutex // held while a batch goes into the index
	stale uint64     // guarded by mu: records below it may stand anew since the reading of the batch in hand began

	stop context.CancelFunc
	done chan struct{}
}

// openIndexer opens the index and lets it follow.
func openIndexer(ctx context.Context, path string, log *audit.Log, fed *feed, logger *slog.Logger) (*indexer, error) {
	index, err := store.OpenIndex(ctx, path)
	if err != nil {
		return nil, err
	}
	if why := index.Started(); why != "" {
		logger.Info("the index of records is made anew", "reason", why)
	}
	x := &indexer{log: log, index: index, feed: fed, slog: logger, done: make(chan struct{})}
	next, err := index.Next(ctx)
	if err == nil && next > log.Next() { // it is of another log, or of a newer copy of this one
		logger.Warn("the index of records is ahead of the log, and is made anew", "index", next, "log", log.Next())
		next, err = 0, index.Reset(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, index.Close())
	}
	x.next.Store(next)
	if err := x.takeRewritten(ctx); err != nil {
		return nil, errors.Join(err, index.Close())
	}
	ctx, x.stop = context.WithCancel(context.WithoutCancel(ctx))
	go x.follow(ctx)
	return x, nil
}

// follow indexes what becomes durable. A failure ends it: searches then read the journal, which is slower and as right.
func (x *indexer) follow(ctx context.Context) {
	defer close(x.done)
	pace := time.NewTicker(indexPace)
	defer pace.Stop()
	for {
		for more := x.lag() > 0; more; {
			var err error
			if more, err = x.add(ctx); err != nil && ctx.Err() == nil {
				x.slog.Error("the index of records is not kept any more; searches read the journal instead", "error", err,
					"hint", "stop the gateway and remove the index: it is made anew")
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
	}
}

var errEnough = errors.New("enough")

// add indexes a batch, and tells whether another may follow at once.
func (x *indexer) add(ctx context.Context) (more bool, err error) {
	if more, err = x.read(ctx); err != nil || len(x.batch) == 0 {
		return false, err
	}
	fresh, err := x.put(ctx)
	return more || !fresh, err
}

// read takes the next batch in hand, and tells whether it is full.
func (x *indexer) read(ctx context.Context) (more bool, err error) {
	x.mu.Lock()
	x.stale = 0
	x.mu.Unlock()
	next := x.next.Load()
	x.batch = x.feed.take(x.batch[:0], next, indexBatch)
	more = len(x.batch) == indexBatch
	if len(x.batch) == 0 {
		err := x.log.ScanAll(next, func(seq uint64, rec *audit.Record, pos journal.Position) error {
			if x.batch = append(x.batch, entryAt(seq, rec, pos)); len(x.batch) == indexBatch {
				return errEnough
			}
			return ctx.Err()
		})
		if err != nil && !errors.Is(err, errEnough) {
			return false, err
		}
	}
	return more, nil
}

// put adds the batch in hand to the index, unless some of it has been rewritten since it was read.
func (x *indexer) put(ctx context.Context) (fresh bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	first := x.batch[0].Seq
	if first < x.stale {
		return false, nil
	}
	if err := x.index.Add(ctx, x.batch); err != nil {
		return true, err
	}
	x.next.Store(first + uint64(len(x.batch)))
	return true, nil
}

// takeRewritten takes in what was rewritten of the journal while a crash, a power cut or an error kept it from the index.
func (x *indexer) takeRewritten(ctx context.Context) error {
	taken, err := x.index.Taken(ctx)
	if err != nil {
		return err
	}
	for _, segment := range x.log.Rewritten() {
		if taken[segment.First] == segment.Size {
			continue
		}
		if err := x.take(ctx, segment); err != nil {
			return err
		}
	}
	return nil
}

// take takes a segment in that was rewritten. What of it is not indexed yet is read, or read again, as it is now: the feed forgets
// it first, then the batch in hand becomes stale.
func (x *indexer) take(ctx context.Context, segment journal.Finished) error {
	x.feed.forget(segment.Next)
	x.mu.Lock()
	x.stale = max(x.stale, segment.Next)
	x.mu.Unlock()
	return x.index.Take(ctx, segment.First, segment.Size, func(put func(store.Entry) error) error {
		err := x.log.ScanAll(segment.First, func(seq uint64, rec *audit.Record, pos journal.Position) error {
			if seq >= segment.Next {
				return errEnough
			}
			return put(entryAt(seq, rec, pos))
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
}

// lag is how many durable records are not indexed.
func (x *indexer) lag() uint64 {
	next, indexed := x.log.Next(), x.next.Load()
	return next - min(next, indexed)
}

func (x *indexer) close() error {
	x.stop()
	<-x.done
	return x.index.Close()
}

// page is how many hits are taken from the index at a time.
const page = 1000

// Find calls fn for each record that matches, oldest first; with a limit, for the newest that many.
func (x *indexer) Find(ctx context.Context, f audit.Filter, fn func(*audit.Record) error) error {
	limit := f.Limit
	f.Limit = 0
	indexed := x.next.Load()
	if limit > 0 {
		return x.newest(ctx, f, limit, indexed, fn)
	}
	q := query(f, indexed)
	for more := indexed > 0; more; {
		hits, err := x.index.Search(ctx, q)
		if err != nil {
			return err
		}
		if err := x.each(ctx, f, hits, fn); err != nil {
			return err
		}
		q, more = q.Following(hits)
	}
	return x.tail(ctx, f, indexed, fn)
}

// dense is how many records there may be for each hit, for the journal to be read from the first to the last in one go: that costs
// a fifth of reading each by itself.
const dense = 4

// each calls fn for the records of a page of hits, oldest first.
func (x *indexer) each(ctx context.Context, f audit.Filter, hits []store.Hit, fn func(*audit.Record) error) error {
	if len(hits) < page/2 || hits[len(hits)-1].Seq-hits[0].Seq > uint64(dense*len(hits)) {
		for _, h := range hits {
			if err := x.one(f, h, fn); err != nil {
				return err
			}
		}
		return ctx.Err()
	}
	first, last := hits[0], hits[len(hits)-1].Seq
	err := x.log.ScanFrom(first.Seq, journal.Position{Segment: first.Segment, Offset: first.Offset}, func(rec *audit.Record) error {
		if rec.Seq <= last && f.Match(rec) {
			if err := fn(rec); err != nil {
				return err
			}
		}
		if rec.Seq >= last {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return ctx.Err()
}

// newest collects backwards, and then calls fn forwards.
func (x *indexer) newest(ctx context.Context, f audit.Filter, limit int, indexed uint64, fn func(*audit.Record) error) error {
	var late []*audit.Record
	err := x.tail(ctx, f, indexed, func(rec *audit.Record) error {
		late = append(late, rec)
		if len(late) > 2*limit { // bounded, however long the tail
			late = append(late[:0], late[len(late)-limit:]...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	late = late[len(late)-min(limit, len(late)):]
	var early []*audit.Record
	q := query(f, indexed)
	q.NewestFirst = true
	for more := indexed > 0; more && len(early)+len(late) < limit; {
		hits, err := x.index.Search(ctx, q)
		if err != nil {
			return err
		}
		for _, h := range hits {
			err := x.one(f, h, func(rec *audit.Record) error { early = append(early, rec); return nil })
			if err != nil {
				return err
			}
			if len(early)+len(late) == limit {
				break
			}
		}
		q, more = q.Following(hits)
	}
	slices.Reverse(early)
	for _, rec := range append(early, late...) {
		if err := fn(rec); err != nil {
			return err
		}
	}
	return nil
}

// query asks the index for what is below a record. The index compares events as they are, and a filter may mean a
// whole family of them by its first word; the journal then has to tell.
func query(f audit.Filter, below uint64) store.Query {
	q := store.Query{
		Person: f.Person, System: f.System, Event: f.Event, Result: string(f.Result), Source: f.Source,
		Since: f.Since, Until: f.Until, Before: below, Limit: page,
	}
	if q.Event != "login" && q.Event != "access" && !strings.Contains(q.Event, ".") {
		q.Event = ""
	}
	return q
}

// one reads the record that the index points to. The journal has the last word on whether it matches.
func (x *indexer) one(f audit.Filter, h store.Hit, fn func(*audit.Record) error) error {
	rec, err := x.log.Find(h.Seq, journal.Position{Segment: h.Segment, Offset: h.Offset})
	if err != nil {
		return err
	}
	if rec == nil || !f.Match(rec) { // nil: it has just been erased
		return nil
	}
	return fn(rec)
}

// tail searches the records that are not indexed.
func (x *indexer) tail(ctx context.Context, f audit.Filter, from uint64, fn func(*audit.Record) error) error {
	return x.log.Scan(from, func(rec *audit.Record, _ journal.Position) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !f.Match(rec) {
			return nil
		}
		return fn(rec)
	})
}
