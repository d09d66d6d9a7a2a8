package siem

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"

	syslog "github.com/leodido/go-syslog/v4"

	"sallyport/internal/audit"
)

var update = flag.Bool("update", false, "write the goldens anew")

var noon = time.Date(2026, 6, 30, 12, 0, 0, 123_000_000, time.UTC)

// samples are records with all that encoders stumble over.
func samples() map[string]*audit.Record {
	plain := &audit.Record{
		Seq: 12, Node: "gw1", Time: noon, Event: "login", Result: audit.Accept, Reason: "ok", Person: "alice", PersonKind: "staff", Login: "alice",
		Protocol: "radius", Source: "10.20.0.7", System: "vpn-leeds", Class: "remote", Account: "none",
		Factors: []audit.Factor{{Kind: "know", Method: "password", Token: "none", Result: "ok"}, {Kind: "have", Method: "totp", Token: "TK-1", Result: "ok"}},
		Rule:    "network team", Exception: "none", Session: "s1", Attempt: "a1",
		Detail:  []audit.Detail{{Key: "source_port", Value: "4711"}},
		Effects: []audit.Effect{{Set: "token.step", ID: "TK-1", Value: 59}}, Change: "none",
	}
	hostile := &audit.Record{
		Seq: 13, Node: "gw1", Time: noon, Event: "evil|event=\\ with blanks and far more than thirty-two characters", Result: audit.Reject, Reason: "code_wrong",
		Person: "unknown", PersonKind: "none", Login: "a]b\"c\\d=e|f\ng\rh\x00i\x1b[2J\u202ej\xffk", Protocol: "ssh", Source: "2001:db8::1",
		System: "x] [evil@1 a=\"b\"] y", Class: "none", Account: "a=b \\", Rule: `back\slash`, Exception: "none", Session: "none", Attempt: "a2", Change: "none",
	}
	breakGlass := &audit.Record{
		Seq: 14, Node: "gw1", Time: noon, Event: "login", Result: audit.Accept, Reason: "ok", Person: "glass1", PersonKind: "break-glass", Login: "glass1",
		Protocol: "ssh", Source: "::ffff:10.0.0.1", System: "gateway", Class: "none", Account: "none", Rule: "none", Exception: "EX-1", Session: "none", Attempt: "a3", Change: "none",
	}
	return map[string]*audit.Record{"plain": plain, "hostile": hostile, "break-glass": breakGlass}
}

func encoder(t testing.TB, o Encoding) *Encoder {
	t.Helper()
	e, err := NewEncoder(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestGolden holds the bytes: receivers have parsers that were made for them.
func TestGolden(t *testing.T) {
	for name, rec := range samples() {
		for _, format := range []Format{JSON, CEF} {
			got := append(encoder(t, Encoding{Format: format, Version: "1.2|3"}).AppendRecord(nil, rec), '\n')
			golden(t, name+"."+string(format), got)
		}
	}
	golden(t, "checkpoint", append(encoder(t, Encoding{}).AppendCheckpoint(nil, "gw1", noon, 14, "sallyport/gw1\n14\nroot=\n\n— sallyport/gw1 sig\"\\\n"), '\n'))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s:\n got %s\nwant %s(hint: go test ./internal/siem -update, when receivers may see it change)", name, got, want)
	}
}

// parsed reads a message by a parser that somebody else has written.
func parsed(t testing.TB, message []byte) *rfc5424.SyslogMessage {
	t.Helper()
	m, err := rfc5424.NewParser().Parse(message)
	if err != nil {
		t.Fatalf("%v in %q", err, message)
	}
	return m.(*rfc5424.SyslogMessage)
}

func TestParsesBack(t *testing.T) {
	for name, rec := range samples() {
		m := parsed(t, encoder(t, Encoding{Facility: "local3", Enterprise: "99999"}).AppendRecord(nil, rec))
		if *m.Facility != 19 || !m.Timestamp.Equal(noon) || *m.Hostname != "gw1" || *m.Appname != "sallyport" {
			t.Errorf("%s: the header is read as %+v", name, m)
		}
		sd := (*m.StructuredData)["sallyport@99999"]
		for _, p := range params(rec) {
			want := audit.Visible(p.value)
			if p.value == audit.None {
				want = ""
			}
			if got := sd[p.name]; got != want {
				t.Errorf("%s: %s is read as %q, want %q", name, p.name, got, want)
			}
		}
		if len(*m.StructuredData) != 1 {
			t.Errorf("%s: a value has opened an element of its own: %v", name, *m.StructuredData)
		}
		back, err := audit.Parse([]byte(*m.Message))
		if err != nil || back.Seq != rec.Seq || back.Login != rec.Login {
			t.Errorf("%s: the body is read as %+v, %v", name, back, err)
		}
	}
}

// readCEF is a reader of CEF as the format's document describes it, apart from the writer.
func readCEF(t testing.TB, s string) (header []string, ext map[string]string) {
	t.Helper()
	s, ok := strings.CutPrefix(s, "CEF:0|")
	if !ok {
		t.Fatalf("%q is no CEF", s)
	}
	var field strings.Builder
	for i := 0; len(header) < 6; i++ {
		if i >= len(s) {
			t.Fatalf("the header ends in %q", s)
		}
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '\\' || s[i+1] == '|'):
			i++
			field.WriteByte(s[i])
		case s[i] == '|':
			header = append(header, field.String())
			field.Reset()
			if len(header) == 6 {
				s = s[i+1:]
			}
		default:
			field.WriteByte(s[i])
		}
	}
	ext = make(map[string]string)
	key, value := "", []byte(nil)
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			switch s[i] {
			case 'n':
				value = append(value, '\n')
			case 'r':
				value = append(value, '\r')
			default:
				value = append(value, s[i])
			}
		case s[i] == '=': // unescaped: what is before it, from the last blank on, is a key
			at := strings.LastIndexByte(string(value), ' ')
			next := string(value[at+1:])
			if key != "" {
				ext[key] = string(value[:max(at, 0)])
			}
			key, value = next, nil
		default:
			value = append(value, s[i])
		}
	}
	ext[key] = string(value)
	return header, ext
}

