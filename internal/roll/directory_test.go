package roll

import (
	"slices"
	"strings"
	"testing"

	"sallyport/internal/login"
)

// What a directory says becomes rows: only of those who follow it, and nobody is enabled or given a foreign group by it.
func TestEntries(t *testing.T) {
	people := []login.Person{
		{Name: "alice", Kind: login.Staff, First: "local", Groups: []string{"network"}},
		{Name: "bob", Kind: login.Staff, Groups: []string{"network", "own"}},
		{Name: "carol", Kind: login.Staff, Disabled: true},
		{Name: "dave", Kind: login.Staff, Groups: []string{"network"}},
		{Name: "erin", Kind: login.Supplier},
		{Name: "robot", Kind: login.Service},
	}
	follows := func(p login.Person) bool { return p.First == "" && p.Kind != login.Service }
	entries := []Entry{
		{Name: "alice", Barred: "disabled", Groups: []string{"vpn"}},
		{Name: "bob", FullName: strings.Repeat("é", 100), Groups: []string{"vpn"}},
		{Name: "carol"},
		{Name: "dave", Barred: "disabled", Groups: []string{"network"}},
		{Name: "twice", Groups: []string{"vpn"}},
		{Name: "twice", Groups: []string{"vpn"}},
		{Name: "erin", Groups: []string{"vpn"}},
		{Name: "erin", Groups: []string{"network"}},
		{Name: "frank", Mail: "f@example.org", Groups: []string{"vpn"}},
		{Name: "george"}, // in no group that counts
		{Name: "heidi", Barred: "expired", Groups: []string{"vpn"}},
		{Name: "O'Brien", Groups: []string{"vpn"}},
		{Name: "robot", Barred: "disabled"},
		{Name: "", Groups: []string{"vpn"}},
	}
	rows, notes := Entries(people, entries, Follow{Managed: []string{"network", "vpn"}, First: "ldap", Follows: follows})
	p := new(Problems)
	plan := Make(people, rows, Options{Whole: true, Counts: follows}, p)
	if p.Total != 0 || len(plan.Joiners) != 1 || plan.Joiners[0].Is.Name != "frank" || plan.Joiners[0].Is.First != "ldap" || plan.Joiners[0].Is.Mail != "f@example.org" {
		t.Errorf("joiners %+v, %+v", plan.Joiners, p.List)
	}
	moved := make(map[string]string)
	for _, c := range plan.Movers {
		moved[c.Is.Name] = Describe(c.Was, c.Is)
	}
	if len(moved) != 2 || moved["dave"] != "dave; disabled no -> yes" || !strings.HasPrefix(moved["bob"], "bob; groups network own -> own vpn; full_name - -> é") {
		t.Errorf("movers %q", moved)
	}
	if len(plan.Leavers) != 0 || plan.Leaving() != 1 {
		t.Errorf("leavers %+v", plan.Leavers)
	}
	for _, want := range []string{"carol is disabled here", "twice is there 2 times", "erin is there 2 times", `"O'Brien" cannot`} {
		if !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, want) }) {
			t.Errorf("%q is not among %q", want, notes)
		}
	}
	// Without those who were there, they leave; who does not follow stays.
	rows, _ = Entries(people, entries[:1], Follow{Follows: follows})
	plan = Make(people, rows, Options{Whole: true, Counts: follows}, p)
	var left []string
	for _, l := range plan.Leavers {
		left = append(left, l.Name)
	}
	if !slices.Equal(left, []string{"bob", "dave", "erin"}) {
		t.Errorf("leavers %q", left)
	}
}

// What a directory says of somebody and cannot be taken is left out and told; the rest of him follows, and most of all that he is barred.
func TestHostileEntries(t *testing.T) {
	people := []login.Person{
		{Name: "alice", Kind: login.Staff, FullName: "Alice", Mail: "alice@example.org", Groups: []string{"vpn"}},
		{Name: "bob", Kind: login.Staff, FullName: "Bob", Mail: "bob@example.org", Groups: []string{"vpn"}},
		{Name: "enrol", Kind: login.Staff, Groups: []string{"vpn"}}, // from before the name was taken
	}
	entries := []Entry{
		{Name: "alice", FullName: "Alice\r\nroot", Mail: "alice", Barred: "disabled", Groups: []string{"vpn"}},
		{Name: "bob", FullName: "Bob \x1b[2J", Mail: "bob@example.org, eve@example.org", Groups: []string{"network"}},
		{Name: "carol", FullName: "Carol \xff", Mail: "carol@", Groups: []string{"vpn"}},
		{Name: "dave", FullName: "Dave\u0085", Mail: strings.Repeat("d", MaxMail) + "@example.org", Groups: []string{"vpn"}},
		{Name: "enrol", Barred: "disabled", Groups: []string{"vpn"}},
	}
	follow := Follow{Managed: []string{"network", "vpn"}, Follows: func(login.Person) bool { return true }}
	rows, notes := Entries(people, entries, follow)
	p := new(Problems)
	plan := Make(people, rows, Options{Whole: true}, p)
	var told []string
	for _, c := range slices.Concat(plan.Joiners, plan.Movers) {
		told = append(told, Describe(c.Was, c.Is))
		if c.Is.FullName != c.Was.FullName || c.Is.Mail != c.Was.Mail {
			t.Errorf("%+v becomes %+v", c.Was, c.Is)
		}
	}
	want := []string{"carol staff vpn", "dave staff vpn", "alice; disabled no -> yes", "bob; groups vpn -> network", "enrol; disabled no -> yes"}
	if p.Total != 0 || !slices.Equal(told, want) {
		t.Errorf("%q, want %q; %+v", told, want, p.List)
	}
	for _, e := range entries[:4] {
		for _, field := range []string{"full name", "mail address"} {
			if !slices.ContainsFunc(notes, func(n string) bool { return strings.HasPrefix(n, e.Name+": ") && strings.HasSuffix(n, field) }) {
				t.Errorf("the %s of %s is not among %q", field, e.Name, notes)
			}
		}
	}
	for _, n := range notes {
		if !IsLine(n, 1000) {
			t.Errorf("note %q", n)
		}
	}
	// For somebody new the name is taken.
	entries[4].Barred = ""
	rows, notes = Entries(people[:2], entries[4:], follow)
	if len(rows) != 0 || len(notes) != 1 || notes[0] != `"enrol" cannot be a person's name here` {
		t.Errorf("%+v, %q", rows, notes)
	}
}
