package pskc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/otp"
)

const rfcSecret = "12345678901234567890"

var rfcKey = Key{Preshared: unhex("12345678901234567890123456789012")}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// read reads a document, and fails the test when it fails otherwise than by faults.
func read(t *testing.T, doc string, k Key) (tokens []otp.Hardware, faults []otp.Fault) {
	t.Helper()
	err := Read(strings.NewReader(doc), k, func(h otp.Hardware) error {
		tokens = append(tokens, h)
		return nil
	})
	var list *otp.Faults
	switch {
	case errors.As(err, &list):
		faults = list.List
	case err != nil:
		t.Fatal(err)
	}
	return tokens, faults
}

func figure(t *testing.T, n string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "rfc6030-figure"+n+".xml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The figures of RFC 6030 give what it says, or the fault that they have for somebody who must tell tokens apart.
func TestFigures(t *testing.T) {
	hotp := otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 8}
	day := func(d int) time.Time { return time.Date(2006, 5, d, 0, 0, 0, 0, time.UTC) }
	for n, c := range map[string]struct {
		key   Key
		want  []otp.Hardware
		fault string // one of the faults
	}{
		"2": {fault: "serial number is missing"},
		"5": {want: []otp.Hardware{{Serial: "987654321", Maker: "Manufacturer", Params: hotp}}},
		"6": {key: rfcKey, want: []otp.Hardware{{Serial: "987654321", Maker: "Manufacturer", Params: hotp}}},
		"7": {key: Key{Password: "qwerty"}, want: []otp.Hardware{{Serial: "987654321", Maker: "TokenVendorAcme", Params: hotp}}},
		"10": {
			want: []otp.Hardware{
				{Serial: "654321", Maker: "TokenVendorAcme", Params: hotp, Start: day(1), Expiry: day(31)},
				{Serial: "123456", Maker: "TokenVendorAcme", Params: hotp, Start: day(1), Expiry: day(31)},
				{Serial: "9999999", Maker: "TokenVendorAcme", Params: hotp, Start: time.Date(2006, 3, 1, 0, 0, 0, 0, time.UTC), Expiry: time.Date(2006, 3, 31, 0, 0, 0, 0, time.UTC)},
			},
			fault: "the serial number is there twice: first in line 55", // one token with two keys, each for a month
		},
	} {
		t.Run("figure "+n, func(t *testing.T) {
			got, faults := read(t, figure(t, n), c.key)
			if len(got) != len(c.want) {
				t.Fatalf("%d tokens, want %d; faults: %v", len(got), len(c.want), faults)
			}
			for i, h := range got {
				if string(h.Seed) != rfcSecret || h.Line == 0 {
					t.Errorf("token %d: seed %q, line %d", i, h.Seed, h.Line)
				}
				h.Seed, h.Line = nil, 0
				if !equal(h, c.want[i]) {
					t.Errorf("token %d: %+v\nwant %+v", i, h, c.want[i])
				}
			}
			found := c.fault == "" && len(faults) == 0
			for _, f := range faults {
				found = found || c.fault != "" && strings.Contains(f.What, c.fault)
			}
			if !found {
				t.Errorf("faults: %v, want %q", faults, c.fault)
			}
		})
	}
}

func equal(a, b otp.Hardware) bool {
	return a.Serial == b.Serial && a.Maker == b.Maker && a.Model == b.Model && a.Params == b.Params && bytes.Equal(a.Seed, b.Seed) &&
		a.Counter == b.Counter && a.Drift == b.Drift && a.Start.Equal(b.Start) && a.Expiry.Equal(b.Expiry) && a.Line == b.Line
}

const head = `<?xml version="1.0" encoding="UTF-8"?>
<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:xenc="http://www.w3.org/2001/04/xmlenc#">
`

const plainTOTP = `<KeyPackage><DeviceInfo><Manufacturer>Acme</Manufacturer><SerialNo>T1</SerialNo><Model>M</Model></DeviceInfo>
<Key Id="1" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:totp">
<AlgorithmParameters><Suite>HMAC-SHA256</Suite><ResponseFormat Length="6" Encoding="DECIMAL"/></AlgorithmParameters>
<Data><Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret>
<Time><PlainValue>0</PlainValue></Time><TimeInterval><PlainValue>60</PlainValue></TimeInterval><TimeDrift><PlainValue>-4</PlainValue></TimeDrift></Data>
<Policy><StartDate>2026-01-01T00:00:00Z</StartDate><ExpiryDate>2031-01-01T00:00:00+01:00</ExpiryDate><KeyUsage>OTP</KeyUsage></Policy>
</Key></KeyPackage>
`

