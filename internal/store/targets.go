package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"sallyport/internal/login"
)

// purposeCredential is the purpose of a target's credential, as it is sealed.
const purposeCredential = "target-credential"

// credentialRow is the row that a secret is bound to: where and as whom it lets in, and as what it is shown.
func credentialRow(c *login.Credential) string {
	b := make([]byte, 0, 96)
	for _, part := range []string{strings.ToLower(c.Target), c.Account, string(c.Kind)} {
		b = strconv.AppendInt(b, int64(len(part)), 10)
		b = append(b, ':')
		b = append(b, part...)
	}
	return string(b)
}

// HostKeys calls fn for every host key of a target, in the order of targets and of when they were first seen, until fn
// fails. See People for what fn may do.
func (s *Store) HostKeys(ctx context.Context, fn func(login.HostKey) error) error {
	return s.each(ctx, "host keys", sqlHostKeys, nil, func(rows *sql.Rows) error {
		var k login.HostKey
		var first, last sql.NullInt64
		if err := rows.Scan(&k.Target, &k.Fingerprint, &k.Type, &k.Blob, &k.State, &first, &last, &k.By); err != nil {
			return fmt.Errorf("reading a host key: %w", explain(err))
		}
		k.Blob, k.First, k.Last = nilIfEmpty(k.Blob), timeOf(first), timeOf(last)
		return fn(k)
	})
}

// Credentials calls fn for every credential in the order of targets and accounts, until fn fails. Secrets are opened; one
// that does not open ends the call with an error that names the target. See People for what fn may do.
func (s *Store) Credentials(ctx context.Context, fn func(login.Credential) error) error {
	return s.each(ctx, "credentials", sqlCredentials, nil, func(rows *sql.Rows) error {
		c, _, err := s.scanCredential(rows)
		if err != nil {
			return err
		}
		return fn(c)
	})
}

// scanCredential also returns the secret as it is stored, which is used up before the next row.
func (s *Store) scanCredential(rows *sql.Rows) (c login.Credential, sealed sql.RawBytes, err error) {
	var created sql.NullInt64
	if err := rows.Scan(&c.Target, &c.Account, &c.Kind, &c.Fingerprint, &c.Comment, &created, &sealed); err != nil {
		return c, nil, fmt.Errorf("reading a credential: %w", explain(err))
	}
	c.Created = timeOf(created)
	if c.Secret, err = s.sealer.Open(purposeCredential, credentialRow(&c), sealed); err != nil {
		return c, nil, fmt.Errorf("reading the credential of target %q: %w (hint: its row was altered, or the key ring is another one)", c.Target, err)
	}
	return c, sealed, nil
}

// applyTarget applies what of a change is about targets.
func (s *Store) applyTarget(c login.Change, exec func(what, query string, args ...any) error) (errs []error) {
	step := func(err error) { errs = append(errs, err) }
	if k := c.PutHostKey; k != nil {
		step(exec("put host key", sqlPutHostKey, strings.ToLower(k.Target), k.Fingerprint, k.Type, nonNil(k.Blob), string(k.State),
			micros(k.First), micros(k.Last), k.By))
	}
	if k := c.DeleteHostKey; k != nil {
		step(exec("delete host key", sqlDeleteHostKey, strings.ToLower(k.Target), k.Fingerprint))
	}
	if p := c.PutCredential; p != nil {
		step(exec("put credential", sqlPutCredential, strings.ToLower(p.Target), p.Account, string(p.Kind), p.Fingerprint, p.Comment,
			micros(p.Created), s.sealer.Seal(purposeCredential, credentialRow(p), p.Secret)))
	}
	if d := c.DeleteCredential; d != nil {
		step(exec("delete credential", sqlDeleteCredential, strings.ToLower(d.Target), d.Account))
	}
	return errs
}

func (s *Store) resealCredentials(ctx context.Context, tx *sql.Tx, last string, stale func([]byte) bool) (string, int, error) {
	rows, err := tx.QueryContext(ctx, sqlSomeCredentials, last, resealBatch)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	var again []login.Credential
	next := ""
	for rows.Next() {
		c, sealed, err := s.scanCredential(rows)
		if err != nil {
			return "", 0, err
		}
		if next = c.Target + " " + c.Account; stale(sealed) {
			again = append(again, c)
		}
	}
	if err := rows.Err(); err != nil {
		return "", 0, err
	}
	for _, c := range again {
		if _, err := tx.ExecContext(ctx, sqlSetCredential, s.sealer.Seal(purposeCredential, credentialRow(&c), c.Secret), c.Target, c.Account); err != nil {
			return "", 0, err
		}
		clear(c.Secret)
	}
	return next, len(again), nil
}
