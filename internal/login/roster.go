package login

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/throttle"
	"sallyport/otp"
)

// MaxTokens bounds the active tokens of one person, and so the work of one code check.
const MaxTokens = 8

// The effects that records carry and that replay understands.
const (
	effectStep     = "token.step"      // ID token, Value the step or counter that is used up
	effectFailures = "person.failures" // ID person, Value consecutive failures, Until the end of the lock
	effectUsed     = "state.used"      // ID attempt, Until when the challenge is dead anyhow
)

// EffectStep makes the effect that burns a token's step or counter, for verbs that take a code themselves.
func EffectStep(token string, step int64) audit.Effect {
	return audit.Effect{Set: effectStep, ID: token, Value: step}
}

// EffectUnlock makes the effect that forgets a person's failures.
func EffectUnlock(person string) audit.Effect {
	return audit.Effect{Set: effectFailures, ID: person}
}

// neverUsed is the last step of a token of which no code was accepted yet. HOTP counters start at 0 (RFC 4226).
const neverUsed = -1

// device is an active token as the gate needs it.
type device struct {
	id     string
	params otp.Params
	seed   []byte
	last   int64 // newest step or counter used, or neverUsed
}

// entry is a person as the gate needs it. A hundred thousand of them are kept in memory, so it is compact.
type entry struct {
	mu sync.Mutex // held from judging an attempt until its record is submitted

	// Guarded by mu.
	name     string
	kind     PersonKind
	groups   []string // shared between entries, never changed in place
	disabled bool
	from     time.Time
	until    time.Time
	throttle throttle.State
	devices  []device
}

// roster is the people, tokens and keys that logins are judged against.
type roster struct {
	mu     sync.RWMutex
	people map[string]*entry
	keys   map[string]string // fingerprint to person

	// What replay said of people and tokens before the roster was loaded.
	steps    map[string]int64
	failures map[string]throttle.State

	groups map[string][]string // one copy of each set of groups
}

func newRoster() *roster {
	return &roster{
		people:   make(map[string]*entry),
		keys:     make(map[string]string),
		steps:    make(map[string]int64),
		failures: make(map[string]throttle.State),
		groups:   make(map[string][]string),
	}
}

// ValidName reports whether name can be a Person's: lower-case letters, digits, dot, hyphen, underscore, beginning
// with a letter or digit, at most MaxName bytes. So no name can be mistaken for the parts of an SSH user name.
func ValidName(name string) bool {
	if name == "" || len(name) > MaxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return true
}

// find looks up a name as typed, without regard to ASCII case, as directories do.
func (r *roster) find(typed string) *entry {
	if len(typed) > MaxName {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if e, ok := r.people[typed]; ok {
		return e
	}
	return r.people[lowerASCII(typed)]
}

// lowerASCII leaves all but A to Z alone: Unicode folding would let two names become one.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}

// apply takes one admin change. It may be applied twice.
func (r *roster) apply(c Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.change(c)
}

// change needs r.mu.
func (r *roster) change(c Change) {
	if p := c.PutPerson; p != nil {
		r.putPerson(*p)
	}
	if t := c.PutToken; t != nil {
		r.putToken(*t)
	}
	if k := c.PutKey; k != nil && r.people[k.Person] != nil {
		r.keys[k.Fingerprint] = strings.Clone(k.Person)
	}
	if c.DeleteKey != "" {
		delete(r.keys, c.DeleteKey)
	}
	if c.DeleteToken != "" {
		for _, e := range r.people {
			e.dropDevice(c.DeleteToken)
		}
	}
	if c.DeletePerson != "" {
		if e := r.people[c.DeletePerson]; e != nil {
			e.mu.Lock()
			e.disabled, e.devices = true, nil // whoever already holds the entry finds it shut
			e.mu.Unlock()
			delete(r.people, c.DeletePerson)
		}
		for fp, person := range r.keys {
			if person == c.DeletePerson {
				delete(r.keys, fp)
			}
		}
	}
	for _, further := range c.All {
		r.change(further)
	}
}

func (r *roster) putPerson(p Person) {
	e := r.people[p.Name]
	if e == nil {
		e = &entry{name: strings.Clone(p.Name), throttle: r.failures[p.Name]}
		delete(r.failures, p.Name)
		r.people[e.name] = e
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kind, e.disabled, e.from, e.until = p.Kind, p.Disabled, p.From, p.Until
	e.groups = r.sharedGroups(p.Groups)
}

func (r *roster) sharedGroups(groups []string) []string {
	key := strings.Join(groups, "\x00")
	if shared, ok := r.groups[key]; ok {
		return shared
	}
	shared := slices.Clone(groups)
	r.groups[key] = shared
	return shared
}

func (r *roster) putToken(t Token) {
	e := r.people[t.Person]
	if e == nil {
		return // the person went first; the token can prove nobody
	}
	if t.State != TokenActive {
		e.dropDevice(t.ID)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	d := device{id: strings.Clone(t.ID), params: t.Params, seed: slices.Clone(t.Seed), last: neverUsed}
	if last, ok := r.steps[t.ID]; ok {
		d.last = last
		delete(r.steps, t.ID)
	}
	if i := e.device(t.ID); i >= 0 {
		d.last = max(d.last, e.devices[i].last)
		e.devices[i] = d
		return
	}
	e.devices = append(e.devices, d)
}

func (e *entry) device(id string) int {
	return slices.IndexFunc(e.devices, func(d device) bool { return d.id == id })
}

func (e *entry) dropDevice(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.devices = slices.DeleteFunc(e.devices, func(d device) bool { return d.id == id })
}

// effect applies what a record says that memory must know. It may be applied twice, in the log's order.
func (r *roster) effect(owner string, x audit.Effect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch x.Set {
	case effectFailures:
		st := throttle.State{Failures: int(x.Value), Until: x.Until}
		if e := r.people[x.ID]; e != nil {
			e.mu.Lock()
			e.throttle = st
			e.mu.Unlock()
		} else {
			r.failures[x.ID] = st
		}
	case effectStep:
		if e := r.people[owner]; e != nil {
			e.mu.Lock()
			i := e.device(x.ID)
			if i >= 0 {
				e.devices[i].last = max(e.devices[i].last, x.Value)
			}
			e.mu.Unlock()
			if i >= 0 {
				return
			}
		}
		if last, ok := r.steps[x.ID]; !ok || last < x.Value {
			r.steps[x.ID] = x.Value
		}
	}
}

// key tells whose registered key this is.
func (r *roster) key(typed string, wire []byte) (fingerprint string, registered bool) {
	sum := sha256.Sum256(wire)
	fingerprint = "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
	r.mu.RLock()
	defer r.mu.RUnlock()
	person, ok := r.keys[fingerprint]
	return fingerprint, ok && len(typed) <= MaxName && person == lowerASCII(typed)
}
