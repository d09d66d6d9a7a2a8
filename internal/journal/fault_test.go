package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk counts the operations of a journal on it, and one of them goes wrong. It knows what would be left if the power
// went at that moment: of each file what was last synced, and of the names those that the folder last synced had.
type disk struct {
	t   *testing.T
	dir string

	mu      sync.Mutex
	ops     int
	breakAt int   // the operation that goes wrong; 0: none
	fault   fault // how
	broken  bool
	synced  map[uint64][]byte // inode to content
	names   map[string]uint64 // as of the last sync of the folder
}

type fault struct {
	name  string
	cause error
	short bool // the write stops halfway
	quiet bool // and says nothing
	only  string
}

var faults = []fault{
	{name: "EIO", cause: unix.EIO},
	{name: "ENOSPC halfway", cause: unix.ENOSPC, short: true},
	{name: "short write without error", cause: nil, short: true, quiet: true, only: "write"},
	{name: "EDQUOT", cause: unix.EDQUOT},
}

func newDisk(t *testing.T, breakAt int, f fault) *disk {
	return &disk{t: t, dir: t.TempDir(), breakAt: breakAt, fault: f, synced: map[uint64][]byte{}, names: map[string]uint64{}}
}

func (d *disk) options() Options {
	return Options{
		Dir: d.dir, SegmentBytes: 500, Sync: d.sync, syncDir: d.syncDir,
		wrap: func(f *os.File) segmentFile { return &diskFile{d, f} },
	}
}

// op counts an operation and says whether it goes wrong. After one that did, the disk is dead.
func (d *disk) op(kind string) bool {
	if d.broken {
		return true
	}
	if d.fault.only == "" || d.fault.only == kind {
		d.ops++
		d.broken = d.ops == d.breakAt
	}
	return d.broken
}

func (d *disk) sync(f *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.op("sync") {
		return d.fault.cause
	}
	b, err := os.ReadFile(f.Name())
	if err != nil { // it has been renamed
		b, err = os.ReadFile(strings.TrimSuffix(f.Name(), unfinished))
	}
	if err != nil {
		d.t.Errorf("sync: %v", err)
	}
	d.synced[inode(d.t, f)] = b
	return nil
}

func inode(t *testing.T, f *os.File) uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Errorf("stat: %v", err)
	}
	return st.Ino
}

func (d *disk) syncDir(folder *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.op("syncdir") {
		return d.fault.cause
	}
	if folder.Name() != d.dir {
		return nil
	}
	clear(d.names)
	list, err := os.ReadDir(d.dir)
	if err != nil {
		d.t.Error(err)
	}
	for _, e := range list {
		f, err := os.Open(filepath.Join(d.dir, e.Name()))
		if err != nil {
			d.t.Error(err)
			continue
		}
		d.names[e.Name()] = inode(d.t, f)
		_ = f.Close()
	}
	return nil
}

// afterPowerCut is the folder as the disk has it.
func (d *disk) afterPowerCut() files {
	fs := files{}
	for name, ino := range d.names {
		fs[name] = d.synced[ino]
	}
	return fs
}

type diskFile struct {
	d *disk
	f *os.File
}

func (w *diskFile) WriteAt(p []byte, off int64) (int, error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if dead := w.d.broken; w.d.op("write") {
		n := 0
		if w.d.fault.short && !dead {
			n, _ = w.f.WriteAt(p[:len(p)/2], off)
		}
		if w.d.fault.quiet && !dead {
			return n, nil
		}
		if w.d.fault.cause == nil {
			return n, unix.EIO
		}
		return n, w.d.fault.cause
	}
	return w.f.WriteAt(p, off)
}

func (w *diskFile) Truncate(size int64) error {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.d.op("truncate") {
		return unix.EIO
	}
	return w.f.Truncate(size)
}

