package outbound

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// UnknownHostKey: nothing is known of the target yet, and this is the key that it has proved to have. It may wait for
// approval.
type UnknownHostKey struct {
	Target      string
	Key         ssh.PublicKey
	Fingerprint string
}

func (e *UnknownHostKey) Error() string {
	return fmt.Sprintf("target %s: its host key %s (%s) is not known yet", e.Target, e.Fingerprint, e.Key.Type())
}

// Hint says what an operator can do.
func (e *UnknownHostKey) Hint() string {
	return fmt.Sprintf("compare the fingerprint with the target's own, then: sallyport target trust %s %s", e.Target, e.Fingerprint)
}

// ChangedHostKey: the target has another key than those that are known of it. Somebody may stand between.
type ChangedHostKey struct {
	Target      string
	Key         ssh.PublicKey
	Fingerprint string
	Known       []Key
}

func (e *ChangedHostKey) Error() string {
	known := make([]string, len(e.Known))
	for i, k := range e.Known {
		known[i] = k.Fingerprint
	}
	return fmt.Sprintf("target %s: its host key has changed: it has %s (%s), and known is %s",
		e.Target, e.Fingerprint, e.Key.Type(), strings.Join(known, ", "))
}

// Hint says what an operator can do.
func (e *ChangedHostKey) Hint() string {
	return fmt.Sprintf("find out why before anything else; if the target was set up anew: sallyport target trust %s --scan, and take away what it had", e.Target)
}

// RevokedHostKey: the target has a key of which is known that it must not be trusted.
type RevokedHostKey struct {
	Target      string
	Key         ssh.PublicKey
	Fingerprint string
}

func (e *RevokedHostKey) Error() string {
	return fmt.Sprintf("target %s: its host key %s is revoked", e.Target, e.Fingerprint)
}

// Hint says what an operator can do.
func (e *RevokedHostKey) Hint() string { return "give the target a new host key" }

// WeakHostKey: the target's RSA key is smaller than its algorithms permit.
type WeakHostKey struct {
	Target      string
	Key         ssh.PublicKey
	Fingerprint string
	Bits, Least int
}

func (e *WeakHostKey) Error() string {
	return fmt.Sprintf("target %s: its RSA host key has %d bits, and at least %d are wanted", e.Target, e.Bits, e.Least)
}

// Hint says what an operator can do.
func (e *WeakHostKey) Hint() string {
	if e.Bits < leastSmall {
		return "give the target a new host key"
	}
	return "give the target a new host key; until then, algorithms: legacy, or " + wordSmallRSA + " in the list of its algorithms"
}

// NoCommonAlgorithm: target and gateway have no algorithm in common, for at least one kind.
type NoCommonAlgorithm struct {
	Target  string
	Lacking []Lack
}

// Lack is a kind of algorithm of which nothing was in common.
type Lack struct {
	Kind    string   // "key exchange", "host key", "cipher", "MAC"
	Offered []string // by the target, as it said
	Add     []string // those of them that the setting may name
}

func (e *NoCommonAlgorithm) Error() string {
	parts := make([]string, len(e.Lacking))
	for i, l := range e.Lacking {
		parts[i] = fmt.Sprintf("%s: it offers %s", l.Kind, said(l.Offered))
	}
	return fmt.Sprintf("target %s: no algorithm in common for %s", e.Target, strings.Join(parts, "; "))
}

// Hint says which setting would meet what the target offers.
func (e *NoCommonAlgorithm) Hint() string {
	names := []string{wordModern}
	for _, l := range e.Lacking {
		if len(l.Add) == 0 {
			return fmt.Sprintf("no setting helps: none of its algorithms for %s is known here; update the target", l.Kind)
		}
		for _, name := range l.Add {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return fmt.Sprintf("update the target; until then, algorithms: legacy, or just what it needs: algorithms: [%s]", strings.Join(names, ", "))
}

// maxOffered bounds how many names of a target's offer are repeated.
const maxOffered = 24

// said repeats what a target said, without what could move a terminal's cursor.
func said(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	var all []string
	for _, n := range names[:min(len(names), maxOffered)] {
		all = append(all, strings.Trim(fmt.Sprintf("%+q", clip(n)), `"`))
	}
	if len(names) > maxOffered {
		all = append(all, "...")
	}
	return strings.Join(all, ", ")
}

// AuthFailed: the target did not take the credential.
type AuthFailed struct {
	Target, User string
	Credential   string   // its kind
	Shown        bool     // the target has seen it, or some of the keys
	Methods      []string // what the target would take (RFC 4252), as it said last
	Cause        error    // why the credential was not shown, or nil; one of this package's
}

func (e *AuthFailed) Error() string {
	text := fmt.Sprintf("target %s: it does not let %s in by credential %s; it takes %s", e.Target, e.User, e.Credential, said(e.Methods))
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

func (e *AuthFailed) Unwrap() error { return e.Cause }

// Step is where a login stood.
type Step string

// The steps of a login.
const (
	StepConnect  Step = "connect"
	StepVersion  Step = "version"
	StepExchange Step = "key_exchange"
	StepLogin    Step = "login"
)

// ErrTimeout: a step took longer than it may.
var ErrTimeout = errors.New("no answer in time")

// Failed: the login ended otherwise: the network, a time limit, or a target that does not speak SSH.
type Failed struct {
	Target string
	Step   Step
	Err    error
}

func (e *Failed) Error() string { return fmt.Sprintf("target %s: %s: %v", e.Target, e.Step, e.Err) }

func (e *Failed) Unwrap() error { return e.Err }

// Timeout reports whether time ran out.
func (e *Failed) Timeout() bool {
	return errors.Is(e.Err, ErrTimeout) || errors.Is(e.Err, context.DeadlineExceeded)
}
