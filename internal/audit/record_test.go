package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// TestGolden pins the canonical form: a change here makes every log that exists unreadable.
func TestGolden(t *testing.T) {
	full := loginRecord(0)
	full.Seq, full.Node, full.Time = 12, "gw1", testNow
	full.Exception, full.Session, full.Account = "EX-7", "s-1", "netadmin"
	full.Effects = append(full.Effects, Effect{Set: "person.failures", ID: "alice", Value: -1, Until: testNow.Add(time.Hour)})
	full.Change = changeHash([]byte("x"))
	for _, c := range []struct {
		name string
		rec  *Record
		want string
	}{
		{"full", full, `{"v":1,"seq":12,"node":"gw1","time":"2026-11-24T08:15:04.123Z","event":"login","result":"accept","reason":"ok",` +
			`"person":"alice","person_kind":"staff","login":"alice","protocol":"radius","source":"10.20.0.17","system":"vpn-leeds",` +
			`"class":"remote","account":"netadmin","factors":[{"kind":"know","method":"password","token":"none","result":"ok"},` +
			`{"kind":"have","method":"totp","token":"tok-7f3a","result":"ok"}],"rule":"network team","exception":"EX-7","session":"s-1",` +
			`"attempt":"018f6f3e-7b1a-7c3d-9e2f-0123456789ab","detail":{"client":"vpn-leeds","nas_ip":"10.20.0.1","source_port":"49152"},` +
			`"effects":[{"set":"token.step","id":"tok-7f3a","value":58000000,"until":"none"},` +
			`{"set":"person.failures","id":"alice","value":-1,"until":"2026-11-24T09:15:04.123Z"}],` +
			`"change":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}`},
		{"blank", &Record{Result: Reject, Factors: []Factor{{}}, Detail: []Detail{{}}}, `{"v":1,"seq":0,"node":"unknown",` +
			`"time":"0001-01-01T00:00:00.000Z","event":"unknown","result":"reject","reason":"unknown","person":"unknown","person_kind":"none",` +
			`"login":"unknown","protocol":"unknown","source":"unknown","system":"unknown","class":"none","account":"none",` +
			`"factors":[{"kind":"unknown","method":"unknown","token":"none","result":"unknown"}],"rule":"none","exception":"none",` +
			`"session":"none","attempt":"none","detail":{"unknown":"none"},"effects":[],"change":"none"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := string(c.rec.AppendJSON(nil))
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			back, err := Parse([]byte(got))
			if err != nil {
				t.Fatal(err)
			}
			if again := string(back.AppendJSON(nil)); again != got {
				t.Errorf("again\n%s", again)
			}
		})
	}
}

// hostile are values that strangers send.
var hostile = map[string]string{
	"nul":               "al\x00ice",
	"newline":           "alice\nroot accepted",
	"CR":                "alice\r",
	"ANSI":              "\x1b[2J\x1b]0;owned\x07",
	"C1 CSI":            "\u009b31m",
	"8-bit CSI":         "\x9b31m",
	"DEL":               "a\x7fb",
	"invalid UTF-8":     "\xff\xfe\xc3(",
	"overlong":          "\xc0\xaf",
	"surrogate":         "\xed\xa0\x80",
	"half a character":  "caf\xc3",
	"quote":             `","result":"accept`,
	"backslash":         `\u0041\`,
	"right to left":     "ecila\u202etxt.exe",
	"zero width":        "al\u200bice\ufeff",
	"line separator":    "a\u2028b\u2029",
	"tags":              "a\U000e0041",
	"html":              "<script>&'",
	"UTF-8":             "Zoë Ångström 東京 😀",
	"replacement":       "\ufffd",
	"64 KiB":            strings.Repeat("a", 64<<10),
	"64 KiB of NUL":     strings.Repeat("\x00", 64<<10),
	"64 KiB of emoji":   strings.Repeat("😀", 16<<10),
	"64 KiB of half":    strings.Repeat("\xe2\x80", 32<<10),
	"looks cut":         "alice...[65536 bytes]",
	"number one longer": strings.Repeat("a", MaxField+1),
	"number as long":    strings.Repeat("a", MaxField),
	"escaped as long":   strings.Repeat("\x00", MaxField/6),
	"escaped longer":    strings.Repeat("\x00", MaxField/6+1),
}

// TestHostileValues holds P7 and P8: what strangers type is bounded, harmless to print, and lossless where it is not cut.
func TestHostileValues(t *testing.T) {
	for name, value := range hostile {
		t.Run(name, func(t *testing.T) {
			rec := loginRecord(0)
			rec.Person, rec.Login, rec.Detail = value, value, []Detail{{"k", value}, {value, "v"}}
			raw := rec.AppendJSON(nil)
			if len(raw) > 3*MaxField+MaxValue+1200 {
				t.Errorf("%d bytes", len(raw))
			}
			if !utf8.Valid(raw) || !json.Valid(raw) {
				t.Errorf("not JSON: %q", raw)
			}
			for i, r := range string(raw) {
				if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
					t.Errorf("byte %d: %U stands as it is", i, r)
				}
			}
			back, err := Parse(raw)
			if err != nil {
				t.Fatalf("%v in %s", err, raw)
			}
			if back.Login != value && (len(value) <= MaxField/6 || !strings.HasSuffix(back.Login, fmt.Sprintf("...[%d bytes]", len(value)))) {
				t.Errorf("%q became %q", value, back.Login)
			}
			if got, ok := strings.CutSuffix(back.Login, fmt.Sprintf("...[%d bytes]", len(value))); ok && !strings.HasPrefix(value, got) {
				t.Errorf("%q begins otherwise", back.Login)
			}
			if n := escapedLen(back.Login); n > MaxField || len(value) > MaxField && n < MaxField-24 {
				t.Errorf("%d bytes are left of %d", n, len(value))
			}
		})
	}
}

// TestLargestRecord holds P7: no record outgrows MaxRecord, whatever is put in.
func TestLargestRecord(t *testing.T) {
	rec := &Record{Node: strings.Repeat("n", MaxNode), Seq: 1<<64 - 1, Time: testNow, Result: Challenge, Change: changeHash([]byte{1})}
	for _, f := range rec.texts() {
		*f.value = strings.Repeat("\x00", 1<<16)
	}
	for i := range MaxFactors {
		s := strings.Repeat("\x01", 300+i)
		rec.Factors = append(rec.Factors, Factor{s, s, s, s})
	}
	for i := range 2 * MaxDetails {
		rec.Detail = append(rec.Detail, Detail{fmt.Sprint(i, strings.Repeat("k", 60)), strings.Repeat("\xff", 5000)})
	}
	for range MaxEffects {
		rec.Effects = append(rec.Effects, Effect{strings.Repeat("s", MaxWord), strings.Repeat("i", MaxField), -1 << 63, testNow})
	}
	raw := rec.AppendJSON(nil)
	if len(raw) > MaxRecord || len(raw) < MaxRecord/2 {
		t.Errorf("%d bytes", len(raw))
	}
	back, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(back.Detail) != MaxDetails {
		t.Errorf("%d details", len(back.Detail))
	}
}

func TestDetails(t *testing.T) {
	many := func(n int, more ...Detail) (d []Detail) {
		for i := range n {
			d = append(d, Detail{fmt.Sprintf("k%03d", i), "v"})
		}
		return append(d, more...)
	}
	for _, c := range []struct {
		name string
		in   []Detail
		want string // the last three
		n    int
	}{
		{"none", nil, "[]", 0},
		{"sorted", []Detail{{"b", "2"}, {"a", "1"}}, "[{a 1} {b 2}]", 2},
		{"twice the same key", []Detail{{"b", "2"}, {"a", "1"}, {"b", "3"}, {"b", ""}}, "[{a 1} {b 2, 3, }]", 2},
		{"same after the cut", []Detail{{strings.Repeat("k", 300), "1"}, {strings.Repeat("k", 300), "2"}}, "[{" + strings.Repeat("k", 50) + "...[300 bytes] 1, 2}]", 1},
		{"full", many(MaxDetails), "[{k061 v} {k062 v} {k063 v}]", MaxDetails},
		{"one too many", many(MaxDetails + 1), "[{k061 v} {k062 v} {~cut 2 more}]", MaxDetails},
		{"too many, mark taken", many(100, Detail{"~cut", "x"}, Detail{"~z", "y"}), "[{k061 v} {k062 v} {~cut 39 more}]", MaxDetails},
		{"too many, mark kept", append(many(62, Detail{"~cut", "x"}), Detail{"~d", ""}, Detail{"~e", ""}), "[{k060 v} {k061 v} {~cut x, 2 more}]", 63},
		{"mark sorts earlier", func() (d []Detail) {
			for i := range 70 {
				d = append(d, Detail{fmt.Sprintf("é%03d", i), "v"})
			}
			return d
		}(), "[{é060 v} {é061 v} {é062 v}]", MaxDetails},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := loginRecord(0)
			rec.Detail = c.in
			back, err := Parse(rec.AppendJSON(nil))
			if err != nil {
				t.Fatal(err)
			}
			if len(back.Detail) != c.n {
				t.Errorf("%d details, want %d", len(back.Detail), c.n)
			}
			if got := fmt.Sprint(back.Detail[max(0, len(back.Detail)-3):]); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestCannotBeRecorded: what would have to be altered to be written takes no number.
func TestCannotBeRecorded(t *testing.T) {
	for name, spoil := range map[string]func(*Record){
		"no result":         func(r *Record) { r.Result = "" },
		"another result":    func(r *Record) { r.Result = "Accept" },
		"year 10000":        func(r *Record) { r.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"year -1":           func(r *Record) { r.Time = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) },
		"until 10000":       func(r *Record) { r.Effects[0].Until = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"blank effect":      func(r *Record) { r.Effects[0].Set = "" },
		"blank effect's id": func(r *Record) { r.Effects[0].ID = "" },
		"long effect's id":  func(r *Record) { r.Effects[0].ID = strings.Repeat("i", MaxField+1) },
		"17 effects":        func(r *Record) { r.Effects = make([]Effect, MaxEffects+1) },
		"17 factors":        func(r *Record) { r.Factors = make([]Factor, MaxFactors+1) },
	} {
		t.Run(name, func(t *testing.T) {
			rec := loginRecord(0)
			spoil(rec)
			if err := rec.canonicalise(); err == nil {
				t.Errorf("accepted: %s", rec.append(nil))
			}
		})
	}
}

// TestParseIsStrict holds P8: one record has one form.
func TestParseIsStrict(t *testing.T) {
	rec := loginRecord(0)
	rec.Node, rec.Time, rec.Login = "gw1", testNow, "al\x1b\xffice"
	raw := string(rec.AppendJSON(nil))
	if _, err := Parse([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"blank":               {`"v":1,`, `"v":1, `},
		"version":             {`"v":1,`, `"v":2,`},
		"leading zero":        {`"seq":0`, `"seq":00`},
		"no number":           {`"seq":0`, `"seq":`},
		"negative number":     {`"seq":0`, `"seq":-0`},
		"number too large":    {`"seq":0`, `"seq":18446744073709551616`},
		"plus":                {`"value":58`, `"value":+58`},
		"fraction":            {`58000000`, `58000000.0`},
		"exponent":            {`58000000`, `58e6`},
		"hex in upper case":   {`\u001b`, `\u001B`},
		"short escape":        {`\u001b`, `\t`},
		"needless escape":     {`"alice"`, `"\u0061lice"`},
		"needless slash":      {`"alice"`, `"\/alice"`},
		"raw control":         {`\u001b`, "\x1b"},
		"raw invalid":         {`\u00ff`, "\xff"},
		"cut escape":          {`\u00ffice"`, `\u00`},
		"order":               {`"node":"gw1","time":"2026-11-24T08:15:04.123Z"`, `"time":"2026-11-24T08:15:04.123Z","node":"gw1"`},
		"field twice":         {`"node":"gw1"`, `"node":"gw1","node":"gw1"`},
		"field missing":       {`"node":"gw1",`, ``},
		"field blank":         {`"node":"gw1"`, `"node":""`},
		"field null":          {`"node":"gw1"`, `"node":null`},
		"field too long":      {`"rule":"network team"`, `"rule":"` + strings.Repeat("a", MaxField+1) + `"`},
		"result":              {`"result":"accept"`, `"result":"accepted"`},
		"30 February":         {`2026-11-24`, `2026-02-30`},
		"second 60":           {`08:15:04`, `08:15:60`},
		"hour 24":             {`08:15:04`, `24:15:04`},
		"offset":              {`.123Z`, `.123+00:00`},
		"microseconds":        {`.123Z`, `.123000Z`},
		"comma":               {`.123Z`, `,123Z`},
		"sign in time":        {`2026-11`, `2026--1`},
		"until zero":          {`"until":"none"`, `"until":"0001-01-01T00:00:00.000Z"`},
		"until blank":         {`"until":"none"`, `"until":""`},
		"details unsorted":    {`"client":"vpn-leeds","nas_ip":"10.20.0.1"`, `"nas_ip":"10.20.0.1","client":"vpn-leeds"`},
		"detail twice":        {`"client":"vpn-leeds"`, `"client":"vpn-leeds","client":"vpn-leeds"`},
		"comma before":        {`"detail":{`, `"detail":{,`},
		"comma after":         {`"49152"}`, `"49152",}`},
		"no comma":            {`"vpn-leeds","nas_ip"`, `"vpn-leeds""nas_ip"`},
		"list not closed":     {`],"change"`, `,"change"`},
		"17 factors":          {`"factors":[`, `"factors":[` + strings.Repeat(`{"kind":"a","method":"a","token":"a","result":"a"},`, MaxFactors)},
		"change in upper":     {`"change":"none"`, `"change":"` + strings.Repeat("A", 64) + `"`},
		"change is short":     {`"change":"none"`, `"change":"00"`},
		"trailing blank":      {`"change":"none"}`, `"change":"none"} `},
		"trailing line feed":  {`"change":"none"}`, `"change":"none"}` + "\n"},
		"trailing object":     {`"change":"none"}`, `"change":"none"}{}`},
		"cut":                 {`"change":"none"}`, `"change":"none"`},
		"byte order mark":     {`{"v":1,`, "\ufeff" + `{"v":1,`},
		"too long altogether": {`"change":"none"}`, `"change":"none"}` + strings.Repeat(" ", MaxRecord)},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(raw, change[0], change[1], 1)
			if bad == raw {
				t.Fatal("nothing was changed")
			}
			if got, err := Parse([]byte(bad)); err == nil {
				t.Errorf("accepted as %+v:\n%s", got, bad)
			}
		})
	}
	for n := range len(raw) {
		if _, err := Parse([]byte(raw[:n])); err == nil {
			t.Fatalf("the first %d bytes are accepted", n)
		}
	}
}

