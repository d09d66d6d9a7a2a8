package upstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/login"
	"sallyport/radiusd/exchange"
	"sallyport/radiusd/exchange/exchangetest"
	"sallyport/radiusd/wire"
)

// Answers that are not proved are as good as none: the next server is asked, and the reason is told.
func TestUnproved(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer func(f *exchangetest.Fake, r exchangetest.Request) []byte
		want   exchange.Reason
	}{
		{"no Message-Authenticator", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			return f.Unsigned(r, wire.CodeAccessAccept)
		}, exchange.Unsigned},
		{"a wrong Message-Authenticator", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			p := f.Reply(r, wire.CodeAccessAccept)
			p[wire.MessageAuthAt] ^= 1
			return f.Resign(r, p)
		}, exchange.WrongSignature},
		{"a wrong authenticator", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			p := f.Reply(r, wire.CodeAccessAccept)
			p[5] ^= 1
			return p
		}, exchange.WrongAuthenticator},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) { f.Send(r, c.answer(f, r)) })
			err := start(t, []string{f.Addr()}, func(o *Options) { o.Timeout = 200 * ms }).fails(c.name, pap("alice", password), login.ErrUnavailable)
			if !strings.Contains(err.Error(), c.want.String()) {
				t.Errorf("it does not say why: %v", err)
			}
			good := nps(t, judge)
			r := start(t, []string{f.Addr(), good.Addr()}, func(o *Options) { o.Timeout = time.Second })
			r.fails("the second refuses", pap("alice", "wrong"), login.ErrWrong)
			r.passes("the second accepts", pap("alice", password))
		})
	}
	t.Run("insecure", func(t *testing.T) {
		t.Parallel()
		f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) { f.Send(r, f.Unsigned(r, wire.CodeAccessAccept)) })
		start(t, []string{f.Addr()}, func(o *Options) { o.Servers[0].InsecureAcceptUnsigned = true }).passes("it was asked for", pap("alice", password))
	})
}

// A lost request or answer costs no more than a resend.
func TestLost(t *testing.T) {
	t.Parallel()
	f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) {
		if len(requests(f)) < len(f.Got())-1 { // beside Status-Server, something has come twice
			judge(f, r)
		}
	})
	r := start(t, []string{f.Addr()}, func(o *Options) { o.Timeout = 2 * time.Second })
	r.learnt2(f)
	r.passes("the second copy is answered", pap("alice", password))
	if n := len(requests(f)); n != 1 {
		t.Errorf("%d different requests", n)
	}
}

// learnt2 waits until the Status-Server has come to a fake that does not answer it.
func (r *rig) learnt2(f *exchangetest.Fake) {
	r.t.Helper()
	f.Await(1)
}

// P7: a server that hangs costs a bounded time, and a bounded number of checks; the rest hears at once.
func TestHangs(t *testing.T) {
	t.Parallel()
	const atOnce, queue = 3, 5
	f := nps(t, nil)
	r := start(t, []string{f.Addr()}, func(o *Options) { o.AtOnce, o.Queue, o.Timeout = atOnce, queue, 1500*ms })
	began := time.Now()
	ended := make(chan error, 100)
	for i := range cap(ended) {
		go func() {
			q := pap("alice", password)
			q.Origin = []string{"a", "b", "c", "d"}[i%4]
			_, err := r.Check(t.Context(), q)
			ended <- err
		}()
	}
	for i := range cap(ended) {
		err := <-ended
		switch {
		case i < cap(ended)-atOnce-queue:
			if !errors.Is(err, login.ErrOverloaded) || time.Since(began) > time.Second {
				t.Fatalf("check %d ended after %v: %v", i, time.Since(began), err)
			}
		case !errors.Is(err, login.ErrOverloaded) && !errors.Is(err, login.ErrUnavailable):
			t.Errorf("check %d: %v", i, err)
		}
	}
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("all ended after %v", took)
	}
	if r.places.taken != 0 || len(r.places.by) != 0 || len(r.places.under) != 0 {
		t.Errorf("places were lost: %+v", r.places)
	}
	if n := len(requests(f)); n > 2*atOnce {
		t.Errorf("%d requests reached the server", n)
	}
}

