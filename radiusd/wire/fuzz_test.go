package wire

import (
	"bytes"
	"testing"
)

// FuzzAttributes takes packets apart and puts them together again: what vendors put into Vendor-Specific included, nothing is
// lost, added, or put into another's name.
func FuzzAttributes(f *testing.F) {
	f.Add([]byte{1, 7, 'a', 'l', 'i', 'c', 'e', 26, 12, 0, 0, 0, 9, 1, 6, 's', 'h', 'e', 'l'})
	f.Add([]byte{26, 20, 0, 0, 1, 55, 11, 6, 1, 2, 3, 4, 25, 8, 1, 2, 3, 4, 5, 6})
	f.Add([]byte{26, 8, 0, 0, 0, 0, 1, 2, 26, 6, 0, 0, 1, 55, 26, 2, 26, 10, 0, 0, 1, 55, 1, 9, 0, 0})
	f.Fuzz(func(t *testing.T, attributes []byte) {
		packet := append(make([]byte, HeaderSize), attributes...)
		if len(packet) > MaxPacket {
			return
		}
		var v View
		if v.Parse(packet) != None {
			return
		}
		var once, twice []Attribute
		var out Writer
		out.BeginBare(nil, CodeAccessAccept, 1)
		EachAttribute(packet, func(a Attribute) bool {
			if len(a.Value) > MaxValue || a.Vendor != 0 && len(a.Value) > MaxVendorValue {
				t.Fatalf("%d octets", len(a.Value))
			}
			if a.Fits() {
				once = append(once, Attribute{a.Vendor, a.Type, bytes.Clone(a.Value)})
				out.AddAttribute(a)
			}
			return true
		})
		again := out.SignBare(NewDigester(), NewSecret([]byte("x")), make([]byte, AuthenticatorSize))
		EachAttribute(again, func(a Attribute) bool {
			twice = append(twice, Attribute{a.Vendor, a.Type, bytes.Clone(a.Value)})
			return true
		})
		if len(once) != len(twice) {
			t.Fatalf("%d attributes, and then %d", len(once), len(twice))
		}
		for i := range once {
			if once[i].Vendor != twice[i].Vendor || once[i].Type != twice[i].Type || !bytes.Equal(once[i].Value, twice[i].Value) {
				t.Fatalf("%v became %v", once[i], twice[i])
			}
		}
	})
}
