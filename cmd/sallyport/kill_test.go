package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"layeh.com/radius"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
)

// step is a code of a token, as the records name it.
type step struct {
	token string
	value int64
}

// crowd is people who log in over RADIUS as fast as they are answered, and note each acceptance that they saw.
type crowd struct {
	*rig
	people []*person

	mu   sync.Mutex
	seen map[step]bool // guarded by mu: accepted, as a client saw it
}

// work logs in, one code after the other, until ctx ends or the server is gone. A code whose answer was never heard is
// given up: the server may have used it or not.
func (c *crowd) work(ctx context.Context, p *person, n *nas) error {
	for ctx.Err() == nil {
		code := p.code()
		p.mu.Lock()
		s := step{p.token, p.last}
		p.mu.Unlock()
		request, err := n.request(p.name, code, nil)
		if err != nil {
			return err
		}
		answer, err := n.exchange(request, time.Second)
		if errors.Is(err, errSilence) {
			if ctx.Err() == nil && !errors.Is(err, syscall.ECONNREFUSED) {
				continue
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch radius.Code(answer[0]) {
		case radius.CodeAccessAccept:
			c.mu.Lock()
			c.seen[s] = true
			c.mu.Unlock()
		default:
			return fmt.Errorf("%s: a fresh code (counter %d) is answered with %v", p.name, s.value, radius.Code(answer[0]))
		}
	}
	return nil
}

// hire adds people through the daemon, one after the other, until it is gone. It returns those whose adding was
// confirmed, and the one that was not.
func (c *crowd) hire(ctx context.Context, round int) (added []string) {
	caller := admin.NewClient(layout(c.data).socket)
	defer caller.Close()
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("new-%d-%d", round, i)
		var done admin.Done
		in := admin.UserAdd{Name: name, Groups: []string{"network"}, Password: "a password for " + name}
		if err := caller.Call(ctx, "user.add", in, &done); err != nil {
			return added
		}
		added = append(added, name)
	}
	return added
}

// TestKilledAtAnyMoment kills the daemon by SIGKILL, again and again, while people log in and an operator adds others.
// Each time: the folder verifies as it lies; after the restart every acceptance that a client saw is in the records (P3),
// no accepted code is accepted again (P2), and each verb was carried out wholly or not at all.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))

	r := newRig(t, rigOptions{})
	c := &crowd{rig: r, seen: make(map[step]bool)}
	for i := range 6 {
		c.people = append(c.people, r.enrol(fmt.Sprintf("p%d", i), byCount()))
	}
	hired := make(map[string]bool)
	for round, began := 0, time.Now(); round < rounds && time.Since(began) < 45*time.Second; round++ {
		r.start()
		c.replay(dice)
		added := c.storm(round, dice)
		r.check() // as it lies

		r.start()
		c.settled(hired, added)
		if dice.IntN(3) == 0 {
			r.stop() // with a snapshot, from which the next start goes on
		} else {
			r.kill()
		}
		r.check()
	}
	t.Logf("%d acceptances seen, %d people added", len(c.seen), len(hired))
	if len(c.seen) < rounds {
		t.Errorf("only %d acceptances were seen: this has shown nothing", len(c.seen))
	}
}

// storm lets all work at once, and kills the daemon in the middle of it: while it serves, or while it stops.
func (c *crowd) storm(round int, dice *rand.Rand) (added []string) {
	c.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range c.people {
		n := newNAS(c, fromCode, c.daemon.radius)
		wg.Go(func() {
			if err := c.work(ctx, p, n); err != nil {
				c.Error(err)
			}
		})
	}
	wg.Go(func() { added = c.hire(ctx, round) })

	alive := time.Duration(dice.Int64N(int64(400 * time.Millisecond)))
	stopping := dice.IntN(3) == 0
	lasting := time.Duration(dice.Int64N(int64(60 * time.Millisecond)))
	await := time.NewTimer(alive)
	<-await.C
	if stopping {
		if err := c.daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			c.Errorf("SIGTERM: %v", err)
		}
		await.Reset(lasting)
		<-await.C
	}
	cancel()
	c.kill()
	wg.Wait()
	return added
}

