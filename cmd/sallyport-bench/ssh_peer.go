package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// sshPeerWord is the hidden subcommand that runs what the gateway is compared with: the least that golang.org/x/crypto/ssh
// makes of a jump host, of a proxy that ends SSH on both sides, and of both in one, which ends the SSH within the jump, as whoever
// records a jump must. All take its default algorithms and buffers, let in every public key, and do nothing beside.
const sshPeerWord = "ssh-peer"

// runSSHPeer serves until it is ended. Args are jump, proxy or jump-proxy, a listening address, the file of a host key, and for those
// with a proxy the target's address, the account there and the file of a key.
func runSSHPeer(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) < 3 {
		return errors.New("want jump or proxy, an address and a host key")
	}
	host, err := readSigner(args[2])
	if err != nil {
		return err
	}
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	cfg.AddHostKey(host)
	serve := serveJump
	if args[0] != "jump" {
		if len(args) != 6 {
			return errors.New("a proxy wants a target, an account and a key")
		}
		key, err := readSigner(args[5])
		if err != nil {
			return err
		}
		to := &ssh.ClientConfig{User: args[4], Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
		serve = func(chans <-chan ssh.NewChannel) { serveProxy(chans, args[3], to) }
		if proxy := serve; args[0] == "jump-proxy" {
			serve = func(chans <-chan ssh.NewChannel) { serveWithin(chans, cfg, proxy) }
		}
	}
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	fmt.Fprintln(stdout, "ready")
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() {
			defer conn.Close()
			sc, chans, requests, err := ssh.NewServerConn(conn, cfg)
			if err != nil {
				return
			}
			defer sc.Close()
			go ssh.DiscardRequests(requests)
			serve(chans)
		}()
	}
}

func readSigner(path string) (ssh.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(text)
}

// serveJump connects each direct-tcpip channel.
func serveJump(chans <-chan ssh.NewChannel) {
	for nc := range chans {
		var d struct {
			Host       string
			Port       uint32
			OriginHost string
			OriginPort uint32
		}
		if nc.ChannelType() != "direct-tcpip" || ssh.Unmarshal(nc.ExtraData(), &d) != nil {
			_ = nc.Reject(ssh.UnknownChannelType, "no")
			continue
		}
		go func() {
			to, err := net.Dial("tcp", net.JoinHostPort(d.Host, strconv.Itoa(int(d.Port))))
			if err != nil {
				_ = nc.Reject(ssh.ConnectionFailed, err.Error())
				return
			}
			defer to.Close()
			ch, requests, err := nc.Accept()
			if err != nil {
				return
			}
			defer ch.Close()
			go ssh.DiscardRequests(requests)
			in := make(chan struct{})
			go func() {
				defer close(in)
				_, _ = io.Copy(to, ch)
				_ = to.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(ch, to)
			_ = ch.CloseWrite()
			<-in
		}()
	}
}

// serveWithin ends the SSH within each direct-tcpip channel, and serves that.
func serveWithin(chans <-chan ssh.NewChannel, cfg *ssh.ServerConfig, serve func(<-chan ssh.NewChannel)) {
	for nc := range chans {
		if nc.ChannelType() != "direct-tcpip" {
			_ = nc.Reject(ssh.UnknownChannelType, "no")
			continue
		}
		go func() {
			ch, requests, err := nc.Accept()
			if err != nil {
				return
			}
			defer ch.Close()
			go ssh.DiscardRequests(requests)
			sc, inner, globals, err := ssh.NewServerConn(channelConn{Channel: ch}, cfg)
			if err != nil {
				return
			}
			defer sc.Close()
			go ssh.DiscardRequests(globals)
			serve(inner)
		}()
	}
}

// channelConn is a channel that golang.org/x/crypto/ssh takes for a connection.
type channelConn struct {
	ssh.Channel
	net.Conn // what it asks of a connection beside
}

func (c channelConn) Read(p []byte) (int, error)  { return c.Channel.Read(p) }
func (c channelConn) Write(p []byte) (int, error) { return c.Channel.Write(p) }
func (c channelConn) Close() error                { return c.Channel.Close() }
func (channelConn) LocalAddr() net.Addr           { return &net.TCPAddr{} }
func (channelConn) RemoteAddr() net.Addr          { return &net.TCPAddr{} }

// serveProxy relays each session channel to the target.
func serveProxy(chans <-chan ssh.NewChannel, address string, cfg *ssh.ClientConfig) {
	var target *ssh.Client
	defer func() {
		if target != nil {
			target.Close()
		}
	}()
	for nc := range chans {
		if nc.ChannelType() != "session" {
			_ = nc.Reject(ssh.UnknownChannelType, "no")
			continue
		}
		if target == nil {
			var err error
			if target, err = ssh.Dial("tcp", address, cfg); err != nil {
				_ = nc.Reject(ssh.ConnectionFailed, err.Error())
				target = nil
				continue
			}
		}
		go relaySession(nc, target)
	}
}

func relaySession(nc ssh.NewChannel, target *ssh.Client) {
	to, fromTarget, err := target.OpenChannel(nc.ChannelType(), nc.ExtraData())
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer to.Close()
	ch, fromClient, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	pass := func(requests <-chan *ssh.Request, to ssh.Channel) {
		for r := range requests {
			ok, _ := to.SendRequest(r.Type, r.WantReply, r.Payload)
			if r.WantReply {
				_ = r.Reply(ok, nil)
			}
		}
	}
	over := make(chan struct{})
	go pass(fromClient, to)
	go func() {
		defer close(over)
		pass(fromTarget, ch)
	}()
	go func() {
		_, _ = io.Copy(to, ch)
		_ = to.CloseWrite()
	}()
	var out sync.WaitGroup
	out.Go(func() { _, _ = io.Copy(ch, to) })
	out.Go(func() { _, _ = io.Copy(ch.Stderr(), to.Stderr()) })
	out.Wait()
	_ = ch.CloseWrite()
	<-over
}
