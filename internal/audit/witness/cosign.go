package witness

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// algCosignature is the key algorithm of Ed25519 cosignatures (c2sp.org/tlog-cosignature).
	algCosignature = 4

	privatePrefix = "PRIVATE+KEY+"

	// maxName bounds the name of a key or a log, in bytes. ML-DSA cosignatures have this bound too.
	maxName = 255
)

// validName is what a key's name may be (c2sp.org/signed-note): text without blanks and plus signs.
func validName(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && !strings.Contains(name, "+") &&
		strings.IndexFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) < 0
}

func keyHash(name string, public []byte) uint32 {
	sum := sha256.Sum256(append(append([]byte(name+"\n"), algCosignature), public...))
	return binary.BigEndian.Uint32(sum[:])
}

func encodeKey(name string, hash uint32, key []byte) string {
	return fmt.Sprintf("%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(append([]byte{algCosignature}, key...)))
}

// decodeKey is the inverse, and strict.
func decodeKey(text string) (name string, hash uint32, key []byte, err error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 || !validName(parts[0]) {
		return "", 0, nil, errors.New("want name+hash+key")
	}
	wide, err := strconv.ParseUint(parts[1], 16, 32)
	raw, err64 := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || err64 != nil || len(raw) == 0 {
		return "", 0, nil, errors.New("want name+hash+key")
	}
	switch {
	case raw[0] == 1:
		return "", 0, nil, errors.New("it is a key of a log, not of a witness")
	case raw[0] != algCosignature:
		return "", 0, nil, fmt.Errorf("key algorithm %d is not known, only %d, Ed25519 cosignatures", raw[0], algCosignature)
	case encodeKey(parts[0], uint32(wide), raw[1:]) != text || len(raw) != 1+ed25519.PublicKeySize:
		return "", 0, nil, errors.New("want name+hash+key")
	}
	return parts[0], uint32(wide), raw[1:], nil
}

// NewKey makes a witness's key. Its name is by convention a host and path: "witness.example.nhs.uk/w1". The public half
// is in the form that other witnesses' have (vkey).
func NewKey(name string) (skey, vkey string, err error) {
	if !validName(name) {
		return "", "", fmt.Errorf("name %.80q of a witness: want 1 to %d bytes without blanks and plus signs", name, maxName)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("making a witness's key: %w", err)
	}
	hash := keyHash(name, public)
	return privatePrefix + encodeKey(name, hash, private.Seed()), encodeKey(name, hash, public), nil
}

// Signer makes cosignatures. It is a note.Signer for texts that are checkpoints.
type Signer struct {
	name string
	hash uint32
	key  ed25519.PrivateKey
	now  func() time.Time
}

// NewSigner takes the secret half of a key that NewKey made.
func NewSigner(skey string, now func() time.Time) (*Signer, error) {
	rest, ok := strings.CutPrefix(skey, privatePrefix)
	if !ok {
		return nil, errors.New("not a witness's secret key")
	}
	name, hash, seed, err := decodeKey(rest)
	if err != nil { // without the cause: it could quote the key
		return nil, errors.New("not a witness's secret key")
	}
	s := &Signer{name: name, hash: hash, key: ed25519.NewKeyFromSeed(seed), now: now}
	if keyHash(name, s.public()) != hash {
		return nil, errors.New("not a witness's secret key: its hash is another's")
	}
	return s, nil
}

func (s *Signer) public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// Name implements note.Signer.
func (s *Signer) Name() string { return s.name }

// KeyHash implements note.Signer.
func (s *Signer) KeyHash() uint32 { return s.hash }

// Verifier is the signer's public half.
func (s *Signer) Verifier() *Verifier { return &Verifier{name: s.name, hash: s.hash, key: s.public()} }

// Sign implements note.Signer. The time is the signer's own.
func (s *Signer) Sign(text []byte) ([]byte, error) {
	at := s.now().Unix()
	if at < 0 {
		return nil, fmt.Errorf("the clock says %s", s.now())
	}
	m, err := message(uint64(at), text)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint64(nil, uint64(at)), ed25519.Sign(s.key, m)...), nil
}

