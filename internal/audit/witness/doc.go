// Package witness lets others vouch for an audit log: a client and a server of C2SP tlog-witness (c2sp.org/tlog-witness), and the
// publisher that takes a gateway's checkpoints to its witnesses.
//
// A witness remembers, for each log it knows, the size and root of the largest tree it has signed, and signs a larger one
// only with a proof that it begins with that tree (RFC 6962 section 2.1.2). Who cuts a log back or writes another history
// then has no witness's signature for it, and the witness itself shows up the old one. It sees sizes and roots, and
// nothing of the records.
//
// # The protocol
//
// One request, POST PREFIX/add-checkpoint, whose body is
//
//	old <size of the tree that the witness signed last, decimal; 0: none>
//	<hash of the consistency proof, base64>       none to 63 of these lines; none for old 0
//	<blank line>
//	<checkpoint: a signed note (c2sp.org/tlog-checkpoint)>
//
// and its answers
//
//	200  one or more lines "— <name> <base64>", to be added to the checkpoint
//	400  the request has another form, or is for fewer records than old
//	403  the checkpoint is not signed by a known key of its log
//	404  the log is not known
//	409  old is not what the witness signed last; the body is that size, as text/x.tlog.size. Also another root for the same size
//	422  the proof does not prove it
//	413, 429, 503  ours: too long, too often from this address, too much at once
//
// The signature is a cosignature/v1 (c2sp.org/tlog-cosignature): a note signature by Ed25519 with key algorithm 4, whose
// bytes after the key's hash are the time in seconds (64 bits, big-endian) and the signature of
//
//	cosignature/v1
//	time <seconds, decimal>
//	<the text of the checkpoint, to its last line feed>
//
// The newer ML-DSA-44 cosignatures are not made and, as the specification wants of unknown keys, ignored.
//
// # The witness's state
//
// One file for each log, named after the hexadecimal SHA-256 of its origin: the last signed checkpoint with the log's and
// the witness's signatures. It is replaced (written aside, fsync, rename, fsync of the folder) before the answer leaves, with
// the log's lock held from the comparison on. So of two requests that race one gets 409, and a crash at any moment leaves either the old
// state and no answer, or the new state, to which the client that asks again gets 409, and then the signature anew. A file that
// is not there, or not by the witness's own key, is not size 0 but an error: the witness does not start.
package witness
