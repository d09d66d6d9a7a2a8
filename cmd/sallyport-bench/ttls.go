package main

import (
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// EAP and EAP-TTLS (RFC 3748 section 4, RFC 5281 sections 9 and 10).
const (
	attrState       = 24
	attrEAPMessage  = 79
	accessChallenge = 11

	eapResponse = 2
	eapSuccess  = 3
	eapIdentity = 1
	eapTTLS     = 21
	eapHeader   = 4

	ttlsLength = 0x80
	ttlsMore   = 0x40
	ttlsStart  = 0x20
	ttlsSize   = 1000 // octets of TLS in a fragment of ours

	avpMandatory = 0x40
	avpHeader    = 8

	maxAttr    = 253 // octets in an attribute
	ttlsRounds = 32  // packets that a conversation may take
	msSendKey  = 16
	msRecvKey  = 17
	keySize    = 32 // of each of the two
)

var (
	errRefused = errors.New("refused")
	errEAP     = errors.New("EAP is not as it should be")
	errKeys    = errors.New("the server's keys are not those of the tunnel")
)

// writeAVPs writes what goes through the tunnel: User-Name and User-Password, padded with zeros (RFC 5281 section 11.2.5).
func writeAVPs(_ *signer, s *script, _ int, r request) error {
	password := make([]byte, passLen)
	copy(password, r.code)
	s.packets = appendAVP(s.packets, attrUserName, []byte(r.user))
	s.packets = appendAVP(s.packets, attrUserPassword, password)
	return nil
}

func appendAVP(dst []byte, code uint32, value []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, code)
	dst = binary.BigEndian.AppendUint32(dst, avpMandatory<<24|uint32(avpHeader+len(value)))
	dst = append(dst, value...)
	return append(dst, make([]byte, -len(value)&3)...)
}

// talker is a supplicant and its NAS, with one conversation after another. One goroutine owns it.
type talker struct {
	seen
	conn   *net.UDPConn
	tls    *tls.Config
	sign   *signer
	script *script
	strict bool
	start  time.Time
	wait   time.Duration
	buf    [replySize]byte
	out    []byte
	number int // of packets, for their identifiers

	// Of the conversation.
	state   []byte
	eapID   byte
	ended   bool   // by an acceptance
	toSend  []byte // of TLS, for the server
	arrived []byte // of TLS, from the server
	rounds  int
	accept  []byte // the last reply, and the authenticator of its request
	asked   [macLen]byte
}

func (g generator) talkers(scripts []script, start time.Time) (workers []worker, hang func(), err error) {
	hang = func() {
		for _, w := range workers {
			w.(*talker).conn.Close()
		}
	}
	to, err := net.ResolveUDPAddr("udp4", g.addr)
	if err != nil {
		return nil, nil, err
	}
	for i := range scripts {
		conn, err := net.DialUDP("udp4", nil, to)
		if err != nil {
			hang()
			return nil, nil, err
		}
		workers = append(workers, &talker{
			conn: conn, tls: g.ttls, sign: newSigner(g.secret), script: &scripts[i], strict: g.strict, start: start, wait: g.patience,
		})
	}
	return workers, hang, nil
}

func (t *talker) run(stop *atomic.Bool, done func()) error {
	defer done()
	s := t.script
	for !stop.Load() && s.sent < s.len() {
		k := s.sent
		s.sent++
		began := int64(time.Since(t.start))
		err := t.login(s.packet(k))
		now := int64(time.Since(t.start))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.counts.Lost++
			continue
		case errors.Is(err, errRefused):
			t.counts.Rejected++
		case err != nil:
			t.bad(err)
			continue
		}
		t.answers = append(t.answers, answer{at: now, took: now - began, accept: err == nil})
	}
	return nil
}

