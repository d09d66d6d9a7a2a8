package transfer

import "sync"

// maxQueued bounds, in bytes, the answers of our own that wait for the end of a packet from the target. A client that
// asks for so much that it may not do, within one packet, isn't one that reads answers.
const maxQueued = 64 << 10

// outbox is the door to the client, through which the target's bytes and our own answers go: one at a time, and the
// latter only between whole packets of the former.
//
// The target's side claims it, writes, and releases it, and says with that whether the stream now stands within a
// packet. The client's side puts answers in. Nobody waits for a boundary: if the door is taken or the stream stands
// within a packet, the answer stays in the queue, and whoever releases the door at a boundary writes it. That can't be
// missed, because the queue and the door are under one lock: an answer is queued either before the last look at the
// queue, and is then written by the one who looks, or after the release, and is then written by the one who queues.
// The target's side waits only while the client's side writes an answer, which is back-pressure from the same client.
type outbox struct {
	mu    sync.Mutex
	free  sync.Cond // on mu: taken became false
	taken bool      // somebody writes to the client
	mid   bool      // what was written ends within a packet
	queue []byte    // whole packets
}

// put has an answer written: now by write, or later by who holds the door. Only one goroutine calls it.
func (o *outbox) put(packet []byte, write func([]byte) error) error {
	o.mu.Lock()
	if len(o.queue)+len(packet) > maxQueued {
		o.mu.Unlock()
		return protocolError("too many requests that are refused wait for their answers")
	}
	if o.taken || o.mid {
		o.queue = append(o.queue, packet...)
		o.mu.Unlock()
		return nil
	}
	o.taken = true
	o.mu.Unlock()
	err := write(packet)
	o.mu.Lock()
	o.taken = false
	o.mu.Unlock()
	o.free.Signal()
	return err
}

// claim waits for the door.
func (o *outbox) claim() {
	o.mu.Lock()
	for o.taken {
		o.free.Wait()
	}
	o.taken = true
	o.mu.Unlock()
}

// take empties the queue.
func (o *outbox) take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.queue
	o.queue = nil
	return q
}

// release gives the door back. If the stream stands between packets, what was queued meanwhile is written before.
func (o *outbox) release(mid bool, write func([]byte) error) error {
	for {
		o.mu.Lock()
		if mid || len(o.queue) == 0 {
			o.taken, o.mid = false, mid
			o.mu.Unlock()
			return nil
		}
		q := o.queue
		o.queue = nil
		o.mu.Unlock()
		if err := write(q); err != nil {
			o.abandon()
			return err
		}
	}
}

// abandon gives the door back after a write that failed: nothing more of ours goes out.
func (o *outbox) abandon() {
	o.mu.Lock()
	o.taken, o.mid = false, true
	o.mu.Unlock()
}
