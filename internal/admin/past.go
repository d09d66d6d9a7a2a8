package admin

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/recording"
)

// PastSession is a session as the records tell of it, live or over.
type PastSession struct {
	ID       string         `json:"id"`
	Person   string         `json:"person,omitempty"`
	Protocol string         `json:"protocol"`
	System   string         `json:"system"`
	Account  string         `json:"account,omitempty"`
	Source   string         `json:"source,omitempty"`
	Rule     string         `json:"rule,omitempty"`
	Attempt  string         `json:"attempt,omitempty"`
	Started  time.Time      `json:"started"`
	Ended    time.Time      `json:"ended,omitzero"`
	Live     bool           `json:"live"`
	Reason   string         `json:"reason,omitempty"` // why it ended
	Detail   []login.Detail `json:"detail,omitempty"` // of its start and its end

	Recording string          `json:"recording,omitempty"` // the file, below the folder of recordings; empty: there is none
	Chunks    int             `json:"chunks,omitempty"`    // of the recording, when it has ended
	SHA256    string          `json:"recording_sha256,omitempty"`
	State     recording.State `json:"recording_state,omitempty"`
	Removed   time.Time       `json:"recording_erased,omitzero"` // when its time was over
}

// Get returns a detail.
func (p *PastSession) Get(key string) string { return detailOf(p.Detail, key) }

