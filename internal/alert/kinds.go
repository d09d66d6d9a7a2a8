package alert

import "fmt"

// Severity is how soon somebody should look.
type Severity uint8

// The severities. Critical is for now, whatever the hour.
const (
	Info Severity = iota
	Notice
	Warning
	Critical
)

func (s Severity) String() string {
	switch s {
	case Notice:
		return "notice"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	default:
		return "info"
	}
}

// ParseSeverity reads what String writes.
func ParseSeverity(word string) (Severity, error) {
	for _, s := range []Severity{Info, Notice, Warning, Critical} {
		if s.String() == word {
			return s, nil
		}
	}
	return Critical, fmt.Errorf("severity %.40q is not info, notice, warning or critical", word)
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Severity) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSeverity(string(b))
	return err
}

// Kind is what an alert is about.
type Kind string

// The kinds.
const (
	Lockout          Kind = "lockout"
	LockoutHard      Kind = "lockout_hard"
	CodeReplay       Kind = "code_replay"
	UnknownClient    Kind = "radius_unknown_client"
	BadAuthenticator Kind = "radius_bad_authenticator"
	NoAuthenticator  Kind = "radius_no_message_authenticator"
	BreakGlassUsed   Kind = "break_glass_used"
	BreakGlassTried  Kind = "break_glass_tried"
	BreakGlassReview Kind = "break_glass_review"
	RecoveryUsed     Kind = "recovery_code_used"
	ReEnrol          Kind = "re_enrol"
	ExceptionUsed    Kind = "exception_used"
	ExceptionDue     Kind = "exception_due"
	LogTrouble       Kind = "log_trouble"
	GatewayFailed    Kind = "gateway_failed"
	FactorEnrolled   Kind = "factor_enrolled"
	KeyAdded         Kind = "key_added"
	PolicyChanged    Kind = "policy_changed"
	PolicyRefused    Kind = "policy_change_refused"
	ClockBad         Kind = "clock_bad"
	HostKeyChanged   Kind = "host_key_changed"
	HostKeyWaits     Kind = "host_key_waits"
	LogForwardDown   Kind = "log_forward_down"
	WitnessConflict  Kind = "witness_conflict"
	RecorderFailed   Kind = "recorder_failed"
	OperatorRefused  Kind = "operator_refused"
	SyncFailed       Kind = "directory_sync_failed"
	LeaverHasSession Kind = "leaver_has_session"
	MoreAlerts       Kind = "more_alerts"
)

// Meaning is what a kind says, for whoever is told.
type Meaning struct {
	Kind     Kind
	Severity Severity
	Means    string // a sentence
	Do       string // what to do about it
}

// Meanings lists all kinds.
func Meanings() []Meaning {
	return []Meaning{
		{Lockout, Notice, "Somebody failed so often in a row that he is locked out for a while.", "Ask him whether it was he. If not, somebody guesses: look at the sources, and set a new password."},
		{LockoutHard, Warning, "The failures go on, and the long lock holds.", "As for lockout, and soon: whoever guesses has time."},
		{CodeReplay, Warning, "A one-time code that was accepted already was sent again.", "Ask its owner whether he pressed twice. If not, somebody read the code: revoke the token, and look from where it came."},
		{UnknownClient, Notice, "RADIUS requests come from an address that is no client.", "`sallyport client report` names it. Add it if it is one of yours; else ask who runs it."},
		{BadAuthenticator, Warning, "Requests of a RADIUS client have a wrong Message-Authenticator: its shared secret is another, or they are forged.", "Compare the secret at both ends. If it is right, look who can send from that address."},
		{NoAuthenticator, Warning, "A RADIUS client sends requests without Message-Authenticator, which are dropped.", "Update the client, or read `client report` before it is exempted (CVE-2024-3596)."},
		{BreakGlassUsed, Critical, "A break-glass identity was let in.", "Find out now who uses it and why; end the session if nobody can say."},
		{BreakGlassTried, Warning, "A break-glass identity was refused.", "These are used in emergencies only: ask who tries, and why."},
		{BreakGlassReview, Warning, "A use of a break-glass identity waits for its review.", "Somebody else than who used it reads the records and the recording, changes the codes, and closes this with what he found."},
		{RecoveryUsed, Warning, "Somebody logged in with a recovery code instead of his token.", "Ask him whether it was he. His token is lost or broken: revoke it."},
		{ReEnrol, Notice, "Somebody lives on recovery codes and has no new token yet.", "Enrol a token: `sallyport token enrol`. This closes by itself when it is confirmed."},
		{ExceptionUsed, Info, "Somebody was let in by an entry of the exception register.", "Nothing, if the entry is for this."},
		{ExceptionDue, Warning, "An entry of the exception register expires, or is to be reviewed, within 60, 30 or 7 days, or was to be.", "`sallyport exception review`, or end it: from that day on it lets nobody in."},
		{LogTrouble, Critical, "Records cannot be written, or what is written does not verify.", "Logins are refused while it lasts. `sallyport status`, then disk and permissions; keep a copy of the data folder before you mend anything."},
		{GatewayFailed, Critical, "The gateway stopped because something that it cannot do without failed.", "Its log says what; nobody gets in over it meanwhile."},
		{FactorEnrolled, Notice, "Somebody has got a new one-time-code token, or recovery codes.", "Nothing, if an operator did it for him; else revoke the token and look who did."},
		{KeyAdded, Notice, "Somebody has got a new SSH key.", "Nothing, if it was asked for."},
		{PolicyChanged, Notice, "The gateway took a changed configuration.", "Nothing, if the change was approved: the record names what changed."},
		{PolicyRefused, Notice, "A changed configuration was wrong, and the running one stays.", "`sallyport config check` says what is wrong."},
		{ClockBad, Warning, "The clock is not synchronised, or was set.", "One-time codes and the times of records hang on it: mend NTP."},
		{HostKeyChanged, Critical, "An SSH target showed another host key than the approved one, or a revoked one. Nobody was let through.", "Ask who changed it, compare at the machine itself, then `sallyport target trust`."},
		{HostKeyWaits, Notice, "An SSH target that has no approved host key showed one.", "Compare it at the machine, then `sallyport target trust`."},
		{LogForwardDown, Warning, "A receiver of records has lacked the newest for too long.", "`sallyport status` says which and why. Nothing is lost: records wait in the log."},
		{WitnessConflict, Critical, "A witness has seen another history of this log.", "Somebody altered the log, or put an old copy back. Keep everything as it is, and compare with the exports."},
		{RecorderFailed, Warning, "A session could not be recorded.", "Look at the space for recordings. Where a rule requires recording, the session was refused or ended."},
		{OperatorRefused, Notice, "Somebody asked the gateway for something that his role does not permit.", "Ask him why; or give him the role."},
		{SyncFailed, Warning, "People could not follow the directory: who has left there may still be let in here.", "`sallyport user sync --dry-run` says why. This closes by itself when a look succeeds."},
		{LeaverHasSession, Critical, "Somebody was found to have left, and a session of his could not be ended.", "`sallyport session list`, and end it at the system itself."},
		{MoreAlerts, Warning, "So many alerts of one kind are open that further ones are only counted.", "Close what is understood; the records have all of it."},
	}
}

// Known reports whether a word is a kind.
func Known(word string) bool {
	_, ok := meaningOf(Kind(word))
	return ok
}

func meaningOf(k Kind) (Meaning, bool) {
	for _, m := range Meanings() {
		if m.Kind == k {
			return m, true
		}
	}
	return Meaning{Kind: k, Severity: Warning}, false
}
