package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"sallyport/internal/login"
)

const (
	sqlPutStock = `INSERT INTO stock (serial, maker, model, type, algorithm, digits, period, counter, drift, starts, ends, wish, imported, batch, seed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (serial) DO UPDATE SET maker = excluded.maker, model = excluded.model, type = excluded.type, algorithm = excluded.algorithm,
			digits = excluded.digits, period = excluded.period, counter = excluded.counter, drift = excluded.drift, starts = excluded.starts,
			ends = excluded.ends, wish = excluded.wish, imported = excluded.imported, batch = excluded.batch, seed = excluded.seed`
	sqlDeleteStock = `DELETE FROM stock WHERE serial = $1`

	stockColumns = `SELECT serial, maker, model, type, algorithm, digits, period, counter, drift, starts, ends, wish, imported, batch, seed FROM stock `
	sqlStock     = stockColumns + `ORDER BY serial`
	sqlStockOf   = stockColumns + `WHERE serial = $1`
	sqlSomeStock = stockColumns + `WHERE serial > $1 ORDER BY serial LIMIT $2`
	sqlSetStock  = `UPDATE stock SET seed = $1 WHERE serial = $2`

	sqlTokensBySerial = tokenColumns + `WHERE serial = $1 AND serial <> '' ORDER BY created, id`
)

// purposeStock is the purpose of the seed of a token in stock, as it is sealed.
const purposeStock = "stock-seed"

// stockRow is the row that such a seed is bound to: its serial number, how it counts, from where on, and when. Every text is after
// its length, as in seedRow.
func stockRow(t *login.StockToken) string {
	b := make([]byte, 0, 128)
	for _, part := range []string{t.Serial, string(t.Params.Type), string(t.Params.Algorithm)} {
		b = strconv.AppendInt(b, int64(len(part)), 10)
		b = append(b, ':')
		b = append(b, part...)
	}
	for _, n := range []int64{int64(t.Params.Digits), int64(t.Params.Period), t.Counter, t.Drift, micros(t.From).Int64, micros(t.Until).Int64} {
		b = strconv.AppendInt(append(b, '/'), n, 10)
	}
	return string(b)
}

// hardwareRow is what the seed of a hardware token that somebody has is bound to, besides.
func hardwareRow(b []byte, t *login.Token) []byte {
	if t.Serial == "" && t.From.IsZero() && t.Until.IsZero() {
		return b
	}
	b = strconv.AppendInt(append(b, '/'), int64(len(t.Serial)), 10)
	b = append(append(b, ':'), t.Serial...)
	for _, us := range []sql.NullInt64{micros(t.From), micros(t.Until)} {
		if b = append(b, '/'); us.Valid {
			b = strconv.AppendInt(b, us.Int64, 10)
		}
	}
	return b
}

// applyStock applies what of a change is about tokens in stock.
func (s *Store) applyStock(c login.Change, exec func(what, query string, args ...any) error) (errs []error) {
	if t := c.PutStock; t != nil {
		errs = append(errs, exec("put stock", sqlPutStock, t.Serial, t.Maker, t.Model, string(t.Params.Type), string(t.Params.Algorithm), t.Params.Digits, t.Params.Period,
			t.Counter, t.Drift, micros(t.From), micros(t.Until), t.Wish, micros(t.Imported), t.Batch, s.sealer.Seal(purposeStock, stockRow(t), t.Seed)))
	}
	if c.DeleteStock != "" {
		errs = append(errs, exec("delete stock", sqlDeleteStock, c.DeleteStock))
	}
	return errs
}

// Stock calls fn for every hardware token that belongs to nobody, with its seed, in the order of serial numbers, until fn fails. See People for
// what fn may do.
func (s *Store) Stock(ctx context.Context, fn func(login.StockToken) error) error {
	return s.each(ctx, "the stock of tokens", sqlStock, nil, func(rows *sql.Rows) error {
		t, _, err := s.scanStock(rows)
		if err != nil {
			return err
		}
		return fn(t)
	})
}

// StockBySerial looks up a hardware token that belongs to nobody.
func (s *Store) StockBySerial(ctx context.Context, serial string) (t login.StockToken, ok bool, err error) {
	err = s.each(ctx, "the token "+strconv.Quote(serial)+" in stock", sqlStockOf, []any{serial}, func(rows *sql.Rows) (err error) {
		t, _, err = s.scanStock(rows)
		ok = err == nil
		return err
	})
	return t, ok, err
}

// TokensBySerial returns the tokens that people have, or had, with a serial number, the oldest first.
func (s *Store) TokensBySerial(ctx context.Context, serial string) (tokens []login.Token, err error) {
	err = s.each(ctx, "the tokens with the serial number "+strconv.Quote(serial), sqlTokensBySerial, []any{serial}, func(rows *sql.Rows) error {
		t, _, err := s.scanToken(rows)
		if err == nil {
			tokens = append(tokens, t)
		}
		return err
	})
	return tokens, err
}

// scanStock also returns the seed as it is stored, which is used up before the next row.
func (s *Store) scanStock(rows *sql.Rows) (t login.StockToken, sealed sql.RawBytes, err error) {
	var from, until, imported sql.NullInt64
	if err := rows.Scan(&t.Serial, &t.Maker, &t.Model, &t.Params.Type, &t.Params.Algorithm, &t.Params.Digits, &t.Params.Period, &t.Counter, &t.Drift,
		&from, &until, &t.Wish, &imported, &t.Batch, &sealed); err != nil {
		return t, nil, fmt.Errorf("reading a token in stock: %w", explain(err))
	}
	t.From, t.Until, t.Imported = timeOf(from), timeOf(until), timeOf(imported)
	if t.Seed, err = s.sealer.Open(purposeStock, stockRow(&t), sealed); err != nil {
		return t, nil, fmt.Errorf("reading the seed of token %q in stock: %w (hint: its row was altered, or the key ring is another one)", t.Serial, err)
	}
	return t, sealed, nil
}

func (s *Store) resealStock(ctx context.Context, tx *sql.Tx, last string, stale func([]byte) bool) (string, int, error) {
	rows, err := tx.QueryContext(ctx, sqlSomeStock, last, resealBatch)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	var again []login.StockToken
	next := ""
	for rows.Next() {
		t, sealed, err := s.scanStock(rows)
		if err != nil {
			return "", 0, err
		}
		if next = t.Serial; stale(sealed) {
			again = append(again, t)
		}
	}
	if err := rows.Err(); err != nil {
		return "", 0, err
	}
	for i := range again {
		t := &again[i]
		if _, err := tx.ExecContext(ctx, sqlSetStock, s.sealer.Seal(purposeStock, stockRow(t), t.Seed), t.Serial); err != nil {
			return "", 0, err
		}
		clear(t.Seed)
	}
	return next, len(again), nil
}
