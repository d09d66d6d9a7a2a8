package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"sallyport/radiusd/wire"
)

// The names of the two versions to ALPN (RFC 9765 section 3.1).
const (
	alpn10 = "radius/1.0"
	alpn11 = "radius/1.1"
)

// link is what packets go by. Receive returns one packet with whatever stood behind it in its datagram.
type link interface {
	send(packet []byte) error
	receive(deadline time.Time) ([]byte, error)
	close()
}

// connect opens the link that the options want.
func (p *prober) connect(ctx context.Context) error {
	if p.TLS == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "udp", p.Address)
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		p.link, p.report.Over = &udpLink{conn}, "UDP"
		return nil
	}
	cfg := p.TLS.Clone()
	if cfg.NextProtos == nil {
		cfg.NextProtos = []string{alpn11, alpn10}
	}
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(p.Address)
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		cfg.ServerName = host
	}
	shake, cancel := context.WithTimeout(ctx, max(p.Timeout, handshakeFor))
	defer cancel()
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(shake, "tcp", p.Address)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	state := conn.(*tls.Conn).ConnectionState()
	p.plain = state.NegotiatedProtocol == alpn11
	version := "RADIUS/1.0"
	if p.plain {
		version = "RADIUS/1.1"
	}
	p.link, p.report.Over = &tlsLink{conn}, tls.VersionName(state.Version)+", "+version
	return nil
}

const handshakeFor = 5 * time.Second

type udpLink struct{ conn net.Conn }

func (u *udpLink) send(packet []byte) error {
	_, err := u.conn.Write(packet)
	return err
}

func (u *udpLink) receive(deadline time.Time) ([]byte, error) {
	if err := u.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	buf := make([]byte, wire.MaxPacket)
	n, err := u.conn.Read(buf)
	return buf[:n], err
}

func (u *udpLink) close() { u.conn.Close() }

type tlsLink struct{ conn net.Conn }

func (t *tlsLink) send(packet []byte) error {
	_, err := t.conn.Write(packet)
	return err
}

func (t *tlsLink) receive(deadline time.Time) ([]byte, error) {
	if err := t.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(t.conn, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	if n < wire.HeaderSize || n > wire.MaxPacket {
		return nil, fmt.Errorf("a packet of %d octets", n)
	}
	packet := append(head, make([]byte, n-wire.HeaderSize)...)
	_, err := io.ReadFull(t.conn, packet[wire.HeaderSize:])
	return packet, err
}

func (t *tlsLink) close() { t.conn.Close() }

// exchange sends a request, up to so many times within the timeout, and returns the first answer to it whose Response
// Authenticator is right. Others are noted, and passed over (RFC 2865 section 3).
func (p *prober) exchange(ctx context.Context, request []byte, times int) ([]byte, time.Duration, error) {
	if p.TLS != nil {
		times = 1 // RFC 6613 section 2.6.1
	}
	began := time.Now()
	for range times {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		if err := p.link.send(request); err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		deadline := time.Now().Add(p.Timeout / time.Duration(times))
		if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
			deadline = d
		}
		for {
			if err := ctx.Err(); err != nil {
				return nil, 0, err
			}
			datagram, err := p.link.receive(deadline)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, 0, fmt.Errorf("%w: %w", errNoAnswer, err) // mostly: nothing listens there, or it hung up
			}
			if answer, ok := p.answers(request, datagram); ok {
				return answer, time.Since(began), nil
			}
		}
	}
	return nil, 0, errNoAnswer
}

// answers reports whether a datagram is the answer to a request.
func (p *prober) answers(request, datagram []byte) ([]byte, bool) {
	answer, why := wire.Header(datagram)
	if why != wire.None {
		return nil, false
	}
	if p.plain {
		if !bytes.Equal(answer[4:4+tokenSize], request[4:4+tokenSize]) {
			return nil, false
		}
		rest := append([]byte{answer[1]}, answer[4+tokenSize:wire.HeaderSize]...)
		p.report.found(len(bytes.Trim(rest, "\x00")) == 0, "reserved", "the reserved octets of the header are not zero", "RFC 9765 section 4.1")
		return answer, true
	}
	if answer[1] != request[1] {
		return nil, false
	}
	if !bytes.Equal(answer[4:wire.HeaderSize], p.digest.ResponseAuth(p.key, answer, request[4:wire.HeaderSize])) {
		p.report.found(false, "response_authenticator", "an answer is not signed with this secret", "is the secret the same on both sides?")
		return nil, false
	}
	if len(answer) != len(datagram) {
		p.report.found(false, "length", "the datagram is longer than the packet", "pam_radius refuses it")
	}
	return bytes.Clone(answer), true
}
