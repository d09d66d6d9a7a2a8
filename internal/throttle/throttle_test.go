package throttle

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	if err := (Settings{After: 1, For: 1, HardAfter: 2, HardFor: 1}).Validate(); err != nil {
		t.Errorf("the least: %v", err)
	}
	tests := []struct {
		change func(*Settings)
		says   string
	}{
		{func(s *Settings) { *s = Settings{} }, "after"},
		{func(s *Settings) { s.After = 0 }, "after"},
		{func(s *Settings) { s.After = -1 }, "after"},
		{func(s *Settings) { s.After = 101; s.HardAfter = 102 }, "after"},
		{func(s *Settings) { s.For = 0 }, "for"},
		{func(s *Settings) { s.For = -time.Second }, "for"},
		{func(s *Settings) { s.HardAfter = 5 }, "hard_after"},
		{func(s *Settings) { s.HardAfter = 101 }, "hard_after"},
		{func(s *Settings) { s.HardFor = time.Second }, "hard_for"},
		{func(s *Settings) { s.HardFor = 0 }, "hard_for"},
	}
	for _, tt := range tests {
		s := Default()
		tt.change(&s)
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.says+":") {
			t.Errorf("%+v: %v, want an error about %s", s, err, tt.says)
		}
	}
}

// The whole course of the default settings: each failure comes as soon as the lock before it has ended.
func TestCourse(t *testing.T) {
	want := map[int]time.Duration{
		1: 0, 2: 0, 3: 0, 4: 0,
		5: time.Minute, 6: time.Minute, 7: time.Minute, 8: time.Minute, 9: time.Minute,
		10: 30 * time.Minute,
		11: time.Minute, 19: time.Minute,
		20: 30 * time.Minute,
		21: time.Minute,
		30: 30 * time.Minute,
	}
	s, now := Default(), start
	var st State
	for n := 1; n <= 30; n++ {
		st = s.Failed(now, st)
		if st.Failures != n {
			t.Fatalf("%d failures, want %d", st.Failures, n)
		}
		lock, known := want[n]
		if !known {
			lock = time.Minute
		}
		locked, hard, until := s.Locked(now, st)
		if locked != (lock > 0) || hard != (lock == 30*time.Minute) {
			t.Fatalf("failure %d: locked %v, hard %v, want %v", n, locked, hard, lock)
		}
		if lock == 0 {
			continue
		}
		if !until.Equal(now.Add(lock)) {
			t.Fatalf("failure %d: locked until %v, want %v", n, until, now.Add(lock))
		}
		if still, _, _ := s.Locked(until.Add(-1), st); !still {
			t.Fatalf("failure %d: free before the end of the lock", n)
		}
		if still, hard, _ := s.Locked(until, st); still || hard {
			t.Fatalf("failure %d: locked at the end of the lock", n)
		}
		now = until
	}
	if st = s.Succeeded(st); st != (State{}) {
		t.Fatalf("after a success: %+v, want nothing remembered", st)
	}
}

func TestFailedEdges(t *testing.T) {
	s := Default()
	tests := []struct {
		name  string
		s     Settings
		now   time.Time
		from  State
		want  State
		until time.Duration // from start; zero: as from
	}{
		{"forgotten settings are the default", Settings{}, start, State{Failures: 4}, State{Failures: 5}, time.Minute},
		{"half-forgotten settings", Settings{After: 2}, start, State{Failures: 1}, State{Failures: 2}, time.Minute},
		{"negative settings", Settings{-1, -1, -1, -1}, start, State{Failures: 9}, State{Failures: 10}, 30 * time.Minute},
		{"a count below zero is none", s, start, State{Failures: -7}, State{Failures: 1}, 0},
		{"the count does not wrap", s, start, State{Failures: math.MaxInt32}, State{Failures: math.MaxInt32}, time.Minute},
		{"a longer lock stays", s, start, State{10, start.Add(time.Hour)}, State{Failures: 11}, time.Hour},
		{"a lock that has ended is replaced", s, start, State{5, start.Add(-time.Hour)}, State{Failures: 6}, time.Minute},
		{"whole milliseconds, upwards", s, start.Add(1), State{Failures: 4}, State{Failures: 5}, time.Minute + time.Millisecond},
	}
	for _, tt := range tests {
		got := tt.s.Failed(tt.now, tt.from)
		want := tt.want
		if want.Until = tt.from.Until; tt.until != 0 {
			want.Until = start.Add(tt.until)
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, want)
		}
	}
}

