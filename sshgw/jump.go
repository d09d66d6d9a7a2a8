package sshgw

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

const (
	// dialTimeout bounds the wait for a target.
	dialTimeout = 10 * time.Second
	// maxDestination bounds, in bytes, what is recorded and repeated of a destination that a client asks for.
	maxDestination = 255
	// lingerAfterTarget is how long a client may go on sending to a target that has closed its side: no sshd does that,
	// and the client's end would not be noticed otherwise.
	lingerAfterTarget = time.Minute
	// unknownAccount is the account of an opaque jump: only client and target know it.
	unknownAccount = "unknown"
)

// directTCPIP is the payload of a direct-tcpip opening (RFC 4254 section 7.2).
type directTCPIP struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// sayRefused is the one sentence for targets that a person may not reach and for those that do not exist.
func sayRefused(destination string) string {
	return fmt.Sprintf("You may not reach %s through this gateway.", destination)
}

// spell makes a destination fit for a record and a sentence: bounded and printable.
func spell(host string, port uint32) string {
	host = cut(host, maxDestination)
	if quoted := strconv.QuoteToASCII(host); quoted != `"`+host+`"` {
		host = cut(quoted, maxDestination)
	}
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

// openTCP answers a direct-tcpip opening on the client's own connection: a jump to a target's SSH port, or a forwarded
// port.
func (c *conn) openTCP(nc ssh.NewChannel) {
	var dst directTCPIP
	if err := ssh.Unmarshal(nc.ExtraData(), &dst); err != nil {
		c.reject(nc, "direct-tcpip", login.ReasonNoTarget, ssh.ConnectionFailed, "A malformed channel opening.")
		return
	}
	routes := c.srv.settings.Load().routes
	target, known := routes.Find(dst.Host, dst.Port)
	if !known {
		if to, forward := routes.FindPort(dst.Host, dst.Port); forward && !routes.IsSSH(to, dst.Port) {
			c.forward(nc, to, dst)
			return
		}
		target = &Target{} // the Gate refuses a system without a name, and records that
	}
	c.jump(nc, target, known, dst)
}

// jump answers the opening of a channel to a target's SSH port, in the steps that the package comment lists. It returns
// when the channel is closed on both sides.
func (c *conn) jump(nc ssh.NewChannel, target *Target, known bool, dst directTCPIP) {
	destination := spell(dst.Host, dst.Port)
	if known && target.Jump != Opaque && c.jumpIsRecorded(target) {
		c.recordedJump(nc, target, destination)
		return
	}
	var s *session
	c.aside(func() { s = c.opaqueJump(nc, target, destination) })
	if s != nil {
		s.splice(nc, func(ctx context.Context) (net.Conn, error) { return c.dialTarget(ctx, target) },
			login.Detail{Key: "recorded", Value: "no, end to end"})
	}
}

// opaqueJump asks the Gate for an end-to-end jump. It returns nil when the client has its answer, or the connection is ending.
func (c *conn) opaqueJump(nc ssh.NewChannel, target *Target, destination string) *session {
	a := c.attemptAt(target, unknownAccount, login.MayShell)
	a.Detail = []login.Detail{{Key: "request", Value: "direct-tcpip"}, {Key: "destination", Value: destination}}
	grant, v, _ := c.access("direct-tcpip", c.grant, a)
	switch {
	case v == stopped:
		_ = nc.Reject(ssh.ResourceShortage, "The gateway is stopping.")
		return nil
	case v == refused:
		_ = nc.Reject(ssh.Prohibited, sayRefused(destination))
		return nil
	case v == over:
		return nil
	case grant.Record, target.Jump == Recorded:
		c.rejectGranted(nc, grant, a, login.ReasonRecording,
			target.Name+" is reached only with a recording, and an end-to-end jump cannot be recorded.")
		return nil
	case target.Jump == Off:
		c.rejectGranted(nc, grant, a, login.ReasonCapability, target.Name+" is not reached by ssh -J.")
		return nil
	}
	return &session{c: c, target: target, grant: grant, attempt: a, started: time.Now(), kind: "jump"}
}

// verdict is what became of a question to the Gate. The zero value says nothing to anybody.
type verdict uint8

const (
	over    verdict = iota // the connection is ending, and nothing is to be answered
	stopped                // the gateway stops; that is recorded
	refused                // recorded and counted
	granted
)

// attemptAt begins an attempt at a target.
func (c *conn) attemptAt(t *Target, account string, may login.Capability) login.Attempt {
	return login.Attempt{Protocol: protocol, Source: c.source, Account: account, System: systemOf(t), Capability: may}
}

// access is the one way to a target: it asks the Gate, and its answer is on record. By is the login that asks, c.grant or
// what came of it. A grant that comes with granted is valid.
func (c *conn) access(kind string, by login.Grant, a login.Attempt) (login.Grant, verdict, login.Reason) {
	if c.srv.isDraining() {
		if c.recordRefusalOf(by, kind, login.ReasonStopping, a) {
			return login.Grant{}, stopped, login.ReasonStopping
		}
		return login.Grant{}, over, login.ReasonStopping
	}
	o := c.srv.gate.Access(c.ctx, by, a)
	if o.Unanswerable() {
		c.log.Error("ssh access not answered: no record could be made", "reason", string(o.Reason()))
		c.end(endUnrecorded, "")
		return login.Grant{}, over, o.Reason()
	}
	grant, ok := o.Accepted()
	if !ok || !grant.Valid() || a.System.Name == "" {
		c.srv.meter.Refused(kind, o.Reason())
		if c.countRefusal() {
			return login.Grant{}, refused, o.Reason()
		}
		return login.Grant{}, over, o.Reason()
	}
	return grant, granted, o.Reason()
}

// rejectGranted refuses what the rules would allow: the person may know why.
func (c *conn) rejectGranted(nc ssh.NewChannel, grant login.Grant, a login.Attempt, why login.Reason, sentence string) {
	if c.refuseGranted("direct-tcpip", grant, a, why) {
		_ = nc.Reject(ssh.Prohibited, sentence)
	}
}

// refuseGranted records that something is refused which the rules would allow. When it returns false nothing is to be
// answered.
func (c *conn) refuseGranted(kind string, grant login.Grant, a login.Attempt, why login.Reason) bool {
	c.srv.meter.Refused(kind, why)
	return c.note(login.Event{Event: "access", Result: login.Reject, Reason: why, Attempt: a, Grant: &grant}) && c.countRefusal()
}

func systemOf(t *Target) login.System {
	return login.System{Name: t.Name, Tags: t.Tags, Class: t.Class}
}

// splice is the life of a session whose bytes are a target's own protocol: it is dialled, and bytes are copied and counted.
func (s *session) splice(nc ssh.NewChannel, dial func(ctx context.Context) (net.Conn, error), facts ...login.Detail) {
	ctx, ok := s.begin(facts...)
	if !ok {
		return
	}
	defer s.finish()
	dialling, stop := context.WithTimeout(ctx, dialTimeout)
	to, err := dial(dialling)
	stop()
	if err != nil {
		if ctx.Err() == nil { // else somebody ended it, and said why
			s.end(endDialFailed, dialError(err))
		}
		s.finish()
		_ = nc.Reject(ssh.ConnectionFailed, s.target.Name+" cannot be reached from the gateway.")
		return
	}
	defer to.Close()
	ch, requests, err := nc.Accept()
	if err != nil {
		s.closed(s.c.lostReason())
		return
	}
	s.copy(ctx, ch, requests, to)
}
