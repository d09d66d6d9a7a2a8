package alert

import (
	"strings"

	"sallyport/internal/audit"
)

// Signal is what one record is a sign of.
type Signal struct {
	Kind   Kind
	Person string // empty: it is about nobody
	System string // empty: it is about no system
}

// Events that the gateway records only so that an alert follows. Their detail names what they are about.
const (
	EventRADIUS      = "radius.refused" // details client (empty: none), reason, count
	EventDown        = "forward.down"   // detail receiver
	EventUp          = "forward.up"     // detail receiver
	EventDue         = "exception.due"  // exception; details what, when
	EventLogTrouble  = "log.trouble"
	EventClockStep   = "clock.step"
	EventClockState  = "clock.state"
	EventConflict    = "witness.conflict"
	EventSync        = "people.sync"
	EventLeaver      = "user.leaver" // person
	EventAck         = "alert.ack"   // details alert, actor
	EventClose       = "alert.close" // details alert, actor, outcome
	EventTest        = "alert.test"
	detailAlert      = "alert"
	detailActor      = "actor"
	detailOutcome    = "outcome"
	detailReceiver   = "receiver"
	detailClient     = "client"
	effectFailures   = "person.failures" // of package login: until is the end of a lock
	breakGlass       = "break-glass"
	methodRecovery   = "recovery"
	clockSynced      = "clock_synced"
	reasonHardLocked = "locked_hard"
)

// Of tells what a record is a sign of. It depends on the record alone.
func Of(rec *audit.Record) (list []Signal) {
	person, system := named(rec.Person), named(rec.System)
	add := func(k Kind, person, system string) { list = append(list, Signal{k, person, system}) }
	accepted := rec.Result == audit.Accept
	passed := accepted && (rec.Event == "login" || rec.Event == "access")

	switch rec.Reason {
	case "locked":
		add(Lockout, person, system)
	case reasonHardLocked:
		add(LockoutHard, person, system)
	case "code_reused":
		add(CodeReplay, person, system)
	case "log_unavailable", "store_unavailable":
		add(LogTrouble, "", "")
	case "recorder_failed", "recording_unavailable":
		add(RecorderFailed, person, system)
	case "role_insufficient":
		add(OperatorRefused, detail(rec, detailActor), "")
	default:
		if rec.Result == audit.Reject && locks(rec) {
			add(Lockout, person, system)
		}
	}
	if rec.PersonKind == breakGlass && (rec.Event == "login" || rec.Event == "access" || rec.Event == "step_up") {
		switch rec.Result {
		case audit.Accept:
			add(BreakGlassUsed, person, "")
			add(BreakGlassReview, person, "")
		case audit.Reject:
			add(BreakGlassTried, person, "")
		}
	}
	if accepted && recovered(rec) {
		add(RecoveryUsed, person, "")
		add(ReEnrol, person, "")
	}
	if exception := named(rec.Exception); passed && exception != "" {
		add(ExceptionUsed, person, system)
	}
	return append(list, ofEvent(rec, person, system)...)
}

// ofEvent tells what the record's event is a sign of.
func ofEvent(rec *audit.Record, person, system string) []Signal {
	one := func(k Kind, person, system string) []Signal { return []Signal{{k, person, system}} }
	bad := rec.Result == audit.Error || rec.Result == audit.Reject
	switch rec.Event {
	case EventRADIUS:
		client := detail(rec, detailClient)
		switch rec.Reason {
		case "unknown_client":
			return one(UnknownClient, "", "")
		case "ma_bad":
			return one(BadAuthenticator, "", client)
		case "ma_missing":
			return one(NoAuthenticator, "", client)
		}
	case EventDue:
		return one(ExceptionDue, "", named(rec.Exception))
	case EventLogTrouble:
		return one(LogTrouble, "", "")
	case "gateway.stop":
		if rec.Reason == "failed" {
			return one(GatewayFailed, "", "")
		}
	case "token.enrol", "token.confirm", "token.assign", "token.recovery":
		if !bad {
			return one(FactorEnrolled, person, "")
		}
	case "key.add":
		return one(KeyAdded, person, "")
	case "config.reload":
		switch {
		case bad:
			return one(PolicyRefused, "", "")
		case named(detail(rec, "changes")) != "":
			return one(PolicyChanged, "", "")
		}
	case EventSync:
		if bad {
			return one(SyncFailed, "", "")
		}
	case EventLeaver:
		if bad {
			return one(LeaverHasSession, person, "")
		}
	case EventClockStep:
		return one(ClockBad, "", "")
	case EventClockState, "gateway.start":
		if bad || detail(rec, clockSynced) == "no" {
			return one(ClockBad, "", "")
		}
	case "target.host_key":
		switch rec.Reason {
		case "host_key_changed", "host_key_revoked":
			return one(HostKeyChanged, "", system)
		case "host_key_unknown":
			return one(HostKeyWaits, "", system)
		}
	case EventDown:
		return one(LogForwardDown, "", detail(rec, detailReceiver))
	case EventConflict:
		return one(WitnessConflict, "", detail(rec, "witness"))
	case "recording.stopped":
		if rec.Reason != "recorder_failed" {
			return one(RecorderFailed, person, system)
		}
	}
	return nil
}

