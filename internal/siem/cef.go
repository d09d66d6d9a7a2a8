package siem

import (
	"net/netip"
	"strconv"
	"strings"

	"sallyport/internal/audit"
)

// Field is one key of a CEF event's extension.
type Field struct {
	Key   string
	From  string // what of the record it holds, for the documentation
	Label string // of a custom field; empty: the key says it
	value func(*audit.Record) string
}

// Fields are the keys of CEF events, in their order. The keys are those of the ArcSight CEF dictionary.
func Fields() []Field {
	text := func(s string) string {
		if s == audit.None {
			return ""
		}
		return s
	}
	v4 := func(rec *audit.Record, want bool) string {
		if a, err := netip.ParseAddr(rec.Source); err == nil && a.Unmap().Is4() == want {
			return a.Unmap().String()
		}
		return ""
	}
	return []Field{
		{Key: "rt", From: "time, in milliseconds since 1970", value: func(r *audit.Record) string { return strconv.FormatInt(r.Time.UnixMilli(), 10) }},
		{Key: "dvchost", From: "node", value: func(r *audit.Record) string { return r.Node }},
		{Key: "externalId", From: "node and seq, with a slash between: the same in every copy of a record", value: func(r *audit.Record) string { return r.Node + "/" + strconv.FormatUint(r.Seq, 10) }},
		{Key: "cat", From: "event", value: func(r *audit.Record) string { return r.Event }},
		{Key: "act", From: "result", value: func(r *audit.Record) string { return string(r.Result) }},
		{Key: "outcome", From: "success for accept and info, failure for reject and error", value: outcome},
		{Key: "reason", From: "reason", value: func(r *audit.Record) string { return text(r.Reason) }},
		{Key: "suser", From: "person", value: func(r *audit.Record) string { return text(r.Person) }},
		{Key: "duser", From: "account", value: func(r *audit.Record) string { return text(r.Account) }},
		{Key: "src", From: "source, where it is an IPv4 address", value: func(r *audit.Record) string { return v4(r, true) }},
		{Key: "c6a2", From: "source, where it is an IPv6 address", Label: "Source IPv6 Address", value: func(r *audit.Record) string { return v4(r, false) }},
		{Key: "spt", From: "detail source_port", value: func(r *audit.Record) string { return detail(r, "source_port") }},
		{Key: "dhost", From: "system", value: func(r *audit.Record) string { return text(r.System) }},
		{Key: "app", From: "protocol", value: func(r *audit.Record) string { return text(r.Protocol) }},
		{Key: "cn1", From: "seq", Label: "Record", value: func(r *audit.Record) string { return strconv.FormatUint(r.Seq, 10) }},
		{Key: "cs1", From: "rule", Label: "Rule", value: func(r *audit.Record) string { return text(r.Rule) }},
		{Key: "cs2", From: "exception", Label: "Exception", value: func(r *audit.Record) string { return text(r.Exception) }},
		{Key: "cs3", From: "session", Label: "Session", value: func(r *audit.Record) string { return text(r.Session) }},
		{Key: "cs4", From: "attempt", Label: "Attempt", value: func(r *audit.Record) string { return text(r.Attempt) }},
		{Key: "cs5", From: "factors, as kind:method:result", Label: "Factors", value: factors},
		{Key: "cs6", From: "class", Label: "Class", value: func(r *audit.Record) string { return text(r.Class) }},
		{Key: "flexString1", From: "person_kind", Label: "PersonKind", value: func(r *audit.Record) string { return text(r.PersonKind) }},
		{Key: "flexString2", From: "login", Label: "Login", value: func(r *audit.Record) string { return text(r.Login) }},
	}
}

func outcome(r *audit.Record) string {
	switch r.Result {
	case audit.Accept, audit.Info:
		return "success"
	case audit.Reject, audit.Error:
		return "failure"
	default:
		return "" // a challenge is neither yet
	}
}

func detail(r *audit.Record, key string) string {
	for i := range r.Detail {
		if r.Detail[i].Key == key {
			return r.Detail[i].Value
		}
	}
	return ""
}

// appendCEF writes CEF:0|vendor|product|version|class|name|severity|extension.
func (e *Encoder) appendCEF(dst []byte, rec *audit.Record, s Severity) []byte {
	dst = append(dst, "CEF:0|Sallyport|Sallyport|"...)
	dst = appendCEFHeader(dst, e.version)
	dst = append(dst, '|')
	dst = appendCEFHeader(dst, rec.Event)
	dst = append(dst, '|')
	dst = appendCEFHeader(dst, strings.ReplaceAll(rec.Event, ".", " ")+": "+string(rec.Result))
	dst = append(dst, '|')
	dst = strconv.AppendInt(dst, int64(s.CEF()), 10)
	dst = append(dst, '|')
	first := true
	for _, f := range e.fields {
		v := f.value(rec)
		if v == "" {
			continue
		}
		if !first {
			dst = append(dst, ' ')
		}
		first = false
		dst = append(dst, f.Key...)
		dst = append(dst, '=')
		dst = appendCEFValue(dst, v)
		if f.Label != "" {
			dst = append(dst, ' ')
			dst = append(dst, f.Key...)
			dst = append(dst, "Label="...)
			dst = appendCEFValue(dst, f.Label)
		}
	}
	return dst
}

// appendCEFHeader escapes a field of the header: a backslash and a pipe; an equals sign is not escaped there. It takes no line ends.
func appendCEFHeader(dst []byte, s string) []byte {
	for _, c := range []byte(audit.Visible(s)) {
		if c == '\\' || c == '|' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

// appendCEFValue escapes a value of the extension: a backslash, an equals sign, and line ends as \n and \r; a pipe is not escaped there.
// Other characters that do harm are shown as in the canonical JSON.
func appendCEFValue(dst []byte, s string) []byte {
	for len(s) > 0 {
		end := strings.IndexAny(s, "\n\r")
		if end < 0 {
			end = len(s)
		}
		for _, c := range []byte(audit.Visible(s[:end])) {
			if c == '\\' || c == '=' {
				dst = append(dst, '\\')
			}
			dst = append(dst, c)
		}
		if s = s[end:]; s != "" {
			if s[0] == '\n' {
				dst = append(dst, `\n`...)
			} else {
				dst = append(dst, `\r`...)
			}
			s = s[1:]
		}
	}
	return dst
}
