package otp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
)

// TypeRecovery is the type of a set of recovery codes: look-up secrets (NIST SP 800-63B section 3.1.2), each good once, in
// place of a code. Its Params have nothing else.
const TypeRecovery Type = "recovery"

// RecoveryCodes is how many codes a set has.
const RecoveryCodes = 10

// recoveryLen is how many letters a code has: 80 bits. A guess at a set of ten is right once in 1.2e23.
const recoveryLen = 16

const recoverySalt = 16

// NewRecovery makes the codes of a set, as they are printed (four groups of four), and what is kept of them: a salt and a keyed
// hash of each, which together tell a code that is typed, and no code.
func NewRecovery() (codes []string, kept []byte) {
	kept = make([]byte, recoverySalt, recoverySalt+RecoveryCodes*sha256.Size)
	_, _ = rand.Read(kept) // never fails (crypto/rand)
	for range RecoveryCodes {
		code := NewCrockford(recoveryLen)
		codes = append(codes, Grouped(code, 4))
		kept = append(kept, recoverySum(kept[:recoverySalt], code)...)
	}
	return codes, kept
}

// CleanRecovery returns a code as it was made, of one that was typed. Ok is false for what cannot be a recovery code.
func CleanRecovery(typed string) (code string, ok bool) { return CleanCrockford(typed, recoveryLen) }

// MatchRecovery returns which code of a set was typed, cleaned; -1: none. It takes the same time for each.
func MatchRecovery(kept []byte, code string) int {
	if CheckRecovery(kept) != nil {
		return -1
	}
	sum, found := recoverySum(kept[:recoverySalt], code), -1
	for i := range RecoveryCodes {
		at := recoverySalt + i*sha256.Size
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum, kept[at:at+sha256.Size]), i, found)
	}
	return found
}

// CheckRecovery tells whether kept is what NewRecovery makes.
func CheckRecovery(kept []byte) error {
	if len(kept) != recoverySalt+RecoveryCodes*sha256.Size {
		return errors.New("not a set of recovery codes")
	}
	return nil
}

func recoverySum(salt []byte, code string) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte(code))
	return mac.Sum(nil)
}
