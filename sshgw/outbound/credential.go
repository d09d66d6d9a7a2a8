package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// The kinds of credential, as the configuration and the records call them.
const (
	KindAgent    = "agent"
	KindKey      = "key"
	KindPassword = "password"
	KindCA       = "ca"
	KindAsk      = "ask"
)

// Credential is what is shown to a target. Those that this package makes are the only ones; each may be used for many
// logins at a time, unless it says otherwise.
type Credential interface {
	// Kind is one of the kinds above.
	Kind() string

	methods(a *attempt) ([]ssh.AuthMethod, error)
	patience(t Times) time.Duration
}

// Refused is why a credential was not shown, or not again.
type Refused string

func (r Refused) Error() string { return string(r) }

// The reasons for which a credential is not shown.
const (
	ErrAskedAgain   Refused = "it asked for the password again"
	ErrOddPrompt    Refused = "it asked for something other than one password"
	ErrNoKeys       Refused = "the agent has no key that may be shown"
	ErrAgentFailed  Refused = "the agent did not answer"
	ErrNoAnswer     Refused = "the person gave no answer"
	ErrTooMuchAsked Refused = "it asked too much"
)

// --- a sealed key

type keyCredential struct {
	signer ssh.Signer
}

// NewKey makes a credential of a private key in OpenSSH or PEM form, without a passphrase, and perhaps a certificate for
// it, in one line as ssh-keygen -s writes it. Errors hold nothing of either.
func NewKey(private, certificate []byte) (Credential, error) {
	signer, err := ParsePrivateKey(private)
	if err != nil {
		return nil, err
	}
	if len(certificate) == 0 {
		return keyCredential{signer}, nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(certificate)
	cert, ok := public.(*ssh.Certificate)
	if err != nil || !ok {
		return nil, errors.New("the certificate is none")
	}
	if signer, err = ssh.NewCertSigner(cert, signer); err != nil {
		return nil, errors.New("the certificate is for another key")
	}
	return keyCredential{signer}, nil
}

// NewSealed makes a credential of what is kept sealed: of kind key, a private key and perhaps the line of its certificate
// after it; of kind password, a password.
func NewSealed(kind string, secret []byte) (Credential, error) {
	switch kind {
	case KindPassword:
		return NewPassword(string(secret)), nil
	case KindKey:
		end := []byte("PRIVATE KEY-----")
		if i := bytes.LastIndex(secret, end); i >= 0 {
			i += len(end)
			return NewKey(secret[:i], bytes.TrimSpace(secret[i:]))
		}
		return NewKey(secret, nil)
	default:
		return nil, fmt.Errorf("a credential of kind %q is not kept", kind)
	}
}

// ParsePrivateKey reads a private key, and says what is wrong with it without quoting it.
func ParsePrivateKey(private []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(private)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, errors.New("the private key has a passphrase, and nobody is there to type it")
	} else if err != nil {
		return nil, errors.New("that is no private key in OpenSSH or PEM form")
	}
	return signer, nil
}

func (keyCredential) Kind() string                   { return KindKey }
func (keyCredential) patience(t Times) time.Duration { return t.Login }

func (k keyCredential) methods(a *attempt) ([]ssh.AuthMethod, error) {
	return keyMethod(a, k.signer)
}

func keyMethod(a *attempt, signer ssh.Signer) ([]ssh.AuthMethod, error) {
	limited, ok := a.algs.signer(signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %s may not be shown to this target by its algorithms", signer.PublicKey().Type())
	}
	return []ssh.AuthMethod{ssh.PublicKeys(limited)}, nil
}

// --- a sealed password

type passwordCredential struct{ secret string }

// NewPassword makes a credential of a password. It is sent once in a login: by the password method where the target has
// that, else as the answer to a prompt without echo (RFC 4256). A target that asks again, or for more, gets nothing.
func NewPassword(secret string) Credential { return passwordCredential{secret} }

func (passwordCredential) Kind() string                   { return KindPassword }
func (passwordCredential) patience(t Times) time.Duration { return t.Login }

// Format prints a word instead of the secret, for every verb of fmt.
func (passwordCredential) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[password]") }

func (p passwordCredential) methods(a *attempt) ([]ssh.AuthMethod, error) {
	sent := false
	once := func() (string, error) {
		if sent {
			a.cause = ErrAskedAgain
			return "", a.cause
		}
		sent = true
		return p.secret, nil
	}
	return []ssh.AuthMethod{
		ssh.PasswordCallback(once),
		ssh.KeyboardInteractive(func(_, _ string, prompts []string, echos []bool) ([]string, error) {
			switch {
			case len(prompts) == 0:
				return nil, nil
			case sent:
				a.cause = ErrAskedAgain
				return nil, a.cause
			case len(prompts) != 1 || echos[0]:
				a.cause = ErrOddPrompt
				return nil, a.cause
			}
			secret, err := once()
			return []string{secret}, err
		}),
	}, nil
}

// --- a forwarded agent

// AgentOptions are how a person's agent is used.
type AgentOptions struct {
	Prefer []string // fingerprints of the keys to try first: the one that the person has logged in with
	Most   int      // keys that are tried; 0: DefaultAgentKeys
}

// DefaultAgentKeys is how many keys of an agent are tried. OpenSSH's sshd ends a login at the sixth failure, and its
// counting begins with the query whether a key would do.
const DefaultAgentKeys = 6

// maxAgentKeys bounds the keys that are looked at.
const maxAgentKeys = 256

