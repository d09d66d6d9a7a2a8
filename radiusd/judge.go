package radiusd

import (
	"context"
	"strconv"
	"unicode/utf8"

	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

// way is what is to be asked of the Gate.
type way uint8

const (
	wayRefuse   way = iota // the zero way lets nobody in
	wayBegin               // a first round
	wayContinue            // the answer to a further question of the person's directory
	wayFinish              // a second round
	wayDecide              // all at once
)

// openState tells whether a State is one of ours for this client. One that is not is told apart from none at all: it
// never becomes a first round.
func (s *Server) openState(c *client, state []byte) (login.Progress, bool) {
	plain, err := s.unsealState(c.stateAAD, state)
	if err != nil {
		return login.Progress{}, false
	}
	p, err := login.ParseProgress(plain)
	return p, err == nil
}

// prepare makes an attempt of the request, and tells how to ask about it; for wayRefuse, why.
func (s *Server) prepare(r *request, d *wire.Digester) (a login.Attempt, w way, why login.Reason) {
	c, v := r.client, &r.view
	a = s.attempt(r)
	if why := s.unsupported(r); why != dropNone {
		s.drop(c, why, r.from.Addr())
		return a, wayRefuse, login.Reason(why.String())
	}
	if v.State.Present() && !r.opened {
		return a, wayRefuse, login.ReasonStateUnknown
	}
	if !v.Password.Present() {
		return s.prepareCHAP(r, a)
	}
	var clear [wire.MaxPassword]byte
	typed := r.password(d, &clear)
	defer func() { clear = [wire.MaxPassword]byte{} }()
	switch {
	case r.opened && r.progress.Further():
		a.Password, a.Otherwise = c.read(typed)
		return a, wayContinue, ""
	case r.opened:
		a.Code = login.NewSecret(string(typed))
		return a, wayFinish, ""
	case c.Mode == Challenge:
		a.Password, a.Otherwise = c.read(typed)
		return a, wayBegin, ""
	case c.Mode == Append:
		a.Joined, a.Otherwise = c.read(typed)
		a.JoinedBy = c.Joint
		return a, wayDecide, ""
	default: // Code; SetConfig lets no other mode through
		a.Code, a.Proofs = login.NewSecret(string(typed)), c.proofs
		return a, wayDecide, ""
	}
}

// password reveals a User-Password into clear's memory.
func (r *request) password(d *wire.Digester, clear *[wire.MaxPassword]byte) []byte {
	hidden := r.view.Password.In(r.packet)
	if r.plain {
		return append(clear[:0], hidden...)
	}
	return d.Password(r.client.key, hidden, r.packet[4:wire.HeaderSize], clear[:])
}

// read makes a Secret of what a person typed. RFC 2865 wants UTF-8, and old clients send what their people's keyboards
// make of it; where a client has such a charset, what can be read in both ways is tried in both.
func (c *client) read(typed []byte) (first, otherwise login.Secret) {
	if c.charset == nil || isASCII(typed) {
		return login.NewSecret(string(typed)), login.Secret{}
	}
	other, err := c.charset.NewDecoder().Bytes(typed)
	defer clear(other)
	switch {
	case err != nil:
		return login.NewSecret(string(typed)), login.Secret{}
	case !utf8.Valid(typed):
		return login.NewSecret(string(other)), login.Secret{}
	}
	return login.NewSecret(string(typed)), login.NewSecret(string(other))
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// judge has the Gate decide a request, and waits for it.
func (s *Server) judge(ctx context.Context, r *request, d *wire.Digester) login.Outcome {
	a, w, why := s.prepare(r, d)
	switch w {
	case wayBegin:
		return s.gate.Begin(ctx, a)
	case wayContinue:
		return s.gate.Continue(ctx, r.progress, a)
	case wayFinish:
		return s.gate.Finish(ctx, r.progress, a)
	case wayDecide:
		return s.gate.Decide(ctx, a)
	default:
		return s.gate.Refuse(ctx, a, why)
	}
}

// ask has the Gate decide a request at once, if nothing slow is to be checked. The outcome follows.
func (s *Server) ask(r *request, d *wire.Digester) bool {
	if r.packet[0] == codeAccounting {
		return s.askAccounting(r)
	}
	r.lane, r.opened = laneFirst, false
	if r.view.EAP.Present() {
		if r.view.State.Present() {
			r.lane = laneSecond
		}
		return false
	}
	if r.view.State.Present() {
		if r.progress, r.opened = s.openState(r.client, r.view.State.In(r.packet)); r.opened {
			r.lane = laneSecond
		}
	}
	switch {
	case s.asker == nil, r.client.Mode != Code && !r.opened, r.opened && r.progress.Further():
		return false
	case !s.asker.Immediate(r.settings.plainName(r.view.UserName.Text(r.packet))):
		return false
	}
	a, w, why := s.prepare(r, d)
	switch w {
	case wayFinish:
		r.asked = s.asker.AskFinish(r.progress, a)
	case wayDecide:
		r.asked = s.asker.Ask(a)
	default:
		r.asked = s.asker.AskRefuse(a, why)
	}
	return true
}

// unsupported tells which way of logging in the request asks for, if it is one that the client may not use.
func (s *Server) unsupported(r *request) dropReason {
	v, may := &r.view, r.client.methods
	// A response to a challenge proves a code, which is here; one in a first round a password, which is not, unless there
	// is another server that can check it. Password and code in one cannot be parted.
	code := r.client.Mode == Code || r.opened && !r.progress.Further()
	responses := code || r.settings.evidence && r.client.Mode == Challenge
	switch {
	case v.EAP.Present() && (may&methodEAP == 0 || r.settings.eap == nil):
		return refuseEAP
	case (v.CHAP.Present() || v.MSResponse2.Present()) && !responses:
		return refuseMethod
	case v.Password.Present() && may&methodPAP == 0,
		v.CHAP.Present() && may&methodCHAP == 0,
		v.MSResponse2.Present() && may&methodMSCHAPv2 == 0,
		v.MSResponse.Present():
		return refuseMethod
	}
	if service, ok := wire.Uint32In(r.packet, v.Service); ok && service == wire.AuthorizeOnly {
		return refuseService
	}
	return dropNone
}

// attempt makes the plain part of an attempt. The system is the client that the packet's source says it is, whatever
// the NAS calls itself in attributes; those are only noted.
func (s *Server) attempt(r *request) login.Attempt {
	c, v, b := r.client, &r.view, r.packet
	a := login.Attempt{
		ID: login.NewID(), Name: r.settings.plainName(v.UserName.Text(b)), Protocol: protocol, Source: r.from,
		System: c.system, Capability: login.MayLogin, Origin: c.Name,
		Detail: r.detail[:0],
	}
	note := func(key, value string) {
		if value != "" {
			a.Detail = append(a.Detail, login.Detail{Key: key, Value: value})
		}
	}
	if calling := v.Calling.Text(b); calling != "" {
		if c.Mode != Code && !r.opened { // a password is to be checked, which costs
			a.Origin += " " + calling
		}
		note("calling_station", calling)
	}
	note("called_station", v.Called.Text(b))
	note("nas_identifier", v.NASID.Text(b))
	if ip := wire.AddrIn(b, v.NASIP); ip != "" {
		note("nas_ip", ip)
	} else {
		note("nas_ip", wire.AddrIn(b, v.NASIPv6))
	}
	if port, ok := wire.Uint32In(b, v.NASPort); ok {
		note("nas_port", strconv.FormatUint(uint64(port), 10))
	}
	return a
}
