package login

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/internal/audit"
)

// MaxSessions bounds the live sessions that are remembered. Beyond it new ones are recorded, and not listed.
const MaxSessions = 1 << 17

// The events of a session's life, as records name them.
const (
	EventSessionStart  = "session.start"
	EventSessionUpdate = "session.update" // a VPN's interim report
	EventSessionEnd    = "session.end"
	EventNASOn         = "nas.on" // a NAS has started, or is about to stop: it has no sessions
	EventNASOff        = "nas.off"
)

// Details by which a session is found again at the NAS that has it.
const (
	DetailSession = "acct_session"
	DetailNAS     = "nas"
)

// Session is a live one: an SSH connection to a target, or a VPN's as its NAS accounts for it. It is what the records of
// its life say.
type Session struct {
	ID       string    `json:"id"`
	Person   string    `json:"person"` // empty: somebody whom the gateway does not know
	Protocol string    `json:"protocol"`
	System   string    `json:"system"`
	Account  string    `json:"account,omitempty"`
	Source   string    `json:"source,omitempty"`
	Attempt  string    `json:"attempt,omitempty"` // the login that it belongs to; empty: not known
	Rule     string    `json:"rule,omitempty"`
	Started  time.Time `json:"started"`
	Seen     time.Time `json:"seen"` // last reported
	Detail   []Detail  `json:"detail,omitempty"`
}

// Get returns a detail.
func (s *Session) Get(key string) string {
	for _, d := range s.Detail {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}

// sessions are those that are live.
type sessions struct {
	mu    sync.Mutex
	byID  map[string]*Session
	byKey map[string]*Session // see sessionKey; those that a NAS has
}

func newSessions() *sessions {
	return &sessions{byID: make(map[string]*Session), byKey: make(map[string]*Session)}
}

// sessionKey is what a NAS calls a session by: Acct-Session-Id is unique at one NAS (RFC 2866 section 5.5).
func sessionKey(system, nas, id string) string { return system + "\x00" + nas + "\x00" + id }

func (s *Session) key() string {
	id := s.Get(DetailSession)
	if id == "" {
		return ""
	}
	return sessionKey(s.System, s.Get(DetailNAS), id)
}

// present is a record's text, or nothing where the record says that there is none.
func present(s string) string {
	if s == audit.None || s == audit.Unknown {
		return ""
	}
	return s
}

// apply takes a record in. It needs s.mu.
func (s *sessions) apply(rec *audit.Record) {
	switch rec.Event {
	case EventSessionStart:
		live := &Session{
			ID: present(rec.Session), Person: present(rec.Person), Protocol: rec.Protocol, System: rec.System, Account: present(rec.Account),
			Source: present(rec.Source), Attempt: present(rec.Attempt), Rule: present(rec.Rule), Started: rec.Time, Seen: rec.Time,
		}
		for _, d := range rec.Detail {
			live.Detail = append(live.Detail, Detail(d))
		}
		if old := s.byID[live.ID]; old != nil { // reported again
			live.Started = old.Started
		}
		s.put(live)
	case EventSessionUpdate:
		live := s.byID[rec.Session]
		if live == nil {
			return
		}
		live.Seen = rec.Time
		for _, d := range rec.Detail {
			if i := slices.IndexFunc(live.Detail, func(old Detail) bool { return old.Key == d.Key }); i >= 0 {
				live.Detail[i].Value = d.Value
			} else {
				live.Detail = append(live.Detail, Detail(d))
			}
		}
	case EventSessionEnd:
		if live := s.byID[rec.Session]; live != nil {
			s.drop(live)
		}
	case EventNASOn, EventNASOff:
		nas := ""
		for _, d := range rec.Detail {
			if d.Key == DetailNAS {
				nas = d.Value
			}
		}
		for _, live := range s.byID {
			if live.Protocol == rec.Protocol && live.System == rec.System && live.Get(DetailNAS) == nas {
				s.drop(live)
			}
		}
	}
}

func (s *sessions) put(live *Session) {
	if live.ID == "" || s.byID[live.ID] == nil && len(s.byID) >= MaxSessions {
		return
	}
	if old := s.byID[live.ID]; old != nil {
		s.drop(old)
	}
	s.byID[live.ID] = live
	if key := live.key(); key != "" {
		if old := s.byKey[key]; old != nil {
			s.drop(old)
		}
		s.byKey[key] = live
	}
}

func (s *sessions) drop(live *Session) {
	delete(s.byID, live.ID)
	if key := live.key(); s.byKey[key] == live {
		delete(s.byKey, key)
	}
}

// list copies all, the oldest first.
func (s *sessions) list() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Session, 0, len(s.byID))
	for _, live := range s.byID {
		one := *live
		one.Detail = slices.Clone(live.Detail)
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Session) int {
		return cmp.Or(a.Started.Compare(b.Started), strings.Compare(a.ID, b.ID))
	})
	return list
}

