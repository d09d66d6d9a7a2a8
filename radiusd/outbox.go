package radiusd

import (
	"net"
	"net/netip"
	"runtime"
	"sync"

	"golang.org/x/net/ipv4"
)

// outbox sends replies, many with one system call. Workers that the log releases together render at the same time; the
// first of them sends for all. (Measured with 512 outstanding: a tenth less CPU for each decision than with a system
// call for each reply; with 64 no difference.) What waits is bounded by the number of workers.
type outbox struct {
	write  func(ms []ipv4.Message, flags int) (int, error)
	failed func(c *client, to netip.Addr, err error)

	mu      sync.Mutex
	sending bool       // somebody sends
	waiting []outgoing // for whoever sends, or will

	// Owned by whoever set sending.
	spare    []outgoing
	messages []ipv4.Message
	packets  [][]byte
}

// outgoing is a reply that waits to be sent. Its memory is used again.
type outgoing struct {
	packet  []byte
	control []byte
	to      *net.UDPAddr
	client  *client
	from    netip.Addr // the asker's, for the log
}

// post sends r's reply, or leaves it to whoever is sending. It copies what it needs.
func (o *outbox) post(r *request, packet []byte) {
	o.mu.Lock()
	o.add(r, packet)
	if o.sending {
		o.mu.Unlock()
		return
	}
	o.sending = true
	o.mu.Unlock()
	runtime.Gosched() // lets the others, who were released at the same time, add theirs
	o.drain()
}

// put leaves r's reply to the next flush. It copies what it needs.
func (o *outbox) put(r *request, packet []byte) {
	o.mu.Lock()
	o.add(r, packet)
	o.mu.Unlock()
}

// flush sends what was put, or leaves it to whoever is sending.
func (o *outbox) flush() {
	o.mu.Lock()
	if o.sending || len(o.waiting) == 0 {
		o.mu.Unlock()
		return
	}
	o.sending = true
	o.mu.Unlock()
	o.drain()
}

// drain sends until nothing waits; the caller has set sending.
func (o *outbox) drain() {
	finished := false
	defer func() {
		if !finished { // a panic must not leave the outbox to nobody
			o.mu.Lock()
			o.sending, o.waiting, o.spare = false, nil, nil
			o.mu.Unlock()
		}
	}()
	for batch := o.take(nil); batch != nil; batch = o.take(batch) {
		o.send(batch)
	}
	finished = true
}

// add appends to waiting; the caller holds mu.
func (o *outbox) add(r *request, packet []byte) {
	n := len(o.waiting)
	if n < cap(o.waiting) {
		o.waiting = o.waiting[:n+1]
	} else {
		o.waiting = append(o.waiting, outgoing{})
	}
	x := &o.waiting[n]
	x.packet = append(x.packet[:0], packet...)
	x.control = append(x.control[:0], r.control[:r.controlLen]...)
	x.to, x.client, x.from = r.to, r.client, r.from.Addr()
}

// take gives what waits, and takes back what was sent before. With nothing left to send, sending ends.
func (o *outbox) take(sent []outgoing) []outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	if sent != nil {
		o.spare = sent[:0]
	}
	if len(o.waiting) == 0 {
		o.sending = false
		return nil
	}
	batch := o.waiting
	o.waiting, o.spare = o.spare, nil
	return batch
}

// send sends a batch. A reply that cannot be sent does not keep the others back.
func (o *outbox) send(batch []outgoing) {
	o.messages, o.packets = o.messages[:0], o.packets[:0]
	for i := range batch {
		o.packets = append(o.packets, batch[i].packet)
	}
	for i := range batch {
		o.messages = append(o.messages, ipv4.Message{Buffers: o.packets[i : i+1], OOB: batch[i].control, Addr: batch[i].to})
	}
	for sent := 0; sent < len(batch); {
		n, err := o.write(o.messages[sent:], 0)
		if err != nil || n < 1 { // it is the first that failed (sendmmsg(2))
			o.failed(batch[sent].client, batch[sent].from, err)
			n = 1
		}
		sent += n
	}
}
