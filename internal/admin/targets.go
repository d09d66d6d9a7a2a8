package admin

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// TargetSetting is what the configuration says about an SSH target.
type TargetSetting struct {
	Name       string   `json:"name"`
	Address    string   `json:"address"`
	Account    string   `json:"account,omitempty"`
	Credential string   `json:"credential,omitempty"` // agent, key, password, ca, ask; empty: not said
	Algorithms string   `json:"algorithms"`           // modern, legacy, or what the list adds
	Jump       string   `json:"jump"`
	Class      string   `json:"class"`
	Tags       []string `json:"tags"`
	Pinned     []string `json:"pinned"` // lines of host_key
}

// Targets is what the verbs need of SSH targets and cannot know by themselves. It is called concurrently.
type Targets interface {
	// All returns the targets of the configuration, in its order.
	All() []TargetSetting
	// Scan connects to a target and returns the host keys that it has proved to have, in wire form.
	Scan(ctx context.Context, name string) (wire [][]byte, err error)
	// Authorities returns the public halves of the gateway's CAs.
	Authorities() (Authorities, error)
}

// Authorities are the public halves of the gateway's CAs, as other programs take them.
type Authorities struct {
	KnownHosts string `json:"known_hosts"` // the line @cert-authority of known_hosts for all targets
	UserCA     string `json:"user_ca"`     // the line for TrustedUserCAKeys
}

// noTargets stands for a Service that knows none.
type noTargets struct{}

func (noTargets) All() []TargetSetting { return nil }

func (noTargets) Scan(context.Context, string) ([][]byte, error) {
	return nil, refuse("", "nothing can be reached from here")
}

func (noTargets) Authorities() (Authorities, error) {
	return Authorities{}, refuse("", "there is none here")
}

// TargetIn names a target.
type TargetIn struct {
	Target string `json:"target"`
}

// HostKeyIn names a host key of a target.
type HostKeyIn struct {
	Target      string `json:"target"`
	Fingerprint string `json:"fingerprint"`
}

// CredentialIn names a credential of a target.
type CredentialIn struct {
	Target  string `json:"target"`
	Account string `json:"account,omitempty"`
}

// CredentialSet is the input of target.credential. Secret is a password, or a private key and perhaps its certificate.
type CredentialSet struct {
	Target  string               `json:"target"`
	Account string               `json:"account,omitempty"`
	Kind    login.CredentialKind `json:"kind"`
	Secret  []byte               `json:"secret"`
	Comment string               `json:"comment,omitempty"`
}

// HostKeyInfo is a host key as shown.
type HostKeyInfo struct {
	Fingerprint string             `json:"fingerprint"`
	Type        string             `json:"type,omitempty"`
	State       login.HostKeyState `json:"state"`
	First       time.Time          `json:"first,omitzero"`
	Changed     time.Time          `json:"changed,omitzero"`
	By          string             `json:"by,omitempty"`
}

// CredentialInfo is a credential as shown: without its secret.
type CredentialInfo struct {
	Account     string               `json:"account,omitempty"`
	Kind        login.CredentialKind `json:"kind"`
	Fingerprint string               `json:"fingerprint,omitempty"`
	Public      string               `json:"public,omitempty"` // a key's line for authorized_keys, when it is new
	Comment     string               `json:"comment,omitempty"`
	Created     time.Time            `json:"created,omitzero"`
	Record      uint64               `json:"record,omitempty"`
}

// TargetInfo is a target as shown.
type TargetInfo struct {
	TargetSetting
	Keys        []HostKeyInfo    `json:"host_keys"`
	Credentials []CredentialInfo `json:"credentials"`
}

// Count tells how many keys of a target are in a state.
func (t TargetInfo) Count(state login.HostKeyState) (n int) {
	for _, k := range t.Keys {
		if k.State == state {
			n++
		}
	}
	return n
}

