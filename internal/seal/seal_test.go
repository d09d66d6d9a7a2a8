package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

func newRing(t testing.TB) *Ring {
	t.Helper()
	r, err := Create(filepath.Join(t.TempDir(), "ring"), day)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSealRoundTrip(t *testing.T) {
	r := newRing(t)
	rapid.Check(t, func(t *rapid.T) {
		purpose, id := rapid.String().Draw(t, "purpose"), rapid.String().Draw(t, "id")
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		sealed := r.Seal(purpose, id, plain)
		if len(sealed) != len(plain)+Overhead {
			t.Fatalf("%d bytes became %d", len(plain), len(sealed))
		}
		if len(plain) > 4 && bytes.Contains(sealed, plain) {
			t.Fatal("the plaintext shows")
		}
		if bytes.Equal(sealed, r.Seal(purpose, id, plain)) {
			t.Fatal("sealed twice, the same bytes")
		}
		got, err := r.Open(purpose, id, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%x, %v, want %x", got, err, plain)
		}

		box := r.Box(purpose)
		dst := rapid.SliceOf(rapid.Byte()).Draw(t, "dst")
		sealed = box.Seal(bytes.Clone(dst), []byte(id), plain)
		if !bytes.HasPrefix(sealed, dst) || len(sealed) != len(dst)+len(plain)+Overhead {
			t.Fatalf("%d bytes after %d became %d", len(plain), len(dst), len(sealed))
		}
		got, err = r.Box(purpose).Open([]byte(id), sealed[len(dst):])
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("box: %x, %v, want %x", got, err, plain)
		}
	})
}

// Every bit of a sealed value, its length included, is guarded; and no part of an altered value comes out.
func TestOpenFindsEveryChange(t *testing.T) {
	r := newRing(t)
	if err := r.Rotate(day); err != nil { // so that a changed key id may name a key that exists
		t.Fatal(err)
	}
	box := r.Box("state")
	value, boxed := r.Seal("seed", "7", []byte("a seed of some bytes")), box.Seal(nil, []byte("nas"), []byte("a state of some bytes"))
	try := func(what string, value, boxed []byte) {
		t.Helper()
		if got, err := r.Open("seed", "7", value); !errors.Is(err, ErrOpen) || got != nil {
			t.Errorf("%s: opened as %q, %v", what, got, err)
		}
		if got, err := box.Open([]byte("nas"), boxed); err != ErrOpen || got != nil {
			t.Errorf("%s: box opened as %q, %v", what, got, err)
		}
	}
	flip := func(b []byte, i int, bit byte) []byte {
		b = bytes.Clone(b)
		b[i] ^= bit
		return b
	}
	for i := range value {
		for bit := byte(1); bit != 0; bit <<= 1 {
			try(fmt.Sprintf("byte %d, bit %02x", i, bit), flip(value, i, bit), flip(boxed, i, bit))
		}
		try(fmt.Sprintf("cut to %d", i), value[:i], boxed[:i])
		try(fmt.Sprintf("without the first %d", i+1), value[i+1:], boxed[i+1:])
	}
	try("a byte more", append(bytes.Clone(value), 0), append(bytes.Clone(boxed), 0))
	try("nothing", nil, nil)
	try("64 KiB of zeros", make([]byte, 64<<10), make([]byte, 64<<10))
	try("each other", boxed, value)
}

