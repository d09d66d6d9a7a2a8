package admin

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// Ender asks whoever has a session to end it: the SSH gateway, or a NAS by Disconnect-Request. Answer is what came of it,
// in a few words for the record; Ended whether the session is over as far as its holder says. It is called concurrently,
// and bounds its own time.
type Ender func(ctx context.Context, s login.Session, why string) (answer string, ended bool)

// Changer asks whoever has a session to hold from now on what a rule says. It is called and bounded like an Ender.
type Changer func(ctx context.Context, s login.Session, rule string) (answer string, done bool)

// Why sessions are ended.
const (
	WhyOperator = "operator"
	WhyDisabled = "person_disabled"
	WhyRemoved  = "person_removed"
	WhyRevoked  = "token_revoked"
	WhyExpired  = "person_expired"

	WhyException = "exception_over"
)

// EndedSession is what came of ending a session.
type EndedSession struct {
	ID     string `json:"id"`
	Person string `json:"person"`
	System string `json:"system"`
	Answer string `json:"answer"`
	Ended  bool   `json:"ended"`
}

// SessionKill is the input of session.kill.
type SessionKill struct {
	ID     string `json:"id"`
	Reason string `json:"reason,omitempty"` // for the record, and the person where he can be told
}

// SessionList is the input of session.list.
type SessionList struct {
	Person string `json:"person,omitempty"`
	System string `json:"system,omitempty"`
}

func (s *Service) sessionVerbs() {
	Handle(s, "session.list", s.sessionList)
	Handle(s, "session.past", s.sessionPast)
	Handle(s, "session.show", s.sessionShow)
	Handle(s, "session.kill", s.sessionKill)
	Handle(s, "session.refresh", s.sessionRefresh)
}

func (s *Service) sessionList(_ context.Context, in SessionList) ([]login.Session, error) {
	list := s.Gate.Sessions()
	return slices.DeleteFunc(list, func(l login.Session) bool {
		return in.Person != "" && l.Person != in.Person || in.System != "" && l.System != in.System
	}), nil
}

// liveSession finds a session by its id or by what it begins with.
func (s *Service) liveSession(id string) (login.Session, error) {
	var found []login.Session
	for _, l := range s.Gate.Sessions() {
		if id != "" && strings.HasPrefix(l.ID, id) {
			found = append(found, l)
		}
	}
	switch {
	case len(found) == 0:
		return login.Session{}, refuse("`sallyport session list` shows the live ones", "there is no live session %q", clip(id))
	case len(found) > 1 && found[0].ID != id:
		return login.Session{}, refuse("give more of it", "%d live sessions begin with %q", len(found), clip(id))
	}
	return found[0], nil
}

func (s *Service) sessionKill(ctx context.Context, in SessionKill) (EndedSession, error) {
	l, err := s.liveSession(in.ID)
	if err != nil {
		return EndedSession{}, err
	}
	return s.end(ctx, l, WhyOperator, in.Reason)
}

// SessionIn is the input of session.refresh.
type SessionIn struct {
	ID string `json:"id"`
}

// RefreshedSession is what came of telling a NAS what the rules say today.
type RefreshedSession struct {
	ID     string `json:"id"`
	Person string `json:"person"`
	System string `json:"system"`
	Rule   string `json:"rule"`
	Answer string `json:"answer"`
	Done   bool   `json:"done"`
}

