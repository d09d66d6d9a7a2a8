package sshgw

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/internal/policy/register"
)

// A service identity logs in by its key alone, for the one command at the one target and from the addresses that the key is bound to,
// and only while its rule's exception is in force (P1). A person's key never does.
func TestServiceIdentity(t *testing.T) {
	o := proxied(t, nil)
	key := newSigner(t)
	fingerprint := ssh.FingerprintSHA256(key.PublicKey())
	bind := func(sources ...string) {
		b := &login.Binding{Target: "core-sw1", Command: "echo backup done"}
		for _, s := range sources {
			b.Sources = append(b.Sources, netip.MustParsePrefix(s))
		}
		o.gate.Apply(login.Change{PutKey: &login.Key{Person: "backup", Fingerprint: fingerprint, Blob: key.PublicKey().Marshal(), Bound: b}})
	}
	o.gate.Apply(login.Change{PutPerson: &login.Person{Name: "backup", Kind: login.Service, Groups: []string{"machines"}}})
	bind("127.0.0.0/8")
	p := *o.gate.Policy()
	p.Rules = append(policy.Rules{{
		Name: "machines", Groups: []string{"machines"}, To: []string{"core-sw1"}, May: []policy.Capability{policy.Exec, policy.Shell, policy.Forward},
		Need: []policy.Kind{policy.Have}, Exception: "EX-1",
	}}, p.Rules...)
	o.gate.SetPolicy(&p)
	run := func(user, command string, pty bool) (string, error) {
		c, err := o.client(user, ssh.PublicKeys(key))
		if err != nil {
			return "", err
		}
		defer c.Close()
		s, err := c.NewSession()
		if err != nil {
			return "", err
		}
		defer s.Close()
		if pty {
			if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
				return "", err
			}
		}
		out, err := s.CombinedOutput(command)
		return string(out), err
	}
	refused := func(what string, why login.Reason, user string) {
		t.Helper()
		if out, err := run(user, "echo backup done", false); err == nil {
			t.Errorf("%s: let in: %q", what, out)
		}
		if r := o.last("login"); r.Reason != string(why) || r.Result != audit.Reject {
			t.Errorf("%s: record %s %s, want %s", what, r.Result, r.Reason, why)
		}
	}
	refused("without a live exception", login.ReasonException, "backup@core-sw1")
	o.gate.Apply(login.Change{PutException: &login.Exception{
		ID: "EX-1", Version: 1, Requester: "matron", Scope: register.Scope{People: []string{"backup"}, Factors: []policy.Kind{policy.Have}},
		Approval: register.Approval{By: "chief"}, From: o.now().Add(-time.Hour), Until: o.now().Add(time.Hour), Review: o.now().Add(time.Hour),
	}})
	if out, err := run("backup@core-sw1", "echo backup done", false); err != nil || out != "backup done\n" {
		t.Fatalf("%q, %v", out, err)
	}
	if r := o.last("login"); r.Exception != "EX-1" || r.Rule != "machines" || r.PersonKind != "service" || len(r.Factors) != 1 {
		t.Errorf("record %+v", r)
	}
	for command, pty := range map[string]bool{"id": false, "echo backup done ": false, "echo backup done": true} {
		if out, err := run("backup@core-sw1", command, pty); err == nil || !strings.Contains(out, "runs one command here") {
			t.Errorf("%q, terminal %v: %q, %v", command, pty, out, err)
		}
	}
	refused("another target", login.ReasonBinding, "backup@srv-off")
	refused("no target", login.ReasonBinding, "backup")
	c, err := o.client("backup@core-sw1", ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Dial("tcp", "localhost:22"); err == nil {
		t.Error("a port was forwarded")
	}
	if _, _, err := c.OpenChannel("session", nil); err != nil {
		t.Error(err)
	}
	bind("10.0.0.0/8")
	refused("from elsewhere", login.ReasonBinding, "backup@core-sw1")
	bind("127.0.0.0/8")
	o.gate.Apply(login.Change{PutPerson: &login.Person{Name: "backup", Kind: login.Staff, Groups: []string{"machines"}}})
	if _, err := run("backup@core-sw1", "echo backup done", false); err == nil {
		t.Error("a person was let in by a key alone")
	}
}