// Sessions returns the live sessions, the oldest first.
func (g *Gate) Sessions() []Session { return g.sessions.list() }

// isSession reports whether records of this event change what sessions are live.
func isSession(event string) bool {
	switch event {
	case EventSessionStart, EventSessionUpdate, EventSessionEnd, EventNASOn, EventNASOff:
		return true
	}
	return false
}

// Stage is where in a session's life an Accounting is from.
type Stage uint8

// The stages, by the events that they become.
const (
	Starts Stage = iota + 1
	GoesOn
	Ends
	NASOn
	NASOff
)

func (s Stage) event() string {
	switch s {
	case Starts:
		return EventSessionStart
	case GoesOn:
		return EventSessionUpdate
	case Ends:
		return EventSessionEnd
	case NASOn:
		return EventNASOn
	default:
		return EventNASOff
	}
}

// Accounting is what a NAS reports of a session (RFC 2866).
type Accounting struct {
	Attempt Attempt // Name, Source, System, Detail; ID: the login that it belongs to, or empty
	Stage   Stage
	NAS     string // which one of those behind the system
	Session string // the NAS's own word for it
	Reason  Reason // why it ended
}

// Noted is a fact that is on its way to the disk. Nobody is told that it is known before Wait has returned.
type Noted struct {
	gate  *Gate
	draft *draft
}

// Wait returns when the record is durable, or can't be made so. It may be called once.
func (n Noted) Wait() (audit.Receipt, error) {
	receipt, err := n.draft.pending.Wait()
	if err == nil {
		n.gate.drafts.Put(n.draft)
	}
	return receipt, err
}

// AskAccounting records what a NAS reports, without waiting for the disk. A session that was not known begins with
// whatever is heard of it first, since a start may have been lost.
func (g *Gate) AskAccounting(acc Accounting) Noted {
	a := acc.Attempt
	d := g.draft(&a, acc.Stage.event(), audit.Info, g.now())
	rec := &d.Record
	if acc.NAS != "" {
		rec.Detail = append(rec.Detail, audit.Detail{Key: DetailNAS, Value: acc.NAS})
	}
	g.pause.RLock()
	defer g.pause.RUnlock()
	if acc.Stage != NASOn && acc.Stage != NASOff {
		g.identify(rec, &a, g.roster.find(a.Name))
		rec.Detail = append(rec.Detail, audit.Detail{Key: DetailSession, Value: acc.Session})
	}
	rec.Reason = string(acc.Reason)
	s := g.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	if live := s.byKey[sessionKey(a.System.Name, acc.NAS, acc.Session)]; live != nil && acc.Session != "" {
		rec.Session = live.ID
		if a.ID == "" {
			rec.Attempt = live.Attempt
		}
		switch {
		case acc.Stage == Starts && rec.Person == live.Person:
			rec.Detail = append(rec.Detail, audit.Detail{Key: "repeated", Value: "yes"})
		case acc.Stage == Starts: // the NAS uses its word again, for somebody else's
			rec.Session = NewID()
		}
	} else if acc.Stage != NASOn && acc.Stage != NASOff {
		rec.Session = NewID()
		if acc.Stage == GoesOn {
			rec.Event = EventSessionStart
			rec.Detail = append(rec.Detail, audit.Detail{Key: "first_heard", Value: "update"})
		}
	}
	g.log.Submit(&d.pending, rec, nil)
	s.apply(rec)
	return Noted{g, d}
}

// EndOrphans records the end of sessions of a protocol that did not outlive a restart of the gateway: all but those of which lives
// says that they do. A nil lives means that none does.
func (g *Gate) EndOrphans(protocol string, lives func(id string) bool) error {
	for _, s := range g.Sessions() {
		if s.Protocol != protocol || lives != nil && lives(s.ID) {
			continue
		}
		_, err := g.note(Event{
			Event: EventSessionEnd, Result: audit.Error, Reason: ReasonGatewayRestarted, Session: s.ID, Rule: s.Rule,
			Attempt: Attempt{ID: s.Attempt, Name: s.Person, Protocol: protocol, System: System{Name: s.System}, Account: s.Account},
		})
		if err != nil {
			return err
		}
	}
	return nil
}
