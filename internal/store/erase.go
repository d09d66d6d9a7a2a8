package store

import (
	"context"
	"database/sql"
	"fmt"
)

const (
	sqlTaken    = `SELECT segment, size FROM taken`
	sqlPutTaken = `INSERT INTO taken (segment, size) VALUES ($1, $2) ON CONFLICT (segment) DO UPDATE SET size = excluded.size`
	sqlBlockOf  = `SELECT first, next, since, until, bits, data FROM blocks
		WHERE first = (SELECT max(first) FROM blocks WHERE first <= $1)`
	sqlSetBlock = `UPDATE blocks SET since = $1, until = $2, bits = $3, data = $4 WHERE first = $5`
)

// Taken tells, of each segment of the journal that was rewritten and that the index has taken in since, the size that it had.
// With a power cut the newest may be forgotten, together with what was taken in; it is then taken in again.
func (x *Index) Taken(ctx context.Context) (sizes map[uint64]int64, err error) {
	if err := x.Damage(); err != nil {
		return nil, err
	}
	rows, err := x.reader.QueryContext(ctx, sqlTaken)
	if err != nil {
		return nil, fmt.Errorf("reading what the index has taken in: %w", x.note(err))
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	sizes = make(map[uint64]int64)
	for rows.Next() {
		var segment, size int64
		if err := rows.Scan(&segment, &size); err != nil {
			return nil, x.note(err)
		}
		sizes[uint64(segment)] = size
	}
	return sizes, x.note(rows.Err())
}

// Take takes in a segment of the journal that was rewritten: its records have other places, or are erased, and then nothing of
// what they said is left in the index. Each calls its argument with every entry of the segment in order; those that are
// not in the index are passed over, and where none can be, it is not called. All of it is in when Take returns, or nothing.
func (x *Index) Take(ctx context.Context, segment uint64, size int64, each func(put func(Entry) error) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.Damage(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // as in Store.apply
	x.loaded = false
	if err := x.take(ctx, segment, size, each); err != nil {
		return fmt.Errorf("taking segment %d into the index anew: %w", segment, x.note(err))
	}
	return nil
}

func (x *Index) take(ctx context.Context, segment uint64, size int64, each func(put func(Entry) error) error) error {
	tx, err := x.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	defer x.blocks.forget()
	var next uint64
	if err := tx.StmtContext(ctx, x.asNext).QueryRowContext(ctx).Scan(&next); err != nil {
		return err
	}
	var at block // in hand
	var entries []Entry
	flush := func() error {
		if len(entries) == 0 {
			return nil
		}
		b := x.blocks.write(entries, len(entries) >= fullBlock)
		_, err := tx.ExecContext(ctx, sqlSetBlock, b.since, b.until, b.bits, b.data, int64(b.first))
		entries = entries[:0]
		return err
	}
	put := func(e Entry) error {
		if e.Seq >= next {
			return nil // not indexed yet
		}
		if len(entries) == 0 || e.Seq >= at.next {
			if err := flush(); err != nil {
				return err
			}
			at = block{}
			err := tx.QueryRowContext(ctx, sqlBlockOf, int64(e.Seq)).Scan(&at.first, &at.next, &at.since, &at.until, &at.bits, &at.data)
			if err == sql.ErrNoRows {
				return nil // from before the first that is indexed
			}
			if err == nil && e.Seq >= at.next {
				err = fmt.Errorf("%w: record %d is in none", errBlock, e.Seq)
			}
			if err == nil {
				entries, err = at.entries(entries)
			}
			if err != nil {
				return err
			}
		}
		if e.Seq >= at.first {
			entries[e.Seq-at.first] = e
		}
		return nil
	}
	if segment < next {
		if err := each(put); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, sqlPutTaken, int64(segment), size); err != nil {
		return err
	}
	return tx.Commit()
}
