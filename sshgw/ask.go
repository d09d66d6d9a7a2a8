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
		switch {
		case r < ' ' && r != '\n' && r != '\t', r >= 0x7f && r < 0xa0, // control characters
			r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff: // marks of direction and joining
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

var errNotPermitted = errors.New("nothing at the target is permitted")

// askFirst logs in at a target whose questions the person answers while he logs in here, so that clients without a terminal
// can answer too. It is an access like any, and on record before the target is dialled (P3, P11); each session on the connection is
// decided again when it is asked for. It happens once for a link: targets' passwords are not guessed through it unseen.
func (l *link) askFirst(t *Target, challenge ssh.KeyboardInteractiveChallenge) error {
	c := l.c
	if l.askedFirst || !t.Permits(l.accountAt(t)) {
		return errNotPermitted
	}
	l.askedFirst = true
	may, ok := l.anyRight(t)
	if !ok {
		return errNotPermitted // the first session is refused, on record
	}
	a := c.attemptAt(t, l.accountAt(t), may)
	a.Detail = []login.Detail{{Key: "request", Value: "login"}}
	grant, v, _ := c.access("login", l.by(), a)
	if v != granted {
		return errNotPermitted
	}
	s := &session{c: c, target: t, grant: grant, attempt: a, started: time.Now(), kind: "login"}
	up, err := l.up.get(c.ctx, l, s, func(_ context.Context, name, instruction string, prompts []string, echos []bool) ([]string, error) {
		clean := make([]string, len(prompts))
		for i, p := range prompts {
			clean[i] = harmless(p)
		}
		return challenge(harmless(name), harmless(instruction), clean, echos)
	})
	if err == nil {
		l.up.release(up) // it stays, as the newest
		return nil
	}
	ev := s.event("session.connected", login.Failed, endDialFailed)
	ev.Detail = append(ev.Detail, login.Detail{Key: "credential", Value: CredentialAsk}, login.Detail{Key: "cause", Value: dialError(err)})
	if !c.note(ev) || !c.countRefusal() {
		return errUnanswerable
	}
	return err
}

// anyRight is the first thing that the person may do at a target.
func (l *link) anyRight(t *Target) (login.Capability, bool) {
	for _, may := range []login.Capability{login.MayShell, login.MayExec, login.MaySFTP, login.MayDownload, login.MayUpload, login.MayForward} {
		if l.c.srv.gate.Foresee(l.by(), systemOf(t), may) == login.ReasonOK {
			return may, true
		}
	}
	return "", false
}