func (s *Service) targetVerbs() {
	Handle(s, "target.list", func(context.Context, Empty) ([]TargetInfo, error) { return s.targetList(), nil })
	Handle(s, "target.show", s.targetShow)
	Handle(s, "target.scan", s.targetScan)
	Handle(s, "target.trust", s.targetTrust)
	Handle(s, "target.revoke", s.targetRevoke)
	Handle(s, "target.remove", s.targetRemove)
	Handle(s, "target.credential", s.credentialSet)
	Handle(s, "target.credential-remove", s.credentialRemove)
	Handle(s, "target.authorities", func(context.Context, Empty) (Authorities, error) { return s.Targets.Authorities() })
}

func (s *Service) targetList() []TargetInfo {
	all := []TargetInfo{}
	for _, t := range s.Targets.All() {
		all = append(all, s.targetInfo(t))
	}
	return all
}

func (s *Service) targetInfo(t TargetSetting) TargetInfo {
	info := TargetInfo{TargetSetting: t, Keys: []HostKeyInfo{}, Credentials: []CredentialInfo{}}
	for _, k := range s.Gate.TargetKeys(t.Name) {
		info.Keys = append(info.Keys, hostKeyInfo(k))
	}
	for _, c := range s.Gate.TargetCredentials(t.Name) {
		info.Credentials = append(info.Credentials, credentialInfo(c))
	}
	return info
}

func hostKeyInfo(k login.HostKey) HostKeyInfo {
	return HostKeyInfo{Fingerprint: k.Fingerprint, Type: k.Type, State: k.State, First: k.First, Changed: k.Last, By: k.By}
}

func credentialInfo(c login.Credential) CredentialInfo {
	return CredentialInfo{Account: c.Account, Kind: c.Kind, Fingerprint: c.Fingerprint, Comment: c.Comment, Created: c.Created}
}

// setting finds a target of the configuration, as SSH does without regard to case.
func (s *Service) setting(name string) (TargetSetting, error) {
	for _, t := range s.Targets.All() {
		if strings.EqualFold(t.Name, name) {
			return t, nil
		}
	}
	return TargetSetting{}, refuse("`sallyport target list` shows them; a new one is known after `sallyport reload`", "there is no target %q", clip(name))
}

// named is setting for verbs that only take away: a target that is no longer configured may have left something.
func (s *Service) named(name string) (string, error) {
	t, err := s.setting(name)
	if err != nil && len(s.Gate.TargetKeys(name))+len(s.Gate.TargetCredentials(name)) > 0 {
		return name, nil
	}
	return t.Name, err
}

func (s *Service) targetShow(_ context.Context, in TargetIn) (TargetInfo, error) {
	t, err := s.setting(in.Target)
	if err != nil {
		return TargetInfo{}, err
	}
	return s.targetInfo(t), nil
}

// targetScan queues what the target has and nobody has judged yet.
func (s *Service) targetScan(ctx context.Context, in TargetIn) (TargetInfo, error) {
	t, err := s.setting(in.Target)
	if err != nil {
		return TargetInfo{}, err
	}
	wires, err := s.Targets.Scan(ctx, t.Name)
	if len(wires) == 0 && err != nil {
		return TargetInfo{}, err
	}
	for _, wire := range wires {
		if err := s.OfferHostKey(ctx, t.Name, wire); err != nil {
			return TargetInfo{}, err
		}
	}
	return s.targetInfo(t), nil
}

// findHostKey returns what is known of a key of a target; ok is false when nothing is.
func (s *Service) findHostKey(target, fingerprint string) (login.HostKey, bool) {
	keys := s.Gate.TargetKeys(target)
	i := slices.IndexFunc(keys, func(k login.HostKey) bool { return k.Fingerprint == fingerprint })
	if i < 0 {
		return login.HostKey{Target: target, Fingerprint: fingerprint}, false
	}
	return keys[i], true
}

