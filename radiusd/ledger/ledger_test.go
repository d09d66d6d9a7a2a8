package ledger

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// TestAdvise is the table of what follows from what was seen.
func TestAdvise(t *testing.T) {
	lenient, locked := Setting{}, Setting{RequireMessageAuthenticator: true}
	signed := func(n uint64, since time.Duration) Counts {
		return Counts{LastSeen: noon, Requests: n, WithMessageAuthenticator: n, SignedRun: n, SignedSince: noon.Add(-since), LastProxyState: noon}
	}
	with := func(c Counts, change func(*Counts)) Counts { change(&c); return c }
	for _, c := range []struct {
		name    string
		setting Setting
		total   Counts
		recent  *Counts // nil: the total
		want    []string
	}{
		{"nothing came", lenient, Counts{}, nil, []string{NeverSeen}},
		{"enough signed requests for long enough", lenient, signed(100, 7*day), nil, []string{CanBeLocked}},
		{"too few", lenient, signed(99, 30*day), nil, nil},
		{"not for long enough", lenient, signed(1000, 7*day-time.Second), nil, nil},
		{"it is locked already", locked, signed(1000, 30*day), nil, nil},
		{"TLS needs no lock", Setting{OverTLS: true}, signed(1000, 30*day), nil, nil},
		{"one without, yesterday", lenient, with(signed(1000, 30*day), func(c *Counts) {
			c.LastWithoutMessageAuthenticator, c.WithoutMessageAuthenticator = noon.Add(-day), 1
			c.SignedRun, c.SignedSince = 100, noon.Add(-day)
		}), nil, []string{NeedsUpdate}},
		{"updated two weeks ago", lenient, with(signed(1000, 14*day), func(c *Counts) {
			c.LastWithoutMessageAuthenticator, c.WithoutMessageAuthenticator = noon.Add(-14*day), 5000
		}), nil, []string{CanBeLocked}},
		{"unsigned ones are dropped", locked, Counts{LastWithoutMessageAuthenticator: noon, WithoutMessageAuthenticator: 9, Drops: map[string]uint64{DropUnsigned: 9}}, nil, []string{NeedsUpdate}},
		{"unsigned, and then silent for a year", locked, Counts{LastSeen: noon.Add(-365 * day), LastWithoutMessageAuthenticator: noon.Add(-365 * day), WithoutMessageAuthenticator: 9}, new(Counts), []string{NeedsUpdate}},
		{"another secret", locked, Counts{Drops: map[string]uint64{DropForged: 3}}, nil, []string{WrongSecret}},
		{"a forgery among good ones", locked, with(signed(10, day), func(c *Counts) { c.Drops = map[string]uint64{DropForged: 3} }), nil, nil},
		{"another secret since it was changed", locked, signed(1000, 30*day), &Counts{Drops: map[string]uint64{DropForged: 40}}, []string{WrongSecret}},
		{"many resends", locked, with(signed(200, day), func(c *Counts) { c.Resends = 10 }), nil, []string{Flaps}},
		{"few resends", locked, with(signed(200, day), func(c *Counts) { c.Resends = 9 }), nil, nil},
		{"few of very many", locked, with(signed(1001, day), func(c *Counts) { c.Resends = 50 }), nil, nil},
		{"resends long ago", locked, with(signed(200, 30*day), func(c *Counts) { c.Resends = 100 }), &Counts{Requests: 50}, nil},
		{"duplicates and answers that came too late", locked, with(signed(50, day), func(c *Counts) {
			c.Drops = map[string]uint64{DropInFlight: 6, DropSuperseded: 4}
		}), nil, []string{Flaps}},
		{"no Proxy-State, never signed", lenient, Counts{LastSeen: noon, Requests: 100, WithoutMessageAuthenticator: 100, LastWithoutMessageAuthenticator: noon}, nil, []string{NeedsUpdate, CanBeLimits}},
		{"no Proxy-State, limited already", Setting{LimitProxyState: true}, Counts{LastSeen: noon, Requests: 100, WithoutMessageAuthenticator: 100, LastWithoutMessageAuthenticator: noon}, nil, []string{NeedsUpdate}},
		{"Proxy-State this week", lenient, Counts{LastSeen: noon, Requests: 100, LastProxyState: noon.Add(-6 * day), LastWithoutMessageAuthenticator: noon}, nil, []string{NeedsUpdate}},
		{"no Proxy-State since it was taken out", lenient, Counts{LastSeen: noon, Requests: 100, LastProxyState: noon.Add(-8 * day), LastWithoutMessageAuthenticator: noon}, nil, []string{NeedsUpdate, CanBeLimits}},
	} {
		t.Run(c.name, func(t *testing.T) {
			recent := c.total
			if c.recent != nil {
				recent = *c.recent
			}
			h := History{Since: noon.Add(-60 * day), Total: c.total, Days: []Day{{Date: "2026-06-30", Counts: recent}}}
			var words []string
			for _, a := range Advise(c.setting, &h, noon) {
				words = append(words, a.Word)
				if a.Text == "" {
					t.Errorf("%s has no text", a.Word)
				}
			}
			if strings.Join(words, "; ") != strings.Join(c.want, "; ") {
				t.Errorf("advice %q, want %q", words, c.want)
			}
		})
	}
}

