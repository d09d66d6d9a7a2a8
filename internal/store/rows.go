package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/login"
)

// What is sealed, by purpose.
const (
	purposeSeed     = "token-seed"
	purposePassword = "password-hash"
)

// seedRow is the row that a seed is bound to: its token's id and all that decides whom and how it proves. Every part
// but the numbers is after its length, so that no two rows read alike.
func seedRow(t *login.Token) string {
	b := make([]byte, 0, 128)
	for _, part := range []string{t.ID, t.Person, string(t.State), string(t.Params.Type), string(t.Params.Algorithm)} {
		b = strconv.AppendInt(b, int64(len(part)), 10)
		b = append(b, ':')
		b = append(b, part...)
	}
	b = strconv.AppendInt(append(b, '/'), int64(t.Params.Digits), 10)
	b = strconv.AppendInt(append(b, '/'), int64(t.Params.Period), 10)
	return string(hardwareRow(b, t))
}

// micros is how times are stored. What is below a microsecond is lost.
func micros(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()}
}

func timeOf(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return time.UnixMicro(us.Int64).UTC()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// nonNil keeps an empty value from becoming NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// nilIfEmpty is the other way: an empty value is read as nil.
func nilIfEmpty[S ~[]E, E any](s S) S {
	if len(s) == 0 {
		return nil
	}
	return s
}

func formatGroups(groups []string) string {
	if len(groups) == 0 {
		return ""
	}
	b, err := json.Marshal(groups)
	if err != nil {
		panic("store: a list of strings cannot fail: " + err.Error())
	}
	return string(b)
}

// personMore is what of a person stands in the column of that name.
type personMore struct {
	First    string     `json:"first_factor,omitempty"`
	FullName string     `json:"full_name,omitempty"`
	Mail     string     `json:"mail,omitempty"`
	Company  string     `json:"company,omitempty"`
	Sponsor  string     `json:"sponsor,omitempty"`
	Owner    string     `json:"owner,omitempty"`
	Contract login.Date `json:"contract_end,omitzero"`
}

func formatMore(p *login.Person) string {
	more := personMore{p.First, p.FullName, p.Mail, p.Company, p.Sponsor, p.Owner, p.Contract}
	if more == (personMore{}) {
		return ""
	}
	b, err := json.Marshal(more)
	if err != nil {
		panic("store: strings and times cannot fail: " + err.Error())
	}
	return string(b)
}

func parseMore(text string, p *login.Person) error {
	if text == "" {
		return nil
	}
	var more personMore
	if err := json.Unmarshal([]byte(text), &more); err != nil {
		return fmt.Errorf("%w: what else there is cannot be read: %w", ErrCorrupt, err)
	}
	p.First, p.FullName, p.Mail, p.Company, p.Sponsor, p.Owner, p.Contract =
		more.First, more.FullName, more.Mail, more.Company, more.Sponsor, more.Owner, more.Contract
	return nil
}

// groupReader parses lists of groups. Most people share theirs with many others, so it keeps some of them parsed.
type groupReader map[string][]string

// maxGroupSets bounds what a groupReader keeps.
const maxGroupSets = 4096

func (g groupReader) parse(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	groups, ok := g[text]
	if !ok {
		if err := json.Unmarshal([]byte(text), &groups); err != nil {
			return nil, fmt.Errorf("%w: the list of groups cannot be read: %w", ErrCorrupt, err)
		}
		if len(g) < maxGroupSets {
			g[text] = groups
		}
	}
	return slices.Clone(groups), nil
}

// People calls fn for every person in the order of their names, until fn fails. All rows are of one moment. Each call
// that runs holds one of a few reading connections, so fn must not start another one of the kind for every row.
func (s *Store) People(ctx context.Context, fn func(login.Person) error) error {
	groups := make(groupReader)
	return s.each(ctx, "people", sqlPeople, nil, func(rows *sql.Rows) error {
		p, err := scanPerson(rows, groups)
		if err != nil {
			return err
		}
		return fn(p)
	})
}

// Tokens calls fn for every token, pending and revoked ones too, in the order of their ids, until fn fails. Seeds are
// opened; one that does not open ends the call with an error that names the token. See People for what fn may do.
func (s *Store) Tokens(ctx context.Context, fn func(login.Token) error) error {
	return s.each(ctx, "tokens", sqlTokens, nil, func(rows *sql.Rows) error {
		t, _, err := s.scanToken(rows)
		if err != nil {
			return err
		}
		return fn(t)
	})
}

// Keys calls fn for every SSH key in the order of their fingerprints, until fn fails. See People for what fn may do.
func (s *Store) Keys(ctx context.Context, fn func(login.Key) error) error {
	return s.each(ctx, "keys", sqlKeys, nil, func(rows *sql.Rows) error {
		k, err := scanKey(rows)
		if err != nil {
			return err
		}
		return fn(k)
	})
}

// PersonByName finds a person by the exact name.
func (s *Store) PersonByName(ctx context.Context, name string) (p login.Person, ok bool, err error) {
	err = s.each(ctx, "the person "+strconv.Quote(name), sqlPerson, []any{name}, func(rows *sql.Rows) (err error) {
		p, err = scanPerson(rows, make(groupReader))
		ok = err == nil
		return err
	})
	return p, ok, err
}

// TokensOf returns a person's tokens, pending and revoked ones too, oldest first, with their seeds.
func (s *Store) TokensOf(ctx context.Context, person string) (tokens []login.Token, err error) {
	err = s.each(ctx, "tokens of "+strconv.Quote(person), sqlTokensOf, []any{person}, func(rows *sql.Rows) error {
		t, _, err := s.scanToken(rows)
		if err == nil {
			tokens = append(tokens, t)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

// KeysOf returns a person's SSH keys, oldest first.
func (s *Store) KeysOf(ctx context.Context, person string) (keys []login.Key, err error) {
	err = s.each(ctx, "keys of "+strconv.Quote(person), sqlKeysOf, []any{person}, func(rows *sql.Rows) error {
		k, err := scanKey(rows)
		if err == nil {
			keys = append(keys, k)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// PasswordHash returns a person's password hash; ok is false when none is set or there is no such person.
func (s *Store) PasswordHash(ctx context.Context, person string) (hash string, ok bool, err error) {
	var sealed []byte
	switch err := s.passwordHash.QueryRowContext(ctx, person).Scan(&sealed); {
	case errors.Is(err, sql.ErrNoRows):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("reading the password hash of %q: %w", person, explain(err))
	}
	plain, err := s.sealer.Open(purposePassword, person, sealed)
	if err != nil {
		return "", false, fmt.Errorf("reading the password hash of %q: %w", person, err)
	}
	return string(plain), true, nil
}

// WithPassword tells whose password is set.
func (s *Store) WithPassword(ctx context.Context) (people map[string]bool, err error) {
	people = make(map[string]bool)
	err = s.each(ctx, "whose password is set", sqlWithPassword, nil, func(rows *sql.Rows) error {
		var person string
		err := rows.Scan(&person)
		people[person] = true
		return explain(err)
	})
	return people, err
}

// each calls fn for every row. An error of fn comes back as it is.
func (s *Store) each(ctx context.Context, what, query string, args []any, fn func(*sql.Rows) error) error {
	rows, err := s.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("reading %s: %w", what, explain(err))
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading %s: %w", what, explain(err))
	}
	return nil
}

func scanPerson(rows *sql.Rows, groups groupReader) (p login.Person, err error) {
	var memberOf, more string
	var disabled int64
	var from, until, created sql.NullInt64
	if err := rows.Scan(&p.Name, &p.Kind, &memberOf, &disabled, &from, &until, &created, &more); err != nil {
		return p, fmt.Errorf("reading a person: %w", explain(err))
	}
	p.Disabled = disabled != 0
	p.From, p.Until, p.Created = timeOf(from), timeOf(until), timeOf(created)
	if p.Groups, err = groups.parse(memberOf); err == nil {
		err = parseMore(more, &p)
	}
	if err != nil {
		return p, fmt.Errorf("reading the person %q: %w", p.Name, err)
	}
	return p, nil
}

// scanToken also returns the seed as it is stored, which is used up before the next row.
func (s *Store) scanToken(rows *sql.Rows) (t login.Token, sealed sql.RawBytes, err error) {
	var created, from, until sql.NullInt64
	if err := rows.Scan(&t.ID, &t.Person, &t.Label, &t.Params.Type, &t.Params.Algorithm, &t.Params.Digits,
		&t.Params.Period, &t.State, &created, &t.Serial, &t.Maker, &from, &until, &sealed); err != nil {
		return t, nil, fmt.Errorf("reading a token: %w", explain(err))
	}
	t.Created, t.From, t.Until = timeOf(created), timeOf(from), timeOf(until)
	seed, err := s.sealer.Open(purposeSeed, seedRow(&t), sealed)
	if err != nil {
		return t, nil, fmt.Errorf("reading the seed of token %s of %q: %w (hint: its row was altered, or the key ring is another one)",
			t.ID, t.Person, err)
	}
	t.Seed = nilIfEmpty(seed)
	return t, sealed, nil
}

// boundText is what a key is bound to, as it is stored.
func boundText(b *login.Binding) string {
	if b == nil {
		return ""
	}
	text, _ := json.Marshal(b) // strings and prefixes can always be written
	return string(text)
}

func scanKey(rows *sql.Rows) (k login.Key, err error) {
	var created sql.NullInt64
	var bound string
	if err := rows.Scan(&k.Fingerprint, &k.Person, &k.Type, &k.Blob, &k.Comment, &created, &bound); err != nil {
		return k, fmt.Errorf("reading a key: %w", explain(err))
	}
	if bound != "" {
		k.Bound = new(login.Binding)
		if err := json.Unmarshal([]byte(bound), k.Bound); err != nil {
			return k, fmt.Errorf("what key %s is bound to: %w", k.Fingerprint, err)
		}
	}
	k.Blob, k.Created = nilIfEmpty(k.Blob), timeOf(created)
	return k, nil
}
