package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
)

// The first byte of a journal entry's payload.
const (
	typeRecord = 1
	typeErased = 2
)

const saltSize = 16

// salts draws random bytes for many salts at once. Each salt is used once.
type salts struct {
	pool [256 * saltSize]byte
	left []byte
}

func (s *salts) next() []byte {
	if len(s.left) == 0 {
		rand.Read(s.pool[:]) // never fails: crypto/rand ends the program instead
		s.left = s.pool[:]
	}
	salt := s.left[:saltSize:saltSize]
	s.left = s.left[saltSize:]
	return salt
}

// leafHasher computes leaves without allocating.
type leafHasher struct {
	digest hash.Hash
	leaf   [sha256.Size]byte
}

func newLeafHasher() leafHasher { return leafHasher{digest: sha256.New()} }

// of returns SHA-256(salt || json).
func (h *leafHasher) of(salt, json []byte) [sha256.Size]byte {
	h.digest.Reset()
	h.digest.Write(salt)
	h.digest.Write(json)
	h.digest.Sum(h.leaf[:0])
	return h.leaf
}

// appendEntry appends the payload of record seq to dst, and says where in it the JSON stands.
func appendEntry(dst []byte, seq uint64, salt, body, change []byte) (payload, json []byte) {
	var number [20]byte
	n := strconv.AppendUint(number[:0], seq, 10)
	length := len(opening) + len(n) + len(body)
	dst = append(dst, typeRecord)
	dst = append(dst, salt...)
	dst = binary.AppendUvarint(dst, uint64(length))
	dst = append(dst, opening...)
	dst = append(dst, n...)
	dst = append(dst, body...)
	json = dst[len(dst)-length:]
	return append(dst, change...), json
}

// entry is a payload taken apart. Its slices are the payload's.
type entry struct {
	erased bool
	leaf   [sha256.Size]byte // of an erased entry
	salt   []byte
	json   []byte
	change []byte
}

var errEntry = errors.New("not an entry of this log")

func parseEntry(payload []byte) (entry, error) {
	if len(payload) == 0 {
		return entry{}, fmt.Errorf("nothing there: %w", errEntry)
	}
	kind, rest := payload[0], payload[1:]
	switch kind {
	case typeErased:
		if len(rest) != sha256.Size {
			return entry{}, fmt.Errorf("erased, with %d bytes in place of %d: %w", len(rest), sha256.Size, errEntry)
		}
		return entry{erased: true, leaf: [sha256.Size]byte(rest)}, nil
	case typeRecord:
		if len(rest) < saltSize {
			return entry{}, fmt.Errorf("ends within the salt: %w", errEntry)
		}
		salt, rest := rest[:saltSize], rest[saltSize:]
		length, n := binary.Uvarint(rest)
		if n <= 0 || n > 1 && rest[n-1] == 0 || length > MaxRecord || length > uint64(len(rest)-n) {
			return entry{}, fmt.Errorf("impossible length of the JSON: %w", errEntry)
		}
		json, change := rest[n:n+int(length)], rest[n+int(length):]
		if len(change) > MaxChange {
			return entry{}, fmt.Errorf("change of %d bytes, at most %d can be: %w", len(change), MaxChange, errEntry)
		}
		return entry{salt: salt, json: json, change: change}, nil
	}
	return entry{}, fmt.Errorf("type %d: %w", kind, errEntry)
}

// leafOf is the entry's leaf.
func (e *entry) leafOf(h *leafHasher) [sha256.Size]byte {
	if e.erased {
		return e.leaf
	}
	return h.of(e.salt, e.json)
}

// checkChange tells whether the record names the private change that stands beside it.
func checkChange(rec *Record, change []byte) error {
	if want := changeHash(change); rec.Change != want {
		return fmt.Errorf("its change has the hash %s, and the record says %s", want, rec.Change)
	}
	return nil
}

func changeHash(change []byte) string {
	if len(change) == 0 {
		return None
	}
	return fmt.Sprintf("%x", sha256.Sum256(change))
}

// Erase gives what is to stand in the journal in place of an entry whose record is forgotten: the leaf alone, from
// which nobody can guess the record, since the salt is gone too. The log's proofs hold as before. Only entries that
// a snapshot covers may be erased: Open refuses a log whose state it cannot rebuild.
func Erase(payload []byte) ([]byte, error) {
	e, err := parseEntry(payload)
	if err != nil {
		return nil, err
	}
	h := newLeafHasher()
	leaf := e.leafOf(&h)
	return append([]byte{typeErased}, leaf[:]...), nil
}