// login takes one conversation from the identity to the acceptance, and sends inner through its tunnel.
func (t *talker) login(inner []byte) error {
	t.state, t.eapID, t.ended, t.toSend, t.arrived, t.rounds = nil, 0, false, nil, nil, 0
	const outer = "anonymous"
	first, err := t.exchange(append([]byte{eapIdentity}, outer...))
	if err != nil {
		return err
	}
	if len(first) < 2 || first[0] != eapTTLS || first[1]&ttlsStart == 0 {
		return fmt.Errorf("%w: want the start of EAP-TTLS, got %x", errEAP, first)
	}
	conn := tls.Client(tunnelEnd{t}, t.tls)
	if err := conn.HandshakeContext(context.Background()); err != nil {
		return err
	}
	if err := agreed(conn.ConnectionState()); err != nil {
		return err
	}
	if _, err := conn.Write(inner); err != nil {
		return err
	}
	if err := t.deliver(); err != nil {
		return err
	}
	if !t.ended {
		return fmt.Errorf("%w: no end after the password", errEAP)
	}
	state := conn.ConnectionState()
	msk, err := state.ExportKeyingMaterial("ttls keying material", nil, 2*keySize) // RFC 5281 section 8
	if err != nil {
		return err
	}
	recv, err1 := t.key(msRecvKey)
	send, err2 := t.key(msSendKey)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if string(recv)+string(send) != string(msk) {
		return errKeys
	}
	return nil
}

// key reads a key of the acceptance (RFC 2548 section 2.4.2).
func (t *talker) key(kind byte) ([]byte, error) {
	const salt, size = 2, 16
	value := microsoftIn(t.accept, kind)
	if len(value) < salt+3*size || (len(value)-salt)%size != 0 {
		return nil, errKeys
	}
	plain := make([]byte, 0, 4*size)
	before := append(t.asked[:len(t.asked):len(t.asked)], value[:salt]...)
	for at := salt; at < len(value); at += size {
		sum := md5.Sum(append(t.sign.secret[:len(t.sign.secret):len(t.sign.secret)], before...))
		for i, b := range value[at : at+size] {
			plain = append(plain, sum[i]^b)
		}
		before = value[at : at+size]
	}
	if n := int(plain[0]); n != keySize || 1+n > len(plain) {
		return nil, errKeys
	}
	return plain[1 : 1+keySize], nil
}

// deliver sends what TLS has written, in fragments, and takes what comes back, also in fragments.
func (t *talker) deliver() error {
	whole := t.toSend
	t.toSend = nil
	var body []byte
	for first := true; ; first = false {
		flags, n := byte(0), min(len(whole), ttlsSize)
		if n < len(whole) {
			flags |= ttlsMore
		}
		packet := []byte{eapTTLS, flags}
		if first && len(whole) > 0 {
			packet[1] |= ttlsLength
			packet = binary.BigEndian.AppendUint32(packet, uint32(len(whole)))
		}
		var err error
		if body, err = t.exchange(append(packet, whole[:n]...)); err != nil || t.ended {
			return err
		}
		if whole = whole[n:]; len(whole) == 0 {
			break
		}
	}
	for {
		if len(body) < 2 || body[0] != eapTTLS || body[1]&ttlsStart != 0 {
			return fmt.Errorf("%w: %.16x within EAP-TTLS", errEAP, body)
		}
		data := body[2:]
		if body[1]&ttlsLength != 0 {
			if len(data) < 4 {
				return fmt.Errorf("%w: cut short", errEAP)
			}
			data = data[4:]
		}
		t.arrived = append(t.arrived, data...)
		if body[1]&ttlsMore == 0 {
			return nil
		}
		var err error
		if body, err = t.exchange([]byte{eapTTLS, 0}); err != nil || t.ended {
			return err
		}
	}
}

