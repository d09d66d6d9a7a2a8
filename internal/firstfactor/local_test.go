package firstfactor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/internal/login"
)

// cheap is the least cost that is allowed, so that tests are quick.
func cheap() Cost {
	return Cost{MemoryKiB: minMemoryKiB, Iterations: 1, Parallelism: 1, AtOnce: 2, Queue: 8}
}

// shelf keeps hashes in memory; broken makes it fail.
type shelf struct {
	hashes map[string]string
	broken error
}

func (s shelf) PasswordHash(_ context.Context, person string) (string, bool, error) {
	h, ok := s.hashes[person]
	return h, ok, s.broken
}

func TestCheck(t *testing.T) {
	hash, err := Hash(login.NewSecret("correct horse"), cheap())
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("disk on fire")
	tests := []struct {
		name     string
		shelf    shelf
		person   string
		password string
		want     error
	}{
		{"right", shelf{hashes: map[string]string{"alice": hash}}, "alice", "correct horse", nil},
		{"wrong", shelf{hashes: map[string]string{"alice": hash}}, "alice", "correct horsf", login.ErrWrong},
		{"right with a NUL behind", shelf{hashes: map[string]string{"alice": hash}}, "alice", "correct horse\x00", login.ErrWrong},
		{"stranger", shelf{hashes: map[string]string{"alice": hash}}, "", "correct horse", login.ErrWrong},
		{"nothing set", shelf{}, "bob", "correct horse", login.ErrUnset},
		{"store fails", shelf{broken: down}, "alice", "correct horse", login.ErrUnavailable},
		{"hash is damaged", shelf{hashes: map[string]string{"alice": "$argon2id$v=19$garbage"}}, "alice", "correct horse", login.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := NewLocal(tt.shelf, cheap())
			if err != nil {
				t.Fatal(err)
			}
			err = l.check(t.Context(), tt.person, login.NewSecret(tt.password), "test")
			if !errors.Is(err, tt.want) {
				t.Errorf("Check = %v, want %v", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "correct horse") {
				t.Errorf("the error shows the password (P9): %v", err)
			}
		})
	}
}

// P6: the decoy of strangers costs what a person's hash costs, because it is made with the same parameters.
func TestDecoyCostsTheSame(t *testing.T) {
	l, err := NewLocal(shelf{}, cheap())
	if err != nil {
		t.Fatal(err)
	}
	hash, err := Hash(login.NewSecret("some password"), cheap())
	if err != nil {
		t.Fatal(err)
	}
	params := func(phc string) string { return strings.Join(strings.Split(phc, "$")[:4], "$") }
	if params(l.decoy) != params(hash) {
		t.Errorf("decoy %s, hash %s", params(l.decoy), params(hash))
	}
	if len(l.decoy) != len(hash) {
		t.Errorf("decoy has %d bytes, a hash %d", len(l.decoy), len(hash))
	}
}

func TestHashBounds(t *testing.T) {
	for _, password := range []string{"", strings.Repeat("x", login.MaxSecret+1), strings.Repeat("x", 64<<10)} {
		if _, err := Hash(login.NewSecret(password), cheap()); err == nil {
			t.Errorf("a password of %d bytes was hashed", len(password))
		}
	}
	bad := map[string]func(*Cost){
		"no memory":      func(c *Cost) { c.MemoryKiB = 0 },
		"little memory":  func(c *Cost) { c.MemoryKiB = minMemoryKiB - 1 },
		"all memory":     func(c *Cost) { c.MemoryKiB = 1 << 31 },
		"no iteration":   func(c *Cost) { c.Iterations = 0 },
		"no parallelism": func(c *Cost) { c.Parallelism = 0 },
		"none at once":   func(c *Cost) { c.AtOnce = 0 },
		"no queue":       func(c *Cost) { c.Queue = 0 },
	}
	for name, spoil := range bad {
		c := DefaultCost()
		spoil(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: valid", name)
		}
	}
	if err := DefaultCost().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
}

// queue puts n waiters of origin in line, one after the other, and reports how each ended.
func queue(ctx context.Context, turns *turns, origin string, n int, ended chan<- string) {
	for range n {
		go func() {
			if err := turns.take(ctx, origin); err != nil {
				ended <- origin + " refused"
				return
			}
			ended <- origin
		}()
		synctest.Wait()
	}
}

// P7: a flood from one origin neither grows without bound nor keeps another origin from its turn.
func TestTurnsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1, 4)
		if err := turns.take(t.Context(), "worker"); err != nil {
			t.Fatal(err)
		}
		ended := make(chan string, 100)
		queue(t.Context(), turns, "flood", 10, ended)
		for range 6 {
			if got := <-ended; got != "flood refused" {
				t.Fatalf("with a queue of 4 the flood got %q", got)
			}
		}
		queue(t.Context(), turns, "alice", 1, ended)
		if got := <-ended; got != "flood refused" {
			t.Fatalf("room for alice was made by %q", got)
		}
		for i, want := range []string{"flood", "alice", "flood", "flood"} {
			turns.give()
			if got := <-ended; got != want {
				t.Fatalf("turn %d went to %q, want %q", i, got, want)
			}
		}
		turns.give()
		if turns.free != 1 || turns.waiting != 0 || len(turns.queues) != 0 || len(turns.round) != 0 {
			t.Errorf("at rest: %+v", turns)
		}
	})
}

func TestTurnsEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1, 4)
		if err := turns.take(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := turns.take(ctx, "b"); !errors.Is(err, login.ErrOverloaded) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("take = %v", err)
		}
		turns.give()
		if turns.free != 1 || turns.waiting != 0 {
			t.Errorf("a place was lost: %+v", turns)
		}
	})
}

// P7: whatever comes and goes, never more than the bound run or wait, and no place is lost.
func TestTurnsUnderLoad(t *testing.T) {
	const atOnce, most = 3, 16
	turns := newTurns(atOnce, most)
	var running, peak int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%7)*time.Millisecond)
			defer cancel()
			if turns.take(ctx, fmt.Sprint("origin ", i%11)) != nil {
				return
			}
			mu.Lock()
			running++
			peak = max(peak, running)
			mu.Unlock()
			mu.Lock()
			running--
			mu.Unlock()
			turns.give()
		})
	}
	wg.Wait()
	if peak > atOnce {
		t.Errorf("%d ran at once, want at most %d", peak, atOnce)
	}
	if turns.free != atOnce || turns.waiting != 0 || len(turns.queues) != 0 || len(turns.round) != 0 {
		t.Errorf("at rest: %+v", turns)
	}
}
