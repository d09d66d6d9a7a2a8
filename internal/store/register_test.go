package store

import (
	"errors"
	"path/filepath"
	"testing"

	"sallyport/internal/login"
)

type register struct {
	Exceptions   []login.Exception
	Grants       []login.TimedGrant
	Attestations []login.Attestation
	Holds        []login.Hold
}

func readRegister(t testing.TB, s *Store) (all register, err error) {
	t.Helper()
	return all, errors.Join(
		s.Exceptions(t.Context(), func(x login.Exception) error { all.Exceptions = append(all.Exceptions, x); return nil }),
		s.TimedGrants(t.Context(), func(g login.TimedGrant) error { all.Grants = append(all.Grants, g); return nil }),
		s.Attestations(t.Context(), func(a login.Attestation) error { all.Attestations = append(all.Attestations, a); return nil }),
		s.Holds(t.Context(), func(h login.Hold) error { all.Holds = append(all.Holds, h); return nil }),
	)
}

// Every version of every entry comes back as it was, after a change was applied twice, too; a version that is there is never
// overwritten, and a row that is not what it says is an error, and not passed over.
func TestRegister(t *testing.T) {
	path, ring := filepath.Join(t.TempDir(), "store.db"), newRing(t)
	s := open(t, Options{Path: path, Sealer: ring})
	entry := func(id string, version int, title string) *login.Exception {
		return &login.Exception{ID: id, Version: version, Changed: at(int64(version)), Title: title, From: at(1), Until: at(9), Review: at(8)}
	}
	grant := &login.TimedGrant{ID: "GR-1", Person: "gone", Systems: []string{"*"}, From: at(1), Until: at(2), Ticket: "CHG", Requester: "a", Approver: "b", Ended: at(2)}
	seen := login.Attestation{Person: "alice", Rule: "r", By: "bob", Time: at(5), Decision: "keep", Note: "n"}
	hold := login.Hold{ID: "LH-1", Reason: "case", Made: at(3), By: "root"}
	waiting := *grant
	waiting.Approver = ""
	fill := func(s *Store) {
		apply(t, s,
			login.Change{All: []login.Change{{PutException: entry("EX-1", 1, "first")}, {PutException: entry("EX-1", 2, "second")}}},
			login.Change{PutException: entry("EX-2", 1, "other")}, login.Change{PutException: entry("EX-1", 1, "forged")},
			login.Change{PutGrant: &waiting}, login.Change{PutGrant: grant}, login.Change{PutAttestation: &seen}, login.Change{PutHold: &hold})
	}
	fill(s)
	fill(s)
	want := register{
		[]login.Exception{*entry("EX-1", 1, "first"), *entry("EX-1", 2, "second"), *entry("EX-2", 1, "other")},
		[]login.TimedGrant{*grant},
		[]login.Attestation{seen},
		[]login.Hold{hold},
	}
	got, err := readRegister(t, s)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "at once", got, want)
	closeStore(t, s)
	s = open(t, Options{Path: path, Sealer: ring})
	if got, err = readRegister(t, s); err != nil {
		t.Fatal(err)
	}
	same(t, "opened again", got, want)
	for _, damage := range []string{
		`UPDATE exceptions SET body = '{' WHERE version = 2`,
		`UPDATE exceptions SET body = '{"id":"EX-1","version":1}' WHERE version = 2`,
		`UPDATE exceptions SET id = 'EX-7' WHERE id = 'EX-2'`,
		`UPDATE grants SET body = '{"id":"GR-9"}'`,
		`UPDATE holds SET id = 'LH-2'`,
	} {
		s := open(t, Options{})
		fill(s)
		if _, err := s.writer.ExecContext(t.Context(), damage); err != nil {
			t.Fatal(err)
		}
		if _, err := readRegister(t, s); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", damage, err)
		}
	}
}
