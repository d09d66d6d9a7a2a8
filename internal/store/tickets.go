package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"sallyport/internal/login"
)

const (
	sqlPutTicket = `INSERT INTO tickets (id, person, state, ends, body) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, ends = excluded.ends, body = excluded.body`
	sqlTickets     = `SELECT id, body FROM tickets WHERE state = 'open' ORDER BY id`
	sqlSomeTickets = `SELECT id, body FROM tickets WHERE id > $1 ORDER BY id LIMIT $2`
	sqlSetTicket   = `UPDATE tickets SET body = $1 WHERE id = $2`
)

const purposeTicket = "enrolment-ticket"

// sealTicket makes what of a ticket stands in the column body.
func (s *Store) sealTicket(t *login.Ticket) []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic("store: strings and times cannot fail: " + err.Error())
	}
	return s.sealer.Seal(purposeTicket, t.ID, b)
}

func (s *Store) openTicket(id string, sealed []byte) (t login.Ticket, err error) {
	b, err := s.sealer.Open(purposeTicket, id, sealed)
	if err != nil {
		return t, fmt.Errorf("reading enrolment ticket %s: %w (hint: its row was altered, or the key ring is another one)", id, err)
	}
	if err := json.Unmarshal(b, &t); err != nil || t.ID != id {
		return t, fmt.Errorf("%w: enrolment ticket %s cannot be read: %v", ErrCorrupt, id, err)
	}
	return t, nil
}

// Tickets calls fn for every enrolment ticket that is open, also where its time is over, until fn fails. See People for what fn may do.
func (s *Store) Tickets(ctx context.Context, fn func(login.Ticket) error) error {
	return s.each(ctx, "the enrolment tickets", sqlTickets, nil, func(rows *sql.Rows) error {
		var id string
		var sealed sql.RawBytes
		if err := rows.Scan(&id, &sealed); err != nil {
			return fmt.Errorf("reading an enrolment ticket: %w", explain(err))
		}
		t, err := s.openTicket(id, sealed)
		if err != nil {
			return err
		}
		return fn(t)
	})
}

func (s *Store) resealTickets(ctx context.Context, tx *sql.Tx, last string, stale func([]byte) bool) (string, int, error) {
	rows, err := tx.QueryContext(ctx, sqlSomeTickets, last, resealBatch)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	var again []login.Ticket
	next := ""
	for rows.Next() {
		var id string
		var sealed []byte
		if err := rows.Scan(&id, &sealed); err != nil {
			return "", 0, err
		}
		if next = id; !stale(sealed) {
			continue
		}
		t, err := s.openTicket(id, sealed)
		if err != nil {
			return "", 0, err
		}
		again = append(again, t)
	}
	if err := rows.Err(); err != nil {
		return "", 0, err
	}
	for _, t := range again {
		if _, err := tx.ExecContext(ctx, sqlSetTicket, s.sealTicket(&t), t.ID); err != nil {
			return "", 0, err
		}
	}
	return next, len(again), nil
}
