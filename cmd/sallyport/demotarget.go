package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// demoTarget is a small SSH server to log in to behind the gateway. It lets anybody in and runs nothing: it says what
// it was asked. It listens on loopback for as long as the demo runs.
type demoTarget struct {
	listener net.Listener
	config   *ssh.ServerConfig
	key      ssh.PublicKey
	wg       sync.WaitGroup
}

func newDemoTarget() (*demoTarget, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	t := &demoTarget{config: &ssh.ServerConfig{NoClientAuth: true}, key: signer.PublicKey()}
	t.config.AddHostKey(signer)
	if t.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	return t, nil
}

// serve answers until ctx ends and all connections are closed.
func (t *demoTarget) serve(ctx context.Context) {
	defer t.wg.Wait()
	defer context.AfterFunc(ctx, func() { t.listener.Close() })()
	for {
		conn, err := t.listener.Accept()
		if err != nil {
			return
		}
		t.wg.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			t.connection(conn)
		})
	}
}

func (t *demoTarget) connection(conn net.Conn) {
	c, channels, requests, err := ssh.NewServerConn(conn, t.config)
	if err != nil {
		return
	}
	defer c.Close()
	t.wg.Go(func() { ssh.DiscardRequests(requests) })
	for open := range channels {
		if open.ChannelType() != "session" {
			open.Reject(ssh.UnknownChannelType, "the demo target has sessions only")
			continue
		}
		ch, reqs, err := open.Accept()
		if err != nil {
			return
		}
		t.wg.Go(func() { demoSession(c.User(), ch, reqs) })
	}
}

func demoSession(user string, ch ssh.Channel, reqs <-chan *ssh.Request) {
	defer ch.Close()
	greeting := fmt.Sprintf("You are %s on the demo target, and came through the gateway.\r\n", printable(user))
	for req := range reqs {
		switch req.Type {
		case "exec":
			req.Reply(true, nil)
			var exec struct{ Command string }
			if err := ssh.Unmarshal(req.Payload, &exec); err == nil {
				io.WriteString(ch, greeting+"It runs nothing, but it was asked for: "+printable(exec.Command)+"\r\n")
			}
			ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
			return
		case "shell":
			req.Reply(true, nil)
			go ssh.DiscardRequests(reqs)
			demoShell(ch, greeting)
			ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
			return
		default:
			req.Reply(req.Type == "pty-req" || req.Type == "env", nil)
		}
	}
}

func demoShell(ch ssh.Channel, greeting string) {
	t := term.NewTerminal(ch, "demo> ")
	io.WriteString(t, greeting+"Type anything; exit ends.\n")
	for {
		line, err := t.ReadLine()
		if err != nil || strings.TrimSpace(line) == "exit" {
			return
		}
		fmt.Fprintf(t, "you typed: %s\n", printable(line))
	}
}
