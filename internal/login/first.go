package login

import (
	"context"
	"errors"
	"strings"

	"sallyport/internal/policy"
)

// FirstFactor checks what people know. It is called concurrently, may take long, and bounds its own work and time.
type FirstFactor interface {
	// Check returns nil when what q brings is the person's. Without a person, or when it is not, it returns ErrWrong,
	// after the same time and the same work as far as that is in its hands (P6). An Answer with More and no error says
	// that a further answer of the person is needed before anybody knows.
	Check(ctx context.Context, q Question) (Answer, error)
	// Method is the word for the records: "password", "ldap", "radius".
	Method() string
}

// Grouper is a FirstFactor that also knows people's groups. The names that it gives are compared with those in the
// rules without regard to case.
type Grouper interface {
	FirstFactor
	// Groups returns the groups of a person whom it may not know. It is asked at every final judgement, also of people
	// who have already failed, with a person or, for strangers, an empty name.
	Groups(ctx context.Context, person string) ([]string, error)
}

// Asking is a FirstFactor that may ask further questions (Answer.More).
type Asking interface {
	FirstFactor
	AsksFurther()
}

// Question is what a FirstFactor is asked.
type Question struct {
	Person string // who it is at the gateway; empty: nobody who may log in now
	// Name is the name as typed, also of a stranger, so that a directory is asked the same for everybody. It is empty
	// for somebody about whom a directory shall not be asked, for instance since he is locked: that protects his account
	// there from guesses made here.
	Name     string
	Password Secret // never empty, unless there is Evidence
	Evidence any    // what proves the password instead; the adapter and the first factor know its type
	Origin   string // whose share of the work this is
	More     []byte // the state of the further question that Password answers; nil: it is the first
}

// Answer is what a FirstFactor says beside yes or no.
type Answer struct {
	More *More // a further question
	// Extra is what the adapter is to do with a login that succeeds; it and the first factor know its type.
	Extra any
}

// MaxMore bounds More.State, in bytes, so that it fits into a State attribute with all else.
const MaxMore = 96

// More is a further question of a directory, for instance for a new PIN.
type More struct {
	Prompt string // as the directory has it
	Echo   bool   // whether what is typed may be seen
	State  []byte // at most MaxMore bytes, given back in Question.More
}

// firstFactors are those that people can have.
type firstFactors struct {
	usual string
	by    map[string]FirstFactor
	slow  bool // some are Groupers
	asks  bool // some ask further questions
}

// SetFirstFactor makes f the first factor of everybody.
func (g *Gate) SetFirstFactor(f FirstFactor) {
	g.SetFirstFactors("", map[string]FirstFactor{"": f})
}

// SetFirstFactors replaces the first factors: those that people can have by their name, and the one that people have
// who have none of their own.
func (g *Gate) SetFirstFactors(usual string, by map[string]FirstFactor) {
	f := &firstFactors{usual: usual, by: by}
	for _, one := range by {
		if _, ok := one.(Grouper); ok {
			f.slow = true
		}
		if _, ok := one.(Asking); ok {
			f.asks = true
		}
	}
	g.firsts.Store(f)
}

// of returns the first factor of somebody; for a stranger that of most people. Nil: it is not configured any more.
func (f *firstFactors) of(e *entry) FirstFactor {
	if e != nil {
		e.mu.Lock()
		own := e.profile.first
		e.mu.Unlock()
		if own != "" {
			return f.by[own]
		}
	}
	return f.by[f.usual]
}

// Immediate reports whether logins of this name can be judged at once when the first factor is proved already: no
// directory needs to be asked for groups.
func (g *Gate) Immediate(name string) bool {
	f := g.firsts.Load()
	if !f.slow {
		return true
	}
	_, slow := f.of(g.roster.find(name)).(Grouper)
	return !slow
}

// firstResult is how the first factor ended.
type firstResult struct {
	reason  Reason // ReasonOK, or why not
	method  string
	proof   string // who else vouches for it
	counted bool   // a failure was counted already, in the first of two rounds
	more    *More
	extra   any
	groups  []string // of the directory, as the rules write them
}

func (f firstResult) result() string {
	switch f.reason {
	case ReasonOK:
		return "ok"
	case ReasonPasswordWrong, ReasonPasswordUnset:
		return "wrong"
	case ReasonPasswordMissing:
		return "missing"
	default:
		return "unchecked"
	}
}

// vouched returns the first factor that somebody else has checked.
func vouched(a *Attempt) (firstResult, bool) {
	for _, p := range a.Proofs {
		if p.Kind == policy.Know {
			return firstResult{reason: ReasonOK, method: p.Method, proof: p.ID}, true
		}
	}
	return firstResult{}, false
}

