package probe

import (
	"context"
	"crypto/md5" // CHAP is made of it
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"layeh.com/radius/rfc2759"

	"sallyport/radiusd/mschap"
	"sallyport/radiusd/wire"
)

const tokenSize = 4 // RFC 9765 section 4.1

// probeProxyStates are two values whose order can be told apart.
var probeProxyStates = [2]string{"probe-one", "probe-two"}

// request makes a packet, Message-Authenticator first where it has one.
func (p *prober) request(code byte, fill func(w *wire.Writer, auth []byte)) []byte {
	w, auth := p.begin(code)
	if fill != nil {
		fill(w, auth)
	}
	w.AddText(wire.AttrNASIdentifier, p.NASIdentifier)
	for _, state := range probeProxyStates {
		w.AddText(wire.AttrProxyState, state)
	}
	if p.plain {
		return w.FinishPlain()
	}
	return w.SignRequest(p.digest, p.key)
}

func (p *prober) begin(code byte) (w *wire.Writer, auth []byte) {
	w = new(wire.Writer)
	buf := make([]byte, 0, wire.MaxPacket)
	if p.plain {
		var head [wire.HeaderSize]byte
		p.token++
		binary.BigEndian.PutUint32(head[4:], p.token)
		w.BeginPlain(buf, code, head[:])
		return w, nil
	}
	var random [wire.AuthenticatorSize]byte
	_, _ = rand.Read(random[:]) // never fails
	if p.id == 0 {
		p.id = random[0]
	}
	p.id++
	w.BeginRequest(buf, code, p.id, random)
	return w, random[:]
}

// expected is what an acceptance must hold in return.
type expected struct {
	id    byte
	proof *mschap.V2 // proved by ourselves, so that it knows what the server must answer
}

// prove adds what proves a password or code by the method.
func (p *prober) prove(w *wire.Writer, typed string, auth []byte) (*expected, error) {
	switch p.Method {
	case CHAP:
		var challenge [wire.AuthenticatorSize]byte
		_, _ = rand.Read(challenge[:])
		const id = 1
		sum := md5.Sum(append(append([]byte{id}, typed...), challenge[:]...))
		w.Add(wire.AttrCHAPPassword, append([]byte{id}, sum[:]...))
		w.Add(wire.AttrCHAPChallenge, challenge[:])
		return nil, nil
	case MSCHAPv2:
		return p.proveMSCHAPv2(w, typed)
	}
	if len(typed) == 0 || len(typed) > wire.MaxPassword {
		return nil, errors.New("what was typed does not fit User-Password (1 to 128 octets)")
	}
	if p.plain {
		w.AddText(wire.AttrUserPassword, typed)
		return nil, nil
	}
	w.Add(wire.AttrUserPassword, p.digest.HidePassword(p.key, []byte(typed), auth, nil))
	return nil, nil
}

// proveMSCHAPv2 makes MS-CHAP2-Response (RFC 2548 section 2.3.2): identifier, flags, the peer's challenge, eight octets that
// are reserved, and the NT-Response.
func (p *prober) proveMSCHAPv2(w *wire.Writer, typed string) (*expected, error) {
	var authenticator, peer [mschap.ChallengeSize]byte
	_, _ = rand.Read(authenticator[:])
	_, _ = rand.Read(peer[:])
	response, err := rfc2759.GenerateNTResponse(authenticator[:], peer[:], []byte(p.User), []byte(typed))
	if err != nil {
		return nil, errors.New("what was typed does not fit MS-CHAPv2")
	}
	proof := mschap.NewV2(p.User, authenticator, peer, [mschap.ResponseSize]byte(response))
	proof.Proves(typed)
	const id = 1
	value := append([]byte{id, 0}, peer[:]...)
	value = append(value, make([]byte, 8)...)
	w.AddVendor(wire.VendorMicrosoft, wire.MicrosoftCHAPChallenge, authenticator[:])
	w.AddVendor(wire.VendorMicrosoft, wire.MicrosoftCHAP2Response, append(value, response...))
	return &expected{id, proof}, nil
}

// strict sends what must get no answer: a wrong Message-Authenticator, and none. It asks for nobody, so that no person's
// failures are counted where the server answers all the same.
func (p *prober) strict(ctx context.Context) {
	if p.plain {
		p.report.add("strict", Note, "RADIUS/1.1 has no Message-Authenticator that could be wrong (RFC 9765 section 5.2)", "")
		return
	}
	nobody := func(w *wire.Writer, auth []byte) {
		w.AddText(wire.AttrUserName, p.NASIdentifier)
		w.Add(wire.AttrUserPassword, p.digest.HidePassword(p.key, []byte(p.NASIdentifier), auth, nil))
	}
	p.Timeout = min(p.Timeout, strictWait)
	wrong := p.request(wire.CodeAccessRequest, nobody)
	wrong[wire.MessageAuthAt] ^= 0xff
	answered, err := p.silently(ctx, wrong)
	if err != nil {
		p.report.add("wrong_signature", Note, "it could not be tried: "+err.Error(), "")
		return
	}
	p.report.found(!answered, "wrong_signature", "a request with a wrong Message-Authenticator was answered",
		"the server does not look at it: requests can be forged (RFC 3579 section 3.2)")

	signed := p.request(wire.CodeAccessRequest, nobody)
	bare := append(signed[:wire.HeaderSize:wire.HeaderSize], signed[wire.MessageAuthAt+wire.AuthenticatorSize:]...)
	binary.BigEndian.PutUint16(bare[2:], uint16(len(bare)))
	if p.TLS != nil {
		return // it may be left out there (RFC 6614 section 2.4)
	}
	switch answered, err = p.silently(ctx, bare); {
	case err != nil:
		p.report.add("unsigned", Note, "it could not be tried: "+err.Error(), "")
	case answered:
		p.report.add("unsigned", Note, "a request without Message-Authenticator was answered", "set require_message_authenticator for this client, once its kit sends one (CVE-2024-3596)")
	default:
		p.report.found(true, "unsigned", "", "")
	}
}

// strictWait is how long silence is waited for.
const strictWait = time.Second

// silently sends what should get no answer. Over TLS the server ends the connection, so that each has one of its own.
func (p *prober) silently(ctx context.Context, request []byte) (answered bool, err error) {
	if p.TLS != nil {
		p.link.close()
		if err := p.connect(ctx); err != nil {
			return false, err
		}
	}
	_, _, err = p.exchange(ctx, request, 1)
	if errors.Is(err, errNoAnswer) {
		return false, nil
	}
	return err == nil, err
}
