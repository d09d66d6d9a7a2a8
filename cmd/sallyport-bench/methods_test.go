package main

import (
	"bytes"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// signed parses a packet, and fails when its Message-Authenticator is not right.
func signed(t *testing.T, raw []byte) *radius.Packet {
	t.Helper()
	p, err := radius.Parse(raw, []byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	mac, zeroed := rfc2869.MessageAuthenticator_Get(p), bytes.Clone(raw)
	clear(zeroed[headerLen+2 : headerLen+2+macLen])
	sign := newSigner(testSecret)
	sign.mac.Write(zeroed)
	if raw[headerLen] != attrMessageAuthenticator || !bytes.Equal(mac, sign.mac.Sum(nil)) {
		t.Error("the Message-Authenticator is not first, or does not verify")
	}
	return p
}

// TestCHAP: the response is MD5 over identifier, code and challenge (RFC 1994 section 4.1).
func TestCHAP(t *testing.T) {
	r := testRequest(9)
	p := signed(t, newSigner(testSecret).appendCHAP(nil, r))
	challenge, got := rfc2865.CHAPChallenge_Get(p), rfc2865.CHAPPassword_Get(p)
	sum := md5.Sum(append([]byte("\x09123456"), challenge...))
	if len(challenge) != challengeSize || bytes.Equal(challenge, r.authenticator[:]) || !bytes.Equal(got, append([]byte{9}, sum[:]...)) {
		t.Errorf("challenge %x, response %x: want %x", challenge, got, sum)
	}
	if rfc2865.UserName_GetString(p) != r.user || rfc2865.UserPassword_Get(p) != nil || rfc2865.CallingStationID_GetString(p) != r.station {
		t.Errorf("the packet says %v", p.Attributes)
	}
}

// TestMSCHAP: the vectors of RFC 2759 section 9.2.
func TestMSCHAP(t *testing.T) {
	r := testRequest(9)
	r.user, r.code = "User", "clientPass"
	c := challenges{
		server: [challengeSize]byte(unhex(t, "5B5D7C7D7B3F2F3E3C2C602132262628")),
		peer:   [challengeSize]byte(unhex(t, "21402324255E262A28295F2B3A337C7E")),
	}
	raw, err := newSigner(testSecret).appendMSCHAP(nil, r, c)
	if err != nil {
		t.Fatal(err)
	}
	signed(t, raw)
	want := slices.Concat([]byte{9, 0}, c.peer[:], make([]byte, 8), unhex(t, "82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"))
	if got := microsoftIn(raw, msCHAP2Response); !bytes.Equal(got, want) {
		t.Errorf("MS-CHAP2-Response %x: want %x", got, want)
	}
	if got := microsoftIn(raw, msCHAPChallenge); !bytes.Equal(got, c.server[:]) {
		t.Errorf("MS-CHAP-Challenge %x: want %x", got, c.server)
	}
	success, err := mschapSuccess(r, c)
	if err != nil || success != "S=407A5589115FD0D6209F510FE9C04566932CDA56" {
		t.Errorf("MS-CHAP2-Success %q, %v", success, err)
	}
}

// TestSuccess: an acceptance whose MS-CHAP2-Success is missing, cut or another is found.
func TestSuccess(t *testing.T) {
	const want = "S=407A5589115FD0D6209F510FE9C04566932CDA56"
	reply := func(value string) []byte {
		return appendMicrosoft(make([]byte, headerLen), msCHAP2Success, []byte(value))
	}
	if err := checkSuccess(reply("\x09"+want), want); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]byte{make([]byte, headerLen), reply(""), reply(want), reply("\x09" + want[:41]), reply("\x09" + want + "0"), reply("\x09" + want)[:60]} {
		if err := checkSuccess(bad, want); !errors.Is(err, errSuccess) {
			t.Errorf("%x passes: %v", bad, err)
		}
	}
}

// TestAccounting: another implementation finds the authenticator right, and reads what is reported.
func TestAccounting(t *testing.T) {
	for _, status := range []uint32{acctStart, acctStop} {
		raw := newSigner(testSecret).appendAccounting(nil, testRequest(9), "session-1", status)
		if !radius.IsAuthenticRequest(raw, []byte(testSecret)) {
			t.Error("the authenticator does not verify")
		}
		p, err := radius.Parse(raw, []byte(testSecret))
		if err != nil {
			t.Fatal(err)
		}
		if p.Code != radius.CodeAccountingRequest || uint32(rfc2866.AcctStatusType_Get(p)) != status || rfc2866.AcctSessionID_GetString(p) != "session-1" {
			t.Errorf("%v says %v", p.Code, p.Attributes)
		}
		if class := rfc2865.Class_GetString(p); len(class) != len("sallyport:")+36 {
			t.Errorf("Class %q", class)
		}
		if has := rfc2866.AcctTerminateCause_Get(p) != 0; has != (status == acctStop) {
			t.Errorf("status %d, cause %v", status, has)
		}
	}
}

// TestSessions: what starts ends, once, and after it has started, with as many open as are meant to be.
func TestSessions(t *testing.T) {
	open, ended, most := map[int]bool{}, map[int]bool{}, 0
	for k := range 4 * sessionBlock {
		session, status := sessionOf(k)
		if start := status == acctStart; start == open[session] || ended[session] {
			t.Fatalf("report %d: session %d, status %d", k, session, status)
		} else if start {
			open[session] = true
		} else {
			delete(open, session)
			ended[session] = true
		}
		most = max(most, len(open))
	}
	if most != sessionsHeld || len(open) != 0 || len(ended) != 2*sessionBlock {
		t.Errorf("%d open at most, %d at the end, %d ended", most, len(open), len(ended))
	}
}

// TestShapesAreCounted: accounting uses no codes, and MS-CHAPv2 uses one a request and knows what some answers must be.
func TestShapesAreCounted(t *testing.T) {
	for i := range shapes {
		how := &shapes[i]
		c := testCrowd(t, 20, hotp)
		scripts, err := c.prepare(t.Context(), need{lanes: 2, want: 200, least: 20, shape: how}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		used := map[string]bool{}
		for lane := range scripts {
			s := &scripts[lane]
			for k := range s.len() {
				used[fmt.Sprint(s.who[k], s.step[k])] = true
			}
			s.sent = s.len()
			if want := (100 + successEvery - 1) / successEvery; how.name == "mschapv2" && len(s.success) != want || how.name != "mschapv2" && len(s.success) != 0 {
				t.Errorf("%s: %d answers are known", how.name, len(s.success))
			}
		}
		c.sent(scripts)
		want, last := 200, int64(14)
		if how.codeless {
			want, last = 20, 4
		}
		if len(used) != want || c.people[7].last != last {
			t.Errorf("%s: %d codes used, the last of one is %d: want %d and %d", how.name, len(used), c.people[7].last, want, last)
		}
	}
}

func TestChosen(t *testing.T) {
	for list, want := range map[string]string{
		"all": "true true chap mschapv2 radsec eap accounting", "pap": "true false", "eap, chap": "false false eap chap", "chap,pap,chap": "true false chap", "ssh": "false true",
	} {
		pap, others, withSSH, err := chosen(list)
		got := fmt.Sprint(pap, withSSH)
		for _, s := range others {
			got += " " + s.name
		}
		if err != nil || got != want {
			t.Errorf("%q: %s, %v: want %s", list, got, err, want)
		}
	}
	for _, bad := range []string{"", "chap,", "CHAP", "ftp"} {
		if _, _, _, err := chosen(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestStream: packets go over TLS and come back whole, however TCP and TLS cut them.
func TestStream(t *testing.T) {
	certs, err := makeCertificates(t.TempDir()+"/certificates", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(certs.serverCert, certs.serverKey)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: certs.pool})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- serveStream(t, listener) }()
	scripts := prepared(t, 1, 3000)
	g := generator{addr: listener.Addr().String(), secret: testSecret, strict: true, tls: certs.radsec(), patience: time.Minute}
	o, err := g.load(t.Context(), scripts, 64, 0, time.Minute, func() {}, func() {})
	if err != nil || o.total != scripts[0].sent || o.total < 2000 || o.counts.Rejected+o.counts.Bad+o.counts.Lost != 0 {
		t.Errorf("%d of %d answered, %+v, %v, %v", o.total, scripts[0].sent, o.counts, o.bad, err)
	}
	listener.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// serveStream answers what comes on one connection, in pieces that are no packets.
func serveStream(t *testing.T, listener net.Listener) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	var in, out []byte
	buf := make([]byte, 5000)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil // the bench has what it wanted
		}
		in = append(in, buf[:n]...)
		for len(in) >= headerLen {
			size := int(in[2])<<8 | int(in[3])
			if len(in) < size {
				break
			}
			out = append(out, respond(t, in[:size], radius.CodeAccessAccept, "first")...)
			in = in[size:]
		}
		for len(out) > 0 {
			n := min(len(out), 33)
			if _, err := conn.Write(out[:n]); err != nil {
				return err
			}
			out = out[n:]
		}
	}
}
