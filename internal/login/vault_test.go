package login

import (
	"fmt"
	"reflect"
	"testing"
)

func TestVault(t *testing.T) {
	g := &Gate{roster: newRoster(), vault: newVault(), books: newBooks(), tickets: newTickets()}
	put := func(target, print string, state HostKeyState) {
		for range 2 { // every change may be applied twice
			g.Apply(Change{All: []Change{{PutHostKey: &HostKey{Target: target, Fingerprint: print, State: state}}}})
		}
	}
	prints := func(target string) (all []string) {
		for _, k := range g.TargetKeys(target) {
			all = append(all, k.Fingerprint+" "+string(k.State))
		}
		return all
	}
	want := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	put("Core-SW1", "a", HostKeyPending)
	put("core-sw1", "b", HostKeyPending)
	held := g.TargetKeys("core-sw1")
	put("CORE-SW1", "a", HostKeyApproved)
	want("keys", prints("core-sw1"), []string{"a approved", "b pending"})
	if held[0].State != HostKeyPending {
		t.Error("a list that a reader holds was changed")
	}
	want("pending", g.vault.pending, 1)
	for range 2 {
		g.Apply(Change{DeleteHostKey: &HostKeyID{"core-sw1", "b"}})
	}
	want("after the removal", prints("core-sw1"), []string{"a approved"})
	want("pending after the removal", g.vault.pending, 0)
	want("nobody", len(prints("srv1")), 0)

	for i := range MaxPendingOf {
		if !g.RoomForPending("srv1") {
			t.Fatalf("no room after %d", i)
		}
		put("srv1", fmt.Sprint(i), HostKeyPending)
	}
	if g.RoomForPending("srv1") || !g.RoomForPending("core-sw1") {
		t.Error("the bound of one target does not hold, or holds for all")
	}
	for i := range MaxPending - MaxPendingOf {
		put(fmt.Sprint("t", i), "x", HostKeyPending)
	}
	if g.RoomForPending("core-sw1") {
		t.Error("the bound of all does not hold")
	}

	for _, c := range []Credential{
		{Target: "srv1", Account: "root", Kind: CredentialKey, Secret: []byte("k")},
		{Target: "SRV1", Kind: CredentialPassword, Secret: []byte("p")},
	} {
		g.Apply(Change{PutCredential: &c})
		clear(c.Secret) // the caller's own
	}
	for account, secret := range map[string]string{"root": "k", "Root": "p", "": "p"} {
		c, ok := g.TargetCredential("Srv1", account)
		if !ok || string(c.Secret) != secret {
			t.Errorf("account %q: %q, %v, want %q", account, c.Secret, ok, secret)
		}
	}
	for _, c := range g.TargetCredentials("srv1") {
		if c.Secret != nil {
			t.Error("a list holds a secret")
		}
	}
	g.Apply(Change{DeleteCredential: &CredentialID{"srv1", ""}})
	if _, ok := g.TargetCredential("srv1", "admin"); ok || len(g.TargetCredentials("srv1")) != 1 {
		t.Error("it was not removed")
	}
}

// A field that Empty does not know would be recorded and never applied.
func TestChangeEmptyKnowsEveryField(t *testing.T) {
	if !(Change{}).Empty() {
		t.Error("nothing is something")
	}
	v := reflect.TypeFor[Change]()
	for i := range v.NumField() {
		var c Change
		f := reflect.ValueOf(&c).Elem().Field(i)
		switch f.Kind() {
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.String:
			f.SetString("x")
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		}
		if c.Empty() {
			t.Errorf("a change of %s counts as none", v.Field(i).Name)
		}
	}
}
