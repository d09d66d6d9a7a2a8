package sshgw

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"sallyport/internal/login"
	"sallyport/sshgw/outbound"
	"sallyport/sshgw/relay"
)

// asker returns how a target's own questions reach the person in a session: on his terminal. Nil: he has none.
func (l *link) asker(ch ssh.Channel, start *relay.Start) outbound.Ask {
	if start.PTY == nil {
		return nil
	}
	return func(ctx context.Context, name, instruction string, prompts []string, echos []bool) ([]string, error) {
		stop := context.AfterFunc(ctx, func() { _ = ch.Close() })
		defer stop()
		t := term.NewTerminal(ch, "")
		for _, text := range []string{name, instruction} {
			if text = harmless(text); text != "" {
				if _, err := io.WriteString(t, text+"\r\n"); err != nil {
					return nil, err
				}
			}
		}
		answers := make([]string, 0, len(prompts))
		for i, p := range prompts {
			p = harmless(p)
			var answer string
			var err error
			if echos[i] {
				t.SetPrompt(p)
				answer, err = t.ReadLine()
			} else {
				answer, err = t.ReadPassword(p)
			}
			if err != nil {
				return nil, err
			}
			answers = append(answers, answer)
		}
		return answers, nil
	}
}

// harmless keeps a target's question from moving the person's cursor: control characters are dropped.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

var errNotPermitted = errors.New("nothing at the target is permitted")

// askFirst logs in at a target whose questions the person answers while he logs in here, so that clients without a terminal
// can answer too. Nothing is opened there but the connection; each session on it is decided when it is asked for.
func (l *link) askFirst(t *Target, challenge ssh.KeyboardInteractiveChallenge) error {
	c := l.c
	if !t.Permits(l.accountAt(t)) || !c.permitsAny(l.grant, t) {
		return errNotPermitted
	}
	s := &session{c: c, target: t, grant: l.grant, attempt: c.attemptAt(t, l.accountAt(t), login.MayShell), started: time.Now(), kind: "login"}
	_, err := l.up.get(c.ctx, l, s, func(_ context.Context, name, instruction string, prompts []string, echos []bool) ([]string, error) {
		clean := make([]string, len(prompts))
		for i, p := range prompts {
			clean[i] = harmless(p)
		}
		return challenge(harmless(name), harmless(instruction), clean, echos)
	})
	return err
}
