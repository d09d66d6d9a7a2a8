package attr

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"layeh.com/radius/dictionary"

	"sallyport/radiusd/wire"
)

// maxReply bounds the bytes of one rule's reply attributes, so that they fit into a packet beside wire.MaxProxyState and
// the server's own attributes.
const maxReply = 2048

// maxVendorValue is the longest value of a vendor's attribute: both headers and the vendor's number take 8 of 255.
const maxVendorValue = 247

// Reply is what an Access-Accept carries under a rule, as the bytes of its attributes. It is immutable.
type Reply struct {
	wire                        []byte
	sessionTimeout, idleTimeout bool
}

// Len is the size of the attributes in octets.
func (r *Reply) Len() int { return len(r.wire) }

// Encoded is the attributes' bytes, which are not to be changed.
func (r *Reply) Encoded() []byte { return r.wire }

// Attributes are the same, one by one.
func (r *Reply) Attributes() []wire.Attribute {
	var all []wire.Attribute
	packet := append(make([]byte, wire.HeaderSize), r.wire...)
	wire.EachAttribute(packet, func(a wire.Attribute) bool {
		all = append(all, a)
		return true
	})
	return all
}

// SessionTimeout and IdleTimeout tell whether the reply sets them.
func (r *Reply) SessionTimeout() bool { return r.sessionTimeout }
func (r *Reply) IdleTimeout() bool    { return r.idleTimeout }

//go:embed dictionary
var dictionaryText string

// known is an attribute that a reply may carry.
type known struct {
	*dictionary.Attribute
	vendor uint32 // 0: standard
	values map[string]uint32
}

// lexicon is read once, when the first reply is compiled; it never changes.
var lexicon = sync.OnceValue(func() map[string]known {
	m, err := readDictionary(dictionaryText)
	if err != nil {
		panic("attr: the built-in dictionary: " + err.Error())
	}
	return m
})

type dictionaryFile struct{ io.Reader }

func (dictionaryFile) Close() error { return nil }
func (dictionaryFile) Name() string { return "dictionary" }

func readDictionary(text string) (map[string]known, error) {
	d, err := new(dictionary.Parser).Parse(dictionaryFile{strings.NewReader(text)})
	if err != nil {
		return nil, err
	}
	m := make(map[string]known)
	add := func(vendor int, attrs []*dictionary.Attribute, values []*dictionary.Value) {
		for _, a := range attrs {
			k := known{Attribute: a, vendor: uint32(vendor)}
			for _, v := range dictionary.ValuesByAttribute(values, a.Name) {
				if k.values == nil {
					k.values = make(map[string]uint32)
				}
				k.values[strings.ToLower(v.Name)] = uint32(v.Number)
			}
			m[strings.ToLower(a.Name)] = k
		}
	}
	add(0, d.Attributes, d.Values)
	for _, v := range d.Vendors {
		add(v.Number, v.Attributes, v.Values)
	}
	return m, nil
}

// several are the standard attributes that an Access-Accept may hold more than once (RFC 2865 section 5.44, RFC 2868,
// RFC 2869 section 5.19, RFC 3162, RFC 4675, RFC 6911). Filter-Id is not among them, by the advice of RFC 5080
// section 2.4. Attributes with a tag are one for each tag. Vendors' own may always be repeated.
func several(name string) bool {
	switch name {
	case "Reply-Message", "Class", "Framed-Route", "Framed-IPv6-Route", "Framed-IPv6-Prefix", "Login-IPv6-Host",
		"Framed-IPv6-Address", "DNS-Server-IPv6-Address", "Egress-VLANID", "Egress-VLAN-Name",
		"NAS-Filter-Rule", "Framed-Compression", "Login-IP-Host":
		return true
	}
	return false
}

// serverOwned are attributes that configuration must not set, with the reason.
func serverOwned(lower string) string {
	switch lower {
	case "message-authenticator", "state", "proxy-state", "prompt", "eap-message", "error-cause":
		return "the server sets it by itself"
	case "user-password", "chap-password", "chap-challenge", "nas-ip-address", "nas-identifier", "nas-ipv6-address", "nas-port",
		"nas-port-type", "nas-port-id", "called-station-id", "calling-station-id":
		return "it belongs in requests"
	case "tunnel-password", "ms-mppe-send-key", "ms-mppe-recv-key", "ms-chap-mppe-keys":
		return "secrets are not sent in replies"
	}
	return ""
}

