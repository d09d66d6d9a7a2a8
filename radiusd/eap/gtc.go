package eap

import (
	"bytes"
	"context"
)

// bare makes a method that is carried out by itself, or within a tunnel.
func bare(s *Server, q *inquiry, m Method) method {
	if m == MSCHAPv2 {
		return newMSCHAPv2(q)
	}
	return &gtc{inquiry: q, prompt: s.prompt}
}

// gtc is EAP-GTC (RFC 3748 section 5.6): a question and an answer in clear text.
type gtc struct {
	inquiry *inquiry
	prompt  string
}

func (g *gtc) begin() []byte { return ask6(g.prompt) }
func (g *gtc) keys() []byte  { return nil }

// ask6 is the body of a question.
func ask6(prompt string) []byte { return append([]byte{typeGTC}, cut(prompt, maxPrompt)...) }

func (g *gtc) hear(ctx context.Context, body []byte) turn {
	typed := unpadded(body[1:])
	switch {
	case len(typed) > maxTyped:
		return fail(InnerMalformed)
	case g.inquiry.exhausted():
		return fail(TooManyQuestions)
	}
	v := g.inquiry.answer(ctx, string(typed), true)
	switch v.ruling {
	case accept:
		return pass(v)
	case ask:
		return reply(ask6(v.prompt))
	default:
		return fail(g.inquiry.refusal(v))
	}
}

// unpadded takes off the zeros that some peers put behind a password.
func unpadded(b []byte) []byte { return bytes.TrimRight(b, "\x00") }
