package strict

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// systemName is what names of systems, tags and this gateway look like. They stand in SSH user names (between @ and
// %), in "tag:x", in metrics and in file names, so they hold none of those signs.
var systemName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

const nameHint = "letters, digits, dots, dashes and underscores, 64 at most, a letter or digit first"

// IsTitle reports whether v is fit to be shown as a name: printable, not blank at its ends, 64 bytes at most.
func IsTitle(v string) bool {
	return v != "" && len(v) <= 64 && v == strings.TrimSpace(v) && isPrintable(v)
}

func isPrintable(v string) bool {
	return utf8.ValidString(v) && !strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) })
}

// ParseDuration reads a Go duration, with d for days of 24 hours in front: 90s, 12h, 30d, 1d12h. It takes no sign and no
// bare number.
func ParseDuration(v string) (time.Duration, error) {
	days, rest, found := strings.Cut(v, "d")
	if !found {
		days, rest = "", v
	}
	var d time.Duration
	if found {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > uint64(math.MaxInt64/(24*time.Hour)) {
			return 0, fmt.Errorf("%q is not a number of days", days)
		}
		d = time.Duration(n) * 24 * time.Hour
		if rest == "" {
			return d, nil
		}
	}
	if rest == "" || rest[0] < '0' || rest[0] > '9' || strings.Trim(rest, "0123456789.") == "" {
		return 0, fmt.Errorf("%q is not a time with a unit", v)
	}
	more, err := time.ParseDuration(rest)
	if err != nil || d+more < d {
		return 0, fmt.Errorf("%q is not a time", v)
	}
	return d + more, nil
}

// Name reads the name of a system.
func (b *Block) Name(key string) string {
	v, ok := b.Needed(key)
	if !ok {
		return ""
	}
	if !systemName.MatchString(v) {
		b.Bad(key, nameHint, "%s is not a name", Show(v))
		return ""
	}
	return v
}

// Names reads a list of names, each once.
func (b *Block) Names(key string) []string {
	var all []string
	seen := map[string]bool{}
	for _, t := range b.Texts(key) {
		switch {
		case !systemName.MatchString(t.Value):
			b.Reader.Bad(t.Pos, nameHint, "%s is not a name", Show(t.Value))
		case seen[t.Value]:
			b.Reader.Bad(t.Pos, "", "%s is given twice", Show(t.Value))
		default:
			seen[t.Value] = true
			all = append(all, t.Value)
		}
	}
	return all
}

// Printable reads a text of one line and of so many bytes at most.
func (b *Block) Printable(key, def string, most int) string {
	v, ok := b.Text(key)
	if !ok {
		return def
	}
	switch {
	case len(v) > most:
		b.Bad(key, "", "is %d bytes long: want %d at most", len(v), most)
	case !isPrintable(v):
		b.Bad(key, "", "holds a line break or another control character")
	default:
		return v
	}
	return def
}

// Path reads the name of a file; a relative one is relative to the configuration's folder.
func (b *Block) Path(key, def string) string {
	v, ok := b.Text(key)
	if !ok {
		v = def
	}
	return b.Reader.Resolve(v)
}

// Resolve makes a relative path one from the configuration's folder. An empty path stays empty.
func (r *Reader) Resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.Dir, path)
}

// Listen checks addresses to listen on: an IP address, "localhost" or nothing, a colon, a port. Port 0 lets the system
// choose.
func (r *Reader) Listen(ts []Text) []string {
	const hint = "an address and a port, as 127.0.0.1:1812, [::1]:1812 or :1812"
	var all []string
	for _, t := range ts {
		host, port, err := net.SplitHostPort(t.Value)
		if err != nil {
			r.Bad(t.Pos, hint, "%s is not an address with a port", Show(t.Value))
			continue
		}
		if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
			r.Bad(t.Pos, hint, "%s is not an IP address", Show(host))
			continue
		}
		if !isPort(port, 0) {
			r.Bad(t.Pos, hint, "%s is not a port", Show(port))
			continue
		}
		all = append(all, t.Value)
	}
	return all
}

func isPort(v string, least uint64) bool {
	n, err := strconv.ParseUint(v, 10, 16)
	return err == nil && n >= least
}

// HostPort reads the address of another machine, by IP address or name; without a port it gets def.
func (b *Block) HostPort(key string, def int) string {
	v, ok := b.Needed(key)
	if !ok {
		return ""
	}
	return b.Reader.HostPort(Text{v, b.At(key)}, def)
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?$`)

// HostPort checks the address of another machine.
func (r *Reader) HostPort(t Text, def int) string {
	hint := fmt.Sprintf("a name or an address, and a port: srv1.example.nhs.uk:%d, 10.0.0.1:%d, [2001:db8::1]:%d", def, def, def)
	host, port, err := net.SplitHostPort(t.Value)
	if err != nil {
		host, port = strings.Trim(t.Value, "[]"), strconv.Itoa(def)
	}
	if _, err := netip.ParseAddr(host); err != nil && !hostName.MatchString(host) {
		r.Bad(t.Pos, hint, "%s is not the name or address of a machine", Show(host))
		return ""
	}
	if !isPort(port, 1) {
		r.Bad(t.Pos, hint, "%s is not a port", Show(port))
		return ""
	}
	return net.JoinHostPort(host, port)
}

// Prefix reads an address or a prefix, v4 or v6.
func (b *Block) Prefix(key string) netip.Prefix {
	v, ok := b.Needed(key)
	if !ok {
		return netip.Prefix{}
	}
	return b.Reader.prefix(b.At(key), v)
}

// Prefixes reads a list of addresses and prefixes, and returns them as prefixes are written.
func (b *Block) Prefixes(key string) (all []string) {
	for _, t := range b.Texts(key) {
		if p := b.Reader.prefix(t.Pos, t.Value); p.IsValid() {
			all = append(all, p.String())
		}
	}
	return all
}

func (r *Reader) prefix(at Pos, v string) netip.Prefix {
	const hint = "an address or a prefix: 10.20.0.7, 10.20.0.0/24, 2001:db8::/32"
	p, err := netip.ParsePrefix(v)
	addr, notAddr := netip.ParseAddr(v)
	if notAddr == nil {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err != nil || addr.Zone() != "":
		r.Bad(at, hint, "%s is neither an address nor a prefix", Show(v))
	case p.Addr().Is4In6():
		r.Bad(at, "write "+p.Addr().Unmap().String(), "%s is an IPv4 address in IPv6 form", Show(v))
	case p.Masked() != p:
		r.Bad(at, "write "+p.Masked().String()+" for the network, or "+p.Addr().String()+" for the one machine", "%s has bits set behind its mask", Show(v))
	default:
		return p
	}
	return netip.Prefix{}
}

// URL checks a URL without repeating it: passwords get into them.
func (r *Reader) URL(t Text, schemes ...string) string {
	u, err := url.Parse(t.Value)
	known := false
	if err == nil {
		for _, s := range schemes {
			known = known || u.Scheme == s
		}
	}
	switch {
	case err != nil || u.Host == "" || !known:
		r.Bad(t.Pos, "begins with "+strings.Join(schemes, ":// or ")+"://", "is not a URL that can be used here")
	case hasPassword(u):
		r.Bad(t.Pos, "give the password as secret_file", "holds a password")
	default:
		return t.Value
	}
	return ""
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

// Require reports those of the keys that the file doesn't have.
func (b *Block) Require(keys ...string) {
	for _, key := range keys {
		if !b.Has(key) && !b.broken {
			b.Bad(key, "", "is missing")
		}
	}
}

// Span writes a time as ParseDuration reads it.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
