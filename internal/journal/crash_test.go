package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// files is a journal's folder as bytes.
type files map[string][]byte

func load(t *testing.T, dir string) files {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	fs := files{}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fs[n.Name()] = b
	}
	return fs
}

// lay makes dir hold fs and nothing else. It leaves alone what is right already.
func (fs files) lay(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	there := load(t, dir)
	for name, b := range there {
		if want, ok := fs[name]; !ok || !slices.Equal(want, b) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			delete(there, name)
		}
	}
	for name, b := range fs {
		if _, ok := there[name]; ok {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (fs files) with(name string, b []byte) files {
	c := maps.Clone(fs)
	c[name] = b
	return c
}

// reopen opens a copy of the folder as after a crash, and returns the entries. They must be the first of want; what
// it leaves must verify, and take further entries.
func reopen(t *testing.T, dir string, want []string) (got []string, repaired *Repair, err error) {
	t.Helper()
	j, err := Open(quick(dir))
	if err != nil {
		return nil, nil, err
	}
	defer j.Close()
	got = entries(t, j)
	if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
		t.Fatalf("entries were invented: %q, want a prefix of %q", got, want)
	}
	mustVerify(t, dir, len(got))
	if i, _, err := appendOne(j, "more"); err != nil || i != uint64(len(got)) {
		t.Fatalf("append after repair: %d, %v", i, err)
	}
	return got, j.Repaired(), nil
}

// P2, P3: the last write stops at any byte. All whole entries are there, none is invented, and the cut is said.
func TestTornAtEveryByte(t *testing.T) {
	t.Parallel()
	for _, reserved := range []bool{false, true} {
		t.Run(fmt.Sprintf("reserved=%v", reserved), func(t *testing.T) {
			o := quick(t.TempDir())
			o.SegmentBytes = 250
			j := mustOpen(t, o)
			want := numbered(0, 14)
			appendBatch(t, j, want[:8]...)
			at := appendBatch(t, j, want[8:]...)
			fs := load(t, o.Dir)
			last := segmentName(at[0].Segment)
			if at[0].Segment == 0 {
				t.Fatal("one segment only")
			}
			b := fs[last]
			end := int(at[5].Offset) + frameHeader + len(want[13])
			dir := t.TempDir()
			for cut := segmentHeader; cut <= end; cut++ {
				torn := slices.Clone(b[:cut])
				if reserved {
					torn = append(torn, make([]byte, 100)...)
				}
				fs.with(last, torn).lay(t, dir)
				whole := 8
				clean := int64(segmentHeader)
				for i, p := range at {
					if n := p.Offset + frameHeader + int64(len(want[8+i])); n <= int64(cut) {
						whole, clean = 9+i, n
					}
				}
				got, repaired, err := reopen(t, dir, want)
				if err != nil || len(got) != whole {
					t.Fatalf("cut at %d: %d entries, want %d: %v", cut, len(got), whole, err)
				}
				if torn := strings.TrimRight(string(b[clean:cut]), "\x00"); torn == "" {
					if repaired != nil {
						t.Fatalf("cut at %d, between entries: %v", cut, repaired)
					}
				} else if repaired == nil || *repaired != (Repair{at[0].Segment, clean, int64(len(torn))}) {
					t.Fatalf("cut at %d: repaired %v, want %d bytes from %d", cut, repaired, len(torn), clean)
				}
			}
		})
	}
}

// P2, P3: of the last batch, which nobody was told of, any blocks may be on disk and any not. That is always a torn
// tail. One block gone from a batch before it is always damage, for somebody relies on it.
func TestTornInAnyOrder(t *testing.T) {
	t.Parallel()
	const block = 32
	o := quick(t.TempDir())
	j := mustOpen(t, o)
	want := numbered(0, 12)
	before := appendBatch(t, j, want[:6]...)
	at := appendBatch(t, j, want[6:]...)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	fs := load(t, o.Dir)
	name := segmentName(0)
	b := fs[name]
	dir := t.TempDir()
	from := int(at[0].Offset)
	blocks := (len(b) - from + block - 1) / block
	for lost := range 1 << min(blocks, 10) {
		torn := slices.Clone(b)
		for i := range blocks {
			if lost>>i&1 == 1 {
				clear(torn[from+i*block : min(from+(i+1)*block, len(b))])
			}
		}
		fs.with(name, torn).lay(t, dir)
		got, repaired, err := reopen(t, dir, want)
		if err != nil || len(got) < 6 || (lost == 0) != (len(got) == 12 && repaired == nil) {
			t.Fatalf("blocks %b lost: %d entries, %v, %v", lost, len(got), repaired, err)
		}
	}
	for i := segmentHeader; i < from; i++ {
		broken := slices.Clone(b)
		broken[i] ^= 0x40
		fs.with(name, broken).lay(t, dir)
		_, _, err := reopen(t, dir, want)
		k, _ := slices.BinarySearchFunc(before, int64(i), func(p Position, i int64) int {
			if p.Offset <= i {
				return -1
			}
			return 1
		})
		var d *Damage
		if !errors.As(err, &d) || d.File != name || d.Offset != before[k-1].Offset || d.Tail {
			t.Fatalf("byte %d changed in an acknowledged entry: %v, want damage at %d", i, err, before[k-1].Offset)
		}
		after, _ := os.ReadFile(filepath.Join(dir, name))
		if !slices.Equal(after, broken) {
			t.Fatalf("byte %d: a refused journal was changed", i)
		}
		r := quick(dir)
		r.ReadOnly = true
		if _, err := Open(r); !errors.As(err, &d) {
			t.Fatalf("byte %d: read-only open: %v", i, err)
		}
	}
}

// Damage in a finished segment is found by whoever reads it, and named.
func TestDamageInFinishedSegment(t *testing.T) {
	o := quick(t.TempDir())
	o.SegmentBytes = 100
	j := mustOpen(t, o)
	var at []Position
	for _, e := range numbered(0, 9) {
		at = append(at, appendBatch(t, j, e)...)
	}
	path := filepath.Join(o.Dir, segmentName(at[0].Segment))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1 // its last entry: a torn tail, were it the last segment
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var d *Damage
	if err := j.Scan(0, func(uint64, Position, []byte) error { return nil }); !errors.As(err, &d) || d.File != segmentName(0) {
		t.Errorf("scan: %v", err)
	}
	_, problems := Verify(o.Dir)
	if len(problems) != 1 || !errors.As(problems[0], &d) || d.Tail {
		t.Errorf("verify: %v", problems)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(b)-1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); !errors.As(err, &d) {
		t.Errorf("open with a finished segment cut: %v", err)
	}
}

// P8: a segment that is missing is noticed at the start, not only by Verify, also when its neighbours are alike.
func TestMissingSegment(t *testing.T) {
	o := quick(t.TempDir())
	o.SegmentBytes = 100
	j := mustOpen(t, o)
	for range 9 {
		appendBatch(t, j, "twenty bytes of text")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	fs := load(t, o.Dir)
	for name := range fs {
		if name == segmentName(8) {
			continue // the last: a shorter log
		}
		rest := maps.Clone(fs)
		delete(rest, name)
		rest.lay(t, o.Dir)
		var d *Damage
		if _, err := Open(o); !errors.As(err, &d) || !strings.Contains(err.Error(), "missing") {
			t.Errorf("open without %s: %v", name, err)
		}
	}
}

// A crash between making a segment's file and naming it leaves nothing to read.
func TestUnfinishedFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, quick(dir))
	appendBatch(t, j, "a")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	mine := []string{segmentName(1) + unfinished, snapshotName(1) + unfinished}
	for _, n := range append(mine, "notes.tmp") {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustVerify(t, dir, 1)
	j = mustOpen(t, quick(dir))
	if got := entries(t, j); !slices.Equal(got, []string{"a"}) {
		t.Errorf("have %q", got)
	}
	fs := load(t, dir)
	if fs["notes.tmp"] == nil || fs[mine[0]] != nil || fs[mine[1]] != nil {
		t.Errorf("left: %v", slices.Sorted(maps.Keys(fs)))
	}
}

const (
	childEnv = "JOURNAL_TEST_CHILD"
	childDir = "JOURNAL_TEST_DIR"
)

// children are what the test binary does when it is started by a test.
var children = map[string]func(dir string){
	"append": childAppend,
	"limit":  childLimit,
	"lock":   childLock,
}

func child(t *testing.T, what, dir string) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Env = append(os.Environ(), childEnv+"="+what, childDir+"="+dir)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, in, bufio.NewReader(out)
}

