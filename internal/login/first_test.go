package login

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/policy"
	"sallyport/otp"
)

// directory is a Grouper that asks further questions and notes what it was asked.
type directory struct {
	t      *testing.T
	groups map[string][]string
	broken error
	asked  []Question
	more   int // how many further questions it asks
}

func (*directory) Method() string { return "ldap" }
func (*directory) AsksFurther()   {}

func (d *directory) Check(_ context.Context, q Question) (Answer, error) {
	d.asked = append(d.asked, q)
	if d.broken != nil {
		return Answer{}, d.broken
	}
	n := 0
	if q.More != nil {
		n = int(q.More[0])
	}
	switch {
	case n < d.more:
		return Answer{More: &More{Prompt: "New PIN:", State: []byte{byte(n + 1)}}}, nil
	case q.Password.Reveal() == "open sesame" || q.More != nil && q.Password.Reveal() == "pin":
		return Answer{Extra: "keys"}, nil
	}
	return Answer{}, ErrWrong
}

func (d *directory) Groups(_ context.Context, person string) ([]string, error) {
	return d.groups[person], d.broken
}

// Groups of the person's directory feed the rules at the end, in whatever case, in one round and in two; of somebody whose
// first factor is elsewhere no directory is asked.
func TestDirectoryGroups(t *testing.T) {
	b := newBench(t)
	dir := &directory{t: t, groups: map[string][]string{"alice": {"Domain Users", "NETWORK"}}}
	b.gate.SetFirstFactors("ldap", map[string]FirstFactor{"ldap": dir, "local": b.first})
	b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Kind: Staff}})
	b.gate.Apply(Change{PutPerson: &Person{Name: "bob", Kind: Staff, Groups: []string{"wards"}, First: "local"}})
	if b.gate.Immediate("alice") || !b.gate.Immediate("bob") || b.gate.Immediate("mallory") {
		t.Error("who can be judged without a directory is told wrongly")
	}
	o := b.decide(b.attempt())
	b.want(o, ReasonOK)
	if o.Extra() != "keys" {
		t.Errorf("extra %v", o.Extra())
	}
	if gr, _ := o.Accepted(); !slices.Equal(gr.directory, []string{"network"}) {
		t.Errorf("the grant has groups %q", gr.directory)
	}
	b.advance(time.Minute)
	p, _ := b.gate.Begin(t.Context(), b.attempt()).Challenged()
	dir.groups["alice"] = nil
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonNoRule) // what holds is what holds at the end
	b.advance(time.Minute)
	dir.broken = errors.New("no route")
	p, _ = b.gate.Begin(t.Context(), b.attempt()).Challenged()
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonDirectoryDown) // P4
	b.want(b.decide(b.attempt()), ReasonDirectoryDown)
	bob := b.attempt()
	bob.Name, bob.Password, bob.Code = "bob", NewSecret("abracadabra"), hotp(0)
	b.want(b.decide(bob), ReasonOK)
	if o := b.gate.AskFinish(p, b.attempt()).Outcome(); !o.Unanswerable() {
		t.Error("somebody was judged without his directory's groups")
	}
	b.restart()
}

// A person whose first factor is not configured any more is refused, as is one of a directory that asks what no challenge
// can carry.
func TestFirstFactorGone(t *testing.T) {
	b := newBench(t)
	b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Kind: Staff, Groups: []string{"network"}, First: "ldap"}})
	b.want(b.decide(b.attempt()), ReasonDirectoryDown)
	dir := &directory{t: t, more: 1}
	b.gate.SetFirstFactor(dir)
	b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Kind: Staff, Groups: []string{"network"}}})
	b.want(b.decide(b.attempt()), ReasonDirectoryDown) // append and SSH: nobody can be asked
	b.restart()
}

