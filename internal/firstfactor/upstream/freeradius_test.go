package upstream

import (
	"bytes"
	"crypto/md5"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"layeh.com/radius/rfc2759"
	"layeh.com/radius/rfc3079"

	"sallyport/internal/login"
	"sallyport/radiusd/exchange/exchangetest"
	"sallyport/radiusd/wire"
)

// users are FreeRADIUS's.
const users = `alice Cleartext-Password := "open sesame"
	Class := "network", Class += "second", Cisco-AVPair := "shell:priv-lvl=15", Session-Timeout := 600, Reply-Message := "Welcome"
bob@corp.example Cleartext-Password := "open sesame"
pin Cleartext-Password := "open sesame"
	Class := "pin"
DEFAULT Auth-Type := Reject
`

// asksTwice is unlang that asks whoever is called pin for two things after his password.
const asksTwice = `
		if (&User-Name == "pin") {
			if (!&State) {
				if (&User-Password != "open sesame") {
					update control {
						&Auth-Type := Reject
					}
				}
				else {
					update reply {
						&Reply-Message := "Choose a new PIN of ", &Reply-Message += "4 digits:", &State := 0x737461746531
						&Prompt := No-Echo
					}
					challenge
				}
			}
			elsif (&State == 0x737461746531) {
				if (&User-Password == "4711") {
					update reply {
						&Reply-Message := "Next code:", &State := 0x737461746532, &Prompt := Echo
					}
					challenge
				}
			}
			elsif (&State == 0x737461746532 && &User-Password == "123456") {
				update reply {
					&Class := "pin"
				}
				update control {
					&Auth-Type := Accept
				}
			}
		}
`

func freeRADIUS(t testing.TB, set ...func(*exchangetest.Config)) *exchangetest.FreeRADIUS {
	t.Helper()
	c := exchangetest.Config{Secret: testSecret, Users: users, Authorize: asksTwice}
	for _, f := range set {
		f(&c)
	}
	return exchangetest.StartFreeRADIUS(t, c)
}

// relayed hands on Class and Cisco's attributes.
func relayed(o *Options) {
	o.Relay = func(vendor uint32, t byte) bool { return vendor == 9 || vendor == 0 && t == wire.AttrClass }
}

