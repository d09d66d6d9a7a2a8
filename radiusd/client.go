package radiusd

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gaissmai/bart"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"

	"sallyport/internal/login"
	"sallyport/radiusd/attr"
	"sallyport/radiusd/eap"
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

	Methods []Method    // by which people may log in; empty: all that the mode can take
	Joint   login.Joint // how password and code stand in one field, in mode Append
	Charset string      // what people's keyboards make where it is not UTF-8, by its name in the Encoding standard; empty: UTF-8 alone
	Quirks  []Quirk

	// Prompt is the Reply-Message of a challenge; empty: DefaultPrompt. It is a template (text/template) of a Prompting.
	Prompt string
	NoEcho bool // Prompt attribute 0 (No-Echo) instead of 1 (Echo)

	// SessionClass sends the attempt's id as a Class at the Accept, so that accounting tells which login it belongs to.
	SessionClass bool
	// Certificate says whom a connection over TLS must prove to be: a DNS name of the certificate, or "uri:", "cn:" or
	// "sha256:" and the URI, common name or fingerprint. The client is then reached by TLS alone, and Prefix may be empty.
	Certificate string
}

// Method is a way of proving a password or code over RADIUS.
type Method string

// The methods. EAP needs Config.EAP.
const (
	PAP      Method = "pap"
	CHAP     Method = "chap"
	MSCHAPv2 Method = "mschapv2"
	EAP      Method = "eap"
)

type methods uint8

const (
	methodPAP methods = 1 << iota
	methodCHAP
	methodMSCHAPv2
	methodEAP
)

func (m Method) bit() (methods, bool) {
	switch m {
	case PAP:
		return methodPAP, true
	case CHAP:
		return methodCHAP, true
	case MSCHAPv2:
		return methodMSCHAPv2, true
	case EAP:
		return methodEAP, true
	}
	return 0, false
}

// Quirk is something that a vendor's product does and no standard has.
type Quirk string

// FortiGateMSCHAPv2 is that of FortiGates that were told to use MS-CHAPv2: they answer a challenge for a code by another
// MS-CHAP2-Response, in which the code stands readable from the third byte on.
const FortiGateMSCHAPv2 Quirk = "fortigate-mschapv2-challenge"

// Prompting is what a prompt may tell.
type Prompting struct {
	Client string // the client's name here
	Node   string // the gateway's
	Name   string // as the person typed it
}

// DefaultFurther is asked when a person's directory asks something without saying what.
const DefaultFurther = "Answer: "

// Config is what a configuration says about RADIUS. SetConfig takes it as a whole.
type Config struct {
	Clients []Client
	Replies map[string]*attr.Reply // by rule name: what an Access-Accept under that rule carries
	// Realms are what may stand before or behind a name: REALM\alice and alice@realm are alice, in any case.
	Realms []string
	// Evidence tells that some people's passwords are checked by another RADIUS server, which can check CHAP and MS-CHAPv2.
	Evidence bool
	// EAP holds conversations with people who log in by EAP. Nil: those who try are refused.
	EAP *eap.Server
	// ChallengeFor is what a challenge tells the NAS about how long it is good, as Session-Timeout. Zero: nothing.
	ChallengeFor time.Duration
}

// client is a Client made ready for packets. It is immutable, but for its tally.
type client struct {
	Client
	key       *wire.Secret
	charset   encoding.Encoding  // nil: UTF-8
	prompt    *template.Template // nil: Prompt is plain text
	methods   methods
	fortiGate bool
	stateAAD  []byte
	eapAAD    []byte // of State in EAP conversations
	system    login.System
	proofs    []login.Proof // mode Code: the NAS has checked a password
	tally     *tally
}

// settings is a Config made ready for packets. It is immutable.
type settings struct {
	clients      bart.Table[*client]
	certificates map[string]*client // by what a certificate says, see identities
	list         []*client
	names        map[string]*client
	replies      map[string]*attr.Reply
	realms       map[string]bool // in lower case
	evidence     bool
	eap          *eap.Server
	challengeFor uint32 // seconds, 0: not said
}

