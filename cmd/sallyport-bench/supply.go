package main

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/otp"
)

// person is somebody who can log in.
type person struct {
	name   string
	seed   []byte
	params otp.Params
	last   int64 // the step or counter of the newest code that was sent; -1 before the first
}

// crowd is the people of one server. It makes the requests of a run, and remembers whose codes were sent, so that no
// run sends a code that was used before.
type crowd struct {
	people []person
	once   bool // a code serves once: the server protects against replay
	secret string
	order  *rand.Rand
}

// newSeeded is a fixed sequence: every run of the bench asks in the same order. Nothing here needs secrecy.
func newSeeded() *rand.Rand { return rand.New(rand.NewPCG(2865, 6238)) }

// inventCrowd makes people with TOTP tokens for a server whose users the bench itself writes down.
func inventCrowd(n int, secret string) *crowd {
	c := &crowd{secret: secret, order: newSeeded()}
	for i := range n {
		seed := make([]byte, 20)
		for j := range seed {
			seed[j] = byte(c.order.Uint32())
		}
		c.people = append(c.people, person{name: fmt.Sprintf("person-%06d", i), seed: seed, params: otp.Default(), last: -1})
	}
	return c
}

// readCrowd reads what `sallyport dev provision` wrote: {"person": ..., "uri": "otpauth://..."}, one a line.
func readCrowd(r io.Reader, secret string) (*crowd, error) {
	c := &crowd{secret: secret, once: true, order: newSeeded()}
	in := json.NewDecoder(r)
	for {
		var line struct{ Person, URI string }
		err := in.Decode(&line)
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return nil, fmt.Errorf("token %d: %w", len(c.people)+1, err)
		}
		p, err := parseURI(line.URI)
		if err != nil {
			return nil, fmt.Errorf("token %d: %w", len(c.people)+1, err)
		}
		if p.name = line.Person; p.name == "" {
			return nil, fmt.Errorf("token %d has no person", len(c.people)+1)
		}
		c.people = append(c.people, p)
	}
}

// parseURI reads the otpauth URI of Google Authenticator's Key URI format.
func parseURI(uri string) (person, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "otpauth" {
		return person{}, errors.New("not an otpauth URI") // the URI holds the seed and isn't shown
	}
	q := u.Query()
	number := func(key string, otherwise int64) int64 {
		if v := q.Get(key); v != "" && err == nil {
			otherwise, err = strconv.ParseInt(v, 10, 64)
		}
		return otherwise
	}
	p := person{last: -1}
	p.params = otp.Params{Type: otp.Type(u.Host), Algorithm: otp.SHA1, Digits: int(number("digits", 6))}
	if a := q.Get("algorithm"); a != "" {
		p.params.Algorithm = otp.Algorithm(strings.ToLower(a))
	}
	if p.params.Type == otp.TypeHOTP {
		p.last = number("counter", 0) - 1
	} else {
		p.params.Period = int(number("period", 30))
	}
	if err != nil {
		return person{}, fmt.Errorf("otpauth URI: %w", err)
	}
	p.seed, err = base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.TrimRight(q.Get("secret"), "=")))
	if err != nil {
		return person{}, errors.New("otpauth URI: the secret isn't base32")
	}
	return p, p.params.Validate()
}

// window is how long a code of the crowd may be sent; 0 means for ever (HOTP).
func (c *crowd) window() time.Duration { return time.Duration(c.people[0].params.Period) * time.Second }

// guard is what must be left of a time step, beside the run itself, when its requests are made: preparing takes time.
const guard = 1500 * time.Millisecond

// need says what a run asks of a crowd.
type need struct {
	lanes int
	want  int           // requests to make, at most
	least int           // people with an unused code that must be there, at least
	lasts time.Duration // how long the run may send
	shape *shape        // how it asks; nil: by PAP
}

// script is the requests of one run for one lane (socket): packets end to end, the id of the k-th being k modulo 256.
type script struct {
	packets []byte
	ends    []uint32 // packet k ends here, and the next begins
	who     []int32  // index of the person
	step    []int64
	sent    int              // how many were sent: the first so many
	success map[int32]string // what some of the answers must have as MS-CHAP2-Success
}

func (s *script) len() int { return len(s.ends) }

func (s *script) packet(k int) []byte {
	begin := uint32(0)
	if k > 0 {
		begin = s.ends[k-1]
	}
	return s.packets[begin:s.ends[k]]
}

