package sshgw

import (
	"context"
	"errors"
	"io"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"sallyport/internal/login"
	"sallyport/sshgw/menu"
	"sallyport/sshgw/relay"
)

// menuWait ends a menu at which nothing is typed.
const menuWait = 10 * time.Minute

// lastUseWait bounds the wait for when somebody was where: the menu does without.
const lastUseWait = time.Second

// choose shows the menu until something is chosen and runs, or the person leaves. It returns when the channel is closed on both
// sides.
func (c *conn) choose(l *link, ch ssh.Channel, requests <-chan *ssh.Request, start *relay.Start) {
	start.Answer(true)
	base := ch
	idle := time.AfterFunc(menuWait, func() { c.end(endIdle, "") })
	stop := context.AfterFunc(c.ctx, func() { _ = base.Close() })
	m := menu.New(c.menuItems(l), int(start.PTY.Cols), int(start.PTY.Rows))
	for {
		_, _ = io.WriteString(ch, m.View(c.grant.Person))
		name, typed, ok := c.chosen(m, ch, requests, start, idle)
		if !ok {
			break
		}
		if len(typed) > 0 {
			ch = &typedAhead{Channel: ch, typed: typed}
		}
		held := relay.Hold(requests, start, c.run)
		session, sentence := c.goTo(l, name, ch, start, held)
		if session != nil {
			idle.Stop()
			stop()
			_, _ = io.WriteString(ch, "\r\n\r\n")
			if r := l.begin(session, ch, requests, start, held); r != nil {
				r.relay()
			}
			return
		}
		held.Release()
		if sentence == "" {
			break
		}
		if p, ok := held.Size(); ok {
			m.Resize(int(p.Cols), int(p.Rows))
		}
		m.Say(sentence)
	}
	idle.Stop()
	stop()
	_, _ = io.WriteString(ch, "\r\n")
	status := struct{ Status uint32 }{0}
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&status))
	c.shut(ch, requests)
}

// goTo asks what is missing, and then the Gate, for a session at a target that was chosen. When it returns none, the sentence is for the
// menu; empty: it is over.
func (c *conn) goTo(l *link, name string, ch ssh.Channel, start *relay.Start, held *relay.Held) (*session, string) {
	l.name, l.account = name, ""
	t, known := l.target()
	if known && l.accountAt(t) == "" {
		_, _ = io.WriteString(ch, "\r\n\r\n")
		account, err := term.NewTerminal(ch, "Account at "+t.Name+": ").ReadLine()
		if err != nil {
			return nil, ""
		}
		l.account = account
	}
	if known && l.needsStepUp(t) {
		_, _ = io.WriteString(ch, "\r\n\r\n")
		if err := l.stepUp(t, challengeAt(l.asker(ch, start))); errors.Is(err, errUnanswerable) {
			return nil, ""
		}
	}
	return l.permitted(start, held)
}

// typedAhead is a channel of which something was read that is for whoever reads next.
type typedAhead struct {
	ssh.Channel
	typed []byte
}

func (t *typedAhead) Read(p []byte) (int, error) {
	if len(t.typed) > 0 {
		n := copy(p, t.typed)
		t.typed = t.typed[n:]
		return n, nil
	}
	return t.Channel.Read(p)
}

// chosen reads keys until one chooses or leaves.
func (c *conn) chosen(m *menu.Menu, ch ssh.Channel, requests <-chan *ssh.Request, start *relay.Start, idle *time.Timer) (name string, typed []byte, ok bool) {
	// The terminal's size may change meanwhile. Whoever reads requests next takes over when this is done.
	type key struct {
		p   []byte
		err error
	}
	keys := make(chan key)
	next := make(chan struct{})
	read := make(chan struct{})
	c.run(func() {
		defer close(read)
		var buf [256]byte
		for range next {
			n, err := ch.Read(buf[:])
			keys <- key{append([]byte(nil), buf[:n]...), err}
			if err != nil {
				return
			}
		}
	})
	defer func() {
		close(next)
		<-read
	}()
	wanted := next
	pump := func() bool {
		select {
		case wanted <- struct{}{}:
			return true
		case <-read:
			return false
		}
	}
	if !pump() {
		return "", nil, false
	}
	for {
		select {
		case r, open := <-requests:
			if !open {
				requests = nil
				_ = ch.Close()
				continue
			}
			c.menuRequest(m, r, start)
			_, _ = io.WriteString(ch, m.View(c.grant.Person))
		case k := <-keys:
			idle.Reset(menuWait)
			action, rest := m.Input(k.p)
			switch action {
			case menu.Choose:
				it, ok := m.Chosen()
				return it.Name, rest, ok
			case menu.Leave:
				return "", nil, false
			case menu.Redraw:
				_, _ = io.WriteString(ch, m.View(c.grant.Person))
			}
			if k.err != nil || !pump() {
				return "", nil, false
			}
		}
	}
}

// menuRequest answers a request of a channel that shows the menu.
func (c *conn) menuRequest(m *menu.Menu, r *ssh.Request, start *relay.Start) {
	ok := start.Resize(r)
	if ok {
		m.Resize(int(start.PTY.Cols), int(start.PTY.Rows))
	}
	if r.WantReply {
		_ = r.Reply(ok, nil)
	}
}

// menuItems are the targets at which the person may open a terminal.
func (c *conn) menuItems(l *link) []menu.Item {
	ctx, cancel := context.WithTimeout(c.ctx, lastUseWait)
	defer cancel()
	last := c.srv.lastUse(ctx, c.grant.Person)
	var items []menu.Item
	for _, t := range c.permittedTargets() {
		if !l.permits(t, login.MayShell) {
			continue
		}
		items = append(items, menu.Item{
			Name: t.Name, Class: t.Class, Tags: t.Tags, LastUse: last[t.Name],
			Recorded: c.srv.gate.MustRecord(l.by(), systemOf(t)), StepUp: c.srv.gate.Foresee(l.by(), systemOf(t), login.MayShell) == login.ReasonStepUp,
		})
	}
	return items
}
