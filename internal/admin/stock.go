package admin

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
	"sallyport/otp/pskc"
	"sallyport/otp/tokencsv"
)

// TokenImport is the input of token.import; the file comes beside it.
type TokenImport struct {
	Format   string     `json:"format"` // auto, pskc or csv
	Key      []byte     `json:"key,omitempty"`
	Password string     `json:"password,omitempty"`
	Params   otp.Params `json:"params"`         // csv: what the table doesn't say
	Name     string     `json:"name,omitempty"` // the file's, for the record
	DryRun   bool       `json:"dry_run,omitempty"`
}

// TokenImported is the answer of token.import. Where Faults has any, nothing was taken.
type TokenImported struct {
	Format   string      `json:"format"`
	SHA256   string      `json:"sha256"`
	Tokens   int         `json:"tokens"`   // in the file
	Imported int         `json:"imported"` // of them, now; with dry run: that would be
	Already  int         `json:"already"`  // that an earlier import of this file had taken before it was cut off
	Wishes   int         `json:"wishes"`   // that name a person
	DryRun   bool        `json:"dry_run,omitempty"`
	Records  []uint64    `json:"records"` // their numbers
	Faults   []otp.Fault `json:"faults,omitempty"`
	More     int         `json:"more,omitempty"` // faults beyond these
}

// ImportLine is a line of the answer of token.import: how far it is, or at its end the result.
type ImportLine struct {
	Done   int            `json:"done,omitempty"`
	Of     int            `json:"of,omitempty"`
	Result *TokenImported `json:"result,omitempty"`
}

// StockInfo is a hardware token that belongs to nobody, as shown, without its seed.
type StockInfo struct {
	Serial    string        `json:"serial"`
	Maker     string        `json:"maker,omitempty"`
	Model     string        `json:"model,omitempty"`
	Type      otp.Type      `json:"type"`
	Algorithm otp.Algorithm `json:"algorithm"`
	Digits    int           `json:"digits"`
	Period    int           `json:"period,omitempty"`
	From      time.Time     `json:"from,omitzero"`
	Until     time.Time     `json:"until,omitzero"`
	Wish      string        `json:"wish,omitempty"`
	Imported  time.Time     `json:"imported"`
	Batch     string        `json:"batch,omitempty"`
}

// StockList is the input of token.stock.
type StockList struct {
	Prefix string `json:"prefix,omitempty"` // of the serial number
	Limit  int    `json:"limit,omitempty"`  // 0: none
}

// TokenAssign is the input of token.assign.
type TokenAssign struct {
	Serial string `json:"serial"`
	Person string `json:"person,omitempty"` // empty: whom the file wished
	Label  string `json:"label,omitempty"`
	Active bool   `json:"active"` // serve at once, without a first code as proof that the person has it
	Again  bool   `json:"again"`  // a token that was somebody's, and is revoked
}

// TokenAssigned is the answer of token.assign.
type TokenAssigned struct {
	TokenInfo
	Record uint64 `json:"record"`
}

// TokenSerial names a hardware token.
type TokenSerial struct {
	Serial string `json:"serial"`
	Reason string `json:"reason,omitempty"`
}

// batchBytes bounds the changes of one record of an import: with what sealing adds, they fit audit.MaxChange.
const batchBytes = audit.MaxChange - 16<<10

func (s *Service) stockVerbs() {
	HandleUpload(s, "token.import", s.tokenImport)
	Handle(s, "token.stock", s.tokenStock)
	Handle(s, "token.assign", s.tokenAssign)
	Handle(s, "token.discard", s.tokenDiscard)
}