func (s *Service) targetTrust(ctx context.Context, in HostKeyIn) (HostKeyInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.setting(in.Target)
	if err != nil {
		return HostKeyInfo{}, err
	}
	k, known := s.findHostKey(t.Name, in.Fingerprint)
	switch {
	case !known:
		return HostKeyInfo{}, refuse("`sallyport target trust "+t.Name+" --scan` asks the target for its keys; one that is known already can stand in `host_key`",
			"%s has shown no key %q", t.Name, clip(in.Fingerprint))
	case k.State == login.HostKeyApproved:
		return hostKeyInfo(k), nil
	case k.State == login.HostKeyRevoked:
		return HostKeyInfo{}, refuse("give the target a new host key; or take the revocation back first: --remove "+k.Fingerprint, "%s is revoked", k.Fingerprint)
	}
	return s.putHostKey(ctx, "target.trust", t.Name, k, login.HostKeyApproved)
}

func (s *Service) targetRevoke(ctx context.Context, in HostKeyIn) (HostKeyInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.setting(in.Target)
	if err != nil {
		return HostKeyInfo{}, err
	}
	if !isFingerprint(in.Fingerprint) {
		return HostKeyInfo{}, refuse("as `ssh-keygen -l` prints it: SHA256:...", "%q is no fingerprint", clip(in.Fingerprint))
	}
	k, _ := s.findHostKey(t.Name, in.Fingerprint)
	if k.State == login.HostKeyRevoked {
		return hostKeyInfo(k), nil
	}
	return s.putHostKey(ctx, "target.revoke", t.Name, k, login.HostKeyRevoked)
}

func isFingerprint(text string) bool {
	hash, ok := strings.CutPrefix(text, "SHA256:")
	sum, err := base64.RawStdEncoding.Strict().DecodeString(hash)
	return ok && err == nil && len(sum) == 32
}

// putHostKey records and applies a key's new state. The caller holds s.mu.
func (s *Service) putHostKey(ctx context.Context, event, target string, k login.HostKey, state login.HostKeyState) (HostKeyInfo, error) {
	was := string(k.State)
	if was == "" {
		was = "unseen"
	}
	k.Target, k.State, k.Last, k.By = target, state, s.moment(), actorOf(ctx).Name
	_, err := s.commit(ctx, s.about(target, change{
		event: event, what: login.Change{PutHostKey: &k},
		detail: []audit.Detail{{Key: "fingerprint", Value: k.Fingerprint}, {Key: "type", Value: k.Type}, {Key: "was", Value: was}},
	}))
	return hostKeyInfo(k), err
}

func (s *Service) moment() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

// about completes a change that is about a target and no person.
func (s *Service) about(target string, c change) change {
	c.person, c.system = "none", target
	if sys, ok := s.System(target); ok {
		c.class = sys.Class
	}
	return c
}

func (s *Service) targetRemove(ctx context.Context, in HostKeyIn) (Done, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	target, err := s.named(in.Target)
	if err != nil {
		return Done{}, err
	}
	k, known := s.findHostKey(target, in.Fingerprint)
	if !known {
		return Done{}, refuse("`sallyport target trust "+target+"` shows what is known; pinned keys stand in the configuration", "nothing is known of a key %q of %s", clip(in.Fingerprint), target)
	}
	return s.commit(ctx, s.about(target, change{
		event: "target.remove", what: login.Change{DeleteHostKey: &login.HostKeyID{Target: target, Fingerprint: k.Fingerprint}},
		detail: []audit.Detail{{Key: "fingerprint", Value: k.Fingerprint}, {Key: "was", Value: string(k.State)}},
	}))
}

// maxAccount bounds the name of an account at a target, in bytes, as the configuration does.
const maxAccount = 64

// maxCredential bounds a credential, in bytes: an RSA key of 16,384 bits with a certificate has 20,000.
const maxCredential = 32 << 10

