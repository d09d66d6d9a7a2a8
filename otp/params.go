package otp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// Type says what moves a token's codes on: time, or a counter.
type Type string

// The types, in the words of the otpauth URI.
const (
	TypeTOTP Type = "totp" // RFC 6238
	TypeHOTP Type = "hotp" // RFC 4226
)

// Algorithm is the hash under the HMAC.
type Algorithm string

// The algorithms of RFC 6238 section 1.2. SHA-1 is what every authenticator app can do; as an HMAC it isn't touched
// by SHA-1's collisions.
const (
	SHA1   Algorithm = "sha1"
	SHA256 Algorithm = "sha256"
	SHA512 Algorithm = "sha512"
)

// Params are what a token's codes are made with, besides its seed. The zero value is invalid, and nothing matches it.
type Params struct {
	Type      Type      `json:"type"`
	Algorithm Algorithm `json:"algorithm"`
	Digits    int       `json:"digits"`
	Period    int       `json:"period,omitempty"` // seconds; TOTP only
}

// Default is what authenticator apps assume when nothing else is said.
func Default() Params {
	return Params{Type: TypeTOTP, Algorithm: SHA1, Digits: 6, Period: 30}
}

// Validate tells what is wrong with p.
func (p Params) Validate() error {
	switch p.Algorithm {
	case SHA1, SHA256, SHA512:
	default:
		return fmt.Errorf("unknown algorithm %q: want sha1, sha256 or sha512", p.Algorithm)
	}
	if p.Digits != 6 && p.Digits != 8 {
		return fmt.Errorf("%d digits: want 6 or 8", p.Digits)
	}
	switch p.Type {
	case TypeTOTP:
		if p.Period != 30 && p.Period != 60 {
			return fmt.Errorf("period of %d seconds: want 30 or 60", p.Period)
		}
	case TypeHOTP:
		if p.Period != 0 {
			return fmt.Errorf("period of %d seconds with hotp, whose codes do not change with time", p.Period)
		}
	default:
		return fmt.Errorf("unknown type %q: want totp or hotp", p.Type)
	}
	return nil
}

// StepAt returns the TOTP time step of t: full periods since 1970 (RFC 6238 section 4.2, T0 = 0), rounded down, and
// so negative before 1970. Without a period it returns -1, a step that no code has.
func (p Params) StepAt(t time.Time) int64 {
	if p.Period <= 0 {
		return -1
	}
	sec, period := t.Unix(), int64(p.Period)
	step := sec / period
	if sec%period < 0 {
		step-- // Go rounds towards zero
	}
	return step
}

// MaxWindow bounds how many steps one Match tries. Codes have six digits, so that each further step hands the guesser
// another chance in a million; a thousand is what the resynchronisation of a lost counter may need (RFC 4226 section
// 7.4), and costs a third of a millisecond. Logins use far less.
const MaxWindow = 1024

// Window is a range of steps or counters, both ends included. It's empty when To is less than From.
type Window struct{ From, To int64 }

// Around is the window for a TOTP code typed at t by a person whose clock may be off by skew steps either way. RFC
// 6238 section 5.2 recommends one at most. The window never reaches below step 0, is empty before 1970, and is cut to
// what Match takes.
func (p Params) Around(t time.Time, skew int) Window {
	step, by := p.StepAt(t), int64(min(max(skew, 0), (MaxWindow-1)/2))
	if step < 0 {
		return Window{From: 0, To: -1}
	}
	return Window{From: max(step-by, 0), To: step + by}
}

// Ahead is the window for an HOTP code when last was the counter used last, or -1 if none was: the lookAhead counters
// that follow (RFC 4226 section 7.4). It never holds last itself. It's cut to one less than Match takes, so that a
// caller may add last to tell a reused code from a wrong one.
func Ahead(last int64, lookAhead int) Window {
	last = max(last, -1)
	by := int64(min(max(lookAhead, 0), MaxWindow-1))
	if by == 0 || last > maxStep-by {
		return Window{From: 0, To: -1} // nothing to search, or a counter that can't be counted on
	}
	return Window{From: last + 1, To: last + by}
}

// maxStep is the greatest int64: counters are 8 bytes (RFC 4226 section 5.1), of which we use 63 bits.
const maxStep = 1<<63 - 1

// MinSeed is the least length, in bytes, of a seed that may be imported (RFC 4226 section 4, R6: 128 bits).
const MinSeed = 16

// errAlgorithm is a caller's mistake: parameters are validated before a seed is made for them.
var errAlgorithm = errors.New("unknown algorithm")

// NewSeed makes a random seed as long as the algorithm's output: 20, 32 or 64 bytes (RFC 4226 section 4 and RFC 6238
// section 3, R6).
func NewSeed(a Algorithm) ([]byte, error) {
	sizes := map[Algorithm]int{SHA1: 20, SHA256: 32, SHA512: 64}
	size, ok := sizes[a]
	if !ok {
		return nil, fmt.Errorf("make a seed for %q: %w", a, errAlgorithm)
	}
	seed := make([]byte, size)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("make a seed: %w", err)
	}
	return seed, nil
}
