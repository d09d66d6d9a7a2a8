// Package route says which target a client means: by host and port of a jump, or by the parts of a user name. It is
// pure: no clock, no I/O.
package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sallyport/sshgw/outbound"
)

// JumpMode is what `ssh -J` to a target means. The zero value refuses.
type JumpMode uint8

// The modes of a jump.
const (
	Off      JumpMode = iota // no jump
	Opaque                   // end to end between client and target; only bytes are counted
	Recorded                 // only with a recording
	Unsaid                   // recorded where the rule requires it, else opaque
)

var jumpWords = [...]string{Off: "off", Opaque: "opaque", Recorded: "recorded", Unsaid: "unsaid"}

func (m JumpMode) String() string {
	if int(m) < len(jumpWords) {
		return jumpWords[m]
	}
	return "JumpMode(" + strconv.Itoa(int(m)) + ")"
}

// ParseJumpMode reads the words of the configuration: off, opaque, recorded.
func ParseJumpMode(word string) (JumpMode, error) {
	if i := slices.Index(jumpWords[:Unsaid], word); i >= 0 {
		return JumpMode(i), nil
	}
	return Off, fmt.Errorf("jump is %q: want %s", word, strings.Join(jumpWords[:Unsaid], ", "))
}

// Target is an SSH server behind the gateway.
type Target struct {
	Name    string // letters, digits, dot, hyphen, underscore; matched without regard to case
	Address string // host:port
	Account string // the account at the target; an opaque jump brings its own
	// Accounts are further ones that people may name. Where the target asks each person for proof of his own (Free), any will
	// do.
	Accounts []string
	Free     bool
	Class    string // privileged-internal, ...
	Tags     []string
	Jump     JumpMode
	Ports    []Ports // that may be forwarded
	Via      string  // the target that it is reached through; empty: none

	Credential string // what the gateway shows to it
	Algorithms outbound.Algorithms
	HostKeys   outbound.HostKeys // pinned and revoked by the configuration
}

// Ports is a range, both ends included.
type Ports struct{ From, To uint16 }

// Serves tells whether a port of the target may be forwarded.
func (t *Target) Serves(port uint32) bool {
	return slices.ContainsFunc(t.Ports, func(p Ports) bool { return uint32(p.From) <= port && port <= uint32(p.To) })
}

// Permits tells whether the target may be reached as an account: a credential that the gateway holds is good for those that
// the configuration names only.
func (t *Target) Permits(account string) bool { return t.Free || t.Named(account) }

// Named tells whether the configuration names the account.
func (t *Target) Named(account string) bool {
	return account != "" && (account == t.Account || slices.Contains(t.Accounts, account))
}

// maxTargetName bounds a target's name, in bytes.
const maxTargetName = 64

// Table is a checked list of targets, indexed. It is never changed.
type Table struct {
	all       []Target
	byName    map[string]*Target   // by lower-case name
	byAddress map[string][]*Target // by canonical address
}

// NewTable checks targets, and names every mistake.
func NewTable(targets []Target) (*Table, error) {
	t := &Table{all: slices.Clone(targets), byName: make(map[string]*Target), byAddress: make(map[string][]*Target)}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i := range t.all {
		x := &t.all[i]
		if !validTargetName(x.Name) {
			bad("target name %q: want 1 to %d letters, digits, dots, hyphens and underscores, and no address", x.Name, maxTargetName)
		}
		if t.byName[foldName(x.Name)] != nil {
			bad("target name %q is there twice (case does not count)", x.Name)
		}
		if x.Jump > Unsaid {
			bad("target %s: unknown jump mode %v", x.Name, x.Jump)
		}
		t.byName[foldName(x.Name)] = x
		host, port, err := splitAddress(x.Address)
		if err != nil {
			bad("target %s: %w", x.Name, err)
			continue
		}
		key := addressKey(host, port)
		t.byAddress[key] = append(t.byAddress[key], x)
	}
	for i := range t.all {
		if err := t.checkVia(&t.all[i]); err != nil {
			errs = append(errs, err)
		}
	}
	return t, errors.Join(errs...)
}

// checkVia follows the way to a target.
func (t *Table) checkVia(x *Target) error {
	at := x
	for hops := 0; at.Via != ""; hops++ {
		next := t.byName[foldName(at.Via)]
		switch {
		case next == nil:
			return fmt.Errorf("target %s: via %q is no target", at.Name, at.Via)
		case next == x:
			return fmt.Errorf("target %s: the way to it leads through itself", x.Name)
		case hops >= MaxHops:
			return fmt.Errorf("target %s: the way to it leads through more than %d others", x.Name, MaxHops)
		}
		at = next
	}
	return nil
}

// MaxHops bounds how many targets the way to another leads through.
const MaxHops = 4

// ByName returns a target by its name, without regard to case.
func (t *Table) ByName(name string) (*Target, bool) {
	x := t.byName[foldName(name)]
	return x, x != nil
}

// All returns the targets, in the order of the configuration. They are not to be changed.
func (t *Table) All() []Target { return t.all }

func validTargetName(name string) bool {
	if name == "" || len(name) > maxTargetName {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case i > 0 && (c == '.' || c == '-'):
		default:
			return false
		}
	}
	_, err := netip.ParseAddr(name)
	return err != nil && name[len(name)-1] != '.'
}

// foldName makes names comparable: ssh(1) puts host names into lower case before it asks for them.
func foldName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func splitAddress(address string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: want host:port", address)
	}
	n, err := strconv.ParseUint(service, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("address %q: want a host, and a port from 1 to 65535", address)
	}
	return host, uint16(n), nil
}

// addressKey gives the many spellings of an address one form.
func addressKey(host string, port uint16) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	} else {
		host = foldName(host)
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// sshPort is what ssh(1) asks for when no port is named.
const sshPort = 22

// Find returns the target that a client means by host and port: a target's name with port 22 or the port of its
// address, or its address. An address that several targets share means none of them, since they may be under different
// rules.
func (t *Table) Find(host string, port uint32) (*Target, bool) {
	if port == 0 || port > 65535 {
		return nil, false
	}
	if x := t.byName[foldName(host)]; x != nil {
		_, own, err := splitAddress(x.Address)
		return x, err == nil && (port == sshPort || port == uint32(own))
	}
	shared := t.byAddress[addressKey(host, uint16(port))]
	if len(shared) != 1 {
		return nil, false
	}
	return shared[0], true
}

// FindPort returns the target that a client means by host when it forwards a port which the target lists. An address that
// several targets share means the one of them that lists the port, if it is one.
func (t *Table) FindPort(host string, port uint32) (*Target, bool) {
	if x := t.byName[foldName(host)]; x != nil {
		return x, x.Serves(port)
	}
	var found *Target
	for i := range t.all {
		x := &t.all[i]
		own, _, err := splitAddress(x.Address)
		if err != nil || !sameHost(own, host) || !x.Serves(port) {
			continue
		}
		if found != nil {
			return nil, false
		}
		found = x
	}
	return found, found != nil
}

func sameHost(a, b string) bool { return addressKey(a, sshPort) == addressKey(b, sshPort) }

// IsSSH tells whether a port of a host is where some target's SSH is: that is reached as a jump, and not as a port. The host of x is also
// meant by what it calls itself.
func (t *Table) IsSSH(x *Target, port uint32) bool {
	host, _, err := splitAddress(x.Address)
	if err != nil || port > 65535 {
		return true
	}
	return port == sshPort || len(t.byAddress[addressKey(host, uint16(port))]) > 0
}
