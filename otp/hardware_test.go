package otp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func aToken(serial string) Hardware {
	return Hardware{Line: 7, Serial: serial, Params: Default(), Seed: bytes.Repeat([]byte{0xa5}, 20)}
}

func TestIntake(t *testing.T) {
	var given []Hardware
	in := NewIntake(func(h Hardware) error { given = append(given, h); return nil })
	good := aToken("GOOD")
	good.Maker = " Acme\x1b[2J  Gmb\u202eH "
	if err := in.Take(good, true); err != nil || len(given) != 1 || given[0].Maker != "Acme [2J Gmb H" || in.Err() != nil {
		t.Fatalf("%v, %+v, %v", err, given, in.Err())
	}
	for name, spoil := range map[string]func(h *Hardware){
		"no serial":      func(h *Hardware) { h.Serial = "" },
		"bad serial":     func(h *Hardware) { h.Serial = "a b" },
		"long serial":    func(h *Hardware) { h.Serial = strings.Repeat("x", MaxSerial+1) },
		"again":          func(h *Hardware) { h.Serial = "GOOD" },
		"no digits":      func(h *Hardware) { h.Params.Digits = 0 },
		"short seed":     func(h *Hardware) { h.Seed = h.Seed[:MinSeed-1] },
		"long seed":      func(h *Hardware) { h.Seed = make([]byte, MaxSeed+1) },
		"counter":        func(h *Hardware) { h.Counter = -1 },
		"huge counter":   func(h *Hardware) { h.Counter = MaxCounter + 1 },
		"drift":          func(h *Hardware) { h.Drift = -MaxDrift - 1 },
		"start, no room": func(h *Hardware) { h.Start = time.Unix(9, 0); h.Expiry = time.Unix(9, 0) },
	} {
		before := len(in.List)
		h := aToken("BAD-" + strings.ReplaceAll(name, " ", "-"))
		spoil(&h)
		if err := in.Take(h, true); err != nil || len(given) != 1 || len(in.List) != before+1 {
			t.Errorf("%s: %v, %d given, faults %v", name, err, len(given), in.List[before:])
		}
	}
	if err := in.Take(aToken("UNSOUND"), false); err != nil || len(given) != 1 {
		t.Error("a token with a fault of its parser was given")
	}
	full := errors.New("full")
	if err := NewIntake(func(Hardware) error { return full }).Take(aToken("X"), true); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

func TestIntakeIsBounded(t *testing.T) {
	in := NewIntake(func(Hardware) error { return nil })
	for i := range MaxHardware {
		if err := in.Take(aToken(fmt.Sprint(i)), true); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Take(aToken("one more"), true); err != nil {
		t.Errorf("a serial that is refused anyhow: %v", err)
	}
	if err := in.Take(aToken("one-more"), true); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v", err)
	}
	for range 2 * MaxFaults {
		_ = in.Take(aToken(""), true)
	}
	if len(in.List) != MaxFaults || in.More != MaxFaults+1 {
		t.Errorf("%d faults kept, %d counted", len(in.List), in.More)
	}
}

// Faults read well, and nothing in them moves a terminal's cursor.
func TestFaults(t *testing.T) {
	var f Faults
	f.Add(Fault{Line: 9, Serial: "B\x1b[2J", What: "second"})
	f.Add(Fault{Line: 3, Serial: "A", What: "first"})
	err := f.Err()
	if err == nil || err.Error() != "line 3, token A: first (and 1 more)" || f.List[1].String() != `line 9, token "B\x1b[2J": second` {
		t.Errorf("%v; %v", err, f.List)
	}
	if (&Faults{}).Err() != nil {
		t.Error("no fault is an error")
	}
}
