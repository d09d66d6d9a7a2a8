package login

import (
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/throttle"
)

// MaxUsedStates bounds the challenges that are remembered as answered. One is remembered until it would have
// expired, so this many answered challenges within Settings.ChallengeFor are the most; beyond it second rounds are
// refused as overloaded, since forgetting one early would let its State be used twice.
const MaxUsedStates = 1 << 20

// usedStates remembers which challenges were answered, so that each is answered once.
type usedStates struct {
	mu    sync.Mutex
	until map[[16]byte]time.Time
	order []usedState // oldest first, from head on
	head  int
}

type usedState struct {
	id    [16]byte
	until time.Time
}

func newUsedStates() *usedStates { return &usedStates{until: make(map[[16]byte]time.Time)} }

// take marks id as used. It answers ReasonOK once for each id.
func (u *usedStates) take(id [16]byte, now, until time.Time) Reason {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forget(now)
	if _, used := u.until[id]; used {
		return ReasonStateUsed
	}
	if len(u.until) >= MaxUsedStates {
		return ReasonOverloaded
	}
	u.until[id] = until
	u.order = append(u.order, usedState{id, until})
	return ReasonOK
}

// forget drops what has expired, and moves the rest to the front when the dead part is the larger.
func (u *usedStates) forget(now time.Time) {
	for u.head < len(u.order) && u.order[u.head].until.Before(now) {
		delete(u.until, u.order[u.head].id)
		u.head++
	}
	if u.head > len(u.order)/2 {
		u.order = append(u.order[:0], u.order[u.head:]...)
		u.head = 0
	}
}

func (u *usedStates) list() []audit.Effect {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := make([]audit.Effect, 0, len(u.until))
	for _, s := range u.order[u.head:] {
		list = append(list, audit.Effect{Set: effectUsed, ID: formatID(s.id), Until: s.until})
	}
	return list
}

// snapshot is the gate's state as a snapshot holds it.
type snapshot struct {
	Version  int
	Steps    map[string]int64          // by token
	Accepted map[string]acceptance     // by token; those that may still be repeated
	Failures map[string]throttle.State // by person
	Used     []audit.Effect
	Sessions []Session
	Carried  []carried               `json:",omitempty"`
	Relied   map[string]ExceptionUse `json:",omitempty"` // by exception
	Drift    map[string]int16        `json:",omitempty"` // by token
	Recovery map[string]uint16       `json:",omitempty"` // by token, codes that are used up
	Tickets  map[string]int          `json:",omitempty"` // by ticket: how often somebody came with it
	Uses     *keptUses               `json:",omitempty"`
}

// Restore sets the state from a snapshot's bytes, before Replay and before LoadPerson.
func (g *Gate) Restore(state []byte) error {
	var s snapshot
	if err := json.Unmarshal(state, &s); err != nil {
		return fmt.Errorf("snapshot of the gate's state: %w", err)
	}
	if s.Version != 1 {
		return fmt.Errorf("snapshot of the gate's state has version %d, want 1", s.Version)
	}
	for id, step := range s.Steps {
		g.roster.steps[id] = usedStep{step, s.Accepted[id], s.Drift[id]}
	}
	for id, drift := range s.Drift {
		if _, ok := s.Steps[id]; !ok {
			g.roster.steps[id] = usedStep{step: neverUsed, drift: drift}
		}
	}
	maps.Copy(g.roster.recovery, s.Recovery)
	for person, st := range s.Failures {
		g.roster.failures[person] = st
	}
	for _, c := range s.Carried {
		g.windows.carry(c)
	}
	maps.Copy(g.books.uses, s.Relied)
	maps.Copy(g.tickets.tries, s.Tickets)
	g.roster.restoreUses(s.Uses)
	for i := range s.Sessions {
		g.sessions.put(&s.Sessions[i])
	}
	now := g.now()
	for _, x := range s.Used {
		if err := g.replayUsed(x, now); err != nil {
			return err
		}
	}
	return nil
}