// P2, P3, P4: each single write, sync, truncation and folder sync of a journal's life goes wrong in turn, in each way.
// The journal ends there and says why; and every entry that was acknowledged is there, whether the process is started
// again on what the kernel has, or the machine on what the disk has.
func TestEveryFaultIsFinal(t *testing.T) {
	t.Parallel()
	want := numbered(0, 24)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			struck := 0
			for at := 1; ; at++ {
				d := newDisk(t, at, f)
				acknowledged := 0
				j, err := Open(d.options())
				if err == nil {
					acknowledged = lifeUntilFault(t, j, d, want)
					err = j.Err()
				}
				if !d.broken {
					if err != nil {
						t.Fatalf("no fault, but %v", err)
					}
					break
				}
				struck++
				for what, fs := range map[string]files{"restart": load(t, d.dir), "power cut": d.afterPowerCut()} {
					dir := filepath.Join(t.TempDir(), "after")
					fs.lay(t, dir)
					got, _, err := reopen(t, dir, want)
					if err != nil || len(got) < acknowledged {
						t.Fatalf("fault at operation %d, %s: %d of %d acknowledged entries: %v",
							at, what, len(got), acknowledged, err)
					}
				}
			}
			if struck < 15 {
				t.Errorf("only %d operations went wrong", struck)
			}
		})
	}
}

// lifeUntilFault appends, restarts and appends until the disk breaks, and returns how many entries were acknowledged.
func lifeUntilFault(t *testing.T, j *Journal, d *disk, want []string) (acknowledged int) {
	t.Helper()
	for i := 0; i < len(want); i += 2 {
		a, b := j.Submit(text(want[i])), j.Submit(text(want[i+1]))
		_, _, errA := a.Wait()
		_, _, errB := b.Wait()
		if errA == nil {
			acknowledged++
		}
		if errB == nil {
			acknowledged++
		}
		if errA != nil || errB != nil {
			err := errors.Join(errA, errB)
			if !errors.Is(err, ErrFailed) || d.fault.cause != nil && !errors.Is(err, d.fault.cause) && !errors.Is(err, unix.EIO) {
				t.Fatalf("the failure does not tell its cause: %v", err)
			}
			if !d.broken {
				t.Fatalf("failed before the fault: %v", err)
			}
			break
		}
		if i == 12 { // stop and start
			if err := j.Close(); err != nil {
				return acknowledged
			}
			var err error
			if j, err = Open(d.options()); err != nil {
				return acknowledged
			}
		}
	}
	if d.broken && j.Err() != nil {
		if _, _, err := appendOne(j, "after the failure"); !errors.Is(err, ErrFailed) {
			t.Fatalf("an entry after the failure: %v", err)
		}
		if _, err := j.Flush(); !errors.Is(err, ErrFailed) {
			t.Fatalf("Flush after the failure: %v", err)
		}
		if err := j.WriteSnapshot(0, nil); !errors.Is(err, ErrFailed) {
			t.Fatalf("a snapshot after the failure: %v", err)
		}
		if n := j.Next(); n != uint64(acknowledged) {
			t.Fatalf("readers see %d entries, %d were acknowledged", n, acknowledged)
		}
	}
	if err := j.Close(); (err != nil) != d.broken {
		t.Fatalf("Close: %v", err)
	}
	return acknowledged
}

// P3: nobody reads an entry that a power cut could take back.
func TestReadersSeeDurableEntriesOnly(t *testing.T) {
	o := quick(t.TempDir())
	held := false
	writing, goOn := make(chan struct{}), make(chan struct{})
	o.Sync = func(*os.File) error {
		if held {
			close(writing)
			<-goOn
			held = false
		}
		return nil
	}
	j := mustOpen(t, o)
	appendBatch(t, j, "a")
	pos := Position{Offset: j.end}
	h, _ := hold(j)
	held = true
	b := j.Submit(text("b"))
	go b.Wait() // commits it
	close(h.release)
	<-writing
	if _, p, err := j.Read(pos); err == nil {
		t.Errorf("read gives %q before it is synced", p)
	}
	if got := entries(t, j); !slices.Equal(got, []string{"a"}) {
		t.Errorf("scan gives %q before they are synced", got)
	}
	close(goOn)
	if _, at, err := b.Wait(); err != nil || at != pos {
		t.Fatalf("%v, %v", at, err)
	}
	if _, p, err := j.Read(pos); err != nil || string(p) != "b" {
		t.Errorf("read: %q, %v", p, err)
	}
}

