package sshgw

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

// x/crypto/ssh trap: a client that cancels keyboard-interactive sends another request where an answer is awaited, and
// the library eats it. The client is told of a failure, nothing counts as tried, and it may begin again.
func TestCancelledQuestions(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.rawDial()
	c.service()
	for _, answers := range [][]string{nil, {alicePassword}} { // cancel at the password, and at the code
		c.write(keyboardInteractive("alice"))
		c.expect(msgInfoRequest)
		for _, a := range answers {
			c.write(infoResponse(a))
			c.expect(msgInfoRequest)
		}
		c.write(keyboardInteractive("alice"))
		c.expect(msgAuthFailure, msgAuthSuccess, msgInfoRequest)
	}
	// The wrong number of answers is no try either.
	c.write(keyboardInteractive("alice"))
	c.expect(msgInfoRequest)
	c.write(infoResponse(alicePassword, "000000", "more"))
	c.expect(msgAuthFailure, msgAuthSuccess)
	if recs := h.find("login"); len(recs) != 0 {
		t.Errorf("cancelling made the records %+v", recs)
	}
	c.write(keyboardInteractive("alice"))
	c.expect(msgInfoRequest)
	c.write(infoResponse(alicePassword))
	c.expect(msgInfoRequest)
	c.write(infoResponse(h.code()))
	c.expect(msgAuthSuccess)
}

// A user name cannot change once a key was proved for it.
func TestUserChangesAfterKey(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.rawDial()
	c.service()
	c.write(c.publicKeyRequest("alice", h.key))
	failure := c.expect(msgAuthFailure, msgAuthSuccess)
	if want := append(appendString([]byte{msgAuthFailure}, "password,keyboard-interactive"), 1); !bytes.Equal(failure, want) {
		t.Fatalf("after the key: %q, want %q (a partial success, RFC 4252 section 5.1)", failure, want)
	}
	c.write(keyboardInteractive("bob"))
	c.expectEnd(msgInfoRequest, msgAuthSuccess)
}

// P11: before the login nothing but the login is answered, at any point of it.
func TestNothingBeforeLogin(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	window := uint32(1 << 20)
	early := map[string][]byte{
		"session":        channelOpen("session", 0, window, 1<<15, nil),
		"direct-tcpip":   channelOpen("direct-tcpip", 0, window, 1<<15, direct("core-sw1", 22)),
		"tcpip-forward":  append(appendString([]byte{msgGlobal}, "tcpip-forward"), 1),
		"keepalive":      append(appendString([]byte{msgGlobal}, "keepalive@openssh.com"), 1),
		"channel data":   {msgData, 0, 0, 0, 0, 0, 0, 0, 1, 'x'},
		"shell":          append(appendString([]byte{msgChannelReq, 0, 0, 0, 0}, "shell"), 1),
		"auth success":   {msgAuthSuccess},
		"info response":  infoResponse(alicePassword, "000000"),
		"unknown number": {200},
		"empty request":  {msgAuthRequest},
	}
	for name, message := range early {
		for when, prepare := range map[string]func(*rawClient){
			"at once":      func(*rawClient) {},
			"as a service": func(c *rawClient) { c.service() },
			"when asked": func(c *rawClient) {
				c.service()
				c.write(keyboardInteractive("alice"))
				c.expect(msgInfoRequest)
			},
			"after the key": func(c *rawClient) {
				c.service()
				c.write(c.publicKeyRequest("alice", h.key))
				c.expect(msgAuthFailure)
			},
		} {
			t.Run(name+"/"+when, func(t *testing.T) {
				c := h.rawDial()
				prepare(c)
				c.write(message)
				// The second is there because a question that is not answered makes a failure, not an end.
				c.send(message)
				c.expectEnd(msgAuthSuccess, msgOpenOK, msgOpenFailure, 81, 82, 99, 100)
			})
		}
	}
	if recs := h.find("access"); len(recs) != 0 {
		t.Errorf("records of access: %+v", recs)
	}
}

// P7: what a client may send before the login is bounded.
func TestStartBytes(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.rawDial()
	c.service()
	big := authRequest(strings.Repeat("x", 64<<10), "none")
	for i := 0; ; i++ {
		if c.send(big) != nil {
			break
		}
		if i > 1000 {
			t.Fatal("the server reads on")
		}
	}
	h.await("the drop", func() bool { return h.meter.get("dropped "+string(dropFlood)) == 1 })
}