// tokenImport takes a file of hardware tokens into stock. All of it is checked before the first is taken, against itself and against
// what is here. What doesn't fit one record is taken in several; an import that is cut off between two of them is finished by the same
// command again.
func (s *Service) tokenImport(ctx context.Context, in TokenImport, file io.Reader, w io.Writer) error {
	defer clear(in.Key)
	out := json.NewEncoder(w)
	n := &intake{sum: sha256.New(), serials: make(map[string]int)}
	result := TokenImported{DryRun: in.DryRun, Records: []uint64{}}
	faults, err := n.read(in, file, s.maxUpload, &result)
	if err != nil {
		return err
	}
	defer n.forget()
	result.SHA256, result.Tokens = hex.EncodeToString(n.sum.Sum(nil)), len(n.tokens)

	if err := s.takeIn(ctx, in, n, faults, &result, out); err != nil {
		return err
	}
	return out.Encode(ImportLine{Result: &result}) // without s.mu: who asks may be slow to read
}

// takeIn takes what was read into stock, or tells in result why it does not.
func (s *Service) takeIn(ctx context.Context, in TokenImport, n *intake, faults *otp.Faults, result *TokenImported, out *json.Encoder) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if faults.Err() == nil {
		if err := s.compare(ctx, n, result, faults); err != nil {
			return err
		}
	}
	if faults.Err() != nil {
		result.Faults, result.More = faults.List, faults.More
		return s.recordImport(ctx, in, result, len(faults.List)+faults.More)
	}
	if in.DryRun {
		return s.recordImport(ctx, in, result, 0)
	}
	return s.take(ctx, in, n, result, out)
}

// intake are the tokens of a file, before they are taken.
type intake struct {
	sum     hash.Hash // of the file
	tokens  []login.StockToken
	lines   []int             // of each
	serials map[string]int    // place in tokens
	names   map[string]string // texts that many have
}

// forget overwrites the seeds.
func (n *intake) forget() {
	for i := range n.tokens {
		clear(n.tokens[i].Seed)
	}
}

func (n *intake) lineOf(serial string) int {
	if i, ok := n.serials[serial]; ok {
		return n.lines[i]
	}
	return 0
}

// same gives one copy of a text that many tokens have.
func (n *intake) same(text string) string {
	if kept, ok := n.names[text]; ok {
		return kept
	}
	if n.names == nil {
		n.names = make(map[string]string)
	}
	if len(n.names) < 1000 {
		n.names[text] = text
	}
	return text
}

// read reads the file to its end.
func (n *intake) read(in TokenImport, file io.Reader, most int64, result *TokenImported) (*otp.Faults, error) {
	counted := &counting{r: io.TeeReader(file, n.sum)}
	b := bufio.NewReaderSize(counted, 64<<10)
	switch result.Format = in.Format; in.Format {
	case "pskc", "csv":
	case "auto", "":
		result.Format = formatOf(b)
	default:
		return nil, refuse("auto, pskc or csv", "the format %q is not known", clip(in.Format))
	}
	give := func(t otp.Hardware) error {
		n.serials[t.Serial] = len(n.tokens)
		n.lines = append(n.lines, t.Line)
		n.tokens = append(n.tokens, login.StockToken{
			Serial: t.Serial, Maker: n.same(t.Maker), Model: n.same(t.Model), Params: t.Params, Seed: t.Seed, Counter: t.Counter, Drift: t.Drift,
			From: t.Start, Until: t.Expiry, Wish: t.Person,
		})
		if t.Person != "" {
			result.Wishes++
		}
		return nil
	}
	var err error
	if result.Format == "pskc" {
		err = pskc.Read(b, pskc.Key{Preshared: in.Key, Password: in.Password}, give)
	} else if len(in.Key) > 0 || in.Password != "" {
		err = &otp.Faults{List: []otp.Fault{{What: "a key or password was given, and a table is not encrypted", Hint: "leave it out"}}}
	} else {
		err = tokencsv.Read(b, tokencsv.Options{Params: in.Params}, give)
	}
	if _, e := io.Copy(io.Discard, b); e != nil {
		return nil, fmt.Errorf("reading the file: %w", e)
	}
	if counted.n > most {
		return nil, refuse("split it", "the file has more than %d MiB", most>>20)
	}
	faults := new(otp.Faults)
	switch {
	case errors.As(err, &faults):
	case errors.Is(err, otp.ErrTooMany):
		return nil, refuse("split it", "%v", err)
	case err != nil:
		return nil, fmt.Errorf("reading the file: %w", err)
	}
	return faults, nil
}