// Nobody's account at a directory is locked by guesses made here: once he is locked here, the directory hears of him no more.
// Strangers' names are asked about as they are typed, so that time tells nothing.
func TestDirectoryIsSpared(t *testing.T) {
	b := newBench(t)
	dir := &directory{t: t}
	b.gate.SetFirstFactor(dir)
	wrong := b.attempt()
	wrong.Password = NewSecret("wrong")
	for range 3 {
		b.decide(wrong)
	}
	stranger := b.attempt()
	stranger.Name = "mallory"
	b.want(b.decide(stranger), ReasonUnknownPerson)
	b.want(b.decide(b.attempt()), ReasonLocked)
	empty := b.attempt()
	empty.Password, empty.Name = Secret{}, "bob"
	b.want(b.decide(empty), ReasonPasswordMissing)
	long := b.attempt()
	long.Name = strings.Repeat("x", MaxName+1)
	b.decide(long)
	var got []string
	for _, q := range dir.asked {
		got = append(got, q.Person+"/"+q.Name)
		if q.Password.Empty() {
			t.Error("an empty password was handed over")
		}
	}
	if want := []string{"alice/alice", "alice/alice", "alice/alice", "/mallory", "/", "/", "/"}; !slices.Equal(got, want) {
		t.Errorf("asked about %q, want %q", got, want)
	}
	b.restart()
}

// A directory's further questions are relayed, each answered once, with the attempt's id throughout, and then the code.
func TestFurtherQuestions(t *testing.T) {
	b := newBench(t)
	dir := &directory{t: t, more: 2}
	b.gate.SetFirstFactor(dir)
	a := b.attempt()
	o := b.gate.Begin(t.Context(), a)
	var used []Progress
	for i := range 2 {
		p, ok := o.Challenged()
		more, asked := o.Further()
		if !ok || !asked || !p.Further() || more.Prompt != "New PIN:" {
			t.Fatalf("round %d: %v %v %+v", i, ok, asked, more)
		}
		back, err := ParseProgress(p.MarshalBinary())
		if err != nil || back != p || len(p.MarshalBinary()) != sizeRoomy {
			t.Fatalf("round %d: it does not come back: %v", i, err)
		}
		b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonStateUnknown) // the code is no answer to this
		b.restart()
		b.gate.SetFirstFactor(dir)
		p.round += 10 // a copy that was answered by mistake above is used up: take another one of the same
		answer := Attempt{Name: "alice", Protocol: "radius", System: a.System, Capability: policy.Login, Password: NewSecret("pin")}
		o = b.gate.Continue(t.Context(), p, answer)
		used = append(used, p)
	}
	p, ok := o.Challenged()
	if _, asked := o.Further(); !ok || asked || p.Further() || o.Extra() != "keys" || p.ID() != a.ID {
		t.Fatalf("%v %v %v %v", ok, asked, o.Extra(), p.ID())
	}
	for _, old := range used {
		b.want(b.gate.Continue(t.Context(), old, a), ReasonStateUsed)
	}
	b.want(b.gate.Continue(t.Context(), p, a), ReasonStateUnknown)
	p.round += 10
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonOK)
	stranger := b.attempt()
	stranger.Name = "mallory"
	o = b.gate.Begin(t.Context(), stranger)
	if _, asked := o.Further(); !asked {
		t.Error("a stranger is not asked what everybody is asked")
	}
	p, _ = o.Challenged()
	o = b.gate.Continue(t.Context(), p, stranger)
	p, _ = o.Challenged()
	o = b.gate.Continue(t.Context(), p, stranger)
	p, _ = o.Challenged()
	b.want(b.gate.Finish(t.Context(), p, stranger), ReasonUnknownPerson)
	b.restart()
}

// proof proves one code, and counts how often it was asked.
type proof struct {
	code  string
	asked int
}

func (p *proof) Proves(code string) bool { p.asked++; return code == p.code }