// message is what a cosignature signs.
func message(at uint64, text []byte) ([]byte, error) {
	if at > math.MaxInt64 {
		return nil, errors.New("a time beyond 2^63")
	}
	if _, err := parseText(string(text)); err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), text...), nil
}

// Verifier checks cosignatures of one witness. It is a note.Verifier.
type Verifier struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

// NewVerifier takes a witness's public key (vkey).
func NewVerifier(vkey string) (*Verifier, error) {
	name, hash, key, err := decodeKey(vkey)
	if err != nil {
		return nil, fmt.Errorf("public key of a witness: %w", err)
	}
	if keyHash(name, key) != hash {
		return nil, errors.New("public key of a witness: its hash is another's")
	}
	return &Verifier{name: name, hash: hash, key: key}, nil
}

// Name implements note.Verifier.
func (v *Verifier) Name() string { return v.name }

// KeyHash implements note.Verifier.
func (v *Verifier) KeyHash() uint32 { return v.hash }

// Verify implements note.Verifier.
func (v *Verifier) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	m, err := message(binary.BigEndian.Uint64(sig), text)
	return err == nil && ed25519.Verify(v.key, m, sig[8:])
}

// String is the key as NewVerifier takes it.
func (v *Verifier) String() string { return encodeKey(v.name, v.hash, v.key) }

// SignedAt is the time that a cosignature states.
func SignedAt(sig note.Signature) (time.Time, error) {
	raw, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil || len(raw) < 4+8 {
		return time.Time{}, errors.New("not a cosignature")
	}
	at := binary.BigEndian.Uint64(raw[4:])
	if at > math.MaxInt64 {
		return time.Time{}, errors.New("not a cosignature: a time beyond 2^63")
	}
	return time.Unix(int64(at), 0).UTC(), nil
}

// text is what a checkpoint says (c2sp.org/tlog-checkpoint).
type text struct {
	origin string
	size   uint64
	root   tlog.Hash
}

var errText = errors.New("not the text of a checkpoint")

// parseText takes any log's: further lines are allowed, and mean nothing here.
func parseText(s string) (text, error) {
	lines := strings.Split(s, "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" || len(s) > maxNote {
		return text{}, fmt.Errorf("want the lines origin, size, root, and at most %d bytes: %w", maxNote, errText)
	}
	for _, line := range lines[:len(lines)-1] {
		if line == "" {
			return text{}, fmt.Errorf("a blank line: %w", errText)
		}
	}
	t := text{origin: lines[0]}
	var err error
	t.size, err = parseSize(lines[1])
	if err != nil {
		return text{}, fmt.Errorf("%w: %w", err, errText)
	}
	if t.root, err = parseHash(lines[2]); err != nil {
		return text{}, fmt.Errorf("%w: %w", err, errText)
	}
	if len(t.origin) > maxName {
		return text{}, fmt.Errorf("origin of %d bytes, at most %d can be: %w", len(t.origin), maxName, errText)
	}
	return t, nil
}

// parseSize reads a number of records: decimal, without leading zeros, below 2^63.
func parseSize(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("size %.40q is not a number as it is written", s)
	}
	return n, nil
}

func parseHash(s string) (tlog.Hash, error) {
	h, err := tlog.ParseHash(s)
	if err != nil || h.String() != s {
		return tlog.Hash{}, fmt.Errorf("%.60q is not a hash in base64", s)
	}
	return h, nil
}

// lineOf writes a signature's line of a note, in the one right form.
func lineOf(s note.Signature) string {
	raw, _ := base64.StdEncoding.DecodeString(s.Base64) // it was verified
	return "— " + s.Name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
}

// cosign returns the line that s adds to a note of this text.
func cosign(s note.Signer, text string) (string, error) {
	msg, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	_, line, _ := bytes.Cut(msg, []byte("\n\n"))
	return string(line), nil
}
