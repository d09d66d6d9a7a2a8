package roll

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport/internal/login"
)

func read(t testing.TB, text string) ([]Row, *Problems) {
	t.Helper()
	var p Problems
	rows, _, err := Read(strings.NewReader(text), &p)
	if err != nil {
		t.Fatal(err)
	}
	return rows, &p
}

// A file is read however a spreadsheet wrote it.
func TestRead(t *testing.T) {
	for what, text := range map[string]string{
		"plain":      "name,groups,disabled\nalice,\"network vpn\",no\n",
		"CRLF":       "name,groups,disabled\r\nalice,network;vpn,no\r\n",
		"BOM":        "\xef\xbb\xbfname,groups,disabled\nalice,vpn|network,0\n",
		"semicolons": "name;groups;disabled\nalice;vpn,network;false\n\n;;\n",
		"tabs":       "Name\tGroups\tDisabled\nalice\tvpn network vpn\t\n",
		"order":      "disabled,groups,name\nno,vpn network,alice",
	} {
		rows, p := read(t, text)
		if p.Total != 0 || len(rows) != 1 || rows[0].Name != "alice" || !reflect.DeepEqual(rows[0].Groups, []string{"network", "vpn"}) || rows[0].Disabled || rows[0].Line != 2 {
			t.Errorf("%s: %+v, %+v", what, rows, p.List)
		}
	}
}

// All that is wrong comes at once, each with its place.
func TestReadProblems(t *testing.T) {
	for what, c := range map[string]struct{ text, want string }{
		"empty":          {"", "1:0"},
		"unknown column": {"name,group\n", "1:6"},
		"column twice":   {"name,name\n", "1:6"},
		"no name":        {"groups\n", "1:0"},
		"UTF-16":         {"n\x00a\x00m\x00e\x00", "1:0"},
		"rows":           {"name,from,disabled,contract_end\nAlice,x,maybe,2026-02-31\nbob,,,\nca\"rol,,,\nd\n", "2:1 2:7 2:9 2:15 4:3 5:0"},
		"Latin-1":        {"name,full_name\nalice,J\xf6rg\n", "2:7"},
		"long":           {"name,full_name\nalice," + strings.Repeat("x", MaxField+1) + "\n", "2:7"},
		"many groups":    {"name,groups\nalice," + strings.Repeat("g ", MaxGroups+1) + "\n", "2:7"},
	} {
		_, p := read(t, c.text)
		var got []string
		for _, x := range p.List {
			got = append(got, fmt.Sprintf("%d:%d", x.Line, x.Column))
		}
		if strings.Join(got, " ") != c.want || p.Total != len(got) {
			t.Errorf("%s: %s, want %s: %+v", what, got, c.want, p.List)
		}
	}
	var many strings.Builder
	many.WriteString("name\n")
	for range 2 * maxProblems {
		many.WriteString("A\n")
	}
	if _, p := read(t, many.String()); p.Total != 2*maxProblems || len(p.List) != maxProblems {
		t.Errorf("%d of %d problems are kept", len(p.List), p.Total)
	}
}

func people() []login.Person {
	until := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	return []login.Person{
		{Name: "alice", Kind: login.Staff, Groups: []string{"network"}, FullName: "Alice", Created: until},
		{Name: "bob", Kind: login.Staff},
		{Name: "ext", Kind: login.Supplier, Company: "=1+1", Sponsor: "alice", Contract: login.Date{Time: until.AddDate(0, 0, -1)}, Until: until},
		{Name: "gone", Kind: login.Staff, Disabled: true},
		{Name: "robot", Kind: login.Service, Owner: "bob"},
	}
}

