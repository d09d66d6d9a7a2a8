package login

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/audit"
)

// A login certificate is a trust window that its person carries: an SSH certificate of the gateway's login CA, for the key and the
// address of the login at which it was asked for. What it is worth, the gateway remembers by its serial number: the login that it
// leans on, until when, and whether it was revoked; a restart replays it from the records. It is revoked by any change of the person,
// and with his other windows.

// effectCert makes a serial number known: ID person, Value serial, Until its end.
const effectCert = "cert.issued"

// effectCertUsed counts the logins by a certificate: ID serial, Value uses.
const effectCertUsed = "cert.used"

// effectRevoke closes somebody's windows and revokes his certificates: ID person.
const effectRevoke = "trust.revoked"

// EffectRevoke makes the effect that closes a person's trust windows and revokes his login certificates.
func EffectRevoke(person string) audit.Effect { return audit.Effect{Set: effectRevoke, ID: person} }

// EventCertificate is the event of a certificate that was issued.
const EventCertificate = "cert.issue"

// The details by which a certificate is found again.
const (
	detailCertKey    = "cert_key"
	detailCertSource = "cert_source"
)

// MaxCertificatesOf bounds the certificates of one person that are in force.
const MaxCertificatesOf = 16

// carried is a certificate as a snapshot holds it.
type carried struct {
	Person  string
	Key     string
	Source  netip.Addr
	Opened  time.Time
	Until   time.Time
	Record  uint64
	Attempt string
	Serial  uint64
	Uses    int
	Factors []audit.Factor
}

func (w *windows) carry(c carried) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serials[c.Serial] = &window{
		windowKey: windowKey{person: c.Person, key: c.Key, source: c.Source}, opened: c.Opened, until: c.Until, record: c.Record,
		attempt: c.Attempt, factors: c.Factors, uses: c.Uses, serial: c.Serial,
	}
}

// used sets how often a certificate was used.
func (w *windows) used(serial string, uses int64) {
	n, err := strconv.ParseUint(serial, 10, 64)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if x := w.serials[n]; x != nil {
		x.mu.Lock()
		x.uses = max(x.uses, int(uses))
		x.mu.Unlock()
	}
}

// carriedNow lists the certificates in force, and forgets the others.
func (w *windows) carriedNow(now time.Time) (list []carried) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for serial, x := range w.serials {
		if !now.Before(x.until) {
			delete(w.serials, serial)
			continue
		}
		x.mu.Lock()
		list = append(list, carried{x.person, x.key, x.source, x.opened, x.until, x.record, x.attempt, serial, x.uses, x.factors})
		x.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b carried) int { return a.Opened.Compare(b.Opened) })
	return list
}

// Certificate is what a login certificate has to say.
type Certificate struct {
	Serial uint64
	Person string
	Key    string // fingerprint of the key that it is for
	Source netip.Addr
	From   time.Time
	Until  time.Time
}

// ReasonNoCertificate: no rule gives the person a certificate, or the login leans on another, or he has too many.
const ReasonNoCertificate Reason = "certificate_not_permitted"

// Certify makes a certificate's facts for somebody who has logged in with a key, password and code. The outcome accepts when it may be
// issued; its record has what it is worth.
func (g *Gate) Certify(_ context.Context, gr Grant, a Attempt) (Certificate, Outcome) {
	if g.stopping.Load() || !gr.Valid() {
		return Certificate{}, Outcome{reason: ReasonStopping}
	}
	pol, now := g.policy.Load(), g.now()
	a.ID, a.Name = gr.Attempt, gr.Person
	d := g.draft(&a, EventCertificate, audit.Reject, now)
	rec := &d.Record
	rec.Factors = append(rec.Factors, gr.Factors...)
	turn := g.windows.turn(gr.Person)
	key := ""
	for _, f := range gr.Factors {
		if f.Method == "key" && f.Result == "ok" {
			key = f.Token
		}
	}
	g.pause.RLock()
	defer g.pause.RUnlock()
	e := g.roster.find(gr.Person)
	g.identify(rec, &a, e)
	reason, life := ReasonUnknownPerson, time.Duration(0)
	if e != nil {
		e.mu.Lock()
		reason = e.profile.barred(now)
		life = pol.Rules.LongestCertificate(joined(e.profile.groups, gr.directory))
		e.mu.Unlock()
	}
	held := 0
	for _, c := range g.windows.carriedNow(now) {
		if c.Person == gr.Person {
			held++
		}
	}
	if reason == ReasonOK && (life <= 0 || key == "" || gr.window != nil || gr.lacking || gr.Emergency || !a.Source.IsValid() || held >= MaxCertificatesOf) {
		reason = ReasonNoCertificate
	}
	cert := Certificate{}
	if reason == ReasonOK {
		rec.Result = audit.Accept
		cert = Certificate{
			Serial: newSerial(), Person: gr.Person, Key: key, Source: a.Source.Addr().Unmap(),
			From: now.Truncate(time.Second), Until: now.Add(life).Truncate(time.Second),
		}
		rec.Effects = append(rec.Effects, audit.Effect{Set: effectCert, ID: gr.Person, Value: int64(cert.Serial), Until: cert.Until})
		rec.Detail = append(rec.Detail,
			audit.Detail{Key: detailCertKey, Value: key},
			audit.Detail{Key: detailCertSource, Value: cert.Source.String()},
			audit.Detail{Key: "cert_serial", Value: strconv.FormatUint(cert.Serial, 10)})
	}
	rec.Reason = string(reason)
	g.log.Submit(&d.pending, rec, nil)
	o := g.settle(&d.pending, reason, gr)
	if _, ok := o.Accepted(); !ok {
		return Certificate{}, o
	}
	if g.windows.turn(gr.Person) != turn {
		return Certificate{}, Outcome{reason: ReasonNoCertificate} // it was revoked in this moment: replay finds it so, too
	}
	g.windows.carry(carried{
		Person: cert.Person, Key: key, Source: cert.Source, Opened: now, Until: cert.Until, Record: o.Seq(), Attempt: gr.Attempt,
		Serial: cert.Serial, Factors: slices.Clone(gr.Factors),
	})
	return cert, o
}

// newSerial makes a serial number that fits a record's Value.
func newSerial() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:]) >> 1
}

// replayCertificate takes a certificate from its record.
func (g *Gate) replayCertificate(rec *audit.Record, x audit.Effect) {
	c := carried{Person: x.ID, Opened: rec.Time, Until: x.Until, Record: rec.Seq, Attempt: rec.Attempt, Serial: uint64(x.Value), Factors: slices.Clone(rec.Factors)}
	for _, d := range rec.Detail {
		switch d.Key {
		case detailCertKey:
			c.Key = d.Value
		case detailCertSource:
			c.Source, _ = netip.ParseAddr(d.Value) // an invalid one is nobody's
		}
	}
	g.windows.carry(c)
}

// certificateOf finds the certificate that an attempt brings: the one that was issued with this serial, to this person, for this key
// and this address, if it is still in force.
func (g *Gate) certificateOf(a *Attempt) *window {
	key, ok := proofOf(a)
	e := g.roster.find(a.Name)
	if !ok || e == nil || a.Serial == 0 || !a.Source.IsValid() {
		return nil
	}
	g.windows.mu.Lock()
	defer g.windows.mu.Unlock()
	x := g.windows.serials[a.Serial]
	if x == nil || x.windowKey != (windowKey{person: e.name, key: key, source: a.Source.Addr().Unmap()}) || !g.now().Before(x.until) {
		return nil
	}
	return x
}
