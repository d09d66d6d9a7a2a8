// Package otp makes and checks one-time codes: HOTP (RFC 4226) and TOTP (RFC 6238) over HMAC-SHA-1, SHA-256 and
// SHA-512, with 6 or 8 digits and periods of 30 or 60 seconds.
//
// Checking returns the step that matched, which is what a caller must store to accept a code at most once (RFC 6238
// section 5.2, P2):
//
//	code, ok := otp.CleanCode(typed)
//	if !ok { refuse }
//	step, ok := otp.Match(seed, params, code, params.Around(now, 1))
//	if !ok || step <= lastStepUsed { refuse }
//	lastStepUsed = step
//
// The package is pure: it has no clock, no memory of codes and no I/O, except that NewSeed reads the system's
// randomness. All functions may be called concurrently.
package otp
