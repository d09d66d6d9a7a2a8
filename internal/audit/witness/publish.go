package witness

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
)

const (
	// Timeout bounds one submission with all its turns. Whoever makes the HTTP client gives it no longer one.
	Timeout = 15 * time.Second
	// maxBackoff bounds the time between two tries at a witness that fails.
	maxBackoff = 10 * time.Minute
)

// Source is the log whose checkpoints are published. *audit.Log is one.
type Source interface {
	Prover
	Next() uint64
	Checkpoint() (string, error)
	Cosigned() (string, error)
	KeepCosigned(msg string) error
}

// Witness is one that a gateway's checkpoints are sent to.
type Witness struct {
	Name   string // in settings, records and metrics
	Client *Client
}

// PublisherOptions are what a Publisher is made of.
type PublisherOptions struct {
	Source    Source
	Verifier  note.Verifier // of the log
	Witnesses []Witness
	Every     time.Duration
	Now       func() time.Time
	Log       *slog.Logger

	// Published, if not nil, gets each checkpoint that is handed to the witnesses, with the signatures that it got: none
	// when there are no witnesses or none answers. It is called by one goroutine at a time.
	Published func(note string)
	// Conflict records that a witness has signed what the log does not hold. It is called once for each witness and run.
	Conflict func(ctx context.Context, witness string, c *Conflict) error
}

// Publisher takes checkpoints to witnesses. The order of calls is NewPublisher, Run, and after Run has returned perhaps
// Finish. Standings may be called at any time.
type Publisher struct {
	o PublisherOptions

	mu   sync.Mutex
	each []*standing // their fields are guarded by mu, save during their own submission

	// Owned by Run and Finish.
	text   string // of the checkpoint that was published last
	size   uint64
	signed map[string]string // by witness, its line for text
	own    string            // text with the log's own signature
}

// Standing is how it stands with one witness.
type Standing struct {
	Name     string        `json:"name"`
	URL      string        `json:"url"`
	Size     uint64        `json:"size"` // records of the largest checkpoint that it has signed
	At       time.Time     `json:"signed,omitzero"`
	Lag      uint64        `json:"lag"`      // records that it has not seen
	Behind   time.Duration `json:"-"`        // for how long there have been any
	Failures int           `json:"failures"` // tries since the last good one
	Signed   uint64        `json:"-"`        // checkpoints since the start
	Failed   uint64        `json:"-"`        // tries that failed since the start
	Error    string        `json:"error,omitempty"`
	Conflict bool          `json:"conflict"` // it has signed what the log does not hold, and gets nothing more
}

type standing struct {
	Witness
	Standing
	next     time.Time // no try before
	upToDate time.Time // when it last had everything
}

// NewPublisher takes what is known of the witnesses from the cosigned checkpoint that is stored.
func NewPublisher(o PublisherOptions) (*Publisher, error) {
	p := &Publisher{o: o, signed: make(map[string]string)}
	msg, err := o.Source.Cosigned()
	if err != nil {
		return nil, err
	}
	for _, w := range o.Witnesses {
		s := &standing{Witness: w, Standing: Standing{Name: w.Name, URL: w.Client.URL}, upToDate: o.Now()}
		if msg != "" {
			if c, err := audit.OpenCheckpoint(msg, o.Verifier, w.Client.Verifier); err == nil && len(c.Cosigned) == 1 {
				s.Size = c.Size
				s.At, _ = SignedAt(c.Cosigned[0])
			}
		}
		p.each = append(p.each, s)
	}
	return p, nil
}

