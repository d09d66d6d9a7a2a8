package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/recording"
)

// HoldAdd is the input of hold.add. Blank fields take all.
type HoldAdd struct {
	Reason string    `json:"reason"`
	Person string    `json:"person,omitempty"`
	System string    `json:"system,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
}

// HoldEnd is the input of hold.end.
type HoldEnd struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// HoldIs is a hold as shown.
type HoldIs struct {
	login.Hold
	State  string `json:"state"`            // live or ended
	Record uint64 `json:"record,omitempty"` // that the verb made
}

// RetainIn is the input of audit.retain.
type RetainIn struct {
	DryRun bool `json:"dry_run,omitempty"`
}

// Retained is what a run of the retention did, or would do.
type Retained struct {
	audit.Erased
	DryRun     bool      `json:"dry_run"`
	Before     time.Time `json:"before,omitzero"` // records from before it are past their time; zero: they are kept for ever
	Recordings struct {
		Before  time.Time `json:"before,omitzero"`
		Removed int       `json:"removed"`
		Held    int       `json:"held"`
		Bytes   int64     `json:"bytes"`
	} `json:"recordings"`
	Holds int `json:"holds"` // that are live
}

// maxReason bounds the reason of a hold, in bytes.
const maxReason = 1000

func (s *Service) holdVerbs() {
	Handle(s, "hold.add", s.holdAdd)
	Handle(s, "hold.end", s.holdEnd)
	Handle(s, "hold.list", s.holdList)
	Handle(s, "audit.erasures", s.erasures)
	Handle(s, "audit.retain", func(ctx context.Context, in RetainIn) (Retained, error) {
		if s.Retain == nil {
			return Retained{}, refuse("", "nothing can be erased from here")
		}
		return s.Retain(ctx, in.DryRun)
	})
}

func (s *Service) holds(ctx context.Context) (all []login.Hold, err error) {
	err = s.Store.Holds(ctx, func(h login.Hold) error { all = append(all, h); return nil })
	slices.SortFunc(all, func(a, b login.Hold) int { return login.CompareHoldIDs(a.ID, b.ID) })
	return all, err
}

func (s *Service) holdList(ctx context.Context, _ Empty) ([]HoldIs, error) {
	all, err := s.holds(ctx)
	list := make([]HoldIs, 0, len(all))
	for _, h := range all {
		list = append(list, shownHold(h, 0))
	}
	return list, err
}

func shownHold(h login.Hold, record uint64) HoldIs {
	state := "live"
	if !h.Live() {
		state = "ended"
	}
	return HoldIs{Hold: h, State: state, Record: record}
}

// holdReason refuses what nobody could later answer for.
func holdReason(reason string) error {
	switch reason = strings.TrimSpace(reason); {
	case reason == "":
		return refuse("--reason names the case, and who asked", "no reason is given")
	case len(reason) > maxReason:
		return refuse("", "the reason has %d bytes, at most %d can be", len(reason), maxReason)
	}
	return nil
}

func (s *Service) holdAdd(ctx context.Context, in HoldAdd) (HoldIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := holdReason(in.Reason); err != nil {
		return HoldIs{}, err
	}
	if len(in.Person) > login.MaxName || len(in.System) > audit.MaxField {
		return HoldIs{}, refuse("", "%q or %q is too long to be a name", clip(in.Person), clip(in.System))
	}
	if !in.Until.IsZero() && !in.Since.Before(in.Until) {
		return HoldIs{}, refuse("--since and --until are of the records that are to be held", "nothing lies between %s and %s", in.Since.UTC().Format(time.RFC3339), in.Until.UTC().Format(time.RFC3339))
	}
	all, err := s.holds(ctx)
	if err != nil {
		return HoldIs{}, err
	}
	var ids []string
	for _, h := range all {
		ids = append(ids, h.ID)
	}
	h := login.Hold{
		ID: login.NextHoldID(ids), Reason: strings.TrimSpace(in.Reason), Person: in.Person, System: in.System, Since: in.Since.UTC(), Until: in.Until.UTC(),
		Made: s.Now().UTC().Truncate(time.Millisecond), By: actorOf(ctx).Name,
	}
	return s.putHold(ctx, "hold.add", h, h.Reason)
}

func (s *Service) holdEnd(ctx context.Context, in HoldEnd) (HoldIs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := holdReason(in.Reason); err != nil {
		return HoldIs{}, err
	}
	all, err := s.holds(ctx)
	if err != nil {
		return HoldIs{}, err
	}
	at := slices.IndexFunc(all, func(h login.Hold) bool { return strings.EqualFold(h.ID, in.ID) })
	if at < 0 {
		return HoldIs{}, refuse("`sallyport audit hold list` shows them", "there is no hold %q", clip(in.ID))
	}
	h := all[at]
	if !h.Live() {
		return HoldIs{}, refuse("", "hold %s was ended on %s by %s", h.ID, h.Ended.Format(time.DateOnly), h.EndBy)
	}
	h.Ended, h.EndBy, h.Why = s.Now().UTC().Truncate(time.Millisecond), actorOf(ctx).Name, strings.TrimSpace(in.Reason)
	return s.putHold(ctx, "hold.end", h, h.Why)
}

// putHold records and applies a hold. It needs s.mu.
func (s *Service) putHold(ctx context.Context, event string, h login.Hold, reason string) (HoldIs, error) {
	when := func(t time.Time) string {
		if t.IsZero() {
			return "any"
		}
		return t.Format(time.RFC3339)
	}
	done, err := s.commit(ctx, change{
		event: event, person: cmp.Or(h.Person, audit.None),
		detail: []audit.Detail{
			{Key: "hold", Value: h.ID},
			{Key: "hold_reason", Value: reason},
			{Key: "of_person", Value: cmp.Or(h.Person, "any")},
			{Key: "of_system", Value: cmp.Or(h.System, "any")},
			{Key: "since", Value: when(h.Since)},
			{Key: "until", Value: when(h.Until)},
		},
		what: login.Change{PutHold: &h},
	})
	if err != nil {
		return HoldIs{}, err
	}
	return shownHold(h, done.Record), nil
}

// LiveHolds are the holds in force.
func (s *Service) LiveHolds(ctx context.Context) ([]login.Hold, error) {
	all, err := s.holds(ctx)
	return slices.DeleteFunc(all, func(h login.Hold) bool { return !h.Live() }), err
}

// ErasuresIn is the input of audit.erasures.
type ErasuresIn struct {
	Since time.Time `json:"since,omitzero"`
}

// ErasuresAre is the answer of audit.erasures: what a search from a time on cannot find any more.
type ErasuresAre struct {
	Erased  uint64        `json:"erased"`
	Before  time.Time     `json:"before,omitzero"` // all were made before
	Ranges  []audit.Range `json:"ranges"`          // the first audit.MaxErasedRanges
	Records []uint64      `json:"records"`         // that tell of it, the newest maxErasures
}

const maxErasures = 100

func (s *Service) erasures(ctx context.Context, in ErasuresIn) (out ErasuresAre, err error) {
	out.Ranges, out.Records = []audit.Range{}, []uint64{}
	err = s.Finder.Find(ctx, audit.Filter{Event: audit.EventErase}, func(rec *audit.Record) error {
		e, err := audit.ParseErasure(rec)
		if err != nil || !e.Before.After(in.Since) {
			return nil // verify judges what cannot be read
		}
		out.Erased += e.Erased
		if e.Before.After(out.Before) {
			out.Before = e.Before
		}
		for _, r := range e.Ranges {
			out.Ranges = audit.AppendRange(out.Ranges, r, audit.MaxErasedRanges)
		}
		if out.Records = append(out.Records, rec.Seq); len(out.Records) > maxErasures {
			out.Records = out.Records[1:]
		}
		return nil
	})
	return out, err
}

// errHolds tells that a hold was added or ended while an erasure was planned.
var errHolds = errors.New("a legal hold was added or ended meanwhile")

// RecordErasure makes a record of what is about to be erased, unless the holds are not those any more that were asked: a hold
// that is on record before an erasure is honoured by it.
func (s *Service) RecordErasure(ctx context.Context, asked []login.Hold, detail []audit.Detail) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	live, err := s.LiveHolds(ctx)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(live, asked, func(a, b login.Hold) bool { return a.ID == b.ID }) {
		return errHolds
	}
	return s.Record(ctx, audit.EventErase, audit.Info, string(login.ReasonOK), detail...)
}

// RecordRecordingErased makes the record of a recording that is about to be removed; start is that of its session's start, nil
// where it is not known. See RecordErasure.
func (s *Service) RecordRecordingErased(ctx context.Context, asked []login.Hold, start *audit.Record, session string, detail []audit.Detail) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	live, err := s.LiveHolds(ctx)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(live, asked, func(a, b login.Hold) bool { return a.ID == b.ID }) {
		return errHolds
	}
	actor := actorOf(ctx)
	rec := &audit.Record{
		Time: s.Now(), Event: recording.EventErase, Result: audit.Info, Reason: string(login.ReasonOK), Protocol: "admin", Source: actor.Road,
		Session: session, Detail: append(actorDetail(actor), detail...),
	}
	if start != nil {
		rec.Person, rec.Login, rec.System, rec.Account, rec.Attempt = start.Person, start.Person, start.System, start.Account, start.Attempt
	}
	_, err = s.Gate.Commit(rec, login.Change{}, nil, nil)
	return err
}
