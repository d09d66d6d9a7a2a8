package sshgw

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
	"sallyport/internal/policy"
)

// In these tests time is the bubble's: it passes when every goroutine waits.

// pipes is a listener whose connections are in memory.
type pipes struct {
	testing.TB
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes(t testing.TB) *pipes {
	return &pipes{TB: t, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (*pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// dial returns the client's end. What it writes waits in memory, as in a socket's buffer: both sides of SSH begin by
// writing.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	c := &buffered{Conn: client, wake: make(chan struct{}, 1)}
	go c.pump()
	p.Cleanup(func() { c.Close() })
	return c
}

type buffered struct {
	net.Conn
	mu     sync.Mutex
	queue  []byte
	closed bool
	wake   chan struct{}
}

func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, net.ErrClosed
	}
	b.queue = append(b.queue, p...)
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (b *buffered) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.wake)
	}
	b.mu.Unlock()
	return b.Conn.Close()
}

func (b *buffered) pump() {
	for range b.wake {
		b.mu.Lock()
		out := b.queue
		b.queue = nil
		b.mu.Unlock()
		if _, err := b.Conn.Write(out); err != nil {
			b.Close()
			return
		}
	}
}

// bubble runs f with a server on pipes and a target that echoes.
func bubble(t *testing.T, change func(*Config), f func(h *harness, p *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		p := newPipes(t)
		h.dial = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				io.Copy(far, far)
			}()
			return near, nil
		}
		cfg := h.config("10.0.0.1:22")
		change(&cfg)
		h.server(cfg)
		h.serveOn(p)
		f(h, p)
	})
}

// over a pipe.
func (h *harness) pipeAlice(p *pipes) (*ssh.Client, net.Conn) {
	h.Helper()
	conn := p.dial()
	cfg := h.clientConfig("alice", (&typist{password: alicePassword, code: h.code()}).auth())
	sc, chans, requests, err := ssh.NewClientConn(conn, "gateway", cfg)
	if err != nil {
		h.Fatal(err)
	}
	c := ssh.NewClient(sc, chans, requests)
	h.Cleanup(func() { c.Close() })
	return c, conn
}

// lives tells how long the server keeps a connection from now on.
func lives(conn net.Conn) time.Duration {
	start := time.Now()
	io.Copy(io.Discard, conn)
	return time.Since(start)
}

