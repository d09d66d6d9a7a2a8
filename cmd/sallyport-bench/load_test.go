package main

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"layeh.com/radius"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answerer is a RADIUS server for the generator to ask: answer says what becomes of request n; nil: nothing.
func answerer(t *testing.T, answer func(n int64, raw []byte) []byte) generator {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadBuffer(ownBuffer); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, replySize)
		for n := int64(0); ; n++ {
			size, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if reply := answer(n, buf[:size]); reply != nil {
				if _, err := conn.WriteToUDPAddrPort(reply, from); err != nil {
					return
				}
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return generator{addr: conn.LocalAddr().String(), secret: testSecret, strict: true, patience: time.Minute}
}

func prepared(t *testing.T, lanes, want int) []script {
	t.Helper()
	scripts, err := testCrowd(t, 50, hotp).prepare(t.Context(), need{lanes: lanes, want: want, least: 50}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return scripts
}

// TestLoad: every request is answered once and counted, the loop holds its depth, and the run ends when the requests do.
func TestLoad(t *testing.T) {
	for _, outstanding := range []int{1, 7, 64, 512} {
		var asked atomic.Int64
		g := answerer(t, func(_ int64, raw []byte) []byte {
			asked.Add(1)
			return respond(t, raw, radius.CodeAccessAccept, "first")
		})
		lanes := min(maxLanes, outstanding)
		scripts := prepared(t, lanes, 4000)
		began, ended := 0, 0
		o, err := g.load(t.Context(), scripts, outstanding, 0, time.Minute, func() { began++ }, func() { ended++ })
		if err != nil {
			t.Fatal(err)
		}
		sent := 0
		for i := range scripts {
			sent += scripts[i].sent
		}
		if o.total != sent || int(asked.Load()) != sent || o.counts != (tally{}) || o.bad != nil || began != 1 || ended != 1 {
			t.Errorf("%d outstanding: %d sent, %d seen, %d answered, %+v, %v", outstanding, sent, asked.Load(), o.total, o.counts, o.bad)
		}
		if len(o.answers) == 0 || len(o.answers) > o.total || o.length <= 0 {
			t.Errorf("%d outstanding: %d of %d answers measured in %s", outstanding, len(o.answers), o.total, o.length)
		}
		if took := o.latencies(); took[0] <= 0 {
			t.Errorf("%d outstanding: an answer took %d ns", outstanding, took[0])
		}
	}
}

// losing is the patience where answers are to be missed: far more than an answer takes on a busy machine.
const losing = 2 * time.Second

// TestLoadCounts: what a server loses, refuses or forges is counted as that and nothing else, and does not end the run.
func TestLoadCounts(t *testing.T) {
	var dropped, refused, forged atomic.Int64
	g := answerer(t, func(n int64, raw []byte) []byte {
		switch n % 100 {
		case 10:
			dropped.Add(1)
			return nil
		case 20:
			refused.Add(1)
			return respond(t, raw, radius.CodeAccessReject, "first")
		case 30: // then the request is lost as well
			forged.Add(1)
			reply := respond(t, raw, radius.CodeAccessAccept, "first")
			reply[7] ^= 1
			return reply
		}
		return respond(t, raw, radius.CodeAccessAccept, "first")
	})
	g.patience = losing
	scripts := prepared(t, 4, 1200)
	o, err := g.load(t.Context(), scripts, 32, 0, time.Minute, func() {}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	// The run ends when the first lane has nothing left, so that the others may not have sent all.
	sent := -o.counts.Passed
	for i := range scripts {
		sent += scripts[i].sent
	}
	want := tally{Rejected: int(refused.Load()), Bad: int(forged.Load()), Lost: int(dropped.Load() + forged.Load()), Passed: o.counts.Passed}
	if o.counts != want || want.Bad == 0 || o.total+o.counts.Lost != sent {
		t.Errorf("%d sent, %d answered, %+v: want %+v", sent, o.total, o.counts, want)
	}
	if !errors.Is(o.bad, errResponseAuth) {
		t.Errorf("the first bad reply: %v: want %v", o.bad, errResponseAuth)
	}
}

// TestIdentifierTaken: an identifier is not used again while its request is outstanding (RFC 2865 section 2.5), since a
// late reply would be taken for another's.
func TestIdentifierTaken(t *testing.T) {
	var again atomic.Int64
	g := answerer(t, func(n int64, raw []byte) []byte {
		if raw[1] == 0 {
			again.Add(1)
			return nil
		}
		return respond(t, raw, radius.CodeAccessAccept, "first")
	})
	g.patience = losing
	o, err := g.load(t.Context(), prepared(t, 1, 3*ids), 8, 0, time.Minute, func() {}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if o.counts.Lost != int(again.Load()) || o.counts.Lost+o.counts.Passed != 3 || o.counts.Passed == 0 || o.total != 3*ids-3 {
		t.Errorf("%d answered, %+v, identifier 0 sent %d times: want every one lost, and passed over while it is taken", o.total, o.counts, again.Load())
	}
}

// TestBurst: all go out at once, and what does not come back is missing from the answers.
func TestBurst(t *testing.T) {
	for _, lose := range []int64{0, 3} {
		g := answerer(t, func(n int64, raw []byte) []byte {
			if n < lose {
				return nil
			}
			return respond(t, raw, radius.CodeAccessAccept, "first")
		})
		g.patience = losing
		scripts := prepared(t, maxLanes, burstSize)
		if total(scripts) != burstSize {
			t.Fatalf("%d requests: want %d", total(scripts), burstSize)
		}
		answered, took, counts, err := g.burst(t.Context(), scripts)
		if err != nil || answered != burstSize-int(lose) || counts.Lost != int(lose) || took <= 0 {
			t.Errorf("lost %d: %d answered in %s, %+v, %v", lose, answered, took, counts, err)
		}
	}
}

// TestNobodyThere: a server that is gone ends the run with an error at once, and so does an interrupt.
func TestNobodyThere(t *testing.T) {
	gone, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := gone.LocalAddr().String()
	gone.Close()
	g := generator{addr: addr, secret: testSecret, patience: 50 * time.Millisecond}
	if _, err := g.load(t.Context(), prepared(t, 4, 400), 8, 0, time.Minute, func() {}, func() {}); err == nil {
		t.Error("a run against nobody passed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent := answerer(t, func(int64, []byte) []byte { return nil })
	silent.patience = tick
	if _, err := silent.load(ctx, prepared(t, 4, 400), 8, 0, time.Minute, func() {}, func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted run gave %v", err)
	}
}
