package config

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"sallyport/internal/config/strict"
)

// check reports what is wrong between the parts.
func check(r *strict.Reader, cfg *Config) {
	checkNames(r, cfg)
	checkPrefixes(r, cfg)
	checkVia(r, cfg)
	checkRules(r, cfg)
	checkListeners(r, cfg)
}

// checkNames holds names of systems apart without regard to case: ssh lowers the names of hosts that it's given.
func checkNames(r *strict.Reader, cfg *Config) {
	type owner struct {
		what string
		line int
	}
	owners := map[string]owner{}
	claim := func(at Pos, what, name string) {
		if name == "" {
			return
		}
		key := strings.ToLower(name)
		if first, taken := owners[key]; taken {
			r.Bad(r.Place(at.Under("name")), "records and rules tell systems apart by name", "%s is the name of the %s in line %d", strict.Show(name), first.what, first.line)
			return
		}
		owners[key] = owner{what, at.Line}
	}
	for _, c := range cfg.RADIUS.Clients {
		claim(c.Pos, "RADIUS client", c.Name)
	}
	for _, t := range cfg.SSH.Targets {
		claim(t.Pos, "SSH target", t.Name)
	}
	rules := map[string]int{}
	for _, rule := range cfg.Rules {
		name := rule.Policy.Name
		if line, taken := rules[name]; taken && name != "" {
			r.Bad(r.Place(rule.Pos.Under("name")), "records name the rule that decided", "%s is the name of the rule in line %d", strict.Show(name), line)
			continue
		}
		rules[name] = rule.Line
	}
}

func checkPrefixes(r *strict.Reader, cfg *Config) {
	first := map[string]Client{}
	for _, c := range cfg.RADIUS.Clients {
		if !c.Prefix.IsValid() {
			continue
		}
		key := c.Prefix.String()
		if other, taken := first[key]; taken {
			r.Bad(r.Place(c.Pos.Under("address")), "one address has one secret: give one of them a longer prefix", "%s is also the address of %s in line %d", key, strict.Show(other.Name), other.Line)
			continue
		}
		first[key] = c
	}
}

// checkVia follows the way to each target: it has to end.
func checkVia(r *strict.Reader, cfg *Config) {
	via := map[string]string{}
	for _, t := range cfg.SSH.Targets {
		via[t.Name] = t.Via
	}
	for _, t := range cfg.SSH.Targets {
		if t.Via == "" {
			continue
		}
		at := r.Place(t.Pos.Under("via"))
		if _, known := via[t.Via]; !known {
			r.Bad(at, "", "no target is called %s", strict.Show(t.Via))
			continue
		}
		next := t.Via
		for range cfg.SSH.Targets {
			if next == t.Name {
				r.Bad(at, "", "the way to it leads through itself")
				break
			}
			if next = via[next]; next == "" {
				break
			}
		}
	}
}

func checkRules(r *strict.Reader, cfg *Config) {
	var names, tags []string
	add := func(name string, of []string) {
		names = append(names, name)
		tags = append(tags, of...)
	}
	for _, c := range cfg.RADIUS.Clients {
		add(c.Name, c.Tags)
	}
	for _, t := range cfg.SSH.Targets {
		add(t.Name, t.Tags)
	}
	if slices.Contains(names, "") {
		return // a name is wrong; what refers to it can't be told from a slip
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	for _, rule := range cfg.Rules {
		for i, to := range rule.Policy.To {
			at := r.Place(rule.Pos.Under(fmt.Sprintf("to[#%d]", i+1)))
			tag, isTag := strings.CutPrefix(to, "tag:")
			switch {
			case to == "*" || to == "" || tag == "":
			case isTag && !slices.Contains(tags, tag):
				r.Bad(at, meant(tag, tags, "tag:"), "no system has the tag %s", strict.Show(tag))
			case !isTag && !slices.Contains(names, to):
				hint := meant(to, names, "")
				if slices.Contains(tags, to) {
					hint = "did you mean tag:" + to + "?"
				}
				r.Bad(at, hint, "no RADIUS client or SSH target is called %s", strict.Show(to))
			}
		}
	}
}

// meant guesses at a name, or lists some of those there are.
func meant(word string, known []string, before string) string {
	if near, ok := strict.Nearest(word, known); ok {
		return "did you mean " + before + near + "?"
	}
	const most = 10
	list := known[:min(len(known), most)]
	if len(list) == 0 {
		return "there are none"
	}
	hint := "there are " + strings.Join(list, ", ")
	if more := len(known) - len(list); more > 0 {
		hint += fmt.Sprintf(" and %d more", more)
	}
	return hint
}

// checkListeners refuses an address that two would listen on, and warns where nobody listens at all.
func checkListeners(r *strict.Reader, cfg *Config) {
	top := Pos{File: r.File}
	udp, tcp := map[string]string{}, map[string]string{}
	claim := func(used map[string]string, field string, listen ...string) {
		for _, l := range listen {
			_, port, err := net.SplitHostPort(l)
			if err != nil || port == "0" {
				continue
			}
			if first, taken := used[l]; taken {
				r.Bad(r.Place(top.Under(field)), "", "%s is taken by %s", l, first)
				continue
			}
			used[l] = field
		}
	}
	claim(udp, "radius.listen", cfg.RADIUS.Listen...)
	claim(udp, "radius.accounting", cfg.RADIUS.Accounting...)
	if cfg.RADIUS.TLS != nil {
		claim(tcp, "radius.tls.listen", cfg.RADIUS.TLS.Listen...)
	}
	claim(tcp, "ssh.listen", cfg.SSH.Listen...)
	claim(tcp, "console.listen", cfg.Console.Listen)
	claim(tcp, "metrics.listen", cfg.Metrics.Listen)
	if len(cfg.RADIUS.Listen) == 0 && len(cfg.SSH.Listen) == 0 && cfg.RADIUS.TLS == nil {
		r.Warn(top, "radius.listen or ssh.listen", "nobody can log in: no address to listen on is given")
	}
}
