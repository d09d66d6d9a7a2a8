package audit

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Result is how what a record tells of ended.
type Result string

// The results.
const (
	Accept    Result = "accept"
	Reject    Result = "reject"
	Challenge Result = "challenge"
	Error     Result = "error"
	Info      Result = "info"
)

func (r Result) known() bool {
	switch r {
	case Accept, Reject, Challenge, Error, Info:
		return true
	}
	return false
}

// The words for what is blank: Unknown where there is a value that nobody knows, None where there can be none.
const (
	Unknown = "unknown"
	None    = "none"
)

// Bounds of a record. Lengths are bytes of a value's escaped form in JSON; what is longer is cut and marked. Together
// they keep the JSON of every record under MaxRecord.
const (
	MaxRecord  = 65535   // bytes of JSON: what an entry of a C2SP tlog-tiles bundle can hold
	MaxChange  = 1 << 19 // bytes of a private change: with the JSON it fits an entry of the journal
	MaxNode    = 64      // a node's name
	MaxField   = 256     // person, login, system, ...
	MaxWord    = 64      // kind, method and result of a factor; the key of a detail; the set of an effect
	MaxValue   = 4096    // the value of a detail
	MaxDetails = 64
	MaxFactors = 16
	MaxEffects = 16

	maxDetailBytes = 32 << 10 // of all details' values; beyond it each keeps minValue
	minValue       = 32       // room for the mark of a cut
)

// Factor is one factor that was, or was not, proved.
type Factor struct {
	Kind   string // know, have, are
	Method string // password, totp, key, ...
	Token  string // which one: a token's id, a key's fingerprint
	Result string // ok, wrong, reused, missing, unchecked
}

// Effect is what memory must know after the record, for instance that a token's step is used up: {"token.step", id, step}.
// Effects are never cut: a record whose effects do not fit is refused.
type Effect struct {
	Set, ID string
	Value   int64
	Until   time.Time // zero: none
}

// Detail is one further fact. Key is lower_snake.
type Detail struct{ Key, Value string }

// Record is one event, with no field blank: Submit puts Unknown or None where nothing is.
type Record struct {
	Seq    uint64    // from 0, without gaps, for each node; given by the log
	Node   string    // given by the log
	Time   time.Time // UTC, whole milliseconds
	Event  string    // login, access, session.end, ...
	Result Result
	Reason string // why: a word of a fixed vocabulary

	Person     string // who it is at the gateway
	PersonKind string // staff, supplier, service, break-glass
	Login      string // the name as given; for strangers a blinded form
	Protocol   string // radius, ssh, admin
	Source     string // where from
	System     string // where to
	Class      string // the system's class
	Account    string // the account at the system

	Factors   []Factor
	Rule      string // that decided
	Exception string // that it relied on
	Session   string
	Attempt   string   // joins password, code, session and end
	Detail    []Detail // sorted by key, each key once
	Effects   []Effect
	Change    string // hex SHA-256 of the private change; given by the log
}

// text is one text field of a record: what it is called, what stands for blank, how long it may be.
type text struct {
	value *string
	blank string
	limit int
}

func (r *Record) texts() [15]text {
	reason := Unknown
	if r.Result == Accept || r.Result == Info {
		reason = None
	}
	return [15]text{
		{&r.Node, Unknown, MaxNode},
		{&r.Event, Unknown, MaxWord},
		{&r.Reason, reason, MaxField},
		{&r.Person, Unknown, MaxField},
		{&r.PersonKind, None, MaxField},
		{&r.Login, Unknown, MaxField},
		{&r.Protocol, Unknown, MaxField},
		{&r.Source, Unknown, MaxField},
		{&r.System, Unknown, MaxField},
		{&r.Class, None, MaxField},
		{&r.Account, None, MaxField},
		{&r.Rule, None, MaxField},
		{&r.Exception, None, MaxField},
		{&r.Session, None, MaxField},
		{&r.Attempt, None, MaxField},
	}
}

// canonicalise fills blanks, cuts what is too long, sorts details, and drops what a time has below milliseconds. It
// changes nothing in a record that is canonical. An error means that the record cannot be written without a lie.
func (r *Record) canonicalise() error {
	if !r.Result.known() {
		return fmt.Errorf("result %q is not one of accept, reject, challenge, error, info", r.Result)
	}
	if err := canonicalTime(&r.Time); err != nil {
		return fmt.Errorf("time: %w", err)
	}
	for _, t := range r.texts() {
		fit(t.value, t.blank, t.limit)
	}
	if len(r.Factors) > MaxFactors {
		return fmt.Errorf("%d factors, at most %d fit", len(r.Factors), MaxFactors)
	}
	for i := range r.Factors {
		f := &r.Factors[i]
		fit(&f.Kind, Unknown, MaxWord)
		fit(&f.Method, Unknown, MaxWord)
		fit(&f.Token, None, MaxField)
		fit(&f.Result, Unknown, MaxWord)
	}
	if len(r.Effects) > MaxEffects {
		return fmt.Errorf("%d effects, at most %d fit", len(r.Effects), MaxEffects)
	}
	for i := range r.Effects {
		if err := r.Effects[i].canonicalise(); err != nil {
			return fmt.Errorf("effect %d: %w", i, err)
		}
	}
	r.canonicaliseDetail()
	if r.Change == "" {
		r.Change = None
	}
	if r.Change != None && !isHash(r.Change) {
		return fmt.Errorf("change %q is not a lower-case hex SHA-256", r.Change)
	}
	return nil
}

