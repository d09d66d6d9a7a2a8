package radiusd

import (
	"context"
	"crypto/rand"
	"time"

	"sallyport/internal/login"
	"sallyport/radiusd/eap"
	"sallyport/radiusd/mschap"
	"sallyport/radiusd/wire"
)

const (
	// eapHeader is the shortest EAP packet; a shorter one asks the server to begin (EAP-Start, RFC 3579 section 2.1).
	eapHeader = 4
	// maxEAP bounds the EAP packet of one request; RADIUS could not carry a longer one.
	maxEAP = wire.MaxPacket
	// metersEAP is the word in the metrics for a challenge that only carries on a conversation.
	metersEAP = "eap"
)

// eapEnd is how an EAP conversation ended.
type eapEnd struct {
	last       []byte // EAP-Success or EAP-Failure
	send, recv []byte // keys, with a success
	name       string // whom the tunnel names, where that is another than User-Name
}

// accepted adds what an acceptance by EAP is made of, and returns the keys.
func (e *eapEnd) accepted(out *wire.Writer, r *request) *wire.Extra {
	out.AddLong(wire.AttrEAPMessage, e.last)
	if e.name != "" && e.name != r.view.UserName.Text(r.packet) && len(e.name) <= wire.MaxValue {
		// The NAS is to account for the person, not for "anonymous" (RFC 2865 section 5.1).
		out.AddText(wire.AttrUserName, e.name)
	}
	if len(e.send) == 0 {
		return nil
	}
	return &wire.Extra{SendKey: e.send, RecvKey: e.recv}
}

// eapMessage puts the attributes of an EAP packet together (RFC 3579 section 3.1).
func (r *request) eapMessage() []byte {
	var whole []byte
	wire.Each(r.packet, func(t byte, value []byte) bool {
		if t == wire.AttrEAPMessage {
			whole = append(whole, value...)
		}
		return len(whole) <= maxEAP
	})
	return whole
}

// findTalk takes the conversation of a request's State, so that nobody else has it.
func (s *Server) findTalk(r *request) *talk {
	plain, err := s.unsealState(r.client.eapAAD, r.view.State.In(r.packet))
	if err != nil {
		return nil
	}
	return s.talks.take(plain, r.received)
}

// converse carries an EAP conversation one round on, and answers.
func (s *Server) converse(r *request, tools *toolbox) []byte {
	ctx := r.road.traffic().ctx
	if why := s.unsupported(r); why != dropNone {
		return s.answer(r, tools, s.judge(ctx, r, tools.Digester))
	}
	message := r.eapMessage()
	var t *talk
	switch {
	case r.view.State.Present():
		if t = s.findTalk(r); t == nil {
			return s.answer(r, tools, s.gate.Refuse(ctx, s.attempt(r), login.ReasonStateUnknown))
		}
	default:
		t = newTalk(r.settings.eap, &eapJudge{s: s, attempt: login.NewID()})
		if len(message) < eapHeader {
			return s.carryOn(r, tools, t, identityRequest())
		}
	}
	t.judge.r = r
	step := t.with.Next(ctx, message)
	t.judge.r = nil
	if !step.Done {
		if step.Out == nil { // nothing that one could answer
			t.with.Close()
			return s.answer(r, tools, s.gate.Refuse(ctx, t.judge.attemptOf(r, step), login.Reason(step.Reason)))
		}
		return s.carryOn(r, tools, t, step.Out)
	}
	keys := t.with.MSK()
	t.with.Close()
	r.eap = &eapEnd{last: step.Out, name: t.judge.name}
	outcome, judged := t.judge.outcome, t.judge.judged
	_, accepted := outcome.Accepted()
	switch {
	case judged && outcome.Unanswerable():
	case step.Success && accepted:
		r.eap.recv, r.eap.send = keysOf(keys)
	case judged && !accepted && !t.judge.second:
	default: // it ended otherwise than the Gate had it, or before it was asked
		r.eap.last = eapFailure(message)
		why := login.Reason(step.Reason)
		if why == "" {
			why = login.Reason(eap.Unaccepted)
		}
		outcome = s.gate.Refuse(ctx, t.judge.attemptOf(r, step), why)
	}
	return s.answer(r, tools, outcome)
}

// keysOf parts the key that EAP made (RFC 2548 section 2.4, RFC 3748 section 7.10).
func keysOf(msk []byte) (recv, send []byte) {
	half := len(msk) / 2
	return msk[:half], msk[half:]
}

// identityRequest is EAP-Request/Identity (RFC 3748 section 5.1), for a NAS that leaves it to us.
func identityRequest() []byte {
	const request, identity = 1, 1
	var id [1]byte
	_, _ = rand.Read(id[:]) // never fails
	return []byte{request, id[0], 0, 5, identity}
}

