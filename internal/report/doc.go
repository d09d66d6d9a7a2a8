// Package report makes the papers that a board signs and an auditor reads: the statement, the registers, the sample, the health of the
// log. Data goes in, a document.Document comes out; nothing here opens a file or writes HTML.
//
// # What is counted
//
// An admission is a record that let somebody reach a system: an accepted "access" (SSH), or an accepted "login" at a system other than the
// gateway itself (RADIUS). The login to the gateway over SSH opens nothing, and is no admission; nor is the answer to a repeated request, whose reason is
// "repeated". An admission has two kinds of factor when factors of two different kinds are in its record with the result "ok", or
// "leaned" where it leans on a login that proved them. One with fewer has to name an exception of the register, and the report looks whether that
// entry, in the version that held at that moment, was in force and covered who, where and how.
//
// # What a report can know
//
// Numbers from the records, and entries of the exception register, are the same whenever they are asked for. People, tokens, rules and
// systems are known as they stand when the report is made: each section says which (document.Basis). Nothing is known of systems that are not behind
// this gateway: those that the operator names (Request.Plan) are shown as he named them.
package report
