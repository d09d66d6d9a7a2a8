// Package audit is this node's log of who was let in and who was not, in a form that shows every later change of it. It
// keeps records, proves them and hands them out; it knows nothing of how a login is judged.
//
// What follows is all that somebody needs who wants to check an export with tools of his own.
//
// # The export
//
// A file of lines in UTF-8, each ended by one line feed, with no byte more or less than shown here. First one line for
// each record, in the order of their numbers, which count from 0 without gaps:
//
//	{"leaf":"<64 hex digits>","salt":"<32 hex digits>","record":<canonical JSON of the record>}
//
// or, where the record was erased because its time of keeping was over, its leaf and its number alone:
//
//	{"erased":"<64 hex digits>","seq":<number>}
//
// whose erasure a later record of the event "audit.erase" tells: its details "ranges", "ranges_1", ... name the numbers
// ("0-511 513"), "erased" how many they are, and "before" a time before which those records were made;
//
// then one last line with the checkpoint:
//
//	{"checkpoint":"<note, as a JSON string>"}
//
// Where witnesses have signed a checkpoint of the log, the newest such one has a line of its own, just after as many records
// as it signs (before the first one, if it signs none):
//
//	{"cosigned":"<note, as a JSON string>"}
//
// It is like the last line's, and has the witnesses' signatures below the log's (C2SP tlog-cosignature). Its root must be that of
// the records above it.
//
// Hex digits are lower-case. The leaf of a record is
//
//	leaf = SHA-256(salt || canonical JSON)      the salt's 16 bytes, then the bytes of the JSON as they stand in the line
//
// and must be the one that the line states, which is there only to tell which record is bad. The salt is random, so
// that nobody who has the leaf of an erased record can find the record by guessing. The leaves are the data of a Merkle
// tree as in RFC 6962 section 2.1:
//
//	tree({})   = SHA-256()
//	tree({d})  = SHA-256(0x00 || d)             d is a leaf's 32 bytes
//	tree(D)    = SHA-256(0x01 || tree(D[0:k]) || tree(D[k:n]))    k the largest power of two below n
//
// The checkpoint (C2SP tlog-checkpoint) is a signed note (C2SP signed-note, golang.org/x/mod/sumdb/note) of three lines
// and one Ed25519 signature, in base64 with padding and no stray bits:
//
//	<origin: the name of the signing key>
//	<number of records, decimal>
//	<root of the tree over all of them, base64>
//	<blank line>
//	— <name of the key> <base64 of the key's 4-byte hash and the signature>
//
// The file is right when each line has this form, record n has "seq" n, no token's step is consumed twice or after
// a later one (below), the root is the checkpoint's, and the signature is by the known key. The checkpoint proves what
// the log held when it was signed. Whoever holds the signing key, or kept an older file, can present a log that is
// shorter or altogether another; to find that, compare with a checkpoint that was handed out earlier, or that a
// witness has signed (package witness): the records must be at least as many, and the root of so many must be its.
//
// # The proof of one record
//
// A file of C2SP tlog-proof (c2sp.org/tlog-proof@v1), which shows one record without the others:
//
//	c2sp.org/tlog-proof@v1
//	extra <base64 of the record's line of an export, with its line feed>
//	index <number of the record>
//	<hash of the inclusion proof, base64>         from the leaf's sibling up to the root's child (RFC 6962 section 2.1.1)
//	<blank line>
//	<checkpoint, perhaps with witnesses' signatures below the log's>
//
// It is right when the line has the form above and its "seq" is the index, and the leaf that is computed from it (the
// entry whose RFC 6962 leaf hash is SHA-256(0x00 || leaf)) is in the checkpoint's tree at that index.
//
// # The record
//
// One JSON object without white space outside strings and with its fields in this order. All values are strings, save where said otherwise.
//
//	v            number 1: this form
//	seq          number of the record, from 0 in each node's log
//	node         name of the gateway
//	time         2006-01-02T15:04:05.000Z: RFC 3339 in UTC with three digits of the second
//	event        login, access, session.end, ...
//	result       accept, reject, challenge, error or info
//	reason       one word of a fixed vocabulary, "ok" for none
//	person       who it is at the gateway
//	person_kind  staff, supplier, service, break-glass
//	login        the name as it was given; a stranger's is blinded
//	protocol     radius, ssh, admin
//	source       where from
//	system       where to
//	class        the class of that system
//	account      the account there
//	factors      list of {"kind","method","token","result"}
//	rule         the rule that decided
//	exception    the entry of the exception register that it relied on
//	session      joins the start, the end and what is between
//	attempt      joins password, code and session
//	detail       object of further facts, its keys in the order of their bytes, each once
//	effects      list of {"set","id","value","until"}: what else became true with this record. Value is a number (64 bits,
//	             signed), until a time or "none"
//	change       lower-case hex SHA-256 of a private change that belongs to the record and is not exported, or "none"
//
// No string is blank: "unknown" stands where there is a value that is not known, "none" where there can be none. The
// effect "token.step" says that a token's time step or counter (value) is used up; it grows with each record for a token (id). The
// effect "recovery.used" says that the recovery code with that number (value) of a set (id) is used up, which happens once.
//
// Strings hold what strangers typed, so they are written to do no harm in terminals, tables and pagers. A double quote
// and a backslash have a backslash before them. Written as \u00XX (lower case) are, byte by byte of their UTF-8, the control
// characters U+0000 to U+001F and U+007F to U+009F and the treacherous ones (invisible or changing direction) listed
// below; and so is each byte that is not part of valid UTF-8. Everything else stands as it is, and nothing may be escaped that
// need not be. So the bytes of a value can be had back: \u00XX is always the byte XX. A general JSON reader will show
// the bytes 80 to ff as Latin-1 characters, as harmless.
//
//	U+00AD U+034F U+061C U+115F U+1160 U+17B4 U+17B5 U+180B-180F U+200B-200F U+2028-202E U+2060-206F U+3164
//	U+FE00-FE0F U+FEFF U+FFA0 U+FFF0-FFFB U+E0000-E0FFF
//
// A string whose written form would be longer than its bound (MaxField, ...) is cut between characters, and ends with
// "...[N bytes]", N being its whole length. More details than fit are replaced by one with the key "~cut".
//
// # The journal
//
// The live log is a journal (package journal) whose entry n has this payload, all of it covered by the journal's checksums:
//
//	1 | salt, 16 bytes | length of the JSON, uvarint | canonical JSON | private change, to the end (may be empty)
//	2 | leaf, 32 bytes                                                  an erased record
//
// Beside it stand the newest checkpoint and the last one that was synced to the disk (".synced"); both sign only what is
// durable. A checkpoint is replaced within 200 ms of a new record. It is written when the log is first opened, so
// that records without one are always a sign that somebody removed it. The newest one that a witness has signed (".cosigned") is
// compared with at each start and each verification, and may be missing. A snapshot is a uvarint length and a note by the same key,
//
//	sallyport snapshot
//	<number of records>
//	<root of the tree, base64>
//	<hex SHA-256 of the state>
//
// then the hashes of the complete subtrees that make up the tree, the largest first, then the state.
//
// # The hashes
//
// The journal says nothing of the tree's inner hashes, and the running log needs only those at its right edge. Proofs need
// the old ones: they stand in a file (".hashes"), the hash of each complete subtree in the order in which the subtrees
// become complete (tlog.StoredHashIndex of golang.org/x/mod), 32 bytes each, less than 64 bytes a record. So a proof reads
// a few dozen of them, whatever the size of the log, and none is kept in memory. Tiles (C2SP tlog-tiles) would take half the room, and have to be
// rewritten while they fill; nobody fetches them from a gateway.
//
// Whoever commits a batch keeps the hashes that it completes, at the cost of copying them; before a checkpoint is signed, the
// keeper appends them with one write, and without fsync. The file is no evidence. What it lacks, at a start or because a write failed,
// is made again from the journal, and so is all of it when its root is not the log's; each proof is checked against the signed root before it
// is handed out. While the file cannot be written, the log serves, and makes no proofs.
//
// # What it does not show
//
// The records of the last 200 ms before a kill, and those that somebody with the signing key or with write access to
// the stopped gateway adds. An older state of all the files together is as good as it was then. Against
// these, checkpoints must be kept where the gateway's administrators cannot write: witnesses do that by themselves.
package audit
