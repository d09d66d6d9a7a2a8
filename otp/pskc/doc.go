// Package pskc reads files of hardware tokens in the Portable Symmetric Key Container format (RFC 6030): in clear, encrypted with a
// pre-shared key (section 6.1), or with a key that is derived from a password (section 6.2).
//
// What is taken: HOTP and TOTP keys with decimal codes, one in a KeyPackage, each with its serial number. Secrets in
// AES-CBC with a ValueMAC, AES key wrap (RFC 3394, RFC 5649) and AES-GCM. A ValueMAC is checked before what it covers is decrypted, and
// what nothing protects from being altered is refused. Where the file is encrypted, a secret in clear is refused too: whoever can alter
// the file could have put his own there.
//
// A policy that could not be kept is refused, as RFC 6030 section 5 asks: a limited number of uses, a PIN that the gateway would have to
// check, elements that are not known. A PIN that the device itself checks is the device's matter; the packages that carry such a
// PIN are passed over.
//
// What is not: other algorithms (OCRA among them), keys encrypted to a certificate (section 6.3), XML signatures (section 7; they are
// neither needed nor checked), drafts before the RFC.
//
// The file may come from anybody. It is read as a stream: memory holds one KeyPackage of bounded size and the serial numbers seen. Any
// document type is refused, so there are no entities but XML's own five. Errors name line and serial, and never hold a value
// of the file that might be secret (P9).
//
// The package is pure: it reads what it is given. Read may be called concurrently.
package pskc
