// Package probe is a test client of RADIUS: it logs in at a server as a NAS would, over UDP or TLS, by PAP, CHAP or
// MS-CHAPv2, follows a challenge, and looks closely at what comes back.
//
// It takes nothing from the server's code but the form of packets and the arithmetic of MS-CHAPv2, so that a fault there does
// not hide itself.
package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"layeh.com/radius"

	"sallyport/radiusd/wire"
)

// Modes of giving the code, as a client's configuration names them.
const (
	Challenge = "challenge" // password first, then the code as the answer to a challenge
	Append    = "append"    // password and code in one field
	Code      = "code"      // the code alone
)

// Methods of proving a password or code.
const (
	PAP      = "pap"
	CHAP     = "chap"
	MSCHAPv2 = "mschapv2"
)

// Options say how Run shall log in.
type Options struct {
	Address string // host:port of the server
	Secret  []byte // of a server over UDP
	User    string
	// Password and Code are asked when they are needed, Code as late as may be. Mode tells which are.
	Password, Code func() (string, error)
	Mode           string // empty: Challenge
	Method         string // empty: PAP
	// TLS is for RADIUS over TLS (RFC 6614). RADIUS/1.1 (RFC 9765) is spoken where the server picks it. Nil: UDP.
	TLS           *tls.Config
	NASIdentifier string        // empty: "sallyport-probe"
	Timeout       time.Duration // for each answer; 0: 3 s. Over UDP, a request is sent up to three times in it.
	// Strict also sends what must get no answer. A server that answers it has one failed login of nobody in its records.
	Strict bool
}

// Check finds what is wrong with the options.
func (o *Options) Check() error {
	switch {
	case !slices.Contains([]string{"", Challenge, Append, Code}, o.Mode):
		return fmt.Errorf("mode %q: challenge, append or code", o.Mode)
	case !slices.Contains([]string{"", PAP, CHAP, MSCHAPv2}, o.Method):
		return fmt.Errorf("method %q: pap, chap or mschapv2", o.Method)
	case o.Mode == Append && o.Method != PAP && o.Method != "":
		return fmt.Errorf("method %s cannot go with mode append: nobody could part password and code in a response", o.Method)
	case o.TLS == nil && len(o.Secret) == 0:
		return errors.New("the shared secret is empty")
	}
	return nil
}

// Level is how grave a Finding is.
type Level string

// The levels of findings.
const (
	Good Level = "ok"
	Note Level = "note" // permitted, and worth knowing
	Bad  Level = "bad"
)

// Finding is one thing that was looked at.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"` // what to do about it
}

// Report is what was found. It holds no secret.
type Report struct {
	Address  string          `json:"address"`
	Over     string          `json:"over"`    // "UDP", "TLS 1.3, RADIUS/1.1", ...
	Outcome  string          `json:"outcome"` // accept, reject, challenge (no code was given), no_answer
	Rounds   int             `json:"rounds"`
	Message  string          `json:"message,omitempty"` // the last Reply-Message
	Took     []time.Duration `json:"took_ns,omitempty"` // to the first answer of each round
	Findings []Finding       `json:"findings"`
}

// Healthy tells whether nothing bad was found and the login came to an end.
func (r Report) Healthy() bool {
	for _, f := range r.Findings {
		if f.Level == Bad {
			return false
		}
	}
	return r.Outcome != "no_answer"
}

func (r *Report) found(ok bool, check, wrong, hint string) {
	if ok {
		r.add(check, Good, "", "")
		return
	}
	r.add(check, Bad, wrong, hint)
}

// add keeps a finding. What is as before, in another round, is not said twice.
func (r *Report) add(check string, level Level, detail, hint string) {
	f := Finding{check, level, detail, hint}
	if !slices.Contains(r.Findings, f) {
		r.Findings = append(r.Findings, f)
	}
}

// errNoAnswer is a server that stays silent, as it must to strangers and to wrong signatures.
var errNoAnswer = errors.New("no answer")

type prober struct {
	Options
	report *Report
	link   link
	key    *wire.Secret
	digest *wire.Digester
	plain  bool // RADIUS/1.1
	id     byte
	token  uint32
}

