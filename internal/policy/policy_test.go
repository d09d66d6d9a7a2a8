package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rules as a hospital might have them.
func rules() Rules {
	return Rules{
		{Name: "core team", Groups: []string{"core"}, To: []string{"core-sw1"}, May: []Capability{Shell}, Need: []Kind{Know, Have, Have}},
		{Name: "network team", Groups: []string{"network", "core"}, To: []string{"tag:network", "tag:vpn"}, May: []Capability{Login, Shell, SFTP}, Need: []Kind{Know, Have}, Record: true},
		{Name: "scanner", Groups: []string{"scanner"}, To: []string{"pacs"}, May: []Capability{SFTP}, Need: []Kind{Have, Have}, Exception: "EX-7"},
		{Name: "suppliers", Groups: []string{"supplier"}, To: []string{Any}, May: []Capability{Shell}, Need: []Kind{Are, Have}},
		{Name: "everybody", Groups: []string{Any}, To: []string{"vpn-leeds"}, May: []Capability{Login}},
		{Name: "by grant", Groups: []string{"jobs"}, To: []string{"ct1", "ct2"}, May: []Capability{Shell}, Grant: true},
	}
}

// live is a register of exceptions in force, and of a grant for each of its members that begins with a person's name.
type live []string

func (l live) Exception(id string, _ *Request) Reason {
	if slices.Contains(l, id) {
		return OK
	}
	if slices.Contains(l, id+" for others") {
		return ExceptionScope
	}
	return ExceptionNotLive
}

func (l live) Grant(r *Request) (string, time.Time) {
	if slices.Contains(l, r.Person+"@"+r.System) {
		return "GR-1", time.Unix(99, 0)
	}
	return "", time.Time{}
}

