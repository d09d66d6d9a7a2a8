package login

import (
	"sync"
	"time"

	"sallyport/internal/audit"
)

// When people last logged in, and by what, follows from the records, like the steps that are used up. It decides nothing: it is for the
// lists of dormant people, and of tokens and keys that nobody uses. Seconds do.

// uses are the keys that logins were accepted by, and what replay has heard of people and tokens that are not loaded yet.
type uses struct {
	mu     sync.Mutex
	keys   map[string]int64 // by fingerprint, Unix seconds
	people map[string]int64
	tokens map[string]uint32
}

func newUses() *uses {
	return &uses{keys: make(map[string]int64), people: make(map[string]int64), tokens: make(map[string]uint32)}
}

// methodKey is how records name an SSH key as a factor.
const methodKey = "key"

// seen notes a login that was accepted. The caller holds e.mu.
func (r *roster) seen(e *entry, rec *audit.Record, at time.Time) {
	e.seen = max(e.seen, at.Unix())
	for i := range rec.Factors {
		f := &rec.Factors[i]
		if f.Result != "ok" {
			continue
		}
		if f.Method == methodKey {
			r.uses.mu.Lock()
			r.uses.keys[f.Token] = max(r.uses.keys[f.Token], at.Unix())
			r.uses.mu.Unlock()
		} else if i := e.device(f.Token); i >= 0 {
			e.devices[i].used = max(e.devices[i].used, uint32(at.Unix()))
		}
	}
}

// acceptedLogin tells whether a record is of somebody's coming in.
func acceptedLogin(rec *audit.Record) bool { return rec.Event == "login" && rec.Result == audit.Accept }

// replaySeen is seen, of a record that is replayed.
func (r *roster) replaySeen(rec *audit.Record) {
	if e := r.find(rec.Person); e != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		r.seen(e, rec, rec.Time)
		return
	}
	at := rec.Time.Unix()
	r.uses.mu.Lock()
	defer r.uses.mu.Unlock()
	r.uses.people[rec.Person] = max(r.uses.people[rec.Person], at)
	for _, f := range rec.Factors {
		switch {
		case f.Result != "ok":
		case f.Method == methodKey:
			r.uses.keys[f.Token] = max(r.uses.keys[f.Token], at)
		case f.Token != "" && f.Kind == string(Have):
			r.uses.tokens[f.Token] = max(r.uses.tokens[f.Token], uint32(at))
		}
	}
}

// person gives what replay has heard of a person before he was loaded, and token of a token.
func (u *uses) person(name string) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := u.people[name]
	delete(u.people, name)
	return at
}

func (u *uses) token(id string) uint32 {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := u.tokens[id]
	delete(u.tokens, id)
	return at
}

func (u *uses) dropKey(fingerprint string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.keys, fingerprint)
}

// keptUses is what a snapshot holds of it.
type keptUses struct {
	People map[string]int64
	Tokens map[string]uint32
	Keys   map[string]int64
}

// keepUses copies it for a snapshot. It needs r.mu.
func (r *roster) keepUses() *keptUses {
	k := &keptUses{People: make(map[string]int64), Tokens: make(map[string]uint32), Keys: make(map[string]int64)}
	for name, e := range r.people {
		e.mu.Lock()
		if e.seen > 0 {
			k.People[name] = e.seen
		}
		for i := range e.devices {
			if d := &e.devices[i]; d.used > 0 {
				k.Tokens[d.id] = d.used
			}
		}
		e.mu.Unlock()
	}
	r.uses.mu.Lock()
	defer r.uses.mu.Unlock()
	for fp, at := range r.uses.keys {
		if _, known := r.keys[fp]; known {
			k.Keys[fp] = at
		}
	}
	return k
}

func (r *roster) restoreUses(k *keptUses) {
	if k == nil {
		return
	}
	r.uses.mu.Lock()
	defer r.uses.mu.Unlock()
	for name, at := range k.People {
		r.uses.people[name] = at
	}
	for id, at := range k.Tokens {
		r.uses.tokens[id] = at
	}
	for fp, at := range k.Keys {
		r.uses.keys[fp] = at
	}
}

func timeAt(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(at, 0).UTC()
}

// LastLogin is when somebody was last let in, by whatever protocol; zero: never, as far as the records tell.
func (g *Gate) LastLogin(name string) time.Time {
	e := g.roster.find(name)
	if e == nil {
		return time.Time{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return timeAt(e.seen)
}

// TokenUsed is when somebody was last let in by a token; zero: never. The first code, which makes it serve, does not count.
func (g *Gate) TokenUsed(person, id string) time.Time {
	e := g.roster.find(person)
	if e == nil {
		return time.Time{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.device(id); i >= 0 {
		return timeAt(int64(e.devices[i].used))
	}
	return time.Time{}
}

// KeyUsed is when somebody was last let in with an SSH key; zero: never.
func (g *Gate) KeyUsed(fingerprint string) time.Time {
	g.roster.uses.mu.Lock()
	defer g.roster.uses.mu.Unlock()
	return timeAt(g.roster.uses.keys[fingerprint])
}
