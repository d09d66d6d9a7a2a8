package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport/radiusd/exchange"
	"sallyport/radiusd/wire"
)

const (
	// silentLimit is how many logins in a row a server may leave unanswered, with no other answer between, before it is put
	// aside. One is not enough: servers stay silent about requests that they do not like, and who knows such a request could
	// put all of them aside with it.
	silentLimit = 3
	// statusPatience is how long a Status-Server may take. It is not sent again (RFC 5997 section 2).
	statusPatience = 3 * time.Second
)

// server is one of the servers, and what is known about it.
type server struct {
	client *exchange.Client
	tag    [tagSize]byte
	asking chan struct{} // full while somebody asks by Status-Server

	// Guarded by mu.
	mu         sync.Mutex
	aside      error     // why it was put aside; nil: it is in use
	since      time.Time // when it was
	tried      time.Time // when a login was last tried with it since then
	trying     bool      // a login is being tried with it
	silences   int       // logins in a row without an answer
	heard      uint64    // answers of every kind
	heardAt    time.Time // the last of them
	knows      bool      // it has answered Status-Server
	statusAt   time.Time // when it was last asked so
	statusFail error     // and why in vain
}

// enter reports whether a login may be tried with s now: early says that no other server is left. One that was put aside is
// tried by one login at a time. leave, answered, silent or refused ends what it began.
func (s *server) enter(now time.Time, early bool, every time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open(now, early, every) {
		return false
	}
	if s.aside != nil {
		s.trying, s.tried = true, now
	}
	return true
}

// couldEnter reports whether enter would succeed.
func (s *server) couldEnter(now time.Time, early bool, every time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open(now, early, every)
}

// open is enter's question. It is called with the lock held.
//
// For one that knows Status-Server, the watcher finds out; that a login tries it as well from time to time when no other is left
// is for a server whose administrator has turned Status-Server off since.
func (s *server) open(now time.Time, early bool, every time.Duration) bool {
	switch {
	case s.aside == nil:
		return true
	case s.trying:
		return false
	case s.knows:
		return early && now.Sub(s.tried) >= every
	default:
		return early || now.Sub(s.tried) >= every
	}
}

// leave ends a try from which nobody has learnt anything.
func (s *server) leave(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trying = false
}

// hearings counts the answers.
func (s *server) hearings() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard
}

// why says why s was not asked.
func (s *server) why(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.aside == nil:
		return errors.New("not asked: no time was left")
	case s.trying:
		return fmt.Errorf("put aside %v ago, and just being tried again: %w", now.Sub(s.since).Round(time.Second), s.aside)
	default:
		return fmt.Errorf("put aside %v ago: %w", now.Sub(s.since).Round(time.Second), s.aside)
	}
}

// answered takes s into use.
func (u *Upstream) answered(s *server, status bool) {
	now := u.o.Now()
	s.mu.Lock()
	was, since := s.aside, s.since
	s.aside, s.trying, s.silences = nil, false, 0
	s.heard++
	s.heardAt = now
	if status {
		s.knows = true
	}
	s.mu.Unlock()
	if was != nil {
		u.o.Log.Info("upstream RADIUS server answers again", "server", s.client.Address(), "after", now.Sub(since).Round(time.Second).String())
	}
}

// silent notes that a login got no answer in its whole time. heard is hearings from before: a server that answered
// others meanwhile is alive.
func (u *Upstream) silent(s *server, heard uint64, why error) {
	s.mu.Lock()
	s.trying = false
	if s.heard == heard {
		s.silences++
	}
	unusable := s.aside != nil || s.silences >= silentLimit
	s.mu.Unlock()
	if unusable {
		u.putAside(s, why)
	}
}

// refused notes that nothing is there.
func (u *Upstream) refused(s *server, why error) {
	s.leave(u.o.Now())
	u.putAside(s, why)
}

