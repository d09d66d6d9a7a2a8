package wire

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
)

// What is written is read back; what does not fit is not written.
func TestAttributes(t *testing.T) {
	var w Writer
	w.Begin(make([]byte, 0, MaxPacket), CodeAccessAccept, 1)
	want := []Attribute{
		{Type: AttrClass, Value: []byte("network")},
		{Vendor: 9, Type: 1, Value: []byte("shell:priv-lvl=15")},
		{Vendor: VendorMicrosoft, Type: MicrosoftCHAP2Success, Value: bytes.Repeat([]byte{7}, MaxVendorValue)},
		{Type: AttrReplyMessage, Value: bytes.Repeat([]byte{'x'}, MaxValue)},
	}
	for _, a := range want {
		w.AddAttribute(a)
	}
	for _, a := range []Attribute{
		{Type: AttrClass},
		{Value: []byte("no type")},
		{Type: AttrClass, Value: make([]byte, MaxValue+1)},
		{Vendor: 9, Type: 1, Value: make([]byte, MaxVendorValue+1)},
	} {
		w.AddAttribute(a)
	}
	packet := w.Sign(NewDigester(), NewSecret([]byte("s")), make([]byte, AuthenticatorSize))
	var v View
	if why := v.Parse(packet); why != None {
		t.Fatal(why)
	}
	var got []Attribute
	EachAttribute(packet, func(a Attribute) bool {
		if a.Type != AttrMessageAuth {
			got = append(got, a)
		}
		return true
	})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Vendor-Specific of any inside neither panics nor loses octets: it comes in parts, or whole.
func TestVendorForms(t *testing.T) {
	for what, c := range map[string]struct {
		inside []byte
		want   []Attribute
	}{
		"two in one":       {[]byte{0, 0, 0, 9, 1, 3, 'a', 2, 3, 'b'}, []Attribute{{9, 1, []byte("a")}, {9, 2, []byte("b")}}},
		"an empty one":     {[]byte{0, 0, 0, 9, 1, 2}, []Attribute{{9, 1, []byte{}}}},
		"nothing inside":   {[]byte{0, 0, 0, 9}, []Attribute{{0, 26, []byte{0, 0, 0, 9}}}},
		"no vendor":        {[]byte{0, 0, 0}, []Attribute{{0, 26, []byte{0, 0, 0}}}},
		"vendor 0":         {[]byte{0, 0, 0, 0, 1, 3, 'a'}, []Attribute{{0, 26, []byte{0, 0, 0, 0, 1, 3, 'a'}}}},
		"length 0":         {[]byte{0, 0, 0, 9, 1, 0}, []Attribute{{0, 26, []byte{0, 0, 0, 9, 1, 0}}}},
		"length too great": {[]byte{0, 0, 0, 9, 1, 4, 'a'}, []Attribute{{0, 26, []byte{0, 0, 0, 9, 1, 4, 'a'}}}},
		"one octet behind": {[]byte{0, 0, 0, 9, 1, 3, 'a', 2}, []Attribute{{0, 26, []byte{0, 0, 0, 9, 1, 3, 'a', 2}}}},
	} {
		packet := append(make([]byte, HeaderSize), AttrVendor, byte(len(c.inside)+2))
		packet = append(packet, c.inside...)
		packet = append(packet, AttrClass, 3, 'c')
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		var got []Attribute
		EachAttribute(packet, func(a Attribute) bool { got = append(got, a); return true })
		if want := append(c.want, Attribute{0, AttrClass, []byte("c")}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		n := 0
		EachAttribute(packet, func(Attribute) bool { n++; return false })
		if n != 1 {
			t.Errorf("%s: went on %d times after it was told to stop", what, n)
		}
	}
}
