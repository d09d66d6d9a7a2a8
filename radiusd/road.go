package radiusd

import (
	"context"
	"sync"

	"sallyport/radiusd/wire"
)

// road is where requests come by, and their answers go: a UDP socket, or a connection of RADIUS over TLS.
type road interface {
	// put leaves an answer to the next flush; post sends it with whatever waits. Both copy what they need, and may be
	// called by any goroutine.
	put(r *request, packet []byte)
	flush()
	post(r *request, packet []byte)
	// traffic is what is common to all roads.
	traffic() *traffic
}

// service tells what is answered on a road.
type service uint8

const (
	authentication service = 1 << iota
	accounting
)

// traffic is the requests of a road that are under way.
type traffic struct {
	id      uint32
	serves  service
	cached  bool            // whether resends are looked for: not on a reliable transport (RFC 6613 section 2.6.1)
	ctx     context.Context // of the decisions: lives on while the road is drained
	pending sync.WaitGroup  // requests that were accepted and not answered yet
	slots   chan struct{}   // takes one for each request that waits for a worker; nil: the queue's bound is enough
}

// done ends what a worker was to do.
func (tr *traffic) done() {
	if tr.slots != nil {
		<-tr.slots
	}
	tr.pending.Done()
}

// batch is what a road's reader works with: it judges and answers, all in the reader's goroutine. Requests that need no
// password checked are asked about one after the other, and then awaited together, so that one write of the log and few
// system calls serve them all, and no goroutine needs to be woken. The others go to the workers.
type batch struct {
	*Server
	road  road
	queue *queue
	tools *toolbox
	asked []*request // in the order in which they were asked about
}

// admit takes a request through the steps before judgement (see the package comment). It reports whether the request's
// memory is still in use: it went to a worker, or was asked about.
func (b *batch) admit(r *request) (given bool, why dropReason) {
	defer func() {
		if p := recover(); p != nil && !given {
			b.panicked(r, p)
			why = dropPanic
		}
	}()
	r.road = b.road
	why = b.screen(r, b.tools)
	switch {
	case why != dropNone:
	case r.packet[0] == wire.CodeStatusServer:
		why = b.answerStatus(r, b.tools)
	default:
		given, why = b.enqueue(r)
	}
	if why != dropNone {
		b.drop(r.client, why, r.from.Addr())
	}
	return given, why
}

// enqueue looks for the request in the reply cache. When it is new, it is asked about at once, or queued for a worker.
func (b *batch) enqueue(r *request) (given bool, why dropReason) {
	c, v, tr := r.client, &r.view, b.road.traffic()
	if tr.cached {
		key := cacheKey{src: r.src, road: tr.id, id: r.packet[1], code: r.packet[0]}
		entry, resend, why := b.cache.begin(key, r.packet, c.tally, r.received.Sub(b.start), b.tools.buf[:0])
		if why != dropNone {
			return false, why
		}
		if entry == nil {
			c.tally.resends.Add(1)
			b.meter.Resend(c.Name)
			b.road.put(r, resend)
			return false, dropNone
		}
		r.entry = entry
	}
	c.tally.requests.Add(1)
	if v.ProxyStates > 0 {
		c.tally.proxied(r.received)
	}
	if !v.NASIP.Present() && !v.NASID.Present() && !v.NASIPv6.Present() {
		c.tally.withoutNAS.Add(1)
	}
	if b.ask(r, b.tools.Digester) {
		r.asks = true
		tr.pending.Add(1)
		b.asked = append(b.asked, r)
		return true, dropNone
	}
	if tr.slots != nil {
		select {
		case tr.slots <- struct{}{}:
		default:
			b.answerAll() // nobody's answer waits for a worker
			tr.slots <- struct{}{}
		}
	}
	tr.pending.Add(1)
	depth, ok := b.queue.push(r) // from here on r is the worker's
	if !ok {
		tr.done()
		b.cache.abort(r.entry)
		r.entry = nil
		return false, dropOverloaded
	}
	b.meter.QueueDepth(depth)
	return true, dropNone
}

// answerAll waits for the records of what was asked, and sends the answers. What needs no record goes first.
func (b *batch) answerAll() {
	b.road.flush()
	for i, r := range b.asked {
		b.finish(r)
		b.asked[i] = nil
	}
	b.asked = b.asked[:0]
	b.road.flush()
}

// finish waits for a request's record, and makes the answer.
func (b *batch) finish(r *request) {
	defer b.forget(r)
	if r.packet[0] == codeAccounting {
		if packet := b.answerAccounting(r, b.tools); packet != nil {
			b.road.put(r, packet)
		}
		return
	}
	if packet := b.answer(r, b.tools, r.asked.Outcome()); packet != nil {
		b.road.put(r, packet)
	}
}
