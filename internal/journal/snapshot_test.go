package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, quick(dir))
	if _, _, ok, err := j.LatestSnapshot(); ok || err != nil {
		t.Fatalf("a new journal: %v, %v", ok, err)
	}
	appendBatch(t, j, numbered(0, 9)...)
	for _, n := range []uint64{2, 5, 9} {
		if err := j.WriteSnapshot(n, []byte(strings.Repeat("s", int(n)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.WriteSnapshot(10, nil); err == nil {
		t.Error("a snapshot of entries that are not there")
	}
	if err := j.WriteSnapshot(9, []byte("again")); err != nil {
		t.Errorf("the same snapshot again: %v", err)
	}
	kept := slices.Sorted(maps.Keys(load(t, dir)))
	if want := []string{segmentName(0), snapshotName(5), snapshotName(9)}; !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	next, state, ok, err := j.LatestSnapshot()
	if err != nil || !ok || next != 9 || string(state) != "again" {
		t.Errorf("latest: %d %q %v %v", next, state, ok, err)
	}
}

// A damaged newest snapshot is passed over and named; with none whole, the caller is told why.
func TestDamagedSnapshotFallsBack(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, quick(dir))
	appendBatch(t, j, numbered(0, 9)...)
	for _, n := range []uint64{5, 9} {
		if err := j.WriteSnapshot(n, []byte("state")); err != nil {
			t.Fatal(err)
		}
	}
	spoil := func(n uint64) {
		if err := os.Truncate(filepath.Join(dir, snapshotName(n)), 62); err != nil {
			t.Fatal(err)
		}
	}
	var d *Damage
	spoil(9)
	next, state, ok, err := j.LatestSnapshot()
	if !ok || next != 5 || string(state) != "state" || !errors.As(err, &d) || d.File != snapshotName(9) {
		t.Errorf("newest damaged: %d %q %v %v", next, state, ok, err)
	}
	spoil(5)
	if _, _, ok, err := j.LatestSnapshot(); ok || !errors.As(err, &d) {
		t.Errorf("both damaged: %v %v", ok, err)
	}
}

// P8: a snapshot that knows more entries than the journal shows that the journal was cut.
func TestSnapshotBeyondTheEnd(t *testing.T) {
	o := quick(t.TempDir())
	j := mustOpen(t, o)
	at := appendBatch(t, j, numbered(0, 9)...)
	if err := j.WriteSnapshot(9, []byte("state")); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(o.Dir, segmentName(0)), at[8].Offset); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, o)
	if _, _, ok, err := j.LatestSnapshot(); ok || !errors.Is(err, ErrShorter) {
		t.Errorf("latest: %v, %v", ok, err)
	}
	if _, problems := Verify(o.Dir); len(problems) != 1 || !errors.Is(problems[0], ErrShorter) {
		t.Errorf("verify: %v", problems)
	}
}

// A snapshot that cannot be written leaves the older ones, nothing half, and a journal that goes on.
func TestSnapshotFaultIsNotFinal(t *testing.T) {
	o := quick(t.TempDir())
	var fail error
	o.Sync = func(f *os.File) error {
		if strings.Contains(f.Name(), snapshotSuffix) {
			return fail
		}
		return nil
	}
	j := mustOpen(t, o)
	appendBatch(t, j, "a", "b")
	if err := j.WriteSnapshot(1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	fail = unix.ENOSPC
	if err := j.WriteSnapshot(2, []byte("two")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("snapshot on a full disk: %v", err)
	}
	if next, _, ok, err := j.LatestSnapshot(); next != 1 || !ok || err != nil {
		t.Errorf("latest: %d %v %v", next, ok, err)
	}
	if kept := slices.Sorted(maps.Keys(load(t, o.Dir))); !slices.Equal(kept, []string{segmentName(0), snapshotName(1)}) {
		t.Errorf("left %v", kept)
	}
	appendBatch(t, j, "c")
	mustVerify(t, o.Dir, 3)
}

func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	c, in, out := child(t, "lock", dir)
	if line, err := out.ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	_, err := LockDir(dir)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("process ", c.Process.Pid)) {
		t.Errorf("a folder that process %d holds: %v", c.Process.Pid, err)
	}
	if _, err := Open(Options{Dir: filepath.Join(dir, "journal")}); !errors.Is(err, ErrLocked) {
		t.Errorf("a journal that another process writes: %v", err)
	}
	r := mustOpen(t, Options{Dir: filepath.Join(dir, "journal"), ReadOnly: true})
	if got := entries(t, r); len(got) != 1 {
		t.Errorf("read-only beside the holder: %q", got)
	}
	if err := c.Process.Kill(); err != nil { // a killed holder holds nothing
		t.Fatal(err)
	}
	_ = c.Wait()
	_ = in.Close()
	unlock, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a second lock in this process: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = LockDir(dir)
	if err != nil {
		t.Fatalf("lock again: %v", err)
	}
	_ = unlock()
	o := quick(filepath.Join(dir, "journal"))
	mustOpen(t, o)
	if _, err := Open(o); !errors.Is(err, ErrLocked) {
		t.Errorf("a second writer in this process: %v", err)
	}
}

// A child that is forked has the descriptors of the journal until its program begins, here for good.
func TestLockEndsBesideFork(t *testing.T) {
	o := quick(t.TempDir())
	j, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	fork, err := unix.Dup(int(j.dir.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fork) })
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if BeingWritten(o.Dir) {
		t.Error("it has a writer after Close")
	}
	mustOpen(t, o)
	if !BeingWritten(o.Dir) {
		t.Error("it has no writer after Open")
	}
}

// Who asks whether there is a writer does not stand in the way of one.
func TestOpenBesideQuestion(t *testing.T) {
	o := quick(t.TempDir())
	asker, err := openDir(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(asker.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(3*lockPause, func() { _ = release(asker) })
	mustOpen(t, o)
}

// childLock holds a folder and the journal in it until its input ends.
func childLock(dir string) {
	if _, err := LockDir(dir); err != nil {
		println(err.Error())
		return
	}
	j, err := Open(Options{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		println(err.Error())
		return
	}
	if _, _, err := appendOne(j, "entry"); err != nil {
		println(err.Error())
		return
	}
	_, _ = os.Stdout.WriteString("locked\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// Whoever looks for the latest snapshot finds one, however fast others take its place.
func TestLatestSnapshotBesideWriter(t *testing.T) {
	t.Parallel()
	j := mustOpen(t, quick(t.TempDir()))
	appendBatch(t, j, numbered(0, 3000)...)
	if err := j.WriteSnapshot(1, []byte("state")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, _, ok, err := j.LatestSnapshot(); !ok || err != nil {
					t.Errorf("%v, %v", ok, err)
					return
				}
			}
		})
	}
	for n := uint64(2); n <= 3000; n++ {
		if err := j.WriteSnapshot(n, []byte("state")); err != nil {
			t.Error(err)
			break
		}
	}
	stop()
	wg.Wait()
}
