package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a session channel and its far end, over a connection of its own.
type pair struct {
	near, far Side
	close     func()
}

// newPair makes one. Accepts tells which end accepts the channel: the far one, as a target does, or the near one, as we do for a client.
func newPair(t *testing.T, weAccept bool) pair {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	type end struct {
		conn ssh.Conn
		side Side
	}
	served := make(chan end, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			close(served)
			return
		}
		cfg := &ssh.ServerConfig{NoClientAuth: true}
		cfg.AddHostKey(signer)
		c, chans, requests, err := ssh.NewServerConn(raw, cfg)
		if err != nil {
			close(served)
			return
		}
		go ssh.DiscardRequests(requests)
		nc := <-chans
		ch, reqs, err := nc.Accept()
		if err != nil {
			close(served)
			return
		}
		go func() {
			for nc := range chans {
				_ = nc.Reject(ssh.Prohibited, "")
			}
		}()
		served <- end{c, Side{ch, reqs}}
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, chans, requests, err := ssh.NewClientConn(raw, "", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	go func() {
		for nc := range chans {
			_ = nc.Reject(ssh.Prohibited, "")
		}
	}()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := <-served
	if !ok {
		t.Fatal("no channel")
	}
	p := pair{near: Side{ch, reqs}, far: s.side, close: func() { c.Close(); s.conn.Close() }}
	if weAccept {
		p.near, p.far = p.far, p.near
	}
	t.Cleanup(func() {
		p.close()
		go ssh.DiscardRequests(p.far.Requests) // what the test did not read keeps the library's goroutine
		_, _ = c.Wait(), s.conn.Wait()
	})
	return p
}

// rig relays between a client and a target, whose ends the test has.
type rig struct {
	*testing.T
	client, target Side
	stuck          chan bool
	exit           chan Exit
	passing        chan struct{} // one for each request that the relay takes
	cut            context.CancelFunc
}

func newRig(t *testing.T, change func(*Session)) *rig {
	t.Helper()
	c, g := newPair(t, true), newPair(t, false)
	r := &rig{T: t, client: c.far, target: g.far, stuck: make(chan bool, 2), exit: make(chan Exit, 1), passing: make(chan struct{}, 1000)}
	c.near.Requests, g.near.Requests = r.counted(c.near.Requests), r.counted(g.near.Requests)
	var work sync.WaitGroup
	s := &Session{
		Client: c.near, Target: g.near, Buffers: new(Buffers), Run: work.Go, CloseWait: 200 * time.Millisecond,
		Stuck: func(client bool) {
			r.stuck <- client
			if client {
				c.close()
			} else {
				g.close()
			}
		},
	}
	if change != nil {
		change(s)
	}
	ctx, cut := context.WithCancel(context.Background())
	r.cut = cut
	go func() {
		e := s.Serve(ctx)
		work.Wait() // nothing of it is left behind
		r.exit <- e
	}()
	t.Cleanup(cut)
	return r
}

// counted passes requests on one by one, and counts those that were taken.
func (r *rig) counted(from <-chan *ssh.Request) <-chan *ssh.Request {
	to := make(chan *ssh.Request)
	go func() {
		defer close(to)
		for req := range from {
			to <- req
			r.passing <- struct{}{}
		}
	}()
	return to
}

// floods lets the relay take more requests than a side's queue holds that does not read them.
func (r *rig) floods(from ssh.Channel) {
	r.Helper()
	const queue = 16
	go func() {
		for range 3 * queue {
			if _, err := from.SendRequest("x", false, nil); err != nil {
				return
			}
		}
	}()
	for range queue + 3 { // the next to last is on its way, and one has no place there
		<-r.passing
	}
}

func (r *rig) done() Exit {
	r.Helper()
	select {
	case e := <-r.exit:
		return e
	case <-time.After(20 * time.Second):
		r.Fatal("it did not end")
		return Exit{}
	}
}

func status(n uint32) []byte { return ssh.Marshal(&struct{ Status uint32 }{n}) }

// The client has all of the output before it hears of the exit status, whichever the target sends first, and the channel closes last.
func TestOutputComesFirst(t *testing.T) {
	r := newRig(t, nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // twice the windows
	go func() {
		_, _ = r.target.Channel.SendRequest("exit-status", false, status(7))
		_, _ = r.target.Channel.Write(data)
		_, _ = r.target.Channel.Stderr().Write([]byte("err"))
		_ = r.target.Channel.CloseWrite()
		_ = r.target.Channel.Close()
	}()
	go ssh.DiscardRequests(r.target.Requests)
	var out, errOut bytes.Buffer
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(&out, r.client.Channel) })
	both.Go(func() { _, _ = io.Copy(&errOut, r.client.Channel.Stderr()) })
	heard := false
	for req := range r.client.Requests {
		if req.Type == "exit-status" {
			heard = true
			both.Wait() // the end of data came before it
		}
	}
	both.Wait()
	_ = r.client.Channel.Close()
	if !heard || !bytes.Equal(out.Bytes(), data) || errOut.String() != "err" {
		t.Errorf("status heard %v, %d of %d bytes, %q", heard, out.Len(), len(data), errOut.String())
	}
	if e := r.done(); e.Status == nil || *e.Status != 7 || e.ByClient || e.Err != nil {
		t.Errorf("%+v", e)
	}
}

