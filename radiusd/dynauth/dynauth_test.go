package dynauth

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3576"

	"sallyport/radiusd/exchange/exchangetest"
	"sallyport/radiusd/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a secret of the NAS"

func session() Session {
	return Session{UserName: "alice", NASIdentifier: "asa-1", NASIP: "192.0.2.1", CallingStation: "198.51.100.7", ID: "s1", Audit: "0a0b"}
}

func at() time.Time { return time.Unix(1_790_000_000, 0) }

// FreeRADIUS answers as a NAS would.
func TestFreeRADIUS(t *testing.T) {
	t.Parallel()
	f := exchangetest.StartFreeRADIUS(t, exchangetest.Config{Secret: secret})
	nas := NAS{Address: f.CoA, Secret: []byte(secret)}
	if a, err := Disconnect(t.Context(), nas, session(), time.Now()); err != nil || !a.Done || a.String() != "ack" {
		t.Errorf("%v %v", a, err)
	}
	class := wire.Attribute{Type: byte(rfc2865.Class_Type), Value: []byte("network")}
	if a, err := Change(t.Context(), nas, session(), []wire.Attribute{class}, time.Now()); err != nil || !a.Done {
		t.Errorf("%v %v", a, err)
	}
	nobody := session()
	nobody.UserName = "nobody"
	if a, err := Disconnect(t.Context(), nas, nobody, time.Now()); err != nil || a.Done {
		t.Errorf("%v %v", a, err)
	}
	nas.Secret, nas.Patience = []byte("another"), 1500*time.Millisecond
	if a, err := Disconnect(t.Context(), nas, session(), time.Now()); !errors.Is(err, ErrSilent) || a.Done || a.Sent < 2 {
		t.Errorf("with a wrong secret: %v %v", a, err)
	}
}

// The request names the session as RFC 5176 section 3 wants it, and is signed; a repetition is the same packet (section 2.3).
func TestRequest(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, secret, func(f *exchangetest.Fake, r exchangetest.Request) {
		if r.Number == 2 {
			f.Send(r, f.Reply(r, wire.CodeDisconnectACK))
		}
	})
	a, err := Disconnect(t.Context(), NAS{Address: f.Addr(), Secret: []byte(secret)}, session(), at())
	if err != nil || !a.Done || a.Sent != 2 {
		t.Fatalf("%+v %v", a, err)
	}
	got := f.Got()
	if !f.Verify(got[0]) || string(got[0].Packet) != string(got[1].Packet) || got[0].Packet[0] != wire.CodeDisconnectRequest {
		t.Errorf("%x\n%x", got[0].Packet, got[1].Packet)
	}
	want := map[byte]string{
		byte(rfc2865.UserName_Type): "alice", byte(rfc2865.NASIPAddress_Type): "\xc0\x00\x02\x01", byte(rfc2865.NASIdentifier_Type): "asa-1",
		byte(rfc2865.CallingStationID_Type): "198.51.100.7", byte(rfc2866.AcctSessionID_Type): "s1",
		byte(rfc2869.EventTimestamp_Type): string([]byte{0x6a, 0xb1, 0x3b, 0x80}),
	}
	wire.EachAttribute(got[0].Packet, func(a wire.Attribute) bool {
		if a.Vendor == vendorCisco {
			if string(a.Value) != AuditSession+"0a0b" {
				t.Errorf("Cisco-AVPair %q", a.Value)
			}
			return true
		}
		if w, ok := want[a.Type]; ok && w != string(a.Value) {
			t.Errorf("attribute %d is %q, want %q", a.Type, a.Value, w)
		}
		delete(want, a.Type)
		return true
	})
	if len(want) > 0 {
		t.Errorf("not said: %v", want)
	}
}

// What is no answer of this NAS to this request ends nothing (forged, or of another secret), and a refusal says why.
func TestAnswers(t *testing.T) {
	t.Parallel()
	cause := func(c rfc3576.ErrorCause) func(*wire.Writer) {
		return func(w *wire.Writer) { w.AddUint32(byte(rfc3576.ErrorCause_Type), uint32(c)) }
	}
	for name, c := range map[string]struct {
		answer func(*exchangetest.Fake, exchangetest.Request) []byte
		want   string // empty: silent
	}{
		"ack": {func(f *exchangetest.Fake, r exchangetest.Request) []byte { return f.Reply(r, wire.CodeDisconnectACK) }, "ack"},
		"ack without Message-Authenticator": {func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			return f.Unsigned(r, wire.CodeDisconnectACK)
		}, "ack"},
		"nak with a cause": {func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			return f.Reply(r, wire.CodeDisconnectNAK, cause(rfc3576.ErrorCause_Value_SessionContextNotFound))
		}, "nak: Session-Context-Not-Found (503)"},
		"nak with another": {func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			return f.Reply(r, wire.CodeDisconnectNAK, cause(9999))
		}, "nak: error cause 9999"},
		"nak without": {func(f *exchangetest.Fake, r exchangetest.Request) []byte { return f.Reply(r, wire.CodeDisconnectNAK) }, "nak"},
		"a wrong authenticator": {func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			b := f.Reply(r, wire.CodeDisconnectACK)
			b[5] ^= 1
			return b
		}, ""},
		"to another request": {func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			b := f.Unsigned(r, wire.CodeDisconnectACK)
			b[1]++
			return f.Resign(r, b)
		}, ""},
		"an Access-Accept": {func(f *exchangetest.Fake, r exchangetest.Request) []byte { return f.Reply(r, wire.CodeAccessAccept) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := exchangetest.NewFake(t, secret, func(f *exchangetest.Fake, r exchangetest.Request) { f.Send(r, c.answer(f, r)) })
			a, err := Disconnect(t.Context(), NAS{Address: f.Addr(), Secret: []byte(secret), Patience: 1500 * time.Millisecond}, session(), at())
			if c.want == "" {
				if !errors.Is(err, ErrSilent) || a.Done {
					t.Errorf("%+v %v", a, err)
				}
				return
			}
			if err != nil || a.String() != c.want || a.Done != (c.want == "ack") {
				t.Errorf("%q %+v %v, want %q", a.String(), a, err, c.want)
			}
		})
	}
}