// hostile connections of many sorts, which all end without a login.
func (h *harness) hostileConnections() []func(net.Conn) {
	version := "SSH-2.0-Hostile\r\n"
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			io.WriteString(c, text)
			io.Copy(io.Discard, c)
		}
	}
	junk := strings.Repeat("\xff", 70<<10)
	return []func(net.Conn){
		func(c net.Conn) { c.Close() },
		say("GET / HTTP/1.1\r\n\r\n" + junk),
		say(strings.Repeat("A", 64<<10)),
		say(strings.Repeat("line\r\n", 5000)),
		say("SSH-1.5-old\r\n" + junk),
		say(version + junk),
		say(version + "\x00\x00\x00\x0c\x0a\x14" + junk),
		say(version + "\x7f\xff\xff\xff" + junk),
		say(version + "\x00\x00\x00\x00" + junk),
		func(c net.Conn) { // half a key exchange, then silence on its side
			io.WriteString(c, version)
			buf := make([]byte, 64)
			io.ReadFull(c, buf)
			c.Close()
		},
		func(c net.Conn) { // leaves in the middle of the questions
			defer c.Close()
			raw := newRawClient(h, c)
			raw.service()
			raw.write(keyboardInteractive("mallory"))
			raw.expect(msgInfoRequest)
		},
		func(c net.Conn) { // resets the connection in the middle of a login
			raw := newRawClient(h, c)
			raw.service()
			raw.write(keyboardInteractive("mallory"))
			raw.expect(msgInfoRequest)
			raw.write(infoResponse("hunter2"))
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		},
		func(c net.Conn) { // garbage under good keys
			defer c.Close()
			raw := newRawClient(h, c)
			raw.service()
			raw.send(bytes.Repeat([]byte{0xff}, 1000))
			raw.expectEnd(msgAuthSuccess)
		},
	}
}

// P7: hostile connections leave nothing behind, neither goroutines nor places.
func TestHostileConnectionsLeaveNothing(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	h.alice().Close()
	h.await("the quiet before", func() bool { return h.srv.Stats().Connections == 0 })
	before := runtime.NumGoroutine()
	all := h.hostileConnections()
	for i := range 200 {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		all[i%len(all)](c)
		c.Close()
	}
	h.await("the end of all", func() bool { st := h.srv.Stats(); return st.Connections == 0 && st.Starts == 0 })
	h.await("no goroutine more than before", func() bool { return runtime.NumGoroutine() <= before })
	h.alice().Close()
}

// After a login, too, broken messages end the connection and nothing else.
func TestBrokenMessagesAfterLogin(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	for name, message := range map[string][]byte{
		"unknown number":      {200},
		"unknown channel":     {msgData, 0, 0, 0, 9, 0, 0, 0, 1, 'x'},
		"cut channel opening": {msgChannelOpen, 0, 0, 0, 7, 's'},
		"empty payload":       {},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.rawAlice()
			c.write(message)
			c.expectEnd(msgOpenOK)
		})
	}
}

// A malformed direct-tcpip opening is refused, and the connection goes on.
func TestMalformedDestination(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.rawAlice()
	for i, payload := range [][]byte{nil, {0}, direct("core-sw1", 22)[:9], append(direct("core-sw1", 22), 'x'), binary.BigEndian.AppendUint32(nil, 1<<31)} {
		c.write(channelOpen("direct-tcpip", uint32(i), 1<<20, 1<<15, payload))
		c.expect(msgOpenFailure, msgOpenOK)
	}
	if n := len(h.find("access")); n != 5 {
		t.Errorf("%d records, want 5", n)
	}
	c.write(channelOpen("direct-tcpip", 9, 1<<20, 1<<15, direct("core-sw1", 22)))
	c.expect(msgOpenOK, msgOpenFailure)
}

