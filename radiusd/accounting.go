package radiusd

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"

	"sallyport/internal/login"
	"sallyport/radiusd/dynauth"
	"sallyport/radiusd/wire"
)

const (
	codeAccounting         = byte(radius.CodeAccountingRequest)
	codeAccountingResponse = byte(radius.CodeAccountingResponse)

	// Details of a session by which it is named to the NAS that has it, beside login's.
	detailUserName     = "user_name" // as the NAS sent it, where that is not the person's
	detailAuditSession = "audit_session"

	// classPrefix marks the Class that an Access-Accept of ours carried; the attempt's id follows.
	classPrefix = "sallyport:"
)

// report is an Accounting-Request taken apart.
type report struct {
	accounting login.Accounting
	status     uint32
	in, out    uint64
	hasBytes   bool
	cause      uint32
}

// askAccounting records a report at once, unless the login that it belongs to is to be looked for first.
func (s *Server) askAccounting(r *request) bool {
	if s.accountant == nil {
		return false
	}
	rep := s.readReport(r)
	if rep.accounting.Stage == login.Starts && rep.accounting.Attempt.ID == "" && rep.accounting.Attempt.Name != "" {
		return false
	}
	r.noted = s.accountant.AskAccounting(rep.accounting)
	return true
}

// findAndAskAccounting looks for the login by who and where, since the NAS does not give Class back.
func (s *Server) findAndAskAccounting(r *request) {
	if s.accountant == nil {
		return
	}
	acc := s.readReport(r).accounting
	if acc.Attempt.ID = s.findLogin(r.road.traffic().ctx, acc.Attempt.Name, r.client.Name); acc.Attempt.ID != "" {
		acc.Attempt.Detail = append(acc.Attempt.Detail, login.Detail{Key: "joined_by", Value: "latest login"})
	}
	r.noted = s.accountant.AskAccounting(acc)
}

// answerAccounting answers when the report is recorded (RFC 2866 section 4.1). It returns nil when it cannot be, so that
// the NAS keeps it and asks another server.
func (s *Server) answerAccounting(r *request, tools *toolbox) []byte {
	err := errNoAccountant
	if s.accountant != nil {
		_, err = r.noted.Wait()
	}
	if err != nil {
		s.cache.abort(r.entry)
		r.entry = nil
		s.drop(r.client, dropLogDown, r.from.Addr(), "err", err)
		return nil
	}
	packet := s.accountingResponse(r, tools)
	now := s.now()
	wanted := s.cache.finish(r.entry, packet, now.Sub(s.start))
	r.entry = nil
	if !wanted {
		s.drop(r.client, dropSuperseded, r.from.Addr())
		return nil
	}
	r.client.tally.accounted.Add(1)
	s.meter.Reply(r.client.Name, radius.Code(codeAccountingResponse).String(), "ok", now.Sub(r.received))
	return packet
}

func (s *Server) accountingResponse(r *request, tools *toolbox) []byte {
	var out wire.Writer
	if r.plain {
		r.begin(&out, tools, codeAccountingResponse)
		out.CopyProxyStates(r.packet, &r.view)
		return r.sign(&out, tools)
	}
	out.BeginBare(tools.buf[:], codeAccountingResponse, r.packet[1])
	out.CopyProxyStates(r.packet, &r.view)
	return out.SignBare(tools.Digester, r.client.key, r.packet[4:wire.HeaderSize])
}

