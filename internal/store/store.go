package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"sallyport/internal/login"
)

// ErrGap: applying this change would leave an older one out for ever. It is a mistake of the caller, or the journal
// and the database do not belong together.
var ErrGap = errors.New("a change would be left out")

// Sealer seals secrets for one purpose and row, so that they open only there. It is called concurrently. If it has a
// method Stale([]byte) bool, Reseal leaves alone what is not stale.
type Sealer interface {
	Seal(purpose, id string, plain []byte) []byte
	Open(purpose, id string, sealed []byte) ([]byte, error)
}

// Options say which database, and how.
type Options struct {
	Path   string // the file; its folder exists
	Sealer Sealer
	Log    *slog.Logger // nil: silent

	// ReadOnly opens a file that exists and changes nothing: not its schema, not its permissions.
	ReadOnly bool
	// Busy is how long a call waits for another process that holds the file. 0: 5 s.
	Busy time.Duration
}

// Store is the open database. Close it when no call is running.
type Store struct {
	path   string
	sealer Sealer
	log    *slog.Logger

	writer *sql.DB // one connection; nil when read-only
	reader *sql.DB

	passwordHash *sql.Stmt // on reader

	mu    sync.Mutex // held while a change is applied; guards what follows
	live  bool       // CatchUp was called
	since uint64     // what it was called with as next, or the mark if that was higher
	mark  uint64     // what Applied gives now, once live
	after uint64     // one past the newest change that Apply applied since
}

// applicationID marks the file as ours: "SaPo" in the header of SQLite's file format.
const applicationID = 0x5361506f

// Open opens the database, makes it if it is missing, and brings its schema up to date. It refuses a file that is
// damaged, that another program owns, or that a newer version of Sallyport has written.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Sealer == nil {
		return nil, errors.New("opening the database: no key ring to seal with")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Busy == 0 {
		o.Busy = 5 * time.Second
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", o.Path, err)
	}
	s := &Store{path: path, sealer: o.Sealer, log: o.Log}
	if err := s.open(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database %s: %w", path, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, o Options) (err error) {
	mode := "ro"
	if o.ReadOnly {
		if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is none (hint: sallyport init): %w", err)
		}
	} else {
		mode = "rw"
		if _, err := prepareFile(s.path); err != nil {
			return err
		}
		if s.writer, err = openPool(ctx, s.path, mode, writerPragmas(o.Busy, "FULL"), 1); err != nil {
			return err
		}
		// Before anything is written: a damaged file may be worth more than what we would make of it.
		if err := checkFile(ctx, s.writer); err != nil {
			return err
		}
		if err := migrate(ctx, s.writer, s.path, s.log); err != nil {
			return err
		}
	}
	n := min(max(runtime.GOMAXPROCS(0), 2), maxReaders)
	pragmas := readerPragmas(o.Busy)
	if o.ReadOnly {
		// A backup is not in WAL mode before it is first opened for writing.
		pragmas = slices.DeleteFunc(pragmas, func(p pragma) bool { return p.name == "journal_mode" })
	}
	if s.reader, err = openPool(ctx, s.path, mode, pragmas, n); err != nil {
		return err
	}
	if o.ReadOnly {
		if err := checkFile(ctx, s.reader); err != nil {
			return err
		}
		if err := checkSchema(ctx, s.reader, s.path); err != nil {
			return err
		}
	}
	s.passwordHash, err = s.reader.PrepareContext(ctx, sqlPassword)
	return explain(err)
}

// checkFile looks at every page: what is damaged is better found now than in the middle of a login.
func checkFile(ctx context.Context, db *sql.DB) error {
	var found string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return explain(err)
	}
	if found != "ok" {
		return fmt.Errorf("%w (hint: restore a backup): %s", ErrCorrupt, found)
	}
	return nil
}

