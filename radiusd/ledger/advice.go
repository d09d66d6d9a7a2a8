package ledger

import (
	"fmt"
	"time"
)

// What is enough to go by. Lockouts are costly: a hundred requests over a week have every device of a small site among
// them, on every day of the week.
const (
	enoughRequests = 100
	enoughTime     = 7 * 24 * time.Hour
	// flapShare is the share of requests, one in so many, that come again because no answer came in time. A healthy network
	// loses less than one in a hundred.
	flapShare = 20
	// flapLeast bounds it from below, so that one bad minute of a quiet client is no pattern.
	flapLeast = 10
	// slow is when a NAS of the usual patience (3 to 5 s, and a first resend sooner) begins to send again.
	slow = 2 * time.Second
)

// The words of advice. They are stable: programs may look for them.
const (
	CanBeLocked = "can be locked"
	NeedsUpdate = "needs firmware"
	Flaps       = "flaps"
	WrongSecret = "wrong secret"
	CanBeLimits = "limit_proxy_state can be on"
	NeverSeen   = "never seen"
)

// Advice is a word, and what to do.
type Advice struct {
	Word string `json:"word"`
	Text string `json:"text"`
}

// Setting is what is configured for a client, as far as advice depends on it.
type Setting struct {
	OverTLS                     bool // nobody but the client can write there: no signature is needed
	RequireMessageAuthenticator bool
	LimitProxyState             bool
}

// Words of the server's drops that advice goes by.
const (
	DropUnsigned   = "ma_missing"
	DropForged     = "ma_bad"
	DropInFlight   = "dup_inflight"
	DropSuperseded = "superseded"
)

// Advise says what follows from a client's history, the gravest first. It depends on nothing else.
func Advise(s Setting, h *History, now time.Time) []Advice {
	advice := []Advice{}
	say := func(word, format string, args ...any) {
		advice = append(advice, Advice{word, fmt.Sprintf(format, args...)})
	}
	total, recent := &h.Total, h.Recent(now)
	if neverSeen(total) {
		say(NeverSeen, "nothing has come from it since %s: is its address right, and ours there?", h.Since.UTC().Format(dateForm))
		return advice
	}
	if n := recent.Drops[DropForged]; n > 0 && recent.Requests == 0 && recent.WithMessageAuthenticator == 0 {
		say(WrongSecret, "all that it signed these days is signed with another secret (%d packets): set the same secret on both sides", n)
	}
	if !s.OverTLS {
		signatures(s, total, h.Since, now, say)
	}
	again := recent.Resends + recent.Drops[DropInFlight] + recent.Drops[DropSuperseded]
	if again >= flapLeast && again*flapShare >= recent.Requests {
		why := fmt.Sprintf("our answers took %v at most, so they or the requests get lost on the way", recent.Slowest.Round(time.Millisecond))
		if recent.Slowest >= slow || recent.Drops[DropSuperseded] > 0 {
			why = fmt.Sprintf("our slowest answer took %v: let it wait longer (10 s and more), and see what is slow here", recent.Slowest.Round(time.Millisecond))
		}
		say(Flaps, "it sent %d times again, for %d requests, these days; %s", again, recent.Requests, why)
	}
	return advice
}

// signatures is the advice about Message-Authenticator and Proxy-State (CVE-2024-3596).
func signatures(s Setting, total *Counts, since, now time.Time, say func(word, format string, args ...any)) {
	last := total.LastWithoutMessageAuthenticator
	active := latest(total.LastSeen, last)
	switch {
	case !last.IsZero() && active.Sub(last) < enoughTime:
		some := ""
		if recentlySigned := total.WithMessageAuthenticator > 0; recentlySigned {
			some = "; others have it: is more than one device behind this address?"
		}
		if s.RequireMessageAuthenticator {
			say(NeedsUpdate, "requests without Message-Authenticator are dropped, the last at %s%s", stamp(last), some)
		} else {
			say(NeedsUpdate, "its requests have no Message-Authenticator, the last at %s, so answers to it can be forged (CVE-2024-3596)%s", stamp(last), some)
		}
	case !s.RequireMessageAuthenticator && total.SignedRun >= enoughRequests && now.Sub(total.SignedSince) >= enoughTime:
		say(CanBeLocked, "all %d requests since %s had a Message-Authenticator: set require_message_authenticator: true", total.SignedRun, stamp(total.SignedSince))
		return
	}
	if s.RequireMessageAuthenticator || s.LimitProxyState || total.Requests < enoughRequests {
		return
	}
	if without := latest(since, total.LastProxyState); now.Sub(without) >= enoughTime && active.After(without) {
		say(CanBeLimits, "no request since %s had Proxy-State: set limit_proxy_state: true, until it can be locked", stamp(without))
	}
}

func neverSeen(c *Counts) bool {
	return c.LastSeen.IsZero() && c.LastWithoutMessageAuthenticator.IsZero() && len(c.Drops) == 0
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }
