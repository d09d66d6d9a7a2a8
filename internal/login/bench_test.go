package login

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
	"sallyport/internal/policy"
	"sallyport/internal/throttle"
	"sallyport/otp"
)

// BenchmarkDecide is a whole decision in code mode, recorded and durable, with 512 outstanding. Run it with -cpu 1,2;
// ns/op holds waiting for the disk, so compare the CPU profile and the allocations.
func BenchmarkDecide(b *testing.B) {
	skey, vkey, err := audit.NewKey("sallyport/bench")
	if err != nil {
		b.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		b.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		b.Fatal(err)
	}
	g, err := New(Options{
		First: yes{}, Now: time.Now, Blind: func(string) string { return "x" },
		Policy: &Policy{
			Settings: Settings{Skew: 1, LookAhead: 10, Lock: throttle.Default(), ChallengeFor: time.Minute},
			Rules:    policy.Rules{{Name: "all", Groups: []string{"network"}, To: []string{"vpn"}, May: []policy.Capability{policy.Login}}},
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	log, err := audit.Open(audit.Options{
		Dir: filepath.Join(dir, "journal"), CheckpointFile: filepath.Join(dir, "checkpoint"), Node: "bench", Signer: signer, Verifier: verifier,
		Now: time.Now, Restore: g.Restore, Replay: func(rec *audit.Record, _ []byte) error { return g.Replay(rec) },
	})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	g.SetLog(log)
	const people = 1000
	params := otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}
	attempts := make([]Attempt, people)
	for i := range attempts {
		name := "p" + strconv.Itoa(i)
		g.Apply(Change{PutPerson: &Person{Name: name, Kind: Staff, Groups: []string{"network"}}})
		g.Apply(Change{PutToken: &Token{ID: "tk-" + name, Person: name, State: TokenActive, Seed: seed, Params: params}})
		attempts[i] = Attempt{
			Name: name, Protocol: "radius", System: System{Name: "vpn", Class: "remote"}, Capability: policy.Login,
			Proofs: []Proof{{Kind: policy.Know, Method: "nas-password", ID: "vpn"}},
			Detail: []Detail{{"nas_ip_address", "127.0.0.1"}, {"calling_station_id", "10.0.0.1"}},
		}
	}
	// With one seed for all, the code of the n-th round is the same for everybody.
	rounds := b.N/people + 1
	codes := make([]Secret, rounds)
	for i := range codes {
		codes[i] = hotp(int64(i))
	}
	next := make(chan [2]int, 4096)
	go func() {
		for n := range b.N {
			next <- [2]int{n / people, n % people}
		}
		close(next)
	}()
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan int, 512)
	for range 512 {
		go func() {
			bad := 0
			for n := range next {
				a := attempts[n[1]]
				a.ID, a.Code = NewID(), codes[n[0]]
				if _, ok := g.Decide(context.Background(), a).Accepted(); !ok {
					bad++
				}
			}
			done <- bad
		}()
	}
	bad := 0
	for range 512 {
		bad += <-done
	}
	b.StopTimer()
	// Two rounds of one person may cross, and the older code then comes too late.
	if bad*20 > b.N {
		b.Errorf("%d of %d were refused", bad, b.N)
	}
}
