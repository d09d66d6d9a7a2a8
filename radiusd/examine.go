package radiusd

import (
	"fmt"
	"net/netip"
	"unicode"
	"unicode/utf8"

	"layeh.com/radius"

	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

// Captured is a request that somebody has kept.
type Captured struct {
	Datagram []byte
	From     netip.Addr // whom it came from; with Client it may be left out
	Client   string     // the client that it is taken to be from; empty: the one that From belongs to
}

// Look is one thing that a request meets on its way, and how that ends.
type Look struct {
	Guard string
	OK    bool
	Text  string
}

// Examination is what the server would do with a request, up to where a person is looked up.
type Examination struct {
	Looks  []Look
	Reason login.Reason // login.ReasonOK: it would be judged
	Silent bool         // it would get no answer at all
	Client string
	Typed  string // User-Name
	Name   string // of the person: Typed without a realm of ours
	// Progress is what its State holds; Continues says that there is one.
	Progress  login.Progress
	Continues bool
}

func (e *Examination) look(guard string, ok bool, format string, args ...any) {
	e.Looks = append(e.Looks, Look{guard, ok, fmt.Sprintf(format, args...)})
}

func (e *Examination) stop(guard string, why login.Reason, format string, args ...any) Examination {
	e.look(guard, false, format, args...)
	e.Reason = why
	return *e
}

// drop is stop where the request gets no answer.
func (e *Examination) drop(guard string, why dropReason, text string) Examination {
	if hint := why.hint(); hint != "" {
		text += ": " + hint
	}
	e.Silent = true
	return e.stop(guard, login.Reason(why.String()), "%s", text)
}

// nowhere is a road that nothing is sent by.
type nowhere struct{ carried traffic }

func (n *nowhere) traffic() *traffic   { return &n.carried }
func (*nowhere) put(*request, []byte)  {}
func (*nowhere) flush()                {}
func (*nowhere) post(*request, []byte) {}

// Examine takes a kept request through the steps that one from the network goes through, by the same code, with the clients
// and secrets in force. Nothing is judged, used up, counted or logged, and it tells nothing of what was typed as password
// or code. It may be called at any time, and needs no Serve.
func (s *Server) Examine(c Captured) Examination {
	set := s.settings.Load()
	var e Examination
	known := set.lookup(plainAddr(c.From))
	if c.Client != "" {
		known = set.byName(c.Client)
	}
	switch {
	case known == nil && c.Client != "":
		return e.stop("client", login.Reason(dropUnknownClient.String()), "no client is called %q", c.Client)
	case known == nil && !c.From.IsValid():
		return e.stop("client", login.Reason(dropUnknownClient.String()), "whom it came from is not known")
	case known == nil:
		return e.drop("client", dropUnknownClient, c.From.String()+" is no client's")
	}
	e.Client = known.Name
	own := *known
	own.tally = new(tally) // what is only looked at is not counted
	where := own.Prefix.String()
	if own.overTLS() {
		where = "certificate " + own.Certificate + ", by TLS alone"
	}
	e.look("client", true, "%s (%s), mode %s", own.Name, where, own.Mode)

	r := &request{facts: facts{road: &nowhere{traffic{serves: authentication}}, client: &own, settings: set, received: s.now()}}
	if len(c.Datagram) > len(r.buf) {
		return e.drop("packet", dropLength, fmt.Sprintf("%d octets are more than a packet has", len(c.Datagram)))
	}
	r.from = netip.AddrPortFrom(plainAddr(c.From), 0)
	r.n = copy(r.buf[:], c.Datagram)
	tools := &toolbox{Digester: wire.NewDigester()}
	why := s.screen(r, tools)
	if !e.screened(r, why) {
		return e
	}
	if r.packet[0] != wire.CodeAccessRequest {
		return e.stop("code", login.Reason(dropCode.String()), "%v is no login: Access-Request is", radius.Code(r.packet[0]))
	}
	e.Typed = r.view.UserName.Text(r.packet)
	e.Name = set.plainName(e.Typed)
	return s.examineLogin(e, r, tools.Digester)
}

// screened tells what screen found, in the order in which it looks. It reports whether the request goes on.
func (e *Examination) screened(r *request, why dropReason) bool {
	v, c := &r.view, r.client
	switch why {
	case dropNone, dropAuthMissing, dropAuthBad, dropProxyLimited:
	case dropCode:
		e.drop("code", why, fmt.Sprintf("code %d does not belong on the port for logins", r.packet[0]))
		return false
	default:
		e.drop("packet", why, "it is dropped as "+why.String())
		return false
	}
	e.look("packet", true, "well formed: %v, %d octets, %d attributes", radius.Code(r.packet[0]), len(r.packet), v.Number)
	const signature = "message_authenticator"
	switch {
	case why == dropAuthMissing && v.EAP.Present():
		e.drop(signature, why, "EAP needs one (RFC 3579 section 3.2)")
		return false
	case why == dropAuthMissing:
		e.drop(signature, why, "it has none, and "+c.Name+" is told to require it")
		return false
	case why == dropAuthBad:
		e.drop(signature, why, "it is not made with the secret of "+c.Name)
		return false
	case v.MessageAuth.Present():
		e.look(signature, true, "right: the secret is the same on both sides")
	case c.overTLS():
		e.look(signature, true, "none, which does no harm over TLS")
	default:
		e.look(signature, true, "none, and %s may leave it out: the answer could be forged (CVE-2024-3596)", c.Name)
	}
	switch {
	case why == dropProxyLimited:
		e.drop("proxy_state", why, "Proxy-State without Message-Authenticator, and limit_proxy_state is on")
		return false
	case v.ProxyStates > 0:
		e.look("proxy_state", true, "%d, repeated in the answer", v.ProxyStates)
	}
	return true
}

// examineLogin takes the steps of ask and prepare without their effects.
func (s *Server) examineLogin(e Examination, r *request, d *wire.Digester) Examination {
	c, v := r.client, &r.view
	eapState := false
	if v.State.Present() && v.EAP.Present() {
		_, err := s.unsealState(c.eapAAD, v.State.In(r.packet))
		eapState = err == nil
	} else if v.State.Present() {
		r.progress, r.opened = s.openState(c, v.State.In(r.packet))
	}
	method := r.methodName()
	if why := s.unsupported(r); why != dropNone {
		return e.stop("method", login.Reason(why.String()), "%s is refused here, mode %s: %s", method, c.Mode, why.hint())
	}
	e.look("method", true, "%s, which carries %s", method, r.carries())
	switch {
	case v.State.Present() && !r.opened && !eapState:
		return e.stop("state", login.ReasonStateUnknown, "State is none of ours for %s: of another client, from before the key ring was changed, or of another server. A new login must begin without State", c.Name)
	case eapState:
		e.look("state", true, "of an EAP conversation; only the gateway that holds it knows whether it still goes on")
	case r.opened:
		e.Progress, e.Continues = r.progress, true
	}
	return e.evidence(r, d)
}

// evidence looks at the form of what proves the password or code.
func (e *Examination) evidence(r *request, d *wire.Digester) Examination {
	v := &r.view
	ok, due := true, login.ReasonPasswordWrong
	if r.client.Mode == Code || r.opened && !r.progress.Further() {
		due = login.ReasonCodeWrong
	}
	switch {
	case v.EAP.Present():
	case v.CHAP.Present():
		_, ok = r.chapIn()
	case v.MSResponse2.Present():
		_, ok = r.mschapIn()
	case !v.Password.Present():
		return e.stop("evidence", login.ReasonPasswordMissing, "there is neither User-Password, nor CHAP, MS-CHAPv2 or EAP")
	default:
		var memory [wire.MaxPassword]byte
		typed := r.password(d, &memory)
		empty, readable := len(typed) == 0, legible(typed)
		clear(memory[:])
		switch {
		case empty:
			return e.stop("evidence", login.ReasonPasswordMissing, "User-Password is empty")
		case !readable && !v.MessageAuth.Present():
			return e.stop("evidence", due, "User-Password reveals to what no keyboard makes: the secret of %s is most likely not the same on both sides", r.client.Name)
		}
	}
	if !ok {
		return e.stop("evidence", reasonResponse, "the response has not the form of one, or its challenge is missing")
	}
	e.Reason = login.ReasonOK
	return *e
}

// legible reports whether text is what somebody may have typed. Old clients send other charsets than UTF-8, but none that has
// control characters in it.
func legible(typed []byte) bool {
	for _, c := range typed {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	if utf8.Valid(typed) {
		return true
	}
	strange := 0
	for _, c := range typed {
		if c >= utf8.RuneSelf && !unicode.IsPrint(rune(c)) { // of Latin-1
			strange++
		}
	}
	return strange == 0
}

func (r *request) methodName() string {
	v := &r.view
	switch {
	case v.EAP.Present():
		return "EAP"
	case v.CHAP.Present():
		return "CHAP"
	case v.MSResponse2.Present():
		return "MS-CHAPv2"
	case v.MSResponse.Present():
		return "MS-CHAP"
	default:
		return "PAP"
	}
}

// carries tells what the request is to prove.
func (r *request) carries() string {
	switch {
	case r.view.EAP.Present():
		return "a conversation of several rounds"
	case r.opened && r.progress.Further():
		return "the answer to a further question of the directory"
	case r.opened:
		return "the code, in the second round"
	case r.client.Mode == Code:
		return "the code; the NAS has checked the password"
	case r.client.Mode == Append:
		return "password and code in one field"
	default:
		return "the password; the code is asked next"
	}
}
