package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

func newMigrator(db *sql.DB) (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true),
		goose.WithSlog(slog.New(slog.DiscardHandler)))
}

// migrate brings the schema up to date. It is not guarded against a second process: the lock on the data folder is.
func migrate(ctx context.Context, db *sql.DB, path string, log *slog.Logger) error {
	claimed, err := checkOwner(ctx, db, path, applicationID)
	if err != nil {
		return err
	}
	if !claimed {
		if _, err := db.ExecContext(ctx, "PRAGMA application_id = "+strconv.Itoa(applicationID)); err != nil {
			return explain(err)
		}
	}
	m, err := newMigrator(db)
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	current, target, err := m.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("reading the version of the schema: %w", explain(err))
	}
	if current > target {
		return newerSchema(current, target)
	}
	done, err := m.Up(ctx)
	if err != nil {
		return fmt.Errorf("bringing the schema from version %d to %d: %w", current, target, explain(err))
	}
	for _, d := range done {
		log.InfoContext(ctx, "the database's schema was brought up to date", "version", d.Source.Version)
	}
	return nil
}

// checkSchema is migrate for a file that may not be changed: the schema must be this program's own already.
func checkSchema(ctx context.Context, db *sql.DB, path string) error {
	claimed, err := checkOwner(ctx, db, path, applicationID)
	if err != nil {
		return err
	}
	m, err := newMigrator(db)
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	target := int64(0)
	for _, s := range m.ListSources() {
		target = max(target, s.Version)
	}
	var current int64
	if claimed {
		err := db.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version").Scan(&current)
		if err != nil {
			return fmt.Errorf("reading the version of the schema: %w", explain(err))
		}
	}
	switch {
	case current > target:
		return newerSchema(current, target)
	case current < target:
		return fmt.Errorf("%w, and its schema is of version %d, not %d (hint: start the gateway once)", ErrReadOnly, current, target)
	}
	return nil
}

func newerSchema(current, target int64) error {
	return fmt.Errorf("a newer Sallyport has written it: its schema is of version %d, and this program knows up to %d", current, target)
}
