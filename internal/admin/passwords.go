package admin

import (
	"context"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// UserPassword is the input of user.password.
type UserPassword struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

func (s *Service) passwordVerbs() { Handle(s, "user.password", s.userPassword) }

// userPassword sets a person's local password.
func (s *Service) userPassword(ctx context.Context, in UserPassword) (UserDone, error) {
	return s.setPassword(ctx, in.Name, login.NewSecret(in.Password))
}

// setPassword checks and sets it. The hash is made before the lock is taken, since it takes long.
func (s *Service) setPassword(ctx context.Context, name string, password login.Secret, detail ...audit.Detail) (UserDone, error) {
	p, err := s.person(ctx, name)
	if err != nil {
		return UserDone{}, err
	}
	if err := s.mayEquip(ctx, p); err != nil {
		return UserDone{}, err
	}
	hash, err := s.hash(p, password.Reveal())
	if err != nil {
		return UserDone{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, err = s.person(ctx, name); err != nil {
		return UserDone{}, err
	}
	var out UserDone
	if !s.isLocal(p) {
		out.Warnings = append(out.Warnings, "the first factor of "+p.Name+" is elsewhere: this password is not asked for")
	}
	out.Done, err = s.commit(ctx, change{
		event: "user.password", person: p.Name, kind: p.Kind, what: login.Change{SetPassword: &login.Password{Person: p.Name, Hash: hash}}, detail: detail,
	})
	return out, err
}

// MayChangePassword tells why somebody who has logged in may not change his password; nil: he may.
func (s *Service) MayChangePassword(ctx context.Context, gr login.Grant) error {
	if why := s.Gate.ProvedAnew(gr); why != login.ReasonOK {
		return refuse("", "Log in with your password and a one-time code first: this login did not prove both.")
	}
	p, err := s.person(ctx, gr.Person)
	if err != nil {
		return err
	}
	if !s.isLocal(p) {
		return refuse("", "Your password is not kept here: change it where it is.")
	}
	return nil
}

// ChangePassword sets the password of somebody who has logged in.
func (s *Service) ChangePassword(ctx context.Context, gr login.Grant, password login.Secret) error {
	if err := s.MayChangePassword(ctx, gr); err != nil {
		return err
	}
	_, err := s.setPassword(ctx, gr.Person, password, audit.Detail{Key: "attempt", Value: gr.Attempt})
	return err
}
