package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport/radiusd/exchange/exchangetest"
	"sallyport/radiusd/wire"
)

const millisecond = time.Millisecond

// A request whose answer is lost goes out again, the very same bytes of it from the same port, at growing intervals
// (RFC 5080 section 2.2.1).
func TestLost(t *testing.T) {
	t.Parallel()
	for _, code := range []byte{wire.CodeAccessRequest, wire.CodeAccountingRequest, wire.CodeDisconnectRequest, wire.CodeCoARequest} {
		answered := map[byte]byte{
			wire.CodeAccessRequest: wire.CodeAccessReject, wire.CodeAccountingRequest: wire.CodeAccountingResponse,
			wire.CodeDisconnectRequest: wire.CodeDisconnectNAK, wire.CodeCoARequest: wire.CodeCoAACK,
		}[code]
		for _, which := range []int{2, 3} {
			t.Run(fmt.Sprintf("code %d, the answer to copy %d", code, which), func(t *testing.T) {
				t.Parallel()
				var arrived []time.Time // the fake's goroutine writes it before it answers
				f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
					arrived = append(arrived, time.Now())
					if r.Number == which {
						f.Send(r, f.Reply(r, answered))
					}
				})
				c := dial(t, f.Addr(), func(o *Options) {
					o.InitialRetransmit, o.MaxRetransmit = 50*millisecond, time.Second
				})
				q := Request{Code: code, Attributes: []wire.Attribute{{Type: wire.AttrUserName, Value: []byte("alice")}}}
				began := time.Now()
				answer := must(t, c, q, answered)
				got := f.Await(which)
				if answer.Sent < which || c.Stats().Retransmits != uint64(answer.Sent-1) || c.Stats().Sent != 1 {
					t.Errorf("sent %d times, %+v", answer.Sent, c.Stats())
				}
				for i, r := range got {
					if !bytes.Equal(r.Packet, got[0].Packet) || r.From != got[0].From {
						t.Errorf("copy %d is another packet, or from another port", i+1)
					}
				}
				if !f.Verify(got[0]) {
					t.Error("the request is not signed, or not first of all")
				}
				// The timer's own lateness only makes the intervals longer, as seen from the beginning.
				if second := arrived[1].Sub(began); second < 45*millisecond {
					t.Errorf("sent again after %v", second)
				}
				if which > 2 && arrived[2].Sub(began) < 45*millisecond+85*millisecond {
					t.Errorf("sent a third time after %v", arrived[2].Sub(began))
				}
				if c.Stats().RoundTrip != 0 {
					t.Error("a round trip was measured, and nobody knows which copy was answered")
				}
			})
		}
	}
}

// The schedule is RFC 5080's: doubled each time up to MRT, and never without its tenth of chance.
func TestSchedule(t *testing.T) {
	t.Parallel()
	firsts := make(map[time.Duration]bool)
	for range 2000 {
		s := schedule{initial: 2 * time.Second, most: 16 * time.Second}
		low, high := 1800*millisecond, 2200*millisecond
		for i := range 8 {
			d := s.next()
			if i == 0 {
				firsts[d] = true
			}
			if d < low || d > high {
				t.Fatalf("wait %d is %v: want %v to %v", i, d, low, high)
			}
			low, high = d*19/10, d*21/10
			if high > 16*time.Second {
				high = 17600 * millisecond
				low = min(low, 14400*millisecond)
			}
		}
		if s.last < 14400*millisecond {
			t.Fatalf("in the end it waits %v", s.last)
		}
	}
	if len(firsts) < 1000 {
		t.Errorf("2000 first waits have only %d values", len(firsts))
	}
}

// Only the first answer counts; what comes again is counted, and disturbs nobody.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
		answer := f.Reply(r, wire.CodeAccessAccept)
		f.Send(r, answer)
		f.Send(r, answer)
	})
	c := dial(t, f.Addr(), once)
	for i := range uint64(5) {
		must(t, c, ask("alice", "x"), wire.CodeAccessAccept)
		// The duplicates before this answer came before it.
		if st := c.Stats(); st.Discarded[Unexpected] < i || st.Answers != i+1 {
			t.Fatalf("after %d: %+v", i+1, st)
		}
	}
	if st := c.Stats(); st.Sent != 5 || st.Waiting != 0 || st.Sockets != 1 || st.RoundTrip <= 0 {
		t.Errorf("%+v", st)
	}
}

