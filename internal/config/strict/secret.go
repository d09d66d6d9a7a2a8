package strict

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[secret]"

// Secret is a shared secret or password from the configuration. It prints as "[secret]" in every format, log and
// encoding (P9); Bytes is the one way to its value. The zero value is "not given".
type Secret struct {
	// A pointer to a pointer, because fmt can't call the methods of a value in an unexported field of somebody's struct,
	// and prints what lies there, through one pointer even, where the verb is wrong for it. So it's an address.
	value **[]byte
}

// NewSecret holds a copy of value.
func NewSecret(value []byte) Secret {
	kept := append([]byte(nil), value...)
	at := &kept
	return Secret{value: &at}
}

// Bytes returns a copy of the secret itself, or nil where none was given.
func (s Secret) Bytes() []byte {
	if s.value == nil {
		return nil
	}
	return append([]byte(nil), **s.value...)
}

// Empty reports whether there is no secret, or one of no bytes.
func (s Secret) Empty() bool { return s.value == nil || len(**s.value) == 0 }

// Equal compares in constant time for secrets of the same length.
func (s Secret) Equal(other Secret) bool {
	if s.value == nil || other.value == nil {
		return s.value == other.value
	}
	return subtle.ConstantTimeCompare(**s.value, **other.value) == 1
}

// Len is the number of its bytes.
func (s Secret) Len() int {
	if s.value == nil {
		return 0
	}
	return len(**s.value)
}

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Secret) MarshalYAML() (any, error)    { return redacted, nil }

// Format answers every verb alike, also %x and %d, which don't ask String.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }
