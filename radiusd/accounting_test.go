package radiusd

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"

	"sallyport/internal/audit"
	"sallyport/internal/journal"
	"sallyport/internal/login"
)

// accountant serves accounting beside the rig's socket, and returns a NAS's socket to it.
func (r *rig) accountant() *nas {
	r.t.Helper()
	conn := listen(r.t, "127.0.0.1:0")
	addr := conn.LocalAddr().(*net.UDPAddr)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.ServeAccounting(ctx, conn) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	client, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { client.Close() })
	return &nas{r.t, client, testSecret}
}

// account makes an Accounting-Request by layeh's codec.
func (n *nas) account(id byte, status uint32, session string, more ...field) []byte {
	p := radius.New(radius.CodeAccountingRequest, []byte(n.secret))
	p.Identifier = id
	p.Add(rfc2866.AcctStatusType_Type, radius.NewInteger(status))
	p.Add(rfc2866.AcctSessionID_Type, radius.Attribute(session))
	p.Add(rfc2865.UserName_Type, radius.Attribute("alice"))
	p.Add(rfc2865.NASIdentifier_Type, radius.Attribute("asa-1"))
	for _, a := range more {
		p.Add(a.Type, radius.Attribute(a.Value))
	}
	raw, err := p.Encode()
	if err != nil {
		n.t.Fatal(err)
	}
	return raw
}

// accounted sends a report and checks the answer, which is signed by its Response Authenticator alone (RFC 2866 section 3).
func (n *nas) accounted(raw []byte) {
	n.t.Helper()
	n.send(raw)
	n.acknowledged(raw, n.receive())
}

func (n *nas) acknowledged(request, answer []byte) *radius.Packet {
	n.t.Helper()
	p, err := radius.Parse(answer, []byte(n.secret))
	if err != nil || !radius.IsAuthenticResponse(answer, request, []byte(n.secret)) || p.Code != radius.CodeAccountingResponse || p.Identifier != request[1] {
		n.t.Fatalf("%v %x", err, answer)
	}
	if len(values(p, rfc2869.MessageAuthenticator_Type)) > 0 {
		n.t.Fatal("a Message-Authenticator, of which nobody knows how it is made")
	}
	return p
}

func number(v uint32) string { return string(binary.BigEndian.AppendUint32(nil, v)) }

var errEnd = errors.New("end")

// records are those with one of these events.
func (r *rig) records(events ...string) (all []audit.Record) {
	r.t.Helper()
	if err := r.log.Scan(0, func(rec *audit.Record, _ journal.Position) error {
		if slices.Contains(events, rec.Event) {
			all = append(all, *rec)
		}
		return nil
	}); err != nil && !errors.Is(err, errEnd) {
		r.t.Fatal(err)
	}
	return all
}

