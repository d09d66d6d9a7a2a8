package otp

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Hardware is a token as its maker delivers it, read from a file: package otp/pskc or otp/tokencsv. Seed is the plain key.
type Hardware struct {
	Line    int // of the file
	Serial  string
	Maker   string
	Model   string
	Params  Params
	Seed    []byte
	Counter int64     // HOTP: of the token's next code
	Drift   int64     // TOTP: steps by which its clock is ahead
	Start   time.Time // zero: at once
	Expiry  time.Time // zero: never
	Person  string    // whose the file wishes it to be, as it is written there
}

// The bounds of a file of hardware tokens, and of what it says of one.
const (
	MaxHardware = 200_000 // tokens in one file; the largest that makers are known to ship hold some 100,000
	MaxSerial   = 64      // bytes
	MaxSeed     = 128     // bytes; the longest HMAC block
	MaxDrift    = 120     // steps: an hour for most tokens, which is also the most that a resynchronisation finds
	MaxCounter  = 1 << 48 // what a token counts to in no life
	maxMaker    = 64      // bytes of its maker's name or its model's
)

// MaxFaults bounds the faults that are kept of one file. The rest is counted.
const MaxFaults = 1000

// Fault is what is wrong with one token of a file, or with the file there. It never holds a seed, a key or a password (P9).
type Fault struct {
	Line   int    `json:"line,omitempty"`
	Serial string `json:"serial,omitempty"`
	What   string `json:"what"`
	Hint   string `json:"hint,omitempty"`
}

func (f Fault) String() string {
	where := ""
	if f.Line > 0 {
		where = "line " + strconv.Itoa(f.Line)
	}
	if f.Serial != "" {
		where = strings.TrimPrefix(where+", token "+f.Serial, ", ")
	}
	if where != "" {
		where += ": "
	}
	return where + f.What
}

// Faults are all that is wrong with a file, in the order of its lines.
type Faults struct {
	List []Fault
	More int // further ones, beyond MaxFaults
}

func (f *Faults) Error() string {
	if len(f.List) == 0 {
		return "nothing is wrong"
	}
	text := f.List[0].String()
	if n := len(f.List) + f.More; n > 1 {
		text += fmt.Sprintf(" (and %d more)", n-1)
	}
	return text
}

// Add keeps one more fault.
func (f *Faults) Add(x Fault) {
	if len(f.List) >= MaxFaults {
		f.More++
		return
	}
	x.Serial = shown(x.Serial)
	f.List = append(f.List, x)
}

// Err is f in the order of lines, or nil when nothing is wrong.
func (f *Faults) Err() error {
	if len(f.List) == 0 {
		return nil
	}
	slices.SortStableFunc(f.List, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return f
}

// shown makes a foreign text harmless and short.
func shown(s string) string {
	if len(s) > MaxSerial {
		s = s[:MaxSerial] + "..."
	}
	if q := strconv.QuoteToASCII(s); q != `"`+s+`"` {
		return q
	}
	return s
}

// ErrTooMany: a file holds more tokens than MaxHardware.
var ErrTooMany = errors.New("too many tokens in one file")

// Intake takes what a parser has read: it hands the tokens that are well to give, one at a time, and keeps what is wrong with
// the others. The tokens come before the last fault is known, so who takes them acts on none until Err says nil.
type Intake struct {
	Faults
	give func(Hardware) error
	seen map[string]int // line by serial
}

// NewIntake makes an Intake. An error of give ends the reading.
func NewIntake(give func(Hardware) error) *Intake {
	return &Intake{give: give, seen: make(map[string]int)}
}

// Take checks a token that was read and hands it on. Sound says that the parser found nothing wrong with it itself.
func (in *Intake) Take(h Hardware, sound bool) error {
	fault := func(hint, format string, args ...any) {
		sound = false
		in.Add(Fault{h.Line, h.Serial, fmt.Sprintf(format, args...), hint})
	}
	switch {
	case h.Serial == "":
		fault("each token needs the serial number that is printed on it: ask the maker for a file that has it", "the serial number is missing")
	case !ValidSerial(h.Serial):
		fault("at most 64 visible ASCII characters, without blanks", "the serial number cannot be used")
	default:
		if at, twice := in.seen[h.Serial]; twice {
			fault("remove one of the two", "the serial number is there twice: first in line %d", at)
		} else if len(in.seen) >= MaxHardware {
			return fmt.Errorf("%w: more than %d", ErrTooMany, MaxHardware)
		} else {
			in.seen[strings.Clone(h.Serial)] = h.Line
		}
	}
	if !sound {
		return nil // the rest is not known, and what follows would only repeat it
	}
	if err := h.Params.Validate(); err != nil {
		fault("6 or 8 digits; for totp 30 or 60 seconds", "it cannot be used: %v", err)
	}
	switch {
	case len(h.Seed) < MinSeed:
		fault("RFC 4226 asks for 16 bytes at least: such a token is too weak", "the secret has %d bytes", len(h.Seed))
	case len(h.Seed) > MaxSeed:
		fault("at most 128 bytes", "the secret has %d bytes", len(h.Seed))
	}
	if h.Counter < 0 || h.Counter > MaxCounter {
		fault("", "the counter is %d: want 0 to 2^48", h.Counter)
	}
	if h.Drift < -MaxDrift || h.Drift > MaxDrift {
		fault("the token's clock is not to be trusted", "its clock is off by %d steps: at most %d", h.Drift, MaxDrift)
	}
	if !h.Expiry.IsZero() && !h.Expiry.After(h.Start) {
		fault("", "it expires before it starts")
	}
	if !sound {
		return nil
	}
	h.Maker, h.Model = name(h.Maker), name(h.Model)
	return in.give(h)
}

// Tokens is how many serial numbers were seen.
func (in *Intake) Tokens() int { return len(in.seen) }

// ValidSerial reports whether s can be a serial number here: it's typed on command lines, and shown in records.
func ValidSerial(s string) bool {
	if s == "" || len(s) > MaxSerial || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// name makes a maker's or a model's name harmless: it's shown, and nothing depends on it.
func name(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }), " ")
	return s[:min(len(s), maxMaker)]
}
