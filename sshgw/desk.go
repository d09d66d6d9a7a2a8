package sshgw

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"sallyport/internal/login"
	"sallyport/sshgw/relay"
)

// Desk is what people may change of themselves over SSH: whoever makes a Server wires it to the operator's verbs, each of which is
// recorded. It is called concurrently. An error that has a sentence for the person implements Sentence() string.
type Desk interface {
	// Enrols tells whether people may come with a ticket, as the user login.EnrolName.
	Enrols() bool
	// Redeem judges who comes with one. Its record is durable when it returns.
	Redeem(ctx context.Context, a login.Attempt, ticket login.Secret) (login.Enrolment, login.Outcome)
	// Enrol makes the token, and Confirm takes its first code; right is false when the code is not its.
	Enrol(ctx context.Context, e login.Enrolment) (Enrolling, error)
	Confirm(ctx context.Context, e login.Enrolment, token, code string) (right bool, err error)

	// ChangesPassword tells why somebody who has logged in may not change his password here; nil: he may.
	ChangesPassword(ctx context.Context, gr login.Grant) error
	ChangePassword(ctx context.Context, gr login.Grant, password login.Secret) error
}

// Enrolling is what somebody is shown who enrols a device, once.
type Enrolling struct {
	Token  string // id
	Secret string // for typing
	Kind   string // of token, in words
	QR     string // drawn for a terminal; lines end with \n
	Cols   int    // of the drawing
}

// dialogueFor bounds a dialogue of ours with a person, from its beginning.
const dialogueFor = 15 * time.Minute

// maxTyped bounds, in bytes, a line that somebody types without a terminal.
const maxTyped = 256

var errTyped = errors.New("a line is too long")

// dialogue is a conversation of the gateway itself with a person, in a session channel.
type dialogue struct {
	ch    ssh.Channel
	term  *term.Terminal // nil: without a terminal
	lines *bufio.Reader
	cols  int
	rows  int
}

// converse answers a session's start, lets talk talk, and closes the channel with the status that it returns. It returns when the channel
// is closed on both sides.
func (c *conn) converse(ch ssh.Channel, requests <-chan *ssh.Request, start *relay.Start, talk func(*dialogue) (status uint32)) {
	start.Answer(true)
	over := time.AfterFunc(dialogueFor, func() { c.end(endIdle, "") })
	stop := context.AfterFunc(c.ctx, func() { _ = ch.Close() })
	held := relay.Hold(requests, start, c.run)
	d := &dialogue{ch: ch}
	if p, ok := held.Size(); ok {
		d.term, d.cols, d.rows = term.NewTerminal(ch, ""), int(p.Cols), int(p.Rows)
		if d.cols > 0 && d.rows > 0 {
			_ = d.term.SetSize(d.cols, d.rows) // it never fails
		}
	} else {
		d.lines = bufio.NewReaderSize(ch, maxTyped)
	}
	status := talk(d)
	over.Stop()
	held.Release()
	// A client that gives no window would keep us here, as in sayAndLeave.
	late := time.AfterFunc(closeWait, func() { c.end(endStuck, "") })
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&struct{ Status uint32 }{status}))
	late.Stop()
	stop()
	c.shut(ch, requests)
}

// say writes a text; \n ends lines.
func (d *dialogue) say(text string) error {
	var w io.Writer = d.ch
	if d.term != nil {
		w = d.term // which writes \r\n
	}
	_, err := io.WriteString(w, text)
	return err
}

// ask asks for a line. What is typed is shown where it may be seen; without a terminal, whether it is shown is the client's matter.
func (d *dialogue) ask(prompt string, seen bool) (string, error) {
	switch {
	case d.term == nil:
		if err := d.say(prompt); err != nil {
			return "", err
		}
		line, err := d.lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return "", errTyped
		}
		if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
			return "", err
		}
		return trimLine(string(line)), nil
	case seen:
		d.term.SetPrompt(prompt)
		defer d.term.SetPrompt("")
		return d.term.ReadLine()
	default:
		return d.term.ReadPassword(prompt)
	}
}

func trimLine(s string) string {
	for len(s) > 0 && (s[len(s)-1] == '\n' || s[len(s)-1] == '\r') {
		s = s[:len(s)-1]
	}
	return s
}

// sentenceOf is what a person is told of an error of the Desk.
func (c *conn) sentenceOf(what string, err error) string {
	var s interface{ Sentence() string }
	if errors.As(err, &s) {
		return s.Sentence()
	}
	c.log.Error("ssh: "+what+" failed", "error", err)
	return "This cannot be done now. Tell the gateway's operators."
}
