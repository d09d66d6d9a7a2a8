// Package count is the one pass over the records from which reports are made.
//
// One pass serves all reports that are made together. It counts, and keeps no list that grows with the log beyond a named bound; it
// runs on several processors, each with a stretch of the log, and their counts are added. The sample needs no list either: a record is in it
// when SHA-256 of seed and number is among the smallest, so that anybody can draw the same from an export.
package count
