// Package joined saves system calls below golang.org/x/crypto/ssh, which writes each packet through a bufio.Writer of 4 KiB:
// a packet of 32 KiB goes out as its first 4 KiB and then the rest, two calls, two TCP segments, and a reader that wakes twice.
//
// Conn holds back a write of exactly 4 KiB until the next one, and sends both by one call. That is right only where no packet
// ends with such a write. With AES-GCM (RFC 5647) and with a MAC over the ciphertext, a packet's length is four more than a
// multiple of 16, the length of the tag or MAC included, and so none is 4 KiB long, and none has a rest of 4 KiB.
// Who uses a Conn calls Join once it knows that one of these was agreed on.
package joined

import (
	"net"
	"sync"
	"sync/atomic"
)

// first is the size of the bufio.Writer in golang.org/x/crypto/ssh. If it is another one day, nothing is held back.
const first = 4096

// Conn is a connection that joins writes. Writes come from one goroutine at a time, as golang.org/x/crypto/ssh makes them.
type Conn struct {
	net.Conn
	join atomic.Bool
	held *[first]byte // of the writer; nil: nothing is held back
}

// New makes a Conn that does not join yet.
func New(c net.Conn) *Conn { return &Conn{Conn: c} }

// Join begins to join.
func (c *Conn) Join() { c.join.Store(true) }

var pool = sync.Pool{New: func() any { return new([first]byte) }}

// Write writes p, or holds it back. A connection that fails says so with the next write.
func (c *Conn) Write(p []byte) (int, error) {
	if c.held == nil {
		if len(p) != first || !c.join.Load() {
			return c.Conn.Write(p)
		}
		c.held = pool.Get().(*[first]byte)
		return copy(c.held[:], p), nil
	}
	held := c.held
	c.held = nil
	both := net.Buffers{held[:], p}
	n, err := both.WriteTo(c.Conn)
	pool.Put(held)
	return max(int(n)-first, 0), err
}
