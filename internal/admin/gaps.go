package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/login"
	"sallyport/otp"
)

// UserList is the input of user.list; what is zero filters nothing.
type UserList struct {
	Kinds    []login.PersonKind `json:"kinds,omitempty"`
	Group    string             `json:"group,omitempty"`
	Disabled bool               `json:"disabled,omitempty"` // those alone
	Dormant  time.Duration      `json:"dormant,omitempty"`  // those alone who were not let in for so long
}

// UserRow is a person in a list.
type UserRow struct {
	login.Person
	Tokens int       `json:"tokens"` // active ones
	Keys   int       `json:"keys"`
	Last   time.Time `json:"last_login,omitzero"` // zero: never
}

// The gaps: what an auditor would ask about.
const (
	GapNoToken       = "no_token"       // a rule lets him do something, and he has no active token
	GapNoPassword    = "no_password"    // the same, and his password here is not set
	GapDormant       = "dormant"        // not let in for long
	GapTokenUnused   = "token_unused"   // never used to log in
	GapKeyUnused     = "key_unused"     // the same
	GapLacks         = "lacks"          // company, sponsor, owner, end
	GapAnswering     = "answering_gone" // sponsor or owner has left
	GapContractEnded = "contract_ended" // and he is active all the same
)

// GapsIn is the input of user.gaps.
type GapsIn struct {
	Dormant time.Duration `json:"dormant,omitempty"` // 0: what the configuration says
}

// Gap is one finding about one person.
type Gap struct {
	Person string           `json:"person"`
	Kind   login.PersonKind `json:"kind"`
	Gap    string           `json:"gap"`
	Text   string           `json:"text"`
}

// dormantSince is since when nothing was heard of a person: his last login, or when he could have begun.
func (s *Service) dormantSince(p login.Person) time.Time {
	since := s.Gate.LastLogin(p.Name)
	for _, t := range []time.Time{p.Created, p.From} {
		if t.After(since) {
			since = t
		}
	}
	return since
}

func (s *Service) userList(ctx context.Context, in UserList) ([]UserRow, error) {
	rows := []UserRow{}
	at := make(map[string]int)
	now := s.Now()
	err := s.Store.People(ctx, func(p login.Person) error {
		switch {
		case len(in.Kinds) > 0 && !slices.Contains(in.Kinds, p.Kind), in.Group != "" && !slices.Contains(p.Groups, in.Group), in.Disabled && !p.Disabled:
			return nil
		case in.Dormant > 0 && (p.Disabled || now.Sub(s.dormantSince(p)) < in.Dormant):
			return nil
		}
		at[p.Name] = len(rows)
		rows = append(rows, UserRow{Person: p, Last: s.Gate.LastLogin(p.Name)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.Store.Tokens(ctx, func(t login.Token) error {
		if i, ok := at[t.Person]; ok && t.State == login.TokenActive {
			rows[i].Tokens++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.Store.Keys(ctx, func(k login.Key) error {
		if i, ok := at[k.Person]; ok {
			rows[i].Keys++
		}
		return nil
	})
	return rows, err
}

// examined is what is looked at of one person.
type examined struct {
	person   login.Person
	tokens   []login.Token // active ones, without their seeds
	keys     []login.Key
	password bool
}

// userGaps lists what is missing or out of use, of people who may log in. Groups that only a directory knows are not asked for.
func (s *Service) userGaps(ctx context.Context, in GapsIn) ([]Gap, error) {
	people := make(map[string]*examined)
	var order []string
	if err := s.Store.People(ctx, func(p login.Person) error {
		people[p.Name] = &examined{person: p}
		order = append(order, p.Name)
		return nil
	}); err != nil {
		return nil, err
	}
	if err := s.Store.Tokens(ctx, func(t login.Token) error {
		if e := people[t.Person]; e != nil && t.State == login.TokenActive {
			t.Seed = nil
			e.tokens = append(e.tokens, t)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := s.Store.Keys(ctx, func(k login.Key) error {
		if e := people[k.Person]; e != nil {
			e.keys = append(e.keys, k)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	passwords, err := s.Store.WithPassword(ctx)
	if err != nil {
		return nil, err
	}
	known := func(name string) (login.Person, bool) {
		if e := people[name]; e != nil {
			return e.person, true
		}
		return login.Person{}, false
	}
	dormant := cmp.Or(in.Dormant, s.rules().Dormant)
	list := []Gap{}
	for _, name := range order {
		e := people[name]
		e.password = passwords[name]
		list = append(list, s.gapsOf(e, known, dormant)...)
	}
	return list, nil
}

func (s *Service) gapsOf(e *examined, known func(string) (login.Person, bool), dormant time.Duration) (list []Gap) {
	p, now := e.person, s.Now()
	if p.Disabled || !p.Until.IsZero() && !now.Before(p.Until) {
		return nil
	}
	add := func(gap, format string, args ...any) {
		list = append(list, Gap{Person: p.Name, Kind: p.Kind, Gap: gap, Text: fmt.Sprintf(format, args...)})
	}
	if over := p.Contract.Over(); !over.IsZero() && !now.Before(over) {
		add(GapContractEnded, "the contract ended on %s, and %s may log in all the same", p.Contract, p.Name)
	}
	if missing := lacks(p); len(missing) > 0 {
		add(GapLacks, "no %s", strings.Join(missing, ", no "))
	}
	for _, a := range []struct{ role, name string }{{"sponsor", p.Sponsor}, {"owner", p.Owner}} {
		if a.name == "" {
			continue
		}
		who, there := known(a.name)
		if !there || who.Disabled || who.Kind != login.Staff || !who.Until.IsZero() && !now.Before(who.Until) {
			add(GapAnswering, "the %s, %s, is no active member of staff", a.role, a.name)
		}
	}
	if rules := s.Gate.Policy().Rules.Of(p.Groups); len(rules) > 0 && p.Kind != login.Service {
		if !slices.ContainsFunc(e.tokens, func(t login.Token) bool { return t.Params.Type != otp.TypeRecovery }) {
			add(GapNoToken, "rule %q is for %s, who has no active token", rules[0].Name, p.Name)
		}
		if !e.password && s.isLocal(p) {
			add(GapNoPassword, "rule %q is for %s, whose password is not set", rules[0].Name, p.Name)
		}
	}
	last := s.Gate.LastLogin(p.Name)
	if now.Sub(s.dormantSince(p)) >= dormant {
		if last.IsZero() {
			add(GapDormant, "never logged in")
		} else {
			add(GapDormant, "last login %s", last.Format(time.DateOnly))
		}
	}
	for _, t := range e.tokens {
		if t.Params.Type != otp.TypeRecovery && s.Gate.TokenUsed(p.Name, t.ID).IsZero() {
			add(GapTokenUnused, "token %s was enrolled on %s and never used", t.ID, t.Created.Format(time.DateOnly))
		}
	}
	for _, k := range e.keys {
		if s.Gate.KeyUsed(k.Fingerprint).IsZero() {
			add(GapKeyUnused, "key %s was registered on %s and never used", k.Fingerprint, k.Created.Format(time.DateOnly))
		}
	}
	return list
}
