package tokencsv

import (
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/otp"
)

const (
	seedText = "12345678901234567890"
	seedHex  = "3132333435363738393031323334353637383930"
	seed32   = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
)

func read(t *testing.T, text string, o Options) (tokens []otp.Hardware, faults []otp.Fault) {
	t.Helper()
	err := Read(strings.NewReader(text), o, func(h otp.Hardware) error {
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

func same(a, b otp.Hardware) bool {
	return a.Serial == b.Serial && a.Maker == b.Maker && a.Model == b.Model && a.Params == b.Params && bytes.Equal(a.Seed, b.Seed) &&
		a.Counter == b.Counter && a.Drift == b.Drift && a.Start.Equal(b.Start) && a.Expiry.Equal(b.Expiry) && a.Person == b.Person
}

func TestTables(t *testing.T) {
	seed := []byte(seedText)
	totp := otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA1, Digits: 6, Period: 30}
	hotp := otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}
	entra := "upn,serial number,secret key,time interval,manufacturer,model\nHelga@contoso.com,1234567," + seed32 + ",60,Contoso,HardwareKey\n"
	entraWant := []otp.Hardware{{Serial: "1234567", Seed: seed, Maker: "Contoso", Model: "HardwareKey", Person: "Helga@contoso.com", Params: otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA1, Digits: 6, Period: 60}}}
	utf16 := "\xff\xfe"
	for _, r := range strings.ReplaceAll(entra, ",", "\t") {
		utf16 += string([]byte{byte(r), 0})
	}
	for name, c := range map[string]struct {
		text string
		o    Options
		want []otp.Hardware
	}{
		"Entra ID":              {entra, Options{}, entraWant},
		"marked, CRLF":          {"\xef\xbb\xbf" + strings.ReplaceAll(entra, "\n", "\r\n"), Options{}, entraWant},
		"semicolons":            {strings.ReplaceAll(entra, ",", ";"), Options{}, entraWant},
		"sep=":                  {"sep=|\n" + strings.ReplaceAll(entra, ",", "|"), Options{}, entraWant},
		"UTF-16, tabs":          {utf16, Options{}, entraWant},
		"quotes":                {strings.ReplaceAll(entra, "1234567", `"1234567"`), Options{}, entraWant},
		"no newline at its end": {strings.TrimSuffix(entra, "\n"), Options{}, entraWant},
		"blank lines, comments": {"# from the maker\n\n" + entra + ",,,,,\n\n", Options{}, entraWant},
		"leading zeros kept": {
			"Serial No.;Seed (hex);Type\n\"=\"\"00042\"\"\";" + seedHex + ";TOTP\n'00043;0x" + strings.ToUpper(seedHex) + ";OATH-HOTP\n",
			Options{},
			[]otp.Hardware{{Serial: "00042", Seed: seed, Params: totp}, {Serial: "00043", Seed: seed, Params: hotp}},
		},
		"all columns": {
			"Model,Vendor,SN,Secret-Key (Base32),Algorithm,Token Type,Digits,Counter,Drift,Valid from,Expires,Colour\n" +
				"c200,Feitian,A1,gezd gnbv gy3t qojq gezd gnbv gy3t qojq,HMAC-SHA-256,totp,8,,-2,2026-01-01,31.12.2030,blue\n" +
				"c100,Feitian,A2," + seed32 + "====,SHA512,event,6,1200,,,2030/12/31,red\n",
			Options{},
			[]otp.Hardware{
				{
					Serial: "A1", Maker: "Feitian", Model: "c200", Seed: seed, Drift: -2, Params: otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA256, Digits: 8, Period: 30},
					Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Expiry: time.Date(2030, 12, 31, 0, 0, 0, 0, time.UTC),
				},
				{
					Serial: "A2", Maker: "Feitian", Model: "c100", Seed: seed, Counter: 1200, Params: otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA512, Digits: 6},
					Expiry: time.Date(2030, 12, 31, 0, 0, 0, 0, time.UTC),
				},
			},
		},
		"type as algorithm": {"serial,seed,algorithm\nS1," + seedHex + ",HOTP\n", Options{}, []otp.Hardware{{Serial: "S1", Seed: seed, Params: hotp}}},
		"type by option": {
			"serial,seed\nS1," + seedHex + "\n",
			Options{Params: otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA512, Digits: 8, Period: 60}},
			[]otp.Hardware{{Serial: "S1", Seed: seed, Params: otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA512, Digits: 8, Period: 60}}},
		},
		"listed": {
			"Token002, " + seedHex + ", totp, 8\nToken003, " + seedHex + ", hotp, 6, 17\nToken004, " + seedHex + ", totp, 6, 60\n",
			Options{},
			[]otp.Hardware{
				{Serial: "Token002", Seed: seed, Params: otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA1, Digits: 8, Period: 30}},
				{Serial: "Token003", Seed: seed, Counter: 17, Params: hotp},
				{Serial: "Token004", Seed: seed, Params: otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA1, Digits: 6, Period: 60}},
			},
		},
		"listed, type by option": {"2600124809776," + seedHex + "\n", Options{Params: otp.Params{Type: otp.TypeHOTP}}, []otp.Hardware{{Serial: "2600124809776", Seed: seed, Params: hotp}}},
		"YubiKey, traditional": {
			"LOGGING START,11/12/13 18:50\nOATH-HOTP,11/12/13 18:55,1,ubbc00000001,," + seedHex + ",,,0,0,0,6,0,0,0,0,0,0\nOATH-HOTP,11/12/13 18:56,2,ubbc00000002,," + seedHex + ",,,0,0,0,8,0,0,0,0,0,0\n",
			Options{},
			[]otp.Hardware{
				{Serial: "ubbc00000001", Maker: "Yubico", Model: "YubiKey slot 1", Seed: seed, Params: hotp},
				{Serial: "ubbc00000002", Maker: "Yubico", Model: "YubiKey slot 2", Seed: seed, Params: otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 8}},
			},
		},
		"YubiKey, its other log": {"508326,,0," + seedHex + ",,2013-12-12T08:41:07,\n", Options{}, []otp.Hardware{{Serial: "508326", Maker: "Yubico", Model: "YubiKey", Seed: seed, Params: hotp}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, faults := read(t, c.text, c.o)
			if len(faults) > 0 || len(got) != len(c.want) {
				t.Fatalf("got %+v\nfaults %v", got, faults)
			}
			for i := range got {
				if !same(got[i], c.want[i]) || got[i].Line == 0 {
					t.Errorf("got  %+v\nwant %+v", got[i], c.want[i])
				}
			}
		})
	}
}

