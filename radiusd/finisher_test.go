package radiusd

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"

	"sallyport/internal/login"
)

// While the disk is slow nothing is answered, resends are dropped, and a new authenticator under the same identifier
// takes the place of the old request, whose answer is never sent (P3, P5).
func TestAskedInFlight(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n := r.nas()
	release := r.stall()
	defer release()
	old := n.request(9, pap("mallory", "000000")...)
	n.send(old)
	n.send(old)
	r.meter.await(t, "dup_inflight", func(m *counter) bool { return m.drops["dup_inflight"] == 1 })
	fresh := n.request(9, pap("alice", r.code())...)
	n.send(fresh)
	n.send(fresh)
	r.meter.await(t, "dup_inflight", func(m *counter) bool { return m.drops["dup_inflight"] == 2 })
	r.meter.mu.Lock()
	if len(r.meter.replies) != 0 {
		t.Errorf("answered before the record was durable: %v", r.meter.replies)
	}
	r.meter.mu.Unlock()
	release()
	first := n.receive()
	if p := n.checked(fresh, first); p.Code != radius.CodeAccessAccept {
		t.Errorf("the new request: %v", p.Code)
	}
	r.meter.await(t, "superseded", func(m *counter) bool { return m.drops["superseded"] == 1 })
	n.send(fresh)
	if again := n.receive(); !bytes.Equal(first, again) {
		t.Error("the resend's answer is another")
	}
	if got := r.gate.count(); got != 2 {
		t.Errorf("the gate was asked %d times", got)
	}
}

// A burst is answered whole after the disk has come back, and what is more than may wait is dropped and can be sent again (P7).
func TestAskedBurst(t *testing.T) {
	const most = 100
	r := newRig(t, func(o *Options) { o.Queue = most }, everybody(Code))
	n, m := r.nas(), r.nas()
	release := r.stall()
	defer release()
	for id := range most {
		n.send(n.request(byte(id), pap("alice", "000000")...))
	}
	late := m.request(1, pap("bob", "000000")...)
	r.meter.await(t, "the burst", func(*counter) bool { return r.gate.count() == most })
	m.send(late)
	r.meter.await(t, "overloaded", func(c *counter) bool { return c.drops["overloaded"] == 1 })
	release()
	for range most {
		n.receive()
	}
	// The last of the burst may still count as waiting, for the moment that its sender needs to come back.
	for answered := false; !answered; {
		drops := r.meter.dropped("overloaded")
		m.send(late)
		r.meter.await(t, "the late request", func(c *counter) bool {
			answered = c.replies["code_wrong"]+c.replies["locked"]+c.replies["locked_hard"] == most+1
			return answered || c.drops["overloaded"] > drops
		})
	}
	m.checked(late, m.receive())
}

// Serve ends when what was asked is answered, however slow the disk is.
func TestAskedDrain(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n := r.nas()
	release := r.stall()
	defer release()
	for id := range 3 {
		n.send(n.request(byte(id), pap("alice", "000000")...))
	}
	r.meter.await(t, "the requests", func(*counter) bool { return r.gate.count() == 3 })
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("Serve ended before the requests were answered")
	case <-time.After(20 * time.Millisecond): // the error above is what this would miss at worst
	}
	release()
	<-stopped
	for range 3 {
		n.receive()
	}
}

// A gate that panics on the reader costs its own request the answer, and nobody else anything.
func TestAskedPanic(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n := r.nas()
	r.gate.set(func(a login.Attempt) {
		if a.Name == "crash" {
			panic("a defect")
		}
	})
	crash := n.request(1, pap("crash", "000000")...)
	n.send(crash)
	r.meter.await(t, "panic", func(m *counter) bool { return m.drops["panic"] == 1 })
	n.ask(n.request(2, pap("alice", "000000")...))
	r.gate.set(nil)
	n.ask(crash) // it was forgotten, and so is judged now
	r.stop()
	if !strings.Contains(r.lines.String(), "a defect") {
		t.Error("the panic is not in the log")
	}
	r.lines.mu.Lock()
	r.lines.b.Reset() // it was expected
	r.lines.mu.Unlock()
}

// When the log has failed nothing is answered (P3, P4).
func TestAskedUnanswerable(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n := r.nas()
	r.login.Stop()
	n.send(n.request(1, pap("alice", r.code())...))
	r.meter.await(t, "log_unavailable", func(m *counter) bool { return m.drops["log_unavailable"] == 1 })
	n.send(n.request(1, pap("alice", r.code())...))
	r.meter.await(t, "log_unavailable", func(m *counter) bool { return m.drops["log_unavailable"] == 2 })
}
