package pskc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/otp"
)

// python is Debian's own, which has Debian's python3-pskc (make deps).
const python = "/usr/bin/python3"

// order is what write.py is asked for.
type order struct {
	Keys       []orderKey     `json:"keys"`
	Encryption map[string]any `json:"encryption,omitempty"`
	MAC        string         `json:"mac,omitempty"`
}

type orderKey struct {
	ID           string `json:"id"`
	Serial       string `json:"serial"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Algorithm    string `json:"algorithm"`
	Suite        string `json:"algorithm_suite,omitempty"`
	Secret       string `json:"secret"`
	Digits       int    `json:"response_length"`
	Counter      *int64 `json:"counter,omitempty"`
	Interval     int    `json:"time_interval,omitempty"`
	Drift        int    `json:"time_drift,omitempty"`
	Start        string `json:"start,omitempty"`
	Expiry       string `json:"expiry,omitempty"`
}

// write lets python-pskc write a file, and pskctool (oath-toolkit) hold it against the schema of RFC 6030.
func write(t *testing.T, o order) string {
	t.Helper()
	in, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "testdata/write.py")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	doc, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v (hint: make deps): %s", err, stderr.Bytes())
	}
	file := filepath.Join(t.TempDir(), "tokens.xml")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(doc, []byte("<pskc:MACMethod>")) {
		return string(doc) // beside key wrap python-pskc writes one without Algorithm, which the schema wants
	}
	if out, err := exec.Command("pskctool", "--quiet", "--validate", file).CombinedOutput(); err != nil {
		t.Fatalf("pskctool: %v: %s\n%s", err, out, doc)
	}
	return string(doc)
}

var (
	seed20 = []byte(rfcSecret)
	seed32 = []byte("12345678901234567890123456789012")
)

func counter(n int64) *int64 { return &n }

func sampleKeys() (keys []orderKey, want []otp.Hardware) {
	keys = []orderKey{
		{ID: "1", Serial: "FT0001", Manufacturer: "Feitian", Model: "c100", Algorithm: profile + "hotp", Secret: hex.EncodeToString(seed20), Digits: 6, Counter: counter(70000)},
		{
			ID: "2", Serial: "GA-2/77", Manufacturer: "Thales", Algorithm: profile + "totp", Suite: "HMAC-SHA256", Secret: hex.EncodeToString(seed32), Digits: 8, Interval: 60, Drift: 3,
			Start: "2026-01-01T00:00:00+00:00", Expiry: "2031-01-01T00:00:00+00:00",
		},
	}
	want = []otp.Hardware{
		{Serial: "FT0001", Maker: "Feitian", Model: "c100", Seed: seed20, Counter: 70000, Params: otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}},
		{
			Serial: "GA-2/77", Maker: "Thales", Seed: seed32, Drift: 3, Params: otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA256, Digits: 8, Period: 60},
			Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Expiry: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC),
		},
	}
	return keys, want
}

// What python-pskc writes, in each way of encrypting that it has and we read, comes out as it went in; and does not with another key.
func TestPythonPSKC(t *testing.T) {
	key := func(n int) (string, Key) {
		k := bytes.Repeat([]byte{0x5a}, n)
		return hex.EncodeToString(k), Key{Preshared: k}
	}
	k16, key16 := key(16)
	k24, key24 := key(24)
	k32, key32 := key(32)
	password := Key{Password: "correct horse"}
	for name, c := range map[string]struct {
		encryption map[string]any
		mac        string
		key, other Key
	}{
		"plain":                     {nil, "", Key{}, key16},
		"AES-128-CBC":               {map[string]any{"key_name": "K1", "key": k16, "algorithm": "aes128-cbc"}, "", key16, Key{Preshared: make([]byte, 16)}},
		"AES-192-CBC":               {map[string]any{"key_name": "K1", "key": k24, "algorithm": "aes192-cbc"}, "hmac-sha256", key24, Key{Preshared: make([]byte, 24)}},
		"AES-256-CBC":               {map[string]any{"key_name": "K1", "key": k32, "algorithm": "aes256-cbc"}, "hmac-sha512", key32, key16},
		"with numbers":              {map[string]any{"key_name": "K1", "key": k32, "algorithm": "aes256-cbc", "fields": []string{"secret", "counter", "time_interval", "time_drift"}}, "", key32, Key{Preshared: make([]byte, 32)}},
		"AES-128 key wrap":          {map[string]any{"key_name": "K1", "key": k16, "algorithm": "kw-aes128"}, "", key16, Key{Preshared: make([]byte, 16)}},
		"AES-256 key wrap":          {map[string]any{"key_name": "K1", "key": k32, "algorithm": "kw-aes256"}, "", key32, Key{Preshared: make([]byte, 32)}},
		"password":                  {map[string]any{"password": "correct horse", "iterations": 2000}, "", password, Key{Password: "correct hors"}},
		"password, SHA-256":         {map[string]any{"password": "correct horse", "algorithm": "aes256-cbc", "prf": "hmac-sha256", "iterations": 2000}, "hmac-sha256", password, Key{Password: "x"}},
		"password, many iterations": {map[string]any{"password": "correct horse", "algorithm": "aes192-cbc", "prf": "hmac-sha512", "iterations": 100000, "salt_length": 32}, "", password, key24},
	} {
		t.Run(name, func(t *testing.T) {
			keys, want := sampleKeys()
			doc := write(t, order{Keys: keys, Encryption: c.encryption, MAC: c.mac})
			got, faults := read(t, doc, c.key)
			if len(faults) > 0 || len(got) != len(want) {
				t.Fatalf("got %+v, %v", got, faults)
			}
			for i := range want {
				want[i].Line = got[i].Line
				if !equal(got[i], want[i]) {
					t.Errorf("got %+v\nwant %+v", got[i], want[i])
				}
			}
			if c.encryption != nil && strings.Contains(doc, "MTIzNDU2") {
				t.Error("the file holds a secret in clear: it proves nothing")
			}
			if got, faults := read(t, doc, c.other); len(faults) == 0 || len(got) > 0 {
				t.Errorf("with another key: %d tokens, %v", len(got), faults)
			}
		})
	}
}

// pskctool reads a file in clear as we do.
func TestPskctool(t *testing.T) {
	keys, _ := sampleKeys()
	file := filepath.Join(t.TempDir(), "tokens.xml")
	doc := write(t, order{Keys: keys})
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("pskctool", "--info", "--verbose", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	got, faults := read(t, doc, Key{})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, h := range got {
		want := []string{"SerialNo: " + h.Serial, "Manufacturer: " + h.Maker, fmt.Sprintf("Response Format Length: %d", h.Params.Digits)}
		if h.Params.Type == otp.TypeHOTP {
			want = append(want, fmt.Sprintf("Key Counter: %d", h.Counter))
		} else {
			want = append(want, fmt.Sprintf("Key TimeInterval: %d", h.Params.Period), fmt.Sprintf("Key TimeDrift: %d", h.Drift))
		}
		for _, line := range want {
			if !strings.Contains(string(out), line) {
				t.Errorf("%q is not in what pskctool says:\n%s", line, out)
			}
		}
	}
}
