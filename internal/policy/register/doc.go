// Package register holds the exception register and the grants: what may be done although, or only because, somebody
// answers for it. Entries are data; whether one is in force, and what it covers, are functions of the entry, the request
// and the time. All may be used concurrently as long as nobody changes an entry in place.
//
// An exception is the only way round two kinds of factor. It is in force when it was approved by somebody else than who asked
// for it, has begun, has not expired or been ended, and its next review is not overdue. Each change of an entry is a
// new version of it, and no version is ever overwritten, so that the register of any day can be shown.
//
// A grant is access with a start, an end and a ticket, for rules that ask for one.
package register
