package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file in a locked folder. It stays when the lock is given back: removing it would let two
// processes hold locks on two files of one name.
const lockName = "lock"

// LockDir takes the folder for this process, until unlock or the process ends, however it ends (flock). The error
// wraps ErrLocked and names the holder when somebody else has it. It does not stand in the way of Open, which
// locks the journal's folder by itself.
func LockDir(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := take(f); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		return nil, fmt.Errorf("lock %s: %w by %s", dir, ErrLocked, holder(f))
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		_ = release(f)
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return func() error { return release(f) }, nil
}

const (
	lockTries = 20
	lockPause = 10 * time.Millisecond
)

// take locks f for this process alone. It tries for a moment: BeingWritten holds the lock while it asks.
func take(f *os.File) (err error) {
	for range lockTries {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		time.Sleep(lockPause)
	}
	return err
}

// release gives the lock back and closes f. Closing alone would leave it with a child of this process that is forked and has
// not begun its program yet.
func release(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

// BeingWritten tells whether a process has the journal in dir open for writing.
func BeingWritten(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer func() { _ = release(f) }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// holder reads who wrote the lock file. Its content is for people; the lock is what counts.
func holder(f *os.File) string {
	var b [32]byte
	n, _ := f.ReadAt(b[:], 0)
	pid, err := strconv.ParseUint(strings.TrimSpace(string(b[:n])), 10, 32)
	if err != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}
