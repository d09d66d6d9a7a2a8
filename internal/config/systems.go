package config

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/config/strict"

	"sallyport/internal/policy"
)

// maxReplyText bounds what goes into one RADIUS attribute (RFC 2865 section 5).
const maxReplyText = 253

func radius(b *strict.Block) RADIUS {
	defer b.End()
	s := RADIUS{
		Listen:        b.Reader.Listen(b.Texts("listen")),
		Accounting:    b.Reader.Listen(b.Texts("accounting")),
		TLS:           tls(b.Block("tls")),
		EAP:           eap(b.Block("eap")),
		Workers:       b.Number("workers", 0, 1, 4096),
		Queue:         b.Number("queue", 0, 1, 1<<20),
		ReceiveBuffer: b.Number("receive_buffer", 0, 64<<10, 1<<30),
	}
	for _, item := range b.Items("clients") {
		c := client(item)
		s.Clients = append(s.Clients, c)
		if slices.Contains(c.Methods, "eap") && s.EAP == nil {
			b.Reader.Bad(item.At("methods"), "radius.eap: {cert: ..., key: ...}, or another method", "eap needs radius.eap, which is missing")
		}
	}
	return s
}

func tls(b *strict.Block) *TLS {
	defer b.End()
	t := &TLS{
		Listen:   b.Reader.Listen(b.Texts("listen")),
		Cert:     b.Path("cert", ""),
		Key:      b.Path("key", ""),
		ClientCA: b.Path("client_ca", ""),
	}
	if !b.Given {
		return nil
	}
	b.Require("listen", "cert", "key", "client_ca")
	return t
}

func eap(b *strict.Block) *EAP {
	defer b.End()
	e := &EAP{Cert: b.Path("cert", ""), Key: b.Path("key", ""), Methods: words(b, "methods", "ttls", "peap", "gtc", "mschapv2")}
	if !b.Given {
		return nil
	}
	b.Require("cert", "key")
	for _, m := range e.Methods {
		if m == "gtc" || m == "mschapv2" {
			b.Reader.Warn(b.At("methods"), "ttls or peap, which have a tunnel", "%s without a tunnel shows codes to whoever listens between person and client", m)
		}
	}
	return e
}

// words reads a list of words that are known, each once.
func words(b *strict.Block, key string, allowed ...string) []string {
	var all []string
	for _, t := range b.Texts(key) {
		switch {
		case !slices.Contains(allowed, t.Value):
			b.Reader.Bad(t.Pos, "one of: "+strings.Join(allowed, ", "), "%s is not known", strict.Show(t.Value))
		case slices.Contains(all, t.Value):
			b.Reader.Bad(t.Pos, "", "%s stands twice", strict.Show(t.Value))
		default:
			all = append(all, t.Value)
		}
	}
	return all
}

func client(b *strict.Block) Client {
	defer b.End()
	overTLS := b.Has("certificate")
	c := Client{
		Pos:       b.Pos,
		Name:      b.Name("name"),
		Prefix:    address(b, overTLS),
		Secret:    b.Secret("secret", !overTLS),
		Mode:      strict.Word(b, "mode", ModeChallenge, ModeChallenge, ModeAppend, ModeCode),
		Separator: b.Printable("separator", "", 8),
		CodeFirst: b.Truth("code_first", false),
		Charset:   b.Printable("charset", "", 32),
		Methods:   words(b, "methods", "pap", "chap", "mschapv2", "eap"),
		Quirks:    words(b, "quirks", "fortigate-mschapv2-challenge"),
		Class:     class(b),
		Tags:      b.Names("tags"),

		RequireMessageAuthenticator: b.Truth("require_message_authenticator", true),
		LimitProxyState:             b.Truth("limit_proxy_state", false),
		StatusServer:                b.Truth("status_server", true),

		Prompt: b.Printable("prompt", "", maxReplyText),
		NoEcho: b.Truth("no_echo", false),

		Certificate:    b.Printable("certificate", "", 256),
		SessionClass:   b.Truth("session_class", true),
		DisconnectPort: disconnectPort(b, "disconnect"),
	}
	if parts := func(m string) bool { return m == "pap" || m == "eap" }; c.Mode == ModeAppend && len(c.Methods) > 0 && !slices.ContainsFunc(c.Methods, parts) {
		b.Bad("methods", "mode: code, or methods: [pap]", "are all responses, in which password and code cannot be parted, but the mode is append")
	}
	if b.Has("code_first") && c.Mode != ModeAppend {
		b.Bad("code_first", "mode: append, or take it out", "is about a field of password and code, but the mode is %s", c.Mode)
	}
	if overTLS {
		for _, key := range []string{"address", "secret", "secret_file", "secret_env", "require_message_authenticator", "limit_proxy_state"} {
			if b.Has(key) {
				b.Bad(key, "make a client of its own for UDP", "is for UDP, and this client is known by its certificate")
			}
		}
		return c
	}
	secretLength(b, c.Secret)
	if b.Has("separator") && c.Mode != ModeAppend {
		b.Bad("separator", "mode: append, or take it out", "stands between password and code, but the mode is %s", c.Mode)
	}
	if strings.ContainsAny(c.Separator, "0123456789") {
		b.Bad("separator", "", "holds a digit, and codes are digits")
	}
	if !c.RequireMessageAuthenticator {
		b.Reader.Warn(b.At("require_message_authenticator"), "update the client, then take this line out; until then, limit_proxy_state: true where it is no proxy",
			"whoever is between the client and here can forge its answers (BlastRADIUS, CVE-2024-3596)")
	}
	if c.Prefix.IsValid() && isPublic(c.Prefix) {
		b.Reader.Warn(b.At("address"), "put it behind a VPN, or use RADIUS over TLS",
			"%s is reachable across the Internet, where RADIUS over UDP must not be used", c.Prefix)
	}
	return c
}

