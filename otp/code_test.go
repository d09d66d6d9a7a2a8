package otp

import (
	"encoding/base32"
	"strings"
	"testing"
	"time"

	pq "github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"pgregory.net/rapid"
)

var (
	rfcSeed = []byte("12345678901234567890")
	hotpSix = Params{Type: TypeHOTP, Algorithm: SHA1, Digits: 6}
)

func drawParams(t *rapid.T) Params {
	p := Params{
		Type:      rapid.SampledFrom([]Type{TypeTOTP, TypeHOTP}).Draw(t, "type"),
		Algorithm: rapid.SampledFrom([]Algorithm{SHA1, SHA256, SHA512}).Draw(t, "algorithm"),
		Digits:    rapid.SampledFrom([]int{6, 8}).Draw(t, "digits"),
	}
	if p.Type == TypeTOTP {
		p.Period = rapid.SampledFrom([]int{30, 60}).Draw(t, "period")
	}
	return p
}

// Our HMAC and truncation are pquerna's, for seeds shorter and longer than the hashes' blocks (64 and 128 bytes), and
// for every step a counter can have.
func TestCodeAgreesWithPquerna(t *testing.T) {
	algorithms := map[Algorithm]pq.Algorithm{SHA1: pq.AlgorithmSHA1, SHA256: pq.AlgorithmSHA256, SHA512: pq.AlgorithmSHA512}
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		size := rapid.SampledFrom([]int{1, 16, 20, 32, 63, 64, 65, 127, 128, 129, 200}).Draw(t, "size")
		seed := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "seed")
		step := rapid.Int64Min(0).Draw(t, "step")
		want, err := hotp.GenerateCodeCustom(base32.StdEncoding.EncodeToString(seed), uint64(step), hotp.ValidateOpts{
			Digits: pq.Digits(p.Digits), Algorithm: algorithms[p.Algorithm],
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := Code(seed, p, step); got != want {
			t.Fatalf("code %s, pquerna's is %s", got, want)
		}
	})
}

// Match finds exactly the newest step of the window that has the code.
func TestMatchFindsTheNewestStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		seed := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "seed")
		from := rapid.OneOf(rapid.Int64Range(0, 100), rapid.Just[int64](maxStep-40)).Draw(t, "from")
		w := Window{From: from, To: from + rapid.Int64Range(0, 40).Draw(t, "width")}
		at := rapid.Int64Range(max(from-5, 0), min(w.To, maxStep-5)+5).Draw(t, "step")
		code := Code(seed, p, at)

		want := int64(-1)
		for s := w.From; s <= w.To && s >= 0; s++ {
			if Code(seed, p, s) == code {
				want = s
			}
		}
		step, ok := Match(seed, p, code, w)
		if step != want || ok != (want >= 0) {
			t.Fatalf("matched %d, %v, want %d", step, ok, want)
		}
		if in := w.From <= at && at <= w.To; in && !ok {
			t.Fatalf("the code of step %d of %v did not match", at, w)
		}
	})
}

// Two steps of one window may share a code. The newest wins, so that the code is burnt for both (P2).
func TestMatchTakesTheNewerOfEqualCodes(t *testing.T) {
	seen := make(map[string]int64)
	for s := int64(0); ; s++ {
		code := Code(rfcSeed, hotpSix, s)
		older, dup := seen[code]
		seen[code] = s
		if !dup || s-older >= MaxWindow {
			continue
		}
		step, ok := Match(rfcSeed, hotpSix, code, Window{From: older, To: s})
		if !ok || step != s {
			t.Fatalf("code of steps %d and %d: matched %d, %v", older, s, step, ok)
		}
		return
	}
}

// A login and the same code again: the caller's rule (newer than the last used) is enough for P2, within the skew and
// after the clock was set back.
func TestMatchedStepKeepsCodesSingleUse(t *testing.T) {
	p := Default()
	rapid.Check(t, func(t *rapid.T) {
		used := make(map[int64]bool)
		now, last := time.Unix(1_700_000_000, 0), int64(-1)
		for range rapid.IntRange(1, 40).Draw(t, "logins") {
			now = now.Add(time.Duration(rapid.IntRange(-90, 90).Draw(t, "seconds")) * time.Second)
			typed := p.StepAt(now) + int64(rapid.IntRange(-2, 2).Draw(t, "off"))
			step, ok := Match(rfcSeed, p, Code(rfcSeed, p, typed), p.Around(now, 1))
			if !ok || step <= last {
				continue
			}
			if used[step] {
				t.Fatalf("step %d was accepted twice", step)
			}
			used[step], last = true, step
		}
	})
}