// sessionRefresh judges a session's person by today's rules and groups, and has the NAS hold what the rule's reply says.
// It proves nothing anew, and lets nobody in: somebody whom no rule permits any more is not changed but to be ended.
func (s *Service) sessionRefresh(ctx context.Context, in SessionIn) (RefreshedSession, error) {
	l, err := s.liveSession(in.ID)
	if err != nil {
		return RefreshedSession{}, err
	}
	const kill = "`sallyport session kill` ends it"
	if l.Protocol != "radius" || s.Change == nil {
		return RefreshedSession{}, refuse(kill, "a session of %s cannot be changed", l.Protocol)
	}
	sys, known := s.System(l.System)
	standing := s.Gate.Standing(l.Person)
	if !known || standing.Reason != login.ReasonOK {
		return RefreshedSession{}, refuse(kill, "%s at %s would not be let in today: %s", l.Person, l.System, standing.Text)
	}
	groups, _, err := s.Gate.DirectoryGroups(ctx, l.Person)
	if err != nil {
		return RefreshedSession{}, refuse("", "the groups of %s: %v", l.Person, err)
	}
	v := s.Gate.Preview(login.Request{
		Person: l.Person, Groups: append(standing.Groups, groups...), System: sys.Name, Tags: sys.Tags, Protocol: l.Protocol,
		Capability: login.MayLogin, Proved: []login.Kind{login.Know, login.Have},
	})
	if v.Rule == nil || v.Reason != "ok" {
		return RefreshedSession{}, refuse(kill, "no rule lets %s in at %s today", l.Person, l.System)
	}
	out := RefreshedSession{ID: l.ID, Person: l.Person, System: l.System, Rule: v.Rule.Name}
	ctx = context.WithoutCancel(ctx)
	out.Answer, out.Done = s.Change(ctx, l, v.Rule.Name)
	rec := s.sessionRecord(ctx, l, "session.refresh", out.Answer, out.Done)
	rec.Reason, rec.Rule = WhyOperator, v.Rule.Name
	_, err = s.Gate.Commit(rec, login.Change{}, nil, nil)
	return out, err
}

// sessionRecord is the record of something that was asked of a session's holder.
func (s *Service) sessionRecord(ctx context.Context, l login.Session, event, answer string, done bool) *audit.Record {
	actor := actorOf(ctx)
	rec := &audit.Record{
		Time: s.Now(), Event: event, Result: audit.Info, Person: l.Person, Login: l.Person, Protocol: l.Protocol,
		Source: actor.Road, System: l.System, Account: l.Account, Session: l.ID, Attempt: l.Attempt,
		Detail: append(actorDetail(actor), audit.Detail{Key: "answer", Value: answer}),
	}
	if !done {
		rec.Result = audit.Error
	}
	return rec
}

// endAtOnce bounds the sessions that are ended at the same time.
const endAtOnce = 16

// endAll ends the sessions that match, and records what came of each. It is called without s.mu: NAS may be slow to answer.
func (s *Service) endAll(ctx context.Context, why string, match func(login.Session) bool) ([]EndedSession, error) {
	var mu sync.Mutex
	var done []EndedSession
	var errs []error
	var work sync.WaitGroup
	places := make(chan struct{}, endAtOnce)
	for _, l := range s.Gate.Sessions() {
		if !match(l) {
			continue
		}
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			e, err := s.end(ctx, l, why, "")
			mu.Lock()
			defer mu.Unlock()
			done, errs = append(done, e), append(errs, err)
		})
	}
	work.Wait()
	slices.SortFunc(done, func(a, b EndedSession) int { return strings.Compare(a.ID, b.ID) })
	return done, errors.Join(errs...)
}

// end ends one session. The record of the wish is made whatever came of it.
func (s *Service) end(ctx context.Context, l login.Session, why, reason string) (EndedSession, error) {
	ctx = context.WithoutCancel(ctx) // half a wish is worse than a whole one
	e := EndedSession{ID: l.ID, Person: l.Person, System: l.System, Answer: "nobody here can end it"}
	if s.End != nil {
		e.Answer, e.Ended = s.End(ctx, l, why)
	}
	rec := s.sessionRecord(ctx, l, "session.kill", e.Answer, e.Ended)
	rec.Reason = why
	if reason != "" {
		rec.Detail = append(rec.Detail, audit.Detail{Key: "reason", Value: reason})
	}
	_, err := s.Gate.Commit(rec, login.Change{}, nil, nil)
	return e, err
}

// sweepTries is how often Sweep asks for the end of one session.
const sweepTries = 3

