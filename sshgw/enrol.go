package sshgw

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

// The questions of an enrolment. They are the same for everybody (P6).
const (
	promptName   = "Your name: "
	promptTicket = "Ticket: "

	sayEnrolment = "You enrol a one-time-code device. Your name, the ticket that you were given, and your password:"
	promptFirst  = "The code that it shows now: "
)

// maxFirstCodes bounds the codes that are tried in one session.
const maxFirstCodes = 3

// enrols tells whether a user name is that of people who come with a ticket.
func (c *conn) enrols(user string) bool {
	return user == login.EnrolName && c.srv.desk != nil && c.srv.desk.Enrols()
}

// redeem asks for name, ticket and password, and lets the Gate judge them.
func (c *conn) redeem(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) error {
	answers, err := challenge("", sayEnrolment, []string{promptName, promptTicket, promptPassword}, []bool{true, true, false})
	if err != nil {
		return fmt.Errorf("the questions were not answered: %w", err)
	}
	c.extendGrace()
	c.auth.tries++
	a := c.attempt("")
	a.Name = strings.TrimSpace(answers[0])
	a.Password = login.NewSecret(answers[2])
	a.Detail = append(a.Detail, algorithmDetail(m)...)
	e, o := c.srv.desk.Redeem(c.ctx, a, login.NewSecret(answers[1]))
	c.srv.meter.Login(o.Reason())
	if e.Valid() {
		c.auth.enrolment = e
		c.log.Info("ssh: a ticket was redeemed", "person", e.Person, "ticket", e.Ticket, "attempt", a.ID, "record", e.Seq())
		return nil
	}
	if o.Unanswerable() {
		c.cannotAnswer(o.Reason())
		return errUnanswerable
	}
	c.auth.refusals++
	c.log.Info("ssh enrolment refused", "reason", string(o.Reason()), "attempt", a.ID, "record", o.Seq())
	return &ssh.BannerError{Err: errRefused, Message: o.Sentence() + "\r\n"}
}

// openEnrolment answers a channel opening of somebody who came with a ticket: one session, and nothing else.
func (c *conn) openEnrolment(nc ssh.NewChannel) {
	c.mu.Lock()
	first := !c.enrolled && nc.ChannelType() == "session"
	c.enrolled = c.enrolled || first
	c.mu.Unlock()
	if !first {
		c.refuseKind(nc)
		return
	}
	c.serveChannel(nc, c.enrol)
}

// enrol shows a new token's secret, and takes its first code.
func (c *conn) enrol(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	start, ok := c.gather(ch, requests, func(string) bool { return false })
	if !ok {
		return
	}
	if start.Kind != "shell" {
		c.refuseStart(ch, requests, &start, "Come without a command: ssh "+login.EnrolName+"@GATEWAY")
		return
	}
	c.converse(ch, requests, &start, func(d *dialogue) (status uint32) {
		if c.enrolBy(d) {
			return 0
		}
		return 1
	})
}

func (c *conn) enrolBy(d *dialogue) (done bool) {
	e := c.enrolment
	t, err := c.srv.desk.Enrol(c.ctx, e)
	if err != nil {
		_ = d.say(c.sentenceOf("enrolment", err) + "\n")
		return false
	}
	if d.say(enrolText(e.Person, t, d.cols)) != nil {
		return false
	}
	for range maxFirstCodes {
		code, err := d.ask(promptFirst, true)
		if err != nil {
			return false // the person went away; token and ticket wait
		}
		right, err := c.srv.desk.Confirm(c.ctx, e, t.Token, code)
		switch {
		case err != nil:
			_ = d.say("\n" + c.sentenceOf("enrolment", err) + "\n")
			return false
		case right:
			_ = d.say("\nDone: the device serves from now on, as " + t.Token + ". That code is used; your login needs the next one.\n")
			return true
		}
		if d.say("That is not its code. Wait for the next one; the device's clock has to be right.\n") != nil {
			return false
		}
	}
	_ = d.say("\nThe device was not enrolled. Delete it from the app, and come again with the same ticket.\n")
	return false
}

// enrolText is what a person is shown. A drawing that is wider than the terminal would be none.
func enrolText(person string, t Enrolling, cols int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "A one-time-code device for %s (%s).\n\n", person, t.Kind)
	if cols == 0 || cols >= t.Cols {
		b.WriteString("Read this into your authenticator app:\n\n" + t.QR + "\nor type this secret into it:\n\n    ")
	} else {
		fmt.Fprintf(&b, "This terminal is too narrow for a QR code of %d columns. Type this secret into your authenticator app:\n\n    ", t.Cols)
	}
	for i := 0; i < len(t.Secret); i += 4 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(t.Secret[i:min(i+4, len(t.Secret))])
	}
	b.WriteString("\n\n")
	return b.String()
}
