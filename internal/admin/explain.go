package admin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sallyport/internal/login"
)

// Explain is the input of explain: a login that is described, not made.
type Explain struct {
	Person     string           `json:"person"`
	System     string           `json:"system"`
	Capability login.Capability `json:"capability"`
	Factors    []login.Kind     `json:"factors"`         // kinds that would be proved
	Source     netip.Addr       `json:"source,omitzero"` // where from, for exceptions of some addresses
}

// Explained is what would be decided, and why.
type Explained struct {
	Allowed bool         `json:"allowed"`
	Reason  login.Reason `json:"reason"`
	Rule    string       `json:"rule,omitempty"`
	Person  string       `json:"person"`
	System  string       `json:"system"`
	// Silent tells that a packet would get no answer at all, not even a refusal.
	Silent bool   `json:"silent,omitempty"`
	Steps  []Step `json:"steps"`
}

// Step is one guard that the login would meet, in order.
type Step struct {
	Guard string `json:"guard"`
	OK    bool   `json:"ok"`
	Text  string `json:"text"`
}

// ExplainPacket is the input of explain.packet: a RADIUS packet that somebody has kept.
type ExplainPacket struct {
	Packet []byte     `json:"packet"`
	From   netip.Addr `json:"from,omitzero"`
	Client string     `json:"client,omitempty"` // instead of the one that From belongs to
}

// shownPacket names a packet without what was typed into it: with the client's secret, or by guessing, that could be read again.
func shownPacket(raw json.RawMessage) string {
	in, err := decode[ExplainPacket]("explain.packet", raw)
	if err != nil {
		return "not readable"
	}
	sum := sha256.Sum256(in.Packet)
	return fmt.Sprintf("from %v, client %s, SHA-256 of %d bytes: %x", in.From, clip(in.Client), len(in.Packet), sum)
}

// Examined is what the adapter finds in a packet before anybody is looked up.
type Examined struct {
	Steps  []Step
	Reason login.Reason // login.ReasonOK: it would be judged
	Silent bool
	System string
	Person string
	Typed  string // the name as it stands in the packet
	// Progress is of the challenge that is answered; Continues says that one is.
	Progress  login.Progress
	Continues bool
}

func (s *Service) explainVerbs() {
	Handle(s, "explain", s.explain)
	Handle(s, "explain.packet", s.explainPacket)
}

func (s *Service) explain(ctx context.Context, in Explain) (Explained, error) {
	if in.Capability == "" {
		in.Capability = login.MayLogin
	}
	if !in.Capability.Known() {
		return Explained{}, refuse("login, shell, exec, sftp or forward", "%q is nothing that a rule can permit", clip(string(in.Capability)))
	}
	for _, k := range in.Factors {
		if k != login.Know && k != login.Have && k != login.Are {
			return Explained{}, refuse("know, have or are", "%q is not a kind of factor", clip(string(k)))
		}
	}
	sys, ok := s.System(in.System)
	if !ok {
		return Explained{}, refuse("`sallyport client list` and `sallyport target list` show them", "the configuration has no client or target %q", clip(in.System))
	}
	if in.Factors == nil {
		in.Factors = []login.Kind{login.Know, login.Have}
	}
	out := Explained{Person: in.Person, System: sys.Name}
	s.explainPerson(ctx, &out, sys, login.Request{Capability: in.Capability, Proved: in.Factors, Source: in.Source})
	return out, nil
}

// explainPacket takes a packet as far as the adapter does, and from there on like a login that is described, with password
// and code that are right. What was typed is not looked at.
func (s *Service) explainPacket(ctx context.Context, in ExplainPacket) (Explained, error) {
	if s.Examine == nil {
		return Explained{}, refuse("", "packets cannot be examined here")
	}
	x, err := s.Examine(in)
	if err != nil {
		return Explained{}, err
	}
	out := Explained{Person: clip(x.Person), System: x.System, Reason: x.Reason, Silent: x.Silent, Steps: x.Steps}
	if x.Reason != login.ReasonOK {
		return out, nil
	}
	if x.Continues {
		why := s.Gate.Peek(x.Progress, x.Person)
		out.step("state", why == login.ReasonOK, stateText(why))
		if why != login.ReasonOK {
			out.Reason = why
			return out, nil
		}
	}
	if x.Typed != x.Person {
		out.step("name", true, clip(x.Typed)+" is "+clip(x.Person)+": the realm is one of ours")
	}
	sys, ok := s.System(x.System)
	if !ok {
		return Explained{}, refuse("try again: the configuration has just been changed", "the configuration has no client %q", clip(x.System))
	}
	s.explainPerson(ctx, &out, sys, login.Request{Capability: login.MayLogin, Proved: []login.Kind{login.Know, login.Have}, Source: in.From})
	return out, nil
}