// address is needed where a client is known by it.
func address(b *strict.Block, overTLS bool) netip.Prefix {
	if overTLS {
		b.Value("address")
		return netip.Prefix{}
	}
	return b.Prefix("address")
}

// disconnectPort reads a port, or off.
func disconnectPort(b *strict.Block, key string) int {
	const usual = 3799 // RFC 5176 section 2
	if v, ok := b.Text(key); !ok || v == "off" || v == "false" {
		if ok {
			return 0
		}
		return usual
	}
	return b.Number(key, usual, 1, 65535)
}

// secretLength warns of shared secrets that can be guessed offline from one captured packet, and of those that some
// clients silently cut.
func secretLength(b *strict.Block, s Secret) {
	at := b.Pos.Under("secret")
	for _, key := range []string{"secret", "secret_file", "secret_env"} {
		if b.Has(key) {
			at = b.At(key)
		}
	}
	switch n := s.Len(); {
	case n > 0 && n <= 12:
		b.Reader.Warn(at, "24 random characters or more: openssl rand -base64 24", "the shared secret has 12 bytes or fewer and can be guessed from one captured packet")
	case n > 48:
		b.Reader.Warn(at, "24 to 48 bytes are safe everywhere", "the shared secret has more than 48 bytes, which some clients cut without a word")
	}
}

// class reads what a system is to the reports.
func class(b *strict.Block) string {
	class := strict.Word(b, "class", Unclassified, "remote", "privileged-external", "privileged-internal")
	if !b.Has("class") {
		b.Reader.Warn(b.At("class"), "class: remote, privileged-external or privileged-internal", "is missing: reports will count it as unclassified")
	}
	return class
}

func ssh(b *strict.Block, data string) SSH {
	defer b.End()
	s := SSH{
		Listen:          b.Reader.Listen(b.Texts("listen")),
		Prompts:         strict.Word(b, "prompts", OneRound, OneRound, TwoRounds),
		MaxStartups:     startups(b, "max_startups", MaxStartups{Start: 10, Rate: 30, Full: 100}),
		PerSourceStarts: b.Number("per_source_starts", 10, 1, 1_000_000),
		Penalties:       penalties(b, "penalties"),
		MaxChannels:     b.Number("max_channels", 10, 1, 1000),
		UserCA:          b.Path("user_ca", ""),
		ProxyProtocol:   b.Prefixes("proxy_protocol"),
	}
	for _, t := range b.Texts("host_keys") {
		s.HostKeys = append(s.HostKeys, b.Reader.Resolve(t.Value))
	}
	if len(s.HostKeys) == 0 {
		s.HostKeys = []string{filepath.Join(data, "keys", "ssh_host_ed25519_key")}
	}
	grace := b.Block("grace")
	s.Grace = Grace{
		First:  grace.Span("first", 30*time.Second, time.Second, time.Hour),
		Second: grace.Span("second", 120*time.Second, time.Second, time.Hour),
	}
	grace.End()
	alive := b.Block("keepalive")
	s.Keepalive = Keepalive{
		Every:  alive.Span("every", 30*time.Second, time.Second, time.Hour),
		Misses: alive.Number("misses", 3, 1, 100),
	}
	alive.End()
	for _, item := range b.Items("targets") {
		s.Targets = append(s.Targets, target(item))
	}
	return s
}

