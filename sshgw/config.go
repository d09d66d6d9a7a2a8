package sshgw

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshgw/door"
	"sallyport/sshgw/route"
)

// Prompts is how password and code are asked for.
type Prompts uint8

// The ways of asking.
const (
	OneRound  Prompts = iota // both in one round: one dialogue in WinSCP and FileZilla
	TwoRounds                // first the password, then the code
)

// The parts of a Config that have packages of their own.
type (
	Target    = route.Target
	JumpMode  = route.JumpMode
	User      = route.User
	Startups  = door.Startups
	Penalties = door.Rules
)

// The modes of a jump. The zero JumpMode is Off.
const (
	Off      = route.Off
	Opaque   = route.Opaque
	Recorded = route.Recorded
	Unsaid   = route.Unsaid
)

// ParseJumpMode reads the words of the configuration: off, opaque, recorded.
func ParseJumpMode(word string) (JumpMode, error) { return route.ParseJumpMode(word) }

// ParseUser takes an SSH user name apart: `alice`, `alice@core-sw1` or `alice@root@srv1`, where `%` may stand for `@`.
func ParseUser(name string) (User, error) { return route.ParseUser(name) }

// Config is what the configuration file says about SSH. Zero fields take DefaultConfig's values.
type Config struct {
	Targets         []Target
	HostKeys        []ssh.Signer
	Prompts         Prompts
	GraceFirst      time.Duration // from accept to the first factor proved or answered
	GraceSecond     time.Duration // added once, then
	MaxStartups     Startups
	PerSourceStarts int // connections of one source that have not logged in
	MaxConnections  int // connections in all
	Penalties       Penalties
	MaxChannels     int           // open channels of one connection
	KeepaliveEvery  time.Duration // negative: none
	KeepaliveMisses int
	UnusedTimeout   time.Duration   // ends a connection without channels; negative: never
	Ciphers         []string        // a subset of SupportedCiphers, in order
	UserCAs         []ssh.PublicKey // whose certificates prove something had
	// Balancers are the load balancers that say, by the PROXY protocol, for whom they connect; they have to.
	Balancers  []netip.Prefix
	Recordings *Recordings // nil: nothing can be recorded, and what must be is refused
}

// DefaultConfig returns the values for fields that a Config leaves zero. It has no targets and no host keys.
//
// Begin and Full are above sshd's 10:30:100, since people who type codes linger, and one start costs at most
// maxStartBytes and a few goroutines here.
func DefaultConfig() Config {
	return Config{
		GraceFirst:      time.Minute,
		GraceSecond:     time.Minute,
		MaxStartups:     Startups{Begin: 50, Rate: 30, Full: 200},
		PerSourceStarts: 32,
		MaxConnections:  4096,
		Penalties:       door.DefaultRules(),
		MaxChannels:     32,
		KeepaliveEvery:  30 * time.Second,
		KeepaliveMisses: 3,
		UnusedTimeout:   15 * time.Minute,
		Ciphers:         SupportedCiphers(),
	}
}

// filled returns c with the defaults in its zero fields.
func (c Config) filled() Config {
	d := DefaultConfig()
	fill(&c.GraceFirst, d.GraceFirst)
	fill(&c.GraceSecond, d.GraceSecond)
	fill(&c.MaxStartups, d.MaxStartups)
	fill(&c.PerSourceStarts, d.PerSourceStarts)
	fill(&c.MaxConnections, d.MaxConnections)
	fill(&c.MaxChannels, d.MaxChannels)
	fill(&c.KeepaliveEvery, d.KeepaliveEvery)
	fill(&c.KeepaliveMisses, d.KeepaliveMisses)
	fill(&c.UnusedTimeout, d.UnusedTimeout)
	c.Penalties = c.Penalties.Filled()
	if len(c.Ciphers) == 0 {
		c.Ciphers = d.Ciphers
	}
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// The most that a configuration may ask for, so that a typing error cannot unbound what strangers can grow (P7).
const (
	maxStartsLimit   = 10_000
	maxChannelsLimit = 1024
	maxGrace         = 10 * time.Minute
)

// settings is a checked Config. It is never changed.
type settings struct {
	Config
	routes *route.Table
}

// compile checks c and names every mistake.
func compile(c Config) (*settings, error) {
	c = c.filled()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	routes, err := route.NewTable(c.Targets)
	errs = append(errs, err, c.Penalties.Validate())
	if len(c.HostKeys) == 0 {
		bad("no host key")
	}
	keys := make([]ssh.Signer, 0, len(c.HostKeys))
	for _, k := range c.HostKeys {
		k, err := hostSigner(k)
		if err != nil {
			bad("host key: %w", err)
		}
		keys = append(keys, k)
	}
	c.HostKeys = keys
	for _, cipher := range c.Ciphers {
		// x/crypto/ssh would drop an unknown name silently.
		if !slices.Contains(SupportedCiphers(), cipher) {
			bad("cipher %q: want some of %s", cipher, strings.Join(SupportedCiphers(), ", "))
		}
	}
	st := c.MaxStartups
	if st.Begin < 1 || st.Full < st.Begin || st.Full > maxStartsLimit || st.Rate < 0 || st.Rate > 100 {
		bad("max startups %d:%d:%d: want 1 <= begin <= full <= %d and a rate of 0 to 100", st.Begin, st.Rate, st.Full, maxStartsLimit)
	}
	switch {
	case c.Prompts > TwoRounds:
		bad("unknown prompts %d", c.Prompts)
	case c.GraceFirst < 0 || c.GraceFirst > maxGrace || c.GraceSecond < 0 || c.GraceSecond > maxGrace:
		bad("grace times %v and %v: want up to %v each", c.GraceFirst, c.GraceSecond, maxGrace)
	case c.PerSourceStarts < 1, c.MaxConnections < 1, c.KeepaliveMisses < 1:
		bad("starts per source, connections and keepalive misses must be at least 1")
	case c.MaxChannels < 1 || c.MaxChannels > maxChannelsLimit:
		bad("channels per connection is %d: want 1 to %d", c.MaxChannels, maxChannelsLimit)
	}
	return &settings{Config: c, routes: routes}, errors.Join(errs...)
}