// Sweep ends the sessions of people whose time here is over, or who are disabled. It is called now and then, by one goroutine: a NAS that was
// silent is asked again the next times, and no more after sweepTries.
func (s *Service) Sweep(ctx context.Context) ([]EndedSession, error) {
	live := make(map[string]int)
	over := func(is func(l login.Session) bool) func(login.Session) bool {
		return func(l login.Session) bool {
			if !is(l) {
				return false
			}
			live[l.ID] = s.swept[l.ID] + 1
			return live[l.ID] <= sweepTries
		}
	}
	standing := func(why login.Reason) func(login.Session) bool {
		return over(func(l login.Session) bool { return live[l.ID] == 0 && s.Gate.Standing(l.Person).Reason == why })
	}
	done, err := s.endAll(ctx, WhyExpired, standing(login.ReasonPersonExpired))
	// Who was disabled had his sessions ended by that: what is left is of a NAS that was silent, or the gateway stopped in between.
	barred, err4 := s.endAll(ctx, WhyDisabled, standing(login.ReasonPersonDisabled))
	lapsed, err2 := s.endAll(ctx, WhyGrant, over(func(l login.Session) bool { return live[l.ID] == 0 && s.lapsed(ctx, l) == login.ReasonGrant }))
	excepted, err3 := s.endAll(ctx, WhyException, over(func(l login.Session) bool { return live[l.ID] == 0 && s.exceptionOver(ctx, l) }))
	s.swept = live
	there := make(map[string]bool)
	for _, l := range s.Gate.Sessions() {
		there[l.ID] = true
	}
	maps.DeleteFunc(s.under, func(id, _ string) bool { return !there[id] })
	return slices.Concat(done, barred, lapsed, excepted), errors.Join(err, err2, err3, err4)
}

// exceptionOver tells whether a session's login was made under an entry of the register that no longer holds. It is Sweep's own.
func (s *Service) exceptionOver(ctx context.Context, l login.Session) bool {
	over := make(map[string]bool)
	for _, r := range s.Gate.Policy().Rules {
		if r.Exception == "" || l.Rule != "" && r.Name != l.Rule {
			continue
		}
		if state, known := s.Gate.ExceptionState(r.Exception); !known || state != "live" {
			over[r.Exception] = true
		}
	}
	return len(over) > 0 && over[s.madeUnder(ctx, l)]
}

// madeUnder is the entry that a session's login was made under, which only the login's record says. It never changes, so it is looked
// for once: there may be thousands of sessions.
func (s *Service) madeUnder(ctx context.Context, l login.Session) string {
	if id, known := s.under[l.ID]; known {
		return id
	}
	id := ""
	f := audit.Filter{Person: l.Person, Result: audit.Accept, Since: l.Started.Add(-longestLogin), Until: l.Started.Add(slack)}
	if err := s.Finder.Find(ctx, f, func(rec *audit.Record) error {
		if e := present(rec.Exception); e != "" && rec.Attempt == l.Attempt {
			id = e
		}
		return nil
	}); err != nil {
		return "" // and is looked for again the next time
	}
	s.under[l.ID] = id
	return id
}

// endSessionsOf ends what a person has open, after the verb that shut him out was carried out.
func (s *Service) endSessionsOf(ctx context.Context, person, why string) ([]EndedSession, error) {
	return s.endAll(ctx, why, func(l login.Session) bool { return l.Person == person })
}

// endSessionsBy ends the sessions whose login one of some tokens proved. Where the login cannot be found, the session is taken for
// one of them.
func (s *Service) endSessionsBy(ctx context.Context, person string, tokens ...string) ([]EndedSession, error) {
	return s.endAll(ctx, WhyRevoked, func(l login.Session) bool {
		return l.Person == person && s.provedBy(ctx, l, tokens)
	})
}

// longestLogin is how long before a session its login may lie.
const longestLogin = 24 * time.Hour

func (s *Service) provedBy(ctx context.Context, l login.Session, tokens []string) bool {
	by := true
	err := s.Finder.Find(ctx, audit.Filter{Person: l.Person, Event: "login", Result: audit.Accept, Since: l.Started.Add(-longestLogin)}, func(rec *audit.Record) error {
		if rec.Attempt == l.Attempt {
			by = slices.ContainsFunc(rec.Factors, func(f audit.Factor) bool { return slices.Contains(tokens, f.Token) })
		}
		return nil
	})
	return err != nil || by
}
