// Package siem copies the records of an audit log to receivers of syslog, each record at least once.
//
// # The message
//
// A record is one message of RFC 5424, framed by its length in octets (RFC 6587 section 3.4.1, and RFC 5425 over TLS):
//
//	<86>1 2026-06-30T12:00:00.000Z gw1 sallyport - login [sallyport@32473 node="gw1" seq="12" ...] BODY
//
// The facility is a setting; the severity follows from the record (see Severity). HOSTNAME is the node, MSGID the event. The
// structured data hold what most searches ask for. The enterprise number 32473 is the one that RFC 5612 keeps for examples;
// whoever has one of his own sets it. BODY is the record's canonical JSON, or one event of CEF. No byte order mark stands
// before it: receivers that parse JSON stumble over it, and RFC 5424 section 6.4 leaves it out where the encoding is not declared.
//
// # At least once
//
// There is no spool: the log itself is one. For each receiver a cursor, the number of the first record that it may lack, is
// kept in the store. TCP tells a sender nothing of what the receiver's program has read. So the cursor moves over a record only
// when the receiver's kernel has acknowledged its bytes (SIOCOUTQ, tcp(7)), and the connection has then stayed well for settle. After a
// break, Overlap records before the cursor are sent again, too. What can still be lost is what a receiver that dies without
// warning, after acknowledging, had not read for longer than that and does not fit into the overlap.
//
// A receiver that wants each record once drops those whose node and seq it has. At most Window records are ahead of the cursor,
// so a break repeats at most Window plus Overlap of them. Records of one connection are in order.
//
// # What a sick receiver costs
//
// One buffer of 64 KiB. A write that takes longer than a deadline ends the connection; the next try waits, up
// to a minute. Logins never wait for a receiver.
package siem
