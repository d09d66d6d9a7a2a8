package admin

import (
	"context"
	"crypto/rsa"
	"errors"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// KeyAdd is the input of key.add: one line as in authorized_keys (sshd(8)), without options.
type KeyAdd struct {
	Person string `json:"person"`
	Line   string `json:"line"`
	// What the key of a service identity is bound to: all three, or, for people, none.
	Sources []string `json:"sources,omitempty"` // addresses and prefixes
	Target  string   `json:"target,omitempty"`
	Command string   `json:"command,omitempty"`
}

// KeyIn names one key of a person.
type KeyIn struct {
	Person      string `json:"person"`
	Fingerprint string `json:"fingerprint"`
}

// KeyInfo is a key as shown.
type KeyInfo struct {
	Person      string    `json:"person"`
	Fingerprint string    `json:"fingerprint"`
	Type        string    `json:"type"`
	Comment     string    `json:"comment,omitempty"`
	Created     time.Time `json:"created"`
	Used        time.Time `json:"last_used,omitzero"` // when a login was last accepted by it; of lists

	Bound *login.Binding `json:"bound,omitempty"`
}

func keyInfo(k login.Key) KeyInfo {
	return KeyInfo{Person: k.Person, Fingerprint: k.Fingerprint, Type: k.Type, Comment: k.Comment, Created: k.Created, Bound: k.Bound}
}

// MinRSA is the shortest RSA key, in bits, that is registered.
const MinRSA = 2048

// maxKeyLine bounds a line of authorized_keys; an RSA key of 16,384 bits has about 2,800 bytes.
const maxKeyLine = 16 * 1024

func (s *Service) keyVerbs() {
	Handle(s, "key.add", s.keyAdd)
	Handle(s, "key.list", s.keyList)
	Handle(s, "key.remove", s.keyRemove)
}

// parseKey reads one line, and says what is wrong with it without quoting it: it may be a private key.
func parseKey(line string) (ssh.PublicKey, string, error) {
	const hint = "give the one line of the file that ends in .pub"
	if strings.Contains(line, "PRIVATE KEY") {
		return nil, "", refuse(hint, "that is a private key: it should stay where it was, and be replaced now that it was shown")
	}
	if len(line) > maxKeyLine {
		return nil, "", refuse(hint, "the key has %d bytes: at most %d", len(line), maxKeyLine)
	}
	key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return nil, "", refuse(hint, "that is not an SSH public key")
	case len(options) > 0:
		return nil, "", refuse("remove what stands before the key type", "options before a key are not kept, and so not taken")
	case strings.TrimSpace(string(rest)) != "":
		return nil, "", refuse("add them one by one", "there is more than one key")
	}
	if strings.Contains(key.Type(), "-cert-") {
		return nil, "", refuse(hint, "that is a certificate, not a key")
	}
	if key.Type() == "ssh-dss" { //nolint — the type's only name
		return nil, "", refuse("make an ed25519 key", "DSA keys are too weak")
	}
	if err := checkRSA(key); err != nil {
		return nil, "", err
	}
	return key, comment, nil
}

func checkRSA(key ssh.PublicKey) error {
	crypto, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil
	}
	if pub, ok := crypto.CryptoPublicKey().(*rsa.PublicKey); ok && pub.N.BitLen() < MinRSA {
		return refuse("make an ed25519 key", "an RSA key of %d bits is too weak: at least %d", pub.N.BitLen(), MinRSA)
	}
	return nil
}