// What is sealed for one row or use does not open as another's.
func TestOpenBindsPurposeAndID(t *testing.T) {
	r, other := newRing(t), newRing(t)
	sealed := r.Seal("seed", "12", []byte("x"))
	for _, tt := range []struct {
		name, purpose, id string
		ring              *Ring
	}{
		{"another id", "seed", "13", r},
		{"another purpose", "credential", "12", r},
		{"swapped", "12", "seed", r},
		{"the border moved", "seed1", "2", r},
		{"the border moved the other way", "see", "d12", r},
		{"all in one", "seed12", "", r},
		{"a NUL", "seed", "12\x00", r},
		{"another ring with a key of the same id", "seed", "12", other},
	} {
		if got, err := tt.ring.Open(tt.purpose, tt.id, sealed); !errors.Is(err, ErrOpen) || got != nil {
			t.Errorf("%s: opened as %q, %v", tt.name, got, err)
		}
	}

	boxed := r.Box("state").Seal(nil, []byte("nas1"), []byte("x"))
	for _, tt := range []struct {
		name string
		box  *Box
		aad  string
	}{
		{"another purpose", r.Box("cookie"), "nas1"},
		{"another aad", r.Box("state"), "nas2"},
		{"no aad", r.Box("state"), ""},
		{"another ring", other.Box("state"), "nas1"},
	} {
		if got, err := tt.box.Open([]byte(tt.aad), boxed); err != ErrOpen || got != nil {
			t.Errorf("box, %s: opened as %q, %v", tt.name, got, err)
		}
	}
	if _, err := r.Open("state", "nas1", boxed); !errors.Is(err, ErrOpen) {
		t.Errorf("a box's value opened without the box: %v", err)
	}
	if _, err := r.Box("seed").Open([]byte("12"), sealed); err != ErrOpen {
		t.Errorf("a row's value opened in a box: %v", err)
	}
}

// After a rotation new values have the new key, old ones still open, and boxes made before follow.
func TestRotate(t *testing.T) {
	r := newRing(t)
	box := r.Box("state")
	old, oldBoxed, mac := r.Seal("seed", "7", []byte("old")), box.Seal(nil, nil, []byte("old")), r.MAC("name", []byte("bob"))
	if r.Stale(old) {
		t.Error("stale before the rotation")
	}
	before, err := Load(r.path) // another gateway, which has not read the new ring yet
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Rotate(day.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	fresh, freshBoxed := r.Seal("seed", "7", []byte("new")), box.Seal(nil, nil, []byte("new"))
	if !r.Stale(old) || !r.Stale(oldBoxed) || r.Stale(fresh) || r.Stale(freshBoxed) || !r.Stale(nil) {
		t.Error("the wrong values are stale")
	}
	if got := fresh[4]; got != 2 || freshBoxed[4] != 2 {
		t.Errorf("sealed with key %d, want 2", got)
	}
	after, err := Load(r.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, ring := range map[string]*Ring{"the ring": r, "the ring as loaded": after} {
		for want, sealed := range map[string][]byte{"old": old, "new": fresh} {
			if got, err := ring.Open("seed", "7", sealed); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v, want %q", name, got, err, want)
			}
		}
		for want, sealed := range map[string][]byte{"old": oldBoxed, "new": freshBoxed} {
			if got, err := ring.Box("state").Open(nil, sealed); err != nil || string(got) != want {
				t.Errorf("%s's box: %q, %v, want %q", name, got, err, want)
			}
		}
		if ring.MAC("name", []byte("bob")) != mac {
			t.Errorf("%s: the keyed hash changed", name)
		}
		infos := ring.Keys()
		if len(infos) != 2 || infos[0] != (KeyInfo{1, day.Truncate(time.Second)}) || infos[1].ID != 2 {
			t.Errorf("%s: keys %v", name, infos)
		}
	}
	if _, err := before.Open("seed", "7", fresh); !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), "key 2") {
		t.Errorf("without the new key: %v, want the missing key named", err)
	}
}

func TestMAC(t *testing.T) {
	r, other := newRing(t), newRing(t)
	a := r.MAC("name", []byte("bob"))
	if a != r.MAC("name", []byte("bob")) {
		t.Error("two hashes of one name differ")
	}
	for what, b := range map[string][32]byte{
		"another name": r.MAC("name", []byte("bob ")), "another purpose": r.MAC("nam", []byte("ebob")), "another ring": other.MAC("name", []byte("bob")),
	} {
		if a == b {
			t.Errorf("%s: the same hash", what)
		}
	}
}

