package relay

import (
	"io"
	"sync"
)

const (
	// Packet is what one read takes at most. A channel's packets are no longer (RFC 4254 section 5.2 with x/crypto/ssh's
	// sizes), and what is written at once must not be either: the peer may claim to take packets of 2 GiB.
	Packet = 32 << 10
	// idle holds what people type. A direction keeps only this while nothing moves.
	idle = 128
)

// Buffers lends memory for packets. The zero Buffers is ready; it may be used concurrently.
type Buffers struct{ pool sync.Pool }

// Get lends a packet's memory.
func (b *Buffers) Get() *[Packet]byte {
	if p, ok := b.pool.Get().(*[Packet]byte); ok {
		return p
	}
	return new([Packet]byte)
}

// Put takes it back.
func (b *Buffers) Put(p *[Packet]byte) { b.pool.Put(p) }

// Copy hands on what it reads until the source ends, and returns nil then, or the error of to. An error of the source is its
// end.
//
// A channel can't say that it has something to read, so a packet's memory is borrowed after a read that filled the small
// buffer, and given back after a read that would have fitted it.
func (b *Buffers) Copy(from io.Reader, to func(p []byte) error) error {
	small := make([]byte, idle)
	var large *[Packet]byte
	defer func() {
		if large != nil {
			b.Put(large)
		}
	}()
	for {
		buf := small
		if large != nil {
			buf = large[:]
		}
		n, err := from.Read(buf)
		if n > 0 {
			if err := to(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		switch {
		case large == nil && n == idle:
			large = b.Get()
		case large != nil && n <= idle:
			b.Put(large)
			large = nil
		}
	}
}

// Discard reads to the end. Large reads matter here too: once much of a channel's window is used, golang.org/x/crypto/ssh answers
// each read by a packet.
func (b *Buffers) Discard(from io.Reader) {
	_ = b.Copy(from, func([]byte) error { return nil })
}
