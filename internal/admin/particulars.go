package admin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/roll"
)

// PeopleRules are what the configuration says of people.
type PeopleRules struct {
	Strict      bool          // what a person lacks is refused, rather than told
	Dormant     time.Duration // who has not logged in for so long counts as dormant
	MinPassword int           // bytes
	First       string        // the first factor of those who have none of their own
}

// The values for what a PeopleRules leaves zero.
const (
	DefaultDormant     = 45 * 24 * time.Hour
	DefaultMinPassword = 8
	firstLocal         = "local"
)

func (s *Service) rules() PeopleRules {
	var r PeopleRules
	if s.People != nil {
		r = s.People()
	}
	r.Dormant = cmp.Or(r.Dormant, DefaultDormant)
	r.MinPassword = max(cmp.Or(r.MinPassword, DefaultMinPassword), MinPassword)
	r.First = cmp.Or(r.First, firstLocal)
	return r
}

// isLocal tells whether a person's first factor is a password kept here.
func (s *Service) isLocal(p login.Person) bool { return cmp.Or(p.First, s.rules().First) == firstLocal }

// Particulars are what is asked of people, and decides nothing.
type Particulars struct {
	FullName string     `json:"full_name,omitempty"`
	Mail     string     `json:"mail,omitempty"`
	Company  string     `json:"company,omitempty"`
	Sponsor  string     `json:"sponsor,omitempty"`
	Owner    string     `json:"owner,omitempty"`
	Contract login.Date `json:"contract_end,omitzero"`
}

// ParticularsSet changes them; what is nil stays as it is.
type ParticularsSet struct {
	FullName *string     `json:"full_name,omitempty"`
	Mail     *string     `json:"mail,omitempty"`
	Company  *string     `json:"company,omitempty"`
	Sponsor  *string     `json:"sponsor,omitempty"`
	Owner    *string     `json:"owner,omitempty"`
	Contract *login.Date `json:"contract_end,omitempty"`
}

// put writes them into a person whose time follows the end of his contract, unless it was said otherwise.
func (in Particulars) put(p *login.Person) {
	p.FullName, p.Mail, p.Company, p.Sponsor, p.Owner, p.Contract = in.FullName, in.Mail, in.Company, in.Sponsor, in.Owner, in.Contract
	if p.Until.IsZero() {
		p.Until = p.Contract.Over()
	}
}

// put changes a person; untilSaid tells that the end of his time was said as well.
func (in ParticularsSet) put(p *login.Person, untilSaid bool) {
	set := func(field *string, value *string) {
		if value != nil {
			*field = *value
		}
	}
	set(&p.FullName, in.FullName)
	set(&p.Mail, in.Mail)
	set(&p.Company, in.Company)
	set(&p.Sponsor, in.Sponsor)
	set(&p.Owner, in.Owner)
	if in.Contract == nil {
		return
	}
	if !untilSaid && (p.Until.IsZero() || p.Until.Equal(p.Contract.Over())) {
		p.Until = in.Contract.Over()
	}
	p.Contract = *in.Contract
}

func checkParticulars(p login.Person) error {
	for _, f := range []struct {
		what, text string
		most       int
	}{{"full name", p.FullName, roll.MaxText}, {"company", p.Company, roll.MaxText}, {"mail address", p.Mail, roll.MaxMail}} {
		if !roll.IsLine(f.text, f.most) {
			return refuse("", "the %s of %s is not a line of at most %d bytes", f.what, clip(p.Name), f.most)
		}
	}
	if p.Mail != "" && !roll.IsMail(p.Mail) {
		return refuse("jones@example.com", "%q is not a mail address", clip(p.Mail))
	}
	return nil
}

// checkAnswering checks that those who newly answer for a person are members of staff: one who has left is a gap, and keeps nobody from
// changing something else. Known finds a person, also one who comes in the same change.
func checkAnswering(p, was login.Person, known func(name string) (login.Person, bool, error)) error {
	for _, a := range []struct{ role, name, before string }{{"sponsor", p.Sponsor, was.Sponsor}, {"owner", p.Owner, was.Owner}} {
		if a.name == "" || a.name == a.before {
			continue
		}
		who, there, err := known(a.name)
		switch {
		case err != nil:
			return err
		case !there:
			return refuse("`sallyport user list --kind staff` shows whom there is", "the %s of %s, %q, is nobody here", a.role, p.Name, clip(a.name))
		case who.Kind != login.Staff || who.Name == p.Name:
			return refuse("`sallyport user list --kind staff` shows whom there is", "the %s of %s has to be another member of staff, and %s is not", a.role, p.Name, who.Name)
		}
	}
	return nil
}

// lacks tells what a person of his kind should have and has not.
func lacks(p login.Person) (list []string) {
	switch p.Kind {
	case login.Supplier:
		if p.Company == "" {
			list = append(list, "company")
		}
		if p.Sponsor == "" {
			list = append(list, "sponsor")
		}
		if p.Until.IsZero() && p.Contract.IsZero() {
			list = append(list, "contract end or until")
		}
	case login.Service, login.BreakGlass:
		if p.Owner == "" {
			list = append(list, "owner")
		}
	}
	return list
}

// lacking tells what a person lacks, as warnings; where the configuration is strict, as a refusal. What he lacked before keeps nobody
// from changing something else of him.
func (s *Service) lacking(p login.Person, before []string) ([]string, error) {
	list := lacks(p)
	if len(list) == 0 {
		return nil, nil
	}
	what := strings.Join(list, ", ")
	if s.rules().Strict && slices.ContainsFunc(list, func(one string) bool { return !slices.Contains(before, one) }) {
		return nil, refuse("--company, --sponsor, --owner, --contract-end, --until; or take out people.strict", "%s %s has no %s", p.Kind, p.Name, what)
	}
	return []string{string(p.Kind) + " " + p.Name + " has no " + what + ": `sallyport user list --gaps` will show it"}, nil
}

// known finds people for checkAnswering.
func (s *Service) known(ctx context.Context) func(string) (login.Person, bool, error) {
	return func(name string) (login.Person, bool, error) { return s.Store.PersonByName(ctx, name) }
}

// checkNew is what is asked beyond checkPerson when somebody is added, or changed from what he was.
func (s *Service) checkNew(ctx context.Context, p, was login.Person) ([]string, error) {
	if err := checkParticulars(p); err != nil {
		return nil, err
	}
	if err := checkAnswering(p, was, s.known(ctx)); err != nil {
		return nil, err
	}
	return s.lacking(p, lacks(was))
}

func particularsDetail(p login.Person) (d []audit.Detail) {
	for _, f := range []struct{ key, value string }{
		{"full_name", p.FullName}, {"mail", p.Mail}, {"company", p.Company}, {"sponsor", p.Sponsor}, {"owner", p.Owner}, {"contract_end", p.Contract.String()},
	} {
		if f.value != "" {
			d = append(d, audit.Detail{Key: f.key, Value: f.value})
		}
	}
	return d
}

// reserved are names that nobody new may have.
func reserved() []string { return []string{login.EnrolName} }

func checkReserved(name string) error {
	if slices.Contains(reserved(), name) {
		return refuse("`ssh "+login.EnrolName+"@GATEWAY` is how people come with an enrolment ticket", "%q is not a name for a person here", name)
	}
	return nil
}
