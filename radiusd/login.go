package radiusd

import (
	"context"
	"math"
	"time"
	"unicode/utf8"

	"layeh.com/radius"

	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

const (
	protocol = "radius"

	promptNoEcho, promptEcho = 0, 1 // RFC 2869 section 5.10
)

// openState tells whether a State is one of ours for this client. One that is not is told apart from none at all: it
// never becomes a first round.
func (s *Server) openState(c *client, state []byte) (login.Progress, bool) {
	plain, err := s.box.Open(c.stateAAD, state)
	if err != nil {
		return login.Progress{}, false
	}
	p, err := login.ParseProgress(plain)
	return p, err == nil
}

// handle judges a request and answers it, on a worker.
func (s *Server) handle(r *request) {
	ln := r.listener
	defer s.forget(r)
	tools := s.tools.Get().(*toolbox)
	defer s.tools.Put(tools)
	outcome := s.judge(ln.ctx, r, tools.Digester)
	if packet := s.answer(r, tools, outcome); packet != nil {
		ln.out.post(r, packet)
	}
}

// forget ends a request, whatever became of it. It is deferred.
func (s *Server) forget(r *request) {
	if p := recover(); p != nil {
		s.panicked(r, p)
	}
	ln := r.listener
	r.facts, r.asked = facts{}, login.Asked{}
	s.requests.Put(r)
	ln.pending.Done()
}

// answer makes the packet of an outcome, in tools, counts it, and remembers it for resends. It returns nil when there is
// nothing to send.
func (s *Server) answer(r *request, tools *toolbox, outcome login.Outcome) []byte {
	if outcome.Unanswerable() {
		s.cache.abort(r.entry)
		r.entry = nil
		s.drop(r.client, dropLogDown, r.from.Addr(), "why", string(outcome.Reason()))
		return nil
	}
	packet, ok := s.render(r, tools, outcome)
	if !ok {
		s.cache.abort(r.entry)
		r.entry = nil
		s.drop(r.client, dropReplySize, r.from.Addr())
		return nil
	}
	now := s.now()
	wanted := s.cache.finish(r.entry, packet, now.Sub(s.start))
	r.entry = nil
	if !wanted {
		s.drop(r.client, dropSuperseded, r.from.Addr())
		return nil
	}
	t := r.client.tally
	switch packet[0] {
	case wire.CodeAccessAccept:
		t.accepts.Add(1)
	case wire.CodeAccessChallenge:
		t.challenges.Add(1)
	default:
		t.rejects.Add(1)
	}
	s.meter.Reply(r.client.Name, radius.Code(packet[0]).String(), string(outcome.Reason()), now.Sub(r.received))
	return packet
}

// way is what is to be asked of the Gate.
type way uint8

const (
	wayRefuse way = iota // the zero way lets nobody in
	wayBegin             // a first round
	wayFinish            // a second round
	wayAppend            // password and code
	wayCode              // the code alone
)

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
	var clear [wire.MaxPassword]byte
	typed := ""
	if v.Password.Present() {
		typed = string(d.Password(c.key, v.Password.In(r.packet), r.packet[4:wire.HeaderSize], clear[:]))
		clear = [wire.MaxPassword]byte{}
	}
	switch {
	case r.opened:
		a.Code = login.NewSecret(typed)
		return a, wayFinish, ""
	case !v.Password.Present():
		return a, wayRefuse, login.ReasonPasswordMissing
	case c.Mode == Challenge:
		a.Password = login.NewSecret(typed)
		return a, wayBegin, ""
	case c.Mode == Append:
		a.Joined = login.NewSecret(typed)
		return a, wayAppend, ""
	default: // Code; SetConfig lets no other mode through
		a.Code, a.Proofs = login.NewSecret(typed), c.proofs
		return a, wayCode, ""
	}
}

// judge has the Gate decide a request, and waits for it.
func (s *Server) judge(ctx context.Context, r *request, d *wire.Digester) login.Outcome {
	a, w, why := s.prepare(r, d)
	switch w {
	case wayBegin:
		return s.gate.Begin(ctx, a)
	case wayFinish:
		return s.gate.Finish(ctx, r.progress, a)
	case wayAppend, wayCode:
		return s.gate.Decide(ctx, a)
	default:
		return s.gate.Refuse(ctx, a, why)
	}
}

