package otp

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"strings"
)

// Code returns the code of a step or counter, or "" when the parameters are invalid, the seed is empty or the step is
// negative. Match never takes "" for a code.
func Code(seed []byte, p Params, step int64) string {
	if p.Validate() != nil || len(seed) == 0 || step < 0 {
		return ""
	}
	var m mac
	m.init(p.Algorithm, seed)
	v := m.truncated(step) % modulus(p.Digits)
	code := make([]byte, p.Digits)
	for i := len(code) - 1; i >= 0; i-- {
		code[i] = byte('0' + v%10)
		v /= 10
	}
	return string(code)
}

// Match looks for the newest step of the window whose code is the given one, and returns it. It computes every step of
// the window, whether or not an earlier one matched and whatever code is, so that its time doesn't tell whether and
// where it matched. Nothing matches an empty or too wide window, an empty seed, invalid parameters, or a code that does not have
// exactly p.Digits ASCII digits.
//
// A match does not make the code acceptable: the caller refuses steps that aren't newer than the last one used (P2).
func Match(seed []byte, p Params, code string, w Window) (step int64, ok bool) {
	if p.Validate() != nil || len(seed) == 0 || w.From < 0 || w.To < w.From || w.To-w.From >= MaxWindow {
		return -1, false
	}
	typed, well := parseCode(code, p.Digits)
	mod := modulus(p.Digits)
	var m mac
	m.init(p.Algorithm, seed)
	var offset, found int
	for i := range int(w.To-w.From) + 1 {
		eq := subtle.ConstantTimeEq(int32(m.truncated(w.From+int64(i))%mod), typed)
		offset = subtle.ConstantTimeSelect(eq, i, offset)
		found |= eq
	}
	if found&well != 1 {
		return -1, false
	}
	return w.From + int64(offset), true
}

// Search is Match for codes that nobody has in clear: proves is called with the code of each step of the window, and says
// whether that is the one. It is called for every step, also after it has said yes; the newest step counts.
func Search(seed []byte, p Params, w Window, proves func(code string) bool) (step int64, ok bool) {
	if p.Validate() != nil || len(seed) == 0 || w.From < 0 || w.To < w.From || w.To-w.From >= MaxWindow {
		return -1, false
	}
	step = -1
	for s := w.From; s <= w.To; s++ {
		if proves(Code(seed, p, s)) {
			step, ok = s, true
		}
	}
	return step, ok
}

// maxTyped bounds, in bytes, what CleanCode looks at: eight digits, each with a separator or two beside it.
const maxTyped = 32

// CleanCode makes a code of what a person typed or pasted: it removes ASCII white space and hyphens ("123 456",
// "1234-5678") and reports whether 6 to 8 ASCII digits remain. All else, digits of other scripts included, is no code.
func CleanCode(typed string) (string, bool) {
	if len(typed) > maxTyped {
		return "", false
	}
	code := strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n', '-':
			return -1
		}
		return r
	}, typed)
	if len(code) < 6 || len(code) > 8 {
		return "", false
	}
	if _, well := parseCode(code, len(code)); well != 1 {
		return "", false
	}
	return code, true
}

// parseCode reads a code of exactly so many ASCII digits. The second result is 1 when it is one, else 0.
func parseCode(code string, digits int) (value int32, well int) {
	if len(code) != digits {
		return 0, 0
	}
	for i := range len(code) {
		c := code[i]
		if c < '0' || c > '9' {
			return 0, 0
		}
		value = value*10 + int32(c-'0')
	}
	return value, 1
}

func modulus(digits int) uint32 {
	if digits == 8 {
		return 1e8
	}
	return 1e6
}

// mac computes HMACs (RFC 2104) of 8-byte counters under one key. It's crypto/hmac's work without its nine
// allocations, and leaves no copy of the seed on the heap; a test holds the two equal.
type mac struct {
	algorithm Algorithm
	inner     [sha512.BlockSize + 8]byte           // key xor ipad, counter
	outer     [sha512.BlockSize + sha512.Size]byte // key xor opad, inner hash
}

func (m *mac) init(a Algorithm, key []byte) {
	m.algorithm = a
	block := m.block()
	if len(key) > block {
		m.hash(m.inner[:0], key)
	} else {
		copy(m.inner[:], key)
	}
	copy(m.outer[:block], m.inner[:block])
	for i := range block {
		m.inner[i] ^= 0x36
		m.outer[i] ^= 0x5c
	}
}

// truncated is the dynamic truncation of RFC 4226 section 5.3: 31 bits of the HMAC, from where its last byte says.
func (m *mac) truncated(step int64) uint32 {
	block := m.block()
	binary.BigEndian.PutUint64(m.inner[block:], uint64(step))
	size := m.hash(m.outer[block:block], m.inner[:block+8])
	var sum [sha512.Size]byte
	m.hash(sum[:0], m.outer[:block+size])
	at := sum[size-1] & 0xf
	return binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
}

func (m *mac) block() int {
	if m.algorithm == SHA512 {
		return sha512.BlockSize
	}
	return sha1.BlockSize // and SHA-256's
}

// hash appends the hash of data to dst, which has room for it, and returns its size.
func (m *mac) hash(dst, data []byte) int {
	switch m.algorithm {
	case SHA256:
		sum := sha256.Sum256(data)
		return len(append(dst, sum[:]...))
	case SHA512:
		sum := sha512.Sum512(data)
		return len(append(dst, sum[:]...))
	default:
		sum := sha1.Sum(data)
		return len(append(dst, sum[:]...))
	}
}
