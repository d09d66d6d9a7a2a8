package probe

import (
	"net"
	"testing"
	"time"

	"sallyport/radiusd/wire"
)

const (
	testSecret = "xyzzy5461-xyzzy5461-xyzz"
	password   = "open sesame"
)

func given(s string) func() (string, error) { return func() (string, error) { return s, nil } }

// setLength writes a packet's Length.
func setLength(raw []byte, n int) []byte {
	raw[2], raw[3] = byte(n>>8), byte(n)
	return raw
}

// badServer answers as a server would that has every fault the probe knows of.
func badServer(t *testing.T, answer func(request []byte, n int) []byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, wire.MaxPacket)
		for n := 0; ; n++ {
			k, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if a := answer(buf[:k], n); a != nil {
				_, _ = conn.WriteTo(a, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().(*net.UDPAddr).String()
}

// Each fault is found, whatever else is wrong.
func TestFindsFaults(t *testing.T) {
	key, d := wire.NewSecret([]byte(testSecret)), wire.NewDigester()
	signed := func(code byte, request, attrs []byte) []byte {
		a := append([]byte{code, request[1], 0, 0}, make([]byte, 16)...)
		a = setLength(append(a, attrs...), wire.HeaderSize+len(attrs))
		copy(a[4:], d.ResponseAuth(key, a, request[4:wire.HeaderSize]))
		return a
	}
	proxy := "\x21\x0bprobe-one\x21\x0bprobe-two"
	for _, c := range []struct {
		name, check  string
		answer       func(request []byte, n int) []byte
		mode, method string
		strict       bool
	}{
		{name: "no Message-Authenticator", check: "message_authenticator", answer: func(r []byte, _ int) []byte { return signed(2, r, []byte(proxy)) }},
		{name: "a wrong one", check: "message_authenticator_value", answer: func(r []byte, _ int) []byte { return signed(2, r, append([]byte("\x50\x12"), make([]byte, 16)...)) }},
		{name: "not the first", check: "message_authenticator_first", answer: func(r []byte, _ int) []byte {
			return signed(2, r, append([]byte("\x12\x03m\x50\x12"), make([]byte, 16)...))
		}},
		{name: "Proxy-State in the wrong order", check: "proxy_state", answer: func(r []byte, _ int) []byte { return signed(2, r, []byte("\x21\x0bprobe-two\x21\x0bprobe-one")) }},
		{name: "Proxy-State lost", check: "proxy_state", answer: func(r []byte, _ int) []byte { return signed(2, r, nil) }},
		{name: "resends are judged again", check: "resend", answer: func(r []byte, n int) []byte { return signed(2, r, []byte{27, 6, 0, 0, 0, byte(n)}) }},
		{name: "resends are not answered", check: "resend", answer: func(r []byte, n int) []byte {
			if n > 1 {
				return nil
			}
			return signed(2, r, nil)
		}},
		{name: "padding", check: "length", answer: func(r []byte, _ int) []byte { return append(signed(2, r, nil), 0) }},
		{name: "another secret", check: "response_authenticator", answer: func(r []byte, _ int) []byte { return append([]byte{2, r[1], 0, 20}, make([]byte, 16)...) }},
		{name: "malformed attributes", check: "attributes", answer: func(r []byte, _ int) []byte { return signed(2, r, []byte{18, 99}) }},
		{name: "a challenge without State", check: "challenge_state", answer: func(r []byte, _ int) []byte { return signed(11, r, nil) }},
		{name: "a challenge without message", check: "challenge_message", answer: func(r []byte, _ int) []byte { return signed(11, r, nil) }},
		{name: "a challenge with privileges", check: "challenge_privileges", answer: func(r []byte, _ int) []byte { return signed(11, r, []byte{25, 3, 'a'}) }},
		{name: "a reject with privileges", check: "reject_attributes", answer: func(r []byte, _ int) []byte { return signed(3, r, []byte{25, 3, 'a'}) }},
		{name: "an Accept without the server's proof", check: "mschap_success", mode: Code, method: MSCHAPv2, answer: func(r []byte, _ int) []byte { return signed(2, r, nil) }},
		{name: "an Accept without keys", check: "mppe_keys", mode: Code, method: MSCHAPv2, answer: func(r []byte, _ int) []byte { return signed(2, r, nil) }},
		{name: "a reject that says nothing to MS-CHAPv2", check: "mschap_error", mode: Code, method: MSCHAPv2, answer: func(r []byte, _ int) []byte { return signed(3, r, nil) }},
		{name: "wrong signatures are answered", check: "wrong_signature", strict: true, answer: func(r []byte, _ int) []byte { return signed(3, r, nil) }},
		{name: "an answer of another kind", check: "code", answer: func(r []byte, _ int) []byte { return signed(5, r, nil) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := badServer(t, c.answer)
			report, err := Run(t.Context(), Options{
				Address: address, Secret: []byte(testSecret), User: "alice", Mode: c.mode, Method: c.method, Strict: c.strict,
				Password: given(password), Code: given("123456"), Timeout: 60 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				if f.Check == c.check && f.Level == Bad {
					return
				}
			}
			t.Errorf("not found: %+v", report)
		})
	}
}