// P7: no origin takes all places.
func TestPlaces(t *testing.T) {
	t.Parallel()
	p := newPlaces(1, 5)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	give, err := p.take(ctx, "flood")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	waiting := func(n int) {
		for taken := 0; taken < n; {
			p.mu.Lock()
			taken = p.taken
			p.mu.Unlock()
			time.Sleep(ms)
		}
	}
	for range 2 {
		wg.Go(func() {
			if _, err := p.take(ctx, "flood"); !errors.Is(err, login.ErrOverloaded) || !errors.Is(err, context.Canceled) {
				t.Errorf("who waits for his context: %v", err)
			}
		})
	}
	waiting(3)
	if _, err := p.take(ctx, "flood"); !errors.Is(err, login.ErrOverloaded) {
		t.Errorf("an origin has more than half: %v", err)
	}
	for _, origin := range []string{"alice", "", ""} {
		wg.Go(func() {
			if _, err := p.take(ctx, origin); !errors.Is(err, context.Canceled) {
				t.Errorf("another origin: %v", err)
			}
		})
	}
	waiting(6)
	for _, origin := range []string{"alice", "", "bob"} {
		if _, err := p.take(ctx, origin); !errors.Is(err, login.ErrOverloaded) {
			t.Errorf("more than there are: %v", err)
		}
	}
	cancel()
	wg.Wait()
	give()
	if p.taken != 0 || len(p.by) != 0 {
		t.Errorf("%+v", p)
	}
	if give, err = p.take(t.Context(), "flood"); err != nil {
		t.Fatal(err)
	}
	give()
}

// A server is put aside when it leaves several logins in a row unanswered, and not for one that it does not like among
// others that it answers.
func TestPoison(t *testing.T) {
	t.Parallel()
	f := nps(t, func(f *exchangetest.Fake, r exchangetest.Request) {
		if attribute(r, wire.AttrUserName) != "poison" {
			judge(f, r)
		}
	})
	good := nps(t, judge)
	r := start(t, []string{f.Addr(), good.Addr()}, func(o *Options) { o.Timeout = 300 * ms })
	for range 2 * silentLimit {
		r.passes("poison, by the second", pap("poison", password))
		r.passes("alice", pap("alice", password))
	}
	if got := r.asideNow(); got[0] {
		t.Fatalf("aside: %v", got)
	}
	for i := range silentLimit {
		if r.asideNow()[0] {
			t.Errorf("put aside after %d", i)
		}
		r.passes("poison, by the second", pap("poison", password))
	}
	if got := r.asideNow(); !reflect.DeepEqual(got, []bool{true, false}) {
		t.Errorf("aside: %v", got)
	}
	before := len(requests(f))
	r.passes("by the second", pap("alice", password))
	if len(requests(f)) != before {
		t.Error("a server that is put aside was asked")
	}
}

// switched is a server that can be turned off, and then is silent.
type switched struct {
	mu          sync.Mutex
	off, status bool
}

func (s *switched) set(off bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = off
}

func (s *switched) serve(f *exchangetest.Fake, r exchangetest.Request) {
	s.mu.Lock()
	off, status := s.off, s.status
	s.mu.Unlock()
	switch {
	case off:
	case r.Packet[0] == wire.CodeAccessRequest:
		judge(f, r)
	case status:
		f.Send(r, f.Reply(r, wire.CodeAccessAccept))
	}
}

// tried puts the first server aside by logins that it does not answer.
func (r *rig) tried(want error) {
	r.t.Helper()
	for range silentLimit {
		if _, err := r.check(pap("alice", password)); !errors.Is(err, want) {
			r.t.Fatalf("a login beside a silent server: %v", err)
		}
	}
	if !r.asideNow()[0] {
		r.t.Fatal("a silent server is not put aside")
	}
}

// One that answers Status-Server is asked so until it answers, and by no login.
func TestComesBackByStatusServer(t *testing.T) {
	t.Parallel()
	server := &switched{status: true}
	f := exchangetest.NewFake(t, testSecret, server.serve)
	good := nps(t, judge)
	r := start(t, []string{f.Addr(), good.Addr()}, func(o *Options) { o.Timeout, o.ProbeEvery = 300*ms, 50*ms })
	r.learnt()
	server.set(true)
	r.tried(nil)
	before := len(requests(f))
	asked := len(f.Got())
	r.await("it is asked by Status-Server", func() bool { return len(f.Got()) >= asked+2 })
	r.passes("by the second", pap("alice", password))
	if len(requests(f)) != before {
		t.Error("a login was tried with it")
	}
	server.set(false)
	r.await("it is in use again", func() bool { return !r.asideNow()[0] })
	r.passes("by the first", pap("alice", password))
	if len(requests(f)) != before+1 {
		t.Error("it is not asked first")
	}
	if text := r.log.String(); strings.Count(text, "put aside") != 1 || strings.Count(text, "answers again") != 1 {
		t.Errorf("the log:\n%s", text)
	}
}