type agentCredential struct {
	conn io.ReadWriteCloser
	o    AgentOptions
}

// NewAgent makes a credential of a person's forwarded agent. The connection is the caller's, for one login at a time; it is
// closed when the login is given up while the agent is asked.
func NewAgent(conn io.ReadWriteCloser, o AgentOptions) Credential {
	if o.Most <= 0 {
		o.Most = DefaultAgentKeys
	}
	return agentCredential{conn, o}
}

func (agentCredential) Kind() string                   { return KindAgent }
func (agentCredential) patience(t Times) time.Duration { return t.Person } // keys may want to be touched

func (c agentCredential) methods(a *attempt) ([]ssh.AuthMethod, error) {
	// A call that waits for the agent ends when the attempt does.
	context.AfterFunc(a.ctx, func() {
		a.mu.Lock()
		over := a.over
		a.mu.Unlock()
		if !over {
			c.conn.Close()
		}
	})
	return []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
		signers, err := agent.NewClient(c.conn).Signers()
		if err != nil {
			a.cause = ErrAgentFailed
			return nil, a.cause
		}
		keys := c.choose(a.algs, signers[:min(len(signers), maxAgentKeys)])
		if len(keys) == 0 {
			a.cause = ErrNoKeys
			return nil, a.cause
		}
		return keys, nil
	})}, nil
}

// choose puts the preferred keys first, and drops those that may not be shown.
func (c agentCredential) choose(algs Algorithms, signers []ssh.Signer) []ssh.Signer {
	preferred := func(s ssh.Signer) int {
		if i := slices.Index(c.o.Prefer, fingerprintOf(s.PublicKey())); i >= 0 {
			return i
		}
		return len(c.o.Prefer)
	}
	slices.SortStableFunc(signers, func(x, y ssh.Signer) int { return preferred(x) - preferred(y) })
	var keys []ssh.Signer
	for _, s := range signers {
		if limited, ok := algs.signer(s); ok && len(keys) < c.o.Most {
			keys = append(keys, limited)
		}
	}
	return keys
}

// fingerprintOf is a key's fingerprint; a certificate's is that of its key. An agent's keys are only bytes yet.
func fingerprintOf(key ssh.PublicKey) string {
	if parsed, err := ssh.ParsePublicKey(key.Marshal()); err == nil {
		key = parsed
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
	}
	return ssh.FingerprintSHA256(key)
}

// --- a certificate of the gateway's own

// Identity is whom a certificate is for.
type Identity struct {
	Person  string
	Session string
	Account string        // the principal
	For     time.Duration // from now; 0: DefaultValidity
}

// DefaultValidity is how long a certificate lasts, and how far back it reaches for clocks that differ.
const DefaultValidity = 5 * time.Minute

type caCredential struct {
	ca *CA
	id Identity
}

// NewCertificate makes a credential of the user CA: each login has a key of its own, which is never stored, and a
// certificate for it.
func NewCertificate(ca *CA, id Identity) Credential { return caCredential{ca, id} }

func (caCredential) Kind() string                   { return KindCA }
func (caCredential) patience(t Times) time.Duration { return t.Login }

func (c caCredential) methods(a *attempt) ([]ssh.AuthMethod, error) {
	now := time.Now
	if a.options.Now != nil {
		now = a.options.Now
	}
	signer, err := c.ca.UserCertificate(c.id, now())
	if err != nil {
		return nil, err
	}
	return keyMethod(a, signer)
}

// --- asking the person

// Ask relays a target's prompts to the person, and returns one answer for each. Texts are the target's own: any bytes.
// It ends with ctx.
type Ask func(ctx context.Context, name, instruction string, prompts []string, echos []bool) ([]string, error)

type askCredential struct{ ask Ask }

// NewAsk makes a credential of the person's own answers. For the password method the person gets one prompt.
func NewAsk(ask Ask) Credential { return askCredential{ask: ask} }

func (askCredential) Kind() string                   { return KindAsk }
func (askCredential) patience(t Times) time.Duration { return t.Login } // and Person for each answer

// The most that a target may ask for in one login.
const (
	maxRounds  = 8
	maxPrompts = 16
	maxPrompt  = 4096 // bytes of one round's texts
	askTries   = 3    // passwords
)

func (c askCredential) methods(a *attempt) ([]ssh.AuthMethod, error) {
	rounds := 0
	ask := func(name, instruction string, prompts []string, echos []bool) ([]string, error) {
		size := len(name) + len(instruction)
		for _, p := range prompts {
			size += len(p)
		}
		if rounds++; rounds > maxRounds || len(prompts) > maxPrompts || size > maxPrompt {
			a.cause = ErrTooMuchAsked
			return nil, a.cause
		}
		a.enter(StepLogin, a.times.Person)
		answers, err := c.ask(a.ctx, name, instruction, prompts, echos)
		if err != nil {
			a.cause = ErrNoAnswer
			return nil, a.cause
		}
		a.enter(StepLogin, a.times.Login)
		return answers, nil
	}
	return []ssh.AuthMethod{
		ssh.RetryableAuthMethod(ssh.KeyboardInteractive(ask), askTries),
		ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
			prompt := fmt.Sprintf("%s@%s's password: ", a.target.User, a.target.Name)
			answers, err := ask("", "", []string{prompt}, []bool{false})
			if err != nil {
				return "", err
			}
			if len(answers) != 1 {
				a.cause = ErrNoAnswer
				return "", a.cause
			}
			return answers[0], nil
		}), askTries),
	}, nil
}
