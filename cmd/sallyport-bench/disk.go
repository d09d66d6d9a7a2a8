package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// syncTimes are what one durable append costs on the disk alone, in nanoseconds.
type syncTimes struct{ p50, p99 int64 }

// recordBytes is the size of the appends that are timed: about one decision's record.
const recordBytes = 512

// timeSync appends to a new file in dir and calls fdatasync after each append, one after another, for d: what a log that commits
// one record at a time waits for, without anything else.
func timeSync(dir string, d time.Duration) (syncTimes, error) {
	f, err := os.CreateTemp(dir, "fdatasync-")
	if err != nil {
		return syncTimes{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	record := make([]byte, recordBytes)
	for i := range record {
		record[i] = byte(i)
	}
	var took []int64
	for end := time.Now().Add(d); ; {
		begin := time.Now()
		if !begin.Before(end) && len(took) > 0 {
			break
		}
		if _, err := f.Write(record); err != nil {
			return syncTimes{}, fmt.Errorf("append to %s: %w", f.Name(), err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return syncTimes{}, fmt.Errorf("fdatasync %s: %w", f.Name(), err)
		}
		took = append(took, int64(time.Since(begin)))
	}
	slices.Sort(took)
	return syncTimes{p50: percentile(took, 50), p99: percentile(took, 99)}, nil
}

// onDisk says how many bytes are free, and refuses folders where fdatasync does nothing.
func onDisk(dir string) (free uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	switch st.Type {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return 0, fmt.Errorf("%s is in memory, where fdatasync costs nothing: give a folder on a disk with -dir", dir)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
