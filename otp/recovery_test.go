package otp

import (
	"bytes"
	"strings"
	"testing"
)

func TestRecovery(t *testing.T) {
	codes, kept := NewRecovery()
	if len(codes) != RecoveryCodes || CheckRecovery(kept) != nil {
		t.Fatalf("%d codes, %v", len(codes), CheckRecovery(kept))
	}
	seen := make(map[string]bool)
	for i, code := range codes {
		if seen[code] || len(code) != 19 {
			t.Errorf("code %q", code)
		}
		seen[code] = true
		if bytes.Contains(kept, []byte(strings.ReplaceAll(code, "-", ""))) {
			t.Error("a code is kept in clear")
		}
		for _, typed := range []string{code, strings.ToLower(code), strings.ReplaceAll(code, "-", " "), strings.NewReplacer("-", "", "0", "o", "1", "l").Replace(code)} {
			clean, ok := CleanRecovery(typed)
			if !ok || MatchRecovery(kept, clean) != i {
				t.Errorf("%q is not code %d", typed, i)
			}
		}
	}
	other, _ := NewRecovery()
	for _, typed := range []string{"", "123456", other[0], codes[0] + "X", codes[0][:18], strings.Repeat("A", 65), "UUUU-UUUU-UUUU-UUUU", "ÀÀÀÀ-AAAA-AAAA-AAAA"} {
		if clean, ok := CleanRecovery(typed); ok && MatchRecovery(kept, clean) >= 0 {
			t.Errorf("%q is a code", typed)
		}
	}
	if MatchRecovery(kept[:len(kept)-1], "") != -1 || MatchRecovery(nil, "") != -1 {
		t.Error("a broken set matches")
	}
}

func FuzzCleanRecovery(f *testing.F) {
	f.Add("ABCD-EFGH-JKMN-PQRS")
	f.Add("abcd efgh ilou 0000")
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := CleanRecovery(typed)
		if again, same := CleanRecovery(code); ok && (!same || again != code) {
			t.Errorf("%q becomes %q, and that %q", typed, code, again)
		}
	})
}
