package login

import (
	"testing"
	"time"

	"sallyport/internal/audit"
)

// calling adds what tells a login without a challenge apart.
func calling(a Attempt, station, port string) Attempt {
	a.Detail = append(a.Detail, Detail{Key: "calling_station", Value: station}, Detail{Key: "nas_port", Value: port})
	return a
}

// repeated checks that an outcome is the acceptance of before, that the record says so, and that nothing was consumed.
func (b *bench) repeated(o Outcome) {
	b.t.Helper()
	gr, ok := o.Accepted()
	if !ok || gr.Person != "alice" || gr.Rule != "network team" {
		b.t.Fatalf("not accepted: %v, %+v", o.Reason(), gr)
	}
	rec := b.record(o.Seq())
	if rec.Result != audit.Accept || rec.Reason != string(ReasonRepeated) || len(rec.Effects) != 0 {
		b.t.Errorf("record %+v", rec)
	}
	if f := rec.Factors[len(rec.Factors)-1]; f.Result != "repeated" || f.Token != "tk-alice" {
		b.t.Errorf("factor %+v", f)
	}
}

// An acceptance that a NAS never heard of, since the gateway went away, is repeated for who asks the same again, and for
// nobody else; nothing of it in the process that accepted the code (P2).
func TestRepeated(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		b := newBench(t)
		same := func() Attempt { return calling(b.attempt(), "192.0.2.7", "12") }
		first := same()
		b.want(b.decide(first), ReasonOK)
		b.want(b.decide(same()), ReasonCodeReused)
		if snapshot {
			if err := b.gate.Snapshot(b.log.Snapshot); err != nil {
				t.Fatal(err)
			}
		}
		b.restart()
		for what, spoil := range map[string]func(*Attempt){
			"another station": func(a *Attempt) { a.Detail[0].Value = "192.0.2.8" },
			"another port":    func(a *Attempt) { a.Detail[1].Value = "1" },
			"no port":         func(a *Attempt) { a.Detail = a.Detail[:1] },
			"another system":  func(a *Attempt) { a.System.Name = "core-sw1"; a.System.Tags = []string{"switches"} },
			"an older code":   func(a *Attempt) { a.Code = b.code(-1) },
			"ssh":             func(a *Attempt) { a.Protocol, a.Detail = "ssh", nil },
		} {
			a := same()
			spoil(&a)
			if o := b.decide(a); o.Reason() != ReasonCodeReused {
				t.Errorf("%s: %v", what, o.Reason())
			}
		}
		bad := same()
		bad.Password = NewSecret("wrong")
		b.want(b.decide(bad), ReasonPasswordWrong)
		b.advance(9 * time.Second)
		b.repeated(b.decide(same()))
		b.repeated(b.decide(same())) // as often as it is asked
		b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Kind: Staff, Groups: []string{"network"}, Disabled: true}})
		b.want(b.decide(same()), ReasonPersonDisabled)
		b.gate.Apply(*b.people[0].clone())
		b.advance(time.Second)
		b.want(b.decide(same()), ReasonCodeReused)
		b.restart()
	}
}

func (c Change) clone() *Change { return &c }

// With a challenge it is the State that says what is the same: the other node has the key ring and the record.
func TestRepeatedChallenge(t *testing.T) {
	b := newBench(t)
	o := b.gate.Begin(t.Context(), b.attempt())
	p, _ := o.Challenged()
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonOK)
	b.want(b.gate.Finish(t.Context(), p, b.attempt()), ReasonStateUsed)
	other, _ := b.gate.Begin(t.Context(), b.attempt()).Challenged()
	b.restart()
	b.repeated(b.gate.Finish(t.Context(), p, b.attempt()))
	wrong := b.attempt()
	wrong.Code = b.code(1)
	b.want(b.gate.Finish(t.Context(), p, wrong), ReasonStateUsed)
	b.want(b.gate.Finish(t.Context(), other, b.attempt()), ReasonCodeReused) // another challenge, the same code
	b.want(b.decide(b.attempt()), ReasonCodeReused)                          // no challenge at all
	b.restart()
}
