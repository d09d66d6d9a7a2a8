package radiusd

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/internal/seal"
	"sallyport/radiusd/wire"
)

// stream is a connection whose other side has said all that it will.
type stream struct {
	io.Reader
	said bytes.Buffer
}

func (s *stream) Write(b []byte) (int, error)        { return s.said.Write(b) }
func (s *stream) Close() error                       { return nil }
func (s *stream) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (s *stream) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (s *stream) SetDeadline(time.Time) error        { return nil }
func (s *stream) SetReadDeadline(t time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(t time.Time) error { return nil }

// FuzzFrames feeds what comes through TLS: whatever its lengths say, and whatever stands in CHAP, MS-CHAP and vendors'
// attributes, it ends, nothing panics, and what is answered is whole packets.
func FuzzFrames(f *testing.F) {
	ring, err := seal.Create(f.TempDir()+"/ring", noon)
	if err != nil {
		f.Fatal(err)
	}
	s := NewServer(Options{Gate: nothing{}, Box: ring.Box("radius-state"), Now: newFrozen(), Log: newQuiet()})
	client := everybody(Code)
	client.Certificate, client.Prefix = "nas.example.org", netip.Prefix{}
	if err := s.SetConfig(&Config{Clients: []Client{client}}); err != nil {
		f.Fatal(err)
	}
	n := &nas{nil, nil, tlsSecret}
	packet := func(attrs ...field) []byte {
		p := radius.New(radius.CodeAccessRequest, []byte(n.secret))
		p.Add(rfc2865.UserName_Type, radius.Attribute("alice"))
		for _, a := range attrs {
			p.Add(a.Type, radius.Attribute(a.Value))
		}
		raw, err := p.Encode()
		if err != nil {
			f.Fatal(err)
		}
		return raw
	}
	chap := packet(field{rfc2865.CHAPPassword_Type, "\x0712345678901234567"})
	ms := packet(microsoft(11, msChallengeValue), microsoft(25, string(make([]byte, 50))))
	for _, plain := range []bool{false, true} {
		f.Add(slices.Concat(chap, ms), plain)
		f.Add(ms[:len(ms)-1], plain)
		f.Add([]byte{1, 0, 0, 19, 0}, plain)
		f.Add([]byte{1, 0, 0xff, 0xff}, plain)
		f.Add(append(slices.Clone(chap), 12, 0, 0, 20), plain)
	}
	f.Fuzz(func(t *testing.T, b []byte, plain bool) {
		conn := &stream{Reader: bytes.NewReader(b)}
		road := &tlsRoad{conn: conn, from: netip.MustParseAddrPort("192.0.2.1:1"), patience: time.Second, failed: func(error) {}}
		road.carried.serves, road.carried.slots = authentication|accounting, make(chan struct{}, maxOutstanding)
		road.carried.ctx = t.Context()
		q := newQueue(1, 1, s.handle)
		reader := &tlsReader{
			batch: batch{Server: s, road: road, queue: q, tools: s.tools.Get().(*toolbox)}, road: road,
			in: bufio.NewReaderSize(conn, tlsBuffer), name: client.Name, plain: plain,
		}
		_, _ = reader.run(t.Context())
		road.carried.pending.Wait()
		q.close()
		if n := s.settings.Load().list[0].tally.drops[dropPanic].n.Load(); n != 0 {
			t.Fatal("it panicked")
		}
		for out := conn.said.Bytes(); len(out) > 0; {
			whole, why := wire.Header(out)
			if why != wire.None {
				t.Fatalf("answered with %x: %v", out, why)
			}
			out = out[len(whole):]
		}
	})
}