func (s *Service) credentialSet(ctx context.Context, in CredentialSet) (CredentialInfo, error) {
	defer clear(in.Secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.setting(in.Target)
	if err != nil {
		return CredentialInfo{}, err
	}
	if len(in.Account) > maxAccount || strings.ContainsFunc(in.Account, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '@' || r == '%' }) {
		return CredentialInfo{}, refuse("", "%q cannot be an account", clip(in.Account))
	}
	if len(in.Secret) == 0 || len(in.Secret) > maxCredential {
		return CredentialInfo{}, refuse("", "the secret has %d bytes: want 1 to %d", len(in.Secret), maxCredential)
	}
	c := login.Credential{Target: t.Name, Account: in.Account, Kind: in.Kind, Secret: in.Secret, Comment: clip(in.Comment), Created: s.moment()}
	var public string
	switch in.Kind {
	case login.CredentialPassword:
		if bytes.ContainsAny(in.Secret, "\r\n\x00") {
			return CredentialInfo{}, refuse("give it in one line", "the password has more than one line, or a NUL")
		}
	case login.CredentialKey:
		key, err := targetKey(in.Secret)
		if err != nil {
			return CredentialInfo{}, err
		}
		c.Fingerprint, public = ssh.FingerprintSHA256(key), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	default:
		return CredentialInfo{}, refuse("key or password", "%q is no kind of credential", clip(string(in.Kind)))
	}
	detail := []audit.Detail{{Key: "action", Value: "set"}, {Key: "kind", Value: string(c.Kind)}}
	if c.Fingerprint != "" {
		detail = append(detail, audit.Detail{Key: "fingerprint", Value: c.Fingerprint})
	}
	done, err := s.commit(ctx, s.about(t.Name, change{event: "target.credential", account: c.Account, detail: detail, what: login.Change{PutCredential: &c}}))
	info := credentialInfo(c)
	info.Public, info.Record = public, done.Record
	return info, err
}

// targetKey reads a private key, which may be followed by the line of a certificate for it, and returns its public half. It
// says what is wrong without quoting it.
func targetKey(secret []byte) (ssh.PublicKey, error) {
	const hint = "give the file without .pub, in OpenSSH or PEM form; `--generate` makes one"
	private, certificate := SplitKey(secret)
	signer, err := ssh.ParsePrivateKey(private)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, refuse("`ssh-keygen -p -N '' -f FILE` takes it off a copy", "the private key has a passphrase, and nobody will be there to type it")
	} else if err != nil {
		return nil, refuse(hint, "that is no private key")
	}
	key := signer.PublicKey()
	if key.Type() == "ssh-dss" {
		return nil, refuse("make an ed25519 key", "DSA keys are too weak")
	}
	if err := checkRSA(key); err != nil {
		return nil, err
	}
	if len(certificate) > 0 {
		public, _, _, _, err := ssh.ParseAuthorizedKey(certificate)
		cert, ok := public.(*ssh.Certificate)
		if err != nil || !ok || !bytes.Equal(cert.Key.Marshal(), key.Marshal()) {
			return nil, refuse("give the key, and after it the line of its -cert.pub", "what follows the key is no certificate for it")
		}
	}
	return key, nil
}

// SplitKey parts a credential of kind key into the private key and the certificate that may follow it.
func SplitKey(secret []byte) (private, certificate []byte) {
	end := []byte("PRIVATE KEY-----")
	if i := bytes.LastIndex(secret, end); i >= 0 {
		i += len(end)
		return secret[:i], bytes.TrimSpace(secret[i:])
	}
	return secret, nil
}

func (s *Service) credentialRemove(ctx context.Context, in CredentialIn) (Done, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	target, err := s.named(in.Target)
	if err != nil {
		return Done{}, err
	}
	all := s.Gate.TargetCredentials(target)
	i := slices.IndexFunc(all, func(c login.Credential) bool { return c.Account == in.Account })
	if i < 0 {
		return Done{}, refuse("`sallyport target list --json` shows them", "%s has no such credential", target)
	}
	return s.commit(ctx, s.about(target, change{
		event: "target.credential", account: in.Account, what: login.Change{DeleteCredential: &login.CredentialID{Target: target, Account: in.Account}},
		detail: []audit.Detail{{Key: "action", Value: "remove"}, {Key: "kind", Value: string(all[i].Kind)}},
	}))
}

