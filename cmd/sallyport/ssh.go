package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/config"
	"sallyport/internal/login"
	"sallyport/internal/recording"
	"sallyport/sshgw"
	"sallyport/sshgw/outbound"
	"sallyport/sshgw/route"
)

// jumpOf is what a jump to the target means. Where nothing is said it is recorded where the rule requires that, and else opaque.
func jumpOf(t config.Target) string { return cmp.Or(t.Jump, "auto") }

func sshConfig(cfg *config.Config) (sshgw.Config, error) {
	s := cfg.SSH
	sc := sshgw.Config{
		GraceFirst: s.Grace.First, GraceSecond: s.Grace.Second,
		MaxStartups:     sshgw.Startups{Begin: s.MaxStartups.Start, Rate: s.MaxStartups.Rate, Full: s.MaxStartups.Full},
		PerSourceStarts: s.PerSourceStarts, MaxChannels: s.MaxChannels,
		KeepaliveEvery: s.Keepalive.Every, KeepaliveMisses: s.Keepalive.Misses,
		Penalties: sshgw.Penalties{
			Off: !s.Penalties.On, AuthFail: s.Penalties.AuthFail, NoAuth: s.Penalties.NoAuth,
			GraceExceeded: s.Penalties.GraceExceeded, Crash: s.Penalties.Crash, Min: s.Penalties.Min, Max: s.Penalties.Max,
		},
	}
	if s.Prompts == config.TwoRounds {
		sc.Prompts = sshgw.TwoRounds
	}
	for _, path := range s.HostKeys {
		key, err := sshgw.LoadHostKey(path)
		if err != nil {
			return sc, fmt.Errorf("ssh.host_keys: %w", err)
		}
		sc.HostKeys = append(sc.HostKeys, key)
	}
	for _, p := range s.ProxyProtocol {
		sc.Balancers = append(sc.Balancers, netip.MustParsePrefix(p)) // the configuration is checked
	}
	if s.UserCA != "" {
		cas, err := loadUserCAs(s.UserCA)
		if err != nil {
			return sc, fmt.Errorf("ssh.user_ca: %w", err)
		}
		sc.UserCAs = cas
	}
	if r := cfg.Recording; len(r.Recipients) > 0 {
		sc.Recordings = &sshgw.Recordings{
			Options:     recording.Options{Dir: r.Dir, Recipients: r.Recipients, MaxBytes: r.MaxBytes, LowWater: r.LowWater, Input: r.Input, Now: time.Now},
			StopAtLimit: r.OnLimit == config.OnLimitStop,
		}
	}
	for _, t := range s.Targets {
		target, err := sshTarget(t)
		if err != nil {
			return sc, config.Problems{t.Problem(err.Error(), "")}
		}
		sc.Targets = append(sc.Targets, target)
	}
	return sc, nil
}

// loadUserCAs reads the public keys of CAs, one a line, as TrustedUserCAKeys of sshd_config(5) has them.
func loadUserCAs(path string) (list []ssh.PublicKey, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for len(bytes.TrimSpace(text)) > 0 {
		key, _, _, rest, err := ssh.ParseAuthorizedKey(text)
		if err != nil {
			return nil, hintf("one public key a line, as in a file that ends in .pub", "%s: what follows key %d is no public key", path, len(list))
		}
		list, text = append(list, key), rest
	}
	if len(list) == 0 {
		return nil, hintf("take user_ca out, or put a CA's public key in", "%s holds no key", path)
	}
	return list, nil
}

func sshTarget(t config.Target) (sshgw.Target, error) {
	target := sshgw.Target{
		Name: t.Name, Address: t.Address, Account: t.Account, Accounts: t.Accounts, Class: classOf(t.Class), Tags: t.Tags,
		Jump: sshgw.Unsaid, Via: t.Via, Credential: t.Credential,
	}
	switch t.Credential {
	case "", sshgw.CredentialAgent, sshgw.CredentialAsk: // what the person proves to the target is his own
		target.Free = true
	}
	var err, err1, err2 error
	if t.Jump != "" {
		target.Jump, err = sshgw.ParseJumpMode(t.Jump)
	}
	target.Algorithms, err1 = outbound.ParseAlgorithms(t.Algorithms)
	target.HostKeys, err2 = outbound.ParseHostKeys(t.HostKeys)
	for _, word := range t.Ports {
		from, to, _ := config.ParsePorts(word) // the configuration is checked
		target.Ports = append(target.Ports, route.Ports{From: from, To: to})
	}
	return target, errors.Join(err, err1, err2)
}

// targetVault is what the SSH gateway asks about targets.
type targetVault struct{ *app }

func (v targetVault) TargetKeys(target string) (approved, revoked []outbound.Key) {
	for _, k := range v.gate.TargetKeys(target) {
		key := outbound.Key{Fingerprint: k.Fingerprint, Type: k.Type}
		switch k.State {
		case login.HostKeyApproved:
			approved = append(approved, key)
		case login.HostKeyRevoked:
			revoked = append(revoked, key)
		}
	}
	return approved, revoked
}

// TargetCredential returns what is sealed for an account at a target, if it is of that kind; any kind, when none is said.
func (v targetVault) TargetCredential(target, account, kind string) (outbound.Credential, error) {
	c, ok := v.gate.TargetCredential(target, account)
	if !ok || kind != "" && string(c.Kind) != kind {
		return nil, fmt.Errorf("no %s is kept for %s; hint: sallyport target credential %s", cmp.Or(kind, "credential"), target, target)
	}
	switch c.Kind {
	case login.CredentialKey:
		private, certificate := admin.SplitKey(c.Secret)
		return outbound.NewKey(private, certificate)
	case login.CredentialPassword:
		return outbound.NewPassword(string(c.Secret)), nil
	}
	return nil, fmt.Errorf("the credential for %s is of an unknown kind %q", target, c.Kind)
}

func (v targetVault) OfferHostKey(ctx context.Context, target string, key ssh.PublicKey) error {
	return v.admin.OfferHostKey(ctx, target, key.Marshal())
}

func (v targetVault) HostKeyAlert(ctx context.Context, target string, key ssh.PublicKey, revoked bool) error {
	why := login.ReasonHostKeyChanged
	if revoked {
		why = login.ReasonHostKeyRevoked
	}
	return v.admin.HostKeyAlert(ctx, target, key.Marshal(), why)
}

// lastUse is when somebody was last at each target.
func (a *app) lastUse(ctx context.Context, person string) map[string]time.Time {
	const looked = 500
	last := make(map[string]time.Time)
	_ = a.index.Find(ctx, audit.Filter{Person: person, Event: login.EventSessionStart, Limit: looked}, func(rec *audit.Record) error {
		if rec.Protocol == "ssh" && last[rec.System].IsZero() {
			last[rec.System] = rec.Time
		}
		return nil
	}) // what is not found is not shown
	return last
}
