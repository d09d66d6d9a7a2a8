package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/vendors/microsoft"

	"sallyport/radiusd/eap"
)

// onceJudge accepts each code of the crowd once.
type onceJudge struct {
	codes map[string]bool // name and code; false: not used yet
}

func (j onceJudge) Answer(_ context.Context, about eap.Question, typed string) eap.Verdict {
	key := about.Identity + " " + typed
	if used, known := j.codes[key]; !known || used {
		return eap.Reject()
	}
	j.codes[key] = true
	return eap.Accept()
}

func (j onceJudge) ProveMSCHAPv2(context.Context, eap.Question, *eap.MSCHAPv2Proof) eap.Verdict {
	return eap.Reject()
}

// eapAnswerer is a RADIUS server for conversations. spoil may change a key, or the last packet's answer.
func eapAnswerer(t *testing.T, certs *certificates, judge eap.Judge, fragment int, spoil func(n int64, key []byte)) generator {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(certs.serverCert, certs.serverKey)
	if err != nil {
		t.Fatal(err)
	}
	with, err := eap.NewServer(eap.Options{
		Methods: []eap.Method{eap.TTLS}, Fragment: fragment,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	talks := map[string]*eap.Conversation{}
	t.Cleanup(func() { // after the answerer's own has ended it
		for _, c := range talks {
			c.Close()
		}
	})
	var accepted atomic.Int64
	g := answerer(t, func(n int64, raw []byte) []byte {
		p, err := radius.Parse(raw, []byte(testSecret))
		if err != nil {
			t.Error(err)
			return nil
		}
		name := rfc2865.State_GetString(p)
		talk := talks[name]
		if talk == nil {
			name = fmt.Sprint("talk ", n)
			talk = with.Begin(judge)
		}
		delete(talks, name)
		var message []byte
		for _, part := range p.Attributes {
			if part.Type == rfc2869.EAPMessage_Type {
				message = append(message, part.Attribute...)
			}
		}
		step := talk.Next(t.Context(), message)
		reply := p.Response(radius.CodeAccessChallenge)
		switch {
		case !step.Done:
			talks[name] = talk
			_ = rfc2865.State_SetString(reply, name)
		case step.Success:
			reply.Code = radius.CodeAccessAccept
			key := talk.MSK()
			spoil(accepted.Add(1), key)
			_ = microsoft.MSMPPERecvKey_Add(reply, key[:keySize])
			_ = microsoft.MSMPPESendKey_Add(reply, key[keySize:])
			talk.Close()
		default:
			reply.Code = radius.CodeAccessReject
			talk.Close()
		}
		for out := step.Out; len(out) > 0; {
			n := min(len(out), maxAttr)
			reply.Add(rfc2869.EAPMessage_Type, out[:n])
			out = out[n:]
		}
		return sealed(t, reply)
	})
	g.ttls = certs.ttls()
	return g
}

// sealed encodes a reply with a Message-Authenticator before all else.
func sealed(t *testing.T, reply *radius.Packet) []byte {
	t.Helper()
	mac := &radius.AVP{Type: rfc2869.MessageAuthenticator_Type, Attribute: make([]byte, macLen)}
	reply.Attributes = append(radius.Attributes{mac}, reply.Attributes...)
	wire, err := reply.MarshalBinary()
	if err != nil {
		t.Error(err)
		return nil
	}
	sign := newSigner(testSecret)
	sign.mac.Write(wire)
	mac.Attribute = sign.mac.Sum(nil)
	raw, err := reply.Encode()
	if err != nil {
		t.Error(err)
	}
	return raw
}

// TestTTLS: conversations with our own server end in acceptances, in few fragments and in many; a used code, and a key that is
// not the tunnel's, are counted as what they are.
func TestTTLS(t *testing.T) {
	certs, err := makeCertificates(t.TempDir()+"/certificates", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	how := &shapes[3]
	for _, fragment := range []int{0, 128} {
		const logins, usedUp, spoilt = 40, 3, 5
		c := testCrowd(t, 10, hotp)
		scripts, err := c.prepare(t.Context(), need{lanes: 4, want: logins, least: 10, shape: how}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		judge := onceJudge{map[string]bool{}}
		for lane := range scripts {
			s := &scripts[lane]
			for k := range s.len() {
				name, code := innerOf(s.packet(k))
				judge.codes[name+" "+code] = lane == 0 && k < usedUp
			}
		}
		g := eapAnswerer(t, certs, judge, fragment, func(n int64, key []byte) {
			if n == spoilt {
				key[len(key)-1] ^= 1
			}
		})
		o, err := g.load(t.Context(), scripts, 4, 0, time.Minute, func() {}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		sent := 0
		for i := range scripts {
			sent += scripts[i].sent
		}
		if o.counts != (tally{Rejected: usedUp, Bad: 1}) || o.total != sent-1 || o.bad == nil {
			t.Errorf("fragments of %d: %d sent, %d answered, %+v, %v", fragment, sent, o.total, o.counts, o.bad)
		}
	}
}

// innerOf reads what writeAVPs wrote.
func innerOf(b []byte) (name, code string) {
	size := int(b[7])
	return string(b[avpHeader:size]), string(b[(size+3)/4*4+avpHeader:][:6])
}
