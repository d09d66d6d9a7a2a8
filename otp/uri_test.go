package otp

import (
	"bytes"
	"encoding/base32"
	"net/url"
	"strconv"
	"strings"
	"testing"

	pq "github.com/pquerna/otp"
	"pgregory.net/rapid"
)

func TestURI(t *testing.T) {
	tests := []struct {
		got, want string
	}{
		{
			URI("Sallyport", "alice", rfcSeed, Default(), 7),
			"otpauth://totp/Sallyport:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Sallyport&algorithm=SHA1&digits=6&period=30",
		},
		{
			URI("Leeds & York NHS", "alice@gw", rfcSeed, Params{Type: TypeHOTP, Algorithm: SHA512, Digits: 8}, 7),
			"otpauth://hotp/Leeds%20%26%20York%20NHS:alice%40gw?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Leeds%20%26%20York%20NHS&algorithm=SHA512&digits=8&counter=7",
		},
		{URI("Sallyport", "alice", rfcSeed, Params{}, 0), ""},
		{URI("Sallyport", "alice", nil, Default(), 0), ""},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got  %s\nwant %s", tt.got, tt.want)
		}
	}
}

// Whatever the names hold, an app that reads the URI has the same seed, parameters and names.
func TestURIRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		seed := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "seed")
		issuer, account := rapid.String().Draw(t, "issuer"), rapid.String().Draw(t, "account")
		counter := rapid.Int64().Draw(t, "counter")
		uri := URI(issuer, account, seed, p, counter)

		key, err := pq.NewKeyFromURL(uri)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(key.Secret())
		if err != nil || !bytes.Equal(secret, seed) {
			t.Fatalf("secret %q, %v", key.Secret(), err)
		}
		if got := key.Type(); got != string(p.Type) {
			t.Fatalf("type %q", got)
		}
		if got := strings.ToLower(key.Algorithm().String()); got != string(p.Algorithm) {
			t.Fatalf("algorithm %q", got)
		}
		if got := key.Digits().Length(); got != p.Digits {
			t.Fatalf("digits %d", got)
		}
		if key.Issuer() != labelPart(issuer) || key.AccountName() != labelPart(account) {
			t.Fatalf("%q of %q, want %q of %q", key.AccountName(), key.Issuer(), account, issuer)
		}
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		if p.Type == TypeTOTP {
			if key.Period() != uint64(p.Period) || u.Query().Has("counter") {
				t.Fatalf("totp: %s", uri)
			}
			return
		}
		if got := u.Query().Get("counter"); got != strconv.FormatInt(max(counter, 0), 10) || u.Query().Has("period") {
			t.Fatalf("hotp: %s", uri)
		}
	})
}
