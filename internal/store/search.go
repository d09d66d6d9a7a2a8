package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// dataBatch is of how many blocks the data is asked for at once: as many as sqlBlockData has places.
const dataBatch = 8

// looking is a search at work. A question to SQLite takes as long as looking through a block, so it is about several: about one
// at first, since the first may hold enough, then about twice as many each time.
type looking struct {
	m           *match
	limit       int
	newestFirst bool
	data        *sql.Stmt
	hits, found []Hit
	most        int
	blocks      []block // that may match, in the order of the search, without data
}

func (l *looking) add(ctx context.Context, b *block) error {
	b.bits = slices.Clone(b.bits)
	l.blocks = append(l.blocks, *b)
	if len(l.blocks) < l.most {
		return nil
	}
	l.most = min(2*l.most, dataBatch)
	return l.look(ctx)
}

// look goes through the blocks that wait.
func (l *looking) look(ctx context.Context) error {
	if len(l.blocks) == 0 || len(l.hits) >= l.limit {
		return nil
	}
	var firsts [dataBatch]any
	for i := range firsts {
		firsts[i] = int64(l.blocks[min(i, len(l.blocks)-1)].first) // the same one twice is asked for once
	}
	rows, err := l.data.QueryContext(ctx, firsts[:]...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	for i := 0; i < len(l.blocks) && len(l.hits) < l.limit; i++ {
		b := &l.blocks[i]
		var first uint64
		if !rows.Next() {
			return cmp.Or(rows.Err(), fmt.Errorf("%w: records %d to %d: its data is not there", errBlock, b.first, b.next))
		}
		if err := rows.Scan(&first, (*sql.RawBytes)(&b.data)); err != nil {
			return err
		}
		if first != b.first {
			return fmt.Errorf("%w: records %d to %d: its data is not there", errBlock, b.first, b.next)
		}
		if l.found, err = b.search(l.found[:0], l.m); err != nil {
			return err
		}
		if l.newestFirst {
			slices.Reverse(l.found)
		}
		l.hits = append(l.hits, l.found[:min(len(l.found), l.limit-len(l.hits))]...)
	}
	l.blocks = l.blocks[:0]
	return rows.Err()
}