// One that never answered Status-Server is tried with a login each ProbeEvery, which the next server answers in time.
func TestComesBackByLogin(t *testing.T) {
	t.Parallel()
	server := new(switched)
	f := exchangetest.NewFake(t, testSecret, server.serve)
	good := nps(t, judge)
	clock := newClock()
	r := start(t, []string{f.Addr(), good.Addr()}, func(o *Options) {
		o.Timeout, o.ProbeEvery, o.Now = 300*ms, 10*time.Minute, clock.now
	})
	server.set(true)
	r.tried(nil)
	before := len(requests(f))
	r.passes("too early", pap("alice", password))
	if len(requests(f)) != before {
		t.Fatal("it was tried too early")
	}
	clock.add(11 * time.Minute)
	r.passes("it is tried in vain", pap("alice", password))
	if len(requests(f)) != before+1 || !r.asideNow()[0] {
		t.Fatalf("%d more requests, aside: %v", len(requests(f))-before, r.asideNow())
	}
	server.set(false)
	r.passes("too early again", pap("alice", password))
	if len(requests(f)) != before+1 {
		t.Fatal("it was tried too early")
	}
	clock.add(11 * time.Minute)
	r.passes("it answers", pap("alice", password))
	if len(requests(f)) != before+2 || r.asideNow()[0] {
		t.Errorf("%d more requests, aside: %v", len(requests(f))-before, r.asideNow())
	}
}

// Where no other is left, one login at a time tries it at once; the others do not wait for that.
func TestComesBackAlone(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := new(switched)
	f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
		if attribute(r, wire.AttrUserName) == "slow" {
			<-release
		}
		server.serve(f, r)
	})
	// The clock stands: nothing that happens below waits for ProbeEvery.
	r := start(t, []string{f.Addr()}, func(o *Options) { o.Timeout, o.Now = 300*ms, newClock().now })
	server.set(true)
	r.tried(login.ErrUnavailable)
	server.set(false)

	r.o.Timeout = patience
	slow := make(chan error, 1)
	before := len(f.Got())
	go func() {
		_, err := r.Check(t.Context(), pap("slow", password))
		slow <- err
	}()
	f.Await(before + 1)
	began := time.Now()
	err := r.fails("beside one that tries", pap("alice", password), login.ErrUnavailable)
	if took := time.Since(began); took > 5*time.Second || !strings.Contains(err.Error(), "just being tried") {
		t.Errorf("after %v: %v", took, err)
	}
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("who tried: %v", err)
	}
	r.passes("it is in use again", pap("alice", password))
}

// A server whose administrator turned Status-Server off while it was put aside is found again by a login, from time to time.
func TestStatusServerTurnedOff(t *testing.T) {
	t.Parallel()
	server := &switched{status: true}
	f := exchangetest.NewFake(t, testSecret, server.serve)
	clock := newClock()
	r := start(t, []string{f.Addr()}, func(o *Options) { o.Timeout, o.ProbeEvery, o.Now = 300*ms, 10*time.Minute, clock.now })
	r.learnt()
	server.set(true)
	r.tried(login.ErrUnavailable)
	server.mu.Lock()
	server.off, server.status = false, false
	server.mu.Unlock()
	r.fails("Status-Server shall tell", pap("alice", password), login.ErrUnavailable)
	clock.add(11 * time.Minute)
	r.passes("a login tells", pap("alice", password))
}