func (u *Upstream) putAside(s *server, why error) {
	now := u.o.Now()
	s.mu.Lock()
	was := s.aside
	s.aside = why
	if was == nil {
		s.since, s.tried = now, now
	}
	s.mu.Unlock()
	if was == nil {
		u.o.Log.Warn("upstream RADIUS server put aside", "server", s.client.Address(), "why", why.Error())
	}
}

// watch learns whether s knows Status-Server, and then asks it so while it is put aside.
func (u *Upstream) watch(ctx context.Context, s *server) {
	_ = u.status(ctx, s) // s remembers
	every := time.NewTicker(u.o.ProbeEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		s.mu.Lock()
		aside := s.aside != nil
		s.mu.Unlock()
		if aside {
			_ = u.status(ctx, s)
		}
	}
}

// status asks s by Status-Server, unless that was done a moment ago: callers who come faster get the last result.
func (u *Upstream) status(ctx context.Context, s *server) error {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	now := u.o.Now()
	s.mu.Lock()
	last := s.statusFail
	fresh := !s.statusAt.IsZero() && now.Sub(s.statusAt) < u.o.ProbeEvery/2
	stale := last == nil && s.aside != nil // a login has learnt since that it does not answer
	s.mu.Unlock()
	if fresh && !stale {
		return last
	}
	bounded, cancel := context.WithTimeout(ctx, min(statusPatience, u.o.Timeout))
	defer cancel()
	// RFC 5997 section 3 wants the NAS to name itself.
	_, err := s.client.Exchange(bounded, exchange.Request{Code: wire.CodeStatusServer, Attributes: u.nasIdentifier()})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case err == nil:
		u.answered(s, true)
	case errors.Is(err, exchange.ErrUnreachable):
		u.putAside(s, err)
	}
	s.mu.Lock()
	s.statusAt, s.statusFail = now, err
	s.mu.Unlock()
	return err
}

// nasIdentifier begins the attributes of a request.
func (u *Upstream) nasIdentifier() []wire.Attribute {
	return []wire.Attribute{{Type: wire.AttrNASIdentifier, Value: []byte(u.o.NASIdentifier)}}
}

// Probe returns nil when at least one server can be used, as far as can be told without a login: it has answered within
// ProbeEvery, or answers Status-Server now, or never knew that and is not put aside. Otherwise the error names each with its
// reason. However often it is called, it asks a server at most twice each ProbeEvery.
func (u *Upstream) Probe(ctx context.Context) error {
	failed := make(map[*server]error)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, s := range u.servers {
		wg.Go(func() {
			if err := u.probe(ctx, s); err != nil {
				mu.Lock()
				failed[s] = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(failed) < len(u.servers) {
		return nil
	}
	return whyNone(u.servers, failed, u.o.Now())
}

func (u *Upstream) probe(ctx context.Context, s *server) error {
	s.mu.Lock()
	fresh := s.aside == nil && s.heard > 0 && u.o.Now().Sub(s.heardAt) < u.o.ProbeEvery
	s.mu.Unlock()
	if fresh {
		return nil
	}
	err := u.status(ctx, s)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.aside != nil:
		return s.aside
	case s.knows:
		return err
	default:
		return nil
	}
}

// Standing is what is known about a server.
type Standing struct {
	Address string
	Aside   error          // why it is put aside; nil: it is in use
	Since   time.Time      // when it was
	Status  bool           // it has answered Status-Server
	Stats   exchange.Stats // of what was sent and received
}

// Standings tells it of each server, in their order, for metrics and pages.
func (u *Upstream) Standings() []Standing {
	var all []Standing
	for _, s := range u.servers {
		s.mu.Lock()
		one := Standing{Address: s.client.Address(), Aside: s.aside, Status: s.knows}
		if s.aside != nil {
			one.Since = s.since
		}
		s.mu.Unlock()
		one.Stats = s.client.Stats()
		all = append(all, one)
	}
	return all
}
