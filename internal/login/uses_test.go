package login

import (
	"testing"
	"time"

	"sallyport/internal/policy"
)

// Last uses are the same from memory, from a replay and from a snapshot, and an enrolment's first code counts as none.
func TestUses(t *testing.T) {
	b := newBench(t)
	const fp = "SHA256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0"
	never := func(what string) {
		t.Helper()
		if at := b.gate.LastLogin("alice"); !at.IsZero() {
			t.Errorf("%s: alice was seen at %v", what, at)
		}
		if at := b.gate.TokenUsed("alice", "tk-alice"); !at.IsZero() {
			t.Errorf("%s: her token was used at %v", what, at)
		}
		if at := b.gate.KeyUsed(fp); !at.IsZero() {
			t.Errorf("%s: her key was used at %v", what, at)
		}
	}
	never("at first")
	a := b.attempt()
	a.Password = NewSecret("wrong")
	b.decide(a)
	never("after a refusal")
	b.restart()
	never("after a refusal and a restart")

	a = b.attempt()
	a.Proofs = []Proof{{policy.Have, "key", fp}}
	b.want(b.decide(a), ReasonOK)
	once := b.now()
	known := func(what string) {
		t.Helper()
		for part, at := range map[string]time.Time{"login": b.gate.LastLogin("ALICE"), "token": b.gate.TokenUsed("alice", "tk-alice"), "key": b.gate.KeyUsed(fp)} {
			if !at.Equal(once.Truncate(time.Second)) {
				t.Errorf("%s: %s at %v, want %v", what, part, at, once)
			}
		}
	}
	known("in memory")
	b.restart()
	known("after a replay")
	if err := b.gate.Snapshot(func(state []byte) error { return b.log.Snapshot(state) }); err != nil {
		t.Fatal(err)
	}
	b.restart()
	known("after a snapshot")
	b.advance(time.Hour)
	known("an hour later")
	b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Kind: Staff, Groups: []string{"network", "vpn"}}})
	b.gate.Apply(Change{PutToken: &Token{ID: "tk-alice", Person: "alice", State: TokenActive, Seed: seed, Params: b.people[1].PutToken.Params}})
	known("after changes")
	b.gate.Apply(Change{DeleteKey: fp})
	if at := b.gate.KeyUsed(fp); !at.IsZero() {
		t.Error("a key that is gone was used")
	}
}
