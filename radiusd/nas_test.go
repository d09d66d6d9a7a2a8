package radiusd

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"net"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"sallyport/radiusd/wire"
)

// nas is a client's socket.
type nas struct {
	t      *testing.T
	conn   *net.UDPConn
	secret string
}

// from opens a client's socket at a loopback address.
func (r *rig) from(ip string) *nas {
	r.t.Helper()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)}, net.UDPAddrFromAddrPort(r.addr))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return &nas{r.t, conn, testSecret}
}

func (r *rig) nas() *nas { return r.from("127.0.0.1") }

type field struct {
	Type  radius.Type
	Value string
}

// request makes an Access-Request with layeh's codec, signed with crypto/hmac, Message-Authenticator last: servers must not care.
func (n *nas) request(id byte, attrs ...field) []byte {
	return n.packet(radius.CodeAccessRequest, id, attrs...)
}

func (n *nas) packet(code radius.Code, id byte, attrs ...field) []byte {
	n.t.Helper()
	raw := n.unsigned(code, id, append(attrs, field{rfc2869.MessageAuthenticator_Type, strings.Repeat("\x00", 16)})...)
	return resign(raw, n.secret)
}

// resign fills in the last attribute, which is the Message-Authenticator.
func resign(raw []byte, secret string) []byte {
	value := raw[len(raw)-16:]
	clear(value)
	mac := hmac.New(md5.New, []byte(secret))
	mac.Write(raw)
	copy(value, mac.Sum(nil))
	return raw
}

func (n *nas) unsigned(code radius.Code, id byte, attrs ...field) []byte {
	n.t.Helper()
	p := radius.New(code, []byte(n.secret))
	p.Identifier = id
	for _, a := range attrs {
		if a.Type == rfc2865.UserPassword_Type {
			hidden, err := radius.NewUserPassword([]byte(a.Value), p.Secret, p.Authenticator[:])
			if err != nil {
				n.t.Fatal(err)
			}
			a.Value = string(hidden)
		}
		p.Add(a.Type, radius.Attribute(a.Value))
	}
	raw, err := p.Encode()
	if err != nil {
		n.t.Fatal(err)
	}
	return raw
}

// pap is what a NAS sends of somebody's login.
func pap(user, typed string, more ...field) []field {
	return append([]field{
		{rfc2865.UserName_Type, user},
		{rfc2865.UserPassword_Type, typed},
		{rfc2865.NASIPAddress_Type, "\x0a\x00\x00\x01"},
		{rfc2865.CallingStationID_Type, "192.0.2.7"},
	}, more...)
}

func (n *nas) send(raw []byte) {
	n.t.Helper()
	if _, err := n.conn.Write(raw); err != nil {
		n.t.Fatal(err)
	}
}

// receive waits for an answer's bytes.
func (n *nas) receive() []byte {
	n.t.Helper()
	if err := n.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		n.t.Fatal(err)
	}
	buf := make([]byte, wire.MaxPacket+1)
	k, err := n.conn.Read(buf)
	if err != nil {
		n.t.Fatal(err)
	}
	return buf[:k]
}

// ask sends a request and checks what every answer must have, with the standard library's HMAC and layeh's codec.
func (n *nas) ask(raw []byte) *radius.Packet {
	n.t.Helper()
	n.send(raw)
	return n.checked(raw, n.receive())
}

func (n *nas) checked(request, answer []byte) *radius.Packet {
	n.t.Helper()
	if !radius.IsAuthenticResponse(answer, request, []byte(n.secret)) {
		n.t.Fatal("the Response Authenticator is wrong")
	}
	p, err := radius.Parse(answer, []byte(n.secret))
	if err != nil {
		n.t.Fatal(err)
	}
	if int(answer[2])<<8|int(answer[3]) != len(answer) {
		n.t.Error("the answer is padded") // pam_radius refuses those
	}
	if p.Identifier != request[1] {
		n.t.Errorf("identifier %d, want %d", p.Identifier, request[1])
	}
	if len(p.Attributes) == 0 || p.Attributes[0].Type != rfc2869.MessageAuthenticator_Type {
		n.t.Fatal("Message-Authenticator is not the first attribute")
	}
	signed := bytes.Clone(answer)
	copy(signed[4:20], request[4:20])
	clear(signed[22:38])
	mac := hmac.New(md5.New, []byte(n.secret))
	mac.Write(signed)
	if !hmac.Equal(mac.Sum(nil), answer[22:38]) {
		n.t.Fatal("the Message-Authenticator is wrong")
	}
	return p
}

// types lists the attributes of a packet.
func types(p *radius.Packet) []radius.Type {
	var list []radius.Type
	for _, a := range p.Attributes {
		list = append(list, a.Type)
	}
	return list
}

func values(p *radius.Packet, t radius.Type) []string {
	var list []string
	for _, a := range p.Attributes {
		if a.Type == t {
			list = append(list, string(a.Attribute))
		}
	}
	return list
}
