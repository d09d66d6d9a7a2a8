package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/ipv4"
)

// link carries packets to a server and back. One goroutine uses it at a time.
type link interface {
	send(packets [][]byte) error
	// receive returns the replies that are there, or waits for some until the deadline. They are good until it is called again.
	receive() (replies [][]byte, err error)
	SetReadDeadline(time.Time) error
	Close() error
}

// datagrams is a connected UDP socket, with many packets in a system call.
type datagrams struct {
	*net.UDPConn
	packet  *ipv4.PacketConn
	out, in []ipv4.Message
	replies [][]byte
}

func dialUDP(_ context.Context, addr string) (link, error) {
	to, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadBuffer(ownBuffer); err != nil {
		conn.Close()
		return nil, err
	}
	d := &datagrams{UDPConn: conn, packet: ipv4.NewPacketConn(conn), out: make([]ipv4.Message, batch), in: make([]ipv4.Message, batch)}
	for i := range batch {
		d.out[i].Buffers = make([][]byte, 1)
		d.in[i].Buffers = [][]byte{make([]byte, replySize)}
	}
	return d, nil
}

func (d *datagrams) send(packets [][]byte) error {
	for i, p := range packets {
		d.out[i].Buffers[0] = p
	}
	for rest := d.out[:len(packets)]; len(rest) > 0; {
		sent, err := d.packet.WriteBatch(rest, 0)
		if err != nil {
			return err
		}
		rest = rest[sent:]
	}
	return nil
}

func (d *datagrams) receive() ([][]byte, error) {
	n, err := d.packet.ReadBatch(d.in, 0)
	d.replies = d.replies[:0]
	for i := range n {
		d.replies = append(d.replies, d.in[i].Buffers[0][:d.in[i].N])
	}
	return d.replies, err
}

// stream is a connection of RADIUS over TLS (RFC 6614). Each packet is a record of TLS of its own, as RADIUS clients send them,
// and many records go out in a system call.
type stream struct {
	*tls.Conn
	gather  *gatherer
	buf     []byte
	used    int // octets of buf that hold what has come
	taken   int // of which have been given out
	replies [][]byte
}

// gatherer is a connection that keeps what is written until it's told to send it.
type gatherer struct {
	net.Conn
	keep bool
	kept []byte
}

func (g *gatherer) Write(b []byte) (int, error) {
	if g.keep {
		g.kept = append(g.kept, b...)
		return len(b), nil
	}
	return g.Conn.Write(b)
}

func dialTLS(ctx context.Context, addr string, config *tls.Config) (link, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp4", addr)
	if err != nil {
		return nil, err
	}
	g := &gatherer{Conn: raw}
	conn := tls.Client(g, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	if err := agreed(conn.ConnectionState()); err != nil {
		raw.Close()
		return nil, err
	}
	return &stream{Conn: conn, gather: g, buf: make([]byte, 16*replySize)}, nil
}

func (s *stream) send(packets [][]byte) error {
	s.gather.keep = true
	for _, p := range packets {
		if _, err := s.Write(p); err != nil {
			return err
		}
	}
	s.gather.keep = false
	_, err := s.gather.Conn.Write(s.gather.kept)
	s.gather.kept = s.gather.kept[:0]
	return err
}

func (s *stream) receive() ([][]byte, error) {
	s.replies = s.replies[:0]
	s.used = copy(s.buf, s.buf[s.taken:s.used])
	s.taken = 0
	n, err := s.Read(s.buf[s.used:])
	s.used += n
	for s.used-s.taken >= headerLen {
		size := int(binary.BigEndian.Uint16(s.buf[s.taken+2:]))
		if size < headerLen || size > replySize {
			return s.replies, fmt.Errorf("a reply of %d octets", size)
		}
		if s.used-s.taken < size {
			break
		}
		s.replies = append(s.replies, s.buf[s.taken:s.taken+size])
		s.taken += size
	}
	return s.replies, err
}
