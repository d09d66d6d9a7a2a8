package directory

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/login"
)

// Groups past the bound are an error, not some of the groups.
func TestTooManyGroups(t *testing.T) {
	t.Parallel()
	const many = 100_000
	group := func(i int) entry {
		cn := fmt.Sprintf("g%06d", i)
		return entry{"cn=" + cn + "," + fakeBase, map[string][]string{"cn": {cn}}}
	}
	for name, c := range map[string]struct {
		source GroupSource
		search func(c net.Conn, o operation) bool
	}{
		"a server that ignores the limit": {GroupsFilter, func(c net.Conn, o operation) bool {
			if !strings.Contains(o.filter, "member=") {
				return false
			}
			for i := range many {
				if _, err := c.Write(found(o.id, group(i))); err != nil {
					break // nobody listens any more
				}
			}
			return true
		}},
		"a server that keeps to the limit": {GroupsFilter, func(c net.Conn, o operation) bool {
			if !strings.Contains(o.filter, "member=") {
				return false
			}
			for i := range o.limit {
				_, _ = c.Write(found(o.id, group(int(i))))
			}
			_, _ = c.Write(done(o.id, ldap.ApplicationSearchResultDone, ldap.LDAPResultSizeLimitExceeded, ""))
			return true
		}},
		"few at once, without end": {GroupsFilter, func() func(net.Conn, operation) bool {
			var n atomic.Int64
			return func(c net.Conn, o operation) bool {
				if !strings.Contains(o.filter, "member=") {
					return false
				}
				for range 90 {
					_, _ = c.Write(found(o.id, group(int(n.Add(1)))))
				}
				_, _ = c.Write(done(o.id, ldap.ApplicationSearchResultDone, 0, ""))
				return true
			}
		}()},
		"a chain without end": {GroupsFilter, func() func(net.Conn, operation) bool {
			var n atomic.Int64
			return func(c net.Conn, o operation) bool {
				if !strings.Contains(o.filter, "member=") {
					return false
				}
				_, _ = c.Write(found(o.id, group(int(n.Add(1)))))
				_, _ = c.Write(done(o.id, ldap.ApplicationSearchResultDone, 0, ""))
				return true
			}
		}()},
		"memberOf in a range": {GroupsMemberOf, func(c net.Conn, o operation) bool {
			if o.filter != "(uid=alice)" {
				return false
			}
			_, _ = c.Write(found(o.id, fakePerson("alice", map[string][]string{"memberOf": nil, "memberOf;range=0-1499": {"cn=g," + fakeBase}})))
			_, _ = c.Write(done(o.id, ldap.ApplicationSearchResultDone, 0, ""))
			return true
		}},
		"many memberOf": {GroupsMemberOf, func(c net.Conn, o operation) bool {
			if o.filter != "(uid=alice)" {
				return false
			}
			var dns []string
			for i := range 5000 {
				dns = append(dns, group(i).dn)
			}
			_, _ = c.Write(found(o.id, fakePerson("alice", map[string][]string{"memberOf": dns})))
			_, _ = c.Write(done(o.id, ldap.ApplicationSearchResultDone, 0, ""))
			return true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, fakeOptions{search: oneOf(map[string]map[string][]string{"alice": nil}), raw: c.search})
			o := plainOptions(f.url)
			o.Groups = c.source
			d := open(t, o)
			groups, err := d.Groups(t.Context(), "alice")
			wantError(t, err, login.ErrUnavailable, f.url, ErrTooManyGroups.Error(), "hint: narrow the group base")
			if !errors.Is(err, ErrTooManyGroups) {
				t.Errorf("%v is not ErrTooManyGroups", err)
			}
			if groups != nil {
				t.Errorf("%d groups beside the error", len(groups))
			}
			// One person's groups are no reason to put the server aside for everybody.
			wantPass(t, d, "alice", "irgendwas")
		})
	}
	t.Run("one huge entry", func(t *testing.T) {
		t.Parallel()
		f := startFake(t, fakeOptions{search: oneOf(map[string]map[string][]string{"alice": {"memberOf": func() (dns []string) {
			for i := range many {
				dns = append(dns, group(i).dn)
			}
			return dns
		}()}})})
		d := open(t, plainOptions(f.url))
		groups, err := d.Groups(t.Context(), "alice")
		wantError(t, err, login.ErrUnavailable, f.url, errTooLarge.Error())
		if groups != nil {
			t.Errorf("%d groups beside the error", len(groups))
		}
	})
	t.Run("groups that take too long", func(t *testing.T) {
		t.Parallel()
		f := startFake(t, fakeOptions{
			search: oneOf(map[string]map[string][]string{"alice": nil}),
			raw:    func(_ net.Conn, o operation) bool { return strings.Contains(o.filter, "member=") },
		})
		o := plainOptions(f.url)
		o.Timeout = 2 * time.Second
		d := open(t, o)
		_, err := d.Groups(t.Context(), "alice")
		wantError(t, err, login.ErrUnavailable, f.url, "no answer in time")
		wantPass(t, d, "alice", "irgendwas")
	})
}

