package otp

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestValidate(t *testing.T) {
	good := []Params{
		Default(),
		{Type: TypeTOTP, Algorithm: SHA512, Digits: 8, Period: 60},
		{Type: TypeHOTP, Algorithm: SHA256, Digits: 8},
	}
	for _, p := range good {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	bad := []struct {
		change func(*Params)
		says   string
	}{
		{func(p *Params) { *p = Params{} }, "algorithm"},
		{func(p *Params) { p.Type = "" }, "type"},
		{func(p *Params) { p.Type = "TOTP" }, "type"},
		{func(p *Params) { p.Type = "steam" }, "type"},
		{func(p *Params) { p.Algorithm = "md5" }, "algorithm"},
		{func(p *Params) { p.Algorithm = "SHA1" }, "algorithm"},
		{func(p *Params) { p.Digits = 0 }, "digits"},
		{func(p *Params) { p.Digits = 7 }, "digits"},
		{func(p *Params) { p.Digits = 10 }, "digits"},
		{func(p *Params) { p.Period = 0 }, "period"},
		{func(p *Params) { p.Period = -30 }, "period"},
		{func(p *Params) { p.Period = 3600 }, "period"},
		{func(p *Params) { p.Type = TypeHOTP }, "period"},
	}
	for _, tt := range bad {
		p := Default()
		tt.change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v, want an error about the %s", p, err, tt.says)
		}
	}
}

// The JSON form is stored with tokens, and stays as it is.
func TestParamsJSON(t *testing.T) {
	for want, p := range map[string]Params{
		`{"type":"totp","algorithm":"sha1","digits":6,"period":30}`: Default(),
		`{"type":"hotp","algorithm":"sha256","digits":8}`:           {Type: TypeHOTP, Algorithm: SHA256, Digits: 8},
	} {
		b, err := json.Marshal(p)
		if err != nil || string(b) != want {
			t.Errorf("%s, %v, want %s", b, err, want)
		}
	}
}

func TestStepAt(t *testing.T) {
	p := Default()
	tests := []struct {
		at   time.Time
		step int64
	}{
		{time.Unix(0, 0), 0},
		{time.Unix(29, 999_999_999), 0},
		{time.Unix(30, 0), 1},
		{time.Unix(0, -1), -1},
		{time.Unix(-1, 0), -1},
		{time.Unix(-30, 0), -1},
		{time.Unix(-30, -1), -2},
		{time.Unix(-31, 0), -2},
		{time.Time{}, -2_071_186_560}, // the year 1, as an unset time has it
	}
	for _, tt := range tests {
		if got := p.StepAt(tt.at); got != tt.step {
			t.Errorf("%v: step %d, want %d", tt.at.UTC(), got, tt.step)
		}
	}
	if got := hotpSix.StepAt(time.Unix(60, 0)); got != -1 {
		t.Errorf("hotp: step %d, want none", got)
	}
}

// A step holds exactly the times from its first second until the next step's.
func TestStepAtIsFloor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Default()
		p.Period = rapid.SampledFrom([]int{30, 60}).Draw(t, "period")
		at := time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "sec"), rapid.Int64Range(0, 999_999_999).Draw(t, "nsec"))
		step := p.StepAt(at)
		start := time.Unix(step*int64(p.Period), 0)
		if at.Before(start) || !at.Before(start.Add(time.Duration(p.Period)*time.Second)) {
			t.Fatalf("%v is not in step %d, which starts at %v", at, step, start)
		}
	})
}

func TestAround(t *testing.T) {
	p := Default()
	tests := []struct {
		name string
		p    Params
		at   time.Time
		skew int
		want Window
	}{
		{"plain", p, time.Unix(300, 0), 1, Window{9, 11}},
		{"never below 0", p, time.Unix(31, 0), 3, Window{0, 4}},
		{"first step", p, time.Unix(0, 0), 1, Window{0, 1}},
		{"before 1970", p, time.Unix(-1, 0), 1, Window{0, -1}},
		{"unset time", p, time.Time{}, 1, Window{0, -1}},
		{"skew is cut", p, time.Unix(1<<40, 0), math.MaxInt, Window{1<<40/30 - 511, 1<<40/30 + 511}},
		{"hotp has no time", hotpSix, time.Unix(300, 0), 1, Window{0, -1}},
	}
	for _, tt := range tests {
		if got := tt.p.Around(tt.at, tt.skew); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// No window of ours is one that Match would refuse for its width, or that overflows.
func TestWindowsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, last := rapid.Int().Draw(t, "n"), rapid.Int64().Draw(t, "last")
		at := time.Unix(rapid.Int64().Draw(t, "sec"), 0)
		for _, w := range []Window{Default().Around(at, n), Ahead(last, n)} {
			if w.From < 0 || w.To < w.From-1 || w.To >= w.From && w.To-w.From >= MaxWindow {
				t.Fatalf("window %v", w)
			}
		}
		if w := Ahead(last, n); w.To >= w.From && w.From <= last {
			t.Fatalf("window %v holds counter %d, which is used", w, last)
		}
	})
	none := Window{From: 0, To: -1}
	for _, tt := range []struct {
		last  int64
		ahead int
		want  Window
	}{
		{maxStep, 0, none},
		{maxStep, 1, none},
		{maxStep, 10, none},
		{maxStep - 9, 10, none},
		{41, 0, none},
		{maxStep - 1, 1, Window{From: maxStep, To: maxStep}},
		{maxStep - 10, 10, Window{From: maxStep - 9, To: maxStep}},
	} {
		if w := Ahead(tt.last, tt.ahead); w != tt.want {
			t.Errorf("Ahead(%d, %d): window %v, want %v", tt.last, tt.ahead, w, tt.want)
		}
	}
}

func TestNewSeed(t *testing.T) {
	for a, size := range map[Algorithm]int{SHA1: 20, SHA256: 32, SHA512: 64} {
		one, err1 := NewSeed(a)
		two, err2 := NewSeed(a)
		if err1 != nil || err2 != nil || len(one) != size || len(one) < MinSeed || bytes.Equal(one, two) {
			t.Errorf("%s: %d bytes (%v) and %d bytes (%v), want two different of %d", a, len(one), err1, len(two), err2, size)
		}
	}
	if seed, err := NewSeed("md5"); err == nil || seed != nil {
		t.Errorf("md5: %d bytes, %v, want an error", len(seed), err)
	}
}
