package audit

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"sallyport/internal/journal"
)

// Glance is what counting over millions of records looks at. Read takes a record's canonical JSON apart without copying it: texts
// are parts of the JSON, escapes and all, and hold as long as it does. Text has their value. It does not check that the JSON is
// canonical, as Parse does: it is for records whose bytes are known to be those that were written. A Glance is used again and again.
type Glance struct {
	Seq    uint64
	Milli  int64 // Unix time in milliseconds
	Event  []byte
	Result []byte
	Reason []byte

	Person, PersonKind, Login []byte
	Protocol, Source          []byte
	System, Class, Account    []byte
	Factors                   []GlanceFactor
	Rule, Exception           []byte
	Session, Attempt          []byte

	detail []byte // from the first key on
	days   [10]byte
	day    int64 // Unix milliseconds at which days begins
}

// GlanceFactor is a factor of a Glance.
type GlanceFactor struct{ Kind, Method, Token, Result []byte }

// glancing is a cursor over canonical JSON.
type glancing struct {
	rest []byte
	bad  bool
}

func (c *glancing) literal(want string) {
	if len(c.rest) < len(want) || string(c.rest[:len(want)]) != want {
		c.bad = true
		return
	}
	c.rest = c.rest[len(want):]
}

// text reads a string after a literal that ends with its opening quote.
func (c *glancing) text(name string) []byte {
	c.literal(name)
	if c.bad {
		return nil
	}
	from := 0
	for {
		i := bytes.IndexByte(c.rest[from:], '"')
		if i < 0 {
			c.bad = true
			return nil
		}
		end := from + i
		escapes := 0
		for end-escapes > 0 && c.rest[end-escapes-1] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			value := c.rest[:end]
			c.rest = c.rest[end+1:]
			return value
		}
		from = end + 1
	}
}

// Read takes a record apart, up to its effects.
func (g *Glance) Read(json []byte) error {
	c := glancing{rest: json}
	c.literal(opening)
	n := 0
	for n < len(c.rest) && c.rest[n] >= '0' && c.rest[n] <= '9' {
		n++
	}
	seq, err := strconv.ParseUint(string(c.rest[:n]), 10, 64)
	if err != nil {
		return errForm
	}
	g.Seq, c.rest = seq, c.rest[n:]
	c.text(`,"node":"`)
	if !g.time(c.text(`,"time":"`)) {
		return errForm
	}
	g.Event = c.text(`,"event":"`)
	g.Result = c.text(`,"result":"`)
	g.Reason = c.text(`,"reason":"`)
	g.Person = c.text(`,"person":"`)
	g.PersonKind = c.text(`,"person_kind":"`)
	g.Login = c.text(`,"login":"`)
	g.Protocol = c.text(`,"protocol":"`)
	g.Source = c.text(`,"source":"`)
	g.System = c.text(`,"system":"`)
	g.Class = c.text(`,"class":"`)
	g.Account = c.text(`,"account":"`)
	c.literal(`,"factors":[`)
	g.Factors = g.Factors[:0]
	for !c.bad && len(c.rest) > 0 && c.rest[0] != ']' {
		if len(g.Factors) > 0 {
			c.literal(`,`)
		}
		g.Factors = append(g.Factors, GlanceFactor{
			Kind: c.text(`{"kind":"`), Method: c.text(`,"method":"`), Token: c.text(`,"token":"`), Result: c.text(`,"result":"`),
		})
		c.literal(`}`)
	}
	g.Rule = c.text(`],"rule":"`)
	g.Exception = c.text(`,"exception":"`)
	g.Session = c.text(`,"session":"`)
	g.Attempt = c.text(`,"attempt":"`)
	c.literal(`,"detail":{`)
	g.detail = c.rest
	if c.bad {
		return errForm
	}
	return nil
}

// time reads 2006-01-02T15:04:05.000Z. Most records are of the day of the one before.
func (g *Glance) time(s []byte) bool {
	const form = "0000-00-00T00:00:00.000Z"
	if len(s) != len(form) {
		return false
	}
	for i := range s {
		if digit := s[i] >= '0' && s[i] <= '9'; digit != (form[i] == '0') || !digit && s[i] != form[i] {
			return false
		}
	}
	n := func(at, digits int) (v int64) {
		for _, d := range s[at : at+digits] {
			v = v*10 + int64(d-'0')
		}
		return v
	}
	if !bytes.Equal(g.days[:], s[:10]) {
		copy(g.days[:], s)
		g.day = time.Date(int(n(0, 4)), time.Month(n(5, 2)), int(n(8, 2)), 0, 0, 0, 0, time.UTC).UnixMilli()
	}
	g.Milli = g.day + n(11, 2)*3_600_000 + n(14, 2)*60_000 + n(17, 2)*1000 + n(20, 3)
	return true
}

// Detail finds a detail, as it stands in the JSON; nil: there is none.
func (g *Glance) Detail(key string) []byte {
	c := glancing{rest: g.detail}
	for first := true; !c.bad && len(c.rest) > 0 && c.rest[0] != '}'; first = false {
		if !first {
			c.literal(`,`)
		}
		name := c.text(`"`)
		value := c.text(`:"`)
		if !c.bad && string(name) == key {
			return value
		}
	}
	return nil
}

// Text is the value of a text that Read or Detail gave.
func Text(escaped []byte) string {
	if bytes.IndexByte(escaped, '\\') < 0 {
		return string(escaped)
	}
	p := parser{rest: `"` + string(escaped) + `"`}
	s := p.text("")
	if p.failed != nil {
		return string(escaped) // not canonical: better as it stands than not at all
	}
	return s
}

// ScanJSON calls fn with the canonical JSON of each durable record from one number to before another, in order, without reading it.
// For an erased record it is nil. The JSON is valid during the call. It is safe beside appends, and several may run at once.
func (l *Log) ScanJSON(from, to uint64, fn func(seq uint64, json []byte) error) error {
	to = min(to, l.journal.Next())
	if from >= to {
		return nil
	}
	err := l.journal.Scan(from, func(index uint64, _ journal.Position, payload []byte) error {
		if index >= to {
			return errStop
		}
		e, err := parseEntry(payload)
		if err != nil {
			return err
		}
		return fn(index, e.json)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}