// ending is what a record puts right by itself.
type ending struct {
	kind           Kind
	person, system string
	outcome        string
}

// ends tells what a record puts right.
func ends(rec *audit.Record) (list []ending) {
	switch rec.Event {
	case "token.confirm", "token.enrol", "token.assign":
		// A token that waits for its first code is no token yet.
		if rec.Result == audit.Info && (rec.Event == "token.confirm" || detail(rec, "state") == "active") {
			list = append(list, ending{ReEnrol, named(rec.Person), "", "a new token is active"})
		}
	case EventUp:
		list = append(list, ending{LogForwardDown, "", detail(rec, detailReceiver), "the receiver has the newest records again"})
	case EventClockState:
		if rec.Result == audit.Info && detail(rec, clockSynced) == "yes" {
			list = append(list, ending{ClockBad, "", "", "the clock is synchronised again"})
		}
	case EventSync:
		if rec.Result == audit.Info {
			list = append(list, ending{SyncFailed, "", "", "the directory was read, and people follow it again"})
		}
	case "exception.review", "exception.end":
		list = append(list, ending{ExceptionDue, "", named(rec.Exception), "it was reviewed or ended"})
	case "target.trust":
		list = append(list, ending{HostKeyWaits, "", named(rec.System), "the key was approved"})
	}
	return list
}

// named returns a value that is one.
func named(v string) string {
	if v == audit.None || v == audit.Unknown {
		return ""
	}
	return v
}

func detail(rec *audit.Record, key string) string {
	for i := range rec.Detail {
		if rec.Detail[i].Key == key {
			return named(rec.Detail[i].Value)
		}
	}
	return ""
}

// locks tells whether the record began a lock.
func locks(rec *audit.Record) bool {
	for i := range rec.Effects {
		if x := &rec.Effects[i]; x.Set == effectFailures && x.Until.After(rec.Time) {
			return true
		}
	}
	return false
}

func recovered(rec *audit.Record) bool {
	for i := range rec.Factors {
		if f := &rec.Factors[i]; f.Method == methodRecovery && f.Result == "ok" {
			return true
		}
	}
	return false
}

// textOf is the sign in a few words, for who is told.
func textOf(rec *audit.Record) string {
	var b strings.Builder
	b.WriteString(rec.Event + " " + string(rec.Result))
	if rec.Reason != "ok" && named(rec.Reason) != "" {
		b.WriteString(" " + rec.Reason)
	}
	for _, p := range []struct{ name, value string }{
		{"from", rec.Source},
		{"at", rec.System},
		{"account", rec.Account},
		{"exception", rec.Exception},
		{"by", detail(rec, detailActor)},
		{"client", detail(rec, detailClient)},
		{"address", detail(rec, "address")},
		{"receiver", detail(rec, detailReceiver)},
		{"what", detail(rec, "what")},
		{"when", detail(rec, "when")},
		{"changes", detail(rec, "changes")},
		{"error", detail(rec, "error")},
		{"why", detail(rec, "why")},
	} {
		if v := named(p.value); v != "" {
			b.WriteString(", " + p.name + " " + v)
		}
	}
	return clip(audit.Visible(b.String()), maxText)
}

// maxText bounds what an alert says of its newest record.
const maxText = 500

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
