// Package roll compares a list of people with those that the gateway knows: who joins, who moves, and who leaves. The list is a file
// (Read) or a directory's; what is to be done is a Plan, which is cut into Batches so that each is one change and one record. It asks
// nobody and changes nothing.
//
// A file is CSV (RFC 4180) in UTF-8, with or without a byte order mark, its fields separated by commas, semicolons or tabs, with one header
// line of the names in Columns. What has no column stays as it is. Several groups stand in one field, separated by blanks, commas,
// semicolons or bars. Files are written (Write) so that no spreadsheet takes a field for a formula: one that begins with = + - @, a tab or a
// carriage return gets an apostrophe before it, which Read takes away again.
package roll

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sallyport/internal/login"
)

// The columns, in the order in which they are written.
const (
	Name     = "name"
	Kind     = "kind"
	Groups   = "groups"
	FullName = "full_name"
	Mail     = "mail"
	Company  = "company"
	Sponsor  = "sponsor"
	Owner    = "owner"
	From     = "from"
	Until    = "until"
	Contract = "contract_end"
	First    = "first_factor"
	Disabled = "disabled"
)

// Columns are all that there are.
func Columns() []string {
	return []string{Name, Kind, Groups, FullName, Mail, Company, Sponsor, Owner, From, Until, Contract, First, Disabled}
}

// Row is what a list says of somebody.
type Row struct {
	login.Person
	Line int      // in the file; 0: it is of none
	Has  []string // what the list says; the rest stays as it is
	at   []uint16 // columns of the file where that stands
}

// At is the column of the file where a field stands; 0: nowhere.
func (r *Row) At(field string) int {
	if i := slices.Index(r.Has, field); i >= 0 && i < len(r.at) {
		return int(r.at[i])
	}
	return 0
}

// Diff is a field that is to be another.
type Diff struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// text is a field of a person, as files and records have it.
func text(p login.Person, field string) string {
	switch field {
	case Name:
		return p.Name
	case Kind:
		return string(p.Kind)
	case Groups:
		return strings.Join(p.Groups, " ")
	case FullName:
		return p.FullName
	case Mail:
		return p.Mail
	case Company:
		return p.Company
	case Sponsor:
		return p.Sponsor
	case Owner:
		return p.Owner
	case From:
		return moment(p.From)
	case Until:
		return moment(p.Until)
	case Contract:
		return p.Contract.String()
	case First:
		return p.First
	case Disabled:
		if p.Disabled {
			return "yes"
		}
		return "no"
	}
	return ""
}

// moment is a day where it is midnight UTC.
func moment(t time.Time) string {
	switch t = t.UTC(); {
	case t.IsZero():
		return ""
	case t.Equal(t.Truncate(24 * time.Hour)):
		return t.Format(time.DateOnly)
	}
	return t.Format(time.RFC3339)
}

// Compare lists what is different between what a person was and is to be.
func Compare(was, is login.Person) (list []Diff) {
	for _, field := range Columns() {
		if old, now := text(was, field), text(is, field); old != now {
			list = append(list, Diff{field, old, now})
		}
	}
	return list
}

// Describe is a change of a person in one line, as records have it. A joiner was nobody.
func Describe(was, is login.Person) string {
	if was.Name == "" {
		return is.Name + " " + string(is.Kind) + " " + cmp.Or(strings.Join(is.Groups, ","), "-")
	}
	parts := []string{is.Name}
	for _, d := range Compare(was, is) {
		parts = append(parts, d.Field+" "+cmp.Or(d.Old, "-")+" -> "+cmp.Or(d.New, "-"))
	}
	return strings.Join(parts, "; ")
}

// merge is the person that a row makes of what he was.
func (r *Row) merge(was login.Person) login.Person {
	p := was
	p.Name = r.Name
	p.Groups = slices.Clone(was.Groups)
	has := func(field string) bool { return slices.Contains(r.Has, field) }
	for _, f := range []struct {
		field string
		put   func()
	}{
		{Kind, func() { p.Kind = r.Kind }},
		{Groups, func() { p.Groups = r.Groups }},
		{FullName, func() { p.FullName = r.FullName }},
		{Mail, func() { p.Mail = r.Mail }},
		{Company, func() { p.Company = r.Company }},
		{Sponsor, func() { p.Sponsor = r.Sponsor }},
		{Owner, func() { p.Owner = r.Owner }},
		{From, func() { p.From = r.From }},
		{First, func() { p.First = r.First }},
		{Disabled, func() { p.Disabled = r.Disabled }},
	} {
		if has(f.field) && (f.field != Kind || r.Kind != "") { // nobody has no kind
			f.put()
		}
	}
	if p.Kind == "" {
		p.Kind = login.Staff
	}
	before := was.Contract
	if has(Contract) {
		p.Contract = r.Contract
	}
	switch {
	case has(Until) && !r.Until.IsZero():
		p.Until = r.Until
	case has(Until), has(Contract) && (p.Until.IsZero() || p.Until.Equal(before.Over())):
		p.Until = p.Contract.Over() // it follows the contract, unless it was said otherwise
	}
	return p
}