// Compile checks a rule's reply attributes against the dictionary, and makes their bytes. It returns every
// mistake. Names are those of FreeRADIUS's dictionaries, in any case; a tag (RFC 2868) stands behind a colon, as in
// Tunnel-Type:1. Integers may be given by the names of their values; octets as text, or in hexadecimal behind 0x. Attributes
// stand in the order of their names, and the values of one in the order given.
func Compile(attrs map[string][]string) (*Reply, []error) {
	r := new(Reply)
	var errs []error
	names := make([]string, 0, len(attrs))
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	seen := make(map[string]string)
	for _, name := range names {
		if err := r.compile(name, attrs[name], seen); err != nil {
			errs = append(errs, err...)
		}
	}
	if len(r.wire) > maxReply {
		errs = append(errs, fmt.Errorf("the reply attributes take %d octets, %d is the most", len(r.wire), maxReply))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return r, nil
}

func (r *Reply) compile(name string, values []string, seen map[string]string) (errs []error) {
	base, tagText, tagged := strings.Cut(name, ":")
	if _, err := Find(base); err != nil {
		return []error{err}
	}
	k := lexicon()[strings.ToLower(base)]
	tag := 0
	if tagged {
		var err error
		if tag, err = strconv.Atoi(tagText); err != nil || tag < 1 || tag > 31 || !k.HasTag() {
			return []error{fmt.Errorf("%s: only tunnel attributes take a tag, from 1 to 31", name)}
		}
	}
	if other, twice := seen[strings.ToLower(name)]; twice {
		return []error{fmt.Errorf("%s and %s are the same attribute", other, name)}
	}
	seen[strings.ToLower(name)] = name
	if len(values) == 0 {
		return []error{fmt.Errorf("%s has no value", name)}
	}
	if k.vendor == 0 && len(values) > 1 && !several(k.Name) {
		errs = append(errs, fmt.Errorf("%s may stand only once in a reply", name))
	}
	for _, value := range values {
		b, err := k.encode(value, byte(tag))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		r.append(k, b)
	}
	return errs
}

func (r *Reply) append(k known, value []byte) {
	t := byte(k.OID[0])
	if k.vendor != 0 {
		r.wire = append(r.wire, wire.AttrVendor, byte(len(value)+8))
		r.wire = binary.BigEndian.AppendUint32(r.wire, k.vendor)
	}
	r.wire = append(r.wire, t, byte(len(value)+2))
	r.wire = append(r.wire, value...)
	if k.vendor == 0 {
		r.sessionTimeout = r.sessionTimeout || t == wire.AttrSessionTime
		r.idleTimeout = r.idleTimeout || t == wire.AttrIdleTime
	}
}

// encode makes the value's bytes, with the tag before them where the attribute has one.
func (k known) encode(value string, tag byte) ([]byte, error) {
	var b []byte
	var err error
	switch k.Type {
	case dictionary.AttributeString:
		if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return nil, errors.New("is not UTF-8 text")
		}
		b = []byte(value)
	case dictionary.AttributeOctets:
		b, err = octets(value)
	case dictionary.AttributeInteger, dictionary.AttributeDate:
		return k.encodeInteger(value, tag)
	case dictionary.AttributeIPAddr, dictionary.AttributeIPv6Addr:
		b, err = address(value, k.Type == dictionary.AttributeIPv6Addr)
	case dictionary.AttributeIPv6Prefix:
		b, err = prefix(value)
	case dictionary.AttributeIFID:
		b, err = hex.DecodeString(strings.ReplaceAll(value, ":", ""))
		if err != nil || len(b) != 8 {
			err = fmt.Errorf("%q is no interface identifier like 0011:2233:4455:6677", value)
		}
	default:
		err = errors.New("its type cannot be sent")
	}
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, errors.New("is empty, which RADIUS cannot send") // RFC 2865 section 5
	}
	if tag != 0 {
		b = slices.Insert(b, 0, tag)
	}
	most := wire.MaxValue
	if k.vendor != 0 {
		most = maxVendorValue
	}
	if len(b) > most {
		return nil, fmt.Errorf("has %d octets, %d is the most", len(b), most)
	}
	return b, nil
}

func (k known) encodeInteger(value string, tag byte) ([]byte, error) {
	n, named := k.values[strings.ToLower(value)]
	if !named {
		parsed, err := strconv.ParseUint(value, 0, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no number from 0 to %d%s", value, uint32(math.MaxUint32), k.valueNames())
		}
		n = uint32(parsed)
	}
	if k.HasTag() { // RFC 2868 section 3.1: the tag takes the first octet, also when there is none
		if n > 1<<24-1 {
			return nil, fmt.Errorf("%d is more than 24 bits, which is all that a tagged number has", n)
		}
		n |= uint32(tag) << 24
	}
	return binary.BigEndian.AppendUint32(nil, n), nil
}

func (k known) valueNames() string {
	if len(k.values) == 0 {
		return ""
	}
	names := make([]string, 0, len(k.values))
	for name := range k.values {
		names = append(names, name)
	}
	slices.Sort(names)
	return ", nor one of " + strings.Join(names, ", ")
}

func octets(value string) ([]byte, error) {
	digits, isHex := strings.CutPrefix(value, "0x")
	if !isHex {
		return []byte(value), nil
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("%q is not hexadecimal behind 0x", value)
	}
	return b, nil
}

func address(value string, v6 bool) ([]byte, error) {
	a, err := netip.ParseAddr(value)
	want := map[bool]string{false: "IPv4", true: "IPv6"}[v6]
	if err != nil || a.Is4() == v6 || a.Zone() != "" {
		return nil, fmt.Errorf("%q is no %s address", value, want)
	}
	return a.AsSlice(), nil
}

// prefix encodes an IPv6 prefix (RFC 3162 section 2.3).
func prefix(value string) ([]byte, error) {
	_, n, err := net.ParseCIDR(value)
	if err != nil || n.IP.To4() != nil {
		return nil, fmt.Errorf("%q is no IPv6 prefix", value)
	}
	ones, _ := n.Mask.Size()
	return append([]byte{0, byte(ones)}, bytes.Clone(n.IP[:(ones+7)/8])...), nil
}

// near suggests known names for an unknown one: the closest three by letters changed, if they are close.
func near(lower string) string {
	type candidate struct {
		name string
		far  int
	}
	var list []candidate
	for key, k := range lexicon() {
		far := distance(lower, key)
		if strings.HasSuffix(key, "-"+lower) {
			far = 1 // the vendor's name was left out
		}
		if far <= max(2, len(lower)/4) {
			list = append(list, candidate{k.Name, far})
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.SortFunc(list, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	names := make([]string, 0, 3)
	for _, c := range list[:min(3, len(list))] {
		names = append(names, c.name)
	}
	return "; did you mean " + strings.Join(names, ", ") + "?"
}

// distance is Levenshtein's, over bytes, of names that a configuration holds; longer ones than any known are far.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
