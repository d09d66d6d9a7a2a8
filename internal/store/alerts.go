package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"sallyport/internal/alert"
)

// What follows from the log is written here directly, and not by way of the journal: it can be made again.

const (
	sqlCursor    = `SELECT next FROM cursors WHERE name = $1`
	sqlSetCursor = `INSERT INTO cursors (name, next) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET next = excluded.next`

	sqlAlerts      = `SELECT id, body FROM alerts ORDER BY id`
	sqlPutAlert    = `INSERT INTO alerts (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body`
	sqlDropAlert   = `DELETE FROM alerts WHERE id = $1`
	sqlDeliveries  = `SELECT alert, destination, body FROM deliveries ORDER BY alert, destination`
	sqlPutDelivery = `INSERT INTO deliveries (alert, destination, body) SELECT $1, $2, $3 WHERE EXISTS (SELECT 1 FROM alerts WHERE id = $1)
		ON CONFLICT (alert, destination) DO UPDATE SET body = excluded.body`
)

// alertCursor is the name of the cursor of the alerts.
const alertCursor = "alerts"

// Cursor tells how far a reader of the log is; known is false for one that was never set.
func (s *Store) Cursor(ctx context.Context, name string) (next uint64, known bool, err error) {
	err = s.reader.QueryRowContext(ctx, sqlCursor, name).Scan(&next)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("reading the cursor %q: %w", name, explain(err))
	}
	return next, true, nil
}

// SetCursor is durable when it returns.
func (s *Store) SetCursor(ctx context.Context, name string, next uint64) error {
	err := s.direct(ctx, func(exec func(query string, args ...any) error) error { return exec(sqlSetCursor, name, int64(next)) })
	if err != nil {
		return fmt.Errorf("moving the cursor %q to record %d: %w", name, next, err)
	}
	return nil
}

// direct runs one transaction.
func (s *Store) direct(ctx context.Context, fn func(exec func(query string, args ...any) error) error) error {
	if s.writer == nil {
		return ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // as in apply
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := fn(func(query string, args ...any) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return explain(err)
	}); err != nil {
		return err
	}
	return explain(tx.Commit())
}

// Alerts calls fn for every alert. See People for what fn may do.
func (s *Store) Alerts(ctx context.Context, fn func(alert.Alert) error) error {
	return s.each(ctx, "the alerts", sqlAlerts, nil, func(rows *sql.Rows) error {
		var id string
		var body sql.RawBytes
		if err := rows.Scan(&id, &body); err != nil {
			return fmt.Errorf("reading an alert: %w", explain(err))
		}
		var a alert.Alert
		if err := json.Unmarshal(body, &a); err != nil || a.ID != id {
			return fmt.Errorf("%w: alert %s cannot be read: %v", ErrCorrupt, id, err)
		}
		return fn(a)
	})
}

// AlertsNext tells up to where the log was read for alerts.
func (s *Store) AlertsNext(ctx context.Context) (uint64, error) {
	next, _, err := s.Cursor(ctx, alertCursor)
	return next, err
}

// SaveAlerts stores what changed of the alerts, and that the log was read up to next, as one.
func (s *Store) SaveAlerts(ctx context.Context, next uint64, put []alert.Alert, gone []string) error {
	err := s.direct(ctx, func(exec func(query string, args ...any) error) error {
		for i := range put {
			body, err := json.Marshal(&put[i])
			if err == nil {
				err = exec(sqlPutAlert, put[i].ID, string(body))
			}
			if err != nil {
				return err
			}
		}
		for _, id := range gone {
			if err := exec(sqlDropAlert, id); err != nil {
				return err
			}
		}
		return exec(sqlSetCursor, alertCursor, int64(next))
	})
	if err != nil {
		return fmt.Errorf("storing the alerts up to record %d: %w", next, err)
	}
	return nil
}

// Deliveries calls fn for every delivery. See People for what fn may do.
func (s *Store) Deliveries(ctx context.Context, fn func(alert.Delivery) error) error {
	return s.each(ctx, "the deliveries of alerts", sqlDeliveries, nil, func(rows *sql.Rows) error {
		var of, destination string
		var body sql.RawBytes
		if err := rows.Scan(&of, &destination, &body); err != nil {
			return fmt.Errorf("reading a delivery: %w", explain(err))
		}
		var d alert.Delivery
		if err := json.Unmarshal(body, &d); err != nil || d.Alert != of || d.Destination != destination {
			return fmt.Errorf("%w: the delivery of alert %s cannot be read: %v", ErrCorrupt, of, err)
		}
		return fn(d)
	})
}

// SaveDeliveries stores deliveries as one. Those of alerts that are gone are passed over.
func (s *Store) SaveDeliveries(ctx context.Context, list []alert.Delivery) error {
	err := s.direct(ctx, func(exec func(query string, args ...any) error) error {
		for i := range list {
			body, err := json.Marshal(&list[i])
			if err == nil {
				err = exec(sqlPutDelivery, list[i].Alert, list[i].Destination, string(body))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("storing what became of alerts: %w", err)
	}
	return nil
}
