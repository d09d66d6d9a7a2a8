package directory

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// fake is an LDAP server that does what a test says, and remembers what it was asked.
type fake struct {
	url string
	o   fakeOptions

	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]int // numbered in the order in which they came
	count int
	ops   []operation
}

// fakeOptions are the knobs; what is nil does what a small directory does in which everybody's password is right.
type fakeOptions struct {
	cert     *tls.Certificate
	accepted func(c net.Conn) (done bool)       // before anything is read
	raw      func(c net.Conn, o operation) bool // instead of an answer; true: it was given
	startTLS func(id int64) (code uint16, diagnostic string)
	bind     func(o operation) (code uint16, diagnostic string)
	search   func(o operation) (entries []entry, code uint16)
}

// operation is one request.
type operation struct {
	conn     int
	id       int64
	kind     string // bind, search, starttls, ...
	dn       string // the name of a bind, the base of a search
	password string
	filter   string
	scope    int64
	limit    int64
}

func startFake(t *testing.T, o fakeOptions) *fake {
	t.Helper()
	f := &fake{o: o, conns: make(map[net.Conn]int)}
	var err error
	if f.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	f.url = "ldap://" + f.listener.Addr().String()
	if o.cert != nil {
		f.listener = tls.NewListener(f.listener, &tls.Config{Certificates: []tls.Certificate{*o.cert}})
		f.url = "ldaps://" + f.listener.Addr().String()
	}
	f.work.Go(func() {
		for {
			c, err := f.listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.count++
			f.conns[c] = f.count
			f.mu.Unlock()
			f.work.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(f.stop)
	return f
}

func (f *fake) stop() {
	_ = f.listener.Close()
	f.cut()
	f.work.Wait()
}

// cut closes all connections.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Close()
	}
}

func (f *fake) operations() []operation {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]operation(nil), f.ops...)
}

// connections returns how many there were.
func (f *fake) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

func (f *fake) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	}()
	if f.o.accepted != nil && f.o.accepted(c) {
		return
	}
	for {
		p, err := ber.ReadPacket(c)
		if err != nil || len(p.Children) < 2 {
			return
		}
		o := read(p)
		f.mu.Lock()
		o.conn = f.conns[c]
		f.ops = append(f.ops, o)
		f.mu.Unlock()
		if f.o.raw != nil && f.o.raw(c, o) {
			continue
		}
		if _, err := c.Write(f.answer(o)); err != nil {
			return
		}
	}
}

func read(p *ber.Packet) operation {
	o := operation{id: p.Children[0].Value.(int64)}
	r := p.Children[1]
	switch r.Tag {
	case ldap.ApplicationBindRequest:
		o.kind, o.dn, o.password = "bind", r.Children[1].Value.(string), r.Children[2].Data.String()
	case ldap.ApplicationSearchRequest:
		o.kind, o.dn, o.scope, o.limit = "search", r.Children[0].Value.(string), r.Children[1].Value.(int64), r.Children[3].Value.(int64)
		o.filter, _ = ldap.DecompileFilter(r.Children[6])
	case ldap.ApplicationExtendedRequest:
		o.kind = "starttls"
	default:
		o.kind = r.Description
	}
	return o
}

func (f *fake) answer(o operation) []byte {
	switch o.kind {
	case "bind":
		var code uint16
		var diagnostic string
		if f.o.bind != nil {
			code, diagnostic = f.o.bind(o)
		}
		return done(o.id, ldap.ApplicationBindResponse, code, diagnostic)
	case "starttls":
		code, diagnostic := f.o.startTLS(o.id)
		return done(o.id, ldap.ApplicationExtendedResponse, code, diagnostic)
	case "search":
		var entries []entry
		var code uint16
		if f.o.search != nil {
			entries, code = f.o.search(o)
		}
		var all []byte
		for _, e := range entries {
			all = append(all, found(o.id, e)...)
		}
		return append(all, done(o.id, ldap.ApplicationSearchResultDone, code, "")...)
	}
	return nil
}

func message(id int64, op *ber.Packet) []byte {
	p := ber.NewSequence("message")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	p.AppendChild(op)
	return p.Bytes()
}

func text(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

// done is an LDAPResult (RFC 4511 section 4.1.9).
func done(id int64, tag ber.Tag, code uint16, diagnostic string) []byte {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, int64(code), ""))
	op.AppendChild(text(""))
	op.AppendChild(text(diagnostic))
	return message(id, op)
}

// found is a SearchResultEntry.
func found(id int64, e entry) []byte {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
	op.AppendChild(text(e.dn))
	attributes := ber.NewSequence("")
	for name, values := range e.attributes {
		a := ber.NewSequence("")
		a.AppendChild(text(name))
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		for _, v := range values {
			set.AppendChild(text(v))
		}
		a.AppendChild(set)
		attributes.AppendChild(a)
	}
	op.AppendChild(attributes)
	return message(id, op)
}

// proxy passes connections on, and can cut them: what a restart of the server, or a firewall, does.
type proxy struct {
	address string
	to      string

	listener net.Listener
	work     sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: l.Addr().String(), to: to, listener: l}
	p.work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", p.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				p.work.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