// P1: each row is one way to pass, or not to pass.
func TestDecide(t *testing.T) {
	two := []Kind{Know, Have}
	network := Request{Groups: []string{"network"}, System: "leaf1", Tags: []string{"network"}, Capability: Shell, Proved: two}
	scanner := Request{Groups: []string{"scanner"}, System: "pacs", Capability: SFTP, Proved: []Kind{Have, Have}, Register: live{"EX-7"}}
	core := Request{Groups: []string{"core"}, System: "core-sw1", Tags: []string{"network"}, Capability: Shell, Proved: []Kind{Have, Know, Have}}
	with := func(r Request, change func(*Request)) Request { change(&r); return r }

	tests := []struct {
		name   string
		r      Request
		rule   string
		reason Reason
	}{
		{"by tag", network, "network team", OK},
		{"in another order", with(network, func(r *Request) { r.Proved = []Kind{Have, Know} }), "network team", OK},
		{"more than is needed", with(network, func(r *Request) { r.Proved = []Kind{Have, Know, Are, Have} }), "network team", OK},
		{"by name", core, "core team", OK},
		{"another kind", Request{Groups: []string{"x", "supplier"}, System: "any", Capability: Shell, Proved: []Kind{Have, Are}}, "suppliers", OK},
		{"everybody, without a group", Request{System: "vpn-leeds", Capability: Login, Proved: two}, "everybody", OK},
		{"under an exception", scanner, "scanner", OK},

		{"nobody asks for nothing", Request{}, "", NoRule},
		{"no rule for the group", with(network, func(r *Request) { r.Groups = []string{"finance"} }), "", NoRule},
		{"no rule for the system", with(network, func(r *Request) { r.Tags = nil }), "", NoRule},
		{"a tag is no name", with(network, func(r *Request) { r.System, r.Tags = "network", nil }), "", NoRule},
		{"a name is no tag", with(core, func(r *Request) { r.System, r.Tags = "x", []string{"core-sw1"} }), "", NoRule},
		{"a name that looks like a tag", with(network, func(r *Request) { r.System, r.Tags = "tag:network", nil }), "", NoRule},
		{"other case", with(network, func(r *Request) { r.Groups = []string{"Network"} }), "", NoRule},
		{"a group called like the wildcard", with(network, func(r *Request) { r.Groups = []string{Any} }), "", NoRule},
		{"a system called like the wildcard", with(network, func(r *Request) { r.System, r.Tags = Any, nil }), "", NoRule},
		{"a system without a name", Request{Groups: []string{"supplier"}, Capability: Shell, Proved: []Kind{Have, Are}}, "", NoRule},

		{"the first match decides, and refuses", with(core, func(r *Request) { r.Capability = SFTP }), "core team", CapabilityDenied},
		{"the first match decides, and needs more", with(core, func(r *Request) { r.Proved = two }), "core team", FactorsInsufficient},
		{"not permitted", with(network, func(r *Request) { r.Capability = Exec }), "network team", CapabilityDenied},
		{"no capability asked", with(network, func(r *Request) { r.Capability = "" }), "network team", CapabilityDenied},
		{"unknown capability", with(network, func(r *Request) { r.Capability = "sudo" }), "network team", CapabilityDenied},

		{"key and code is not enough", with(network, func(r *Request) { r.Proved = []Kind{Have, Have} }), "network team", FactorsInsufficient},
		{"password alone", with(network, func(r *Request) { r.Proved = []Kind{Know} }), "network team", FactorsInsufficient},
		{"password twice", with(network, func(r *Request) { r.Proved = []Kind{Know, Know} }), "network team", FactorsInsufficient},
		{"code alone", with(network, func(r *Request) { r.Proved = []Kind{Have} }), "network team", FactorsInsufficient},
		{"nothing", with(network, func(r *Request) { r.Proved = nil }), "network team", FactorsInsufficient},
		{"other two kinds", with(network, func(r *Request) { r.Proved = []Kind{Are, Have} }), "network team", FactorsInsufficient},
		{"unknown kinds prove nothing", with(network, func(r *Request) { r.Proved = []Kind{"Know", "have ", "", "hope"} }), "network team", FactorsInsufficient},
		{"one device twice needed, once proved", with(core, func(r *Request) { r.Proved = []Kind{Know, Know, Have} }), "core team", FactorsInsufficient},
		{"everybody needs two kinds, unsaid", Request{System: "vpn-leeds", Capability: Login, Proved: []Kind{Have, Have}}, "everybody", FactorsInsufficient},

		{"exception over", with(scanner, func(r *Request) { r.Register = live{"EX-8"} }), "scanner", ExceptionNotLive},
		{"no register", with(scanner, func(r *Request) { r.Register = nil }), "scanner", ExceptionNotLive},
		{"exception over, two kinds proved", with(scanner, func(r *Request) { r.Register, r.Proved = nil, []Kind{Know, Have, Have} }), "scanner", ExceptionNotLive},
		{"exception for others, two kinds proved", with(scanner, func(r *Request) { r.Register, r.Proved = live{"EX-7 for others"}, []Kind{Know, Have, Have} }), "scanner", OK},
		{"exception for others", with(scanner, func(r *Request) { r.Register = live{"EX-7 for others"} }), "scanner", ExceptionScope},
		{"a grant is asked for", Request{Person: "jones", Groups: []string{"jobs"}, System: "ct1", Capability: Shell, Proved: two, Register: live{"jones@ct2"}}, "by grant", GrantNotLive},
		{"a grant, and no register", Request{Person: "jones", Groups: []string{"jobs"}, System: "ct1", Capability: Shell, Proved: two}, "by grant", GrantNotLive},
		{"a grant is there", Request{Person: "jones", Groups: []string{"jobs"}, System: "ct1", Capability: Shell, Proved: two, Register: live{"jones@ct1"}}, "by grant", OK},
		{"a grant is no factor", Request{Person: "jones", Groups: []string{"jobs"}, System: "ct1", Capability: Shell, Proved: two[:1], Register: live{"jones@ct1"}}, "by grant", FactorsInsufficient},
		{"an exception is not a factor", with(scanner, func(r *Request) { r.Proved = []Kind{Have} }), "scanner", FactorsInsufficient},
	}
	rs := rules()
	for _, tt := range tests {
		v := rs.Decide(tt.r)
		name := ""
		if v.Rule != nil {
			name = v.Rule.Name
		}
		if name != tt.rule || v.Reason != tt.reason || (v.Effect == Allow) != (tt.reason == OK) {
			t.Errorf("%s: %v by %q (%s), want %q (%s)", tt.name, v.Effect, name, v.Reason, tt.rule, tt.reason)
		}
	}
}

// P1, P4: what nobody filled in denies.
func TestZeroDenies(t *testing.T) {
	if v := (Verdict{}); v.Effect != Deny || v.Effect == Allow || v.Effect.String() != "deny" {
		t.Errorf("the zero verdict: %v", v.Effect)
	}
	if Allow.String() != "allow" || Effect(7).String() != "deny" {
		t.Error("an effect has the wrong name")
	}
	all := Request{Groups: []string{"x"}, System: "y", Capability: Shell, Proved: []Kind{Know, Have, Are}, Register: live{"EX-1"}}
	for name, rs := range map[string]Rules{
		"no rules":               nil,
		"zero rule":              {{}},
		"no groups":              {{Name: "a", To: []string{Any}, May: []Capability{Shell}}},
		"no systems":             {{Name: "a", Groups: []string{Any}, May: []Capability{Shell}}},
		"nothing permitted":      {{Name: "a", Groups: []string{Any}, To: []string{Any}}},
		"an unknown word":        {{Name: "a", Groups: []string{Any}, To: []string{Any}, May: []Capability{"", "SHELL", "*"}}},
		"a tag without a name":   {{Name: "a", Groups: []string{Any}, To: []string{"tag:"}, May: []Capability{Shell}}},
		"an empty system's name": {{Name: "a", Groups: []string{Any}, To: []string{""}, May: []Capability{Shell}}},
	} {
		if v := rs.Decide(all); v.Effect != Deny || v.Reason == OK {
			t.Errorf("%s: %v (%s)", name, v.Effect, v.Reason)
		}
	}
}

