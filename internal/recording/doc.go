// Package recording keeps what was seen and typed in a session: it writes recordings that the writer itself cannot read,
// reads them with an auditor's key, plays them without harm to the auditor's terminal, and searches the text as it was
// rendered.
//
// # The file
//
// One file for each session, DIR/YYYY/MM/DD/SESSION.rec, files 0600 and folders 0700. It begins with one plain line,
//
//	sallyport-recording 1 SESSION RECIPIENTS
//
// the version, the session's id and the number of recipients; then come frames, one for each chunk:
//
//	length (4 bytes, big endian) | an age file of that length
//
// and, once the session is over, four zero bytes. Each chunk is an age file (age-encryption.org/v1) of its own, to all
// recipients. Inside is one zstd frame (RFC 8878) of at most 1 MiB of text, so that any chunk can be opened with nothing
// but the standard tools:
//
//	tail -c +$((offset+1)) FILE | head -c $length | age -d -i auditor.key | zstd -d
//
// or, where a program writes so fast that compressing would hold it up (over 8 MB/s), a stream in Snappy's framing format
// (github.com/google/snappy, framing_format.txt), which begins with ff 06 00 00 73 4e 61 50 70 59, and which snzip -d opens.
//
// The texts of all chunks, one behind the other, are an asciicast of version 3: a line of header, then lines of events, each
// [seconds since the event before, code, text]. The codes are those of asciicast, o (output), i (input, only where it was
// asked for), r (COLSxROWS), m (mark), x (exit status), and two of our own, which say more of the event before them and
// which players pass over:
//
//	e  the output went to standard error
//	b  the bytes as they were, in base64, where they are not UTF-8 and the text holds U+FFFD; where most are not, as in an
//	   archive, U+FFFD is all that the text holds
//
// so that every byte stream comes back exactly, wherever it was cut. A chunk names itself in a line of comment, the first of
// its text, or in chunk 0 the one after the header:
//
//	# sallyport 1 SESSION CHUNK PREVIOUS
//
// PREVIOUS is the hex SHA-256 of the age file before, or "-". A chunk that was taken out, or put elsewhere, is noticed by
// whoever has the key.
//
// # What it proves
//
// Anybody who knows the recipients can make chunks. What makes a recording evidence is the audit log: it gets the number,
// place and SHA-256 of every chunk while the session still runs (ChunkDetails), and a sum over all at the end
// (SummaryDetails). Verify and Reader.Expect compare a file with these, and tell a cut tail, a changed chunk, and a session
// that is not over yet.
//
// # What a crash leaves
//
// Whole chunks up to FlushEvery before the crash, perhaps a torn frame, and no end.
package recording
