package admin

import (
	"context"
	"slices"
	"strconv"

	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// TrustRevoke is the input of trust.revoke.
type TrustRevoke struct {
	Person string `json:"person"`
	Reason string `json:"reason,omitempty"` // for the record
}

// TrustRevoked is what came of it.
type TrustRevoked struct {
	Record uint64 `json:"record"`
	Closed int    `json:"closed"`
}

func (s *Service) trustVerbs() {
	Handle(s, "trust.list", s.trustList)
	Handle(s, "trust.revoke", s.trustRevoke)
}

// trustList lists the open trust windows and the login certificates in force, the oldest first.
func (s *Service) trustList(_ context.Context, in SessionList) ([]login.Window, error) {
	return slices.DeleteFunc(s.Gate.Windows(), func(w login.Window) bool { return in.Person != "" && w.Person != in.Person }), nil
}

// trustRevoke closes somebody's windows and revokes his login certificates. The record comes first, and replay revokes them again.
func (s *Service) trustRevoke(ctx context.Context, in TrustRevoke) (TrustRevoked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Person)
	if err != nil {
		return TrustRevoked{}, err
	}
	open := 0
	for _, w := range s.Gate.Windows() {
		if w.Person == p.Name {
			open++
		}
	}
	detail := []audit.Detail{{Key: "windows", Value: strconv.Itoa(open)}}
	if in.Reason != "" {
		detail = append(detail, audit.Detail{Key: "reason", Value: clip(in.Reason)})
	}
	done, err := s.commit(ctx, change{
		event: "trust.revoke", person: p.Name, kind: p.Kind, detail: detail, effects: []audit.Effect{login.EffectRevoke(p.Name)},
	})
	return TrustRevoked{Record: done.Record, Closed: open}, err
}
