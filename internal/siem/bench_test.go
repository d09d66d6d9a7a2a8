package siem

import (
	"io"
	"net"
	"testing"
	"time"
)

// BenchmarkEncode is the cost of a message.
func BenchmarkEncode(b *testing.B) {
	rec := samples()["plain"]
	for _, format := range []Format{JSON, CEF} {
		b.Run(string(format), func(b *testing.B) {
			e := encoder(b, Encoding{Format: format})
			var dst []byte
			for b.Loop() {
				dst = e.AppendRecord(dst[:0], rec)
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}

// BenchmarkForward is how fast a backlog gets to a receiver that keeps up, to the last byte handed over; a window's worth, since further
// ones wait for settling by design.
func BenchmarkForward(b *testing.B) {
	l := newLog(b)
	for range Window / 1000 {
		fill(b, l, 1000)
	}
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	for b.Loop() {
		f, stop := run(b, Options{Name: "siem", Address: in.Addr().String(), Start: true, Log: l, Cursors: newCursors(b)})
		conn, err := in.Accept()
		if err != nil {
			b.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		for tick := time.NewTicker(time.Millisecond); f.Standing(b.Context()).Sent < Window; <-tick.C {
		}
		b.StopTimer()
		stop()
		conn.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(Window)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
