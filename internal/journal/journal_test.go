package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if run, ok := children[os.Getenv(childEnv)]; ok {
		run(os.Getenv(childDir))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// text is the payload of most tests' entries.
type text string

func (s text) EncodeEntry(dst []byte, _ uint64) ([]byte, error) { return append(dst, s...), nil }

func mustOpen(t *testing.T, o Options) *Journal {
	t.Helper()
	j, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// quick opens without waiting for a disk: for tests that read the files of a process that ended well.
func quick(dir string) Options {
	none := func(*os.File) error { return nil }
	return Options{Dir: dir, Sync: none, syncDir: none}
}

// held is an entry that holds the one who commits until it is let go, and then takes no index.
type held struct{ encoding, release chan struct{} }

var errHeld = errors.New("only to hold a commit")

func (h held) EncodeEntry(dst []byte, _ uint64) ([]byte, error) {
	close(h.encoding)
	<-h.release
	return dst, errHeld
}

// hold returns when a commit is being held.
func hold(j *Journal) (held, *Ticket) {
	h := held{make(chan struct{}), make(chan struct{})}
	k := j.Submit(h)
	go k.Wait() // commits, and ends with the commit
	<-h.encoding
	return h, k
}

// appendBatch appends the entries as one batch.
func appendBatch(t *testing.T, j *Journal, entries ...string) []Position {
	t.Helper()
	tickets := make([]*Ticket, len(entries))
	for i, e := range entries {
		tickets[i] = j.Submit(text(e))
	}
	at := make([]Position, len(entries))
	for i, k := range tickets {
		_, pos, err := k.Wait()
		if err != nil {
			t.Fatalf("append %q: %v", entries[i], err)
		}
		at[i] = pos
	}
	return at
}

func appendOne(j *Journal, entry string) (uint64, Position, error) {
	return j.Submit(text(entry)).Wait()
}

// entries reads the whole journal and checks that indexes have no gap and that Read agrees.
func entries(t *testing.T, j *Journal) []string {
	t.Helper()
	var got []string
	err := j.Scan(0, func(index uint64, pos Position, payload []byte) error {
		if index != uint64(len(got)) {
			t.Fatalf("entry %d came as number %d", index, len(got))
		}
		i, p, err := j.Read(pos)
		if err != nil || i != index || !bytes.Equal(p, payload) {
			t.Fatalf("read %v: entry %d %q, %v; scan has entry %d %q", pos, i, p, err, index, payload)
		}
		got = append(got, string(payload))
		return nil
	})
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	if n := j.Next(); n != uint64(len(got)) {
		t.Fatalf("Next is %d, Scan has %d", n, len(got))
	}
	return got
}

func numbered(from, to int) []string {
	var s []string
	for i := from; i < to; i++ {
		s = append(s, fmt.Sprintf("entry %d %s", i, strings.Repeat("*", i%13)))
	}
	return s
}

func mustVerify(t *testing.T, dir string, want int) {
	t.Helper()
	r, problems := Verify(dir)
	if len(problems) > 0 || r.Entries != uint64(want) {
		t.Fatalf("verify: %d entries, want %d; problems %v", r.Entries, want, problems)
	}
}

// P3: what was acknowledged is there after a close, over many segments, and whatever the batches were.
func TestEntriesStayOverRestartsAndSegments(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "journal")
	var want []string
	for round := range 4 {
		o := Options{Dir: dir, SegmentBytes: 400, MaxBatch: 3}
		j := mustOpen(t, o)
		if got := entries(t, j); !slices.Equal(got, want) {
			t.Fatalf("round %d: have %q, want %q", round, got, want)
		}
		if r := j.Repaired(); r != nil {
			t.Fatalf("round %d: repaired %v after a clean close", round, r)
		}
		more := numbered(len(want), len(want)+20)
		for _, e := range more[:5] {
			if _, _, err := appendOne(j, e); err != nil {
				t.Fatal(err)
			}
		}
		appendBatch(t, j, more[5:]...)
		want = append(want, more...)
		if got := entries(t, j); !slices.Equal(got, want) {
			t.Fatalf("round %d: have %q, want %q", round, got, want)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, dir, len(want))
	}
	segments, problems := listSegments(dir)
	if len(problems) > 0 || len(segments) < 5 {
		t.Fatalf("%d segments, problems %v", len(segments), problems)
	}
}

func TestScanFromAnyEntry(t *testing.T) {
	o := quick(t.TempDir())
	o.SegmentBytes = 200
	j := mustOpen(t, o)
	want := numbered(0, 30)
	appendBatch(t, j, want[:11]...)
	appendBatch(t, j, want[11:]...)
	for from := range len(want) + 1 {
		var got []string
		err := j.Scan(uint64(from), func(index uint64, _ Position, p []byte) error {
			got = append(got, string(p))
			return nil
		})
		if err != nil || !slices.Equal(got, want[from:]) {
			t.Fatalf("from %d: %q, %v", from, got, err)
		}
	}
	if err := j.Scan(31, nil); err == nil {
		t.Error("a scan from beyond the end is not an error")
	}
	stop := errors.New("stop")
	if err := j.Scan(0, func(uint64, Position, []byte) error { return stop }); err != stop {
		t.Errorf("scan returned %v, not the visitor's error", err)
	}
}

func TestReadRefusesWrongPositions(t *testing.T) {
	j := mustOpen(t, quick(t.TempDir()))
	at := appendBatch(t, j, "a", "bb", "ccc")
	end := at[2].Offset + frameHeader + 3
	for _, pos := range []Position{
		{}, {Offset: -1}, {Offset: at[0].Offset + 1}, {Offset: end}, {Offset: 1 << 40}, {Segment: 7, Offset: at[0].Offset},
	} {
		if i, p, err := j.Read(pos); err == nil {
			t.Errorf("read %v gave entry %d %q", pos, i, p)
		}
	}
}

func TestEntrySizes(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, quick(dir))
	var want []string
	for _, n := range []int{0, 1, readAhead - frameHeader, readAhead - frameHeader + 1, readBufferBytes, MaxPayload} {
		want = append(want, strings.Repeat("s", n))
	}
	appendBatch(t, j, want...) // above flushBytes: more than one write
	if _, _, err := appendOne(j, strings.Repeat("s", MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an entry above the bound: %v", err)
	}
	if got := entries(t, j); !slices.Equal(got, want) {
		t.Error("entries of all sizes did not come back")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, dir, len(want))
	if got := entries(t, mustOpen(t, quick(dir))); !slices.Equal(got, want) {
		t.Error("entries of all sizes did not come back after a restart")
	}
}

type shrinking struct{}

func (shrinking) EncodeEntry(dst []byte, _ uint64) ([]byte, error) { return dst[:0], nil }

// An encoder's fault costs its own entry only; the next one gets the index.
func TestEncoderErrorTakesNoIndex(t *testing.T) {
	j := mustOpen(t, quick(t.TempDir()))
	h, holder := hold(j)
	a, bad, c := j.Submit(text("a")), j.Submit(shrinking{}), j.Submit(text("c"))
	close(h.release)
	if _, _, err := holder.Wait(); !errors.Is(err, errHeld) {
		t.Errorf("the encoder's error is lost: %v", err)
	}
	if _, _, err := bad.Wait(); err == nil {
		t.Error("an encoder that cut its buffer was believed")
	}
	for want, k := range []*Ticket{a, c} {
		if i, _, err := k.Wait(); err != nil || i != uint64(want) {
			t.Errorf("entry %d: index %d, %v", want, i, err)
		}
	}
	if got := entries(t, j); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("have %q", got)
	}
}

