package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Entry is what the index keeps of one audit record: where it is, and what it can be found by. An erased record has
// empty texts.
type Entry struct {
	Seq     uint64
	Segment uint64 // its place in the journal
	Offset  int64
	Time    time.Time // to the microsecond
	Event   string
	Result  string
	Person  string
	System  string
	Source  string
}

// Erased reports whether the record's content is gone.
func (e *Entry) Erased() bool { return e.Event == "" }

// Query says which records to find. Empty texts and zero times match all; texts match exactly.
type Query struct {
	Person, System, Event, Result, Source string

	Since time.Time // at or after; to the microsecond, as Until
	Until time.Time // before

	From   uint64 // numbers from here on
	Before uint64 // numbers below; 0: all

	// Limit is the most hits to return. 0: DefaultHits. It is never more than MaxHits.
	Limit int
	// NewestFirst turns the order round, from the oldest number first.
	NewestFirst bool
}

// Bounds of one search. More is found by asking again: see Query.Following.
const (
	DefaultHits = 1_000
	MaxHits     = 100_000
)

// Hit is a record that was found: its number, and its place in the journal.
type Hit struct {
	Seq     uint64
	Segment uint64
	Offset  int64
}

func (q Query) limit() int {
	if q.Limit <= 0 {
		return DefaultHits
	}
	return min(q.Limit, MaxHits)
}

// Following returns the query that goes on where hits, the whole answer to q, end. More is false when nothing can follow.
func (q Query) Following(hits []Hit) (next Query, more bool) {
	if len(hits) < q.limit() {
		return q, false
	}
	last := hits[len(hits)-1].Seq
	if q.NewestFirst {
		q.Before = last
		return q, last > q.From
	}
	q.From = last + 1
	return q, true
}

const (
	// indexID marks the file as an index of ours: "SaPi".
	indexID = 0x53615069
	// indexVersion is the version of the table; that of the blocks' data is blockFormat.
	indexVersion = 1

	// fullBlock is the number of records from which a block is full, gets a filter, and is never written again. Smaller
	// ones, from batches of few records, are put together when there are as many records in them.
	fullBlock = 512
	// maxBlock is the most records that one block takes.
	maxBlock = 2048

	sqlMakeIndex = `CREATE TABLE blocks (
		first INTEGER NOT NULL PRIMARY KEY,
		next  INTEGER NOT NULL,
		since INTEGER NOT NULL,
		until INTEGER NOT NULL,
		bits  BLOB    NOT NULL,
		data  BLOB    NOT NULL
	) STRICT`
	sqlChain      = `SELECT first, next FROM blocks ORDER BY first`
	sqlTail       = `SELECT first, next, since, until, bits, data FROM blocks ORDER BY first DESC`
	sqlIndexNext  = `SELECT coalesce(max(next), 0) FROM blocks WHERE first = (SELECT max(first) FROM blocks)`
	sqlPutBlock   = `INSERT INTO blocks (first, next, since, until, bits, data) VALUES ($1, $2, $3, $4, $5, $6)`
	sqlDropBlocks = `DELETE FROM blocks WHERE first >= $1`
	// sqlBlockHeads goes by the key as far as it can: a search that goes on, page by page, must not pass by all blocks before
	// its own each time. No block goes on for more than 2048 records, which is maxBlock.
	sqlBlockHeads = `SELECT first, next, since, until, bits FROM blocks
		WHERE first > $1 - 2048 AND next > $1 AND first < $2 AND until >= $3 AND since < $4 ORDER BY first`
	sqlBlockData = `SELECT first, data FROM blocks WHERE first IN ($1, $2, $3, $4, $5, $6, $7, $8) ORDER BY first`
	sqlMakeTaken = `CREATE TABLE IF NOT EXISTS taken (
		segment INTEGER NOT NULL PRIMARY KEY,
		size    INTEGER NOT NULL
	) STRICT`
)

// Index finds audit records by person, system, event, result, source and time. It keeps nothing that the journal does
// not have, so it is written with synchronous=NORMAL: a power cut may cost the newest batches, and never the file; Next
// then says from where to add again. (With FULL, each batch would wait for the disk a second time, after the journal.)
//
// A record is in the index when the Add that brought it has returned. Adds wait for one another; searches run beside.
type Index struct {
	path  string
	empty string // why it started empty

	writer *sql.DB
	reader *sql.DB
	asNext *sql.Stmt // sqlIndexNext, on writer
	put    *sql.Stmt // sqlPutBlock, on writer

	damage atomic.Pointer[error] // the first damage that was found

	mu     sync.Mutex
	loaded bool    // what follows is as the file is
	next   uint64  // one past the last record
	any    bool    // there are records
	tail   []Entry // the records in the small blocks at the end, fewer than fullBlock
	blocks blockWriter
}