// The grace time has two phases: the second begins with the first factor, and only once.
func TestGrace(t *testing.T) {
	change := func(c *Config) {
		c.GraceFirst, c.GraceSecond = 30*time.Second, 60*time.Second
		c.Penalties = Penalties{}
	}
	t.Run("silent", func(t *testing.T) {
		bubble(t, change, func(h *harness, p *pipes) {
			if d := lives(p.dial()); d != 30*time.Second {
				t.Errorf("lived %v, want 30s", d)
			}
			synctest.Wait()
			if h.meter.get("dropped "+string(dropGrace)) != 1 {
				t.Errorf("dropped for another reason: %v", h.meter.count)
			}
		})
	})
	t.Run("dripping", func(t *testing.T) {
		bubble(t, change, func(h *harness, p *pipes) {
			conn := p.dial()
			var drip sync.WaitGroup
			defer drip.Wait()
			drip.Go(func() {
				io.WriteString(conn, "SSH-2.0-")
				for {
					time.Sleep(time.Second)
					if _, err := io.WriteString(conn, "x"); err != nil {
						return
					}
				}
			})
			if d := lives(conn); d != 30*time.Second {
				t.Errorf("lived %v, want 30s", d)
			}
		})
	})
	for name, prepare := range map[string]func(*harness, *rawClient){
		"at the first question": func(h *harness, c *rawClient) {
			c.write(keyboardInteractive("alice"))
			c.expect(msgInfoRequest)
		},
		"after a wrong key": func(h *harness, c *rawClient) {
			c.write(c.publicKeyRequest("alice", newSigner(h)))
			c.expect(msgAuthFailure)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, change, func(h *harness, p *pipes) {
				start := time.Now()
				c := newRawClient(h, p.dial())
				c.service()
				prepare(h, c)
				c.expectEnd(msgAuthSuccess)
				if d := time.Since(start); d != 30*time.Second {
					t.Errorf("lived %v, want 30s", d)
				}
			})
		})
	}
	for name, prepare := range map[string]func(*harness, *rawClient){
		"after the password": func(h *harness, c *rawClient) {
			c.write(keyboardInteractive("alice"))
			c.expect(msgInfoRequest)
			time.Sleep(29 * time.Second)
			c.write(infoResponse(alicePassword))
			c.expect(msgInfoRequest)
		},
		"after the key": func(h *harness, c *rawClient) {
			c.write(c.publicKeyRequest("alice", h.key))
			c.expect(msgAuthFailure)
		},
		"after the key, the password and a refusal": func(h *harness, c *rawClient) {
			c.write(c.publicKeyRequest("alice", h.key))
			c.expect(msgAuthFailure)
			c.write(keyboardInteractive("alice"))
			c.expect(msgInfoRequest)
			time.Sleep(40 * time.Second)
			c.write(infoResponse("hunter2"))
			c.expect(msgInfoRequest)
			c.write(infoResponse("000000"))
			c.expect(msgAuthFailure)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, change, func(h *harness, p *pipes) {
				start := time.Now()
				c := newRawClient(h, p.dial())
				c.service()
				prepare(h, c)
				c.expectEnd(msgAuthSuccess)
				if d := time.Since(start); d != 90*time.Second {
					t.Errorf("lived %v, want 90s", d)
				}
			})
		})
	}
	t.Run("not after the login", func(t *testing.T) {
		bubble(t, change, func(h *harness, p *pipes) {
			c, _ := h.pipeAlice(p)
			time.Sleep(time.Hour)
			if conn, err := c.Dial("tcp", "core-sw1:22"); err != nil {
				t.Error(err)
			} else {
				conn.Close()
			}
		})
	})
}

// The rule's idle time and longest time end a session, and the record says which.
func TestIdleAndMax(t *testing.T) {
	for name, x := range map[string]struct {
		rule  policy.Rule
		every time.Duration // how often a byte moves
		lives time.Duration
		why   login.Reason
	}{
		"idle":             {policy.Rule{Idle: 10 * time.Minute}, 0, 10 * time.Minute, endIdle},
		"max":              {policy.Rule{Max: time.Hour}, 0, time.Hour, endMaxTime},
		"busy until max":   {policy.Rule{Idle: 10 * time.Minute, Max: time.Hour}, 9 * time.Minute, time.Hour, endMaxTime},
		"idle before max":  {policy.Rule{Idle: 10 * time.Minute, Max: time.Hour}, 0, 10 * time.Minute, endIdle},
		"idle though slow": {policy.Rule{Idle: 10 * time.Minute, Max: time.Hour}, 11 * time.Minute, 10 * time.Minute, endIdle},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(*Config) {}, func(h *harness, p *pipes) {
				h.setRule(x.rule)
				c, _ := h.pipeAlice(p)
				conn, err := c.Dial("tcp", "core-sw1:22")
				if err != nil {
					t.Fatal(err)
				}
				if x.every > 0 {
					var typing sync.WaitGroup
					defer typing.Wait()
					typing.Go(func() {
						for {
							time.Sleep(x.every)
							if _, err := conn.Write([]byte("x")); err != nil {
								return
							}
						}
					})
				}
				if d := lives(conn); d != x.lives {
					t.Errorf("lived %v, want %v", d, x.lives)
				}
				conn.Close()
				synctest.Wait()
				if r := h.last("session.end"); r.Reason != string(x.why) {
					t.Errorf("ended by %s, want %s", r.Reason, x.why)
				}
				if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
					t.Errorf("the connection ended with the session: %v", err)
				}
			})
		})
	}
}

