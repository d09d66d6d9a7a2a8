// Package upstream checks the first factor by RADIUS servers, such as Microsoft NPS or FreeRADIUS.
//
// A check is an Access-Request with what the person typed, or with the CHAP or MS-CHAPv2 response that the NAS brought. An
// Access-Accept is the person's only if the gateway knows one; an Access-Challenge is a further question for him, whose
// State goes back to the same server with his answer. What an Access-Accept holds for the NAS is handed on in the Answer, as far as
// Options.Relay lets it, with the session keys in clear, so that the adapter can hide them for its own client.
//
// Strangers are asked about by the name that they typed, so that the time and the work are the same (P6), and let in by no answer.
// About people who shall be spared, the server is asked by a name that cannot exist: that keeps the time, and a
// guesser cannot lock their accounts there.
//
// # Servers
//
// Several servers are asked in their order, each in its share of the time. One that refuses, or that leaves
// silentLimit requests in a row unanswered, is put aside, so that the next logins do not wait for it. Status-Server (RFC 5997) finds
// out when it answers again. A server that never answered Status-Server may not know it (NPS does not): it is tried with the next
// login, one at a time, each Options.ProbeEvery, or at once when no other is left.
//
// When none can be used, the answer is login.ErrUnavailable, and names each with its reason (P4).
package upstream
