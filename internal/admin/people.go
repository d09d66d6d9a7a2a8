package admin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/guessable"
	"sallyport/internal/login"
	"sallyport/internal/roll"
)

// PersonIn names one person.
type PersonIn struct {
	Name string `json:"name"`
}

// UserAdd is the input of user.add.
type UserAdd struct {
	Name     string           `json:"name"`
	Kind     login.PersonKind `json:"kind"`
	Groups   []string         `json:"groups"`
	From     time.Time        `json:"from,omitzero"`
	Until    time.Time        `json:"until,omitzero"`
	First    string           `json:"first_factor,omitempty"` // empty: the usual one
	Password string           `json:"password,omitempty"`     // empty: none is set
	Particulars
}

// UserSet is the input of user.set; what is nil stays as it is.
type UserSet struct {
	Name     string            `json:"name"`
	Kind     *login.PersonKind `json:"kind,omitempty"`
	Groups   *[]string         `json:"groups,omitempty"`
	From     *time.Time        `json:"from,omitempty"`
	Until    *time.Time        `json:"until,omitempty"`
	First    *string           `json:"first_factor,omitempty"`
	Password *string           `json:"password,omitempty"`
	ParticularsSet
}

// UserDone is the answer of user.add and user.set.
type UserDone struct {
	Done
	Warnings []string `json:"warnings,omitempty"`
}

// UserInfo is a person as shown, without anything secret.
type UserInfo struct {
	login.Person
	Password bool         `json:"password"` // whether one is set
	Tokens   []TokenInfo  `json:"tokens"`
	Keys     []KeyInfo    `json:"keys"`
	Last     time.Time    `json:"last_login,omitzero"`
	Tickets  []TicketInfo `json:"tickets,omitempty"` // enrolment tickets that are open
}

// MinPassword is the shortest password, in bytes, that a configuration can ask for.
const MinPassword = 8

var kinds = []login.PersonKind{login.Staff, login.Supplier, login.Service, login.BreakGlass}

// personChecks looks at each field of a person.
func (s *Service) personChecks(p login.Person) (list []personCheck) {
	bad := func(field, hint, format string, args ...any) {
		list = append(list, personCheck{field, refuse(hint, format, args...)})
	}
	if firsts := s.Firsts(); p.First != "" && !slices.Contains(firsts, p.First) {
		bad(roll.First, "one of those that the configuration has: "+strings.Join(firsts, ", "), "there is no first factor %q", clip(p.First))
	}
	if !login.ValidName(p.Name) {
		bad(roll.Name, "lower-case letters, digits, dot, hyphen and underscore, beginning with a letter or digit, at most 64",
			"%q cannot be a person's name", clip(p.Name))
	}
	if !slices.Contains(kinds, p.Kind) {
		bad(roll.Kind, "staff, supplier, service or break-glass", "%q is not a kind of person", clip(string(p.Kind)))
	}
	for _, g := range p.Groups {
		if !login.ValidName(g) {
			bad(roll.Groups, "lower-case letters, digits, dot, hyphen and underscore", "%q cannot be a group's name", clip(g))
		}
	}
	if !p.From.IsZero() && !p.Until.IsZero() && !p.From.Before(p.Until) {
		bad(roll.Until, "", "%s would end (%s) before beginning (%s)", p.Name, p.Until.Format(time.RFC3339), p.From.Format(time.RFC3339))
	}
	return list
}

func (s *Service) hash(p login.Person, password string) (string, error) {
	if least := s.rules().MinPassword; len(password) < least || len(password) > login.MaxSecret {
		return "", refuse("choose three unlike words, or let a password manager choose",
			"a password has %d to %d bytes, and this one has %d", least, login.MaxSecret, len(password))
	}
	why, err := guessable.Why(password, p.Name, p.FullName)
	if err != nil {
		return "", err
	}
	if why != "" {
		return "", refuse("choose three unlike words, or let a password manager choose", "a password that %s is among the first that are tried", why)
	}
	return s.Hash(login.NewSecret(password))
}

