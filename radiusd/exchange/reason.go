package exchange

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Reason is why a datagram was taken for no answer.
type Reason uint8

// The reasons.
const (
	Malformed          Reason = iota // no packet of RADIUS
	Unexpected                       // nobody waits on its identifier: it came late, a second time, or was never asked for
	WrongCode                        // it does not answer the request's code
	WrongAuthenticator               // the Response Authenticator: another secret, or a forgery
	Unsigned                         // no Message-Authenticator
	WrongSignature                   // a wrong Message-Authenticator
	reasons            = iota
)

func (r Reason) String() string {
	switch r {
	case Malformed:
		return "malformed"
	case Unexpected:
		return "unexpected"
	case WrongCode:
		return "wrong_code"
	case WrongAuthenticator:
		return "wrong_authenticator"
	case Unsigned:
		return "message_authenticator_missing"
	case WrongSignature:
		return "message_authenticator_wrong"
	default:
		return "unknown"
	}
}

// hint is what an operator can do about it.
func (r Reason) hint() string {
	switch r {
	case WrongAuthenticator:
		return "the shared secret is another one there, or the answers are forged"
	case Unsigned:
		return "the server needs its update against CVE-2024-3596"
	case WrongSignature:
		return "the answers are altered on their way"
	default:
		return ""
	}
}

var (
	// ErrUnreachable: nothing listens at the server's address, or no way leads there. It was learnt at once, and another
	// server can be asked.
	ErrUnreachable = errors.New("the server cannot be reached")
	// ErrBusy: as many requests wait for answers as the sockets have identifiers for. Nothing was sent.
	ErrBusy = errors.New("too many requests are waiting for answers")
	// ErrClosed: the Client was closed.
	ErrClosed = errors.New("the client is closed")
)

// NoAnswerError is an Exchange whose time ended without an answer.
type NoAnswerError struct {
	Sent      int             // how often the request went out
	Discarded map[Reason]uint // what came on its identifier and was no answer; nil: nothing did
}

func (e *NoAnswerError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no answer (asked %d times)", e.Sent)
	for r := range Reason(reasons) {
		if n := e.Discarded[r]; n > 0 {
			fmt.Fprintf(&b, ", %d discarded: %v", n, r)
			if hint := r.hint(); hint != "" {
				fmt.Fprintf(&b, " (%s)", hint)
			}
		}
	}
	return b.String()
}

// Unwrap says that it is the time that ended.
func (*NoAnswerError) Unwrap() error { return context.DeadlineExceeded }
