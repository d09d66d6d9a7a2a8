package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"sallyport/internal/audit"
)

// The clock's state is on record every hour and when it changes, and so is every time that it was set; slow corrections are not.
func TestClockWatch(t *testing.T) {
	var recorded []string
	var failing error
	state := clockState{Known: true, Synced: true}
	wall, tick := time.Date(2026, 10, 25, 0, 59, 0, 0, time.UTC), time.Duration(0)
	w := &clockWatch{
		read: func() clockState { return state }, wall: func() time.Time { return wall }, ticked: func() time.Duration { return tick },
		record: func(_ context.Context, event string, result audit.Result, reason string, detail ...audit.Detail) error {
			if failing != nil {
				return failing
			}
			text := event + " " + string(result) + " " + reason
			for _, d := range detail {
				if d.Key == "step_ms" {
					text += " " + d.Value
				}
			}
			recorded = append(recorded, text)
			return nil
		},
	}
	look := func(what string, want ...string) {
		t.Helper()
		recorded = nil
		if err := w.look(t.Context()); !errors.Is(err, failing) {
			t.Fatal(err)
		}
		if !slices.Equal(recorded, want) {
			t.Errorf("%s: %q, want %q", what, recorded, want)
		}
	}
	pass := func(d time.Duration) { wall, tick = wall.Add(d), tick+d }
	look("at the start")
	pass(10 * time.Second)
	look("soon after")
	pass(time.Hour)
	look("an hour later, over the end of summer time", "clock.state info ok")
	pass(10 * time.Second)
	wall = wall.Add(900 * time.Millisecond)
	look("a slow correction")
	pass(10 * time.Second)
	wall = wall.Add(5 * time.Minute)
	look("set forward", "clock.step error clock_was_set 300000")
	pass(10 * time.Second)
	wall = wall.Add(-5 * time.Minute)
	look("set back", "clock.step error clock_was_set -300000")
	pass(10 * time.Second)
	look("and then nothing")
	state.Synced = false
	failing = errors.New("the disk is full")
	look("not synchronised, and not recorded")
	failing = nil
	look("recorded the next time", "clock.state error clock_not_synchronised")
	pass(10 * time.Second)
	look("still so")
	if list := w.attention(); len(list) != 2 {
		t.Errorf("attention: %q", list)
	}
	pass(time.Hour)
	look("still so an hour later", "clock.state error clock_not_synchronised")
	state.Synced = true
	look("well again", "clock.state info ok")
}
