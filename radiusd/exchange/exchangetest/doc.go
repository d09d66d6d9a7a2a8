// Package exchangetest has RADIUS servers for tests: FreeRADIUS, as Debian packs it, and Fake, which does whatever its test
// wants of it. Nothing but tests imports it.
package exchangetest
