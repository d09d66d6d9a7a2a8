package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func goldenRing(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "ring.json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// only reports what a folder holds, so that nothing is left beside the ring.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("the folder holds %q, want %q", names, want)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ring")
	r, err := Create(path, day)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", st.Mode(), err)
	}
	only(t, dir, "ring")
	back, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := back.Open("p", "i", r.Seal("p", "i", []byte("x"))); err != nil || string(got) != "x" {
		t.Errorf("loaded again: %q, %v", got, err)
	}

	// A ring is never replaced by a new one: that would lose all that it sealed.
	before, _ := os.ReadFile(path)
	if _, err := Create(path, day); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("created over another: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the ring was changed")
	}
	only(t, dir, "ring")

	if _, err := Create(filepath.Join(dir, "none", "ring"), day); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
	if _, err := Create(filepath.Join(dir, "other"), time.Time{}); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("without a clock: %v", err)
	}
	only(t, dir, "ring")
}

func TestLoadModes(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o400, 0o700, 0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o666, 0o610, 0o601, 0o777} {
		r := newRing(t)
		if err := os.Chmod(r.path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(r.path)
		if mode&0o077 == 0 {
			if err != nil {
				t.Errorf("mode %04o: %v", mode, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "hint: chmod 600 "+r.path) {
			t.Errorf("mode %04o: %v, want a refusal with a hint", mode, err)
		}
	}
}

func TestLoadWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not there: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Join(dir, "dir")); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a folder: %v", err)
	}
	// The mode that counts is the file's, not the link's.
	r := newRing(t)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(r.path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(link); err != nil {
		t.Errorf("through a link: %v", err)
	}
	if err := os.Chmod(r.path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(link); err == nil {
		t.Error("through a link, a file that all may read was loaded")
	}
}

func TestParseRingRefuses(t *testing.T) {
	good := string(goldenRing(t))
	swap := func(old, repl string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the ring", old)
		}
		return strings.Replace(good, old, repl, 1)
	}
	var f ringFile
	if err := json.Unmarshal([]byte(good), &f); err != nil {
		t.Fatal(err)
	}
	one, two := f.Keys[0].Key, f.Keys[1].Key
	keysOf := func(ks ...ringKey) string {
		b, err := json.Marshal(ringFile{Version: 1, Keys: ks})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	tests := []struct {
		name, file, says string
	}{
		{"empty", "", "not a key ring"},
		{"null", "null", "version is 0"},
		{"a list", "[]", "not a key ring"},
		{"cut", good[:len(good)/2], "not a key ring"},
		{"two rings", good + good, "follows"},
		{"a byte more", good + "x", "follows"},
		{"a NUL more", good + "\x00", "follows"},
		{"another version", swap(`"version": 1`, `"version": 2`), "version is 2"},
		{"no version", swap(`"version": 1,`, ``), "version is 0"},
		{"unknown field", swap(`"version": 1`, `"version": 1, "cipher": "none"`), "not a key ring"},
		{"version twice", swap(`"version": 1`, `"version": 2, "version": 1`), "form"},
		{"other case", swap(`"version": 1`, `"VERSION": 1`), "form"},
		{"needless escape", swap(`"version": 1`, `"\u0076ersion": 1`), "form"},
		{"no keys", `{"version": 1, "keys": []}`, "0 keys"},
		{"too many keys", keysOf(make([]ringKey, maxKeys+1)...), "keys: want 1 to"},
		{"id 0", swap(`"id": 1`, `"id": 0`), "no id"},
		{"id below 0", swap(`"id": 1`, `"id": -1`), "not a key ring"},
		{"id of another", swap(`"id": 2`, `"id": 1`), "key 2 of 2"},
		{"order", keysOf(f.Keys[1], f.Keys[0]), "does not follow"},
		{"key twice", keysOf(f.Keys[0], f.Keys[0]), "does not follow"},
		{"keys swapped", strings.NewReplacer(one, two, two, one).Replace(good), "check"},
		{"another time", swap("2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z"), "check"},
		{"a time elsewhere", swap("2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00"), "time"},
		{"no time", swap("2026-01-02T03:04:05Z", ""), "time"},
		{"short key", swap(one, one[:40]), "32 bytes"},
		{"long key", swap(one, "AAAA"+one), "32 bytes"},
		{"key with a line break", swap(one, one[:8]+`\n`+one[8:]), "form"},
		{"no check", swap(f.Keys[0].Check, ""), "check"},
		{"check in capitals", swap(f.Keys[0].Check, strings.ToUpper(f.Keys[0].Check)), "check"},
		{"too long", good + strings.Repeat(" ", maxFile), "longer"},
		{"deep", strings.Repeat("[", 64<<10), "not a key ring"},
	}
	for _, tt := range tests {
		keys, err := parseRing([]byte(tt.file))
		if err == nil || keys != nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.says)
			continue
		}
		if strings.Contains(err.Error(), one[:6]) || strings.Contains(err.Error(), two[:6]) { // P9
			t.Errorf("%s: the error shows a key: %v", tt.name, err)
		}
	}
}

