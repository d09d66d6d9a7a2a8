package store

import (
	"errors"
	"fmt"
	"testing"

	"sallyport/internal/login"
	"sallyport/internal/seal"
	"sallyport/otp"
)

func stocked(serial string) *login.StockToken {
	t := token("x", "x")
	return &login.StockToken{
		Serial: serial, Maker: "Acme", Model: "M1", Params: otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}, Seed: t.Seed, Counter: 40,
		From: at(-100), Until: at(1e6), Wish: "alice@x", Imported: at(2), Batch: "abc",
	}
}

func stock(t *testing.T, s *Store) (all []login.StockToken) {
	t.Helper()
	if err := s.Stock(t.Context(), func(x login.StockToken) error { all = append(all, x); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// A token goes into stock, from there to a person, and keeps what it has.
func TestStock(t *testing.T) {
	s := open(t, Options{})
	a, b := stocked("A-1"), stocked("B-2")
	b.Params, b.Counter, b.Drift = otp.Default(), 0, -3
	apply(t, s, login.Change{All: []login.Change{{PutStock: b}, {PutStock: a}}}, login.Change{PutStock: a})
	same(t, "stock", stock(t, s), []login.StockToken{*a, *b})
	got, ok, err := s.StockBySerial(t.Context(), "B-2")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	same(t, "by serial", got, *b)
	if _, ok, err := s.StockBySerial(t.Context(), "C"); ok || err != nil {
		t.Error(ok, err)
	}
	x := token("t1", "alice")
	x.Serial, x.Maker, x.From, x.Until = "A-1", "Acme", at(-100), at(1e6)
	apply(t, s, login.Change{PutPerson: person("alice")}, login.Change{All: []login.Change{{DeleteStock: "A-1"}, {PutToken: x}, {PutToken: token("t2", "alice")}}})
	same(t, "what is left", stock(t, s), []login.StockToken{*b})
	tokens, err := s.TokensBySerial(t.Context(), "A-1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the person's", tokens, []login.Token{*x})
	if tokens, err := s.TokensBySerial(t.Context(), ""); err != nil || len(tokens) > 0 {
		t.Errorf("without a serial number: %v, %v", tokens, err)
	}
}

// P9, and what the seal binds: whoever can write to the file can neither read a seed in stock nor make its token count otherwise.
func TestStockTampering(t *testing.T) {
	for name, stmt := range map[string]string{
		"other serial":         `UPDATE stock SET serial = 'Z' WHERE serial = 'A-1'`,
		"seed of another":      `UPDATE stock SET seed = (SELECT seed FROM stock WHERE serial = 'B-2') WHERE serial = 'A-1'`,
		"counter set back":     `UPDATE stock SET counter = 0 WHERE serial = 'A-1'`,
		"shorter code":         `UPDATE stock SET digits = 1 WHERE serial = 'A-1'`,
		"longer life":          `UPDATE stock SET ends = ends + 1 WHERE serial = 'A-1'`,
		"plain seed":           `UPDATE stock SET seed = x'3132333435363738393031323334353637383930' WHERE serial = 'A-1'`,
		"somebody's seed":      `UPDATE stock SET seed = (SELECT seed FROM tokens WHERE id = 't1') WHERE serial = 'A-1'`,
		"token: other serial":  `UPDATE tokens SET serial = 'B-2' WHERE id = 't1'`,
		"token: no serial":     `UPDATE tokens SET serial = '' WHERE id = 't1'`,
		"token: longer life":   `UPDATE tokens SET ends = NULL WHERE id = 't1'`,
		"token: sooner":        `UPDATE tokens SET starts = NULL WHERE id = 't1'`,
		"token: dates swapped": `UPDATE tokens SET starts = ends, ends = starts WHERE id = 't1'`,
		"token: a date more":   `UPDATE tokens SET ends = 1 WHERE id = 't2'`,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{})
			x := token("t1", "alice")
			x.Serial, x.From, x.Until = "C-3", at(0), at(100)
			apply(t, s, login.Change{PutPerson: person("alice")}, login.Change{All: []login.Change{{PutStock: stocked("A-1")}, {PutStock: stocked("B-2")}, {PutToken: x}, {PutToken: token("t2", "alice")}}})
			read(t, s)
			exec(t, s.path, stmt)
			err := errors.Join(s.Stock(t.Context(), func(login.StockToken) error { return nil }), s.Tokens(t.Context(), func(login.Token) error { return nil }))
			if !errors.Is(err, seal.ErrOpen) {
				t.Errorf("got %v, want seal.ErrOpen", err)
			}
		})
	}
}

// A newer key of the ring reaches the stock, too.
func TestResealStock(t *testing.T) {
	ring := newRing(t)
	s := open(t, Options{Sealer: ring})
	var all []login.Change
	n := resealBatch + 3
	for i := range n {
		all = append(all, login.Change{PutStock: stocked(fmt.Sprintf("S%05d", i))})
	}
	apply(t, s, login.Change{All: all})
	want := stock(t, s)
	if err := ring.Rotate(at(1)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Reseal(t.Context()); err != nil || got != n {
		t.Errorf("sealed %d again (%v), want %d", got, err, n)
	}
	same(t, "after", stock(t, s), want)
	s.sealer = newRing(t)
	if err := s.Stock(t.Context(), func(login.StockToken) error { return nil }); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("with another ring: %v", err)
	}
}
