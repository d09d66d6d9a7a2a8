package login

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
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
	params *otp.Params // shared, never changed in place
	seed   string
	last   int64 // newest step or counter used, or neverUsed

	accepted acceptance
	from     int64  // Unix time from which it serves; 0: always
	until    int64  // and until which; 0: for ever
	drift    int16  // steps that its clock is ahead of ours
	lean     int8   // logins in a row that were off the same way, see learn
	used     uint32 // when a login was last accepted by it, in Unix seconds; 0: never
}

// profile is what an operator says of a person. Most people share theirs; it is never changed in place.
type profile struct {
	kind     PersonKind
	groups   []string
	first    string // first factor; empty: the usual one
	disabled bool
	from     time.Time
	until    time.Time
}

// entry is a person as the gate needs it. A hundred thousand of them are kept in memory, so it is compact.
type entry struct {
	name string
	mu   sync.Mutex // held from judging an attempt until its record is submitted

	// Guarded by mu.
	profile *profile
	locked  *throttle.State // nil: no failures
	devices []device
	first   [1]device // the memory of devices, for those who have one

	recovery *recoverySet // nil: none
	seen     int64        // when a login was last accepted, in Unix seconds; 0: never
}

func (e *entry) throttle() throttle.State {
	if e.locked == nil {
		return throttle.State{}
	}
	return *e.locked
}

func (e *entry) setThrottle(st throttle.State) {
	e.locked = nil
	if st != (throttle.State{}) {
		e.locked = &st
	}
}

// usedStep is a step or counter that is used up.
type usedStep struct {
	step     int64
	accepted acceptance
	drift    int16
}

// roster is the people, tokens and keys that logins are judged against.
type roster struct {
	mu       sync.RWMutex
	people   map[string]*entry
	keys     map[string]string   // fingerprint to person
	bindings map[string]*Binding // by fingerprint, of service identities

	// What replay said of people and tokens before the roster was loaded.
	steps    map[string]usedStep
	recovery map[string]uint16 // by token, codes that are used up
	failures map[string]throttle.State

	uses *uses

	profiles map[string]*profile // those without times, one copy of each
	params   map[otp.Params]*otp.Params
	text     strings.Builder // where kept strings lie, see keep
}

// textChunk is how much memory is taken for kept strings at a time.
const textChunk = 16 << 10

// keep copies a text to where many lie together: a hundred thousand small ones take more memory, and more of the garbage
// collector's time, than they are worth. A chunk is free when all that lie in it are forgotten. It needs r.mu.
func (r *roster) keep(text string) string {
	if r.text.Cap()-r.text.Len() < len(text) {
		r.text = strings.Builder{}
		r.text.Grow(max(textChunk, len(text)))
	}
	r.text.WriteString(text) // within what it has: what was returned before stays where it is
	return r.text.String()[r.text.Len()-len(text):]
}

func newRoster() *roster {
	return &roster{
		people:   make(map[string]*entry),
		keys:     make(map[string]string),
		bindings: make(map[string]*Binding),
		steps:    make(map[string]usedStep),
		recovery: make(map[string]uint16),
		failures: make(map[string]throttle.State),
		uses:     newUses(),
		profiles: make(map[string]*profile),
		params:   make(map[otp.Params]*otp.Params),
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
		delete(r.bindings, k.Fingerprint)
		if k.Bound != nil {
			own := *k.Bound
			own.Sources = slices.Clone(own.Sources)
			r.bindings[k.Fingerprint] = &own
		}
	}
	if c.DeleteKey != "" {
		delete(r.keys, c.DeleteKey)
		r.uses.dropKey(c.DeleteKey)
		delete(r.bindings, c.DeleteKey)
	}
	if c.DeleteToken != "" {
		for _, e := range r.people {
			r.retire(e, c.DeleteToken)
		}
	}
	if c.DeletePerson != "" {
		if e := r.people[c.DeletePerson]; e != nil {
			e.mu.Lock()
			e.profile, e.devices, e.recovery = &profile{disabled: true}, nil, nil // whoever already holds the entry finds it shut
			e.mu.Unlock()
			delete(r.people, c.DeletePerson)
		}
		for fp, person := range r.keys {
			if person == c.DeletePerson {
				delete(r.keys, fp)
				r.uses.dropKey(fp)
				delete(r.bindings, fp)
			}
		}
	}
	for _, further := range c.All {
		r.change(further)
	}
}

