package login

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"sallyport/internal/policy"
	"sallyport/internal/policy/register"
	"sallyport/otp"
)

// MaxName bounds, in bytes, a login name that is looked up at all. Longer names are strangers.
const MaxName = 64

// MaxSecret bounds, in bytes, a password that is ever hashed or sent to a directory. It is the most that
// User-Password can carry (RFC 2865 section 5.2), so no road admits what another refuses.
const MaxSecret = 128

// Secret is a password or a code as typed. It prints as "[secret]" everywhere, so that no log line, error or
// record can show it by accident (P9); Reveal is the one way to the text.
type Secret struct{ text string }

// NewSecret wraps what a person typed.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text. Callers compare it or hash it; they never log or store it.
func (s Secret) Reveal() string { return s.text }

// Empty reports whether nothing was typed.
func (s Secret) Empty() bool { return s.text == "" }

// Format prints "[secret]" for every verb of fmt.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

func (Secret) String() string { return redacted }

// LogValue logs "[secret]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText makes JSON of "[secret]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const redacted = "[secret]"

// PersonKind says what sort of identity a Person is.
type PersonKind string

// The kinds of identity at the gateway.
const (
	Staff      PersonKind = "staff"
	Supplier   PersonKind = "supplier"
	Service    PersonKind = "service"
	BreakGlass PersonKind = "break-glass"
)

// Person is a human or service identity at the gateway.
type Person struct {
	Name     string     `json:"name"` // lower case, see ValidName
	Kind     PersonKind `json:"kind"`
	Groups   []string   `json:"groups,omitempty"`
	Disabled bool       `json:"disabled,omitempty"`
	From     time.Time  `json:"from,omitzero"`          // zero: active at once
	Until    time.Time  `json:"until,omitzero"`         // zero: no end
	First    string     `json:"first_factor,omitempty"` // local, ldap, radius; empty: what most people have
	Created  time.Time  `json:"created,omitzero"`

	// What the gateway does not judge by, and auditors ask for.
	FullName string        `json:"full_name,omitempty"`
	Mail     string        `json:"mail,omitempty"`
	Company  string        `json:"company,omitempty"` // a supplier's
	Sponsor  string        `json:"sponsor,omitempty"` // the member of staff who answers for a supplier's engineer
	Owner    string        `json:"owner,omitempty"`   // who answers for a service identity or a break-glass one
	Contract register.Date `json:"contract_end,omitzero"`
}

// TokenState is where an enrolled token is in its life.
type TokenState string

// A token waits for its first code, then serves, until it is revoked for good.
const (
	TokenPending TokenState = "pending"
	TokenActive  TokenState = "active"
	TokenRevoked TokenState = "revoked"
)

// Token is an enrolled one-time-code device. Seed is the plain key: it lives in memory and, sealed, in the store.
type Token struct {
	ID      string     `json:"id"`
	Person  string     `json:"person"`
	Label   string     `json:"label,omitempty"`
	Params  otp.Params `json:"params"`
	State   TokenState `json:"state"`
	Created time.Time  `json:"created,omitzero"`
	Seed    []byte     `json:"seed,omitempty"`

	// Of hardware tokens.
	Serial string    `json:"serial,omitempty"`
	Maker  string    `json:"maker,omitempty"`
	From   time.Time `json:"from,omitzero"`  // when it begins to serve, as its maker says; zero: at once
	Until  time.Time `json:"until,omitzero"` // when it ends; zero: never
}

// Key is a person's registered SSH public key.
type Key struct {
	Person      string    `json:"person"`
	Fingerprint string    `json:"fingerprint"` // SHA256:..., as ssh-keygen -l prints it
	Type        string    `json:"type"`        // ssh-ed25519, ...
	Blob        []byte    `json:"blob"`        // RFC 4253 section 6.6 wire form
	Comment     string    `json:"comment,omitempty"`
	Created     time.Time `json:"created,omitzero"`
	Bound       *Binding  `json:"bound,omitempty"` // of a service identity; nil: it is a person's
}

// Change is one admin verb's effect on people, tokens, keys and what is known of targets, as data: it is sealed into the same journal append
// as the verb's record, and then applied to the store and to memory, or found again by replay after a crash.
// Every field may be applied twice with the same result.
type Change struct {
	PutPerson    *Person   `json:"put_person,omitempty"`
	SetPassword  *Password `json:"set_password,omitempty"`
	PutToken     *Token    `json:"put_token,omitempty"`
	PutKey       *Key      `json:"put_key,omitempty"`
	DeletePerson string    `json:"delete_person,omitempty"` // with all that hangs on it
	DeleteToken  string    `json:"delete_token,omitempty"`  // token id
	DeleteKey    string    `json:"delete_key,omitempty"`    // fingerprint

	PutHostKey       *HostKey      `json:"put_host_key,omitempty"`
	DeleteHostKey    *HostKeyID    `json:"delete_host_key,omitempty"`
	PutCredential    *Credential   `json:"put_credential,omitempty"`
	DeleteCredential *CredentialID `json:"delete_credential,omitempty"`

	PutStock    *StockToken `json:"put_stock,omitempty"`
	DeleteStock string      `json:"delete_stock,omitempty"` // serial number

	PutException   *Exception   `json:"put_exception,omitempty"` // one more version; none is ever overwritten
	PutGrant       *TimedGrant  `json:"put_grant,omitempty"`
	PutAttestation *Attestation `json:"put_attestation,omitempty"`
	PutTicket      *Ticket      `json:"put_ticket,omitempty"`

	PutHold *Hold `json:"put_hold,omitempty"`

	All []Change `json:"all,omitempty"` // further changes, in order and together: whole or not at all
}

