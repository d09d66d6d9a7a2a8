package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/internal/journal"
)

// TestReceipts holds P3: only a durable record makes a valid receipt.
func TestReceipts(t *testing.T) {
	if (Receipt{}).Valid() {
		t.Error("the zero receipt is valid")
	}
	f := newFixture(t, newKeys(t, "log"))
	broken := errors.New("disk on fire")
	var fail atomic.Bool
	f.o.Journal.Sync = func(*os.File) error {
		if fail.Load() {
			return broken
		}
		return nil
	}
	l := f.open(t)
	rec := loginRecord(0)
	r, err := l.Append(rec, []byte("sealed"))
	if err != nil || !r.Valid() || r.Seq() != 0 || !r.Time().Equal(testNow.Truncate(time.Millisecond)) {
		t.Fatalf("%+v, %v", r, err)
	}
	if rec.Seq != 0 || rec.Node != "gw1" || rec.Change != changeHash([]byte("sealed")) || rec.Account != None {
		t.Errorf("not filled in: %+v", rec)
	}
	if r, err := l.Append(&Record{Result: "perhaps"}, nil); err == nil || r.Valid() {
		t.Errorf("a record of no result: %+v, %v", r, err)
	}
	if r, err := l.Append(loginRecord(0), make([]byte, MaxChange+1)); err == nil || r.Valid() {
		t.Errorf("a change too large: %+v, %v", r, err)
	}
	if r, err := l.Append(loginRecord(1), make([]byte, MaxChange)); err != nil || r.Seq() != 1 {
		t.Errorf("the largest change, after refusals: %+v, %v", r, err)
	}

	follower := make(chan error)
	go func() { follower <- l.Follow(t.Context(), 0, func(*Record) error { return nil }) }()
	fail.Store(true)
	if r, err := l.Append(loginRecord(2), nil); !errors.Is(err, broken) || r.Valid() {
		t.Errorf("after a failed sync: %+v, %v", r, err)
	}
	if err := l.Err(); !errors.Is(err, broken) || !errors.Is(err, journal.ErrFailed) {
		t.Errorf("Err: %v", err)
	}
	if err := <-follower; !errors.Is(err, broken) {
		t.Errorf("follower: %v", err)
	}
	fail.Store(false)
	if _, err := l.Append(loginRecord(3), nil); !errors.Is(err, broken) {
		t.Errorf("a failure is final: %v", err)
	}
	if _, err := l.Flush(); !errors.Is(err, broken) {
		t.Errorf("flush: %v", err)
	}
	if err := l.Snapshot(nil); !errors.Is(err, broken) {
		t.Errorf("snapshot: %v", err)
	}
	if err := l.Close(); !errors.Is(err, broken) {
		t.Errorf("close: %v", err)
	}
	// No checkpoint signed what was not durable, so the log is not refused.
	closeLog(t, f.open(t))
	if len(f.replayed) < 2 {
		t.Errorf("replayed %v", f.replayed)
	}
}

// TestSignsOnlyTheDurable holds P3 and P8: while a batch is on its way to the disk, no checkpoint and no export covers it, else
// a crash at that moment would leave a log that looks cut.
func TestSignsOnlyTheDurable(t *testing.T) {
	f := newFixture(t, newKeys(t, "log"))
	syncing, release := make(chan struct{}), make(chan struct{})
	var block atomic.Bool
	f.o.Journal.Sync = func(*os.File) error {
		if block.Load() {
			syncing <- struct{}{}
			<-release
		}
		return nil
	}
	l := f.open(t)
	appendRecords(t, l, 0, 2)
	block.Store(true)
	p := new(Pending)
	l.Submit(p, loginRecord(2), nil)
	go p.ticket.Wait() // commits it
	<-syncing
	block.Store(false)
	if msg, err := l.Checkpoint(); err != nil || !strings.HasPrefix(msg, "log\n2\n") {
		t.Errorf("checkpoint %q, %v", msg, err)
	}
	if r, err := VerifyExport(bytes.NewReader(export(t, l)), f.o.Verifier, nil); err != nil || r.Size != 2 {
		t.Errorf("export %+v, %v", r, err)
	}
	close(release)
	if next, err := l.Flush(); next != 3 || err != nil {
		t.Errorf("flush: %d, %v", next, err)
	}
	if r, err := p.Wait(); err != nil || r.Seq() != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if msg, err := l.Checkpoint(); err != nil || !strings.HasPrefix(msg, "log\n3\n") {
		t.Errorf("checkpoint %q, %v", msg, err)
	}
	closeLog(t, l)
}