type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// formatOf tells PSKC from a table by its first sign, in UTF-8 or UTF-16.
func formatOf(b *bufio.Reader) string {
	head, _ := b.Peek(256)
	head = bytes.TrimLeft(head, "\xef\xbb\xbf\xff\xfe\x00 \t\r\n")
	if len(head) > 0 && head[0] == '<' {
		return "pskc"
	}
	return "csv"
}

// compare holds the file against what is here. A serial number that is here already is a fault, unless it came by an earlier import of
// this very file that was cut off. The caller holds s.mu.
func (s *Service) compare(ctx context.Context, n *intake, result *TokenImported, faults *otp.Faults) error {
	fault := func(serial, hint, format string, args ...any) {
		faults.Add(otp.Fault{Line: n.lineOf(serial), Serial: serial, What: fmt.Sprintf(format, args...), Hint: hint})
	}
	var since time.Time
	var elsewhere []otp.Fault // tokens that people have
	if err := s.Store.Stock(ctx, func(have login.StockToken) error {
		i, ok := n.serials[have.Serial]
		if !ok {
			return nil
		}
		t := &n.tokens[i]
		if have.Batch == result.SHA256 && have.Params == t.Params && subtle.ConstantTimeCompare(have.Seed, t.Seed) == 1 {
			result.Already++
			since = have.Imported
			t.Imported = have.Imported // it is not taken again
			return nil
		}
		fault(have.Serial, "`sallyport token discard` removes it from stock", "it is in stock already, from a file imported at %s", have.Imported.Format(time.RFC3339))
		return nil
	}); err != nil {
		return err
	}
	if err := s.Store.Tokens(ctx, func(have login.Token) error {
		i, ok := n.serials[have.Serial]
		if have.Serial == "" || !ok {
			return nil
		}
		if t := &n.tokens[i]; !t.Imported.IsZero() {
			return nil // it was counted
		} else if result.Already > 0 && have.Params == t.Params && subtle.ConstantTimeCompare(have.Seed, t.Seed) == 1 {
			result.Already++
			t.Imported = have.Created
			return nil
		}
		if len(elsewhere) < otp.MaxFaults {
			elsewhere = append(elsewhere, otp.Fault{Line: n.lineOf(have.Serial), Serial: have.Serial, What: fmt.Sprintf("it is token %s of %s already (%s)", have.ID, have.Person, have.State), Hint: "`sallyport token assign --again` gives a revoked one to somebody"})
		} else {
			faults.More++
		}
		return nil
	}); err != nil {
		return err
	}
	for _, f := range elsewhere {
		faults.Add(f)
	}
	if result.Imported = result.Tokens - result.Already; result.Imported == 0 && len(faults.List) == 0 {
		fault("", "`sallyport token stock` shows them", "all %d tokens of this file are here already: it was imported at %s", result.Tokens, since.Format(time.RFC3339))
	}
	return nil
}

// importDetail is what a record says of an import, and no seed.
func importDetail(in TokenImport, r *TokenImported) []audit.Detail {
	return []audit.Detail{
		{Key: "file", Value: clip(in.Name)}, {Key: "file_sha256", Value: r.SHA256}, {Key: "format", Value: r.Format}, {Key: "file_tokens", Value: strconv.Itoa(r.Tokens)},
	}
}

// recordImport records an import by which nothing was taken.
func (s *Service) recordImport(ctx context.Context, in TokenImport, r *TokenImported, faults int) error {
	result, reason := audit.Info, login.ReasonOK
	if faults > 0 {
		result, reason = audit.Reject, login.ReasonFile
	}
	seq, err := s.record(ctx, "token.import", result, string(reason), append(importDetail(in, r),
		audit.Detail{Key: "faults", Value: strconv.Itoa(faults)}, audit.Detail{Key: "dry_run", Value: strconv.FormatBool(in.DryRun)}, audit.Detail{Key: "tokens", Value: "0"})...)
	r.Records = append(r.Records, seq)
	return err
}

