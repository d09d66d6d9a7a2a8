package audit

import (
	"bytes"
	"crypto/sha256"
	"strconv"
	"testing"
)

func payloadOf(seq uint64, change []byte) []byte {
	rec := loginRecord(int(seq))
	rec.Time, rec.Node, rec.Change = testNow, "gw1", changeHash(change)
	_ = rec.canonicalise()
	payload, _ := appendEntry(nil, seq, bytes.Repeat([]byte{7}, saltSize), rec.appendBody(nil), change)
	return payload
}

func TestEntry(t *testing.T) {
	h := newLeafHasher()
	change := []byte("sealed")
	payload := payloadOf(1<<40, change)
	e, err := parseEntry(payload)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.change, change) || !bytes.Equal(e.salt, bytes.Repeat([]byte{7}, saltSize)) {
		t.Errorf("%+v", e)
	}
	rec, err := Parse(e.json)
	if err != nil || rec.Seq != 1<<40 || checkChange(rec, change) != nil || checkChange(rec, nil) == nil {
		t.Errorf("%+v, %v", rec, err)
	}
	leaf := e.leafOf(&h)
	if leaf != sha256.Sum256(append(bytes.Repeat([]byte{7}, saltSize), e.json...)) {
		t.Error("leaf is not SHA-256(salt || json)")
	}

	gone, err := Erase(payload)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(gone, []byte("alice")) || len(gone) != 33 {
		t.Errorf("erased: %q", gone)
	}
	if again, err := Erase(gone); err != nil || !bytes.Equal(again, gone) {
		t.Errorf("erased twice: %q, %v", again, err)
	}
	if e, err := parseEntry(gone); err != nil || !e.erased || e.leafOf(&h) != leaf {
		t.Errorf("erased: %+v, %v", e, err)
	}
}

func TestBadEntries(t *testing.T) {
	good := payloadOf(0, nil)
	n := len(good) - 1 - saltSize - 2
	for name, payload := range map[string][]byte{
		"nothing":         {},
		"type 0":          append([]byte{0}, good[1:]...),
		"type 3":          append([]byte{3}, good[1:]...),
		"half a salt":     good[:9],
		"no length":       good[:17],
		"half a length":   good[:18],
		"long length":     append(append(bytes.Clone(good[:17]), byte(n)|0x80, byte(n>>7)|0x80, 0), good[19:]...),
		"beyond the end":  append(append(bytes.Clone(good[:17]), 0xff, 0xff, 0x03), good[19:]...),
		"endless length":  append(bytes.Clone(good[:17]), bytes.Repeat([]byte{0xff}, 12)...),
		"short by a byte": good[:len(good)-1],
		"long change":     append(bytes.Clone(good), make([]byte, MaxChange+1)...),
		"short leaf":      append([]byte{2}, make([]byte, 31)...),
		"long leaf":       append([]byte{2}, make([]byte, 33)...),
	} {
		if e, err := parseEntry(payload); err == nil {
			t.Errorf("%s: accepted as %+v", name, e)
		}
		if _, err := Erase(payload); err == nil {
			t.Errorf("%s: erased", name)
		}
	}
}

// FuzzEntry: no payload makes the reader fall, and what it takes apart can be put together again.
func FuzzEntry(f *testing.F) {
	f.Add(payloadOf(0, nil))
	f.Add(payloadOf(3, []byte("change")))
	gone, _ := Erase(payloadOf(1, nil))
	f.Add(gone)
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := parseEntry(payload)
		if err != nil || e.erased {
			return
		}
		rec, err := Parse(e.json)
		if err != nil {
			return
		}
		body := e.json[len(opening)+len(strconv.FormatUint(rec.Seq, 10)):]
		if again, _ := appendEntry(nil, rec.Seq, e.salt, body, e.change); !bytes.Equal(again, payload) {
			t.Errorf("%q became %q", payload, again)
		}
	})
}

func TestSaltsDiffer(t *testing.T) {
	var s salts
	seen := make(map[string]bool)
	for range 3 * len(s.pool) / saltSize {
		salt := s.next()
		if len(salt) != saltSize || seen[string(salt)] {
			t.Fatalf("salt %x", salt)
		}
		seen[string(salt)] = true
	}
}
