package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// keysRun is the round trip of keystrokes by one way.
type keysRun struct {
	Way    string  `json:"way"`
	Repeat int     `json:"repeat"`
	Keys   int     `json:"keys"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	CPU    float64 `json:"cpu_us_per_key"` // of the party in the middle
}

const (
	keysRepeats = 8
	keysEach    = 400
)

// measureKeys types in terminals that are all open for the whole time, one after the other.
func (r *sshRig) measureKeys(ctx context.Context) error {
	ways := r.ways()
	open := make([]*echo, len(ways))
	defer func() {
		for _, e := range open {
			if e != nil {
				e.close()
			}
		}
	}()
	for i, w := range ways {
		var err error
		if open[i], err = r.openEcho(w, r.people[0]); err != nil {
			return err
		}
	}
	for repeat := range keysRepeats {
		for i := range ways {
			i = (i + repeat) % len(ways)
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.keys(ways[i], open[i], repeat+1); err != nil {
				return fmt.Errorf("%s: %w", ways[i].name, err)
			}
		}
	}
	return nil
}

func (r *sshRig) keys(w sshWay, e *echo, repeat int) error {
	srv := r.parties[w.party].srv
	for range 50 {
		if _, err := e.key(); err != nil {
			return err
		}
	}
	used := func() time.Duration { return 0 }
	if srv != nil && !r.parties[w.party].kids {
		used = func() time.Duration { d, _ := cpuTime(srv.pid()); return d }
	}
	before := used()
	took := make([]int64, keysEach)
	for i := range took {
		d, err := e.key()
		if err != nil {
			return err
		}
		took[i] = int64(d)
	}
	run := keysRun{Way: w.name, Repeat: repeat, Keys: keysEach, CPU: micros(used()-before) / keysEach}
	slices.Sort(took)
	run.P50, run.P99 = float64(percentile(took, 50))/1e3, float64(percentile(took, 99))/1e3
	r.SSH.Keys = append(r.SSH.Keys, run)
	r.say("%d/%d  %-22s  key p50 %4.0f us  p99 %5.0f us  %4.0f CPU us", repeat, keysRepeats, w.name, run.P50, run.P99, run.CPU)
	return nil
}

// loginsRun is many logins, sshPeople at a time.
type loginsRun struct {
	Way    string  `json:"way"`
	Only   bool    `json:"authenticate_only"`
	Repeat int     `json:"repeat"`
	Logins int     `json:"logins"`
	PerSec float64 `json:"per_s"`
	P50    float64 `json:"p50_ms"`
	CPU    float64 `json:"cpu_ms"` // of the party in the middle, idle to idle, a login
}

const loginsEach = 25 // of each person

func (r *sshRig) measureLogins(ctx context.Context) error {
	var hashes []float64
	defer func() { r.SSH.Hash = spreadOf(hashes).Median }()
	for repeat := range r.repeats {
		hashes = append(hashes, micros(hashCost())/1e3)
		for _, only := range []bool{true, false} {
			ways := r.ways()
			if only { // to log in is the same by all ways of one party
				ways = r.ways(wayDirect, waySSHD, wayJump, wayProxied)
			}
			for _, w := range ways {
				if err := r.logins(ctx, w, only, repeat+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *sshRig) logins(ctx context.Context, w sshWay, only bool, repeat int) error {
	party := r.parties[w.party]
	each := loginsEach
	if r.quick {
		each = 3
	}
	one := func(p *sshPerson) error {
		if only {
			c, err := r.enter(w, p)
			if err != nil {
				return err
			}
			return c.Close()
		}
		v, err := r.visit(w, p)
		if err != nil {
			return err
		}
		defer v.close()
		return v.run("true")
	}
	if err := one(r.people[0]); err != nil { // the first is not like the others
		return err
	}
	before, err := party.spent(ctx)
	if err != nil {
		return err
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		took []int64
		errs []error
	)
	begin := time.Now()
	for _, p := range r.people {
		wg.Go(func() {
			for range each {
				start := time.Now()
				err := one(p)
				mu.Lock()
				took, errs = append(took, int64(time.Since(start))), append(errs, err)
				mu.Unlock()
				if err != nil || ctx.Err() != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	lasted := time.Since(begin)
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return err
	}
	after, err := party.spent(ctx)
	if err != nil {
		return err
	}
	slices.Sort(took)
	n := float64(len(took))
	run := loginsRun{
		Way: w.name, Only: only, Repeat: repeat, Logins: len(took), PerSec: n / lasted.Seconds(), P50: float64(percentile(took, 50)) / 1e6, CPU: micros(after-before) / 1e3 / n,
	}
	r.SSH.Logins = append(r.SSH.Logins, run)
	r.say("%d/%d  %-22s  %-17s  %5.1f logins/s  p50 %5.0f ms  %5.2f CPU ms", repeat, r.repeats, w.name, run.what(), run.PerSec, run.P50, run.CPU)
	return nil
}

func (l loginsRun) what() string {
	if l.Only {
		return "authenticate only"
	}
	return "and run true"
}

// idleRun is what sessions cost that do nothing.
type idleRun struct {
	Way       string  `json:"way"`
	Sessions  int     `json:"sessions"`
	Processes int     `json:"processes"` // beyond those that are there without sessions
	RSS       float64 `json:"rss_kib"`   // a session
	PSS       float64 `json:"pss_kib"`
	Open      float64 `json:"cpu_ms_to_open"`
}

// idleFor is how long the sessions are idle before memory is looked at: what servers give back to the system, they have given then.
const idleFor = 15 * time.Second

// measureIdle measures each way with a party that was just started, since memory once taken is slow to go.
func (r *sshRig) measureIdle(ctx context.Context) error {
	for _, w := range r.ways(waySSHD, wayJump, wayProxy, wayBoth, wayOpaque, wayRecordedJump, wayProxied, wayRecorded) {
		n := r.idle
		if w.party == partySSHD {
			n = min(n, 100)
		}
		if err := r.restart(ctx, w.party); err != nil {
			return err
		}
		if err := r.idleBy(ctx, w, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *sshRig) idleBy(ctx context.Context, w sshWay, n int) error {
	party := r.parties[w.party]
	before, err := party.spent(ctx)
	if err != nil {
		return err
	}
	rss0, pss0, processes0, err := party.footprint()
	if err != nil {
		return err
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		open []*echo
		errs []error
	)
	defer func() {
		for _, e := range open {
			wg.Go(e.close)
		}
		wg.Wait()
	}()
	for i, p := range r.people {
		wg.Go(func() {
			for range (n + len(r.people) - 1 - i) / len(r.people) {
				e, err := r.openEcho(w, p)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					open = append(open, e)
				}
				mu.Unlock()
				if err != nil || ctx.Err() != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return err
	}
	run := idleRun{Way: w.name, Sessions: len(open)}
	if !party.kids {
		after, err := party.spent(ctx)
		if err != nil {
			return err
		}
		run.Open = micros(after-before) / 1e3 / float64(len(open))
	}
	if err := pause(ctx, idleFor); err != nil {
		return err
	}
	rss, pss, processes, err := party.footprint()
	if err != nil {
		return err
	}
	each := func(b int64) float64 { return float64(b) / 1024 / float64(len(open)) }
	run.RSS, run.PSS, run.Processes = each(rss-rss0), each(pss-pss0), processes-processes0
	r.SSH.Idle = append(r.SSH.Idle, run)
	r.say("%-22s  %d idle sessions  %.0f KiB RSS each (PSS %.0f)  %d processes more", w.name, run.Sessions, run.RSS, run.PSS, run.Processes)
	return nil
}
