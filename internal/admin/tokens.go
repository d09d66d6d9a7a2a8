package admin

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
)

// TokenEnrol is the input of token.enrol.
type TokenEnrol struct {
	Person string     `json:"person"`
	Params otp.Params `json:"params"`
	Label  string     `json:"label,omitempty"`
	Active bool       `json:"active"` // serve at once, without a first code as proof that it was read in
}

// TokenEnrolled is the one answer that shows a seed: the otpauth URI, once.
type TokenEnrolled struct {
	TokenInfo
	URI    string `json:"uri"`
	Record uint64 `json:"record"`
}

// TokenInfo is a token as shown, without its seed.
type TokenInfo struct {
	ID        string           `json:"id"`
	Person    string           `json:"person"`
	Label     string           `json:"label,omitempty"`
	Type      otp.Type         `json:"type"`
	Algorithm otp.Algorithm    `json:"algorithm"`
	Digits    int              `json:"digits"`
	Period    int              `json:"period,omitempty"`
	State     login.TokenState `json:"state"`
	Created   time.Time        `json:"created"`
	Serial    string           `json:"serial,omitempty"` // of a hardware token
	Maker     string           `json:"maker,omitempty"`
	Until     time.Time        `json:"until,omitzero"`
	Used      time.Time        `json:"last_used,omitzero"` // when a login was last accepted by it; of lists
}

func tokenInfo(t login.Token) TokenInfo {
	return TokenInfo{
		ID: t.ID, Person: t.Person, Label: t.Label, Type: t.Params.Type, Algorithm: t.Params.Algorithm,
		Digits: t.Params.Digits, Period: t.Params.Period, State: t.State, Created: t.Created,
		Serial: t.Serial, Maker: t.Maker, Until: t.Until,
	}
}

// usedToken is tokenInfo with when it was used last.
func (s *Service) usedToken(t login.Token) TokenInfo {
	info := tokenInfo(t)
	info.Used = s.Gate.TokenUsed(t.Person, t.ID)
	return info
}

// TokenConfirm is the input of token.confirm.
type TokenConfirm struct {
	Person string `json:"person"`
	Code   string `json:"code"`
}

// TokenIn names one token.
type TokenIn struct {
	ID string `json:"id"`
}

// TokenList is the input of token.list; an empty person means everybody's.
type TokenList struct {
	Person string `json:"person,omitempty"`
}

func (s *Service) tokenVerbs() {
	Handle(s, "token.enrol", s.tokenEnrol)
	Handle(s, "token.confirm", s.tokenConfirm)
	Handle(s, "token.list", s.tokenList)
	Handle(s, "token.revoke", s.tokenRevoke)
}

// newTokenID makes an id that is never used again: 60 random bits, in letters and digits that read well.
func newTokenID() (string, error) {
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return "tk-" + strings.ToLower(base32.StdEncoding.EncodeToString(b)[:12]), nil
}

func (s *Service) tokenEnrol(ctx context.Context, in TokenEnrol) (TokenEnrolled, error) {
	if err := in.Params.Validate(); err != nil {
		return TokenEnrolled{}, refuse("totp or hotp; sha1, sha256 or sha512; 6 or 8 digits; period 30 or 60", "token: %v", err)
	}
	if err := checkLabel(in.Label); err != nil {
		return TokenEnrolled{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Person)
	if err != nil {
		return TokenEnrolled{}, err
	}
	if err := s.mayEquip(ctx, p); err != nil {
		return TokenEnrolled{}, err
	}
	t, err := s.newToken(ctx, p, in, "")
	if err != nil {
		return TokenEnrolled{}, err
	}
	done, err := s.commit(ctx, change{event: "token.enrol", person: p.Name, kind: p.Kind, what: login.Change{PutToken: &t}, detail: tokenDetail(t)})
	if err != nil {
		return TokenEnrolled{}, err
	}
	return TokenEnrolled{TokenInfo: tokenInfo(t), URI: otp.URI(s.Issuer, p.Name, t.Seed, t.Params, 0), Record: done.Record}, nil
}

// newToken makes a token that is not kept yet. Instead is the id of one whose place it takes; empty: none.
func (s *Service) newToken(ctx context.Context, p login.Person, in TokenEnrol, instead string) (login.Token, error) {
	seed, err := otp.NewSeed(in.Params.Algorithm)
	if err != nil {
		return login.Token{}, err
	}
	id, err := newTokenID()
	if err != nil {
		return login.Token{}, err
	}
	if err := s.roomFor(ctx, p, instead); err != nil {
		return login.Token{}, err
	}
	t := login.Token{
		ID: id, Person: p.Name, Label: in.Label, Params: in.Params, State: login.TokenPending, Seed: seed,
		Created: s.Now().UTC().Truncate(time.Millisecond),
	}
	if in.Active {
		t.State = login.TokenActive
	}
	return t, nil
}

// checkLabel bounds what people call a token, in bytes.
func checkLabel(label string) error {
	if len(label) > maxLabel {
		return refuse("", "the label has %d bytes: at most %d", len(label), maxLabel)
	}
	return nil
}

const maxLabel = 64

// mayHold refuses devices and codes for who types none.
func mayHold(p login.Person) error {
	if p.Kind == login.Service {
		return refuse("`sallyport key add "+p.Name+"` gives it a key", "%s is a machine: it types no codes", p.Name)
	}
	return nil
}

// seedText is a seed as people type it into an app.
func seedText(seed []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed)
}