// OpenIndex opens the index, and makes it if it is missing. A file that is damaged, or of another format, is set
// aside under the name path.damaged, in place of an older one there, and the index starts empty: Started says so. Another
// program's database is left alone, and is an error. No other process may have the index open.
func OpenIndex(ctx context.Context, path string) (*Index, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the index of records: %w", err)
	}
	x, err := openIndex(ctx, path)
	if errors.Is(err, ErrCorrupt) {
		why := err
		if err := setAside(path); err != nil {
			return nil, fmt.Errorf("opening the index of records %s: %w, and it cannot be set aside: %w", path, why, err)
		}
		if x, err = openIndex(ctx, path); err == nil {
			x.empty = why.Error() + "; it is kept as " + path + damagedSuffix
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the index of records %s: %w", path, err)
	}
	return x, nil
}

const damagedSuffix = ".damaged"

// setAside needs the file to be closed.
func setAside(path string) error {
	for _, beside := range []string{"-wal", "-shm"} {
		// They hold changes to the damaged file, and must not be taken into the new one.
		if err := os.Remove(path + beside); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.Join(os.Rename(path, path+damagedSuffix), syncDir(filepath.Dir(path)))
}

func openIndex(ctx context.Context, path string) (x *Index, err error) {
	x = &Index{path: path}
	defer func() {
		if err != nil {
			x, err = nil, errors.Join(err, x.closePools())
		}
	}()
	created, err := prepareFile(path)
	if err != nil {
		return x, err
	}
	if created {
		x.empty = "there was none"
	}
	const busy = 5 * time.Second // a backup may read the file
	if x.writer, err = openPool(ctx, path, "rw", writerPragmas(busy, "NORMAL"), 1); err != nil {
		return x, err
	}
	ours, err := checkOwner(ctx, x.writer, path, indexID)
	if err != nil {
		return x, err
	}
	if !ours {
		if x.empty == "" {
			x.empty = "the file was empty"
		}
		if err := x.make(ctx); err != nil {
			return x, explain(err)
		}
	}
	if err := x.checkTable(ctx); err != nil {
		return x, explain(err)
	}
	if _, err := x.writer.ExecContext(ctx, sqlMakeTaken); err != nil {
		return x, explain(err)
	}
	if x.reader, err = openPool(ctx, path, "rw", readerPragmas(busy), 2); err != nil {
		return x, err
	}
	if x.asNext, err = x.writer.PrepareContext(ctx, sqlIndexNext); err != nil {
		return x, explain(err)
	}
	if x.put, err = x.writer.PrepareContext(ctx, sqlPutBlock); err != nil {
		return x, explain(err)
	}
	return x, x.load(ctx)
}

func (x *Index) make(ctx context.Context) error {
	tx, err := x.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	for _, stmt := range []string{
		sqlMakeIndex,
		"PRAGMA application_id = " + strconv.Itoa(indexID),
		"PRAGMA user_version = " + strconv.Itoa(indexVersion),
	} {
		if _, err := tx.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// checkTable makes sure that the table is the one that this program makes: SQLite keeps the very text.
func (x *Index) checkTable(ctx context.Context) error {
	var version int
	if err := x.writer.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version != indexVersion {
		return fmt.Errorf("%w: its format is %d, not %d", ErrCorrupt, version, indexVersion)
	}
	var table string
	err := x.writer.QueryRowContext(ctx, "SELECT coalesce(max(sql), '') FROM sqlite_schema WHERE name = 'blocks'").Scan(&table)
	if err == nil && table != sqlMakeIndex {
		return fmt.Errorf("%w: its table is not ours", ErrCorrupt)
	}
	return err
}

// Started says why the index was empty when it was opened; "" when it was not. The caller logs it, and fills the
// index from the journal.
func (x *Index) Started() (why string) { return x.empty }

// Damage returns what a call found to be wrong with the file, if one did. From then on all calls fail. Closing the
// index sets the file aside, and opening it again starts an empty one.
func (x *Index) Damage() error {
	if err := x.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// note explains an error, and remembers the first that means damage.
func (x *Index) note(err error) error {
	err = explain(err)
	if errors.Is(err, errBlock) && !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if errors.Is(err, ErrCorrupt) {
		x.damage.CompareAndSwap(nil, &err)
	}
	return err
}

// Close closes the index when no call is running.
func (x *Index) Close() error {
	err := x.closePools()
	if x.Damage() != nil {
		err = errors.Join(err, setAside(x.path))
	}
	return err
}

func (x *Index) closePools() (err error) {
	for _, stmt := range []*sql.Stmt{x.asNext, x.put} {
		if stmt != nil {
			err = errors.Join(err, stmt.Close())
		}
	}
	for _, db := range []*sql.DB{x.reader, x.writer} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}

// load reads what the Index knows of its file. It needs x.mu, but at the start.
func (x *Index) load(ctx context.Context) error {
	x.loaded, x.any, x.next, x.tail = false, false, 0, nil
	if err := x.checkChain(ctx); err != nil {
		return x.note(err)
	}
	if err := x.loadTail(ctx); err != nil {
		return x.note(err)
	}
	x.loaded = true
	return nil
}

// checkChain makes sure that the blocks follow one another without a gap.
func (x *Index) checkChain(ctx context.Context) error {
	rows, err := x.writer.QueryContext(ctx, sqlChain)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	for rows.Next() {
		var first, next int64
		if err := rows.Scan(&first, &next); err != nil {
			return err
		}
		if first < 0 || next <= first || next-first > maxBlock || (x.any && uint64(first) != x.next) {
			return fmt.Errorf("%w: after record %d comes a block of %d to %d", errBlock, x.next, first, next)
		}
		x.any, x.next = true, uint64(next)
	}
	return rows.Err()
}

func (x *Index) loadTail(ctx context.Context) error {
	rows, err := x.writer.QueryContext(ctx, sqlTail)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	var tail [][]Entry
	for count := 0; rows.Next(); {
		var b block
		if err := rows.Scan(&b.first, &b.next, &b.since, &b.until, &b.bits, &b.data); err != nil {
			return err
		}
		entries, err := b.entries(nil)
		if err != nil {
			return err
		}
		if count += len(entries); count >= fullBlock {
			break
		}
		tail = append(tail, entries)
	}
	slices.Reverse(tail)
	x.tail = slices.Concat(tail...)
	return rows.Err()
}

// Next returns the number of the first record that is not in the index: where to go on adding. An index that lost its
// newest batches gives a lower one than it did. If it is higher than the journal's own Next, the index belongs to
// another journal; Reset it.
func (x *Index) Next(ctx context.Context) (next uint64, err error) {
	if err := x.Damage(); err != nil {
		return 0, err
	}
	if err := x.reader.QueryRowContext(ctx, sqlIndexNext).Scan(&next); err != nil {
		return 0, fmt.Errorf("reading how far the index of records goes: %w", x.note(err))
	}
	return next, nil
}

// Reset empties the index. It can then be filled from any record on.
func (x *Index) Reset(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.Damage(); err != nil {
		return err
	}
	x.loaded = false
	if _, err := x.writer.ExecContext(ctx, "DELETE FROM taken; DELETE FROM blocks"); err != nil {
		return fmt.Errorf("emptying the index of records: %w", x.note(err))
	}
	return x.load(ctx)
}

// Add adds records, in the order of their numbers and without a gap, after those that are in; an empty index may start
// with any. Records that are in already are passed over. All of the batch is in when Add returns, or nothing. A batch of
// a thousand costs little more than one of ten, so it is well to wait for some.
func (x *Index) Add(ctx context.Context, batch []Entry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.Damage(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // as in Store.apply
	if !x.loaded {
		if err := x.load(ctx); err != nil {
			return err
		}
	}
	for x.any && len(batch) > 0 && batch[0].Seq < x.next {
		batch = batch[1:]
	}
	if len(batch) == 0 {
		return nil
	}
	next := batch[0].Seq
	if x.any {
		next = x.next
	}
	for i := range batch {
		if batch[i].Seq != next || next >= math.MaxInt64 {
			return fmt.Errorf("adding to the index: record %d comes where %d is next", batch[i].Seq, next)
		}
		next++
	}
	x.loaded = false // until it is known that the file is as we think
	if err := x.add(ctx, batch); err != nil {
		return fmt.Errorf("adding records %d to %d to the index: %w", batch[0].Seq, next-1, x.note(err))
	}
	x.loaded, x.any, x.next = true, true, next
	return nil
}

// add needs x.mu and a batch that goes on at x.next.
func (x *Index) add(ctx context.Context, batch []Entry) error {
	tx, err := x.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	var next uint64
	if err := tx.StmtContext(ctx, x.asNext).QueryRowContext(ctx).Scan(&next); err != nil {
		return err
	}
	if next != x.next {
		return fmt.Errorf("somebody else has written it: it goes to record %d, not %d", next, x.next)
	}
	defer x.blocks.forget()
	put := tx.StmtContext(ctx, x.put)
	tail := slices.Concat(x.tail, batch)
	if len(tail) < fullBlock {
		if err := x.putBlock(ctx, put, batch); err != nil {
			return err
		}
	} else {
		if len(x.tail) > 0 {
			if _, err := tx.ExecContext(ctx, sqlDropBlocks, int64(x.tail[0].Seq)); err != nil {
				return err
			}
		}
		for parts := (len(tail) + maxBlock - 1) / maxBlock; parts > 0; parts-- {
			n := len(tail) / parts
			if err := x.putBlock(ctx, put, tail[:n]); err != nil {
				return err
			}
			tail = tail[n:]
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	x.tail = tail
	return nil
}

func (x *Index) putBlock(ctx context.Context, put *sql.Stmt, entries []Entry) error {
	b := x.blocks.write(entries, len(entries) >= fullBlock)
	_, err := put.ExecContext(ctx, int64(b.first), int64(b.next), b.since, b.until, b.bits, b.data)
	return err
}

// match is a Query as blocks are searched by it.
type match struct {
	texts        [fields]string
	hashes       []uint64 // of those texts that are not empty
	since, until int64    // until is exclusive, like before
	from, before uint64
}

func newMatch(q Query) *match {
	m := &match{
		texts: [fields]string{fieldEvent: q.Event, fieldResult: q.Result, fieldPerson: q.Person, fieldSystem: q.System, fieldSource: q.Source},
		since: math.MinInt64, until: math.MaxInt64, from: min(q.From, math.MaxInt64), before: math.MaxInt64,
	}
	for f, text := range m.texts {
		if text != "" {
			m.hashes = append(m.hashes, termHash(f, text))
		}
	}
	if !q.Since.IsZero() {
		m.since = q.Since.UnixMicro()
	}
	if !q.Until.IsZero() {
		m.until = q.Until.UnixMicro()
	}
	if q.Before > 0 {
		m.before = min(q.Before, math.MaxInt64)
	}
	return m
}

// Search returns the places of the records that match, all of one moment. The journal has the records themselves.
func (x *Index) Search(ctx context.Context, q Query) ([]Hit, error) {
	if err := x.Damage(); err != nil {
		return nil, err
	}
	hits, err := x.search(ctx, newMatch(q), q.limit(), q.NewestFirst)
	if err != nil {
		return nil, fmt.Errorf("searching the index of records: %w", x.note(err))
	}
	return hits, nil
}

func (x *Index) search(ctx context.Context, m *match, limit int, newestFirst bool) ([]Hit, error) {
	// One transaction, so that no block is put together with others between its head and its data.
	tx, err := x.reader.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	heads, bodies := sqlBlockHeads, sqlBlockData
	if newestFirst {
		heads, bodies = heads+" DESC", bodies+" DESC"
	}
	data, err := tx.PrepareContext(ctx, bodies)
	if err != nil {
		return nil, err
	}
	defer func() { _ = data.Close() }() // ends with the transaction at the latest
	rows, err := tx.QueryContext(ctx, heads, int64(m.from), int64(m.before), m.since, m.until)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	l := looking{m: m, limit: limit, newestFirst: newestFirst, data: data, most: 1}
	for len(l.hits) < limit && rows.Next() {
		var b block
		if err := rows.Scan(&b.first, &b.next, &b.since, &b.until, (*sql.RawBytes)(&b.bits)); err != nil {
			return nil, err
		}
		if may, err := b.mayMatch(m); err != nil {
			return nil, err
		} else if !may {
			continue
		}
		if err := l.add(ctx, &b); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	err = l.look(ctx)
	return l.hits, err
}

// mayMatch asks the filter.
func (b *block) mayMatch(m *match) (bool, error) {
	bits, ok := cutSum(b.bits, b.bitsSum())
	if !ok {
		return false, fmt.Errorf("%w: records %d to %d: its head is damaged", errBlock, b.first, b.next)
	}
	for _, h := range m.hashes {
		if !mayHold(bits, h) {
			return false, nil
		}
	}
	return true, nil
}