// recipient is what public keys of age look like. Whoever seals to them reads them properly.
var recipient = regexp.MustCompile(`^age1[0-9a-z]{50,1000}[0-9a-z]*$`)

func recording(b *strict.Block, data string) Recording {
	defer b.End()
	r := Recording{
		Pos:      b.Pos,
		Dir:      b.Path("dir", ""),
		Input:    b.Truth("input", false),
		MaxBytes: b.Bytes("max_bytes", 1<<30, 1<<20, 1<<50),
		LowWater: b.Bytes("low_water", 1<<30, 0, 1<<50),
		OnLimit:  strict.Word(b, "on_limit", OnLimitEnd, OnLimitEnd, OnLimitStop),
	}
	if r.Dir == "" {
		r.Dir = filepath.Join(data, "recordings")
	}
	for _, t := range b.Texts("recipients") {
		switch {
		case strings.HasPrefix(strings.ToUpper(t.Value), "AGE-SECRET-KEY-"):
			b.Reader.Bad(t.Pos, "the gateway gets the public key, age1...; take the secret one off it, and make another", "is a secret key") // which is not repeated
		case !recipient.MatchString(t.Value):
			b.Reader.Bad(t.Pos, "a public key of age, age1...: `age-keygen -y auditor.key` prints it", "%s is not a recipient", strict.Show(t.Value))
		case slices.Contains(r.Recipients, t.Value):
			b.Reader.Bad(t.Pos, "", "%s stands twice", strict.Show(t.Value))
		default:
			r.Recipients = append(r.Recipients, t.Value)
		}
	}
	if r.Input {
		b.Reader.Warn(b.At("input"), "leave it out unless a rule of yours wants it", "recordings will hold what is typed without echo: passwords")
	}
	return r
}

// penalties reads on, off, or a block of times.
func penalties(b *strict.Block, key string) Penalties {
	on := true
	in := b.Reader.Block(nil, b.At(key))
	if b.IsScalar(key) {
		switch strict.Word(b, key, "on", "on", "off", "true", "false") {
		case "off", "false":
			on = false
		}
	} else {
		in = b.Block(key)
	}
	defer in.End()
	return Penalties{
		On:            on,
		AuthFail:      in.Span("authfail", 5*time.Second, 0, day),
		InvalidUser:   in.Span("invaliduser", 5*time.Second, 0, day),
		NoAuth:        in.Span("noauth", time.Second, 0, day),
		GraceExceeded: in.Span("grace_exceeded", 10*time.Second, 0, day),
		Crash:         in.Span("crash", 90*time.Second, 0, day),
		Min:           in.Span("min", 15*time.Second, 0, day),
		Max:           in.Span("max", 600*time.Second, time.Second, 7*day),
	}
}

// algorithm is what names of SSH algorithms look like (RFC 4251 section 6).
var algorithm = regexp.MustCompile(`^[!-+\--~]{1,64}$`)

func target(b *strict.Block) Target {
	defer b.End()
	t := Target{
		Pos:        b.Pos,
		Name:       b.Name("name"),
		Address:    b.HostPort("address", 22),
		Account:    b.Printable("account", "", 64),
		Credential: strict.Word(b, "credential", "", "agent", "key", "password", "ca", "ask"),
		Jump:       strict.Word(b, "jump", "", "recorded", "opaque", "off"),
		Class:      class(b),
		Tags:       b.Names("tags"),
	}
	if strings.ContainsAny(t.Account, " \t") {
		b.Bad("account", "", "holds a blank")
	}
	key := "host_key"
	if b.Has("host_keys") {
		b.Value(key)
		if key = "host_keys"; b.Has("host_key") {
			b.Bad(key, "keep one of the two", "is given beside host_key")
		}
	}
	for _, k := range b.TextOrTexts(key) {
		if !isHostKey(k.Value) {
			b.Reader.Bad(k.Pos, "as `ssh-keygen -l` prints it, SHA256:..., or a line of `ssh-keyscan` from its key type on; @revoked before it refuses it", "is neither a fingerprint nor a public key")
			continue
		}
		t.HostKeys = append(t.HostKeys, k.Value)
	}
	t.Algorithms = algorithms(b, "algorithms")
	for _, p := range b.Texts("ports") {
		if _, _, ok := ParsePorts(p.Value); !ok {
			b.Reader.Bad(p.Pos, "a port, two of them as in 8000-8010, or any", "%s is not a port", strict.Show(p.Value))
			continue
		}
		t.Ports = append(t.Ports, p.Value)
	}
	t.Accounts = b.Names("accounts")
	if b.Has("via") {
		t.Via = b.Name("via")
	} else {
		b.Value("via")
	}
	return t
}

