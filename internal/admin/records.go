package admin

import (
	"bufio"
	"context"
	"io"
	"time"

	"sallyport/internal/audit"
)

// AuditSearch is the input of audit.search. Records come oldest first; with a limit, the newest that many.
type AuditSearch struct {
	Person  string    `json:"person,omitempty"`
	System  string    `json:"system,omitempty"`
	Event   string    `json:"event,omitempty"`
	Source  string    `json:"source,omitempty"`
	Result  string    `json:"result,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Limit   int       `json:"limit,omitempty"`
	NoReads bool      `json:"no_reads,omitempty"` // leave out those that tell who read what
}

func (a AuditSearch) filter() audit.Filter {
	f := audit.Filter{
		Person: a.Person, System: a.System, Event: a.Event, Source: a.Source, Result: audit.Result(a.Result),
		Since: a.Since, Until: a.Until, Limit: a.Limit,
	}
	if a.NoReads {
		f.Except = []string{EventRead, "audit.search", "audit.tail"}
	}
	return f
}

// Checkpoint is the answer of audit.checkpoint and audit.public-key.
type Checkpoint struct {
	Note string `json:"note,omitempty"`
	Key  string `json:"key"`
}

func (s *Service) auditVerbs() {
	HandleStream(s, "audit.search", s.auditSearch)
	HandleStream(s, "audit.tail", s.auditTail)
	HandleStream(s, "audit.export", s.auditExport)
	Handle(s, "audit.checkpoint", func(context.Context, Empty) (Checkpoint, error) {
		note, err := s.Log.Checkpoint()
		return Checkpoint{Note: note, Key: s.PublicKey}, err
	})
	Handle(s, "audit.public-key", func(context.Context, Empty) (Checkpoint, error) {
		return Checkpoint{Key: s.PublicKey}, nil
	})
}

// auditSearch writes the canonical form of each record that matches, one a line.
func (s *Service) auditSearch(ctx context.Context, in AuditSearch, w io.Writer) error {
	switch audit.Result(in.Result) {
	case "", audit.Accept, audit.Reject, audit.Challenge, audit.Error, audit.Info:
	default:
		return refuse("accept, reject, challenge, error or info", "%q is not a result", clip(in.Result))
	}
	if in.Limit < 0 {
		return refuse("leave --limit out for all", "the limit is %d", in.Limit)
	}
	b := bufio.NewWriter(w)
	f := in.filter()
	f.Before = readSeq(ctx) // what it finds does not hold itself
	err := s.Finder.Find(ctx, f, func(rec *audit.Record) error {
		b.Write(rec.AppendJSON(nil))
		return b.WriteByte('\n')
	})
	if err != nil {
		return err
	}
	return b.Flush()
}

// auditTail writes records as they become durable, until the caller goes away. Limit is how many older ones it
// begins with.
func (s *Service) auditTail(ctx context.Context, in AuditSearch, w io.Writer) error {
	next := s.Log.Next()
	from := next - min(next, uint64(max(in.Limit, 0)))
	f := in.filter()
	f.Limit = 0
	return s.Log.Follow(ctx, from, func(rec *audit.Record) error {
		if !f.Match(rec) {
			return nil
		}
		_, err := w.Write(append(rec.AppendJSON(nil), '\n'))
		return err
	})
}

func (s *Service) auditExport(ctx context.Context, _ Empty, w io.Writer) error {
	if err := s.Record(ctx, "audit.export", audit.Info, "ok"); err != nil {
		return err
	}
	return s.Log.Export(w)
}
