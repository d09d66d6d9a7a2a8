package mschap

import (
	"encoding/hex"
	"testing"
)

func octets[T any](t *testing.T, s string, into func([]byte) T) T {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return into(b)
}

// vector is that of RFC 2759 section 9.2, with the keys of RFC 3079 section 3.5.3.
func vector(t *testing.T, user string) *V2 {
	challenge := func(b []byte) [ChallengeSize]byte { return [ChallengeSize]byte(b) }
	return NewV2(user,
		octets(t, "5b5d7c7d7b3f2f3e3c2c602132262628", challenge),
		octets(t, "21402324255e262a28295f2b3a337c7e", challenge),
		octets(t, "82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df", func(b []byte) [ResponseSize]byte { return [ResponseSize]byte(b) }))
}

func TestVectors(t *testing.T) {
	for _, user := range []string{"User", `BEDS\User`} {
		p := vector(t, user)
		if _, _, ok := p.Keys(); ok || p.Success() != "" {
			t.Fatal("keys before anything was proved")
		}
		for _, wrong := range []string{"", "clientpass", "clientPass ", "clientPas\xff"} {
			if p.Proves(wrong) {
				t.Errorf("%q is proved", wrong)
			}
		}
		if _, _, ok := p.Keys(); ok || p.Success() != "" {
			t.Fatal("keys after wrong passwords")
		}
		if !p.Proves("clientPass") {
			t.Fatal("the password of RFC 2759 section 9.2 is not proved")
		}
		if got, want := p.Success(), "S=407A5589115FD0D6209F510FE9C04566932CDA56"; got != want {
			t.Errorf("success %s, want %s", got, want)
		}
		send, _, ok := p.Keys()
		if got, want := hex.EncodeToString(send[:]), "8b7cdc149b993a1ba118cb153f56dccb"; !ok || got != want {
			t.Errorf("send key %s, want %s (RFC 3079 section 3.5.3)", got, want)
		}
	}
}

// TestNameCounts: a response for one person is none for another.
func TestNameCounts(t *testing.T) {
	if vector(t, "Other").Proves("clientPass") {
		t.Error("proved for another name")
	}
}
