package sshgw

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// In SSH the client's order decides among ciphers (RFC 4253 section 7.1), and OpenSSH up to 9.9 has CTR before GCM. CTR costs half
// as much again here, so those who know GCM are offered nothing else. What they know stands in their first packet, which they
// send when they have read the server's version: the gateway therefore says its version by itself, and reads that packet before
// golang.org/x/crypto/ssh begins, which finds both again in a hello.

const (
	// maxHello bounds what is read ahead: a version and a KEXINIT have a few kilobytes. Beyond it nothing is known of the client.
	maxHello = 8 << 10
	// helloWait is how long a client may keep its first packet back. Known ones send it at once; one that waits for the
	// gateway's is served then, with all ciphers.
	helloWait = 2 * time.Second
)

// hello is a connection of which the beginning was read already, and on which the version was sent. Its first Write is the
// version again, and is dropped.
type hello struct {
	net.Conn
	said     []byte // what is still to be read
	answered bool
}

func (h *hello) Read(p []byte) (int, error) {
	if len(h.said) > 0 {
		n := copy(p, h.said)
		if h.said = h.said[n:]; len(h.said) == 0 {
			h.said = nil
		}
		return n, nil
	}
	return h.Conn.Read(p)
}

func (h *hello) Write(p []byte) (int, error) {
	if !h.answered {
		h.answered = true
		if string(p) == serverVersion+"\r\n" {
			return len(p), nil
		}
	}
	return h.Conn.Write(p)
}

// greet says the gateway's version and reads what the client begins with. Ciphers are those that it takes in both directions; none
// when that is not known. Errors are left to who reads next. Until is when the connection's time is over; zero: it has no deadlines.
func greet(c net.Conn, until time.Time) (h *hello, ciphers []string) {
	h = &hello{Conn: c}
	if _, err := c.Write([]byte(serverVersion + "\r\n")); err != nil {
		return h, nil
	}
	if !until.IsZero() {
		early := time.Now().Add(helloWait)
		if early.After(until) {
			early = until
		}
		if c.SetReadDeadline(early) != nil {
			return h, nil
		}
		defer func() { _ = c.SetReadDeadline(until) }() // an error comes again with the next read
	}
	buf := make([]byte, 0, maxHello)
	for len(buf) < cap(buf) {
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		h.said = buf
		list, whole := offeredCiphers(buf)
		if whole || err != nil {
			h.said = bytes.Clone(buf) // it lives until it is read
			return h, list
		}
	}
	return h, nil
}

// offeredCiphers finds the ciphers of a KEXINIT behind a version. It is whole when more bytes would tell nothing more.
func offeredCiphers(said []byte) (ciphers []string, whole bool) {
	line, rest, found := bytes.Cut(said, []byte("\n"))
	if !found {
		return nil, false
	}
	if !bytes.HasPrefix(line, []byte("SSH-2.0-")) {
		return nil, true
	}
	if len(rest) < 6 {
		return nil, false
	}
	size := binary.BigEndian.Uint32(rest)
	if size > maxHello {
		return nil, true
	}
	if uint32(len(rest)-4) < size {
		return nil, false
	}
	packet := rest[4 : 4+size]
	const padding, kind, cookie, names = 1, 1, 16, 4
	if len(packet) < padding+kind+cookie || packet[padding] != 20 { // SSH_MSG_KEXINIT
		return nil, true
	}
	packet = packet[padding+kind+cookie:]
	var lists [names][]string // key exchange, host key, cipher from and to the client
	for i := range lists {
		if len(packet) < 4 {
			return nil, true
		}
		n := binary.BigEndian.Uint32(packet)
		if uint64(n) > uint64(len(packet)-4) {
			return nil, true
		}
		lists[i] = strings.Split(string(packet[4:4+n]), ",")
		packet = packet[4+n:]
	}
	return slices.DeleteFunc(lists[2], func(name string) bool { return !slices.Contains(lists[3], name) }), true
}

// steer leaves of the ciphers those that cost the least, if the client takes one of them.
func steer(ciphers, offered []string) []string {
	var cheap []string
	for _, name := range ciphers {
		if (name == ssh.CipherAES128GCM || name == ssh.CipherAES256GCM) && slices.Contains(offered, name) {
			cheap = append(cheap, name)
		}
	}
	if len(cheap) == 0 {
		return ciphers
	}
	return cheap
}

// isLate tells a deadline from other errors.
func isLate(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
