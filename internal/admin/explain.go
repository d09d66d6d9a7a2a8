package admin

import (
	"context"
	"strings"

	"sallyport/internal/login"
)

// Explain is the input of explain: a login that is described, not made.
type Explain struct {
	Person     string           `json:"person"`
	System     string           `json:"system"`
	Capability login.Capability `json:"capability"`
	Factors    []login.Kind     `json:"factors"` // kinds that would be proved
}

// Explained is what would be decided, and why.
type Explained struct {
	Allowed bool         `json:"allowed"`
	Reason  login.Reason `json:"reason"`
	Rule    string       `json:"rule,omitempty"`
	Person  string       `json:"person"`
	System  string       `json:"system"`
	Steps   []Step       `json:"steps"`
}

// Step is one guard that the login would meet, in order.
type Step struct {
	Guard string `json:"guard"`
	OK    bool   `json:"ok"`
	Text  string `json:"text"`
}

func (s *Service) explainVerbs() { Handle(s, "explain", s.explain) }

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
	standing := s.Gate.Standing(in.Person)
	out := Explained{Person: in.Person, System: sys.Name, Reason: standing.Reason}
	step := func(guard string, ok bool, text string) { out.Steps = append(out.Steps, Step{guard, ok, text}) }
	if standing.Reason == login.ReasonUnknownPerson {
		step("person", false, "there is nobody of that name; the prompts and the refusal would be the same as for anybody")
		return out, nil
	}
	step("person", standing.Reason == login.ReasonOK, standing.Text)
	if standing.Tokens == 0 {
		step("token", false, "no active token: no code can be right")
		if out.Reason == login.ReasonOK {
			out.Reason = login.ReasonNoToken
		}
	} else {
		step("token", true, "an active token is enrolled")
	}
	v := s.Gate.Preview(standing.Groups, sys, in.Capability, in.Factors)
	allowed := v.Reason == "ok"
	text := "no rule is for groups " + list(standing.Groups) + " and " + sys.Name + " (tags " + list(sys.Tags) + ")"
	if v.Rule != nil {
		out.Rule = v.Rule.Name
		text = "rule \"" + v.Rule.Name + "\" is the first that matches; it permits " + join(v.Rule.May) + " and needs " + join(v.Rule.Needs())
	}
	step("rule", allowed, text)
	if out.Reason == login.ReasonOK && !allowed {
		out.Reason = login.Reason(v.Reason)
	}
	out.Allowed = out.Reason == login.ReasonOK
	return out, nil
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