// errQueueFull: so many keys wait already that one more is not kept. Whoever can make keys change can make many.
var errQueueFull = &Error{
	Text: "too many host keys wait for approval, so this one is not kept",
	Hint: "`sallyport target list` shows where they wait; `target trust NAME --remove FINGERPRINT` takes one away",
}

// OfferHostKey puts a key that a target has proved to have, in wire form (RFC 4253 section 6.6), where an operator can
// approve it. A key of which something is known already is left as it is. Each is recorded once.
func (s *Service) OfferHostKey(ctx context.Context, target string, wire []byte) error {
	key, err := ssh.ParsePublicKey(wire)
	if err != nil {
		return refuse("", "%s has shown a host key that cannot be read", target)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.setting(target)
	if err != nil {
		return err
	}
	ctx = asGateway(ctx)
	fingerprint := ssh.FingerprintSHA256(key)
	if _, known := s.findHostKey(t.Name, fingerprint); known || slices.ContainsFunc(t.Pinned, func(line string) bool { return pins(line, key) }) {
		return nil
	}
	if !s.Gate.RoomForPending(t.Name) {
		return errQueueFull
	}
	k := login.HostKey{
		Target: t.Name, Fingerprint: fingerprint, Type: key.Type(), Blob: key.Marshal(), State: login.HostKeyPending,
		First: s.moment(), Last: s.moment(), By: actorOf(ctx).Name,
	}
	_, err = s.commit(ctx, s.about(t.Name, change{
		event: "target.host_key", reason: login.ReasonHostKeyUnknown, what: login.Change{PutHostKey: &k},
		detail: []audit.Detail{{Key: "fingerprint", Value: k.Fingerprint}, {Key: "type", Value: k.Type}},
	}))
	return err
}

// asGateway says that the gateway itself does something, where nobody asked for it.
func asGateway(ctx context.Context) context.Context {
	if _, asked := ctx.Value(actorKey{}).(Actor); asked {
		return ctx
	}
	return WithActor(ctx, Actor{Name: "gateway", Road: "daemon"})
}

// pins tells whether a line of host_key is about a key, pinned or revoked.
func pins(line string, key ssh.PublicKey) bool {
	return strings.Contains(line, ssh.FingerprintSHA256(key)) ||
		strings.Contains(line, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
}

// The bounds of alerts: one in a while for each target and key, and so many of them remembered.
const (
	alertEvery = 10 * time.Minute
	maxAlerts  = 4096
)

// HostKeyAlert records that a target has shown a key that must not be taken, and why: host_key_changed or
// host_key_revoked. The same key of the same target is recorded once in ten minutes.
func (s *Service) HostKeyAlert(ctx context.Context, target string, wire []byte, why login.Reason) error {
	key, err := ssh.ParsePublicKey(wire)
	if err != nil {
		return refuse("", "%s has shown a host key that cannot be read", target)
	}
	fingerprint := ssh.FingerprintSHA256(key)
	if !s.due(target + "\x00" + fingerprint + "\x00" + string(why)) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.commit(asGateway(ctx), s.about(target, change{
		event: "target.host_key", result: audit.Reject, reason: why,
		detail: []audit.Detail{{Key: "fingerprint", Value: fingerprint}, {Key: "type", Value: key.Type()}, {Key: "known", Value: strconv.Itoa(len(s.Gate.TargetKeys(target)))}},
	}))
	return err
}

// due tells whether an alert is to be recorded now. What is beyond the bound is: silence would be worse.
func (s *Service) due(what string) bool {
	s.alertMu.Lock()
	defer s.alertMu.Unlock()
	now := s.Now()
	for old, at := range s.alerts {
		if now.Sub(at) >= alertEvery {
			delete(s.alerts, old)
		}
	}
	if _, lately := s.alerts[what]; lately {
		return false
	}
	if len(s.alerts) < maxAlerts {
		s.alerts[what] = now
	}
	return true
}