// forgery is what a fake sends before the right answer.
type forgery struct {
	name string
	make func(f *exchangetest.Fake, r exchangetest.Request) []byte
	want Reason
}

func forgeries(t testing.TB) []forgery {
	stranger := exchangetest.NewFake(t, "another secret", nil)
	hello := func(w *wire.Writer) { w.AddText(wire.AttrReplyMessage, "hello") }
	return []forgery{
		{"another secret", func(_ *exchangetest.Fake, r exchangetest.Request) []byte {
			return stranger.Reply(r, wire.CodeAccessAccept)
		}, WrongAuthenticator},
		{"one bit of the authenticator", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			p := f.Reply(r, wire.CodeAccessAccept)
			p[7] ^= 1
			return p
		}, WrongAuthenticator},
		{"a refusal made an acceptance", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			p := f.Reply(r, wire.CodeAccessReject)
			p[0] = wire.CodeAccessAccept
			return p
		}, WrongAuthenticator},
		{"an attribute behind", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			p := append(f.Reply(r, wire.CodeAccessAccept), wire.AttrClass, 3, 'x')
			p[3] += 3
			return p
		}, WrongAuthenticator},
		{"wrong Message-Authenticator", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			p := f.Reply(r, wire.CodeAccessAccept, hello)
			p[wire.MessageAuthAt+3] ^= 1
			return f.Resign(r, p)
		}, WrongSignature},
		{"no Message-Authenticator", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			return f.Unsigned(r, wire.CodeAccessAccept)
		}, Unsigned},
		{"wrong identifier", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			r.Packet = bytes.Clone(r.Packet)
			r.Packet[1]++
			return f.Reply(r, wire.CodeAccessAccept)
		}, Unexpected},
		{"a code that answers something else", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			return f.Reply(r, wire.CodeAccountingResponse)
		}, WrongCode},
		{"the request itself", func(_ *exchangetest.Fake, r exchangetest.Request) []byte { return r.Packet }, WrongCode},
		{"nothing", func(*exchangetest.Fake, exchangetest.Request) []byte { return []byte{} }, Malformed},
		{"a header's part", func(_ *exchangetest.Fake, r exchangetest.Request) []byte { return r.Packet[:19] }, Malformed},
		{"cut short", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			p := f.Reply(r, wire.CodeAccessAccept, hello)
			return p[:len(p)-1]
		}, Malformed},
		{"attributes that do not fit", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			p := f.Reply(r, wire.CodeAccessAccept, hello)
			p[wire.MessageAuthAt+17]++
			return f.Resign(r, p)
		}, Malformed},
		{"Message-Authenticator twice", func(f *exchangetest.Fake, r exchangetest.Request) []byte {
			return f.Reply(r, wire.CodeAccessAccept, func(w *wire.Writer) { w.Add(wire.AttrMessageAuth, make([]byte, 16)) })
		}, Malformed},
	}
}

// What is wrong is as if it had not come: the right answer behind it is taken, the clock is not touched, and it is counted by
// its reason.
func TestForgeries(t *testing.T) {
	t.Parallel()
	for _, forged := range forgeries(t) {
		t.Run(forged.name, func(t *testing.T) {
			t.Parallel()
			f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
				f.Send(r, forged.make(f, r))
				if r.Number == 2 {
					f.Send(r, f.Reply(r, wire.CodeAccessReject))
				}
			})
			c := dial(t, f.Addr(), func(o *Options) { o.InitialRetransmit, o.MaxRetransmit = 40*millisecond, time.Hour })
			began := time.Now()
			answer := must(t, c, ask("alice", "x"), wire.CodeAccessReject)
			if took := time.Since(began); answer.Sent < 2 || took < 36*millisecond {
				t.Errorf("sent %d times in %v: what is wrong has hurried it", answer.Sent, took)
			}
			want := map[Reason]uint64{Malformed: 0, Unexpected: 0, WrongCode: 0, WrongAuthenticator: 0, Unsigned: 0, WrongSignature: 0}
			want[forged.want] = 2
			st := c.Stats()
			for why, n := range want {
				if st.Discarded[why] != n {
					t.Errorf("%v was counted %d times, want %d", why, st.Discarded[why], n)
				}
			}
		})
	}
}