// ask has the Gate decide a request at once, if nothing slow is to be checked. The outcome follows.
func (s *Server) ask(r *request, d *wire.Digester) (login.Asked, bool) {
	if s.asker == nil || r.client.Mode != Code && !r.opened {
		return login.Asked{}, false
	}
	a, w, why := s.prepare(r, d)
	switch w {
	case wayFinish:
		return s.asker.AskFinish(r.progress, a), true
	case wayCode:
		return s.asker.Ask(a), true
	default:
		return s.asker.AskRefuse(a, why), true
	}
}

// unsupported tells which way of logging in the request asks for, if it is one that is refused.
func (s *Server) unsupported(r *request) dropReason {
	v := &r.view
	if v.EAP.Present() {
		return refuseEAP
	}
	if v.CHAP.Present() || v.MSResponse.Present() || v.MSResponse2.Present() {
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
		ID: login.NewID(), Name: v.UserName.Text(b), Protocol: protocol, Source: r.from,
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
	return a
}

// render is the one place where an outcome becomes bytes. Whatever is neither accepted nor challenged is rejected.
func (s *Server) render(r *request, tools *toolbox, outcome login.Outcome) (packet []byte, ok bool) {
	c, id := r.client, r.packet[1]
	var out wire.Writer
	if grant, accepted := outcome.Accepted(); accepted {
		out.Begin(tools.buf[:], wire.CodeAccessAccept, id)
		out.AddText(wire.AttrReplyMessage, cutText(outcome.Sentence(), wire.MaxValue))
		s.addGrant(&out, r.settings.replies[grant.Rule], grant)
	} else if progress, challenged := outcome.Challenged(); challenged {
		out.Begin(tools.buf[:], wire.CodeAccessChallenge, id)
		var sealed [2 * wire.MaxValue]byte
		state := s.box.Seal(sealed[:0], c.stateAAD, progress.MarshalBinary())
		if len(state) > wire.MaxValue {
			return nil, false
		}
		out.Add(wire.AttrState, state)
		out.AddText(wire.AttrReplyMessage, c.Prompt)
		echo := uint32(promptEcho)
		if c.NoEcho {
			echo = promptNoEcho
		}
		out.AddUint32(wire.AttrPrompt, echo)
		if r.settings.challengeFor > 0 {
			out.AddUint32(wire.AttrSessionTime, r.settings.challengeFor)
		}
	} else {
		out.Begin(tools.buf[:], wire.CodeAccessReject, id)
		out.AddText(wire.AttrReplyMessage, cutText(outcome.Sentence(), wire.MaxValue))
		if r.view.EAP.Present() {
			out.Add(wire.AttrEAPMessage, eapFailure(r.view.EAP.In(r.packet)))
		}
	}
	out.CopyProxyStates(r.packet, &r.view)
	if out.Len() > wire.MaxPacket {
		return nil, false
	}
	return out.Sign(tools.Digester, c.key, r.packet[4:wire.HeaderSize]), true
}

// addGrant adds what the rule's reply says, and the rule's bounds on time where the reply says nothing of them.
func (s *Server) addGrant(out *wire.Writer, by *Reply, grant login.Grant) {
	if by == nil {
		by = new(Reply)
	}
	out.AddEncoded(by.wire)
	if grant.Max > 0 && !by.sessionTimeout {
		out.AddUint32(wire.AttrSessionTime, seconds(grant.Max))
	}
	if grant.Idle > 0 && !by.idleTimeout {
		out.AddUint32(wire.AttrIdleTime, seconds(grant.Idle))
	}
}

// seconds rounds up, since 0 would mean no bound to some NAS.
func seconds(d time.Duration) uint32 {
	return uint32(min((d+time.Second-1)/time.Second, math.MaxUint32))
}

// eapFailure ends an EAP conversation as RFC 3579 section 2.1 wants it with an Access-Reject.
func eapFailure(request []byte) []byte {
	const failure = 4 // RFC 3748 section 4.2
	id := byte(0)
	if len(request) > 1 {
		id = request[1]
	}
	return []byte{failure, id, 0, 4}
}

// cutText shortens s to at most n bytes without splitting a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
