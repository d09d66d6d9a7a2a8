// Package eap is the server's side of EAP conversations (RFC 3748) as a state machine: the bytes of EAP packets in, the
// bytes of EAP packets out. It knows neither sockets nor RADIUS, keeps nothing between conversations, and asks a Judge
// who may pass.
//
// # Methods
//
// A tunnel first, and within it what proves the person:
//
//	PEAPv0    (type 25)  EAP-GTC, EAP-MSCHAPv2        draft-kamath-pppext-peapv0, [MS-PEAP]
//	EAP-TTLS  (type 21)  PAP, EAP-GTC, EAP-MSCHAPv2   RFC 5281
//
// EAP-GTC (type 6) and EAP-MSCHAPv2 (type 26) without a tunnel show codes, or what gives them away, to whoever listens.
// They are offered only where Options says so by a name that cannot be overlooked.
//
// The order of Options.Methods is the order of offering; a peer that wants another answers with a Nak (RFC 3748 section
// 5.3.1) and gets the first of ours that it names. The same holds for Options.Inner within the tunnel. Each is offered
// once.
//
// # TLS
//
// 1.2 and 1.3 (RFC 9190, 9427). The server resumes nothing and hands out no tickets, since a resumed session would skip
// the inner proof. It asks for no client certificate. The peer must know the extended master secret (RFC 7627) in TLS
// 1.2: without it, the keys that EAP takes from the session are not bound to it, and crypto/tls gives none.
//
// crypto/tls wants a connection to block on. A handshake runs in a coroutine (iter.Pull), which runs only while Next
// does, and stands still, with its state, where it wants more bytes of the peer. Nothing runs beside the caller; what
// remains of a conversation is ended by Close.
//
// # What the peer learns
//
// That it failed. Whatever was wrong within the tunnel, it is told in the way in which a wrong code is told: an
// EAP-Failure, in PEAP after a Result TLV that says failure, in EAP-MSCHAPv2 after E=691. The Reason is for the log.
//
// # Cryptobinding
//
// PEAP's Crypto-Binding TLV is not sent. Windows and wpa_supplicant do not require it unless told to ("Disconnect if
// server does not present cryptobinding TLV", crypto_binding=2), and the inner methods here have no keys of worth to
// bind: the MPPE keys of EAP-MSCHAPv2 over a six-digit code can be guessed by whoever holds the tunnel.
//
// BUG(eap): without cryptobinding, a person who accepts a stranger's certificate can have the code relayed into the
// stranger's own tunnel, as with every code that is typed into the wrong window. Pin the CA and the server's name on
// the supplicants.
package eap

// What an outsider can make grow, and how far (P7). A conversation's memory is at most two TLS messages, a handshake
// and a few packets.
const (
	// maxRounds is how many responses a conversation hears. A chain of 4 kB in fragments of 128 octets needs 50.
	maxRounds = 64
	// maxQuestions bounds how often the Judge is asked within a conversation.
	maxQuestions = 8
	// maxHandshake is how many octets of TLS the peer may send until the tunnel stands. A ClientHello with a
	// post-quantum key share has about 2,000, and no client certificate is asked for.
	maxHandshake = 32 << 10
	// maxMessage is the longest TLS message that is put together from fragments: one full TLS record.
	maxMessage = 17 << 10
	// maxInner is the longest message within the tunnel: AVPs or an inner EAP packet.
	maxInner = 4 << 10
	// maxAVPs bounds the AVPs of an EAP-TTLS message; empty ones would otherwise fit 500 times.
	maxAVPs = 64
	// maxIdentity is the longest identity, outer or inner. RADIUS could not carry a longer User-Name (RFC 2865
	// section 5.1).
	maxIdentity = 253
	// maxTyped is the longest answer to a question: a password of the longest kind that RADIUS knows (RFC 2865
	// section 5.2), a code, and room.
	maxTyped = 256
	// maxPrompt cuts a question, which has to fit into one packet within the tunnel.
	maxPrompt = 512
	// maxDetail cuts what a Step tells the log about an error of TLS.
	maxDetail = 200

	defaultFragment = 1000
	// minFragment keeps conversations within maxRounds for usual certificate chains.
	minFragment = 128
	// maxFragment leaves room for a RADIUS packet's other attributes (RFC 2865 section 3: 4096 octets).
	maxFragment = 3000

	defaultPrompt = "Password: "
)
