package store

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"sallyport/internal/alert"
)

func TestCursors(t *testing.T) {
	path, ring := filepath.Join(t.TempDir(), "s.db"), newRing(t)
	s := open(t, Options{Path: path, Sealer: ring})
	ctx := t.Context()
	if next, known, err := s.Cursor(ctx, "syslog:siem"); next != 0 || known || err != nil {
		t.Errorf("a cursor that nobody set is %d, %v, %v", next, known, err)
	}
	for _, n := range []uint64{0, 7, 1 << 50} {
		if err := s.SetCursor(ctx, "syslog:siem", n); err != nil {
			t.Fatal(err)
		}
		if next, known, err := s.Cursor(ctx, "syslog:siem"); next != n || !known || err != nil {
			t.Errorf("it is %d, %v, %v, want %d", next, known, err, n)
		}
	}
	closeStore(t, s)
	again := open(t, Options{Path: path, Sealer: ring})
	if next, _, err := again.Cursor(ctx, "syslog:siem"); next != 1<<50 || err != nil {
		t.Errorf("after opening again it is %d, %v", next, err)
	}
	closeStore(t, again)
	readOnly := open(t, Options{Path: path, Sealer: ring, ReadOnly: true})
	if err := readOnly.SetCursor(ctx, "syslog:siem", 9); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only it says %v", err)
	}
}

func TestAlertsAreKept(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	a := alert.Alert{ID: "AL-1", Kind: alert.CodeReplay, Severity: alert.Warning, Person: "alice", Node: "gw1", State: alert.Open, Count: 2, First: at(1), Last: at(2), Records: []uint64{1, 2}, Told: at(1), Seq: 2}
	b := a
	b.ID, b.State, b.Ended, b.EndedBy, b.Outcome = "AL-2", alert.Closed, at(3), "jane", "it's \"well\""
	if err := s.SaveAlerts(ctx, 3, []alert.Alert{a, b}, nil); err != nil {
		t.Fatal(err)
	}
	d := alert.Delivery{Alert: "AL-1", Destination: "pager", State: alert.Sent, Told: at(1), Attempts: 1, Last: at(1)}
	orphan := d
	orphan.Alert = "AL-9"
	if err := s.SaveDeliveries(ctx, []alert.Delivery{d, orphan}); err != nil {
		t.Fatal(err)
	}
	read := func() (alerts []alert.Alert, deliveries []alert.Delivery) {
		t.Helper()
		if err := errors.Join(
			s.Alerts(ctx, func(a alert.Alert) error { alerts = append(alerts, a); return nil }),
			s.Deliveries(ctx, func(d alert.Delivery) error { deliveries = append(deliveries, d); return nil }),
		); err != nil {
			t.Fatal(err)
		}
		return alerts, deliveries
	}
	alerts, deliveries := read()
	if !reflect.DeepEqual(alerts, []alert.Alert{a, b}) || !reflect.DeepEqual(deliveries, []alert.Delivery{d}) {
		t.Errorf("kept are %+v and %+v", alerts, deliveries)
	}
	if next, err := s.AlertsNext(ctx); next != 3 || err != nil {
		t.Errorf("the log was read up to %d, %v", next, err)
	}
	a.Count = 3
	if err := s.SaveAlerts(ctx, 5, []alert.Alert{a}, []string{"AL-2"}); err != nil {
		t.Fatal(err)
	}
	if alerts, _ := read(); !reflect.DeepEqual(alerts, []alert.Alert{a}) {
		t.Errorf("kept are %+v", alerts)
	}
	if err := s.SaveAlerts(ctx, 6, nil, []string{"AL-1"}); err != nil {
		t.Fatal(err)
	}
	if alerts, deliveries := read(); len(alerts)+len(deliveries) != 0 {
		t.Errorf("kept are %+v and %+v", alerts, deliveries)
	}
}