func stateText(why login.Reason) string {
	switch why {
	case login.ReasonOK:
		return "one of ours, for this name, not used and not too old: the second round"
	case login.ReasonStateUnknown:
		return "one of ours, and for another name"
	case login.ReasonStateExpired:
		return "one of ours, and too old by now (login.challenge_for)"
	case login.ReasonStateUsed:
		return "one of ours, and used already: each challenge is answered once"
	default:
		return string(why)
	}
}

func (e *Explained) step(guard string, ok bool, text string) {
	e.Steps = append(e.Steps, Step{guard, ok, text})
}

// fail keeps the first reason: it is the one that the login would end with.
func (e *Explained) fail(why login.Reason) {
	if e.Reason == login.ReasonOK {
		e.Reason = why
	}
}

// explainPerson adds the steps from the name to the rule.
func (s *Service) explainPerson(ctx context.Context, out *Explained, sys login.System, r login.Request) {
	standing := s.Gate.Standing(out.Person)
	out.Reason = standing.Reason
	if standing.Reason == login.ReasonUnknownPerson {
		out.step("person", false, "there is nobody of that name; the prompts and the refusal would be the same as for anybody")
		return
	}
	out.step("person", standing.Reason == login.ReasonOK, standing.Text)
	groups, known := standing.Groups, true
	more, asked, err := s.Directory(ctx, out.Person)
	switch {
	case err != nil:
		known = false
		out.step("directory", false, "it cannot be asked for groups, so everybody is refused: "+err.Error())
		out.fail(login.ReasonDirectoryDown)
	case asked:
		out.step("directory", true, "of the groups that rules name, it has: "+list(more))
		groups = append(groups[:len(groups):len(groups)], more...)
	}
	r.Person, r.Groups, r.System, r.Tags, r.Protocol = out.Person, groups, sys.Name, sys.Tags, "ssh"
	if r.Capability == login.MayLogin {
		r.Protocol = "radius"
	}
	v := s.Gate.Preview(r)
	switch {
	case standing.Tokens > 0:
		out.step("token", true, "an active token is enrolled")
	case v.Lacking && v.Exception != "":
		out.step("token", true, "none is enrolled, and the exception asks for none")
	default:
		out.step("token", false, "no active token: no code can be right")
		out.fail(login.ReasonNoToken)
	}
	allowed := v.Reason == "ok"
	text := "no rule is for groups " + list(groups) + " and " + sys.Name + " (tags " + list(sys.Tags) + ")"
	if v.Rule != nil {
		out.Rule = v.Rule.Name
		text = "rule \"" + v.Rule.Name + "\" is the first that matches; it permits " + join(v.Rule.May) + " and needs " + join(v.Rule.Needs())
	}
	if !known {
		text += "; with the directory's groups that may be another one"
	}
	out.step("rule", allowed || strings.HasPrefix(string(v.Reason), "exception_") || v.Reason == "grant_not_live", text)
	if v.Grant != "" {
		out.step("grant", true, v.Grant+" is in force until "+v.Until.UTC().Format(time.RFC3339))
	} else if v.Reason == "grant_not_live" {
		out.step("grant", false, "the rule asks for a grant, and "+out.Person+" holds none for "+sys.Name+" now")
	}
	if v.Exception != "" {
		out.step("exception", true, v.Exception+" is in force and covers this"+map[bool]string{true: ": fewer than two kinds of factor will do", false: ""}[v.Lacking])
	} else if strings.HasPrefix(string(v.Reason), "exception_") {
		out.step("exception", false, s.exceptionText(v.Rule.Exception, login.Reason(v.Reason)))
	}
	if !allowed {
		out.fail(login.Reason(v.Reason))
	}
	out.Allowed = out.Reason == login.ReasonOK
}

// exceptionText says why an entry of the register lets nobody in.
func (s *Service) exceptionText(id string, why login.Reason) string {
	state, known := s.Gate.ExceptionState(id)
	switch {
	case !known:
		return "the register has no " + id
	case why == login.ReasonExceptionScope:
		return id + " is in force, and does not cover this person, system, source, protocol or these factors"
	}
	return id + " is " + string(state)
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func join[T ~string](words []T) string {
	s := make([]string, len(words))
	for i, w := range words {
		s[i] = string(w)
	}
	return list(s)
}