// Close closes the database. What was applied is durable already.
func (s *Store) Close() error {
	var errs []error
	if s.passwordHash != nil {
		errs = append(errs, s.passwordHash.Close())
	}
	// The writer last: the last connection to close takes the -wal file back into the database.
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Applied returns the number of the first journal record whose change, if it has one, is not applied yet.
func (s *Store) Applied(ctx context.Context) (next uint64, err error) {
	if err := s.reader.QueryRowContext(ctx, sqlApplied).Scan(&next); err != nil {
		return 0, fmt.Errorf("reading up to where changes are applied: %w", explain(err))
	}
	return next, nil
}

// Numbered is the change of the journal record with the number Seq.
type Numbered struct {
	Seq    uint64
	Change login.Change
}

// CatchUp applies, in one transaction, all changes that the records from (inclusive) to next (exclusive) carry, and
// remembers that nothing below next is missing. The caller has looked at each of those records; those that are not in
// changes carry none. Changes that are in already are passed over, and a from beyond Applied is ErrGap.
//
// At start it is called with what the journal's replay found. Later, with no changes and while no verb runs, it moves
// the mark over records that carry none: right before a snapshot of the journal, since the next replay begins there.
func (s *Store) CatchUp(ctx context.Context, from, next uint64, changes []Numbered) error {
	for i, c := range changes {
		if c.Seq < from || c.Seq >= next || (i > 0 && c.Seq <= changes[i-1].Seq) {
			return fmt.Errorf("catching up with records %d to %d: the change of record %d is out of order", from, next, c.Seq)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mark, err := s.apply(ctx, from, next, changes)
	if err != nil {
		return fmt.Errorf("catching up with records %d to %d: %w", from, next, err)
	}
	if !s.live {
		s.live, s.since = true, mark
	}
	s.mark = mark
	return nil
}

// Apply applies the change of record seq in one transaction, which is durable when Apply returns. A change that is in
// already is passed over. If anything fails, nothing was applied, and the same call may be made again; a context that
// ends while the transaction runs does not undo it.
//
// Before CatchUp, seq must be Applied: what lies between may carry changes, and only the journal knows. After CatchUp,
// the caller promises that every change goes through Apply, one after the other in the order of the records; records
// in between are those that carry none. In both cases a change that comes too late or too early is ErrGap.
func (s *Store) Apply(ctx context.Context, seq uint64, c login.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.applyNext(ctx, seq, c); err != nil {
		return fmt.Errorf("applying the change of record %d: %w", seq, err)
	}
	return nil
}

// applyNext needs s.mu.
func (s *Store) applyNext(ctx context.Context, seq uint64, c login.Change) error {
	if seq >= math.MaxInt64 {
		return errors.New("the number is beyond all records")
	}
	from := seq
	if s.live {
		if seq >= s.since && seq < s.mark && seq+1 != s.after {
			return fmt.Errorf("%w: it comes after everything below record %d was said to be in", ErrGap, s.mark)
		}
		from = 0
	}
	mark, err := s.apply(ctx, from, seq+1, []Numbered{{seq, c}})
	if err != nil {
		return err
	}
	if s.live && mark > s.mark {
		s.mark, s.after = mark, mark
	}
	return nil
}

// apply needs s.mu. It returns up to where changes are applied now.
func (s *Store) apply(ctx context.Context, from, next uint64, changes []Numbered) (mark uint64, err error) {
	if s.writer == nil {
		return 0, ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	// A context that ended in the middle would roll back what is perhaps committed: nobody could tell.
	ctx = context.WithoutCancel(ctx)
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return 0, explain(err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := tx.QueryRowContext(ctx, sqlApplied).Scan(&mark); err != nil {
		return 0, explain(err)
	}
	if from > mark {
		return 0, fmt.Errorf("%w: changes are applied up to record %d only (hint: catch up from there)", ErrGap, mark)
	}
	if next <= mark {
		return mark, nil
	}
	for _, c := range changes {
		if c.Seq < mark {
			continue
		}
		if err := s.applyOne(ctx, tx, c); err != nil {
			return 0, explain(err)
		}
	}
	if _, err := tx.ExecContext(ctx, sqlSetApplied, int64(next)); err != nil {
		return 0, explain(err)
	}
	return next, explain(tx.Commit())
}

// applyOne takes the fields in the order in which memory takes them (login's roster).
func (s *Store) applyOne(ctx context.Context, tx *sql.Tx, n Numbered) error {
	c := n.Change
	exec := func(what, query string, args ...any) error {
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	// Two verbs may cross: the person is removed, and then gets a token. The token can prove nobody. It is dropped
	// here as it is in memory, since a change that failed would fail at every start.
	owned := func(what, person, query string, args ...any) error {
		var have int
		if err := tx.QueryRowContext(ctx, sqlHasPerson, person).Scan(&have); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if have == 0 {
			s.log.WarnContext(ctx, "a change for a person who is gone was dropped", "seq", n.Seq, "what", what, "person", person)
			return nil
		}
		return exec(what, query, args...)
	}
	var errs []error
	step := func(err error) { errs = append(errs, err) }
	if p := c.PutPerson; p != nil {
		step(exec("put person", sqlPutPerson, p.Name, string(p.Kind), formatGroups(p.Groups), flag(p.Disabled),
			micros(p.From), micros(p.Until), micros(p.Created), formatMore(p)))
	}
	if p := c.SetPassword; p != nil {
		step(owned("set password", p.Person, sqlPutPassword, p.Person,
			s.sealer.Seal(purposePassword, p.Person, []byte(p.Hash))))
	}
	if t := c.PutToken; t != nil {
		step(owned("put token", t.Person, sqlPutToken, t.ID, t.Person, t.Label, string(t.Params.Type),
			string(t.Params.Algorithm), t.Params.Digits, t.Params.Period, string(t.State), micros(t.Created),
			s.sealer.Seal(purposeSeed, seedRow(t), t.Seed), t.Serial, t.Maker, micros(t.From), micros(t.Until)))
	}
	if k := c.PutKey; k != nil {
		step(owned("put key", k.Person, sqlPutKey, k.Fingerprint, k.Person, k.Type, nonNil(k.Blob), k.Comment, micros(k.Created), boundText(k.Bound)))
	}
	if c.DeleteKey != "" {
		step(exec("delete key", sqlDeleteKey, c.DeleteKey))
	}
	if c.DeleteToken != "" {
		step(exec("delete token", sqlDeleteToken, c.DeleteToken))
	}
	if c.DeletePerson != "" {
		step(exec("delete person", sqlDeletePerson, c.DeletePerson)) // and all that hangs on it, by cascade
	}
	errs = append(errs, s.applyTarget(c, exec)...)
	errs = append(errs, s.applyRegister(c, exec)...)
	errs = append(errs, s.applyStock(c, exec)...)
	if t := c.PutTicket; t != nil {
		step(owned("put ticket", t.Person, sqlPutTicket, t.ID, t.Person, string(t.State), micros(t.Until), s.sealTicket(t)))
	}
	errs = append(errs, s.applyHold(c, exec)...)
	for _, further := range c.All {
		step(s.applyOne(ctx, tx, Numbered{n.Seq, further}))
	}
	return errors.Join(errs...)
}
