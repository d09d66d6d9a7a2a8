package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"

	"sallyport/internal/login"
)

// openError opens what cannot be opened, and returns why.
func openError(t *testing.T, o Options) error {
	t.Helper()
	if o.Sealer == nil {
		o.Sealer = newRing(t)
	}
	s, err := Open(t.Context(), o)
	if err == nil {
		closeStore(t, s)
		t.Fatal("it opened")
	}
	if !strings.Contains(err.Error(), o.Path) {
		t.Errorf("the error does not name the file: %v", err)
	}
	return err
}

// A setting that does not take is an error, on every connection.
func TestPragmaReadBack(t *testing.T) {
	s := open(t, Options{})
	for _, pool := range []struct {
		name    string
		db      *sql.DB
		pragmas []pragma
	}{
		{"writer", s.writer, writerPragmas(5*time.Second, "FULL")},
		{"reader", s.reader, readerPragmas(5 * time.Second)},
	} {
		for _, p := range pool.pragmas {
			var got string
			if err := pool.db.QueryRow("PRAGMA " + p.name).Scan(&got); err != nil || got != p.want {
				t.Errorf("%s: %s is %q (%v), want %q", pool.name, p.name, got, err, p.want)
			}
		}
	}
	if _, err := s.reader.Exec("DELETE FROM people"); !errors.Is(explain(err), ErrReadOnly) {
		t.Errorf("a reader may write: %v", err)
	}

	for _, bad := range []pragma{
		{"synchronous", "FULL", "3"},
		{"journal_mode", "MEMORY", "wal"},
		{"no_such_pragma", "1", "1"},
		{"foreign_keys", "perhaps", "1"},
	} {
		db, err := openPool(t.Context(), filepath.Join(t.TempDir(), "x.db"), "rwc", []pragma{bad}, 1)
		if err == nil {
			_ = db.Close()
			t.Errorf("%+v: opened", bad)
		} else if !strings.Contains(err.Error(), bad.name) {
			t.Errorf("%+v: the error does not name it: %v", bad, err)
		}
	}

	// A connection that the pool makes later is checked as well.
	base, err := sqlite.NewConnector(dsn(s.path, nil, "rw"))
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(checkedConnector{base, []pragma{{"foreign_keys", "ON", "1"}}})
	if err := db.Ping(); err == nil || !strings.Contains(err.Error(), "foreign_keys") {
		t.Errorf("a connection without its settings was handed out: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestVersionFloor(t *testing.T) {
	for version, want := range map[string]bool{
		"3.51.3": false, "3.51.10": false, "3.52.0": false, "3.54.1": false, "4.0.0": false, "3.51.3.1": false,
		"3.51.2": true, "3.50.9": true, "3.7.0": true, "3.40.1": true, "2.99.99": true, "3.51": true, "": true, "x.y.z": true,
	} {
		if older(version, minSQLite) != want {
			t.Errorf("older(%q) is not %v", version, want)
		}
	}
}

// A writer elsewhere is waited for, and then named; readers go on, and the same call succeeds later.
func TestLocked(t *testing.T) {
	s := open(t, Options{Busy: time.Millisecond})
	apply(t, s, sample()...)
	want := read(t, s)
	other, err := sql.Open("sqlite", dsn(s.path, nil, "rw"))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	err = s.Apply(t.Context(), want.Applied, login.Change{DeletePerson: "alice"})
	if !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	same(t, "while locked", read(t, s), want)
	if err := errors.Join(tx.Rollback(), other.Close()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, login.Change{DeletePerson: "alice"})
	if got := read(t, s); len(got.People) != 0 {
		t.Errorf("after the lock: %+v", got)
	}
}

func TestReadOnly(t *testing.T) {
	path, ring := filepath.Join(t.TempDir(), "store.db"), newRing(t)
	err := openError(t, Options{Path: path, ReadOnly: true})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "hint") {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("opening read-only made the file")
	}

	s := open(t, Options{Path: path, Sealer: ring})
	apply(t, s, sample()...)
	want := read(t, s)
	beside := open(t, Options{Path: path, Sealer: ring, ReadOnly: true})
	same(t, "beside a writer", read(t, beside), want)
	closeStore(t, beside)
	closeStore(t, s)

	// The mode is what counts, also for root.
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := openError(t, Options{Path: path, Sealer: ring}); !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), "0400") {
		t.Errorf("a file of mode 0400: %v", err)
	}
	s = open(t, Options{Path: path, Sealer: ring, ReadOnly: true})
	same(t, "of mode 0400", read(t, s), want)
	_, reseal := s.Reseal(t.Context())
	for what, err := range map[string]error{
		"Apply":   s.Apply(t.Context(), want.Applied, login.Change{DeletePerson: "alice"}),
		"CatchUp": s.CatchUp(t.Context(), 0, want.Applied+1, nil),
		"Reseal":  reseal,
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v, want ErrReadOnly", what, err)
		}
	}
	same(t, "after all that", read(t, s), want)

	empty := filepath.Join(t.TempDir(), "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if openError(t, Options{Path: empty, ReadOnly: true}) == nil {
		t.Error("a file without a schema opened read-only")
	}
}

