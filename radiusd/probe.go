package radiusd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"sallyport/radiusd/wire"
)

// ProbeOptions say how Probe shall log in.
type ProbeOptions struct {
	Address string // host:port of the server
	Secret  []byte
	User    string
	// Password and Code are asked when they are needed, Code as late as may be. Mode tells which are.
	Password, Code func() (string, error)
	Mode           Mode
	NASIdentifier  string        // empty: "sallyport-probe"
	Timeout        time.Duration // for each answer; 0: 3 s. A request is sent up to three times in it.
}

// Level is how grave a Finding is.
type Level string

// The levels of findings.
const (
	Good Level = "ok"
	Note Level = "note" // permitted, and worth knowing
	Bad  Level = "bad"
)

// Finding is one thing that Probe looked at.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Detail string `json:"detail,omitempty"`
}

// ProbeReport is what Probe found. It holds no secret.
type ProbeReport struct {
	Address  string          `json:"address"`
	Outcome  string          `json:"outcome"` // accept, reject, challenge (no code was given), no_answer
	Rounds   int             `json:"rounds"`
	Message  string          `json:"message,omitempty"` // the last Reply-Message
	Took     []time.Duration `json:"took_ns,omitempty"` // to the first answer of each round
	Findings []Finding       `json:"findings"`
}

// Healthy tells whether nothing bad was found and the login came to an end.
func (r ProbeReport) Healthy() bool {
	for _, f := range r.Findings {
		if f.Level == Bad {
			return false
		}
	}
	return r.Outcome != "no_answer"
}

func (r *ProbeReport) found(ok bool, check, wrong string) {
	if ok {
		r.Findings = append(r.Findings, Finding{Check: check, Level: Good})
		return
	}
	r.Findings = append(r.Findings, Finding{Check: check, Level: Bad, Detail: wrong})
}

// errNoAnswer is a server that stays silent, as it must to strangers and to wrong signatures.
var errNoAnswer = errors.New("no answer")

type prober struct {
	ProbeOptions
	report *ProbeReport
	conn   *net.UDPConn
	key    *wire.Secret
	digest *wire.Digester
	id     byte
}

// Probe logs in at a RADIUS server as a NAS would, and looks at what comes back: the authenticators, the place of
// Message-Authenticator, the order of Proxy-State, whether a resend gets the same bytes, what a challenge holds, and
// Status-Server. An error means that it could not be tried; what the server did wrong stands in the report.
func Probe(ctx context.Context, o ProbeOptions) (ProbeReport, error) {
	report := ProbeReport{Address: o.Address, Outcome: "no_answer"}
	if len(o.Secret) == 0 {
		return report, errors.New("probe: the shared secret is empty")
	}
	if o.Timeout <= 0 {
		o.Timeout = 3 * time.Second
	}
	if o.NASIdentifier == "" {
		o.NASIdentifier = "sallyport-probe"
	}
	dialed, err := new(net.Dialer).DialContext(ctx, "udp", o.Address)
	if err != nil {
		return report, fmt.Errorf("probe: %w", err)
	}
	conn := dialed.(*net.UDPConn)
	defer conn.Close()
	p := &prober{ProbeOptions: o, report: &report, conn: conn, key: wire.NewSecret(o.Secret), digest: wire.NewDigester()}
	p.statusServer(ctx)
	err = p.login(ctx)
	if errors.Is(err, errNoAnswer) {
		report.found(false, "answer", "none: wrong address, wrong secret, or this host is no client of the server")
		return report, nil
	}
	return report, err
}

