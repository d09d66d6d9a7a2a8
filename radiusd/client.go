package radiusd

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gaissmai/bart"

	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

// Mode is how a client's people give their code.
type Mode string

// The modes. The zero Mode is Challenge.
const (
	Challenge Mode = "challenge" // password first, then an Access-Challenge for the code
	Append    Mode = "append"    // password and code in one field, the code last
	Code      Mode = "code"      // the code alone: the NAS has checked the password itself
)

// DefaultPrompt is what a person reads in an Access-Challenge. pam_radius takes a challenge without Reply-Message for
// a failure.
const DefaultPrompt = "One-time code: "

// Bounds on secrets, in octets. FreeRADIUS, radcli and pam_radius cut or refuse secrets at different lengths, some of
// them silently; advice for 24 random octets and more is in draft-ietf-radext-deprecating-radius.
const (
	weakSecret = 12
	longSecret = 48
	maxSecret  = 1024
)

// Client is a NAS, or a network of like ones, that may ask.
type Client struct {
	Name   string
	Prefix netip.Prefix // v4, v6, or v4 mapped into v6
	Secret []byte
	Mode   Mode
	Class  string // of the system: remote, privileged-external, privileged-internal
	Tags   []string

	// RequireMessageAuthenticator drops requests without one. It should be set, unless old firmware leaves no choice.
	RequireMessageAuthenticator bool
	// LimitProxyState drops requests that have Proxy-State and no Message-Authenticator. It matters only without
	// RequireMessageAuthenticator, and must be off for real proxies that send none.
	LimitProxyState bool
	// StatusServer answers Status-Server (RFC 5997).
	StatusServer bool

	Prompt string // Reply-Message of a challenge; empty: DefaultPrompt
	NoEcho bool   // Prompt attribute 0 (No-Echo) instead of 1 (Echo)
}

// Config is what a configuration says about RADIUS. SetConfig takes it as a whole.
type Config struct {
	Clients []Client
	Replies map[string]*Reply // by rule name: what an Access-Accept under that rule carries
	// ChallengeFor is what a challenge tells the NAS about how long it is good, as Session-Timeout. Zero: nothing.
	ChallengeFor time.Duration
}

// client is a Client made ready for packets. It is immutable, but for its tally.
type client struct {
	Client
	key      *wire.Secret
	stateAAD []byte
	system   login.System
	proofs   []login.Proof // mode Code: the NAS has checked a password
	tally    *tally
}

// settings is a Config made ready for packets. It is immutable.
type settings struct {
	clients      bart.Table[*client]
	list         []*client
	replies      map[string]*Reply
	challengeFor uint32 // seconds, 0: not said
}

// lookup finds the client of a source address: v4 is found also when it comes mapped into v6, and a v6 zone does not
// matter.
func (s *settings) lookup(addr netip.Addr) *client {
	c, _ := s.clients.Lookup(addr)
	return c
}

func plainAddr(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Zone() != "" {
		a = a.WithZone("")
	}
	return a
}

