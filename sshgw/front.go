package sshgw

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

// maxListed bounds the targets that a sentence names.
const maxListed = 50

// front answers a session channel of somebody who named no target: with a terminal he gets the menu, and without one he is
// told how to reach a target, and gets exit status 1. It returns when the channel is closed on both sides.
func (c *conn) front(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	l := &link{c: c, ssh: c.ssh, grant: c.grant}
	start, ok := c.gather(ch, requests, l.offered)
	if !ok {
		return
	}
	if start.Kind == "shell" && start.PTY != nil {
		c.choose(l, ch, requests, &start)
		return
	}
	if start.Kind == "exec" && start.Command == certCommand {
		c.issue(ch, requests, &start)
		return
	}
	if start.Kind == "exec" && start.Command == passwdCommand {
		c.passwd(ch, requests, &start)
		return
	}
	sentence := ""
	if c.recordRefusal(start.Kind, login.ReasonCapability, login.Attempt{}) {
		sentence = c.howTo()
	}
	c.refuseStart(ch, requests, &start, sentence)
}

// howTo is the sentence for a person who asked for a session and named no target.
func (c *conn) howTo() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Name the target that you want to reach:\n\n    ssh %[1]s@TARGET@GATEWAY\n    ssh -J %[1]s@GATEWAY ACCOUNT@TARGET\n    ssh -t %[1]s@GATEWAY          shows a menu\n    ssh %[1]s@GATEWAY cert        prints a certificate for your key, where a rule gives one\n    ssh -t %[1]s@GATEWAY passwd   changes your password, where it is kept here\n\n", c.grant.Person)
	var names []string
	for _, t := range c.permittedTargets() {
		names = append(names, t.Name)
	}
	switch {
	case len(names) == 0:
		b.WriteString("No target is permitted to you at present.")
	case len(names) > maxListed:
		fmt.Fprintf(&b, "Targets permitted to you: %s, and %d more.", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
	default:
		fmt.Fprintf(&b, "Targets permitted to you: %s.", strings.Join(names, ", "))
	}
	return b.String()
}

// permittedTargets lists the targets at which the person may do something, by name.
func (c *conn) permittedTargets() []*Target {
	var list []*Target
	all := c.srv.settings.Load().routes.All()
	for i := range all {
		if c.permitsAny(c.grant, &all[i]) {
			list = append(list, &all[i])
		}
	}
	slices.SortFunc(list, func(a, b *Target) int { return strings.Compare(a.Name, b.Name) })
	return list
}