// ParsePorts reads a port, a range of them, or any.
func ParsePorts(word string) (from, to uint16, ok bool) {
	if word == "any" {
		return 1, 65535, true
	}
	low, high, isRange := strings.Cut(word, "-")
	if !isRange {
		high = low
	}
	a, err1 := strconv.ParseUint(low, 10, 16)
	b, err2 := strconv.ParseUint(high, 10, 16)
	return uint16(a), uint16(b), err1 == nil && err2 == nil && 0 < a && a <= b
}

func algorithms(b *strict.Block, key string) []string {
	if !b.IsList(key) {
		return []string{strict.Word(b, key, "modern", "modern", "legacy")}
	}
	var all []string
	names := b.Texts(key)
	for _, t := range names {
		if !algorithm.MatchString(t.Value) {
			b.Reader.Bad(t.Pos, "", "%s is not the name of an algorithm", strict.Show(t.Value))
			continue
		}
		all = append(all, t.Value)
	}
	if len(names) == 0 {
		b.Bad(key, "modern, legacy, or names of algorithms", "is an empty list")
	}
	return all
}

func rule(b *strict.Block) Rule {
	defer b.End()
	r := Rule{Pos: b.Pos, Record: strict.Word(b, "record", RecordUnsaid, RecordRequired, RecordOff)}
	p := &r.Policy
	if v, ok := b.Needed("name"); ok {
		if !strict.IsTitle(v) {
			b.Bad("name", "printable, 64 bytes at most, no blanks at its ends", "is not fit for a name")
		}
		p.Name = v
	}
	p.Groups = strict.Values(b.Texts("groups"))
	p.To = strict.Values(b.Texts("to"))
	for _, t := range b.Texts("may") {
		p.May = append(p.May, policy.Capability(t.Value))
	}
	for _, t := range b.Texts("need") {
		p.Need = append(p.Need, policy.Kind(t.Value))
	}
	p.Exception = b.Printable("exception", "", 64)
	p.Grant = strict.Word(b, "grant", "off", "off", "required") == "required"
	p.Record = r.Record == RecordRequired
	p.Idle = b.Span("idle", 0, 0, years)
	p.Max = b.Span("max", 0, 0, years)
	p.StepUp = b.Truth("step_up", false)
	p.Lock = b.Span("lock", 0, 0, years)
	p.Trust = trust(b.Block("trust"))
	r.Reply = reply(b.Block("reply"))
	if p.Name == "" || !strict.IsTitle(p.Name) {
		return r // it's said already
	}
	for _, err := range (policy.Rules{*p}).Validate() {
		message := strings.TrimPrefix(err.Error(), `rule 1 (`+strconv.Quote(p.Name)+`): `)
		field, what := splitField(message)
		b.Bad(field, "", "%s", what)
	}
	return r
}

// trust is how one login serves further connections.
func trust(b *strict.Block) policy.Trust {
	defer b.End()
	return policy.Trust{For: b.Span("for", 0, 0, day), Uses: b.Number("uses", 0, 0, 10_000), Classes: b.Names("classes"), Certificate: b.Span("certificate", 0, 0, day)}
}

func reply(b *strict.Block) []Reply {
	var all []Reply
	for _, name := range b.Keys() {
		r := Reply{Pos: b.At(name), Name: name}
		if at := slices.IndexFunc(all, func(o Reply) bool { return strings.EqualFold(o.Name, name) }); at >= 0 {
			b.Bad(name, "give its values in one list", "is the same attribute as %s in line %d", all[at].Name, all[at].Line)
		}
		for _, t := range b.TextOrTexts(name) {
			if len(t.Value) > maxReplyText {
				b.Reader.Bad(t.Pos, "", "is %d bytes long: want %d at most", len(t.Value), maxReplyText)
				continue
			}
			r.Values = append(r.Values, t.Value)
		}
		all = append(all, r)
	}
	return all
}
