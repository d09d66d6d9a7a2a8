package sshgw

import (
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
	"sallyport/sshgw/relay"
)

// passwdCommand is what somebody runs at the gateway to change his password.
const passwdCommand = "passwd"

const (
	// passwdWithin is how long after a login the password may be changed: a connection may stay for days, and be used by whoever finds
	// the machine unlocked.
	passwdWithin = 10 * time.Minute
	// maxNewPasswords bounds the passwords that are tried in one session.
	maxNewPasswords = 3
)

// passwd answers `ssh -t PERSON@GATEWAY passwd`. Who is here has just proved two kinds, so the old password is not asked for.
func (c *conn) passwd(ch ssh.Channel, requests <-chan *ssh.Request, start *relay.Start) {
	sentence := ""
	if c.srv.desk == nil {
		sentence = sayNotServed
	} else if err := c.srv.desk.ChangesPassword(c.ctx, c.grant); err != nil {
		sentence = c.sentenceOf(passwdCommand, err)
	} else if c.srv.now().Sub(c.since) > passwdWithin {
		sentence = "Log in anew: a password is changed within 10 minutes of a login."
	}
	if sentence != "" {
		if !c.recordRefusal(passwdCommand, login.ReasonCapability, login.Attempt{}) {
			sentence = ""
		}
		c.refuseStart(ch, requests, start, sentence)
		return
	}
	if start.PTY == nil {
		c.refuseStart(ch, requests, start, "Come with a terminal, so that nobody sees what you type: ssh -t "+c.grant.Person+"@GATEWAY passwd")
		return
	}
	c.converse(ch, requests, start, func(d *dialogue) (status uint32) {
		if c.newPassword(d) {
			return 0
		}
		return 1
	})
}

func (c *conn) newPassword(d *dialogue) (done bool) {
	for range maxNewPasswords {
		password, err := d.ask("New password of "+c.grant.Person+": ", false)
		if err != nil {
			return false
		}
		again, err := d.ask("Once more: ", false)
		if err != nil {
			return false
		}
		sentence := "The two are not the same."
		if password == again {
			err := c.srv.desk.ChangePassword(c.ctx, c.grant, login.NewSecret(password))
			if err == nil {
				_ = d.say("The password is changed.\n")
				return true
			}
			sentence = c.sentenceOf(passwdCommand, err)
		}
		if d.say(sentence+"\n") != nil {
			return false
		}
	}
	_ = d.say("The password is as it was.\n")
	return false
}
