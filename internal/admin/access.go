package admin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// AccessList is the input of access.list.
type AccessList struct {
	Person string `json:"person,omitempty"`
	Due    bool   `json:"due,omitempty"` // only what is amber or red
}

// AccessRow is what somebody may reach by one rule, and who last said that this is right.
type AccessRow struct {
	Person   string           `json:"person"`
	Kind     login.PersonKind `json:"kind"`
	Rule     string           `json:"rule"`
	To       []string         `json:"to"`
	May      []string         `json:"may"`
	Since    time.Time        `json:"since"`              // of the last attestation, or of the person
	By       string           `json:"by,omitempty"`       // empty: nobody has attested it yet
	Decision string           `json:"decision,omitempty"` // of the last attestation
	Colour   string           `json:"colour"`             // green, amber after 180 days, red after 365 or when it is to be removed
}

// AccessAttest is the input of access.attest.
type AccessAttest struct {
	Person   string `json:"person"`
	Rule     string `json:"rule"`         // empty: every rule by which he has access
	By       string `json:"by,omitempty"` // empty: who enters it
	Decision string `json:"decision"`     // keep or remove
	Note     string `json:"note,omitempty"`
}

func (s *Service) accessVerbs() {
	Handle(s, "access.list", s.accessList)
	Handle(s, "access.attest", s.accessAttest)
}

// accessOf are the rules by which somebody in these groups reaches anything.
func (s *Service) accessOf(groups []string) (rules []AccessRow) {
	for _, r := range s.Gate.Policy().Rules.Of(groups) {
		rules = append(rules, AccessRow{Rule: r.Name, To: slices.Clone(r.To), May: strings.Split(join(r.May), ", ")})
	}
	return rules
}

// accessList is the list that is to be looked at twice a year. Groups that only a directory knows are asked for, person by person;
// where it does not answer, the list is refused: half of it would look like all.
func (s *Service) accessList(ctx context.Context, in AccessList) ([]AccessRow, error) {
	type key struct{ person, rule string }
	last := make(map[key]login.Attestation)
	err := s.Store.Attestations(ctx, func(a login.Attestation) error {
		last[key{a.Person, a.Rule}] = a
		return nil
	})
	if err != nil {
		return nil, err
	}
	var people []login.Person
	if err := s.Store.People(ctx, func(p login.Person) error {
		if (in.Person == "" || p.Name == in.Person) && !p.Disabled {
			people = append(people, p)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if in.Person != "" && len(people) == 0 {
		_, err := s.person(ctx, in.Person)
		return []AccessRow{}, err
	}
	list, now := []AccessRow{}, s.Now()
	for _, p := range people {
		groups, _, err := s.Directory(ctx, p.Name)
		if err != nil {
			return nil, refuse("see `sallyport status`", "the groups of %s: %v", p.Name, err)
		}
		for _, row := range s.accessOf(append(slices.Clip(p.Groups), groups...)) {
			row.Person, row.Kind, row.Since = p.Name, p.Kind, p.Created
			if a, ok := last[key{p.Name, row.Rule}]; ok {
				row.Since, row.By, row.Decision = a.Time, a.By, a.Decision
			}
			if row.Colour = login.AccessColour(row.Since, now); row.Decision == "remove" {
				row.Colour = "red" // somebody said that it is wrong, and he still has it
			}
			if !in.Due || row.Colour != "green" {
				list = append(list, row)
			}
		}
	}
	return list, nil
}

func (s *Service) accessAttest(ctx context.Context, in AccessAttest) (Done, error) {
	by := cmp.Or(in.By, actorOf(ctx).Name)
	switch {
	case in.Decision != "keep" && in.Decision != "remove":
		return Done{}, refuse("keep or remove", "%q is no decision", clip(in.Decision))
	case login.SameName(by, in.Person) || login.SameName(actorOf(ctx).Name, in.Person):
		return Done{}, refuse("somebody else looks at it", "%s would attest his own access", in.Person)
	}
	rows, err := s.accessList(ctx, AccessList{Person: in.Person})
	if err != nil {
		return Done{}, err
	}
	rows = slices.DeleteFunc(rows, func(r AccessRow) bool { return in.Rule != "" && r.Rule != in.Rule })
	if len(rows) == 0 {
		return Done{}, refuse("`sallyport access list` shows by which rules people have access", "%s has no access by rule %q", in.Person, clip(in.Rule))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	what, names := login.Change{}, make([]string, 0, len(rows))
	now := s.Now().UTC().Truncate(time.Millisecond)
	for _, r := range rows {
		what.All = append(what.All, login.Change{PutAttestation: &login.Attestation{Person: in.Person, Rule: r.Rule, By: by, Time: now, Decision: in.Decision, Note: in.Note}})
		names = append(names, r.Rule)
	}
	return s.commit(ctx, change{
		event: "access.attest", person: in.Person, kind: rows[0].Kind, what: what,
		detail: []audit.Detail{{Key: "by", Value: by}, {Key: "rules", Value: strings.Join(names, ", ")}, {Key: "decision", Value: in.Decision}, {Key: "note", Value: in.Note}},
	})
}
