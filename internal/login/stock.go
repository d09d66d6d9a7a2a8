package login

import (
	"time"

	"sallyport/otp"
)

// StockToken is a hardware token that was imported and belongs to nobody yet. Seed is the plain key: it lives, sealed, in the store, and
// nowhere in the gate's memory, since nobody can log in with it.
type StockToken struct {
	Serial   string     `json:"serial"`
	Maker    string     `json:"maker,omitempty"`
	Model    string     `json:"model,omitempty"`
	Params   otp.Params `json:"params"`
	Seed     []byte     `json:"seed,omitempty"`
	Counter  int64      `json:"counter,omitempty"` // HOTP: of its next code
	Drift    int64      `json:"drift,omitempty"`   // TOTP: steps by which its clock is ahead
	From     time.Time  `json:"from,omitzero"`     // when it begins to serve, as its maker says; zero: at once
	Until    time.Time  `json:"until,omitzero"`    // when it ends; zero: never
	Wish     string     `json:"wish,omitempty"`    // whose the file wished it to be, as it was written there
	Imported time.Time  `json:"imported,omitzero"`
	Batch    string     `json:"batch,omitempty"` // SHA-256 of the file that it came in, hexadecimal; empty: it was somebody's
}

// SerialID is the id under which the Gate knows what was used of a hardware token that is gone from here: its maker's file may bring it
// back, and a code of it must not be accepted twice (P2). It is nobody's, so TokenStanding takes no person with it.
func SerialID(serial string) string { return "serial " + serial }

// ReasonFile: a file of tokens is wrong, and nothing of it was taken.
const ReasonFile Reason = "file_wrong"

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// inTime tells whether the token may serve by its maker's dates (RFC 6030 section 5, StartDate and ExpiryDate).
func (d *device) inTime(now time.Time) bool {
	at := now.Unix()
	return (d.from == 0 || at >= d.from) && (d.until == 0 || at < d.until)
}

// retire ends a device of somebody's, and remembers which step or counter of it was used last: a hardware token may be assigned anew,
// and a code of it must not be accepted twice (P2). It needs r.mu, and not e.mu.
func (r *roster) retire(e *entry, token string) {
	e.mu.Lock()
	defer e.mu.Unlock() // between the look and the end nobody may log in by it
	if i := e.device(token); i >= 0 {
		if d := &e.devices[i]; d.last != neverUsed || d.drift != 0 {
			r.steps[token] = usedStep{step: d.last, drift: d.drift}
		}
	}
	e.dropDevice(token)
}

// TokenStanding tells the newest step or counter that is used up, or -1, and by how many steps its clock is ahead. Unlike LastStep
// and Drift, it also knows tokens that wait for their first code, and those that were revoked.
func (g *Gate) TokenStanding(person, token string) (used, drift int64) {
	r := g.roster
	r.mu.RLock()
	defer r.mu.RUnlock()
	used = neverUsed
	if s, ok := r.steps[token]; ok {
		used, drift = s.step, int64(s.drift)
	}
	if e := r.people[person]; e != nil {
		e.mu.Lock()
		if i := e.device(token); i >= 0 {
			used, drift = max(used, e.devices[i].last), int64(e.devices[i].drift)
		}
		e.mu.Unlock()
	}
	return used, drift
}

// FirstCodes is where the first code of a token may lie by which a person shows that he has it: what was used, or what its maker has counted
// already, stays used.
func (g *Gate) FirstCodes(t *Token, now time.Time) otp.Window {
	set := g.Policy().Settings
	used, drift := g.TokenStanding(t.Person, t.ID)
	if t.Params.Type != otp.TypeTOTP {
		return otp.Ahead(used, set.LookAhead)
	}
	w := t.Params.Around(now.Add(time.Duration(drift)*time.Duration(t.Params.Period)*time.Second), set.Skew)
	w.From = max(w.From, used+1)
	return w
}
