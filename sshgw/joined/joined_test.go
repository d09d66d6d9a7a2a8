package joined

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
)

// broken is a connection that takes nothing.
type broken struct{ net.Conn }

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestJoin(t *testing.T) {
	near, far := net.Pipe()
	got := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(far)
		got <- all
	}()
	c := New(near)
	var want []byte
	write := func(n int) {
		p := bytes.Repeat([]byte{byte(len(want))}, n)
		want = append(want, p...)
		if m, err := c.Write(p); m != n || err != nil {
			t.Errorf("%d bytes: %d, %v", n, m, err)
		}
		clear(p) // the caller's memory is used again
	}
	write(first) // not yet
	c.Join()
	for _, n := range []int{20, first, 28700, first - 1, first, 1, first, first, first, 5} {
		write(n)
	}
	if c.held != nil {
		t.Error("something is still held")
	}
	near.Close()
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("%d bytes came, want %d; or others", len(all), len(want))
	}
	if n, err := c.Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("after the end: %d, %v", n, err)
	}
	bad := New(broken{near})
	bad.Join()
	_, _ = bad.Write(make([]byte, first))
	if n, err := bad.Write(make([]byte, 7)); n != 0 || err == nil {
		t.Errorf("a broken connection: %d, %v", n, err)
	}
}

// TestEverySize echoes messages of every size about that of the buffer through real SSH, with all that may be joined: a packet
// that ended with a held write would be waited for for ever.
func TestEverySize(t *testing.T) {
	for _, algs := range []ssh.Config{
		{Ciphers: []string{ssh.CipherAES128GCM}},
		{Ciphers: []string{ssh.CipherAES256CTR}, MACs: []string{ssh.HMACSHA256ETM}},
		{Ciphers: []string{ssh.CipherAES128CTR}, MACs: []string{ssh.HMACSHA512ETM}},
	} {
		ch := dialEcho(t, algs)
		for n := first - 128; n <= first+128; n++ {
			want := bytes.Repeat([]byte{byte(n)}, n)
			back := make([]byte, n)
			if _, err := ch.Write(want); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(ch, back); err != nil || !bytes.Equal(back, want) {
				t.Fatalf("%v, %d bytes: %v", algs.Ciphers, n, err)
			}
		}
	}
}

// dialEcho opens a channel to an echo, with both sides joining.
func dialEcho(t *testing.T, algs ssh.Config) ssh.Channel {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	key := testSigner(t)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			return
		}
		conn := New(raw)
		cfg := &ssh.ServerConfig{Config: algs, NoClientAuth: true}
		cfg.AddHostKey(key)
		_, chans, requests, err := ssh.NewServerConn(conn, cfg)
		if err != nil {
			return
		}
		conn.Join()
		go ssh.DiscardRequests(requests)
		for nc := range chans {
			ch, requests, err := nc.Accept()
			if err != nil {
				return
			}
			go ssh.DiscardRequests(requests)
			go func() { _, _ = io.Copy(ch, ch) }()
		}
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := New(raw)
	sc, chans, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{Config: algs, HostKeyCallback: ssh.FixedHostKey(key.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sc.Close() })
	conn.Join()
	go ssh.DiscardRequests(requests)
	go func() {
		for nc := range chans {
			_ = nc.Reject(ssh.Prohibited, "")
		}
	}()
	ch, chRequests, err := sc.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(chRequests)
	return ch
}

func testSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
