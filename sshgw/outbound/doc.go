// Package outbound logs in at SSH servers behind the gateway: it says who a target must prove to be, with which
// algorithms, and which credential is shown to it.
//
// # Order of a login
//
//  1. The connection is made, by Options.Dial, which may lead through another target (Client.Dialer).
//  2. Versions and KEXINITs are exchanged. What the target offers is read from its KEXINIT (RFC 4253 section 7.1), so
//     that a failed negotiation is told in full: NoCommonAlgorithm.
//  3. The target proves its host key, which must be pinned or approved. Nothing of a credential is touched before.
//  4. The credential is shown, once.
//
// Each step has a time limit of its own, since golang.org/x/crypto/ssh has none: when one is over, the connection is
// closed. No step can be stretched by a target that sends a byte now and then.
//
// # Errors
//
// UnknownHostKey, ChangedHostKey, RevokedHostKey, WeakHostKey, NoCommonAlgorithm and AuthFailed say what a target did;
// Failed is all else, with the step in which it happened. Those about which an operator can do something have a method
// Hint. No error holds a secret, or anything that the target said after it had seen one (P9).
package outbound
