package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sys/unix"
)

// procTick is one of proc(5)'s clock ticks: USER_HZ is 100 on every Linux that Go knows.
const procTick = 10 * time.Millisecond

// parseFamily reads from /proc/PID/stat the CPU time of a process and of those children that it has waited for, and of
// theirs. The kernel scales it to what the scheduler has counted, so that it is exact in sum.
func parseFamily(stat []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, fmt.Errorf("process status %q has no command name", stat)
	}
	fields := strings.Fields(string(stat[end+1:]))
	const first, last = 11, 14 // utime, stime, cutime, cstime
	if len(fields) <= last {
		return 0, fmt.Errorf("process status %q is cut short", stat)
	}
	var sum time.Duration
	for _, f := range fields[first : last+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("times: %w", err)
		}
		sum += time.Duration(n) * procTick
	}
	return sum, nil
}

// reaperWord is the hidden subcommand that runs another program and waits for all that it leaves behind. The process of sshd
// that serves a client is left behind when the client goes, and its CPU time would be nobody's.
const reaperWord = "reaper"

func runReaper(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("want a program")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	pid, err := syscall.ForkExec(args[0], args, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}, Env: os.Environ()})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(pid, syscall.SIGTERM) })
	defer stop()
	for {
		var status syscall.WaitStatus
		switch ended, err := syscall.Wait4(-1, &status, 0, nil); {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return err
		case ended == pid && ctx.Err() == nil:
			return fmt.Errorf("%s ended: %d", args[0], status.ExitStatus())
		case ended == pid:
			return nil
		}
	}
}

// spent is a party's CPU time once it has nothing left to do. Of a party whose children work, they have ended then.
func (p *sshParty) spent(ctx context.Context) (time.Duration, error) {
	if p.srv == nil {
		return 0, nil
	}
	if !p.kids {
		used, settled, err := settle(ctx, p.srv.pid(), settleFor)
		if err == nil && !settled {
			err = fmt.Errorf("%s was still at work after %s", p.name, settleFor)
		}
		return used, err
	}
	for end := time.Now().Add(settleFor); ; {
		kids, err := childrenOf(p.srv.pid())
		if err != nil {
			return 0, err
		}
		if len(kids) <= 1 { // the one that listens
			return familyTime(append(kids, p.srv.pid())...)
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("%s still has processes after %s", p.name, settleFor)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

func familyTime(pids ...int) (sum time.Duration, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		d, err := parseFamily(stat)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// childrenOf lists a process's children and theirs.
func childrenOf(pid int) (all []int, err error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(text)) {
			kid, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			more, err := childrenOf(kid)
			if err != nil {
				return nil, err
			}
			all = append(append(all, kid), more...)
		}
	}
	return all, nil
}

// parseSmaps sums Rss and Pss of /proc/PID/smaps_rollup, in bytes.
func parseSmaps(text []byte) (rss, pss int64, err error) {
	found := 0
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if key != "Rss" && key != "Pss" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", key, err)
		}
		if found++; key == "Rss" {
			rss = kib << 10
		} else {
			pss = kib << 10
		}
	}
	if found != 2 {
		return 0, 0, errors.New("no Rss and Pss")
	}
	return rss, pss, nil
}

// footprint is what a party's processes have resident, in bytes: Pss counts what several share in parts.
func (p *sshParty) footprint() (rss, pss int64, processes int, err error) {
	pids := []int{p.srv.pid()}
	if p.kids {
		kids, err := childrenOf(p.srv.pid())
		if err != nil {
			return 0, 0, 0, err
		}
		pids = kids
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, 0, 0, err
		}
		r, s, err := parseSmaps(text)
		if err != nil {
			return 0, 0, 0, fmt.Errorf("process %d: %w", pid, err)
		}
		rss, pss = rss+r, pss+s
	}
	return rss, pss, len(pids), nil
}

// hashCost is the CPU time of hashing one password, as the gateway does it here: with every core at work, of which two may be one.
func hashCost() time.Duration {
	const times = 40
	salt := []byte("sixteen bytes...")
	hash := func() {
		argon2.IDKey([]byte("the password of person0 5513"), salt, hashIterations, hashMemoryKiB, 1, 32)
	}
	hash()
	before := ownCPU()
	var work sync.WaitGroup
	for range runtime.NumCPU() {
		work.Go(func() {
			for range times {
				hash()
			}
		})
	}
	work.Wait()
	return (ownCPU() - before) / time.Duration(times*runtime.NumCPU())
}

// signalled tells that a server ended by the signal that asked it to.
func (s *server) signalled() bool {
	select {
	case <-s.exited:
	default:
		return false
	}
	var status *exec.ExitError
	if !errors.As(s.status, &status) {
		return true
	}
	w, ok := status.Sys().(syscall.WaitStatus)
	return ok && w.Signaled() && w.Signal() == syscall.SIGTERM
}

// moduleVersion is the version of a module that this program is made of.
func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "of an unknown version"
}
