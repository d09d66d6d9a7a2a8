package sshgw

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// A break-glass identity says why before anything is opened, and only once password and code were right; whoever says nothing, or
// cannot be asked, is not let in, and nobody else is asked.
func TestEmergencyTakesAReason(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	kind := func(k login.PersonKind) {
		h.gate.Apply(login.Change{PutPerson: &login.Person{Name: "alice", Kind: k, Groups: []string{"network"}}})
	}
	kind(login.BreakGlass)
	try := func(password, why string) (asked []string, err error) {
		code := h.code()
		questions := ssh.KeyboardInteractive(func(_, _ string, prompts []string, _ []bool) ([]string, error) {
			var answers []string
			for _, p := range prompts {
				asked = append(asked, p)
				switch {
				case strings.Contains(p, "Emergency"):
					if why == "" {
						return nil, errors.New("cancelled")
					}
					answers = append(answers, why)
				case p == promptPassword:
					answers = append(answers, password)
				default:
					answers = append(answers, code)
				}
			}
			return answers, nil
		})
		c, err := ssh.Dial("tcp", h.addr, h.clientConfig("alice", questions))
		if err == nil {
			c.Close()
		}
		return asked, err
	}
	if asked, err := try(alicePassword, "PACS is down, ticket 7"); err != nil || len(asked) != 3 {
		t.Fatalf("asked %q, %v", asked, err)
	}
	rec := h.last(EventEmergency)
	if rec.Result != audit.Info || rec.Person != "alice" || rec.PersonKind != "break-glass" || detail(rec, "why") != "PACS is down, ticket 7" || rec.Attempt != h.last("login").Attempt {
		t.Errorf("record %+v", rec)
	}
	for i, why := range []string{"", "   "} {
		if _, err := try(alicePassword, why); err == nil {
			t.Errorf("let in with the reason %q", why)
		}
		h.await("the record of it", func() bool { return len(h.find(EventEmergency)) == i+2 }) // a client that goes away doesn't wait
		if rec := h.last(EventEmergency); rec.Result != audit.Reject || rec.Reason != string(login.ReasonUnexplained) {
			t.Errorf("record %+v", rec)
		}
	}
	if asked, err := try("hunter2", "x"); err == nil || len(asked) != 2 {
		t.Errorf("with a wrong password: asked %q, %v (P6)", asked, err)
	}
	if c, err := ssh.Dial("tcp", h.addr, h.clientConfig("alice", ssh.Password(alicePassword+h.code()))); err == nil {
		c.Close()
		t.Error("let in by a method that cannot ask")
	}
	// What cannot be recorded is not opened for her, whatever the rule says (P10).
	code := h.code()
	c, err := ssh.Dial("tcp", h.addr, h.clientConfig("alice", ssh.KeyboardInteractive(func(_, _ string, prompts []string, _ []bool) ([]string, error) {
		answers := map[string]string{promptPassword: alicePassword, promptCode: code, promptWhy: "PACS is down"}
		var list []string
		for _, p := range prompts {
			list = append(list, answers[p])
		}
		return list, nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if ch, err := c.Dial("tcp", "core-sw1:22"); err == nil {
		ch.Close()
		t.Error("an opaque jump was opened")
	}
	if rec := h.last("access"); rec.Reason != string(login.ReasonRecording) || rec.Result != audit.Reject {
		t.Errorf("record %+v", rec)
	}
	kind(login.Staff)
	if asked, err := try(alicePassword, "x"); err != nil || len(asked) != 2 {
		t.Errorf("staff: asked %q, %v", asked, err)
	}
}