// What is no LDAP, or too much of it, ends in an error, and takes no memory to speak of.
func TestGarbage(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 64<<10)
	_, _ = rand.Read(noise)
	for name, bytes := range map[string][]byte{
		"noise":               noise,
		"HTTP":                []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
		"huge length":         {0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x02, 0x01, 0x01},
		"longer than any":     {0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"deep":                bytes.Repeat([]byte{0x30, 0x80}, 32<<10),
		"empty message":       {0x30, 0x00},
		"no operation":        {0x30, 0x03, 0x02, 0x01, 0x01},
		"a bind of nothing":   {0x30, 0x05, 0x02, 0x01, 0x01, 0x61, 0x00},
		"code of no type":     {0x30, 0x0c, 0x02, 0x01, 0x01, 0x61, 0x07, 0x04, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00},
		"code beyond 16 bits": {0x30, 0x0f, 0x02, 0x01, 0x01, 0x61, 0x0a, 0x0a, 0x04, 0x00, 0x01, 0x00, 0x00, 0x04, 0x00, 0x04, 0x00},
		"another's answer":    done(77, ldap.ApplicationBindResponse, 0, ""),
		"much of it":          append([]byte{0x30, 0x84, 0x40, 0, 0, 0}, make([]byte, 4<<20)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for when, o := range map[string]fakeOptions{
				"at once": {accepted: func(c net.Conn) bool {
					_, _ = c.Write(bytes)
					_, _ = io.Copy(io.Discard, c)
					return true
				}},
				"as an answer": {raw: func(c net.Conn, o operation) bool {
					_, _ = c.Write(bytes)
					return true
				}},
			} {
				f := startFake(t, o)
				o := plainOptions(f.url)
				o.Timeout = short
				d := open(t, o)
				err := check(t, d, "alice", "irgendwas")
				wantError(t, err, login.ErrUnavailable, f.url)
				if strings.ContainsFunc(err.Error(), unprintable) {
					t.Errorf("%s: the error is not fit for a log: %q", when, err)
				}
				if _, err := d.Groups(t.Context(), "alice"); !errors.Is(err, login.ErrUnavailable) {
					t.Errorf("%s: groups: %v", when, err)
				}
			}
		})
	}
}

// Logins that hang do not pile up: the places are bounded, and so are those that one origin can have of them (P7).
func TestOverload(t *testing.T) {
	t.Parallel()
	f := hangs(t)
	o := plainOptions(f.url)
	o.AtOnce, o.Queue, o.Pool = 2, 4, 1
	d := open(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 6)
	ask := func(origin string) {
		go func() {
			_, err := d.Check(ctx, login.Question{Person: "alice", Name: "alice", Password: login.NewSecret("irgendwas"), Origin: origin})
			ended <- err
		}()
	}
	taken := func(want int) func() bool {
		return func() bool {
			d.places.mu.Lock()
			defer d.places.mu.Unlock()
			return d.places.taken == want
		}
	}
	refused := func(origin string) {
		t.Helper()
		_, err := d.Check(ctx, login.Question{Person: "alice", Name: "alice", Password: login.NewSecret("irgendwas"), Origin: origin})
		wantError(t, err, login.ErrOverloaded)
	}
	for range 3 {
		ask("flood")
	}
	await(t, "the flood takes its places", taken(3))
	refused("flood") // its share is full
	for range 3 {
		ask("other")
	}
	await(t, "the others take theirs", taken(6))
	refused("third") // everything is full
	if _, err := d.Groups(ctx, "alice"); !errors.Is(err, login.ErrOverloaded) {
		t.Errorf("groups: %v", err)
	}
	await(t, "two are under way", func() bool { return f.connections() == 2 })
	cancel()
	for range 6 {
		if err := <-ended; !errors.Is(err, login.ErrOverloaded) && !errors.Is(err, login.ErrUnavailable) {
			t.Errorf("ended with %v", err)
		}
	}
	if !taken(0)() || len(d.places.by) != 0 {
		t.Errorf("places left taken: %d, %v", d.places.taken, d.places.by)
	}
	// Who gave up has learnt nothing about the server: it is not put aside.
	if s := d.servers[0]; s.aside != nil {
		t.Errorf("put aside: %v", s.aside)
	}
}

// Close ends what hangs, and nothing can be begun after it.
func TestClose(t *testing.T) {
	t.Parallel()
	f := hangs(t)
	d := open(t, plainOptions(f.url))
	ended := make(chan error, 1)
	go func() {
		_, err := d.Check(context.WithoutCancel(t.Context()), login.Question{Person: "alice", Name: "alice", Password: login.NewSecret("irgendwas")})
		ended <- err
	}()
	await(t, "the login hangs", func() bool { return f.connections() == 1 })
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	wantError(t, <-ended, login.ErrUnavailable, f.url)
	wantError(t, check(t, d, "alice", "irgendwas"), login.ErrUnavailable, "closed")
	_, err := d.Groups(t.Context(), "alice")
	wantError(t, err, login.ErrUnavailable, "closed")
	wantError(t, d.Probe(t.Context()), login.ErrUnavailable, "closed")
}
