package eap

import "context"

// Judge says who may pass. One conversation asks it one thing at a time; many conversations ask it together. It may
// block, and heeds ctx: Close waits for it. The zero Verdict rejects, so a Judge that cannot decide has nothing to do.
type Judge interface {
	// Answer is asked about what was typed, where the method carries clear text: inner PAP and EAP-GTC. typed is what
	// the peer sent without its padding of zeros; it may be empty, and need not be UTF-8.
	Answer(ctx context.Context, about Question, typed string) Verdict
	// ProveMSCHAPv2 is asked whether the person holds a code that proof.Proves. It is not accepted without.
	ProveMSCHAPv2(ctx context.Context, about Question, proof *MSCHAPv2Proof) Verdict
}

// Question is what a Judge is asked about.
type Question struct {
	// Identity is who wants to pass, as the peer put it: within a tunnel the inner identity. It is not empty and holds
	// no zero octet; nothing else is known of it.
	Identity string
	// Outer is the identity that was given before the tunnel, often an anonymous one. It decides nothing.
	Outer string
	// Method and Inner are how it is asked; Inner is empty without a tunnel.
	Method, Inner Method
	// Step counts the conversation's questions from 0.
	Step int
	// Askable reports whether a verdict Ask can be put to the peer. It cannot for PAP and EAP-MSCHAPv2.
	Askable bool
}

type ruling uint8

const (
	reject ruling = iota
	accept
	ask
)

// Verdict is a Judge's answer. The zero value rejects.
type Verdict struct {
	ruling ruling
	prompt string
}

// Accept lets the person pass.
func Accept() Verdict { return Verdict{ruling: accept} }

// Reject refuses.
func Reject() Verdict { return Verdict{} }

// Ask puts a further question. Where the method has no way to ask it, the conversation fails, and its last Step is
// Unaskable. EAP-GTC has no sign for whether the answer may be shown, and peers hide it.
func Ask(prompt string) Verdict { return Verdict{ruling: ask, prompt: prompt} }

// inquiry asks the Judge for one conversation, and knows what was asked.
type inquiry struct {
	judge     Judge
	about     Question
	unaskable bool
	next      byte // the identifier of the request that follows
}

// exhausted reports whether the Judge was asked as often as may be.
func (q *inquiry) exhausted() bool { return q.about.Step >= maxQuestions }

func (q *inquiry) answer(ctx context.Context, typed string, askable bool) Verdict {
	return q.settle(askable, func() Verdict { return q.judge.Answer(ctx, q.about, typed) })
}

func (q *inquiry) prove(ctx context.Context, proof *MSCHAPv2Proof) Verdict {
	return q.settle(false, func() Verdict { return q.judge.ProveMSCHAPv2(ctx, q.about, proof) })
}

func (q *inquiry) settle(askable bool, hear func() Verdict) Verdict {
	q.about.Askable = askable
	v := hear()
	q.about.Step++
	if v.ruling == ask && !askable {
		q.unaskable = true
	}
	return v
}

// refusal is why a verdict that does not accept ends the conversation.
func (q *inquiry) refusal(v Verdict) Reason {
	if v.ruling == ask && q.unaskable {
		return JudgeUnaskable
	}
	return JudgeRejected
}
