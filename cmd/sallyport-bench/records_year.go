package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// The synthetic trust: a year of logins by staff to VPN, Wi-Fi and switches over RADIUS, and of administrators and
// suppliers over SSH, by day much more than by night, and at weekends a quarter. The same number of records is always the same year.
const (
	trustPeople  = 5000 // who log in over RADIUS, some of them every day and some once in a year
	trustAdmins  = 200  // of whom the first so many also come over SSH
	trustClients = 20
	trustTargets = 40
	trustHours   = 365 * 24
	sessionsOpen = 60 // SSH sessions that are open at any time
)

// trustBegin is when the year begins, a Monday. It is fixed, so that two runs make the same records but for salts.
var trustBegin = time.Date(2025, 9, 1, 0, 0, 0, 0, time.UTC)

// year makes the records of a year, one after the other.
type year struct {
	rng     *rand.Rand
	total   uint64
	weights [trustHours + 1]float64 // of all hours before
	hour    int
	made    uint64
	steps   [trustPeople]int64
	open    []session
	waiting []func(*audit.Record)
	now     time.Time
}

// session is an SSH session that has begun.
type session struct {
	id, attempt string
	person      int
	target      int
	since       time.Time
}

func newYear(total uint64) *year {
	t := &year{rng: rand.New(rand.NewPCG(1, 2)), total: total}
	for h := range trustHours {
		weight := 1.0
		if of := h % 24; of >= 7 && of < 19 {
			weight = 12
		}
		if day := h / 24 % 7; day >= 5 {
			weight /= 4
		}
		t.weights[h+1] = t.weights[h] + weight
	}
	return t
}

func trustPerson(i int) string { return fmt.Sprintf("person.%04d@trust.example", i) }

// advance sets the time of the next record.
func (t *year) advance() {
	at := (float64(t.made) + 0.5) / float64(t.total) * t.weights[trustHours]
	for t.hour < trustHours-1 && t.weights[t.hour+1] <= at {
		t.hour++
	}
	within := (at - t.weights[t.hour]) / (t.weights[t.hour+1] - t.weights[t.hour])
	t.now = trustBegin.Add(time.Duration((float64(t.hour) + within) * float64(time.Hour))).Truncate(time.Millisecond)
	t.made++
}

// next fills rec. The memory of its lists is used again.
func (t *year) next(rec *audit.Record) {
	t.advance()
	*rec = audit.Record{Time: t.now, Factors: rec.Factors[:0], Detail: rec.Detail[:0], Effects: rec.Effects[:0]}
	if n := len(t.waiting); n > 0 {
		then := t.waiting[n-1]
		t.waiting = t.waiting[:n-1]
		then(rec)
		return
	}
	switch dice := t.rng.IntN(100); {
	case dice < 74:
		t.radius(rec, true)
	case dice < 84:
		t.radius(rec, false)
	default:
		t.ssh(rec)
	}
}

func (t *year) id() string {
	return fmt.Sprintf("%08x-%04x-7%03x-a%03x-%012x", t.now.Unix(), t.made&0xffff, t.rng.IntN(4096), t.rng.IntN(4096), t.rng.Uint64()>>16)
}

func (t *year) identify(rec *audit.Record, person int) {
	rec.Person = trustPerson(person)
	rec.Login, rec.PersonKind = rec.Person, "staff"
	if person%25 == 7 {
		rec.PersonKind = "supplier"
	}
	rec.Source = fmt.Sprintf("10.%d.%d.%d", 20+person%4, person/250, person%250)
}

// proved are the factors of a login, and the step that it consumes.
func (t *year) proved(rec *audit.Record, person int) {
	token := fmt.Sprintf("tok-%06d", 100_000+person)
	t.steps[person] = max(t.steps[person]+1, t.now.Unix()/30)
	rec.Factors = append(rec.Factors, audit.Factor{Kind: "know", Method: "password", Result: "ok"}, audit.Factor{Kind: "have", Method: "totp", Token: token, Result: "ok"})
	rec.Effects = append(rec.Effects, login.EffectStep(token, t.steps[person]))
}

