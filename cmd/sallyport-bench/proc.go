package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time that all threads of a process have used so far, ended threads included: the utime plus
// stime of /proc/PID/stat, but in nanoseconds instead of ticks of 10 ms. It reads the process's CPU-time clock, whose
// id is made from the process id as clock_getcpuclockid(3) does.
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED of the kernel's posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts); err != nil {
		return 0, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// times are the user and system time of a process, in ticks of 1/100 s (proc(5)).
type times struct{ user, system int64 }

// parseStat reads /proc/PID/stat. The command's name stands in brackets and may itself hold spaces and brackets.
func parseStat(stat []byte) (times, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return times{}, fmt.Errorf("process status %q has no command name", stat)
	}
	fields := strings.Fields(string(stat[end+1:]))
	const user, system = 11, 12 // fields 14 and 15, counted from the state, which is field 3
	if len(fields) <= system {
		return times{}, fmt.Errorf("process status %q is cut short", stat)
	}
	u, err := strconv.ParseInt(fields[user], 10, 64)
	if err != nil {
		return times{}, fmt.Errorf("user time: %w", err)
	}
	s, err := strconv.ParseInt(fields[system], 10, 64)
	if err != nil {
		return times{}, fmt.Errorf("system time: %w", err)
	}
	return times{user: u, system: s}, nil
}

func readTimes(pid int) (times, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return times{}, err
	}
	return parseStat(b)
}

// memory is what a process has resident, in bytes. Anon is its own: what the page cache cannot give back.
type memory struct {
	Anon int64 `json:"anon"`
	File int64 `json:"file"`
}

func (m memory) most(o memory) memory { return memory{max(m.Anon, o.Anon), max(m.File, o.File)} }

// parseMemory reads RssAnon and RssFile of /proc/PID/status.
func parseMemory(status []byte) (memory, error) {
	var m memory
	found := 0
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		var to *int64
		switch key {
		case "RssAnon":
			to = &m.Anon
		case "RssFile":
			to = &m.File
		default:
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("%s: %w", key, err)
		}
		*to = kib << 10
		found++
	}
	if found != 2 {
		return memory{}, fmt.Errorf("process status has no RssAnon and RssFile (kernel older than 4.5?)")
	}
	return m, nil
}

func readMemory(pid int) (memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	return parseMemory(b)
}

// machine is the time that all CPUs together have spent, in ticks, by the first line of /proc/stat.
type machine struct{ total, idle, steal int64 }

func parseMachine(stat []byte) (machine, error) {
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	// cpu user nice system idle iowait irq softirq steal guest guest_nice; guest time is part of user time.
	if len(fields) < 9 || fields[0] != "cpu" {
		return machine{}, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var m machine
	for i, f := range fields[1:9] {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return machine{}, fmt.Errorf("/proc/stat field %d: %w", i+1, err)
		}
		m.total += v
		switch i {
		case 3, 4:
			m.idle += v
		case 7:
			m.steal += v
		}
	}
	return m, nil
}

func readMachine() (machine, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machine{}, err
	}
	return parseMachine(b)
}

// settle waits until a process has nothing left to do: until it used under 1 % of a CPU in each of two looks in a row.
// What it defers (an index that follows behind in small portions, say) is then done, and in its CPU time.
func settle(ctx context.Context, pid int, patience time.Duration) (used time.Duration, settled bool, err error) {
	const look = 300 * time.Millisecond // longer than the pauses between portions
	end := time.Now().Add(patience)
	used, err = cpuTime(pid)
	for quiet := 0; err == nil && quiet < 2; {
		if time.Now().After(end) {
			return used, false, nil
		}
		if err = pause(ctx, look); err != nil {
			break
		}
		var now time.Duration
		if now, err = cpuTime(pid); err != nil {
			break
		}
		if quiet++; now-used >= look/100 {
			quiet = 0
		}
		used = now
	}
	return used, err == nil, err
}

// pause waits for d, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
