package journal

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// payload is an entry of 400 bytes, about what a decision's record has.
type payload []byte

func (p payload) EncodeEntry(dst []byte, _ uint64) ([]byte, error) { return append(dst, p...), nil }

var entry400 = payload(bytes.Repeat([]byte("x"), 400))

// BenchmarkAppend measures Submit and Wait on the disk of the repository (a test's temporary folder may be in
// memory): time and CPU an entry, the median and 99th percentile that one caller waits, and entries a batch.
func BenchmarkAppend(b *testing.B) {
	for _, mode := range []string{"fdatasync", "nosync"} {
		for _, n := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("%s/outstanding=%d", mode, n), func(b *testing.B) {
				dir, err := os.MkdirTemp(".", "bench-")
				if err != nil {
					b.Fatal(err)
				}
				defer os.RemoveAll(dir)
				syncs := 0
				o := Options{Dir: dir, Sync: func(f *os.File) error { syncs++; return fdatasync(f) }}
				if mode == "nosync" {
					o.Sync = func(*os.File) error { syncs++; return nil }
				}
				j, err := Open(o)
				if err != nil {
					b.Fatal(err)
				}
				syncs = 0
				waits := make([][]time.Duration, n)
				var wg sync.WaitGroup
				before := cpu()
				b.ReportAllocs()
				b.ResetTimer()
				for g := range n {
					wg.Go(func() {
						for i := g; i < b.N; i += n {
							start := time.Now()
							if _, _, err := j.Submit(entry400).Wait(); err != nil {
								b.Error(err)
								return
							}
							waits[g] = append(waits[g], time.Since(start))
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				used := cpu() - before
				all := slices.Concat(waits...)
				slices.Sort(all)
				b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
				b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
				b.ReportMetric(float64(b.N)/float64(max(syncs, 1)), "entries/sync")
				if err := j.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkCommit measures the journal's own work, without the disk and without goroutines: encode, checksum and
// bookkeeping of batches of 64.
func BenchmarkCommit(b *testing.B) {
	j, err := Open(Options{Dir: b.TempDir(), SegmentBytes: 1 << 40, Sync: func(*os.File) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	j.out, j.reserve = discard{}, false
	b.ReportAllocs()
	var tickets [64]*Ticket
	for i := 0; i < b.N; i += len(tickets) {
		for k := range tickets {
			tickets[k] = j.Submit(entry400)
		}
		for _, t := range tickets {
			if _, _, err := t.Wait(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (discard) Truncate(int64) error                   { return nil }

func BenchmarkScan(b *testing.B) {
	dir := b.TempDir()
	j, err := Open(Options{Dir: dir, Sync: func(*os.File) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	for range 10000 {
		j.Submit(entry400)
	}
	next, err := j.Flush()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(420 * int64(next))
	for b.Loop() {
		if err := j.Scan(0, func(uint64, Position, []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