// A word that is no capability is not permitted, not even by a rule that holds it.
func TestUnknownCapabilityDenies(t *testing.T) {
	rs := Rules{{Name: "a", Groups: []string{Any}, To: []string{Any}, May: []Capability{"", "sudo"}}}
	for _, c := range rs[0].May {
		v := rs.Decide(Request{System: "s", Capability: c, Proved: []Kind{Know, Have}})
		if v.Effect != Deny || v.Reason != CapabilityDenied {
			t.Errorf("%q: %v (%s)", c, v.Effect, v.Reason)
		}
	}
	if v := rs.DecideGateway(Request{Proved: []Kind{Know, Have}}); v.Effect != Deny || v.Reason != CapabilityDenied {
		t.Errorf("the gateway: %v (%s)", v.Effect, v.Reason)
	}
}

func TestNeeds(t *testing.T) {
	r := Rule{}
	if got := r.Needs(); !slices.Equal(got, []Kind{Know, Have}) {
		t.Errorf("unsaid: %v", got)
	}
	r.Need = []Kind{Have, Have}
	got := r.Needs()
	if !slices.Equal(got, r.Need) || r.Compliant() {
		t.Errorf("two had: %v, compliant %v", got, r.Compliant())
	}
	if got[0] = Know; r.Need[0] != Have {
		t.Error("the rule can be changed through what it needs")
	}
}

// P1: rules that were never validated still let nobody pass with one kind, unless they name a live exception.
func TestDecideNeverPassesOneKind(t *testing.T) {
	kinds := rapid.SampledFrom([]Kind{Know, Have, Are, "hope"})
	rapid.Check(t, func(t *rapid.T) {
		rule := Rule{
			Name: "r", Groups: []string{Any}, To: []string{Any}, May: []Capability{Shell},
			Need:      rapid.SliceOfN(kinds, 0, 4).Draw(t, "need"),
			Exception: rapid.SampledFrom([]string{"", "EX-1"}).Draw(t, "exception"),
		}
		alive := rapid.Bool().Draw(t, "alive")
		r := Request{
			System: "s", Capability: Shell, Proved: rapid.SliceOfN(kinds, 0, 5).Draw(t, "proved"),
		}
		if alive {
			r.Register = live{"EX-1"}
		}
		v := Rules{rule}.Decide(r)
		if v.Effect != Allow {
			return
		}
		different := make(map[Kind]bool)
		for _, k := range r.Proved {
			if k.Known() {
				different[k] = true
			}
		}
		if len(different) < 2 && (rule.Exception == "" || !alive) {
			t.Fatalf("passed with %v by %+v", r.Proved, rule)
		}
		count := func(ks []Kind, k Kind) (n int) {
			for _, x := range ks {
				if x == k {
					n++
				}
			}
			return n
		}
		for _, k := range []Kind{Know, Have, Are} {
			if count(r.Proved, k) < count(rule.Need, k) {
				t.Fatalf("passed with %v where %v are needed", r.Proved, rule.Need)
			}
		}
		if g := (Rules{rule}).DecideGateway(r); (g.Effect == Allow) != (len(different) >= 2 || v.Lacking) || g.Lacking != (len(different) < 2) {
			t.Fatalf("the gateway: %v with %v by %q", g.Effect, r.Proved, g.Exception)
		}
	})
}

func TestDecideGateway(t *testing.T) {
	two := []Kind{Know, Have}
	tests := []struct {
		name   string
		groups []string
		proved []Kind
		reason Reason
		live   live
	}{
		{"may use SSH", []string{"network"}, two, OK, nil},
		{"by a later rule", []string{"supplier"}, two, OK, nil},
		{"may use RADIUS only", []string{"finance"}, two, CapabilityDenied, nil},
		{"key and code", []string{"network"}, []Kind{Have, Have}, FactorsInsufficient, nil},
		{"nothing", []string{"network"}, nil, FactorsInsufficient, nil},
		{"an exception that is not in force", []string{"scanner"}, []Kind{Have, Have}, ExceptionNotLive, live{"EX-8"}},
		{"an exception", []string{"scanner"}, []Kind{Have, Have}, OK, live{"EX-7"}},
		{"an exception is not a factor", []string{"scanner"}, []Kind{Have}, FactorsInsufficient, live{"EX-7"}},
	}
	for _, tt := range tests {
		v := rules().DecideGateway(Request{Groups: tt.groups, Proved: tt.proved, Register: tt.live})
		if v.Reason != tt.reason || (v.Effect == Allow) != (tt.reason == OK) || v.Rule != nil {
			t.Errorf("%s: %v (%s), want %s", tt.name, v.Effect, v.Reason, tt.reason)
		}
	}
	if v := rules()[:4].DecideGateway(Request{Groups: []string{"finance"}, Proved: two}); v.Effect != Deny || v.Reason != NoRule {
		t.Errorf("no rule: %v (%s)", v.Effect, v.Reason)
	}
}

