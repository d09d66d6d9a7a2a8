package outbound

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
)

// sniffer reads along until the target's KEXINIT, which golang.org/x/crypto/ssh does not show: it is the first packet,
// and not encrypted yet.
type sniffer struct {
	net.Conn
	version func() // called when the target's version is there

	// Owned by whoever reads, until the first key exchange is over.
	done bool
	said []byte
	line []byte // the version
	kex  lists
}

// maxSniffed bounds what is kept: lines before the version (1,024 of 255 bytes, as golang.org/x/crypto/ssh reads them)
// are dropped as they come, and a KEXINIT has a few kilobytes.
const maxSniffed = 36 << 10

func (s *sniffer) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if !s.done && n > 0 {
		s.said = append(s.said, p[:n]...)
		s.look()
	}
	return n, err
}

func (s *sniffer) look() {
	for s.line == nil {
		line, rest, found := bytes.Cut(s.said, []byte("\n"))
		if !found {
			s.done = len(s.said) > maxSniffed
			return
		}
		s.said = rest
		if bytes.HasPrefix(line, []byte("SSH-")) {
			s.line = bytes.Clone(bytes.TrimRight(line, "\r"))
			s.version()
		}
	}
	if len(s.said) < 6 {
		return
	}
	size := binary.BigEndian.Uint32(s.said)
	if size < 1 || size > maxSniffed { // a packet has at least the length of its padding
		s.done, s.said = true, nil
		return
	}
	if uint32(len(s.said)-4) < size {
		return
	}
	packet, padding := s.said[5:4+size], int(s.said[4])
	s.done, s.said = true, nil
	if padding <= len(packet) {
		s.parse(packet[:len(packet)-padding])
	}
}

// parse reads a KEXINIT (RFC 4253 section 7.1).
func (s *sniffer) parse(payload []byte) {
	const msgKexInit, cookie = 20, 16
	if len(payload) < 1+cookie || payload[0] != msgKexInit {
		return
	}
	var names [8][]string // key exchange, host key, then cipher, MAC and compression, each for both directions
	rest := payload[1+cookie:]
	for i := range names {
		if len(rest) < 4 {
			return
		}
		n := binary.BigEndian.Uint32(rest)
		if uint64(n) > uint64(len(rest)-4) {
			return
		}
		if n > 0 {
			names[i] = strings.Split(string(rest[4:4+n]), ",")
		}
		rest = rest[4+n:]
	}
	s.kex = lists{kindKeyExchange: algorithmsOnly(names[0]), kindHostKey: names[1], kindCipher: names[2], kindMAC: names[4]}
}

// algorithmsOnly drops what stands among the key exchanges to say something else (RFC 8308, and OpenSSH's strict mode).
func algorithmsOnly(names []string) []string {
	var all []string
	for _, n := range names {
		if n != "ext-info-s" && n != "kex-strict-s-v00@openssh.com" {
			all = append(all, n)
		}
	}
	return all
}
