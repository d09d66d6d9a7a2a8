package radiusd

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"layeh.com/radius"

	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

// A resend gets the very bytes of the first answer and is judged once (P5; RFC 5080 section 2.2.2).
func TestResend(t *testing.T) {
	for _, mode := range []Mode{Challenge, Append, Code} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t, nil, everybody(mode))
			n := r.nas()
			typed := map[Mode]string{Challenge: password, Append: password + r.code(), Code: r.code()}[mode]
			raw := n.request(9, pap("alice", typed)...)
			n.send(raw)
			first := n.receive()
			if p := n.checked(raw, first); p.Code == radius.CodeAccessReject {
				t.Fatalf("%v", p.Code)
			}
			for range 3 {
				n.send(raw)
				if again := n.receive(); !bytes.Equal(first, again) {
					t.Fatal("the resend's answer is another")
				}
			}
			if got := r.gate.count(); got != 1 {
				t.Errorf("the gate was asked %d times", got)
			}

			// A forgery with the same identifier does not disturb it.
			forged := bytes.Clone(raw)
			forged[len(forged)-1] ^= 1
			forged[10] ^= 1
			n.send(forged)
			r.meter.await(t, "ma_bad", func(m *counter) bool { return m.drops["ma_bad"] == 1 })
			n.send(raw)
			if again := n.receive(); !bytes.Equal(first, again) {
				t.Error("after a forgery the resend's answer is another")
			}

			// Up to 30 s, and no longer.
			r.advance(replyLife - time.Millisecond)
			n.send(raw)
			if again := n.receive(); !bytes.Equal(first, again) {
				t.Error("just within its life, the answer is another")
			}
			r.advance(time.Millisecond)
			n.ask(raw)
			if got := r.gate.count(); got != 2 {
				t.Errorf("after its life the gate was asked %d times, want 2", got)
			}
		})
	}
}

// What is not a resend is judged: another port, another socket of the server, another authenticator, other content under the
// same authenticator, another code.
func TestNoResend(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n, m := r.nas(), r.nas()
	raw := n.request(9, pap("alice", "000000")...)
	n.ask(raw)
	m.ask(raw)
	other := resign(append(bytes.Clone(raw[:len(raw)-18]), 11, 3, 'x', 80, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), testSecret)
	other = resign(setLength(other, len(other)), testSecret)
	n.ask(other)
	n.ask(n.request(9, pap("alice", "000000")...))
	if got := r.gate.count(); got != 4 {
		t.Errorf("the gate was asked %d times, want 4", got)
	}
}

// While a request is judged, its resends are dropped; a new authenticator under the same identifier takes its place,
// and the old answer is never sent.
func TestInFlight(t *testing.T) {
	r := newRig(t, workersOnly, everybody(Code))
	n := r.nas()
	hold, held := make(chan struct{}), make(chan struct{}, 2)
	r.gate.set(func(a login.Attempt) {
		if a.Name == "mallory" {
			held <- struct{}{}
			<-hold
		}
	})
	raw := n.request(9, pap("mallory", "000000")...)
	n.send(raw)
	<-held
	n.send(raw)
	r.meter.await(t, "dup_inflight", func(m *counter) bool { return m.drops["dup_inflight"] == 1 })
	fresh := n.request(9, pap("alice", r.code())...)
	if p := n.ask(fresh); p.Code != radius.CodeAccessAccept {
		t.Errorf("the new request: %v", p.Code)
	}
	close(hold)
	r.meter.await(t, "superseded", func(m *counter) bool { return m.drops["superseded"] == 1 })
	first := n.ask(fresh) // and the answer is that of the new request
	if first.Code != radius.CodeAccessAccept {
		t.Errorf("the resend of the new request: %v", first.Code)
	}
}

// nothing is a gate of zero outcomes: no record could be made.
type nothing struct{}

func (nothing) Decide(context.Context, login.Attempt) login.Outcome { return login.Outcome{} }
func (nothing) Begin(context.Context, login.Attempt) login.Outcome  { return login.Outcome{} }
func (nothing) Continue(context.Context, login.Progress, login.Attempt) login.Outcome {
	return login.Outcome{}
}

func (nothing) Finish(context.Context, login.Progress, login.Attempt) login.Outcome {
	return login.Outcome{}
}

func (nothing) Refuse(context.Context, login.Attempt, login.Reason) login.Outcome {
	return login.Outcome{}
}

// Without a durable record there is no answer at all, and a resend is judged anew (P3, P4).
func TestUnanswerable(t *testing.T) {
	for _, mode := range []Mode{Challenge, Append, Code} {
		r := newRig(t, workersOnly, everybody(mode))
		real := r.gate.Gate
		r.gate.Gate = nothing{}
		n := r.nas()
		raw := n.request(1, pap("alice", r.code())...)
		n.send(raw)
		r.meter.await(t, "log_unavailable", func(m *counter) bool { return m.drops["log_unavailable"] == 1 })
		n.send(n.request(2, pap("alice", "x", field{24, "unknown"})...))
		r.meter.await(t, "log_unavailable", func(m *counter) bool { return m.drops["log_unavailable"] == 2 })
		r.gate.mu.Lock()
		r.gate.Gate = real
		r.gate.mu.Unlock()
		n.ask(raw)
	}
}

