package admin

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/recording"
)

// Recording is a session with what the records say of its recording.
type Recording struct {
	PastSession
	Sealed []recording.Chunk `json:"sealed"` // that are on record
}

// Known is what a recording is compared with.
func (r *Recording) Known() recording.Known {
	return recording.Known{
		Session: r.ID, Chunks: r.Sealed, Ended: r.State != "", Count: r.Chunks, SHA256: r.SHA256, State: r.State,
	}
}

// Reading a recording is itself on record, and the record comes before the answer. What was searched for is not in it: it
// may be a password that somebody was careless with.
func (s *Service) recordingVerbs() {
	for _, verb := range []string{"recording.find", "recording.play", "recording.export"} {
		Handle(s, verb, func(ctx context.Context, in SessionIn) (Recording, error) { return s.recording(ctx, verb, in.ID) })
	}
	Handle(s, "recording.search", s.recordingSearch)
}

// recordReading records that somebody looked at what a session did.
func (s *Service) recordReading(ctx context.Context, event string, p *PastSession) error {
	actor := actorOf(ctx)
	_, err := s.Gate.Commit(&audit.Record{
		Time: s.Now(), Event: event, Result: audit.Info, Reason: string(login.ReasonOK), Person: p.Person, Login: p.Person, Protocol: "admin",
		Source: actor.Road, System: p.System, Account: p.Account, Session: p.ID, Attempt: p.Attempt,
		Detail: actorDetail(actor),
	}, login.Change{}, nil, nil)
	return err
}

func (s *Service) recording(ctx context.Context, verb, id string) (Recording, error) {
	p, all, err := s.pastSession(ctx, id)
	if err != nil {
		return Recording{}, err
	}
	if p.Recording == "" {
		return Recording{}, refuse("`sallyport session show "+p.ID+"` shows what is on record of it", "session %s of %s at %s was not recorded", p.ID, p.Person, p.System)
	}
	r := Recording{PastSession: p}
	for _, rec := range all {
		if rec.Event != recording.EventChunk {
			continue
		}
		c, err := recording.ParseChunk(func(key string) string {
			for _, d := range rec.Detail {
				if d.Key == key {
					return d.Value
				}
			}
			return ""
		})
		if err != nil {
			return r, refuse("", "record %d tells of a chunk of the recording, and cannot be read: %v", rec.Seq, err)
		}
		r.Sealed = append(r.Sealed, c)
	}
	slices.SortStableFunc(r.Sealed, func(a, b recording.Chunk) int { return cmp.Compare(a.Number, b.Number) })
	return r, s.recordReading(ctx, verb, &p)
}

// recordingSearch lists the recordings that somebody is about to search.
func (s *Service) recordingSearch(ctx context.Context, in SessionPast) ([]PastSession, error) {
	list, err := s.sessionPast(ctx, in)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(p PastSession) bool { return p.Recording == "" })
	when := func(t time.Time) string {
		if t.IsZero() {
			return "any"
		}
		return t.UTC().Format(time.RFC3339)
	}
	whose := func(s string) string { return cmp.Or(strings.TrimSpace(s), "any") }
	return list, s.Record(ctx, "recording.search", audit.Info, string(login.ReasonOK),
		audit.Detail{Key: "of_person", Value: whose(in.Person)}, audit.Detail{Key: "of_system", Value: whose(in.System)},
		audit.Detail{Key: "since", Value: when(in.Since)}, audit.Detail{Key: "until", Value: when(in.Until)},
		audit.Detail{Key: "recordings", Value: strconv.Itoa(len(list))})
}