// A plan tells who joins, moves and leaves; machines and those who left before do not leave again.
func TestMake(t *testing.T) {
	rows, p := read(t, "name,groups,kind,sponsor,contract_end\nalice,vpn,staff,,\nzoe,,supplier,yves,2026-12-31\next,,,alice,2027-06-30\n")
	plan := Make(people(), rows, Options{Whole: true}, p)
	if p.Total != 1 || p.List[0].Line != 3 || p.List[0].Field != Sponsor || plan.Movers[1].Is.Kind != login.Supplier {
		t.Errorf("%+v, problems: %+v", plan, p.List)
	}
	rows, p = read(t, "name,groups,kind,sponsor,contract_end\nalice,vpn,staff,,\nzoe,,supplier,yves,2026-12-31\nyves,,staff,,\next,,supplier,alice,2027-06-30\n")
	plan = Make(people(), rows, Options{Whole: true}, p)
	if p.Total != 0 || len(plan.Joiners) != 2 || plan.Joiners[0].Is.Name != "yves" || len(plan.Movers) != 2 || plan.Same != 0 {
		t.Errorf("%+v, %+v", plan, p.List)
	}
	if len(plan.Leavers) != 1 || plan.Leavers[0].Name != "bob" || plan.Active != 3 || !plan.Drastic(0) || plan.Drastic(1) {
		t.Errorf("leavers %+v of %d", plan.Leavers, plan.Active)
	}
	alice, ext := plan.Movers[0].Is, plan.Movers[1].Is
	if alice.FullName != "Alice" || alice.Groups[0] != "vpn" || !ext.Until.Equal(time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v, %+v", alice, ext)
	}
	if got := Describe(plan.Movers[0].Was, alice); got != "alice; groups network -> vpn" {
		t.Error(got)
	}
	if plan = Make(people(), rows, Options{}, new(Problems)); len(plan.Leavers) != 0 || plan.Drastic(0) {
		t.Errorf("a list that is not whole: %+v", plan.Leavers)
	}
	if _ = Make(nil, append(rows, rows[0]), Options{}, p); p.Total == 0 {
		t.Error("a name that is there twice was taken")
	}
}

// Batches fit what carries them, in the order of the plan.
func TestBatches(t *testing.T) {
	var text strings.Builder
	text.WriteString("name,kind,full_name,groups\n")
	const n = 10_000
	for i := range n {
		fmt.Fprintf(&text, "p%05d,staff,%s,%s\n", i, strings.Repeat("n", i%100), strings.Repeat("group-"+fmt.Sprint(i%7)+" ", i%40))
	}
	rows, p := read(t, text.String())
	batches := Make(nil, rows, Options{}, p).Batches()
	i := 0
	for _, b := range batches {
		told := 0
		for _, put := range b.Put {
			if put.Person.Name != fmt.Sprintf("p%05d", i) {
				t.Fatalf("%s is out of order", put.Person.Name)
			}
			told += len(Describe(login.Person{}, put.Person))
			i++
		}
		if told > maxTold || len(b.Put) > maxPeople {
			t.Errorf("a batch of %d people and %d bytes", len(b.Put), told)
		}
	}
	if i != n || len(batches) < n/maxPeople {
		t.Errorf("%d people in %d batches", i, len(batches))
	}
}

// What is written is read as it was, and no field begins as a formula does.
func TestWrite(t *testing.T) {
	all := people()
	all[0].FullName, all[1].FullName, all[2].FullName, all[3].Company = "'quoted'", "-1", "@SUM(A1)", "a\"b,c;d"
	var b bytes.Buffer
	if err := Write(&b, func(yield func(login.Person) error) error {
		for _, p := range all {
			if err := yield(p); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.FieldsFunc(b.String(), func(r rune) bool { return r == ',' || r == '\n' || r == '"' }) {
		if strings.ContainsAny(field[:1], formula) {
			t.Errorf("%q is a formula", field)
		}
	}
	rows, p := read(t, b.String())
	if plan := Make(all, rows, Options{Whole: true}, p); p.Total != 0 || plan.Same != len(all) || len(plan.Leavers) != 0 {
		t.Errorf("%+v %+v\n%s", plan, p.List, b.String())
	}
}

func FuzzRead(f *testing.F) {
	f.Add("name,groups\nalice,\"a b\"\n")
	f.Add("\xef\xbb\xbfname;full_name\r\nbob;'=1\r\n")
	f.Add("name,from\n\"a\"b,2026-01-01\n")
	f.Fuzz(func(t *testing.T, text string) {
		var p Problems
		rows, _, err := Read(strings.NewReader(text), &p)
		if err != nil || p.Total > 0 {
			return
		}
		plan := Make(nil, rows, Options{}, &p)
		if p.Total > 0 {
			return
		}
		var b bytes.Buffer
		if err := Write(&b, func(yield func(login.Person) error) error {
			for _, c := range plan.Joiners {
				if err := yield(c.Is); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		again, q := read(t, b.String())
		if q.Total > 0 {
			t.Fatalf("what was written is not read: %+v\n%s", q.List, b.String())
		}
		var old []login.Person
		for _, c := range plan.Joiners {
			old = append(old, c.Is)
		}
		if back := Make(old, again, Options{Whole: true}, q); len(back.Movers)+len(back.Joiners)+len(back.Leavers) > 0 {
			t.Fatalf("what was written is read as another: %+v\n%s", back, b.String())
		}
	})
}