// book is a Book whose clock a test sets.
type book struct {
	*Book
	t    *testing.T
	path string
	now  time.Time
	said bytes.Buffer
}

func newBook(t *testing.T) *book {
	b := &book{t: t, path: filepath.Join(t.TempDir(), "clients.json"), now: noon}
	b.reopen()
	return b
}

func (b *book) reopen() {
	b.said.Reset()
	b.Book = Open(b.path, func() time.Time { return b.now }, slog.New(slog.NewTextHandler(&b.said, nil)))
}

func (b *book) of(name string) History {
	b.t.Helper()
	h, ok := b.Of(name)
	if !ok {
		b.t.Fatalf("%s is not known", name)
	}
	return h
}

// Counts go on over restarts, and a server that begins at zero takes nothing away.
func TestBookOverRestarts(t *testing.T) {
	b := newBook(t)
	b.Take(map[string]Counts{"vpn": {}})
	b.Take(map[string]Counts{"vpn": {Requests: 10, WithMessageAuthenticator: 10, SignedRun: 10, SignedSince: noon, Drops: map[string]uint64{"x": 1}, Slowest: 5}})
	b.Take(map[string]Counts{"vpn": {Requests: 12, WithMessageAuthenticator: 12, SignedRun: 12, SignedSince: noon, Drops: map[string]uint64{"x": 1, "y": 2}, Slowest: 5}})
	b.Save()
	b.now = noon.Add(3 * day)
	b.reopen()
	b.Take(map[string]Counts{"vpn": {Requests: 5, WithMessageAuthenticator: 5, SignedRun: 5, SignedSince: b.now, Drops: map[string]uint64{"y": 1}, LastSeen: b.now}})
	h := b.of("vpn")
	if !h.Since.Equal(noon) || h.Total.Requests != 17 || h.Total.SignedRun != 17 || !h.Total.SignedSince.Equal(noon) ||
		h.Total.Drops["x"] != 1 || h.Total.Drops["y"] != 3 || h.Total.Slowest != 5 || !h.Total.LastSeen.Equal(b.now) {
		t.Errorf("%+v", h)
	}
	if len(h.Days) != 2 || h.Days[0].Requests != 12 || h.Days[1].Requests != 5 || h.Days[1].Slowest != 0 {
		t.Errorf("days %+v", h.Days)
	}
	// One request without ends the run, over a restart too.
	b.Take(map[string]Counts{"vpn": {Requests: 8, WithMessageAuthenticator: 7, SignedRun: 1, SignedSince: b.now, Drops: map[string]uint64{"y": 1}, WithoutMessageAuthenticator: 1, LastWithoutMessageAuthenticator: b.now}})
	if h = b.of("vpn"); h.Total.SignedRun != 1 || !h.Total.SignedSince.Equal(b.now) || h.Total.WithMessageAuthenticator != 19 {
		t.Errorf("%+v", h.Total)
	}
	// A client that was taken out and comes back begins at zero, also with more than before.
	b.Take(map[string]Counts{})
	b.Take(map[string]Counts{"vpn": {Requests: 100}})
	if h = b.of("vpn"); h.Total.Requests != 120 {
		t.Errorf("%d requests", h.Total.Requests)
	}
	// Only the last days are kept one by one.
	for i := range 20 {
		b.now = b.now.Add(day)
		b.Take(map[string]Counts{"vpn": {Requests: 101 + uint64(i)}})
	}
	if h = b.of("vpn"); len(h.Days) != recentDays || h.Recent(b.now).Requests != recentDays || h.Total.Requests != 140 {
		t.Errorf("%d days, %d recent, %d in all", len(h.Days), h.Recent(b.now).Requests, h.Total.Requests)
	}
	// Who is not configured is forgotten in the end.
	b.now = b.now.Add(forgetAfter + day)
	b.Take(map[string]Counts{"other": {}})
	if _, ok := b.Of("vpn"); ok {
		t.Error("a client that left is still known")
	}
}

