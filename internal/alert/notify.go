package alert

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Bounds of telling one destination.
const (
	giveUpAfter = 24 * time.Hour // an alert that could not be told for so long shows in alert list alone
	digestFrom  = 4              // so many that wait are one message
	inDigest    = 50             // alerts that one message has in full; further ones are counted

	defaultBurst  = 5           // messages at once
	defaultRefill = time.Minute // and then one in so long
	firstPause    = 5 * time.Second
	maxPause      = 10 * time.Minute
	defaultSend   = 30 * time.Second
)

// Message is what a destination is told.
type Message struct {
	Node   string    `json:"node"`
	Sent   time.Time `json:"sent"`
	Alerts []Alert   `json:"alerts"`         // the oldest first
	More   int       `json:"more,omitempty"` // alerts beyond those
	Test   bool      `json:"test,omitempty"`
}

// Subject is the message in one line.
func (m *Message) Subject() string {
	head := "[sallyport " + m.Node + "] "
	if m.Test {
		return head + "test of alerts"
	}
	if len(m.Alerts) != 1 || m.More > 0 {
		worst := Info
		for i := range m.Alerts {
			worst = max(worst, m.Alerts[i].Severity)
		}
		return fmt.Sprintf("%s%s: %d alerts", head, worst, len(m.Alerts)+m.More)
	}
	return head + m.Alerts[0].line()
}

func (a *Alert) line() string {
	s := a.Severity.String() + ": " + string(a.Kind)
	if a.Person != "" {
		s += " " + a.Person
	}
	if a.System != "" {
		s += " at " + a.System
	}
	return s
}

// Sender tells one destination. It is called by one goroutine at a time, but for tests of the destination.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// Destination is somebody who is told.
type Destination struct {
	Name   string
	Kinds  []Kind // empty: all
	Sender Sender
}

// NotifierOptions are what a Notifier works with.
type NotifierOptions struct {
	Follower     *Follower
	Destinations []Destination
	Minimum      Severity
	Node         string
	Now          func() time.Time
	Slog         *slog.Logger

	Burst  int           // messages at once; 0: 5
	Refill time.Duration // one more message each; 0: a minute
	Pause  time.Duration // after the first failure; 0: 5 s
	Send   time.Duration // that a message may take; 0: 30 s
}

// DestinationStanding is how telling a destination goes, since the start.
type DestinationStanding struct {
	Name     string `json:"name"`
	Sent     uint64 `json:"sent_total"`     // messages
	Failures uint64 `json:"failures_total"` // messages
	Waiting  int    `json:"waiting"`        // alerts
	Error    string `json:"error,omitempty"`
}

// Notifier tells destinations of alerts. Run once; Standings and Test at any time.
type Notifier struct {
	o NotifierOptions

	mu        sync.Mutex
	standings map[string]*DestinationStanding
}

// NewNotifier makes one.
func NewNotifier(o NotifierOptions) *Notifier {
	if o.Burst == 0 {
		o.Burst = defaultBurst
	}
	if o.Refill == 0 {
		o.Refill = defaultRefill
	}
	if o.Pause == 0 {
		o.Pause = firstPause
	}
	if o.Send == 0 {
		o.Send = defaultSend
	}
	if o.Slog == nil {
		o.Slog = slog.New(slog.DiscardHandler)
	}
	n := &Notifier{o: o, standings: make(map[string]*DestinationStanding)}
	for _, d := range o.Destinations {
		n.standings[d.Name] = &DestinationStanding{Name: d.Name}
	}
	return n
}

// Run tells destinations until ctx ends, which is no error. A destination that hangs holds up no other.
func (n *Notifier) Run(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make(chan error, len(n.o.Destinations))
	for i := range n.o.Destinations {
		all.Go(func() { errs <- n.tell(ctx, &n.o.Destinations[i]) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// tell serves one destination.
func (n *Notifier) tell(ctx context.Context, d *Destination) error {
	tokens, refilled := n.o.Burst, time.Now()
	pause := n.o.Pause
	for {
		list, more, err := n.o.Follower.waiting(ctx, d, n.o.Minimum)
		if err != nil {
			return fmt.Errorf("alerts for %s: %w", d.Name, err)
		}
		n.note(d.Name, func(s *DestinationStanding) { s.Waiting = len(list) })
		if len(list) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-more:
				continue
			}
		}
		for ; tokens < n.o.Burst && time.Since(refilled) >= n.o.Refill; refilled = refilled.Add(n.o.Refill) {
			tokens++
		}
		if tokens == n.o.Burst {
			refilled = time.Now()
		}
		if tokens == 0 {
			if !sleep(ctx, time.Until(refilled.Add(n.o.Refill))) {
				return nil
			}
			continue // with all that have come meanwhile
		}
		if len(list) < digestFrom && len(list) <= tokens {
			list = list[:1]
		}
		tokens--
		m := Message{Node: n.o.Node, Sent: n.o.Now().UTC(), Alerts: list}
		if len(list) > inDigest {
			m.Alerts, m.More = list[:inDigest], len(list)-inDigest
		}
		failure := n.send(ctx, d, m)
		if ctx.Err() != nil {
			return nil // whether it got there is not known: it is told again
		}
		if err := n.o.Follower.told(ctx, d.Name, list, failure); err != nil {
			return fmt.Errorf("alerts for %s: %w", d.Name, err)
		}
		if failure == nil {
			pause = n.o.Pause
			continue
		}
		n.o.Slog.Warn("nobody was told of alerts", "destination", d.Name, "alerts", len(list), "error", failure)
		if !sleep(ctx, pause) {
			return nil
		}
		pause = min(2*pause, maxPause)
	}
}

func (n *Notifier) send(ctx context.Context, d *Destination, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, n.o.Send)
	defer cancel()
	err := d.Sender.Send(ctx, m)
	n.note(d.Name, func(s *DestinationStanding) {
		s.Error = ""
		if err != nil {
			s.Failures++
			s.Error = clip(err.Error(), maxText)
			return
		}
		s.Sent++
	})
	return err
}

func (n *Notifier) note(name string, change func(*DestinationStanding)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n.standings[name])
}

// Standings tells how it goes, in the order of the destinations.
func (n *Notifier) Standings() []DestinationStanding {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]DestinationStanding, 0, len(n.o.Destinations))
	for _, d := range n.o.Destinations {
		list = append(list, *n.standings[d.Name])
	}
	return list
}

// Tried is what came of a test message.
type Tried struct {
	Destination string `json:"destination"`
	Error       string `json:"error,omitempty"`
}

// Test sends every destination a message that says it is a test.
func (n *Notifier) Test(ctx context.Context) []Tried {
	list := make([]Tried, len(n.o.Destinations))
	var all sync.WaitGroup
	for i := range n.o.Destinations {
		d := &n.o.Destinations[i]
		list[i].Destination = d.Name
		all.Go(func() {
			err := n.send(ctx, d, Message{Node: n.o.Node, Sent: n.o.Now().UTC(), Alerts: []Alert{}, Test: true})
			if err != nil {
				list[i].Error = err.Error()
			}
		})
	}
	all.Wait()
	return slices.Clip(list)
}

// sleep tells whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
