// Package dynauth asks a NAS to end or to change a session that it has: Disconnect-Request and CoA-Request (RFC 5176).
// The NAS answers whether it did; when it did not, it says why in Error-Cause, or nothing at all where it does not serve
// such requests or does not know the sender.
package dynauth

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
	"layeh.com/radius/rfc3576"

	"sallyport/radiusd/exchange"
	"sallyport/radiusd/wire"
)

// Port is where NAS listen (RFC 5176 section 2).
const Port = 3799

const (
	// patience bounds a request with its repetitions: an operator waits for it.
	patience = 6 * time.Second
	again    = time.Second

	vendorCisco, ciscoAVPair = uint32(9), byte(1)
	// AuditSession is how Cisco's NAS name a session in Cisco-AVPair, and want it named.
	AuditSession = "audit-session-id="
)

// Session says which session is meant, in the words in which the NAS reported it (RFC 5176 section 3). What is empty is
// not said.
type Session struct {
	UserName       string // as the NAS sent it
	NASIdentifier  string
	NASIP          string
	CallingStation string
	ID             string // Acct-Session-Id
	Audit          string // Cisco's audit-session-id
}

// NAS is whom to ask.
type NAS struct {
	Address string // host:port
	Secret  []byte
	// Patience bounds the wait for an answer. 0: six seconds.
	Patience time.Duration
}

// Answer is what a NAS said.
type Answer struct {
	Done  bool
	Cause uint32 // Error-Cause of a refusal; 0: none was given
	Sent  int    // how often the request was sent
}

// String is the answer in a few words, for the record.
func (a Answer) String() string {
	switch {
	case a.Done:
		return "ack"
	case a.Cause == 0:
		return "nak"
	}
	name := rfc3576.ErrorCause(a.Cause).String()
	if strings.HasPrefix(name, "ErrorCause(") {
		return fmt.Sprintf("nak: error cause %d", a.Cause)
	}
	return fmt.Sprintf("nak: %s (%d)", name, a.Cause)
}

// ErrSilent is a NAS that does not answer.
var ErrSilent = errors.New("no answer")

// Disconnect asks the NAS to end the session.
func Disconnect(ctx context.Context, n NAS, s Session, now time.Time) (Answer, error) {
	return ask(ctx, n, wire.CodeDisconnectRequest, s.attributes(now))
}

// Change asks the NAS to hold attributes of a session that it has from now on.
func Change(ctx context.Context, n NAS, s Session, attributes []wire.Attribute, now time.Time) (Answer, error) {
	return ask(ctx, n, wire.CodeCoARequest, append(s.attributes(now), attributes...))
}

// attributes name the session. Event-Timestamp lets the NAS refuse a replay (RFC 5176 section 6.3).
func (s Session) attributes(now time.Time) []wire.Attribute {
	var all []wire.Attribute
	add := func(t radius.Type, value []byte) {
		if len(value) > 0 {
			all = append(all, wire.Attribute{Type: byte(t), Value: value})
		}
	}
	add(rfc2865.UserName_Type, []byte(s.UserName))
	if ip, err := netip.ParseAddr(s.NASIP); err == nil {
		if ip.Is4() {
			add(rfc2865.NASIPAddress_Type, ip.AsSlice())
		} else {
			add(rfc3162.NASIPv6Address_Type, ip.AsSlice())
		}
	}
	add(rfc2865.NASIdentifier_Type, []byte(s.NASIdentifier))
	add(rfc2865.CallingStationID_Type, []byte(s.CallingStation))
	add(rfc2866.AcctSessionID_Type, []byte(s.ID))
	if s.Audit != "" {
		all = append(all, wire.Attribute{Vendor: vendorCisco, Type: ciscoAVPair, Value: []byte(AuditSession + s.Audit)})
	}
	add(rfc2869.EventTimestamp_Type, binary.BigEndian.AppendUint32(nil, uint32(now.Unix())))
	return all
}

func ask(ctx context.Context, n NAS, code byte, attributes []wire.Attribute) (Answer, error) {
	most := n.Patience
	if most == 0 {
		most = patience
	}
	c, err := exchange.New(exchange.Options{Address: n.Address, Secret: n.Secret, MaxSockets: 1, InitialRetransmit: again, MaxRetransmit: 2 * again, MaxDuration: most})
	if err != nil {
		return Answer{}, err
	}
	defer c.Close()
	response, err := c.Exchange(ctx, exchange.Request{Code: code, Attributes: attributes})
	var silent *exchange.NoAnswerError
	if errors.As(err, &silent) {
		return Answer{Sent: silent.Sent}, fmt.Errorf("%w from %s: %w", ErrSilent, n.Address, err)
	}
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Done: response.Code == wire.CodeDisconnectACK || response.Code == wire.CodeCoAACK, Sent: response.Sent}
	response.Each(func(attr wire.Attribute) bool {
		if attr.Vendor == 0 && attr.Type == byte(rfc3576.ErrorCause_Type) && len(attr.Value) == 4 {
			a.Cause = binary.BigEndian.Uint32(attr.Value)
		}
		return true
	})
	return a, nil
}
