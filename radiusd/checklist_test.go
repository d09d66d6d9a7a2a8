package radiusd

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

const (
	typeMessageAuth = rfc2869.MessageAuthenticator_Type
	typeEAP         = rfc2869.EAPMessage_Type
	typeProxyState  = rfc2865.ProxyState_Type
)

func anAuth() field { return field{typeMessageAuth, strings.Repeat("\x00", 16)} }

// setLength writes Length into a packet.
func setLength(raw []byte, n int) []byte {
	raw[2], raw[3] = byte(n>>8), byte(n)
	return raw
}

// extended appends bytes to a packet as attributes, and signs it anew: the Message-Authenticator comes last.
func (n *nas) extended(id byte, raw ...byte) []byte {
	p := n.unsigned(radius.CodeAccessRequest, id, pap("alice", "123456")...)
	p = append(p, raw...)
	p = append(p, byte(typeMessageAuth), 18)
	p = append(p, make([]byte, 16)...)
	return resign(setLength(p, len(p)), n.secret)
}

// TestReceive walks through what RFC 2865 section 3, RFC 2869, RFC 3579 and RFC 5080 want dropped, and kept. Each dropped
// packet is followed by a good one, whose answer shows that nothing else came back and that the server lives.
func TestReceive(t *testing.T) {
	lenient := everybody(Code)
	lenient.Name, lenient.Prefix = "lenient", netip.MustParsePrefix("127.0.0.2/32")
	lenient.RequireMessageAuthenticator, lenient.LimitProxyState = false, true
	proxy := everybody(Code)
	proxy.Name, proxy.Prefix = "proxy", netip.MustParsePrefix("127.0.0.3/32")
	proxy.RequireMessageAuthenticator = false
	mute := everybody(Code)
	mute.Name, mute.Prefix, mute.StatusServer = "mute", netip.MustParsePrefix("127.0.0.4/32"), false
	home := everybody(Code)
	home.Prefix = netip.MustParsePrefix("127.0.0.0/24")
	r := newRig(t, nil, home, lenient, proxy, mute)

	const strict, soft, proxied, silent, nobody = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.9.9.9"
	good := pap("alice", "123456")
	chap := field{rfc2865.CHAPPassword_Type, strings.Repeat("c", 17)}
	eap := field{typeEAP, "\x02\x07\x00\x0a\x01alice"}
	state := field{rfc2865.State_Type, "x"}
	for _, c := range []struct {
		name, from string
		drop       string // "": answered
		packet     func(n *nas, id byte) []byte
	}{
		{"a good request is answered", strict, "", func(n *nas, id byte) []byte { return n.request(id, good...) }},
		{"unknown source is dropped", nobody, "unknown_client", func(n *nas, id byte) []byte { return n.request(id, good...) }},
		{"NAS-IP-Address does not choose the client", soft, "proxy_state_limited", func(n *nas, id byte) []byte {
			return n.unsigned(1, id, append(pap("alice", "1"), field{typeProxyState, "p"}, field{rfc2865.NASIPAddress_Type, "\x7f\x00\x00\x03"}, field{rfc2865.NASIdentifier_Type, "proxy"})...)
		}},
		{"an empty datagram", strict, "short_packet", func(*nas, byte) []byte { return nil }},
		{"19 octets", strict, "short_packet", func(n *nas, id byte) []byte { return n.request(id, good...)[:19] }},
		{"Length below 20", strict, "bad_length", func(n *nas, id byte) []byte { return setLength(n.request(id, good...), 19) }},
		{"Length above 4096", strict, "bad_length", func(n *nas, id byte) []byte {
			return setLength(append(n.request(id, good...), make([]byte, 4200)...), 4097)
		}},
		{"a datagram shorter than Length", strict, "bad_length", func(n *nas, id byte) []byte {
			raw := n.request(id, good...)
			return raw[:len(raw)-1]
		}},
		{"padding is ignored, also when signing", strict, "", func(n *nas, id byte) []byte { return append(n.request(id, good...), "padding"...) }},
		{"padding beyond 4096 is ignored", strict, "", func(n *nas, id byte) []byte { return append(n.request(id, good...), make([]byte, 9000)...) }},
		{"a header alone", strict, "ma_missing", func(n *nas, id byte) []byte { return n.unsigned(1, id) }},
		{"an unknown code", strict, "unsupported_code", func(n *nas, id byte) []byte { return n.packet(radius.CodeAccountingRequest, id) }},
		{"a reply's code", strict, "unsupported_code", func(n *nas, id byte) []byte { return n.packet(radius.CodeAccessAccept, id) }},

		{"an attribute of length 0", strict, "malformed_attributes", func(n *nas, id byte) []byte { return n.extended(id, 11, 0) }},
		{"an attribute of length 1", strict, "malformed_attributes", func(n *nas, id byte) []byte { return n.extended(id, 11, 1) }},
		{"an attribute beyond the end", strict, "malformed_attributes", func(n *nas, id byte) []byte {
			raw := n.request(id, good...)
			raw[len(raw)-17] = 19
			return raw
		}},
		{"half an attribute header", strict, "malformed_attributes", func(n *nas, id byte) []byte {
			raw := append(n.request(id, good...), 11)
			return setLength(raw, len(raw))
		}},
		{"200 attributes", strict, "", func(n *nas, id byte) []byte {
			return n.extended(id, bytes.Repeat([]byte{11, 2}, wire.MaxAttributes-len(good)-1)...)
		}},
		{"201 attributes", strict, "too_many_attributes", func(n *nas, id byte) []byte {
			return n.extended(id, bytes.Repeat([]byte{11, 2}, wire.MaxAttributes-len(good))...)
		}},
		{"2000 empty attributes", strict, "too_many_attributes", func(n *nas, id byte) []byte { return n.extended(id, bytes.Repeat([]byte{11, 2}, 1980)...) }},
		{"a vendor attribute whose inside does not fit", strict, "", func(n *nas, id byte) []byte {
			return n.extended(id, 26, 12, 0, 0, 1, 55, 200, 250, 1, 0, 25, 0)
		}},
		{"an empty vendor attribute", strict, "", func(n *nas, id byte) []byte { return n.extended(id, 26, 2) }},

		{"User-Password and CHAP-Password", strict, "conflicting_credentials", func(n *nas, id byte) []byte { return n.request(id, append(good, chap)...) }},
		{"EAP-Message and User-Password", strict, "conflicting_credentials", func(n *nas, id byte) []byte { return n.request(id, append(good, eap)...) }},
		{"EAP-Message without Message-Authenticator", soft, "ma_missing", func(n *nas, id byte) []byte { return n.unsigned(1, id, eap) }},
		{"State twice", strict, "repeated_attribute", func(n *nas, id byte) []byte { return n.request(id, append(good, state, state)...) }},
		{"User-Name twice", strict, "repeated_attribute", func(n *nas, id byte) []byte { return n.request(id, append(good, good[0])...) }},
		{"User-Password twice", strict, "repeated_attribute", func(n *nas, id byte) []byte { return n.request(id, append(good, good[1])...) }},
		{"User-Password of 15 octets", strict, "bad_password_length", func(n *nas, id byte) []byte { return n.extendedOnly(id, 2, make([]byte, 15)) }},
		{"User-Password of 144 octets", strict, "bad_password_length", func(n *nas, id byte) []byte { return n.extendedOnly(id, 2, make([]byte, 144)) }},
		{"an empty User-Password", strict, "bad_password_length", func(n *nas, id byte) []byte { return n.extendedOnly(id, 2, nil) }},
		{"User-Password of 128 octets", strict, "", func(n *nas, id byte) []byte { return n.request(id, pap("alice", strings.Repeat("p", 128))...) }},
		{"Proxy-State that no reply could repeat", strict, "proxy_state_oversize", func(n *nas, id byte) []byte {
			return n.request(id, append(pap("alice", "1"), slices.Repeat([]field{{typeProxyState, strings.Repeat("p", 253)}}, 5)...)...)
		}},

		{"Message-Authenticator twice", strict, "repeated_attribute", func(n *nas, id byte) []byte { return n.request(id, append(pap("alice", "1"), anAuth())...) }},
		{"Message-Authenticator of 15 octets", strict, "malformed_attributes", func(n *nas, id byte) []byte {
			return n.unsigned(1, id, append(pap("alice", "1"), field{typeMessageAuth, strings.Repeat("\x00", 15)})...)
		}},
		{"Message-Authenticator is wrong", strict, "ma_bad", func(n *nas, id byte) []byte {
			raw := n.request(id, good...)
			raw[len(raw)-1] ^= 1
			return raw
		}},
		{"Message-Authenticator is wrong, where it is not required", soft, "ma_bad", func(n *nas, id byte) []byte {
			raw := n.request(id, good...)
			raw[len(raw)-1] ^= 1
			return raw
		}},
		{"signed with another secret", strict, "ma_bad", func(n *nas, id byte) []byte {
			other := *n
			other.secret = "another"
			return other.request(id, good...)
		}},
		{"the place of Message-Authenticator does not matter", strict, "", func(n *nas, id byte) []byte {
			p := n.unsigned(1, id, append([]field{anAuth()}, pap("alice", "1")...)...)
			copy(p[22:38], wire.NewDigester().MessageAuth(wire.NewSecret([]byte(n.secret)), p, p[4:20], 22))
			return p
		}},
		{"Message-Authenticator is required", strict, "ma_missing", func(n *nas, id byte) []byte { return n.unsigned(1, id, good...) }},
		{"without it, for an exempt client", soft, "", func(n *nas, id byte) []byte { return n.unsigned(1, id, good...) }},
		{"Proxy-State without it, where that is limited", soft, "proxy_state_limited", func(n *nas, id byte) []byte {
			return n.unsigned(1, id, append(pap("alice", "1"), field{typeProxyState, "p"})...)
		}},
		{"Proxy-State with it, where that is limited", soft, "", func(n *nas, id byte) []byte {
			return n.request(id, append(pap("alice", "1"), field{typeProxyState, "p"})...)
		}},
		{"Proxy-State without it, from a proxy", proxied, "", func(n *nas, id byte) []byte {
			return n.unsigned(1, id, append(pap("alice", "1"), field{typeProxyState, "p"})...)
		}},

		{"Status-Server without Message-Authenticator", soft, "ma_missing", func(n *nas, id byte) []byte { return n.unsigned(radius.CodeStatusServer, id) }},
		{"Status-Server with a wrong one", soft, "ma_bad", func(n *nas, id byte) []byte {
			raw := n.packet(radius.CodeStatusServer, id)
			raw[len(raw)-1] ^= 1
			return raw
		}},
		{"Status-Server where it is off", silent, "status_server_off", func(n *nas, id byte) []byte { return n.packet(radius.CodeStatusServer, id) }},
		{"Status-Server", strict, "", func(n *nas, id byte) []byte {
			return n.packet(radius.CodeStatusServer, id, field{typeProxyState, "p"}, field{rfc2865.UserName_Type, "ignored"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := r.from(c.from)
			raw := c.packet(n, 7)
			asked, dropped := r.gate.count(), r.meter.dropped(c.drop)
			if c.drop == "" {
				n.ask(raw)
				return
			}
			n.send(raw)
			r.meter.await(t, c.drop, func(m *counter) bool { return m.drops[c.drop] == dropped+1 })
			if got := r.gate.count(); got != asked {
				t.Error("the gate was asked about a packet that should be dropped")
			}
			if c.from == nobody {
				return
			}
			probe := n.packet(radius.CodeStatusServer, 8)
			if c.from == silent {
				probe = n.request(8, pap("alice", "1")...)
			}
			n.ask(probe) // fails when it receives an answer to the dropped one
		})
	}
	if !strings.Contains(r.lines.String(), "reason=ma_bad") || !strings.Contains(r.lines.String(), "addr=127.9.9.9") {
		t.Errorf("drops are not logged with reason and address:\n%s", r.lines)
	}
	for _, s := range r.server.Stats() {
		if s.Name == "vpn" && (s.Drops["ma_bad"] != 2 || s.WithMessageAuthenticator == 0 || s.LastSeen != noon) {
			t.Errorf("stats %+v", s)
		}
		if s.Name == "lenient" && (s.WithoutMessageAuthenticator == 0 || s.Drops["proxy_state_limited"] != 2) {
			t.Errorf("stats %+v", s)
		}
	}
	if got := r.server.Strangers(); len(got) != 1 || got[0].Addr.String() != nobody || got[0].Packets != 1 {
		t.Errorf("strangers %+v", got)
	}
}

// extendedOnly makes a request of one raw attribute and the Message-Authenticator.
func (n *nas) extendedOnly(id, t byte, value []byte) []byte {
	p := n.unsigned(radius.CodeAccessRequest, id)
	p = append(append(p, t, byte(len(value)+2)), value...)
	p = append(p, byte(typeMessageAuth), 18)
	p = append(p, make([]byte, 16)...)
	return resign(setLength(p, len(p)), n.secret)
}

// What is well formed and not served is refused with a record and a Reject, not with silence (RFC 2865 section 2).
func TestUnsupported(t *testing.T) {
	r := newRig(t, nil, everybody(Challenge))
	n := r.nas()
	user := field{rfc2865.UserName_Type, "alice"}
	for i, c := range []struct {
		name   string
		reason login.Reason
		attrs  []field
	}{
		{"CHAP", "unsupported_method", []field{user, {rfc2865.CHAPPassword_Type, strings.Repeat("c", 17)}}},
		{"MS-CHAP", "unsupported_method", []field{user, {rfc2865.VendorSpecific_Type, "\x00\x00\x01\x37\x01\x34" + strings.Repeat("r", 50)}}},
		{"MS-CHAPv2 behind another attribute of the vendor", "unsupported_method", []field{user, {rfc2865.VendorSpecific_Type, "\x00\x00\x01\x37\x0b\x06cccc\x19\x34" + strings.Repeat("r", 50)}}},
		{"EAP", "eap_to_pap_client", []field{user, {typeEAP, "\x02\x07\x00\x0a\x01alice"}}},
		{"an empty EAP-Message", "eap_to_pap_client", []field{user, {typeEAP, ""}}},
		{"Authorize-Only without State", "unsupported_service", []field{user, {rfc2865.ServiceType_Type, "\x00\x00\x00\x11"}}},
		{"no credentials at all", login.ReasonPasswordMissing, []field{user}},
		{"State in place of credentials", login.ReasonStateUnknown, []field{user, {rfc2865.State_Type, "x"}}},
		{"no User-Name", login.ReasonStateUnknown, []field{{rfc2865.State_Type, "x"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.meter.mu.Lock()
			before := r.meter.replies[string(c.reason)]
			r.meter.mu.Unlock()
			p := n.ask(n.request(byte(i), c.attrs...))
			if p.Code != radius.CodeAccessReject {
				t.Fatalf("%v", p.Code)
			}
			r.meter.await(t, string(c.reason), func(m *counter) bool { return m.replies[string(c.reason)] == before+1 })
			eap, has := p.Lookup(typeEAP)
			if c.name == "EAP" && string(eap) != "\x04\x07\x00\x04" {
				t.Errorf("EAP-Message %q, want a Failure with the identifier", eap)
			}
			if c.reason != "eap_to_pap_client" && has {
				t.Error("EAP-Message in the answer to a request without")
			}
		})
	}
	for _, want := range []string{"eap_to_pap_client", "unsupported_method", "unsupported_service"} {
		if !strings.Contains(r.lines.String(), want) {
			t.Errorf("the log does not say %s", want)
		}
	}
}

// All Proxy-State comes back, unmodified and in order, in every kind of answer (RFC 2865 section 5.33).
func TestProxyState(t *testing.T) {
	states := []string{"b", "a", "b", strings.Repeat("\xff", 253), "\x00"}
	var attrs []field
	for i, s := range states {
		attrs = append(attrs, field{typeProxyState, s})
		if i == 1 {
			attrs = append(attrs, field{rfc2865.NASPortType_Type, "\x00\x00\x00\x05"})
		}
	}
	for _, c := range []struct {
		mode  Mode
		code  radius.Code
		typed func(*rig) string
		want  radius.Code
	}{
		{Code, radius.CodeAccessRequest, (*rig).code, radius.CodeAccessAccept},
		{Code, radius.CodeAccessRequest, func(*rig) string { return "000000" }, radius.CodeAccessReject},
		{Challenge, radius.CodeAccessRequest, func(*rig) string { return password }, radius.CodeAccessChallenge},
		{Code, radius.CodeStatusServer, nil, radius.CodeAccessAccept},
	} {
		t.Run(string(c.mode)+" "+c.want.String(), func(t *testing.T) {
			r := newRig(t, nil, everybody(c.mode))
			n := r.nas()
			request := attrs
			if c.typed != nil {
				request = pap("alice", c.typed(r), attrs...)
			}
			p := n.ask(n.packet(c.code, 1, request...))
			if p.Code != c.want {
				t.Fatalf("%v", p.Code)
			}
			if got := values(p, typeProxyState); !slices.Equal(got, states) {
				t.Errorf("Proxy-State %q", got)
			}
			if c.code == radius.CodeStatusServer {
				want := append([]radius.Type{typeMessageAuth, rfc2865.ReplyMessage_Type}, slices.Repeat([]radius.Type{typeProxyState}, len(states))...)
				if !slices.Equal(types(p), want) {
					t.Errorf("the answer to Status-Server holds %v", types(p))
				}
			}
		})
	}
}

// Secrets are found by the longest prefix, v4 also when it is mapped into v6, and a swap takes effect at once.
func TestLookup(t *testing.T) {
	named := func(name, prefix string) Client {
		return Client{Name: name, Prefix: netip.MustParsePrefix(prefix), Secret: []byte(name)}
	}
	cfg := Config{Clients: []Client{
		named("ten", "10.0.0.0/8"), named("host", "10.1.2.3/32"), named("net", "10.1.2.0/24"), named("mapped", "::ffff:192.0.2.0/120"),
		named("six", "2001:db8::/32"), named("six-host", "2001:db8::1/128"), named("local", "fe80::/10"),
	}}
	s, err := cfg.ready(nil)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.1.2.3": "host", "10.1.2.4": "net", "10.9.9.9": "ten", "::ffff:10.1.2.3": "host", "11.0.0.1": "",
		"192.0.2.9": "mapped", "2001:db8::1": "six-host", "2001:db8::2": "six", "2001:db9::": "", "fe80::1%eth0": "local", "::10.1.2.3": "",
	} {
		got := ""
		if c := s.lookup(plainAddr(netip.MustParseAddr(addr))); c != nil {
			got = c.Name
		}
		if plainAddr(netip.MustParseAddr(addr)).Zone() != "" {
			t.Errorf("%s: the zone is kept, and would make one address many", addr)
		}
		if got != want {
			t.Errorf("%s: client %q, want %q", addr, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	ok := everybody(Challenge)
	for name, c := range map[string]struct {
		change func(*Client)
		want   string
	}{
		"empty secret":   {func(c *Client) { c.Secret = nil }, "secret is empty"},
		"long secret":    {func(c *Client) { c.Secret = make([]byte, 2000) }, "more than 1024"},
		"no name":        {func(c *Client) { c.Name = "" }, "no name"},
		"mode":           {func(c *Client) { c.Mode = "chap" }, "want challenge"},
		"prompt":         {func(c *Client) { c.Prompt = strings.Repeat("p", 254) }, "253"},
		"prompt text":    {func(c *Client) { c.Prompt = "\xff" }, "UTF-8"},
		"no prefix":      {func(c *Client) { c.Prefix = netip.Prefix{} }, "no valid"},
		"all of mapped":  {func(c *Client) { c.Prefix = netip.MustParsePrefix("::ffff:0:0/90") }, "spans"},
		"same prefix":    {func(c *Client) { c.Name, c.Prefix = "b", netip.MustParsePrefix("127.1.0.0/8") }, "already client"},
		"same name":      {func(c *Client) { c.Prefix = netip.MustParsePrefix("10.0.0.0/8") }, "twice"},
		"same as mapped": {func(c *Client) { c.Name, c.Prefix = "b", netip.MustParsePrefix("::ffff:127.0.0.0/104") }, "already client"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := ok
			c.change(&bad)
			s := NewServer(Options{Now: func() time.Time { return noon }})
			if err := s.SetConfig(&Config{Clients: []Client{ok}}); err != nil {
				t.Fatal(err)
			}
			err := s.SetConfig(&Config{Clients: []Client{ok, bad}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if s.settings.Load().lookup(netip.MustParseAddr("127.0.0.1")) == nil {
				t.Error("the configuration in force is gone")
			}
			if err != nil && strings.Contains(err.Error(), testSecret) {
				t.Error("the error tells the secret")
			}
		})
	}
	weak := ok
	weak.Secret, weak.RequireMessageAuthenticator, weak.Prefix = []byte("short"), false, netip.MustParsePrefix("203.0.113.0/24")
	if w := weak.Warnings(); len(w) != 3 {
		t.Errorf("warnings %q", w)
	}
	if w := ok.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
}
