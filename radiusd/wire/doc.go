// Package wire is RADIUS as bytes (RFC 2865, 2869, 3579): packets taken apart in one pass without copies, their digests,
// and packets being written. It knows neither sockets nor people.
//
// A View is where the attributes lie that a server looks at; it stays valid as long as the packet's bytes do. A Secret
// and a Digester make what RADIUS has of cryptography, without allocating. A Writer makes packets that begin with their
// Message-Authenticator (CVE-2024-3596).
package wire

// Problem is what is wrong with a packet's form.
type Problem uint8

// The problems. None is none.
const (
	None           Problem = iota
	Short                  // less than a header
	BadLength              // Length says what cannot be
	Malformed              // attributes do not fit
	TooMany                // attributes
	Repeated               // an attribute that may stand once
	Conflicting            // more than one kind of password
	PasswordLength         // of User-Password
	ProxyOversize          // more Proxy-State than a reply can repeat
	AuthMissing            // EAP without Message-Authenticator (RFC 3579 section 3.2)
)

func (p Problem) String() string {
	switch p {
	case None:
		return "none"
	case Short:
		return "shorter than a header"
	case BadLength:
		return "a Length that cannot be"
	case Malformed:
		return "attributes that do not fit"
	case TooMany:
		return "too many attributes"
	case Repeated:
		return "an attribute twice that may stand once"
	case Conflicting:
		return "more than one kind of password"
	case PasswordLength:
		return "a User-Password of impossible length"
	case ProxyOversize:
		return "too much Proxy-State"
	case AuthMissing:
		return "EAP without Message-Authenticator"
	default:
		return "unknown"
	}
}