// prepare makes the requests of a run. It waits where the crowd's codes call for that: for the next time step when
// too few people have an unused code, or when the codes would expire under way where the server takes only those of
// the present step.
func (c *crowd) prepare(ctx context.Context, n need, now func() time.Time) ([]script, error) {
	if !c.once && n.lasts+guard >= c.window() {
		return nil, fmt.Errorf("runs of %s do not fit into a time step of %s: make them shorter", n.lasts, c.window())
	}
	for {
		step := c.people[0].params.StepAt(now())
		ready, sleep := c.ready(step, n, now())
		if sleep == 0 {
			scripts, err := c.write(ready, step, n)
			if err != nil || c.once || now().Truncate(c.window()).Equal(now().Add(n.lasts).Truncate(c.window())) {
				return scripts, err
			}
			sleep = time.Millisecond // making them took so long that the codes would expire under way
		}
		if err := pause(ctx, sleep); err != nil {
			return nil, err
		}
	}
}

// ready is the people who can log in now, in a random order, or how long to wait before asking again.
func (c *crowd) ready(step int64, n need, now time.Time) (who []int32, sleep time.Duration) {
	period := c.window()
	var left time.Duration
	if period > 0 {
		left = period - now.Sub(now.Truncate(period)) // time steps count from 1970, and so does Truncate in whole days
	}
	if !c.once && left < n.lasts+guard {
		return nil, left + 50*time.Millisecond
	}
	for i := range c.people {
		if period > 0 && c.once && c.people[i].last >= step {
			continue
		}
		who = append(who, int32(i))
	}
	if len(who) < min(n.least, len(c.people)) {
		return nil, left + 50*time.Millisecond
	}
	c.order.Shuffle(len(who), func(i, j int) { who[i], who[j] = who[j], who[i] })
	return who, 0
}

// write makes the packets, lanes side by side. One person's requests are all in one lane, where they stay in order.
func (c *crowd) write(who []int32, step int64, n need) ([]script, error) {
	scripts, errs := make([]script, n.lanes), make([]error, n.lanes)
	var wg sync.WaitGroup
	for lane := range scripts {
		seed := c.order.Uint64()
		wg.Go(func() {
			var mine []int32
			for i := lane; i < len(who); i += n.lanes {
				mine = append(mine, who[i])
			}
			scripts[lane], errs[lane] = c.lane(mine, step, n.shape, (n.want+n.lanes-1)/n.lanes, rand.New(rand.NewPCG(seed, uint64(lane))))
		})
	}
	wg.Wait()
	for i := range scripts {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if scripts[i].len() == 0 {
			return nil, fmt.Errorf("%d people are too few for %d sockets", len(who), n.lanes)
		}
	}
	return scripts, nil
}

func (c *crowd) lane(mine []int32, step int64, how *shape, want int, r *rand.Rand) (script, error) {
	if how == nil {
		how = &papShape
	}
	if c.once && c.window() > 0 && !how.codeless {
		want = min(want, len(mine))
	}
	if len(mine) == 0 {
		return script{}, nil
	}
	const typical = 128 // bytes a packet
	s := script{
		packets: make([]byte, 0, want*typical), ends: make([]uint32, 0, want),
		who: make([]int32, 0, want), step: make([]int64, 0, want), success: map[int32]string{},
	}
	secret := c.secret
	if how.secret != "" {
		secret = how.secret
	}
	sign, name := newSigner(secret), fmt.Sprintf("%012x", r.Uint64()>>16)
	nas := netip.AddrFrom4([4]byte{10, 20, 0, 1})
	for k := range want {
		turn := k
		if how.codeless {
			turn, _ = sessionOf(k)
		}
		i := mine[turn%len(mine)]
		p := &c.people[i]
		rq := request{id: byte(k), user: p.name, nas: nas, port: uint32(k), station: "192.0.2.17", lane: name}
		at := step
		switch {
		case how.codeless:
			at = p.last
		case !c.once && how.fixed:
			rq.code = p.password()
		case p.params.Type == otp.TypeHOTP:
			at = p.last + 1 + int64(turn/len(mine))
			fallthrough
		default:
			rq.code = otp.Code(p.seed, p.params, at)
		}
		for j := 0; j < len(rq.authenticator); j += 8 {
			v := r.Uint64()
			for b := range 8 {
				rq.authenticator[j+b] = byte(v >> (8 * b))
			}
		}
		if err := how.write(sign, &s, k, rq); err != nil {
			return script{}, err
		}
		s.ends = append(s.ends, uint32(len(s.packets)))
		s.who = append(s.who, i)
		s.step = append(s.step, at)
	}
	return s, nil
}

// password is what a server knows that has no one-time codes for a method: fixed, and of the same length.
func (p *person) password() string { return otp.Code(p.seed, p.params, 0) }

// sent notes which codes a run has used.
func (c *crowd) sent(scripts []script) {
	for i := range scripts {
		s := &scripts[i]
		for k := range s.sent {
			p := &c.people[s.who[k]]
			p.last = max(p.last, s.step[k])
		}
	}
}
