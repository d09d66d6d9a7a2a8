package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors that callers tell apart. Every other error is a failure of the disk, the engine or the program.
var (
	// ErrCorrupt: the file's bytes are not what was written. Nothing more may be read from it or written to it.
	ErrCorrupt = errors.New("the database file is damaged")
	// ErrLocked: another process held the file for longer than Options.Busy. The same call may succeed later.
	ErrLocked = errors.New("the database is locked by another process")
	// ErrReadOnly: the file, or this Store, cannot be written to. Nothing was changed.
	ErrReadOnly = errors.New("the database is read-only")
	// ErrFull: the disk is full. Nothing was changed; the same call may succeed later.
	ErrFull = errors.New("the disk that holds the database is full")
)

// minSQLite is the first version without the WAL-reset bug, by which 3.7.0 to 3.51.2 can corrupt a file that several
// connections use (https://sqlite.org/wal.html, "the WAL-reset bug").
const minSQLite = "3.51.3"

// maxReaders bounds the pool of reading connections. Each keeps its own page cache of about 2 MB.
const maxReaders = 4

// pragma is a setting and what reading it back must give.
type pragma struct{ name, set, want string }

// writerPragmas are for the one connection that writes.
func writerPragmas(busy time.Duration, synchronous string) []pragma {
	ms := strconv.FormatInt(busy.Milliseconds(), 10)
	level := map[string]string{"FULL": "2", "NORMAL": "1"}[synchronous]
	return []pragma{
		{"busy_timeout", ms, ms},
		{"cell_size_check", "ON", "1"}, // find damage when a page is read, not when it has spread
		{"foreign_keys", "ON", "1"},
		{"journal_mode", "WAL", "wal"},
		{"journal_size_limit", "16777216", "16777216"}, // a burst does not leave a large -wal file for ever
		{"mmap_size", "0", "0"},                        // a stray write of ours must not reach the file
		{"query_only", "OFF", "0"},
		{"secure_delete", "ON", "1"}, // what was deleted is overwritten
		{"synchronous", synchronous, level},
		{"trusted_schema", "OFF", "0"},
	}
}

// readerPragmas are for connections that only read.
func readerPragmas(busy time.Duration) []pragma {
	ms := strconv.FormatInt(busy.Milliseconds(), 10)
	return []pragma{
		{"busy_timeout", ms, ms},
		{"cache_size", "-512", "-512"}, // KiB; the files are small, and the system caches them too
		{"cell_size_check", "ON", "1"},
		{"journal_mode", "", "wal"}, // the writer's doing; a reader only checks it
		{"mmap_size", "0", "0"},
		{"query_only", "ON", "1"},
		{"trusted_schema", "OFF", "0"},
	}
}