const tail = "</KeyContainer>\n"

func TestTOTP(t *testing.T) {
	got, faults := read(t, head+plainTOTP+tail, Key{})
	want := otp.Hardware{
		Line: 3, Serial: "T1", Maker: "Acme", Model: "M", Seed: []byte(rfcSecret), Drift: -4,
		Params: otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA256, Digits: 6, Period: 60},
		Start:  time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Expiry: time.Date(2030, 12, 31, 23, 0, 0, 0, time.UTC),
	}
	if len(faults) > 0 || len(got) != 1 || !equal(got[0], want) {
		t.Fatalf("got %+v, %v\nwant %+v", got, faults, want)
	}
}

// Whom the maker means, and the names of algorithms of drafts.
func TestUsersAndDrafts(t *testing.T) {
	for id, want := range map[string]string{
		"UID=jsmith,DC=example-bank,DC=net": "jsmith", "cn = J. Smith": "J. Smith", "jsmith": "jsmith", "DC=net": "", "UID=a&#9;b": "", "UID=" + strings.Repeat("a", 300): "",
	} {
		doc := head + replaced(t, replaced(t, plainTOTP, "</Key>", "<UserId>"+id+"</UserId></Key>"), "pskc:totp", "pskc#totp") + tail
		got, faults := read(t, doc, Key{})
		if len(faults) > 0 || len(got) != 1 || got[0].Person != want || got[0].Params.Type != otp.TypeTOTP {
			t.Errorf("%s: got %+v, %v", id, got, faults)
		}
	}
}

