package report

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/internal/login"
	"sallyport/internal/report/count"
	"sallyport/internal/report/document"
	"sallyport/internal/report/mapping"
)

// The kinds of report.
const (
	MFA        = "mfa"
	Access     = "access"
	Exceptions = "exceptions"
	Sample     = "sample"
	Suppliers  = "suppliers"
	Sessions   = "sessions"
	LogHealth  = "log-health"
	Mapping    = "mapping" // what of which framework each report speaks to; part of the pack
)

// Kinds lists all, in the order in which a pack has them.
func Kinds() []string {
	return []string{MFA, Access, Exceptions, Sample, Suppliers, Sessions, LogHealth, Mapping}
}

// Bounds of what may be asked.
const (
	MaxSample  = 1000
	MaxPlanned = 200

	usualSample = 25  // what auditors draw
	maxText     = 500 // bytes of a seed, or of a field of a plan
)

// Request is what a report is asked with. Zero times are filled in by Fill.
type Request struct {
	Kind   string    `json:"kind"`
	From   time.Time `json:"from,omitzero"`
	To     time.Time `json:"to,omitzero"`        // the first moment that is no longer in the period
	On     time.Time `json:"as_at,omitzero"`     // the register and grants as they stood then
	Zone   string    `json:"time_zone,omitzero"` // UTC, Europe/London, ...
	Number int       `json:"number,omitempty"`   // of the sample
	Seed   string    `json:"seed,omitempty"`     // of the sample
	Class  string    `json:"class,omitempty"`    // the sample is of this class of systems alone
	Plan   []Planned `json:"plan,omitempty"`     // systems that are not behind this gateway yet
	Fast   bool      `json:"no_verify,omitempty"`
	Next   uint64    `json:"next_record,omitempty"` // only records before it; 0: all
}

// Planned is a system that the operator names because this gateway does not protect it.
type Planned struct {
	System string     `json:"system" yaml:"system"`
	Class  string     `json:"class" yaml:"class"`
	State  string     `json:"state" yaml:"state"` // how it is protected now
	Plan   string     `json:"plan" yaml:"plan"`
	Owner  string     `json:"owner" yaml:"owner"`
	Target login.Date `json:"target" yaml:"target"`
}

// Fill puts defaults in and says what is wrong: the period is the year up to now, and the register as it stands at the period's end.
func (r *Request) Fill(now time.Time) error {
	if !slices.Contains(Kinds(), r.Kind) {
		return fmt.Errorf("%q is not a report: want one of %s", cut(r.Kind), strings.Join(Kinds(), ", "))
	}
	if r.Zone == "" {
		r.Zone = "UTC"
	}
	zone, err := zoneOf(r.Zone)
	if err != nil {
		return err
	}
	now = now.UTC().Truncate(time.Millisecond)
	if r.To.IsZero() {
		r.To = now
	}
	if r.From.IsZero() {
		r.From = r.To.In(zone).AddDate(-1, 0, 0)
	}
	if r.On.IsZero() {
		r.On = earlier(r.To, now)
	}
	r.From, r.To, r.On = r.From.UTC(), r.To.UTC(), r.On.UTC()
	r.Number = cmp.Or(r.Number, usualSample)
	switch {
	case r.Number < 0 || r.Number > MaxSample:
		return fmt.Errorf("a sample of %d: want 1 to %d", r.Number, MaxSample)
	case len(r.Seed) > maxText || len(r.Class) > maxText:
		return fmt.Errorf("a seed or class of more than %d bytes", maxText)
	case !utf8.ValidString(r.Seed + r.Class):
		return fmt.Errorf("the seed or class is not UTF-8: it could not be given again")
	case len(r.Plan) > MaxPlanned:
		return fmt.Errorf("%d planned systems, at most %d are shown", len(r.Plan), MaxPlanned)
	}
	for i, p := range r.Plan {
		if p.System == "" || p.Plan == "" || p.Owner == "" || p.Target.IsZero() {
			return fmt.Errorf("planned system %d (%q): want system, plan, owner and target", i+1, cut(p.System))
		}
		if len(p.System)+len(p.Class)+len(p.State)+len(p.Plan)+len(p.Owner) > 4*maxText {
			return fmt.Errorf("planned system %d (%q): is too long", i+1, cut(p.System))
		}
	}
	_, err = count.NewPeriod(r.From, r.To, zone)
	return err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func cut(s string) string { return s[:min(len(s), 60)] }

// zoneOf refuses "Local", which is another place on another machine.
func zoneOf(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" || name == "" {
		return nil, fmt.Errorf("%q is no time zone: want a name such as Europe/London, or UTC", cut(name))
	}
	return zone, nil
}

