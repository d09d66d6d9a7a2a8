package admin

import (
	"context"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
)

// RecoveryCodes is the one answer that shows recovery codes, once.
type RecoveryCodes struct {
	TokenInfo
	Codes  []string `json:"codes"`
	Record uint64   `json:"record"`
}

// TokenResync is the input of token.resync: two codes of a token, one after the other, as it shows them.
type TokenResync struct {
	ID    string   `json:"id"`
	Codes []string `json:"codes"`
}

// TokenResynced is the answer of token.resync.
type TokenResynced struct {
	TokenInfo
	Drift   int    `json:"drift,omitempty"`   // steps that its clock is ahead, of totp
	Counter int64  `json:"counter,omitempty"` // that it stands at, of hotp
	Record  uint64 `json:"record"`
}

// MaxResync is how many counters ahead a token is looked for (RFC 4226 section 7.4).
const MaxResync = otp.MaxWindow - 1

func (s *Service) recoveryVerbs() {
	Handle(s, "token.recovery", s.tokenRecovery)
	Handle(s, "token.resync", s.tokenResync)
}

// tokenRecovery makes ten recovery codes in place of those that the person had.
func (s *Service) tokenRecovery(ctx context.Context, in PersonIn) (RecoveryCodes, error) {
	id, err := newTokenID()
	if err != nil {
		return RecoveryCodes{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Name)
	if err != nil {
		return RecoveryCodes{}, err
	}
	if err := mayHold(p); err != nil {
		return RecoveryCodes{}, err
	}
	if err := s.mayEquip(ctx, p); err != nil {
		return RecoveryCodes{}, err
	}
	tokens, err := s.Store.TokensOf(ctx, p.Name)
	if err != nil {
		return RecoveryCodes{}, err
	}
	codes, kept := otp.NewRecovery()
	t := login.Token{
		ID: id, Person: p.Name, Label: "recovery codes", Params: otp.Params{Type: otp.TypeRecovery}, State: login.TokenActive, Seed: kept,
		Created: s.Now().UTC().Truncate(time.Millisecond),
	}
	var what login.Change
	replaced := 0
	for i := range tokens {
		if old := &tokens[i]; old.Params.Type == otp.TypeRecovery && old.State != login.TokenRevoked {
			old.State = login.TokenRevoked
			what.All = append(what.All, login.Change{PutToken: old})
			replaced++
		}
	}
	what.All = append(what.All, login.Change{PutToken: &t})
	done, err := s.commit(ctx, change{
		event: "token.recovery", person: p.Name, kind: p.Kind, what: what,
		detail: append(tokenDetail(t), audit.Detail{Key: "codes", Value: strconv.Itoa(len(codes))}, audit.Detail{Key: "sets_replaced", Value: strconv.Itoa(replaced)}),
	})
	if err != nil {
		return RecoveryCodes{}, err
	}
	return RecoveryCodes{TokenInfo: tokenInfo(t), Codes: codes, Record: done.Record}, nil
}

// tokenResync finds a token that has run away, by two codes in a row: a counter that was pressed too often, or a clock that is wrong.
// Both codes are used up by it. A wrong pair is recorded. It locks nobody: who calls the verb is an operator, not somebody who logs in.
func (s *Service) tokenResync(ctx context.Context, in TokenResync) (TokenResynced, error) {
	if len(in.Codes) != 2 {
		return TokenResynced{}, refuse("two codes in a row, as the token shows them", "%d codes were given", len(in.Codes))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.tokenByID(ctx, in.ID)
	if err != nil {
		return TokenResynced{}, err
	}
	p, err := s.person(ctx, t.Person)
	if err != nil {
		return TokenResynced{}, err
	}
	if t.State != login.TokenActive || t.Params.Type == otp.TypeRecovery {
		return TokenResynced{}, refuse("`sallyport token list` shows them", "token %s is not one that can run away: %s, %s", t.ID, t.Params.Type, t.State)
	}
	last, now := s.Gate.LastStep(p.Name, t.ID), s.Now()
	window := otp.Ahead(last, MaxResync)
	if t.Params.Type == otp.TypeTOTP {
		window = t.Params.Around(now, login.MaxDrift)
		window.From = max(window.From, last+1) // what is used stays used (P2)
	}
	step, ok := findPair(t, window, in.Codes)
	if !ok {
		_, err := s.commit(ctx, change{event: "token.resync", person: p.Name, kind: p.Kind, result: audit.Reject, reason: login.ReasonCodeWrong, detail: tokenDetail(*t)})
		if err != nil {
			return TokenResynced{}, err
		}
		return TokenResynced{}, refuse("wait for the next code between the two; a token further away is revoked, and another enrolled",
			"the two are not codes of token %s in a row, within reach", t.ID)
	}
	if !s.Gate.Burn(p.Name, t.ID, step+1) {
		return TokenResynced{}, refuse("with two codes that come after it", "a login took the second code meanwhile: token %s is used", t.ID)
	}
	out := TokenResynced{TokenInfo: tokenInfo(*t), Counter: step + 1}
	effects := []audit.Effect{login.EffectStep(t.ID, step+1)}
	if t.Params.Type == otp.TypeTOTP {
		out.Counter, out.Drift = 0, int(step+1-t.Params.StepAt(now))
		effects = append(effects, login.EffectDrift(t.ID, out.Drift))
	}
	done, err := s.commit(ctx, change{
		event: "token.resync", person: p.Name, kind: p.Kind, effects: effects,
		detail:  append(tokenDetail(*t), audit.Detail{Key: "drift", Value: strconv.Itoa(out.Drift)}, audit.Detail{Key: "steps_ahead", Value: strconv.FormatInt(step+1-last, 10)}),
		factors: []audit.Factor{{Kind: string(login.Have), Method: string(t.Params.Type), Token: t.ID, Result: "ok"}},
	})
	out.Record = done.Record
	return out, err
}

// findPair finds the step of the first of two codes in a row. One code alone would be found by chance in so wide a window.
func findPair(t *login.Token, w otp.Window, codes []string) (step int64, ok bool) {
	first, ok1 := otp.CleanCode(strings.TrimSpace(codes[0]))
	second, ok2 := otp.CleanCode(strings.TrimSpace(codes[1]))
	if !ok1 || !ok2 {
		return 0, false
	}
	for w.From <= w.To {
		at, ok := otp.Match(t.Seed, t.Params, first, w)
		if !ok {
			return 0, false
		}
		if _, ok := otp.Match(t.Seed, t.Params, second, otp.Window{From: at + 1, To: at + 1}); ok {
			return at, true
		}
		w.To = at - 1 // Match finds the newest
	}
	return 0, false
}
