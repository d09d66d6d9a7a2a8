package audit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// opening begins the JSON of every record; the number of the record follows.
const opening = `{"v":1,"seq":`

// AppendJSON appends the canonical JSON of rec to dst. A record that was not canonical yet is put so in a copy.
// What cannot be canonical at all (see Log.Submit) is written as it is, and Parse refuses it.
func (r *Record) AppendJSON(dst []byte) []byte {
	c := *r
	c.Factors, c.Detail, c.Effects = slices.Clone(r.Factors), slices.Clone(r.Detail), slices.Clone(r.Effects)
	_ = c.canonicalise() // the error is Parse's to tell
	return c.append(dst)
}

// MarshalJSON gives the canonical JSON, so that encoding/json prints records with their own names.
func (r *Record) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// append needs a canonical record.
func (r *Record) append(dst []byte) []byte {
	dst = append(dst, opening...)
	dst = strconv.AppendUint(dst, r.Seq, 10)
	return r.appendBody(dst)
}

// appendBody appends what follows the number.
func (r *Record) appendBody(dst []byte) []byte {
	dst = appendText(dst, `,"node":`, r.Node)
	dst = append(dst, `,"time":`...)
	dst = appendTime(dst, r.Time)
	dst = appendText(dst, `,"event":`, r.Event)
	dst = appendText(dst, `,"result":`, string(r.Result))
	dst = appendText(dst, `,"reason":`, r.Reason)
	dst = appendText(dst, `,"person":`, r.Person)
	dst = appendText(dst, `,"person_kind":`, r.PersonKind)
	dst = appendText(dst, `,"login":`, r.Login)
	dst = appendText(dst, `,"protocol":`, r.Protocol)
	dst = appendText(dst, `,"source":`, r.Source)
	dst = appendText(dst, `,"system":`, r.System)
	dst = appendText(dst, `,"class":`, r.Class)
	dst = appendText(dst, `,"account":`, r.Account)
	dst = append(dst, `,"factors":[`...)
	for i := range r.Factors {
		f := &r.Factors[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, `{"kind":`, f.Kind)
		dst = appendText(dst, `,"method":`, f.Method)
		dst = appendText(dst, `,"token":`, f.Token)
		dst = appendText(dst, `,"result":`, f.Result)
		dst = append(dst, '}')
	}
	dst = appendText(dst, `],"rule":`, r.Rule)
	dst = appendText(dst, `,"exception":`, r.Exception)
	dst = appendText(dst, `,"session":`, r.Session)
	dst = appendText(dst, `,"attempt":`, r.Attempt)
	dst = append(dst, `,"detail":{`...)
	for i := range r.Detail {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, r.Detail[i].Key)
		dst = append(dst, ':')
		dst = appendString(dst, r.Detail[i].Value)
	}
	dst = append(dst, `},"effects":[`...)
	for i := range r.Effects {
		x := &r.Effects[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, `{"set":`, x.Set)
		dst = appendText(dst, `,"id":`, x.ID)
		dst = append(dst, `,"value":`...)
		dst = strconv.AppendInt(dst, x.Value, 10)
		dst = append(dst, `,"until":`...)
		if x.Until.IsZero() {
			dst = append(dst, `"none"`...)
		} else {
			dst = appendTime(dst, x.Until)
		}
		dst = append(dst, '}')
	}
	dst = appendText(dst, `],"change":`, r.Change)
	return append(dst, '}')
}

func appendText(dst []byte, name, value string) []byte {
	return appendString(append(dst, name...), value)
}

const lowerHex = "0123456789abcdef"

// appendString appends s quoted. The bytes of what unit says to escape become \u00XX one by one.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		size, escaped := unit(s[i:])
		if escaped > size {
			dst = append(dst, s[done:i]...)
			done = i + size
			if c == '"' || c == '\\' {
				dst = append(dst, '\\', c)
			} else {
				for _, b := range []byte(s[i:done]) {
					dst = append(dst, '\\', 'u', '0', '0', lowerHex[b>>4], lowerHex[b&15])
				}
			}
		}
		i += size
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}