// again is the command that makes the report once more.
func (r *Request) again() string {
	words := []string{"sallyport report", r.Kind, "--from", r.From.Format(time.RFC3339Nano), "--to", r.To.Format(time.RFC3339Nano)}
	if !r.On.Equal(r.To) {
		words = append(words, "--on", r.On.Format(time.RFC3339Nano))
	}
	words = append(words, "--zone", quoted(r.Zone))
	if r.Kind == Sample {
		words = append(words, "-n", fmt.Sprint(r.Number), "--seed", quoted(r.Seed))
		if r.Class != "" {
			words = append(words, "--class", quoted(r.Class))
		}
	}
	if len(r.Plan) > 0 {
		words = append(words, "--plan FILE")
	}
	if r.Next > 0 {
		words = append(words, "--before-record", fmt.Sprint(r.Next))
	}
	return strings.Join(words, " ")
}

// quoted makes one word for a shell of any text.
func quoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// RequestOf is what a kept report was asked with: asking it again reads the same records.
func RequestOf(d *document.Document) (r Request, err error) {
	if err := json.Unmarshal(d.Request, &r); err != nil {
		return r, fmt.Errorf("what report %s was asked with: %w", d.Kind, err)
	}
	if r.Kind != d.Kind {
		return r, fmt.Errorf("report %s was asked as %q", d.Kind, cut(r.Kind))
	}
	return r, nil
}

// filter says in words what was left out.
func (r *Request) filter() string {
	switch {
	case r.Kind == Sample && r.Class != "":
		return "admissions to systems of class " + r.Class
	case r.Kind == Sample:
		return "all admissions"
	case r.Kind == Suppliers:
		return "people of kind supplier"
	}
	return "none"
}

// Integrity is what a verification of the log has found.
type Integrity struct {
	Done     bool // somebody looked
	Sound    bool
	Text     string // in words
	Size     uint64 // records that are signed
	Root     string
	Erased   uint64
	Unsigned uint64
}

// Standing is how another part of the gateway stands, in words: forwarding, witnesses, retention, the clock.
type Standing struct {
	Part  string `json:"part"`
	What  string `json:"what"`
	State string `json:"state"`
	Well  bool   `json:"well"`
}

// Operator is somebody who may call the gateway's verbs.
type Operator struct {
	Who  string // a person, or an operating-system user or group
	Role string // admin, auditor, help-desk
}

// State is all that reports are made from. Functions may be nil: then that part is not known, and the reports say so.
type State struct {
	Now          time.Time
	By           string // who asks
	Version      string
	Config       string // the configuration's hash
	Node         string
	Organisation string // on the statement; empty: left to be filled in

	Log          count.Log
	Rules        login.Policy
	Systems      []login.System
	First        string // first factor that most people have
	People       []login.Person
	Tokens       []login.Token // their seeds are not looked at
	Keys         []login.Key
	Exceptions   []login.Exception // every version
	Grants       []login.TimedGrant
	Attestations []login.Attestation
	Live         int // sessions
	Operators    []Operator
	Workers      int // processors that read records; 0: all

	Directory func(ctx context.Context, person string) (groups []string, err error) // groups that only a directory knows
	Verify    func(ctx context.Context) Integrity
	Standings func(ctx context.Context) []Standing
	Mapping   *mapping.Table // nil: the built-in one
}
