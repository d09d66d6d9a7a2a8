package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// maxAnswer bounds, in bytes, what one answer may bring, with all its entries. A thousand groups with long names are a
// quarter of it. It also bounds memory, which BER in small pieces can blow up a hundredfold.
const maxAnswer = 1 << 20

// capabilityAD is in the supportedCapabilities of every Active Directory (MS-ADTS section 3.1.1.3.4.3.1).
const capabilityAD = "1.2.840.113556.1.4.800"

// oidStartTLS names the extended operation (RFC 4511 section 4.14.1).
const oidStartTLS = "1.3.6.1.4.1.1466.20037"

// errWithheld is in the place of a server's words that repeat a password.
var errWithheld = errors.New("its words are withheld: the password is among them")

// line is a connection that counts what it receives, and remembers why it broke: go-ldap keeps only the words.
type line struct {
	net.Conn
	left   atomic.Int64 // bytes that may still come
	broken atomic.Pointer[error]
}

func (l *line) Read(p []byte) (int, error) {
	left := l.left.Load()
	if left <= 0 {
		l.breaks(errTooLarge)
		return 0, errTooLarge
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := l.Conn.Read(p)
	l.left.Add(-int64(n))
	if err != nil {
		l.breaks(err)
	}
	return n, err
}

func (l *line) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	if err != nil {
		l.breaks(err)
	}
	return n, err
}

func (l *line) breaks(err error) { l.broken.CompareAndSwap(nil, &err) }

// failure returns why the line broke, or nil.
func (l *line) failure() error {
	if err := l.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// conn is a connection to a server. One caller uses it at a time.
type conn struct {
	ldap *ldap.Conn
	line *line
	raw  net.Conn // below TLS

	// Of connections in the pool.
	ad         bool // the server says that it is Active Directory
	made, used time.Time

	spoilt bool // it must not be used again
}

// dial connects, with TLS as the server's URL says. Everything ends when ctx does.
func (d *Directory) dial(ctx context.Context, s *server) (*conn, error) {
	raw, err := d.dialer.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, connecting(ctx, err)
	}
	stop := limit(ctx, raw)
	talk := raw
	if s.startTLS {
		err = startTLS(raw)
	}
	if err == nil && s.tls != nil {
		secure := tls.Client(raw, s.tls)
		err = secure.HandshakeContext(ctx)
		talk = secure
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = raw.Close()
		if asResult(err) != nil {
			return nil, &fault{err: fmt.Errorf("StartTLS: %w", err), hint: "use an ldaps:// URL, or give the server a certificate", aside: asideFor}
		}
		return nil, connecting(ctx, err)
	}
	c := &conn{line: &line{Conn: talk}, raw: raw}
	c.line.left.Store(maxAnswer)
	c.ldap = ldap.NewConn(c.line, s.tls != nil)
	// The line's deadline ends every request before this does; it keeps go-ldap's own waits from being endless.
	c.ldap.SetTimeout(2 * d.o.Timeout)
	c.ldap.Start()
	return c, nil
}

// limit makes reads and writes end when ctx does. stop takes the limit away, and reports whether ctx still stood.
func limit(ctx context.Context, c net.Conn) (stop func() bool) {
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	unhook := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return func() bool {
		if !unhook() {
			return false
		}
		_ = c.SetDeadline(time.Time{})
		return true
	}
}

// maxStartTLS bounds, in bytes, the answer to StartTLS.
const maxStartTLS = 4096

// startTLS asks for TLS before anything else is said. It reads the answer unbuffered: what somebody on the way adds to
// it reaches the handshake and breaks that, instead of being taken for an answer from inside.
func startTLS(c net.Conn) error {
	ask := ber.NewSequence("LDAPMessage")
	ask.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 1, "messageID"))
	request := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationExtendedRequest, nil, "ExtendedRequest")
	request.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, oidStartTLS, "requestName"))
	ask.AppendChild(request)
	if _, err := c.Write(ask.Bytes()); err != nil {
		return err
	}
	answer, err := ber.ReadPacket(io.LimitReader(c, maxStartTLS))
	if err != nil {
		return fmt.Errorf("answer to StartTLS: %w", err)
	}
	if len(answer.Children) < 2 || answer.Children[1].Tag != ldap.ApplicationExtendedResponse {
		return errors.New("answer to StartTLS: it is something else")
	}
	err = ldap.GetLDAPError(answer)
	var e *ldap.Error
	if errors.As(err, &e) && e.ResultCode <= lastResult {
		return resultOf(e)
	}
	return err
}

