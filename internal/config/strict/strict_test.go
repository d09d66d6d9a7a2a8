package strict

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// TestSecretIsSilent: no verb, log or encoding shows a secret, also not from inside other values (P9).
func TestSecretIsSilent(t *testing.T) {
	const plain = "hunter2hunter2"
	s := NewSecret([]byte(plain))
	holder := struct {
		Open   Secret
		hidden Secret
		ptr    *Secret
	}{s, s, &s}
	said := fmt.Sprint(s, holder, &holder, []Secret{s}, map[string]Secret{"k": s})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t", "%p"} {
		said += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, holder) + fmt.Sprintf(verb, []Secret{s})
	}
	asJSON, err := json.Marshal(map[string]any{"s": s, "h": holder})
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Dump(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "holder", holder)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "holder", holder)
	said += string(asJSON) + string(asYAML) + log.String()
	for _, form := range []string{plain, fmt.Sprintf("%x", plain), fmt.Sprintf("%X", plain), strings.Trim(fmt.Sprint([]byte(plain)), "[]"), "aHVudGVyMmh1bnRlcjI"} {
		if strings.Contains(said, form) {
			t.Errorf("%q is in what is printed:\n%s", form, said)
		}
	}
	if !strings.Contains(string(asJSON), redacted) || !strings.Contains(string(asYAML), redacted) {
		t.Errorf("not redacted: %s %s", asJSON, asYAML)
	}
	if string(s.Bytes()) != plain {
		t.Error("Bytes does not reveal it")
	}
	s.Bytes()[0] = 'x'
	if string(s.Bytes()) != plain {
		t.Error("whoever has the bytes can change the secret")
	}
}

func TestSecretEqual(t *testing.T) {
	a, b, empty := NewSecret([]byte("a")), NewSecret([]byte("b")), NewSecret(nil)
	var none Secret
	for _, c := range []struct {
		x, y Secret
		want bool
	}{{a, a, true}, {a, NewSecret([]byte("a")), true}, {a, b, false}, {a, none, false}, {none, none, true}, {empty, none, false}, {empty, a, false}} {
		if c.x.Equal(c.y) != c.want || c.y.Equal(c.x) != c.want {
			t.Errorf("%q and %q: want %v", c.x.Bytes(), c.y.Bytes(), c.want)
		}
	}
	if !none.Empty() || !empty.Empty() || a.Empty() || none.Bytes() != nil {
		t.Error("emptiness")
	}
}

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "15m": 15 * time.Minute, "1h30m": 90 * time.Minute, "0s": 0, "0d": 0, "250ms": 250 * time.Millisecond,
		"1d": day, "30d": 30 * day, "1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute, "106751d": 106751 * day,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "0", "30", "1.5", "d", "-1d", "+1d", "-1s", "+1s", "1 d", "1d ", " 1s", "1d-1s", "1d1d", "1w", "1y", "1.5d", "s", ".s", "1d5", "0x1s",
		"106752d", "106751d24h", "99999999999999999999d", "9999999999h", "1d\x00", "１s", "1e3s",
	} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"listen", "accounting", "tls", "on"}
	for word, want := range map[string]string{
		"lisen": "listen", "Listen": "listen", "acounting": "accounting", "tsl": "tls", "workers": "", "": "", "x": "", "zz": "",
		strings.Repeat("x", 64): "",
	} {
		if got, _ := Nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