// A value and a hash that this form's first release made: later ones must read it.
func TestGolden(t *testing.T) {
	file, err := os.ReadFile(filepath.Join("testdata", "ring.json"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := parseRing(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(formatRing(keys), file) {
		t.Error("the ring file would be written differently")
	}
	r := &Ring{}
	r.keys.Store(&keys)
	var golden struct{ Value, Boxed, MAC string }
	b, err := os.ReadFile(filepath.Join("testdata", "sealed.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if got, err := r.Open("token.seed", "tok_1", unhex(golden.Value)); err != nil || string(got) != "12345678901234567890" {
		t.Errorf("value: %q, %v", got, err)
	}
	if got, err := r.Box("radius.state").Open([]byte("vpn-leeds"), unhex(golden.Boxed)); err != nil || string(got) != "a challenge" {
		t.Errorf("box: %q, %v", got, err)
	}
	if mac := r.MAC("person.unknown", []byte("hunter2")); hex.EncodeToString(mac[:]) != golden.MAC {
		t.Errorf("keyed hash: %x", mac)
	}
}

// P9: no way of printing a ring or a box shows a key.
func TestNothingPrints(t *testing.T) {
	r := newRing(t)
	r.Box("state").Seal(nil, nil, nil)
	secret := r.newest().secret
	type holder struct {
		Ring *Ring
		Box  *Box
	}
	h := holder{r, r.Box("state")}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb+verb, r, h.Box); got != "[key ring of 1][box]" {
			t.Errorf("%s: %s", verb, got)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", r, r.Box("state"), h, &h)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("x", "ring", r, "box", h.Box, "both", h)
	}
	if err := json.NewEncoder(&out).Encode(h); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	var f ringFile
	if err := json.Unmarshal(file, &f); err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{
		string(secret[:]), string(secret[:4]), hex.EncodeToString(secret[:4]), strings.ToUpper(hex.EncodeToString(secret[:4])),
		f.Keys[0].Key[:8], fmt.Sprint(secret[:3])[1:], strings.Trim(fmt.Sprintf("%#v", secret[:3]), "[]byte{}"),
	} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q shows in\n%s", leak, out.String())
		}
	}
	if got := (&Ring{}).String() + (*Ring)(nil).String(); got != "[no key ring][no key ring]" {
		t.Errorf("empty rings print as %s", got)
	}
}

// Sealing, opening and rotating at once: nothing that was sealed fails to open.
func TestConcurrentUse(t *testing.T) {
	r := newRing(t)
	box := r.Box("state")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			aad := []byte{byte(w)}
			for range 200 {
				if got, err := box.Open(aad, box.Seal(nil, aad, aad)); err != nil || !bytes.Equal(got, aad) {
					t.Errorf("box: %x, %v", got, err)
				}
				if got, err := r.Open("p", "i", r.Seal("p", "i", aad)); err != nil || !bytes.Equal(got, aad) {
					t.Errorf("value: %x, %v", got, err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if err := r.Rotate(day); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

func FuzzOpen(f *testing.F) {
	keys, err := parseRing(goldenRing(f))
	if err != nil {
		f.Fatal(err)
	}
	r := &Ring{}
	r.keys.Store(&keys)
	box := r.Box("state")
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 1})
	f.Add(make([]byte, Overhead))
	f.Add(append([]byte{1, 0, 0, 0, 1}, make([]byte, 28)...))
	f.Add(append([]byte{1, 0, 0, 0, 2}, make([]byte, 300)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		if got, err := r.Open("seed", "1", b); !errors.Is(err, ErrOpen) || got != nil {
			t.Fatalf("opened as %x, %v", got, err)
		}
		if got, err := box.Open([]byte("nas"), b); err != ErrOpen || got != nil {
			t.Fatalf("box opened as %x, %v", got, err)
		}
		r.Stale(b)
		if !bytes.Equal(in, b) {
			t.Fatal("Open changed its input")
		}
	})
}

func BenchmarkBox(b *testing.B) {
	box := newRing(b).Box("state")
	plain, aad := make([]byte, 80), []byte("vpn-leeds")
	buf := make([]byte, 0, 253)
	sealed := box.Seal(nil, aad, plain)
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			box.Seal(buf, aad, plain)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := box.Open(aad, sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRing(b *testing.B) {
	r := newRing(b)
	sealed := r.Seal("token.seed", "tok_1", make([]byte, 20))
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Open("token.seed", "tok_1", sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("mac", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.MAC("person.unknown", sealed)
		}
	})
}