func (s *Service) userVerbs() {
	Handle(s, "user.add", s.userAdd)
	Handle(s, "user.set", s.userSet)
	Handle(s, "user.show", s.userShow)
	Handle(s, "user.list", s.userList)
	Handle(s, "user.gaps", s.userGaps)
	Handle(s, "user.disable", func(ctx context.Context, in PersonIn) (Done, error) { return s.userSwitch(ctx, in.Name, true) })
	Handle(s, "user.enable", func(ctx context.Context, in PersonIn) (Done, error) { return s.userSwitch(ctx, in.Name, false) })
	s.passwordVerbs()
	s.batchVerbs()
	Handle(s, "user.unlock", s.userUnlock)
	Handle(s, "user.remove", s.userRemove)
}

func (s *Service) userAdd(ctx context.Context, in UserAdd) (UserDone, error) {
	if in.Kind == "" {
		in.Kind = login.Staff
	}
	slices.Sort(in.Groups)
	p := login.Person{
		Name: in.Name, Kind: in.Kind, Groups: slices.Compact(in.Groups), From: in.From, Until: in.Until, First: in.First,
		Created: s.Now().UTC().Truncate(time.Millisecond),
	}
	in.Particulars.put(&p)
	if err := cmp.Or(s.checkPerson(p), checkReserved(p.Name)); err != nil {
		return UserDone{}, err
	}
	what := login.Change{PutPerson: &p}
	if in.Password != "" {
		hash, err := s.hash(p, in.Password)
		if err != nil {
			return UserDone{}, err
		}
		what.SetPassword = &login.Password{Person: p.Name, Hash: hash}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there, err := s.Store.PersonByName(ctx, p.Name); err != nil {
		return UserDone{}, err
	} else if there {
		return UserDone{}, refuse("`sallyport user set` changes people", "there is a person %q already", p.Name)
	}
	warnings, err := s.checkNew(ctx, p, login.Person{})
	if err != nil {
		return UserDone{}, err
	}
	done, err := s.commit(ctx, change{event: "user.add", person: p.Name, kind: p.Kind, what: what, detail: personDetail(p, in.Password != "")})
	return UserDone{done, warnings}, err
}

func personDetail(p login.Person, password bool) []audit.Detail {
	d := []audit.Detail{{Key: "groups", Value: strings.Join(p.Groups, ",")}}
	if p.First != "" {
		d = append(d, audit.Detail{Key: "first_factor", Value: p.First})
	}
	if !p.From.IsZero() {
		d = append(d, audit.Detail{Key: "from", Value: p.From.UTC().Format(time.RFC3339)})
	}
	if !p.Until.IsZero() {
		d = append(d, audit.Detail{Key: "until", Value: p.Until.UTC().Format(time.RFC3339)})
	}
	d = append(d, particularsDetail(p)...)
	if password {
		d = append(d, audit.Detail{Key: "password", Value: "set"})
	}
	return d
}

func (s *Service) userSet(ctx context.Context, in UserSet) (UserDone, error) {
	var hash string
	if in.Password != nil {
		p, err := s.person(ctx, in.Name)
		if err != nil {
			return UserDone{}, err
		}
		if in.FullName != nil {
			p.FullName = *in.FullName
		}
		if hash, err = s.hash(p, *in.Password); err != nil {
			return UserDone{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Name)
	if err != nil {
		return UserDone{}, err
	}
	was := p
	if in.Kind != nil {
		p.Kind = *in.Kind
	}
	if in.Groups != nil {
		p.Groups = slices.Clone(*in.Groups)
		slices.Sort(p.Groups)
		p.Groups = slices.Compact(p.Groups)
	}
	if in.From != nil {
		p.From = *in.From
	}
	if in.Until != nil {
		p.Until = *in.Until
	}
	if in.First != nil {
		p.First = *in.First
	}
	in.ParticularsSet.put(&p, in.Until != nil)
	if err := s.checkPerson(p); err != nil {
		return UserDone{}, err
	}
	warnings, err := s.checkNew(ctx, p, was)
	if err != nil {
		return UserDone{}, err
	}
	what := login.Change{PutPerson: &p}
	if hash != "" {
		what.SetPassword = &login.Password{Person: p.Name, Hash: hash}
	}
	done, err := s.commit(ctx, change{event: "user.set", person: p.Name, kind: p.Kind, what: what, detail: personDetail(p, hash != "")})
	return UserDone{done, warnings}, err
}

func (s *Service) userSwitch(ctx context.Context, name string, disabled bool) (Done, error) {
	event := "user.enable"
	if disabled {
		event = "user.disable"
	}
	done, err := s.switchUser(ctx, name, event, disabled)
	if err == nil && disabled {
		done.Ended, err = s.endSessionsOf(ctx, name, WhyDisabled)
	}
	return done, err
}

func (s *Service) switchUser(ctx context.Context, name, event string, disabled bool) (Done, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, name)
	if err != nil {
		return Done{}, err
	}
	p.Disabled = disabled
	return s.commit(ctx, change{event: event, person: p.Name, kind: p.Kind, what: login.Change{PutPerson: &p}})
}

func (s *Service) userUnlock(ctx context.Context, in PersonIn) (Done, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Name)
	if err != nil {
		return Done{}, err
	}
	return s.commit(ctx, change{event: "user.unlock", person: p.Name, kind: p.Kind, effects: []audit.Effect{login.EffectUnlock(p.Name)}})
}

func (s *Service) userRemove(ctx context.Context, in PersonIn) (Done, error) {
	done, err := s.removeUser(ctx, in.Name)
	if err == nil {
		done.Ended, err = s.endSessionsOf(ctx, in.Name, WhyRemoved)
	}
	return done, err
}

func (s *Service) removeUser(ctx context.Context, name string) (Done, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, name)
	if err != nil {
		return Done{}, err
	}
	tokens, err := s.Store.TokensOf(ctx, p.Name)
	if err != nil {
		return Done{}, err
	}
	tokens = slices.DeleteFunc(tokens, func(t login.Token) bool { return t.Serial == "" })
	active := func(t login.Token) bool { return t.State == login.TokenActive }
	if slices.ContainsFunc(tokens, active) && !p.Disabled { // a login between the look at what is used and the record would be in no count
		shut := p
		shut.Disabled = true
		if _, err := s.commit(ctx, change{
			event: "user.disable", person: p.Name, kind: p.Kind, what: login.Change{PutPerson: &shut}, detail: []audit.Detail{{Key: "for", Value: "user.remove"}},
		}); err != nil {
			return Done{}, err
		}
	}
	what, serials, err := s.backToStock(ctx, p.Name, tokens)
	if err != nil {
		return Done{}, err
	}
	c := change{event: "user.remove", person: p.Name, kind: p.Kind, what: login.Change{DeletePerson: p.Name}}
	if len(serials) > 0 {
		c.what = login.Change{All: append(what, c.what)}
		c.detail = []audit.Detail{{Key: "back_to_stock", Value: strings.Join(serials, ",")}}
	}
	return s.commit(ctx, c)
}

func (s *Service) userShow(ctx context.Context, in PersonIn) (UserInfo, error) {
	p, err := s.person(ctx, in.Name)
	if err != nil {
		return UserInfo{}, err
	}
	info := UserInfo{Person: p, Last: s.Gate.LastLogin(p.Name), Tokens: []TokenInfo{}, Keys: []KeyInfo{}}
	if _, info.Password, err = s.Store.PasswordHash(ctx, p.Name); err != nil {
		return info, err
	}
	tokens, err := s.Store.TokensOf(ctx, p.Name)
	if err != nil {
		return info, err
	}
	for _, t := range tokens {
		info.Tokens = append(info.Tokens, s.usedToken(t))
	}
	keys, err := s.Store.KeysOf(ctx, p.Name)
	if err != nil {
		return info, err
	}
	for _, t := range s.Gate.Tickets(p.Name) {
		info.Tickets = append(info.Tickets, ticketInfo(t))
	}
	for _, k := range keys {
		k := keyInfo(k)
		k.Used = s.Gate.KeyUsed(k.Fingerprint)
		info.Keys = append(info.Keys, k)
	}
	return info, nil
}

// clip bounds a stranger's text before it is shown.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
