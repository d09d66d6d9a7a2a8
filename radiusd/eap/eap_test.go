package eap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// judge knows a password; with then, it has a further question behind it.
type judge struct {
	password, then string
	asked          []Question
	accepted       int
}

func (j *judge) Answer(_ context.Context, about Question, typed string) Verdict {
	j.asked = append(j.asked, about)
	switch {
	case about.Step == 1 && j.then != "" && typed == j.then, typed == j.password && j.then == "":
		j.accepted++
		return Accept()
	case about.Step == 0 && j.then != "" && typed == j.password:
		return Ask("Code: ")
	default:
		return Reject()
	}
}

func (j *judge) ProveMSCHAPv2(_ context.Context, about Question, proof *MSCHAPv2Proof) Verdict {
	j.asked = append(j.asked, about)
	if !proof.Proves(j.password) {
		return Reject()
	}
	j.accepted++
	return Accept()
}

func certificate(t testing.TB) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"radius.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}
}

func server(t testing.TB, methods ...Method) *Server {
	t.Helper()
	s, err := NewServer(Options{Methods: methods, ExposeCodesWithoutTunnel: true, GetCertificate: certificate(t)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// talk is a conversation and its peer's side of numbering.
type talk struct {
	t    *testing.T
	c    *Conversation
	last Step
	id   byte
}

func begin(t *testing.T, s *Server, j Judge) *talk {
	c := s.Begin(j)
	t.Cleanup(c.Close)
	return &talk{t: t, c: c, id: 1}
}

// say answers the open request.
func (k *talk) say(body ...byte) Step {
	k.last = k.c.Next(k.t.Context(), build(codeResponse, k.id, body))
	if k.last.Out != nil {
		k.id = k.last.Out[1]
	}
	return k.last
}

func identity(name string) []byte { return append([]byte{typeIdentity}, name...) }

// wantEnd wants a failure, told to the peer as nothing but that, and its reason.
func wantEnd(t *testing.T, s Step, why Reason) {
	t.Helper()
	if !s.Done || s.Success || s.Reason != why || len(s.Out) != headerSize || s.Out[0] != codeFailure {
		t.Errorf("%+v, want a failure by %s", s, why)
	}
}

func wantIgnored(t *testing.T, s Step, why Reason) {
	t.Helper()
	if !s.Ignored || s.Done || s.Reason != why {
		t.Errorf("%+v, want it ignored by %s", s, why)
	}
}

func TestGTC(t *testing.T) {
	s := server(t, GTC)
	j := &judge{password: "open sesame", then: "123456"}
	k := begin(t, s, j)
	k.say(identity("alice")...)
	if got := string(k.last.Out[5:]); k.last.Out[4] != typeGTC || got != defaultPrompt {
		t.Errorf("asked %q", got)
	}
	k.say(append([]byte{typeGTC}, "open sesame\x00\x00"...)...)
	if got := string(k.last.Out[5:]); got != "Code: " {
		t.Errorf("asked %q", got)
	}
	k.say(append([]byte{typeGTC}, "123456"...)...)
	if !k.last.Done || !k.last.Success || k.last.Identity != "alice" || k.last.Method != GTC || k.c.MSK() != nil {
		t.Errorf("%+v", k.last)
	}
	wantIgnored(t, k.say(identity("alice")...), Over)
	k.c.Close()
	wantIgnored(t, k.say(identity("alice")...), Closed)

	k = begin(t, s, &judge{password: "open sesame"})
	k.say(identity("alice")...)
	wantEnd(t, k.say(append([]byte{typeGTC}, "guess"...)...), JudgeRejected)
	k = begin(t, s, &judge{password: "open sesame"})
	k.say(identity("alice")...)
	wantEnd(t, k.say(append([]byte{typeGTC}, strings.Repeat("x", maxTyped+1)...)...), InnerMalformed)
}

// What is no answer to what was asked changes nothing; what cannot be the beginning is the end.
func TestPackets(t *testing.T) {
	s := server(t, GTC)
	for name, b := range map[string][]byte{
		"short": {2, 1, 0}, "length beyond": {2, 1, 0, 9, 1}, "no type": {2, 1, 0, 4}, "a request": {1, 1, 0, 5, 1}, "a success": {3, 1, 0, 4}, "of no code": {9, 1, 0, 5, 1}, "empty": {},
	} {
		t.Run(name, func(t *testing.T) {
			k := begin(t, s, &judge{})
			if step := k.c.Next(t.Context(), b); !step.Ignored || step.Reason != BadPacket || step.Out != nil {
				t.Errorf("%+v", step)
			}
		})
	}
	for name, c := range map[string]struct {
		body []byte
		why  Reason
	}{
		"no identity":                   {[]byte{typeGTC, 'x'}, NoIdentity},
		"an empty identity":             {identity(""), BadIdentity},
		"a long identity":               {identity(strings.Repeat("x", maxIdentity+1)), BadIdentity},
		"a zero in it":                  {identity("al\x00ice"), BadIdentity},
		"a Nak instead of the identity": {[]byte{typeNak, typeGTC}, NoIdentity},
	} {
		t.Run(name, func(t *testing.T) { wantEnd(t, begin(t, s, &judge{}).say(c.body...), c.why) })
	}
	k := begin(t, s, &judge{password: "x"})
	k.say(identity("alice")...)
	open := k.last.Out
	for _, id := range []byte{k.id - 1, k.id + 1} {
		step := k.c.Next(t.Context(), build(codeResponse, id, []byte{typeGTC, 'x'}))
		wantIgnored(t, step, Stale)
		if !slices.Equal(step.Out, open) {
			t.Error("the open request is not repeated")
		}
	}
	wantIgnored(t, k.say(typeTTLS, 0), Unexpected)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	wantIgnored(t, k.c.Next(canceled, build(codeResponse, k.id, []byte{typeGTC, 'x'})), Canceled)
	if k.say(typeGTC, 'x'); !k.last.Success {
		t.Errorf("%+v", k.last)
	}
}

func TestNak(t *testing.T) {
	s := server(t, PEAP, TTLS, GTC)
	k := begin(t, s, &judge{password: "x"})
	k.say(identity("alice")...)
	if k.last.Out[4] != typePEAP || k.last.Method != PEAP {
		t.Fatalf("%x", k.last.Out)
	}
	k.say(typeNak, 99, typePEAP, typeTTLS)
	if k.last.Out[4] != typeTTLS {
		t.Fatalf("%x", k.last.Out)
	}
	k.say(typeNak, typeGTC)
	k.say(typeGTC, 'x')
	if !k.last.Success || k.last.Identity != "alice" {
		t.Errorf("%+v", k.last)
	}
	for _, wanted := range [][]byte{{}, {0}, {99}, {typePEAP}} {
		k = begin(t, s, &judge{})
		k.say(identity("alice")...)
		wantEnd(t, k.say(append([]byte{typeNak}, wanted...)...), NoCommonMethod)
	}
}

// A success that no judge gave, a question where none can be put, questions without end.
func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		verdict Verdict
		method  Method
		why     Reason
	}{
		"the zero verdict":   {Verdict{}, GTC, JudgeRejected},
		"asks for ever":      {Ask("more"), GTC, TooManyQuestions},
		"accepts unproved":   {Accept(), MSCHAPv2, JudgeUnproved},
		"asks where none is": {Ask("more"), MSCHAPv2, JudgeUnaskable},
	} {
		t.Run(name, func(t *testing.T) {
			k := begin(t, server(t, c.method), fixed(c.verdict))
			k.say(identity("alice")...)
			for range maxRounds {
				if k.last.Done {
					break
				}
				if c.method == GTC {
					k.say(typeGTC, 'x')
					continue
				}
				body := append([]byte{typeMSCHAPv2, opResponse, msID, 0, 5 + 49 + 4, msValueSize}, make([]byte, msValueSize)...)
				body[4] = byte(len(body) + len("alice") - 1)
				k.say(append(body, "alice"...)...)
			}
			wantEnd(t, k.last, c.why)
		})
	}
}

type fixed Verdict

func (f fixed) Answer(context.Context, Question, string) Verdict { return Verdict(f) }
func (f fixed) ProveMSCHAPv2(context.Context, Question, *MSCHAPv2Proof) Verdict {
	return Verdict(f)
}

// P7: whatever is sent as TLS in fragments has a bound, and a reason.
func TestFragments(t *testing.T) {
	s := server(t, TTLS)
	long := func(total int, flags byte, n int) []byte {
		b := binary.BigEndian.AppendUint32([]byte{typeTTLS, flagLength | flags}, uint32(total))
		return append(b, make([]byte, n)...)
	}
	for name, c := range map[string]struct {
		say [][]byte
		why Reason
	}{
		"no flags":                 {[][]byte{{typeTTLS}}, FragmentBad},
		"a start of the peer's":    {[][]byte{{typeTTLS, flagStart, 1}}, FragmentBad},
		"version 1":                {[][]byte{{typeTTLS, 1, 1}}, BadVersion},
		"half a length":            {[][]byte{{typeTTLS, flagLength, 0, 0}}, FragmentBad},
		"a length beyond bounds":   {[][]byte{long(maxMessage+1, flagMore, 10)}, FragmentOverflow},
		"4 GB":                     {[][]byte{long(1<<32-1, flagMore, 10)}, FragmentOverflow},
		"more than it said":        {[][]byte{long(10, 0, 11)}, FragmentOverflow},
		"less than it said":        {[][]byte{long(10, 0, 9)}, FragmentBad},
		"another length later":     {[][]byte{long(100, flagMore, 10), long(99, flagMore, 10)}, FragmentBad},
		"a length only later":      {[][]byte{{typeTTLS, flagMore, 1}, long(99, flagMore, 10)}, FragmentBad},
		"a fragment of nothing":    {[][]byte{{typeTTLS, flagMore}}, FragmentBad},
		"an acknowledgement first": {[][]byte{{typeTTLS, 0}}, FragmentOrder},
		"not TLS":                  {[][]byte{append([]byte{typeTTLS, 0}, "GET / HTTP/1.1\r\n\r\n"...)}, TLSHandshake},
		"an alert":                 {[][]byte{{typeTTLS, 0, 21, 3, 3, 0, 2, 2, 48}}, TLSAlert},
	} {
		t.Run(name, func(t *testing.T) {
			k := begin(t, s, &judge{})
			k.say(identity("alice")...)
			for _, body := range c.say {
				k.say(body...)
			}
			wantEnd(t, k.last, c.why)
		})
	}
	t.Run("without end", func(t *testing.T) {
		k := begin(t, s, &judge{})
		k.say(identity("alice")...)
		for range maxRounds + 1 {
			if k.last.Done {
				break
			}
			k.say(append([]byte{typeTTLS, flagMore}, 0x16)...)
		}
		wantEnd(t, k.last, TooManyRounds)
	})
	t.Run("a handshake without end", func(t *testing.T) {
		k := begin(t, s, &judge{})
		k.say(identity("alice")...)
		// A ClientHello that says it has 60,000 octets, in records of 16,000.
		record := append([]byte{22, 3, 1, 0x3e, 0x80, 1, 0, 0xea, 0x60}, make([]byte, 16000-4)...)
		k.last = k.c.Next(t.Context(), build(codeResponse, k.id, append([]byte{typeTTLS, 0}, record...)))
		if !k.last.Done {
			t.Errorf("%+v", k.last)
		}
	})
}

// within has what is in a tunnel hear plain octets, without TLS.
func within(t *testing.T, kind Method, j Judge) *tunnel {
	t.Helper()
	q := &inquiry{judge: j}
	q.about.Method = kind
	return newTunnel(server(t, kind), q, kind)
}

func avpOf(code uint32, flags byte, vendor uint32, value string) []byte {
	n := avpHeader + len(value)
	if flags&avpVendor != 0 {
		n += avpVendorAdd
	}
	b := binary.BigEndian.AppendUint32(nil, code)
	b = binary.BigEndian.AppendUint32(b, uint32(flags)<<24|uint32(n))
	if flags&avpVendor != 0 {
		b = binary.BigEndian.AppendUint32(b, vendor)
	}
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestTTLSInside(t *testing.T) {
	name, right := avpOf(avpUserName, avpMandatory, 0, "alice"), avpOf(avpPassword, avpMandatory, 0, "open sesame\x00\x00\x00\x00\x00")
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	for what, c := range map[string]struct {
		plain []byte
		why   Reason // empty: accepted
	}{
		"right":                     {join(name, right), ""},
		"unknown, may be skipped":   {join(avpOf(999, 0, 0, "x"), name, right), ""},
		"a vendor's, with our code": {join(avpOf(avpUserName, avpVendor, 311, "mallory"), name, right), ""},
		"unknown, must be known":    {join(avpOf(999, avpMandatory, 0, "x"), name, right), InnerMandatory},
		"MS-CHAP":                   {join(name, avpOf(25, avpMandatory|avpVendor, 311, "x")), InnerMandatory},
		"wrong":                     {join(name, avpOf(avpPassword, 0, 0, "guess")), JudgeRejected},
		"two names":                 {join(name, avpOf(avpUserName, 0, 0, "bob"), right), InnerMalformed},
		"two passwords":             {join(name, right, right), InnerMalformed},
		"no name":                   {right, InnerMalformed},
		"no password":               {name, InnerMalformed},
		"an empty name":             {join(avpOf(avpUserName, 0, 0, ""), right), BadIdentity},
		"a long password":           {join(name, avpOf(avpPassword, 0, 0, strings.Repeat("x", maxTyped+1))), InnerMalformed},
		"a length beyond":           {[]byte{0, 0, 0, 1, 0x40, 0, 0, 99, 'x'}, InnerMalformed},
		"a length below":            {[]byte{0, 0, 0, 1, 0x40, 0, 0, 7}, InnerMalformed},
		"half a header":             {[]byte{0, 0, 0, 1}, InnerMalformed},
		"too many":                  {join(slices.Repeat(avpOf(999, 0, 0, ""), maxAVPs+1)), InnerMalformed},
		"EAP that is none":          {avpOf(avpEAP, avpMandatory, 0, "xx"), InnerMalformed},
	} {
		t.Run(what, func(t *testing.T) {
			j := &judge{password: "open sesame"}
			got := within(t, TTLS, j).within.hear(t.Context(), c.plain)
			if got.passed() != (c.why == "") || got.why != c.why {
				t.Errorf("%+v", got)
			}
			for _, about := range j.asked {
				if about.Identity != "alice" || about.Inner != PAP || about.Askable {
					t.Errorf("%+v", about)
				}
			}
		})
	}
	t.Run("nothing, twice", func(t *testing.T) {
		in := within(t, TTLS, &judge{}).within
		if got := in.hear(t.Context(), nil); got.progress != going || got.send != nil {
			t.Errorf("%+v", got)
		}
		if got := in.hear(t.Context(), nil); got.why != InnerEmpty {
			t.Errorf("%+v", got)
		}
	})
	t.Run("PAP in the middle of EAP", func(t *testing.T) {
		in := within(t, TTLS, &judge{password: "open sesame"}).within
		in.hear(t.Context(), avpOf(avpEAP, 0, 0, string(build(codeResponse, 0, identity("alice")))))
		if got := in.hear(t.Context(), join(name, right)); got.why != InnerMalformed {
			t.Errorf("%+v", got)
		}
	})
}

func TestPEAPInside(t *testing.T) {
	ctx := t.Context()
	result := func(status byte) []byte {
		return build(codeResponse, 9, []byte{typeTLV, 0x80, tlvResult, 0, 2, 0, status})
	}
	for what, c := range map[string]struct {
		typed string
		last  []byte
		why   Reason // empty: accepted
	}{
		"both succeed":           {"x", result(resultSuccess), ""},
		"the peer disagrees":     {"x", result(resultFailure), PeerRefused},
		"no result":              {"x", build(codeResponse, 9, []byte{typeTLV}), PeerResult},
		"of no meaning":          {"x", result(7), PeerResult},
		"cut off":                {"x", build(codeResponse, 9, []byte{typeTLV, 0x80, tlvResult, 0}), PeerResult},
		"a Nak TLV":              {"x", build(codeResponse, 9, []byte{typeTLV, 0x80, tlvNak, 0, 0}), PeerRefused},
		"another that must":      {"x", build(codeResponse, 9, []byte{typeTLV, 0x80, 77, 0, 0}), InnerMandatory},
		"GTC again":              {"x", []byte{typeGTC, 'x'}, PeerResult},
		"rejected, peer says ok": {"guess", result(resultSuccess), JudgeRejected},
		"nothing":                {"x", nil, InnerEmpty},
	} {
		t.Run(what, func(t *testing.T) {
			in := within(t, PEAP, &judge{password: "x"}).within
			if got := in.hear(ctx, nil); !slices.Equal(got.send, []byte{typeIdentity}) {
				t.Fatalf("%+v", got)
			}
			if got := in.hear(ctx, identity("alice")); got.progress != going || got.send[0] != typeGTC {
				t.Fatalf("%+v", got)
			}
			got := in.hear(ctx, append([]byte{typeGTC}, c.typed...))
			if want := map[bool]byte{true: resultSuccess, false: resultFailure}[c.typed == "x"]; got.progress != going || got.send[len(got.send)-1] != want {
				t.Fatalf("%+v", got)
			}
			got = in.hear(ctx, c.last)
			if got.passed() != (c.why == "") || got.why != c.why {
				t.Errorf("%+v", got)
			}
		})
	}
	in := within(t, PEAP, &judge{}).within
	if got := in.hear(ctx, identity("alice")); got.why != InnerMalformed {
		t.Errorf("unasked: %+v", got)
	}
}

// EAP-MSCHAPv2 hears whom the response names, and not somebody else.
func TestNameMismatch(t *testing.T) {
	k := begin(t, server(t, MSCHAPv2), fixed(Accept()))
	k.say(identity(`TRUST\alice`)...)
	body := append([]byte{typeMSCHAPv2, opResponse, msID, 0, 0, msValueSize}, make([]byte, msValueSize)...)
	body = append(body, "bob"...)
	body[4] = byte(len(body) - 1)
	k.say(body...)
	if k.last.Done || k.last.Out[5] != opFailure {
		t.Fatalf("%+v", k.last)
	}
	wantEnd(t, k.say(typeMSCHAPv2, opFailure), NameMismatch)
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no methods":       {},
		"twice":            {Methods: []Method{TTLS, TTLS}},
		"codes in clear":   {Methods: []Method{GTC}},
		"PAP alone":        {Methods: []Method{PAP}, ExposeCodesWithoutTunnel: true},
		"no certificate":   {Methods: []Method{TTLS}},
		"PEAP with PAP":    {Methods: []Method{PEAP}, Inner: []Method{PAP}, GetCertificate: certificate(t)},
		"inner tunnel":     {Methods: []Method{TTLS}, Inner: []Method{PEAP}, GetCertificate: certificate(t)},
		"tiny fragments":   {Methods: []Method{TTLS}, Fragment: 10, GetCertificate: certificate(t)},
		"inner named anew": {Methods: []Method{TTLS}, Inner: []Method{PAP, PAP}, GetCertificate: certificate(t)},
	} {
		if _, err := NewServer(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzConversation: whatever a peer says, nobody gets in whom the judge did not accept, and nothing is left over.
func FuzzConversation(f *testing.F) {
	s := server(f, PEAP, TTLS, MSCHAPv2, GTC)
	f.Add([]byte("\x06\x01alice\x02\x03\x06\x02\x06x"))
	f.Add([]byte("\x06\x01alice\x03\x03\x15\x19\x04\x15\x00\x16\x03"))
	f.Add([]byte("\x06\x01alice\x06\x19\x80\x00\x00\x00\x01x\x02\x19\x40"))
	f.Fuzz(func(t *testing.T, script []byte) {
		j := &judge{password: "x"}
		c := s.Begin(j)
		defer c.Close()
		id := byte(0)
		for len(script) > 0 {
			n := min(int(script[0]), len(script)-1)
			step := c.Next(t.Context(), build(codeResponse, id, script[1:1+n]))
			script = script[1+n:]
			if step.Success && j.accepted == 0 {
				t.Fatal("a success that nobody gave")
			}
			if step.Out == nil && !step.Ignored {
				t.Fatalf("%+v", step)
			}
			if step.Out != nil {
				if p, ok := parse(step.Out); !ok || len(p.whole) != len(step.Out) {
					t.Fatalf("sends %x", step.Out)
				}
				id = step.Out[1]
			}
		}
	})
}

// FuzzAVPs: what is found lies within the message, and the same message has the same meaning.
func FuzzAVPs(f *testing.F) {
	f.Add(slices.Concat(avpOf(1, 0x40, 0, "alice"), avpOf(2, 0x40, 0, "x"), avpOf(79, 0x40, 0, "eap")))
	f.Add(avpOf(25, 0xc0, 311, "response"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, why := parseAVPs(b)
		if why == "" && len(a.name)+len(a.password)+len(a.eap) > len(b) {
			t.Fatal("found more than there was")
		}
		if why == "" && len(b)%4 == 0 {
			if _, again := parseAVPs(slices.Concat(b, avpOf(999, 0, 0, ""))); again != "" && len(b)/avpHeader < maxAVPs {
				t.Fatalf("another that may be skipped changes it: %s", again)
			}
		}
	})
}