// checkFirst proves the first factor. Nobody's name changes what is done, only how it ends.
func (g *Gate) checkFirst(ctx context.Context, a *Attempt, more []byte) firstResult {
	if r, ok := vouched(a); ok {
		return r
	}
	r := g.check(ctx, a, a.Password, more)
	if r.reason == ReasonPasswordWrong && !a.Otherwise.Empty() && a.Joined.Empty() {
		r = g.check(ctx, a, a.Otherwise, more)
	}
	return r
}

func (g *Gate) check(ctx context.Context, a *Attempt, password Secret, more []byte) firstResult {
	e := g.roster.find(a.Name)
	first := g.firsts.Load().of(e)
	if first == nil {
		return firstResult{reason: ReasonDirectoryDown, method: "none"}
	}
	q := Question{Name: a.Name, Password: password, Evidence: a.Evidence, Origin: a.Origin, More: more}
	if e != nil {
		q.Person = e.name
		e.mu.Lock()
		if e.barred(g.now(), g.policy.Load()) != ReasonOK {
			q.Person, q.Name = "", ""
		}
		e.mu.Unlock()
	}
	missing := password.Empty() && a.Evidence == nil
	if missing || len(password.Reveal()) > MaxSecret || len(a.Name) > MaxName {
		// An empty password never reaches a directory, which might take it for an anonymous bind (RFC 4513 section
		// 5.1.2). A stranger's check keeps the time.
		q.Person, q.Name, q.Password, q.Evidence = "", "", NewSecret("x"), nil
	}
	answer, err := first.Check(ctx, q)
	r := firstResult{method: first.Method(), extra: answer.Extra}
	switch {
	case missing:
		r.reason = ReasonPasswordMissing
	case err == nil && answer.More != nil && len(answer.More.State) <= MaxMore && g.firsts.Load().asks:
		r.reason, r.more = ReasonFurther, answer.More
	case err == nil && answer.More == nil && q.Person != "":
		r.reason = ReasonOK
	case err == nil && answer.More != nil:
		r.reason = ReasonDirectoryDown // it asks what no challenge of ours can carry
	case err == nil, errors.Is(err, ErrWrong):
		r.reason = ReasonPasswordWrong
	case errors.Is(err, ErrUnset):
		r.reason = ReasonPasswordUnset
	case errors.Is(err, ErrOverloaded):
		r.reason = ReasonOverloaded
	default:
		r.reason = ReasonDirectoryDown
	}
	return r
}

// learnGroups asks the person's directory for groups, if he has one that knows them: whatever the first factor said, so
// that time does not tell (P6).
func (g *Gate) learnGroups(ctx context.Context, a *Attempt, first *firstResult) {
	e := g.roster.find(a.Name)
	by, ok := g.firsts.Load().of(e).(Grouper)
	if !ok {
		return
	}
	person := ""
	if e != nil {
		person = e.name
	}
	groups, err := by.Groups(ctx, person)
	if err != nil {
		if first.reason == ReasonOK {
			first.reason = ReasonDirectoryDown
		}
		return
	}
	first.groups = g.policy.Load().wanted(groups)
}

// wanted returns those of a directory's groups that rules name, as the rules write them.
func (p *Policy) wanted(groups []string) []string {
	names := make(map[string]string)
	for i := range p.Rules {
		for _, name := range p.Rules[i].Groups {
			names[strings.ToLower(name)] = name
		}
	}
	var found []string
	for _, group := range groups {
		if name, ok := names[strings.ToLower(group)]; ok && name != policy.Any {
			found = append(found, name)
		}
	}
	return found
}

// DirectoryGroups asks the directory of somebody for his groups, and returns those that rules name, as they write them.
// Asked tells whether there is a directory to ask; nobody's has none.
func (g *Gate) DirectoryGroups(ctx context.Context, name string) (groups []string, asked bool, err error) {
	e := g.roster.find(name)
	by, ok := g.firsts.Load().of(e).(Grouper)
	if !ok || e == nil {
		return nil, false, nil
	}
	all, err := by.Groups(ctx, e.name)
	if err != nil {
		return nil, true, err
	}
	return g.policy.Load().wanted(all), true, nil
}

// Standby is a FirstFactor that can tell whether it can be asked just now.
type Standby interface {
	FirstFactor
	// Probe returns why it can't. It may be called often.
	Probe(ctx context.Context) error
}

// ProbeFirst tells why passwords of those who have no first factor of their own can't be checked just now, as far as that
// is known without asking for one.
func (g *Gate) ProbeFirst(ctx context.Context) error {
	f := g.firsts.Load()
	if s, ok := f.by[f.usual].(Standby); ok {
		return s.Probe(ctx)
	}
	return nil
}