// Empty reports whether c changes nothing.
func (c Change) Empty() bool {
	return c.PutPerson == nil && c.SetPassword == nil && c.PutToken == nil && c.PutKey == nil &&
		c.DeletePerson == "" && c.DeleteToken == "" && c.DeleteKey == "" &&
		c.PutHostKey == nil && c.DeleteHostKey == nil && c.PutCredential == nil && c.DeleteCredential == nil &&
		c.PutException == nil && c.PutGrant == nil && c.PutAttestation == nil && c.PutTicket == nil && c.PutStock == nil && c.DeleteStock == "" && c.PutHold == nil && len(c.All) == 0
}

// Password is a person's local password as an argon2id PHC string.
type Password struct {
	Person string `json:"person"`
	Hash   string `json:"hash"`
}

// System is what is protected: a RADIUS client or an SSH target.
type System struct {
	Name  string
	Tags  []string
	Class string // remote, privileged-external, privileged-internal, or "unclassified"
}

// Proof is a factor that the adapter, or a party that it trusts by configuration, has already seen proved: an SSH
// key whose signature was verified, or the password that a NAS checked (mode: code).
type Proof struct {
	Kind   policy.Kind
	Method string // "key", "nas-password", ...
	ID     string // key fingerprint, client name
}

// Attempt is one try to get in, as plain data: who, from where, by which protocol, to which system, with which
// evidence.
type Attempt struct {
	ID         string // from NewID; one ID joins password, challenge, code and session in the records
	Name       string // as typed; any bytes, any length
	Protocol   string // "radius", "ssh"
	Source     netip.AddrPort
	Origin     string // whose share of the expensive work this uses: a source address, or client and calling station
	System     System
	Account    string // the account at the target, when known
	Capability policy.Capability
	Password   Secret
	Code       Secret
	Joined     Secret // password and code in one, instead of the two
	JoinedBy   Joint  // how they are joined
	Otherwise  Secret // another reading of Password, or of Joined, in case the first is wrong; one failure counts for both
	Evidence   any    // what proves the password to the person's first factor, instead of Password
	CodeProof  CodeProof
	Proofs     []Proof
	Serial     uint64   // of a login certificate that was brought with the key among Proofs; zero: none
	Detail     []Detail // further facts for the record: client, nas_ip, ssh_client, ...
}

// CodeProof proves a code without telling it: a response that only who knows the code can have computed. It may be asked
// about many codes, and remembers the one for which it said yes.
type CodeProof interface {
	Proves(code string) bool
}

// Joint is how password and code stand together in one field. The zero Joint has the code last, with nothing between.
type Joint struct {
	CodeFirst bool
	Separator string
}

// Detail is one further fact of a record. Key is lower_snake; Value is sanitised when it is recorded.
type Detail struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Reason is the log's name for how an attempt ended. It is never shown to the person who tries (P6).
type Reason string

// The reasons. Every refusal has one; the records and metrics use these words.
const (
	ReasonOK              Reason = "ok"
	ReasonUnknownPerson   Reason = "unknown_person"
	ReasonPersonDisabled  Reason = "person_disabled"
	ReasonPersonNotYet    Reason = "person_not_yet_active"
	ReasonPersonExpired   Reason = "person_expired"
	ReasonPasswordWrong   Reason = "password_wrong"
	ReasonPasswordMissing Reason = "password_missing"
	ReasonPasswordUnset   Reason = "password_unset"
	ReasonCodeWrong       Reason = "code_wrong"
	ReasonCodeMissing     Reason = "code_missing"
	ReasonCodeReused      Reason = "code_reused"
	ReasonTokenTime       Reason = "token_out_of_date" // the code is right, and its token may not serve yet, or no longer
	ReasonNoToken         Reason = "no_token"
	ReasonLocked          Reason = "locked"
	ReasonLockedHard      Reason = "locked_hard"
	ReasonNoRule          Reason = "no_rule"
	ReasonCapability      Reason = "capability_not_permitted"
	ReasonFactors         Reason = "factors_insufficient"
	ReasonException       Reason = "exception_not_live"
	ReasonExceptionScope  Reason = "exception_out_of_scope"
	ReasonGrant           Reason = "grant_not_live"
	ReasonEmergencyOver   Reason = "emergency_over"      // a break-glass login has served its time
	ReasonUnexplained     Reason = "emergency_no_reason" // a break-glass identity did not say why
	ReasonRecording       Reason = "recording_unavailable"
	ReasonNoTarget        Reason = "unknown_target"
	ReasonFurther         Reason = "further_question"
	ReasonRepeated        Reason = "repeated"      // of a record that accepts: the answer to a repeated request
	ReasonStateUnknown    Reason = "state_unknown" // not ours, altered, or for another client
	ReasonStateExpired    Reason = "state_expired"
	ReasonStateUsed       Reason = "state_used"
	ReasonOverloaded      Reason = "overloaded"
	ReasonDirectoryDown   Reason = "directory_unavailable"
	ReasonLogDown         Reason = "log_unavailable"
	ReasonStoreDown       Reason = "store_unavailable"
	ReasonStopping        Reason = "stopping"

	ReasonGatewayRestarted Reason = "gateway_restarted"
)

// Errors that a FirstFactor returns. Any other error counts as ErrUnavailable.
var (
	// ErrWrong: the password is not this person's (or there is no such person, or no password is set).
	ErrWrong = errors.New("wrong password")
	// ErrUnset: the person has no password there. To the person it looks like ErrWrong.
	ErrUnset = errors.New("no password is set")
	// ErrOverloaded: too many checks wait; nothing was checked.
	ErrOverloaded = errors.New("too many password checks are waiting")
	// ErrUnavailable: the directory cannot be asked now; nothing was checked.
	ErrUnavailable = errors.New("the directory cannot be used")
)
