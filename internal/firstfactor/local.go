// Package firstfactor checks the first factor of a login: what the person knows.
//
// Local checks argon2id hashes (RFC 9106) that the store keeps. A check costs tens of milliseconds and megabytes by
// design, so Local bounds how many are computed at once and how many wait, and shares the turns between origins: a
// flood of guesses from one source can neither take all memory nor keep the others waiting behind it.
package firstfactor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/alexedwards/argon2id"

	"sallyport/internal/login"
)

// Cost is what one password check costs. The default is OWASP's recommendation for argon2id (Password Storage
// Cheat Sheet: m=19 MiB, t=2, p=1).
type Cost struct {
	MemoryKiB   uint32
	Iterations  uint32
	Parallelism uint8
	AtOnce      int // checks computed at once; memory is at most AtOnce times MemoryKiB
	Queue       int // checks that may wait
}

// DefaultCost returns the cost for a configuration that names none.
func DefaultCost() Cost {
	return Cost{MemoryKiB: 19456, Iterations: 2, Parallelism: 1, AtOnce: 2, Queue: 64}
}

// The bounds of a cost: below the least it protects nobody, above the most a typing error stops every login.
const (
	minMemoryKiB  = 8 * 1024
	maxMemoryKiB  = 1024 * 1024
	maxIterations = 64
	maxAtOnce     = 256
	maxQueue      = 65536
)

// Validate checks the bounds.
func (c Cost) Validate() error {
	switch {
	case c.MemoryKiB < minMemoryKiB || c.MemoryKiB > maxMemoryKiB:
		return fmt.Errorf("memory_kib is %d: want %d to %d", c.MemoryKiB, minMemoryKiB, maxMemoryKiB)
	case c.Iterations < 1 || c.Iterations > maxIterations:
		return fmt.Errorf("iterations is %d: want 1 to %d", c.Iterations, maxIterations)
	case c.Parallelism < 1:
		return errors.New("parallelism is 0: want at least 1")
	case c.AtOnce < 1 || c.AtOnce > maxAtOnce:
		return fmt.Errorf("at_once is %d: want 1 to %d", c.AtOnce, maxAtOnce)
	case c.Queue < 1 || c.Queue > maxQueue:
		return fmt.Errorf("queue is %d: want 1 to %d", c.Queue, maxQueue)
	}
	return nil
}

func (c Cost) params() *argon2id.Params {
	return &argon2id.Params{Memory: c.MemoryKiB, Iterations: c.Iterations, Parallelism: c.Parallelism, SaltLength: 16, KeyLength: 32}
}

// Hash computes the PHC string that Local compares with later.
func Hash(password login.Secret, c Cost) (string, error) {
	if err := c.Validate(); err != nil {
		return "", err
	}
	if password.Empty() || len(password.Reveal()) > login.MaxSecret {
		return "", fmt.Errorf("a password of %d bytes: want 1 to %d", len(password.Reveal()), login.MaxSecret)
	}
	return argon2id.CreateHash(password.Reveal(), c.params())
}

// Passwords is where the hashes are. It is called concurrently.
type Passwords interface {
	PasswordHash(ctx context.Context, person string) (hash string, ok bool, err error)
}

// Local is a login.FirstFactor on the store's own passwords.
type Local struct {
	passwords Passwords
	turns     *turns
	decoy     string // hash of a password that nobody knows, at the present cost
	each      uint64 // bytes that one check takes
	taken     atomic.Uint64
}

// NewLocal computes one decoy hash, to be compared with for strangers.
func NewLocal(passwords Passwords, c Cost) (*Local, error) {
	unknown := make([]byte, 24)
	if _, err := rand.Read(unknown); err != nil {
		return nil, err
	}
	decoy, err := Hash(login.NewSecret(hex.EncodeToString(unknown)), c)
	if err != nil {
		return nil, err
	}
	return &Local{passwords: passwords, turns: newTurns(c.AtOnce, c.Queue), decoy: decoy, each: uint64(c.MemoryKiB) << 10}, nil
}

// Taken is how many bytes of memory the checks so far have taken and left, about: what the garbage collector has to do with them.
func (l *Local) Taken() uint64 { return l.taken.Load() }

// Method is the word for the records.
func (*Local) Method() string { return "password" }

// Check implements login.FirstFactor. A stranger, and a person without a password, cost what everybody costs.
func (l *Local) Check(ctx context.Context, q login.Question) (login.Answer, error) {
	return login.Answer{}, l.check(ctx, q.Person, q.Password, q.Origin)
}

func (l *Local) check(ctx context.Context, person string, password login.Secret, origin string) error {
	hash, known := l.decoy, false
	if password.Empty() {
		person, password = "", login.NewSecret("x") // other evidence is not known here
	}
	if person != "" {
		stored, ok, err := l.passwords.PasswordHash(ctx, person)
		if err != nil {
			return fmt.Errorf("%w: password of %s: %w", login.ErrUnavailable, person, err)
		}
		if ok {
			hash, known = stored, true
		}
	}
	if err := l.turns.take(ctx, origin); err != nil {
		return err
	}
	match, err := func() (bool, error) {
		defer l.turns.give()
		l.taken.Add(l.each)
		return argon2id.ComparePasswordAndHash(password.Reveal(), hash)
	}()
	switch {
	case err != nil:
		return fmt.Errorf("%w: stored password of %s is not an argon2id hash: %w", login.ErrUnavailable, person, err)
	case person != "" && !known:
		return login.ErrUnset
	case !match || !known:
		return login.ErrWrong
	}
	return nil
}