// appendTime appends t, which is in UTC, as "2006-01-02T15:04:05.000Z".
func appendTime(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	digits := func(v, n int) {
		var b [4]byte
		for i := n - 1; i >= 0; i-- {
			b[i] = byte('0' + v%10)
			v /= 10
		}
		dst = append(dst, b[:n]...)
	}
	dst = append(dst, '"')
	digits(year, 4)
	dst = append(dst, '-')
	digits(int(month), 2)
	dst = append(dst, '-')
	digits(day, 2)
	dst = append(dst, 'T')
	digits(hour, 2)
	dst = append(dst, ':')
	digits(minute, 2)
	dst = append(dst, ':')
	digits(second, 2)
	dst = append(dst, '.')
	digits(t.Nanosecond()/1e6, 3)
	return append(dst, 'Z', '"')
}

// Parse reads the canonical JSON of a record, and nothing else: another order, a blank, another escape, a blank
// field or a value that is too long is an error.
func Parse(raw []byte) (*Record, error) {
	var p parser
	return p.parse(raw)
}

// parser reads records one after the other. Its buffer is kept between them.
type parser struct {
	rest    string
	total   int
	failed  error
	scratch []byte
}

var errForm = errors.New("not in canonical form")

func (p *parser) parse(raw []byte) (*Record, error) {
	r := new(Record)
	if err := p.parseInto(r, raw); err != nil {
		return nil, err
	}
	return r, nil
}

// parseInto is parse with the caller's memory: that of r's lists is used again. After an error r holds anything.
func (p *parser) parseInto(r *Record, raw []byte) error {
	if len(raw) > MaxRecord {
		return fmt.Errorf("%d bytes, at most %d can be", len(raw), MaxRecord)
	}
	p.rest, p.total, p.failed = string(raw), len(raw), nil
	r.Factors, r.Detail, r.Effects = r.Factors[:0], r.Detail[:0], r.Effects[:0]
	p.literal(opening)
	r.Seq = p.unsigned()
	r.Node = p.text(`,"node":`)
	r.Time = p.time(`,"time":`)
	r.Event = p.text(`,"event":`)
	r.Result = Result(p.text(`,"result":`))
	r.Reason = p.text(`,"reason":`)
	r.Person = p.text(`,"person":`)
	r.PersonKind = p.text(`,"person_kind":`)
	r.Login = p.text(`,"login":`)
	r.Protocol = p.text(`,"protocol":`)
	r.Source = p.text(`,"source":`)
	r.System = p.text(`,"system":`)
	r.Class = p.text(`,"class":`)
	r.Account = p.text(`,"account":`)
	p.literal(`,"factors":[`)
	for p.more(']', len(r.Factors)) {
		r.Factors = append(r.Factors, Factor{
			Kind: p.text(`{"kind":`), Method: p.text(`,"method":`), Token: p.text(`,"token":`), Result: p.text(`,"result":`),
		})
		p.literal(`}`)
	}
	r.Rule = p.text(`],"rule":`)
	r.Exception = p.text(`,"exception":`)
	r.Session = p.text(`,"session":`)
	r.Attempt = p.text(`,"attempt":`)
	p.literal(`,"detail":{`)
	for p.more('}', len(r.Detail)) {
		r.Detail = append(r.Detail, Detail{Key: p.text(""), Value: p.text(`:`)})
	}
	p.literal(`},"effects":[`)
	for p.more(']', len(r.Effects)) {
		r.Effects = append(r.Effects, Effect{Set: p.text(`{"set":`), ID: p.text(`,"id":`), Value: p.signed(`,"value":`), Until: p.until()})
		p.literal(`}`)
	}
	r.Change = p.text(`],"change":`)
	p.literal(`}`)
	if p.failed == nil && p.rest != "" {
		p.fail("nothing more")
	}
	if p.failed != nil {
		return p.failed
	}
	if err := r.canonicalise(); err != nil {
		return err
	}
	// One form only: whatever the reading above let pass, writing it again must give the same bytes.
	p.scratch = r.append(p.scratch[:0])
	if !bytes.Equal(p.scratch, raw) {
		at := 0
		for at < min(len(raw), len(p.scratch)) && raw[at] == p.scratch[at] {
			at++
		}
		return fmt.Errorf("byte %d: %w", at, errForm)
	}
	return nil
}