// Replay applies a record's effects: at start for each record since the snapshot, and while running for the
// records that admin verbs make. Records of the gate's own decisions were applied when they were made.
func (g *Gate) Replay(rec *audit.Record) error {
	if isSession(rec.Event) {
		g.sessions.mu.Lock()
		g.sessions.apply(rec)
		g.sessions.mu.Unlock()
	}
	if relied(rec) {
		g.books.used(rec.Exception, rec.Time)
	}
	if rec.Change != "" && rec.Change != audit.None {
		g.windows.drop(rec.Person) // as it was when the change was made
	}
	for _, x := range rec.Effects {
		switch x.Set {
		case effectCert:
			g.replayCertificate(rec, x)
			continue
		case effectCertUsed:
			g.windows.used(x.ID, x.Value)
			continue
		case effectRevoke:
			g.windows.drop(x.ID)
			continue
		case effectTickets:
			g.tickets.tried(x.ID, int(x.Value))
			continue
		}
		if x.Set == effectUsed {
			if err := g.replayUsed(x, g.now()); err != nil {
				return fmt.Errorf("record %d: %w", rec.Seq, err)
			}
			continue
		}
		g.roster.effect(rec.Person, x, samenessIn(rec), rec.Time)
	}
	if acceptedLogin(rec) {
		g.roster.replaySeen(rec)
	}
	return nil
}

func (g *Gate) replayUsed(x audit.Effect, now time.Time) error {
	id, err := parseID(x.ID)
	if err != nil {
		return err
	}
	if x.Until.After(now) {
		g.used.take(id, now, x.Until)
	}
	return nil
}

// Apply takes a person, token or key, or what is known of a target, into memory: at start for all that the store holds,
// after Restore and Replay.
func (g *Gate) Apply(c Change) {
	g.roster.apply(c)
	g.vault.apply(c)
	g.books.apply(c)
	g.tickets.apply(c)
}

// Commit carries out an admin verb: the record with the sealed change first, then the change in the store, then in
// memory. A crash before the record is durable leaves nothing; after it, replay at the next start finishes the
// change, for which sealed is all that it needs. When the store fails, the change holds in memory, and the gate shuts
// until a restart has put the store right (P4). Callers serialise the verbs among themselves.
func (g *Gate) Commit(rec *audit.Record, c Change, sealed []byte, store func(seq uint64) error) (audit.Receipt, error) {
	g.pause.RLock()
	defer g.pause.RUnlock()
	var pending audit.Pending
	g.log.Submit(&pending, rec, sealed)
	receipt, err := pending.Wait()
	if err != nil {
		return receipt, fmt.Errorf("nothing was changed, since it could not be recorded: %w", err)
	}
	for _, person := range g.roster.personsOf(c) {
		g.windows.drop(person)
	}
	g.Apply(c)
	if err := g.Replay(rec); err != nil {
		return receipt, err
	}
	if c.Empty() {
		return receipt, nil
	}
	if err := store(receipt.Seq()); err != nil {
		err = fmt.Errorf("record %d holds a change that the store did not take: %w", receipt.Seq(), err)
		g.broken.Store(&err)
		return receipt, err
	}
	return receipt, nil
}

// Snapshot stops decisions for the moment that it takes to let what is submitted become durable, and to copy the
// state. It passes exactly the effect of all records so far to write.
func (g *Gate) Snapshot(write func(state []byte) error) error {
	g.pause.Lock()
	defer g.pause.Unlock()
	if err := g.broken.Load(); err != nil {
		return *err // replay must find the change again
	}
	if _, err := g.log.Flush(); err != nil {
		return err
	}
	s := snapshot{Version: 1, Drift: make(map[string]int16), Recovery: make(map[string]uint16), Steps: make(map[string]int64), Accepted: make(map[string]acceptance), Failures: make(map[string]throttle.State), Used: g.used.list(), Sessions: g.sessions.list()}
	r := g.roster
	r.mu.RLock()
	now := g.now().UnixMilli()
	keep := func(id string, step int64, a acceptance) {
		s.Steps[id] = step
		if a.As != 0 && now < a.Until {
			s.Accepted[id] = a
		}
	}
	for id, used := range r.steps {
		if used.step != neverUsed {
			keep(id, used.step, used.accepted)
		}
		if used.drift != 0 {
			s.Drift[id] = used.drift
		}
	}
	maps.Copy(s.Recovery, r.recovery)
	for person, st := range r.failures {
		s.Failures[person] = st
	}
	for name, e := range r.people {
		e.mu.Lock()
		for _, d := range e.devices {
			if d.last != neverUsed {
				keep(d.id, d.last, d.accepted)
			}
			if d.drift != 0 {
				s.Drift[d.id] = d.drift
			}
		}
		if e.recovery != nil && e.recovery.used != 0 {
			s.Recovery[e.recovery.id] = e.recovery.used
		}
		if e.locked != nil {
			s.Failures[name] = *e.locked
		}
		e.mu.Unlock()
	}
	s.Uses = r.keepUses()
	r.mu.RUnlock()
	s.Carried, s.Relied = g.windows.carriedNow(g.now()), g.ExceptionUses()
	s.Tickets = g.tickets.triesNow()
	state, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return write(state)
}