// A client that no longer answers is found out and ended, though nothing else would end it.
func TestKeepalive(t *testing.T) {
	change := func(c *Config) { c.KeepaliveEvery, c.KeepaliveMisses = 30*time.Second, 3 }
	t.Run("silent", func(t *testing.T) {
		bubble(t, change, func(h *harness, p *pipes) {
			c := h.login(newRawClient(h, p.dial()))
			c.write(channelOpen("direct-tcpip", 0, 1<<20, 1<<15, direct("core-sw1", 22)))
			c.expect(msgOpenOK)
			time.Sleep(45 * time.Second) // between two ticks
			c.write(append(appendString([]byte{msgGlobal}, "a sign of life"), 0))
			start := time.Now()
			c.expectEnd()
			if d := time.Since(start); d != 15*time.Second+4*30*time.Second {
				t.Errorf("lived %v, want 2m15s", d)
			}
			synctest.Wait()
			if r := h.last("session.end"); r.Reason != string(endKeepalive) {
				t.Errorf("ended by %s", r.Reason)
			}
		})
	})
	t.Run("ends with a crash", func(t *testing.T) {
		bubble(t, change, func(h *harness, p *pipes) {
			c := h.login(newRawClient(h, p.dial()))
			h.meter.panics.Store(true)
			c.write(append(appendString([]byte{msgGlobal}, "tcpip-forward"), 1))
			synctest.Wait()
			if st := h.srv.Stats(); st.Connections != 0 {
				t.Fatalf("still there: %+v", st)
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if said := h.logged.String(); !strings.Contains(said, "please report this") || strings.Contains(said, string(endKeepalive)) {
				t.Errorf("after the crash:\n%s", said)
			}
			h.logged = new(lockedBuffer)
		})
	})
	t.Run("does not even read", func(t *testing.T) {
		bubble(t, change, func(h *harness, p *pipes) {
			h.login(newRawClient(h, p.dial()))
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if st := h.srv.Stats(); st.Connections != 0 {
				t.Errorf("still there: %+v", st)
			}
		})
	})
	t.Run("answering", func(t *testing.T) {
		bubble(t, change, func(h *harness, p *pipes) {
			c, _ := h.pipeAlice(p)
			time.Sleep(time.Hour)
			if _, _, err := c.SendRequest("x", true, nil); err != nil {
				t.Errorf("ended: %v", err)
			}
		})
	})
}

// A connection without channels does not stay for ever with a login that was proved long ago.
func TestUnused(t *testing.T) {
	bubble(t, func(c *Config) { c.UnusedTimeout = 15 * time.Minute }, func(h *harness, p *pipes) {
		c, _ := h.pipeAlice(p)
		conn, err := c.Dial("tcp", "core-sw1:22")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		conn.Close()
		start := time.Now()
		c.Wait()
		if d := time.Since(start); d != 15*time.Minute {
			t.Errorf("lived %v after its last channel, want 15m", d)
		}
	})
}

// A session channel on which nothing is asked is closed.
func TestSilentSession(t *testing.T) {
	bubble(t, func(*Config) {}, func(h *harness, p *pipes) {
		c, _ := h.pipeAlice(p)
		start := time.Now()
		_, requests, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		ssh.DiscardRequests(requests)
		if d := time.Since(start); d != startWait {
			t.Errorf("lived %v, want %v", d, startWait)
		}
	})
}

// A client that gives no window, or does not confirm a close, cannot keep a channel: its connection ends.
func TestStuckClients(t *testing.T) {
	for name, open := range map[string]func(*harness, *rawClient){
		"no window for the sentence": func(h *harness, c *rawClient) {
			c.write(channelOpen("session", 0, 0, 1<<15, nil))
			ok := c.expect(msgOpenOK)
			c.write(append(appendString(append([]byte{msgChannelReq}, ok[5:9]...), "shell"), 1))
		},
		"does not close the session": func(h *harness, c *rawClient) {
			c.write(channelOpen("session", 0, 1<<20, 1<<15, nil))
			ok := c.expect(msgOpenOK)
			c.write(append(appendString(append([]byte{msgChannelReq}, ok[5:9]...), "shell"), 1))
		},
		"does not close the killed jump": func(h *harness, c *rawClient) {
			c.write(channelOpen("direct-tcpip", 0, 0, 1<<15, direct("core-sw1", 22)))
			ok := c.expect(msgOpenOK)
			c.write(appendString(append([]byte{msgData}, ok[5:9]...), "echo into no window"))
			time.Sleep(time.Second)
			h.srv.Kill(h.srv.Sessions()[0].ID, "test")
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(*Config) {}, func(h *harness, p *pipes) {
				c := h.login(newRawClient(h, p.dial()))
				open(h, c)
				start := time.Now()
				c.expectEnd()
				if d := time.Since(start); d != closeWait {
					t.Errorf("lived %v, want %v", d, closeWait)
				}
			})
		})
	}
}

