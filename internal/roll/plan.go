package roll

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"sallyport/internal/login"
)

// Change is somebody who is to be another, or new.
type Change struct {
	Was  login.Person // no name: he is new
	Is   login.Person
	Line int
	row  *Row
}

// Plan is what a list comes to.
type Plan struct {
	Joiners []Change
	Movers  []Change
	Leavers []login.Person // known, and not in a list that is of everybody
	Same    int
	Active  int // people that could be leavers, before
}

// Options say how a list is meant.
type Options struct {
	Whole bool // the list is of all staff and suppliers: who is not in it leaves
	// Counts tells whether somebody would have to be in a whole list; nil: staff and suppliers.
	Counts func(login.Person) bool
}

func staffAndSuppliers(p login.Person) bool { return p.Kind == login.Staff || p.Kind == login.Supplier }

// Make compares a list with people.
func Make(people []login.Person, rows []Row, o Options, problems *Problems) *Plan {
	if o.Counts == nil {
		o.Counts = staffAndSuppliers
	}
	known := make(map[string]login.Person, len(people))
	for _, p := range people {
		known[p.Name] = p
	}
	plan := &Plan{}
	lines := make(map[string]int, len(rows))
	will := make(map[string]login.Person, len(rows)) // of the list, as they will be
	for i := range rows {
		r := &rows[i]
		if first, twice := lines[r.Name]; twice {
			problems.bad(r, Name, "", "%q is in line %d already", r.Name, first)
			continue
		}
		lines[r.Name] = r.Line
		was := known[r.Name]
		is := r.merge(was)
		will[r.Name] = is
		c := Change{Was: was, Is: is, Line: r.Line, row: r}
		switch {
		case was.Name == "":
			plan.Joiners = append(plan.Joiners, c)
		case len(Compare(was, is)) > 0:
			plan.Movers = append(plan.Movers, c)
		default:
			plan.Same++
		}
	}
	for _, p := range people {
		if p.Disabled || !o.Counts(p) {
			continue
		}
		plan.Active++
		if _, there := lines[p.Name]; !there && o.Whole {
			plan.Leavers = append(plan.Leavers, p)
		}
	}
	checkAnswering(plan, known, will, problems)
	// Who answers for others comes first, so that he is known when they come.
	order := func(a, b Change) int {
		return cmp.Or(cmp.Compare(rank(a.Is), rank(b.Is)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Is.Name, b.Is.Name))
	}
	slices.SortFunc(plan.Joiners, order)
	slices.SortFunc(plan.Movers, order)
	return plan
}

func rank(p login.Person) int {
	if p.Kind == login.Staff {
		return 0
	}
	return 1
}

// checkAnswering looks for sponsors and owners, also among those who come by the same list.
func checkAnswering(plan *Plan, known, will map[string]login.Person, problems *Problems) {
	for _, c := range slices.Concat(plan.Joiners, plan.Movers) {
		for _, a := range []struct{ field, name, before string }{{Sponsor, c.Is.Sponsor, c.Was.Sponsor}, {Owner, c.Is.Owner, c.Was.Owner}} {
			if a.name == "" || a.name == a.before {
				continue
			}
			who, there := will[a.name]
			if !there {
				who, there = known[a.name]
			}
			if !there || who.Kind != login.Staff || who.Name == c.Is.Name {
				problems.Add(Problem{
					Line: c.Line, Column: c.row.At(a.field), Field: a.field, Text: "\"" + clip(a.name) + "\" is no other member of staff",
					Hint: "who answers for somebody is staff, here or in the same list",
				})
			}
		}
	}
}

// Leaving is how many active people could not log in any more.
func (p *Plan) Leaving() int {
	n := len(p.Leavers)
	for _, c := range p.Movers {
		if c.Is.Disabled && !c.Was.Disabled {
			n++
		}
	}
	return n
}

// MaxLeaving is the share of people, in per cent, whose leaving at once is taken for a mistake.
const MaxLeaving = 10

// Drastic tells whether more leave than can be meant: more than so many, and than MaxLeaving.
func (p *Plan) Drastic(few int) bool {
	n := p.Leaving()
	return n > few && n*100 > p.Active*MaxLeaving
}

// Batch is what is done in one change and one record.
type Batch struct {
	Put   []Put    `json:"put,omitempty"`
	Leave []string `json:"leave,omitempty"` // who is disabled
}

// Put is a person as he is to be.
type Put struct {
	Person login.Person `json:"person"`
	Was    string       `json:"was,omitempty"` // Mark of what he was; empty: he is new
	Line   int          `json:"line,omitempty"`
}

// Mark names a state of a person, so that a change is not made to another one than was looked at.
func Mark(p login.Person) string {
	p.Created = time.Time{}
	b, err := json.Marshal(p)
	if err != nil {
		panic("roll: strings and times cannot fail: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// The bounds of a batch, in bytes: of the people in it, which have to fit a change and a request, and of what its record says of them.
const (
	maxBatch  = 256 << 10
	maxTold   = 24 << 10
	maxPeople = 1000
)

// Batches cuts a plan. They are to be carried out in their order.
func (p *Plan) Batches() (list []Batch) {
	var b Batch
	size, told := 0, 0
	room := func(bytes, text int) {
		if len(b.Put)+len(b.Leave) > 0 && (size+bytes > maxBatch || told+text > maxTold || len(b.Put)+len(b.Leave) >= maxPeople) {
			list = append(list, b)
			b, size, told = Batch{}, 0, 0
		}
		size, told = size+bytes, told+text
	}
	for _, c := range slices.Concat(p.Joiners, p.Movers) {
		put := Put{Person: c.Is, Line: c.Line}
		if c.Was.Name != "" {
			put.Was = Mark(c.Was)
		}
		raw, err := json.Marshal(put)
		if err != nil {
			panic("roll: strings and times cannot fail: " + err.Error())
		}
		room(len(raw), len(Describe(c.Was, c.Is))+2)
		b.Put = append(b.Put, put)
	}
	for _, who := range p.Leavers {
		raw, err := json.Marshal(who)
		if err != nil {
			panic("roll: strings and times cannot fail: " + err.Error())
		}
		room(len(raw), len(who.Name)+2)
		b.Leave = append(b.Leave, who.Name)
	}
	if len(b.Put)+len(b.Leave) > 0 {
		list = append(list, b)
	}
	return list
}
