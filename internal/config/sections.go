package config

import (
	"strconv"
	"strings"
	"time"

	"sallyport/internal/config/strict"

	"go.yaml.in/yaml/v4"

	"sallyport/internal/throttle"
)

const (
	day   = 24 * time.Hour
	years = 365 * day
)

// root reads the file's top level. Its order is the order of the design's page of settings.
func root(r *strict.Reader, n *yaml.Node) *Config {
	b := r.Block(n, Pos{File: r.File, Line: n.Line})
	cfg := &Config{File: r.File}
	cfg.Data = b.Path("data", "data")
	cfg.Database = database(b, "database")
	if b.Has("node") {
		cfg.Node = b.Name("node")
	} else {
		b.Value("node")
	}
	cfg.Organisation = b.Printable("organisation", "", 100)
	cfg.Log = log(b.Block("log"))
	cfg.Login = login(b.Block("login"))
	cfg.People = people(b.Block("people"))
	cfg.RADIUS = radius(b.Block("radius"))
	cfg.SSH = ssh(b.Block("ssh"), cfg.Data)
	cfg.Recording = recording(b.Block("recording"), cfg.Data)
	for _, item := range b.Items("rules") {
		cfg.Rules = append(cfg.Rules, rule(item))
	}
	cfg.Audit = audit(b.Block("audit"))
	cfg.Alerts = alerts(b.Block("alerts"))
	cfg.Console.Listen = oneListener(b.Block("console"))
	cfg.Metrics.Listen = oneListener(b.Block("metrics"))
	cfg.Operators = operators(b.Block("operators"))
	b.End()
	return cfg
}

// database reads a URL, or a block of the URL and the password.
func database(b *strict.Block, key string) *Database {
	if !b.Has(key) {
		b.Value(key)
		return nil
	}
	if b.IsBlock(key) {
		in := b.Block(key)
		defer in.End()
		password := in.Secret("secret", false)
		v, ok := in.Needed("url")
		if ok {
			ok = in.Reader.URL(strict.Text{Value: v, Pos: in.At("url")}, "postgres", "postgresql") != ""
		}
		if !ok {
			return nil
		}
		return &Database{URL: strict.NewSecret([]byte(v)), Password: password}
	}
	v, ok := b.Text(key)
	if !ok {
		return nil
	}
	if !strings.HasPrefix(v, "postgres://") && !strings.HasPrefix(v, "postgresql://") {
		b.Bad(key, "postgres://user@host/name; without the key, SQLite in the data folder", "is not the URL of a PostgreSQL database")
		return nil
	}
	return &Database{URL: strict.NewSecret([]byte(v))}
}

func log(b *strict.Block) Log {
	defer b.End()
	return Log{
		Format: strict.Word(b, "format", "text", "text", "json"),
		Level:  strict.Word(b, "level", "info", "debug", "info", "warn", "error"),
	}
}

func oneListener(b *strict.Block) string {
	defer b.End()
	v, ok := b.Text("listen")
	if !ok {
		return ""
	}
	if good := b.Reader.Listen([]strict.Text{{Value: v, Pos: b.At("listen")}}); len(good) == 1 {
		return good[0]
	}
	return ""
}

func login(b *strict.Block) Login {
	defer b.End()
	l := Login{
		FirstFactor:  strict.Word(b, "first_factor", "local", "local", "ldap", "radius"),
		Password:     password(b.Block("password")),
		Skew:         b.Number("skew", 1, 0, 10),
		LookAhead:    b.Number("look_ahead", 10, 1, 100),
		Lock:         lock(b.Block("lock")),
		ChallengeFor: b.Span("challenge_for", 120*time.Second, 10*time.Second, time.Hour),
		Realms:       realms(b, "realms"),
		LDAP:         ldap(b.Block("ldap")),
		RADIUS:       upstream(b.Block("radius")),
	}
	if l.FirstFactor != "local" && !b.Has(l.FirstFactor) {
		b.Bad(l.FirstFactor, "first_factor: "+l.FirstFactor+" takes this block", "is missing")
	}
	return l
}

// leastArgon is the least of memory (KiB) times iterations that OWASP's password storage cheat sheet recommends for
// argon2id: 7 MiB and 5 iterations.
const leastArgon = 7 * 1024 * 5

func password(b *strict.Block) Password {
	defer b.End()
	p := Password{
		MemoryKiB:   b.Number("memory_kib", 19456, 8<<10, 1<<20),
		Iterations:  b.Number("iterations", 2, 1, 64),
		Parallelism: b.Number("parallelism", 1, 1, 8),
		AtOnce:      b.Number("at_once", 2, 1, 256),
		Queue:       b.Number("queue", 64, 1, 65536),
		Min:         b.Number("min", 8, 8, 64),
	}
	if p.MemoryKiB*p.Iterations < leastArgon {
		b.Reader.Warn(b.At("memory_kib"), "memory_kib: 19456, iterations: 2", "makes stolen password hashes cheap to guess")
	}
	return p
}

