package admin

import (
	"strings"
	"testing"

	"sallyport/internal/login"
	"sallyport/otp"
)

// Somebody changes his own password only where it is kept here, after a login that proved it and a code; what it takes of a password is
// what an operator's takes. It is on record as his own doing, with the login.
func TestChangePassword(t *testing.T) {
	d := newDesk(t)
	d.proves = "three unlike words"
	d.service.Firsts = func() []string { return []string{"ldap", "local"} }
	elsewhere := "ldap"
	d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
	var k TokenEnrolled
	d.do("token.enrol", TokenEnrol{Person: "bob", Params: otp.Default(), Active: true}, &k)
	seed, _, err := d.service.tokenOf(t.Context(), "bob", k.ID)
	if err != nil {
		t.Fatal(err)
	}
	gr, ok := d.gate.Decide(t.Context(), login.Attempt{
		ID: login.NewID(), Name: "bob", Protocol: "radius", System: login.System{Name: "vpn"}, Capability: login.MayLogin,
		Password: login.NewSecret(d.proves), Code: login.NewSecret(otp.Code(seed.Seed, seed.Params, seed.Params.StepAt(d.clock))),
	}).Accepted()
	if !ok {
		t.Fatal("bob is not let in")
	}
	hash := func() string {
		t.Helper()
		h, _, err := d.store.PasswordHash(t.Context(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	ctx := WithActor(t.Context(), Actor{Name: "bob", Road: "ssh"})
	const fresh = "seven other words of his"
	keyAndCode := gr
	keyAndCode.Factors = gr.Factors[1:]
	for what, c := range map[string]struct {
		gr       login.Grant
		first    *string
		password string
		says     string
	}{
		"password not proved": {keyAndCode, nil, fresh, "this login did not prove both"},
		"no login":            {login.Grant{Person: "bob"}, nil, fresh, "this login did not prove both"},
		"kept elsewhere":      {gr, &elsewhere, fresh, "not kept here: change it where it is"},
		"too short":           {gr, nil, "short", "8 to 128 bytes"},
		"his own name":        {gr, nil, "bob1234567", "made of"},
	} {
		local := ""
		d.do("user.set", UserSet{Name: "bob", First: &local}, nil)
		if c.first != nil {
			d.do("user.set", UserSet{Name: "bob", First: c.first}, nil)
		}
		before := len(d.records())
		if err := d.service.ChangePassword(ctx, c.gr, login.NewSecret(c.password)); err == nil || !strings.Contains(asError(err).Text, c.says) {
			t.Errorf("%s: %v", what, err)
		}
		if hash() != "" || len(d.records()) != before {
			t.Errorf("%s: something was changed", what)
		}
		if may := d.service.MayChangePassword(ctx, c.gr); (may == nil) != (c.password != fresh) {
			t.Errorf("%s: %v", what, may)
		}
	}
	local := ""
	d.do("user.set", UserSet{Name: "bob", First: &local}, nil)
	if err := d.service.ChangePassword(ctx, gr, login.NewSecret(fresh)); err != nil || hash() == "" {
		t.Fatalf("%v, %q", err, hash())
	}
	all := d.records()
	if rec := all[len(all)-1]; rec.Event != "user.password" || rec.Person != "bob" || recordDetail(rec, "actor") != "bob" || rec.Source != "ssh" || recordDetail(rec, "attempt") != gr.Attempt {
		t.Errorf("record %s", rec.AppendJSON(nil))
	}
	// Where another first factor is the usual one, nobody's is kept here who has none of his own.
	d.service.People = func() PeopleRules { return PeopleRules{First: "ldap"} }
	if err := d.service.MayChangePassword(ctx, gr); err == nil || !strings.Contains(err.Error(), "not kept here") {
		t.Errorf("by the configuration: %v", err)
	}
}
