package door

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func prefix(s string) netip.Prefix { return NetworkOf(netip.MustParseAddr(s)) }

func TestNetworkOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":  "2001:db8:1:2::/64",
		"2001:db8:1:3:3:4:5:6": "2001:db8:1:3::/64",
	} {
		if got := prefix(in).String(); got != want {
			t.Errorf("NetworkOf(%s) = %s, want %s", in, got, want)
		}
	}
	if NetworkOf(netip.Addr{}).IsValid() {
		t.Error("no address has a network")
	}
	a := SourceOf(&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.7"), Port: 22})
	if a.String() != "192.0.2.7:22" {
		t.Errorf("a mapped address is %v", a)
	}
	if SourceOf(&net.UnixAddr{}).IsValid() {
		t.Error("a unix socket has a source")
	}
}

// P7: connections that have not logged in are bounded, in all and for each source.
func TestStarts(t *testing.T) {
	roll := 0
	s := NewStarts(func(int) int { return roll })
	limit := Startups{Begin: 2, Rate: 50, Full: 4}
	a, b := prefix("192.0.2.1"), prefix("192.0.2.2")
	steps := []struct {
		source netip.Prefix
		roll   int
		want   Verdict
	}{
		{a, 0, OK},
		{a, 0, OK},
		{a, 99, SourceStarts}, // its third, with two allowed
		{b, 49, AllStarts},    // at Begin the chance is Rate
		{b, 50, OK},
		{b, 74, AllStarts}, // halfway to Full it is 75
		{b, 75, OK},
		{prefix("192.0.2.3"), 99, AllStarts}, // at Full it is certain
	}
	for i, st := range steps {
		roll = st.roll
		if got := s.Begin(st.source, limit, 2); got != st.want {
			t.Fatalf("step %d: %v, want %v", i, got, st.want)
		}
	}
	if s.Count() != 4 {
		t.Fatalf("%d starts, want 4", s.Count())
	}
	for _, x := range []netip.Prefix{a, a, b, b} {
		s.End(x)
	}
	if s.Count() != 0 || len(s.bySource) != 0 {
		t.Fatalf("after the end of all: %d starts, %d sources", s.Count(), len(s.bySource))
	}
}

func TestStartsRates(t *testing.T) {
	for _, c := range []struct {
		limit Startups
		all   int
		roll  int
		drop  bool
	}{
		{Startups{10, 30, 100}, 9, 0, false},
		{Startups{10, 30, 100}, 10, 29, true},
		{Startups{10, 30, 100}, 10, 30, false},
		{Startups{10, 30, 100}, 55, 64, true},
		{Startups{10, 30, 100}, 55, 65, false},
		{Startups{10, 30, 100}, 100, 99, true},
		{Startups{5, 100, 10}, 5, 99, true},
		{Startups{5, 0, 10}, 5, 0, false},
		{Startups{5, 30, 5}, 5, 99, true}, // no division by zero
	} {
		s := NewStarts(func(int) int { return c.roll })
		s.all = c.all
		if got := s.drop(c.limit); got != c.drop {
			t.Errorf("%+v with %d: drop %v, want %v", c.limit, c.all, got, c.drop)
		}
	}
}

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestPenaltiesAddUp(t *testing.T) {
	p, rules := NewPenalties(), DefaultRules()
	src := prefix("192.0.2.1")
	for i, want := range []bool{false, false, true} {
		p.Add(src, rules.AuthFail, now, &rules)
		if got := p.Barred(src, now, &rules); got != want {
			t.Fatalf("after %d refused logins: barred %v, want %v", i+1, got, want)
		}
	}
	if p.Barred(prefix("192.0.2.2"), now, &rules) {
		t.Error("the neighbour is barred")
	}
	if !p.Barred(src, now.Add(15*time.Second-1), &rules) || p.Barred(src, now.Add(15*time.Second), &rules) {
		t.Error("three refused logins are not 15 seconds")
	}
	if p.Count() != 0 {
		t.Errorf("%d penalties are kept after their end", p.Count())
	}
	for range 1000 {
		p.Add(src, rules.Crash, now, &rules)
	}
	if !p.Barred(src, now.Add(rules.Max-1), &rules) || p.Barred(src, now.Add(rules.Max), &rules) {
		t.Error("penalties do not end at Max")
	}
}

func TestPenaltiesOfAnIPv6Network(t *testing.T) {
	p, rules := NewPenalties(), DefaultRules()
	p.Add(prefix("2001:db8:1:2::1"), rules.Crash, now, &rules)
	if !p.Barred(prefix("2001:db8:1:2:ffff::9"), now, &rules) {
		t.Error("another address of the same /64 is let in")
	}
	if p.Barred(prefix("2001:db8:1:3::1"), now, &rules) {
		t.Error("another /64 is barred")
	}
}

// P7: the table is bounded, and what ends first goes first.
func TestPenaltiesAreBounded(t *testing.T) {
	p, rules := NewPenalties(), DefaultRules()
	rules.Sources4 = 100
	worst := prefix("192.0.2.1")
	p.Add(worst, rules.Crash, now, &rules)
	for i := range 10_000 {
		p.Add(NetworkOf(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})), rules.AuthFail, now, &rules)
		if p.Count() > 100 || len(p.v4.by) != len(p.v4.order) {
			t.Fatalf("%d penalties in the heap, %d in the map", len(p.v4.order), len(p.v4.by))
		}
	}
	if !p.Barred(worst, now, &rules) {
		t.Error("a flood of others pushed out the worst")
	}
	if p.Add(prefix("2001:db8::1"), rules.Crash, now, &rules); p.Count() != 101 {
		t.Error("IPv6 has no room of its own")
	}
}

func TestPenaltiesForNobody(t *testing.T) {
	p, off, ex := NewPenalties(), DefaultRules(), DefaultRules()
	off.Off = true
	ex.Exempt = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::7/128")}
	p.Add(prefix("192.0.2.1"), time.Hour, now, &off)
	p.Add(prefix("192.0.2.1"), time.Hour, now, &ex)
	p.Add(prefix("2001:db8::7"), time.Hour, now, &ex)
	p.Add(netip.Prefix{}, time.Hour, now, &Rules{Max: time.Hour, Sources4: 1, Sources6: 1})
	if p.Count() != 0 {
		t.Errorf("%d penalties", p.Count())
	}
}

// A clock that is set back by an hour does not bar anybody for longer than Max.
func TestPenaltiesClockBack(t *testing.T) {
	p, rules := NewPenalties(), DefaultRules()
	src := prefix("192.0.2.1")
	p.Add(src, rules.Crash, now, &rules)
	back := now.Add(-time.Hour)
	if !p.Barred(src, back, &rules) {
		t.Error("forgiven by the clock")
	}
	if p.Barred(src, back.Add(rules.Max), &rules) {
		t.Error("barred for longer than Max")
	}
}

func TestRulesValidate(t *testing.T) {
	if err := (Rules{}).Filled().Validate(); err != nil {
		t.Error(err)
	}
	for _, r := range []Rules{{AuthFail: -1}, {Min: time.Hour, Max: time.Minute}, {Sources4: -1}, {Sources6: -1}} {
		if r.Filled().Validate() == nil {
			t.Errorf("%+v is valid", r)
		}
	}
}
