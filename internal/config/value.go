package config

import (
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"strings"
)

// privateBlocks never cross the Internet: RFC 1918, 6598, 3927, 4193, 4291 and loopback.
func privateBlocks() []netip.Prefix {
	var all []netip.Prefix
	for _, v := range []string{
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
		"fc00::/7", "fe80::/10", "::1/128",
	} {
		all = append(all, netip.MustParsePrefix(v))
	}
	return all
}

// isPublic reports whether some address in p could be reached across the Internet.
func isPublic(p netip.Prefix) bool {
	for _, private := range privateBlocks() {
		if private.Bits() <= p.Bits() && private.Contains(p.Addr()) {
			return false
		}
	}
	return true
}

// isHostKey takes a fingerprint as `ssh-keygen -l` prints it, or a public key in one line (RFC 4253 section 6.6). Before
// either may stand @revoked.
func isHostKey(v string) bool {
	v = strings.TrimPrefix(v, "@revoked ")
	if hash, ok := strings.CutPrefix(v, "SHA256:"); ok {
		sum, err := base64.RawStdEncoding.Strict().DecodeString(hash)
		return err == nil && len(sum) == 32
	}
	kind, rest, _ := strings.Cut(v, " ")
	encoded, _, _ := strings.Cut(rest, " ")
	blob, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || kind == "" || len(blob) < 4 {
		return false
	}
	n := uint64(binary.BigEndian.Uint32(blob))
	return n == uint64(len(kind)) && uint64(len(blob)) > 4+n && string(blob[4:4+n]) == kind
}