// take puts the tokens into stock, in as few records as they fit. The caller holds s.mu.
func (s *Service) take(ctx context.Context, in TokenImport, n *intake, r *TokenImported, out *json.Encoder) error {
	imported := s.Now().UTC().Truncate(time.Millisecond)
	var batch []login.Change
	size, done := 0, 0
	write := func() error {
		if len(batch) == 0 {
			return nil
		}
		d, err := s.commit(ctx, change{
			event: "token.import", person: "none", what: login.Change{All: batch},
			detail: append(importDetail(in, r), audit.Detail{Key: "tokens", Value: strconv.Itoa(len(batch))}, audit.Detail{Key: "first_serial", Value: batch[0].PutStock.Serial},
				audit.Detail{Key: "last_serial", Value: batch[len(batch)-1].PutStock.Serial}, audit.Detail{Key: "tokens_before", Value: strconv.Itoa(r.Already + done)}),
		})
		if err != nil {
			var e *Error
			if done > 0 && errors.As(err, &e) {
				return &Error{Text: fmt.Sprintf("%s; %d of the %d tokens are in stock", e.Text, r.Already+done, r.Tokens), Hint: "when that is mended, the same command again takes the rest"}
			}
			return err
		}
		r.Records = append(r.Records, d.Record)
		done += len(batch)
		batch, size = nil, 0
		_ = out.Encode(ImportLine{Done: done, Of: r.Imported}) // a caller who goes away must not leave half an import
		return nil
	}
	for i := range n.tokens {
		t := &n.tokens[i]
		if !t.Imported.IsZero() {
			continue
		}
		t.Imported, t.Batch = imported, r.SHA256
		gone, _ := s.Gate.TokenStanding("", login.SerialID(t.Serial))
		t.Counter = max(t.Counter, gone+1)
		c := login.Change{PutStock: t}
		b, err := json.Marshal(c)
		if err != nil {
			return err
		}
		length := len(b) + 1
		clear(b)
		if size+length > batchBytes {
			if err := write(); err != nil {
				return err
			}
		}
		batch, size = append(batch, c), size+length
	}
	return write()
}