// Where nothing but wrong answers come, the error names what was wrong with them.
func TestForgeriesAlone(t *testing.T) {
	t.Parallel()
	for _, forged := range forgeries(t) {
		if forged.want == Unexpected || forged.want == Malformed && forged.name != "attributes that do not fit" {
			continue // nobody knows to whom it belongs
		}
		t.Run(forged.name, func(t *testing.T) {
			t.Parallel()
			f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
				f.Send(r, forged.make(f, r))
			})
			_, err := dial(t, f.Addr()).Exchange(within(t, 200*millisecond), ask("alice", "open sesame"))
			none := new(NoAnswerError)
			if !errors.As(err, &none) || none.Discarded[forged.want] == 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("err = %v", err)
			}
			if text := err.Error(); !strings.Contains(text, forged.want.String()) || !strings.Contains(text, forged.want.hint()) {
				t.Errorf("it says %q", text)
			}
			if strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), "open sesame") {
				t.Errorf("a secret is in the error (P9): %v", err)
			}
		})
	}
}

// A right answer from another port is none.
func TestAnotherPort(t *testing.T) {
	t.Parallel()
	other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
		if _, err := other.WriteToUDPAddrPort(f.Reply(r, wire.CodeAccessAccept), r.From); err != nil {
			t.Error(err)
		}
		if r.Number == 2 {
			f.Send(r, f.Reply(r, wire.CodeAccessReject))
		}
	})
	c := dial(t, f.Addr())
	if answer := must(t, c, ask("alice", "x"), wire.CodeAccessReject); answer.Sent < 2 {
		t.Error("it was taken for an answer")
	}
}

// Which answers need a Message-Authenticator depends on the request and the options; a wrong one is never taken.
func TestSigned(t *testing.T) {
	t.Parallel()
	insecure := func(o *Options) { o.InsecureAcceptUnsigned = true }
	everywhere := func(o *Options) { o.RequireSigned = true }
	usual := func(*Options) {}
	for _, c := range []struct {
		name            string
		request, answer byte
		set             func(*Options)
		taken           bool // without Message-Authenticator
	}{
		{"access", wire.CodeAccessRequest, wire.CodeAccessAccept, usual, false},
		{"access, required everywhere", wire.CodeAccessRequest, wire.CodeAccessReject, everywhere, false},
		{"challenge", wire.CodeAccessRequest, wire.CodeAccessChallenge, usual, false},
		{"access, insecure", wire.CodeAccessRequest, wire.CodeAccessAccept, insecure, true},
		{"status", wire.CodeStatusServer, wire.CodeAccessAccept, usual, false},
		{"status, insecure", wire.CodeStatusServer, wire.CodeAccountingResponse, insecure, true},
		{"accounting", wire.CodeAccountingRequest, wire.CodeAccountingResponse, usual, true},
		{"accounting, required", wire.CodeAccountingRequest, wire.CodeAccountingResponse, everywhere, false},
		{"disconnect", wire.CodeDisconnectRequest, wire.CodeDisconnectACK, usual, true},
		{"disconnect, required", wire.CodeDisconnectRequest, wire.CodeDisconnectNAK, everywhere, false},
		{"coa", wire.CodeCoARequest, wire.CodeCoANAK, usual, true},
		{"coa, required", wire.CodeCoARequest, wire.CodeCoAACK, everywhere, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := exchangetest.NewFake(t, testSecret, func(f *exchangetest.Fake, r exchangetest.Request) {
				wrong := f.Reply(r, c.answer)
				wrong[wire.MessageAuthAt] ^= 1
				f.Send(r, f.Resign(r, wrong))
				f.Send(r, f.Unsigned(r, c.answer))
				f.Send(r, f.Reply(r, c.answer))
			})
			client := dial(t, f.Addr(), once, c.set)
			answer := must(t, client, Request{Code: c.request}, c.answer)
			if got := !answer.View.MessageAuth.Present(); got != c.taken {
				t.Errorf("an unsigned answer was taken: %v, want %v", got, c.taken)
			}
			if client.Stats().Discarded[WrongSignature] != 1 {
				t.Errorf("a wrong Message-Authenticator: %+v", client.Stats())
			}
			if !f.Verify(f.Got()[0]) {
				t.Error("the request does not begin with a right Message-Authenticator")
			}
		})
	}
}