// P7: the queue is bounded, and is open again when the disk has caught up.
func TestQueueIsBounded(t *testing.T) {
	j := mustOpen(t, quick(t.TempDir()))
	h, _ := hold(j)
	for range MaxQueued {
		j.Submit(text("x"))
	}
	if _, _, err := appendOne(j, "one too many"); !errors.Is(err, ErrFull) {
		t.Errorf("submit to a full queue: %v", err)
	}
	close(h.release)
	if next, err := j.Flush(); err != nil || next != MaxQueued {
		t.Fatalf("flush: %d, %v", next, err)
	}
	if i, _, err := appendOne(j, "after"); err != nil || i != MaxQueued {
		t.Errorf("submit after the queue has drained: %d, %v", i, err)
	}
}

func TestCloseDrainsAndRefuses(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, quick(dir))
	h, _ := hold(j)
	last := j.Submit(text("last"))
	closed := make(chan error)
	go func() { closed <- j.Close() }()
	for under := false; !under; runtime.Gosched() { // until Close is under way
		j.mu.Lock()
		under = j.closed
		j.mu.Unlock()
	}
	if _, _, err := appendOne(j, "late"); !errors.Is(err, ErrClosed) {
		t.Errorf("submit after Close: %v", err)
	}
	close(h.release)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if _, _, err := last.Wait(); err != nil {
		t.Errorf("an entry before Close was dropped: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	mustVerify(t, dir, 1)
}

// Committed tells each entry once, in order, and after the tickets.
func TestCommittedHook(t *testing.T) {
	var mu sync.Mutex
	var reached uint64
	o := quick(t.TempDir())
	o.Committed = func(first, next uint64) {
		mu.Lock()
		defer mu.Unlock()
		if first != reached || next <= first {
			t.Errorf("committed %d up to %d after %d", first, next, reached)
		}
		reached = next
	}
	j := mustOpen(t, o)
	for range 10 {
		appendBatch(t, j, "a", "b", "c")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if reached != 30 {
		t.Errorf("told of %d entries, not 30", reached)
	}
}

// P3, under the race detector: many writers beside readers in this process, read-only readers as in another, Verify,
// snapshots and new segments. Every reader sees a prefix without gaps; the order of Submit is that of the indexes.
func TestReadersBesideWriters(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, Options{Dir: dir, SegmentBytes: 3000, MaxBatch: 16})
	const writers, each = 8, 150
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			before := -1
			for i := range each {
				e := fmt.Sprintf("writer %d entry %d", w, i)
				index, pos, err := appendOne(j, e)
				if err != nil || int(index) <= before {
					t.Errorf("%s: index %d after %d, %v", e, index, before, err)
					return
				}
				before = int(index)
				if got, p, err := j.Read(pos); err != nil || got != index || string(p) != e {
					t.Errorf("read of acknowledged %s: %d %q %v", e, got, p, err)
				}
			}
		})
	}
	watch := func(what string, look func() (uint64, error)) {
		reading.Go(func() {
			var seen uint64
			for {
				least := j.Next()
				n, err := look()
				if err != nil || n < seen || n < least {
					t.Errorf("%s: %d entries after %d, at least %d are durable: %v", what, n, seen, least, err)
					return
				}
				seen = n
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	count := func(j *Journal) (n uint64, err error) {
		err = j.Scan(0, func(i uint64, _ Position, p []byte) error {
			if i != n || !strings.HasPrefix(string(p), "writer ") {
				return fmt.Errorf("entry %d %q after %d entries", i, p, n)
			}
			n++
			return nil
		})
		return n, err
	}
	reader := mustOpen(t, Options{Dir: dir, ReadOnly: true})
	watch("scan", func() (uint64, error) { return count(j) })
	watch("read-only scan", func() (uint64, error) { return count(reader) })
	watch("verify", func() (uint64, error) {
		r, problems := Verify(dir)
		return r.Entries, errors.Join(problems...)
	})
	watch("snapshot", func() (uint64, error) {
		n := j.Next()
		return n, j.WriteSnapshot(n, []byte("state"))
	})
	writing.Wait()
	close(done)
	reading.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, dir, writers*each)
}

// A reader in another process repairs nothing and writes nothing.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, quick(dir))
	appendBatch(t, j, "a", "b")
	r := mustOpen(t, Options{Dir: dir, ReadOnly: true})
	if got := entries(t, r); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("beside the writer: %q", got)
	}
	at := appendBatch(t, j, "c")
	if _, p, err := r.Read(at[0]); err != nil || string(p) != "c" {
		t.Errorf("read of a younger entry: %q, %v", p, err)
	}
	if got := entries(t, r); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("after an append: %q", got)
	}
	if _, _, err := appendOne(r, "no"); !errors.Is(err, ErrReadOnly) {
		t.Errorf("submit: %v", err)
	}
	if err := r.WriteSnapshot(1, nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("snapshot: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, segmentName(0))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := whole[:len(whole)-1]
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, mustOpen(t, Options{Dir: dir, ReadOnly: true})); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("with a torn tail: %q", got)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, torn) {
		t.Error("a read-only journal changed the file")
	}
	if _, err := Open(Options{Dir: filepath.Join(dir, "none"), ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("read-only open of a missing folder: %v", err)
	}
}