// A lock ends by the clock on the wall, as it does after a restart, and not by the process's own.
func TestUntilIsWallTime(t *testing.T) {
	now := time.Now()
	for _, now := range []time.Time{now, now.Add(-time.Duration(now.Nanosecond()))} {
		st := Default().Failed(now.In(time.FixedZone("", 3600)), State{Failures: 4})
		if st.Until != st.Until.Round(0).UTC() {
			t.Errorf("until %v is not plain UTC", st.Until)
		}
	}
}

// A lock that was laid on while the hard one ran keeps its name, also near its end.
func TestHardIsSaidThroughout(t *testing.T) {
	s := Default()
	st := s.Failed(start, State{Failures: 9})
	for _, at := range []time.Duration{0, time.Minute, 29*time.Minute + 59*time.Second} {
		if locked, hard, _ := s.Locked(start.Add(at), st); !locked || !hard {
			t.Errorf("after %v: locked %v, hard %v", at, locked, hard)
		}
	}
	st = s.Failed(start, st) // an attempt that was under way
	if _, hard, _ := s.Locked(start.Add(time.Minute), st); !hard {
		t.Error("a further failure made the hard lock a soft one")
	}
}

// Whatever happens, in whatever order, with a clock that jumps: nobody is free before the end that was set; only a
// success clears the count; a lock is as long as the settings say; and the state is what a record can hold.
func TestThrottleProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Settings{
			After:   rapid.IntRange(1, 8).Draw(t, "after"),
			For:     time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "for")),
			HardFor: 0,
		}
		s.HardAfter = s.After + rapid.IntRange(1, 8).Draw(t, "more")
		s.HardFor = s.For + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "longer"))
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}

		now, count := time.Now(), 0 // with its monotonic clock, which must not reach the state
		var st State
		var until time.Time // the latest end of a lock so far
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.Int64Range(int64(-2*time.Hour), int64(2*time.Hour)).Draw(t, "jump")))
			switch rapid.IntRange(0, 6).Draw(t, "event") {
			case 0:
				if locked, _, _ := s.Locked(now, st); !locked { // as the gate does it
					st, count, until = s.Succeeded(st), 0, time.Time{}
				}
			default:
				st = s.Failed(now, st)
				count++
				lock := time.Duration(0)
				if count >= s.After {
					lock = s.For
				}
				if count%s.HardAfter == 0 {
					lock = s.HardFor
				}
				if end := now.Add(lock); lock > 0 && end.After(until) {
					until = end
				}
			}
			if st.Failures != count {
				t.Fatalf("%d failures, want %d", st.Failures, count)
			}
			if st.Until.Before(until) || st.Until.Sub(until) >= time.Millisecond {
				t.Fatalf("locked until %v, want %v", st.Until, until)
			}
			locked, hard, end := s.Locked(now, st)
			if now.Before(until) && !locked {
				t.Fatalf("free at %v, before %v", now, until)
			}
			if hard && !locked || locked && end != st.Until || !locked && !end.IsZero() {
				t.Fatalf("locked %v, hard %v until %v: %+v", locked, hard, end, st)
			}
			// What a record holds: RFC 3339 with milliseconds, in UTC.
			const form = "2006-01-02T15:04:05.000Z07:00"
			if back, err := time.Parse(form, st.Until.Format(form)); err != nil || (State{st.Failures, back}) != st {
				t.Fatalf("%+v becomes %v, %v when it is replayed", st, back, err)
			}
		}
	})
}
