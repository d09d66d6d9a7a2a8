package radiusd

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2759"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc3079"

	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

const (
	msChallengeValue = "0123456789abcdef"
	peerChallenge    = "fedcba9876543210"
)

// chapValue is a CHAP-Password, computed by hand (RFC 1994 section 4.1).
func chapValue(id byte, secret, challenge string) string {
	sum := md5.Sum([]byte(string(id) + secret + challenge))
	return string(id) + string(sum[:])
}

func chapOf(user, secret string, more ...field) []field {
	const challenge = "a challenge of the NAS"
	return append([]field{
		{rfc2865.UserName_Type, user},
		{rfc2865.CHAPPassword_Type, chapValue(7, secret, challenge)},
		{rfc2865.CHAPChallenge_Type, challenge},
	}, more...)
}

func microsoft(t byte, value string) field {
	b := binary.BigEndian.AppendUint32(nil, wire.VendorMicrosoft)
	return field{rfc2865.VendorSpecific_Type, string(append(b, t, byte(2+len(value)))) + value}
}

func ntResponse(t *testing.T, user, secret string) string {
	t.Helper()
	response, err := rfc2759.GenerateNTResponse([]byte(msChallengeValue), []byte(peerChallenge), []byte(user), []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return string(response)
}

// mschapOf is a login by MS-CHAPv2. A domain before the name is no part of what is hashed.
func mschapOf(t *testing.T, user, secret string, more ...field) []field {
	_, name, found := strings.Cut(user, `\`)
	if !found {
		name = user
	}
	response := "\x2a\x00" + peerChallenge + strings.Repeat("\x00", 8) + ntResponse(t, name, secret)
	return append([]field{
		{rfc2865.UserName_Type, user}, microsoft(11, msChallengeValue), microsoft(25, response),
	}, more...)
}

// vendorValues are Microsoft's attributes of an answer.
func vendorValues(p *radius.Packet, kind byte) (all []string) {
	for _, v := range values(p, rfc2865.VendorSpecific_Type) {
		if binary.BigEndian.Uint32([]byte(v)) == wire.VendorMicrosoft && v[4] == kind {
			all = append(all, v[6:])
		}
	}
	return all
}

// CHAP proves a code by a digest of it, over the attribute's challenge or the Request Authenticator. P2: once.
func TestCHAP(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n := r.nas()
	code := r.code()
	for i, c := range []struct {
		name  string
		attrs []field
		why   login.Reason
	}{
		{"a wrong code", chapOf("alice", "000000"), login.ReasonCodeWrong},
		{"a stranger", chapOf("mallory", code), login.ReasonUnknownPerson},
		{"a short response", []field{{rfc2865.UserName_Type, "alice"}, {rfc2865.CHAPPassword_Type, "short"}}, reasonResponse},
		{"an empty response", []field{{rfc2865.UserName_Type, "alice"}, {rfc2865.CHAPPassword_Type, ""}}, reasonResponse},
		{"an empty challenge", []field{{rfc2865.UserName_Type, "alice"}, {rfc2865.CHAPPassword_Type, chapValue(1, "000000", "")}, {rfc2865.CHAPChallenge_Type, ""}}, login.ReasonCodeWrong},
	} {
		if p := n.ask(n.request(byte(i), c.attrs...)); p.Code != radius.CodeAccessReject {
			t.Errorf("%s: %v", c.name, p.Code)
		}
		r.meter.await(t, c.name, func(m *counter) bool { return m.replies[string(c.why)] > 0 })
	}
	request := n.request(50, chapOf("alice", code)...)
	n.send(request)
	first := n.receive()
	if p := n.checked(request, first); p.Code != radius.CodeAccessAccept {
		t.Fatalf("%v", p.Code)
	}
	n.send(request) // P5
	if again := n.receive(); !bytes.Equal(first, again) {
		t.Error("a resend got other bytes")
	}
	if p := n.ask(n.request(51, chapOf("alice", code)...)); p.Code != radius.CodeAccessReject {
		t.Errorf("a used code: %v", p.Code)
	}

	r.advance(time.Minute)
	raw := n.request(52, field{rfc2865.UserName_Type, "alice"}, field{rfc2865.CHAPPassword_Type, strings.Repeat("c", 17)})
	value := chapValue(9, r.code(), string(raw[4:20]))
	at := bytes.Index(raw, []byte(strings.Repeat("c", 17)))
	copy(raw[at:], value)
	if p := n.ask(resign(raw, testSecret)); p.Code != radius.CodeAccessAccept {
		t.Errorf("over the Request Authenticator: %v", p.Code)
	}
}

// MS-CHAPv2 proves a code, and the Accept holds what the peer checks and what encrypts its session.
func TestMSCHAPv2(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	r.with = func(c *Config) { c.Realms = []string{"TRUST"} }
	r.configure(everybody(Code))
	n := r.nas()
	mschapError := regexp.MustCompile(`^\x2aE=691 R=0 C=[0-9A-F]{32} V=3 M=`)
	for i, user := range []string{"alice", "mallory"} { // P6
		p := n.ask(n.request(byte(i), mschapOf(t, user, "000000")...))
		if got := vendorValues(p, 2); p.Code != radius.CodeAccessReject || len(got) != 1 || !mschapError.MatchString(got[0]) {
			t.Errorf("%v %q", p.Code, got)
		}
		if len(vendorValues(p, 26))+len(vendorValues(p, 16)) != 0 {
			t.Error("a refusal holds keys")
		}
	}
	for i, user := range []string{"alice", `trust\alice`} {
		r.advance(time.Minute)
		code := r.code()
		request := n.request(byte(10+i), mschapOf(t, user, code)...)
		p := n.ask(request)
		if p.Code != radius.CodeAccessAccept {
			t.Fatalf("%s: %v", user, p.Code)
		}
		want, err := rfc2759.GenerateAuthenticatorResponse([]byte(msChallengeValue), []byte(peerChallenge), []byte(ntResponse(t, "alice", code)), []byte("alice"), []byte(code))
		if err != nil {
			t.Fatal(err)
		}
		if got := vendorValues(p, 26); !slices.Equal(got, []string{"\x2a" + want}) {
			t.Errorf("MS-CHAP2-Success %q, want %q", got, want)
		}
		var salts []string
		for _, key := range []struct {
			kind byte
			send bool
		}{{16, true}, {17, false}} {
			hidden := vendorValues(p, key.kind)
			if len(hidden) != 1 {
				t.Fatalf("%d keys of type %d", len(hidden), key.kind)
			}
			clear, ok := wire.NewDigester().RevealSalted(wire.NewSecret([]byte(testSecret)), []byte(hidden[0]), request[4:20])
			want, err := rfc3079.MakeKey([]byte(ntResponse(t, "alice", code)), []byte(code), key.send)
			if err != nil || !ok || !bytes.Equal(clear, want) {
				t.Errorf("key %d: %x, want %x (%v %v)", key.kind, clear, want, ok, err)
			}
			if hidden[0][0]&0x80 == 0 {
				t.Error("the salt's top bit is not set (RFC 2548 section 2.4.2)")
			}
			salts = append(salts, hidden[0][:2])
		}
		if salts[0] == salts[1] {
			t.Error("two keys have one salt")
		}
		if p := n.ask(n.request(byte(20+i), mschapOf(t, user, code)...)); p.Code != radius.CodeAccessReject {
			t.Errorf("a used code: %v", p.Code)
		}
	}
	for i, attrs := range [][]field{
		{{rfc2865.UserName_Type, "alice"}, microsoft(25, "short"), microsoft(11, msChallengeValue)},
		{{rfc2865.UserName_Type, "alice"}, microsoft(25, strings.Repeat("r", 50))},
		{{rfc2865.UserName_Type, "alice"}, microsoft(25, strings.Repeat("r", 50)), microsoft(11, "short")},
		{{rfc2865.UserName_Type, "alice"}, microsoft(25, ""), microsoft(11, msChallengeValue)},
	} {
		if p := n.ask(n.request(byte(30+i), attrs...)); p.Code != radius.CodeAccessReject {
			t.Errorf("%d: %v", i, p.Code)
		}
	}
	r.meter.await(t, "malformed responses", func(m *counter) bool { return m.replies[string(reasonResponse)] == 4 })
}

// A response proves a password only to another server, and what that server gave is for the end of the login.
func TestEvidence(t *testing.T) {
	r := newRig(t, nil, everybody(Challenge))
	r.with = func(c *Config) { c.Evidence = true }
	r.configure(everybody(Challenge))
	n := r.nas()
	for i, c := range []struct {
		name   string
		first  []field
		second func(state field) []field
		class  []string
		round  string // which round's response the success is of
	}{
		{"CHAP, then PAP", chapOf("alice", password), func(s field) []field { return pap("alice", r.code(), s) }, []string{"network", "second", "upstream"}, ""},
		{"CHAP twice", chapOf("alice", password), func(s field) []field { return chapOf("alice", r.code(), s) }, []string{"network", "second", "upstream"}, ""},
		{"MS-CHAPv2, then PAP", mschapOf(t, "alice", password), func(s field) []field { return pap("alice", r.code(), s) }, []string{"network", "second"}, password},
		{"MS-CHAPv2 twice", mschapOf(t, "alice", password), func(s field) []field { return mschapOf(t, "alice", r.code(), s) }, []string{"network", "second"}, "code"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.advance(time.Minute)
			p := n.ask(n.request(byte(10*i), c.first...))
			state := values(p, rfc2865.State_Type)
			if p.Code != radius.CodeAccessChallenge || len(state) != 1 {
				t.Fatalf("%v %q", p.Code, state)
			}
			code := r.code()
			p = n.ask(n.request(byte(10*i+1), c.second(field{rfc2865.State_Type, state[0]})...))
			if p.Code != radius.CodeAccessAccept {
				t.Fatalf("%v", p.Code)
			}
			if got := values(p, rfc2865.Class_Type); !slices.Equal(got, c.class) {
				t.Errorf("Class %q, want %q", got, c.class)
			}
			var want []string
			if c.round != "" {
				secret := c.round
				if secret == "code" {
					secret = code
				}
				s, err := rfc2759.GenerateAuthenticatorResponse([]byte(msChallengeValue), []byte(peerChallenge), []byte(ntResponse(t, "alice", secret)), []byte("alice"), []byte(secret))
				if err != nil {
					t.Fatal(err)
				}
				want = []string{"\x2a" + s}
			}
			if got := vendorValues(p, 26); !slices.Equal(got, want) {
				t.Errorf("MS-CHAP2-Success %q, want %q", got, want)
			}
			if got := len(vendorValues(p, 16)); got != len(want) {
				t.Errorf("%d keys, want %d", got, len(want))
			}
		})
	}
	if p := n.ask(n.request(99, mschapOf(t, "alice", "guess")...)); p.Code != radius.CodeAccessChallenge {
		t.Errorf("a wrong password: %v", p.Code) // P6: the code is asked all the same
	}
}

// FortiGates answer the challenge for a code by an MS-CHAP2-Response in which the code stands readable. Without the quirk, it
// is a response like any other, and a wrong one.
func TestFortiGate(t *testing.T) {
	for _, quirk := range []bool{true, false} {
		client := everybody(Challenge)
		if quirk {
			client.Quirks = []Quirk{FortiGateMSCHAPv2}
		}
		r := newRig(t, nil, client)
		r.with = func(c *Config) { c.Evidence = true }
		r.configure(client)
		n := r.nas()
		p := n.ask(n.request(1, mschapOf(t, "alice", password)...))
		state := values(p, rfc2865.State_Type)
		if len(state) != 1 {
			t.Fatalf("%v", p.Code)
		}
		typed := r.code()
		response := "\x2a\x00" + typed + strings.Repeat("\x00", 42)
		p = n.ask(n.request(2, field{rfc2865.UserName_Type, "alice"}, field{rfc2865.State_Type, state[0]}, microsoft(11, msChallengeValue), microsoft(25, response)))
		if accepted := p.Code == radius.CodeAccessAccept; accepted != quirk {
			t.Errorf("quirk %v: %v", quirk, p.Code)
		}
		if quirk && len(vendorValues(p, 26)) != 1 {
			t.Error("the first round's MS-CHAP2-Success is missing")
		}
	}
}