// childAppend appends from several goroutines for ever and says which index each acknowledged entry has.
func childAppend(dir string) {
	j, err := Open(Options{Dir: dir, SegmentBytes: 8000})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	var wg sync.WaitGroup
	var out sync.Mutex
	for g := range 6 {
		wg.Go(func() {
			for i := 0; ; i++ {
				e := fmt.Sprintf("%d/%d/%d/%s", os.Getpid(), g, i, strings.Repeat("x", i%50))
				index, _, err := appendOne(j, e)
				if err != nil {
					fmt.Println("error", err)
					return
				}
				out.Lock()
				fmt.Println(index, e)
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

// P2, P3: a process killed with SIGKILL under load, again and again: every entry that it acknowledged is there.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[uint64]string{}
	for round := range 6 {
		c, _, out := child(t, "append", dir)
		stop := 1 + rand.IntN(400)
		for n := 0; ; n++ {
			if n == stop {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			line, err := out.ReadString('\n')
			if err != nil {
				break
			}
			var index uint64
			var e string
			if _, err := fmt.Sscan(line, &index, &e); err != nil {
				t.Fatalf("child says %q", line)
			}
			if old, ok := acknowledged[index]; ok {
				t.Fatalf("index %d was given twice: %q and %q", index, old, e)
			}
			acknowledged[index] = e
		}
		_ = c.Wait() // killed
		j := mustOpen(t, Options{Dir: dir, SegmentBytes: 8000})
		got := entries(t, j)
		for index, e := range acknowledged {
			if index >= uint64(len(got)) || got[index] != e {
				t.Fatalf("round %d: acknowledged entry %d %q is lost", round, index, e)
			}
		}
		for index := len(acknowledged); index < len(got); index++ {
			if strings.Count(got[index], "/") != 3 {
				t.Fatalf("round %d: entry %d %q was invented", round, index, got[index])
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, dir, len(got))
	}
}

// childLimit appends until its limit on the size of a file refuses, and says how many entries were acknowledged.
func childLimit(dir string) {
	// The kernel sends SIGXFSZ too; Go's runtime lets the write fail.
	limit := syscall.Rlimit{Cur: 20000, Max: 20000}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println("error", err)
		return
	}
	j, err := Open(Options{Dir: dir})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	n := 0
	for {
		if _, _, err = appendOne(j, strings.Repeat("y", 333)); err != nil {
			break
		}
		n++
	}
	_, _, again := appendOne(j, "small")
	fmt.Println(n, errors.Is(err, ErrFailed), errors.Is(err, syscall.EFBIG), errors.Is(again, ErrFailed), j.Close() != nil)
}

// P4: the kernel itself refuses to let the file grow. The journal ends, and what it acknowledged is there, and no more.
func TestFileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	c, _, out := child(t, "limit", dir)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("child: %v", err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	const want = (20000 - segmentHeader) / (333 + frameHeader)
	if line != fmt.Sprintf("%d true true true true\n", want) {
		t.Fatalf("child says %q, want %d entries", line, want)
	}
	j := mustOpen(t, quick(dir))
	if got := entries(t, j); len(got) != want || j.Repaired() != nil {
		t.Errorf("%d entries, repaired %v", len(got), j.Repaired())
	}
}
