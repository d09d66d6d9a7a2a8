// Package tokencsv reads hardware tokens from tables (CSV, RFC 4180), as makers send them beside or instead of PSKC.
//
// There is no standard for these tables, so columns are found by their names, in any order, with any of a few names that are in
// use (see columns); those with other names are passed over. Serial number and secret must be there. Three kinds without
// names are known, too:
//
//	SERIAL,SECRET[,hotp|totp[,DIGITS[,PERIOD or COUNTER]]]
//	OATH-HOTP,TIME,SLOT,IDENTIFIER,,SECRET,...       the "traditional" log of the YubiKey Personalization Tool
//	SERIAL,,0,SECRET,,TIME,                          its "Yubico" log, of OATH-HOTP
//
// What a table does not say comes from Options; where nothing says whether a token counts or goes by the clock, that is a fault, and
// no guess. Secrets are hexadecimal or base32. Separators are the comma, semicolon, tab and bar; a byte order mark, UTF-16
// with one, CRLF, quotes, lines that begin with '#' and the ="..." by which spreadsheets keep leading zeros are understood.
//
// What makers write is known here from their public manuals and from what other servers read, not from agreements with them. A
// fault tells what was expected, and a first row can be tried with --dry-run.
//
// The file may come from anybody. It is read as a stream of rows of bounded size; errors name line and serial number, and never hold
// a cell that might be a secret (P9). The package is pure: it reads what it is given. Read may be called concurrently.
package tokencsv
