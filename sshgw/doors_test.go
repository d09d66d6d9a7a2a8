package sshgw

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/sshgw/relay"
	"sallyport/sshgw/route"
)

// P11: whatever a client opens or asks for, on whatever road, nothing reaches a target when the factors that its rule needs were not
// proved, when what the login leaned on is over, or when the person is shut out; each is refused on record.
func TestEveryDoorIsOneDoor(t *testing.T) {
	type way struct {
		name string
		user string
		// try opens something, and says how it was refused; empty: it was not.
		try func(t *testing.T, c *ssh.Client) string
	}
	channel := func(kind string, data []byte) func(*testing.T, *ssh.Client) string {
		return func(_ *testing.T, c *ssh.Client) string {
			_, _, err := c.OpenChannel(kind, data)
			if err == nil {
				return ""
			}
			return err.Error()
		}
	}
	session := func(request string, payload []byte, before ...string) func(*testing.T, *ssh.Client) string {
		return func(t *testing.T, c *ssh.Client) string {
			ch, requests, err := c.OpenChannel("session", nil)
			if err != nil {
				return err.Error()
			}
			status := make(chan string, 1)
			go func() {
				said := ""
				for r := range requests {
					if r.Type == "exit-status" {
						said = fmt.Sprint("status ", r.Payload[3])
					}
				}
				status <- said
			}()
			for _, name := range before {
				_, _ = ch.SendRequest(name, true, nil)
			}
			ok, err := ch.SendRequest(request, true, payload)
			if err != nil || !ok {
				return "request refused"
			}
			go new(relay.Buffers).Discard(ch)
			go new(relay.Buffers).Discard(ch.Stderr())
			if said := <-status; said != "status 0" {
				return "told and closed: " + said
			}
			return ""
		}
	}
	text := func(s string) []byte { return appendWire(nil, []byte(s)) }
	inner := func(t *testing.T, c *ssh.Client) string {
		conn, err := c.Dial("tcp", "taped:22")
		if err != nil {
			return err.Error()
		}
		ic, chans, requests, err := ssh.NewClientConn(conn, "taped", &ssh.ClientConfig{User: "netadmin", HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err != nil {
			return err.Error()
		}
		c2 := ssh.NewClient(ic, chans, requests)
		defer c2.Close()
		return session("exec", text("id"))(t, c2)
	}
	ways := []way{
		{"shell", "alice@core-sw1", session("shell", nil)},
		{"exec", "alice@core-sw1", session("exec", text("id"))},
		{"exec with an agent", "alice@core-sw1", session("exec", text("id"), agentRequest)},
		{"sftp", "alice@core-sw1", session("subsystem", text("sftp"))},
		{"netconf", "alice@core-sw1", session("subsystem", text("netconf"))},
		{"scp up", "alice@core-sw1", session("exec", text("scp -t /tmp/x"))},
		{"scp down", "alice@core-sw1", session("exec", text("scp -f /etc/passwd"))},
		{"rsync", "alice@core-sw1", session("exec", text("rsync --server --sender -logDtpre.iLsfxCIvu . /etc/"))},
		{"sftp-server by exec", "alice@core-sw1", session("exec", text("/usr/lib/openssh/sftp-server"))},
		{"a port at the target", "alice@core-sw1", channel("direct-tcpip", direct("localhost", 8443))},
		{"the target's own port", "alice@core-sw1", channel("direct-tcpip", direct("core-sw1", 22))},
		{"an opaque jump", "alice", channel("direct-tcpip", direct("core-sw1", 22))},
		{"a recorded jump", "alice", inner},
		{"a forwarded port", "alice", channel("direct-tcpip", direct("core-sw1", 8443))},
		{"a shell without a target", "alice", session("shell", nil)},
		{"a command without a target", "alice", session("exec", text("id"))},
		{"a certificate", "alice", session("exec", text("cert"))},
		{"x11", "alice@core-sw1", channel("x11", nil)},
		{"a socket", "alice@core-sw1", channel("direct-streamlocal@openssh.com", nil)},
		{"a tunnel", "alice", channel("tun@openssh.com", nil)},
		{"the agent's channel", "alice@core-sw1", channel(agentChannel, nil)},
		{"something else", "alice@core-sw1", channel("hunter2", nil)},
		{"remote forwarding", "alice", func(_ *testing.T, c *ssh.Client) string {
			if ok, _, err := c.SendRequest("tcpip-forward", true, append(text("127.0.0.1"), 0, 0, 0, 0)); err == nil && ok {
				return ""
			}
			return "request refused"
		}},
	}
	for _, why := range []struct {
		name  string
		spoil func(h *harness)
	}{
		{"the rule needs a third factor", func(h *harness) {
			h.change(func(r *policy.Rule) { r.Need = []policy.Kind{policy.Know, policy.Have, policy.Have} })
		}},
		{"the rule needs one more code", func(h *harness) { h.change(func(r *policy.Rule) { r.StepUp = true }) }},
		{"the person is disabled", func(h *harness) {
			h.gate.Apply(login.Change{PutPerson: &login.Person{Name: "alice", Groups: []string{"network"}, Disabled: true}})
		}},
		{"the person is gone", func(h *harness) { h.gate.Apply(login.Change{DeletePerson: "alice"}) }},
		{"no rule is left", func(h *harness) { h.change(func(r *policy.Rule) { r.Groups = []string{"nobody"} }) }},
		{"the exception is not live", func(h *harness) { h.change(func(r *policy.Rule) { r.Exception = "EX-1" }) }},
	} {
		t.Run(why.name, func(t *testing.T) {
			h := newHarness(t)
			var dialled atomic.Int32
			h.dial = func(context.Context, string, string) (net.Conn, error) {
				dialled.Add(1)
				return nil, errors.New("nobody may get here")
			}
			cfg := h.config("10.0.0.1:22")
			cfg.Targets[0].Account, cfg.Targets[0].Credential, cfg.Targets[0].Ports = "netadmin", CredentialKey, []route.Ports{{From: 8443, To: 8443}}
			cfg.Targets = append(cfg.Targets, Target{Name: "taped", Address: "10.0.0.2:22", Tags: []string{"network"}, Jump: Recorded, Account: "netadmin", Credential: CredentialKey})
			h.serve(cfg)
			h.srv.vault = newVault()
			h.setMay(all...)
			clients := map[string]*ssh.Client{}
			for _, user := range []string{"alice", "alice@core-sw1"} {
				c, err := h.client(user, (&typist{password: alicePassword, code: h.code()}).auth())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				clients[user] = c
			}
			why.spoil(h)
			for _, w := range ways {
				before := h.log.Next()
				refusal := w.try(t, clients[w.user])
				if refusal == "" {
					t.Errorf("%s: let through", w.name)
				}
				h.await(w.name+" on record", func() bool { return h.log.Next() > before })
				for _, r := range h.records() {
					if r.Seq >= before && (r.Event == "session.start" || r.Result == audit.Accept) {
						t.Errorf("%s: record %+v", w.name, r)
					}
				}
			}
			if n := dialled.Load(); n != 0 {
				t.Errorf("%d targets were dialled", n)
			}
		})
	}
}

// Ten thousand hostile connections leave nothing behind: neither goroutines nor memory (P7).
func TestTenThousandHostile(t *testing.T) {
	h := newHarness(t)
	cfg := h.config(echo(t))
	cfg.MaxStartups, cfg.PerSourceStarts = Startups{Begin: 500, Rate: 30, Full: 1000}, 1000
	h.serve(cfg)
	wrong := newSigner(t)
	kinds := []func(conn net.Conn){
		func(net.Conn) {},
		func(conn net.Conn) { _, _ = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		func(conn net.Conn) { _, _ = conn.Write([]byte("SSH-2.0-x\r\n\xff\xff\xff\xff garbage")) },
		func(conn net.Conn) { _, _ = conn.Write([]byte(strings.Repeat("x", 4096))) },
		func(conn net.Conn) { _, _ = conn.Write([]byte("SSH-2.0-x\r\n")) },
		func(conn net.Conn) { _, _ = conn.Write([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14")) },
	}
	one := func(i int) {
		conn, err := net.Dial("tcp", h.addr)
		if err != nil {
			return
		}
		defer conn.Close()
		if i%20 == 0 { // a whole handshake, and a key that nobody knows
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			c, _, _, err := ssh.NewClientConn(conn, h.addr, h.clientConfig("alice@core-sw1", ssh.PublicKeys(wrong), ssh.Password("hunter2")))
			if err == nil {
				c.Close()
				t.Error("let in")
			}
			return
		}
		kinds[i%len(kinds)](conn)
	}
	run := func(n int) {
		work := make(chan int)
		done := make(chan struct{})
		const hands = 8
		for range hands {
			go func() {
				defer func() { done <- struct{}{} }()
				for i := range work {
					one(i)
				}
			}()
		}
		for i := range n {
			work <- i
		}
		close(work)
		for range hands {
			<-done
		}
		h.await("the end of all", func() bool { st := h.srv.Stats(); return st.Connections == 0 && st.Starts == 0 })
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	run(500) // pools and maps have their size
	goroutines, memory := runtime.NumGoroutine(), heap()
	run(10_000)
	h.await("the goroutines", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	// The log's own memory grows by its index of records, a few hundred bytes each.
	if grown := int64(heap()) - int64(memory); grown > 4<<20 {
		t.Errorf("%d bytes more than before", grown)
	}
}
