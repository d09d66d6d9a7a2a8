package radiusd

import (
	"math"
	"time"
	"unicode/utf8"

	"layeh.com/radius"

	"sallyport/internal/login"
	"sallyport/radiusd/attr"
	"sallyport/radiusd/wire"
)

const (
	protocol = "radius"

	promptNoEcho, promptEcho = 0, 1 // RFC 2869 section 5.10
)

// handle judges a request and answers it, on a worker.
func (s *Server) handle(r *request) {
	defer s.forget(r)
	tools := s.tools.Get().(*toolbox)
	defer s.tools.Put(tools)
	var packet []byte
	switch {
	case r.packet[0] == codeAccounting:
		s.findAndAskAccounting(r)
		packet = s.answerAccounting(r, tools)
	case r.view.EAP.Present():
		packet = s.converse(r, tools)
	default:
		packet = s.answer(r, tools, s.judge(r.road.traffic().ctx, r, tools.Digester))
	}
	if packet != nil {
		r.road.post(r, packet)
	}
}

// forget ends a request, whatever became of it. It is deferred.
func (s *Server) forget(r *request) {
	if p := recover(); p != nil {
		s.panicked(r, p)
	}
	tr, asks := r.road.traffic(), r.asks
	r.facts = facts{}
	s.requests.Put(r)
	if asks {
		tr.pending.Done()
	} else {
		tr.done()
	}
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
	return s.answerWith(r, packet, string(outcome.Reason()))
}

// answerWith counts an answer and remembers it for resends. It returns nil when nobody waits for it any more.
func (s *Server) answerWith(r *request, packet []byte, why string) []byte {
	now := s.now()
	wanted := s.cache.finish(r.entry, packet, now.Sub(s.start))
	r.entry = nil
	if !wanted {
		s.drop(r.client, dropSuperseded, r.from.Addr())
		return nil
	}
	t := r.client.tally
	t.answered(now.Sub(r.received))
	switch packet[0] {
	case wire.CodeAccessAccept:
		t.accepts.Add(1)
	case wire.CodeAccessChallenge:
		t.challenges.Add(1)
	default:
		t.rejects.Add(1)
	}
	s.meter.Reply(r.client.Name, radius.Code(packet[0]).String(), why, now.Sub(r.received))
	return packet
}

// render is the one place where an outcome becomes bytes. Whatever is neither accepted nor challenged is rejected.
func (s *Server) render(r *request, tools *toolbox, outcome login.Outcome) (packet []byte, ok bool) {
	var out wire.Writer
	if grant, accepted := outcome.Accepted(); accepted {
		r.begin(&out, tools, wire.CodeAccessAccept)
		r.addSentence(&out, outcome)
		s.addGrant(&out, r, grant)
		s.addProofs(&out, r, tools, outcome)
	} else if progress, challenged := outcome.Challenged(); challenged {
		r.begin(&out, tools, wire.CodeAccessChallenge)
		if !s.addQuestion(&out, r, progress, outcome) {
			return nil, false
		}
	} else {
		r.begin(&out, tools, wire.CodeAccessReject)
		r.addSentence(&out, outcome)
		s.addRefusal(&out, r)
	}
	out.CopyProxyStates(r.packet, &r.view)
	if out.Len() > wire.MaxPacket {
		return nil, false
	}
	return r.sign(&out, tools), true
}

// addSentence tells the person. With EAP that would reach nobody (RFC 3579 section 2.6.5).
func (r *request) addSentence(out *wire.Writer, outcome login.Outcome) {
	if !r.view.EAP.Present() {
		out.AddText(wire.AttrReplyMessage, cutText(outcome.Sentence(), wire.MaxValue))
	}
}

// addQuestion adds what an Access-Challenge asks: for the code, or what the person's directory wants to know.
func (s *Server) addQuestion(out *wire.Writer, r *request, progress login.Progress, outcome login.Outcome) bool {
	c := r.client
	state := s.sealState(c.stateAAD, progress.MarshalBinary())
	if len(state) > wire.MaxValue {
		return false
	}
	out.Add(wire.AttrState, state)
	text, echo := c.promptFor(r, s.node), !c.NoEcho
	if more, further := outcome.Further(); further {
		text, echo = cutText(more.Prompt, wire.MaxValue), more.Echo
		if text == "" {
			text = DefaultFurther // pam_radius takes a challenge without Reply-Message for a failure
		}
	}
	out.AddText(wire.AttrReplyMessage, text)
	prompt := uint32(promptNoEcho)
	if echo {
		prompt = promptEcho
	}
	out.AddUint32(wire.AttrPrompt, prompt)
	if r.settings.challengeFor > 0 {
		out.AddUint32(wire.AttrSessionTime, r.settings.challengeFor)
	}
	if extra, ok := outcome.Extra().(*wire.Extra); ok {
		s.extras.put(progress.ID(), extra, r.received)
	}
	return true
}

// addGrant adds what the rule's reply says, and the rule's bounds on time where the reply says nothing of them.
func (s *Server) addGrant(out *wire.Writer, r *request, grant login.Grant) {
	by := r.settings.replies[grant.Rule]
	if by == nil {
		by = new(attr.Reply)
	}
	out.AddEncoded(by.Encoded())
	if grant.Max > 0 && !by.SessionTimeout() {
		out.AddUint32(wire.AttrSessionTime, seconds(grant.Max))
	}
	if grant.Idle > 0 && !by.IdleTimeout() {
		out.AddUint32(wire.AttrIdleTime, seconds(grant.Idle))
	}
	if r.client.SessionClass {
		// The NAS gives it back with its accounting (RFC 2865 section 5.25).
		var class [len(classPrefix) + 36]byte
		out.Add(wire.AttrClass, append(append(class[:0], classPrefix...), grant.Attempt...))
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
