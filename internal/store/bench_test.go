package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/login"
)

// fill puts n people, each with a password, a token and nothing else.
func fill(b *testing.B, s *Store, n int) {
	b.Helper()
	changes := make([]Numbered, n)
	for i := range n {
		name := fmt.Sprintf("person.number.%06d", i)
		changes[i] = Numbered{uint64(i), login.Change{
			PutPerson: person(name), SetPassword: &login.Password{Person: name, Hash: phc}, PutToken: token("token-"+name, name),
		}}
	}
	if err := s.CatchUp(b.Context(), 0, uint64(n), changes); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLoad is what a start does with 100,000 people.
func BenchmarkLoad(b *testing.B) {
	const n = 100_000
	ring := newRing(b)
	s := open(b, Options{Sealer: ring})
	fill(b, s, n)
	b.Run("people", func(b *testing.B) {
		for b.Loop() {
			rows := 0
			if err := s.People(b.Context(), func(login.Person) error { rows++; return nil }); err != nil || rows != n {
				b.Fatal(rows, err)
			}
		}
	})
	b.Run("tokens", func(b *testing.B) {
		for b.Loop() {
			rows := 0
			if err := s.Tokens(b.Context(), func(login.Token) error { rows++; return nil }); err != nil || rows != n {
				b.Fatal(rows, err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			again, err := Open(b.Context(), Options{Path: s.path, Sealer: ring})
			if err != nil {
				b.Fatal(err)
			}
			closeStore(b, again)
		}
	})
	b.Run("reseal", func(b *testing.B) {
		for b.Loop() {
			if err := ring.Rotate(at(1)); err != nil {
				b.Fatal(err)
			}
			if rows, err := s.Reseal(b.Context()); err != nil || rows != 2*n {
				b.Fatal(rows, err)
			}
		}
	})
}

func BenchmarkPasswordHash(b *testing.B) {
	s := open(b, Options{})
	fill(b, s, 10_000)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok, err := s.PasswordHash(b.Context(), "person.number.001234"); err != nil || !ok {
				b.Fatal(ok, err)
			}
		}
	})
}

// BenchmarkApply is one verb: one durable commit.
func BenchmarkApply(b *testing.B) {
	s := open(b, Options{})
	seq := uint64(0)
	for b.Loop() {
		if err := s.Apply(b.Context(), seq, login.Change{PutPerson: person("alice"), PutToken: token("t1", "alice")}); err != nil {
			b.Fatal(err)
		}
		seq++
	}
}

// benchEntries makes a batch as a busy gateway has it: few systems, many people and their addresses.
func benchEntries(r *rand.Rand, dst []Entry, first uint64, people []string) []Entry {
	dst = dst[:0]
	for i := range cap(dst) {
		seq := first + uint64(i)
		who := r.IntN(len(people))
		dst = append(dst, Entry{
			Seq: seq, Segment: seq / 100_000, Offset: int64(seq%100_000) * 680, Time: at(int64(seq / 500)),
			Event: "login", Result: [...]string{"accept", "accept", "accept", "reject"}[r.IntN(4)],
			Person: people[who], System: [...]string{"vpn-leeds", "vpn-york", "core-sw1"}[r.IntN(3)],
			Source: people[who][8:], // one for each person
		})
	}
	return dst
}

func benchPeople(n int) []string {
	people := make([]string, n)
	for i := range people {
		people[i] = fmt.Sprintf("person.n10.20.%d.%d", i/250, i%250)
	}
	return people
}

func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAdd tells the process's CPU time for a record, checkpoints and garbage collection included.
func BenchmarkAdd(b *testing.B) {
	for _, people := range []int{1_000, 100_000} {
		for _, size := range []int{1, 10, 100, 1_000, 4_000} {
			b.Run(fmt.Sprintf("people=%d/batch=%d", people, size), func(b *testing.B) {
				x := newIndex(b)
				r := rand.New(rand.NewPCG(1, 1))
				names := benchPeople(people)
				batch := make([]Entry, 0, size)
				seq := uint64(0)
				var cpu time.Duration
				for b.Loop() {
					b.StopTimer()
					batch = benchEntries(r, batch, seq, names)
					seq += uint64(size)
					b.StartTimer()
					start := cpuTime(b)
					if err := x.Add(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
					cpu += cpuTime(b) - start
				}
				b.ReportMetric(float64(cpu.Nanoseconds())/1e3/float64(seq), "cpu-µs/record")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/1e3/float64(seq), "µs/record")
				if info, err := os.Stat(x.path); err == nil && seq > 100_000 {
					b.ReportMetric(float64(info.Size())/float64(seq), "B/record")
				}
			})
		}
	}
}

// BenchmarkSearch looks for one person in a million records of 100,000 people.
func BenchmarkSearch(b *testing.B) {
	const records = 1_000_000
	x := newIndex(b)
	r := rand.New(rand.NewPCG(1, 1))
	names := benchPeople(100_000)
	for seq := uint64(0); seq < records; seq += 1000 {
		if err := x.Add(b.Context(), benchEntries(r, make([]Entry, 0, 1000), seq, names)); err != nil {
			b.Fatal(err)
		}
	}
	for name, q := range map[string]Query{
		"person":        {Person: names[1234], Limit: MaxHits, NewestFirst: true},
		"nobody":        {Person: "nobody"},
		"newest20":      {Limit: 20, NewestFirst: true},
		"system-newest": {System: "core-sw1", Result: "reject", NewestFirst: true, Limit: 100},
		"ten-minutes":   {Since: at(1000), Until: at(1600), Person: names[1234]},
		"all-rejects":   {Result: "reject", Limit: MaxHits},
	} {
		b.Run(name, func(b *testing.B) {
			hits := 0
			for b.Loop() {
				found, err := x.Search(b.Context(), q)
				if err != nil {
					b.Fatal(err)
				}
				hits = len(found)
			}
			b.ReportMetric(float64(hits), "hits")
		})
	}
}