func people(b *strict.Block) People {
	defer b.End()
	return People{Strict: b.Truth("strict", false), Dormant: b.Span("dormant", 45*day, day, years)}
}

func lock(b *strict.Block) throttle.Settings {
	defer b.End()
	d := throttle.Default()
	s := throttle.Settings{
		After:     b.Number("after", d.After, 1, throttle.MaxFailures),
		For:       b.Span("for", d.For, time.Second, years),
		HardAfter: b.Number("hard_after", d.HardAfter, 1, throttle.MaxFailures),
		HardFor:   b.Span("hard_for", d.HardFor, time.Second, years),
	}
	if err := s.Validate(); err != nil {
		field, what := splitField(err.Error())
		b.Bad(field, "", "%s", what)
	}
	return s
}

// splitField takes an error of another package, "field: what is wrong", apart.
func splitField(message string) (field, what string) {
	field, what, _ = strings.Cut(message, ": ")
	return field, what
}

// realms reads names of domains. One that holds what a person's name may hold would be ambiguous; one that is empty, all.
func realms(b *strict.Block, key string) []string {
	var all []string
	for _, t := range b.Texts(key) {
		if t.Value == "" || len(t.Value) > 255 || strings.ContainsAny(t.Value, "\\@% \t") {
			b.Reader.Bad(t.Pos, "TRUST, or trust.nhs.uk", "%s is not the name of a realm", strict.Show(t.Value))
			continue
		}
		all = append(all, t.Value)
	}
	return all
}

func ldap(b *strict.Block) *LDAP {
	defer b.End()
	l := &LDAP{StartTLS: b.Truth("start_tls", false), CA: b.Path("ca", ""), ServerName: b.Printable("server_name", "", 255)}
	for _, t := range b.TextOrTexts("url") {
		if u := b.Reader.URL(t, "ldaps", "ldap"); u != "" {
			l.URLs = append(l.URLs, u)
		}
	}
	l.Base = b.Printable("base", "", 1024)
	l.BindDN = b.Printable("bind_dn", "", 1024)
	l.User = b.Printable("user", "", 1024)
	l.Groups = b.Printable("groups", "", 1024)
	l.GroupBase = b.Printable("group_base", "", 1024)
	l.Timeout = b.Span("timeout", 4*time.Second, 100*time.Millisecond, time.Minute)
	l.AtOnce = b.Number("at_once", 32, 1, 1024)
	l.Secret = b.Secret("secret", b.Has("bind_dn"))
	l.Sync = sync(b.Block("sync"))
	if !b.Given {
		return nil
	}
	b.Require("url", "base")
	for _, u := range l.URLs {
		if strings.HasPrefix(u, "ldap:") && !l.StartTLS {
			b.Bad("url", "ldaps://, or start_tls: true", "would send passwords in the clear")
		}
	}
	return l
}

func upstream(b *strict.Block) *Upstream {
	defer b.End()
	u := &Upstream{
		Secret:  b.Secret("secret", b.Given),
		Timeout: b.Span("timeout", 4*time.Second, 100*time.Millisecond, time.Minute),
		AtOnce:  b.Number("at_once", 64, 1, 1024),
		Relay:   strict.Values(b.Texts("relay")),

		RequireMessageAuthenticator: b.Truth("require_message_authenticator", true),
	}
	for _, t := range b.Texts("servers") {
		if s := b.Reader.HostPort(t, 1812); s != "" {
			u.Servers = append(u.Servers, s)
		}
	}
	if !b.Given {
		return nil
	}
	b.Require("servers")
	secretLength(b, u.Secret)
	if !u.RequireMessageAuthenticator {
		b.Reader.Warn(b.At("require_message_authenticator"), "update the server, then take this line out",
			"whoever is between here and the server can forge its acceptances (BlastRADIUS, CVE-2024-3596)")
	}
	return u
}

func audit(b *strict.Block) Audit {
	defer b.End()
	var a Audit
	a.Witnesses, a.CheckpointEvery = witnesses(b, "witnesses"), checkpointEvery(b)
	a.Syslog = syslogs(b)
	a.Retention = retention(b.Block("retention"))
	return a
}

// startups reads OpenSSH's "start:rate:full", or one number that is start and full.
func startups(b *strict.Block, key string, def MaxStartups) MaxStartups {
	v, ok := b.Text(key)
	if !ok {
		return def
	}
	parts := strings.Split(v, ":")
	if len(parts) == 1 {
		parts = []string{v, "100", v}
	}
	var n [3]int
	good := len(parts) == 3
	for i := 0; good && i < 3; i++ {
		var err error
		n[i], err = strconv.Atoi(parts[i])
		good = err == nil && n[i] >= 1 && n[i] <= 1_000_000
	}
	if !good || n[1] > 100 || n[2] < n[0] {
		b.Bad(key, `"10:30:100": from 10 on refuse 30 percent, at 100 all`, "%s is not start:rate:full", strict.Show(v))
		return def
	}
	return MaxStartups{Start: n[0], Rate: n[1], Full: n[2]}
}
