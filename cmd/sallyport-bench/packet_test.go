package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

const testSecret = "a shared secret of 24 bytes"

func testRequest(id byte) request {
	return request{
		id: id, authenticator: [16]byte{1, 2, 3, 0xff, id}, user: "person-000001", code: "123456",
		nas: netip.MustParseAddr("10.20.0.1"), port: 70_000, station: "192.0.2.17",
	}
}

// TestRequest: what is built is what another implementation reads.
func TestRequest(t *testing.T) {
	sign := newSigner(testSecret)
	before := []byte("packets before it stay")
	got := sign.appendRequest(bytes.Clone(before), testRequest(9))
	if !bytes.HasPrefix(got, before) {
		t.Fatalf("the packet before became %q", got[:len(before)])
	}
	raw := got[len(before):]
	p, err := radius.Parse(raw, []byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	if p.Code != radius.CodeAccessRequest || p.Identifier != 9 {
		t.Errorf("code %v, identifier %d: want Access-Request, 9", p.Code, p.Identifier)
	}
	if raw[20] != attrMessageAuthenticator {
		t.Errorf("first attribute is %d: want Message-Authenticator", raw[20])
	}
	for _, c := range []struct{ what, got, want string }{
		{"User-Name", rfc2865.UserName_GetString(p), "person-000001"},
		{"User-Password", rfc2865.UserPassword_GetString(p), "123456"},
		{"NAS-IP-Address", rfc2865.NASIPAddress_Get(p).String(), "10.20.0.1"},
		{"NAS-Port", fmt.Sprint(uint32(rfc2865.NASPort_Get(p))), "70000"},
		{"Calling-Station-Id", rfc2865.CallingStationID_GetString(p), "192.0.2.17"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q: want %q", c.what, c.got, c.want)
		}
	}
	mac := rfc2869.MessageAuthenticator_Get(p)
	clear(raw[22:38])
	sign.mac.Reset()
	sign.mac.Write(raw)
	if !bytes.Equal(mac, sign.mac.Sum(nil)) {
		t.Errorf("Message-Authenticator %x does not verify", mac)
	}
}

// respond answers a request as another implementation does. A Message-Authenticator is first, last or not there.
func respond(t *testing.T, raw []byte, code radius.Code, place string) []byte {
	t.Helper()
	p, err := radius.Parse(raw, []byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	r := p.Response(code)
	if place == "last" {
		rfc2865.ReplyMessage_AddString(r, "hello")
	}
	if place != "none" {
		rfc2869.MessageAuthenticator_Set(r, make([]byte, macLen))
		wire, err := r.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		sign := newSigner(testSecret)
		sign.mac.Write(wire)
		rfc2869.MessageAuthenticator_Set(r, sign.mac.Sum(nil))
	}
	reply, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// TestCheck: good replies pass, and a change of any byte is found.
func TestCheck(t *testing.T) {
	sign := newSigner(testSecret)
	raw := sign.appendRequest(nil, testRequest(9))
	for _, c := range []struct {
		place  string
		strict bool
		want   error
	}{
		{"first", true, nil},
		{"first", false, nil},
		{"last", true, errReplyMACFirst},
		{"last", false, nil},
		{"none", true, errReplyMACFirst},
		{"none", false, nil},
	} {
		reply := respond(t, raw, radius.CodeAccessAccept, c.place)
		code, err := sign.check(reply, raw[4:20], c.strict)
		if !errors.Is(err, c.want) || err == nil && code != accessAccept {
			t.Errorf("Message-Authenticator %s, strict %v: code %d, %v: want %v", c.place, c.strict, code, err, c.want)
		}
		for i := range reply {
			if i == 1 {
				continue // the identifier is under the response authenticator too, but is looked up before
			}
			bad := bytes.Clone(reply)
			bad[i] ^= 0x40
			if _, err := sign.check(bad, raw[4:20], c.strict); err == nil {
				t.Errorf("Message-Authenticator %s: a change of byte %d is not found", c.place, i)
			}
		}
		for n := range reply {
			if _, err := sign.check(reply[:n], raw[4:20], c.strict); err == nil {
				t.Errorf("Message-Authenticator %s: a reply of %d bytes passes", c.place, n)
			}
		}
	}
	other := sign.appendRequest(nil, testRequest(10))
	if _, err := sign.check(respond(t, raw, radius.CodeAccessAccept, "first"), other[4:20], true); err == nil {
		t.Error("a reply to another request passes")
	}
}
