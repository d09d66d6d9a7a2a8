package alert

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// DeliveryState is what became of telling one destination of an alert.
type DeliveryState string

// The states.
const (
	Waiting DeliveryState = "waiting" // it is tried again
	Sent    DeliveryState = "sent"
	GivenUp DeliveryState = "given-up" // see giveUpAfter
)

// Delivery is how telling one destination of one alert goes.
type Delivery struct {
	Alert       string        `json:"alert"`
	Destination string        `json:"destination"`
	State       DeliveryState `json:"state"`
	Told        time.Time     `json:"told"`            // the alert's Told that this is about
	Attempts    int           `json:"attempts"`        // for this Told
	Last        time.Time     `json:"last"`            // the newest attempt
	Error       string        `json:"error,omitempty"` // of it
}

type deliveryKey struct{ alert, destination string }

func (d *Delivery) key() deliveryKey { return deliveryKey{d.Alert, d.Destination} }

// deliveriesOf needs f.mu.
func (f *Follower) deliveriesOf(id string) (list []Delivery) {
	for k, d := range f.deliveries {
		if k.alert == id {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b Delivery) int { return cmp.Compare(a.Destination, b.Destination) })
	return list
}

// waiting returns the alerts that a destination is yet to be told of, the oldest first, and a channel that is closed when there
// may be more.
func (f *Follower) waiting(ctx context.Context, d *Destination, minimum Severity) (list []Alert, more <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(ctx); err != nil {
		return nil, nil, err
	}
	now := f.now()
	for _, a := range f.book.all {
		if a.Told.IsZero() || a.Severity < minimum || len(d.Kinds) > 0 && !slices.Contains(d.Kinds, a.Kind) {
			continue
		}
		old, known := f.deliveries[deliveryKey{a.ID, d.Name}]
		if known && !old.Told.Before(a.Told) && old.State != Waiting {
			continue
		}
		if !known && now.Sub(a.Told) >= TellWithin {
			continue // the destination is newer than the news
		}
		list = append(list, a.clone())
	}
	slices.SortFunc(list, func(x, y Alert) int { return cmp.Or(x.Told.Compare(y.Told), cmp.Compare(x.ID, y.ID)) })
	return list, f.wake, nil
}

// told stores what became of telling a destination of some alerts.
func (f *Follower) told(ctx context.Context, destination string, list []Alert, failure error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(ctx); err != nil {
		return err
	}
	now := f.now().UTC()
	var rows []Delivery
	for _, a := range list {
		d := Delivery{Alert: a.ID, Destination: destination, State: Sent, Told: a.Told, Last: now}
		if old, known := f.deliveries[d.key()]; known && old.Told.Equal(a.Told) {
			d.Attempts = old.Attempts
		}
		d.Attempts++
		if failure != nil {
			d.State, d.Error = Waiting, clip(failure.Error(), maxText)
			if now.Sub(a.Told) >= giveUpAfter {
				d.State = GivenUp
			}
		}
		rows = append(rows, d)
	}
	if err := f.store.SaveDeliveries(context.WithoutCancel(ctx), rows); err != nil {
		return err
	}
	for _, d := range rows {
		f.deliveries[d.key()] = d
	}
	return nil
}
