package radiusd

import (
	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

// reasonResponse is for a response of CHAP or MS-CHAPv2 that has not the form of one, or no challenge with it.
const reasonResponse login.Reason = "response_malformed"

// dropReason names why a packet got no answer. The words stand in logs, metrics and `client report`.
type dropReason uint8

const (
	dropNone dropReason = iota
	dropUnknownClient
	dropShort
	dropLength
	dropMalformed
	dropTooMany
	dropRepeated
	dropConflicting
	dropPassword
	dropProxyOversize
	dropCode
	dropAuthMissing
	dropAuthBad
	dropProxyLimited
	dropStatusOff
	dropStatusRate
	dropNotReady
	dropInFlight
	dropSuperseded
	dropCacheFull
	dropOverloaded
	dropLogDown
	dropReplySize
	dropSend
	dropPanic
	dropConnections
	dropHandshake
	dropUnknownCertificate
	dropConnection
	// What follows is answered with a Reject, and counted here beside.
	refuseEAP
	refuseMethod
	refuseService
	dropReasons // how many there are
)

// ofForm reports whether the packet itself is wrong, or not the client's.
func (d dropReason) ofForm() bool {
	switch d {
	case dropShort, dropLength, dropMalformed, dropTooMany, dropAuthBad, dropUnknownClient:
		return true
	}
	return false
}

// dropOf is the reason for a packet with a problem of form.
func dropOf(p wire.Problem) dropReason {
	switch p {
	case wire.None:
		return dropNone
	case wire.Short:
		return dropShort
	case wire.BadLength:
		return dropLength
	case wire.TooMany:
		return dropTooMany
	case wire.Repeated:
		return dropRepeated
	case wire.Conflicting:
		return dropConflicting
	case wire.PasswordLength:
		return dropPassword
	case wire.ProxyOversize:
		return dropProxyOversize
	case wire.AuthMissing:
		return dropAuthMissing
	default:
		return dropMalformed
	}
}

func (d dropReason) String() string { return d.text().word }

// hint tells an operator what to do about it; empty where the word says it all.
func (d dropReason) hint() string { return d.text().hint }

type dropText struct{ word, hint string }

func (d dropReason) text() dropText {
	switch d {
	case dropNone:
		return dropText{"none", ""}
	case dropUnknownClient:
		return dropText{"unknown_client", "add the address under radius.clients, if it is one of yours"}
	case dropShort:
		return dropText{"short_packet", ""}
	case dropLength:
		return dropText{"bad_length", ""}
	case dropMalformed:
		return dropText{"malformed_attributes", ""}
	case dropTooMany:
		return dropText{"too_many_attributes", ""}
	case dropRepeated:
		return dropText{"repeated_attribute", "User-Name, User-Password, State or Message-Authenticator stands twice"}
	case dropConflicting:
		return dropText{"conflicting_credentials", "the request carries more than one kind of password"}
	case dropPassword:
		return dropText{"bad_password_length", "User-Password is not 16 to 128 octets in steps of 16"}
	case dropProxyOversize:
		return dropText{"proxy_state_oversize", "no reply could repeat that much Proxy-State"}
	case dropCode:
		return dropText{"unsupported_code", "requests for logins and accounting have ports of their own"}
	case dropAuthMissing:
		return dropText{"ma_missing", "update the client's firmware, or exempt the client from require_message_authenticator"}
	case dropAuthBad:
		return dropText{"ma_bad", "the shared secret is most likely not the same on both sides"}
	case dropProxyLimited:
		return dropText{"proxy_state_limited", "Proxy-State without Message-Authenticator: an attack (CVE-2024-3596), or a proxy that needs limit_proxy_state off"}
	case dropStatusOff:
		return dropText{"status_server_off", ""}
	case dropStatusRate:
		return dropText{"status_server_rate", "the client asks more often than is needed"}
	case dropNotReady:
		return dropText{"not_ready", "logins cannot be decided now, so the client is left to try another server"}
	case dropInFlight:
		return dropText{"dup_inflight", "the answer takes longer than the client waits before it sends again"}
	case dropSuperseded:
		return dropText{"superseded", "the client used the identifier again before it had its answer"}
	case dropCacheFull:
		return dropText{"reply_cache_full", "more requests within 30 s than replies can be kept for"}
	case dropOverloaded:
		return dropText{"overloaded", "more requests wait than the queue holds"}
	case dropLogDown:
		return dropText{"log_unavailable", "no record could be made, so nothing was answered"}
	case dropReplySize:
		return dropText{"reply_oversize", ""}
	case dropSend:
		return dropText{"send_failed", ""}
	case dropPanic:
		return dropText{"panic", "this is a defect: please report it with the log"}
	case dropConnections:
		return dropText{"too_many_connections", "something opens connections and does not close them"}
	case dropHandshake:
		return dropText{"tls_handshake", "the client's certificate or its idea of ours is wrong, or it does not speak TLS 1.2"}
	case dropUnknownCertificate:
		return dropText{"unknown_certificate", "set the client's `certificate` to one of the names that the line tells"}
	case dropConnection:
		return dropText{"connection_broken", "the connection ended within a packet, or was silent there"}
	case refuseEAP:
		return dropText{"eap_to_pap_client", "the client speaks EAP (802.1X, or IKEv2 with EAP): set it to PAP, or give radius.eap a certificate"}
	case refuseMethod:
		return dropText{"unsupported_method", "the client sends CHAP or MS-CHAP, which can prove a code (mode: code) and no password: set it to PAP"}
	case refuseService:
		return dropText{"unsupported_service", "Service-Type Authorize-Only is not served (RFC 5080 section 2.1.1)"}
	default:
		return dropText{"unknown", ""}
	}
}
