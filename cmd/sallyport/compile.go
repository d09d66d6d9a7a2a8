package main

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"time"

	"sallyport/internal/config"
	"sallyport/internal/firstfactor"
	"sallyport/internal/login"
	"sallyport/internal/policy"
	"sallyport/internal/recording"
	"sallyport/radiusd"
	"sallyport/radiusd/attr"
	"sallyport/sshgw"
)

// This file turns a checked configuration into what each part wants. It opens nothing but host keys.

func passwordCost(cfg *config.Config) firstfactor.Cost {
	p := cfg.Login.Password
	return firstfactor.Cost{
		MemoryKiB: uint32(p.MemoryKiB), Iterations: uint32(p.Iterations), Parallelism: uint8(p.Parallelism), AtOnce: p.AtOnce, Queue: p.Queue,
	}
}

func gatePolicy(cfg *config.Config) *login.Policy {
	l := cfg.Login
	return &login.Policy{
		Settings: login.Settings{Skew: l.Skew, LookAhead: l.LookAhead, Lock: l.Lock, ChallengeFor: l.ChallengeFor},
		Rules:    cfg.Policy(),
	}
}

func classOf(class string) string { return cmp.Or(class, config.Unclassified) }

// systemsOf are the systems that rules and verbs name.
func systemsOf(cfg *config.Config) map[string]login.System {
	systems := make(map[string]login.System)
	for _, c := range cfg.RADIUS.Clients {
		systems[c.Name] = login.System{Name: c.Name, Tags: c.Tags, Class: classOf(c.Class)}
	}
	for _, t := range cfg.SSH.Targets {
		systems[t.Name] = login.System{Name: t.Name, Tags: t.Tags, Class: classOf(t.Class)}
	}
	return systems
}

// replyOf compiles a rule's reply attributes, one at a time so that each error has its place.
func replyOf(r config.Rule) (*attr.Reply, config.Problems) {
	var problems config.Problems
	all := make(map[string][]string, len(r.Reply))
	for _, one := range r.Reply {
		if _, errs := attr.Compile(map[string][]string{one.Name: one.Values}); len(errs) > 0 {
			for _, err := range errs {
				problems = append(problems, one.Problem(err.Error(), ""))
			}
			continue
		}
		all[one.Name] = append(all[one.Name], one.Values...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	reply, errs := attr.Compile(all)
	for _, err := range errs { // what is wrong with them only together
		problems = append(problems, r.Problem("reply: "+err.Error(), ""))
	}
	return reply, problems
}

// unsupported are settings that the configuration may hold and this version does not serve. They are errors, since
// what they ask for would otherwise be missed silently.
func unsupported(cfg *config.Config) config.Problems {
	var problems config.Problems
	refuse := func(field, text, hint string) {
		problems = append(problems, config.Problem{File: cfg.File, Field: field, Text: text, Hint: hint})
	}
	if cfg.Database != nil {
		refuse("database", "a shared database is not served by this version", "leave it out: SQLite in the data folder")
	}
	if d := cfg.SSH.Penalties.InvalidUser; d != 0 && d != defaultInvalidUser {
		cfg.Warnings = append(cfg.Warnings, config.Problem{
			File: cfg.File, Field: "ssh.penalties.invaliduser",
			Text: "is not applied: a penalty of its own would tell strangers from people", Hint: "leave it out; authfail counts for both",
		})
	}
	if cfg.Console.Listen != "" {
		cfg.Warnings = append(cfg.Warnings, config.Problem{File: cfg.File, Field: "console.listen", Text: "this version has no web console", Hint: "leave it out"})
	}
	return problems
}

// defaultInvalidUser is what the configuration fills in for a key that nobody gave.
const defaultInvalidUser = 5 * time.Second

// checkReplies finds what is wrong with a configuration beyond its form.
func checkReplies(cfg *config.Config) config.Problems {
	problems := slices.Concat(unsupported(cfg), checkTargets(cfg), checkWitnesses(cfg))
	problems = append(problems, checkRecording(cfg)...)
	problems = append(problems, checkOutbound(cfg)...)
	for _, r := range cfg.Rules {
		_, ps := replyOf(r)
		problems = append(problems, ps...)
	}
	return problems
}

// checkRecording finds recipients that nothing can be sealed to, and rules that require what nobody could read.
func checkRecording(cfg *config.Config) config.Problems {
	var problems config.Problems
	r := cfg.Recording
	if len(r.Recipients) > 0 {
		if _, err := recording.ParseRecipients(r.Recipients); err != nil {
			problems = append(problems, r.Under("recipients").Problem(err.Error(), "`age-keygen -y auditor.key` prints it"))
		}
		return problems
	}
	for _, rule := range cfg.Rules {
		overSSH := slices.ContainsFunc(rule.Policy.May, func(c policy.Capability) bool { return c != policy.Login })
		if rule.Record == config.RecordRequired && overSSH {
			problems = append(problems, rule.Under("record").Problem("recordings are required, and nobody is named who could read them",
				"recording: {recipients: [age1...]}: the public key of an auditor, which `age-keygen` makes"))
		}
	}
	return problems
}

// compile makes what the servers want, and finds all that they would refuse, before any of it takes effect.
func compile(cfg *config.Config, log *slog.Logger) (*radiusd.Config, sshgw.Config, error) {
	rc, err := radiusConfig(cfg, log)
	if err != nil {
		return nil, sshgw.Config{}, err
	}
	sc, err := sshConfig(cfg)
	if err != nil {
		return nil, sshgw.Config{}, err
	}
	errs := append(rc.Validate(), checkFirsts(cfg))
	// A server that serves nobody judges the SSH part.
	errs = append(errs, sshgw.NewServer(sshgw.Options{}).SetConfig(sc))
	return rc, sc, errors.Join(errs...)
}
