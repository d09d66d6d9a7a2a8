package register

import "time"

// The ages at which access that nobody looked at is to be looked at (CAF outcomes B2.a, B2.c: six months, twelve months).
const (
	AmberAfter = 180 * 24 * time.Hour
	RedAfter   = 365 * 24 * time.Hour
)

// Attestation is one person's word that another's access is, or is no longer, right.
type Attestation struct {
	Person   string    `json:"person"`
	Rule     string    `json:"rule"` // by which the access is had
	By       string    `json:"by"`
	Time     time.Time `json:"time"`
	Decision string    `json:"decision"` // keep or remove
	Note     string    `json:"note,omitempty"`
}

// Colour is how urgent a look at access is: since is when it was last attested, or came to be.
func Colour(since, now time.Time) string {
	switch age := now.Sub(since); {
	case age > RedAfter:
		return "red"
	case age > AmberAfter:
		return "amber"
	}
	return "green"
}