func (p *parser) fail(want string) {
	if p.failed == nil {
		p.failed = fmt.Errorf("byte %d: want %s: %w", p.total-len(p.rest), want, errForm)
	}
	p.rest = ""
}

func (p *parser) literal(want string) {
	rest, ok := strings.CutPrefix(p.rest, want)
	if !ok {
		p.fail(want)
		return
	}
	p.rest = rest
}

// more tells whether a list goes on, and takes the comma between its elements.
func (p *parser) more(end byte, have int) bool {
	if p.rest == "" || p.rest[0] == end {
		return false
	}
	if have > 0 {
		p.literal(",")
	}
	return p.failed == nil
}

// special is where the first quote or backslash stands, or negative. Most strings are so short that strings.IndexAny
// would take longer to begin.
func special(s string) int {
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			return i
		}
	}
	return -1
}

func (p *parser) text(name string) string {
	p.literal(name)
	p.literal(`"`)
	end := special(p.rest)
	if end < 0 {
		p.fail("the end of a string")
		return ""
	}
	if p.rest[end] == '"' {
		s := p.rest[:end]
		p.rest = p.rest[end+1:]
		return s
	}
	var b []byte
	for {
		end := special(p.rest)
		if end < 0 {
			p.fail("the end of a string")
			return ""
		}
		b = append(b, p.rest[:end]...)
		quote := p.rest[end] == '"'
		p.rest = p.rest[end+1:]
		if quote {
			return string(b)
		}
		switch {
		case strings.HasPrefix(p.rest, `"`), strings.HasPrefix(p.rest, `\`):
			b = append(b, p.rest[0])
			p.rest = p.rest[1:]
		case strings.HasPrefix(p.rest, `u00`) && len(p.rest) >= 5:
			v, err := strconv.ParseUint(p.rest[3:5], 16, 8)
			if err != nil {
				p.fail("two hex digits")
				return ""
			}
			b = append(b, byte(v))
			p.rest = p.rest[5:]
		default:
			p.fail(`\", \\ or \u00XX`)
			return ""
		}
	}
}

func (p *parser) unsigned() uint64 {
	end := strings.IndexFunc(p.rest, func(r rune) bool { return r < '0' || r > '9' })
	v, err := strconv.ParseUint(p.rest[:max(end, 0)], 10, 64)
	if err != nil {
		p.fail("a number")
		return 0
	}
	p.rest = p.rest[end:]
	return v
}

func (p *parser) signed(name string) int64 {
	p.literal(name)
	end := strings.IndexFunc(p.rest, func(r rune) bool { return r != '-' && (r < '0' || r > '9') })
	v, err := strconv.ParseInt(p.rest[:max(end, 0)], 10, 64)
	if err != nil {
		p.fail("a number")
		return 0
	}
	p.rest = p.rest[end:]
	return v
}

func (p *parser) until() time.Time {
	if rest, ok := strings.CutPrefix(p.rest, `,"until":"none"`); ok {
		p.rest = rest
		return time.Time{}
	}
	return p.time(`,"until":`)
}

// time reads six numbers and a fraction; that they are a day of the calendar shows when they are written again.
func (p *parser) time(name string) time.Time {
	s := p.text(name)
	const form = "0000-00-00T00:00:00.000Z"
	if len(s) != len(form) {
		p.fail("a time as " + form)
		return time.Time{}
	}
	for i := range len(s) {
		if digit := s[i] >= '0' && s[i] <= '9'; digit != (form[i] == '0') || !digit && s[i] != form[i] {
			p.fail("a time as " + form)
			return time.Time{}
		}
	}
	n := func(from, to int) int {
		v, _ := strconv.Atoi(s[from:to]) // digits, as just seen
		return v
	}
	return time.Date(n(0, 4), time.Month(n(5, 7)), n(8, 10), n(11, 13), n(14, 16), n(17, 19), n(20, 23)*1e6, time.UTC)
}

// validName reports whether a node's name needs no escape and no cut.
func validName(s string) bool {
	return s != "" && len(s) <= MaxNode && utf8.ValidString(s) && escapedLen(s) == len(s)
}
