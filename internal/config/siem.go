package config

import (
	"regexp"
	"time"

	"sallyport/internal/config/strict"
)

// Syslog is a receiver that records are copied to (RFC 5424 over TCP, or over TLS as in RFC 5425).
type Syslog struct {
	Pos        `key:"-"`
	Name       string     // of its place in the log, too: another name begins anew
	Address    string     // host:port
	TLS        *SyslogTLS `key:"tls"` // nil: without
	Format     string     // json, cef
	Facility   string
	Enterprise string        // enterprise number of the structured data
	From       string        // FromNow, FromStart: where a receiver begins that was never there
	Overlap    int           // records that are repeated after a break
	DownAfter  time.Duration // how long a receiver may lack records before that is an alert

	CheckpointEvery time.Duration
}

// SyslogTLS is how the ends prove themselves.
type SyslogTLS struct {
	CA         string `key:"ca"` // file; empty: the system's
	Cert       string // files of our certificate; empty: none
	Key        string
	ServerName string // in the receiver's certificate; empty: the address's
}

// Where a receiver begins.
const (
	FromNow   = "now"
	FromStart = "start"
)

// enterprise is what a private enterprise number looks like in an SD-ID (RFC 5424 section 7.2.2).
var enterprise = regexp.MustCompile(`^[0-9]{1,10}(\.[0-9]{1,10})?$`)

func syslogs(b *strict.Block) []Syslog {
	var all []Syslog
	lines := map[string]int{}
	for _, item := range b.Items("syslog") {
		s := syslog(item)
		if first, taken := lines[s.Name]; taken && s.Name != "" {
			item.Bad("name", "each has its own place in the log, kept by name", "%s is the name of the receiver in line %d", strict.Show(s.Name), first)
		}
		lines[s.Name] = item.Pos.Line
		all = append(all, s)
	}
	return all
}

func syslog(b *strict.Block) Syslog {
	defer b.End()
	s := Syslog{
		Pos:        b.Pos,
		Name:       b.Name("name"),
		TLS:        syslogTLS(b, "tls"),
		Format:     strict.Word(b, "format", "json", "json", "cef"),
		Facility:   strict.Word(b, "facility", "authpriv", "auth", "authpriv", "audit", "alert", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
		Enterprise: b.Printable("enterprise", "32473", 21),
		From:       strict.Word(b, "from", FromNow, FromNow, FromStart),
		Overlap:    b.Number("overlap", 1000, 0, 1_000_000),
		DownAfter:  b.Span("down_after", 5*time.Minute, time.Second, 30*day),

		CheckpointEvery: b.Span("checkpoint_every", 10*time.Second, time.Second, day),
	}
	port := 514 // of syslog; plain TCP has none of its own that anybody uses
	if s.TLS != nil {
		port = 6514 // RFC 5425 section 4.1
	}
	s.Address = b.HostPort("address", port)
	if !enterprise.MatchString(s.Enterprise) {
		b.Bad("enterprise", "digits, as IANA has given them to your organisation; 32473 is the one for examples (RFC 5612)", "%s is not a private enterprise number", strict.Show(s.Enterprise))
	}
	if s.TLS == nil {
		b.Reader.Warn(b.At("address"), "tls: true", "records cross the network in the clear, and nobody proves to be the receiver")
	}
	return s
}

// syslogTLS reads true, false, or a block.
func syslogTLS(b *strict.Block, key string) *SyslogTLS {
	if b.IsScalar(key) || !b.Has(key) {
		if b.Truth(key, false) {
			return &SyslogTLS{}
		}
		return nil
	}
	in := b.Block(key)
	defer in.End()
	t := &SyslogTLS{CA: in.Path("ca", ""), Cert: in.Path("cert", ""), Key: in.Path("key", ""), ServerName: in.Printable("server_name", "", 255)}
	if t.Cert == "" != (t.Key == "") {
		in.Bad("cert", "give both, or neither", "goes with key, and one of the two is missing")
	}
	return t
}
