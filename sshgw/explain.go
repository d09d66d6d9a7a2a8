package sshgw

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

const (
	// explainWait bounds the life of a session channel: it serves only to say a sentence.
	explainWait = 30 * time.Second
	// maxListed bounds the targets that the sentence names.
	maxListed = 50
)

// explain answers a session channel: whatever is asked for, the client is told how to reach a target, and gets exit
// status 1. It returns when the channel is closed on both sides.
func (c *conn) explain(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	gone := make(chan struct{})
	asked := make(chan sessionRequest, 1)
	c.run(func() {
		defer close(gone)
		c.answerSession(requests, asked)
	})
	c.run(func() { discard(ch) })
	c.run(func() { discard(ch.Stderr()) })
	timer := time.NewTimer(explainWait)
	defer timer.Stop()
	select {
	case r := <-asked:
		c.sayHow(ch, r)
	case <-gone:
		return
	case <-timer.C:
	case <-c.ctx.Done():
	}
	_ = ch.Close()
	c.await(gone)
}

// sessionRequest is what a session channel was opened for.
type sessionRequest struct {
	kind string // shell, exec, subsystem
	tty  bool
}

// answerSession answers a session's requests until the channel is closed. The first that would start something is
// recorded as refused, then granted for show, since clients print what comes over the channel and not why a request
// failed.
func (c *conn) answerSession(requests <-chan *ssh.Request, asked chan<- sessionRequest) {
	tty, started := false, false
	for r := range requests {
		ok := false
		switch r.Type {
		case "pty-req":
			ok, tty = true, true
		case "shell", "exec", "subsystem":
			if started {
				break
			}
			if !c.recordRefusal(r.Type, login.ReasonCapability, login.Attempt{}) {
				continue // the connection is ending; the rest is drained
			}
			ok, started = true, true
		case "x11-req", "auth-agent-req@openssh.com":
			if !c.recordRefusal(r.Type, login.ReasonCapability, login.Attempt{}) {
				continue
			}
		}
		if r.WantReply {
			// An error means that the connection is gone.
			_ = r.Reply(ok, nil)
		}
		if ok && r.Type != "pty-req" {
			asked <- sessionRequest{kind: r.Type, tty: tty}
		}
	}
}

// sayHow writes the sentence and the exit status. A shell reads it as output; commands and subsystems, whose output
// programs read, have it as error output.
func (c *conn) sayHow(ch ssh.Channel, r sessionRequest) {
	var to io.Writer = ch.Stderr()
	if r.kind == "shell" {
		to = ch
	}
	text := c.howTo()
	if r.tty {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	// A client that gives no window would keep us here: closing the channel does not wake the write, ending the
	// connection does.
	timer := time.AfterFunc(closeWait, func() { c.end(endStuck, "") })
	defer timer.Stop()
	if _, err := io.WriteString(to, text); err != nil {
		return
	}
	status := struct{ Status uint32 }{1}
	// An error means that the channel is gone.
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&status))
}

// howTo is the sentence for a person who asked for a session.
func (c *conn) howTo() string {
	var b strings.Builder
	fmt.Fprintf(&b, "This gateway opens no sessions of its own. Reach a target through it:\n\n    ssh -J %s@GATEWAY ACCOUNT@TARGET\n\n", c.grant.Person)
	names, known := c.permitted()
	switch {
	case !known:
	case len(names) == 0:
		b.WriteString("No target is permitted to you at present.\n")
	case len(names) > maxListed:
		fmt.Fprintf(&b, "Targets permitted to you: %s, and %d more.\n", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
	default:
		fmt.Fprintf(&b, "Targets permitted to you: %s.\n", strings.Join(names, ", "))
	}
	return b.String()
}

// permitted lists the targets that a jump could reach, if the Gate can say.
func (c *conn) permitted() (names []string, known bool) {
	gate, ok := c.srv.gate.(Lister)
	if !ok {
		return nil, false
	}
	targets := c.srv.settings.Load().routes.All()
	for i := range targets {
		if t := &targets[i]; t.Jump == Opaque && gate.Permits(c.grant, systemOf(t), login.MayShell) {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	return names, true
}
