// Package throttle is the arithmetic of lock-out: from the settings, the time and a person's state it makes the
// person's next state. It keeps nothing and has no clock, so that the same records always replay to the same state.
//
// A failure is counted until the next success. From the After-th on, each failure locks for For; each HardAfter-th
// locks for HardFor. RFC 4226 section 7.3 asks for such a throttle. It slows guessing and doesn't end it: with the
// defaults, somebody who holds a person's password and never tires gets 10 guesses in the first 35 minutes and about
// 135,000 in a year, each of them in the records, against a million codes of which three are good at a time. Whoever reads the
// records has to stop him.
package throttle

import (
	"fmt"
	"math"
	"time"
)

// MaxFailures bounds After and HardAfter: NIST SP 800-63B-4 section 3.2.2 sets the limit of failures in a row at
// no more than 100.
const MaxFailures = 100

// Settings say when failures lock a person out, and for how long. A field that's zero or less stands for its default,
// so that forgotten settings do not switch the throttle off.
type Settings struct {
	After     int           // failures in a row before a lock
	For       time.Duration // how long that lock lasts
	HardAfter int           // failures in a row before a hard lock, and again at each multiple
	HardFor   time.Duration // how long the hard lock lasts
}

// Default is five failures for a minute, ten for half an hour.
func Default() Settings {
	return Settings{After: 5, For: time.Minute, HardAfter: 10, HardFor: 30 * time.Minute}
}

// Validate tells what is wrong with the settings.
func (s Settings) Validate() error {
	switch {
	case s.After < 1 || s.After > MaxFailures:
		return fmt.Errorf("after: %d failures: want 1 to %d", s.After, MaxFailures)
	case s.For <= 0:
		return fmt.Errorf("for: %v: want a time above zero", s.For)
	case s.HardAfter <= s.After || s.HardAfter > MaxFailures:
		return fmt.Errorf("hard_after: %d failures: want more than after (%d), and at most %d", s.HardAfter, s.After, MaxFailures)
	case s.HardFor < s.For:
		return fmt.Errorf("hard_for: %v: want at least as long as for (%v)", s.HardFor, s.For)
	}
	return nil
}

func (s Settings) filled() Settings {
	d := Default()
	if s.After > 0 {
		d.After = s.After
	}
	if s.For > 0 {
		d.For = s.For
	}
	if s.HardAfter > 0 {
		d.HardAfter = s.HardAfter
	}
	if s.HardFor > 0 {
		d.HardFor = s.HardFor
	}
	return d
}

// State is what is remembered of a person. The zero value is a person without failures.
type State struct {
	Failures int       // in a row
	Until    time.Time // locked before this time; UTC, whole milliseconds, as the records keep it
}

// Locked tells whether the person is locked out at now, whether it is the hard lock, and until when. A clock that was
// set back lengthens a lock and never shortens it.
func (s Settings) Locked(now time.Time, st State) (locked, hard bool, until time.Time) {
	if !now.Before(st.Until) {
		return false, false, time.Time{}
	}
	s = s.filled()
	hard = st.Failures > 0 && st.Failures%s.HardAfter == 0 || st.Until.Sub(now) > s.For
	return true, hard, st.Until
}

// Failed is the state after one more failure at now. It never ends a lock earlier than it would have ended.
func (s Settings) Failed(now time.Time, st State) State {
	s = s.filled()
	if st.Failures < math.MaxInt32 { // beyond any use; no wrap round to a clean state
		st.Failures = max(st.Failures, 0) + 1
	}
	lock := time.Duration(0)
	switch {
	case st.Failures%s.HardAfter == 0:
		lock = s.HardFor
	case st.Failures >= s.After:
		lock = s.For
	}
	if lock == 0 {
		return st
	}
	if until := wholeMillis(now.Add(lock)); until.After(st.Until) {
		st.Until = until
	}
	return st
}

// Succeeded is the state after a success: clean. Whether a locked person may succeed is the caller's to decide, by
// Locked, beforehand.
func (s Settings) Succeeded(State) State { return State{} }

// wholeMillis rounds up to what a record can hold, in UTC and without the monotonic clock, so that a state that was
// replayed equals the state that was lived.
func wholeMillis(t time.Time) time.Time {
	cut := t.UTC().Truncate(time.Millisecond) // which also strips the monotonic clock
	if cut.Before(t) {
		cut = cut.Add(time.Millisecond)
	}
	return cut
}
