// Package config reads the gateway's one YAML file into typed values.
//
// It is strict, and it is patient: unknown keys, keys given twice, values of the wrong kind, missing secrets, names that
// nobody has and a second document are all reported at once, each as
//
//	sallyport.yaml:31: radius.clients[vpn-leeds].mode: "challange" is not known
//	  hint: one of: challenge, append, code
//
// and nothing comes out of a file in which anything is wrong, so that a reload keeps what is running. Scalars are taken
// as they are written (a secret 0123 is those four characters). Anchors, aliases and tags are refused. Every secret may be
// given as `secret`, in the file itself; as `secret_file`, relative to the configuration, without the one line end that
// editors put behind it; or as `secret_env`, the name of an environment variable. No error and no
// warning repeats a secret (P9).
//
// Times are Go's durations and days: 90s, 15m, 12h, 30d, 1d12h. Relative paths are relative to the file.
//
// A Config is not changed after it's read, and may be shared.
package config

import (
	"net/netip"
	"time"

	"sallyport/internal/config/strict"
	"sallyport/internal/policy"
	"sallyport/internal/throttle"
)

// What the reader of the file calls its own; here, so that callers import one package.
type (
	Problem  = strict.Problem  // one thing that is wrong
	Problems = strict.Problems // all of them, as an error
	Pos      = strict.Pos      // where a value stands
	Secret   = strict.Secret   // prints as "[secret]"
)

// ParseSpan reads a time span as the file has it: 90s, 15m, 12h, 30d, 1d12h.
func ParseSpan(s string) (time.Duration, error) { return strict.ParseDuration(s) }

// Config is one whole configuration, checked, with its defaults filled in.
type Config struct {
	File     string    `key:"-"` // as it was given
	Data     string    // folder of database, keys and recordings
	Database *Database // nil: SQLite in Data
	Node     string    // this gateway's name in the records; empty: the machine's

	Organisation string // whose it is, for statements
	Log          Log
	Login        Login
	People       People
	RADIUS       RADIUS
	SSH          SSH
	Recording    Recording
	Rules        []Rule
	Audit        Audit
	Alerts       Alerts
	Console      Console
	Metrics      Metrics
	Operators    Operators

	Warnings []Problem `key:"-"` // what may be meant, and should be known
}

// Database is one that several gateways share.
type Database struct {
	URL      Secret // postgres://...; a Secret because it may hold a password
	Password Secret
}

// Log is where the daemon's own lines go: standard error, in this form.
type Log struct {
	Format string // text, json
	Level  string // debug, info, warn, error
}

// Login is how people prove who they are.
type Login struct {
	FirstFactor  string // local, ldap, radius
	Password     Password
	Skew         int // TOTP steps of clock error, either way
	LookAhead    int // HOTP counters
	Lock         throttle.Settings
	ChallengeFor time.Duration // how long the second round may take
	Realms       []string      // what may stand before or behind a name: REALM\alice, alice@realm
	LDAP         *LDAP
	RADIUS       *Upstream
}

// The first factors that people can have.
const (
	FirstLocal  = "local"
	FirstLDAP   = "ldap"
	FirstRADIUS = "radius"
)

// Password is the cost of argon2id and the bound on what is computed at once: each takes MemoryKiB for a while.
type Password struct {
	MemoryKiB   int `key:"memory_kib"`
	Iterations  int
	Parallelism int
	AtOnce      int
	Queue       int // how many may wait
	Min         int // bytes that a new password has at least
}

// People is what is asked of people beyond their logins.
type People struct {
	Strict  bool          // what a supplier, a service or a break-glass identity lacks is refused, rather than told
	Dormant time.Duration // who has not logged in for so long is listed as dormant
}

// LDAP is a directory that checks passwords and knows groups.
type LDAP struct {
	URLs       []string `key:"url"` // in the order in which they are asked
	Base       string
	BindDN     string `key:"bind_dn"`
	Secret     Secret
	User       string // filter that finds the person; empty: the directory's usual ones
	Groups     string // how groups are found: a word, a filter, or the DN below which they are; empty: as the directory does it
	GroupBase  string `key:"group_base"` // DN below which groups are; empty: Base
	StartTLS   bool   `key:"start_tls"`
	CA         string `key:"ca"` // file; empty: the system's
	ServerName string // in the certificates; empty: the URL's
	Timeout    time.Duration
	AtOnce     int
	Sync       *Sync // nil: people are added and changed by hand
}

// Upstream is a RADIUS server that checks passwords.
type Upstream struct {
	Servers []string // host:port, in the order in which they are asked
	Secret  Secret
	Timeout time.Duration
	AtOnce  int
	Relay   []string // attributes of its Access-Accepts that the client gets

	RequireMessageAuthenticator bool // in its answers
}

// RADIUS is the RADIUS server. Zero counts and sizes leave the choice to it.
type RADIUS struct {
	Listen        []string // of authentication, UDP
	Accounting    []string // UDP
	TLS           *TLS     `key:"tls"`
	EAP           *EAP     `key:"eap"`
	Workers       int
	Queue         int
	ReceiveBuffer int // bytes for each socket
	Clients       []Client
}

// TLS is RADIUS over TLS (RFC 6614), which asks both ends for a certificate.
type TLS struct {
	Listen   []string
	Cert     string // files
	Key      string
	ClientCA string `key:"client_ca"`
}

// EAP is what the tunnels of EAP-TTLS and PEAP are made with.
type EAP struct {
	Cert    string // files
	Key     string
	Methods []string // ttls, peap, gtc, mschapv2; empty: ttls and peap
}

