package guessable

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
)

func TestWhy(t *testing.T) {
	for password, bad := range map[string]bool{
		"password":                     true,
		"PassWord":                     true,
		"Password2026!":                true,
		"2026Password!":                true,
		"qwerty123456":                 true,
		"1234567890":                   true,
		"aaaaaaaaaaaa":                 true,
		"ääääääää":                     true,
		"AliceSmith1":                  true,
		"alice.smith.2026":             true,
		"smith-password9":              true,
		"":                             false,
		"the password of alice 5513":   false,
		"correct horse battery staple": false,
		"Sommer-Regen.77":              false,
		"alice likes three green hats": false,
		"\xff\xfe\xfd":                 false,
	} {
		why, err := Why(password, "alice", "Alice Smith", "")
		if err != nil {
			t.Fatal(err)
		}
		if (why != "") != bad {
			t.Errorf("%q: %q", password, why)
		}
	}
}

// The list is whole: a spoilt one would let everything pass.
func TestList(t *testing.T) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 30000 || strings.ToLower(string(text)) != string(text) {
		t.Errorf("%d words", len(lines))
	}
}

func FuzzWhy(f *testing.F) {
	f.Add("Password2026!", "alice")
	f.Add("\xff", "\xff\xff\xff")
	f.Fuzz(func(t *testing.T, password, name string) {
		if len(password) > 200 || len(name) > 200 {
			return
		}
		if _, err := Why(password, name); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkWhy(b *testing.B) {
	for b.Loop() {
		if _, err := Why("the password of alice 5513", "alice"); err != nil {
			b.Fatal(err)
		}
	}
}
