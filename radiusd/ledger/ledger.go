// Package ledger keeps what was seen of RADIUS clients over restarts, and says what follows from it: which client can be
// locked down, which needs new firmware, and which asks in vain.
//
// A server counts from its start. A Book takes these counts from time to time, adds what is new to what it holds, and
// writes all of it to one small file. A crash loses what came after the last writing, and nothing else: the counts are
// advice, and no login depends on them.
package ledger

import (
	"maps"
	"time"
)

const (
	// recentDays are kept one by one: long enough for a weekend to be among them, and what was mended is then forgotten.
	recentDays = 7
	dateForm   = time.DateOnly
)

// Counts is what was seen of one client in some time.
type Counts struct {
	LastSeen time.Time `json:"last_seen,omitzero"` // zero: never

	// Requests are Access-Requests that were well formed and, where signed, rightly so.
	Requests uint64 `json:"requests,omitempty"`
	// The next two count Access-Requests with resends. They tell whether RequireMessageAuthenticator can be set.
	WithMessageAuthenticator    uint64 `json:"with_ma,omitempty"`
	WithoutMessageAuthenticator uint64 `json:"without_ma,omitempty"` // also counted when dropped for it
	WithProxyState              uint64 `json:"proxy_state,omitempty"`
	WithoutNAS                  uint64 `json:"without_nas,omitempty"` // neither NAS-IP-Address nor NAS-Identifier (RFC 2865 section 4.1)

	Accepts      uint64            `json:"accepts,omitempty"`
	Rejects      uint64            `json:"rejects,omitempty"`
	Challenges   uint64            `json:"challenges,omitempty"`
	Accounting   uint64            `json:"accounting,omitempty"`
	StatusServer uint64            `json:"status_server,omitempty"`
	Resends      uint64            `json:"resends,omitempty"`
	Drops        map[string]uint64 `json:"drops,omitempty"` // by reason; only those that happened

	Waited  time.Duration `json:"waited,omitempty"`  // all answers together, from a request's arrival to its answer
	Slowest time.Duration `json:"slowest,omitempty"` // the longest of them

	LastWithoutMessageAuthenticator time.Time `json:"last_without_ma,omitzero"`
	LastProxyState                  time.Time `json:"last_proxy_state,omitzero"`
	// SignedRun is how many Access-Requests in a row had a Message-Authenticator until now, and SignedSince when the first
	// of them came.
	SignedRun   uint64    `json:"signed_run,omitempty"`
	SignedSince time.Time `json:"signed_since,omitzero"`
}

// Answers is how many logins were answered.
func (c *Counts) Answers() uint64 { return c.Accepts + c.Rejects + c.Challenges }

// numbers are the counts that grow.
func (c *Counts) numbers() [11]*uint64 {
	return [...]*uint64{
		&c.Requests, &c.WithMessageAuthenticator, &c.WithoutMessageAuthenticator, &c.WithProxyState, &c.WithoutNAS,
		&c.Accepts, &c.Rejects, &c.Challenges, &c.Accounting, &c.StatusServer, &c.Resends,
	}
}

// add adds what came later.
func (c *Counts) add(later Counts) {
	mine, more := c.numbers(), later.numbers()
	for i := range mine {
		*mine[i] += *more[i]
	}
	if len(later.Drops) > 0 && c.Drops == nil {
		c.Drops = make(map[string]uint64)
	}
	for reason, n := range later.Drops {
		c.Drops[reason] += n
	}
	c.Waited += later.Waited
	c.Slowest = max(c.Slowest, later.Slowest)
	c.LastSeen = latest(c.LastSeen, later.LastSeen)
	c.LastProxyState = latest(c.LastProxyState, later.LastProxyState)
	if later.LastWithoutMessageAuthenticator.After(c.LastWithoutMessageAuthenticator) {
		c.LastWithoutMessageAuthenticator = later.LastWithoutMessageAuthenticator
		c.SignedRun, c.SignedSince = later.SignedRun, later.SignedSince
		return
	}
	c.SignedRun += later.SignedRun
	if c.SignedSince.IsZero() {
		c.SignedSince = later.SignedSince
	}
}

// since returns what came after before, a state of the same counting. Where that was begun anew meanwhile, it is all.
func (c Counts) since(before Counts) Counts {
	d := c
	d.Drops = maps.Clone(c.Drops)
	now, then := d.numbers(), before.numbers()
	for i := range now {
		if *now[i] < *then[i] {
			return c
		}
	}
	for reason, n := range before.Drops {
		if c.Drops[reason] < n {
			return c
		}
	}
	for i := range now {
		*now[i] -= *then[i]
	}
	for reason, n := range before.Drops {
		if d.Drops[reason] -= n; d.Drops[reason] == 0 {
			delete(d.Drops, reason)
		}
	}
	d.Waited -= before.Waited
	if c.Slowest == before.Slowest {
		d.Slowest = 0 // it was that slow before
	}
	if c.LastWithoutMessageAuthenticator.Equal(before.LastWithoutMessageAuthenticator) {
		d.SignedRun -= min(d.SignedRun, before.SignedRun)
	}
	return d
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Day is what was seen on one day (UTC).
type Day struct {
	Date string `json:"date"`
	Counts
}

// History is what is known of one client.
type History struct {
	Since   time.Time `json:"since"` // when counting began
	Updated time.Time `json:"updated"`
	Total   Counts    `json:"total"`
	Days    []Day     `json:"days,omitempty"` // the last days on which something was seen, oldest first
}

// add takes in what came since the last time.
func (h *History) add(more Counts, now time.Time) {
	h.Total.add(more)
	h.Updated = now
	date := now.UTC().Format(dateForm)
	if n := len(h.Days); n == 0 || h.Days[n-1].Date < date {
		h.Days = append(h.Days, Day{Date: date})
	}
	h.Days[len(h.Days)-1].add(more) // also where the clock was set back
	first := firstDay(now)
	for len(h.Days) > 0 && h.Days[0].Date < first || len(h.Days) > recentDays {
		h.Days = h.Days[1:]
	}
}

func firstDay(now time.Time) string {
	return now.UTC().AddDate(0, 0, 1-recentDays).Format(dateForm)
}

// Recent is what was seen within the last days.
func (h *History) Recent(now time.Time) Counts {
	var sum Counts
	first := firstDay(now)
	for i := range h.Days {
		if h.Days[i].Date >= first {
			sum.add(h.Days[i].Counts)
		}
	}
	return sum
}