// The ways in which a client asks.
const (
	ModeChallenge = "challenge" // password, then a challenge for the code
	ModeAppend    = "append"    // password and code in one
	ModeCode      = "code"      // the client checked the password
)

// Unclassified is the class of a system that has none.
const Unclassified = "unclassified"

// Client is a RADIUS client, found by the longest prefix.
type Client struct {
	Pos       `key:"-"`
	Name      string
	Prefix    netip.Prefix `key:"address"`
	Secret    Secret
	Mode      string   // ModeChallenge, ModeAppend, ModeCode
	Separator string   // between password and code, in ModeAppend; empty: none
	CodeFirst bool     // in ModeAppend: code and then password
	Charset   string   // of passwords that are not UTF-8
	Methods   []string // pap, chap, mschapv2, eap; empty: all that the mode can take
	Quirks    []string
	Class     string // remote, privileged-external, privileged-internal, Unclassified
	Tags      []string

	RequireMessageAuthenticator bool
	LimitProxyState             bool // only matters where Message-Authenticator isn't required
	StatusServer                bool

	Prompt string // text of the challenge; empty: the server's
	NoEcho bool   // Prompt attribute of the challenge (RFC 2869 section 5.10)

	Certificate    string // whom a client over TLS proves to be; then Prefix and Secret may be missing
	SessionClass   bool   // send a Class that accounting gives back
	DisconnectPort int    `key:"disconnect"` // where Disconnect-Requests go (RFC 5176); 0: none are sent
}

// The forms of the SSH question.
const (
	OneRound  = "one-round"  // both prompts at once
	TwoRounds = "two-rounds" // the password, then the code
)

// SSH is the SSH gateway.
type SSH struct {
	Listen          []string
	HostKeys        []string // files; default: the one that init makes in Data
	Prompts         string   // OneRound, TwoRounds
	Grace           Grace
	MaxStartups     MaxStartups
	PerSourceStarts int // connections of one source that have not logged in
	Penalties       Penalties
	MaxChannels     int // of one connection
	Keepalive       Keepalive
	UserCA          string   `key:"user_ca"` // file with public keys of CAs, one a line; empty: none
	ProxyProtocol   []string // prefixes of load balancers that say for whom they connect
	Targets         []Target
}

// Grace is how long a log-in may take: the first factor, and then the second.
type Grace struct {
	First  time.Duration
	Second time.Duration
}

// MaxStartups is OpenSSH's: from Start connections that are not logged in, refuse Rate percent, rising to all at Full.
type MaxStartups struct{ Start, Rate, Full int }

// Penalties are OpenSSH's PerSourcePenalties: for how long a source is refused after what. They add up; from Min on
// they're enforced.
type Penalties struct {
	On            bool
	AuthFail      time.Duration `key:"authfail"`
	InvalidUser   time.Duration `key:"invaliduser"`
	NoAuth        time.Duration `key:"noauth"`
	GraceExceeded time.Duration
	Crash         time.Duration
	Min           time.Duration
	Max           time.Duration
}

// Keepalive ends a connection whose other end has not answered Misses questions.
type Keepalive struct {
	Every  time.Duration
	Misses int
}

// Target is a machine behind the gateway.
type Target struct {
	Pos        `key:"-"`
	Name       string
	Address    string   // host:port
	Account    string   // at the target
	Credential string   // agent, key, password, ca, ask; empty: not said
	HostKeys   []string `key:"host_key"` // fingerprints or public keys, each perhaps after @revoked; empty: to be approved
	Algorithms []string // modern, legacy, or names of algorithms
	Jump       string   // recorded, opaque, off; empty: not said
	Class      string
	Tags       []string
	Ports      []string // further ports that may be reached at it, see ParsePorts
	Accounts   []string // further accounts that people may name
	Via        string   // another target through which it is reached
}

// What happens to a session whose recording reaches a limit of size or space.
const (
	OnLimitEnd  = "end"  // the session ends
	OnLimitStop = "stop" // the recording ends, and that is on record; where a rule requires recording, the session ends all the same
)

// Recording is how sessions are recorded. Without Recipients none is.
type Recording struct {
	Pos        `key:"-"`
	Recipients []string // public keys of the auditors: age1...
	Dir        string
	Input      bool   // what is typed, passwords too
	MaxBytes   int64  // of one session's recording
	LowWater   int64  // bytes that have to be free for a new recording
	OnLimit    string // OnLimitEnd, OnLimitStop
}

// Whether a rule's sessions are recorded.
const (
	RecordUnsaid   = ""
	RecordRequired = "required"
	RecordOff      = "off"
)

// Rule is one rule and what the RADIUS client is told where it lets somebody in.
type Rule struct {
	Pos    `key:"-"`
	Policy policy.Rule `key:"+"` // Policy.Record is Record == RecordRequired
	Record string      // RecordUnsaid, RecordRequired, RecordOff
	Reply  []Reply
}

// Reply is a RADIUS attribute by name, with its values as written, in the order of the file. This package knows no
// dictionary: whoever does checks them and reports by Pos.
type Reply struct {
	Pos    `key:"-"`
	Name   string
	Values []string
}

// Audit is what happens to records beyond the journal.
type Audit struct {
	Witnesses       []Witness
	CheckpointEvery time.Duration // how often they get one
	Syslog          []Syslog
	Retention       Retention
}

// Console is the web console. Empty: none.
type Console struct{ Listen string }

// Metrics is where /metrics and /healthz answer. Empty: nowhere.
type Metrics struct{ Listen string }

// Policy is the rules as the domain wants them.
func (c *Config) Policy() policy.Rules {
	rules := make(policy.Rules, len(c.Rules))
	for i := range c.Rules {
		rules[i] = c.Rules[i].Policy
	}
	return rules
}
