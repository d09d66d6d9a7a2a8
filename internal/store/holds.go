package store

import (
	"context"
	"encoding/json"

	"sallyport/internal/login"
)

const (
	sqlPutHold = `INSERT INTO holds (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body`
	sqlHolds   = `SELECT id, body FROM holds ORDER BY id`
)

// Holds calls fn for every legal hold, those that are over too, until fn fails. See People for what fn may do.
func (s *Store) Holds(ctx context.Context, fn func(login.Hold) error) error {
	return eachBody(ctx, s, "the legal holds", sqlHolds, func(h *login.Hold) string { return h.ID }, fn)
}

// applyHold applies what of a change is about holds.
func (s *Store) applyHold(c login.Change, exec func(what, query string, args ...any) error) []error {
	if c.PutHold == nil {
		return nil
	}
	body, err := json.Marshal(c.PutHold)
	if err == nil {
		err = exec("put hold", sqlPutHold, c.PutHold.ID, string(body))
	}
	return []error{err}
}
