package roll

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/login"
)

// Entry is what a directory says of somebody.
type Entry struct {
	Name     string
	FullName string
	Mail     string
	Barred   string   // why he may not log in there, for good; empty: he may
	Groups   []string // ours, that follow from his groups there
}

// Follow says how people follow a directory.
type Follow struct {
	Managed []string // our groups that follow it; the others are left alone
	First   string   // the first factor of who is added
	// Follows tells whether a person here is the directory's matter at all.
	Follows func(login.Person) bool
}

// maxNotes bounds what is told of entries that cannot be taken.
const maxNotes = 100

// Entries makes rows of a directory's entries: for each person who is known and follows it, and for those who are to be added. Somebody
// who is barred there is disabled here; nobody is enabled again, since who disabled him here may have had his reasons. Notes tell of entries
// that cannot be taken.
func Entries(people []login.Person, entries []Entry, f Follow) (rows []Row, notes []string) {
	known := make(map[string]login.Person, len(people))
	for _, p := range people {
		known[p.Name] = p
	}
	note := func(format string, args ...any) {
		if len(notes) < maxNotes {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	times, done := make(map[string]int, len(entries)), make(map[string]bool)
	for i := range entries {
		times[entries[i].Name]++
	}
	for i := range entries {
		e := &entries[i]
		was, here := known[e.Name]
		if done[e.Name] {
			continue
		}
		done[e.Name] = times[e.Name] > 1
		switch {
		case !login.ValidName(e.Name) || !here && e.Name == login.EnrolName:
			note("%q cannot be a person's name here", clip(e.Name))
			continue
		case times[e.Name] > 1:
			note("%s is there %d times; nothing of him is changed", e.Name, times[e.Name])
			if here && f.Follows(was) {
				rows = append(rows, Row{Person: login.Person{Name: e.Name}, Has: []string{Name}})
			}
			continue
		case here && !f.Follows(was):
			continue
		case !here && (e.Barred != "" || len(f.Managed) > 0 && len(e.Groups) == 0):
			continue
		}
		r := Row{Person: login.Person{Name: e.Name, FullName: fit(e.FullName, MaxText), Mail: e.Mail}, Has: []string{Name, Groups}}
		r.Groups = slices.Clone(e.Groups)
		for _, g := range was.Groups {
			if !slices.Contains(f.Managed, g) {
				r.Groups = append(r.Groups, g)
			}
		}
		slices.Sort(r.Groups)
		if r.Groups = slices.Compact(r.Groups); len(r.Groups) == 0 {
			r.Groups = nil
		}
		// What cannot be taken of these keeps nothing else of him back, least of all that he has left.
		switch {
		case r.FullName == "":
		case IsLine(r.FullName, MaxText):
			r.Has = append(r.Has, FullName)
		default:
			note("%s: %q is not taken for a full name", e.Name, clip(e.FullName))
		}
		switch {
		case r.Mail == "":
		case IsMail(r.Mail):
			r.Has = append(r.Has, Mail)
		default:
			note("%s: %q is not taken for a mail address", e.Name, clip(e.Mail))
		}
		if !here {
			r.First, r.Has = f.First, append(r.Has, First)
		}
		if e.Barred != "" {
			r.Disabled, r.Has = true, append(r.Has, Disabled)
		} else if was.Disabled {
			note("%s is disabled here, and not there: `sallyport user enable %s` lets him in again", e.Name, e.Name)
		}
		rows = append(rows, r)
	}
	return rows, notes
}

// MaxText bounds a name or a company, in bytes; MaxMail is RFC 5321's bound on a path.
const (
	MaxText = 128
	MaxMail = 254
)

// IsLine tells whether a text is one line of at most so many bytes.
func IsLine(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// IsMail tells whether a text is a mail address, as far as that can be seen.
func IsMail(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return IsLine(s, MaxMail) && at > 0 && at < len(s)-1 && !strings.ContainsAny(s, " <>,;\"")
}

// fit cuts a text at a whole character.
func fit(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && s[most]&0xc0 == 0x80 {
		most--
	}
	return s[:most]
}
