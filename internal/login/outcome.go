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
	further  *More
	extra    any
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

// Further returns the question that a challenge asks in place of that for the code, and whether it does.
func (o Outcome) Further() (More, bool) {
	if o.further == nil {
		return More{}, false
	}
	return *o.further, true
}

// Extra is what the first factor gave for the adapter, with the outcome of whichever round it was asked in; nil: nothing.
func (o Outcome) Extra() any { return o.extra }

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
	Lock    time.Duration // a terminal is locked when nothing was typed for this long; zero: never
	Record  bool          // the rule requires a recording (P10)

	Exception string // the entry of the register that it was given under
	Emergency bool   // a break-glass identity's: he says why, before anything is opened
	lacking   bool   // fewer than two kinds were proved
	Factors   []audit.Factor

	Bound *Binding // of a service identity: the one thing that it may do; nil: a person's

	directory []string // groups that the person's directory gave at the login
	window    *window  // the login that this one leans on; nil: it leans on none
	stepped   bool     // one more code was proved since
	receipt   audit.Receipt
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
	roomy   bool   // whether it has room for a further question, asked or not
	round   uint8  // of further questions
	further bool   // whether one was asked, rather than for the code
	more    string // its state
}

// The forms of a Progress. The length does not depend on what happened, since the sealed form shows it to the client
// (P6), only on whether a first factor is configured that asks further questions: some NAS dislike a long State.
const (
	progressShort = 2 // its first byte
	progressRoomy = 3
	maxMethod     = 16
	maxReason     = 24
	sizeShort     = 1 + 16 + 16 + 8 + maxMethod + maxReason
	sizeRoomy     = sizeShort + 2 + MaxMore
)

// ErrProgress is what ParseProgress returns for bytes that no Gate made.
var ErrProgress = errors.New("not the state of a challenge")

// ID is the attempt's id.
func (p Progress) ID() string { return formatID(p.id) }

// Further reports whether a further question of the person's directory was asked, rather than for the code. The answer
// to it goes to Gate.Continue.
func (p Progress) Further() bool { return p.further }

// turn names the challenge: the attempt, and which of its questions.
func (p Progress) turn() [16]byte {
	id := p.id
	id[15] ^= p.round
	return id
}

// Created is when the challenge was made.
func (p Progress) Created() time.Time { return p.created }

// MarshalBinary gives so few bytes that a sealed Progress fits one State attribute (253 octets, RFC 2865 section 5.24).
// It is neither secret nor authenticated: the caller seals it.
func (p Progress) MarshalBinary() []byte {
	b := make([]byte, 0, sizeRoomy)
	if p.roomy {
		b = append(b, progressRoomy)
	} else {
		b = append(b, progressShort)
	}
	b = append(b, p.id[:]...)
	b = append(b, p.name[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.created.UnixMilli()))
	b = appendPadded(b, p.method, maxMethod)
	b = appendPadded(b, string(p.first), maxReason)
	if !p.roomy {
		return b
	}
	length := byte(0) // of more, plus one where it was asked
	if p.further {
		length = byte(len(p.more)) + 1
	}
	return appendPadded(append(b, p.round, length), p.more, MaxMore)
}

func appendPadded(b []byte, s string, n int) []byte {
	s = cut(s, n)
	b = append(b, s...)
	return append(b, make([]byte, n-len(s))...)
}

// ParseProgress is the inverse of MarshalBinary.
func ParseProgress(b []byte) (Progress, error) {
	var p Progress
	switch {
	case len(b) == sizeShort && b[0] == progressShort:
	case len(b) == sizeRoomy && b[0] == progressRoomy:
		p.roomy = true
	default:
		return p, ErrProgress
	}
	copy(p.id[:], b[1:])
	copy(p.name[:], b[17:])
	p.created = time.UnixMilli(int64(binary.BigEndian.Uint64(b[33:]))).UTC()
	b = b[41:]
	p.method = string(bytes.TrimRight(b[:maxMethod], "\x00"))
	b = b[maxMethod:]
	p.first = Reason(bytes.TrimRight(b[:maxReason], "\x00"))
	if !p.roomy {
		return p, nil
	}
	b = b[maxReason:]
	p.round = b[0]
	if n := int(b[1]); n > 0 {
		if n > MaxMore+1 {
			return Progress{}, ErrProgress
		}
		p.further, p.more = true, string(b[2:1+n])
	}
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
