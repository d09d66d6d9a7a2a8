package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

const (
	formVersion = 1
	headerSize  = 1 + 4
)

// Overhead is how much longer a sealed value is than its plaintext, in bytes.
const Overhead = headerSize + 12 + 16

// ErrOpen is wrapped by all errors of Open. Callers need not tell why a value does not open: it is not ours, it is for
// another purpose or id, or it was altered.
var ErrOpen = errors.New("sealed value does not open")

// Seal seals plain for one purpose ("token.seed") and one id (a row's). Purpose and id are bound twice: into the key
// and into the additional data.
func (r *Ring) Seal(purpose, id string, plain []byte) []byte {
	k := r.newest()
	dst := appendHeader(make([]byte, 0, len(plain)+Overhead), k.id)
	return newAEAD(k.derive("value", purpose, id)).Seal(dst, nil, plain, valueData(k.id, purpose, id))
}

// Open opens what Seal sealed for the same purpose and id, with this or an older state of the ring. It returns nothing
// of a value that was altered.
func (r *Ring) Open(purpose, id string, sealed []byte) ([]byte, error) {
	kid, body, ok := cutHeader(sealed)
	if !ok {
		return nil, fmt.Errorf("%w: it is %d bytes without our header", ErrOpen, len(sealed))
	}
	k := r.find(kid)
	if k == nil {
		return nil, fmt.Errorf("%w: it names key %d, which the ring does not hold", ErrOpen, kid)
	}
	plain, err := newAEAD(k.derive("value", purpose, id)).Open(nil, nil, body, valueData(kid, purpose, id))
	if err != nil {
		return nil, fmt.Errorf("%w: it was altered, or sealed for another purpose or id (key %d)", ErrOpen, kid)
	}
	return plain, nil
}

// Stale reports whether sealed names another key than the newest, and so should be opened and sealed again after a
// rotation.
func (r *Ring) Stale(sealed []byte) bool {
	kid, _, ok := cutHeader(sealed)
	return !ok || kid != r.newest().id
}

// MAC is a hash keyed by the ring (HMAC-SHA-256), different for each purpose. It uses the oldest key, so that rotation
// leaves it as it is.
func (r *Ring) MAC(purpose string, data []byte) [32]byte {
	mac := hmac.New(sha256.New, r.oldest().derive("mac", purpose))
	mac.Write(data)
	return [32]byte(mac.Sum(nil))
}

// Box seals many values for one purpose quickly: the derived keys are kept. It follows the ring's rotations.
type Box struct {
	ring    *Ring
	purpose string
	aeads   sync.Map // uint32 (key id) to cipher.AEAD; no more than the ring has keys
}

// Box makes a box for one purpose. Boxes and Seal never open each other's values.
func (r *Ring) Box(purpose string) *Box { return &Box{ring: r, purpose: purpose} }

// Seal appends the sealed plain to dst. The same aad has to be given to Open. The room behind dst must not overlap
// with plain or aad.
func (b *Box) Seal(dst, aad, plain []byte) []byte {
	k := b.ring.newest()
	return b.aead(k).Seal(appendHeader(dst, k.id), nil, plain, aad)
}

// Open opens what a Box of the same ring and purpose sealed with the same aad, in this process or another. Its error
// is ErrOpen as it is, since strangers can cause as many as they like.
func (b *Box) Open(aad, sealed []byte) ([]byte, error) {
	kid, body, ok := cutHeader(sealed)
	if !ok {
		return nil, ErrOpen
	}
	k := b.ring.find(kid)
	if k == nil {
		return nil, ErrOpen
	}
	plain, err := b.aead(k).Open(nil, nil, body, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

func (b *Box) aead(k *key) cipher.AEAD {
	if a, ok := b.aeads.Load(k.id); ok {
		return a.(cipher.AEAD)
	}
	a, _ := b.aeads.LoadOrStore(k.id, newAEAD(k.derive("box", b.purpose)))
	return a.(cipher.AEAD)
}

func (b *Box) String() string { return "[box]" }

// Format prints String for every verb, so that none shows a key (P9).
func (b *Box) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(b.String())) }

// LogValue logs String.
func (b *Box) LogValue() slog.Value { return slog.StringValue(b.String()) }

func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("seal: " + err.Error()) // only for another key size
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("seal: " + err.Error()) // only for another block size
	}
	return aead
}

func appendHeader(dst []byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, formVersion), id)
}

func cutHeader(sealed []byte) (id uint32, body []byte, ok bool) {
	if len(sealed) < Overhead || sealed[0] != formVersion {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(sealed[1:]), sealed[headerSize:], true
}

func valueData(id uint32, purpose, row string) []byte {
	return appendParts(appendHeader(make([]byte, 0, 64), id), purpose, row)
}
