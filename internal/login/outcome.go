package login

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"sallyport/internal/audit"
)

type outcomeKind uint8

// The zero kind is unanswerable: an Outcome that nobody filled in lets nobody in and tells nobody anything.
const (
	unanswerable outcomeKind = iota
	rejected
	challenged
	accepted
)

// Outcome is how an attempt ended. Only a Gate makes one that accepts, and only from a receipt of the log: the
// fields are unexported, and the zero value is unanswerable.
type Outcome struct {
	kind     outcomeKind
	reason   Reason
	receipt  audit.Receipt
	grant    Grant
	progress Progress
	sentence string
}

// Accepted returns what was granted, and whether anything was.
func (o Outcome) Accepted() (Grant, bool) {
	if o.kind != accepted || !o.receipt.Valid() {
		return Grant{}, false
	}
	return o.grant, true
}

// Challenged returns what the second round needs, and whether there is to be one.
func (o Outcome) Challenged() (Progress, bool) {
	if o.kind != challenged || !o.receipt.Valid() {
		return Progress{}, false
	}
	return o.progress, true
}

// Unanswerable reports that no durable record could be made. The adapter then says nothing at all: a RADIUS server
// stays silent, so that the NAS asks another one, and an SSH server drops the connection (P3, P4).
func (o Outcome) Unanswerable() bool { return o.kind == unanswerable || !o.receipt.Valid() }

// Reason is the log's word for the outcome. It is never shown to the person (P6).
func (o Outcome) Reason() Reason { return o.reason }

// Seq is the number of the record that holds the decision.
func (o Outcome) Seq() uint64 { return o.receipt.Seq() }

// Sentence is what the person may be told. Before a login has succeeded it is the same for every refusal (P6).
func (o Outcome) Sentence() string { return o.sentence }

// refused is the one sentence for everybody who has not proved who he is.
const refused = "Login refused."

// Grant is what an acceptance gives. Only this package makes a valid one.
type Grant struct {
	Person  string
	Rule    string // the rule that decided; empty for a login to the gateway itself
	Attempt string
	Session string // the session's id, given by Access
	Idle    time.Duration
	Max     time.Duration
	Record  bool // the rule requires a recording (P10)
	Factors []audit.Factor

	receipt audit.Receipt
}

// Valid reports whether the grant stems from a durable record.
func (g Grant) Valid() bool { return g.receipt.Valid() }

// Seq is the number of the record that made the grant.
func (g Grant) Seq() uint64 { return g.receipt.Seq() }

// Progress is what the second round of a login must know of the first. The adapter seals it into the challenge that
// it sends (RADIUS: State), and hands it back to Gate.Finish. It holds no secret and no name: the name is bound by
// its hash.
type Progress struct {
	id      [16]byte
	name    [16]byte // SHA-256 of the name as typed, cut
	created time.Time
	first   Reason // how the first factor ended
	method  string // of the first factor
}

// The form of a Progress: its length is the same whatever happened, since the sealed form shows it to the client (P6).
const (
	progressVersion = 1
	maxMethod       = 24
	maxReason       = 32
	progressSize    = 1 + 16 + 16 + 8 + maxMethod + maxReason
)

// ErrProgress is what ParseProgress returns for bytes that no Gate made.
var ErrProgress = errors.New("not the state of a challenge")

// ID is the attempt's id.
func (p Progress) ID() string { return formatID(p.id) }

// Created is when the challenge was made.
func (p Progress) Created() time.Time { return p.created }

// MarshalBinary gives always as many bytes, so few that a sealed Progress fits one State attribute (253 octets, RFC
// 2865 section 5.24). It is neither secret nor authenticated: the caller seals it.
func (p Progress) MarshalBinary() []byte {
	b := make([]byte, 0, progressSize)
	b = append(b, progressVersion)
	b = append(b, p.id[:]...)
	b = append(b, p.name[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.created.UnixMilli()))
	b = appendPadded(b, p.method, maxMethod)
	return appendPadded(b, string(p.first), maxReason)
}

func appendPadded(b []byte, s string, n int) []byte {
	s = cut(s, n)
	b = append(b, s...)
	return append(b, make([]byte, n-len(s))...)
}

// ParseProgress is the inverse of MarshalBinary.
func ParseProgress(b []byte) (Progress, error) {
	if len(b) != progressSize || b[0] != progressVersion {
		return Progress{}, ErrProgress
	}
	var p Progress
	copy(p.id[:], b[1:])
	copy(p.name[:], b[17:])
	p.created = time.UnixMilli(int64(binary.BigEndian.Uint64(b[33:]))).UTC()
	p.method = string(bytes.TrimRight(b[41:41+maxMethod], "\x00"))
	p.first = Reason(bytes.TrimRight(b[41+maxMethod:], "\x00"))
	return p, nil
}

func nameDigest(name string) (d [16]byte) {
	sum := sha256.Sum256([]byte(name))
	copy(d[:], sum[:])
	return d
}

func formatID(id [16]byte) string {
	var buf [36]byte
	hex.Encode(buf[:8], id[:4])
	buf[8] = '-'
	hex.Encode(buf[9:13], id[4:6])
	buf[13] = '-'
	hex.Encode(buf[14:18], id[6:8])
	buf[18] = '-'
	hex.Encode(buf[19:23], id[8:10])
	buf[23] = '-'
	hex.Encode(buf[24:], id[10:])
	return string(buf[:])
}

// parseID is strict about the form that formatID gives, so that one challenge has one name.
func parseID(s string) (id [16]byte, err error) {
	if len(s) != 36 {
		return id, fmt.Errorf("attempt id %q: want 36 characters", s)
	}
	compact := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(compact)); err != nil || formatID(id) != s {
		return id, fmt.Errorf("attempt id %q: not a lower-case UUID", s)
	}
	return id, nil
}