// A crash loses what came since the last writing, which is at most an interval ago.
func TestBookCrash(t *testing.T) {
	b := newBook(t)
	b.Take(map[string]Counts{"vpn": {Requests: 1}})
	b.now = b.now.Add(saveEvery)
	b.SaveWhenDue()
	b.Take(map[string]Counts{"vpn": {Requests: 2}})
	b.now = b.now.Add(saveEvery - time.Second)
	b.SaveWhenDue()
	if h, err := Read(b.path); err != nil || h["vpn"].Total.Requests != 1 {
		t.Errorf("%v %+v", err, h)
	}
	b.now = b.now.Add(time.Second)
	b.SaveWhenDue()
	b.reopen() // nothing was closed
	if h := b.of("vpn"); h.Total.Requests != 2 {
		t.Errorf("%+v", h)
	}
	if info, err := os.Stat(b.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", err, info)
	}
}

// What is damaged is said, kept aside, and counted anew.
func TestBookDamaged(t *testing.T) {
	b := newBook(t)
	b.Take(map[string]Counts{"vpn": {Requests: 1}})
	b.Save()
	good, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)/2], "another version": bytes.Replace(good, []byte(`"version":1`), []byte(`"version":2`), 1),
		"junk": []byte("\x00\xff"), "no history": []byte(`{"version":1,"clients":{"vpn":null}}`),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(b.path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			b.reopen()
			if !strings.Contains(b.said.String(), "cannot be read") {
				t.Errorf("said %q", b.said.String())
			}
			if _, ok := b.Of("vpn"); ok {
				t.Error("something was read")
			}
			if aside, err := os.ReadFile(b.path + damagedSuffix); err != nil || !bytes.Equal(aside, raw) {
				t.Errorf("kept aside: %v %q", err, aside)
			}
			b.Take(map[string]Counts{"vpn": {Requests: 1}})
			b.Save()
			if h, err := Read(b.path); err != nil || h["vpn"].Total.Requests != 1 {
				t.Errorf("%v %+v", err, h)
			}
		})
	}
	// A disk that takes nothing is said once.
	b.reopen()
	if err := os.RemoveAll(filepath.Dir(b.path)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		b.Take(map[string]Counts{"vpn": {Requests: 10 + uint64(i)}})
		b.Save()
	}
	if n := strings.Count(b.said.String(), "cannot be kept"); n != 1 {
		t.Errorf("said %d times:\n%s", n, b.said.String())
	}
}