// Run logs in at a RADIUS server as a NAS would, and looks at what comes back: the authenticators, the place of
// Message-Authenticator, the order of Proxy-State, whether a resend gets the same bytes, what a challenge holds, what belongs
// to MS-CHAPv2, and Status-Server. An error means that it could not be tried; what the server did wrong stands in the
// report.
func Run(ctx context.Context, o Options) (Report, error) {
	report := Report{Address: o.Address, Outcome: "no_answer", Findings: []Finding{}}
	if err := o.Check(); err != nil {
		return report, fmt.Errorf("probe: %w", err)
	}
	if o.Timeout <= 0 {
		o.Timeout = 3 * time.Second
	}
	if o.NASIdentifier == "" {
		o.NASIdentifier = "sallyport-probe"
	}
	if o.Mode == "" {
		o.Mode = Challenge
	}
	if o.Method == "" {
		o.Method = PAP
	}
	secret := o.Secret
	if o.TLS != nil {
		secret = []byte("radsec") // RFC 6614 section 2.3
	}
	p := &prober{Options: o, report: &report, key: wire.NewSecret(secret), digest: wire.NewDigester()}
	if err := p.connect(ctx); err != nil {
		return report, err
	}
	defer func() { p.link.close() }() // strict takes a link of its own
	p.statusServer(ctx)
	err := p.login(ctx)
	switch {
	case errors.Is(err, errNoAnswer):
		hint := "is the address right, the secret the same on both sides, and this host a client of the server?"
		if o.TLS != nil {
			hint = "does the server's log take our certificate for a client's?"
		}
		report.found(false, "answer", "none", hint)
	case err != nil:
		return report, err
	}
	if o.Strict {
		p.strict(ctx)
	}
	return report, ctx.Err()
}

func (p *prober) statusServer(ctx context.Context) {
	request := p.request(wire.CodeStatusServer, nil)
	answer, _, err := p.exchange(ctx, request, 1)
	if err != nil {
		p.report.add("status_server", Note, "no answer", "it may be off for this client; NAS that use it as a watchdog would take the server for dead")
		return
	}
	p.report.found(answer[0] == wire.CodeAccessAccept, "status_server", "answered with "+radius.Code(answer[0]).String(), "Access-Accept is the answer (RFC 5997 section 3)")
}

// login does as many rounds as the mode has.
func (p *prober) login(ctx context.Context) error {
	typed, err := p.typed()
	if err != nil {
		return err
	}
	answer, err := p.round(ctx, typed, nil)
	if err != nil {
		return err
	}
	if answer[0] == wire.CodeAccessChallenge {
		p.report.Outcome = "challenge"
		state, ok := p.challenge(answer)
		if !ok || p.Code == nil {
			return nil
		}
		code, err := p.Code()
		if err != nil {
			return fmt.Errorf("probe: code: %w", err)
		}
		if answer, err = p.round(ctx, code, state); err != nil {
			return err
		}
	}
	switch answer[0] {
	case wire.CodeAccessAccept:
		p.report.Outcome = "accept"
	case wire.CodeAccessReject:
		p.report.Outcome = "reject"
	case wire.CodeAccessChallenge:
		p.report.Outcome = "challenge"
	default:
		p.report.found(false, "code", "answered with "+radius.Code(answer[0]).String(), "that is no answer to an Access-Request")
	}
	return nil
}

// typed is what a person types in the first round.
func (p *prober) typed() (string, error) {
	var typed string
	ask := func(what string, f func() (string, error)) error {
		if f == nil {
			return fmt.Errorf("probe: mode %s needs a %s", p.Mode, what)
		}
		s, err := f()
		if err != nil {
			return fmt.Errorf("probe: %s: %w", what, err)
		}
		typed += s
		return nil
	}
	if p.Mode != Code {
		if err := ask("password", p.Password); err != nil {
			return "", err
		}
	}
	if p.Mode == Code || p.Mode == Append {
		if err := ask("code", p.Code); err != nil {
			return "", err
		}
	}
	return typed, nil
}

// round sends one Access-Request, and the same again where answers can get lost.
func (p *prober) round(ctx context.Context, typed string, state []byte) ([]byte, error) {
	var expect *expected
	var err error
	request := p.request(wire.CodeAccessRequest, func(w *wire.Writer, auth []byte) {
		w.AddText(wire.AttrUserName, p.User)
		expect, err = p.prove(w, typed, auth)
		w.Add(wire.AttrState, state)
	})
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	p.report.Rounds++
	answer, took, err := p.exchange(ctx, request, 3)
	if err != nil {
		return nil, err
	}
	p.report.Took = append(p.report.Took, took)
	p.inspect(request, answer)
	p.proofs(request, answer, expect)
	if p.TLS != nil {
		return answer, nil // nothing is lost there, and nothing sent again (RFC 6613 section 2.6.1)
	}
	again, _, err := p.exchange(ctx, request, 1)
	const hint = "the server needs a cache of its answers (RFC 5080 section 2.2.2)"
	switch {
	case errors.Is(err, errNoAnswer):
		p.report.found(false, "resend", "a resend was not answered: when an answer is lost, the login is lost", hint)
	case err != nil:
		return nil, err
	default:
		p.report.found(bytes.Equal(answer, again), "resend", "a resend was judged again: a code may be taken for used", hint)
	}
	return answer, nil
}