func TestValidateGood(t *testing.T) {
	if errs := rules().Validate(); len(errs) != 0 {
		t.Errorf("good rules: %v", errs)
	}
	if errs := Rules(nil).Validate(); len(errs) != 0 {
		t.Errorf("no rules: %v", errs)
	}
}

func TestValidateBad(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Rule)
		says   []string // one error each
	}{
		{"no name", func(r *Rule) { r.Name = "" }, []string{"name"}},
		{"blank name", func(r *Rule) { r.Name = " \t" }, []string{"name"}},
		{"name of another rule", func(r *Rule) { r.Name = "network team" }, []string{"rule 2"}},
		{"no groups", func(r *Rule) { r.Groups = nil }, []string{"groups"}},
		{"empty group", func(r *Rule) { r.Groups = []string{"a", ""} }, []string{"groups"}},
		{"group with a blank", func(r *Rule) { r.Groups = []string{"a "} }, []string{"groups"}},
		{"no systems", func(r *Rule) { r.To = nil }, []string{"to"}},
		{"empty system", func(r *Rule) { r.To = []string{""} }, []string{"to"}},
		{"empty tag", func(r *Rule) { r.To = []string{"tag:"} }, []string{"to"}},
		{"tag with a blank", func(r *Rule) { r.To = []string{"tag: vpn"} }, []string{"to"}},
		{"nothing permitted", func(r *Rule) { r.May = nil }, []string{"may"}},
		{"unknown capability", func(r *Rule) { r.May = []Capability{Shell, "sudo", "Shell"} }, []string{"may", "may"}},
		{"unknown kind", func(r *Rule) { r.Need = []Kind{Know, "token"} }, []string{"need"}},
		{"one factor", func(r *Rule) { r.Need = []Kind{Know} }, []string{"need"}},
		{"key and code", func(r *Rule) { r.Need = []Kind{Have, Have} }, []string{"need"}},
		{"blank exception", func(r *Rule) { r.Exception = " " }, []string{"exception"}},
		{"times below zero", func(r *Rule) { r.Idle, r.Max = -1, -time.Hour }, []string{"idle", "max"}},
		{"all at once", func(r *Rule) { *r = Rule{Need: []Kind{Have}} }, []string{"name", "groups", "to", "may", "need"}},
	}
	for _, tt := range tests {
		rs := append(rules(), Rule{Name: "last", Groups: []string{"g"}, To: []string{"s"}, May: []Capability{Shell}})
		tt.change(&rs[5])
		errs := rs.Validate()
		if len(errs) != len(tt.says) {
			t.Errorf("%s: %v, want %d errors", tt.name, errs, len(tt.says))
			continue
		}
		for i, err := range errs {
			if !strings.HasPrefix(err.Error(), "rule 6 (") || !strings.Contains(err.Error(), ": "+tt.says[i]) {
				t.Errorf("%s: %v, want rule 6 and %q named", tt.name, err, tt.says[i])
			}
		}
	}
}

func TestKnown(t *testing.T) {
	for _, c := range []Capability{Login, Shell, Exec, SFTP, Forward, Upload, Download, Agent} {
		if !c.Known() {
			t.Errorf("%s is not known", c)
		}
	}
	for _, k := range []Kind{Know, Have, Are} {
		if !k.Known() {
			t.Errorf("%s is not known", k)
		}
	}
	if Capability("").Known() || Capability("Login").Known() || Kind("").Known() || Kind("have ").Known() {
		t.Error("a word is known that should not be")
	}
}

// A decision is on the path of every login.
func BenchmarkDecide(b *testing.B) {
	rs := rules()
	r := Request{Groups: []string{"staff", "network"}, System: "leaf1", Tags: []string{"leeds", "network"}, Capability: Shell, Proved: []Kind{Know, Have}}
	b.ReportAllocs()
	for b.Loop() {
		if v := rs.Decide(r); v.Effect != Allow {
			b.Fatal(v.Reason)
		}
	}
}