func (s *Service) tokenStock(ctx context.Context, in StockList) ([]StockInfo, error) {
	list := []StockInfo{}
	errEnough := errors.New("enough")
	err := s.Store.Stock(ctx, func(t login.StockToken) error {
		clear(t.Seed)
		if !strings.HasPrefix(t.Serial, in.Prefix) {
			return nil
		}
		if in.Limit > 0 && len(list) >= in.Limit {
			return errEnough
		}
		list = append(list, StockInfo{
			Serial: t.Serial, Maker: t.Maker, Model: t.Model, Type: t.Params.Type, Algorithm: t.Params.Algorithm, Digits: t.Params.Digits, Period: t.Params.Period,
			From: t.From, Until: t.Until, Wish: t.Wish, Imported: t.Imported, Batch: t.Batch,
		})
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, err
}

// tokenAssign gives a hardware token to somebody.
func (s *Service) tokenAssign(ctx context.Context, in TokenAssign) (TokenAssigned, error) {
	if err := checkLabel(in.Label); err != nil {
		return TokenAssigned{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, used, drift, what, err := s.unassigned(ctx, &in)
	if err != nil {
		return TokenAssigned{}, err
	}
	p, err := s.person(ctx, in.Person)
	if err != nil {
		return TokenAssigned{}, err
	}
	if err := mayHold(p); err != nil {
		return TokenAssigned{}, err
	}
	if err := s.mayEquip(ctx, p); err != nil {
		return TokenAssigned{}, err
	}
	if err := s.roomFor(ctx, p, ""); err != nil {
		return TokenAssigned{}, err
	}
	now := s.Now()
	if !t.Until.IsZero() && !t.Until.After(now) {
		return TokenAssigned{}, refuse("take another token", "token %s has expired: its maker lets it serve until %s", in.Serial, t.Until.Format(time.RFC3339))
	}
	if t.ID, err = newTokenID(); err != nil {
		return TokenAssigned{}, err
	}
	t.Person, t.Label, t.State, t.Created = p.Name, in.Label, login.TokenPending, now.UTC().Truncate(time.Millisecond)
	if in.Active {
		t.State = login.TokenActive
	}
	var effects []audit.Effect
	if used >= 0 {
		effects = append(effects, login.EffectStep(t.ID, used))
	}
	if drift != 0 {
		effects = append(effects, login.EffectDrift(t.ID, int(drift)))
	}
	what.All = append(what.All, login.Change{PutToken: &t})
	done, err := s.commit(ctx, change{
		event: "token.assign", person: p.Name, kind: p.Kind, what: what, effects: effects,
		detail: append(tokenDetail(t), audit.Detail{Key: "serial", Value: t.Serial}, audit.Detail{Key: "maker", Value: t.Maker}, audit.Detail{Key: "again", Value: strconv.FormatBool(in.Again)}),
	})
	return TokenAssigned{TokenInfo: tokenInfo(t), Record: done.Record}, err
}

// unassigned finds the token in stock, or with in.Again that of somebody whose token it is no longer, and what of it is used up. What is the
// change that takes it from there. It fills in whom the file wished. The caller holds s.mu.
func (s *Service) unassigned(ctx context.Context, in *TokenAssign) (t login.Token, used, drift int64, what login.Change, err error) {
	have, ok, err := s.Store.StockBySerial(ctx, in.Serial)
	if err != nil {
		return t, 0, 0, what, err
	}
	if ok {
		if in.Person == "" {
			in.Person = s.wished(ctx, have.Wish)
		}
		if in.Person == "" {
			return t, 0, 0, what, refuse("sallyport token assign "+have.Serial+" NAME", "the file that token %s came in names nobody who is known here", have.Serial)
		}
		t = login.Token{Serial: have.Serial, Maker: have.Maker, Params: have.Params, Seed: have.Seed, From: have.From, Until: have.Until}
		what.All = []login.Change{{DeleteStock: have.Serial}}
		return t, have.Counter - 1, have.Drift, what, nil
	}
	others, err := s.Store.TokensBySerial(ctx, in.Serial)
	if err != nil {
		return t, 0, 0, what, err
	}
	if len(others) == 0 {
		return t, 0, 0, what, refuse("`sallyport token stock` shows them; `sallyport token import` takes a maker's file", "there is no hardware token %q", clip(in.Serial))
	}
	used, _ = s.Gate.TokenStanding("", login.SerialID(in.Serial))
	for _, o := range others {
		if o.State != login.TokenRevoked {
			return t, 0, 0, what, refuse("`sallyport token revoke "+o.ID+"` takes it from there", "token %s is %s's (%s, %s)", o.Serial, o.Person, o.ID, o.State)
		}
		u, d := s.Gate.TokenStanding(o.Person, o.ID)
		if u > used {
			used = u
		}
		drift = d
	}
	o := others[len(others)-1]
	if !in.Again {
		return t, 0, 0, what, refuse("if it is in your hands, and was not lost: --again", "token %s was %s's (%s), and is revoked", o.Serial, o.Person, o.ID)
	}
	if in.Person == "" {
		return t, 0, 0, what, refuse("sallyport token assign --again "+o.Serial+" NAME", "whose shall token %s be?", o.Serial)
	}
	return login.Token{Serial: o.Serial, Maker: o.Maker, Params: o.Params, Seed: o.Seed, From: o.From, Until: o.Until}, used, drift, what, nil
}

// wished finds the person that a file names: by the name here, or by a user principal name or mail address that begins with it.
func (s *Service) wished(ctx context.Context, wish string) string {
	name := []byte(wish)
	for i, b := range name {
		if 'A' <= b && b <= 'Z' {
			name[i] = b + 'a' - 'A'
		}
	}
	before, _, _ := bytes.Cut(name, []byte("@"))
	for _, candidate := range []string{string(name), string(before)} {
		if !login.ValidName(candidate) {
			continue
		}
		if p, ok, err := s.Store.PersonByName(ctx, candidate); err == nil && ok {
			return p.Name
		}
	}
	return ""
}

// roomFor refuses a further device where more would not be checked. Instead is the id of a token whose place it takes; empty: none.
func (s *Service) roomFor(ctx context.Context, p login.Person, instead string) error {
	others, err := s.Store.TokensOf(ctx, p.Name)
	if err != nil {
		return err
	}
	alive := 0
	for _, t := range others {
		if t.State != login.TokenRevoked && t.ID != instead && t.Params.Type != otp.TypeRecovery {
			alive++
		}
	}
	if alive >= login.MaxTokens {
		return refuse("`sallyport token revoke` one first", "%s has %d tokens already, and no more are checked", p.Name, alive)
	}
	return nil
}

// tokenDiscard removes a token from stock: it was lost, or is thrown away.
func (s *Service) tokenDiscard(ctx context.Context, in TokenSerial) (Done, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok, err := s.Store.StockBySerial(ctx, in.Serial)
	if err != nil {
		return Done{}, err
	}
	if !ok {
		return Done{}, refuse("`sallyport token stock` shows them; somebody's token is ended by `sallyport token revoke`", "there is no token %q in stock", clip(in.Serial))
	}
	var effects []audit.Effect
	if gone, _ := s.Gate.TokenStanding("", login.SerialID(t.Serial)); t.Batch == "" && t.Counter-1 > gone {
		effects = append(effects, login.EffectStep(login.SerialID(t.Serial), t.Counter-1))
	}
	return s.commit(ctx, change{
		event: "token.discard", person: "none", what: login.Change{DeleteStock: t.Serial}, effects: effects,
		detail: []audit.Detail{{Key: "serial", Value: t.Serial}, {Key: "maker", Value: t.Maker}, {Key: "file_sha256", Value: t.Batch}, {Key: "why", Value: cmp.Or(clip(in.Reason), "not said")}},
	})
}

// backToStock is the change that takes a person's hardware tokens back, with what of each is used up: whoever gets one next, and whoever
// reads the maker's file once more, must not have a code accepted that was accepted before (P2). So nobody may log in by them any more.
// The caller holds s.mu.
func (s *Service) backToStock(ctx context.Context, person string, tokens []login.Token) (what []login.Change, serials []string, err error) {
	for _, t := range tokens {
		if slices.Contains(serials, t.Serial) {
			continue
		}
		all, err := s.Store.TokensBySerial(ctx, t.Serial)
		if err != nil {
			return nil, nil, err
		}
		if slices.ContainsFunc(all, func(o login.Token) bool { return o.Person != person && o.State != login.TokenRevoked }) {
			continue // it has gone on to somebody else
		}
		before, stocked, err := s.Store.StockBySerial(ctx, t.Serial)
		if err != nil {
			return nil, nil, err
		}
		gone, _ := s.Gate.TokenStanding("", login.SerialID(t.Serial))
		back := login.StockToken{
			Serial: t.Serial, Maker: t.Maker, Params: t.Params, Seed: t.Seed, From: t.From, Until: t.Until,
			Counter: gone + 1, Imported: s.Now().UTC().Truncate(time.Millisecond),
		}
		if stocked && back.Counter <= before.Counter { // somebody who had it later was removed before
			back.Counter, back.Drift = before.Counter, before.Drift
		}
		for _, o := range all { // also of those who had it before, and after
			used, drift := s.Gate.TokenStanding(o.Person, o.ID)
			if back.Counter <= used {
				back.Counter, back.Drift = used+1, int64(drift)
			}
		}
		what, serials = append(what, login.Change{PutStock: &back}), append(serials, t.Serial)
	}
	return what, serials, nil
}
