package alert

import (
	"testing"

	"sallyport/internal/audit"
)

// BenchmarkApply is what alerts cost for each record: one that is a sign of nothing, and one that is.
func BenchmarkApply(b *testing.B) {
	for name, rec := range map[string]*audit.Record{
		"nothing": record(1, func(r *audit.Record) { r.Result, r.Reason = audit.Accept, "ok" }),
		"replay":  replay(1, "alice"),
	} {
		b.Run(name, func(b *testing.B) {
			book := NewBook(nil)
			b.ReportAllocs()
			for b.Loop() {
				book.Apply(rec, noon)
			}
		})
	}
}
