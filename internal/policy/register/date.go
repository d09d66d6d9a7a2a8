package register

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Date is a day without a time, as minutes and plans name them. It is midnight UTC, so that no summer time moves it.
type Date struct{ time.Time }

// ParseDate reads 2026-06-30.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("%q is no day: write 2026-06-30", s)
	}
	return Date{t}, nil
}

// DateOf is the day of a time, in UTC.
func DateOf(t time.Time) Date {
	y, m, d := t.UTC().Date()
	return Date{time.Date(y, m, d, 0, 0, 0, 0, time.UTC)}
}

// Over is the first moment at which what holds until the day no longer does; zero of the zero Date.
func (d Date) Over() time.Time {
	if d.IsZero() {
		return time.Time{}
	}
	return d.AddDate(0, 0, 1)
}

func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Format(time.DateOnly)
}

// MarshalText implements encoding.TextMarshaler.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalJSON hides time.Time's.
func (d Date) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Nothing is the zero Date.
func (d *Date) UnmarshalText(b []byte) (err error) {
	*d = Date{}
	if len(b) > 0 {
		*d, err = ParseDate(string(b))
	}
	return err
}

// UnmarshalJSON hides time.Time's.
func (d *Date) UnmarshalJSON(b []byte) error {
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return fmt.Errorf("%.40q is no day", b)
	}
	return d.UnmarshalText([]byte(s))
}

// The letters that ids begin with.
const (
	ExceptionPrefix = "EX-"
	GrantPrefix     = "GR-"
)

// number is an id's number; 0 where it has none.
func number(id string) int {
	_, digits, _ := strings.Cut(id, "-")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// CompareIDs orders EX-9 before EX-10.
func CompareIDs(a, b string) int {
	return cmp.Or(cmp.Compare(number(a), number(b)), cmp.Compare(a, b))
}

// NextID is the id after all those that are there.
func NextID(prefix string, have []string) string {
	most := 0
	for _, id := range have {
		if strings.HasPrefix(id, prefix) {
			most = max(most, number(id))
		}
	}
	return prefix + strconv.Itoa(most+1)
}
