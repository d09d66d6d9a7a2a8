package admin

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// fakeTargets are two targets, of which one shows what a test says.
type fakeTargets struct {
	shown  [][]byte
	pinned []string
}

func (f *fakeTargets) All() []TargetSetting {
	return []TargetSetting{{Name: "Core-SW1", Address: "10.0.0.1:22", Pinned: f.pinned}, {Name: "srv1"}}
}
func (f *fakeTargets) Scan(context.Context, string) ([][]byte, error) { return f.shown, nil }
func (f *fakeTargets) Authorities() (Authorities, error)              { return Authorities{KnownHosts: "x"}, nil }

func hostKey(t testing.TB) (wire []byte, fingerprint, line string) {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key.Marshal(), ssh.FingerprintSHA256(key), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func (d *desk) last() audit.Record {
	all := d.records()
	return all[len(all)-1]
}

func recordDetail(rec audit.Record, key string) string {
	for _, x := range rec.Detail {
		if x.Key == key {
			return x.Value
		}
	}
	return ""
}

// states are a target's keys as the desk's gate has them.
func (d *desk) states(target string) string {
	var all []string
	for _, k := range d.gate.TargetKeys(target) {
		all = append(all, k.Fingerprint[7:12]+" "+string(k.State)+" "+k.By)
	}
	return strings.Join(all, ", ")
}

// reload fills the gate from the store, as a start does.
func (d *desk) reload(f *fakeTargets) {
	d.t.Helper()
	d.restart()
	d.service.Targets = f
	if err := errors.Join(
		d.store.HostKeys(d.t.Context(), func(k login.HostKey) error { d.gate.Apply(login.Change{PutHostKey: &k}); return nil }),
		d.store.Credentials(d.t.Context(), func(c login.Credential) error { d.gate.Apply(login.Change{PutCredential: &c}); return nil }),
	); err != nil {
		d.t.Fatal(err)
	}
}

// A host key goes from unseen to waiting, trusted, revoked and forgotten; each step is recorded at its target, and
// outlives a restart, also when the process dies between record and change.
func TestHostKeyLife(t *testing.T) {
	for _, crash := range []bool{false, true} {
		d, f := newDesk(t), &fakeTargets{}
		d.service.Targets = f
		wire, print, _ := hostKey(t)
		in := HostKeyIn{"core-sw1", print} // in another case than it is configured
		for _, step := range []struct {
			event, reason, states string
			do                    func() error
		}{
			{"target.host_key", "host_key_unknown", print[7:12] + " pending gateway", func() error { return d.service.OfferHostKey(t.Context(), "core-sw1", wire) }},
			{"target.trust", "ok", print[7:12] + " approved root", func() error { return d.service.Call(d.ctx(), "target.trust", in, nil) }},
			{"target.revoke", "ok", print[7:12] + " revoked root", func() error { return d.service.Call(d.ctx(), "target.revoke", in, nil) }},
			{"target.remove", "ok", "", func() error { return d.service.Call(d.ctx(), "target.remove", in, nil) }},
		} {
			n := len(d.records())
			d.crash = crash
			if err := step.do(); (err != nil) != crash {
				t.Fatalf("%s: %v", step.event, err)
			}
			d.reload(f)
			rec := d.last()
			if len(d.records()) != n+1 || rec.Event != step.event || rec.Reason != step.reason || rec.System != "Core-SW1" || recordDetail(rec, "fingerprint") != print {
				t.Errorf("%s: %d records, the last %+v", step.event, len(d.records())-n, rec)
			}
			if got := d.states("core-sw1"); got != step.states {
				t.Errorf("%s: %q, want %q", step.event, got, step.states)
			}
		}
	}
}

// What is known already is neither recorded nor queued again, and what nobody has seen cannot be trusted.
func TestHostKeyRefusals(t *testing.T) {
	d, f := newDesk(t), &fakeTargets{}
	d.service.Targets = f
	wire, print, line := hostKey(t)
	_, other, _ := hostKey(t)
	n := len(d.records())
	for _, pinned := range []string{print, line, line + " root@sw1", "@revoked " + print} {
		f.pinned = []string{pinned}
		if err := d.service.OfferHostKey(t.Context(), "core-sw1", wire); err != nil || d.states("core-sw1") != "" {
			t.Errorf("%s: %v, %s", pinned, err, d.states("core-sw1"))
		}
	}
	f.pinned = nil
	if err := d.service.OfferHostKey(t.Context(), "nobody", wire); err == nil {
		t.Error("a key of no target is queued")
	}
	if err := d.service.OfferHostKey(t.Context(), "srv1", []byte("junk")); err == nil {
		t.Error("junk is queued")
	}
	d.refused("target.trust", HostKeyIn{"core-sw1", print})
	d.refused("target.trust", HostKeyIn{"nobody", print})
	d.refused("target.remove", HostKeyIn{"core-sw1", print})
	d.refused("target.revoke", HostKeyIn{"core-sw1", "SHA256:x"})
	if got := len(d.records()); got != n {
		t.Errorf("%d records of refusals", got-n)
	}
	f.shown = [][]byte{wire}
	for range 3 {
		var info TargetInfo
		d.do("target.scan", TargetIn{"core-sw1"}, &info)
		if len(info.Keys) != 1 || info.Keys[0].Fingerprint != print || info.Keys[0].State != login.HostKeyPending {
			t.Errorf("scanned %+v", info)
		}
	}
	d.do("target.revoke", HostKeyIn{"core-sw1", other}, nil)
	d.do("target.revoke", HostKeyIn{"core-sw1", other}, nil)
	if got := len(d.records()); got != n+2 {
		t.Errorf("%d records, want 2", got-n)
	}
	d.refused("target.trust", HostKeyIn{"core-sw1", other})
}

// P7: whoever can make a target's key change cannot fill the store, nor the log with alerts.
func TestHostKeysAreBounded(t *testing.T) {
	d, f := newDesk(t), &fakeTargets{}
	d.service.Targets = f
	full := 0
	for range login.MaxPendingOf + 3 {
		wire, _, _ := hostKey(t)
		if err := d.service.OfferHostKey(t.Context(), "core-sw1", wire); errors.Is(err, errQueueFull) {
			full++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.gate.TargetKeys("core-sw1")); full != 3 || n != login.MaxPendingOf {
		t.Errorf("%d keys wait, %d were refused", n, full)
	}
	wire, print, _ := hostKey(t)
	alert := func(why login.Reason) (recorded int) {
		t.Helper()
		n := len(d.records())
		if err := d.service.HostKeyAlert(t.Context(), "core-sw1", wire, why); err != nil {
			t.Fatal(err)
		}
		return len(d.records()) - n
	}
	if alert(login.ReasonHostKeyChanged) != 1 || alert(login.ReasonHostKeyChanged) != 0 || alert(login.ReasonHostKeyRevoked) != 1 {
		t.Error("an alert is to be recorded once for each reason")
	}
	rec := d.last()
	if rec.Event != "target.host_key" || rec.Result != audit.Reject || rec.Reason != "host_key_revoked" || recordDetail(rec, "fingerprint") != print || recordDetail(rec, "actor") != "gateway" {
		t.Errorf("%+v", rec)
	}
	d.clock = d.clock.Add(alertEvery - time.Second)
	if alert(login.ReasonHostKeyChanged) != 0 {
		t.Error("an alert comes too often")
	}
	d.clock = d.clock.Add(time.Second)
	if alert(login.ReasonHostKeyChanged) != 1 {
		t.Error("an alert does not come again")
	}
	if got := d.states("core-sw1"); strings.Contains(got, print[7:12]) {
		t.Error("a changed key was queued by its alert")
	}
	for i := range maxAlerts + 10 {
		d.service.due(fmt.Sprint(i))
	}
	if len(d.service.alerts) > maxAlerts {
		t.Errorf("%d alerts are remembered", len(d.service.alerts))
	}
}

// P9: a credential is in no record, no answer and no error; it serves after a restart, also when the process dies between
// record and change.
func TestCredentials(t *testing.T) {
	const hunter = "hunter2-Tr0ub4dor"
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key := pem.EncodeToMemory(block)
	for _, crash := range []bool{false, true} {
		d, f := newDesk(t), &fakeTargets{}
		d.service.Targets = f
		for _, in := range []CredentialSet{
			{Target: "CORE-sw1", Kind: login.CredentialPassword, Secret: []byte(hunter)},
			{Target: "core-sw1", Account: "root", Kind: login.CredentialKey, Secret: key},
		} {
			want := string(in.Secret)
			d.crash = crash
			if err := d.service.Call(d.ctx(), "target.credential", in, nil); (err != nil) != crash || err != nil && strings.Contains(err.Error(), hunter) {
				t.Fatal(err)
			}
			d.reload(f)
			if c, ok := d.gate.TargetCredential("core-sw1", in.Account); !ok || string(c.Secret) != want || c.Kind != in.Kind {
				t.Errorf("%+v is kept of %s", c, in.Account)
			}
			rec := d.last()
			if rec.Event != "target.credential" || rec.System != "Core-SW1" || in.Account != "" && rec.Account != in.Account || recordDetail(rec, "kind") != string(in.Kind) {
				t.Errorf("%+v", rec)
			}
		}
		var list []TargetInfo
		d.do("target.list", Empty{}, &list)
		d.do("target.credential-remove", CredentialIn{"core-sw1", "root"}, nil)
		d.reload(f)
		if c, ok := d.gate.TargetCredential("core-sw1", "root"); !ok || string(c.Secret) != hunter {
			t.Error("without its own, an account has the target's")
		}
		shown, err := json.Marshal([]any{list, d.records()})
		if err != nil || len(list[0].Credentials) != 2 || strings.Contains(string(shown), hunter) || strings.Contains(string(shown), "PRIVATE") {
			t.Errorf("shown: %s", shown)
		}
	}
	d := newDesk(t)
	d.service.Targets = &fakeTargets{}
	for name, in := range map[string]CredentialSet{
		"no target":     {Target: "nobody", Kind: login.CredentialPassword, Secret: []byte(hunter)},
		"no kind":       {Target: "srv1", Secret: []byte(hunter)},
		"empty":         {Target: "srv1", Kind: login.CredentialPassword},
		"two lines":     {Target: "srv1", Kind: login.CredentialPassword, Secret: []byte(hunter + "\nx")},
		"no key":        {Target: "srv1", Kind: login.CredentialKey, Secret: []byte(hunter)},
		"no cert":       {Target: "srv1", Kind: login.CredentialKey, Secret: []byte(string(key) + hunter)},
		"too long":      {Target: "srv1", Kind: login.CredentialPassword, Secret: []byte(strings.Repeat("x", maxCredential+1))},
		"odd account":   {Target: "srv1", Account: "a@b", Kind: login.CredentialPassword, Secret: []byte(hunter)},
		"blank account": {Target: "srv1", Account: "a b", Kind: login.CredentialPassword, Secret: []byte(hunter)},
	} {
		if e := d.refused("target.credential", in); strings.Contains(e.Text+e.Hint, hunter) {
			t.Errorf("%s: the refusal holds the secret", name)
		}
		if len(d.gate.TargetCredentials("srv1")) > 0 {
			t.Errorf("%s: it was kept", name)
		}
	}
	d.refused("target.credential-remove", CredentialIn{"srv1", ""})
}
