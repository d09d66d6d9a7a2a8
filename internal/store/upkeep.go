package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sallyport/internal/login"
)

// resealBatch is how many rows one transaction of Reseal takes, so that changes need not wait long.
const resealBatch = 500

// Reseal opens every secret and seals it again, after the ring got a newer key. It returns how many it wrote. It may be
// stopped and started again, and changes may be applied meanwhile.
func (s *Store) Reseal(ctx context.Context) (n int, err error) {
	if s.writer == nil {
		return 0, fmt.Errorf("sealing again: %w", ErrReadOnly)
	}
	stale := func([]byte) bool { return true }
	if r, ok := s.sealer.(interface{ Stale(sealed []byte) bool }); ok {
		stale = r.Stale
	}
	for _, reseal := range []func(context.Context, *sql.Tx, string, func([]byte) bool) (string, int, error){
		s.resealTokens, s.resealPasswords, s.resealCredentials, s.resealStock, s.resealTickets,
	} {
		for last, more := "", true; more; {
			next, written, err := s.resealSome(ctx, last, stale, reseal)
			n += written
			if err != nil {
				return n, fmt.Errorf("sealing again after %q: %w", last, explain(err))
			}
			last, more = next, next != ""
		}
	}
	return n, nil
}

func (s *Store) resealSome(ctx context.Context, last string, stale func([]byte) bool,
	reseal func(context.Context, *sql.Tx, string, func([]byte) bool) (string, int, error),
) (next string, written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", 0, err
	}
	ctx = context.WithoutCancel(ctx)
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if next, written, err = reseal(ctx, tx, last, stale); err != nil {
		return "", 0, err
	}
	if err := tx.Commit(); err != nil {
		return "", 0, err
	}
	return next, written, nil
}

func (s *Store) resealTokens(ctx context.Context, tx *sql.Tx, last string, stale func([]byte) bool) (string, int, error) {
	rows, err := tx.QueryContext(ctx, sqlSomeTokens, last, resealBatch)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	var again []login.Token
	next := ""
	for rows.Next() {
		t, sealed, err := s.scanToken(rows)
		if err != nil {
			return "", 0, err
		}
		if next = t.ID; stale(sealed) {
			again = append(again, t)
		}
	}
	if err := rows.Err(); err != nil {
		return "", 0, err
	}
	for _, t := range again {
		if _, err := tx.ExecContext(ctx, sqlSetTokenSeed, s.sealer.Seal(purposeSeed, seedRow(&t), t.Seed), t.ID); err != nil {
			return "", 0, err
		}
	}
	return next, len(again), nil
}

func (s *Store) resealPasswords(ctx context.Context, tx *sql.Tx, last string, stale func([]byte) bool) (string, int, error) {
	rows, err := tx.QueryContext(ctx, sqlSomePasswords, last, resealBatch)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	var again []login.Password
	next := ""
	for rows.Next() {
		var p login.Password
		var sealed []byte
		if err := rows.Scan(&p.Person, &sealed); err != nil {
			return "", 0, err
		}
		if next = p.Person; !stale(sealed) {
			continue
		}
		hash, err := s.sealer.Open(purposePassword, p.Person, sealed)
		if err != nil {
			return "", 0, fmt.Errorf("reading the password hash of %q: %w", p.Person, err)
		}
		p.Hash = string(hash)
		again = append(again, p)
	}
	if err := rows.Err(); err != nil {
		return "", 0, err
	}
	for _, p := range again {
		if _, err := tx.ExecContext(ctx, sqlSetPasswordHash, s.sealer.Seal(purposePassword, p.Person, []byte(p.Hash)), p.Person); err != nil {
			return "", 0, err
		}
	}
	return next, len(again), nil
}

// Backup writes a copy of the database, as of one moment, to path, which must not exist yet. Changes may be applied
// meanwhile. The copy is durable when Backup returns; its secrets are sealed as they are in the original.
// (Never copy the file of a running gateway, and not with another SQLite: see minSQLite.)
func (s *Store) Backup(ctx context.Context, path string) (err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("backing up the database: %w", err)
	}
	// Ours first, so that the copy is never readable by others.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("backing up the database: %w", err)
	}
	if err := s.copyTo(ctx, path); err != nil {
		return errors.Join(fmt.Errorf("backing up the database to %s: %w", path, explain(err)), f.Close(), os.Remove(path))
	}
	// VACUUM INTO leaves syncing to us.
	if err := errors.Join(f.Sync(), f.Close(), syncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("backing up the database to %s: %w", path, err)
	}
	return nil
}

// copyTo uses a connection of its own: the pool's refuse to write anywhere.
func (s *Store) copyTo(ctx context.Context, path string) error {
	db, err := openPool(ctx, s.path, "ro", []pragma{{"trusted_schema", "OFF", "0"}}, 1)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO $1", path)
	return errors.Join(err, db.Close())
}