// carryOn sends the next packet of a conversation. That is no decision: nothing is recorded of it.
func (s *Server) carryOn(r *request, tools *toolbox, t *talk, packet []byte) []byte {
	var out wire.Writer
	r.begin(&out, tools, wire.CodeAccessChallenge)
	out.AddLong(wire.AttrEAPMessage, packet)
	t.round++
	out.Add(wire.AttrState, s.sealState(r.client.eapAAD, t.state()))
	out.AddUint32(wire.AttrSessionTime, uint32(talkFor/time.Second)) // RFC 3579 section 2.6.1
	out.CopyProxyStates(r.packet, &r.view)
	s.talks.put(t, r.received)
	return s.answerWith(r, r.sign(&out, tools), metersEAP)
}

// attemptOf is the attempt of which a refusal is recorded.
func (j *eapJudge) attemptOf(r *request, step eap.Step) login.Attempt {
	name := step.Identity
	if name == "" {
		name = step.Outer
	}
	a := j.s.attempt(r)
	if name != "" {
		a.Name = r.settings.plainName(name)
	}
	a.ID = j.attempt
	if step.Detail != "" {
		a.Detail = append(a.Detail, login.Detail{Key: "eap_detail", Value: step.Detail})
	}
	return j.describe(a, step.Method, step.Inner, step.Outer)
}

// describe adds how it was asked.
func (j *eapJudge) describe(a login.Attempt, method, inner eap.Method, outer string) login.Attempt {
	how := string(method)
	if inner != "" {
		how += "/" + string(inner)
	}
	if how != "" {
		a.Detail = append(a.Detail, login.Detail{Key: "eap_method", Value: how})
	}
	if outer != "" && j.s.settings.Load().plainName(outer) != a.Name {
		a.Detail = append(a.Detail, login.Detail{Key: "eap_outer", Value: outer})
	}
	return a
}

func (j *eapJudge) begin(about eap.Question) login.Attempt {
	a := j.s.attempt(j.r)
	a.ID, a.Name = j.attempt, j.r.settings.plainName(about.Identity)
	j.name = about.Identity
	return j.describe(a, about.Method, about.Inner, about.Outer)
}

// Answer asks the Gate about what was typed. Where no further question can be put, password and code come together.
func (j *eapJudge) Answer(ctx context.Context, about eap.Question, typed string) eap.Verdict {
	r, c := j.r, j.r.client
	a := j.begin(about)
	switch {
	case j.second && j.round.Further():
		a.Password, a.Otherwise = c.read([]byte(typed))
		return j.settle(about, j.s.gate.Continue(ctx, j.round, a))
	case j.second:
		a.Code = login.NewSecret(typed)
		return j.settle(about, j.s.gate.Finish(ctx, j.round, a))
	case c.Mode == Code:
		a.Code, a.Proofs = login.NewSecret(typed), r.client.proofs
		return j.settle(about, j.s.gate.Decide(ctx, a))
	case c.Mode == Append || !about.Askable:
		a.Joined, a.Otherwise = c.read([]byte(typed))
		a.JoinedBy = c.Joint
		return j.settle(about, j.s.gate.Decide(ctx, a))
	default:
		a.Password, a.Otherwise = c.read([]byte(typed))
		return j.settle(about, j.s.gate.Begin(ctx, a))
	}
}

// ProveMSCHAPv2 asks the Gate about a response that can prove a code, and no password.
func (j *eapJudge) ProveMSCHAPv2(ctx context.Context, about eap.Question, proof *mschap.V2) eap.Verdict {
	a := j.begin(about)
	if j.r.client.Mode != Code {
		return j.settle(about, j.s.gate.Refuse(ctx, a, login.Reason(refuseMethod.String())))
	}
	a.CodeProof, a.Proofs = proof, j.r.client.proofs
	return j.settle(about, j.s.gate.Decide(ctx, a))
}

func (j *eapJudge) settle(about eap.Question, outcome login.Outcome) eap.Verdict {
	j.outcome, j.judged, j.second = outcome, true, false
	if _, ok := outcome.Accepted(); ok {
		return eap.Accept()
	}
	progress, challenged := outcome.Challenged()
	if !challenged || !about.Askable {
		return eap.Reject()
	}
	j.round, j.second = progress, true
	prompt := j.r.client.promptFor(j.r, j.s.node)
	if more, further := outcome.Further(); further {
		if prompt = more.Prompt; prompt == "" {
			prompt = DefaultFurther
		}
	}
	return eap.Ask(prompt)
}
