// Package exchange asks RADIUS servers: a request goes out, an answer comes back, over UDP. It serves authentication by an
// upstream server (RFC 2865), accounting (RFC 2866), Disconnect and CoA (RFC 5176), Status-Server (RFC 5997), and test clients.
//
// # Requests
//
// An Access-Request or a Status-Server has an unpredictable Request Authenticator and begins with its
// Message-Authenticator, whatever the settings: without it, who sits between us and the server could have an answer to one
// request serve as the answer to another (CVE-2024-3596). The other requests have the hash that their RFCs want as their
// authenticator, and a Message-Authenticator as well.
//
// Each Exchange has an identifier of its own on its socket until it has ended, and each new Exchange another one than the last.
// While no answer comes, the very same bytes go out again, as RFC 5080 section 2.2.1 schedules it, so that the server can know
// the request again; Status-Server alone is sent once.
//
// # Answers
//
// A datagram is an answer when it comes from the server's address and port, to a socket and with an identifier on which
// somebody waits, has a code that answers the request's, and Response Authenticator and Message-Authenticator are right. Whatever
// is not is as if it had never come: it is counted under a named Reason, and nobody's clock is touched by it.
//
// # Sockets and goroutines
//
// A Client has one server, and at most Options.MaxSockets connected sockets with random ports, each opened when the identifiers
// of the others are all in use. One goroutine reads each. A socket on which a whole Exchange heard nothing takes no new
// ones: the next one looks the server's name up again, and gets past a firewall that has forgotten the old port. Close ends what
// is under way, and returns when all goroutines have ended.
package exchange