func (p *prober) statusServer(ctx context.Context) {
	request, err := p.request(radius.CodeStatusServer, nil)
	if err != nil {
		p.report.found(false, "status_server", err.Error())
		return
	}
	answer, _, err := p.exchange(ctx, request, 1)
	if err != nil {
		p.report.Findings = append(p.report.Findings, Finding{"status_server", Note, "no answer: it may be off for this client"})
		return
	}
	p.report.found(answer[0] == wire.CodeAccessAccept, "status_server", "answered with "+radius.Code(answer[0]).String())
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
		p.report.found(false, "code", "answered with "+radius.Code(answer[0]).String())
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

// round sends one Access-Request, and the same again.
func (p *prober) round(ctx context.Context, typed string, state []byte) ([]byte, error) {
	request, err := p.request(radius.CodeAccessRequest, func(r *radius.Packet) error {
		if err := rfc2865.UserName_SetString(r, p.User); err != nil {
			return fmt.Errorf("user name: %w", err)
		}
		if err := rfc2865.UserPassword_SetString(r, typed); err != nil {
			return errors.New("what was typed does not fit User-Password (128 octets)")
		}
		if state != nil {
			return rfc2865.State_Set(r, state)
		}
		return nil
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
	again, _, err := p.exchange(ctx, request, 1)
	switch {
	case errors.Is(err, errNoAnswer):
		p.report.found(false, "resend", "a resend was not answered: when an answer is lost, the login is lost")
	case err != nil:
		return nil, err
	default:
		p.report.found(bytes.Equal(answer, again), "resend", "a resend was judged again: a code may be taken for used")
	}
	return answer, nil
}

// probeProxyStates are two values whose order can be told apart.
var probeProxyStates = [2]string{"probe-one", "probe-two"}

// request makes a signed packet, Message-Authenticator first.
func (p *prober) request(code radius.Code, fill func(*radius.Packet) error) ([]byte, error) {
	r := radius.New(code, p.Secret)
	var random [1]byte
	if p.id == 0 {
		if _, err := rand.Read(random[:]); err != nil {
			return nil, err
		}
		p.id = random[0]
	}
	p.id++
	r.Identifier = p.id
	if err := rfc2869.MessageAuthenticator_Set(r, make([]byte, wire.AuthenticatorSize)); err != nil {
		return nil, err
	}
	if fill != nil {
		if err := fill(r); err != nil {
			return nil, err
		}
	}
	if err := rfc2865.NASIdentifier_SetString(r, p.NASIdentifier); err != nil {
		return nil, err
	}
	for _, state := range probeProxyStates {
		if err := rfc2865.ProxyState_AddString(r, state); err != nil {
			return nil, err
		}
	}
	packet, err := r.Encode()
	if err != nil {
		return nil, err
	}
	copy(packet[wire.MessageAuthAt:], p.digest.MessageAuth(p.key, packet, packet[4:wire.HeaderSize], wire.MessageAuthAt))
	return packet, nil
}

// exchange sends a request, up to so many times within the timeout, and returns the first answer with its identifier
// whose Response Authenticator is right. Others are counted as forged, and passed over (RFC 2865 section 3).
func (p *prober) exchange(ctx context.Context, request []byte, times int) ([]byte, time.Duration, error) {
	buf := make([]byte, wire.MaxPacket)
	began := time.Now()
	for range times {
		if _, err := p.conn.Write(request); err != nil {
			return nil, 0, fmt.Errorf("probe: %w", err)
		}
		deadline := time.Now().Add(p.Timeout / time.Duration(times))
		if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
			deadline = d
		}
		if err := p.conn.SetReadDeadline(deadline); err != nil {
			return nil, 0, fmt.Errorf("probe: %w", err)
		}
		for {
			if err := ctx.Err(); err != nil {
				return nil, 0, err
			}
			n, err := p.conn.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, 0, fmt.Errorf("%w: %w", errNoAnswer, err) // mostly: nothing listens there
			}
			answer, why := wire.Header(buf[:n])
			if why != wire.None || answer[1] != request[1] {
				continue
			}
			if !bytes.Equal(answer[4:wire.HeaderSize], p.digest.ResponseAuth(p.key, answer, request[4:wire.HeaderSize])) {
				p.report.found(false, "response_authenticator", "an answer is not signed with this secret")
				continue
			}
			if len(answer) != n {
				p.report.found(false, "length", "the datagram is longer than the packet, which pam_radius refuses")
			}
			return bytes.Clone(answer), time.Since(began), nil
		}
	}
	return nil, 0, errNoAnswer
}

// inspect looks at what every answer must have.
func (p *prober) inspect(request, answer []byte) {
	var v wire.View
	if why := v.Parse(answer); why != wire.None {
		p.report.found(false, "attributes", why.String())
		return
	}
	p.report.found(true, "response_authenticator", "")
	off := v.MessageAuth.At()
	p.report.found(off != 0, "message_authenticator", "none: the answer could be forged (CVE-2024-3596)")
	if off != 0 {
		want := p.digest.MessageAuth(p.key, answer, request[4:wire.HeaderSize], off)
		p.report.found(bytes.Equal(want, answer[off:off+wire.AuthenticatorSize]), "message_authenticator_value", "it is wrong")
		p.report.found(off == wire.MessageAuthAt, "message_authenticator_first", "it is not the first attribute, which leaves room for forgery")
	}
	var states []string
	for i := wire.HeaderSize; i+1 < len(answer); i += int(answer[i+1]) {
		if answer[i] == wire.AttrProxyState {
			states = append(states, string(answer[i+2:i+int(answer[i+1])]))
		}
	}
	p.report.found(len(states) == 2 && [2]string(states) == probeProxyStates, "proxy_state", fmt.Sprintf("want both in their order, got %q", states))
	parsed, err := radius.Parse(answer, p.Secret)
	if err == nil {
		p.report.Message = rfc2865.ReplyMessage_GetString(parsed)
	}
}

// challenge looks at what an Access-Challenge must and must not have, and returns its State.
func (p *prober) challenge(answer []byte) (state []byte, ok bool) {
	parsed, err := radius.Parse(answer, p.Secret)
	if err != nil {
		p.report.found(false, "challenge", err.Error())
		return nil, false
	}
	state, err = rfc2865.State_Lookup(parsed)
	ok = err == nil && len(state) > 0
	p.report.found(ok, "challenge_state", "a challenge without State cannot be answered")
	p.report.found(rfc2865.ReplyMessage_GetString(parsed) != "", "challenge_message", "pam_radius takes a challenge without Reply-Message for a failure")
	_, class := parsed.Lookup(rfc2865.Class_Type)
	_, service := parsed.Lookup(rfc2865.ServiceType_Type)
	_, filter := parsed.Lookup(rfc2865.FilterID_Type)
	p.report.found(!class && !service && !filter, "challenge_privileges", "a challenge carries privileges, and some NAS take it for an acceptance")
	return state, ok
}