func TestReadAndScan(t *testing.T) {
	f := newFixture(t, newKeys(t, "log"))
	l := f.open(t)
	defer closeLog(t, l)
	appendRecords(t, l, 0, 10)
	var seen []uint64
	if err := l.Scan(4, func(rec *Record, pos journal.Position) error {
		seen = append(seen, rec.Seq)
		again, err := l.Read(pos)
		if err != nil {
			return err
		}
		if got, want := again.AppendJSON(nil), rec.AppendJSON(nil); !bytes.Equal(got, want) {
			t.Errorf("read\n%s\nscanned\n%s", got, want)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(seen) != "[4 5 6 7 8 9]" {
		t.Errorf("scanned %v", seen)
	}
	for _, from := range []uint64{10, 11, 1<<64 - 1} {
		if err := l.Scan(from, func(*Record, journal.Position) error { return errors.New("called") }); err != nil {
			t.Errorf("scan from %d: %v", from, err)
		}
	}
	if next, err := l.Flush(); next != 10 || err != nil || l.Next() != 10 {
		t.Errorf("flush: %d, %v", next, err)
	}
}

// TestSnapshot: a snapshot and the replay of the rest give the tree of a whole replay, and each record once.
func TestSnapshot(t *testing.T) {
	f := newFixture(t, newKeys(t, "log"))
	l := f.open(t)
	for n := range 3 {
		appendRecords(t, l, 7*n, 7)
		if err := l.Snapshot(fmt.Appendf(nil, "state after %d", 7*(n+1))); err != nil {
			t.Fatal(err)
		}
	}
	appendRecords(t, l, 21, 2)
	want, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)

	l = f.open(t)
	if f.state != "state after 21" || fmt.Sprint(f.replayed) != "[21 22]" {
		t.Errorf("restored %q, replayed %v", f.state, f.replayed)
	}
	if got, _ := l.Checkpoint(); got != want {
		t.Errorf("checkpoint\n%s\nwant\n%s", got, want)
	}
	closeLog(t, l)

	f.o.Restore = nil
	l = f.open(t)
	if len(f.replayed) != 23 {
		t.Errorf("without a snapshot replayed %v", f.replayed)
	}
	if got, _ := l.Checkpoint(); got != want {
		t.Errorf("checkpoint without a snapshot\n%s\nwant\n%s", got, want)
	}
	closeLog(t, l)
	if _, err := f.verify(); err != nil {
		t.Error(err)
	}
}

// TestReplayFails: nothing is served from a state that is not whole.
func TestReplayFails(t *testing.T) {
	f := newFixture(t, newKeys(t, "log"))
	l := f.open(t)
	appendRecords(t, l, 0, 2)
	if err := l.Snapshot([]byte("s")); err != nil {
		t.Fatal(err)
	}
	appendRecords(t, l, 2, 2)
	closeLog(t, l)
	want := errors.New("unknown effect")
	replay, restore := f.o.Replay, f.o.Restore
	f.o.Replay = func(*Record, []byte) error { return want }
	if _, err := Open(f.o); !errors.Is(err, want) || !strings.Contains(err.Error(), "record 2") {
		t.Errorf("replay: %v", err)
	}
	f.o.Replay, f.o.Restore = replay, func([]byte) error { return want }
	if _, err := Open(f.o); !errors.Is(err, want) {
		t.Errorf("restore: %v", err)
	}
	f.o.Restore = restore
	closeLog(t, f.open(t))
}

// TestErased: an erased record leaves a log that verifies, opens when a snapshot covers it, and says what is gone.
func TestErased(t *testing.T) {
	k := newKeys(t, "log")
	f := newFixture(t, k)
	l := f.open(t)
	appendRecords(t, l, 0, 6)
	if err := l.Snapshot([]byte("s")); err != nil {
		t.Fatal(err)
	}
	appendRecords(t, l, 6, 2)
	closeLog(t, l)

	erase := func(which ...uint64) *fixture {
		g := newFixture(t, k)
		rewrite(t, f, g, func(seq uint64, payload []byte) []byte {
			for _, w := range which {
				if w == seq {
					gone, err := Erase(payload)
					if err != nil {
						t.Fatal(err)
					}
					return gone
				}
			}
			return payload
		})
		return g
	}
	g := erase(1, 2, 4)
	r, err := g.verify()
	if err != nil || r.Erased != 3 || r.Records != 5 || fmt.Sprint(r.ErasedRanges) != "[{1 2} {4 4}]" {
		t.Errorf("%+v, %v", r, err)
	}
	l = g.open(t)
	if fmt.Sprint(g.replayed) != "[6 7]" {
		t.Errorf("replayed %v", g.replayed)
	}
	file := export(t, l)
	var seen []uint64
	ctx, cancel := context.WithCancel(t.Context())
	err = l.Follow(ctx, 0, func(rec *Record) error {
		if seen = append(seen, rec.Seq); rec.Seq == 7 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || fmt.Sprint(seen) != "[0 3 5 6 7]" {
		t.Errorf("followed %v, %v", seen, err)
	}
	closeLog(t, l)
	if e, err := VerifyExport(bytes.NewReader(file), k.verifier, nil); err != nil || fmt.Sprint(e) != fmt.Sprint(r) {
		t.Errorf("export: %+v, %v", e, err)
	}
	if bytes.Contains(file, []byte(`"seq":1,"node"`)) {
		t.Error("the erased record is in the export")
	}

	// Beyond the snapshot its effects would be lost: P2.
	if _, err := Open(erase(6).o); err == nil || !strings.Contains(err.Error(), "record 6: it is erased") {
		t.Errorf("erased beyond the snapshot: %v", err)
	}
}

// rewrite makes to's log of from's entries, each as alter returns it, with from's checkpoints and snapshots.
func rewrite(t *testing.T, from, to *fixture, alter func(seq uint64, payload []byte) []byte) {
	t.Helper()
	copyDir(t, filepath.Dir(from.o.Dir), filepath.Dir(to.o.Dir))
	src, err := journal.Open(journal.Options{Dir: from.o.Dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	segments, _ := filepath.Glob(filepath.Join(to.o.Dir, "*.seg"))
	for _, s := range segments {
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
	}
	dst, err := journal.Open(journal.Options{Dir: to.o.Dir})
	if err != nil {
		t.Fatal(err)
	}
	err = src.Scan(0, func(seq uint64, _ journal.Position, payload []byte) error {
		if payload = alter(seq, bytes.Clone(payload)); payload == nil {
			return nil
		}
		_, _, err := dst.Submit(rawEntry(payload)).Wait()
		return err
	})
	if err = errors.Join(err, dst.Close()); err != nil {
		t.Fatal(err)
	}
}

type rawEntry []byte

func (r rawEntry) EncodeEntry(dst []byte, _ uint64) ([]byte, error) { return append(dst, r...), nil }

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestCheckpointFollows: the stored checkpoint covers a record within 200 ms, and soon on the disk too. What is
// stored last covers all.
func TestCheckpointFollows(t *testing.T) {
	f := newFixture(t, newKeys(t, "log"))
	synctest.Test(t, func(t *testing.T) {
		l := f.open(t)
		covers := func(path string, size int) {
			t.Helper()
			b, err := os.ReadFile(path)
			if err != nil || !strings.HasPrefix(string(b), fmt.Sprintf("log\n%d\n", size)) {
				t.Errorf("%s: %q, %v; want size %d", path, b, err, size)
			}
		}
		synced := f.o.CheckpointFile + ".synced"
		covers(f.o.CheckpointFile, 0)
		for n := range 3 {
			appendRecords(t, l, 5*n, 5)
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			covers(f.o.CheckpointFile, 5*n+5)
			covers(synced, 0)
		}
		if s := l.CheckpointStatus(); s.Size != 15 || s.Err != nil {
			t.Errorf("status %+v", s)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		covers(synced, 15)

		tmp := f.o.CheckpointFile + ".tmp"
		if err := os.Mkdir(tmp, 0o700); err != nil {
			t.Fatal(err)
		}
		appendRecords(t, l, 15, 1)
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if s := l.CheckpointStatus(); s.Size != 15 || s.Err == nil {
			t.Errorf("status while the file cannot be written: %+v", s)
		}
		if err := os.Remove(tmp); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // without a new record
		synctest.Wait()
		covers(f.o.CheckpointFile, 16)
		if s := l.CheckpointStatus(); s.Size != 16 || s.Err != nil {
			t.Errorf("status later: %+v", s)
		}
		appendRecords(t, l, 16, 1)
		closeLog(t, l)
		covers(f.o.CheckpointFile, 17)
		covers(synced, 17)
		if _, err := l.Checkpoint(); !errors.Is(err, ErrClosed) {
			t.Errorf("checkpoint after Close: %v", err)
		}
		if _, err := l.Append(loginRecord(0), nil); err == nil {
			t.Error("append after Close")
		}
	})
}

func TestFollow(t *testing.T) {
	f := newFixture(t, newKeys(t, "log"))
	l := f.open(t)
	appendRecords(t, l, 0, 3)
	records, done := make(chan uint64), make(chan error)
	follow := func(ctx context.Context, from uint64) {
		go func() {
			done <- l.Follow(ctx, from, func(rec *Record) error {
				select {
				case records <- rec.Seq:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}()
	}
	ctx, cancel := context.WithCancel(t.Context())
	follow(ctx, 1)
	for want := uint64(1); want < 8; want++ {
		if want >= 3 {
			appendRecords(t, l, int(want), 1)
		}
		if got := <-records; got != want {
			t.Fatalf("record %d, want %d", got, want)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}

	follow(t.Context(), 8) // waits for what is not there yet
	appendRecords(t, l, 8, 1)
	if got := <-records; got != 8 {
		t.Errorf("record %d", got)
	}
	closeLog(t, l)
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}

	l = f.open(t)
	want := errors.New("enough")
	if err := l.Follow(t.Context(), 0, func(*Record) error { return want }); !errors.Is(err, want) {
		t.Errorf("fn failed: %v", err)
	}
	closeLog(t, l)
}

// TestConcurrent: writers, readers, exports, checkpoints and verifications at once, on small segments. Every export and every look
// at the folder is whole (P8), and every acknowledged record is there (P3).
func TestConcurrent(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 60
	f := newFixture(t, newKeys(t, "log"))
	f.o.Journal.SegmentBytes = 64 << 10
	l := f.open(t)
	var acked [writers * each]atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				rec := loginRecord(i)
				rec.Effects[0].ID = fmt.Sprint("token of ", w)
				r, err := l.Append(rec, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if rec.Seq != r.Seq() || acked[r.Seq()].Swap(true) {
					t.Errorf("record %d has receipt %d, or twice", rec.Seq, r.Seq())
				}
			}
		})
	}
	again := func(work func() error) {
		reading.Go(func() {
			for ctx.Err() == nil {
				if err := work(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	again(func() error {
		floor := l.Next()
		var b bytes.Buffer
		if err := l.Export(&b); err != nil {
			return err
		}
		r, err := VerifyExport(&b, f.o.Verifier, nil)
		if err == nil && r.Size < floor {
			err = fmt.Errorf("export of %d records, when %d were durable", r.Size, floor)
		}
		return err
	})
	again(func() error {
		floor := l.Next()
		msg, err := l.Checkpoint()
		if err != nil {
			return err
		}
		h, err := openCheckpoint(msg, f.o.Verifier)
		if err == nil && h.size < floor {
			err = fmt.Errorf("checkpoint of %d records, when %d were durable", h.size, floor)
		}
		return err
	})
	again(func() error { _, err := f.verify(); return err })
	again(func() error {
		n := uint64(0)
		return l.Scan(0, func(rec *Record, _ journal.Position) error {
			if n++; rec.Seq != n-1 {
				return fmt.Errorf("record %d after %d", rec.Seq, n-1)
			}
			return nil
		})
	})
	reading.Go(func() {
		n := uint64(0)
		err := l.Follow(ctx, 0, func(rec *Record) error {
			if n++; rec.Seq != n-1 {
				return fmt.Errorf("followed %d after %d", rec.Seq, n-1)
			}
			if n == writers*each {
				cancel() // the last of all
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
			cancel()
		}
	})
	writing.Wait()
	reading.Wait()
	closeLog(t, l)
	r, err := f.verify()
	if err != nil || r.Records != writers*each || r.Unsigned != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestCrash holds P3 and P8: a copy of the files at any moment, and at that with the last write torn at any byte, opens
// with every record that was acknowledged before the copy, and verifies.
func TestCrash(t *testing.T) {
	t.Parallel()
	k := newKeys(t, "log")
	f := newFixture(t, k)
	f.o.Journal.SegmentBytes = 32 << 10
	l := f.open(t)
	var acked atomic.Int64
	some := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		defer cancel()
		for n := 0; ctx.Err() == nil; n++ {
			if _, err := l.Append(loginRecord(n), nil); err != nil {
				t.Error(err)
				return
			}
			if acked.Store(int64(n + 1)); n == 30 {
				close(some)
			}
			if n%20 == 10 {
				if err := l.Snapshot(fmt.Appendf(nil, "%d", n+1)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	select {
	case <-some:
	case <-ctx.Done():
	}
	for round := range 15 {
		before := acked.Load()
		g := newFixture(t, k)
		// What stands later in the order of writing is copied earlier: so the copy is one that a crash could leave.
		for _, path := range []string{f.o.CheckpointFile, f.o.CheckpointFile + ".synced"} {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(g.o.CheckpointFile), filepath.Base(path)), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		copyJournal(t, f.o.Dir, g.o.Dir)
		if r, err := g.verify(); err != nil && !strings.Contains(err.Error(), "unfinished write") {
			t.Fatalf("round %d: %+v, %v", round, r, err)
		}
		m := g.open(t)
		if have := int64(m.Next()); have < before {
			t.Errorf("round %d: %d records, when %d were acknowledged", round, have, before)
		}
		appendRecords(t, m, int(m.Next()), 1)
		closeLog(t, m)
		if r, err := g.verify(); err != nil || r.Unsigned != 0 {
			t.Fatalf("round %d, reopened: %+v, %v", round, r, err)
		}
	}
	cancel()
	writing.Wait()
	closeLog(t, l)
}

// copyJournal copies snapshots first, then segments, the last ones first of all to be made being copied last.
func copyJournal(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.snap", "*.seg"} {
		paths, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) {
				continue // an old snapshot went
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, filepath.Base(path)), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTornTail holds P8: records that no checkpoint signs may be torn by a crash, and go; those that one signs may not.
func TestTornTail(t *testing.T) {
	t.Parallel()
	k := newKeys(t, "log")
	f := newFixture(t, k)
	l := f.open(t)
	appendRecords(t, l, 0, 3)
	closeLog(t, l)
	signed := readFiles(t, filepath.Dir(f.o.Dir))
	l = f.open(t)
	appendRecords(t, l, 3, 1)
	closeLog(t, l)
	whole := readFiles(t, filepath.Dir(f.o.Dir))
	const segment = "journal/00000000000000000000.seg"
	for size := len(whole[segment]); size > 0; size -= 13 {
		g := newFixture(t, k)
		files := map[string]string{"checkpoint": signed["checkpoint"], "checkpoint.synced": signed["checkpoint.synced"], segment: whole[segment][:size]}
		writeFiles(t, filepath.Dir(g.o.Dir), files)
		m, err := Open(g.o)
		if size < len(signed[segment]) {
			if !errors.Is(err, ErrShort) && !strings.Contains(fmt.Sprint(err), "header") {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if now := readFiles(t, filepath.Dir(g.o.Dir)); now[segment] != files[segment] {
				t.Fatalf("%d bytes: the evidence was altered", size)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if torn := size != len(signed[segment]) && size != len(whole[segment]); torn != (len(m.Repaired()) > 0) {
			t.Errorf("%d bytes: repaired %q", size, m.Repaired())
		}
		appendRecords(t, m, int(m.Next()), 1)
		closeLog(t, m)
		if _, err := g.verify(); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
}

func readFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, pattern := range []string{"*", "*/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if b, err := os.ReadFile(path); err == nil { // the folder is none
				name, _ := filepath.Rel(dir, path)
				files[name] = string(b)
			}
		}
	}
	return files
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOptions(t *testing.T) {
	k, other := newKeys(t, "log"), newKeys(t, "log")
	for name, spoil := range map[string]func(*Options){
		"no folder":        func(o *Options) { o.Dir = "" },
		"no checkpoint":    func(o *Options) { o.CheckpointFile = "" },
		"no node":          func(o *Options) { o.Node = "" },
		"node with quote":  func(o *Options) { o.Node = `a"b` },
		"node with escape": func(o *Options) { o.Node = "a\x1b" },
		"node too long":    func(o *Options) { o.Node = strings.Repeat("n", MaxNode+1) },
		"no signer":        func(o *Options) { o.Signer = nil },
		"no verifier":      func(o *Options) { o.Verifier = nil },
		"no clock":         func(o *Options) { o.Now = nil },
		"two keys":         func(o *Options) { o.Verifier = other.verifier },
	} {
		f := newFixture(t, k)
		spoil(&f.o)
		if _, err := Open(f.o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