func tokenDetail(t login.Token) []audit.Detail {
	return []audit.Detail{
		{Key: "token", Value: t.ID},
		{Key: "type", Value: string(t.Params.Type)},
		{Key: "algorithm", Value: string(t.Params.Algorithm)},
		{Key: "state", Value: string(t.State)},
	}
}

// tokenConfirm makes the person's newest waiting token active, if the code is its. The code is thereby used.
func (s *Service) tokenConfirm(ctx context.Context, in TokenConfirm) (TokenInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(ctx, in.Person)
	if err != nil {
		return TokenInfo{}, err
	}
	tokens, err := s.Store.TokensOf(ctx, p.Name)
	if err != nil {
		return TokenInfo{}, err
	}
	var waiting *login.Token
	for i := range tokens {
		if t := &tokens[i]; t.State == login.TokenPending && (waiting == nil || !t.Created.Before(waiting.Created)) {
			waiting = t
		}
	}
	if waiting == nil {
		return TokenInfo{}, refuse("`sallyport token enrol` makes one", "%s has no token that waits for its first code", p.Name)
	}
	right, err := s.confirm(ctx, p, *waiting, in.Code, login.Change{})
	if err == nil && !right {
		err = refuse("take a fresh code; check that the clocks of phone and gateway agree", "that is not a code of token %s of %s", waiting.ID, p.Name)
	}
	if err != nil {
		return TokenInfo{}, err
	}
	waiting.State = login.TokenActive
	return tokenInfo(*waiting), nil
}

// confirm makes a waiting token active, if the code is its, together with a further change. Either way there is a record.
func (s *Service) confirm(ctx context.Context, p login.Person, waiting login.Token, typed string, further login.Change, detail ...audit.Detail) (right bool, err error) {
	window := s.Gate.FirstCodes(&waiting, s.Now())
	code, ok := otp.CleanCode(typed)
	step := int64(0)
	if ok {
		step, ok = otp.Match(waiting.Seed, waiting.Params, code, window)
	}
	if !ok {
		_, err := s.commit(ctx, change{
			event: "token.confirm", person: p.Name, kind: p.Kind, result: audit.Reject, reason: login.ReasonCodeWrong, detail: append(tokenDetail(waiting), detail...),
			factors: []audit.Factor{{Kind: string(login.Have), Method: string(waiting.Params.Type), Token: waiting.ID, Result: "wrong"}},
		})
		return false, err
	}
	waiting.State = login.TokenActive
	what := login.Change{PutToken: &waiting}
	if !further.Empty() {
		what.All = []login.Change{further}
	}
	_, err = s.commit(ctx, change{
		event: "token.confirm", person: p.Name, kind: p.Kind, detail: append(tokenDetail(waiting), detail...), what: what,
		factors: []audit.Factor{{Kind: string(login.Have), Method: string(waiting.Params.Type), Token: waiting.ID, Result: "ok"}},
		effects: []audit.Effect{login.EffectStep(waiting.ID, step)},
	})
	return err == nil, err
}

func (s *Service) tokenList(ctx context.Context, in TokenList) ([]TokenInfo, error) {
	list := []TokenInfo{}
	if in.Person == "" {
		err := s.Store.Tokens(ctx, func(t login.Token) error {
			list = append(list, s.usedToken(t))
			return nil
		})
		return list, err
	}
	p, err := s.person(ctx, in.Person)
	if err != nil {
		return nil, err
	}
	tokens, err := s.Store.TokensOf(ctx, p.Name)
	for _, t := range tokens {
		list = append(list, s.usedToken(t))
	}
	return list, err
}

// TokenRevoked is the answer of token.revoke.
type TokenRevoked struct {
	TokenInfo
	Ended []EndedSession `json:"ended,omitempty"` // sessions whose login it proved
}

// tokenRevoke ends a token for good, and what it opened, and keeps its row so that old records can be read.
func (s *Service) tokenRevoke(ctx context.Context, in TokenIn) (TokenRevoked, error) {
	info, err := s.revokeToken(ctx, in.ID)
	if err != nil {
		return TokenRevoked{TokenInfo: info}, err
	}
	ended, err := s.endSessionsBy(ctx, info.Person, info.ID)
	return TokenRevoked{TokenInfo: info, Ended: ended}, err
}

func (s *Service) revokeToken(ctx context.Context, id string) (TokenInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, err := s.tokenByID(ctx, id)
	if err != nil {
		return TokenInfo{}, err
	}
	if found.State == login.TokenRevoked {
		return TokenInfo{}, refuse("", "token %s is revoked already", found.ID)
	}
	found.State = login.TokenRevoked
	p, err := s.person(ctx, found.Person)
	if err != nil {
		return TokenInfo{}, err
	}
	_, err = s.commit(ctx, change{event: "token.revoke", person: p.Name, kind: p.Kind, what: login.Change{PutToken: found}, detail: tokenDetail(*found)})
	return tokenInfo(*found), err
}

// tokenByID finds a token that has to be there.
func (s *Service) tokenByID(ctx context.Context, id string) (*login.Token, error) {
	found, ok, err := s.findToken(ctx, id)
	if err == nil && !ok {
		err = refuse("`sallyport token list` shows them", "there is no token %q", clip(id))
	}
	return &found, err
}

// findToken looks through everybody's tokens.
func (s *Service) findToken(ctx context.Context, id string) (found login.Token, ok bool, err error) {
	err = s.Store.Tokens(ctx, func(t login.Token) error {
		if t.ID == id {
			found, ok = t, true
		}
		return nil
	})
	return found, ok, err
}
