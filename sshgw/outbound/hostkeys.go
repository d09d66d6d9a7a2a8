package outbound

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Key is a host key as it is known: by its fingerprint and, where that is known too, its type.
type Key struct {
	Fingerprint string // SHA256:..., as ssh-keygen -l prints it
	Type        string // ssh-ed25519, ...; empty: not known
}

// HostKeys are what is known of a target's identity. A target may have several keys; any that is pinned or approved, and
// not revoked, will do.
type HostKeys struct {
	Pinned   []Key // by the configuration
	Approved []Key // by an operator
	Revoked  []Key // never again, whatever else is said
}

// revokedMark stands before a key that must never be taken, as in sshd(8)'s known hosts.
const revokedMark = "@revoked"

// ParseHostKey reads a line of a target's `host_key`: a fingerprint, or a public key in one line. Before either may stand
// @revoked.
func ParseHostKey(line string) (k Key, revoked bool, err error) {
	line = strings.TrimSpace(line)
	if rest, ok := strings.CutPrefix(line, revokedMark); ok && strings.TrimLeft(rest, " \t") != rest {
		line, revoked = strings.TrimSpace(rest), true
	}
	if hash, ok := strings.CutPrefix(line, "SHA256:"); ok {
		sum, err := base64.RawStdEncoding.Strict().DecodeString(hash)
		if err != nil || len(sum) != 32 {
			return k, false, errors.New("a fingerprint that is none: want SHA256: and 43 characters")
		}
		return Key{Fingerprint: line}, revoked, nil
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(options) > 0 || len(rest) > 0 {
		return k, false, errors.New("neither a fingerprint nor a public key")
	}
	return KeyOf(key), revoked, nil
}

// ParseHostKeys reads all lines of a target's `host_key`.
func ParseHostKeys(lines []string) (h HostKeys, err error) {
	var errs []error
	for i, line := range lines {
		k, revoked, err := ParseHostKey(line)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("host key %d: %w", i+1, err))
		case revoked:
			h.Revoked = append(h.Revoked, k)
		default:
			h.Pinned = append(h.Pinned, k)
		}
	}
	return h, errors.Join(errs...)
}

// KeyOf is how a public key is known.
func KeyOf(key ssh.PublicKey) Key {
	return Key{Fingerprint: ssh.FingerprintSHA256(key), Type: key.Type()}
}

func (h HostKeys) known() []Key { return slices.Concat(h.Pinned, h.Approved) }

func holds(keys []Key, fingerprint string) bool {
	return slices.ContainsFunc(keys, func(k Key) bool { return k.Fingerprint == fingerprint })
}

// judge says what is wrong with a key that a target has proved to have.
func (h HostKeys) judge(target string, key ssh.PublicKey, least int) error {
	fingerprint := ssh.FingerprintSHA256(key)
	if holds(h.Revoked, fingerprint) {
		return &RevokedHostKey{target, key, fingerprint}
	}
	if bits := rsaBits(key); bits > 0 && bits < least {
		return &WeakHostKey{target, key, fingerprint, bits, least}
	}
	known := h.known()
	if holds(known, fingerprint) {
		return nil
	}
	if len(known) == 0 {
		return &UnknownHostKey{target, key, fingerprint}
	}
	return &ChangedHostKey{target, key, fingerprint, known}
}

// order puts the algorithms of the known types first: a target proves one key, and it should be one that is known
// rather than one of a type of which nothing is. Without are types that were seen and are not known.
func (h HostKeys) order(algorithms, without []string) []string {
	known := h.known()
	isKnown := func(algorithm string) bool {
		return slices.ContainsFunc(known, func(k Key) bool { return k.Type == typeOf(algorithm) })
	}
	var first, rest []string
	for _, a := range algorithms {
		switch {
		case slices.Contains(without, typeOf(a)):
		case isKnown(a):
			first = append(first, a)
		default:
			rest = append(rest, a)
		}
	}
	return append(first, rest...)
}

// untyped reports whether a key is known whose type is not: the target may have it beside the one that it showed.
func (h HostKeys) untyped() bool {
	return slices.ContainsFunc(h.known(), func(k Key) bool { return k.Type == "" })
}

// typeOf is the type of the keys that sign with an algorithm (RFC 8332 section 3).
func typeOf(algorithm string) string {
	switch algorithm {
	case ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512:
		return ssh.KeyAlgoRSA
	}
	return algorithm
}