// Every byte of a ring file, changed to anything: the ring is refused, or it's the same ring (white space).
func TestParseRingFindsEveryChange(t *testing.T) {
	good := goldenRing(t)
	for i := range good {
		for _, c := range []byte{good[i] ^ 1, good[i] ^ 0x20, good[i] ^ 0x80, 0, ' ', '\n', '"', '0', 'A'} {
			bad := bytes.Clone(good)
			bad[i] = c
			keys, err := parseRing(bad)
			if err == nil && !bytes.Equal(formatRing(keys), good) {
				t.Errorf("byte %d (%q) as %q is another ring", i, good[i], c)
			}
		}
		if keys, err := parseRing(good[:i]); err == nil && !bytes.Equal(formatRing(keys), good) {
			t.Errorf("cut to %d bytes it is another ring", i)
		}
	}
}

// A ring that can't be written stays as it was, in memory and on disk, and leaves nothing behind.
func TestRotateFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ring")
	r, err := Create(path, day)
	if err != nil {
		t.Fatal(err)
	}
	sealed := r.Seal("p", "i", []byte("x"))

	// A folder in the file's place: the rename fails after the new file was written.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Rotate(day); err == nil {
		t.Fatal("rotated, though the file can't be replaced")
	}
	if err := r.Save(); err == nil {
		t.Fatal("saved, though the file can't be replaced")
	}
	only(t, dir, "ring")
	if err := r.Rotate(time.Time{}); err == nil {
		t.Fatal("rotated without a clock")
	}
	if len(r.Keys()) != 1 || r.Stale(sealed) {
		t.Errorf("the ring changed: %v", r.Keys())
	}
	if got, err := r.Open("p", "i", sealed); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}

	// When the file can be written again, Save brings it back.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	back, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := back.Open("p", "i", sealed); err != nil {
		t.Error(err)
	}
	only(t, dir, "ring")
}

// Whoever reads the file while it is rotated finds a whole ring, and all that was sealed so far opens with the file
// as it is at that moment: a key is on disk before it seals.
func TestSaveIsAtomic(t *testing.T) {
	r := newRing(t)
	stop := make(chan struct{})
	read := make(chan error, 1)
	go func() {
		for {
			sealed := r.Seal("p", "i", []byte("x"))
			back, err := Load(r.path)
			if err == nil {
				_, err = back.Open("p", "i", sealed)
			}
			select {
			case <-stop:
				read <- err
				return
			default:
			}
			if err != nil {
				read <- err
				return
			}
		}
	}()
	for range 100 {
		if err := r.Rotate(day); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-read; err != nil {
		t.Errorf("beside the rotation: %v", err)
	}
	st, err := os.Stat(r.path)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", st.Mode(), err)
	}
	only(t, filepath.Dir(r.path), "ring")
}

func TestRotateIsBounded(t *testing.T) {
	r := newRing(t)
	many := make([]*key, maxKeys)
	for i := range many {
		k, err := newKey(uint32(i+1), day)
		if err != nil {
			t.Fatal(err)
		}
		many[i] = k
	}
	if b := formatRing(many); len(b) > maxFile {
		t.Errorf("%d keys take %d bytes, more than a file may have", maxKeys, len(b))
	} else if _, err := parseRing(b); err != nil {
		t.Error(err)
	}
	r.keys.Store(&many)
	if err := r.Rotate(day); err == nil {
		t.Error("a full ring took another key")
	}
	last, err := newKey(1<<32-1, day)
	if err != nil {
		t.Fatal(err)
	}
	r.keys.Store(&[]*key{last})
	if err := r.Rotate(day); err == nil {
		t.Error("ids wrapped round")
	}
}

func FuzzParseRing(f *testing.F) {
	good := goldenRing(f)
	f.Add(good)
	f.Add(good[:len(good)-2])
	f.Add([]byte(`{"version":1,"keys":[{"id":1,"created":"2026-01-02T03:04:05Z","key":"","check":""}]}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseRing(b)
		if err != nil {
			if keys != nil {
				t.Fatal("keys beside an error")
			}
			return
		}
		again, err := parseRing(formatRing(keys))
		if err != nil || len(again) != len(keys) {
			t.Fatalf("a ring that was read can't be written and read: %v", err)
		}
		for i := range keys {
			if *keys[i] != *again[i] {
				t.Fatalf("key %d changed", i)
			}
		}
	})
}
