package siem

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
)

// Format is what a message's body is.
type Format string

// The formats.
const (
	JSON Format = "json" // the canonical JSON of the record
	CEF  Format = "cef"
)

// ExampleEnterprise is the enterprise number that RFC 5612 keeps for examples.
const ExampleEnterprise = "32473"

// Bounds of RFC 5424 section 6.
const (
	maxHost  = 255
	maxMsgID = 32
)

// Encoding is how messages are written.
type Encoding struct {
	Format     Format // empty: JSON
	Facility   string // a word of Facilities; empty: authpriv
	Enterprise string // enterprise number behind the @ of the structured data; empty: ExampleEnterprise
	Version    string // of the gateway, for CEF
}

// Facilities are the words for facilities, with their numbers (RFC 5424 section 6.2.1).
func Facilities() map[string]int {
	return map[string]int{
		"auth": 4, "authpriv": 10, "audit": 13, "alert": 14,
		"local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
	}
}

// Encoder writes messages. It is for one goroutine.
type Encoder struct {
	format     Format
	facility   int
	enterprise string
	version    string
	severities severities
	fields     []Field // of CEF
}

// NewEncoder makes an Encoder, or says what of the settings is wrong.
func NewEncoder(o Encoding) (*Encoder, error) {
	e := &Encoder{format: o.Format, enterprise: o.Enterprise, version: o.Version, severities: Mappings(), fields: Fields()}
	if e.format == "" {
		e.format = JSON
	}
	if e.format != JSON && e.format != CEF {
		return nil, fmt.Errorf("format %q is neither json nor cef", o.Format)
	}
	if o.Facility == "" {
		o.Facility = "authpriv"
	}
	var known bool
	if e.facility, known = Facilities()[o.Facility]; !known {
		return nil, fmt.Errorf("facility %q is not known", o.Facility)
	}
	if e.enterprise == "" {
		e.enterprise = ExampleEnterprise
	}
	// RFC 5424 section 7.2.2: digits and dots; the SD-ID has at most 32 characters.
	if strings.Trim(e.enterprise, "0123456789.") != "" || len(e.enterprise) > 20 || strings.HasPrefix(e.enterprise, ".") {
		return nil, fmt.Errorf("enterprise number %.40q is not digits and dots", o.Enterprise)
	}
	return e, nil
}

// AppendRecord appends the message of a record, without a frame.
func (e *Encoder) AppendRecord(dst []byte, rec *audit.Record) []byte {
	severity := e.severities.of(rec)
	dst = e.appendHeader(dst, severity, rec.Time, rec.Node, rec.Event)
	dst = append(dst, "[sallyport@"...)
	dst = append(dst, e.enterprise...)
	dst = appendParam(dst, "node", rec.Node)
	dst = append(dst, ` seq="`...)
	dst = strconv.AppendUint(dst, rec.Seq, 10)
	dst = append(dst, '"')
	for _, p := range params(rec) {
		if p.value != "" && p.value != audit.None {
			dst = appendParam(dst, p.name, p.value)
		}
	}
	dst = append(dst, ']', ' ')
	if e.format == CEF {
		return e.appendCEF(dst, rec, severity)
	}
	return rec.AppendJSON(dst)
}

// AppendCheckpoint appends the message of a checkpoint: a signed note of several lines, as a string of JSON.
func (e *Encoder) AppendCheckpoint(dst []byte, node string, at time.Time, size uint64, note string) []byte {
	dst = e.appendHeader(dst, Info, at, node, "checkpoint")
	dst = append(dst, "[sallyport@"...)
	dst = append(dst, e.enterprise...)
	dst = appendParam(dst, "node", node)
	dst = append(dst, ` size="`...)
	dst = strconv.AppendUint(dst, size, 10)
	dst = append(dst, `"] {"checkpoint":`...)
	dst = appendNote(dst, note)
	return append(dst, '}')
}

// appendNote writes a note, which is text with line feeds, as a JSON string.
func appendNote(dst []byte, note string) []byte {
	dst = append(dst, '"')
	for i, line := range strings.Split(note, "\n") {
		if i > 0 {
			dst = append(dst, `\n`...)
		}
		for _, c := range []byte(audit.Visible(line)) {
			if c == '"' || c == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func (e *Encoder) appendHeader(dst []byte, s Severity, at time.Time, host, msgID string) []byte {
	dst = append(dst, '<')
	dst = strconv.AppendInt(dst, int64(e.facility*8+int(s)), 10)
	dst = append(dst, ">1 "...)
	dst = at.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = append(dst, ' ')
	dst = appendWord(dst, host, maxHost)
	dst = append(dst, " sallyport - "...)
	dst = appendWord(dst, msgID, maxMsgID)
	return append(dst, ' ')
}

// appendWord writes what the header takes: PRINTUSASCII, which has no blank. An empty one is the nil value.
func appendWord(dst []byte, s string, most int) []byte {
	if s == "" {
		return append(dst, '-')
	}
	for i := 0; i < len(s) && i < most; i++ {
		c := s[i]
		if c <= ' ' || c > '~' {
			c = '_'
		}
		dst = append(dst, c)
	}
	return dst
}

type param struct{ name, value string }

// params are the structured data beside node and seq, in their order. Those that are none are left out.
func params(rec *audit.Record) [16]param {
	return [16]param{
		{"event", rec.Event},
		{"result", string(rec.Result)},
		{"reason", rec.Reason},
		{"person", rec.Person},
		{"person_kind", rec.PersonKind},
		{"login", rec.Login},
		{"protocol", rec.Protocol},
		{"source", rec.Source},
		{"system", rec.System},
		{"class", rec.Class},
		{"account", rec.Account},
		{"factors", factors(rec)},
		{"rule", rec.Rule},
		{"exception", rec.Exception},
		{"session", rec.Session},
		{"attempt", rec.Attempt},
	}
}

// factors writes them as "know:password:ok have:totp:wrong".
func factors(rec *audit.Record) string {
	var b strings.Builder
	for i := range rec.Factors {
		f := &rec.Factors[i]
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(f.Kind + ":" + f.Method + ":" + f.Result)
	}
	return b.String()
}

// appendParam writes ` name="value"` with the escapes of RFC 5424 section 6.3.3.
func appendParam(dst []byte, name, value string) []byte {
	dst = append(dst, ' ')
	dst = append(dst, name...)
	dst = append(dst, '=', '"')
	for _, c := range []byte(audit.Visible(value)) {
		if c == '"' || c == '\\' || c == ']' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// appendFrame puts the length before a message (RFC 6587 section 3.4.1).
func appendFrame(dst, msg []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(msg)), 10)
	dst = append(dst, ' ')
	return append(dst, msg...)
}