func (r *roster) putPerson(p Person) {
	shared := r.profileOf(p)
	e := r.people[p.Name]
	if e == nil {
		e = &entry{name: r.keep(p.Name), profile: shared}
		e.setThrottle(r.failures[p.Name])
		e.seen = r.uses.person(p.Name)
		delete(r.failures, p.Name)
		r.people[e.name] = e
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.profile = shared
}

func (r *roster) profileOf(p Person) *profile {
	own := &profile{kind: p.Kind, groups: slices.Clone(p.Groups), first: p.First, disabled: p.Disabled, from: p.From, until: p.Until}
	if !p.From.IsZero() || !p.Until.IsZero() {
		return own
	}
	key := string(p.Kind) + "\x00" + strconv.FormatBool(p.Disabled) + "\x00" + p.First + "\x00" + strings.Join(p.Groups, "\x00")
	if shared, ok := r.profiles[key]; ok {
		return shared
	}
	r.profiles[key] = own
	return own
}

func (r *roster) paramsOf(p otp.Params) *otp.Params {
	if shared, ok := r.params[p]; ok {
		return shared
	}
	r.params[p] = &p
	return &p
}

func (r *roster) putToken(t Token) {
	e := r.people[t.Person]
	if e == nil {
		return // the person went first; the token can prove nobody
	}
	if t.State != TokenActive {
		r.retire(e, t.ID)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.Params.Type == otp.TypeRecovery {
		set := &recoverySet{id: t.ID, kept: string(t.Seed), used: r.recovery[t.ID]}
		if e.recovery != nil && e.recovery.id == t.ID {
			set.used |= e.recovery.used
		}
		delete(r.recovery, t.ID)
		e.recovery = set
		return
	}
	text := r.keep(t.ID + string(t.Seed))
	d := device{id: text[:len(t.ID)], params: r.paramsOf(t.Params), seed: text[len(t.ID):], last: neverUsed, from: unix(t.From), until: unix(t.Until)}
	if used, ok := r.steps[t.ID]; ok {
		d.last, d.accepted, d.drift = used.step, used.accepted, used.drift
		delete(r.steps, t.ID)
	}
	d.used = r.uses.token(t.ID)
	if i := e.device(t.ID); i >= 0 {
		if old := e.devices[i]; old.last > d.last {
			d.last, d.accepted = old.last, old.accepted
		}
		d.drift, d.used = e.devices[i].drift, max(d.used, e.devices[i].used)
		e.devices[i] = d
		return
	}
	if len(e.devices) == 0 {
		e.first[0] = d
		e.devices = e.first[:]
		return
	}
	e.devices = append(slices.Clip(e.devices), d)
}

func (e *entry) device(id string) int {
	return slices.IndexFunc(e.devices, func(d device) bool { return d.id == id })
}

// dropDevice needs e.mu.
func (e *entry) dropDevice(id string) {
	e.devices = slices.DeleteFunc(e.devices, func(d device) bool { return d.id == id })
	if e.recovery != nil && e.recovery.id == id {
		e.recovery = nil
	}
}

// effect applies what a record says that memory must know. It may be applied twice, in the log's order.
// As is what was asked when a code was accepted at that time.
func (r *roster) effect(owner string, x audit.Effect, as uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch x.Set {
	case effectFailures:
		st := throttle.State{Failures: int(x.Value), Until: x.Until}
		if e := r.people[x.ID]; e != nil {
			e.mu.Lock()
			e.setThrottle(st)
			e.mu.Unlock()
		} else {
			r.failures[x.ID] = st
		}
	case effectStep:
		if e := r.people[owner]; e != nil {
			e.mu.Lock()
			i := e.device(x.ID)
			if i >= 0 && x.Value >= e.devices[i].last {
				e.devices[i].last, e.devices[i].accepted = x.Value, acceptedAt(at, as)
			}
			e.mu.Unlock()
			if i >= 0 {
				return
			}
		}
		if last, ok := r.steps[x.ID]; !ok || last.step < x.Value {
			r.steps[x.ID] = usedStep{x.Value, acceptedAt(at, as), last.drift}
		}
	case effectDrift:
		if e := r.people[owner]; e != nil {
			e.mu.Lock()
			i := e.device(x.ID)
			if i >= 0 {
				e.devices[i].drift, e.devices[i].lean = int16(x.Value), 0
			}
			e.mu.Unlock()
			if i >= 0 {
				return
			}
		}
		used, ok := r.steps[x.ID]
		if !ok {
			used.step = neverUsed
		}
		used.drift = int16(x.Value)
		r.steps[x.ID] = used
	case effectRecovery:
		bit := uint16(1) << (x.Value & 15)
		if e := r.people[owner]; e != nil {
			e.mu.Lock()
			mine := e.recovery != nil && e.recovery.id == x.ID
			if mine {
				e.recovery.used |= bit
			}
			e.mu.Unlock()
			if mine {
				return
			}
		}
		r.recovery[x.ID] |= bit
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