// The encodings that tools write.
func TestEncodings(t *testing.T) {
	doc := head + strings.ReplaceAll(plainTOTP, "Acme", "Müller") + tail
	utf16 := func(order func(r rune) []byte, mark string) string {
		var b strings.Builder
		b.WriteString(mark)
		for _, r := range strings.Replace(doc, "UTF-8", "utf-16", 1) {
			b.Write(order(r))
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"UTF-8":           doc,
		"UTF-8, marked":   "\xef\xbb\xbf" + doc,
		"no declaration":  doc[strings.Index(doc, "\n")+1:],
		"CRLF":            strings.ReplaceAll(doc, "\n", "\r\n"),
		"UTF-16, little":  utf16(func(r rune) []byte { return []byte{byte(r), byte(r >> 8)} }, "\xff\xfe"),
		"UTF-16, big":     utf16(func(r rune) []byte { return []byte{byte(r >> 8), byte(r)} }, "\xfe\xff"),
		"ISO-8859-1":      strings.ReplaceAll(strings.Replace(doc, "UTF-8", "ISO-8859-1", 1), "ü", "\xfc"),
		"Windows' own":    strings.ReplaceAll(strings.Replace(doc, "UTF-8", "windows-1252", 1), "ü", "\xfc"),
		"comments within": strings.Replace(doc, "<Key ", "<!-- <Secret> --><?pi ?><Key ", 1),
	} {
		got, faults := read(t, text, Key{})
		if len(faults) > 0 || len(got) != 1 || got[0].Maker != "M ller" || string(got[0].Seed) != rfcSecret {
			t.Errorf("%s: got %+v, %v", name, got, faults)
		}
	}
}

// replaced makes one bad document of a good one, and fails when there was nothing to replace.
func replaced(t *testing.T, doc, old, with string) string {
	t.Helper()
	bad := strings.Replace(doc, old, with, 1)
	if bad == doc {
		t.Fatalf("%q is not in the document", old)
	}
	return bad
}

// Every way in which a file is wrong is said, with its line, and with no secret in it.
func TestBadFiles(t *testing.T) {
	plain, sealed, derived := head+plainTOTP+tail, figure(t, "6"), figure(t, "7")
	for name, c := range map[string]struct {
		doc  string
		key  Key
		want string
	}{
		"empty":                    {"", Key{}, "the file is empty"},
		"blank":                    {"  \n", Key{}, "the file is empty"},
		"a table":                  {"upn,serial number\n", Key{}, "not XML"},
		"binary":                   {"\x00\x01\x02\x03", Key{}, "not UTF-8"},
		"zip":                      {"PK\x03\x04aaaa", Key{}, "not well-formed"},
		"HTML":                     {"<html><body/></html>", Key{}, "not PSKC"},
		"other container":          {"<SecretContainer xmlns='http://www.openauthentication.org/OATH/2006/08/PSKC'/>", Key{}, "another version"},
		"namespace of a draft":     {replaced(t, plain, "urn:ietf:params:xml:ns:keyprov:pskc\"", "urn:ietf:params:xml:ns:keyprov:pskc:1.0\""), Key{}, "another version"},
		"version 2":                {replaced(t, plain, `Version="1.0" xmlns`, `Version="2.0" xmlns`), Key{}, "version \"2.0\""},
		"no tokens":                {head + tail, Key{}, "no KeyPackage"},
		"truncated":                {plain[:len(plain)-40], Key{}, "ends in the middle"},
		"truncated at the end":     {strings.TrimSuffix(plain, tail), Key{}, "ends in the middle"},
		"trailing":                 {plain + "<x/>", Key{}, "something follows"},
		"encoding":                 {replaced(t, plain, "UTF-8", "EBCDIC-CP-DE"), Key{}, `encoding "ebcdic-cp-de"`},
		"wrong encoding":           {replaced(t, plain, "Acme", "\xff\xfe"), Key{}, "not of the encoding"},
		"UTF-16 without a mark":    {"<\x00?\x00x\x00", Key{}, "no byte order mark"},
		"DOCTYPE":                  {replaced(t, plain, "?>\n", "?>\n<!DOCTYPE x>\n"), Key{}, "DOCTYPE"},
		"entity bomb":              {replaced(t, plain, "?>\n", "?>\n<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>\n"), Key{}, "DOCTYPE"},
		"external entity":          {replaced(t, plain, "?>\n", "?>\n<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>\n"), Key{}, "DOCTYPE"},
		"DOCTYPE further in":       {replaced(t, plain, "<Key ", "<!DOCTYPE x><Key "), Key{}, "DOCTYPE"},
		"entity":                   {replaced(t, plain, "Acme", "&acme;"), Key{}, "an entity"},
		"deep":                     {replaced(t, plain, "<Key ", strings.Repeat("<a>", 100)+strings.Repeat("</a>", 100)+"<Key "), Key{}, "too deeply"},
		"deep in Extensions":       {replaced(t, plain, "<Key ", "<Extensions>"+strings.Repeat("<a>", 100000)), Key{}, "too deeply"},
		"wide":                     {replaced(t, plain, "<Key ", strings.Repeat("<a/>", 1000)+"<Key "), Key{}, "holds too much"},
		"long text":                {replaced(t, plain, "Acme", strings.Repeat("a", 1<<20)), Key{}, "too long"},
		"long texts":               {replaced(t, plain, "<Key ", strings.Repeat("<a>"+strings.Repeat("a", 1000)+"</a>", 100)+"<Key "), Key{}, "holds too much"},
		"long tag":                 {replaced(t, plain, "<Key ", "<Key a=\""+strings.Repeat("a", 1<<20)+"\" "), Key{}, "too long"},
		"long comment":             {replaced(t, plain, "<Key ", "<!-- "+strings.Repeat("a", 1<<20)+" --><Key "), Key{}, "too long"},
		"unknown element":          {replaced(t, plain, "<KeyPackage>", "<Keys/><KeyPackage>"), Key{}, `"Keys"`},
		"no serial":                {replaced(t, plain, "<SerialNo>T1</SerialNo>", ""), Key{}, "serial number is missing"},
		"empty serial":             {replaced(t, plain, "T1", " "), Key{}, "serial number is missing"},
		"bad serial":               {replaced(t, plain, "T1", "T&#10;1"), Key{}, "serial number cannot be used"},
		"serial of a flag":         {replaced(t, plain, "T1", "--dry-run"), Key{}, "serial number cannot be used"},
		"long serial":              {replaced(t, plain, "T1", strings.Repeat("1", 65)), Key{}, "serial number cannot be used"},
		"serial twice":             {replaced(t, plain, "</Manufacturer>", "</Manufacturer><SerialNo>T0</SerialNo>"), Key{}, "SerialNo is there twice"},
		"duplicate":                {head + plainTOTP + plainTOTP + tail, Key{}, "there twice: first in line 3"},
		"no key":                   {head + "<KeyPackage><DeviceInfo><SerialNo>1</SerialNo></DeviceInfo></KeyPackage>" + tail, Key{}, "holds no Key"},
		"two keys":                 {replaced(t, plain, "</Key>", "</Key><Key/>"), Key{}, "Key is there twice"},
		"no secret":                {replaced(t, plain, "<Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret>", ""), Key{}, "secret is missing"},
		"empty secret":             {replaced(t, plain, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", ""), Key{}, "the secret has 0 bytes"},
		"short secret":             {replaced(t, plain, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "MTIzNDU2Nzg5MA=="), Key{}, "the secret has 10 bytes"},
		"long secret":              {replaced(t, plain, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", strings.Repeat("MTIz", 50)), Key{}, "the secret has 150 bytes"},
		"secret in hex":            {replaced(t, plain, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "31323334353637383930313233343536373839301"), Key{}, "not base64"},
		"two secrets":              {replaced(t, plain, "<Data>", "<Data><Secret><PlainValue>AAAA</PlainValue></Secret>"), Key{}, "Secret is there twice"},
		"OCRA":                     {replaced(t, plain, "pskc:totp", "pskc:ocra-1:HOTP-SHA1-6:QN08"), Key{}, "OCRA"},
		"unknown algorithm":        {replaced(t, plain, "pskc:totp", "pskc:securid"), Key{}, `"securid"`},
		"no algorithm":             {replaced(t, plain, ` Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:totp"`, ""), Key{}, "not supported"},
		"MD5":                      {replaced(t, plain, "HMAC-SHA256", "HMAC-MD5"), Key{}, `"HMAC-MD5"`},
		"seven digits":             {replaced(t, plain, `Length="6"`, `Length="7"`), Key{}, `"7" digits`},
		"no digits":                {replaced(t, plain, `Length="6"`, ``), Key{}, "digits"},
		"no format":                {replaced(t, plain, `<ResponseFormat Length="6" Encoding="DECIMAL"/>`, ""), Key{}, "how many digits"},
		"hexadecimal":              {replaced(t, plain, "DECIMAL", "HEXADECIMAL"), Key{}, `"HEXADECIMAL"`},
		"check digit":              {replaced(t, plain, `Encoding="DECIMAL"`, `Encoding="DECIMAL" CheckDigits="true"`), Key{}, "check digit"},
		"challenge":                {replaced(t, plain, "<ResponseFormat", `<ChallengeFormat Min="6" Max="6" Encoding="DECIMAL"/><ResponseFormat`), Key{}, "challenge"},
		"period":                   {replaced(t, plain, ">60<", ">45<"), Key{}, "period of 45 seconds"},
		"huge period":              {replaced(t, plain, ">60<", ">9223372036854775807<"), Key{}, "period of"},
		"period in words":          {replaced(t, plain, ">60<", ">one<"), Key{}, "TimeInterval is"},
		"secret as counter":        {replaced(t, figure(t, "5"), "<PlainValue>0<", "<PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=<"), Key{}, "a text of 28 bytes"},
		"drift":                    {replaced(t, plain, ">-4<", ">123456<"), Key{}, "off by 123456 steps"},
		"counter":                  {replaced(t, figure(t, "5"), "<PlainValue>0<", "<PlainValue>-1<"), Key{}, "the counter is -1"},
		"huge counter":             {replaced(t, figure(t, "5"), "<PlainValue>0<", "<PlainValue>9223372036854775807<"), Key{}, "the counter is"},
		"counter beyond numbers":   {replaced(t, figure(t, "5"), "<PlainValue>0<", "<PlainValue>99999999999999999999<"), Key{}, "Counter is"},
		"no time":                  {replaced(t, plain, "2026-01-01T00:00:00Z", "tomorrow"), Key{}, "StartDate is no time"},
		"expires before it starts": {replaced(t, plain, "2031-01-01", "2025-01-01"), Key{}, "expires before"},
		"uses":                     {replaced(t, plain, "<KeyUsage>", "<NumberOfTransactions>5</NumberOfTransactions><KeyUsage>"), Key{}, `"NumberOfTransactions"`},
		"unknown policy":           {replaced(t, plain, "<KeyUsage>", "<Geofence/><KeyUsage>"), Key{}, `"Geofence"`},
		"other usage":              {replaced(t, plain, "<KeyUsage>OTP", "<KeyUsage>Encrypt"), Key{}, "forbids"},
		"PIN to be checked":        {replaced(t, figure(t, "5"), `"Local"`, `"Append"`), Key{}, `"Append"`},
		"key for a file in clear":  {plain, rfcKey, "is in clear, although"},
		"password for no password": {plain, Key{Password: "qwerty"}, "not encrypted with one"},
		"no key given":             {sealed, Key{}, "pre-shared key"},
		"password, key wanted":     {sealed, Key{Password: "qwerty"}, "pre-shared key"},
		"key, password wanted":     {derived, rfcKey, "encrypted with a password"},
		"wrong key":                {sealed, Key{Preshared: unhex("00000000000000000000000000000000")}, "is not the one to this file"},
		"key of another length":    {sealed, Key{Preshared: make([]byte, 32)}, "has 32 bytes"},
		"wrong password":           {derived, Key{Password: "qwertz"}, "password is not the one"},
		"wrong MAC":                {replaced(t, sealed, "Su+N", "Su+O"), rfcKey, "ValueMAC does not match"},
		"altered ciphertext":       {replaced(t, sealed, "AAECAwQF", "AAECAwQG"), rfcKey, "ValueMAC does not match"},
		"short MAC":                {replaced(t, sealed, "Su+NvtQfmvfJzF6bmQiJqoLRExc=", "Su+N"), rfcKey, "ValueMAC does not match"},
		"no MAC":                   {sealed[:strings.Index(sealed, "<ValueMAC>")] + sealed[strings.Index(sealed, "</ValueMAC>")+11:], rfcKey, "there is no ValueMAC"},
		"no MACMethod":             {sealed[:strings.Index(sealed, "<MACMethod")] + sealed[strings.Index(sealed, "</MACMethod>")+12:], rfcKey, "no MACMethod"},
		"MAC of MD5":               {replaced(t, sealed, "hmac-sha1", "hmac-md5"), rfcKey, "not supported"},
		"altered MAC key":          {replaced(t, sealed, "ESIz", "ESI0"), rfcKey, "ValueMAC does not match"},
		"triple DES":               {replaced(t, sealed[:strings.Index(sealed, "<KeyPackage>")]+strings.Replace(sealed[strings.Index(sealed, "<KeyPackage>"):], "aes128-cbc", "tripledes-cbc", 1), "x", "x "), rfcKey, "tripledes"},
		"secret in clear":          {replaced(t, sealed, "<Secret>", "<Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue>"), rfcKey, "in clear and encrypted"},
		"replaced by clear":        {sealed[:strings.Index(sealed, "<EncryptedValue>")] + "<PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue>" + sealed[strings.Index(sealed, "</ValueMAC>")+11:], rfcKey, "is in clear, although"},
		"late key":                 {replaced(t, plain, tail, "<EncryptionKey/>"+tail), Key{}, "comes after"},
		"two keys to it":           {replaced(t, sealed, "<MACMethod", "<EncryptionKey/><MACMethod"), rfcKey, "two EncryptionKey"},
		"a certificate":            {replaced(t, sealed, "<ds:KeyName>Pre-shared-key</ds:KeyName>", "<ds:X509Data/>"), rfcKey, "certificate"},
		"scrypt":                   {replaced(t, derived, "#pbkdf2", "#scrypt"), Key{Password: "qwerty"}, "#scrypt"},
		"iterations":               {replaced(t, derived, ">1000<", ">2000000000<"), Key{Password: "qwerty"}, `"2000000000" iterations`},
		"no iterations":            {replaced(t, derived, ">1000<", ">0<"), Key{Password: "qwerty"}, `"0" iterations`},
		"no salt":                  {replaced(t, derived, "Ej7/PEpyEpw=", ""), Key{Password: "qwerty"}, "salt"},
		"huge salt":                {replaced(t, derived, "Ej7/PEpyEpw=", strings.Repeat("AAAA", 1000)), Key{Password: "qwerty"}, "salt"},
		"long derived key":         {replaced(t, derived, "<KeyLength>16", "<KeyLength>1000000000"), Key{Password: "qwerty"}, "want 16, 24 or 32"},
		"other derived key":        {replaced(t, derived, "<KeyLength>16", "<KeyLength>32"), Key{Password: "qwerty"}, "PBKDF2 makes a key of 32 bytes"},
		"PRF":                      {replaced(t, derived, "<PRF/>", `<PRF Algorithm="http://x#hmac-md5"/>`), Key{Password: "qwerty"}, "hmac-md5"},
	} {
		t.Run(name, func(t *testing.T) {
			_, faults := read(t, c.doc, c.key)
			found := false
			for _, f := range faults {
				found = found || strings.Contains(f.What, c.want)
				if f.Line == 0 {
					t.Errorf("%v has no line", f)
				}
				for _, secret := range []string{"MTIzNDU2", "QF", rfcSecret, "31323334", "qwert", "Su+N"} {
					if strings.Contains(f.What+f.Hint, secret) {
						t.Errorf("%q shows a secret", f)
					}
				}
			}
			if !found {
				t.Errorf("faults: %v\nwant one with %q", faults, c.want)
			}
		})
	}
}

// All faults come at once, each with its line and serial, in the order of lines.
func TestAllFaultsAtOnce(t *testing.T) {
	one := func(serial, old, with string) string {
		return replaced(t, strings.Replace(plainTOTP, "T1", serial, 1), old, with)
	}
	doc := head + one("A", ">60<", ">45<") + one("B", "M</Model>", "N</Model>") + one("C", "DECIMAL", "BASE64") + one("B", "M</Model>", "O</Model>") +
		replaced(t, one("D", "HMAC-SHA256", "MD5"), `Length="6"`, `Length="9"`) + tail
	tokens, faults := read(t, doc, Key{})
	var got []string
	for _, f := range faults {
		got = append(got, f.String())
	}
	want := []string{"line 3, token A: ", "line 17, token C: ", "line 24, token B: ", "line 31, token D: ", "line 31, token D: "}
	if len(got) != len(want) {
		t.Fatalf("faults:\n%s", strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("fault %d is %q, want %q", i, got[i], want[i])
		}
	}
	if len(tokens) != 1 {
		t.Errorf("%d tokens were given, want B alone", len(tokens))
	}
}

// A key that opens nothing is one fault, not one for each token.
func TestWrongKeyIsSaidOnce(t *testing.T) {
	doc := figure(t, "6")
	at, end := strings.Index(doc, "<KeyPackage>"), strings.Index(doc, "</KeyContainer>")
	doc = doc[:strings.Index(doc, "<MACKey>")] + doc[strings.Index(doc, "</MACKey>")+9:at] +
		doc[at:end] + strings.ReplaceAll(doc[at:end], "987654321", "987654322") + doc[end:]
	_, faults := read(t, doc, rfcKey)
	if len(faults) != 1 || !strings.Contains(faults[0].What, "none of the 2 secrets opens") {
		t.Errorf("faults: %v", faults)
	}
}

// What the taker of tokens fails with ends the reading, and comes back.
func TestGiveFails(t *testing.T) {
	full := errors.New("full")
	if err := Read(strings.NewReader(head+plainTOTP+tail), Key{}, func(otp.Hardware) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// RFC 3394 section 4 and RFC 5649 section 6.
func TestUnwrap(t *testing.T) {
	for name, c := range map[string]struct{ key, text, want string }{
		"4.1, 128 by 128": {"000102030405060708090A0B0C0D0E0F", "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5", "00112233445566778899AABBCCDDEEFF"},
		"4.6, 256 by 256": {
			"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F", "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21",
			"00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
		},
		"5649, 20 bytes": {"5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a", "c37b7e6492584340bed12207808941155068f738"},
		"5649, 7 bytes":  {"5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "afbeb0f07dfbf5419200f2ccb50bb24f", "466f7250617369"},
	} {
		text := unhex(c.text)
		got, err := decrypt(wrap, unhex(c.key), text)
		if err != nil || !bytes.Equal(got, unhex(c.want)) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
		for i := range text {
			text[i] ^= 1
			if _, err := decrypt(wrap, unhex(c.key), text); !errors.Is(err, errOpen) {
				t.Errorf("%s: opens with byte %d altered", name, i)
			}
			text[i] ^= 1
		}
	}
}

func TestInteger(t *testing.T) {
	for text, want := range map[string]int64{"\x00": 0, "\x00\x00\x00\x2a": 42, "\x01\x00": 256, "\x7f\xff\xff\xff\xff\xff\xff\xff": 1<<63 - 1} {
		if got, ok := integer([]byte(text)); !ok || got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "7", "0042", "12345678", "\x80\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00\x01"} {
		if got, ok := integer([]byte(text)); ok {
			t.Errorf("%q: %d", text, got)
		}
	}
}