// dsn names the file and its settings. Of the keys that drivers for SQLite spell differently, and ignore in silence
// when another one's spelling is used, only those are here that they share. A transaction on a connection that may
// write takes the lock when it begins: one that finds the file locked halfway could not wait for it.
func dsn(path string, pragmas []pragma, mode string) string {
	q := url.Values{"_txlock": {"immediate"}, "_error_rc": {"1"}, "mode": {mode}}
	if slices.Contains(pragmas, pragma{"query_only", "ON", "1"}) {
		q.Set("_txlock", "deferred")
	}
	for _, p := range pragmas {
		if p.set != "" {
			q.Add("_pragma", p.name+"("+p.set+")")
		}
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// checkedConnector reads every setting back on every connection that the pool makes, also on those that it makes
// later in place of a broken one. A setting that was ignored would otherwise show only in a power cut.
type checkedConnector struct {
	driver.Connector
	pragmas []pragma
}

func (c checkedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.check(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (c checkedConnector) check(ctx context.Context, conn driver.Conn) error {
	q, ok := conn.(driver.QueryerContext)
	if !ok {
		return fmt.Errorf("the driver's %T cannot be queried", conn)
	}
	version, err := oneValue(ctx, q, "SELECT sqlite_version()")
	if err != nil {
		return err
	}
	if older(version, minSQLite) {
		return fmt.Errorf("SQLite %s can corrupt the file; %s or newer is needed", version, minSQLite)
	}
	for _, p := range c.pragmas {
		got, err := oneValue(ctx, q, "PRAGMA "+p.name)
		if err != nil {
			return fmt.Errorf("reading back pragma %s: %w", p.name, err)
		}
		if got != p.want {
			return fmt.Errorf("pragma %s is %q, not %q (hint: the file system may not support what SQLite needs; use a local disk)",
				p.name, got, p.want)
		}
	}
	return nil
}

// oneValue returns the first column of the first row as text, and "" when there is none.
func oneValue(ctx context.Context, q driver.QueryerContext, query string) (string, error) {
	rows, err := q.QueryContext(ctx, query, nil)
	if err != nil {
		return "", err
	}
	dest := make([]driver.Value, len(rows.Columns()))
	value := ""
	if err := rows.Next(dest); err == nil && len(dest) > 0 {
		if b, ok := dest[0].([]byte); ok {
			value = string(b)
		} else {
			value = fmt.Sprint(dest[0])
		}
	}
	return value, rows.Close()
}

// older compares dotted versions number by number. What is not a number counts as 0, and so as old.
func older(version, than string) bool {
	a, b := strings.Split(version, "."), strings.Split(than, ".")
	for i := range b {
		x, y := 0, 0
		if i < len(a) {
			x, _ = strconv.Atoi(a[i])
		}
		y, _ = strconv.Atoi(b[i])
		if x != y {
			return x < y
		}
	}
	return false
}

// openPool opens a pool of exactly n connections that live as long as it does, and connects each of them now.
func openPool(ctx context.Context, path, mode string, pragmas []pragma, n int) (*sql.DB, error) {
	base, err := sqlite.NewConnector(dsn(path, pragmas, mode))
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(checkedConnector{base, pragmas})
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	held := make([]*sql.Conn, 0, n)
	for range n {
		var c *sql.Conn
		if c, err = db.Conn(ctx); err != nil {
			break
		}
		held = append(held, c)
	}
	for _, c := range held {
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		return nil, errors.Join(explain(err), db.Close())
	}
	return db, nil
}

// prepareFile makes sure that path is a private, writable, regular file, and creates it if it is missing: SQLite
// would create it with the process's umask. The files beside it (-wal, -shm) take their permissions from it.
func prepareFile(path string) (created bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		return true, errors.Join(f.Close(), syncDir(filepath.Dir(path)))
	case !errors.Is(err, fs.ErrExist):
		return false, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	mode := info.Mode()
	if !mode.IsRegular() {
		return false, fmt.Errorf("%s is not a regular file", path)
	}
	// Asked of the mode and not of the system, which lets root write to anything.
	if mode.Perm()&0o200 == 0 {
		return false, fmt.Errorf("%w: %s has mode %04o (hint: chmod 600 %[2]s)", ErrReadOnly, path, mode.Perm())
	}
	if mode.Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return false, fmt.Errorf("others may use %s, and that cannot be taken back: %w", path, err)
		}
	}
	return false, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// explain turns SQLite's result codes into the errors of this package. It keeps the cause.
func explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	kind := error(nil)
	switch e.Code() & 0xff { // the low byte is the primary code
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		kind = ErrCorrupt
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		kind = ErrLocked
	case sqlite3.SQLITE_READONLY:
		kind = ErrReadOnly
	case sqlite3.SQLITE_FULL:
		kind = ErrFull
	default:
		return err
	}
	if errors.Is(err, kind) {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// checkOwner refuses a healthy SQLite file that belongs to something else: mistaken paths must not cost data.
// application_id stands in the file's header; 0 is a file that nobody has claimed yet.
func checkOwner(ctx context.Context, db *sql.DB, path string, id int64) (claimed bool, err error) {
	var got, tables int64
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&got); err != nil {
		return false, explain(err)
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return false, explain(err)
	}
	switch {
	case got == id:
		return true, nil
	case got == 0 && tables == 0:
		return false, nil
	}
	return false, fmt.Errorf("%s is another program's database (application id %d, not %d)", path, got, id)
}
