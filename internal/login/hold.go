package login

import (
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/policy/register"
)

// NextHoldID is the id after those that there are.
func NextHoldID(have []string) string { return register.NextID("LH-", have) }

// CompareHoldIDs orders LH-9 before LH-10.
func CompareHoldIDs(a, b string) int { return register.CompareIDs(a, b) }

// Hold keeps records, and recordings, from being erased when their time is over: a court, a regulator or an inquiry wants them.
// Blank fields take all.
type Hold struct {
	ID     string    `json:"id"` // LH-1, ...
	Reason string    `json:"reason"`
	Person string    `json:"person,omitempty"`
	System string    `json:"system,omitempty"`
	Since  time.Time `json:"since,omitzero"` // of what it holds
	Until  time.Time `json:"until,omitzero"` // the first moment no more
	Made   time.Time `json:"made"`
	By     string    `json:"by"`
	Ended  time.Time `json:"ended,omitzero"` // zero: it is live
	EndBy  string    `json:"ended_by,omitempty"`
	Why    string    `json:"ended_why,omitempty"`
}

// Live reports whether the hold is in force.
func (h *Hold) Live() bool { return h.Ended.IsZero() }

// Covers reports whether the hold, if it is live, keeps a record. Who a record is about is said by its person or, of somebody
// whom the gateway did not know, by the name that he gave; who acted is among the details.
func (h *Hold) Covers(rec *audit.Record) bool {
	return h.CoversAt(rec.Time, rec.Time) && (h.System == "" || SameName(h.System, rec.System)) && (h.Person == "" || h.names(rec))
}

func (h *Hold) names(rec *audit.Record) bool {
	if SameName(h.Person, rec.Person) || SameName(h.Person, rec.Login) {
		return true
	}
	for _, d := range rec.Detail {
		if (d.Key == "actor" || d.Key == "actor_user" || d.Key == "of_person") && SameName(h.Person, d.Value) {
			return true
		}
	}
	return false
}

// CoversAt reports whether the hold reaches into a time.
func (h *Hold) CoversAt(from, to time.Time) bool {
	return h.Live() && (h.Since.IsZero() || !to.Before(h.Since)) && (h.Until.IsZero() || from.Before(h.Until))
}

// CoversSession reports whether the hold keeps the recording of a session that began with the record start and was last
// written to at last. Start is nil where nobody knows whose it was: then any hold of that time keeps it.
func (h *Hold) CoversSession(start *audit.Record, begun, last time.Time) bool {
	if start == nil {
		return h.CoversAt(begun, last)
	}
	return h.CoversAt(start.Time, last) && (h.System == "" || SameName(h.System, start.System)) && (h.Person == "" || h.names(start))
}
