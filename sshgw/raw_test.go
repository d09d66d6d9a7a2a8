package sshgw

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// rawClient is an SSH client that can say what no library says: one key exchange (curve25519-sha256, RFC 8731), then
// packets under aes128-gcm@openssh.com (RFC 5647), whatever is in them.
type rawClient struct {
	testing.TB
	conn    net.Conn
	r       *bufio.Reader
	session []byte
	in, out cipher.AEAD
	inN     [12]byte
	outN    [12]byte
}

// The message numbers that tests use (RFC 4250 section 4.1.2).
const (
	msgDisconnect   = 1
	msgServiceReq   = 5
	msgServiceOK    = 6
	msgKexInit      = 20
	msgNewKeys      = 21
	msgAuthRequest  = 50
	msgAuthFailure  = 51
	msgAuthSuccess  = 52
	msgAuthBanner   = 53
	msgInfoRequest  = 60
	msgInfoResponse = 61
	msgGlobal       = 80
	msgChannelOpen  = 90
	msgOpenOK       = 91
	msgOpenFailure  = 92
	msgData         = 94
	msgExtended     = 95
	msgChannelReq   = 98
)

// rawDial does the key exchange.
func (h *harness) rawDial() *rawClient {
	h.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return newRawClient(h, conn)
}

func newRawClient(t testing.TB, conn net.Conn) *rawClient {
	t.Helper()
	c := &rawClient{TB: t, conn: conn, r: bufio.NewReader(conn)}
	const version = "SSH-2.0-Raw"
	io.WriteString(conn, version+"\r\n")
	line, err := c.r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var kexInit []byte
	kexInit = append(append(kexInit, msgKexInit), make([]byte, 16)...)
	for _, list := range []string{
		"curve25519-sha256", "ssh-ed25519", "aes128-gcm@openssh.com", "aes128-gcm@openssh.com",
		"hmac-sha2-256-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "none", "none", "", "",
	} {
		kexInit = appendString(kexInit, list)
	}
	kexInit = append(kexInit, 0, 0, 0, 0, 0)
	c.write(kexInit)
	theirs := c.read()
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine := private.PublicKey().Bytes()
	c.write(appendString([]byte{30}, string(mine)))
	reply := c.read()
	if reply[0] != 31 {
		t.Fatalf("message %d, want SSH_MSG_KEX_ECDH_REPLY", reply[0])
	}
	var ecdhReply struct{ HostKey, Public, Signature []byte }
	if err := ssh.Unmarshal(reply[1:], &ecdhReply); err != nil {
		t.Fatal(err)
	}
	public, err := ecdh.X25519().NewPublicKey(ecdhReply.Public)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := private.ECDH(public)
	if err != nil {
		t.Fatal(err)
	}
	k := mpint(shared)
	var toHash []byte
	for _, part := range []string{version, line[:len(line)-2], string(kexInit), string(theirs), string(ecdhReply.HostKey), string(mine), string(ecdhReply.Public)} {
		toHash = appendString(toHash, part)
	}
	h := sha256.Sum256(append(toHash, k...))
	c.session = h[:]
	c.write([]byte{msgNewKeys})
	if got := c.read(); got[0] != msgNewKeys {
		t.Fatalf("message %d, want SSH_MSG_NEWKEYS", got[0])
	}
	derive := func(letter byte) []byte {
		sum := sha256.Sum256(append(append(append(append([]byte(nil), k...), h[:]...), letter), h[:]...))
		return sum[:]
	}
	copy(c.outN[:], derive('A'))
	copy(c.inN[:], derive('B'))
	c.out, c.in = gcm(t, derive('C')[:16]), gcm(t, derive('D')[:16])
	return c
}

func gcm(t testing.TB, key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// mpint encodes a positive number (RFC 4251 section 5).
func mpint(b []byte) []byte {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	if len(b) > 0 && b[0] >= 0x80 {
		b = append([]byte{0}, b...)
	}
	return appendString(nil, string(b))
}

func step(nonce *[12]byte) {
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])+1)
}

// send writes one packet.
func (c *rawClient) send(payload []byte) error {
	covered := 4 // the length counts for the padding until there are keys (RFC 4253 section 6), and not with GCM
	if c.out != nil {
		covered = 0
	}
	pad := 16 - (covered+1+len(payload))%16
	if pad < 4 {
		pad += 16
	}
	body := append(append([]byte{byte(pad)}, payload...), make([]byte, pad)...)
	packet := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if c.out == nil {
		packet = append(packet, body...)
	} else {
		packet = c.out.Seal(packet, c.outN[:], body, packet[:4])
		step(&c.outN)
	}
	_, err := c.conn.Write(packet)
	return err
}

