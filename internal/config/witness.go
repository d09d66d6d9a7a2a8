package config

import (
	"encoding/base64"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"sallyport/internal/config/strict"
)

// Witness countersigns checkpoints (c2sp.org/tlog-witness).
type Witness struct {
	Pos  `key:"-"`
	Name string
	URL  string `key:"url"` // before /add-checkpoint
	Key  string // its public key: name+hash+key
	CA   string `key:"ca"` // file; empty: the system's
}

// maxWitnesses bounds them: each is asked at every checkpoint, and each has metrics of its own.
const maxWitnesses = 16

func witnesses(b *strict.Block, key string) []Witness {
	var all []Witness
	names := make(map[string]bool)
	for _, in := range b.Items(key) {
		w := Witness{Pos: in.At("name"), Name: in.Name("name"), CA: in.Path("ca", "")}
		if v, ok := in.Needed("url"); ok {
			w.URL = in.Reader.URL(strict.Text{Value: v, Pos: in.At("url")}, "https", "http")
			if isPlain(w.URL) {
				in.Reader.Warn(in.At("url"), "https://", "lets whoever is between here and the witness feign that it contradicts the log; then nothing more is sent to it")
			}
		}
		if v, ok := in.Needed("key"); ok {
			if w.Key = v; !isWitnessKey(v) {
				in.Bad("key", "name+hash+key in one line, as `sallyport witness init` prints it", "is not the public key of a witness")
			}
		}
		if w.Name != "" && names[w.Name] {
			in.Bad("name", "", "is given to two witnesses")
		}
		names[w.Name] = true
		in.End()
		all = append(all, w)
	}
	if len(all) > maxWitnesses {
		b.Bad(key, "", "are %d, at most %d can be", len(all), maxWitnesses)
	}
	return all
}

// isPlain reports whether a URL is one of HTTP without TLS to another machine.
func isPlain(v string) bool {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() != "localhost" && (err != nil || !a.IsLoopback())
}

// isWitnessKey takes the form of a key (c2sp.org/signed-note) of the algorithm for cosignatures. Whether its hash is
// right, whoever uses it finds out.
func isWitnessKey(v string) bool {
	parts := strings.SplitN(v, "+", 3)
	if len(parts) != 3 || parts[0] == "" || len(parts[1]) != 8 {
		return false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	return err == nil && len(raw) == 33 && raw[0] == 4
}

// checkpointEvery is how often checkpoints go to witnesses and to syslog.
func checkpointEvery(b *strict.Block) time.Duration {
	return b.Span("checkpoint_every", 10*time.Second, time.Second, day)
}
