package upstream

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/internal/login"
	"sallyport/radiusd/exchange/exchangetest"
	"sallyport/radiusd/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSecret = "xyzzy5461-xyzzy5461-xyzz"
	password   = "open sesame"
	// patience is how long a test waits for what must come.
	patience = 30 * time.Second
	ms       = time.Millisecond
)

// lines is a log that a test can read.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// rig is an Upstream of a test, with what it logs.
type rig struct {
	*Upstream
	t   testing.TB
	log *lines
}

// start makes an Upstream of servers at these addresses, which all have testSecret unless set says otherwise. What is logged
// must not hold secrets (P9).
func start(t testing.TB, addresses []string, set ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, log: new(lines)}
	o := Options{
		Secret: []byte(testSecret), Timeout: patience, ProbeEvery: time.Hour, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	for _, a := range addresses {
		o.Servers = append(o.Servers, Server{Address: a})
	}
	for _, f := range set {
		f(&o)
	}
	u, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Upstream = u
	t.Cleanup(func() {
		u.Close()
		for _, secret := range []string{testSecret, password} {
			if strings.Contains(r.log.String(), secret) {
				t.Errorf("a secret is in the log (P9):\n%s", r.log)
			}
		}
	})
	return r
}

// await waits until f is true. What it looks at has no channel to wait on.
func (r *rig) await(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(ms) {
		if time.Now().After(end) {
			r.t.Fatalf("in vain: %s", what)
		}
	}
}

// asideNow tells which servers are put aside.
func (r *rig) asideNow() []bool {
	var all []bool
	for _, s := range r.Standings() {
		all = append(all, s.Aside != nil)
	}
	return all
}

// learnt waits until the first Status-Server of each server has been answered, or not.
func (r *rig) learnt() {
	r.t.Helper()
	r.await("the watchers' first question", func() bool {
		for _, s := range r.servers {
			s.mu.Lock()
			done := !s.statusAt.IsZero()
			s.mu.Unlock()
			if !done {
				return false
			}
		}
		return true
	})
}

func pap(name, typed string) login.Question {
	return login.Question{Person: strings.ToLower(name), Name: name, Password: login.NewSecret(typed), Origin: "test"}
}

// check is a Check whose error shows no secret (P9), and is one of login's.
func (r *rig) check(q login.Question) (login.Answer, error) {
	r.t.Helper()
	a, err := r.Check(r.t.Context(), q)
	if err == nil {
		return a, nil
	}
	for _, secret := range []string{testSecret, password} {
		if strings.Contains(err.Error(), secret) {
			r.t.Errorf("a secret is in the error (P9): %v", err)
		}
	}
	if !errors.Is(err, login.ErrWrong) && !errors.Is(err, login.ErrOverloaded) && !errors.Is(err, login.ErrUnavailable) {
		r.t.Errorf("an error that is none of login's: %v", err)
	}
	if a.Extra != nil || a.More != nil {
		r.t.Errorf("an answer beside an error: %+v, %v", a, err)
	}
	return a, err
}

// passes wants a Check to succeed.
func (r *rig) passes(what string, q login.Question) login.Answer {
	r.t.Helper()
	a, err := r.check(q)
	if err != nil || a.More != nil {
		r.t.Errorf("%s: %+v, %v", what, a, err)
	}
	return a
}

// fails wants a Check to end with an error of that kind, which it returns.
func (r *rig) fails(what string, q login.Question, want error) error {
	r.t.Helper()
	a, err := r.check(q)
	if !errors.Is(err, want) {
		r.t.Errorf("%s: %+v, %v: want %v", what, a, err, want)
	}
	return err
}

// further wants a Check to end with a further question.
func (r *rig) further(what string, q login.Question) *login.More {
	r.t.Helper()
	a, err := r.check(q)
	if err != nil || a.More == nil {
		r.t.Fatalf("%s: %+v, %v: want a further question", what, a, err)
	}
	if len(a.More.State) > login.MaxMore {
		r.t.Fatalf("%s: a state of %d bytes", what, len(a.More.State))
	}
	return a.More
}

// extraOf is the Answer's Extra, which must be there.
func extraOf(t testing.TB, a login.Answer) *wire.Extra {
	t.Helper()
	extra, ok := a.Extra.(*wire.Extra)
	if !ok {
		t.Fatalf("the Extra is a %T", a.Extra)
	}
	return extra
}

// nps is a fake that knows no Status-Server, and does as its test says with the rest.
func nps(t testing.TB, handle func(*exchangetest.Fake, exchangetest.Request)) *exchangetest.Fake {
	return exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
		if !f.Verify(r) {
			t.Errorf("a request that is not signed, or not first of all: %x", r.Packet)
		}
		if r.Packet[0] == wire.CodeAccessRequest && handle != nil {
			handle(f, r)
		}
	})
}

// judge accepts password and nothing else.
func judge(f *exchangetest.Fake, r exchangetest.Request) {
	if f.Password(r) == password {
		f.Send(r, f.Reply(r, wire.CodeAccessAccept))
		return
	}
	f.Send(r, f.Reply(r, wire.CodeAccessReject))
}

// requests are the Access-Requests that came, each once.
func requests(f *exchangetest.Fake) []exchangetest.Request {
	var all []exchangetest.Request
	seen := make(map[string]bool)
	for _, r := range f.Got() {
		if r.Packet[0] == wire.CodeAccessRequest && !seen[string(r.Packet)] {
			seen[string(r.Packet)] = true
			all = append(all, r)
		}
	}
	return all
}

// within is a context that ends.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// attribute finds a standard attribute of a request.
func attribute(r exchangetest.Request, t byte) string {
	var found string
	wire.Each(r.Packet, func(one byte, value []byte) bool {
		if one == t {
			found = string(value)
			return false
		}
		return true
	})
	return found
}