func TestMatchSkewEdges(t *testing.T) {
	p := Default()
	now := time.Unix(1_700_000_010, 0) // at the very start of a step
	here := p.StepAt(now)
	if here*30 != now.Unix() {
		t.Fatal("the time is not at an edge")
	}
	tests := []struct {
		name string
		at   time.Time
		skew int
		off  int64
		ok   bool
	}{
		{"now", now, 0, 0, true},
		{"now, last instant of the step", now.Add(30*time.Second - 1), 0, 0, true},
		{"one instant late", now.Add(30 * time.Second), 0, 0, false},
		{"one instant early", now.Add(-1), 0, 0, false},
		{"step before, no skew", now, 0, -1, false},
		{"step after, no skew", now, 0, 1, false},
		{"step before, skew 1", now, 1, -1, true},
		{"step after, skew 1", now, 1, 1, true},
		{"two before, skew 1", now, 1, -2, false},
		{"two after, skew 1", now, 1, 2, false},
		{"two before, skew 2", now, 2, -2, true},
		{"negative skew is none", now, -3, 1, false},
		{"negative skew still takes now", now, -3, 0, true},
	}
	for _, tt := range tests {
		step, ok := Match(rfcSeed, p, Code(rfcSeed, p, here+tt.off), p.Around(tt.at, tt.skew))
		if ok != tt.ok || ok && step != here+tt.off {
			t.Errorf("%s: matched %d, %v, want %v", tt.name, step-here, ok, tt.ok)
		}
	}
}

// HOTP: the counters that were skipped are searched, those that were used are not.
func TestMatchLookAhead(t *testing.T) {
	tests := []struct {
		name            string
		last            int64
		ahead           int
		counter, expect int64 // expect -1: no match
	}{
		{"first code of a new token", -1, 10, 0, 0},
		{"next code", 41, 10, 42, 42},
		{"last code in reach", 41, 10, 51, 51},
		{"one beyond reach", 41, 10, 52, -1},
		{"the code used last", 41, 10, 41, -1},
		{"an older code", 41, 10, 7, -1},
		{"no look-ahead, no code", 41, 0, 42, -1},
		{"negative look-ahead", 41, -1, 42, -1},
		{"nonsense before -1", -9, 10, 0, 0},
		{"widest", 41, MaxWindow - 1, 41 + MaxWindow - 1, 41 + MaxWindow - 1},
		{"look-ahead is cut", 41, 1 << 30, 41 + MaxWindow, -1},
	}
	for _, tt := range tests {
		step, ok := Match(rfcSeed, hotpSix, Code(rfcSeed, hotpSix, tt.counter), Ahead(tt.last, tt.ahead))
		if step != tt.expect || ok != (tt.expect >= 0) {
			t.Errorf("%s: matched %d, %v, want %d", tt.name, step, ok, tt.expect)
		}
	}
}

// A window that a caller widened by the counter used last is still one that Match takes: so a reused code is told
// from a wrong one.
func TestAheadLeavesRoomForTheLast(t *testing.T) {
	w := Ahead(41, 1<<30)
	w.From = 41
	if step, ok := Match(rfcSeed, hotpSix, Code(rfcSeed, hotpSix, 41), w); !ok || step != 41 {
		t.Fatalf("matched %d, %v, want 41", step, ok)
	}
}

func TestMatchRefuses(t *testing.T) {
	good := Code(rfcSeed, hotpSix, 5)
	w := Window{From: 0, To: 9}
	tests := []struct {
		name string
		seed []byte
		p    Params
		code string
		w    Window
	}{
		{"zero params", rfcSeed, Params{}, good, w},
		{"zero params, no code", rfcSeed, Params{}, "", w},
		{"no seed", nil, hotpSix, Code([]byte{0}, hotpSix, 5), w},
		{"empty window", rfcSeed, hotpSix, good, Window{From: 6, To: 5}},
		{"before 0", rfcSeed, hotpSix, good, Window{From: -1, To: 9}},
		{"too wide", rfcSeed, hotpSix, good, Window{From: 0, To: MaxWindow}},
		{"as wide as can be", rfcSeed, hotpSix, good, Window{From: 0, To: maxStep}},
		{"wrong window", rfcSeed, hotpSix, good, Window{From: 6, To: 9}},
		{"seven digits", rfcSeed, Params{Type: TypeHOTP, Algorithm: SHA1, Digits: 7}, "0" + good, w},
		{"md5", rfcSeed, Params{Type: TypeHOTP, Algorithm: "md5", Digits: 6}, good, w},
	}
	for _, tt := range tests {
		if step, ok := Match(tt.seed, tt.p, tt.code, tt.w); ok || step != -1 {
			t.Errorf("%s: matched %d, %v", tt.name, step, ok)
		}
	}
	if _, ok := Match(rfcSeed, hotpSix, good, Window{From: 0, To: MaxWindow - 1}); !ok {
		t.Error("the widest window did not match")
	}
}

