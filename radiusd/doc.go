// Package radiusd is the gateway's RADIUS server (RFC 2865, 2869, 5080, 5997): it turns Access-Requests into login
// attempts, and outcomes into replies.
//
// # The road of a packet
//
// A socket's reader, one goroutine, takes each datagram through these steps. What is not for us is dropped before any
// memory is spent on it, and counted with a named reason.
//
//  1. Source address to client: the longest prefix that holds it. The secret and the policy follow from this alone,
//     never from attributes that a NAS may set as it likes (RFC 2865 section 3).
//  2. Length, attribute structure, and the rules on which attributes go together.
//  3. Message-Authenticator (RFC 2869 section 5.14): verified when present; required unless the client is exempt.
//  4. Resends (RFC 5080 section 2.2.2): the same request gets the same bytes again, or silence while it is being
//     judged (P5). Nothing that failed step 3 comes this far, so forgeries can't disturb it.
//  5. State: whether it opens decides which lane of the queue the request takes.
//  6. The Gate. Where no password is to be checked, the reader asks it about all requests that it read together, and
//     then waits for their records, which one write makes durable (P3). All else goes through a queue to workers, both bounded.
//  7. render makes the reply, in one place. It goes into the reply cache first, and then out.
//
// Every reply carries a Message-Authenticator, right behind the header, whether or not the request had one: this
// is what defeats CVE-2024-3596 (draft-ietf-radext-deprecating-radius).
//
// # Modes
//
// A client's Mode says how its people type their code: Challenge asks for it in a second round (Access-Challenge with
// State), Append takes password and code in one field, Code takes the code alone, from a NAS that has checked the
// password itself. State is a login.Progress, sealed and bound to the client's name; any gateway with the same key
// ring opens it. A State that does not open is refused, and never taken for a first round.
//
// # Goroutines
//
// Serve runs the reader in its caller's goroutine. Workers start when there is work, up to Options.Workers, and end with
// the last Serve. Serve returns when the requests that it had accepted are answered. While the disk keeps a reader
// waiting, what comes waits in the socket's buffer, where the kernel bounds it.
package radiusd