func detailOf(rec audit.Record, key string) string {
	for _, d := range rec.Detail {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}

// A session is followed from its start to its end, joined to its login by the Class that the Accept carried, with the
// bytes that it moved; each answer comes when the record is there (RFC 2866).
func TestAccounting(t *testing.T) {
	c := everybody(Code)
	c.SessionClass = true
	r := newRig(t, nil, c)
	n, acct := r.nas(), r.accountant()
	accept := n.ask(n.request(1, pap("alice", r.code())...))
	classes := values(accept, rfc2865.Class_Type)
	class := classes[len(classes)-1]
	logins := r.records("login")
	if len(classes) != 3 || class != classPrefix+logins[0].Attempt {
		t.Fatalf("classes %q, attempt %s", classes, logins[0].Attempt)
	}
	of := []field{{rfc2865.Class_Type, classes[0]}, {rfc2865.Class_Type, class}, {rfc2865.FramedIPAddress_Type, "\x0a\x01\x02\x03"}, {rfc2865.NASPort_Type, number(12)}}
	start := acct.account(1, 1, "0000A1", of...)
	acct.accounted(start)
	acct.accounted(start) // a resend
	if live := r.login.Sessions(); len(live) != 1 || live[0].Person != "alice" || live[0].Attempt != logins[0].Attempt || live[0].Get("framed_ip") != "10.1.2.3" {
		t.Errorf("live: %+v", live)
	}
	acct.accounted(acct.account(2, 3, "0000A1", field{rfc2866.AcctInputOctets_Type, number(7)}, field{rfc2866.AcctOutputOctets_Type, number(9)}))
	acct.accounted(acct.account(3, 2, "0000A1", append(of, field{rfc2866.AcctInputOctets_Type, number(5)}, field{rfc2869.AcctInputGigawords_Type, number(2)},
		field{rfc2866.AcctOutputOctets_Type, number(6)}, field{rfc2866.AcctTerminateCause_Type, number(1)}, field{rfc2866.AcctSessionTime_Type, number(3600)})...))
	recs := r.records("session.start", "session.update", "session.end")
	if len(recs) != 3 {
		t.Fatalf("%d records", len(recs))
	}
	for _, rec := range recs {
		if rec.Session != recs[0].Session || rec.Attempt != logins[0].Attempt || rec.Person != "alice" || rec.System != "vpn" || rec.Result != audit.Info {
			t.Errorf("%s", rec.AppendJSON(nil))
		}
	}
	end := recs[2]
	if end.Event != "session.end" || end.Reason != "user_request" || detailOf(end, "bytes_in") != "8589934597" || detailOf(end, "bytes_out") != "6" || detailOf(end, "seconds") != "3600" {
		t.Errorf("%s", end.AppendJSON(nil))
	}
	if live := r.login.Sessions(); len(live) != 0 {
		t.Errorf("live: %+v", live)
	}
	if p := acct.ask(acct.packet(radius.CodeStatusServer, 9)); p.Code != radius.CodeAccountingResponse { // RFC 5997 section 4.2
		t.Errorf("Status-Server is answered by %v", p.Code)
	}
}

// Without a Class the login is looked for by who and where.
func TestAccountingWithoutClass(t *testing.T) {
	asked := make(chan string, 4)
	r := newRig(t, func(o *Options) {
		o.FindLogin = func(_ context.Context, name, system string) string {
			asked <- name + " at " + system
			return "0192f5d0-0000-7000-8000-000000000001"
		}
	}, everybody(Code))
	acct := r.accountant()
	acct.accounted(acct.account(1, 1, "1"))
	acct.accounted(acct.account(2, 2, "1"))
	if got := <-asked; got != "alice at vpn" || len(asked) != 0 {
		t.Errorf("asked for %q, and %d more", got, len(asked))
	}
	recs := r.records("session.start", "session.end")
	if len(recs) != 2 || recs[0].Attempt != "0192f5d0-0000-7000-8000-000000000001" || recs[1].Attempt != recs[0].Attempt || detailOf(recs[0], "joined_by") == "" {
		t.Errorf("%+v", recs)
	}
}

// A NAS that starts again has no sessions.
func TestAccountingOn(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	acct := r.accountant()
	acct.accounted(acct.account(1, 1, "1"))
	acct.accounted(acct.account(2, 1, "2"))
	if n := len(r.login.Sessions()); n != 2 {
		t.Errorf("%d live", n)
	}
	acct.accounted(acct.account(3, 7, ""))
	if n := len(r.login.Sessions()); n != 0 || len(r.records("nas.on")) != 1 {
		t.Errorf("%d live", n)
	}
}

// What is not the client's, or not for this port, gets no answer; nor does a report that cannot be recorded (P3).
func TestAccountingRefused(t *testing.T) {
	r := newRig(t, nil, everybody(Code))
	n, acct := r.nas(), r.accountant()
	bad := acct.account(1, 1, "1")
	bad[4] ^= 1
	acct.send(bad)
	r.meter.await(t, "ma_bad", func(m *counter) bool { return m.drops["ma_bad"] == 1 })
	acct.send(acct.request(2, pap("alice", "000000")...))
	n.send(n.account(3, 1, "1"))
	r.meter.await(t, "unsupported_code", func(m *counter) bool { return m.drops["unsupported_code"] == 2 })

	signed := acct.account(4, 1, "1", field{rfc2869.MessageAuthenticator_Type, string(make([]byte, 16))}) // present, and wrong
	acct.send(signed)
	r.meter.await(t, "ma_bad", func(m *counter) bool { return m.drops["ma_bad"] == 2 })

	release := r.stall()
	acct.send(acct.account(5, 1, "1"))
	select {
	case <-r.received(acct):
		t.Error("answered before the record was durable")
	case <-time.After(20 * time.Millisecond): // the error above is what this would miss at worst
	}
	release()
}

// received is closed when something has come.
func (r *rig) received(n *nas) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		buf := make([]byte, 4096)
		if _, err := n.conn.Read(buf); err == nil {
			close(c)
		}
	}()
	return c
}

// A report's Authenticator is over all of it, so no octet of it can be changed.
func TestAccountingAuthenticator(t *testing.T) {
	n := &nas{t, nil, testSecret}
	raw := n.account(1, 1, "1")
	sum := md5.Sum(append(append(append([]byte{}, raw[:4]...), make([]byte, 16)...), append(append([]byte{}, raw[20:]...), testSecret...)...))
	if string(sum[:]) != string(raw[4:20]) {
		t.Error("the test's reports are not signed as RFC 2866 section 3 says")
	}
	if got := causeOf(1); got != login.Reason("user_request") {
		t.Errorf("%q", got)
	}
	if got := causeOf(99); got != login.Reason("cause_99") {
		t.Errorf("%q", got)
	}
}