func (x *Effect) canonicalise() error {
	if x.Set == "" || x.ID == "" {
		return fmt.Errorf("set %q or id %q is blank", x.Set, x.ID)
	}
	if escapedLen(x.Set) > MaxWord || escapedLen(x.ID) > MaxField {
		return fmt.Errorf("set %.80q or id %.80q is too long", x.Set, x.ID)
	}
	if x.Until.IsZero() {
		x.Until = time.Time{}
		return nil
	}
	return canonicalTime(&x.Until)
}

func (r *Record) canonicaliseDetail() {
	d := r.Detail
	for i := range d {
		fit(&d[i].Key, Unknown, MaxWord)
	}
	byKey := func(a, b Detail) int { return strings.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(d, byKey) {
		slices.SortStableFunc(d, byKey)
	}
	n := 0
	for i := range d {
		if n > 0 && d[n-1].Key == d[i].Key {
			d[n-1].Value += ", " + d[i].Value // a key stands once, as JSON objects want it
			continue
		}
		d[n] = d[i]
		n++
	}
	d = d[:n]
	if n > MaxDetails {
		r.Detail = append(d[:MaxDetails-1], Detail{Key: "~cut", Value: strconv.Itoa(n-MaxDetails+1) + " more"})
		r.canonicaliseDetail() // the new key may sort before others, or be there already
		return
	}
	left := maxDetailBytes
	for i := range d {
		fit(&d[i].Value, None, max(minValue, min(MaxValue, left)))
		left -= escapedLen(d[i].Value)
	}
	r.Detail = d
}

var errYear = errors.New("not within the years 0 to 9999 that RFC 3339 can write")

func canonicalTime(t *time.Time) error {
	*t = t.UTC().Truncate(time.Millisecond)
	if y := t.Year(); y < 0 || y > 9999 {
		return fmt.Errorf("%d: %w", y, errYear)
	}
	return nil
}

// fit replaces a blank, and cuts s so that its escaped form has at most limit bytes, the mark included.
func fit(s *string, blank string, limit int) {
	if *s == "" {
		*s = blank
		return
	}
	if len(*s)*maxEscape <= limit || escapedLen(*s) <= limit {
		return
	}
	mark := fmt.Sprintf("...[%d bytes]", len(*s))
	room := limit - len(mark)
	keep := 0
	for keep < len(*s) {
		size, escaped := unit((*s)[keep:])
		if room -= escaped; room < 0 {
			break
		}
		keep += size
	}
	*s = (*s)[:keep] + mark
}

// maxEscape is how many bytes of the escaped form one byte can need.
const maxEscape = len(`\u0000`)

func escapedLen(s string) int {
	n := 0
	for i := 0; i < len(s); {
		size, escaped := unit(s[i:])
		i += size
		n += escaped
	}
	return n
}

// unit is the first character of s, or its first byte where that begins no character: its length, and that of its
// escaped form.
func unit(s string) (size, escaped int) {
	c := s[0]
	if c < utf8.RuneSelf {
		switch {
		case c == '"' || c == '\\':
			return 1, 2
		case c < 0x20 || c == 0x7f:
			return 1, maxEscape
		}
		return 1, 1
	}
	r, size := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && size == 1 || treacherous(r) {
		return size, size * maxEscape
	}
	return size, size
}

// treacherous tells of characters beyond ASCII that show nothing, or change how others show: the C1 controls,
// which terminals obey, and the marks of direction, joining, language and annotation, with which one name is made
// to look like another. The list is part of the format, and never follows the Unicode version.
func treacherous(r rune) bool {
	switch {
	case r < 0x00A0, // C1
		r == 0x00AD, r == 0x034F, r == 0x061C,
		r == 0x115F, r == 0x1160, r == 0x17B4, r == 0x17B5,
		0x180B <= r && r <= 0x180F,
		0x200B <= r && r <= 0x200F,
		0x2028 <= r && r <= 0x202E,
		0x2060 <= r && r <= 0x206F,
		r == 0x3164, 0xFE00 <= r && r <= 0xFE0F, r == 0xFEFF, r == 0xFFA0,
		0xFFF0 <= r && r <= 0xFFFB,
		0xE0000 <= r && r <= 0xE0FFF:
		return true
	}
	return false
}

// isHash reports whether s is a lower-case hex SHA-256.
func isHash(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Filter says which records are wanted. A blank field wants all.
type Filter struct {
	Person  string
	System  string
	Event   string // "session" also wants "session.start" and "session.end"
	Source  string
	Session string
	Result  Result
	Since   time.Time // the first moment
	Until   time.Time // the first moment no more
	Before  uint64    // the first number no more; 0: no bound
	Except  []string  // events, or families of them, that are not wanted
	Limit   int       // how many at most, 0: all; for the caller to count, Match does not look at it
}

// Match reports whether rec is wanted.
func (f Filter) Match(rec *Record) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	of := func(family string) bool {
		rest, ok := strings.CutPrefix(rec.Event, family)
		return ok && (rest == "" || rest[0] == '.')
	}
	return is(f.Person, rec.Person) && is(f.System, rec.System) && is(f.Source, rec.Source) && is(f.Session, rec.Session) &&
		is(string(f.Result), string(rec.Result)) && (f.Event == "" || of(f.Event)) && !slices.ContainsFunc(f.Except, of) && (f.Before == 0 || rec.Seq < f.Before) &&
		(f.Since.IsZero() || !rec.Time.Before(f.Since)) && (f.Until.IsZero() || rec.Time.Before(f.Until))
}
