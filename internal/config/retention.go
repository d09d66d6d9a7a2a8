package config

import (
	"time"

	"sallyport/internal/config/strict"
)

// What is asked for (auditors' page, row 16): PCI DSS a year, NCSC six months.
const (
	retentionUsual = 400 * day
	retentionWarn  = 365 * day
	retentionLeast = 183 * day // below it only with a reason
)

// Retention is how long things are kept. Zero: for ever.
type Retention struct {
	Records    time.Duration
	Recordings time.Duration
	Reason     string // why records are kept for less than six months
}

// retention reads times, or the word forever.
func retention(b *strict.Block) Retention {
	defer b.End()
	span := func(key string, def time.Duration) time.Duration {
		if v, ok := b.Text(key); ok && v == "forever" {
			return 0
		}
		return b.Span(key, def, day, 100*years)
	}
	r := Retention{Reason: b.Printable("reason", "", 256), Records: span("records", retentionUsual)}
	r.Recordings = span("recordings", r.Records)
	switch {
	case r.Records == 0:
	case r.Records < retentionLeast && r.Reason == "":
		b.Bad("records", `reason: "why this is enough, and who said so"; 400d is usual`, "records are kept for less than six months (183d)")
	case r.Records < retentionWarn:
		b.Reader.Warn(b.At("records"), "400d keeps a year, and the time until it was audited", "records are kept for less than a year")
	}
	if r.Records > 0 && (r.Recordings > r.Records || r.Recordings == 0) {
		b.Bad("recordings", "keep recordings no longer than records", "recordings are kept longer than the records that prove them")
	}
	return r
}