// A gate that panics costs its own request the answer, and nobody else anything.
func TestPanic(t *testing.T) {
	r := newRig(t, workersOnly, everybody(Code))
	n := r.nas()
	r.gate.set(func(a login.Attempt) {
		if a.Name == "crash" {
			panic("a defect")
		}
	})
	n.send(n.request(1, pap("crash", "000000")...))
	r.meter.await(t, "panic", func(m *counter) bool { return m.drops["panic"] == 1 })
	n.ask(n.request(2, pap("alice", "000000")...))
	r.stop()
	if !bytes.Contains([]byte(r.lines.String()), []byte("a defect")) {
		t.Error("the panic is not in the log")
	}
	r.lines.mu.Lock()
	r.lines.b.Reset() // it was expected
	r.lines.mu.Unlock()
}

func key(port uint16, id byte) cacheKey {
	return cacheKey{src: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), road: 1, id: id, code: 1}
}

// The cache is bounded, refuses what is new when it is full, and never gives up a live reply (P7; R3).
func TestCacheFull(t *testing.T) {
	c := newReplyCache()
	for i := range c.shards {
		c.shards[i].most = 2
	}
	tl := new(tally)
	packet := make([]byte, wire.HeaderSize)
	kept := make(map[cacheKey]string)
	refused := 0
	for i := range 10_000 {
		k := key(uint16(i), 1)
		e, _, why := c.begin(k, packet, tl, 0, nil)
		if why == dropCacheFull {
			refused++
			continue
		}
		kept[k] = fmt.Sprint("reply ", i)
		if !c.finish(e, []byte(kept[k]), 0) {
			t.Fatal("not wanted")
		}
	}
	if len(kept) != 2*cacheShards || refused != 10_000-len(kept) || tl.cached.Load() != int64(len(kept)) {
		t.Errorf("kept %d, refused %d, counted %d", len(kept), refused, tl.cached.Load())
	}
	for k, want := range kept {
		if _, got, why := c.begin(k, packet, tl, replyLife-1, nil); string(got) != want || why != dropNone {
			t.Fatalf("%v: %q, %v", k, got, why)
		}
	}
	// When their life is over there is room for as many, in the same memory.
	again := 0
	for i := range 10_000 {
		if e, _, why := c.begin(key(uint16(i), 2), packet, tl, replyLife, nil); why == dropNone {
			again++
			c.abort(e)
		}
	}
	if again != 10_000 {
		t.Errorf("%d of 10000 after the end of all lives", again)
	}
	left := 0
	for i := range c.shards {
		left += len(c.shards[i].entries)
	}
	if int64(left) != tl.cached.Load() {
		t.Errorf("%d entries, %d counted", left, tl.cached.Load())
	}
}

// One client cannot take the whole cache.
func TestCacheShare(t *testing.T) {
	c := newReplyCache()
	greedy, modest := new(tally), new(tally)
	greedy.cached.Store(maxCachedClient)
	packet := make([]byte, wire.HeaderSize)
	if _, _, why := c.begin(key(1, 1), packet, greedy, 0, nil); why != dropCacheFull {
		t.Errorf("the greedy one: %v", why)
	}
	if _, _, why := c.begin(key(1, 1), packet, modest, 0, nil); why != dropNone {
		t.Errorf("the modest one: %v", why)
	}
}

// Whatever the order of begin, finish and abort, the lists of a shard agree with its map.
func TestCacheOrder(t *testing.T) {
	c := newReplyCache()
	tl := new(tally)
	var open []*cached
	state := uint32(1)
	next := func(n uint32) uint32 { // a fixed sequence, so that a failure comes again
		state = state*1664525 + 1013904223
		return state >> 16 % n
	}
	packet := make([]byte, wire.HeaderSize)
	for i := range 20_000 {
		now := time.Duration(i) * 10 * time.Millisecond
		switch op := next(4); {
		case op < 2:
			packet[4] = byte(next(3))
			if e, _, _ := c.begin(key(uint16(next(300)), 0), packet, tl, now, nil); e != nil {
				open = append(open, e)
			}
		case len(open) > 0:
			j := next(uint32(len(open)))
			e := open[j]
			open[j] = open[len(open)-1]
			open = open[:len(open)-1]
			if op == 2 {
				c.abort(e)
			} else {
				c.finish(e, []byte{byte(i)}, now)
			}
		}
	}
	total := 0
	for i := range c.shards {
		s := &c.shards[i]
		done, listed := 0, 0
		for _, e := range s.entries {
			if e.done {
				done++
			}
		}
		last := time.Duration(0)
		for e := s.oldest; e != nil; e = e.next {
			listed++
			if e.expires < last {
				t.Fatal("the list is not in order")
			}
			last = e.expires
			if s.entries[e.key] != e {
				t.Fatal("the list holds what the map does not")
			}
		}
		if done != listed {
			t.Fatalf("%d done, %d listed", done, listed)
		}
		total += len(s.entries)
	}
	if int64(total) != tl.cached.Load() {
		t.Errorf("%d entries, %d counted", total, tl.cached.Load())
	}
}