func detailOf(all []login.Detail, key string) string {
	for _, d := range all {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}

// SessionPast is the input of session.past and of recording.search. The newest sessions come, oldest first.
type SessionPast struct {
	Person string    `json:"person,omitempty"`
	System string    `json:"system,omitempty"`
	Since  time.Time `json:"since,omitzero"` // of their starts
	Until  time.Time `json:"until,omitzero"`
	Limit  int       `json:"limit,omitempty"` // 0: all
}

// SessionShown is the answer of session.show.
type SessionShown struct {
	PastSession
	Factors []Proved          `json:"factors"` // that its login proved
	Sealed  int               `json:"sealed"`  // chunks that are on record
	Records []json.RawMessage `json:"records"` // all that belong to it, but those of chunks, as audit.search prints them
}

// Proved is a factor of a login.
type Proved struct {
	Kind   string `json:"kind"`
	Method string `json:"method"`
	Token  string `json:"token,omitempty"`
	Result string `json:"result"`
}

// present is a record's text, or nothing where the record says that there is none.
func present(s string) string {
	if s == audit.None || s == audit.Unknown {
		return ""
	}
	return s
}

// begin makes a session of the record of its start.
func begin(rec *audit.Record) PastSession {
	p := PastSession{
		ID: rec.Session, Person: present(rec.Person), Protocol: rec.Protocol, System: rec.System, Account: present(rec.Account),
		Source: present(rec.Source), Rule: present(rec.Rule), Attempt: present(rec.Attempt), Started: rec.Time,
	}
	for _, d := range rec.Detail {
		p.Detail = append(p.Detail, login.Detail(d))
	}
	p.Recording = p.Get(recording.DetailRecording)
	return p
}

// end adds the record of its end.
func (p *PastSession) end(rec *audit.Record) {
	p.Ended, p.Reason, p.Live = rec.Time, present(rec.Reason), false
	for _, d := range rec.Detail {
		if at := slices.IndexFunc(p.Detail, func(o login.Detail) bool { return o.Key == d.Key }); at >= 0 {
			p.Detail[at].Value = d.Value
			continue
		}
		p.Detail = append(p.Detail, login.Detail(d))
	}
	p.Chunks, _ = strconv.Atoi(p.Get(recording.DetailChunks)) // absent: 0
	p.SHA256, p.State = p.Get(recording.DetailSum), recording.State(p.Get(recording.DetailState))
}

func (s *Service) sessionPast(ctx context.Context, in SessionPast) ([]PastSession, error) {
	if in.Limit < 0 {
		return nil, refuse("leave --limit out for all", "the limit is %d", in.Limit)
	}
	var list []PastSession
	place := make(map[string]int)
	f := audit.Filter{Person: in.Person, System: in.System, Event: login.EventSessionStart, Since: in.Since, Until: in.Until, Limit: in.Limit}
	err := s.Finder.Find(ctx, f, func(rec *audit.Record) error {
		if _, twice := place[rec.Session]; twice || present(rec.Session) == "" { // a NAS may report a start again
			return nil
		}
		place[rec.Session] = len(list)
		list = append(list, begin(rec))
		return nil
	})
	if err != nil || len(list) == 0 {
		return list, err
	}
	live := make(map[string]bool)
	for _, l := range s.Gate.Sessions() {
		live[l.ID] = true
	}
	for i := range list {
		list[i].Live = live[list[i].ID]
	}
	f = audit.Filter{Person: in.Person, System: in.System, Event: login.EventSessionEnd, Since: list[0].Started}
	return list, s.Finder.Find(ctx, f, func(rec *audit.Record) error {
		if at, ours := place[rec.Session]; ours {
			list[at].end(rec)
		}
		return nil
	})
}

// slack is how far a session's id, which begins with the time at which it was made, may lie from the record of its start.
const slack = time.Hour

// idTimes is when ids that begin with a prefix were made (RFC 9562 section 5.7). It tells false where that cannot be said.
func idTimes(prefix string) (from, to time.Time, ok bool) {
	const digits = 12 // 48 bits of milliseconds
	d := strings.ReplaceAll(prefix, "-", "")
	d = d[:min(len(d), digits)]
	at := func(fill string) (time.Time, bool) {
		b, err := hex.DecodeString(d + strings.Repeat(fill, digits-len(d)))
		if err != nil {
			return time.Time{}, false
		}
		ms := int64(0)
		for _, c := range b {
			ms = ms<<8 | int64(c)
		}
		return time.UnixMilli(ms), true
	}
	if from, ok = at("0"); !ok {
		return from, to, false
	}
	to, ok = at("f")
	return from.Add(-slack), to.Add(slack), ok
}

// pastSession finds a session by its id or by what it begins with, and all its records.
func (s *Service) pastSession(ctx context.Context, id string) (PastSession, []*audit.Record, error) {
	const hint = "`sallyport session list --past` shows those that are over"
	if id == "" {
		return PastSession{}, nil, refuse(hint, "no session is named")
	}
	start, err := s.startOf(ctx, id)
	if err != nil {
		return PastSession{}, nil, err
	}
	if start == nil {
		return PastSession{}, nil, refuse(hint, "there is no session %q on record", clip(id))
	}
	p := begin(start)
	p.Live = slices.ContainsFunc(s.Gate.Sessions(), func(l login.Session) bool { return l.ID == p.ID })
	var all []*audit.Record
	f := audit.Filter{Person: start.Person, System: start.System, Session: p.ID, Since: p.Started.Add(-slack)}
	err = s.Finder.Find(ctx, f, func(rec *audit.Record) error {
		all = append(all, rec)
		switch rec.Event {
		case login.EventSessionEnd:
			p.end(rec)
		case recording.EventErase:
			p.Removed = rec.Time
		}
		return nil
	})
	return p, all, err
}

// startOf finds the record of a session's start. Two sessions that begin alike are an error.
func (s *Service) startOf(ctx context.Context, id string) (start *audit.Record, err error) {
	several := false
	look := func(f audit.Filter) error {
		f.Event = login.EventSessionStart
		return s.Finder.Find(ctx, f, func(rec *audit.Record) error {
			switch {
			case !strings.HasPrefix(rec.Session, id) || present(rec.Session) == "":
			case start == nil:
				start = rec
			case rec.Session == start.Session:
			case rec.Session == id:
				start, several = rec, false
			case start.Session != id:
				several = true
			}
			return nil
		})
	}
	if from, to, ok := idTimes(id); ok {
		if err := look(audit.Filter{Since: from, Until: to}); err != nil {
			return nil, err
		}
	}
	if start == nil {
		if err := look(audit.Filter{}); err != nil {
			return nil, err
		}
	}
	if several {
		return nil, refuse("give more of it", "several sessions begin with %q", clip(id))
	}
	return start, nil
}

// maxShown bounds the records that are shown of one session.
const maxShown = 5000

func (s *Service) sessionShow(ctx context.Context, in SessionIn) (SessionShown, error) {
	p, all, err := s.pastSession(ctx, in.ID)
	if err != nil {
		return SessionShown{}, err
	}
	out := SessionShown{PastSession: p}
	for _, rec := range all {
		if rec.Event == recording.EventChunk {
			out.Sealed++
			continue
		}
		if len(out.Records) < maxShown {
			out.Records = append(out.Records, rec.AppendJSON(nil))
		}
	}
	prove := func(rec *audit.Record) {
		for _, x := range rec.Factors {
			out.Factors = append(out.Factors, Proved{x.Kind, x.Method, present(x.Token), x.Result})
		}
	}
	if at := slices.IndexFunc(all, func(rec *audit.Record) bool { return rec.Event == login.EventSessionStart }); at >= 0 {
		prove(all[at])
	}
	if p.Attempt != "" && len(out.Factors) == 0 {
		f := audit.Filter{Person: p.Person, Event: "login", Result: audit.Accept, Since: p.Started.Add(-longestLogin), Until: p.Started.Add(slack)}
		err := s.Finder.Find(ctx, f, func(rec *audit.Record) error {
			if rec.Attempt == p.Attempt {
				prove(rec)
			}
			return nil
		})
		if err != nil {
			return out, err
		}
	}
	return out, s.recordReading(ctx, "session.show", &p)
}
