package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sallyport/internal/login"
	"sallyport/internal/seal"
)

type aboutTargets struct {
	Keys        []login.HostKey
	Credentials []login.Credential
}

func readTargets(t testing.TB, s *Store) (all aboutTargets) {
	t.Helper()
	err := errors.Join(
		s.HostKeys(t.Context(), func(k login.HostKey) error { all.Keys = append(all.Keys, k); return nil }),
		s.Credentials(t.Context(), func(c login.Credential) error { all.Credentials = append(all.Credentials, c); return nil }),
	)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func credential(target, account string) *login.Credential {
	return &login.Credential{Target: target, Account: account, Kind: login.CredentialPassword, Secret: []byte("hunter2-of-" + target + account), Comment: "by hand", Created: at(3)}
}

// What is known of targets comes back as it was; each change may be applied twice; names know no case.
func TestTargets(t *testing.T) {
	path, ring := filepath.Join(t.TempDir(), "store.db"), newRing(t)
	s := open(t, Options{Path: path, Sealer: ring})
	want := aboutTargets{
		Keys: []login.HostKey{
			{Target: "core-sw1", Fingerprint: "SHA256:b", Type: "ssh-rsa", Blob: []byte{0, 0xff}, State: login.HostKeyPending, First: at(1), Last: at(1), By: "gateway"},
			{Target: "core-sw1", Fingerprint: "SHA256:a", State: login.HostKeyRevoked, First: at(2), Last: at(4), By: "root"},
			{Target: "srv1", Fingerprint: "SHA256:b", Type: "ssh-rsa", State: login.HostKeyApproved},
		},
		Credentials: []login.Credential{*credential("core-sw1", ""), *credential("core-sw1", "admin")},
	}
	mixed := want.Keys[1]
	mixed.Target, mixed.State = "Core-SW1", login.HostKeyApproved
	for range 2 {
		apply(t, s, login.Change{All: []login.Change{{PutHostKey: &mixed}, {PutHostKey: &want.Keys[1]}, {PutHostKey: &want.Keys[0]}}},
			login.Change{PutHostKey: &want.Keys[2], PutCredential: &want.Credentials[0]},
			login.Change{PutCredential: credential("CORE-sw1", "admin")})
		want.Credentials[1].Secret = []byte("hunter2-of-CORE-sw1admin")
		same(t, "at once", readTargets(t, s), want)
	}
	closeStore(t, s)
	s = open(t, Options{Path: path, Sealer: ring})
	same(t, "opened again", readTargets(t, s), want)

	for range 2 {
		apply(t, s, login.Change{DeleteHostKey: &login.HostKeyID{Target: "CORE-SW1", Fingerprint: "SHA256:b"}, DeleteCredential: &login.CredentialID{Target: "Core-SW1"}})
		same(t, "after the removal", readTargets(t, s), aboutTargets{want.Keys[1:], want.Credentials[1:]})
	}
}

// P9: a credential is sealed at rest, and opens at its own target, account and kind only.
func TestCredentialsAreSealed(t *testing.T) {
	s := open(t, Options{})
	apply(t, s, login.Change{PutCredential: credential("srv1", "root")})
	names, _ := filepath.Glob(s.path + "*")
	for _, name := range names {
		if b, err := os.ReadFile(name); err != nil || bytes.Contains(b, []byte("hunter2")) {
			t.Errorf("%s holds the secret (%v)", filepath.Base(name), err)
		}
	}
	for name, stmt := range map[string]string{
		"another target":  `UPDATE credentials SET target = 'srv2'`,
		"another account": `UPDATE credentials SET account = 'admin'`,
		"boundary moved":  `UPDATE credentials SET target = 'srv1r', account = 'oot'`,
		"another kind":    `UPDATE credentials SET kind = 'key'`,
		"plain":           `UPDATE credentials SET secret = CAST('hunter2' AS BLOB)`,
	} {
		s := open(t, Options{})
		apply(t, s, login.Change{PutCredential: credential("srv1", "root")})
		exec(t, s.path, stmt)
		if err := s.Credentials(t.Context(), func(login.Credential) error { return nil }); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: %v, want seal.ErrOpen", name, err)
		}
	}
}

func TestResealCredentials(t *testing.T) {
	ring := newRing(t)
	s := open(t, Options{Sealer: ring})
	n := resealBatch + 3
	var all []login.Change
	for i := range n {
		all = append(all, login.Change{PutCredential: credential(fmt.Sprintf("t%04d", i), "")})
	}
	apply(t, s, login.Change{All: all})
	want := readTargets(t, s)
	if err := ring.Rotate(at(1)); err != nil {
		t.Fatal(err)
	}
	for _, times := range []int{n, 0} {
		if got, err := s.Reseal(t.Context()); err != nil || got != times {
			t.Errorf("sealed %d again (%v), want %d", got, err, times)
		}
	}
	same(t, "after", readTargets(t, s), want)
}
