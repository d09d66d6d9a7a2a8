package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const keySize = 32

// key is one key of a ring. It's never changed, and only pointers to it are passed on.
type key struct {
	id      uint32
	created time.Time
	secret  [keySize]byte
}

// derive makes the key for one use. The parts are counted, so that no two lists of parts give the same info.
func (k *key) derive(use string, parts ...string) []byte {
	info := appendParts(make([]byte, 0, 128), append([]string{"sallyport/seal/v1", use}, parts...)...)
	out, err := hkdf.Key(sha256.New, k.secret[:], nil, string(info), keySize)
	if err != nil {
		panic("seal: hkdf: " + err.Error()) // only for an output that's too long
	}
	return out
}

// check is a key check value: it shows damage to the key's line in the ring file, and nothing of the key.
func (k *key) check() [8]byte {
	mac := hmac.New(sha256.New, k.derive("check"))
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], k.id)
	mac.Write(b[:])
	mac.Write([]byte(k.created.Format(time.RFC3339Nano)))
	return [8]byte(mac.Sum(nil))
}

// appendParts appends each part after its length.
func appendParts(dst []byte, parts ...string) []byte {
	for _, p := range parts {
		dst = binary.AppendUvarint(dst, uint64(len(p)))
		dst = append(dst, p...)
	}
	return dst
}

// Ring is a key ring: the newest key seals, any opens. Make one with Create or Load.
type Ring struct {
	path string

	save sync.Mutex             // held while the file is replaced
	keys atomic.Pointer[[]*key] // oldest first, never empty, never changed in place
}

// KeyInfo is what may be shown of a key.
type KeyInfo struct {
	ID      uint32
	Created time.Time
}

// Create makes a ring of one new key, and its file. It refuses to replace a file: that would lose what the ring there
// has sealed.
func Create(path string, now time.Time) (*Ring, error) {
	k, err := newKey(1, now)
	if err != nil {
		return nil, fmt.Errorf("create key ring %s: %w", path, err)
	}
	r := &Ring{path: path}
	keys := []*key{k}
	if err := writeRing(path, keys, os.Link); err != nil {
		return nil, fmt.Errorf("create key ring %s: %w", path, err)
	}
	r.keys.Store(&keys)
	return r, nil
}

// Load reads a ring. A file that others may read or write is refused: its keys can't be trusted any more.
func Load(path string) (*Ring, error) {
	keys, err := readRing(path)
	if err != nil {
		return nil, fmt.Errorf("load key ring %s: %w", path, err)
	}
	r := &Ring{path: path}
	r.keys.Store(&keys)
	return r, nil
}

// Rotate adds a new key, which seals from now on. The key is durable in the file before it seals anything, so that a
// crash can't lose what it sealed; when that fails, the ring stays as it was. What older keys sealed still opens, and
// Stale finds it, to be sealed again.
func (r *Ring) Rotate(now time.Time) error {
	r.save.Lock()
	defer r.save.Unlock()
	old := *r.keys.Load()
	last := old[len(old)-1].id
	if last == math.MaxUint32 || len(old) >= maxKeys {
		return fmt.Errorf("rotate key ring %s: it holds %d keys and takes no more", r.path, len(old))
	}
	k, err := newKey(last+1, now)
	if err != nil {
		return fmt.Errorf("rotate key ring %s: %w", r.path, err)
	}
	keys := append(append(make([]*key, 0, len(old)+1), old...), k)
	if err := writeRing(r.path, keys, os.Rename); err != nil {
		return fmt.Errorf("rotate key ring %s: %w", r.path, err)
	}
	r.keys.Store(&keys)
	return nil
}

// Save writes the ring's file again, as a whole and durably.
func (r *Ring) Save() error {
	r.save.Lock()
	defer r.save.Unlock()
	if err := writeRing(r.path, *r.keys.Load(), os.Rename); err != nil {
		return fmt.Errorf("save key ring %s: %w", r.path, err)
	}
	return nil
}

// Keys lists the ring's keys, oldest first.
func (r *Ring) Keys() []KeyInfo {
	keys := *r.keys.Load()
	infos := make([]KeyInfo, len(keys))
	for i, k := range keys {
		infos[i] = KeyInfo{ID: k.id, Created: k.created}
	}
	return infos
}

func (r *Ring) newest() *key {
	keys := *r.keys.Load()
	return keys[len(keys)-1]
}

func (r *Ring) oldest() *key { return (*r.keys.Load())[0] }

func (r *Ring) find(id uint32) *key {
	for _, k := range *r.keys.Load() {
		if k.id == id {
			return k
		}
	}
	return nil
}

// String describes the ring without its secrets.
func (r *Ring) String() string {
	if r == nil || r.keys.Load() == nil {
		return "[no key ring]"
	}
	return fmt.Sprintf("[key ring of %d]", len(*r.keys.Load()))
}

// Format prints String for every verb, so that none shows a key (P9).
func (r *Ring) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(r.String())) }

// LogValue logs String.
func (r *Ring) LogValue() slog.Value { return slog.StringValue(r.String()) }

func newKey(id uint32, now time.Time) (*key, error) {
	k := &key{id: id, created: now.UTC().Truncate(time.Second)}
	if y := k.created.Year(); y < 1970 || y > 9999 {
		return nil, fmt.Errorf("the clock says year %d", y)
	}
	if _, err := rand.Read(k.secret[:]); err != nil {
		return nil, err
	}
	return k, nil
}

// writeRing writes the file under another name, makes it durable, and lets place put it at path: os.Rename to
// replace what is there, os.Link to refuse to.
func writeRing(path string, keys []*key, place func(from, to string) error) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".key-ring-*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		// Gone already after a rename, and left over after a link or an error.
		if rm := os.Remove(tmp.Name()); rm != nil && !errors.Is(rm, fs.ErrNotExist) && err == nil {
			err = rm
		}
	}()
	_, werr := tmp.Write(formatRing(keys))
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := place(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