// A code that is proved and not told is judged, and used up, like any other.
func TestCodeProof(t *testing.T) {
	b := newBench(t)
	with := func(code Secret) (Attempt, *proof) {
		a, p := b.attempt(), &proof{code: code.Reveal()}
		a.Code, a.CodeProof = Secret{}, p
		return a, p
	}
	a, p := with(b.code(1))
	b.want(b.decide(a), ReasonOK)
	if p.asked != 4 { // the likely one, and then all three
		t.Errorf("asked %d times", p.asked)
	}
	a, _ = with(b.code(1))
	b.want(b.decide(a), ReasonCodeReused)
	a, _ = with(b.code(0))
	b.want(b.decide(a), ReasonCodeReused) // older than the one used
	b.advance(time.Minute)
	a, p = with(NewSecret("000000"))
	a.Password = NewSecret("wrong")
	b.want(b.decide(a), ReasonPasswordWrong)
	if p.asked != 3 {
		t.Errorf("asked %d times", p.asked)
	}
	a, _ = with(NewSecret("000000"))
	b.want(b.decide(a), ReasonCodeWrong)
	b.restart()
}

func TestJoint(t *testing.T) {
	for _, c := range []struct {
		joint                 Joint
		typed, password, code string
	}{
		{Joint{CodeFirst: true}, "123456secret", "secret", "123456"},
		{Joint{CodeFirst: true}, "12345secret", "12345secret", ""},
		{Joint{CodeFirst: true}, "123456", "", "123456"},
		{Joint{CodeFirst: true, Separator: ","}, "123456,secret", "secret", "123456"},
		{Joint{CodeFirst: true, Separator: ","}, "123456secret", "123456secret", ""},
		{Joint{CodeFirst: true, Separator: ","}, "123456,", "", "123456"},
		{Joint{CodeFirst: true, Separator: "::"}, "123456:", "123456:", ""},
		{Joint{Separator: ","}, "secret,123456", "secret", "123456"},
		{Joint{Separator: ","}, "secret123456", "secret123456", ""},
		{Joint{Separator: ","}, "se,cret,123456", "se,cret", "123456"},
		{Joint{Separator: ","}, ",123456", "", "123456"},
		{Joint{Separator: ","}, "123456", "123456", ""},
	} {
		if p, code := c.joint.split(c.typed, 6); p != c.password || code != c.code {
			t.Errorf("%+v of %q: %q, %q", c.joint, c.typed, p, code)
		}
	}
}

// What was typed is read in a second way when the first is wrong, and one failure counts for both.
func TestOtherwise(t *testing.T) {
	b := newBench(t)
	a := b.attempt()
	a.Password, a.Otherwise = NewSecret("\xe9"), NewSecret("open sesame")
	b.want(b.decide(a), ReasonOK)
	b.advance(time.Minute)
	a = b.attempt()
	a.Password, a.Code, a.Joined, a.Otherwise = Secret{}, Secret{}, NewSecret("\xe9"+b.code(0).Reveal()), NewSecret("open sesame"+b.code(0).Reveal())
	b.want(b.decide(a), ReasonOK)
	a.Otherwise = NewSecret("wrong" + b.code(0).Reveal())
	b.decide(a)
	b.decide(a)
	if st := b.gate.Standing("alice"); !strings.Contains(st.Text, "2 failures") {
		t.Errorf("two wrong attempts, each read in two ways: %s", st.Text)
	}
	b.restart()
}

// Search agrees with Match.
func TestSearchAgrees(t *testing.T) {
	p := otp.Default()
	w := p.Around(noon, 1)
	for s := w.From - 1; s <= w.To+1; s++ {
		code := otp.Code(seed, p, s)
		step, ok := otp.Match(seed, p, code, w)
		step2, ok2 := otp.Search(seed, p, w, func(c string) bool { return c == code })
		if step != step2 || ok != ok2 {
			t.Errorf("step %d: %d %v, %d %v", s, step, ok, step2, ok2)
		}
	}
}