// readReport takes an Accounting-Request apart (RFC 2866 section 5). What a NAS leaves out stays out of the record.
func (s *Server) readReport(r *request) report {
	c, v := r.client, &r.view
	rep := report{accounting: login.Accounting{
		Reason: "none",
		Attempt: login.Attempt{
			Name: r.settings.plainName(v.UserName.Text(r.packet)), Protocol: protocol, Source: r.from, System: c.system, Capability: login.MayLogin,
		},
	}}
	a := &rep.accounting.Attempt
	note := func(key, value string) {
		if value != "" {
			a.Detail = append(a.Detail, login.Detail{Key: key, Value: value})
		}
	}
	nasIP := wire.AddrIn(r.packet, v.NASIP)
	if nasIP == "" {
		nasIP = wire.AddrIn(r.packet, v.NASIPv6)
	}
	nasID := v.NASID.Text(r.packet)
	rep.accounting.NAS = nasID
	if nasID == "" {
		rep.accounting.NAS = nasIP
	}
	note("nas_ip", nasIP)
	note("nas_identifier", nasID)
	note("calling_station", v.Calling.Text(r.packet))
	if typed := v.UserName.Text(r.packet); typed != a.Name {
		note(detailUserName, typed)
	}
	wire.Each(r.packet, func(t byte, value []byte) bool {
		number := uint32(0)
		if len(value) == 4 {
			number = binary.BigEndian.Uint32(value)
		}
		switch radius.Type(t) {
		case rfc2866.AcctStatusType_Type:
			rep.status = number
		case rfc2866.AcctSessionID_Type:
			rep.accounting.Session = string(value)
		case rfc2866.AcctMultiSessionID_Type:
			note("acct_multi_session", string(value))
		case rfc2866.AcctInputOctets_Type:
			rep.in, rep.hasBytes = rep.in+uint64(number), true
		case rfc2866.AcctOutputOctets_Type:
			rep.out, rep.hasBytes = rep.out+uint64(number), true
		case rfc2869.AcctInputGigawords_Type:
			rep.in += uint64(number) << 32
		case rfc2869.AcctOutputGigawords_Type:
			rep.out += uint64(number) << 32
		case rfc2866.AcctSessionTime_Type:
			note("seconds", strconv.FormatUint(uint64(number), 10))
		case rfc2866.AcctTerminateCause_Type:
			rep.cause = number
		case rfc2866.AcctDelayTime_Type:
			if number > 0 {
				note("delay_seconds", strconv.FormatUint(uint64(number), 10))
			}
		case rfc2869.EventTimestamp_Type:
			note("nas_time", time.Unix(int64(number), 0).UTC().Format(time.RFC3339))
		case rfc2865.FramedIPAddress_Type:
			note("framed_ip", address4(value))
		case rfc2865.NASPort_Type:
			note("nas_port", strconv.FormatUint(uint64(number), 10))
		case rfc2865.Class_Type:
			if id, ok := strings.CutPrefix(string(value), classPrefix); ok && len(id) == 36 {
				a.ID = id
			}
		case rfc2865.VendorSpecific_Type:
			const header = "\x00\x00\x00\x09\x01" // Cisco-AVPair, behind which its length stands
			if rest, ok := strings.CutPrefix(string(value), header); ok && len(rest) > 1 {
				if id, ok := strings.CutPrefix(rest[1:], dynauth.AuditSession); ok {
					note(detailAuditSession, id)
				}
			}
		}
		return true
	})
	if rep.hasBytes {
		// In and out are the NAS's: in is what came from the person.
		note("bytes_in", strconv.FormatUint(rep.in, 10))
		note("bytes_out", strconv.FormatUint(rep.out, 10))
	}
	rep.stage()
	if rep.accounting.Stage == login.Ends {
		rep.accounting.Reason = causeOf(rep.cause)
	}
	return rep
}

// AtNAS names a session as its NAS does.
func AtNAS(l *login.Session) dynauth.Session {
	return dynauth.Session{
		UserName: cmp.Or(l.Get(detailUserName), l.Person), NASIdentifier: l.Get("nas_identifier"), NASIP: l.Get("nas_ip"),
		CallingStation: l.Get("calling_station"), ID: l.Get(login.DetailSession), Audit: l.Get(detailAuditSession),
	}
}

// stage tells what is reported (RFC 2866 section 5.1). What is not known is taken for an update: it's recorded, and ends nothing.
func (rep *report) stage() {
	switch rep.status {
	case 1:
		rep.accounting.Stage = login.Starts
	case 2:
		rep.accounting.Stage = login.Ends
	case 7:
		rep.accounting.Stage = login.NASOn
	case 8:
		rep.accounting.Stage = login.NASOff
	default:
		rep.accounting.Stage = login.GoesOn
	}
}

// causeOf is why a session ended, in words: the name of the Acct-Terminate-Cause (RFC 2866 section 5.10).
func causeOf(cause uint32) login.Reason {
	if cause == 0 {
		return "not_said"
	}
	name := rfc2866.AcctTerminateCause(cause).String()
	if strings.HasPrefix(name, "Acct") {
		return login.Reason("cause_" + strconv.FormatUint(uint64(cause), 10))
	}
	return login.Reason(strings.ReplaceAll(strings.ToLower(name), "-", "_"))
}

func address4(value []byte) string {
	if len(value) != 4 {
		return ""
	}
	return netip.AddrFrom4([4]byte(value)).String()
}

var errNoAccountant = errors.New("this gateway keeps no account")
