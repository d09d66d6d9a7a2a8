package admin

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
)

// provisionBatch is how many people one record makes. Their change must fit audit.MaxChange.
const provisionBatch = 500

// Provision makes many people with an active token each, for benchmarks and tests. Made is called with each person's
// name and otpauth URI, and how many there are so far.
func (s *Service) Provision(ctx context.Context, people int, group string, params otp.Params, made func(person, uri string, n int) error) error {
	if err := params.Validate(); err != nil {
		return refuse("totp or hotp; sha1, sha256 or sha512; 6 or 8 digits; period 30 or 60", "token: %v", err)
	}
	if !login.ValidName(group) {
		return refuse("", "%q cannot be a group's name", clip(group))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := 0; n < people; {
		var all []login.Change
		for ; n < people && len(all) < 2*provisionBatch; n++ {
			name := fmt.Sprintf("p%06d", n)
			seed, err := otp.NewSeed(params.Algorithm)
			if err != nil {
				return err
			}
			id, err := newTokenID()
			if err != nil {
				return err
			}
			created := s.Now().UTC().Truncate(time.Millisecond)
			all = append(all,
				login.Change{PutPerson: &login.Person{Name: name, Kind: login.Staff, Groups: []string{group}, Created: created}},
				login.Change{PutToken: &login.Token{ID: id, Person: name, Params: params, State: login.TokenActive, Created: created, Seed: seed}})
			if err := made(name, otp.URI(s.Issuer, name, seed, params, 0), n+1); err != nil {
				return err
			}
		}
		_, err := s.commit(ctx, change{
			event: "user.provision", person: "none", what: login.Change{All: all},
			detail: []audit.Detail{{Key: "people", Value: strconv.Itoa(len(all) / 2)}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}
