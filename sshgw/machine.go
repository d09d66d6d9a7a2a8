package sshgw

import (
	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

// serveMachine lets the Gate judge a service identity by the key that it has proved. There is nobody to ask for anything else, and the
// user name has to name the target.
func (c *conn) serveMachine(m ssh.ConnMetadata) error {
	if c.auth.tries >= maxCodeTries {
		c.wire.Close()
		return errCodeTries
	}
	c.auth.tries++
	user, err := ParseUser(m.User())
	if err != nil {
		return errRefused
	}
	a := c.attempt(m.User())
	a.Proofs = []login.Proof{c.auth.key.Proof}
	a.Capability = login.MayExec
	a.Detail = append(a.Detail, algorithmDetail(m)...)
	if t, known := c.srv.settings.Load().routes.ByName(user.Target); known && user.Target != "" {
		a.System, a.Account = systemOf(t), user.Account
	}
	o := c.srv.gate.Serve(c.ctx, a)
	c.srv.meter.Login(o.Reason())
	if o.Unanswerable() {
		c.cannotAnswer(o.Reason())
		return errUnanswerable
	}
	grant, ok := o.Accepted()
	if !ok || !grant.Valid() {
		c.auth.refusals++
		return errRefused
	}
	c.auth.grant = grant
	c.auth.link = &link{c: c, name: user.Target, account: user.Account, grant: grant}
	c.log.Info("ssh login of a service identity", "person", grant.Person, "attempt", a.ID, "record", o.Seq())
	return nil
}