func (c *rawClient) write(payload []byte) {
	c.Helper()
	if err := c.send(payload); err != nil {
		c.Fatal(err)
	}
}

// receive reads one packet.
func (c *rawClient) receive() ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(c.r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(length[:]))
	if c.in != nil {
		n += c.in.Overhead()
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return nil, err
	}
	if c.in != nil {
		plain, err := c.in.Open(nil, c.inN[:], body, length[:])
		if err != nil {
			return nil, err
		}
		body = plain
		step(&c.inN)
	}
	if len(body) < 1 || int(body[0])+1 >= len(body) {
		return nil, fmt.Errorf("a packet of %d bytes", len(body))
	}
	return body[1 : len(body)-int(body[0])], nil
}

func (c *rawClient) read() []byte {
	c.Helper()
	p, err := c.receive()
	if err != nil {
		c.Fatal(err)
	}
	return p
}

// expect reads until a message of the given number, and fails on any of the others in not.
func (c *rawClient) expect(number byte, not ...byte) []byte {
	c.Helper()
	for {
		p := c.read()
		if p[0] == number {
			return p
		}
		for _, n := range not {
			if p[0] == n {
				c.Fatalf("message %d, want %d", p[0], number)
			}
		}
	}
}

// expectEnd reads until the connection ends, and fails on any message of the given numbers.
func (c *rawClient) expectEnd(not ...byte) {
	c.Helper()
	for {
		p, err := c.receive()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				c.Fatal("the server does not end the connection")
			}
			return
		}
		for _, n := range not {
			if p[0] == n {
				c.Fatalf("message %d before the end", n)
			}
		}
	}
}

func (c *rawClient) service() {
	c.Helper()
	c.write(appendString([]byte{msgServiceReq}, "ssh-userauth"))
	c.expect(msgServiceOK)
}

// authRequest asks to log in; rest is what follows the method's name.
func authRequest(user, method string, rest ...byte) []byte {
	p := appendString([]byte{msgAuthRequest}, user)
	p = appendString(p, "ssh-connection")
	return append(appendString(p, method), rest...)
}

// keyboardInteractive begins it, with no language and no submethods (RFC 4256 section 3.1).
func keyboardInteractive(user string) []byte {
	return authRequest(user, "keyboard-interactive", 0, 0, 0, 0, 0, 0, 0, 0)
}

func infoResponse(answers ...string) []byte {
	p := binary.BigEndian.AppendUint32([]byte{msgInfoResponse}, uint32(len(answers)))
	for _, a := range answers {
		p = appendString(p, a)
	}
	return p
}

// rawAlice is logged in.
func (h *harness) rawAlice() *rawClient {
	h.Helper()
	return h.login(h.rawDial())
}

func (h *harness) login(c *rawClient) *rawClient {
	h.Helper()
	c.service()
	c.write(keyboardInteractive("alice"))
	c.expect(msgInfoRequest)
	c.write(infoResponse(alicePassword))
	c.expect(msgInfoRequest)
	c.write(infoResponse(h.code()))
	c.expect(msgAuthSuccess)
	return c
}

// channelOpen asks for a channel (RFC 4254 section 5.1).
func channelOpen(kind string, id, window, maxPacket uint32, rest []byte) []byte {
	p := appendString([]byte{msgChannelOpen}, kind)
	p = binary.BigEndian.AppendUint32(p, id)
	p = binary.BigEndian.AppendUint32(p, window)
	return append(binary.BigEndian.AppendUint32(p, maxPacket), rest...)
}

func direct(host string, port uint32) []byte {
	return ssh.Marshal(directTCPIP{Host: host, Port: port, OriginHost: "127.0.0.1", OriginPort: 1})
}

// publicKeyRequest is a signed one (RFC 4252 section 7).
func (c *rawClient) publicKeyRequest(user string, key ssh.Signer) []byte {
	c.Helper()
	rest := []byte{1}
	rest = appendString(rest, key.PublicKey().Type())
	rest = appendString(rest, string(key.PublicKey().Marshal()))
	signed := append(appendString(nil, string(c.session)), authRequest(user, "publickey", rest...)...)
	sig, err := key.Sign(rand.Reader, signed)
	if err != nil {
		c.Fatal(err)
	}
	return authRequest(user, "publickey", appendString(rest, string(ssh.Marshal(sig)))...)
}