// What is wrong is said with its line, and with no secret in it, whichever column it stands in.
func TestBadTables(t *testing.T) {
	const entra = "upn,serial number,secret key,time interval,manufacturer,model\n"
	for name, c := range map[string]struct {
		text string
		line int
		want string
	}{
		"empty":               {"", 1, "is empty"},
		"blank":               {"\n\n", 1, "is empty"},
		"names alone":         {entra, 1, "no rows"},
		"XML":                 {"<?xml version=\"1.0\"?>\n<KeyContainer/>", 1, "this is XML"},
		"one column":          {"hello\n", 1, "one column"},
		"no names":            {"hello,world\n", 1, "neither names"},
		"no secret column":    {"serial,color\n1,red\n", 1, "no column tells the secret"},
		"no serial column":    {"secret key,color\nx,red\n", 1, "no column tells the serial"},
		"two serial columns":  {"serial,sn,seed\n", 1, "two columns tell the serial"},
		"two secret columns":  {"serial,seed,secret key (base32)\n", 1, "two columns tell the secret"},
		"too many columns":    {"serial,seed" + strings.Repeat(",x", 100) + "\n", 1, "102 columns"},
		"too few cells":       {entra + "a@b,1\n", 2, "2 cells"},
		"too many cells":      {entra + "a@b,1," + seed32 + ",30,x,y,z\n", 2, "7 cells"},
		"shifted":             {entra + "1," + seed32 + ",30,x,y\n", 2, "something like a secret"},
		"swapped":             {"serial,seed,type\n" + seedHex + ",1,totp\n", 2, "something like a secret"},
		"no serial":           {entra + "a@b,," + seed32 + ",30,x,y\n", 2, "serial number is missing"},
		"long serial":         {entra + "a@b," + strings.Repeat("9", 30) + "9," + seed32 + ",30,x,y\n", 2, "the serial number"},
		"serial with blanks":  {entra + "a@b,1 2," + seed32 + ",30,x,y\n", 2, "cannot be used"},
		"rounded serial":      {entra + "a@b,2.60012E+12," + seed32 + ",30,x,y\n", 2, "rounded"},
		"duplicate":           {entra + "a@b,1," + seed32 + ",30,x,y\na@b,1," + seed32 + ",30,x,y\n", 3, "first in line 2"},
		"no secret":           {entra + "a@b,1,,30,x,y\n", 2, "secret is missing"},
		"short secret":        {entra + "a@b,1,GEZDGNBVGY3TQOJQ,30,x,y\n", 2, "the secret has 10 bytes"},
		"long secret":         {entra + "a@b,1," + strings.Repeat("GEZDGNBV", 60) + ",30,x,y\n", 2, "too long"},
		"bad secret":          {entra + "a@b,1,!" + seed32 + ",30,x,y\n", 2, "neither hexadecimal nor base32"},
		"not hexadecimal":     {"serial,seed hex,type\n1," + seed32 + ",totp\n", 2, "not hexadecimal"},
		"not base32":          {"serial,base32 seed,type\n1," + seedHex + ",totp\n", 2, "not base32"},
		"period":              {entra + "a@b,1," + seed32 + ",45,x,y\n", 2, "period of 45"},
		"period is a secret":  {entra + "a@b,1," + seed32 + "," + seed32 + ",x,y\n", 2, "no number"},
		"no type":             {"serial,seed\n1," + seedHex + "\n", 2, "nothing says"},
		"OCRA":                {"1," + seedHex + ",ocra,OCRA-1:HOTP-SHA1-6:QN08\n", 1, "OCRA"},
		"type":                {"serial,seed,type\n1," + seedHex + ",securid\n", 2, `"securid"`},
		"algorithm":           {"serial,seed,type,hash\n1," + seedHex + ",totp,md5\n", 2, `"md5"`},
		"digits":              {"serial,seed,type,digits\n1," + seedHex + ",totp,7\n", 2, "7 digits"},
		"counter":             {"serial,seed,type,counter\n1," + seedHex + ",hotp,-5\n", 2, "counter is -5"},
		"day":                 {"serial,seed,type,expires\n1," + seedHex + ",totp,01/02/2030\n", 2, "one way only"},
		"person":              {entra + strings.Repeat("a", 300) + ",1," + seed32 + ",30,x,y\n", 2, "the person's name"},
		"open quote":          {entra + "a@b,\"1," + seed32 + ",30,x,y\n", 2, "quotes"},
		"bare quote":          {entra + "a\"b,1," + seed32 + ",30,x,y\n", 2, "quotes"},
		"long row":            {entra + "a@b,\"" + strings.Repeat("1\n", 1<<20), 2, "too long"},
		"static password":     {"OATH-HOTP,x,1,ubbc1,," + seedHex + ",,,0,0,0,6\nStatic Password,x,1,,d5a3d50327dc," + seedHex + ",,,0,0,0,0\n", 2, "not the row of an OATH-HOTP"},
		"Yubico's own mode":   {"508326,,0," + seedHex + ",,t,\n508327,cccccccccccc,83cebdfb7b93," + seedHex + ",,t,\n", 2, "not the row of an OATH-HOTP"},
		"no token identifier": {"OATH-HOTP,x,1,,," + seedHex + ",,,0,0,0,6\n", 1, "serial number is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, faults := read(t, c.text, Options{})
			found := false
			for _, f := range faults {
				found = found || f.Line == c.line && strings.Contains(f.What, c.want)
				for _, s := range []string{seedHex, seed32, seedText, "GEZDGNBV"} {
					if strings.Contains(f.What+f.Hint+f.Serial, s) {
						t.Errorf("%v shows a secret", f)
					}
				}
			}
			if !found {
				t.Errorf("faults: %v\nwant %q in line %d", faults, c.want, c.line)
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	text := "serial,seed,type,digits\n1," + seedHex + ",totp,6\n2,xx,totp,6\n\"3\"x," + seedHex + ",totp,6\n4," + seedHex + ",ocra,6\n1," + seedHex + ",hotp,9\n"
	tokens, faults := read(t, text, Options{})
	lines := ""
	for _, f := range faults {
		lines += fmt.Sprint(f.Line, " ")
	}
	if len(tokens) != 1 || lines != "3 4 5 6 " {
		t.Errorf("%d tokens; faults %v", len(tokens), faults)
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"upn,serial number,secret key,time interval,manufacturer,model\na@b,1," + seed32 + ",30,x,y\n", "1," + seedHex + ",totp,6,30\n",
		"OATH-HOTP,x,1,ubbc00000001,," + seedHex + ",,,0,0,0,6,0\n", "508326,,0," + seedHex + ",,t,\n", "sep=;\nserial;seed;type\n\"=\"\"1\"\"\";" + seedHex + ";hotp", "\xff\xfea\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		serials := make(map[string]bool)
		err := Read(strings.NewReader(text), Options{}, func(h otp.Hardware) error {
			if h.Params.Validate() != nil || len(h.Seed) < otp.MinSeed || !otp.ValidSerial(h.Serial) || serials[h.Serial] || h.Line < 1 {
				t.Errorf("given: %+v", h)
			}
			serials[h.Serial] = true
			return nil
		})
		var faults *otp.Faults
		if err != nil && !errors.As(err, &faults) {
			t.Errorf("an error that is no fault: %v", err)
		}
		if err == nil && len(serials) == 0 {
			t.Error("no token, and no fault")
		}
	})
}

// Hexadecimal and base32 are told apart.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(seedText))
	f.Fuzz(func(t *testing.T, seed []byte) {
		if len(seed) < otp.MinSeed || len(seed) > otp.MaxSeed {
			return
		}
		for _, form := range []field{secret, secretHex} {
			if got, err := decode(hex.EncodeToString(seed), form); err != nil || !bytes.Equal(got, seed) {
				t.Errorf("%x in hexadecimal: %x, %v", seed, got, err)
			}
		}
		text := base32.StdEncoding.EncodeToString(seed)
		if got, err := decode(text, secretBase32); err != nil || !bytes.Equal(got, seed) {
			t.Errorf("%x in base32: %x, %v", seed, got, err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	var text strings.Builder
	text.WriteString("upn,serial number,secret key,time interval,manufacturer,model\n")
	n := min(b.N, otp.MaxHardware)
	for i := range n {
		fmt.Fprintf(&text, ",T%07d,%s,30,Acme,M1\n", i, seed32)
	}
	b.ResetTimer()
	b.ReportAllocs()
	got := 0
	if err := Read(strings.NewReader(text.String()), Options{}, func(otp.Hardware) error { got++; return nil }); err != nil || got != n {
		b.Fatal(got, err)
	}
}