func (s *Service) keyAdd(ctx context.Context, in KeyAdd) (KeyInfo, error) {
	key, comment, err := parseKey(in.Line)
	if err != nil {
		return KeyInfo{}, err
	}
	k := login.Key{
		Person: in.Person, Fingerprint: ssh.FingerprintSHA256(key), Type: key.Type(), Blob: key.Marshal(),
		Comment: clip(comment), Created: s.Now().UTC().Truncate(time.Millisecond),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Person)
	if err != nil {
		return KeyInfo{}, err
	}
	if k.Bound, err = s.bindingOf(p, in); err != nil {
		return KeyInfo{}, err
	}
	errTaken := errors.New("taken")
	owner := ""
	err = s.Store.Keys(ctx, func(other login.Key) error {
		if other.Fingerprint == k.Fingerprint {
			owner = other.Person
			return errTaken
		}
		return nil
	})
	if errors.Is(err, errTaken) {
		// One key proves one person: shared keys would make the records lie.
		return KeyInfo{}, refuse("each person needs a key of his own", "key %s is registered already, for %s", k.Fingerprint, owner)
	} else if err != nil {
		return KeyInfo{}, err
	}
	_, err = s.commit(ctx, change{
		event: "key.add", person: p.Name, kind: p.Kind, what: login.Change{PutKey: &k},
		detail: append([]audit.Detail{{Key: "fingerprint", Value: k.Fingerprint}, {Key: "type", Value: k.Type}}, bindingDetail(k.Bound)...),
	})
	return keyInfo(k), err
}

// maxBoundCommand bounds the command that a key is bound to, in bytes.
const maxBoundCommand = 1024

// bindingOf checks what a key is to be bound to: for a service identity everything, for people nothing.
func (s *Service) bindingOf(p login.Person, in KeyAdd) (*login.Binding, error) {
	given := len(in.Sources) > 0 || in.Target != "" || in.Command != ""
	if p.Kind != login.Service {
		if given {
			return nil, refuse("user add --kind service makes a service identity", "%s is not a service identity, and people's keys are bound to nothing", p.Name)
		}
		return nil, nil
	}
	const hint = "key add " + "NAME --source 10.0.0.7 --target srv1 --command 'backup run' < key.pub"
	if len(in.Sources) == 0 || in.Target == "" || strings.TrimSpace(in.Command) == "" || len(in.Command) > maxBoundCommand {
		return nil, refuse(hint, "the key of a service identity is bound to addresses, a target and a command")
	}
	t, err := s.setting(in.Target)
	if err != nil {
		return nil, err
	}
	b := &login.Binding{Target: t.Name, Command: in.Command}
	for _, text := range in.Sources {
		prefix, err := netip.ParsePrefix(text)
		if addr, aerr := netip.ParseAddr(text); aerr == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil || prefix.Masked() != prefix || prefix.Bits() == 0 || prefix.Addr().Is4In6() {
			return nil, refuse("10.0.0.7, 10.0.0.0/24, 2001:db8::/64", "%q is not an address or a network", clip(text))
		}
		b.Sources = append(b.Sources, prefix)
	}
	return b, nil
}

func bindingDetail(b *login.Binding) []audit.Detail {
	if b == nil {
		return nil
	}
	var sources []string
	for _, p := range b.Sources {
		sources = append(sources, p.String())
	}
	return []audit.Detail{{Key: "bound_target", Value: b.Target}, {Key: "bound_command", Value: b.Command}, {Key: "bound_sources", Value: strings.Join(sources, ",")}}
}

func (s *Service) keyList(ctx context.Context, in TokenList) ([]KeyInfo, error) {
	list := []KeyInfo{}
	if in.Person != "" {
		if _, err := s.person(ctx, in.Person); err != nil {
			return nil, err
		}
	}
	err := s.Store.Keys(ctx, func(k login.Key) error {
		if in.Person == "" || in.Person == k.Person {
			info := keyInfo(k)
			info.Used = s.Gate.KeyUsed(k.Fingerprint)
			list = append(list, info)
		}
		return nil
	})
	return list, err
}

func (s *Service) keyRemove(ctx context.Context, in KeyIn) (Done, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Person)
	if err != nil {
		return Done{}, err
	}
	keys, err := s.Store.KeysOf(ctx, p.Name)
	if err != nil {
		return Done{}, err
	}
	for _, k := range keys {
		if k.Fingerprint == in.Fingerprint {
			return s.commit(ctx, change{
				event: "key.remove", person: p.Name, kind: p.Kind, what: login.Change{DeleteKey: k.Fingerprint},
				detail: []audit.Detail{{Key: "fingerprint", Value: k.Fingerprint}},
			})
		}
	}
	return Done{}, refuse("`sallyport key list "+p.Name+"` shows them", "%s has no key %q", p.Name, clip(in.Fingerprint))
}