// replay tries the newest accepted codes again, at a daemon that has just started. The last of each person is known as
// used; older ones are no codes at all. A fresh code at the end clears the counted failures.
func (c *crowd) replay(dice *rand.Rand) {
	c.Helper()
	n := newNAS(c, fromCode, c.daemon.radius)
	for _, p := range c.people {
		var used []int64
		for s := range c.seen {
			if s.token == p.token {
				used = append(used, s.value)
			}
		}
		slices.Sort(used)
		used = used[max(0, len(used)-5):]
		for _, value := range used {
			if got := n.ask(c, p.name, otp.Code(p.seed, p.params, value), nil); got.Code != radius.CodeAccessReject {
				c.Errorf("%s: the accepted code of counter %d is answered with %v after a restart", p.name, value, got.Code)
			}
		}
		if len(used) > 0 && dice.IntN(2) == 0 {
			if rec := c.last("--person", p.name, "--event", "login"); rec.Reason != string(login.ReasonCodeReused) && rec.Reason != string(login.ReasonCodeWrong) {
				c.Errorf("%s: a replayed code has the reason %s", p.name, rec.Reason)
			}
		}
		code := p.code()
		if got := n.ask(c, p.name, code, nil); got.Code != radius.CodeAccessAccept {
			c.Errorf("%s: a fresh code is answered with %v after a restart", p.name, got.Code)
			continue
		}
		c.seen[step{p.token, p.last}] = true
	}
}

// settled compares what the clients saw with the records, and the people that there are with the records of adding.
func (c *crowd) settled(hired map[string]bool, added []string) {
	c.Helper()
	c.check()
	consumed := make(map[step]bool)
	inLog := make(map[string]bool)
	for _, rec := range c.records() {
		if rec.Event == "user.add" {
			inLog[rec.Person] = true
		}
		if rec.Event == "login" && rec.Result == audit.Accept {
			for _, x := range rec.Effects {
				if s := (step{x.ID, x.Value}); x.Set == "token.step" {
					if consumed[s] {
						c.Errorf("record %d: counter %d of %s is accepted a second time", rec.Seq, s.value, s.token)
					}
					consumed[s] = true
				}
			}
		}
	}
	for s := range c.seen {
		if !consumed[s] {
			c.Errorf("a client saw counter %d of %s accepted, and no record has it", s.value, s.token)
		}
	}

	var list []admin.UserRow
	if err := c.caller().Call(context.Background(), "user.list", admin.Empty{}, &list); err != nil {
		c.Fatal(err)
	}
	there := make(map[string]bool)
	for _, u := range list {
		there[u.Name] = true
		if !inLog[u.Name] {
			c.Errorf("%s is there, and no record says so", u.Name)
		}
		if hired[u.Name] || u.Kind != login.Staff || !u.Created.After(time.Time{}) {
			continue
		}
		var info admin.UserInfo
		if err := c.caller().Call(context.Background(), "user.show", admin.PersonIn{Name: u.Name}, &info); err != nil {
			c.Fatal(err)
		}
		if !info.Password || !slices.Equal(info.Groups, []string{"network"}) {
			c.Errorf("%s is there by half: %+v", u.Name, info)
		}
		hired[u.Name] = true
	}
	for name := range maps.Keys(inLog) {
		if !there[name] {
			c.Errorf("a record says that %s was added, and there is nobody", name)
		}
	}
	for _, name := range added {
		if !there[name] {
			c.Errorf("the adding of %s was confirmed, and there is nobody", name)
		}
	}
}

// TestSecondDaemonIsRefused starts a second daemon, and a command with a folder of its own, on a folder in use.
func TestSecondDaemonIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	first := r.start()
	d, err := r.launch()
	if err == nil {
		d.end()
		t.Fatal("a second daemon served the same folder")
	}
	if want := fmt.Sprint(first.cmd.Process.Pid); !containsAll(err.Error(), want, r.data) {
		t.Errorf("the refusal does not name process %s and the folder: %v", want, err)
	}
	r.daemon = first
	r.ok("status")
	r.stop()
	r.check()
}

// TestKilledSocketIsNoObstacle finds the socket of a killed daemon: commands then do their work by themselves, and the
// next daemon takes its place.
func TestKilledSocketIsNoObstacle(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.start()
	r.kill()
	if conn, err := net.Dial("unix", layout(r.data).socket); err == nil {
		conn.Close()
		t.Fatal("somebody answers at the socket of a killed daemon")
	}
	r.okIn("a good password", "user", "add", "erin", "--password-stdin")
	r.start()
	if rec := r.last("--event", "user.add"); rec.Person != "erin" || rec.Source != "cli" {
		t.Errorf("the record of adding: %s", rec.AppendJSON(nil))
	}
	r.stop()
	r.check()
}
