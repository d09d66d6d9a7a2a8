// Package sshgw is the gateway's SSH side (RFC 4251 to 4254): it authenticates people and lets them jump to targets.
//
// # Authentication
//
// A person proves a password and a one-time code over keyboard-interactive (RFC 4256), in one round of two prompts or
// in two rounds. A registered public key may be proved before them; it is then a partial success and one more proof
// for the login.Gate, which decides. A key never replaces the password: key and code are two things had (P1).
// Unknown people are asked the same questions, and wait for the same work (P6).
//
// One thing a stranger can learn, as from every SSH server: whether a public key that he already holds is registered
// for a name that he already knows, since the answer to that question comes before the signature (RFC 4252 section 7).
//
// # Jump
//
// `ssh -J alice@gateway account@target` opens a direct-tcpip channel (RFC 4254 section 7.2) to a target's name or
// address. The order of a jump, and what a crash leaves at each step:
//
//  1. The Gate decides, and its record is durable. A crash leaves a permission that nobody used.
//  2. session.start is recorded. A crash leaves a session that has a start and no end.
//  3. The target is dialled. If that fails, session.end says dial_failed.
//  4. The channel is accepted, and bytes are copied and counted both ways; what is in them stays end to end.
//  5. session.end is recorded, with the bytes each way and the reason of the end.
//
// Where a recording is required, the jump is refused, since nothing in an opaque jump can be recorded (P10).
// All other channels and requests are refused with a sentence. Every refusal that follows a login is recorded before it
// is sent (P3), and a connection that collects too many of them is ended.
//
// # Goroutines
//
// Server.Serve accepts. Each connection has one goroutine, which serves channel openings and global requests once another, that
// ends then, has authenticated: a login's stack is deep, and a goroutine's stack hardly shrinks. Sessions begin in the same way.
// Each jump has one for each direction and two that drain what golang.org/x/crypto/ssh would otherwise let stall the
// connection; keepalives have timers. A connection ends when all of its goroutines have ended; Server.Drain waits for all
// connections.
package sshgw