// plainName takes a realm of ours off a name.
func (s *settings) plainName(name string) string {
	if len(s.realms) == 0 {
		return name
	}
	if realm, rest, found := strings.Cut(name, `\`); found && s.realms[strings.ToLower(realm)] {
		return rest
	}
	if at := strings.LastIndexByte(name, '@'); at >= 0 && s.realms[strings.ToLower(name[at+1:])] {
		return name[:at]
	}
	return name
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
	names, prefixes, certificates := make(map[string]bool), make(map[netip.Prefix]string), make(map[string]string)
	for i := range c.Clients {
		cl := &c.Clients[i]
		for _, err := range cl.validate() {
			errs = append(errs, fmt.Errorf("client %q: %w", cl.Name, err))
		}
		if names[cl.Name] {
			errs = append(errs, fmt.Errorf("client %q: the name stands twice", cl.Name))
		}
		names[cl.Name] = true
		if cl.Certificate != "" {
			if other, taken := certificates[certificateKey(cl.Certificate)]; taken {
				errs = append(errs, fmt.Errorf("client %q: certificate %q is already that of client %q", cl.Name, cl.Certificate, other))
			}
			certificates[certificateKey(cl.Certificate)] = cl.Name
			continue
		}
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
	case c.overTLS(): // the secret is "radsec" (RFC 6614 section 2.3)
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
	for _, m := range c.Methods {
		if _, ok := m.bit(); !ok {
			errs = append(errs, fmt.Errorf("method %q: want pap, chap, mschapv2 or eap", string(m)))
		}
	}
	for _, q := range c.Quirks {
		if q != FortiGateMSCHAPv2 {
			errs = append(errs, fmt.Errorf("quirk %q: want %s", string(q), FortiGateMSCHAPv2))
		}
	}
	if _, err := charsetOf(c.Charset); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.compilePrompt(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

func (c *Client) overTLS() bool { return c.Certificate != "" }

// charsetOf finds a charset by its name in the Encoding standard (https://encoding.spec.whatwg.org), which has those that
// are in use; nil is UTF-8.
func charsetOf(name string) (encoding.Encoding, error) {
	if name == "" {
		return nil, nil
	}
	e, err := htmlindex.Get(name)
	if err != nil {
		return nil, fmt.Errorf("charset %q is not known: windows-1252 and iso-8859-15 are the usual ones", name)
	}
	if canonical, err := htmlindex.Name(e); err == nil && canonical == "utf-8" {
		return nil, nil
	}
	return e, nil
}

// compilePrompt returns nil when the prompt is plain text.
func (c *Client) compilePrompt() (*template.Template, error) {
	switch {
	case !utf8.ValidString(c.Prompt) || strings.ContainsRune(c.Prompt, 0):
		return nil, errors.New("the prompt is not UTF-8 text")
	case !strings.Contains(c.Prompt, "{{"):
		if len(c.Prompt) > wire.MaxValue {
			return nil, fmt.Errorf("the prompt has %d octets, and Reply-Message holds %d", len(c.Prompt), wire.MaxValue)
		}
		return nil, nil
	}
	t, err := template.New("prompt").Parse(c.Prompt)
	if err == nil {
		err = t.Execute(io.Discard, Prompting{})
	}
	if err != nil {
		return nil, fmt.Errorf("the prompt is no template of {{.Client}}, {{.Node}} and {{.Name}}: %w", err)
	}
	if strings.Contains(c.Prompt, ".Name") && !c.RequireMessageAuthenticator && !c.overTLS() {
		return nil, errors.New("the prompt repeats what a person typed, which helps whoever forges answers to requests without Message-Authenticator (CVE-2024-3596)")
	}
	return t, nil
}

// promptFor is the question for the code.
func (c *client) promptFor(r *request, node string) string {
	if c.prompt == nil {
		return c.Prompt
	}
	var text strings.Builder
	name := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, r.view.UserName.Text(r.packet))
	if c.prompt.Execute(&text, Prompting{Client: c.Name, Node: node, Name: cutText(name, login.MaxName)}) != nil {
		return DefaultPrompt
	}
	return cutText(text.String(), wire.MaxValue)
}

// Warnings tells what is permitted and yet unwise about c, a sentence each.
func (c *Client) Warnings() []string {
	var w []string
	if c.overTLS() {
		return nil
	}
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
	s := &settings{certificates: make(map[string]*client), names: make(map[string]*client), replies: make(map[string]*attr.Reply, len(c.Replies)), challengeFor: uint32(c.ChallengeFor / time.Second)}
	for rule, r := range c.Replies {
		s.replies[rule] = r
	}
	s.evidence, s.eap, s.realms = c.Evidence, c.EAP, make(map[string]bool)
	for _, realm := range c.Realms {
		s.realms[strings.ToLower(realm)] = true
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
		cl.prompt, _ = cfg.compilePrompt()
		cl.charset, _ = charsetOf(cfg.Charset)
		cl.fortiGate = slices.Contains(cfg.Quirks, FortiGateMSCHAPv2)
		for _, m := range cfg.Methods {
			bit, _ := m.bit()
			cl.methods |= bit
		}
		if cl.methods == 0 {
			cl.methods = methodPAP | methodCHAP | methodMSCHAPv2 | methodEAP
		}
		cl.Tags = append([]string(nil), cfg.Tags...)
		cl.stateAAD = append([]byte("radius state\x00"), cl.Name...)
		cl.eapAAD = append([]byte("radius eap state\x00"), cl.Name...)
		cl.system = login.System{Name: cl.Name, Tags: cl.Tags, Class: cl.Class}
		if cl.overTLS() {
			cl.key = wire.NewSecret([]byte(tlsSecret))
			s.certificates[certificateKey(cl.Certificate)] = cl
		} else {
			s.clients.Insert(cl.Prefix, cl)
		}
		s.list, s.names[cl.Name] = append(s.list, cl), cl
	}
	return s, nil
}