// A target that never answers is given up.
func TestDialTimeout(t *testing.T) {
	bubble(t, func(*Config) {}, func(h *harness, p *pipes) {
		h.srv.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c, _ := h.pipeAlice(p)
		start := time.Now()
		if _, err := c.Dial("tcp", "core-sw1:22"); err == nil {
			t.Error("opened")
		}
		if d := time.Since(start); d != dialTimeout {
			t.Errorf("waited %v, want %v", d, dialTimeout)
		}
		if r := h.last("session.end"); r.Reason != string(endDialFailed) {
			t.Errorf("ended by %s", r.Reason)
		}
	})
}

// A client that leaves while its target is dialled ends the dialling, and the record says who ended it.
func TestLeavingWhileDialling(t *testing.T) {
	bubble(t, func(*Config) {}, func(h *harness, p *pipes) {
		h.srv.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c := h.login(newRawClient(h, p.dial()))
		c.write(channelOpen("direct-tcpip", 0, 1<<20, 1<<15, direct("core-sw1", 22)))
		time.Sleep(time.Second)
		c.conn.Close()
		synctest.Wait()
		if r := h.last("session.end"); r.Reason != string(endExit) {
			t.Errorf("ended by %s", r.Reason)
		}
		if st := h.srv.Stats(); st.Connections != 0 {
			t.Errorf("left over: %+v", st)
		}
	})
}

// Drain lets sessions go on until its deadline, refuses what is new, and ends the rest with a record.
func TestDrain(t *testing.T) {
	bubble(t, func(*Config) {}, func(h *harness, p *pipes) {
		busy, _ := h.pipeAlice(p)
		quick, _ := h.pipeAlice(p)
		unused, _ := h.pipeAlice(p)
		stranger := p.dial()
		stays, err := busy.Dial("tcp", "core-sw1:22")
		if err != nil {
			t.Fatal(err)
		}
		goes, err := quick.Dial("tcp", "core-sw1:22")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		drained := make(chan error, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		go func() { drained <- h.srv.Drain(ctx) }()
		synctest.Wait()
		unused.Wait()
		lives(stranger)
		if d := time.Since(start); d != 0 {
			t.Errorf("connections without sessions lived %v", d)
		}
		if _, err := busy.Dial("tcp", "core-sw1:22"); err == nil {
			t.Error("a new session while draining")
		}
		if r := h.last("access"); r.Reason != string(login.ReasonStopping) {
			t.Errorf("record %+v", r)
		}
		if d := lives(p.dial()); d != 0 {
			t.Errorf("a new connection lived %v", d)
		}
		time.Sleep(20 * time.Second)
		goes.Close()
		quick.Wait()
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("a connection whose last session ended lived until %v", d)
		}
		stays.Write([]byte("x"))
		if _, err := io.ReadFull(stays, make([]byte, 1)); err != nil {
			t.Errorf("a session did not survive until the deadline: %v", err)
		}
		if err := <-drained; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain: %v", err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("drained after %v, want 1m", d)
		}
		ends := h.find("session.end")
		if len(ends) != 2 || ends[0].Reason != string(endExit) || ends[1].Reason != string(endDrain) {
			t.Errorf("ends %+v", ends)
		}
	})
}
