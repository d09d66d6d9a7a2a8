// Package admin is the operator's verbs: what the CLI, and later the console, can do to people, tokens, keys and
// records. Each verb is recorded, and its record comes before its effect.
//
// A verb has a name ("user.add"), one JSON object in and one out. Service carries verbs out in this process; Client
// sends them to the daemon's Service over its unix socket. Both are a Caller, so that the CLI need not know which.
package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sallyport/internal/alert"
	"sallyport/internal/audit"
	"sallyport/internal/login"
)

// Caller carries out verbs. It may be called concurrently.
type Caller interface {
	// Call decodes the verb's answer into out, which may be nil.
	Call(ctx context.Context, verb string, in, out any) error
	// Stream writes the verb's answer to w as it comes.
	Stream(ctx context.Context, verb string, in any, w io.Writer) error
}

// Error is a verb's refusal or failure, for people.
type Error struct {
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`

	Fault bool `json:"-"` // of the gateway: not the asker's matter
}

func (e *Error) Error() string { return e.Text }

// refuse makes an Error.
func refuse(hint, format string, args ...any) error {
	return &Error{Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Actor is who asked for a verb: an operating-system user, over which road.
type Actor struct {
	Name string // "root", "uid 1000"; once he is admitted, the person at the gateway that he is, if he is one
	Road string // "cli" in this process, "socket" from another
	UID  int    // of the operating-system user; -1: not known
	User string // his name there
	Role Role   // once he is admitted
}

type actorKey struct{}

// WithActor says on whose behalf the verbs called with ctx are.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

func actorOf(ctx context.Context) Actor {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		return a
	}
	return Actor{Name: "unknown", Road: "unknown", UID: -1}
}

// Store is what the verbs read. It is called concurrently.
type Store interface {
	People(ctx context.Context, fn func(login.Person) error) error
	Tokens(ctx context.Context, fn func(login.Token) error) error
	Keys(ctx context.Context, fn func(login.Key) error) error
	PersonByName(ctx context.Context, name string) (p login.Person, ok bool, err error)
	TokensOf(ctx context.Context, person string) ([]login.Token, error)
	TokensBySerial(ctx context.Context, serial string) ([]login.Token, error)
	Stock(ctx context.Context, fn func(login.StockToken) error) error
	StockBySerial(ctx context.Context, serial string) (t login.StockToken, ok bool, err error)
	KeysOf(ctx context.Context, person string) ([]login.Key, error)
	PasswordHash(ctx context.Context, person string) (hash string, ok bool, err error)
	WithPassword(ctx context.Context) (people map[string]bool, err error)
	Exceptions(ctx context.Context, fn func(login.Exception) error) error // every version
	TimedGrants(ctx context.Context, fn func(login.TimedGrant) error) error
	Attestations(ctx context.Context, fn func(login.Attestation) error) error
	Holds(ctx context.Context, fn func(login.Hold) error) error
	// Apply applies a change whose record has the number seq.
	Apply(ctx context.Context, seq uint64, c login.Change) error
}

// Log is what the verbs read of the records.
type Log interface {
	Checkpoint() (string, error)
	Export(w io.Writer) error
	Next() uint64
	Follow(ctx context.Context, from uint64, fn func(*audit.Record) error) error
}

// Finder searches the records, newest first unless oldest is asked for.
type Finder interface {
	Find(ctx context.Context, f audit.Filter, fn func(*audit.Record) error) error
}

// Options are what a Service works on.
type Options struct {
	Gate      *login.Gate
	Store     Store
	Log       Log
	Finder    Finder
	Now       func() time.Time
	Slog      *slog.Logger
	Node      string
	Issuer    string                                                   // shown by authenticator apps beside the person's name
	PublicKey string                                                   // of the log's checkpoints
	Hash      func(login.Secret) (string, error)                       // a new password's hash
	Seal      func(change []byte) (sealed []byte)                      // for the journal
	System    func(name string) (login.System, bool)                   // what the configuration knows
	End       Ender                                                    // nil: sessions cannot be ended from here
	Change    Changer                                                  // nil: nor changed
	Firsts    func() []string                                          // first factors that are configured
	Examine   func(ExplainPacket) (Examined, error)                    // takes a RADIUS packet apart; nil: that cannot be done here
	Targets   Targets                                                  // nil: there are none
	Operator  func(Actor) Actor                                        // fills in who the actor is at the gateway, and his role; nil: everybody is an admin
	IsAdmin   func(person string) bool                                 // whether a person is an operator with the role admin; nil: nobody is
	FourEyes  func() bool                                              // whether who approves must be another than who asks; nil: no
	Alerts    *alert.Follower                                          // nil: none are kept
	People    func() PeopleRules                                       // nil: the defaults
	Retain    func(ctx context.Context, dryRun bool) (Retained, error) // erases what is past its time; nil: that cannot be done here
	// Directory returns what somebody's directory knows of his groups; nil: the Gate's is asked.
	Directory func(ctx context.Context, name string) (groups []string, asked bool, err error)
}

// Service carries out verbs in this process.
type Service struct {
	Options
	verbs   map[string]verb
	streams map[string]stream
	uploads map[string]upload

	maxUpload int64 // MaxUpload, but in tests
	duties    map[string]duty
	refused   refusals

	mu sync.Mutex // serialises the verbs that change something

	alertMu sync.Mutex
	alerts  map[string]time.Time // guarded by alertMu: when a host key was last warned of

	// Sweep's own.
	swept map[string]int    // by session, how often its end was asked for
	under map[string]string // by session, the exception that its login was made under; empty: none
}

type (
	verb   func(ctx context.Context, in json.RawMessage) (any, error)
	stream func(ctx context.Context, in json.RawMessage, w io.Writer) error
)

// New makes a Service with all verbs of this package.
func New(o Options) *Service {
	if o.Firsts == nil {
		o.Firsts = func() []string { return []string{"local"} }
	}
	if o.Directory == nil {
		o.Directory = o.Gate.DirectoryGroups
	}
	if o.Operator == nil {
		o.Operator = func(a Actor) Actor { a.Role = RoleAdmin; return a }
	}
	if o.IsAdmin == nil {
		o.IsAdmin = func(string) bool { return false }
	}
	if o.FourEyes == nil {
		o.FourEyes = func() bool { return false }
	}
	if o.Targets == nil {
		o.Targets = noTargets{}
	}
	s := &Service{Options: o, verbs: make(map[string]verb), streams: make(map[string]stream), uploads: make(map[string]upload), maxUpload: MaxUpload, alerts: make(map[string]time.Time), duties: duties(), under: make(map[string]string)}
	s.userVerbs()
	s.tokenVerbs()
	s.ticketVerbs()
	s.keyVerbs()
	s.auditVerbs()
	s.sessionVerbs()
	s.trustVerbs()
	s.recordingVerbs()
	s.explainVerbs()
	s.targetVerbs()
	s.recoveryVerbs()
	s.exceptionVerbs()
	s.grantVerbs()
	s.accessVerbs()
	s.stockVerbs()
	s.alertVerbs()
	s.reviewVerbs()
	s.holdVerbs()
	return s
}

// Handle adds a verb. All are added before the first call. In is decoded strictly.
func Handle[In, Out any](s *Service, name string, fn func(ctx context.Context, in In) (Out, error)) {
	if _, twice := s.verbs[name]; twice {
		panic("admin: verb " + name + " is added twice")
	}
	s.verbs[name] = func(ctx context.Context, raw json.RawMessage) (any, error) {
		in, err := decode[In](name, raw)
		if err != nil {
			return nil, err
		}
		return fn(ctx, in)
	}
}

// HandleStream adds a verb whose answer may be long, or may come over time.
func HandleStream[In any](s *Service, name string, fn func(ctx context.Context, in In, w io.Writer) error) {
	s.streams[name] = func(ctx context.Context, raw json.RawMessage, w io.Writer) error {
		in, err := decode[In](name, raw)
		if err != nil {
			return err
		}
		return fn(ctx, in, w)
	}
}

func decode[In any](name string, raw json.RawMessage) (in In, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		// A decoder's error may quote a value, and a value may be a password.
		return in, refuse("the command and the daemon may be of different versions", "verb %s: the arguments do not fit", name)
	}
	return in, nil
}

// Verbs lists the names of all verbs, for tests.
func (s *Service) Verbs() []string {
	var names []string
	for name := range s.verbs {
		names = append(names, name)
	}
	for name := range s.streams {
		names = append(names, name)
	}
	for name := range s.uploads {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Call implements Caller.
func (s *Service) Call(ctx context.Context, name string, in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	result, err := s.call(ctx, name, raw)
	if err != nil || out == nil {
		return err
	}
	answer, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

func (s *Service) call(ctx context.Context, name string, raw json.RawMessage) (any, error) {
	fn, ok := s.verbs[name]
	if !ok {
		return nil, refuse("the command and the daemon may be of different versions", "there is no verb %q here", name)
	}
	ctx, err := s.admit(ctx, name, raw)
	if err != nil {
		return nil, err
	}
	return fn(ctx, raw)
}

// Stream implements Caller.
func (s *Service) Stream(ctx context.Context, name string, in any, w io.Writer) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return s.stream(ctx, name, raw, w)
}

func (s *Service) stream(ctx context.Context, name string, raw json.RawMessage, w io.Writer) error {
	fn, ok := s.streams[name]
	if !ok {
		return refuse("the command and the daemon may be of different versions", "there is no verb %q here", name)
	}
	ctx, err := s.admit(ctx, name, raw)
	if err != nil {
		return err
	}
	return fn(ctx, raw, w)
}

// Empty is the input of verbs that need none, and the output of those that answer nothing.
type Empty struct{}

// Done is the answer of a verb that changed something: the number of its record.
type Done struct {
	Record uint64         `json:"record"`
	Ended  []EndedSession `json:"ended,omitempty"` // sessions that it ended
}

// change is one verb's doing, before it is recorded.
type change struct {
	event   string
	person  string
	kind    login.PersonKind
	result  audit.Result // zero: info
	reason  login.Reason // empty: ok
	system  string       // empty: the gateway
	class   string       // the system's
	account string       // at the system
	except  string       // the entry of the exception register that it is about
	detail  []audit.Detail
	effects []audit.Effect
	factors []audit.Factor
	what    login.Change
}

// commit records and applies. The caller holds s.mu.
func (s *Service) commit(ctx context.Context, c change) (Done, error) {
	actor := actorOf(ctx)
	rec := &audit.Record{
		Time: s.Now(), Event: c.event, Result: cmp.Or(c.result, audit.Info), Reason: string(cmp.Or(c.reason, login.ReasonOK)), Person: c.person,
		PersonKind: string(c.kind), Login: c.person, Protocol: "admin", Source: actor.Road,
		System: cmp.Or(c.system, login.GatewaySystem), Class: c.class, Account: c.account, Exception: c.except,
		Factors: c.factors, Effects: c.effects,
		Detail: append(actorDetail(actor), c.detail...),
	}
	var sealed []byte
	if !c.what.Empty() {
		raw, err := json.Marshal(c.what)
		if err != nil {
			return Done{}, err
		}
		sealed = s.Seal(raw)
		clear(raw)
	}
	ctx = context.WithoutCancel(ctx) // a caller who goes away must not leave half a change
	receipt, err := s.Gate.Commit(rec, c.what, sealed, func(seq uint64) error { return s.Store.Apply(ctx, seq, c.what) })
	if err != nil {
		return Done{}, &Error{Fault: true, Text: fmt.Sprintf("%s: %v", c.event, err), Hint: "see `sallyport status`; restart the gateway when the disk is well again"}
	}
	return Done{Record: receipt.Seq()}, nil
}

// Record writes down something that is not a change of people: a reload, an export, a start.
func (s *Service) Record(ctx context.Context, event string, result audit.Result, reason string, detail ...audit.Detail) error {
	_, err := s.record(ctx, event, result, reason, detail...)
	return err
}

func (s *Service) record(ctx context.Context, event string, result audit.Result, reason string, detail ...audit.Detail) (seq uint64, err error) {
	actor := actorOf(ctx)
	rec := &audit.Record{
		Time: s.Now(), Event: event, Result: result, Reason: reason, Protocol: "admin", Source: actor.Road, System: login.GatewaySystem,
		Person: "none", Login: "none",
		Detail: append(actorDetail(actor), detail...),
	}
	receipt, err := s.Gate.Commit(rec, login.Change{}, nil, nil)
	return receipt.Seq(), err
}

// person looks somebody up, or says that there is nobody.
func (s *Service) person(ctx context.Context, name string) (login.Person, error) {
	p, ok, err := s.Store.PersonByName(ctx, name)
	if err != nil {
		return p, fmt.Errorf("person %q: %w", name, err)
	}
	if !ok {
		return p, refuse("`sallyport user list` shows who there is", "there is no person %q", name)
	}
	return p, nil
}

// asError finds the Error in err, or makes one of it.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Text: err.Error()}
}