func (t *year) radius(rec *audit.Record, right bool) {
	person := int(t.rng.Float64() * t.rng.Float64() * trustPeople) // some come far more often than others
	t.identify(rec, person)
	client := t.rng.IntN(trustClients)
	rec.Event, rec.Protocol, rec.Result, rec.Reason = "login", "radius", audit.Accept, "ok"
	rec.System, rec.Class, rec.Attempt, rec.Rule = fmt.Sprintf("vpn-%02d", client), "remote", t.id(), "staff by VPN"
	rec.Detail = append(rec.Detail,
		audit.Detail{Key: "calling_station_id", Value: fmt.Sprintf("192.0.2.%d", person%250)},
		audit.Detail{Key: "message_authenticator", Value: "yes"},
		audit.Detail{Key: "nas_port", Value: fmt.Sprint(t.rng.IntN(4096))})
	if right {
		t.proved(rec, person)
		return
	}
	rec.Result, rec.Reason = audit.Reject, "code_wrong"
	rec.Factors = append(rec.Factors, audit.Factor{Kind: "know", Method: "password", Result: "ok"}, audit.Factor{Kind: "have", Method: "totp", Token: fmt.Sprintf("tok-%06d", 100_000+person), Result: "wrong"})
	rec.Effects = append(rec.Effects, audit.Effect{Set: "person.failures", ID: rec.Person, Value: 1})
}

// ssh is a login over SSH; access to a target, the session's start, and the end of another session follow.
func (t *year) ssh(rec *audit.Record) {
	s := session{id: t.id(), attempt: t.id(), person: t.rng.IntN(trustAdmins), target: t.rng.IntN(trustTargets), since: t.now}
	t.identify(rec, s.person)
	rec.Event, rec.Protocol, rec.Result, rec.Reason = "login", "ssh", audit.Accept, "ok"
	rec.System, rec.Class, rec.Attempt, rec.Rule = login.GatewaySystem, "privileged-internal", s.attempt, "network team"
	t.proved(rec, s.person)
	t.open = append(t.open, s)
	if len(t.open) > sessionsOpen {
		at := t.rng.IntN(sessionsOpen)
		ended := t.open[at]
		t.open[at] = t.open[len(t.open)-1]
		t.open = t.open[:len(t.open)-1]
		t.waiting = append(t.waiting, func(rec *audit.Record) { t.inSession(rec, ended, login.EventSessionEnd) })
	}
	t.waiting = append(t.waiting,
		func(rec *audit.Record) { t.inSession(rec, s, login.EventSessionStart) },
		func(rec *audit.Record) { t.inSession(rec, s, "access") })
}

func (t *year) inSession(rec *audit.Record, s session, event string) {
	t.identify(rec, s.person)
	rec.Event, rec.Protocol, rec.Result, rec.Reason = event, "ssh", audit.Accept, "ok"
	rec.System, rec.Class, rec.Account = fmt.Sprintf("core-sw%02d", s.target), "privileged-internal", "netadmin"
	rec.Rule, rec.Session, rec.Attempt = "network team", s.id, s.attempt
	if event == login.EventSessionEnd {
		rec.Result, rec.Reason = audit.Info, "closed"
		rec.Detail = append(rec.Detail,
			audit.Detail{Key: "bytes_in", Value: fmt.Sprint(t.rng.IntN(1 << 16))}, audit.Detail{Key: "bytes_out", Value: fmt.Sprint(t.rng.IntN(1 << 20))},
			audit.Detail{Key: "seconds", Value: fmt.Sprint(int(t.now.Sub(s.since).Seconds()))})
		return
	}
	rec.Factors = append(rec.Factors, audit.Factor{Kind: "know", Method: "password", Result: "ok"}, audit.Factor{Kind: "have", Method: "totp", Token: fmt.Sprintf("tok-%06d", 100_000+s.person), Result: "ok"})
	rec.Detail = append(rec.Detail, audit.Detail{Key: "capability", Value: "shell"})
}
