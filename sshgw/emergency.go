package sshgw

import (
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

// EventEmergency is the event of what a break-glass identity said why it is used.
const EventEmergency = "emergency.reason"

// promptWhy is asked of break-glass identities alone, after password and code were right: strangers never see it (P6).
const promptWhy = "Emergency access. You are recorded, and somebody will ask. Why do you need it? "

// maxWhy bounds, in bytes, what is recorded of the answer.
const maxWhy = 500

// sayUnexplained is for those who say nothing.
const sayUnexplained = "Emergency access takes a reason: use a client that shows prompts, and answer."

// askWhy asks a break-glass identity for its reason, which is on record before anything is opened.
func (c *conn) askWhy(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) error {
	answers, err := challenge("", "", []string{promptWhy}, []bool{true})
	if err != nil || len(answers) != 1 || strings.TrimSpace(answers[0]) == "" {
		return c.unexplained(m)
	}
	grant := c.auth.grant
	why := cut(strings.TrimSpace(answers[0]), maxWhy)
	noted := c.note(login.Event{
		Event: EventEmergency, Result: login.Info, Reason: login.ReasonOK, Grant: &grant, Attempt: c.attempt(m.User()),
		Detail: []login.Detail{{Key: "why", Value: why}},
	})
	if !noted {
		c.auth.grant, c.auth.link = login.Grant{}, nil
		c.cannotAnswer(login.ReasonLogDown)
		return errUnanswerable
	}
	return nil
}

// unexplained takes back what a break-glass login has opened.
func (c *conn) unexplained(m ssh.ConnMetadata) error {
	grant := c.auth.grant
	c.auth.grant, c.auth.link = login.Grant{}, nil
	c.auth.refusals++
	if !c.note(login.Event{Event: EventEmergency, Result: login.Reject, Reason: login.ReasonUnexplained, Grant: &grant, Attempt: c.attempt(m.User())}) {
		c.cannotAnswer(login.ReasonLogDown)
		return errUnanswerable
	}
	return &ssh.BannerError{Err: errRefused, Message: sayUnexplained + "\r\n"}
}