// P7: a flood of openings is answered in order, each with its record, and ends the connection at a bound.
func TestFloodOfOpenings(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.rawAlice()
	go func() {
		for i := range uint32(5000) {
			if c.send(channelOpen("x11", i, 1<<20, 1<<15, nil)) != nil {
				return
			}
		}
	}()
	refused := 0
	for {
		p, err := c.receive()
		if err != nil {
			break
		}
		if p[0] == msgOpenFailure {
			refused++
		}
	}
	h.await("the end", func() bool { return h.srv.Stats().Connections == 0 })
	if n := len(h.find("access")); refused > maxRefusals || n < refused || n > maxRefusals+1 {
		t.Errorf("%d refusals sent, %d recorded, want at most %d and no fewer records than refusals", refused, n, maxRefusals)
	}
}

// P7: channels are bounded, and a session that is refused counts until the client has closed it too.
func TestMaxChannels(t *testing.T) {
	h := newHarness(t)
	cfg := h.config(echo(t))
	cfg.MaxChannels = 3
	h.serve(cfg)
	c := h.rawAlice()
	for i := range uint32(3) {
		c.write(channelOpen("direct-tcpip", i, 1<<20, 1<<15, direct("core-sw1", 22)))
		c.expect(msgOpenOK, msgOpenFailure)
	}
	c.write(channelOpen("session", 3, 1<<20, 1<<15, nil))
	p := c.expect(msgOpenFailure, msgOpenOK)
	if code := binary.BigEndian.Uint32(p[5:]); ssh.RejectionReason(code) != ssh.ResourceShortage {
		t.Errorf("reason %d, want a shortage: %q", code, p)
	}
	if r := h.last("access"); r.Reason != string(login.ReasonOverloaded) {
		t.Errorf("record %+v", r)
	}
	// One that is closed makes room.
	c.write(binary.BigEndian.AppendUint32([]byte{97}, 0))
	c.expect(97)
	h.await("the room", func() bool { return h.srv.Stats().Sessions == 2 })
	h.await("an opening", func() bool {
		c.write(channelOpen("direct-tcpip", 7, 1<<20, 1<<15, direct("core-sw1", 22)))
		return c.read()[0] == msgOpenOK
	})
}

// x/crypto/ssh trap: a peer may claim to take packets of 2 GiB. None of ours is beyond 32 KiB.
func TestHugePacketSize(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(listen(t, func(c net.Conn) {
		defer c.Close()
		c.Write(make([]byte, 1<<20))
	})))
	c := h.rawAlice()
	c.write(channelOpen("direct-tcpip", 0, 1<<31, 1<<31-1, direct("core-sw1", 22)))
	c.expect(msgOpenOK, msgOpenFailure)
	for got := 0; got < 1<<20; {
		p := c.expect(msgData)
		if len(p) > 32<<10+9 {
			t.Fatalf("a packet of %d bytes", len(p))
		}
		got += len(p) - 9
	}
}

// x/crypto/ssh trap: the window is shared with extended data, which has to be read too, or the channel stalls.
func TestExtendedDataIsDrained(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(echo(t)))
	c := h.rawAlice()
	c.write(channelOpen("direct-tcpip", 0, 1<<31, 1<<15, direct("core-sw1", 22)))
	ok := c.expect(msgOpenOK, msgOpenFailure)
	theirs := ok[5:9]
	junk := appendString(append(append([]byte{msgExtended}, theirs...), 0, 0, 0, 1), strings.Repeat("x", 32<<10-64))
	window := int(binary.BigEndian.Uint32(ok[9:]))
	for range 100 { // three windows full
		for window < len(junk) {
			window += int(binary.BigEndian.Uint32(c.expect(93)[5:]))
		}
		c.write(junk)
		window -= len(junk)
	}
	c.write(appendString(append([]byte{msgData}, theirs...), "ping"))
	if p := c.expect(msgData); string(p[9:]) != "ping" {
		t.Errorf("echoed %q", p[9:])
	}
}

