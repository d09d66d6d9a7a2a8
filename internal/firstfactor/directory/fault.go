package directory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// How long a server that cannot be used is put aside.
const (
	// asideFor spares the next logins the wait for a server that does not answer, as long as another one does.
	asideFor = 30 * time.Second
	// asideAlone is all the rest that a server gets when no other is left: then one login at a time tries it.
	asideAlone = time.Second
	// asideRejected is for a server that refuses the search identity. Each try counts as a wrong password there, and
	// enough of them would lock the identity out, also after the configuration has been set right.
	asideRejected = 5 * time.Minute
)

// fault is why a server cannot be used at present: it is put aside, and the next one is asked.
type fault struct {
	err   error
	hint  string
	aside time.Duration
	timed bool // it gave no answer in the time that it had
}

func (f *fault) Error() string { return hinted(f.err.Error(), f.hint) }
func (f *fault) Unwrap() error { return f.err }

// unusable is why a question has no answer although the server works. Another server would say the same.
type unusable struct {
	err  error
	hint string
}

func (u unusable) Error() string { return hinted(u.err.Error(), u.hint) }
func (u unusable) Unwrap() error { return u.err }

// Hints that several errors share.
const (
	hintTLS      = "use an ldaps:// URL or StartTLS: the server wants TLS"
	hintReferral = "name the server that holds it: referrals are not followed"
	hintIdentity = "check the bind DN and its password"
)

func hinted(text, hint string) string {
	if hint == "" {
		return text
	}
	return text + "; hint: " + hint
}

// result is an answer of a server other than success.
type result struct {
	code       uint16
	diagnostic string // the server's own words, as it sent them
}

func (r *result) Error() string {
	name := ldap.LDAPResultCodeMap[r.code]
	if name == "" {
		name = "unknown"
	}
	text := fmt.Sprintf("the server says %q (%d)", strings.ToLower(name), r.code)
	if r.diagnostic != "" {
		text += ": " + foreign(r.diagnostic)
	}
	return text
}

func resultOf(e *ldap.Error) *result {
	r := &result{code: e.ResultCode}
	if e.Err != nil {
		r.diagnostic = e.Err.Error()
	}
	return r
}

// lastResult is where the results of RFC 4511 and its registry end; go-ldap's own codes begin above.
const lastResult = 199

// errTooLarge: an answer took more than maxAnswer.
var errTooLarge = errors.New("the server's answer is larger than any can be")

// failed makes of what went wrong on a line a result, a fault, or an error for which the server is not to blame.
func failed(ctx context.Context, l *line, err error) error {
	cause := l.failure()
	if errors.Is(cause, errTooLarge) {
		return unusable{fmt.Errorf("%w (%d bytes)", errTooLarge, maxAnswer), "narrow base, or have the search identity see fewer attributes and groups"}
	}
	var e *ldap.Error
	if errors.As(err, &e) && e.ResultCode <= lastResult {
		r := resultOf(e)
		if r.code == ldap.LDAPResultBusy || r.code == ldap.LDAPResultUnavailable {
			return &fault{err: r, aside: asideFor}
		}
		return r
	}
	if ctx.Err() != nil || isTimeout(cause) { // the line's own deadline may come a moment before that of ctx
		return timedOut(ctx)
	}
	if cause != nil {
		err = fmt.Errorf("connection lost: %w", cause)
	}
	return &fault{err: legible(err), aside: asideFor}
}

func timedOut(ctx context.Context) error {
	err := errors.New("no answer in time")
	if errors.Is(ctx.Err(), context.Canceled) {
		err = fmt.Errorf("given up: %w", ctx.Err())
	}
	return &fault{err: err, aside: asideFor, timed: true}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// connecting makes a fault of why no connection came about, with what to do about it.
func connecting(ctx context.Context, err error) error {
	f := &fault{err: legible(err), aside: asideFor}
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		noTLS   tls.RecordHeaderError
		dns     *net.DNSError
	)
	switch {
	case errors.As(err, &unknown):
		f.hint = "the configured CA did not issue the server's certificate: name the one that did"
	case errors.As(err, &name):
		f.hint = "the URL must have a name that stands in the server's certificate, or set the server name to one"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		f.hint = "renew the server's certificate, and look at this machine's clock"
	case errors.As(err, &noTLS):
		f.hint = "that port does not begin with TLS: use ldap:// with StartTLS, or the port for ldaps (636)"
	case errors.As(err, &dns):
		f.hint = "does this machine know the name? getent hosts " + dns.Name
	case ctx.Err() != nil || isTimeout(err):
		f.timed = true
		f.hint = "is there a firewall between, or does the server hang?"
	}
	return f
}

// maxForeign bounds, in bytes, how much of foreign text goes into an error.
const maxForeign = 240

// foreign makes text from elsewhere fit for a log: one line, printable, bounded.
func foreign(text string) string {
	text = strings.TrimRight(text, "\x00")
	if len(text) > maxForeign {
		text = text[:maxForeign] + "..."
	}
	return strconv.Quote(text)
}

// legible replaces an error whose text is not fit for a log: certificates and servers put their own words into some.
func legible(err error) error {
	text := err.Error()
	if len(text) <= maxForeign && strings.IndexFunc(text, unprintable) < 0 {
		return err
	}
	return illegible{foreign(text), err}
}

func unprintable(r rune) bool { return !strconv.IsPrint(r) }

// illegible is an error with its text made fit.
type illegible struct {
	text string
	err  error
}

func (i illegible) Error() string { return i.text }
func (i illegible) Unwrap() error { return i.err }