// exchange sends an EAP response, and returns the body of the request that follows: nothing where an acceptance does.
func (t *talker) exchange(body []byte) ([]byte, error) {
	if t.rounds++; t.rounds > ttlsRounds {
		return nil, fmt.Errorf("%w: no end after %d packets", errEAP, ttlsRounds)
	}
	t.ask(body)
	if _, err := t.conn.Write(t.out); err != nil {
		return nil, err
	}
	if err := t.conn.SetReadDeadline(time.Now().Add(t.wait)); err != nil {
		return nil, err
	}
	var reply []byte
	for {
		n, err := t.conn.Read(t.buf[:])
		if err != nil {
			return nil, err
		}
		if reply = t.buf[:n]; n >= headerLen && reply[1] == t.out[1] { // else it answers one that was given up
			break
		}
	}
	code, err := t.sign.check(reply, t.asked[:], t.strict)
	if err != nil {
		return nil, err
	}
	message := t.read(reply)
	switch {
	case code == accessReject:
		return nil, errRefused
	case len(message) < eapHeader || int(binary.BigEndian.Uint16(message[2:])) != len(message):
		return nil, fmt.Errorf("%w: a packet of %d octets", errEAP, len(message))
	case code == accessAccept && message[0] == eapSuccess:
		t.ended, t.accept = true, reply
		return nil, nil
	case code != accessChallenge || message[0] != 1:
		return nil, fmt.Errorf("%w: code %d with EAP's %d", errEAP, code, message[0])
	}
	t.eapID = message[1]
	return message[eapHeader:], nil
}

// ask makes the Access-Request of an EAP response.
func (t *talker) ask(body []byte) {
	r := request{id: byte(t.number)}
	t.number++
	for i := 0; i < len(r.authenticator); i += 8 {
		binary.BigEndian.PutUint64(r.authenticator[i:], rand.Uint64())
	}
	t.asked = r.authenticator
	message := append([]byte{eapResponse, t.eapID, 0, 0}, body...)
	binary.BigEndian.PutUint16(message[2:], uint16(len(message)))
	t.out = appendText(t.sign.begin(t.out[:0], r), attrUserName, "anonymous")
	for len(message) > 0 {
		n := min(len(message), maxAttr)
		t.out = append(append(t.out, attrEAPMessage, byte(2+n)), message[:n]...)
		message = message[n:]
	}
	if t.state != nil {
		t.out = append(append(t.out, attrState, byte(2+len(t.state))), t.state...)
	}
	t.out = appendNumber(append(t.out, attrNASIPAddress, 6, 10, 20, 0, 1), attrNASPort, uint32(t.number))
	t.out = t.sign.finish(appendText(t.out, attrCallingStationID, "02-00-00-00-00-01"), 0)
}

// read takes State and the EAP packet from a reply whose attributes check has found well formed.
func (t *talker) read(reply []byte) (message []byte) {
	t.state = nil
	for at := headerLen; at+2 <= len(reply) && reply[at+1] >= 2; at += int(reply[at+1]) {
		value := reply[at+2 : min(at+int(reply[at+1]), len(reply))]
		switch reply[at] {
		case attrState:
			t.state = append([]byte(nil), value...)
		case attrEAPMessage:
			message = append(message, value...)
		}
	}
	return message
}

// tunnelEnd is the connection that TLS sees. What it wrote goes out when it wants to read.
type tunnelEnd struct{ t *talker }

func (e tunnelEnd) Read(b []byte) (int, error) {
	if len(e.t.arrived) == 0 {
		if err := e.t.deliver(); err != nil {
			return 0, err
		}
		if len(e.t.arrived) == 0 {
			return 0, fmt.Errorf("%w: nothing for TLS", errEAP)
		}
	}
	n := copy(b, e.t.arrived)
	e.t.arrived = e.t.arrived[n:]
	return n, nil
}

func (e tunnelEnd) Write(b []byte) (int, error) {
	e.t.toSend = append(e.t.toSend, b...)
	return len(b), nil
}

func (e tunnelEnd) Close() error                     { return nil }
func (e tunnelEnd) LocalAddr() net.Addr              { return e.t.conn.LocalAddr() }
func (e tunnelEnd) RemoteAddr() net.Addr             { return e.t.conn.RemoteAddr() }
func (e tunnelEnd) SetDeadline(time.Time) error      { return nil }
func (e tunnelEnd) SetReadDeadline(time.Time) error  { return nil }
func (e tunnelEnd) SetWriteDeadline(time.Time) error { return nil }
