package sshgw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"sallyport/internal/login"
	"sallyport/sshgw/relay"
)

// endLocked ends a session whose lock was not opened.
const endLocked login.Reason = "lock_not_opened"

const (
	// maxLockTries is how many codes are tried at one lock.
	maxLockTries = 3
	// maxLockLine bounds what is typed at a lock, in bytes.
	maxLockLine = 64

	// A terminal's other screen keeps what was shown, and brings it back (xterm's 1049).
	otherScreen = "\x1b[?1049h\x1b[2J\x1b[H"
	ownScreen   = "\x1b[?1049l"
)

var errSessionOver = errors.New("the session is over")

// lock is a terminal's: when nothing was typed for the rule's time, it shows nothing and takes nothing but a code. What the
// target writes meanwhile waits at the target. A nil lock never locks.
type lock struct {
	l     *link
	s     *session
	ctx   context.Context
	to    io.Writer // the terminal
	after time.Duration
	timer *time.Timer

	mu     sync.Mutex
	typed  time.Time     // when something last was
	opened chan struct{} // closed when the lock is open; nil: it is not shut
	line   []byte
	tries  int
	over   bool
	left   chan struct{} // closed when the client has closed the channel
}

// lockWhenIdle puts a lock before a session with a terminal whose rule wants one.
func (l *link) lockWhenIdle(ctx context.Context, s *session, r *relay.Session, start *relay.Start) *lock {
	after := s.grant.Lock
	if after <= 0 || start.PTY == nil {
		return nil
	}
	k := &lock{l: l, s: s, ctx: ctx, to: r.Client.Channel, after: after, typed: time.Now()}
	k.timer = time.AfterFunc(after, k.look)
	k.left = make(chan struct{})
	r.Left = sync.OnceFunc(func() { close(k.left) })
	input, output, errs := r.Input, r.Output, r.Errors
	r.Input = func(p []byte, forward relay.Forward) error {
		for len(p) > 0 {
			rest, shut := k.take(p)
			if !shut {
				return input(rest, forward)
			}
			p = rest
		}
		return nil
	}
	r.Output = func(p []byte, forward relay.Forward) error {
		if err := k.wait(); err != nil {
			return err
		}
		return output(p, forward)
	}
	r.Errors = func(p []byte, forward relay.Forward) error {
		if err := k.wait(); err != nil {
			return err
		}
		return errs(p, forward)
	}
	return k
}

func (k *lock) stop() {
	if k == nil {
		return
	}
	k.mu.Lock()
	k.over = true
	k.mu.Unlock()
	k.timer.Stop()
}

// look shuts the lock when its time has come.
func (k *lock) look() {
	k.mu.Lock()
	left := k.after - time.Since(k.typed)
	if k.over || k.opened != nil {
		k.mu.Unlock()
		return
	}
	if left > 0 {
		k.timer.Reset(left)
		k.mu.Unlock()
		return
	}
	k.opened, k.line, k.tries = make(chan struct{}), nil, 0
	k.mu.Unlock()
	k.note("session.locked")
	k.say(otherScreen + fmt.Sprintf("This session is locked, since nothing was typed for %v.\r\n%s", k.after, promptCode))
}

func (k *lock) note(event string) {
	ev := k.s.event(event, login.Info, login.ReasonOK)
	k.l.c.note(ev)
}

// say writes to the terminal. An error means that it is gone, which the relaying finds.
func (k *lock) say(text string) { _, _ = io.WriteString(k.to, text) }

// wait returns when what the target writes may be shown.
func (k *lock) wait() error {
	for {
		k.mu.Lock()
		opened := k.opened
		k.mu.Unlock()
		if opened == nil {
			return nil
		}
		select {
		case <-opened:
		case <-k.ctx.Done():
			return errSessionOver
		case <-k.left:
			return errSessionOver
		}
	}
}

// take looks at what is typed. When the lock is shut it takes it, up to the end of a line, which it judges; rest is what is left.
func (k *lock) take(p []byte) (rest []byte, shut bool) {
	k.mu.Lock()
	if k.opened == nil {
		k.typed = time.Now()
		k.mu.Unlock()
		return p, false
	}
	done := false
	for len(p) > 0 && !done {
		switch b := p[0]; {
		case b == '\r' || b == '\n':
			done = true
		case b == 0x7f || b == 8:
			k.line = k.line[:max(len(k.line)-1, 0)]
		case b == 3 || b == 21: // Ctrl-C, Ctrl-U
			k.line = nil
		case len(k.line) < maxLockLine:
			k.line = append(k.line, b)
		}
		p = p[1:]
	}
	line := string(k.line)
	if done {
		k.line = nil
	}
	k.mu.Unlock()
	if done && line != "" {
		k.judge(line)
	}
	return p, true
}

// judge lets the Gate say whether a code opens the lock.
func (k *lock) judge(code string) {
	_, why := k.l.c.oneMoreCode(k.s.grant, k.s.target, code)
	switch {
	case why == "":
		return // the connection is ending
	case why == login.ReasonOK:
		k.say(ownScreen)
		k.note("session.unlocked")
		k.mu.Lock()
		close(k.opened)
		k.opened, k.typed = nil, time.Now()
		k.timer.Reset(k.after)
		k.mu.Unlock()
		return
	}
	k.mu.Lock()
	k.tries++
	tries := k.tries
	k.mu.Unlock()
	if tries >= maxLockTries {
		k.s.end(endLocked, "")
		return
	}
	k.say("\r\nThat code was refused. Each code is good once: wait for the next.\r\n" + promptCode)
}