// Others lose their access to the file.
func TestPermissions(t *testing.T) {
	s := open(t, Options{})
	closeStore(t, s)
	if err := os.Chmod(s.path, 0o664); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Path: s.path})
	if info, err := os.Stat(s.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
}

// P4: what is damaged does not open. It is never taken for an empty database.
func TestDamaged(t *testing.T) {
	s := open(t, Options{})
	apply(t, s, sample()...)
	closeStore(t, s)
	whole, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(change func(b []byte) []byte) []byte { return change(append([]byte(nil), whole...)) }
	for name, content := range map[string][]byte{
		"text":           []byte("this is not a database, but long enough to have a header of its own, and then some more of it....\n"),
		"no header":      damaged(func(b []byte) []byte { copy(b, make([]byte, 100)); return b }),
		"half":           damaged(func(b []byte) []byte { return b[:len(b)/2] }),
		"a page zeroed":  damaged(func(b []byte) []byte { clear(b[4096:8192]); return b }),
		"all but page 1": damaged(func(b []byte) []byte { clear(b[4096:]); return b }),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, readOnly := range []bool{false, true} {
				if err := openError(t, Options{Path: path, ReadOnly: readOnly}); !errors.Is(err, ErrCorrupt) {
					t.Errorf("read-only %v: %v, want ErrCorrupt", readOnly, err)
				}
			}
		})
	}
}

// Mistaken paths and files cost nothing, and are named.
func TestNotOurs(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	exec(t, foreign, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")
	newerOne := open(t, Options{Path: filepath.Join(dir, "newer.db")})
	closeStore(t, newerOne)
	exec(t, newerOne.path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	if err := os.Symlink(filepath.Join(dir, "nowhere", "x"), filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		foreign:                            "another program",
		newerOne.path:                      "newer Sallyport",
		dir:                                "not a regular file",
		filepath.Join(dir, "none", "x.db"): "no such file",
		filepath.Join(dir, "dangling"):     "no such file",
		"/dev/null":                        "not a regular file",
		filepath.Join(foreign, "x"):        "not a directory",
	} {
		if err := openError(t, Options{Path: path}); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for _, path := range []string{foreign, newerOne.path} {
		if err := openError(t, Options{Path: path, ReadOnly: true}); errors.Is(err, ErrCorrupt) {
			t.Errorf("%s, read-only: %v", path, err)
		}
	}
	if s, err := Open(t.Context(), Options{Path: filepath.Join(dir, "x.db")}); err == nil {
		closeStore(t, s)
		t.Error("opened without a key ring")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Open(ctx, Options{Path: filepath.Join(dir, "x.db"), Sealer: newRing(t)}); err == nil {
		closeStore(t, s)
		t.Error("opened with a context that had ended")
	}
}

// A backup taken from a running store is a store, with the same content, and private.
func TestBackup(t *testing.T) {
	ring := newRing(t)
	s := open(t, Options{Sealer: ring})
	apply(t, s, sample()...)
	want := read(t, s)
	path := filepath.Join(t.TempDir(), "backup.db")
	if err := s.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	apply(t, s, login.Change{DeletePerson: "alice"})
	same(t, "backup, read-only", read(t, open(t, Options{Path: path, Sealer: ring, ReadOnly: true})), want)
	same(t, "backup", read(t, open(t, Options{Path: path, Sealer: ring})), want)
	if err := s.Backup(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an existing file: %v", err)
	}
	same(t, "backup after a second one was refused", read(t, open(t, Options{Path: path, Sealer: ring})), want)
	if err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "no", "x")); err == nil {
		t.Error("into no folder: no error")
	}
}
