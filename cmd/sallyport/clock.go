package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"sallyport/internal/audit"
)

// Codes and records stand on the clock, so what is known of it is on record: at the start, every hour, whenever that changes, and
// whenever somebody has set the clock.

// The events of the clock.
const (
	EventClock     = "clock.state"
	EventClockStep = "clock.step"
)

const (
	clockEvery   = time.Hour        // between records of how it stands
	lookAtClock  = 10 * time.Second // between looks at it
	clockStep    = time.Second      // a difference to monotonic time that no correction by rate makes between two looks
	reasonUnsync = "clock_not_synchronised"
	reasonStep   = "clock_was_set"
)

// clockState is what the kernel knows of the clock (adjtimex(2)).
type clockState struct {
	Known    bool
	Synced   bool
	Offset   time.Duration // to the source of time, as the kernel was last told
	MaxError time.Duration
}

func readClock() clockState {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	if err != nil {
		return clockState{}
	}
	const timeError, staUnsync, staNano = 5, 0x40, 0x2000
	unit := time.Microsecond
	if tx.Status&staNano != 0 {
		unit = time.Nanosecond
	}
	return clockState{
		Known: true, Synced: state != timeError && tx.Status&staUnsync == 0,
		Offset: time.Duration(tx.Offset) * unit, MaxError: time.Duration(tx.Maxerror) * time.Microsecond,
	}
}

// detail is what records say of it.
func (s clockState) detail() []audit.Detail {
	if !s.Known {
		return []audit.Detail{{Key: "clock_synced", Value: "unknown"}}
	}
	return []audit.Detail{
		{Key: "clock_synced", Value: yesNo(s.Synced)},
		{Key: "clock_offset_us", Value: strconv.FormatInt(s.Offset.Microseconds(), 10)},
		{Key: "clock_max_error_us", Value: strconv.FormatInt(s.MaxError.Microseconds(), 10)},
	}
}

// clockWatch looks at the clock. Its look is called by one goroutine.
type clockWatch struct {
	read   func() clockState
	wall   func() time.Time
	ticked func() time.Duration // monotonic time
	record func(ctx context.Context, event string, result audit.Result, reason string, detail ...audit.Detail) error

	begun    bool
	before   clockState
	told     time.Duration // monotonic, when it was last on record
	lastWall time.Time
	lastTick time.Duration

	mu    sync.Mutex
	state clockState // guarded by mu
	steps int        // guarded by mu: how often it was set
}

func newClockWatch(record func(context.Context, string, audit.Result, string, ...audit.Detail) error) *clockWatch {
	start := time.Now()
	return &clockWatch{read: readClock, wall: time.Now, ticked: func() time.Duration { return time.Since(start) }, record: record}
}

// look compares what the clock did since the last look with monotonic time, and what the kernel says with what it said.
func (w *clockWatch) look(ctx context.Context) error {
	state, wall, tick := w.read(), w.wall().Round(0), w.ticked()
	w.mu.Lock()
	w.state = state
	w.mu.Unlock()
	if !w.begun {
		// The start's own record has said how it stands.
		w.begun, w.before, w.told, w.lastWall, w.lastTick = true, state, tick, wall, tick
		return nil
	}
	step := wall.Sub(w.lastWall) - (tick - w.lastTick)
	w.lastWall, w.lastTick = wall, tick
	if step.Abs() > clockStep {
		w.mu.Lock()
		w.steps++
		w.mu.Unlock()
		err := w.record(ctx, EventClockStep, audit.Error, reasonStep, append(state.detail(), audit.Detail{Key: "step_ms", Value: strconv.FormatInt(step.Milliseconds(), 10)})...)
		if err != nil {
			return err
		}
	}
	changed := state.Synced != w.before.Synced || state.Known != w.before.Known
	if !changed && tick-w.told < clockEvery {
		return nil
	}
	result, reason := audit.Info, "ok"
	if !state.Known || !state.Synced {
		result, reason = audit.Error, reasonUnsync
	}
	if err := w.record(ctx, EventClock, result, reason, state.detail()...); err != nil {
		return err
	}
	w.before, w.told = state, tick
	return nil
}

// standing is how the clock stands, and how often it was set since the start.
func (w *clockWatch) standing() (clockState, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state, w.steps
}

// attention is what somebody should know of it.
func (w *clockWatch) attention() (list []string) {
	state, steps := w.standing()
	if state.Known && !state.Synced {
		list = append(list, "the clock is not synchronised: codes and times in records depend on it (hint: chronyd, systemd-timesyncd or ntpd)")
	}
	if steps > 0 {
		list = append(list, "the clock was set "+strconv.Itoa(steps)+" times since the start: `sallyport audit search --event "+EventClockStep+"`")
	}
	return list
}

// register adds the metrics of the clock.
func (w *clockWatch) register(r *prometheus.Registry) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sallyport_clock_synchronised", Help: "1 when the kernel says that the clock is synchronised",
		}, func() float64 {
			if state, _ := w.standing(); state.Known && state.Synced {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sallyport_clock_offset_seconds", Help: "The clock's offset to its source, as the kernel was last told",
		}, func() float64 { state, _ := w.standing(); return state.Offset.Seconds() }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sallyport_clock_steps_total", Help: "Times that the clock was set by more than a second",
		}, func() float64 { _, steps := w.standing(); return float64(steps) }),
	)
}

// tendClock looks at the clock until ctx ends.
func (g *gateway) tendClock(ctx context.Context) error {
	tick := time.NewTicker(lookAtClock)
	defer tick.Stop()
	for {
		if err := g.clock.look(ctx); err != nil && ctx.Err() == nil {
			g.slog.Error("how the clock stands could not be recorded", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