// FuzzParse: whatever Parse accepts is JSON, and has no other form.
func FuzzParse(f *testing.F) {
	f.Add(loginRecord(0).AppendJSON(nil))
	f.Add((&Record{Result: Info}).AppendJSON(nil))
	for _, v := range hostile {
		if len(v) < 100 {
			f.Add((&Record{Result: Info, Login: v, Detail: []Detail{{v, v}}}).AppendJSON(nil))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		rec, err := Parse(raw)
		if err != nil {
			return
		}
		if !json.Valid(raw) {
			t.Errorf("not JSON: %q", raw)
		}
		if again := rec.AppendJSON(nil); !bytes.Equal(again, raw) {
			t.Errorf("%q became %q", raw, again)
		}
	})
}

// FuzzCanonical: whatever is recorded can be read, and is then the same.
func FuzzCanonical(f *testing.F) {
	for _, v := range hostile {
		f.Add(v, v, int64(0))
	}
	f.Fuzz(func(t *testing.T, a, b string, at int64) {
		rec := &Record{
			Result: Reject, Time: time.UnixMilli(at), Login: a, Source: b, Factors: []Factor{{Kind: a, Token: b}},
			Detail: []Detail{{a, b}, {b, a}, {"~cut", a}},
		}
		if rec.canonicalise() != nil {
			return
		}
		raw := rec.append(nil)
		back, err := Parse(raw)
		if err != nil {
			t.Fatalf("%v in %s", err, raw)
		}
		if fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", rec) {
			t.Errorf("%+v became %+v", rec, back)
		}
		if len(a) <= MaxWord/maxEscape && a != "" && back.Login != a {
			t.Errorf("%q became %q", a, back.Login)
		}
	})
}

func TestFilter(t *testing.T) {
	rec := loginRecord(0)
	rec.Time, rec.Event = testNow, "session.end"
	for _, c := range []struct {
		f    Filter
		want bool
	}{
		{Filter{}, true},
		{Filter{Person: "alice", System: "vpn-leeds", Source: "10.20.0.17", Result: Accept, Event: "session.end"}, true},
		{Filter{Session: rec.Session}, true},
		{Filter{Session: rec.Session + "x"}, false},
		{Filter{Person: "alic"}, false},
		{Filter{System: "vpn"}, false},
		{Filter{Source: "10.20.0.1"}, false},
		{Filter{Result: Reject}, false},
		{Filter{Event: "session"}, true},
		{Filter{Event: "sess"}, false},
		{Filter{Event: "session.end.x"}, false},
		{Filter{Since: testNow, Until: testNow.Add(1)}, true},
		{Filter{Since: testNow.Add(1)}, false},
		{Filter{Until: testNow}, false},
	} {
		if got := c.f.Match(rec); got != c.want {
			t.Errorf("%+v: %v", c.f, got)
		}
	}
}
