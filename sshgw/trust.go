package sshgw

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
	"sallyport/sshgw/outbound"
)

// askerKey is whose login others wait for: a person's key from one address.
type askerKey struct {
	person, key string
	source      netip.Addr
}

// askers are the connections that stand at the prompt while a trust window could open: others with the same key wait for them
// rather than ask for a code each.
type askers struct {
	mu sync.Mutex
	by map[askerKey]chan struct{} // closed when the asking is over
}

// begin makes the caller the one who asks, or tells whom to wait for.
func (a *askers) begin(k askerKey) (wait <-chan struct{}, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ch, asked := a.by[k]; asked {
		return ch, false
	}
	a.by[k] = make(chan struct{})
	return nil, true
}

func (a *askers) end(k askerKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ch := a.by[k]; ch != nil {
		close(ch)
		delete(a.by, k)
	}
}

// stopAsking releases those who wait for this connection's login.
func (c *conn) stopAsking() {
	if c.auth.asks != (askerKey{}) {
		c.srv.asking.end(c.auth.asks)
		c.auth.asks = askerKey{}
	}
}

// lean lets somebody in whose key is proved, and who has logged in by it lately, where a rule has a trust window. While another
// connection of his asks for a code, this one waits for how that ends. Done is false when he is to be asked.
func (c *conn) lean(m ssh.ConnMetadata) (done bool, err error) {
	a := c.attempt(m.User())
	a.Proofs, a.Serial = []login.Proof{c.auth.key.Proof}, c.auth.key.serial
	user, perr := ParseUser(m.User())
	if perr != nil || a.Serial == 0 && !c.srv.gate.MayOpenWindow(user.Person) {
		return false, nil
	}
	if user.Target != "" {
		t, known := c.srv.settings.Load().routes.ByName(user.Target)
		if !known {
			return false, nil
		}
		a.System = systemOf(t)
	}
	k := askerKey{person: user.Person, key: c.auth.key.ID, source: c.source.Addr()}
	for !c.srv.gate.Leans(a) {
		if a.Serial != 0 {
			return false, nil // nobody else's login helps a certificate
		}
		wait, mine := c.srv.asking.begin(k)
		if mine {
			c.auth.asks = k
			return false, nil
		}
		timer := time.NewTimer(time.Until(c.auth.deadline))
		select {
		case <-wait:
		case <-timer.C:
		case <-c.ctx.Done():
		}
		timer.Stop()
		if c.ctx.Err() != nil || !time.Now().Before(c.auth.deadline) {
			return true, errRefused
		}
	}
	a.System = login.System{}
	o := c.srv.gate.Lean(c.ctx, a)
	c.srv.meter.Login(o.Reason())
	if o.Unanswerable() {
		c.cannotAnswer(o.Reason())
		return true, errUnanswerable
	}
	grant, ok := o.Accepted()
	if !ok || !grant.Valid() {
		return false, nil // the window closed in this moment; he is asked
	}
	c.auth.grant = grant
	if user.Target != "" {
		c.auth.link = &link{c: c, name: user.Target, account: user.Account, grant: grant}
	}
	c.log.Info("ssh login, leaning on an earlier one", "person", grant.Person, "attempt", a.ID, "record", o.Seq())
	return true, nil
}

// The questions and sentences of a further code.
const (
	promptStepUp = "One more one-time code: "
	sayStepUp    = "name it in your user name (ssh PERSON@TARGET@GATEWAY), or come with a terminal, and you are asked for it."
	// maxStepUps bounds the further codes that are tried for one session.
	maxStepUps = 3
)

var errStepUp = errors.New("the further code was refused")

// needsStepUp tells whether the rule wants one more code before anything is opened at a target.
func (l *link) needsStepUp(t *Target) bool {
	for _, may := range []login.Capability{login.MayShell, login.MayExec, login.MaySFTP, login.MayForward, login.MayUpload, login.MayDownload} {
		if l.c.srv.gate.Foresee(l.by(), systemOf(t), may) == login.ReasonStepUp {
			return true
		}
	}
	return false
}

// stepUp asks for one more code. When it succeeds the link's grant has it.
func (l *link) stepUp(t *Target, challenge ssh.KeyboardInteractiveChallenge) error {
	l.steps.Lock()
	defer l.steps.Unlock()
	if !l.needsStepUp(t) {
		return nil // another session was asked meanwhile
	}
	instruction := t.Name + " wants one more code."
	for range maxStepUps {
		answers, err := challenge("", instruction, []string{promptStepUp}, []bool{false})
		if err != nil || len(answers) != 1 {
			return errStepUp
		}
		grant, why := l.c.oneMoreCode(l.by(), t, answers[0])
		switch why {
		case login.ReasonOK:
			l.mu.Lock()
			l.grant = grant
			l.mu.Unlock()
			return nil
		case "":
			return errUnanswerable
		}
		instruction = "That code was refused. Each code is good once: wait for the next."
	}
	return errStepUp
}

// oneMoreCode lets the Gate judge a further code. No reason means that the connection is ending.
func (c *conn) oneMoreCode(by login.Grant, t *Target, code string) (login.Grant, login.Reason) {
	a := c.attemptAt(t, "", login.MayShell)
	a.Code = login.NewSecret(code)
	o := c.srv.gate.StepUp(c.ctx, by, a)
	c.srv.meter.Login(o.Reason())
	if o.Unanswerable() {
		c.cannotAnswer(o.Reason())
		c.end(endUnrecorded, "")
		return login.Grant{}, ""
	}
	grant, ok := o.Accepted()
	if !ok || !grant.Valid() {
		return login.Grant{}, o.Reason()
	}
	return grant, login.ReasonOK
}

// challengeAt makes a challenge of an asker.
func challengeAt(ask outbound.Ask) ssh.KeyboardInteractiveChallenge {
	return func(name, instruction string, prompts []string, echos []bool) ([]string, error) {
		return ask(context.Background(), name, instruction, prompts, echos)
	}
}
