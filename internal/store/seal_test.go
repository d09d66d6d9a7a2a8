package store

import (
	"bytes"
	"database/sql"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sallyport/internal/login"
	"sallyport/internal/seal"
	"sallyport/otp"
)

// P9: neither a seed nor a password hash is in any of the files, in any of its usual spellings.
func TestSealedAtRest(t *testing.T) {
	s := open(t, Options{})
	x := token("t1", "alice")
	apply(t, s, login.Change{PutPerson: person("alice"), SetPassword: &login.Password{Person: "alice", Hash: phc}, PutToken: x})
	search := func(when string) {
		t.Helper()
		names, err := filepath.Glob(s.path + "*")
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		marker := false
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			marker = marker || bytes.Contains(b, []byte("alice"))
			for what, secret := range map[string][]byte{
				"seed": x.Seed, "seed in hex": []byte(hex.EncodeToString(x.Seed)),
				"seed in base32": []byte(base32.StdEncoding.EncodeToString(x.Seed)),
				"half a seed":    x.Seed[:10], "hash": []byte(phc), "salt": []byte("c29tZXNhbHQ"),
			} {
				if bytes.Contains(b, secret) {
					t.Errorf("%s: %s holds the %s", when, filepath.Base(name), what)
				}
			}
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s has mode %v (%v), want 0600", when, filepath.Base(name), info.Mode(), err)
			}
		}
		if !marker {
			t.Errorf("%s: the name is not in the files: the search proves nothing", when)
		}
	}
	search("open")
	closeStore(t, s)
	search("closed")
}

// Somebody who can write to the file cannot use a secret elsewhere, nor make a token count for more than it did.
func TestTampering(t *testing.T) {
	for name, stmt := range map[string]string{
		"seed of another token":       `UPDATE tokens SET seed = (SELECT seed FROM tokens WHERE id = 'mine') WHERE id = 'hers'`,
		"seeds swapped":               `UPDATE tokens SET seed = CASE id WHEN 'mine' THEN (SELECT seed FROM tokens WHERE id = 'hers') ELSE (SELECT seed FROM tokens WHERE id = 'mine') END`,
		"token given to another":      `UPDATE tokens SET person = 'alice' WHERE id = 'mine'`,
		"revoked token made active":   `UPDATE tokens SET state = 'active' WHERE id = 'old'`,
		"other algorithm":             `UPDATE tokens SET algorithm = 'sha256' WHERE id = 'hers'`,
		"shorter code":                `UPDATE tokens SET digits = 1 WHERE id = 'hers'`,
		"longer period":               `UPDATE tokens SET period = 6000000 WHERE id = 'hers'`,
		"other type":                  `UPDATE tokens SET type = 'hotp' WHERE id = 'hers'`,
		"token renamed":               `UPDATE tokens SET id = 'fresh' WHERE id = 'mine'`,
		"boundary moved":              `UPDATE tokens SET id = 'mineb', person = 'ob' WHERE id = 'mine'`,
		"no seed":                     `UPDATE tokens SET seed = x'' WHERE id = 'hers'`,
		"plain seed":                  `UPDATE tokens SET seed = x'3132333435363738393031323334353637383930' WHERE id = 'hers'`,
		"a byte short":                `UPDATE tokens SET seed = CAST(substr(seed, 1, length(seed) - 1) AS BLOB) WHERE id = 'hers'`,
		"password of another":         `UPDATE passwords SET hash = (SELECT hash FROM passwords WHERE person = 'bob') WHERE person = 'alice'`,
		"password that was a seed":    `UPDATE passwords SET hash = (SELECT seed FROM tokens WHERE id = 'mine') WHERE person = 'alice'`,
		"password hash in plain text": `UPDATE passwords SET hash = CAST('$argon2id$v=19$' AS BLOB) WHERE person = 'alice'`,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{})
			old := token("old", "bob")
			old.State = login.TokenRevoked
			apply(t, s,
				login.Change{PutPerson: person("alice"), SetPassword: &login.Password{Person: "alice", Hash: phc}, PutToken: token("hers", "alice")},
				login.Change{PutPerson: person("bob"), SetPassword: &login.Password{Person: "bob", Hash: phc + "b"}, PutToken: token("mine", "bob")},
				login.Change{PutToken: old})
			read(t, s) // all well before
			exec(t, s.path, "PRAGMA foreign_keys = OFF", stmt)
			err := errors.Join(s.Tokens(t.Context(), func(login.Token) error { return nil }), func() error {
				_, _, err := s.PasswordHash(t.Context(), "alice")
				return err
			}())
			if !errors.Is(err, seal.ErrOpen) {
				t.Errorf("got %v, want seal.ErrOpen", err)
			}
		})
	}
}

// No two rows read alike to the seal, whatever their texts hold.
func TestSeedRow(t *testing.T) {
	seen := make(map[string]login.Token)
	texts := []string{"", "a", ":", "1:a", "a:1:b", "/", "0:", "a/6/30"}
	for _, id := range texts {
		for _, person := range texts {
			for _, state := range texts {
				for _, digits := range []int{6, 66, -6} {
					x := login.Token{ID: id, Person: person, State: login.TokenState(state), Params: otp.Params{Digits: digits, Period: 630 - digits}}
					row := seedRow(&x)
					if y, twice := seen[row]; twice {
						t.Fatalf("%+v and %+v are both %q", x, y, row)
					}
					seen[row] = x
				}
			}
		}
	}
}

// exec changes a file behind the store's back.
func exec(t testing.TB, path string, stmts ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, stmt := range stmts {
		if _, err := db.Exec(stmt); err != nil {
			t.Fatal(stmt, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// After a rotation every secret is sealed with the new key, and all reads as before. With the old key gone from the ring
// (another ring), nothing opens.
func TestReseal(t *testing.T) {
	ring := newRing(t)
	s := open(t, Options{Sealer: ring})
	var changes []Numbered
	n := resealBatch + 3
	for i := range n {
		name := fmt.Sprintf("p%04d", i)
		changes = append(changes, Numbered{uint64(i), login.Change{
			PutPerson: person(name), PutToken: token("t-"+name, name), SetPassword: &login.Password{Person: name, Hash: name},
		}})
	}
	if err := s.CatchUp(t.Context(), 0, uint64(n), changes); err != nil {
		t.Fatal(err)
	}
	want := read(t, s)
	if got, err := s.Reseal(t.Context()); err != nil || got != 0 {
		t.Errorf("with nothing to do: %d, %v", got, err)
	}
	if err := ring.Rotate(at(1)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Reseal(t.Context()); err != nil || got != 2*n {
		t.Errorf("sealed %d again (%v), want %d", got, err, 2*n)
	}
	if got, err := s.Reseal(t.Context()); err != nil || got != 0 {
		t.Errorf("a second time: %d, %v", got, err)
	}
	same(t, "after", read(t, s), want)

	s.sealer = newRing(t)
	if err := s.Tokens(t.Context(), func(login.Token) error { return nil }); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("with another ring: %v", err)
	}
}
