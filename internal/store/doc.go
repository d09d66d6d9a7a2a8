// Package store keeps what changes slowly: people, their passwords, tokens and SSH keys, in one SQLite file; and, in a
// second file, an index by which audit records are found.
//
// # Both follow the journal
//
// The journal decides. A change is durable once its record is, and only then is it applied here, in one transaction
// that also moves the mark "applied up to". A crash between the two leaves a mark that is too low, and the next start
// applies what is missing: [Store.Apply] of a change that is already in does nothing, and a change that would leave
// one out is refused ([ErrGap]). The [Index] follows in the same way, and may be lost at any time: it is rebuilt from
// the journal.
//
// # What is sealed, and to what it is bound
//
// Token seeds and password hashes are sealed by the caller's key ring before they reach the file. A password hash is
// bound to its person. A seed is bound to its token's id and to what decides how it counts: person, state and
// parameters. So somebody who can write to the file, but has no ring, can neither read a seed, nor give his own token
// to another person, nor make a revoked one active: the row no longer opens, and loading stops there and names it.
// What such a writer still can do is to put back an older row as a whole, and to add rows that are not sealed (people,
// keys); against him stand the permissions of the file, which are 0600.
//
// # SQL
//
// The queries are one set of texts in the subset that SQLite and PostgreSQL share: $1 placeholders, ON CONFLICT, whole
// numbers for times (microseconds since 1970, UTC; NULL for the zero time). Only the migrations are written for each
// engine.
//
// All methods of Store and Index may be called concurrently.
package store