// Passwords, and attributes of the reply, with a server that we did not write.
func TestFreeRADIUS(t *testing.T) {
	t.Parallel()
	server := freeRADIUS(t)
	r := start(t, []string{server.Auth}, relayed)
	got := extraOf(t, r.passes("the right password", pap("alice", password)))
	want := &wire.Extra{Attributes: []wire.Attribute{
		{Type: wire.AttrClass, Value: []byte("network")},
		{Type: wire.AttrClass, Value: []byte("second")},
		{Vendor: 9, Type: 1, Value: []byte("shell:priv-lvl=15")},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("handed on: %+v", got)
	}
	r.passes("with a realm", login.Question{Person: "bob", Name: "bob@corp.example", Password: login.NewSecret(password)})
	r.fails("a wrong password", pap("alice", "open sesamf"), login.ErrWrong)
	r.fails("one with a NUL behind", pap("alice", password+"\x00"), login.ErrWrong)
	r.fails("none", pap("alice", ""), login.ErrWrong)
	r.fails("the longest", pap("alice", strings.Repeat("x", login.MaxSecret)), login.ErrWrong)
	r.fails("a longer one", pap("alice", strings.Repeat("x", login.MaxSecret+1)), login.ErrWrong)
	r.fails("unknown there", pap("carol", password), login.ErrWrong)
	r.fails("unknown here", login.Question{Name: "alice", Password: login.NewSecret(password)}, login.ErrWrong)
	r.fails("spared", login.Question{Password: login.NewSecret(password)}, login.ErrWrong)

	if a := start(t, []string{server.Auth}).passes("nothing is handed on", pap("alice", password)); a.Extra != nil {
		t.Errorf("handed on: %+v", a.Extra)
	}
	r.learnt()
	if err := r.Probe(t.Context()); err != nil || !r.Standings()[0].Status {
		t.Errorf("Probe: %v, %+v", err, r.Standings())
	}
}

// chapOf is a CHAP response (RFC 1994 section 4.1).
func chapOf(id byte, typed string, challenge []byte) *wire.CHAP {
	h := md5.New()
	h.Write([]byte{id})
	h.Write([]byte(typed))
	h.Write(challenge)
	return &wire.CHAP{ID: id, Response: [16]byte(h.Sum(nil)), Challenge: challenge}
}

func TestFreeRADIUSAndCHAP(t *testing.T) {
	t.Parallel()
	r := start(t, []string{freeRADIUS(t).Auth}, relayed)
	challenge := []byte("a challenge of 24 octets")
	ask := func(name string, e any) login.Question {
		return login.Question{Person: strings.ToLower(name), Name: name, Evidence: e}
	}
	if got := extraOf(t, r.passes("a right response", ask("alice", chapOf(7, password, challenge)))); len(got.Attributes) != 3 {
		t.Errorf("handed on: %+v", got)
	}
	r.passes("the same by value", ask("alice", *chapOf(7, password, challenge)))
	r.fails("of a wrong password", ask("alice", chapOf(7, "open sesamf", challenge)), login.ErrWrong)
	another := chapOf(7, password, challenge)
	another.Challenge = []byte("another of 24 octets ...")
	r.fails("to another challenge", ask("alice", another), login.ErrWrong)
	another = chapOf(7, password, challenge)
	another.ID = 8
	r.fails("with another identifier", ask("alice", another), login.ErrWrong)
	r.fails("without a challenge", ask("alice", chapOf(7, password, nil)), login.ErrWrong)
	r.fails("of nobody", login.Question{Name: "alice", Evidence: chapOf(7, password, challenge)}, login.ErrWrong)
	r.fails("nothing at all", ask("alice", (*wire.CHAP)(nil)), login.ErrWrong)
	r.fails("of unknown kind", ask("alice", "trust me"), login.ErrWrong)
}

// mschapOf is an MS-CHAPv2 response, whose hash knows the name without its domain (RFC 2759 section 4).
func mschapOf(t testing.TB, name, typed string) *wire.MSCHAPv2 {
	t.Helper()
	challenge, peer := []byte("0123456789abcdef"), []byte("fedcba9876543210")
	_, user, found := strings.Cut(name, `\`)
	if !found {
		user = name
	}
	response, err := rfc2759.GenerateNTResponse(challenge, peer, []byte(user), []byte(typed))
	if err != nil {
		t.Fatal(err)
	}
	e := &wire.MSCHAPv2{UserName: name, Challenge: challenge}
	e.Response[0] = 5 // identifier
	copy(e.Response[2:], peer)
	copy(e.Response[26:], response)
	return e
}

func TestFreeRADIUSAndMSCHAPv2(t *testing.T) {
	t.Parallel()
	r := start(t, []string{freeRADIUS(t).Auth}, relayed)
	ask := func(name string, e any) login.Question {
		return login.Question{Person: strings.ToLower(name), Name: name, Evidence: e}
	}
	e := mschapOf(t, "alice", password)
	got := extraOf(t, r.passes("a right response", ask("alice", e)))
	success, err := rfc2759.GenerateAuthenticatorResponse(e.Challenge, e.Response[2:18], e.Response[26:], []byte("alice"), []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	if want := "\x05" + success; string(got.MSCHAP2Success) != want {
		t.Errorf("MS-CHAP2-Success %q, want %q", got.MSCHAP2Success, want)
	}
	// The keys are the server's: what it sends by is what the person receives by (RFC 3079 section 3.4).
	for _, one := range []struct {
		name string
		got  []byte
		send bool
	}{{"send", got.SendKey, true}, {"receive", got.RecvKey, false}} {
		want, err := rfc3079.MakeKey(e.Response[26:], []byte(password), one.send)
		if err != nil || !bytes.Equal(one.got, want) {
			t.Errorf("the key to %s is %x, want %x (%v)", one.name, one.got, want, err)
		}
	}
	if len(got.Attributes) != 3 {
		t.Errorf("handed on: %+v", got.Attributes)
	}
	r.passes("the same by value", ask("alice", *e))

	wrong := mschapOf(t, "alice", "open sesamf")
	refusal := new(Rejected)
	if err := r.fails("of a wrong password", ask("alice", wrong), login.ErrWrong); !errors.As(err, &refusal) {
		t.Errorf("%v has no MS-CHAP-Error", err)
	}
	if !strings.HasPrefix(refusal.MSCHAPError, "E=691 R=") || !strings.Contains(refusal.MSCHAPError, "V=3") {
		t.Errorf("MS-CHAP-Error %q", refusal.MSCHAPError)
	}
	short := mschapOf(t, "alice", password)
	short.Challenge = short.Challenge[:15]
	r.fails("to a challenge of 15 octets", ask("alice", short), login.ErrWrong)
	r.fails("of nobody", login.Question{Name: "alice", Evidence: e}, login.ErrWrong)
	r.fails("of another", login.Question{Person: "alice", Name: "alice", Evidence: mschapOf(t, "pin", password)}, login.ErrWrong)
	r.fails("spared", login.Question{Evidence: e}, login.ErrWrong)
}

// An upstream that asks for a PIN, and then for the next code, gets both, by the conversation that it knows.
func TestFreeRADIUSAsksTwice(t *testing.T) {
	t.Parallel()
	server, silent := freeRADIUS(t), nps(t, nil)
	// The first server takes no part: who asked further is asked on, although another comes first.
	r := start(t, []string{silent.Addr(), server.Auth}, relayed, func(o *Options) { o.Timeout = time.Second })
	first := r.further("the password", pap("pin", password))
	if first.Prompt != "Choose a new PIN of 4 digits:" || first.Echo {
		t.Errorf("%+v", first)
	}
	q := pap("pin", "4711")
	q.More = first.State
	second := r.further("the PIN", q)
	if second.Prompt != "Next code:" || !second.Echo {
		t.Errorf("%+v", second)
	}
	q = pap("pin", "123456")
	q.More = second.State
	if got := extraOf(t, r.passes("the code", q)); len(got.Attributes) == 0 || string(got.Attributes[0].Value) != "pin" {
		t.Errorf("handed on: %+v", got)
	}
	q = pap("pin", "654321")
	q.More = second.State
	r.fails("a wrong code", q, login.ErrWrong)
	q.Person = ""
	q.Password = login.NewSecret("123456")
	r.fails("nobody's code", q, login.ErrWrong)
	r.fails("a wrong password", pap("pin", "open sesamf"), login.ErrWrong)
	if n := len(requests(silent)); n != 2 {
		t.Errorf("the first server got %d requests: want the two first of a conversation", n)
	}
}

// A stopped server costs the first login the time until that is known, and the next ones nothing; when it is back, it is asked
// again.
func TestFreeRADIUSFailover(t *testing.T) {
	t.Parallel()
	first, second := freeRADIUS(t), freeRADIUS(t)
	r := start(t, []string{first.Auth, second.Auth}, func(o *Options) {
		o.Timeout, o.ProbeEvery = 2*time.Second, 100*ms
	})
	r.learnt()
	r.passes("both are there", pap("alice", password))
	first.Freeze()
	for range silentLimit {
		r.passes("the first hangs", pap("alice", password))
	}
	if got := r.asideNow(); !reflect.DeepEqual(got, []bool{true, false}) {
		t.Fatalf("aside: %v", got)
	}
	began := time.Now()
	for range 5 {
		r.passes("the first is put aside", pap("alice", password))
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("five logins beside a server that hangs took %v", took)
	}
	if !strings.Contains(r.log.String(), "put aside") || !strings.Contains(r.log.String(), first.Auth) {
		t.Errorf("the log does not say so:\n%s", r.log)
	}
	if err := r.Probe(t.Context()); err != nil {
		t.Errorf("Probe: %v, with one that answers", err)
	}
	first.Thaw()
	r.await("the first is used again", func() bool { return !r.asideNow()[0] })
	r.passes("both are there again", pap("alice", password))

	first.Stop()
	r.passes("the first is gone", pap("alice", password))
	if got := r.asideNow(); !reflect.DeepEqual(got, []bool{true, false}) {
		t.Errorf("aside: %v", got)
	}
	second.Stop()
	err := r.fails("both are gone", pap("alice", password), login.ErrUnavailable)
	for _, address := range []string{first.Auth, second.Auth} {
		if !strings.Contains(err.Error(), address) {
			t.Errorf("%v does not name %s", err, address)
		}
	}
	if !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v does not say why", err)
	}
	if err := r.Probe(t.Context()); !errors.Is(err, login.ErrUnavailable) {
		t.Errorf("Probe: %v", err)
	}
	if !strings.Contains(r.log.String(), "could not be checked") {
		t.Errorf("the log does not say that a login could not be checked (P4):\n%s", r.log)
	}
}

// A server that has another secret is as good as silent.
func TestFreeRADIUSWithAnotherSecret(t *testing.T) {
	t.Parallel()
	other := freeRADIUS(t, func(c *exchangetest.Config) { c.Secret = "another secret" })
	forger := exchangetest.NewFake(t, "another secret", func(f *exchangetest.Fake, r exchangetest.Request) {
		f.Send(r, f.Reply(r, wire.CodeAccessAccept))
	})
	good := freeRADIUS(t)
	r := start(t, []string{other.Auth, forger.Addr(), good.Auth}, func(o *Options) { o.Timeout = 1500 * ms })
	r.passes("the third answers", pap("alice", password))
	r.fails("the third refuses", pap("alice", "open sesamf"), login.ErrWrong)

	r = start(t, []string{other.Auth, forger.Addr()}, func(o *Options) { o.Timeout = 600 * ms })
	err := r.fails("none answers", pap("alice", password), login.ErrUnavailable)
	if !strings.Contains(err.Error(), "the shared secret is another one there") {
		t.Errorf("%v does not say what it may be", err)
	}
}

// Each server can have a secret of its own.
func TestFreeRADIUSEachWithItsSecret(t *testing.T) {
	t.Parallel()
	server := freeRADIUS(t, func(c *exchangetest.Config) { c.Secret = "another secret" })
	r := start(t, nil, func(o *Options) {
		o.Servers = []Server{{Address: server.Auth, Secret: []byte("another secret")}}
	})
	r.passes("its own secret", pap("alice", password))
}