// One channel that the client does not read holds up neither the others nor the end.
func TestUnreadChannel(t *testing.T) {
	h := newHarness(t)
	h.serve(h.config(listen(t, func(c net.Conn) {
		defer c.Close()
		go io.Copy(c, io.LimitReader(zeros{}, 64<<20))
		io.Copy(io.Discard, c)
	})))
	c := h.alice()
	unread, err := c.Dial("tcp", "core-sw1:22")
	if err != nil {
		t.Fatal(err)
	}
	read, err := c.Dial("tcp", "core-sw1:22")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, read, 8<<20); err != nil {
		t.Fatal(err)
	}
	list := h.srv.Sessions()
	if len(list) != 2 || !h.srv.Kill(list[0].ID, "test") || !h.srv.Kill(list[1].ID, "test") {
		t.Fatalf("sessions %+v", list)
	}
	h.awaitEnd(2)
	for _, r := range h.find("session.end") {
		if r.Reason != string(endKilled) {
			t.Errorf("ended by %s", r.Reason)
		}
	}
	unread.Close()
	read.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// P7: connections that have not logged in are bounded, in all and for each source; those that have logged in are not
// counted among them.
func TestMaxStartups(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		string(dropStarts):       func(c *Config) { c.MaxStartups = Startups{Begin: 3, Rate: 100, Full: 3} },
		string(dropSourceStarts): func(c *Config) { c.PerSourceStarts = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			cfg := h.config(echo(t))
			spoil(&cfg)
			h.serve(cfg)
			h.alice()
			h.await("a free place", func() bool { return h.srv.Stats().Starts == 0 })
			var idle []net.Conn
			for range 3 {
				c, err := net.Dial("tcp", h.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Fatalf("within the bound: %v", err)
				}
				idle = append(idle, c)
			}
			if _, err := h.client("alice", (&typist{password: alicePassword, code: h.code()}).auth()); err == nil {
				t.Fatal("beyond the bound, and served")
			}
			h.await("the drop for its reason", func() bool { return h.meter.get("dropped "+name) == 1 })
			idle[0].Close()
			h.await("a free place", func() bool { return h.srv.Stats().Starts == 2 })
			h.alice()
		})
	}
}

func TestMaxConnections(t *testing.T) {
	h := newHarness(t)
	cfg := h.config(echo(t))
	cfg.MaxConnections = 2
	h.serve(cfg)
	h.alice()
	h.alice()
	if _, err := h.client("alice", (&typist{password: alicePassword, code: h.code()}).auth()); err == nil {
		t.Fatal("a third connection is served")
	}
	h.await("the drop for its reason", func() bool { return h.meter.get("dropped "+string(dropConnections)) == 1 })
}

// Who fails too often is shut out for a while, whatever he brings; a login does not count against anybody.
func TestPenalties(t *testing.T) {
	h := newHarness(t)
	cfg := h.config(echo(t))
	cfg.Penalties = Penalties{AuthFail: 25 * time.Minute, Min: time.Hour, Max: 2 * time.Hour}
	h.serve(cfg)
	h.alice().Close()
	for i := range 3 {
		if _, err := h.client("alice", (&typist{password: "hunter2", code: h.code()}).auth()); err == nil {
			t.Fatal("let in")
		}
		h.await("the penalty", func() bool { return h.meter.get("dropped "+string(dropRefused)) == i+1 })
	}
	if _, err := h.client("alice", (&typist{password: alicePassword, code: h.code()}).auth()); err == nil {
		t.Fatal("a penalised source is served")
	}
	h.await("the drop for its reason", func() bool { return h.meter.get("dropped "+string(dropPenalty)) == 1 })
	h.clock.Add(int64(2 * time.Hour))
	h.alice()
}

// A panic in one connection's code ends that connection only.
func TestCrash(t *testing.T) {
	h := newHarness(t)
	h.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		panic(fmt.Sprintf("dialling %s", address))
	}
	cfg := h.config("10.0.0.1:22")
	cfg.Penalties = Penalties{}
	h.serve(cfg)
	c := h.alice()
	if _, err := c.Dial("tcp", "core-sw1:22"); err == nil {
		t.Fatal("opened")
	}
	h.await("the end", func() bool { return h.srv.Stats().Connections == 0 })
	if r := h.awaitEnd(1); r.Session == "none" {
		t.Errorf("the session's end is not recorded: %+v", r)
	}
	h.await("the count of the crash", func() bool {
		return h.meter.get("dropped "+string(dropCrash)) == 1 && h.srv.Stats().Penalised == 1
	})
	if !strings.Contains(h.logged.String(), "please report this") {
		t.Error("the crash is not logged")
	}
	h.logged = new(lockedBuffer)
}
