package sshgw

import (
	"sync"
	"time"
)

// keepalive asks a client for a sign of life, and ends the connection when none comes: no answer, and no other byte. Between the
// questions it holds no goroutine.
type keepalive struct {
	c  *conn
	mu sync.Mutex
	// Guarded by mu.
	timer  *time.Timer // nil: nothing is asked
	over   bool
	asking bool  // what was asked, or told, is not through yet
	missed int   // looks in a row that found nothing new
	seen   int64 // bytes that the client had sent
}

// newKeepalive begins.
func newKeepalive(c *conn) *keepalive {
	k := &keepalive{c: c, seen: c.wire.read.Load()}
	k.mu.Lock()
	defer k.mu.Unlock()
	// The first thing that the client is told; who does not read it will not read a question either.
	k.ask(func() error { c.announceHostKeys(); return nil })
	if every := c.settings.KeepaliveEvery; every >= 0 {
		k.timer = time.AfterFunc(every, k.look)
	}
	return k
}

// ask asks in a goroutine of its own, since asking blocks for ever on a client that does not read. The caller holds mu.
func (k *keepalive) ask(question func() error) {
	k.asking = true
	k.c.run(func() {
		if question() != nil {
			return
		}
		k.mu.Lock()
		k.asking = false
		k.mu.Unlock()
	})
}

// look sees whether the client has sent something since the last look, and asks it again.
func (k *keepalive) look() {
	defer k.c.srv.crashed(k.c)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || k.c.ctx.Err() != nil {
		return
	}
	now := k.c.wire.read.Load()
	if now != k.seen {
		k.seen, k.missed = now, 0
	} else if k.missed++; k.missed > k.c.settings.KeepaliveMisses {
		k.over = true
		k.c.end(endKeepalive, "")
		return
	}
	if !k.asking {
		k.ask(func() error {
			_, _, err := k.c.ssh.SendRequest("keepalive@openssh.com", true, nil)
			return err
		})
	}
	k.timer.Reset(k.c.settings.KeepaliveEvery)
}

// stop ends the looking. The connection's goroutines can be waited for then.
func (k *keepalive) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	if k.timer != nil {
		k.timer.Stop()
	}
}
