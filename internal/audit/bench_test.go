package audit

import (
	"bytes"
	"os"
	"testing"
)

// BenchmarkEncode is the work for one typical record without the disk: canonical form and JSON in Submit, salt, leaf
// and tree in the commit.
func BenchmarkEncode(b *testing.B) {
	l := newLog(Options{Node: "gw1"})
	rec := loginRecord(0)
	rec.Time = testNow
	dst := make([]byte, 0, 4096)
	var p Pending
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		rec.Effects[0].Value++
		rec.Node, rec.Change = l.o.Node, changeHash(nil)
		if err := rec.canonicalise(); err != nil {
			b.Fatal(err)
		}
		p = Pending{log: l, rec: rec, body: l.bodies.Get().(*[]byte)}
		*p.body = rec.appendBody((*p.body)[:0])
		var err error
		if dst, err = (*encoding)(&p).EncodeEntry(dst[:0], n); err != nil {
			b.Fatal(err)
		}
		l.fresh = l.fresh[:0] // as the journal's hook does it
		n++
	}
	b.ReportMetric(float64(len(dst)), "payload-bytes")
}

func BenchmarkParse(b *testing.B) {
	raw := loginRecord(0).AppendJSON(nil)
	var p parser
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend is the whole way through the journal, with as many callers at once as a busy gateway has, and without
// waiting for a disk.
func BenchmarkAppend(b *testing.B) {
	f := newFixture(b, newKeys(b, "log"))
	f.o.Journal.Sync = func(*os.File) error { return nil }
	l := f.open(b)
	b.SetParallelism(128)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rec := loginRecord(0)
		for pb.Next() {
			rec.Time = testNow
			if _, err := l.Append(rec, nil); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	closeLog(b, l)
}

func BenchmarkVerifyExport(b *testing.B) {
	const n = 2000
	f := newFixture(b, newKeys(b, "log"))
	l := f.open(b)
	for i := range n {
		l.Submit(new(Pending), loginRecord(i), nil)
	}
	if _, err := l.Flush(); err != nil {
		b.Fatal(err)
	}
	file := export(b, l)
	closeLog(b, l)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := VerifyExport(bytes.NewReader(file), f.o.Verifier, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
}

// proofRecords is how large the log of BenchmarkProve is.
const proofRecords = 100_000

// BenchmarkProve is a proof of one record among many, and of consistency between two recent sizes. Both read a few dozen
// hashes, whatever the size of the log; a proof of a record also reads the journal's segment in which it is.
func BenchmarkProve(b *testing.B) {
	f := newFixture(b, newKeys(b, "log"))
	f.o.Journal.Sync = func(*os.File) error { return nil }
	f.o.Restore, f.o.Replay = nil, nil
	l := f.open(b)
	rec := loginRecord(0)
	for i := range proofRecords {
		l.Submit(new(Pending), rec, nil)
		rec = loginRecord(i + 1)
		if i%1000 == 0 {
			if _, err := l.Flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
	msg, c := mustCheckpoint(b, l)
	b.Run("record", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i += 7919 {
			if _, err := l.Prove(i%c.Size, msg); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("consistency", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			if _, err := l.ProveConsistency(c.Size-1-i%1000, c.Size, c.Root); err != nil {
				b.Fatal(err)
			}
		}
	})
	closeLog(b, l)
	b.Run("rebuild", func(b *testing.B) { // the whole file, at a start that finds none
		for b.Loop() {
			if err := os.Remove(f.o.CheckpointFile + ".hashes"); err != nil {
				b.Fatal(err)
			}
			closeLog(b, f.open(b))
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.Size), "ns/record")
	})
}

// BenchmarkGlance is what counting costs a record, beside BenchmarkParse.
func BenchmarkGlance(b *testing.B) {
	raw := loginRecord(0).AppendJSON(nil)
	var g Glance
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Read(raw); err != nil {
			b.Fatal(err)
		}
	}
}
