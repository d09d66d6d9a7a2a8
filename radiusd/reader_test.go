package radiusd

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"

	"sallyport/internal/login"
)

// busy makes the disk slow and gives the reader a request that waits for it, so that all that is sent until release is
// read together afterwards.
func (r *rig) busy() (release func()) {
	r.t.Helper()
	release = r.stall()
	before := r.gate.count()
	other := r.nas()
	other.send(other.request(200, pap("mallory", "000000")...))
	r.meter.await(r.t, "the first request", func(*counter) bool { return r.gate.count() == before+1 })
	return release
}

// While the disk is slow nothing is answered. Of requests that are read together, resends are dropped, and a new
// authenticator under the same identifier takes the place of the old request, whose answer is never sent (P3, P5).
func TestAskedInFlight(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n := r.nas()
	release := r.busy()
	defer release()
	old, fresh := n.request(9, pap("mallory", "000000")...), n.request(9, pap("alice", r.code())...)
	for _, raw := range [][]byte{old, old, fresh, fresh} {
		n.send(raw)
	}
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
	if d := r.meter.dropped("dup_inflight"); d != 2 {
		t.Errorf("%d resends were dropped, not 2", d)
	}
	if d := r.meter.dropped("superseded"); d != 1 {
		t.Errorf("%d answers were superseded, not 1", d)
	}
	n.send(fresh)
	if again := n.receive(); !bytes.Equal(first, again) {
		t.Error("the resend's answer is another")
	}
	if got := r.gate.count(); got != 3 {
		t.Errorf("the gate was asked %d times", got)
	}
}

// A burst that comes while the disk is slow is answered whole when it has come back, and in few writes of the log (P7).
func TestAskedBurst(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	release := r.busy()
	defer release()
	const most = askBatch + 2*readBatch
	nas := []*nas{r.nas(), r.nas(), r.nas()}
	for i := range most {
		n := nas[i%len(nas)]
		n.send(n.request(byte(i/len(nas)), pap("alice", "000000")...))
	}
	before := r.syncs()
	release()
	for i := range most {
		nas[i%len(nas)].receive()
	}
	if n := r.syncs() - before; n > 4 {
		t.Errorf("%d writes of the log for %d requests", n, most)
	}
}

// Serve ends when what was asked is answered, however slow the disk is.
func TestAskedDrain(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n := r.nas()
	release := r.stall()
	defer release()
	n.send(n.request(1, pap("alice", "000000")...))
	r.meter.await(t, "the request", func(*counter) bool { return r.gate.count() == 1 })
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("Serve ended before the requests were answered")
	case <-time.After(20 * time.Millisecond): // the error above is what this would miss at worst
	}
	release()
	<-stopped
	n.receive()
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
