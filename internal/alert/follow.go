package alert

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport/internal/audit"
)

// Log is what alerts follow from.
type Log interface {
	Next() uint64
	// Scan calls fn for each durable record from a number on.
	Scan(from uint64, fn func(*audit.Record) error) error
	Follow(ctx context.Context, from uint64, fn func(*audit.Record) error) error
}

// Store keeps alerts. What a call stores is durable when it returns.
type Store interface {
	Alerts(ctx context.Context, fn func(Alert) error) error
	// SaveAlerts stores, as one, what changed, what is no longer kept, and that the log was read up to next.
	SaveAlerts(ctx context.Context, next uint64, put []Alert, gone []string) error
	// AlertsNext is up to where the log was read; 0 before the first SaveAlerts.
	AlertsNext(ctx context.Context) (uint64, error)
	Deliveries(ctx context.Context, fn func(Delivery) error) error
	SaveDeliveries(ctx context.Context, list []Delivery) error
}

// scanBatch bounds how many records are read before what they changed is stored.
const scanBatch = 10_000

// pace is how long, at least, a follower waits before it reads again: a storm of records is read in batches.
const pace = 200 * time.Millisecond

// Follower keeps a Book in step with a log. Its methods may be called concurrently.
type Follower struct {
	log   Log
	store Store
	now   func() time.Time

	mu         sync.Mutex
	book       *Book // nil before the first use
	next       uint64
	deliveries map[deliveryKey]Delivery
	wake       chan struct{} // closed when something changes
}

// NewFollower makes one. It reads nothing yet.
func NewFollower(log Log, store Store, now func() time.Time) *Follower {
	return &Follower{log: log, store: store, now: now, wake: make(chan struct{})}
}

// load needs f.mu.
func (f *Follower) load(ctx context.Context) error {
	if f.book != nil {
		return nil
	}
	var kept []Alert
	next, err := f.store.AlertsNext(ctx)
	if err == nil {
		err = f.store.Alerts(ctx, func(a Alert) error { kept = append(kept, a); return nil })
	}
	deliveries := make(map[deliveryKey]Delivery)
	if err == nil {
		err = f.store.Deliveries(ctx, func(d Delivery) error { deliveries[d.key()] = d; return nil })
	}
	if err != nil {
		return fmt.Errorf("reading the alerts: %w", err)
	}
	// Where the log is an older copy, it goes on at its end: alerts that it does not hold stay until somebody closes them.
	f.book, f.next, f.deliveries = NewBook(kept), min(next, f.log.Next()), deliveries
	return nil
}

var errEnough = errors.New("enough")

// CatchUp reads what is new in the log. When it returns, all records that were durable before are taken.
func (f *Follower) CatchUp(ctx context.Context) error {
	for end := f.log.Next(); ; {
		next, err := f.step(ctx, end)
		if err != nil || next >= end {
			return err
		}
	}
}

// step takes a batch of the records below end. It returns up to where the log is read.
func (f *Follower) step(ctx context.Context, end uint64) (next uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(ctx); err != nil {
		return 0, err
	}
	if f.next >= end {
		return f.next, nil
	}
	next = end
	n := 0
	err = f.log.Scan(f.next, func(rec *audit.Record) error {
		if rec.Seq >= end {
			return errEnough
		}
		if n == scanBatch {
			next = rec.Seq
			return errEnough
		}
		n++
		f.book.Apply(rec, f.now())
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEnough) {
		f.book = nil // what was taken of it is not stored
		return 0, fmt.Errorf("reading the log for alerts, from record %d: %w", f.next, err)
	}
	return next, f.save(ctx, next)
}

// save needs f.mu. Where nothing changed there is nothing to store: reading those records again changes nothing either.
func (f *Follower) save(ctx context.Context, next uint64) error {
	put, gone := f.book.changed()
	if len(put)+len(gone) > 0 || next-f.next >= scanBatch {
		if err := f.store.SaveAlerts(context.WithoutCancel(ctx), next, put, gone); err != nil {
			f.book = nil // to be read again, with what is stored
			return fmt.Errorf("storing the alerts: %w", err)
		}
		for _, id := range gone {
			for k := range f.deliveries {
				if k.alert == id {
					delete(f.deliveries, k)
				}
			}
		}
		close(f.wake)
		f.wake = make(chan struct{})
	}
	f.next = next
	return nil
}

// Raise opens an alert without a record: the log itself is in trouble.
func (f *Follower) Raise(ctx context.Context, s Signal, text, node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(ctx); err != nil {
		return err
	}
	f.book.Raise(s, text, node, f.now())
	return f.save(ctx, f.next)
}

// Run follows the log until ctx ends, which is no error.
func (f *Follower) Run(ctx context.Context) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		if err := f.CatchUp(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		f.mu.Lock()
		next := f.next
		f.mu.Unlock()
		err := f.log.Follow(ctx, next, func(*audit.Record) error { return errEnough })
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, errEnough) {
			return fmt.Errorf("following the log for alerts: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// List returns the alerts that are not closed, or all, the newest first.
func (f *Follower) List(ctx context.Context, all bool) ([]Alert, error) {
	if err := f.CatchUp(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(ctx); err != nil {
		return nil, err
	}
	return f.book.List(all), nil
}

// Find returns one alert, and what became of telling people.
func (f *Follower) Find(ctx context.Context, id string) (a Alert, told []Delivery, ok bool, err error) {
	if err := f.CatchUp(ctx); err != nil {
		return a, nil, false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(ctx); err != nil {
		return a, nil, false, err
	}
	a, ok = f.book.Find(id)
	return a, f.deliveriesOf(id), ok, nil
}

// OpenBySeverity counts the alerts that are not closed, of what was read so far.
func (f *Follower) OpenBySeverity() map[Severity]int {
	counts := map[Severity]int{Info: 0, Notice: 0, Warning: 0, Critical: 0}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.book != nil {
		for _, a := range f.book.open {
			counts[a.Severity]++
		}
	}
	return counts
}