// shut closes c. A connection that is spoilt may be stuck in a write, which go-ldap would wait for.
func (c *conn) shut() {
	if c.spoilt {
		_ = c.raw.Close()
	}
	_ = c.ldap.Close()
}

// ask runs one request within ctx and the bounds of an answer. Its error is a *result, when the server has answered and
// the connection is in order, or else a *fault or unusable, when the connection is not to be used again.
func (c *conn) ask(ctx context.Context, request func() error) error {
	c.line.left.Store(maxAnswer)
	stop := limit(ctx, c.line)
	err := request()
	if !stop() {
		c.spoilt = true
	}
	if errors.Is(err, ldap.ErrSizeLimitExceeded) {
		c.spoilt = true // the rest is still coming
		return &result{code: ldap.LDAPResultSizeLimitExceeded}
	}
	if err == nil {
		return nil
	}
	err = failed(ctx, c.line, err)
	if asResult(err) == nil {
		c.spoilt = true
	}
	return err
}

// search asks for entries, at most r.SizeLimit; more says that there are more. Continuation references, which Active
// Directory adds to every search at a domain's root, are left alone: what is there is not in this directory.
func (c *conn) search(ctx context.Context, r *ldap.SearchRequest) (entries []*ldap.Entry, more bool, err error) {
	r.EnforceSizeLimit = true // a server may send what it likes
	r.DerefAliases = ldap.NeverDerefAliases
	err = c.ask(ctx, func() error {
		found, err := c.ldap.Search(r)
		if found != nil {
			entries = found.Entries
		}
		return err
	})
	if r := asResult(err); r != nil && r.code == ldap.LDAPResultSizeLimitExceeded {
		more, err = true, nil
	}
	if err != nil {
		return nil, false, err
	}
	return entries, more, nil
}

// bind proves name and password, on a connection that nothing else uses.
func (c *conn) bind(ctx context.Context, name, password string, controls ...ldap.Control) (answered []ldap.Control, err error) {
	if name == "" || password == "" {
		// Such a bind counts as anonymous, and succeeds (RFC 4513 section 5.1).
		return nil, unusable{errors.New("a bind without a name or without a password proves nothing"), ""}
	}
	err = c.ask(ctx, func() error {
		answer, err := c.ldap.SimpleBind(ldap.NewSimpleBindRequest(name, password, controls))
		if answer != nil {
			answered = answer.Controls
		}
		var e *ldap.Error
		if errors.As(err, &e) && e.Err != nil && strings.Contains(e.Err.Error(), password) {
			return ldap.NewError(e.ResultCode, errWithheld) // P9
		}
		return err
	})
	return answered, err
}

// root reads an attribute of the root DSE (RFC 4512 section 5.1). A server that does not let us has answered all the
// same.
func (c *conn) root(ctx context.Context, attribute string) ([]string, error) {
	entries, _, err := c.search(ctx, &ldap.SearchRequest{
		Scope: ldap.ScopeBaseObject, SizeLimit: 1, Filter: "(objectClass=*)", Attributes: []string{attribute},
	})
	switch {
	case err != nil && (isFault(err) || asResult(err) == nil):
		return nil, err
	case len(entries) == 0:
		return nil, nil
	}
	return entries[0].GetAttributeValues(attribute), nil
}

func isFault(err error) bool {
	var f *fault
	return errors.As(err, &f)
}

func asResult(err error) *result {
	var r *result
	errors.As(err, &r)
	return r
}
