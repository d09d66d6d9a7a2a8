package siem

import "sallyport/internal/audit"

// Severity is one of syslog (RFC 5424 section 6.2.1).
type Severity uint8

// The severities that records have.
const (
	Critical Severity = 2
	Err      Severity = 3
	Warning  Severity = 4
	Notice   Severity = 5
	Info     Severity = 6
)

func (s Severity) String() string {
	switch s {
	case Critical:
		return "critical"
	case Err:
		return "error"
	case Warning:
		return "warning"
	case Notice:
		return "notice"
	case Info:
		return "informational"
	}
	return "unknown"
}

// CEF is the severity on the scale of CEF, 0 to 10.
func (s Severity) CEF() int {
	switch s {
	case Critical:
		return 10
	case Err:
		return 8
	case Warning:
		return 6
	case Notice:
		return 4
	default:
		return 2
	}
}

// Mapping is a row of the table by which records get their severity: the first whose words are the record's. A blank word is any.
type Mapping struct {
	Event, Reason, Result, PersonKind string
	Severity                          Severity
}

// Mappings is that table. The last row takes everything.
func Mappings() []Mapping {
	return []Mapping{
		{Event: "witness.conflict", Severity: Critical},
		{Event: "log.trouble", Severity: Critical},
		{Event: "target.host_key", Reason: "host_key_changed", Severity: Critical},
		{Event: "target.host_key", Reason: "host_key_revoked", Severity: Critical},
		{PersonKind: "break-glass", Result: "accept", Severity: Critical},
		{Reason: "log_unavailable", Severity: Critical},
		{Reason: "store_unavailable", Severity: Critical},
		{Reason: "code_reused", Severity: Warning},
		{Reason: "locked_hard", Severity: Warning},
		{Reason: "locked", Severity: Warning},
		{Reason: "recorder_failed", Severity: Err},
		{Reason: "recording_unavailable", Severity: Err},
		{Event: "config.reload", Result: "info", Severity: Notice},
		{Event: "token.enrol", Severity: Notice},
		{Event: "token.confirm", Severity: Notice},
		{Event: "token.assign", Severity: Notice},
		{Event: "token.recovery", Severity: Notice},
		{Event: "key.add", Severity: Notice},
		{Event: "radius.refused", Severity: Warning},
		{Event: "exception.due", Severity: Warning},
		{Event: "clock.step", Severity: Warning},
		{Event: "forward.down", Severity: Err},
		{Result: "error", Severity: Err},
		{Result: "reject", Severity: Notice},
		{Severity: Info},
	}
}

// severities is Mappings, looked up once.
type severities []Mapping

func (m severities) of(rec *audit.Record) Severity {
	is := func(want, have string) bool { return want == "" || want == have }
	for i := range m {
		if r := &m[i]; is(r.Event, rec.Event) && is(r.Reason, rec.Reason) && is(r.Result, string(rec.Result)) && is(r.PersonKind, rec.PersonKind) {
			return r.Severity
		}
	}
	return Info
}
