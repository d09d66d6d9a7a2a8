package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	ringVersion = 1
	maxKeys     = 1000    // yearly rotation for as long as anybody will care
	maxFile     = 1 << 20 // bytes; maxKeys take a sixth of it
)

// The ring file's JSON. Strings stand for key and time, since the strict forms of both are ours to check.
type ringFile struct {
	Version int       `json:"version"`
	Keys    []ringKey `json:"keys"`
}

type ringKey struct {
	ID      uint32 `json:"id"`
	Created string `json:"created"` // RFC 3339, UTC, seconds
	Key     string `json:"key"`
	Check   string `json:"check"`
}

func formatRing(keys []*key) []byte {
	f := ringFile{Version: ringVersion, Keys: make([]ringKey, len(keys))}
	for i, k := range keys {
		check := k.check()
		f.Keys[i] = ringKey{
			ID:      k.id,
			Created: k.created.Format(time.RFC3339),
			Key:     base64.StdEncoding.EncodeToString(k.secret[:]),
			Check:   hex.EncodeToString(check[:]),
		}
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		panic("seal: " + err.Error()) // strings and numbers always marshal
	}
	return append(b, '\n')
}

func readRing(path string) ([]*key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The open file is asked, not the path, which might by now be another file.
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a regular file (%s)", st.Mode())
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("its mode is %04o, and others than its owner may use it; hint: chmod 600 %s, and rotate it if somebody may have read it", perm, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return parseRing(data)
}

// parseRing reads a ring file strictly. Its errors tell places and never contents.
func parseRing(data []byte) ([]*key, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	var f ringFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if dec.Decode(&f) != nil {
		// The decoder's own error could quote a key.
		return nil, fmt.Errorf("it is not a key ring, near byte %d", dec.InputOffset())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows the ring, after byte %d", dec.InputOffset())
	}
	if f.Version != ringVersion {
		return nil, fmt.Errorf("its version is %d, and this program knows %d", f.Version, ringVersion)
	}
	if len(f.Keys) == 0 || len(f.Keys) > maxKeys {
		return nil, fmt.Errorf("it holds %d keys: want 1 to %d", len(f.Keys), maxKeys)
	}
	keys := make([]*key, len(f.Keys))
	for i, rk := range f.Keys {
		k, err := rk.parse()
		if err != nil {
			return nil, fmt.Errorf("key %d of %d: %w", i+1, len(f.Keys), err)
		}
		if i > 0 && k.id <= keys[i-1].id {
			return nil, fmt.Errorf("key %d of %d: its id %d does not follow %d", i+1, len(f.Keys), k.id, keys[i-1].id)
		}
		keys[i] = k
	}
	// encoding/json forgives repeated fields, other case and needless escapes. We forgive white space.
	var got, want bytes.Buffer
	if json.Compact(&got, data) != nil || json.Compact(&want, formatRing(keys)) != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		return nil, errors.New("it is not in the form that this program writes: the file is damaged; hint: restore it from a backup")
	}
	return keys, nil
}

func (rk ringKey) parse() (*key, error) {
	if rk.ID == 0 {
		return nil, errors.New("it has no id")
	}
	k := &key{id: rk.ID}
	created, err := time.Parse(time.RFC3339, rk.Created)
	if err != nil || created.UTC().Format(time.RFC3339) != rk.Created {
		return nil, errors.New("its time of creation is damaged")
	}
	k.created = created.UTC()
	secret, err := base64.StdEncoding.Strict().DecodeString(rk.Key)
	if err != nil || len(secret) != keySize {
		return nil, fmt.Errorf("it is not %d bytes in base64", keySize)
	}
	copy(k.secret[:], secret)
	clear(secret)
	if check := k.check(); hex.EncodeToString(check[:]) != rk.Check {
		return nil, errors.New("its check does not fit: the file is damaged; hint: restore it from a backup")
	}
	return k, nil
}