// A signal's name, and what goes with it, comes through as it is; so do the client's requests, with the target's answers.
func TestRequests(t *testing.T) {
	sizes := make(chan [2]uint32, 1)
	r := newRig(t, func(s *Session) {
		s.Resized = func(cols, rows uint32) error { sizes <- [2]uint32{cols, rows}; return nil }
		s.Ask = func(req *ssh.Request) bool { return req.Type != "forbidden" }
	})
	got := make(chan string, 8)
	go func() {
		for req := range r.target.Requests {
			got <- req.Type + " " + string(req.Payload)
			if req.WantReply {
				_ = req.Reply(req.Type == "break", nil)
			}
		}
		close(got)
	}()
	for name, want := range map[string]bool{"break": true, "signal": false, "forbidden": false} {
		if ok, err := r.client.Channel.SendRequest(name, true, []byte(name)); ok != want || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	if _, err := r.client.Channel.SendRequest("window-change", false, ssh.Marshal(&size{132, 50, 0, 0})); err != nil {
		t.Fatal(err)
	}
	if s := <-sizes; s != [2]uint32{132, 50} {
		t.Errorf("size %v", s)
	}
	signal := ssh.Marshal(&struct {
		Signal string
		Core   bool
		Text   string
		Lang   string
	}{"SEGV", true, "core dumped", "en"})
	_, _ = r.target.Channel.SendRequest("exit-signal", false, signal)
	_ = r.target.Channel.Close()
	go func() { _, _ = io.Copy(io.Discard, r.client.Channel) }()
	heard := ""
	for req := range r.client.Requests {
		heard = req.Type + string(req.Payload)
	}
	_ = r.client.Channel.Close()
	if heard != "exit-signal"+string(signal) {
		t.Errorf("heard %q", heard)
	}
	if e := r.done(); e.Signal != "SEGV" || e.Status != nil {
		t.Errorf("%+v", e)
	}
	all := ""
	for s := range got {
		all += s + "\n"
	}
	if strings.Contains(all, "forbidden") || !strings.Contains(all, "window-change") {
		t.Errorf("the target got %q", all)
	}
}

// An end of input reaches the target, whose output goes on.
func TestEndOfInput(t *testing.T) {
	r := newRig(t, nil)
	go ssh.DiscardRequests(r.target.Requests)
	go func() {
		text, _ := io.ReadAll(r.target.Channel)
		_, _ = r.target.Channel.Write(append([]byte("got "), text...))
		_ = r.target.Channel.Close()
	}()
	go ssh.DiscardRequests(r.client.Requests)
	_, _ = r.client.Channel.Write([]byte("input"))
	_ = r.client.Channel.CloseWrite()
	out, err := io.ReadAll(r.client.Channel)
	if string(out) != "got input" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_ = r.client.Channel.Close()
	r.done()
}

// A Tap's error ends the session, and is told apart from an end of either side.
func TestTapFails(t *testing.T) {
	broken := errors.New("the recorder broke")
	r := newRig(t, func(s *Session) {
		s.Output = func(p []byte, forward Forward) error {
			if bytes.Contains(p, []byte("secret")) {
				return broken
			}
			return forward(p)
		}
	})
	go ssh.DiscardRequests(r.target.Requests)
	go ssh.DiscardRequests(r.client.Requests)
	go func() { _, _ = io.Copy(io.Discard, r.target.Channel) }()
	_, _ = r.target.Channel.Write([]byte("fine"))
	out := make([]byte, 4)
	if _, err := io.ReadFull(r.client.Channel, out); err != nil || string(out) != "fine" {
		t.Errorf("the client got %q, %v", out, err)
	}
	_, _ = r.target.Channel.Write([]byte("secret"))
	if rest, _ := io.ReadAll(r.client.Channel); len(rest) > 0 {
		t.Errorf("the client got %q", rest)
	}
	_ = r.client.Channel.Close()
	_ = r.target.Channel.Close()
	if e := r.done(); !errors.Is(e.Err, broken) {
		t.Errorf("%+v", e)
	}
}

// Whoever does not answer the closing of his channel is given up: the client when the session is cut, the target when the client left.
func TestStuck(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		r := newRig(t, nil)
		go ssh.DiscardRequests(r.target.Requests)
		go func() { _, _ = io.Copy(io.Discard, r.target.Channel); _ = r.target.Channel.Close() }()
		// The client takes no requests: sixteen fill its queue, and then its connection stands still.
		r.floods(r.target.Channel)
		r.cut()
		if client := <-r.stuck; !client {
			t.Error("the target was given up")
		}
		r.done()
	})
	t.Run("target", func(t *testing.T) {
		r := newRig(t, nil)
		go ssh.DiscardRequests(r.client.Requests)
		r.floods(r.client.Channel)
		_ = r.client.Channel.Close()
		if client := <-r.stuck; client {
			t.Error("the client was given up")
		}
		if e := r.done(); !e.ByClient {
			t.Errorf("%+v", e)
		}
	})
}

