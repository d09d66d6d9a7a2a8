package eap

// Reason is why a conversation failed or a packet was ignored: a word for the log, never for the peer.
type Reason string

// The reasons.
const (
	BadPacket        Reason = "eap_malformed"             // not an EAP response by its form
	Stale            Reason = "eap_stale"                 // answers another request than the one that is open
	Unexpected       Reason = "eap_unexpected_type"       // of a type that nobody asked for
	Over             Reason = "eap_over"                  // comes after the end
	Closed           Reason = "eap_closed"                // comes after Close
	Canceled         Reason = "eap_canceled"              // the context ended before the packet's turn came
	NoIdentity       Reason = "eap_no_identity"           // the conversation does not begin with an identity
	BadIdentity      Reason = "eap_bad_identity"          // empty, too long, or with a zero octet
	NoCommonMethod   Reason = "eap_nak_no_common_method"  // the peer wants none of the methods
	TooManyRounds    Reason = "eap_too_many_rounds"       // more than maxRounds responses
	TooManyQuestions Reason = "eap_too_many_questions"    // the Judge would have to be asked more than maxQuestions times
	FragmentBad      Reason = "fragment_malformed"        // flags, length and data contradict each other
	FragmentOrder    Reason = "fragment_out_of_order"     // data where an acknowledgement belongs, or the reverse
	FragmentOverflow Reason = "fragment_overflow"         // a TLS message longer than maxMessage, or than it said
	BadVersion       Reason = "eap_method_version"        // not version 0 of PEAP or EAP-TTLS
	TLSHandshake     Reason = "tls_handshake"             // this side could not agree to the peer's TLS
	TLSAlert         Reason = "tls_alert"                 // the peer sent an alert: often it does not trust our certificate
	TLSNoKeys        Reason = "tls_no_keys"               // no keys can be exported: TLS 1.2 without extended master secret
	TLSOverflow      Reason = "tls_overflow"              // more than maxHandshake before the tunnel stood
	TLSBroken        Reason = "tls_broken"                // the tunnel ended or was damaged after it stood
	InnerEmpty       Reason = "inner_empty"               // nothing where something had to come through the tunnel
	InnerMalformed   Reason = "inner_malformed"           // what came through the tunnel has not the form of the method
	InnerMandatory   Reason = "inner_unknown_mandatory"   // an AVP or TLV that must be understood, and is not
	InnerOverflow    Reason = "inner_overflow"            // more than maxInner through the tunnel
	InnerRefused     Reason = "inner_method_not_offered"  // PAP where it is not offered
	InnerNoMethod    Reason = "inner_nak_no_common"       // the peer wants none of the inner methods
	NameMismatch     Reason = "inner_name_mismatch"       // EAP-MSCHAPv2 names another person than the identity did
	JudgeRejected    Reason = "judge_rejected"            // the Judge said no
	JudgeUnaskable   Reason = "judge_unaskable"           // the Judge had a further question, and the method has no way to ask
	JudgeUnproved    Reason = "judge_accepted_unproved"   // the Judge accepted EAP-MSCHAPv2 without a code that proves it
	PeerRefused      Reason = "peer_refused"              // accepted, but the peer does not agree that it was
	PeerResult       Reason = "peer_result_malformed"     // accepted, but the peer's last word has no meaning
	Crashed          Reason = "eap_crashed"               // a panic passed through an earlier call
	Unaccepted       Reason = "eap_success_without_judge" // cannot be; a success that no Judge gave is none
)

// Step is what one call of Next came to.
type Step struct {
	// Out is the EAP packet to send. With Ignored it is the request that is still open, for a caller that answers
	// RFC 3579 section 2.2's way (Error-Cause 202 in a Challenge); it is nil where nothing was ever sent.
	Out []byte
	// Done says that Out ends the conversation: EAP-Success with Success, else EAP-Failure.
	Done, Success bool
	// Ignored says that the packet changed nothing, as RFC 3748 section 4.1 wants it for stale and malformed ones.
	Ignored bool

	// Identity is the person's: within a tunnel the inner one, empty until it is known. Outer is what was said before.
	Identity, Outer string
	// Method and Inner are how, as far as it was agreed.
	Method, Inner Method
	// TLS is crypto/tls's number of the version, 0 until it is agreed.
	TLS uint16
	// Reason is why it failed or was ignored, and Detail what TLS said. Both hold no secrets, and are not for the peer.
	Reason Reason
	Detail string

	unaskable bool
}

// Unaskable reports that the Judge had a further question, and the peer's method has no way to ask it.
func (s Step) Unaskable() bool { return s.unaskable }

type progress uint8

const (
	failed progress = iota
	ignored
	going
	succeeded
)

// turn is what became of a response: something to send, or an end. The zero turn failed.
type turn struct {
	progress progress
	send     []byte
	verdict  Verdict // with succeeded: what it was that accepted
	why      Reason
	detail   string
}

func reply(b []byte) turn   { return turn{progress: going, send: b} }
func fail(why Reason) turn  { return turn{why: why} }
func skip(why Reason) turn  { return turn{progress: ignored, why: why} }
func pass(v Verdict) turn   { return turn{progress: succeeded, verdict: v} }
func (t turn) passed() bool { return t.progress == succeeded && t.verdict.ruling == accept }

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