// P2, P3: what a killed process left in the page cache only is on the disk, entries and names, before anybody relies on it.
func TestOpenSyncsWhatItFinds(t *testing.T) {
	for _, torn := range []string{"", "torn"} {
		o := quick(t.TempDir())
		o.SegmentBytes = 100
		j := mustOpen(t, o)
		want := numbered(0, 7)
		for _, e := range want {
			appendBatch(t, j, e)
		}
		fs := load(t, o.Dir)
		last := j.segments[len(j.segments)-1]
		name := segmentName(last.first)
		fs[name] = append(fs[name][:last.size:last.size], torn...)

		d := newDisk(t, 0, fault{})
		fs.lay(t, d.dir)
		for name, b := range fs {
			f, err := os.Open(filepath.Join(d.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if name != segmentName(last.first) { // a finished segment was synced by the writer
				d.synced[inode(t, f)] = b
			}
			_ = f.Close()
		}
		if got := entries(t, mustOpen(t, d.options())); !slices.Equal(got, want) {
			t.Fatalf("have %q", got)
		}
		after := filepath.Join(t.TempDir(), "after")
		d.afterPowerCut().lay(t, after)
		if got, _, err := reopen(t, after, want); err != nil || !slices.Equal(got, want) {
			t.Errorf("after a power cut: %q, %v", got, err)
		}
	}
}

// P4: an fdatasync that fails once and then claims success is not believed ("fsyncgate").
func TestSyncErrorIsNotRetried(t *testing.T) {
	o := quick(t.TempDir())
	fails := false
	calls := 0
	o.Sync = func(*os.File) error {
		calls++
		if fails {
			fails = false
			return unix.EIO
		}
		return nil
	}
	j := mustOpen(t, o)
	appendBatch(t, j, "a")
	h, _ := hold(j)
	fails = true
	var tickets []*Ticket
	for range 5 {
		tickets = append(tickets, j.Submit(text("b")))
	}
	before := calls
	close(h.release)
	for _, k := range tickets {
		if _, _, err := k.Wait(); !errors.Is(err, ErrFailed) || !errors.Is(err, unix.EIO) {
			t.Errorf("ticket of the failed batch: %v", err)
		}
	}
	if _, _, err := appendOne(j, "c"); !errors.Is(err, ErrFailed) {
		t.Errorf("an entry after the failure: %v", err)
	}
	if err := j.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("Close: %v", err)
	}
	if calls != before+1 {
		t.Errorf("%d syncs after the failure", calls-before-1)
	}
	if got := entries(t, j); !slices.Equal(got, []string{"a"}) {
		t.Errorf("readers see %q", got)
	}
}

// P4: a full disk leaves no half frame, says what to do, and the journal goes on after a restart with room.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	o := quick(t.TempDir())
	isFull := false
	o.wrap = func(f *os.File) segmentFile { return &fullFile{f, full, &isFull} }
	j := mustOpen(t, o)
	appendBatch(t, j, "a")
	h, _ := hold(j)
	isFull = true
	b := j.Submit(text("b"))
	close(h.release)
	if _, _, err := b.Wait(); !errors.Is(err, ErrFailed) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(fmt.Sprint(err), "hint: free space") {
		t.Errorf("append to a full disk: %v", err)
	}
	if err := j.Close(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Close: %v", err)
	}
	mustVerify(t, o.Dir, 1)
	got, repaired, err := reopen(t, o.Dir, []string{"a"})
	if err != nil || repaired != nil || len(got) != 1 {
		t.Errorf("after room was made: %q, %v, %v", got, repaired, err)
	}
}

// fullFile writes half of what it is asked for and then has /dev/full's answer for the rest.
type fullFile struct {
	*os.File
	full *os.File
	is   *bool
}

func (f *fullFile) WriteAt(p []byte, off int64) (int, error) {
	if !*f.is {
		return f.File.WriteAt(p, off)
	}
	n, err := f.File.WriteAt(p[:len(p)/2], off)
	if err != nil {
		return n, err
	}
	_, err = f.full.WriteAt(p[n:], 0)
	return n, err
}

// A disk that has no room to reserve still takes entries while it has room for them.
func TestNoRoomToReserve(t *testing.T) {
	o := quick(t.TempDir())
	o.wrap = func(f *os.File) segmentFile { return &smallDisk{f, 2000} }
	j := mustOpen(t, o)
	n := 0
	for {
		_, _, err := appendOne(j, strings.Repeat("z", 80))
		if err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			break
		}
		n++
	}
	if want := (2000 - segmentHeader) / 100; n != want {
		t.Errorf("%d entries, but there was room for %d", n, want)
	}
	mustVerify(t, o.Dir, n)
}

type smallDisk struct {
	*os.File
	room int64
}

func (f *smallDisk) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= f.room {
		return f.File.WriteAt(p, off)
	}
	n, err := f.File.WriteAt(p[:max(0, f.room-off)], off)
	if err == nil {
		err = unix.ENOSPC
	}
	return n, err
}