// Run publishes until ctx ends: at once, and then every so often when there are new records.
func (p *Publisher) Run(ctx context.Context) error {
	tick := time.NewTicker(p.o.Every)
	defer tick.Stop()
	for {
		p.round(ctx, false)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Finish publishes the last records, to all witnesses that may be asked, however long they should have been left alone.
func (p *Publisher) Finish(ctx context.Context) { p.round(ctx, true) }

// Standings tells how it stands with each witness.
func (p *Publisher) Standings() []Standing {
	next, now := p.o.Source.Next(), p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Standing, 0, len(p.each))
	for _, s := range p.each {
		one := s.Standing
		if one.Size < next {
			one.Lag, one.Behind = next-one.Size, max(0, now.Sub(s.upToDate))
		}
		all = append(all, one)
	}
	return all
}

// round publishes the newest checkpoint to the witnesses that lack it.
func (p *Publisher) round(ctx context.Context, last bool) {
	next, now := p.o.Source.Next(), p.o.Now()
	var due []*standing
	p.mu.Lock()
	for _, s := range p.each {
		if !s.Conflict && s.Standing.Size < next && (last || !now.Before(s.next)) {
			due = append(due, s)
		}
	}
	p.mu.Unlock()
	if next == p.size && len(due) == 0 {
		return
	}
	checkpoint, err := p.o.Source.Checkpoint()
	if err != nil {
		p.o.Log.Error("no checkpoint to publish", "error", err)
		return
	}
	t, err := parseText(textOf(checkpoint))
	if err != nil {
		p.o.Log.Error("no checkpoint to publish", "error", err)
		return
	}
	fresh := p.text != textOf(checkpoint)
	if fresh {
		p.text, p.size, p.own = textOf(checkpoint), t.size, checkpoint
		clear(p.signed)
	}
	bounded, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	var work sync.WaitGroup
	lines := make([]string, len(due))
	for i, s := range due {
		work.Go(func() { lines[i] = p.submit(ctx, bounded, s, checkpoint, t.size) })
	}
	work.Wait()
	got := false
	for i, s := range due {
		if lines[i] != "" {
			p.signed[s.Witness.Name] = lines[i]
			got = true
		}
	}
	whole := p.own
	for _, s := range p.each { // in the order of the settings
		whole += p.signed[s.Witness.Name]
	}
	if got {
		if err := p.o.Source.KeepCosigned(whole); err != nil {
			p.o.Log.Error("the cosigned checkpoint was not kept", "error", err)
		}
	}
	if (fresh || got) && p.o.Published != nil {
		p.o.Published(whole)
	}
}

// submit takes a checkpoint to one witness within bounded, and returns its signature's line or nothing. When ctx has ended,
// that is no failure of the witness.
func (p *Publisher) submit(ctx, bounded context.Context, s *standing, checkpoint string, size uint64) string {
	p.mu.Lock()
	old := s.Standing.Size
	p.mu.Unlock()
	sig, err := s.Client.add(bounded, p.o.Source, checkpoint, old, p.o.Source.Next)
	now := p.o.Now()
	var conflict *Conflict
	p.mu.Lock()
	failures := s.Failures
	switch {
	case err == nil:
		s.Standing.Size, s.Error, s.Failures, s.next = size, "", 0, time.Time{}
		s.At, _ = SignedAt(sig)
		s.Standing.Signed++
		s.upToDate = now
	case errors.Is(err, errBehind), ctx.Err() != nil: // nothing is wrong
		err = errBehind
	default:
		s.Error = err.Error()
		s.Failures++
		s.Failed++
		s.next = now.Add(backoff(p.o.Every, s.Failures))
		s.Conflict = errors.As(err, &conflict)
	}
	p.mu.Unlock()
	log := p.o.Log.With("witness", s.Witness.Name, "url", s.URL)
	switch {
	case err == nil && failures > 0:
		log.Info("the witness signs again", "size", size, "failures", failures)
	case conflict != nil:
		log.Error("THE WITNESS CONTRADICTS THE AUDIT LOG: nothing more is sent to it. Keep the data folder as it is, and compare with the witness's checkpoint",
			"error", err, "witness_size", conflict.Signed, "log_size", conflict.Ours)
		if p.o.Conflict != nil {
			// Also while the gateway stops: whoever looks at the log must find it.
			if err := p.o.Conflict(context.WithoutCancel(ctx), s.Witness.Name, conflict); err != nil {
				log.Error("the conflict was not recorded", "error", err)
			}
		}
	case err != nil && !errors.Is(err, errBehind) && failures == 0:
		log.Warn("the witness did not sign; it is asked again", "error", err, "size", size)
	}
	if err != nil {
		return ""
	}
	return lineOf(sig)
}

// backoff doubles with each failure.
func backoff(every time.Duration, failures int) time.Duration {
	d := every
	for range failures - 1 {
		if d *= 2; d >= maxBackoff {
			return max(maxBackoff, every)
		}
	}
	return d
}
