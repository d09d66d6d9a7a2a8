package radiusd

import (
	"encoding/base64"

	"sallyport/radiusd/wire"
)

// stateText is how State is written. It holds no zero octet: ocserv up to 1.1.6, at least, keeps State as a text of C, which ends
// at the first one, though RFC 2865 section 5.24 has it as octets that nobody may interpret. A sealed State begins with an octet
// that no such text has, so that both forms can be told apart.
func stateText() *base64.Encoding { return base64.RawURLEncoding }

// sealState seals what is to come back, as text where that fits into an attribute.
func (s *Server) sealState(aad, plain []byte) []byte {
	var memory [2 * wire.MaxValue]byte
	sealed := s.box.Seal(memory[:0], aad, plain)
	text := stateText()
	if n := text.EncodedLen(len(sealed)); n <= wire.MaxValue {
		return text.AppendEncode(make([]byte, 0, n), sealed)
	}
	return append([]byte(nil), sealed...)
}

// unsealState opens what came back.
func (s *Server) unsealState(aad, state []byte) ([]byte, error) {
	var memory [wire.MaxValue]byte
	if sealed, err := stateText().AppendDecode(memory[:0], state); err == nil {
		if plain, err := s.box.Open(aad, sealed); err == nil {
			return plain, nil
		}
	}
	return s.box.Open(aad, state)
}
