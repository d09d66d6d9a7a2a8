// Package alert finds, in the records, what a person has to look at, and keeps who did.
//
// An alert follows from records alone: Of tells what one record is a sign of, and a Book folds the signs into alerts, one for
// each kind, person and system that is not closed yet. Acknowledging and closing are records, too (EventAck, EventClose), and
// so the whole state is a function of the log: it is kept in the store together with how far the log was read, in one
// transaction, and a start goes on from there, loses none and counts none twice. Where the store is lost, reading the log from its
// first record makes it again.
//
// What outsiders can make grow is bounded: MaxOpenOfKind alerts of a kind are open at a time, the next ones are counted in
// one alert of the kind MoreAlerts; an alert names MaxRecords records, the first and the newest; MaxClosed closed ones are kept.
//
// A Notifier tells people, at least once for each alert and destination, by webhook and mail. An alert that goes on is told
// again when TellAgain has passed since the last time. What comes fast is gathered into one message.
package alert
