package exchange

import (
	"bytes"
	"errors"
	"testing"

	"sallyport/radiusd/exchange/exchangetest"
	"sallyport/radiusd/wire"
)

// A server that we did not write takes each kind of request for good, and we its answers.
func TestFreeRADIUS(t *testing.T) {
	t.Parallel()
	server := exchangetest.StartFreeRADIUS(t, exchangetest.Config{
		Secret: testSecret,
		Users:  "alice Cleartext-Password := \"open sesame\"\n\tClass := \"network\", Cisco-AVPair := \"shell:priv-lvl=15\"\n",
	})
	access, acct, coa := dial(t, server.Auth), dial(t, server.Acct), dial(t, server.CoA)

	answer := must(t, access, ask("alice", "open sesame"), wire.CodeAccessAccept)
	if !answer.View.MessageAuth.Present() {
		t.Error("the answer has no Message-Authenticator: the test's FreeRADIUS is to send one")
	}
	var class, pair []byte
	answer.Each(func(a wire.Attribute) bool {
		switch {
		case a.Vendor == 0 && a.Type == wire.AttrClass:
			class = a.Value
		case a.Vendor == 9 && a.Type == 1:
			pair = a.Value
		}
		return true
	})
	if string(class) != "network" || string(pair) != "shell:priv-lvl=15" {
		t.Errorf("Class %q, Cisco-AVPair %q", class, pair)
	}
	must(t, access, ask("alice", "open sesamf"), wire.CodeAccessReject)
	must(t, access, ask("alice", string(bytes.Repeat([]byte("x"), wire.MaxPassword))), wire.CodeAccessReject)
	must(t, access, Request{Code: wire.CodeStatusServer}, wire.CodeAccessAccept)

	session := wire.Attribute{Type: 44, Value: []byte("session 1")} // Acct-Session-Id
	status := wire.Attribute{Type: 40, Value: []byte{0, 0, 0, 1}}   // Acct-Status-Type: Start
	must(t, acct, Request{Code: wire.CodeAccountingRequest, Attributes: []wire.Attribute{status, session}}, wire.CodeAccountingResponse)

	who := func(name string) []wire.Attribute {
		return []wire.Attribute{{Type: wire.AttrUserName, Value: []byte(name)}, session}
	}
	must(t, coa, Request{Code: wire.CodeDisconnectRequest, Attributes: who("alice")}, wire.CodeDisconnectACK)
	must(t, coa, Request{Code: wire.CodeDisconnectRequest, Attributes: who("nobody")}, wire.CodeDisconnectNAK)
	must(t, coa, Request{Code: wire.CodeCoARequest, Attributes: who("alice")}, wire.CodeCoAACK)
}

// With another secret on the other side, neither takes the other for real, and the error says so.
func TestFreeRADIUSWithAnotherSecret(t *testing.T) {
	t.Parallel()
	server := exchangetest.StartFreeRADIUS(t, exchangetest.Config{Secret: "another secret"})
	_, err := dial(t, server.Auth).Exchange(within(t, 300*millisecond), ask("alice", "open sesame"))
	if none := new(NoAnswerError); !errors.As(err, &none) || none.Sent < 2 {
		t.Errorf("err = %v", err)
	}
}

// A server without its updates since 2024 does not sign, and is not believed.
func TestFreeRADIUSUnsigned(t *testing.T) {
	t.Parallel()
	server := exchangetest.StartFreeRADIUS(t, exchangetest.Config{
		Secret: testSecret, Unsigned: true,
		Users: "alice Cleartext-Password := \"open sesame\"\n",
	})
	_, err := dial(t, server.Auth).Exchange(within(t, 500*millisecond), ask("alice", "open sesame"))
	if none := new(NoAnswerError); !errors.As(err, &none) || none.Discarded[Unsigned] == 0 {
		t.Errorf("err = %v", err)
	}
	trusting := dial(t, server.Auth, func(o *Options) { o.InsecureAcceptUnsigned = true })
	must(t, trusting, ask("alice", "open sesame"), wire.CodeAccessAccept)
}