// What is gathered before a start is bounded, whatever a client sends.
func TestGather(t *testing.T) {
	requests := make(chan *ssh.Request, 400)
	env := ssh.Marshal(&Env{"LC_X", "y"})
	for range 100 {
		requests <- &ssh.Request{Type: "env", Payload: env}
	}
	requests <- &ssh.Request{Type: "env", Payload: ssh.Marshal(&Env{"BIG", strings.Repeat("x", maxEnvBytes)})}
	requests <- &ssh.Request{Type: "env", Payload: []byte("malformed")}
	requests <- &ssh.Request{Type: "pty-req", Payload: ssh.Marshal(&PTY{Term: "xterm", Cols: 80, Rows: 24})}
	requests <- &ssh.Request{Type: "pty-req", Payload: ssh.Marshal(&PTY{Term: strings.Repeat("x", maxTerm+1)})}
	requests <- &ssh.Request{Type: "window-change", Payload: ssh.Marshal(&size{100, 30, 0, 0})}
	requests <- &ssh.Request{Type: "x11-req"}
	requests <- &ssh.Request{Type: "auth-agent-req@openssh.com"}
	requests <- &ssh.Request{Type: "exec", Payload: []byte("malformed")}
	requests <- &ssh.Request{Type: "exec", Payload: ssh.Marshal(&struct{ S string }{strings.Repeat("x", MaxCommand+1)})}
	requests <- &ssh.Request{Type: "exec", Payload: ssh.Marshal(&struct{ S string }{"id"})}
	requests <- &ssh.Request{Type: "shell"}
	var asked []string
	s := Gather(requests, func(kind string) bool { asked = append(asked, kind); return true })
	if s.Kind != "exec" || s.Command != "id" || len(s.Env) != maxEnv || s.PTY == nil || s.PTY.Term != "xterm" || s.PTY.Cols != 100 || !s.Agent {
		t.Errorf("%+v", s)
	}
	if strings.Join(asked, " ") != "x11-req auth-agent-req@openssh.com" {
		t.Errorf("asked about %q", asked)
	}
	close(requests)
	<-requests // the shell
	if s := Gather(requests, nil); s.Kind != "" {
		t.Errorf("a closed channel started %q", s.Kind)
	}
}