func TestCEF(t *testing.T) {
	e := encoder(t, Encoding{Format: CEF, Version: "1.2|3"})
	for name, rec := range samples() {
		m := parsed(t, e.AppendRecord(nil, rec))
		header, ext := readCEF(t, *m.Message)
		if len(header) != 6 || header[2] != "1.2|3" || header[3] != rec.Event {
			t.Errorf("%s: the header is read as %q", name, header)
		}
		for _, f := range Fields() {
			want := f.value(rec)
			if visible := func(s string) string {
				var b strings.Builder
				for _, r := range strings.SplitAfter(s, "\n") {
					line, end := strings.CutSuffix(r, "\n")
					b.WriteString(strings.ReplaceAll(audit.Visible(line), `\u000d`, "\r"))
					if end {
						b.WriteByte('\n')
					}
				}
				return b.String()
			}; ext[f.Key] != visible(want) {
				t.Errorf("%s: %s is read as %q, want %q", name, f.Key, ext[f.Key], visible(want))
			}
			if want != "" && f.Label != "" && ext[f.Key+"Label"] != f.Label {
				t.Errorf("%s: the label of %s is read as %q", name, f.Key, ext[f.Key+"Label"])
			}
		}
	}
}

func TestSeverity(t *testing.T) {
	for name, want := range map[string]Severity{"plain": Info, "hostile": Notice, "break-glass": Critical} {
		if got := severities(Mappings()).of(samples()[name]); got != want {
			t.Errorf("%s has the severity %v, want %v", name, got, want)
		}
	}
}

func TestNewEncoderRefuses(t *testing.T) {
	for _, o := range []Encoding{{Format: "leef"}, {Facility: "kern"}, {Enterprise: "1 x=\"y\""}, {Enterprise: "]"}} {
		if _, err := NewEncoder(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// FuzzEncode: whatever a record holds, a message is one message, one element of structured data, and a body that reads back.
func FuzzEncode(f *testing.F) {
	f.Add("login", "alice", "vpn", "rule", uint64(1))
	f.Add("e\n", "a]b\"\\", "\xff\u202e", "=|\r", uint64(1<<63))
	f.Fuzz(func(t *testing.T, event, login, system, rule string, seq uint64) {
		raw := (&audit.Record{Seq: seq >> 1, Node: "gw1", Time: noon, Event: event, Result: audit.Reject, Login: login, System: system, Rule: rule}).AppendJSON(nil)
		rec, err := audit.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []Format{JSON, CEF} {
			msg := encoder(t, Encoding{Format: format, Version: "v"}).AppendRecord(nil, rec)
			count := 0
			octetcounting.NewParser(syslog.WithListener(func(r *syslog.Result) {
				if count++; r.Error != nil {
					t.Errorf("%v in %q", r.Error, msg)
				}
			}), syslog.WithMaxMessageLength(1<<20)).Parse(strings.NewReader(string(appendFrame(nil, msg))))
			if count != 1 {
				t.Errorf("%d messages in %q", count, msg)
			}
			m := parsed(t, msg)
			if len(*m.StructuredData) != 1 || (*m.StructuredData)["sallyport@32473"]["login"] != audit.Visible(rec.Login) && rec.Login != audit.None {
				t.Errorf("structured data %v of %q", *m.StructuredData, msg)
			}
			if format == JSON && !json.Valid([]byte(*m.Message)) {
				t.Errorf("body %q", *m.Message)
			}
			if format == CEF {
				if header, _ := readCEF(t, *m.Message); header[3] != audit.Visible(rec.Event) {
					t.Errorf("class %q, want %q", header[3], rec.Event)
				}
			}
		}
	})
}
