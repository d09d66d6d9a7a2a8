// Package seal keeps secrets at rest: token seeds in the database, vaulted credentials, and the State that a RADIUS
// challenge carries through the client. It uses AES-256-GCM with random nonces (NIST SP 800-38D section 8.2.2) under
// keys that HKDF-SHA-256 (RFC 5869) derives from a key ring, one for each purpose and id, so that nothing sealed for
// one row or use opens as another's.
//
// # The ring file
//
// A JSON object, readable by its owner alone (mode 0600), oldest key first:
//
//	{"version": 1, "keys": [{"id": 1, "created": "2026-01-02T03:04:05Z", "key": "<32 bytes, base64>", "check": "<8 bytes, hex>"}]}
//
// The newest key seals, and any of them opens. The check ties id, time and key together, so that a damaged ring is
// refused when it is loaded, before it seals what nobody could open later. Files are replaced as a whole: a crash
// leaves the old ring or the new one. A lost ring loses all that was sealed; it's kept apart from the database, and
// backed up apart from it.
//
// # The sealed form
//
//	version (1 byte, 1) | key id (4 bytes, big endian) | nonce (12) | ciphertext | tag (16)
//
// which is Overhead bytes more than the plaintext. Under one derived key no more than 2^32 values should be sealed (the
// same section's bound for random nonces). Seal derives one for each id and never comes near; a Box has one for each
// ring key, which a year of 136 challenges a second would use up, so the ring is to be rotated yearly.
//
// No secret of this package prints: rings and boxes show as their description under every fmt verb, and errors never hold
// key or plaintext bytes (P9). A Ring and its Boxes may be used concurrently.
package seal
