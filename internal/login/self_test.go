package login

import (
	"testing"

	"sallyport/internal/audit"
)

// P1: only a login that itself proved something known and another kind lets its person change what he proves himself by; each of the
// things that make it another's is enough against it.
func TestProvedAnew(t *testing.T) {
	b := newBench(t)
	gr, ok := b.decide(b.attempt()).Accepted()
	if !ok || b.gate.ProvedAnew(gr) != ReasonOK {
		t.Fatalf("%+v: %s", gr, b.gate.ProvedAnew(gr))
	}
	factor := func(kind Kind, result string) audit.Factor {
		return audit.Factor{Kind: string(kind), Method: "m", Result: result}
	}
	for what, spoil := range map[string]func(*Grant){
		"made by nobody":     func(gr *Grant) { gr.receipt = audit.Receipt{} },
		"leans on another":   func(gr *Grant) { gr.window = new(window) },
		"of a machine":       func(gr *Grant) { gr.Bound = new(Binding) },
		"by an exception":    func(gr *Grant) { gr.Exception = "EX-1" },
		"nothing proved":     func(gr *Grant) { gr.Factors = nil },
		"key and code":       func(gr *Grant) { gr.Factors = []audit.Factor{factor(Have, "ok"), factor(Have, "ok")} },
		"password alone":     func(gr *Grant) { gr.Factors = []audit.Factor{factor(Know, "ok"), factor(Know, "ok")} },
		"password of before": func(gr *Grant) { gr.Factors = []audit.Factor{factor(Know, resultLeaned), factor(Have, "ok")} },
		"code of before":     func(gr *Grant) { gr.Factors = []audit.Factor{factor(Know, "ok"), factor(Have, resultLeaned)} },
		"password not asked": func(gr *Grant) {
			gr.Factors = []audit.Factor{factor(Know, "missing"), factor(Have, "ok"), factor(Are, "ok")}
		},
		"a kind nobody knows":  func(gr *Grant) { gr.Factors = []audit.Factor{factor(Know, "ok"), factor("", "ok")} },
		"of somebody unknown":  func(gr *Grant) { gr.Person = "mallory" },
		"of nobody in the end": func(gr *Grant) { *gr = Grant{} },
	} {
		spoilt := gr
		spoil(&spoilt)
		if why := b.gate.ProvedAnew(spoilt); why == ReasonOK {
			t.Errorf("%s: he may", what)
		}
	}
	gr.Factors = []audit.Factor{factor(Know, "ok"), factor(Are, "ok")}
	if why := b.gate.ProvedAnew(gr); why != ReasonOK {
		t.Errorf("known and been: %s", why)
	}
	b.gate.Apply(Change{PutPerson: &Person{Name: "alice", Kind: Staff, Disabled: true}})
	if why := b.gate.ProvedAnew(gr); why != ReasonPersonDisabled {
		t.Errorf("disabled since: %s", why)
	}
}
