package otp

import (
	"encoding/base32"
	"net/url"
	"strconv"
	"strings"
)

// URI makes the otpauth URI that authenticator apps read from a QR code (the Key URI format of Google Authenticator).
// Counter is the first HOTP counter to use, and is ignored for TOTP. The URI holds the seed: it's shown once, at
// enrolment, and never logged. It is "" when the parameters are invalid or the seed is empty.
//
// The label is "issuer:account". A colon within either would move the border between them, and becomes a hyphen; an
// empty one becomes "-".
//
// github.com/pquerna/otp reads these URIs (a test holds it to that), but can't make them: it leaves '&', '+' and '='
// in an issuer as they are, which cuts "Leeds & York" short, and gives HOTP no counter, which the format requires.
func URI(issuer, account string, seed []byte, p Params, counter int64) string {
	if p.Validate() != nil || len(seed) == 0 {
		return ""
	}
	issuer, account = escape(labelPart(issuer)), escape(labelPart(account))
	var b strings.Builder
	b.WriteString("otpauth://" + string(p.Type) + "/" + issuer + ":" + account)
	b.WriteString("?secret=" + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed))
	b.WriteString("&issuer=" + issuer)
	b.WriteString("&algorithm=" + strings.ToUpper(string(p.Algorithm)))
	b.WriteString("&digits=" + strconv.Itoa(p.Digits))
	if p.Type == TypeHOTP {
		b.WriteString("&counter=" + strconv.FormatInt(max(counter, 0), 10))
	} else {
		b.WriteString("&period=" + strconv.Itoa(p.Period))
	}
	return b.String()
}

func labelPart(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(s, ":", "-")
}

// escape is for label and query alike. A space is %20, since some apps show the plus sign of a query.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