// hostile codes: nothing but exact ASCII digits is ever a code, whatever else about it resembles one.
func hostile(good string) []string {
	arabic := strings.Map(func(r rune) rune { return r - '0' + '٠' }, good)
	wide := strings.Map(func(r rune) rune { return r - '0' + '０' }, good)
	return []string{
		"", " ", "0", good[:5], good + "0", "0" + good, good + "\x00", "\x00" + good, good[:3] + "\x00" + good[3:],
		arabic, wide, "+" + good[1:], "-" + good, good[:5] + "\xff", good[:5] + "é", "0x" + good[2:], good[:5] + "e",
		good[:3] + "\u00a0" + good[3:], good[:3] + "\u200b" + good[3:], good[:3] + "." + good[3:], "\x1b[2J" + good,
		strings.Repeat("0", 64<<10), strings.Repeat(" ", 64<<10) + good, strings.Repeat("\x00", 64<<10),
	}
}

func TestMatchHostileCodes(t *testing.T) {
	good := Code(rfcSeed, hotpSix, 5)
	for _, code := range append(hostile(good), good[:3]+" "+good[3:], good+"\n") {
		if _, ok := Match(rfcSeed, hotpSix, code, Ahead(-1, 10)); ok {
			t.Errorf("%.40q matched", code)
		}
	}
	// The characters beside the digits would do as a ten and a minus one.
	for s := int64(0); ; s++ {
		code := Code(rfcSeed, hotpSix, s)
		if !strings.Contains(code, "10") || !strings.Contains(code, "09") {
			continue
		}
		for _, forged := range []string{strings.Replace(code, "10", "0:", 1), strings.Replace(code, "09", "1/", 1)} {
			if _, ok := Match(rfcSeed, hotpSix, forged, Window{From: s, To: s}); ok {
				t.Errorf("%q matched for %s", forged, code)
			}
		}
		break
	}
	// The step whose code is all zeros, so that what cannot be read is not taken for zero.
	for s := int64(0); ; s++ {
		if Code(rfcSeed, hotpSix, s) != "000000" {
			continue
		}
		for _, code := range []string{"", "0", "00000", "0000000", "00000 ", "\x00\x00\x00\x00\x00\x00", "٠٠٠", "oooooo"} {
			if _, ok := Match(rfcSeed, hotpSix, code, Window{From: s, To: s}); ok {
				t.Errorf("%q matched step %d, whose code is 000000", code, s)
			}
		}
		return
	}
}

func TestCodeRefuses(t *testing.T) {
	for _, got := range []string{Code(rfcSeed, Params{}, 1), Code(nil, hotpSix, 1), Code(rfcSeed, hotpSix, -1)} {
		if got != "" {
			t.Errorf("got a code, %q", got)
		}
	}
}

func TestCleanCode(t *testing.T) {
	tests := []struct {
		typed, want string
	}{
		{"123456", "123456"},
		{"012345", "012345"},
		{"1234567", "1234567"},
		{"12345678", "12345678"},
		{" 123 456\r\n", "123456"},
		{"\t1234 5678 ", "12345678"},
		{"123-456", "123456"},
		{"1 2 3 4 5 6 7 8", "12345678"},
		{"12345", ""},
		{"123456789", ""},
		{"12 34 5", ""},
		{"abcdef", ""},
		{"12345a", ""},
		{"12345:", ""}, // beside the digits in ASCII
		{"12345/", ""},
	}
	for _, h := range hostile("123456") {
		if h != "-123456" && h != "1234560" && h != "0123456" {
			tests = append(tests, struct{ typed, want string }{h, ""})
		}
	}
	for _, tt := range tests {
		got, ok := CleanCode(tt.typed)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("CleanCode(%.40q) = %q, %v, want %q", tt.typed, got, ok, tt.want)
		}
	}
}

func FuzzCleanCode(f *testing.F) {
	for _, h := range append(hostile("123456"), "123456", " 1234-5678\n") {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := CleanCode(typed)
		if !ok {
			if code != "" {
				t.Fatalf("refused, but gave %q", code)
			}
			return
		}
		if len(code) < 6 || len(code) > 8 || strings.Trim(code, "0123456789") != "" {
			t.Fatalf("%q is no code", code)
		}
		if again, ok := CleanCode(code); !ok || again != code {
			t.Fatalf("cleaning %q again gives %q, %v", code, again, ok)
		}
		if strings.Map(func(r rune) rune {
			if r < '0' || r > '9' {
				return -1
			}
			return r
		}, typed) != code {
			t.Fatalf("%q became %q", typed, code)
		}
	})
}

// What a login costs: one match, as the gate asks for it.
func BenchmarkMatch(b *testing.B) {
	for _, bb := range []struct {
		name string
		p    Params
	}{
		{"sha1", Default()},
		{"sha256", Params{Type: TypeTOTP, Algorithm: SHA256, Digits: 6, Period: 30}},
		{"sha512", Params{Type: TypeTOTP, Algorithm: SHA512, Digits: 8, Period: 30}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			now := time.Unix(1_700_000_000, 0)
			seed, err := NewSeed(bb.p.Algorithm)
			if err != nil {
				b.Fatal(err)
			}
			code := Code(seed, bb.p, bb.p.StepAt(now))
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := Match(seed, bb.p, code, bb.p.Around(now, 1)); !ok {
					b.Fatal("no match")
				}
			}
		})
	}
}
