package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/internal/login"
	"sallyport/internal/seal"
	"sallyport/otp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is a moment that survives the store: whole microseconds, UTC.
func at(sec int64) time.Time { return time.Unix(1_700_000_000+sec, 123456000).UTC() }

func newRing(t testing.TB) *seal.Ring {
	t.Helper()
	ring, err := seal.Create(filepath.Join(t.TempDir(), "ring"), at(0))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// open opens a store that is closed with the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "store.db")
	}
	if o.Sealer == nil {
		o.Sealer = newRing(t)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

// closeStore may be called twice.
func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// apply applies changes one after the other, from where the store stands.
func apply(t testing.TB, s *Store, changes ...login.Change) {
	t.Helper()
	next := applied(t, s)
	for i, c := range changes {
		if err := s.Apply(t.Context(), next+uint64(i), c); err != nil {
			t.Fatal(err)
		}
	}
}

func applied(t testing.TB, s *Store) uint64 {
	t.Helper()
	next, err := s.Applied(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// everything is all that a store holds, as values that can be compared.
type everything struct {
	People    []login.Person
	Tokens    []login.Token
	Keys      []login.Key
	Passwords map[string]string
	Applied   uint64
}

func read(t testing.TB, s *Store) (all everything) {
	t.Helper()
	ctx := t.Context()
	err := errors.Join(
		s.People(ctx, func(p login.Person) error { all.People = append(all.People, p); return nil }),
		s.Tokens(ctx, func(x login.Token) error { all.Tokens = append(all.Tokens, x); return nil }),
		s.Keys(ctx, func(k login.Key) error { all.Keys = append(all.Keys, k); return nil }),
	)
	if err != nil {
		t.Fatal(err)
	}
	all.Passwords = make(map[string]string)
	for _, p := range all.People {
		hash, ok, err := s.PasswordHash(ctx, p.Name)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			all.Passwords[p.Name] = hash
		}
	}
	all.Applied = applied(t, s)
	return all
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func person(name string) *login.Person {
	return &login.Person{Name: name, Kind: login.Staff, Groups: []string{"network"}, Created: at(0)}
}

func token(id, owner string) *login.Token {
	seed := make([]byte, 20)
	_, _ = rand.Read(seed)
	return &login.Token{ID: id, Person: owner, Label: "phone", Params: otp.Default(), State: login.TokenActive, Created: at(1), Seed: seed}
}

const phc = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b"

// sample puts alice with all that a person can have.
func sample() []login.Change {
	return []login.Change{
		{PutPerson: person("alice"), SetPassword: &login.Password{Person: "alice", Hash: phc}},
		{PutToken: token("t1", "alice")},
		{PutToken: token("t2", "alice")},
		{PutKey: &login.Key{Person: "alice", Fingerprint: "SHA256:abc", Type: "ssh-ed25519", Blob: []byte{0, 1, 2, 0xff}, Comment: "laptop", Created: at(2)}},
	}
}

// All fields of all kinds come back as they were, after the file was closed and opened again.
func TestRoundTrip(t *testing.T) {
	path, ring := filepath.Join(t.TempDir(), "dir with ? # % in it", "store.db"), newRing(t)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	hotp := token("t3", "bob")
	hotp.Params = otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA512, Digits: 8}
	hotp.State, hotp.Label, hotp.Created, hotp.Seed = login.TokenPending, "", time.Time{}, nil
	revoked := token("t4", "bob")
	revoked.State = login.TokenRevoked
	odd := &login.Person{
		Name: "bob", Kind: login.BreakGlass, Groups: []string{"a,b", `"q"`, "", "ü\x00\n'; DROP TABLE people;--"},
		Disabled: true, From: at(5), Until: at(6), Created: at(7),
	}
	want := everything{
		People: []login.Person{*person("alice"), *odd, {Name: "carol"}},
		Keys: []login.Key{
			{Person: "bob", Fingerprint: "SHA256:1", Type: "ssh-rsa"},
			{Person: "alice", Fingerprint: "SHA256:2", Type: "ssh-ed25519", Blob: []byte{0, 0xff}, Comment: "k\x00", Created: at(9)},
		},
		Tokens:    []login.Token{*token("t1", "alice"), *hotp, *revoked},
		Passwords: map[string]string{"alice": phc, "bob": ""},
		Applied:   9,
	}

	s := open(t, Options{Path: path, Sealer: ring})
	apply(t, s,
		login.Change{PutPerson: &want.People[2]},
		login.Change{PutPerson: &want.People[0], SetPassword: &login.Password{Person: "alice", Hash: phc}, PutToken: &want.Tokens[0]},
		login.Change{},
		login.Change{PutPerson: odd},
		login.Change{SetPassword: &login.Password{Person: "bob"}},
		login.Change{PutToken: hotp},
		login.Change{PutToken: revoked},
		login.Change{PutKey: &want.Keys[0]},
		login.Change{PutKey: &want.Keys[1]},
	)
	same(t, "at once", read(t, s), want)
	closeStore(t, s)
	s = open(t, Options{Path: path, Sealer: ring})
	same(t, "opened again", read(t, s), want)

	ctx := t.Context()
	p, ok, err := s.PersonByName(ctx, "bob")
	if err != nil || !ok {
		t.Fatalf("PersonByName(bob): %v, %v", ok, err)
	}
	same(t, "PersonByName", p, *odd)
	tokens, err := s.TokensOf(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "TokensOf", tokens, want.Tokens[1:])
	keys, err := s.KeysOf(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "KeysOf", keys, want.Keys[1:])
	for _, stranger := range []string{"", "Alice", "alice ", "alice\x00", "' OR 1=1", strings.Repeat("x", 1<<16)} {
		_, ok, err := s.PersonByName(ctx, stranger)
		_, hash, err2 := s.PasswordHash(ctx, stranger)
		tokens, err3 := s.TokensOf(ctx, stranger)
		keys, err4 := s.KeysOf(ctx, stranger)
		if err := errors.Join(err, err2, err3, err4); err != nil || ok || hash || len(tokens)+len(keys) > 0 {
			t.Errorf("stranger %.20q: found %v, hash %v, %d tokens, %d keys, %v", stranger, ok, hash, len(tokens), len(keys), err)
		}
	}
}

// A second change to the same thing replaces the first, field by field, and leaves the rest alone.
func TestReplace(t *testing.T) {
	s := open(t, Options{})
	apply(t, s, sample()...)
	before := read(t, s)

	gone := &login.Person{Name: "alice", Kind: login.Supplier, Until: at(99)}
	revoked := before.Tokens[0]
	revoked.State, revoked.Label, revoked.Seed = login.TokenRevoked, "lost", nil
	key := before.Keys[0]
	key.Comment = "desk"
	apply(t, s, login.Change{PutPerson: gone, SetPassword: &login.Password{Person: "alice", Hash: "new"}, PutToken: &revoked, PutKey: &key})
	want := before
	want.People, want.Passwords, want.Applied = []login.Person{*gone}, map[string]string{"alice": "new"}, before.Applied+1
	want.Tokens = []login.Token{revoked, before.Tokens[1]}
	want.Keys = []login.Key{key}
	same(t, "after", read(t, s), want)
}

// P2, P8: after a crash the journal offers changes again. What is in is not applied twice, and nothing is left out.
func TestReplay(t *testing.T) {
	path, ring := filepath.Join(t.TempDir(), "store.db"), newRing(t)
	s := open(t, Options{Path: path, Sealer: ring})
	changes := sample()
	apply(t, s, changes...)
	apply(t, s, login.Change{DeleteToken: "t1"})
	want := read(t, s)
	closeStore(t, s)

	s = open(t, Options{Path: path, Sealer: ring})
	ctx := t.Context()
	for i, c := range changes {
		if err := s.Apply(ctx, uint64(i), c); err != nil {
			t.Errorf("replay of %d: %v", i, err)
		}
	}
	same(t, "after the replay", read(t, s), want)
	if err := s.Apply(ctx, 6, login.Change{DeletePerson: "alice"}); !errors.Is(err, ErrGap) {
		t.Errorf("a gap of one: %v, want ErrGap", err)
	}
	if err := s.CatchUp(ctx, 6, 9, nil); !errors.Is(err, ErrGap) {
		t.Errorf("catching up from beyond: %v, want ErrGap", err)
	}
	same(t, "after the gap", read(t, s), want)
	if err := s.Apply(ctx, 5, login.Change{DeletePerson: "alice"}); err != nil {
		t.Error(err)
	}
	if got := read(t, s); got.Applied != 6 || len(got.People) > 0 {
		t.Errorf("after the right number: %+v", got)
	}
}

// CatchUp takes a range of records of which few carry changes; from then on Apply takes numbers with logins between,
// and still refuses what comes out of order.
func TestCatchUp(t *testing.T) {
	ctx := t.Context()
	put := func(seq uint64, name string) Numbered { return Numbered{seq, login.Change{PutPerson: person(name)}} }
	s := open(t, Options{})
	for name, bad := range map[string][]Numbered{
		"below":   {put(1, "x")},
		"above":   {put(10, "x")},
		"twice":   {put(3, "x"), put(3, "y")},
		"swapped": {put(4, "x"), put(3, "y")},
	} {
		if err := s.CatchUp(ctx, 2, 10, bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	steps := []struct {
		what string
		do   func() error
		gap  bool
		next uint64
	}{
		{"strict before catching up", func() error { return s.Apply(ctx, 7, login.Change{}) }, true, 0},
		{"catch up", func() error { return s.CatchUp(ctx, 0, 100, []Numbered{put(3, "a"), put(99, "b")}) }, false, 100},
		{"again", func() error { return s.CatchUp(ctx, 0, 100, []Numbered{put(3, "x"), put(99, "y")}) }, false, 100},
		{"replay of an old one", func() error { return s.Apply(ctx, 3, put(3, "x").Change) }, false, 100},
		{"after some logins", func() error { return s.Apply(ctx, 150, put(150, "c").Change) }, false, 151},
		{"the same again", func() error { return s.Apply(ctx, 150, put(150, "x").Change) }, false, 151},
		{"an older one too late", func() error { return s.Apply(ctx, 149, put(149, "x").Change) }, true, 151},
		{"before a snapshot", func() error { return s.CatchUp(ctx, 0, 200, []Numbered{put(3, "x")}) }, false, 200},
		{"one that the snapshot passed over", func() error { return s.Apply(ctx, 199, put(199, "x").Change) }, true, 200},
		{"the last one again", func() error { return s.Apply(ctx, 150, put(150, "x").Change) }, false, 200},
		{"and on", func() error { return s.Apply(ctx, 200, put(200, "d").Change) }, false, 201},
		{"no such record", func() error { return s.Apply(ctx, 1<<63, login.Change{}) }, false, 201},
	}
	for _, step := range steps {
		err := step.do()
		if errors.Is(err, ErrGap) != step.gap || (err != nil && !step.gap && step.what != "no such record") {
			t.Errorf("%s: %v, want a gap: %v", step.what, err, step.gap)
		}
		if got := applied(t, s); got != step.next {
			t.Errorf("%s: applied up to %d, want %d", step.what, got, step.next)
		}
	}
	var names []string
	for _, p := range read(t, s).People {
		names = append(names, p.Name)
	}
	same(t, "people", names, []string{"a", "b", "c", "d"})
}

// One change is one transaction: when a part of it fails, or its sealer dies, no part and no mark is in.
func TestApplyIsWhole(t *testing.T) {
	s := open(t, Options{})
	apply(t, s, sample()...)
	want := read(t, s)
	// A trigger stands for any failure of the engine in the middle.
	if _, err := s.writer.Exec(`CREATE TRIGGER broken BEFORE DELETE ON people BEGIN SELECT RAISE(ABORT, 'broken'); END`); err != nil {
		t.Fatal(err)
	}
	err := s.Apply(t.Context(), want.Applied, login.Change{
		PutPerson: person("zoe"), SetPassword: &login.Password{Person: "zoe", Hash: "x"}, PutToken: token("t9", "zoe"),
		DeleteToken: "t1", DeletePerson: "alice",
	})
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Fatalf("got %v", err)
	}
	same(t, "after the failure", read(t, s), want)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Apply(ctx, want.Applied, login.Change{PutPerson: person("zoe")}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ended before: %v", err)
	}
	same(t, "after the cancelled call", read(t, s), want)
}

// With a person goes all that hangs on it. What comes later for somebody who is gone is dropped, not an error: an
// error would come back at every start.
func TestDeletePerson(t *testing.T) {
	var log bytes.Buffer
	s := open(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	apply(t, s, sample()...)
	bob := token("tb", "bob")
	apply(t, s, login.Change{PutPerson: person("bob"), PutToken: bob})
	apply(t, s, login.Change{DeletePerson: "alice"})
	want := everything{
		People: []login.Person{*person("bob")}, Tokens: []login.Token{*bob},
		Passwords: map[string]string{}, Applied: 6,
	}
	same(t, "after", read(t, s), want)
	for _, table := range []string{"passwords", "keys"} {
		var n int
		if err := s.reader.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s still holds %d rows (%v)", table, n, err)
		}
	}

	apply(t, s, sample()[1:]...)
	apply(t, s, login.Change{SetPassword: &login.Password{Person: "alice", Hash: phc}})
	apply(t, s, login.Change{DeletePerson: "alice", DeleteToken: "none", DeleteKey: "none"})
	want.Applied = 11
	same(t, "after the late ones", read(t, s), want)
	if n := strings.Count(log.String(), "a change for a person who is gone was dropped"); n != 4 {
		t.Errorf("%d warnings, want 4:\n%s", n, &log)
	}
	if strings.Contains(log.String(), phc) {
		t.Error("the log shows a password hash")
	}
}

func TestDeleteOne(t *testing.T) {
	s := open(t, Options{})
	apply(t, s, sample()...)
	want := read(t, s)
	apply(t, s, login.Change{DeleteToken: "t1"}, login.Change{DeleteKey: "SHA256:abc"})
	want.Tokens, want.Keys, want.Applied = want.Tokens[1:], nil, want.Applied+2
	same(t, "after", read(t, s), want)
}

// Readers beside a writer see whole changes only, and the race detector is content.
func TestConcurrency(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	const rounds = 50
	if err := s.CatchUp(ctx, 0, 0, nil); err != nil {
		t.Fatal(err)
	}
	// Each change moves the person's name for the token and the hash together.
	put := func(i int) login.Change {
		x := token("t1", "alice")
		x.Label = fmt.Sprint(i)
		p := person("alice")
		p.Groups = []string{fmt.Sprint(i)}
		return login.Change{PutPerson: p, PutToken: x, SetPassword: &login.Password{Person: "alice", Hash: fmt.Sprint(i)}}
	}
	if err := s.Apply(ctx, 0, put(0)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				mark, err := s.Applied(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				// What was in when the mark was read is in now, or something newer is.
				err = errors.Join(
					s.People(ctx, func(p login.Person) error { return newer(p.Groups[0], mark) }),
					s.Tokens(ctx, func(x login.Token) error { return newer(x.Label, mark) }),
				)
				hash, ok, err2 := s.PasswordHash(ctx, "alice")
				if err := errors.Join(err, err2, newer(hash, mark)); err != nil || !ok {
					t.Error(ok, err)
					return
				}
			}
		})
	}
	for i := 1; i <= rounds; i++ {
		if err := s.Apply(ctx, uint64(3*i), put(3*i)); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

func newer(text string, mark uint64) error {
	var n uint64
	if _, err := fmt.Sscan(text, &n); err != nil {
		return err
	}
	if n+1 < mark {
		return fmt.Errorf("read the change of record %d when everything below %d was in", n, mark)
	}
	return nil
}

// An error of the callback comes back as it is, and its connection is free again.
func TestCallbackError(t *testing.T) {
	s := open(t, Options{})
	apply(t, s, sample()...)
	stop := errors.New("stop")
	for range 3 * maxReaders {
		n := 0
		err := s.Tokens(t.Context(), func(login.Token) error { n++; return stop })
		if !errors.Is(err, stop) || n != 1 {
			t.Fatalf("got %v after %d rows", err, n)
		}
	}
	read(t, s)
}