// plainPrefix turns a prefix of mapped addresses into one of v4, and clears the bits behind its length.
func plainPrefix(p netip.Prefix) (netip.Prefix, error) {
	const mappedBits = 96
	if p.Addr().Is4In6() {
		if p.Bits() < mappedBits {
			return p, fmt.Errorf("prefix %v spans more than the mapped v4 addresses", p)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	p = p.Masked()
	if !p.IsValid() {
		return p, errors.New("no valid address or prefix")
	}
	return p, nil
}

// Validate returns every mistake in c.
func (c *Config) Validate() []error {
	var errs []error
	names, prefixes := make(map[string]bool), make(map[netip.Prefix]string)
	for i := range c.Clients {
		cl := &c.Clients[i]
		for _, err := range cl.validate() {
			errs = append(errs, fmt.Errorf("client %q: %w", cl.Name, err))
		}
		if names[cl.Name] {
			errs = append(errs, fmt.Errorf("client %q: the name stands twice", cl.Name))
		}
		names[cl.Name] = true
		p, err := plainPrefix(cl.Prefix)
		if err != nil {
			errs = append(errs, fmt.Errorf("client %q: %w", cl.Name, err))
			continue
		}
		if other, taken := prefixes[p]; taken {
			errs = append(errs, fmt.Errorf("client %q: %v is already client %q", cl.Name, p, other))
		}
		prefixes[p] = cl.Name
	}
	if c.ChallengeFor < 0 || c.ChallengeFor/time.Second > math.MaxUint32 {
		errs = append(errs, fmt.Errorf("life of a challenge %v: out of range", c.ChallengeFor))
	}
	return errs
}

func (c *Client) validate() []error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("no name"))
	}
	switch {
	case len(c.Secret) == 0: // RFC 2865 section 3
		errs = append(errs, errors.New("the shared secret is empty"))
	case len(c.Secret) > maxSecret:
		errs = append(errs, fmt.Errorf("the shared secret has more than %d octets", maxSecret))
	}
	switch c.Mode {
	case "", Challenge, Append, Code:
	default:
		errs = append(errs, fmt.Errorf("mode %q: want challenge, append or code", string(c.Mode)))
	}
	if len(c.Prompt) > wire.MaxValue {
		errs = append(errs, fmt.Errorf("the prompt has %d octets, and Reply-Message holds %d", len(c.Prompt), wire.MaxValue))
	}
	if !utf8.ValidString(c.Prompt) || strings.ContainsRune(c.Prompt, 0) {
		errs = append(errs, errors.New("the prompt is not UTF-8 text"))
	}
	return errs
}

// Warnings tells what is permitted and yet unwise about c, a sentence each.
func (c *Client) Warnings() []string {
	var w []string
	if len(c.Secret) <= weakSecret {
		w = append(w, fmt.Sprintf("the shared secret has only %d octets; 24 random ones resist guessing", len(c.Secret)))
	}
	if len(c.Secret) > longSecret {
		w = append(w, fmt.Sprintf("the shared secret has %d octets; some clients cut off or refuse more than %d", len(c.Secret), longSecret))
	}
	if !c.RequireMessageAuthenticator {
		w = append(w, "requests without Message-Authenticator are answered, which leaves answers open to forgery (CVE-2024-3596)")
	}
	if a := plainAddr(c.Prefix.Addr()); a.IsValid() && !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
		w = append(w, "RADIUS over UDP to a public address exposes user names and weakly hides passwords; use it only inside a VPN")
	}
	return w
}

// ready makes c ready for packets. Tallies of clients that stay are kept.
func (c *Config) ready(old *settings) (*settings, error) {
	if errs := c.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s := &settings{replies: make(map[string]*Reply, len(c.Replies)), challengeFor: uint32(c.ChallengeFor / time.Second)}
	for rule, r := range c.Replies {
		s.replies[rule] = r
	}
	tallies := make(map[string]*tally)
	if old != nil {
		for _, cl := range old.list {
			tallies[cl.Name] = cl.tally
		}
	}
	for _, cfg := range c.Clients {
		cl := &client{Client: cfg, key: wire.NewSecret(cfg.Secret), tally: tallies[cfg.Name]}
		cl.Secret = nil // the copy in key serves
		cl.Prefix, _ = plainPrefix(cfg.Prefix)
		if cl.tally == nil {
			cl.tally = new(tally)
		}
		if cl.Mode == "" {
			cl.Mode = Challenge
		}
		if cl.Mode == Code {
			cl.proofs = []login.Proof{{Kind: login.Know, Method: "nas-password", ID: cl.Name}}
		}
		if cl.Prompt == "" {
			cl.Prompt = DefaultPrompt
		}
		cl.Tags = append([]string(nil), cfg.Tags...)
		cl.stateAAD = append([]byte("radius state\x00"), cl.Name...)
		cl.system = login.System{Name: cl.Name, Tags: cl.Tags, Class: cl.Class}
		s.clients.Insert(cl.Prefix, cl)
		s.list = append(s.list, cl)
	}
	return s, nil
}
