package sshgw

import (
	"bytes"
	"crypto/rand"

	"golang.org/x/crypto/ssh"
)

// How clients learn of all host keys, so that these can change without a warning (OpenSSH's PROTOCOL, section 2.5).
const (
	hostKeysRequest = "hostkeys-00@openssh.com"
	proveRequest    = "hostkeys-prove-00@openssh.com"
)

// maxProved bounds the keys that one request may want proved.
const maxProved = 16

// announceHostKeys tells the client which host keys the gateway has.
func (c *conn) announceHostKeys() {
	var payload []byte
	for _, k := range c.settings.HostKeys {
		payload = appendWire(payload, k.PublicKey().Marshal())
	}
	// Clients that do not know the request ignore it; an error means that the connection is gone.
	_, _, _ = c.ssh.SendRequest(hostKeysRequest, false, payload)
}

// proveHostKeys signs for the host keys that a client asks about, each with the connection's session id, or for none.
func (c *conn) proveHostKeys(payload []byte) (signatures []byte, ok bool) {
	for n := 0; len(payload) > 0; n++ {
		blob, rest, whole := cutWire(payload)
		if !whole || n >= maxProved {
			return nil, false
		}
		payload = rest
		signer := c.hostKey(blob)
		if signer == nil {
			return nil, false
		}
		message := appendWire(appendWire(appendWire(nil, []byte(proveRequest)), c.ssh.SessionID()), blob)
		sig, err := signer.Sign(rand.Reader, message)
		if err != nil {
			return nil, false
		}
		signatures = appendWire(signatures, ssh.Marshal(sig))
	}
	return signatures, len(signatures) > 0
}

func (c *conn) hostKey(blob []byte) ssh.Signer {
	for _, k := range c.settings.HostKeys {
		if bytes.Equal(k.PublicKey().Marshal(), blob) {
			return k
		}
	}
	return nil
}

// appendWire appends a string of RFC 4251 section 5.
func appendWire(b, s []byte) []byte {
	n := len(s)
	return append(append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)), s...)
}

func cutWire(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	if uint64(n) > uint64(len(b)-4) {
		return nil, nil, false
	}
	return b[4 : 4+n], b[4+n:], true
}