// Who gives up early, or comes late, has learnt nothing about a server.
func TestLearnsNothing(t *testing.T) {
	t.Parallel()
	f := nps(t, nil)
	r := start(t, []string{f.Addr()})
	for range 2 * silentLimit {
		if _, err := r.Check(within(t, 20*ms), pap("alice", password)); !errors.Is(err, login.ErrUnavailable) {
			t.Errorf("err = %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Check(ctx, pap("alice", password)); err == nil {
			t.Error("no error")
		}
	}
	if r.asideNow()[0] {
		t.Error("it is put aside")
	}
}

// Probe says what can be said without a login, and does not flood.
func TestProbe(t *testing.T) {
	t.Parallel()
	t.Run("knows no Status-Server", func(t *testing.T) {
		t.Parallel()
		f := nps(t, judge)
		r := start(t, []string{f.Addr()}, func(o *Options) { o.Timeout = 200 * ms })
		for range 20 {
			if err := r.Probe(t.Context()); err != nil {
				t.Errorf("Probe: %v", err)
			}
		}
		if n := len(f.Got()); n != 1 {
			t.Errorf("%d packets were sent for it", n)
		}
	})
	t.Run("knows it, and is silent now", func(t *testing.T) {
		t.Parallel()
		server := &switched{status: true}
		f := exchangetest.NewFake(t, testSecret, server.serve)
		clock := newClock()
		r := start(t, []string{f.Addr()}, func(o *Options) { o.Timeout, o.Now = 200*ms, clock.now })
		r.learnt()
		if err := r.Probe(t.Context()); err != nil {
			t.Errorf("Probe: %v", err)
		}
		server.set(true)
		clock.add(2 * time.Hour)
		if err := r.Probe(t.Context()); !errors.Is(err, login.ErrUnavailable) || !strings.Contains(err.Error(), f.Addr()) {
			t.Errorf("Probe: %v", err)
		}
		server.set(false)
		if err := r.Probe(t.Context()); err == nil {
			t.Error("Probe: it was asked again too soon")
		}
		clock.add(2 * time.Hour)
		if err := r.Probe(t.Context()); err != nil {
			t.Errorf("Probe: %v", err)
		}
		if n := len(f.Got()); n != 3 {
			t.Errorf("%d packets were sent for it", n)
		}
	})
	t.Run("refuses", func(t *testing.T) {
		t.Parallel()
		f, good := nps(t, judge), nps(t, judge)
		f.Close()
		r := start(t, []string{f.Addr()})
		if err := r.Probe(t.Context()); !errors.Is(err, login.ErrUnavailable) || !strings.Contains(err.Error(), f.Addr()) {
			t.Errorf("Probe: %v", err)
		}
		r = start(t, []string{f.Addr(), good.Addr()}, func(o *Options) { o.Timeout = 200 * ms })
		if err := r.Probe(t.Context()); err != nil {
			t.Errorf("Probe: %v", err)
		}
	})
}

// Close ends what is under way.
func TestClose(t *testing.T) {
	t.Parallel()
	f := nps(t, nil)
	r := start(t, []string{f.Addr(), f.Addr() + "0"}[:1])
	ended := make(chan error, 10)
	for range cap(ended) {
		go func() {
			_, err := r.Check(t.Context(), pap("alice", password))
			ended <- err
		}()
	}
	f.Await(cap(ended) + 1) // and Status-Server
	r.Close()
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, login.ErrUnavailable) {
			t.Errorf("err = %v", err)
		}
	}
	r.fails("after Close", pap("alice", password), login.ErrUnavailable)
}

// Of many logins that cannot be checked, the log tells one in a while, with their number.
func TestComplaints(t *testing.T) {
	t.Parallel()
	f := nps(t, nil)
	f.Close()
	clock := newClock()
	r := start(t, []string{f.Addr()}, func(o *Options) { o.Now = clock.now })
	for range 5 {
		r.fails("nobody is there", pap("alice", password), login.ErrUnavailable)
	}
	clock.add(time.Minute)
	r.fails("nobody is there", pap("alice", password), login.ErrUnavailable)
	text := r.log.String()
	if strings.Count(text, "could not be checked") != 2 || !strings.Contains(text, "count=1 ") || !strings.Contains(text, "count=5 ") || !strings.Contains(text, f.Addr()) {
		t.Errorf("the log:\n%s", text)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	good := func() Options {
		return Options{
			Servers: []Server{{Address: "10.0.0.1:1812"}}, Secret: []byte(testSecret),
			Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}
	}
	for what, spoil := range map[string]func(*Options){
		"no server":           func(o *Options) { o.Servers = nil },
		"many servers":        func(o *Options) { o.Servers = make([]Server, maxServers+1) },
		"no address":          func(o *Options) { o.Servers[0].Address = "" },
		"no port":             func(o *Options) { o.Servers[0].Address = "10.0.0.1" },
		"the same twice":      func(o *Options) { o.Servers = append(o.Servers, Server{Address: "10.0.0.1:1812"}) },
		"no secret":           func(o *Options) { o.Secret = nil },
		"an empty secret":     func(o *Options) { o.Servers[0].Secret = []byte{} },
		"a short timeout":     func(o *Options) { o.Timeout = 1 },
		"a long timeout":      func(o *Options) { o.Timeout = time.Hour },
		"probes without end":  func(o *Options) { o.ProbeEvery = 1 },
		"none at once":        func(o *Options) { o.AtOnce = -1 },
		"too many at once":    func(o *Options) { o.AtOnce = maxAtOnce + 1 },
		"no queue":            func(o *Options) { o.Queue = -1 },
		"a long identifier":   func(o *Options) { o.NASIdentifier = strings.Repeat("x", 254) },
		"no clock":            func(o *Options) { o.Now = nil },
		"no logger":           func(o *Options) { o.Log = nil },
		"the last is invalid": func(o *Options) { o.Servers = append(o.Servers, Server{Address: "x"}) },
	} {
		o := good()
		spoil(&o)
		u, err := New(o)
		if err == nil {
			u.Close()
			t.Errorf("%s: taken", what)
		} else if strings.Contains(err.Error(), testSecret) {
			t.Errorf("%s: the secret is in the error (P9)", what)
		}
	}
	u, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	var first login.FirstFactor = u
	if _, asks := first.(login.Asking); !asks || first.Method() != "radius" || u.o.Timeout != DefaultTimeout {
		t.Errorf("%+v", u.o)
	}
}

// clock is a time that passes when it is told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}
