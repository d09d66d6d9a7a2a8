package admin

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what a local user can make grow by a socket that everybody may connect to (P7).
const (
	MaxConnsOfUser = 16          // open connections; what is beyond is closed at once
	refusalEvery   = time.Minute // between two records of the refusals of one user
	maxRefused     = 1024        // users whose refusals are remembered
)

// LimitUsers bounds the open connections of each user of a unix socket.
func LimitUsers(l net.Listener) net.Listener {
	return &userLimit{Listener: l, open: make(map[int]int)}
}

type userLimit struct {
	net.Listener

	mu   sync.Mutex
	open map[int]int // guarded by mu: connections by user id
}

// Accept implements net.Listener.
func (l *userLimit) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid := uidOf(c)
		l.mu.Lock()
		full := l.open[uid] >= MaxConnsOfUser
		if !full {
			l.open[uid]++
		}
		l.mu.Unlock()
		if full {
			c.Close()
			continue
		}
		return &userConn{Conn: c, release: sync.OnceFunc(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.open[uid]--; l.open[uid] == 0 {
				delete(l.open, uid)
			}
		})}, nil
	}
}

type userConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *userConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// uidOf asks the kernel who is at the other end (SO_PEERCRED, unix(7)); -1: it does not say.
func uidOf(c net.Conn) int {
	if u, ok := c.(*userConn); ok {
		c = u.Conn
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return -1
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return -1
	}
	uid := -1
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	return uid
}

// refusals are when somebody's refusal was last recorded: whoever may connect could otherwise fill the disk with them.
type refusals struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

// due tells whether a refusal is to be recorded. Where too many are remembered, all are forgotten, and one more is recorded of each.
func (r *refusals) due(who string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last[who]; ok && now.Sub(last) < refusalEvery && !now.Before(last) {
		return false
	}
	if r.last == nil || len(r.last) >= maxRefused {
		r.last = make(map[string]time.Time)
	}
	r.last[who] = now
	return true
}
