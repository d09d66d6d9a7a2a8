package audit

import (
	"testing"
)

// BenchmarkEncode is the work for one typical record without the disk: canonical form and JSON in Submit, salt, leaf
// and tree on the commit goroutine.
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
