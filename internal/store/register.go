package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"

	"sallyport/internal/login"
)

const (
	sqlPutException = `INSERT INTO exceptions (id, version, changed, body) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id, version) DO NOTHING`
	sqlExceptions = `SELECT id || '/' || CAST(version AS text), body FROM exceptions ORDER BY id, version`
	sqlPutGrant   = `INSERT INTO grants (id, person, starts, ends, body) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET person = excluded.person, starts = excluded.starts, ends = excluded.ends, body = excluded.body`
	sqlGrants         = `SELECT id, body FROM grants ORDER BY id`
	sqlPutAttestation = `INSERT INTO attestations (person, rule, made, made_by, decision, note) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (person, rule, made) DO NOTHING`
	sqlAttestations = `SELECT person, rule, made, made_by, decision, note FROM attestations ORDER BY made, person, rule`
)

// eachBody calls fn for every row of an id and the JSON that says the same of itself.
func eachBody[T any](ctx context.Context, s *Store, what, query string, id func(*T) string, fn func(T) error) error {
	return s.each(ctx, what, query, nil, func(rows *sql.Rows) error {
		var key string
		var body sql.RawBytes
		if err := rows.Scan(&key, &body); err != nil {
			return fmt.Errorf("reading %s: %w", what, explain(err))
		}
		var x T
		if err := json.Unmarshal(body, &x); err != nil {
			return fmt.Errorf("%w: %s: %s cannot be read: %v", ErrCorrupt, what, key, err)
		}
		if id(&x) != key {
			return fmt.Errorf("%w: %s: the row of %s holds %s", ErrCorrupt, what, key, id(&x))
		}
		return fn(x)
	})
}

// Exceptions calls fn for every version of every entry of the exception register, each entry's in their order, until fn
// fails. See People for what fn may do.
func (s *Store) Exceptions(ctx context.Context, fn func(login.Exception) error) error {
	return eachBody(ctx, s, "the exception register", sqlExceptions, func(x *login.Exception) string { return x.ID + "/" + strconv.Itoa(x.Version) }, fn)
}

// TimedGrants calls fn for every grant, until fn fails. See People for what fn may do.
func (s *Store) TimedGrants(ctx context.Context, fn func(login.TimedGrant) error) error {
	return eachBody(ctx, s, "the grants", sqlGrants, func(x *login.TimedGrant) string { return x.ID }, fn)
}

// Attestations calls fn for every attestation of access, the oldest first, until fn fails. See People for what fn may do.
func (s *Store) Attestations(ctx context.Context, fn func(login.Attestation) error) error {
	return s.each(ctx, "the attestations", sqlAttestations, nil, func(rows *sql.Rows) error {
		var a login.Attestation
		var made sql.NullInt64
		if err := rows.Scan(&a.Person, &a.Rule, &made, &a.By, &a.Decision, &a.Note); err != nil {
			return fmt.Errorf("reading an attestation: %w", explain(err))
		}
		a.Time = timeOf(made)
		return fn(a)
	})
}

// applyRegister applies what of a change is about exceptions, grants and attestations.
func (s *Store) applyRegister(c login.Change, exec func(what, query string, args ...any) error) (errs []error) {
	step := func(what, query string, body any, args ...any) {
		if body != nil {
			b, err := json.Marshal(body)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", what, err))
				return
			}
			args = append(args, string(b))
		}
		errs = append(errs, exec(what, query, args...))
	}
	if x := c.PutException; x != nil {
		step("put exception", sqlPutException, x, x.ID, x.Version, x.Changed.UnixMicro())
	}
	if x := c.PutGrant; x != nil {
		step("put grant", sqlPutGrant, x, x.ID, x.Person, micros(x.From), micros(x.Until))
	}
	if a := c.PutAttestation; a != nil {
		step("put attestation", sqlPutAttestation, nil, a.Person, a.Rule, a.Time.UnixMicro(), a.By, a.Decision, a.Note)
	}
	return errs
}
