package login

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// HostKeyState is where a target's host key is in its life.
type HostKeyState string

// A host key waits for an operator, and is then trusted, or must never be.
const (
	HostKeyPending  HostKeyState = "pending"
	HostKeyApproved HostKeyState = "approved"
	HostKeyRevoked  HostKeyState = "revoked"
)

// The reasons for which a target's host key is not taken.
const (
	ReasonHostKeyUnknown Reason = "host_key_unknown" // it waits for an operator
	ReasonHostKeyChanged Reason = "host_key_changed"
	ReasonHostKeyRevoked Reason = "host_key_revoked"
)

// HostKeyID names a host key of a target.
type HostKeyID struct {
	Target      string `json:"target"`
	Fingerprint string `json:"fingerprint"` // SHA256:..., as ssh-keygen -l prints it
}

// HostKey is what an SSH target has proved to have, or what an operator has said of it. Type and Blob are empty where
// only the fingerprint is known.
type HostKey struct {
	Target      string       `json:"target"`
	Fingerprint string       `json:"fingerprint"`
	Type        string       `json:"type,omitempty"` // ssh-ed25519, ...
	Blob        []byte       `json:"blob,omitempty"` // RFC 4253 section 6.6 wire form
	State       HostKeyState `json:"state"`
	First       time.Time    `json:"first,omitzero"` // when it was first seen
	Last        time.Time    `json:"last,omitzero"`  // when its state was last changed
	By          string       `json:"by,omitempty"`   // who changed it
}

// ID is what names the key.
func (k *HostKey) ID() HostKeyID { return HostKeyID{k.Target, k.Fingerprint} }

// CredentialKind is what a sealed credential is.
type CredentialKind string

// The kinds of credential that are kept.
const (
	CredentialKey      CredentialKind = "key"
	CredentialPassword CredentialKind = "password"
)

// CredentialID names a credential: one for each account at a target. Account is empty for the one that serves accounts
// without one of their own.
type CredentialID struct {
	Target  string `json:"target"`
	Account string `json:"account,omitempty"`
}

// Credential is by what the gateway logs in at a target. Secret is plain: it lives in memory and, sealed, in the store.
// It is a password, or a private key in OpenSSH's form, perhaps followed by a line with its certificate.
type Credential struct {
	Target      string         `json:"target"`
	Account     string         `json:"account,omitempty"`
	Kind        CredentialKind `json:"kind"`
	Secret      []byte         `json:"secret,omitempty"`
	Fingerprint string         `json:"fingerprint,omitempty"` // of a key
	Comment     string         `json:"comment,omitempty"`
	Created     time.Time      `json:"created,omitzero"`
}

// ID is what names the credential.
func (c *Credential) ID() CredentialID { return CredentialID{c.Target, c.Account} }

// The most host keys that wait: whoever stands between gateway and target can make as many as he likes.
const (
	MaxPendingOf = 8    // of one target
	MaxPending   = 1024 // of all
)

// vault is what is known of targets: their host keys, and the credentials for them. Targets' names are compared without
// regard to case, as in SSH.
type vault struct {
	mu          sync.RWMutex
	keys        map[string][]HostKey // by lower-case target
	credentials map[CredentialID]Credential
	pending     int
}

func newVault() *vault {
	return &vault{keys: make(map[string][]HostKey), credentials: make(map[CredentialID]Credential)}
}

func foldCredential(id CredentialID) CredentialID {
	return CredentialID{strings.ToLower(id.Target), id.Account}
}

// apply takes one admin change. It may be applied twice.
func (v *vault) apply(c Change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.change(c)
}

// change needs v.mu.
func (v *vault) change(c Change) {
	if k := c.PutHostKey; k != nil {
		own := *k
		own.Blob = slices.Clone(k.Blob)
		v.put(k.ID(), &own)
	}
	if c.DeleteHostKey != nil {
		v.put(*c.DeleteHostKey, nil)
	}
	if p := c.PutCredential; p != nil {
		own := *p
		own.Secret = slices.Clone(p.Secret)
		v.credentials[foldCredential(p.ID())] = own
	}
	if c.DeleteCredential != nil {
		delete(v.credentials, foldCredential(*c.DeleteCredential))
	}
	for _, further := range c.All {
		v.change(further)
	}
}

// put replaces a key where it stands, adds it, or removes it, on a copy, since readers may hold the old list. It needs
// v.mu.
func (v *vault) put(id HostKeyID, key *HostKey) {
	target := strings.ToLower(id.Target)
	keys := slices.Clone(v.keys[target])
	i := slices.IndexFunc(keys, func(k HostKey) bool { return k.Fingerprint == id.Fingerprint })
	if i >= 0 && keys[i].State == HostKeyPending {
		v.pending--
	}
	switch {
	case key == nil && i >= 0:
		keys = slices.Delete(keys, i, i+1)
	case key != nil && i >= 0:
		keys[i] = *key
	case key != nil:
		keys = append(keys, *key)
	}
	if key != nil && key.State == HostKeyPending {
		v.pending++
	}
	if v.keys[target] = keys; len(keys) == 0 {
		delete(v.keys, target)
	}
}

// TargetKeys returns what is known of a target's host keys, oldest first. They are not to be changed.
func (g *Gate) TargetKeys(target string) []HostKey {
	v := g.vault
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Clip(v.keys[strings.ToLower(target)])
}

// TargetCredential returns the credential for an account at a target: its own, or else the target's. It is not to be
// changed.
func (g *Gate) TargetCredential(target, account string) (Credential, bool) {
	v := g.vault
	v.mu.RLock()
	defer v.mu.RUnlock()
	id := CredentialID{strings.ToLower(target), account}
	c, ok := v.credentials[id]
	if !ok && account != "" {
		id.Account = ""
		c, ok = v.credentials[id]
	}
	return c, ok
}

// TargetCredentials returns all credentials of a target without their secrets, the target's own first.
func (g *Gate) TargetCredentials(target string) (all []Credential) {
	v := g.vault
	v.mu.RLock()
	defer v.mu.RUnlock()
	target = strings.ToLower(target)
	for id, c := range v.credentials {
		if id.Target == target {
			c.Secret = nil
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b Credential) int { return strings.Compare(a.Account, b.Account) })
	return all
}

// RoomForPending tells whether one more host key of a target may wait for an operator.
func (g *Gate) RoomForPending(target string) bool {
	v := g.vault
	v.mu.RLock()
	defer v.mu.RUnlock()
	of := 0
	for _, k := range v.keys[strings.ToLower(target)] {
		if k.State == HostKeyPending {
			of++
		}
	}
	return of < MaxPendingOf && v.pending < MaxPending
}
