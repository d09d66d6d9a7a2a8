// Package login is the domain: it turns an Attempt into an Outcome, and nothing else in the gateway may.
//
// # The flow, and what a crash leaves at each step
//
//  1. Bytes to attempt. An adapter (radiusd, sshgw) drops what is not for us and makes an Attempt. A crash here
//     leaves nothing: the client asks again.
//  2. Decide. The Gate checks the first factor outside every lock, since that is slow, and then, under the person's
//     own lock, throttle, code and policy. Unknown people walk the same road. The verdict is a function of data, and
//     its zero value denies. Under that same lock the step of an accepted code and the counters move in memory, so
//     that a second attempt with the same code finds it used. A crash here leaves nothing: memory is gone, and the
//     code is still good, but nobody was let in with it.
//  3. Record. The decision and its effects are one record in one append to the log, submitted under the person's
//     lock so that the log's order is the order of the decisions. A crash before the append is durable is the crash
//     of step 2; after it, the code is burnt and the record says accept, although the client may never have heard:
//     a code too many is lost, and nobody is inside (P2, P3).
//  4. Outcome. Only the log's receipt makes an acceptance or a refusal. Without one the Outcome is unanswerable, and
//     the adapter sends nothing (P4).
//  5. Render. The adapter turns the Outcome into bytes in one place. Sentence is for the person, Reason for the log.
//
// What memory knows of used steps, counters and used challenges is what the records' effects say: Restore and Replay
// rebuild it at start with the code that also applies it while running.
package login
